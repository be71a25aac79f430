//! The service over HTTP, asked through real connections.

use std::time::Duration;

use email_dispatch::{
    counters::Counters,
    door::Door,
    http::{App, Check, Component, Health, HttpSettings, serve},
    kafka::publisher::Waker,
    personal::Keys,
    record::Topic,
    request::{Intake, Kind, Limits, Priority},
    settings::LogFormat,
    store::{Claimed, Facts, Finish, Ledger, LedgerSettings, OutboxRow, Store, Written},
    template::Templates,
    web_client,
};
use reqwest::{Client, Method, Url};
use resile::{CircuitBreaker, circuit_breaker};
use serde_json::{Value, json};
use sqlx::Executor;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    database::{TestDatabase, impatient},
    log::Log,
};

const ID: &str = "c2b0f5de-9d9c-4a5c-8a56-0a2b0e6b1f11";
const OTHER: &str = "0a3f1d59-6a77-4f5b-9d0f-3f1f5b1d7c02";
const FACTS: Facts = Facts { kind: Kind::Notification, priority: Priority::Normal };

/// The service on a free port, with a database of its own.
struct Served {
    address: String,
    client: Client,
    database: TestDatabase,
    store: Store,
    ledger: Ledger,
    keys: Keys,
    publisher: Waker,
    shutting_down: CancellationToken,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

struct Answer {
    status: u16,
    text: String,
    json: Value,
    retry_after: Option<String>,
}

async fn served() -> Served {
    served_with(|_| ()).await
}

async fn served_with(change: impl FnOnce(&mut App)) -> Served {
    let database = TestDatabase::sqlite().await.unwrap();
    let store = database.store_with(impatient()).await.unwrap();
    let ledger = store.ledger(LedgerSettings::default());
    let (keys, publisher) = (Keys::random(), Waker::default());
    let intake = Intake::new(keys.clone(), Templates::embedded(), Limits::default());
    let door = Door::new(
        intake,
        keys.clone(),
        store.outbox(),
        database.clock.clone(),
        publisher.clone(),
        Counters::new("primary-smtp"),
    );
    let (stop, shutting_down) = (CancellationToken::new(), CancellationToken::new());
    let mut app = App {
        door,
        ledger: ledger.clone(),
        breakers: vec![CircuitBreaker::with_defaults("primary-smtp"), CircuitBreaker::with_defaults("sms-gateway")],
        health: Health::new(vec![Check::database(store.clone())], shutting_down.clone()),
        settings: HttpSettings::default(),
        extra: axum::Router::new(),
    };
    change(&mut app);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let client = web_client::for_url(&Url::parse(&format!("http://{address}")).unwrap()).build().unwrap();
    let serving = tokio::spawn(serve(listener, app, stop.clone()));
    Served { address, client, database, store, ledger, keys, publisher, shutting_down, stop, serving }
}

impl Served {
    async fn ask(&self, method: Method, path: &str, kind: Option<&str>, body: String) -> Answer {
        let mut request = self.client.request(method, format!("http://{}{path}", self.address)).body(body);
        if let Some(kind) = kind {
            request = request.header("Content-Type", kind);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let retry_after = answer.headers().get("Retry-After").map(|wait| wait.to_str().unwrap().to_owned());
        let text = answer.text().await.unwrap();
        let json = serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {status} {text}"));
        Answer { status, text, json, retry_after }
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, None, String::new()).await
    }

    async fn post(&self, body: Value) -> Answer {
        self.ask(Method::POST, "/emails", Some("application/json"), body.to_string()).await
    }

    async fn outbox(&self) -> Vec<OutboxRow> {
        self.store.outbox().next(1_000).await.unwrap()
    }

    /// A connection on which every octet is the test's.
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.address).await.unwrap()
    }
}

impl Answer {
    /// The fields that are named as faulty.
    fn faulty(&self) -> Vec<String> {
        let faults = self.json["faults"].as_array().unwrap();
        faults.iter().map(|fault| fault["field"].as_str().unwrap().to_owned()).collect()
    }
}

