//! How many calls in all pass through one instance that so many threads share.
//!
//! `cargo bench --bench scaling`. A figure is the time from the first thread's start to the last one's end, divided by the
//! calls of all; half the figure is twice the throughput. Where there are more threads than cores they take turns, and the
//! most to hope for is the figure at as many threads as cores. `benches/SCALING.md` says what to expect of more cores.

mod support;

use std::{cell::Cell, hint::black_box, sync::Barrier, thread, time::Duration};

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use resile::{
    Bulkhead, CircuitBreaker, Clock, Pipeline, RateLimiter, Retry, TimeLimiter,
    circuit_breaker::{self, SlidingWindowType},
    rate_limiter::{self, Algorithm},
};

use support::{drive, work};

const THREADS: [u64; 5] = [1, 2, 4, 8, 16];

/// So many at least, or the first thread ends before the last one starts.
const CALLS_OF_A_THREAD: u64 = 20_000;

/// The time of `calls` calls by all threads together.
fn together(threads: u64, calls: u64, run: impl Fn() + Sync) -> Duration {
    let each = calls.div_ceil(threads).max(CALLS_OF_A_THREAD);
    let (clock, start) = (Clock::default(), Barrier::new(threads as usize));
    let times: Vec<_> = thread::scope(|scope| {
        let body = || {
            start.wait();
            let began = clock.now();
            for _ in 0..each {
                run();
            }
            (began, clock.now())
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(body)).collect();
        threads.into_iter().map(|thread| thread.join().expect("a bench thread")).collect()
    });
    let began = times.iter().map(|time| time.0).min().unwrap_or_default();
    let ended = times.iter().map(|time| time.1).max().unwrap_or_default();
    ended.saturating_duration_since(began).mul_f64(calls as f64 / (each * threads) as f64)
}

/// `make` makes what the threads share: another for each number of them, since a breaker remembers that threads met.
fn scaling<P: Sync>(c: &mut Criterion, policy: &str, make: impl Fn() -> P, run: impl Fn(&P) + Sync) {
    let mut group = c.benchmark_group("scaling");
    group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(1));
    for threads in THREADS {
        let shared = make();
        group.bench_function(BenchmarkId::new(policy, threads), |b| {
            b.iter_custom(|calls| together(threads, calls, || run(&shared)));
        });
    }
    group.finish();
}

fn breaker(config: circuit_breaker::Config) -> CircuitBreaker {
    CircuitBreaker::new("bench", config).expect("a valid config")
}

/// A permit a nanosecond: never empty, however many threads.
fn limiter(algorithm: Algorithm) -> RateLimiter {
    let config = rate_limiter::Config::default().algorithm(algorithm).limit_for_period(1_000_000_000);
    RateLimiter::new("bench", config.limit_refresh_period(Duration::from_secs(1))).expect("a valid config")
}

fn bare(c: &mut Criterion) {
    scaling(c, "bare", || (), |()| _ = drive(work(black_box(1))));
}

thread_local! {
    /// Of this thread, so that counting them is no shared work.
    static CALLS: Cell<u32> = const { Cell::new(0) };
}

fn circuit_breakers(c: &mut Criterion) {
    let config = circuit_breaker::Config::default;
    let minute = config().sliding_window_type(SlidingWindowType::TimeBased).sliding_window_size(60);
    for (name, config) in [
        ("breaker_count", config()),
        ("breaker_count_no_slow_calls", config().slow_call_duration_threshold(None)),
        ("breaker_time", minute),
    ] {
        let make = || breaker(config.clone());
        scaling(c, name, make, |breaker| _ = drive(breaker.call(|| work(black_box(1)))));
    }
    // Where some calls fail all threads look inside more often, whoever's call it was.
    scaling(
        c,
        "breaker_count_one_in_100_fails",
        || breaker(config()),
        |breaker| {
            let fails = CALLS.get() % 100 == 99;
            CALLS.set(CALLS.get().wrapping_add(1));
            _ = drive(breaker.call(|| async move { if fails { Err("down") } else { work(black_box(1)).await } }));
        },
    );
}

fn rate_limiters(c: &mut Criterion) {
    for (name, algorithm) in [("limiter_smooth", Algorithm::Smooth), ("limiter_fixed_cycle", Algorithm::FixedCycle)] {
        scaling(c, name, || limiter(algorithm), |limiter| _ = drive(limiter.call(|| work(black_box(1)))));
    }
}

fn bulkheads(c: &mut Criterion) {
    let make = || Bulkhead::with_defaults("bench");
    scaling(c, "bulkhead", make, |bulkhead| _ = drive(bulkhead.call(|| work(black_box(1)))));
}

fn five_policies(c: &mut Criterion) {
    let make = || {
        let (retry, breaker) = (Retry::with_defaults("bench"), CircuitBreaker::with_defaults("bench"));
        let (limiter, time) = (limiter(Algorithm::Smooth), TimeLimiter::with_defaults("bench"));
        Pipeline::new((retry, breaker, limiter, time, Bulkhead::with_defaults("bench")))
    };
    scaling(c, "pipeline", make, |pipeline| _ = drive(pipeline.call(|| work(black_box(1)))));
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1)).without_plots();
    targets = bare, circuit_breakers, rate_limiters, bulkheads, five_policies
}
criterion_main!(benches);
