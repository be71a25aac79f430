//! Whatever becomes of a call - dropped, panicked, never begun - everything it held is given back.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    future::{Future, pending, poll_fn, ready},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use futures::FutureExt;
use resile::{
    BoxError, Clock, Error, Fallback, ManualClock, Outcome, Pipeline, Rejected, bulkhead, circuit_breaker,
    event::State, rate_limiter, retry, time_limiter,
};
use support::{Counter, Five, MS, SECOND, Yield, drive, limits, poll_once, taken};
use tower::{Layer, Service, service_fn};

/// Five policies of which every one can be waited in, with the breaker half-open for one trial call: what a call holds
/// shows in each of them.
struct Bench {
    clock: ManualClock,
    guard: Five,
    /// Each call holds a clone.
    token: Arc<()>,
}

/// What calls hold at one moment.
#[derive(Debug, PartialEq, Default)]
struct Held {
    trial_calls: u32,
    permits: i64,
    waiting_for_permits: u64,
    places: u32,
    waiting_for_a_place: u32,
    timer: bool,
    captured: usize,
}

const NOTHING: Held = Held {
    trial_calls: 0,
    permits: 0,
    waiting_for_permits: 0,
    places: 0,
    waiting_for_a_place: 0,
    timer: false,
    captured: 0,
};

/// Permits are spent when the call starts, whatever comes of it.
const SPENT: Held = Held { permits: 1, ..NOTHING };

impl Bench {
    fn new() -> Self {
        let clock = Clock::manual();
        let breaker = circuit_breaker::Config::default()
            .permitted_number_of_calls_in_half_open_state(1)
            .max_trial_call_duration(Duration::ZERO);
        let guard = Pipeline::new((
            support::retry(retry::Config::default().clock(&clock)),
            support::breaker(breaker.clock(&clock)),
            support::rate_limiter(limits().timeout_duration(Duration::MAX).clock(&clock)),
            support::time_limiter(time_limiter::Config::default().clock(&clock)),
            support::bulkhead(
                bulkhead::Config::default().max_concurrent_calls(1).max_wait_duration(500 * MS).clock(&clock),
            ),
        ));
        let bench = Self { clock, guard, token: Arc::default() };
        bench.half_open();
        bench
    }

    fn half_open(&self) {
        self.breaker().transition_to_open().unwrap();
        self.breaker().transition_to_half_open().unwrap();
    }

    fn breaker(&self) -> &resile::CircuitBreaker {
        &self.guard.policies().1
    }

    fn bulkhead(&self) -> &resile::Bulkhead {
        &self.guard.policies().4
    }

    fn held(&self) -> Held {
        let (_, breaker, limiter, _, bulkhead) = self.guard.policies();
        let places = bulkhead.metrics();
        Held {
            trial_calls: breaker.metrics().outstanding_trial_calls,
            permits: taken(limiter),
            waiting_for_permits: limiter.metrics().waiting_calls,
            places: places.concurrent_calls,
            waiting_for_a_place: places.waiting_calls,
            timer: self.clock.next_wake().is_some(),
            captured: Arc::strong_count(&self.token) - 1,
        }
    }

    /// Nothing was counted, and the one trial call is still to be had.
    fn assert_uncounted(&self) {
        let metrics = self.breaker().metrics();
        assert_eq!((metrics.state, metrics.buffered_calls), (State::HalfOpen, 0));
        assert_eq!(self.guard.policies().0.metrics(), retry::Metrics::default());
        drop(self.breaker().try_acquire().unwrap());
    }

    /// A call that never ends.
    fn hanging(&self) -> impl Fn() -> Pin<Box<dyn Future<Output = Result<u32, io::Error>>>> + Clone + 'static {
        let token = Arc::clone(&self.token);
        move || {
            let token = Arc::clone(&token);
            Box::pin(async move {
                let _token = token;
                pending().await
            })
        }
    }
}

