//! One request that is to go out by SMS, the last resort.
//!
//! The gateway knows each request by its id and sends it once, however often it is asked, so here a doubt is dispelled
//! by asking again.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Dispatcher, LONGEST_LOOK, Look, pause};
use crate::{
    kafka::consumer::Handled,
    personal::Phone,
    record::{Delivery, dead_letter},
    request::EmailRequest,
    sms::{self, SmsError},
    smtp::Transport,
    store::{Claim, Finish, Written},
};

impl<T: Transport> Dispatcher<T> {
    pub(super) async fn text(&self, delivery: &Delivery, request: &EmailRequest, stop: &CancellationToken) -> Handled {
        let mut held_until_ms = None;
        loop {
            match self.try_text(delivery, request, &mut held_until_ms).await {
                Look::Done => return Handled::Done,
                Look::After(wait) => {
                    if !pause(wait, stop).await {
                        return Handled::HandedBack;
                    }
                }
            }
        }
    }

    async fn try_text(&self, delivery: &Delivery, request: &EmailRequest, held_until_ms: &mut Option<i64>) -> Look {
        let claim = match self.claim(delivery, request).await {
            Ok(claim) => claim,
            Err(look) => return look,
        };
        let (phone, text) = match self.word(request) {
            Ok(worded) => worded,
            Err(why) => return self.give_up(delivery, request, &claim, "unsendable", why).await,
        };
        match self.sms.send(request.id, &phone, &text).await {
            Ok(()) => {
                if self.write(request.id, || self.ledger.finish(&claim, Finish::SmsSent, Vec::new())).await
                    == Written::Yes
                {
                    self.counters.sms_sent(request.kind, request.priority);
                }
                Look::Done
            }
            Err(SmsError::Refused(refusal)) => {
                let limit = *held_until_ms.get_or_insert_with(|| self.clock.in_ms(self.hold));
                if self.clock.now_ms() >= limit {
                    return self.give_up(delivery, request, &claim, "held_too_long", refusal.to_string()).await;
                }
                let wait = refusal.retry_after().unwrap_or(Duration::from_millis(200));
                self.release(&claim, wait.clamp(Duration::from_millis(50), LONGEST_LOOK)).await
            }
            Err(error) => self.give_up(delivery, request, &claim, "sms_gateway", error.to_string()).await,
        }
    }

    fn word(&self, request: &EmailRequest) -> Result<(Phone, String), String> {
        let phone = request.phone.as_deref().ok_or("there is no phone number to send an SMS to")?;
        let phone = self.keys.decrypt_phone(phone).map_err(|error| format!("the phone number {error}"))?;
        let rendered = self.templates.render(request).map_err(|error| error.to_string())?;
        Ok((phone, sms::text_of(&rendered.subject, rendered.text.as_deref().unwrap_or_default())))
    }

    async fn give_up(
        &self,
        delivery: &Delivery,
        request: &EmailRequest,
        claim: &Claim,
        reason: &'static str,
        explanation: String,
    ) -> Look {
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
