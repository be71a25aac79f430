//! The semaphore bulkhead through its public interface, on a clock that stands still.
#![allow(clippy::unwrap_used)]

use std::{
    future::{Future, pending, ready},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread,
    time::Duration,
};

use resile::{
    Bulkhead, BulkheadFull, Clock, Error, ManualClock, Pipeline, Rejected, TimeLimiter,
    bulkhead::{Acquire, Config, OwnedPermit, Permit},
    event::{EventKind, EventLog, PolicyKind},
    time_limiter,
};

const SECOND: Duration = Duration::from_secs(1);

type Done = Result<u32, Error<&'static str>>;

fn bulkhead(calls: u32, wait: Duration) -> (Bulkhead, ManualClock) {
    let clock = Clock::manual();
    let config = Config::default().max_concurrent_calls(calls).max_wait_duration(wait).clock(&clock);
    (Bulkhead::new("mail", config).unwrap(), clock)
}

fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn full<T: std::fmt::Debug>(result: Result<T, Rejected>) -> BulkheadFull {
    match result {
        Err(Rejected::BulkheadFull(full)) => full,
        other => panic!("not full: {other:?}"),
    }
}

/// Calls in, calls waiting.
fn load(bulkhead: &Bulkhead) -> (u32, u32) {
    let metrics = bulkhead.metrics();
    (metrics.concurrent_calls, metrics.waiting_calls)
}

fn kinds(log: &EventLog) -> Vec<EventKind> {
    log.events().into_iter().map(|event| event.kind).collect()
}

/// Counts how often it is woken.
#[derive(Default)]
struct Bell(AtomicU32);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_call_s_result_comes_back_and_its_place_is_free_again() {
    let (bulkhead, clock) = bulkhead(1, Duration::ZERO);
    assert_eq!(clock.block_on(bulkhead.call(|| ready(Ok::<_, &str>(7)))), Ok(7));
    assert_eq!(clock.block_on(bulkhead.call(|| ready(Err::<u32, _>("down")))), Err(Error::Inner("down")));
    assert_eq!(load(&bulkhead), (0, 0));
}

#[test]
fn a_full_bulkhead_says_full_and_not_timed_out() {
    let (patient, clock) = bulkhead(2, SECOND);
    let _permits = (patient.try_acquire().unwrap(), patient.try_acquire().unwrap());

    let at_once = full(patient.try_acquire());
    assert_eq!((at_once.name(), at_once.max_concurrent_calls()), ("mail", 2));
    assert_eq!((at_once.waiting_calls(), at_once.waited()), (0, Duration::ZERO));

    let started = clock.now();
    let late: Done = clock.block_on(patient.call(|| ready(Ok(7))));
    let rejected = late.unwrap_err().into_inner().unwrap_err();
    assert_eq!((rejected.policy(), rejected.retry_after()), (PolicyKind::Bulkhead, None));
    assert_eq!(full::<()>(Err(rejected)).waited(), SECOND);
    assert_eq!(clock.now(), started.saturating_add(SECOND));
}

#[test]
fn a_rejection_counts_those_who_wait() {
    let (bulkhead, _clock) = bulkhead(1, SECOND);
    let _permit = bulkhead.try_acquire().unwrap();
    let mut waiter = pin!(bulkhead.acquire());
    assert!(poll(waiter.as_mut()).is_pending());
    assert_eq!(full(bulkhead.try_acquire()).waiting_calls(), 1);
}

#[test]
fn without_a_wait_nothing_is_queued() {
    let (bulkhead, clock) = bulkhead(1, Duration::ZERO);
    let _permit = bulkhead.try_acquire().unwrap();
    assert_eq!(full(clock.block_on(bulkhead.acquire())).waited(), Duration::ZERO);
    assert_eq!(clock.next_wake(), None);
}