#[test]
fn an_unpolled_call_of_any_policy_holds_nothing() {
    let bench = Bench::new();
    let (retry, breaker, limiter, time_limiter, bulkhead) = bench.guard.policies();
    let started = Counter::default();
    let call = || {
        started.up();
        ready(Ok::<_, Error<io::Error>>(42))
    };
    let fallback = Fallback::value(|error: Error<io::Error>| Err::<u32, _>(error));
    let unpolled = (
        (retry.call_flat(call), retry.retry_if(|_: &Result<u32, Error<io::Error>>| true)),
        breaker.call_flat(call),
        breaker.classify(|result: &Result<u32, Error<io::Error>>| Outcome::of(result)),
        (limiter.call_flat(call), limiter.acquire(1)),
        (time_limiter.call_flat(call), time_limiter.detached()),
        (bulkhead.call_flat(call), bulkhead.acquire(), bulkhead.acquire_owned()),
        (fallback.call_flat(call), bench.guard.call_flat(call)),
        bench.guard.layer(service_fn(|()| call())).call(()),
    );
    assert_eq!((bench.held(), started.get()), (NOTHING, 0));
    drop(unpolled);
    assert_eq!((bench.held(), started.get()), (NOTHING, 0));
    bench.assert_uncounted();
}

#[tokio::test]
async fn an_unpolled_call_of_a_detached_time_limiter_starts_no_task() {
    let bench = Bench::new();
    let detached = bench.guard.policies().3.detached();
    let started = Counter::default();
    let counted = started.clone();
    drop(detached.call(move || async move { Ok::<_, io::Error>(counted.up()) }));
    tokio::task::yield_now().await;
    assert_eq!((bench.held(), started.get()), (NOTHING, 0));
}

/// Polls the call once and checks that it holds `held`, then drops it and checks that it left `left`.
fn begun_and_dropped<F: Future>(bench: &Bench, call: F, held: &Held, left: &Held) {
    let mut call = Box::pin(call);
    assert!(poll_once(call.as_mut()).is_pending());
    assert_eq!(bench.held(), *held);
    drop(call);
    assert_eq!(bench.held(), *left);
}

#[test]
fn a_call_dropped_while_it_runs_in_a_breaker_gives_its_trial_back_and_is_not_counted() {
    let bench = Bench::new();
    let call = bench.breaker().call(bench.hanging());
    begun_and_dropped(&bench, call, &Held { trial_calls: 1, captured: 1, ..NOTHING }, &NOTHING);
    let judged = bench.breaker().classify(|_: &Result<u32, Error<io::Error>>| Outcome::Failure);
    begun_and_dropped(&bench, judged.call(bench.hanging()), &Held { trial_calls: 1, captured: 1, ..NOTHING }, &NOTHING);
    bench.assert_uncounted();
}

#[test]
fn a_call_dropped_while_it_runs_under_a_rate_limit_has_spent_its_permit() {
    let bench = Bench::new();
    let call = bench.guard.policies().2.call(bench.hanging());
    begun_and_dropped(&bench, call, &Held { permits: 1, captured: 1, ..NOTHING }, &SPENT);
}

#[test]
fn a_call_dropped_while_it_waits_for_permits_gives_its_reservation_back() {
    let bench = Bench::new();
    let limiter = &bench.guard.policies().2;
    limiter.try_acquire(support::LIMIT).unwrap();
    let before = bench.held();
    let waits = Held { permits: before.permits + 1, waiting_for_permits: 1, timer: true, captured: 1, ..NOTHING };
    begun_and_dropped(&bench, limiter.call(bench.hanging()), &waits, &before);
    begun_and_dropped(&bench, limiter.acquire(1), &Held { captured: 0, ..waits }, &before);
}

#[test]
fn a_call_dropped_while_it_runs_under_a_time_limit_leaves_no_timer() {
    let bench = Bench::new();
    let call = bench.guard.policies().3.call(bench.hanging());
    begun_and_dropped(&bench, call, &Held { timer: true, captured: 1, ..NOTHING }, &NOTHING);
}

#[test]
fn a_call_dropped_while_it_runs_in_a_bulkhead_gives_its_place_back() {
    let bench = Bench::new();
    let call = bench.bulkhead().call(bench.hanging());
    begun_and_dropped(&bench, call, &Held { places: 1, captured: 1, ..NOTHING }, &NOTHING);
}

#[test]
fn a_call_dropped_while_it_waits_for_a_place_leaves_the_queue() {
    let bench = Bench::new();
    let _place = bench.bulkhead().try_acquire().unwrap();
    let waits = Held { places: 1, waiting_for_a_place: 1, timer: true, captured: 1, ..NOTHING };
    begun_and_dropped(&bench, bench.bulkhead().call(bench.hanging()), &waits, &Held { places: 1, ..NOTHING });
}

