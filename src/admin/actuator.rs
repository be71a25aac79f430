//! Actuator's endpoints: what there is, in Resilience4j's forms, and the one that writes.

use serde::{Deserialize, Serialize, Serializer};

use crate::{
    CircuitBreaker,
    circuit_breaker::{IllegalTransition, State},
};

/// A breaker as `/circuitbreakers` and `/health` show it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BreakerView {
    failure_rate: String,
    slow_call_rate: String,
    failure_rate_threshold: String,
    slow_call_rate_threshold: String,
    buffered_calls: u32,
    failed_calls: u32,
    slow_calls: u32,
    slow_failed_calls: u32,
    not_permitted_calls: u64,
    #[serde(serialize_with = "by_name")]
    pub(super) state: State,
}

impl BreakerView {
    pub(super) fn of(breaker: &CircuitBreaker) -> Self {
        let (metrics, config) = (breaker.metrics(), breaker.config());
        // Resilience4j's -1 below the minimum number of calls.
        let percent = |rate: Option<f32>| format!("{:?}%", rate.unwrap_or(-1.0));
        Self {
            failure_rate: percent(metrics.failure_rate),
            slow_call_rate: percent(metrics.slow_call_rate),
            failure_rate_threshold: percent(Some(config.failure_rate_threshold)),
            slow_call_rate_threshold: percent(Some(config.slow_call_rate_threshold)),
            buffered_calls: metrics.buffered_calls,
            failed_calls: metrics.failed_calls,
            slow_calls: metrics.slow_calls,
            slow_failed_calls: metrics.slow_failed_calls,
            not_permitted_calls: metrics.not_permitted_calls,
            state: metrics.state,
        }
    }
}

fn by_name<S: Serializer>(state: &State, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(state.as_str())
}

/// What an operator asks for.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct UpdateRequest {
    pub(super) update_state: String,
}

/// Resilience4j's answer to it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct UpdateView {
    pub(super) circuit_breaker_name: String,
    pub(super) current_state: &'static str,
    pub(super) message: String,
}

/// What an operator can do: the first three are Resilience4j's. Complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UpdateState {
    Close,
    ForceOpen,
    Disable,
    Open,
    HalfOpen,
    MetricsOnly,
    Reset,
}

impl UpdateState {
    pub(super) const NAMES: &str = "CLOSE, FORCE_OPEN, DISABLE, OPEN, HALF_OPEN, METRICS_ONLY, RESET";

    const ALL: [Self; 7] =
        [Self::Close, Self::ForceOpen, Self::Disable, Self::Open, Self::HalfOpen, Self::MetricsOnly, Self::Reset];

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Close => "CLOSE",
            Self::ForceOpen => "FORCE_OPEN",
            Self::Disable => "DISABLE",
            Self::Open => "OPEN",
            Self::HalfOpen => "HALF_OPEN",
            Self::MetricsOnly => "METRICS_ONLY",
            Self::Reset => "RESET",
        }
    }

    pub(super) fn apply(self, breaker: &CircuitBreaker) -> Result<(), IllegalTransition> {
        match self {
            Self::Close => breaker.transition_to_closed(),
            Self::ForceOpen => breaker.transition_to_forced_open(),
            Self::Disable => breaker.transition_to_disabled(),
            Self::Open => breaker.transition_to_open(),
            Self::HalfOpen => breaker.transition_to_half_open(),
            Self::MetricsOnly => breaker.transition_to_metrics_only(),
            Self::Reset => {
                breaker.reset();
                Ok(())
            }
        }
    }
}
