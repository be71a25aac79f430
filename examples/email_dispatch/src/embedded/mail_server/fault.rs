//! What can go wrong at a mail server.

use std::{fmt, time::Duration};

/// What an embedded mail server does wrong.
#[derive(Clone, Default)]
pub enum MailFault {
    /// Nothing.
    #[default]
    None,
    /// It is down: its port is closed and so are its connections, once each has answered the mail that it is taking.
    Down,
    /// Says this code instead of greeting, and closes.
    Greeting(u16),
    /// Greets only after that long.
    SlowGreeting(Duration),
    /// Says this code to `EHLO`.
    Hello(u16),
    /// Says this code to `MAIL`.
    Sender(u16),
    /// Says this code to `RCPT`, for that many of a hundred recipients: always the same ones.
    Recipient {
        /// The code.
        code: u16,
        /// How many of a hundred.
        percent: u8,
    },
    /// Says this code to `RCPT` for recipients of which the function says so.
    RecipientIf {
        /// The code.
        code: u16,
        /// Told the address.
        matches: fn(&str) -> bool,
    },
    /// Never answers `RCPT`.
    HangAtRecipient,
    /// Says this code to `DATA`.
    Data(u16),
    /// Closes the connection as soon as the message's header has come. The client may have sent the rest, dot and all.
    DropMidData,
    /// Says this code to the final dot.
    EndOfData(u16),
    /// Answers the final dot only after that long.
    SlowEndOfData(Duration),
    /// Never answers the final dot, and has taken the mail.
    HangAfterFinalDot,
    /// Takes the mail, and closes the connection instead of saying so.
    DropStored,
    /// Closes the connection at the final dot, without having taken the mail.
    DropUnstored,
    /// Refuses further mails on a connection that has carried that many, with 452 4.5.3.
    SessionLimit(u32),
    /// Answers everything after the greeting with what is not SMTP.
    Garbage,
}

impl fmt::Debug for MailFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Down => f.write_str("down"),
            Self::Greeting(code) => write!(f, "{code} instead of a greeting"),
            Self::SlowGreeting(time) => write!(f, "greeting after {time:?}"),
            Self::Hello(code) => write!(f, "{code} to EHLO"),
            Self::Sender(code) => write!(f, "{code} to MAIL"),
            Self::Recipient { code, percent } => write!(f, "{code} to {percent} % of RCPT"),
            Self::RecipientIf { code, .. } => write!(f, "{code} to some RCPT"),
            Self::HangAtRecipient => f.write_str("no answer to RCPT"),
            Self::Data(code) => write!(f, "{code} to DATA"),
            Self::DropMidData => f.write_str("closes during DATA"),
            Self::EndOfData(code) => write!(f, "{code} to the final dot"),
            Self::SlowEndOfData(time) => write!(f, "answers the final dot after {time:?}"),
            Self::HangAfterFinalDot => f.write_str("no answer to the final dot"),
            Self::DropStored => f.write_str("closes after the final dot, mail taken"),
            Self::DropUnstored => f.write_str("closes after the final dot, mail not taken"),
            Self::SessionLimit(mails) => write!(f, "{mails} mails a connection"),
            Self::Garbage => f.write_str("garbage"),
        }
    }
}
