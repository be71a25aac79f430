//! The time limiter, sentence by sentence.

use std::{
    cell::Cell,
    future::{Future, pending, poll_fn, ready},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use resile::{
    Bulkhead, Clock, Error, ManualClock, Pipeline, Rejected, TimeLimiter,
    event::{Event, EventKind, PolicyKind},
    time_limiter::Config,
};

const SECOND: Duration = Duration::from_secs(1);

fn limiter(timeout: Duration) -> (TimeLimiter, ManualClock) {
    let clock = Clock::manual();
    let config = Config::default().timeout_duration(timeout).clock(&clock);
    (TimeLimiter::new("mail", config).expect("a valid config"), clock)
}

fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Says when it is dropped.
struct Noticed(Rc<Cell<bool>>);

impl Drop for Noticed {
    fn drop(&mut self) {
        self.0.set(true);
    }
}

fn timed_out<T: std::fmt::Debug, E: std::fmt::Debug>(result: Result<T, Error<E>>) -> Duration {
    match result {
        Err(Error::Rejected(Rejected::TimedOut(timed_out))) => timed_out.timeout_duration(),
        other => panic!("not timed out: {other:?}"),
    }
}

async fn broken() -> Result<(), &'static str> {
    panic!("broken")
}

#[test]
fn a_call_that_takes_too_long_is_given_up_and_dropped() {
    let (limiter, clock) = limiter(SECOND);
    let dropped = Rc::new(Cell::new(false));
    let noticed = Noticed(Rc::clone(&dropped));
    let mut call = pin!(limiter.call(|| async move {
        let _noticed = noticed;
        pending::<Result<(), &str>>().await
    }));
    assert!(poll_once(call.as_mut()).is_pending());
    clock.advance(SECOND - Duration::from_nanos(1));
    assert!(poll_once(call.as_mut()).is_pending());
    assert!(!dropped.get());
    clock.advance(Duration::from_nanos(1));
    let Poll::Ready(result) = poll_once(call.as_mut()) else { panic!("the time is over") };
    assert!(dropped.get(), "the call is dropped with the time-out, not with its guard");
    let error = result.unwrap_err().into_inner().unwrap_err();
    assert_eq!((error.name(), error.policy(), error.retry_after()), ("mail", PolicyKind::TimeLimiter, None));
    assert_eq!((error.http_status(), error.is_refusal()), (503, false));
    assert_eq!(error.to_string(), "time limiter 'mail' gave the call up after 1s");
}

#[test]
fn a_call_in_time_returns_what_it_returns() {
    let (limiter, clock) = limiter(SECOND);
    let sleep = clock.clock().sleep(SECOND - Duration::from_nanos(1));
    let result = clock.block_on(limiter.call(|| async {
        sleep.await;
        Err::<(), _>("down")
    }));
    assert_eq!(result, Err(Error::Inner("down")));
}

#[test]
fn a_result_and_the_end_of_the_time_in_one_moment_are_a_result() {
    let (limiter, clock) = limiter(SECOND);
    let result = clock.block_on(limiter.call(|| async {
        clock.clock().sleep(SECOND).await;
        Ok::<_, &str>(1)
    }));
    assert_eq!(result, Ok(1));
}

#[test]
fn no_timer_is_made_for_a_call_that_is_ready_at_once() {
    let (limiter, clock) = limiter(SECOND);
    let mut call = pin!(limiter.call(|| ready(Ok::<_, &str>(1))));
    assert_eq!(poll_once(call.as_mut()), Poll::Ready(Ok(1)));
    assert_eq!(clock.next_wake(), None);
}

#[test]
fn the_timer_goes_with_the_call_that_ends_or_is_dropped() {
    let (limiter, clock) = limiter(SECOND);
    let mut polls = 0;
    let mut call = pin!(limiter.call(|| poll_fn(|_| {
        polls += 1;
        if polls == 2 { Poll::Ready(Ok::<_, &str>(())) } else { Poll::Pending }
    })));
    assert!(poll_once(call.as_mut()).is_pending());
    assert_eq!(clock.next_wake(), Some(SECOND));
    assert!(poll_once(call.as_mut()).is_ready());
    assert_eq!(clock.next_wake(), None);
    {
        let mut dropped = pin!(limiter.call(pending::<Result<(), &str>>));
        assert!(poll_once(dropped.as_mut()).is_pending());
        assert_eq!(clock.next_wake(), Some(SECOND));
    }
    assert_eq!(clock.next_wake(), None);
}

