//! The policies as tower layers: any order, one error type, and the contract of the services inside kept.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    error::Error as StdError,
    fmt,
    future::{Future, pending, ready},
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use resile::{
    BoxError, Clock, Error, ManualClock, Pipeline, Rejectable, Rejected, Retry, bulkhead, circuit_breaker,
    event::State, retry, time_limiter,
};
use support::{
    Counter, Five, MS, PLACES, SECOND, Yield, breaker, bulkhead, drive, five, poll_once, retry, taken, time_limiter,
};
use tower::{
    Layer, Service, ServiceBuilder, ServiceExt, buffer::Buffer, limit::ConcurrencyLimit, load_shed::LoadShed,
    service_fn, util::BoxCloneService,
};

const NAMES: [&str; 5] = ["retry", "breaker", "rate limiter", "time limiter", "bulkhead"];

/// An error type as a user has it.
#[derive(Debug)]
enum PaymentError {
    Declined(io::Error),
    Unavailable(Rejected),
}

impl fmt::Display for PaymentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the payment failed")
    }
}

impl StdError for PaymentError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(match self {
            Self::Declined(error) => error,
            Self::Unavailable(rejected) => rejected,
        })
    }
}

impl From<Rejected> for PaymentError {
    fn from(rejected: Rejected) -> Self {
        Self::Unavailable(rejected)
    }
}

impl Rejectable for PaymentError {
    fn rejected(&self) -> Option<&Rejected> {
        match self {
            Self::Unavailable(rejected) => Some(rejected),
            Self::Declined(_) => None,
        }
    }
}

/// The five policies of `guard`, as layers around `service`, in the order that `places` says, outermost first.
fn stack<E>(guard: &Five, places: &[usize], service: BoxCloneService<u32, u32, E>) -> BoxCloneService<u32, u32, E>
where
    E: Rejectable + Send + 'static,
{
    let (retry, breaker, limiter, time_limiter, bulkhead) = guard.policies();
    places.iter().rev().fold(service, |inner, place| match place {
        0 => BoxCloneService::new(retry.layer(inner)),
        1 => BoxCloneService::new(breaker.layer(inner)),
        2 => BoxCloneService::new(limiter.layer(inner)),
        3 => BoxCloneService::new(time_limiter.layer(inner)),
        _ => BoxCloneService::new(bulkhead.layer(inner)),
    })
}

/// All 120 orders of the five.
fn orders() -> Vec<Vec<usize>> {
    (0..5).fold(vec![Vec::new()], |orders, policy| {
        let longer = orders.iter().flat_map(|order| {
            (0..=order.len()).map(move |place| {
                let mut order: Vec<usize> = order.clone();
                order.insert(place, policy);
                order
            })
        });
        longer.collect()
    })
}

fn is_inside_the_retry(order: &[usize], policy: usize) -> bool {
    let place = |policy| order.iter().position(|at| *at == policy);
    place(policy) > place(0)
}

fn answers(
    service: impl Fn() -> Result<u32, PaymentError> + Clone + Send + 'static,
) -> BoxCloneService<u32, u32, PaymentError> {
    BoxCloneService::new(service_fn(move |_| ready(service())))
}

#[test]
fn there_are_120_orders() {
    let mut orders = orders();
    orders.sort();
    orders.dedup();
    assert_eq!(orders.len(), 120);
}

#[test]
fn five_layers_in_any_order_let_a_good_call_pass() {
    for order in orders() {
        let clock = Clock::manual();
        let guard = five(&clock);
        let mut client = stack(&guard, &order, answers(|| Ok(42)));
        assert_eq!(drive(&clock, client.call(1)).unwrap(), 42, "{order:?}");
        let (retry, breaker, limiter, _, bulkhead) = guard.policies();
        assert_eq!(retry.metrics().successful_calls_without_retry_attempt, 1, "{order:?}");
        assert_eq!(breaker.metrics().successful_calls(), 1, "{order:?}");
        assert_eq!((taken(limiter), bulkhead.metrics().concurrent_calls), (1, 0), "{order:?}");
    }
}