#[test]
fn a_call_dropped_when_it_has_been_given_a_place_it_does_not_know_of_passes_it_on() {
    let bench = Bench::new();
    let place = bench.bulkhead().try_acquire().unwrap();
    let mut first = Box::pin(bench.bulkhead().call(bench.hanging()));
    let mut second = Box::pin(bench.bulkhead().call(|| ready(Ok::<_, io::Error>(42))));
    assert!(poll_once(first.as_mut()).is_pending());
    assert!(poll_once(second.as_mut()).is_pending());
    drop(place);
    drop(first);
    assert!(matches!(poll_once(second.as_mut()), Poll::Ready(Ok(42))));
    drop(second);
    assert_eq!(bench.held(), NOTHING);
}

#[test]
fn a_call_dropped_in_an_attempt_or_between_attempts_attempts_nothing_more() {
    let bench = Bench::new();
    let retry = &bench.guard.policies().0;
    // The attempt, and the call kept for the next one.
    begun_and_dropped(&bench, retry.call(bench.hanging()), &Held { captured: 2, ..NOTHING }, &NOTHING);

    let (attempts, token) = (Counter::default(), Arc::clone(&bench.token));
    let failing = || {
        let _captured = &token;
        attempts.up();
        ready(Err::<(), _>("down"))
    };
    begun_and_dropped(
        &bench,
        retry.call(failing),
        &Held { timer: true, captured: 1, ..NOTHING },
        &Held { captured: 1, ..NOTHING },
    );
    bench.clock.advance(3600 * SECOND);
    assert_eq!((attempts.get(), retry.metrics().failed_calls_with_retry_attempt), (1, 0));
}

#[test]
fn a_call_dropped_while_it_runs_or_falls_back_drops_what_is_under_way() {
    let bench = Bench::new();
    let hanging = bench.hanging();
    let fallback = Fallback::new(move |_: Error<io::Error>| hanging().map(|answer| answer.map_err(Error::Inner)));
    let idle = Held { captured: 1, ..NOTHING };
    begun_and_dropped(&bench, fallback.call(bench.hanging()), &Held { captured: 2, ..NOTHING }, &idle);
    let failing = || ready(Err(io::Error::other("down")));
    begun_and_dropped(&bench, fallback.call(failing), &Held { captured: 2, ..NOTHING }, &idle);
}

#[test]
fn a_call_through_all_five_gives_everything_back_whichever_it_is_dropped_in() {
    // Running.
    let bench = Bench::new();
    let running = Held { trial_calls: 1, permits: 1, places: 1, timer: true, captured: 2, ..NOTHING };
    begun_and_dropped(&bench, bench.guard.call(bench.hanging()), &running, &SPENT);
    bench.assert_uncounted();

    // Waiting for a place.
    let bench = Bench::new();
    let place = bench.bulkhead().try_acquire().unwrap();
    let waiting = Held { waiting_for_a_place: 1, ..running };
    begun_and_dropped(&bench, bench.guard.call(bench.hanging()), &waiting, &Held { places: 1, ..SPENT });
    drop(place);
    bench.assert_uncounted();

    // Waiting for permits.
    let bench = Bench::new();
    bench.guard.policies().2.try_acquire(support::LIMIT).unwrap();
    let before = bench.held();
    let waiting = Held {
        trial_calls: 1,
        permits: before.permits + 1,
        waiting_for_permits: 1,
        timer: true,
        captured: 2,
        ..NOTHING
    };
    begun_and_dropped(&bench, bench.guard.call(bench.hanging()), &waiting, &before);
    bench.assert_uncounted();

    // Between attempts: the first has been counted and has given everything back.
    let bench = Bench::new();
    let failing = || ready(Err::<(), _>("down"));
    begun_and_dropped(&bench, bench.guard.call(failing), &Held { timer: true, ..SPENT }, &SPENT);
    assert_eq!(bench.breaker().metrics().failed_calls, 1);
}