fn request(fields: Value) -> Value {
    let mut json = json!({ "id": ID, "to": "ada@example.com", "subject": "Hello", "content": "Hello Ada" });
    json.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    json
}

#[tokio::test]
async fn a_request_is_accepted_into_the_outbox_and_the_publisher_woken() {
    let served = served().await;
    let answer = served.post(request(json!({ "priority": "HIGH" }))).await;
    assert_eq!((answer.status, answer.json), (202, json!({ "id": ID, "status": "ACCEPTED" })));
    let outbox = served.outbox().await;
    let record = &outbox[0].record;
    assert_eq!((outbox.len(), record.topic), (1, Topic::High));
    assert_eq!(record.key, Some(served.keys.pseudonym("ada@example.com")));
    assert!(!String::from_utf8_lossy(&record.payload).contains("example.com"));
    timeout(Duration::from_secs(5), served.publisher.woken()).await.unwrap();
}

#[tokio::test]
async fn a_request_without_an_id_is_given_one_it_can_be_asked_by() {
    let served = served().await;
    let id = served.post(request(json!({ "id": null }))).await.json["id"].as_str().unwrap().to_owned();
    let answer = served.get(&format!("/emails/{id}")).await;
    assert_eq!((answer.status, answer.json["status"].as_str()), (200, Some("PENDING")));
}

#[tokio::test]
async fn the_same_id_twice_is_accepted_once_and_then_known_by_its_status() {
    let served = served().await;
    served.post(request(json!({}))).await;
    let again = served.post(request(json!({ "subject": "Hello again" }))).await;
    assert_eq!((again.status, again.json), (200, json!({ "id": ID, "status": "PENDING" })));

    let Claimed::Yes(claim) = served.ledger.claim(ID.parse().unwrap(), FACTS, 0).await.unwrap() else { panic!("held") };
    assert_eq!(served.ledger.hand_over(&claim).await.unwrap(), Written::Yes);
    assert_eq!(served.ledger.sent(&claim, "primary-smtp").await.unwrap(), Written::Yes);
    let again = served.post(request(json!({}))).await;
    assert_eq!((again.status, again.json), (200, json!({ "id": ID, "status": "SENT" })));
    assert_eq!(served.outbox().await.len(), 1);
}

#[tokio::test]
async fn the_same_id_by_many_at_once_is_accepted_once() {
    let served = served().await;
    let answers = futures::future::join_all((0..20).map(|_| served.post(request(json!({}))))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 202).count(), 1);
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 19);
    assert_eq!(served.outbox().await.len(), 1);
}

#[tokio::test]
async fn a_list_is_answered_in_its_order() {
    let served = served().await;
    served.post(request(json!({}))).await;
    let phone_only = request(json!({ "id": OTHER, "to": null, "phone": "+491701234567" }));
    let answer = served.post(json!([phone_only, request(json!({})), phone_only])).await;
    let expected = json!([
        { "id": OTHER, "status": "ACCEPTED" },
        { "id": ID, "status": "PENDING" },
        { "id": OTHER, "status": "PENDING" }
    ]);
    assert_eq!((answer.status, answer.json), (202, expected));
    assert_eq!(served.outbox().await[1].record.topic, Topic::Sms);
    assert_eq!(served.post(json!([request(json!({}))])).await.status, 200);
}

#[tokio::test]
async fn of_a_list_with_a_fault_nothing_is_accepted_and_each_fault_says_where() {
    let served = served().await;
    let answer = served
        .post(json!([request(json!({})), request(json!({ "id": OTHER, "kind": "SPAM", "priority": 1 })), 7]))
        .await;
    let expected = json!({ "faults": [
        { "index": 1, "field": "kind", "value": "SPAM", "rule": "must be TRANSACTIONAL, MARKETING or NOTIFICATION" },
        { "index": 1, "field": "priority", "value": "1", "rule": "must be HIGH, NORMAL or LOW" },
        { "index": 2, "field": "request", "value": "7", "rule": "must be a JSON object" }
    ] });
    assert_eq!((answer.status, answer.json), (400, expected));
    assert!(served.outbox().await.is_empty());
}

