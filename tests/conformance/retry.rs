use std::{
    cell::Cell,
    fs,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use resile::{Clock, Error, IntervalFunction, ManualClock, Retry, event::EventKind, retry};
use serde::Deserialize;

#[derive(Deserialize)]
struct Function {
    kind: String,
    interval_ms: u64,
    multiplier: Option<f64>,
    max_ms: Option<u64>,
    randomization_factor: Option<f64>,
}

impl Function {
    fn build(&self) -> IntervalFunction {
        let interval = Duration::from_millis(self.interval_ms);
        let function = match self.kind.as_str() {
            "fixed" | "random" => IntervalFunction::fixed(interval),
            "exponential" | "exponential_random" => {
                IntervalFunction::exponential(interval, self.multiplier.expect("a multiplier"))
            }
            other => panic!("interval function {other}"),
        };
        let function = match self.randomization_factor {
            Some(factor) => function.randomized(factor),
            None => function,
        };
        match self.max_ms {
            Some(max) => function.max(Duration::from_millis(max)),
            None => function,
        }
    }
}

/// The library truncates to whole milliseconds at each step.
fn alike(ours: Duration, recorded_ms: u64) -> bool {
    let recorded = Duration::from_millis(recorded_ms);
    ours.abs_diff(recorded) <= recorded / 500 + Duration::from_millis(1)
}

#[derive(Deserialize)]
struct Intervals {
    sequences: Vec<Sequence>,
    randomized: Vec<Randomized>,
}

impl Intervals {
    fn recorded() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance/retry_intervals.json");
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    }
}

#[derive(Deserialize)]
struct Sequence {
    function: Function,
    intervals_ms: Vec<u64>,
}

#[test]
fn intervals_are_those_of_resilience4j() {
    let recorded = Intervals::recorded();
    let mut mismatches = Vec::new();
    for (index, sequence) in recorded.sequences.iter().enumerate() {
        let function = sequence.function.build();
        assert_eq!(function.validate(), Ok(()));
        for (attempt, (&recorded, drawn)) in (1..).zip(sequence.intervals_ms.iter().zip(function.intervals())) {
            let ours = function.interval(attempt);
            if ours != drawn || !alike(ours, recorded) {
                mismatches.push(format!("sequence {index}, attempt {attempt}: {ours:?}, recorded {recorded} ms"));
            }
        }
    }
    assert!(!recorded.sequences.is_empty());
    assert!(mismatches.is_empty(), "{}", mismatches.join("\n"));
}

#[derive(Deserialize)]
struct Randomized {
    function: Function,
    per_attempt: Vec<Spread>,
}

/// Of many samples.
#[derive(Deserialize)]
struct Spread {
    attempt: u32,
    min_ms: u64,
    max_ms: u64,
    mean_ms: f64,
}

const SAMPLES: u32 = 20_000;

impl Function {
    /// Theirs is in whole milliseconds at each step, where an interval may be too short to ever grow.
    fn grows(&self) -> bool {
        self.multiplier.is_none_or(|multiplier| (self.interval_ms as f64 * multiplier) as u64 > self.interval_ms)
    }
}

/// With a limit they are meant to differ, since ours holds before the jitter: those are left out, and so are intervals
/// too short to grow by whole milliseconds.
#[test]
fn randomized_intervals_are_spread_as_those_of_resilience4j() {
    let recorded = Intervals::recorded();
    let mut mismatches = Vec::new();
    let mut compared = 0;
    let comparable = |one: &&Randomized| one.function.max_ms.is_none() && one.function.grows();
    for Randomized { function, per_attempt } in recorded.randomized.iter().filter(comparable) {
        let intervals = function.build();
        assert_eq!(intervals.validate(), Ok(()));
        let last = per_attempt.iter().map(|spread| spread.attempt).max().unwrap() as usize;
        let mut drawn = vec![(Duration::MAX, Duration::ZERO, Duration::ZERO); last];
        for seed in 0..SAMPLES {
            for ((min, max, sum), wait) in drawn.iter_mut().zip(intervals.clone().seed(seed.into()).intervals()) {
                *min = wait.min(*min);
                *max = wait.max(*max);
                *sum += wait;
            }
        }
        for spread in per_attempt {
            let (min, max, sum) = drawn[spread.attempt as usize - 1];
            let ours = [min, max, sum / SAMPLES].map(|wait| wait.as_secs_f64() * 1000.0);
            let theirs = [spread.min_ms as f64, spread.max_ms as f64, spread.mean_ms];
            compared += 1;
            if ours.iter().zip(theirs).any(|(ours, theirs)| (ours - theirs).abs() > 1.0 + theirs / 50.0) {
                let (factor, attempt) = (function.randomization_factor, spread.attempt);
                mismatches.push(format!(
                    "{} ms, {factor:?}, attempt {attempt}: {ours:?}, recorded {theirs:?}",
                    function.interval_ms
                ));
            }
        }
    }
    assert!(compared > 0);
    assert!(mismatches.is_empty(), "{}", mismatches.join("\n"));
}

