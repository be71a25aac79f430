//! Time limits around a call that is ready at once, and around one that is pending once.

use std::{hint::black_box, time::Duration};

use layered::{Execute, Service as _, Stack};
use resile::TimeLimiter;
use seatbelt::timeout::Timeout;
use tower::{Layer, ServiceBuilder, service_fn};
use tower_resilience::timelimiter::TimeLimiterLayer;

use crate::{
    harness::{DOWN, Rows, ask, drive, timed, work, work_below_layers, work_later},
    peer::seatbelt_context,
};

/// What resile has by default; the others take it as a parameter or have five.
const LIMIT: Duration = Duration::from_secs(1);

macro_rules! limited {
    ($rows:ident, $id:literal, $work:ident, $below_layers:expr) => {
        $rows.add($id, "resile", || {
            let limiter = TimeLimiter::with_defaults("bench");
            timed(move || drive(limiter.call(|| $work(black_box(1)))))
        });
        $rows.add($id, "resile, tower layer", || {
            let mut service = TimeLimiter::with_defaults("bench").layer(service_fn($below_layers));
            timed(move || drive(ask(&mut service, black_box(1))))
        });
        $rows.add($id, "tokio timeout", || timed(|| drive(tokio::time::timeout(LIMIT, $work(black_box(1))))));
        $rows.add($id, "tower", || {
            let mut service = ServiceBuilder::new().timeout(LIMIT).service(service_fn($work));
            timed(move || drive(ask(&mut service, black_box(1))))
        });
        $rows.add($id, "seatbelt", || {
            let layer = Timeout::layer("bench", &seatbelt_context()).timeout_error(|_| DOWN).timeout(LIMIT);
            let service = (layer, Execute::new($work)).into_service();
            timed(move || drive(service.execute(black_box(1))))
        });
        $rows.add($id, "tower-resilience", || {
            let mut service = TimeLimiterLayer::builder().build().layer(service_fn($work));
            timed(move || drive(ask(&mut service, black_box(1))))
        });
    };
}

pub(crate) fn rows(rows: &mut Rows) {
    limited!(rows, "time_ready", work, work_below_layers);
    limited!(
        rows,
        "time_pending",
        work_later,
        |input| async move { work_later(input).await.map_err(resile::Error::Inner) }
    );
}
