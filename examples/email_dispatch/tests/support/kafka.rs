//! A Kafka for each test: the embedded broker, or a real Apache Kafka from the folder of jars that
//! `EMAIL_DISPATCH_TEST_KAFKA_JARS` names.
#![allow(clippy::unwrap_used)] // only tests use it
#![allow(dead_code)] // not every test needs all of it

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use email_dispatch::{
    embedded::Broker,
    kafka::{KafkaSettings, make_topics},
    record::Topic,
};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode as ErrorCode},
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};
use tokio::{
    sync::{MutexGuard, OnceCell},
    time::Instant,
};

const JARS: &str = "EMAIL_DISPATCH_TEST_KAFKA_JARS";
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// Fails when the condition does not hold within a minute.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(TIME_LIMIT, waiting).await.is_ok(), "never: {what}");
}

/// A cluster with the topics of the service, which nobody else uses.
pub(crate) struct TestKafka {
    pub(crate) settings: KafkaSettings,
    producer: FutureProducer,
    place: Place,
}

enum Place {
    Embedded(Broker),
    /// Shared by all tests of the process that do not stop it.
    Shared,
    /// Only one of them at a time: starting one takes all the cores there are.
    Real(RealKafka, MutexGuard<'static, ()>),
}

impl TestKafka {
    pub(crate) async fn embedded(partitions: i32) -> Option<Self> {
        let settings = KafkaSettings { partitions, ..KafkaSettings::embedded(String::new()) };
        let broker = Broker::start(&settings).unwrap();
        let settings = KafkaSettings { brokers: broker.addresses().unwrap(), ..settings };
        Some(Self { producer: producer(&settings.brokers), settings, place: Place::Embedded(broker) })
    }

    /// `None`, and a line that says so, where there are no jars.
    pub(crate) async fn real(partitions: i32) -> Option<Self> {
        static SHARED: OnceCell<Option<RealKafka>> = OnceCell::const_new();
        let broker = SHARED.get_or_init(RealKafka::start).await.as_ref()?;
        Some(Self::on(broker.settings(partitions), Place::Shared).await)
    }

    /// One that the test may stop.
    pub(crate) async fn real_alone(partitions: i32) -> Option<Self> {
        static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let turn = ALONE.lock().await;
        let broker = RealKafka::start().await?;
        Some(Self::on(broker.settings(partitions), Place::Real(broker, turn)).await)
    }

    async fn on(settings: KafkaSettings, place: Place) -> Self {
        make_topics(&settings).await.unwrap();
        Self { producer: producer(&settings.brokers), settings, place }
    }

    /// Answers nobody from now on. A real broker is killed.
    pub(crate) fn stop(&self) {
        match &self.place {
            Place::Embedded(broker) => broker.stop().unwrap(),
            Place::Real(broker, _) => broker.kill(),
            Place::Shared => panic!("others use it"),
        }
    }

    /// Is there again, with all it had.
    pub(crate) async fn resume(&self) {
        match &self.place {
            Place::Embedded(broker) => broker.resume().unwrap(),
            Place::Real(broker, _) => broker.run().await,
            Place::Shared => panic!("others use it"),
        }
    }

    pub(crate) async fn send(&self, topic: Topic, key: Option<&str>, payload: &str) {
        self.send_all(topic, None, [(key.map(str::to_owned), payload.to_owned())]).await;
    }

    /// Sends records with a key or without and a payload, in order, and returns when all are there.
    pub(crate) async fn send_all(
        &self,
        topic: Topic,
        partition: Option<i32>,
        records: impl IntoIterator<Item = (Option<String>, String)>,
    ) {
        let topic = self.settings.topic_name(topic);
        let mut sent = Vec::new();
        for (key, payload) in records {
            let mut record = FutureRecord::<String, String>::to(&topic).payload(&payload);
            record.key = key.as_ref();
            record.partition = partition;
            sent.push(self.producer.send_result(record).map_err(|(error, _)| error).unwrap());
        }
        for delivered in sent {
            delivered.await.unwrap().unwrap();
        }
    }

