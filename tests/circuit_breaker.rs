//! The circuit breaker, through the public API, on a clock that is advanced by hand.

use std::{
    future::{Future, pending, ready},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::{Pin, pin},
    sync::{
        Arc, Barrier, OnceLock,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use parking_lot::Mutex;
use resile::{
    BulkheadFull, CircuitBreaker, CircuitOpen, Clock, Error, IntervalFunction, InvalidConfig, ManualClock, Outcome,
    Rejected, RetriesExhausted, Subscription, TimedOut, Verdict,
    circuit_breaker::{Config, Metrics, OwnedPermit, SlidingWindowType, State},
    clock::Instant,
    event::EventKind,
};

use Outcome::{Failure, Ignored, Success};

const NANO: Duration = Duration::from_nanos(1);
const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
const STATES: [State; 6] =
    [State::Closed, State::Open, State::HalfOpen, State::Disabled, State::ForcedOpen, State::MetricsOnly];

fn on(clock: &ManualClock) -> Config {
    Config::default().clock(clock)
}

fn breaker(config: Config) -> CircuitBreaker {
    CircuitBreaker::new("orders", config).expect("settings that can be")
}

/// A window of so many calls, all of which must be there before a rate is taken.
fn small(clock: &ManualClock, calls: u32) -> Config {
    on(clock).sliding_window_size(calls)
}

fn record(breaker: &CircuitBreaker, outcomes: &[Outcome]) {
    for outcome in outcomes {
        breaker.try_acquire().expect("admitted").record(*outcome);
    }
}

fn took(breaker: &CircuitBreaker, elapsed: Duration, outcome: Outcome) {
    breaker.try_acquire().expect("admitted").record_elapsed(elapsed, outcome);
}

fn admits(breaker: &CircuitBreaker) -> bool {
    breaker.try_acquire().is_ok()
}

fn refused(breaker: &CircuitBreaker) -> CircuitOpen {
    match breaker.try_acquire() {
        Err(Rejected::CircuitOpen(open)) => open,
        other => panic!("not refused: {other:?}"),
    }
}

fn take(breaker: &CircuitBreaker, permits: usize) -> Vec<OwnedPermit> {
    (0..permits).map(|_| breaker.try_acquire_owned().expect("admitted")).collect()
}

fn go_to(breaker: &CircuitBreaker, state: State) -> Result<(), resile::circuit_breaker::IllegalTransition> {
    match state {
        State::Closed => breaker.transition_to_closed(),
        State::Open => breaker.transition_to_open(),
        State::HalfOpen => breaker.transition_to_half_open(),
        State::Disabled => breaker.transition_to_disabled(),
        State::ForcedOpen => breaker.transition_to_forced_open(),
        State::MetricsOnly => breaker.transition_to_metrics_only(),
    }
}

fn in_state(config: Config, state: State) -> CircuitBreaker {
    breaker(config.initial_state(state))
}

fn half_open(config: Config) -> CircuitBreaker {
    in_state(config, State::HalfOpen)
}

/// Buffered, failed, slow, slow and failed.
fn counts(breaker: &CircuitBreaker) -> [u32; 4] {
    let metrics = breaker.metrics();
    [metrics.buffered_calls, metrics.failed_calls, metrics.slow_calls, metrics.slow_failed_calls]
}

fn without_late(metrics: Metrics) -> String {
    let mut metrics = metrics;
    metrics.late_results = 0;
    format!("{metrics:?}")
}

fn unwind_with<T>(held: T) {
    let unwound = catch_unwind(AssertUnwindSafe(move || {
        let _held = held;
        resume_unwind(Box::new("the call's own"));
    }));
    assert!(unwound.is_err());
}

fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// For calls that never wait.
fn now<F: Future>(future: F) -> F::Output {
    match poll_once(pin!(future)) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits"),
    }
}

/// What a breaker publishes, with the nanosecond it is of.
struct Heard {
    events: Arc<Mutex<Vec<(u64, EventKind)>>>,
    _subscription: Subscription,
}

impl Heard {
    fn of(breaker: &CircuitBreaker) -> Self {
        let events = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&events);
        let subscription = breaker.on_event(move |event| heard.lock().push((event.at.as_nanos(), event.kind.clone())));
        Self { events, _subscription: subscription }
    }

    fn take(&self) -> Vec<(u64, EventKind)> {
        std::mem::take(&mut self.events.lock())
    }

    /// Names, and both states of a transition.
    fn names(&self) -> Vec<String> {
        let name = |(_, kind): (u64, EventKind)| match kind {
            EventKind::StateTransition { from, to, .. } => format!("{from}>{to}"),
            kind => kind.as_str().to_owned(),
        };
        self.take().into_iter().map(name).collect()
    }
}

// Settings

#[test]
fn a_setting_that_cannot_be_is_refused_with_its_name_its_value_and_the_rule() {
    let default = Config::default;
    let percent = "must be more than 0 and at most 100 percent";
    let calls = "must be 1 to 16777216 calls";
    let seconds = "must be 1 to 86400 seconds";
    let open_or_closed = "must be Open or Closed";
    let threshold = "must be more than zero, or None to count no call as slow";
    let both = "must not be set together with wait_duration_in_open_state";
    let interval = "wait_interval_function_in_open_state";
    let time = || Config::default().sliding_window_type(SlidingWindowType::TimeBased);
    let by = |function| Config::default().wait_interval_function_in_open_state(function);
    let cases: Vec<(Config, &str, &str, &str)> = vec![
        (default().failure_rate_threshold(0.0), "failure_rate_threshold", "0.0", percent),
        (default().failure_rate_threshold(-0.0), "failure_rate_threshold", "-0.0", percent),
        (default().failure_rate_threshold(-1.0), "failure_rate_threshold", "-1.0", percent),
        (default().failure_rate_threshold(100.1), "failure_rate_threshold", "100.1", percent),
        (default().failure_rate_threshold(f32::NAN), "failure_rate_threshold", "NaN", percent),
        (default().failure_rate_threshold(f32::INFINITY), "failure_rate_threshold", "inf", percent),
        (default().slow_call_rate_threshold(0.0), "slow_call_rate_threshold", "0.0", percent),
        (default().slow_call_rate_threshold(101.0), "slow_call_rate_threshold", "101.0", percent),
        (default().slow_call_rate_threshold(f32::NAN), "slow_call_rate_threshold", "NaN", percent),
        (default().slow_call_duration_threshold(Duration::ZERO), "slow_call_duration_threshold", "0ns", threshold),
        (
            default().permitted_number_of_calls_in_half_open_state(0),
            "permitted_number_of_calls_in_half_open_state",
            "0",
            calls,
        ),
        (
            default().permitted_number_of_calls_in_half_open_state(16_777_217),
            "permitted_number_of_calls_in_half_open_state",
            "16777217",
            calls,
        ),
        (
            default().minimum_number_of_calls_in_half_open_state(0),
            "minimum_number_of_calls_in_half_open_state",
            "0",
            "must be 1 to the permitted_number_of_calls_in_half_open_state of 10 calls",
        ),
        (
            default().permitted_number_of_calls_in_half_open_state(3).minimum_number_of_calls_in_half_open_state(4),
            "minimum_number_of_calls_in_half_open_state",
            "4",
            "must be 1 to the permitted_number_of_calls_in_half_open_state of 3 calls",
        ),
        (default().sliding_window_size(0), "sliding_window_size", "0", calls),
        (default().sliding_window_size(16_777_217), "sliding_window_size", "16777217", calls),
        (time().sliding_window_size(0), "sliding_window_size", "0", seconds),
        (time().sliding_window_size(86_401), "sliding_window_size", "86401", seconds),
        (default().minimum_number_of_calls(0), "minimum_number_of_calls", "0", "must be at least 1"),
        (time().minimum_number_of_calls(0), "minimum_number_of_calls", "0", "must be at least 1"),
        (
            default().sliding_window_size(10).minimum_number_of_calls(11),
            "minimum_number_of_calls",
            "11",
            "must be at most the sliding_window_size of 10 calls",
        ),
        (
            default().wait_duration_in_open_state(Duration::ZERO),
            "wait_duration_in_open_state",
            "0ns",
            "must be more than zero",
        ),
        (
            by(IntervalFunction::fixed(SECOND)).wait_duration_in_open_state(SECOND),
            interval,
            "IntervalFunction { curve: fixed(1s), max: None, jitter: None, contradicted: None, seed: None }",
            both,
        ),
        (
            by(IntervalFunction::exponential(Duration::ZERO, 2.0)),
            interval,
            "0ns",
            "the initial interval must be more than zero",
        ),
        (
            by(IntervalFunction::exponential(SECOND, f64::NAN)),
            interval,
            "NaN",
            "the multiplier must be finite and more than zero",
        ),
        (
            by(IntervalFunction::fixed(SECOND).randomized(1.5)),
            interval,
            "1.5",
            "the randomization factor must be from 0 to 1",
        ),
    ];
    for (config, field, value, rule) in cases {
        let error: InvalidConfig = CircuitBreaker::new("orders", config).expect_err(field);
        assert_eq!((error.field, error.value.as_str(), &*error.rule), (field, value, rule));
        assert_eq!(error.to_string(), format!("{field} = {value}: {rule}"));
    }
    for state in STATES {
        let result = CircuitBreaker::new("orders", default().transition_to_state_after_wait_duration(state));
        if matches!(state, State::Open | State::Closed) {
            assert!(result.is_ok(), "{state}");
        } else {
            let error = result.expect_err("no way out of half-open");
            assert_eq!(error.field, "transition_to_state_after_wait_duration");
            assert_eq!((error.value, &*error.rule), (format!("{state:?}"), open_or_closed));
        }
    }
}

#[test]
fn settings_at_their_limits_are_accepted() {
    let default = Config::default;
    let time = || Config::default().sliding_window_type(SlidingWindowType::TimeBased);
    for config in [
        default().failure_rate_threshold(100.0).slow_call_rate_threshold(f32::MIN_POSITIVE),
        default().slow_call_duration_threshold(NANO).wait_duration_in_open_state(NANO),
        default().slow_call_duration_threshold(Duration::MAX).wait_duration_in_open_state(Duration::MAX),
        default().max_trial_call_duration(Duration::MAX).max_wait_duration_in_half_open_state(Duration::MAX),
        default().sliding_window_size(1).minimum_number_of_calls(1),
        default().sliding_window_size(16_777_216).minimum_number_of_calls(16_777_216),
        default().permitted_number_of_calls_in_half_open_state(16_777_216),
        default().permitted_number_of_calls_in_half_open_state(1).minimum_number_of_calls_in_half_open_state(1),
        time().sliding_window_size(86_400).minimum_number_of_calls(u32::MAX),
    ] {
        assert!(CircuitBreaker::new("orders", config).is_ok());
    }
}

#[test]
fn the_defaults_are_resilience4j_s() {
    let clock = Clock::manual();
    let breaker = breaker(on(&clock));
    for call in 0..50 {
        took(&breaker, 61 * SECOND, Success);
        assert_eq!(breaker.metrics().slow_calls, call + 1);
    }
    took(&breaker, 60 * SECOND, Success);
    record(&breaker, &[Success; 48]);
    assert_eq!((breaker.metrics().failure_rate, breaker.metrics().buffered_calls), (None, 99));
    record(&breaker, &[Failure; 50]);
    assert_eq!((breaker.state(), breaker.metrics().buffered_calls), (State::Open, 100));
    clock.advance(60 * SECOND);
    assert!(!admits(&breaker));
    clock.advance(NANO);
    let trials = take(&breaker, 10);
    assert!(!admits(&breaker));
    clock.advance(YEAR);
    // Only the lease of the trial calls ends, not the state by itself: they have failed.
    assert_eq!(breaker.state(), State::Open);
    drop(trials);
}

#[test]
fn a_minimum_left_alone_follows_a_smaller_count_window_but_not_a_time_window() {
    let clock = Clock::manual();
    let counted = breaker(small(&clock, 3));
    record(&counted, &[Failure, Failure]);
    assert_eq!(counted.metrics().failure_rate, None);
    record(&counted, &[Failure]);
    assert_eq!(counted.state(), State::Open);
    let timed = breaker(small(&clock, 3).sliding_window_type(SlidingWindowType::TimeBased));
    record(&timed, &[Failure; 99]);
    assert_eq!((timed.state(), timed.metrics().failure_rate), (State::Closed, None));
    record(&timed, &[Failure]);
    assert_eq!(timed.state(), State::Open);
}

