//! The recent calls that the rates are taken over.
//!
//! Recording a call takes the same time whatever the size. A time window that moves on lets go of each second that has
//! passed, once; one that starts afresh clears a bit for each call it had room for.

use crate::clock::Instant;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Counts of calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) calls: u32,
    pub(super) failed: u32,
    pub(super) slow: u32,
    pub(super) slow_failed: u32,
}

impl Totals {
    fn add(&mut self, failed: bool, slow: bool) {
        self.calls = self.calls.saturating_add(1);
        self.failed = self.failed.saturating_add(failed.into());
        self.slow = self.slow.saturating_add(slow.into());
        self.slow_failed = self.slow_failed.saturating_add((failed && slow).into());
    }

    fn subtract(&mut self, gone: Self) {
        self.calls = self.calls.saturating_sub(gone.calls);
        self.failed = self.failed.saturating_sub(gone.failed);
        self.slow = self.slow.saturating_sub(gone.slow);
        self.slow_failed = self.slow_failed.saturating_sub(gone.slow_failed);
    }

    /// Whether every call was a success and none was slow.
    pub(super) fn is_plain(&self) -> bool {
        self.failed == 0 && self.slow == 0
    }
}

/// A sliding window over calls or over time.
#[derive(Debug)]
pub(super) enum Window {
    Count(CountWindow),
    Time(TimeWindow),
}

impl Window {
    pub(super) fn record(&mut self, now: Instant, failed: bool, slow: bool) {
        match self {
            Self::Count(window) => window.record(failed, slow),
            Self::Time(window) => window.record(now, failed, slow),
        }
    }

    /// What the window holds at `now`.
    pub(super) fn totals(&mut self, now: Instant) -> Totals {
        match self {
            Self::Count(window) => window.totals,
            Self::Time(window) => {
                window.advance(now);
                window.totals
            }
        }
    }

    pub(super) fn clear(&mut self, now: Instant) {
        match self {
            Self::Count(window) => window.clear(),
            Self::Time(window) => window.clear(now),
        }
    }

    /// How many plain successes can only lower the rates, and until when.
    pub(super) fn plain_run(&self) -> (u32, Instant) {
        match self {
            Self::Count(_) => (u32::MAX, Instant::NEVER),
            Self::Time(window) => (u32::MAX, window.end_of_head()),
        }
    }

    /// Records `calls` plain successes of such a run.
    pub(super) fn record_plain(&mut self, calls: u32) {
        match self {
            Self::Count(window) => window.record_plain(calls),
            Self::Time(window) => window.record_plain(calls),
        }
    }
}

/// The last `size` calls, one bit each for failed and for slow.
#[derive(Debug)]
pub(super) struct CountWindow {
    marks: Box<[Marks]>,
    size: u32,
    next: u32,
    totals: Totals,
}

/// 64 calls.
#[derive(Debug, Clone, Copy, Default)]
struct Marks {
    failed: u64,
    slow: u64,
}

impl CountWindow {
    pub(super) fn new(size: u32) -> Self {
        let marks = vec![Marks::default(); size.div_ceil(64) as usize].into();
        Self { marks, size, next: 0, totals: Totals::default() }
    }

    pub(super) fn totals(&self) -> Totals {
        self.totals
    }

    /// Holds up to `size` calls from now on, if that is more than before. Keeps the counts, not the order.
    pub(super) fn make_room(&mut self, size: u32) {
        if size > self.size {
            let Totals { calls, failed, slow, slow_failed } = self.totals;
            *self = Self::new(size);
            for call in 0..calls {
                // Those that failed come first, the slow ones of them last and followed by the other slow ones.
                self.record(call < failed, (failed - slow_failed..failed - slow_failed + slow).contains(&call));
            }
        }
    }

