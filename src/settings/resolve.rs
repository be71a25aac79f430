//! From what the files say to what each instance and named config is: every value found along its bases.

use std::{collections::BTreeMap, time::Duration};

use super::{
    build::Described,
    error::{Place, Report},
    keys::nearest,
    layout::{Entry, Group, Section},
    value::Value,
};
use crate::registry::{Declared, DeclaredInstance, Tags};

/// The name of the config that everything else begins with.
const DEFAULT: &str = "default";
const LONGEST_CHAIN: usize = 32;

/// All of one kind of policy.
pub(super) fn resolve<C: Described>(section: &Section, report: &mut Report) -> Declared<C> {
    let mut declared = Declared { tags: tags([&section.tags], report), ..Declared::default() };
    for (name, group) in &section.configs {
        let chain = chain(section, name, report);
        declared.configs.insert(name.clone(), build(group, &chain, report));
    }
    for (name, group) in &section.instances {
        let mut groups = vec![group];
        if let Some(base) = base_of_instance(section, name, group, report) {
            groups.extend(chain(section, base, report));
        }
        let tags = tags(groups.iter().rev().map(|group| &group.tags), report);
        declared.instances.insert(name.clone(), DeclaredInstance { config: build(group, &groups, report), tags });
    }
    declared
}

/// What an instance of this name is to be.
pub(super) fn config_of<C: Described>(declared: &Declared<C>, name: &str) -> C {
    let instance = declared.instances.get(name).map(|instance| &instance.config);
    let config = instance.or_else(|| declared.configs.get(name)).or_else(|| declared.configs.get(DEFAULT));
    config.cloned().unwrap_or_default()
}

pub(super) fn tags_of<C>(declared: &Declared<C>, name: &str) -> Tags {
    let mut tags = declared.tags.clone();
    tags.extend(declared.instances.get(name).into_iter().flat_map(|instance| instance.tags.clone()));
    tags
}

pub(super) fn names<C>(declared: &Declared<C>) -> Vec<&str> {
    declared.instances.keys().map(String::as_str).collect()
}

/// The later over the earlier.
fn tags<'a>(layers: impl IntoIterator<Item = &'a BTreeMap<String, Entry<String>>>, report: &mut Report) -> Tags {
    let mut tags = Tags::new();
    for (key, entry) in layers.into_iter().flatten() {
        match &entry.value {
            Ok(value) => drop(tags.insert(key.clone(), value.clone())),
            Err(missing) => report.error(missing.clone()),
        }
    }
    tags
}

/// The config that an instance begins with: its base, else the one of its own name, else `default`.
fn base_of_instance<'a>(section: &'a Section, name: &'a str, group: &'a Group, report: &mut Report) -> Option<&'a str> {
    match &group.base {
        Some(base) => known_base(section, base, report),
        None => [name, DEFAULT].into_iter().find(|name| section.configs.contains_key(*name)),
    }
}

fn known_base<'a>(section: &Section, base: &'a Entry<String>, report: &mut Report) -> Option<&'a str> {
    let name = match &base.value {
        Ok(name) => name,
        Err(missing) => {
            report.error(missing.clone());
            return None;
        }
    };
    if section.configs.contains_key(name) {
        return Some(name);
    }
    let rule = match nearest(name, section.configs.keys().map(String::as_str)) {
        Some(near) => format!("must be the name of a config; did you mean '{near}'?"),
        None => "must be the name of a config".to_owned(),
    };
    report.error(base.place.error(name, rule));
    None
}

