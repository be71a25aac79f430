//! Every series there is: names, labels and what they mean.

use metrics::Unit;

/// What a series says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SeriesKind {
    /// It only grows: look at its rate.
    Counter,
    /// It shows what is now.
    Gauge,
    /// A gauge that only grows, for what is no whole number: look at its rate.
    Sum,
}

/// One name that is exported, and the keys of its labels; instance tags come as further labels.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Series {
    /// The name, with the default prefix.
    pub name: String,
    /// What it says.
    pub kind: SeriesKind,
    /// The keys of its labels.
    pub labels: Vec<&'static str>,
    /// What it means.
    pub help: &'static str,
}

/// A series, or the four of a timer.
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) unit: Unit,
    pub(super) labels: &'static [&'static str],
    pub(super) help: &'static str,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Counter,
    /// With what it shows once its instance is gone.
    Gauge(f64),
    Sum,
    Timer,
}

/// What a timer's name ends in, and what of it is exported so. As counters, not through the recorder's own histogram:
/// see the module.
pub(super) const TIMER: [(&str, Kind); 4] =
    [("_bucket", Kind::Counter), ("_count", Kind::Counter), ("_sum", Kind::Sum), ("_max", Kind::Gauge(0.0))];

/// A count or a state that is no more: none.
const NONE: Kind = Kind::Gauge(0.0);
/// A rate that is no more: none either, in Resilience4j's way.
const NO_RATE: Kind = Kind::Gauge(-1.0);
/// A limit that is no more: neither zero, which would be full, nor anything else.
const NO_LIMIT: Kind = Kind::Gauge(f64::NAN);

macro_rules! families {
    ($($family:ident: $kind:expr, $name:literal, $unit:ident, [$($label:literal),*], $help:literal;)*) => {
        $(pub(super) const $family: Family = Family {
            name: $name,
            kind: $kind,
            unit: Unit::$unit,
            labels: &[$($label),*],
            help: $help,
        };)*

        const ALL: &[Family] = &[$($family),*];
    };
}

