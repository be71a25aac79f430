//! The SMS gateway, asked through real connections.

use std::{pin::Pin, time::Duration};

use email_dispatch::{
    embedded::{SmsGateway as Embedded, SmsMood},
    personal::Phone,
    sms::{BadSms, SmsError, SmsGateway, SmsSettings},
    web_client,
};
use resile::{Clock, Rejected, circuit_breaker::State};
use serde_json::Value;
use tokio::{net::TcpListener, time::timeout};
use uuid::Uuid;

const TEXT: &str = "Your code: It is 42.";

fn number() -> Phone {
    Phone::parse("+49 170 1234567").unwrap()
}

fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

/// One attempt, on a clock that stands still.
fn once(url: &str, clock: &Clock) -> SmsSettings {
    SmsSettings { attempts: 1, clock: clock.clone(), ..SmsSettings::new(url) }
}

/// Three attempts with next to no pause.
fn hasty(url: &str) -> SmsSettings {
    SmsSettings { pause: Duration::from_millis(1), ..SmsSettings::new(url) }
}

/// What comes of one message that the gateway takes like this, and the breaker afterwards.
async fn sent_in(mood: SmsMood) -> (Result<(), SmsError>, resile::circuit_breaker::Metrics) {
    let embedded = Embedded::start().await.unwrap();
    embedded.turn(mood);
    let gateway = SmsGateway::new(&once(embedded.url(), &Clock::manual().clock())).unwrap();
    let sent = gateway.send(id(1), &number(), TEXT).await;
    (sent, gateway.breaker().metrics())
}

/// Lets a message go its way until something has come to pass.
async fn until<F: Future<Output: std::fmt::Debug>>(mut sending: Pin<&mut F>, condition: impl Fn() -> bool) {
    let passed = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        sent = &mut sending => panic!("{sent:?}"),
        () = passed => {}
    }
}

#[tokio::test]
async fn a_message_is_posted_with_its_key() {
    use axum::{Json, Router, http::HeaderMap, routing::post};

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/messages", listener.local_addr().unwrap());
    let (seen, mut posted) = tokio::sync::mpsc::unbounded_channel();
    let take = async move |headers: HeaderMap, Json(message): Json<Value>| {
        let header = |name| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        seen.send((header("idempotency-key"), header("authorization"), message)).unwrap();
    };
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/v1/messages", post(take))).await });

    let settings = SmsSettings { token: Some("secret".to_owned().into()), ..SmsSettings::new(url) };
    let gateway = SmsGateway::new(&settings).unwrap();
    gateway.send(id(7), &number(), TEXT).await.unwrap();
    let expected = serde_json::json!({ "to": "+491701234567", "text": TEXT });
    let (key, authorization) = (Some(id(7).to_string()), Some("Bearer secret".to_owned()));
    assert_eq!(posted.recv().await.unwrap(), (key, authorization, expected));
    assert!(!format!("{settings:?}{gateway:?}").contains("secret"));
}

#[tokio::test]
async fn a_success_counts_as_one() {
    let (sent, breaker) = sent_in(SmsMood::Healthy).await;
    assert_eq!((sent, breaker.buffered_calls, breaker.failed_calls), (Ok(()), 1, 0));
}

#[tokio::test]
async fn a_message_that_is_refused_is_permanent_and_not_the_gateway_s_failure() {
    for status in [400, 404, 405, 410, 413, 422, 451] {
        let (sent, breaker) = sent_in(SmsMood::Failing(status)).await;
        assert!(matches!(sent, Err(SmsError::Permanent { status: said, .. }) if said == status), "{sent:?}");
        assert_eq!((breaker.buffered_calls, breaker.state), (0, State::Closed), "{status}");
    }
}

