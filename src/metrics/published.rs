//! What one instance has told the recorder, and the handles it tells through.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use metrics::{Counter, Gauge, Key, KeyName, Label, Level, Metadata, SharedString, with_recorder};
use parking_lot::Mutex;

use super::families::{Family, Kind, TIMER};
use crate::{
    clock::{Instant, nanos},
    meter::{BOUNDS, Durations},
    registry::Tags,
};

const METADATA: Metadata<'static> = Metadata::new("resile", Level::INFO, Some("resile"));

/// The upper bounds as Prometheus writes them.
const LE: [&str; BOUNDS.len()] =
    ["0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0", "10.0", "30.0"];

/// The names in use under one prefix, each made and described once.
#[derive(Debug)]
pub(super) struct Names {
    prefix: String,
    made: Mutex<HashMap<(&'static str, &'static str), KeyName>>,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), made: Mutex::default() }
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    fn name(&self, part: Part<'_>) -> KeyName {
        let Part { family, suffix, kind, .. } = part;
        if let Some(name) = self.made.lock().get(&(family.name, suffix)) {
            return name.clone();
        }
        let name = format!("{}_{}{suffix}", self.prefix, family.name);
        let name = KeyName::from(SharedString::from_shared(Arc::from(name)));
        let (help, unit) = (SharedString::const_str(family.help), Some(family.unit));
        with_recorder(|recorder| match kind {
            Kind::Counter => recorder.describe_counter(name.clone(), unit, help),
            _ => recorder.describe_gauge(name.clone(), unit, help),
        });
        self.made.lock().insert((family.name, suffix), name.clone());
        name
    }
}

/// The labels of every series of an instance, and under which names.
#[derive(Debug, Clone)]
pub struct Labels {
    pub(super) names: Arc<Names>,
    pub(super) labels: Vec<Label>,
    /// The tags of the instance that are among them, to see when they change.
    pub(super) tags: Tags,
    /// Whether it was bound by hand, and is none of a registry's business.
    pub(super) by_hand: bool,
}

/// The state of one instance's series. It outlives the instance, to end them.
#[derive(Default)]
pub struct Published(Mutex<State>);

#[derive(Default)]
struct State {
    /// `None` while nothing is published.
    labels: Option<Labels>,
    /// In the order in which the instance tells its series, which is always the same; made at the first refresh.
    handles: Vec<Handle>,
    /// What a counter was last told, or the bits of a sum. They stay while nothing is published, so that an instance that
    /// comes back goes on.
    told: Vec<u64>,
    longest: Vec<Longest>,
}

enum Handle {
    Counter(Counter),
    Sum(Gauge),
    Gauge(Gauge, f64),
}

impl Published {
    /// Begins, unless it has begun already.
    pub(super) fn begin(&self, labels: Labels) -> bool {
        let mut state = self.0.lock();
        let begins = state.labels.is_none();
        if begins {
            state.labels = Some(labels);
        }
        begins
    }

    /// The tags it is published with, if it is.
    pub(super) fn tags(&self) -> Option<Tags> {
        self.0.lock().labels.as_ref().map(|labels| labels.tags.clone())
    }

    pub(super) fn is_by_hand(&self) -> bool {
        self.0.lock().labels.as_ref().is_some_and(|labels| labels.by_hand)
    }

    /// Tells everything, unless it is over.
    pub(super) fn tell(&self, now: Instant, observe: impl FnOnce(&mut Observer<'_>)) {
        let mut state = self.0.lock();
        let State { labels, handles, told, longest } = &mut *state;
        if let Some(labels) = labels {
            observe(&mut Observer { labels, handles, told, longest, now, next: 0, next_timer: 0 });
        }
    }

    /// Nothing is published from now on, and no gauge says what no longer holds.
    pub(super) fn end(&self) {
        let mut state = self.0.lock();
        state.labels = None;
        for handle in state.handles.drain(..) {
            if let Handle::Gauge(gauge, gone) = handle {
                gauge.set(gone);
            }
        }
    }
}

impl fmt::Debug for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Published").finish_non_exhaustive()
    }
}

type Extra<'a> = &'a [(&'static str, &'static str)];

/// One series of a family.
#[derive(Clone, Copy)]
struct Part<'a> {
    family: &'a Family,
    suffix: &'static str,
    kind: Kind,
    extra: Extra<'a>,
    le: Option<&'static str>,
}

/// Takes what an instance has to tell, always in the same order; what comes to it later, at the end.
pub(super) struct Observer<'a> {
    labels: &'a Labels,
    handles: &'a mut Vec<Handle>,
    told: &'a mut Vec<u64>,
    longest: &'a mut Vec<Longest>,
    now: Instant,
    next: usize,
    next_timer: usize,
}

