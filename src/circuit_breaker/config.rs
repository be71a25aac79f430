use std::time::Duration;

use crate::{backoff::IntervalFunction, clock::Clock, error::InvalidConfig, event::State};

/// What the sliding window slides over. Complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SlidingWindowType {
    /// The last so many calls.
    CountBased,
    /// The calls that finished in the last so many seconds of the clock, the current one included.
    TimeBased,
}

/// The settings of a [`CircuitBreaker`](super::CircuitBreaker), with Resilience4j's names and defaults. The setter of a
/// field's name has its rules.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// In percent.
    pub failure_rate_threshold: f32,
    /// In percent.
    pub slow_call_rate_threshold: f32,
    /// `None` where no call is slow.
    pub slow_call_duration_threshold: Option<Duration>,
    /// Trial calls.
    pub permitted_number_of_calls_in_half_open_state: u32,
    /// Zero for no limit.
    pub max_wait_duration_in_half_open_state: Duration,
    /// Open or closed.
    pub transition_to_state_after_wait_duration: State,
    /// Zero for no limit.
    pub max_trial_call_duration: Duration,
    /// Calls or time.
    pub sliding_window_type: SlidingWindowType,
    /// Calls or seconds.
    pub sliding_window_size: u32,
    /// `None` where it follows the window.
    pub minimum_number_of_calls: Option<u32>,
    /// `None` where it follows `minimum_number_of_calls`.
    pub minimum_number_of_calls_in_half_open_state: Option<u32>,
    /// `None` for 60 s, or where the interval function says.
    pub wait_duration_in_open_state: Option<Duration>,
    /// `None` where the wait is always the same.
    pub wait_interval_function_in_open_state: Option<IntervalFunction>,
    /// Whether no call is needed.
    pub automatic_transition_from_open_to_half_open_enabled: bool,
    /// The state of a new breaker.
    pub initial_state: State,
    /// Whether they count as slow successes.
    pub record_cancelled_slow_calls: bool,
    /// The clock of a new breaker.
    pub clock: Clock,
}

impl Config {
    /// The largest count window: up to here a rate in `f32` is exact to the call.
    const MAX_CALLS: u32 = 1 << 24;
    /// The longest time window: a day.
    const MAX_SECONDS: u32 = 24 * 60 * 60;
    const DEFAULT_MINIMUM: u32 = 100;
    pub(super) const DEFAULT_WAIT: Duration = Duration::from_secs(60);

    /// Opens the circuit at this share of failed calls, in percent, `0 < rate <= 100`. Default: 50.
    #[doc(alias = "FailureRatio")]
    #[must_use]
    pub fn failure_rate_threshold(mut self, percent: f32) -> Self {
        self.failure_rate_threshold = percent;
        self
    }

    /// Opens the circuit at this share of slow calls, in percent, `0 < rate <= 100`. Default: 100.
    #[must_use]
    pub fn slow_call_rate_threshold(mut self, percent: f32) -> Self {
        self.slow_call_rate_threshold = percent;
        self
    }

    /// A call that takes longer than this, more than zero, is slow; one that takes just as long is not. `None` counts no
    /// call as slow and saves reading the clock. Default: 60 s.
    #[must_use]
    pub fn slow_call_duration_threshold(mut self, threshold: impl Into<Option<Duration>>) -> Self {
        self.slow_call_duration_threshold = threshold.into();
        self
    }

    /// How many trial calls a half-open circuit admits, at least 1. Default: 10.
    #[must_use]
    pub fn permitted_number_of_calls_in_half_open_state(mut self, calls: u32) -> Self {
        self.permitted_number_of_calls_in_half_open_state = calls;
        self
    }

    /// How many finished trial calls decide, at least 1 and at most as many as are permitted. Default:
    /// `minimum_number_of_calls` (100 if that is left alone), or all that are permitted if those are fewer.
    #[must_use]
    pub fn minimum_number_of_calls_in_half_open_state(mut self, calls: u32) -> Self {
        self.minimum_number_of_calls_in_half_open_state = Some(calls);
        self
    }

    /// Leaves the half-open state after this long, however few trial calls have finished; zero sets no limit. A limit
    /// opens the breakers of quiet services again and again. Default: zero.
    #[must_use]
    pub fn max_wait_duration_in_half_open_state(mut self, wait: Duration) -> Self {
        self.max_wait_duration_in_half_open_state = wait;
        self
    }

    /// Where `max_wait_duration_in_half_open_state` leads to: [`State::Open`] or [`State::Closed`]. Default: open.
    #[must_use]
    pub fn transition_to_state_after_wait_duration(mut self, state: State) -> Self {
        self.transition_to_state_after_wait_duration = state;
        self
    }

