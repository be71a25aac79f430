//! Several policies as one value.
//!
//! A [`Pipeline`] holds a tuple of policies, outermost first. Its type can be named, so a struct can hold it:
//!
//! ```
//! use resile::{Bulkhead, CircuitBreaker, Pipeline, RateLimiter, Retry, TimeLimiter};
//!
//! struct Orders {
//!     guard: Pipeline<(Retry, CircuitBreaker, RateLimiter, TimeLimiter, Bulkhead)>,
//! }
//!
//! let orders = Orders {
//!     guard: Pipeline::new((
//!         Retry::with_defaults("orders"),
//!         CircuitBreaker::with_defaults("orders"),
//!         RateLimiter::with_defaults("orders"),
//!         TimeLimiter::with_defaults("orders"),
//!         Bulkhead::with_defaults("orders"),
//!     )),
//! };
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let order = orders.guard.call(|| async { Ok::<_, std::io::Error>(42) }).await?;
//! # assert_eq!(order, 42);
//! # Ok::<(), resile::Error<std::io::Error>>(())
//! # }).unwrap();
//! ```
//!
//! That order is Resilience4j's default, with a [`Fallback`](crate::Fallback) outermost if there is one.

use std::future::Future;

use crate::policy::{Operation, Policy, handle_methods};

/// A tuple of policies, outermost first, to call through.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pipeline<P> {
    policies: P,
}

impl<P> Pipeline<P> {
    /// The policies, outermost first: a tuple of one to eight, each of which may be an `Option` or a pipeline itself.
    pub const fn new(policies: P) -> Self {
        Self { policies }
    }

    /// The policies, to look at or to steer.
    pub const fn policies(&self) -> &P {
        &self.policies
    }
}

impl<Op: Operation, P: Policy<Op>> Policy<Op> for Pipeline<P> {
    type Future = P::Future;

    #[inline]
    fn run(self, op: Op) -> P::Future {
        self.policies.run(op)
    }
}

impl<'a, Op: Operation, P> Policy<Op> for &'a Pipeline<P>
where
    &'a P: Policy<Op>,
{
    type Future = <&'a P as Policy<Op>>::Future;

    #[inline]
    fn run(self, op: Op) -> Self::Future {
        self.policies.run(op)
    }
}

handle_methods!(Pipeline<P>);
