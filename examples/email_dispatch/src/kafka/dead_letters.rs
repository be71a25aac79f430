//! Looks at dead letters, and sends them again.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
};
use serde::Deserialize;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Complaints, KafkaFault, KafkaSettings, fault::explain, message::delivery};
use crate::{
    personal::mask_text,
    record::{Delivery, Record, Topic, afresh, header},
    request::EmailRequest,
    store::{Accepted, Facts, Intake, Ledger, Outbox, Status, StoreError},
};

/// Which dead letters to read. By default all of them.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// At most so many, those that are found first.
    pub limit: Option<usize>,
    /// Only those of these requests; of all if there are none.
    pub ids: Vec<Uuid>,
    /// Only those with this reason.
    pub reason: Option<String>,
}

/// A dead letter as it was found.
#[derive(Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// All of it, and where it is.
    pub delivery: Delivery,
    /// When it was written, in milliseconds since 1970, as far as Kafka knows.
    pub at_ms: Option<i64>,
    /// The request's own name, if it can be read.
    pub id: Option<Uuid>,
    /// Why it is a dead letter, in a word.
    pub reason: String,
    /// Why it is a dead letter, in a sentence.
    pub explanation: String,
    /// Where it first was.
    pub original_topic: Option<String>,
}

impl DeadLetter {
    /// Reads what a record says of itself.
    #[must_use]
    pub fn new(delivery: Delivery, at_ms: Option<i64>) -> Self {
        #[derive(Deserialize)]
        struct Named {
            id: Uuid,
        }
        let text = |name| delivery.headers.text(name).map(|text| one_line(&text));
        let payload = delivery.payload.as_deref().unwrap_or_default();
        Self {
            at_ms,
            id: serde_json::from_slice(payload).ok().map(|Named { id }| id),
            reason: text(header::REASON).unwrap_or_default(),
            explanation: text(header::EXPLANATION).unwrap_or_default(),
            original_topic: text(header::ORIGINAL_TOPIC),
            delivery,
        }
    }
}

impl fmt::Display for DeadLetter {
    /// One line without anything personal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Delivery { partition, offset, .. } = self.delivery;
        write!(f, "{partition}/{offset}")?;
        match self.at_ms.and_then(|at| Timestamp::from_millisecond(at).ok()) {
            Some(at) => write!(f, " {at}")?,
            None => f.write_str(" at an unknown time")?,
        }
        match self.id {
            Some(id) => write!(f, " {id}")?,
            None => f.write_str(" without an id")?,
        }
        let from = self.original_topic.as_deref().unwrap_or("an unknown topic");
        let reason = if self.reason.is_empty() { "no reason given" } else { &self.reason };
        write!(f, " from {from}: {reason}")?;
        if self.explanation.is_empty() { Ok(()) } else { write!(f, ": {}", self.explanation) }
    }
}

impl fmt::Debug for DeadLetter {
    /// Without what it says.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeadLetter({self})")
    }
}

/// Reads the dead letters that there are now, without being a member of any consumer group.
///
/// # Errors
/// [`KafkaFault::Unreachable`] when no broker answers within the settings' `message_timeout`, or nothing comes for that
/// long; [`KafkaFault::Failed`] when there is no such topic.
pub async fn read(settings: &KafkaSettings, wanted: &Wanted) -> Result<Vec<DeadLetter>, KafkaFault> {
    let (settings, wanted) = (settings.clone(), wanted.clone());
    let reading = tokio::task::spawn_blocking(move || read_blocking(&settings, &wanted));
    reading.await.map_err(|error| KafkaFault::Failed(error.to_string()))?
}

