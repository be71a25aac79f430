//! The consumer, each test on the embedded broker, and on a real Kafka where its jars are named.
#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use email_dispatch::{
    kafka::{
        KafkaFault, KafkaSettings,
        consumer::{Consumer, Handled, Handler, Lane, Progress},
        make_topics,
    },
    record::{Delivery, Headers, Topic},
};
use tokio::sync::{Barrier, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::kafka::{TestKafka, until};

/// Each test runs once on each kind of broker, with that many partitions a topic.
macro_rules! on_each_broker {
    ($(async fn $name:ident($kafka:ident, $partitions:literal) $body:block)*) => {
        $(async fn $name($kafka: &TestKafka) $body)*

        mod embedded {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $name() {
                on(TestKafka::embedded($partitions).await, async |kafka| super::$name(kafka).await).await;
            })*
        }

        mod real {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $name() {
                on(TestKafka::real($partitions).await, async |kafka| super::$name(kafka).await).await;
            })*
        }
    };
}

async fn on(kafka: Option<TestKafka>, test: impl AsyncFnOnce(&TestKafka)) {
    if let Some(kafka) = kafka {
        test(&kafka).await;
    }
}

const LONG: Duration = Duration::from_secs(20);

struct Act<F>(F);

impl<F, T> Handler for Act<F>
where
    F: Fn(Delivery, CancellationToken) -> T + Send + Sync + 'static,
    T: Future<Output = Handled> + Send,
{
    fn handle(&self, delivery: Delivery, stop: CancellationToken) -> impl Future<Output = Handled> + Send {
        (self.0)(delivery, stop)
    }
}

/// A member of the group `work`, which reads these topics and has that many in hand.
fn member<F, T>(settings: &KafkaSettings, topics: &[Topic], buffered: usize, act: F) -> Consumer
where
    F: Fn(Delivery, CancellationToken) -> T + Send + Sync + 'static,
    T: Future<Output = Handled> + Send + 'static,
{
    let lane = Lane { name: "work", topics: topics.to_vec(), buffered };
    Consumer::start(settings, lane, Arc::new(Act(act))).unwrap()
}

/// Finishes a record when the gate has a place for it, or hands it back when told to stop.
async fn pass(gate: Arc<Semaphore>, stop: CancellationToken) -> Handled {
    match stop.run_until_cancelled(gate.acquire()).await {
        Some(place) => {
            place.unwrap().forget();
            Handled::Done
        }
        None => Handled::HandedBack,
    }
}

fn gate() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(0))
}

fn text(delivery: &Delivery) -> String {
    String::from_utf8(delivery.payload.clone().unwrap()).unwrap()
}

fn unordered(count: usize) -> impl Iterator<Item = (Option<String>, String)> {
    (0..count).map(|number| (None, number.to_string()))
}

fn keyed(count: usize, keys: usize) -> impl Iterator<Item = (Option<String>, String)> {
    (0..count).map(move |number| (Some(format!("key {}", number % keys)), number.to_string()))
}

async fn until_progress(consumer: &Consumer, what: &str, holds: impl Fn(&Progress) -> bool) {
    until(what, async || holds(&consumer.progress())).await;
}

/// Who works on which key, and what each key has seen.
#[derive(Default)]
struct Watch {
    busy: Mutex<BTreeSet<Key>>,
    overlaps: AtomicUsize,
    seen: Mutex<HashMap<Key, Vec<i64>>>,
}

