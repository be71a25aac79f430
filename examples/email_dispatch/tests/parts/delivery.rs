//! The policies around mail servers, with servers that converse and a clock that is moved by hand.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use email_dispatch::{
    delivery::{MailServers, Protection, Provider, Undelivered},
    embedded::{MailFault, MailServer},
    request::Kind,
    smtp::{Fault, Handover, Mail, SmtpServer, SmtpSettings, Stage},
};
use lettre::address::Envelope;
use resile::{Clock, ManualClock, Rejected, circuit_breaker::State};

const KINDS: [Kind; 3] = [Kind::Marketing, Kind::Notification, Kind::Transactional];
const LONG: Duration = Duration::from_secs(600);

/// Two servers, and the policies around them.
struct Pair {
    clock: ManualClock,
    primary: MailServer,
    secondary: MailServer,
    servers: Arc<MailServers<SmtpServer>>,
}

async fn pair() -> Pair {
    pair_with(|_| {}).await
}

async fn pair_with(change: impl Fn(&mut Protection)) -> Pair {
    let clock = Clock::manual();
    let mut protection = Protection { window: 10, clock: clock.clock(), ..Protection::default() };
    change(&mut protection);
    let (primary, secondary) =
        (MailServer::start("one.test").await.unwrap(), MailServer::start("two.test").await.unwrap());
    let servers = MailServers {
        primary: provider("primary-smtp", &primary.url(), &protection),
        secondary: Some(provider("secondary-smtp", &secondary.url(), &protection)),
    };
    Pair { clock, primary, secondary, servers: Arc::new(servers) }
}

/// The conversation's own time-outs are out of the way: only the policies' time passes here.
fn provider(name: &str, url: &str, protection: &Protection) -> Provider<SmtpServer> {
    let settings = SmtpSettings {
        connect_timeout: LONG,
        command_timeout: LONG,
        final_dot_timeout: LONG,
        ..SmtpSettings::new(url.parse().unwrap())
    };
    Provider::new(name, SmtpServer::new(name, settings).unwrap(), protection).unwrap()
}

impl Pair {
    async fn send(&self, kind: Kind) -> Result<String, Undelivered> {
        self.send_to("ada@example.com", kind, &Counted::default()).await
    }

    async fn send_to(&self, to: &str, kind: Kind, handover: &impl Handover) -> Result<String, Undelivered> {
        self.servers.send(&mail(to), kind, handover).await.map(str::to_owned)
    }

    /// Sends that many, whatever comes of them.
    async fn send_many(&self, mails: usize, kind: Kind) {
        for _ in 0..mails {
            let _ = self.send(kind).await;
        }
    }

    fn state(&self, breaker: &str) -> State {
        self.servers.breakers().find(|found| found.name() == breaker).unwrap().state()
    }

    fn states(&self) -> Vec<State> {
        self.servers.breakers().map(resile::CircuitBreaker::state).collect()
    }
}

fn mail(to: &str) -> Mail {
    let envelope = Envelope::new(Some("post@example.org".parse().unwrap()), vec![to.parse().unwrap()]).unwrap();
    Mail { envelope, message: Bytes::from_static(b"Message-ID: <one@example.org>\r\n\r\nHello\r\n") }
}

/// Counts how often it was asked and how often told to take it back.
#[derive(Default)]
struct Counted {
    asked: AtomicUsize,
    taken_back: AtomicUsize,
}

impl Counted {
    fn counts(&self) -> (usize, usize) {
        (self.asked.load(Ordering::SeqCst), self.taken_back.load(Ordering::SeqCst))
    }
}

impl Handover for Counted {
    async fn hand_over(&self) -> Result<(), Fault> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    async fn take_back(&self) {
        self.taken_back.fetch_add(1, Ordering::SeqCst);
    }
}

fn failed(undelivered: Undelivered) -> (Fault, Stage) {
    match undelivered {
        Undelivered::Failed(error) => (error.fault, error.stage),
        Undelivered::Refused(refusal) => panic!("not asked: {refusal}"),
    }
}