fn read_blocking(settings: &KafkaSettings, wanted: &Wanted) -> Result<Vec<DeadLetter>, KafkaFault> {
    let unreachable = |reason: String| KafkaFault::Unreachable { brokers: settings.brokers.clone(), reason };
    let unanswered = |error: KafkaError| unreachable(explain(&error));
    let failed = KafkaFault::from;
    let topic = settings.topic_name(Topic::DeadLetter);
    let patience = settings.message_timeout;

    let mut config = settings.client();
    config
        // Asked for where partitions are assigned by hand, too, but never joined.
        .set("group.id", format!("{}-dead-letters", settings.group))
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("fetch.wait.max.ms", settings.fetch_wait.as_millis().to_string());
    let consumer: BaseConsumer<Complaints> =
        settings.with_properties(config).create_with_context(Complaints::of("dead-letters"))?;

    let metadata = consumer.fetch_metadata(Some(&topic), patience).map_err(unanswered)?;
    let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
    let mut ends = BTreeMap::new();
    let mut assignment = TopicPartitionList::new();
    let mut there_is_one = false;
    for partition in partitions.map(|partition| partition.id()) {
        there_is_one = true;
        let (low, high) = consumer.fetch_watermarks(&topic, partition, patience).map_err(unanswered)?;
        if low < high {
            ends.insert(partition, high);
            assignment.add_partition_offset(&topic, partition, Offset::Offset(low)).map_err(failed)?;
        }
    }
    if !there_is_one {
        return Err(KafkaFault::Failed(format!("there is no topic '{topic}'")));
    }
    consumer.assign(&assignment).map_err(failed)?;

    let (mut found, mut last_heard) = (Vec::new(), Instant::now());
    let limit = wanted.limit.unwrap_or(usize::MAX);
    while !ends.is_empty() && found.len() < limit {
        match consumer.poll(patience.saturating_sub(last_heard.elapsed())) {
            Some(Ok(message)) => {
                last_heard = Instant::now();
                let (partition, offset) = (message.partition(), message.offset());
                let Some(&end) = ends.get(&partition) else { continue };
                if offset + 1 >= end {
                    ends.remove(&partition);
                }
                let letter = DeadLetter::new(delivery(Topic::DeadLetter, &message), message.timestamp().to_millis());
                if offset < end && wanted.includes(&letter) {
                    found.push(letter);
                }
            }
            // The last record of a partition may be one of Kafka's own, which nobody is given.
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                last_heard = Instant::now();
                ends.remove(&partition);
            }
            Some(Err(error)) if last_heard.elapsed() >= patience => return Err(unanswered(error)),
            Some(Err(_)) => {}
            None if last_heard.elapsed() >= patience => return Err(unreachable("no more answers".to_owned())),
            None => {}
        }
    }
    found.sort_by_key(|letter| (letter.at_ms, letter.delivery.partition, letter.delivery.offset));
    Ok(found)
}

impl Wanted {
    fn includes(&self, letter: &DeadLetter) -> bool {
        let of_these = self.ids.is_empty() || letter.id.is_some_and(|id| self.ids.contains(&id));
        of_these && self.reason.as_ref().is_none_or(|reason| *reason == letter.reason)
    }
}

/// What became of dead letters that were to be sent again.
#[derive(Clone, Debug, Default)]
pub struct Replayed {
    /// The requests that will be tried again.
    pub reopened: Vec<Uuid>,
    /// The dead letters that were left alone.
    pub skipped: Vec<Skipped>,
}

/// A dead letter that was not sent again.
#[derive(Clone, Debug)]
pub struct Skipped {
    /// Its partition.
    pub partition: i32,
    /// Its place there.
    pub offset: i64,
    /// The request's own name, if it can be read.
    pub id: Option<Uuid>,
    /// Why.
    pub why: String,
}

/// Sends the requests of dead letters again, as new ones to where new ones go. One that has FAILED is reopened, one that
/// the ledger does not know is accepted, and all others are left alone: replayed twice, a dead letter is sent once.
///
/// # Errors
/// The database's. Those before are then reopened, and skipped when all is done again.
pub async fn replay(ledger: &Ledger, outbox: &Outbox, letters: &[DeadLetter]) -> Result<Replayed, StoreError> {
    let mut replayed = Replayed::default();
    for letter in letters {
        match replay_one(ledger, outbox, letter).await? {
            Ok(id) => replayed.reopened.push(id),
            Err(why) => {
                let Delivery { partition, offset, .. } = letter.delivery;
                replayed.skipped.push(Skipped { partition, offset, id: letter.id, why });
            }
        }
    }
    Ok(replayed)
}

async fn replay_one(ledger: &Ledger, outbox: &Outbox, letter: &DeadLetter) -> Result<Result<Uuid, String>, StoreError> {
    let payload = letter.delivery.payload.as_deref().unwrap_or_default();
    let request: EmailRequest = match serde_json::from_slice(payload) {
        Ok(request) => request,
        // In few words: the parser's own may quote what it found.
        Err(error) => {
            let (line, column) = (error.line(), error.column());
            return Ok(Err(format!("it cannot be read as a request (line {line}, column {column})")));
        }
    };
    let (id, facts) = (request.id, Facts { kind: request.kind, priority: request.priority });
    let record: Record = afresh(&letter.delivery, Topic::of(&request));
    let status = match ledger.find(id).await? {
        Some(row) if row.status == Status::Failed => {
            // Another may have been faster.
            let reopened = ledger.reopen(id, &[record]).await?;
            return Ok(if reopened { Ok(id) } else { Err("somebody else has just reopened it".to_owned()) });
        }
        Some(row) => row.status,
        None => match outbox.accept(vec![Intake { id, facts, record }]).await?.first() {
            Some(Accepted::Known(status)) => *status,
            _ => return Ok(Ok(id)),
        },
    };
    Ok(Err(format!("its request is {}, not FAILED", status.name())))
}

/// What a header says, however it was written, fit for one line.
fn one_line(text: &str) -> String {
    mask_text(text).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