/// A named config and its bases, the config first.
fn chain<'a>(section: &'a Section, first: &'a str, report: &mut Report) -> Vec<&'a Group> {
    let mut names: Vec<&str> = Vec::new();
    let mut groups = Vec::new();
    let mut next = Some(first);
    while let Some(name) = next {
        if let Some(start) = names.iter().position(|known| *known == name) {
            let cycle = &names[start..];
            // Told once, by the member whose name comes first.
            if start == 0 && cycle.iter().min() == Some(&name) {
                let round = [cycle, &[name]].concat().join(" -> ");
                if let Some(base) = section.configs.get(name).and_then(|group| group.base.as_ref()) {
                    report.error(base.place.error(&base.text, format!("bases must not go round: {round}")));
                }
            }
            break;
        }
        let Some(group) = section.configs.get(name) else { break };
        if names.len() == LONGEST_CHAIN {
            let rule = format!("must not stand on more than {LONGEST_CHAIN} configs, one upon the other");
            report.error(group.place.error("", rule));
            break;
        }
        names.push(name);
        groups.push(group);
        next = group.base.as_ref().and_then(|base| known_base(section, base, report));
    }
    groups
}

fn build<C: Described>(group: &Group, chain: &[&Group], report: &mut Report) -> C {
    let errors = report.errors();
    let mut values = Values { place: &group.place, entries: BTreeMap::new() };
    for group in chain {
        for (name, entry) in &group.values {
            values.entries.entry(name).or_insert(entry);
        }
    }
    for entry in values.entries.values() {
        if let Err(missing) = &entry.value {
            report.error(missing.clone());
        }
    }
    let config = C::build(&values, report);
    // What is wrong by itself has been told; what is wrong only because of that need not be.
    if report.errors() == errors && !chain.iter().any(|group| group.flawed) {
        if let Err(invalid) = config.check() {
            let (place, text) = values.origin(invalid.field);
            report.error(place.error(text, invalid.rule));
        }
    }
    config
}

/// The values of one instance or named config, its own and its bases'.
pub(super) struct Values<'a> {
    place: &'a Place,
    entries: BTreeMap<&'static str, &'a Entry<Value>>,
}

impl Values<'_> {
    pub(super) fn entry(&self, name: &str) -> Option<&Entry<Value>> {
        self.entries.get(name).copied()
    }

    fn get(&self, name: &str) -> Option<Value> {
        debug_assert!(name.bytes().all(|byte| byte == b'-' || byte.is_ascii_lowercase()), "{name}");
        self.entry(name)?.value.as_ref().ok().copied()
    }

    pub(super) fn percent(&self, name: &str) -> Option<f32> {
        match self.get(name)? {
            Value::Percent(percent) => Some(percent),
            _ => None,
        }
    }

    pub(super) fn count(&self, name: &str) -> Option<u32> {
        match self.get(name)? {
            Value::Count(count) => Some(count),
            _ => None,
        }
    }

    pub(super) fn number(&self, name: &str) -> Option<f64> {
        match self.get(name)? {
            Value::Number(number) => Some(number),
            _ => None,
        }
    }

    pub(super) fn wait(&self, name: &str) -> Option<Duration> {
        self.wait_or_none(name).flatten()
    }

    /// `Some(None)` where `none` is written.
    pub(super) fn wait_or_none(&self, name: &str) -> Option<Option<Duration>> {
        match self.get(name)? {
            Value::Wait(wait) => Some(Some(wait)),
            Value::None => Some(None),
            _ => None,
        }
    }

    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        match self.get(name)? {
            Value::Flag(flag) => Some(flag),
            _ => None,
        }
    }

    /// A value of a type of its own.
    pub(super) fn choice<T>(&self, name: &str, choose: impl FnOnce(Value) -> Option<T>) -> Option<T> {
        self.get(name).and_then(choose)
    }

    /// Where a setting of the config comes from, and what was written there.
    fn origin(&self, field: &str) -> (&Place, &str) {
        let own = field.replace('_', "-");
        let sources = [
            own.as_str(),
            "exponential-backoff-multiplier",
            "randomized-wait-factor",
            "wait-duration",
            "wait-duration-in-open-state",
        ];
        let source = sources[..if field.contains("interval_function") { 5 } else { 1 }].iter();
        let entry = source.filter_map(|name| self.entry(name)).next();
        entry.map_or((self.place, ""), |entry| (&entry.place, &entry.text))
    }
}
