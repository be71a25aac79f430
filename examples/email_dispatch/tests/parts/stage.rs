//! What is found when the parts of the service are put together.

use std::{ffi::OsString, time::Duration};

use email_dispatch::{
    cli::Cli,
    record::{Headers, Record, Topic},
    settings::Settings,
    stage::{self, assemble},
    store::Intake,
};
use serde_json::json;
use sqlx::Executor;
use uuid::Uuid;

use crate::{
    database::TestDatabase,
    publisher::{FACTS, request},
};

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

#[tokio::test]
async fn a_database_that_is_locked_at_the_start_is_asked_again() {
    let database = TestDatabase::sqlite().await.unwrap();
    database.store().await.close().await;
    let arguments = ["email_dispatch", "status", "--database-busy-timeout=50ms"].map(OsString::from);
    let url = database.url.clone();
    let environment = move |name: &str| (name == "DATABASE_URL").then(|| url.clone().into());
    let settings = Cli::read(arguments, &environment).unwrap().settings;
    let mut stranger = database.stranger().await;
    stranger.execute("BEGIN IMMEDIATE").await.unwrap();
    let (connected, ()) = tokio::join!(stage::connect(&settings, &database.url), async {
        tokio::time::sleep(Duration::from_millis(300)).await; // past the first attempt
        stranger.execute("COMMIT").await.unwrap();
    });
    connected.unwrap().close().await;
}
