//! What each kind of instance has to tell.

use super::{families::*, published::Observer};
use crate::{
    Bulkhead, CircuitBreaker, RateLimiter, Retry, ThreadPoolBulkhead, TimeLimiter, event::State, meter::AdmissionMeter,
};

/// Tells the recorder of an instance.
pub(super) trait Observe {
    /// Always in the same order; what comes to it later, at the end.
    fn observe(&self, out: &mut Observer<'_>);
}

const STATES: [(State, &str); 6] = [
    (State::Closed, "closed"),
    (State::Open, "open"),
    (State::HalfOpen, "half_open"),
    (State::Disabled, "disabled"),
    (State::ForcedOpen, "forced_open"),
    (State::MetricsOnly, "metrics_only"),
];

fn label(state: State) -> &'static str {
    STATES[state as usize].1
}

impl Observe for CircuitBreaker {
    fn observe(&self, out: &mut Observer<'_>) {
        let (metrics, meter) = (self.metrics(), &self.bound().meter);
        let (not_permitted, history) = self.history();
        let rate = |rate: Option<f32>| f64::from(rate.unwrap_or(-1.0));
        for (state, label) in STATES {
            out.tell(&STATE, &[("state", label)], f64::from(u8::from(state == metrics.state)));
        }
        out.tell(&BUFFERED_CALLS, &[("kind", "failed")], metrics.failed_calls.into());
        out.tell(&BUFFERED_CALLS, &[("kind", "successful")], metrics.successful_calls().into());
        out.tell(&SLOW_CALLS, &[("kind", "failed")], metrics.slow_failed_calls.into());
        out.tell(&SLOW_CALLS, &[("kind", "successful")], metrics.slow_successful_calls().into());
        out.tell(&FAILURE_RATE, &[], rate(metrics.failure_rate));
        out.tell(&SLOW_CALL_RATE, &[], rate(metrics.slow_call_rate));
        out.time(&CALLS, &[("kind", "successful")], &meter.successful);
        out.time(&CALLS, &[("kind", "failed")], &meter.failed);
        out.time(&CALLS, &[("kind", "ignored")], &meter.ignored);
        out.count(&NOT_PERMITTED, &[("kind", "not_permitted")], not_permitted);
        out.count(&LATE_RESULTS, &[], metrics.late_results);
        out.count(&CANCELLED_CALLS, &[], meter.cancelled.total());
        for (state, label) in STATES {
            out.tell(&TIME_IN_STATE, &[("state", label)], history.time_in(state).as_secs_f64());
        }
        for made in history.transitions() {
            let labels = [("from", label(made.from)), ("to", label(made.to)), ("reason", made.reason.as_str())];
            out.count(&TRANSITIONS, &labels, made.count);
        }
    }
}

impl Observe for Retry {
    fn observe(&self, out: &mut Observer<'_>) {
        let (metrics, meter) = (self.metrics(), &self.bound().meter);
        let calls = [
            ("successful_without_retry", metrics.successful_calls_without_retry_attempt),
            ("successful_with_retry", metrics.successful_calls_with_retry_attempt),
            ("failed_without_retry", metrics.failed_calls_without_retry_attempt),
            ("failed_with_retry", metrics.failed_calls_with_retry_attempt),
        ];
        for (kind, total) in calls {
            out.count(&RETRY_CALLS, &[("kind", kind)], total);
        }
        out.count(&RETRY_ATTEMPTS, &[], metrics.total_calls.saturating_sub(meter.exhausted_results.total()));
        out.time(&RETRY_WAITS, &[], &meter.waits);
    }
}

impl Observe for Bulkhead {
    fn observe(&self, out: &mut Observer<'_>) {
        let metrics = self.metrics();
        out.tell(&BULKHEAD_AVAILABLE, &[], metrics.available_concurrent_calls.into());
        out.tell(&BULKHEAD_MAX, &[], metrics.max_allowed_concurrent_calls.into());
        out.tell(&BULKHEAD_WAITING, &[], metrics.waiting_calls.into());
        admissions(out, &BULKHEAD_CALLS, &BULKHEAD_WAITS, &self.bound().meter);
    }
}

impl Observe for ThreadPoolBulkhead {
    fn observe(&self, out: &mut Observer<'_>) {
        let metrics = self.metrics();
        out.tell(&POOL_QUEUE_DEPTH, &[], metrics.queue_depth.into());
        out.tell(&POOL_QUEUE_CAPACITY, &[], metrics.queue_capacity.into());
        out.tell(&POOL_SIZE, &[], metrics.thread_pool_size.into());
        out.tell(&POOL_MAX, &[], metrics.max_thread_pool_size.into());
        out.tell(&POOL_CORE, &[], metrics.core_thread_pool_size.into());
        out.tell(&POOL_ACTIVE, &[], metrics.active_thread_count.into());
        out.tell(&POOL_AVAILABLE, &[], metrics.available_thread_count.into());
        admissions(out, &POOL_CALLS, &POOL_WAITS, &self.bound().meter);
    }
}

impl Observe for RateLimiter {
    fn observe(&self, out: &mut Observer<'_>) {
        let metrics = self.metrics();
        out.tell(&LIMITER_AVAILABLE, &[], metrics.available_permissions as f64);
        out.tell(&LIMITER_WAITING, &[], metrics.waiting_calls as f64);
        admissions(out, &LIMITER_CALLS, &LIMITER_WAITS, &self.bound().meter);
    }
}

impl Observe for TimeLimiter {
    fn observe(&self, out: &mut Observer<'_>) {
        let meter = &self.bound().meter;
        out.count(&TIME_CALLS, &[("kind", "successful")], meter.successful.total());
        out.count(&TIME_CALLS, &[("kind", "failed")], meter.failed.total());
        out.count(&TIME_CALLS, &[("kind", "timeout")], meter.timed_out.total());
        out.count(&DETACHED_CALLS, &[], meter.detached.total());
    }
}

fn admissions(out: &mut Observer<'_>, calls: &Family, waits: &Family, meter: &AdmissionMeter) {
    out.count(calls, &[("kind", "permitted")], meter.permitted.total());
    out.count(calls, &[("kind", "rejected")], meter.rejected.total());
    out.count(calls, &[("kind", "cancelled")], meter.cancelled.total());
    out.time(waits, &[], &meter.waits);
}