impl Observer<'_> {
    pub(super) fn tell(&mut self, family: &Family, extra: Extra<'_>, value: f64) {
        self.tell_part(Part { family, suffix: "", kind: family.kind, extra, le: None }, value);
    }

    pub(super) fn count(&mut self, family: &Family, extra: Extra<'_>, total: u64) {
        self.count_part(Part { family, suffix: "", kind: family.kind, extra, le: None }, total);
    }

    pub(super) fn time<const N: usize>(&mut self, family: &Family, extra: Extra<'_>, durations: &Durations<N>) {
        let [bucket, count, sum, max] = TIMER.map(|(suffix, kind)| Part { family, suffix, kind, extra, le: None });
        let (classes, nanos) = durations.totals();
        let mut total = 0;
        for (calls, le) in classes.iter().zip(LE.into_iter().chain(["+Inf"])) {
            total += calls;
            self.count_part(Part { le: Some(le), ..bucket }, total);
        }
        self.count_part(count, total);
        self.tell_part(sum, seconds(nanos));
        if self.next_timer == self.longest.len() {
            self.longest.push(Longest { since: self.now, ..Longest::default() });
        }
        let longest = self.longest[self.next_timer].of_late(durations.take_longest(), self.now);
        self.next_timer += 1;
        self.tell_part(max, seconds(longest));
    }

    fn count_part(&mut self, part: Part<'_>, total: u64) {
        if let (Handle::Counter(counter), told) = self.next(part) {
            // Also where that is zero: an exporter forgets what it is no longer told of.
            counter.increment(total.saturating_sub(*told));
            *told = total.max(*told);
        }
    }

    fn tell_part(&mut self, part: Part<'_>, value: f64) {
        match self.next(part) {
            (Handle::Gauge(gauge, _), _) => gauge.set(value),
            (Handle::Sum(sum), told) => {
                sum.increment(value - f64::from_bits(*told));
                *told = value.to_bits();
            }
            (Handle::Counter(_), _) => {}
        }
    }

    fn next(&mut self, part: Part<'_>) -> (&Handle, &mut u64) {
        let place = self.next;
        self.next += 1;
        if place == self.handles.len() {
            self.handles.push(self.handle(part));
        }
        if place == self.told.len() {
            self.told.push(0);
        }
        (&self.handles[place], &mut self.told[place])
    }

    fn handle(&self, part: Part<'_>) -> Handle {
        let name = self.labels.names.name(part);
        let extra = part.extra.iter().copied().chain(part.le.map(|le| ("le", le)));
        let extra = extra.map(|(key, value)| Label::from_static_parts(key, value));
        let labels: Vec<Label> = self.labels.labels.iter().cloned().chain(extra).collect();
        let key = Key::from_parts(name, labels);
        with_recorder(|recorder| match part.kind {
            Kind::Counter | Kind::Timer => Handle::Counter(recorder.register_counter(&key, &METADATA)),
            Kind::Sum => Handle::Sum(recorder.register_gauge(&key, &METADATA)),
            Kind::Gauge(gone) => Handle::Gauge(recorder.register_gauge(&key, &METADATA), gone),
        })
    }
}

pub(super) fn seconds(nanos: u64) -> f64 {
    Duration::from_nanos(nanos).as_secs_f64()
}

/// The longest of the last one to two minutes.
#[derive(Debug, Default)]
struct Longest {
    since: Instant,
    current: u64,
    previous: u64,
}

impl Longest {
    fn of_late(&mut self, longest: u64, now: Instant) -> u64 {
        let age = nanos(now.saturating_duration_since(self.since)) / 60_000_000_000;
        if age > 0 {
            self.previous = if age == 1 { self.current } else { 0 };
            self.current = 0;
            self.since = now;
        }
        self.current = self.current.max(longest);
        self.current.max(self.previous)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_is_forgotten_after_two_minutes() {
        let at = |second: u64| Instant::from_nanos(second * 1_000_000_000);
        let mut longest = Longest::default();
        let shown = [(1, 7, 7), (59, 3, 7), (60, 0, 7), (119, 2, 7), (120, 0, 2), (300, 1, 1)];
        for (second, new, expected) in shown {
            assert_eq!(longest.of_late(new, at(second)), expected, "at second {second}");
        }
    }

    #[test]
    fn the_bounds_are_written_as_they_are() {
        for (bound, le) in BOUNDS.into_iter().zip(LE) {
            assert_eq!(le.parse::<f64>(), Ok(seconds(bound)));
        }
    }
}
