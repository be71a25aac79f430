//! What a consumer has in hand: pure bookkeeping, without a broker.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    ops::Range,
};

use tokio_util::sync::CancellationToken;

use super::{
    Progress,
    key_order::KeyOrder,
    tracker::{Commit, Follows, Tracker},
};
use crate::record::{Delivery, Topic};

/// A partition of a topic.
pub(super) type Place = (Topic, i32);

/// The records read and not finished, and how far each partition is.
#[derive(Debug)]
pub(super) struct Desk {
    /// How many records of one partition there may be from its oldest unfinished one to the newest, until no more of it
    /// is read: that many are read again after a crash, and no more memory is taken, however long the oldest hangs.
    longest_span: usize,
    partitions: HashMap<Place, Partition>,
    keys: KeyOrder<Job>,
    hasher: RandomState,
    epochs: u64,
    gaps: Vec<Gap>,
    counts: Progress,
    /// What is in hand, where a large record counts for more than one.
    load: usize,
    /// Whoever waits is woken once the load is this or less.
    pub(super) wake_at: Option<usize>,
}

/// A record to be handled.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) delivery: Delivery,
    /// Cancelled when its partition is taken away.
    pub(super) stop: CancellationToken,
    /// Nothing where there is no order to keep. Two keys that share a number wait for each other, which harms nobody.
    key: Option<u64>,
    /// In which assignment of the partition it was read.
    epoch: u64,
}

/// Offsets that were not there to be read.
#[derive(Clone, Debug)]
pub(super) struct Gap {
    pub(super) place: Place,
    pub(super) offsets: Range<i64>,
}

/// An offset to be committed, of one assignment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    pub(super) place: Place,
    epoch: u64,
    pub(super) commit: Commit,
}

#[derive(Debug)]
struct Partition {
    epoch: u64,
    tracker: Tracker,
    stop: CancellationToken,
    running: usize,
    paused: bool,
}

/// A record counts as one, and as one more for each 32 KiB: so many small ones take as much memory.
fn load_of(delivery: &Delivery) -> usize {
    1 + delivery.payload.as_ref().map_or(0, Vec::len) / (32 << 10)
}

impl Job {
    fn place(&self) -> Place {
        (self.delivery.topic, self.delivery.partition)
    }
}

impl Desk {
    pub(super) fn new(longest_span: usize) -> Self {
        Self {
            longest_span,
            partitions: HashMap::new(),
            keys: KeyOrder::new(),
            hasher: RandomState::new(),
            epochs: 0,
            gaps: Vec::new(),
            counts: Progress::default(),
            load: 0,
            wake_at: None,
        }
    }

    /// A partition is ours from now on, and was committed up to `expected`.
    pub(super) fn assign(&mut self, place: Place, expected: Option<i64>, stop: CancellationToken) {
        self.epochs += 1;
        let partition =
            Partition { epoch: self.epochs, tracker: Tracker::new(expected), stop, running: 0, paused: false };
        self.partitions.insert(place, partition);
    }

    /// A record was read. Gives back what is to be started now; another of its key may be at work, or its partition not
    /// be ours any more.
    pub(super) fn enter(&mut self, delivery: Delivery) -> Option<Job> {
        let place = (delivery.topic, delivery.partition);
        let partition = self.partitions.get_mut(&place)?;
        match partition.tracker.read(delivery.offset) {
            Follows::Directly => {}
            Follows::After(offsets) => self.gaps.push(Gap { place, offsets }),
            Follows::Back => {
                // The topic was made anew, or its newest records are gone: what is at work counts no more.
                self.epochs += 1;
                partition.epoch = self.epochs;
                partition.tracker = Tracker::new(None);
                partition.running = 0;
                partition.tracker.read(delivery.offset);
            }
        }
        self.counts.read += 1;
        self.counts.in_hand += 1;
        self.load += load_of(&delivery);
        let key = delivery.key.as_ref().map(|key| self.hasher.hash_one((place, key)));
        let job = Job { delivery, stop: partition.stop.clone(), key, epoch: partition.epoch };
        let job = match key {
            Some(key) => self.keys.enter(key, job)?,
            None => job,
        };
        partition.running += 1;
        Some(job)
    }

    /// A record is finished, or handed back. Gives the next of its key, to be started now.
    pub(super) fn leave(&mut self, job: &Job, finished: bool) -> Option<Job> {
        self.counts.in_hand -= 1;
        self.load -= load_of(&job.delivery);
        match (self.current(job), finished) {
            (Some(partition), true) => {
                partition.running -= 1;
                partition.tracker.finish(job.delivery.offset);
                self.counts.finished += 1;
            }
            (Some(partition), false) => {
                partition.running -= 1;
                self.counts.handed_back += 1;
            }
            (None, true) => self.counts.late += 1,
            (None, false) => self.counts.handed_back += 1,
        }
        let next = self.keys.next(job.key?)?;
        if let Some(partition) = self.current(&next) {
            partition.running += 1;
        }
        Some(next)
    }

