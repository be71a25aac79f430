//! From the outbox to the topics, over an embedded cluster that fails.

use std::{collections::HashSet, time::Duration};

use email_dispatch::{
    embedded::Broker,
    kafka::{
        KafkaSettings,
        publisher::{Publisher, PublisherSettings},
    },
    record::{Headers, Record, Topic, header},
    request::{Kind, Priority},
    store::{Facts, Guarantee, Intake, Ledger, LedgerSettings, Status, Store},
};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::Headers as _,
    producer::{BaseProducer, Producer},
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use resile::event::{EventKind, State};
use serde_json::{Value, json};
use sqlx::Executor;
use uuid::Uuid;

use crate::{
    database::{TestDatabase, impatient},
    kafka::until,
};

const LEASE: Duration = Duration::from_millis(300);
const ENOUGH: Duration = Duration::from_secs(20);

/// A database, a cluster, and how both are used.
pub(crate) struct Bench {
    pub(crate) database: TestDatabase,
    pub(crate) store: Store,
    pub(crate) broker: Broker,
    pub(crate) kafka: KafkaSettings,
}

pub(crate) async fn bench() -> Bench {
    let database = TestDatabase::sqlite().await.unwrap();
    let store = database.store_with(impatient()).await.unwrap();
    let mut kafka =
        KafkaSettings { message_timeout: Duration::from_millis(1_500), ..KafkaSettings::embedded(String::new()) };
    // Or a broker that is back may not be noticed within the time-out.
    kafka.properties.insert("reconnect.backoff.max.ms".into(), "100".into());
    let broker = Broker::start(&kafka).unwrap();
    kafka.brokers = broker.addresses().unwrap();
    Bench { database, store, broker, kafka }
}

impl Bench {
    fn publisher(&self) -> Publisher {
        self.publisher_with(&settings())
    }

    fn publisher_with(&self, settings: &PublisherSettings) -> Publisher {
        publisher_of(&self.store, &self.kafka, settings)
    }

    /// Publishes everything, and stops.
    pub(crate) async fn publish_all(&self) {
        let publisher = self.publisher();
        self.until_published().await;
        publisher.shut_down(ENOUGH).await;
    }

    async fn accept(&self, payloads: impl IntoIterator<Item = u32>) {
        let intakes = payloads.into_iter().map(|number| intake(&number.to_string())).collect();
        self.store.outbox().accept(intakes).await.unwrap();
    }

    async fn until_published(&self) {
        until("the outbox is empty", async || self.store.outbox().is_empty().await.unwrap()).await;
    }

    async fn payloads(&self, topic: Topic) -> Vec<String> {
        let found = found(&self.kafka, topic).await;
        found.into_iter().map(|record| String::from_utf8(record.payload).unwrap()).collect()
    }

    /// Without those that were there before, as the ledger would have it: what is taken back may have arrived.
    async fn first_payloads(&self, topic: Topic) -> Vec<String> {
        let mut seen = HashSet::new();
        self.payloads(topic).await.into_iter().filter(|payload| seen.insert(payload.clone())).collect()
    }
}

fn publisher_of(store: &Store, kafka: &KafkaSettings, settings: &PublisherSettings) -> Publisher {
    Publisher::start(store.outbox(), ledger(store), store.lease("publisher"), kafka, settings).unwrap()
}

/// Gives Kafka up soon, and tries it again only when told.
fn settings() -> PublisherSettings {
    PublisherSettings {
        lease: LEASE,
        window: 10,
        open: Duration::from_secs(3_600),
        poll_interval: Duration::from_millis(10),
        ..PublisherSettings::default()
    }
}

pub(crate) fn ledger(store: &Store) -> Ledger {
    store.ledger(LedgerSettings { guarantee: Guarantee::AtMostOnce, lease: Duration::from_secs(60) })
}

pub(crate) const FACTS: Facts = Facts { kind: Kind::Notification, priority: Priority::Normal };

fn record(payload: &str) -> Record {
    let headers = Headers(vec![("trace".into(), vec![0xff]), ("empty".into(), Vec::new())]);
    Record { topic: Topic::Normal, key: Some("ada".into()), payload: payload.into(), headers }
}

fn intake(payload: &str) -> Intake {
    Intake { id: Uuid::new_v4(), facts: FACTS, record: record(payload) }
}

