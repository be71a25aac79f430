//! What goes through Kafka: the topics, the records, and how one record follows from another.

mod headers;
mod onward;

use crate::request::{EmailRequest, Kind, Priority};

pub(crate) use self::onward::LONGEST_EXPLANATION;
pub use self::{
    headers::{Headers, header},
    onward::{Found, afresh, again, dead_letter, sms},
};

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
