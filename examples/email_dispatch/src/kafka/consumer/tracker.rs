//! Which offset of a partition may be committed: the one after the last record before which everything is finished.

use std::{collections::VecDeque, ops::Range};

/// The records of one partition that were read, in order, from the oldest that is not finished.
///
/// It holds the offsets that were delivered, not all numbers between them: compaction and transactions leave gaps.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    read: VecDeque<Entry>,
    /// What should be read next, where that is known.
    expected: Option<i64>,
    /// Where reading may go on after a restart.
    safe: Option<i64>,
    /// What the broker has of it.
    committed: Option<i64>,
    /// How many finished records `safe` covers.
    covered: u64,
    /// How many of them the broker knows of.
    covered_committed: u64,
    /// How many are finished behind one that is not.
    waiting: u64,
}

#[derive(Debug)]
struct Entry {
    offset: i64,
    finished: bool,
}

/// How a record follows the one before it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Follows {
    /// At once, or nothing is known of the one before it.
    Directly,
    /// With these offsets left out.
    After(Range<i64>),
    /// Not at all: the partition has gone back, and this tracker is of no more use.
    Back,
}

/// An offset to be committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Commit {
    pub(super) offset: i64,
    covered: u64,
}

impl Tracker {
    /// Begins where the group has committed.
    pub(super) fn new(expected: Option<i64>) -> Self {
        Self { expected, committed: expected, ..Self::default() }
    }

    /// A record was read. It must be finished before anything after it can be committed.
    pub(super) fn read(&mut self, offset: i64) -> Follows {
        let follows = match self.expected {
            Some(expected) if offset < expected => return Follows::Back,
            Some(expected) if offset > expected => Follows::After(expected..offset),
            _ => Follows::Directly,
        };
        self.expected = Some(offset + 1);
        self.read.push_back(Entry { offset, finished: false });
        follows
    }

    /// A record is finished. One that is not known is none of this assignment.
    pub(super) fn finish(&mut self, offset: i64) {
        let Ok(place) = self.read.binary_search_by_key(&offset, |entry| entry.offset) else { return };
        let entry = &mut self.read[place];
        if !std::mem::replace(&mut entry.finished, true) {
            self.waiting += 1;
        }
        while let Some(Entry { offset, finished: true }) = self.read.front() {
            self.safe = Some(offset + 1);
            self.read.pop_front();
            self.waiting -= 1;
            self.covered += 1;
        }
    }

    /// What the broker should know, if it does not.
    pub(super) fn due(&self) -> Option<Commit> {
        let offset = self.safe?;
        (self.committed != Some(offset)).then_some(Commit { offset, covered: self.covered })
    }

    /// The broker knows.
    pub(super) fn committed(&mut self, commit: Commit) {
        self.committed = Some(commit.offset);
        self.covered_committed = commit.covered;
    }

    /// How many records there are from the oldest unfinished one to the newest.
    pub(super) fn span(&self) -> usize {
        self.read.len()
    }

