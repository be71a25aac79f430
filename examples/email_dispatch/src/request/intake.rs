//! Reads a request from JSON, and names every fault of one that is none.

use std::{fmt, io, str::FromStr};

use base64::Engine;
use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{Attachment, ContentType, EmailRequest, Kind, Priority};
use crate::{
    personal::{BASE64, Keys, Phone, Recipient, Unreadable, mask_text},
    template::{Rendered, TemplateError, Templates},
};

/// Where a request comes from, which decides how it may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Over HTTP or from our own command line: an address may be plain, and is encrypted here; an id may be missing.
    Http,
    /// From a topic, where nothing personal may be plain, and whoever wrote the record has given it an id.
    Topic,
}

/// How large a request may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// All of it as JSON, in bytes. Default: 900,000, which leaves room for headers in the 1 MB that a Kafka broker
    /// takes by default.
    pub request: usize,
    /// The subject, in characters. Default: 250.
    pub subject: usize,
    /// How many attachments. Default: 20.
    pub attachments: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { request: 900_000, subject: 250, attachments: 20 }
    }
}

/// One thing that is wrong with a request, in words that give nothing personal away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Which field, such as `attachments[1].type`; `request` for all of it.
    pub field: String,
    /// What was found there, shortened and masked; empty if there was nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// What should have been.
    pub rule: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value.as_str() {
            "" => write!(f, "{} {}", self.field, self.rule),
            value => write!(f, "{} {} (found: {value})", self.field, self.rule),
        }
    }
}

/// Everything that is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// Its id, if that was readable.
    pub id: Option<Uuid>,
    /// At least one.
    pub faults: Vec<Fault>,
}