#[test]
fn a_waiter_is_woken_when_a_place_is_given_back() {
    let (bulkhead, clock) = bulkhead(1, SECOND);
    let permit = bulkhead.try_acquire().unwrap();
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(Arc::clone(&bell));
    let mut waiter = pin!(bulkhead.acquire());
    // The task may have moved: the waker of the last poll counts.
    assert!(poll(waiter.as_mut()).is_pending());
    assert!(waiter.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    clock.advance(SECOND / 2);
    assert_eq!(bell.0.load(Ordering::Relaxed), 0);
    drop(permit);
    assert_eq!(bell.0.load(Ordering::Relaxed), 1);
    assert!(matches!(poll(waiter), Poll::Ready(Ok(_))));
    assert_eq!(clock.next_wake(), None, "the timer goes with the wait");
}

#[test]
fn a_newcomer_never_overtakes_a_waiter() {
    let (bulkhead, clock) = bulkhead(2, SECOND);
    let (first, _second) = (bulkhead.try_acquire().unwrap(), bulkhead.try_acquire().unwrap());
    let mut waiter = pin!(bulkhead.acquire());
    assert!(poll(waiter.as_mut()).is_pending());
    drop(first);
    // The place is the waiter's, though it has not looked yet.
    full(bulkhead.try_acquire());
    let mut newcomer = pin!(bulkhead.call(|| ready(Ok::<_, &str>(7))));
    assert!(poll(newcomer.as_mut()).is_pending());
    let Poll::Ready(Ok(permit)) = poll(waiter) else { panic!("the place was given away") };
    assert!(poll(newcomer.as_mut()).is_pending());
    drop(permit);
    assert_eq!(clock.block_on(newcomer), Ok(7));
}

#[test]
fn waiters_are_served_in_the_order_they_came() {
    let (bulkhead, _clock) = bulkhead(1, SECOND);
    let mut held = Some(bulkhead.try_acquire().unwrap());
    let mut waiters: Vec<_> = (0..4).map(|_| Box::pin(bulkhead.acquire())).collect();
    for waiter in &mut waiters {
        assert!(poll(waiter.as_mut()).is_pending());
    }
    for next in 0..waiters.len() {
        drop(held.take());
        for later in &mut waiters[next + 1..] {
            assert!(poll(later.as_mut()).is_pending());
        }
        let Poll::Ready(Ok(permit)) = poll(waiters[next].as_mut()) else { panic!("waiter {next} was passed over") };
        held = Some(permit);
    }
}

#[test]
fn a_dropped_waiter_leaves_the_queue() {
    let (bulkhead, clock) = bulkhead(1, SECOND);
    let permit = bulkhead.try_acquire().unwrap();
    let mut waiters: Vec<_> = (0..3).map(|_| Box::pin(bulkhead.acquire())).collect();
    for waiter in &mut waiters {
        assert!(poll(waiter.as_mut()).is_pending());
    }
    drop(waiters.remove(1));
    assert_eq!(load(&bulkhead), (1, 2));
    drop(waiters);
    assert_eq!(load(&bulkhead), (1, 0));
    assert_eq!(clock.next_wake(), None);
    drop(permit);
    assert!(bulkhead.try_acquire().is_ok());
}

#[test]
fn a_granted_waiter_that_is_dropped_passes_its_place_on() {
    let (bulkhead, _clock) = bulkhead(1, SECOND);
    let permit = bulkhead.try_acquire().unwrap();
    let (mut first, mut second) = (Box::pin(bulkhead.acquire()), Box::pin(bulkhead.acquire()));
    assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
    drop(permit);
    drop(first);
    assert_eq!(load(&bulkhead), (1, 0));
    // The second is dropped too, in the same state, with nobody behind it.
    drop(second);
    assert_eq!(load(&bulkhead), (0, 0));
}

#[test]
fn a_place_that_came_in_time_is_kept_however_late_it_is_noticed() {
    let (bulkhead, clock) = bulkhead(1, SECOND);
    let permit = bulkhead.try_acquire().unwrap();
    let mut waiter = pin!(bulkhead.acquire());
    assert!(poll(waiter.as_mut()).is_pending());
    drop(permit);
    clock.advance(2 * SECOND);
    assert!(matches!(poll(waiter), Poll::Ready(Ok(_))));
}

#[test]
fn more_than_the_bound_do_not_wait() {
    let clock = Clock::manual();
    let config = Config::default().max_concurrent_calls(1).max_wait_duration(SECOND).max_waiting_calls(1).clock(&clock);
    let bulkhead = Bulkhead::new("mail", config).unwrap();
    let _permit = bulkhead.try_acquire().unwrap();
    let mut waiter = Box::pin(bulkhead.acquire());
    assert!(poll(waiter.as_mut()).is_pending());
    let Poll::Ready(beyond) = poll(pin!(bulkhead.acquire())) else { panic!("more wait than may") };
    let beyond = full(beyond);
    assert_eq!((beyond.waiting_calls(), beyond.waited()), (1, Duration::ZERO));
    drop(waiter);
    assert!(poll(pin!(bulkhead.acquire())).is_pending());
}

#[test]
fn shrinking_never_blocks_and_takes_effect_as_calls_finish() {
    let (bulkhead, _clock) = bulkhead(3, SECOND);
    let mut permits: Vec<_> = (0..3).map(|_| bulkhead.try_acquire().unwrap()).collect();
    bulkhead.change_max_concurrent_calls(1).unwrap();
    let metrics = bulkhead.metrics();
    assert_eq!((metrics.concurrent_calls, metrics.max_allowed_concurrent_calls), (3, 1));
    assert_eq!(metrics.available_concurrent_calls, 0);
    assert!(format!("{:?}", bulkhead.config()).contains("max_concurrent_calls: 1"));
    for _ in 0..2 {
        permits.pop();
        full(bulkhead.try_acquire());
    }
    permits.pop();
    let only = bulkhead.try_acquire().unwrap();
    full(bulkhead.try_acquire());
    drop(only);
}

#[test]
fn growing_admits_waiters_at_once() {
    let (bulkhead, _clock) = bulkhead(1, SECOND);
    let _permit = bulkhead.try_acquire().unwrap();
    let mut waiters: Vec<_> = (0..3).map(|_| Box::pin(bulkhead.acquire())).collect();
    for waiter in &mut waiters {
        assert!(poll(waiter.as_mut()).is_pending());
    }
    bulkhead.change_max_concurrent_calls(3).unwrap();
    assert_eq!(load(&bulkhead), (3, 1));
    assert!(poll(waiters[2].as_mut()).is_pending());
    assert!(matches!(poll(waiters[0].as_mut()), Poll::Ready(Ok(_))));
}

#[test]
fn an_unmatched_release_cannot_raise_the_limit() {
    let (bulkhead, clock) = bulkhead(3, Duration::ZERO);
    let permits: Vec<_> = (0..3).map(|_| bulkhead.try_acquire().unwrap()).collect();
    bulkhead.change_max_concurrent_calls(1).unwrap();
    for permit in permits {
        permit.finish();
    }
    // Neither a rejected call nor one that was never begun has a place to give back.
    let permit = bulkhead.try_acquire().unwrap();
    drop(clock.block_on(bulkhead.acquire()));
    drop(bulkhead.call(|| ready(Ok::<_, &str>(7))));
    drop(permit);
    assert_eq!(bulkhead.metrics().available_concurrent_calls, 1);
}

#[test]
fn another_wait_applies_to_those_who_come_later() {
    let (bulkhead, clock) = bulkhead(1, SECOND);
    let _permit = bulkhead.try_acquire().unwrap();
    let (mut before, mut after) = (pin!(bulkhead.acquire()), pin!(bulkhead.acquire()));
    assert!(poll(before.as_mut()).is_pending());
    bulkhead.change_max_wait_duration(2 * SECOND);
    assert!(poll(after.as_mut()).is_pending());
    clock.advance(SECOND);
    let Poll::Ready(rejected) = poll(before) else { panic!("still waiting") };
    assert_eq!(full(rejected).waited(), SECOND);
    assert!(poll(after.as_mut()).is_pending());
    clock.advance(SECOND);
    let Poll::Ready(rejected) = poll(after) else { panic!("still waiting") };
    assert_eq!(full(rejected).waited(), 2 * SECOND);
}

#[test]
fn a_wait_without_end_is_allowed() {
    let (bulkhead, clock) = bulkhead(1, Duration::MAX);
    let permit = bulkhead.try_acquire().unwrap();
    let mut waiter = pin!(bulkhead.acquire());
    assert!(poll(waiter.as_mut()).is_pending());
    clock.advance(1_000_000 * SECOND);
    assert!(poll(waiter.as_mut()).is_pending());
    drop(permit);
    assert!(matches!(poll(waiter), Poll::Ready(Ok(_))));
}

#[test]
fn one_slow_dependency_does_not_starve_another() {
    let (slow, clock) = bulkhead(2, Duration::ZERO);
    let (quick, _) = bulkhead(2, Duration::ZERO);
    let mut hanging: Vec<_> = (0..2).map(|_| Box::pin(slow.call(pending::<Done>))).collect();
    for call in &mut hanging {
        assert!(poll(call.as_mut()).is_pending());
    }
    assert!(clock.block_on(slow.call(|| ready(Ok::<_, &str>(7)))).is_err());
    assert_eq!(clock.block_on(quick.call(|| ready(Ok::<_, &str>(7)))), Ok(7));
}

#[test]
fn a_clone_is_the_same_bulkhead() {
    let (bulkhead, _clock) = bulkhead(1, Duration::ZERO);
    let clone = bulkhead.clone();
    let _permit = bulkhead.try_acquire().unwrap();
    full(clone.try_acquire());
}

#[test]
fn a_call_gives_everything_back_in_whatever_state_it_is_dropped() {
    let (bulkhead, clock) = bulkhead(1, SECOND);
    let call = || Box::pin(bulkhead.call(pending::<Done>));

    drop(call());
    assert_eq!(load(&bulkhead), (0, 0), "never polled");

    let mut running = call();
    assert!(poll(running.as_mut()).is_pending());
    let mut waiting = call();
    assert!(poll(waiting.as_mut()).is_pending());
    assert_eq!(load(&bulkhead), (1, 1));
    drop(waiting);
    assert_eq!((load(&bulkhead), clock.next_wake()), ((1, 0), None), "waiting");

    let mut granted = call();
    assert!(poll(granted.as_mut()).is_pending());
    drop(running);
    assert_eq!(load(&bulkhead), (1, 0), "running: the place went to the next");
    drop(granted);
    assert_eq!((load(&bulkhead), clock.next_wake()), ((0, 0), None), "granted");

    let mut done = Box::pin(bulkhead.call(|| ready(Ok::<_, &str>(7))));
    assert_eq!(poll(done.as_mut()), Poll::Ready(Ok(7)));
    let _permit = bulkhead.try_acquire().unwrap();
    drop(done);
    assert_eq!(load(&bulkhead), (1, 0), "done");
}

#[test]
fn an_owned_wait_gives_everything_back_in_whatever_state_it_is_dropped() {
    let (bulkhead, clock) = bulkhead(1, SECOND);
    drop(bulkhead.acquire_owned());
    assert_eq!(load(&bulkhead), (0, 0), "never polled");
    let permit = clock.block_on(bulkhead.acquire_owned()).unwrap();
    let (mut waiting, mut granted) = (Box::pin(bulkhead.acquire_owned()), Box::pin(bulkhead.acquire_owned()));
    assert!(poll(waiting.as_mut()).is_pending() && poll(granted.as_mut()).is_pending());
    drop(waiting);
    assert_eq!(load(&bulkhead), (1, 1), "waiting");
    drop(permit);
    drop(granted);
    assert_eq!(load(&bulkhead), (0, 0), "granted");
    let Poll::Ready(Ok(permit)) = poll(pin!(bulkhead.acquire_owned())) else { panic!("full") };
    assert_eq!(load(&bulkhead), (1, 0), "done: the place is the permit's");
    permit.finish();
    assert_eq!(load(&bulkhead), (0, 0));
}

#[test]
fn the_call_is_dropped_before_its_place_is_given_back() {
    struct LooksBack(Bulkhead);
    impl Drop for LooksBack {
        fn drop(&mut self) {
            assert_eq!(load(&self.0), (1, 0));
        }
    }
    let (bulkhead, clock) = bulkhead(1, Duration::ZERO);
    let witness = LooksBack(bulkhead.clone());
    let ended = bulkhead.call(|| async move {
        let _witness = &witness;
        Ok::<_, &str>(7)
    });
    assert_eq!(clock.block_on(ended), Ok(7));
    let witness = LooksBack(bulkhead.clone());
    let mut dropped = Box::pin(bulkhead.call(|| async move {
        let _witness = &witness;
        pending::<Done>().await
    }));
    assert!(poll(dropped.as_mut()).is_pending());
    drop(dropped);
    assert_eq!(load(&bulkhead), (0, 0));
}

#[test]
fn a_panicking_call_gives_its_place_back_at_once() {
    let (bulkhead, _clock) = bulkhead(1, Duration::ZERO);
    let log = bulkhead.event_log(9);
    let mut in_the_future = Box::pin(bulkhead.call(|| async { panic!("in the future") as Done }));
    let mut in_the_closure = Box::pin(bulkhead.call(|| -> std::future::Ready<Done> { panic!("in the closure") }));
    catch_unwind(AssertUnwindSafe(|| poll(in_the_future.as_mut()))).unwrap_err();
    // The future is still there, the place is not.
    assert_eq!(load(&bulkhead), (0, 0));
    catch_unwind(AssertUnwindSafe(|| poll(in_the_closure.as_mut()))).unwrap_err();
    assert_eq!(load(&bulkhead), (0, 0));
    drop((in_the_future, in_the_closure));
    assert_eq!(load(&bulkhead), (0, 0));
    use EventKind::{CallFinished, CallPermitted};
    assert_eq!(kinds(&log), [CallPermitted, CallFinished, CallPermitted, CallFinished]);
}

#[test]
fn a_place_outlives_a_panic_in_the_drop_of_the_call() {
    struct Explodes;
    impl Drop for Explodes {
        fn drop(&mut self) {
            panic!("in the drop");
        }
    }
    let (bulkhead, _clock) = bulkhead(1, Duration::ZERO);
    let mut call = Box::pin(bulkhead.call(|| async {
        let _explodes = Explodes;
        pending::<Done>().await
    }));
    assert!(poll(call.as_mut()).is_pending());
    catch_unwind(AssertUnwindSafe(|| drop(call))).unwrap_err();
    assert_eq!(load(&bulkhead), (0, 0));
}

#[test]
fn a_rejected_call_is_never_started() {
    let (bulkhead, clock) = bulkhead(1, SECOND);
    let _permit = bulkhead.try_acquire().unwrap();
    let call = bulkhead.call(|| -> std::future::Ready<Done> { unreachable!("started") });
    assert!(clock.block_on(call).is_err());
}

#[test]
fn a_call_that_has_waited_is_not_told_the_time_from_before() {
    let (bulkhead, clock) = bulkhead(1, SECOND);
    let now = clock.clock();
    let told = |cx: resile::Cx| ready(Ok::<_, &str>(cx.time_on(&now)));
    let permit = bulkhead.try_acquire().unwrap();
    let mut waiting = pin!(bulkhead.call_with(told));
    assert!(poll(waiting.as_mut()).is_pending());
    clock.advance(SECOND / 2);
    drop(permit);
    assert_eq!(clock.block_on(waiting), Ok(None));
}

#[test]
fn a_wait_counts_into_the_time_limit_around_it() {
    let (bulkhead, clock) = bulkhead(1, 2 * SECOND);
    let config = time_limiter::Config::default().timeout_duration(SECOND).clock(&clock);
    let pipeline = Pipeline::new((TimeLimiter::new("mail", config).unwrap(), bulkhead.clone()));
    let _permit = bulkhead.try_acquire().unwrap();
    let result: Done = clock.block_on(pipeline.call(|| ready(Ok(7))));
    assert!(matches!(result, Err(Error::Rejected(Rejected::TimedOut(_)))));
    assert_eq!(load(&bulkhead), (1, 0));
}

#[test]
fn a_blocking_call_is_guarded_by_the_same_places() {
    let (bulkhead, _clock) = bulkhead(1, Duration::ZERO);
    let inner = bulkhead.call_blocking(|| {
        assert_eq!(load(&bulkhead), (1, 0));
        Ok::<_, &str>(bulkhead.call_blocking(|| Ok::<_, &str>(7)).is_err())
    });
    assert_eq!(inner, Ok(true));
    catch_unwind(AssertUnwindSafe(|| bulkhead.call_blocking(|| -> Result<u32, &str> { panic!("blocked") })))
        .unwrap_err();
    assert_eq!(load(&bulkhead), (0, 0));
}

#[test]
fn a_plain_thread_waits_for_its_place() {
    let (bulkhead, _clock) = bulkhead(1, SECOND);
    for round in 0..100 {
        let permit = bulkhead.try_acquire_owned().unwrap();
        let leaving = thread::spawn(move || drop(permit));
        if round % 2 == 0 {
            bulkhead.acquire_blocking().unwrap().finish();
        } else {
            assert_eq!(bulkhead.call_blocking(|| Ok::<_, &str>(7)), Ok(7));
        }
        leaving.join().unwrap();
    }
    assert_eq!(load(&bulkhead), (0, 0));
}

#[test]
fn an_owned_permit_keeps_the_place_wherever_it_goes() {
    let (bulkhead, clock) = bulkhead(1, Duration::ZERO);
    let permit = clock.block_on(bulkhead.acquire_owned()).unwrap();
    let (go_on, told) = std::sync::mpsc::channel::<()>();
    let work = thread::spawn(move || {
        told.recv().unwrap();
        drop(permit);
    });
    full(bulkhead.try_acquire_owned());
    go_on.send(()).unwrap();
    work.join().unwrap();
    assert!(bulkhead.try_acquire_owned().is_ok());
}

#[test]
fn threads_never_exceed_the_limit() {
    let (bulkhead, _clock) = bulkhead(2, SECOND);
    let inside = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..200 {
                    let permit = bulkhead.acquire_blocking().unwrap();
                    assert!(inside.fetch_add(1, Ordering::Relaxed) < 2);
                    thread::yield_now();
                    inside.fetch_sub(1, Ordering::Relaxed);
                    drop(permit);
                }
            });
        }
    });
    assert_eq!(load(&bulkhead), (0, 0));
}

