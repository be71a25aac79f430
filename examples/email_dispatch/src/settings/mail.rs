//! Where mails and SMS go, and when to try again.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use lettre::message::Mailbox;
use secrecy::SecretString;

use super::{
    Settings,
    value::{Address, duration},
};
use crate::{delivery::Protection, route::RetryRules};

/// The first mail server, and what both have in common.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Mail servers")]
pub struct Smtp {
    /// The mail server, smtp://user:password@host:587 (STARTTLS) or smtps://… (TLS from the beginning). Without: two mail
    /// servers in this process.
    #[arg(id = "smtp-url", value_name = "URL")]
    pub url: Option<Address>,
    /// Whom mails come from.
    #[arg(id = "smtp-sender", value_name = "ADDRESS", default_value = "Email Dispatch <noreply@example.com>")]
    pub sender: Mailbox,
    /// What this process calls itself to a mail server.
    #[arg(id = "smtp-hello-name", value_name = "NAME", default_value = "localhost")]
    pub hello_name: String,
    /// How long connecting may take, TLS included.
    #[arg(id = "smtp-connect-timeout", value_name = "TIME", value_parser = duration, default_value = "5s")]
    pub connect_timeout: Duration,
    /// How long the answer to a command may take.
    #[arg(id = "smtp-command-timeout", value_name = "TIME", value_parser = duration, default_value = "5s")]
    pub command_timeout: Duration,
    /// How long handing a mail over may take, and as long again the answer to its end, without which nobody knows whether
    /// it was taken.
    #[arg(id = "smtp-final-dot-timeout", value_name = "TIME", value_parser = duration, default_value = "15s")]
    pub final_dot_timeout: Duration,
    /// How many mails go over a connection before it is closed.
    #[arg(id = "smtp-mails-per-connection", value_name = "NUMBER", default_value_t = 50)]
    pub mails_per_connection: u32,
    /// How long a connection may lie idle and still be used. Less than the server's own limit.
    #[arg(id = "smtp-idle", value_name = "TIME", value_parser = duration, default_value = "30s")]
    pub idle: Duration,
    /// Certificates in PEM of the authorities that are trusted instead of the system's.
    #[arg(id = "smtp-ca-file", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// How many conversations there may be with the server at a time.
    #[arg(id = "smtp-connections", value_name = "NUMBER", default_value_t = 64)]
    pub connections: u32,
    /// How many mails a second the server wants at most. Without: as many as there are.
    #[arg(id = "smtp-mails-per-second", value_name = "NUMBER")]
    pub mails_per_second: Option<u32>,
    /// How long a mail may wait for one of them, before another server is asked. Shorter than smtp-breaker-slow, since the
    /// wait counts as the server's time.
    #[arg(id = "smtp-queue", value_name = "TIME", value_parser = duration, default_value = "2s")]
    pub queue: Duration,
    /// The longest time one mail may take. More than smtp-queue and the longest conversation that the time-outs allow:
    /// one connect time-out, five command time-outs, two final-dot time-outs.
    #[arg(id = "smtp-time-limit", value_name = "TIME", value_parser = duration, default_value = "75s")]
    pub time_limit: Duration,
    /// How long the server's breakers, once open, wait before they try it again.
    #[arg(id = "smtp-breaker-open", value_name = "TIME", value_parser = duration, default_value = "10s")]
    pub breaker_open: Duration,
    /// From which duration on a mail counts as slow.
    #[arg(id = "smtp-breaker-slow", value_name = "TIME", value_parser = duration, default_value = "5s")]
    pub breaker_slow: Duration,
    /// How many results the breakers look back on.
    #[arg(id = "smtp-breaker-window", value_name = "NUMBER", default_value_t = 50)]
    pub breaker_window: u32,
}

