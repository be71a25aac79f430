//! Values out of text.

use std::{borrow::Cow, time::Duration};

use crate::{
    bulkhead::thread_pool::RejectionPolicy, circuit_breaker::SlidingWindowType, event::State, rate_limiter::Algorithm,
};

/// What a property's text must be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    /// More than 0, at most 100.
    Percent,
    /// From the first to the second, whole.
    Count(u32, u32),
    /// As `Count`, where -1 leaves the setting alone.
    CountOrUnset(u32, u32),
    /// At least this long.
    Wait(Duration),
    /// As `Wait`, or `none`.
    WaitOrNone(Duration),
    /// Finite and more than 0.
    Multiplier,
    /// At least 0 and less than 1.
    Factor,
    Flag,
    State(&'static [State]),
    Window,
    Algorithm,
    Rejection,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value {
    Percent(f32),
    Count(u32),
    Number(f64),
    Wait(Duration),
    Flag(bool),
    State(State),
    Window(SlidingWindowType),
    Algorithm(Algorithm),
    Rejection(RejectionPolicy),
    /// Written down as not set.
    None,
}

type Rule = Cow<'static, str>;

impl Shape {
    pub(super) fn parse(self, text: &str) -> Result<Value, Rule> {
        let text = text.trim();
        if text.is_empty() {
            return Err("must have a value".into());
        }
        match self {
            Self::Percent => {
                let percent = number(text).map(|percent| percent as f32).filter(|p| *p > 0.0 && *p <= 100.0);
                percent.map(Value::Percent).ok_or("must be more than 0 and at most 100 percent".into())
            }
            Self::CountOrUnset(..) if text == "-1" => Ok(Value::None),
            Self::Count(least, most) | Self::CountOrUnset(least, most) => {
                let count = text.parse().ok().filter(|count| (least..=most).contains(count));
                count.map(Value::Count).ok_or_else(|| format!("must be a whole number from {least} to {most}").into())
            }
            Self::WaitOrNone(_) if canonical(text) == "none" => Ok(Value::None),
            Self::Wait(least) | Self::WaitOrNone(least) => match duration(text)? {
                wait if wait < least => Err("must be more than zero".into()),
                wait => Ok(Value::Wait(wait)),
            },
            Self::Multiplier => {
                let number = number(text).filter(|number| number.is_finite() && *number > 0.0);
                number.map(Value::Number).ok_or("must be a number, finite and more than 0".into())
            }
            Self::Factor => {
                let number = number(text).filter(|number| (0.0..1.0).contains(number));
                number.map(Value::Number).ok_or("must be a number, at least 0 and less than 1".into())
            }
            Self::Flag => match text.to_ascii_lowercase().as_str() {
                "true" | "on" | "yes" | "1" => Ok(Value::Flag(true)),
                "false" | "off" | "no" | "0" => Ok(Value::Flag(false)),
                _ => Err("must be true or false".into()),
            },
            Self::State(states) => choice(text, states.iter().map(|state| (state.as_str(), Value::State(*state)))),
            Self::Window => choice(
                text,
                [
                    ("COUNT_BASED", Value::Window(SlidingWindowType::CountBased)),
                    ("TIME_BASED", Value::Window(SlidingWindowType::TimeBased)),
                ],
            ),
            Self::Algorithm => choice(
                text,
                [
                    ("FIXED_CYCLE", Value::Algorithm(Algorithm::FixedCycle)),
                    ("SMOOTH", Value::Algorithm(Algorithm::Smooth)),
                ],
            ),
            Self::Rejection => choice(
                text,
                [
                    ("ABORT", Value::Rejection(RejectionPolicy::Abort)),
                    ("CALLER_RUNS", Value::Rejection(RejectionPolicy::CallerRuns)),
                ],
            ),
        }
    }
}

/// The form in which names are compared: `failure-rate-threshold`, `failureRateThreshold` and `failure_rate_threshold`
/// are the same.
pub(super) fn canonical(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '-' | '_')).flat_map(char::to_lowercase).collect()
}

