//! What a rate limiter does for a call.

use std::{
    cell::Cell,
    convert::Infallible,
    future::{Future, pending},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    thread,
    time::Duration,
};

use futures::{FutureExt, task::noop_waker};
use proptest::prelude::*;
use resile::{
    BoxError, Clock, Error, ManualClock, Pipeline, RateLimited, RateLimiter, Rejectable, Rejected,
    event::{EventKind, EventLog},
    rate_limiter::{Algorithm, Config},
};
use tower::{Layer, ServiceExt, service_fn};

const PERIOD: Duration = Duration::from_millis(10);

fn ns(nanos: u64) -> Duration {
    Duration::from_nanos(nanos)
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A limiter with this many permits each 10 ms.
fn limiter(algorithm: Algorithm, limit: u32, timeout: Duration) -> (RateLimiter, ManualClock) {
    let clock = Clock::manual();
    let config = Config::default()
        .algorithm(algorithm)
        .limit_for_period(limit)
        .limit_refresh_period(PERIOD)
        .timeout_duration(timeout)
        .clock(&clock);
    (RateLimiter::new("mail", config).expect("valid"), clock)
}

fn fixed(limit: u32, timeout: Duration) -> (RateLimiter, ManualClock) {
    limiter(Algorithm::FixedCycle, limit, timeout)
}

fn smooth(limit: u32, timeout: Duration) -> (RateLimiter, ManualClock) {
    limiter(Algorithm::Smooth, limit, timeout)
}

const BOTH: [Algorithm; 2] = [Algorithm::FixedCycle, Algorithm::Smooth];

fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(&noop_waker()))
}

async fn sent() -> Result<&'static str, Infallible> {
    Ok("sent")
}

fn rate_limited<T: std::fmt::Debug>(result: Result<T, Rejected>) -> RateLimited {
    match result {
        Err(Rejected::RateLimited(rejection)) => rejection,
        other => panic!("{other:?}"),
    }
}

fn available(limiter: &RateLimiter) -> i64 {
    limiter.metrics().available_permissions
}

fn kinds(log: &EventLog) -> Vec<EventKind> {
    log.events().into_iter().map(|event| event.kind).collect()
}

#[test]
fn calls_pass_until_the_permits_are_used_up() {
    for algorithm in BOTH {
        let (limiter, clock) = limiter(algorithm, 2, Duration::ZERO);
        for _ in 0..2 {
            assert_eq!(clock.block_on(limiter.call(sent)), Ok("sent"));
        }
        let refused = clock.block_on(limiter.call(sent)).unwrap_err();
        assert!(matches!(refused, Error::Rejected(Rejected::RateLimited(_))));
        clock.advance(PERIOD);
        assert_eq!(clock.block_on(limiter.call(sent)), Ok("sent"));
    }
}

#[test]
fn a_rejection_explains_itself() {
    let (limiter, clock) = fixed(2, ms(1));
    limiter.try_acquire(2).unwrap();
    clock.advance(ms(3));
    let rejection = rate_limited(clock.block_on(limiter.acquire(2)));
    assert_eq!(rejection.name(), "mail");
    assert_eq!((rejection.permits(), rejection.limit_for_period()), (2, 2));
    assert_eq!((rejection.wait(), rejection.retry_after()), (Some(ms(7)), Some(ms(6))));
    let rejected = Rejected::from(rejection);
    assert_eq!(rejected.retry_after(), Some(ms(6)));
    assert_eq!(
        rejected.to_string(),
        "rate limiter 'mail' does not permit further calls; 2 permits asked for; 2 a period; retry after 6ms"
    );
}

#[test]
fn a_call_waits_for_its_permit_and_then_runs() {
    for algorithm in BOTH {
        let (limiter, clock) = limiter(algorithm, 1, ms(10));
        limiter.try_acquire(1).unwrap();
        let mut call = pin!(limiter.call(sent));
        assert!(poll(call.as_mut()).is_pending());
        assert_eq!((available(&limiter), limiter.metrics().waiting_calls), (-1, 1));
        clock.advance(PERIOD - ns(1));
        assert!(poll(call.as_mut()).is_pending());
        clock.advance(ns(1));
        assert_eq!(poll(call.as_mut()), Poll::Ready(Ok("sent")));
        assert_eq!((available(&limiter), limiter.metrics().waiting_calls), (0, 0));
    }
}

