//! What is done with each record, on real mail servers, a real gateway and a real database; what the records put into the
//! outbox say where its request goes.

use std::time::Duration;

use email_dispatch::{
    alert::{AlertSettings, Alerts},
    backup::Backups,
    counters::Counters,
    delivery::{MailServers, Protection, Provider},
    dispatch::{Dispatcher, Turn},
    embedded::{MailFault, MailServer, SmsGateway as EmbeddedGateway, SmsMood},
    kafka::{
        consumer::{Handled, Handler},
        publisher::Waker,
    },
    personal::Keys,
    record::{Delivery, Headers, Record, Topic, header},
    request::{EmailRequest, Intake, Kind, Limits, Origin, Priority},
    route::RetryRules,
    slots::Slots,
    sms::{SmsGateway, SmsSettings},
    smtp::{Handover, Mail, SendError, SmtpServer, SmtpSettings, Transport},
    store::{Claimed, Facts, Guarantee, Ledger, LedgerSettings, Row, Status, Store, Written},
    template::Templates,
};
use resile::CircuitBreaker;
use serde_json::{Value, json};
use sqlx::Executor;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::database::{TestDatabase, impatient};

const LEASE: Duration = Duration::from_secs(60);
const HOLD: Duration = Duration::from_secs(600);

/// A dispatcher and all around it.
struct Scene {
    dispatcher: Dispatcher<SmtpServer>,
    primary: MailServer,
    secondary: Option<MailServer>,
    gateway: EmbeddedGateway,
    store: Store,
    ledger: Ledger,
    database: TestDatabase,
    backups: TempDir,
}

#[derive(Clone, Copy)]
struct Cast {
    has_secondary: bool,
    guarantee: Guarantee,
    attempts: u32,
}

const ALONE: Cast = Cast { has_secondary: false, guarantee: Guarantee::AtMostOnce, attempts: 3 };

impl Scene {
    async fn with(cast: Cast) -> Self {
        let database = TestDatabase::sqlite().await.unwrap();
        let store = database.store_with(impatient()).await.unwrap();
        let ledger = store.ledger(LedgerSettings { guarantee: cast.guarantee, lease: LEASE });
        let primary = MailServer::start("primary-smtp").await.unwrap();
        let secondary = match cast.has_secondary {
            true => Some(MailServer::start("secondary-smtp").await.unwrap()),
            false => None,
        };
        let gateway = EmbeddedGateway::start().await.unwrap();
        let backups = tempfile::tempdir().unwrap();
        let dispatcher = Dispatcher {
            intake: Intake::new(Keys::random(), Templates::embedded(), Limits::default()),
            sender: "Shop <shop@example.com>".parse().unwrap(),
            servers: MailServers { primary: provider(&primary), secondary: secondary.as_ref().map(provider) },
            sms: SmsGateway::new(&SmsSettings { pause: Duration::from_millis(1), ..SmsSettings::new(gateway.url()) })
                .unwrap(),
            ledger: ledger.clone(),
            outbox: store.outbox(),
            publisher: Waker::default(),
            guarantee: cast.guarantee,
            rules: RetryRules { max_attempts: cast.attempts, ..RetryRules::default() },
            hold: HOLD,
            slots: Slots::new(4, &[6, 3, 1]),
            alerts: Alerts::new(AlertSettings::default(), database.clock.clone()).unwrap(),
            backups: Backups::open(backups.path()).await.unwrap(),
            counters: Counters::new("primary-smtp"),
            clock: database.clock.clone(),
        };
        Self { dispatcher, primary, secondary, gateway, store, ledger, database, backups }
    }

    /// A valid request with these fields besides or instead.
    fn request(&self, fields: Value) -> EmailRequest {
        let mut request = json!({
            "to": "jane@example.com", "subject": "Hello", "content": "Hello Jane",
            "kind": "NOTIFICATION", "priority": "NORMAL",
        });
        for (name, value) in fields.as_object().unwrap() {
            request[name] = value.clone();
        }
        self.dispatcher.intake.parse(request.to_string().as_bytes(), Origin::Http, 1_000_000).unwrap()
    }

