//! What each policy adds to a call: permitted and rejected, on one thread and on two that share one instance.
//!
//! `cargo bench --bench overhead`. Every figure includes the bare call of the first group, an async fn that is ready at its
//! first poll.

mod support;

use std::{
    hint::black_box,
    sync::{Arc, Barrier},
    thread,
    time::Duration,
};

use criterion::{Criterion, criterion_group, criterion_main};
use resile::{
    Bulkhead, CircuitBreaker, Clock, Fallback, ManualClock, Outcome, Pipeline, RateLimiter, Retry, TimeLimiter,
    bulkhead, circuit_breaker, rate_limiter,
};
use tower::{Service, ServiceBuilder, service_fn};

use support::{drive, work, work_later};

/// Nanoseconds of `iterations` runs on each of two threads at once.
fn on_two_threads(iterations: u64, run: impl Fn() + Send + Sync + 'static) -> Duration {
    let (run, start) = (Arc::new(run), Arc::new(Barrier::new(3)));
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let (run, start) = (Arc::clone(&run), Arc::clone(&start));
            thread::spawn(move || {
                start.wait();
                for _ in 0..iterations {
                    run();
                }
            })
        })
        .collect();
    start.wait();
    let clock = Clock::default();
    let began = clock.now();
    for thread in threads {
        thread.join().expect("a bench thread");
    }
    clock.now().saturating_duration_since(began)
}

fn bare(c: &mut Criterion) {
    let mut group = c.benchmark_group("bare");
    group.bench_function("ready", |b| b.iter(|| drive(work(black_box(1)))));
    group.bench_function("pending_once", |b| b.iter(|| drive(work_later(black_box(1)))));
    group.finish();
}

fn breaker(config: circuit_breaker::Config) -> CircuitBreaker {
    CircuitBreaker::new("bench", config).expect("a valid config")
}

fn circuit_breaker(c: &mut Criterion) {
    let mut group = c.benchmark_group("circuit_breaker");
    let config = circuit_breaker::Config::default;
    let minute = config().sliding_window_type(circuit_breaker::SlidingWindowType::TimeBased).sliding_window_size(60);
    let configs = [
        ("count", config()),
        ("count_no_slow_calls", config().slow_call_duration_threshold(None)),
        ("time", minute.clone()),
        ("time_no_slow_calls", minute.slow_call_duration_threshold(None)),
    ];
    for (name, config) in configs {
        let closed = breaker(config.clone());
        group.bench_function(format!("closed/{name}"), |b| b.iter(|| drive(closed.call(|| work(black_box(1))))));
        group.bench_function(format!("closed/{name}/two_threads"), |b| {
            let closed = breaker(config.clone());
            b.iter_custom(|iterations| {
                let closed = closed.clone();
                on_two_threads(iterations, move || {
                    let _ = drive(closed.call(|| work(black_box(1))));
                })
            });
        });
    }
    let one_in_ten = breaker(config());
    let mut calls = 0_u32;
    group.bench_function("closed/count/one_in_ten_fails", |b| {
        b.iter(|| {
            calls = calls.wrapping_add(1);
            let failed = calls % 10 == 0;
            drive(one_in_ten.call(|| async move { if failed { Err("down") } else { work(black_box(1)).await } }))
        });
    });
    let open = breaker(config().wait_duration_in_open_state(Duration::from_secs(1 << 30)));
    open.transition_to_open().expect("a legal transition");
    group.bench_function("open", |b| b.iter(|| drive(open.call(|| work(black_box(1))))));
    group.bench_function("permit", |b| {
        let closed = breaker(config());
        b.iter(|| closed.try_acquire().map(|permit| permit.record(Outcome::Success)));
    });
    group.finish();
}

fn retry(c: &mut Criterion) {
    let mut group = c.benchmark_group("retry");
    let retry = Retry::with_defaults("bench");
    group.bench_function("first_attempt_succeeds", |b| b.iter(|| drive(retry.call(|| work(black_box(1))))));
    let none = |_: &Result<u64, resile::Error<&str>>| false;
    let gives_up = retry.retry_if(none);
    group.bench_function("not_retried", |b| b.iter(|| drive(gives_up.call(|| async { Err("down") }))));
    group.finish();
}

fn limiter(config: rate_limiter::Config) -> RateLimiter {
    RateLimiter::new("bench", config).expect("a valid config")
}

/// A permit a nanosecond: never empty, however fast the loop.
fn smooth() -> rate_limiter::Config {
    let config = rate_limiter::Config::default().algorithm(rate_limiter::Algorithm::Smooth);
    config.limit_for_period(1_000_000_000).limit_refresh_period(Duration::from_secs(1))
}

