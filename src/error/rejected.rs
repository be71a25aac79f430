//! Why a call was refused or given up.

use std::{error::Error as StdError, fmt, time::Duration};

use crate::{
    clock::nanos,
    event::{Name, PolicyKind, State},
};

/// Why a policy refused a call or gave it up, with the numbers that decided it. Small, and made without allocating.
///
/// Made of whole words and few of them, since every result that passes a policy is moved with room for it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rejected {
    /// A circuit breaker does not permit the call.
    CircuitOpen(CircuitOpen),
    /// A bulkhead has no place for the call.
    BulkheadFull(BulkheadFull),
    /// A rate limiter has no permission for the call within its time-out.
    RateLimited(RateLimited),
    /// A time limiter gave up waiting for the call.
    TimedOut(TimedOut),
    /// A retry used up its attempts on results that it was told not to accept.
    RetriesExhausted(RetriesExhausted),
}

impl Rejected {
    /// The name of the instance that rejected.
    pub fn name(&self) -> &str {
        match self {
            Self::CircuitOpen(rejection) => rejection.name(),
            Self::BulkheadFull(rejection) => rejection.name(),
            Self::RateLimited(rejection) => rejection.name(),
            Self::TimedOut(rejection) => rejection.name(),
            Self::RetriesExhausted(rejection) => rejection.name(),
        }
    }

    /// Which kind of policy rejected.
    pub fn policy(&self) -> PolicyKind {
        match self {
            Self::CircuitOpen(_) => PolicyKind::CircuitBreaker,
            Self::BulkheadFull(_) => PolicyKind::Bulkhead,
            Self::RateLimited(_) => PolicyKind::RateLimiter,
            Self::TimedOut(_) => PolicyKind::TimeLimiter,
            Self::RetriesExhausted(_) => PolicyKind::Retry,
        }
    }

    /// How long after the rejection the same call could be admitted, exact to the nanosecond; `None` where no moment
    /// can be named.
    #[doc(alias = "Retry-After")]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::CircuitOpen(rejection) => rejection.retry_after(),
            Self::RateLimited(rejection) => rejection.retry_after(),
            _ => None,
        }
    }

    /// The same in whole seconds, rounded up, as the HTTP header `Retry-After` has it.
    pub fn retry_after_secs(&self) -> Option<u64> {
        self.retry_after().map(|wait| wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
    }

    /// The HTTP status that tells a client the same: 429 for a rate limit, 503 for all else.
    pub fn http_status(&self) -> u16 {
        match self {
            Self::RateLimited(_) => 429,
            _ => 503,
        }
    }

    /// Whether the call was never started. A time-out or used-up retries come after the call ran.
    pub fn is_refusal(&self) -> bool {
        !matches!(self, Self::TimedOut(_) | Self::RetriesExhausted(_))
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CircuitOpen(rejection) => rejection.fmt(f),
            Self::BulkheadFull(rejection) => rejection.fmt(f),
            Self::RateLimited(rejection) => rejection.fmt(f),
            Self::TimedOut(rejection) => rejection.fmt(f),
            Self::RetriesExhausted(rejection) => rejection.fmt(f),
        }
    }
}

impl StdError for Rejected {}

/// A circuit breaker does not permit a call.
#[doc(alias = "CallNotPermittedException")]
#[derive(Clone, PartialEq, Eq)]
pub struct CircuitOpen {
    name: Name,
    retry_after: Nanos,
    rates: u64,
    state_and_calls: u64,
}

impl CircuitOpen {
    /// A refusal by the breaker of that name, with no numbers yet.
    pub fn new(name: impl Into<Name>, state: State) -> Self {
        let refusal = Self { name: name.into(), retry_after: Nanos::NONE, rates: 0, state_and_calls: 0 };
        refusal.with_numbers(state, [None, None], 0, None)
    }

    /// The same refusal, with when to come back.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Nanos::new(Some(wait));
        self
    }

    /// With the time until the retry in nanoseconds.
    pub(crate) fn with_numbers(
        mut self,
        state: State,
        rates: [Option<f32>; 2],
        buffered_calls: u32,
        retry_after: Option<u64>,
    ) -> Self {
        let [failure, slow] = rates.map(|rate| u64::from(rate.unwrap_or(f32::NAN).to_bits()));
        self.rates = failure << 32 | slow;
        self.state_and_calls = (state as u64) << 32 | u64::from(buffered_calls);
        self.retry_after = retry_after.map_or(Nanos::NONE, Nanos);
        self
    }

    /// The breaker's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The state that refused: open, forced open, or half-open with every trial call taken.
    pub fn state(&self) -> State {
        match self.state_and_calls >> 32 {
            state if state == State::HalfOpen as u64 => State::HalfOpen,
            state if state == State::ForcedOpen as u64 => State::ForcedOpen,
            _ => State::Open,
        }
    }

    /// The failure rate in percent that the state was entered with; `None` below the minimum number of calls.
    pub fn failure_rate(&self) -> Option<f32> {
        Some(f32::from_bits((self.rates >> 32) as u32)).filter(|rate| !rate.is_nan())
    }

    /// The slow-call rate in percent that the state was entered with; `None` below the minimum number of calls.
    pub fn slow_call_rate(&self) -> Option<f32> {
        Some(f32::from_bits(self.rates as u32)).filter(|rate| !rate.is_nan())
    }

    /// How many calls those rates were taken over.
    pub fn buffered_calls(&self) -> u32 {
        self.state_and_calls as u32
    }

    /// After this long a trial call is admitted; `None` where only a result or an operator can end the state.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after.get()
    }
}

