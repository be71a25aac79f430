//! What the threads and tasks of a consumer share.

use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};
use rdkafka::TopicPartitionList;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    Lane, Progress,
    desk::{Desk, Job, Place},
};
use crate::kafka::{Complaints, KafkaSettings};

/// How many times [`Lane::buffered`] a partition may be long; see [`Desk`].
const SPAN_PER_BUFFERED: usize = 16;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: KafkaSettings,
    pub(super) lane: Lane,
    /// Held by whoever commits, so that commits do not overtake each other. It says whether the consumer is closed, after
    /// which nobody else commits.
    pub(super) committing: Mutex<bool>,
    pub(super) complaints: Complaints,
    /// Parent of every partition's `stop`.
    pub(super) stop: CancellationToken,
    desk: Mutex<Desk>,
    less_load: Condvar,
    /// Until when what is in hand may take, once the consumer is closing.
    closing: Mutex<Option<Instant>>,
    fault: Mutex<Option<String>>,
}

impl Shared {
    pub(super) fn new(settings: KafkaSettings, lane: Lane) -> Self {
        let desk = Desk::new(lane.buffered.saturating_mul(SPAN_PER_BUFFERED));
        Self {
            settings,
            complaints: Complaints::of(lane.name),
            lane,
            committing: Mutex::new(false),
            stop: CancellationToken::new(),
            desk: Mutex::new(desk),
            less_load: Condvar::new(),
            closing: Mutex::new(None),
            fault: Mutex::new(None),
        }
    }

    pub(super) fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock()
    }

    /// See [`Desk::leave`].
    pub(super) fn leave(&self, job: &Job, finished: bool) -> Option<Job> {
        let mut desk = self.desk.lock();
        let next = desk.leave(job, finished);
        if desk.wake_at.is_some_and(|few| desk.load() <= few) {
            self.less_load.notify_all();
        }
        next
    }

    /// Waits until no more than `few` are in hand, and says how many are.
    pub(super) fn wait_for(&self, few: usize, time_limit: Duration) -> usize {
        self.wait_while(few, time_limit, |desk| desk.load() > few);
        self.desk.lock().load()
    }

    /// Waits until nobody works on these partitions.
    pub(super) fn drain(&self, places: &[Place], time_limit: Duration) {
        self.wait_while(usize::MAX, time_limit, |desk| desk.running(places) > 0);
    }

    fn wait_while(&self, wake_at: usize, time_limit: Duration, waits: impl Fn(&Desk) -> bool) {
        let until = Instant::now() + time_limit;
        let mut desk = self.desk.lock();
        desk.wake_at = Some(wake_at);
        while waits(&desk) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.less_load.wait_for(&mut desk, left).timed_out() {
                break;
            }
        }
        desk.wake_at = None;
    }

    /// Reads no more, and gives what is in hand that long.
    pub(super) fn close(&self, time_limit: Duration) {
        let mut closing = self.closing.lock();
        if closing.is_none() {
            *closing = Some(Instant::now() + time_limit);
            self.stop.cancel();
        }
    }

    pub(super) fn closing(&self) -> Option<Instant> {
        *self.closing.lock()
    }

    /// Nothing will be read again.
    pub(super) fn give_up(&self, reason: String) {
        tracing::error!(lane = self.lane.name, reason, "Kafka is read no more");
        *self.fault.lock() = Some(reason);
    }

    pub(super) fn progress(&self) -> Progress {
        Progress { fault: self.fault.lock().clone(), ..self.desk.lock().progress() }
    }

    pub(super) fn list(&self, places: &[Place]) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(places.len());
        for (topic, partition) in places {
            list.add_partition(&self.settings.topic_name(*topic), *partition);
        }
        list
    }

    pub(super) fn places(&self, list: &TopicPartitionList) -> Vec<Place> {
        let place = |name: &str, partition| Some((self.settings.topic(name)?, partition));
        list.elements().iter().filter_map(|element| place(element.topic(), element.partition())).collect()
    }
}
