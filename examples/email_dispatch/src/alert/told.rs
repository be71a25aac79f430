//! Keeps an alert quiet for a while after it was told. Plain arithmetic.

use std::{collections::HashMap, time::Duration};

/// How many different alerts are remembered.
const MOST_KEYS: usize = 1_000;

/// What was told when, of a bounded number of alerts.
#[derive(Debug, Default)]
pub(super) struct Told(HashMap<String, Last>);

#[derive(Debug)]
struct Last {
    at_ms: i64,
    suppressed: u64,
}

impl Told {
    /// Whether it is to go out, and then how often it was suppressed before.
    pub(super) fn admit(&mut self, key: &str, now_ms: i64, quiet: Duration) -> Option<u64> {
        // Either way: a clock that is set back must not make it quiet for longer.
        let is_quiet = |at_ms: i64| u128::from(now_ms.abs_diff(at_ms)) < quiet.as_millis();
        if let Some(last) = self.0.get_mut(key) {
            if is_quiet(last.at_ms) {
                last.suppressed += 1;
                return None;
            }
            last.at_ms = now_ms;
            return Some(std::mem::take(&mut last.suppressed));
        }
        if self.0.len() >= MOST_KEYS {
            self.0.retain(|_, last| is_quiet(last.at_ms));
        }
        if self.0.len() >= MOST_KEYS
            && let Some(oldest) = self.0.iter().min_by_key(|(_, last)| last.at_ms).map(|(key, _)| key.clone())
        {
            self.0.remove(&oldest);
        }
        self.0.insert(key.to_owned(), Last { at_ms: now_ms, suppressed: 0 });
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Duration = Duration::from_secs(600);

    #[test]
    fn the_memory_of_what_was_told_is_bounded_and_forgets_the_oldest() {
        let mut told = Told::default();
        for number in 0..5_000 {
            assert_eq!(told.admit(&number.to_string(), number, QUIET), Some(0));
        }
        assert_eq!(told.0.len(), MOST_KEYS);
        assert_eq!(told.admit("4999", 5_000, QUIET), None);
        assert_eq!(told.admit("0", 5_000, QUIET), Some(0), "it is not remembered");
    }

    #[test]
    fn a_clock_set_back_does_not_keep_an_alert_quiet() {
        let mut told = Told::default();
        assert_eq!(told.admit("a", 10_000_000, QUIET), Some(0));
        assert_eq!(told.admit("a", 9_999_000, QUIET), None);
        assert_eq!(told.admit("a", 1_000, QUIET), Some(1));
    }
}