#[test]
fn a_request_dropped_while_its_service_becomes_ready_or_answers_gives_everything_back() {
    let bench = Bench::new();
    let token = &bench.token;
    let mut client = bench.guard.layer(service_fn(|token: Arc<()>| async move {
        let _token = token;
        pending::<Result<(), BoxError>>().await
    }));
    let running = Held { trial_calls: 1, permits: 1, places: 1, timer: true, captured: 2, ..NOTHING };
    begun_and_dropped(&bench, client.call(Arc::clone(token)), &running, &SPENT);

    let mut never_ready = bench
        .guard
        .layer(tower::limit::ConcurrencyLimit::new(service_fn(|_: Arc<()>| ready(Ok::<_, BoxError>(()))), 0));
    begun_and_dropped(
        &bench,
        never_ready.call(Arc::clone(token)),
        &Held { permits: 2, ..running },
        &Held { permits: 2, ..NOTHING },
    );
    bench.assert_uncounted();
}

#[tokio::test]
async fn an_aborted_task_gives_everything_back() {
    let bench = Bench::new();
    let guard = bench.guard.clone();
    let token = Arc::clone(&bench.token);
    let task = tokio::spawn(async move {
        let call = || {
            let token = Arc::clone(&token);
            async move {
                let _token = token;
                pending::<Result<(), io::Error>>().await
            }
        };
        guard.call(call).await
    });
    tokio::task::yield_now().await;
    assert_eq!((bench.held().places, bench.held().trial_calls), (1, 1));
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert_eq!(bench.held(), SPENT);
    bench.assert_uncounted();
}

#[test]
fn a_trial_call_dropped_after_it_was_found_out_to_be_late_gives_nothing_back_twice() {
    let bench = Bench::new();
    let mut late = Box::pin(bench.breaker().call(bench.hanging()));
    assert!(poll_once(late.as_mut()).is_pending());
    bench.half_open();
    let _trial = bench.breaker().try_acquire().unwrap();
    drop(late);
    assert_eq!(bench.held().trial_calls, 1);
    assert!(bench.breaker().try_acquire().is_err());
}

/// The call panicked: the breaker counted it, which as a failed trial opened the circuit, and nothing is held.
fn assert_counted_as_a_failure(bench: &Bench, left: &Held) {
    assert_eq!(bench.held(), *left);
    let metrics = bench.breaker().metrics();
    assert_eq!((metrics.state, metrics.failed_calls, metrics.late_results), (State::Open, 1, 0));
    // Nobody tries again what has panicked.
    assert_eq!(bench.guard.policies().0.metrics(), retry::Metrics::default());
}

#[test]
fn a_panic_in_the_call_counts_as_a_failure_and_gives_everything_back() {
    for polls in 0..3 {
        let bench = Bench::new();
        let call = || async move {
            for _ in 0..polls {
                Yield::default().await;
            }
            panic!("in the future, after {polls} polls");
            #[allow(unreachable_code)]
            Ok::<(), io::Error>(())
        };
        let unwound = catch_unwind(AssertUnwindSafe(|| drive(&bench.clock, bench.guard.call(call))));
        assert!(unwound.is_err());
        assert_counted_as_a_failure(&bench, &SPENT);
    }
}

#[test]
fn a_panic_in_the_closure_itself_counts_as_a_failure_and_gives_everything_back() {
    let bench = Bench::new();
    let call = || -> std::future::Ready<Result<(), io::Error>> { panic!("in the closure") };
    let unwound = catch_unwind(AssertUnwindSafe(|| drive(&bench.clock, bench.guard.call(call))));
    assert!(unwound.is_err());
    assert_counted_as_a_failure(&bench, &SPENT);
}

#[test]
fn a_panic_in_a_service_counts_as_a_failure_and_gives_everything_back() {
    let bench = Bench::new();
    let panics = |()| -> std::future::Ready<Result<(), BoxError>> { panic!("in the service") };
    let mut client = bench.guard.layer(service_fn(panics));
    let call = client.call(());
    assert!(catch_unwind(AssertUnwindSafe(|| drive(&bench.clock, call))).is_err());
    assert_counted_as_a_failure(&bench, &SPENT);
}

#[test]
fn a_panic_on_a_plain_thread_counts_as_a_failure_and_gives_everything_back() {
    let bench = Bench::new();
    let call = || -> Result<(), io::Error> { panic!("in the closure") };
    assert!(catch_unwind(AssertUnwindSafe(|| bench.guard.call_blocking(call))).is_err());
    assert_counted_as_a_failure(&bench, &SPENT);
}

