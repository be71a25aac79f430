//! What is shown, as text.

use std::{fmt::Write, time::Duration};

use console::{Style, truncate_str};
use resile::circuit_breaker::State;

use crate::counters::Counts;

/// What is known at one moment.
#[derive(Debug)]
pub(super) struct Moment {
    pub(super) counts: Counts,
    /// Names and states, in order.
    pub(super) breakers: Vec<(String, State)>,
    /// Requests done a second.
    pub(super) rate: f64,
    pub(super) elapsed: Duration,
    /// How many there are to do.
    pub(super) total: Option<u64>,
    /// Whether nothing follows, and the rate is that of all the time.
    pub(super) is_last: bool,
}

impl Moment {
    /// How far and how fast.
    pub(super) fn head(&self) -> String {
        let (done, seconds) = (grouped(self.counts.done()), self.elapsed.as_secs());
        let far = match self.total {
            Some(total) => format!("{done} of {}", grouped(total)),
            None => format!("{done} done"),
        };
        format!("{far} · {}/s · {}:{:02}", grouped(self.rate.round() as u64), seconds / 60, seconds % 60)
    }

    /// The lines below the bar, each at most `width` wide.
    pub(super) fn panel(&self, width: usize, colour: bool) -> String {
        let label = self.label_width();
        let dim = Style::new().dim().force_styling(colour);
        let mut lines: Vec<_> = self
            .rows()
            .map(|(name, entries)| {
                let entries = entries.iter().map(|(name, count)| format!("{} {}", dim.apply_to(name), grouped(*count)));
                format!("   {}  {}", dim.apply_to(format!("{name:label$}")), entries.collect::<Vec<_>>().join("  "))
            })
            .into();
        for (index, (name, state)) in self.breakers.iter().enumerate() {
            if self.parent(index).is_some() {
                continue;
            }
            let shown = style(*state, colour).apply_to(format!("{} {:9}", sign(*state), state.as_str()));
            let mut line = format!("   {name:label$}  {shown}");
            for (child, (child_name, state)) in self.breakers.iter().enumerate() {
                if self.parent(child) == Some(index) {
                    let shown = style(*state, colour).apply_to(sign(*state));
                    _ = write!(line, "  {shown} {}", &child_name[name.len() + 1..]);
                }
            }
            lines.push(line);
        }
        let lines = lines.iter().map(|line| truncate_str(line.trim_end(), width.saturating_sub(1), "…"));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// When, for the beginning of a plain line.
    pub(super) fn stamp(&self) -> String {
        format!("{:>6.1} s", self.elapsed.as_secs_f64())
    }

    /// All of it in a line, without what is zero or CLOSED.
    pub(super) fn plain(&self) -> String {
        let mut line = match self.total {
            Some(total) => format!("{} of {total} done", self.counts.done()),
            None => format!("{} done", self.counts.done()),
        };
        let average = if self.is_last { " on average" } else { "" };
        _ = write!(line, ", {:.0}/s{average}", self.rate);
        for (row, entries) in self.rows() {
            let entries = entries.iter().filter(|(_, count)| *count > 0).map(|(name, count)| format!("{name} {count}"));
            let entries = entries.collect::<Vec<_>>().join(", ");
            if !entries.is_empty() {
                _ = write!(line, "; {row}: {entries}");
            }
        }
        let open = self.breakers.iter().filter(|(_, state)| *state != State::Closed);
        let open = open.map(|(name, state)| format!("{name} {state}")).collect::<Vec<_>>().join(", ");
        if !open.is_empty() {
            _ = write!(line, "; breakers: {open}");
        }
        line
    }

    fn rows(&self) -> [(&'static str, Vec<(&'static str, u64)>); 3] {
        let Counts { sent_primary, sent_secondary, sms_sent, .. } = self.counts;
        let Counts { retried_at_once, retried_later, given_up, unknown, .. } = self.counts;
        let Counts { dead_lettered, unreadable, in_flight, outbox_waiting, .. } = self.counts;
        [
            ("sent", vec![("primary", sent_primary), ("secondary", sent_secondary), ("SMS", sms_sent)]),
            (
                "failed",
                vec![
                    ("again", retried_at_once),
                    ("later", retried_later),
                    ("given up", given_up),
                    ("dead letters", dead_lettered + unreadable),
                    ("unknown", unknown),
                ],
            ),
            ("now", vec![("in flight", in_flight), ("outbox", outbox_waiting)]),
        ]
    }

