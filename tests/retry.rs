//! Retry, through the public API, on a clock that jumps over the waits.

use std::{
    cell::Cell,
    future::{Future, pending, ready},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use proptest::prelude::*;
use resile::{
    BoxError, BulkheadFull, CircuitOpen, Clock, Cx, Error, IntervalFunction, InvalidConfig, ManualClock, Pipeline,
    RateLimited, Rejected, RetriesExhausted, Retry, TimeLimiter, TimedOut,
    event::{EventKind, EventStream, PolicyKind, State},
    retry::{Config, Decision, Metrics},
    time_limiter,
};
use tower::{Layer, Service, ServiceExt, limit::ConcurrencyLimit, service_fn};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn on(clock: &ManualClock) -> Config {
    Config::default().clock(clock)
}

fn retry(config: Config) -> Retry {
    Retry::new("orders", config).expect("settings that can be")
}

fn elapsed(clock: &ManualClock) -> Duration {
    Duration::from_nanos(clock.now().as_nanos())
}

/// A call that fails until the given attempt and then returns which it is.
fn succeeds_at(attempt: u32) -> impl Fn(Cx) -> std::future::Ready<Result<u32, u32>> + Clone {
    move |cx| ready(if cx.attempt() < attempt { Err(cx.attempt()) } else { Ok(cx.attempt()) })
}

fn always_fails(cx: Cx) -> std::future::Ready<Result<u32, u32>> {
    succeeds_at(u32::MAX)(cx)
}

fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn published(events: &mut EventStream) -> Vec<EventKind> {
    std::iter::from_fn(|| events.try_next()).map(|event| event.kind).collect()
}

/// Successful without and with a retry, failed without and with one, total.
fn counted(retry: &Retry) -> [u64; 5] {
    let metrics = retry.metrics();
    [
        metrics.successful_calls_without_retry_attempt,
        metrics.successful_calls_with_retry_attempt,
        metrics.failed_calls_without_retry_attempt,
        metrics.failed_calls_with_retry_attempt,
        metrics.total_calls,
    ]
}

fn retry_event(attempts: u32, wait: Duration) -> EventKind {
    EventKind::Retry { attempts, wait }
}

#[test]
fn a_call_that_succeeds_at_once_is_made_once_and_published_nowhere() {
    let clock = Clock::manual();
    let retry = retry(on(&clock));
    let mut events = retry.events(8);
    assert_eq!(clock.block_on(retry.call_with(succeeds_at(1))), Ok(1));
    assert_eq!(counted(&retry), [1, 0, 0, 0, 1]);
    assert_eq!(published(&mut events), []);
    assert_eq!(elapsed(&clock), Duration::ZERO);
}

#[test]
fn by_default_three_attempts_are_made_half_a_second_apart() {
    let clock = Clock::manual();
    let retry = retry(on(&clock));
    assert_eq!(clock.block_on(retry.call_with(always_fails)), Err(Error::Inner(3)));
    assert_eq!(elapsed(&clock), SECOND);
}

#[test]
fn a_success_after_retries_is_counted_and_published_with_the_failures_before() {
    let clock = Clock::manual();
    let retry = retry(on(&clock));
    let mut events = retry.events(8);
    assert_eq!(clock.block_on(retry.call_with(succeeds_at(3))), Ok(3));
    assert_eq!(counted(&retry), [0, 1, 0, 0, 3]);
    let success = EventKind::Success { elapsed: None, attempts: 2 };
    assert_eq!(published(&mut events), [retry_event(1, 500 * MS), retry_event(2, 500 * MS), success]);
}

#[test]
fn the_last_error_is_returned_when_the_attempts_are_used_up() {
    let clock = Clock::manual();
    let retry = retry(on(&clock).max_attempts(2).fail_after_max_attempts(true));
    let mut events = retry.events(8);
    assert_eq!(clock.block_on(retry.call_with(always_fails)), Err(Error::Inner(2)));
    assert_eq!(counted(&retry), [0, 0, 0, 1, 2]);
    let error = EventKind::Error { elapsed: None, attempts: 2 };
    assert_eq!(published(&mut events), [retry_event(1, 500 * MS), error]);
}

#[test]
fn an_event_names_the_retry_and_its_time() {
    let clock = Clock::manual();
    let retry = retry(on(&clock));
    let log = retry.event_log(8);
    clock.block_on(retry.call_with(succeeds_at(2))).unwrap();
    let events = log.events();
    assert_eq!(events[1].at.as_nanos(), 500_000_000);
    assert_eq!((&*events[1].name, events[1].policy), ("orders", PolicyKind::Retry));
}

#[test]
fn a_failure_of_the_only_attempt_counts_as_one_with_retry() {
    let clock = Clock::manual();
    let retry = retry(on(&clock).max_attempts(1));
    let mut events = retry.events(8);
    assert_eq!(clock.block_on(retry.call_with(always_fails)), Err(Error::Inner(1)));
    assert_eq!(counted(&retry), [0, 0, 0, 1, 1]);
    assert_eq!(published(&mut events), [EventKind::Error { elapsed: None, attempts: 1 }]);
}

#[test]
fn an_error_not_worth_another_attempt_is_returned_at_once() {
    let clock = Clock::manual();
    let retry = retry(on(&clock).max_attempts(5));
    let mut events = retry.events(8);
    let picky = retry.retry_if(|result: &Result<u32, Error<u32>>| !matches!(result, Ok(_) | Err(Error::Inner(2))));
    assert_eq!(clock.block_on(picky.call_with(always_fails)), Err(Error::Inner(2)));
    assert_eq!(counted(&retry), [0, 0, 1, 0, 2]);
    assert_eq!(published(&mut events), [retry_event(1, 500 * MS), EventKind::IgnoredError { elapsed: None }]);
}

#[test]
fn a_refusal_is_not_retried() {
    let clock = Clock::manual();
    let refusals: [Rejected; 4] = [
        CircuitOpen::new("orders", State::Open).into(),
        BulkheadFull::new("orders", 1).into(),
        RateLimited::new("orders", 1, 50).into(),
        RetriesExhausted::new("orders", 3).into(),
    ];
    for refusal in refusals {
        let retry = retry(on(&clock));
        let mut events = retry.events(8);
        let error = Error::<()>::Rejected(refusal);
        let call = || ready(Err::<(), _>(error.clone()));
        assert_eq!(clock.block_on(retry.call_flat(call)), Err(error.clone()));
        assert_eq!(counted(&retry), [0, 0, 1, 0, 1]);
        assert_eq!(published(&mut events), [EventKind::IgnoredError { elapsed: None }]);
    }
}

#[test]
fn a_time_out_is_retried() {
    let clock = Clock::manual();
    let retry = retry(on(&clock));
    let timed_out = Error::<()>::from(Rejected::from(TimedOut::new("orders", SECOND)));
    let call = || ready(Err::<(), _>(timed_out.clone()));
    assert_eq!(clock.block_on(retry.call_flat(call)), Err(timed_out.clone()));
    assert_eq!(counted(&retry), [0, 0, 0, 1, 3]);
}

#[test]
fn a_condition_of_the_user_s_may_retry_a_refusal_for_as_long_as_it_says() {
    let clock = Clock::manual();
    let retry = retry(on(&clock));
    let patient = retry.retry_if(|result: &Result<(), Error<()>>| match result {
        Err(Error::Rejected(rejected)) => rejected.retry_after().map_or(Decision::Stop, Decision::RetryAfter),
        other => Decision::of(other),
    });
    let refusal = CircuitOpen::new("orders", State::Open).with_retry_after(7 * SECOND);
    let refusal = Error::<()>::Rejected(refusal.into());
    let result = clock.block_on(patient.call_flat(|| ready(Err::<(), _>(refusal.clone()))));
    assert_eq!(result, Err(refusal));
    assert_eq!(elapsed(&clock), 14 * SECOND);
}

#[test]
fn the_server_s_hint_is_clamped() {
    let clock = Clock::manual();
    let retry = retry(on(&clock).max_attempts(4).max_retry_after(30 * SECOND));
    let mut events = retry.events(8);
    let hinted = retry.retry_if(|result: &Result<u32, Error<u32>>| match result {
        Err(Error::Inner(1)) => Decision::RetryAfter(20 * SECOND),
        Err(Error::Inner(2)) => Decision::RetryAfter(3600 * SECOND),
        other => Decision::of(other),
    });
    assert_eq!(clock.block_on(hinted.call_with(succeeds_at(4))), Ok(4));
    let waits = [retry_event(1, 20 * SECOND), retry_event(2, 30 * SECOND), retry_event(3, 500 * MS)];
    assert_eq!(published(&mut events)[..3], waits);
    assert_eq!(elapsed(&clock), 50 * SECOND + 500 * MS);
}

#[test]
fn by_default_a_hint_is_followed_for_a_minute_at_most() {
    let clock = Clock::manual();
    let retry = retry(on(&clock).max_attempts(2));
    let hinted = retry.retry_if(|_: &Result<u32, Error<u32>>| Decision::RetryAfter(Duration::MAX));
    let _ = clock.block_on(hinted.call_with(always_fails));
    assert_eq!(elapsed(&clock), 60 * SECOND);
}

#[test]
fn an_exhausted_result_is_returned_or_rejected_by_choice() {
    for fail in [false, true] {
        let clock = Clock::manual();
        let retry = retry(on(&clock).fail_after_max_attempts(fail));
        let busy = retry.retry_if(|result: &Result<&str, Error<()>>| *result == Ok("busy"));
        let result = clock.block_on(busy.call(|| ready(Ok("busy"))));
        let rejected = Error::Rejected(RetriesExhausted::new("orders", 3).into());
        assert_eq!(result, if fail { Err(rejected) } else { Ok("busy") });
    }
}

#[test]
fn fail_after_max_attempts_counts_once() {
    for fail in [false, true] {
        let clock = Clock::manual();
        let retry = retry(on(&clock).fail_after_max_attempts(fail));
        let mut events = retry.events(8);
        let busy = retry.retry_if(|_: &Result<&str, Error<()>>| true);
        let _ = clock.block_on(busy.call(|| ready(Ok("busy"))));
        assert_eq!(counted(&retry), [0, 0, 0, 1, 4]);
        let error = EventKind::Error { elapsed: None, attempts: 3 };
        assert_eq!(published(&mut events), [retry_event(1, 500 * MS), retry_event(2, 500 * MS), error]);
    }
}

#[test]
fn a_result_that_is_accepted_in_the_end_is_a_success() {
    let clock = Clock::manual();
    let retry = retry(on(&clock));
    let until_third = retry.retry_if(|result: &Result<u32, Error<()>>| *result != Ok(3));
    assert_eq!(clock.block_on(until_third.call_with(|cx| ready(Ok(cx.attempt())))), Ok(3));
    assert_eq!(counted(&retry), [0, 1, 0, 0, 3]);
}

#[test]
fn a_wait_that_cannot_fit_is_not_begun() {
    let clock = Clock::manual();
    let interval = IntervalFunction::exponential(SECOND, 2.0);
    let retry = retry(on(&clock).max_attempts(10).interval_function(interval).max_duration(6 * SECOND));
    let mut events = retry.events(8);
    // 1 s and 2 s are waited for, 4 s more would end at 7 s.
    assert_eq!(clock.block_on(retry.call_with(always_fails)), Err(Error::Inner(3)));
    assert_eq!(elapsed(&clock), 3 * SECOND);
    assert_eq!(counted(&retry), [0, 0, 0, 1, 3]);
    let error = EventKind::Error { elapsed: None, attempts: 3 };
    assert_eq!(published(&mut events), [retry_event(1, SECOND), retry_event(2, 2 * SECOND), error]);
}

#[test]
fn a_wait_that_just_fits_is_begun() {
    let clock = Clock::manual();
    let retry = retry(on(&clock).max_attempts(10).wait_duration(SECOND).max_duration(3 * SECOND));
    assert_eq!(clock.block_on(retry.call_with(always_fails)), Err(Error::Inner(4)));
    assert_eq!(elapsed(&clock), 3 * SECOND);
}

#[test]
fn the_time_that_attempts_take_counts_towards_the_longest_duration() {
    let clock = Clock::manual();
    let retry = retry(on(&clock).max_attempts(10).wait_duration(SECOND).max_duration(9 * SECOND));
    let slow = |cx: Cx| {
        let sleep = clock.clock().sleep(4 * SECOND);
        async move {
            sleep.await;
            Err::<(), _>(cx.attempt())
        }
    };
    assert_eq!(clock.block_on(retry.call_with(slow)), Err(Error::Inner(2)));
    assert_eq!(elapsed(&clock), 9 * SECOND);
}

#[test]
fn a_result_whose_time_is_used_up_is_exhausted_too() {
    let clock = Clock::manual();
    let retry = retry(on(&clock).max_duration(600 * MS).fail_after_max_attempts(true));
    let busy = retry.retry_if(|_: &Result<&str, Error<()>>| true);
    let result = clock.block_on(busy.call(|| ready(Ok("busy"))));
    assert_eq!(result, Err(Error::Rejected(RetriesExhausted::new("orders", 2).into())));
    assert_eq!(counted(&retry), [0, 0, 0, 1, 3]);
}

#[test]
fn no_wait_is_no_sleep() {
    let clock = Clock::manual();
    let retry = retry(on(&clock).wait_duration(Duration::ZERO));
    assert_eq!(poll_once(pin!(retry.call_with(succeeds_at(3)))), Poll::Ready(Ok(3)));
}

#[test]
fn jitter_survives_the_cap() {
    let clock = Clock::manual();
    let interval = IntervalFunction::exponential(SECOND, 10.0).max(2 * SECOND).randomized(0.5).seed(1);
    let retry = retry(on(&clock).max_attempts(20).interval_function(interval));
    let mut events = retry.events(32);
    let _ = clock.block_on(retry.call_with(always_fails));
    let mut waits: Vec<_> = published(&mut events)
        .into_iter()
        .filter_map(|event| if let EventKind::Retry { wait, .. } = event { Some(wait) } else { None })
        .skip(1)
        .collect();
    assert!(waits.iter().all(|wait| (SECOND..=3 * SECOND).contains(wait)), "{waits:?}");
    waits.sort();
    waits.dedup();
    assert_eq!(waits.len(), 18);
}

#[test]
fn seeded_runs_differ_from_each_other_and_can_be_repeated() {
    let run = || {
        let clock = Clock::manual();
        let interval = IntervalFunction::fixed(SECOND).full_jitter().seed(7);
        let retry = retry(on(&clock).interval_function(interval));
        let mut took = Vec::new();
        for _ in 0..3 {
            let before = elapsed(&clock);
            let _ = clock.block_on(retry.call_with(always_fails));
            took.push(elapsed(&clock) - before);
        }
        took
    };
    let took = run();
    assert_eq!(took, run());
    assert!(took[0] != took[1] && took[1] != took[2], "{took:?}");
}

#[test]
fn decorrelated_waits_build_on_the_wait_before() {
    let clock = Clock::manual();
    let interval = IntervalFunction::fixed(SECOND).decorrelated_jitter().seed(3);
    let expected: Duration = interval.intervals().take(9).sum();
    let retry = retry(on(&clock).max_attempts(10).interval_function(interval));
    let _ = clock.block_on(retry.call_with(always_fails));
    assert_eq!(elapsed(&clock), expected);
}

#[test]
fn a_closure_that_fails_before_its_future_is_retried() {
    let clock = Clock::manual();
    let retry = retry(on(&clock));
    let calls = Cell::new(0);
    let result = clock.block_on(retry.call(|| {
        calls.set(calls.get() + 1);
        let connection: Result<(), &str> = Err("no address");
        ready(connection)
    }));
    assert_eq!((result, calls.get()), (Err(Error::Inner("no address")), 3));
}

#[test]
fn nothing_happens_before_the_first_poll() {
    let clock = Clock::manual();
    let retry = retry(on(&clock));
    let calls = Cell::new(0);
    drop(retry.call(|| {
        calls.set(calls.get() + 1);
        ready(Ok::<_, ()>(()))
    }));
    assert_eq!((calls.get(), retry.metrics()), (0, Metrics::default()));
}

#[test]
fn a_dropped_call_drops_the_attempt_under_way_and_counts_nothing() {
    let clock = Clock::manual();
    let retry = retry(on(&clock));
    let held = Rc::new(());
    {
        let mut call = pin!(retry.call(|| {
            let held = Rc::clone(&held);
            async move {
                let _held = held;
                pending::<Result<(), ()>>().await
            }
        }));
        assert!(poll_once(call.as_mut()).is_pending());
        assert_eq!(Rc::strong_count(&held), 2);
    }
    assert_eq!((Rc::strong_count(&held), retry.metrics()), (1, Metrics::default()));
}

#[test]
fn a_call_dropped_in_its_wait_leaves_no_timer_and_no_verdict() {
    let clock = Clock::manual();
    let retry = retry(on(&clock));
    let mut events = retry.events(8);
    {
        let mut call = pin!(retry.call_with(always_fails));
        assert!(poll_once(call.as_mut()).is_pending());
        assert_eq!(clock.next_wake(), Some(500 * MS));
    }
    assert_eq!(clock.next_wake(), None);
    assert_eq!(counted(&retry), [0, 0, 0, 0, 1]);
    assert_eq!(published(&mut events), [retry_event(1, 500 * MS)]);
}

#[test]
fn a_finished_call_holds_nothing() {
    let clock = Clock::manual();
    let retry = retry(on(&clock));
    let held = Rc::new(());
    let captured = Rc::clone(&held);
    let mut call = pin!(retry.call(move || {
        let _ = &captured;
        ready(Ok::<_, ()>(()))
    }));
    assert!(poll_once(call.as_mut()).is_ready());
    assert_eq!(Rc::strong_count(&held), 1);
}

#[test]
fn an_attempt_is_over_before_the_wait_begins() {
    let clock = Clock::manual();
    let retry = retry(on(&clock));
    let held = Rc::new(());
    // Unlike an async block it still holds what it captured when it has ended.
    let call = || {
        let held = Rc::clone(&held);
        std::future::poll_fn(move |_| {
            let _ = &held;
            Poll::Ready(Err::<(), _>("down"))
        })
    };
    let mut call = pin!(retry.call(call));
    assert!(poll_once(call.as_mut()).is_pending());
    assert_eq!(clock.next_wake(), Some(500 * MS));
    assert_eq!(Rc::strong_count(&held), 1);
}

#[test]
fn a_panicking_attempt_is_not_retried_and_leaves_the_counters_whole() {
    let clock = Clock::manual();
    let retry = retry(on(&clock).wait_duration(Duration::ZERO));
    let mut events = retry.events(8);
    let call = |cx: Cx| async move { if cx.attempt() == 1 { Err::<(), ()>(()) } else { panic!("attempt 2") } };
    let unwound = catch_unwind(AssertUnwindSafe(|| clock.block_on(retry.call_with(call))));
    assert!(unwound.is_err());
    assert_eq!(counted(&retry), [0, 0, 0, 0, 1]);
    assert_eq!(published(&mut events), [retry_event(1, Duration::ZERO)]);
    assert_eq!(clock.block_on(retry.call_with(succeeds_at(1))), Ok(1));
    assert_eq!(counted(&retry), [1, 0, 0, 0, 2]);
}

#[test]
fn a_panicking_condition_leaves_the_counters_whole() {
    let clock = Clock::manual();
    let retry = retry(on(&clock));
    let broken = retry.retry_if(|_: &Result<u32, Error<u32>>| -> bool { panic!("condition") });
    let unwound = catch_unwind(AssertUnwindSafe(|| clock.block_on(broken.call_with(succeeds_at(1)))));
    assert!(unwound.is_err());
    assert_eq!(retry.metrics(), Metrics::default());
}

#[test]
fn blocking_calls_give_the_same_results() {
    let retry = retry(Config::default().wait_duration(Duration::ZERO));
    let calls = Cell::new(0);
    let failing_until = |attempt: u32| {
        let calls = &calls;
        move || {
            calls.set(calls.get() + 1);
            if calls.get() < attempt { Err(calls.get()) } else { Ok(calls.get()) }
        }
    };
    assert_eq!(retry.call_blocking(failing_until(3)), Ok(3));
    calls.set(0);
    assert_eq!(retry.call_blocking(failing_until(9)), Err(Error::Inner(3)));
    calls.set(0);
    assert_eq!(retry.call_blocking(failing_until(1)), Ok(1));
    assert_eq!(counted(&retry), [1, 1, 0, 1, 7]);
}

#[test]
fn a_blocking_call_waits_on_the_same_clock() {
    let clock = Clock::manual();
    let retry = retry(on(&clock).wait_duration(3600 * SECOND));
    let calls = AtomicU32::new(0);
    let result = std::thread::scope(|scope| {
        let blocked = scope.spawn(|| {
            retry.call_blocking(|| match calls.fetch_add(1, Ordering::Relaxed) {
                0 => Err("down"),
                _ => Ok("up"),
            })
        });
        while !blocked.is_finished() {
            clock.next_wake().into_iter().for_each(|wait| clock.advance(wait));
            std::thread::yield_now();
        }
        blocked.join().unwrap()
    });
    assert_eq!((result, elapsed(&clock)), (Ok("up"), 3600 * SECOND));
}

#[test]
fn clones_and_conditions_share_one_state() {
    let clock = Clock::manual();
    let retry = retry(on(&clock));
    let clone = retry.clone();
    let condition = retry.retry_if(|_: &Result<u32, Error<u32>>| false);
    clock.block_on(clone.call_with(succeeds_at(1))).unwrap();
    clock.block_on(condition.clone().call_with(succeeds_at(1))).unwrap();
    assert_eq!(counted(&retry), [2, 0, 0, 0, 2]);
}

#[test]
fn each_attempt_has_its_own_time_limit() {
    let clock = Clock::manual();
    for wait in [Duration::ZERO, 500 * MS] {
        let retry = retry(on(&clock).wait_duration(wait).max_duration(60 * SECOND));
        let limiter =
            TimeLimiter::new("orders", time_limiter::Config::default().timeout_duration(SECOND).clock(&clock)).unwrap();
        let pipeline = Pipeline::new((retry, limiter));
        let result = clock.block_on(pipeline.call_with(|cx| {
            let sleep = clock.clock().sleep(if cx.attempt() == 1 { 9 * SECOND } else { 900 * MS });
            async move {
                sleep.await;
                Ok::<_, ()>(cx.attempt())
            }
        }));
        assert_eq!(result, Ok(2));
    }
}

#[test]
fn an_error_type_of_the_user_s_is_kept() {
    let clock = Clock::manual();
    let retry = retry(on(&clock));
    let result = clock.block_on(retry.call_flat(|| ready(Err::<(), BoxError>("down".into()))));
    assert_eq!(result.unwrap_err().to_string(), "down");
    assert_eq!(counted(&retry), [0, 0, 0, 1, 3]);
}

#[test]
fn a_ready_service_under_a_concurrency_limit_is_used_by_the_first_attempt() {
    let clock = Clock::manual();
    let calls = Rc::new(Cell::new(0));
    let counter = Rc::clone(&calls);
    let service = service_fn(move |order: u32| {
        counter.set(counter.get() + 1);
        ready(if counter.get() < 3 { Err(Error::Inner("down")) } else { Ok(order) })
    });
    let mut limited = ConcurrencyLimit::new(service, 1);
    // The only permit is now held by this very service.
    assert!(poll_once(pin!(limited.ready())).is_ready());
    let mut guarded = retry(on(&clock).wait_duration(Duration::ZERO)).layer(limited);
    assert_eq!(poll_once(pin!(guarded.call(42))), Poll::Ready(Ok(42)));
    assert_eq!(calls.get(), 3);
}

#[test]
fn a_condition_is_a_layer_too() {
    let clock = Clock::manual();
    let retry = retry(on(&clock));
    let until_three = retry.retry_if(|result: &Result<u32, BoxError>| !matches!(result, Ok(3)));
    let calls = Arc::new(AtomicU32::new(0));
    let service = service_fn(move |_: ()| ready(Ok::<_, BoxError>(calls.fetch_add(1, Ordering::Relaxed) + 1)));
    let answer = clock.block_on(until_three.layer(service).oneshot(()));
    assert_eq!(answer.unwrap(), 3);
}

#[tokio::test]
async fn a_call_borrowed_from_a_shared_struct_can_be_spawned() {
    struct Orders {
        retry: Retry,
    }
    let orders = Arc::new(Orders { retry: retry(Config::default().wait_duration(Duration::ZERO)) });
    let plain = Arc::clone(&orders);
    let plain = tokio::spawn(async move { plain.retry.call_with(succeeds_at(2)).await });
    let decided = tokio::spawn(async move {
        let until_three = orders.retry.retry_if(|result: &Result<u32, Error<&'static str>>| *result != Ok(3));
        until_three.call_with(|cx| async move { Ok(cx.attempt()) }).await
    });
    assert_eq!((plain.await.unwrap(), decided.await.unwrap()), (Ok(2), Ok(3)));
}

#[test]
fn settings_that_cannot_be_are_refused() {
    fn field(config: Config) -> &'static str {
        let error: InvalidConfig = Retry::new("orders", config).expect_err("refused");
        error.field
    }
    let default = Config::default;
    assert_eq!(field(default().max_attempts(0)), "max_attempts");
    let both = default().wait_duration(SECOND).interval_function(IntervalFunction::fixed(SECOND));
    assert_eq!(field(both), "wait_duration");
    assert_eq!(field(default().interval_function(IntervalFunction::exponential(SECOND, -1.0))), "interval_function");
    assert_eq!(field(default().max_duration(Duration::ZERO)), "max_duration");
    assert_eq!(field(default().max_retry_after(Duration::ZERO)), "max_retry_after");
}

#[test]
fn settings_at_their_limits_are_accepted() {
    let config = Config::default().max_attempts(1).wait_duration(Duration::ZERO).max_duration(None);
    let retry = Retry::new("orders", config.max_retry_after(Duration::MAX)).unwrap();
    assert_eq!(retry.name(), "orders");
    assert!(format!("{:?}", retry.config()).contains("max_attempts: 1"));
}

#[derive(Debug, Clone, Copy)]
struct Attempt {
    takes: u64,
    ok: bool,
    decision: Decision,
}

fn attempt() -> impl Strategy<Value = Attempt> {
    let decision = prop_oneof![
        2 => Just(Decision::Stop),
        6 => Just(Decision::Retry),
        2 => (0..400u64).prop_map(|ms| Decision::RetryAfter(Duration::from_millis(ms))),
    ];
    (0..50u64, any::<bool>(), decision).prop_map(|(takes, ok, decision)| Attempt { takes, ok, decision })
}

#[derive(Debug)]
struct Settings {
    max_attempts: usize,
    wait: u64,
    max_duration: Option<u64>,
    max_retry_after: u64,
    fail_after_max_attempts: bool,
}

fn settings() -> impl Strategy<Value = Settings> {
    (1..7usize, 0..100u64, proptest::option::of(1..500u64), 1..300u64, any::<bool>()).prop_map(
        |(max_attempts, wait, max_duration, max_retry_after, fail_after_max_attempts)| Settings {
            max_attempts,
            wait,
            max_duration,
            max_retry_after,
            fail_after_max_attempts,
        },
    )
}

type Told = (Result<usize, Error<usize>>, u64, Vec<EventKind>);

/// What a call comes to, how long it takes, what it publishes, and how it counts: one loop, in milliseconds.
fn modelled(settings: &Settings, attempts: &[Attempt], counts: &mut [u64; 5]) -> Told {
    let (mut now, mut events) = (0, Vec::new());
    for (index, attempt) in attempts.iter().enumerate() {
        let made = index + 1;
        let failed = u32::try_from(made).expect("few attempts");
        now += attempt.takes;
        counts[4] += 1;
        let result = if attempt.ok { Ok(made) } else { Err(Error::Inner(made)) };
        let wait = match attempt.decision {
            Decision::Retry => settings.wait << index,
            Decision::RetryAfter(hint) => u64::from(hint.subsec_millis()).min(settings.max_retry_after),
            _ => {
                counts[match (attempt.ok, index) {
                    (true, 0) => 0,
                    (true, _) => 1,
                    (false, _) => 2,
                }] += 1;
                if !attempt.ok {
                    events.push(EventKind::IgnoredError { elapsed: None });
                } else if index > 0 {
                    events.push(EventKind::Success { elapsed: None, attempts: failed - 1 });
                }
                return (result, now, events);
            }
        };
        if made == settings.max_attempts || settings.max_duration.is_some_and(|longest| now + wait > longest) {
            counts[3] += 1;
            counts[4] += u64::from(attempt.ok);
            events.push(EventKind::Error { elapsed: None, attempts: failed });
            return match result {
                Ok(_) if settings.fail_after_max_attempts => {
                    (Err(Error::Rejected(RetriesExhausted::new("orders", failed).into())), now, events)
                }
                result => (result, now, events),
            };
        }
        events.push(retry_event(failed, Duration::from_millis(wait)));
        now += wait;
    }
    unreachable!("there are as many attempts as can be made")
}

proptest! {
    #[test]
    fn a_retry_does_what_a_plain_loop_does(
        settings in settings(),
        calls in prop::collection::vec(prop::collection::vec(attempt(), 7), 1..5),
    ) {
        let clock = Clock::manual();
        let wait = settings.wait;
        let interval = IntervalFunction::custom(move |attempt| Duration::from_millis(wait << (attempt - 1)));
        let retry = retry(
            on(&clock)
                .max_attempts(u32::try_from(settings.max_attempts).unwrap())
                .interval_function(interval)
                .max_duration(settings.max_duration.map(Duration::from_millis))
                .max_retry_after(Duration::from_millis(settings.max_retry_after))
                .fail_after_max_attempts(settings.fail_after_max_attempts),
        );
        let mut events = retry.events(64);
        let mut counts = [0; 5];
        for attempts in &calls {
            let decided = retry.retry_if(|result: &Result<usize, Error<usize>>| match result {
                Ok(made) | Err(Error::Inner(made)) => attempts[made - 1].decision,
                other => Decision::of(other),
            });
            let before = elapsed(&clock);
            let result = clock.block_on(decided.call_with(|cx| {
                let made = cx.attempt() as usize;
                let attempt = attempts[made - 1];
                let sleep = clock.clock().sleep(Duration::from_millis(attempt.takes));
                async move {
                    sleep.await;
                    if attempt.ok { Ok(made) } else { Err(made) }
                }
            }));
            let took = u64::try_from((elapsed(&clock) - before).as_millis()).unwrap();
            let expected = modelled(&settings, attempts, &mut counts);
            prop_assert_eq!((result, took, published(&mut events)), expected);
            prop_assert_eq!(counted(&retry), counts);
        }
    }
}

#[test]
fn a_panicking_listener_harms_neither_the_call_nor_the_other_listeners() {
    let clock = Clock::manual();
    let retry = retry(on(&clock));
    retry.on_event(|_| std::panic::resume_unwind(Box::new("listener"))).forever();
    let mut events = retry.events(8);
    assert_eq!(clock.block_on(retry.call_with(succeeds_at(2))), Ok(2));
    assert_eq!(clock.block_on(retry.call_with(always_fails)), Err(Error::Inner(3)));
    let names: Vec<_> = published(&mut events).iter().map(EventKind::as_str).collect();
    assert_eq!(names, ["RETRY", "SUCCESS", "RETRY", "RETRY", "ERROR"]);
    assert_eq!(counted(&retry), [0, 1, 0, 1, 5]);
}
