//! How many mails a second the store keeps up with: each is claimed, handed over, and written down as sent.
//!
//! ```text
//! cargo bench -p email-dispatch --bench store [-- sqlite:/tmp/bench.db | postgres://...]
//! ```
#![allow(clippy::print_stdout, clippy::unwrap_used)]
#![allow(clippy::disallowed_types)] // real time is what is measured

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Instant,
};

use email_dispatch::{
    record::{Headers, Record, Topic},
    request::{Kind, Priority},
    store::{Claimed, Facts, Guarantee, Intake, Ledger, LedgerSettings, Store, StoreSettings, Synchronous, Written},
    wall_clock::WallClock,
};
use uuid::Uuid;

const MAILS: u32 = 100_000;
const FACTS: Facts = Facts { kind: Kind::Notification, priority: Priority::Normal };

#[tokio::main]
async fn main() {
    let named = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let folder = tempfile::tempdir().unwrap();
    for (durability, synchronous) in [("normal", Synchronous::Normal), ("full", Synchronous::Full)] {
        let file = folder.path().join(durability);
        let url = named.clone().unwrap_or_else(|| format!("sqlite:{}", file.display()));
        println!("{}, synchronous {durability}", url.split(':').next().unwrap_or_default());
        let settings = StoreSettings { synchronous, ..StoreSettings::default() };
        let store = Store::connect(&url, settings, WallClock::system()).await.unwrap();
        for guarantee in [Guarantee::AtMostOnce, Guarantee::AtLeastOnce] {
            let ledger = store.ledger(LedgerSettings { guarantee, ..LedgerSettings::default() });
            for at_once in [64, 1_000, 10_000] {
                send(&ledger, guarantee, at_once).await;
            }
        }
        accept_and_publish(&store).await;
        store.close().await;
    }
}

async fn send(ledger: &Ledger, guarantee: Guarantee, at_once: u32) {
    let left = Arc::new(AtomicU32::new(MAILS));
    let measured = Measured::begin();
    let workers: Vec<_> = (0..at_once)
        .map(|_| {
            let (ledger, left) = (ledger.clone(), Arc::clone(&left));
            tokio::spawn(async move {
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                    let Claimed::Yes(claim) = ledger.claim(Uuid::new_v4(), FACTS, 0).await.unwrap() else {
                        panic!("nobody else is here");
                    };
                    assert_eq!(ledger.hand_over(&claim).await.unwrap(), Written::Yes);
                    assert_eq!(ledger.sent(&claim, "primary-smtp").await.unwrap(), Written::Yes);
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    measured.say(&format!("{guarantee:?}, {at_once} at once: claim, hand over, sent"));
}

async fn accept_and_publish(store: &Store) {
    const REQUESTS: usize = 20_000;
    let outbox = store.outbox();
    let requests = (0..REQUESTS).map(|_| {
        let id = Uuid::new_v4();
        let payload = format!("{{\"id\":\"{id}\",\"content\":\"{}\"}}", "x".repeat(600)).into_bytes();
        let record = Record { topic: Topic::Normal, key: Some(id.to_string()), payload, headers: Headers::default() };
        Intake { id, facts: FACTS, record }
    });
    let requests = requests.collect();
    let measured = Measured::begin();
    outbox.accept(requests).await.unwrap();
    measured.say_of(REQUESTS, "accepted");

    let measured = Measured::begin();
    loop {
        let rows = outbox.next(500).await.unwrap();
        if rows.is_empty() {
            break;
        }
        outbox.published(&rows.iter().map(|row| row.seq).collect::<Vec<_>>()).await.unwrap();
    }
    measured.say_of(REQUESTS, "read from the outbox, and deleted");
}

struct Measured {
    began: Instant,
    processor_seconds: f64,
}

impl Measured {
    fn begin() -> Self {
        Self { began: Instant::now(), processor_seconds: processor_seconds() }
    }

    fn say(self, what: &str) {
        self.say_of(MAILS as usize, what);
    }

    fn say_of(self, number: usize, what: &str) {
        let seconds = self.began.elapsed().as_secs_f64();
        let busy = processor_seconds() - self.processor_seconds;
        println!(
            "{:>9.0}/s  {:>5.1} µs of processor time each  {what}",
            number as f64 / seconds,
            busy * 1e6 / number as f64
        );
    }
}

/// User and system time of this process; zero where there is no `/proc`.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after_name.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok());
    ticks.sum::<f64>() / 100.0
}
