//! How one record follows from another: a retry, an SMS, a dead letter, and a dead letter's second life.
//!
//! All of them keep the key, so that order holds per person, the payload, and headers of others. Where a record first
//! was is written down once and then kept.

use super::{Delivery, Headers, Record, Topic, header};
use crate::personal::mask_text;

/// The longest explanation in a header, in characters: a broker limits a record with all its headers.
pub(crate) const LONGEST_EXPLANATION: usize = 500;

/// What another record follows from: a [`Delivery`], or a [`Record`] that never became one.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    topic: Topic,
    place: Option<(i32, i64)>,
    key: Option<&'a [u8]>,
    payload: &'a [u8],
    headers: &'a Headers,
}

impl<'a> From<&'a Delivery> for Found<'a> {
    fn from(delivery: &'a Delivery) -> Self {
        Self {
            topic: delivery.topic,
            place: Some((delivery.partition, delivery.offset)),
            key: delivery.key.as_deref(),
            payload: delivery.payload.as_deref().unwrap_or_default(),
            headers: &delivery.headers,
        }
    }
}

impl<'a> From<&'a Record> for Found<'a> {
    fn from(record: &'a Record) -> Self {
        Self {
            topic: record.topic,
            place: None,
            key: record.key.as_deref().map(str::as_bytes),
            payload: &record.payload,
            headers: &record.headers,
        }
    }
}

/// To be tried again on `topic`, after so many failed attempts, at once or not before a moment in milliseconds since
/// 1970.
#[must_use]
pub fn again<'a>(
    found: impl Into<Found<'a>>,
    topic: Topic,
    failed_attempts: u32,
    not_before_ms: Option<i64>,
) -> Record {
    let mut record = follow(&found.into(), topic);
    record.headers.set_number(header::ATTEMPTS, i64::from(failed_attempts) + 1);
    match not_before_ms {
        Some(moment) => record.headers.set_number(header::NOT_BEFORE, moment),
        None => record.headers.remove(header::NOT_BEFORE),
    }
    record
}

/// To be sent by SMS, after so many failed attempts.
#[must_use]
pub fn sms<'a>(found: impl Into<Found<'a>>, failed_attempts: u32) -> Record {
    let mut record = follow(&found.into(), Topic::Sms);
    record.headers.set_number(header::ATTEMPTS, i64::from(failed_attempts) + 1);
    record.headers.remove(header::NOT_BEFORE);
    record
}

/// A dead letter, for this reason: a word, and a sentence of which addresses and phone numbers are masked. What is no
/// text in the key becomes �.
#[must_use]
pub fn dead_letter<'a>(found: impl Into<Found<'a>>, reason: &str, explanation: &str) -> Record {
    let mut record = follow(&found.into(), Topic::DeadLetter);
    record.headers.remove(header::NOT_BEFORE);
    record.headers.set(header::REASON, reason);
    let explanation: String = mask_text(explanation).chars().take(LONGEST_EXPLANATION).collect();
    record.headers.set(header::EXPLANATION, explanation);
    record
}

/// As if it had never been anywhere: on `topic`, without what the headers say of its past.
#[must_use]
pub fn afresh<'a>(found: impl Into<Found<'a>>, topic: Topic) -> Record {
    let mut record = follow(&found.into(), topic);
    for name in header::ALL {
        record.headers.remove(name);
    }
    record
}

fn follow(found: &Found<'_>, topic: Topic) -> Record {
    let mut headers = found.headers.clone();
    if headers.value(header::ORIGINAL_TOPIC).is_none() {
        headers.set(header::ORIGINAL_TOPIC, found.topic.name());
        if let Some((partition, offset)) = found.place {
            headers.set_number(header::ORIGINAL_PARTITION, i64::from(partition));
            headers.set_number(header::ORIGINAL_OFFSET, offset);
        }
    }
    let key = found.key.map(|key| String::from_utf8_lossy(key).into_owned());
    Record { topic, key, payload: found.payload.to_vec(), headers }
}
