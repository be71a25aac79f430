//! Takes up again what is in backups and has not gone out.

use uuid::Uuid;

use super::{Backup, BackupError, Backups};
use crate::{
    personal::Keys,
    record::{Headers, Record, Topic},
    request::EmailRequest,
    store::{Accepted, Facts, Intake, Ledger, Outbox, Status, StoreError},
};

/// What became of each backup.
#[derive(Debug, Default)]
pub struct Replayed {
    /// The ledger did not know it: it was accepted, as a new request. Its file is removed.
    pub accepted: Vec<Uuid>,
    /// It was FAILED, and begins anew. Its file is removed.
    pub reopened: Vec<Uuid>,
    /// It had gone out: SENT or SMS_SENT. Its file is removed.
    pub done: Vec<Uuid>,
    /// It is on its way: PENDING or SENDING, or SENT and in doubt. Its file remains.
    pub on_their_way: Vec<Uuid>,
    /// Nobody knows whether it has gone out, and somebody has to decide: UNKNOWN. Its file remains.
    pub unknown: Vec<Uuid>,
    /// Its file cannot be read or removed, and why.
    pub faulty: Vec<BackupError>,
}

/// Goes through all backups, the oldest first, and puts what has neither gone out nor is on its way into the outbox.
/// What may have gone out is not sent again. Each file goes only after the database has what is in it, so a replay that
/// ends half way can be repeated, and a second one finds nothing more to do.
///
/// # Errors
/// The database's, and that of a folder that cannot be read. What was replayed before remains so.
pub async fn replay(backups: &Backups, ledger: &Ledger, outbox: &Outbox, keys: &Keys) -> Result<Replayed, ReplayError> {
    let listing = backups.list().await?;
    let mut replayed = Replayed { faulty: listing.unreadable, ..Replayed::default() };
    for backup in listing.backups {
        let (facts, record) = match read(backups, &backup, keys).await {
            Ok(read) => read,
            Err(error) => {
                replayed.faulty.push(error);
                continue;
            }
        };
        let id = backup.id;
        let status = match ledger.find(id).await? {
            Some(row) if row.in_doubt => Some(Status::Sending),
            Some(row) => Some(row.status),
            None => match outbox.accept(vec![Intake { id, facts, record: record.clone() }]).await?.first() {
                Some(Accepted::Known(status)) => Some(*status), // it came in just now
                _ => None,
            },
        };
        let (list, is_over) = match status {
            None => (&mut replayed.accepted, true),
            Some(Status::Failed) if ledger.reopen(id, &[record]).await? => (&mut replayed.reopened, true),
            Some(Status::Sent | Status::SmsSent) => (&mut replayed.done, true),
            Some(Status::Unknown) => (&mut replayed.unknown, false),
            Some(Status::Failed | Status::Pending | Status::Sending) => (&mut replayed.on_their_way, false),
        };
        list.push(id);
        if is_over && let Err(error) = backups.remove(&backup).await {
            replayed.faulty.push(error);
        }
    }
    Ok(replayed)
}

/// Why a replay ended early.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The database's.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The folder cannot be read.
    #[error(transparent)]
    Backups(#[from] BackupError),
}

async fn read(backups: &Backups, backup: &Backup, keys: &Keys) -> Result<(Facts, Record), BackupError> {
    let request = backups.request(backup).await?;
    let facts = Facts { kind: request.kind, priority: request.priority };
    let record = record(&request, keys).map_err(|fault| BackupError::Content { path: backup.path.clone(), fault })?;
    Ok((facts, record))
}

/// As if the request had just come in.
fn record(request: &EmailRequest, keys: &Keys) -> Result<Record, String> {
    let key = request.record_key(keys).map_err(|error| format!("its address {error}"))?;
    let payload = serde_json::to_vec(request).map_err(|error| error.to_string())?;
    Ok(Record { topic: Topic::of(request), key, payload, headers: Headers::default() })
}