    async fn handle(&self, topic: Topic, request: &EmailRequest) -> Handled {
        self.dispatcher.handle(delivery(topic, request), CancellationToken::new()).await
    }

    /// Handles what was put into the outbox last.
    async fn handle_next(&self) -> Handled {
        let Record { topic, payload, headers, .. } = self.outbox().await.pop().unwrap();
        self.dispatcher.handle(Delivery { headers, ..delivered(topic, payload) }, CancellationToken::new()).await
    }

    async fn row(&self, request: &EmailRequest) -> Row {
        self.ledger.find(request.id).await.unwrap().unwrap()
    }

    async fn outbox(&self) -> Vec<Record> {
        self.store.outbox().next(100).await.unwrap().into_iter().map(|row| row.record).collect()
    }

    /// The only record in the outbox.
    async fn record(&self) -> Record {
        let mut records = self.outbox().await;
        assert_eq!(records.len(), 1, "{records:?}");
        records.remove(0)
    }

    async fn all_down(&self) {
        for server in [Some(&self.primary), self.secondary.as_ref()].into_iter().flatten() {
            server.set(MailFault::Down).await;
        }
    }

    /// Opens every breaker of the first server.
    fn open(&self) {
        for breaker in self.dispatcher.servers.breakers() {
            breaker.transition_to_open().unwrap();
        }
    }

    fn backups(&self) -> usize {
        std::fs::read_dir(self.backups.path()).unwrap().count()
    }
}

fn provider(server: &MailServer) -> Provider<SmtpServer> {
    let settings = SmtpSettings {
        command_timeout: Duration::from_secs(5),
        final_dot_timeout: Duration::from_secs(5),
        ..SmtpSettings::new(server.url().parse().unwrap())
    };
    let transport = SmtpServer::new(server.name(), settings).unwrap();
    Provider::new(server.name(), transport, &Protection::default()).unwrap()
}

fn delivery(topic: Topic, request: &EmailRequest) -> Delivery {
    delivered(topic, serde_json::to_vec(request).unwrap())
}

fn delivered(topic: Topic, payload: Vec<u8>) -> Delivery {
    Delivery {
        topic,
        partition: 3,
        offset: 42,
        key: Some(b"key".to_vec()),
        payload: Some(payload),
        headers: Headers::default(),
    }
}

fn text(record: &Record, name: &str) -> String {
    record.headers.text(name).unwrap_or_default().into_owned()
}

mod sending {
    use super::*;

    #[tokio::test]
    async fn a_mail_is_sent_and_its_row_says_by_whom() {
        let scene = Scene::with(ALONE).await;
        let request = scene.request(json!({}));
        assert_eq!(scene.handle(Topic::Normal, &request).await, Handled::Done);
        let row = scene.row(&request).await;
        assert_eq!((row.status, row.in_doubt, row.provider.as_deref()), (Status::Sent, false, Some("primary-smtp")));
        let id = format!("{}@example.com", request.id);
        assert_eq!(scene.primary.message_ids().get(&id), Some(&1));
        assert!(scene.outbox().await.is_empty());
    }

    #[tokio::test]
    async fn a_record_that_comes_twice_is_sent_once() {
        let scene = Scene::with(ALONE).await;
        let request = scene.request(json!({}));
        for _ in 0..2 {
            assert_eq!(scene.handle(Topic::Normal, &request).await, Handled::Done);
        }
        assert_eq!(scene.primary.accepted(), 1);
        assert_eq!(scene.dispatcher.counters.counts().duplicates, 1);
    }

    #[tokio::test]
    async fn the_second_server_sends_what_the_first_cannot() {
        let scene = Scene::with(Cast { has_secondary: true, ..ALONE }).await;
        scene.primary.set(MailFault::Down).await;
        let request = scene.request(json!({}));
        assert_eq!(scene.handle(Topic::Normal, &request).await, Handled::Done);
        assert_eq!(scene.row(&request).await.provider.as_deref(), Some("secondary-smtp"));
        assert_eq!((scene.primary.accepted(), scene.secondary.as_ref().unwrap().accepted()), (0, 1));
    }

