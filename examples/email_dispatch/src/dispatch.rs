//! What happens to one request: it is claimed, made into a mail, sent, and written down; and when that fails, sent on
//! its [`route`](crate::route).
//!
//! Everything that follows from a failure is put into the outbox by the transaction that changes the request's row. So
//! a record that has been handled needs nothing more, neither Kafka nor this process, for what follows to happen.

use std::{future::Future, time::Duration};

use lettre::message::Mailbox;
use resile::{Error, Retry};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    alert::{Alert, Alerts, Severity},
    backup::Backup,
    delivery::{MailServers, Undelivered},
    kafka::{Done, Handler},
    message,
    personal::Keys,
    record::{Delivery, Headers, Record, Topic, header},
    request::{EmailRequest, Faults, Intake, Origin, Priority},
    route::{self, RetryRules, Route, Trouble},
    sms::SmsGateway,
    smtp::{Fault, Handover, Mail, Transport},
    store::{Claim, Claimed, Facts, Finish, Guarantee, Ledger, Outbox, Status, StoreError, Written},
    telemetry::{self, Outcome},
    template::Templates,
    wall_clock::WallClock,
};

/// What to do with a mail of which nobody knows whether the server took it, when rather none than two are to arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnUnknown {
    /// It stays UNKNOWN until somebody decides.
    #[default]
    Keep,
    /// It is sent again, and may arrive twice.
    Resend,
    /// It counts as sent, and may be missing.
    AssumeSent,
}

/// How requests are dealt with.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Which mistake to make where one cannot be avoided.
    pub guarantee: Guarantee,
    /// What to do with mails in doubt.
    pub on_unknown: OnUnknown,
    /// How often and how late to try again.
    pub retry: RetryRules,
    /// How long a mail waits here for a server while breakers are open, before that counts as a failed attempt.
    pub hold: Duration,
    /// Who the mails are from.
    pub from: Mailbox,
    /// The right side of each `Message-ID`.
    pub domain: String,
}

/// Deals with the records of all topics. What it needs is given by whoever starts the service.
#[derive(Debug)]
pub struct Dispatcher<T> {
    /// How requests are dealt with.
    pub rules: Rules,
    /// Reads requests.
    pub intake: Intake,
    /// Reads addresses.
    pub keys: Keys,
    /// Writes mails.
    pub templates: Templates,
    /// Sends mails.
    pub servers: MailServers<T>,
    /// Sends SMS.
    pub sms: SmsGateway,
    /// What became of each request.
    pub ledger: Ledger,
    /// What is to be published.
    pub outbox: Outbox,
    /// Copies of what failed and matters.
    pub backup: Backup,
    /// Tells people.
    pub alerts: Alerts,
    /// The time of day.
    pub clock: WallClock,
    /// Asks the database again for as long as it takes.
    pub insist: Retry,
    /// Set when the service is to stop: what only waits is then handed back.
    pub stopping: CancellationToken,
}

/// The work on a record ended without an end of the request: the record is to be delivered again.
struct HandedBack;

impl<T: Transport> Handler for Dispatcher<T> {
    async fn handle(&self, delivery: Delivery) -> Done {
        let payload = delivery.payload.as_deref().unwrap_or_default();
        let handled = match self.intake.parse(payload, Origin::Topic, self.clock.now_ms()) {
            Ok(request) => self.request(&delivery, &request).await,
            Err(faults) => self.unreadable(&delivery, &faults).await,
        };
        match handled {
            Ok(()) => Done::Finished,
            Err(HandedBack) => Done::HandBack,
        }
    }
}

impl<T: Transport> Dispatcher<T> {
    async fn request(&self, delivery: &Delivery, request: &EmailRequest) -> Result<(), HandedBack> {
        let Some(claim) = self.claim(request).await? else { return Ok(()) };
        let failed_before = delivery.headers.integer(header::ATTEMPTS).unwrap_or(0).try_into().unwrap_or(0);
        let work = Work { delivery, request, claim: &claim, failed_before };
        match delivery.topic {
            Topic::Sms => self.send_sms(&work).await,
            _ => self.send_mail(&work).await,
        }
    }

