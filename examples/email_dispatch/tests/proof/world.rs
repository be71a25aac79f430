//! What is around the service, and outlives its processes.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use email_dispatch::{
    account::{self, Arrived},
    counters::Counters,
    door::Door,
    embedded::{MailServer, MailServerOptions, SmsGateway, TakenMail},
    kafka::{
        dead_letters::{self, Wanted},
        publisher::Waker,
    },
    personal::Keys,
    request::{Intake, Limits},
    sample::Samples,
    settings::environment_name,
    store::{Counts, Ledger, LedgerSettings, Row, Store, StoreSettings},
    template::Templates,
    wall_clock::WallClock,
};
use serde_json::Value;
use tempfile::TempDir;
use uuid::Uuid;

use crate::{
    database::TestDatabase,
    kafka::{TestKafka, until},
    process::{Process, Said, program, run},
};

/// Encrypts everything in these tests.
pub(crate) const KEYS: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
/// How many partitions each topic has.
const PARTITIONS: i32 = 6;

/// Times short enough to wait for, and long enough for a busy machine.
const SETTINGS: [(&str, &str); 25] = [
    ("http-listen", "127.0.0.1:0"),
    ("kafka-replication", "1"),
    ("database-busy-timeout", "1s"),
    ("database-time-limit", "4s"),
    ("ledger-lease", "20s"),
    ("smtp-connect-timeout", "500ms"),
    ("smtp-command-timeout", "500ms"),
    ("smtp-final-dot-timeout", "3s"),
    ("smtp-queue", "300ms"),
    ("smtp-time-limit", "10s"),
    ("smtp-breaker-open", "1s"),
    ("smtp-breaker-slow", "2s"),
    ("smtp-breaker-window", "20"),
    ("sms-time-limit", "2s"),
    ("retry-attempts", "4"),
    ("retry-delay", "1s"),
    ("retry-hold-limit", "60s"),
    ("publisher-lease", "2s"),
    ("publisher-breaker-open", "1s"),
    ("publisher-breaker-slow", "1s"),
    ("consumer-in-flight", "100"),
    ("consumer-drain-time-limit", "2s"),
    ("shutdown-time-limit", "5s"),
    ("log-format", "json"),
    ("log-filter", "info,email_dispatch=debug"),
];

/// A broker, a database, two mail servers, an SMS gateway, and a folder.
pub(crate) struct World {
    pub(crate) kafka: TestKafka,
    pub(crate) primary: MailServer,
    pub(crate) secondary: MailServer,
    pub(crate) sms: SmsGateway,
    pub(crate) database: TestDatabase,
    pub(crate) store: Store,
    folder: TempDir,
    program: PathBuf,
    client: reqwest::Client,
    processes: AtomicUsize,
}

/// Plays a test in a world that is all embedded.
pub(crate) async fn embedded(test: impl AsyncFnOnce(&World)) {
    let Some(program) = program() else { return };
    let kafka = TestKafka::embedded(PARTITIONS).await.unwrap();
    World::of(program, kafka, TestDatabase::sqlite().await.unwrap()).await.play(test).await;
}

/// Plays a test on a real Kafka of its own, and on PostgreSQL if there is one.
pub(crate) async fn real(test: impl AsyncFnOnce(&World)) {
    let Some(program) = program() else { return };
    let Some(kafka) = TestKafka::real_alone(PARTITIONS).await else { return };
    let database = match TestDatabase::postgres().await {
        Some(database) => database,
        None => TestDatabase::sqlite().await.unwrap(),
    };
    World::of(program, kafka, database).await.play(test).await;
}

