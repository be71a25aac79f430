use std::time::Duration;

use crate::{clock::Clock, error::InvalidConfig};

/// The settings of a [`TimeLimiter`](super::TimeLimiter). The setter of a field's name has its rules.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// What a call gets.
    pub timeout_duration: Duration,
    /// The clock of a new limiter.
    pub clock: Clock,
}

impl Config {
    /// Gives a call this long, more than zero. Default: 1 s.
    #[must_use]
    pub fn timeout_duration(mut self, duration: Duration) -> Self {
        self.timeout_duration = duration;
        self
    }

    /// Reads and sleeps on this clock. Default: [`Clock::default`].
    #[must_use]
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.clock = clock.into();
        self
    }

    /// Whether a limiter can have these settings.
    ///
    /// # Errors
    /// [`InvalidConfig`] for a time-out of zero.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        InvalidConfig::check(
            !self.timeout_duration.is_zero(),
            "timeout_duration",
            self.timeout_duration,
            "must be more than zero",
        )
    }
}

impl Default for Config {
    fn default() -> Self {
        Self { timeout_duration: Duration::from_secs(1), clock: Clock::default() }
    }
}