#[test]
fn each_event_is_published_where_it_happens() {
    use EventKind::{CallFinished, CallPermitted, CallRejected};
    let (bulkhead, clock) = bulkhead(1, SECOND);
    let log = bulkhead.event_log(99);
    let mut running = Box::pin(bulkhead.call(pending::<Done>));
    assert!(poll(running.as_mut()).is_pending());
    assert!(bulkhead.try_acquire().is_err());
    clock.advance(SECOND);
    let mut waiting = Box::pin(bulkhead.call(|| ready(Ok::<_, &str>(7))));
    assert!(poll(waiting.as_mut()).is_pending());
    drop(running);
    assert!(poll(waiting.as_mut()).is_ready());
    bulkhead.try_acquire().unwrap().finish();
    bulkhead.try_acquire_owned().unwrap().finish();

    let events = log.events();
    assert!(events.iter().all(|event| &*event.name == "mail" && event.policy == PolicyKind::Bulkhead));
    let at: Vec<_> = events.into_iter().map(|event| (event.at.as_nanos() / 1_000_000_000, event.kind)).collect();
    let (permitted, finished) = ((1, CallPermitted), (1, CallFinished));
    assert_eq!(at[..2], [(0, CallPermitted), (0, CallRejected)]);
    // A cancelled call gives its place back without a word.
    assert_eq!(
        at[2..],
        [permitted.clone(), finished.clone(), permitted.clone(), finished.clone(), permitted, finished]
    );
}