    #[tokio::test]
    async fn a_locked_database_keeps_a_sent_mail_from_being_written_down_but_not_for_ever() {
        let scene = Scene::with(ALONE).await;
        scene.primary.set(MailFault::SlowEndOfData(Duration::from_millis(300))).await;
        let request = scene.request(json!({}));
        let mut stranger = scene.database.stranger().await;
        let handled = scene.handle(Topic::Normal, &request);
        let lock = async {
            while scene.ledger.find(request.id).await.unwrap().is_none_or(|row| row.status != Status::Sent) {
                tokio::task::yield_now().await;
            }
            stranger.execute("BEGIN IMMEDIATE").await.unwrap();
            while scene.primary.accepted() == 0 {
                tokio::task::yield_now().await;
            }
            tokio::time::sleep(Duration::from_millis(200)).await; // past the first attempt to write
            stranger.execute("COMMIT").await.unwrap();
        };
        let (handled, ()) = tokio::join!(handled, lock);
        assert_eq!(handled, Handled::Done);
        let row = scene.row(&request).await;
        assert_eq!((row.status, row.in_doubt), (Status::Sent, false));
    }
}

mod routes {
    use super::*;

    #[tokio::test]
    async fn high_priority_goes_to_the_immediate_retry_with_an_alert_and_a_copy_in_a_file() {
        let scene = Scene::with(ALONE).await;
        scene.all_down().await;
        let request = scene.request(json!({ "priority": "HIGH" }));
        assert_eq!(scene.handle(Topic::High, &request).await, Handled::Done);
        let record = scene.record().await;
        assert_eq!((record.topic, record.key.as_deref()), (Topic::ImmediateRetry, Some("key")));
        assert_eq!(text(&record, header::ORIGINAL_TOPIC), "high-priority-emails");
        assert_eq!(scene.row(&request).await.status, Status::Pending);
        assert_eq!((scene.backups(), scene.dispatcher.alerts.raised()), (1, 1));
    }

    #[tokio::test]
    async fn normal_priority_goes_to_the_delayed_retry_not_before_its_time() {
        let scene = Scene::with(ALONE).await;
        scene.all_down().await;
        let request = scene.request(json!({}));
        assert_eq!(scene.handle(Topic::Normal, &request).await, Handled::Done);
        let record = scene.record().await;
        assert_eq!(record.topic, Topic::DelayedRetry);
        assert_eq!(record.headers.not_before_ms(), Some(1_030_000));
        assert_eq!((scene.backups(), scene.dispatcher.alerts.raised()), (0, 0));
    }

    #[tokio::test]
    async fn low_priority_is_logged_counted_and_given_up() {
        let scene = Scene::with(ALONE).await;
        scene.all_down().await;
        let request = scene.request(json!({ "priority": "LOW", "phone": "+491701234567" }));
        assert_eq!(scene.handle(Topic::Low, &request).await, Handled::Done);
        assert!(scene.outbox().await.is_empty());
        assert_eq!(scene.row(&request).await.status, Status::Failed);
        assert_eq!(scene.dispatcher.counters.counts().given_up, 1);
    }

    #[tokio::test]
    async fn what_waits_for_its_time_is_not_tried_before_by_a_record_that_comes_again() {
        let scene = Scene::with(ALONE).await;
        scene.all_down().await;
        let request = scene.request(json!({}));
        for _ in 0..2 {
            assert_eq!(scene.handle(Topic::Normal, &request).await, Handled::Done);
        }
        assert_eq!((scene.row(&request).await.attempts, scene.outbox().await.len()), (1, 1));
    }

    #[tokio::test]
    async fn with_its_attempts_used_up_a_request_goes_to_the_sms_gateway() {
        let scene = Scene::with(Cast { attempts: 1, ..ALONE }).await;
        scene.all_down().await;
        let request = scene.request(json!({ "phone": "+491701234567" }));
        assert_eq!(scene.handle(Topic::Normal, &request).await, Handled::Done);
        assert_eq!(scene.record().await.topic, Topic::Sms);
        assert_eq!(scene.row(&request).await.status, Status::Pending);
    }