    pub(super) fn record(&mut self, failed: bool, slow: bool) {
        let marks = &mut self.marks[(self.next / 64) as usize];
        let bit = 1 << (self.next % 64);
        if self.totals.calls == self.size {
            let (failed, slow) = (marks.failed & bit != 0, marks.slow & bit != 0);
            let slow_failed = failed && slow;
            let evicted =
                Totals { calls: 1, failed: failed.into(), slow: slow.into(), slow_failed: slow_failed.into() };
            self.totals.subtract(evicted);
        }
        marks.failed = if failed { marks.failed | bit } else { marks.failed & !bit };
        marks.slow = if slow { marks.slow | bit } else { marks.slow & !bit };
        self.totals.add(failed, slow);
        self.next = (self.next + 1) % self.size;
    }

    pub(super) fn clear(&mut self) {
        if !self.totals.is_plain() {
            self.marks.fill(Marks::default());
        }
        self.totals = Totals::default();
        self.next = 0;
    }

    /// Evicts what so many calls push out, a word of marks at a time.
    fn record_plain(&mut self, calls: u32) {
        if !self.totals.is_plain() {
            let end = self.next + calls.min(self.size);
            self.unmark(self.next, end.min(self.size));
            self.unmark(0, end.saturating_sub(self.size));
        }
        self.totals.calls = self.totals.calls.saturating_add(calls).min(self.size);
        self.next = ((u64::from(self.next) + u64::from(calls)) % u64::from(self.size)) as u32;
    }

    /// Makes plain successes of the calls from `start` up to `end`.
    fn unmark(&mut self, start: u32, end: u32) {
        let mut from = start;
        while from < end {
            let word = from / 64;
            let to = end.min((word + 1) * 64);
            let bits = u64::MAX >> (64 - (to - from)) << (from % 64);
            let Marks { failed, slow } = &mut self.marks[word as usize];
            let count = |marks: u64| (marks & bits).count_ones();
            let (failures, slow_calls, slow_failed) = (count(*failed), count(*slow), count(*failed & *slow));
            self.totals.subtract(Totals { calls: 0, failed: failures, slow: slow_calls, slow_failed });
            *failed &= !bits;
            *slow &= !bits;
            from = to;
        }
    }
}

/// The calls that finished in the current second of the clock and the `seconds - 1` before it.
#[derive(Debug)]
pub(super) struct TimeWindow {
    buckets: Box<[Bucket]>,
    head: u64,
    /// Buckets of earlier seconds are from before the window was last cleared.
    first: u64,
    totals: Totals,
}

/// One second. It counts only while that second is one the window covers.
#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    second: u64,
    totals: Totals,
}

impl TimeWindow {
    pub(super) fn new(seconds: u32, now: Instant) -> Self {
        let head = now.as_nanos() / NANOS_PER_SECOND;
        let buckets = vec![Bucket::default(); seconds as usize].into();
        let mut window = Self { buckets, head, first: head, totals: Totals::default() };
        window.bucket(head).second = head;
        window
    }

    fn bucket(&mut self, second: u64) -> &mut Bucket {
        let seconds = self.buckets.len() as u64;
        &mut self.buckets[(second % seconds) as usize]
    }

    /// Lets go of the seconds that have passed out of the window. A clock that steps back changes nothing.
    fn advance(&mut self, now: Instant) {
        let second = now.as_nanos() / NANOS_PER_SECOND;
        let seconds = self.buckets.len() as u64;
        if second <= self.head {
            return;
        }
        if second - self.head >= seconds {
            self.totals = Totals::default();
            self.head = second;
            self.first = second;
        } else {
            while self.head < second {
                self.head += 1;
                let (head, first) = (self.head, self.first);
                let bucket = *self.bucket(head);
                if bucket.second >= first && bucket.second + seconds == head {
                    self.totals.subtract(bucket.totals);
                }
                *self.bucket(head) = Bucket { second: head, totals: Totals::default() };
            }
        }
        let head = self.head;
        if self.bucket(head).second != head {
            *self.bucket(head) = Bucket { second: head, totals: Totals::default() };
        }
    }

    fn record(&mut self, now: Instant, failed: bool, slow: bool) {
        self.advance(now);
        let head = self.head;
        self.bucket(head).totals.add(failed, slow);
        self.totals.add(failed, slow);
    }