    /// The claim, or `None` where there is nothing to do.
    async fn claim(&self, request: &EmailRequest) -> Result<Option<Claim>, HandedBack> {
        let facts = Facts { kind: request.kind, priority: request.priority };
        loop {
            match self.insist(|| self.ledger.claim(request.id, facts)).await? {
                Claimed::Yes(claim) => return Ok(Some(claim)),
                Claimed::Held { until_ms } => {
                    let wait = until_ms.saturating_sub(self.clock.now_ms()).clamp(1, 60_000);
                    self.wait(Duration::from_millis(wait.unsigned_abs())).await?;
                }
                Claimed::Over(status) => {
                    telemetry::processed(request, Outcome::Duplicate);
                    if status == Status::Unknown {
                        let json = to_json(request);
                        self.insist(|| self.ledger.keep_request(request.id, json.clone())).await?;
                    }
                    return Ok(None);
                }
            }
        }
    }

    async fn send_mail(&self, work: &Work<'_>) -> Result<(), HandedBack> {
        let mail = match self.compose(work.request) {
            Ok(mail) => mail,
            Err(why) => return self.failed(work, &Trouble::Unsendable(why)).await,
        };
        let handover = LedgerHandover { ledger: &self.ledger, claim: work.claim, insist: &self.insist };
        let hold = tokio::time::Instant::now() + self.rules.hold;
        loop {
            match self.servers.send(&mail, work.request.kind, &handover).await {
                Ok(server) => {
                    let written = self.insist(|| self.ledger.sent(work.claim, server)).await?;
                    return self.wrote(work, written, Outcome::Sent(server));
                }
                Err(Undelivered::Refused(refusal)) => {
                    let now = tokio::time::Instant::now();
                    if now >= hold {
                        return self.failed(work, &Trouble::HeldTooLong(refusal.to_string())).await;
                    }
                    let wait = refusal.retry_after().unwrap_or(Duration::from_secs(1));
                    self.wait_for_server(work, wait.clamp(Duration::from_millis(20), hold - now)).await?;
                }
                Err(Undelivered::Failed(error)) => match error.fault {
                    Fault::Fenced => return self.wrote(work, Written::Fenced, Outcome::Fenced),
                    // The database's trouble, and no attempt of the mail's.
                    Fault::Store => self.wait_for_server(work, Duration::from_millis(200)).await?,
                    Fault::Unknown if self.rules.guarantee == Guarantee::AtMostOnce => {
                        return self.unknown(work, &error.to_string(), &error.server).await;
                    }
                    _ => return self.failed(work, &Trouble::Mail(error)).await,
                },
            }
        }
    }

    fn compose(&self, request: &EmailRequest) -> Result<Mail, String> {
        let to = request.to.as_deref().ok_or("there is no address to send to")?;
        let to = self.keys.decrypt_address(to).map_err(|why| why.to_string())?;
        let rendered = self.templates.render(request).map_err(|why| why.to_string())?;
        message::build(request, to.expose(), &self.rules.from, &rendered, &self.rules.domain)
            .map_err(|why| why.to_string())
    }

    async fn send_sms(&self, work: &Work<'_>) -> Result<(), HandedBack> {
        let sent = match self.compose_sms(work.request) {
            Ok((phone, text)) => self.sms.send(&phone, &text, work.request.id).await.map_err(|why| why.to_string()),
            Err(why) => Err(why),
        };
        match sent {
            Ok(()) => {
                let written = self.finish(work, Finish::SmsSent, vec![]).await?;
                self.wrote(work, written, Outcome::SmsSent)
            }
            Err(why) => self.dead_letter(work, "sms", &why).await,
        }
    }

    fn compose_sms(&self, request: &EmailRequest) -> Result<(crate::personal::Phone, String), String> {
        let phone = request.phone.as_deref().ok_or("there is no phone number to send to")?;
        let phone = self.keys.decrypt_phone(phone).map_err(|why| why.to_string())?;
        let rendered = self.templates.render(request).map_err(|why| why.to_string())?;
        Ok((phone, rendered.subject))
    }