/// Each test runs once in each kind of world.
macro_rules! in_each_world {
    ($($(#[$doc:meta])* async fn $name:ident($world:ident) $body:block)*) => {
        $($(#[$doc])* async fn $name($world: &crate::world::World) $body)*

        mod embedded {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $name() {
                crate::world::embedded(async |world| super::$name(world).await).await;
            })*
        }

        mod real {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $name() {
                crate::world::real(async |world| super::$name(world).await).await;
            })*
        }
    };
}

impl World {
    async fn of(program: PathBuf, kafka: TestKafka, database: TestDatabase) -> Self {
        let keep = || MailServerOptions { keep: 2_000, ..MailServerOptions::default() };
        let _ = rustls::crypto::ring::default_provider().install_default(); // or another test has
        Self {
            primary: MailServer::start_with("primary-smtp", keep()).await.unwrap(),
            secondary: MailServer::start_with("secondary-smtp", keep()).await.unwrap(),
            sms: SmsGateway::start().await.unwrap(),
            store: Store::connect(&database.url, StoreSettings::default(), WallClock::system()).await.unwrap(),
            folder: tempfile::tempdir().unwrap(),
            client: reqwest::Client::builder().timeout(Duration::from_secs(10)).build().unwrap(),
            processes: AtomicUsize::new(0),
            kafka,
            database,
            program,
        }
    }

    async fn play(self, test: impl AsyncFnOnce(&Self)) {
        test(&self).await;
        let files = [self.folder.path(), self.database.folder().unwrap_or(self.folder.path())];
        files.into_iter().for_each(assert_nothing_personal);
        self.store.close().await;
        self.database.remove().await;
    }

    /// What a process is told by its environment. Of two with one name the last wins; an empty one is not set.
    pub(crate) fn environment(&self, settings: &[(&str, &str)]) -> Vec<(String, String)> {
        let kafka = &self.kafka.settings;
        let ms = |time: Duration| format!("{}ms", time.as_millis());
        let places = [
            ("kafka-brokers", kafka.brokers.clone()),
            ("kafka-topic-prefix", kafka.topic_prefix.clone()),
            ("kafka-group", kafka.group.clone()),
            ("kafka-partitions", kafka.partitions.to_string()),
            ("kafka-session-timeout", ms(kafka.session_timeout)),
            ("kafka-message-timeout", ms(Duration::from_secs(3))),
            ("kafka-commit-interval", ms(kafka.commit_interval)),
            ("kafka-fetch-wait", ms(kafka.fetch_wait)),
            ("database-url", self.database.url.clone()),
            ("smtp-url", self.primary.url()),
            ("smtp-secondary-url", self.secondary.url()),
            ("sms-url", self.sms.url().to_owned()),
            ("backups-dir", self.folder.path().join("backups").display().to_string()),
            ("keys", KEYS.to_owned()),
        ];
        let short = SETTINGS.iter().chain(settings).map(|(name, value)| (*name, (*value).to_owned()));
        let mut all: BTreeMap<String, String> =
            places.into_iter().chain(short).map(|(name, value)| (environment_name(name), value)).collect();
        all.retain(|_, value| !value.is_empty());
        all.into_iter().collect()
    }

    /// Starts the service.
    pub(crate) async fn serve(&self) -> Process {
        self.serve_with(&[]).await
    }

    /// Starts the service with these settings besides or instead.
    pub(crate) async fn serve_with(&self, settings: &[(&str, &str)]) -> Process {
        let number = self.processes.fetch_add(1, Ordering::Relaxed);
        let log = self.folder.path().join(format!("{number}.log"));
        Process::serve(&self.program, &self.environment(settings), log).await
    }

    /// A file of that name with this in it.
    pub(crate) fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// Runs another command of the program to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Said {
        self.run_with(arguments, &[]).await
    }

    /// Runs another command with these settings besides or instead.
    pub(crate) async fn run_with(&self, arguments: &[&str], settings: &[(&str, &str)]) -> Said {
        let said = run(&self.program, arguments, &self.environment(settings), self.folder.path()).await;
        assert_eq!(personal(&format!("{said:?}")), None, "{arguments:?}");
        said
    }

    /// Hands a list of requests in, once. An error says that they may be accepted or not.
    pub(crate) async fn post(&self, url: &str, requests: &[Value]) -> Result<(), String> {
        let request = self.client.post(format!("{url}/emails")).header("content-type", "application/json");
        let answer = request.body(Value::from(requests).to_string()).send().await.map_err(|error| error.to_string())?;
        let status = answer.status();
        assert!(!status.is_client_error(), "{status}: {:?}", answer.text().await);
        if status.is_success() { Ok(()) } else { Err(status.to_string()) }
    }

    /// Another door to the same outbox.
    pub(crate) fn door(&self) -> Door {
        let keys = Keys::parse(KEYS).unwrap();
        let intake = Intake::new(keys.clone(), Templates::embedded(), Limits::default());
        Door::new(
            intake,
            keys,
            self.store.outbox(),
            WallClock::system(),
            Waker::default(),
            Counters::new("primary-smtp"),
        )
    }

    pub(crate) fn ledger(&self) -> Ledger {
        self.store.ledger(LedgerSettings::default())
    }

    pub(crate) async fn counts(&self) -> Counts {
        self.ledger().counts().await.unwrap()
    }

    pub(crate) async fn rows(&self) -> HashMap<Uuid, Row> {
        account::rows(&self.ledger()).await.unwrap()
    }

    /// Waits until so many requests are SENT and no others are there.
    pub(crate) async fn until_sent(&self, wanted: u64) {
        until(&format!("{wanted} requests SENT"), async || {
            let counts = self.counts().await;
            counts.sent == wanted && counts.total() == wanted
        })
        .await;
    }

    /// What has come of it outside.
    pub(crate) async fn arrived(&self) -> Arrived {
        let letters = dead_letters::read(&self.kafka.settings, &Wanted::default()).await.unwrap();
        Arrived {
            primary: account::by_request(self.primary.message_ids()),
            secondary: account::by_request(self.secondary.message_ids()),
            sms: self.sms.ids().into_iter().map(|id| (id, 1)).collect(),
            dead_letters: letters.iter().filter_map(|letter| letter.id).collect(),
        }
    }

    /// What the logs of all processes say of a request.
    pub(crate) fn told_of(&self, id: Uuid) -> String {
        let id = id.to_string();
        let files = fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let logs = files.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
        let lines = logs.flat_map(|path| {
            let log = fs::read_to_string(&path).unwrap();
            log.lines()
                .filter(|line| line.contains(&id))
                .map(|line| format!("{}: {line}\n", path.display()))
                .collect::<Vec<_>>()
        });
        lines.collect()
    }

    /// Nothing was taken twice by the mail servers together.
    pub(crate) fn assert_no_doubles(&self) {
        let (first, second) = (self.primary.message_ids(), self.secondary.message_ids());
        for (id, times) in &first {
            let times = times + second.get(id).copied().unwrap_or_default();
            assert_eq!(times, 1, "{id} came more than once");
        }
        assert!(second.values().all(|times| *times == 1));
    }
}

/// So many of the samples, all for people who exist.
pub(crate) fn some(samples: &Samples, count: usize) -> Vec<Value> {
    Samples { nobodies: 0, ..samples.clone() }.requests().take(count).collect()
}

/// Which request a mail is of.
pub(crate) fn id_of(mail: &TakenMail) -> Uuid {
    let text = String::from_utf8_lossy(&mail.message);
    let (_, rest) = text.split_once("Message-ID: <").unwrap();
    rest.split_once('@').unwrap().0.parse().unwrap()
}

/// The ids of requests.
pub(crate) fn ids(requests: &[Value]) -> Vec<Uuid> {
    requests.iter().map(|request| request["id"].as_str().unwrap().parse().unwrap()).collect()
}

/// No file in the folder shows the address or the number of anybody in the samples: logs, backups, a database.
fn assert_nothing_personal(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            assert_nothing_personal(&path);
        } else {
            let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
            assert_eq!(personal(&text), None, "in {}", path.display());
        }
    }
}

/// Finds `person<number>@`, and `49170` with seven digits.
fn personal(text: &str) -> Option<&str> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let found = |prefix: &'static str, is_found: fn(usize, &str) -> bool| {
        text.match_indices(prefix).find_map(move |(at, _)| {
            let after = &text[at + prefix.len()..];
            let length = digits(after);
            is_found(length, &after[length..]).then(|| &text[at..at + prefix.len() + length])
        })
    };
    found("person", |length, rest| length > 0 && rest.starts_with('@'))
        .or_else(|| found("49170", |length, _| length >= 7))
}

#[test]
fn what_is_personal_would_be_found() {
    assert_eq!(personal("mail for person17@example.com"), Some("person17"));
    assert_eq!(personal("an SMS to +491700000017."), Some("491700000017"));
    assert_eq!(personal("p***@e***.com, +49*****17, Person 17, person17"), None);
}
