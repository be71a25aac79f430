//! What each command needs, and what it must not be given.

use std::{io, path::Path};

use super::{Dlt, Resolution, Task, Unknown};
use crate::settings::{Broken, Settings};

/// What is missing, or must not be there, for this command.
pub(super) fn broken(task: Option<&Task>, settings: &Settings) -> Vec<Broken> {
    let mut broken = Vec::new();
    match task {
        None => {
            refuse_real_parts(settings, "the demonstration", &mut broken);
            let file = &settings.demonstration.svg;
            let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            if let Err(error) = try_writing(folder) {
                let rule = format!("must be in a folder that can be written to: {error}");
                broken.push(("demo-svg", Some(file.display().to_string()), rule));
            }
        }
        Some(Task::Scenario) => refuse_real_parts(settings, "the scenario", &mut broken),
        Some(Task::Serve | Task::Replay { .. }) => {
            let folder = &settings.files.backups;
            // It is made when needed, in the first folder above it that is there.
            let there = folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("."));
            let is_named_wrong = folder.exists() && !folder.is_dir();
            if let (false, Err(error)) = (is_named_wrong, try_writing(there)) {
                let rule = format!("must be a folder that can be written to: {error}");
                broken.push(("backups-dir", Some(folder.display().to_string()), rule));
            }
        }
        Some(_) => {}
    }
    if task.is_some_and(needs_database) && settings.database.url.is_none() && settings.files.data.is_none() {
        let rule = "must name the database of the service, or data-dir its folder";
        broken.push(("database-url", None, rule.to_owned()));
    }
    if let (Some(Task::Dlt(_)), None) = (task, &settings.kafka.brokers) {
        broken.push(("kafka-brokers", None, "must name the cluster of the service".to_owned()));
    }
    broken
}

/// Why this command cannot do without keys, if so.
pub(super) fn keys(task: Option<&Task>, settings: &Settings) -> Option<&'static str> {
    match task? {
        Task::Serve if settings.outlive_the_process() => {
            Some("a random key would leave requests that nobody can read after this process")
        }
        // With an address it is the service that encrypts.
        Task::Produce(produce) if produce.url.is_none() => {
            Some("the service could not read what is encrypted with a random key")
        }
        Task::Replay { .. } | Task::Unknown(Unknown::Resolve { resolution: Resolution::Resend, .. }) => {
            Some("without the keys of the service no address can be read")
        }
        _ => None,
    }
}

fn needs_database(task: &Task) -> bool {
    match task {
        Task::Produce(produce) => produce.url.is_none(),
        Task::Dlt(Dlt::Replay { .. }) | Task::Replay { .. } | Task::Unknown(_) | Task::Status => true,
        Task::Serve | Task::Scenario | Task::Dlt(Dlt::List { .. }) => false,
    }
}

/// What is played breaks things, and its requests are made up.
fn refuse_real_parts(settings: &Settings, what: &str, broken: &mut Vec<Broken>) {
    let parts = [
        ("kafka-brokers", settings.kafka.brokers.is_some()),
        ("database-url", settings.database.url.is_some()),
        ("data-dir", settings.files.data.is_some()),
        ("smtp-url", settings.smtp.url.is_some()),
        ("smtp-secondary-url", settings.second.url.is_some()),
        ("sms-url", settings.sms.url.is_some()),
    ];
    for (name, _) in parts.into_iter().filter(|(_, is_set)| *is_set) {
        let rule = format!("must not be set for {what}, which breaks what it talks to: use serve");
        broken.push((name, None, rule));
    }
}

/// Makes a file there, which is gone again afterwards.
fn try_writing(folder: &Path) -> io::Result<()> {
    // An error of tempfile's own names the file that it tried.
    tempfile::Builder::new().tempfile_in(folder).map(drop).map_err(|error| io::Error::from(error.kind()))
}
