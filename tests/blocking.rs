//! `call_blocking` on a plain thread: the state, the events and the results of `call`.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    future::ready,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use resile::{
    Bulkhead, CircuitBreaker, Clock, Error, Event, Fallback, ManualClock, Outcome, Pipeline, Rejected, Retry, bulkhead,
    circuit_breaker, rate_limiter, retry, time_limiter,
};
use support::{MS, SECOND, drive, limits};

type Answer = Result<u32, &'static str>;

/// What the dependency answers, one after the other, and then again from the first.
struct Script {
    answers: Vec<Answer>,
    next: AtomicUsize,
}

impl Script {
    fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self { answers: answers.into_iter().collect(), next: AtomicUsize::new(0) }
    }

    fn next(&self) -> Answer {
        self.answers[self.next.fetch_add(1, Ordering::SeqCst) % self.answers.len()]
    }
}

/// Runs on a plain thread, and lets time pass whenever that sleeps.
fn on_a_thread<R: Send>(clock: &ManualClock, run: impl FnOnce() -> R + Send) -> R {
    thread::scope(|scope| {
        let plain = scope.spawn(run);
        while !plain.is_finished() {
            match clock.next_wake() {
                Some(wait) => clock.advance(wait),
                None => thread::yield_now(),
            }
        }
        plain.join().unwrap()
    })
}

/// Runs the same script through `call` and through `call_blocking`, and compares the results, the time that passed and
/// what `$seen` sees. Returns the results.
macro_rules! the_same_both_ways {
    ($make:expr, $calls:expr, $script:expr, $seen:expr) => {{
        let run = |blocking: bool| {
            let clock = Clock::manual();
            let policy = $make(&clock);
            let seen = $seen(&policy);
            let script = Script::new($script);
            let results: Vec<_> = (0..$calls)
                .map(|_| {
                    let script = &script;
                    let result = if blocking {
                        on_a_thread(&clock, || policy.call_blocking(|| script.next()))
                    } else {
                        drive(&clock, policy.call(|| ready(script.next())))
                    };
                    clock.advance(MS);
                    result
                })
                .collect();
            (results, seen(&policy), script.next.into_inner(), clock.now())
        };
        let (by_call, on_a_thread) = (run(false), run(true));
        assert_eq!(by_call, on_a_thread);
        by_call.0
    }};
}

/// Good and bad answers, in no particular order.
fn mixed(answers: u32) -> impl Iterator<Item = Answer> {
    (0..answers).map(|answer| if answer % 3 == 0 || answer % 7 < 2 { Err("down") } else { Ok(answer) })
}

#[test]
fn a_retry_does_the_same_on_a_plain_thread() {
    let make = |clock: &ManualClock| support::retry(retry::Config::default().wait_duration(SECOND).clock(clock));
    let seen = |retry: &Retry| {
        let events = retry.event_log(100);
        move |retry: &Retry| (retry.metrics(), events.events())
    };
    let answers = [Ok(1), Err("a"), Ok(2), Err("b"), Err("c"), Ok(3), Err("d"), Err("e"), Err("f")];
    let results = the_same_both_ways!(make, 4, answers, seen);
    assert_eq!(results, [Ok(1), Ok(2), Ok(3), Err(Error::Inner("f"))]);
}

#[test]
fn a_breaker_does_the_same_on_a_plain_thread() {
    let make = |clock: &ManualClock| {
        let config = circuit_breaker::Config::default().sliding_window_size(4).wait_duration_in_open_state(20 * MS);
        support::breaker(config.permitted_number_of_calls_in_half_open_state(2).clock(clock))
    };
    let seen = |breaker: &CircuitBreaker| {
        let events = breaker.event_log(1000);
        move |breaker: &CircuitBreaker| (breaker.metrics(), events.events())
    };
    // Opens after four, and again after two trial calls; then closes.
    let answers = [Err("down"), Err("down"), Ok(1), Err("down"), Err("down"), Err("down"), Ok(2), Ok(3), Ok(4)];
    let results = the_same_both_ways!(make, 60, answers, seen);
    assert!(
        matches!(&results[4], Err(Error::Rejected(Rejected::CircuitOpen(open))) if open.failure_rate() == Some(75.0))
    );
    assert!(results[5..].contains(&Err(Error::Inner("down"))) && results.contains(&Ok(4)));
}