#[test]
fn five_layers_in_any_order_keep_the_user_s_own_error_and_its_source() {
    for order in orders() {
        let clock = Clock::manual();
        let guard = five(&clock);
        let declined = || Err(PaymentError::Declined(io::Error::other("no money")));
        let mut client = stack(&guard, &order, answers(declined));
        let failed = drive(&clock, client.call(1)).unwrap_err();
        let source = failed.source().and_then(|source| source.downcast_ref::<io::Error>());
        assert_eq!(source.map(ToString::to_string).as_deref(), Some("no money"), "{order:?}");

        let (_, breaker, limiter, _, bulkhead) = guard.policies();
        let times = |policy| if is_inside_the_retry(&order, policy) { 3 } else { 1 };
        assert_eq!(breaker.metrics().failed_calls, times(1), "{order:?}");
        assert_eq!(taken(limiter), i64::from(times(2)), "{order:?}");
        assert_eq!(bulkhead.metrics().concurrent_calls, 0, "{order:?}");
        assert_eq!(clock.next_wake(), None, "{order:?}");
    }
}

#[test]
fn five_layers_in_any_order_give_every_rejection_as_one_flat_error() {
    for order in orders() {
        for (policy, name) in NAMES.iter().enumerate().skip(1) {
            let clock = Clock::manual();
            let guard = five(&clock);
            let (_, breaker, limiter, _, bulkhead) = guard.policies();
            let mut places = Vec::new();
            let service = match policy {
                3 => BoxCloneService::new(service_fn(|_| pending::<Result<u32, PaymentError>>())),
                _ => answers(|| Ok(42)),
            };
            match policy {
                1 => breaker.transition_to_forced_open().unwrap(),
                2 => limiter.drain(),
                4 => places.extend((0..support::PLACES).map(|_| bulkhead.try_acquire_owned().unwrap())),
                _ => {}
            }
            let refused = drive(&clock, stack(&guard, &order, service).call(1)).unwrap_err();
            let PaymentError::Unavailable(rejected) = &refused else { panic!("{order:?}: {refused:?}") };
            assert_eq!(rejected.name(), *name, "{order:?}");
            let source = refused.source().and_then(|source| source.downcast_ref::<Rejected>());
            assert_eq!(source, Some(rejected), "{order:?}");
        }
    }
}

#[test]
fn used_up_retries_are_found_in_the_user_s_own_error() {
    let clock = Clock::manual();
    let config = retry::Config::default().fail_after_max_attempts(true).clock(&clock);
    let insatiable = retry(config).retry_if(|_: &Result<u32, PaymentError>| true);
    let mut client = ServiceBuilder::new()
        .layer(breaker(circuit_breaker::Config::default().clock(&clock)))
        .layer(insatiable)
        .service(answers(|| Ok(42)));
    let used_up = drive(&clock, client.call(1)).unwrap_err();
    let Some(Rejected::RetriesExhausted(rejection)) = used_up.rejected() else { panic!("{used_up:?}") };
    assert_eq!(rejection.attempts(), 3);
}

#[test]
fn five_layers_of_a_service_builder_keep_a_flat_error_and_a_foreign_error_enters_at_the_bottom() {
    let clock = Clock::manual();
    let (retry, breaker, limiter, time_limiter, bulkhead) = five(&clock).policies().clone();
    let mut client = ServiceBuilder::new()
        .layer(retry)
        .layer(breaker.clone())
        .layer(limiter)
        .layer(time_limiter)
        .layer(bulkhead)
        .map_err(Error::Inner)
        .service(service_fn(|order: u32| {
            ready(if order == 0 { Err(io::Error::other("no order")) } else { Ok(order) })
        }));
    assert_eq!(drive(&clock, async { client.ready().await?.call(7).await }).unwrap(), 7);

    let failed: Error<io::Error> = drive(&clock, client.call(0)).unwrap_err();
    let source = failed.source().and_then(|source| source.downcast_ref::<io::Error>());
    assert_eq!(source.map(ToString::to_string).as_deref(), Some("no order"));

    breaker.transition_to_forced_open().unwrap();
    let refused: Error<io::Error> = drive(&clock, client.call(1)).unwrap_err();
    assert!(matches!(refused.source().and_then(|source| source.downcast_ref()), Some(Rejected::CircuitOpen(_))));
}

