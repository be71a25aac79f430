//! Turns a request into a subject and a body, from its own content or from a template filled with its variables.
//!
//! A template is a folder with `subject.txt` and `body.txt`, `body.html` or both. What is in a `.html` file is escaped for
//! HTML, what is in a `.txt` file is not. Other files, such as a common `layout.html`, can be extended and included.
//! A variable that is not given is an error, at the door and not in somebody's mail.

use std::{
    collections::BTreeMap,
    fmt, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value, value::Serde};
use serde_json::{Map, Value as Json};

use crate::{
    personal::mask_text,
    request::{ContentType, EmailRequest},
};

mod alternative;

/// The templates that come with the service: name of the file, and its text.
const EMBEDDED: [(&str, &str); 9] = [
    ("layout.html", include_str!("../templates/layout.html")),
    ("newsletter/body.html", include_str!("../templates/newsletter/body.html")),
    ("newsletter/subject.txt", include_str!("../templates/newsletter/subject.txt")),
    ("password-reset/body.html", include_str!("../templates/password-reset/body.html")),
    ("password-reset/body.txt", include_str!("../templates/password-reset/body.txt")),
    ("password-reset/subject.txt", include_str!("../templates/password-reset/subject.txt")),
    ("welcome/body.html", include_str!("../templates/welcome/body.html")),
    ("welcome/body.txt", include_str!("../templates/welcome/body.txt")),
    ("welcome/subject.txt", include_str!("../templates/welcome/subject.txt")),
];

/// How many steps a template may take: a loop over some thousand items.
const FUEL: u64 = 100_000;
/// How long what a template makes may be, in bytes.
const LONGEST: usize = 2_000_000;

/// What a mail says.
#[derive(Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The subject, one line.
    pub subject: String,
    /// The text, which may be made from the HTML.
    pub text: Option<String>,
    /// The HTML, if there is any.
    pub html: Option<String>,
}

impl Rendered {
    /// With a text made from the HTML, if there is no other.
    pub(crate) fn with_text(mut self) -> Self {
        if let (None, Some(html)) = (&self.text, &self.html) {
            self.text = Some(alternative::text_of(html));
        }
        self
    }
}

impl fmt::Debug for Rendered {
    /// Without what is personal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = |part: &Option<String>| part.as_ref().map_or(0, String::len);
        write!(f, "Rendered({} bytes of text, {} of HTML)", length(&self.text), length(&self.html))
    }
}

/// All templates, compiled. Cheap to clone.
#[derive(Clone)]
pub struct Templates(Arc<Inner>);

struct Inner {
    environment: Environment<'static>,
    templates: BTreeMap<String, Bodies>,
}

/// The bodies that a template has, by the name of their file.
#[derive(Default)]
struct Bodies {
    subject: bool,
    text: Option<String>,
    html: Option<String>,
}

impl Templates {
    /// Those that come with the service: `newsletter`, `password-reset` and `welcome`.
    #[must_use]
    pub fn embedded() -> Self {
        Self::compile(EMBEDDED.map(|(name, text)| (name.to_owned(), text.to_owned())))
            .expect("the embedded templates are compiled by a test")
    }

    /// Those in a folder, each in a folder of its own.
    ///
    /// # Errors
    /// A file or folder that cannot be read or compiled, with the file, the line and the reason; a template without a
    /// subject or a body; a folder without templates.
    pub fn from_dir(dir: &Path) -> Result<Self, TemplateError> {
        let mut files = Vec::new();
        read_folder(dir, "", &mut files)?;
        let templates = Self::compile(files)?;
        if templates.0.templates.is_empty() {
            return Err(TemplateError::Empty { path: dir.to_owned() });
        }
        Ok(templates)
    }

