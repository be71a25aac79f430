//! The breakers as JSON.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use resile::CircuitBreaker;
use serde::Serialize;

use super::trouble;

/// A breaker as it is shown.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown {
    name: String,
    state: String,
    /// In percent; -1 below the minimum number of calls, as Resilience4j has it.
    failure_rate: f32,
    slow_call_rate: f32,
    buffered_calls: u32,
    failed_calls: u32,
    slow_calls: u32,
    not_permitted_calls: u64,
    /// In milliseconds, rounded up; only while it is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u128>,
}

impl Shown {
    pub(super) fn of(breaker: &CircuitBreaker) -> Self {
        let metrics = breaker.metrics();
        Self {
            name: breaker.name().to_owned(),
            state: metrics.state.to_string(),
            failure_rate: metrics.failure_rate.unwrap_or(-1.0),
            slow_call_rate: metrics.slow_call_rate.unwrap_or(-1.0),
            buffered_calls: metrics.buffered_calls,
            failed_calls: metrics.failed_calls,
            slow_calls: metrics.slow_calls,
            not_permitted_calls: metrics.not_permitted_calls,
            retry_after_ms: metrics.retry_after.map(|wait| wait.as_nanos().div_ceil(1_000_000)),
        }
    }
}

pub(super) fn routes(breakers: Arc<[CircuitBreaker]>) -> Router {
    Router::new().route("/circuit-breaker", get(all)).route("/circuit-breaker/{name}", get(named)).with_state(breakers)
}

async fn all(State(breakers): State<Arc<[CircuitBreaker]>>) -> Json<Vec<Shown>> {
    Json(breakers.iter().map(Shown::of).collect())
}

async fn named(State(breakers): State<Arc<[CircuitBreaker]>>, Path(name): Path<String>) -> Response {
    match breakers.iter().find(|breaker| breaker.name() == name) {
        Some(breaker) => Json(Shown::of(breaker)).into_response(),
        None => {
            let known: Vec<_> = breakers.iter().map(CircuitBreaker::name).collect();
            trouble(StatusCode::NOT_FOUND, format!("there is no such breaker; there are: {}", known.join(", ")))
        }
    }
}
