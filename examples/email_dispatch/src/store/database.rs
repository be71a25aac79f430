//! Which database it is, and how each connection to it is set up.

use std::{path::Path, str::FromStr, time::Duration};

use sqlx::{
    Any, AnyConnection, AssertSqlSafe, ConnectOptions, Connection, Executor, Pool,
    any::{AnyConnectOptions, AnyPoolOptions},
};

use super::{StoreError, StoreSettings, Synchronous};

/// The two engines. All statements but those that ask for one of these run on both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Engine {
    Sqlite,
    Postgres,
}

impl Engine {
    /// Begins a transaction that writes. SQLite is to take the lock for writing at once: a transaction that begins by
    /// reading may find itself unable to write later, and no waiting helps it then.
    pub(super) fn begin(self) -> &'static str {
        match self {
            Self::Sqlite => "BEGIN IMMEDIATE",
            Self::Postgres => "BEGIN",
        }
    }
}

/// A database by its address.
#[derive(Clone, Debug)]
pub(super) struct Database {
    engine: Engine,
    options: AnyConnectOptions,
    set_up: Vec<String>,
    time_limit: Duration,
}

impl Database {
    pub(super) fn new(url: &str, settings: &StoreSettings) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
        let busy_ms = settings.busy_timeout.as_millis().max(1);
        let (engine, url, set_up) = match scheme {
            "sqlite" => (Engine::Sqlite, sqlite_url(url)?, sqlite_set_up(busy_ms, settings.synchronous)),
            "postgres" | "postgresql" => (Engine::Postgres, url.to_owned(), postgres_set_up(busy_ms)),
            _ => {
                let rule = "begins with neither 'sqlite:' nor 'postgres:'".to_owned();
                return Err(StoreError::Address(rule));
            }
        };
        // The parser's own words may contain the password, so they are not repeated.
        let options = AnyConnectOptions::from_str(&url)
            .map_err(|_| StoreError::Address("is not of the form scheme://user:password@host/database".to_owned()))?
            .disable_statement_logging();
        Ok(Self { engine, options, set_up, time_limit: settings.time_limit })
    }

    pub(super) fn engine(&self) -> Engine {
        self.engine
    }

    pub(super) fn time_limit(&self) -> Duration {
        self.time_limit
    }

    /// One connection, set up.
    pub(super) async fn connect(&self) -> Result<AnyConnection, StoreError> {
        let connected = tokio::time::timeout(self.time_limit, async {
            let mut connection = self.options.connect().await?;
            set_up(&mut connection, &self.set_up).await?;
            Ok::<_, sqlx::Error>(connection)
        });
        match connected.await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(sqlx::Error::Configuration(error))) => Err(StoreError::Address(error.to_string())),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(StoreError::Unavailable(format!("no connection within {:?}", self.time_limit))),
        }
    }

    /// Connections for reading, made when they are needed.
    pub(super) fn readers(&self, connections: u32) -> Readers {
        let statements = self.set_up.clone();
        let pool = AnyPoolOptions::new()
            .max_connections(connections.max(1))
            .acquire_timeout(self.time_limit)
            .after_connect(move |connection, _| {
                let statements = statements.clone();
                Box::pin(async move { set_up(connection, &statements).await })
            })
            .connect_lazy_with(self.options.clone());
        Readers { pool, time_limit: self.time_limit }
    }
}

/// Connections for reading.
#[derive(Clone, Debug)]
pub(super) struct Readers {
    pool: Pool<Any>,
    time_limit: Duration,
}

impl Readers {
    /// What a query is to be run on, within [`Self::within`].
    pub(super) fn pool(&self) -> &Pool<Any> {
        &self.pool
    }

    /// Waits for a query no longer than the time limit. A server that has vanished says nothing.
    pub(super) async fn within<T>(&self, query: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, StoreError> {
        match tokio::time::timeout(self.time_limit, query).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(StoreError::Unavailable(format!("no answer within {:?}", self.time_limit))),
        }
    }
}

