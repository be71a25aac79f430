//! Which settings hold for which name: in plain maps, without an instance in sight.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{Declared, Tags};
use crate::event::Name;

/// The name of the settings that hold where nothing else is said.
pub(super) const DEFAULT: &str = "default";

/// Where an instance's settings come from, unless some are declared for its name.
#[derive(Debug)]
pub(super) enum Origin<C> {
    /// The config of its own name, else the default.
    Name,
    /// The config of that name.
    Config(Name),
    /// Settings given by hand.
    Own(Arc<C>),
}

impl<C> Clone for Origin<C> {
    fn clone(&self) -> Self {
        match self {
            Self::Name => Self::Name,
            Self::Config(name) => Self::Config(name.clone()),
            Self::Own(config) => Self::Own(Arc::clone(config)),
        }
    }
}

/// Settings from code, and over them those that were declared. All are valid.
#[derive(Debug)]
pub(super) struct Rules<C> {
    default: Arc<C>,
    configs: BTreeMap<Box<str>, Arc<C>>,
    tags: BTreeMap<Box<str>, Tags>,
    common_tags: Tags,
    declared_configs: BTreeMap<String, Arc<C>>,
    declared: BTreeMap<String, (Arc<C>, Tags)>,
    declared_tags: Tags,
}

impl<C> Rules<C> {
    pub(super) fn new(default: C, common_tags: Tags) -> Self {
        Self {
            default: Arc::new(default),
            configs: BTreeMap::new(),
            tags: BTreeMap::new(),
            common_tags,
            declared_configs: BTreeMap::new(),
            declared: BTreeMap::new(),
            declared_tags: Tags::new(),
        }
    }

    /// The settings for an instance; `None` where the config it was made from is no more.
    pub(super) fn resolve(&self, name: &str, origin: &Origin<C>) -> Option<Arc<C>> {
        let config = match (self.declared.get(name), origin) {
            (Some((config, _)), _) => config,
            (None, Origin::Own(config)) => config,
            (None, Origin::Config(config)) => self.config(config)?,
            (None, Origin::Name) => self.config(name).unwrap_or_else(|| self.default()),
        };
        Some(Arc::clone(config))
    }

    pub(super) fn config(&self, name: &str) -> Option<&Arc<C>> {
        let code = || if name == DEFAULT { Some(&self.default) } else { self.configs.get(name) };
        self.declared_configs.get(name).or_else(code)
    }

    pub(super) fn default(&self) -> &Arc<C> {
        self.declared_configs.get(DEFAULT).unwrap_or(&self.default)
    }

    pub(super) fn config_names(&self) -> BTreeSet<String> {
        let code = self.configs.keys().map(|name| name.to_string());
        let declared = self.declared_configs.keys().cloned();
        code.chain(declared).chain([DEFAULT.to_owned()]).collect()
    }

    pub(super) fn is_declared(&self, name: &str) -> bool {
        self.declared.contains_key(name)
    }

    pub(super) fn declared_names(&self) -> Vec<String> {
        self.declared.keys().cloned().collect()
    }

    /// Sets a config from code and returns the one before.
    pub(super) fn set_config(&mut self, name: &str, config: C) -> Option<Arc<C>> {
        let config = Arc::new(config);
        if name == DEFAULT {
            return Some(std::mem::replace(&mut self.default, config));
        }
        self.configs.insert(name.into(), config)
    }

    pub(super) fn remove_config(&mut self, name: &str) -> Option<Arc<C>> {
        self.configs.remove(name)
    }

    /// Puts what is declared in place of what was, and returns that, for it to be dropped elsewhere.
    pub(super) fn declare(&mut self, declared: Declared<C>) -> impl Sized + use<C> {
        let Declared { configs, instances, tags } = declared;
        let configs = configs.into_iter().map(|(name, config)| (name, Arc::new(config))).collect();
        let instances = instances.into_iter();
        let instances = instances.map(|(name, one)| (name, (Arc::new(one.config), one.tags))).collect();
        self.declared_tags = tags;
        let configs = std::mem::replace(&mut self.declared_configs, configs);
        (configs, std::mem::replace(&mut self.declared, instances))
    }

    pub(super) fn tags(&self, name: &str) -> Tags {
        let mut all = self.common_tags.clone();
        let declared = self.declared.get(name).map(|(_, tags)| tags);
        for tags in [Some(&self.declared_tags), self.tags.get(name), declared].into_iter().flatten() {
            all.extend(tags.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
        all
    }

    pub(super) fn set_tags(&mut self, name: &str, tags: Tags) {
        if tags.is_empty() {
            self.tags.remove(name);
        } else {
            self.tags.insert(name.into(), tags);
        }
    }
}