/// A request of priority NORMAL as it is on a topic, with these fields instead.
pub(crate) fn request(id: Uuid, fields: Value) -> Vec<u8> {
    let mut request = json!({
        "id": id, "to": "c2VjcmV0", "subject": "Hello", "content": "Hello", "contentType": "TEXT",
        "kind": "NOTIFICATION", "priority": "NORMAL", "timestamp": "2026-01-31T12:00:00Z",
    });
    request.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    request.to_string().into_bytes()
}

/// Everything on a topic: in order, for each partition.
async fn found(kafka: &KafkaSettings, topic: Topic) -> Vec<Record> {
    placed(kafka, topic).await.into_iter().map(|(_, record)| record).collect()
}

/// The same, each record with its partition.
async fn placed(kafka: &KafkaSettings, topic: Topic) -> Vec<(i32, Record)> {
    let (brokers, name) = (kafka.brokers.clone(), kafka.topic_name(topic));
    let read = move || {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("group.id", "test")
            .set("enable.partition.eof", "true")
            .set("fetch.wait.max.ms", "10")
            .create()
            .unwrap();
        let metadata = consumer.fetch_metadata(Some(&name), ENOUGH).unwrap();
        let partitions = metadata.topics()[0].partitions();
        let mut assignment = TopicPartitionList::new();
        for partition in partitions {
            assignment.add_partition_offset(&name, partition.id(), Offset::Beginning).unwrap();
        }
        consumer.assign(&assignment).unwrap();
        let (mut records, mut at_end) = (Vec::new(), 0);
        while at_end < partitions.len() {
            match consumer.poll(ENOUGH).expect("an answer") {
                Ok(message) => {
                    let headers = message
                        .headers()
                        .into_iter()
                        .flat_map(|headers| headers.iter())
                        .map(|header| (header.key.to_owned(), header.value.unwrap().to_vec()))
                        .collect();
                    let record = Record {
                        topic,
                        key: message.key().map(|key| String::from_utf8(key.to_vec()).unwrap()),
                        payload: message.payload().unwrap().to_vec(),
                        headers: Headers(headers),
                    };
                    records.push((message.partition(), record));
                }
                Err(KafkaError::PartitionEOF(_)) => at_end += 1,
                Err(error) => panic!("{error}"),
            }
        }
        records
    };
    tokio::task::spawn_blocking(read).await.unwrap()
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[tokio::test]
async fn accepted_requests_reach_their_topics_in_order_with_key_and_headers() {
    let bench = bench().await;
    bench.accept(0..1_200).await; // more than two batches
    let mut elsewhere = intake("high");
    elsewhere.record = Record { topic: Topic::High, key: None, ..elsewhere.record };
    bench.store.outbox().accept(vec![elsewhere]).await.unwrap();

    let publisher = bench.publisher();
    bench.until_published().await;
    assert_eq!(bench.payloads(Topic::Normal).await, numbers(0..1_200));
    assert_eq!(found(&bench.kafka, Topic::Normal).await[7], record("7"));
    assert_eq!(found(&bench.kafka, Topic::High).await, [Record { topic: Topic::High, key: None, ..record("high") }]);
    assert_eq!(publisher.published(), 1_201);
}

/// MurmurHash2 with the seed that Kafka's Java clients give it.
fn murmur2(data: &[u8]) -> i32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ u32::try_from(data.len()).unwrap();
    let words = data.chunks_exact(4);
    let rest = words.remainder();
    for word in words {
        let word = u32::from_le_bytes(word.try_into().unwrap()).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ (word ^ word >> 24).wrapping_mul(M);
    }
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0, |tail, octet| tail << 8 | u32::from(*octet));
        hash = (hash ^ tail).wrapping_mul(M);
    }
    hash = (hash ^ hash >> 13).wrapping_mul(M);
    i32::from_ne_bytes((hash ^ hash >> 15).to_ne_bytes())
}

#[tokio::test]
async fn a_key_has_the_partition_that_kafkas_java_clients_give_it() {
    // What Java's own tests expect of the hash.
    let hashes = [
        ("21", -973_932_308),
        ("abc", 479_470_107),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("a-little-bit-longer-string", -1_486_304_829),
    ];
    let bench = bench().await;
    for (key, hash) in hashes {
        assert_eq!(murmur2(key.as_bytes()), hash, "{key}");
        let mut keyed = intake(key);
        keyed.record.key = Some(key.to_owned());
        bench.store.outbox().accept(vec![keyed]).await.unwrap();
    }
    bench.publish_all().await;
    let placed = placed(&bench.kafka, Topic::Normal).await;
    assert_eq!(placed.len(), hashes.len());
    for (partition, record) in placed {
        let key = record.key.unwrap();
        assert_eq!(partition, (murmur2(key.as_bytes()) & i32::MAX) % bench.kafka.partitions, "{key}");
    }
}

