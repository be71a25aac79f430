//! What the file and the environment say, brought to where the command line finds it.

use std::{collections::BTreeMap, error::Error as _, ffi::OsString, fs, num::ParseIntError, path::Path};

use clap::{
    Args, Command,
    error::{ContextKind, ContextValue, ErrorKind},
};
use toml::{Table, Value};

use super::{Fault, Settings, as_options, environment_name};

/// The values of the file, under those of the environment, each read once already; and what is wrong with the others.
pub(crate) struct Layers {
    given: BTreeMap<String, Given>,
    pub(crate) faults: Vec<Fault>,
}

struct Given {
    value: String,
    /// What the setting is called where it was found.
    origin: String,
}

impl Layers {
    pub(crate) fn read(file: Option<&Path>, environment: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let mut layers = Self { given: BTreeMap::new(), faults: Vec::new() };
        let definitions = definitions();
        if let Some(file) = file {
            layers.read_file(file, &definitions);
        }
        for arg in definitions.get_arguments() {
            let name = arg.get_id().as_str();
            let origin = environment_name(name);
            match environment(&origin).map(OsString::into_string) {
                None => {}
                Some(Err(_)) => layers.fault(origin, None, "must be UTF-8"),
                Some(Ok(value)) if value.is_empty() => {}
                Some(Ok(value)) => layers.give(&definitions, name, value, origin),
            }
        }
        layers
    }

    /// Makes what was found the defaults of a command.
    pub(crate) fn defaults_of(&self, command: Command) -> Command {
        self.given
            .iter()
            .fold(command, |command, (name, given)| command.mut_arg(name, |arg| arg.default_value(given.value.clone())))
    }

    /// What the setting is called where it was found.
    pub(crate) fn origin(&self, name: &str) -> Option<&str> {
        self.given.get(name).map(|given| given.origin.as_str())
    }

    fn read_file(&mut self, path: &Path, definitions: &Command) {
        let shown = path.display();
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => return self.fault(shown.to_string(), None, &format!("cannot be read: {error}")),
        };
        let table = match text.parse::<Table>() {
            Ok(table) => table,
            Err(error) => {
                // The parser would show the line, which may hold a password.
                let line = 1 + text[..error.span().map_or(0, |span| span.start)].matches('\n').count();
                return self.fault(format!("{shown}, line {line}"), None, error.message());
            }
        };
        let mut entries = Vec::new();
        flatten(&table, "", &mut entries);
        for (key, value) in entries {
            let (name, origin) = (key.replace(['.', '_'], "-"), format!("{key} in {shown}"));
            if self.given.contains_key(&name) {
                self.fault(origin, None, "is given twice");
                continue;
            }
            let value = match value {
                Value::String(text) => text.clone(),
                Value::Array(_) | Value::Table(_) => {
                    self.fault(origin, None, "must be one value");
                    continue;
                }
                other => other.to_string(),
            };
            self.give(definitions, &name, value, origin);
        }
    }

    fn give(&mut self, definitions: &Command, name: &str, value: String, origin: String) {
        let error = match definitions.clone().try_get_matches_from([format!("--{name}={value}")]) {
            Ok(_) => {
                self.given.insert(name.to_owned(), Given { value, origin });
                return;
            }
            Err(error) => error,
        };
        let words = |kind| match error.get(kind) {
            Some(ContextValue::String(word)) => Some(word.clone()),
            Some(ContextValue::Strings(words)) => Some(words.join(", ")),
            _ => None,
        };
        match error.kind() {
            ErrorKind::UnknownArgument => {
                let nearest =
                    words(ContextKind::SuggestedArg).map(|nearest| nearest.trim_start_matches('-').to_owned());
                let hint = nearest.map(|nearest| format!("; there is {nearest}")).unwrap_or_default();
                self.fault(origin, None, &format!("is not a setting{hint}"));
            }
            ErrorKind::InvalidValue => {
                let valid = words(ContextKind::ValidValue).unwrap_or_default();
                self.fault(origin, Some(value), &format!("must be one of {valid}"));
            }
            _ => {
                let rule = match error.source() {
                    Some(source) if source.is::<ParseIntError>() => "must be a whole number".to_owned(),
                    Some(source) => source.to_string(),
                    None => "is not understood".to_owned(),
                };
                self.fault(origin, Some(value), &rule);
            }
        }
    }

    fn fault(&mut self, setting: String, value: Option<String>, rule: &str) {
        self.faults.push(Fault { setting, value, rule: rule.to_owned() });
    }
}

/// All settings, without the commands.
fn definitions() -> Command {
    as_options(Settings::augment_args(Command::new("settings"))).no_binary_name(true).disable_help_flag(true)
}

/// The values of nested tables, with dots in their names.
fn flatten<'a>(table: &'a Table, prefix: &str, entries: &mut Vec<(String, &'a Value)>) {
    for (key, value) in table {
        let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(inner) => flatten(inner, &key, entries),
            value => entries.push((key, value)),
        }
    }
}
