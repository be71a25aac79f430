//! New settings for policies in use: what stays, what changes at once and what changes for later calls.
#![allow(clippy::unwrap_used)]

use std::{
    future::{Future, pending},
    pin::{Pin, pin},
    sync::mpsc::channel,
    task::{Context, Poll, Waker},
    time::Duration,
};

use resile::{
    Bulkhead, CircuitBreaker, Clock, Error, IntervalFunction, ManualClock, Rejected, Retry, TimeLimiter, bulkhead,
    circuit_breaker::{self, SlidingWindowType, State},
    event::EventKind,
    rate_limiter::{self, Algorithm},
    retry, time_limiter,
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const NANO: Duration = Duration::from_nanos(1);

fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

mod a_circuit_breaker {
    use super::*;

    fn config() -> circuit_breaker::Config {
        circuit_breaker::Config::default().sliding_window_size(4).minimum_number_of_calls(2)
    }

    fn breaker(config: circuit_breaker::Config) -> (CircuitBreaker, ManualClock) {
        let clock = Clock::manual();
        (CircuitBreaker::new("orders", config.clock(&clock)).unwrap(), clock)
    }

    fn fail(breaker: &CircuitBreaker, calls: u32) {
        for _ in 0..calls {
            breaker.try_acquire().unwrap().failure();
        }
    }

    fn succeed(breaker: &CircuitBreaker, calls: u32) {
        for _ in 0..calls {
            breaker.try_acquire().unwrap().success();
        }
    }

    #[test]
    fn that_is_open_stays_open_and_its_wait_goes_on() {
        let (breaker, clock) = breaker(config().wait_duration_in_open_state(60 * SECOND));
        fail(&breaker, 2);
        clock.advance(20 * SECOND);
        let sooner = config().wait_duration_in_open_state(SECOND).sliding_window_size(9);
        breaker.reconfigure(sooner.clone().automatic_transition_from_open_to_half_open_enabled(true)).unwrap();
        assert_eq!(breaker.metrics().retry_after, Some(40 * SECOND));
        breaker.reconfigure(sooner).unwrap();
        let Err(Rejected::CircuitOpen(open)) = breaker.try_acquire() else { panic!("not open") };
        assert_eq!(open.retry_after(), Some(40 * SECOND + NANO));
        assert_eq!((open.failure_rate(), open.buffered_calls()), (Some(100.0), 2));

        // The next wait is the new one.
        clock.advance(40 * SECOND + NANO);
        breaker.try_acquire().unwrap().failure();
        breaker.transition_to_open().unwrap();
        assert_eq!(breaker.metrics().retry_after, Some(SECOND + NANO));
    }

    #[test]
    fn goes_on_with_the_number_of_times_it_has_opened() {
        let growing = |first| {
            let waits = IntervalFunction::exponential(first, 2.0);
            config().wait_interval_function_in_open_state(waits).permitted_number_of_calls_in_half_open_state(1)
        };
        let (breaker, clock) = breaker(growing(SECOND));
        fail(&breaker, 2);
        breaker.reconfigure(growing(10 * SECOND)).unwrap();
        clock.advance(SECOND + NANO);
        fail(&breaker, 1);
        assert_eq!(breaker.metrics().retry_after, Some(20 * SECOND + NANO));
    }

    #[test]
    fn starts_a_window_of_another_size_or_kind_afresh_in_a_new_generation() {
        let (breaker, clock) = breaker(config());
        for (generation, config) in
            (1..).zip([config().sliding_window_size(5), config().sliding_window_type(SlidingWindowType::TimeBased)])
        {
            fail(&breaker, 1);
            let late = breaker.try_acquire().unwrap();
            breaker.reconfigure(config).unwrap();
            late.failure();
            let metrics = breaker.metrics();
            assert_eq!((metrics.buffered_calls, metrics.generation), (0, generation));
            assert_eq!((metrics.state, metrics.late_results), (State::Closed, generation));
        }
        fail(&breaker, 1);
        clock.advance(4 * SECOND);
        assert_eq!(breaker.metrics().buffered_calls, 0, "the window is one over time");
    }

    #[test]
    fn keeps_the_counts_of_a_window_that_stays_as_it_is() {
        let (breaker, _clock) = breaker(config().failure_rate_threshold(80.0));
        fail(&breaker, 1);
        succeed(&breaker, 1);
        breaker.reconfigure(config().failure_rate_threshold(30.0)).unwrap();
        let metrics = breaker.metrics();
        assert_eq!((metrics.state, metrics.failed_calls, metrics.generation), (State::Closed, 1, 0));
        // The next result decides, whatever it is.
        succeed(&breaker, 1);
        assert_eq!(breaker.state(), State::Open);
    }

    #[test]
    fn that_is_half_open_keeps_its_trial_calls_and_admits_the_new_number() {
        let permitting = |calls| config().permitted_number_of_calls_in_half_open_state(calls);
        let settings = |calls| permitting(calls).minimum_number_of_calls_in_half_open_state(calls);
        let (breaker, _clock) = breaker(settings(3).initial_state(State::HalfOpen));
        succeed(&breaker, 1);
        let under_way = breaker.try_acquire().unwrap();
        breaker.reconfigure(settings(200)).unwrap();
        let more: Vec<_> = (0..198).map(|_| breaker.try_acquire().unwrap()).collect();
        assert!(breaker.try_acquire().is_err());
        drop(more);
        breaker.reconfigure(settings(2)).unwrap();
        assert!(breaker.try_acquire().is_err());
        under_way.success();
        assert_eq!(breaker.state(), State::Closed);
    }

    #[test]
    fn that_is_half_open_is_decided_at_once_if_enough_trial_calls_have_finished() {
        for (failures, state) in [(0, State::Closed), (3, State::Open)] {
            let (breaker, _clock) = breaker(config().initial_state(State::HalfOpen).minimum_number_of_calls(4));
            fail(&breaker, failures);
            succeed(&breaker, 3 - failures);
            let log = breaker.event_log(9);
            assert_eq!(breaker.state(), State::HalfOpen);
            breaker.reconfigure(config().permitted_number_of_calls_in_half_open_state(2)).unwrap();
            assert_eq!(breaker.state(), state);
            let told = log.events().into_iter().map(|event| event.kind).collect::<Vec<_>>();
            assert_eq!(told, [EventKind::StateTransition { from: State::HalfOpen, to: state, generation: 2 }]);
        }
    }

    #[test]
    fn does_not_call_slow_what_began_unmeasured() {
        let (breaker, clock) = breaker(config().slow_call_duration_threshold(None));
        let unmeasured = breaker.try_acquire().unwrap();
        clock.advance(100 * SECOND);
        breaker.reconfigure(config().slow_call_duration_threshold(SECOND)).unwrap();
        unmeasured.success();
        let measured = breaker.try_acquire().unwrap();
        clock.advance(2 * SECOND);
        measured.success();
        assert_eq!((breaker.metrics().buffered_calls, breaker.metrics().slow_calls), (2, 1));

        let measured = breaker.try_acquire().unwrap();
        clock.advance(2 * SECOND);
        breaker.reconfigure(config().slow_call_duration_threshold(None)).unwrap();
        measured.success();
        assert_eq!((breaker.metrics().buffered_calls, breaker.metrics().slow_calls), (3, 1));
    }

    #[test]
    fn counts_cancelled_slow_calls_as_it_is_told_to() {
        let slow = config().slow_call_duration_threshold(SECOND);
        let (breaker, clock) = breaker(slow.clone());
        let call = breaker.try_acquire().unwrap();
        clock.advance(2 * SECOND);
        breaker.reconfigure(slow.record_cancelled_slow_calls(true)).unwrap();
        drop(call);
        assert_eq!(breaker.metrics().slow_calls, 1);
    }

    #[test]
    fn keeps_its_clock_and_changes_nothing_for_what_cannot_be() {
        let (breaker, clock) = breaker(config());
        fail(&breaker, 1);
        let refused = breaker.reconfigure(config().sliding_window_size(7).failure_rate_threshold(0.0)).unwrap_err();
        assert_eq!(refused.field, "failure_rate_threshold");
        assert_eq!((breaker.config().sliding_window_size, breaker.metrics().buffered_calls), (4, 1));
        breaker.reconfigure(config().clock(Clock::default())).unwrap();
        fail(&breaker, 1);
        clock.advance(61 * SECOND);
        assert!(breaker.try_acquire().is_ok());
    }

    #[test]
    fn asks_the_new_function_of_the_user_s_and_drops_the_old_outside_its_locks() {
        struct Asks(Option<CircuitBreaker>);
        impl Drop for Asks {
            fn drop(&mut self) {
                if let Some(breaker) = self.0.take() {
                    assert_eq!(breaker.config().sliding_window_size, 4);
                    assert_eq!(breaker.state(), State::Closed);
                }
            }
        }
        let custom = |asks: Asks, wait| {
            let waits = IntervalFunction::custom(move |_| if asks.0.is_some() { 2 * wait } else { wait });
            config().wait_interval_function_in_open_state(waits)
        };
        let (breaker, _clock) = breaker(config());
        breaker.reconfigure(custom(Asks(Some(breaker.clone())), SECOND)).unwrap();
        breaker.reconfigure(custom(Asks(None), SECOND)).unwrap();
        fail(&breaker, 2);
        assert_eq!(breaker.metrics().retry_after, Some(SECOND + NANO));
    }
}

mod a_retry {
    use super::*;

    fn config() -> retry::Config {
        retry::Config::default().wait_duration(SECOND)
    }

    fn retry(config: retry::Config) -> (Retry, ManualClock) {
        let clock = Clock::manual();
        (Retry::new("orders", config.clock(&clock)).unwrap(), clock)
    }

    fn attempts(retry: &Retry, clock: &ManualClock) -> (u32, Duration) {
        let (mut made, before) = (0, clock.now());
        let made_by_call = std::cell::Cell::new(0);
        let _ = clock.block_on(retry.call(|| {
            made_by_call.set(made_by_call.get() + 1);
            async { Err::<(), _>("down") }
        }));
        made += made_by_call.get();
        (made, clock.now().saturating_duration_since(before))
    }

    #[test]
    fn takes_new_settings_for_calls_that_start_afterwards() {
        let (retry, clock) = retry(config());
        assert_eq!(attempts(&retry, &clock), (3, 2 * SECOND));
        let waits = IntervalFunction::custom(|_| 5 * SECOND);
        retry.reconfigure(retry::Config::default().max_attempts(4).interval_function(waits)).unwrap();
        assert_eq!(attempts(&retry, &clock), (4, 15 * SECOND));
        retry.reconfigure(config().max_attempts(9).max_duration(3 * SECOND)).unwrap();
        assert_eq!(attempts(&retry, &clock), (4, 3 * SECOND));
        retry.reconfigure(config().max_attempts(1)).unwrap();
        assert_eq!(attempts(&retry, &clock), (1, Duration::ZERO));
        assert_eq!(retry.metrics().failed_calls_with_retry_attempt, 4, "counts stay");
    }

    #[test]
    fn lets_calls_under_way_end_by_the_settings_they_started_with() {
        for changed_while_waiting in [false, true] {
            for (started, later) in [(3, 1), (1, 3), (2, 3)] {
                let (retry, clock) = retry(config().max_attempts(started));
                let (tell, told) = channel();
                let (retry, tell) = (&retry, &tell);
                let mut call = pin!(retry.call(move || {
                    tell.send(()).unwrap();
                    async {
                        let mut woken = false;
                        std::future::poll_fn(|_| {
                            if std::mem::replace(&mut woken, true) { Poll::Ready(()) } else { Poll::Pending }
                        })
                        .await;
                        Err::<(), _>("down")
                    }
                }));
                assert!(poll(call.as_mut()).is_pending());
                if changed_while_waiting && started > 1 {
                    assert!(poll(call.as_mut()).is_pending());
                }
                for wait in 2..9 {
                    retry.reconfigure(config().max_attempts(later).wait_duration(wait * SECOND)).unwrap();
                }
                while poll(call.as_mut()).is_pending() {
                    clock.advance(SECOND);
                }
                assert_eq!(told.try_iter().count() as u32, started);
                let waited = clock.now().as_nanos() / 1_000_000_000;
                assert!(waited <= u64::from(2 * started), "{waited}");
            }
        }
    }

    #[test]
    fn forgets_settings_of_long_ago_but_neither_panics_nor_stops_short_of_an_end() {
        let (retry, clock) = retry(config());
        let mut call = pin!(retry.call(|| async {
            let mut woken = false;
            std::future::poll_fn(|_| if std::mem::replace(&mut woken, true) { Poll::Ready(()) } else { Poll::Pending })
                .await;
            Err::<(), _>("down")
        }));
        assert!(poll(call.as_mut()).is_pending());
        for attempts in 2..99 {
            retry.reconfigure(config().max_attempts(attempts)).unwrap();
        }
        while poll(call.as_mut()).is_pending() {
            clock.advance(SECOND);
        }
        assert_eq!(retry.metrics().total_calls, 90, "as many as the oldest of the last eight allows");
    }

    #[test]
    fn keeps_its_clock_and_changes_nothing_for_what_cannot_be() {
        let (retry, clock) = retry(config());
        assert_eq!(retry.reconfigure(config().max_attempts(0)).unwrap_err().field, "max_attempts");
        assert_eq!(retry.config().max_attempts, 3);
        retry.reconfigure(config().max_attempts(2).clock(Clock::default())).unwrap();
        assert_eq!(retry.config().max_attempts, 2);
        assert_eq!(attempts(&retry, &clock), (2, SECOND));
    }
}

mod a_bulkhead {
    use super::*;

    fn config(calls: u32) -> bulkhead::Config {
        bulkhead::Config::default().max_concurrent_calls(calls).max_wait_duration(SECOND)
    }

    fn bulkhead(config: bulkhead::Config) -> (Bulkhead, ManualClock) {
        let clock = Clock::manual();
        (Bulkhead::new("mail", config.clock(&clock)).unwrap(), clock)
    }

    #[test]
    fn shrinks_as_calls_finish_and_blocks_nobody() {
        let (bulkhead, _clock) = bulkhead(config(3));
        let mut permits: Vec<_> = (0..3).map(|_| bulkhead.try_acquire().unwrap()).collect();
        bulkhead.reconfigure(config(1)).unwrap();
        let metrics = bulkhead.metrics();
        assert_eq!((metrics.concurrent_calls, metrics.available_concurrent_calls), (3, 0));
        for _ in 0..2 {
            permits.pop();
            assert!(bulkhead.try_acquire().is_err());
        }
        permits.pop();
        assert!(bulkhead.try_acquire().is_ok());
    }

    #[test]
    fn that_grows_lets_those_in_that_wait() {
        let (bulkhead, _clock) = bulkhead(config(1));
        let _in = bulkhead.try_acquire().unwrap();
        let (mut first, mut second) = (pin!(bulkhead.acquire()), pin!(bulkhead.acquire()));
        assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
        bulkhead.reconfigure(config(2)).unwrap();
        assert!(poll(second.as_mut()).is_pending());
        assert!(poll(first.as_mut()).is_ready());
    }

    #[test]
    fn lets_those_that_wait_keep_their_place_and_their_time() {
        let (bulkhead, clock) = bulkhead(config(1));
        let _in = bulkhead.try_acquire().unwrap();
        let (mut first, mut second) = (pin!(bulkhead.acquire()), pin!(bulkhead.acquire()));
        assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
        bulkhead.reconfigure(config(1).max_wait_duration(MS).max_waiting_calls(1)).unwrap();
        assert!(poll(pin!(bulkhead.acquire())).is_ready(), "one more may not wait");
        clock.advance(SECOND - MS);
        assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
        clock.advance(MS);
        assert!(poll(first.as_mut()).is_ready() && poll(second.as_mut()).is_ready());
        let mut third = pin!(bulkhead.acquire());
        assert!(poll(third.as_mut()).is_pending());
        clock.advance(MS);
        assert!(poll(third.as_mut()).is_ready());
    }

    #[test]
    fn tells_one_truth_whoever_changed_it() {
        let (bulkhead, clock) = bulkhead(config(3).max_waiting_calls(5));
        bulkhead.change_max_concurrent_calls(7).unwrap();
        bulkhead.change_max_wait_duration(2 * SECOND);
        let config = bulkhead.config();
        assert_eq!((config.max_concurrent_calls, config.max_wait_duration), (7, 2 * SECOND));
        assert_eq!(config.max_waiting_calls, Some(5));
        let refused = bulkhead.reconfigure(config.max_concurrent_calls(0).max_wait_duration(MS)).unwrap_err();
        assert_eq!(refused.field, "max_concurrent_calls");
        assert_eq!(bulkhead.config().max_wait_duration, 2 * SECOND);

        bulkhead.reconfigure(self::config(1).clock(Clock::default())).unwrap();
        let config = bulkhead.config();
        assert_eq!((config.max_concurrent_calls, config.max_wait_duration), (1, SECOND));
        assert_eq!(config.max_waiting_calls, None);
        let _in = bulkhead.try_acquire().unwrap();
        let mut waiting = pin!(bulkhead.acquire());
        assert!(poll(waiting.as_mut()).is_pending());
        clock.advance(SECOND);
        assert!(poll(waiting.as_mut()).is_ready(), "the clock is its own");
    }
}

mod a_rate_limiter {
    use super::*;

    type Limiter = resile::RateLimiter;

    fn config() -> rate_limiter::Config {
        rate_limiter::Config::default().limit_for_period(10).limit_refresh_period(10 * SECOND).timeout_duration(MS)
    }

    fn smooth() -> rate_limiter::Config {
        config().algorithm(Algorithm::Smooth)
    }

    fn limiter(config: rate_limiter::Config) -> (Limiter, ManualClock) {
        let clock = Clock::manual();
        (Limiter::new("mail", config.clock(&clock)).unwrap(), clock)
    }

    fn left(limiter: &Limiter) -> i64 {
        limiter.metrics().available_permissions
    }

    /// With three more than there are.
    fn owing(config: rate_limiter::Config) -> (Limiter, ManualClock) {
        let (limiter, clock) = limiter(config.timeout_duration(Duration::MAX));
        limiter.reserve(13).unwrap();
        assert_eq!(left(&limiter), -3);
        (limiter, clock)
    }

    #[test]
    fn keeps_its_debt_whatever_changes() {
        for from in [config(), smooth()] {
            for to in [config(), smooth()] {
                let to = to.limit_for_period(2).timeout_duration(Duration::ZERO);
                let (limiter, clock) = owing(from.clone());
                limiter.reconfigure(to.clone()).unwrap();
                assert!(left(&limiter) < 0, "{from:?} {to:?}");
                assert!(limiter.try_acquire(1).is_err());
                limiter.reconfigure(from.clone()).unwrap();
                assert!(left(&limiter) < 0, "{from:?} {to:?}");
                limiter.reconfigure(to).unwrap();
                clock.advance(100 * SECOND);
                assert_eq!(left(&limiter), 2);
            }
        }
    }

    #[test]
    fn owes_as_many_permits_under_another_algorithm() {
        let (limiter, clock) = owing(config());
        limiter.reconfigure(smooth()).unwrap();
        let metrics = limiter.metrics();
        assert_eq!((metrics.available_permissions, metrics.time_to_wait), (-3, 4 * SECOND));
        assert_eq!(metrics.cycle, None);
        limiter.reconfigure(config()).unwrap();
        assert_eq!((left(&limiter), limiter.metrics().cycle), (-3, Some(0)));
        clock.advance(10 * SECOND);
        assert_eq!((left(&limiter), limiter.metrics().cycle), (7, Some(1)));
    }

    #[test]
    fn gives_no_permits_by_a_change() {
        for from in [config(), smooth()] {
            for to in [config(), smooth(), smooth().burst(50), config().limit_for_period(70)] {
                let (limiter, _clock) = limiter(from.clone());
                limiter.try_acquire(6).unwrap();
                for config in [&to, &from, &to] {
                    limiter.reconfigure(config.clone()).unwrap();
                    assert_eq!(left(&limiter), 4, "{from:?} {to:?}");
                }
            }
        }
    }

    #[test]
    fn ends_the_current_period_when_it_has_lasted_as_long_as_the_new_one() {
        let (limiter, clock) = limiter(config());
        limiter.try_acquire(10).unwrap();
        clock.advance(3 * SECOND);
        limiter.reconfigure(config().limit_refresh_period(4 * SECOND)).unwrap();
        assert_eq!(limiter.metrics().time_to_wait, SECOND);
        limiter.reconfigure(config().limit_refresh_period(SECOND).limit_for_period(5)).unwrap();
        assert_eq!((left(&limiter), limiter.metrics().cycle), (5, Some(1)), "one period, not three");
        clock.advance(SECOND);
        assert_eq!(limiter.metrics().cycle, Some(2));
    }

    #[test]
    fn lets_those_that_wait_wait_as_long_as_they_were_told() {
        for from in [config(), smooth()] {
            for to in [config(), smooth()] {
                let (limiter, clock) = limiter(from.clone().timeout_duration(60 * SECOND));
                limiter.try_acquire(10).unwrap();
                let told = limiter.metrics().time_to_wait;
                let mut waiting = pin!(limiter.acquire(1));
                assert!(poll(waiting.as_mut()).is_pending());
                limiter.reconfigure(to.limit_refresh_period(1000 * SECOND).timeout_duration(Duration::ZERO)).unwrap();
                clock.advance(told - NANO);
                assert!(poll(waiting.as_mut()).is_pending());
                clock.advance(NANO);
                assert!(poll(waiting.as_mut()).is_ready());
                assert_eq!(limiter.metrics().waiting_calls, 0);
            }
        }
    }

    #[test]
    fn takes_nothing_back_that_was_reserved_before_another_algorithm_came() {
        let (limiter, _clock) = limiter(config().timeout_duration(60 * SECOND));
        limiter.try_acquire(10).unwrap();
        let mut waiting = Box::pin(limiter.acquire(1));
        assert!(poll(waiting.as_mut()).is_pending());
        limiter.reconfigure(smooth()).unwrap();
        limiter.reconfigure(config()).unwrap();
        drop(waiting);
        assert_eq!((left(&limiter), limiter.metrics().waiting_calls), (-1, 0));
    }

    #[test]
    fn tells_one_truth_whoever_changed_it() {
        let (limiter, clock) = limiter(smooth().burst(3));
        limiter.change_limit_for_period(20).unwrap();
        limiter.change_timeout_duration(Duration::MAX);
        let now = limiter.config();
        assert_eq!((now.limit_for_period, now.timeout_duration, now.burst), (20, Duration::MAX, Some(3)));
        let refused = limiter.reconfigure(config().burst(3).limit_for_period(7)).unwrap_err();
        assert_eq!((refused.field, limiter.config().limit_for_period), ("burst", 20));

        limiter.reconfigure(config().limit_refresh_period(SECOND).clock(Clock::default())).unwrap();
        assert!(limiter.change_limit_for_period(0).is_err());
        // By the settings now in force: so many are too many only when smooth.
        limiter.change_limit_for_period(2_000_000_000).unwrap();
        assert_eq!(limiter.config().algorithm, Algorithm::FixedCycle);
        assert_eq!(limiter.config().timeout_duration, MS);
        clock.advance(SECOND);
        assert_eq!(left(&limiter), 2_000_000_000, "the clock is its own");
    }
}

mod a_time_limiter {
    use super::*;

    fn config(timeout: Duration) -> time_limiter::Config {
        time_limiter::Config::default().timeout_duration(timeout)
    }

    #[test]
    fn gives_calls_that_start_afterwards_the_new_time() {
        let clock = Clock::manual();
        let limiter = TimeLimiter::new("mail", config(SECOND).clock(&clock)).unwrap();
        let hang = || pending::<Result<(), &str>>();
        let mut before = pin!(limiter.call(hang));
        assert!(poll(before.as_mut()).is_pending());
        limiter.reconfigure(config(10 * SECOND).clock(Clock::default())).unwrap();
        let mut after = pin!(limiter.call(hang));
        assert!(poll(after.as_mut()).is_pending());
        clock.advance(SECOND);
        let over = |result: Poll<Result<(), Error<&str>>>| match result {
            Poll::Ready(Err(Error::Rejected(Rejected::TimedOut(over)))) => Some(over.timeout_duration()),
            _ => None,
        };
        assert_eq!(over(poll(before.as_mut())), Some(SECOND));
        assert_eq!(over(poll(after.as_mut())), None);
        clock.advance(9 * SECOND);
        assert_eq!(over(poll(after.as_mut())), Some(10 * SECOND));
        assert_eq!(limiter.reconfigure(config(Duration::ZERO)).unwrap_err().field, "timeout_duration");
        assert_eq!(limiter.config().timeout_duration, 10 * SECOND);
    }

    #[tokio::test]
    async fn that_detaches_gives_calls_that_start_afterwards_the_new_time() {
        let clock = Clock::manual();
        let limiter = TimeLimiter::new("mail", config(SECOND).clock(&clock)).unwrap();
        let detached = limiter.detached();
        let mut call = pin!(detached.call(pending::<Result<(), &str>>));
        assert!(poll(call.as_mut()).is_pending());
        limiter.reconfigure(config(10 * SECOND)).unwrap();
        assert!(poll(call.as_mut()).is_pending());
        clock.advance(SECOND);
        let Poll::Ready(Err(error)) = poll(call.as_mut()) else { panic!("still going on") };
        assert!(error.to_string().contains("gave the call up after 1s"), "{error}");
    }
}