#[tokio::test]
async fn a_list_has_at_least_one_request_and_no_more_than_the_setting() {
    let served = served_with(|app| app.settings.list = 2).await;
    let requests = |count| Value::Array((0..count).map(|_| request(json!({ "id": Uuid::new_v4() }))).collect());
    for count in [0, 3] {
        let answer = served.post(requests(count)).await;
        let fault = &answer.json["faults"][0];
        assert_eq!((answer.status, fault["rule"].as_str()), (400, Some("must be 1 to 2 requests")));
        assert_eq!(fault["value"], format!("{count} requests"));
    }
    assert_eq!(served.post(requests(2)).await.status, 202);
}

#[tokio::test]
async fn all_faults_are_named_at_once() {
    let served = served().await;
    let answer = served
        .post(json!({ "id": "7", "to": "ada@", "phone": "12", "subject": 5, "content": "x", "kind": "SPAM",
            "priority": 1, "contentType": "RTF", "timestamp": "yesterday", "attachments": [{ "name": "a/b" }] }))
        .await;
    assert_eq!(answer.status, 400);
    assert_eq!(
        answer.faulty(),
        [
            "id",
            "to",
            "phone",
            "subject",
            "contentType",
            "attachments[0].name",
            "attachments[0].type",
            "attachments[0].data",
            "kind",
            "priority",
            "timestamp"
        ]
    );
    assert_eq!(answer.json["faults"][6].get("value"), None);
}

#[tokio::test]
async fn what_is_no_json_is_a_fault() {
    let served = served().await;
    for body in ["", "{", "[{]", "to=ada@example.com", "\u{0}"] {
        let answer = served.ask(Method::POST, "/emails", Some("application/json"), body.to_owned()).await;
        assert_eq!((answer.status, answer.faulty()), (400, vec!["request".to_owned()]), "{body}");
        assert!(answer.json["faults"][0]["rule"].as_str().unwrap().starts_with("must be JSON: "), "{}", answer.text);
    }
}

#[tokio::test]
async fn a_body_that_is_said_to_be_something_else_is_refused() {
    let served = served().await;
    for kind in ["text/plain", "application/x-www-form-urlencoded", "image/svg+json"] {
        let answer = served.ask(Method::POST, "/emails", Some(kind), request(json!({})).to_string()).await;
        let fault = json!({ "field": "Content-Type", "value": kind, "rule": "must be application/json" });
        assert_eq!((answer.status, &answer.json["faults"][0]), (415, &fault));
    }
    for kind in [Some("application/json; charset=utf-8"), Some("Application/Problem+JSON"), None] {
        let body = request(json!({ "id": null })).to_string();
        assert_eq!(served.ask(Method::POST, "/emails", kind, body).await.status, 202, "{kind:?}");
    }
}

#[tokio::test]
async fn a_request_that_is_too_large_is_refused_as_such() {
    let small = Limits { request: 1_000, ..Limits::default() };
    let change = |app: &mut App| {
        app.settings.limits = small;
        app.settings.list_bytes = 2_000;
    };
    let served = served_with(change).await;
    let of_length = |length: usize| {
        let empty = request(json!({ "content": "" })).to_string().len();
        request(json!({ "content": "x".repeat(length - empty) }))
    };
    for body in [of_length(1_001), of_length(5_000), json!([of_length(1_000), of_length(1_000)])] {
        let answer = served.post(body).await;
        assert_eq!((answer.status, answer.faulty()), (413, vec!["request".to_owned()]));
    }
    assert_eq!(served.post(of_length(1_000)).await.status, 202);
    assert_eq!(served.post(json!([of_length(1_998)])).await.status, 200);
}

