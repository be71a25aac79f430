//! The policies of the service by their names, and the files that say how they are to be.
//!
//! Whoever needs a policy makes it in the [`Resilience`] of the service, with the settings that fit it; what a file
//! declares for that name wins, also while the service runs.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use resile::{
    Resilience, Subscription,
    registry::Change,
    settings::{self, SettingsErrors, Sources, Watcher},
};

/// All policies, and what watches the files that declare some of them.
#[derive(Debug, Default)]
pub struct Policies {
    /// The policies by kind and name.
    pub resilience: Resilience,
    refused: Arc<AtomicU64>,
    _files: Option<(Watcher, Subscription)>,
}

impl Policies {
    /// Those that these files declare, each laid over the ones before it. They are watched for as long as this lives: a
    /// valid change takes effect at once, another is logged and changes nothing.
    ///
    /// # Errors
    /// All that is wrong with the files.
    pub fn watched(files: Vec<PathBuf>) -> Result<Self, SettingsErrors> {
        let resilience = Resilience::new();
        let refused = Arc::<AtomicU64>::default();
        if files.is_empty() {
            return Ok(Self { resilience, refused, _files: None });
        }
        let sources = files.into_iter().fold(Sources::new(), Sources::file);
        let watcher = settings::watch(sources, &resilience)?;
        for warning in watcher.settings().warnings() {
            tracing::warn!("{warning}");
        }
        let counted = Arc::clone(&refused);
        let told = resilience.on_change(move |change| match change {
            Change::Reloaded => tracing::info!("the settings of the policies have changed"),
            Change::Refused { errors } => {
                counted.fetch_add(1, Ordering::Relaxed);
                tracing::error!(errors = errors.join("; "), "a change of the policies' settings is refused");
            }
            Change::Operator { who, instance, action, .. } => tracing::warn!(who, %instance, action, "by hand"),
            _ => {}
        });
        Ok(Self { resilience, refused, _files: Some((watcher, told)) })
    }

    /// How many changes of the files were refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}
