//! What a service looks after beside requests.

use std::time::Duration;

use super::Lanes;
use crate::{
    alert::Alerts,
    counters::Counters,
    dispatch::alerts::{records_lost, stranded, unknown},
    store::{Ledger, Outbox, StoreError},
};

/// Finds what a process that died was about to hand over.
pub(super) async fn sweep(ledger: Ledger, lease: Duration, alerts: Alerts) {
    let mut ticks = tokio::time::interval((lease / 4).clamp(Duration::from_millis(250), Duration::from_secs(30)));
    loop {
        ticks.tick().await;
        match ledger.sweep().await {
            Ok(ids) => {
                for id in ids {
                    tracing::error!(%id, "nobody knows whether this mail went out: see `unknown list`");
                    alerts.raise(unknown(id, "the process that was sending it died"));
                }
            }
            Err(error) => tracing::warn!(%error, "mails in doubt are looked for later"),
        }
    }
}

/// Tells how long the outbox is, and what the broker has forgotten.
pub(super) async fn measure(outbox: Outbox, lanes: Lanes, counters: Counters, alerts: Alerts) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    let mut told = 0;
    loop {
        ticks.tick().await;
        if let Ok(waiting) = outbox.len().await {
            counters.outbox_waiting(waiting);
        }
        let lost = lanes.progress().iter().map(|lane| lane.lost).sum();
        tell_of_lost(&mut told, lost, &counters, &alerts);
    }
}

/// Tells of records that were lost, once each time that there are more.
fn tell_of_lost(told: &mut u64, lost: u64, counters: &Counters, alerts: &Alerts) {
    let more = lost.saturating_sub(*told);
    if more > 0 {
        *told = lost;
        counters.records_lost(more);
        alerts.raise(records_lost(more));
    }
}

/// Tells of requests that no record leads to any more, if there are any: the embedded broker that had theirs is gone, and
/// nothing more happens to them by itself.
///
/// # Errors
/// The database's.
pub(crate) async fn tell_of_stranded(outbox: &Outbox, alerts: &Alerts) -> Result<(), StoreError> {
    let requests = outbox.stranded().await?;
    if requests > 0 {
        tracing::error!(
            requests,
            "requests wait for records that were in an embedded broker, which is gone: `status` counts them"
        );
        alerts.raise(stranded(requests));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{alert::AlertSettings, wall_clock::WallClock};

    #[test]
    fn lost_records_are_told_of_once_each_time_that_there_are_more() {
        let settings = AlertSettings { quiet: Duration::ZERO, ..AlertSettings::default() };
        let alerts = Alerts::new(settings, WallClock::system()).unwrap();
        let (counters, mut told) = (Counters::new("primary-smtp"), 0);
        for (lost, raised) in [(0, 0), (3, 1), (3, 1), (5, 2), (5, 2)] {
            tell_of_lost(&mut told, lost, &counters, &alerts);
            assert_eq!(alerts.raised(), raised, "after {lost}");
        }
        let told: Vec<_> = alerts
            .recent()
            .iter()
            .map(|raised| raised.alert.details().map(|it| it.1.to_owned()).collect::<String>())
            .collect();
        assert!(told.contains(&"3".to_owned()) && told.contains(&"2".to_owned()), "{told:?}");
    }
}
