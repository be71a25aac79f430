//! What metrics add to a call, and what a scrape takes.
//!
//! `cargo bench --bench metrics --features metrics`. The same call is measured without and with metrics in turns, so that
//! whatever else the machine does falls on both; the medians of the turns are told, and the median of their differences.

#![allow(clippy::print_stdout)]

mod support;

use std::{hint::black_box, sync::Arc, thread};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use resile::{
    Bulkhead, CircuitBreaker, Clock, Pipeline, RateLimiter, Retry, TimeLimiter, circuit_breaker, metrics, rate_limiter,
};

use support::{drive, work};

const TURNS: usize = 201;
const CALLS: u32 = 20_000;
const SECOND: std::time::Duration = std::time::Duration::from_secs(1);

/// Nanoseconds a call.
fn turn(mut call: impl FnMut()) -> f64 {
    let clock = Clock::default();
    let began = clock.now();
    for _ in 0..CALLS {
        call();
    }
    clock.now().saturating_duration_since(began).as_nanos() as f64 / f64::from(CALLS)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn compare(what: &str, mut without: impl FnMut(), mut with: impl FnMut()) {
    turn(&mut without);
    turn(&mut with);
    let turns: Vec<_> = (0..TURNS)
        .map(|at| {
            // Each is first as often as second.
            if at % 2 == 0 {
                let without = turn(&mut without);
                (without, turn(&mut with))
            } else {
                let with = turn(&mut with);
                (turn(&mut without), with)
            }
        })
        .collect();
    let without = median(turns.iter().map(|turn| turn.0).collect());
    let with = median(turns.iter().map(|turn| turn.1).collect());
    let added = median(turns.iter().map(|turn| turn.1 - turn.0).collect());
    println!("{what:<44} {without:>7.1} ns {with:>7.1} ns  +{added:>5.1} ns  {:.2}", with / without);
}

fn breaker(config: circuit_breaker::Config) -> CircuitBreaker {
    CircuitBreaker::new("bench", config).expect("a valid config")
}

fn plain() -> CircuitBreaker {
    breaker(circuit_breaker::Config::default())
}

fn unmeasured() -> CircuitBreaker {
    breaker(circuit_breaker::Config::default().slow_call_duration_threshold(None))
}

fn bound<P: metrics::Metered>(instance: P) -> P {
    metrics::bind(&instance);
    instance
}

fn limiter() -> RateLimiter {
    let config = rate_limiter::Config::default().limit_for_period(1_000_000_000).limit_refresh_period(SECOND);
    RateLimiter::new("bench", config.algorithm(rate_limiter::Algorithm::Smooth)).expect("a valid config")
}

type Five = Pipeline<(Retry, CircuitBreaker, RateLimiter, TimeLimiter, Bulkhead)>;

fn five() -> Five {
    Pipeline::new((
        Retry::with_defaults("bench"),
        plain(),
        limiter(),
        TimeLimiter::with_defaults("bench"),
        Bulkhead::with_defaults("bench"),
    ))
}

fn five_bound() -> Five {
    let five = five();
    let (retry, breaker, limiter, time_limiter, bulkhead) = five.policies();
    metrics::bind(retry);
    metrics::bind(breaker);
    metrics::bind(limiter);
    metrics::bind(time_limiter);
    metrics::bind(bulkhead);
    five
}

fn calls() {
    println!("{:<44} {:>10} {:>10}  {:>8}  ratio", "a permitted call through", "without", "with", "added");
    let (without, with) = (plain(), bound(plain()));
    compare("a breaker", || drop(drive(without.call(|| work(1)))), || drop(drive(with.call(|| work(1)))));
    let (without, with) = (unmeasured(), bound(unmeasured()));
    compare(
        "a breaker that times no call by itself",
        || drop(drive(without.call(|| work(1)))),
        || drop(drive(with.call(|| work(1)))),
    );
    let (without, with) = (Bulkhead::with_defaults("bench"), bound(Bulkhead::with_defaults("bench")));
    compare("a bulkhead", || drop(drive(without.call(|| work(1)))), || drop(drive(with.call(|| work(1)))));
    let (without, with) = (limiter(), bound(limiter()));
    compare("a rate limiter", || drop(drive(without.call(|| work(1)))), || drop(drive(with.call(|| work(1)))));
    let (without, with) = (TimeLimiter::with_defaults("bench"), bound(TimeLimiter::with_defaults("bench")));
    compare("a time limiter", || drop(drive(without.call(|| work(1)))), || drop(drive(with.call(|| work(1)))));
    let (without, with) = (Retry::with_defaults("bench"), bound(Retry::with_defaults("bench")));
    compare("a retry", || drop(drive(without.call(|| work(1)))), || drop(drive(with.call(|| work(1)))));
    let (without, with) = (five(), five_bound());
    compare("all five", || drop(drive(without.call(|| work(1)))), || drop(drive(with.call(|| work(1)))));

    let (open, metered) = (plain(), bound(plain()));
    open.transition_to_forced_open().expect("legal");
    metered.transition_to_forced_open().expect("legal");
    compare(
        "a breaker that rejects it",
        || drop(drive(open.call(|| work(1)))),
        || drop(drive(metered.call(|| work(1)))),
    );
}

/// One breaker and two threads.
fn shared_call() {
    let run = |breaker: &Arc<CircuitBreaker>| {
        let other = Arc::clone(breaker);
        let thread = thread::spawn(move || turn(|| drop(drive(other.call(|| work(1))))));
        let own = turn(|| drop(drive(breaker.call(|| work(1)))));
        own.max(thread.join().expect("a bench thread"))
    };
    let (without, with) = (Arc::new(plain()), Arc::new(bound(plain())));
    let turns: Vec<_> = (0..TURNS).map(|_| (run(&without), run(&with))).collect();
    let without = median(turns.iter().map(|turn| turn.0).collect());
    let with = median(turns.iter().map(|turn| turn.1).collect());
    println!("{:<44} {without:>7.1} ns {with:>7.1} ns", "a breaker that two threads share, each");
}

/// What the recorder's own histogram would add, were it told of each call.
fn histogram(prometheus: &PrometheusHandle) {
    let histogram = ::metrics::histogram!("bench_seconds", "name" => "bench");
    let nothing = || {
        black_box(1.0);
    };
    compare("the exporter's histogram instead, one record", nothing, || histogram.record(black_box(0.001)));
    prometheus.run_upkeep();
}

fn scrapes(prometheus: &PrometheusHandle) {
    let instances: Vec<_> = (0..100)
        .map(|at| {
            let name = format!("instance-{at}");
            let breaker = bound(CircuitBreaker::with_defaults(name.as_str()));
            let retry = bound(Retry::with_defaults(name.as_str()));
            let limiter = bound(RateLimiter::with_defaults(name.as_str()));
            let time_limiter = bound(TimeLimiter::with_defaults(name.as_str()));
            let bulkhead = bound(Bulkhead::with_defaults(name.as_str()));
            (breaker, retry, limiter, time_limiter, bulkhead)
        })
        .collect();
    scrape("500 instances, 100 of each kind", prometheus);
    drop(instances);
    let breakers: Vec<_> = (0..500).map(|at| bound(CircuitBreaker::with_defaults(format!("breaker-{at}")))).collect();
    scrape("500 breakers", prometheus);
    drop(breakers);
}

fn scrape(what: &str, prometheus: &PrometheusHandle) {
    let clock = Clock::default();
    let millis = |run: &mut dyn FnMut()| {
        let began = clock.now();
        run();
        clock.now().saturating_duration_since(began).as_secs_f64() * 1000.0
    };
    let first = millis(&mut metrics::refresh);
    let refresh = median((0..21).map(|_| millis(&mut metrics::refresh)).collect());
    let mut bytes = 0;
    let render = median((0..5).map(|_| millis(&mut || bytes = prometheus.render().len())).collect());
    println!(
        "scrape of {what}: first refresh {first:.1} ms, refresh {refresh:.2} ms, render {render:.1} ms, {bytes} bytes"
    );
}

fn main() {
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let prometheus = PrometheusBuilder::new().install_recorder().expect("the first recorder");
    metrics::refresh();
    calls();
    shared_call();
    histogram(&prometheus);
    scrapes(&prometheus);
}
