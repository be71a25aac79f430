//! `Send` where the call is, not asked for where it is not; shared state is `Send + Sync + 'static`.

mod support;

use std::{cell::Cell, future::ready, io, rc::Rc, time::Duration};

use resile::{
    BoxError, Bulkhead, BulkheadFull, CircuitBreaker, CircuitOpen, Clock, Cx, Error, Event, Fallback, IntervalFunction,
    InvalidConfig, ManualClock, Outcome, Pipeline, RateLimited, RateLimiter, Registry, Rejected, Resilience,
    RetriesExhausted, Retry, Subscription, ThreadPoolBulkhead, TimeLimiter, TimedOut, Verdict, bulkhead,
    circuit_breaker, clock,
    event::{EventLog, EventStream},
    layer::Guarded,
    rate_limiter,
    registry::{KeyedRegistry, NamedPipeline, NoRetry, RegistryEvent},
    retry, time_limiter,
};
use support::{Five, MS, five};
use tokio::task::{LocalSet, spawn_local};
use tower::{Layer, Service, service_fn};

fn shareable<T: Send + Sync + 'static>() {}

fn send<T: Send>(value: T) -> T {
    value
}

#[test]
fn handles_configs_errors_and_events_can_be_shared() {
    shareable::<CircuitBreaker>();
    shareable::<Retry>();
    shareable::<RateLimiter>();
    shareable::<TimeLimiter>();
    shareable::<time_limiter::DetachedTimeLimiter>();
    shareable::<Bulkhead>();
    shareable::<ThreadPoolBulkhead>();
    shareable::<Fallback<()>>();
    shareable::<Five>();
    shareable::<Guarded<(), Five>>();

    shareable::<Registry<CircuitBreaker>>();
    shareable::<KeyedRegistry<String, RateLimiter>>();
    shareable::<RegistryEvent<ThreadPoolBulkhead>>();
    shareable::<Resilience>();
    shareable::<NamedPipeline>();
    shareable::<NamedPipeline<NoRetry>>();

    shareable::<circuit_breaker::Config>();
    shareable::<retry::Config>();
    shareable::<rate_limiter::Config>();
    shareable::<time_limiter::Config>();
    shareable::<bulkhead::Config>();
    shareable::<bulkhead::thread_pool::Config>();
    shareable::<IntervalFunction>();
    shareable::<Clock>();
    shareable::<ManualClock>();
    shareable::<clock::Sleep>();
    shareable::<Cx>();

    shareable::<Rejected>();
    shareable::<CircuitOpen>();
    shareable::<BulkheadFull>();
    shareable::<RateLimited>();
    shareable::<TimedOut>();
    shareable::<RetriesExhausted>();
    shareable::<Error<io::Error>>();
    shareable::<InvalidConfig>();
    shareable::<circuit_breaker::IllegalTransition>();
    shareable::<Outcome>();
    shareable::<Verdict>();

    shareable::<Event>();
    shareable::<EventStream>();
    shareable::<EventLog>();
    shareable::<Subscription>();

    shareable::<circuit_breaker::OwnedPermit>();
    shareable::<circuit_breaker::Permit<'static>>();
    shareable::<bulkhead::OwnedPermit>();
    shareable::<bulkhead::Permit<'static>>();
}

type Answer = Result<u32, Error<&'static str>>;

#[test]
fn a_call_that_is_send_gives_a_future_that_is_send() {
    let call = || async {
        tokio::task::yield_now().await;
        Err::<u32, _>("down")
    };
    let guard = five(&Clock::manual());
    let (retry, breaker, limiter, time_limiter, bulkhead) = guard.policies();
    drop(send(retry.call(call)));
    drop(send(retry.retry_if(|result: &Answer| result.is_err()).call(call)));
    drop(send(breaker.call(call)));
    drop(send(breaker.classify(|result: &Answer| Outcome::of(result)).call(call)));
    drop(send(limiter.call(call)));
    drop(send(limiter.permits(2).unwrap().call(call)));
    drop(send(limiter.drain_on_result(|result: &Answer| result.is_err()).call(call)));
    drop(send(time_limiter.call(call)));
    drop(send(time_limiter.timeout_with(|_| MS).call(call)));
    drop(send(time_limiter.detached().call(call)));
    drop(send(bulkhead.call(call)));
    drop(send(Fallback::value(|error: Error<&'static str>| Err::<u32, _>(error)).call(call)));
    drop(send(Fallback::new(|error: Error<&'static str>| async { Err::<u32, _>(error) }).call(call)));
    drop(send(Fallback::on_rejected(|_| 0).call(call)));
    drop(send(guard.call(call)));
    drop(send(guard.call_with(|_| call())));
    drop(send(guard.call_flat(|| async { Err::<u32, Error<&str>>(Error::Inner("down")) })));
    drop(send(Pipeline::new((Some(guard.clone()), (Fallback::on_rejected(|_| 0), None::<Retry>))).call(call)));
    drop(send(guard.layer(service_fn(|()| async { Ok::<_, BoxError>(()) })).call(())));
    drop(send(limiter.acquire(1)));
    drop(send(bulkhead.acquire()));
    drop(send(bulkhead.acquire_owned()));
    drop(send(Clock::default().sleep(Duration::ZERO)));
}

#[test]
fn a_call_that_is_not_send_works_on_a_current_thread_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let clock = Clock::manual();
    let guard = Pipeline::new((Fallback::on_rejected(|_| 0), five(&clock)));
    let calls = Rc::new(Cell::new(0));
    let counted = Rc::clone(&calls);
    let result = LocalSet::new().block_on(&runtime, async move {
        let task = spawn_local(async move {
            let counted = &counted;
            let call = || async move {
                tokio::task::yield_now().await;
                counted.set(counted.get() + 1);
                Ok::<_, Rc<str>>(counted.get())
            };
            guard.call(call).await
        });
        task.await.unwrap()
    });
    assert_eq!((result, calls.get()), (Ok(1), 1));
}

#[test]
fn a_service_that_is_not_send_can_be_layered() {
    let clock = Clock::manual();
    let calls = Rc::new(Cell::new(0));
    let counted = Rc::clone(&calls);
    let mut client = five(&clock).layer(service_fn(move |()| {
        counted.set(counted.get() + 1);
        ready(Ok::<_, Error<Rc<str>>>(Rc::clone(&counted)))
    }));
    assert_eq!(support::drive(&clock, client.call(())).unwrap().get(), 1);
}

#[test]
fn a_call_borrows_what_lives_on_the_stack() {
    let clock = Clock::manual();
    let guard = five(&clock);
    let item = String::from("a book");
    let length: Result<usize, Error<io::Error>> = support::drive(&clock, guard.call(|| async { Ok(item.len()) }));
    assert_eq!(length.unwrap(), item.len());
}