    /// Sends one without a payload, with a header.
    pub(crate) async fn send_tombstone(&self, topic: Topic, key: &str, header: (&str, &[u8])) {
        let topic = self.settings.topic_name(topic);
        let headers = OwnedHeaders::new().insert(Header { key: header.0, value: Some(header.1) });
        let record = FutureRecord::<str, [u8]>::to(&topic).key(key).headers(headers);
        self.producer.send(record, TIME_LIMIT).await.unwrap();
    }

    /// What the group of the lane has committed of each partition of the topic.
    pub(crate) async fn committed(&self, lane: &str, topic: Topic) -> BTreeMap<i32, i64> {
        let group = format!("{}-{lane}", self.settings.group);
        let list = self.partitions(topic);
        let consumer = self.consumer(&group);
        // A broker that is back does not know at once which groups are its own.
        let settling =
            [ErrorCode::NotCoordinator, ErrorCode::CoordinatorNotAvailable, ErrorCode::CoordinatorLoadInProgress];
        let until = Instant::now() + TIME_LIMIT;
        let ask = move || loop {
            match consumer.committed_offsets(list.clone(), TIME_LIMIT) {
                Err(KafkaError::MetadataFetch(code)) if settling.contains(&code) && Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                answer => return answer,
            }
        };
        let list = tokio::task::spawn_blocking(ask).await.unwrap().unwrap();
        let offset = |offset| if let Offset::Offset(offset) = offset { Some(offset) } else { None };
        list.elements().iter().filter_map(|it| Some((it.partition(), offset(it.offset())?))).collect()
    }

    /// The offset that the next record of each partition will get, where there is one already.
    pub(crate) async fn ends(&self, topic: Topic) -> BTreeMap<i32, i64> {
        let (name, partitions) = (self.settings.topic_name(topic), self.settings.partitions);
        let consumer = self.consumer("nobody");
        let ask = move || {
            let end = |partition| (partition, consumer.fetch_watermarks(&name, partition, TIME_LIMIT).unwrap().1);
            (0..partitions).map(end).filter(|(_, end)| *end > 0).collect()
        };
        tokio::task::spawn_blocking(ask).await.unwrap()
    }

    /// Sends so much to a partition that the broker forgets some of it, and says how many records that were.
    pub(crate) async fn overfill(&self, topic: Topic, partition: i32) -> u64 {
        let records = 700;
        self.send_all(topic, Some(partition), (0..records).map(|_| (None, "x".repeat(10_000)))).await;
        if !matches!(self.place, Place::Embedded(_)) {
            let mut list = TopicPartitionList::new();
            let name = self.settings.topic_name(topic);
            list.add_partition_offset(&name, partition, Offset::Offset(records / 2)).unwrap();
            let admin: AdminClient<DefaultClientContext> = client(&self.settings.brokers).create().unwrap();
            let patient = AdminOptions::new().request_timeout(Some(TIME_LIMIT)).operation_timeout(Some(TIME_LIMIT));
            admin.delete_records(&list, &patient).await.unwrap();
        }
        records.unsigned_abs()
    }

    /// How many partitions the topic has.
    pub(crate) async fn count(&self, topic: Topic) -> usize {
        let (name, consumer) = (self.settings.topic_name(topic), self.consumer("nobody"));
        let ask = move || consumer.fetch_metadata(Some(&name), TIME_LIMIT).unwrap().topics()[0].partitions().len();
        tokio::task::spawn_blocking(ask).await.unwrap()
    }

    fn partitions(&self, topic: Topic) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        list.add_partition_range(&self.settings.topic_name(topic), 0, self.settings.partitions - 1);
        list
    }

    fn consumer(&self, group: &str) -> BaseConsumer {
        client(&self.settings.brokers).set("group.id", group).create().unwrap()
    }
}

fn client(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("reconnect.backoff.max.ms", "500").set("socket.timeout.ms", "3000");
    config
}

