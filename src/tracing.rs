//! Events as events of the `tracing` crate, and a span for each attempt where one is asked for.
//!
//! ```
//! use resile::{CircuitBreaker, Pipeline, Retry, tracing::AttemptSpan};
//!
//! let breaker = CircuitBreaker::with_defaults("orders");
//! resile::tracing::bind(&breaker).forever();
//! breaker.transition_to_open()?; // WARN circuit breaker changed its state name="orders" from=CLOSED to=OPEN ..
//!
//! // What is logged within an attempt is logged with its number.
//! let guard = Pipeline::new((Retry::with_defaults("orders"), AttemptSpan::new("orders")));
//! # let _ = guard.call_blocking(|| Ok::<_, std::io::Error>(42));
//! # Ok::<(), resile::circuit_breaker::IllegalTransition>(())
//! ```
//!
//! What concerns an instance is told at `INFO`, or at `WARN` where it begins to refuse calls or is about to. What concerns
//! one call is told at `DEBUG` where it went wrong and at `TRACE` where it went well. The target is `resile`, and the
//! fields are `name`, `policy` and `event`, with `from`, `to`, `generation`, `rate`, `elapsed`, `attempts`, `wait` or
//! `permits` where they apply; durations are in seconds, rates in percent.

use std::{
    borrow::Borrow,
    collections::HashSet,
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use parking_lot::Mutex;
use pin_project_lite::pin_project;
use tracing::{Level, Span};

use crate::{
    Bulkhead, CircuitBreaker, RateLimiter, Retry, ThreadPoolBulkhead, TimeLimiter,
    event::{Event, EventKind, Name, PolicyKind, State, Subscription},
    policy::{CallFuture, Cx, Operation, Policy, handle_methods},
    registry::{Change, Instance, Registry, RegistryEvent, Resilience},
};

/// Tells of the events of every instance in the registries, those to come included, and of what happens to the registries
/// and their settings. Dropping it ends it.
///
/// ```
/// use resile::Resilience;
///
/// let resilience = Resilience::new();
/// resile::tracing::install(&resilience).forever();
/// resilience.circuit_breakers().get("orders"); // DEBUG an instance was made name="orders" policy="circuit_breaker"
/// ```
pub fn install(resilience: &Resilience) -> Tracing {
    let active = Arc::new(AtomicBool::new(true));
    let subscriptions = vec![
        resilience.on_change(tell_change),
        follow(resilience.circuit_breakers(), &active),
        follow(resilience.retries(), &active),
        follow(resilience.bulkheads(), &active),
        follow(resilience.thread_pool_bulkheads(), &active),
        follow(resilience.rate_limiters(), &active),
        follow(resilience.time_limiters(), &active),
    ];
    Tracing { active, subscriptions }
}

/// Tells what happens in the registries: see [`install`].
#[derive(Debug)]
#[must_use = "dropping it ends it; `forever` keeps it"]
pub struct Tracing {
    /// Instances outlive this, and so do their listeners.
    active: Arc<AtomicBool>,
    subscriptions: Vec<Subscription>,
}

impl Tracing {
    /// Goes on for as long as the registries and their instances live.
    pub fn forever(mut self) {
        self.subscriptions.drain(..).for_each(Subscription::forever);
        self.active = Arc::default();
    }
}

impl Drop for Tracing {
    fn drop(&mut self) {
        self.active.store(false, Ordering::Relaxed);
    }
}

fn follow<P: Instance + Traced>(registry: &Registry<P>, active: &Arc<AtomicBool>) -> Subscription {
    // Who is just being made may be both in the list and in an event: it is listened to once.
    let known = Arc::new(Mutex::new(HashSet::new()));
    let begin = {
        let (active, known) = (Arc::clone(active), Arc::clone(&known));
        move |instance: &P| {
            if !known.lock().insert(Instance::name(instance).clone()) {
                return;
            }
            let active = Arc::clone(&active);
            let tell_while_active = move |event: &Event| {
                if active.load(Ordering::Relaxed) {
                    tell(event);
                }
            };
            instance.listen(Box::new(tell_while_active)).forever();
        }
    };
    let listener = {
        let begin = begin.clone();
        move |event: &RegistryEvent<P>| match event {
            RegistryEvent::Added { instance } => {
                begin(instance);
                tell_registry(instance, "ADDED", "an instance was made");
            }
            RegistryEvent::Removed { instance, evicted } => {
                known.lock().remove(Instance::name(instance));
                if *evicted {
                    tell_registry(instance, "EVICTED", "an instance was unused and is forgotten");
                } else {
                    tell_registry(instance, "REMOVED", "an instance was removed");
                }
            }
            RegistryEvent::Replaced { new, .. } => {
                known.lock().remove(Instance::name(new));
                begin(new);
                tell_registry(new, "REPLACED", "another instance took a name");
            }
            RegistryEvent::Reconfigured { instance } => {
                tell_registry(instance, "RECONFIGURED", "the settings of an instance have changed");
            }
        }
    };
    let subscription = registry.on_event(listener);
    registry.all().iter().for_each(begin);
    subscription
}

fn tell_registry<P: Instance>(instance: &P, event: &'static str, message: &'static str) {
    let name = Instance::name(instance).as_str();
    tracing::debug!(target: "resile", name, policy = policy(P::KIND), event, "{message}");
}

fn tell_change(change: &Change) {
    match change {
        Change::Reloaded => tracing::info!(target: "resile", event = "RELOADED", "other settings are in force"),
        Change::Refused { errors } => tracing::warn!(
            target: "resile",
            event = "REFUSED",
            errors = errors.join("; "),
            "settings were refused, and those before stay in force"
        ),
        Change::Operator { who, policy: kind, instance, action } => tracing::info!(
            target: "resile",
            name = instance.as_str(),
            policy = policy(*kind),
            event = "OPERATOR",
            who,
            action,
            "an operator changed an instance"
        ),
    }
}

/// Tells of the events of one instance until the subscription is dropped.
pub fn bind(instance: &impl Traced) -> Subscription {
    instance.listen(Box::new(tell))
}

/// What can be traced: the policies but the fallback.
pub trait Traced: sealed::Sealed {}

mod sealed {
    use crate::event::{Event, Subscription};

    pub trait Sealed {
        fn listen(&self, listener: Box<dyn Fn(&Event) + Send + Sync>) -> Subscription;
    }
}

macro_rules! traced {
    ($($policy:ident),*) => {$(
        impl Traced for $policy {}

        impl sealed::Sealed for $policy {
            fn listen(&self, listener: Box<dyn Fn(&Event) + Send + Sync>) -> Subscription {
                self.on_event(listener)
            }
        }
    )*};
}
traced!(CircuitBreaker, Retry, Bulkhead, ThreadPoolBulkhead, RateLimiter, TimeLimiter);

/// How much an event matters.
fn level(kind: &EventKind) -> Level {
    match kind {
        EventKind::StateTransition { to: State::Open | State::ForcedOpen, .. }
        | EventKind::FailureRateExceeded { .. }
        | EventKind::SlowCallRateExceeded { .. }
        | EventKind::TrialCallExpired => Level::WARN,
        EventKind::StateTransition { .. } | EventKind::Reset | EventKind::Drained { .. } => Level::INFO,
        EventKind::Error { .. }
        | EventKind::NotPermitted
        | EventKind::LateResult
        | EventKind::Retry { .. }
        | EventKind::FailedAcquire { .. }
        | EventKind::CallRejected
        | EventKind::Timeout
        | EventKind::DetachedFinished { .. } => Level::DEBUG,
        EventKind::Success { .. }
        | EventKind::IgnoredError { .. }
        | EventKind::SuccessfulAcquire { .. }
        | EventKind::CallPermitted
        | EventKind::CallFinished => Level::TRACE,
    }
}

/// The fields an event has; those that are `None` are left out.
#[derive(Default)]
struct Fields {
    from: Option<&'static str>,
    to: Option<&'static str>,
    generation: Option<u64>,
    rate: Option<f64>,
    elapsed: Option<f64>,
    attempts: Option<u32>,
    wait: Option<f64>,
    permits: Option<u32>,
}

fn fields(kind: &EventKind) -> Fields {
    let seconds = |duration: &Duration| duration.as_secs_f64();
    match kind {
        EventKind::Success { elapsed, attempts } | EventKind::Error { elapsed, attempts } => Fields {
            elapsed: elapsed.as_ref().map(seconds),
            attempts: Some(*attempts).filter(|attempts| *attempts > 0),
            ..Fields::default()
        },
        EventKind::IgnoredError { elapsed } => Fields { elapsed: elapsed.as_ref().map(seconds), ..Fields::default() },
        EventKind::StateTransition { from, to, generation } => Fields {
            from: Some(from.as_str()),
            to: Some(to.as_str()),
            generation: Some(*generation),
            ..Fields::default()
        },
        EventKind::FailureRateExceeded { failure_rate: rate }
        | EventKind::SlowCallRateExceeded { slow_call_rate: rate } => {
            Fields { rate: Some(f64::from(*rate)), ..Fields::default() }
        }
        EventKind::Retry { attempts, wait } => {
            Fields { attempts: Some(*attempts), wait: Some(seconds(wait)), ..Fields::default() }
        }
        EventKind::SuccessfulAcquire { permits }
        | EventKind::FailedAcquire { permits }
        | EventKind::Drained { permits } => Fields { permits: Some(*permits), ..Fields::default() },
        EventKind::DetachedFinished { elapsed } => Fields { elapsed: Some(seconds(elapsed)), ..Fields::default() },
        EventKind::NotPermitted
        | EventKind::Reset
        | EventKind::LateResult
        | EventKind::TrialCallExpired
        | EventKind::CallPermitted
        | EventKind::CallRejected
        | EventKind::CallFinished
        | EventKind::Timeout => Fields::default(),
    }
}

fn message(kind: &EventKind) -> &'static str {
    match kind {
        EventKind::Success { attempts: 0, .. } => "a call succeeded",
        EventKind::Success { .. } => "a call succeeded after failed attempts",
        EventKind::Error { attempts: 0, .. } => "a call failed",
        EventKind::Error { .. } => "a call has used up its attempts",
        EventKind::IgnoredError { .. } => "a call ended with a result that is ignored",
        EventKind::NotPermitted => "the circuit breaker rejected a call",
        EventKind::StateTransition { .. } => "the circuit breaker changed its state",
        EventKind::Reset => "the circuit breaker was reset",
        EventKind::FailureRateExceeded { .. } => "too many calls fail",
        EventKind::SlowCallRateExceeded { .. } => "too many calls are slow",
        EventKind::LateResult => "a result came too late to be counted",
        EventKind::TrialCallExpired => "a trial call took too long and counts as failed",
        EventKind::Retry { .. } => "an attempt failed and another follows",
        EventKind::SuccessfulAcquire { .. } => "the rate limiter gave permits",
        EventKind::FailedAcquire { .. } => "the rate limiter refused permits",
        EventKind::Drained { .. } => "the rate limiter was drained",
        EventKind::CallPermitted => "the bulkhead admitted a call",
        EventKind::CallRejected => "the bulkhead rejected a call",
        EventKind::CallFinished => "a call left the bulkhead",
        EventKind::Timeout => "the time limiter gave a call up",
        EventKind::DetachedFinished { .. } => "a call ended that had been given up",
    }
}

