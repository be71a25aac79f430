//! What is counted, and under which labels.

use std::{collections::BTreeMap, time::Duration};

use email_dispatch::{
    counters::{self, Counters, Counts},
    record::Topic,
    request::{Kind, Priority},
    route::Route,
};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};

const AT_ONCE: Route = Route::Again { topic: Topic::ImmediateRetry, after: Duration::ZERO };
const LATER: Route = Route::Again { topic: Topic::DelayedRetry, after: Duration::from_secs(30) };

/// Everything that was told to the recorder: `name{label=value,…}` and the number.
fn recorded(act: impl FnOnce()) -> BTreeMap<String, f64> {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, act);
    let series = snapshotter.snapshot().into_vec().into_iter().map(|(key, _, _, value)| {
        let labels: Vec<_> = key.key().labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let value = match value {
            DebugValue::Counter(count) => count as f64,
            DebugValue::Gauge(level) => level.0,
            DebugValue::Histogram(_) => panic!("there is none"),
        };
        (format!("{}{{{}}}", key.key().name(), labels.join(",")), value)
    });
    series.collect()
}

fn expected<const N: usize>(series: [(&str, f64); N]) -> BTreeMap<String, f64> {
    series.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

#[test]
fn what_is_done_is_counted_by_kind_priority_and_outcome() {
    let counters = Counters::new("primary-smtp");
    let recorded = recorded(|| {
        counters.sent(Kind::Marketing, Priority::Low, "primary-smtp");
        counters.sent(Kind::Marketing, Priority::Low, "primary-smtp");
        counters.sent(Kind::Transactional, Priority::High, "secondary-smtp");
        counters.sms_sent(Kind::Transactional, Priority::High);
        counters.duplicate(Kind::Notification, Priority::Normal);
    });
    let series = [
        ("emails_processed_total{kind=MARKETING,priority=LOW,outcome=sent_primary}", 2.0),
        ("emails_processed_total{kind=TRANSACTIONAL,priority=HIGH,outcome=sent_secondary}", 1.0),
        ("emails_processed_total{kind=TRANSACTIONAL,priority=HIGH,outcome=sms_sent}", 1.0),
        ("emails_processed_total{kind=NOTIFICATION,priority=NORMAL,outcome=duplicate}", 1.0),
    ];
    assert_eq!(recorded, expected(series));
    let counts = Counts { sent_primary: 2, sent_secondary: 1, sms_sent: 1, duplicates: 1, ..Counts::default() };
    assert_eq!(counters.counts(), counts);
}

#[test]
fn a_failure_is_counted_by_its_trouble_and_by_what_follows() {
    let counters = Counters::new("primary-smtp");
    let recorded = recorded(|| {
        counters.failed(Kind::Transactional, Priority::High, "provider", &AT_ONCE);
        counters.failed(Kind::Notification, Priority::Normal, "deferred", &LATER);
        counters.failed(Kind::Notification, Priority::Low, "provider", &Route::GiveUp);
        counters.failed(Kind::Notification, Priority::Normal, "recipient", &Route::DeadLetter);
        counters.failed(Kind::Notification, Priority::Normal, "recipient", &Route::Sms);
        counters.unknown(Kind::Notification, Priority::Normal);
    });
    let series = [
        ("emails_failed_total{kind=TRANSACTIONAL,priority=HIGH,outcome=provider}", 1.0),
        ("emails_failed_total{kind=NOTIFICATION,priority=NORMAL,outcome=deferred}", 1.0),
        ("emails_failed_total{kind=NOTIFICATION,priority=LOW,outcome=provider}", 1.0),
        ("emails_failed_total{kind=NOTIFICATION,priority=NORMAL,outcome=recipient}", 2.0),
        ("emails_failed_total{kind=NOTIFICATION,priority=NORMAL,outcome=unknown}", 1.0),
        ("emails_retried_total{delay=immediate}", 1.0),
        ("emails_retried_total{delay=delayed}", 1.0),
        ("emails_given_up_total{}", 1.0),
        ("emails_dead_lettered_total{reason=undeliverable}", 1.0),
    ];
    assert_eq!(recorded, expected(series));
    let counts = Counts {
        failed: 6,
        retried_at_once: 1,
        retried_later: 1,
        given_up: 1,
        dead_lettered: 1,
        unknown: 1,
        ..Counts::default()
    };
    assert_eq!(counters.counts(), counts);
}

#[test]
fn records_that_the_broker_forgot_are_counted() {
    let counters = Counters::new("primary-smtp");
    let recorded = recorded(|| counters.records_lost(3));
    assert_eq!(recorded, expected([("records_lost_total{}", 3.0)]));
}

#[test]
fn a_dead_letter_that_was_a_request_is_told_from_one_that_was_none() {
    let counters = Counters::new("primary-smtp");
    let recorded = recorded(|| {
        counters.sms_failed(Kind::Transactional, Priority::High);
        counters.unreadable();
        counters.unreadable();
    });
    let series = [
        ("emails_failed_total{kind=TRANSACTIONAL,priority=HIGH,outcome=sms}", 1.0),
        ("emails_dead_lettered_total{reason=undeliverable}", 1.0),
        ("emails_dead_lettered_total{reason=unreadable}", 2.0),
    ];
    assert_eq!(recorded, expected(series));
    let counts = counters.counts();
    assert_eq!((counts.dead_lettered, counts.unreadable, counts.done()), (1, 2, 1));
}

#[test]
fn work_in_flight_ends_when_it_is_dropped() {
    let counters = Counters::new("primary-smtp");
    let recorded = recorded(|| {
        let first = counters.in_flight();
        let _second = counters.in_flight();
        assert_eq!(counters.counts().in_flight, 2);
        drop(first);
        assert_eq!(counters.counts().in_flight, 1);
    });
    assert_eq!(recorded, expected([("emails_in_flight{}", 0.0)]));
    assert_eq!(counters.counts().in_flight, 0);
}

#[test]
fn what_comes_in_and_what_waits_is_counted() {
    let counters = Counters::new("primary-smtp");
    let same = counters.clone();
    let recorded = recorded(|| {
        counters.accepted(3);
        same.accepted(2);
        counters.outbox_waiting(7);
        counters.outbox_waiting(4);
    });
    assert_eq!(recorded, expected([("emails_accepted_total{}", 5.0), ("outbox_waiting{}", 4.0)]));
    assert_eq!(counters.counts(), Counts { accepted: 5, outbox_waiting: 4, ..Counts::default() });
}

#[test]
fn every_request_is_done_in_exactly_one_way() {
    let counters = Counters::new("primary-smtp");
    let (kind, priority) = (Kind::Notification, Priority::Normal);
    counters.failed(kind, priority, "provider", &LATER);
    counters.sent(kind, priority, "primary-smtp");
    counters.sent(kind, priority, "secondary-smtp");
    counters.failed(kind, priority, "recipient", &Route::Sms);
    counters.sms_sent(kind, priority);
    counters.failed(kind, priority, "recipient", &Route::Sms);
    counters.sms_failed(kind, priority);
    counters.failed(kind, priority, "recipient", &Route::DeadLetter);
    counters.failed(kind, Priority::Low, "provider", &Route::GiveUp);
    counters.unknown(kind, priority);
    counters.duplicate(kind, priority);
    assert_eq!(counters.counts().done(), 7, "two sent, one by SMS, two dead letters, one given up, one unknown");
}

#[test]
fn every_metric_is_described() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        counters::describe();
        let counters = Counters::new("primary-smtp");
        let (kind, priority) = (Kind::Notification, Priority::Normal);
        counters.accepted(1);
        counters.sent(kind, priority, "primary-smtp");
        counters.failed(kind, priority, "provider", &LATER);
        counters.failed(kind, priority, "provider", &Route::GiveUp);
        counters.unreadable();
        counters.outbox_waiting(1);
        drop(counters.in_flight());
    });
    for (key, _, description, _) in snapshotter.snapshot().into_vec() {
        assert!(description.is_some(), "{}", key.key().name());
    }
}