fn producer(brokers: &str) -> FutureProducer {
    client(brokers)
        .set("enable.idempotence", "true")
        .set("linger.ms", "5")
        .set("queue.buffering.max.messages", "1000000")
        .create()
        .unwrap()
}

/// One node that is broker and controller, on free ports, with its data in a folder of its own.
struct RealKafka {
    folder: PathBuf,
    address: SocketAddr,
    /// A shell that kills the broker when its input ends, as it does when this process ends, however it ends.
    process: Mutex<Option<Child>>,
}

impl RealKafka {
    async fn start() -> Option<Self> {
        let Ok(jars) = std::env::var(JARS) else {
            eprintln!("skipped: {JARS} names no folder with the jars of a Kafka");
            return None;
        };
        if Command::new("java").arg("-version").output().is_err() {
            eprintln!("skipped: no Java here to run a Kafka with");
            return None;
        }
        let folder = tempfile::tempdir().unwrap().keep();
        let (address, controller) = (free_address(), free_address());
        fs::write(folder.join("settings"), properties(address, controller, &folder.join("data"))).unwrap();
        let formatted = java(&jars, "kafka.tools.StorageTool")
            .args(["format", "--standalone", "-t", &uuid::Uuid::new_v4().to_string(), "-c"])
            .arg(folder.join("settings"))
            .output()
            .unwrap();
        assert!(formatted.status.success(), "{}", String::from_utf8_lossy(&formatted.stderr));
        let broker = Self { folder, address, process: Mutex::new(None) };
        broker.run().await;
        Some(broker)
    }

    /// Returns when it answers.
    async fn run(&self) {
        let jars = std::env::var(JARS).unwrap();
        let java = java(&jars, "kafka.Kafka");
        let script = r#"folder=$1; shift
            "$@" "$folder/settings" >"$folder/log" 2>&1 & broker=$!
            read -r line; kill -9 $broker; wait $broker 2>/dev/null
            [ "$line" = keep ] || rm -rf "$folder""#;
        let mut shell = Command::new("sh");
        shell.args(["-c", script, "sh"]).arg(&self.folder).arg(java.get_program()).args(java.get_args());
        *self.process.lock().unwrap() = Some(shell.stdin(Stdio::piped()).spawn().unwrap());
        let answers = async || TcpStream::connect_timeout(&self.address, Duration::from_secs(1)).is_ok();
        until("a real Kafka that answers", answers).await;
        let settings = KafkaSettings { topic_prefix: "ready-".to_owned(), ..self.settings(1) };
        until("a real Kafka that makes topics", async || make_topics(&settings).await.is_ok()).await;
    }

    fn kill(&self) {
        if let Some(mut shell) = self.process.lock().unwrap().take() {
            shell.stdin.take().unwrap().write_all(b"keep\n").unwrap();
            shell.wait().unwrap();
        }
    }

    /// With a prefix and a group that no other test has.
    fn settings(&self, partitions: i32) -> KafkaSettings {
        static TESTS: AtomicUsize = AtomicUsize::new(0);
        let name = format!("test-{}", TESTS.fetch_add(1, Ordering::Relaxed));
        KafkaSettings {
            partitions,
            topic_prefix: format!("{name}-"),
            group: name,
            message_timeout: Duration::from_secs(20),
            ..KafkaSettings::embedded(self.address.to_string())
        }
    }
}

impl Drop for RealKafka {
    fn drop(&mut self) {
        if let Some(mut shell) = self.process.lock().unwrap().take() {
            drop(shell.stdin.take());
            let _ = shell.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn java(jars: &str, class: &str) -> Command {
    let mut java = Command::new("java");
    java.args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", &format!("{jars}/*"), class]);
    java
}

fn properties(address: SocketAddr, controller: SocketAddr, data: &std::path::Path) -> String {
    format!(
        "process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://{address},CONTROLLER://{controller}
controller.quorum.bootstrap.servers={controller}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={}
auto.create.topics.enable=false
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
",
        data.display()
    )
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