/// A topic's name, and a key there.
type Key = (&'static str, Vec<u8>);

impl Watch {
    async fn work(&self, delivery: Delivery) -> Handled {
        let key = (delivery.topic.name(), delivery.key.clone().unwrap());
        if !self.busy.lock().unwrap().insert(key.clone()) {
            self.overlaps.fetch_add(1, Ordering::Relaxed);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        self.busy.lock().unwrap().remove(&key);
        self.seen.lock().unwrap().entry(key).or_default().push(text(&delivery).parse().unwrap());
        Handled::Done
    }

    fn different(&self) -> usize {
        self.seen.lock().unwrap().values().map(|seen| seen.iter().collect::<BTreeSet<_>>().len()).sum()
    }
}

on_each_broker! {
    async fn all_are_read_in_order_per_key_and_committed_to_the_end(kafka, 4) {
        let watch = Arc::new(Watch::default());
        for topic in [Topic::High, Topic::Low] {
            kafka.send_all(topic, None, keyed(1_000, 50)).await;
        }
        let watching = Arc::clone(&watch);
        let consumer = member(&kafka.settings, &[Topic::High, Topic::Low], 200, move |delivery, _| {
            let watch = Arc::clone(&watching);
            async move { watch.work(delivery).await }
        });
        until_progress(&consumer, "all finished", |it| it.finished == 2_000).await;
        until("all committed", async || consumer.is_idle()).await;
        for topic in [Topic::High, Topic::Low] {
            assert_eq!(kafka.committed("work", topic).await, kafka.ends(topic).await);
        }
        assert_eq!(watch.overlaps.load(Ordering::Relaxed), 0);
        assert!(watch.seen.lock().unwrap().values().all(|seen| seen.is_sorted()));
        let progress = consumer.shut_down(LONG).await;
        assert_eq!((progress.read, progress.handed_back, progress.late, progress.lost), (2_000, 0, 0, 0));
    }

    async fn an_unfinished_record_holds_back_the_commit(kafka, 1) {
        kafka.send_all(Topic::High, None, unordered(10)).await;
        let gate = gate();
        let closed = Arc::clone(&gate);
        let consumer = member(&kafka.settings, &[Topic::High], 100, move |delivery, stop| {
            let gate = Arc::clone(&closed);
            async move { if delivery.offset == 3 { pass(gate, stop).await } else { Handled::Done } }
        });
        until_progress(&consumer, "all but one finished", |it| it.finished == 9 && it.uncommitted == 6).await;
        assert_eq!(kafka.committed("work", Topic::High).await, BTreeMap::from([(0, 3)]));
        gate.add_permits(1);
        until("all committed", async || consumer.is_idle()).await;
        assert_eq!(kafka.committed("work", Topic::High).await, BTreeMap::from([(0, 10)]));
    }

    async fn shutting_down_hands_back_and_a_restart_reads_exactly_that(kafka, 1) {
        kafka.send_all(Topic::High, None, unordered(10)).await;
        let consumer = member(&kafka.settings, &[Topic::High], 6, move |delivery, stop| async move {
            if delivery.offset < 4 { Handled::Done } else { pass(gate(), stop).await }
        });
        until_progress(&consumer, "six in hand", |it| it.finished == 4 && it.in_hand == 6).await;
        let progress = consumer.shut_down(LONG).await;
        assert_eq!((progress.finished, progress.handed_back, progress.in_hand), (4, 6, 0));
        assert_eq!(kafka.committed("work", Topic::High).await, BTreeMap::from([(0, 4)]));
        let seen = Arc::new(Mutex::new(BTreeSet::new()));
        let seeing = Arc::clone(&seen);
        let consumer = member(&kafka.settings, &[Topic::High], 6, move |delivery, _| {
            seeing.lock().unwrap().insert(delivery.offset);
            async { Handled::Done }
        });
        until_progress(&consumer, "the rest finished", |it| it.finished == 6).await;
        assert_eq!(consumer.shut_down(LONG).await.read, 6);
        assert_eq!(*seen.lock().unwrap(), (4..10).collect());
    }

    async fn shutting_down_lets_handlers_finish(kafka, 1) {
        kafka.send(Topic::High, None, "slow").await;
        let consumer = member(&kafka.settings, &[Topic::High], 6, move |_, stop| async move {
            stop.cancelled().await;
            tokio::time::sleep(Duration::from_millis(300)).await;
            Handled::Done
        });
        until_progress(&consumer, "one in hand", |it| it.in_hand == 1).await;
        assert_eq!(consumer.shut_down(LONG).await.finished, 1);
        assert_eq!(kafka.committed("work", Topic::High).await, BTreeMap::from([(0, 1)]));
    }

    async fn shutting_down_does_not_wait_longer_than_its_limit(kafka, 1) {
        kafka.send(Topic::High, None, "deaf").await;
        let consumer = member(&kafka.settings, &[Topic::High], 6, move |_, _| std::future::pending());
        until_progress(&consumer, "one in hand", |it| it.in_hand == 1).await;
        let limit = Duration::from_millis(300);
        let progress = tokio::time::timeout(LONG, consumer.shut_down(limit)).await.unwrap();
        assert_eq!((progress.finished, progress.in_hand), (0, 1));
        assert_eq!(kafka.committed("work", Topic::High).await, BTreeMap::new());
    }

    async fn the_same_key_waits(kafka, 1) {
        kafka.send_all(Topic::High, None, keyed(3, 1)).await;
        let gate = gate();
        let closed = Arc::clone(&gate);
        let begun = Arc::new(Mutex::new(Vec::new()));
        let beginning = Arc::clone(&begun);
        let consumer = member(&kafka.settings, &[Topic::High], 100, move |delivery, stop| {
            beginning.lock().unwrap().push(delivery.offset);
            pass(Arc::clone(&closed), stop)
        });
        until_progress(&consumer, "all read", |it| it.in_hand == 3).await;
        for finished in 1..=3 {
            let begun = async || begun.lock().unwrap().clone();
            until("the next begun", async || begun().await.len() == finished).await;
            assert_eq!(begun().await, (0..finished as i64).collect::<Vec<_>>());
            gate.add_permits(1);
        }
        until("all committed", async || consumer.is_idle()).await;
    }

    async fn a_null_key_has_no_order(kafka, 1) {
        kafka.send_all(Topic::High, None, unordered(20)).await;
        all_at_once(kafka, 20).await;
    }

    async fn many_keys_of_one_partition_go_side_by_side(kafka, 1) {
        kafka.send_all(Topic::High, None, keyed(20, 20)).await;
        all_at_once(kafka, 20).await;
    }

    async fn the_same_key_on_two_topics_does_not_wait(kafka, 1) {
        kafka.send(Topic::High, Some("key"), "here").await;
        kafka.send(Topic::Low, Some("key"), "there").await;
        all_at_once(kafka, 2).await;
    }

    async fn no_more_than_allowed_are_in_hand(kafka, 2) {
        kafka.send_all(Topic::High, None, unordered(300)).await;
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let peak = Arc::clone(&most);
        let consumer = member(&kafka.settings, &[Topic::High], 10, move |_, _| {
            let (now, peak) = (Arc::clone(&now), Arc::clone(&peak));
            async move {
                peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(5)).await;
                now.fetch_sub(1, Ordering::SeqCst);
                Handled::Done
            }
        });
        until_progress(&consumer, "all finished", |it| {
            assert!(it.in_hand <= 10, "{it:?}");
            it.finished == 300
        }).await;
        assert_eq!(most.load(Ordering::SeqCst), 10);
    }

    async fn one_that_is_full_hears_the_group_and_reads_on_afterwards(kafka, 4) {
        kafka.send_all(Topic::High, None, keyed(400, 40)).await;
        let gate = gate();
        let full = |gate: &Arc<Semaphore>| {
            let gate = Arc::clone(gate);
            member(&kafka.settings, &[Topic::High], 3, move |_, stop| pass(Arc::clone(&gate), stop))
        };
        let first = full(&gate);
        until_progress(&first, "the first full", |it| it.in_hand == 3).await;
        let second = full(&gate);
        until_progress(&second, "partitions given up by one that is full", |it| it.partitions == 2).await;
        until_progress(&second, "the second full", |it| it.in_hand == 3).await;
        second.shut_down(LONG).await;
        until_progress(&first, "partitions given back", |it| it.partitions == 4).await;
        gate.add_permits(1_000);
        until("all committed", async || {
            kafka.committed("work", Topic::High).await == kafka.ends(Topic::High).await
        }).await;
    }

    async fn a_record_finished_after_its_partition_was_taken_away_is_not_committed(kafka, 2) {
        for partition in 0..2 {
            kafka.send_all(Topic::High, Some(partition), unordered(1)).await;
        }
        let settings = KafkaSettings { drain: Duration::from_millis(100), ..kafka.settings.clone() };
        let gate = gate();
        let deaf = Arc::clone(&gate);
        let first = member(&settings, &[Topic::High], 10, move |_, _| {
            pass(Arc::clone(&deaf), CancellationToken::new())
        });
        until_progress(&first, "both in hand", |it| it.in_hand == 2).await;
        let second = member(&settings, &[Topic::High], 10, |_, stop| pass(self::gate(), stop));
        until_progress(&second, "one read again", |it| it.in_hand == 1).await;
        gate.add_permits(2);
        until_progress(&first, "both over", |it| it.in_hand == 0).await;
        let progress = first.shut_down(LONG).await;
        assert_eq!((progress.finished, progress.late), (1, 1));
        assert_eq!(kafka.committed("work", Topic::High).await.values().sum::<i64>(), 1);
    }

    async fn work_in_a_partition_that_is_taken_away_is_told_and_waited_for(kafka, 2) {
        for partition in 0..2 {
            kafka.send_all(Topic::High, Some(partition), unordered(1)).await;
        }
        let first = member(&kafka.settings, &[Topic::High], 10, |_, stop| async move {
            stop.cancelled().await;
            tokio::time::sleep(Duration::from_millis(200)).await;
            Handled::Done
        });
        until_progress(&first, "both in hand", |it| it.in_hand == 2).await;
        let second = member(&kafka.settings, &[Topic::High], 10, |_, _| async { Handled::Done });
        until_progress(&second, "partitions given", |it| it.partitions == 1).await;
        let progress = first.progress();
        assert_eq!((progress.finished, progress.late, progress.in_hand), (1, 0, 1));
    }

    async fn a_member_that_leaves_loses_nothing_and_no_key_is_worked_on_twice_at_once(kafka, 6) {
        let watch = Arc::new(Watch::default());
        kafka.send_all(Topic::High, None, keyed(6_000, 100)).await;
        let start = || {
            let watch = Arc::clone(&watch);
            member(&kafka.settings, &[Topic::High], 20, move |delivery, _| {
                let watch = Arc::clone(&watch);
                async move { watch.work(delivery).await }
            })
        };
        let members = [start(), start(), start()];
        until("half of it", async || watch.different() > 2_000).await;
        let [leaving, second, third] = members;
        leaving.shut_down(LONG).await;
        until("all of it", async || watch.different() == 6_000).await;
        until("all committed", async || {
            kafka.committed("work", Topic::High).await == kafka.ends(Topic::High).await
        }).await;
        assert_eq!(watch.overlaps.load(Ordering::Relaxed), 0);
        drop((second, third));
    }

    async fn a_record_handed_back_comes_again_before_the_next_of_its_key(kafka, 1) {
        kafka.send_all(Topic::High, None, keyed(2, 1)).await;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let seeing = Arc::clone(&seen);
        let consumer = member(&kafka.settings, &[Topic::High], 10, move |delivery, _| {
            let mut seen = seeing.lock().unwrap();
            seen.push(delivery.offset);
            let handled = if seen.len() == 1 { Handled::HandedBack } else { Handled::Done };
            async move { handled }
        });
        until("all committed", async || consumer.progress().finished == 2 && consumer.is_idle()).await;
        assert_eq!(*seen.lock().unwrap(), [0, 0, 1]);
    }

    async fn a_handler_that_panics_is_given_the_record_again(kafka, 1) {
        kafka.send(Topic::High, Some("key"), "payload").await;
        let calls = Arc::new(AtomicUsize::new(0));
        let calling = Arc::clone(&calls);
        let consumer = member(&kafka.settings, &[Topic::High], 10, move |_, _| {
            let call = calling.fetch_add(1, Ordering::Relaxed);
            async move {
                assert!(call > 0, "the first call panics");
                Handled::Done
            }
        });
        until("all committed", async || consumer.progress().finished == 1 && consumer.is_idle()).await;
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    }

    async fn one_stuck_record_does_not_let_the_finished_ones_pile_up(kafka, 1) {
        kafka.send_all(Topic::High, None, unordered(200)).await;
        let gate = gate();
        let closed = Arc::clone(&gate);
        let consumer = member(&kafka.settings, &[Topic::High], 2, move |delivery, stop| {
            let gate = Arc::clone(&closed);
            async move { if delivery.offset == 0 { pass(gate, stop).await } else { Handled::Done } }
        });
        until_progress(&consumer, "as many as may be", |it| it.finished == 31).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(consumer.progress().read, 32);
        gate.add_permits(1);
        until("all committed", async || consumer.progress().finished == 200 && consumer.is_idle()).await;
    }

    async fn what_the_broker_forgot_is_noticed(kafka, 1) {
        kafka.send_all(Topic::High, None, unordered(5)).await;
        let start = || member(&kafka.settings, &[Topic::High], 100, |_, _| async { Handled::Done });
        let consumer = start();
        until_progress(&consumer, "the first finished", |it| it.finished == 5).await;
        assert_eq!(consumer.shut_down(LONG).await.lost, 0);
        let sent = kafka.overfill(Topic::High, 0).await;
        let consumer = start();
        until_progress(&consumer, "the rest finished or missed", |it| it.finished + it.lost == sent).await;
        assert!(consumer.progress().lost > 0);
    }

    async fn what_was_forgotten_before_anything_was_read_is_noticed(kafka, 1) {
        let sent = kafka.overfill(Topic::High, 0).await;
        let consumer = member(&kafka.settings, &[Topic::High], 100, |_, _| async { Handled::Done });
        until_progress(&consumer, "all finished or missed", |it| it.finished + it.lost == sent).await;
        assert!(consumer.progress().lost > 0);
    }

    async fn a_tombstone_is_handed_over_with_its_headers(kafka, 1) {
        kafka.send_tombstone(Topic::Sms, "key", ("reason", b"because")).await;
        let seen = Arc::new(Mutex::new(None));
        let seeing = Arc::clone(&seen);
        let consumer = member(&kafka.settings, &[Topic::Sms], 10, move |delivery, _| {
            *seeing.lock().unwrap() = Some(delivery);
            async { Handled::Done }
        });
        until_progress(&consumer, "finished", |it| it.finished == 1).await;
        let expected = Delivery {
            topic: Topic::Sms,
            partition: 0,
            offset: 0,
            key: Some(b"key".to_vec()),
            payload: None,
            headers: Headers(vec![("reason".to_owned(), b"because".to_vec())]),
        };
        assert_eq!(seen.lock().unwrap().take(), Some(expected));
    }

    async fn one_that_is_dropped_leaves_the_group(kafka, 2) {
        let start = || member(&kafka.settings, &[Topic::High], 10, |_, _| async { Handled::Done });
        let first = start();
        until_progress(&first, "partitions given", |it| it.partitions == 2).await;
        drop(first);
        let second = start();
        until_progress(&second, "partitions given to the next", |it| it.partitions == 2).await;
    }

    async fn lanes_read_the_same_topic_without_each_other(kafka, 1) {
        kafka.send(Topic::High, None, "for both").await;
        let start = |name| {
            let lane = Lane { name, topics: vec![Topic::High], buffered: 1 };
            Consumer::start(&kafka.settings, lane, Arc::new(Act(|_, _| async { Handled::Done }))).unwrap()
        };
        for lane in [start("one"), start("other")] {
            until_progress(&lane, "finished", |it| it.finished == 1).await;
        }
    }

    async fn topics_that_are_there_are_left_alone(kafka, 2) {
        kafka.send(Topic::High, None, "before").await;
        make_topics(&kafka.settings).await.unwrap();
        assert_eq!(kafka.ends(Topic::High).await.values().sum::<i64>(), 1);
    }
}

/// All of them are at work at the same time, or this never ends.
async fn all_at_once(kafka: &TestKafka, count: usize) {
    let barrier = Arc::new(Barrier::new(count));
    let consumer = member(&kafka.settings, &[Topic::High, Topic::Low], 100, move |_, _| {
        let barrier = Arc::clone(&barrier);
        async move {
            barrier.wait().await;
            Handled::Done
        }
    });
    until_progress(&consumer, "all finished", |it| it.finished == count as u64).await;
}

async fn a_stopped_broker_does_not_end_the_consumer(kafka: &TestKafka) {
    let consumer = member(&kafka.settings, &[Topic::High], 10, |_, _| async { Handled::Done });
    kafka.send(Topic::High, None, "before").await;
    until("the first committed", async || consumer.progress().finished == 1 && consumer.is_idle()).await;
    kafka.stop();
    tokio::time::sleep(Duration::from_secs(1)).await;
    kafka.resume().await;
    kafka.send(Topic::High, None, "after").await;
    until("the second committed", async || kafka.committed("work", Topic::High).await == kafka.ends(Topic::High).await)
        .await;
    assert_eq!(consumer.progress().fault, None);
}

async fn what_finishes_while_the_broker_is_stopped_is_committed_later(kafka: &TestKafka) {
    let gate = gate();
    let closed = Arc::clone(&gate);
    let consumer =
        member(&kafka.settings, &[Topic::High], 10, move |_, _| pass(Arc::clone(&closed), CancellationToken::new()));
    kafka.send(Topic::High, None, "only").await;
    until_progress(&consumer, "one in hand", |it| it.in_hand == 1).await;
    kafka.stop();
    gate.add_permits(10);
    until_progress(&consumer, "finished", |it| it.finished == 1).await;
    kafka.resume().await;
    // A broker that is away for longer than the session has the record read and finished again.
    until("committed", async || kafka.committed("work", Topic::High).await == BTreeMap::from([(0, 1)])).await;
}

async fn shutting_down_without_a_broker_ends(kafka: &TestKafka) {
    let consumer = member(&kafka.settings, &[Topic::High], 10, |_, _| std::future::pending());
    kafka.send(Topic::High, None, "only").await;
    until_progress(&consumer, "one in hand", |it| it.in_hand == 1).await;
    kafka.stop();
    let limit = Duration::from_millis(100);
    let progress = tokio::time::timeout(LONG, consumer.shut_down(limit)).await.unwrap();
    assert_eq!(progress.in_hand, 1);
}

/// These stop the broker, which is theirs alone.
macro_rules! on_each_broker_alone {
    ($($name:ident)*) => {
        mod embedded_alone {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $name() {
                on(TestKafka::embedded(1).await, async |kafka| super::$name(kafka).await).await;
            })*
        }

        mod real_alone {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $name() {
                on(TestKafka::real_alone(1).await, async |kafka| super::$name(kafka).await).await;
            })*
        }
    };
}

