//! `dlt`, `replay`, `unknown` and `status`: what a person looks at and decides, beside a service that runs.

use uuid::Uuid;

use super::say;
use crate::{
    backup::{self, Backups},
    cli::{Dlt, Resolution, Unknown},
    kafka::{
        KafkaSettings,
        dead_letters::{self, Wanted},
    },
    record::{Headers, Record, Topic},
    request::EmailRequest,
    settings::Settings,
    stage::{Embedded, Failure, connect, database},
    store::{As, Ledger, Status, Store},
};

/// Shows dead letters, or hands them in again.
///
/// # Errors
/// What cannot be reached.
pub async fn dlt(settings: &Settings, task: Dlt) -> Result<(), Failure> {
    let kafka = cluster(settings)?;
    match task {
        Dlt::List { limit } => {
            let letters = dead_letters::read(&kafka, &Wanted::default()).await?;
            for letter in letters.iter().rev().take(limit).rev() {
                say(letter);
            }
            say(format_args!("{} dead letters", letters.len()));
        }
        Dlt::Replay { id, limit } => {
            let store = store(settings).await?;
            let letters = dead_letters::read(&kafka, &Wanted { limit, ids: id, reason: None }).await?;
            let replayed = dead_letters::replay(&ledger(settings, &store), &store.outbox(), &letters).await?;
            replayed.reopened.iter().for_each(|id| say(format_args!("{id}  to be sent again")));
            for skipped in &replayed.skipped {
                say(format_args!("{}/{}  {}", skipped.partition, skipped.offset, skipped.why));
            }
            say(format_args!("{} to be sent again, {} left alone", replayed.reopened.len(), replayed.skipped.len()));
            store.close().await;
        }
    }
    Ok(())
}

/// Hands in again what is in the folder of backups.
///
/// # Errors
/// What cannot be reached or read.
pub async fn replay_files(settings: &Settings) -> Result<(), Failure> {
    let store = store(settings).await?;
    let keys =
        settings.keys.as_ref().ok_or("the addresses in backups cannot be read without the keys: set keys-file")?;
    let backups = Backups::open(&settings.files.backups).await?;
    let replayed = backup::replay(&backups, &ledger(settings, &store), &store.outbox(), keys).await?;
    for (what, ids) in [
        ("accepted as new", &replayed.accepted),
        ("failed, and begins anew", &replayed.reopened),
        ("had gone out", &replayed.done),
        ("on its way, the file is kept", &replayed.on_their_way),
        ("unknown, to be decided, the file is kept", &replayed.unknown),
    ] {
        ids.iter().for_each(|id| say(format_args!("{id}  {what}")));
    }
    replayed.faulty.iter().for_each(say);
    say(format_args!("{} to be sent", replayed.accepted.len() + replayed.reopened.len()));
    store.close().await;
    if replayed.faulty.is_empty() { Ok(()) } else { Err("not every backup could be read".into()) }
}

/// Shows mails in doubt, or decides about one.
///
/// # Errors
/// What cannot be reached, and a mail that is not in doubt.
pub async fn unknown(settings: &Settings, task: Unknown) -> Result<(), Failure> {
    let store = store(settings).await?;
    let ledger = ledger(settings, &store);
    match task {
        Unknown::List { limit } => {
            let rows = ledger.list(Status::Unknown, u32::try_from(limit).unwrap_or(u32::MAX)).await?;
            for row in &rows {
                let reason = row.reason.as_deref().unwrap_or("the process that was sending it died");
                say(format_args!("{}  {} {}  {reason}", row.id, row.kind, row.priority));
            }
            say(format_args!("{} mails of which nobody knows whether they went out", rows.len()));
        }
        Unknown::Resolve { id, resolution } => {
            let decision = match resolution {
                Resolution::Sent => As::Sent,
                Resolution::Resend => As::Resend(again(settings, &ledger, id).await?),
            };
            if !ledger.resolve(id, decision).await? {
                return Err(format!("{id} is not UNKNOWN").into());
            }
            say(format_args!("{id}  {}", if resolution == Resolution::Sent { "SENT" } else { "to be sent again" }));
        }
    }
    store.close().await;
    Ok(())
}

/// Counts requests.
///
/// # Errors
/// What cannot be reached.
pub async fn status(settings: &Settings) -> Result<(), Failure> {
    let store = store(settings).await?;
    let counts = ledger(settings, &store).counts().await?;
    for (what, count) in [
        ("PENDING", counts.pending),
        ("SENDING", counts.sending),
        ("SENT", counts.sent),
        ("SENT, in doubt", counts.in_doubt),
        ("SMS_SENT", counts.sms_sent),
        ("FAILED", counts.failed),
        ("UNKNOWN", counts.unknown),
        ("in the outbox", store.outbox().len().await?),
    ] {
        say(format_args!("{what:<16}{count:>10}"));
    }
    store.close().await;
    Ok(())
}

/// The record that sends a mail in doubt again.
async fn again(settings: &Settings, ledger: &Ledger, id: Uuid) -> Result<Record, Failure> {
    let row = ledger.find(id).await?.filter(|row| row.status == Status::Unknown);
    let row = row.ok_or_else(|| format!("{id} is not UNKNOWN"))?;
    let json = row.request.ok_or_else(|| {
        format!("what {id} asked for is not known yet: it will be once the service has read its record again")
    })?;
    let request: EmailRequest = serde_json::from_str(&json)?;
    let keys = settings.keys.as_ref().ok_or("its address cannot be read without the keys: set keys-file")?;
    let key = request.record_key(keys).map_err(|error| format!("the address of {id} {error}"))?;
    Ok(Record { topic: Topic::of(&request), key, payload: json.into_bytes(), headers: Headers::default() })
}

/// The database of a service that runs elsewhere.
pub(super) async fn store(settings: &Settings) -> Result<Store, Failure> {
    if settings.database.url.is_none() && settings.files.data.is_none() {
        return Err("which database? Set database-url (or DATABASE_URL), or the data-dir of the service".into());
    }
    let url = database(settings, &mut Embedded::default())?;
    Ok(connect(settings, &url).await?)
}

fn ledger(settings: &Settings, store: &Store) -> Ledger {
    store.ledger(settings.database.ledger())
}

fn cluster(settings: &Settings) -> Result<KafkaSettings, Failure> {
    if settings.kafka.brokers.is_none() {
        return Err("which cluster? Set kafka-brokers (or KAFKA_BROKERS)".into());
    }
    Ok(settings.kafka.settings("")?)
}