    #[tokio::test]
    async fn what_is_on_its_way_to_the_sms_gateway_is_not_sent_by_mail_when_its_old_record_is_read_again() {
        let scene = Scene::with(Cast { attempts: 1, ..ALONE }).await;
        scene.all_down().await;
        let request = scene.request(json!({ "phone": "+491701234567" }));
        assert_eq!(scene.handle(Topic::Normal, &request).await, Handled::Done);
        scene.primary.set(MailFault::None).await;
        assert_eq!(scene.handle(Topic::Normal, &request).await, Handled::Done);
        assert_eq!((scene.primary.accepted(), scene.row(&request).await.status), (0, Status::Pending));
        assert_eq!(scene.handle_next().await, Handled::Done);
        assert_eq!((scene.gateway.sent(), scene.row(&request).await.status), (1, Status::SmsSent));
    }

    #[tokio::test]
    async fn without_a_phone_number_it_is_a_dead_letter() {
        let scene = Scene::with(Cast { attempts: 1, ..ALONE }).await;
        scene.all_down().await;
        let request = scene.request(json!({}));
        assert_eq!(scene.handle(Topic::Normal, &request).await, Handled::Done);
        let record = scene.record().await;
        assert_eq!((record.topic, text(&record, header::REASON)), (Topic::DeadLetter, "provider".to_owned()));
        assert_eq!(scene.row(&request).await.status, Status::Failed);
    }

    #[tokio::test]
    async fn each_attempt_counts_wherever_it_was_made() {
        let scene = Scene::with(ALONE).await;
        scene.all_down().await;
        let request = scene.request(json!({ "priority": "HIGH" }));
        assert_eq!(scene.handle(Topic::High, &request).await, Handled::Done);
        for _ in 0..2 {
            scene.database.clock.advance(Duration::from_secs(60));
            assert_eq!(scene.handle_next().await, Handled::Done);
        }
        let topics: Vec<_> = scene.outbox().await.iter().map(|record| record.topic).collect();
        assert_eq!(topics, [Topic::ImmediateRetry, Topic::DelayedRetry, Topic::DeadLetter]);
    }

    #[tokio::test]
    async fn a_recipient_who_does_not_exist_is_a_dead_letter_at_once() {
        let scene = Scene::with(Cast { has_secondary: true, ..ALONE }).await;
        scene.primary.set(MailFault::Recipient { code: 550, percent: 100 }).await;
        let request = scene.request(json!({}));
        assert_eq!(scene.handle(Topic::Normal, &request).await, Handled::Done);
        let record = scene.record().await;
        assert_eq!((record.topic, text(&record, header::REASON)), (Topic::DeadLetter, "recipient".to_owned()));
        assert!(!text(&record, header::EXPLANATION).contains("jane"), "{record:?}");
        assert_eq!(scene.secondary.as_ref().unwrap().accepted(), 0);
    }

    #[tokio::test]
    async fn a_full_disk_keeps_nothing_from_being_tried_again() {
        let scene = Scene::with(ALONE).await;
        scene.all_down().await;
        let folder = scene.backups.path();
        std::fs::remove_dir(folder).unwrap();
        std::fs::write(folder, "no folder").unwrap(); // why nothing can be written does not matter
        let request = scene.request(json!({ "priority": "HIGH" }));
        assert_eq!(scene.handle(Topic::High, &request).await, Handled::Done);
        assert_eq!(scene.record().await.topic, Topic::ImmediateRetry);
        let alerts: Vec<_> =
            scene.dispatcher.alerts.recent().iter().map(|raised| raised.alert.key().to_owned()).collect();
        assert!(alerts.contains(&"backup-failed".to_owned()), "{alerts:?}");
        std::fs::remove_file(folder).unwrap();
    }