#[test]
fn waiting_calls_pass_in_the_order_of_asking() {
    let (limiter, clock) = smooth(1, ms(100));
    limiter.try_acquire(1).unwrap();
    let passed = Mutex::new(Vec::new());
    let call = |number| {
        let passed = &passed;
        limiter.call(move || async move {
            passed.lock().unwrap().push(number);
            Ok::<_, Infallible>(())
        })
    };
    clock.block_on(futures::future::join_all([call(1), call(2), call(3)]));
    assert_eq!(*passed.lock().unwrap(), [1, 2, 3]);
    assert_eq!(clock.now().as_nanos(), 30_000_000);
}

#[test]
fn a_doomed_wait_fails_at_once() {
    for algorithm in BOTH {
        let (limiter, clock) = limiter(algorithm, 1, PERIOD - ns(1));
        limiter.try_acquire(1).unwrap();
        let before = clock.now();
        let refused = clock.block_on(limiter.acquire(1));
        assert_eq!(rate_limited(refused).retry_after(), Some(ns(1)));
        assert_eq!(clock.now(), before);
        assert_eq!((available(&limiter), limiter.metrics().waiting_calls), (0, 0));
        clock.advance(ns(1));
        assert_eq!(clock.block_on(limiter.acquire(1)), Ok(()));
    }
}

#[test]
fn try_acquire_never_waits_whatever_the_timeout() {
    let (limiter, clock) = fixed(1, Duration::MAX);
    limiter.try_acquire(1).unwrap();
    assert_eq!(rate_limited(limiter.try_acquire(1)).retry_after(), Some(PERIOD));
    assert_eq!(available(&limiter), 0);
    clock.advance(PERIOD);
    limiter.try_acquire(1).unwrap();
}

#[test]
fn a_timeout_without_end_waits_as_long_as_it_takes() {
    for algorithm in BOTH {
        let (limiter, clock) = limiter(algorithm, 1, Duration::MAX);
        assert_eq!(clock.block_on(limiter.acquire(1_000_000)), Ok(()));
        assert_eq!(clock.now().as_nanos(), 999_999 * 10_000_000);
    }
}

#[test]
fn zero_permits_are_refused() {
    for algorithm in BOTH {
        let (limiter, clock) = limiter(algorithm, 5, ms(100));
        let error = limiter.permits(0).unwrap_err();
        assert_eq!((error.field, &*error.value, &*error.rule), ("permits", "0", "must be at least 1"));
        for refused in [
            limiter.try_acquire(0),
            clock.block_on(limiter.acquire(0)),
            limiter.reserve(0).map(|wait| panic!("{wait:?}")),
        ] {
            let rejection = rate_limited(refused);
            assert_eq!((rejection.permits(), rejection.wait(), rejection.retry_after()), (0, None, None));
        }
        assert_eq!(available(&limiter), 5);
    }
}

#[test]
fn more_permits_than_a_period_has_are_waited_for() {
    let (limiter, clock) = fixed(2, ms(20));
    clock.block_on(limiter.acquire(5)).unwrap();
    assert_eq!(clock.now().as_nanos(), 20_000_000);
    let (limiter, clock) = smooth(2, ms(15));
    clock.block_on(limiter.acquire(5)).unwrap();
    assert_eq!(clock.now().as_nanos(), 15_000_000);
}

#[test]
fn more_permits_than_could_ever_be_had_name_no_moment() {
    let (fixed, _clock) = fixed(2, ms(10) + ns(1));
    // In the last nanosecond of a period the fifth permit is one period and that nanosecond away.
    assert_eq!(rate_limited(fixed.reserve(5)).retry_after(), Some(ms(10) - ns(1)));
    assert_eq!(rate_limited(fixed.reserve(7)).retry_after(), None);
    let (smooth, _clock) = smooth(2, ms(10));
    smooth.reserve(4).unwrap();
    assert_eq!(rate_limited(smooth.reserve(4)).retry_after(), Some(ms(20)));
    let rejected = smooth.reserve(5).unwrap_err();
    assert_eq!(rejected.retry_after(), None);
    assert!(rejected.to_string().ends_with("no wait would be enough"), "{rejected}");
}

