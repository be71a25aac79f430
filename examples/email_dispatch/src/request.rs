//! What is asked for: one mail to one person.
//!
//! [`Intake`] makes an [`EmailRequest`] of what somebody sent, or names everything that is wrong with it at once.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::personal::{Keys, Unreadable};

mod intake;

pub use self::intake::{Fault, Faults, Intake, Limits, Opened, Origin};

/// What the mail is about, which decides who is refused first when a mail server suffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Kind {
    /// A password, a receipt: refused last.
    Transactional,
    /// Refused first.
    Marketing,
    /// News about something of the recipient's.
    Notification,
}

impl Kind {
    /// Its name in JSON, in the database and for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Transactional => "TRANSACTIONAL",
            Self::Marketing => "MARKETING",
            Self::Notification => "NOTIFICATION",
        }
    }
}

/// How much a failure matters, which decides what happens then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Priority {
    /// Tried again at once, with an alert and a copy in a file.
    High,
    /// Tried again later.
    Normal,
    /// Given up.
    Low,
}

impl Priority {
    /// Its name in JSON, in the database and for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::High => "HIGH",
            Self::Normal => "NORMAL",
            Self::Low => "LOW",
        }
    }
}

/// How `content` is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ContentType {
    /// Plain text.
    Text,
    /// HTML, sent with a text alternative made from it.
    Html,
}

/// A file that goes with the mail.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Its file name.
    pub name: String,
    /// Its media type, such as `application/pdf`.
    #[serde(rename = "type")]
    pub media_type: String,
    /// Its content in base64.
    pub data: String,
}

impl fmt::Debug for Attachment {
    /// Without its name and content, which are the recipient's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Attachment({}, {} characters)", self.media_type, self.data.len())
    }
}

/// One valid request, as it is on a topic and in the outbox: addresses are encrypted.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EmailRequest {
    /// The caller's name for it: the same request asked for twice is sent once.
    pub id: Uuid,
    /// Whom to send to, encrypted. Without it the request goes out by SMS alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Where to send an SMS when no mail can be sent, encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
    /// The subject. With a `template` it may hold variables, `{{ name }}`, and an empty one takes the template's own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// The text as it is sent, or a template's name in `template`: exactly one of the two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// The name of a template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// What the template is filled with.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub variables: serde_json::Map<String, serde_json::Value>,
    /// How `content` is written.
    pub content_type: ContentType,
    /// Files that go with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
    /// What it is about.
    pub kind: Kind,
    /// How much a failure matters.
    pub priority: Priority,
    /// When it was asked for, RFC 3339.
    pub timestamp: String,
}

impl EmailRequest {
    /// The key of its records: a pseudonym of whom it is for, so that order holds per person.
    ///
    /// # Errors
    /// When the address was not encrypted with one of the keys.
    pub fn record_key(&self, keys: &Keys) -> Result<Option<String>, Unreadable> {
        Ok(match (&self.to, &self.phone) {
            (Some(to), _) => Some(keys.pseudonym(&keys.decrypt_address(to)?.normalised())),
            (None, Some(phone)) => Some(keys.pseudonym(keys.decrypt_phone(phone)?.expose())),
            (None, None) => None,
        })
    }
}

impl fmt::Debug for EmailRequest {
    /// Without whom it is for and what it says.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmailRequest")
            .field("id", &self.id)
            .field("kind", &self.kind)
            .field("priority", &self.priority)
            .field("template", &self.template)
            .field("timestamp", &self.timestamp)
            .finish_non_exhaustive()
    }
}
