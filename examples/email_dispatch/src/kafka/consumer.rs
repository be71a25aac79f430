//! Reads topics, many records at a time, in order per key, and commits only what is finished.
//!
//! A partition's records are handled side by side, those of one key one after the other. What may be committed of a
//! partition is the offset after the last record before which all are finished, so a crash repeats records and loses
//! none: whoever handles them must bear that.
//!
//! At most [`Lane::buffered`] records are in hand. Beyond that the broker is not asked: pausing partitions is many times
//! slower, for a resumed one is fetched from up to a second later. Only where that lasts are they paused, so that the
//! group's news is heard. So is a partition of which one record hangs while thousands after it are finished.

mod commit;
mod context;
mod desk;
mod key_order;
mod poll;
mod shared;
mod tracker;
mod work;

use std::{future::Future, sync::Arc, time::Duration};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use tokio::{runtime::Handle, sync::oneshot};
use tokio_util::sync::CancellationToken;

use self::{context::Context, poll::Poll, shared::Shared};
use super::{KafkaFault, KafkaSettings, fault::explain};
use crate::record::{Delivery, Topic};

/// How long the last commit and the farewell to the group may take, after everything in hand is finished or given up.
const FAREWELL: Duration = Duration::from_secs(5);

/// Topics that are read together.
#[derive(Clone, Debug)]
pub struct Lane {
    /// Ends the name of the consumer group: `<group>-<name>`.
    pub name: &'static str,
    /// What is read.
    pub topics: Vec<Topic>,
    /// The most records read and not finished, `>= 1`; one of more than 32 KiB counts as several. Each takes about 2 kB
    /// beside its payload.
    pub buffered: usize,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handled {
    /// It is finished, whatever came of it.
    Done,
    /// It is not finished, and not committed: whoever reads the partition next gets it again. While the partition is
    /// still ours that is this handler, a second later, and the key waits.
    HandedBack,
}

/// Does with a record what is to be done.
pub trait Handler: Send + Sync + 'static {
    /// Handles a record. It may take long: only its own key waits. `stop` is cancelled when the partition is taken away
    /// or the process shuts down: finish or hand back soon, for the result counts only for a short while.
    ///
    /// A panic counts as handed back.
    fn handle(&self, delivery: Delivery, stop: CancellationToken) -> impl Future<Output = Handled> + Send;
}

/// How far a consumer is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Records read.
    pub read: u64,
    /// Records finished while their partition was ours.
    pub finished: u64,
    /// Records not finished, which are read again by whoever has the partition next.
    pub handed_back: u64,
    /// Records finished after their partition was taken away: not committed, and read again by another.
    pub late: u64,
    /// Records read and not finished.
    pub in_hand: usize,
    /// Records finished whose offset the broker does not know yet.
    pub uncommitted: u64,
    /// Records that the broker had forgotten before they were read.
    pub lost: u64,
    /// Partitions assigned.
    pub partitions: usize,
    /// Why nothing is read any more, where librdkafka has given up for good.
    pub fault: Option<String>,
}

/// Reads a lane, from [`start`](Self::start) to [`shut_down`](Self::shut_down).
///
/// Dropping it instead hands everything in hand back, and commits and leaves the group in the background.
#[derive(Debug)]
pub struct Consumer {
    shared: Arc<Shared>,
    /// Says that the group is left.
    over: Option<oneshot::Receiver<()>>,
}

impl Consumer {
    /// Joins the group of the lane and begins to read, on a thread of its own; the handler runs on this runtime. A broker
    /// that does not answer is waited for.
    ///
    /// # Errors
    /// When the settings or the lane cannot be.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[allow(clippy::needless_pass_by_value)] // the lane becomes the consumer's
    pub fn start<H: Handler>(settings: &KafkaSettings, lane: Lane, handler: Arc<H>) -> Result<Self, KafkaFault> {
        let fault = |reason: String| KafkaFault::Failed(format!("lane {}: {reason}", lane.name));
        if lane.buffered == 0 {
            return Err(fault("buffered = 0: at least 1 is needed".to_owned()));
        }
        let topics: Vec<String> = lane.topics.iter().map(|topic| settings.topic_name(*topic)).collect();
        let shared = Arc::new(Shared::new(settings.clone(), lane.clone()));
        let consumer: BaseConsumer<Context> = settings
            .consumer(lane.name, lane.buffered)
            .create_with_context(Context::new(Arc::clone(&shared)))
            .map_err(|error| fault(explain(&error)))?;
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        consumer.subscribe(&names).map_err(|error| fault(explain(&error)))?;
        let consumer = Arc::new(consumer);
        let thread = |name: &str| std::thread::Builder::new().name(format!("kafka-{name}-{}", lane.name));
        let (committing, weak) = (Arc::clone(&shared), Arc::downgrade(&consumer));
        thread("commit")
            .spawn(move || commit::regularly(&committing, &weak))
            .map_err(|error| fault(error.to_string()))?;
        let (say_over, over) = oneshot::channel();
        let poll = Poll::new(Arc::clone(&shared), consumer, handler, Handle::current());
        let run = move || {
            poll.run();
            let _ = say_over.send(());
        };
        thread("poll").spawn(run).map_err(|error| fault(error.to_string()))?;
        Ok(Self { shared, over: Some(over) })
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.shared.progress()
    }

    /// Whether everything read so far is finished and committed.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let progress = self.progress();
        progress.in_hand == 0 && progress.uncommitted == 0
    }

    /// Reads no more, cancels every `stop`, waits until all handlers have finished or handed back, commits, and leaves
    /// the group.
    ///
    /// A handler that takes longer than `time_limit` goes on alone, and its result no longer counts. Where the broker
    /// does not answer, this returns 5 s later and the farewell goes on in the background.
    pub async fn shut_down(mut self, time_limit: Duration) -> Progress {
        self.shared.close(time_limit);
        if let Some(over) = self.over.take() {
            if tokio::time::timeout(time_limit + FAREWELL, over).await.is_err() {
                tracing::warn!(lane = self.shared.lane.name, "the broker did not answer to the last commit");
            }
        }
        self.progress()
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.shared.close(Duration::ZERO);
    }
}
