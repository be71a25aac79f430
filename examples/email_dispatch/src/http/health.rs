//! How the service is, in the shape of Spring Boot's actuator.
//!
//! Ready is a service that can accept requests, and for that it needs the database and nothing else: while Kafka is away
//! or a breaker is open, requests wait in the outbox.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use futures::{FutureExt, future::BoxFuture, future::join_all};
use resile::{CircuitBreaker, circuit_breaker};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::breakers::Shown;
use crate::store::Store;

/// Whether something works. The worst of several is that of all, which is the order here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Condition {
    /// Nobody knows.
    Unknown,
    /// It works.
    Up,
    /// It works, and is not to be used.
    OutOfService,
    /// It does not work.
    Down,
}

/// How one part is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Component {
    /// Whether it works.
    pub status: Condition,
    /// What else there is to say, without anything personal.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub details: Map<String, Value>,
}

impl Component {
    /// A part in that condition.
    #[must_use]
    pub fn new(status: Condition) -> Self {
        Self { status, details: Map::new() }
    }

    /// One that works.
    #[must_use]
    pub fn up() -> Self {
        Self::new(Condition::Up)
    }

    /// One that does not, and why.
    #[must_use]
    pub fn down(error: impl fmt::Display) -> Self {
        Self::new(Condition::Down).with("error", error.to_string())
    }

    /// The same, with one more detail.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }
}

/// Looks at one part of the service.
#[derive(Clone)]
pub struct Check {
    name: String,
    is_needed: bool,
    look: Arc<dyn Fn() -> BoxFuture<'static, Component> + Send + Sync>,
}

impl Check {
    /// A part without which requests can still be accepted.
    pub fn new<F>(name: &str, look: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Component> + Send + 'static,
    {
        Self { name: name.to_owned(), is_needed: false, look: Arc::new(move || look().boxed()) }
    }

    /// The same, without which no request can be accepted: the service is ready only while it is up.
    #[must_use]
    pub fn needed(self) -> Self {
        Self { is_needed: true, ..self }
    }

    /// `db`: whether the database answers. Needed.
    #[must_use]
    pub fn database(store: Store) -> Self {
        let look = move || {
            let store = store.clone();
            async move { store.ping().await.map_or_else(Component::down, |()| Component::up()) }
        };
        Self::new("db", look).needed()
    }

    /// `circuitBreakers`: each with its state, and up whatever that is. A breaker that is open does its work.
    pub(super) fn circuit_breakers(breakers: Arc<[CircuitBreaker]>) -> Self {
        Self::new("circuitBreakers", move || {
            let shown = breakers.iter().map(|breaker| {
                let status = match breaker.state() {
                    circuit_breaker::State::Open | circuit_breaker::State::ForcedOpen => "CIRCUIT_OPEN",
                    circuit_breaker::State::HalfOpen => "CIRCUIT_HALF_OPEN",
                    _ => "UP",
                };
                (breaker.name().to_owned(), json!({ "status": status, "details": Shown::of(breaker) }))
            });
            std::future::ready(Component { details: shown.collect(), ..Component::up() })
        })
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check").field("name", &self.name).field("is_needed", &self.is_needed).finish_non_exhaustive()
    }
}

/// All that is looked at.
#[derive(Clone, Debug)]
pub struct Health {
    checks: Vec<Check>,
    shutting_down: CancellationToken,
    time_limit: Duration,
}

impl Health {
    /// These checks, each of which may take 2 s. From `shutting_down` on the service is out of service.
    #[must_use]
    pub fn new(checks: Vec<Check>, shutting_down: CancellationToken) -> Self {
        Self { checks, shutting_down, time_limit: Duration::from_secs(2) }
    }

    /// Gives each check that long, and takes it to be down afterwards.
    #[must_use]
    pub fn time_limit(self, time_limit: Duration) -> Self {
        Self { time_limit, ..self }
    }

    pub(super) fn and(mut self, check: Check) -> Self {
        self.checks.push(check);
        self
    }

    /// Looks at all parts at once, or only at those that are needed, and at whether the service is to be used.
    async fn look(&self, only_needed: bool) -> Vec<(String, Component)> {
        let checks = self.checks.iter().filter(|check| check.is_needed || !only_needed).map(async |check| {
            let late = |_| Component::down(format!("no answer within {:?}", self.time_limit));
            let component = timeout(self.time_limit, (check.look)()).await.unwrap_or_else(late);
            (check.name.clone(), component)
        });
        let mut components = join_all(checks).await;
        let state = if self.shutting_down.is_cancelled() { Condition::OutOfService } else { Condition::Up };
        components.push(("readinessState".to_owned(), Component::new(state)));
        components
    }
}

pub(super) fn routes(health: Health) -> Router {
    Router::new()
        .route("/actuator/health", get(whole))
        .route("/actuator/health/liveness", get(liveness))
        .route("/actuator/health/readiness", get(readiness))
        .with_state(health)
}

async fn whole(State(health): State<Health>) -> Response {
    answer(health.look(false).await)
}

async fn readiness(State(health): State<Health>) -> Response {
    answer(health.look(true).await)
}

/// That it answers is all there is to say: a process whose database is away does not get better by being killed.
async fn liveness() -> Response {
    answer(vec![("livenessState".to_owned(), Component::up())])
}

fn answer(components: Vec<(String, Component)>) -> Response {
    let status = components.iter().map(|(_, component)| component.status).max().unwrap_or(Condition::Unknown);
    let code = if status > Condition::Up { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let components: Map<String, Value> =
        components.into_iter().map(|(name, component)| (name, json!(component))).collect();
    (code, Json(json!({ "status": status, "components": components }))).into_response()
}
