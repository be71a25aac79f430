//! What an instance counts for its metrics alone, in itself, so that the path of a call meets no recorder.
//!
//! Nothing is counted before somebody binds the instance, and without the feature `metrics` nobody can: a slot is then
//! empty in the type, and the compiler drops whatever asks it.

#[cfg(feature = "metrics")]
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

#[cfg(not(feature = "metrics"))]
use std::marker::PhantomData;

use crate::{
    clock::{Instant, nanos},
    outcome::Outcome,
    tally::{Line, Tally, thread_number},
};

/// The place for an instance's meter.
pub(crate) struct Slot<M> {
    #[cfg(feature = "metrics")]
    meter: OnceLock<Box<Bound<M>>>,
    #[cfg(not(feature = "metrics"))]
    meter: PhantomData<M>,
}

/// A meter, and what has been published of it.
#[cfg(feature = "metrics")]
#[derive(Default)]
pub(crate) struct Bound<M> {
    pub(crate) meter: M,
    pub(crate) published: std::sync::Arc<crate::metrics::Published>,
}

#[cfg(feature = "metrics")]
impl<M: Default> Slot<M> {
    pub(crate) const fn new() -> Self {
        Self { meter: OnceLock::new() }
    }

    /// The meter, if the instance has been bound: one load where it has not.
    #[inline(always)]
    pub(crate) fn get(&self) -> Option<&M> {
        self.meter.get().map(|bound| &bound.meter)
    }

    /// From here on the instance counts.
    pub(crate) fn bind(&self) -> &Bound<M> {
        self.meter.get_or_init(Box::default)
    }
}

#[cfg(not(feature = "metrics"))]
impl<M> Slot<M> {
    pub(crate) const fn new() -> Self {
        Self { meter: PhantomData }
    }

    #[inline(always)]
    pub(crate) fn get(&self) -> Option<&M> {
        None
    }
}

impl<M: Default> std::fmt::Debug for Slot<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot").field("bound", &self.get().is_some()).finish()
    }
}

/// What a breaker counts.
#[derive(Default)]
pub(crate) struct BreakerMeter {
    pub(crate) successful: Durations<CELLS>,
    pub(crate) failed: Durations<1>,
    pub(crate) ignored: Durations<1>,
    pub(crate) cancelled: Counter,
}

impl BreakerMeter {
    /// Counts a result that the breaker has counted, if its duration is known.
    #[inline]
    pub(crate) fn record(&self, outcome: Outcome, nanos: u64) {
        if nanos == u64::MAX {
            return;
        }
        match outcome {
            Outcome::Success => self.successful.record(nanos),
            Outcome::Failure => self.failed.record(nanos),
            Outcome::Ignored => self.ignored.record(nanos),
        }
    }
}

/// What a retry counts beside its own counters.
#[derive(Default)]
pub(crate) struct RetryMeter {
    pub(crate) waits: Durations<1>,
    /// Used-up attempts on results that are no errors: Resilience4j counts one attempt too many for each.
    pub(crate) exhausted_results: Counter,
}

/// What a bulkhead and a rate limiter count.
#[derive(Default)]
pub(crate) struct AdmissionMeter {
    pub(crate) permitted: Tally,
    pub(crate) rejected: Counter,
    /// Calls dropped while they waited.
    pub(crate) cancelled: Counter,
    /// The waits of those that had to wait, whatever came of it.
    pub(crate) waits: Durations<1>,
}

impl AdmissionMeter {
    #[cold]
    pub(crate) fn reject(&self, waited: Duration) {
        self.rejected.add();
        if !waited.is_zero() {
            self.waits.record(nanos(waited));
        }
    }

    #[cold]
    pub(crate) fn waited(&self, since: Instant, until: Instant) {
        self.waits.record(nanos(until.saturating_duration_since(since)));
    }
}

/// What a time limiter counts.
#[derive(Default)]
pub(crate) struct TimeMeter {
    pub(crate) successful: Tally,
    pub(crate) failed: Tally,
    pub(crate) timed_out: Counter,
    pub(crate) detached: Counter,
}

