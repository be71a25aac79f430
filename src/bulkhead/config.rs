use std::time::Duration;

use super::shared::MOST_CALLS;
use crate::{clock::Clock, error::InvalidConfig};

/// The settings of a [`Bulkhead`](super::Bulkhead). The setter of a field's name has its rules.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// Calls at once.
    pub max_concurrent_calls: u32,
    /// Zero where none waits.
    pub max_wait_duration: Duration,
    /// `None` for any number.
    pub max_waiting_calls: Option<u32>,
    /// The clock of a new bulkhead.
    pub clock: Clock,
}

impl Config {
    /// Lets this many calls run at once, `1 <= calls <= 2147483647`. Default: 25.
    #[must_use]
    pub fn max_concurrent_calls(mut self, calls: u32) -> Self {
        self.max_concurrent_calls = calls;
        self
    }

    /// Lets a call wait this long for a place; zero rejects it at once. Default: zero.
    #[must_use]
    pub fn max_wait_duration(mut self, duration: Duration) -> Self {
        self.max_wait_duration = duration;
        self
    }

    /// Lets this many calls wait for a place; one more is rejected at once. Default: `None`, any number.
    #[doc(alias = "queueLimit")]
    #[must_use]
    pub fn max_waiting_calls(mut self, calls: impl Into<Option<u32>>) -> Self {
        self.max_waiting_calls = calls.into();
        self
    }

    /// Reads and sleeps on this clock. Default: [`Clock::default`].
    #[must_use]
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.clock = clock.into();
        self
    }

    /// Whether a bulkhead can have these settings.
    ///
    /// # Errors
    /// [`InvalidConfig`] for a setting outside its limits.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        InvalidConfig::check(
            (1..=MOST_CALLS).contains(&self.max_concurrent_calls),
            "max_concurrent_calls",
            self.max_concurrent_calls,
            "must be 1 to 2147483647",
        )
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_concurrent_calls: 25,
            max_wait_duration: Duration::ZERO,
            max_waiting_calls: None,
            clock: Clock::default(),
        }
    }
}
