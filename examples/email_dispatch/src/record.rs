//! What goes through Kafka: the topics, and the headers a record carries.

use crate::request::{EmailRequest, Kind, Priority};

/// The topics of the service. Their names in the cluster carry the `topic-prefix` setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// Priority HIGH.
    High,
    /// Priority NORMAL.
    Normal,
    /// Priority LOW.
    Low,
    /// Everything of kind MARKETING.
    Bulk,
    /// What failed at priority HIGH.
    ImmediateRetry,
    /// What failed at priority NORMAL, and waits for the moment in its header.
    DelayedRetry,
    /// What could not be sent by mail.
    Sms,
    /// What could not be sent at all, or not be read.
    DeadLetter,
}

impl Topic {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::High,
        Self::Normal,
        Self::Low,
        Self::Bulk,
        Self::ImmediateRetry,
        Self::DelayedRetry,
        Self::Sms,
        Self::DeadLetter,
    ];

    /// Its name, without a prefix.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::High => "high-priority-emails",
            Self::Normal => "normal-priority-emails",
            Self::Low => "low-priority-emails",
            Self::Bulk => "email-bulk-requests",
            Self::ImmediateRetry => "email-immediate-retry",
            Self::DelayedRetry => "email-delayed-retry",
            Self::Sms => "sms-requests",
            Self::DeadLetter => "email-requests-dlt",
        }
    }

    /// The topic of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|topic| topic.name() == name)
    }

    /// Where a new request goes.
    #[must_use]
    pub fn of(request: &EmailRequest) -> Self {
        match (request.to.is_some(), request.kind, request.priority) {
            (false, _, _) => Self::Sms,
            (_, Kind::Marketing, _) => Self::Bulk,
            (_, _, Priority::High) => Self::High,
            (_, _, Priority::Normal) => Self::Normal,
            (_, _, Priority::Low) => Self::Low,
        }
    }
}

/// Names of headers: those that Spring Kafka uses where it has one, so that its tools can read ours. All values are
/// text, but for those that Spring writes as big-endian integers, which [`Headers`] reads either way.
pub mod header {
    /// How many attempts have failed; Spring's `retry_topic-attempts` counts from 1 with the one to come.
    pub const ATTEMPTS: &str = "retry_topic-attempts";
    /// Not before this moment, in milliseconds since 1970.
    pub const NOT_BEFORE: &str = "retry_topic-backoff-timestamp";
    /// The topic a dead letter or a retry first was on.
    pub const ORIGINAL_TOPIC: &str = "kafka_original-topic";
    /// The partition it first was in.
    pub const ORIGINAL_PARTITION: &str = "kafka_original-partition";
    /// Its first offset.
    pub const ORIGINAL_OFFSET: &str = "kafka_original-offset";
    /// Why it is a dead letter, in a word.
    pub const REASON: &str = "kafka_exception-fqcn";
    /// Why it is a dead letter, in a sentence.
    pub const EXPLANATION: &str = "kafka_exception-message";
}

/// The headers of a record, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(String, Vec<u8>)>);

/// A record to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where to.
    pub topic: Topic,
    /// The pseudonym of the recipient, so that order holds per person. `None` has no order.
    pub key: Option<String>,
    /// The request as JSON, or whatever was found on a topic.
    pub payload: Vec<u8>,
    /// What is known about it.
    pub headers: Headers,
}

/// A record as it was read from a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// From where.
    pub topic: Topic,
    /// Of which partition.
    pub partition: i32,
    /// Its place there.
    pub offset: i64,
    /// The pseudonym of the recipient.
    pub key: Option<Vec<u8>>,
    /// Whatever was sent; nothing for a tombstone.
    pub payload: Option<Vec<u8>>,
    /// What is known about it.
    pub headers: Headers,
}
