//! What circuit breakers told of late: kept, listed, and read by streams.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use serde::Serialize;

use super::config::Config;
use crate::{CircuitBreaker, Event, Subscription, clock::nanos, event::EventKind};

/// An event and when it happened for people.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// Counts the events of all breakers, from 1.
    pub(super) number: u64,
    /// Milliseconds since 1970.
    pub(super) wall: u64,
    pub(super) what: What,
}

/// What is kept.
#[derive(Debug, Clone)]
pub(super) enum What {
    Event(Event),
    /// What somebody did, for the page alone.
    Note {
        kind: &'static str,
        /// The instance; empty where it is about all.
        name: String,
        text: String,
    },
}

impl Entry {
    /// The event, if it is one and wanted.
    pub(super) fn wanted(&self, filter: &Filter) -> Option<&Event> {
        match &self.what {
            What::Event(event) => filter.wants(event).then_some(event),
            What::Note { .. } => None,
        }
    }
}

/// Resilience4j's form of an event.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EventView {
    circuit_breaker_name: String,
    r#type: &'static str,
    creation_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_in_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_transition: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure_rate: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slow_call_rate: Option<f32>,
}

impl EventView {
    pub(super) fn of(event: &Event, wall: u64) -> Self {
        let kind = &event.kind;
        let mut view = Self {
            circuit_breaker_name: event.name.to_string(),
            r#type: kind.as_str(),
            creation_time: wall_text(wall),
            duration_in_ms: elapsed(kind).map(|elapsed| u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)),
            state_transition: None,
            failure_rate: None,
            slow_call_rate: None,
        };
        match kind {
            EventKind::StateTransition { from, to, .. } => {
                view.state_transition = Some(format!("{}_TO_{}", from.as_str(), to.as_str()));
            }
            EventKind::FailureRateExceeded { failure_rate } => view.failure_rate = Some(*failure_rate),
            EventKind::SlowCallRateExceeded { slow_call_rate } => view.slow_call_rate = Some(*slow_call_rate),
            _ => {}
        }
        view
    }
}

fn elapsed(kind: &EventKind) -> Option<Duration> {
    match kind {
        EventKind::Success { elapsed, .. } | EventKind::Error { elapsed, .. } | EventKind::IgnoredError { elapsed } => {
            *elapsed
        }
        _ => None,
    }
}

/// Whether it tells of one call, and not of the circuit.
fn tells_of_a_call(kind: &EventKind) -> bool {
    matches!(
        kind,
        EventKind::Success { .. }
            | EventKind::Error { .. }
            | EventKind::IgnoredError { .. }
            | EventKind::NotPermitted
            | EventKind::LateResult
    )
}

/// Milliseconds since 1970. People read the day and the hour, which no monotonic clock knows; nothing is decided by it.
#[allow(clippy::disallowed_types)]
pub(super) fn wall_now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[allow(clippy::disallowed_types)]
pub(super) fn wall_text(millis: u64) -> String {
    let moment = std::time::SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis));
    moment.map_or_else(String::new, |moment| humantime::format_rfc3339_millis(moment).to_string())
}

/// Which events are wanted.
#[derive(Debug, Clone, Default)]
pub(super) struct Filter {
    pub(super) name: Option<String>,
    pub(super) kind: Option<&'static str>,
}

impl Filter {
    fn wants(&self, event: &Event) -> bool {
        self.name.as_deref().is_none_or(|name| event.name.as_str() == name)
            && self.kind.is_none_or(|kind| event.kind.as_str() == kind)
    }

    /// The type of that name, among those a circuit breaker has.
    pub(super) fn kind_named(kind: &str) -> Option<&'static str> {
        let kinds = [
            "SUCCESS",
            "ERROR",
            "IGNORED_ERROR",
            "NOT_PERMITTED",
            "STATE_TRANSITION",
            "RESET",
            "FAILURE_RATE_EXCEEDED",
            "SLOW_CALL_RATE_EXCEEDED",
            "LATE_RESULT",
            "TRIAL_CALL_EXPIRED",
        ];
        kinds.into_iter().find(|known| known.eq_ignore_ascii_case(kind))
    }
}

/// The finished calls of a breaker since it is watched, and how long they took together.
#[derive(Debug, Default)]
pub(super) struct Durations {
    calls: AtomicU64,
    nanos: AtomicU64,
}

