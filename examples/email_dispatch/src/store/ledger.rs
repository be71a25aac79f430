//! What became of each request, and which worker may touch it.
//!
//! ```text
//!            claim             hand_over (at most once)          sent
//! PENDING ───────────► SENDING ────────────────────────► SENT, ───────► SENT
//!    ▲                  │ ▲  │ ◄──────────────────────── in doubt
//!    └──── release ─────┘ │  │         take_back            │ lease over
//!    └── finish(Again) ───┘  │                              ▼
//!                            └─ finish ─► SMS_SENT, FAILED, UNKNOWN ─── resolve, reopen ──► SENT, PENDING
//! ```
//!
//! A claim has a name that no other claim has. Each write of a worker is made only if the row still bears the name of
//! its claim; a worker that was thought dead, and whose row another has taken over, changes nothing and is told
//! [`Written::Fenced`]. A claim lasts for the *lease*, counted from the last time that the worker wrote.
//!
//! # The window of doubt
//! Between the last octet of a mail and the server's answer nobody can know whether the server has it. A process that
//! dies in this window leaves a row that says which of two mistakes the service is to make:
//!
//! * [`Guarantee::AtMostOnce`]: before the mail is handed over its row says SENT, with the owner's name: *in doubt*. If
//!   the process dies, the row becomes UNKNOWN when the lease is over. The mail may be missing. It is listed, and sent
//!   again only when somebody says so.
//! * [`Guarantee::AtLeastOnce`]: the row says SENDING until the server has answered. If the process dies, another claims
//!   the row when the lease is over, and sends the mail, perhaps for the second time.

use std::time::Duration;

use futures::TryFutureExt;
use uuid::Uuid;

use super::{
    Names, StoreError,
    change::{Change, ClaimRow, Effect, Move},
    database::Readers,
    row::{Counts, Row, Status},
    stored_record::encode,
    writer::Writer,
};
use crate::{
    record::Record,
    request::{Kind, Priority},
    wall_clock::WallClock,
};

/// Which mistake to make when a process dies in the window of doubt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Guarantee {
    /// Rather lose a mail than send it twice.
    #[default]
    AtMostOnce,
    /// Rather send a mail twice than lose it.
    AtLeastOnce,
}

/// How a [`Ledger`] deals with claims.
#[derive(Clone, Debug)]
pub struct LedgerSettings {
    /// Which mistake to make. Default: at most once.
    pub guarantee: Guarantee,
    /// How long a claim lasts from the worker's last write on. Longer than the longest time between two: from the claim
    /// to the handing over, and from there to the end of the time-out for the server's answer, by more than the clocks
    /// of the processes differ. Default: 2 minutes.
    pub lease: Duration,
}

impl Default for LedgerSettings {
    fn default() -> Self {
        Self { guarantee: Guarantee::default(), lease: Duration::from_secs(120) }
    }
}

/// What the ledger keeps of a request from the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// What it is about.
    pub kind: Kind,
    /// How much a failure matters.
    pub priority: Priority,
}

/// The right to work on a row. Forgetting it gives nothing back: the row is then held until the lease is over, as when
/// the process dies. [`Ledger::release`] gives it back.
#[derive(Clone, Debug)]
#[must_use = "a claim that is neither finished nor released lasts until its lease is over"]
pub struct Claim {
    /// The request's own name.
    pub id: Uuid,
    /// Which attempt it is for: the first is 1. Whoever takes over from a worker that died makes the same one again.
    pub attempts: u32,
    /// When others may take the row over, unless the worker writes before, in milliseconds since 1970.
    pub deadline_ms: i64,
    owner: String,
}

/// Whether a row could be claimed.
#[derive(Debug)]
#[must_use]
pub enum Claimed {
    /// It is the caller's.
    Yes(Claim),
    /// Another works on it, perhaps until then, in milliseconds since 1970. Claim again then.
    Held {
        /// When its lease is over.
        until_ms: i64,
    },
    /// There is nothing to do: SENT, SMS_SENT or FAILED, or UNKNOWN, of which somebody has to decide.
    Over(Status),
    /// There is nothing to do: that attempt has failed since, and another record asks for the next one.
    Superseded,
}

/// Whether a worker's write was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Written {
    /// It was.
    Yes,
    /// It was not: the row is another's by now, or somebody has decided about it. The caller is to let go of it.
    Fenced,
}

/// How a worker lets go of a row, other than by having sent the mail. Reasons must hold nothing personal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The SMS gateway has taken it.
    SmsSent,
    /// It is given up.
    Failed {
        /// Why.
        reason: String,
    },
    /// The server did not answer when it had the mail.
    Unknown {
        /// What happened.
        reason: String,
        /// The request as JSON, addresses encrypted, so that it can be sent again.
        request: String,
    },
    /// It is to be tried again.
    Again {
        /// Why it failed this time.
        reason: String,
    },
}