#[tokio::test]
async fn a_publisher_that_is_woken_does_not_wait_to_look() {
    let bench = bench().await;
    let settings = PublisherSettings { poll_interval: Duration::from_secs(3_600), ..settings() };
    let publisher = bench.publisher_with(&settings);
    until("it leads", async || publisher.is_leader()).await;
    for number in 0..3 {
        bench.accept([number]).await;
        publisher.waker().wake();
        bench.until_published().await;
    }
    assert_eq!(bench.payloads(Topic::Normal).await, numbers(0..3));
}

#[tokio::test]
async fn while_the_breaker_is_open_nothing_is_tried_and_then_all_go_out_in_order() {
    let bench = bench().await;
    let publisher = bench.publisher();
    let breaker = publisher.breaker();
    let transitions = breaker.event_log(10_000);
    bench.accept(0..3).await;
    bench.until_published().await;

    bench.broker.stop().unwrap();
    bench.accept(3..40).await;
    until("the breaker opens", async || breaker.state() == State::Open).await;
    bench.accept(40..1_000).await;
    assert_eq!(bench.store.outbox().len().await.unwrap(), 997); // not one is lost or forgotten
    bench.broker.resume().unwrap();
    let tried = || {
        let metrics = breaker.metrics();
        (metrics.state, metrics.generation, metrics.buffered_calls, metrics.late_results)
    };
    let before = tried();
    tokio::time::sleep(Duration::from_millis(300)).await; // time to do what must not be done
    assert_eq!(tried(), before);
    assert_eq!((publisher.published(), bench.store.outbox().len().await.unwrap()), (3, 997));

    breaker.transition_to_half_open().unwrap();
    bench.until_published().await;
    assert_eq!(breaker.state(), State::Closed);
    assert_eq!(bench.first_payloads(Topic::Normal).await, numbers(0..1_000));
    let states: Vec<_> = transitions
        .events()
        .iter()
        .filter_map(|event| match event.kind {
            EventKind::StateTransition { to, .. } => Some(to),
            _ => None,
        })
        .collect();
    assert_eq!(states, [State::Open, State::HalfOpen, State::Closed]);
}

#[tokio::test]
async fn a_half_open_breaker_admits_no_more_than_its_trial_calls() {
    let bench = bench().await;
    let publisher = bench.publisher();
    let breaker = publisher.breaker();
    breaker.transition_to_open().unwrap();
    bench.accept(0..50).await;
    bench.broker.stop().unwrap();
    breaker.transition_to_half_open().unwrap();
    until("the trial calls fail", async || breaker.state() == State::Open).await;
    let metrics = breaker.metrics();
    assert!((1..=5).contains(&metrics.buffered_calls), "{metrics:?}");
    assert_eq!(bench.store.outbox().len().await.unwrap(), 50);
}

#[tokio::test]
async fn a_breaker_whose_wait_is_over_tries_again_until_kafka_is_back() {
    let bench = bench().await;
    let settings = PublisherSettings { open: Duration::from_millis(100), ..settings() };
    let publisher = bench.publisher_with(&settings);
    bench.broker.stop().unwrap();
    bench.accept(0..30).await;
    let opened = async || publisher.breaker().metrics().generation >= 4;
    until("the breaker has opened, half-opened and opened again", opened).await;
    bench.broker.resume().unwrap();
    bench.until_published().await;
    until("the breaker closes", async || publisher.breaker().state() == State::Closed).await;
    assert_eq!(bench.first_payloads(Topic::Normal).await, numbers(0..30));
}

#[tokio::test]
async fn a_slow_cluster_opens_the_breaker() {
    let bench = bench().await;
    let settings = PublisherSettings { slow: Duration::from_millis(50), ..settings() };
    let publisher = bench.publisher_with(&settings);
    bench.broker.set_latency(Duration::from_millis(80)).unwrap();
    bench.accept(0..30).await;
    until("the breaker opens", async || publisher.breaker().state() == State::Open).await;
    assert!(publisher.breaker().metrics().slow_calls > 0);
}