impl fmt::Display for CircuitOpen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "circuit breaker '{}' is {} and does not permit further calls", self.name, self.state())?;
        if self.state() == State::HalfOpen {
            return write!(f, "; every trial call is taken");
        }
        if let Some(rate) = self.failure_rate() {
            write!(f, "; {} % of {} calls failed", Tenths(rate), self.buffered_calls())?;
        }
        if let Some(rate) = self.slow_call_rate().filter(|rate| *rate > 0.0) {
            write!(f, "; {} % were slow", Tenths(rate))?;
        }
        match self.retry_after() {
            Some(wait) => write!(f, "; retry after {:?}", readable(wait)),
            None => Ok(()),
        }
    }
}

/// A bulkhead has no place for a call.
#[doc(alias = "BulkheadFullException")]
#[derive(Clone, PartialEq, Eq)]
pub struct BulkheadFull {
    name: Name,
    /// At once and waiting.
    calls: u64,
    waited: Nanos,
}

impl BulkheadFull {
    /// A refusal by the bulkhead of that name and size, with nobody waiting.
    pub fn new(name: impl Into<Name>, max_concurrent_calls: u32) -> Self {
        Self { name: name.into(), calls: u64::from(max_concurrent_calls) << 32, waited: Nanos::ZERO }
    }

    pub(crate) fn with_waiting(mut self, waiting_calls: u32, waited: Duration) -> Self {
        self.calls |= u64::from(waiting_calls);
        self.waited = Nanos::new(Some(waited));
        self
    }

    /// The bulkhead's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many calls may run at once.
    pub fn max_concurrent_calls(&self) -> u32 {
        (self.calls >> 32) as u32
    }

    /// How many calls were waiting for a place.
    pub fn waiting_calls(&self) -> u32 {
        self.calls as u32
    }

    /// How long this call had waited for one.
    pub fn waited(&self) -> Duration {
        self.waited.get().unwrap_or(Duration::MAX)
    }
}

impl fmt::Display for BulkheadFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, most) = (&self.name, self.max_concurrent_calls());
        write!(f, "bulkhead '{name}' is full and does not permit further calls; {most} run at once")?;
        if self.waiting_calls() > 0 {
            write!(f, ", {} wait", self.waiting_calls())?;
        }
        if !self.waited().is_zero() {
            write!(f, "; waited {:?}", self.waited())?;
        }
        Ok(())
    }
}

/// A rate limiter has no permission for a call within its time-out.
#[doc(alias = "RequestNotPermitted")]
#[derive(Clone, PartialEq, Eq)]
pub struct RateLimited {
    name: Name,
    /// Asked for, and given by a period.
    permits: u64,
    wait: Nanos,
    retry_after: Nanos,
}

impl RateLimited {
    /// A refusal of `permits` by the limiter of that name and limit, that no waiting would change.
    pub fn new(name: impl Into<Name>, permits: u32, limit_for_period: u32) -> Self {
        let permits = u64::from(permits) << 32 | u64::from(limit_for_period);
        Self { name: name.into(), permits, wait: Nanos::NONE, retry_after: Nanos::NONE }
    }

    /// With both in nanoseconds.
    pub(crate) fn with_wait(mut self, wait: u64, retry_after: u64) -> Self {
        self.wait = Nanos(wait);
        self.retry_after = Nanos(retry_after);
        self
    }

    /// The limiter's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many permits the call asked for.
    pub fn permits(&self) -> u32 {
        (self.permits >> 32) as u32
    }

    /// How many permits a period gives.
    pub fn limit_for_period(&self) -> u32 {
        self.permits as u32
    }

    /// How long the call would have had to wait; `None` for more permits than could ever be had within the time-out.
    pub fn wait(&self) -> Option<Duration> {
        self.wait.get()
    }

    /// After this long the same call fits the time-out, if nobody else takes permits; `None` as for `wait`.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after.get()
    }
}