#[test]
fn a_thousand_failed_calls_leave_no_timer() {
    let (limiter, clock) = limiter(SECOND);
    for _ in 0..1000 {
        let mut yielded = false;
        let result = clock.block_on(limiter.call(|| {
            poll_fn(move |task| {
                task.waker().wake_by_ref();
                if std::mem::replace(&mut yielded, true) { Poll::Ready(Err::<(), _>("down")) } else { Poll::Pending }
            })
        }));
        assert_eq!(result, Err(Error::Inner("down")));
    }
    assert_eq!(clock.next_wake(), None);
    assert_eq!(clock.now(), Default::default());
}

#[test]
fn a_call_that_is_never_polled_does_nothing() {
    let (limiter, clock) = limiter(SECOND);
    let mut started = false;
    drop(limiter.call(|| {
        started = true;
        pending::<Result<(), &str>>()
    }));
    assert!(!started);
    assert_eq!(clock.next_wake(), None);
}

#[test]
fn a_panic_is_a_panic_and_no_time_out() {
    let (limiter, clock) = limiter(SECOND);
    let call = limiter.call(broken);
    let unwound = catch_unwind(AssertUnwindSafe(|| clock.block_on(call))).unwrap_err();
    assert_eq!(unwound.downcast_ref::<&str>(), Some(&"broken"));
    assert_eq!(clock.next_wake(), None);
}

#[test]
fn a_time_below_a_millisecond_is_not_rounded() {
    let (limiter, clock) = limiter(Duration::from_nanos(900));
    assert_eq!(timed_out(clock.block_on(limiter.call(pending::<Result<(), ()>>))), Duration::from_nanos(900));
    assert_eq!(clock.now().as_nanos(), 900);
}

#[test]
fn the_longest_time_is_no_limit() {
    let (limiter, clock) = limiter(Duration::MAX);
    clock.advance(SECOND);
    let result = clock.block_on(limiter.call(|| async {
        clock.clock().sleep(Duration::from_secs(1 << 33)).await;
        Ok::<_, ()>(())
    }));
    assert_eq!(result, Ok(()));
}

#[test]
fn the_time_of_each_call_may_be_given_by_a_function() {
    let (limiter, clock) = limiter(SECOND);
    let patient = limiter.timeout_with(|cx| SECOND * (cx.attempt() + 6));
    assert_eq!(timed_out(clock.block_on(patient.call(pending::<Result<(), ()>>))), 7 * SECOND);
    assert_eq!(clock.now().as_nanos(), 7_000_000_000);
}

#[test]
fn a_blocking_call_that_took_too_long_is_timed_out_afterwards() {
    let (limiter, clock) = limiter(SECOND);
    let slow = limiter.call_blocking(|| {
        clock.advance(SECOND + Duration::from_nanos(1));
        Ok::<_, ()>("late")
    });
    assert_eq!(timed_out(slow), SECOND);
    let quick = limiter.call_blocking(|| {
        clock.advance(SECOND);
        Ok::<_, ()>("in time")
    });
    assert_eq!(quick, Ok("in time"));
}

#[test]
fn a_time_of_zero_is_refused() {
    let error = TimeLimiter::new("mail", Config::default().timeout_duration(Duration::ZERO)).unwrap_err();
    assert_eq!((error.field, error.value.as_str()), ("timeout_duration", "0ns"));
    assert_eq!(error.to_string(), "timeout_duration = 0ns: must be more than zero");
}

