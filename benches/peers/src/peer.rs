//! What more than one row takes from a peer.

use std::{
    future::{Ready, ready},
    hint::black_box,
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use governor::{
    Quota,
    clock::QuantaClock,
    state::{InMemoryState, NotKeyed},
};
use layered::{Execute, Stack};
use seatbelt::{RecoveryInfo, ResilienceContext, breaker::Breaker};
use tick::Clock;
use tower::retry::{
    Policy,
    budget::{Budget, TpsBudget},
};

use crate::harness::{DOWN, Down, fail, work};

/// A permit a nanosecond: never empty, however fast the loop.
pub(crate) const PLENTY: u32 = 1_000_000_000;

pub(crate) type Governor = governor::RateLimiter<NotKeyed, InMemoryState, QuantaClock>;

pub(crate) fn governor(quota: Quota) -> Governor {
    governor::RateLimiter::direct(quota)
}

pub(crate) fn plenty() -> Quota {
    Quota::per_second(NonZeroU32::new(PLENTY).expect("not zero"))
}

/// One permit an hour, which is taken at once.
pub(crate) fn one_an_hour() -> Quota {
    Quota::with_period(Duration::from_secs(3600)).expect("not zero")
}

pub(crate) fn seatbelt_context() -> ResilienceContext<u64, Result<u64, Down>> {
    ResilienceContext::new(Clock::new_tokio())
}

pub(crate) fn recovery(result: &Result<u64, Down>) -> RecoveryInfo {
    if result.is_ok() { RecoveryInfo::never() } else { RecoveryInfo::retry() }
}

/// Seatbelt's breaker around a call that fails when it is asked for nothing.
pub(crate) fn seatbelt_breaker(
    sampling: Duration,
    pause: Duration,
) -> Arc<impl layered::Service<u64, Out = Result<u64, Down>> + 'static> {
    let layer = Breaker::layer("bench", &seatbelt_context())
        .recovery_with(|result, _| recovery(result))
        .rejected_input_error(|_, _| DOWN)
        .sampling_duration(sampling)
        .break_duration(pause);
    let call = |input: u64| async move { if input == 0 { fail(input).await } else { work(input).await } };
    Arc::new((layer, Execute::new(call)).into_service())
}

/// Three attempts, as a user of tower writes it.
#[derive(Debug, Clone)]
pub(crate) struct Attempts {
    pub(crate) left: u32,
    pub(crate) budget: Option<Arc<TpsBudget>>,
}

impl Policy<u64, u64, Down> for Attempts {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut u64, result: &mut Result<u64, Down>) -> Option<Self::Future> {
        if result.is_ok() {
            self.budget.iter().for_each(|budget| budget.deposit());
            return None;
        }
        self.left = self.left.checked_sub(1)?;
        self.budget.as_ref().is_none_or(|budget| budget.withdraw()).then(|| ready(()))
    }

    fn clone_request(&mut self, request: &u64) -> Option<u64> {
        Some(black_box(*request))
    }
}
