//! Mail servers: conversations over pooled connections, and what each failure says about whom.
//!
//! An [`SmtpServer`] hands a [`Mail`] over that [`compose`] has made. What it answers is somebody's [`Fault`]:
//!
//! | what happens | whose it is |
//! |---|---|
//! | no connection, no answer in time before the final dot, 421 at any time, 4xx before `RCPT`, 554 to `RCPT` | [`Provider`](Fault::Provider) |
//! | a wrong certificate, no `STARTTLS` or `AUTH` where it is required, 5xx before `RCPT`, 530, 534, 535 | [`Refused`](Fault::Refused) |
//! | 452 4.5.3 | [`SessionLimit`](Fault::SessionLimit) |
//! | 4xx to `RCPT`; 4xx but 451 to the message | [`Deferred`](Fault::Deferred) |
//! | 451 to the message | [`DeferredByServer`](Fault::DeferredByServer) |
//! | 5xx but 554 to `RCPT` | [`Recipient`](Fault::Recipient) |
//! | 5xx to the message; a message that the server says it does not take | [`Message`](Fault::Message) |
//! | no answer to the final dot, or one that is neither yes nor no | [`Unknown`](Fault::Unknown) |

use std::{fmt, future::Future};

use lettre::address::Envelope;

mod address;
mod compose;
mod connection;
mod reply;
mod server;
mod settings;

pub(crate) use self::server::check_authorities;
pub use lettre::message::Mailbox;

pub use self::{
    address::{BadAddress, SmtpAddress, Tls},
    compose::{Uncomposable, compose, message_id},
    server::SmtpServer,
    settings::{SmtpFault, SmtpSettings},
};

/// A mail ready to go: whom to, and the octets of the message.
#[derive(Clone)]
pub struct Mail {
    /// From and to, for `MAIL` and `RCPT`.
    pub envelope: Envelope,
    /// The message with its header, CRLF line ends.
    pub message: bytes::Bytes,
}

impl fmt::Debug for Mail {
    /// Without what is personal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mail({} octets)", self.message.len())
    }
}

/// How far a conversation came. From [`FinalDot`](Self::FinalDot) on the server may have taken the mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The connection itself, TLS included.
    Connect,
    /// The greeting and `EHLO`.
    Greeting,
    /// `AUTH`.
    Auth,
    /// `MAIL FROM`.
    Mail,
    /// `RCPT TO`.
    Recipient,
    /// `DATA` and the message, until the dot that ends it has left.
    Data,
    /// The answer to that dot.
    FinalDot,
}

/// What a failure is about, which decides whether a breaker counts it and where the mail goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The server's own trouble, nothing was taken: another server may do. Counts.
    Provider,
    /// The server will not serve us at all (credentials, certificate, refused client): opens the breaker at once.
    Refused,
    /// The server wants this mail later, and it alone (greylisting, a full mailbox). Does not count.
    Deferred,
    /// The server wants this mail later for a reason of its own. Counts.
    DeferredByServer,
    /// The connection has carried as many mails as the server allows: the same server over a new one. Does not count.
    SessionLimit,
    /// The recipient does not exist or is not wanted. Permanent, does not count.
    Recipient,
    /// The message is not acceptable. Permanent, does not count.
    Message,
    /// No answer after the final dot: the mail may or may not have been taken. Counts.
    Unknown,
    /// Not sent: another worker has taken the work over. Does not count.
    Fenced,
    /// Not sent: the claim could not be written down before the mail was handed over. Does not count.
    Store,
}

/// Why a mail was not taken, without what is personal.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}{} at {stage:?}: {text}", .code.map(|code| code.to_string() + " ").unwrap_or_default(), .server)]
pub struct SendError {
    /// What it is about.
    pub fault: Fault,
    /// How far the conversation had come.
    pub stage: Stage,
    /// The server's reply code, if it gave one.
    pub code: Option<u16>,
    /// Which server.
    pub server: String,
    /// The reply's text or the error's, with addresses masked.
    pub text: String,
}

/// What a sender writes down around the moment from which on the server may take the mail.
pub trait Handover: Sync {
    /// Asked between `RCPT` and `DATA`, the last moment before the mail can be taken. An error ends the conversation
    /// before anything was handed over.
    fn hand_over(&self) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Told when the server has clearly not taken what was handed over, before anybody tries again.
    fn take_back(&self) -> impl Future<Output = ()> + Send;
}

/// A way to hand mails over: a mail server, or what stands in for one in a benchmark.
pub trait Transport: Send + Sync + 'static {
    /// Hands one mail over. `Ok` only after the server's positive reply to the final dot. `take_back` of the handover is
    /// the caller's to tell.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection. Whether the mail was taken is then unknown if `handover` had been
    /// asked, and it was not if it had not.
    fn send(&self, mail: &Mail, handover: &impl Handover) -> impl Future<Output = Result<(), SendError>> + Send;
}
