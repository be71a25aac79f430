//! How much memory an instance takes, with everything it points to, and how much a call under way.
//!
//! The bounds are those without features on a 64-bit machine, and what a feature adds.

use std::future::ready;

use allocation_counter::measure;
use resile::{
    Bulkhead, CircuitBreaker, Pipeline, RateLimiter, Retry, TimeLimiter,
    circuit_breaker::{self, SlidingWindowType},
};

/// Bytes from the allocator that `make` leaves taken. The text of the name, which is kept once for all, is there before.
fn bytes<T>(make: impl Fn(&'static str) -> T) -> u64 {
    drop(make("orders"));
    let mut made = None;
    let taken = measure(|| made = Some(make("orders"))).bytes_current;
    drop(made);
    u64::try_from(taken).expect("an instance takes memory")
}

/// What more an instance takes where its clock may be tokio's.
fn with_tokio_clock() -> u64 {
    if cfg!(feature = "test-util") { 16 } else { 0 }
}

/// What more an instance takes where it can be metered.
fn with_metrics(more: u64) -> u64 {
    if cfg!(feature = "metrics") { more } else { 0 }
}

#[test]
fn an_instance_takes_little_memory() {
    let config = circuit_breaker::Config::default;
    let thousand = |name| CircuitBreaker::new(name, config().sliding_window_size(1000)).unwrap();
    let minute = |name| {
        let config = config().sliding_window_type(SlidingWindowType::TimeBased).sliding_window_size(60);
        CircuitBreaker::new(name, config).unwrap()
    };
    for (what, bytes, most) in [
        ("circuit breaker over 100 calls", bytes(CircuitBreaker::with_defaults), 800),
        ("circuit breaker over 1000 calls", bytes(thousand), 1024),
        ("circuit breaker over 60 seconds", bytes(minute), 2208),
        ("retry", bytes(Retry::with_defaults), 480),
        ("rate limiter", bytes(RateLimiter::with_defaults), 304),
        ("bulkhead", bytes(Bulkhead::with_defaults), 136),
        ("time limiter", bytes(TimeLimiter::with_defaults), 72),
    ] {
        let most = most + with_metrics(24) + with_tokio_clock();
        assert!(bytes <= most, "{what}: {bytes} bytes, of {most} at most");
    }
}

#[test]
fn a_handle_is_a_pointer() {
    let handles = [
        size_of::<CircuitBreaker>(),
        size_of::<Retry>(),
        size_of::<RateLimiter>(),
        size_of::<Bulkhead>(),
        size_of::<TimeLimiter>(),
    ];
    assert_eq!(handles, [size_of::<usize>(); 5]);
}

/// A call that holds so many bytes while it waits.
async fn work<const BYTES: usize>() -> Result<u8, &'static str> {
    let held = [0; BYTES];
    ready(()).await;
    Ok(held.into_iter().sum())
}

#[test]
fn a_call_under_way_takes_little_more_than_the_bare_call() {
    let (retry, breaker) = (Retry::with_defaults("orders"), CircuitBreaker::with_defaults("orders"));
    let (limiter, time_limiter) = (RateLimiter::with_defaults("orders"), TimeLimiter::with_defaults("orders"));
    let bulkhead = Bulkhead::with_defaults("orders");
    let (call, small) = (work::<1000>, work::<0>);
    let [bare, bare_small] = [size_of_val(&call()), size_of_val(&small())];
    let rows = [
        ("retry", size_of_val(&retry.call(call)) - bare, 86),
        ("circuit breaker", size_of_val(&breaker.call(call)) - bare, 46),
        ("rate limiter", size_of_val(&limiter.call(call)) - bare, 110),
        ("time limiter", size_of_val(&time_limiter.call(call)) - bare, 78),
        ("bulkhead", size_of_val(&bulkhead.call(call)) - bare, 78),
    ];
    let five = Pipeline::new((retry, breaker, limiter, time_limiter, bulkhead));
    let rows = rows.into_iter().chain([
        ("all five", size_of_val(&five.call(call)) - bare, 406),
        ("all five around a small call", size_of_val(&five.call(small)) - bare_small, 406),
    ]);
    for (what, bytes, most) in rows {
        // A word for a compiler that lays them out otherwise, and a clock in each that may wait.
        let most = most + 8 + if cfg!(feature = "test-util") { 24 } else { 0 };
        assert!(bytes <= most, "{what}: {bytes} bytes, of {most} at most");
    }
}

#[test]
fn a_breaker_that_has_been_open_takes_no_more_than_before_but_for_its_history() {
    let opened_and_closed = |name| {
        let breaker = CircuitBreaker::with_defaults(name);
        breaker.transition_to_open().unwrap();
        breaker.transition_to_half_open().unwrap();
        breaker.transition_to_closed().unwrap();
        breaker
    };
    let (before, after) = (bytes(CircuitBreaker::with_defaults), bytes(opened_and_closed));
    assert!(after <= before + with_metrics(192), "{after} bytes after {before}");
    assert!(after < 1024, "{after} bytes");
}