/// The second mail server. What is not set is as for the first.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Second mail server (what is not set is as for the first)")]
pub struct SecondSmtp {
    /// The mail server that is asked when the first cannot. Without, while the first is named: none.
    #[arg(id = "smtp-secondary-url", value_name = "URL")]
    pub url: Option<Address>,
    /// How many conversations there may be with it at a time.
    #[arg(id = "smtp-secondary-connections", value_name = "NUMBER")]
    pub connections: Option<u32>,
    /// How many mails a second it wants at most.
    #[arg(id = "smtp-secondary-mails-per-second", value_name = "NUMBER")]
    pub mails_per_second: Option<u32>,
    /// The longest time one mail may take, waiting for a conversation included.
    #[arg(id = "smtp-secondary-time-limit", value_name = "TIME", value_parser = duration)]
    pub time_limit: Option<Duration>,
    /// How long its breakers, once open, wait before they try it again.
    #[arg(id = "smtp-secondary-breaker-open", value_name = "TIME", value_parser = duration)]
    pub breaker_open: Option<Duration>,
    /// From which duration on a mail counts as slow.
    #[arg(id = "smtp-secondary-breaker-slow", value_name = "TIME", value_parser = duration)]
    pub breaker_slow: Option<Duration>,
    /// How many results its breakers look back on.
    #[arg(id = "smtp-secondary-breaker-window", value_name = "NUMBER")]
    pub breaker_window: Option<u32>,
}

/// The SMS gateway.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "SMS gateway")]
pub struct Sms {
    /// The gateway for what no mail server takes, http://… or https://…. Without: one in this process, from which nothing
    /// reaches a phone.
    #[arg(id = "sms-url", value_name = "URL")]
    pub url: Option<Address>,
    /// A file with the token that is sent as Authorization: Bearer. Or put it into the variable EMAIL_DISPATCH_SMS_TOKEN.
    /// Without: none is sent.
    #[arg(id = "sms-token-file", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// The token.
    #[arg(skip)]
    pub token: Option<SecretString>,
    /// How long its answer may take.
    #[arg(id = "sms-time-limit", value_name = "TIME", value_parser = duration, default_value = "10s")]
    pub time_limit: Duration,
}

/// What becomes of a mail that could not be sent.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Trying again")]
pub struct Again {
    /// How many attempts a request has in all.
    #[arg(id = "retry-attempts", value_name = "NUMBER", default_value_t = 3)]
    pub attempts: u32,
    /// How long priority NORMAL waits before the second attempt, and HIGH before the third; twice as long before each
    /// further one, at most 16 times as long.
    #[arg(id = "retry-delay", value_name = "TIME", value_parser = duration, default_value = "30s")]
    pub delay: Duration,
    /// How long a mail is held while the breakers of all mail servers are open, before it counts as not sent.
    #[arg(id = "retry-hold-limit", value_name = "TIME", value_parser = duration, default_value = "10m")]
    pub hold_limit: Duration,
}

impl Smtp {
    /// What is put around the first server.
    #[must_use]
    pub fn protection(&self) -> Protection {
        Protection {
            connections: self.connections,
            mails_per_second: self.mails_per_second,
            queue: self.queue,
            time_limit: self.time_limit,
            open: self.breaker_open,
            slow: self.breaker_slow,
            window: self.breaker_window,
            ..Protection::default()
        }
    }
}

impl Settings {
    /// What is put around the second server.
    #[must_use]
    pub fn second_protection(&self) -> Protection {
        let (first, second) = (self.smtp.protection(), &self.second);
        Protection {
            connections: second.connections.unwrap_or(first.connections),
            mails_per_second: second.mails_per_second.or(first.mails_per_second),
            time_limit: second.time_limit.unwrap_or(first.time_limit),
            open: second.breaker_open.unwrap_or(first.open),
            slow: second.breaker_slow.unwrap_or(first.slow),
            window: second.breaker_window.unwrap_or(first.window),
            ..first
        }
    }
}

impl Again {
    /// How often and how late to try again.
    #[must_use]
    pub fn rules(&self) -> RetryRules {
        RetryRules { max_attempts: self.attempts, delay: self.delay, ..RetryRules::default() }
    }
}