#[tokio::test]
async fn what_became_of_a_request_can_be_asked() {
    let served = served().await;
    served.post(request(json!({ "kind": "TRANSACTIONAL" }))).await;
    let row = served.get(&format!("/emails/{ID}")).await;
    let expected = json!({ "id": ID, "kind": "TRANSACTIONAL", "priority": "NORMAL", "status": "PENDING",
        "inDoubt": false, "attempts": 0, "provider": null, "reason": null, "changedAt": "1970-01-01T00:16:40Z" });
    assert_eq!((row.status, row.json), (200, expected));

    let Claimed::Yes(claim) = served.ledger.claim(ID.parse().unwrap(), FACTS, 0).await.unwrap() else { panic!("held") };
    assert_eq!(served.ledger.hand_over(&claim).await.unwrap(), Written::Yes);
    let row = served.get(&format!("/emails/{ID}")).await.json;
    assert_eq!((&row["status"], &row["inDoubt"], &row["attempts"]), (&json!("SENT"), &json!(true), &json!(1)));
    assert_eq!(served.ledger.sent(&claim, "primary-smtp").await.unwrap(), Written::Yes);
    let row = served.get(&format!("/emails/{ID}")).await.json;
    assert_eq!((&row["inDoubt"], &row["provider"]), (&json!(false), &json!("primary-smtp")));
}

#[tokio::test]
async fn a_reason_comes_back_masked() {
    let served = served().await;
    served.post(request(json!({}))).await;
    let Claimed::Yes(claim) = served.ledger.claim(ID.parse().unwrap(), FACTS, 0).await.unwrap() else { panic!("held") };
    let failed = Finish::Failed { reason: "550 no ada@example.com here".to_owned() };
    assert_eq!(served.ledger.finish(&claim, failed, Vec::new()).await.unwrap(), Written::Yes);
    let row = served.get(&format!("/emails/{ID}")).await.json;
    assert_eq!((&row["status"], &row["reason"]), (&json!("FAILED"), &json!("550 no a***@e***.com here")));
}

#[tokio::test]
async fn a_request_that_nobody_knows_is_not_found() {
    let served = served().await;
    assert_eq!(served.get(&format!("/emails/{ID}")).await.status, 404);
    let answer = served.get("/emails/ada@example.com").await;
    assert_eq!((answer.status, answer.faulty()), (400, vec!["id".to_owned()]));
    assert!(!answer.text.contains("ada"), "{}", answer.text);
}

#[tokio::test]
async fn while_the_database_is_locked_a_client_is_asked_to_come_again_and_nothing_is_lost() {
    let served = served().await;
    let mut stranger = served.database.stranger().await;
    stranger.execute("BEGIN IMMEDIATE").await.unwrap();
    let two = json!([request(json!({})), request(json!({ "id": null }))]);
    let away = served.post(two).await;
    assert_eq!((away.status, away.retry_after.as_deref()), (503, Some("5")));
    let ids = away.json["ids"].as_array().unwrap().clone();
    assert_eq!((ids.len(), &ids[0]), (2, &json!(ID)));

    stranger.execute("ROLLBACK").await.unwrap();
    assert!(served.outbox().await.is_empty());
    let again = json!([request(json!({})), request(json!({ "id": ids[1] }))]);
    let answer = served.post(again).await;
    assert_eq!((answer.status, &answer.json[1]["id"]), (202, &ids[1]));
    assert_eq!(served.outbox().await.len(), 2);
}

#[tokio::test]
async fn without_a_database_a_status_is_to_be_asked_for_again() {
    let served = served().await;
    served.store.close().await;
    let answer = served.get(&format!("/emails/{ID}")).await;
    assert_eq!((answer.status, answer.retry_after.as_deref()), (503, Some("5")));
}