    /// A trial call that is under way for longer than this counts as failed, and its place is free again, so that a hung
    /// call cannot hold a circuit half-open; zero sets no limit. Default: 60 s.
    #[must_use]
    pub fn max_trial_call_duration(mut self, duration: Duration) -> Self {
        self.max_trial_call_duration = duration;
        self
    }

    /// What the window slides over. Default: [`SlidingWindowType::CountBased`].
    #[must_use]
    pub fn sliding_window_type(mut self, kind: SlidingWindowType) -> Self {
        self.sliding_window_type = kind;
        self
    }

    /// The window's size: calls, 1 to 16,777,216, or seconds, 1 to 86,400. Default: 100.
    #[doc(alias = "SamplingDuration")]
    #[must_use]
    pub fn sliding_window_size(mut self, size: u32) -> Self {
        self.sliding_window_size = size;
        self
    }

    /// No rate is taken over fewer finished calls than this, at least 1 and at most the size of a count window. Default:
    /// 100, or the size of a smaller count window.
    #[doc(alias = "MinimumThroughput")]
    #[must_use]
    pub fn minimum_number_of_calls(mut self, calls: u32) -> Self {
        self.minimum_number_of_calls = Some(calls);
        self
    }

    /// How long an open circuit rejects before it lets a trial call in, more than zero. Default: 60 s.
    #[doc(alias = "BreakDuration")]
    #[must_use]
    pub fn wait_duration_in_open_state(mut self, wait: Duration) -> Self {
        self.wait_duration_in_open_state = Some(wait);
        self
    }

    /// The same, growing with each time the circuit opens again without having been closed. Instead of
    /// `wait_duration_in_open_state`, not beside it. A custom function is called outside every lock; one that panics
    /// counts as 60 s.
    #[must_use]
    pub fn wait_interval_function_in_open_state(mut self, waits: IntervalFunction) -> Self {
        self.wait_interval_function_in_open_state = Some(waits);
        self
    }

    /// Whether an open circuit is half-open as soon as the wait is over, even if no call comes. Default: false: only a
    /// call ends the open state.
    #[must_use]
    pub fn automatic_transition_from_open_to_half_open_enabled(mut self, enabled: bool) -> Self {
        self.automatic_transition_from_open_to_half_open_enabled = enabled;
        self
    }

    /// The state a new breaker is in. Default: closed.
    #[must_use]
    pub fn initial_state(mut self, state: State) -> Self {
        self.initial_state = state;
        self
    }

    /// Counts a call that is cancelled after it has outlasted the slow-call threshold as a slow success. Callers that are
    /// less patient than that threshold otherwise hide an outage. Default: false: a cancelled call is not counted.
    #[must_use]
    pub fn record_cancelled_slow_calls(mut self, record: bool) -> Self {
        self.record_cancelled_slow_calls = record;
        self
    }

