//! What a mail server's answer says about whom.

use std::{io, time::Duration};

use lettre::transport::smtp::response::Response;

use super::{Fault, Stage};
use crate::personal::mask_text;

/// The longest text of a server that is passed on, in characters.
const LONGEST: usize = 200;

/// Why a conversation ended without success.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) fault: Fault,
    pub(super) stage: Stage,
    pub(super) code: Option<u16>,
    pub(super) text: String,
    /// The other side has closed the connection, or something between has.
    pub(super) is_closed: bool,
}

impl Failure {
    pub(super) fn new(fault: Fault, stage: Stage, text: impl Into<String>) -> Self {
        Self { fault, stage, code: None, text: text.into(), is_closed: false }
    }

    /// No answer in time. After the final dot the mail is in doubt.
    pub(super) fn timed_out(stage: Stage, limit: Duration) -> Self {
        Self::new(silence(stage), stage, format!("no answer within {limit:?}"))
    }

    /// The connection broke, or the other side does not speak SMTP.
    pub(super) fn broken(stage: Stage, error: &io::Error) -> Self {
        let is_closed = error.kind() != io::ErrorKind::InvalidData;
        Self { is_closed, ..Self::new(silence(stage), stage, bounded(&error.to_string())) }
    }

    /// The server said something else than what was hoped for.
    pub(super) fn reply(stage: Stage, reply: &Response) -> Self {
        let code = u16::from(reply.code());
        let mut text = String::new();
        for line in reply.message() {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(line);
        }
        Self { fault: fault_of(stage, code, &text), stage, code: Some(code), text: bounded(&text), is_closed: false }
    }
}

/// What it means to hear nothing.
fn silence(stage: Stage) -> Fault {
    if stage == Stage::FinalDot { Fault::Unknown } else { Fault::Provider }
}

/// What a reply means that is not the hoped-for one.
fn fault_of(stage: Stage, code: u16, text: &str) -> Fault {
    match (stage, code) {
        // Neither yes nor no: an answer to something else, or to nobody.
        (_, ..400) => silence(stage),
        // It closes the connection, whatever was asked.
        (_, 421) => Fault::Provider,
        (Stage::Mail | Stage::Recipient | Stage::Data, 452) if text.contains("4.5.3") => Fault::SessionLimit,
        // It wants TLS, another login or a stronger one.
        (_, 530 | 534 | 535 | 538) => Fault::Refused,
        (Stage::Connect | Stage::Greeting | Stage::Auth | Stage::Mail, 400..500) => Fault::Provider,
        // The sender is ours and always the same; only the announced size is this mail's.
        (Stage::Mail, 552) => Fault::Message,
        (Stage::Connect | Stage::Greeting | Stage::Auth | Stage::Mail, _) => Fault::Refused,
        (Stage::Recipient, 400..500) => Fault::Deferred,
        // Some say so of a client they do not relay for or have on a list, others of a recipient: no mail is given up
        // for it, and no breaker opened by a single one.
        (Stage::Recipient, 554) => Fault::Provider,
        (Stage::Recipient, _) => Fault::Recipient,
        (Stage::Data | Stage::FinalDot, 451) => Fault::DeferredByServer,
        (Stage::Data | Stage::FinalDot, 400..500) => Fault::Deferred,
        (Stage::Data | Stage::FinalDot, _) => Fault::Message,
    }
}

/// A text without the name of a mailbox, which servers like to repeat without its domain. One that is so short that it
/// could be part of any word stays.
pub(super) fn without(text: &str, mailbox: &str) -> String {
    if mailbox.len() < 3 || !mailbox.is_ascii() {
        return text.to_owned();
    }
    let (lower, mailbox) = (text.to_ascii_lowercase(), mailbox.to_ascii_lowercase());
    let mut shown = String::with_capacity(text.len());
    let mut end = 0;
    for (start, _) in lower.match_indices(&mailbox) {
        shown.push_str(&text[end..start]);
        shown.push_str("***");
        end = start + mailbox.len();
    }
    shown.push_str(&text[end..]);
    shown
}

/// What others say, without what is personal, in one line and not too long.
pub(super) fn bounded(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut masked = mask_text(&line);
    if let Some((end, _)) = masked.char_indices().nth(LONGEST) {
        masked.truncate(end);
        masked.push('…');
    }
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mailbox_that_a_server_repeats_is_not_shown() {
        assert_eq!(without("5.1.1 user Anna.Smith unknown", "anna.smith"), "5.1.1 user *** unknown");
        assert_eq!(without("anna.smith: no such anna.smith", "anna.smith"), "***: no such ***");
        assert_eq!(without("größer als anna.smith", "anna.smith"), "größer als ***");
        assert_eq!(without("no such user", "us"), "no such user");
    }
}
