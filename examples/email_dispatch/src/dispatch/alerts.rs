//! What people are told at once.

use std::fmt;

use uuid::Uuid;

use crate::alert::{Alert, Severity};

/// Nobody knows whether a mail went out.
pub(crate) fn unknown(id: Uuid, reason: &str) -> Alert {
    Alert::new(Severity::Critical, "unknown", "nobody knows whether a mail went out: see `unknown list`")
        .detail("id", id)
        .detail("reason", reason)
}

/// A request of priority HIGH was not sent. Of all that fail for the same trouble one alert is enough.
pub(crate) fn high_priority_failed(id: Uuid, trouble: &str, reason: &str) -> Alert {
    Alert::new(Severity::Critical, &format!("high-priority-failed {trouble}"), "a mail of priority HIGH was not sent")
        .detail("id", id)
        .detail("reason", reason)
}

/// A request of priority HIGH is in the database alone.
pub(crate) fn backup_failed(error: &impl fmt::Display) -> Alert {
    Alert::new(Severity::Warning, "backup-failed", "requests of priority HIGH that fail have no copy in a file")
        .detail("error", error)
}

/// The broker forgot records before they were read, and nothing more happens to their requests.
pub(crate) fn records_lost(records: u64) -> Alert {
    Alert::new(Severity::Critical, "records-lost", "the broker forgot records before they were read: see `status`")
        .detail("records", records)
}

/// The records of requests were in an embedded broker that is gone.
pub(crate) fn stranded(requests: u64) -> Alert {
    let summary = "requests wait for records that were in an embedded broker, which is gone: see `status`";
    Alert::new(Severity::Critical, "stranded", summary).detail("requests", requests)
}