fn rate_limiter(c: &mut Criterion) {
    let mut group = c.benchmark_group("rate_limiter");
    for (name, config) in [("smooth", smooth()), ("fixed_cycle", rate_limiter::Config::default())] {
        let permits = limiter(config.clone());
        group.bench_function(format!("{name}/check"), |b| b.iter(|| permits.try_acquire(1)));
        group.bench_function(format!("{name}/call"), |b| b.iter(|| drive(permits.call(|| work(black_box(1))))));
        group.bench_function(format!("{name}/call/two_threads"), |b| {
            b.iter_custom(|iterations| {
                let permits = limiter(config.clone());
                on_two_threads(iterations, move || {
                    let _ = drive(permits.call(|| work(black_box(1))));
                })
            });
        });
        let hour = config.limit_for_period(1).limit_refresh_period(Duration::from_secs(3600));
        let empty = limiter(hour.timeout_duration(Duration::ZERO));
        let _ = empty.try_acquire(1);
        group.bench_function(format!("{name}/rejected"), |b| b.iter(|| drive(empty.call(|| work(black_box(1))))));
    }
    group.finish();
}

fn bulkhead(c: &mut Criterion) {
    let mut group = c.benchmark_group("bulkhead");
    let places = Bulkhead::with_defaults("bench");
    group.bench_function("admitted", |b| b.iter(|| drive(places.call(|| work(black_box(1))))));
    group.bench_function("admitted/two_threads", |b| {
        b.iter_custom(|iterations| {
            let places = places.clone();
            on_two_threads(iterations, move || {
                let _ = drive(places.call(|| work(black_box(1))));
            })
        });
    });
    let config = bulkhead::Config::default().max_concurrent_calls(1);
    let full = Bulkhead::new("bench", config).expect("a valid config");
    let _permit = full.try_acquire();
    group.bench_function("rejected", |b| b.iter(|| drive(full.call(|| work(black_box(1))))));
    group.finish();
}

fn time_limiter(c: &mut Criterion) {
    let mut group = c.benchmark_group("time_limiter");
    let limiter = TimeLimiter::with_defaults("bench");
    group.bench_function("ready", |b| b.iter(|| drive(limiter.call(|| work(black_box(1))))));
    group.bench_function("pending_once", |b| b.iter(|| drive(limiter.call(|| work_later(black_box(1))))));
    group.finish();
}

fn fallback(c: &mut Criterion) {
    let mut group = c.benchmark_group("fallback");
    let fallback = Fallback::value(|error: resile::Error<&'static str>| Err::<u64, _>(error));
    group.bench_function("not_needed", |b| b.iter(|| drive(fallback.call(|| work(black_box(1))))));
    group.finish();
}

type Five = (Retry, CircuitBreaker, RateLimiter, TimeLimiter, Bulkhead);

fn five() -> Five {
    (
        Retry::with_defaults("bench"),
        CircuitBreaker::with_defaults("bench"),
        limiter(smooth()),
        TimeLimiter::with_defaults("bench"),
        Bulkhead::with_defaults("bench"),
    )
}

fn five_policies(c: &mut Criterion) {
    let mut group = c.benchmark_group("five_policies");
    let pipeline = Pipeline::new(five());
    group.bench_function("pipeline", |b| b.iter(|| drive(pipeline.call(|| work(black_box(1))))));
    group.bench_function("pipeline/two_threads", |b| {
        b.iter_custom(|iterations| {
            let pipeline = pipeline.clone();
            on_two_threads(iterations, move || {
                let _ = drive(pipeline.call(|| work(black_box(1))));
            })
        });
    });
    let call = service_fn(|input: u64| async move { work(input).await.map_err(resile::Error::Inner) });
    let mut layer = ServiceBuilder::new().layer(Pipeline::new(five())).service(call);
    group.bench_function("tower/one_layer", |b| b.iter(|| drive(layer.call(black_box(1)))));
    let (retry, breaker, limiter, time, places) = five();
    let stack = ServiceBuilder::new().layer(retry).layer(breaker).layer(limiter).layer(time).layer(places);
    let mut layers = stack.service(call);
    group.bench_function("tower/five_layers", |b| b.iter(|| drive(layers.call(black_box(1)))));
    group.finish();
}

fn clocks(c: &mut Criterion) {
    let mut group = c.benchmark_group("clock");
    let (system, manual) = (Clock::default(), Clock::from(&ManualClock::starting_at(Default::default())));
    group.bench_function("default", |b| b.iter(|| system.now()));
    group.bench_function("manual", |b| b.iter(|| manual.now()));
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30).warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1200));
    targets = bare, clocks, circuit_breaker, retry, rate_limiter, bulkhead, time_limiter, fallback, five_policies
}
criterion_main!(benches);
