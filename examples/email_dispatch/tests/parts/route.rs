//! Where requests go when they could not be sent.

use std::time::Duration;

use email_dispatch::{
    record::Topic,
    request::{ContentType, EmailRequest, Kind, Priority},
    route::{self, RetryRules, Route, Trouble},
    smtp::{Fault, SendError, Stage},
};
use uuid::Uuid;

const RULES: RetryRules =
    RetryRules { max_attempts: 3, delay: Duration::from_secs(30), doubt: Duration::from_secs(120) };

fn request(priority: Priority, phone: Option<&str>) -> EmailRequest {
    EmailRequest {
        id: Uuid::from_u128(1),
        to: Some("encrypted".to_owned()),
        phone: phone.map(str::to_owned),
        subject: "Hello".to_owned(),
        content: Some("Hello".to_owned()),
        template: None,
        variables: serde_json::Map::new(),
        content_type: ContentType::Text,
        attachments: Vec::new(),
        kind: Kind::Notification,
        priority,
        timestamp: "2026-01-01T00:00:00Z".to_owned(),
    }
}

fn trouble(fault: Fault) -> Trouble {
    Trouble::Mail(SendError {
        fault,
        stage: Stage::Recipient,
        code: None,
        server: "primary-smtp".to_owned(),
        text: "no".to_owned(),
    })
}

const TRANSIENT: [Fault; 5] =
    [Fault::Provider, Fault::Refused, Fault::Deferred, Fault::DeferredByServer, Fault::SessionLimit];

#[test]
fn high_priority_is_tried_again_at_once_and_then_later() {
    for fault in [Fault::Provider, Fault::Refused, Fault::SessionLimit] {
        let after = |attempts| route::after(&trouble(fault), &request(Priority::High, None), attempts, &RULES);
        assert_eq!(after(1), Route::Again { topic: Topic::ImmediateRetry, after: Duration::ZERO }, "{fault:?}");
        assert_eq!(after(2), Route::Again { topic: Topic::DelayedRetry, after: Duration::from_secs(60) }, "{fault:?}");
    }
}

#[test]
fn what_a_server_wants_later_is_not_tried_again_at_once_whatever_its_priority() {
    for fault in [Fault::Deferred, Fault::DeferredByServer] {
        let route = route::after(&trouble(fault), &request(Priority::High, None), 1, &RULES);
        assert_eq!(route, Route::Again { topic: Topic::DelayedRetry, after: Duration::from_secs(30) }, "{fault:?}");
    }
}

#[test]
fn what_may_have_been_taken_is_tried_again_when_the_doubt_is_over_and_never_given_up_at_once() {
    for priority in [Priority::High, Priority::Normal, Priority::Low] {
        let route = route::after(&trouble(Fault::Unknown), &request(priority, None), 1, &RULES);
        assert_eq!(route, Route::Again { topic: Topic::DelayedRetry, after: RULES.doubt }, "{priority:?}");
    }
}

#[test]
fn the_delay_grows_to_sixteen_times_and_no_further() {
    let rules = RetryRules { max_attempts: 100, ..RULES };
    for attempts in [5, 6, 99] {
        let route = route::after(&trouble(Fault::Provider), &request(Priority::Normal, None), attempts, &rules);
        assert_eq!(route, Route::Again { topic: Topic::DelayedRetry, after: 16 * RULES.delay });
    }
}

#[test]
fn normal_priority_is_tried_again_later_and_later() {
    for (attempts, seconds) in [(1, 30), (2, 60)] {
        let route = route::after(&trouble(Fault::Provider), &request(Priority::Normal, None), attempts, &RULES);
        let after = Duration::from_secs(seconds);
        assert_eq!(route, Route::Again { topic: Topic::DelayedRetry, after });
    }
}

#[test]
fn no_number_of_attempts_makes_the_delay_overflow() {
    let rules = RetryRules { max_attempts: u32::MAX, delay: Duration::MAX, ..RULES };
    let route = route::after(&trouble(Fault::Provider), &request(Priority::Normal, None), u32::MAX - 1, &rules);
    assert_eq!(route, Route::Again { topic: Topic::DelayedRetry, after: Duration::MAX });
}

#[test]
fn low_priority_is_given_up() {
    for fault in TRANSIENT {
        assert_eq!(route::after(&trouble(fault), &request(Priority::Low, Some("p")), 1, &RULES), Route::GiveUp);
    }
    let held = Trouble::HeldTooLong("all circuits are open".to_owned());
    assert_eq!(route::after(&held, &request(Priority::Low, None), 1, &RULES), Route::GiveUp);
}

#[test]
fn with_its_attempts_used_up_a_request_goes_out_by_sms_or_to_the_dead_letters() {
    for priority in [Priority::High, Priority::Normal] {
        let trouble = trouble(Fault::Provider);
        assert_eq!(route::after(&trouble, &request(priority, Some("p")), 3, &RULES), Route::Sms);
        assert_eq!(route::after(&trouble, &request(priority, None), 3, &RULES), Route::DeadLetter);
    }
}

#[test]
fn what_a_server_refuses_for_good_is_not_tried_again() {
    for trouble in [trouble(Fault::Recipient), trouble(Fault::Message), Trouble::Unsendable("no".to_owned())] {
        for priority in [Priority::High, Priority::Normal, Priority::Low] {
            assert_eq!(route::after(&trouble, &request(priority, Some("p")), 1, &RULES), Route::Sms);
            assert_eq!(route::after(&trouble, &request(priority, None), 1, &RULES), Route::DeadLetter);
        }
    }
}

#[test]
fn a_server_that_refuses_us_never_makes_a_dead_letter_of_the_first_attempt() {
    let route = route::after(&trouble(Fault::Refused), &request(Priority::Normal, None), 1, &RULES);
    assert!(matches!(route, Route::Again { .. }), "it is not the message's fault");
}
