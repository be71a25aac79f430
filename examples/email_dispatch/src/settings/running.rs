//! What people see of the service, and its end.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;
use secrecy::SecretString;

use super::value::{Address, duration, one_of};

/// The HTTP door.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "HTTP")]
pub struct Http {
    /// Where requests, health and breakers are served; port 0 takes a free one.
    #[arg(id = "http-listen", value_name = "IP:PORT", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// How many connections there may be; more wait until one ends.
    #[arg(id = "http-connections", value_name = "NUMBER", default_value_t = 512)]
    pub connections: u32,
    /// How long the head of a request may take, and its body again; a connection may be idle for as long.
    #[arg(id = "http-read-time", value_name = "TIME", value_parser = duration, default_value = "30s")]
    pub read_time: Duration,
}

/// The policies, and who may steer them.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Policies")]
pub struct Operating {
    /// A file of settings in Resilience4j's layout, .yml, .toml or .json, of the policies primary-smtp, secondary-smtp,
    /// their breakers primary-smtp-marketing and so on, sms-gateway and kafka-publisher. What it says of one is all that
    /// is said of it; a change of the file takes effect while the service runs.
    #[arg(id = "policies-file", value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Another such file, laid over that one property by property.
    #[arg(id = "policies-profile", value_name = "FILE")]
    pub profile: Option<PathBuf>,
    /// A file with the token that operators steer breakers with, at /actuator. Or put it into the variable
    /// EMAIL_DISPATCH_OPERATOR_TOKEN. Without: nobody may.
    #[arg(id = "operator-token-file", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// The token.
    #[arg(skip)]
    pub token: Option<SecretString>,
}

impl Operating {
    /// The files of the policies' settings, each laid over the ones before it.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        self.file.iter().chain(&self.profile).cloned().collect()
    }
}

/// Telling people what happens.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Alerts")]
pub struct Alerts {
    /// Where alerts are posted as JSON, http://… or https://…. Without: to the log alone.
    #[arg(id = "alerts-webhook", value_name = "URL")]
    pub webhook: Option<Address>,
    /// How long the same alert is not repeated.
    #[arg(id = "alerts-quiet", value_name = "TIME", value_parser = duration, default_value = "10m")]
    pub quiet: Duration,
}

/// The log, on standard error.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Log")]
pub struct Log {
    /// How lines are written, for people (text) or for machines (json).
    #[arg(
        id = "log-format",
        value_name = "WORD",
        default_value = "text",
        value_parser = one_of(&[("text", LogFormat::Text), ("json", LogFormat::Json)])
    )]
    pub format: LogFormat,
    /// What is logged: a level, or levels of parts, such as info,email_dispatch=debug. Default:
    /// info,rdkafka::client=off, and nothing of the demonstration and the scenario.
    #[arg(id = "log-filter", value_name = "FILTER")]
    pub filter: Option<String>,
}

/// How lines of the log are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// The end of the process.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Shutting down")]
pub struct Shutdown {
    /// How long requests are still taken after SIGTERM, while readiness says OUT_OF_SERVICE: as long as a load balancer
    /// needs to look elsewhere.
    #[arg(id = "shutdown-notice", value_name = "TIME", value_parser = duration, default_value = "0s")]
    pub notice: Duration,
    /// How long work in flight may go on after SIGTERM, before it is handed back.
    #[arg(id = "shutdown-time-limit", value_name = "TIME", value_parser = duration, default_value = "30s")]
    pub time_limit: Duration,
}

/// The demonstration, and what is seen of it.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Demonstration")]
pub struct Demonstration {
    /// How many requests the demonstration sends.
    #[arg(id = "demo-requests", value_name = "NUMBER", default_value_t = 2_000)]
    pub requests: u32,
    /// Where it draws the time line of breakers and rates.
    #[arg(id = "demo-svg", value_name = "FILE", default_value = "email-dispatch.svg")]
    pub svg: PathBuf,
    /// Whether progress is drawn in the terminal: auto, if it is one.
    #[arg(
        id = "view",
        value_name = "WORD",
        default_value = "auto",
        value_parser = one_of(&[("auto", View::Auto), ("on", View::On), ("off", View::Off)])
    )]
    pub view: View,
}

/// Whether progress is drawn in the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// If it is a terminal.
    Auto,
    /// Always.
    On,
    /// Never: plain lines.
    Off,
}
