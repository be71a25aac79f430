//! The command line: what can be done, and with which settings.

mod needs;

use std::{ffi::OsString, fmt, path::PathBuf};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, parser::ValueSource};
use uuid::Uuid;

use crate::{
    request::{Kind, Priority},
    settings::{
        Address, Fault, Layers, OPERATOR_TOKEN, SMS_TOKEN, Settings, WrongSettings, as_options, environment_name,
        no_keys, one_of, read_keys, read_token,
    },
};

/// Sends mail that must not be lost or sent twice, while Kafka, the mail servers or the database fail.
///
/// Without a command it shows how: everything runs in this process, nothing has to be installed, and parts are made to
/// fail while 2,000 requests are sent.
///
/// Each setting can be given as a flag, in the environment (its name is in brackets) or in a TOML file named by --config,
/// and wins in that order. In the file --kafka-brokers is `brokers` in the table `[kafka]`, or `kafka-brokers`. Times are
/// written like 500ms, 10s or 2m. Passwords are better in the environment or the file than in a flag, which everybody on
/// the machine can read.
#[derive(Clone, Debug, Parser)]
#[command(name = "email_dispatch", version, disable_help_subcommand = true, subcommand_help_heading = "Commands")]
pub struct Cli {
    /// What to do. `None` for the demonstration.
    #[command(subcommand)]
    pub task: Option<Task>,
    /// A file of settings, in TOML.
    #[arg(id = "config", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// With which settings.
    #[command(flatten)]
    pub settings: Settings,
}

/// What the program can do.
#[derive(Clone, Debug, PartialEq, Subcommand)]
pub enum Task {
    /// Run the service: take requests, send mails, until SIGTERM or Ctrl-C
    Serve,
    /// Make requests, or read them from a file, and hand them in
    Produce(Produce),
    /// Play the nine steps of a broker's failure and return, and check each
    Scenario,
    /// What could not be sent: the dead letters
    #[command(subcommand)]
    Dlt(Dlt),
    /// Hand in again what was kept in files
    Replay {
        /// From the copies in the folder of --backups-dir
        #[arg(long, required = true)]
        from_files: bool,
    },
    /// Mails of which nobody knows whether they went out
    #[command(subcommand)]
    Unknown(Unknown),
    /// How many requests are in which state
    Status,
}

/// How requests are made, and where they go.
#[derive(Clone, Debug, PartialEq, clap::Args)]
pub struct Produce {
    /// How many to make
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub count: u32,
    /// What they are about. Without: some of each
    #[arg(long, value_name = "WORD", value_parser = one_of(&[
        ("transactional", Kind::Transactional), ("marketing", Kind::Marketing), ("notification", Kind::Notification),
    ]))]
    pub kind: Option<Kind>,
    /// How much a failure matters. Without: some of each
    #[arg(long, value_name = "WORD", value_parser = one_of(&[
        ("high", Priority::High), ("normal", Priority::Normal), ("low", Priority::Low),
    ]))]
    pub priority: Option<Priority>,
    /// How many a second. Without: as fast as they are taken
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: Option<u32>,
    /// Read them from this file instead, one JSON object a line; - for standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["count", "kind", "priority"])]
    pub file: Option<PathBuf>,
    /// Hand them to the service that runs there. Without: to the outbox in the database
    #[arg(long, value_name = "URL")]
    pub url: Option<Address>,
}

/// What to do with dead letters.
#[derive(Clone, Debug, PartialEq, Subcommand)]
pub enum Dlt {
    /// Show them, each with the reason
    List {
        /// How many at most
        #[arg(long, value_name = "NUMBER", default_value_t = 100)]
        limit: usize,
    },
    /// Hand them in again
    Replay {
        /// Only this one; can be given several times
        #[arg(long, value_name = "UUID")]
        id: Vec<Uuid>,
        /// How many at most. Without: all
        #[arg(long, value_name = "NUMBER")]
        limit: Option<usize>,
    },
}

/// What to do with mails in doubt.
#[derive(Clone, Debug, PartialEq, Subcommand)]
pub enum Unknown {
    /// Show them
    List {
        /// How many at most
        #[arg(long, value_name = "NUMBER", default_value_t = 100)]
        limit: usize,
    },
    /// Say what became of one, or send it again
    Resolve {
        /// Which request
        #[arg(value_name = "UUID")]
        id: Uuid,
        /// sent: it has arrived; resend: send it again, at the risk of a second one
        #[arg(long = "as", value_name = "WORD", value_parser = one_of(&[
            ("sent", Resolution::Sent), ("resend", Resolution::Resend),
        ]))]
        resolution: Resolution,
    },
}

