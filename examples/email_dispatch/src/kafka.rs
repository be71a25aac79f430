//! Kafka: what is set, the publisher of the outbox, and the consumer that keeps order per key.

mod complaints;
pub mod consumer;
pub mod dead_letters;
mod fault;
mod message;
pub mod publisher;
mod topics;

use std::{collections::BTreeMap, time::Duration};

use rdkafka::{ClientConfig, consumer::BaseConsumer, error::KafkaError, producer::BaseProducer};

pub(crate) use self::complaints::Complaints;
use self::fault::explain;
pub use self::{fault::KafkaFault, topics::make_topics};
use crate::record::Topic;

/// The longest that librdkafka waits for an answer.
const LONGEST_ANSWER: Duration = Duration::from_secs(300);

/// How the service uses a cluster.
#[derive(Clone, Debug)]
pub struct KafkaSettings {
    /// Where the cluster is: `host:port`, several with commas between.
    pub brokers: String,
    /// What the names of all topics begin with. Default: nothing.
    pub topic_prefix: String,
    /// What the names of all consumer groups begin with. Default: `email-dispatch`.
    pub group: String,
    /// What brokers call this process in their logs. Default: `email-dispatch`.
    pub client_id: String,
    /// How many partitions a topic gets that does not exist yet. Default: 12.
    pub partitions: i32,
    /// How many copies of each partition. Default: -1, which leaves it to the cluster.
    pub replication: i32,
    /// After which silence the others take over a process's partitions. Default: 45 s.
    pub session_timeout: Duration,
    /// How long a record may take to be acknowledged. Default: 30 s.
    pub message_timeout: Duration,
    /// How often finished offsets are committed. Default: 500 ms.
    pub commit_interval: Duration,
    /// How long work may go on in partitions that are taken away, before others get them. Default: 5 s.
    pub drain: Duration,
    /// How long a broker may hold a request for records back when it has none. Default: 500 ms.
    pub fetch_wait: Duration,
    /// Further properties of librdkafka, such as `security.protocol`. They win over those set here.
    pub properties: BTreeMap<String, String>,
}

impl Default for KafkaSettings {
    fn default() -> Self {
        Self {
            brokers: "127.0.0.1:9092".to_owned(),
            topic_prefix: String::new(),
            group: "email-dispatch".to_owned(),
            client_id: "email-dispatch".to_owned(),
            partitions: 12,
            replication: -1,
            session_timeout: Duration::from_secs(45),
            message_timeout: Duration::from_secs(30),
            commit_interval: Duration::from_millis(500),
            drain: Duration::from_secs(5),
            fetch_wait: Duration::from_millis(500),
            properties: BTreeMap::new(),
        }
    }
}

impl KafkaSettings {
    /// For an embedded broker, which is fast, has one copy of everything, and is not woken by a new record.
    ///
    /// It waits 3 s for members before it first gives a group its partitions, and meanwhile throws out whoever was
    /// silent for the session timeout: this must be longer.
    #[must_use]
    pub fn embedded(brokers: String) -> Self {
        Self {
            brokers,
            replication: 1,
            // It lets the first member of a group wait for 3 s, and forgets a member that waits for longer than this.
            session_timeout: Duration::from_secs(4),
            message_timeout: Duration::from_secs(3),
            commit_interval: Duration::from_millis(200),
            fetch_wait: Duration::from_millis(20),
            ..Self::default()
        }
    }

    /// A topic's name in the cluster.
    #[must_use]
    pub fn topic_name(&self, topic: Topic) -> String {
        format!("{}{}", self.topic_prefix, topic.name())
    }

    /// The topic of that name in the cluster.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<Topic> {
        Topic::named(name.strip_prefix(&self.topic_prefix)?)
    }

    /// What all clients have in common.
    pub(crate) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", &self.client_id)
            .set("socket.timeout.ms", self.longest_answer().as_millis().to_string())
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000");
        config
    }

    /// How long an answer may take. A broker that stopped may leave connections behind that nobody answers.
    fn longest_answer(&self) -> Duration {
        self.message_timeout.max(self.fetch_wait + Duration::from_secs(1)).min(LONGEST_ANSWER)
    }

    /// For the consumer of a lane that has so many records in hand.
    pub(crate) fn consumer(&self, lane: &str, buffered: usize) -> ClientConfig {
        let heartbeat = (self.session_timeout / 10).min(Duration::from_secs(3));
        // While a group gives partitions out, a broker answers nothing on the connection to it. Whoever gives that up too
        // soon comes again as it was, before the broker has noticed: a real one begins anew, the embedded one breaks down.
        let answer = self.longest_answer().max(self.session_timeout + Duration::from_secs(2)).min(LONGEST_ANSWER);
        let mut config = self.client();
        config
            .set("socket.timeout.ms", answer.as_millis().to_string())
            .set("group.id", format!("{}-{lane}", self.group))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("allow.auto.create.topics", "false")
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", self.session_timeout.as_millis().to_string())
            .set("heartbeat.interval.ms", heartbeat.as_millis().to_string())
            .set("fetch.wait.max.ms", self.fetch_wait.as_millis().to_string())
            .set("queued.min.messages", buffered.clamp(1_000, 100_000).to_string())
            // As soon as there is room in the queue: the default, a second later, is a second of nothing to do.
            .set("fetch.queue.backoff.ms", "10")
            .set("queued.max.messages.kbytes", "8192");
        self.with_properties(config)
    }

    /// For the publisher of the outbox.
    pub(crate) fn producer(&self) -> ClientConfig {
        // The time limiter takes records back all at once. Left to itself librdkafka gives them up one by one, and a
        // later one may then overtake an earlier one.
        let beyond = self.message_timeout.saturating_mul(2).as_millis().clamp(100, i32::MAX as u128);
        let mut config = self.client();
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("linger.ms", "5")
            .set("partitioner", "murmur2_random")
            .set("message.timeout.ms", beyond.to_string());
        self.with_properties(config)
    }

    /// What librdkafka would not take of these settings, without the values, which may be passwords. No cluster is needed.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        fn alone(mut config: ClientConfig) -> ClientConfig {
            config.remove("bootstrap.servers").remove("metadata.broker.list");
            config
        }
        let one = |(name, value)| ClientConfig::new().set(name, value).create_native_config().err();
        let mut errors: Vec<KafkaError> = self.properties.iter().filter_map(one).collect();
        if errors.is_empty() {
            let complaints = Complaints::of("check");
            let consumer: Result<BaseConsumer<_>, _> =
                alone(self.consumer("check", 1)).create_with_context(complaints.clone());
            let producer: Result<BaseProducer<_>, _> = alone(self.producer()).create_with_context(complaints);
            errors.extend([consumer.err(), producer.err()].into_iter().flatten());
        }
        let mut faults: Vec<String> = errors.iter().map(explain).collect();
        faults.dedup();
        faults
    }

    /// Lets the user's own properties win.
    pub(crate) fn with_properties(&self, mut config: ClientConfig) -> ClientConfig {
        config.extend(self.properties.clone());
        config
    }
}
