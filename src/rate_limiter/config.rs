use std::time::Duration;

use super::state::{LONGEST_SPAN, Pace};
use crate::{
    clock::{Clock, nanos},
    error::InvalidConfig,
};

/// How permits come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Algorithm {
    /// All permits of a period come at its start, and what is left at its end is lost. Periods are counted from the
    /// limiter's construction. Around the border of two periods up to twice the limit can pass in a moment.
    #[default]
    #[doc(alias = "AtomicRateLimiter")]
    FixedCycle,
    /// Permits come one by one, evenly spread over the period, and up to a burst of them is kept. No stretch of time,
    /// wherever it begins, sees more than the burst and what came in it.
    #[doc(alias = "GCRA")]
    #[doc(alias = "token bucket")]
    Smooth,
}

/// The settings of a [`RateLimiter`](super::RateLimiter). The setter of a field's name has its rules.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// How permits come back.
    pub algorithm: Algorithm,
    /// Permits a period.
    pub limit_for_period: u32,
    /// The period.
    pub limit_refresh_period: Duration,
    /// The longest wait.
    pub timeout_duration: Duration,
    /// `None` where it follows the limit.
    pub burst: Option<u32>,
    /// The clock of a new limiter.
    pub clock: Clock,
}

impl Config {
    /// How permits come back. Default: [`Algorithm::FixedCycle`].
    #[must_use]
    pub fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// Gives this many permits a period, at least 1. Default: 50.
    ///
    /// [`Algorithm::Smooth`] gives one permit in each `limit_refresh_period / limit_for_period`, in whole nanoseconds
    /// and rounded up, so never more than the limit; it takes at most one permit a nanosecond.
    #[must_use]
    pub fn limit_for_period(mut self, permits: u32) -> Self {
        self.limit_for_period = permits;
        self
    }

    /// How long a period is, from 1 ns to 584 years. Default: 500 ns.
    #[must_use]
    pub fn limit_refresh_period(mut self, period: Duration) -> Self {
        self.limit_refresh_period = period;
        self
    }

    /// Lets a call wait this long for its permits; zero means that none waits. A call that would have to wait longer is
    /// rejected at once. [`Duration::MAX`] lets it wait as long as it takes. Default: 5 s.
    #[must_use]
    pub fn timeout_duration(mut self, duration: Duration) -> Self {
        self.timeout_duration = duration;
        self
    }

    /// Keeps up to this many unused permits, at least 1; only for [`Algorithm::Smooth`]. Default: as many as
    /// `limit_for_period`, also when that is changed later.
    #[must_use]
    pub fn burst(mut self, permits: u32) -> Self {
        self.burst = Some(permits);
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
    /// [`InvalidConfig`] for the first setting out of range or at odds with another.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        let Self { algorithm, limit_for_period, limit_refresh_period: period, burst, .. } = self;
        InvalidConfig::check(*limit_for_period >= 1, "limit_for_period", limit_for_period, "must be at least 1")?;
        InvalidConfig::check(!period.is_zero(), "limit_refresh_period", period, "must be at least 1 ns")?;
        let fits = u64::try_from(period.as_nanos()).is_ok();
        InvalidConfig::check(fits, "limit_refresh_period", period, "must be less than 2^64 ns (584 years)")?;
        let Some(permits) = *burst else { return self.validate_pace() };
        let smooth = *algorithm == Algorithm::Smooth;
        InvalidConfig::check(smooth, "burst", permits, "must be left out unless the algorithm is Smooth")?;
        InvalidConfig::check(permits >= 1, "burst", permits, "must be at least 1")?;
        self.validate_pace()
    }

    fn validate_pace(&self) -> Result<(), InvalidConfig> {
        let Self { limit_for_period: limit, limit_refresh_period: period, .. } = self;
        if self.algorithm == Algorithm::FixedCycle {
            return Ok(());
        }
        InvalidConfig::check(
            u64::from(*limit) <= self.period(),
            "limit_for_period",
            limit,
            format!("must be at most one for each nanosecond of limit_refresh_period = {period:?} when Smooth"),
        )?;
        let pace = self.pace();
        let fits = pace.span <= LONGEST_SPAN;
        match self.burst {
            _ if fits => Ok(()),
            Some(burst) => Err(InvalidConfig::new(
                "burst",
                burst,
                format!("must come back within 2^62 ns (146 years), and one permit takes {} ns", pace.interval),
            )),
            None => Err(InvalidConfig::new(
                "limit_refresh_period",
                period,
                "must be at most 2^62 ns (146 years) when Smooth, rounding included",
            )),
        }
    }

    pub(super) fn period(&self) -> u64 {
        nanos(self.limit_refresh_period)
    }

    /// The pace of [`Algorithm::Smooth`].
    pub(super) fn pace(&self) -> Pace {
        let interval = self.period().div_ceil(u64::from(self.limit_for_period));
        let burst = self.burst.unwrap_or(self.limit_for_period);
        Pace { interval, span: interval.saturating_mul(u64::from(burst)) }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::default(),
            limit_for_period: 50,
            limit_refresh_period: Duration::from_nanos(500),
            timeout_duration: Duration::from_secs(5),
            burst: None,
            clock: Clock::default(),
        }
    }
}
