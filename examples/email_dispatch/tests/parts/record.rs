//! Headers in our words and in Spring's, and how one record follows from another.

use email_dispatch::record::{Delivery, Headers, Record, Topic, afresh, again, dead_letter, header, sms};
use proptest::prelude::*;

fn headers(values: &[(&str, &[u8])]) -> Headers {
    Headers(values.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect())
}

fn delivery(topic: Topic, headers: Headers) -> Delivery {
    let payload = Some(br#"{"id":"x"}"#.to_vec());
    Delivery { topic, partition: 3, offset: 41, key: Some(b"key".to_vec()), payload, headers }
}

/// What a consumer finds of a record that was published.
fn delivered(record: Record) -> Delivery {
    let Record { topic, key, payload, headers } = record;
    Delivery { topic, partition: 0, offset: 7, key: key.map(String::into_bytes), payload: Some(payload), headers }
}

fn number_of(value: &[u8]) -> Option<i64> {
    headers(&[("n", value)]).number("n")
}

#[test]
fn a_number_is_read_from_text() {
    assert_eq!(number_of(b"3"), Some(3));
    assert_eq!(number_of(b"-1"), Some(-1));
    assert_eq!(number_of(b"1769860800000"), Some(1_769_860_800_000));
    assert_eq!(number_of(b"99999999999999999999"), None); // more than there are
}

#[test]
fn a_number_is_read_as_spring_writes_it() {
    assert_eq!(number_of(&2_i32.to_be_bytes()), Some(2)); // attempts, partitions
    assert_eq!(number_of(&1_234_i64.to_be_bytes()), Some(1_234)); // offsets
    assert_eq!(number_of(&1_769_860_800_000_i64.to_be_bytes()[2..]), Some(1_769_860_800_000)); // a BigInteger's octets
    assert_eq!(number_of(&(-1_i32).to_be_bytes()), Some(-1));
}

#[test]
fn what_is_no_number_is_none() {
    assert_eq!(number_of(b""), None);
    assert_eq!(number_of(b"123456789 bottles"), None);
    assert_eq!(headers(&[]).number("n"), None);
}

proptest! {
    #[test]
    fn a_number_that_was_set_is_read(number: i64) {
        let mut headers = Headers::default();
        headers.set_number("n", number);
        prop_assert_eq!(headers.number("n"), Some(number));
    }

    #[test]
    fn an_offset_of_springs_is_read(number in 0..i64::from(u32::MAX)) {
        prop_assert_eq!(number_of(&number.to_be_bytes()), Some(number));
    }
}

#[test]
fn the_last_header_of_a_name_counts_and_setting_it_leaves_only_one() {
    let mut headers = headers(&[("a", b"1"), ("b", b"2"), ("a", b"3")]);
    assert_eq!(headers.text("a").unwrap(), "3");
    headers.set("a", "4");
    assert_eq!(headers, self::headers(&[("b", b"2"), ("a", b"4")]));
}

#[test]
fn attempts_are_counted_as_spring_counts_them() {
    assert_eq!(Headers::default().failed_attempts(), 0);
    assert_eq!(headers(&[(header::ATTEMPTS, &2_i32.to_be_bytes())]).failed_attempts(), 1);
    let retry = again(&delivery(Topic::High, Headers::default()), Topic::ImmediateRetry, 1, None);
    assert_eq!((retry.headers.text(header::ATTEMPTS).unwrap().as_ref(), retry.headers.failed_attempts()), ("2", 1));
    assert_eq!(headers(&[(header::ATTEMPTS, b"-5")]).failed_attempts(), 0);
}

#[test]
fn a_retry_keeps_key_payload_and_headers_and_says_when_and_whence() {
    let found = delivery(Topic::Normal, headers(&[("traceparent", b"00-1")]));
    let retry = again(&found, Topic::DelayedRetry, 2, Some(5_000));
    assert_eq!((retry.topic, retry.key.as_deref()), (Topic::DelayedRetry, Some("key")));
    assert_eq!(Some(&retry.payload), found.payload.as_ref());
    assert_eq!((retry.headers.failed_attempts(), retry.headers.not_before_ms()), (2, Some(5_000)));
    assert_eq!(retry.headers.text("traceparent").unwrap(), "00-1");
    assert_eq!(retry.headers.text(header::ORIGINAL_TOPIC).unwrap(), "normal-priority-emails");
    assert_eq!(retry.headers.number(header::ORIGINAL_PARTITION), Some(3));
    assert_eq!(retry.headers.number(header::ORIGINAL_OFFSET), Some(41));
}

#[test]
fn where_a_record_first_was_is_kept_through_every_step() {
    let retry = again(&delivery(Topic::Normal, Headers::default()), Topic::DelayedRetry, 1, Some(5_000));
    let sms = sms(&delivered(retry), 3);
    let dead = dead_letter(&delivered(sms), "gateway", "no");
    assert_eq!(dead.headers.text(header::ORIGINAL_TOPIC).unwrap(), "normal-priority-emails");
    assert_eq!(dead.headers.number(header::ORIGINAL_OFFSET), Some(41));
}

#[test]
fn a_retry_at_once_forgets_an_earlier_moment() {
    let earlier = headers(&[(header::NOT_BEFORE, b"5000")]);
    let retry = again(&delivery(Topic::DelayedRetry, earlier), Topic::ImmediateRetry, 2, None);
    assert_eq!(retry.headers.not_before_ms(), None);
}

#[test]
fn an_sms_is_another_attempt_and_does_not_wait() {
    let retry = again(&delivery(Topic::Normal, Headers::default()), Topic::DelayedRetry, 2, Some(5_000));
    let sms = sms(&delivered(retry), 3);
    assert_eq!((sms.topic, sms.headers.failed_attempts(), sms.headers.not_before_ms()), (Topic::Sms, 3, None));
}

#[test]
fn a_dead_letter_says_why_and_nothing_personal() {
    let dead = dead_letter(&delivery(Topic::High, Headers::default()), "recipient", "550 no ada@example.com here");
    assert_eq!(dead.topic, Topic::DeadLetter);
    assert_eq!(dead.headers.text(header::REASON).unwrap(), "recipient");
    assert_eq!(dead.headers.text(header::EXPLANATION).unwrap(), "550 no a***@e***.com here");
}

#[test]
fn only_the_last_reason_is_kept_and_it_is_not_long() {
    let first = dead_letter(&delivery(Topic::High, Headers::default()), "first", "one");
    let second = dead_letter(&delivered(first), "second", &"ä".repeat(9_000));
    let reasons: Vec<_> = second.headers.0.iter().filter(|(name, _)| name == header::REASON).collect();
    assert_eq!(reasons, [&(header::REASON.to_owned(), b"second".to_vec())]);
    assert_eq!(second.headers.text(header::EXPLANATION).unwrap().chars().count(), 500);
}

#[test]
fn a_dead_letter_of_a_tombstone_and_of_a_key_that_is_no_text_can_be_made() {
    let found = Delivery { key: Some(vec![0xff]), payload: None, ..delivery(Topic::High, Headers::default()) };
    let dead = dead_letter(&found, "unreadable", "there is nothing in it");
    assert_eq!((dead.key.as_deref(), &*dead.payload), (Some("\u{fffd}"), &b""[..]));
}

#[test]
fn a_record_sent_afresh_has_no_past_but_what_others_wrote() {
    let retry = again(&delivery(Topic::Normal, headers(&[("trace", b"1")])), Topic::DelayedRetry, 2, Some(5_000));
    let dead = dead_letter(&delivered(retry), "gateway", "no");
    let fresh = afresh(&dead, Topic::Normal);
    assert_eq!((fresh.topic, fresh.key.as_deref()), (Topic::Normal, Some("key")));
    assert_eq!(fresh.headers, headers(&[("trace", b"1")]));
}
