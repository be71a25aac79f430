//! Connections that carry several mails.

use std::time::Duration;

use email_dispatch::{
    embedded::{MailFault, MailServer},
    smtp::{Fault, Handover, SmtpServer, SmtpSettings, Transport},
};
use tokio::time::{Instant, timeout};

use super::{
    mail,
    script::{Step, UNTIL_DATA, and_then, scripted},
    send, servers, settings,
};

#[tokio::test]
async fn mails_one_after_the_other_share_a_connection() {
    let (there, here) = servers().await;
    for number in 0..10 {
        send(&here, &number.to_string()).await.unwrap();
    }
    assert_eq!((there.connections(), there.accepted(), here.idle_connections()), (1, 10, 1));
}

#[tokio::test]
async fn mails_at_the_same_time_have_a_connection_each() {
    let (there, here) = servers().await;
    let sent = futures::future::join_all((0..8).map(|_| send(&here, "one"))).await;
    assert!(sent.iter().all(Result::is_ok));
    assert_eq!((there.connections(), here.idle_connections()), (8, 8));
    here.close_idle();
    assert_eq!(here.idle_connections(), 0);
}

#[tokio::test]
async fn a_cancelled_send_does_not_make_the_next_one_succeed() {
    let (there, here) = servers().await;
    send(&here, "one").await.unwrap();
    for fault in [MailFault::SlowEndOfData(Duration::from_millis(100)), MailFault::HangAtRecipient] {
        there.set(fault).await;
        timeout(Duration::from_millis(30), send(&here, "two")).await.unwrap_err();
        there.set(MailFault::EndOfData(554)).await;
        let error = send(&here, "three").await.unwrap_err();
        assert_eq!((error.fault, error.code), (Fault::Message, Some(554)));
    }
    assert!(!there.message_ids().contains_key("three@example.org"));
}

#[tokio::test]
async fn a_send_that_is_cancelled_at_any_stage_leaves_no_connection_behind() {
    struct Undecided;

    impl Handover for Undecided {
        async fn hand_over(&self) -> Result<(), Fault> {
            std::future::pending().await
        }

        async fn take_back(&self) {}
    }

    let (there, here) = servers().await;
    for fault in [
        MailFault::SlowGreeting(Duration::from_millis(50)),
        MailFault::HangAtRecipient,
        MailFault::HangAfterFinalDot,
        MailFault::SlowEndOfData(Duration::from_millis(50)),
    ] {
        there.set(fault).await;
        timeout(Duration::from_millis(20), send(&here, "one")).await.unwrap_err();
        assert_eq!(here.idle_connections(), 0);
    }
    there.set(MailFault::None).await;
    timeout(Duration::from_millis(20), here.send(&mail("one"), &Undecided)).await.unwrap_err();
    assert_eq!(here.idle_connections(), 0);
    let closed = async {
        while there.open_connections() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(20), closed).await.expect("all are closed");
    send(&here, "two").await.unwrap();
}

#[tokio::test]
async fn a_connection_goes_back_only_after_a_clean_answer() {
    for fault in [
        MailFault::EndOfData(451),
        MailFault::Recipient { code: 550, percent: 100 },
        MailFault::Sender(451),
        MailFault::DropStored,
        MailFault::Garbage,
    ] {
        let (there, here) = servers().await;
        there.set(fault).await;
        send(&here, "one").await.unwrap_err();
        assert_eq!(here.idle_connections(), 0);
    }
}

#[tokio::test]
async fn a_connection_carries_so_many_mails_and_is_then_replaced() {
    let (there, _) = servers().await;
    let settings = SmtpSettings { mails_per_connection: 4, ..settings(&there.url()) };
    let here = SmtpServer::new("primary-smtp", settings).unwrap();
    for number in 0..10 {
        send(&here, &number.to_string()).await.unwrap();
    }
    assert_eq!((there.connections(), there.accepted()), (3, 10));
}

