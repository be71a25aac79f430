//! What is done with each record: it is read, claimed, sent, and lets its request go the way that [`route`] says.
//!
//! A record is done when the database knows what became of its request: sent, or to be sent again by another record,
//! which was put into the outbox in the same transaction. Nothing that happens to this process or to Kafka between two
//! transactions loses anything.
//!
//! While no mail server may be asked, since their circuits are open, a request is *held*: it is not claimed, burns no
//! attempt and keeps no place: it takes one for the moment in which it looks whether that has changed. It only keeps its
//! record unfinished, so that its lane stops reading once it is full.
//!
//! [`route`]: crate::route

pub(crate) mod alerts;
mod hold;
mod invalid;
mod mail;
mod text;

use std::{panic::AssertUnwindSafe, time::Duration};

use futures::FutureExt;
use lettre::message::Mailbox;
use resile::IntervalFunction;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    alert::Alerts,
    backup::Backups,
    counters::Counters,
    delivery::MailServers,
    kafka::{
        consumer::{Handled, Handler},
        publisher::Waker,
    },
    record::{Delivery, Topic},
    request::{EmailRequest, Faults, Intake, Opened, Priority},
    route::RetryRules,
    slots::Slots,
    sms::SmsGateway,
    smtp::Transport,
    store::{Claim, Claimed, Facts, Guarantee, Ledger, Outbox, Status, StoreError},
    wall_clock::WallClock,
};

/// Works on the records of all topics.
#[derive(Debug)]
pub struct Dispatcher<T> {
    /// Reads what is on a topic, decrypts whom it is for, and renders what it says.
    pub intake: Intake,
    /// Whom mails come from.
    pub sender: Mailbox,
    /// Sends it.
    pub servers: MailServers<T>,
    /// Sends it otherwise.
    pub sms: SmsGateway,
    /// Who works on it, and what became of it.
    pub ledger: Ledger,
    /// What is to be published.
    pub outbox: Outbox,
    /// Woken when the outbox has something new.
    pub publisher: Waker,
    /// Which mistake to make when a server does not answer.
    pub guarantee: Guarantee,
    /// How often and how late to try again.
    pub rules: RetryRules,
    /// How long a request is held while no server may be asked, in all. Default of the service: 10 minutes.
    pub hold: Duration,
    /// Places for mails under way, by lane: see [`Turn`].
    pub slots: Slots,
    /// Tells people.
    pub alerts: Alerts,
    /// Copies of what failed at priority HIGH.
    pub backups: Backups,
    /// Counts.
    pub counters: Counters,
    /// The time of day.
    pub clock: WallClock,
}

/// The lanes of [`Dispatcher::slots`], in the order of their weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// HIGH, and what is tried again at once.
    High = 0,
    /// NORMAL, and what has waited.
    Normal = 1,
    /// LOW, and everything in bulk.
    Low = 2,
}

impl Turn {
    /// Whose turn a record of that topic waits for.
    #[must_use]
    pub fn of(topic: Topic) -> Self {
        match topic {
            Topic::High | Topic::ImmediateRetry => Self::High,
            Topic::Normal | Topic::DelayedRetry | Topic::Sms | Topic::DeadLetter => Self::Normal,
            Topic::Low | Topic::Bulk => Self::Low,
        }
    }
}

/// What comes of looking at a request once.
enum Look {
    /// The record is done with.
    Done,
    /// Somebody else works on it, or nobody can for now: look again after that long.
    After(Duration),
}

impl<T: Transport> Handler for Dispatcher<T> {
    async fn handle(&self, delivery: Delivery, stop: CancellationToken) -> Handled {
        let payload = delivery.payload.as_deref().unwrap_or_default();
        // What is large and what is rare is in a box: a mail under way costs little more than the mail.
        let opened = match self.intake.open(payload, self.clock.now_ms()).map(Box::new) {
            Ok(opened) => opened,
            Err(faults) => return Box::pin(self.refuse(&delivery, &faults, &stop)).await,
        };
        let id = opened.request.id;
        match AssertUnwindSafe(self.work(&delivery, opened, &stop)).catch_unwind().await {
            Ok(handled) => handled,
            // It would do so again, and hold its partition up for ever.
            Err(_) => Box::pin(self.refuse(&delivery, &Faults::of_a_panic(id), &stop)).await,
        }
    }
}

impl<T: Transport> Dispatcher<T> {
    async fn work(&self, delivery: &Delivery, opened: Box<Opened>, stop: &CancellationToken) -> Handled {
        if delivery.topic == Topic::DelayedRetry
            && let Some(due_ms) = delivery.headers.not_before_ms()
            && !self.wait_until(due_ms, stop).await
        {
            return Handled::HandedBack;
        }
        let _in_flight = self.counters.in_flight();
        match delivery.topic {
            Topic::DeadLetter => Handled::Done, // for people
            Topic::Sms => Box::pin(self.text(delivery, *opened, stop)).await,
            _ => {
                let (request, mail) = self.compose(*opened);
                self.mail(delivery, &request, &mail, stop).await
            }
        }
    }