#[tokio::test]
async fn a_database_that_will_not_change_its_mind_is_not_to_be_asked_again() {
    let served = served().await;
    served.database.stranger().await.execute("ALTER TABLE outbox RENAME TO elsewhere").await.unwrap();
    let answer = served.post(request(json!({}))).await;
    assert_eq!((answer.status, answer.retry_after), (500, None));
    assert_eq!(answer.json, json!({ "error": "the database refused", "ids": [ID] }));
}

#[tokio::test]
async fn nothing_personal_comes_back_or_is_logged() {
    let log = Log::default();
    let _listening = log.listen(LogFormat::Text, "trace");

    let served = served().await;
    let personal = json!({ "phone": "+49 170 1234567", "subject": "For Ada Lovelace", "content": "code Q7-XKCD" });
    let mut said = String::new();
    let mut faulty = personal.clone();
    faulty["id"] = json!("ada@example.com");
    faulty["kind"] = json!("+491701234567");
    faulty["template"] = json!("ada@example.com");
    for fields in [personal.clone(), personal.clone(), faulty, json!({ "to": "ada@exam ple.com" })] {
        said += &served.post(request(fields)).await.text;
    }
    let kind = Some("text/ada@example.com");
    said += &served.ask(Method::POST, "/emails", kind, String::new()).await.text;
    said += &served.get("/nowhere/ada@example.com").await.text;
    said += &served.get("/circuit-breaker/ada@example.com").await.text;
    let mut stranger = served.database.stranger().await;
    stranger.execute("BEGIN IMMEDIATE").await.unwrap();
    said += &served.post(request(json!({ "id": OTHER, "phone": "+49 170 1234567" }))).await.text;

    let logged = log.text();
    assert!(logged.contains("a client has to ask again"), "{logged}");
    for secret in ["ada@", "@example.com", "1701234567", "170 1234567", "Lovelace", "XKCD"] {
        assert!(!said.contains(secret), "{secret} in {said}");
        assert!(!logged.contains(secret), "{secret} in {logged}");
    }
}