#[tokio::test]
async fn a_panic_inside_catch_unwind_counts_before_the_future_is_dropped() {
    let bench = Bench::new();
    let call = || async {
        Yield::default().await;
        panic!("in the future");
        #[allow(unreachable_code)]
        Ok::<(), io::Error>(())
    };
    let mut guarded = Box::pin(AssertUnwindSafe(bench.guard.call(call)).catch_unwind());
    assert!(guarded.as_mut().await.is_err());
    // The future is still there; the trial call and the place are not held by it any more.
    assert_eq!((bench.held().trial_calls, bench.held().places), (0, 0));
    assert_eq!(bench.breaker().metrics().failed_calls, 1);
    drop(guarded);
    assert_counted_as_a_failure(&bench, &SPENT);
}

#[tokio::test]
async fn a_panic_in_a_spawned_task_counts_as_a_failure() {
    let bench = Bench::new();
    let guard = bench.guard.clone();
    let call = || -> std::future::Ready<Result<(), io::Error>> { panic!("in the closure") };
    assert!(tokio::spawn(async move { guard.call(call).await }).await.unwrap_err().is_panic());
    assert_counted_as_a_failure(&bench, &SPENT);
}

#[test]
fn a_panicking_classifier_counts_as_a_failure_and_leaks_no_permit() {
    let bench = Bench::new();
    let panics = |_: &Result<u32, Error<io::Error>>| -> Outcome { panic!("in the classifier") };
    let (_, breaker, limiter, time_limiter, bulkhead) = bench.guard.policies().clone();
    let guard = Pipeline::new((breaker.classify(panics), limiter, time_limiter, bulkhead));
    let token = Arc::clone(&bench.token);
    let call = move || async move {
        Yield::default().await;
        drop(token);
        Ok(42)
    };
    assert!(catch_unwind(AssertUnwindSafe(|| drive(&bench.clock, guard.call(call)))).is_err());
    assert_counted_as_a_failure(&bench, &SPENT);
}

#[test]
fn a_panic_in_code_of_the_user_s_inside_the_breaker_counts_as_a_failure() {
    macro_rules! panicking_inside {
        ($left:expr, $policy:expr) => {
            let bench = Bench::new();
            let policies = bench.guard.policies();
            let guard = Pipeline::new((policies.1.clone(), $policy(policies), policies.4.clone()));
            let call = || ready(Err::<u32, _>("down"));
            assert!(catch_unwind(AssertUnwindSafe(|| drive(&bench.clock, guard.call(call)))).is_err());
            assert_counted_as_a_failure(&bench, &$left);
        };
    }
    type Policies = (resile::Retry, resile::CircuitBreaker, resile::RateLimiter, resile::TimeLimiter, resile::Bulkhead);
    type Answer = Result<u32, Error<&'static str>>;
    panicking_inside!(NOTHING, |(retry, ..): &Policies| retry.retry_if(|_: &Answer| -> bool { panic!("condition") }));
    panicking_inside!(SPENT, |(_, _, limiter, ..): &Policies| {
        limiter.drain_on_result(|_: &Answer| -> bool { panic!("drain") })
    });
    panicking_inside!(NOTHING, |(.., limiter, _): &Policies| {
        limiter.timeout_with(|_| -> Duration { panic!("time-out") })
    });
    panicking_inside!(NOTHING, |_: &Policies| {
        Fallback::value(|_: Error<&'static str>| -> Answer { panic!("fallback") })
    });
}

/// Runs its closure when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn a_call_made_while_the_thread_unwinds_for_another_reason_is_counted_as_it_ends() {
    let bench = Bench::new();
    bench.breaker().transition_to_closed().unwrap();
    let cleaned_up = Counter::default();
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let _clean_up = OnDrop(|| {
            drive(&bench.clock, bench.guard.call(|| ready(Ok::<_, io::Error>(())))).unwrap();
            let mut dropped = Box::pin(bench.guard.call(bench.hanging()));
            assert!(poll_once(dropped.as_mut()).is_pending());
            drop(dropped);
            cleaned_up.up();
        });
        panic!("for another reason");
    }));
    assert!(unwound.is_err());
    assert_eq!((cleaned_up.get(), bench.held()), (1, Held { permits: 2, ..NOTHING }));
    let metrics = bench.breaker().metrics();
    assert_eq!((metrics.successful_calls(), metrics.failed_calls), (1, 0));
}

