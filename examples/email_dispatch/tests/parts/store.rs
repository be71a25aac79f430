//! The store, each test on SQLite, and on PostgreSQL where a server is named.
#![allow(clippy::unwrap_used)]

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use email_dispatch::{
    record::{Headers, Record, Topic},
    request::{Kind, Priority},
    store::{
        Accepted, As, Claim, Claimed, Counts, Facts, Finish, Guarantee, Intake, Ledger, LedgerSettings, Status, Store,
        StoreError, StoreSettings, Written,
    },
};
use futures::future::join_all;
use sqlx::Executor;
use uuid::Uuid;

use crate::database::{TestDatabase, impatient};

const LEASE: Duration = Duration::from_secs(60);
const FACTS: Facts = Facts { kind: Kind::Notification, priority: Priority::Normal };

/// Each test runs once on each engine.
macro_rules! on_each_database {
    ($($(#[$attribute:meta])* async fn $name:ident($database:ident) $body:block)*) => {
        $(async fn $name($database: &TestDatabase) $body)*

        mod sqlite {
            use super::*;
            $($(#[$attribute])* #[tokio::test] async fn $name() {
                on(TestDatabase::sqlite().await, async |database| super::$name(database).await).await;
            })*
        }

        mod postgres {
            use super::*;
            $($(#[$attribute])* #[tokio::test] async fn $name() {
                on(TestDatabase::postgres().await, async |database| super::$name(database).await).await;
            })*
        }
    };
}

async fn on(database: Option<TestDatabase>, test: impl AsyncFnOnce(&TestDatabase)) {
    if let Some(database) = database {
        test(&database).await;
        database.remove().await;
    }
}

fn once(store: &Store) -> Ledger {
    store.ledger(LedgerSettings { guarantee: Guarantee::AtMostOnce, lease: LEASE })
}

fn at_least_once(store: &Store) -> Ledger {
    store.ledger(LedgerSettings { guarantee: Guarantee::AtLeastOnce, lease: LEASE })
}

async fn claim(ledger: &Ledger, id: Uuid) -> Claim {
    claim_after(ledger, id, 0).await
}

async fn claim_after(ledger: &Ledger, id: Uuid, failed_attempts: u32) -> Claim {
    match ledger.claim(id, FACTS, failed_attempts).await.unwrap() {
        Claimed::Yes(claim) => claim,
        other => panic!("{other:?}"),
    }
}

async fn is_over(ledger: &Ledger, id: Uuid) -> Status {
    match ledger.claim(id, FACTS, 0).await.unwrap() {
        Claimed::Over(status) => status,
        other => panic!("{other:?}"),
    }
}

async fn held_until(ledger: &Ledger, id: Uuid) -> i64 {
    match ledger.claim(id, FACTS, 0).await.unwrap() {
        Claimed::Held { until_ms } => until_ms,
        other => panic!("{other:?}"),
    }
}

async fn status(ledger: &Ledger, id: Uuid) -> Status {
    ledger.find(id).await.unwrap().unwrap().status
}

fn record(topic: Topic, payload: &str) -> Record {
    Record { topic, key: Some("key".into()), payload: payload.into(), headers: Headers::default() }
}

fn intake(id: Uuid, payload: &str) -> Intake {
    Intake { id, facts: FACTS, record: record(Topic::Normal, payload) }
}

async fn payloads(store: &Store) -> Vec<String> {
    let rows = store.outbox().next(1_000).await.unwrap();
    rows.into_iter().map(|row| String::from_utf8(row.record.payload).unwrap()).collect()
}

fn failed(reason: &str) -> Finish {
    Finish::Failed { reason: reason.into() }
}

fn again() -> Finish {
    Finish::Again { reason: "421".into() }
}

mod claims {
    use super::*;

    on_each_database! {
        async fn a_request_nobody_has_seen_is_claimed(database) {
            let ledger = once(&database.store().await);
            let claim = claim(&ledger, Uuid::new_v4()).await;
            assert_eq!((claim.attempts, claim.deadline_ms), (1, 1_060_000));
            assert_eq!(status(&ledger, claim.id).await, Status::Sending);
        }

        async fn an_accepted_request_is_claimed(database) {
            let store = database.store().await;
            let id = Uuid::new_v4();
            store.outbox().accept(vec![intake(id, "a")]).await.unwrap();
            let ledger = once(&store);
            assert_eq!(status(&ledger, id).await, Status::Pending);
            assert_eq!(claim(&ledger, id).await.attempts, 1);
        }

        async fn a_claimed_request_is_held_until_its_lease_is_over(database) {
            let (one, other) = (once(&database.store().await), once(&database.store().await));
            let first = claim(&one, Uuid::new_v4()).await;
            database.clock.advance(LEASE - Duration::from_millis(1));
            assert_eq!(held_until(&other, first.id).await, first.deadline_ms);
            database.clock.advance(Duration::from_millis(1));
            assert_eq!(claim(&other, first.id).await.attempts, 1, "it is the same attempt");
        }

        async fn of_eight_claimants_of_a_thousand_requests_each_request_has_one(database) {
            let ids: Vec<_> = (0..1_000).map(|_| Uuid::new_v4()).collect();
            // Two processes, and four tasks in each.
            let stores = [database.store().await, database.store().await];
            let claimants = (0..8).map(|number| {
                let (ledger, mut ids) = (once(&stores[number % 2]), ids.clone());
                ids.rotate_left(number * 17);
                tokio::spawn(async move {
                    let claimed = join_all(ids.iter().map(async |id| (*id, ledger.claim(*id, FACTS, 0).await.unwrap())));
                    let won = claimed.await.into_iter().filter(|(_, claimed)| matches!(claimed, Claimed::Yes(_)));
                    won.map(|(id, _)| id).collect::<Vec<_>>()
                })
            });
            let winners: Vec<_> = join_all(claimants).await.into_iter().flat_map(Result::unwrap).collect();
            assert_eq!(winners.len(), 1_000);
            assert_eq!(winners.into_iter().collect::<HashSet<_>>().len(), 1_000);
        }

        async fn of_two_claims_in_one_transaction_the_first_wins(database) {
            let ledger = once(&database.store().await);
            let id = Uuid::new_v4();
            let claimed = join_all((0..5).map(|_| ledger.claim(id, FACTS, 0))).await;
            let mut won = claimed.into_iter().map(|claimed| matches!(claimed.unwrap(), Claimed::Yes(_)));
            assert_eq!(won.next(), Some(true));
            assert!(won.all(|won| !won));
        }

        async fn a_claim_nobody_waits_for_any_more_is_given_back(database) {
            let ledger = once(&database.store().await);
            let id = Uuid::new_v4();
            {
                let mut asked = Box::pin(ledger.claim(id, FACTS, 0));
                assert!(futures::poll!(&mut asked).is_pending());
            }
            let row = loop {
                tokio::task::yield_now().await;
                match ledger.find(id).await.unwrap() {
                    Some(row) if row.status == Status::Pending => break row,
                    _ => {}
                }
            };
            assert_eq!(row.attempts, 0);
        }

        async fn a_released_claim_does_not_count(database) {
            let ledger = once(&database.store().await);
            let first = claim(&ledger, Uuid::new_v4()).await;
            assert_eq!(ledger.release(&first).await.unwrap(), Written::Yes);
            assert_eq!(claim(&ledger, first.id).await.attempts, 1);
        }

        async fn a_row_knows_what_it_is_about(database) {
            let ledger = once(&database.store().await);
            let id = Uuid::new_v4();
            let facts = Facts { kind: Kind::Marketing, priority: Priority::High };
            assert!(matches!(ledger.claim(id, facts, 0).await.unwrap(), Claimed::Yes(_)));
            let row = ledger.find(id).await.unwrap().unwrap();
            assert_eq!((&*row.kind, &*row.priority, row.changed_at_ms), ("MARKETING", "HIGH", 1_000_000));
        }

        async fn a_request_nobody_knows_is_not_found(database) {
            assert_eq!(once(&database.store().await).find(Uuid::new_v4()).await.unwrap(), None);
        }
    }
}

mod at_most_once {
    use super::*;

    on_each_database! {
        async fn a_mail_is_in_doubt_from_the_handing_over_to_the_answer(database) {
            let ledger = once(&database.store().await);
            let claim = claim(&ledger, Uuid::new_v4()).await;
            assert_eq!(ledger.hand_over(&claim).await.unwrap(), Written::Yes);
            let row = ledger.find(claim.id).await.unwrap().unwrap();
            assert_eq!((row.status, row.in_doubt), (Status::Sent, true));

            assert_eq!(ledger.sent(&claim, "primary-smtp").await.unwrap(), Written::Yes);
            let row = ledger.find(claim.id).await.unwrap().unwrap();
            assert_eq!((row.status, row.in_doubt, row.provider.as_deref()), (Status::Sent, false, Some("primary-smtp")));
            assert_eq!(is_over(&ledger, claim.id).await, Status::Sent);
        }

        async fn a_mail_in_doubt_is_held(database) {
            let ledger = once(&database.store().await);
            let claim = claim(&ledger, Uuid::new_v4()).await;
            database.clock.advance(LEASE / 2);
            assert_eq!(ledger.hand_over(&claim).await.unwrap(), Written::Yes);
            assert_eq!(held_until(&ledger, claim.id).await, 1_000_000 + 90_000); // the lease began anew
        }

        async fn a_mail_whose_sender_died_is_unknown_when_it_is_claimed_again(database) {
            let id = Uuid::new_v4();
            {
                let dying = once(&database.store().await);
                let claim = claim(&dying, id).await;
                assert_eq!(dying.hand_over(&claim).await.unwrap(), Written::Yes);
            }
            database.clock.advance(LEASE);
            let ledger = once(&database.store().await);
            assert_eq!(is_over(&ledger, id).await, Status::Unknown);
            assert!(ledger.find(id).await.unwrap().unwrap().reason.unwrap().contains("has gone"));
        }

        async fn a_sweep_finds_what_is_in_doubt_for_too_long_and_nothing_else(database) {
            let ledger = once(&database.store().await);
            let ids: Vec<_> = (0..3).map(|_| Uuid::new_v4()).collect();
            let claims = [claim(&ledger, ids[0]).await, claim(&ledger, ids[1]).await, claim(&ledger, ids[2]).await];
            assert_eq!(ledger.hand_over(&claims[0]).await.unwrap(), Written::Yes);
            assert_eq!(ledger.hand_over(&claims[1]).await.unwrap(), Written::Yes);
            assert_eq!(ledger.sent(&claims[1], "p").await.unwrap(), Written::Yes);
            assert!(ledger.sweep().await.unwrap().is_empty());
            database.clock.advance(LEASE);
            assert_eq!(ledger.sweep().await.unwrap(), [ids[0]]);
            assert_eq!(status(&ledger, ids[2]).await, Status::Sending);
        }

        async fn an_answer_that_comes_after_the_sweep_still_ends_the_doubt(database) {
            let ledger = once(&database.store().await);
            let claim = claim(&ledger, Uuid::new_v4()).await;
            assert_eq!(ledger.hand_over(&claim).await.unwrap(), Written::Yes);
            database.clock.advance(LEASE);
            assert_eq!(ledger.sweep().await.unwrap(), [claim.id]);
            assert!(ledger.keep_request(claim.id, "{}").await.unwrap());
            assert_eq!(ledger.sent(&claim, "primary-smtp").await.unwrap(), Written::Yes);
            let row = ledger.find(claim.id).await.unwrap().unwrap();
            assert_eq!((row.status, row.in_doubt, row.request, row.reason), (Status::Sent, false, None, None));
        }

        async fn what_the_server_refused_is_taken_back_and_can_go_to_another(database) {
            let ledger = once(&database.store().await);
            let claim = claim(&ledger, Uuid::new_v4()).await;
            assert_eq!(ledger.hand_over(&claim).await.unwrap(), Written::Yes);
            assert_eq!(ledger.take_back(&claim).await.unwrap(), Written::Yes);
            assert_eq!(status(&ledger, claim.id).await, Status::Sending);
            assert_eq!(ledger.hand_over(&claim).await.unwrap(), Written::Yes);
            assert_eq!(ledger.sent(&claim, "secondary-smtp").await.unwrap(), Written::Yes);
        }

        async fn what_is_in_doubt_cannot_be_released(database) {
            let ledger = once(&database.store().await);
            let claim = claim(&ledger, Uuid::new_v4()).await;
            assert_eq!(ledger.hand_over(&claim).await.unwrap(), Written::Yes);
            assert_eq!(ledger.release(&claim).await.unwrap(), Written::Fenced);
            assert_eq!(ledger.counts().await.unwrap(), Counts { in_doubt: 1, ..Counts::default() });
        }

        async fn no_answer_after_the_final_dot_is_unknown_with_its_request(database) {
            let ledger = once(&database.store().await);
            let claim = claim(&ledger, Uuid::new_v4()).await;
            assert_eq!(ledger.hand_over(&claim).await.unwrap(), Written::Yes);
            let finish = Finish::Unknown { reason: "no answer".into(), request: "{\"a\":\"\\u0000\"}".into() };
            assert_eq!(ledger.finish(&claim, finish, vec![]).await.unwrap(), Written::Yes);
            let rows = ledger.list(Status::Unknown, 10).await.unwrap();
            assert_eq!(rows.len(), 1);
            assert_eq!(rows[0].request.as_deref(), Some("{\"a\":\"\\u0000\"}"));
            assert_eq!(rows[0].reason.as_deref(), Some("no answer"));
        }

        async fn asking_to_hand_over_twice_is_as_good_as_once(database) {
            let ledger = once(&database.store().await);
            let claim = claim(&ledger, Uuid::new_v4()).await;
            assert_eq!(ledger.hand_over(&claim).await.unwrap(), Written::Yes);
            assert_eq!(ledger.hand_over(&claim).await.unwrap(), Written::Yes);
        }
    }
}

mod at_least_once {
    use super::*;

    on_each_database! {
        async fn a_mail_is_being_sent_until_the_server_has_answered(database) {
            let ledger = at_least_once(&database.store().await);
            let claim = claim(&ledger, Uuid::new_v4()).await;
            assert_eq!(ledger.hand_over(&claim).await.unwrap(), Written::Yes);
            assert_eq!(status(&ledger, claim.id).await, Status::Sending);
            assert_eq!(ledger.sent(&claim, "p").await.unwrap(), Written::Yes);
            assert_eq!(is_over(&ledger, claim.id).await, Status::Sent);
        }

        async fn a_mail_whose_sender_died_is_claimed_again(database) {
            let id = Uuid::new_v4();
            {
                let dying = at_least_once(&database.store().await);
                let claim = claim(&dying, id).await;
                assert_eq!(dying.hand_over(&claim).await.unwrap(), Written::Yes);
            }
            database.clock.advance(LEASE);
            let ledger = at_least_once(&database.store().await);
            assert!(ledger.sweep().await.unwrap().is_empty());
            assert_eq!(claim(&ledger, id).await.attempts, 1);
        }

        async fn handing_over_begins_the_lease_anew(database) {
            let ledger = at_least_once(&database.store().await);
            let claim = claim(&ledger, Uuid::new_v4()).await;
            database.clock.advance(LEASE * 2); // over, but nobody has noticed
            assert_eq!(ledger.hand_over(&claim).await.unwrap(), Written::Yes);
            assert_eq!(held_until(&ledger, claim.id).await, 1_000_000 + 180_000);
        }
    }
}

mod zombies {
    use super::*;

    /// A worker that stalled until another had taken its row over, and the other.
    async fn zombie_and_heir(database: &TestDatabase) -> (Ledger, Claim, Claim) {
        let ledger = once(&database.store().await);
        let zombie = claim(&ledger, Uuid::new_v4()).await;
        database.clock.advance(LEASE);
        let heir = claim(&ledger, zombie.id).await;
        (ledger, zombie, heir)
    }

    on_each_database! {
        async fn a_zombie_cannot_write_anything(database) {
            let (ledger, zombie, heir) = zombie_and_heir(database).await;
            assert_eq!(ledger.hand_over(&zombie).await.unwrap(), Written::Fenced);
            assert_eq!(ledger.take_back(&zombie).await.unwrap(), Written::Fenced);
            assert_eq!(ledger.sent(&zombie, "p").await.unwrap(), Written::Fenced);
            assert_eq!(ledger.release(&zombie).await.unwrap(), Written::Fenced);
            assert_eq!(ledger.finish(&zombie, Finish::SmsSent, vec![]).await.unwrap(), Written::Fenced);
            assert_eq!(ledger.find(zombie.id).await.unwrap().unwrap().attempts, 1);
            assert_eq!(ledger.hand_over(&heir).await.unwrap(), Written::Yes);
            assert_eq!(ledger.sent(&heir, "p").await.unwrap(), Written::Yes);
        }

        async fn a_zombie_publishes_nothing(database) {
            let (ledger, zombie, heir) = zombie_and_heir(database).await;
            let letter = |from| vec![record(Topic::DeadLetter, from)];
            // In one transaction with a write that is made.
            let (fenced, written) = tokio::join!(
                ledger.finish(&zombie, failed("550"), letter("zombie")),
                ledger.finish(&heir, failed("550"), letter("heir")),
            );
            assert_eq!((fenced.unwrap(), written.unwrap()), (Written::Fenced, Written::Yes));
            assert_eq!(payloads(&database.store().await).await, ["heir"]);
        }

        async fn what_is_written_together_with_a_zombies_word_is_written_once(database) {
            let (ledger, zombie, heir) = zombie_and_heir(database).await;
            let id = Uuid::new_v4();
            let (claimed, fenced, written) =
                tokio::join!(ledger.claim(id, FACTS, 0), ledger.sent(&zombie, "p"), ledger.sent(&heir, "p"));
            assert!(matches!(claimed.unwrap(), Claimed::Yes(Claim { attempts: 1, .. })));
            assert_eq!((fenced.unwrap(), written.unwrap()), (Written::Fenced, Written::Yes));
            assert_eq!(status(&ledger, heir.id).await, Status::Sent);
        }

        async fn whoever_has_finished_is_fenced_from_then_on(database) {
            let ledger = once(&database.store().await);
            let claim = claim(&ledger, Uuid::new_v4()).await;
            assert_eq!(ledger.finish(&claim, failed("550"), vec![]).await.unwrap(), Written::Yes);
            assert_eq!(ledger.hand_over(&claim).await.unwrap(), Written::Fenced);
            assert_eq!(ledger.finish(&claim, again(), vec![]).await.unwrap(), Written::Fenced);
            assert_eq!(status(&ledger, claim.id).await, Status::Failed);
        }
    }
}

mod endings {
    use super::*;

    on_each_database! {
        async fn what_failed_is_over_and_says_why(database) {
            let ledger = once(&database.store().await);
            let claim = claim(&ledger, Uuid::new_v4()).await;
            assert_eq!(ledger.finish(&claim, failed("550 no such user\0"), vec![]).await.unwrap(), Written::Yes);
            assert_eq!(is_over(&ledger, claim.id).await, Status::Failed);
            let row = ledger.find(claim.id).await.unwrap().unwrap();
            assert_eq!(row.reason.as_deref(), Some("550 no such user"));
        }

        async fn what_went_out_by_sms_is_over(database) {
            let ledger = once(&database.store().await);
            let claim = claim(&ledger, Uuid::new_v4()).await;
            assert_eq!(ledger.finish(&claim, Finish::SmsSent, vec![]).await.unwrap(), Written::Yes);
            assert_eq!(is_over(&ledger, claim.id).await, Status::SmsSent);
        }

        async fn what_is_to_be_tried_again_is_pending_and_on_its_way_to_the_retry_topic(database) {
            let store = database.store().await;
            let ledger = once(&store);
            let first = claim(&ledger, Uuid::new_v4()).await;
            let retry = vec![record(Topic::DelayedRetry, "retry")];
            assert_eq!(ledger.finish(&first, again(), retry).await.unwrap(), Written::Yes);
            assert_eq!(payloads(&store).await, ["retry"]);
            assert_eq!(claim_after(&ledger, first.id, 1).await.attempts, 2);
        }

        async fn the_record_of_an_attempt_that_has_failed_claims_nothing_any_more(database) {
            let ledger = once(&database.store().await);
            let first = claim(&ledger, Uuid::new_v4()).await;
            assert_eq!(ledger.finish(&first, again(), vec![]).await.unwrap(), Written::Yes);
            assert!(matches!(ledger.claim(first.id, FACTS, 0).await.unwrap(), Claimed::Superseded));
            let second = claim_after(&ledger, first.id, 1).await;
            assert!(matches!(ledger.claim(first.id, FACTS, 0).await.unwrap(), Claimed::Superseded));
            // Whoever died at the second attempt has perhaps done it: only the same one takes over.
            database.clock.advance(LEASE);
            assert!(matches!(ledger.claim(first.id, FACTS, 0).await.unwrap(), Claimed::Superseded));
            assert_eq!(claim_after(&ledger, first.id, 1).await.attempts, second.attempts);
        }

        async fn a_mail_in_doubt_that_was_refused_can_be_finished_at_once(database) {
            let ledger = once(&database.store().await);
            let claim = claim(&ledger, Uuid::new_v4()).await;
            assert_eq!(ledger.hand_over(&claim).await.unwrap(), Written::Yes);
            assert_eq!(ledger.finish(&claim, again(), vec![]).await.unwrap(), Written::Yes);
            assert_eq!(status(&ledger, claim.id).await, Status::Pending);
        }

        async fn every_row_is_counted_once(database) {
            let ledger = once(&database.store().await);
            database.store().await.outbox().accept(vec![intake(Uuid::new_v4(), "pending")]).await.unwrap();
            let mut claims = Vec::new();
            for _ in 0..6 {
                claims.push(claim(&ledger, Uuid::new_v4()).await);
            }
            assert_eq!(ledger.hand_over(&claims[1]).await.unwrap(), Written::Yes);
            assert_eq!(ledger.sent(&claims[2], "p").await.unwrap(), Written::Yes);
            assert_eq!(ledger.finish(&claims[3], Finish::SmsSent, vec![]).await.unwrap(), Written::Yes);
            assert_eq!(ledger.finish(&claims[4], failed("f"), vec![]).await.unwrap(), Written::Yes);
            let unknown = Finish::Unknown { reason: "u".into(), request: "{}".into() };
            assert_eq!(ledger.finish(&claims[5], unknown, vec![]).await.unwrap(), Written::Yes);
            let counts = ledger.counts().await.unwrap();
            let all_one =
                Counts { pending: 1, sending: 1, sent: 1, in_doubt: 1, sms_sent: 1, failed: 1, unknown: 1 };
            assert_eq!((counts, counts.total()), (all_one, 7));
        }

        async fn a_list_has_the_oldest_first_and_no_more_than_asked_for(database) {
            let ledger = once(&database.store().await);
            let ids: Vec<_> = (0..3).map(|_| Uuid::new_v4()).collect();
            for id in &ids {
                let claim = claim(&ledger, *id).await;
                database.clock.advance(Duration::from_secs(1));
                assert_eq!(ledger.finish(&claim, failed("f"), vec![]).await.unwrap(), Written::Yes);
            }
            let listed: Vec<_> = ledger.list(Status::Failed, 2).await.unwrap().iter().map(|row| row.id).collect();
            assert_eq!(listed, ids[..2]);
        }
    }
}

mod decisions {
    use super::*;

    /// A row in UNKNOWN whose request nobody has kept.
    async fn unknown(database: &TestDatabase, ledger: &Ledger) -> Uuid {
        let claim = claim(ledger, Uuid::new_v4()).await;
        assert_eq!(ledger.hand_over(&claim).await.unwrap(), Written::Yes);
        database.clock.advance(LEASE);
        assert_eq!(ledger.sweep().await.unwrap(), [claim.id]);
        claim.id
    }

    on_each_database! {
        async fn an_operator_can_say_that_a_mail_has_arrived(database) {
            let ledger = once(&database.store().await);
            let id = unknown(database, &ledger).await;
            assert!(ledger.resolve(id, As::Sent).await.unwrap());
            assert_eq!(is_over(&ledger, id).await, Status::Sent);
            assert!(!ledger.resolve(id, As::Sent).await.unwrap());
        }

        async fn an_operator_can_have_a_mail_sent_again(database) {
            let store = database.store().await;
            let ledger = once(&store);
            let id = unknown(database, &ledger).await;
            assert!(ledger.resolve(id, As::Resend(record(Topic::Normal, "again"))).await.unwrap());
            assert_eq!(payloads(&store).await, ["again"]);
            assert_eq!(claim(&ledger, id).await.attempts, 1);
            // Two operators do not send it twice.
            assert!(!ledger.resolve(id, As::Resend(record(Topic::Normal, "and again"))).await.unwrap());
            assert_eq!(payloads(&store).await, ["again"]);
        }

        async fn once_decided_the_old_owner_has_no_say(database) {
            let ledger = once(&database.store().await);
            let claim = claim(&ledger, Uuid::new_v4()).await;
            assert_eq!(ledger.hand_over(&claim).await.unwrap(), Written::Yes);
            database.clock.advance(LEASE);
            ledger.sweep().await.unwrap();
            assert!(ledger.reopen(claim.id, &[]).await.unwrap());
            assert_eq!(ledger.sent(&claim, "p").await.unwrap(), Written::Fenced);
        }

        async fn a_failed_request_can_be_reopened_and_begins_from_the_start(database) {
            let store = database.store().await;
            let ledger = once(&store);
            let first = claim(&ledger, Uuid::new_v4()).await;
            assert_eq!(ledger.finish(&first, failed("550"), vec![]).await.unwrap(), Written::Yes);
            assert!(ledger.reopen(first.id, &[record(Topic::High, "replayed")]).await.unwrap());
            assert_eq!(payloads(&store).await, ["replayed"]);
            let row = ledger.find(first.id).await.unwrap().unwrap();
            assert_eq!((row.status, row.attempts, row.reason), (Status::Pending, 0, None));
        }

        async fn what_was_sent_or_is_being_sent_cannot_be_reopened(database) {
            let ledger = once(&database.store().await);
            let claim = claim(&ledger, Uuid::new_v4()).await;
            assert!(!ledger.reopen(claim.id, &[]).await.unwrap());
            assert_eq!(ledger.sent(&claim, "p").await.unwrap(), Written::Yes);
            assert!(!ledger.reopen(claim.id, &[]).await.unwrap());
            assert!(!ledger.reopen(Uuid::new_v4(), &[]).await.unwrap());
        }

        async fn a_failed_request_cannot_be_declared_sent(database) {
            let ledger = once(&database.store().await);
            let claim = claim(&ledger, Uuid::new_v4()).await;
            assert_eq!(ledger.finish(&claim, failed("550"), vec![]).await.unwrap(), Written::Yes);
            assert!(!ledger.resolve(claim.id, As::Sent).await.unwrap());
        }

        async fn the_request_of_a_row_in_unknown_is_kept_once(database) {
            let ledger = once(&database.store().await);
            let id = unknown(database, &ledger).await;
            assert!(ledger.keep_request(id, "{\"first\":1}").await.unwrap());
            assert!(!ledger.keep_request(id, "{\"second\":2}").await.unwrap());
            assert_eq!(ledger.find(id).await.unwrap().unwrap().request.as_deref(), Some("{\"first\":1}"));
        }
    }
}

mod outbox {
    use super::*;

    on_each_database! {
        async fn an_accepted_request_is_a_row_and_a_record(database) {
            let store = database.store().await;
            let id = Uuid::new_v4();
            assert_eq!(store.outbox().accept(vec![intake(id, "a")]).await.unwrap(), [Accepted::New]);
            assert_eq!(status(&once(&store), id).await, Status::Pending);
            assert_eq!(payloads(&store).await, ["a"]);
        }

        async fn a_request_asked_for_twice_is_published_once(database) {
            let store = database.store().await;
            let (id, outbox) = (Uuid::new_v4(), store.outbox());
            let both = outbox.accept(vec![intake(id, "a"), intake(id, "b")]).await.unwrap();
            assert_eq!(both, [Accepted::New, Accepted::Known(Status::Pending)]);
            let claim = claim(&once(&store), id).await;
            assert_eq!(once(&store).sent(&claim, "p").await.unwrap(), Written::Yes);
            assert_eq!(outbox.accept(vec![intake(id, "c")]).await.unwrap(), [Accepted::Known(Status::Sent)]);
            assert_eq!(payloads(&store).await, ["a"]);
        }

        async fn records_come_in_the_order_of_acceptance(database) {
            let store = database.store().await;
            let names: Vec<_> = (0..700).map(|number| number.to_string()).collect();
            let requests = names.iter().map(|name| intake(Uuid::new_v4(), name)).collect();
            let accepted = store.outbox().accept(requests).await.unwrap();
            assert!(accepted.iter().all(|accepted| *accepted == Accepted::New));
            assert_eq!(payloads(&store).await, names);
        }

        async fn records_of_different_origin_keep_their_order_too(database) {
            let store = database.store().await;
            let (ledger, outbox) = (once(&store), store.outbox());
            let claim = claim(&ledger, Uuid::new_v4()).await;
            let three = [record(Topic::Sms, "2"), record(Topic::DeadLetter, "3")];
            let (first, second, third) = tokio::join!(
                outbox.put(std::slice::from_ref(&three[0])),
                outbox.accept(vec![intake(Uuid::new_v4(), "accepted")]),
                ledger.finish(&claim, failed("f"), three.to_vec()),
            );
            first.unwrap();
            second.unwrap();
            assert_eq!(third.unwrap(), Written::Yes);
            assert_eq!(payloads(&store).await, ["2", "accepted", "2", "3"]);
        }

        async fn published_records_are_gone_and_their_numbers_are_not_used_again(database) {
            let store = database.store().await;
            let outbox = store.outbox();
            outbox.put(&[record(Topic::High, "a"), record(Topic::High, "b")]).await.unwrap();
            let rows = outbox.next(10).await.unwrap();
            assert_eq!(outbox.len().await.unwrap(), 2);
            outbox.published(&[rows[0].seq, rows[1].seq]).await.unwrap();
            assert!(outbox.is_empty().await.unwrap());
            outbox.put(&[record(Topic::High, "c")]).await.unwrap();
            assert!(outbox.next(10).await.unwrap()[0].seq > rows[1].seq);
        }

        async fn a_record_that_could_not_be_published_stays_where_it_was(database) {
            let store = database.store().await;
            let outbox = store.outbox();
            outbox.put(&["a", "b", "c"].map(|name| record(Topic::High, name))).await.unwrap();
            let rows = outbox.next(2).await.unwrap();
            assert_eq!(rows.len(), 2);
            outbox.published(&[rows[1].seq]).await.unwrap();
            assert_eq!(payloads(&store).await, ["a", "c"]);
        }

        async fn whatever_was_found_on_a_topic_can_be_put(database) {
            let store = database.store().await;
            let odd = Record {
                topic: Topic::DeadLetter,
                key: None,
                payload: vec![0, 0xff, b'"', 0x80],
                headers: Headers(vec![("retry_topic-attempts".into(), vec![0, 0, 0, 3]), (String::new(), vec![])]),
            };
            let nul = record(Topic::DeadLetter, "a\0b\u{1}\"\\ü");
            store.outbox().put(&[odd.clone(), nul.clone()]).await.unwrap();
            let records: Vec<_> = store.outbox().next(9).await.unwrap().into_iter().map(|row| row.record).collect();
            assert_eq!(records, [odd, nul]);
        }

        async fn large_records_are_handed_out_a_few_at_a_time(database) {
            let store = database.store().await;
            let large = record(Topic::High, &"x".repeat(900_000));
            store.outbox().put(&vec![large; 40]).await.unwrap();
            assert_eq!(store.outbox().len().await.unwrap(), 40);
            let first = store.outbox().next(500).await.unwrap();
            assert!((10..40).contains(&first.len()), "{}", first.len());
            // The connection that was left in the middle of an answer is of further use.
            assert_eq!(store.outbox().next(500).await.unwrap().len(), first.len());
        }

        async fn what_was_accepted_survives_the_process(database) {
            let id = Uuid::new_v4();
            let store = database.store().await;
            store.outbox().accept(vec![intake(id, "a")]).await.unwrap();
            drop(store); // without closing it
            let store = database.store().await;
            assert_eq!(payloads(&store).await, ["a"]);
            assert_eq!(status(&once(&store), id).await, Status::Pending);
        }
    }
}

mod leases {
    use super::*;

    on_each_database! {
        async fn one_holder_at_a_time(database) {
            let (one, other) = (database.store().await.lease("publisher"), database.store().await.lease("publisher"));
            assert!(one.try_hold(LEASE).await.unwrap());
            assert!(!other.try_hold(LEASE).await.unwrap());
            one.release().await.unwrap();
            assert!(other.try_hold(LEASE).await.unwrap());
        }

        async fn a_holder_can_go_on_holding(database) {
            let store = database.store().await;
            let (one, other) = (store.lease("publisher"), store.lease("publisher"));
            assert!(one.try_hold(LEASE).await.unwrap());
            database.clock.advance(LEASE - Duration::from_millis(1));
            assert!(one.try_hold(LEASE).await.unwrap());
            database.clock.advance(LEASE - Duration::from_millis(1));
            assert!(!other.try_hold(LEASE).await.unwrap());
        }

        async fn a_lease_that_is_over_is_anybodys(database) {
            let store = database.store().await;
            let (one, other) = (store.lease("publisher"), store.lease("publisher"));
            assert!(one.try_hold(LEASE).await.unwrap());
            database.clock.advance(LEASE);
            assert!(other.try_hold(LEASE).await.unwrap());
            assert!(!one.try_hold(LEASE).await.unwrap());
            one.release().await.unwrap(); // of what is not its own
            assert!(!one.try_hold(LEASE).await.unwrap());
        }

        async fn leases_of_other_names_are_other_leases(database) {
            let store = database.store().await;
            assert!(store.lease("publisher").try_hold(LEASE).await.unwrap());
            assert!(store.lease("sweeper").try_hold(LEASE).await.unwrap());
        }

        async fn of_many_who_want_it_at_once_one_gets_it(database) {
            let stores = [database.store().await, database.store().await];
            let leases: Vec<_> = (0..16).map(|number| stores[number % 2].lease("publisher")).collect();
            let held = join_all(leases.iter().map(|lease| lease.try_hold(LEASE))).await;
            assert_eq!(held.into_iter().filter(|held| *held.as_ref().unwrap()).count(), 1);
        }
    }
}

mod trouble {
    use super::*;

    on_each_database! {
        async fn a_locked_database_is_unavailable_and_then_works(database) {
            let store = database.store_with(impatient()).await.unwrap();
            let ledger = once(&store);
            let mut stranger = database.stranger().await;
            let lock = if database.is_sqlite() { "BEGIN IMMEDIATE" } else { "BEGIN; LOCK TABLE emails" };
            stranger.execute(lock).await.unwrap();
            let error = ledger.claim(Uuid::new_v4(), FACTS, 0).await.unwrap_err();
            assert!(matches!(error, StoreError::Unavailable(_)) && error.is_transient(), "{error:?}");
            stranger.execute("ROLLBACK").await.unwrap();
            assert_eq!(claim(&ledger, Uuid::new_v4()).await.attempts, 1);
        }

        async fn a_failed_transaction_is_told_to_everybody_in_it_and_changes_nothing(database) {
            let store = database.store_with(impatient()).await.unwrap();
            let ledger = once(&store);
            let held = claim(&ledger, Uuid::new_v4()).await;
            let mut stranger = database.stranger().await;
            stranger.execute("ALTER TABLE outbox RENAME TO elsewhere").await.unwrap();
            let letter = vec![record(Topic::DeadLetter, "a")];
            let (finished, claimed) =
                tokio::join!(ledger.finish(&held, failed("f"), letter), ledger.claim(Uuid::new_v4(), FACTS, 0));
            assert!(matches!(finished.unwrap_err(), StoreError::Failed(_)));
            assert!(matches!(claimed.unwrap_err(), StoreError::Failed(_)));
            stranger.execute("ALTER TABLE elsewhere RENAME TO outbox").await.unwrap();
            assert_eq!(ledger.counts().await.unwrap(), Counts { sending: 1, ..Counts::default() });
            assert_eq!(ledger.finish(&held, failed("f"), vec![]).await.unwrap(), Written::Yes);
        }

        async fn processes_that_start_at_once_do_not_clash(database) {
            let stores = join_all((0..8).map(|_| database.store_with(StoreSettings::default()))).await;
            let claims = stores.iter().map(|store| async { claim(&once(store.as_ref().unwrap()), Uuid::new_v4()).await.id });
            assert_eq!(join_all(claims).await.len(), 8);
        }

        async fn tables_of_a_later_version_are_left_alone(database) {
            database.store().await.close().await;
            database.stranger().await.execute("INSERT INTO schema_version (version) VALUES (999)").await.unwrap();
            let error = database.store_with(StoreSettings::default()).await.unwrap_err();
            assert!(matches!(error, StoreError::TooNew { found: 999, .. }), "{error}");
        }

        async fn a_closed_store_has_written_what_was_asked_and_takes_no_more(database) {
            let store = database.store().await;
            let ledger = once(&store);
            let id = Uuid::new_v4();
            let (claimed, ()) = tokio::join!(ledger.claim(id, FACTS, 0), store.close());
            assert!(matches!(claimed.unwrap(), Claimed::Yes(_)));
            assert!(matches!(ledger.claim(id, FACTS, 0).await.unwrap_err(), StoreError::Unavailable(_)));
            assert_eq!(status(&once(&database.store().await), id).await, Status::Sending);
        }

        async fn a_store_answers_a_health_check(database) {
            database.store().await.ping().await.unwrap();
        }

        async fn many_mails_at_once_each_go_their_way(database) {
            let store = database.store().await;
            let ledger = once(&store);
            let sent = join_all((0..600).map(|number| {
                let ledger = ledger.clone();
                async move {
                    let claim = claim(&ledger, Uuid::new_v4()).await;
                    assert_eq!(ledger.hand_over(&claim).await.unwrap(), Written::Yes);
                    let written = match number % 3 {
                        0 => ledger.sent(&claim, "primary-smtp").await,
                        1 => ledger.finish(&claim, failed("f"), vec![record(Topic::DeadLetter, "x")]).await,
                        _ => ledger.finish(&claim, Finish::SmsSent, vec![]).await,
                    };
                    assert_eq!(written.unwrap(), Written::Yes);
                    claim.id
                }
            }));
            assert_eq!(sent.await.into_iter().collect::<HashSet<_>>().len(), 600);
            let expected = Counts { sent: 200, failed: 200, sms_sent: 200, ..Counts::default() };
            assert_eq!(ledger.counts().await.unwrap(), expected);
            assert_eq!(store.outbox().len().await.unwrap(), 200);
        }
    }

    #[tokio::test]
    async fn a_server_that_cannot_be_reached_is_unavailable_and_its_password_is_not_told() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let url = format!("postgres://mailer:s3cret@127.0.0.1:{port}/mails");
        let clock = email_dispatch::wall_clock::WallClock::system();
        let error = Store::connect(&url, impatient(), clock).await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_is_unavailable() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("postgres://mailer@{}/mails?sslmode=disable", silent.local_addr().unwrap());
        let settings = StoreSettings { time_limit: Duration::from_millis(50), ..impatient() };
        let clock = email_dispatch::wall_clock::WallClock::system();
        let error = Store::connect(&url, settings, clock).await.unwrap_err();
        assert!(error.to_string().contains("no connection within"), "{error}");
    }

    #[tokio::test]
    async fn a_file_that_is_no_database_is_said_to_be_none() {
        let database = TestDatabase::sqlite().await.unwrap();
        std::fs::write(database.folder().unwrap().join("test.db"), "a letter to my aunt".repeat(100)).unwrap();
        let error = database.store_with(StoreSettings::default()).await.unwrap_err();
        assert!(error.to_string().contains("not a database"), "{error}");
        assert!(!error.is_transient());
    }

    #[tokio::test]
    async fn a_server_that_ends_all_sessions_is_not_noticed_by_who_writes_next() {
        let Some(database) = TestDatabase::postgres().await else { return };
        let ledger = once(&database.store().await);
        let id = claim(&ledger, Uuid::new_v4()).await.id;
        let sessions = "SELECT CAST(COUNT(pg_terminate_backend(pid)) AS BIGINT) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()";
        database.stranger().await.execute(sessions).await.unwrap();
        assert_eq!(claim(&ledger, Uuid::new_v4()).await.attempts, 1);
        assert_eq!(status(&ledger, id).await, Status::Sending);
        database.remove().await;
    }

    /// What the planner does with the largest statement is what its speed rests on.
    #[tokio::test]
    async fn no_write_reads_the_whole_table() {
        let database = TestDatabase::sqlite().await.unwrap();
        let _store = database.store().await;
        let update = "EXPLAIN QUERY PLAN UPDATE emails SET status = c.value->>'to' FROM json_each('[]') AS c
             WHERE emails.id = c.value->>'id' AND emails.owner = c.value->>'owner'";
        let plan = sqlx::query(update).fetch_all(&mut database.stranger().await).await.unwrap();
        let steps: HashMap<usize, String> =
            plan.iter().map(|row| sqlx::Row::get::<String, _>(row, "detail")).enumerate().collect();
        assert!(steps.values().any(|step| step.contains("SEARCH emails USING PRIMARY KEY")), "{steps:?}");
        assert!(!steps.values().any(|step| step.contains("SCAN emails")), "{steps:?}");
    }
}