    /// The breaker beside which this one is shown: that with the longest name that this one's begins with.
    fn parent(&self, child: usize) -> Option<usize> {
        let (child, _) = &self.breakers[child];
        let is_parent =
            |name: &str| child.strip_prefix(name).is_some_and(|rest| rest.len() > 1 && rest.starts_with('-'));
        let parents = self.breakers.iter().enumerate().filter(|(_, (name, _))| is_parent(name));
        parents.min_by_key(|(_, (name, _))| name.len()).map(|(index, _)| index)
    }

    fn label_width(&self) -> usize {
        let parents = (0..self.breakers.len()).filter(|index| self.parent(*index).is_none());
        parents.map(|index| self.breakers[index].0.chars().count()).max().unwrap_or(0).max("failed".len())
    }
}

/// Different signs, for those who see no colours.
fn sign(state: State) -> &'static str {
    match state {
        State::Closed | State::Disabled | State::MetricsOnly => "●",
        State::Open | State::ForcedOpen => "○",
        State::HalfOpen => "◐",
    }
}

fn style(state: State, colour: bool) -> Style {
    let style = match state {
        State::Closed => Style::new().green(),
        State::Open | State::ForcedOpen => Style::new().red().bold(),
        State::HalfOpen => Style::new().yellow(),
        State::Disabled | State::MetricsOnly => Style::new().cyan(),
    };
    style.force_styling(colour)
}

/// `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use console::measure_text_width;

    use super::*;

    fn moment() -> Moment {
        let breakers = [
            ("kafka-publisher", State::Closed),
            ("primary-smtp", State::Open),
            ("primary-smtp-marketing", State::Open),
            ("primary-smtp-transactional", State::HalfOpen),
        ];
        let counts = Counts { sent_primary: 1_200, sent_secondary: 30, retried_later: 4, ..Counts::default() };
        Moment {
            counts,
            breakers: breakers.map(|(name, state)| (name.to_owned(), state)).into(),
            rate: 812.4,
            elapsed: Duration::from_secs(67),
            total: Some(2_000),
            is_last: false,
        }
    }

    #[test]
    fn a_panel_shows_each_route_and_each_breaker_with_its_kinds_beside_it() {
        let expected = "   sent             primary 1,200  secondary 30  SMS 0
   failed           again 0  later 4  given up 0  dead letters 0  unknown 0
   now              in flight 0  outbox 0
   kafka-publisher  ● CLOSED
   primary-smtp     ○ OPEN       ○ marketing  ◐ transactional";
        assert_eq!(moment().panel(120, false), expected);
        assert_eq!(moment().head(), "1,230 of 2,000 · 812/s · 1:07");
    }

    #[test]
    fn states_are_coloured_only_if_colours_are_wanted() {
        assert!(moment().panel(120, true).contains("\x1b[31m"), "OPEN is red");
        assert!(!moment().panel(120, false).contains('\x1b'));
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for width in [2, 10, 40, 60, 200] {
            for line in moment().panel(width, true).lines() {
                assert!(measure_text_width(line) < width, "{width}: {line}");
            }
        }
    }

    #[test]
    fn a_plain_line_says_what_there_is_to_say() {
        let expected = "1230 of 2000 done, 812/s; sent: primary 1200, secondary 30; failed: later 4; \
                        breakers: primary-smtp OPEN, primary-smtp-marketing OPEN, primary-smtp-transactional HALF_OPEN";
        assert_eq!(moment().plain(), expected);
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let numbers = [0, 999, 1_000, 12_345, 1_234_567].map(grouped);
        assert_eq!(numbers, ["0", "999", "1,000", "12,345", "1,234,567"]);
    }
}
