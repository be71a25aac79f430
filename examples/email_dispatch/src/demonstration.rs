//! The service through a bad minute: a mail server that dies and comes back slow, a broker that is away, and a moment in
//! which no mail server is there at all. In the end every request must have gone one way, and none two.

use std::{collections::HashSet, path::Path, time::Duration};

use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    account::{self, Account, Arrived},
    embedded::{Broker, MailFault, MailServer, SmsGateway},
    kafka::{
        KafkaSettings,
        dead_letters::{self, Wanted},
    },
    sample::{NOBODY, Samples},
    service::Service,
    settings::Settings,
    stage::{Embedded, Failure},
    store::Accepted,
};

/// What happens, and how many seconds after the first request.
const ACTS: [(f32, Act); 11] = [
    (3.0, Act::PrimaryDown),
    (8.0, Act::PrimarySlow),
    (12.0, Act::PrimaryWell),
    (15.0, Act::PrimaryDefers),
    (17.5, Act::PrimaryWell),
    (19.0, Act::BrokerStopped),
    (25.0, Act::BrokerBack),
    (28.0, Act::AllDown),
    (31.0, Act::SecondaryBack),
    (34.0, Act::PrimaryWell),
    (39.0, Act::End),
];

/// What a mail server is like that has no trouble of its own.
pub(crate) const WELL: MailFault = MailFault::RecipientIf { code: 550, matches: |address| address.starts_with(NOBODY) };

/// Over how long the requests come in.
const TRAFFIC: Duration = Duration::from_secs(37);
/// How long there is for all topics to be read, before the first request.
const START: Duration = Duration::from_secs(8);
/// How long there is for what is left to do after the last request.
const PATIENCE: Duration = Duration::from_secs(18);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    PrimaryDown,
    PrimarySlow,
    PrimaryWell,
    PrimaryDefers,
    BrokerStopped,
    BrokerBack,
    AllDown,
    SecondaryBack,
    End,
}

impl Act {
    fn title(self) -> &'static str {
        match self {
            Self::PrimaryDown => "primary down",
            Self::PrimarySlow => "primary slow",
            Self::PrimaryWell => "primary well",
            Self::PrimaryDefers => "primary defers one in five",
            Self::BrokerStopped => "broker stopped",
            Self::BrokerBack => "broker back",
            Self::AllDown => "both mail servers down",
            Self::SecondaryBack => "secondary back",
            Self::End => "all is well",
        }
    }
}

/// The demonstration's own settings: times short enough to watch, and a folder for its backups.
#[must_use]
pub fn settings(mut settings: Settings, backups: &Path) -> Settings {
    settings.files.backups = backups.to_owned();
    settings.kafka.message_timeout = Some(Duration::from_secs(1));
    settings.publisher.breaker_window = 20;
    settings.publisher.breaker_open = Duration::from_secs(2);
    settings.publisher.breaker_slow = Duration::from_millis(500);
    settings.smtp.breaker_open = Duration::from_secs(2);
    settings.smtp.breaker_slow = Duration::from_millis(600);
    settings.smtp.queue = Duration::from_millis(100);
    settings.smtp.breaker_window = 20;
    settings.again.delay = Duration::from_secs(1);
    settings.again.hold_limit = Duration::from_secs(20);
    settings
}

/// Plays it, with so many requests. `watch` is told of each act, and how long after the beginning it is.
///
/// # Errors
/// What could not be done to the embedded parts, or the database's.
pub async fn play(
    service: Service,
    embedded: &Embedded,
    kafka: &KafkaSettings,
    requests: usize,
    mut watch: impl FnMut(Duration, &'static str),
) -> Result<Account, Failure> {
    let parts = Parts::of(embedded)?;
    let mut bodies = Samples::default().requests().take(requests);
    let mut accepted = HashSet::new();
    let mut acts = ACTS.iter().peekable();
    let opened = Instant::now();
    while !service.is_reading() && opened.elapsed() < START {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let began = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    loop {
        ticks.tick().await;
        let elapsed = began.elapsed();
        while let Some((_, act)) = acts.next_if(|(at, _)| Duration::from_secs_f32(*at) <= elapsed) {
            parts.act(*act).await?;
            watch(opened.elapsed(), act.title());
        }
        let due = (requests as f64 * elapsed.as_secs_f64() / TRAFFIC.as_secs_f64()) as usize;
        accept(&service, bodies.by_ref().take(due.min(requests) - accepted.len().min(due)), &mut accepted).await?;
        let is_over = acts.peek().is_none() && accepted.len() == requests;
        let is_late = elapsed > TRAFFIC + PATIENCE;
        let counts = service.ledger().counts().await?;
        let is_done = counts.pending + counts.sending + counts.in_doubt == 0 && service.outbox().is_empty().await?;
        if is_over && is_done || is_late {
            break;
        }
    }
    let rows = account::rows(service.ledger()).await?;
    service.shut_down(Duration::from_secs(5)).await;
    let letters = dead_letters::read(kafka, &Wanted::default()).await?;
    let arrived = Arrived {
        primary: account::by_request(parts.primary.message_ids()),
        secondary: account::by_request(parts.secondary.message_ids()),
        sms: parts.sms.ids().into_iter().map(|id| (id, 1)).collect(),
        dead_letters: letters.iter().filter_map(|letter| letter.id).collect(),
    };
    Ok(Account::of(&accepted, &rows, &arrived))
}

async fn accept(
    service: &Service,
    bodies: impl Iterator<Item = serde_json::Value>,
    accepted: &mut HashSet<Uuid>,
) -> Result<(), Failure> {
    let door = service.door();
    let passed = bodies.map(|body| door.read(body.to_string().as_bytes())).collect::<Result<Vec<_>, _>>()?;
    let ids: Vec<_> = passed.iter().map(|request| request.id).collect();
    for (id, answer) in ids.into_iter().zip(door.accept(passed).await?) {
        if answer == Accepted::New {
            accepted.insert(id);
        }
    }
    Ok(())
}

/// What acts are done to.
struct Parts<'a> {
    broker: &'a Broker,
    primary: &'a MailServer,
    secondary: &'a MailServer,
    sms: &'a SmsGateway,
}

impl<'a> Parts<'a> {
    fn of(embedded: &'a Embedded) -> Result<Self, Failure> {
        let Embedded {
            broker: Some(broker), primary: Some(primary), secondary: Some(secondary), sms: Some(sms), ..
        } = embedded
        else {
            return Err("the demonstration breaks what it talks to, so it runs on embedded parts alone".into());
        };
        Ok(Self { broker, primary, secondary, sms })
    }

    async fn act(&self, act: Act) -> Result<(), Failure> {
        match act {
            Act::PrimaryDown => self.primary.set(MailFault::Down).await,
            Act::PrimarySlow => self.primary.set(MailFault::SlowEndOfData(Duration::from_millis(900))).await,
            Act::PrimaryWell => self.primary.set(WELL).await,
            Act::PrimaryDefers => self.primary.set(MailFault::Recipient { code: 450, percent: 20 }).await,
            Act::BrokerStopped => self.broker.stop()?,
            Act::BrokerBack => self.broker.resume()?,
            Act::AllDown => {
                self.primary.set(MailFault::Down).await;
                self.secondary.set(MailFault::Down).await;
            }
            Act::SecondaryBack => self.secondary.set(WELL).await,
            Act::End => {}
        }
        Ok(())
    }
}
