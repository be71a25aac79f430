//! Several processes that share the work, one after the other or side by side.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use email_dispatch::{
    embedded::MailFault,
    record::Topic,
    request::{Kind, Priority},
    sample::Samples,
    store::Status,
    wall_clock::WallClock,
};
use uuid::Uuid;

use crate::{
    kafka::until,
    world::{id_of, ids, some},
};

/// Requests of priority NORMAL that are not in bulk: all of them take one topic.
fn normal(seed: u64) -> Samples {
    Samples { seed, kind: Some(Kind::Notification), priority: Some(Priority::Normal), ..Samples::default() }
}

in_each_world! {
    async fn two_processes_share_the_work_and_double_nothing(world) {
        let one = world.serve_with(&[("smtp-sender", "one@example.com")]).await;
        let two = world.serve_with(&[("smtp-sender", "two@example.com")]).await;
        let requests = some(&Samples::default(), 2_000);
        let mut handed_in = 0;
        for (list, url) in requests.chunks(20).zip([one.url(), two.url()].into_iter().cycle()) {
            world.post(url, list).await.unwrap();
            handed_in += list.len() as u64;
            tokio::time::sleep(Duration::from_millis(150)).await;
            let senders: HashSet<_> = world.primary.last_mails().into_iter().map(|mail| mail.from).collect();
            if senders.len() == 2 {
                break;
            }
        }
        world.until_sent(handed_in).await;
        let senders: HashSet<_> = world.primary.last_mails().into_iter().map(|mail| mail.from).collect();
        assert_eq!(senders, HashSet::from(["one@example.com", "two@example.com"].map(str::to_owned)));
        world.assert_no_doubles();
    }

    async fn who_is_told_to_stop_hands_back_what_is_in_flight_and_another_does_the_rest(world) {
        let one = world.serve().await;
        world.primary.set(MailFault::SlowEndOfData(Duration::from_millis(1_000))).await;
        world.secondary.set(MailFault::SlowEndOfData(Duration::from_millis(1_000))).await;
        let requests = some(&normal(2), 500);
        world.post(one.url(), &requests).await.unwrap();
        until("mails in flight", async || world.counts().await.in_doubt > 20).await;
        one.terminate();
        assert!(one.end(Duration::from_secs(12)).await.success());
        let counts = world.counts().await;
        assert!(counts.sent > 0 && counts.pending > 0, "{counts:?}");
        assert_eq!((counts.sending, counts.in_doubt, counts.unknown), (0, 0, 0));
        world.primary.set(MailFault::None).await;
        world.secondary.set(MailFault::None).await;
        let _two = world.serve().await;
        world.until_sent(500).await;
        world.assert_no_doubles();
        assert!(world.rows().await.values().all(|row| row.attempts == 1), "what was handed back has burnt no attempt");
    }

    async fn delayed_retries_survive_the_process_and_wait_for_their_time(world) {
        world.primary.set(MailFault::EndOfData(450)).await;
        let settings = [("retry-delay", "6s")];
        let one = world.serve_with(&settings).await;
        let asked_ms = WallClock::system().now_ms();
        world.post(one.url(), &some(&normal(3), 5)).await.unwrap();
        until("five failed attempts, all on the retry topic", async || {
            let rows = world.rows().await;
            let failed = rows.values().filter(|row| row.status == Status::Pending && row.attempts == 1).count();
            let done: i64 = world.kafka.committed("normal", Topic::Normal).await.values().sum();
            failed == 5 && done == 5 && world.store.outbox().is_empty().await.unwrap()
        })
        .await;
        one.kill();
        world.primary.set(MailFault::None).await;
        let _two = world.serve_with(&settings).await;
        world.until_sent(5).await;
        for row in world.rows().await.into_values() {
            assert_eq!(row.attempts, 2);
            let waited = row.changed_at_ms - asked_ms;
            assert!(waited >= 6_000, "{waited} ms");
        }
        world.assert_no_doubles();
    }

    async fn what_one_person_gets_arrives_in_the_order_in_which_it_was_asked_for(world) {
        world.primary.set(MailFault::SlowEndOfData(Duration::from_millis(5))).await;
        let (one, two) = (world.serve().await, world.serve().await);
        let requests = some(&Samples { people: 7, ..normal(4) }, 400);
        for (list, url) in requests.chunks(20).zip([one.url(), two.url()].into_iter().cycle()) {
            world.post(url, list).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        world.until_sent(400).await;
        let mut arrived = BTreeMap::<String, Vec<Uuid>>::new();
        for mail in world.primary.last_mails() {
            arrived.entry(mail.to[0].clone()).or_default().push(id_of(&mail));
        }
        let mut asked_for = BTreeMap::<String, Vec<Uuid>>::new();
        for (request, id) in requests.iter().zip(ids(&requests)) {
            asked_for.entry(request["to"].as_str().unwrap().to_owned()).or_default().push(id);
        }
        assert_eq!(arrived.len(), 7);
        assert!(arrived == asked_for, "somebody's mails were mixed up");
    }

    async fn high_goes_before_normal_before_low_and_low_does_not_starve(world) {
        let (door, mut priorities) = (world.door(), HashMap::new());
        for (priority, count) in [(Priority::High, 300), (Priority::Normal, 200), (Priority::Low, 100)] {
            let requests = some(&Samples { seed: 5 + count, priority: Some(priority), ..normal(0) }, count as usize);
            let records: Vec<_> =
                requests.iter().map(|request| door.read(request.to_string().as_bytes()).unwrap().record).collect();
            let topic = records[0].topic;
            let record = |record: email_dispatch::record::Record| (record.key, String::from_utf8(record.payload).unwrap());
            world.kafka.send_all(topic, None, records.into_iter().map(record)).await;
            priorities.extend(ids(&requests).into_iter().map(|id| (id, priority as usize)));
        }
        let _one = world.serve_with(&[("consumer-in-flight", "1"), ("consumer-buffered", "100")]).await;
        let order = async || -> Vec<usize> {
            world.primary.last_mails().iter().map(|mail| priorities[&id_of(mail)]).collect()
        };
        // From when on all three had work.
        let mut counts = [0; 3];
        until("a hundred mails in a row, some of each priority", async || {
            let order = order().await;
            let Some(all) = (0..3).map(|priority| order.iter().position(|it| *it == priority)).max().unwrap() else {
                return false;
            };
            if (0..3).any(|priority| !order.contains(&priority)) || order.len() < all + 100 {
                return false;
            }
            counts = [0; 3];
            order[all..all + 100].iter().for_each(|priority| counts[*priority] += 1);
            true
        })
        .await;
        let [high, normal, low] = counts;
        assert!((50..=70).contains(&high) && (20..=40).contains(&normal) && (5..=15).contains(&low), "{counts:?}");
    }
}