#[test]
fn a_time_window_may_ask_for_more_calls_than_ever_come_and_then_never_trips() {
    let clock = Clock::manual();
    let breaker =
        breaker(small(&clock, 1).sliding_window_type(SlidingWindowType::TimeBased).minimum_number_of_calls(11));
    for _ in 0..100 {
        record(&breaker, &[Failure; 10]);
        clock.advance(SECOND);
    }
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn a_breaker_tells_its_name_and_settings_and_a_clone_is_the_same_breaker() {
    let clock = Clock::manual();
    let breaker = breaker(small(&clock, 1));
    let clone = breaker.clone();
    record(&clone, &[Failure]);
    assert_eq!((breaker.name(), breaker.state()), ("orders", State::Open));
    assert!(format!("{:?}", breaker.config()).contains("sliding_window_size: 1"));
}

// Transitions

#[test]
fn every_pair_of_states_is_a_legal_transition_or_an_error_that_names_both_and_changes_nothing() {
    for from in STATES {
        for to in STATES {
            let clock = Clock::manual();
            let breaker = in_state(small(&clock, 9), from);
            let _call = breaker.try_acquire();
            let heard = Heard::of(&breaker);
            let before = breaker.metrics();
            let illegal = matches!(
                (from, to),
                (State::Closed, State::HalfOpen) | (State::MetricsOnly, State::Open | State::HalfOpen)
            );
            match go_to(&breaker, to) {
                Ok(()) => {
                    assert!(!illegal, "{from} to {to}");
                    let generation = before.generation + 1;
                    assert_eq!((breaker.state(), breaker.metrics().generation), (to, generation));
                    let transition = EventKind::StateTransition { from, to, generation };
                    assert_eq!(heard.take(), if from == to { vec![] } else { vec![(0, transition)] });
                }
                Err(error) => {
                    assert!(illegal, "{from} to {to}");
                    assert_eq!((&*error.name, error.from, error.to), ("orders", from, to));
                    let said =
                        format!("circuit breaker 'orders' tried an illegal state transition from {from} to {to}");
                    assert_eq!(error.to_string(), said);
                    assert_eq!(breaker.metrics(), before);
                    assert_eq!(heard.take(), []);
                }
            }
        }
    }
}

#[test]
fn opening_for_a_time_is_as_legal_as_opening() {
    for from in STATES {
        let clock = Clock::manual();
        let breaker = in_state(small(&clock, 9), from);
        let before = breaker.metrics();
        let ways = [breaker.transition_to_open_for(SECOND), breaker.transition_to_open_until(clock.now())];
        for result in ways {
            assert_eq!(result.is_ok(), from != State::MetricsOnly, "{from}");
            if let Err(error) = result {
                assert_eq!((error.from, error.to), (State::MetricsOnly, State::Open));
                assert_eq!(breaker.metrics(), before);
            }
        }
    }
}

#[test]
fn a_transition_to_the_same_state_starts_it_afresh() {
    let clock = Clock::manual();
    let closed = breaker(small(&clock, 9));
    record(&closed, &[Failure]);
    closed.transition_to_closed().unwrap();
    assert_eq!(counts(&closed), [0; 4]);

    let open = in_state(small(&clock, 9), State::Open);
    clock.advance(50 * SECOND);
    open.transition_to_open().unwrap();
    assert_eq!(refused(&open).retry_after(), Some(60 * SECOND + NANO));

    let half_open = half_open(small(&clock, 9).permitted_number_of_calls_in_half_open_state(2));
    let _old = take(&half_open, 2);
    half_open.transition_to_half_open().unwrap();
    assert_eq!(take(&half_open, 2).len(), 2);
}

#[test]
fn opening_keeps_the_numbers_and_every_other_transition_forgets_them() {
    for to in STATES {
        let clock = Clock::manual();
        let breaker = breaker(small(&clock, 9));
        record(&breaker, &[Failure, Success]);
        breaker.transition_to_open().unwrap();
        assert!(!admits(&breaker));
        go_to(&breaker, to).unwrap();
        let metrics = breaker.metrics();
        let kept = if to == State::Open { (2, 1) } else { (0, 0) };
        assert_eq!((metrics.buffered_calls, metrics.not_permitted_calls), kept, "{to}");
    }
}

#[test]
fn reset_closes_from_every_state_and_forgets_everything() {
    for from in STATES {
        let clock = Clock::manual();
        let breaker = in_state(small(&clock, 9), from);
        let _call = breaker.try_acquire();
        let heard = Heard::of(&breaker);
        breaker.reset();
        assert_eq!((breaker.state(), counts(&breaker)), (State::Closed, [0; 4]));
        assert_eq!((breaker.metrics().not_permitted_calls, breaker.metrics().outstanding_trial_calls), (0, 0));
        let transition = format!("{from}>CLOSED");
        let expected = if from == State::Closed { vec!["RESET"] } else { vec![transition.as_str(), "RESET"] };
        assert_eq!(heard.names(), expected);
    }
}

#[test]
fn a_breaker_may_start_in_any_state() {
    for state in STATES {
        let clock = Clock::manual();
        let breaker = in_state(on(&clock), state);
        assert_eq!(breaker.state(), state);
        let admitted = !matches!(state, State::Open | State::ForcedOpen);
        assert_eq!(breaker.is_call_permitted(), admitted);
        assert_eq!(admits(&breaker), admitted);
        assert_eq!(counts(&breaker), [0; 4]);
    }
}

#[test]
fn the_wait_of_an_initially_open_circuit_begins_when_it_is_made() {
    let clock = Clock::manual();
    clock.advance(7 * SECOND);
    let waits = IntervalFunction::exponential(5 * SECOND, 2.0);
    let breaker = in_state(on(&clock).wait_interval_function_in_open_state(waits), State::Open);
    assert_eq!(refused(&breaker).retry_after(), Some(5 * SECOND + NANO));
}

#[test]
fn initial_open_half_open_and_forced_open_count_as_the_first_attempt() {
    for state in [State::Open, State::HalfOpen, State::ForcedOpen] {
        let clock = Clock::manual();
        let waits = IntervalFunction::exponential(5 * SECOND, 2.0);
        let breaker = in_state(on(&clock).wait_interval_function_in_open_state(waits), state);
        breaker.transition_to_open().unwrap();
        assert_eq!(refused(&breaker).retry_after(), Some(10 * SECOND + NANO), "{state}");
    }
}

// What decides between the states

fn twenty_seconds(clock: &ManualClock) -> Config {
    on(clock)
        .failure_rate_threshold(50.0)
        .slow_call_duration_threshold(4 * SECOND)
        .slow_call_rate_threshold(50.0)
        .sliding_window_type(SlidingWindowType::TimeBased)
        .sliding_window_size(20)
        .minimum_number_of_calls(5)
        .permitted_number_of_calls_in_half_open_state(4)
        .max_wait_duration_in_half_open_state(SECOND)
        .wait_duration_in_open_state(5 * SECOND)
}

#[test]
fn a_circuit_opens_as_soon_as_the_rate_reaches_the_threshold() {
    let clock = Clock::manual();
    let breaker = breaker(twenty_seconds(&clock));
    for outcome in [Success, Success, Success, Failure, Failure] {
        record(&breaker, &[outcome]);
        clock.advance(SECOND);
    }
    assert_eq!((breaker.state(), breaker.metrics().failure_rate), (State::Closed, Some(40.0)));
    record(&breaker, &[Failure]);
    assert_eq!((breaker.state(), breaker.metrics().failure_rate), (State::Open, Some(50.0)));
}

#[test]
fn a_success_that_completes_the_minimum_opens_the_circuit() {
    let clock = Clock::manual();
    let breaker = breaker(twenty_seconds(&clock));
    let heard = Heard::of(&breaker);
    for outcome in [Failure, Failure, Failure, Success] {
        record(&breaker, &[outcome]);
        assert_eq!((breaker.state(), breaker.metrics().failure_rate), (State::Closed, None));
    }
    heard.take();
    record(&breaker, &[Success]);
    assert_eq!((breaker.state(), breaker.metrics().failure_rate), (State::Open, Some(60.0)));
    assert_eq!(counts(&breaker), [5, 3, 0, 0]);
    assert_eq!(heard.names(), ["SUCCESS", "FAILURE_RATE_EXCEEDED", "CLOSED>OPEN"]);
    assert!(!admits(&breaker));
    assert_eq!(breaker.metrics().not_permitted_calls, 1);
}

#[test]
fn a_snapshot_says_when_an_open_circuit_admits_a_call_and_takes_no_permit_for_it() {
    let clock = Clock::manual();
    let breaker = breaker(on(&clock).wait_duration_in_open_state(10 * SECOND));
    assert_eq!(breaker.metrics().retry_after, None);
    breaker.transition_to_open().expect("legal");
    assert_eq!(breaker.metrics().retry_after, refused(&breaker).retry_after());
    clock.advance(4 * SECOND);
    assert_eq!(breaker.metrics().retry_after, Some(6 * SECOND + NANO));
    clock.advance(7 * SECOND);
    let metrics = breaker.metrics();
    assert_eq!((metrics.state, metrics.retry_after), (State::Open, Some(Duration::ZERO)));
    assert_eq!(metrics.not_permitted_calls, 1);
    for state in STATES.into_iter().filter(|state| *state != State::Open) {
        assert_eq!(in_state(on(&clock), state).metrics().retry_after, None, "{state}");
    }
}

#[test]
fn slow_calls_open_the_circuit_failed_or_not() {
    let clock = Clock::manual();
    let breaker = breaker(twenty_seconds(&clock).failure_rate_threshold(100.0));
    let heard = Heard::of(&breaker);
    took(&breaker, 5 * SECOND, Failure);
    took(&breaker, 5 * SECOND, Success);
    took(&breaker, 100 * MS, Failure);
    took(&breaker, 100 * MS, Success);
    assert_eq!((breaker.state(), breaker.metrics().slow_call_rate), (State::Closed, None));
    heard.take();
    took(&breaker, 5 * SECOND, Success);
    assert_eq!((breaker.state(), breaker.metrics().slow_call_rate), (State::Open, Some(60.0)));
    assert_eq!(counts(&breaker), [5, 2, 3, 1]);
    assert_eq!((breaker.metrics().slow_successful_calls(), breaker.metrics().successful_calls()), (2, 3));
    assert_eq!(heard.names(), ["SUCCESS", "SLOW_CALL_RATE_EXCEEDED", "CLOSED>OPEN"]);
}

#[test]
fn the_first_call_after_the_wait_half_opens_the_circuit_with_fresh_numbers() {
    let clock = Clock::manual();
    let breaker = breaker(twenty_seconds(&clock));
    record(&breaker, &[Failure; 5]);
    clock.advance(3 * SECOND);
    assert!(!admits(&breaker) && !admits(&breaker));
    assert_eq!(breaker.metrics().not_permitted_calls, 2);
    clock.advance(3 * SECOND);
    assert_eq!(breaker.state(), State::Open);
    let _trial = breaker.try_acquire().unwrap();
    let metrics = breaker.metrics();
    assert_eq!((metrics.state, metrics.not_permitted_calls), (State::HalfOpen, 0));
    assert_eq!((counts(&breaker), metrics.failure_rate, metrics.slow_call_rate), ([0; 4], None, None));
}

#[test]
fn a_circuit_opened_for_or_until_stays_open_as_long_as_it_was_told() {
    let clock = Clock::manual();
    clock.advance(SECOND);
    let breaker = breaker(twenty_seconds(&clock));
    breaker.transition_to_open_for(7200 * SECOND).unwrap();
    clock.advance(7200 * SECOND);
    assert!(!admits(&breaker));
    clock.advance(NANO);
    assert!(admits(&breaker));
    breaker.transition_to_open_until(clock.now().saturating_add(1800 * SECOND)).unwrap();
    clock.advance(1800 * SECOND);
    assert!(!admits(&breaker));
    clock.advance(NANO);
    assert!(admits(&breaker));
    breaker.transition_to_open_until(Instant::from_nanos(0)).unwrap();
    assert_eq!(refused(&breaker).retry_after(), Some(NANO));
}

#[test]
fn the_open_wait_grows_while_the_trials_fail_and_starts_over_after_closing() {
    let clock = Clock::manual();
    let config = small(&clock, 1)
        .permitted_number_of_calls_in_half_open_state(1)
        .wait_interval_function_in_open_state(IntervalFunction::exponential(5 * SECOND, 1.5));
    let breaker = breaker(config);
    record(&breaker, &[Failure]);
    assert_eq!(refused(&breaker).retry_after(), Some(5 * SECOND + NANO));
    clock.advance(5 * SECOND + NANO);
    record(&breaker, &[Failure]);
    clock.advance(6 * SECOND);
    assert_eq!(refused(&breaker).retry_after(), Some(1500 * MS + NANO));
    clock.advance(1500 * MS + NANO);
    record(&breaker, &[Success, Failure]);
    assert_eq!(refused(&breaker).retry_after(), Some(5 * SECOND + NANO));
}

#[test]
fn half_open_admits_as_many_calls_as_permitted_and_again_after_reopening() {
    let clock = Clock::manual();
    let breaker = half_open(twenty_seconds(&clock).max_wait_duration_in_half_open_state(Duration::ZERO));
    let mut trials = take(&breaker, 4);
    assert!(!admits(&breaker) && !admits(&breaker));
    assert_eq!(breaker.metrics().not_permitted_calls, 2);
    trials.pop().unwrap().release();
    trials.extend(take(&breaker, 1));
    assert!(!admits(&breaker));
    for trial in trials {
        trial.failure();
    }
    assert_eq!(breaker.state(), State::Open);
    clock.advance(5 * SECOND + NANO);
    let _trials = take(&breaker, 4);
    assert!(!admits(&breaker));
}

#[test]
fn the_trials_decide_by_the_same_thresholds() {
    let clock = Clock::manual();
    let failing = half_open(twenty_seconds(&clock));
    record(&failing, &[Failure, Failure, Success, Failure]);
    assert_eq!((failing.state(), failing.metrics().failure_rate), (State::Open, Some(75.0)));

    let slow = half_open(twenty_seconds(&clock));
    let heard = Heard::of(&slow);
    for elapsed in [5 * SECOND, 5 * SECOND, 5 * SECOND, SECOND] {
        took(&slow, elapsed, Success);
    }
    assert_eq!((slow.state(), slow.metrics().slow_call_rate), (State::Open, Some(75.0)));
    assert_eq!(slow.metrics().failure_rate, Some(0.0));
    // No rate is exceeded in public: a half-open circuit only opens again.
    assert_eq!(heard.names(), ["SUCCESS", "SUCCESS", "SUCCESS", "SUCCESS", "HALF_OPEN>OPEN"]);

    let recovered = half_open(twenty_seconds(&clock));
    record(&recovered, &[Failure, Success, Success, Success]);
    assert_eq!((recovered.state(), counts(&recovered)), (State::Closed, [0; 4]));
    record(&recovered, &[Success]);
    assert_eq!(recovered.metrics().buffered_calls, 1);
}

#[test]
fn an_ignored_trial_gives_its_place_back() {
    let clock = Clock::manual();
    let breaker = half_open(twenty_seconds(&clock));
    record(&breaker, &[Success, Success, Success, Ignored, Failure]);
    assert_eq!(breaker.state(), State::Closed);
    let breaker = half_open(twenty_seconds(&clock));
    record(&breaker, &[Ignored; 4]);
    assert_eq!((breaker.state(), counts(&breaker)), (State::HalfOpen, [0; 4]));
    record(&breaker, &[Success; 4]);
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn disabled_counts_nothing_and_forced_open_outlasts_every_wait() {
    let clock = Clock::manual();
    let disabled = in_state(twenty_seconds(&clock), State::Disabled);
    record(&disabled, &[Failure; 10]);
    assert_eq!((disabled.state(), counts(&disabled)), (State::Disabled, [0; 4]));
    let forced = in_state(twenty_seconds(&clock), State::ForcedOpen);
    assert!(!admits(&forced));
    clock.advance(YEAR);
    assert!(!admits(&forced));
    assert_eq!((forced.state(), forced.metrics().not_permitted_calls), (State::ForcedOpen, 2));
}

#[test]
fn metrics_only_counts_and_tells_once_but_never_opens() {
    let clock = Clock::manual();
    let breaker = in_state(twenty_seconds(&clock), State::MetricsOnly);
    let heard = Heard::of(&breaker);
    for outcome in [Failure, Failure, Failure, Success, Success] {
        record(&breaker, &[outcome]);
    }
    assert_eq!((breaker.state(), breaker.metrics().failure_rate), (State::MetricsOnly, Some(60.0)));
    let told = heard.names();
    assert_eq!(told.last().map(String::as_str), Some("FAILURE_RATE_EXCEEDED"));
    record(&breaker, &[Success, Failure]);
    assert_eq!(heard.names(), ["SUCCESS", "ERROR"]);
    for _ in 0..10 {
        took(&breaker, 5 * SECOND, Failure);
    }
    let exceeded: Vec<_> = heard.names().into_iter().filter(|name| name.ends_with("EXCEEDED")).collect();
    assert_eq!(exceeded, ["SLOW_CALL_RATE_EXCEEDED"]);
    // A new stay tells again.
    breaker.transition_to_metrics_only().unwrap();
    for _ in 0..10 {
        took(&breaker, 5 * SECOND, Failure);
    }
    let exceeded: Vec<_> = heard.names().into_iter().filter(|name| name.ends_with("EXCEEDED")).collect();
    assert_eq!(exceeded, ["FAILURE_RATE_EXCEEDED", "SLOW_CALL_RATE_EXCEEDED"]);
}

#[test]
fn a_half_open_state_that_lasts_too_long_ends_where_it_is_told() {
    for to in [State::Open, State::Closed] {
        let clock = Clock::manual();
        let breaker = half_open(twenty_seconds(&clock).transition_to_state_after_wait_duration(to));
        record(&breaker, &[Success]);
        clock.advance(SECOND - NANO);
        assert_eq!(breaker.state(), State::HalfOpen);
        clock.advance(NANO);
        assert_eq!(breaker.state(), to);
    }
}

fn five_seconds(clock: &ManualClock) -> CircuitBreaker {
    breaker(
        on(clock)
            .sliding_window_type(SlidingWindowType::TimeBased)
            .sliding_window_size(5)
            .slow_call_duration_threshold(SECOND)
            .minimum_number_of_calls(100),
    )
}

#[test]
fn all_calls_of_one_second_leave_the_window_together() {
    let clock = Clock::manual();
    let breaker = five_seconds(&clock);
    record(&breaker, &[Failure]);
    clock.advance(100 * MS);
    record(&breaker, &[Success]);
    clock.advance(700 * MS);
    took(&breaker, 2 * SECOND, Failure);
    assert_eq!(counts(&breaker), [3, 2, 1, 1]);
    clock.advance(4 * SECOND);
    assert_eq!(counts(&breaker), [3, 2, 1, 1]);
    clock.advance(SECOND);
    assert_eq!(counts(&breaker), [0; 4]);
    record(&breaker, &[Success]);
    assert_eq!(counts(&breaker), [1, 0, 0, 0]);
    clock.advance(5 * SECOND);
    record(&breaker, &[Success]);
    assert_eq!(counts(&breaker), [1, 0, 0, 0]);
}

#[test]
fn the_window_slides_by_whole_seconds_of_the_clock() {
    let clock = Clock::manual();
    let breaker = five_seconds(&clock);
    let mut totals = Vec::new();
    for (wait, outcome) in [
        (Duration::ZERO, Failure),
        (100 * MS, Success),
        (100 * MS, Success),
        (SECOND, Success),
        (SECOND, Success),
        (SECOND, Failure),
        (SECOND, Success),
        (SECOND, Success),
        (SECOND, Success),
        (5 * SECOND, Success),
    ] {
        clock.advance(wait);
        record(&breaker, &[outcome]);
        totals.push((counts(&breaker)[0], counts(&breaker)[1]));
    }
    assert_eq!(totals, [(1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 2), (7, 2), (5, 1), (5, 1), (1, 0)]);
}

#[test]
fn a_time_window_of_one_second_is_the_current_second() {
    let clock = ManualClock::starting_at(Instant::from_nanos(1_999_999_998));
    let config = on(&clock).sliding_window_type(SlidingWindowType::TimeBased).sliding_window_size(1);
    let breaker = breaker(config.minimum_number_of_calls(3));
    record(&breaker, &[Failure, Failure]);
    clock.advance(NANO);
    assert_eq!(counts(&breaker), [2, 2, 0, 0]);
    clock.advance(NANO);
    assert_eq!(counts(&breaker), [0; 4]);
    record(&breaker, &[Failure, Failure]);
    assert_eq!(breaker.state(), State::Closed);
    record(&breaker, &[Failure]);
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn a_call_belongs_to_the_second_in_which_it_ends() {
    let clock = Clock::manual();
    let breaker = five_seconds(&clock);
    let call = breaker.try_acquire().unwrap();
    clock.advance(60 * SECOND);
    call.success();
    assert_eq!(counts(&breaker), [1, 0, 1, 0]);
}

#[test]
fn an_open_circuit_shows_its_window_and_lets_time_pass_in_it() {
    let clock = Clock::manual();
    let breaker = breaker(twenty_seconds(&clock).wait_duration_in_open_state(60 * SECOND));
    record(&breaker, &[Failure; 5]);
    assert_eq!((counts(&breaker), breaker.metrics().failure_rate), ([5, 5, 0, 0], Some(100.0)));
    clock.advance(20 * SECOND);
    assert_eq!((breaker.state(), counts(&breaker), breaker.metrics().failure_rate), (State::Open, [0; 4], None));
    // A rejection still tells what opened it.
    assert_eq!((refused(&breaker).failure_rate(), refused(&breaker).buffered_calls()), (Some(100.0), 5));
}

// Strictness

#[test]
fn a_call_that_takes_just_as_long_as_the_threshold_is_not_slow() {
    let clock = Clock::manual();
    let breaker = breaker(small(&clock, 4).slow_call_duration_threshold(SECOND));
    for (elapsed, slow) in [(SECOND - NANO, 0), (SECOND, 0), (SECOND + NANO, 1)] {
        let call = breaker.try_acquire().unwrap();
        clock.advance(elapsed);
        call.success();
        assert_eq!(breaker.metrics().slow_calls, slow);
    }
    took(&breaker, Duration::MAX, Success);
    assert_eq!(breaker.metrics().slow_calls, 2);
}

#[test]
fn a_rate_trips_at_the_threshold_and_not_below() {
    let clock = Clock::manual();
    for (threshold, failures, opens) in
        [(50.0, 2, true), (50.0, 1, false), (50.000_004, 2, false), (49.999_996, 2, true), (100.0, 3, false)]
    {
        let breaker = breaker(small(&clock, 4).failure_rate_threshold(threshold));
        record(&breaker, &[Success, Failure, Failure, Failure][..=failures]);
        for _ in failures..3 {
            took(&breaker, NANO, Success);
        }
        assert_eq!(breaker.state() == State::Open, opens, "{failures} of 4 at {threshold}");
        let slow =
            self::breaker(small(&clock, 4).slow_call_duration_threshold(SECOND).slow_call_rate_threshold(threshold));
        for call in 0..4 {
            took(&slow, if call < failures { 2 * SECOND } else { NANO }, Success);
        }
        assert_eq!(slow.state() == State::Open, opens, "{failures} slow of 4 at {threshold}");
    }
}

#[test]
fn rates_are_taken_in_single_precision_as_resilience4j_does() {
    let clock = Clock::manual();
    // Five of six, rounded up: in double precision it would not reach the threshold.
    let breaker = breaker(small(&clock, 6).failure_rate_threshold(83.333_336));
    record(&breaker, &[Success, Failure, Failure, Failure, Failure, Failure]);
    assert_eq!((breaker.state(), breaker.metrics().failure_rate), (State::Open, Some(83.333_336)));
}

#[test]
fn an_open_circuit_refuses_up_to_and_at_the_end_of_its_wait() {
    let clock = Clock::manual();
    clock.advance(SECOND);
    let breaker = breaker(small(&clock, 1).wait_duration_in_open_state(5 * SECOND));
    record(&breaker, &[Failure]);
    clock.advance(5 * SECOND - NANO);
    assert!(!admits(&breaker));
    clock.advance(NANO);
    assert!(!admits(&breaker));
    clock.advance(NANO);
    assert!(admits(&breaker));
}

#[test]
fn retry_after_is_exact_with_and_without_the_automatic_transition() {
    for automatic in [false, true] {
        for wait in [NANO, MS, 5 * SECOND, YEAR] {
            let clock = Clock::manual();
            clock.advance(SECOND);
            let config = small(&clock, 1).wait_duration_in_open_state(wait);
            let breaker = breaker(config.automatic_transition_from_open_to_half_open_enabled(automatic));
            record(&breaker, &[Failure]);
            clock.advance(wait / 3);
            let after = refused(&breaker).retry_after().expect("a moment");
            clock.advance(after - NANO);
            assert!(after == NANO || refused(&breaker).retry_after() == Some(NANO));
            clock.advance(NANO);
            assert!(admits(&breaker), "{automatic} {wait:?}");
        }
    }
}

// The open wait

/// The waits of so many openings in a row.
fn open_waits(clock: &ManualClock, function: IntervalFunction, openings: usize) -> Vec<Duration> {
    let config = small(clock, 1).permitted_number_of_calls_in_half_open_state(1);
    let breaker = breaker(config.wait_interval_function_in_open_state(function));
    let mut waits = Vec::new();
    for _ in 0..openings {
        record(&breaker, &[Failure]);
        let after = refused(&breaker).retry_after().expect("a moment");
        waits.push(after - NANO);
        clock.advance(after);
    }
    waits
}

#[test]
fn a_fixed_wait_stays_the_same() {
    let clock = Clock::manual();
    let config = small(&clock, 1).permitted_number_of_calls_in_half_open_state(1);
    let breaker = breaker(config.wait_duration_in_open_state(5 * SECOND));
    for _ in 0..5 {
        record(&breaker, &[Failure]);
        assert_eq!(refused(&breaker).retry_after(), Some(5 * SECOND + NANO));
        clock.advance(5 * SECOND + NANO);
    }
    assert_eq!(open_waits(&clock, IntervalFunction::fixed(3 * SECOND), 3), [3 * SECOND; 3]);
    let none = small(&clock, 1).wait_interval_function_in_open_state(IntervalFunction::fixed(Duration::ZERO));
    let refused = CircuitBreaker::new("orders", none).unwrap_err();
    assert_eq!(
        (refused.field, &*refused.rule),
        ("wait_interval_function_in_open_state", "must wait for more than zero")
    );
}

#[test]
fn an_exponential_wait_grows_up_to_its_limit() {
    let clock = Clock::manual();
    let function = IntervalFunction::exponential(SECOND, 2.0).max(5 * SECOND);
    assert_eq!(open_waits(&clock, function, 5), [SECOND, 2 * SECOND, 4 * SECOND, 5 * SECOND, 5 * SECOND]);
}

#[test]
fn a_seeded_random_wait_is_what_the_function_draws() {
    let clock = Clock::manual();
    for function in [
        IntervalFunction::fixed(SECOND).randomized(0.5).seed(7),
        IntervalFunction::exponential(SECOND, 2.0).full_jitter().seed(8),
        IntervalFunction::fixed(SECOND).decorrelated_jitter().max(60 * SECOND).seed(9),
    ] {
        let drawn: Vec<_> = function.intervals().take(20).collect();
        assert!(drawn.windows(2).any(|pair| pair[0] != pair[1]));
        assert_eq!(open_waits(&clock, function, 20), drawn);
    }
}

#[test]
fn a_custom_wait_may_be_randomised_too() {
    let clock = Clock::manual();
    let function = IntervalFunction::custom(|_| SECOND).randomized(0.5).seed(7);
    let waits = open_waits(&clock, function.clone(), 20);
    assert!(waits.iter().all(|wait| (500 * MS..=1500 * MS).contains(wait)));
    assert!(waits.windows(2).any(|pair| pair[0] != pair[1]));
    assert_eq!(open_waits(&clock, function, 20), waits);
}

#[test]
fn the_wait_is_asked_with_the_number_of_openings_since_the_circuit_was_closed() {
    let clock = Clock::manual();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let waits = IntervalFunction::custom(move |attempt| {
        seen.lock().push(attempt);
        SECOND
    });
    let config = small(&clock, 1).permitted_number_of_calls_in_half_open_state(1);
    let breaker = breaker(config.wait_interval_function_in_open_state(waits));
    let asked = || std::mem::take(&mut *asked.lock());
    for _ in 0..3 {
        record(&breaker, &[Failure]);
        clock.advance(2 * SECOND);
    }
    assert_eq!(asked(), [1, 2, 3]);
    record(&breaker, &[Success, Failure]);
    assert_eq!(asked(), [1]);
    breaker.transition_to_open().unwrap();
    breaker.transition_to_half_open().unwrap();
    breaker.transition_to_open().unwrap();
    assert_eq!(asked(), [2, 3]);
    // Opening for a given time neither asks nor counts; forcing open counts and does not ask.
    breaker.transition_to_open_for(SECOND).unwrap();
    breaker.transition_to_forced_open().unwrap();
    assert!(asked().is_empty());
    breaker.transition_to_open().unwrap();
    assert_eq!(asked(), [5]);
    for state in [State::Disabled, State::Closed] {
        go_to(&breaker, state).unwrap();
        breaker.transition_to_open().unwrap();
        assert_eq!(asked(), [1], "{state}");
    }
}

#[test]
fn a_custom_wait_that_panics_counts_as_a_minute() {
    let clock = Clock::manual();
    let waits = IntervalFunction::custom(|_| resume_unwind(Box::new("no idea")));
    let breaker = breaker(small(&clock, 1).wait_interval_function_in_open_state(waits));
    record(&breaker, &[Failure]);
    assert_eq!(refused(&breaker).retry_after(), Some(60 * SECOND + NANO));
}

#[test]
fn a_custom_wait_may_ask_the_breaker_itself() {
    let clock = Clock::manual();
    let itself = Arc::new(OnceLock::<CircuitBreaker>::new());
    let (known, seen) = (Arc::clone(&itself), Arc::new(Mutex::new(Vec::new())));
    let saw = Arc::clone(&seen);
    let waits = IntervalFunction::custom(move |attempt| {
        let breaker = known.get().expect("made before it opens");
        let refusal = refused(breaker);
        saw.lock().push((breaker.state(), breaker.metrics().failed_calls, refusal.retry_after()));
        attempt * SECOND
    });
    let config = small(&clock, 2).permitted_number_of_calls_in_half_open_state(1);
    let breaker = breaker(config.wait_interval_function_in_open_state(waits));
    itself.set(breaker.clone()).unwrap();
    record(&breaker, &[Failure, Failure]);
    // Until the answer is known, the circuit is open and names no moment.
    assert_eq!(*seen.lock(), [(State::Open, 2, None)]);
    assert_eq!(refused(&breaker).retry_after(), Some(SECOND + NANO));
    clock.advance(SECOND + NANO);
    record(&breaker, &[Failure]);
    assert_eq!(seen.lock().len(), 2);
    assert_eq!(refused(&breaker).retry_after(), Some(2 * SECOND + NANO));
}

#[test]
fn nobody_waits_for_a_custom_wait_that_takes_its_time() {
    let clock = Clock::manual();
    let (ask, asked) = mpsc::channel();
    let (answer, answers) = mpsc::channel::<()>();
    let answers = Mutex::new(answers);
    let waits = IntervalFunction::custom(move |_| {
        ask.send(()).unwrap();
        answers.lock().recv().unwrap();
        SECOND
    });
    let breaker = breaker(small(&clock, 9).wait_interval_function_in_open_state(waits));
    let late = take(&breaker, 1).remove(0);
    let opener = breaker.clone();
    let opening = thread::spawn(move || opener.transition_to_open());
    asked.recv().unwrap();
    assert_eq!((breaker.state(), breaker.metrics().state), (State::Open, State::Open));
    assert_eq!(refused(&breaker).retry_after(), None);
    late.failure();
    assert_eq!(breaker.metrics().late_results, 1);
    assert!(asked.try_recv().is_err(), "asked more than once");
    answer.send(()).unwrap();
    opening.join().unwrap().unwrap();
    assert_eq!(refused(&breaker).retry_after(), Some(SECOND + NANO));
}

#[test]
fn an_answer_that_comes_after_another_transition_is_not_used() {
    let clock = Clock::manual();
    let (ask, asked) = mpsc::channel();
    let (answer, answers) = mpsc::channel::<Duration>();
    let answers = Mutex::new(answers);
    let waits = IntervalFunction::custom(move |_| {
        ask.send(()).unwrap();
        answers.lock().recv().unwrap()
    });
    let breaker = breaker(small(&clock, 9).wait_interval_function_in_open_state(waits));
    let opener = breaker.clone();
    let opening = thread::spawn(move || opener.transition_to_open());
    asked.recv().unwrap();
    breaker.transition_to_open_for(5 * SECOND).unwrap();
    answer.send(SECOND).unwrap();
    opening.join().unwrap().unwrap();
    assert_eq!(refused(&breaker).retry_after(), Some(5 * SECOND + NANO));
}

// Transitions by the clock

#[test]
fn without_the_automatic_transition_only_a_call_leaves_open() {
    let clock = Clock::manual();
    let breaker = in_state(on(&clock), State::Open);
    clock.advance(YEAR);
    assert_eq!((breaker.state(), breaker.is_call_permitted()), (State::Open, false));
    breaker.metrics();
    assert!(admits(&breaker));
    assert_eq!(breaker.state(), State::HalfOpen);
}

#[test]
fn the_automatic_transition_comes_at_the_end_of_the_wait_without_a_call() {
    let clock = Clock::manual();
    clock.advance(SECOND);
    let breaker = in_state(on(&clock).automatic_transition_from_open_to_half_open_enabled(true), State::Open);
    clock.advance(60 * SECOND - NANO);
    assert_eq!((breaker.state(), breaker.is_call_permitted()), (State::Open, false));
    clock.advance(NANO);
    assert_eq!((breaker.state(), breaker.is_call_permitted()), (State::HalfOpen, true));
    assert_eq!(breaker.metrics().not_permitted_calls, 0);
}

#[test]
fn too_long_in_half_open_reopens_with_the_next_wait_whatever_the_trials_said() {
    let clock = Clock::manual();
    let config = on(&clock)
        .max_wait_duration_in_half_open_state(10 * SECOND)
        .wait_interval_function_in_open_state(IntervalFunction::exponential(SECOND, 3.0));
    let breaker = half_open(config);
    record(&breaker, &[Success; 9]);
    let last = breaker.try_acquire().unwrap();
    clock.advance(12 * SECOND);
    // As if made when it was due, two seconds ago.
    assert_eq!(refused(&breaker).retry_after(), Some(SECOND + NANO));
    assert_eq!(counts(&breaker), [9, 0, 0, 0]);
    last.success();
    assert_eq!((breaker.state(), breaker.metrics().late_results), (State::Open, 1));
}

#[test]
fn a_closed_breaker_stays_closed_after_too_long_in_half_open_led_there() {
    let clock = Clock::manual();
    let config = small(&clock, 2)
        .max_wait_duration_in_half_open_state(SECOND)
        .transition_to_state_after_wait_duration(State::Closed);
    let breaker = half_open(config);
    record(&breaker, &[Failure]);
    clock.advance(YEAR);
    assert_eq!((breaker.state(), counts(&breaker)), (State::Closed, [0; 4]));
    record(&breaker, &[Failure, Failure]);
    assert_eq!(breaker.state(), State::Open);
}

fn idle(clock: &ManualClock) -> Config {
    small(clock, 2).automatic_transition_from_open_to_half_open_enabled(true).max_wait_duration_in_half_open_state(MS)
}

#[test]
fn centuries_of_idle_rounds_of_two_milliseconds_are_worked_out_at_once() {
    let clock = Clock::manual();
    let breaker = in_state(idle(&clock).wait_duration_in_open_state(MS), State::Open);
    clock.advance(500 * YEAR);
    assert_eq!(breaker.state(), State::Open);
    assert_eq!(refused(&breaker).retry_after(), Some(MS));
    clock.advance(MS - NANO);
    assert_eq!(breaker.state(), State::Open);
    clock.advance(NANO);
    assert_eq!(breaker.state(), State::HalfOpen);
    clock.advance(MS - NANO);
    assert_eq!(breaker.state(), State::HalfOpen);
    clock.advance(NANO);
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn a_long_idle_chain_comes_to_the_same_as_one_looked_at_all_along() {
    let clock = Clock::manual();
    let config = || idle(&clock).wait_duration_in_open_state(3 * MS);
    let (watched, left_alone) = (in_state(config(), State::Open), in_state(config(), State::Open));
    for _ in 0..10_000 {
        clock.advance(MS);
        watched.state();
    }
    assert_eq!(left_alone.metrics(), watched.metrics());
    assert_eq!(watched.metrics().generation, 5001);
}

#[test]
fn of_the_transitions_that_are_only_looked_at_the_last_thousand_are_published() {
    let clock = Clock::manual();
    let breaker = in_state(idle(&clock).wait_duration_in_open_state(MS), State::Open);
    let heard = Heard::of(&breaker);
    for _ in 0..3000 {
        clock.advance(MS);
        breaker.state();
    }
    assert_eq!(heard.take(), []);
    let _ = refused(&breaker);
    let names = heard.names();
    assert_eq!(names.len(), 1024);
    assert_eq!(names[1021..], ["OPEN>HALF_OPEN", "HALF_OPEN>OPEN", "NOT_PERMITTED"]);
}

#[test]
fn a_long_idle_chain_with_a_wait_of_the_user_s_own_ends_too() {
    let clock = Clock::manual();
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let waits = IntervalFunction::custom(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        MS
    });
    let breaker = in_state(idle(&clock).wait_interval_function_in_open_state(waits), State::Open);
    clock.advance(500 * YEAR);
    assert_eq!(breaker.state(), State::Open);
    assert!(asked.load(Ordering::Relaxed) < 1000);
    assert_eq!(refused(&breaker).retry_after(), Some(MS));
}

#[test]
fn a_breaker_still_counts_after_more_idle_rounds_than_fit_into_its_word() {
    let clock = Clock::manual();
    let breaker = in_state(idle(&clock).wait_duration_in_open_state(MS), State::Open);
    clock.advance(500 * YEAR);
    assert!(breaker.metrics().generation > 1 << 36);
    breaker.transition_to_closed().unwrap();
    record(&breaker, &[Success, Failure]);
    assert_eq!((breaker.state(), breaker.metrics().late_results), (State::Open, 0));
}

#[test]
fn transitions_that_were_due_are_published_in_order_by_the_next_call_or_result() {
    for by_result in [false, true] {
        let clock = Clock::manual();
        let config = idle(&clock).wait_duration_in_open_state(3 * MS);
        let breaker = breaker(config);
        let late = breaker.try_acquire().unwrap();
        breaker.transition_to_open().unwrap();
        let heard = Heard::of(&breaker);
        clock.advance(8 * MS);
        assert_eq!(breaker.state(), State::Open);
        clock.advance(MS);
        breaker.metrics();
        assert_eq!(heard.take(), [], "reading publishes nothing");
        if by_result {
            late.success();
        } else {
            drop(breaker.try_acquire());
        }
        let transition = |from, to, generation| EventKind::StateTransition { from, to, generation };
        assert_eq!(
            heard.take(),
            [
                (3_000_000, transition(State::Open, State::HalfOpen, 2)),
                (4_000_000, transition(State::HalfOpen, State::Open, 3)),
                (7_000_000, transition(State::Open, State::HalfOpen, 4)),
                (8_000_000, transition(State::HalfOpen, State::Open, 5)),
                (9_000_000, if by_result { EventKind::LateResult } else { EventKind::NotPermitted }),
            ]
        );
    }
}

#[test]
fn a_reset_takes_the_due_times_of_the_old_state_along() {
    let clock = Clock::manual();
    let config = small(&clock, 2).max_wait_duration_in_half_open_state(SECOND);
    let breaker = half_open(config.automatic_transition_from_open_to_half_open_enabled(true));
    let _trial = breaker.try_acquire().unwrap();
    clock.advance(500 * MS);
    breaker.reset();
    clock.advance(YEAR);
    assert_eq!(breaker.state(), State::Closed);

    breaker.transition_to_open().unwrap();
    clock.advance(30 * SECOND);
    breaker.reset();
    record(&breaker, &[Failure, Failure]);
    clock.advance(60 * SECOND - NANO);
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn a_circuit_taken_out_of_open_by_hand_does_not_half_open_by_itself() {
    for to in [State::Disabled, State::ForcedOpen, State::MetricsOnly, State::Closed] {
        let clock = Clock::manual();
        let breaker = in_state(on(&clock).automatic_transition_from_open_to_half_open_enabled(true), State::Open);
        clock.advance(30 * SECOND);
        go_to(&breaker, to).unwrap();
        clock.advance(YEAR);
        assert_eq!(breaker.state(), to);
    }
}

#[test]
fn a_clock_told_to_step_back_changes_nothing() {
    let clock = Clock::manual();
    clock.advance(100 * SECOND);
    let breaker = five_seconds(&clock);
    record(&breaker, &[Failure; 9]);
    for second in 0..20 {
        clock.advance_to(Instant::from_nanos(second * 1_000_000_000));
        record(&breaker, &[Success]);
        breaker.metrics();
    }
    assert_eq!(counts(&breaker), [29, 9, 0, 0]);
}

// Results that decide

#[test]
fn a_verdict_opens_a_closed_circuit_for_as_long_as_it_says() {
    for outcome in [Success, Failure, Ignored] {
        let clock = Clock::manual();
        let breaker = breaker(small(&clock, 9));
        let heard = Heard::of(&breaker);
        breaker.try_acquire().unwrap().record(Verdict::from(outcome).open_for(7 * SECOND));
        assert_eq!(refused(&breaker).retry_after(), Some(7 * SECOND + NANO));
        assert_eq!(breaker.metrics().buffered_calls, u32::from(outcome != Ignored));
        assert_eq!(heard.names()[1..], ["CLOSED>OPEN", "NOT_PERMITTED"]);
        clock.advance(7 * SECOND + NANO);
        assert!(admits(&breaker));
    }
}

#[test]
fn a_verdict_opens_a_closed_circuit_for_the_configured_wait() {
    let clock = Clock::manual();
    let waits = IntervalFunction::exponential(SECOND, 2.0);
    let breaker = breaker(small(&clock, 9).wait_interval_function_in_open_state(waits));
    breaker.try_acquire().unwrap().record(Verdict::from(Success).open());
    assert_eq!(refused(&breaker).retry_after(), Some(SECOND + NANO));
    breaker.transition_to_open().unwrap();
    assert_eq!(refused(&breaker).retry_after(), Some(2 * SECOND + NANO));
}

#[test]
fn a_verdict_says_how_long_to_open_also_where_the_rates_open_the_circuit() {
    for waits in [IntervalFunction::fixed(5 * SECOND), IntervalFunction::custom(|_| 5 * SECOND)] {
        let clock = Clock::manual();
        let breaker = breaker(small(&clock, 1).wait_interval_function_in_open_state(waits));
        let heard = Heard::of(&breaker);
        breaker.try_acquire().unwrap().record(Verdict::from(Failure).open_for(60 * SECOND));
        assert_eq!(refused(&breaker).retry_after(), Some(60 * SECOND + NANO));
        assert_eq!(heard.names(), ["ERROR", "FAILURE_RATE_EXCEEDED", "CLOSED>OPEN", "NOT_PERMITTED"]);
    }
}

#[test]
fn a_verdict_opens_nothing_but_a_closed_circuit() {
    for state in [State::HalfOpen, State::MetricsOnly, State::Disabled] {
        for verdict in [Verdict::from(Success).open(), Verdict::from(Ignored).open_for(SECOND)] {
            let clock = Clock::manual();
            let breaker = in_state(small(&clock, 9), state);
            breaker.try_acquire().unwrap().record(verdict);
            assert_eq!(breaker.state(), state);
        }
    }
    let clock = Clock::manual();
    let breaker = breaker(small(&clock, 9));
    let late = breaker.try_acquire().unwrap();
    breaker.transition_to_closed().unwrap();
    late.record(Verdict::from(Failure).open_for(SECOND));
    assert_eq!((breaker.state(), breaker.metrics().late_results), (State::Closed, 1));
}

#[test]
fn opening_by_a_verdict_or_by_hand_leaves_a_breaker_that_works() {
    let clock = Clock::manual();
    let breaker = breaker(small(&clock, 2).permitted_number_of_calls_in_half_open_state(1));
    breaker.try_acquire().unwrap().record(Verdict::from(Success).open());
    assert!(!admits(&breaker));
    clock.advance(61 * SECOND);
    record(&breaker, &[Success, Success, Failure]);
    assert_eq!(breaker.state(), State::Open);
}

// Late results

type End = fn(OwnedPermit);

/// How a call may end, and whether that is a result.
fn late_ways() -> [(&'static str, End, bool); 6] {
    [
        ("success", |permit| permit.success(), true),
        ("failure", |permit| permit.failure(), true),
        ("ignored", |permit| permit.record(Ignored), true),
        ("unwound", unwind_with, true),
        ("dropped", drop, false),
        ("released", |permit| permit.release(), false),
    ]
}

#[test]
fn a_late_result_changes_nothing_and_is_counted_and_reported() {
    for from in [State::Closed, State::HalfOpen, State::MetricsOnly, State::Disabled] {
        for to in STATES {
            for (way, end, is_result) in late_ways() {
                let clock = Clock::manual();
                let config = small(&clock, 1).permitted_number_of_calls_in_half_open_state(2);
                let breaker = in_state(config, from);
                let late = breaker.try_acquire_owned().unwrap();
                if go_to(&breaker, to).is_err() {
                    continue;
                }
                let of_now = breaker.try_acquire();
                let heard = Heard::of(&breaker);
                let before = breaker.metrics();
                end(late);
                let after = breaker.metrics();
                assert_eq!(without_late(after), without_late(before), "{way} {from} {to}");
                assert_eq!(after.late_results, u64::from(is_result), "{way} {from} {to}");
                assert_eq!(heard.names(), if is_result { vec!["LATE_RESULT"] } else { vec![] });
                drop(of_now);
            }
        }
    }
}

#[test]
fn a_late_result_decides_no_trial() {
    let clock = Clock::manual();
    let breaker = breaker(small(&clock, 4).permitted_number_of_calls_in_half_open_state(2));
    let stale = take(&breaker, 6);
    record(&breaker, &[Failure; 4]);
    clock.advance(61 * SECOND);
    let trial = breaker.try_acquire().unwrap();
    for (place, permit) in stale.into_iter().enumerate() {
        if place % 2 == 0 { permit.success() } else { permit.failure() }
    }
    assert_eq!((breaker.state(), counts(&breaker)), (State::HalfOpen, [0; 4]));
    trial.success();
    assert_eq!(breaker.metrics().buffered_calls, 1);
}

#[test]
fn a_trial_of_an_earlier_half_open_state_decides_nothing_in_the_next() {
    let clock = Clock::manual();
    let breaker = half_open(on(&clock).permitted_number_of_calls_in_half_open_state(1));
    let stale = breaker.try_acquire().unwrap();
    breaker.transition_to_open().unwrap();
    clock.advance(61 * SECOND);
    let trial = breaker.try_acquire().unwrap();
    stale.success();
    assert_eq!(breaker.state(), State::HalfOpen);
    trial.failure();
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn late_ignored_results_raise_no_permits() {
    let clock = Clock::manual();
    let breaker = breaker(on(&clock).permitted_number_of_calls_in_half_open_state(2));
    let stale = take(&breaker, 10);
    breaker.transition_to_open().unwrap();
    breaker.transition_to_half_open().unwrap();
    let _trials = take(&breaker, 2);
    for permit in stale {
        permit.record(Ignored);
    }
    assert!(!admits(&breaker));
}

#[test]
fn a_late_result_after_leaving_a_state_without_a_window_divides_by_nothing() {
    for from in [State::Disabled, State::ForcedOpen] {
        let clock = Clock::manual();
        let breaker = breaker(small(&clock, 1));
        let closed = breaker.try_acquire().unwrap();
        go_to(&breaker, from).unwrap();
        let unwatched = breaker.try_acquire().ok();
        breaker.transition_to_open().unwrap();
        assert_eq!((counts(&breaker), breaker.metrics().failure_rate), ([0; 4], None));
        closed.failure();
        if let Some(permit) = unwatched {
            permit.failure();
        }
        assert_eq!((counts(&breaker), breaker.state()), ([0; 4], State::Open));
        assert_eq!(refused(&breaker).failure_rate(), None);
    }
}

// Permits

#[test]
fn a_dropped_or_released_permit_counts_nothing_and_gives_the_place_back() {
    for (end, state) in [(drop as fn(OwnedPermit), State::Closed), (|permit| permit.release(), State::HalfOpen)]
        .into_iter()
        .chain([(drop as fn(OwnedPermit), State::HalfOpen), (|permit| permit.release(), State::MetricsOnly)])
    {
        let clock = Clock::manual();
        let breaker = in_state(on(&clock).permitted_number_of_calls_in_half_open_state(1), state);
        let heard = Heard::of(&breaker);
        for _ in 0..10 {
            let permit = breaker.try_acquire_owned().unwrap();
            assert_eq!(admits(&breaker), state != State::HalfOpen);
            heard.take();
            end(permit);
            assert_eq!(heard.take(), []);
        }
        assert_eq!((counts(&breaker), breaker.metrics().outstanding_trial_calls), ([0; 4], 0));
        assert!(admits(&breaker));
    }
}

#[test]
fn a_permit_held_by_a_thread_that_panics_counts_as_a_failure() {
    let clock = Clock::manual();
    let breaker = breaker(small(&clock, 2));
    unwind_with(breaker.try_acquire());
    unwind_with(breaker.try_acquire_owned());
    assert_eq!((breaker.state(), counts(&breaker)), (State::Open, [2, 2, 0, 0]));
}

#[test]
fn a_trial_that_panics_counts_as_failed_and_cannot_hold_the_circuit_half_open() {
    let clock = Clock::manual();
    let breaker = half_open(on(&clock).permitted_number_of_calls_in_half_open_state(1));
    unwind_with(breaker.try_acquire());
    assert_eq!((breaker.state(), counts(&breaker)), (State::Open, [1, 1, 0, 0]));
}

#[test]
fn a_permit_taken_while_unwinding_says_nothing_about_the_call_when_dropped() {
    struct CallsOnDrop(CircuitBreaker);
    impl Drop for CallsOnDrop {
        fn drop(&mut self) {
            drop(self.0.try_acquire());
        }
    }
    let clock = Clock::manual();
    let breaker = breaker(small(&clock, 2));
    unwind_with(CallsOnDrop(breaker.clone()));
    assert_eq!(counts(&breaker), [0; 4]);
}

#[test]
fn an_owned_permit_reports_from_another_thread() {
    let clock = Clock::manual();
    let breaker = half_open(on(&clock).permitted_number_of_calls_in_half_open_state(2));
    let [first, second] = <[_; 2]>::try_from(take(&breaker, 2)).unwrap();
    thread::spawn(move || first.success()).join().unwrap();
    assert_eq!(counts(&breaker), [1, 0, 0, 0]);
    let panicking = thread::spawn(move || {
        let _second = second;
        resume_unwind(Box::new(()));
    });
    assert!(panicking.join().is_err());
    assert_eq!((breaker.state(), counts(&breaker)), (State::Open, [2, 1, 0, 0]));
}

#[test]
fn a_permit_outlives_every_handle() {
    let clock = Clock::manual();
    let permit = half_open(on(&clock)).try_acquire_owned().unwrap();
    assert_eq!(format!("{permit:?}"), r#"Permit { breaker: "orders", generation: Some(1), trial: Some(true) }"#);
    permit.failure();
}

// Trial calls

#[test]
fn half_open_decides_as_soon_as_its_minimum_has_finished() {
    let clock = Clock::manual();
    let config = || on(&clock).permitted_number_of_calls_in_half_open_state(5);
    for (config, decisive) in [
        (config().minimum_number_of_calls(2), 2),
        (config().minimum_number_of_calls(2).minimum_number_of_calls_in_half_open_state(4), 4),
        (config().minimum_number_of_calls_in_half_open_state(1), 1),
        (config(), 5),
    ] {
        let breaker = half_open(config);
        let trials = take(&breaker, 5);
        for (finished, trial) in trials.into_iter().enumerate() {
            assert_eq!(breaker.state() == State::HalfOpen, finished < decisive, "{finished} of {decisive}");
            trial.success();
        }
        assert_eq!((breaker.state(), breaker.metrics().late_results), (State::Closed, 5 - decisive as u64));
    }
}

#[test]
fn a_hung_trial_counts_as_failed_and_its_place_is_free() {
    let clock = Clock::manual();
    let config = on(&clock).permitted_number_of_calls_in_half_open_state(2).max_trial_call_duration(10 * SECOND);
    let breaker = half_open(config.failure_rate_threshold(51.0));
    let heard = Heard::of(&breaker);
    let hung = breaker.try_acquire().unwrap();
    clock.advance(SECOND);
    let also_hung = breaker.try_acquire().unwrap();
    clock.advance(9 * SECOND);
    assert!(!admits(&breaker));
    assert_eq!(counts(&breaker), [0; 4]);
    clock.advance(NANO);
    assert_eq!((counts(&breaker), breaker.metrics().outstanding_trial_calls), ([1, 1, 0, 0], 1));
    // The result of one is there: its place counts as used, not as free for one more.
    assert!(!admits(&breaker));
    hung.success();
    assert_eq!((counts(&breaker), breaker.metrics().late_results), ([1, 1, 0, 0], 1));
    also_hung.success();
    assert_eq!(breaker.state(), State::Closed);
    assert_eq!(
        heard.names(),
        ["NOT_PERMITTED", "TRIAL_CALL_EXPIRED", "NOT_PERMITTED", "LATE_RESULT", "SUCCESS", "HALF_OPEN>CLOSED"]
    );
}

#[test]
fn a_hung_trial_cannot_hold_a_breaker_half_open() {
    let clock = Clock::manual();
    let breaker = half_open(on(&clock).permitted_number_of_calls_in_half_open_state(1));
    let _hung = breaker.try_acquire().unwrap();
    clock.advance(60 * SECOND);
    assert_eq!(breaker.state(), State::HalfOpen);
    clock.advance(NANO);
    assert_eq!(breaker.state(), State::Open);
    clock.advance(60 * SECOND);
    assert!(!admits(&breaker));
    clock.advance(NANO);
    record(&breaker, &[Success]);
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn a_hung_trial_is_slow_if_it_has_outlasted_the_threshold() {
    for (threshold, slow) in [(10 * SECOND, 1), (10 * SECOND + NANO, 0)] {
        let clock = Clock::manual();
        let config = on(&clock).max_trial_call_duration(10 * SECOND).slow_call_duration_threshold(threshold);
        let breaker = half_open(config);
        let _hung = breaker.try_acquire().unwrap();
        clock.advance(YEAR);
        assert_eq!(counts(&breaker), [1, 1, slow, slow]);
    }
}

#[test]
fn a_trial_limit_of_zero_is_none_and_other_calls_have_no_limit() {
    let clock = Clock::manual();
    let endless =
        half_open(on(&clock).permitted_number_of_calls_in_half_open_state(1).max_trial_call_duration(Duration::ZERO));
    let closed = breaker(small(&clock, 9).max_trial_call_duration(SECOND));
    let (trial, call) = (endless.try_acquire().unwrap(), closed.try_acquire().unwrap());
    clock.advance(YEAR);
    assert_eq!((endless.state(), admits(&endless)), (State::HalfOpen, false));
    trial.success();
    call.success();
    assert_eq!((closed.metrics().buffered_calls, closed.metrics().late_results), (1, 0));
}

#[test]
fn half_open_never_admits_more_than_permitted_whatever_becomes_of_the_trials() {
    let clock = Clock::manual();
    let config = on(&clock)
        .permitted_number_of_calls_in_half_open_state(4)
        .max_trial_call_duration(10 * SECOND)
        .failure_rate_threshold(100.0);
    let breaker = half_open(config);
    let mut trials = take(&breaker, 4);
    let free = |breaker: &CircuitBreaker| {
        let more: Vec<_> = (0..9).map_while(|_| breaker.try_acquire_owned().ok()).collect();
        more.len()
    };
    assert_eq!(free(&breaker), 0);
    drop(trials.pop());
    trials.pop().unwrap().record(Ignored);
    assert_eq!(free(&breaker), 2);
    trials.pop().unwrap().success();
    assert_eq!(free(&breaker), 2);
    clock.advance(10 * SECOND + NANO);
    assert_eq!(free(&breaker), 2);
    drop(trials);
    assert_eq!(free(&breaker), 2);
    record(&breaker, &[Success, Success]);
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn half_open_with_a_time_window_still_ends() {
    let clock = Clock::manual();
    let config = twenty_seconds(&clock).max_wait_duration_in_half_open_state(Duration::ZERO);
    let breaker = half_open(config.permitted_number_of_calls_in_half_open_state(3));
    for _ in 0..3 {
        // Longer apart than the window: trial results do not expire.
        clock.advance(100 * SECOND);
        record(&breaker, &[Success]);
    }
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn threads_that_race_for_the_end_of_the_wait_get_as_many_permits_as_there_are() {
    for _ in 0..50 {
        let clock = Clock::manual();
        let breaker = in_state(on(&clock).permitted_number_of_calls_in_half_open_state(3), State::Open);
        let heard = Heard::of(&breaker);
        clock.advance(61 * SECOND);
        let barrier = Barrier::new(4);
        let admitted: Vec<Vec<OwnedPermit>> = thread::scope(|scope| {
            let racers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        (0..4).filter_map(|_| breaker.try_acquire_owned().ok()).collect()
                    })
                })
                .collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        assert_eq!(admitted.iter().map(Vec::len).sum::<usize>(), 3);
        assert_eq!(breaker.metrics().not_permitted_calls, 13);
        let names = heard.names();
        assert_eq!(names.iter().filter(|name| *name == "OPEN>HALF_OPEN").count(), 1);
        assert_eq!(names.iter().filter(|name| *name == "NOT_PERMITTED").count(), 13);
    }
}

// Cancelled calls

#[test]
fn a_cancelled_call_that_outlasted_the_threshold_may_count_as_slow() {
    for (recorded, state) in
        [(true, State::Closed), (false, State::Closed), (true, State::HalfOpen), (true, State::MetricsOnly)]
    {
        let clock = Clock::manual();
        let config = small(&clock, 9).slow_call_duration_threshold(SECOND).record_cancelled_slow_calls(recorded);
        let breaker = in_state(config, state);
        let call = breaker.try_acquire().unwrap();
        clock.advance(SECOND);
        drop(call);
        assert_eq!(counts(&breaker), [0; 4]);
        let heard = Heard::of(&breaker);
        let call = breaker.try_acquire().unwrap();
        clock.advance(SECOND + NANO);
        drop(call);
        assert_eq!(counts(&breaker), if recorded { [1, 0, 1, 0] } else { [0; 4] }, "{state}");
        let success = EventKind::Success { elapsed: Some(SECOND + NANO), attempts: 0 };
        assert_eq!(heard.take(), if recorded { vec![(2_000_000_001, success)] } else { vec![] });
    }
}

#[test]
fn impatient_callers_do_not_hide_an_outage_if_their_cancelled_calls_count() {
    let clock = Clock::manual();
    let config = small(&clock, 10).slow_call_duration_threshold(SECOND).record_cancelled_slow_calls(true);
    let breaker = breaker(config);
    for _ in 0..10 {
        let mut call = Box::pin(breaker.call(pending::<Result<(), ()>>));
        assert!(poll_once(call.as_mut()).is_pending());
        clock.advance(2 * SECOND);
        drop(call);
    }
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn where_no_call_is_slow_no_cancelled_call_counts() {
    let clock = Clock::manual();
    let config = small(&clock, 9).slow_call_duration_threshold(None).record_cancelled_slow_calls(true);
    for kind in [SlidingWindowType::CountBased, SlidingWindowType::TimeBased] {
        let breaker = breaker(config.clone().sliding_window_type(kind));
        let call = breaker.try_acquire().unwrap();
        clock.advance(YEAR);
        drop(call);
        assert_eq!(counts(&breaker), [0; 4]);
    }
}

// What there is to see

#[test]
fn a_call_is_permitted_in_every_state_but_the_two_open_ones() {
    for state in STATES {
        let clock = Clock::manual();
        let breaker = in_state(on(&clock).permitted_number_of_calls_in_half_open_state(1), state);
        for _ in 0..5 {
            assert_eq!(breaker.is_call_permitted(), !matches!(state, State::Open | State::ForcedOpen));
        }
        // Asking takes no permit.
        assert_eq!((breaker.metrics().not_permitted_calls, breaker.metrics().outstanding_trial_calls), (0, 0));
    }
}

#[test]
fn rejections_are_counted_in_every_state_and_published_but_in_forced_open() {
    let clock = Clock::manual();
    for (state, published) in [(State::Open, 3), (State::ForcedOpen, 0), (State::HalfOpen, 3)] {
        let breaker = in_state(on(&clock).permitted_number_of_calls_in_half_open_state(1), state);
        let _trial = breaker.try_acquire_owned().ok();
        let before = breaker.metrics().not_permitted_calls;
        let heard = Heard::of(&breaker);
        for _ in 0..3 {
            refused(&breaker);
        }
        assert_eq!(breaker.metrics().not_permitted_calls - before, 3, "{state}");
        assert_eq!(heard.names(), vec!["NOT_PERMITTED"; published], "{state}");
    }
}

#[test]
fn a_rejection_is_published_once_even_at_the_end_of_the_wait() {
    let clock = Clock::manual();
    let breaker = in_state(on(&clock).permitted_number_of_calls_in_half_open_state(1), State::Open);
    let heard = Heard::of(&breaker);
    clock.advance(61 * SECOND);
    let _trial = breaker.try_acquire().unwrap();
    refused(&breaker);
    assert_eq!(heard.names(), ["OPEN>HALF_OPEN", "NOT_PERMITTED"]);
}

#[test]
fn without_a_slow_call_threshold_nothing_is_measured_and_nothing_is_slow() {
    let clock = Clock::manual();
    let breaker = breaker(small(&clock, 2).slow_call_duration_threshold(None).slow_call_rate_threshold(1.0));
    let heard = Heard::of(&breaker);
    let call = breaker.try_acquire().unwrap();
    clock.advance(YEAR);
    call.success();
    took(&breaker, YEAR, Failure);
    assert_eq!((counts(&breaker), breaker.metrics().slow_call_rate), ([2, 1, 0, 0], Some(0.0)));
    let kinds: Vec<_> = heard.take().into_iter().map(|(_, kind)| kind).collect();
    assert_eq!(kinds[0], EventKind::Success { elapsed: None, attempts: 0 });
    assert_eq!(kinds[1], EventKind::Error { elapsed: Some(YEAR), attempts: 0 });
}

#[test]
fn a_rejection_tells_the_state_and_the_numbers_that_decided() {
    let clock = Clock::manual();
    clock.advance(SECOND);
    let breaker = breaker(
        small(&clock, 4)
            .slow_call_duration_threshold(SECOND)
            .permitted_number_of_calls_in_half_open_state(1)
            .wait_duration_in_open_state(5 * SECOND),
    );
    took(&breaker, 2 * SECOND, Failure);
    took(&breaker, MS, Failure);
    record(&breaker, &[Failure, Success]);
    clock.advance(2 * SECOND);
    let open = refused(&breaker);
    assert_eq!((open.name(), open.state(), open.buffered_calls()), ("orders", State::Open, 4));
    assert_eq!((open.failure_rate(), open.slow_call_rate()), (Some(75.0), Some(25.0)));
    assert_eq!(open.retry_after(), Some(3 * SECOND + NANO));
    assert_eq!(
        open.to_string(),
        "circuit breaker 'orders' is OPEN and does not permit further calls; 75 % of 4 calls failed; 25 % were slow; \
         retry after 3s"
    );
    let rejected = Rejected::from(open.clone());
    assert_eq!((rejected.retry_after(), rejected.http_status()), (open.retry_after(), 503));
    assert!(rejected.is_refusal());

    clock.advance(4 * SECOND);
    let _trial = breaker.try_acquire().unwrap();
    let full = refused(&breaker);
    assert_eq!((full.state(), full.retry_after(), full.failure_rate()), (State::HalfOpen, None, Some(75.0)));
    breaker.transition_to_forced_open().unwrap();
    let forced = refused(&breaker);
    assert_eq!((forced.state(), forced.retry_after(), forced.buffered_calls()), (State::ForcedOpen, None, 0));
    assert_eq!(forced.to_string(), "circuit breaker 'orders' is FORCED_OPEN and does not permit further calls");
}

#[test]
fn a_circuit_opened_by_hand_tells_no_rate_it_did_not_have() {
    let clock = Clock::manual();
    let breaker = breaker(small(&clock, 4));
    record(&breaker, &[Failure]);
    breaker.transition_to_open().unwrap();
    let open = refused(&breaker);
    assert_eq!((open.failure_rate(), open.slow_call_rate(), open.buffered_calls()), (None, None, 1));
}

#[test]
fn a_circuit_that_opens_for_ever_names_no_moment() {
    let clock = Clock::manual();
    let breaker = breaker(small(&clock, 4));
    breaker.transition_to_open_for(Duration::MAX).unwrap();
    assert_eq!(refused(&breaker).retry_after(), None);
    clock.advance(500 * YEAR);
    assert_eq!((breaker.state(), refused(&breaker).retry_after()), (State::Open, None));
}

#[test]
fn reading_the_metrics_changes_nothing() {
    for state in STATES {
        let clock = Clock::manual();
        let breaker = in_state(twenty_seconds(&clock), state);
        let _call = breaker.try_acquire();
        clock.advance(SECOND / 2);
        let heard = Heard::of(&breaker);
        let before = breaker.metrics();
        for _ in 0..100 {
            assert_eq!((breaker.metrics(), breaker.state()), (before, state));
        }
        assert_eq!(heard.take(), []);
    }
}

// Windows

#[test]
fn a_count_window_forgets_a_call_exactly_when_it_is_too_old() {
    for size in [1, 2, 63, 64, 65, 127, 128, 129] {
        let clock = Clock::manual();
        let breaker = in_state(small(&clock, size).slow_call_duration_threshold(SECOND), State::MetricsOnly);
        for _ in 0..3 {
            record(&breaker, &[Failure]);
            for _ in 1..size {
                record(&breaker, &[Success]);
                assert_eq!(breaker.metrics().failed_calls, 1, "{size}");
            }
            took(&breaker, 2 * SECOND, Success);
            assert_eq!(counts(&breaker), [size, 0, 1, 0], "{size}");
            for _ in 1..size {
                record(&breaker, &[Success]);
                assert_eq!(breaker.metrics().slow_calls, 1, "{size}");
            }
            record(&breaker, &[Success]);
            assert_eq!(counts(&breaker), [size, 0, 0, 0], "{size}");
        }
    }
}

#[test]
fn a_window_full_of_successes_slides_out_as_failures_come_in() {
    for size in [1, 2, 63, 64, 65, 100] {
        let clock = Clock::manual();
        let breaker = breaker(small(&clock, size));
        record(&breaker, &vec![Success; 10_000]);
        let enough = size.div_ceil(2) as usize;
        record(&breaker, &vec![Failure; enough - 1]);
        assert_eq!(breaker.state(), State::Closed, "{size}");
        record(&breaker, &[Failure]);
        assert_eq!(breaker.state(), State::Open, "{size}");
    }
}

#[test]
fn a_window_of_one_call_follows_the_last_one() {
    let clock = Clock::manual();
    let breaker = in_state(small(&clock, 1), State::MetricsOnly);
    for outcome in [Failure, Success, Failure, Failure, Success] {
        record(&breaker, &[outcome]);
        let rate = if outcome == Failure { 100.0 } else { 0.0 };
        assert_eq!((breaker.metrics().failure_rate, breaker.metrics().buffered_calls), (Some(rate), 1));
    }
}

#[test]
fn a_success_that_evicts_a_success_does_not_open_but_a_slow_one_may() {
    let clock = Clock::manual();
    let config = small(&clock, 2).slow_call_duration_threshold(SECOND).slow_call_rate_threshold(50.0);
    let breaker = breaker(config);
    record(&breaker, &[Success; 5]);
    took(&breaker, 2 * SECOND, Success);
    assert_eq!((breaker.state(), breaker.metrics().slow_call_rate), (State::Open, Some(50.0)));
}

#[test]
fn time_that_passes_raises_no_rate_but_the_next_result_sees_it() {
    let clock = Clock::manual();
    let config = on(&clock).sliding_window_type(SlidingWindowType::TimeBased).sliding_window_size(2);
    let breaker = breaker(config.minimum_number_of_calls(2));
    record(&breaker, &[Success, Success, Success]);
    clock.advance(SECOND);
    record(&breaker, &[Failure, Failure]);
    assert_eq!(breaker.state(), State::Closed);
    clock.advance(SECOND);
    assert_eq!((breaker.state(), breaker.metrics().failure_rate), (State::Closed, Some(100.0)));
    // Two of three: a success opens it, since the earlier ones are gone.
    record(&breaker, &[Success]);
    assert_eq!(breaker.state(), State::Open);
}

// Calls

type Failed = Error<&'static str>;

#[test]
fn an_error_is_a_failure_and_comes_back_as_it_was() {
    let clock = Clock::manual();
    let breaker = breaker(small(&clock, 9));
    assert_eq!(now(breaker.call(|| ready(Ok::<_, &str>(1)))), Ok(1));
    assert_eq!(now(breaker.call(|| ready(Err::<u32, _>("down")))), Err(Error::Inner("down")));
    assert_eq!(counts(&breaker), [2, 1, 0, 0]);
}

#[test]
fn local_refusals_are_ignored_while_time_outs_and_used_up_retries_are_failures() {
    let clock = Clock::manual();
    for (rejected, failed) in [
        (Rejected::from(BulkheadFull::new("inner", 1)), false),
        (CircuitOpen::new("inner", State::Open).into(), false),
        (TimedOut::new("inner", SECOND).into(), true),
        (RetriesExhausted::new("inner", 3).into(), true),
    ] {
        let breaker = breaker(small(&clock, 9));
        let result = now(breaker.call_flat(|| ready(Err::<(), _>(Failed::from(rejected.clone())))));
        assert_eq!(result, Err(Error::Rejected(rejected)));
        assert_eq!(counts(&breaker), if failed { [1, 1, 0, 0] } else { [0; 4] });
    }
}

#[test]
fn a_classifier_decides_on_results_and_errors_and_shares_the_state() {
    let clock = Clock::manual();
    let breaker = breaker(small(&clock, 9));
    let classified = breaker.classify(|result: &Result<u16, Failed>| match result {
        Ok(500..) => Failure,
        Ok(404) | Err(Error::Inner("busy")) => Ignored,
        Err(Error::Inner("not mine")) => Success,
        other => Outcome::of(other),
    });
    for (result, counted) in [
        (Ok(200), [1, 0, 0, 0]),
        (Ok(503), [2, 1, 0, 0]),
        (Ok(404), [2, 1, 0, 0]),
        (Err("busy"), [2, 1, 0, 0]),
        (Err("not mine"), [3, 1, 0, 0]),
        (Err("down"), [4, 2, 0, 0]),
    ] {
        assert_eq!(now(classified.call(|| ready(result))), result.map_err(Error::Inner));
        assert_eq!(counts(&breaker), counted, "{result:?}");
        assert_eq!(classified.breaker().metrics(), breaker.metrics());
    }
    assert_eq!(classified.call_blocking(|| Ok(503)), Ok(503));
    assert_eq!(counts(&breaker), [5, 3, 0, 0]);
}

#[test]
fn a_classifier_may_open_the_circuit_for_as_long_as_the_server_asks() {
    let clock = Clock::manual();
    let breaker = breaker(small(&clock, 1));
    let polite = breaker.classify(|result: &Result<u16, Failed>| match result {
        Ok(429) => Verdict::from(Failure).open_for(120 * SECOND),
        other => Outcome::of(other).into(),
    });
    assert_eq!(now(polite.call(|| ready(Ok(429)))), Ok(429));
    assert_eq!(refused(&breaker).retry_after(), Some(120 * SECOND + NANO));
}

#[test]
fn a_classifier_that_panics_counts_as_a_failure_and_keeps_no_place() {
    let clock = Clock::manual();
    let breaker = half_open(on(&clock).permitted_number_of_calls_in_half_open_state(2));
    let broken = breaker.classify(|_: &Result<(), Failed>| -> Outcome { resume_unwind(Box::new("bug")) });
    let unwound = catch_unwind(AssertUnwindSafe(|| now(broken.call(|| ready(Ok(()))))));
    assert!(unwound.is_err());
    assert_eq!((counts(&breaker), breaker.metrics().outstanding_trial_calls), ([1, 1, 0, 0], 0));
}

#[test]
fn panicking_calls_open_the_circuit() {
    let clock = Clock::manual();
    let breaker = breaker(small(&clock, 3));
    let in_closure = catch_unwind(AssertUnwindSafe(|| {
        now(breaker.call(|| -> std::future::Ready<Result<(), ()>> { resume_unwind(Box::new("closure")) }))
    }));
    let in_future = catch_unwind(AssertUnwindSafe(|| {
        now(breaker.call(|| async { resume_unwind(Box::new("future")) as Result<(), ()> }))
    }));
    let blocking = catch_unwind(AssertUnwindSafe(|| {
        breaker.call_blocking(|| -> Result<(), ()> { resume_unwind(Box::new("blocking")) })
    }));
    assert!(in_closure.is_err() && in_future.is_err() && blocking.is_err());
    assert_eq!((breaker.state(), counts(&breaker)), (State::Open, [3, 3, 0, 0]));
}

#[test]
fn an_open_circuit_starts_no_call() {
    let clock = Clock::manual();
    let breaker = in_state(on(&clock), State::Open);
    let called = AtomicU32::new(0);
    let call = || {
        called.fetch_add(1, Ordering::Relaxed);
        ready(Ok::<(), ()>(()))
    };
    assert!(matches!(now(breaker.call(call)), Err(Error::Rejected(Rejected::CircuitOpen(_)))));
    assert!(breaker.call_blocking(|| Ok::<_, ()>(called.fetch_add(1, Ordering::Relaxed))).is_err());
    assert_eq!(called.load(Ordering::Relaxed), 0);
}

#[test]
fn a_call_is_admitted_at_its_first_poll_and_gives_its_place_back_when_dropped() {
    let clock = Clock::manual();
    let breaker = half_open(on(&clock).permitted_number_of_calls_in_half_open_state(1));
    let unpolled = breaker.call(pending::<Result<(), ()>>);
    assert_eq!(breaker.metrics().outstanding_trial_calls, 0);
    let mut trial = Box::pin(breaker.call(pending::<Result<(), ()>>));
    assert!(poll_once(trial.as_mut()).is_pending());
    assert_eq!(breaker.metrics().outstanding_trial_calls, 1);
    assert!(now(unpolled).is_err());
    drop(trial);
    assert_eq!((breaker.metrics().outstanding_trial_calls, breaker.state()), (0, State::HalfOpen));
    assert_eq!(now(breaker.call(|| ready(Ok::<_, ()>(1)))), Ok(1));
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn a_call_takes_as_long_as_from_its_first_poll_to_its_end() {
    let clock = Clock::manual();
    let breaker = breaker(small(&clock, 9));
    let heard = Heard::of(&breaker);
    let sleeper = clock.clock();
    let call = breaker.call(|| async move {
        sleeper.sleep(3 * SECOND).await;
        Ok::<_, ()>(())
    });
    clock.advance(SECOND);
    clock.block_on(call).unwrap();
    assert_eq!(heard.take(), [(4_000_000_000, EventKind::Success { elapsed: Some(3 * SECOND), attempts: 0 })]);
}

#[test]
fn the_first_call_after_the_wait_does_not_lock_itself_out() {
    let clock = Clock::manual();
    let breaker = in_state(on(&clock).permitted_number_of_calls_in_half_open_state(1), State::Open);
    let handle = breaker.clone();
    // A listener that asks back is the worst case of it.
    let seen = Arc::new(Mutex::new(Vec::new()));
    let answers = Arc::clone(&seen);
    breaker.on_event(move |_| answers.lock().push((handle.metrics().state, handle.state()))).forever();
    clock.advance(61 * SECOND);
    assert_eq!(now(breaker.call(|| ready(Ok::<_, ()>(1)))), Ok(1));
    assert_eq!(breaker.state(), State::Closed);
    let seen = seen.lock();
    assert!(!seen.is_empty() && seen.iter().all(|(of_metrics, of_state)| of_metrics == of_state), "{seen:?}");
    assert_eq!(seen.last(), Some(&(State::Closed, State::Closed)));
}

#[test]
fn many_transitions_do_not_deepen_the_stack() {
    let clock = Clock::manual();
    let breaker = in_state(idle(&clock).wait_duration_in_open_state(NANO), State::Open);
    let small_stack = thread::Builder::new().stack_size(64 * 1024);
    let run = small_stack.spawn(move || {
        for _ in 0..10_000 {
            clock.advance(MS / 2);
            drop(breaker.try_acquire());
            breaker.state();
        }
    });
    run.unwrap().join().unwrap();
}

#[test]
fn no_timer_is_ever_registered() {
    let clock = Clock::manual();
    for state in STATES {
        let config = idle(&clock).wait_duration_in_open_state(SECOND).max_wait_duration_in_half_open_state(SECOND);
        let breaker = in_state(config.automatic_transition_from_open_to_half_open_enabled(true), state);
        let heard = Heard::of(&breaker);
        for _ in 0..8 {
            let _result = now(breaker.call(|| ready(Err::<(), _>("down"))));
            let mut hung = Box::pin(breaker.call(pending::<Result<(), &str>>));
            let _refused = poll_once(hung.as_mut());
            assert_eq!(clock.next_wake(), None, "{state}");
            clock.advance(SECOND / 2);
            breaker.state();
            assert_eq!(clock.next_wake(), None, "{state}");
        }
        drop(heard);
        breaker.reset();
        assert_eq!((breaker.state(), clock.next_wake()), (State::Closed, None));
    }
}

#[tokio::test]
async fn a_cloned_handle_works_inside_a_runtime() {
    let clock = Clock::manual();
    let breaker = breaker(small(&clock, 4));
    let calls = (0..4).map(|call| {
        let clone = breaker.clone();
        tokio::spawn(async move {
            let work = || async move {
                tokio::task::yield_now().await;
                if call % 2 == 0 { Ok(call) } else { Err("down") }
            };
            clone.call(work).await
        })
    });
    let results = futures::future::join_all(calls).await;
    let answers: Vec<_> = results.into_iter().map(|joined| joined.expect("no panic").ok()).collect();
    assert_eq!(answers, [Some(0), None, Some(2), None]);
    assert_eq!((breaker.state(), breaker.metrics().failure_rate), (State::Open, Some(50.0)));
}

// Threads

const THREADS: u32 = 4;
const CALLS: u32 = 20_000;

/// Every fifth call fails, every tenth of those is slow, and every seventh of all is dropped.
fn run_threads(breaker: &CircuitBreaker) {
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for call in 0..CALLS {
                    let permit = breaker.try_acquire().expect("admitted");
                    match call % 50 {
                        0 => permit.record_elapsed(2 * SECOND, Failure),
                        n if n % 5 == 0 => permit.failure(),
                        n if n % 7 == 0 => drop(permit),
                        1 => permit.record(Ignored),
                        _ => permit.success(),
                    }
                }
            });
        }
    });
}

#[test]
fn no_result_of_any_thread_is_lost_or_counted_twice() {
    let clock = Clock::manual();
    let rounds = THREADS * CALLS / 50;
    let config = || on(&clock).slow_call_duration_threshold(SECOND);
    let time = || config().sliding_window_type(SlidingWindowType::TimeBased).sliding_window_size(60);
    for config in [
        config().sliding_window_size(100_000),
        config().sliding_window_size(100_000).minimum_number_of_calls(1000).failure_rate_threshold(100.0),
        time().minimum_number_of_calls(100_000),
        time(),
    ] {
        let breaker = breaker(config);
        let heard = Arc::new(AtomicU32::new(0));
        run_threads(&breaker);
        // 10 of 50 fail, 6 are dropped, one is ignored, one is slow.
        assert_eq!(counts(&breaker), [43, 10, 1, 1].map(|count| count * rounds));
        let count = Arc::clone(&heard);
        breaker
            .on_event(move |_| {
                count.fetch_add(1, Ordering::Relaxed);
            })
            .forever();
        breaker.reset();
        run_threads(&breaker);
        assert_eq!(counts(&breaker), [43, 10, 1, 1].map(|count| count * rounds));
        assert_eq!(heard.load(Ordering::Relaxed), 44 * rounds + 1);
    }
}

/// Each thread makes so many calls, the first `failed` of which fail. At the end all of them rest.
fn run_round(breaker: &CircuitBreaker, calls: u32, failed: u32) {
    let start = Barrier::new(THREADS as usize);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                start.wait();
                for call in 0..calls {
                    let permit = breaker.try_acquire().expect("admitted");
                    if call < failed { permit.failure() } else { permit.success() }
                }
            });
        }
    });
}

