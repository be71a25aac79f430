//! What the tests of composition share.
#![allow(dead_code, unreachable_pub)]

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use resile::{
    Bulkhead, CircuitBreaker, ManualClock, Pipeline, RateLimiter, Retry, TimeLimiter, bulkhead, circuit_breaker,
    rate_limiter, retry, time_limiter,
};

pub const MS: Duration = Duration::from_millis(1);
pub const SECOND: Duration = Duration::from_secs(1);

/// Permits a period: enough for every test.
pub const LIMIT: u32 = 1000;
/// Places in the bulkhead.
pub const PLACES: u32 = 20;

/// All five, in Resilience4j's order.
pub type Five = Pipeline<(Retry, CircuitBreaker, RateLimiter, TimeLimiter, Bulkhead)>;

/// Five policies on one clock: three attempts 100 ms apart, a window of 100 calls, no waiting for permits or places, one
/// second for a call.
pub fn five(clock: &ManualClock) -> Five {
    Pipeline::new((
        retry(retry::Config::default().wait_duration(100 * MS).clock(clock)),
        breaker(circuit_breaker::Config::default().clock(clock)),
        rate_limiter(limits().timeout_duration(Duration::ZERO).clock(clock)),
        time_limiter(time_limiter::Config::default().clock(clock)),
        bulkhead(bulkhead::Config::default().max_concurrent_calls(PLACES).clock(clock)),
    ))
}

/// A period of an hour, so that no permit comes back by itself.
pub fn limits() -> rate_limiter::Config {
    rate_limiter::Config::default().limit_for_period(LIMIT).limit_refresh_period(3600 * SECOND)
}

pub fn retry(config: retry::Config) -> Retry {
    Retry::new("retry", config).expect("settings that can be")
}

pub fn breaker(config: circuit_breaker::Config) -> CircuitBreaker {
    CircuitBreaker::new("breaker", config).expect("settings that can be")
}

pub fn rate_limiter(config: rate_limiter::Config) -> RateLimiter {
    RateLimiter::new("rate limiter", config).expect("settings that can be")
}

pub fn time_limiter(config: time_limiter::Config) -> TimeLimiter {
    TimeLimiter::new("time limiter", config).expect("settings that can be")
}

pub fn bulkhead(config: bulkhead::Config) -> Bulkhead {
    Bulkhead::new("bulkhead", config).expect("settings that can be")
}

/// How many permits of [`LIMIT`] have been taken.
pub fn taken(limiter: &RateLimiter) -> i64 {
    i64::from(LIMIT) - limiter.metrics().available_permissions
}

pub fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Runs a future to its end: polls it when it is woken, lets time pass when it is not, and panics where a test would
/// hang.
pub fn drive<F: Future>(clock: &ManualClock, future: F) -> F::Output {
    let mut future = pin!(future);
    let woken = Arc::new(Woken(AtomicBool::new(false)));
    let waker = Waker::from(Arc::clone(&woken));
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        if !woken.0.swap(false, Ordering::SeqCst) {
            clock.advance(clock.next_wake().expect("a pending future waits for time or was woken: this one hangs"));
        }
    }
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Pending once, then ready.
#[derive(Debug, Default)]
pub struct Yield(bool);

impl Future for Yield {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(());
        }
        task.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Counts up.
#[derive(Debug, Clone, Default)]
pub struct Counter(Arc<AtomicU32>);

impl Counter {
    /// Counts one more; how many that makes.
    pub fn up(&self) -> u32 {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub fn get(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }
}
