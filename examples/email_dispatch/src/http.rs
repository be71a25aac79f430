//! The service over HTTP: requests come in, and what became of them and how the service is can be asked.
//!
//! | | |
//! |---|---|
//! | `POST /emails` | accepts one request, or a list of them |
//! | `GET /emails/{id}` | what became of a request |
//! | `GET /circuit-breaker`, `GET /circuit-breaker/{name}` | the breakers |
//! | `GET /actuator/health`, `…/liveness`, `…/readiness` | how the service is, in the shape of Spring Boot |
//!
//! Nothing personal is in any answer.

mod breakers;
mod emails;
mod health;
mod serve;

use std::{fmt, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::DefaultBodyLimit,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use hyper_util::service::TowerToHyperService;
use resile::CircuitBreaker;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use self::health::{Check, Component, Condition, Health};
pub(crate) use self::serve::{Patience, connections};
use crate::{door::Door, request::Limits, store::Ledger};

/// What a client may ask of the service.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// How large a request may be.
    pub limits: Limits,
    /// How many requests a list may hold. Default: 500.
    pub list: usize,
    /// How large a list may be, in bytes. Default: 4 MiB.
    pub list_bytes: usize,
    /// How long the head of a request may take, and the body again; a connection may be idle for as long. Default: 30 s.
    pub read_time: Duration,
    /// How many connections there may be. More wait until one ends. Default: 512.
    pub connections: usize,
    /// How long requests under way may take after the end of serving has come. Default: 20 s, longer than the database
    /// may take.
    pub drain: Duration,
    /// After how long a client is to ask again when the database is away. Default: 5 s.
    pub retry_after: Duration,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            list: 500,
            list_bytes: 4 << 20,
            read_time: Duration::from_secs(30),
            connections: 512,
            drain: Duration::from_secs(20),
            retry_after: Duration::from_secs(5),
        }
    }
}

/// What is served.
#[derive(Clone, Debug)]
pub struct App {
    /// Where requests are accepted.
    pub door: Door,
    /// What knows what became of them.
    pub ledger: Ledger,
    /// The breakers to show.
    pub breakers: Vec<CircuitBreaker>,
    /// How the service is.
    pub health: Health,
    /// What a client may ask.
    pub settings: HttpSettings,
    /// Further routes, such as `/metrics`. They must not be one of the paths above, nor have a fallback of their own.
    pub extra: Router,
}

/// Serves until `stop`. Then no more connections are accepted, requests under way are answered, and it returns.
///
/// # Panics
/// When `extra` has a route that there is already.
///
/// # Cancel safety
/// Dropping the future leaves the connections to themselves until they end or `stop` comes.
pub async fn serve(listener: TcpListener, app: App, stop: CancellationToken) {
    let HttpSettings { connections: most, read_time, drain, .. } = app.settings;
    let patience = Patience { connections: most, head: read_time, drain };
    connections(listener, TowerToHyperService::new(router(app)), patience, stop).await;
}

fn router(app: App) -> Router {
    let largest = app.settings.limits.request.max(app.settings.list_bytes);
    let emails = Router::new()
        .route("/emails", post(emails::post))
        .route("/emails/{id}", get(emails::status))
        .layer(DefaultBodyLimit::max(largest))
        .with_state(emails::Emails { door: app.door, ledger: app.ledger, settings: Arc::new(app.settings) });
    let breakers: Arc<[CircuitBreaker]> = app.breakers.into();
    Router::new()
        .merge(emails)
        .merge(breakers::routes(Arc::clone(&breakers)))
        .merge(health::routes(app.health.and(Check::circuit_breakers(breakers))))
        .merge(app.extra)
        .fallback(async || trouble(StatusCode::NOT_FOUND, "there is nothing at this path"))
        .method_not_allowed_fallback(async || trouble(StatusCode::METHOD_NOT_ALLOWED, "this path has other methods"))
}

/// An answer that says what is wrong, in words without anything personal.
fn trouble(status: StatusCode, error: impl fmt::Display) -> Response {
    (status, Json(json!({ "error": error.to_string() }))).into_response()
}

/// The same, after which the connection ends: what was sent on it has not all been read.
fn closing(mut answer: Response) -> Response {
    answer.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    answer
}