#[tokio::test]
async fn what_may_go_later_is_transient_and_counts() {
    for status in [408, 425, 429, 500, 501, 502, 503, 504, 599] {
        let (sent, breaker) = sent_in(SmsMood::Failing(status)).await;
        assert!(matches!(sent, Err(SmsError::Transient { status: said, .. }) if said == Some(status)), "{sent:?}");
        assert_eq!((breaker.failed_calls, breaker.state), (1, State::Closed), "{status}");
    }
}

#[tokio::test]
async fn a_gateway_that_does_not_serve_us_opens_the_breaker_at_once() {
    for status in [301, 302, 307, 401, 403] {
        let (sent, breaker) = sent_in(SmsMood::Failing(status)).await;
        assert!(matches!(sent, Err(SmsError::Transient { status: said, .. }) if said == Some(status)), "{sent:?}");
        assert_eq!(breaker.state, State::Open, "{status}");
    }
}

#[tokio::test]
async fn a_message_still_under_way_says_nothing_about_the_gateway() {
    let (sent, breaker) = sent_in(SmsMood::Failing(409)).await;
    assert!(matches!(sent, Err(SmsError::Transient { status: Some(409), .. })), "{sent:?}");
    assert_eq!(breaker.buffered_calls, 0);
}

#[tokio::test]
async fn no_answer_is_transient_and_counts() {
    let (sent, breaker) = sent_in(SmsMood::Absent).await;
    assert!(matches!(sent, Err(SmsError::Transient { status: None, .. })), "{sent:?}");
    assert_eq!(breaker.failed_calls, 1);
}

#[tokio::test]
async fn a_gateway_that_is_not_there_is_transient_and_counts() {
    let url = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}/", listener.local_addr().unwrap())
    };
    let gateway = SmsGateway::new(&once(&url, &Clock::manual().clock())).unwrap();
    let sent = gateway.send(id(1), &number(), TEXT).await;
    assert!(matches!(&sent, Err(SmsError::Transient { status: None, .. })), "{sent:?}");
    assert_eq!(gateway.breaker().metrics().failed_calls, 1);
}

#[tokio::test]
async fn a_failure_is_tried_again_and_a_refused_message_is_not() {
    let embedded = Embedded::start().await.unwrap();
    let gateway = SmsGateway::new(&hasty(embedded.url())).unwrap();
    embedded.script([SmsMood::Failing(500), SmsMood::Absent]);
    gateway.send(id(1), &number(), TEXT).await.unwrap();
    assert_eq!((embedded.requests(), embedded.ids()), (3, vec![id(1)]));

    embedded.script([SmsMood::Failing(400)]);
    gateway.send(id(2), &number(), TEXT).await.unwrap_err();
    assert_eq!((embedded.requests(), embedded.sent()), (4, 1));
}

#[tokio::test]
async fn a_message_whose_answer_was_lost_is_one_sms() {
    let embedded = Embedded::start().await.unwrap();
    let gateway = SmsGateway::new(&hasty(embedded.url())).unwrap();
    embedded.script([SmsMood::Forgetful]);
    gateway.send(id(1), &number(), TEXT).await.unwrap();
    assert_eq!((embedded.requests(), embedded.repeated(), embedded.ids()), (2, 1, vec![id(1)]));
}

#[tokio::test]
async fn a_message_sent_again_after_a_time_out_is_one_sms() {
    let embedded = Embedded::start().await.unwrap();
    let clock = Clock::manual();
    let gateway = SmsGateway::new(&SmsSettings { clock: clock.clock(), ..hasty(embedded.url()) }).unwrap();
    embedded.script([SmsMood::Slow(Duration::from_secs(3_600))]);
    let to = number();
    let sending = gateway.send(id(1), &to, TEXT);
    tokio::pin!(sending);
    until(sending.as_mut(), || embedded.sent() == 1).await;
    clock.advance(Duration::from_secs(10));
    until(sending.as_mut(), || clock.next_wake().is_some_and(|wait| wait < Duration::from_secs(1))).await;
    clock.advance(Duration::from_secs(1));
    sending.await.unwrap();
    assert_eq!((embedded.requests(), embedded.repeated(), embedded.sent()), (2, 1, 1));
    assert_eq!(gateway.breaker().metrics().failed_calls, 1);
}

