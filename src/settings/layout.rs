//! What one file says, with every value read, and how files lie over each other.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    error::{Place, Report, SettingsError},
    keys::{CONFIGS, ELSEWHERE, INSTANCES, KINDS, Kind, Meaning, Property, SECTION_ONLY, TAGS, find, nearest, unknown},
    placeholder::{Environment, Unfilled, fill},
    read::{Content, Node},
    value::{Shape, Value, canonical},
};

const ROOT: &str = "resilience4j";

/// All sections, in the order of `KINDS`.
#[derive(Debug, Default)]
pub(super) struct Layout {
    pub(super) sections: [Section; KINDS.len()],
}

/// One kind of policy.
#[derive(Debug, Default)]
pub(super) struct Section {
    pub(super) tags: BTreeMap<String, Entry<String>>,
    pub(super) configs: BTreeMap<String, Group>,
    pub(super) instances: BTreeMap<String, Group>,
}

/// One instance or named config.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) place: Place,
    pub(super) base: Option<Entry<String>>,
    pub(super) tags: BTreeMap<String, Entry<String>>,
    pub(super) values: BTreeMap<&'static str, Entry<Value>>,
    /// Some of its values are wrong, and missing here.
    pub(super) flawed: bool,
}

/// A value, where it stands and what was written. The value is missing where its placeholder could not be filled in, which
/// matters only if no other file gives another.
#[derive(Debug, Clone)]
pub(super) struct Entry<T> {
    pub(super) place: Place,
    pub(super) text: String,
    pub(super) value: Result<T, SettingsError>,
}

impl Layout {
    /// Lays `over` over this: what it gives replaces what was given, property by property.
    pub(super) fn lay(&mut self, over: Self) {
        for (below, over) in self.sections.iter_mut().zip(over.sections) {
            below.tags.extend(over.tags);
            lay(&mut below.configs, over.configs);
            lay(&mut below.instances, over.instances);
        }
    }
}

fn lay(below: &mut BTreeMap<String, Group>, over: BTreeMap<String, Group>) {
    for (name, group) in over {
        match below.get_mut(&name) {
            Some(below) => {
                below.base = group.base.or(below.base.take());
                below.tags.extend(group.tags);
                below.values.extend(group.values);
                below.flawed |= group.flawed;
            }
            None => drop(below.insert(name, group)),
        }
    }
}

/// Reads a tree into sections and gathers what is wrong with it.
pub(super) struct Reader<'a> {
    pub(super) file: Arc<str>,
    pub(super) environment: &'a Environment,
    pub(super) report: &'a mut Report,
}

