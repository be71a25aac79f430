//! What must survive: one row per request, the outbox, and who publishes it. On SQLite or PostgreSQL, same code.
//!
//! * [`Ledger`]: what became of each request, and which worker may touch it: see [`ledger`].
//! * [`Outbox`]: the records that are to be published, written in the transaction that made them necessary.
//! * [`Lease`]: a thing that one process at a time may do.
//!
//! All of a process's writes go through one connection, many in a transaction: see `writer`. A disk or a server can
//! commit a few hundred to a few thousand times a second, and one commit for each write would be the limit of
//! everything.

mod apply;
mod change;
mod database;
mod error;
mod lease;
pub mod ledger;
mod many;
mod outbox;
mod row;
mod schema;
mod stored_record;
mod writer;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use uuid::Uuid;

use self::{
    database::{Database, Readers},
    writer::Writer,
};
use crate::wall_clock::WallClock;

pub use self::{
    error::StoreError,
    lease::Lease,
    ledger::{As, Claim, Claimed, Facts, Finish, Guarantee, Ledger, LedgerSettings, Written},
    outbox::{Accepted, Intake, Outbox, OutboxRow},
    row::{Counts, Row, Status},
};

/// How a [`Store`] uses its database.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// Connections for reading, next to the one that writes. Default: 4.
    pub readers: u32,
    /// How long to wait for somebody else's lock before [`StoreError::Unavailable`]. Default: 5 s.
    pub busy_timeout: Duration,
    /// How long to wait for the database at all, connecting included, before [`StoreError::Unavailable`]. Longer than
    /// `busy_timeout`. Default: 15 s.
    pub time_limit: Duration,
    /// What a commit survives on SQLite. PostgreSQL has settings of its own. Default: [`Synchronous::Normal`].
    pub synchronous: Synchronous,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            readers: 4,
            busy_timeout: Duration::from_secs(5),
            time_limit: Duration::from_secs(15),
            synchronous: Synchronous::Normal,
        }
    }
}

/// What a commit on SQLite survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Synchronous {
    /// The end of the process, however sudden. A power failure may undo the last commits, and with them the guarantee
    /// that no mail goes out twice.
    Normal,
    /// A power failure too, at a quarter of the speed.
    Full,
}

/// A database with the service's tables. A clone is the same store.
#[derive(Clone, Debug)]
pub struct Store {
    readers: Readers,
    writer: Writer,
    clock: WallClock,
    names: Names,
}

impl Store {
    /// Looks at an address without connecting.
    ///
    /// # Errors
    /// [`StoreError::Address`] as of [`connect`](Self::connect), without the address.
    pub fn check_address(url: &str, settings: &StoreSettings) -> Result<(), StoreError> {
        Database::new(url, settings).map(drop)
    }

    /// Connects to `sqlite:<file>` (made if missing) or `postgres://user:password@host/database`, and makes the tables
    /// if they are missing. Several processes may do so at once.
    ///
    /// # Errors
    /// [`StoreError::Address`] for an address that names no database this can use, [`StoreError::Unavailable`] when it
    /// cannot be reached, [`StoreError::TooNew`] when a later version of this service has been at it. No error
    /// contains the password.
    pub async fn connect(url: &str, settings: StoreSettings, clock: WallClock) -> Result<Self, StoreError> {
        let database = Database::new(url, &settings)?;
        let mut connection = database.connect().await?;
        schema::bring_up_to_date(&mut connection, database.engine()).await?;
        let readers = database.readers(settings.readers);
        let writer = Writer::start(database, connection, clock.clone());
        Ok(Self { readers, writer, clock, names: Names::default() })
    }

    /// What became of each request.
    #[must_use]
    pub fn ledger(&self, settings: LedgerSettings) -> Ledger {
        Ledger::new(self.readers.clone(), self.writer.clone(), self.clock.clone(), settings, self.names.clone())
    }

    /// What is to be published.
    #[must_use]
    pub fn outbox(&self) -> Outbox {
        Outbox::new(self.readers.clone(), self.writer.clone())
    }

    /// What one holder at a time may do. Each call makes another would-be holder.
    #[must_use]
    pub fn lease(&self, name: &str) -> Lease {
        Lease::new(self.writer.clone(), self.clock.clone(), name.to_owned(), self.names.next())
    }

    /// Whether the database answers, for a health check.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.readers.within(sqlx::query("SELECT 1").execute(self.readers.pool())).await?;
        Ok(())
    }

    /// Writes what is still under way and disconnects. What is asked for afterwards fails with
    /// [`StoreError::Unavailable`].
    pub async fn close(&self) {
        self.writer.close().await;
        self.readers.pool().close().await;
    }
}

/// Makes names for the owners of claims and leases that no process makes twice.
#[derive(Clone, Debug)]
struct Names {
    process: Arc<str>,
    counter: Arc<AtomicU64>,
}

impl Names {
    fn next(&self) -> String {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        format!("{}-{number}", self.process)
    }
}

impl Default for Names {
    fn default() -> Self {
        Self { process: Uuid::new_v4().simple().to_string().into(), counter: Arc::default() }
    }
}