/// What somebody decides about a mail in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// It has arrived.
    Sent,
    /// It is to be sent again.
    Resend,
}

/// Why nothing is started.
#[derive(Debug)]
pub enum Stop {
    /// Help was asked for, or the command line is wrong.
    Usage(clap::Error),
    /// The settings are wrong.
    Settings(WrongSettings),
}

impl Stop {
    /// Says it: help on standard output, the rest on standard error.
    pub fn print(&self) {
        match self {
            // A reader of the help that went away is no trouble.
            Self::Usage(error) => drop(error.print()),
            Self::Settings(_) => eprintln!("{self}"),
        }
    }

    /// The process's exit code: 0 for help, 2 for what is wrong.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(error) => u8::from(error.use_stderr()) * 2,
            Self::Settings(_) => 2,
        }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(error) => error.fmt(f),
            Self::Settings(wrong) => write!(f, "error: {wrong}"),
        }
    }
}

impl std::error::Error for Stop {}

impl Cli {
    /// The command line as clap knows it.
    #[must_use]
    pub fn definition() -> clap::Command {
        as_options(Self::command())
    }

    /// Reads the command line (its first word is the program's), the environment and the file that one of them names.
    ///
    /// # Errors
    /// [`Stop`], with all that is wrong with the settings at once.
    pub fn read(
        arguments: impl IntoIterator<Item = OsString>,
        environment: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, Stop> {
        let arguments: Vec<OsString> = arguments.into_iter().collect();
        // Without the layers, so that help shows the program's own defaults, and the file's name is known.
        let bare = Self::definition().try_get_matches_from(&arguments).map_err(Stop::Usage)?;
        let config = bare.get_one::<PathBuf>("config").cloned().or_else(|| {
            let value = environment(&environment_name("config")).filter(|value| !value.is_empty());
            value.map(PathBuf::from)
        });
        let layers = Layers::read(config.as_deref(), environment);
        let matches = layers.defaults_of(Self::definition()).try_get_matches_from(&arguments).map_err(Stop::Usage)?;
        let mut cli = Self::from_arg_matches(&matches).map_err(Stop::Usage)?;
        cli.config = config;

        let given_as = |name: &str| match layers.origin(name) {
            Some(origin) if matches.value_source(name) != Some(ValueSource::CommandLine) => origin.to_owned(),
            _ => format!("--{name}"),
        };
        let mut broken = cli.settings.check();
        broken.extend(needs::broken(cli.task.as_ref(), &cli.settings));
        let mut faults: Vec<Fault> =
            broken.into_iter().map(|(name, value, rule)| Fault { setting: given_as(name), value, rule }).collect();
        match read_keys(cli.settings.files.keys.as_deref(), &given_as("keys-file"), environment) {
            Ok(keys) => {
                let missing = if keys.is_none() { needs::keys(cli.task.as_ref(), &cli.settings) } else { None };
                faults.extend(missing.map(no_keys));
                cli.settings.keys = keys;
            }
            Err(fault) => faults.push(fault),
        }
        let token_file = cli.settings.sms.token_file.as_deref();
        match read_token(SMS_TOKEN, 1, token_file, &given_as("sms-token-file"), environment) {
            Ok(token) => cli.settings.sms.token = token,
            Err(fault) => faults.push(fault),
        }
        let token_file = cli.settings.operating.token_file.as_deref();
        match read_token(OPERATOR_TOKEN, 16, token_file, &given_as("operator-token-file"), environment) {
            Ok(token) => cli.settings.operating.token = token,
            Err(fault) => faults.push(fault),
        }
        if let Some(Task::Produce(Produce { url: Some(url), .. })) = &cli.task
            && let Err(rule) = url.with_scheme(&["http", "https"])
        {
            faults.push(Fault { setting: "--url".to_owned(), value: Some(url.to_string()), rule });
        }
        faults.splice(0..0, layers.faults);
        if faults.is_empty() { Ok(cli) } else { Err(Stop::Settings(WrongSettings(faults))) }
    }
}
