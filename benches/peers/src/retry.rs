//! Retries: the first attempt succeeds. Resile counts the call, tower-resilience tells its listeners; the others do neither.

use std::{hint::black_box, sync::Arc};

use backon::{ExponentialBuilder, Retryable};
use layered::{Execute, Service as _, Stack};
use resile::Retry;
use tokio_retry::strategy::ExponentialBackoff;
use tower::{Layer, ServiceBuilder, retry::budget::TpsBudget, service_fn};
use tower_resilience::retry::{RetryBudgetBuilder, RetryLayer};

use crate::{
    harness::{Down, Rows, ask, drive, timed, work, work_below_layers},
    peer::{Attempts, recovery, seatbelt_context},
};

pub(crate) fn rows(rows: &mut Rows) {
    let id = "retry_first";
    rows.add(id, "resile", || {
        let retry = Retry::with_defaults("bench");
        timed(move || drive(retry.call(|| work(black_box(1)))))
    });
    rows.add(id, "resile, tower layer", || {
        let mut service = Retry::with_defaults("bench").layer(service_fn(work_below_layers));
        timed(move || drive(ask(&mut service, black_box(1))))
    });
    rows.add(id, "backon", || {
        let backoff = ExponentialBuilder::default();
        timed(move || drive(async { (|| work(black_box(1))).retry(backoff).await }))
    });
    rows.add(id, "tokio-retry", || {
        let backoff = ExponentialBackoff::from_millis(500);
        timed(move || drive(tokio_retry::Retry::start(backoff.clone().take(2), || work(black_box(1)))))
    });
    rows.add(id, "tower", || {
        let layer = tower::retry::RetryLayer::new(Attempts { left: 2, budget: None });
        let mut service = layer.layer(service_fn(work));
        timed(move || drive(ask(&mut service, black_box(1))))
    });
    rows.add(id, "seatbelt", || {
        let layer = seatbelt::retry::Retry::layer("bench", &seatbelt_context())
            .clone_input()
            .recovery_with(|result, _| recovery(result));
        let service = (layer, Execute::new(work)).into_service();
        timed(move || drive(service.execute(black_box(1))))
    });
    rows.add(id, "tower-resilience", || {
        let layer = RetryLayer::<u64, u64, Down>::builder().build();
        let mut service = layer.layer(service_fn(work));
        timed(move || drive(ask(&mut service, black_box(1))))
    });

    let id = "retry_budget";
    rows.add(id, "resile", || {
        let retry = Retry::with_defaults("bench");
        timed(move || drive(retry.call(|| work(black_box(1)))))
    });
    rows.add(id, "tower", || {
        let budget = Some(Arc::new(TpsBudget::default()));
        let layer = tower::retry::RetryLayer::new(Attempts { left: 2, budget });
        let mut service = layer.layer(service_fn(work));
        timed(move || drive(ask(&mut service, black_box(1))))
    });
    rows.add(id, "tower-resilience", || {
        let budget = RetryBudgetBuilder::new().token_bucket().build().expect("a valid budget");
        let layer = RetryLayer::<u64, u64, Down>::builder().budget(budget).build();
        let mut service = ServiceBuilder::new().layer(layer).service(service_fn(work));
        timed(move || drive(ask(&mut service, black_box(1))))
    });
}
