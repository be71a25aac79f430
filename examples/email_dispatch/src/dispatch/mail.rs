//! One request that is to go out by mail.

use std::time::Duration;

use resile::Rejected;
use tokio_util::sync::CancellationToken;

use super::{Dispatcher, LONGEST_LOOK, Look, SOON, Turn, alerts, hold::Hold, json, pause};
use crate::{
    delivery::Undelivered,
    kafka::consumer::Handled,
    record::{Delivery, again, dead_letter, sms},
    request::{EmailRequest, Opened},
    route::{self, Route, Trouble},
    smtp::{Fault, Handover, Mail, SendError, Transport, compose},
    store::{Claim, Finish, Guarantee, Written},
};

impl<T: Transport> Dispatcher<T> {
    /// A request's mail, or why there is none.
    pub(super) fn compose(&self, opened: Opened) -> (EmailRequest, Result<Mail, String>) {
        let Opened { request, to, rendered, .. } = opened;
        let mail = match to {
            Some(to) => compose(&request, &rendered, &to, &self.sender).map_err(|error| error.to_string()),
            None => Err("there is no address to send a mail to".to_owned()),
        };
        (request, mail)
    }

    pub(super) async fn mail(
        &self,
        delivery: &Delivery,
        request: &EmailRequest,
        mail: &Result<Mail, String>,
        stop: &CancellationToken,
    ) -> Handled {
        let mut hold = Hold::default();
        loop {
            let turn = self.slots.take(Turn::of(delivery.topic) as usize);
            let Some(slot) = stop.run_until_cancelled(turn).await else { return Handled::HandedBack };
            let look = self.try_mail(delivery, request, mail, &mut hold).await;
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

    async fn try_mail(
        &self,
        delivery: &Delivery,
        request: &EmailRequest,
        mail: &Result<Mail, String>,
        hold: &mut Hold,
    ) -> Look {
        let mut is_held_too_long = false;
        if self.servers.may_be_asked(request.kind) {
            hold.ends();
        } else {
            is_held_too_long = hold.goes_on(self.clock.now_ms(), self.hold);
            // A claim is two transactions: not for a mail that no server would be asked to take.
            if !is_held_too_long {
                return Look::After(SOON);
            }
        }
        let claim = match self.claim(delivery, request).await {
            Ok(claim) => claim,
            Err(look) => return look,
        };
        let mail = match mail {
            Ok(_) if is_held_too_long => {
                let why = format!("no mail server could be asked for {:?}", self.hold);
                return self.failed(delivery, request, &claim, Trouble::HeldTooLong(why)).await;
            }
            Ok(mail) => mail,
            Err(why) => return self.failed(delivery, request, &claim, Trouble::Unsendable(why.clone())).await,
        };
        let handover = LedgerHandover { dispatcher: self, claim: &claim };
        match self.servers.send(mail, request.kind, &handover).await {
            Ok(provider) => self.sent(request, &claim, provider).await,
            Err(Undelivered::Refused(refusal)) => self.hold_back(&claim, &refusal).await,
            Err(Undelivered::Failed(error)) => match error.fault {
                Fault::Fenced => Look::After(Duration::ZERO),
                Fault::Store => {
                    // It may be the answer alone that was lost, and the row in doubt.
                    handover.take_back().await;
                    self.release(&claim, super::DATABASE_PAUSE).await
                }
                Fault::Unknown if self.guarantee == Guarantee::AtMostOnce => self.unknown(request, &claim, error).await,
                _ => self.failed(delivery, request, &claim, Trouble::Mail(error)).await,
            },
        }
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
        self.tell_of(request, trouble.name(), &reason).await;
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
struct LedgerHandover<'a, T> {
    dispatcher: &'a Dispatcher<T>,
    claim: &'a Claim,
}

impl<T: Transport> Handover for LedgerHandover<'_, T> {
    async fn hand_over(&self) -> Result<(), Fault> {
        match self.dispatcher.ledger.hand_over(self.claim).await {
            Ok(Written::Yes) => Ok(()),
            Ok(Written::Fenced) => Err(Fault::Fenced),
            Err(error) => {
                tracing::warn!(id = %self.claim.id, %error, "not handed over: the database does not know of it");
                Err(Fault::Store)
            }
        }
    }

    async fn take_back(&self) {
        let Self { dispatcher, claim } = self;
        let _ = dispatcher.write(claim.id, || dispatcher.ledger.take_back(claim)).await; // fenced: another sees to it
    }
}
