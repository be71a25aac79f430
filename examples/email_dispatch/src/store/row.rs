//! What a row of the ledger says.

use serde::Serialize;
use sqlx::{Row as _, any::AnyRow};
use uuid::Uuid;

/// What has become of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// Waits to be claimed.
    Pending,
    /// A worker has claimed it.
    Sending,
    /// A mail server has taken it, or, in doubt, is about to.
    Sent,
    /// It went out by SMS.
    SmsSent,
    /// Given up.
    Failed,
    /// Nobody knows whether a mail server has taken it.
    Unknown,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Pending, Self::Sending, Self::Sent, Self::SmsSent, Self::Failed, Self::Unknown];

    /// Its name in the database and for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Sending => "SENDING",
            Self::Sent => "SENT",
            Self::SmsSent => "SMS_SENT",
            Self::Failed => "FAILED",
            Self::Unknown => "UNKNOWN",
        }
    }

    /// The status of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }
}

/// A row as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The request's own name.
    pub id: Uuid,
    /// TRANSACTIONAL, MARKETING or NOTIFICATION.
    pub kind: String,
    /// HIGH, NORMAL or LOW.
    pub priority: String,
    /// What has become of it.
    pub status: Status,
    /// Whether it is SENT only if the process that is sending it does not die.
    pub in_doubt: bool,
    /// How many attempts there were, one under way included.
    pub attempts: u32,
    /// Which server has taken it.
    pub provider: Option<String>,
    /// Why it is like this.
    pub reason: Option<String>,
    /// The request as JSON, of a row in UNKNOWN.
    pub request: Option<String>,
    /// When it was last written, in milliseconds since 1970.
    pub changed_at_ms: i64,
}

/// How many rows there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// PENDING.
    pub pending: u64,
    /// SENDING.
    pub sending: u64,
    /// SENT, without those in doubt.
    pub sent: u64,
    /// SENT if the process that is sending does not die.
    pub in_doubt: u64,
    /// SMS_SENT.
    pub sms_sent: u64,
    /// FAILED.
    pub failed: u64,
    /// UNKNOWN.
    pub unknown: u64,
}

impl Row {
    pub(super) fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let status = status_of(row)?;
        let owned = row.try_get::<Option<String>, _>("owner")?.is_some();
        Ok(Self {
            id: id_of(row)?,
            kind: row.try_get("kind")?,
            priority: row.try_get("priority")?,
            status,
            in_doubt: status == Status::Sent && owned,
            attempts: attempts_of(row)?,
            provider: row.try_get("provider")?,
            reason: row.try_get("reason")?,
            request: row.try_get("request")?,
            changed_at_ms: row.try_get("changed_at")?,
        })
    }
}

impl Counts {
    /// From rows of a status, whether they are owned, and their number.
    pub(super) fn read(rows: &[AnyRow]) -> Result<Self, sqlx::Error> {
        let mut counts = Self::default();
        for row in rows {
            let count = match status_of(row)? {
                Status::Pending => &mut counts.pending,
                Status::Sending => &mut counts.sending,
                Status::Sent if row.try_get::<i64, _>("owned")? == 1 => &mut counts.in_doubt,
                Status::Sent => &mut counts.sent,
                Status::SmsSent => &mut counts.sms_sent,
                Status::Failed => &mut counts.failed,
                Status::Unknown => &mut counts.unknown,
            };
            *count += u64::try_from(row.try_get::<i64, _>("number")?).unwrap_or(0);
        }
        Ok(counts)
    }

    /// All rows.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.pending + self.sending + self.sent + self.in_doubt + self.sms_sent + self.failed + self.unknown
    }
}

pub(super) fn id_of(row: &AnyRow) -> Result<Uuid, sqlx::Error> {
    Uuid::try_parse(row.try_get("id")?).map_err(|error| sqlx::Error::Decode(error.into()))
}

pub(super) fn status_of(row: &AnyRow) -> Result<Status, sqlx::Error> {
    let name: &str = row.try_get("status")?;
    Status::named(name).ok_or_else(|| sqlx::Error::Decode(format!("an unknown status '{name}'").into()))
}

pub(super) fn attempts_of(row: &AnyRow) -> Result<u32, sqlx::Error> {
    let attempts: i64 = row.try_get("attempts")?;
    Ok(u32::try_from(attempts.max(0)).unwrap_or(u32::MAX))
}