#[test]
fn a_call_dropped_because_its_caller_panics_is_cancelled_not_failed() {
    let bench = Bench::new();
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let mut running = Box::pin(bench.guard.call(bench.hanging()));
        assert!(poll_once(running.as_mut()).is_pending());
        panic!("beside the call");
    }));
    assert!(unwound.is_err());
    assert_eq!(bench.held(), SPENT);
    bench.assert_uncounted();
}

#[test]
fn a_refused_call_holds_nothing_of_the_policies_outside() {
    let bench = Bench::new();
    let (retry, breaker, limiter, time_limiter, _) = bench.guard.policies().clone();
    let full = support::bulkhead(bulkhead::Config::default().max_concurrent_calls(1).clock(&bench.clock));
    let _place = full.try_acquire().unwrap();
    let guard = Pipeline::new((retry, breaker, limiter, time_limiter, full.clone()));
    let mut call = Box::pin(guard.call(bench.hanging()));
    assert!(matches!(poll_once(call.as_mut()), Poll::Ready(Err(Error::Rejected(Rejected::BulkheadFull(_))))));
    // Finished, though not yet dropped.
    assert_eq!(bench.held(), SPENT);
}

#[test]
fn a_refused_call_is_gone_though_its_future_is_kept() {
    let bench = Bench::new();
    let (_, breaker, limiter, _, bulkhead) = bench.guard.policies();
    breaker.transition_to_forced_open().unwrap();
    limiter.change_timeout_duration(Duration::ZERO);
    limiter.drain();
    bulkhead.change_max_wait_duration(Duration::ZERO);
    let _place = bulkhead.try_acquire().unwrap();
    macro_rules! refused {
        ($policy:expr) => {
            let mut call = Box::pin($policy.call(bench.hanging()));
            assert!(matches!(poll_once(call.as_mut()), Poll::Ready(Err(Error::Rejected(_)))));
            assert_eq!(bench.held().captured, 0);
        };
    }
    refused!(breaker);
    refused!(limiter);
    refused!(bulkhead);
}

/// Tells, when it is dropped, how many calls are in the bulkhead.
struct Witness<'a>(&'a resile::Bulkhead, &'a Counter);

impl Drop for Witness<'_> {
    fn drop(&mut self) {
        for _ in 0..self.0.metrics().concurrent_calls {
            self.1.up();
        }
    }
}

#[test]
fn a_call_is_gone_before_its_place_is_given_back_however_it_ends() {
    let bench = Bench::new();
    let (bulkhead, seen) = (bench.bulkhead(), Counter::default());
    let call = |panics: bool| {
        let seen = &seen;
        move || {
            let witness = Witness(bulkhead, seen);
            poll_fn(move |_| {
                let _witness = &witness;
                assert!(!panics, "in the future");
                Poll::Ready(Ok::<_, Error<io::Error>>(42))
            })
        }
    };
    let mut ended = Box::pin(bench.guard.call_flat(call(false)));
    assert!(matches!(poll_once(ended.as_mut()), Poll::Ready(Ok(42))));
    assert_eq!(seen.get(), 1);

    bench.half_open();
    let mut panicked = Box::pin(bench.guard.call_flat(call(true)));
    catch_unwind(AssertUnwindSafe(|| poll_once(panicked.as_mut()))).unwrap_err();
    assert_eq!(seen.get(), 2);

    bench.half_open();
    let mut dropped = Box::pin(bench.guard.call_flat(|| async {
        let _witness = Witness(bulkhead, &seen);
        pending::<Result<u32, Error<io::Error>>>().await
    }));
    assert!(poll_once(dropped.as_mut()).is_pending());
    drop(dropped);
    assert_eq!(seen.get(), 3);

    bench.half_open();
    let mut answered = Box::pin(bench.guard.layer(service_fn(|panics| call(panics)())).call(false));
    assert!(matches!(poll_once(answered.as_mut()), Poll::Ready(Ok(42))));
    assert_eq!(seen.get(), 4);

    bench.half_open();
    let mut panicked = Box::pin(bench.guard.layer(service_fn(|panics| call(panics)())).call(true));
    catch_unwind(AssertUnwindSafe(|| poll_once(panicked.as_mut()))).unwrap_err();
    assert_eq!((seen.get(), bench.held().places), (5, 0));
}

