//! Every key there is, and what it stands for.

use std::time::Duration;

use super::value::{Shape, canonical};
use crate::event::{PolicyKind, State};

/// A key of an instance or a named config.
#[derive(Debug)]
pub(super) struct Property {
    /// As Resilience4j writes it in YAML.
    pub(super) name: &'static str,
    pub(super) meaning: Meaning,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Meaning {
    Setting(Shape),
    /// The named config beneath.
    BaseConfig,
    Tags,
    /// Is read and has no effect, for this reason.
    JavaOnly(&'static str),
    /// Cannot be done by a file; this is what to do.
    Refused(&'static str),
    /// As `Refused`, where it is false; true is how it is.
    AlwaysTrue(&'static str),
}

/// A kind of policy: its section, and the keys of its instances.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) policy: PolicyKind,
    pub(super) section: &'static str,
    pub(super) properties: &'static [Property],
}

pub(super) const KINDS: [Kind; 6] = [
    Kind { policy: PolicyKind::CircuitBreaker, section: "circuitbreaker", properties: CIRCUIT_BREAKER },
    Kind { policy: PolicyKind::Retry, section: "retry", properties: RETRY },
    Kind { policy: PolicyKind::RateLimiter, section: "ratelimiter", properties: RATE_LIMITER },
    Kind { policy: PolicyKind::Bulkhead, section: "bulkhead", properties: BULKHEAD },
    Kind { policy: PolicyKind::ThreadPoolBulkhead, section: "thread-pool-bulkhead", properties: THREAD_POOL_BULKHEAD },
    Kind { policy: PolicyKind::TimeLimiter, section: "timelimiter", properties: TIME_LIMITER },
];

/// What a section holds beside its instances: the names for `instances` that earlier versions had, and keys without use.
pub(super) const INSTANCES: [&str; 3] = ["instances", "backends", "limiters"];
pub(super) const CONFIGS: &str = "configs";
pub(super) const TAGS: &str = "tags";
pub(super) const SECTION_ONLY: &[Property] = &[
    refused("circuit-breaker-aspect-order", ORDER),
    refused("retry-aspect-order", ORDER),
    refused("rate-limiter-aspect-order", ORDER),
    refused("bulkhead-aspect-order", ORDER),
    refused("time-limiter-aspect-order", ORDER),
    java_only("metrics", "metrics are had by the feature `metrics` of the crate, not by a file"),
];
/// What stands beside the sections in Resilience4j, and has no use here.
pub(super) const ELSEWHERE: &[Property] = &[
    java_only("micrometer", "timers of Micrometer are not policies, and there are none here"),
    java_only("scheduled", "waits need no executor"),
    java_only("thread", "there are no virtual threads to choose"),
];

const ORDER: &str = "must be left out: the order of policies is the order in the type of the pipeline, outermost first";
const CLASSIFY: &str = "must be left out: a file cannot name Rust's errors. Say what counts as a failure, a success or \
                        neither with `breaker.classify(|result| ..)`";
const RETRY_IF: &str = "must be left out: a file cannot name Rust's errors and results. Say what is to be repeated with \
                        `retry.retry_if(|result| ..)`";
const NO_TRACE: &str = "a rejection carries no stack trace";
const EVENTS: &str = "no event is kept unless it is asked for: by `event_log(size)`, or by the admin router, which has one \
                      size for all";
const HEALTH: &str = "what the health shows is said where it is asked for, not by a file";

const SOME: Duration = Duration::from_nanos(1);
const STATES: &[State] =
    &[State::Closed, State::Open, State::HalfOpen, State::Disabled, State::ForcedOpen, State::MetricsOnly];
const MAX_CALLS: u32 = 1 << 24;

const CIRCUIT_BREAKER: &[Property] = &[
    setting("failure-rate-threshold", Shape::Percent),
    setting("slow-call-rate-threshold", Shape::Percent),
    setting("slow-call-duration-threshold", Shape::WaitOrNone(SOME)),
    setting("permitted-number-of-calls-in-half-open-state", Shape::Count(1, MAX_CALLS)),
    setting("minimum-number-of-calls-in-half-open-state", Shape::Count(1, MAX_CALLS)),
    setting("max-wait-duration-in-half-open-state", Shape::Wait(Duration::ZERO)),
    setting("transition-to-state-after-wait-duration", Shape::State(&[State::Open, State::Closed])),
    setting("max-trial-call-duration", Shape::Wait(Duration::ZERO)),
    setting("sliding-window-type", Shape::Window),
    setting("sliding-window-size", Shape::Count(1, MAX_CALLS)),
    setting("minimum-number-of-calls", Shape::Count(1, u32::MAX)),
    setting("wait-duration-in-open-state", Shape::Wait(SOME)),
    setting("enable-exponential-backoff", Shape::Flag),
    setting("exponential-backoff-multiplier", Shape::Multiplier),
    setting("exponential-max-wait-duration-in-open-state", Shape::Wait(SOME)),
    setting("enable-randomized-wait", Shape::Flag),
    setting("randomized-wait-factor", Shape::Factor),
    setting("automatic-transition-from-open-to-half-open-enabled", Shape::Flag),
    setting("initial-state", Shape::State(STATES)),
    setting("record-cancelled-slow-calls", Shape::Flag),
    refused("record-exceptions", CLASSIFY),
    refused("ignore-exceptions", CLASSIFY),
    refused("record-failure-predicate", CLASSIFY),
    refused("record-result-predicate", CLASSIFY),
    refused("ignore-exception-predicate", CLASSIFY),
    java_only("ignore-class-binding-exceptions", "there are no classes to bind"),
    java_only("sliding-window-synchronization-strategy", "there is one implementation, and nothing to choose"),
    java_only("writable-stack-trace-enabled", NO_TRACE),
    java_only("event-consumer-buffer-size", EVENTS),
    java_only("subscribe-for-events", EVENTS),
    java_only("register-health-indicator", HEALTH),
    setting("allow-health-indicator-to-fail", Shape::Flag),
    BASE_CONFIG,
    TAGS_OF_IT,
];

const RETRY: &[Property] = &[
    setting("max-attempts", Shape::Count(1, u32::MAX)),
    setting("wait-duration", Shape::Wait(Duration::ZERO)),
    setting("enable-exponential-backoff", Shape::Flag),
    setting("exponential-backoff-multiplier", Shape::Multiplier),
    setting("exponential-max-wait-duration", Shape::Wait(SOME)),
    setting("enable-randomized-wait", Shape::Flag),
    setting("randomized-wait-factor", Shape::Factor),
    setting("fail-after-max-attempts", Shape::Flag),
    setting("max-duration", Shape::WaitOrNone(SOME)),
    setting("max-retry-after", Shape::Wait(SOME)),
    refused("retry-exceptions", RETRY_IF),
    refused("ignore-exceptions", RETRY_IF),
    refused("retry-exception-predicate", RETRY_IF),
    refused("result-predicate", RETRY_IF),
    refused("consume-result-before-retry-attempt", "must be left out: do it in `retry.retry_if(|result| ..)`"),
    refused(
        "interval-bi-function",
        "must be left out: return `Decision::RetryAfter(wait)` from `retry.retry_if(|result| ..)`",
    ),
    java_only("ignore-class-binding-exceptions", "there are no classes to bind"),
    java_only("writable-stack-trace-enabled", NO_TRACE),
    java_only("event-consumer-buffer-size", EVENTS),
    java_only("subscribe-for-events", EVENTS),
    BASE_CONFIG,
    TAGS_OF_IT,
];

const RATE_LIMITER: &[Property] = &[
    setting("limit-for-period", Shape::Count(1, u32::MAX)),
    setting("limit-refresh-period", Shape::Wait(SOME)),
    setting("timeout-duration", Shape::Wait(Duration::ZERO)),
    setting("algorithm", Shape::Algorithm),
    setting("burst", Shape::Count(1, u32::MAX)),
    java_only("writable-stack-trace-enabled", NO_TRACE),
    java_only("event-consumer-buffer-size", EVENTS),
    java_only("subscribe-for-events", EVENTS),
    java_only("register-health-indicator", HEALTH),
    setting("allow-health-indicator-to-fail", Shape::Flag),
    BASE_CONFIG,
    TAGS_OF_IT,
];

const BULKHEAD: &[Property] = &[
    setting("max-concurrent-calls", Shape::Count(1, i32::MAX as u32)),
    setting("max-wait-duration", Shape::Wait(Duration::ZERO)),
    setting("max-waiting-calls", Shape::Count(0, u32::MAX)),
    java_only("fair-call-handling-strategy-enabled", "calls are always served first come, first served"),
    java_only("writable-stack-trace-enabled", NO_TRACE),
    java_only("event-consumer-buffer-size", EVENTS),
    java_only("subscribe-for-events", EVENTS),
    BASE_CONFIG,
    TAGS_OF_IT,
];

const THREAD_POOL_BULKHEAD: &[Property] = &[
    setting("max-thread-pool-size", Shape::Count(1, u32::MAX)),
    setting("core-thread-pool-size", Shape::Count(1, u32::MAX)),
    setting("queue-capacity", Shape::CountOrUnset(0, u32::MAX)),
    setting("keep-alive-duration", Shape::Wait(Duration::ZERO)),
    setting("rejection-policy", Shape::Rejection),
    java_only("context-propagators", "a closure takes along what it captures"),
    java_only("writable-stack-trace-enabled", NO_TRACE),
    java_only("event-consumer-buffer-size", EVENTS),
    java_only("subscribe-for-events", EVENTS),
    BASE_CONFIG,
    TAGS_OF_IT,
];

const TIME_LIMITER: &[Property] = &[
    setting("timeout-duration", Shape::Wait(SOME)),
    Property {
        name: "cancel-running-future",
        meaning: Meaning::AlwaysTrue(
            "must be true or left out: a call that is to go on after its time needs an owned pipeline with \
             `time_limiter.detached()`, which only code can build",
        ),
    },
    java_only("writable-stack-trace-enabled", NO_TRACE),
    java_only("event-consumer-buffer-size", EVENTS),
    java_only("subscribe-for-events", EVENTS),
    BASE_CONFIG,
    TAGS_OF_IT,
];

const BASE_CONFIG: Property = Property { name: "base-config", meaning: Meaning::BaseConfig };
const TAGS_OF_IT: Property = Property { name: TAGS, meaning: Meaning::Tags };

const fn setting(name: &'static str, shape: Shape) -> Property {
    Property { name, meaning: Meaning::Setting(shape) }
}

const fn java_only(name: &'static str, reason: &'static str) -> Property {
    Property { name, meaning: Meaning::JavaOnly(reason) }
}

const fn refused(name: &'static str, instead: &'static str) -> Property {
    Property { name, meaning: Meaning::Refused(instead) }
}

/// The property that `key` stands for, in whichever case it is written.
pub(super) fn find(properties: &'static [Property], key: &str) -> Option<&'static Property> {
    let key = canonical(key);
    properties.iter().find(|property| canonical(property.name) == key)
}

/// What to say of a key that there is not.
pub(super) fn unknown<'a>(key: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    match nearest(key, known) {
        Some(name) => format!("there is no such key; did you mean '{name}'?"),
        None => "there is no such key".to_owned(),
    }
}

/// The name that `key` is most likely a misspelling of.
pub(super) fn nearest<'a>(key: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 80;
    let key: Vec<char> = canonical(key).chars().take(LONGEST).collect();
    let distances = names.into_iter().map(|name| {
        let canonical: Vec<char> = canonical(name).chars().take(LONGEST).collect();
        (distance(&key, &canonical), canonical.len(), name)
    });
    let near = distances.filter(|(distance, length, _)| *distance <= (length / 3).max(1));
    near.min_by_key(|(distance, ..)| *distance).map(|(.., name)| name)
}

/// How many letters must be put in, taken out, exchanged, or swapped with their neighbour, to make one of the other.
fn distance(one: &[char], other: &[char]) -> usize {
    let mut before = vec![0; other.len() + 1];
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in other.iter().enumerate() {
            let mut least = (last[j] + usize::from(a != b)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == other[j - 1] && one[i - 1] == *b {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelled_key_is_told_what_it_was_meant_to_be() {
        let names = || CIRCUIT_BREAKER.iter().map(|property| property.name);
        for (key, meant) in [
            ("failure-rate-treshold", "failure-rate-threshold"),
            ("failureRateThresold", "failure-rate-threshold"),
            ("slidnig_window_size", "sliding-window-size"),
            ("wait-duration-in-open", "wait-duration-in-open-state"),
            ("minimum-number-of-call", "minimum-number-of-calls"),
            ("base-cofnig", "base-config"),
        ] {
            assert_eq!(nearest(key, names()), Some(meant), "{key}");
        }
        assert_eq!(nearest("colour", names()), None);
        assert_eq!(nearest(&"x".repeat(100_000), names()), None);
    }

    #[test]
    fn no_two_keys_of_a_kind_are_the_same() {
        for kind in KINDS {
            for property in kind.properties {
                let found = find(kind.properties, &property.name.to_uppercase()).expect("found");
                assert_eq!(found.name, property.name);
            }
        }
    }
}
