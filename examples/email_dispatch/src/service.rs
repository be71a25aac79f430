//! All parts of the service at work together, in one process of perhaps many.

mod watch;

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use lettre::message::Mailbox;
use parking_lot::Mutex;
use resile::{CircuitBreaker, IntervalFunction, Resilience, event::Subscription};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    alert::Alerts,
    backup::Backups,
    counters::Counters,
    delivery::MailServers,
    dispatch::Dispatcher,
    door::Door,
    kafka::{
        KafkaFault, KafkaSettings,
        consumer::{Consumer, Lane, Progress},
        make_topics,
        publisher::{Publisher, PublisherSettings},
    },
    personal::Keys,
    policies::Policies,
    record::Topic,
    request::{Intake, Limits},
    route::RetryRules,
    slots::Slots,
    sms::SmsGateway,
    smtp::Transport,
    store::{Ledger, LedgerSettings, Outbox, Store},
    template::Templates,
    wall_clock::WallClock,
};

pub(crate) use self::watch::tell_of_stranded;
use self::watch::{measure, sweep};

/// What a service is made of.
#[derive(Debug)]
pub struct Parts<T> {
    /// Where what must survive is kept.
    pub store: Store,
    /// Through which records go.
    pub kafka: KafkaSettings,
    /// To whom mails go.
    pub servers: MailServers<T>,
    /// To which texts go.
    pub sms: SmsGateway,
    /// What encrypts and decrypts.
    pub keys: Keys,
    /// What mails say.
    pub templates: Templates,
    /// Whom mails come from.
    pub sender: Mailbox,
    /// Tells people.
    pub alerts: Alerts,
    /// Copies of what failed at priority HIGH.
    pub backups: Backups,
    /// Counts.
    pub counters: Counters,
    /// The time of day.
    pub clock: WallClock,
    /// How the service works.
    pub rules: Rules,
    /// The policies that the parts were made with.
    pub policies: Policies,
}

/// How a service works.
#[derive(Clone, Debug)]
pub struct Rules {
    /// How large a request may be.
    pub limits: Limits,
    /// How claims are dealt with.
    pub ledger: LedgerSettings,
    /// How often and how late to try again.
    pub retry: RetryRules,
    /// How the outbox is published.
    pub publisher: PublisherSettings,
    /// How many mails are under way at most. Default: 1,000.
    pub in_flight: usize,
    /// How many records of a lane are read ahead, those under way included. Default: 2,000.
    pub buffered: usize,
    /// The shares of high, normal and low while all have work. Default: 6, 3 and 1.
    pub weights: [u32; 3],
    /// How long a request is held while no server may be asked, before it counts as failed. Default: 10 minutes.
    pub hold: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            ledger: LedgerSettings::default(),
            retry: RetryRules::default(),
            publisher: PublisherSettings::default(),
            in_flight: 1_000,
            buffered: 2_000,
            weights: [6, 3, 1],
            hold: Duration::from_secs(600),
        }
    }
}

/// The lanes in which topics are read, each in a consumer group of its own, so that one that is full holds no other up.
const LANES: [(&str, &[Topic]); 6] = [
    ("high", &[Topic::High, Topic::ImmediateRetry]),
    ("normal", &[Topic::Normal]),
    ("low", &[Topic::Low]),
    ("bulk", &[Topic::Bulk]),
    ("delayed", &[Topic::DelayedRetry]),
    ("sms", &[Topic::Sms]),
];

/// A service at work.
pub struct Service {
    store: Store,
    ledger: Ledger,
    outbox: Outbox,
    door: Door,
    publisher: Publisher,
    consumers: Lanes,
    breakers: Vec<CircuitBreaker>,
    policies: Policies,
    alerts: Alerts,
    stop: CancellationToken,
    tasks: TaskTracker,
    /// Ends with the service.
    _watched: Vec<Subscription>,
}

