//! What a database says, sorted by what a caller can do about it.

use std::sync::Arc;

/// Why the store could not do something. Nothing was written, but for the rare [`Unavailable`](Self::Unavailable) that
/// hides a commit whose answer was lost; all operations can therefore be repeated.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The address names no database this service can use.
    #[error("the database's address: {0}")]
    Address(String),
    /// The database cannot be reached, is locked or full, or is shutting down. Worth another attempt.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// The tables were made by a later version of this service.
    #[error("the database has schema version {found}, and this program knows no later one than {known}")]
    TooNew {
        /// The version found.
        found: i64,
        /// The latest version this program knows.
        known: i64,
    },
    /// The database refused: another attempt would fail as well.
    #[error("the database: {0}")]
    Failed(Arc<sqlx::Error>),
}

impl StoreError {
    /// Whether another attempt may succeed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        if is_transient(&error) { Self::Unavailable(error.to_string()) } else { Self::Failed(Arc::new(error)) }
    }
}

/// Whether two transactions got in each other's way and the database has undone this one, so that it can be done again.
pub(super) fn is_conflict(error: &sqlx::Error) -> bool {
    // serialization_failure, deadlock_detected
    matches!(database_code(error).as_deref(), Some("40001" | "40P01"))
}

/// Whether the connection is of no more use.
pub(super) fn is_disconnect(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => true,
        // connection exceptions; the administrator ended the session, the server stops, is starting
        _ => database_code(error).is_some_and(|code| code.len() == 5 && (code.starts_with("08") || is_shutdown(&code))),
    }
}

fn is_transient(error: &sqlx::Error) -> bool {
    use sqlx::Error::{Io, PoolClosed, PoolTimedOut, Protocol, Tls, WorkerCrashed};
    match error {
        Io(_) | Protocol(_) | Tls(_) | PoolTimedOut | PoolClosed | WorkerCrashed => true,
        sqlx::Error::Database(_) => database_code(error).is_some_and(|code| is_transient_code(&code)),
        _ => false,
    }
}

/// PostgreSQL's codes have five characters, SQLite's are numbers whose low octet is the primary code.
fn is_transient_code(code: &str) -> bool {
    if code.len() == 5 {
        // 53: out of memory, disk or connections; 55P03: lock not available; 25006: read only, as after a failover
        let transient = code.starts_with("08") || code.starts_with("53") || code.starts_with("40");
        return transient || is_shutdown(code) || matches!(code, "55P03" | "25006" | "57014");
    }
    const BUSY: u32 = 5;
    const LOCKED: u32 = 6;
    const IO: u32 = 10;
    const FULL: u32 = 13;
    const CANNOT_OPEN: u32 = 14;
    code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, BUSY | LOCKED | IO | FULL | CANNOT_OPEN))
}

fn is_shutdown(code: &str) -> bool {
    matches!(code, "57P01" | "57P02" | "57P03")
}

fn database_code(error: &sqlx::Error) -> Option<String> {
    error.as_database_error()?.code().map(|code| code.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_full_disks_and_lost_servers_are_transient() {
        for code in ["5", "261", "517", "6", "13", "778", "14", "08006", "53300", "55P03", "57P01", "40P01", "25006"] {
            assert!(is_transient_code(code), "{code}");
        }
    }

    #[test]
    fn wrong_statements_and_damaged_files_are_not() {
        for code in ["1", "11", "19", "26", "1555", "42P01", "42601", "23505", "28P01", "3D000"] {
            assert!(!is_transient_code(code), "{code}");
        }
    }
}
