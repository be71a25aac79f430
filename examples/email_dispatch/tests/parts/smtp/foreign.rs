//! Against a mail server that nobody here wrote: aiosmtpd, in Python.

use std::{
    env,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use email_dispatch::smtp::{SmtpServer, SmtpSettings};
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{mail_of, send, settings, tls::Authority};

/// A server that writes each mail into a folder, and ends with this.
struct Aiosmtpd(Child);

impl Aiosmtpd {
    /// With a certificate and its key it wants `STARTTLS`. `None` where aiosmtpd is not installed.
    async fn start(mails: &Path, tls: Option<(&Path, &Path)>) -> Option<(Self, u16)> {
        let python = env::var("EMAIL_DISPATCH_TEST_AIOSMTPD").unwrap_or_else(|_| "python3".to_owned());
        let knows = Command::new(&python).args(["-c", "import aiosmtpd"]).stderr(Stdio::null()).status();
        if !knows.is_ok_and(|status| status.success()) {
            skipped();
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(&python);
        command.args(["-m", "aiosmtpd", "-n", "-l", &format!("127.0.0.1:{port}")]);
        command.args(["-c", "aiosmtpd.handlers.Mailbox"]);
        if let Some((certificate, key)) = tls {
            command.arg("--tlscert").arg(certificate).arg("--tlskey").arg(key);
        }
        let server = Self(command.arg(mails).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let listening = async {
            while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(30), listening).await.expect("aiosmtpd does not listen");
        Some((server, port))
    }
}

impl Drop for Aiosmtpd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[allow(clippy::print_stdout)] // whoever reads the tests' output should see why there was none
fn skipped() {
    println!(
        "skipped: aiosmtpd is not installed (pip install aiosmtpd, or name a Python in EMAIL_DISPATCH_TEST_AIOSMTPD)"
    );
}

/// What was taken, all mails together.
fn taken(mails: &Path) -> Vec<String> {
    let read = |entry: std::io::Result<std::fs::DirEntry>| std::fs::read_to_string(entry.unwrap().path()).unwrap();
    std::fs::read_dir(mails.join("new")).unwrap().map(read).collect()
}

#[tokio::test]
async fn mails_arrive_at_aiosmtpd() {
    let folder = tempfile::tempdir().unwrap();
    let mails = folder.path().join("mails");
    let Some((_aiosmtpd, port)) = Aiosmtpd::start(&mails, None).await else { return };
    let here = SmtpServer::new("primary-smtp", settings(&format!("smtp://127.0.0.1:{port}"))).unwrap();
    for number in 0..5 {
        send(&here, &format!("mail-{number}")).await.unwrap();
    }
    let dots = mail_of("dots", ".\r\n..two\r\nend\r\n");
    email_dispatch::smtp::Transport::send(&here, &dots, &super::Freely::default()).await.unwrap();
    let taken = taken(&mails);
    assert_eq!(taken.len(), 6);
    let of = |id: &str| taken.iter().find(|mail| mail.contains(&format!("<{id}@example.org>"))).unwrap();
    assert!(of("dots").replace('\r', "").contains("\n\n.\n..two\nend\n"), "{}", of("dots"));
    of("mail-4");
    assert_eq!(here.idle_connections(), 1);
}

#[tokio::test]
async fn mails_arrive_at_aiosmtpd_encrypted() {
    let authority = Authority::new();
    let (certificate, key) = authority.certificate("127.0.0.1");
    let folder = authority.folder.path();
    std::fs::write(folder.join("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
    let mails = folder.join("mails");
    let tls = (folder.join("cert.pem"), folder.join("key.pem"));
    let Some((_aiosmtpd, port)) = Aiosmtpd::start(&mails, Some((&tls.0, &tls.1))).await else { return };
    let here = settings(&format!("smtp://127.0.0.1:{port}?tls=required"));
    let here = SmtpServer::new("primary-smtp", SmtpSettings { ca_file: Some(authority.file()), ..here }).unwrap();
    for number in 0..3 {
        send(&here, &format!("mail-{number}")).await.unwrap();
    }
    assert_eq!(taken(&mails).len(), 3);
    // Without TLS it takes nothing, and says so as a matter of login.
    let plain = SmtpServer::new("primary-smtp", settings(&format!("smtp://127.0.0.1:{port}?tls=none"))).unwrap();
    let error = send(&plain, "plain").await.unwrap_err();
    assert_eq!((error.fault, error.code), (email_dispatch::smtp::Fault::Refused, Some(530)));
}