fn refused(undelivered: Undelivered) -> Rejected {
    match undelivered {
        Undelivered::Refused(refusal) => refusal,
        Undelivered::Failed(error) => panic!("asked: {error}"),
    }
}

/// Polls until it is so.
async fn until(what: impl Fn() -> bool) {
    let so = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), so).await.expect("did not come to be");
}

#[tokio::test]
async fn the_primary_sends_while_it_can() {
    let pair = pair().await;
    for kind in KINDS {
        assert_eq!(pair.send(kind).await.unwrap(), "primary-smtp");
    }
    assert_eq!((pair.primary.accepted(), pair.secondary.accepted()), (3, 0));
}

#[tokio::test]
async fn the_secondary_sends_while_the_primary_cannot() {
    for fault in [MailFault::Greeting(421), MailFault::Sender(451), MailFault::Greeting(554), MailFault::EndOfData(421)]
    {
        let pair = pair().await;
        pair.primary.set(fault).await;
        assert_eq!(pair.send(Kind::Transactional).await.unwrap(), "secondary-smtp");
    }
}

#[tokio::test]
async fn a_primary_that_is_down_is_tried_again_once_and_left_to_the_secondary() {
    // The second attempt waits for a moment of real time.
    let pair = pair_with(|protection| protection.clock = Clock::default()).await;
    pair.primary.set(MailFault::Down).await;
    assert_eq!(pair.send(Kind::Transactional).await.unwrap(), "secondary-smtp");
    let breaker = pair.servers.breakers().next().unwrap();
    assert_eq!(breaker.metrics().failed_calls, 2);
}

#[tokio::test]
async fn a_primary_that_does_not_answer_in_time_is_not_waited_for_again() {
    let mut pair = pair().await;
    let protection = Protection { window: 10, clock: pair.clock.clock(), ..Protection::default() };
    let limit = Duration::from_secs(1);
    let settings = SmtpSettings { command_timeout: limit, ..SmtpSettings::new(pair.primary.url().parse().unwrap()) };
    let server = SmtpServer::new("primary-smtp", settings).unwrap();
    let secondary = provider("secondary-smtp", &pair.secondary.url(), &protection);
    let primary = Provider::new("primary-smtp", server, &protection).unwrap();
    pair.servers = Arc::new(MailServers { primary, secondary: Some(secondary) });
    pair.primary.set(MailFault::SlowGreeting(LONG)).await;
    let sending = pair.send(Kind::Transactional);
    let waiting = async {
        until(|| pair.primary.open_connections() == 1).await;
        pair.clock.advance(protection.slow);
    };
    // A second attempt would wait for a clock that stands still.
    let both = tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(sending, waiting) });
    let (sent, ()) = both.await.expect("goes to the secondary");
    assert_eq!(sent.unwrap(), "secondary-smtp");
    assert_eq!(pair.primary.connections(), 1);
}

#[tokio::test]
async fn a_primary_that_keeps_failing_is_not_asked_any_more() {
    let pair = pair().await;
    pair.primary.set(MailFault::Greeting(421)).await;
    pair.send_many(30, Kind::Transactional).await;
    assert_eq!(pair.primary.connections(), 10);
    assert_eq!(pair.secondary.accepted(), 30);
    assert_eq!(pair.state("primary-smtp"), State::Open);
    assert_eq!(pair.state("secondary-smtp"), State::Closed);
}

#[tokio::test]
async fn what_is_not_the_servers_fault_opens_no_breaker() {
    for fault in [
        MailFault::Recipient { code: 550, percent: 100 },
        MailFault::Recipient { code: 450, percent: 100 },
        MailFault::EndOfData(554),
        MailFault::EndOfData(452),
    ] {
        let pair = pair().await;
        pair.primary.set(fault).await;
        for kind in KINDS {
            pair.send_many(30, kind).await;
        }
        assert_eq!(pair.states(), [State::Closed; 8]);
        assert_eq!((pair.primary.connections(), pair.secondary.connections()), (90, 0));
    }
}