#[test]
fn a_full_window_is_doubled_at_the_border_of_a_fixed_cycle() {
    let (limiter, clock) = fixed(100, Duration::ZERO);
    clock.advance(PERIOD - ns(1));
    let first = (0..200).filter(|_| limiter.try_acquire(1).is_ok()).count();
    clock.advance(ns(1));
    let second = (0..200).filter(|_| limiter.try_acquire(1).is_ok()).count();
    assert_eq!((first, second), (100, 100));
}

#[test]
fn a_full_window_is_not_doubled_at_the_border_when_smooth() {
    let (limiter, clock) = smooth(100, Duration::ZERO);
    clock.advance(PERIOD - ns(1));
    let first = (0..200).filter(|_| limiter.try_acquire(1).is_ok()).count();
    clock.advance(ns(1));
    let second = (0..200).filter(|_| limiter.try_acquire(1).is_ok()).count();
    assert_eq!((first, second), (100, 0));
}

#[test]
fn a_smooth_limiter_gives_permits_one_by_one() {
    let (limiter, clock) = smooth(10, Duration::ZERO);
    limiter.try_acquire(10).unwrap();
    for _ in 0..5 {
        clock.advance(ms(1) - ns(1));
        assert_eq!(rate_limited(limiter.try_acquire(1)).retry_after(), Some(ns(1)));
        clock.advance(ns(1));
        limiter.try_acquire(1).unwrap();
    }
}

#[test]
fn a_rate_that_is_no_whole_number_of_nanoseconds_is_rounded_down() {
    let (limiter, clock) = smooth(3, Duration::ZERO);
    limiter.try_acquire(3).unwrap();
    clock.advance(PERIOD);
    assert_eq!(available(&limiter), 2);
    clock.advance(ns(2));
    assert_eq!(available(&limiter), 3);
}

#[test]
fn a_burst_of_its_own_bounds_what_a_smooth_limiter_keeps() {
    let clock = Clock::manual();
    let config = Config::default()
        .algorithm(Algorithm::Smooth)
        .limit_for_period(10)
        .limit_refresh_period(PERIOD)
        .burst(3)
        .clock(&clock);
    let limiter = RateLimiter::new("mail", config).unwrap();
    clock.advance(ms(1_000));
    assert_eq!(available(&limiter), 3);
    limiter.try_acquire(3).unwrap();
    clock.advance(ms(2));
    assert_eq!(available(&limiter), 2);
}

#[test]
fn a_reservation_tells_how_long_to_wait() {
    let (limiter, clock) = fixed(3, ms(12));
    clock.advance(PERIOD);
    // As in Resilience4j's own test, one nanosecond goes by before each.
    let waits: Vec<_> = (0..9)
        .map(|_| {
            clock.advance(ns(1));
            limiter.reserve(1).ok()
        })
        .collect();
    let left = |nanos| Some(PERIOD - ns(nanos));
    assert_eq!(waits, [Some(ns(0)), Some(ns(0)), Some(ns(0)), left(4), left(5), left(6), None, None, None]);
}

#[test]
fn a_limiter_of_one_does_what_resilience4j_tests() {
    let (limiter, clock) = fixed(1, PERIOD);
    clock.advance(PERIOD);
    limiter.try_acquire(1).unwrap();
    assert_eq!((available(&limiter), limiter.metrics().time_to_wait), (0, PERIOD));
    limiter.try_acquire(1).unwrap_err();
    let mut second = pin!(limiter.acquire(1));
    assert!(poll(second.as_mut()).is_pending());
    assert_eq!((available(&limiter), limiter.metrics().time_to_wait), (-1, 2 * PERIOD));
    assert_eq!(limiter.metrics().waiting_calls, 1);
    clock.advance(PERIOD + ns(10));
    assert_eq!(poll(second.as_mut()), Poll::Ready(Ok(())));
    assert_eq!((available(&limiter), limiter.metrics().time_to_wait), (0, PERIOD - ns(10)));
    assert_eq!(limiter.metrics().cycle, Some(2));
}

#[test]
fn three_reservations_of_a_limiter_of_one_do_what_resilience4j_tests() {
    let (limiter, clock) = fixed(1, PERIOD);
    clock.advance(PERIOD);
    assert_eq!(limiter.reserve(1), Ok(Duration::ZERO));
    assert_eq!(limiter.reserve(1), Ok(PERIOD));
    limiter.reserve(1).unwrap_err();
    clock.advance(5 * PERIOD + ns(10));
    assert_eq!((available(&limiter), limiter.metrics().time_to_wait), (1, Duration::ZERO));
    let (limiter, _clock) = fixed(1, 5 * PERIOD);
    assert!(limiter.reserve(3).unwrap() > PERIOD);
}