    /// Tells those at work on these partitions to let go, and hands back what has not begun.
    pub(super) fn let_go(&mut self, places: &[Place]) {
        for place in places {
            if let Some(partition) = self.partitions.get(place) {
                partition.stop.cancel();
            }
        }
        let load = &mut self.load;
        let dropped = self.keys.retain(|job| {
            let stays = !places.contains(&job.place());
            *load -= if stays { 0 } else { load_of(&job.delivery) };
            stays
        });
        self.counts.in_hand -= dropped;
        self.counts.handed_back += dropped as u64;
    }

    /// How many records of these partitions somebody works on.
    pub(super) fn running(&self, places: &[Place]) -> usize {
        places.iter().filter_map(|place| self.partitions.get(place)).map(|partition| partition.running).sum()
    }

    /// These partitions are not ours any more; what finishes of them is late.
    pub(super) fn forget(&mut self, places: &[Place]) {
        for place in places {
            self.partitions.remove(place);
        }
    }

    /// The offsets that the broker should know of these partitions and does not.
    pub(super) fn due(&self, places: &[Place]) -> Vec<Due> {
        let due = |place: &Place| {
            let partition = self.partitions.get(place)?;
            Some(Due { place: *place, epoch: partition.epoch, commit: partition.tracker.due()? })
        };
        places.iter().filter_map(due).collect()
    }

    /// The broker knows them.
    pub(super) fn committed(&mut self, known: &[Due]) {
        for due in known {
            if let Some(partition) = self.partitions.get_mut(&due.place).filter(|it| it.epoch == due.epoch) {
                partition.tracker.committed(due.commit);
            }
        }
    }

    /// All partitions that are ours.
    pub(super) fn places(&self) -> Vec<Place> {
        self.partitions.keys().copied().collect()
    }

    /// Which partitions to pause, and which to resume. A partition is paused while all of them are to be, and while too
    /// much of it is unfinished.
    pub(super) fn regulate(&mut self, pause_all: bool) -> (Vec<Place>, Vec<Place>) {
        let (mut pause, mut resume) = (Vec::new(), Vec::new());
        for (place, partition) in &mut self.partitions {
            let longest = if partition.paused { self.longest_span / 2 } else { self.longest_span };
            match (partition.paused, pause_all || partition.tracker.span() >= longest.max(1)) {
                (false, true) => pause.push(*place),
                (true, false) => resume.push(*place),
                (false, false) | (true, true) => continue,
            }
            partition.paused = !partition.paused;
        }
        (pause, resume)
    }

    /// Whether a partition has become so long that it must be paused now.
    pub(super) fn is_long(&self, place: Place) -> bool {
        self.partitions.get(&place).is_some_and(|it| !it.paused && it.tracker.span() >= self.longest_span)
    }

    pub(super) fn load(&self) -> usize {
        self.load
    }

    /// The gaps that nobody has explained yet.
    pub(super) fn take_gaps(&mut self) -> Vec<Gap> {
        std::mem::take(&mut self.gaps)
    }

    /// Asks again later.
    pub(super) fn put_back(&mut self, gap: Gap) {
        self.gaps.push(gap);
    }

    /// So many records were gone before they were read.
    pub(super) fn lose(&mut self, records: u64) {
        self.counts.lost += records;
    }

    pub(super) fn progress(&self) -> Progress {
        Progress {
            partitions: self.partitions.len(),
            uncommitted: self.partitions.values().map(|partition| partition.tracker.uncommitted()).sum(),
            ..self.counts.clone()
        }
    }

