//! What can be set, what it is without being set, and what is wrong with it.
//!
//! A setting has one name, such as `kafka-brokers`, from which all others follow: the flag `--kafka-brokers`, the
//! environment's `EMAIL_DISPATCH_KAFKA_BROKERS` (but for the five that the world knows by another name, see
//! [`environment_name`]), and in a file `brokers` in the table `[kafka]`. The definitions below are the only ones; what
//! they say is also what `--help` says.
//!
//! A flag wins over the environment, that over the file, and that over the default.

use std::fmt;

use clap::{Arg, Args, Command};

use crate::{
    http::HttpSettings,
    personal::Keys,
    template::{TemplateError, Templates},
};

mod check;
mod kafka;
mod keeping;
mod layers;
mod mail;
mod running;
mod secrets;
mod value;

pub(crate) use self::{
    check::Broken,
    layers::Layers,
    secrets::{OPERATOR_TOKEN, SMS_TOKEN, no_keys, read_keys, read_token},
    value::one_of,
};
pub use self::{
    kafka::{Consumer, Kafka, Publisher},
    keeping::{Database, Files, RequestLimits},
    mail::{Again, SecondSmtp, Sms, Smtp},
    running::{Alerts, Demonstration, Http, Log, LogFormat, Operating, Shutdown, View},
    value::{Address, Weights},
};

/// All settings. What is not named is embedded: without an address there is a broker, a database, mail servers and an
/// SMS gateway in this process.
#[derive(Clone, Debug, Args)]
pub struct Settings {
    /// Kafka.
    #[command(flatten)]
    pub kafka: Kafka,
    /// The database.
    #[command(flatten)]
    pub database: Database,
    /// The first mail server, and what both have in common.
    #[command(flatten)]
    pub smtp: Smtp,
    /// The second mail server.
    #[command(flatten)]
    pub second: SecondSmtp,
    /// The SMS gateway.
    #[command(flatten)]
    pub sms: Sms,
    /// Keys and folders.
    #[command(flatten)]
    pub files: Files,
    /// The HTTP door.
    #[command(flatten)]
    pub http: Http,
    /// From the outbox to Kafka.
    #[command(flatten)]
    pub publisher: Publisher,
    /// From Kafka to the mail servers.
    #[command(flatten)]
    pub consumer: Consumer,
    /// What could not be sent.
    #[command(flatten)]
    pub again: Again,
    /// How large a request may be.
    #[command(flatten)]
    pub requests: RequestLimits,
    /// The policies, and who may steer them.
    #[command(flatten)]
    pub operating: Operating,
    /// Telling people.
    #[command(flatten)]
    pub alerts: Alerts,
    /// The log.
    #[command(flatten)]
    pub log: Log,
    /// The end.
    #[command(flatten)]
    pub shutdown: Shutdown,
    /// The demonstration.
    #[command(flatten)]
    pub demonstration: Demonstration,
    /// What encrypts addresses. `None` for a random key, which nobody knows after the end of the process.
    #[arg(skip)]
    pub keys: Option<Keys>,
}

impl Settings {
    /// The templates of the folder, or those that come with the service.
    ///
    /// # Errors
    /// What is wrong with the folder.
    pub fn templates(&self) -> Result<Templates, TemplateError> {
        match &self.files.templates {
            Some(folder) => Templates::from_dir(folder),
            None => Ok(Templates::embedded()),
        }
    }

    /// How the service is reached over HTTP.
    #[must_use]
    pub fn http_settings(&self) -> HttpSettings {
        HttpSettings {
            limits: self.requests.limits(),
            connections: self.http.connections as usize,
            read_time: self.http.read_time,
            ..HttpSettings::default()
        }
    }

    /// The keys, or a random one.
    #[must_use]
    pub fn keys_or_random(&self) -> Keys {
        self.keys.clone().unwrap_or_else(Keys::random)
    }

    /// Whether what this process writes is read after its end, which takes a key that is known then.
    #[must_use]
    pub fn outlive_the_process(&self) -> bool {
        self.kafka.brokers.is_some() || self.database.url.is_some() || self.files.data.is_some()
    }

    /// How many files and sockets may be open at a time. An embedded server has its end of each conversation here too.
    #[must_use]
    pub fn open_files(&self) -> u64 {
        /// Kafka, the SMS gateway, files.
        const OTHERS: u64 = 300;
        let first = u64::from(self.smtp.connections);
        let second = u64::from(self.second_protection().connections);
        let conversations = match (&self.smtp.url, &self.second.url) {
            (None, _) => 2 * (first + second),
            (Some(_), None) => first,
            (Some(_), Some(_)) => first + second,
        };
        conversations + u64::from(self.http.connections) + u64::from(self.database.readers) + OTHERS
    }

