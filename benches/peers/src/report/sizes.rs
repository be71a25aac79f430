//! What an instance takes of memory, and how large a guarded call's future is.

use std::mem::size_of_val;

use allocation_counter::measure;
use resile::{Bulkhead, CircuitBreaker, Pipeline, RateLimiter, Retry, TimeLimiter, circuit_breaker};

#[derive(Debug, Default)]
pub(crate) struct Sizes {
    /// Bytes taken from the allocator by one instance, by its kind.
    pub(crate) instances: Vec<(&'static str, u64)>,
    pub(crate) bare_future: usize,
    pub(crate) pipeline_future: usize,
}

impl Sizes {
    pub(crate) fn measure() -> Self {
        let minute = circuit_breaker::Config::default()
            .sliding_window_type(circuit_breaker::SlidingWindowType::TimeBased)
            .sliding_window_size(60);
        let minute = |name| CircuitBreaker::new(name, minute.clone()).expect("a valid config");
        let instances = vec![
            ("circuit breaker, count window of 100", bytes(CircuitBreaker::with_defaults)),
            ("circuit breaker, time window of 60 s", bytes(minute)),
            ("retry", bytes(Retry::with_defaults)),
            ("rate limiter", bytes(RateLimiter::with_defaults)),
            ("bulkhead", bytes(Bulkhead::with_defaults)),
            ("time limiter", bytes(TimeLimiter::with_defaults)),
        ];
        let pipeline = Pipeline::new((
            Retry::with_defaults("orders"),
            CircuitBreaker::with_defaults("orders"),
            RateLimiter::with_defaults("orders"),
            TimeLimiter::with_defaults("orders"),
            Bulkhead::with_defaults("orders"),
        ));
        let pipeline_future = size_of_val(&pipeline.call(|| call(1)));
        Self { instances, bare_future: size_of_val(&call(1)), pipeline_future }
    }
}

async fn call(input: u64) -> Result<u64, &'static str> {
    Ok(input)
}

/// Bytes from the allocator that `make` leaves taken.
fn bytes<T>(make: impl Fn(&'static str) -> T) -> u64 {
    // What the first one makes for all.
    drop(make("orders"));
    let mut made = None;
    let taken = measure(|| made = Some(make("orders"))).bytes_current;
    drop(made);
    u64::try_from(taken).unwrap_or(0)
}
