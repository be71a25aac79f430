//! A broker that speaks the Kafka protocol and keeps everything in memory: librdkafka's own mock cluster.

use std::time::Duration;

use rdkafka::{
    ClientConfig,
    mocking::MockCluster,
    producer::{BaseProducer, Producer},
};

use crate::{
    kafka::{Complaints, KafkaFault, KafkaSettings},
    record::Topic,
};

/// How many brokers the cluster has.
const BROKERS: i32 = 1;

/// An embedded cluster, which ends when it is dropped.
///
/// It keeps at most 5 MiB and 100,000 batches a partition and forgets the oldest without a word, does not notice a
/// record that an idempotent producer sends twice, and has no transactions: all of which a service that claims each
/// request before it works on it can live with, but for the first, which its consumer reports.
///
/// It is made for tests, and ends the process it is in when a client of a group confuses it: one that comes back over a
/// new connection while an answer is still due on the old one, or whose session ended without its knowing, for names of
/// members are given twice. Clients that wait for longer than a rebalance takes, and hear of their group in time, do not.
pub struct Broker {
    /// The cluster belongs to it.
    producer: BaseProducer<Complaints>,
}

impl Broker {
    /// Starts a cluster on free ports of 127.0.0.1, and makes the topics of `settings`, whose `brokers` do not matter.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(settings: &KafkaSettings) -> Result<Self, KafkaFault> {
        let producer: BaseProducer<Complaints> = ClientConfig::new()
            .set("test.mock.num.brokers", BROKERS.to_string())
            .create_with_context(Complaints::of("embedded-broker"))?;
        let broker = Self { producer };
        for topic in Topic::ALL {
            broker.cluster()?.create_topic(&settings.topic_name(topic), settings.partitions, 1)?;
        }
        Ok(broker)
    }

    /// Where it is: `host:port`, with commas between.
    ///
    /// # Errors
    /// When there is no cluster.
    pub fn addresses(&self) -> Result<String, KafkaFault> {
        Ok(self.cluster()?.bootstrap_servers())
    }

    /// Closes all connections and refuses new ones. What it holds remains.
    ///
    /// # Errors
    /// When it cannot.
    pub fn stop(&self) -> Result<(), KafkaFault> {
        self.each(|cluster, broker| cluster.broker_down(broker))
    }

    /// Is there again after a [`stop`](Self::stop).
    ///
    /// # Errors
    /// When it cannot.
    pub fn resume(&self) -> Result<(), KafkaFault> {
        self.each(|cluster, broker| cluster.broker_up(broker))
    }

    /// Takes that long to answer from now on.
    ///
    /// # Errors
    /// When it cannot.
    pub fn set_latency(&self, latency: Duration) -> Result<(), KafkaFault> {
        self.each(|cluster, broker| cluster.broker_round_trip_time(broker, latency))
    }

    fn each(
        &self,
        act: impl Fn(&MockCluster<'_, Complaints>, i32) -> rdkafka::error::KafkaResult<()>,
    ) -> Result<(), KafkaFault> {
        let cluster = self.cluster()?;
        Ok((1..=BROKERS).try_for_each(|broker| act(&cluster, broker))?)
    }

    fn cluster(&self) -> Result<MockCluster<'_, Complaints>, KafkaFault> {
        self.producer.client().mock_cluster().ok_or_else(|| KafkaFault::Failed("no embedded cluster".to_owned()))
    }
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Broker")
    }
}
