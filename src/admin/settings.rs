//! The settings in force, in words for people, by Resilience4j's names.

use std::{fmt::Debug, time::Duration};

use crate::{
    Bulkhead, CircuitBreaker, RateLimiter, Retry, ThreadPoolBulkhead, TimeLimiter,
    bulkhead::thread_pool::RejectionPolicy, circuit_breaker::SlidingWindowType, rate_limiter::Algorithm,
};

/// A setting's name and value.
pub(super) type Setting = (&'static str, String);

fn percent(rate: f32) -> String {
    format!("{rate} %")
}

fn time(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// Where zero sets no limit.
fn limit(duration: Duration) -> String {
    if duration.is_zero() { "no limit".into() } else { time(duration) }
}

fn or<T>(value: Option<T>, none: &str, text: impl Fn(T) -> String) -> String {
    value.map_or_else(|| none.into(), text)
}

fn yes(on: bool) -> String {
    if on { "yes".into() } else { "no".into() }
}

fn debug(value: &impl Debug) -> String {
    let mut text = format!("{value:?}");
    if text.chars().count() > 120 {
        text = text.chars().take(119).chain(['…']).collect();
    }
    text
}

/// The first four are those of the page's summary.
pub(super) fn of_breaker(breaker: &CircuitBreaker) -> Vec<Setting> {
    let config = breaker.config();
    let (kind, unit) = match config.sliding_window_type {
        SlidingWindowType::CountBased => ("count based", "calls"),
        SlidingWindowType::TimeBased => ("time based", "s"),
    };
    let wait = match &config.wait_interval_function_in_open_state {
        Some(function) => debug(function),
        None => time(config.wait_duration_in_open_state.unwrap_or(Duration::from_secs(60))),
    };
    let calls = |calls: u32| format!("{calls} calls");
    vec![
        ("failureRateThreshold", percent(config.failure_rate_threshold)),
        ("slowCallRateThreshold", percent(config.slow_call_rate_threshold)),
        ("slowCallDurationThreshold", or(config.slow_call_duration_threshold, "no call is slow", time)),
        ("slidingWindowSize", format!("{} {unit}", config.sliding_window_size)),
        ("slidingWindowType", kind.into()),
        ("minimumNumberOfCalls", or(config.minimum_number_of_calls, "follows the window", calls)),
        ("waitDurationInOpenState", wait),
        ("permittedNumberOfCallsInHalfOpenState", calls(config.permitted_number_of_calls_in_half_open_state)),
        (
            "minimumNumberOfCallsInHalfOpenState",
            or(config.minimum_number_of_calls_in_half_open_state, "follows the minimum", calls),
        ),
        ("maxWaitDurationInHalfOpenState", limit(config.max_wait_duration_in_half_open_state)),
        ("transitionToStateAfterWaitDuration", config.transition_to_state_after_wait_duration.to_string()),
        ("maxTrialCallDuration", limit(config.max_trial_call_duration)),
        (
            "automaticTransitionFromOpenToHalfOpenEnabled",
            yes(config.automatic_transition_from_open_to_half_open_enabled),
        ),
        ("initialState", config.initial_state.to_string()),
        ("recordCancelledSlowCalls", yes(config.record_cancelled_slow_calls)),
    ]
}

pub(super) fn of_retry(retry: &Retry) -> Vec<Setting> {
    let config = retry.config();
    vec![
        ("maxAttempts", config.max_attempts.to_string()),
        ("maxDuration", or(config.max_duration, "no limit", time)),
        ("maxRetryAfter", time(config.max_retry_after)),
        ("failAfterMaxAttempts", yes(config.fail_after_max_attempts)),
    ]
}

pub(super) fn of_bulkhead(bulkhead: &Bulkhead) -> Vec<Setting> {
    let config = bulkhead.config();
    vec![
        ("maxConcurrentCalls", config.max_concurrent_calls.to_string()),
        ("maxWaitDuration", time(config.max_wait_duration)),
        ("maxWaitingCalls", or(config.max_waiting_calls, "no limit", |calls| calls.to_string())),
    ]
}

pub(super) fn of_pool(pool: &ThreadPoolBulkhead) -> Vec<Setting> {
    let (config, metrics) = (pool.config(), pool.metrics());
    let policy = match config.rejection_policy {
        RejectionPolicy::Abort => "abort",
        RejectionPolicy::CallerRuns => "caller runs",
    };
    vec![
        ("maxThreadPoolSize", metrics.max_thread_pool_size.to_string()),
        ("coreThreadPoolSize", metrics.core_thread_pool_size.to_string()),
        ("queueCapacity", config.queue_capacity.to_string()),
        ("keepAliveDuration", time(config.keep_alive_duration)),
        ("rejectionPolicy", policy.into()),
    ]
}

pub(super) fn of_rate_limiter(limiter: &RateLimiter) -> Vec<Setting> {
    let config = limiter.config();
    let algorithm = match config.algorithm {
        Algorithm::FixedCycle => "fixed cycle",
        Algorithm::Smooth => "smooth",
    };
    vec![
        ("limitForPeriod", config.limit_for_period.to_string()),
        ("limitRefreshPeriod", time(config.limit_refresh_period)),
        ("timeoutDuration", time(config.timeout_duration)),
        ("algorithm", algorithm.into()),
        ("burst", or(config.burst, "as the limit", |burst| burst.to_string())),
    ]
}

pub(super) fn of_time_limiter(limiter: &TimeLimiter) -> Vec<Setting> {
    vec![("timeoutDuration", time(limiter.config().timeout_duration))]
}
