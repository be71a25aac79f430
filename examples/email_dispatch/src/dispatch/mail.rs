//! One request that is to go out by mail.

use std::time::Duration;

use resile::Rejected;
use tokio_util::sync::CancellationToken;

use super::{Dispatcher, LONGEST_LOOK, Look, Turn, alerts, json, pause};
use crate::{
    delivery::Undelivered,
    kafka::consumer::Handled,
    record::{Delivery, again, dead_letter, sms},
    request::{EmailRequest, Priority},
    route::{self, Route, Trouble},
    smtp::{Fault, Handover, Mail, SendError, Transport, compose},
    store::{Claim, Finish, Guarantee, Ledger, Written},
};

/// How soon to ask again when no server may be asked and none says when.
const SOON: Duration = Duration::from_millis(200);

impl<T: Transport> Dispatcher<T> {
    pub(super) async fn mail(&self, delivery: &Delivery, request: &EmailRequest, stop: &CancellationToken) -> Handled {
        let mut held_until_ms = None;
        loop {
            let turn = self.slots.take(Turn::of(delivery.topic) as usize);
            let Some(slot) = stop.run_until_cancelled(turn).await else { return Handled::HandedBack };
            let look = self.try_mail(delivery, request, &mut held_until_ms).await;
            drop(slot);
            match look {
                Look::Done => return Handled::Done,
                Look::After(wait) => {
                    if !pause(wait, stop).await {
                        return Handled::HandedBack;
                    }
                }
            }
        }
    }

    async fn try_mail(&self, delivery: &Delivery, request: &EmailRequest, held_until_ms: &mut Option<i64>) -> Look {
        let now_ms = self.clock.now_ms();
        let is_held_too_long =
            |until_ms: &mut Option<i64>| now_ms >= *until_ms.get_or_insert_with(|| self.clock.in_ms(self.hold));
        // A claim is two transactions: not for a mail that no server would be asked to take.
        if !self.servers.may_be_asked(request.kind) && !is_held_too_long(held_until_ms) {
            return Look::After(SOON);
        }
        let claim = match self.claim(delivery, request).await {
            Ok(claim) => claim,
            Err(look) => return look,
        };
        let mail = match self.compose(request) {
            Ok(mail) => mail,
            Err(why) => return self.failed(delivery, request, &claim, Trouble::Unsendable(why)).await,
        };
        let handover = LedgerHandover { ledger: &self.ledger, claim: &claim };
        match self.servers.send(&mail, request.kind, &handover).await {
            Ok(provider) => self.sent(request, &claim, provider).await,
            Err(Undelivered::Refused(refusal)) => {
                if is_held_too_long(held_until_ms) {
                    let trouble = Trouble::HeldTooLong(refusal.to_string());
                    return self.failed(delivery, request, &claim, trouble).await;
                }
                self.hold_back(&claim, &refusal).await
            }
            Err(Undelivered::Failed(error)) => match error.fault {
                Fault::Fenced => Look::After(Duration::ZERO),
                Fault::Store => self.release(&claim, super::DATABASE_PAUSE).await,
                Fault::Unknown if self.guarantee == Guarantee::AtMostOnce => self.unknown(request, &claim, error).await,
                _ => self.failed(delivery, request, &claim, Trouble::Mail(error)).await,
            },
        }
    }

    fn compose(&self, request: &EmailRequest) -> Result<Mail, String> {
        let to = request.to.as_deref().ok_or("there is no address to send a mail to")?;
        let recipient = self.keys.decrypt_address(to).map_err(|error| format!("the address {error}"))?;
        let rendered = self.templates.render(request).map_err(|error| error.to_string())?;
        compose(request, &rendered, &recipient, &self.sender).map_err(|error| error.to_string())
    }

    async fn sent(&self, request: &EmailRequest, claim: &Claim, provider: &str) -> Look {
        match self.write(request.id, || self.ledger.sent(claim, provider)).await {
            Written::Yes => self.counters.sent(request.kind, request.priority, provider),
            // The lease was shorter than the server's answer took: whoever took over will find out.
            Written::Fenced => tracing::error!(id = %request.id, provider, "sent by a worker that was thought dead"),
        }
        Look::Done
    }