#[test]
fn a_wait_that_was_in_vain_is_published_once() {
    let (bulkhead, clock) = bulkhead(1, SECOND);
    let _permit = bulkhead.try_acquire().unwrap();
    let log = bulkhead.event_log(9);
    assert!(clock.block_on(bulkhead.acquire()).is_err());
    assert_eq!(kinds(&log), [EventKind::CallRejected]);
}

#[test]
fn a_listener_may_use_the_bulkhead() {
    let (bulkhead, clock) = bulkhead(2, SECOND);
    let inside = bulkhead.clone();
    let seen = Arc::new(AtomicU32::new(0));
    let most = Arc::clone(&seen);
    let _subscription = bulkhead.on_event(move |event| {
        most.fetch_max(load(&inside).0, Ordering::Relaxed);
        if event.kind == EventKind::CallFinished {
            inside.change_max_concurrent_calls(3).unwrap();
        }
    });
    assert_eq!(clock.block_on(bulkhead.call(|| ready(Ok::<_, &str>(7)))), Ok(7));
    assert_eq!(seen.load(Ordering::Relaxed), 1);
    assert_eq!(bulkhead.metrics().max_allowed_concurrent_calls, 3);
}

#[test]
fn a_limit_that_cannot_be_is_refused() {
    let (bulkhead, _clock) = bulkhead(2, Duration::ZERO);
    for calls in [0, 1 << 31, u32::MAX] {
        let created = Bulkhead::new("mail", Config::default().max_concurrent_calls(calls)).unwrap_err();
        let changed = bulkhead.change_max_concurrent_calls(calls).unwrap_err();
        assert_eq!(created, changed);
        assert_eq!((created.field, created.value), ("max_concurrent_calls", calls.to_string()));
        assert_eq!(created.rule, "must be 1 to 2147483647");
    }
    assert_eq!(bulkhead.metrics().max_allowed_concurrent_calls, 2);
    for calls in [1, (1 << 31) - 1] {
        bulkhead.change_max_concurrent_calls(calls).unwrap();
        assert_eq!(bulkhead.metrics().available_concurrent_calls, calls);
    }
}

