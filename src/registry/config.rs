use std::{collections::BTreeMap, error::Error as StdError, fmt, time::Duration};

use super::rules::DEFAULT;
use crate::{clock::Clock, error::InvalidConfig};

/// Labels of an instance, by key.
pub type Tags = BTreeMap<String, String>;

/// The settings of a registry itself.
#[derive(Debug, Clone, Default)]
pub struct Config {
    pub(super) clock: Option<Clock>,
    pub(super) tags: Tags,
    pub(super) limits: Limits,
}

impl Config {
    /// Idle times are read on this clock, and so is everything by the instances the registry makes, whatever clock their
    /// settings name. Default: [`Clock::default`], and instances have the clock of their settings.
    #[must_use]
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.clock = Some(clock.into());
        self
    }

    /// Labels of every instance. Default: none.
    #[must_use]
    pub fn tags(mut self, tags: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>) -> Self {
        self.tags = tags.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        self
    }

    /// Which instances are forgotten. Default: none.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    pub(super) fn validate(&self) -> Result<(), InvalidConfig> {
        self.limits.validate()
    }
}

/// Which instances a registry forgets: see [the module](super#forgetting-the-unused). Default: none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    pub(super) max_idle: Option<Duration>,
    pub(super) max_instances: Option<usize>,
}

impl Limits {
    /// Forgets instances that nobody holds and nobody has asked for during this time, more than zero; `None` for never.
    /// `get` does so, for a few instances at a time, and so it may take up to half as long again. Default: `None`.
    #[must_use]
    pub fn max_idle(mut self, duration: impl Into<Option<Duration>>) -> Self {
        self.max_idle = duration.into();
        self
    }

    /// Forgets the instance longest unused where there are more than this, at least 1; `None` for any number. It is the
    /// longest unused of all up to 64 instances, and of the next 64 where there are more. Default: `None`.
    #[must_use]
    pub fn max_instances(mut self, instances: impl Into<Option<usize>>) -> Self {
        self.max_instances = instances.into();
        self
    }

    pub(super) fn validate(&self) -> Result<(), InvalidConfig> {
        let Self { max_idle, max_instances } = self;
        let idle = max_idle.is_none_or(|idle| !idle.is_zero());
        InvalidConfig::check(idle, "max_idle", max_idle, "must be more than zero")?;
        let instances = max_instances.is_none_or(|instances| instances >= 1);
        InvalidConfig::check(instances, "max_instances", max_instances, "must be at least 1")
    }
}

/// What becomes of a config given for an instance that exists. Complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Existing {
    /// It is an error.
    Refuse,
    /// It is ignored: the instance keeps its own.
    Keep,
}

/// What a registry does not do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegistryError {
    /// There is no config of that name.
    UnknownConfig {
        /// The name.
        config: String,
    },
    /// An instance of that name exists, or settings are declared for it, and a config was given.
    Exists {
        /// The instance's name.
        name: String,
    },
    /// The name `default` was used for a config to add or to remove.
    Reserved,
    /// The settings cannot be.
    Invalid(InvalidConfig),
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownConfig { config } => write!(f, "there is no config '{config}'"),
            Self::Exists { name } => write!(f, "'{name}' exists already, and with settings of its own"),
            Self::Reserved => write!(f, "the config '{DEFAULT}' is always there: it can be set, not added or removed"),
            Self::Invalid(invalid) => invalid.fmt(f),
        }
    }
}

impl StdError for RegistryError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Invalid(invalid) => Some(invalid),
            _ => None,
        }
    }
}

impl From<InvalidConfig> for RegistryError {
    fn from(invalid: InvalidConfig) -> Self {
        Self::Invalid(invalid)
    }
}

/// What happened to an instance in a registry.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum RegistryEvent<P> {
    /// It was made.
    Added {
        /// The instance.
        instance: P,
    },
    /// It was forgotten.
    Removed {
        /// The instance.
        instance: P,
        /// Whether it was unused, and not removed by hand.
        evicted: bool,
    },
    /// Another took its name.
    Replaced {
        /// The instance before.
        old: P,
        /// The instance now.
        new: P,
    },
    /// Its settings were changed.
    Reconfigured {
        /// The instance.
        instance: P,
    },
}

/// What a settings file says about one kind of policy.
#[derive(Debug, Clone)]
pub struct Declared<C> {
    /// Configs by name; `default` may be among them.
    pub configs: BTreeMap<String, C>,
    /// Instances by name.
    pub instances: BTreeMap<String, DeclaredInstance<C>>,
    /// Labels of every instance, over those of the registry.
    pub tags: Tags,
}

impl<C> Default for Declared<C> {
    fn default() -> Self {
        Self { configs: BTreeMap::new(), instances: BTreeMap::new(), tags: Tags::new() }
    }
}

/// What a settings file says about one instance.
#[derive(Debug, Clone, Default)]
pub struct DeclaredInstance<C> {
    /// Its settings.
    pub config: C,
    /// Its labels, over all others.
    pub tags: Tags,
}
