//! Who publishes.

use std::time::Duration;

use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout_at},
};

use crate::store::Lease;

/// Holds the lease whenever that is possible, and says whether it is held. Until the time it was last held for has
/// passed, an unreachable database changes nothing.
pub(super) async fn keep(lease: Lease, duration: Duration, leads: watch::Sender<bool>) {
    let mut held_until = Instant::now();
    loop {
        let asked = Instant::now();
        let patience = if asked < held_until { held_until } else { asked + duration };
        let mut wait = duration / 3;
        match timeout_at(patience, lease.try_hold(duration)).await {
            Ok(Ok(true)) => {
                held_until = asked + duration;
                say(&leads, true);
            }
            Ok(Ok(false)) => {
                held_until = asked;
                say(&leads, false);
            }
            answer => {
                wait = duration / 10;
                if let Ok(Err(error)) = answer {
                    tracing::debug!(%error, "whether this process publishes could not be asked");
                }
                if Instant::now() >= held_until {
                    say(&leads, false);
                }
            }
        }
        sleep(wait).await;
    }
}

fn say(leads: &watch::Sender<bool>, now: bool) {
    let changed = leads.send_if_modified(|leads| std::mem::replace(leads, now) != now);
    if changed {
        tracing::info!(leads = now, "who publishes the outbox has changed");
    }
}
