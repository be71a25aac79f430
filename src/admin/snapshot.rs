//! What the live page asks for: every instance in few bytes.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::{
    Admin,
    counts::Counted,
    events::{self, What},
    settings::{self, Setting},
};
use crate::{
    Bulkhead, CircuitBreaker, RateLimiter, Retry, ThreadPoolBulkhead, TimeLimiter,
    event::{EventKind, PolicyKind},
    registry::{Instance, Registry},
};

/// Everything at one moment. Settings come along only where the page has none or older ones.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Snapshot {
    /// Milliseconds since 1970.
    time: u64,
    /// When the router was made: another process counts anew.
    started: u64,
    /// Counts changes of instances and settings.
    revision: u64,
    /// The number of the last event.
    last: u64,
    /// Whether anybody may write.
    writes: bool,
    instances: Vec<Row>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    settings: BTreeMap<String, Vec<Setting>>,
    events: Vec<Happened>,
}

/// What happened to a circuit, or what somebody did.
#[derive(Debug, Default, Serialize)]
struct Happened {
    name: String,
    at: u64,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

/// One instance. What is zero or absent is left out.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    kind: &'static str,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure_rate: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slow_rate: Option<f32>,
    /// Numbers of this kind of policy, in the order the page knows.
    numbers: Vec<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
}

impl Snapshot {
    pub(super) fn of(admin: &Admin, since: u64, known: u64) -> Self {
        // Read before the instances: what changes in between is asked for again.
        let last = admin.events.last();
        let revision = admin.changed.lock().revision;
        let mut told = Told { admin, known, instances: Vec::new(), settings: BTreeMap::new() };
        let resilience = &admin.resilience;
        told.all(resilience.circuit_breakers(), |one| breaker_row(admin, one), settings::of_breaker);
        told.all(resilience.retries(), retry_row, settings::of_retry);
        told.all(resilience.bulkheads(), |one| bulkhead_row(admin, one), settings::of_bulkhead);
        told.all(resilience.thread_pool_bulkheads(), |one| pool_row(admin, one), settings::of_pool);
        told.all(resilience.rate_limiters(), |one| rate_limiter_row(admin, one), settings::of_rate_limiter);
        told.all(resilience.time_limiters(), |one| time_limiter_row(admin, one), settings::of_time_limiter);
        Self {
            time: events::wall_now(),
            started: admin.started,
            revision,
            last,
            writes: !admin.config.operators.nobody(),
            instances: told.instances,
            settings: told.settings,
            events: admin.events.changes(since).into_iter().map(Happened::from).collect(),
        }
    }
}

/// What a snapshot tells of instances.
struct Told<'a> {
    admin: &'a Admin,
    known: u64,
    instances: Vec<Row>,
    settings: BTreeMap<String, Vec<Setting>>,
}

impl Told<'_> {
    fn all<P: Instance>(
        &mut self,
        registry: &Registry<P>,
        row: impl Fn(&P) -> Row,
        settings: impl Fn(&P) -> Vec<Setting>,
    ) {
        let instances = registry.all();
        let changed = self.admin.changed.lock();
        let news = instances.iter().filter(|one| changed.is_news(P::KIND, one.name(), self.known));
        let news: Vec<P> = news.cloned().collect();
        drop(changed);
        self.settings.extend(news.iter().map(|one| (format!("{}/{}", short(P::KIND), one.name()), settings(one))));
        self.instances.extend(instances.iter().map(row));
    }
}

impl From<events::Entry> for Happened {
    fn from(entry: events::Entry) -> Self {
        let at = entry.wall;
        let event = match entry.what {
            What::Event(event) => event,
            What::Note { kind, name, text } => return Self { name, at, kind, text: Some(text), ..Self::default() },
        };
        let kind = event.kind.as_str();
        let happened = Self { name: event.name.to_string(), at, kind, ..Self::default() };
        match event.kind {
            EventKind::StateTransition { from, to, .. } => {
                Self { from: Some(from.as_str()), to: Some(to.as_str()), ..happened }
            }
            EventKind::FailureRateExceeded { failure_rate: rate }
            | EventKind::SlowCallRateExceeded { slow_call_rate: rate } => Self { rate: Some(rate), ..happened },
            _ => happened,
        }
    }
}