#[tokio::test]
async fn a_servers_own_limit_for_a_connection_costs_no_attempt() {
    let (there, here) = servers().await;
    there.set(MailFault::SessionLimit(3)).await;
    for number in 0..10 {
        send(&here, &number.to_string()).await.unwrap();
    }
    assert_eq!((there.connections(), there.accepted()), (4, 10));
    // A limit of none at all is told.
    there.set(MailFault::SessionLimit(0)).await;
    let error = send(&here, "one").await.unwrap_err();
    assert_eq!((error.fault, error.code), (Fault::SessionLimit, Some(452)));
}

#[tokio::test]
async fn a_connection_that_the_server_has_closed_while_it_was_idle_is_replaced() {
    let (there, here) = servers().await;
    send(&here, "one").await.unwrap();
    there.set(MailFault::Down).await;
    there.set(MailFault::None).await;
    send(&here, "two").await.unwrap();
    assert_eq!((there.connections(), there.accepted()), (2, 2));
}

/// Takes one mail, and does that with the next `MAIL`.
fn once_and_then(step: Option<Step>) -> Vec<Step> {
    let mut script = and_then(&[("\r\n.\r\n", "250 taken\r\n")]);
    script.extend(step);
    if step.is_none() {
        script.push(("MAIL", ""));
    }
    script
}

#[tokio::test]
async fn a_connection_that_ends_as_it_is_used_again_is_replaced_once() {
    for step in [None, Some(("MAIL", "421 4.4.2 idle for too long\r\n"))] {
        let script = once_and_then(step);
        let address = scripted(vec![script, once_and_then(None)]).await;
        let here = SmtpServer::new("primary-smtp", settings(&format!("smtp://{address}?tls=none"))).unwrap();
        send(&here, "one").await.unwrap();
        send(&here, "two").await.unwrap();
        // This time there is no server behind.
        assert_eq!(send(&here, "three").await.unwrap_err().fault, Fault::Provider);
    }
}

#[tokio::test]
async fn a_new_connection_that_ends_is_not_replaced() {
    let script = UNTIL_DATA[..2].to_vec();
    let address = scripted(vec![script, once_and_then(None)]).await;
    let here = SmtpServer::new("primary-smtp", settings(&format!("smtp://{address}?tls=none"))).unwrap();
    assert_eq!(send(&here, "one").await.unwrap_err().fault, Fault::Provider);
    send(&here, "two").await.unwrap();
}

#[tokio::test]
async fn a_connection_that_was_idle_for_too_long_is_not_used() {
    let (there, _) = servers().await;
    let settings = SmtpSettings { idle: Duration::ZERO, ..settings(&there.url()) };
    let here = SmtpServer::new("primary-smtp", settings).unwrap();
    for number in 0..3 {
        send(&here, &number.to_string()).await.unwrap();
        assert_eq!(here.idle_connections(), 1);
    }
    assert_eq!(there.connections(), 3);
}

#[tokio::test]
async fn a_mail_does_not_wait_for_delayed_acknowledgements() {
    let (_there, here) = servers().await;
    let started = Instant::now();
    for number in 0..50 {
        send(&here, &number.to_string()).await.unwrap();
    }
    // They would take 40 ms each.
    assert!(started.elapsed() < Duration::from_millis(50 * 40), "{:?}", started.elapsed());
}

#[test]
fn settings_that_cannot_be_are_refused_by_name() {
    let of = |change: fn(&mut SmtpSettings)| {
        let mut settings = settings("smtp://localhost?tls=none");
        change(&mut settings);
        SmtpServer::new("primary-smtp", settings).unwrap_err().to_string()
    };
    assert_eq!(of(|s| s.mails_per_connection = 0), "primary-smtp: mails_per_connection must be at least 1");
    assert_eq!(of(|s| s.command_timeout = Duration::ZERO), "primary-smtp: command_timeout must be more than 0");
    assert!(of(|s| s.hello = "a\r\nMAIL".to_owned()).starts_with("primary-smtp: hello must be a host name"));
}

#[tokio::test]
async fn who_takes_a_server_down_does_not_wait_for_ever_when_another_brings_it_back_at_once() {
    let server = MailServer::start("primary-smtp").await.unwrap();
    let both = async {
        for _ in 0..20 {
            tokio::join!(server.set(MailFault::Down), server.set(MailFault::None));
        }
    };
    timeout(Duration::from_secs(10), both).await.unwrap();
}
