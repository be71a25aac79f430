//! Encrypted conversations and logins.

use std::{path::PathBuf, sync::Arc};

use email_dispatch::{
    embedded::{MailServer, MailServerOptions},
    smtp::{Fault, SendError, SmtpServer, SmtpSettings, Stage},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer};
use tempfile::TempDir;

use super::{
    script::{UNTIL_DATA, scripted},
    send, settings,
};

/// An authority, and what a server has from it.
pub(super) struct Authority {
    pub(super) folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { folder, issuer }
    }

    pub(super) fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A certificate and its key for a host.
    pub(super) fn certificate(&self, host: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    fn server(&self, host: &str) -> Arc<ServerConfig> {
        let (certificate, key) = self.certificate(host);
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        Arc::new(config)
    }
}

async fn encrypted(
    implicit_tls: bool,
    host: &str,
    trusted: &Authority,
    issuer: &Authority,
) -> (MailServer, SmtpServer) {
    let options = MailServerOptions { tls: Some(issuer.server(host)), implicit_tls, ..MailServerOptions::default() };
    let there = MailServer::start_with("mail.test", options).await.unwrap();
    let here = trusting(&there.url(), trusted);
    (there, here)
}

fn trusting(url: &str, authority: &Authority) -> SmtpServer {
    SmtpServer::new("primary-smtp", SmtpSettings { ca_file: Some(authority.file()), ..settings(url) }).unwrap()
}

#[tokio::test]
async fn mails_go_encrypted_after_starttls_and_from_the_first_byte() {
    let authority = Authority::new();
    for implicit in [false, true] {
        let (there, here) = encrypted(implicit, "127.0.0.1", &authority, &authority).await;
        for number in 0..3 {
            send(&here, &number.to_string()).await.unwrap();
        }
        assert_eq!((there.accepted(), there.connections()), (3, 1));
    }
}

#[tokio::test]
async fn tls_is_taken_where_it_is_offered_and_done_without_where_it_is_not() {
    let authority = Authority::new();
    let (there, _) = encrypted(false, "127.0.0.1", &authority, &authority).await;
    send(&trusting(&format!("smtp://{}", there.address()), &authority), "one").await.unwrap();
    let plain = MailServer::start("mail.test").await.unwrap();
    send(&trusting(&format!("smtp://{}", plain.address()), &authority), "one").await.unwrap();
    // It was TLS indeed, since this one is noticed.
    let error = send(&trusting(&format!("smtp://{}", there.address()), &Authority::new()), "one").await.unwrap_err();
    assert_eq!(error.fault, Fault::Refused);
}

#[tokio::test]
async fn a_wrong_certificate_refuses_the_server_and_not_the_mail() {
    let (authority, other) = (Authority::new(), Authority::new());
    for (implicit, stage) in [(false, Stage::Greeting), (true, Stage::Connect)] {
        for (host, issuer) in [("other.example.org", &authority), ("127.0.0.1", &other)] {
            let (there, here) = encrypted(implicit, host, &authority, issuer).await;
            let error = send(&here, "one").await.unwrap_err();
            assert_eq!((error.fault, error.stage, error.code), (Fault::Refused, stage, None));
            assert!(error.text.contains("certificate"), "{error}");
            assert_eq!(there.accepted(), 0);
        }
    }
}

#[tokio::test]
async fn a_server_without_starttls_is_refused_where_it_is_required() {
    let there = MailServer::start("mail.test").await.unwrap();
    let here = trusting(&format!("smtp://{}?tls=required", there.address()), &Authority::new());
    let error = send(&here, "one").await.unwrap_err();
    assert_eq!((error.fault, error.stage), (Fault::Refused, Stage::Greeting));
    assert_eq!(there.accepted(), 0);
}

#[tokio::test]
async fn nothing_said_before_tls_is_believed_after_it() {
    let script = vec![
        ("", "220 hello\r\n"),
        ("EHLO", "250-script\r\n250 STARTTLS\r\n"),
        ("STARTTLS", "220 go ahead\r\n250 script\r\n"),
    ];
    let address = scripted(vec![script]).await;
    let here = trusting(&format!("smtp://{address}?tls=required"), &Authority::new());
    let error = send(&here, "one").await.unwrap_err();
    assert_eq!((error.fault, error.stage), (Fault::Refused, Stage::Greeting));
    assert!(error.text.contains("between STARTTLS and TLS"), "{error}");
}

