//! Alerts, and a webhook that answers as it is told to.

use std::{
    collections::VecDeque,
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use email_dispatch::{
    alert::{Alert, AlertSettings, Alerts, BadWebhook, Severity},
    settings::LogFormat,
    wall_clock::WallClock,
};
use resile::{CircuitBreaker, circuit_breaker::State as Circuit};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::log::Log;

const START_MS: i64 = 1_767_225_600_000; // 2026-01-01
const MINUTE: Duration = Duration::from_secs(60);

/// Answers the statuses of its script, then 200, and keeps what it took.
#[derive(Clone, Default)]
struct Hook {
    script: Arc<Mutex<VecDeque<u16>>>,
    got: Arc<Mutex<Vec<Value>>>,
}

impl Hook {
    async fn start(script: &[u16]) -> (Self, AlertSettings) {
        let hook = Self { script: Arc::new(Mutex::new(script.iter().copied().collect())), got: Arc::default() };
        let router = Router::new().route("/secret-path", post(Self::answer)).with_state(hook.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let settings = webhook(&format!("http://{}/secret-path", listener.local_addr().unwrap()));
        tokio::spawn(axum::serve(listener, router).into_future());
        (hook, settings)
    }

    async fn answer(State(hook): State<Self>, Json(body): Json<Value>) -> StatusCode {
        hook.got.lock().unwrap().push(body);
        let status = hook.script.lock().unwrap().pop_front().unwrap_or(200);
        StatusCode::from_u16(status).unwrap()
    }

    fn got(&self) -> Vec<Value> {
        self.got.lock().unwrap().clone()
    }
}

fn webhook(url: &str) -> AlertSettings {
    AlertSettings { webhook: Some(url.parse().unwrap()), ..AlertSettings::default() }
}

/// Without a webhook.
fn alerts() -> (Alerts, WallClock) {
    let clock = WallClock::manual(START_MS);
    (Alerts::new(AlertSettings::default(), clock.clone()).unwrap(), clock)
}

fn alert(key: &str) -> Alert {
    Alert::new(Severity::Critical, key, "the first mail server refuses us")
}

fn keys(alerts: &Alerts) -> Vec<String> {
    alerts.recent().iter().map(|raised| raised.alert.key().to_owned()).collect()
}

#[tokio::test]
async fn an_alert_is_posted_as_json() {
    let (hook, settings) = Hook::start(&[]).await;
    let alerts = Alerts::new(settings, WallClock::manual(START_MS)).unwrap();
    alerts.raise(alert("refused").detail("server", "primary-smtp").detail("code", 554));
    assert!(alerts.close(MINUTE).await);
    let expected = json!({
        "at": "2026-01-01T00:00:00Z",
        "key": "refused",
        "severity": "critical",
        "summary": "the first mail server refuses us",
        "details": {"server": "primary-smtp", "code": "554"},
        "repeats": 0,
    });
    assert_eq!((hook.got(), alerts.undelivered()), (vec![expected], 0));
}

#[test]
fn the_same_alert_is_not_repeated_for_ten_minutes() {
    let (alerts, clock) = alerts();
    alerts.raise(alert("a"));
    clock.advance(10 * MINUTE - Duration::from_millis(1));
    alerts.raise(alert("a"));
    assert_eq!((alerts.raised(), alerts.suppressed()), (1, 1));
    clock.advance(Duration::from_millis(1));
    alerts.raise(alert("a"));
    assert_eq!((alerts.raised(), alerts.suppressed()), (2, 1));
}

#[test]
fn what_was_suppressed_is_told_with_the_next_one() {
    let (alerts, clock) = alerts();
    for _ in 0..5 {
        alerts.raise(alert("a"));
    }
    clock.advance(10 * MINUTE);
    alerts.raise(alert("a"));
    clock.advance(10 * MINUTE);
    alerts.raise(alert("a"));
    let repeats: Vec<_> = alerts.recent().iter().map(|raised| raised.repeats).collect();
    assert_eq!(repeats, [0, 4, 0]);
}

#[test]
fn another_alert_is_not_suppressed() {
    let (alerts, _) = alerts();
    alerts.raise(alert("a"));
    alerts.raise(alert("b"));
    alerts.raise(alert("a"));
    assert_eq!(keys(&alerts), ["a", "b"]);
}

#[test]
fn every_transition_of_a_watched_breaker_is_an_alert() {
    let (alerts, clock) = alerts();
    let breaker = CircuitBreaker::with_defaults("primary-smtp");
    let watch = alerts.watch(&breaker);
    breaker.transition_to_open().unwrap();
    breaker.transition_to_half_open().unwrap();
    breaker.transition_to_open().unwrap(); // again, and so soon
    breaker.transition_to_half_open().unwrap();
    breaker.transition_to_closed().unwrap();
    let expected = ["OPEN", "HALF_OPEN", "CLOSED"].map(|state| format!("circuit-breaker:primary-smtp:{state}"));
    assert_eq!((keys(&alerts), alerts.suppressed()), (expected.to_vec(), 2));

    let opened = &alerts.recent()[0].alert;
    assert_eq!(opened.severity(), Severity::Critical);
    assert_eq!(opened.summary(), "circuit breaker 'primary-smtp' went from CLOSED to OPEN");
    assert_eq!(alerts.recent()[2].alert.severity(), Severity::Warning);

    drop(watch);
    clock.advance(10 * MINUTE);
    breaker.transition_to_open().unwrap();
    assert_eq!(alerts.raised(), 3, "nobody watches any more");
}

#[test]
fn two_breakers_do_not_silence_each_other() {
    let (alerts, _) = alerts();
    for name in ["primary-smtp", "secondary-smtp"] {
        let breaker = CircuitBreaker::with_defaults(name);
        let _watch = alerts.watch(&breaker);
        breaker.transition_to_open().unwrap();
    }
    assert_eq!(alerts.raised(), 2);
}

#[test]
fn only_the_last_hundred_alerts_are_kept() {
    let (alerts, _) = alerts();
    for number in 0..250 {
        alerts.raise(alert(&format!("key {number}")));
    }
    let recent = keys(&alerts);
    assert_eq!((recent.len(), recent[0].as_str(), alerts.raised()), (100, "key 150", 250));
}

#[test]
fn only_alerts_that_go_out_are_counted() {
    let recorder = metrics_util::debugging::DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        let (alerts, _) = alerts();
        alerts.raise(alert("a"));
        alerts.raise(alert("a"));
        alerts.raise(alert("b"));
    });
    let series = snapshotter.snapshot().into_vec();
    let (key, _, _, value) = &series[0];
    assert_eq!((series.len(), key.key().name()), (1, "alerts_total"));
    assert_eq!(key.key().labels().map(metrics::Label::value).collect::<Vec<_>>(), ["critical"]);
    assert_eq!(*value, metrics_util::debugging::DebugValue::Counter(2));
}

