//! One function for each endpoint.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Path, Request, State},
    http::{HeaderMap, StatusCode, Uri},
    middleware::Next,
    response::{IntoResponse, Response, Sse},
};
use serde_json::{Map, Value, json};

use super::{
    Admin,
    actuator::{BreakerView, UpdateRequest, UpdateState, UpdateView},
    events::Filter,
    guard::{self, LONGEST_NAME, Refusal, within},
    health::{self, Group},
    settings,
    snapshot::Snapshot,
    stream::Reader,
};
use crate::{
    CircuitBreaker,
    event::PolicyKind,
    registry::{Change, Instance, Registry},
};

type Shared = State<Arc<Admin>>;
/// The name and the type in a path, where it has them.
type Wanted = Path<Vec<(String, String)>>;

pub(super) async fn limit_requests(State(admin): Shared, request: Request, next: Next) -> Response {
    match within(&admin.limits.requests) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

pub(super) async fn limit_health(State(admin): Shared, request: Request, next: Next) -> Response {
    match within(&admin.limits.health) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

pub(super) async fn health(State(admin): Shared) -> Response {
    health_of(&admin, Group::All)
}

pub(super) async fn liveness(State(admin): Shared) -> Response {
    health_of(&admin, Group::Liveness)
}

pub(super) async fn readiness(State(admin): Shared) -> Response {
    health_of(&admin, Group::Readiness)
}

fn health_of(admin: &Admin, group: Group) -> Response {
    let (status, body) = health::answer(group, &admin.resilience, &admin.config.may_fail);
    guard::json(status, &body)
}

pub(super) async fn breakers(State(admin): Shared) -> Response {
    let mut all = Map::new();
    for breaker in admin.resilience.circuit_breakers().all() {
        all.insert(breaker.name().to_string(), json!(BreakerView::of(&breaker)));
    }
    ok(&json!({ "circuitBreakers": all }))
}

pub(super) async fn breaker(State(admin): Shared, Path(name): Path<String>) -> Result<Response, Refusal> {
    let breaker = find(&admin, &name)?;
    let settings: Map<String, Value> =
        settings::of_breaker(&breaker).into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    let mut view = json!(BreakerView::of(&breaker));
    view["settings"] = settings.into();
    Ok(ok(&view))
}

fn find(admin: &Admin, name: &str) -> Result<CircuitBreaker, Refusal> {
    let found = (name.len() <= LONGEST_NAME).then(|| admin.resilience.circuit_breakers().find(name)).flatten();
    found.ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, "there is no circuit breaker of that name"))
}

pub(super) async fn update(
    State(admin): Shared,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let who = admin.limits.operator(&admin.config, &headers)?;
    let body = admin.limits.body(body).await?;
    let bad = |message: String| Refusal::new(StatusCode::BAD_REQUEST, message);
    let asked: UpdateRequest = serde_json::from_slice(&body)
        .map_err(|error| bad(format!("the body must be as {{\"updateState\": \"CLOSE\"}}: {error}")))?;
    let state = UpdateState::named(&asked.update_state)
        .ok_or_else(|| bad(format!("State change value is not supported please use only [{}]", UpdateState::NAMES)))?;
    let breaker = find(&admin, &name)?;
    state.apply(&breaker).map_err(|illegal| Refusal::new(StatusCode::CONFLICT, illegal.to_string()))?;
    admin.resilience.report(Change::Operator {
        who: who.into(),
        policy: PolicyKind::CircuitBreaker,
        instance: breaker.name().into(),
        action: state.as_str().into(),
    });
    Ok(ok(&UpdateView {
        message: format!("{name} state has been changed successfully"),
        circuit_breaker_name: name,
        current_state: breaker.state().as_str(),
    }))
}

pub(super) async fn retries(State(admin): Shared) -> Response {
    names("retries", names_in(admin.resilience.retries()))
}

/// Both kinds, as Resilience4j.
pub(super) async fn bulkheads(State(admin): Shared) -> Response {
    let mut all = names_in(admin.resilience.bulkheads());
    all.extend(names_in(admin.resilience.thread_pool_bulkheads()));
    names("bulkheads", all)
}

pub(super) async fn pools(State(admin): Shared) -> Response {
    names("threadPoolBulkheads", names_in(admin.resilience.thread_pool_bulkheads()))
}

pub(super) async fn rate_limiters(State(admin): Shared) -> Response {
    names("rateLimiters", names_in(admin.resilience.rate_limiters()))
}

pub(super) async fn time_limiters(State(admin): Shared) -> Response {
    names("timeLimiters", names_in(admin.resilience.time_limiters()))
}

fn names_in<P: Instance>(registry: &Registry<P>) -> Vec<String> {
    registry.all().iter().map(|instance| instance.name().to_string()).collect()
}

fn names(field: &str, mut names: Vec<String>) -> Response {
    names.sort();
    ok(&json!({ field: names }))
}

pub(super) async fn events(State(admin): Shared, wanted: Wanted) -> Result<Response, Refusal> {
    let filter = filter(&admin, wanted)?;
    Ok(ok(&json!({ "circuitBreakerEvents": admin.events.list(&filter) })))
}

pub(super) async fn stream(State(admin): Shared, wanted: Wanted, headers: HeaderMap) -> Result<Response, Refusal> {
    let filter = filter(&admin, wanted)?;
    let seen = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let reader = Reader::new(&admin.events, filter, &admin.config.clock, seen)
        .ok_or_else(|| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too many streams are being read"))?;
    Ok(Sse::new(reader).into_response())
}

fn filter(admin: &Admin, Path(wanted): Wanted) -> Result<Filter, Refusal> {
    let mut filter = Filter::default();
    for (part, value) in wanted {
        if part == "name" {
            find(admin, &value)?;
            filter.name = Some(value);
        } else {
            let unknown = || Refusal::new(StatusCode::NOT_FOUND, "circuit breakers have no events of that type");
            filter.kind = Some(Filter::kind_named(&value).ok_or_else(unknown)?);
        }
    }
    Ok(filter)
}

pub(super) async fn snapshot(State(admin): Shared, uri: Uri) -> Response {
    let query = |name: &str| {
        let pairs = uri.query().unwrap_or_default().split('&');
        pairs
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| *key == name)
            .and_then(|(_, value)| value.parse().ok())
    };
    ok(&Snapshot::of(&admin, query("since").unwrap_or(0), query("revision").unwrap_or(0)))
}

fn ok(body: &impl serde::Serialize) -> Response {
    guard::json(StatusCode::OK, body)
}