#[tokio::test]
async fn of_two_publishers_one_publishes() {
    let bench = bench().await;
    let other = bench.database.store_with(impatient()).await.unwrap();
    let both = [bench.publisher(), publisher_of(&other, &bench.kafka, &settings())];
    bench.accept(0..2_000).await;
    bench.until_published().await;
    assert_eq!(bench.payloads(Topic::Normal).await, numbers(0..2_000)); // none of them twice
    let mut published = both.each_ref().map(Publisher::published);
    published.sort_unstable();
    assert_eq!(published, [0, 2_000]);
}

#[tokio::test]
async fn another_publisher_goes_on_when_the_lease_of_one_that_died_is_over() {
    let bench = bench().await;
    let first = bench.publisher();
    until("the first leads", async || first.is_leader()).await;
    let other = bench.database.store_with(impatient()).await.unwrap();
    let second = publisher_of(&other, &bench.kafka, &settings());
    drop(first);
    bench.accept(0..10).await;
    tokio::time::sleep(2 * LEASE).await; // the clock of the database stands still
    assert!(!second.is_leader());
    assert_eq!(bench.store.outbox().len().await.unwrap(), 10);
    bench.database.clock.advance(LEASE);
    bench.until_published().await;
    assert_eq!(second.published(), 10);
}

#[tokio::test]
async fn a_publisher_that_is_shut_down_forgets_what_was_acknowledged_and_lets_another_publish() {
    let bench = bench().await;
    bench.accept(0..2_000).await;
    let publisher = bench.publisher_with(&PublisherSettings { batch: 50, ..settings() });
    until("something is published", async || publisher.published() > 0).await;
    publisher.shut_down(ENOUGH).await;
    let (left, published) = (bench.store.outbox().len().await.unwrap(), bench.payloads(Topic::Normal).await.len());
    assert_eq!(left as usize + published, 2_000);
    assert!(bench.store.lease("publisher").try_hold(LEASE).await.unwrap());
}

#[tokio::test]
async fn shutting_down_takes_no_longer_than_it_may() {
    let mut bench = bench().await;
    bench.kafka.message_timeout = Duration::from_secs(3_600);
    bench.broker.stop().unwrap();
    bench.accept(0..10).await;
    let publisher = bench.publisher();
    until("it leads", async || publisher.is_leader()).await;
    let shutting_down = publisher.shut_down(Duration::from_millis(200));
    tokio::time::timeout(Duration::from_secs(10), shutting_down).await.unwrap();
    assert_eq!(bench.store.outbox().len().await.unwrap(), 10);
}

#[tokio::test]
async fn a_locked_database_does_not_end_a_publisher() {
    let bench = bench().await;
    let publisher = bench.publisher_with(&PublisherSettings { lease: Duration::from_secs(60), ..settings() });
    until("it leads", async || publisher.is_leader()).await;
    publisher.breaker().transition_to_open().unwrap();
    bench.accept(0..10).await;
    let mut stranger = bench.database.stranger().await;
    stranger.execute("BEGIN IMMEDIATE").await.unwrap();
    publisher.breaker().transition_to_closed().unwrap();
    until("they are published", async || publisher.published() == 10).await;
    assert_eq!(bench.store.outbox().len().await.unwrap(), 10); // but cannot be deleted
    stranger.execute("COMMIT").await.unwrap();
    bench.until_published().await;
    bench.accept(10..20).await;
    bench.until_published().await;
    assert_eq!(bench.payloads(Topic::Normal).await, numbers(0..20));
}

fn with_small_records(mut bench: Bench) -> Bench {
    bench.kafka.properties.insert("message.max.bytes".into(), "2000".into());
    bench
}

#[tokio::test]
async fn a_record_that_is_too_large_blocks_no_others_and_is_a_short_dead_letter() {
    let bench = with_small_records(bench().await);
    let id = Uuid::new_v4();
    bench.accept(0..10).await;
    let mut large = intake(std::str::from_utf8(&request(id, json!({ "content": "a".repeat(5_000) }))).unwrap());
    large.id = id;
    bench.store.outbox().accept(vec![large]).await.unwrap();
    bench.accept(10..20).await;

    let publisher = bench.publisher();
    bench.until_published().await;
    assert_eq!(bench.payloads(Topic::Normal).await, numbers(0..20));
    let letters = found(&bench.kafka, Topic::DeadLetter).await;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].payload, format!(r#"{{"id":"{id}"}}"#).into_bytes());
    assert_eq!(letters[0].headers.text(header::REASON).unwrap(), "unpublishable");
    assert_eq!(letters[0].headers.text(header::ORIGINAL_TOPIC).unwrap(), "normal-priority-emails");
    let row = ledger(&bench.store).find(id).await.unwrap().unwrap();
    assert_eq!(row.status, Status::Failed);
    assert!(row.reason.unwrap().contains("Message size too large"));
    assert_eq!(publisher.breaker().metrics().failed_calls, 0); // which is no fault of Kafka's
}