impl fmt::Display for RateLimited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rate limiter '{}' does not permit further calls", self.name)?;
        if self.permits() != 1 {
            write!(f, "; {} permits asked for", self.permits())?;
        }
        write!(f, "; {} a period", self.limit_for_period())?;
        match self.retry_after() {
            Some(wait) => write!(f, "; retry after {:?}", readable(wait)),
            None => write!(f, "; no wait would be enough"),
        }
    }
}

/// A time limiter gave up waiting for a call.
#[doc(alias = "TimeoutException")]
#[derive(Clone, PartialEq, Eq)]
pub struct TimedOut {
    name: Name,
    timeout_duration: Nanos,
}

impl TimedOut {
    /// The limiter of that name gave a call that long.
    pub fn new(name: impl Into<Name>, timeout_duration: Duration) -> Self {
        Self { name: name.into(), timeout_duration: Nanos::new(Some(timeout_duration)) }
    }

    /// The limiter's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How long the call was given.
    pub fn timeout_duration(&self) -> Duration {
        self.timeout_duration.get().unwrap_or(Duration::MAX)
    }
}

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "time limiter '{}' gave the call up after {:?}", self.name, self.timeout_duration())
    }
}

/// A retry used up its attempts on results that it was told not to accept.
#[doc(alias = "MaxRetriesExceededException")]
#[derive(Clone, PartialEq, Eq)]
pub struct RetriesExhausted {
    name: Name,
    attempts: u64,
}

impl RetriesExhausted {
    /// The retry of that name made that many attempts.
    pub fn new(name: impl Into<Name>, attempts: u32) -> Self {
        Self { name: name.into(), attempts: attempts.into() }
    }

    /// The retry's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many attempts were made.
    pub fn attempts(&self) -> u32 {
        self.attempts as u32
    }
}

impl fmt::Display for RetriesExhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "retry '{}' has used up all {} attempts", self.name, self.attempts())
    }
}

/// Rounded to three digits, for people; programs ask `retry_after`.
fn readable(wait: Duration) -> Duration {
    let nanos = wait.as_nanos();
    let unit = 10_u128.pow(nanos.checked_ilog10().unwrap_or(0).saturating_sub(2));
    u64::try_from((nanos + unit / 2) / unit * unit).map_or(wait, Duration::from_nanos)
}

/// A rate with at most one decimal.
struct Tenths(f32);

impl fmt::Display for Tenths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        ((self.0 * 10.0).round() / 10.0).fmt(f)
    }
}

/// A duration, or none, in one word.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Nanos(u64);

impl Nanos {
    const ZERO: Self = Self(0);
    const NONE: Self = Self(u64::MAX);

    fn new(duration: Option<Duration>) -> Self {
        duration.map_or(Self::NONE, |duration| Self(nanos(duration)))
    }

    fn get(self) -> Option<Duration> {
        (self != Self::NONE).then_some(Duration::from_nanos(self.0))
    }
}

macro_rules! debug_fields {
    ($($kind:ident { $($field:ident),* })*) => {$(
        impl fmt::Debug for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($kind))$(.field(stringify!($field), &self.$field()))*.finish()
            }
        }
    )*};
}
debug_fields! {
    CircuitOpen { name, state, failure_rate, slow_call_rate, buffered_calls, retry_after }
    BulkheadFull { name, max_concurrent_calls, waiting_calls, waited }
    RateLimited { name, permits, limit_for_period, wait, retry_after }
    TimedOut { name, timeout_duration }
    RetriesExhausted { name, attempts }
}

macro_rules! become_rejected {
    ($($kind:ident),*) => {$(
        impl From<$kind> for Rejected {
            fn from(rejection: $kind) -> Self {
                Self::$kind(rejection)
            }
        }
    )*};
}
become_rejected!(CircuitOpen, BulkheadFull, RateLimited, TimedOut, RetriesExhausted);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn what_is_printed_is_short() {
        let open = CircuitOpen::new("mail", State::Open);
        let open = open.with_numbers(State::Open, [Some(54.545_456), Some(0.0)], 11, Some(59_960_000_001));
        let prefix = "circuit breaker 'mail' is OPEN and does not permit further calls";
        assert_eq!(open.to_string(), format!("{prefix}; 54.5 % of 11 calls failed; retry after 60s"));
        assert_eq!(Rejected::from(open).retry_after_secs(), Some(60));
        let shortly = CircuitOpen::new("mail", State::Open).with_retry_after(Duration::from_nanos(1_234_001));
        assert_eq!(shortly.to_string(), format!("{prefix}; retry after 1.23ms"));
        let trials = CircuitOpen::new("mail", State::HalfOpen).to_string();
        assert!(trials.ends_with("is HALF_OPEN and does not permit further calls; every trial call is taken"));
    }

    #[test]
    fn a_rejection_stays_small() {
        for bytes in [size_of::<Rejected>(), size_of::<Error<&str>>(), size_of::<Result<u64, Error<&str>>>()] {
            assert!(bytes <= 40, "{bytes}");
        }
    }
}