    /// The names of all templates, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.templates.keys().map(String::as_str)
    }

    /// Subject and body of a request, with a text made from the HTML where there is no other.
    ///
    /// # Errors
    /// An unknown template, a missing variable, or a subject that cannot be one.
    pub fn render(&self, request: &EmailRequest) -> Result<Rendered, TemplateError> {
        Ok(self.fill(request)?.with_text())
    }

    /// Subject and body without a text made from HTML, which takes most of the time: to see whether a request
    /// [renders](Self::render).
    pub(crate) fn fill(&self, request: &EmailRequest) -> Result<Rendered, TemplateError> {
        let (text, html) = self.body(request)?;
        Ok(Rendered { subject: self.subject(request)?, text, html })
    }

    /// The subject alone.
    pub(crate) fn subject(&self, request: &EmailRequest) -> Result<String, TemplateError> {
        subject(match &request.template {
            None => request.subject.clone(),
            Some(_) if !request.subject.is_empty() => self.own_subject(&request.subject, &request.variables)?,
            Some(name) => {
                self.bodies(name)?;
                self.file(&format!("{name}/subject.txt"), &Value::from(Serde(&request.variables)))?
            }
        })
    }

    /// The body alone, as text and as HTML.
    pub(crate) fn body(&self, request: &EmailRequest) -> Result<(Option<String>, Option<String>), TemplateError> {
        let Some(name) = &request.template else {
            let content = request.content.clone();
            return Ok(match request.content_type {
                ContentType::Text => (content, None),
                ContentType::Html => (None, content),
            });
        };
        let bodies = self.bodies(name)?;
        let variables = Value::from(Serde(&request.variables));
        let body = |file: &Option<String>| file.as_deref().map(|file| self.file(file, &variables)).transpose();
        Ok((body(&bodies.text)?, body(&bodies.html)?))
    }

    fn bodies(&self, name: &str) -> Result<&Bodies, TemplateError> {
        self.0.templates.get(name).ok_or_else(|| TemplateError::Unknown {
            name: name.to_owned(),
            known: self.names().collect::<Vec<_>>().join(", "),
        })
    }

    fn file(&self, name: &str, variables: &Value) -> Result<String, TemplateError> {
        let template = self.0.environment.get_template(name).map_err(|error| failed(name, &error))?;
        let mut made = Bounded(Vec::new());
        template.render_captured_to(variables.clone(), &mut made).map_err(|error| failed(name, &error))?;
        String::from_utf8(made.0).map_err(|_| TemplateError::Failed {
            file: name.to_owned(),
            line: 0,
            reason: "made something that is not text".to_owned(),
        })
    }

    /// A caller's subject takes variables, `{{ name }}`, and nothing else of a template: what a caller writes cannot
    /// make the service compute.
    fn own_subject(&self, subject: &str, variables: &Map<String, Json>) -> Result<String, TemplateError> {
        let mut rest = subject;
        while let Some(brace) = rest.find('{') {
            rest = &rest[brace + 1..];
            if rest.starts_with(['%', '#']) {
                return Err(TemplateError::SubjectSyntax);
            }
            if let Some(inside) = rest.strip_prefix('{') {
                let (name, after) = inside.split_once("}}").ok_or(TemplateError::SubjectSyntax)?;
                let plain = |part: &str| {
                    part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                        && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
                };
                if !name.trim().split('.').all(plain) {
                    return Err(TemplateError::SubjectSyntax);
                }
                rest = after;
            }
        }
        if subject.contains("{{") {
            let environment = &self.0.environment;
            let variables = Value::from(Serde(variables));
            environment.render_named_str("subject", subject, variables).map_err(|error| failed("subject", &error))
        } else {
            Ok(subject.to_owned())
        }
    }

    fn compile(files: impl IntoIterator<Item = (String, String)>) -> Result<Self, TemplateError> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        environment.set_auto_escape_callback(
            |name| {
                if name.ends_with(".html") { AutoEscape::Html } else { AutoEscape::None }
            },
        );
        let mut templates = BTreeMap::<String, Bodies>::new();
        for (file, text) in files {
            if let Some((name, part)) = file.rsplit_once('/') {
                let bodies = templates.entry(name.to_owned()).or_default();
                match part {
                    "subject.txt" => bodies.subject = true,
                    "body.txt" => bodies.text = Some(file.clone()),
                    "body.html" => bodies.html = Some(file.clone()),
                    _ => {}
                }
            }
            environment.add_template_owned(file.clone(), text).map_err(|error| failed(&file, &error))?;
        }
        // A folder with neither holds parts of others.
        templates.retain(|_, bodies| bodies.subject || bodies.text.is_some() || bodies.html.is_some());
        for (name, bodies) in &templates {
            let missing = match bodies {
                Bodies { subject: false, .. } => "subject.txt",
                Bodies { text: None, html: None, .. } => "body.txt or body.html",
                Bodies { .. } => continue,
            };
            return Err(TemplateError::Incomplete { name: name.clone(), missing });
        }
        Ok(Self(Arc::new(Inner { environment, templates })))
    }
}