#[test]
fn nothing_personal_is_in_an_alert() {
    let alert = Alert::new(Severity::Warning, "jane.doe@example.com", "550 <jane.doe@example.com> is unknown")
        .detail("phone", "+491701234567");
    let told = format!("{alert:?} {}", serde_json::to_string(&alert).unwrap());
    assert!(!told.contains("jane.doe") && !told.contains("1701234567"), "{told}");
    assert!(alert.summary().contains("j***@e***.com"));
}

#[test]
fn a_long_text_is_shortened() {
    let alert = Alert::new(Severity::Warning, "a", &"ä".repeat(100_000));
    assert_eq!(alert.summary().chars().count(), 1_000);
}

#[test]
fn alerts_are_logged_by_their_severity() {
    let log = Log::default();
    let listening = log.listen(LogFormat::Text, "info");
    let (alerts, _) = alerts();
    alerts.raise(alert("a").detail("server", "primary-smtp"));
    alerts.raise(Alert::new(Severity::Warning, "b", "it is well again"));
    alerts.raise(alert("a"));
    drop(listening);
    let log = log.text();
    let lines: Vec<_> = log.lines().collect();
    assert_eq!(lines.len(), 2, "{log}");
    assert!(
        lines[0].contains("ERROR") && lines[0].contains("refuses us") && lines[0].contains("primary-smtp"),
        "{log}"
    );
    assert!(lines[1].contains("WARN") && lines[1].contains("well again"), "{log}");
}

#[tokio::test]
async fn a_webhook_that_fails_for_a_moment_is_asked_again() {
    let (hook, settings) = Hook::start(&[500, 429]).await;
    let alerts = Alerts::new(settings, WallClock::manual(START_MS)).unwrap();
    alerts.raise(alert("a"));
    assert!(alerts.close(MINUTE).await);
    assert_eq!((hook.got().len(), alerts.undelivered()), (3, 0));
}

#[tokio::test]
async fn a_webhook_that_does_not_want_an_alert_is_not_asked_again() {
    let (hook, settings) = Hook::start(&[400]).await;
    let alerts = Alerts::new(settings, WallClock::manual(START_MS)).unwrap();
    alerts.raise(alert("a"));
    assert!(alerts.close(MINUTE).await);
    assert_eq!((hook.got().len(), alerts.undelivered()), (1, 1));
}

#[tokio::test]
async fn a_dead_webhook_is_soon_left_alone_and_harms_nobody() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let alerts = Alerts::new(webhook(&format!("http://{address}/")), WallClock::manual(START_MS)).unwrap();
    for number in 0..1_000 {
        alerts.raise(alert(&number.to_string()));
    }
    assert_eq!(alerts.raised(), 1_000, "all of them at once, whatever the webhook does");
    assert!(alerts.close(MINUTE).await);
    assert_eq!(alerts.undelivered(), 1_000);
    assert_eq!(alerts.breaker().unwrap().state(), Circuit::Open);
    alerts.raise(alert("after the end"));
    assert_eq!((alerts.raised(), alerts.undelivered()), (1_001, 1_001));
}

#[tokio::test]
async fn a_webhook_that_never_answers_does_not_delay_the_end_beyond_the_time_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let silent = tokio::spawn(async move {
        let _connection = listener.accept().await;
        pending::<()>().await;
    });
    let alerts = Alerts::new(webhook(&url), WallClock::manual(START_MS)).unwrap();
    alerts.raise(alert("a"));
    alerts.raise(alert("b"));
    let closed = tokio::time::timeout(Duration::from_secs(4), alerts.close(Duration::from_millis(50))).await;
    assert_eq!(closed, Ok(false));
    assert_eq!(alerts.undelivered(), 2);
    silent.abort();
}

#[tokio::test]
async fn a_webhook_that_is_no_web_address_is_refused_without_being_shown() {
    let refused = Alerts::new(webhook("ftp://user:password@example.com/secret-path"), WallClock::manual(0));
    let error = refused.unwrap_err();
    assert!(matches!(error, BadWebhook::Scheme(_)));
    let expected = "the alert webhook begins with 'ftp://', and must begin with 'http://' or 'https://'";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn the_path_of_a_webhook_is_not_printed() {
    let printed = format!("{:?}", webhook("https://user:password@example.com/secret-path"));
    assert!(printed.contains("example.com"));
    assert!(!printed.contains("secret") && !printed.contains("password"), "{printed}");
}
