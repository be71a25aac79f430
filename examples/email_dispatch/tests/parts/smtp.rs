//! Mail servers: their addresses, conversations with them, and the mails that go to them.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use bytes::Bytes;
use email_dispatch::{
    embedded::{MailFault, MailServer, MailServerOptions},
    smtp::{Fault, Handover, Mail, SendError, SmtpServer, SmtpSettings, Stage, Transport},
};
use lettre::address::Envelope;

mod address;
mod compose;
mod conversation;
mod foreign;
mod pool;
mod script;
mod tls;

/// Hands everything over, and counts how often it was asked.
#[derive(Default)]
struct Freely(AtomicUsize);

impl Freely {
    fn asked(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Handover for Freely {
    async fn hand_over(&self) -> Result<(), Fault> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    async fn take_back(&self) {}
}

fn mail(id: &str) -> Mail {
    mail_of(id, "Hello\r\n")
}

fn mail_of(id: &str, body: &str) -> Mail {
    let message = format!("Message-ID: <{id}@example.org>\r\nSubject: Hello\r\n\r\n{body}");
    let envelope =
        Envelope::new(Some("post@example.org".parse().unwrap()), vec!["ada@example.com".parse().unwrap()]).unwrap();
    Mail { envelope, message: Bytes::from(message) }
}

/// Settings for a server in this process, which is not waited for in vain.
fn settings(url: &str) -> SmtpSettings {
    within(Duration::from_secs(20), url)
}

/// Settings for a server that will not answer.
fn hasty(url: &str) -> SmtpSettings {
    within(HASTE, url)
}

/// Long enough for what does come, on a busy machine.
const HASTE: Duration = Duration::from_millis(700);

fn within(limit: Duration, url: &str) -> SmtpSettings {
    SmtpSettings {
        connect_timeout: limit,
        command_timeout: limit,
        final_dot_timeout: limit,
        ..SmtpSettings::new(url.parse().unwrap())
    }
}

async fn servers() -> (MailServer, SmtpServer) {
    servers_with(MailServerOptions { keep: 100, ..MailServerOptions::default() }).await
}

async fn servers_with(options: MailServerOptions) -> (MailServer, SmtpServer) {
    let there = MailServer::start_with("mail.test", options).await.unwrap();
    let here = SmtpServer::new("primary-smtp", settings(&there.url())).unwrap();
    (there, here)
}

async fn send(server: &SmtpServer, id: &str) -> Result<(), SendError> {
    server.send(&mail(id), &Freely::default()).await
}

/// How one mail fails at a server with this fault.
async fn failure(fault: MailFault) -> SendError {
    let (there, mut here) = servers().await;
    if matches!(fault, MailFault::SlowGreeting(_) | MailFault::HangAtRecipient | MailFault::HangAfterFinalDot) {
        here = SmtpServer::new("primary-smtp", hasty(&there.url())).unwrap();
    }
    there.set(fault).await;
    send(&here, "one").await.unwrap_err()
}

/// What the failure is about, how far the conversation came, and the code.
async fn outcome(fault: MailFault) -> (Fault, Stage, Option<u16>) {
    let SendError { fault, stage, code, .. } = failure(fault).await;
    (fault, stage, code)
}