impl Faults {
    /// A worker panicked over a request that seemed valid.
    pub(crate) fn of_a_panic(id: Uuid) -> Self {
        let rule = "must not make a worker panic".to_owned();
        Self { id: Some(id), faults: vec![Fault { field: "request".to_owned(), value: String::new(), rule }] }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            write!(f, "{}{fault}", if index == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// A request as a worker needs it: whom it is for, readable, and what it says.
#[derive(Clone, Debug)]
pub struct Opened {
    /// What was asked for.
    pub request: EmailRequest,
    /// Whom to send to.
    pub to: Option<Recipient>,
    /// Where to send an SMS.
    pub phone: Option<Phone>,
    /// What it says.
    pub rendered: Rendered,
}

/// The door: what passes it can be decrypted, rendered and published.
#[derive(Clone, Debug)]
pub struct Intake {
    keys: Keys,
    templates: Templates,
    limits: Limits,
}

impl Intake {
    /// A door with these keys and templates.
    #[must_use]
    pub fn new(keys: Keys, templates: Templates, limits: Limits) -> Self {
        Self { keys, templates, limits }
    }

    /// Reads a request. Unknown fields are ignored, and `null` is a missing field. Without them the kind is
    /// NOTIFICATION, the priority NORMAL, the content type TEXT and the timestamp `now_ms`, milliseconds since 1970.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(&self, json: &[u8], origin: Origin, now_ms: i64) -> Result<EmailRequest, Faults> {
        self.read(json, origin, now_ms).map(|opened| opened.request)
    }

    /// Reads a request from a topic as [`parse`](Self::parse) does, and keeps what a worker would have to decrypt and
    /// render again.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn open(&self, json: &[u8], now_ms: i64) -> Result<Opened, Faults> {
        let opened = self.read(json, Origin::Topic, now_ms)?;
        Ok(Opened { rendered: opened.rendered.with_text(), ..opened })
    }

    /// Without a text made from HTML, which takes longer than all else.
    fn read(&self, json: &[u8], origin: Origin, now_ms: i64) -> Result<Opened, Faults> {
        let mut found = Found::default();
        if json.len() > self.limits.request {
            found.note("request", format!("{} bytes", json.len()), self.size_rule());
            return Err(found.into_faults(None));
        }
        found.fields = match serde_json::from_slice(json) {
            Ok(Value::Object(fields)) => fields,
            Ok(other) => {
                found.note("request", shown(&other), "must be a JSON object");
                return Err(found.into_faults(None));
            }
            Err(error) => {
                found.note("request", String::new(), format!("must be JSON: {error}"));
                return Err(found.into_faults(None));
            }
        };

        let id = found.id(origin);
        let to = found.personal("to", |found, to| self.address(found, origin, to));
        let phone = found.personal("phone", |found, phone| self.phone(found, origin, phone));
        if to.is_missing() && phone.is_missing() {
            found.note("to", String::new(), "must be given, or phone");
        }
        let (to_encrypted, to) = to.value().unzip();
        let (phone_encrypted, phone) = phone.value().unzip();
        let request = EmailRequest {
            id: id.unwrap_or_default(),
            to: to_encrypted,
            phone: phone_encrypted,
            subject: found.subject(self.limits.subject),
            content: found.text("content"),
            template: found.text("template"),
            variables: found.variables(),
            content_type: found.one_of("contentType", ContentType::Text, "must be TEXT or HTML"),
            attachments: found.attachments(self.limits.attachments),
            kind: found.one_of("kind", Kind::Notification, "must be TRANSACTIONAL, MARKETING or NOTIFICATION"),
            priority: found.one_of("priority", Priority::Normal, "must be HIGH, NORMAL or LOW"),
            timestamp: found.timestamp(now_ms),
        };
        let rendered = self.rendered(&request, &mut found);
        // Written again a request can be longer than it came, 1E9 as 1000000000.0.
        if let Some(rendered) = rendered.filter(|_| found.faults.is_empty()) {
            let size = written_size(&request);
            if size <= self.limits.request {
                return Ok(Opened { request, to, phone, rendered });
            }
            found.note("request", format!("{size} bytes"), self.size_rule());
        }
        Err(found.into_faults(id))
    }

    fn size_rule(&self) -> String {
        format!("must be at most {} bytes of JSON", self.limits.request)
    }

    /// The address, encrypted and not.
    fn address(&self, found: &mut Found, origin: Origin, to: &str) -> Option<(String, Recipient)> {
        // There is no @ in base64.
        if !to.contains('@') {
            return match self.keys.decrypt_address(to) {
                Ok(recipient) => Some((to.trim().to_owned(), recipient)),
                Err(Unreadable::NotBase64 | Unreadable::TooShort) if origin == Origin::Http => {
                    found.fault("to", length_of(to), "must be an address, name@domain, or an encrypted one")
                }
                Err(error) => found.fault("to", length_of(to), error.to_string()),
            };
        }
        match (origin, Recipient::parse(to)) {
            (Origin::Topic, _) => found.fault("to", mask_text(to), "must be encrypted on a topic"),
            (Origin::Http, Ok(recipient)) => Some((self.keys.encrypt(recipient.expose().as_ref()), recipient)),
            (Origin::Http, Err(error)) => found.fault("to", mask_text(to), error.to_string()),
        }
    }

    /// The phone number, encrypted and not.
    fn phone(&self, found: &mut Found, origin: Origin, phone: &str) -> Option<(String, Phone)> {
        // An encrypted number is longer than any plain one, and 48 characters of base64 have a letter among them.
        let plain = phone.len() < 40 && !phone.chars().any(char::is_alphabetic);
        if !plain {
            return match self.keys.decrypt_phone(phone) {
                Ok(number) => Some((phone.trim().to_owned(), number)),
                Err(error) => found.fault("phone", length_of(phone), error.to_string()),
            };
        }
        match (origin, Phone::parse(phone)) {
            (Origin::Topic, _) => found.fault("phone", length_of(phone), "must be encrypted on a topic"),
            (Origin::Http, Ok(number)) => Some((self.keys.encrypt(number.expose()), number)),
            (Origin::Http, Err(error)) => found.fault("phone", length_of(phone), error.to_string()),
        }
    }

    /// Content or template, rendered: better a fault here than in a worker. What depends on something faulty is not
    /// looked at, and everything else is.
    fn rendered(&self, request: &EmailRequest, found: &mut Found) -> Option<Rendered> {
        let has_template = request.template.is_some() || found.has_fault("template");
        let has_content = request.content.is_some() || found.has_fault("content");
        match (has_content, has_template) {
            (true, true) => found.note("template", String::new(), "must not be given beside content"),
            (false, false) => found.note("content", String::new(), "must be given, or template"),
            (true, false) if !request.variables.is_empty() => {
                found.note("variables", String::new(), "must not be given without a template");
            }
            _ => {}
        }
        if request.content.as_ref().is_some_and(|content| content.trim().is_empty()) {
            found.note("content", String::new(), "must not be empty");
        }
        if let Some(name) = &request.template
            && !self.templates.names().any(|known| known == name)
        {
            let known = self.templates.names().collect::<Vec<_>>().join(", ");
            found.note("template", shortened(name), format!("must be one of {known}"));
        }
        let takes_variables = request.template.is_some() && found.has_fault("variables");
        let takes_template = request.subject.is_empty() && found.has_fault("template");
        let subject = match found.has_fault("subject") || takes_variables || takes_template {
            true => None,
            false => found.filled(&request.subject, self.templates.subject(request)),
        };
        let (text, html) = match ["content", "template", "variables"].iter().any(|field| found.has_fault(field)) {
            true => None,
            false => found.filled(&request.subject, self.templates.body(request)),
        }?;
        Some(Rendered { subject: subject?, text, html })
    }
}

/// A field that may be missing, or there and wrong.
enum Field<T> {
    Missing,
    Wrong,
    Right(T),
}

impl<T> Field<T> {
    fn is_missing(&self) -> bool {
        matches!(self, Self::Missing)
    }