    /// The request takes its route.
    async fn failed(&self, work: &Work<'_>, trouble: &Trouble) -> Result<(), HandedBack> {
        let (request, attempts) = (work.request, work.failed_before.saturating_add(1));
        let why = trouble.explanation();
        telemetry::failed(request, trouble.name());
        warn!(id = %request.id, attempts, priority = ?request.priority, "not sent: {why}");
        if request.priority == Priority::High {
            self.tell_and_keep(request, &why, attempts).await;
        }
        match route::after(trouble, request, attempts, &self.rules.retry) {
            Route::Again { topic, after } => {
                let after_ms = i64::try_from(after.as_millis()).unwrap_or(i64::MAX);
                let due = self.clock.now_ms().saturating_add(after_ms);
                let record = work.onward(topic, trouble.name(), &why, attempts, Some(due));
                let written = self.finish(work, Finish::Again { reason: why }, vec![record]).await?;
                self.wrote(work, written, Outcome::Retried)
            }
            Route::Sms => {
                let record = work.onward(Topic::Sms, trouble.name(), &why, attempts, None);
                let written = self.finish(work, Finish::Again { reason: why }, vec![record]).await?;
                self.wrote(work, written, Outcome::PassedToSms)
            }
            Route::DeadLetter => self.dead_letter(work, trouble.name(), &why).await,
            Route::GiveUp => {
                let written = self.finish(work, Finish::Failed { reason: why }, vec![]).await?;
                self.wrote(work, written, Outcome::GivenUp)
            }
        }
    }

    async fn dead_letter(&self, work: &Work<'_>, reason: &str, why: &str) -> Result<(), HandedBack> {
        let attempts = work.failed_before.saturating_add(1);
        let record = work.onward(Topic::DeadLetter, reason, why, attempts, None);
        let written = self.finish(work, Finish::Failed { reason: why.to_owned() }, vec![record]).await?;
        self.wrote(work, written, Outcome::DeadLettered)
    }

    /// Nobody knows whether the mail has gone out, and it must not go out twice.
    async fn unknown(&self, work: &Work<'_>, why: &str, server: &str) -> Result<(), HandedBack> {
        match self.rules.on_unknown {
            OnUnknown::Keep => {
                let request = to_json(work.request);
                let written = self.finish(work, Finish::Unknown { reason: why.to_owned(), request }, vec![]).await?;
                self.wrote(work, written, Outcome::Unknown)
            }
            OnUnknown::AssumeSent => {
                let written = self.insist(|| self.ledger.sent(work.claim, server)).await?;
                self.wrote(work, written, Outcome::Sent(server))
            }
            OnUnknown::Resend => {
                let attempts = work.failed_before.saturating_add(1);
                let record = work.onward(Topic::ImmediateRetry, "unknown", why, attempts, None);
                let written = self.finish(work, Finish::Again { reason: why.to_owned() }, vec![record]).await?;
                self.wrote(work, written, Outcome::Retried)
            }
        }
    }

    /// What is no request goes to the dead letters as it is, with all that is wrong with it.
    async fn unreadable(&self, delivery: &Delivery, faults: &Faults) -> Result<(), HandedBack> {
        warn!(topic = delivery.topic.name(), partition = delivery.partition, offset = delivery.offset, "no request: {faults}");
        telemetry::unreadable();
        let headers = onward_headers(delivery, "invalid", &faults.to_string(), 0, None);
        let key = delivery.key.as_ref().map(|key| String::from_utf8_lossy(key).into_owned());
        let payload = delivery.payload.clone().unwrap_or_default();
        let record = [Record { topic: Topic::DeadLetter, key, payload, headers }];
        self.insist(|| self.outbox.put(&record)).await
    }

    async fn tell_and_keep(&self, request: &EmailRequest, why: &str, attempts: u32) {
        self.alerts.raise(Alert {
            key: "high-priority-failure".to_owned(),
            severity: Severity::Critical,
            text: format!("request {} of priority HIGH failed, attempt {attempts}: {why}", request.id),
        });
        let (backup, request, reason) = (self.backup.clone(), request.clone(), why.to_owned());
        let id = request.id;
        let saved = tokio::task::spawn_blocking(move || backup.save(&request, &reason, attempts)).await;
        let trouble = match saved {
            Ok(Ok(_)) => return,
            Ok(Err(trouble)) => trouble.to_string(),
            Err(trouble) => trouble.to_string(),
        };
        // The request itself is safe in the database and the outbox.
        error!(%id, "no backup written: {trouble}");
        self.alerts.raise(Alert {
            key: "backup".to_owned(),
            severity: Severity::Warning,
            text: format!("backups cannot be written: {trouble}"),
        });
    }

    async fn finish(&self, work: &Work<'_>, finish: Finish, records: Vec<Record>) -> Result<Written, HandedBack> {
        self.insist(|| self.ledger.finish(work.claim, finish.clone(), records.clone())).await
    }