#[tokio::test]
async fn a_fenced_mail_is_nobodys_fault() {
    struct Fenced;

    impl Handover for Fenced {
        async fn hand_over(&self) -> Result<(), Fault> {
            Err(Fault::Fenced)
        }

        async fn take_back(&self) {}
    }

    let pair = pair().await;
    for _ in 0..30 {
        let undelivered = pair.send_to("ada@example.com", Kind::Marketing, &Fenced).await.unwrap_err();
        assert_eq!(failed(undelivered).0, Fault::Fenced);
    }
    assert_eq!(pair.states(), [State::Closed; 8]);
    assert_eq!(pair.secondary.connections(), 0);
}

#[tokio::test]
async fn a_servers_own_trouble_with_messages_opens_its_breaker() {
    for fault in [MailFault::EndOfData(451), MailFault::DropUnstored] {
        let pair = pair().await;
        pair.primary.set(fault).await;
        pair.send_many(10, Kind::Transactional).await;
        assert_eq!(pair.state("primary-smtp"), State::Open);
        assert_eq!(pair.secondary.connections(), 0);
    }
}

#[tokio::test]
async fn a_server_that_refuses_us_is_not_asked_again_after_one_mail() {
    for fault in [MailFault::Sender(535), MailFault::Greeting(554)] {
        let pair = pair().await;
        pair.primary.set(fault).await;
        assert_eq!(pair.send(Kind::Marketing).await.unwrap(), "secondary-smtp");
        assert_eq!(pair.state("primary-smtp"), State::Open);
        for kind in KINDS {
            assert_eq!(pair.send(kind).await.unwrap(), "secondary-smtp");
        }
        assert_eq!(pair.primary.connections(), 1);
    }
}

#[tokio::test]
async fn a_suffering_server_is_spared_the_marketing_first_and_the_transactional_last() {
    let fails = |to: &str| to.starts_with("bad");
    let pair = pair_with(|protection| protection.window = 40).await;
    pair.primary.set(MailFault::RecipientIf { code: 421, matches: fails }).await;
    let open = |pair: &Pair| -> Vec<&str> {
        let kinds = ["primary-smtp-marketing", "primary-smtp-notification", "primary-smtp-transactional"];
        kinds.into_iter().filter(|name| pair.state(name) == State::Open).collect()
    };
    let mut order: Vec<&str> = Vec::new();
    // The share of failures rises from none to all.
    for percent in (0..=100).step_by(5) {
        for number in 0..20 {
            let to = if number * 5 < percent { "bad@example.com" } else { "good@example.com" };
            for kind in KINDS {
                let _ = pair.send_to(to, kind, &Counted::default()).await;
            }
        }
        let newly: Vec<_> = open(&pair).into_iter().filter(|name| !order.contains(name)).collect();
        assert!(newly.len() <= 1, "{newly:?} at once");
        order.extend(newly);
        if order.len() == 1 {
            assert_eq!(pair.state("primary-smtp"), State::Closed);
        }
        if pair.state("primary-smtp") == State::Open {
            break;
        }
    }
    assert_eq!(order, ["primary-smtp-marketing", "primary-smtp-notification"]);
    assert_eq!(pair.state("primary-smtp-transactional"), State::Closed);
    assert_eq!(pair.state("primary-smtp"), State::Open);
    // All are sent, by the other.
    assert_eq!(pair.send(Kind::Marketing).await.unwrap(), "secondary-smtp");
}