#[test]
fn a_boxed_error_keeps_the_user_s_own_error_and_the_rejection() {
    let clock = Clock::manual();
    let guard = five(&clock);
    let mut client = guard.layer(service_fn(|order: u32| {
        ready(if order == 0 { Err(BoxError::from(io::Error::other("no order"))) } else { Ok(order) })
    }));
    let failed = drive(&clock, client.call(0)).unwrap_err();
    assert_eq!(failed.downcast::<io::Error>().unwrap().to_string(), "no order");

    guard.policies().1.transition_to_forced_open().unwrap();
    let refused = drive(&clock, client.call(1)).unwrap_err();
    assert!(matches!(refused.rejected(), Some(Rejected::CircuitOpen(_))));
    assert!(refused.downcast::<Rejected>().is_ok());
}

/// A request as many are: it can be sent once.
struct Request(u32);

#[test]
fn a_request_that_is_not_clone_passes_layers_without_retry() {
    let clock = Clock::manual();
    let (_, breaker, limiter, time_limiter, bulkhead) = five(&clock).policies().clone();
    let mut client = ServiceBuilder::new()
        .layer(breaker)
        .layer(limiter)
        .layer(time_limiter)
        .layer(bulkhead)
        .service(service_fn(|Request(order)| ready(Ok::<_, BoxError>(order))));
    assert_eq!(drive(&clock, client.call(Request(7))).unwrap(), 7);
}

/// Panics when called without having been found ready, which takes it two polls.
#[derive(Default)]
struct Strict {
    polled: u32,
    calls: Counter,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self { polled: 0, calls: self.calls.clone() }
    }
}

impl Service<u32> for Strict {
    type Response = u32;
    type Error = BoxError;
    type Future = std::future::Ready<Result<u32, BoxError>>;

    fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.polled += 1;
        if self.polled < 2 {
            task.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, failures: u32) -> Self::Future {
        assert!(self.polled >= 2, "called without being ready");
        self.polled = 0;
        let calls = self.calls.up();
        ready(if calls <= failures { Err("down".into()) } else { Ok(calls) })
    }
}

#[test]
fn a_service_that_must_be_found_ready_is_so_before_every_attempt() {
    let clock = Clock::manual();
    let strict = Strict::default();
    let (retry, breaker, limiter, time_limiter, bulkhead) = five(&clock).policies().clone();
    let mut client = ServiceBuilder::new()
        .layer(retry)
        .layer(breaker)
        .layer(limiter)
        .layer(time_limiter)
        .layer(bulkhead)
        .service(strict.clone());
    assert_eq!(drive(&clock, client.call(2)).unwrap(), 3);
    assert_eq!(drive(&clock, client.call(0)).unwrap(), 4);

    // Each layer by itself too.
    for place in 0..5 {
        let mut client = stack(&five(&clock), &[place], BoxCloneService::new(strict.clone()));
        assert_eq!(drive(&clock, client.call(0)).unwrap(), 5 + place as u32);
    }
}

/// A permit of one, taken by `poll_ready` and kept by the call, as connection pools do.
struct Pooled {
    free: Arc<AtomicU32>,
    held: Option<Connection>,
}

struct Connection(Arc<AtomicU32>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Clone for Pooled {
    fn clone(&self) -> Self {
        Self { free: Arc::clone(&self.free), held: None }
    }
}

impl Service<u32> for Pooled {
    type Response = u32;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<u32, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if self.held.is_none() {
            let taken = self.free.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |free| free.checked_sub(1));
            // Nobody will wake the task: who waits here while holding the permit elsewhere, hangs.
            let Ok(_) = taken else { return Poll::Pending };
            self.held = Some(Connection(Arc::clone(&self.free)));
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, order: u32) -> Self::Future {
        let connection = self.held.take().expect("called without being ready");
        Box::pin(async move {
            Yield::default().await;
            drop(connection);
            if order == 0 { Err("down".into()) } else { Ok(order) }
        })
    }
}

