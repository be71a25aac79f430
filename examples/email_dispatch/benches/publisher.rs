//! How many records a second get from the outbox into an embedded cluster.
//!
//! ```text
//! cargo bench -p email-dispatch --bench publisher
//! ```
#![allow(clippy::print_stdout, clippy::unwrap_used)]
#![allow(clippy::disallowed_types)] // real time is what is measured

use std::time::{Duration, Instant};

use email_dispatch::{
    embedded::Broker,
    kafka::{
        KafkaSettings,
        publisher::{Publisher, PublisherSettings},
    },
    record::{Headers, Record, Topic},
    store::{LedgerSettings, Store, StoreSettings},
    wall_clock::WallClock,
};

const RECORDS: usize = 100_000;

#[tokio::main]
async fn main() {
    for batch in [100, 500, 1_000, 2_000] {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("outbox").display());
        let store = Store::connect(&url, StoreSettings::default(), WallClock::system()).await.unwrap();
        let records = (0..RECORDS).map(|number| Record {
            topic: Topic::Normal,
            key: Some(format!("{:032x}", number % 5_000)),
            payload: vec![b'x'; 500],
            headers: Headers::default(),
        });
        for records in records.collect::<Vec<_>>().chunks(1_000) {
            store.outbox().put(records).await.unwrap();
        }

        let mut kafka = KafkaSettings::embedded(String::new());
        let broker = Broker::start(&kafka).unwrap();
        kafka.brokers = broker.addresses().unwrap();
        let ledger = store.ledger(LedgerSettings::default());
        let settings = PublisherSettings { batch, ..PublisherSettings::default() };
        let began = Instant::now();
        let lease = store.lease("publisher");
        let publisher = Publisher::start(store.outbox(), ledger, lease, &kafka, &settings).unwrap();
        while !store.outbox().is_empty().await.unwrap() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let seconds = began.elapsed().as_secs_f64();
        println!("{:>9.0}/s  in batches of {batch}", RECORDS as f64 / seconds);
        publisher.shut_down(Duration::from_secs(5)).await;
        store.close().await;
    }
}
