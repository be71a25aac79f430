use std::time::Duration;

use crate::{backoff::IntervalFunction, clock::Clock, error::InvalidConfig};

/// The settings of a [`Retry`](super::Retry). The setter of a field's name has its rules.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// The first included.
    pub max_attempts: u32,
    /// `None` for 500 ms, or where the interval function says.
    pub wait_duration: Option<Duration>,
    /// `None` where the wait is always the same.
    pub interval_function: Option<IntervalFunction>,
    /// For all attempts together; `None` for no limit.
    pub max_duration: Option<Duration>,
    /// The longest wait that a server may name.
    pub max_retry_after: Duration,
    /// Whether an `Ok` may become a rejection.
    pub fail_after_max_attempts: bool,
    /// The clock of a new retry.
    pub clock: Clock,
}

impl Config {
    /// Makes at most this many attempts, the first included, at least 1. Default: 3.
    #[doc(alias = "max_retries")]
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// Waits this long before each further attempt; zero for no wait. Not together with
    /// [`interval_function`](Self::interval_function). Default: 500 ms.
    #[must_use]
    pub fn wait_duration(mut self, duration: Duration) -> Self {
        self.wait_duration = Some(duration);
        self
    }

    /// Waits for as long as this function says. Not together with [`wait_duration`](Self::wait_duration). Runs of a
    /// function with a seed differ from each other, and are the same for each new `Retry`.
    #[must_use]
    pub fn interval_function(mut self, function: IntervalFunction) -> Self {
        self.interval_function = Some(function);
        self
    }

    /// Begins no wait that would end later than this after the first attempt began, more than zero, or `None` for no
    /// limit. The last result is returned at once instead. An attempt under way is not interrupted: that is a
    /// [`TimeLimiter`](crate::TimeLimiter)'s work. Default: `None`.
    #[doc(alias = "max_elapsed_time")]
    #[doc(alias = "total_delay")]
    #[must_use]
    pub fn max_duration(mut self, duration: impl Into<Option<Duration>>) -> Self {
        self.max_duration = duration.into();
        self
    }

    /// Waits at most this long where the server named the wait, as [`Decision::RetryAfter`](super::Decision) does, more
    /// than zero. Default: 60 s.
    #[must_use]
    pub fn max_retry_after(mut self, duration: Duration) -> Self {
        self.max_retry_after = duration;
        self
    }

    /// Whether an `Ok` that is still to be retried after the last attempt becomes
    /// [`Rejected::RetriesExhausted`](crate::Rejected) instead of being returned. Errors are always returned as they
    /// are. Default: false.
    #[must_use]
    pub fn fail_after_max_attempts(mut self, fail: bool) -> Self {
        self.fail_after_max_attempts = fail;
        self
    }

    /// Reads and sleeps on this clock. Default: [`Clock::default`].
    #[must_use]
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.clock = clock.into();
        self
    }

    pub(super) fn interval(&self) -> IntervalFunction {
        self.interval_function.clone().unwrap_or_else(|| {
            let wait = self.wait_duration.unwrap_or(Duration::from_millis(500));
            IntervalFunction::fixed(wait)
        })
    }

    /// Whether a retry can have these settings.
    ///
    /// # Errors
    /// [`InvalidConfig`] for the first setting out of range or at odds with another.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        InvalidConfig::check(self.max_attempts >= 1, "max_attempts", self.max_attempts, "must be at least 1")?;
        if let (Some(wait), Some(_)) = (self.wait_duration, &self.interval_function) {
            return Err(InvalidConfig::new("wait_duration", wait, "must not be set together with interval_function"));
        }
        self.interval().check("interval_function")?;
        let zero = |duration: Duration| duration.is_zero();
        InvalidConfig::check(
            !self.max_duration.is_some_and(zero),
            "max_duration",
            self.max_duration,
            "must be more than zero, or none",
        )?;
        InvalidConfig::check(
            !zero(self.max_retry_after),
            "max_retry_after",
            self.max_retry_after,
            "must be more than zero",
        )
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            wait_duration: None,
            interval_function: None,
            max_duration: None,
            max_retry_after: Duration::from_secs(60),
            fail_after_max_attempts: false,
            clock: Clock::default(),
        }
    }
}