#[test]
fn a_permit_that_readiness_took_is_used_by_the_call_and_never_waited_for() {
    let clock = Clock::manual();
    let guard = five(&clock);
    let free = Arc::new(AtomicU32::new(1));
    let mut pooled = Pooled { free: Arc::clone(&free), held: None };
    // A caller may have found the service ready before it was wrapped.
    assert!(drive(&clock, pooled.ready()).is_ok());
    let mut client = guard.layer(pooled);
    assert_eq!(drive(&clock, client.call(7)).unwrap(), 7);
    assert_eq!(free.load(Ordering::SeqCst), 1);
    assert_eq!(drive(&clock, client.call(0)).unwrap_err().to_string(), "down");
    assert_eq!(free.load(Ordering::SeqCst), 1);
    assert_eq!(guard.policies().1.metrics().failed_calls, 3);
}

#[test]
fn five_layers_over_a_concurrency_limit_of_one_retry_without_hanging() {
    for order in orders() {
        let clock = Clock::manual();
        let calls = Counter::default();
        let counted = calls.clone();
        let inner = service_fn(move |_: u32| {
            let calls = counted.up();
            async move {
                Yield::default().await;
                if calls < 3 { Err(PaymentError::Declined(io::Error::other("no money"))) } else { Ok(calls) }
            }
        });
        let mut limited = ConcurrencyLimit::new(inner, 1);
        assert!(drive(&clock, limited.ready()).is_ok());
        let mut client = stack(&five(&clock), &order, BoxCloneService::new(limited));
        assert_eq!(drive(&clock, client.call(1)).unwrap(), 3, "{order:?}");
        assert_eq!(drive(&clock, client.call(1)).unwrap(), 4, "{order:?}");
    }
}

#[derive(Clone, Default)]
struct NeverReady {
    asked: Counter,
}

impl Service<u32> for NeverReady {
    type Response = u32;
    type Error = BoxError;
    type Future = std::future::Ready<Result<u32, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.asked.up();
        Poll::Pending
    }

    fn call(&mut self, _: u32) -> Self::Future {
        panic!("called without being ready")
    }
}

#[test]
fn a_service_that_never_becomes_ready_falls_under_the_time_limit() {
    let clock = Clock::manual();
    let guard = five(&clock);
    let mut client = guard.layer(NeverReady::default());
    // The stack itself is always ready.
    assert!(matches!(poll_once(pin!(client.ready())), Poll::Ready(Ok(_))));
    let refused = drive(&clock, client.call(1)).unwrap_err();
    assert!(matches!(refused.rejected(), Some(Rejected::TimedOut(_))), "{refused:?}");
    assert_eq!(clock.now().as_nanos(), (3 * SECOND + 200 * MS).as_nanos() as u64);
    assert_eq!(guard.policies().1.metrics().failed_calls, 3);
}

#[test]
fn an_open_breaker_does_not_ask_the_inner_service_whether_it_is_ready() {
    let clock = Clock::manual();
    let service = NeverReady::default();
    let asked = service.asked.clone();
    let breaker = breaker(circuit_breaker::Config::default().clock(&clock));
    breaker.transition_to_open().unwrap();
    let mut client = breaker.layer(service);
    assert!(drive(&clock, async { client.ready().await?.call(1).await }).unwrap_err().rejected().is_some());
    assert_eq!(asked.get(), 0);

    breaker.transition_to_closed().unwrap();
    assert!(poll_once(pin!(client.call(1))).is_pending());
    assert_eq!(asked.get(), 1);
}

/// Its readiness fails.
#[derive(Clone)]
struct Closed;

impl Service<u32> for Closed {
    type Response = u32;
    type Error = BoxError;
    type Future = std::future::Ready<Result<u32, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Err("closed".into()))
    }

    fn call(&mut self, _: u32) -> Self::Future {
        panic!("called without being ready")
    }
}

#[test]
fn a_failing_readiness_is_a_failure_of_the_call() {
    let clock = Clock::manual();
    let guard = five(&clock);
    let failed = drive(&clock, guard.layer(Closed).call(1)).unwrap_err();
    assert_eq!(failed.to_string(), "closed");
    assert_eq!(guard.policies().1.metrics().failed_calls, 3);
}