    fn clear(&mut self, now: Instant) {
        self.advance(now);
        let head = self.head;
        self.first = head;
        self.totals = Totals::default();
        *self.bucket(head) = Bucket { second: head, totals: Totals::default() };
    }

    fn end_of_head(&self) -> Instant {
        Instant::from_nanos(self.head.saturating_add(1).saturating_mul(NANOS_PER_SECOND) - 1)
    }

    fn record_plain(&mut self, calls: u32) {
        let head = self.head;
        let bucket = self.bucket(head);
        bucket.totals.calls = bucket.totals.calls.saturating_add(calls);
        self.totals.calls = self.totals.calls.saturating_add(calls);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    /// Every call that could still be in the window, counted anew each time.
    #[derive(Default)]
    struct Model {
        calls: VecDeque<(u64, bool, bool)>,
        latest: u64,
    }

    impl Model {
        fn totals(&self, covered: impl Fn(usize, u64) -> bool) -> Totals {
            let mut totals = Totals::default();
            for (age, (second, failed, slow)) in self.calls.iter().rev().enumerate() {
                if covered(age, *second) {
                    totals.add(*failed, *slow);
                }
            }
            totals
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Record { failed: bool, slow: bool },
        Plain(u32),
        Forward(u64),
        Back(u64),
        Clear,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => (any::<bool>(), any::<bool>()).prop_map(|(failed, slow)| Step::Record { failed, slow }),
            4 => (0_u32..300).prop_map(Step::Plain),
            3 => (0_u64..4_000_000_000).prop_map(Step::Forward),
            1 => (0_u64..100_000_000_000).prop_map(Step::Forward),
            1 => (0_u64..4_000_000_000).prop_map(Step::Back),
            1 => Just(Step::Clear),
        ];
        proptest::collection::vec(step, 1..200)
    }

    proptest! {
        #[test]
        fn a_window_counts_what_a_list_of_all_calls_says(
            time_based in any::<bool>(),
            size in prop_oneof![1_u32..10, 60_u32..70, 120_u32..200],
            start in 0_u64..3_000_000_000,
            steps in steps(),
        ) {
            let mut now = start;
            let mut window = if time_based {
                Window::Time(TimeWindow::new(size, Instant::from_nanos(now)))
            } else {
                Window::Count(CountWindow::new(size))
            };
            let mut model = Model { latest: start / NANOS_PER_SECOND, ..Model::default() };
            for step in steps {
                match step {
                    Step::Record { failed, slow } => {
                        window.record(Instant::from_nanos(now), failed, slow);
                        model.calls.push_back((model.latest, failed, slow));
                    }
                    Step::Plain(wanted) => {
                        window.totals(Instant::from_nanos(now));
                        let (run, until) = window.plain_run();
                        prop_assert!(until.as_nanos() / NANOS_PER_SECOND >= model.latest);
                        let calls = wanted.min(run);
                        window.record_plain(calls);
                        for _ in 0..calls {
                            model.calls.push_back((model.latest, false, false));
                        }
                    }
                    Step::Forward(nanos) => now += nanos,
                    Step::Back(nanos) => now = now.saturating_sub(nanos),
                    Step::Clear => {
                        window.clear(Instant::from_nanos(now));
                        model.calls.clear();
                    }
                }
                model.latest = model.latest.max(now / NANOS_PER_SECOND);
                let expected = model.totals(|age, second| {
                    if time_based { second + u64::from(size) > model.latest } else { age < size as usize }
                });
                prop_assert_eq!(window.totals(Instant::from_nanos(now)), expected);
            }
        }
    }

    #[test]
    fn a_long_window_is_entered_again_without_its_past() {
        let mut window = TimeWindow::new(5, Instant::default());
        window.record(Instant::default(), true, true);
        window.advance(Instant::from_nanos(3 * NANOS_PER_SECOND));
        assert_eq!(window.totals.failed, 1);
        window.advance(Instant::from_nanos(500 * NANOS_PER_SECOND));
        assert_eq!(window.totals, Totals::default());
    }
}
