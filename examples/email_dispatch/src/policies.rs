//! The policies of the service by their names, and the files that say how they are to be.
//!
//! Whoever needs a policy makes it in the [`Resilience`] of the service, with the settings that fit it; what a file
//! declares for that name wins, also while the service runs.

use std::path::PathBuf;

use resile::{
    Resilience,
    settings::{self, SettingsErrors, Sources, Watcher},
    tracing::Tracing,
};

/// All policies, and what watches the files that declare some of them.
#[derive(Debug, Default)]
pub struct Policies {
    /// The policies by kind and name.
    pub resilience: Resilience,
    _log: Option<Tracing>,
    _files: Option<Watcher>,
}

impl Policies {
    /// Those that these files declare, each laid over the ones before it. They are watched for as long as this lives: a
    /// valid change takes effect at once, another changes nothing. The log tells of both, and of what happens to each
    /// policy.
    ///
    /// # Errors
    /// All that is wrong with the files.
    pub fn watched(files: Vec<PathBuf>) -> Result<Self, SettingsErrors> {
        let resilience = Resilience::new();
        let log = resile::tracing::install(&resilience);
        let mut watcher = None;
        if !files.is_empty() {
            let sources = files.into_iter().fold(Sources::new(), Sources::file);
            let watching = settings::watch(sources, &resilience)?;
            watching.settings().warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
            watcher = Some(watching);
        }
        Ok(Self { resilience, _log: Some(log), _files: watcher })
    }
}
