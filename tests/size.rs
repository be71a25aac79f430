//! How much memory an instance takes, with everything it points to.

use allocation_counter::measure;
use resile::{Bulkhead, CircuitBreaker, RateLimiter, Retry, TimeLimiter};

/// Bytes from the allocator that `make` leaves taken.
fn bytes<T>(make: impl Fn(&'static str) -> T) -> u64 {
    drop(make("orders"));
    let mut made = None;
    let taken = measure(|| made = Some(make("orders"))).bytes_current;
    drop(made);
    u64::try_from(taken).expect("an instance takes memory")
}

/// What more an instance takes where it can be metered.
fn with_metrics(more: u64) -> u64 {
    if cfg!(feature = "metrics") { more } else { 0 }
}

#[test]
fn an_instance_takes_little_memory() {
    for (what, bytes, most) in [
        ("circuit breaker", bytes(CircuitBreaker::with_defaults), 800),
        ("retry", bytes(Retry::with_defaults), 480),
        ("rate limiter", bytes(RateLimiter::with_defaults), 352),
        ("bulkhead", bytes(Bulkhead::with_defaults), 192),
        ("time limiter", bytes(TimeLimiter::with_defaults), 128),
    ] {
        assert!(bytes <= most + with_metrics(48), "{what}: {bytes} bytes");
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
