//! What a `tracing` subscriber is told.

mod support;

use std::{collections::BTreeMap, fmt, future::ready, sync::Arc};

use parking_lot::Mutex;
use resile::{
    Bulkhead, CircuitBreaker, Clock, Error, Pipeline, RateLimiter, Resilience, Retry, TimeLimiter, bulkhead,
    circuit_breaker, rate_limiter, retry, time_limiter, tracing::AttemptSpan,
};
use support::SECOND;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

type Fields = BTreeMap<&'static str, String>;

/// Writes down every event with the fields of the span around it.
#[derive(Clone, Default)]
struct Notebook {
    events: Arc<Mutex<Vec<(Level, Fields)>>>,
    spans: Arc<Mutex<Vec<Fields>>>,
    entered: Arc<Mutex<Vec<u64>>>,
}

struct Reader<'a>(&'a mut Fields);

impl Visit for Reader<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}").trim_matches('"').to_owned());
    }
}

impl Subscriber for Notebook {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        let mut fields = Fields::new();
        span.record(&mut Reader(&mut fields));
        let mut spans = self.spans.lock();
        spans.push(fields);
        span::Id::from_u64(spans.len() as u64)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::new();
        event.record(&mut Reader(&mut fields));
        if let Some(span) = self.entered.lock().last() {
            let attempt = self.spans.lock()[*span as usize - 1]["attempt"].clone();
            fields.insert("within attempt", attempt);
        }
        self.events.lock().push((*event.metadata().level(), fields));
    }

    fn enter(&self, span: &span::Id) {
        self.entered.lock().push(span.into_u64());
    }

    fn exit(&self, _: &span::Id) {
        self.entered.lock().pop();
    }
}

fn noted(run: impl FnOnce()) -> Vec<(Level, Fields)> {
    let notebook = Notebook::default();
    tracing::subscriber::with_default(notebook.clone(), run);
    let events = notebook.events.lock();
    events.clone()
}

fn field<'a>(event: &'a (Level, Fields), name: &str) -> Option<&'a str> {
    event.1.get(name).map(String::as_str)
}

fn told(events: &[(Level, Fields)]) -> Vec<(Level, &str)> {
    events.iter().map(|event| (event.0, field(event, "event").expect("an event of ours"))).collect()
}

#[test]
fn a_circuit_that_opens_is_a_warning_and_one_that_closes_is_not() {
    let clock = Clock::manual();
    let config = circuit_breaker::Config::default().sliding_window_size(1).clock(&clock);
    let breaker = CircuitBreaker::new("orders", config).unwrap();
    let _bound = resile::tracing::bind(&breaker);
    let events = noted(|| {
        let permit = breaker.try_acquire().unwrap();
        clock.advance(SECOND / 2);
        permit.failure();
        assert!(breaker.try_acquire().is_err());
        breaker.reset();
    });
    let expected = [
        (Level::DEBUG, "ERROR"),
        (Level::WARN, "FAILURE_RATE_EXCEEDED"),
        (Level::WARN, "STATE_TRANSITION"),
        (Level::DEBUG, "NOT_PERMITTED"),
        (Level::INFO, "STATE_TRANSITION"),
        (Level::INFO, "RESET"),
    ];
    assert_eq!(told(&events), expected);
    assert_eq!((field(&events[0], "elapsed"), field(&events[1], "rate")), (Some("0.5"), Some("100.0")));
    let opened = ["name", "policy", "from", "to", "generation"].map(|name| field(&events[2], name));
    assert_eq!(opened, ["orders", "circuit_breaker", "CLOSED", "OPEN", "1"].map(Some));
    assert_eq!(field(&events[2], "message"), Some("the circuit breaker changed its state"));
    assert_eq!(field(&events[3], "rate"), None);
}