#[tokio::test]
async fn a_mail_in_doubt_is_neither_tried_again_nor_failed_over() {
    let pair = pair().await;
    pair.primary.set(MailFault::DropStored).await;
    let counted = Counted::default();
    let undelivered = pair.send_to("ada@example.com", Kind::Transactional, &counted).await.unwrap_err();
    assert_eq!(failed(undelivered), (Fault::Unknown, Stage::FinalDot));
    assert_eq!((pair.primary.accepted(), pair.secondary.connections()), (1, 0));
    // It is not taken back either: it may have arrived.
    assert_eq!(counted.counts(), (1, 0));
}

#[tokio::test]
async fn a_mail_that_was_clearly_not_taken_is_taken_back_before_another_server_tries() {
    let pair = pair().await;
    pair.primary.set(MailFault::EndOfData(421)).await;
    let counted = Counted::default();
    pair.send_to("ada@example.com", Kind::Transactional, &counted).await.unwrap();
    assert_eq!(counted.counts(), (2, 1));
    pair.primary.set(MailFault::EndOfData(554)).await;
    let counted = Counted::default();
    pair.send_to("ada@example.com", Kind::Transactional, &counted).await.unwrap_err();
    assert_eq!(counted.counts(), (1, 1));
}

#[tokio::test]
async fn a_slow_server_opens_its_breaker_though_it_takes_every_mail() {
    /// Says when a mail is handed over.
    #[derive(Default)]
    struct Announced(tokio::sync::Notify);

    impl Handover for Announced {
        async fn hand_over(&self) -> Result<(), Fault> {
            self.0.notify_one();
            Ok(())
        }

        async fn take_back(&self) {}
    }

    let pair = pair().await;
    pair.primary.set(MailFault::SlowEndOfData(Duration::from_millis(100))).await;
    for _ in 0..10 {
        let handover = Announced::default();
        let sent = pair.send_to("ada@example.com", Kind::Transactional, &handover);
        let (sent, ()) = tokio::join!(sent, async {
            handover.0.notified().await;
            pair.clock.advance(Duration::from_secs(6));
        });
        assert_eq!(sent.unwrap(), "primary-smtp");
    }
    assert_eq!(pair.state("primary-smtp"), State::Open);
    assert_eq!(pair.send(Kind::Transactional).await.unwrap(), "secondary-smtp");
}

#[tokio::test]
async fn a_slow_database_opens_no_servers_breaker() {
    /// Lets six seconds pass until it is written down that a mail is handed over.
    struct Slow(ManualClock);

    impl Handover for Slow {
        async fn hand_over(&self) -> Result<(), Fault> {
            self.0.advance(Duration::from_secs(6));
            Ok(())
        }

        async fn take_back(&self) {}
    }

    let pair = pair().await;
    let slow = Slow(pair.clock.clone());
    for _ in 0..20 {
        assert_eq!(pair.send_to("ada@example.com", Kind::Transactional, &slow).await.unwrap(), "primary-smtp");
    }
    assert_eq!(pair.states(), [State::Closed; 8]);
}

#[tokio::test]
async fn a_server_that_is_well_again_gets_its_mails_back() {
    let pair = pair().await;
    pair.primary.set(MailFault::Greeting(421)).await;
    pair.send_many(10, Kind::Transactional).await;
    assert_eq!(pair.state("primary-smtp"), State::Open);
    pair.primary.set(MailFault::None).await;
    pair.clock.advance(Duration::from_secs(9));
    assert_eq!(pair.send(Kind::Transactional).await.unwrap(), "secondary-smtp");
    pair.clock.advance(Duration::from_secs(1));
    assert_eq!(pair.state("primary-smtp"), State::HalfOpen);
    for _ in 0..5 {
        assert_eq!(pair.send(Kind::Transactional).await.unwrap(), "primary-smtp");
    }
    assert_eq!(pair.states(), [State::Closed; 8]);
}

#[tokio::test]
async fn a_server_that_is_not_well_again_is_left_alone_for_as_long_again() {
    let pair = pair().await;
    pair.primary.set(MailFault::Greeting(421)).await;
    pair.send_many(10, Kind::Transactional).await;
    pair.clock.advance(Duration::from_secs(10));
    pair.send_many(20, Kind::Transactional).await;
    assert_eq!(pair.primary.connections(), 15);
    assert_eq!(pair.state("primary-smtp"), State::Open);
    assert_eq!(pair.secondary.accepted(), 30);
}

