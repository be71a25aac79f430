//! Puts the parts of the service together from its settings, and stands embedded ones in for what is not named.

use std::{error::Error, time::Duration};

use resile::Resilience;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::{
    alert::{AlertSettings, Alerts},
    backup::Backups,
    counters::Counters,
    delivery::{MailServers, Protection, Provider},
    demonstration::WELL,
    embedded::{self, Broker, MailServer},
    kafka::{KafkaSettings, publisher::PublisherSettings},
    policies::Policies,
    route::RetryRules,
    service::{Parts, Rules, tell_of_stranded},
    settings::Settings,
    sms::{SmsGateway, SmsSettings},
    smtp::{SmtpAddress, SmtpServer, SmtpSettings},
    store::{Store, StoreError},
    wall_clock::WallClock,
};

/// The names of the mail servers, which their breakers bear.
pub const PRIMARY: &str = "primary-smtp";
/// The second one.
pub const SECONDARY: &str = "secondary-smtp";

/// What stands in for what is not named. It ends when it is dropped.
#[derive(Debug, Default)]
pub struct Embedded {
    /// Unless a cluster is named.
    pub broker: Option<Broker>,
    /// Unless a mail server is named.
    pub primary: Option<MailServer>,
    /// The second one, likewise.
    pub secondary: Option<MailServer>,
    /// Unless a gateway is named.
    pub sms: Option<embedded::SmsGateway>,
    /// Of the database, unless one or a folder is named.
    folder: Option<TempDir>,
}

/// What went wrong, for a person to read.
pub type Failure = Box<dyn Error + Send + Sync>;

/// Makes all parts of the service.
///
/// # Errors
/// What cannot be reached, read or written.
pub async fn assemble(settings: &Settings) -> Result<(Parts<SmtpServer>, Embedded), Failure> {
    let clock = WallClock::system();
    let templates = settings.templates()?;
    let mut embedded = Embedded::default();
    let kafka = kafka(settings, &mut embedded)?;
    let store = connect(settings, &database(settings, &mut embedded)?).await?;
    let policies = Policies::watched(settings.operating.files())?;
    let resilience = &policies.resilience;
    let servers = mail_servers(settings, resilience, &mut embedded).await?;
    let sms_url = match &settings.sms.url {
        Some(url) => url.expose().to_owned(),
        None => {
            let gateway = embedded::SmsGateway::start().await?;
            let url = gateway.url().to_owned();
            embedded.sms = Some(gateway);
            url
        }
    };
    let webhook = settings.alerts.webhook.as_ref().map(|url| url.expose().parse()).transpose()?;
    let sms = SmsSettings {
        token: settings.sms.token.clone(),
        time_limit: settings.sms.time_limit,
        resilience: resilience.clone(),
        ..SmsSettings::new(sms_url)
    };
    let parts = Parts {
        store,
        kafka,
        servers,
        sms: SmsGateway::new(&sms)?,
        keys: settings.keys_or_random(),
        templates,
        sender: settings.smtp.sender.clone(),
        alerts: Alerts::new(AlertSettings { webhook, quiet: settings.alerts.quiet }, clock.clone())?,
        backups: Backups::open(&settings.files.backups).await?,
        counters: Counters::new(PRIMARY),
        clock,
        rules: rules(settings, resilience),
        policies,
    };
    if embedded.broker.is_some() {
        tell_of_stranded(&parts.store.outbox(), &parts.alerts).await?;
    }
    Ok((parts, embedded))
}

/// The address of the database: the one named, or a file of the data folder, or of a folder that goes with the process.
///
/// # Errors
/// When a folder cannot be made.
pub fn database(settings: &Settings, embedded: &mut Embedded) -> Result<String, Failure> {
    if let Some(url) = &settings.database.url {
        return Ok(url.expose().to_owned());
    }
    let folder = match &settings.files.data {
        Some(folder) => {
            std::fs::create_dir_all(folder)
                .map_err(|error| format!("data-dir {} cannot be made: {error}", folder.display()))?;
            folder.clone()
        }
        None => embedded.folder.insert(tempfile::tempdir()?).path().to_owned(),
    };
    Ok(format!("sqlite:{}", folder.join("email-dispatch.db").display()))
}

/// Connects to the database. One that is locked or away is asked again for as long as a query may take.
///
/// # Errors
/// The database's.
pub async fn connect(settings: &Settings, url: &str) -> Result<Store, StoreError> {
    let deadline = Instant::now() + settings.database.time_limit;
    loop {
        match Store::connect(url, settings.database.store(), WallClock::system()).await {
            Err(error) if error.is_transient() && Instant::now() < deadline => {
                tracing::warn!(%error, "the database is asked again");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            connected => return connected,
        }
    }
}

fn kafka(settings: &Settings, embedded: &mut Embedded) -> Result<KafkaSettings, Failure> {
    let mut kafka = settings.kafka.settings("")?;
    kafka.drain = settings.consumer.drain_time_limit;
    if settings.kafka.brokers.is_none() {
        let broker = Broker::start(&kafka)?;
        kafka.brokers = broker.addresses()?;
        embedded.broker = Some(broker);
    }
    Ok(kafka)
}

async fn mail_servers(
    settings: &Settings,
    resilience: &Resilience,
    embedded: &mut Embedded,
) -> Result<MailServers<SmtpServer>, Failure> {
    let (first, second) = match (&settings.smtp.url, &settings.second.url) {
        (Some(first), second) => {
            let second = second.as_ref().map(|second| second.expose().parse()).transpose()?;
            (first.expose().parse()?, second)
        }
        (None, _) => {
            let (first, second) = (MailServer::start(PRIMARY).await?, MailServer::start(SECONDARY).await?);
            first.set(WELL).await;
            second.set(WELL).await;
            let addresses = (first.url().parse()?, Some(second.url().parse()?));
            (embedded.primary, embedded.secondary) = (Some(first), Some(second));
            addresses
        }
    };
    let provider = |name: &str, address: SmtpAddress, protection: Protection| -> Result<_, Failure> {
        let protection = Protection { resilience: resilience.clone(), ..protection };
        let smtp = &settings.smtp;
        let conversation = SmtpSettings {
            hello: smtp.hello_name.clone(),
            connect_timeout: smtp.connect_timeout,
            command_timeout: smtp.command_timeout,
            final_dot_timeout: smtp.final_dot_timeout,
            mails_per_connection: smtp.mails_per_connection,
            idle: smtp.idle,
            ca_file: smtp.ca_file.clone(),
            ..SmtpSettings::new(address)
        };
        Ok(Provider::new(name, SmtpServer::new(name, conversation)?, &protection)?)
    };
    let primary = provider(PRIMARY, first, settings.smtp.protection())?;
    let secondary = match second {
        Some(second) => Some(provider(SECONDARY, second, settings.second_protection())?),
        None => None,
    };
    Ok(MailServers { primary, secondary })
}

fn rules(settings: &Settings, resilience: &Resilience) -> Rules {
    let weights = settings.consumer.weights;
    Rules {
        limits: settings.requests.limits(),
        ledger: settings.database.ledger(),
        retry: RetryRules { doubt: settings.database.lease, ..settings.again.rules() },
        publisher: PublisherSettings { resilience: resilience.clone(), ..settings.publisher.settings() },
        in_flight: settings.consumer.in_flight,
        buffered: settings.consumer.buffered,
        weights: [weights.high, weights.normal, weights.low],
        hold: settings.again.hold_limit,
    }
}
