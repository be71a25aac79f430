//! Records what happened when, and draws it: rates by route, what waits, and the state of each breaker.
//!
//! A [`Timeline`] is told everything with its moment, counted from the start, and draws one SVG from it. A [`Recorder`]
//! is what tells it, while the service runs.

mod draw;
mod layout;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use resile::{CircuitBreaker, circuit_breaker::State, event::EventKind, event::Subscription};
use tokio::time::{self, Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::counters::{Counters, Counts};

/// How many samples are kept. When there are more, every second one is forgotten.
const MOST_SAMPLES: usize = 4_000;
/// How many changes of one breaker are kept, and how many marks. When there are more, the older half is forgotten.
const MOST_CHANGES: usize = 2_000;

/// What happened when. Moments are counted from the start.
#[derive(Clone, Debug)]
pub struct Timeline {
    title: String,
    breakers: Vec<Strip>,
    samples: Vec<(Duration, Counts)>,
    marks: Vec<(Duration, String)>,
}

/// What one breaker did.
#[derive(Clone, Debug)]
struct Strip {
    name: String,
    changes: Vec<(Duration, State)>,
}

/// Why a time line could not be drawn.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the time line cannot be drawn: {0}")]
pub struct CannotDraw(String);

impl Timeline {
    /// An empty one of these breakers.
    pub fn new<N: Into<String>>(title: impl Into<String>, breakers: impl IntoIterator<Item = N>) -> Self {
        let strip = |name: N| Strip { name: name.into(), changes: Vec::new() };
        let breakers = breakers.into_iter().map(strip).collect();
        Self { title: title.into(), breakers, samples: Vec::new(), marks: Vec::new() }
    }

    /// Notes the totals at a moment, and the states of the breakers in their order. What comes before an earlier sample
    /// is ignored.
    pub fn sample(&mut self, at: Duration, counts: Counts, states: &[State]) {
        if self.samples.last().is_some_and(|(last, _)| at <= *last) {
            return;
        }
        if self.samples.len() >= MOST_SAMPLES {
            let mut index = 0;
            self.samples.retain(|_| {
                index += 1;
                index % 2 == 1
            });
        }
        self.samples.push((at, counts));
        for (breaker, state) in states.iter().enumerate() {
            self.transition(at, breaker, *state);
        }
    }

    /// Notes that a breaker is in a state from a moment on.
    pub fn transition(&mut self, at: Duration, breaker: usize, state: State) {
        let Some(Strip { changes, .. }) = self.breakers.get_mut(breaker) else { return };
        if changes.last().is_some_and(|(_, last)| *last == state) {
            return;
        }
        forget_older_half(changes);
        changes.push((at, state));
    }

    /// Labels a moment: in a few words, of which 40 characters are shown.
    pub fn mark(&mut self, at: Duration, text: impl Into<String>) {
        forget_older_half(&mut self.marks);
        self.marks.push((at, text.into()));
    }

    /// The last moment that anything is known of.
    #[must_use]
    pub fn end(&self) -> Duration {
        let samples = self.samples.iter().map(|(at, _)| *at);
        let changes = self.breakers.iter().flat_map(|strip| &strip.changes).map(|(at, _)| *at);
        let marks = self.marks.iter().map(|(at, _)| *at);
        samples.chain(changes).chain(marks).max().unwrap_or_default()
    }

    /// Draws it.
    ///
    /// # Errors
    /// [`CannotDraw`], which nothing known leads to.
    pub fn svg(&self) -> Result<String, CannotDraw> {
        draw::svg(self).map_err(|error| CannotDraw(error.to_string()))
    }

    /// How many a second there were around a moment, of what `of` takes from the totals: over `span` seconds, or what of
    /// them is known.
    fn rate(&self, at: f64, span: f64, of: fn(&Counts) -> u64) -> f64 {
        let (Some((first, _)), Some((last, _))) = (self.samples.first(), self.samples.last()) else { return 0.0 };
        let from = (at - span / 2.0).max(first.as_secs_f64());
        let to = (at + span / 2.0).min(last.as_secs_f64());
        if to <= from { 0.0 } else { ((self.level(to, of) - self.level(from, of)) / (to - from)).max(0.0) }
    }

    /// A total at a moment: on the straight line between the samples around it.
    fn level(&self, at: f64, of: fn(&Counts) -> u64) -> f64 {
        let after = self.samples.partition_point(|(moment, _)| moment.as_secs_f64() < at);
        let level =
            |index: usize| self.samples.get(index).map(|(moment, counts)| (moment.as_secs_f64(), of(counts) as f64));
        match (after.checked_sub(1).and_then(level), level(after)) {
            (Some((from, below)), Some((to, above))) => below + (above - below) * (at - from) / (to - from),
            (Some((_, only)), None) | (None, Some((_, only))) => only,
            (None, None) => 0.0,
        }
    }
}

fn forget_older_half<T>(entries: &mut Vec<T>) {
    if entries.len() >= MOST_CHANGES {
        entries.drain(..MOST_CHANGES / 2);
    }
}

/// Records a time line until it is [finished](Self::finish) or dropped.
#[derive(Debug)]
pub struct Recorder {
    timeline: Arc<Mutex<Timeline>>,
    start: Instant,
    stop: CancellationToken,
    tasks: TaskTracker,
    /// Transitions are noted as they happen: one that lasts for less than a sample's time would be missed.
    _subscriptions: Vec<Subscription>,
}

impl Recorder {
    /// Takes a sample every `period` from now on, 100 to 250 ms being plenty.
    ///
    /// # Panics
    /// Outside a tokio runtime, and for a period of zero.
    #[must_use]
    pub fn start(title: &str, counters: Counters, breakers: Vec<CircuitBreaker>, period: Duration) -> Self {
        let start = Instant::now();
        let timeline = Arc::new(Mutex::new(Timeline::new(title, breakers.iter().map(CircuitBreaker::name))));
        let listen = |(index, breaker): (usize, &CircuitBreaker)| {
            let timeline = Arc::clone(&timeline);
            breaker.on_event(move |event| {
                if let EventKind::StateTransition { to, .. } = event.kind {
                    lock(&timeline).transition(start.elapsed(), index, to);
                }
            })
        };
        let subscriptions = breakers.iter().enumerate().map(listen).collect();

        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (noted, stopped) = (Arc::clone(&timeline), stop.clone());
        let sample = move || {
            // Before the lock is taken: to ask a breaker for its state may change it, which is then noted.
            let states: Vec<_> = breakers.iter().map(CircuitBreaker::state).collect();
            lock(&noted).sample(start.elapsed(), counters.counts(), &states);
        };
        tasks.spawn(async move {
            let mut ticks = time::interval(period);
            ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
            while stopped.run_until_cancelled(ticks.tick()).await.is_some() {
                sample();
            }
            sample();
        });
        tasks.close();
        Self { timeline, start, stop, tasks, _subscriptions: subscriptions }
    }

    /// Labels this moment.
    pub fn mark(&self, text: &str) {
        lock(&self.timeline).mark(self.start.elapsed(), text);
    }

    /// Takes a last sample, and gives what was recorded.
    pub async fn finish(self) -> Timeline {
        self.stop.cancel();
        self.tasks.wait().await;
        lock(&self.timeline).clone()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn lock(timeline: &Mutex<Timeline>) -> std::sync::MutexGuard<'_, Timeline> {
    timeline.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(primary: u64) -> Counts {
        Counts { sent_primary: primary, ..Counts::default() }
    }

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn a_rate_is_the_slope_of_the_total() {
        let mut timeline = Timeline::new("", [""; 0]);
        for (at, total) in [(0.0, 0), (1.0, 0), (2.0, 100), (3.0, 100)] {
            timeline.sample(seconds(at), sent(total), &[]);
        }
        let rates =
            [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 9.0].map(|at| timeline.rate(at, 1.0, Counts::sent).round() as u64);
        assert_eq!(rates, [0, 0, 50, 100, 50, 0, 0, 0]);
    }

    #[test]
    fn the_number_of_samples_is_bounded_and_both_ends_are_kept() {
        let mut timeline = Timeline::new("", ["a"]);
        for number in 0..20_001_u32 {
            timeline.sample(Duration::from_millis(number.into()), sent(number.into()), &[State::Closed]);
        }
        assert!(timeline.samples.len() <= MOST_SAMPLES);
        assert_eq!((timeline.samples[0].0, timeline.end()), (Duration::ZERO, seconds(20.0)));
        assert!((timeline.rate(10.0, 5.0, Counts::sent) - 1_000.0).abs() < 1e-6);
        assert_eq!(timeline.breakers[0].changes.len(), 1, "it has not changed");
    }

    #[test]
    fn the_number_of_changes_is_bounded() {
        let mut timeline = Timeline::new("", ["a"]);
        for number in 0..10_001_u32 {
            let state = if number % 2 == 0 { State::Open } else { State::HalfOpen };
            timeline.transition(Duration::from_millis(number.into()), 0, state);
            timeline.mark(Duration::from_millis(number.into()), "again");
        }
        assert!(timeline.breakers[0].changes.len() <= MOST_CHANGES && timeline.marks.len() <= MOST_CHANGES);
        assert_eq!(timeline.breakers[0].changes.last(), Some(&(seconds(10.0), State::Open)));
    }
}