    /// The assignment that the job belongs to, if it is not over.
    fn current(&mut self, job: &Job) -> Option<&mut Partition> {
        self.partitions.get_mut(&job.place()).filter(|partition| partition.epoch == job.epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Headers;

    const HERE: Place = (Topic::High, 0);

    fn delivery(topic: Topic, offset: i64, key: Option<&str>) -> Delivery {
        Delivery {
            topic,
            partition: 0,
            offset,
            key: key.map(|key| key.as_bytes().to_vec()),
            payload: None,
            headers: Headers::default(),
        }
    }

    fn desk() -> Desk {
        let mut desk = Desk::new(4);
        desk.assign(HERE, Some(0), CancellationToken::new());
        desk.assign((Topic::Low, 0), Some(0), CancellationToken::new());
        desk
    }

    fn due(desk: &Desk) -> Vec<i64> {
        desk.due(&[HERE]).iter().map(|due| due.commit.offset).collect()
    }

    #[test]
    fn a_large_record_counts_for_several_until_it_is_finished_or_handed_back() {
        let mut desk = desk();
        let large = |offset| Delivery { payload: Some(vec![0; 100 << 10]), ..delivery(Topic::High, offset, Some("a")) };
        let job = desk.enter(large(0)).unwrap();
        assert!(desk.enter(large(1)).is_none());
        assert_eq!((desk.load(), desk.progress().in_hand), (8, 2));
        desk.let_go(&[HERE]);
        assert_eq!(desk.load(), 4);
        assert!(desk.leave(&job, true).is_none());
        assert_eq!((desk.load(), desk.progress().in_hand), (0, 0));
    }

    #[test]
    fn the_same_key_waits() {
        let mut desk = desk();
        let first = desk.enter(delivery(Topic::High, 0, Some("a"))).unwrap();
        assert!(desk.enter(delivery(Topic::High, 1, Some("a"))).is_none());
        assert_eq!(desk.leave(&first, true).unwrap().delivery.offset, 1);
    }

    #[test]
    fn the_same_key_on_another_topic_does_not_wait() {
        let mut desk = desk();
        assert!(desk.enter(delivery(Topic::High, 0, Some("a"))).is_some());
        assert!(desk.enter(delivery(Topic::Low, 0, Some("a"))).is_some());
    }

    #[test]
    fn no_key_has_no_order() {
        let mut desk = desk();
        assert!(desk.enter(delivery(Topic::High, 0, None)).is_some());
        assert!(desk.enter(delivery(Topic::High, 1, None)).is_some());
    }

    #[test]
    fn a_result_of_an_earlier_assignment_is_late() {
        let mut desk = desk();
        let job = desk.enter(delivery(Topic::High, 0, None)).unwrap();
        desk.forget(&[HERE]);
        desk.assign(HERE, Some(0), CancellationToken::new());
        let again = desk.enter(delivery(Topic::High, 0, None)).unwrap();
        desk.leave(&job, true);
        assert_eq!((due(&desk), desk.progress().late, desk.running(&[HERE])), (vec![], 1, 1));
        desk.leave(&again, true);
        assert_eq!((due(&desk), desk.progress().late, desk.load()), (vec![1], 1, 0));
    }

    #[test]
    fn a_commit_of_an_earlier_assignment_is_not_taken_for_one_of_this() {
        let mut desk = desk();
        let job = desk.enter(delivery(Topic::High, 0, None)).unwrap();
        desk.leave(&job, true);
        let earlier = desk.due(&[HERE]);
        desk.assign(HERE, Some(0), CancellationToken::new());
        let job = desk.enter(delivery(Topic::High, 0, None)).unwrap();
        desk.leave(&job, true);
        desk.committed(&earlier);
        assert_eq!(due(&desk), [1]);
    }

    #[test]
    fn what_is_read_again_waits_for_whoever_still_works_on_it() {
        let mut desk = desk();
        let job = desk.enter(delivery(Topic::High, 0, Some("a"))).unwrap();
        desk.forget(&[HERE]);
        desk.assign(HERE, Some(0), CancellationToken::new());
        assert!(desk.enter(delivery(Topic::High, 0, Some("a"))).is_none());
        assert!(desk.leave(&job, true).is_some());
    }

    #[test]
    fn letting_go_hands_back_what_has_not_begun_and_stops_the_rest() {
        let mut desk = desk();
        let running = desk.enter(delivery(Topic::High, 0, Some("a"))).unwrap();
        desk.enter(delivery(Topic::High, 1, Some("a")));
        let other = desk.enter(delivery(Topic::Low, 0, Some("a"))).unwrap();
        desk.let_go(&[HERE]);
        assert!(running.stop.is_cancelled() && !other.stop.is_cancelled());
        assert!(desk.leave(&running, false).is_none());
        assert_eq!((desk.load(), desk.progress().handed_back, due(&desk)), (1, 2, vec![]));
    }

    #[test]
    fn a_partition_that_goes_back_begins_anew() {
        let mut desk = desk();
        let old = desk.enter(delivery(Topic::High, 5, None)).unwrap();
        let new = desk.enter(delivery(Topic::High, 0, None)).unwrap();
        desk.leave(&old, true);
        assert!(due(&desk).is_empty());
        desk.leave(&new, true);
        assert_eq!(due(&desk), [1]);
    }

    #[test]
    fn a_partition_with_one_stuck_record_is_paused_and_resumed_at_half() {
        let mut desk = desk();
        let jobs: Vec<Job> = (0..4).map(|offset| desk.enter(delivery(Topic::High, offset, None)).unwrap()).collect();
        assert!(desk.is_long(HERE));
        assert_eq!(desk.regulate(false), (vec![HERE], vec![]));
        for job in &jobs[1..] {
            desk.leave(job, true);
        }
        assert_eq!(desk.regulate(false), (vec![], vec![]));
        desk.leave(&jobs[0], true);
        assert_eq!(desk.regulate(false), (vec![], vec![HERE]));
    }
}