    /// No server may be asked: somebody else may try meanwhile.
    async fn hold_back(&self, claim: &Claim, refusal: &Rejected) -> Look {
        let wait = refusal.retry_after().unwrap_or(SOON).clamp(SOON / 4, LONGEST_LOOK);
        self.release(claim, wait).await
    }

    pub(super) async fn release(&self, claim: &Claim, then: Duration) -> Look {
        let _ = self.write(claim.id, || self.ledger.release(claim)).await; // fenced or not, it is let go
        Look::After(then)
    }

    /// The server has the mail or has it not, and will not say.
    async fn unknown(&self, request: &EmailRequest, claim: &Claim, error: SendError) -> Look {
        let (reason, kept) = (error.to_string(), json(request));
        let finish = || {
            let (reason, request) = (reason.clone(), kept.clone());
            self.ledger.finish(claim, Finish::Unknown { reason, request }, Vec::new())
        };
        if self.write(request.id, finish).await == Written::Yes {
            self.counters.unknown(request.kind, request.priority);
            self.alerts.raise(alerts::unknown(request.id, &reason));
        }
        Look::Done
    }

    async fn failed(&self, delivery: &Delivery, request: &EmailRequest, claim: &Claim, trouble: Trouble) -> Look {
        let route = route::after(&trouble, request, claim.attempts, &self.rules);
        let reason = trouble.explanation();
        let (finish, records) = match &route {
            Route::Again { topic, after } => {
                let not_before_ms = (!after.is_zero()).then(|| self.clock.in_ms(*after));
                let record = again(delivery, *topic, claim.attempts, not_before_ms);
                (Finish::Again { reason: reason.clone() }, vec![record])
            }
            Route::Sms => (Finish::Again { reason: reason.clone() }, vec![sms(delivery, claim.attempts)]),
            Route::DeadLetter => {
                let record = dead_letter(delivery, trouble.name(), &reason);
                (Finish::Failed { reason: reason.clone() }, vec![record])
            }
            Route::GiveUp => (Finish::Failed { reason: reason.clone() }, Vec::new()),
        };
        if request.priority == Priority::High {
            // Before the row is written: a copy too many does no harm, and it says nothing that the row does not.
            if let Err(error) = self.backups.save(request, &reason, self.clock.now_ms()).await {
                tracing::error!(id = %request.id, %error, "no backup of a request of priority HIGH");
                self.alerts.raise(alerts::backup_failed(&error));
            }
            self.alerts.raise(alerts::high_priority_failed(request.id, trouble.name(), &reason));
        }
        let finish = || self.ledger.finish(claim, finish.clone(), records.clone());
        if self.write(request.id, finish).await == Written::Yes {
            tracing::info!(id = %request.id, attempts = claim.attempts, %reason, ?route, "not sent");
            self.counters.failed(request.kind, request.priority, trouble.name(), &route);
            self.publisher.wake();
        }
        Look::Done
    }
}

/// Writes down that a mail is handed over, so that a crash leaves the right mistake.
struct LedgerHandover<'a> {
    ledger: &'a Ledger,
    claim: &'a Claim,
}

impl Handover for LedgerHandover<'_> {
    async fn hand_over(&self) -> Result<(), Fault> {
        match self.ledger.hand_over(self.claim).await {
            Ok(Written::Yes) => Ok(()),
            Ok(Written::Fenced) => Err(Fault::Fenced),
            Err(error) => {
                tracing::warn!(id = %self.claim.id, %error, "not handed over: the database does not know of it");
                Err(Fault::Store)
            }
        }
    }

    async fn take_back(&self) {
        // Left in doubt the row is still this claim's, and what follows is written over it.
        if let Err(error) = self.ledger.take_back(self.claim).await {
            tracing::warn!(id = %self.claim.id, %error, "in doubt until the next word of it is written");
        }
    }
}
