//! The instances of a service by name, with their settings: made when first asked for, and changed while they run.
//!
//! [`Resilience`] holds a [`Registry`] for each kind of policy.
//!
//! ```
//! use resile::{CircuitBreaker, Resilience, circuit_breaker};
//!
//! let resilience = Resilience::new();
//! let breakers = resilience.circuit_breakers();
//! breakers.add_config("strict", circuit_breaker::Config::default().failure_rate_threshold(10.0))?;
//!
//! let orders = breakers.get("orders"); // made now, with the default settings
//! let payments = breakers.get_named("payments", "strict")?;
//! assert_eq!(breakers.all().len(), 2);
//!
//! // What was made from a config follows it, and keeps its state.
//! payments.transition_to_open()?;
//! breakers.add_config("strict", circuit_breaker::Config::default().failure_rate_threshold(5.0))?;
//! assert!(!payments.is_call_permitted());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Which settings an instance has
//!
//! Those [declared](Registry::declare) for its name, as a settings file does, whatever the code says. Where none are: those it
//! was made with by [`get_with`](Registry::get_with), or the config named to [`get_named`](Registry::get_named); and for
//! one made by [`get`](Registry::get) the config of its own name, else the config `default`. A config that is declared
//! stands before one of the same name that was added by code. When a config changes so do the instances that have it; when
//! one is removed, those that were made from it by name keep what they have.
//!
//! # Forgetting the unused
//!
//! With [`Limits`] a registry forgets instances that nobody but itself holds: those not asked for during
//! [`max_idle`](Limits::max_idle), and those longest unused where there are more than
//! [`max_instances`](Limits::max_instances). So one instance for each host or tenant is safe; see [`Registry::keyed`]. What
//! is forgotten is made afresh when it is asked for again, and so nothing is forgotten that would be missed:
//!
//! * what anybody holds, a pipeline or an owned permit included, is in use and stays, beyond the number if need be;
//! * a circuit that somebody disabled, forced open or set to metrics-only stays until it is set otherwise;
//! * a circuit that waits in the open state, and a rate limiter that has permits to get back, is not idle until that is
//!   over; of those looked at it makes room for others last, so that a flood of keys cannot grow the registry.

mod config;
mod instance;
mod keyed;
mod pipeline;
mod resilience;
mod rules;
mod shared;
mod table;
#[cfg(test)]
mod tests;

use std::{fmt, hash::Hash, sync::Arc};

pub use self::{
    config::{Config, Declared, DeclaredInstance, Existing, Limits, RegistryError, RegistryEvent, Tags},
    instance::Instance,
    keyed::KeyedRegistry,
    pipeline::{NamedPipeline, NoRetry},
    resilience::{Change, Resilience},
};
use self::{
    rules::{DEFAULT, Origin, Rules},
    shared::{Root, Shared},
};
use crate::{
    error::InvalidConfig,
    event::{Name, Subscription},
};

/// The instances of one kind of policy by name, and their settings. A clone is the same registry.
///
/// Nothing of it runs code of the user's under a lock, but for the `Hash` and `Eq` of a key.
pub struct Registry<P: Instance> {
    shared: Arc<Shared<Name, P>>,
}

impl<P: Instance> Registry<P> {
    /// An empty registry with the default settings.
    pub fn new() -> Self {
        Self::build(Config::default())
    }

    /// An empty registry.
    ///
    /// # Errors
    /// [`InvalidConfig`] for limits of zero.
    pub fn with_config(config: Config) -> Result<Self, InvalidConfig> {
        config.validate()?;
        Ok(Self::build(config))
    }

    fn build(config: Config) -> Self {
        let Config { clock, tags, limits } = config;
        let mut default = P::Config::default();
        if let Some(clock) = &clock {
            default = P::on_clock(default, clock);
        }
        Self { shared: Shared::new(Arc::new(Root::new(Rules::new(default, tags), clock)), None, limits) }
    }

    /// The instance of that name, made if there is none yet. Of threads that ask for it at once all get the same. Nothing
    /// is allocated for one that exists.
    #[inline]
    pub fn get(&self, name: &str) -> P {
        let hash = self.shared.table.hash(name);
        match self.shared.ask(hash, name) {
            Some(instance) => instance,
            None => self.make(hash, name, &Origin::Name).0,
        }
    }

    /// The instance of that name, made with `config` if there is none yet and no settings are declared for it.
    ///
    /// # Errors
    /// [`RegistryError::Invalid`]; and [`RegistryError::Exists`] where it is there or declared and `existing` says so.
    pub fn get_with(&self, name: &str, config: P::Config, existing: Existing) -> Result<P, RegistryError> {
        P::validate(&config)?;
        let exists = || RegistryError::Exists { name: name.to_owned() };
        let hash = self.shared.table.hash(name);
        if let Some(instance) = self.shared.ask(hash, name) {
            return if existing == Existing::Keep { Ok(instance) } else { Err(exists()) };
        }
        if existing == Existing::Refuse && self.shared.root.rules.lock().is_declared(name) {
            return Err(exists());
        }
        let config = Arc::new(self.shared.root.on_clock(config));
        match self.make(hash, name, &Origin::Own(config)) {
            (_, false) if existing == Existing::Refuse => Err(exists()),
            (instance, _) => Ok(instance),
        }
    }