    /// Claims until somebody can. `Err` says what to do instead.
    async fn claim(&self, delivery: &Delivery, request: &EmailRequest) -> Result<Claim, Look> {
        match self.ledger.claim(request.id, facts(request), delivery.headers.failed_attempts()).await {
            Ok(Claimed::Yes(claim)) => Ok(claim),
            Ok(Claimed::Held { until_ms }) => Err(self.held(until_ms)),
            Ok(Claimed::Over(status)) => {
                // It was another worker's, who died. Whoever decides about it will want to know what it was.
                let is_news = status == Status::Unknown
                    && self
                        .ledger
                        .keep_request(request.id, &json(request))
                        .await
                        .map_err(|error| self.unavailable(&error))?;
                if is_news {
                    tracing::error!(id = %request.id, "nobody knows whether this mail went out: see `unknown list`");
                    self.counters.unknown(request.kind, request.priority);
                    self.alerts.raise(alerts::unknown(request.id, "the process that was sending it died"));
                } else {
                    self.counters.duplicate(request.kind, request.priority);
                    tracing::debug!(id = %request.id, status = status.name(), "nothing to do");
                }
                Err(Look::Done)
            }
            Ok(Claimed::Superseded) => {
                self.counters.duplicate(request.kind, request.priority);
                tracing::debug!(id = %request.id, "another record is for the next attempt");
                Err(Look::Done)
            }
            Err(error) => Err(self.unavailable(&error)),
        }
    }

    fn held(&self, until_ms: i64) -> Look {
        let left = u64::try_from(until_ms.saturating_sub(self.clock.now_ms())).unwrap_or(0);
        // Whoever holds it may be done long before its lease is over.
        Look::After(Duration::from_millis(left + 1).min(LONGEST_LOOK))
    }

    /// What is owed to a request of priority HIGH that was not sent: a copy in a file, and an alert. Before its row is
    /// written, since a copy too many does no harm.
    async fn tell_of(&self, request: &EmailRequest, trouble: &str, reason: &str) {
        if request.priority != Priority::High {
            return;
        }
        if let Err(error) = self.backups.save(request, reason, self.clock.now_ms()).await {
            tracing::error!(id = %request.id, %error, "no backup of a request of priority HIGH");
            self.alerts.raise(alerts::backup_failed(&error));
        }
        self.alerts.raise(alerts::high_priority_failed(request.id, trouble, reason));
    }

    fn unavailable(&self, error: &StoreError) -> Look {
        tracing::warn!(%error, "the database is asked again");
        Look::After(DATABASE_PAUSE)
    }

    /// Writes down what is known to nobody else, however long the database is away: the caller is dropped when there is
    /// no more time for it.
    async fn write<V, F>(&self, id: Uuid, write: impl Fn() -> F + Sync) -> V
    where
        F: Future<Output = Result<V, StoreError>> + Send,
    {
        let mut pauses = IntervalFunction::exponential(Duration::from_millis(20), 2.0)
            .max(Duration::from_secs(5))
            .randomized(0.5)
            .intervals();
        loop {
            match write().await {
                Ok(written) => return written,
                Err(error) => {
                    tracing::warn!(%id, %error, "what became of a request is yet to be written down");
                    tokio::time::sleep(pauses.next().unwrap_or(DATABASE_PAUSE)).await;
                }
            }
        }
    }

    /// `false` if told to stop before.
    async fn wait_until(&self, due_ms: i64, stop: &CancellationToken) -> bool {
        // A header of somebody else's does not hold a partition up for ever.
        let due_ms = due_ms.min(self.clock.in_ms(LONGEST_DELAY));
        while let Ok(left @ 1..) = u64::try_from(due_ms.saturating_sub(self.clock.now_ms())) {
            // In steps, since the time of day can be set.
            if !pause(Duration::from_millis(left).min(Duration::from_secs(30)), stop).await {
                return false;
            }
        }
        !stop.is_cancelled()
    }
}

/// How soon to look again when nobody may be asked to send a request, and nobody says when.
const SOON: Duration = Duration::from_millis(200);
/// How long to wait at most before looking again at what another works on.
const LONGEST_LOOK: Duration = Duration::from_secs(2);
/// How long to wait at most for a retry's moment.
const LONGEST_DELAY: Duration = Duration::from_secs(24 * 3600);
/// How long to wait before asking again a database that is away.
const DATABASE_PAUSE: Duration = Duration::from_millis(500);

/// `false` if told to stop before.
async fn pause(duration: Duration, stop: &CancellationToken) -> bool {
    stop.run_until_cancelled(tokio::time::sleep(duration)).await.is_some()
}

fn facts(request: &EmailRequest) -> Facts {
    Facts { kind: request.kind, priority: request.priority }
}

fn json(request: &EmailRequest) -> String {
    serde_json::to_string(request).expect("texts, lists and maps with texts as keys are always JSON")
}