#[test]
fn a_classifier_does_the_same_on_a_plain_thread() {
    let make = |clock: &ManualClock| {
        let breaker = support::breaker(circuit_breaker::Config::default().clock(clock));
        breaker.classify(|result: &Result<u32, Error<&str>>| match result {
            Ok(answer) if answer % 2 == 0 => Outcome::Failure,
            Ok(_) => Outcome::Success,
            Err(_) => Outcome::Ignored,
        })
    };
    let seen = |_: &_| {
        |judged: &circuit_breaker::Classified<_>| {
            let metrics = judged.breaker().metrics();
            assert!(metrics.failed_calls > 0 && metrics.successful_calls() > 0);
            metrics
        }
    };
    the_same_both_ways!(make, 30, mixed(30), seen);
}

#[test]
fn a_rate_limiter_does_the_same_on_a_plain_thread() {
    for algorithm in [rate_limiter::Algorithm::FixedCycle, rate_limiter::Algorithm::Smooth] {
        let make = |clock: &ManualClock| {
            let config = rate_limiter::Config::default().algorithm(algorithm).limit_for_period(2);
            support::rate_limiter(config.limit_refresh_period(SECOND).timeout_duration(SECOND).clock(clock))
        };
        let seen = |limiter: &resile::RateLimiter| {
            let events = limiter.event_log(100);
            move |limiter: &resile::RateLimiter| (limiter.metrics(), events.events())
        };
        let results = the_same_both_ways!(make, 9, mixed(9), seen);
        assert!(results.iter().all(|result| !matches!(result, Err(Error::Rejected(_)))));
    }
}

#[test]
fn a_rate_limiter_refuses_the_same_on_a_plain_thread() {
    let make = |clock: &ManualClock| {
        let limiter = support::rate_limiter(limits().timeout_duration(SECOND).clock(clock));
        limiter.drain();
        limiter
    };
    let results = the_same_both_ways!(make, 2, [], |_: &_| |limiter: &resile::RateLimiter| limiter.metrics());
    assert!(results.iter().all(|result| matches!(result, Err(Error::Rejected(Rejected::RateLimited(_))))));
}

#[test]
fn a_bulkhead_does_the_same_on_a_plain_thread() {
    let make = |clock: &ManualClock| {
        let config = bulkhead::Config::default().max_concurrent_calls(1).max_wait_duration(SECOND);
        support::bulkhead(config.clock(clock))
    };
    let seen = |bulkhead: &Bulkhead| {
        let events = bulkhead.event_log(100);
        move |bulkhead: &Bulkhead| (bulkhead.metrics(), events.events())
    };
    the_same_both_ways!(make, 9, mixed(9), seen);

    // Full: each call waits its second and is refused.
    let full = |clock: &ManualClock| {
        let bulkhead = make(clock);
        std::mem::forget(bulkhead.try_acquire_owned().unwrap());
        bulkhead
    };
    for result in the_same_both_ways!(full, 2, [], seen) {
        let Err(Error::Rejected(Rejected::BulkheadFull(rejection))) = result else { panic!("{result:?}") };
        assert_eq!((rejection.waited(), rejection.max_concurrent_calls()), (SECOND, 1));
    }
}

#[test]
fn a_thread_waits_for_a_place_until_another_call_ends() {
    let clock = Clock::manual();
    let config = bulkhead::Config::default().max_concurrent_calls(1).max_wait_duration(SECOND).clock(&clock);
    let bulkhead = support::bulkhead(config);
    let place = bulkhead.try_acquire_owned().unwrap();
    let result = thread::scope(|scope| {
        let waiting = scope.spawn(|| bulkhead.call_blocking(|| Ok::<_, &str>(bulkhead.metrics().concurrent_calls)));
        while bulkhead.metrics().waiting_calls == 0 {
            thread::yield_now();
        }
        drop(place);
        waiting.join().unwrap()
    });
    assert_eq!((result, bulkhead.metrics().concurrent_calls), (Ok(1), 0));
    assert_eq!((clock.now().as_nanos(), clock.next_wake()), (0, None));
}

#[test]
fn a_time_limiter_does_the_same_on_a_plain_thread() {
    let make = |clock: &ManualClock| support::time_limiter(time_limiter::Config::default().clock(clock));
    the_same_both_ways!(make, 9, mixed(9), |_: &_| |_: &_| ());

    for (takes, in_time) in [(SECOND - MS, true), (SECOND + MS, false)] {
        let clock = Clock::manual();
        let limiter = make(&clock);
        let events = limiter.event_log(10);
        let kinds = || events.events().into_iter().map(|event: Event| event.kind.as_str()).collect::<Vec<_>>();
        let by_call = drive(
            &clock,
            limiter.call(|| async {
                clock.clock().sleep(takes).await;
                Ok::<_, &str>(42)
            }),
        );
        let on_a_thread = thread::scope(|scope| {
            let slow = scope.spawn(|| {
                limiter.call_blocking(|| {
                    clock.advance(takes);
                    Ok::<_, &str>(42)
                })
            });
            slow.join().unwrap()
        });
        assert_eq!(by_call, on_a_thread, "{takes:?}");
        assert_eq!(by_call.is_ok(), in_time, "{takes:?}");
        assert!(in_time || matches!(by_call, Err(Error::Rejected(Rejected::TimedOut(_)))));
        assert_eq!(kinds(), [if in_time { "SUCCESS" } else { "TIMEOUT" }; 2], "{takes:?}");
    }
}

