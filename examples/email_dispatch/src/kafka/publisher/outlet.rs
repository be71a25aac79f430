//! The producer, and the policies around each record.

use std::task::Poll;

use futures::{FutureExt, StreamExt, poll, stream::FuturesUnordered};
use rdkafka::{
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord, Producer, PurgeConfig},
};
use resile::{
    CircuitBreaker, Error, Outcome, Pipeline, Rejected, Resilience, TimeLimiter, Verdict, circuit_breaker::Classified,
    registry::Existing, time_limiter,
};

use crate::{
    kafka::{Complaints, KafkaFault, KafkaSettings},
    record::Record,
    store::OutboxRow,
};

/// What came of a record.
type Attempt = Result<(), Error<Fault>>;

/// The policies around each record, outermost first.
type Guard = Pipeline<(Classified<fn(&Attempt) -> Verdict>, TimeLimiter)>;

/// What came of a batch. Rows that are not named are where they were.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// The numbers of the rows that Kafka has acknowledged.
    pub(super) acknowledged: Vec<i64>,
    /// The first record that was refused for what it is.
    pub(super) refused: Option<Refused>,
    /// Why the rest of the batch was taken back.
    pub(super) failure: Option<String>,
}

#[derive(Debug)]
pub(super) struct Refused {
    pub(super) seq: i64,
    pub(super) why: String,
    /// Whether no other record can be to blame. A broker refuses all that came to it together.
    pub(super) is_certain: bool,
}

/// A way into Kafka.
pub(super) struct Outlet {
    kafka: KafkaSettings,
    complaints: Complaints,
    guard: Guard,
    producer: Disposable,
}

impl Outlet {
    pub(super) fn new(
        kafka: KafkaSettings,
        breaker: &CircuitBreaker,
        resilience: &Resilience,
    ) -> Result<Self, KafkaFault> {
        let time_limit = time_limiter::Config::default().timeout_duration(kafka.message_timeout);
        let time_limiter = resilience.time_limiters().get_with(breaker.name(), time_limit, Existing::Keep);
        let time_limiter = time_limiter.map_err(|error| KafkaFault::Failed(error.to_string()))?;
        let guard = Pipeline::new((breaker.classify(judge as fn(&Attempt) -> Verdict), time_limiter));
        let complaints = Complaints::of("publisher");
        let producer = Disposable(Some(producer(&kafka, complaints.clone())?));
        Ok(Self { kafka, complaints, guard, producer })
    }

    pub(super) fn breaker(&self) -> &CircuitBreaker {
        self.guard.policies().0.breaker()
    }

    /// Publishes records in their order, as many as the breaker admits, and waits until each is acknowledged or taken
    /// back.
    ///
    /// # Cancel safety
    /// Records under way may reach Kafka after the future was dropped.
    pub(super) async fn send(&mut self, rows: &[OutboxRow]) -> Sent {
        let Some(producer) = &self.producer.0 else { return Sent::default() };
        let mut sent = Sent::default();
        let mut under_way = FuturesUnordered::new();
        for row in rows {
            let call = self.guard.call(|| hand_over(producer, &self.kafka, &row.record));
            let mut call = Box::pin(call.map(|result| (row.seq, result)));
            // The first poll gives the record to the producer, which makes this the order they go out in.
            match poll!(&mut call) {
                Poll::Pending => under_way.push(call),
                Poll::Ready((seq, result)) => {
                    let goes_on = result.is_ok();
                    sent.note(seq, result, true);
                    if !goes_on {
                        break;
                    }
                }
            }
        }
        while let Some((seq, result)) = under_way.next().await {
            let failed_before = sent.failure.is_some();
            sent.note(seq, result, rows.len() == 1);
            if sent.failure.is_some() && !failed_before {
                // Whatever is left is younger and has waited for as long. Nothing may overtake what has failed.
                producer.purge(PurgeConfig::default().queue().inflight().non_blocking());
            }
        }
        drop(under_way);
        if sent.failure.is_some() {
            self.begin_anew();
        }
        sent
    }

    /// A producer that has failed may be of no more use, and one that was purged leaves a gap in its numbering.
    fn begin_anew(&mut self) {
        match producer(&self.kafka, self.complaints.clone()) {
            Ok(producer) => self.producer = Disposable(Some(producer)),
            Err(error) => tracing::warn!(%error, "the producer could not be replaced"),
        }
    }
}

impl Sent {
    fn note(&mut self, seq: i64, result: Attempt, is_certain: bool) {
        match result {
            Ok(()) => self.acknowledged.push(seq),
            Err(Error::Inner(Fault::Refused(why))) => {
                if self.refused.as_ref().is_none_or(|first| seq < first.seq) {
                    self.refused = Some(Refused { seq, why, is_certain });
                }
            }
            Err(Error::Inner(Fault::Failed(why))) => self.fail(why),
            Err(Error::Rejected(timed_out @ Rejected::TimedOut(_))) => self.fail(timed_out.to_string()),
            Err(Error::Inner(Fault::Full) | Error::Rejected(_)) => {}
        }
    }

    fn fail(&mut self, why: String) {
        self.failure.get_or_insert(why);
    }
}

/// Why a record has not been acknowledged.
#[derive(Debug)]
enum Fault {
    /// The producer holds as many as it can.
    Full,
    /// For what it is.
    Refused(String),
    /// For what Kafka is.
    Failed(String),
}

impl From<&KafkaError> for Fault {
    fn from(error: &KafkaError) -> Self {
        use RDKafkaErrorCode::{InvalidMessageSize, InvalidRecord, MessageSizeTooLarge, QueueFull};
        match error.rdkafka_error_code() {
            Some(QueueFull) => Self::Full,
            Some(MessageSizeTooLarge | InvalidMessageSize | InvalidRecord) => Self::Refused(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// A refusal of a record says nothing about Kafka, and a full producer has not asked it.
fn judge(attempt: &Attempt) -> Verdict {
    match attempt {
        Err(Error::Inner(Fault::Full | Fault::Refused(_))) => Outcome::Ignored.into(),
        other => Outcome::of(other).into(),
    }
}

async fn hand_over(producer: &FutureProducer<Complaints>, kafka: &KafkaSettings, record: &Record) -> Result<(), Fault> {
    let acknowledged = {
        let headers = OwnedHeaders::new_with_capacity(record.headers.0.len());
        let headers = record
            .headers
            .0
            .iter()
            .fold(headers, |headers, (name, value)| headers.insert(Header { key: name, value: Some(value) }));
        let topic = kafka.topic_name(record.topic);
        let mut message = FutureRecord::<str, [u8]>::to(&topic).payload(&record.payload).headers(headers);
        message.key = record.key.as_deref();
        producer.send_result(message).map_err(|(error, _)| Fault::from(&error))?
    };
    match acknowledged.await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err((error, _))) => Err(Fault::from(&error)),
        Err(_) => Err(Fault::Failed("the producer has ended".to_owned())),
    }
}

fn producer(kafka: &KafkaSettings, complaints: Complaints) -> Result<FutureProducer<Complaints>, KafkaFault> {
    Ok(kafka.producer().create_with_context(complaints)?)
}

/// A producer that is taken apart on a thread that may block: it waits for its own threads.
struct Disposable(Option<FutureProducer<Complaints>>);

impl Drop for Disposable {
    fn drop(&mut self) {
        let Some(producer) = self.0.take() else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn_blocking(move || drop(producer));
        }
    }
}