impl Durations {
    fn add(&self, elapsed: Duration) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(nanos(elapsed), Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> (u64, Duration) {
        (self.calls.load(Ordering::Relaxed), Duration::from_nanos(self.nanos.load(Ordering::Relaxed)))
    }
}

#[derive(Debug)]
struct Watched {
    durations: Arc<Durations>,
    _subscription: Subscription,
}

/// The last events of all breakers, and who is told of the next.
#[derive(Debug)]
pub(super) struct Events {
    kept: Mutex<Kept>,
    keeps_calls: bool,
    watched: Mutex<HashMap<Box<str>, Watched>>,
    pub(super) readers: super::stream::Readers,
}

#[derive(Debug)]
struct Kept {
    capacity: usize,
    last: u64,
    calls: VecDeque<Entry>,
    changes: VecDeque<Entry>,
}

impl Events {
    pub(super) fn new(config: &Config) -> Arc<Self> {
        let capacity = config.event_buffer_size;
        let kept = Kept { capacity, last: 0, calls: VecDeque::new(), changes: VecDeque::new() };
        Arc::new(Self {
            kept: Mutex::new(kept),
            keeps_calls: config.keep_events_of_calls,
            watched: Mutex::default(),
            readers: super::stream::Readers::new(config.max_event_streams),
        })
    }

    /// Listens to a breaker, in place of an earlier one of that name. Holds nothing of it but its clock.
    pub(super) fn watch(self: &Arc<Self>, breaker: &CircuitBreaker) {
        let clock = breaker.config().clock;
        let durations = Arc::new(Durations::default());
        let (events, timing): (Weak<Self>, _) = (Arc::downgrade(self), Arc::clone(&durations));
        let subscription = breaker.on_event(move |event| {
            let Some(events) = events.upgrade() else { return };
            if let Some(elapsed) = elapsed(&event.kind) {
                timing.add(elapsed);
            }
            let of_a_call = tells_of_a_call(&event.kind);
            if of_a_call && !events.keeps_calls {
                return;
            }
            // A transition may be told of later than it was due.
            let age = clock.now().saturating_duration_since(event.at);
            let wall = wall_now().saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
            events.keep(of_a_call, wall, What::Event(event.clone()));
        });
        let watched = Watched { durations, _subscription: subscription };
        let before = self.watched.lock().insert(breaker.name().into(), watched);
        drop(before);
    }

    pub(super) fn forget(&self, name: &str) {
        let before = self.watched.lock().remove(name);
        drop(before);
    }

    pub(super) fn is_watched(&self, name: &str) -> bool {
        self.watched.lock().contains_key(name)
    }

    pub(super) fn durations(&self, name: &str) -> Option<(u64, Duration)> {
        self.watched.lock().get(name).map(|watched| watched.durations.read())
    }

    /// Keeps what somebody did.
    pub(super) fn note(&self, kind: &'static str, name: &str, text: String) {
        self.keep(false, wall_now(), What::Note { kind, name: name.into(), text });
    }

    fn keep(&self, of_a_call: bool, wall: u64, what: What) {
        let mut kept = self.kept.lock();
        kept.last += 1;
        let entry = Entry { number: kept.last, wall, what };
        let capacity = kept.capacity;
        let ring = if of_a_call { &mut kept.calls } else { &mut kept.changes };
        let gone = if ring.len() >= capacity { ring.pop_front() } else { None };
        ring.push_back(entry);
        drop(kept);
        drop(gone);
        self.readers.wake();
    }

    /// The number of the last event.
    pub(super) fn last(&self) -> u64 {
        self.kept.lock().last
    }

    /// The first event kept after number `after`.
    pub(super) fn next(&self, after: u64) -> Option<Entry> {
        let kept = self.kept.lock();
        let first = |ring: &VecDeque<Entry>| ring.get(ring.partition_point(|entry| entry.number <= after)).cloned();
        match (first(&kept.calls), first(&kept.changes)) {
            (Some(call), Some(change)) => Some(if call.number < change.number { call } else { change }),
            (call, change) => call.or(change),
        }
    }

    /// The events kept that are wanted, oldest first.
    pub(super) fn list(&self, filter: &Filter) -> Vec<EventView> {
        let kept = self.kept.lock();
        let wanted = kept.calls.iter().chain(&kept.changes).filter(|entry| entry.wanted(filter).is_some());
        let mut wanted: Vec<_> = wanted.cloned().collect();
        drop(kept);
        wanted.sort_by_key(|entry| entry.number);
        let view = |entry: &Entry| entry.wanted(filter).map(|event| EventView::of(event, entry.wall));
        wanted.iter().filter_map(view).collect()
    }

    /// What was told of circuits, and not of calls, after number `after`.
    pub(super) fn changes(&self, after: u64) -> Vec<Entry> {
        let kept = self.kept.lock();
        kept.changes.iter().filter(|entry| entry.number > after).cloned().collect()
    }
}
