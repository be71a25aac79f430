//! From values to the configs of the policies.

use std::time::Duration;

use super::{error::Report, resolve::Values, value::Value};
use crate::{
    backoff::IntervalFunction,
    bulkhead::{self, thread_pool},
    circuit_breaker::{self, SlidingWindowType},
    error::InvalidConfig,
    rate_limiter, retry, time_limiter,
};

/// A config that a file can describe.
pub(super) trait Described: Clone + Default {
    fn build(values: &Values<'_>, report: &mut Report) -> Self;
    fn check(&self) -> Result<(), InvalidConfig>;
}

/// Resilience4j's, for what is switched on and not given.
const MULTIPLIER: f64 = 1.5;
const FACTOR: f64 = 0.5;

/// The config with a setting, if there is one.
fn with<C, T>(config: C, value: Option<T>, set: impl FnOnce(C, T) -> C) -> C {
    match value {
        Some(value) => set(config, value),
        None => config,
    }
}

impl Described for circuit_breaker::Config {
    fn build(values: &Values<'_>, report: &mut Report) -> Self {
        let config = Self::default();
        let config = with(config, values.percent("failure-rate-threshold"), Self::failure_rate_threshold);
        let config = with(config, values.percent("slow-call-rate-threshold"), Self::slow_call_rate_threshold);
        let config = with(config, values.wait_or_none("slow-call-duration-threshold"), |config, threshold| {
            config.slow_call_duration_threshold(threshold)
        });
        let config = with(
            config,
            values.count("permitted-number-of-calls-in-half-open-state"),
            Self::permitted_number_of_calls_in_half_open_state,
        );
        let config = with(
            config,
            values.count("minimum-number-of-calls-in-half-open-state"),
            Self::minimum_number_of_calls_in_half_open_state,
        );
        let config = with(
            config,
            values.wait("max-wait-duration-in-half-open-state"),
            Self::max_wait_duration_in_half_open_state,
        );
        let config = with(
            config,
            values.choice("transition-to-state-after-wait-duration", state),
            Self::transition_to_state_after_wait_duration,
        );
        let config = with(config, values.wait("max-trial-call-duration"), Self::max_trial_call_duration);
        let config = with(
            config,
            values.flag("automatic-transition-from-open-to-half-open-enabled"),
            Self::automatic_transition_from_open_to_half_open_enabled,
        );
        let config = with(config, values.choice("initial-state", state), Self::initial_state);
        let config = with(config, values.flag("record-cancelled-slow-calls"), Self::record_cancelled_slow_calls);
        open_wait(window(config, values, report), values, report)
    }

    fn check(&self) -> Result<(), InvalidConfig> {
        self.validate()
    }
}

fn state(value: Value) -> Option<circuit_breaker::State> {
    match value {
        Value::State(state) => Some(state),
        _ => None,
    }
}

fn window(config: circuit_breaker::Config, values: &Values<'_>, report: &mut Report) -> circuit_breaker::Config {
    type Config = circuit_breaker::Config;
    let kind = values.choice("sliding-window-type", |value| match value {
        Value::Window(kind) => Some(kind),
        _ => None,
    });
    let size = values.count("sliding-window-size");
    let config = with(config, kind, Config::sliding_window_type);
    let config = with(config, size, Config::sliding_window_size);
    let Some(minimum) = values.count("minimum-number-of-calls") else { return config };
    let size = size.unwrap_or(100);
    if kind == Some(SlidingWindowType::TimeBased) || minimum <= size {
        return config.minimum_number_of_calls(minimum);
    }
    if let Some(entry) = values.entry("minimum-number-of-calls") {
        let reason = format!("is more than the count window of {size} calls holds, and is taken as {size}");
        report.warn(&entry.place, &entry.text, reason);
    }
    // As in Resilience4j the number as it was written goes on to hold for the half-open state.
    let config = config.minimum_number_of_calls(size);
    if values.count("minimum-number-of-calls-in-half-open-state").is_some() {
        return config;
    }
    let permitted = values.count("permitted-number-of-calls-in-half-open-state");
    config.minimum_number_of_calls_in_half_open_state(minimum.min(permitted.unwrap_or(10)))
}

fn open_wait(config: circuit_breaker::Config, values: &Values<'_>, report: &mut Report) -> circuit_breaker::Config {
    let wait = values.wait("wait-duration-in-open-state");
    let exponential = values.flag("enable-exponential-backoff").unwrap_or_default();
    let randomized = values.flag("enable-randomized-wait").unwrap_or_default();
    if exponential && randomized {
        if let Some(entry) = values.entry("enable-randomized-wait") {
            let rule = "must not be true where enable-exponential-backoff is: Resilience4j has no such wait for a circuit \
                        breaker. Code can have it: wait_interval_function_in_open_state takes any function";
            report.error(entry.place.error(&entry.text, rule));
        }
        return config;
    }
    if !exponential && !randomized {
        return with(config, wait, circuit_breaker::Config::wait_duration_in_open_state);
    }
    let longest = values.wait("exponential-max-wait-duration-in-open-state");
    let waits = intervals(values, wait.unwrap_or(Duration::from_secs(60)), exponential, randomized, longest);
    config.wait_interval_function_in_open_state(waits)
}

fn intervals(
    values: &Values<'_>,
    first: Duration,
    exponential: bool,
    randomized: bool,
    longest: Option<Duration>,
) -> IntervalFunction {
    let waits = if exponential {
        let multiplier = values.number("exponential-backoff-multiplier").unwrap_or(MULTIPLIER);
        with(IntervalFunction::exponential(first, multiplier), longest, IntervalFunction::max)
    } else {
        IntervalFunction::fixed(first)
    };
    let factor = randomized.then(|| values.number("randomized-wait-factor").unwrap_or(FACTOR));
    with(waits, factor, IntervalFunction::randomized)
}

impl Described for retry::Config {
    fn build(values: &Values<'_>, _: &mut Report) -> Self {
        let config = Self::default();
        let config = with(config, values.count("max-attempts"), Self::max_attempts);
        let config = with(config, values.flag("fail-after-max-attempts"), Self::fail_after_max_attempts);
        let config = with(config, values.wait_or_none("max-duration"), |config, most| config.max_duration(most));
        let config = with(config, values.wait("max-retry-after"), Self::max_retry_after);
        let wait = values.wait("wait-duration");
        let exponential = values.flag("enable-exponential-backoff").unwrap_or_default();
        let randomized = values.flag("enable-randomized-wait").unwrap_or_default();
        if !exponential && !randomized {
            return with(config, wait, Self::wait_duration);
        }
        let first = wait.unwrap_or(Duration::from_millis(500));
        let longest = values.wait("exponential-max-wait-duration");
        config.interval_function(intervals(values, first, exponential, randomized, longest))
    }