impl fmt::Debug for Templates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

/// Why there is no template, or none that can be filled. Without what is personal.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// A file or folder cannot be read.
    #[error("{} cannot be read: {error}", path.display())]
    Unreadable {
        /// Which one.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// No template in a folder.
    #[error("{} has no templates: each is a folder with subject.txt and body.txt or body.html", path.display())]
    Empty {
        /// Which folder.
        path: PathBuf,
    },
    /// A template lacks a file.
    #[error("template '{name}' has no {missing}")]
    Incomplete {
        /// Which template.
        name: String,
        /// Which file.
        missing: &'static str,
    },
    /// A file cannot be compiled or filled.
    #[error("{file}, line {line}: {reason}")]
    Failed {
        /// Which file, or `subject` for a request's own.
        file: String,
        /// Which of its lines.
        line: usize,
        /// Why.
        reason: String,
    },
    /// There is no template of that name.
    #[error("there is no template '{name}', but {known}")]
    Unknown {
        /// The name.
        name: String,
        /// The names there are.
        known: String,
    },
    /// A request's own subject asks for more than variables.
    #[error("a subject can have variables like {{{{ name }}}} and nothing else of a template")]
    SubjectSyntax,
    /// The subject is empty or has control characters once it is filled.
    #[error("the subject {0}")]
    Subject(&'static str),
}

/// Reads the `.txt` and `.html` files below a folder.
fn read_folder(folder: &Path, prefix: &str, files: &mut Vec<(String, String)>) -> Result<(), TemplateError> {
    let unreadable = |path: &Path, error| TemplateError::Unreadable { path: path.to_owned(), error };
    for entry in fs::read_dir(folder).map_err(|error| unreadable(folder, error))? {
        let path = entry.map_err(|error| unreadable(folder, error))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|name| !name.starts_with('.')) else {
            continue;
        };
        if path.is_dir() {
            read_folder(&path, &format!("{prefix}{name}/"), files)?;
        } else if name.ends_with(".txt") || name.ends_with(".html") {
            let text = fs::read_to_string(&path).map_err(|error| unreadable(&path, error))?;
            files.push((format!("{prefix}{name}"), text));
        }
    }
    Ok(())
}

/// A subject is one line: what would end it could begin another header field.
fn subject(text: String) -> Result<String, TemplateError> {
    let trimmed = text.trim();
    match trimmed {
        "" => Err(TemplateError::Subject("must not be empty")),
        _ if trimmed.chars().any(char::is_control) => {
            Err(TemplateError::Subject("must have no line breaks or other control characters"))
        }
        _ if trimmed.len() == text.len() => Ok(text),
        _ => Ok(trimmed.to_owned()),
    }
}

fn failed(file: &str, error: &minijinja::Error) -> TemplateError {
    let reason = match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    TemplateError::Failed {
        file: error.name().unwrap_or(file).to_owned(),
        line: error.line().unwrap_or_default(),
        reason: mask_text(&reason),
    }
}

/// What a template makes, up to a limit.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > LONGEST {
            return Err(io::Error::other("longer than 2 MB"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
