//! Bulkheads: admitted, and rejected as the places are taken.

use std::{
    future::{Future, pending},
    hint::black_box,
    mem,
    sync::Arc,
    task::{Context, Waker},
};

use resile::{Bulkhead, bulkhead};
use tokio::sync::Semaphore;
use tower::{Layer, ServiceBuilder, service_fn};
use tower_resilience::bulkhead::BulkheadLayer;

use crate::harness::{
    Down, Rows, ask, drive, on_two_threads, permitting, rejecting, timed, timed_in_runtime, work, work_below_layers,
};

/// The places a bulkhead has by default, here and in tower-resilience.
const PLACES: usize = 25;

/// A bulkhead with room: alone, and on two threads that share it.
macro_rules! admitted {
    ($rows:ident, $name:literal, $make:expr, |$places:ident| $call:expr) => {
        $rows.add("bulkhead_admitted", $name, || {
            #[allow(unused_mut)]
            let mut $places = $make;
            permitting(&drive($call));
            timed(move || drive($call))
        });
        $rows.add("bulkhead_two_threads", $name, || {
            let shared = $make;
            on_two_threads(move || {
                #[allow(unused_mut)]
                let mut $places = shared.clone();
                move || drive($call)
            })
        });
    };
}

/// What a user of tokio writes.
async fn by_hand(places: &Semaphore) -> Result<u64, Option<Down>> {
    let _place = places.try_acquire().map_err(|_| None)?;
    work(black_box(1)).await.map_err(Some)
}

pub(crate) fn rows(rows: &mut Rows) {
    admitted!(rows, "resile", Bulkhead::with_defaults("bench"), |places| places.call(|| work(black_box(1))));
    admitted!(
        rows,
        "resile, tower layer",
        Bulkhead::with_defaults("bench").layer(service_fn(work_below_layers)),
        |service| ask(&mut service, black_box(1))
    );
    admitted!(rows, "tokio Semaphore", Arc::new(Semaphore::new(PLACES)), |places| by_hand(&places));
    admitted!(rows, "tower", ServiceBuilder::new().concurrency_limit(PLACES).service(service_fn(work)), |service| ask(
        &mut service,
        black_box(1)
    ));
    admitted!(
        rows,
        "tower with load shed",
        ServiceBuilder::new().load_shed().concurrency_limit(PLACES).service(service_fn(work)),
        |service| ask(&mut service, black_box(1))
    );
    admitted!(
        rows,
        "tower-resilience",
        BulkheadLayer::builder().build().expect("a valid config").layer(service_fn(work)),
        |service| ask(&mut service, black_box(1))
    );

    let id = "bulkhead_rejected";
    rows.add(id, "resile", || {
        let places = full();
        rejecting(&drive(places.call(|| work(1))));
        timed(move || drive(places.call(|| work(black_box(1)))))
    });
    rows.add(id, "tokio Semaphore", || {
        let places = Semaphore::new(0);
        rejecting(&drive(by_hand(&places)));
        timed(move || drive(by_hand(&places)))
    });
    rows.add(id, "tower with load shed", || {
        let layers = ServiceBuilder::new().load_shed().concurrency_limit(1);
        let mut service = layers.service(service_fn(stuck_at_zero));
        let mut other = service.clone();
        hold(async move { ask(&mut other, 0).await });
        rejecting(&drive(ask(&mut service, 1)));
        timed(move || drive(ask(&mut service, black_box(1))))
    });
    // It waits on a timer for no time at all, so the runtime has to run.
    rows.add(id, "tower-resilience", || {
        let config = BulkheadLayer::builder().max_concurrent_calls(1).reject_when_full();
        let service = config.build().expect("a valid config").layer(service_fn(stuck_at_zero));
        let mut other = service.clone();
        hold(async move { ask(&mut other, 0).await });
        timed_in_runtime(move || {
            let mut service = service.clone();
            async move {
                let result = ask(&mut service, black_box(1)).await;
                rejecting(&result);
                result
            }
        })
    });
}

/// Never ends when it is asked for nothing.
async fn stuck_at_zero(input: u64) -> Result<u64, Down> {
    if input == 0 { pending().await } else { work(input).await }
}

/// Begins a call that never ends.
fn hold(call: impl Future + 'static) {
    let mut call = Box::pin(call);
    let _ = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    mem::forget(call);
}

fn full() -> Bulkhead {
    let config = bulkhead::Config::default().max_concurrent_calls(1);
    let places = Bulkhead::new("bench", config).expect("a valid config");
    mem::forget(places.try_acquire());
    places
}