#[tokio::test]
async fn a_dead_letter_that_is_too_large_itself_becomes_a_short_one() {
    let bench = with_small_records(bench().await);
    let large = Record { topic: Topic::DeadLetter, key: Some("k".repeat(3_000)), ..record(&"x".repeat(5_000)) };
    bench.store.outbox().put(&[large]).await.unwrap();
    let _publisher = bench.publisher();
    bench.until_published().await;
    let letters = found(&bench.kafka, Topic::DeadLetter).await;
    assert_eq!(letters.len(), 1);
    assert!(letters[0].payload.is_empty() && letters[0].key.is_none());
}

/// A cluster of the test's own, whose brokers can be told to refuse.
fn refusing(kafka: &mut KafkaSettings, refusals: usize) -> BaseProducer {
    let owner: BaseProducer = ClientConfig::new().set("test.mock.num.brokers", "1").create().unwrap();
    let cluster = owner.client().mock_cluster().unwrap();
    for topic in Topic::ALL {
        cluster.create_topic(&kafka.topic_name(topic), 1, 1).unwrap();
    }
    let refusal = RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
    cluster.request_errors(RDKafkaApiKey::Produce, &vec![refusal; refusals]);
    kafka.brokers = cluster.bootstrap_servers();
    drop(cluster);
    owner
}

#[tokio::test]
async fn what_a_broker_refuses_in_bad_company_it_may_take_alone() {
    let mut bench = bench().await;
    let _cluster = refusing(&mut bench.kafka, 1);
    bench.accept(0..10).await;
    let _publisher = bench.publisher();
    bench.until_published().await;
    assert_eq!(bench.payloads(Topic::Normal).await, numbers(0..10));
    assert_eq!(found(&bench.kafka, Topic::DeadLetter).await, []);
}

#[tokio::test]
async fn what_a_broker_refuses_even_alone_is_a_dead_letter() {
    let mut bench = bench().await;
    let _cluster = refusing(&mut bench.kafka, 2);
    bench.accept(0..10).await;
    let _publisher = bench.publisher();
    bench.until_published().await;
    assert_eq!(bench.payloads(Topic::Normal).await, numbers(1..10));
    assert_eq!(found(&bench.kafka, Topic::DeadLetter).await.len(), 1);
}

#[tokio::test]
async fn a_topic_that_is_closed_to_us_opens_the_breaker_and_loses_nothing() {
    let mut bench = bench().await;
    let cluster = refusing(&mut bench.kafka, 0);
    let closed = |error| {
        let topic = bench.kafka.topic_name(Topic::Normal);
        cluster.client().mock_cluster().unwrap().topic_error(&topic, error).unwrap();
    };
    closed(RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
    bench.accept(0..30).await;
    let publisher = bench.publisher();
    until("the breaker opens", async || publisher.breaker().state() == State::Open).await;
    assert_eq!((publisher.published(), bench.store.outbox().len().await.unwrap()), (0, 30));
    closed(RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR);
    publisher.breaker().transition_to_half_open().unwrap();
    bench.until_published().await;
    assert_eq!(bench.first_payloads(Topic::Normal).await, numbers(0..30));
}

#[tokio::test]
async fn a_setting_that_cannot_be_stops_a_publisher_before_it_starts() {
    let mut bench = bench().await;
    let start = |bench: &Bench, settings: &PublisherSettings| {
        let (store, lease) = (&bench.store, bench.store.lease("publisher"));
        Publisher::start(store.outbox(), ledger(store), lease, &bench.kafka, settings).unwrap_err().to_string()
    };
    let error = start(&bench, &PublisherSettings { failure_rate: 0.0, ..settings() });
    assert!(error.contains("failure_rate_threshold"), "{error}");
    bench.kafka.properties.insert("no.such.property".into(), "1".into());
    let error = start(&bench, &settings());
    assert!(error.contains("no.such.property"), "{error}");
}