#[tokio::test]
async fn a_time_out_without_another_attempt_is_transient() {
    let embedded = Embedded::start().await.unwrap();
    embedded.turn(SmsMood::Slow(Duration::from_secs(3_600)));
    let (attempts, time_limit) = (1, Duration::from_millis(50));
    let gateway = SmsGateway::new(&SmsSettings { attempts, time_limit, ..SmsSettings::new(embedded.url()) }).unwrap();
    let sent = gateway.send(id(1), &number(), TEXT).await;
    let text = "time limiter 'sms-gateway' gave the call up after 50ms".to_owned();
    assert_eq!(sent, Err(SmsError::Transient { status: None, text, retry_after: None }));
}

#[tokio::test]
async fn the_breaker_opens_refuses_without_asking_and_recovers() {
    let embedded = Embedded::start().await.unwrap();
    let clock = Clock::manual();
    let gateway = SmsGateway::new(&once(embedded.url(), &clock.clock())).unwrap();
    assert_eq!(gateway.breaker().name(), "sms-gateway");
    embedded.turn(SmsMood::Failing(503));
    for number_of in 0..5 {
        gateway.send(id(number_of), &number(), TEXT).await.unwrap_err();
    }
    assert_eq!(gateway.breaker().state(), State::Open);
    let refused = gateway.send(id(5), &number(), TEXT).await.unwrap_err();
    assert!(matches!(refused, SmsError::Refused(Rejected::CircuitOpen(_))), "{refused:?}");
    assert_eq!(refused.retry_after().unwrap().as_secs(), 10);
    assert_eq!(embedded.requests(), 5);

    embedded.turn(SmsMood::Healthy);
    clock.advance(Duration::from_secs(11));
    for number_of in 0..3 {
        gateway.send(id(number_of), &number(), TEXT).await.unwrap();
    }
    assert_eq!((gateway.breaker().state(), embedded.sent()), (State::Closed, 3));
}

#[tokio::test]
async fn a_gateway_that_wants_to_be_left_alone_for_long_is() {
    let embedded = Embedded::start().await.unwrap();
    let clock = Clock::manual();
    let gateway = SmsGateway::new(&SmsSettings { clock: clock.clock(), ..hasty(embedded.url()) }).unwrap();
    embedded.script([SmsMood::Busy(Duration::from_secs(30))]);
    let busy = gateway.send(id(1), &number(), TEXT).await.unwrap_err();
    assert_eq!(busy.retry_after(), Some(Duration::from_secs(30)));
    assert_eq!((gateway.breaker().state(), embedded.requests()), (State::Open, 1));
    clock.advance(Duration::from_secs(29));
    gateway.send(id(1), &number(), TEXT).await.unwrap_err();
    clock.advance(Duration::from_secs(2));
    gateway.send(id(1), &number(), TEXT).await.unwrap();
    assert_eq!(embedded.requests(), 2);
}

#[tokio::test]
async fn a_gateway_s_short_wait_is_waited_out() {
    let embedded = Embedded::start().await.unwrap();
    let clock = Clock::manual();
    let gateway = SmsGateway::new(&SmsSettings { clock: clock.clock(), ..hasty(embedded.url()) }).unwrap();
    embedded.script([SmsMood::Busy(Duration::from_secs(2))]);
    let to = number();
    let sending = gateway.send(id(1), &to, TEXT);
    tokio::pin!(sending);
    let waits = || clock.next_wake().is_some_and(|wait| wait <= Duration::from_secs(2));
    until(sending.as_mut(), waits).await;
    assert_eq!(clock.next_wake(), Some(Duration::from_secs(2)));
    clock.advance(Duration::from_secs(2));
    sending.await.unwrap();
    assert_eq!((embedded.requests(), embedded.sent()), (2, 1));
}