const fn policy(kind: PolicyKind) -> &'static str {
    match kind {
        PolicyKind::CircuitBreaker => "circuit_breaker",
        PolicyKind::Retry => "retry",
        PolicyKind::RateLimiter => "rate_limiter",
        PolicyKind::Bulkhead => "bulkhead",
        PolicyKind::ThreadPoolBulkhead => "thread_pool_bulkhead",
        PolicyKind::TimeLimiter => "time_limiter",
    }
}

fn tell(event: &Event) {
    // A level belongs to the place in the code, so each has its own.
    macro_rules! tell_at {
        ($($level:ident),*) => {
            match level(&event.kind) {
                $(Level::$level => {
                    if tracing::enabled!(target: "resile", Level::$level) {
                        let Fields { from, to, generation, rate, elapsed, attempts, wait, permits } = fields(&event.kind);
                        tracing::event!(
                            target: "resile",
                            Level::$level,
                            name = event.name.as_str(),
                            policy = policy(event.policy),
                            event = event.kind.as_str(),
                            from, to, generation, rate, elapsed, attempts, wait, permits,
                            "{}", message(&event.kind)
                        );
                    }
                })*
            }
        };
    }
    tell_at!(ERROR, WARN, INFO, DEBUG, TRACE);
}

/// A policy that runs each call within a span `attempt` at level `INFO`, with the fields `name` and `attempt`. Put it
/// right inside a [`Retry`]: then there is one for each attempt.
///
/// It costs what the subscriber's spans cost, so it is there only where it is put.
#[derive(Debug, Clone)]
pub struct AttemptSpan {
    name: Name,
}

