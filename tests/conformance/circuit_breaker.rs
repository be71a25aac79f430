use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use resile::{
    CircuitBreaker, IntervalFunction, ManualClock, Outcome, Subscription,
    circuit_breaker::{Config, OwnedPermit, SlidingWindowType, State},
    clock::Instant,
    event::{Event, EventKind},
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Trace {
    id: String,
    config: Settings,
    initial: Expect,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Settings {
    sliding_window_type: String,
    sliding_window_size: u32,
    minimum_number_of_calls: u32,
    failure_rate_threshold: f32,
    slow_call_rate_threshold: f32,
    slow_call_duration_threshold_ms: u64,
    permitted_number_of_calls_in_half_open_state: u32,
    wait_duration_in_open_state_ms: u64,
    #[serde(default)]
    max_wait_duration_in_half_open_state_ms: u64,
    #[serde(default)]
    automatic_transition: bool,
    clock_start_epoch_ms: u64,
    initial_state: Option<String>,
    transition_to_state_after_max_wait: Option<String>,
    open_wait_backoff_multiplier: Option<f64>,
    open_wait_backoff_max_ms: Option<u64>,
}

#[derive(Deserialize)]
struct Step {
    op: String,
    call: Option<u64>,
    ms: Option<u64>,
    duration_ms: Option<u64>,
    expect: Expect,
}

#[derive(Deserialize, Debug, PartialEq, Clone)]
struct Expect {
    state: String,
    buffered_calls: u32,
    failed_calls: u32,
    slow_calls: u32,
    slow_failed_calls: u32,
    slow_successful_calls: u32,
    successful_calls: u32,
    not_permitted_calls: u64,
    failure_rate: f32,
    slow_call_rate: f32,
    permitted: Option<bool>,
    error: Option<String>,
    events: Option<Vec<String>>,
}

fn state(name: &str) -> State {
    let states = [State::Closed, State::Open, State::HalfOpen, State::Disabled, State::ForcedOpen, State::MetricsOnly];
    states.into_iter().find(|state| state.as_str() == name).unwrap_or_else(|| panic!("no state {name}"))
}

/// Resilience4j's back-off, which drops the fraction of a millisecond at every step.
fn truncated_backoff(initial: u64, multiplier: f64, max: Option<u64>) -> IntervalFunction {
    IntervalFunction::custom(move |attempt| {
        let mut wait = initial;
        for _ in 1..attempt {
            wait = (wait as f64 * multiplier) as u64;
        }
        Duration::from_millis(max.map_or(wait, |max| wait.min(max)))
    })
}

struct Replay {
    clock: ManualClock,
    breaker: CircuitBreaker,
    permits: HashMap<u64, OwnedPermit>,
    events: Arc<Mutex<Vec<String>>>,
    _subscription: Subscription,
}

impl Replay {
    fn new(settings: &Settings) -> Self {
        let clock = ManualClock::starting_at(Instant::from_nanos(
            60_000_000_000 + settings.clock_start_epoch_ms % 1000 * 1_000_000,
        ));
        let size = settings.sliding_window_size;
        let time_based = settings.sliding_window_type == "time_based";
        let minimum = settings.minimum_number_of_calls;
        let permitted = settings.permitted_number_of_calls_in_half_open_state;
        let mut config = Config::default()
            .clock(&clock)
            .sliding_window_size(size)
            .sliding_window_type(if time_based { SlidingWindowType::TimeBased } else { SlidingWindowType::CountBased })
            .minimum_number_of_calls(if time_based { minimum } else { minimum.min(size) })
            .failure_rate_threshold(settings.failure_rate_threshold)
            .slow_call_rate_threshold(settings.slow_call_rate_threshold)
            .slow_call_duration_threshold(Duration::from_millis(settings.slow_call_duration_threshold_ms))
            .permitted_number_of_calls_in_half_open_state(permitted)
            // Resilience4j clamps the minimum to a smaller count window, but not for the half-open state.
            .minimum_number_of_calls_in_half_open_state(minimum.min(permitted))
            .max_wait_duration_in_half_open_state(Duration::from_millis(
                settings.max_wait_duration_in_half_open_state_ms,
            ))
            .automatic_transition_from_open_to_half_open_enabled(settings.automatic_transition)
            .max_trial_call_duration(Duration::ZERO)
            .initial_state(settings.initial_state.as_deref().map_or(State::Closed, state));
        if let Some(after) = &settings.transition_to_state_after_max_wait {
            config = config.transition_to_state_after_wait_duration(state(after));
        }
        let wait = settings.wait_duration_in_open_state_ms;
        config = match settings.open_wait_backoff_multiplier {
            None => config.wait_duration_in_open_state(Duration::from_millis(wait)),
            Some(multiplier) => config.wait_interval_function_in_open_state(truncated_backoff(
                wait,
                multiplier,
                settings.open_wait_backoff_max_ms,
            )),
        };
        let breaker = CircuitBreaker::new("replay", config).expect("a valid config");
        let events = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&events);
        let subscription = breaker.on_event(move |event| seen.lock().unwrap().push(told(event)));
        Self { clock, breaker, permits: HashMap::new(), events, _subscription: subscription }
    }

    fn step(&mut self, step: &Step) -> Expect {
        let breaker = &self.breaker;
        let (mut permitted, mut legal) = (None, Ok(()));
        match step.op.as_str() {
            "advance" => self.clock.advance(Duration::from_millis(step.ms.expect("ms"))),
            "acquire" => match breaker.try_acquire_owned() {
                Ok(permit) => {
                    permitted = Some(true);
                    // Where the recording has no permit there is no call to name it; the difference shows below.
                    self.permits.insert(step.call.unwrap_or(u64::MAX), permit);
                }
                Err(_) => permitted = Some(false),
            },
            "success" | "failure" | "ignored" | "unrecorded_failure" => {
                let outcome = match step.op.as_str() {
                    "failure" => Outcome::Failure,
                    "ignored" => Outcome::Ignored,
                    _ => Outcome::Success,
                };
                let permit = self.permits.remove(&step.call.expect("a call")).expect("an outstanding call");
                permit.record_elapsed(Duration::from_millis(step.duration_ms.expect("a duration")), outcome);
            }
            "release" => drop(self.permits.remove(&step.call.expect("a call")).expect("an outstanding call")),
            "reset" => breaker.reset(),
            "to_closed" => legal = breaker.transition_to_closed(),
            "to_open" => legal = breaker.transition_to_open(),
            "to_open_for" => legal = breaker.transition_to_open_for(Duration::from_millis(step.ms.expect("ms"))),
            "to_half_open" => legal = breaker.transition_to_half_open(),
            "disable" => legal = breaker.transition_to_disabled(),
            "force_open" => legal = breaker.transition_to_forced_open(),
            "metrics_only" => legal = breaker.transition_to_metrics_only(),
            other => panic!("unknown op {other}"),
        }
        let mut seen = self.see();
        seen.permitted = permitted;
        seen.error = legal.err().map(|_| "illegal_transition".into());
        seen
    }

    fn see(&self) -> Expect {
        let metrics = self.breaker.metrics();
        Expect {
            state: self.breaker.state().as_str().into(),
            buffered_calls: metrics.buffered_calls,
            failed_calls: metrics.failed_calls,
            slow_calls: metrics.slow_calls,
            slow_failed_calls: metrics.slow_failed_calls,
            slow_successful_calls: metrics.slow_successful_calls(),
            successful_calls: metrics.successful_calls(),
            not_permitted_calls: metrics.not_permitted_calls,
            failure_rate: metrics.failure_rate.unwrap_or(-1.0),
            slow_call_rate: metrics.slow_call_rate.unwrap_or(-1.0),
            permitted: None,
            error: None,
            events: Some(std::mem::take(&mut self.events.lock().unwrap())),
        }
    }
}

fn told(event: &Event) -> String {
    let name = event.kind.as_str();
    match &event.kind {
        EventKind::StateTransition { from, to, .. } => format!("{name}:{from}>{to}"),
        EventKind::FailureRateExceeded { failure_rate: rate }
        | EventKind::SlowCallRateExceeded { slow_call_rate: rate } => format!("{name}:{rate:?}"),
        _ => name.into(),
    }
}

fn compare(place: &str, expected: &Expect, mut seen: Expect) -> Result<(), String> {
    if expected.events.is_none() {
        seen.events = None;
    }
    if *expected == seen { Ok(()) } else { Err(format!("{place}:\n  expected {expected:?}\n  got      {seen:?}")) }
}

#[test]
fn the_breaker_does_what_resilience4j_does() {
    crate::replay(
        "circuit_breaker",
        |trace: &Trace| &trace.id,
        |trace| {
            let mut replay = Replay::new(&trace.config);
            compare("at the start", &trace.initial, replay.see())?;
            for (number, step) in trace.steps.iter().enumerate() {
                let seen = replay.step(step);
                compare(&format!("step {number} ({})", step.op), &step.expect, seen)?;
            }
            Ok(())
        },
    );
}