    fn value(self) -> Option<T> {
        match self {
            Self::Right(value) => Some(value),
            Self::Missing | Self::Wrong => None,
        }
    }
}

/// The fields not yet read, and what was wrong with those that were.
#[derive(Default)]
struct Found {
    fields: Map<String, Value>,
    faults: Vec<Fault>,
}

impl Found {
    fn note(&mut self, field: impl Into<String>, value: String, rule: impl Into<String>) {
        self.faults.push(Fault { field: field.into(), value, rule: rule.into() });
    }

    /// Notes a fault, and is `None`, whatever was asked for.
    fn fault<T>(&mut self, field: &str, value: String, rule: impl Into<String>) -> Option<T> {
        self.note(field, value, rule);
        None
    }

    /// What a template has made, or the fault that kept it from that.
    fn filled<T>(&mut self, subject: &str, made: Result<T, TemplateError>) -> Option<T> {
        let error = match made {
            Ok(made) => return Some(made),
            Err(error) => error,
        };
        match &error {
            TemplateError::SubjectSyntax => self.fault(
                "subject",
                String::new(),
                "may have variables like {{ name }} and nothing else of a template",
            ),
            TemplateError::Subject(rule) => self.fault("subject", shortened(subject), *rule),
            TemplateError::Failed { file, .. } if file == "subject" => {
                self.fault("subject", String::new(), format!("must render: {error}"))
            }
            _ => self.fault("variables", String::new(), format!("must fill the template: {error}")),
        }
    }

    fn has_fault(&self, field: &str) -> bool {
        self.faults.iter().any(|fault| fault.field == field)
    }

    fn into_faults(self, id: Option<Uuid>) -> Faults {
        Faults { id, faults: self.faults }
    }

    fn take(&mut self, field: &str) -> Option<Value> {
        self.fields.remove(field).filter(|value| !value.is_null())
    }

    fn text(&mut self, field: &str) -> Option<String> {
        match self.take(field)? {
            Value::String(text) => Some(text),
            other => self.fault(field, shown(&other), "must be text"),
        }
    }

    fn id(&mut self, origin: Origin) -> Option<Uuid> {
        match (self.take("id"), origin) {
            (None, Origin::Http) => Some(Uuid::new_v4()),
            (None, Origin::Topic) => self.fault("id", String::new(), "must be given"),
            (Some(value), _) => match value.as_str().map(Uuid::parse_str) {
                Some(Ok(id)) => Some(id),
                _ => self.fault("id", shown(&value), "must be a UUID"),
            },
        }
    }

    /// A field whose value is never shown.
    fn personal<T>(&mut self, field: &str, read: impl FnOnce(&mut Self, &str) -> Option<T>) -> Field<T> {
        let right = match self.take(field) {
            None => return Field::Missing,
            Some(Value::String(text)) => read(self, &text),
            Some(_) => self.fault(field, String::new(), "must be text"),
        };
        right.map_or(Field::Wrong, Field::Right)
    }

    fn subject(&mut self, longest: usize) -> String {
        let subject = self.text("subject").unwrap_or_default();
        let length = subject.chars().count();
        if length > longest {
            self.note("subject", format!("{length} characters"), format!("must have at most {longest} characters"));
        }
        subject
    }