#[test]
fn every_end_is_told() {
    let (limiter, clock) = limiter(SECOND);
    let log = limiter.event_log(8);
    let _ = clock.block_on(limiter.call(|| ready(Ok::<_, ()>(()))));
    let _ = clock.block_on(limiter.call(|| async {
        clock.clock().sleep(SECOND / 2).await;
        Err::<(), _>(())
    }));
    let _ = clock.block_on(limiter.call(pending::<Result<(), ()>>));
    let kinds: Vec<_> = log.events().into_iter().map(|event| (event.at.as_nanos(), event.kind)).collect();
    let expected = [
        (0, EventKind::Success { elapsed: None, attempts: 0 }),
        (500_000_000, EventKind::Error { elapsed: Some(SECOND / 2), attempts: 0 }),
        (1_500_000_000, EventKind::Timeout),
    ];
    assert_eq!(kinds, expected);
    assert!(log.events().iter().all(|event| &*event.name == "mail" && event.policy == PolicyKind::TimeLimiter));
}

/// A runtime of its own, since the call goes on in a task.
fn on_a_runtime<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime").block_on(future)
}

#[test]
fn a_detached_call_goes_on_and_keeps_what_it_holds() {
    on_a_runtime(async {
        let (limiter, clock) = limiter(SECOND);
        let bulkhead = Bulkhead::with_defaults("mail");
        let mut events = limiter.events(8);
        let (finish, finished) = tokio::sync::oneshot::channel::<()>();
        let pipeline = Pipeline::new((limiter.detached(), bulkhead.clone()));
        let guarded = tower::ServiceBuilder::new().layer(pipeline).service(tower::service_fn({
            let finished = Arc::new(tokio::sync::Mutex::new(Some(finished)));
            move |()| {
                let finished = Arc::clone(&finished);
                async move {
                    let finished = finished.lock().await.take().expect("called once");
                    finished.await.map_err(Error::Inner)
                }
            }
        }));
        let mut call = pin!(tower::ServiceExt::oneshot(guarded, ()));
        poll_fn(|task| {
            assert!(call.as_mut().poll(task).is_pending());
            Poll::Ready(())
        })
        .await;
        while bulkhead.metrics().available_concurrent_calls == 25 {
            tokio::task::yield_now().await;
        }
        clock.advance(SECOND);
        assert_eq!(timed_out(call.as_mut().await), SECOND);
        assert_eq!(events.next().await.kind, EventKind::Timeout);
        assert_eq!(bulkhead.metrics().available_concurrent_calls, 24, "the work goes on");

        clock.advance(2 * SECOND);
        finish.send(()).expect("the work waits");
        let Event { kind, .. } = events.next().await;
        assert_eq!(kind, EventKind::DetachedFinished { elapsed: 3 * SECOND });
        while bulkhead.metrics().available_concurrent_calls < 25 {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn a_detached_call_in_time_returns_its_result_and_its_panic() {
    on_a_runtime(async {
        let (limiter, _clock) = limiter(SECOND);
        let mut events = limiter.events(8);
        let detached = limiter.detached();
        assert_eq!(detached.call(|| async { Ok::<_, &str>(1) }).await, Ok(1));
        assert_eq!(events.next().await.kind, EventKind::Success { elapsed: None, attempts: 0 });
        let call = detached.call(broken);
        let unwound = futures::FutureExt::catch_unwind(AssertUnwindSafe(call)).await.unwrap_err();
        assert_eq!(unwound.downcast_ref::<&str>(), Some(&"broken"));
        assert_eq!(events.try_next(), None);
    });
}

#[test]
fn a_detached_call_that_panics_when_nobody_waits_is_reported_too() {
    on_a_runtime(async {
        let (limiter, clock) = limiter(SECOND);
        let mut events = limiter.events(8);
        let go_on = Arc::new(tokio::sync::Notify::new());
        let waits = Arc::clone(&go_on);
        let detached = limiter.detached();
        let mut call = pin!(detached.call(move || async move {
            waits.notified().await;
            broken().await
        }));
        assert!(poll_once(call.as_mut()).is_pending());
        clock.advance(SECOND);
        assert_eq!(timed_out(call.await), SECOND);
        go_on.notify_one();
        assert_eq!(events.next().await.kind, EventKind::Timeout);
        assert_eq!(events.next().await.kind, EventKind::DetachedFinished { elapsed: SECOND });
    });
}

#[test]
fn a_detached_call_whose_runtime_is_gone_is_timed_out() {
    let (limiter, clock) = limiter(SECOND);
    let detached = limiter.detached();
    let mut call = pin!(detached.call(pending::<Result<(), &'static str>>));
    on_a_runtime(async { assert!(poll_once(call.as_mut()).is_pending()) });
    assert!(poll_once(call.as_mut()).is_pending());
    assert!(poll_once(call.as_mut()).is_pending());
    clock.advance(SECOND);
    let Poll::Ready(result) = poll_once(call.as_mut()) else { panic!("the time is over") };
    assert_eq!(timed_out(result), SECOND);
}

#[test]
fn a_detached_call_that_is_dropped_goes_on_once_it_has_begun() {
    on_a_runtime(async {
        let (limiter, _clock) = limiter(SECOND);
        let mut events = limiter.events(8);
        let runs = Arc::new(AtomicU32::new(0));
        let work = || {
            let runs = Arc::clone(&runs);
            move || async move {
                runs.fetch_add(1, Ordering::Relaxed);
                Ok::<_, ()>(())
            }
        };
        let detached = limiter.detached();
        drop(detached.call(work()));
        {
            let mut begun = pin!(detached.call(work()));
            assert!(poll_once(begun.as_mut()).is_pending());
        }
        assert_eq!(events.next().await.kind.as_str(), "DETACHED_FINISHED");
        assert_eq!(runs.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn sleepers_on_the_default_clock_are_woken_by_its_thread() {
    let limiter = TimeLimiter::new("mail", Config::default().timeout_duration(Duration::from_millis(2))).unwrap();
    let (send, receive) = mpsc::channel();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (limiter, send) = (limiter.clone(), send.clone());
            std::thread::spawn(move || {
                let result = on_a_runtime(limiter.call(pending::<Result<(), ()>>));
                send.send(timed_out(result)).expect("somebody listens");
            })
        })
        .collect();
    drop(send);
    assert_eq!(receive.iter().count(), 4);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn a_panicking_listener_harms_neither_the_call_nor_the_other_listeners() {
    let (limiter, clock) = limiter(SECOND);
    limiter.on_event(|_| std::panic::resume_unwind(Box::new("listener"))).forever();
    let log = limiter.event_log(8);
    assert_eq!(clock.block_on(limiter.call(|| ready(Ok::<_, ()>(1)))), Ok(1));
    assert_eq!(clock.block_on(limiter.call(|| ready(Err::<(), _>("down")))), Err(Error::Inner("down")));
    assert_eq!(timed_out(clock.block_on(limiter.call(pending::<Result<(), ()>>))), SECOND);
    let names: Vec<_> = log.events().iter().map(|event| event.kind.as_str()).collect();
    assert_eq!((names, clock.next_wake()), (vec!["SUCCESS", "ERROR", "TIMEOUT"], None));
}

#[test]
fn a_time_out_of_an_inner_limiter_is_an_error_to_the_outer_one() {
    let (outer, clock) = limiter(2 * SECOND);
    let config = Config::default().timeout_duration(SECOND).clock(&clock);
    let inner = TimeLimiter::new("inner", config).expect("a valid config");
    let (told_outside, told_inside) = (outer.event_log(8), inner.event_log(8));
    let both = Pipeline::new((outer, inner));
    let Err(Error::Rejected(rejected)) = clock.block_on(both.call(pending::<Result<(), ()>>)) else {
        panic!("not timed out")
    };
    assert_eq!(rejected.name(), "inner");
    let kinds = |log: &resile::event::EventLog| log.events().into_iter().map(|event| event.kind).collect::<Vec<_>>();
    assert_eq!(kinds(&told_inside), [EventKind::Timeout]);
    assert_eq!(kinds(&told_outside), [EventKind::Error { elapsed: Some(SECOND), attempts: 0 }]);
}
