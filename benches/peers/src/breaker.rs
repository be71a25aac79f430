//! Circuit breakers.
//!
//! By default resile counts slow calls, for which it reads the clock twice. Tower-resilience and circuitbreaker-rs read
//! it as often, but count no slow calls unless told to (the former) or at all (the latter); the others do not time a call.

use std::{hint::black_box, sync::Arc, time::Duration};

use circuitbreaker_rs::DefaultPolicy;
use failsafe::{
    FailurePolicy, StateMachine, backoff, failure_policy, failure_policy::ConsecutiveFailures, failure_policy::OrElse,
    failure_policy::SuccessRateOverTimeWindow, futures::CircuitBreaker as _,
};
use layered::Service as _;
use recloser::{AsyncRecloser, Recloser};
use resile::{CircuitBreaker, circuit_breaker};
use tower::{Layer, service_fn};
use tower_resilience::circuitbreaker::{CircuitBreakerLayer, SlidingWindowType};

use crate::{
    harness::{
        Down, LONG, Rows, ask, breathe, drive, fail, in_tasks, on_two_threads, permitting, rejecting, timed, with_held,
        work, work_below_layers,
    },
    peer::seatbelt_breaker,
};

const MINUTE: Duration = Duration::from_secs(60);

/// A closed breaker alone, on two threads that share it, and in tasks that share it.
macro_rules! closed {
    ($rows:ident, $name:literal, $make:expr, |$breaker:ident| $call:expr) => {
        $rows.add("breaker_closed", $name, || {
            #[allow(unused_mut)]
            let mut $breaker = $make;
            permitting(&drive($call));
            timed(move || drive($call))
        });
        $rows.add("breaker_two_threads", $name, || {
            let shared = $make;
            on_two_threads(move || {
                #[allow(unused_mut)]
                let mut $breaker = shared.clone();
                move || drive($call)
            })
        });
        $rows.add("breaker_tasks", $name, || {
            let shared = $make;
            in_tasks(move |calls| {
                #[allow(unused_mut)]
                let mut $breaker = shared.clone();
                async move {
                    for call in 0..calls {
                        let _ = black_box($call.await);
                        breathe(call).await;
                    }
                }
            })
        });
    };
}

/// A breaker whose window of a minute holds calls already.
macro_rules! held {
    ($rows:ident, $name:literal, $make:expr, |$breaker:ident| $call:expr) => {
        for (id, held) in [("window_10", 10), ("window_1000", 1_000), ("window_100000", 100_000)] {
            $rows.add(id, $name, move || {
                with_held(held, || {
                    #[allow(unused_mut)]
                    let mut $breaker = $make;
                    move || drive($call)
                })
            });
        }
    };
}

/// A breaker that is open, and stays so.
macro_rules! open {
    ($rows:ident, $name:literal, $make:expr, |$breaker:ident| $call:expr) => {
        $rows.add("breaker_open", $name, || {
            #[allow(unused_mut)]
            let mut $breaker = $make;
            rejecting(&drive($call));
            timed(move || drive($call))
        });
    };
}

pub(crate) fn rows(rows: &mut Rows) {
    closed!(rows, "resile", ours(config()), |breaker| breaker.call(|| work(black_box(1))));
    closed!(rows, "resile, no slow calls", ours(no_slow_calls(config())), |breaker| {
        breaker.call(|| work(black_box(1)))
    });
    closed!(rows, "resile, time window", ours(minute()), |breaker| breaker.call(|| work(black_box(1))));
    closed!(rows, "resile, time window, no slow calls", ours(no_slow_calls(minute())), |breaker| {
        breaker.call(|| work(black_box(1)))
    });
    closed!(rows, "resile, tower layer", ours(config()).layer(service_fn(work_below_layers)), |service| {
        ask(&mut service, black_box(1))
    });
    closed!(rows, "recloser", recloser(), |breaker| breaker.call(work(black_box(1))));
    closed!(rows, "failsafe", failsafe::Config::new().build(), |breaker| breaker.call(work(black_box(1))));
    closed!(rows, "circuitbreaker-rs", circuitbreaker_rs(), |breaker| breaker.call_async(|| work(black_box(1))));
    closed!(rows, "seatbelt", seatbelt_breaker(Duration::from_secs(30), LONG), |service| {
        service.execute(black_box(1))
    });
    closed!(rows, "tower-resilience", tower_resilience().layer(service_fn(work)), |service| {
        ask(&mut service, black_box(1))
    });
    closed!(rows, "tower-resilience, slow calls", tower_resilience_slow_calls().layer(service_fn(work)), |service| {
        ask(&mut service, black_box(1))
    });
    rows.add("breaker_tasks", "no breaker", || {
        in_tasks(|calls| async move {
            for call in 0..calls {
                let _ = black_box(work(black_box(1)).await);
                breathe(call).await;
            }
        })
    });

    held!(rows, "resile", ours(minute()), |breaker| breaker.call(|| work(black_box(1))));
    held!(rows, "failsafe", failsafe_over(MINUTE, backoff::constant(LONG)), |breaker| {
        breaker.call(work(black_box(1)))
    });
    held!(rows, "seatbelt", seatbelt_breaker(MINUTE, LONG), |service| service.execute(black_box(1)));
    held!(rows, "tower-resilience", tower_resilience_minute().layer(service_fn(work)), |service| {
        ask(&mut service, black_box(1))
    });

    open!(rows, "resile", opened(), |breaker| breaker.call(|| work(black_box(1))));
    open!(rows, "resile, permit", opened(), |breaker| async { breaker.try_acquire().map(drop) });
    open!(rows, "resile, tower layer", opened().layer(service_fn(work_below_layers)), |service| {
        ask(&mut service, black_box(1))
    });
    open!(rows, "recloser", opened_recloser(), |breaker| breaker.call(work(black_box(1))));
    open!(rows, "failsafe", opened_failsafe(), |breaker| breaker.call(work(black_box(1))));
    open!(rows, "circuitbreaker-rs", opened_circuitbreaker_rs(), |breaker| {
        breaker.call_async(|| work(black_box(1)))
    });
    open!(rows, "seatbelt", opened_seatbelt(), |service| service.execute(black_box(1)));
    open!(rows, "tower-resilience", opened_tower_resilience().layer(service_fn(work)), |service| {
        ask(&mut service, black_box(1))
    });
}