impl AttemptSpan {
    /// Spans of that name.
    pub fn new(name: impl Into<Name>) -> Self {
        Self { name: name.into() }
    }
}

handle_methods!(AttemptSpan);

impl<Op: Operation> Policy<Op> for AttemptSpan {
    type Future = InSpan<Self, Op::Future>;

    fn run(self, op: Op) -> Self::Future {
        InSpan { policy: self, call: Some(op.start()), span: None }
    }
}

impl<Op: Operation> Policy<Op> for &AttemptSpan {
    type Future = InSpan<Self, Op::Future>;

    fn run(self, op: Op) -> Self::Future {
        InSpan { policy: self, call: Some(op.start()), span: None }
    }
}

pin_project! {
    /// A call within a span.
    ///
    /// # Cancel safety
    /// That of the call.
    #[must_use = "futures do nothing unless polled"]
    pub struct InSpan<P, Fut> {
        policy: P,
        #[pin]
        call: Option<Fut>,
        // Made at the first poll, which tells the attempt.
        span: Option<Span>,
    }

    impl<P, Fut> PinnedDrop for InSpan<P, Fut> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let _entered = this.span.as_ref().map(Span::enter);
            this.call.set(None);
        }
    }
}

impl<P: Borrow<AttemptSpan>, Fut: CallFuture> CallFuture for InSpan<P, Fut> {
    fn poll_with(self: Pin<&mut Self>, cx: Cx, task: &mut Context<'_>) -> Poll<Fut::Output> {
        let mut this = self.project();
        let name = (*this.policy).borrow().name.as_str();
        let span = this
            .span
            .get_or_insert_with(|| tracing::info_span!(target: "resile", "attempt", name, attempt = cx.attempt()));
        let _entered = span.enter();
        let call = this.call.as_mut().as_pin_mut().expect("polled after its end");
        let result = call.poll_with(cx, task);
        if result.is_ready() {
            this.call.set(None);
        }
        result
    }
}

impl<P: Borrow<AttemptSpan>, Fut: CallFuture> Future for InSpan<P, Fut> {
    type Output = Fut::Output;

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Fut::Output> {
        self.poll_with(Cx::new(), task)
    }
}

impl<P, Fut> fmt::Debug for InSpan<P, Fut> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InSpan").field("span", &self.span).finish_non_exhaustive()
    }
}