/// Closes a connection properly, which on SQLite also tidies its log up.
pub(super) async fn close(connection: AnyConnection) {
    if let Err(error) = connection.close().await {
        tracing::debug!(%error, "closing the database");
    }
}

async fn set_up(connection: &mut AnyConnection, statements: &[String]) -> Result<(), sqlx::Error> {
    for statement in statements {
        connection.execute(AssertSqlSafe(statement.as_str())).await?;
    }
    Ok(())
}

fn sqlite_set_up(busy_ms: u128, synchronous: Synchronous) -> Vec<String> {
    let synchronous = match synchronous {
        Synchronous::Normal => "NORMAL",
        Synchronous::Full => "FULL",
    };
    vec![
        format!("PRAGMA busy_timeout = {busy_ms}"),
        format!("PRAGMA synchronous = {synchronous}"),
        // What a statement notes down to undo itself, or sorts: else each makes a file for it.
        "PRAGMA temp_store = MEMORY".to_owned(),
        // The log is written back every 32 MiB, not every 4: a page that changes often is then written back less often.
        "PRAGMA wal_autocheckpoint = 8192".to_owned(),
    ]
}

fn postgres_set_up(busy_ms: u128) -> Vec<String> {
    vec![
        format!("SET lock_timeout = {busy_ms}"),
        // A plan made while a table is small reads the whole of it, and would be kept while it grows.
        "SET plan_cache_mode = force_custom_plan".to_owned(),
        // Not what is merely worth a notice, such as a table that is there already.
        "SET client_min_messages = warning".to_owned(),
    ]
}

/// The address with the wish to make the file, unless it says otherwise.
fn sqlite_url(url: &str) -> Result<String, StoreError> {
    let path = url.trim_start_matches("sqlite:").trim_start_matches("//");
    let (file, parameters) = path.split_once('?').unwrap_or((path, ""));
    if file.is_empty() || file == ":memory:" || parameters.contains("mode=memory") {
        let rule = "names no file, and a database in memory does not outlive the process".to_owned();
        return Err(StoreError::Address(rule));
    }
    if let Some(folder) = Path::new(file).parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
        return Err(StoreError::Address(format!("the folder '{}' does not exist", folder.display())));
    }
    Ok(match parameters {
        "" => format!("sqlite://{file}?mode=rwc"),
        set if set.contains("mode=") => url.to_owned(),
        others => format!("sqlite://{file}?{others}&mode=rwc"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_made_unless_the_address_says_otherwise() {
        assert_eq!(sqlite_url("sqlite:mails.db").unwrap(), "sqlite://mails.db?mode=rwc");
        assert_eq!(sqlite_url("sqlite:///tmp/mails.db").unwrap(), "sqlite:///tmp/mails.db?mode=rwc");
        assert_eq!(sqlite_url("sqlite://mails.db?mode=rw").unwrap(), "sqlite://mails.db?mode=rw");
        assert_eq!(sqlite_url("sqlite:mails.db?cache=private").unwrap(), "sqlite://mails.db?cache=private&mode=rwc");
    }

    #[test]
    fn an_address_of_no_use_says_why() {
        let fault = |url| Database::new(url, &StoreSettings::default()).unwrap_err().to_string();
        assert!(fault("mysql://root@localhost/mails").contains("neither 'sqlite:' nor 'postgres:'"));
        assert!(fault("sqlite::memory:").contains("does not outlive the process"));
        assert!(fault("sqlite:").contains("names no file"));
        assert!(fault("sqlite:/no/such/folder/mails.db").contains("'/no/such/folder' does not exist"));
        let wrong = fault("postgres://mailer:s3cret@[::/mails");
        assert!(wrong.contains("scheme://user:password@host/database") && !wrong.contains("s3cret"), "{wrong}");
    }
}