fn ours(config: circuit_breaker::Config) -> CircuitBreaker {
    CircuitBreaker::new("bench", config).expect("a valid config")
}

fn config() -> circuit_breaker::Config {
    circuit_breaker::Config::default()
}

fn no_slow_calls(config: circuit_breaker::Config) -> circuit_breaker::Config {
    config.slow_call_duration_threshold(None)
}

fn minute() -> circuit_breaker::Config {
    config().sliding_window_type(circuit_breaker::SlidingWindowType::TimeBased).sliding_window_size(60)
}

fn opened() -> CircuitBreaker {
    let breaker = ours(config().wait_duration_in_open_state(LONG));
    breaker.transition_to_open().expect("a legal transition");
    breaker
}

fn recloser() -> AsyncRecloser {
    AsyncRecloser::from(Recloser::custom().open_wait(LONG).build())
}

fn opened_recloser() -> AsyncRecloser {
    let breaker = recloser();
    // It looks at the rate once its ring is full.
    for _ in 0..=100 {
        let _ = drive(breaker.call(fail(1)));
    }
    breaker
}

/// The policies it has by default, over another window and with a pause of our choice.
fn failsafe_over<B>(
    window: Duration,
    pause: B,
) -> StateMachine<OrElse<SuccessRateOverTimeWindow<B>, ConsecutiveFailures<B>>, ()>
where
    B: Iterator<Item = Duration> + Clone,
{
    let rate = failure_policy::success_rate_over_time_window(0.8, 5, window, pause.clone());
    let policy = rate.or_else(failure_policy::consecutive_failures(5, pause));
    failsafe::Config::new().failure_policy(policy).build()
}

fn opened_failsafe() -> StateMachine<impl FailurePolicy + Send + Sync, ()> {
    let breaker = failsafe_over(Duration::from_secs(30), backoff::constant(LONG));
    for _ in 0..5 {
        let _ = drive(breaker.call(fail(1)));
    }
    breaker
}

fn circuitbreaker_rs() -> Arc<circuitbreaker_rs::CircuitBreaker<DefaultPolicy, Down>> {
    Arc::new(circuitbreaker_rs::CircuitBreaker::<DefaultPolicy, Down>::builder().cooldown(LONG).build())
}

fn opened_circuitbreaker_rs() -> Arc<circuitbreaker_rs::CircuitBreaker<DefaultPolicy, Down>> {
    let breaker = circuitbreaker_rs();
    breaker.force_open();
    breaker
}

fn opened_seatbelt() -> Arc<impl layered::Service<u64, Out = Result<u64, Down>> + 'static> {
    let service = seatbelt_breaker(Duration::from_secs(30), LONG);
    // It looks at the rate from a hundred calls on.
    for _ in 0..200 {
        let _ = drive(service.execute(0));
    }
    service
}

fn tower_resilience() -> CircuitBreakerLayer {
    CircuitBreakerLayer::builder().build().expect("a valid config")
}

fn tower_resilience_slow_calls() -> CircuitBreakerLayer {
    CircuitBreakerLayer::builder().slow_call_duration_threshold(MINUTE).build().expect("a valid config")
}

fn tower_resilience_minute() -> CircuitBreakerLayer {
    let config = CircuitBreakerLayer::builder().sliding_window_type(SlidingWindowType::TimeBased);
    config.sliding_window_duration(MINUTE).build().expect("a valid config")
}

fn opened_tower_resilience() -> CircuitBreakerLayer {
    let config = CircuitBreakerLayer::builder().wait_duration_in_open(LONG);
    let (layer, handle) = config.build_with_handle().expect("a valid config");
    drive(handle.force_open());
    layer
}