#[tokio::test]
async fn the_embedded_gateway_takes_no_message_without_a_key_or_a_number() {
    let embedded = Embedded::start().await.unwrap();
    let client = web_client::for_url(&embedded.url().parse().unwrap()).build().unwrap();
    let message = serde_json::json!({ "to": "+491701234567", "text": TEXT });
    let without_key = client.post(embedded.url()).json(&message).send().await.unwrap();
    let key = ("Idempotency-Key", id(1).to_string());
    let without_number = client.post(embedded.url()).header(key.0, &key.1).body("{}").send().await.unwrap();
    assert_eq!((without_key.status().as_u16(), without_number.status().as_u16()), (400, 400));
    let elsewhere = client.post(format!("{}/more", embedded.url())).header(key.0, &key.1).json(&message).send();
    assert_eq!(elsewhere.await.unwrap().status(), 404);
    assert_eq!((embedded.requests(), embedded.sent()), (0, 0));
}

#[tokio::test]
async fn nobody_s_number_or_message_is_in_an_error() {
    let embedded = Embedded::start().await.unwrap();
    let gateway = SmsGateway::new(&once(embedded.url(), &Clock::manual().clock())).unwrap();
    embedded.refuse_ending(Some("4567"));
    let refused = gateway.send(id(1), &number(), TEXT).await.unwrap_err();
    let said = "the SMS gateway refuses the message: 400 {\"message\":\"+49*****67 is no number we send to\"}";
    assert_eq!(refused.to_string(), said);
    assert!(!format!("{refused:?}").contains("1701234567"));
    embedded.refuse_ending(None);
    gateway.send(id(1), &number(), TEXT).await.unwrap();
}

#[tokio::test]
async fn so_many_messages_are_under_way_and_the_next_waits_for_half_of_its_time() {
    let embedded = Embedded::start().await.unwrap();
    embedded.turn(SmsMood::Slow(Duration::from_secs(3_600)));
    let clock = Clock::manual();
    let gateway = SmsGateway::new(&SmsSettings { concurrency: 1, ..once(embedded.url(), &clock.clock()) }).unwrap();
    let to = number();
    let (first, second) = (gateway.send(id(1), &to, TEXT), gateway.send(id(2), &to, TEXT));
    tokio::pin!(first, second);
    until(first.as_mut(), || embedded.requests() == 1).await;
    until(second.as_mut(), || clock.next_wake() == Some(Duration::from_secs(5))).await;
    clock.advance(Duration::from_secs(5));
    let refused = timeout(Duration::from_secs(10), second).await.expect("a refusal").unwrap_err();
    assert!(matches!(refused, SmsError::Refused(Rejected::BulkheadFull(_))), "{refused:?}");
    assert_eq!((gateway.breaker().metrics().failed_calls, embedded.requests()), (0, 1));
}

#[test]
fn an_address_that_cannot_be_is_refused_without_repeating_it() {
    for url in ["", "sms.example.com", "ftp://sms.example.com/", "https://us:secret@sms.example.com/"] {
        let error = SmsGateway::new(&SmsSettings::new(url)).unwrap_err();
        assert!(matches!(error, BadSms::Url(_)), "{url}: {error}");
        assert!(!error.to_string().contains("secret"));
    }
}

#[test]
fn a_setting_that_cannot_be_is_named() {
    let settings = SmsSettings { concurrency: 0, ..SmsSettings::new("http://127.0.0.1/") };
    let error = SmsGateway::new(&settings).unwrap_err().to_string();
    assert!(error.contains("max_concurrent_calls = 0"), "{error}");
    let settings = SmsSettings { token: Some("a\nb".to_owned().into()), ..SmsSettings::new("http://127.0.0.1/") };
    assert!(matches!(SmsGateway::new(&settings), Err(BadSms::Token)));
}