#[tokio::test]
async fn a_server_never_has_more_connections_than_it_is_protected_for() {
    let pair = pair_with(|protection| protection.connections = 4).await;
    pair.primary.set(MailFault::SlowEndOfData(Duration::from_millis(5))).await;
    let sent = futures::future::join_all((0..40).map(|_| pair.send(Kind::Transactional))).await;
    assert!(sent.into_iter().all(|sent| sent.unwrap() == "primary-smtp"));
    assert_eq!((pair.primary.most_open_connections(), pair.primary.connections()), (4, 4));
}

#[tokio::test]
async fn who_finds_no_room_goes_to_the_secondary_and_it_is_nobodys_failure() {
    let pair = pair_with(|protection| {
        protection.connections = 1;
        protection.queue = Duration::ZERO;
    })
    .await;
    pair.primary.set(MailFault::HangAtRecipient).await;
    let servers = Arc::clone(&pair.servers);
    let hanging = tokio::spawn(async move {
        let _ = servers.send(&mail("ada@example.com"), Kind::Transactional, &Counted::default()).await;
    });
    until(|| pair.primary.open_connections() == 1).await;
    for _ in 0..20 {
        assert_eq!(pair.send(Kind::Transactional).await.unwrap(), "secondary-smtp");
    }
    assert_eq!(pair.states(), [State::Closed; 8]);
    assert_eq!(pair.primary.connections(), 1);
    hanging.abort();
}

#[tokio::test]
async fn a_server_gets_as_many_mails_a_second_as_it_wants() {
    let pair = pair_with(|protection| {
        protection.mails_per_second = Some(4);
        protection.queue = Duration::ZERO;
    })
    .await;
    for _ in 0..2 {
        pair.send_many(8, Kind::Transactional).await;
        pair.clock.advance(Duration::from_secs(1));
    }
    assert_eq!((pair.primary.accepted(), pair.secondary.accepted()), (8, 8));
    assert_eq!(pair.states(), [State::Closed; 8]);
}

#[tokio::test]
async fn when_both_are_open_the_refusal_says_when_to_come_back() {
    let pair = pair().await;
    pair.primary.set(MailFault::Sender(535)).await;
    pair.send_many(1, Kind::Transactional).await;
    pair.clock.advance(Duration::from_secs(4));
    pair.secondary.set(MailFault::Sender(535)).await;
    pair.send_many(1, Kind::Transactional).await;
    let refusal = refused(pair.send(Kind::Transactional).await.unwrap_err());
    assert!(matches!(refusal, Rejected::CircuitOpen(_)), "{refusal}");
    assert_eq!(refusal.retry_after(), Some(Duration::from_secs(6)));
    // They are the servers' breakers: it holds for all kinds.
    assert_eq!(refused(pair.send(Kind::Marketing).await.unwrap_err()).retry_after(), Some(Duration::from_secs(6)));
}

#[tokio::test]
async fn an_answer_tells_more_than_a_refusal_to_ask() {
    let pair = pair().await;
    pair.primary.set(MailFault::Sender(535)).await;
    pair.send_many(1, Kind::Transactional).await;
    pair.secondary.set(MailFault::Recipient { code: 550, percent: 100 }).await;
    let undelivered = pair.send(Kind::Transactional).await.unwrap_err();
    assert_eq!(failed(undelivered), (Fault::Recipient, Stage::Recipient));
}