#[test]
fn a_timed_out_call_is_dropped_and_everything_given_back_before_its_caller_knows() {
    let bench = Bench::new();
    let (_, breaker, limiter, time_limiter, bulkhead) = bench.guard.policies().clone();
    let guard = Pipeline::new((time_limiter, breaker, limiter, bulkhead));
    let mut call = Box::pin(guard.call(bench.hanging()));
    assert!(poll_once(call.as_mut()).is_pending());
    bench.clock.advance(SECOND);
    assert!(matches!(poll_once(call.as_mut()), Poll::Ready(Err(Error::Rejected(Rejected::TimedOut(_))))));
    // Its future is still kept.
    assert_eq!(bench.held(), SPENT);
}

#[test]
fn a_finished_call_holds_nothing_though_its_future_is_kept() {
    let bench = Bench::new();
    let (retry, breaker, limiter, time_limiter, bulkhead) = bench.guard.policies();
    let call = || {
        let token = Arc::clone(&bench.token);
        poll_fn(move |_| {
            let _token = &token;
            Poll::Ready(Ok::<_, io::Error>(42))
        })
    };
    macro_rules! finished {
        ($policy:expr, $left:expr) => {
            let policy = $policy;
            let mut finished = Box::pin(policy.call(call));
            assert!(matches!(poll_once(finished.as_mut()), Poll::Ready(Ok(42))));
            assert_eq!(bench.held(), $left);
        };
    }
    finished!(retry, NOTHING);
    finished!(breaker, NOTHING);
    finished!(time_limiter, NOTHING);
    finished!(bulkhead, NOTHING);
    finished!(Fallback::on_rejected(|_| 0), NOTHING);
    finished!(limiter, SPENT);
    finished!(&bench.guard, Held { permits: 2, ..NOTHING });
}

#[test]
fn a_place_is_given_back_after_the_call_that_held_it_is_gone() {
    // Finished, panicked and dropped calls: the last one out of the room turns off the light.
    for ending in 0..3 {
        let bench = Bench::new();
        let (seen, breaker, bulkhead) = (Counter::default(), bench.breaker().clone(), bench.bulkhead().clone());
        let gone = OnDrop(|| {
            let places = bulkhead.metrics().concurrent_calls;
            // A dropped trial call is outstanding until it is gone too; a result is counted when it is known.
            assert!(ending != 2 || breaker.metrics().outstanding_trial_calls == 1);
            assert_eq!(places, 1);
            seen.up();
        });
        let guard = Pipeline::new((breaker.clone(), bulkhead.clone()));
        let call = move || {
            poll_fn(move |_| {
                let _gone = &gone;
                match ending {
                    0 => Poll::Ready(Ok::<_, io::Error>(42)),
                    1 => panic!("in the future"),
                    _ => Poll::Pending,
                }
            })
        };
        let mut call = Box::pin(guard.call(call));
        let polled = catch_unwind(AssertUnwindSafe(|| poll_once(call.as_mut())));
        assert_eq!((polled.is_err(), seen.get()), (ending == 1, u32::from(ending < 2)));
        drop(call);
        assert_eq!((seen.get(), bench.held()), (1, NOTHING));
    }
}

#[test]
fn a_smooth_limiter_gets_the_reservation_of_a_dropped_call_back_too() {
    let clock = Clock::manual();
    let config = rate_limiter::Config::default()
        .algorithm(rate_limiter::Algorithm::Smooth)
        .limit_for_period(1)
        .limit_refresh_period(SECOND)
        .clock(&clock);
    let limiter = support::rate_limiter(config);
    limiter.try_acquire(1).unwrap();
    let before = limiter.metrics();
    let mut waiting = Box::pin(limiter.call(|| ready(Ok::<_, io::Error>(42))));
    assert!(poll_once(waiting.as_mut()).is_pending());
    assert_ne!(limiter.metrics(), before);
    drop(waiting);
    assert_eq!((limiter.metrics(), clock.next_wake()), (before, None));
}
