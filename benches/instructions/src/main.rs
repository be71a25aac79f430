//! The calls whose instructions `.ci/instructions` counts, under `valgrind --tool=callgrind`.
//!
//! Each is made [`CALLS`] times within [`measured`], and that twice: what a first call alone does falls in the first.
//! Policies are on a clock that stands still, so that a count depends on no way to tell the time; that way has a row of its
//! own, and so have a few policies that go it. Every row but those of the clocks, the checks and the registry includes the
//! bare call of the first.
#![allow(clippy::print_stdout)]

#[path = "../../support/mod.rs"]
mod support;

use std::{hint::black_box, time::Duration};

use resile::{
    Bulkhead, CircuitBreaker, Clock, Error, Fallback, Outcome, Pipeline, RateLimiter, Registry, Retry, TimeLimiter,
    bulkhead,
    circuit_breaker::{self, SlidingWindowType},
    rate_limiter::{self, Algorithm},
    retry, time_limiter,
};
use tower::{Service, ServiceBuilder, service_fn};

use support::{drive, work, work_later};

const CALLS: u32 = 1_000;

/// Callgrind counts from where this is entered to where it is left. It knows it by its name, so there is one for all.
#[inline(never)]
fn measured(calls: &mut dyn FnMut()) {
    calls();
}

/// A count has no name but the place of this line.
fn row<R>(name: &str, mut call: impl FnMut() -> R) {
    println!("{name} {CALLS}");
    let mut calls = || {
        for _ in 0..CALLS {
            black_box(call());
        }
    };
    measured(&mut calls);
    measured(&mut calls);
}

fn bare() {
    row("bare/ready", || drive(work(black_box(1))));
    row("bare/pending_once", || drive(work_later(black_box(1))));
}

fn clocks(manual: &Clock) {
    for (name, clock) in [("clock/default", &Clock::default()), ("clock/still", manual)] {
        row(name, || black_box(clock).now());
    }
}

fn breaker(config: circuit_breaker::Config) -> CircuitBreaker {
    CircuitBreaker::new("orders", config).expect("a valid config")
}

fn breakers(clock: &Clock) {
    let config = || circuit_breaker::Config::default().clock(clock);
    let minute = || config().sliding_window_type(SlidingWindowType::TimeBased).sliding_window_size(60);
    let forced_open = breaker(config());
    forced_open.transition_to_forced_open().expect("a legal transition");
    let open = breaker(config());
    open.transition_to_open().expect("a legal transition");
    let listened = breaker(config());
    listened.on_event(|event| _ = black_box(event)).forever();
    for (name, breaker) in [
        ("circuit_breaker/count", breaker(config())),
        ("circuit_breaker/count/default_clock", breaker(config().clock(Clock::default()))),
        ("circuit_breaker/count/no_slow_calls", breaker(config().slow_call_duration_threshold(None))),
        ("circuit_breaker/time", breaker(minute())),
        ("circuit_breaker/time/no_slow_calls", breaker(minute().slow_call_duration_threshold(None))),
        ("circuit_breaker/open", open),
        ("circuit_breaker/forced_open", forced_open),
        ("circuit_breaker/count/listener", listened),
    ] {
        row(name, || drive(breaker.call(|| work(black_box(1)))));
    }
    let failing = breaker(config());
    let mut calls = 0_u32;
    row("circuit_breaker/count/one_in_ten_fails", || {
        calls += 1;
        let fails = calls % 10 == 0;
        drive(failing.call(|| async move { if fails { Err("down") } else { work(black_box(1)).await } }))
    });
    let core = breaker(config());
    row("circuit_breaker/permit", || core.try_acquire().map(|permit| permit.record(Outcome::Success)));
}

fn retries(clock: &Clock) {
    let retry = Retry::new("orders", retry::Config::default().clock(clock)).expect("a valid config");
    row("retry/first_attempt", || drive(retry.call(|| work(black_box(1)))));
}

fn limiter(config: rate_limiter::Config) -> RateLimiter {
    RateLimiter::new("orders", config).expect("a valid config")
}

/// So many permits that none of these calls waits for one.
fn plenty(algorithm: Algorithm, clock: &Clock) -> rate_limiter::Config {
    let config = rate_limiter::Config::default().algorithm(algorithm).clock(clock);
    config.limit_for_period(1_000_000_000).limit_refresh_period(Duration::from_secs(1))
}

fn empty(algorithm: Algorithm, clock: &Clock) -> RateLimiter {
    let config = rate_limiter::Config::default().algorithm(algorithm).clock(clock).limit_for_period(1);
    let empty = limiter(config.limit_refresh_period(Duration::from_secs(3600)).timeout_duration(Duration::ZERO));
    empty.drain();
    empty
}

