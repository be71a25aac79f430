//! For how long a request is held while nobody may be asked to send it.

use std::time::Duration;

/// Counts the time in which all circuits were open, and not what else a request waits for.
#[derive(Debug, Default)]
pub(super) struct Hold {
    held_ms: i64,
    since_ms: Option<i64>,
}

impl Hold {
    /// Nobody may be asked now. Says whether that has been so for `limit`, in all.
    pub(super) fn goes_on(&mut self, now_ms: i64, limit: Duration) -> bool {
        if let Some(since_ms) = self.since_ms.replace(now_ms) {
            self.held_ms += now_ms.saturating_sub(since_ms).max(0);
        }
        u128::try_from(self.held_ms).is_ok_and(|held_ms| held_ms >= limit.as_millis())
    }

    /// Somebody may be asked.
    pub(super) fn ends(&mut self) {
        self.since_ms = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(100);

    #[test]
    fn what_is_held_for_the_limit_is_held_too_long() {
        let mut hold = Hold::default();
        assert!(!hold.goes_on(1_000, LIMIT));
        assert!(!hold.goes_on(1_099, LIMIT));
        assert!(hold.goes_on(1_100, LIMIT));
    }

    #[test]
    fn time_in_which_somebody_may_be_asked_does_not_count() {
        let mut hold = Hold::default();
        assert!(!hold.goes_on(1_000, LIMIT));
        assert!(!hold.goes_on(1_060, LIMIT));
        hold.ends();
        assert!(!hold.goes_on(9_000, LIMIT));
        assert!(!hold.goes_on(9_039, LIMIT));
        assert!(hold.goes_on(9_040, LIMIT));
    }

    #[test]
    fn a_clock_that_is_set_back_takes_nothing_away() {
        let mut hold = Hold::default();
        assert!(!hold.goes_on(1_000, LIMIT));
        assert!(!hold.goes_on(500, LIMIT));
        assert!(hold.goes_on(600, LIMIT));
    }
}