#[tokio::test]
async fn a_time_out_before_the_handover_is_the_servers_fault_and_the_secondary_sends() {
    let pair = pair().await;
    pair.primary.set(MailFault::HangAtRecipient).await;
    let counted = Counted::default();
    let sending = pair.send_to("ada@example.com", Kind::Transactional, &counted);
    let waiting = async {
        until(|| pair.primary.open_connections() == 1).await;
        pair.clock.advance(Protection::default().time_limit);
    };
    let (sent, ()) = tokio::join!(sending, waiting);
    assert_eq!(sent.unwrap(), "secondary-smtp");
    assert_eq!(counted.counts(), (1, 0));
    assert_eq!(pair.servers.breakers().next().unwrap().metrics().failed_calls, 1);
    // And its connection is closed.
    until(|| pair.primary.open_connections() == 0).await;
}

#[tokio::test]
async fn a_time_out_after_the_handover_leaves_the_mail_in_doubt() {
    let pair = pair().await;
    pair.primary.set(MailFault::HangAfterFinalDot).await;
    let counted = Counted::default();
    let sending = pair.send_to("ada@example.com", Kind::Transactional, &counted);
    let waiting = async {
        until(|| pair.primary.accepted() == 1).await;
        pair.clock.advance(Protection::default().time_limit);
    };
    let (sent, ()) = tokio::join!(sending, waiting);
    assert_eq!(failed(sent.unwrap_err()), (Fault::Unknown, Stage::FinalDot));
    assert_eq!(counted.counts(), (1, 0));
    assert_eq!(pair.secondary.connections(), 0);
    assert_eq!(pair.servers.breakers().next().unwrap().metrics().failed_calls, 1);
}

#[tokio::test]
async fn a_cancelled_mail_counts_in_no_breaker_and_gives_its_place_back() {
    let pair = pair_with(|protection| protection.connections = 1).await;
    pair.primary.set(MailFault::HangAtRecipient).await;
    for _ in 0..20 {
        let sending = pair.send(Kind::Transactional);
        tokio::time::timeout(Duration::from_millis(5), sending).await.unwrap_err();
    }
    assert_eq!(pair.states(), [State::Closed; 8]);
    pair.primary.set(MailFault::None).await;
    assert_eq!(pair.send(Kind::Transactional).await.unwrap(), "primary-smtp");
}

#[tokio::test]
async fn without_a_second_server_the_first_ones_answer_is_the_answer() {
    let primary = MailServer::start("one.test").await.unwrap();
    let protection = Protection::default();
    let servers = MailServers { primary: provider("primary-smtp", &primary.url(), &protection), secondary: None };
    let mail = mail("ada@example.com");
    let send = || servers.send(&mail, Kind::Marketing, &NONE);
    assert_eq!(send().await.unwrap(), "primary-smtp");
    primary.set(MailFault::Sender(535)).await;
    assert_eq!(failed(send().await.unwrap_err()), (Fault::Refused, Stage::Mail));
    assert!(matches!(refused(send().await.unwrap_err()), Rejected::CircuitOpen(_)));
    assert_eq!(servers.breakers().count(), 4);
}

static NONE: Counted = Counted { asked: AtomicUsize::new(0), taken_back: AtomicUsize::new(0) };

#[test]
fn a_protection_that_cannot_be_is_refused_by_name() {
    let of = |protection: &Protection| {
        let settings = SmtpSettings::new("smtp://localhost".parse().unwrap());
        let server = SmtpServer::new("primary-smtp", settings).unwrap();
        Provider::new("primary-smtp", server, protection).unwrap_err().to_string()
    };
    let none = of(&Protection { connections: 0, ..Protection::default() });
    assert!(none.contains("max_concurrent_calls"), "{none}");
    let never = of(&Protection { time_limit: Duration::ZERO, ..Protection::default() });
    assert!(never.contains("timeout_duration"), "{never}");
}

#[test]
fn the_time_limit_is_longer_than_a_conversation_and_the_wait_for_it() {
    let protection = Protection::default();
    let settings = SmtpSettings::new("smtp://localhost".parse().unwrap());
    assert!(protection.time_limit > settings.longest_conversation() + protection.queue);
    assert!(protection.queue < protection.slow);
}