/// A number without the words that Rust takes for one, such as `inf`.
fn number(text: &str) -> Option<f64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'+' | b'e' | b'E'));
    text.parse().ok().filter(|_| digits)
}

fn choice(text: &str, choices: impl IntoIterator<Item = (&'static str, Value)>) -> Result<Value, Rule> {
    let mut names = Vec::new();
    for (name, value) in choices {
        if canonical(name) == canonical(text) {
            return Ok(value);
        }
        names.push(name);
    }
    Err(format!("must be {}", names.join(" or ")).into())
}

/// Spring's two forms, the simple one also with several units: `60s`, `1h30m`, `60000` (milliseconds), `PT1M`.
pub(super) fn duration(text: &str) -> Result<Duration, Rule> {
    let text = text.trim();
    if text.starts_with('-') && text.len() > 1 {
        return Err("must not be negative".into());
    }
    let plain = text.strip_prefix('+').unwrap_or(text);
    let nanos = match plain.strip_prefix(['p', 'P']) {
        Some(period) => iso(period),
        None => simple(plain),
    };
    let nanos = nanos.map_err(|unread| match unread {
        Unread::Malformed => {
            "must be a duration such as 500ms, 60s, 5m, 2h, 1d or PT1M, or a whole number of milliseconds"
        }
        Unread::TooLong => "must be shorter than 292 years",
    })?;
    Ok(Duration::from_nanos(nanos))
}

enum Unread {
    Malformed,
    TooLong,
}

const NANO: u64 = 1;
const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLI;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

fn simple(text: &str) -> Result<u64, Unread> {
    let mut rest = text;
    let mut total = Total::default();
    let mut coarser = u64::MAX;
    while !rest.is_empty() {
        let (count, after) = digits(rest)?;
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let unit = match after[..end].to_ascii_lowercase().as_str() {
            "" if rest.len() == text.len() => MILLI,
            "ns" => NANO,
            "us" => 1_000,
            "ms" => MILLI,
            "s" => SECOND,
            "m" => MINUTE,
            "h" => HOUR,
            "d" => DAY,
            _ => return Err(Unread::Malformed),
        };
        if unit >= coarser {
            return Err(Unread::Malformed);
        }
        coarser = unit;
        total.add(count, unit)?;
        rest = &after[end..];
    }
    total.sum()
}

/// ISO 8601 without its leading `P`, as far as Java reads it: days, and after a `T` hours, minutes and seconds.
fn iso(text: &str) -> Result<u64, Unread> {
    let text = text.to_ascii_uppercase();
    let (date, time) = match text.split_once('T') {
        Some((_, "")) => return Err(Unread::Malformed),
        Some((date, time)) => (date, time),
        None => (text.as_str(), ""),
    };
    let mut total = Total::default();
    if let Some(days) = date.strip_suffix('D') {
        total.add(whole(days)?, DAY)?;
    } else if !date.is_empty() {
        return Err(Unread::Malformed);
    }
    let mut rest = time;
    for (unit, length) in [('H', HOUR), ('M', MINUTE)] {
        if let Some((count, after)) = rest.split_once(unit) {
            total.add(whole(count)?, length)?;
            rest = after;
        }
    }
    if let Some(seconds) = rest.strip_suffix('S') {
        let (seconds, fraction) = seconds.split_once(['.', ',']).unwrap_or((seconds, ""));
        total.add(whole(seconds)?, SECOND)?;
        if fraction.len() > 9 {
            return Err(Unread::Malformed);
        }
        if !fraction.is_empty() {
            total.add(whole(&format!("{fraction:0<9}"))?, NANO)?;
        }
        rest = "";
    }
    if rest.is_empty() { total.sum() } else { Err(Unread::Malformed) }
}

#[derive(Default)]
struct Total {
    nanos: u64,
    parts: u32,
}

impl Total {
    fn add(&mut self, count: u64, unit: u64) -> Result<(), Unread> {
        let sum = count.checked_mul(unit).and_then(|nanos| self.nanos.checked_add(nanos));
        self.nanos = sum.filter(|nanos| i64::try_from(*nanos).is_ok()).ok_or(Unread::TooLong)?;
        self.parts += 1;
        Ok(())
    }

    fn sum(self) -> Result<u64, Unread> {
        if self.parts > 0 { Ok(self.nanos) } else { Err(Unread::Malformed) }
    }
}

fn whole(text: &str) -> Result<u64, Unread> {
    match digits(text)? {
        (count, "") => Ok(count),
        _ => Err(Unread::Malformed),
    }
}

/// The number that `text` begins with, and what follows it.
fn digits(text: &str) -> Result<(u64, &str), Unread> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    if end == 0 {
        return Err(Unread::Malformed);
    }
    Ok((text[..end].parse().map_err(|_| Unread::TooLong)?, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_read_in_every_form() {
        for (text, nanos) in [
            ("60s", 60 * SECOND),
            ("500ms", 500 * MILLI),
            ("60000", 60 * SECOND),
            ("0", 0),
            ("+5", 5 * MILLI),
            ("500ns", 500),
            ("7us", 7_000),
            ("5m", 5 * MINUTE),
            ("2H", 2 * HOUR),
            ("1d", DAY),
            ("1h30m", 90 * MINUTE),
            (" 1m1s1ms ", 61 * SECOND + MILLI),
            ("PT1M", MINUTE),
            ("pt0.5s", 500 * MILLI),
            ("PT1H1M1.000000001S", HOUR + 61 * SECOND + 1),
            ("P2D", 2 * DAY),
            ("P1DT1H", 25 * HOUR),
            ("106751d", 106_751 * DAY),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_with_a_rule() {
        for text in [
            "", "s", "1.5s", "60 s", "5x", "1s1m", "1s1", "60sec", "P", "PT", "PT5", "P1M", "PT1S1M", "PTS", "-",
            "PT1M1H", "P1DT",
        ] {
            assert!(duration(text).is_err_and(|rule| rule.starts_with("must be a duration such as")), "{text}");
        }
        for text in ["-1", "-5s", "-PT1S"] {
            assert_eq!(duration(text), Err("must not be negative".into()), "{text}");
        }
        for text in ["106752d", "99999999999999999999", "PT99999999999H", "18446744073709551615d"] {
            assert_eq!(duration(text), Err("must be shorter than 292 years".into()), "{text}");
        }
    }

    #[test]
    fn a_value_outside_its_shape_is_refused() {
        let refused = |shape: Shape, text: &str| shape.parse(text).expect_err(text).into_owned();
        for text in ["0", "-1", "100.1", "nan", "inf", "50%", "x"] {
            assert!(refused(Shape::Percent, text).contains("percent"));
        }
        for text in ["0", "-1", "6", "1.0", "1e0", "4294967296"] {
            assert_eq!(refused(Shape::Count(1, 5), text), "must be a whole number from 1 to 5");
        }
        assert_eq!(Shape::CountOrUnset(0, 5).parse("-1"), Ok(Value::None));
        assert_eq!(Shape::WaitOrNone(Duration::ZERO).parse("none"), Ok(Value::None));
        assert_eq!(refused(Shape::Wait(Duration::from_nanos(1)), "0"), "must be more than zero");
        assert_eq!(refused(Shape::Factor, "1"), "must be a number, at least 0 and less than 1");
        assert_eq!(refused(Shape::Multiplier, "infinity"), "must be a number, finite and more than 0");
        assert_eq!(refused(Shape::Flag, "maybe"), "must be true or false");
        assert_eq!(refused(Shape::Window, "COUNT"), "must be COUNT_BASED or TIME_BASED");
        assert_eq!(refused(Shape::Flag, " "), "must have a value");
        assert_eq!(Shape::Window.parse("time-based"), Ok(Value::Window(SlidingWindowType::TimeBased)));
    }
}