    /// Reads this clock. Default: [`Clock::default`].
    #[must_use]
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.clock = clock.into();
        self
    }

    pub(super) fn slides_over(&self) -> (SlidingWindowType, u32) {
        (self.sliding_window_type, self.sliding_window_size)
    }

    pub(super) fn thresholds(&self) -> [f32; 2] {
        [self.failure_rate_threshold, self.slow_call_rate_threshold]
    }

    pub(super) fn max_half_open(&self) -> Option<Duration> {
        Some(self.max_wait_duration_in_half_open_state).filter(|max| !max.is_zero())
    }

    pub(super) fn max_trial(&self) -> Option<Duration> {
        Some(self.max_trial_call_duration).filter(|max| !max.is_zero())
    }

    pub(super) fn expired_trial_is_slow(&self) -> bool {
        let max_and_slow = self.max_trial().zip(self.slow_call_duration_threshold);
        max_and_slow.is_some_and(|(max, slow)| max >= slow)
    }

    /// The minimum in force.
    pub(super) fn effective_minimum(&self) -> u32 {
        match (self.minimum_number_of_calls, self.sliding_window_type) {
            (Some(minimum), _) => minimum,
            (None, SlidingWindowType::CountBased) => Self::DEFAULT_MINIMUM.min(self.sliding_window_size),
            (None, SlidingWindowType::TimeBased) => Self::DEFAULT_MINIMUM,
        }
    }

    /// How many finished trial calls decide.
    pub(super) fn effective_half_open_minimum(&self) -> u32 {
        let followed = self.minimum_number_of_calls.unwrap_or(Self::DEFAULT_MINIMUM);
        let minimum = self.minimum_number_of_calls_in_half_open_state.unwrap_or(followed);
        minimum.min(self.permitted_number_of_calls_in_half_open_state)
    }

    /// The wait in force.
    pub(super) fn open_wait(&self) -> IntervalFunction {
        let fixed = || IntervalFunction::fixed(self.wait_duration_in_open_state.unwrap_or(Self::DEFAULT_WAIT));
        self.wait_interval_function_in_open_state.clone().unwrap_or_else(fixed)
    }

    /// Whether a breaker can have these settings.
    ///
    /// # Errors
    /// [`InvalidConfig`] for the first setting out of range or at odds with another.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        for (field, percent) in [
            ("failure_rate_threshold", self.failure_rate_threshold),
            ("slow_call_rate_threshold", self.slow_call_rate_threshold),
        ] {
            let holds = percent > 0.0 && percent <= 100.0;
            InvalidConfig::check(holds, field, percent, "must be more than 0 and at most 100 percent")?;
        }
        if let Some(threshold) = self.slow_call_duration_threshold {
            let rule = "must be more than zero, or None to count no call as slow";
            InvalidConfig::check(!threshold.is_zero(), "slow_call_duration_threshold", threshold, rule)?;
        }
        let permitted = self.permitted_number_of_calls_in_half_open_state;
        InvalidConfig::check(
            (1..=Self::MAX_CALLS).contains(&permitted),
            "permitted_number_of_calls_in_half_open_state",
            permitted,
            "must be 1 to 16777216 calls",
        )?;
        if let Some(minimum) = self.minimum_number_of_calls_in_half_open_state {
            InvalidConfig::check(
                (1..=permitted).contains(&minimum),
                "minimum_number_of_calls_in_half_open_state",
                minimum,
                format!("must be 1 to the permitted_number_of_calls_in_half_open_state of {permitted} calls"),
            )?;
        }
        InvalidConfig::check(
            matches!(self.transition_to_state_after_wait_duration, State::Open | State::Closed),
            "transition_to_state_after_wait_duration",
            self.transition_to_state_after_wait_duration,
            "must be Open or Closed",
        )?;
        let size = self.sliding_window_size;
        let (most, rule) = match self.sliding_window_type {
            SlidingWindowType::CountBased => (Self::MAX_CALLS, "must be 1 to 16777216 calls"),
            SlidingWindowType::TimeBased => (Self::MAX_SECONDS, "must be 1 to 86400 seconds"),
        };
        InvalidConfig::check((1..=most).contains(&size), "sliding_window_size", size, rule)?;
        if let Some(minimum) = self.minimum_number_of_calls {
            InvalidConfig::check(minimum >= 1, "minimum_number_of_calls", minimum, "must be at least 1")?;
            if self.sliding_window_type == SlidingWindowType::CountBased {
                let rule = format!("must be at most the sliding_window_size of {size} calls");
                InvalidConfig::check(minimum <= size, "minimum_number_of_calls", minimum, rule)?;
            }
        }
        if let Some(wait) = self.wait_duration_in_open_state {
            InvalidConfig::check(!wait.is_zero(), "wait_duration_in_open_state", wait, "must be more than zero")?;
        }
        if let Some(waits) = &self.wait_interval_function_in_open_state {
            waits.check("wait_interval_function_in_open_state")?;
            InvalidConfig::check(
                waits.calls_user_code() || !waits.interval(1).is_zero(),
                "wait_interval_function_in_open_state",
                waits,
                "must wait for more than zero",
            )?;
            InvalidConfig::check(
                self.wait_duration_in_open_state.is_none(),
                "wait_interval_function_in_open_state",
                waits,
                "must not be set together with wait_duration_in_open_state",
            )?;
        }
        Ok(())
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            failure_rate_threshold: 50.0,
            slow_call_rate_threshold: 100.0,
            slow_call_duration_threshold: Some(Duration::from_secs(60)),
            permitted_number_of_calls_in_half_open_state: 10,
            max_wait_duration_in_half_open_state: Duration::ZERO,
            transition_to_state_after_wait_duration: State::Open,
            max_trial_call_duration: Duration::from_secs(60),
            sliding_window_type: SlidingWindowType::CountBased,
            sliding_window_size: 100,
            minimum_number_of_calls: None,
            minimum_number_of_calls_in_half_open_state: None,
            wait_duration_in_open_state: None,
            wait_interval_function_in_open_state: None,
            automatic_transition_from_open_to_half_open_enabled: false,
            initial_state: State::Closed,
            record_cancelled_slow_calls: false,
            clock: Clock::default(),
        }
    }
}