impl Service {
    /// Starts everything. Topics are made and read as soon as Kafka is there; until then requests are accepted.
    ///
    /// # Errors
    /// A property of Kafka that is not understood.
    pub fn start<T: Transport>(parts: Parts<T>) -> Result<Self, KafkaFault> {
        let Parts {
            store,
            kafka,
            servers,
            sms,
            keys,
            templates,
            sender,
            alerts,
            backups,
            counters,
            clock,
            rules,
            policies,
        } = parts;
        let (ledger, outbox) = (store.ledger(rules.ledger.clone()), store.outbox());
        let publisher =
            Publisher::start(outbox.clone(), ledger.clone(), store.lease("publisher"), &kafka, &rules.publisher)?;
        let intake = Intake::new(keys.clone(), templates, rules.limits);
        let mut breakers = vec![publisher.breaker().clone()];
        breakers.extend(servers.breakers().cloned());
        breakers.push(sms.breaker().clone());
        let watched = breakers.iter().map(|breaker| alerts.watch(breaker)).collect();
        let door = Door::new(intake.clone(), keys, outbox.clone(), clock.clone(), publisher.waker(), counters.clone());
        let dispatcher = Arc::new(Dispatcher {
            intake,
            sender,
            servers,
            sms,
            ledger: ledger.clone(),
            outbox: outbox.clone(),
            publisher: publisher.waker(),
            guarantee: rules.ledger.guarantee,
            rules: rules.retry.clone(),
            hold: rules.hold,
            slots: Slots::new(rules.in_flight, &rules.weights),
            alerts: alerts.clone(),
            backups,
            counters: counters.clone(),
            clock,
        });
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let consumers = Lanes::default();
        tasks.spawn(stop.clone().run_until_cancelled_owned(consume(
            kafka,
            rules.buffered,
            dispatcher,
            consumers.clone(),
        )));
        tasks.spawn(stop.clone().run_until_cancelled_owned(sweep(ledger.clone(), rules.ledger.lease, alerts.clone())));
        tasks.spawn(stop.clone().run_until_cancelled_owned(measure(
            outbox.clone(),
            consumers.clone(),
            counters,
            alerts.clone(),
        )));
        tasks.close();
        let (_watched, alerts) = (watched, alerts);
        Ok(Self {
            store,
            ledger,
            outbox,
            door,
            publisher,
            consumers,
            breakers,
            policies,
            alerts,
            stop,
            tasks,
            _watched,
        })
    }

    /// Accepts requests.
    #[must_use]
    pub fn door(&self) -> &Door {
        &self.door
    }

    /// What became of requests.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What is to be published.
    #[must_use]
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// The database.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// All policies.
    #[must_use]
    pub fn resilience(&self) -> &Resilience {
        &self.policies.resilience
    }

    /// All breakers: the publisher's, the mail servers', the SMS gateway's.
    #[must_use]
    pub fn breakers(&self) -> &[CircuitBreaker] {
        &self.breakers
    }

    /// The breaker around Kafka.
    #[must_use]
    pub fn publisher_breaker(&self) -> &CircuitBreaker {
        self.publisher.breaker()
    }

    /// How far each lane has come; nothing before Kafka was there.
    #[must_use]
    pub fn progress(&self) -> Vec<Progress> {
        self.consumers.progress()
    }

    /// Whether every lane has partitions to read. Where several processes share the work, not each need have some of all.
    #[must_use]
    pub fn is_reading(&self) -> bool {
        let progress = self.progress();
        progress.len() == LANES.len() && progress.iter().all(|lane| lane.partitions > 0)
    }

    /// To ask for the [progress](Self::progress) without the service.
    #[must_use]
    pub fn lanes(&self) -> Lanes {
        self.consumers.clone()
    }

    /// Stops reading, and lets what is under way finish or hands it back. Requests are still accepted and published.
    pub async fn drain(&self, time_limit: Duration) {
        self.stop.cancel();
        self.tasks.wait().await;
        let consumers = std::mem::take(&mut *self.consumers.0.lock());
        join_all(consumers.into_iter().map(|consumer| consumer.shut_down(time_limit))).await;
    }

    /// [Drains](Self::drain) it if that is not done, and disconnects. What is left in the outbox is published by another
    /// process, or by the next.
    pub async fn shut_down(self, time_limit: Duration) {
        self.drain(time_limit).await;
        self.publisher.shut_down(time_limit).await;
        self.alerts.close(time_limit).await;
        self.store.close().await;
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("breakers", &self.breakers).finish_non_exhaustive()
    }
}

/// The lanes of a service that are read. A clone is the same ones.
#[derive(Clone, Debug, Default)]
pub struct Lanes(Arc<Mutex<Vec<Consumer>>>);

impl Lanes {
    /// How far each has come; nothing before Kafka was there, and after the end.
    #[must_use]
    pub fn progress(&self) -> Vec<Progress> {
        self.0.lock().iter().map(Consumer::progress).collect()
    }
}

/// Reads all lanes, as soon as there is a cluster to read from.
async fn consume<T: Transport>(
    kafka: KafkaSettings,
    buffered: usize,
    dispatcher: Arc<Dispatcher<T>>,
    consumers: Lanes,
) {
    let mut pauses =
        IntervalFunction::exponential(Duration::from_millis(100), 2.0).max(Duration::from_secs(10)).intervals();
    let mut pause = || pauses.next().unwrap_or(Duration::from_secs(10));
    while let Err(fault) = make_topics(&kafka).await {
        tracing::warn!(%fault, "requests are accepted and wait in the outbox");
        tokio::time::sleep(pause()).await;
    }
    for (name, topics) in LANES {
        let lane = Lane { name, topics: topics.to_vec(), buffered };
        loop {
            match Consumer::start(&kafka, lane.clone(), Arc::clone(&dispatcher)) {
                Ok(consumer) => break consumers.0.lock().push(consumer),
                Err(fault) => tracing::error!(%fault, lane = name, "a lane cannot be read"),
            }
            tokio::time::sleep(pause()).await;
        }
    }
}