#[test]
fn what_concerns_one_call_is_told_quietly() {
    let clock = Clock::manual();
    let retry = Retry::new("orders", retry::Config::default().max_attempts(2).clock(&clock)).unwrap();
    let limiter =
        RateLimiter::new("orders", rate_limiter::Config::default().limit_for_period(1).clock(&clock)).unwrap();
    let time = TimeLimiter::new("orders", time_limiter::Config::default().clock(&clock)).unwrap();
    let bulkhead = Bulkhead::new("orders", bulkhead::Config::default().max_concurrent_calls(1).clock(&clock)).unwrap();
    let _bound = [
        resile::tracing::bind(&retry),
        resile::tracing::bind(&limiter),
        resile::tracing::bind(&time),
        resile::tracing::bind(&bulkhead),
    ];
    let events = noted(|| {
        assert!(clock.block_on(retry.call(|| ready(Err::<(), _>(())))).is_err());
        limiter.try_acquire(1).unwrap();
        assert!(limiter.try_acquire(2).is_err());
        limiter.drain();
        assert!(clock.block_on(time.call(std::future::pending::<Result<(), ()>>)).is_err());
        let permit = bulkhead.try_acquire().unwrap();
        assert!(bulkhead.try_acquire().is_err());
        permit.finish();
    });
    let expected = [
        (Level::DEBUG, "RETRY"),
        (Level::DEBUG, "ERROR"),
        (Level::TRACE, "SUCCESSFUL_ACQUIRE"),
        (Level::DEBUG, "FAILED_ACQUIRE"),
        (Level::INFO, "DRAINED"),
        (Level::DEBUG, "TIMEOUT"),
        (Level::TRACE, "CALL_PERMITTED"),
        (Level::DEBUG, "CALL_REJECTED"),
        (Level::TRACE, "CALL_FINISHED"),
    ];
    assert_eq!(told(&events), expected);
    assert_eq!((field(&events[0], "attempts"), field(&events[0], "wait")), (Some("1"), Some("0.5")));
    assert_eq!((field(&events[1], "attempts"), field(&events[3], "permits")), (Some("2"), Some("2")));
}

#[test]
fn nothing_is_told_after_the_subscription_is_dropped() {
    let breaker = CircuitBreaker::with_defaults("orders");
    let bound = resile::tracing::bind(&breaker);
    let events = noted(|| {
        drop(bound);
        breaker.transition_to_open().unwrap();
    });
    assert_eq!(told(&events), []);
}

#[test]
fn each_attempt_has_a_span_where_one_is_asked_for() {
    let clock = Clock::manual();
    let retry = Retry::new("orders", retry::Config::default().clock(&clock)).unwrap();
    let attempt = || {
        tracing::info!(event = "WORK");
        ready(Err::<(), _>("down"))
    };
    let guard = Pipeline::new((retry.clone(), AttemptSpan::new("orders")));
    let events = noted(|| assert_eq!(clock.block_on(guard.call(attempt)), Err(Error::Inner("down"))));
    let within: Vec<_> = events.iter().map(|event| field(event, "within attempt")).collect();
    assert_eq!(within, [Some("1"), Some("2"), Some("3")]);

    let events = noted(|| assert_eq!(clock.block_on(retry.call(attempt)), Err(Error::Inner("down"))));
    assert!(events.iter().all(|event| field(event, "within attempt").is_none()));
}

#[test]
fn every_instance_of_the_registries_is_told_of_until_the_end() {
    let resilience = Resilience::new();
    let early = resilience.circuit_breakers().get("early");
    let installed = resile::tracing::install(&resilience);
    let events = noted(|| {
        early.transition_to_open().unwrap();
        let late = resilience.circuit_breakers().get("late");
        late.transition_to_open().unwrap();
        resilience.circuit_breakers().remove("late");
    });
    let names: Vec<_> = events.iter().map(|event| field(event, "name").unwrap()).collect();
    assert_eq!(names, ["early", "late", "late", "late"]);
    let expected = [
        (Level::WARN, "STATE_TRANSITION"),
        (Level::DEBUG, "ADDED"),
        (Level::WARN, "STATE_TRANSITION"),
        (Level::DEBUG, "REMOVED"),
    ];
    assert_eq!(told(&events), expected);
    drop(installed);
    assert_eq!(told(&noted(|| early.reset())), []);
}

#[test]
fn a_kept_installation_goes_on() {
    let resilience = Resilience::new();
    resile::tracing::install(&resilience).forever();
    let events = noted(|| resilience.circuit_breakers().get("orders").transition_to_open().unwrap());
    assert_eq!(told(&events), [(Level::DEBUG, "ADDED"), (Level::WARN, "STATE_TRANSITION")]);
}
