//! Health, Actuator's endpoints and events over HTTP, asked as a client asks.
#![allow(clippy::print_stdout)]

use std::{convert::Infallible, future::ready, pin::pin, sync::Arc, task::Poll, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    http::{HeaderMap, Request, StatusCode},
};
use futures::{FutureExt, StreamExt, stream};
use parking_lot::Mutex;
use resile::{
    CircuitBreaker, Clock, ManualClock, Outcome, RateLimiter, Resilience, admin, circuit_breaker,
    event::PolicyKind,
    rate_limiter,
    registry::{Change, Existing},
};
use serde_json::{Value, json};
use tower::ServiceExt;

const TOKEN: &str = "the-token-of-the-operator";
const SECOND: Duration = Duration::from_secs(1);

/// A service with a router of its own under `/actuator`.
struct Service {
    resilience: Resilience,
    clock: ManualClock,
    app: Router,
}

impl Service {
    fn new() -> Self {
        Self::with(|config| config.operator("on-call", TOKEN))
    }

    fn with(set: impl FnOnce(admin::Config) -> admin::Config) -> Self {
        let (resilience, clock) = (Resilience::new(), Clock::manual());
        clock.advance(3600 * SECOND);
        let config = set(admin::Config::default().clock(&clock));
        let router = admin::router(&resilience, config).expect("settings that can be");
        Self { app: Router::new().nest("/actuator", router), resilience, clock }
    }

    /// Opens at two failures of two calls.
    fn breaker(&self, name: &str) -> CircuitBreaker {
        let config = circuit_breaker::Config::default()
            .sliding_window_size(2)
            .permitted_number_of_calls_in_half_open_state(2)
            .clock(&self.clock);
        self.resilience.circuit_breakers().get_with(name, config, Existing::Refuse).expect("a new breaker")
    }

    fn limiter(&self, name: &str) -> RateLimiter {
        let config = rate_limiter::Config::default()
            .limit_for_period(1)
            .limit_refresh_period(10 * SECOND)
            .timeout_duration(25 * SECOND)
            .clock(&self.clock);
        self.resilience.rate_limiters().get_with(name, config, Existing::Refuse).expect("a new limiter")
    }

