//! A database of its own for each test: a file for SQLite, and a database on the server that
//! `EMAIL_DISPATCH_TEST_DATABASE` names for PostgreSQL.
#![allow(clippy::unwrap_used)] // only tests use it
#![allow(dead_code)] // not every test needs all of it

use std::{path::Path, time::Duration};

use email_dispatch::{
    store::{Store, StoreError, StoreSettings, Synchronous},
    wall_clock::WallClock,
};
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor};
use uuid::Uuid;

const SERVER: &str = "EMAIL_DISPATCH_TEST_DATABASE";

/// A database that nobody else uses, and a clock that stands still.
pub(crate) struct TestDatabase {
    pub(crate) url: String,
    pub(crate) clock: WallClock,
    place: Place,
}

enum Place {
    Folder(tempfile::TempDir),
    Server { url: String, name: String },
}

impl TestDatabase {
    pub(crate) async fn sqlite() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("test.db").display());
        Some(Self { url, clock: WallClock::manual(1_000_000), place: Place::Folder(folder) })
    }

    /// `None`, and a line that says so, where no server is named.
    pub(crate) async fn postgres() -> Option<Self> {
        sqlx::any::install_default_drivers();
        let Ok(server) = std::env::var(SERVER) else {
            eprintln!("skipped: {SERVER} names no PostgreSQL server");
            return None;
        };
        let name = format!("email_dispatch_test_{}", Uuid::new_v4().simple());
        let mut connection = AnyConnection::connect(&server).await.expect("the server that the environment names");
        connection.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
        let (front, parameters) = server.split_once('?').unwrap_or((&server, ""));
        let end = front.find("://").unwrap() + 3;
        let host = front[end..].split('/').next().unwrap();
        let url = format!("{}{host}/{name}?{parameters}", &front[..end]);
        Some(Self { url, clock: WallClock::manual(1_000_000), place: Place::Server { url: server, name } })
    }

    pub(crate) fn is_sqlite(&self) -> bool {
        matches!(self.place, Place::Folder(_))
    }

    /// The file, on SQLite.
    pub(crate) fn folder(&self) -> Option<&Path> {
        match &self.place {
            Place::Folder(folder) => Some(folder.path()),
            Place::Server { .. } => None,
        }
    }

    /// Another process's view of it: each store has its own connections and names.
    pub(crate) async fn store(&self) -> Store {
        self.store_with(StoreSettings::default()).await.unwrap()
    }

    pub(crate) async fn store_with(&self, settings: StoreSettings) -> Result<Store, StoreError> {
        Store::connect(&self.url, settings, self.clock.clone()).await
    }

    /// A connection that knows nothing of the service.
    pub(crate) async fn stranger(&self) -> AnyConnection {
        sqlx::any::install_default_drivers();
        AnyConnection::connect(&self.url).await.unwrap()
    }

    pub(crate) async fn remove(self) {
        if let Place::Server { url, name } = self.place {
            let mut connection = AnyConnection::connect(&url).await.unwrap();
            connection.execute(AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"))).await.unwrap();
        }
    }
}

/// Does not wait long for others.
pub(crate) fn impatient() -> StoreSettings {
    StoreSettings {
        busy_timeout: Duration::from_millis(50),
        time_limit: Duration::from_secs(5),
        synchronous: Synchronous::Normal,
        ..StoreSettings::default()
    }
}