on_each_broker_alone! {
    a_stopped_broker_does_not_end_the_consumer
    what_finishes_while_the_broker_is_stopped_is_committed_later
    shutting_down_without_a_broker_ends
}

#[tokio::test]
async fn the_dead_letter_topic_gets_as_many_partitions_as_the_others() {
    let Some(kafka) = TestKafka::real(2).await else { return };
    let more = KafkaSettings { partitions: 5, ..kafka.settings.clone() };
    make_topics(&more).await.unwrap();
    assert_eq!((kafka.count(Topic::High).await, kafka.count(Topic::DeadLetter).await), (2, 5));
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_named() {
    let settings =
        KafkaSettings { message_timeout: Duration::from_secs(1), ..KafkaSettings::embedded("127.0.0.1:1".to_owned()) };
    let fault = make_topics(&settings).await.unwrap_err();
    assert!(matches!(&fault, KafkaFault::Unreachable { brokers, .. } if brokers == "127.0.0.1:1"), "{fault:?}");
}

#[tokio::test]
async fn a_lane_that_may_have_nothing_in_hand_is_refused() {
    let lane = Lane { name: "empty", topics: vec![Topic::High], buffered: 0 };
    let handler = Arc::new(Act(|_, _| async { Handled::Done }));
    let fault = Consumer::start(&KafkaSettings::default(), lane, handler).unwrap_err();
    assert_eq!(fault.to_string(), "Kafka: lane empty: buffered = 0: at least 1 is needed");
}

#[tokio::test]
async fn a_property_that_is_not_understood_is_named() {
    let properties = BTreeMap::from([("no.such.thing".to_owned(), "1".to_owned())]);
    let settings = KafkaSettings { properties, ..KafkaSettings::default() };
    let lane = Lane { name: "work", topics: vec![Topic::High], buffered: 1 };
    let fault = Consumer::start(&settings, lane, Arc::new(Act(|_, _| async { Handled::Done }))).unwrap_err();
    assert!(fault.to_string().contains("no.such.thing"), "{fault}");
}
