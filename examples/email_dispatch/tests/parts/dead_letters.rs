//! Dead letters: looked at, and sent again.

use std::time::Duration;

use email_dispatch::{
    kafka::{
        KafkaFault, KafkaSettings,
        dead_letters::{DeadLetter, Wanted, read, replay},
    },
    record::{Delivery, Headers, Record, Topic, again, dead_letter, header},
    store::{Claimed, Finish, Status, Store, Written},
};
use serde_json::json;
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    database::TestDatabase,
    publisher::{FACTS, bench, ledger, request},
};

fn delivery(topic: Topic, payload: Vec<u8>, headers: Headers) -> Delivery {
    Delivery { topic, partition: 1, offset: 2, key: Some(b"ada".to_vec()), payload: Some(payload), headers }
}

/// As it is on the dead-letter topic.
fn letter(payload: Vec<u8>) -> DeadLetter {
    let Record { payload, headers, .. } =
        dead_letter(&delivery(Topic::Normal, payload, Headers::default()), "recipient", "550 no such user");
    DeadLetter::new(delivery(Topic::DeadLetter, payload, headers), Some(1_769_860_800_000))
}

async fn store() -> (TestDatabase, Store) {
    let database = TestDatabase::sqlite().await.unwrap();
    let store = database.store().await;
    (database, store)
}

/// Gives a request up.
async fn fail(store: &Store, id: Uuid) {
    let Claimed::Yes(claim) = ledger(store).claim(id, FACTS, 0).await.unwrap() else { panic!("nobody else is here") };
    let failed = Finish::Failed { reason: "550".into() };
    assert_eq!(ledger(store).finish(&claim, failed, Vec::new()).await.unwrap(), Written::Yes);
}

async fn outbox(store: &Store) -> Vec<Record> {
    store.outbox().next(100).await.unwrap().into_iter().map(|row| row.record).collect()
}

#[tokio::test]
async fn dead_letters_are_read_from_all_partitions_each_time() {
    let bench = bench().await;
    let ids: Vec<_> = (0..30).map(|_| Uuid::new_v4()).collect();
    let letters: Vec<_> = ids
        .iter()
        .map(|id| {
            let found = delivery(Topic::High, request(*id, json!({})), Headers::default());
            Record { key: Some(id.to_string()), ..dead_letter(&found, "recipient", "550 no ada@example.com") }
        })
        .collect();
    bench.store.outbox().put(&letters).await.unwrap();
    bench.publish_all().await;

    for _ in 0..2 {
        let found = read(&bench.kafka, &Wanted::default()).await.unwrap();
        let mut of: Vec<_> = found.iter().map(|letter| letter.id.unwrap()).collect();
        of.sort_unstable();
        let mut expected = ids.clone();
        expected.sort_unstable();
        assert_eq!(of, expected);
        let one = found.iter().find(|letter| letter.id == Some(ids[0])).unwrap();
        assert_eq!((one.reason.as_str(), one.explanation.as_str()), ("recipient", "550 no a***@e***.com"));
        assert_eq!(one.original_topic.as_deref(), Some("high-priority-emails"));
        assert_eq!(one.delivery.payload.as_deref(), Some(&*request(ids[0], json!({}))));
    }
    let only = Wanted { ids: vec![ids[3]], ..Wanted::default() };
    assert_eq!(read(&bench.kafka, &only).await.unwrap().len(), 1);
    let few = Wanted { limit: Some(7), reason: Some("recipient".into()), ..Wanted::default() };
    assert_eq!(read(&bench.kafka, &few).await.unwrap().len(), 7);
    let none = Wanted { reason: Some("gateway".into()), ..Wanted::default() };
    assert_eq!(read(&bench.kafka, &none).await.unwrap(), []);
}

#[tokio::test]
async fn an_empty_topic_has_no_dead_letters() {
    let bench = bench().await;
    assert_eq!(read(&bench.kafka, &Wanted::default()).await.unwrap(), []);
}