impl Reader<'_> {
    pub(super) fn read(mut self, root: &Node) -> Layout {
        let mut layout = Layout::default();
        let top = Place::of_file(&self.file, None);
        let Some(pairs) = self.map(root, &top) else { return layout };
        let mut found = false;
        for (key, place, node) in pairs {
            let (first, rest) = split(key);
            if canonical(first) != ROOT {
                continue;
            }
            found = true;
            self.at(rest, node, &place, &mut |reader, key, place, node| {
                reader.section(key, place, node, &mut layout);
            });
        }
        if !found {
            self.warn_of_no_root(root, &top);
        }
        layout
    }

    fn warn_of_no_root(&mut self, root: &Node, top: &Place) {
        let Content::Map(pairs) = &root.content else { return };
        let near = pairs.iter().find(|(key, _)| nearest(split(&key.text).0, [ROOT]).is_some());
        match near {
            Some((key, _)) => {
                let place = top.under(&key.text, key.line);
                self.report.warn(&place, "", "is left alone, as all but 'resilience4j' is; did you mean that?");
            }
            None if pairs.is_empty() => {}
            None => self.report.warn(top, "", "says nothing under 'resilience4j'"),
        }
    }

    /// What stands under the rest of a dotted key, or under every key of the map if that was all of it.
    fn at(
        &mut self,
        rest: Option<&str>,
        node: &Node,
        place: &Place,
        each: &mut dyn FnMut(&mut Self, &str, &Place, &Node),
    ) {
        if let Some(rest) = rest {
            // The place already names the whole key.
            return each(self, rest, place, node);
        }
        for (key, place, node) in self.map(node, place).into_iter().flatten() {
            each(self, key, &place, node);
        }
    }

    fn section(&mut self, key: &str, place: &Place, node: &Node, layout: &mut Layout) {
        let (first, rest) = split(key);
        let name = canonical(first);
        if let Some(index) = KINDS.iter().position(|kind| canonical(kind.section) == name) {
            let (kind, section) = (&KINDS[index], &mut layout.sections[index]);
            self.at(rest, node, place, &mut |reader, key, place, node| {
                reader.in_section(kind, key, place, node, section);
            });
        } else if let Some(property) = find(ELSEWHERE, first) {
            self.beside(property, place, node);
        } else {
            let known = KINDS.iter().map(|kind| kind.section);
            self.report.error(place.error("", unknown(first, known)));
        }
    }

    fn in_section(&mut self, kind: &Kind, key: &str, place: &Place, node: &Node, section: &mut Section) {
        let (first, rest) = split(key);
        let name = canonical(first);
        if name == TAGS {
            let tags = &mut section.tags;
            self.at(rest, node, place, &mut |reader, key, place, node| reader.tag(key, place, node, tags));
        } else if name == CONFIGS || INSTANCES.contains(&name.as_str()) {
            let groups = if name == CONFIGS { &mut section.configs } else { &mut section.instances };
            self.at(rest, node, place, &mut |reader, key, place, node| reader.group(kind, key, place, node, groups));
        } else if let Some(property) = find(SECTION_ONLY, first) {
            self.beside(property, place, node);
        } else if let Some(property) = find(kind.properties, first) {
            let rule = format!("must stand in 'instances.<name>.{0}' or 'configs.<name>.{0}'", property.name);
            self.report.error(place.error(text_of(node), rule));
        } else {
            let known = SECTION_ONLY.iter().map(|property| property.name).chain([CONFIGS, INSTANCES[0], TAGS]);
            self.report.error(place.error(text_of(node), unknown(first, known)));
        }
    }

    /// A key without any use: a warning or an error.
    fn beside(&mut self, property: &Property, place: &Place, node: &Node) {
        match property.meaning {
            Meaning::Refused(rule) => self.report.error(place.error(text_of(node), rule)),
            Meaning::JavaOnly(reason) => self.report.warn(place, text_of(node), reason),
            _ => {}
        }
    }

    /// An instance or named config. The name may hold dots; what is no map is a property, behind the last of them.
    fn group(&mut self, kind: &Kind, key: &str, place: &Place, node: &Node, groups: &mut BTreeMap<String, Group>) {
        let dot = match node.content {
            Content::Map(_) | Content::Empty => key.rfind('.').filter(|dot| canonical(&key[dot + 1..]) == TAGS),
            _ => key.find(".tags.").or(key.rfind('.')),
        };
        let (name, property) = match dot {
            Some(dot) => (&key[..dot], Some(&key[dot + 1..])),
            None => (key, None),
        };
        // Spring's way to write a name that holds dots.
        let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        if name.trim().is_empty() {
            return self.report.error(place.error("", "must have a name"));
        }
        let group = groups.entry(name.to_owned()).or_insert_with(|| Group {
            place: place.clone(),
            base: None,
            tags: BTreeMap::new(),
            values: BTreeMap::new(),
            flawed: false,
        });
        self.at(property, node, place, &mut |reader, key, place, node| {
            reader.property(kind, key, place, node, group);
        });
    }

    fn property(&mut self, kind: &Kind, key: &str, place: &Place, node: &Node, group: &mut Group) {
        if self.report.is_full() {
            return;
        }
        let (first, rest) = split(key);
        if canonical(first) == TAGS {
            let tags = &mut group.tags;
            return self.at(rest, node, place, &mut |reader, key, place, node| reader.tag(key, place, node, tags));
        }
        let Some(property) = find(kind.properties, key) else {
            let known = kind.properties.iter().map(|property| property.name);
            return self.report.error(place.error(text_of(node), unknown(key, known)));
        };
        match property.meaning {
            Meaning::Setting(shape) => {
                let Some(entry) = self.entry(place, node, |text| shape.parse(text)) else {
                    group.flawed = true;
                    return;
                };
                if let Some(before) = group.values.insert(property.name, entry) {
                    self.twice(place, &before.place);
                }
            }
            Meaning::BaseConfig => {
                let Some(entry) = self.text(place, node) else { return };
                if let Some(before) = group.base.replace(entry) {
                    self.twice(place, &before.place);
                }
            }
            Meaning::AlwaysTrue(rule) => {
                let Some(entry) = self.entry(place, node, |text| Shape::Flag.parse(text)) else { return };
                match entry.value {
                    Ok(Value::Flag(true)) => {}
                    Ok(_) => self.report.error(place.error(&entry.text, rule)),
                    Err(missing) => self.report.error(missing),
                }
            }
            Meaning::Tags | Meaning::JavaOnly(_) | Meaning::Refused(_) => self.beside(property, place, node),
        }
    }

    fn tag(&mut self, key: &str, place: &Place, node: &Node, tags: &mut BTreeMap<String, Entry<String>>) {
        let Some(entry) = self.text(place, node) else { return };
        if let Some(before) = tags.insert(key.to_owned(), entry) {
            self.twice(place, &before.place);
        }
    }

    fn twice(&mut self, place: &Place, before: &Place) {
        let line = before.line.map_or(String::new(), |line| format!(" in line {line}"));
        self.report.error(place.error("", format!("is given twice: first as '{}'{line}", before.path)));
    }

    fn text(&mut self, place: &Place, node: &Node) -> Option<Entry<String>> {
        self.entry(place, node, |text| match text.trim() {
            "" => Err("must have a value".into()),
            text => Ok(text.to_owned()),
        })
    }

    /// The value that stands there, or `None` where it is wrong, which is then reported.
    fn entry<T>(
        &mut self,
        place: &Place,
        node: &Node,
        parse: impl FnOnce(&str) -> Result<T, std::borrow::Cow<'static, str>>,
    ) -> Option<Entry<T>> {
        let written = match &node.content {
            Content::Text(written) => written.as_str(),
            Content::Empty => "",
            Content::List(_) | Content::Map(_) => {
                self.report.error(place.error("", "must be one value, not a list or map of them"));
                return None;
            }
        };
        let (text, value) = match fill(written, self.environment) {
            Ok(text) => {
                let value = parse(&text).map_err(|rule| place.error(&text, rule));
                (text, value)
            }
            Err(Unfilled::Malformed(rule)) => (written.to_owned(), Err(place.error(written, rule))),
            Err(Unfilled::Missing(name)) => {
                let rule =
                    format!("the environment has no variable {name}, and there is no default: ${{{name}:default}}");
                let value = Err(place.error(written, rule));
                return Some(Entry { place: place.clone(), text: written.to_owned(), value });
            }
        };
        match value {
            Ok(value) => Some(Entry { place: place.clone(), text, value: Ok(value) }),
            Err(error) => {
                self.report.error(error);
                None
            }
        }
    }

    /// The pairs of a map, each with its place; nothing where nothing stands; an error for all else.
    fn map<'n>(&mut self, node: &'n Node, place: &Place) -> Option<Vec<(&'n str, Place, &'n Node)>> {
        match &node.content {
            Content::Map(pairs) => {
                let pair = |(key, node): &'n (super::read::Key, Node)| {
                    (key.text.as_str(), place.under(&key.text, key.line), node)
                };
                Some(pairs.iter().map(pair).collect())
            }
            Content::Empty => None,
            Content::Text(_) | Content::List(_) => {
                let mut place = place.clone();
                place.line = place.line.or(node.line);
                self.report.error(place.error(text_of(node), "must be a map of keys and values"));
                None
            }
        }
    }
}

/// A dotted key's first part and the rest.
fn split(key: &str) -> (&str, Option<&str>) {
    match key.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (key, None),
    }
}

fn text_of(node: &Node) -> &str {
    match &node.content {
        Content::Text(text) => text,
        _ => "",
    }
}
