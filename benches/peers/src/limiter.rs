//! Rate limiters: asked for a permit, and around a call; with permits in plenty, and with none.

use std::{hint::black_box, sync::Arc, time::Duration};

use ratelimit::Ratelimiter;
use resile::{RateLimiter, rate_limiter};
use tower::{Layer, ServiceBuilder, service_fn};
use tower_resilience::ratelimiter::RateLimiterLayer;

use crate::{
    harness::{Rows, ask, drive, on_two_threads, permitting, rejecting, timed, work, work_below_layers},
    peer::{PLENTY, governor, one_an_hour, plenty},
};

const HOUR: Duration = Duration::from_secs(3600);

/// A call that is made where a permit is to be had.
macro_rules! guarded {
    ($check:expr) => {
        async {
            match $check {
                Ok(_) => work(black_box(1)).await.map_err(Some),
                Err(_) => Err(None),
            }
        }
    };
}

/// Permits in plenty: asked for, around a call, and around the calls of two threads.
macro_rules! permitted {
    ($rows:ident, $name:literal, $make:expr, |$limiter:ident| $check:expr, $call:expr) => {
        $rows.add("limiter_check", $name, || {
            let $limiter = $make;
            timed(move || $check)
        });
        permitted!($rows, $name, $make, |$limiter| $call);
    };
    ($rows:ident, $name:literal, $make:expr, |$limiter:ident| $call:expr) => {
        $rows.add("limiter_call", $name, || {
            #[allow(unused_mut)]
            let mut $limiter = $make;
            permitting(&drive($call));
            timed(move || drive($call))
        });
        $rows.add("limiter_two_threads", $name, || {
            let shared = $make;
            on_two_threads(move || {
                #[allow(unused_mut)]
                let mut $limiter = shared.clone();
                move || drive($call)
            })
        });
    };
}

/// No permit for an hour: asked for, and around a call.
macro_rules! rejected {
    ($rows:ident, $name:literal, $make:expr, |$limiter:ident| $check:expr, $call:expr) => {
        $rows.add("limiter_check_rejected", $name, || {
            let $limiter = $make;
            let _ = $check;
            rejecting(&$check);
            timed(move || $check.is_err())
        });
        rejected!($rows, $name, $make, |$limiter| $call);
    };
    ($rows:ident, $name:literal, $make:expr, |$limiter:ident| $call:expr) => {
        $rows.add("limiter_call_rejected", $name, || {
            #[allow(unused_mut)]
            let mut $limiter = $make;
            let _ = drive($call);
            rejecting(&drive($call));
            timed(move || drive($call))
        });
    };
}

pub(crate) fn rows(rows: &mut Rows) {
    permitted!(
        rows,
        "resile",
        ours(smooth().limit_for_period(PLENTY).limit_refresh_period(Duration::from_secs(1))),
        |limiter| limiter.try_acquire(1),
        limiter.call(|| work(black_box(1)))
    );
    permitted!(
        rows,
        "resile, fixed cycle",
        ours(config().limit_for_period(PLENTY).limit_refresh_period(Duration::from_secs(1))),
        |limiter| limiter.try_acquire(1),
        limiter.call(|| work(black_box(1)))
    );
    permitted!(rows, "governor", Arc::new(governor(plenty())), |limiter| limiter.check(), guarded!(limiter.check()));
    permitted!(
        rows,
        "ratelimit",
        Arc::new(bucket(u64::from(PLENTY), Duration::from_secs(1), u64::from(PLENTY))),
        |limiter| limiter.try_wait(),
        guarded!(limiter.try_wait())
    );
    rows.add("limiter_call", "tower", || {
        let mut service =
            ServiceBuilder::new().rate_limit(u64::from(PLENTY), Duration::from_secs(1)).service(service_fn(work));
        timed(move || drive(ask(&mut service, black_box(1))))
    });
    permitted!(
        rows,
        "tower-resilience",
        RateLimiterLayer::builder()
            .limit_for_period(PLENTY as usize)
            .build()
            .expect("a valid config")
            .layer(service_fn(work)),
        |service| ask(&mut service, black_box(1))
    );
    permitted!(
        rows,
        "tower-resilience, token bucket",
        RateLimiterLayer::burst(PLENTY as usize, PLENTY as usize)
            .build()
            .expect("a valid config")
            .layer(service_fn(work)),
        |service| ask(&mut service, black_box(1))
    );

    rejected!(
        rows,
        "resile",
        ours(smooth().limit_for_period(1).limit_refresh_period(HOUR).timeout_duration(Duration::ZERO)),
        |limiter| limiter.try_acquire(1),
        limiter.call(|| work(black_box(1)))
    );
    rejected!(
        rows,
        "resile, fixed cycle",
        ours(config().limit_for_period(1).limit_refresh_period(HOUR).timeout_duration(Duration::ZERO)),
        |limiter| limiter.try_acquire(1),
        limiter.call(|| work(black_box(1)))
    );
    rows.add("limiter_call_rejected", "resile, tower layer", || {
        let limiter = ours(smooth().limit_for_period(1).limit_refresh_period(HOUR).timeout_duration(Duration::ZERO));
        let mut service = limiter.layer(service_fn(work_below_layers));
        let _ = drive(ask(&mut service, 1));
        timed(move || drive(ask(&mut service, black_box(1))))
    });
    rejected!(
        rows,
        "governor",
        Arc::new(governor(one_an_hour())),
        |limiter| limiter.check(),
        guarded!(limiter.check())
    );
    rejected!(
        rows,
        "ratelimit",
        Arc::new(bucket(1, HOUR, 1)),
        |limiter| limiter.try_wait(),
        guarded!(limiter.try_wait())
    );
    rejected!(
        rows,
        "tower with load shed",
        ServiceBuilder::new().load_shed().rate_limit(1, HOUR).service(service_fn(work)),
        |service| ask(&mut service, black_box(1))
    );
    rejected!(
        rows,
        "tower-resilience",
        RateLimiterLayer::builder()
            .limit_for_period(1)
            .refresh_period(HOUR)
            .timeout_duration(Duration::ZERO)
            .build()
            .expect("a valid config")
            .layer(service_fn(work)),
        |service| ask(&mut service, black_box(1))
    );
}

fn ours(config: rate_limiter::Config) -> RateLimiter {
    RateLimiter::new("bench", config).expect("a valid config")
}

fn config() -> rate_limiter::Config {
    rate_limiter::Config::default()
}

fn smooth() -> rate_limiter::Config {
    config().algorithm(rate_limiter::Algorithm::Smooth)
}

fn bucket(permits: u64, period: Duration, available: u64) -> Ratelimiter {
    Ratelimiter::builder(permits).period(period).initial_available(available).build().expect("a valid config")
}
