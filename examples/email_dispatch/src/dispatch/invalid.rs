//! A record that is no request: a dead letter, and never a reason to stop.

use tokio_util::sync::CancellationToken;

use super::{Dispatcher, Look, pause};
use crate::{
    kafka::consumer::Handled,
    record::{Delivery, dead_letter},
    request::{Faults, Kind, Priority},
    smtp::Transport,
    store::{Claimed, Facts, Finish, StoreError},
};

impl<T: Transport> Dispatcher<T> {
    pub(super) async fn refuse(&self, delivery: &Delivery, faults: &Faults, stop: &CancellationToken) -> Handled {
        let explanation = faults.to_string();
        loop {
            let look = match self.try_refuse(delivery, faults, &explanation).await {
                Ok(look) => look,
                Err(error) => self.unavailable(&error),
            };
            match look {
                Look::Done => {
                    tracing::warn!(
                        topic = delivery.topic.name(),
                        partition = delivery.partition,
                        offset = delivery.offset,
                        explanation,
                        "an invalid record is a dead letter"
                    );
                    self.counters.unreadable();
                    self.publisher.wake();
                    return Handled::Done;
                }
                Look::After(wait) => {
                    if !pause(wait, stop).await {
                        return Handled::HandedBack;
                    }
                }
            }
        }
    }

    async fn try_refuse(&self, delivery: &Delivery, faults: &Faults, explanation: &str) -> Result<Look, StoreError> {
        let letter = vec![dead_letter(delivery, "invalid", explanation)];
        let Some(id) = faults.id else {
            self.outbox.put(&letter).await?;
            return Ok(Look::Done);
        };
        // One that was accepted has a row that waits for it: under a key, say, that has been taken away since. One that was
        // not may come again, put right.
        if self.ledger.find(id).await?.is_none() {
            self.outbox.put(&letter).await?;
            return Ok(Look::Done);
        }
        let facts = Facts { kind: Kind::Notification, priority: Priority::Normal };
        match self.ledger.claim(id, facts, delivery.headers.failed_attempts()).await? {
            Claimed::Yes(claim) => {
                let finish = Finish::Failed { reason: explanation.to_owned() };
                let _ = self.ledger.finish(&claim, finish, letter).await?; // fenced: another has seen to it
            }
            Claimed::Held { until_ms } => return Ok(self.held(until_ms)),
            Claimed::Superseded => {} // another has seen to it
            Claimed::Over(_) => self.outbox.put(&letter).await?,
        }
        Ok(Look::Done)
    }
}