#[test]
fn limit_changes_apply_at_the_next_cycle() {
    let (limiter, clock) = fixed(1, PERIOD);
    clock.advance(PERIOD);
    limiter.try_acquire(1).unwrap();
    let mut waiting = pin!(limiter.acquire(1));
    assert!(poll(waiting.as_mut()).is_pending());
    limiter.change_limit_for_period(2).unwrap();
    assert_eq!((available(&limiter), limiter.metrics().time_to_wait), (-1, PERIOD));
    clock.advance(PERIOD + ns(10));
    assert_eq!(poll(waiting.as_mut()), Poll::Ready(Ok(())));
    assert_eq!(available(&limiter), 1);
}

#[test]
fn a_lowered_limit_leaves_the_permits_of_the_current_cycle() {
    let (limiter, clock) = fixed(10, Duration::ZERO);
    limiter.change_limit_for_period(3).unwrap();
    limiter.try_acquire(10).unwrap();
    clock.advance(PERIOD);
    assert_eq!(available(&limiter), 3);
    let rejection = rate_limited(limiter.try_acquire(4));
    assert_eq!(rejection.limit_for_period(), 3);
}

#[test]
fn a_smooth_limiter_comes_back_at_the_changed_rate() {
    let (limiter, clock) = smooth(10, Duration::ZERO);
    limiter.try_acquire(10).unwrap();
    limiter.change_limit_for_period(100).unwrap();
    assert_eq!(available(&limiter), 0);
    clock.advance(PERIOD / 2);
    assert_eq!(available(&limiter), 50);
    limiter.change_limit_for_period(10).unwrap();
    assert_eq!(available(&limiter), 5);
    limiter.change_limit_for_period(10).unwrap();
    assert_eq!(available(&limiter), 5);
}

#[test]
fn a_changed_timeout_holds_for_later_calls() {
    let (limiter, clock) = fixed(1, PERIOD);
    limiter.try_acquire(1).unwrap();
    let mut waiting = pin!(limiter.acquire(1));
    assert!(poll(waiting.as_mut()).is_pending());
    limiter.change_timeout_duration(Duration::ZERO);
    rate_limited(clock.block_on(limiter.acquire(1)));
    assert_eq!(clock.block_on(waiting), Ok(()));
    assert!(format!("{:?}", limiter.config()).contains("timeout_duration: 0ns"));
}

#[test]
fn drain_takes_what_is_left_of_this_period_only() {
    for algorithm in BOTH {
        let (limiter, clock) = limiter(algorithm, 10, Duration::ZERO);
        limiter.try_acquire(6).unwrap();
        // The defect not copied: a drain in a new period took what the old one had left.
        clock.advance(PERIOD);
        let log = limiter.event_log(9);
        limiter.drain();
        assert_eq!(kinds(&log), [EventKind::Drained { permits: 10 }]);
        assert_eq!(available(&limiter), 0);
        limiter.drain();
        assert_eq!(kinds(&log)[1], EventKind::Drained { permits: 0 });
        clock.advance(PERIOD);
        assert_eq!(available(&limiter), 10);
    }
}

#[test]
fn drain_never_raises_the_permits() {
    for algorithm in BOTH {
        let (limiter, _clock) = limiter(algorithm, 5, ms(100));
        limiter.reserve(10).unwrap();
        assert_eq!(available(&limiter), -5);
        limiter.drain();
        assert_eq!(available(&limiter), -5);
    }
}

#[test]
fn a_result_can_drain_the_limiter() {
    for algorithm in BOTH {
        let (limiter, clock) = limiter(algorithm, 10, Duration::ZERO);
        let polite = limiter.drain_on_result(|result: &Result<u16, Error<Infallible>>| matches!(result, Ok(429)));
        let status = |status| clock.block_on(polite.call(|| async move { Ok(status) }));
        assert_eq!(status(200), Ok(200));
        assert_eq!(available(&limiter), 9);
        assert_eq!(status(429), Ok(429));
        assert_eq!(available(&limiter), 0);
        assert!(matches!(status(200), Err(Error::Rejected(_))));
    }
}

