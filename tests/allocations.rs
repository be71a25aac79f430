//! What allocates nothing: calls that are permitted and calls that are rejected, however many policies they pass.
//!
//! The counter counts the allocations of the thread that asks.

mod support;

use std::{
    future::{Future, pending, ready},
    hint::black_box,
    io,
    pin::pin,
    task::Poll,
};

use allocation_counter::measure;
use resile::{
    BoxError, CircuitBreaker, Clock, Error, Outcome, Pipeline, RateLimiter, Rejected, Retry, TimeLimiter,
    circuit_breaker, retry,
};
use support::{PLACES, SECOND, Yield, five, poll_once};
use tower::{Layer, Service, ServiceBuilder, service_fn};

/// How many allocations one run makes, once the same has been done before.
fn allocations<R>(mut run: impl FnMut() -> R) -> u64 {
    for _ in 0..3 {
        run();
    }
    let mut counts = [0; 3];
    for count in &mut counts {
        *count = measure(|| drop(black_box(run()))).count_total;
    }
    assert!(counts.iter().all(|count| *count == counts[0]), "{counts:?}");
    counts[0]
}

/// Polls until the end, and lets no time pass.
fn finish<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = poll_once(future.as_mut()) {
            return output;
        }
    }
}

fn call() -> std::future::Ready<Result<u32, io::Error>> {
    ready(Ok(42))
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| Box::new(42)), 1);
}

#[test]
fn a_permitted_call_through_all_five_allocates_nothing() {
    let clock = Clock::manual();
    let guard = five(&clock);
    assert_eq!(allocations(|| finish(guard.call(call)).unwrap()), 0);
    assert_eq!(allocations(|| guard.call_blocking(|| Ok::<_, io::Error>(42)).unwrap()), 0);
    let (retry, breaker, limiter, time_limiter, bulkhead) = guard.policies();
    assert_eq!(allocations(|| finish(retry.call(call)).unwrap()), 0);
    assert_eq!(allocations(|| finish(breaker.call(call)).unwrap()), 0);
    assert_eq!(allocations(|| finish(limiter.call(call)).unwrap()), 0);
    assert_eq!(allocations(|| finish(time_limiter.call(call)).unwrap()), 0);
    assert_eq!(allocations(|| finish(bulkhead.call(call)).unwrap()), 0);
    assert_eq!(allocations(|| breaker.try_acquire().unwrap().success()), 0);
    assert_eq!(allocations(|| bulkhead.try_acquire().unwrap().finish()), 0);
}

#[test]
fn a_permitted_call_on_the_default_clock_allocates_nothing() {
    let guard = Pipeline::new((
        Retry::with_defaults("orders"),
        CircuitBreaker::with_defaults("orders"),
        RateLimiter::new("orders", support::limits()).unwrap(),
        TimeLimiter::with_defaults("orders"),
        resile::Bulkhead::with_defaults("orders"),
    ));
    assert_eq!(allocations(|| finish(guard.call(call)).unwrap()), 0);
    // Tokio's own sleep, which the default clock uses under `test-util`, is boxed.
    #[cfg(not(feature = "test-util"))]
    assert_eq!(allocations(|| finish(guard.call(pending_once)).unwrap()), 0);
}

async fn pending_once() -> Result<u32, io::Error> {
    Yield::default().await;
    Ok(42)
}

#[test]
fn a_call_that_is_pending_once_allocates_nothing() {
    let clock = Clock::manual();
    let guard = five(&clock);
    assert_eq!(allocations(|| finish(guard.call(pending_once)).unwrap()), 0);
    // It was under a time limit all the same.
    let mut hung = pin!(guard.call(pending::<Result<(), io::Error>>));
    assert!(poll_once(hung.as_mut()).is_pending());
    assert_eq!(clock.next_wake(), Some(SECOND));
}

#[test]
fn a_call_that_fails_allocates_nothing() {
    let clock = Clock::manual();
    let guard = five(&clock);
    let run = || {
        let failed = guard.call(|| ready(Err::<(), _>("down")));
        let mut failed = pin!(failed);
        while poll_once(failed.as_mut()).is_pending() {
            clock.advance(clock.next_wake().unwrap());
        }
    };
    assert_eq!(allocations(run), 0);
    assert_eq!(guard.policies().0.metrics().failed_calls_with_retry_attempt, 6);
}

#[test]
fn a_rejection_by_a_breaker_allocates_nothing() {
    let clock = Clock::manual();
    let guard = five(&clock);
    let breaker = &guard.policies().1;
    let rejected = |state| {
        let refused = finish(guard.call(call)).unwrap_err();
        assert!(matches!(&refused, Error::Rejected(Rejected::CircuitOpen(open)) if open.state() == state));
        refused
    };
    breaker.transition_to_open().unwrap();
    assert_eq!(allocations(|| rejected(circuit_breaker::State::Open)), 0);
    breaker.transition_to_forced_open().unwrap();
    assert_eq!(allocations(|| rejected(circuit_breaker::State::ForcedOpen)), 0);

    breaker.transition_to_closed().unwrap();
    breaker.transition_to_open().unwrap();
    breaker.transition_to_half_open().unwrap();
    let _trials: Vec<_> = (0..10).map(|_| breaker.try_acquire().unwrap()).collect();
    assert_eq!(allocations(|| rejected(circuit_breaker::State::HalfOpen)), 0);
}

