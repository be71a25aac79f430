//! One request that is to go out by SMS, the last resort.
//!
//! The gateway knows each request by its id and sends it once, however often it is asked, so here a doubt is dispelled
//! by asking again.

use tokio_util::sync::CancellationToken;

use super::{Dispatcher, LONGEST_LOOK, Look, SOON, hold::Hold, pause};
use crate::{
    kafka::consumer::Handled,
    personal::Phone,
    record::{Delivery, dead_letter},
    request::{EmailRequest, Opened},
    sms::{self, SmsError},
    smtp::Transport,
    store::{Claim, Finish, Written},
};

impl<T: Transport> Dispatcher<T> {
    pub(super) async fn text(&self, delivery: &Delivery, opened: Opened, stop: &CancellationToken) -> Handled {
        let Opened { request, phone, rendered, .. } = opened;
        let sms = phone.map(|phone| {
            let text = sms::text_of(&rendered.subject, rendered.text.as_deref().unwrap_or_default());
            (phone, text)
        });
        let mut hold = Hold::default();
        loop {
            match self.try_text(delivery, &request, sms.as_ref(), &mut hold).await {
                Look::Done => return Handled::Done,
                Look::After(wait) => {
                    if !pause(wait, stop).await {
                        return Handled::HandedBack;
                    }
                }
            }
        }
    }

    async fn try_text(
        &self,
        delivery: &Delivery,
        request: &EmailRequest,
        sms: Option<&(Phone, String)>,
        hold: &mut Hold,
    ) -> Look {
        let mut is_held_too_long = false;
        if self.sms.breaker().is_call_permitted() {
            hold.ends();
        } else {
            is_held_too_long = hold.goes_on(self.clock.now_ms(), self.hold);
            if !is_held_too_long {
                return Look::After(SOON);
            }
        }
        let claim = match self.claim(delivery, request).await {
            Ok(claim) => claim,
            Err(look) => return look,
        };
        let Some((phone, text)) = sms else {
            let why = "there is no phone number to send an SMS to".to_owned();
            return self.give_up(delivery, request, &claim, "unsendable", why).await;
        };
        if is_held_too_long {
            let why = format!("the SMS gateway could not be asked for {:?}", self.hold);
            return self.give_up(delivery, request, &claim, "held_too_long", why).await;
        }
        match self.sms.send(request.id, phone, text).await {
            Ok(()) => {
                if self.write(request.id, || self.ledger.finish(&claim, Finish::SmsSent, Vec::new())).await
                    == Written::Yes
                {
                    self.counters.sms_sent(request.kind, request.priority);
                }
                Look::Done
            }
            Err(SmsError::Refused(refusal)) => {
                let wait = refusal.retry_after().unwrap_or(SOON);
                self.release(&claim, wait.clamp(SOON / 4, LONGEST_LOOK)).await
            }
            Err(error) => self.give_up(delivery, request, &claim, "sms_gateway", error.to_string()).await,
        }
    }

    async fn give_up(
        &self,
        delivery: &Delivery,
        request: &EmailRequest,
        claim: &Claim,
        reason: &'static str,
        explanation: String,
    ) -> Look {
        self.tell_of(request, reason, &explanation).await;
        let records = vec![dead_letter(delivery, reason, &explanation)];
        let finish = || self.ledger.finish(claim, Finish::Failed { reason: explanation.clone() }, records.clone());
        if self.write(request.id, finish).await == Written::Yes {
            tracing::warn!(id = %request.id, reason, explanation, "a dead letter");
            self.counters.sms_failed(request.kind, request.priority);
            self.publisher.wake();
        }
        Look::Done
    }
}