#[test]
fn a_call_can_take_several_permits_and_drain_too() {
    let (limiter, clock) = fixed(10, Duration::ZERO);
    let three = limiter.permits(3).unwrap();
    assert_eq!(clock.block_on(three.call(sent)), Ok("sent"));
    assert_eq!(available(&limiter), 7);
    let drained = three.drain_on_result(|result: &Result<_, Error<Infallible>>| result.is_ok());
    clock.block_on(drained.call(sent)).unwrap();
    assert_eq!(available(&limiter), 0);
}

#[test]
fn a_future_that_was_never_polled_holds_nothing() {
    for algorithm in BOTH {
        let (limiter, _clock) = limiter(algorithm, 1, ms(100));
        let log = limiter.event_log(9);
        drop(limiter.call(sent));
        drop(limiter.acquire(1));
        assert_eq!(available(&limiter), 1);
        assert_eq!(kinds(&log), []);
    }
}

#[test]
fn a_dropped_waiter_gives_its_reservation_back() {
    for algorithm in BOTH {
        let (limiter, clock) = limiter(algorithm, 5, ms(100));
        limiter.try_acquire(3).unwrap();
        for round in 0..2 {
            let four = limiter.permits(4).unwrap();
            let mut call = Box::pin(four.call(sent));
            assert!(poll(call.as_mut()).is_pending());
            assert_eq!((available(&limiter), limiter.metrics().waiting_calls), (-2, 1));
            drop(call);
            assert_eq!((available(&limiter), limiter.metrics().waiting_calls), (2, 0), "round {round}");
            let mut acquire = Box::pin(limiter.acquire(4));
            assert!(poll(acquire.as_mut()).is_pending());
            drop(acquire);
            assert_eq!((available(&limiter), limiter.metrics().waiting_calls), (2, 0));
        }
        assert_eq!(clock.next_wake(), None);
    }
}

#[test]
fn a_waiter_dropped_after_its_moment_but_before_it_ran_gives_back_too() {
    for algorithm in BOTH {
        let (limiter, clock) = limiter(algorithm, 5, ms(100));
        limiter.try_acquire(3).unwrap();
        let mut acquire = Box::pin(limiter.acquire(4));
        assert!(poll(acquire.as_mut()).is_pending());
        clock.advance(ms(50));
        drop(acquire);
        assert_eq!(available(&limiter), 5);
    }
}

#[test]
fn a_dropped_waiter_before_others_leaves_their_moments_alone() {
    for algorithm in BOTH {
        let (limiter, clock) = limiter(algorithm, 1, ms(100));
        limiter.try_acquire(1).unwrap();
        let [mut first, mut second] = [1, 1].map(|permits| Box::pin(limiter.acquire(permits)));
        assert!(poll(first.as_mut()).is_pending());
        assert!(poll(second.as_mut()).is_pending());
        drop(first);
        assert_eq!(available(&limiter), -2);
        // A third asker comes after the second and never at its moment.
        assert_eq!(limiter.reserve(1), Ok(3 * PERIOD));
        assert_eq!(clock.block_on(second), Ok(()));
        assert_eq!(clock.now().as_nanos(), 20_000_000);
    }
}

#[test]
fn waiters_dropped_last_first_all_give_back() {
    for algorithm in BOTH {
        let (limiter, _clock) = limiter(algorithm, 1, ms(100));
        let mut waiters: Vec<_> = (0..5).map(|_| Box::pin(limiter.acquire(1))).collect();
        for waiter in &mut waiters {
            let _ = poll(waiter.as_mut());
        }
        assert_eq!(available(&limiter), -4);
        while waiters.pop().is_some() {}
        assert_eq!(available(&limiter), 0);
    }
}

#[test]
fn a_drain_is_not_undone_by_a_waiter_dropped_later() {
    let (limiter, clock) = fixed(5, ms(100));
    limiter.try_acquire(5).unwrap();
    let mut waiter = Box::pin(limiter.acquire(2));
    assert!(poll(waiter.as_mut()).is_pending());
    clock.advance(PERIOD);
    limiter.drain();
    drop(waiter);
    assert_eq!(available(&limiter), 0);
}