families! {
    STATE: NONE, "circuitbreaker_state", Count, ["name", "state"],
        "1 for the state that the breaker is in, 0 for the others";
    BUFFERED_CALLS: NONE, "circuitbreaker_buffered_calls", Count, ["name", "kind"],
        "Calls in the sliding window, by whether they failed";
    SLOW_CALLS: NONE, "circuitbreaker_slow_calls", Count, ["name", "kind"],
        "Slow calls in the sliding window, by whether they failed";
    FAILURE_RATE: NO_RATE, "circuitbreaker_failure_rate", Percent, ["name"],
        "The share of failed calls in percent, -1 below the minimum number of calls";
    SLOW_CALL_RATE: NO_RATE, "circuitbreaker_slow_call_rate", Percent, ["name"],
        "The share of slow calls in percent, -1 below the minimum number of calls";
    CALLS: Kind::Timer, "circuitbreaker_calls_seconds", Seconds, ["name", "kind"],
        "Finished calls and how long they took, by how they ended";
    NOT_PERMITTED: Kind::Counter, "circuitbreaker_not_permitted_calls_total", Count, ["name", "kind"],
        "Calls that the breaker rejected, in every state";
    LATE_RESULTS: Kind::Counter, "circuitbreaker_late_results_total", Count, ["name"],
        "Results of calls admitted before the breaker last changed its state; they are counted nowhere else";
    CANCELLED_CALLS: Kind::Counter, "circuitbreaker_cancelled_calls_total", Count, ["name"],
        "Calls that the breaker admitted and that ended without a result";
    TRANSITIONS: Kind::Counter, "circuitbreaker_transitions_total", Count, ["name", "from", "to", "reason"],
        "Changes of the breaker's state";
    TIME_IN_STATE: Kind::Sum, "circuitbreaker_time_in_state_seconds", Seconds, ["name", "state"],
        "How long the breaker has been in each state, the present one included";

    RETRY_CALLS: Kind::Counter, "retry_calls_total", Count, ["name", "kind"],
        "Calls by how they ended and whether that took a retry";
    RETRY_ATTEMPTS: Kind::Counter, "retry_attempts_total", Count, ["name"],
        "Attempts that have ended, first ones included";
    RETRY_WAITS: Kind::Timer, "retry_wait_seconds", Seconds, ["name"],
        "Waits before another attempt";

    BULKHEAD_AVAILABLE: NO_LIMIT, "bulkhead_available_concurrent_calls", Count, ["name"],
        "How many more calls could enter";
    BULKHEAD_MAX: NO_LIMIT, "bulkhead_max_allowed_concurrent_calls", Count, ["name"],
        "How many calls may run at once";
    BULKHEAD_WAITING: NONE, "bulkhead_waiting_calls", Count, ["name"],
        "Calls that wait for a place";
    BULKHEAD_CALLS: Kind::Counter, "bulkhead_calls_total", Count, ["name", "kind"],
        "Calls that were permitted, rejected, or cancelled while they waited";
    BULKHEAD_WAITS: Kind::Timer, "bulkhead_wait_seconds", Seconds, ["name"],
        "How long those calls waited that had to, whatever came of it";

    POOL_QUEUE_DEPTH: NONE, "bulkhead_queue_depth", Count, ["name"],
        "Closures that wait for a thread";
    POOL_QUEUE_CAPACITY: NO_LIMIT, "bulkhead_queue_capacity", Count, ["name"],
        "How many closures may wait for a thread";
    POOL_SIZE: NONE, "bulkhead_thread_pool_size", Count, ["name"],
        "Threads there are";
    POOL_MAX: NO_LIMIT, "bulkhead_max_thread_pool_size", Count, ["name"],
        "How many threads there may be";
    POOL_CORE: NO_LIMIT, "bulkhead_core_thread_pool_size", Count, ["name"],
        "How many threads are kept";
    POOL_ACTIVE: NONE, "bulkhead_active_thread_count", Count, ["name"],
        "Threads that run a closure";
    POOL_AVAILABLE: NO_LIMIT, "bulkhead_available_thread_count", Count, ["name"],
        "How many more closures could run at once";
    POOL_CALLS: Kind::Counter, "thread_pool_bulkhead_calls_total", Count, ["name", "kind"],
        "Closures that were permitted, rejected, or cancelled while they waited";
    POOL_WAITS: Kind::Timer, "thread_pool_bulkhead_wait_seconds", Seconds, ["name"],
        "How long closures waited for a thread";

    LIMITER_AVAILABLE: NO_LIMIT, "ratelimiter_available_permissions", Count, ["name"],
        "Permits left, negative where reservations have taken more";
    LIMITER_WAITING: NONE, "ratelimiter_waiting_threads", Count, ["name"],
        "Calls that wait for their permits";
    LIMITER_CALLS: Kind::Counter, "ratelimiter_calls_total", Count, ["name", "kind"],
        "Calls that were permitted, rejected, or cancelled while they waited";
    LIMITER_WAITS: Kind::Timer, "ratelimiter_wait_seconds", Seconds, ["name"],
        "How long those calls waited that had to, whatever came of it";

    TIME_CALLS: Kind::Counter, "timelimiter_calls_total", Count, ["name", "kind"],
        "Calls by how they ended";
    DETACHED_CALLS: Kind::Counter, "timelimiter_detached_calls_total", Count, ["name"],
        "Calls that went on after they had been given up, and have ended";

    RELOADS: Kind::Counter, "reloads_total", Count, ["result"],
        "Changes of the settings, accepted or refused";
}

/// Every series that is exported, with the default prefix, in no particular order.
///
/// ```
/// assert!(resile::metrics::series().any(|series| series.name == "resilience4j_circuitbreaker_state"));
/// ```
pub fn series() -> impl Iterator<Item = Series> {
    ALL.iter().flat_map(|family| {
        let parts: Vec<_> = match family.kind {
            Kind::Timer => TIMER.into(),
            kind => vec![("", kind)],
        };
        parts.into_iter().map(|(suffix, kind)| {
            let mut labels = family.labels.to_vec();
            labels.extend((suffix == "_bucket").then_some("le"));
            let kind = match kind {
                Kind::Counter => SeriesKind::Counter,
                Kind::Sum => SeriesKind::Sum,
                Kind::Gauge(_) | Kind::Timer => SeriesKind::Gauge,
            };
            let name = format!("{}_{}{suffix}", super::DEFAULT_PREFIX, family.name);
            Series { name, kind, labels, help: family.help }
        })
    })
}

/// The keys of labels that are ours: a tag of the same key gives way.
pub(super) fn is_reserved(key: &str) -> bool {
    key == "le" || ALL.iter().any(|family| family.labels.contains(&key))
}