    #[expect(clippy::unnecessary_wraps, reason = "the last step of every way out")]
    fn wrote(&self, work: &Work<'_>, written: Written, outcome: Outcome<'_>) -> Result<(), HandedBack> {
        match written {
            Written::Yes => telemetry::processed(work.request, outcome),
            Written::Fenced => {
                info!(id = %work.request.id, "another worker has taken this request over");
                telemetry::processed(work.request, Outcome::Fenced);
            }
        }
        Ok(())
    }

    /// Asks the database until it answers.
    async fn insist<R, Fut>(&self, ask: impl Fn() -> Fut) -> Result<R, HandedBack>
    where
        Fut: Future<Output = Result<R, StoreError>>,
    {
        let asked = self.insist.retry_if(is_worth_asking_again::<R>);
        tokio::select! {
            biased;
            answer = asked.call(&ask) => answer.map_err(|why| {
                error!("the database: {why}");
                HandedBack
            }),
            () = self.stopping.cancelled() => ask().await.map_err(|_| HandedBack),
        }
    }

    async fn wait(&self, wait: Duration) -> Result<(), HandedBack> {
        tokio::select! {
            () = tokio::time::sleep(wait) => Ok(()),
            () = self.stopping.cancelled() => Err(HandedBack),
        }
    }

    /// As `wait`, and gives the claim back when the service stops.
    async fn wait_for_server(&self, work: &Work<'_>, wait: Duration) -> Result<(), HandedBack> {
        let waited = self.wait(wait).await;
        if waited.is_err()
            && let Err(why) = self.ledger.release(work.claim).await
        {
            warn!(id = %work.request.id, "held until its lease is over: {why}");
        }
        waited
    }
}

fn is_worth_asking_again<R>(answer: &Result<R, Error<StoreError>>) -> bool {
    matches!(answer, Err(Error::Inner(StoreError::Unavailable(_))))
}

fn to_json(request: &EmailRequest) -> String {
    serde_json::to_string(request).expect("a request is plain data")
}

/// A request that has been claimed.
struct Work<'a> {
    delivery: &'a Delivery,
    request: &'a EmailRequest,
    claim: &'a Claim,
    failed_before: u32,
}

impl Work<'_> {
    /// The same request, to another topic.
    fn onward(&self, topic: Topic, reason: &str, why: &str, attempts: u32, not_before: Option<i64>) -> Record {
        Record {
            topic,
            key: self.delivery.key.as_ref().map(|key| String::from_utf8_lossy(key).into_owned()),
            payload: to_json(self.request).into_bytes(),
            headers: onward_headers(self.delivery, reason, why, attempts, not_before),
        }
    }
}

/// Where a record first was, why it is sent on, and how often that has happened.
fn onward_headers(delivery: &Delivery, reason: &str, why: &str, attempts: u32, not_before: Option<i64>) -> Headers {
    let first = |name, here: String| delivery.headers.text(name).map_or(here, str::to_owned);
    let mut headers = Headers::default();
    headers.set(header::ORIGINAL_TOPIC, first(header::ORIGINAL_TOPIC, delivery.topic.name().to_owned()));
    headers.set(header::ORIGINAL_PARTITION, first(header::ORIGINAL_PARTITION, delivery.partition.to_string()));
    headers.set(header::ORIGINAL_OFFSET, first(header::ORIGINAL_OFFSET, delivery.offset.to_string()));
    headers.set(header::ATTEMPTS, attempts.to_string());
    headers.set(header::REASON, reason.to_owned());
    headers.set(header::EXPLANATION, why.to_owned());
    if let Some(moment) = not_before {
        headers.set(header::NOT_BEFORE, moment.to_string());
    }
    headers
}

/// Writes the moment of doubt into the request's row.
struct LedgerHandover<'a> {
    ledger: &'a Ledger,
    claim: &'a Claim,
    insist: &'a Retry,
}

impl Handover for LedgerHandover<'_> {
    async fn hand_over(&self) -> Result<(), Fault> {
        match self.ledger.hand_over(self.claim).await {
            Ok(Written::Yes) => Ok(()),
            Ok(Written::Fenced) => Err(Fault::Fenced),
            Err(_) => Err(Fault::Store),
        }
    }

    async fn take_back(&self) {
        let asked = self.insist.retry_if(is_worth_asking_again::<Written>);
        if let Err(why) = asked.call(|| self.ledger.take_back(self.claim)).await {
            warn!("the row stays in doubt until its lease is over: {why}");
        }
    }
}