#[test]
fn a_running_call_that_is_dropped_has_spent_its_permit() {
    for algorithm in BOTH {
        let (limiter, clock) = limiter(algorithm, 1, ms(100));
        let never = || pending::<Result<(), Infallible>>();
        let mut call = Box::pin(limiter.call(never));
        assert!(poll(call.as_mut()).is_pending());
        drop(call);
        assert_eq!(available(&limiter), 0);
        let mut waited = Box::pin(limiter.call(never));
        assert!(poll(waited.as_mut()).is_pending());
        clock.advance(PERIOD);
        assert!(poll(waited.as_mut()).is_pending());
        drop(waited);
        assert_eq!((available(&limiter), limiter.metrics().waiting_calls), (0, 0));
    }
}

#[test]
fn a_finished_call_that_is_dropped_changes_nothing() {
    let (limiter, clock) = fixed(1, ms(100));
    limiter.try_acquire(1).unwrap();
    let mut call = Box::pin(limiter.call(sent));
    assert_eq!(clock.block_on(call.as_mut()), Ok("sent"));
    drop(call);
    assert_eq!(available(&limiter), 0);
}

#[test]
fn a_call_that_panics_has_spent_its_permit_and_harms_no_other() {
    for algorithm in BOTH {
        let (limiter, clock) = limiter(algorithm, 2, ms(100));
        let boom = || async { if true { panic!("boom") } else { sent().await } };
        let call = AssertUnwindSafe(|| clock.block_on(limiter.call(boom)));
        catch_unwind(call).unwrap_err();
        assert_eq!((available(&limiter), limiter.metrics().waiting_calls), (1, 0));
        assert_eq!(clock.block_on(limiter.call(sent)), Ok("sent"));
        // Now it has to wait first.
        let boom = || -> std::future::Ready<Result<(), Infallible>> { panic!("boom") };
        let call = AssertUnwindSafe(|| clock.block_on(limiter.call(boom)));
        catch_unwind(call).unwrap_err();
        assert_eq!(limiter.metrics().waiting_calls, 0);
    }
}

#[test]
fn a_blocking_call_has_the_same_results() {
    for algorithm in BOTH {
        let (limiter, clock) = limiter(algorithm, 1, PERIOD);
        assert_eq!(limiter.call_blocking(|| Ok::<_, Infallible>("sent")), Ok("sent"));
        assert_eq!(limiter.permits(9).unwrap().call_blocking(|| Err::<(), _>("down")).unwrap_err().inner(), None);
        let waiting = thread::spawn({
            let limiter = limiter.clone();
            move || limiter.call_blocking(|| Err::<(), _>("down"))
        });
        while limiter.metrics().waiting_calls == 0 {
            thread::yield_now();
        }
        rate_limited(limiter.acquire_blocking(1));
        clock.advance(PERIOD);
        assert_eq!(waiting.join().unwrap(), Err(Error::Inner("down")));
        clock.advance(PERIOD);
        assert_eq!(limiter.acquire_blocking(1), Ok(()));
    }
}

#[test]
fn every_acquire_is_told_once() {
    for algorithm in BOTH {
        let (limiter, clock) = limiter(algorithm, 2, PERIOD);
        let log = limiter.event_log(99);
        limiter.try_acquire(1).unwrap();
        limiter.try_acquire(2).unwrap_err();
        clock.block_on(limiter.call(sent)).unwrap();
        clock.block_on(limiter.acquire(1)).unwrap();
        let mut dropped = Box::pin(limiter.acquire(2));
        assert!(poll(dropped.as_mut()).is_pending());
        drop(dropped);
        limiter.reserve(9).unwrap_err();
        limiter.reserve(1).unwrap();
        let success = |permits| EventKind::SuccessfulAcquire { permits };
        let failure = |permits| EventKind::FailedAcquire { permits };
        assert_eq!(kinds(&log), [success(1), failure(2), success(1), success(1), failure(9), success(1)]);
        assert!(log.events().iter().all(|event| &*event.name == "mail"));
    }
}

#[test]
fn a_waited_for_permit_is_told_when_it_is_used() {
    let (limiter, clock) = fixed(1, PERIOD);
    limiter.try_acquire(1).unwrap();
    let log = limiter.event_log(9);
    clock.block_on(limiter.acquire(1)).unwrap();
    assert_eq!(log.events()[0].at.as_nanos(), 10_000_000);
}

