//! The time of day, which a row in a database can hold and a test can set.
//!
//! Policies of `resile` read a monotonic clock, as they should: it never steps. But a claim, a lease and a retry that
//! waits outlive the process and are read by others, so they are written down in milliseconds since 1970.
#![allow(clippy::disallowed_types)] // the one place that reads the system's time of day

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime},
};

/// Tells the time of day. A clone is the same clock.
///
/// Processes that share a database should agree on it to well within the lease of a claim.
#[derive(Clone, Debug)]
pub struct WallClock(Source);

impl WallClock {
    /// The system's.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// One that stands still until it is [advanced](Self::advance).
    #[must_use]
    pub fn manual(now_ms: i64) -> Self {
        Self(Source::Manual(Arc::new(AtomicI64::new(now_ms))))
    }

    /// Milliseconds since 1970, UTC.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        match &self.0 {
            // A system clock set to before 1970 counts as 1970.
            Source::System => SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, millis),
            Source::Manual(now_ms) => now_ms.load(Ordering::SeqCst),
        }
    }

    /// The moment `ahead` of now, in milliseconds since 1970.
    #[must_use]
    pub fn in_ms(&self, ahead: Duration) -> i64 {
        self.now_ms().saturating_add(millis(ahead))
    }

    /// Moves a manual clock. Does nothing to the system's.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(now_ms) = &self.0 {
            now_ms.fetch_add(millis(by), Ordering::SeqCst);
        }
    }
}

#[derive(Clone, Debug)]
enum Source {
    System,
    Manual(Arc<AtomicI64>),
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_told_and_its_clones_with_it() {
        let clock = WallClock::manual(1_000);
        let same = clock.clone();
        clock.advance(Duration::from_millis(500));
        assert_eq!((clock.now_ms(), same.now_ms()), (1_500, 1_500));
        assert_eq!(clock.in_ms(Duration::from_secs(1)), 2_500);
    }

    #[test]
    fn the_system_clock_is_past_2020() {
        assert!(WallClock::system().now_ms() > 1_577_836_800_000);
    }
}
