//! A mail server behind a small pool of connections.

use std::{
    fmt,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lettre::transport::smtp::extension::ClientId;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::{
    Fault, Handover, Mail, SendError, SmtpFault, SmtpSettings, Stage, Tls, Transport,
    connection::{Connection, Peer},
    reply::{Failure, without},
};

/// A mail server.
///
/// A connection goes back to the pool only after the server's 250 to a final dot: after anything else, a cancelled send
/// included, it is closed, since nobody knows to what its next reply would belong. How many connections there are at a
/// time is for whoever calls to limit; so many then lie idle at most.
pub struct SmtpServer {
    name: String,
    peer: Peer,
    /// The most recently used last.
    idle: Mutex<Vec<Session>>,
}

struct Session {
    connection: Connection,
    mails: u32,
    used: Instant,
}

impl SmtpServer {
    /// The server that these settings tell of, under the name that its errors carry. Connects to nothing yet.
    ///
    /// # Errors
    /// A setting that cannot be, or authorities that cannot be read.
    pub fn new(name: &str, settings: SmtpSettings) -> Result<Self, SmtpFault> {
        let fault = |field, rule| SmtpFault::Setting { server: name.to_owned(), field, rule };
        let address = &settings.address;
        if settings.hello.is_empty() || !settings.hello.chars().all(|c| c.is_ascii_graphic()) {
            return Err(fault("hello", "must be a host name or an address in brackets, without spaces"));
        }
        if settings.mails_per_connection == 0 {
            return Err(fault("mails_per_connection", "must be at least 1"));
        }
        let times = [
            ("connect_timeout", settings.connect_timeout),
            ("command_timeout", settings.command_timeout),
            ("final_dot_timeout", settings.final_dot_timeout),
        ];
        if let Some((field, _)) = times.iter().find(|(_, time)| time.is_zero()) {
            return Err(fault(field, "must be more than 0"));
        }
        let peer = Peer {
            hello: ClientId::Domain(settings.hello.clone()),
            name: ServerName::try_from(address.host().to_owned())
                .map_err(|_| fault("address", "must name a host or an IP address"))?,
            tls: if address.tls() == Tls::Off { None } else { Some(connector(name, &settings)?) },
            credentials: address.credentials(),
            settings,
        };
        Ok(Self { name: name.to_owned(), peer, idle: Mutex::default() })
    }

    /// How it is spoken to.
    #[must_use]
    pub fn settings(&self) -> &SmtpSettings {
        &self.peer.settings
    }

    /// How many connections wait for the next mail.
    #[must_use]
    pub fn idle_connections(&self) -> usize {
        self.lock().len()
    }

    /// Takes leave of the server on all idle connections.
    pub fn close_idle(&self) {
        let idle = std::mem::take(&mut *self.lock());
        idle.into_iter().for_each(|session| session.connection.quit());
    }

    async fn converse(&self, mail: &Mail, handover: &impl Handover) -> Result<(), Failure> {
        let mut session = self.announced(mail).await?;
        if let Err(fault) = handover.hand_over().await {
            session.connection.quit();
            return Err(Failure::new(fault, Stage::Recipient, "was not handed over"));
        }
        match session.connection.hand_over(&mail.message, &self.peer.settings).await {
            Ok(()) => {
                self.keep(session);
                Ok(())
            }
            Err(failure) => Err(left(session, failure)),
        }
    }

    /// A session that has taken `MAIL` and `RCPT`. One from the pool may turn out to be closed or to have carried enough
    /// mails: a new one replaces it then, once.
    async fn announced(&self, mail: &Mail) -> Result<Session, Failure> {
        let limit = self.peer.settings.command_timeout;
        if let Some(mut session) = self.reused() {
            let failure = match session.connection.announce(&mail.envelope, &mail.message, limit).await {
                Ok(()) => return Ok(session),
                Err(failure) => left(session, failure),
            };
            if !failure.is_the_connections_own() {
                return Err(failure);
            }
        }
        // In a box: it is rare, and takes more room than all of a conversation.
        let connection = Box::pin(Connection::open(&self.peer)).await?;
        let mut session = Session { connection, mails: 0, used: Instant::now() };
        match session.connection.announce(&mail.envelope, &mail.message, limit).await {
            Ok(()) => Ok(session),
            Err(failure) => Err(left(session, failure)),
        }
    }

    /// The most recently used connection that is still there.
    fn reused(&self) -> Option<Session> {
        loop {
            let mut session = self.lock().pop()?;
            if session.used.elapsed() > self.peer.settings.idle {
                // All others have been idle for longer.
                session.connection.quit();
                self.close_idle();
                return None;
            }
            if session.connection.is_quiet() {
                return Some(session);
            }
        }
    }

    fn keep(&self, mut session: Session) {
        session.mails += 1;
        session.used = Instant::now();
        if session.mails >= self.peer.settings.mails_per_connection {
            return session.connection.quit();
        }
        let mut idle = self.lock();
        let expired = idle.partition_point(|other| session.used.duration_since(other.used) > self.peer.settings.idle);
        let expired: Vec<_> = idle.drain(..expired).collect();
        idle.push(session);
        drop(idle);
        expired.into_iter().for_each(|session| session.connection.quit());
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Session>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Transport for SmtpServer {
    async fn send(&self, mail: &Mail, handover: &impl Handover) -> Result<(), SendError> {
        let Err(Failure { fault, stage, code, mut text, .. }) = self.converse(mail, handover).await else {
            return Ok(());
        };
        for recipient in mail.envelope.to() {
            text = without(&text, recipient.user());
        }
        Err(SendError { fault, stage, code, server: self.name.clone(), text })
    }
}

impl fmt::Debug for SmtpServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SmtpServer({}, {})", self.name, self.peer.settings.address)
    }
}

impl Failure {
    /// Whether it says something of one connection and nothing of the server.
    fn is_the_connections_own(&self) -> bool {
        match (self.fault, self.stage) {
            (Fault::SessionLimit, _) => true,
            // It has closed the connection, or was about to. Not so a server that does not answer.
            (Fault::Provider, Stage::Mail) => self.is_closed || self.code == Some(421),
            _ => false,
        }
    }
}

/// Takes leave where the server has answered and waits for the next command; closes the connection otherwise.
fn left(session: Session, failure: Failure) -> Failure {
    if failure.code.is_some() {
        session.connection.quit();
    }
    failure
}

/// Whether the certificates of authorities can be read from a file.
pub(crate) fn check_authorities(path: &Path) -> Result<(), String> {
    authorities(path).map(drop)
}

fn authorities(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unusable(&error))? {
        let certificate = certificate.map_err(|error| unusable(&error))?;
        roots.add(certificate).map_err(|error| unusable(&error))?;
    }
    if roots.is_empty() { Err("has no certificate in it".to_owned()) } else { Ok(roots) }
}

fn unusable(error: &impl fmt::Display) -> String {
    format!("cannot be used: {error}")
}

fn connector(name: &str, settings: &SmtpSettings) -> Result<TlsConnector, SmtpFault> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = &settings.ca_file {
        let fault = |reason| SmtpFault::Authorities { server: name.to_owned(), path: path.clone(), reason };
        roots = authorities(path).map_err(fault)?;
    } else {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() && settings.address.tls() != Tls::Opportunistic {
            let reason = found.errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            return Err(SmtpFault::NoAuthorities { server: name.to_owned(), reason });
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has the ciphers of every version")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
