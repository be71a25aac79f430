//! Keeps a service working while what it calls does not.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod backoff;
pub mod bulkhead;
pub mod circuit_breaker;
pub mod clock;
pub mod error;
pub mod event;
pub mod fallback;
pub mod layer;
pub mod outcome;
pub mod pipeline;
pub mod policy;
pub mod rate_limiter;
pub mod retry;
pub mod time_limiter;

mod blocking;
mod sync;
mod timer;

pub use self::{
    backoff::IntervalFunction,
    bulkhead::{Bulkhead, ThreadPoolBulkhead},
    circuit_breaker::CircuitBreaker,
    clock::{Clock, ManualClock},
    error::{
        BoxError, BulkheadFull, CircuitOpen, Error, InvalidConfig, RateLimited, Rejectable, Rejected, RetriesExhausted,
        TimedOut,
    },
    event::{Event, Subscription},
    fallback::Fallback,
    outcome::{Outcome, Verdict},
    pipeline::Pipeline,
    policy::{Cx, Operation, Policy},
    rate_limiter::RateLimiter,
    retry::Retry,
    time_limiter::TimeLimiter,
};