#[test]
fn a_count_window_holds_exactly_the_last_results_of_all_threads() {
    const EACH: u32 = 250;
    let clock = Clock::manual();
    let breaker = in_state(small(&clock, THREADS * EACH), State::MetricsOnly);
    // So long that they meet, and each goes on with a word of its own.
    run_round(&breaker, CALLS, 0);
    for failed in [0, 1, 0, 17, 250, 3, 0, 0, 100, 249] {
        run_round(&breaker, EACH, failed);
        assert_eq!(counts(&breaker), [THREADS * EACH, THREADS * failed, 0, 0]);
        // Far beyond one window, to whatever place in it, and without a failure at its end.
        run_round(&breaker, 10 * EACH + failed, failed);
        assert_eq!(counts(&breaker), [THREADS * EACH, 0, 0, 0]);
    }
}

#[test]
fn a_time_windows_total_is_exact_once_threads_rest() {
    let clock = Clock::manual();
    let three_seconds = on(&clock).sliding_window_type(SlidingWindowType::TimeBased).sliding_window_size(3);
    let breaker = in_state(three_seconds, State::MetricsOnly);
    let rounds = [(100, 0), (5000, 0), (1, 1), (700, 5), (0, 0), (2000, 2000), (3000, 1), (10, 0)];
    for (second, (calls, failed)) in rounds.into_iter().enumerate() {
        run_round(&breaker, calls, failed);
        let covered = &rounds[second.saturating_sub(2)..=second];
        let sum = |count: fn(&(u32, u32)) -> u32| THREADS * covered.iter().map(count).sum::<u32>();
        assert_eq!(counts(&breaker), [sum(|round| round.0), sum(|round| round.1), 0, 0]);
        clock.advance(SECOND);
    }
}

