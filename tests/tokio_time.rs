//! With the feature `test-util` the default clock is tokio's: paused time drives every policy.

use std::{future::pending, time::Duration};

use resile::{
    CircuitBreaker, Clock, Error, IntervalFunction, Pipeline, Rejected, Retry, TimeLimiter, circuit_breaker,
    circuit_breaker::State, event::EventKind, retry, time_limiter,
};
use tokio::time::{Instant, advance, sleep};

const NANO: Duration = Duration::from_nanos(1);
const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn breaker(config: circuit_breaker::Config) -> CircuitBreaker {
    CircuitBreaker::new("orders", config.sliding_window_size(1)).expect("settings that can be")
}

#[tokio::test(start_paused = true)]
async fn the_default_clock_follows_tokio_s() {
    let clock = Clock::default();
    let (start, before) = (Instant::now(), clock.now());
    clock.sleep(3600 * SECOND).await;
    assert_eq!(start.elapsed(), 3600 * SECOND);
    advance(NANO).await;
    assert_eq!(clock.now().saturating_duration_since(before), 3600 * SECOND + NANO);
    clock.sleep(Duration::ZERO).await;
    clock.sleep_until(before).await;
    assert_eq!(start.elapsed(), 3600 * SECOND + NANO);
}

#[tokio::test(start_paused = true)]
async fn a_retry_waits_in_tokio_s_time() {
    let interval = IntervalFunction::exponential(60 * SECOND, 2.0);
    let retry = Retry::new("orders", retry::Config::default().max_attempts(4).interval_function(interval)).unwrap();
    let start = Instant::now();
    let result = retry.call(|| async { Err::<(), _>("down") }).await;
    assert_eq!((result, start.elapsed()), (Err(Error::Inner("down")), 420 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_time_limiter_gives_up_in_tokio_s_time() {
    let limiter = TimeLimiter::new("orders", time_limiter::Config::default().timeout_duration(90 * SECOND)).unwrap();
    let start = Instant::now();
    let result = limiter.call(pending::<Result<(), ()>>).await;
    assert!(matches!(result, Err(Error::Rejected(Rejected::TimedOut(_)))));
    assert!(start.elapsed() >= 90 * SECOND && start.elapsed() <= 90 * SECOND + MS);
    let in_time = limiter
        .call(|| async {
            sleep(89 * SECOND).await;
            Ok::<_, ()>(1)
        })
        .await;
    assert_eq!(in_time, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_breaker_waits_and_measures_in_tokio_s_time() {
    let breaker = breaker(circuit_breaker::Config::default().wait_duration_in_open_state(30 * SECOND));
    let log = breaker.event_log(9);
    let failed = breaker.call(|| async {
        sleep(7 * SECOND).await;
        Err::<(), _>("down")
    });
    assert_eq!(failed.await, Err(Error::Inner("down")));
    assert_eq!(log.events()[0].kind, EventKind::Error { elapsed: Some(7 * SECOND), attempts: 0 });
    let Err(Rejected::CircuitOpen(open)) = breaker.try_acquire() else { panic!("admitted") };
    let after = open.retry_after().expect("a moment");
    assert_eq!(after, 30 * SECOND + NANO);
    advance(30 * SECOND).await;
    assert!(breaker.try_acquire().is_err());
    advance(NANO).await;
    assert!(breaker.try_acquire().is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_automatic_transition_and_a_hung_trial_follow_tokio_s_time() {
    let config = circuit_breaker::Config::default()
        .automatic_transition_from_open_to_half_open_enabled(true)
        .permitted_number_of_calls_in_half_open_state(1);
    let breaker = breaker(config.initial_state(State::Open));
    sleep(60 * SECOND).await;
    assert_eq!(breaker.state(), State::HalfOpen);
    let _hung = breaker.try_acquire().unwrap();
    sleep(60 * SECOND + MS).await;
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_whole_outage_of_hours_passes_in_no_time() {
    let wait = IntervalFunction::fixed(10 * SECOND);
    let pipeline = Pipeline::new((
        Retry::new("retry", retry::Config::default().max_attempts(3).interval_function(wait)).unwrap(),
        breaker(circuit_breaker::Config::default().wait_duration_in_open_state(1800 * SECOND)),
        TimeLimiter::new("limit", time_limiter::Config::default().timeout_duration(5 * SECOND)).unwrap(),
    ));
    let start = Instant::now();
    let repaired = start + 2 * 3600 * SECOND;
    let call = || async move {
        if Instant::now() < repaired {
            pending::<()>().await;
        }
        Ok::<_, &str>("repaired")
    };
    let mut refused = 0;
    while pipeline.call(call).await.is_err() {
        refused += 1;
        sleep(60 * SECOND).await;
    }
    let took = start.elapsed();
    assert!(took >= 2 * 3600 * SECOND && took < 2 * 3600 * SECOND + 1900 * SECOND, "{took:?}");
    assert!(refused > 60, "{refused}");
}

#[tokio::test]
async fn without_a_pause_a_short_wait_takes_its_time() {
    let clock = Clock::default();
    let before = clock.now();
    clock.sleep(2 * MS).await;
    assert!(clock.now().saturating_duration_since(before) >= 2 * MS);
}

#[test]
fn outside_a_runtime_the_default_clock_still_sleeps() {
    let retry = Retry::new("orders", retry::Config::default().wait_duration(MS)).unwrap();
    let clock = Clock::default();
    let before = clock.now();
    assert_eq!(retry.call_blocking(|| Err::<(), _>("down")), Err(Error::Inner("down")));
    assert!(clock.now().saturating_duration_since(before) >= 2 * MS);
}