#[test]
fn the_defaults_are_those_of_resilience4j() {
    let metrics = Bulkhead::with_defaults("mail").metrics();
    assert_eq!((metrics.max_allowed_concurrent_calls, metrics.available_concurrent_calls), (25, 25));
    let config = format!("{:?}", Config::default());
    assert!(config.contains("max_wait_duration: 0ns, max_waiting_calls: None"), "{config}");
}

mod against_a_model {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Try,
        Wait,
        Release(usize),
        Cancel(usize),
        Resize(u32),
        Advance(u64),
        Look,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => Just(Step::Try),
            4 => Just(Step::Wait),
            4 => any::<usize>().prop_map(Step::Release),
            2 => any::<usize>().prop_map(Step::Cancel),
            1 => (1_u32..5).prop_map(Step::Resize),
            2 => (1_u64..8).prop_map(Step::Advance),
            4 => Just(Step::Look),
        ]
    }

    /// Seconds a call waits, and how many may.
    const WAIT: u64 = 5;
    const MOST: usize = 4;

    #[derive(Debug, Default)]
    struct Model {
        now: u64,
        limit: u32,
        calls: u32,
        /// Who waits, and until when.
        queue: VecDeque<(u32, u64)>,
        /// Who has been admitted without having looked.
        granted: Vec<u32>,
    }

    impl Model {
        fn admit(&mut self) -> bool {
            let admit = self.queue.is_empty() && self.calls < self.limit;
            self.calls += u32::from(admit);
            admit
        }

        fn release(&mut self) {
            self.calls -= 1;
            self.grant();
        }

        fn grant(&mut self) {
            while self.calls < self.limit {
                let Some((id, _)) = self.queue.pop_front() else { return };
                self.calls += 1;
                self.granted.push(id);
            }
        }

        fn cancel(&mut self, id: u32) {
            if let Some(place) = self.granted.iter().position(|granted| *granted == id) {
                self.granted.swap_remove(place);
                self.release();
            } else {
                self.queue.retain(|(waiting, _)| *waiting != id);
            }
        }

        /// What a waiter that looks is told, if anything.
        fn look(&mut self, id: u32) -> Option<bool> {
            if let Some(place) = self.granted.iter().position(|granted| *granted == id) {
                self.granted.swap_remove(place);
                return Some(true);
            }
            let (_, until) = self.queue.iter().find(|(waiting, _)| *waiting == id)?;
            if *until > self.now {
                return None;
            }
            self.queue.retain(|(waiting, _)| *waiting != id);
            Some(false)
        }
    }

    proptest! {
        #[test]
        fn it_admits_as_a_counter_and_a_list_would(steps in proptest::collection::vec(step(), 1..120)) {
            let clock = Clock::manual();
            let config = Config::default()
                .max_concurrent_calls(2)
                .max_wait_duration(Duration::from_secs(WAIT))
                .max_waiting_calls(MOST as u32)
                .clock(&clock);
            let bulkhead = Bulkhead::new("mail", config).unwrap();
            let mut model = Model { limit: 2, ..Model::default() };
            let mut permits: Vec<Permit<'_>> = Vec::new();
            let mut waiters: Vec<(u32, Pin<Box<Acquire<'_>>>)> = Vec::new();
            let mut last_id = 0;
            for step in steps {
                match step {
                    Step::Try => {
                        let permit = bulkhead.try_acquire().ok();
                        prop_assert_eq!(permit.is_some(), model.admit());
                        permits.extend(permit);
                    }
                    Step::Wait => {
                        last_id += 1;
                        let mut waiter = Box::pin(bulkhead.acquire());
                        match poll(waiter.as_mut()) {
                            Poll::Ready(Ok(permit)) => {
                                prop_assert!(model.admit());
                                permits.push(permit);
                            }
                            Poll::Ready(Err(_)) => prop_assert!(!model.admit() && model.queue.len() == MOST),
                            Poll::Pending => {
                                prop_assert!(!model.admit() && model.queue.len() < MOST);
                                model.queue.push_back((last_id, model.now + WAIT));
                                waiters.push((last_id, waiter));
                            }
                        }
                    }
                    Step::Release(which) if !permits.is_empty() => {
                        drop(permits.swap_remove(which % permits.len()));
                        model.release();
                    }
                    Step::Cancel(which) if !waiters.is_empty() => {
                        let (id, waiter) = waiters.swap_remove(which % waiters.len());
                        drop(waiter);
                        model.cancel(id);
                    }
                    Step::Release(_) | Step::Cancel(_) => {}
                    Step::Resize(limit) => {
                        bulkhead.change_max_concurrent_calls(limit).unwrap();
                        model.limit = limit;
                        model.grant();
                    }
                    Step::Advance(seconds) => {
                        clock.advance(Duration::from_secs(seconds));
                        model.now += seconds;
                    }
                    Step::Look => {
                        for (id, mut waiter) in std::mem::take(&mut waiters) {
                            let told = match poll(waiter.as_mut()) {
                                Poll::Pending => None,
                                Poll::Ready(result) => Some(result.map(|permit| permits.push(permit)).is_ok()),
                            };
                            prop_assert_eq!(told, model.look(id));
                            if told.is_none() {
                                waiters.push((id, waiter));
                            }
                        }
                    }
                }
                let metrics = bulkhead.metrics();
                prop_assert_eq!((metrics.concurrent_calls, metrics.waiting_calls), (model.calls, model.queue.len() as u32));
                prop_assert_eq!(metrics.max_allowed_concurrent_calls, model.limit);
                prop_assert_eq!(metrics.available_concurrent_calls, model.limit.saturating_sub(model.calls));
            }
            drop((permits, waiters));
            prop_assert_eq!(load(&bulkhead), (0, 0));
        }
    }
}