/// What somebody decides about a row in UNKNOWN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum As {
    /// The mail has arrived.
    Sent,
    /// The mail is to be sent again, at the risk of a second one, by this record.
    Resend(Record),
}

/// What became of each request. A clone is the same ledger.
#[derive(Clone, Debug)]
pub struct Ledger {
    readers: Readers,
    writer: Writer,
    clock: WallClock,
    settings: LedgerSettings,
    names: Names,
}

impl Ledger {
    pub(super) fn new(
        readers: Readers,
        writer: Writer,
        clock: WallClock,
        settings: LedgerSettings,
        names: Names,
    ) -> Self {
        Self { readers, writer, clock, settings, names }
    }

    /// Claims a row for the attempt after so many failed ones, making it if there is none, or taking it over if its
    /// owner's lease is over. A row in doubt whose lease is over becomes UNKNOWN.
    ///
    /// A record may be read again after its attempt has failed and another record was written for the next one, perhaps
    /// for one by another way. It claims nothing then.
    ///
    /// # Errors
    /// The database's, as of all that follow. After [`StoreError::Unavailable`] the row may be claimed by nobody until
    /// the lease is over, if it was the answer that was lost.
    ///
    /// # Cancel safety
    /// A claim whose future was dropped is given back.
    pub async fn claim(&self, id: Uuid, facts: Facts, failed_attempts: u32) -> Result<Claimed, StoreError> {
        let Facts { kind, priority } = facts;
        let (owner, until) = (self.names.next(), self.lease_end());
        let attempt = failed_attempts.saturating_add(1);
        let row = ClaimRow { id, kind, priority, owner: owner.clone(), until, attempt: i64::from(attempt) };
        Ok(match self.writer.write(Change::Claim(row)).await? {
            Effect::Made { attempts } => Claimed::Yes(Claim { id, attempts, deadline_ms: until, owner }),
            Effect::Found { status: Status::Pending, attempts, .. } if attempts >= attempt => Claimed::Superseded,
            Effect::Found { status: Status::Sending, attempts, .. } if attempts > attempt => Claimed::Superseded,
            Effect::Found { status: Status::Sending, until, .. } | Effect::Found { in_doubt: true, until, .. } => {
                Claimed::Held { until_ms: until }
            }
            // It changed between two looks.
            Effect::Found { status: Status::Pending, .. } | Effect::NotMade | Effect::Swept(_) => {
                Claimed::Held { until_ms: self.clock.now_ms() }
            }
            Effect::Found { status, .. } => Claimed::Over(status),
        })
    }

    /// To be asked before the mail is handed over, with nothing between but the mail itself: makes sure that the row is
    /// still the caller's, begins the lease anew, and at most once puts the row in doubt.
    ///
    /// # Errors
    /// The database's. The mail must not be handed over then.
    pub async fn hand_over(&self, claim: &Claim) -> Result<Written, StoreError> {
        let to = match self.settings.guarantee {
            Guarantee::AtMostOnce => Status::Sent,
            Guarantee::AtLeastOnce => Status::Sending,
        };
        let change = Move { until: Some(self.lease_end()), ..claim.moved(to) };
        self.fenced(change).await
    }

    /// The server has clearly not taken the mail after all: the row is SENDING again, and its lease begins anew.
    ///
    /// # Errors
    /// The database's. The row remains in doubt then, but is still the caller's.
    pub async fn take_back(&self, claim: &Claim) -> Result<Written, StoreError> {
        let change = Move { until: Some(self.lease_end()), ..claim.moved(Status::Sending) };
        self.fenced(change).await
    }

    /// The server has taken the mail. Nobody owns the row any more.
    ///
    /// # Errors
    /// The database's. To be asked again then: this answer is known to nobody else.
    pub async fn sent(&self, claim: &Claim, provider: &str) -> Result<Written, StoreError> {
        let change = Move { provider: Some(provider.to_owned()), ..claim.moved(Status::Sent) };
        self.fenced(change).await
    }

    /// Lets go of the row, and puts records into the outbox, both or neither: neither when fenced.
    ///
    /// # Errors
    /// The database's. To be asked again then.
    pub async fn finish(&self, claim: &Claim, finish: Finish, records: Vec<Record>) -> Result<Written, StoreError> {
        let (to, reason, request) = match finish {
            Finish::SmsSent => (Status::SmsSent, None, None),
            Finish::Failed { reason } => (Status::Failed, Some(reason), None),
            Finish::Unknown { reason, request } => (Status::Unknown, Some(reason), Some(request)),
            Finish::Again { reason } => (Status::Pending, Some(reason), None),
        };
        let records = records.iter().map(encode).collect();
        let change = Move { reason: reason.map(storable), request: request.map(storable), records, ..claim.moved(to) };
        self.fenced(change).await
    }

