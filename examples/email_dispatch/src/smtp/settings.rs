//! How a mail server is spoken to.

use std::{path::PathBuf, time::Duration};

use super::SmtpAddress;

/// What there is to set about one mail server.
#[derive(Clone, Debug)]
pub struct SmtpSettings {
    /// Where it is.
    pub address: SmtpAddress,
    /// What we call ourselves in `EHLO`: this machine's public name. Default: `[127.0.0.1]`.
    pub hello: String,
    /// A PEM file with the certificates of authorities to trust instead of the system's. Default: none.
    pub ca_file: Option<PathBuf>,
    /// How long connecting may take, name look-up and immediate TLS included. Default: 5 s.
    pub connect_timeout: Duration,
    /// How long the greeting with `EHLO` and `STARTTLS` may take, and each of `AUTH`, `MAIL`, `RCPT` and `DATA`. RFC 5321
    /// wants 5 min of a server that relays for others. Default: 5 s.
    pub command_timeout: Duration,
    /// How long handing the message over may take, and as long again the answer to its final dot. The longest of all,
    /// since a mail without that answer is in doubt. RFC 5321 wants 10 min. Default: 15 s.
    pub final_dot_timeout: Duration,
    /// How many mails go over one connection before it is replaced, at least 1. Servers have limits of their own.
    /// Default: 50.
    pub mails_per_connection: u32,
    /// How long a connection may lie idle and still be used. Less than the server's own limit. Default: 30 s.
    pub idle: Duration,
}

impl SmtpSettings {
    /// The default settings for a server.
    #[must_use]
    pub fn new(address: SmtpAddress) -> Self {
        Self {
            address,
            hello: "[127.0.0.1]".to_owned(),
            ca_file: None,
            connect_timeout: Duration::from_secs(5),
            command_timeout: Duration::from_secs(5),
            final_dot_timeout: Duration::from_secs(15),
            mails_per_connection: 50,
            idle: Duration::from_secs(30),
        }
    }

    /// The longest time one mail to one recipient can take, all time-outs together. A limit around it should be longer.
    #[must_use]
    pub fn longest_conversation(&self) -> Duration {
        // Greeting, AUTH, MAIL, RCPT, DATA.
        let commands = self.command_timeout.saturating_mul(5);
        self.connect_timeout.saturating_add(commands).saturating_add(self.final_dot_timeout.saturating_mul(2))
    }
}

/// Why there is no such mail server.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SmtpFault {
    /// A setting cannot be.
    #[error("{server}: {field} {rule}")]
    Setting {
        /// Which server's.
        server: String,
        /// Which one.
        field: &'static str,
        /// What it must be.
        rule: &'static str,
    },
    /// The file of authorities cannot be used.
    #[error("{server}: {}: {reason}", path.display())]
    Authorities {
        /// Which server's.
        server: String,
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The system has no authorities to trust.
    #[error("{server}: no certificate of an authority was found on this system: {reason}")]
    NoAuthorities {
        /// Which server's.
        server: String,
        /// Why.
        reason: String,
    },
}