    /// The instance of that name, made from the config called `config` if there is none yet. Settings declared for its
    /// name stand before that config.
    ///
    /// # Errors
    /// [`RegistryError::UnknownConfig`]; and [`RegistryError::Exists`] where the instance was made from anything else.
    pub fn get_named(&self, name: &str, config: &str) -> Result<P, RegistryError> {
        if self.shared.root.rules.lock().config(config).is_none() {
            return Err(RegistryError::UnknownConfig { config: config.to_owned() });
        }
        let hash = self.shared.table.hash(name);
        let instance = match self.shared.ask(hash, name) {
            Some(instance) => instance,
            None => match self.make(hash, name, &Origin::Config(config.into())) {
                (instance, true) => return Ok(instance),
                (instance, false) => instance,
            },
        };
        let from = |origin: &Origin<_>| matches!(origin, Origin::Config(from) if from.as_str() == config);
        match self.shared.table.look(hash, name, |seat| from(&seat.origin)) {
            Some(false) => Err(RegistryError::Exists { name: name.to_owned() }),
            _ => Ok(instance),
        }
    }

    fn make(&self, hash: u64, name: &str, origin: &Origin<P::Config>) -> (P, bool) {
        let name = Name::from(name);
        self.shared.make(hash, name.clone(), name, origin)
    }

    /// The instance of that name, if there is one. Looking does not count as use.
    pub fn find(&self, name: &str) -> Option<P> {
        self.shared.table.find(self.shared.table.hash(name), name, None)
    }

    /// Forgets the instance of that name and returns it. Whoever holds it may go on with it.
    pub fn remove(&self, name: &str) -> Option<P> {
        self.shared.remove(name)
    }

    /// Puts an instance in the place of the one of its name, which is returned; does nothing if there is none. It keeps
    /// the settings it has, unless some are declared for its name.
    pub fn replace(&self, instance: P) -> Option<P> {
        let name = instance.name().clone();
        self.shared.replace(name.as_str(), instance)
    }

    /// All instances, by name. Looking does not count as use.
    pub fn all(&self) -> Vec<P> {
        let mut all = self.shared.table.all();
        all.sort_by(|one, other| one.name().cmp(other.name()));
        all
    }

    /// Forgets every instance that has been idle for too long, now, and returns how many those were. It is not needed:
    /// `get` does so, a few at a time.
    pub fn evict_idle(&self) -> usize {
        self.shared.evict_idle()
    }

    /// Adds a config of that name, or changes it: instances made from it follow, and keep their state.
    ///
    /// They have the change when this returns, unless another thread is just bringing one to them: that one brings this too.
    ///
    /// # Errors
    /// [`RegistryError::Invalid`], and [`RegistryError::Reserved`] for `default`; nothing is changed.
    pub fn add_config(&self, name: &str, config: P::Config) -> Result<(), RegistryError> {
        if name == DEFAULT {
            return Err(RegistryError::Reserved);
        }
        self.set_config(name, config).map_err(RegistryError::Invalid)
    }

    /// The config of that name, if there is one.
    pub fn config(&self, name: &str) -> Option<P::Config> {
        self.shared.root.rules.lock().config(name).map(|config| P::Config::clone(config))
    }

    /// The names of all configs, `default` among them.
    pub fn config_names(&self) -> Vec<String> {
        self.shared.root.rules.lock().config_names().into_iter().collect()
    }

    /// Removes a config that was added by code. One of that name that was declared is still there.
    ///
    /// # Errors
    /// [`RegistryError::UnknownConfig`], and [`RegistryError::Reserved`] for `default`.
    pub fn remove_config(&self, name: &str) -> Result<P::Config, RegistryError> {
        if name == DEFAULT {
            return Err(RegistryError::Reserved);
        }
        let removed = self.shared.root.rules.lock().remove_config(name);
        let Some(config) = removed else { return Err(RegistryError::UnknownConfig { config: name.to_owned() }) };
        self.shared.root.bring();
        Ok(P::Config::clone(&config))
    }

    /// The settings that hold where nothing else is said.
    pub fn default_config(&self) -> P::Config {
        P::Config::clone(self.shared.root.rules.lock().default())
    }

    /// Changes the settings that hold where nothing else is said, unless they are declared. Instances follow, as after
    /// [`add_config`](Self::add_config).
    ///
    /// # Errors
    /// [`InvalidConfig`]; nothing is changed.
    pub fn set_default_config(&self, config: P::Config) -> Result<(), InvalidConfig> {
        self.set_config(DEFAULT, config)
    }

    fn set_config(&self, name: &str, config: P::Config) -> Result<(), InvalidConfig> {
        P::validate(&config)?;
        let config = self.shared.root.on_clock(config);
        let before = self.shared.root.rules.lock().set_config(name, config);
        drop(before);
        self.shared.root.bring();
        Ok(())
    }

