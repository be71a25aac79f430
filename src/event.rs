//! What happens inside the policies, told to whoever listens.
//!
//! Every handle has `on_event` for a function called at once, `events` for an asynchronous stream, and `event_log` for
//! the last few. Dropping what they return ends the subscription. Events are published outside every lock; a listener
//! that panics harms neither the call nor the other listeners; nobody listening costs one load.
//!
//! ```
//! use resile::{CircuitBreaker, event::EventKind};
//! use std::sync::{Arc, atomic::{AtomicU32, Ordering}};
//!
//! let breaker = CircuitBreaker::with_defaults("orders");
//! let opened = Arc::new(AtomicU32::new(0));
//! let count = Arc::clone(&opened);
//! let subscription = breaker.on_event(move |event| {
//!     if let EventKind::StateTransition { .. } = event.kind {
//!         count.fetch_add(1, Ordering::Relaxed);
//!     }
//! });
//! breaker.transition_to_open()?;
//! drop(subscription);
//! breaker.transition_to_closed()?;
//! assert_eq!(opened.load(Ordering::Relaxed), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod listeners;
mod name;

use std::{fmt, time::Duration};

pub(crate) use self::listeners::Listeners;
pub use self::{
    listeners::{EventLog, EventStream, Subscription},
    name::Name,
};
use crate::clock::Instant;

/// The kinds of policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum PolicyKind {
    /// [`CircuitBreaker`](crate::CircuitBreaker)
    CircuitBreaker,
    /// [`Retry`](crate::Retry)
    Retry,
    /// [`RateLimiter`](crate::RateLimiter)
    RateLimiter,
    /// [`Bulkhead`](crate::Bulkhead)
    Bulkhead,
    /// [`ThreadPoolBulkhead`](crate::ThreadPoolBulkhead)
    ThreadPoolBulkhead,
    /// [`TimeLimiter`](crate::TimeLimiter)
    TimeLimiter,
}

/// The states of a circuit. Complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// Calls are admitted and their results counted.
    Closed,
    /// Calls are rejected until the wait is over.
    Open,
    /// A few trial calls are admitted; their results decide.
    HalfOpen,
    /// Calls are admitted, nothing is counted, nothing opens the circuit.
    Disabled,
    /// Calls are rejected until an operator says otherwise.
    ForcedOpen,
    /// Calls are admitted and counted, nothing opens the circuit.
    MetricsOnly,
}