fn limiters(clock: &Clock) {
    let (smooth, fixed) = (limiter(plenty(Algorithm::Smooth, clock)), limiter(plenty(Algorithm::FixedCycle, clock)));
    let default_clock = limiter(plenty(Algorithm::Smooth, &Clock::default()));
    for (name, limiter) in [
        ("rate_limiter/smooth/check", &smooth),
        ("rate_limiter/smooth/check/default_clock", &default_clock),
        ("rate_limiter/fixed_cycle/check", &fixed),
    ] {
        row(name, || limiter.try_acquire(1));
    }
    for (name, limiter) in [
        ("rate_limiter/smooth/call", &smooth),
        ("rate_limiter/smooth/call/default_clock", &default_clock),
        ("rate_limiter/smooth/rejected", &empty(Algorithm::Smooth, clock)),
        ("rate_limiter/fixed_cycle/call", &fixed),
        ("rate_limiter/fixed_cycle/rejected", &empty(Algorithm::FixedCycle, clock)),
    ] {
        row(name, || drive(limiter.call(|| work(black_box(1)))));
    }
}

fn bulkheads(clock: &Clock) {
    let bulkhead = |calls| {
        let config = bulkhead::Config::default().max_concurrent_calls(calls).clock(clock);
        Bulkhead::new("orders", config).expect("a valid config")
    };
    let full = bulkhead(1);
    let _permit = full.try_acquire();
    for (name, bulkhead) in [("bulkhead/admitted", &bulkhead(25)), ("bulkhead/rejected", &full)] {
        row(name, || drive(bulkhead.call(|| work(black_box(1)))));
    }
}

fn time_limiters(clock: &Clock) {
    let new = |clock| TimeLimiter::new("orders", time_limiter::Config::default().clock(clock)).expect("a valid config");
    let limiter = new(clock);
    row("time_limiter/ready", || drive(limiter.call(|| work(black_box(1)))));
    for (name, limiter) in
        [("time_limiter/pending_once", limiter), ("time_limiter/pending_once/default_clock", new(&Clock::default()))]
    {
        row(name, || drive(limiter.call(|| work_later(black_box(1)))));
    }
}

fn fallbacks() {
    let fallback = Fallback::value(|error: Error<&'static str>| Err::<u64, _>(error));
    row("fallback/not_needed", || drive(fallback.call(|| work(black_box(1)))));
}

type Five = (Retry, CircuitBreaker, RateLimiter, TimeLimiter, Bulkhead);

fn five(clock: &Clock) -> Five {
    (
        Retry::new("orders", retry::Config::default().clock(clock)).expect("a valid config"),
        breaker(circuit_breaker::Config::default().clock(clock)),
        limiter(plenty(Algorithm::Smooth, clock)),
        TimeLimiter::new("orders", time_limiter::Config::default().clock(clock)).expect("a valid config"),
        Bulkhead::new("orders", bulkhead::Config::default().clock(clock)).expect("a valid config"),
    )
}

fn five_policies(clock: &Clock) {
    for (name, clock) in [("pipeline", clock), ("pipeline/default_clock", &Clock::default())] {
        let pipeline = Pipeline::new(five(clock));
        row(name, || drive(pipeline.call(|| work(black_box(1)))));
    }
    let call = service_fn(|input: u64| async move { work(input).await.map_err(Error::Inner) });
    let mut service = ServiceBuilder::new().layer(Pipeline::new(five(clock))).service(call);
    row("tower/one_layer", || drive(service.call(black_box(1))));
    let (retry, breaker, limiter, time, places) = five(clock);
    let stack = ServiceBuilder::new().layer(retry).layer(breaker).layer(limiter).layer(time).layer(places);
    let mut service = stack.service(call);
    row("tower/five_layers", || drive(service.call(black_box(1))));
}

fn registries() {
    let registry = Registry::<CircuitBreaker>::new();
    // How many others a name is compared with is chance, since hashes are: this is the average of many names.
    let names: Vec<_> = (0..100).map(|number| format!("host-{number}")).collect();
    let mut name = names.iter().cycle();
    row("registry/get", || registry.get(name.next().expect("a cycle")));
}

fn main() {
    let still = Clock::from(&Clock::manual());
    bare();
    clocks(&still);
    breakers(&still);
    retries(&still);
    limiters(&still);
    bulkheads(&still);
    time_limiters(&still);
    fallbacks();
    five_policies(&still);
    registries();
}