#[tokio::test]
async fn a_broker_that_cannot_be_reached_is_named_in_time() {
    let kafka = KafkaSettings {
        brokers: "127.0.0.1:1".into(),
        message_timeout: Duration::from_millis(300),
        ..KafkaSettings::default()
    };
    let began = Instant::now();
    let error = read(&kafka, &Wanted::default()).await.unwrap_err();
    assert!(matches!(&error, KafkaFault::Unreachable { brokers, .. } if brokers == "127.0.0.1:1"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_dead_letter_is_one_line_without_anything_personal() {
    let id = Uuid::new_v4();
    let line = letter(request(id, json!({}))).to_string();
    let expected = format!("1/2 2026-01-31T12:00:00Z {id} from normal-priority-emails: recipient: 550 no such user");
    assert_eq!(line, expected);

    let foreign = vec![
        (header::REASON.to_owned(), b"java.lang.Oops".to_vec()),
        (header::EXPLANATION.to_owned(), b"no\nada@example.com".to_vec()),
    ];
    let foreign = DeadLetter::new(delivery(Topic::DeadLetter, b"?".to_vec(), Headers(foreign)), None);
    let expected = "1/2 at an unknown time without an id from an unknown topic: java.lang.Oops: no a***@e***.com";
    assert_eq!(foreign.to_string(), expected);
    assert_eq!(format!("{foreign:?}"), format!("DeadLetter({expected})"));
}

#[tokio::test]
async fn a_request_that_has_failed_is_sent_again_as_a_new_one() {
    let (_database, store) = store().await;
    let id = Uuid::new_v4();
    fail(&store, id).await;
    let found = delivery(Topic::High, request(id, json!({ "priority": "HIGH" })), Headers::default());
    let retry = again(&found, Topic::ImmediateRetry, 2, None);
    let dead = dead_letter(&retry, "provider", "421");
    let letter = DeadLetter::new(delivery(Topic::DeadLetter, dead.payload, dead.headers), None);

    let replayed = replay(&ledger(&store), &store.outbox(), &[letter]).await.unwrap();
    assert_eq!((replayed.reopened, replayed.skipped.len()), (vec![id], 0));
    assert_eq!(ledger(&store).find(id).await.unwrap().unwrap().status, Status::Pending);
    let payload = request(id, json!({ "priority": "HIGH" }));
    let record = Record { topic: Topic::High, key: Some("ada".into()), payload, headers: Headers::default() };
    assert_eq!(outbox(&store).await, [record]);
}

#[tokio::test]
async fn a_dead_letter_that_is_replayed_twice_is_sent_once() {
    let (_database, store) = store().await;
    let id = Uuid::new_v4();
    fail(&store, id).await;
    let letters = [letter(request(id, json!({}))), letter(request(id, json!({})))];
    let first = replay(&ledger(&store), &store.outbox(), &letters).await.unwrap();
    let second = replay(&ledger(&store), &store.outbox(), &letters).await.unwrap();
    assert_eq!((first.reopened, second.reopened), (vec![id], vec![]));
    let why: Vec<_> = first.skipped.into_iter().chain(second.skipped).map(|skipped| skipped.why).collect();
    assert_eq!(why, ["its request is PENDING, not FAILED"; 3]);
    assert_eq!(outbox(&store).await.len(), 1);
}

#[tokio::test]
async fn what_was_sent_or_may_have_been_sent_is_left_alone() {
    let (_database, store) = store().await;
    let (sent, unknown) = (Uuid::new_v4(), Uuid::new_v4());
    for id in [sent, unknown] {
        let Claimed::Yes(claim) = ledger(&store).claim(id, FACTS, 0).await.unwrap() else {
            panic!("nobody else is here")
        };
        let written = if id == sent {
            ledger(&store).sent(&claim, "primary").await.unwrap()
        } else {
            let unknown = Finish::Unknown { reason: "no answer".into(), request: String::new() };
            ledger(&store).finish(&claim, unknown, Vec::new()).await.unwrap()
        };
        assert_eq!(written, Written::Yes);
    }
    let letters = [sent, unknown].map(|id| letter(request(id, json!({}))));
    let replayed = replay(&ledger(&store), &store.outbox(), &letters).await.unwrap();
    let why: Vec<_> = replayed.skipped.into_iter().map(|skipped| (skipped.id.unwrap(), skipped.why)).collect();
    let expected = [(sent, "SENT"), (unknown, "UNKNOWN")];
    assert_eq!(why, expected.map(|(id, status)| (id, format!("its request is {status}, not FAILED"))));
    assert_eq!(outbox(&store).await, []);
}

#[tokio::test]
async fn a_request_that_the_ledger_does_not_know_is_accepted_once() {
    let (_database, store) = store().await;
    let id = Uuid::new_v4();
    let letters = [letter(request(id, json!({}))), letter(request(id, json!({})))];
    let replayed = replay(&ledger(&store), &store.outbox(), &letters).await.unwrap();
    assert_eq!((replayed.reopened, replayed.skipped.len()), (vec![id], 1));
    assert_eq!(outbox(&store).await.len(), 1);
}

#[tokio::test]
async fn what_is_no_request_is_skipped_and_not_quoted() {
    let (_database, store) = store().await;
    let id = Uuid::new_v4();
    let odd = letter(request(id, json!({ "priority": "ada@example.com" })));
    let empty = letter(Vec::new());
    let replayed = replay(&ledger(&store), &store.outbox(), &[odd, empty]).await.unwrap();
    assert!(replayed.reopened.is_empty());
    let [odd, empty] = &replayed.skipped[..] else { panic!("{replayed:?}") };
    assert_eq!((odd.id, odd.partition, odd.offset, empty.id), (Some(id), 1, 2, None));
    for skipped in [odd, empty] {
        assert!(skipped.why.starts_with("it cannot be read as a request (line "), "{}", skipped.why);
        assert!(!skipped.why.contains("ada"));
    }
}