#[test]
fn a_fallback_does_the_same_on_a_plain_thread() {
    let make = |_: &ManualClock| {
        Fallback::value(|error: Error<&'static str>| error.into_inner().map(|_| 0).map_err(Error::from))
    };
    let results = the_same_both_ways!(make, 9, mixed(9), |_: &_| |_: &_| ());
    assert!(results.contains(&Ok(0)) && results.iter().all(Result::is_ok));

    // A fallback that waits.
    let make = |clock: &ManualClock| {
        let clock = clock.clock();
        Fallback::new(move |error: Error<&'static str>| {
            let sleep = clock.sleep(SECOND);
            async move {
                sleep.await;
                Err::<u32, _>(error)
            }
        })
    };
    the_same_both_ways!(make, 9, mixed(9), |_: &_| |_: &_| ());
}

#[test]
fn a_pipeline_does_the_same_on_a_plain_thread() {
    let make = |clock: &ManualClock| {
        let breaker = circuit_breaker::Config::default().sliding_window_size(6).failure_rate_threshold(60.0);
        let limiter = rate_limiter::Config::default().limit_for_period(3).limit_refresh_period(SECOND);
        Pipeline::new((
            Fallback::on_rejected(|rejected: &Rejected| if rejected.http_status() == 503 { 503 } else { 429 }),
            support::retry(retry::Config::default().wait_duration(100 * MS).clock(clock)),
            support::breaker(breaker.wait_duration_in_open_state(102 * MS).clock(clock)),
            support::rate_limiter(limiter.timeout_duration(900 * MS).clock(clock)),
            support::time_limiter(time_limiter::Config::default().clock(clock)),
            support::bulkhead(bulkhead::Config::default().clock(clock)),
        ))
    };
    macro_rules! seen {
        () => {
            |guard: &Pipeline<(_, Retry, CircuitBreaker, resile::RateLimiter, resile::TimeLimiter, Bulkhead)>| {
                let (_, retry, breaker, limiter, _, bulkhead) = guard.policies().clone();
                let logs =
                    [retry.event_log(1000), breaker.event_log(1000), limiter.event_log(1000), bulkhead.event_log(1000)];
                move |_: &_| {
                    let events: Vec<_> = logs.iter().map(|log| log.events()).collect();
                    (events, retry.metrics(), breaker.metrics(), limiter.metrics(), bulkhead.metrics())
                }
            }
        };
    }
    let answers = [Ok(1), Err("a"), Ok(2), Err("b"), Ok(3), Err("c"), Err("d"), Ok(4), Err("e"), Err("f"), Err("g")];
    let results = the_same_both_ways!(make, 12, answers, seen!());
    // Among them were waits for permits and for another attempt, a circuit that opened and one that closed again.
    for result in [Ok(4), Ok(503), Err(Error::Inner("g"))] {
        assert!(results.contains(&result), "{results:?}");
    }
}

#[test]
fn a_blocking_call_may_give_away_what_it_captured() {
    struct Order(u32);
    let order = Order(42);
    let breaker = CircuitBreaker::with_defaults("orders");
    assert_eq!(breaker.call_blocking(move || Ok::<_, &str>(order)).unwrap().0, 42);
}

#[test]
fn threads_share_one_state_with_tasks() {
    let clock = Clock::manual();
    let guard = support::five(&clock);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for answer in 0..25 {
                    assert_eq!(guard.call_blocking(|| Ok::<_, &str>(answer)), Ok(answer));
                }
            });
        }
    });
    assert_eq!(drive(&clock, guard.call(|| ready(Ok::<_, &str>(1)))), Ok(1));
    let (retry, breaker, limiter, _, bulkhead) = guard.policies();
    assert_eq!(retry.metrics().successful_calls_without_retry_attempt, 101);
    assert_eq!(breaker.metrics().buffered_calls, 100);
    assert_eq!((support::taken(limiter), bulkhead.metrics().concurrent_calls), (101, 0));
}