#[test]
fn cloned_services_share_the_state_of_the_policies() {
    let clock = Clock::manual();
    let config = circuit_breaker::Config::default().sliding_window_size(2).clock(&clock);
    let breaker = breaker(config);
    let full = bulkhead(bulkhead::Config::default().max_concurrent_calls(1).clock(&clock));
    let mut one = ServiceBuilder::new()
        .layer(breaker.clone())
        .layer(full)
        .service(service_fn(|_: u32| async { pending::<Result<u32, BoxError>>().await }));
    let mut other = one.clone();
    let mut running = Box::pin(one.call(1));
    assert!(poll_once(running.as_mut()).is_pending());
    let refused = drive(&clock, other.call(2)).unwrap_err();
    assert!(matches!(refused.rejected(), Some(Rejected::BulkheadFull(_))));

    breaker.transition_to_forced_open().unwrap();
    for client in [&mut one, &mut other] {
        assert!(matches!(drive(&clock, client.call(3)).unwrap_err().rejected(), Some(Rejected::CircuitOpen(_))));
    }
    assert_eq!(breaker.metrics().not_permitted_calls, 2);
}

#[tokio::test]
async fn over_buffer_and_load_shed_a_rejection_is_still_found_in_a_boxed_error() {
    let clock = Clock::manual();
    let inner = five(&clock);
    inner.policies().1.transition_to_forced_open().unwrap();
    let at_once = retry(retry::Config::default().wait_duration(Duration::ZERO).clock(&clock));
    let outer = Pipeline::new((at_once, breaker(circuit_breaker::Config::default().clock(&clock))));
    let guarded = inner.layer(service_fn(|order: u32| ready(Ok::<_, Error<io::Error>>(order))));
    let mut client = outer.layer(LoadShed::new(Buffer::new(guarded, 4)));
    let refused: BoxError = client.call(1).await.unwrap_err();
    assert!(matches!(refused.rejected(), Some(Rejected::CircuitOpen(open)) if open.state() == State::ForcedOpen));
    // It is found by the breaker and the retry around them.
    assert_eq!(outer.policies().1.metrics().buffered_calls, 0);
    assert_eq!(outer.policies().0.metrics().total_calls, 1);
}

#[test]
fn a_layer_holds_nothing_before_its_future_is_polled() {
    let clock = Clock::manual();
    let guard = five(&clock);
    let service = Strict::default();
    let calls = service.calls.clone();
    let mut client = guard.layer(service);
    let unpolled = client.call(0);
    let (_, _, limiter, _, bulkhead) = guard.policies();
    assert_eq!((taken(limiter), bulkhead.metrics().concurrent_calls, calls.get()), (0, 0, 0));
    drop(unpolled);
}

#[test]
fn each_attempt_starts_the_time_limit_of_a_layer_inside_afresh() {
    let clock = Clock::manual();
    let limit = time_limiter(time_limiter::Config::default().timeout_duration(SECOND).clock(&clock));
    let calls = Counter::default();
    let counted = calls.clone();
    let retry: Retry = retry(retry::Config::default().wait_duration(SECOND).clock(&clock));
    let slow_once = move |clock: ManualClock| {
        let slow = counted.up() == 1;
        async move {
            clock.clock().sleep(if slow { 2 * SECOND } else { 900 * MS }).await;
            Ok::<_, BoxError>(())
        }
    };
    let mut client = ServiceBuilder::new().layer(retry).layer(limit).service(service_fn(slow_once));
    drive(&clock, client.call(clock.clone())).unwrap();
    assert_eq!((calls.get(), clock.now().as_nanos()), (2, 2_900_000_000));
}

#[test]
fn calls_through_clones_of_one_service_run_at_the_same_time() {
    let clock = Clock::manual();
    let running = Counter::default();
    let counted = running.clone();
    let service = five(&clock).layer(service_fn(move |order: u32| {
        counted.up();
        async move {
            Yield::default().await;
            Ok::<_, BoxError>(order)
        }
    }));
    let mut calls: Vec<_> = (0..PLACES).map(|order| Box::pin(service.clone().oneshot(order))).collect();
    for call in &mut calls {
        assert!(poll_once(call.as_mut()).is_pending());
    }
    assert_eq!(running.get(), PLACES);
    for (order, call) in (0..).zip(&mut calls) {
        assert!(matches!(poll_once(call.as_mut()), Poll::Ready(Ok(answer)) if answer == order));
    }
}
