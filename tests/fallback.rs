//! Fallback, through the public API.

use std::{
    cell::Cell,
    future::{Future, pending, ready},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use resile::{
    BoxError, BulkheadFull, Clock, Error, Fallback, Pipeline, Rejected, Retry, TimeLimiter, TimedOut, retry,
    time_limiter,
};
use tower::{Layer, ServiceExt, service_fn};

type Failure = Error<&'static str>;

fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// For calls that never wait.
fn now<F: Future>(future: F) -> F::Output {
    match poll_once(pin!(future)) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits"),
    }
}

fn full() -> Rejected {
    BulkheadFull::new("orders", 1).into()
}

#[test]
fn a_success_is_returned_without_asking_the_fallback() {
    let fallback = Fallback::value(|_: Failure| -> Result<u32, Failure> { panic!("asked") });
    assert_eq!(now(fallback.call(|| ready(Ok(42)))), Ok(42));
}

#[test]
fn an_error_is_answered_with_a_value() {
    let fallback = Fallback::value(|error: Failure| error.into_inner().map(str::len).map_err(Into::into));
    assert_eq!(now(fallback.call(|| ready(Err("four")))), Ok(4));
}

#[test]
fn an_error_is_answered_by_another_future() {
    let clock = Clock::manual();
    let fallback = Fallback::new(|error: Failure| {
        let sleep = clock.clock().sleep(Duration::from_secs(3));
        async move {
            sleep.await;
            Ok(error.to_string())
        }
    });
    assert_eq!(clock.block_on(fallback.call(|| ready(Err("down")))), Ok("down".to_owned()));
    assert_eq!(clock.now().as_nanos(), 3_000_000_000);
}

#[test]
fn the_kind_of_error_decides() {
    let fallback = Fallback::value(|error: Failure| match error {
        Error::Rejected(Rejected::BulkheadFull(full)) => Ok(full.max_concurrent_calls()),
        Error::Inner("missing") => Ok(0),
        other => Err(other),
    });
    assert_eq!(now(fallback.call_flat(|| ready(Err(full().into())))), Ok(1));
    assert_eq!(now(fallback.call(|| ready(Err("missing")))), Ok(0));
    assert_eq!(now(fallback.call(|| ready(Err("down")))), Err(Error::Inner("down")));
}

#[test]
fn only_rejections_are_answered_by_on_rejected() {
    let fallback = Fallback::on_rejected(|rejected: &Rejected| rejected.name().len());
    assert_eq!(now(fallback.call_flat(|| ready(Err(Failure::from(full()))))), Ok(6));
    assert_eq!(now(fallback.call(|| ready(Err("down")))), Err(Error::Inner("down")));
    assert_eq!(now(fallback.call(|| ready(Ok::<_, &str>(1)))), Ok(1));
}

#[test]
fn a_rejection_inside_a_boxed_error_is_found() {
    let fallback = Fallback::on_rejected(|_| "later");
    let boxed = || ready(Err::<&str, BoxError>(Box::new(full())));
    assert_eq!(now(fallback.call_flat(boxed)).unwrap(), "later");
}

#[test]
fn the_error_of_the_fallback_is_returned() {
    let fallback = Fallback::new(|_: Failure| ready(Err::<u32, _>(Error::Inner("cache down"))));
    assert_eq!(now(fallback.call(|| ready(Err("down")))), Err(Error::Inner("cache down")));
}

#[test]
fn the_failed_call_is_dropped_before_the_fallback_runs() {
    let held = Rc::new(());
    let fallback = Fallback::value(|_: Failure| Ok(Rc::strong_count(&held)));
    // Unlike an async block it still holds what it captured when it has ended.
    let call = || {
        let held = Rc::clone(&held);
        std::future::poll_fn(move |_| {
            let _ = &held;
            Poll::Ready(Err("down"))
        })
    };
    assert_eq!(now(fallback.call(call)), Ok(1));
}

#[test]
fn a_call_that_is_not_clone_is_taken() {
    let order = vec![1, 2, 3];
    let fallback = Fallback::value(|_: Failure| Ok(0));
    assert_eq!(now(fallback.call(move || async move { Ok(order.into_iter().sum::<u32>()) })), Ok(6));
}

#[test]
fn nothing_happens_before_the_first_poll() {
    let calls = Cell::new(0);
    let fallback = Fallback::value(Err::<(), Failure>);
    drop(fallback.call(|| {
        calls.set(calls.get() + 1);
        ready(Ok(()))
    }));
    assert_eq!(calls.get(), 0);
}

#[test]
fn dropping_the_call_drops_what_is_under_way() {
    let held = Rc::new(());
    let hold = |fails: bool| {
        let held = Rc::clone(&held);
        async move {
            if fails {
                return Err("down");
            }
            let _held = held;
            pending().await
        }
    };
    let fallback = Fallback::new(|_: Failure| async { hold(false).await.map_err(Error::Inner) });
    for fails in [false, true] {
        {
            let mut call = pin!(fallback.call(|| hold(fails)));
            let answer: Poll<Result<(), Failure>> = poll_once(call.as_mut());
            assert!(answer.is_pending());
            assert_eq!(Rc::strong_count(&held), 2);
        }
        assert_eq!(Rc::strong_count(&held), 1);
    }
}

#[test]
fn a_finished_call_holds_nothing() {
    let held = Rc::new(());
    let fallback = Fallback::new(|error: Failure| {
        let held = Rc::clone(&held);
        let mut answer = Some(error);
        std::future::poll_fn(move |_| {
            let _ = &held;
            Poll::Ready(Err::<(), _>(answer.take().expect("polled once")))
        })
    });
    let mut call = pin!(fallback.call(|| ready(Err("down"))));
    assert!(poll_once(call.as_mut()).is_ready());
    assert_eq!(Rc::strong_count(&held), 1);
}

#[test]
fn a_blocking_call_falls_back_too() {
    let fallback = Fallback::value(|_: Failure| Ok("cached"));
    assert_eq!(fallback.call_blocking(|| Err("down")), Ok("cached"));
    assert_eq!(fallback.call_blocking(|| Ok("fresh")), Ok("fresh"));
}

#[test]
fn it_sees_what_all_policies_inside_have_made_of_the_call() {
    let clock = Clock::manual();
    let retry = Retry::new("orders", retry::Config::default().clock(&clock)).unwrap();
    let limiter = TimeLimiter::new("orders", time_limiter::Config::default().clock(&clock)).unwrap();
    let fallback = Fallback::on_rejected(|rejected| rejected.clone());
    let pipeline = Pipeline::new((fallback, retry, limiter));
    let answer = clock.block_on(pipeline.call(pending::<Result<Rejected, ()>>));
    assert_eq!(answer, Ok(TimedOut::new("orders", Duration::from_secs(1)).into()));
    assert_eq!(clock.now().as_nanos(), 4_000_000_000);
}

#[tokio::test]
async fn a_call_can_be_spawned() {
    let fallback = Fallback::new(|error: Failure| async move { Ok(error.to_string()) });
    let answer = tokio::spawn(async move { fallback.call(|| async { Err("down") }).await }).await;
    assert_eq!(answer.unwrap(), Ok("down".to_owned()));
}

#[test]
fn it_is_a_layer_that_keeps_the_service_s_error() {
    let fallback = Fallback::new(|error: BoxError| async move { Ok::<_, BoxError>(error.to_string()) });
    let service = fallback.layer(service_fn(|_: ()| ready(Err::<String, BoxError>("down".into()))));
    assert_eq!(now(service.clone().oneshot(())).unwrap(), "down");
}
