//! The headers of a record, which Spring Kafka's tools can read and which may come from them.

use std::borrow::Cow;

/// Names of headers: those that Spring Kafka uses where it has one, so that its tools can read ours. All values are
/// text, but for those that Spring writes as big-endian integers, which [`Headers`] reads either way.
pub mod header {
    /// The attempt to come, counted from 1: after the first failure it says 2.
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

    /// All of the above.
    pub const ALL: [&str; 7] =
        [ATTEMPTS, NOT_BEFORE, ORIGINAL_TOPIC, ORIGINAL_PARTITION, ORIGINAL_OFFSET, REASON, EXPLANATION];
}

/// The headers of a record, in order. Of several with one name the last counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(String, Vec<u8>)>);

impl Headers {
    /// The value of that name.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().rev().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    /// The value of that name as text, with � for what is none.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        self.value(name).map(String::from_utf8_lossy)
    }

    /// The value of that name as a number, written in decimal digits or as a big-endian integer of up to 8 octets.
    /// Octets that are all digits are taken for digits.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<i64> {
        let value = self.value(name)?;
        let digits = value.strip_prefix(b"-").unwrap_or(value);
        if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) {
            return std::str::from_utf8(value).ok()?.parse().ok();
        }
        let (first, rest) = value.split_first().filter(|_| value.len() <= size_of::<i64>())?;
        // The first octet carries the sign.
        let first = i64::from(i8::from_be_bytes([*first]));
        Some(rest.iter().fold(first, |number, octet| number << 8 | i64::from(*octet)))
    }

    /// How many attempts have failed, by [`header::ATTEMPTS`]; 0 without it.
    #[must_use]
    pub fn failed_attempts(&self) -> u32 {
        let to_come = self.number(header::ATTEMPTS).unwrap_or(1);
        u32::try_from(to_come.saturating_sub(1).max(0)).unwrap_or(u32::MAX)
    }

    /// Not before this moment, in milliseconds since 1970, by [`header::NOT_BEFORE`].
    #[must_use]
    pub fn not_before_ms(&self) -> Option<i64> {
        self.number(header::NOT_BEFORE)
    }

    /// Gives `name` this value, and no other.
    pub fn set(&mut self, name: &str, value: impl Into<Vec<u8>>) {
        self.remove(name);
        self.0.push((name.to_owned(), value.into()));
    }

    /// Gives `name` this number, in decimal digits.
    pub fn set_number(&mut self, name: &str, number: i64) {
        self.set(name, number.to_string());
    }

    /// Takes all values of that name away.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(known, _)| known != name);
    }
}