    fn check(&self) -> Result<(), InvalidConfig> {
        self.validate()
    }
}

impl Described for rate_limiter::Config {
    fn build(values: &Values<'_>, _: &mut Report) -> Self {
        let algorithm = values.choice("algorithm", |value| match value {
            Value::Algorithm(algorithm) => Some(algorithm),
            _ => None,
        });
        let config = with(Self::default(), algorithm, Self::algorithm);
        let config = with(config, values.count("limit-for-period"), Self::limit_for_period);
        let config = with(config, values.wait("limit-refresh-period"), Self::limit_refresh_period);
        let config = with(config, values.wait("timeout-duration"), Self::timeout_duration);
        with(config, values.count("burst"), Self::burst)
    }

    fn check(&self) -> Result<(), InvalidConfig> {
        self.validate()
    }
}

impl Described for bulkhead::Config {
    fn build(values: &Values<'_>, _: &mut Report) -> Self {
        let config = with(Self::default(), values.count("max-concurrent-calls"), Self::max_concurrent_calls);
        let config = with(config, values.wait("max-wait-duration"), Self::max_wait_duration);
        with(config, values.count("max-waiting-calls"), |config, calls| config.max_waiting_calls(calls))
    }

    fn check(&self) -> Result<(), InvalidConfig> {
        self.validate()
    }
}

impl Described for thread_pool::Config {
    fn build(values: &Values<'_>, _: &mut Report) -> Self {
        let policy = values.choice("rejection-policy", |value| match value {
            Value::Rejection(policy) => Some(policy),
            _ => None,
        });
        let config = with(Self::default(), values.count("max-thread-pool-size"), Self::max_thread_pool_size);
        let config = with(config, values.count("core-thread-pool-size"), Self::core_thread_pool_size);
        let config = with(config, values.count("queue-capacity"), Self::queue_capacity);
        let config = with(config, values.wait("keep-alive-duration"), Self::keep_alive_duration);
        with(config, policy, Self::rejection_policy)
    }

    fn check(&self) -> Result<(), InvalidConfig> {
        self.validate()
    }
}

impl Described for time_limiter::Config {
    fn build(values: &Values<'_>, _: &mut Report) -> Self {
        with(Self::default(), values.wait("timeout-duration"), Self::timeout_duration)
    }

    fn check(&self) -> Result<(), InvalidConfig> {
        self.validate()
    }
}

/// Whether an instance may make the service unhealthy: no setting of the instance's own.
impl Described for bool {
    fn build(values: &Values<'_>, _: &mut Report) -> Self {
        values.flag("allow-health-indicator-to-fail").unwrap_or_default()
    }

    fn check(&self) -> Result<(), InvalidConfig> {
        Ok(())
    }
}