#[test]
fn a_listener_may_use_the_limiter() {
    for algorithm in BOTH {
        let (limiter, _clock) = limiter(algorithm, 9, Duration::ZERO);
        let own = limiter.clone();
        let nested = Arc::new(Mutex::new(0));
        let count = Arc::clone(&nested);
        let _subscription = limiter.on_event(move |event| {
            if event.kind == (EventKind::Drained { permits: 9 }) {
                own.try_acquire(1).unwrap_err();
                own.drain();
                *count.lock().unwrap() += 1;
            }
        });
        limiter.drain();
        assert_eq!(*nested.lock().unwrap(), 1);
    }
}

#[test]
fn every_impossible_setting_is_refused_by_name_value_and_rule() {
    let config = Config::default;
    let smooth = || config().algorithm(Algorithm::Smooth);
    let refused = |config: Config| {
        let error = RateLimiter::new("mail", config).unwrap_err();
        (error.field, error.value, error.rule.into_owned())
    };
    let rule = |field: &'static str, value: &str, rule: &str| (field, value.to_owned(), rule.to_owned());
    let at_least_one = "must be at least 1";
    assert_eq!(refused(config().limit_for_period(0)), rule("limit_for_period", "0", at_least_one));
    assert_eq!(
        refused(config().limit_refresh_period(Duration::ZERO)),
        rule("limit_refresh_period", "0ns", "must be at least 1 ns")
    );
    let too_long = Duration::from_nanos(u64::MAX) + ns(1);
    assert_eq!(
        refused(config().limit_refresh_period(too_long)),
        rule("limit_refresh_period", &format!("{too_long:?}"), "must be less than 2^64 ns (584 years)")
    );
    assert_eq!(refused(config().burst(1)), rule("burst", "1", "must be left out unless the algorithm is Smooth"));
    assert_eq!(refused(smooth().burst(0)), rule("burst", "0", at_least_one));
    assert_eq!(
        refused(smooth().limit_for_period(501)),
        rule(
            "limit_for_period",
            "501",
            "must be at most one for each nanosecond of limit_refresh_period = 500ns when Smooth"
        )
    );
    let year = Duration::from_secs(365 * 24 * 3600);
    assert_eq!(
        refused(smooth().limit_for_period(1).limit_refresh_period(year).burst(147)),
        rule("burst", "147", "must come back within 2^62 ns (146 years), and one permit takes 31536000000000000 ns")
    );
    let century_and_a_half = 150 * year;
    assert_eq!(
        refused(smooth().limit_refresh_period(century_and_a_half)),
        rule(
            "limit_refresh_period",
            &format!("{century_and_a_half:?}"),
            "must be at most 2^62 ns (146 years) when Smooth, rounding included"
        )
    );
}

#[test]
fn the_limits_of_the_settings_are_allowed() {
    let config = Config::default;
    for allowed in [
        config().limit_for_period(u32::MAX).limit_refresh_period(ns(1)).timeout_duration(Duration::MAX),
        config().limit_for_period(1).limit_refresh_period(ns(u64::MAX)),
        config().algorithm(Algorithm::Smooth).limit_for_period(500).timeout_duration(Duration::MAX),
        config().algorithm(Algorithm::Smooth).limit_for_period(1).limit_refresh_period(ns(1 << 62)),
    ] {
        let limiter = RateLimiter::new("mail", allowed).unwrap();
        limiter.try_acquire(1).unwrap();
    }
    assert_eq!(available(&RateLimiter::with_defaults("mail")), 50);
}

#[test]
fn an_impossible_limit_change_changes_nothing() {
    for algorithm in BOTH {
        let (limiter, _clock) = limiter(algorithm, 5, Duration::ZERO);
        assert_eq!(limiter.change_limit_for_period(0).unwrap_err().field, "limit_for_period");
        assert_eq!(rate_limited(limiter.try_acquire(6)).limit_for_period(), 5);
    }
    let (smooth, _clock) = smooth(5, Duration::ZERO);
    assert_eq!(smooth.change_limit_for_period(10_000_001).unwrap_err().field, "limit_for_period");
}

#[test]
fn clones_and_wrappers_share_the_permits() {
    let (limiter, clock) = fixed(3, Duration::ZERO);
    let same = limiter.clone();
    same.try_acquire(1).unwrap();
    limiter.permits(2).unwrap().call_blocking(|| Ok::<_, Infallible>(())).unwrap();
    let layered = limiter.layer(service_fn(|(): ()| async { Ok::<_, BoxError>("sent") }));
    let error = clock.block_on(layered.oneshot(())).unwrap_err();
    assert!(matches!(error.rejected(), Some(Rejected::RateLimited(_))));
}