    /// The labels of the instance of that name: the registry's, and over them its own.
    pub fn tags(&self, name: &str) -> Tags {
        self.shared.root.rules.lock().tags(name)
    }

    /// Gives the instance of that name labels of its own, in place of those given before, whether it exists or not. Those
    /// declared for it stand before them.
    pub fn set_tags(&self, name: &str, tags: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>) {
        let tags = tags.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        self.shared.root.rules.lock().set_tags(name, tags);
    }

    /// Puts what a settings file says in place of what was declared before, as a whole. Instances that have other settings
    /// by it get them and keep their state, as after [`add_config`](Self::add_config).
    ///
    /// # Errors
    /// Every setting that cannot be, as [`check`](Self::check); nothing is changed.
    pub fn declare(&self, mut declared: Declared<P::Config>) -> Result<(), Vec<InvalidConfig>> {
        self.check(&declared)?;
        let root = &self.shared.root;
        let on_clock = |config: P::Config| root.on_clock(config);
        declared.configs = declared.configs.into_iter().map(|(name, config)| (name, on_clock(config))).collect();
        let instances = declared.instances.into_iter();
        let on_clock = |one: DeclaredInstance<_>| DeclaredInstance { config: on_clock(one.config), ..one };
        declared.instances = instances.map(|(name, one)| (name, on_clock(one))).collect();
        let before = root.rules.lock().declare(declared);
        drop(before);
        root.bring();
        Ok(())
    }

    /// Whether [`declare`](Self::declare) would take this. Nothing is changed.
    ///
    /// # Errors
    /// Every setting that cannot be.
    pub fn check(&self, declared: &Declared<P::Config>) -> Result<(), Vec<InvalidConfig>> {
        let instances = declared.instances.values().map(|one| &one.config);
        let configs = declared.configs.values().chain(instances);
        let invalid: Vec<_> = configs.filter_map(|config| P::validate(config).err()).collect();
        if invalid.is_empty() { Ok(()) } else { Err(invalid) }
    }

    /// The names of the instances that are declared, made or not.
    pub fn declared(&self) -> Vec<String> {
        self.shared.root.rules.lock().declared_names()
    }

    /// Whether an instance of that name is declared or made.
    pub fn knows(&self, name: &str) -> bool {
        let declared = self.shared.root.rules.lock().is_declared(name);
        declared || self.find(name).is_some()
    }

    /// One instance for each key, with the settings that an instance called `family` would have: they are changed as its
    /// would be. An instance's name is the family's and the key, as `hosts:example.org`.
    ///
    /// The instances are in none of this registry's lists and give none of its events; a million of them would be no use to
    /// a dashboard.
    ///
    /// ```
    /// use resile::{CircuitBreaker, Registry, registry::{KeyedRegistry, Limits}};
    /// use std::time::Duration;
    ///
    /// let breakers = Registry::<CircuitBreaker>::new();
    /// let limits = Limits::default().max_idle(Duration::from_secs(600)).max_instances(100_000);
    /// let hosts: KeyedRegistry<String, CircuitBreaker> = breakers.keyed("hosts", limits)?;
    /// assert_eq!(hosts.get("example.org").name(), "hosts:example.org");
    /// # Ok::<(), resile::InvalidConfig>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidConfig`] for limits of zero.
    pub fn keyed<K>(&self, family: &str, limits: Limits) -> Result<KeyedRegistry<K, P>, InvalidConfig>
    where
        K: Hash + Eq + fmt::Display + Send + Sync + 'static,
    {
        let prefix = family.to_owned();
        self.keyed_by(family, limits, move |key| format!("{prefix}:{key}"))
    }

    /// As [`keyed`](Self::keyed), with names made by a function.
    ///
    /// # Errors
    /// [`InvalidConfig`] for limits of zero.
    pub fn keyed_by<K, N: Into<Box<str>>>(
        &self,
        family: &str,
        limits: Limits,
        name_of: impl Fn(&K) -> N + Send + Sync + 'static,
    ) -> Result<KeyedRegistry<K, P>, InvalidConfig>
    where
        K: Hash + Eq + Send + Sync + 'static,
    {
        limits.validate()?;
        let shared = Shared::new(Arc::clone(&self.shared.root), Some(family.into()), limits);
        Ok(KeyedRegistry::new(shared, move |key| Name::shared(name_of(key))))
    }

    /// Calls `listener` with every event, on the thread it happens on, outside every lock. A panic in it is contained.
    /// Dropping the subscription ends it. What two threads do at once may be told in either order.
    pub fn on_event(&self, listener: impl Fn(&RegistryEvent<P>) + Send + Sync + 'static) -> Subscription {
        self.shared.listeners.subscribe(listener)
    }
}

impl<P: Instance> Default for Registry<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: Instance> Clone for Registry<P> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<P: Instance> fmt::Debug for Registry<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("kind", &P::KIND).finish_non_exhaustive()
    }
}