#[tokio::test]
async fn a_server_that_closes_instead_of_tls_is_in_trouble_and_not_misconfigured() {
    let script =
        vec![("", "220 hello\r\n"), ("EHLO", "250-script\r\n250 STARTTLS\r\n"), ("STARTTLS", "220 go ahead\r\n")];
    let address = scripted(vec![script]).await;
    let here = trusting(&format!("smtp://{address}?tls=required"), &Authority::new());
    let error = send(&here, "one").await.unwrap_err();
    assert_eq!((error.fault, error.stage), (Fault::Provider, Stage::Greeting));
}

#[test]
fn authorities_that_cannot_be_read_stop_the_server_from_being_made() {
    let folder = tempfile::tempdir().unwrap();
    let of = |ca_file: PathBuf| {
        let settings = SmtpSettings { ca_file: Some(ca_file), ..settings("smtps://localhost") };
        SmtpServer::new("primary-smtp", settings).unwrap_err().to_string()
    };
    let missing = folder.path().join("missing.pem");
    assert!(of(missing.clone()).starts_with(&format!("primary-smtp: {}: ", missing.display())));
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "not a certificate").unwrap();
    assert!(of(empty).ends_with("has no certificate in it"));
}

async fn log_in(login: &str) -> (MailServer, Result<(), SendError>) {
    let login_wanted = Some(("ada@example.org".to_owned(), "s/ecret".to_owned()));
    let options = MailServerOptions { login: login_wanted, ..MailServerOptions::default() };
    let there = MailServer::start_with("mail.test", options).await.unwrap();
    let url = format!("smtp://{login}{}?tls=none", there.address());
    let sent = send(&SmtpServer::new("primary-smtp", settings(&url)).unwrap(), "one").await;
    (there, sent)
}

#[tokio::test]
async fn the_right_login_is_let_in() {
    let (there, sent) = log_in("ada%40example.org:s%2Fecret@").await;
    sent.unwrap();
    assert_eq!(there.accepted(), 1);
}

#[tokio::test]
async fn a_wrong_login_refuses_the_server_and_not_the_mail() {
    let (_, sent) = log_in("ada%40example.org:wrong@").await;
    let error = sent.unwrap_err();
    assert_eq!((error.fault, error.stage, error.code), (Fault::Refused, Stage::Auth, Some(535)));
}

#[tokio::test]
async fn a_server_that_wants_a_login_and_gets_none_refuses_us() {
    let (_, sent) = log_in("").await;
    let error = sent.unwrap_err();
    assert_eq!((error.fault, error.stage, error.code), (Fault::Refused, Stage::Mail, Some(530)));
}

#[tokio::test]
async fn a_login_that_the_server_does_not_offer_is_its_refusal() {
    let there = MailServer::start("mail.test").await.unwrap();
    let url = format!("smtp://ada:secret@{}?tls=none", there.address());
    let error = send(&SmtpServer::new("primary-smtp", settings(&url)).unwrap(), "one").await.unwrap_err();
    assert_eq!((error.fault, error.stage, error.code), (Fault::Refused, Stage::Auth, None));
    assert!(!error.to_string().contains("secret"));
}

#[tokio::test]
async fn a_server_that_only_knows_auth_login_is_logged_in_to() {
    let mut script = vec![
        ("", "220 hello\r\n"),
        ("EHLO", "250-script\r\n250 AUTH LOGIN\r\n"),
        ("AUTH LOGIN\r\n", "334 VXNlcm5hbWU6\r\n"),
        ("YWRh\r\n", "334 UGFzc3dvcmQ6\r\n"),
        ("c2VjcmV0\r\n", "235 welcome\r\n"),
    ];
    script.extend(&UNTIL_DATA[2..]);
    script.push(("\r\n.\r\n", "250 taken\r\n"));
    let address = scripted(vec![script]).await;
    let url = format!("smtp://ada:secret@{address}?tls=none");
    send(&SmtpServer::new("primary-smtp", settings(&url)).unwrap(), "one").await.unwrap();
}

#[tokio::test]
async fn a_login_that_fails_for_now_is_the_servers_trouble() {
    let script = vec![
        ("", "220 hello\r\n"),
        ("EHLO", "250-script\r\n250 AUTH PLAIN\r\n"),
        ("AUTH PLAIN", "454 4.7.0 temporary authentication failure\r\n"),
    ];
    let address = scripted(vec![script]).await;
    let url = format!("smtp://ada:secret@{address}?tls=none");
    let error = send(&SmtpServer::new("primary-smtp", settings(&url)).unwrap(), "one").await.unwrap_err();
    assert_eq!((error.fault, error.stage, error.code), (Fault::Provider, Stage::Auth, Some(454)));
}