#[test]
fn a_panicking_listener_harms_nobody_and_leaks_no_place() {
    let (bulkhead, clock) = bulkhead(1, SECOND);
    bulkhead.on_event(|_| std::panic::resume_unwind(Box::new("listener"))).forever();
    let log = bulkhead.event_log(16);
    assert_eq!(clock.block_on(bulkhead.call(|| ready(Ok::<_, &str>(7)))), Ok(7));
    assert_eq!((load(&bulkhead), kinds(&log).len()), ((0, 0), 2));

    let held = bulkhead.try_acquire().unwrap();
    full(bulkhead.try_acquire());
    full(clock.block_on(bulkhead.acquire()));
    let mut waiter = pin!(bulkhead.call(|| ready(Ok::<_, &str>(8))));
    assert!(poll(waiter.as_mut()).is_pending());
    held.finish();
    assert_eq!(poll(waiter), Poll::Ready(Ok(8)));
    assert_eq!(load(&bulkhead), (0, 0));
}

#[test]
fn a_bulkhead_of_one_never_runs_two_calls_at_once_though_fifty_are_tried() {
    let (bulkhead, _clock) = bulkhead(1, SECOND);
    let (running, peak, done) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
    let work = || async {
        peak.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        running.fetch_sub(1, Ordering::SeqCst);
        done.fetch_add(1, Ordering::SeqCst);
        Ok::<_, &str>(1)
    };
    let mut calls: Vec<_> = (0..50).map(|_| Some(Box::pin(bulkhead.call(work)))).collect();
    // Newest first and oldest first in turn, so that those who wait are also polled before a place is theirs.
    for round in 0..200 {
        let mut order: Vec<_> = (0..calls.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for call in order {
            if calls[call].as_mut().is_some_and(|call| poll(call.as_mut()).is_ready()) {
                calls[call] = None;
            }
        }
    }
    let counted = (done.load(Ordering::SeqCst), peak.load(Ordering::SeqCst), load(&bulkhead));
    assert_eq!(counted, (50, 1, (0, 0)));
}

const _: fn() = || {
    fn sendable<T: Send + Sync>() {}
    sendable::<Bulkhead>();
    sendable::<OwnedPermit>();
    sendable::<Permit<'_>>();
};
