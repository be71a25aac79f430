//! How many mails a second go to an embedded mail server, over how many connections.
//!
//! ```text
//! cargo bench -p email-dispatch --bench smtp
//! ```
#![allow(clippy::print_stdout, clippy::unwrap_used)]
#![allow(clippy::disallowed_types)] // real time is what is measured

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use email_dispatch::{
    embedded::{MailFault, MailServer},
    smtp::{Fault, Handover, Mail, SmtpServer, SmtpSettings, Transport},
};
use lettre::address::Envelope;

struct Freely;

impl Handover for Freely {
    async fn hand_over(&self) -> Result<(), Fault> {
        Ok(())
    }

    async fn take_back(&self) {}
}

#[tokio::main]
async fn main() {
    // Both ends of each connection are in this process.
    let files = rlimit::increase_nofile_limit(u64::MAX).unwrap_or_default();
    for (at_once, mails) in [(1, 20_000), (4, 50_000), (16, 100_000), (64, 100_000), (256, 100_000)] {
        send(at_once, mails, MailFault::None).await;
    }
    for at_once in [1_000, 8_000] {
        if files > u64::from(at_once) * 2 + 100 {
            send(at_once, 2 * at_once, MailFault::SlowEndOfData(Duration::from_secs(1))).await;
        } else {
            println!("skipped: {at_once} connections need {} open files, and {files} are allowed", at_once * 2 + 100);
        }
    }
}

async fn send(at_once: u32, mails: u32, fault: MailFault) {
    let there = MailServer::start("bench").await.unwrap();
    there.set(fault.clone()).await;
    let limit = Duration::from_secs(60);
    let here = Arc::new(
        SmtpServer::new(
            "bench",
            SmtpSettings {
                connect_timeout: limit,
                command_timeout: limit,
                final_dot_timeout: limit,
                ..SmtpSettings::new(there.url().parse().unwrap())
            },
        )
        .unwrap(),
    );
    let left = Arc::new(AtomicU32::new(mails));
    let began = Instant::now();
    let senders: Vec<_> = (0..at_once)
        .map(|_| {
            let (here, left) = (Arc::clone(&here), Arc::clone(&left));
            tokio::spawn(async move {
                let body = "A line of a mail that says nothing much to anybody.\r\n".repeat(12);
                let envelope =
                    Envelope::new(Some("post@example.org".parse().unwrap()), vec!["ada@example.com".parse().unwrap()]);
                let envelope = envelope.unwrap();
                while let Ok(number) =
                    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                {
                    let message = format!("Message-ID: <{number}@example.org>\r\nSubject: Hello\r\n\r\n{body}");
                    let mail = Mail { envelope: envelope.clone(), message: Bytes::from(message) };
                    here.send(&mail, &Freely).await.unwrap();
                }
            })
        })
        .collect();
    for sender in senders {
        sender.await.unwrap();
    }
    let rate = f64::from(mails) / began.elapsed().as_secs_f64();
    assert_eq!(there.accepted(), u64::from(mails));
    println!("{rate:>9.0}/s  {at_once} at once, {fault:?}, {} MiB", resident_mib());
}

/// Memory of this process; zero where there is no `/proc`.
fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default() / 1024
}
