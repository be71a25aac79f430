//! The loop: read, send, forget.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::TryFutureExt;
use resile::{
    IntervalFunction, InvalidConfig, RateLimiter, Retry, Subscription, event::EventKind, rate_limiter, retry,
};
use tokio::{
    sync::{Notify, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::{
    PublisherSettings, Waker,
    outlet::{Outlet, Refused, Sent},
};
use crate::{
    personal::mask_text,
    record::{LONGEST_EXPLANATION, Record, Topic, dead_letter, header},
    request::EmailRequest,
    store::{Claimed, Facts, Finish, Ledger, Outbox, OutboxRow, StoreError, Written},
};

/// The reason of a dead letter that Kafka would not take with its payload.
pub(super) const UNPUBLISHABLE: &str = "unpublishable";

/// The longest key of a dead letter without a payload, in octets: ours are shorter.
const LONGEST_KEY: usize = 256;

/// How long to wait after a batch that failed while the breaker is still closed: it only has to see that.
const AFTER_A_FAILURE: Duration = Duration::from_millis(100);

const WAITS: &str = "the outbox waits for its database";

pub(super) struct Task {
    outbox: Outbox,
    ledger: Ledger,
    outlet: Outlet,
    batch: u32,
    poll_interval: Duration,
    leads: watch::Receiver<bool>,
    bell: Waker,
    published: Arc<AtomicU64>,
    /// The row to be sent alone, as it may be to blame for a refusal.
    suspect: Option<i64>,
    /// Asks the database until it answers.
    retry: Retry,
    /// One line in ten seconds says enough about what does not work.
    complaints: RateLimiter,
    transition: Arc<Notify>,
    _transitions: Subscription,
}

/// What to do next.
enum Next {
    /// Another round.
    Round,
    /// Nothing, until there are new rows.
    Idle,
    /// Another round after a moment, as this one came to nothing.
    BackOff,
    /// Nothing for so long, or until the breaker changes its state.
    Open(Duration),
}

impl Task {
    pub(super) fn new(
        outbox: Outbox,
        ledger: Ledger,
        outlet: Outlet,
        settings: &PublisherSettings,
        leads: watch::Receiver<bool>,
        bell: Waker,
        published: Arc<AtomicU64>,
    ) -> Result<Self, InvalidConfig> {
        let waits = IntervalFunction::exponential(Duration::from_millis(100), 2.0).max(Duration::from_secs(5));
        let for_ever = retry::Config::default().max_attempts(u32::MAX).interval_function(waits.randomized(0.5));
        let seldom = rate_limiter::Config::default().limit_for_period(1).limit_refresh_period(Duration::from_secs(10));
        let transition = Arc::new(Notify::new());
        let noticed = Arc::clone(&transition);
        let transitions = outlet.breaker().on_event(move |event| {
            if let EventKind::StateTransition { .. } = event.kind {
                noticed.notify_one();
            }
        });
        Ok(Self {
            outbox,
            ledger,
            outlet,
            batch: settings.batch.max(1),
            poll_interval: settings.poll_interval,
            leads,
            bell,
            published,
            suspect: None,
            retry: Retry::new("outbox", for_ever)?,
            complaints: RateLimiter::new("publisher-complaints", seldom)?,
            transition,
            _transitions: transitions,
        })
    }

    /// Publishes until told to stop, and then finishes the batch that is under way.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        loop {
            let rows = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                rows = self.rows() => rows,
            };
            let next = match rows {
                Ok(rows) => self.publish(rows).await,
                Err(next) => next,
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.wait(next) => {}
            }
        }
    }

    async fn wait(&self, next: Next) {
        match next {
            Next::Round => {}
            Next::BackOff => sleep(AFTER_A_FAILURE).await,
            Next::Idle => tokio::select! {
                () = self.bell.woken() => {}
                () = sleep(self.poll_interval) => {}
            },
            Next::Open(wait) => tokio::select! {
                () = self.transition.notified() => {}
                () = sleep(wait) => {}
            },
        }
    }

    /// The rows to publish now.
    async fn rows(&mut self) -> Result<Vec<OutboxRow>, Next> {
        if self.leads.wait_for(|leads| *leads).await.is_err() {
            return Err(Next::Idle);
        }
        // The permit is given back: it only says whether it is worth reading at all.
        if let Err(rejected) = self.outlet.breaker().try_acquire().map(drop) {
            return Err(Next::Open(rejected.retry_after().unwrap_or(self.poll_interval)));
        }
        let rows = self.ask(|| self.outbox.next(self.batch)).await.unwrap_or_default();
        // Somebody else may publish by now.
        if rows.is_empty() || !*self.leads.borrow() { Err(Next::Idle) } else { Ok(self.without_suspect(rows)) }
    }

    /// The rows before the one that may be to blame for a refusal, or only that one when it comes first.
    fn without_suspect(&self, mut rows: Vec<OutboxRow>) -> Vec<OutboxRow> {
        if let Some(place) = rows.iter().position(|row| Some(row.seq) == self.suspect) {
            rows.truncate(place.max(1));
        }
        rows
    }

    async fn publish(&mut self, rows: Vec<OutboxRow>) -> Next {
        let Sent { acknowledged, refused, failure } = self.outlet.send(&rows).await;
        self.published.fetch_add(acknowledged.len() as u64, Ordering::Relaxed);
        if !acknowledged.is_empty() {
            self.ask(|| self.outbox.published(&acknowledged)).await;
        }
        if let Some(why) = &failure {
            self.complain(why, "records were not acknowledged, and are kept in the outbox");
        }
        let goes_on = !acknowledged.is_empty() || refused.is_some();
        if let Some(Refused { seq, why, is_certain }) = refused {
            match rows.into_iter().find(|row| row.seq == seq) {
                Some(row) if is_certain => self.bury(&row, &why).await,
                _ => self.suspect = Some(seq),
            }
        }
        // An open breaker has a wait of its own.
        let goes_on = goes_on && failure.is_none() || !self.outlet.breaker().is_call_permitted();
        if goes_on { Next::Round } else { Next::BackOff }
    }

    /// Gives up a record that Kafka will never take.
    async fn bury(&self, row: &OutboxRow, why: &str) {
        let octets = row.record.payload.len();
        tracing::error!(topic = row.record.topic.name(), octets, why, "Kafka will never take a record");
        if self.put_dead_letter(&row.record, why).await.is_some() {
            let row = [row.seq];
            self.ask(|| self.outbox.published(&row)).await;
        }
    }

    async fn put_dead_letter(&self, record: &Record, why: &str) -> Option<()> {
        let request: Option<EmailRequest> = serde_json::from_slice(&record.payload).ok();
        let letter = [short_dead_letter(record, request.as_ref(), why)];
        if record.topic == Topic::DeadLetter && is_short(record) {
            // It has been said in the log, and nothing can be done about it.
            return Some(());
        }
        if let Some(request) = request.filter(|_| record.topic != Topic::DeadLetter) {
            let facts = Facts { kind: request.kind, priority: request.priority };
            let failed = record.headers.failed_attempts();
            match self.ask(|| self.ledger.claim(request.id, facts, failed)).await? {
                Claimed::Yes(claim) => {
                    let failed = || Finish::Failed { reason: format!("{UNPUBLISHABLE}: {why}") };
                    let finish = || self.ledger.finish(&claim, failed(), letter.to_vec());
                    if self.ask(finish).await? == Written::Yes {
                        return Some(());
                    }
                }
                // Whatever the record asked for, it has been decided about.
                Claimed::Over(_) | Claimed::Superseded => return Some(()),
                Claimed::Held { .. } => {}
            }
        }
        self.ask(|| self.outbox.put(&letter)).await
    }

    /// Asks the database until it answers; nothing for what it will never answer.
    async fn ask<T, F: Future<Output = Result<T, StoreError>>>(&self, question: impl Fn() -> F) -> Option<T> {
        let answer = self.retry.call(|| question().inspect_err(|error| self.complain(&error.to_string(), WAITS)));
        answer.await.ok()
    }

    fn complain(&self, why: &str, what: &str) {
        if self.complaints.try_acquire(1).is_ok() {
            tracing::warn!(why = mask_text(why), "{what}");
        }
    }
}

/// A dead letter that names the request, if there is one, and holds nothing that can be too large.
fn short_dead_letter(record: &Record, request: Option<&EmailRequest>, why: &str) -> Record {
    let octets = record.payload.len();
    let mut letter = dead_letter(record, UNPUBLISHABLE, &format!("{why}; its payload of {octets} octets is left out"));
    letter.payload = request.map(|request| format!(r#"{{"id":"{}"}}"#, request.id)).unwrap_or_default().into_bytes();
    letter.key = letter.key.filter(|key| key.len() <= LONGEST_KEY);
    letter.headers.0.retain(|(name, value)| header::ALL.contains(&&**name) && value.len() <= 4 * LONGEST_EXPLANATION);
    letter
}

fn is_short(record: &Record) -> bool {
    record.headers.value(header::REASON) == Some(UNPUBLISHABLE.as_bytes())
}
