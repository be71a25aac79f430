use std::{borrow::Cow, error::Error as StdError, fmt, ops::Deref, sync::Arc};

/// One thing in a settings file that cannot be: where it stands, what it says, and the rule it breaks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct SettingsError {
    /// The file, or the name that the text was given.
    pub file: Arc<str>,
    /// The line, counted from 1, where it is known.
    pub line: Option<usize>,
    /// The keys from the top, as they are written, such as
    /// `resilience4j.circuitbreaker.instances.orders.failure-rate-threshold`. Empty where the file as a whole is meant.
    pub path: String,
    /// The value, after placeholders were filled in; shortened where it is long, empty where there is none.
    pub value: String,
    /// What it must be, or what to do instead.
    pub rule: Cow<'static, str>,
}

/// One thing in a settings file that has no effect here, or another than it says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Warning {
    /// The file, or the name that the text was given.
    pub file: Arc<str>,
    /// The line, counted from 1, where it is known.
    pub line: Option<usize>,
    /// The keys from the top, as they are written.
    pub path: String,
    /// The value, after placeholders were filled in.
    pub value: String,
    /// Why it has no effect, or which one it has.
    pub reason: Cow<'static, str>,
}

/// All that is wrong in all the files that were read together, in the order of files and lines, up to a thousand. Never
/// empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsErrors(Arc<[SettingsError]>);

impl SettingsErrors {
    pub(super) fn new(errors: Vec<SettingsError>) -> Self {
        Self(errors.into())
    }
}

impl Deref for SettingsErrors {
    type Target = [SettingsError];

    fn deref(&self) -> &[SettingsError] {
        &self.0
    }
}

impl<'a> IntoIterator for &'a SettingsErrors {
    type Item = &'a SettingsError;
    type IntoIter = std::slice::Iter<'a, SettingsError>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// One error on each line.
impl fmt::Display for SettingsErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl StdError for SettingsErrors {}

/// As compilers do: `file:line: path = value: rule`.
impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        line(f, &self.file, self.line, &self.path, &self.value, &self.rule)
    }
}

impl StdError for SettingsError {}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        line(f, &self.file, self.line, &self.path, &self.value, &self.reason)
    }
}

fn line(
    f: &mut fmt::Formatter<'_>,
    file: &str,
    line: Option<usize>,
    path: &str,
    value: &str,
    rule: &str,
) -> fmt::Result {
    f.write_str(file)?;
    if let Some(line) = line {
        write!(f, ":{line}")?;
    }
    if !path.is_empty() {
        write!(f, ": {path}")?;
        if !value.is_empty() {
            write!(f, " = {value}")?;
        }
    }
    write!(f, ": {rule}")
}

/// Where something stands in which file.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) file: Arc<str>,
    pub(super) line: Option<usize>,
    pub(super) path: String,
}

impl Place {
    /// A file as a whole, or one line of it.
    pub(super) fn of_file(file: &Arc<str>, line: Option<usize>) -> Self {
        Self { file: Arc::clone(file), line, path: String::new() }
    }

    /// What stands under this key.
    pub(super) fn under(&self, key: &str, line: Option<usize>) -> Self {
        let key = shown(key);
        let path = if self.path.is_empty() { key } else { format!("{}.{key}", self.path) };
        Self { file: Arc::clone(&self.file), line: line.or(self.line), path }
    }

    pub(super) fn error(&self, value: &str, rule: impl Into<Cow<'static, str>>) -> SettingsError {
        let Self { file, line, path } = self.clone();
        SettingsError { file, line, path, value: shown(value), rule: rule.into() }
    }
}

/// What was found on the way, gathered so that all of it can be told at once.
#[derive(Debug, Default)]
pub(super) struct Report {
    errors: Vec<SettingsError>,
    warnings: Vec<Warning>,
}

impl Report {
    /// So many are told; a file with more is no settings file.
    const MOST: usize = 1000;

    pub(super) fn error(&mut self, error: SettingsError) {
        // A value that several instances inherit is wrong once.
        if self.errors.len() < Self::MOST && !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }

    /// Nothing more can be told.
    pub(super) fn is_full(&self) -> bool {
        self.errors.len() == Self::MOST
    }

    pub(super) fn warn(&mut self, place: &Place, value: &str, reason: impl Into<Cow<'static, str>>) {
        let Place { file, line, path } = place.clone();
        let warning = Warning { file, line, path, value: shown(value), reason: reason.into() };
        if self.warnings.len() < Self::MOST && !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    pub(super) fn errors(&self) -> usize {
        self.errors.len()
    }

    /// The warnings, if nothing is wrong. `files` in the order they were read.
    pub(super) fn finish(mut self, files: &[Arc<str>]) -> Result<Vec<Warning>, SettingsErrors> {
        let order = |file: &Arc<str>| files.iter().position(|name| name == file);
        self.errors.sort_by_key(|error| (order(&error.file), error.line));
        self.warnings.sort_by_key(|warning| (order(&warning.file), warning.line));
        if self.errors.is_empty() { Ok(self.warnings) } else { Err(SettingsErrors::new(self.errors)) }
    }
}

/// Keeps a log readable: one line, and not a long one.
fn shown(text: &str) -> String {
    const LONGEST: usize = 120;
    let mut shown = String::new();
    for (index, character) in text.chars().enumerate() {
        if index == LONGEST {
            shown.push('…');
            break;
        }
        if character.is_control() {
            shown.extend(character.escape_debug());
        } else {
            shown.push(character);
        }
    }
    shown
}