/// The page's name for a kind of policy.
fn short(kind: PolicyKind) -> &'static str {
    match kind {
        PolicyKind::CircuitBreaker => "cb",
        PolicyKind::Retry => "retry",
        PolicyKind::RateLimiter => "rate",
        PolicyKind::Bulkhead => "bulkhead",
        PolicyKind::ThreadPoolBulkhead => "pool",
        PolicyKind::TimeLimiter => "time",
    }
}

fn row(kind: PolicyKind, name: &str, numbers: Vec<i64>) -> Row {
    Row { kind: short(kind), name: name.into(), numbers, ..Row::default() }
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn counts(admin: &Admin, instance: &impl Counted) -> [i64; 3] {
    admin.counts.read(instance).map(whole)
}

fn breaker_row(admin: &Admin, breaker: &CircuitBreaker) -> Row {
    let metrics = breaker.metrics();
    let (timed, took) = admin.events.durations(breaker.name()).unwrap_or_default();
    let numbers = vec![
        metrics.buffered_calls.into(),
        metrics.failed_calls.into(),
        metrics.slow_calls.into(),
        metrics.slow_failed_calls.into(),
        whole(metrics.not_permitted_calls),
        metrics.outstanding_trial_calls.into(),
        whole(metrics.late_results),
        whole(metrics.generation),
        whole(timed),
        i64::try_from(took.as_micros()).unwrap_or(i64::MAX),
    ];
    Row {
        state: Some(metrics.state.as_str()),
        failure_rate: metrics.failure_rate,
        slow_rate: metrics.slow_call_rate,
        retry_after: metrics.retry_after.map(millis),
        ..row(PolicyKind::CircuitBreaker, breaker.name(), numbers)
    }
}

fn retry_row(retry: &Retry) -> Row {
    let metrics = retry.metrics();
    let numbers = [
        metrics.successful_calls_without_retry_attempt,
        metrics.successful_calls_with_retry_attempt,
        metrics.failed_calls_without_retry_attempt,
        metrics.failed_calls_with_retry_attempt,
    ];
    row(PolicyKind::Retry, retry.name(), numbers.map(whole).to_vec())
}

fn bulkhead_row(admin: &Admin, bulkhead: &Bulkhead) -> Row {
    let metrics = bulkhead.metrics();
    let numbers = [metrics.concurrent_calls, metrics.max_allowed_concurrent_calls, metrics.waiting_calls];
    let numbers = numbers.map(i64::from).into_iter().chain(counts(admin, bulkhead));
    row(PolicyKind::Bulkhead, bulkhead.name(), numbers.collect())
}

fn pool_row(admin: &Admin, pool: &ThreadPoolBulkhead) -> Row {
    let metrics = pool.metrics();
    let numbers = [
        metrics.active_thread_count,
        metrics.max_thread_pool_size,
        metrics.queue_depth,
        metrics.queue_capacity,
        metrics.thread_pool_size,
    ];
    let numbers = numbers.map(i64::from).into_iter().chain(counts(admin, pool));
    row(PolicyKind::ThreadPoolBulkhead, pool.name(), numbers.collect())
}

fn rate_limiter_row(admin: &Admin, limiter: &RateLimiter) -> Row {
    let metrics = limiter.metrics();
    let numbers = [
        metrics.available_permissions,
        limiter.config().limit_for_period.into(),
        whole(metrics.waiting_calls),
        whole(millis(metrics.time_to_wait)),
    ];
    row(PolicyKind::RateLimiter, limiter.name(), numbers.into_iter().chain(counts(admin, limiter)).collect())
}

fn time_limiter_row(admin: &Admin, limiter: &TimeLimiter) -> Row {
    let timeout = whole(millis(limiter.config().timeout_duration));
    row(PolicyKind::TimeLimiter, limiter.name(), [timeout].into_iter().chain(counts(admin, limiter)).collect())
}
