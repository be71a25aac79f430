//! The service over HTTP: requests come in, and people and orchestrators look at it.
//!
//! | route | answer |
//! |---|---|
//! | `POST /emails` | 202 and the request's id, 200 where it is known already, 400 with every fault, 503 without a database |
//! | `GET /emails/{id}` | what became of it |
//! | `GET /actuator/health`, `…/liveness`, `…/readiness` | 200 UP or 503 DOWN, and why |
//! | `GET /circuit-breaker/{name}` | a breaker's state and what it counts |
//! | `GET /metrics` | for Prometheus |

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, State},
    http::{StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use metrics_exporter_prometheus::PrometheusHandle;
use resile::CircuitBreaker;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    personal::Keys,
    record::{Headers, Record, Topic},
    request::{EmailRequest, Intake, Origin},
    store::{self, Accepted, Facts, Ledger, Outbox, Store, StoreError},
    wall_clock::WallClock,
};

/// What the routes need.
#[derive(Clone)]
pub struct Api {
    /// Reads requests.
    pub intake: Intake,
    /// Makes the keys of records.
    pub keys: Keys,
    /// The database.
    pub store: Store,
    /// What became of each request.
    pub ledger: Ledger,
    /// Where requests wait to be published.
    pub outbox: Outbox,
    /// Told that something waits there.
    pub wake: Arc<tokio::sync::Notify>,
    /// Everything that may be open.
    pub breakers: Arc<Vec<CircuitBreaker>>,
    /// Whether the consumer runs.
    pub is_consuming: Arc<dyn Fn() -> bool + Send + Sync>,
    /// What was counted.
    pub metrics: PrometheusHandle,
    /// The time of day.
    pub clock: WallClock,
}

/// The routes.
pub fn routes(api: Api) -> Router {
    Router::new()
        .route("/emails", post(accept))
        .route("/emails/{id}", get(find))
        .route("/actuator/health", get(health))
        .route("/actuator/health/liveness", get(|| async { Json(json!({ "status": "UP" })) }))
        .route("/actuator/health/readiness", get(readiness))
        .route("/circuit-breaker/{name}", get(breaker))
        .route("/metrics", get(|State(api): State<Api>| async move { api.metrics.render() }))
        .layer(DefaultBodyLimit::max(1_000_000))
        .with_state(api)
}

/// A request on its way to its topic.
///
/// # Errors
/// When its address was not encrypted with one of the keys, which a request that came through the door was.
pub fn to_intake(request: &EmailRequest, keys: &Keys) -> Result<store::Intake, crate::personal::Unreadable> {
    Ok(store::Intake {
        id: request.id,
        facts: Facts { kind: request.kind, priority: request.priority },
        record: Record {
            topic: Topic::of(request),
            key: request.record_key(keys)?,
            payload: serde_json::to_vec(request).expect("a request is plain data"),
            headers: Headers::default(),
        },
    })
}

async fn accept(State(api): State<Api>, body: Bytes) -> Response {
    let request = match api.intake.parse(&body, Origin::Http, api.clock.now_ms()) {
        Ok(request) => request,
        Err(faults) => return bad_request(faults.id, json!(faults.faults)),
    };
    let intake = match to_intake(&request, &api.keys) {
        Ok(intake) => intake,
        Err(why) => return bad_request(Some(request.id), json!([{ "field": "to", "rule": why.to_string() }])),
    };
    match api.outbox.accept(vec![intake]).await.map(|accepted| accepted.into_iter().next()) {
        Ok(Some(Accepted::Known(status))) => {
            (StatusCode::OK, Json(json!({ "id": request.id, "status": status.name() }))).into_response()
        }
        Ok(_) => {
            api.wake.notify_one();
            (StatusCode::ACCEPTED, Json(json!({ "id": request.id, "status": "PENDING" }))).into_response()
        }
        Err(why) => no_database(&why),
    }
}

fn bad_request(id: Option<Uuid>, faults: Value) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({ "id": id, "faults": faults }))).into_response()
}

fn no_database(why: &StoreError) -> Response {
    tracing::warn!("not accepted: {why}");
    let body = Json(json!({ "error": "the database does not answer; nothing was accepted, ask again" }));
    (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], body).into_response()
}

async fn find(State(api): State<Api>, Path(id): Path<Uuid>) -> Response {
    match api.ledger.find(id).await {
        Ok(Some(row)) => Json(json!({
            "id": id, "status": row.status.name(), "provider": row.provider, "reason": row.reason,
        }))
        .into_response(),
        Ok(None) => (StatusCode::NOT_FOUND, Json(json!({ "error": "no such request" }))).into_response(),
        Err(why) => no_database(&why),
    }
}

async fn health(State(api): State<Api>) -> Response {
    let (is_ready, mut components) = components(&api).await;
    let breakers = api.breakers.iter().map(|breaker| (breaker.name().to_owned(), json!(breaker.state().to_string())));
    components["circuitBreakers"] = json!({ "details": breakers.collect::<serde_json::Map<_, _>>() });
    answer(is_ready, &components)
}

async fn readiness(State(api): State<Api>) -> Response {
    let (is_ready, components) = components(&api).await;
    answer(is_ready, &components)
}

/// An open breaker is no reason to be taken out of service: requests are still accepted, and wait.
async fn components(api: &Api) -> (bool, Value) {
    let database = matches!(tokio::time::timeout(Duration::from_secs(2), api.store.ping()).await, Ok(Ok(())));
    let consumer = (api.is_consuming)();
    let up = |is_up| json!({ "status": if is_up { "UP" } else { "DOWN" } });
    (database && consumer, json!({ "database": up(database), "consumer": up(consumer) }))
}

fn answer(is_up: bool, components: &Value) -> Response {
    let (code, status) = if is_up { (StatusCode::OK, "UP") } else { (StatusCode::SERVICE_UNAVAILABLE, "DOWN") };
    (code, Json(json!({ "status": status, "components": components }))).into_response()
}

async fn breaker(State(api): State<Api>, Path(name): Path<String>) -> Response {
    let Some(breaker) = api.breakers.iter().find(|breaker| breaker.name() == name) else {
        let names: Vec<_> = api.breakers.iter().map(CircuitBreaker::name).collect();
        return (StatusCode::NOT_FOUND, Json(json!({ "error": "no such breaker", "names": names }))).into_response();
    };
    let metrics = breaker.metrics();
    Json(json!({
        "name": name,
        "state": metrics.state.to_string(),
        "failureRate": metrics.failure_rate,
        "slowCallRate": metrics.slow_call_rate,
        "bufferedCalls": metrics.buffered_calls,
        "failedCalls": metrics.failed_calls,
        "slowCalls": metrics.slow_calls,
        "notPermittedCalls": metrics.not_permitted_calls,
    }))
    .into_response()
}
