//! What is found when the parts of the service are put together.

use std::ffi::OsString;

use email_dispatch::{
    cli::Cli,
    record::{Headers, Record, Topic},
    settings::Settings,
    stage::assemble,
    store::Intake,
};
use serde_json::json;
use uuid::Uuid;

use crate::publisher::{FACTS, request};

/// Of a service that keeps its database in a folder, with an embedded broker.
fn settings(folder: &tempfile::TempDir) -> Settings {
    let data = folder.path().join("data").into_os_string();
    let backups = folder.path().join("backups").into_os_string();
    let arguments =
        [OsString::from("email_dispatch"), "serve".into(), "--data-dir".into(), data, "--backups-dir".into(), backups];
    let keys =
        |name: &str| (name == "EMAIL_DISPATCH_KEYS").then(|| "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".into());
    Cli::read(arguments, &keys).unwrap().settings
}

fn intake() -> Intake {
    let id = Uuid::new_v4();
    let record =
        Record { topic: Topic::Normal, key: None, payload: request(id, json!({})), headers: Headers::default() };
    Intake { id, facts: FACTS, record }
}

#[tokio::test]
async fn requests_whose_records_went_with_an_embedded_broker_are_told_of_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&folder);
    let (parts, embedded) = assemble(&settings).await.unwrap();
    assert_eq!(parts.alerts.raised(), 0, "nothing is missing yet");
    let outbox = parts.store.outbox();
    outbox.accept(vec![intake(), intake(), intake()]).await.unwrap();
    assert_eq!(outbox.stranded().await.unwrap(), 0, "what waits in the outbox is published");
    let rows = outbox.next(2).await.unwrap();
    outbox.published(&rows.iter().map(|row| row.seq).collect::<Vec<_>>()).await.unwrap();
    parts.store.close().await;
    drop((outbox, embedded));

    let (parts, _embedded) = assemble(&settings).await.unwrap();
    let recent = parts.alerts.recent();
    let details: Vec<_> = recent[0].alert.details().collect();
    assert_eq!((recent[0].alert.key(), details), ("stranded", vec![("requests", "2")]));
}
