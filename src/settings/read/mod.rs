//! Texts of the three formats as one kind of tree, in which every value is still text.

mod json;
mod toml;
mod yaml;

use std::{path::Path, sync::Arc};

use super::{
    Format,
    error::{Place, SettingsError},
};
use crate::sync::contained;

/// The largest file, which is also the largest that a ConfigMap holds.
pub(super) const MAX_BYTES: usize = 1 << 20;
/// How deep values may nest. The layout needs seven levels.
const MAX_DEPTH: usize = 64;
/// What a tree may weigh once its aliases are written out: a few lines of them can stand for gigabytes.
const MAX_WEIGHT: usize = 16 * MAX_BYTES;

/// A value and the line it begins on.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) line: Option<usize>,
    pub(super) content: Content,
}

#[derive(Debug, Clone)]
pub(super) enum Content {
    Empty,
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) text: String,
    pub(super) line: Option<usize>,
}

/// What is wrong with a text, and where.
struct Flaw {
    line: Option<usize>,
    rule: String,
}

impl Flaw {
    fn new(line: impl Into<Option<usize>>, rule: impl Into<String>) -> Self {
        Self { line: line.into(), rule: rule.into() }
    }

    fn too_deep(line: Option<usize>) -> Self {
        Self::new(line, format!("values nest deeper than {MAX_DEPTH} levels"))
    }

    fn twice(line: Option<usize>, key: &str) -> Self {
        Self::new(line, format!("the key '{key}' is given twice"))
    }
}

impl Format {
    /// The format that the end of a file's name stands for: `yaml`, `yml`, `toml` or `json`.
    pub fn of(path: impl AsRef<Path>) -> Option<Self> {
        let extension = path.as_ref().extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "yaml" | "yml" => Some(Self::Yaml),
            "toml" => Some(Self::Toml),
            "json" => Some(Self::Json),
            _ => None,
        }
    }

    /// The tree, or all that is wrong with the text.
    pub(super) fn read(self, text: &str, file: &Arc<str>) -> Result<Node, Vec<SettingsError>> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if text.len() > MAX_BYTES {
            return Err(vec![Place::of_file(file, None).error("", "must be at most 1 MiB")]);
        }
        // A parser that panics is a defect in somebody's crate, and no reason to lose the service that reads its settings.
        let read = contained(|| match self {
            Self::Yaml => yaml::read(text).map_err(|flaw| vec![flaw]),
            Self::Toml => toml::read(text),
            Self::Json => json::read(text).map_err(|flaw| vec![flaw]),
        });
        let panicked = || Err(vec![Flaw::new(None, "the parser panicked")]);
        read.unwrap_or_else(panicked).map_err(|flaws| {
            let error = |flaw: Flaw| Place::of_file(file, flaw.line).error("", flaw.rule);
            flaws.into_iter().map(error).collect()
        })
    }
}

/// Finds the line of a byte.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(index, _)| index).collect())
    }

    fn at(&self, byte: usize) -> usize {
        1 + self.0.partition_point(|end| *end < byte)
    }
}
