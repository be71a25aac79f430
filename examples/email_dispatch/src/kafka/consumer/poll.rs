//! The thread that asks the broker for records.

use std::{sync::Arc, time::Duration};

use rdkafka::{
    Message,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::BorrowedMessage,
};
use tokio::{runtime::Handle, time::Instant};

use super::{super::message::delivery, Handler, commit, context::Context, shared::Shared, work::work};

/// How long a poll waits for a record.
const POLL: Duration = Duration::from_millis(100);
/// How often whoever waits looks whether there is something else to do.
const LOOK: Duration = Duration::from_millis(20);
/// How long there may be no room at all until partitions are paused, so that the group's news is heard.
const FULL: Duration = Duration::from_secs(2);
/// How long there may be hardly any room: news queues behind the records that were fetched already.
const NEARLY_FULL: Duration = Duration::from_secs(10);

pub(super) struct Poll<H> {
    shared: Arc<Shared>,
    consumer: Arc<BaseConsumer<Context>>,
    handler: Arc<H>,
    runtime: Handle,
    /// Since when there is no room.
    full_since: Option<Instant>,
    /// When a poll last found nothing, so that all news was heard.
    heard_all: Instant,
    /// Everything is paused until there is a good deal of room.
    paused: bool,
    regulated: Instant,
}

impl<H: Handler> Poll<H> {
    pub(super) fn new(
        shared: Arc<Shared>,
        consumer: Arc<BaseConsumer<Context>>,
        handler: Arc<H>,
        runtime: Handle,
    ) -> Self {
        let now = Instant::now();
        Self { shared, consumer, handler, runtime, full_since: None, heard_all: now, paused: false, regulated: now }
    }

    /// Reads until the consumer is closed, then waits for what is in hand, commits it, and leaves the group.
    pub(super) fn run(mut self) {
        self.read();
        self.finish();
    }

    fn read(&mut self) {
        let consumer = Arc::clone(&self.consumer);
        while self.shared.closing().is_none() {
            self.make_way();
            if self.full_since.is_some() && !self.paused {
                continue;
            }
            let mut is_long = false;
            match consumer.poll(if self.paused { LOOK } else { POLL }) {
                None => self.heard_all = Instant::now(),
                Some(Ok(message)) => is_long = self.take(&message),
                Some(Err(KafkaError::MessageConsumptionFatal(code))) => return self.shared.give_up(code.to_string()),
                Some(Err(error)) => self.shared.complaints.tell("nothing can be read now", &error),
            }
            if is_long || self.regulated.elapsed() >= LOOK {
                self.regulate();
            }
        }
    }

    /// Waits for room; pauses everything when that takes long, and resumes it when there is room again.
    fn make_way(&mut self) {
        let buffered = self.shared.lane.buffered;
        let good_deal = buffered - (buffered / 4).max(1);
        let mut load = self.shared.desk().load();
        if load >= buffered && !self.paused {
            load = self.shared.wait_for(good_deal, LOOK);
        }
        self.full_since = (load >= buffered).then(|| self.full_since.unwrap_or_else(Instant::now));
        if self.paused {
            self.paused = load > good_deal;
        } else if let Some(since) = self.full_since {
            self.paused = since.elapsed() >= FULL || self.heard_all.elapsed() >= NEARLY_FULL;
        } else {
            return;
        }
        self.regulate();
    }

    /// Pauses and resumes partitions as the desk says.
    fn regulate(&mut self) {
        self.regulated = Instant::now();
        let (pause, resume) = self.shared.desk().regulate(self.paused);
        if !pause.is_empty() {
            self.tell(self.consumer.pause(&self.shared.list(&pause)));
        }
        if !resume.is_empty() {
            self.tell(self.consumer.resume(&self.shared.list(&resume)));
        }
    }

    fn tell(&self, result: Result<(), KafkaError>) {
        if let Err(error) = result {
            self.shared.complaints.tell("partitions cannot be paused or resumed", &error);
        }
    }

    /// Has a record handled, and says whether too much of its partition is unfinished now.
    fn take(&self, message: &BorrowedMessage<'_>) -> bool {
        let Some(topic) = self.shared.settings.topic(message.topic()) else { return false };
        let place = (topic, message.partition());
        let mut desk = self.shared.desk();
        let job = desk.enter(delivery(topic, message));
        let is_long = desk.is_long(place);
        drop(desk);
        if let Some(job) = job {
            self.runtime.spawn(work(Arc::clone(&self.shared), Arc::clone(&self.handler), job));
        }
        is_long
    }

    fn finish(mut self) {
        let until = self.shared.closing().unwrap_or_else(|| Instant::now() + self.shared.settings.drain);
        let places = self.shared.desk().places();
        self.shared.desk().let_go(&places);
        self.paused = true;
        while self.shared.desk().load() > 0 && Instant::now() < until {
            self.regulate();
            // What is still read is nobody's: it is not tracked, and nothing after it will be committed.
            drop(self.consumer.poll(LOOK));
        }
        let mut closed = self.shared.committing.lock();
        *closed = true;
        commit::explain_gaps(&self.shared, &self.consumer);
        let places = self.shared.desk().places();
        commit::commit(&self.shared, &self.consumer, &places);
        drop(closed);
        // Dropping the consumer leaves the group.
    }
}
