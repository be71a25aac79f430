//! How many mails a second the whole service keeps up with, from Kafka to SENT, with claims and all policies, on embedded
//! parts in the same process; each run in a process of its own, so that its memory is its own.
//!
//! ```text
//! cargo bench -p email-dispatch --bench throughput [-- RUN]
//! ```
#![allow(clippy::print_stdout, clippy::unwrap_used)]
#![allow(clippy::disallowed_types)] // real time is what is measured

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use email_dispatch::{
    alert::{AlertSettings, Alerts},
    backup::Backups,
    counters::Counters,
    delivery::{MailServers, Protection, Provider},
    embedded::{Broker, MailFault, MailServer},
    kafka::KafkaSettings,
    limits::raise_open_files,
    personal::Keys,
    policies::Policies,
    record::Topic,
    request::{Intake, Limits, Origin},
    sample::Samples,
    service::{Parts, Rules, Service},
    sms::{SmsGateway, SmsSettings},
    smtp::{Handover, Mail, SendError, SmtpServer, SmtpSettings, Stage, Transport},
    store::{Store, StoreSettings},
    template::Templates,
    wall_clock::WallClock,
};
use rdkafka::{
    ClientConfig,
    producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer},
};

/// One run.
struct Run {
    name: &'static str,
    mails: usize,
    in_flight: usize,
    connections: usize,
    people: u32,
    partitions: i32,
    /// How long a mail takes; over a real conversation or not.
    takes: Duration,
    is_smtp: bool,
}

const fn run(name: &'static str, mails: usize, in_flight: usize, takes_ms: u64, is_smtp: bool) -> Run {
    Run {
        name,
        mails,
        in_flight,
        connections: in_flight,
        people: u32::MAX,
        partitions: 12,
        takes: Duration::from_millis(takes_ms),
        is_smtp,
    }
}

const RUNS: [Run; 10] = [
    run("stand-in", 10_000, 10_000, 1_000, false),
    run("stand-in-long", 50_000, 10_000, 1_000, false),
    Run { connections: 64, ..run("smtp", 40_000, 1_000, 0, true) },
    run("smtp-1s", 10_000, 8_000, 1_000, true),
    run("in-flight-1000", 5_000, 1_000, 1_000, false),
    run("in-flight-100", 500, 100, 1_000, false),
    Run { people: 1_000, ..run("keys-1000", 5_000, 10_000, 1_000, false) },
    Run { people: 100, ..run("keys-100", 500, 10_000, 1_000, false) },
    Run { partitions: 1, ..run("partitions-1", 10_000, 10_000, 1_000, false) },
    Run { partitions: 48, ..run("partitions-48", 10_000, 10_000, 1_000, false) },
];

fn main() {
    let named = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    if let Some(run) = RUNS.iter().find(|run| Some(run.name) == named.as_deref()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(measure(run));
        return;
    }
    println!("{:<16}{:>8} {:>10} {:>10} {:>12} {:>10}", "run", "mails", "in flight", "mails/s", "µs of CPU", "MiB");
    for run in &RUNS {
        let status = Command::new(std::env::current_exe().unwrap()).arg(run.name).status().unwrap();
        assert!(status.success(), "{} failed", run.name);
    }
}