#[derive(Deserialize)]
struct Trace {
    id: String,
    config: Config,
    executions: Vec<Execution>,
}

#[derive(Deserialize)]
struct Config {
    max_attempts: u32,
    retry_on_result_bad: bool,
    fail_after_max_attempts: bool,
    interval: Function,
}

#[derive(Deserialize)]
struct Execution {
    outcomes: Vec<String>,
    expect: Expectation,
}

#[derive(Deserialize, Debug)]
struct Expectation {
    calls: usize,
    sleeps_ms: Vec<u64>,
    result: String,
    successful_without_retry: u64,
    successful_with_retry: u64,
    failed_without_retry: u64,
    failed_with_retry: u64,
    total_calls: u64,
    events: Vec<String>,
}

#[test]
fn runs_are_those_of_resilience4j() {
    crate::replay("retry_runs", |trace: &Trace| &trace.id, run);
}

fn run(trace: &Trace) -> Result<(), String> {
    let clock = Clock::manual();
    let config = retry::Config::default()
        .max_attempts(trace.config.max_attempts)
        .fail_after_max_attempts(trace.config.fail_after_max_attempts)
        .interval_function(trace.config.interval.build())
        .clock(&clock);
    let retry = Retry::new("recorded", config).map_err(|error| error.to_string())?;
    let mut events = retry.events(1000);
    let bad = trace.config.retry_on_result_bad;
    let guarded = retry.retry_if(move |result: &Result<String, Error<String>>| match result {
        Ok(value) => bad && value == "bad",
        Err(error) => error.inner().is_some_and(|error| error != "ignored"),
    });

    for (step, execution) in trace.executions.iter().enumerate() {
        let calls = Cell::new(0);
        let call = guarded.call(|| {
            let outcome = &execution.outcomes[calls.replace(calls.get() + 1)];
            std::future::ready(match outcome.as_str() {
                "ok" | "bad" => Ok(outcome.clone()),
                _ => Err(outcome.clone()),
            })
        });
        let (result, sleeps) = drive(&clock, call);
        let result = match result {
            Ok(value) => format!("return:{value}"),
            Err(Error::Inner(error)) => format!("error:{error}"),
            Err(Error::Rejected(rejected)) => format!("error:{rejected}"),
        };
        let published: Vec<_> = std::iter::from_fn(|| events.try_next()).map(|event| told(&event.kind)).collect();
        let metrics = retry.metrics();
        let expect = &execution.expect;
        let same = calls.get() == expect.calls
            && sleeps.len() == expect.sleeps_ms.len()
            && sleeps.iter().zip(&expect.sleeps_ms).all(|(ours, recorded)| alike(*ours, *recorded))
            && result == expect.result
            && metrics.successful_calls_without_retry_attempt == expect.successful_without_retry
            && metrics.successful_calls_with_retry_attempt == expect.successful_with_retry
            && metrics.failed_calls_without_retry_attempt == expect.failed_without_retry
            && metrics.failed_calls_with_retry_attempt == expect.failed_with_retry
            && metrics.total_calls == expect.total_calls
            && published == expect.events;
        if !same {
            return Err(format!(
                "execution {step}: {} calls, {sleeps:?}, {result}, {metrics:?}, {published:?}; recorded {expect:?}",
                calls.get()
            ));
        }
    }
    Ok(())
}

/// Runs a call to its end. The clock jumps over its waits, which are returned.
fn drive<F: Future>(clock: &ManualClock, call: F) -> (F::Output, Vec<Duration>) {
    let mut call = pin!(call);
    let mut sleeps = Vec::new();
    loop {
        if let Poll::Ready(output) = call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return (output, sleeps);
        }
        let sleep = clock.next_wake().expect("it waits for nothing but the clock");
        sleeps.push(sleep);
        clock.advance(sleep);
    }
}

fn told(event: &EventKind) -> String {
    let attempts = match event {
        EventKind::Retry { attempts, .. } | EventKind::Success { attempts, .. } | EventKind::Error { attempts, .. } => {
            *attempts
        }
        _ => 0,
    };
    format!("{}:{attempts}", event.as_str())
}