    /// Gives the row back as if it had not been claimed. Not one in doubt: that is [`Written::Fenced`], and the doubt
    /// remains.
    ///
    /// # Errors
    /// The database's. The row is then held until the lease is over.
    pub async fn release(&self, claim: &Claim) -> Result<Written, StoreError> {
        let change = Move { from: Some(Status::Sending), uncount: Some(1), ..claim.moved(Status::Pending) };
        self.fenced(change).await
    }

    /// Makes what has been in doubt for longer than its lease UNKNOWN, and names it.
    ///
    /// # Errors
    /// The database's.
    pub async fn sweep(&self) -> Result<Vec<Uuid>, StoreError> {
        match self.writer.write(Change::Sweep).await? {
            Effect::Swept(ids) => Ok(ids),
            _ => Ok(Vec::new()),
        }
    }

    /// Decides about a row in UNKNOWN. `false` if it is not, or is no longer.
    ///
    /// # Errors
    /// The database's.
    pub async fn resolve(&self, id: Uuid, decision: As) -> Result<bool, StoreError> {
        match decision {
            As::Sent => self.made(Change::Resolve { id, to: Status::Sent, records: Vec::new() }).await,
            As::Resend(record) => self.reopen(id, &[record]).await,
        }
    }

    /// Makes a row in FAILED or UNKNOWN PENDING, as if it had never been claimed, and puts records into the outbox, both
    /// or neither. `false` if the row is in neither status.
    ///
    /// # Errors
    /// The database's.
    pub async fn reopen(&self, id: Uuid, records: &[Record]) -> Result<bool, StoreError> {
        let records = records.iter().map(encode).collect();
        self.made(Change::Resolve { id, to: Status::Pending, records }).await
    }

    /// Lets a row in UNKNOWN remember its request, unless it does. `false` if nothing was written.
    ///
    /// # Errors
    /// The database's.
    pub async fn keep_request(&self, id: Uuid, request: &str) -> Result<bool, StoreError> {
        self.made(Change::KeepRequest { id, request: storable(request.to_owned()) }).await
    }

    /// The row of a request, if there is one.
    ///
    /// # Errors
    /// The database's.
    pub async fn find(&self, id: Uuid) -> Result<Option<Row>, StoreError> {
        let query = sqlx::query("SELECT * FROM emails WHERE id = $1").bind(id.to_string());
        self.readers
            .within(async { query.fetch_optional(self.readers.pool()).await?.as_ref().map(Row::read).transpose() })
            .await
    }

    /// The rows in a status, those first that were written longest ago. Only that for UNKNOWN is fast in a large table.
    ///
    /// # Errors
    /// The database's.
    pub async fn list(&self, status: Status, limit: u32) -> Result<Vec<Row>, StoreError> {
        let query = match status {
            // As a literal, so that its index can be used.
            Status::Unknown => {
                sqlx::query("SELECT * FROM emails WHERE status = 'UNKNOWN' ORDER BY changed_at LIMIT $1")
            }
            _ => sqlx::query("SELECT * FROM emails WHERE status = $2 ORDER BY changed_at LIMIT $1"),
        };
        let query = query.bind(i64::from(limit));
        let query = if status == Status::Unknown { query } else { query.bind(status.name()) };
        self.readers.within(async { query.fetch_all(self.readers.pool()).await?.iter().map(Row::read).collect() }).await
    }

    /// How many rows there are. Reads the whole table.
    ///
    /// # Errors
    /// The database's.
    pub async fn counts(&self) -> Result<Counts, StoreError> {
        let query = sqlx::query(
            "SELECT status, CASE WHEN owner IS NULL THEN 0 ELSE 1 END AS owned, COUNT(*) AS number
             FROM emails GROUP BY status, CASE WHEN owner IS NULL THEN 0 ELSE 1 END",
        );
        self.readers.within(async { Counts::read(&query.fetch_all(self.readers.pool()).await?) }).await
    }

    fn lease_end(&self) -> i64 {
        self.clock.in_ms(self.settings.lease)
    }

    fn fenced(&self, change: Move) -> impl Future<Output = Result<Written, StoreError>> {
        self.made(Change::Move(change)).map_ok(|made| if made { Written::Yes } else { Written::Fenced })
    }

    fn made(&self, change: Change) -> impl Future<Output = Result<bool, StoreError>> {
        self.writer.write(change).map_ok(|effect| matches!(effect, Effect::Made { .. }))
    }
}

impl Claim {
    fn moved(&self, to: Status) -> Move {
        Move::to(to, self.id, self.owner.clone())
    }
}

/// PostgreSQL takes no NUL in a text.
fn storable(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "") } else { text }
}