async fn measure(run: &Run) {
    // Both ends of each connection are in this process.
    if run.is_smtp
        && let Err(fault) = raise_open_files(2 * run.connections as u64 + 200)
    {
        println!("{:<16}skipped: {fault}", run.name);
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut kafka = KafkaSettings { partitions: run.partitions, ..KafkaSettings::embedded(String::new()) };
    let broker = Broker::start(&kafka).unwrap();
    kafka.brokers = broker.addresses().unwrap();
    let keys = Keys::random();
    preload(run, &kafka, &keys);

    let server = MailServer::start("primary").await.unwrap();
    if !run.takes.is_zero() {
        server.set(MailFault::SlowEndOfData(run.takes)).await;
    }
    let protection =
        Protection { connections: run.connections as u32, slow: Duration::from_secs(10), ..Protection::default() };
    let name = "primary-smtp";
    let database = format!("sqlite:{}", folder.path().join("bench.db").display());
    let store = Store::connect(&database, StoreSettings::default(), WallClock::system()).await.unwrap();
    let began = Arc::new(Began { at: Instant::now(), first: AtomicU64::new(u64::MAX) });
    let cpu = processor_seconds();
    if run.is_smtp {
        let settings = SmtpSettings { mails_per_connection: 1_000, ..SmtpSettings::new(server.url().parse().unwrap()) };
        let transport = Marked { transport: SmtpServer::new(name, settings).unwrap(), began: Arc::clone(&began) };
        serve(run, Provider::new(name, transport, &protection).unwrap(), store, kafka, keys).await;
    } else {
        let transport = Marked { transport: StandIn(run.takes), began: Arc::clone(&began) };
        serve(run, Provider::new(name, transport, &protection).unwrap(), store, kafka, keys).await;
    }
    let first = Duration::from_nanos(began.first.load(Ordering::Relaxed));
    let took = began.at.elapsed() - first;
    println!(
        "{:<16}{:>8} {:>10} {:>10.0} {:>12.1} {:>10}",
        run.name,
        run.mails,
        run.in_flight,
        run.mails as f64 / took.as_secs_f64(),
        (processor_seconds() - cpu) * 1e6 / run.mails as f64,
        peak_memory_mib(),
    );
    std::process::exit(0); // without an orderly end, which is not measured
}

/// Puts all requests on their topic.
fn preload(run: &Run, kafka: &KafkaSettings, keys: &Keys) {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", &kafka.brokers)
        .set("linger.ms", "5")
        .set("queue.buffering.max.messages", "1000000")
        .create()
        .unwrap();
    let door = Intake::new(keys.clone(), Templates::embedded(), Limits::default());
    let samples = Samples { people: run.people, nobodies: 0, ..Samples::default() };
    let topic = kafka.topic_name(Topic::Normal);
    for request in samples.requests().take(run.mails) {
        let request = door.parse(request.to_string().as_bytes(), Origin::Http, 0).unwrap();
        let key = request.record_key(keys).unwrap().unwrap();
        let payload = serde_json::to_vec(&request).unwrap();
        producer.send(BaseRecord::to(&topic).key(&key).payload(&payload)).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(Duration::from_secs(30)).unwrap();
}

async fn serve<T: Transport>(run: &Run, primary: Provider<T>, store: Store, kafka: KafkaSettings, keys: Keys) {
    let clock = WallClock::system();
    let folder = tempfile::tempdir().unwrap();
    let counters = Counters::new(primary.name());
    let service = Service::start(Parts {
        store,
        kafka,
        servers: MailServers { primary, secondary: None },
        sms: SmsGateway::new(&SmsSettings::new("http://127.0.0.1:9/")).unwrap(),
        keys,
        templates: Templates::embedded(),
        sender: "Shop <shop@example.com>".parse().unwrap(),
        alerts: Alerts::new(AlertSettings::default(), clock.clone()).unwrap(),
        backups: Backups::open(folder.path()).await.unwrap(),
        counters: counters.clone(),
        clock,
        policies: Policies::default(),
        rules: Rules { in_flight: run.in_flight, buffered: 2 * run.in_flight.max(1_000), ..Rules::default() },
    })
    .unwrap();
    while counters.counts().sent() < run.mails as u64 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    std::mem::forget(service);
}

struct Began {
    at: Instant,
    first: AtomicU64,
}

/// Notes when the first mail came.
struct Marked<T> {
    transport: T,
    began: Arc<Began>,
}

impl<T: Transport> Transport for Marked<T> {
    async fn send(&self, mail: &Mail, handover: &impl Handover) -> Result<(), SendError> {
        if self.began.first.load(Ordering::Relaxed) == u64::MAX {
            self.began.first.fetch_min(self.began.at.elapsed().as_nanos() as u64, Ordering::Relaxed);
        }
        self.transport.send(mail, handover).await
    }
}

/// Takes its time and takes everything.
struct StandIn(Duration);

impl Transport for StandIn {
    async fn send(&self, _: &Mail, handover: &impl Handover) -> Result<(), SendError> {
        handover.hand_over().await.map_err(|fault| SendError {
            fault,
            stage: Stage::Data,
            code: None,
            server: "stand-in".to_owned(),
            text: String::new(),
        })?;
        tokio::time::sleep(self.0).await;
        Ok(())
    }
}

/// User and system time of this process; zero where there is no `/proc`.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after_name.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok());
    ticks.sum::<f64>() / 100.0
}

/// The most memory this process has had; zero where there is no `/proc`.
fn peak_memory_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.and_then(|peak| peak.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or_default() / 1024
}
