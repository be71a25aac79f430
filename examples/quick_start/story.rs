//! Writes down what happens in the example, and tells it.

use std::sync::{Mutex, PoisonError};

use axum::body::Bytes;
use resile::{
    BoxError, Clock, Error,
    circuit_breaker::{Metrics, State},
    clock::Instant,
    event::{Event, EventKind},
};

use crate::{SLOW, server::Mood};

/// How a call ended for the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallKind {
    Succeeded,
    Slow,
    Failed,
    Rejected,
}

/// All that happened, with the second it happened in.
#[derive(Default)]
pub(crate) struct Timeline {
    pub(crate) moods: Vec<(f64, Mood)>,
    pub(crate) states: Vec<(f64, State)>,
    pub(crate) rates: Vec<(f64, Metrics)>,
    pub(crate) calls: Vec<(f64, CallKind)>,
    rejections_took: Vec<f64>,
    rejection_told: bool,
    pub(crate) end: f64,
}

impl Timeline {
    pub(crate) fn count(&self, kind: CallKind) -> usize {
        self.calls.iter().filter(|(_, of)| *of == kind).count()
    }

    /// Tells how it all went.
    pub(crate) fn sum_up(&self, served: u32, late_results: u64) {
        let [succeeded, slow, failed, rejected] =
            [CallKind::Succeeded, CallKind::Slow, CallKind::Failed, CallKind::Rejected].map(|kind| self.count(kind));
        let mut took = self.rejections_took.clone();
        took.sort_by(f64::total_cmp);
        let median = took.get(took.len() / 2).copied().unwrap_or_default() * 1e6;
        println!();
        println!(
            "{} calls: {succeeded} succeeded, {slow} succeeded slowly, {failed} failed, {rejected} were rejected.",
            self.calls.len()
        );
        println!("The server was spared the rejected ones and saw {served}; a rejection took {median:.0} µs.");
        println!(
            "{late_results} results came from calls made before the circuit opened, and decided nothing any more."
        );
    }
}

/// Writes down what happens, and tells it.
pub(crate) struct Story {
    clock: Clock,
    began: Instant,
    timeline: Mutex<Timeline>,
}

impl Story {
    pub(crate) fn begin() -> Self {
        let clock = Clock::default();
        let timeline = Timeline { states: vec![(0.0, State::Closed)], ..Timeline::default() };
        Self { began: clock.now(), clock, timeline: Mutex::new(timeline) }
    }

    /// Seconds since the beginning.
    pub(crate) fn now(&self) -> f64 {
        self.seconds_at(self.clock.now())
    }

    fn seconds_at(&self, moment: Instant) -> f64 {
        moment.saturating_duration_since(self.began).as_secs_f64()
    }

    fn write(&self, entry: impl FnOnce(&mut Timeline)) {
        entry(&mut self.timeline.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn server_turned(&self, mood: Mood) {
        let now = self.now();
        println!("{now:5.2} s  the server is {mood}");
        self.write(|timeline| timeline.moods.push((now, mood)));
    }

    pub(crate) fn sample(&self, metrics: &Metrics) {
        self.write(|timeline| timeline.rates.push((self.now(), *metrics)));
    }

    pub(crate) fn transition(&self, event: &Event, metrics: &Metrics) {
        let EventKind::StateTransition { from, to, .. } = event.kind else { return };
        let why = match (to, metrics.failure_rate, metrics.slow_call_rate) {
            (State::HalfOpen, ..) => "the wait is over: a few trial calls may pass".to_owned(),
            (State::Open, Some(failed), Some(slow)) => {
                format!("{failed:.0} % of {} calls failed, {slow:.0} % were slow", metrics.buffered_calls)
            }
            _ => "the trial calls went well".to_owned(),
        };
        let at = self.seconds_at(event.at);
        println!("{at:5.2} s    breaker {:<20} {why}", format!("{from} -> {to}"));
        self.write(|timeline| {
            timeline.states.push((at, to));
            timeline.rejection_told &= from != State::Closed;
        });
    }

    pub(crate) fn call_ended(&self, called: f64, result: &Result<Bytes, Error<BoxError>>) {
        let now = self.now();
        self.write(|timeline| {
            let kind = match result {
                Ok(_) if now - called > SLOW.as_secs_f64() => CallKind::Slow,
                Ok(_) => CallKind::Succeeded,
                Err(Error::Inner(_)) => CallKind::Failed,
                Err(Error::Rejected(rejected)) => {
                    if !timeline.rejection_told {
                        println!("{now:5.2} s    a caller is told: {rejected}");
                        timeline.rejection_told = true;
                    }
                    timeline.rejections_took.push(now - called);
                    CallKind::Rejected
                }
            };
            timeline.calls.push((now, kind));
        });
    }

    pub(crate) fn end(&self) -> Timeline {
        let mut timeline = Timeline::default();
        self.write(|written| timeline = std::mem::take(written));
        // Two threads may have told of two transitions the other way round.
        timeline.states.sort_by(|one, other| one.0.total_cmp(&other.0));
        Timeline { end: self.now(), ..timeline }
    }
}