    fn variables(&mut self) -> Map<String, Value> {
        match self.take("variables") {
            None => Map::new(),
            Some(Value::Object(variables)) => variables,
            Some(other) => self.fault("variables", shown(&other), "must be a JSON object").unwrap_or_default(),
        }
    }

    /// A word in any case.
    fn one_of<T: DeserializeOwned>(&mut self, field: &str, default: T, rule: &str) -> T {
        let Some(value) = self.take(field) else { return default };
        let word = value.as_str().map(|word| Value::String(word.to_ascii_uppercase()));
        match word.map(serde_json::from_value) {
            Some(Ok(known)) => known,
            _ => self.fault(field, shown(&value), rule).unwrap_or(default),
        }
    }

    fn timestamp(&mut self, now_ms: i64) -> String {
        let given = match self.take("timestamp") {
            None => Timestamp::from_millisecond(now_ms).ok(),
            Some(value) => match value.as_str().map(Timestamp::from_str) {
                Some(Ok(timestamp)) => Some(timestamp),
                _ => self.fault("timestamp", shown(&value), "must be a moment like 2026-01-31T12:00:00Z (RFC 3339)"),
            },
        };
        given.unwrap_or_default().to_string()
    }

    fn attachments(&mut self, most: usize) -> Vec<Attachment> {
        let attachments = match self.take("attachments") {
            None => return Vec::new(),
            Some(Value::Array(attachments)) => attachments,
            Some(other) => {
                return self.fault("attachments", shown(&other), "must be a list").unwrap_or_default();
            }
        };
        if attachments.len() > most {
            self.note("attachments", attachments.len().to_string(), format!("must be at most {most}"));
        }
        // No more, or a small request could have a hundred thousand faults.
        let looked_at = attachments.into_iter().take(most).enumerate();
        looked_at.filter_map(|(index, value)| self.attachment(&format!("attachments[{index}]"), value)).collect()
    }

    fn attachment(&mut self, field: &str, value: Value) -> Option<Attachment> {
        let mut parts = match value {
            Value::Object(parts) => parts,
            other => return self.fault(field, shown(&other), "must be an object with name, type and data"),
        };
        let mut part = |name: &str, fits: &dyn Fn(&str) -> bool, shown_as: fn(&str) -> String, rule: &str| {
            let field = format!("{field}.{name}");
            match parts.remove(name) {
                Some(Value::String(text)) if fits(&text) => Some(text),
                Some(Value::String(text)) => self.fault(&field, shown_as(&text), rule),
                None | Some(Value::Null) => self.fault(&field, String::new(), "must be given"),
                Some(other) => self.fault(&field, shown(&other), "must be text"),
            }
        };
        let rule = "must be a file name of at most 120 characters, without / and \\";
        let name = part("name", &is_file_name, shortened, rule);
        let media_type = part("type", &is_media_type, shortened, "must be a media type like application/pdf");
        let data = part("data", &|data| BASE64.decode(data).is_ok(), length_of, "must be base64");
        Some(Attachment { name: name?, media_type: media_type?, data: data? })
    }
}

fn is_file_name(text: &str) -> bool {
    let fits = !text.is_empty() && text.chars().count() <= 120;
    fits && !text.chars().any(|c| c.is_control() || "/\\".contains(c))
}

/// `type/subtype` without parameters, both tokens of RFC 2045.
fn is_media_type(text: &str) -> bool {
    let token = |part: &str| {
        !part.is_empty()
            && part.len() <= 100
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "!#$&^_.+-".contains(c))
    };
    text.split_once('/').is_some_and(|(main, sub)| token(main) && token(sub))
}

fn written_size(request: &EmailRequest) -> usize {
    struct Counter(usize);

    impl io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let mut counter = Counter(0);
    match serde_json::to_writer(&mut counter, request) {
        Ok(()) => counter.0,
        Err(_) => usize::MAX,
    }
}

/// A value as a fault shows it.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => shortened(text),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        other => shortened(&other.to_string()),
    }
}

fn shortened(text: &str) -> String {
    const LONGEST: usize = 40;
    // Of a long text only the beginning is masked; half an address at its end is cut off with what follows it.
    let beginning: String = text.chars().take(LONGEST * 8).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let masked = mask_text(&beginning);
    match masked.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &masked[..end]),
        None => masked,
    }
}

fn length_of(text: &str) -> String {
    format!("{} characters", text.chars().count())
}