#[test]
fn a_time_window_loses_no_result_to_a_second_that_ends_meanwhile() {
    let clock = Clock::manual();
    let minute = on(&clock).sliding_window_type(SlidingWindowType::TimeBased).sliding_window_size(60);
    let breaker = in_state(minute, State::MetricsOnly);
    thread::scope(|scope| {
        scope.spawn(|| run_round(&breaker, CALLS, 100));
        for _ in 0..59 {
            thread::yield_now();
            clock.advance(SECOND);
        }
    });
    assert_eq!(counts(&breaker), [THREADS * CALLS, THREADS * 100, 0, 0]);
    clock.advance(60 * SECOND);
    assert_eq!(counts(&breaker), [0; 4]);
}

#[test]
fn results_that_race_with_transitions_are_each_counted_once_or_late_once() {
    let clock = Clock::manual();
    let breaker = in_state(small(&clock, 1 << 20).failure_rate_threshold(100.0), State::MetricsOnly);
    let told = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&told);
    breaker
        .on_event(move |event| match event.kind {
            EventKind::Success { .. } | EventKind::Error { .. } => {
                count.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        })
        .forever();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for call in 0..CALLS {
                    let permit = breaker.try_acquire().expect("admitted");
                    if call % 3 == 0 { permit.failure() } else { permit.success() }
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..1000 {
                thread::yield_now();
                let stay = if told.load(Ordering::Relaxed) % 2 == 0 { State::MetricsOnly } else { State::Closed };
                go_to(&breaker, stay).unwrap();
            }
        });
    });
    let late = breaker.metrics().late_results;
    assert_eq!(u64::from(told.load(Ordering::Relaxed)) + late, u64::from(2 * CALLS));
}
