//! Resilience4j's health indicators in Actuator's form.

use axum::http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::config::MayFail;
use crate::{CircuitBreaker, RateLimiter, Resilience, circuit_breaker::State, event::PolicyKind};

/// A health status. Complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Status {
    Down,
    Up,
    Unknown,
    CircuitOpen,
    CircuitHalfOpen,
    RateLimited,
}

impl Status {
    /// DOWN before UP before UNKNOWN; what Actuator does not know does not count.
    fn of_all(statuses: &[Self]) -> Self {
        let known = [Self::Down, Self::Up];
        known.into_iter().find(|known| statuses.contains(known)).unwrap_or(Self::Unknown)
    }

    fn code(self) -> StatusCode {
        if self == Self::Down { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }
    }
}

/// The health of one instance.
#[derive(Debug, Serialize)]
struct Health {
    status: Status,
    details: Value,
}

/// What the health endpoints tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    All,
    Liveness,
    Readiness,
}

pub(super) fn answer(group: Group, resilience: &Resilience, may_fail: &MayFail) -> (StatusCode, Value) {
    let mut components = Map::new();
    let mut statuses = vec![Status::Up];
    let state = match group {
        Group::All => "ping",
        Group::Liveness => "livenessState",
        Group::Readiness => "readinessState",
    };
    components.insert(state.into(), json!({ "status": Status::Up }));
    if group != Group::Liveness {
        let (breakers, limiters) = (resilience.circuit_breakers().all(), resilience.rate_limiters().all());
        let healths = breakers.iter().map(|breaker| (breaker.name(), of_breaker(breaker, may_fail)));
        add(&mut components, &mut statuses, "circuitBreakers", healths.collect());
        let healths = limiters.iter().map(|limiter| (limiter.name(), of_limiter(limiter, may_fail)));
        add(&mut components, &mut statuses, "rateLimiters", healths.collect());
    }
    let status = Status::of_all(&statuses);
    let mut body = json!({ "status": status, "components": components });
    if group == Group::All {
        body["groups"] = json!(["liveness", "readiness"]);
    }
    (status.code(), body)
}

fn add(components: &mut Map<String, Value>, statuses: &mut Vec<Status>, component: &str, healths: Vec<(&str, Health)>) {
    let of_each: Vec<_> = healths.iter().map(|(_, health)| health.status).collect();
    let status = Status::of_all(&of_each);
    statuses.push(status);
    let details: Map<String, Value> = healths.into_iter().map(|(name, health)| (name.into(), json!(health))).collect();
    components.insert(component.into(), json!({ "status": status, "details": details }));
}

fn of_breaker(breaker: &CircuitBreaker, may_fail: &MayFail) -> Health {
    let details = super::actuator::BreakerView::of(breaker);
    let status = match details.state {
        State::Closed => Status::Up,
        State::Open if may_fail.of(PolicyKind::CircuitBreaker, breaker.name()) => Status::Down,
        State::Open => Status::CircuitOpen,
        State::HalfOpen => Status::CircuitHalfOpen,
        State::Disabled | State::ForcedOpen | State::MetricsOnly => Status::Unknown,
    };
    Health { status, details: json!(details) }
}

fn of_limiter(limiter: &RateLimiter, may_fail: &MayFail) -> Health {
    let metrics = limiter.metrics();
    let status = if metrics.available_permissions > 0 || metrics.waiting_calls == 0 {
        Status::Up
    } else if metrics.time_to_wait <= limiter.config().timeout_duration {
        Status::Unknown
    } else if may_fail.of(PolicyKind::RateLimiter, limiter.name()) {
        Status::Down
    } else {
        Status::RateLimited
    };
    let details = json!({
        "availablePermissions": metrics.available_permissions,
        "numberOfWaitingThreads": metrics.waiting_calls,
    });
    Health { status, details }
}