impl State {
    /// Resilience4j's name, such as `HALF_OPEN`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "CLOSED",
            Self::Open => "OPEN",
            Self::HalfOpen => "HALF_OPEN",
            Self::Disabled => "DISABLED",
            Self::ForcedOpen => "FORCED_OPEN",
            Self::MetricsOnly => "METRICS_ONLY",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing that happened in one instance. It never carries an error of the user's.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Event {
    /// The instance's name.
    pub name: Name,
    /// The kind of policy the instance is.
    pub policy: PolicyKind,
    /// When it happened, on the instance's clock.
    pub at: Instant,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum EventKind {
    /// A call succeeded (circuit breaker, time limiter), or did so after at least one retry (retry; `attempts` failed).
    Success {
        /// How long the call took, where it was measured.
        elapsed: Option<Duration>,
        /// How many attempts had failed before, for a retry.
        attempts: u32,
    },
    /// A call failed (circuit breaker, time limiter), or a retry gave up after `attempts`.
    Error {
        /// How long the call took, where it was measured.
        elapsed: Option<Duration>,
        /// How many attempts were made, for a retry.
        attempts: u32,
    },
    /// A result that says nothing about the dependency (circuit breaker), or an error not worth another attempt (retry).
    IgnoredError {
        /// How long the call took, where it was measured.
        elapsed: Option<Duration>,
    },
    /// A circuit breaker rejected a call.
    NotPermitted,
    /// A circuit breaker changed its state.
    StateTransition {
        /// The state before.
        from: State,
        /// The state after.
        to: State,
        /// Counts the breaker's transitions: of two, the one with the greater number came later.
        generation: u64,
    },
    /// A circuit breaker was reset by hand.
    Reset,
    /// The share of failed calls reached its threshold.
    FailureRateExceeded {
        /// In percent.
        failure_rate: f32,
    },
    /// The share of slow calls reached its threshold.
    SlowCallRateExceeded {
        /// In percent.
        slow_call_rate: f32,
    },
    /// A result came from a call admitted before the circuit last changed its state. It was counted nowhere.
    LateResult,
    /// A trial call has been outstanding for longer than allowed and counts as failed.
    TrialCallExpired,
    /// Another attempt will follow.
    Retry {
        /// How many attempts have failed so far.
        attempts: u32,
        /// How long the retry waits before the next.
        wait: Duration,
    },
    /// A rate limiter gave permits.
    SuccessfulAcquire {
        /// How many.
        permits: u32,
    },
    /// A rate limiter refused permits.
    FailedAcquire {
        /// How many were asked for.
        permits: u32,
    },
    /// A rate limiter's permits of the current period were taken away.
    Drained {
        /// How many were left.
        permits: u32,
    },
    /// A bulkhead admitted a call.
    CallPermitted,
    /// A bulkhead rejected a call.
    CallRejected,
    /// A call left a bulkhead.
    CallFinished,
    /// A time limiter gave a call up.
    Timeout,
    /// A call that a time limiter had given up, and let go on, ended.
    DetachedFinished {
        /// How long it took from its start.
        elapsed: Duration,
    },
}

impl EventKind {
    /// Resilience4j's name for it, such as `STATE_TRANSITION`, or one of that form where it has none.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Success { .. } => "SUCCESS",
            Self::Error { .. } => "ERROR",
            Self::IgnoredError { .. } => "IGNORED_ERROR",
            Self::NotPermitted => "NOT_PERMITTED",
            Self::StateTransition { .. } => "STATE_TRANSITION",
            Self::Reset => "RESET",
            Self::FailureRateExceeded { .. } => "FAILURE_RATE_EXCEEDED",
            Self::SlowCallRateExceeded { .. } => "SLOW_CALL_RATE_EXCEEDED",
            Self::LateResult => "LATE_RESULT",
            Self::TrialCallExpired => "TRIAL_CALL_EXPIRED",
            Self::Retry { .. } => "RETRY",
            Self::SuccessfulAcquire { .. } => "SUCCESSFUL_ACQUIRE",
            Self::FailedAcquire { .. } => "FAILED_ACQUIRE",
            Self::Drained { .. } => "DRAINED",
            Self::CallPermitted => "CALL_PERMITTED",
            Self::CallRejected => "CALL_REJECTED",
            Self::CallFinished => "CALL_FINISHED",
            Self::Timeout => "TIMEOUT",
            Self::DetachedFinished { .. } => "DETACHED_FINISHED",
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} '{}' {}", self.policy, self.name, self.kind.as_str())?;
        match &self.kind {
            EventKind::StateTransition { from, to, .. } => write!(f, " from {from} to {to}"),
            EventKind::FailureRateExceeded { failure_rate: rate }
            | EventKind::SlowCallRateExceeded { slow_call_rate: rate } => write!(f, " at {rate} %"),
            EventKind::Retry { attempts, wait } => write!(f, " after attempt {attempts}, waiting {wait:?}"),
            _ => Ok(()),
        }
    }
}

/// A name and the listeners of one instance: what every handle publishes through.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) name: Name,
    pub(crate) policy: PolicyKind,
    pub(crate) listeners: Listeners,
}

impl Source {
    pub(crate) fn new(name: impl Into<Name>, policy: PolicyKind) -> Self {
        Self { name: name.into(), policy, listeners: Listeners::new() }
    }

    #[inline]
    pub(crate) fn listening(&self) -> bool {
        self.listeners.any()
    }

    /// Publishes if anybody listens; only then is the clock read.
    #[inline]
    pub(crate) fn publish(&self, at: impl FnOnce() -> Instant, kind: impl FnOnce() -> EventKind) {
        if self.listening() {
            self.publish_at(at(), kind());
        }
    }

    #[cold]
    pub(crate) fn publish_at(&self, at: Instant, kind: EventKind) {
        self.listeners.publish(&Event { name: self.name.clone(), policy: self.policy, at, kind });
    }
}