    #[tokio::test]
    async fn a_delayed_retry_waits_for_its_time_and_is_handed_back_when_told_to_stop() {
        let scene = Scene::with(ALONE).await;
        let request = scene.request(json!({}));
        let mut early = delivery(Topic::DelayedRetry, &request);
        early.headers.set_number(header::NOT_BEFORE, 1_030_000);
        let stop = CancellationToken::new();
        {
            let waiting = scene.dispatcher.handle(early.clone(), stop.clone());
            tokio::pin!(waiting);
            assert!(futures::poll!(&mut waiting).is_pending());
            stop.cancel();
            assert_eq!(waiting.await, Handled::HandedBack);
        }
        assert!(scene.ledger.find(request.id).await.unwrap().is_none());
        scene.database.clock.advance(Duration::from_secs(30));
        assert_eq!(scene.dispatcher.handle(early, CancellationToken::new()).await, Handled::Done);
        assert_eq!(scene.primary.accepted(), 1);
    }
}

mod turns {
    use super::*;

    #[test]
    fn each_topic_has_the_turn_of_its_priority() {
        let turns = Topic::ALL.map(|topic| (topic, Turn::of(topic)));
        assert_eq!(
            turns,
            [
                (Topic::High, Turn::High),
                (Topic::Normal, Turn::Normal),
                (Topic::Low, Turn::Low),
                (Topic::Bulk, Turn::Low),
                (Topic::ImmediateRetry, Turn::High),
                (Topic::DelayedRetry, Turn::Normal),
                (Topic::Sms, Turn::Normal),
                (Topic::DeadLetter, Turn::Normal),
            ]
        );
    }

    #[tokio::test]
    async fn delayed_retries_wait_without_keeping_others_waiting() {
        let scene = Scene::with(ALONE).await;
        let delayed = |due_ms| {
            let mut delayed = delivery(Topic::DelayedRetry, &scene.request(json!({})));
            delayed.headers.set_number(header::NOT_BEFORE, due_ms);
            delayed
        };
        // More than there are places.
        let mut waiting: Vec<_> =
            (0..6).map(|_| Box::pin(scene.dispatcher.handle(delayed(1_600_000), CancellationToken::new()))).collect();
        for waiting in &mut waiting {
            assert!(futures::poll!(waiting).is_pending());
        }
        assert_eq!(scene.handle(Topic::Normal, &scene.request(json!({}))).await, Handled::Done);
        assert_eq!(scene.dispatcher.handle(delayed(1_000_000), CancellationToken::new()).await, Handled::Done);
        assert_eq!(scene.primary.accepted(), 2);
        for waiting in &mut waiting {
            assert!(futures::poll!(waiting).is_pending());
        }
    }
}

mod texts {
    use super::*;

    #[tokio::test]
    async fn what_goes_to_the_gateway_is_sent_by_sms_once() {
        let scene = Scene::with(ALONE).await;
        let request = scene.request(json!({ "phone": "+491701234567" }));
        for _ in 0..2 {
            assert_eq!(scene.handle(Topic::Sms, &request).await, Handled::Done);
        }
        assert_eq!(scene.row(&request).await.status, Status::SmsSent);
        assert_eq!((scene.gateway.ids(), scene.gateway.requests()), (vec![request.id], 1));
    }

    #[tokio::test]
    async fn what_the_gateway_does_not_take_is_a_dead_letter() {
        let scene = Scene::with(ALONE).await;
        scene.gateway.turn(SmsMood::Failing(500));
        let request = scene.request(json!({ "phone": "+491701234567" }));
        assert_eq!(scene.handle(Topic::Sms, &request).await, Handled::Done);
        assert_eq!(scene.record().await.topic, Topic::DeadLetter);
        assert_eq!(scene.row(&request).await.status, Status::Failed);
    }

    #[tokio::test]
    async fn of_high_priority_it_is_told_with_a_copy_in_a_file() {
        let scene = Scene::with(ALONE).await;
        scene.gateway.turn(SmsMood::Failing(400));
        let request = scene.request(json!({ "phone": "+491701234567", "priority": "HIGH" }));
        assert_eq!(scene.handle(Topic::Sms, &request).await, Handled::Done);
        assert_eq!((scene.backups(), scene.dispatcher.alerts.raised()), (1, 1));
    }