    async fn send(&self, request: Request<Body>) -> (StatusCode, HeaderMap, Value) {
        let answer = self.app.clone().oneshot(request).await.expect("an answer");
        let (parts, body) = answer.into_parts();
        let body = to_bytes(body, usize::MAX).await.expect("a body");
        (parts.status, parts.headers, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        let request = Request::get(format!("/actuator{path}")).body(Body::empty()).expect("a request");
        let (status, _, body) = self.send(request).await;
        (status, body)
    }

    async fn update(&self, name: &str, state: &str, token: &str) -> (StatusCode, Value) {
        let body = json!({ "updateState": state }).to_string();
        let (status, _, body) = self.send(update(name, token, body)).await;
        (status, body)
    }

    /// A stream of events, opened.
    async fn stream(&self, path: &str, seen: Option<u64>) -> (StatusCode, Body) {
        let mut request = Request::get(format!("/actuator/streamcircuitbreakerevents{path}"));
        if let Some(seen) = seen {
            request = request.header("last-event-id", seen);
        }
        let answer = self.app.clone().oneshot(request.body(Body::empty()).expect("a request")).await;
        let (parts, body) = answer.expect("an answer").into_parts();
        (parts.status, body)
    }
}

fn update(name: &str, token: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post(format!("/actuator/circuitbreakers/{name}"))
        .header("authorization", format!("Bearer {token}"))
        .body(body.into())
        .expect("a request")
}

fn fail(breaker: &CircuitBreaker, calls: u32) {
    for _ in 0..calls {
        breaker.try_acquire().expect("admitted").record(Outcome::Failure);
    }
}

/// What a stream has to read now.
fn unread(body: &mut (impl futures::Stream<Item = Result<Bytes, axum::Error>> + Unpin)) -> String {
    let mut text = String::new();
    while let Some(Some(Ok(bytes))) = body.next().now_or_never() {
        text.push_str(std::str::from_utf8(&bytes).expect("text"));
    }
    text
}

#[tokio::test]
async fn a_closed_circuit_is_up() {
    let service = Service::new();
    service.breaker("orders");
    let (status, health) = service.get("/health").await;
    assert_eq!(status, StatusCode::OK);
    let expected = json!({
        "status": "UP",
        "groups": ["liveness", "readiness"],
        "components": {
            "ping": { "status": "UP" },
            "circuitBreakers": { "status": "UP", "details": { "orders": { "status": "UP", "details": {
                "failureRate": "-1.0%", "slowCallRate": "-1.0%",
                "failureRateThreshold": "50.0%", "slowCallRateThreshold": "100.0%",
                "bufferedCalls": 0, "failedCalls": 0, "slowCalls": 0, "slowFailedCalls": 0, "notPermittedCalls": 0,
                "state": "CLOSED",
            } } } },
            "rateLimiters": { "status": "UNKNOWN", "details": {} },
        },
    });
    assert_eq!(health, expected);
}

#[tokio::test]
async fn each_state_has_its_status() {
    let service = Service::new();
    let breaker = service.breaker("orders");
    let status = || async {
        let (code, health) = service.get("/health").await;
        assert_eq!(code, StatusCode::OK);
        assert_eq!(health["status"], "UP", "an open circuit alone is no reason to take the service away");
        health["components"]["circuitBreakers"]["details"]["orders"]["status"].clone()
    };
    fail(&breaker, 2);
    assert_eq!(status().await, "CIRCUIT_OPEN");
    breaker.transition_to_half_open().expect("allowed");
    assert_eq!(status().await, "CIRCUIT_HALF_OPEN");
    breaker.transition_to_forced_open().expect("allowed");
    assert_eq!(status().await, "UNKNOWN");
    breaker.transition_to_disabled().expect("allowed");
    assert_eq!(status().await, "UNKNOWN");
    breaker.transition_to_metrics_only().expect("allowed");
    assert_eq!(status().await, "UNKNOWN");
}

#[tokio::test]
async fn an_open_circuit_that_may_fail_takes_the_service_down_and_not_its_liveness() {
    let service = Service::with(|config| config.allow_health_indicator_to_fail_for("orders", true));
    fail(&service.breaker("mail"), 2);
    assert_eq!(service.get("/health").await.0, StatusCode::OK);
    fail(&service.breaker("orders"), 2);
    let (status, health) = service.get("/health").await;
    assert_eq!((status, &health["status"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("DOWN")));
    let (status, health) = service.get("/health/readiness").await;
    assert_eq!((status, &health["status"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("DOWN")));
    let (status, health) = service.get("/health/liveness").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(health, json!({ "status": "UP", "components": { "livenessState": { "status": "UP" } } }));
}

#[tokio::test]
async fn one_instance_may_be_kept_from_failing_where_all_may() {
    let set = |config: admin::Config| {
        config.allow_health_indicator_to_fail(true).allow_health_indicator_to_fail_for("mail", false)
    };
    let service = Service::with(set);
    fail(&service.breaker("mail"), 2);
    assert_eq!(service.get("/health").await.0, StatusCode::OK);
    fail(&service.breaker("orders"), 2);
    assert_eq!(service.get("/health").await.0, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_function_may_say_who_may_fail() {
    let by = |kind, name: &str| kind == PolicyKind::CircuitBreaker && (name == "orders" || panic!("of {name}"));
    let service = Service::with(|config| config.allow_health_indicator_to_fail_by(by));
    fail(&service.breaker("mail"), 2);
    assert_eq!(service.get("/health").await.0, StatusCode::OK, "a panic is a no");
    fail(&service.breaker("orders"), 2);
    assert_eq!(service.get("/health").await.0, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_rate_limiter_is_limited_when_the_next_call_would_wait_too_long() {
    let service = Service::with(|config| config.allow_health_indicator_to_fail_for("strict", true));
    for (name, limited) in [("orders", "RATE_LIMITED"), ("strict", "DOWN")] {
        let limiter = service.limiter(name);
        let health = || async {
            let (_, health) = service.get("/health").await;
            health["components"]["rateLimiters"]["details"][name].clone()
        };
        limiter.try_acquire(1).expect("a permit");
        let details = json!({ "availablePermissions": 0, "numberOfWaitingThreads": 0 });
        assert_eq!(health().await, json!({ "status": "UP", "details": details }), "nobody waits");
        let mut waiting: Vec<_> = Vec::new();
        for status in ["UNKNOWN", limited] {
            let mut wait = Box::pin(limiter.acquire(1));
            assert!(futures::poll!(&mut wait).is_pending());
            waiting.push(wait);
            assert_eq!(health().await["status"], status);
        }
    }
}

#[tokio::test]
async fn breakers_are_shown_as_resilience4j_shows_them() {
    let service = Service::new();
    fail(&service.breaker("orders"), 1);
    service.breaker("mail");
    let (status, all) = service.get("/circuitbreakers").await;
    assert_eq!(status, StatusCode::OK);
    let names: Vec<_> = all["circuitBreakers"].as_object().expect("a map").keys().collect();
    assert_eq!(names, ["mail", "orders"]);
    assert_eq!(all["circuitBreakers"]["orders"]["failedCalls"], 1);
    let (status, one) = service.get("/circuitbreakers/orders").await;
    assert_eq!((status, &one["bufferedCalls"], &one["state"]), (StatusCode::OK, &json!(1), &json!("CLOSED")));
    assert_eq!(one["settings"]["slidingWindowSize"], "2 calls");
}

#[tokio::test]
async fn the_other_kinds_are_listed_by_name() {
    let service = Service::new();
    let of = &service.resilience;
    of.retries().get("r2");
    of.retries().get("r1");
    of.bulkheads().get("b");
    of.thread_pool_bulkheads().get("pool");
    of.rate_limiters().get("l");
    of.time_limiters().get("t");
    for (path, expected) in [
        ("/retries", json!({ "retries": ["r1", "r2"] })),
        ("/bulkheads", json!({ "bulkheads": ["b", "pool"] })),
        ("/threadpoolbulkheads", json!({ "threadPoolBulkheads": ["pool"] })),
        ("/ratelimiters", json!({ "rateLimiters": ["l"] })),
        ("/timelimiters", json!({ "timeLimiters": ["t"] })),
    ] {
        assert_eq!(service.get(path).await, (StatusCode::OK, expected));
    }
}

#[tokio::test]
async fn reading_makes_no_instance_and_changes_no_state() {
    let service = Service::new();
    let breaker = service.breaker("orders");
    fail(&breaker, 2);
    service.clock.advance(61 * SECOND);
    let before = breaker.metrics();
    for path in [
        "/health",
        "/health/readiness",
        "/circuitbreakers",
        "/circuitbreakers/orders",
        "/circuitbreakerevents",
        "/circuitbreakerevents/orders/ERROR",
        "/resile",
        "/resile/snapshot",
    ] {
        assert_eq!(service.get(path).await.0, StatusCode::OK, "{path}");
    }
    assert_eq!(breaker.metrics(), before);
    for path in ["/circuitbreakers/nobody", "/circuitbreakerevents/nobody", "/streamcircuitbreakerevents/nobody"] {
        assert_eq!(service.get(path).await.0, StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(service.update("nobody", "CLOSE", TOKEN).await.0, StatusCode::NOT_FOUND);
    assert_eq!(service.resilience.circuit_breakers().all().len(), 1);
}

#[tokio::test]
async fn the_last_events_are_listed_by_name_and_type() {
    let service = Service::new();
    let (orders, mail) = (service.breaker("orders"), service.breaker("mail"));
    fail(&orders, 2);
    mail.try_acquire().expect("admitted").success();
    let types = |body: Value| -> Vec<String> {
        let events = body["circuitBreakerEvents"].as_array().expect("a list").clone();
        let text = |event: &Value| format!("{} {}", event["circuitBreakerName"], event["type"]).replace('"', "");
        events.iter().map(text).collect()
    };
    let all = types(service.get("/circuitbreakerevents").await.1);
    assert_eq!(
        all,
        ["orders ERROR", "orders ERROR", "orders FAILURE_RATE_EXCEEDED", "orders STATE_TRANSITION", "mail SUCCESS"]
    );
    assert_eq!(types(service.get("/circuitbreakerevents/mail").await.1), ["mail SUCCESS"]);
    let (_, moved) = service.get("/circuitbreakerevents/orders/state_transition").await;
    let moved = &moved["circuitBreakerEvents"][0];
    assert_eq!(moved["stateTransition"], "CLOSED_TO_OPEN");
    let time = moved["creationTime"].as_str().expect("a time");
    assert!(time.len() == 24 && time.starts_with("20") && time.ends_with('Z'), "{time}");
    assert_eq!(service.get("/circuitbreakerevents/orders/NONSENSE").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_calls_of_a_busy_breaker_do_not_push_out_a_transition() {
    let service = Service::with(|config| config.event_buffer_size(3));
    fail(&service.breaker("orders"), 2);
    let busy = service.breaker("busy");
    for _ in 0..100 {
        busy.try_acquire().expect("admitted").success();
    }
    let (_, moved) = service.get("/circuitbreakerevents/orders/STATE_TRANSITION").await;
    assert_eq!(moved["circuitBreakerEvents"].as_array().map(Vec::len), Some(1));
    let (_, all) = service.get("/circuitbreakerevents").await;
    assert_eq!(all["circuitBreakerEvents"].as_array().map(Vec::len), Some(5), "three calls, two of other kinds");
}

#[tokio::test]
async fn events_of_calls_are_not_kept_where_nobody_wants_them() {
    let service = Service::with(|config| config.keep_events_of_calls(false));
    let breaker = service.breaker("orders");
    fail(&breaker, 2);
    breaker.try_acquire().expect_err("open");
    let (_, events) = service.get("/circuitbreakerevents").await;
    let events = events["circuitBreakerEvents"].as_array().expect("a list");
    let kinds: Vec<_> = events.iter().map(|event| event["type"].clone()).collect();
    assert_eq!(kinds, ["FAILURE_RATE_EXCEEDED", "STATE_TRANSITION"]);
    let (_, snapshot) = service.get("/resile/snapshot").await;
    assert_eq!(snapshot["instances"][0]["numbers"][8], 2, "durations are taken all the same");
}

#[tokio::test]
async fn a_breaker_that_is_removed_or_replaced_is_listened_to_no_more() {
    let service = Service::new();
    let before = service.breaker("orders");
    let other = CircuitBreaker::with_defaults("orders");
    service.resilience.circuit_breakers().replace(other.clone());
    fail(&before, 1);
    other.try_acquire().expect("admitted").success();
    let (_, events) = service.get("/circuitbreakerevents/orders").await;
    assert_eq!(events["circuitBreakerEvents"].as_array().map(Vec::len), Some(1));
    assert_eq!(events["circuitBreakerEvents"][0]["type"], "SUCCESS");
    service.resilience.circuit_breakers().remove("orders");
    other.try_acquire().expect("admitted").success();
    let (_, events) = service.get("/circuitbreakerevents").await;
    assert_eq!(events["circuitBreakerEvents"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_breaker_from_before_the_router_is_listened_to_until_the_router_goes() {
    let resilience = Resilience::new();
    let breaker = resilience.circuit_breakers().get("orders");
    let router = admin::router(&resilience, admin::Config::default()).expect("settings that can be");
    breaker.try_acquire().expect("admitted").success();
    let request = Request::get("/circuitbreakerevents/orders").body(Body::empty()).expect("a request");
    let answer = router.clone().oneshot(request).await.expect("an answer");
    let body = to_bytes(answer.into_body(), usize::MAX).await.expect("a body");
    assert!(String::from_utf8_lossy(&body).contains("SUCCESS"));
    drop(router);
    assert!(!format!("{breaker:?}").contains("count: 1"), "somebody still listens: {breaker:?}");
}

#[tokio::test]
async fn an_operator_changes_every_state() {
    let service = Service::new();
    let breaker = service.breaker("orders");
    for (asked, state) in [
        ("FORCE_OPEN", "FORCED_OPEN"),
        ("CLOSE", "CLOSED"),
        ("DISABLE", "DISABLED"),
        ("OPEN", "OPEN"),
        ("HALF_OPEN", "HALF_OPEN"),
        ("METRICS_ONLY", "METRICS_ONLY"),
        ("RESET", "CLOSED"),
    ] {
        let (status, answer) = service.update("orders", asked, TOKEN).await;
        let expected = json!({
            "circuitBreakerName": "orders",
            "currentState": state,
            "message": "orders state has been changed successfully",
        });
        assert_eq!((status, answer), (StatusCode::OK, expected));
        assert_eq!(breaker.state().as_str(), state);
        service.clock.advance(SECOND);
    }
}

#[tokio::test]
async fn what_cannot_be_done_is_said_and_not_done() {
    let service = Service::new();
    let breaker = service.breaker("orders");
    let (status, answer) = service.update("orders", "HALF_OPEN", TOKEN).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(answer["message"].as_str().expect("a sentence").contains("from CLOSED to HALF_OPEN"), "{answer}");
    let (status, answer) = service.update("orders", "MELT", TOKEN).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(
        answer["message"].as_str().expect("a sentence").contains("use only [CLOSE, FORCE_OPEN, DISABLE"),
        "{answer}"
    );
    for body in ["", "CLOSE", "{}", "[1]", "\u{feff}{}"] {
        let (status, _, answer) = service.send(update("orders", TOKEN, body)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body:?}");
        assert!(answer["message"].as_str().expect("a sentence").contains("updateState"), "{answer}");
        service.clock.advance(SECOND);
    }
    assert_eq!(breaker.metrics().generation, CircuitBreaker::with_defaults("new").metrics().generation);
}

#[tokio::test]
async fn without_the_token_nothing_is_written() {
    let service = Service::new();
    let breaker = service.breaker("orders");
    let close_to = format!("{TOKEN}x");
    for token in ["", "wrong", &TOKEN[1..], &close_to, &TOKEN.to_uppercase()] {
        let (status, headers, _) = service.send(update("orders", token, r#"{"updateState":"DISABLE"}"#)).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{token:?}");
        assert_eq!(headers["www-authenticate"], "Bearer");
        service.clock.advance(SECOND);
    }
    let bare = Request::post("/actuator/circuitbreakers/orders").body(Body::from(r#"{"updateState":"DISABLE"}"#));
    assert_eq!(service.send(bare.expect("a request")).await.0, StatusCode::UNAUTHORIZED);
    // Nor does it tell who is there.
    assert_eq!(service.update("nobody", "DISABLE", "wrong").await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(breaker.state().as_str(), "CLOSED");
}

#[tokio::test]
async fn writing_is_off_where_no_token_was_given() {
    let service = Service::with(|config| config);
    let breaker = service.breaker("orders");
    for token in ["", TOKEN] {
        let (status, answer) = service.update("orders", "DISABLE", token).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
        assert!(answer["message"].as_str().expect("a sentence").contains("writing is off"));
    }
    assert_eq!(breaker.state().as_str(), "CLOSED");
    assert_eq!(service.get("/resile/snapshot").await.1["writes"], false);
}

#[tokio::test]
async fn a_change_is_reported_with_who_asked() {
    let service = Service::with(|config| config.operator("alice", TOKEN).operator("bob", "another-token-of-bobs"));
    service.breaker("orders");
    let changes = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&changes);
    let _subscription = service.resilience.on_change(move |change| heard.lock().push(change.clone()));
    service.update("orders", "FORCE_OPEN", "another-token-of-bobs").await;
    service.update("orders", "FORCE_OPEN", "a-token-of-nobody").await;
    let changes = changes.lock().clone();
    let [Change::Operator { who, instance, action, .. }] = changes.as_slice() else { panic!("{changes:?}") };
    assert_eq!((who.as_str(), instance.as_str(), action.as_str()), ("bob", "orders", "FORCE_OPEN"));
    let (_, snapshot) = service.get("/resile/snapshot").await;
    let note = snapshot["events"].as_array().expect("a list").last().expect("an event").clone();
    assert_eq!((&note["kind"], &note["text"]), (&json!("OPERATOR"), &json!("FORCE_OPEN by bob")));
}

#[tokio::test]
async fn attempts_to_write_are_few_a_second_whatever_the_token() {
    let service = Service::with(|config| config.operator("on-call", TOKEN).max_writes_per_second(2));
    service.breaker("orders");
    assert_eq!(service.update("orders", "CLOSE", "wrong").await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(service.update("orders", "CLOSE", "wrong").await.0, StatusCode::UNAUTHORIZED);
    let (status, headers, _) = service.send(update("orders", TOKEN, r#"{"updateState":"CLOSE"}"#)).await;
    assert_eq!((status, headers["retry-after"].to_str().expect("text")), (StatusCode::TOO_MANY_REQUESTS, "1"));
    service.clock.advance(SECOND);
    assert_eq!(service.update("orders", "CLOSE", TOKEN).await.0, StatusCode::OK);
}

#[tokio::test]
async fn requests_are_few_a_second_and_liveness_is_always_answered() {
    let service = Service::with(|config| config.max_requests_per_second(2));
    for path in ["/circuitbreakers", "/health"] {
        assert_eq!(service.get(path).await.0, StatusCode::OK);
        assert_eq!(service.get(path).await.0, StatusCode::OK);
        assert_eq!(service.get(path).await.0, StatusCode::TOO_MANY_REQUESTS);
    }
    assert_eq!(service.get("/health/liveness").await.0, StatusCode::OK);
    service.clock.advance(SECOND);
    assert_eq!(service.get("/circuitbreakers").await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_body_is_short_and_comes_in_time() {
    let service = Service::new();
    let breaker = service.breaker("orders");
    let long = format!(r#"{{"updateState":"DISABLE","more":"{}"}}"#, "x".repeat(2000));
    assert_eq!(service.send(update("orders", TOKEN, long)).await.0, StatusCode::PAYLOAD_TOO_LARGE);

    let never = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
    let mut answer = pin!(service.send(update("orders", TOKEN, never)));
    assert!(matches!(futures::poll!(&mut answer), Poll::Pending));
    service.clock.advance(5 * SECOND);
    assert_eq!(answer.await.0, StatusCode::REQUEST_TIMEOUT);
    assert_eq!(breaker.state().as_str(), "CLOSED");
}

#[tokio::test]
async fn a_name_that_is_too_long_is_nobodys() {
    let service = Service::new();
    let name = "x".repeat(300);
    service.breaker(&name);
    assert_eq!(service.get(&format!("/circuitbreakers/{name}")).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_name_of_any_characters_is_found_and_harms_nobody() {
    let service = Service::new();
    let name = "a/b <script>alert(1)</script> \"ü\" \n\u{2028}";
    let breaker = service.breaker(name);
    let path = "a%2Fb%20%3Cscript%3Ealert(1)%3C%2Fscript%3E%20%22%C3%BC%22%20%0A%E2%80%A8";
    let (status, answer) = service.update(path, "DISABLE", TOKEN).await;
    assert_eq!((status, &answer["circuitBreakerName"]), (StatusCode::OK, &json!(name)));
    assert_eq!(breaker.state().as_str(), "DISABLED");
    let (_, headers, all) =
        service.send(Request::get("/actuator/circuitbreakers").body(Body::empty()).expect("a request")).await;
    assert!(all["circuitBreakers"][name].is_object());
    assert_eq!(
        (&headers["content-type"], &headers["x-content-type-options"]),
        (&"application/json".parse().unwrap(), &"nosniff".parse().unwrap())
    );
    let (status, mut stream) = service.stream(&format!("/{path}"), Some(0)).await;
    assert_eq!(status, StatusCode::OK);
    let text = unread(&mut Box::pin(std::mem::take(&mut stream).into_data_stream()));
    assert!(
        text.lines().all(|line| line.is_empty()
            || line.starts_with("data:")
            || line.starts_with("id:")
            || line.starts_with("event:")),
        "{text}"
    );
}

#[tokio::test]
async fn events_are_streamed_as_they_happen() {
    let service = Service::new();
    let (orders, mail) = (service.breaker("orders"), service.breaker("mail"));
    mail.try_acquire().expect("admitted").success();
    let mut all = service.stream("", None).await.1.into_data_stream();
    let mut of_orders = service.stream("/orders", None).await.1.into_data_stream();
    let mut moves = service.stream("/orders/STATE_TRANSITION", None).await.1.into_data_stream();
    assert_eq!(unread(&mut all), "", "what was before is in the list, not in the stream");
    fail(&orders, 2);
    mail.try_acquire().expect("admitted").success();
    let count = |text: &str| text.matches("\n\n").count();
    assert_eq!(count(&unread(&mut all)), 5);
    assert_eq!(count(&unread(&mut of_orders)), 4);
    let text = unread(&mut moves);
    assert!(text.starts_with("event: STATE_TRANSITION\nid: 5\ndata: {") || text.contains("id: 5"), "{text}");
    assert!(text.contains("CLOSED_TO_OPEN") && count(&text) == 1, "{text}");
    service.clock.advance(15 * SECOND);
    assert!(unread(&mut all).starts_with(':'), "a heartbeat, so that a reader that has gone is noticed");
}

#[tokio::test]
async fn a_reader_that_comes_back_is_told_what_it_missed() {
    let service = Service::new();
    let orders = service.breaker("orders");
    fail(&orders, 2);
    let mut stream = service.stream("", Some(2)).await.1.into_data_stream();
    let text = unread(&mut stream);
    assert!(text.contains("FAILURE_RATE_EXCEEDED") && text.contains("STATE_TRANSITION"), "{text}");
    assert!(!text.contains("event: ERROR"), "{text}");
}

#[tokio::test]
async fn a_slow_reader_loses_events_and_is_told_how_many() {
    let service = Service::with(|config| config.event_buffer_size(10));
    let orders = service.breaker("orders");
    let mut stream = service.stream("", None).await.1.into_data_stream();
    for _ in 0..1000 {
        orders.try_acquire().expect("admitted").success();
    }
    let text = unread(&mut stream);
    assert!(text.contains("event: LOST\ndata: {\"lost\":990}\n\n"), "{text}");
    assert_eq!(text.matches("event: SUCCESS").count(), 10);
}

#[tokio::test]
async fn streams_are_few_and_one_that_is_stuck_gives_its_place_up() {
    let service = Service::with(|config| config.max_event_streams(2));
    let mut read = service.stream("", None).await.1.into_data_stream();
    let mut stuck = service.stream("", None).await.1.into_data_stream();
    assert_eq!(service.stream("", None).await.0, StatusCode::SERVICE_UNAVAILABLE);
    for _ in 0..5 {
        service.clock.advance(15 * SECOND);
        unread(&mut read);
    }
    let (status, other) = service.stream("", None).await;
    assert_eq!(status, StatusCode::OK, "the stuck one has not been read for 75 s");
    assert!(stuck.next().await.is_none(), "it ends when it is read again");
    assert_eq!(service.stream("", None).await.0, StatusCode::SERVICE_UNAVAILABLE);
    drop(other);
    assert_eq!(service.stream("", None).await.0, StatusCode::OK, "a place is free as soon as a reader goes");
}

#[tokio::test]
async fn the_page_comes_with_headers_that_let_nothing_else_in() {
    let service = Service::new();
    let request = Request::get("/actuator/resile").body(Body::empty()).expect("a request");
    let answer = service.app.clone().oneshot(request).await.expect("an answer");
    let headers = answer.headers().clone();
    let policy = headers["content-security-policy"].to_str().expect("text").to_owned();
    for rule in
        ["default-src 'none'", "connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"]
    {
        assert!(policy.contains(rule), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(headers[name], value);
    }
    let page = to_bytes(answer.into_body(), usize::MAX).await.expect("a body");
    let page = std::str::from_utf8(&page).expect("text");
    println!("the page has {} bytes", page.len());
    assert!(page.len() < 60_000, "{} bytes", page.len());
    for outside in ["src=", "href=\"http", "@import", "url(", "innerHTML", "eval(", "localStorage", "document.cookie"] {
        assert!(!page.contains(outside), "{outside}");
    }
    for (begin, end, kind) in [("<script>", "</script>", "script"), ("<style>", "</style>", "style")] {
        let (_, rest) = page.split_once(begin).expect(begin);
        let hash = sha256(rest.split_once(end).expect(end).0);
        assert!(
            policy.contains(&format!("{kind}-src 'sha256-{hash}'")),
            "src/admin/page/{kind}.sha256 must hold {hash}"
        );
    }
}

fn sha256(text: &str) -> String {
    use base64::Engine;
    use sha2::Digest;
    base64::engine::general_purpose::STANDARD.encode(sha2::Sha256::digest(text))
}

#[tokio::test]
async fn the_page_is_told_settings_only_when_they_are_new() {
    let service = Service::new();
    let breaker = service.breaker("orders");
    fail(&breaker, 2);
    let (_, first) = service.get("/resile/snapshot").await;
    assert_eq!(first["instances"][0]["state"], "OPEN");
    assert_eq!(first["settings"]["cb/orders"][0], json!(["failureRateThreshold", "50 %"]));
    assert_eq!(first["events"][1]["to"], "OPEN");
    let next = format!("/resile/snapshot?since={}&revision={}", first["last"], first["revision"]);
    let (_, second) = service.get(&next).await;
    assert!(second.get("settings").is_none());
    assert_eq!(second["events"], json!([]));
    service.resilience.retries().get("orders");
    let (_, third) = service.get(&next).await;
    let news: Vec<_> = third["settings"].as_object().expect("a map").keys().collect();
    assert_eq!(news, ["retry/orders"]);
}

#[tokio::test]
async fn the_page_is_told_how_many_calls_went_through_every_kind() {
    let service = Service::new();
    let of = &service.resilience;
    let early = of.bulkheads().get("a");
    let router = admin::router(of, admin::Config::default()).expect("settings that can be");
    let (late, limiter) = (of.time_limiters().get("b"), service.limiter("c"));
    early.try_acquire().expect("admitted").finish();
    late.call(|| ready(Ok::<_, std::io::Error>(()))).await.expect("in time");
    limiter.try_acquire(1).expect("a permit");
    limiter.try_acquire(1).expect_err("refused");
    let request = Request::get("/resile/snapshot").body(Body::empty()).expect("a request");
    let answer = router.oneshot(request).await.expect("an answer");
    let body = to_bytes(answer.into_body(), usize::MAX).await.expect("a body");
    let snapshot: Value = serde_json::from_slice(&body).expect("JSON");
    let numbers = |kind: &str| {
        let all = snapshot["instances"].as_array().expect("a list");
        let one = all.iter().find(|one| one["kind"] == kind).expect(kind);
        one["numbers"].as_array().expect("numbers").iter().rev().take(3).rev().cloned().collect::<Vec<_>>()
    };
    assert_eq!(numbers("bulkhead"), [1, 0, 0]);
    assert_eq!(numbers("time"), [1, 0, 0]);
    assert_eq!(numbers("rate"), [1, 1, 0]);
}

#[tokio::test]
async fn five_hundred_instances_make_a_small_answer() {
    let service = Service::new();
    for number in 0..500 {
        fail(&service.breaker(&format!("dependency-{number:03}")), 1);
    }
    let size = |path: &'static str| {
        let app = service.app.clone();
        async move {
            let request = Request::get(path).body(Body::empty()).expect("a request");
            let answer = app.oneshot(request).await.expect("an answer");
            to_bytes(answer.into_body(), usize::MAX).await.expect("a body").len()
        }
    };
    let (first, next) = (size("/actuator/resile/snapshot").await, size("/actuator/resile/snapshot?revision=501").await);
    let (health, all) = (size("/actuator/health").await, size("/actuator/circuitbreakers").await);
    println!("500 breakers: snapshot {next} bytes, with settings {first}; health {health}, circuitbreakers {all}");
    assert!(next < 60_000, "{next} bytes");
}

#[test]
fn settings_that_cannot_be_are_refused_by_name_and_show_no_token() {
    let refused = |config: admin::Config| {
        let error = admin::router(&Resilience::new(), config).expect_err("refused");
        (error.field, error.to_string())
    };
    for token in ["", "short", "with a space in the middle", "with-ümlauts-in-the-middle"] {
        let (field, text) = refused(admin::Config::default().operator("alice", token));
        assert_eq!(field, "operator");
        assert!(token.is_empty() || !text.contains(token), "{text}");
    }
    assert_eq!(refused(admin::Config::default().operator(" ", TOKEN)).0, "operator");
    assert_eq!(refused(admin::Config::default().event_buffer_size(0)).0, "event_buffer_size");
    assert_eq!(refused(admin::Config::default().max_event_streams(0)).0, "max_event_streams");
    assert_eq!(refused(admin::Config::default().max_requests_per_second(0)).0, "max_requests_per_second");
    assert_eq!(refused(admin::Config::default().max_writes_per_second(0)).0, "max_writes_per_second");
    let shown = format!("{:?}", admin::Config::default().operator("alice", TOKEN));
    assert!(shown.contains("alice") && !shown.contains(TOKEN), "{shown}");
}

#[tokio::test]
async fn calls_go_on_as_before_while_somebody_watches() {
    let service = Service::new();
    let breaker = service.breaker("orders");
    let _reader = service.stream("", None).await;
    let answered = breaker.call(|| ready(Ok::<_, std::io::Error>(42))).await;
    assert_eq!(answered.expect("an answer"), 42);
}

#[tokio::test]
async fn a_service_with_a_health_of_its_own_leaves_these_out() {
    let router = admin::router(&Resilience::new(), admin::Config::default().serve_health(false)).unwrap();
    for (path, expected) in [("/health", 404), ("/health/liveness", 404), ("/circuitbreakers", 200)] {
        let request = Request::get(path).body(Body::empty()).expect("a request");
        let answer = router.clone().oneshot(request).await.expect("an answer");
        assert_eq!(answer.status(), expected, "{path}");
    }
}
