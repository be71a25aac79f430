//! Several policies around one call, retry outermost: breaker, rate limiter, time limiter and bulkhead inside it.

use std::{hint::black_box, sync::Arc, time::Duration};

use backon::{ExponentialBuilder, Retryable};
use layered::{Execute, Service as _, Stack};
use recloser::{AsyncRecloser, Recloser};
use resile::{Bulkhead, CircuitBreaker, Pipeline, RateLimiter, Retry, TimeLimiter, rate_limiter};
use seatbelt::{breaker::Breaker, timeout::Timeout};
use tokio::sync::Semaphore;
use tower::{ServiceBuilder, service_fn};
use tower_resilience::{
    bulkhead::BulkheadLayer, circuitbreaker::CircuitBreakerLayer, ratelimiter::RateLimiterLayer, retry::RetryLayer,
    timelimiter::TimeLimiterLayer,
};

use crate::{
    Run,
    harness::{DOWN, Down, Rows, ask, drive, on_two_threads, permitting, timed, work, work_below_layers, work_later},
    peer::{Attempts, Governor, PLENTY, governor, plenty, recovery, seatbelt_context},
};

const LIMIT: Duration = Duration::from_secs(1);
const PLACES: usize = 25;

type Five = (Retry, CircuitBreaker, RateLimiter, TimeLimiter, Bulkhead);

pub(crate) fn rows(rows: &mut Rows) {
    five(rows);

    let id = "five_policies_pending";
    rows.add(id, "resile", || {
        let pipeline = Pipeline::new(policies());
        timed(move || drive(pipeline.call(|| work_later(black_box(1)))))
    });
    rows.add(id, "by hand", || {
        let hand = ByHand::new();
        timed(move || drive(hand.call(work_later)))
    });

    let id = "five_policies_two_threads";
    rows.add(id, "resile", || {
        let shared = Pipeline::new(policies());
        on_two_threads(move || {
            let pipeline = shared.clone();
            move || drive(pipeline.call(|| work(black_box(1))))
        })
    });
    rows.add(id, "by hand", || {
        let shared = Arc::new(ByHand::new());
        on_two_threads(move || {
            let hand = Arc::clone(&shared);
            move || drive(hand.call(work))
        })
    });

    rows.add("four_policies", "resile", || four(policies()));
    rows.add("four_policies", "resile, fixed cycle", || {
        let (retry, breaker, _, time, places) = policies();
        four((retry, breaker, limiter(rate_limiter::Algorithm::FixedCycle), time, places))
    });
}

/// Without the time limiter.
fn four((retry, breaker, limiter, _, places): Five) -> Run {
    let pipeline = Pipeline::new((retry, breaker, limiter, places));
    timed(move || drive(pipeline.call(|| work(black_box(1)))))
}