#[test]
fn a_rejection_by_a_rate_limiter_allocates_nothing() {
    let clock = Clock::manual();
    let guard = five(&clock);
    guard.policies().2.drain();
    let rejected = || {
        let refused = finish(guard.call(call)).unwrap_err();
        assert!(matches!(refused, Error::Rejected(Rejected::RateLimited(_))));
        refused
    };
    assert_eq!(allocations(rejected), 0);
}

#[test]
fn a_rejection_by_a_bulkhead_allocates_nothing() {
    let clock = Clock::manual();
    let guard = five(&clock);
    let _places: Vec<_> = (0..PLACES).map(|_| guard.policies().4.try_acquire().unwrap()).collect();
    let rejected = || {
        let refused = finish(guard.call(call)).unwrap_err();
        assert!(matches!(refused, Error::Rejected(Rejected::BulkheadFull(_))));
        refused
    };
    assert_eq!(allocations(rejected), 0);
}

#[test]
fn a_rejection_by_a_time_limiter_allocates_nothing() {
    let clock = Clock::manual();
    let (_, breaker, limiter, time_limiter, bulkhead) = five(&clock).policies().clone();
    let guard = Pipeline::new((breaker, limiter, time_limiter, bulkhead));
    let rejected = || {
        let mut hung = pin!(guard.call(pending::<Result<(), io::Error>>));
        assert!(poll_once(hung.as_mut()).is_pending());
        clock.advance(SECOND);
        let Poll::Ready(Err(refused)) = poll_once(hung) else { panic!("still pending") };
        assert!(matches!(refused, Error::Rejected(Rejected::TimedOut(_))));
        refused
    };
    assert_eq!(allocations(rejected), 0);
}

#[test]
fn a_rejection_by_a_retry_allocates_nothing() {
    let clock = Clock::manual();
    let config = retry::Config::default().max_attempts(1).fail_after_max_attempts(true).clock(&clock);
    let insatiable = support::retry(config).retry_if(|_: &Result<u32, Error<io::Error>>| true);
    let rejected = || {
        let refused = finish(insatiable.call(call)).unwrap_err();
        assert!(matches!(refused, Error::Rejected(Rejected::RetriesExhausted(_))));
        refused
    };
    assert_eq!(allocations(rejected), 0);
}

#[test]
fn a_call_through_five_separate_layers_allocates_nothing() {
    let clock = Clock::manual();
    let (retry, breaker, limiter, time_limiter, bulkhead) = five(&clock).policies().clone();
    let mut client = ServiceBuilder::new()
        .layer(retry)
        .layer(breaker.clone())
        .layer(limiter)
        .layer(time_limiter)
        .layer(bulkhead)
        .service(service_fn(|order: u32| async move {
            if order == 0 {
                Yield::default().await;
            }
            Ok::<_, Error<io::Error>>(order)
        }));
    assert_eq!(allocations(|| finish(client.call(42)).unwrap()), 0);
    assert_eq!(allocations(|| finish(client.call(0)).unwrap()), 0);
    breaker.transition_to_forced_open().unwrap();
    assert_eq!(allocations(|| finish(client.call(42)).unwrap_err()), 0);
}

#[test]
fn a_rejection_is_boxed_only_where_the_user_s_error_is_a_box() {
    let clock = Clock::manual();
    let guard = five(&clock);
    guard.policies().1.transition_to_forced_open().unwrap();
    let mut client = guard.layer(service_fn(|()| ready(Ok::<_, BoxError>(()))));
    assert_eq!(allocations(|| finish(client.call(())).unwrap_err()), 1);
}

#[test]
fn a_time_window_grows_with_its_seconds_and_not_with_its_calls() {
    const CALLS: u32 = 100_000;
    let clock = Clock::manual();
    let config = circuit_breaker::Config::default()
        .sliding_window_type(circuit_breaker::SlidingWindowType::TimeBased)
        .sliding_window_size(60)
        .failure_rate_threshold(100.0)
        .slow_call_duration_threshold(SECOND)
        .clock(&clock);
    let breaker = support::breaker(config);
    // Every second call is slow and every fourth failed, over all of the sixty seconds.
    let recorded = measure(|| {
        for call in 0..CALLS {
            let outcome = if call % 4 == 3 { Outcome::Failure } else { Outcome::Success };
            let elapsed = if call % 2 == 1 { 2 * SECOND } else { SECOND };
            breaker.try_acquire().unwrap().record_elapsed(elapsed, outcome);
            clock.advance(59 * SECOND / CALLS);
        }
    });
    assert_eq!((recorded.count_total, recorded.bytes_max), (0, 0));
    let metrics = breaker.metrics();
    assert_eq!((metrics.buffered_calls, metrics.failed_calls), (CALLS, CALLS / 4));
    assert_eq!((metrics.slow_calls, metrics.slow_failed_calls), (CALLS / 2, CALLS / 4));
    assert_eq!((metrics.failure_rate, metrics.slow_call_rate), (Some(25.0), Some(50.0)));
    clock.advance(60 * SECOND);
    assert_eq!(breaker.metrics().buffered_calls, 0);
}