    /// What a person may not have meant: parts in this process beside real ones.
    #[must_use]
    pub fn warnings(&self) -> Vec<&'static str> {
        let keeps = self.database.url.is_some() || self.files.data.is_some();
        let takes = self.kafka.brokers.is_some() || keeps;
        let faults = [
            (
                self.kafka.brokers.is_none() && keeps,
                "the broker is in this process: what is on its topics ends with it, and stays PENDING in the database; \
                 set kafka-brokers",
            ),
            (
                self.smtp.url.is_none() && takes,
                "the mail servers are in this process: mails reach nobody; set smtp-url",
            ),
            (
                self.sms.url.is_none() && (takes || self.smtp.url.is_some()),
                "the SMS gateway is in this process: what goes to it counts as SMS_SENT and reaches nobody; set sms-url",
            ),
        ];
        faults.into_iter().filter_map(|(is_so, warning)| is_so.then_some(warning)).collect()
    }

    /// What is in use, embedded or where, in one line without user names and passwords.
    #[must_use]
    pub fn describe(&self) -> String {
        fn at(place: Option<&impl fmt::Display>) -> String {
            place.map_or_else(|| "embedded".to_owned(), ToString::to_string)
        }
        let second = match (&self.smtp.url, &self.second.url) {
            (Some(_), None) => "none".to_owned(),
            (_, url) => at(url.as_ref()),
        };
        let keys = if self.keys.is_some() { "given" } else { "random" };
        let templates = self.files.templates.as_ref().map(|folder| folder.display());
        let file = self.files.data.as_ref().map(|folder| format!("SQLite in {}", folder.display()));
        let database = self.database.url.as_ref().map(ToString::to_string).or(file);
        format!(
            "Kafka: {}, database: {}, first mail server: {}, second: {second}, SMS gateway: {}, keys: {keys}, \
             templates: {}, guarantee: {}",
            at(self.kafka.brokers.as_ref()),
            at(database.as_ref()),
            at(self.smtp.url.as_ref()),
            at(self.sms.url.as_ref()),
            at(templates.as_ref()),
            self.database.guarantee_name(),
        )
    }
}

/// What a setting is called in the environment.
#[must_use]
pub fn environment_name(setting: &str) -> String {
    match setting {
        "kafka-brokers" => "KAFKA_BROKERS".to_owned(),
        "database-url" => "DATABASE_URL".to_owned(),
        "smtp-url" => "SMTP_URL".to_owned(),
        "smtp-secondary-url" => "SMTP_SECONDARY_URL".to_owned(),
        "sms-url" => "SMS_URL".to_owned(),
        other => format!("EMAIL_DISPATCH_{}", other.to_ascii_uppercase().replace('-', "_")),
    }
}

/// Makes each setting of a command, which has an id and a meaning, an option of all its commands.
pub(crate) fn as_options(command: Command) -> Command {
    let mut position = 0;
    command.mut_args(|arg| {
        position += 1;
        option(arg).display_order(position)
    })
}

fn option(arg: Arg) -> Arg {
    /// Those that a newcomer asks for: `-h` shows them, `--help` shows all.
    const FIRST: [&str; 8] = [
        "config",
        "kafka-brokers",
        "database-url",
        "smtp-url",
        "smtp-secondary-url",
        "sms-url",
        "keys-file",
        "http-listen",
    ];
    let name = arg.get_id().to_string();
    let meaning = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let mut details = format!("[env: {}]", environment_name(&name));
    if let Some(default) = arg.get_default_values().first().filter(|default| !default.is_empty()) {
        details += &format!(" [default: {}]", default.to_string_lossy());
    }
    let is_first = FIRST.contains(&name.as_str());
    arg.long(name)
        .global(true)
        .hide_short_help(!is_first)
        .hide_default_value(true)
        .help(format!("{meaning} {details}"))
        .long_help(format!("{meaning}\n{details}"))
}

/// One thing that is wrong with the settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}{}: {rule}", .value.as_ref().map(|value| format!(" is {value}")).unwrap_or_default())]
pub struct Fault {
    /// Which setting, by the name under which it was given.
    pub setting: String,
    /// Its value, unless that may be secret.
    pub value: Option<String>,
    /// What is the matter.
    pub rule: String,
}

/// All that is wrong with the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongSettings(pub Vec<Fault>);

impl fmt::Display for WrongSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing was started, because of the settings:")?;
        self.0.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl std::error::Error for WrongSettings {}