/// A count that is seldom changed.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn total(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// How many places a sum of durations has that every call changes.
pub(crate) const CELLS: usize = 4;

/// The one of so many cells that this thread counts in, which few others do.
#[inline]
fn own_cell(cells: usize) -> usize {
    thread_number() as usize % cells
}

/// The upper bounds of the classes in nanoseconds, each inclusive; a last class has none.
pub(crate) const BOUNDS: [u64; 14] = {
    const MILLIS: u64 = 1_000_000;
    const TENTHS: [u64; 14] = [10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 300_000];
    let mut bounds = [0; 14];
    let mut class = 0;
    while class < bounds.len() {
        bounds[class] = TENTHS[class] * MILLIS / 10;
        class += 1;
    }
    bounds
};

/// Two cache lines: a count for each class, and the sum in nanoseconds.
const CLASSES: usize = BOUNDS.len() + 1;
const SUM: usize = CLASSES;

/// How many durations fell into each class, and their sum: two read-modify-writes each, and no allocation ever.
#[derive(Debug)]
pub(crate) struct Durations<const N: usize> {
    cells: [Line<[AtomicU64; CLASSES + 1]>; N],
    /// The longest since it was last taken.
    longest: AtomicU64,
}

impl<const N: usize> Default for Durations<N> {
    fn default() -> Self {
        let cells = [const { Line([const { AtomicU64::new(0) }; CLASSES + 1]) }; N];
        Self { cells, longest: AtomicU64::new(0) }
    }
}

impl<const N: usize> Durations<N> {
    #[inline]
    pub(crate) fn record(&self, nanos: u64) {
        // A short call, as most are, is found by one comparison.
        let class = if nanos <= BOUNDS[0] { 0 } else { BOUNDS.partition_point(|bound| *bound < nanos) };
        let cell = &self.cells[own_cell(N)].0;
        cell[class].fetch_add(1, Relaxed);
        cell[SUM].fetch_add(nanos, Relaxed);
        if nanos > self.longest.load(Relaxed) {
            self.longest.fetch_max(nanos, Relaxed);
        }
    }

    /// How many there are in each class, and the sum in nanoseconds.
    #[cfg(feature = "metrics")]
    pub(crate) fn totals(&self) -> ([u64; CLASSES], u64) {
        let read = |at: usize| self.cells.iter().fold(0_u64, |sum, cell| sum.wrapping_add(cell.0[at].load(Relaxed)));
        (std::array::from_fn(read), read(SUM))
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn take_longest(&self) -> u64 {
        self.longest.swap(0, Relaxed)
    }
}

/// Gives a handle what binding it needs.
#[cfg(feature = "metrics")]
macro_rules! meter_methods {
    ($policy:ident, $meter:ty, $($slot:ident).+) => {
        impl $policy {
            /// Keeps hold of the instance without keeping it alive.
            pub(crate) fn weak(&self) -> impl Fn() -> Option<Self> + Send + Sync + 'static + use<> {
                let inner = std::sync::Arc::downgrade(&self.inner);
                move || Some(Self { inner: inner.upgrade()? })
            }

            pub(crate) fn bound(&self) -> &$crate::meter::Bound<$meter> {
                self.inner.$($slot).+.bind()
            }
        }
    };
}
#[cfg(not(feature = "metrics"))]
macro_rules! meter_methods {
    ($($ignored:tt)*) => {};
}
pub(crate) use meter_methods;

#[cfg(all(test, feature = "metrics"))]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_first_class_that_holds_it() {
        let durations = Durations::<1>::default();
        let millis = [0, 1, 2, 3, 30_000, 30_001];
        millis.iter().for_each(|millis| durations.record(millis * 1_000_000));
        let (classes, sum) = durations.totals();
        assert_eq!(classes, [2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(sum, 60_007_000_000);
        assert_eq!((durations.take_longest(), durations.take_longest()), (30_001_000_000, 0));
    }
}
