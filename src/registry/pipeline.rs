use std::future::Future;

use crate::{
    bulkhead::Bulkhead,
    circuit_breaker::{CircuitBreaker, Classified},
    error::Rejectable,
    outcome::Verdict,
    policy::{Operation, Policy, handle_methods},
    rate_limiter::RateLimiter,
    retry::{Decision, Retry, RetryIf},
    time_limiter::TimeLimiter,
};

type Policies<R, B> = (Option<R>, Option<B>, Option<RateLimiter>, Option<TimeLimiter>, Option<Bulkhead>);

/// The policies configured under one name, outermost first: retry, circuit breaker, rate limiter, time limiter, bulkhead.
/// See [`Resilience::pipeline`](super::Resilience::pipeline).
///
/// The parameters are seldom written. A pipeline without retry is a `NamedPipeline<NoRetry>`; with a classifier the second
/// is [`Classified`], with a retry condition the first is [`RetryIf`].
///
/// ```
/// use resile::{Error, Outcome, Resilience, circuit_breaker::Classified, registry::{NamedPipeline, NoRetry}};
///
/// type Judge = fn(&Result<u16, Error<std::io::Error>>) -> Outcome;
///
/// struct Orders {
///     read: NamedPipeline,
///     write: NamedPipeline<NoRetry, Classified<Judge>>,
/// }
///
/// let resilience = Resilience::new();
/// resilience.circuit_breakers().get("orders");
/// let judge: Judge = |result| if matches!(result, Ok(500..)) { Outcome::Failure } else { Outcome::of(result) };
/// let orders = Orders {
///     read: resilience.pipeline("orders"),
///     write: resilience.pipeline_without_retry("orders").classify(judge),
/// };
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let status = orders.write.call(|| async { Ok(503) }).await?;
/// # assert_eq!(status, 503);
/// assert_eq!(orders.read.circuit_breaker().unwrap().metrics().failed_calls, 1);
/// # Ok::<(), Error<std::io::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct NamedPipeline<R = Retry, B = CircuitBreaker> {
    policies: Policies<R, B>,
}

/// In the place of a retry where a call must not be repeated.
#[derive(Debug, Clone, Copy)]
pub struct NoRetry(());

impl<R, B> NamedPipeline<R, B> {
    pub(super) fn new(policies: Policies<R, B>) -> Self {
        Self { policies }
    }

    /// The retry, if there is one.
    pub fn retry(&self) -> Option<&R> {
        self.policies.0.as_ref()
    }

    /// The circuit breaker, if there is one.
    pub fn circuit_breaker(&self) -> Option<&B> {
        self.policies.1.as_ref()
    }

    /// The rate limiter, if there is one.
    pub fn rate_limiter(&self) -> Option<&RateLimiter> {
        self.policies.2.as_ref()
    }

    /// The time limiter, if there is one.
    pub fn time_limiter(&self) -> Option<&TimeLimiter> {
        self.policies.3.as_ref()
    }

    /// The bulkhead, if there is one.
    pub fn bulkhead(&self) -> Option<&Bulkhead> {
        self.policies.4.as_ref()
    }

    /// Whether there is no policy at all, so that calls are guarded by nothing.
    pub fn is_empty(&self) -> bool {
        matches!(self.policies, (None, None, None, None, None))
    }
}

impl<R> NamedPipeline<R> {
    /// The same pipeline with results judged by `judge` for the circuit breaker, if it has one: see
    /// [`CircuitBreaker::classify`].
    #[must_use]
    pub fn classify<F, T, E, V>(self, judge: F) -> NamedPipeline<R, Classified<F>>
    where
        F: Fn(&Result<T, E>) -> V,
        E: Rejectable,
        V: Into<Verdict>,
    {
        let (retry, breaker, rate_limiter, time_limiter, bulkhead) = self.policies;
        let breaker = breaker.map(|breaker| breaker.classify(judge));
        NamedPipeline { policies: (retry, breaker, rate_limiter, time_limiter, bulkhead) }
    }
}

impl<B> NamedPipeline<Retry, B> {
    /// The same pipeline with `condition` deciding what its retry, if it has one, does about a result: see
    /// [`Retry::retry_if`]. A [`Decision`] may name the wait.
    #[must_use]
    pub fn retry_if<F, T, E, D>(self, condition: F) -> NamedPipeline<RetryIf<F>, B>
    where
        F: Fn(&Result<T, E>) -> D,
        D: Into<Decision>,
    {
        let (retry, breaker, rate_limiter, time_limiter, bulkhead) = self.policies;
        let retry = retry.map(|retry| retry.retry_if(condition));
        NamedPipeline { policies: (retry, breaker, rate_limiter, time_limiter, bulkhead) }
    }
}

impl<Op: Operation> Policy<Op> for NoRetry {
    type Future = Op::Future;

    #[inline]
    fn run(self, op: Op) -> Op::Future {
        op.start()
    }
}

impl<Op: Operation> Policy<Op> for &NoRetry {
    type Future = Op::Future;

    #[inline]
    fn run(self, op: Op) -> Op::Future {
        op.start()
    }
}

impl<Op: Operation, R, B> Policy<Op> for NamedPipeline<R, B>
where
    Policies<R, B>: Policy<Op>,
{
    type Future = <Policies<R, B> as Policy<Op>>::Future;

    #[inline]
    fn run(self, op: Op) -> Self::Future {
        self.policies.run(op)
    }
}

impl<'a, Op: Operation, R, B> Policy<Op> for &'a NamedPipeline<R, B>
where
    &'a Policies<R, B>: Policy<Op>,
{
    type Future = <&'a Policies<R, B> as Policy<Op>>::Future;

    #[inline]
    fn run(self, op: Op) -> Self::Future {
        self.policies.run(op)
    }
}

handle_methods!(NamedPipeline<R, B>);
