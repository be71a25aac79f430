//! The tables, version by version.

use sqlx::{AnyConnection, Connection, Executor, Row};

use super::{StoreError, database::Engine};

/// A version's statements for one engine.
struct Step {
    sqlite: &'static [&'static str],
    postgres: &'static [&'static str],
}

/// One step a version. What has been released is never changed, only followed by another.
const STEPS: [Step; 1] = [Step {
    sqlite: &[
        // Without a rowid the rows are in the order of their key: one tree to write instead of two.
        "CREATE TABLE emails (
            id TEXT PRIMARY KEY,
            kind TEXT NOT NULL,
            priority TEXT NOT NULL,
            status TEXT NOT NULL,
            owner TEXT,
            held_until BIGINT NOT NULL DEFAULT 0,
            attempts BIGINT NOT NULL DEFAULT 0,
            provider TEXT,
            reason TEXT,
            request TEXT,
            changed_at BIGINT NOT NULL
        ) WITHOUT ROWID",
        IN_DOUBT,
        UNRESOLVED,
        // AUTOINCREMENT, so that the number of a deleted row is not given to another, which whoever still holds the
        // number would delete as well.
        "CREATE TABLE outbox (seq INTEGER PRIMARY KEY AUTOINCREMENT, record TEXT NOT NULL)",
        LEASES,
    ],
    postgres: &[
        "CREATE TABLE emails (
            id TEXT COLLATE \"C\" PRIMARY KEY,
            kind TEXT NOT NULL,
            priority TEXT NOT NULL,
            status TEXT NOT NULL,
            owner TEXT,
            held_until BIGINT NOT NULL DEFAULT 0,
            attempts BIGINT NOT NULL DEFAULT 0,
            provider TEXT,
            reason TEXT,
            request TEXT,
            changed_at BIGINT NOT NULL
        )",
        IN_DOUBT,
        UNRESOLVED,
        "CREATE TABLE outbox (seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, record TEXT NOT NULL)",
        LEASES,
    ],
}];

/// Finds the rows a sweep is after. It holds no more than what is being sent.
const IN_DOUBT: &str =
    "CREATE INDEX emails_in_doubt ON emails (held_until) WHERE status = 'SENT' AND owner IS NOT NULL";
const UNRESOLVED: &str = "CREATE INDEX emails_unknown ON emails (changed_at) WHERE status = 'UNKNOWN'";
const LEASES: &str = "CREATE TABLE leases (name TEXT PRIMARY KEY, owner TEXT NOT NULL, held_until BIGINT NOT NULL)";

/// Makes the tables, or brings those of an earlier version up to date. Processes that do so at once take turns.
pub(super) async fn bring_up_to_date(connection: &mut AnyConnection, engine: Engine) -> Result<(), StoreError> {
    if engine == Engine::Sqlite {
        write_ahead(connection).await?;
    }
    let mut transaction = connection.begin_with(engine.begin()).await?;
    if engine == Engine::Postgres {
        // Any number will do that other users of the database do not take.
        transaction.execute("SELECT pg_advisory_xact_lock(7036874417766)").await?;
    }
    transaction.execute("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)").await?;
    let row = transaction.fetch_one("SELECT COALESCE(MAX(version), 0) AS version FROM schema_version").await?;
    let found: i64 = row.try_get("version")?;

    let known = STEPS.len();
    let done = usize::try_from(found).unwrap_or(0);
    if done > known {
        return Err(StoreError::TooNew { found, known: known as i64 });
    }
    for (version, step) in (1_i64..).zip(&STEPS).skip(done) {
        let statements = match engine {
            Engine::Sqlite => step.sqlite,
            Engine::Postgres => step.postgres,
        };
        for statement in statements {
            transaction.execute(*statement).await?;
        }
        sqlx::query("INSERT INTO schema_version (version) VALUES ($1)")
            .bind(version)
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// Lets readers read while somebody writes; the file remembers it. Changing over needs the file to itself for a moment
/// and does not wait for it, so processes that start together may have to ask again.
async fn write_ahead(connection: &mut AnyConnection) -> Result<(), StoreError> {
    const ATTEMPTS: u32 = 100;
    let mut attempt = 1;
    loop {
        match connection.execute("PRAGMA journal_mode = WAL").await.map_err(StoreError::from) {
            Ok(_) => return Ok(()),
            Err(error) if error.is_transient() && attempt < ATTEMPTS => {
                attempt += 1;
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            Err(error) => return Err(error),
        }
    }
}
