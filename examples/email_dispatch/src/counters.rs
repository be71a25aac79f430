//! What happens to requests, counted: for a monitoring system, and for whoever watches this process.
//!
//! [`Counters`] has a method for each thing that can happen. Each adds to a counter of the `metrics` facade, which goes
//! wherever the program's recorder sends it, and to a total of this process, which [`Counters::counts`] reads.
//!
//! | metric | labels | counts |
//! |---|---|---|
//! | `emails_accepted_total` | | requests written into the outbox |
//! | `emails_processed_total` | `kind`, `priority`, `outcome`: `sent_primary`, `sent_secondary`, `sms_sent`, `duplicate` | requests that are done |
//! | `emails_failed_total` | `kind`, `priority`, `outcome`: [`Trouble::name`](crate::route::Trouble::name), or `sms` | attempts that failed |
//! | `emails_retried_total` | `delay`: `immediate`, `delayed` | failed attempts that another follows |
//! | `emails_given_up_total` | | requests given up by rule |
//! | `emails_dead_lettered_total` | `reason`: `undeliverable`, `unreadable` | records put on the dead-letter topic |
//! | `alerts_total` | `severity`: `warning`, `critical` | alerts that went out, see [`alert`](crate::alert) |
//! | `records_lost_total` | | records that the broker forgot before they were read |
//! | `outbox_waiting` | | records that wait to be published, now |
//! | `emails_in_flight` | | requests being worked on, now |
//!
//! No label holds an id, a name or an address, so the number of time series is bounded: a few hundred at most.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use metrics::{counter, describe_counter, describe_gauge, gauge};

use crate::{
    record::Topic,
    request::{Kind, Priority},
    route::Route,
};

/// Tells the recorder what the metrics mean. To be called once, when the recorder has been installed.
pub fn describe() {
    describe_counter!("emails_accepted_total", "Requests written into the outbox.");
    describe_counter!("emails_processed_total", "Requests that are done, by kind, priority and outcome.");
    describe_counter!("emails_failed_total", "Attempts that failed, by kind, priority and what the trouble was.");
    describe_counter!("emails_retried_total", "Failed attempts that another follows, at once or later.");
    describe_counter!("emails_given_up_total", "Requests given up by rule after a failure.");
    describe_counter!("emails_dead_lettered_total", "Records put on the dead-letter topic.");
    describe_counter!("alerts_total", "Alerts that went out, repeats within the quiet time not counted.");
    describe_counter!("records_lost_total", "Records that the broker forgot before they were read.");
    describe_gauge!("outbox_waiting", "Records that wait in the outbox to be published.");
    describe_gauge!("emails_in_flight", "Requests being worked on.");
}

/// What happened in this process so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests accepted.
    pub accepted: u64,
    /// Mails that the first server took.
    pub sent_primary: u64,
    /// Mails that another server took.
    pub sent_secondary: u64,
    /// Requests that went out by SMS.
    pub sms_sent: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Of these, those that another followed at once.
    pub retried_at_once: u64,
    /// Of these, those that another follows later.
    pub retried_later: u64,
    /// Requests given up by rule.
    pub given_up: u64,
    /// Requests that could be sent in no way, and are dead letters.
    pub dead_lettered: u64,
    /// Records that are no request, and are dead letters.
    pub unreadable: u64,
    /// Requests that were met again after they were done.
    pub duplicates: u64,
    /// Requests of which nobody knows whether a server has them.
    pub unknown: u64,
    /// Requests being worked on now.
    pub in_flight: u64,
    /// Records that wait to be published now, as last told.
    pub outbox_waiting: u64,
}

impl Counts {
    /// Mails that a server took.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent_primary + self.sent_secondary
    }

    /// Requests with which nothing more will happen by itself.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.sent() + self.sms_sent + self.given_up + self.dead_lettered + self.unknown
    }
}

/// Counts what happens. A clone counts into the same totals.
#[derive(Clone, Debug)]
pub struct Counters(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    primary: String,
    totals: Totals,
}

#[derive(Debug, Default)]
struct Totals {
    accepted: AtomicU64,
    sent_primary: AtomicU64,
    sent_secondary: AtomicU64,
    sms_sent: AtomicU64,
    failed: AtomicU64,
    retried_at_once: AtomicU64,
    retried_later: AtomicU64,
    given_up: AtomicU64,
    dead_lettered: AtomicU64,
    unreadable: AtomicU64,
    duplicates: AtomicU64,
    unknown: AtomicU64,
    in_flight: AtomicU64,
    outbox_waiting: AtomicU64,
}

impl Counters {
    /// Counts what `primary` sends as the first server's, and what any other sends as the second's.
    #[must_use]
    pub fn new(primary: impl Into<String>) -> Self {
        Self(Arc::new(Inner { primary: primary.into(), totals: Totals::default() }))
    }

    /// `requests` more have been written into the outbox.
    pub fn accepted(&self, requests: u64) {
        self.0.totals.accepted.fetch_add(requests, Relaxed);
        counter!("emails_accepted_total").increment(requests);
    }