#[test]
fn one_pipeline_reads_the_clock_once_until_somebody_waits() {
    let (outer, clock) = fixed(1, PERIOD);
    let inner_config = Config::default().clock(&clock);
    let pipeline = Pipeline::new((outer, RateLimiter::new("inner", inner_config).unwrap()));
    let told = Cell::new(None);
    let call = || {
        pipeline.call_with(|cx| {
            told.set(cx.time_on(&clock.clock()));
            async { Ok::<_, Infallible>(()) }
        })
    };
    clock.block_on(call()).unwrap();
    assert_eq!(told.get().map(|at| at.as_nanos()), Some(0));
    clock.block_on(call()).unwrap();
    // The inner limiter has read it anew.
    assert_eq!(told.get().map(|at| at.as_nanos()), Some(10_000_000));
}

#[test]
fn a_borrowed_call_can_be_spawned_from_a_shared_struct() {
    struct Client {
        limiter: RateLimiter,
    }
    let client = Arc::new(Client { limiter: RateLimiter::with_defaults("mail") });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let task = runtime.spawn(async move { client.limiter.call(sent).await });
    assert_eq!(runtime.block_on(task).unwrap(), Ok("sent"));
}

#[test]
fn a_rejection_keeps_the_error_type_of_a_flat_call() {
    let (limiter, clock) = fixed(1, Duration::ZERO);
    limiter.try_acquire(1).unwrap();
    let error: BoxError = clock.block_on(limiter.call_flat(|| async { Ok::<(), BoxError>(()) })).unwrap_err();
    assert!(error.rejected().is_some());
}

#[test]
fn a_limiter_on_the_default_clock_waits_in_real_time() {
    let config = Config::default().limit_for_period(1).limit_refresh_period(ms(1));
    let limiter = RateLimiter::new("mail", config).unwrap();
    limiter.acquire_blocking(2).unwrap();
    assert!(limiter.metrics().cycle >= Some(1));
    assert!(limiter.acquire(1).now_or_never().is_none_or(|result| result.is_ok()));
}

proptest! {
    #[test]
    fn a_refused_caller_that_comes_back_when_told_is_admitted(
        smooth in any::<bool>(),
        period in 1u64..50,
        limit in 1u32..9,
        timeout in 0u64..100,
        before in prop::collection::vec((0u64..40, 1u32..12), 0..12),
        permits in 1u32..20,
    ) {
        let clock = Clock::manual();
        let config = Config::default()
            .algorithm(BOTH[usize::from(smooth && u64::from(limit) <= period)])
            .limit_for_period(limit)
            .limit_refresh_period(ns(period))
            .timeout_duration(ns(timeout))
            .clock(&clock);
        let limiter = RateLimiter::new("mail", config).unwrap();
        for (nanos, permits) in before {
            clock.advance(ns(nanos));
            let _ = limiter.reserve(permits);
        }
        if let Some(wait) = limiter.reserve(permits).err().and_then(|rejected| rejected.retry_after()) {
            clock.advance(wait - ns(1));
            prop_assert_eq!(limiter.reserve(permits).unwrap_err().retry_after(), Some(ns(1)));
            clock.advance(ns(1));
            prop_assert!(limiter.reserve(permits).is_ok());
        }
    }
}

#[test]
fn a_panicking_listener_harms_nobody_and_takes_no_permit() {
    for algorithm in BOTH {
        let (limiter, clock) = limiter(algorithm, 2, Duration::ZERO);
        limiter.on_event(|_| std::panic::resume_unwind(Box::new("listener"))).forever();
        let log = limiter.event_log(8);
        for left in [1, 0] {
            assert_eq!(clock.block_on(limiter.call(sent)), Ok("sent"));
            assert_eq!(available(&limiter), left);
        }
        assert!(matches!(clock.block_on(limiter.call(sent)), Err(Error::Rejected(Rejected::RateLimited(_)))));
        assert_eq!(log.events().len(), 3);
        clock.advance(PERIOD);
        assert_eq!(clock.block_on(limiter.call(sent)), Ok("sent"));
    }
}
