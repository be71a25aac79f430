//! A mail server that really converses, counts what it takes, and can be told to fail in every way that one can.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use tokio::{net::TcpStream, sync::watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

mod door;
mod fault;
mod session;
mod syntax;

pub use self::fault::MailFault;
use self::{
    door::{Door, open},
    syntax::message_id,
};

/// What an embedded mail server is like.
#[derive(Clone, Default)]
pub struct MailServerOptions {
    /// Its port. Default: 0, any free one.
    pub port: u16,
    /// Who may log in, user and password. Without a login it refuses mails then. Default: nobody needs to.
    pub login: Option<(String, String)>,
    /// Its certificate and key. Default: none, no TLS.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Speaks TLS from the first byte, not after `STARTTLS`. Default: no.
    pub implicit_tls: bool,
    /// How many of the last mails are kept whole. Default: 0.
    pub keep: usize,
    /// Answers one command at a time, and does not offer more. Default: no.
    pub without_pipelining: bool,
}

impl fmt::Debug for MailServerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { port, login, tls, implicit_tls, keep, without_pipelining } = self;
        f.debug_struct("MailServerOptions")
            .field("port", port)
            .field("login", &login.is_some())
            .field("tls", &tls.is_some())
            .field("implicit_tls", implicit_tls)
            .field("keep", keep)
            .field("without_pipelining", without_pipelining)
            .finish()
    }
}

/// A mail that was taken, as it was before it was sent.
#[derive(Clone)]
pub struct TakenMail {
    /// Of `MAIL FROM`.
    pub from: String,
    /// Of `RCPT TO`.
    pub to: Vec<String>,
    /// Its header and body.
    pub message: Bytes,
}

impl fmt::Debug for TakenMail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TakenMail({} octets for {})", self.message.len(), self.to.len())
    }
}

/// An embedded mail server on 127.0.0.1. A clone is the same server; it ends with the last of them.
///
/// It writes down a mail's `Message-ID` before it says 250, as a real one stores the mail, so what it counts is what was
/// delivered.
#[derive(Clone)]
pub struct MailServer(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    address: SocketAddr,
    is_open: watch::Receiver<bool>,
    /// Ends everything.
    end: CancellationToken,
    tasks: TaskTracker,
}

/// What all connections share.
struct Shared {
    name: String,
    options: MailServerOptions,
    fault: watch::Sender<MailFault>,
    connections: AtomicU64,
    open: AtomicUsize,
    most_open: AtomicUsize,
    accepted: AtomicU64,
    arrived: AtomicU64,
    rejected: Mutex<BTreeMap<u16, u64>>,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    message_ids: HashMap<String, u32>,
    unanswered: HashMap<String, u32>,
    last: VecDeque<TakenMail>,
}

impl MailServer {
    /// Starts a server, which calls itself `name`, on a free port.
    ///
    /// # Errors
    /// When there is none.
    pub async fn start(name: &str) -> io::Result<Self> {
        Self::start_with(name, MailServerOptions::default()).await
    }

