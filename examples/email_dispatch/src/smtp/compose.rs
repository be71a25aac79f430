//! Makes a mail of a request: header, text, HTML and attachments.

use std::str::FromStr;

use base64::Engine;
use bytes::Bytes;
use jiff::{Timestamp, fmt::rfc2822, tz::TimeZone};
use lettre::{
    Message,
    address::Envelope,
    message::{
        self, Attachment, Mailbox, MultiPart, SinglePart,
        header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue},
    },
};
use uuid::Uuid;

use super::Mail;
use crate::{
    personal::{BASE64, Recipient},
    request::EmailRequest,
    template::Rendered,
};

/// Why no mail can be made of a request, without what is personal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {rule}")]
pub struct Uncomposable {
    /// Which field of the request.
    pub field: String,
    /// What it must be.
    pub rule: &'static str,
}

/// The `Message-ID` of a request's mail: the same whenever and wherever it is sent, so that a double is seen.
#[must_use]
pub fn message_id(id: Uuid, domain: &str) -> String {
    format!("<{id}@{domain}>")
}

/// Makes the mail of a request that has been rendered. `sender` is who it is from, and answers go to.
///
/// It carries the request's own date, and a `Message-ID` of the request's id and the sender's domain. HTML goes with a
/// text alternative, attachments follow both. Whatever a field says stays in its own line of the header, and the whole is
/// in ASCII with lines that every server takes.
///
/// # Errors
/// Which field cannot be part of a mail. A request that passed the door has none.
pub fn compose(
    request: &EmailRequest,
    rendered: &Rendered,
    recipient: &Recipient,
    sender: &Mailbox,
) -> Result<Mail, Uncomposable> {
    let wrong = |field: &str, rule| Uncomposable { field: field.to_owned(), rule };
    if rendered.subject.chars().any(char::is_control) {
        return Err(wrong("subject", "must have no line breaks or other control characters"));
    }
    let date = Timestamp::from_str(&request.timestamp)
        .ok()
        .and_then(|timestamp| rfc2822::to_string(&timestamp.to_zoned_datetime(TimeZone::UTC)).ok())
        .ok_or_else(|| wrong("timestamp", "must be a moment of the years 0 to 9999 (RFC 3339)"))?;
    let message = Message::builder()
        .from(sender.clone())
        .to(Mailbox::new(None, recipient.expose().clone()))
        .subject(rendered.subject.as_str())
        .message_id(Some(message_id(request.id, sender.email.domain())));

    let message = if request.attachments.is_empty() {
        match body(rendered) {
            Body::Single(part) => message.singlepart(part),
            Body::Alternatives(parts) => message.multipart(parts),
        }
    } else {
        let mixed = match body(rendered) {
            Body::Single(part) => MultiPart::mixed().singlepart(part),
            Body::Alternatives(parts) => MultiPart::mixed().multipart(parts),
        };
        let parts = request.attachments.iter().enumerate();
        let mixed = parts.map(|(index, file)| (index, attachment(file))).try_fold(mixed, |mixed, (index, part)| {
            let (field, rule) = match part {
                Ok(part) => return Ok(mixed.singlepart(part)),
                Err(wrong) => wrong,
            };
            Err(wrong(&format!("attachments[{index}].{field}"), rule))
        })?;
        message.multipart(mixed)
    };
    let mut message: Message = message.map_err(|_| wrong("request", "must make a mail"))?;
    // Only now: the builder takes no date before 1970.
    message.headers_mut().insert_raw(HeaderValue::new(HeaderName::new_from_ascii_str("Date"), date));
    let envelope = Envelope::new(Some(sender.email.clone()), vec![recipient.expose().clone()])
        .map_err(|_| wrong("to", "must be given"))?;
    // To the size, since there may be thousands: it was written into a buffer that doubles.
    Ok(Mail { envelope, message: Bytes::from(message.formatted().into_boxed_slice()) })
}

#[allow(clippy::large_enum_variant)] // it lives for a moment
enum Body {
    Single(SinglePart),
    Alternatives(MultiPart),
}

fn body(rendered: &Rendered) -> Body {
    match (&rendered.text, &rendered.html) {
        (Some(text), Some(html)) => {
            Body::Alternatives(MultiPart::alternative_plain_html(in_lines(text), in_lines(html)))
        }
        (None, Some(html)) => Body::Single(SinglePart::html(in_lines(html))),
        (text, None) => Body::Single(SinglePart::plain(in_lines(text.as_deref().unwrap_or_default()))),
    }
}

/// A text whose lines all end with LF, which is sent as CRLF. A CR that stands alone may be a line end to one server and
/// not to the next, and NUL is no text at all.
fn in_lines(text: &str) -> String {
    if !text.contains(['\r', '\0']) {
        return text.to_owned();
    }
    text.replace("\r\n", "\n").replace('\r', "\n").replace('\0', "")
}

fn attachment(file: &crate::request::Attachment) -> Result<SinglePart, (&'static str, &'static str)> {
    if file.name.chars().any(char::is_control) {
        return Err(("name", "must have no control characters"));
    }
    let content_type =
        ContentType::parse(&file.media_type).map_err(|_| ("type", "must be a media type like application/pdf"))?;
    let data = BASE64.decode(&file.data).map_err(|_| ("data", "must be base64"))?;
    // A file is sent as it is, also one that looks like text, whose line ends would be changed on the way.
    let data = message::Body::new_with_encoding(data, ContentTransferEncoding::Base64)
        .map_err(|_| ("data", "must be fit for base64"))?;
    Ok(Attachment::new(file.name.clone()).body(data, content_type))
}