#[tokio::test]
async fn a_breaker_shows_its_numbers() {
    let config = circuit_breaker::Config::default().sliding_window_size(2).minimum_number_of_calls(2);
    let breaker = CircuitBreaker::new("primary-smtp", config).unwrap();
    let shown = breaker.clone();
    let served = served_with(|app| app.breakers = vec![shown, CircuitBreaker::with_defaults("sms-gateway")]).await;
    let closed = json!({ "name": "primary-smtp", "state": "CLOSED", "failureRate": -1.0, "slowCallRate": -1.0,
        "bufferedCalls": 0, "failedCalls": 0, "slowCalls": 0, "notPermittedCalls": 0 });
    let answer = served.get("/circuit-breaker/primary-smtp").await;
    assert_eq!((answer.status, answer.json), (200, closed));

    for _ in 0..2 {
        breaker.try_acquire().unwrap().failure();
    }
    assert!(breaker.try_acquire().is_err());
    let open = served.get("/circuit-breaker/primary-smtp").await.json;
    assert_eq!((&open["state"], &open["failureRate"]), (&json!("OPEN"), &json!(100.0)));
    assert_eq!((&open["failedCalls"], &open["notPermittedCalls"]), (&json!(2), &json!(1)));
    let wait = open["retryAfterMs"].as_u64().unwrap();
    assert!((1..=60_001).contains(&wait), "{wait}");

    let all = served.get("/circuit-breaker").await.json;
    let names: Vec<_> = all.as_array().unwrap().iter().map(|breaker| breaker["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["primary-smtp", "sms-gateway"]);
}

#[tokio::test]
async fn an_unknown_breaker_is_answered_with_the_known_ones() {
    let answer = served().await.get("/circuit-breaker/smtp").await;
    let error = "there is no such breaker; there are: primary-smtp, sms-gateway";
    assert_eq!((answer.status, answer.json), (404, json!({ "error": error })));
}

#[tokio::test]
async fn a_healthy_service_is_up_in_each_part() {
    let kafka = || async { Component::up().with("brokers", 3) };
    let served = served_with(|app| {
        let checks = vec![Check::new("kafka", kafka)];
        app.health = Health::new(checks, CancellationToken::new());
    })
    .await;
    let health = served.get("/actuator/health").await;
    assert_eq!((health.status, &health.json["status"]), (200, &json!("UP")));
    let components = &health.json["components"];
    assert_eq!(components["kafka"], json!({ "status": "UP", "details": { "brokers": 3 } }));
    assert_eq!(components["circuitBreakers"]["details"]["sms-gateway"]["details"]["state"], "CLOSED");
    assert_eq!(components["readinessState"], json!({ "status": "UP" }));
}

#[tokio::test]
async fn without_its_database_a_service_is_alive_and_not_ready() {
    let served = served().await;
    assert_eq!(served.get("/actuator/health/readiness").await.json["components"]["db"], json!({ "status": "UP" }));
    served.store.close().await;
    for path in ["/actuator/health", "/actuator/health/readiness"] {
        let health = served.get(path).await;
        assert_eq!((health.status, &health.json["status"]), (503, &json!("DOWN")), "{path}");
        assert_eq!(health.json["components"]["db"]["status"], "DOWN");
        assert!(health.json["components"]["db"]["details"]["error"].is_string());
    }
    let alive = served.get("/actuator/health/liveness").await;
    let expected = json!({ "status": "UP", "components": { "livenessState": { "status": "UP" } } });
    assert_eq!((alive.status, alive.json), (200, expected));
}

#[tokio::test]
async fn a_part_that_is_not_needed_is_down_and_the_service_ready() {
    let served = served_with(|app| {
        app.health =
            Health::new(vec![Check::new("kafka", || async { Component::down("no broker") })], CancellationToken::new());
    })
    .await;
    let health = served.get("/actuator/health").await;
    assert_eq!((health.status, &health.json["status"]), (503, &json!("DOWN")));
    assert_eq!(health.json["components"]["kafka"]["details"]["error"], "no broker");
    assert_eq!(served.get("/actuator/health/readiness").await.status, 200);
}

#[tokio::test]
async fn a_check_that_does_not_end_is_down() {
    let served = served_with(|app| {
        let hangs = Check::new("kafka", std::future::pending).needed();
        let health = Health::new(vec![hangs], CancellationToken::new());
        app.health = health.time_limit(Duration::from_millis(10));
    })
    .await;
    let health = served.get("/actuator/health/readiness").await;
    assert_eq!(health.status, 503);
    assert_eq!(health.json["components"]["kafka"]["details"]["error"], "no answer within 10ms");
}

#[tokio::test]
async fn an_open_breaker_is_shown_and_the_service_ready() {
    let breaker = CircuitBreaker::with_defaults("primary-smtp");
    breaker.transition_to_open().unwrap();
    let served = served_with(|app| app.breakers = vec![breaker]).await;
    let health = served.get("/actuator/health").await;
    assert_eq!(health.status, 200);
    assert_eq!(health.json["components"]["circuitBreakers"]["details"]["primary-smtp"]["status"], "CIRCUIT_OPEN");
    assert_eq!(served.get("/actuator/health/readiness").await.status, 200);
}

#[tokio::test]
async fn a_service_that_shuts_down_is_not_ready() {
    let served = served().await;
    served.shutting_down.cancel();
    let ready = served.get("/actuator/health/readiness").await;
    assert_eq!((ready.status, &ready.json["status"]), (503, &json!("OUT_OF_SERVICE")));
    assert_eq!(served.get("/actuator/health/liveness").await.status, 200);
}

#[tokio::test]
async fn a_path_or_a_method_that_there_is_not_is_answered_in_json() {
    let served = served().await;
    assert_eq!(served.get("/nowhere").await.status, 404);
    assert_eq!(served.get("/emails").await.status, 405);
    assert_eq!(served.ask(Method::DELETE, "/circuit-breaker", None, String::new()).await.status, 405);
}

#[tokio::test]
async fn further_routes_are_served_beside_its_own() {
    let metrics = axum::Router::new().route("/metrics", axum::routing::get(async || "\"emails_processed_total\""));
    let served = served_with(|app| app.extra = metrics).await;
    assert_eq!(served.get("/metrics").await.json, "emails_processed_total");
    assert_eq!(served.get("/circuit-breaker").await.status, 200);
}

const HEAD: &str = "POST /emails HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";

async fn read_to_end(connection: &mut TcpStream) -> String {
    let mut read = Vec::new();
    // An error is an end as well.
    let _ = timeout(Duration::from_secs(10), connection.read_to_end(&mut read)).await.expect("an end");
    String::from_utf8(read).unwrap()
}

#[tokio::test]
async fn a_body_that_comes_too_slowly_is_not_waited_for() {
    let served = served_with(|app| app.settings.read_time = Duration::from_millis(50)).await;
    let mut connection = served.connect().await;
    connection.write_all(format!("{HEAD}Content-Length: 100\r\n\r\n{{").as_bytes()).await.unwrap();
    let answer = read_to_end(&mut connection).await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("connection: close"), "{answer}");
}

#[tokio::test]
async fn a_head_that_comes_too_slowly_is_not_waited_for() {
    let served = served_with(|app| app.settings.read_time = Duration::from_millis(50)).await;
    let mut connection = served.connect().await;
    connection.write_all(HEAD.as_bytes()).await.unwrap();
    let answer = read_to_end(&mut connection).await;
    assert!(!answer.contains("HTTP/1.1 2"), "{answer}");
}

#[tokio::test]
async fn a_connection_too_many_waits_until_another_ends() {
    let served = served_with(|app| app.settings.connections = 1).await;
    let mut first = served.connect().await;
    first.write_all(b"GET /circuit-breaker/smtp HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut octet = [0];
    first.read_exact(&mut octet).await.unwrap();
    let second = served.get("/circuit-breaker");
    tokio::pin!(second);
    assert!(timeout(Duration::from_millis(50), &mut second).await.is_err());
    drop(first);
    assert_eq!(timeout(Duration::from_secs(10), second).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_request_under_way_is_answered_before_serving_ends() {
    let served = served().await;
    let body = request(json!({})).to_string();
    let mut connection = served.connect().await;
    let head = format!("{HEAD}Content-Length: {}\r\nExpect: 100-continue\r\n\r\n", body.len());
    connection.write_all(head.as_bytes()).await.unwrap();
    // It is said when the body is wanted.
    let mut go_on = [0; 25];
    connection.read_exact(&mut go_on).await.unwrap();
    assert!(go_on.starts_with(b"HTTP/1.1 100"));

    served.stop.cancel();
    connection.write_all(body.as_bytes()).await.unwrap();
    let answer = read_to_end(&mut connection).await;
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    timeout(Duration::from_secs(10), served.serving).await.unwrap().unwrap();
    assert!(TcpStream::connect(&served.address).await.is_err());
}

#[tokio::test]
async fn an_idle_connection_does_not_hold_the_end_of_serving_up() {
    let served = served().await;
    served.get("/circuit-breaker").await;
    served.stop.cancel();
    timeout(Duration::from_secs(10), served.serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_request_that_does_not_end_holds_the_end_of_serving_up_for_so_long_and_no_longer() {
    let served = served_with(|app| app.settings.drain = Duration::from_millis(50)).await;
    let mut connection = served.connect().await;
    connection.write_all(format!("{HEAD}Content-Length: 9\r\nExpect: 100-continue\r\n\r\n").as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    connection.read_exact(&mut go_on).await.unwrap();
    served.stop.cancel();
    timeout(Duration::from_secs(10), served.serving).await.unwrap().unwrap();
}