    /// Starts a server that is like this.
    ///
    /// # Errors
    /// When its port is taken.
    #[allow(clippy::unused_async)] // it needs a runtime, and says so
    pub async fn start_with(name: &str, options: MailServerOptions) -> io::Result<Self> {
        let listener = open(SocketAddr::from(([127, 0, 0, 1], options.port)))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            options,
            fault: watch::Sender::default(),
            connections: AtomicU64::default(),
            open: AtomicUsize::default(),
            most_open: AtomicUsize::default(),
            accepted: AtomicU64::default(),
            arrived: AtomicU64::default(),
            rejected: Mutex::default(),
            taken: Mutex::default(),
        });
        let (opened, is_open) = watch::channel(true);
        let (end, tasks) = (CancellationToken::new(), TaskTracker::new());
        let door = Door { shared: Arc::clone(&shared), address, opened, end: end.clone(), tasks: tasks.clone() };
        tasks.spawn(door.keep(listener));
        Ok(Self(Arc::new(Inner { shared, address, is_open, end, tasks })))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.shared.name
    }

    /// Where it listens, or did while it was not down.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// How it is reached, as [`SmtpAddress`](crate::smtp::SmtpAddress) reads it; without the login, if it wants one.
    #[must_use]
    pub fn url(&self) -> String {
        let options = &self.0.shared.options;
        match (&options.tls, options.implicit_tls) {
            (None, _) => format!("smtp://{}?tls=none", self.0.address),
            (Some(_), false) => format!("smtp://{}?tls=required", self.0.address),
            (Some(_), true) => format!("smtps://{}", self.0.address),
        }
    }

    /// Has that fault from now on, instead of the one before. Returns when the port is closed, or open again, or another
    /// has changed that meanwhile.
    pub async fn set(&self, fault: MailFault) {
        let open = !matches!(fault, MailFault::Down);
        self.0.shared.fault.send_replace(fault);
        let (mut faults, mut is_open) = (self.0.shared.fault.subscribe(), self.0.is_open.clone());
        // An error says that the server has been stopped.
        tokio::select! {
            _ = is_open.wait_for(|is_open| *is_open == open) => {}
            _ = faults.wait_for(|fault| matches!(fault, MailFault::Down) == open) => {}
        }
    }

    /// What is wrong with it now.
    #[must_use]
    pub fn fault(&self) -> MailFault {
        self.0.shared.fault.borrow().clone()
    }

    /// How many mails it has taken.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.0.shared.accepted.load(Ordering::SeqCst)
    }

    /// How many mails have come to their final dot, whatever it has said or will say to that.
    #[must_use]
    pub fn arrived(&self) -> u64 {
        self.0.shared.arrived.load(Ordering::SeqCst)
    }

    /// How often it has said each code of 400 and above.
    #[must_use]
    pub fn rejected(&self) -> BTreeMap<u16, u64> {
        lock(&self.0.shared.rejected).clone()
    }

    /// How many connections there have been.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.0.shared.connections.load(Ordering::SeqCst)
    }

    /// How many connections there are.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.0.shared.open.load(Ordering::SeqCst)
    }

    /// How many connections there were at most at a time.
    #[must_use]
    pub fn most_open_connections(&self) -> usize {
        self.0.shared.most_open.load(Ordering::SeqCst)
    }

    /// Every `Message-ID` it has taken, without angle brackets, and how often.
    #[must_use]
    pub fn message_ids(&self) -> HashMap<String, u32> {
        lock(&self.0.shared.taken).message_ids.clone()
    }

    /// Those that it has taken more than once.
    #[must_use]
    pub fn doubles(&self) -> Vec<(String, u32)> {
        let taken = lock(&self.0.shared.taken);
        let mut doubles: Vec<_> =
            taken.message_ids.iter().filter(|(_, times)| **times > 1).map(|(id, times)| (id.clone(), *times)).collect();
        doubles.sort();
        doubles
    }

    /// Every `Message-ID` of which a fault left the answer to the message out, taken or not, and how often. Of these
    /// mails nobody else can know whether they were taken.
    #[must_use]
    pub fn unanswered(&self) -> HashMap<String, u32> {
        lock(&self.0.shared.taken).unanswered.clone()
    }

    /// The last mails that it has taken, as many as it [keeps](MailServerOptions::keep), the oldest first.
    #[must_use]
    pub fn last_mails(&self) -> Vec<TakenMail> {
        lock(&self.0.shared.taken).last.iter().cloned().collect()
    }

    /// Closes the port and all connections, for good. A mail that is being taken is answered first.
    pub async fn stop(&self) {
        self.0.end.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }
}

impl fmt::Debug for MailServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MailServer({}, {})", self.name(), self.0.address)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

impl Shared {
    /// Writes a mail down.
    fn store(&self, mail: TakenMail) {
        let id = message_id(&mail.message);
        let mut taken = lock(&self.taken);
        if let Some(id) = id {
            *taken.message_ids.entry(id).or_default() += 1;
        }
        if self.options.keep > 0 {
            if taken.last.len() == self.options.keep {
                taken.last.pop_front();
            }
            taken.last.push_back(mail);
        }
        self.accepted.fetch_add(1, Ordering::SeqCst);
    }

    fn count_unanswered(&self, message: &[u8]) {
        if let Some(id) = message_id(message) {
            *lock(&self.taken).unanswered.entry(id).or_default() += 1;
        }
    }

    fn count_rejection(&self, code: u16) {
        *lock(&self.rejected).entry(code).or_default() += 1;
    }
}

impl Shared {
    async fn serve(self: Arc<Self>, stream: TcpStream, closing: CancellationToken) {
        self.connections.fetch_add(1, Ordering::SeqCst);
        let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_open.fetch_max(open, Ordering::SeqCst);
        // How a conversation ends is the client's to say.
        let _ = session::converse(&self, stream, &closing).await;
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