    #[tokio::test]
    async fn while_the_gateways_circuit_is_open_a_request_is_held() {
        let scene = Scene::with(ALONE).await;
        scene.dispatcher.sms.breaker().transition_to_open().unwrap();
        let request = scene.request(json!({ "phone": "+491701234567" }));
        let stop = CancellationToken::new();
        let handled = scene.dispatcher.handle(delivery(Topic::Sms, &request), stop.clone());
        let let_go = async {
            while scene.dispatcher.counters.counts().in_flight == 0 {
                tokio::task::yield_now().await;
            }
            stop.cancel();
        };
        let (handled, ()) = tokio::join!(handled, let_go);
        assert_eq!((handled, scene.gateway.requests()), (Handled::HandedBack, 0));
        assert_eq!(scene.ledger.find(request.id).await.unwrap(), None);
    }
}

mod invalid_records {
    use super::*;

    #[tokio::test]
    async fn a_record_that_is_no_request_is_a_dead_letter_with_the_reason() {
        let scene = Scene::with(ALONE).await;
        let record = delivered(Topic::High, b"{\"subject\":".to_vec());
        assert_eq!(scene.dispatcher.handle(record, CancellationToken::new()).await, Handled::Done);
        let letter = scene.record().await;
        assert_eq!((letter.topic, &*letter.payload), (Topic::DeadLetter, &b"{\"subject\":"[..]));
        assert_eq!(text(&letter, header::REASON), "invalid");
        assert!(text(&letter, header::EXPLANATION).contains("must be JSON"), "{letter:?}");
        let place = [header::ORIGINAL_PARTITION, header::ORIGINAL_OFFSET].map(|name| letter.headers.number(name));
        assert_eq!(place, [Some(3), Some(42)]);
    }

    #[tokio::test]
    async fn a_tombstone_is_a_dead_letter() {
        let scene = Scene::with(ALONE).await;
        let record = Delivery { payload: None, ..delivered(Topic::High, Vec::new()) };
        assert_eq!(scene.dispatcher.handle(record, CancellationToken::new()).await, Handled::Done);
        assert_eq!(scene.record().await.topic, Topic::DeadLetter);
    }

    #[tokio::test]
    async fn an_accepted_request_that_can_no_longer_be_read_is_not_pending_for_ever() {
        let scene = Scene::with(ALONE).await;
        let request = scene.request(json!({}));
        let record = Record {
            topic: Topic::Normal,
            key: None,
            payload: serde_json::to_vec(&request).unwrap(),
            headers: Headers::default(),
        };
        let facts = Facts { kind: Kind::Notification, priority: Priority::Normal };
        let intake = email_dispatch::store::Intake { id: request.id, facts, record };
        scene.store.outbox().accept(vec![intake]).await.unwrap();
        let unreadable = Scene { dispatcher: Dispatcher { intake: elsewhere(), ..scene.dispatcher }, ..scene };
        assert_eq!(unreadable.handle(Topic::Normal, &request).await, Handled::Done);
        assert_eq!(unreadable.row(&request).await.status, Status::Failed);
        assert_eq!(unreadable.outbox().await[1].topic, Topic::DeadLetter);
    }

    #[tokio::test]
    async fn an_invalid_record_does_not_keep_the_request_from_coming_again_put_right() {
        let scene = Scene::with(ALONE).await;
        let request = scene.request(json!({}));
        let wrong = delivered(Topic::Normal, json!({ "id": request.id }).to_string().into_bytes());
        assert_eq!(scene.dispatcher.handle(wrong, CancellationToken::new()).await, Handled::Done);
        assert_eq!(scene.record().await.topic, Topic::DeadLetter);
        assert_eq!(scene.handle(Topic::Normal, &request).await, Handled::Done);
        assert_eq!(scene.row(&request).await.status, Status::Sent);
    }