    /// How many finished records would be read again after a crash now.
    pub(super) fn uncommitted(&self) -> u64 {
        self.covered - self.covered_committed + self.waiting
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tracker(read: &[i64]) -> Tracker {
        let mut tracker = Tracker::new(read.first().copied());
        for offset in read {
            tracker.read(*offset);
        }
        tracker
    }

    fn due(tracker: &Tracker) -> Option<i64> {
        tracker.due().map(|commit| commit.offset)
    }

    #[test]
    fn what_is_committed_is_the_next_offset() {
        let mut tracker = tracker(&[7]);
        tracker.finish(7);
        assert_eq!(due(&tracker), Some(8));
    }

    #[test]
    fn an_unfinished_record_holds_back_those_after_it() {
        let mut tracker = tracker(&[0, 1, 2]);
        tracker.finish(1);
        tracker.finish(2);
        assert_eq!((due(&tracker), tracker.span(), tracker.uncommitted()), (None, 3, 2));
        tracker.finish(0);
        assert_eq!((due(&tracker), tracker.span(), tracker.uncommitted()), (Some(3), 0, 3));
    }

    #[test]
    fn a_gap_holds_nothing_back() {
        let mut tracker = tracker(&[3, 9]);
        tracker.finish(9);
        tracker.finish(3);
        assert_eq!(due(&tracker), Some(10));
    }

    #[test]
    fn a_gap_is_told() {
        let mut tracker = Tracker::new(Some(3));
        assert_eq!(tracker.read(5), Follows::After(3..5));
        assert_eq!(tracker.read(6), Follows::Directly);
    }

    #[test]
    fn nothing_is_told_where_the_beginning_is_not_known() {
        assert_eq!(Tracker::new(None).read(5), Follows::Directly);
    }

    #[test]
    fn a_partition_that_goes_back_is_told() {
        assert_eq!(tracker(&[5, 6]).read(5), Follows::Back);
    }

    #[test]
    fn a_commit_that_failed_stays_due() {
        let mut tracker = tracker(&[0]);
        tracker.finish(0);
        let failed = tracker.due();
        assert_eq!(tracker.due(), failed);
        tracker.committed(failed.unwrap());
        assert_eq!((tracker.due(), tracker.uncommitted()), (None, 0));
    }

    #[test]
    fn what_finishes_while_a_commit_is_under_way_is_still_due() {
        let mut tracker = tracker(&[0, 1]);
        tracker.finish(0);
        let commit = tracker.due().unwrap();
        tracker.finish(1);
        tracker.committed(commit);
        assert_eq!((due(&tracker), tracker.uncommitted()), (Some(2), 1));
    }

    #[test]
    fn a_record_that_finishes_twice_counts_once() {
        let mut tracker = tracker(&[0, 1]);
        tracker.finish(1);
        tracker.finish(1);
        assert_eq!(tracker.uncommitted(), 1);
        tracker.finish(0);
        tracker.finish(0);
        assert_eq!(tracker.uncommitted(), 2);
    }

    /// All that was ever read and finished, asked from the beginning each time.
    #[derive(Default)]
    struct Model {
        read: Vec<i64>,
        finished: Vec<i64>,
        committed: Option<i64>,
    }

    impl Model {
        fn due(&self) -> Option<i64> {
            let safe = self.read.iter().take_while(|offset| self.finished.contains(offset)).last()? + 1;
            (self.committed != Some(safe)).then_some(safe)
        }

        fn uncommitted(&self) -> usize {
            self.finished.iter().filter(|offset| self.committed.is_none_or(|committed| **offset >= committed)).count()
        }

        fn span(&self) -> usize {
            self.read.iter().skip_while(|offset| self.finished.contains(offset)).count()
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Read { gap: i64 },
        Finish { which: prop::sample::Index },
        Commit,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..3_i64).prop_map(|gap| Step::Read { gap }),
            4 => any::<prop::sample::Index>().prop_map(|which| Step::Finish { which }),
            1 => Just(Step::Commit),
        ]
    }

    proptest! {
        #[test]
        fn it_agrees_with_asking_everything_each_time(steps in prop::collection::vec(step(), 1..120)) {
            let (mut tracker, mut model, mut next) = (Tracker::new(None), Model::default(), 10);
            for step in steps {
                match step {
                    Step::Read { gap } => {
                        next += gap;
                        prop_assert_ne!(tracker.read(next), Follows::Back);
                        model.read.push(next);
                        next += 1;
                    }
                    Step::Finish { which } if !model.read.is_empty() => {
                        let offset = model.read[which.index(model.read.len())];
                        tracker.finish(offset);
                        if !model.finished.contains(&offset) {
                            model.finished.push(offset);
                        }
                    }
                    Step::Finish { .. } => {}
                    Step::Commit => if let Some(commit) = tracker.due() {
                        tracker.committed(commit);
                        model.committed = Some(commit.offset);
                    },
                }
                prop_assert_eq!(due(&tracker), model.due());
                prop_assert_eq!(tracker.span(), model.span());
                prop_assert_eq!(tracker.uncommitted(), model.uncommitted() as u64);
            }
        }
    }
}