fn five(rows: &mut Rows) {
    let id = "five_policies";
    rows.add(id, "resile", || {
        let pipeline = Pipeline::new(policies());
        permitting(&drive(pipeline.call(|| work(1))));
        timed(move || drive(pipeline.call(|| work(black_box(1)))))
    });
    rows.add(id, "resile, one tower layer", || {
        let layer = Pipeline::new(policies());
        let mut service = ServiceBuilder::new().layer(layer).service(service_fn(work_below_layers));
        timed(move || drive(ask(&mut service, black_box(1))))
    });
    rows.add(id, "resile, five tower layers", || {
        let (retry, breaker, limiter, time, places) = policies();
        let layers = ServiceBuilder::new().layer(retry).layer(breaker).layer(limiter).layer(time).layer(places);
        let mut service = layers.service(service_fn(work_below_layers));
        permitting(&drive(ask(&mut service, 1)));
        timed(move || drive(ask(&mut service, black_box(1))))
    });
    rows.add(id, "by hand", || {
        let hand = ByHand::new();
        permitting(&drive(hand.call(work)));
        timed(move || drive(hand.call(work)))
    });
    // A retry, a breaker and a time limit: it has no more.
    rows.add(id, "seatbelt, its three", || {
        let context = seatbelt_context();
        let retry = seatbelt::retry::Retry::layer("bench", &context).clone_input().recovery_with(|r, _| recovery(r));
        let breaker = Breaker::layer("bench", &context).recovery_with(|r, _| recovery(r));
        let time = Timeout::layer("bench", &context).timeout_error(|_| DOWN).timeout(LIMIT);
        let layers = (retry, breaker.rejected_input_error(|_, _| DOWN), time, Execute::new(work));
        let service = layers.into_service();
        permitting(&drive(service.execute(1)));
        timed(move || drive(service.execute(black_box(1))))
    });
    // A retry, a rate limit, a time limit and a concurrency limit: it has no breaker. A retry clones its service, which
    // a rate limit cannot be, so the retry is inside it.
    rows.add(id, "tower, its four", || {
        let layers = ServiceBuilder::new().rate_limit(u64::from(PLENTY), LIMIT).timeout(LIMIT);
        let retry = tower::retry::RetryLayer::new(Attempts { left: 2, budget: None });
        let mut service = layers.layer(retry).concurrency_limit(PLACES).service(service_fn(work));
        permitting(&drive(ask(&mut service, 1)));
        timed(move || drive(ask(&mut service, black_box(1))))
    });
    rows.add(id, "tower-resilience", || {
        let mut service = ServiceBuilder::new()
            .layer(RetryLayer::builder().build())
            .layer(CircuitBreakerLayer::builder().build().expect("a valid config"))
            .layer(RateLimiterLayer::builder().limit_for_period(PLENTY as usize).build().expect("a valid config"))
            .layer(TimeLimiterLayer::builder().build())
            .layer(BulkheadLayer::builder().build().expect("a valid config"))
            .service(service_fn(work));
        permitting(&drive(ask(&mut service, 1)));
        timed(move || drive(ask(&mut service, black_box(1))))
    });
}

fn limiter(algorithm: rate_limiter::Algorithm) -> RateLimiter {
    let config = rate_limiter::Config::default().algorithm(algorithm).limit_for_period(PLENTY);
    RateLimiter::new("bench", config.limit_refresh_period(Duration::from_secs(1))).expect("a valid config")
}

fn policies() -> Five {
    (
        Retry::with_defaults("bench"),
        CircuitBreaker::with_defaults("bench"),
        limiter(rate_limiter::Algorithm::Smooth),
        TimeLimiter::with_defaults("bench"),
        Bulkhead::with_defaults("bench"),
    )
}

/// What a user puts together from the fastest crate for each: backon, recloser, governor and tokio's own.
struct ByHand {
    backoff: ExponentialBuilder,
    breaker: AsyncRecloser,
    limiter: Governor,
    places: Semaphore,
}

/// What goes wrong in it.
enum Wrong {
    Down,
    Refused,
}

impl ByHand {
    fn new() -> Self {
        Self {
            backoff: ExponentialBuilder::default(),
            breaker: AsyncRecloser::from(Recloser::default()),
            limiter: governor(plenty()),
            places: Semaphore::new(PLACES),
        }
    }

    async fn call<F>(&self, work: impl Fn(u64) -> F) -> Result<u64, recloser::Error<Wrong>>
    where
        F: Future<Output = Result<u64, Down>>,
    {
        let guarded = || async {
            self.limiter.check().map_err(|_| Wrong::Refused)?;
            let admitted = async {
                let _place = self.places.try_acquire().map_err(|_| Wrong::Refused)?;
                work(black_box(1)).await.map_err(|_| Wrong::Down)
            };
            tokio::time::timeout(LIMIT, admitted).await.map_err(|_| Wrong::Refused)?
        };
        (|| self.breaker.call(guarded())).retry(self.backoff).await
    }
}