    #[tokio::test]
    async fn a_request_that_makes_a_worker_panic_is_a_dead_letter_and_not_the_end_of_its_partition() {
        struct Panics;

        impl Transport for Panics {
            async fn send(&self, _: &Mail, _: &impl Handover) -> Result<(), SendError> {
                panic!("as the test wants it");
            }
        }

        let scene = Scene::with(ALONE).await;
        let request = scene.request(json!({}));
        let primary = Provider::new("primary-smtp", Panics, &Protection::default()).unwrap();
        let Dispatcher { intake, sender, sms, ledger, outbox, publisher, guarantee, rules, hold, .. } =
            scene.dispatcher;
        let Dispatcher { slots, alerts, backups, counters, .. } = Scene::with(ALONE).await.dispatcher;
        let dispatcher = Dispatcher {
            servers: MailServers { primary, secondary: None },
            clock: scene.database.clock.clone(),
            intake,
            sender,
            sms,
            ledger,
            outbox,
            publisher,
            guarantee,
            rules,
            hold,
            slots,
            alerts,
            backups,
            counters,
        };
        let handled = dispatcher.handle(delivery(Topic::Normal, &request), CancellationToken::new());
        let (handled, ()) = tokio::join!(handled, async {
            while scene.ledger.find(request.id).await.unwrap().is_none_or(|row| row.status != Status::Sending) {
                tokio::task::yield_now().await;
            }
            scene.database.clock.advance(LEASE); // which the worker that panicked had
        });
        assert_eq!(handled, Handled::Done);
        let rows = scene.store.outbox().next(10).await.unwrap();
        assert_eq!(rows[0].record.topic, Topic::DeadLetter);
    }

    /// A door with other keys.
    fn elsewhere() -> Intake {
        Intake::new(Keys::random(), Templates::embedded(), Limits::default())
    }
}

mod doubt {
    use super::*;

    #[tokio::test]
    async fn without_an_answer_a_mail_is_unknown_and_no_other_server_is_asked() {
        let scene = Scene::with(Cast { has_secondary: true, ..ALONE }).await;
        scene.primary.set(MailFault::DropStored).await;
        let request = scene.request(json!({}));
        assert_eq!(scene.handle(Topic::Normal, &request).await, Handled::Done);
        let row = scene.row(&request).await;
        assert_eq!((row.status, row.in_doubt), (Status::Unknown, false));
        let kept: EmailRequest = serde_json::from_str(&row.request.unwrap()).unwrap();
        assert_eq!(kept, request);
        assert_eq!(scene.secondary.as_ref().unwrap().accepted(), 0);
        assert_eq!(scene.dispatcher.alerts.raised(), 1);
    }

    #[tokio::test]
    async fn at_least_once_it_is_tried_again() {
        let scene = Scene::with(Cast { guarantee: Guarantee::AtLeastOnce, ..ALONE }).await;
        scene.primary.set(MailFault::DropUnstored).await;
        let request = scene.request(json!({}));
        assert_eq!(scene.handle(Topic::Normal, &request).await, Handled::Done);
        assert_eq!(scene.record().await.topic, Topic::DelayedRetry);
        scene.primary.set(MailFault::None).await;
        scene.database.clock.advance(Duration::from_secs(120));
        assert_eq!(scene.handle_next().await, Handled::Done);
        assert_eq!(scene.row(&request).await.status, Status::Sent);
    }

    #[tokio::test]
    async fn what_another_worker_left_unknown_learns_its_request_when_the_record_comes_again() {
        let scene = Scene::with(ALONE).await;
        let request = scene.request(json!({}));
        let died = claim(&scene.ledger, &request).await;
        assert_eq!(scene.ledger.hand_over(&died).await.unwrap(), Written::Yes);
        scene.database.clock.advance(LEASE + Duration::from_secs(1));
        assert_eq!(scene.handle(Topic::Normal, &request).await, Handled::Done);
        let row = scene.row(&request).await;
        assert_eq!(row.status, Status::Unknown);
        assert!(row.request.is_some());
        assert_eq!(scene.primary.accepted(), 0);
        assert_eq!((scene.dispatcher.alerts.raised(), scene.dispatcher.counters.counts().unknown), (1, 1));
    }

