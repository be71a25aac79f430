//! What is kept, and where.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::value::{Address, duration, one_of};
use crate::{
    request::Limits,
    store::{Guarantee, LedgerSettings, StoreSettings, Synchronous},
};

const GUARANTEES: &[(&str, Guarantee)] =
    &[("at_most_once", Guarantee::AtMostOnce), ("at_least_once", Guarantee::AtLeastOnce)];

/// The database, and what it guarantees.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Database")]
pub struct Database {
    /// The database, postgres://user:password@host/name or sqlite:file. Without: an SQLite file in the data folder.
    #[arg(id = "database-url", value_name = "URL")]
    pub url: Option<Address>,
    /// Connections for reading, next to the one that writes.
    #[arg(id = "database-readers", value_name = "NUMBER", default_value_t = 4)]
    pub readers: u32,
    /// How long to wait for another process's lock.
    #[arg(id = "database-busy-timeout", value_name = "TIME", value_parser = duration, default_value = "5s")]
    pub busy_timeout: Duration,
    /// How long to wait for the database at all. More than the wait for a lock.
    #[arg(id = "database-time-limit", value_name = "TIME", value_parser = duration, default_value = "15s")]
    pub time_limit: Duration,
    /// What a commit on SQLite survives: the end of the process (normal), or a power failure too (full), at a quarter of
    /// the speed.
    #[arg(
        id = "database-synchronous",
        value_name = "WORD",
        default_value = "normal",
        value_parser = one_of(&[("normal", Synchronous::Normal), ("full", Synchronous::Full)])
    )]
    pub synchronous: Synchronous,
    /// Which mistake to make when a process dies while a mail is handed over: at_most_once may lose that mail,
    /// at_least_once may send it twice.
    #[arg(
        id = "ledger-guarantee",
        value_name = "WORD",
        default_value = "at_most_once",
        value_parser = one_of(GUARANTEES)
    )]
    pub guarantee: Guarantee,
    /// How long a request belongs to a process that says nothing more. At least 10s more than a mail may take.
    #[arg(id = "ledger-lease", value_name = "TIME", value_parser = duration, default_value = "2m")]
    pub lease: Duration,
}

impl Database {
    /// How the database is used.
    #[must_use]
    pub fn store(&self) -> StoreSettings {
        StoreSettings {
            readers: self.readers,
            busy_timeout: self.busy_timeout,
            time_limit: self.time_limit,
            synchronous: self.synchronous,
        }
    }

    /// How requests are claimed.
    #[must_use]
    pub fn ledger(&self) -> LedgerSettings {
        LedgerSettings { guarantee: self.guarantee, lease: self.lease }
    }

    pub(super) fn guarantee_name(&self) -> &'static str {
        GUARANTEES.iter().find(|(_, guarantee)| *guarantee == self.guarantee).map_or("", |(name, _)| name)
    }
}

/// Keys and folders.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Keys and folders")]
pub struct Files {
    /// A file of the keys that encrypt addresses: the first encrypts, all decrypt. One is made by: openssl rand -base64
    /// 32. Or put them into the variable EMAIL_DISPATCH_KEYS. Without: a random key.
    #[arg(id = "keys-file", value_name = "FILE")]
    pub keys: Option<PathBuf>,
    /// The folder of the SQLite file, made if missing. Without: a temporary one, gone with the process.
    #[arg(id = "data-dir", value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// The folder of the copies of requests of priority HIGH that could not be sent, made when needed.
    #[arg(id = "backups-dir", value_name = "FOLDER", default_value = "email-backups")]
    pub backups: PathBuf,
    /// The folder of the templates. Without: the three that come with the service.
    #[arg(id = "templates-dir", value_name = "FOLDER")]
    pub templates: Option<PathBuf>,
}

/// How large a request may be.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Limits of a request")]
pub struct RequestLimits {
    /// All of it as JSON, in bytes. Less than the largest message that the brokers take.
    #[arg(id = "request-size", value_name = "BYTES", default_value_t = 900_000)]
    pub size: usize,
    /// Its subject, in characters.
    #[arg(id = "request-subject", value_name = "NUMBER", default_value_t = 250)]
    pub subject: usize,
    /// How many attachments it may have.
    #[arg(id = "request-attachments", value_name = "NUMBER", default_value_t = 20)]
    pub attachments: usize,
}

impl RequestLimits {
    /// What the door refuses.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits { request: self.size, subject: self.subject, attachments: self.attachments }
    }
}