    /// The server of that name has taken the mail.
    pub fn sent(&self, kind: Kind, priority: Priority, provider: &str) {
        if provider == self.0.primary {
            add_one(&self.0.totals.sent_primary);
            processed(kind, priority, "sent_primary");
        } else {
            add_one(&self.0.totals.sent_secondary);
            processed(kind, priority, "sent_secondary");
        }
    }

    /// The gateway has taken the SMS.
    pub fn sms_sent(&self, kind: Kind, priority: Priority) {
        add_one(&self.0.totals.sms_sent);
        processed(kind, priority, "sms_sent");
    }

    /// The request was done already.
    pub fn duplicate(&self, kind: Kind, priority: Priority) {
        add_one(&self.0.totals.duplicates);
        processed(kind, priority, "duplicate");
    }

    /// An attempt failed for a trouble [of that name](crate::route::Trouble::name), and this is where the request goes.
    /// A dead letter is counted as such; a request that goes to the SMS gateway only once that has answered.
    pub fn failed(&self, kind: Kind, priority: Priority, trouble: &'static str, route: &Route) {
        self.attempt_failed(kind, priority, trouble);
        match route {
            Route::Again { topic: Topic::DelayedRetry, .. } => {
                add_one(&self.0.totals.retried_later);
                counter!("emails_retried_total", "delay" => "delayed").increment(1);
            }
            Route::Again { .. } => {
                add_one(&self.0.totals.retried_at_once);
                counter!("emails_retried_total", "delay" => "immediate").increment(1);
            }
            Route::Sms => {}
            Route::DeadLetter => self.undeliverable(),
            Route::GiveUp => {
                add_one(&self.0.totals.given_up);
                counter!("emails_given_up_total").increment(1);
            }
        }
    }

    /// The server did not answer when it had the mail, and the request waits for somebody to decide.
    pub fn unknown(&self, kind: Kind, priority: Priority) {
        self.attempt_failed(kind, priority, "unknown");
        add_one(&self.0.totals.unknown);
    }

    /// The SMS gateway has not taken it either, and the request is a dead letter.
    pub fn sms_failed(&self, kind: Kind, priority: Priority) {
        self.attempt_failed(kind, priority, "sms");
        self.undeliverable();
    }

    /// A record that is no request is a dead letter.
    pub fn unreadable(&self) {
        add_one(&self.0.totals.unreadable);
        counter!("emails_dead_lettered_total", "reason" => "unreadable").increment(1);
    }

    /// A request is being worked on until the answer is dropped.
    #[must_use = "dropping it ends the work"]
    pub fn in_flight(&self) -> InFlight {
        add_one(&self.0.totals.in_flight);
        gauge!("emails_in_flight").increment(1);
        InFlight(self.clone())
    }

    /// The broker forgot `records` more before they were read.
    pub fn records_lost(&self, records: u64) {
        counter!("records_lost_total").increment(records);
    }

    /// That many records wait to be published.
    pub fn outbox_waiting(&self, records: u64) {
        self.0.totals.outbox_waiting.store(records, Relaxed);
        // A gauge is a float, and no outbox has 2⁵³ records.
        gauge!("outbox_waiting").set(records as f64);
    }

    /// The totals. Those of one moment may differ by what is happening in it.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let totals = &self.0.totals;
        Counts {
            accepted: totals.accepted.load(Relaxed),
            sent_primary: totals.sent_primary.load(Relaxed),
            sent_secondary: totals.sent_secondary.load(Relaxed),
            sms_sent: totals.sms_sent.load(Relaxed),
            failed: totals.failed.load(Relaxed),
            retried_at_once: totals.retried_at_once.load(Relaxed),
            retried_later: totals.retried_later.load(Relaxed),
            given_up: totals.given_up.load(Relaxed),
            dead_lettered: totals.dead_lettered.load(Relaxed),
            unreadable: totals.unreadable.load(Relaxed),
            duplicates: totals.duplicates.load(Relaxed),
            unknown: totals.unknown.load(Relaxed),
            in_flight: totals.in_flight.load(Relaxed),
            outbox_waiting: totals.outbox_waiting.load(Relaxed),
        }
    }

    fn attempt_failed(&self, kind: Kind, priority: Priority, outcome: &'static str) {
        add_one(&self.0.totals.failed);
        let (kind, priority) = (kind.name(), priority.name());
        counter!("emails_failed_total", "kind" => kind, "priority" => priority, "outcome" => outcome).increment(1);
    }

    fn undeliverable(&self) {
        add_one(&self.0.totals.dead_lettered);
        counter!("emails_dead_lettered_total", "reason" => "undeliverable").increment(1);
    }
}

/// A request being worked on: see [`Counters::in_flight`].
#[derive(Debug)]
#[must_use = "dropping it ends the work"]
pub struct InFlight(Counters);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.0.totals.in_flight.fetch_sub(1, Relaxed);
        gauge!("emails_in_flight").decrement(1);
    }
}

fn add_one(total: &AtomicU64) {
    total.fetch_add(1, Relaxed);
}

fn processed(kind: Kind, priority: Priority, outcome: &'static str) {
    let (kind, priority) = (kind.name(), priority.name());
    counter!("emails_processed_total", "kind" => kind, "priority" => priority, "outcome" => outcome).increment(1);
}