    #[tokio::test]
    async fn a_zombie_cannot_write_its_result_over_that_of_whoever_took_over() {
        let scene = Scene::with(Cast { guarantee: Guarantee::AtLeastOnce, ..ALONE }).await;
        scene.primary.set(MailFault::SlowEndOfData(Duration::from_secs(3))).await;
        let request = scene.request(json!({}));
        let zombie = scene.handle(Topic::Normal, &request);
        let taken_over = async {
            // The lease begins anew when the mail is handed over, which is before it arrives.
            while scene.primary.arrived() == 0 {
                tokio::task::yield_now().await;
            }
            scene.database.clock.advance(LEASE + Duration::from_secs(1));
            claim(&scene.ledger, &request).await
        };
        let (handled, claim) = tokio::join!(zombie, taken_over);
        assert_eq!(handled, Handled::Done);
        let row = scene.row(&request).await;
        assert_eq!((row.status, row.attempts), (Status::Sending, claim.attempts));
        assert_eq!(scene.ledger.sent(&claim, "secondary-smtp").await.unwrap(), Written::Yes);
    }

    async fn claim(ledger: &Ledger, request: &EmailRequest) -> email_dispatch::store::Claim {
        let facts = Facts { kind: request.kind, priority: request.priority };
        match ledger.claim(request.id, facts, 0).await.unwrap() {
            Claimed::Yes(claim) => claim,
            other => panic!("{other:?}"),
        }
    }
}

mod holding {
    use super::*;

    /// Waits until a request is held.
    async fn held(scene: &Scene) {
        while scene.dispatcher.counters.counts().in_flight == 0 || scene.dispatcher.slots.free() < 4 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn while_all_circuits_are_open_a_request_is_held_without_a_claim_and_without_a_place() {
        let scene = Scene::with(ALONE).await;
        scene.open();
        let request = scene.request(json!({}));
        let stop = CancellationToken::new();
        let handled = scene.dispatcher.handle(delivery(Topic::Normal, &request), stop.clone());
        let (handled, ()) = tokio::join!(handled, async {
            held(&scene).await;
            stop.cancel();
        });
        assert_eq!(handled, Handled::HandedBack);
        assert_eq!(scene.ledger.find(request.id).await.unwrap(), None);
        assert!(scene.outbox().await.is_empty());
        assert_eq!(scene.primary.connections(), 0);
    }

    #[tokio::test]
    async fn a_held_request_is_sent_when_a_circuit_closes() {
        let scene = Scene::with(ALONE).await;
        scene.open();
        let request = scene.request(json!({}));
        let handled = scene.handle(Topic::Normal, &request);
        let (handled, ()) = tokio::join!(handled, async {
            held(&scene).await;
            scene.dispatcher.servers.breakers().for_each(CircuitBreaker::reset);
        });
        assert_eq!(handled, Handled::Done);
        let row = scene.row(&request).await;
        assert_eq!((row.status, row.attempts), (Status::Sent, 1));
    }

    #[tokio::test]
    async fn what_is_refused_once_claimed_is_given_back_without_burning_an_attempt() {
        let scene = Scene::with(ALONE).await;
        // The breaker of the kind lets it through, and that of the server has no place for a second trial.
        let server = scene.dispatcher.servers.primary.breakers().next().unwrap();
        server.transition_to_open().unwrap();
        server.transition_to_half_open().unwrap();
        let trials: Vec<_> = std::iter::from_fn(|| server.try_acquire().ok()).collect();
        let request = scene.request(json!({}));
        let handled = scene.handle(Topic::Normal, &request);
        let (handled, ()) = tokio::join!(handled, async {
            held(&scene).await;
            drop(trials);
        });
        assert_eq!(handled, Handled::Done);
        assert_eq!(scene.row(&request).await.attempts, 1);
    }

    #[tokio::test]
    async fn what_is_held_for_too_long_goes_the_way_of_what_failed() {
        let scene = Scene::with(ALONE).await;
        scene.open();
        let request = scene.request(json!({}));
        let handled = scene.handle(Topic::Normal, &request);
        let (handled, ()) = tokio::join!(handled, async {
            held(&scene).await;
            scene.database.clock.advance(HOLD);
        });
        assert_eq!(handled, Handled::Done);
        assert_eq!(scene.record().await.topic, Topic::DelayedRetry);
    }
}
