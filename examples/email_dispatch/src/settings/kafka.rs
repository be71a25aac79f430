//! Kafka, and what goes in and out of it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;

use super::value::{Weights, duration};
use crate::kafka::{KafkaSettings, publisher::PublisherSettings};

/// How Kafka is used.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Kafka")]
pub struct Kafka {
    /// Brokers of the cluster, host:port, several with commas between. Without: a broker in this process.
    #[arg(id = "kafka-brokers", value_name = "HOST:PORT,..")]
    pub brokers: Option<String>,
    /// What the names of all topics begin with.
    #[arg(id = "kafka-topic-prefix", value_name = "TEXT", default_value = "")]
    pub topic_prefix: String,
    /// What the names of all consumer groups begin with. Processes of one group share the work.
    #[arg(id = "kafka-group", value_name = "NAME", default_value = "email-dispatch")]
    pub group: String,
    /// What brokers call this process in their logs.
    #[arg(id = "kafka-client-id", value_name = "NAME", default_value = "email-dispatch")]
    pub client_id: String,
    /// How many partitions a topic gets that does not exist yet.
    #[arg(id = "kafka-partitions", value_name = "NUMBER", default_value_t = 12)]
    pub partitions: i32,
    /// How many copies of each partition; -1 leaves it to the cluster.
    #[arg(id = "kafka-replication", value_name = "NUMBER", default_value_t = -1, allow_negative_numbers = true)]
    pub replication: i32,
    /// After which silence other processes take over this one's partitions. Default: 45s, embedded 4s.
    #[arg(id = "kafka-session-timeout", value_name = "TIME", value_parser = duration)]
    pub session_timeout: Option<Duration>,
    /// How long a record may take to be acknowledged. Default: 30s, embedded 3s.
    #[arg(id = "kafka-message-timeout", value_name = "TIME", value_parser = duration)]
    pub message_timeout: Option<Duration>,
    /// How often finished work is committed. Default: 500ms, embedded 200ms.
    #[arg(id = "kafka-commit-interval", value_name = "TIME", value_parser = duration)]
    pub commit_interval: Option<Duration>,
    /// How long a broker may wait for records before it answers that it has none. Default: 500ms, embedded 20ms.
    #[arg(id = "kafka-fetch-wait", value_name = "TIME", value_parser = duration)]
    pub fetch_wait: Option<Duration>,
    /// A file of librdkafka's properties, name=value on each line; they win over all others. TLS, security.protocol=ssl,
    /// and SCRAM need a program that was built with --features kafka-tls.
    #[arg(id = "kafka-properties", value_name = "FILE")]
    pub properties: Option<PathBuf>,
}

impl Kafka {
    /// The settings of the named cluster, or else of an embedded one at `embedded`.
    ///
    /// # Errors
    /// What is wrong with the file of properties, without what it says.
    pub fn settings(&self, embedded: &str) -> Result<KafkaSettings, String> {
        let base = match &self.brokers {
            Some(brokers) => {
                KafkaSettings { brokers: brokers.clone(), replication: self.replication, ..KafkaSettings::default() }
            }
            None => KafkaSettings::embedded(embedded.to_owned()),
        };
        Ok(KafkaSettings {
            topic_prefix: self.topic_prefix.clone(),
            group: self.group.clone(),
            client_id: self.client_id.clone(),
            partitions: self.partitions,
            session_timeout: self.session_timeout.unwrap_or(base.session_timeout),
            message_timeout: self.message_timeout.unwrap_or(base.message_timeout),
            commit_interval: self.commit_interval.unwrap_or(base.commit_interval),
            fetch_wait: self.fetch_wait.unwrap_or(base.fetch_wait),
            properties: self.properties.as_deref().map(read_properties).transpose()?.unwrap_or_default(),
            ..base
        })
    }
}

/// Reads `name=value` lines. Empty lines, and those that begin with `#`, say nothing.
fn read_properties(file: &Path) -> Result<BTreeMap<String, String>, String> {
    let text = fs::read_to_string(file).map_err(|error| format!("cannot be read: {error}"))?;
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(number, line)| {
            let property = line.split_once('=').map(|(name, value)| (name.trim(), value.trim()));
            let (name, value) = property
                .filter(|(name, _)| !name.is_empty())
                .ok_or_else(|| format!("line {number} must be of the form name=value"))?;
            Ok((name.to_owned(), value.to_owned()))
        })
        .collect()
}

/// How the outbox is published.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Publishing")]
pub struct Publisher {
    /// How many records of the outbox are published together.
    #[arg(id = "publisher-batch", value_name = "NUMBER", default_value_t = 1_000)]
    pub batch: u32,
    /// How long the other processes wait before one of them publishes instead of one that has died.
    #[arg(id = "publisher-lease", value_name = "TIME", value_parser = duration, default_value = "10s")]
    pub lease: Duration,
    /// How many results the breaker kafka-publisher looks back on.
    #[arg(id = "publisher-breaker-window", value_name = "NUMBER", default_value_t = 100)]
    pub breaker_window: u32,
    /// How long that breaker, once open, waits before it tries the broker again.
    #[arg(id = "publisher-breaker-open", value_name = "TIME", value_parser = duration, default_value = "10s")]
    pub breaker_open: Duration,
    /// From which duration on publishing counts as slow.
    #[arg(id = "publisher-breaker-slow", value_name = "TIME", value_parser = duration, default_value = "2s")]
    pub breaker_slow: Duration,
}

impl Publisher {
    /// How the outbox is published.
    #[must_use]
    pub fn settings(&self) -> PublisherSettings {
        PublisherSettings {
            batch: self.batch,
            lease: self.lease,
            window: self.breaker_window,
            open: self.breaker_open,
            slow: self.breaker_slow,
            ..PublisherSettings::default()
        }
    }
}

/// How records are consumed.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Consuming")]
pub struct Consumer {
    /// How many requests are worked on at a time.
    #[arg(id = "consumer-in-flight", value_name = "NUMBER", default_value_t = 1_000)]
    pub in_flight: usize,
    /// How many records are held in memory, those in flight included, before no more are fetched.
    #[arg(id = "consumer-buffered", value_name = "NUMBER", default_value_t = 2_000)]
    pub buffered: usize,
    /// The shares of priorities HIGH, NORMAL and LOW while all have work.
    #[arg(id = "consumer-weights", value_name = "H:N:L", default_value = "6:3:1")]
    pub weights: Weights,
    /// How long work on a partition that another process takes over may go on.
    #[arg(id = "consumer-drain-time-limit", value_name = "TIME", value_parser = duration, default_value = "20s")]
    pub drain_time_limit: Duration,
}
