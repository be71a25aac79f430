//! A mail server that really converses, counts what it takes, and can be told to fail in every way that one can.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

mod session;

/// How many connections may wait to be accepted: a client whose connection overflows the queue waits for ever.
const BACKLOG: u32 = 4096;

/// What an embedded mail server does wrong.
#[derive(Clone, Default)]
pub enum MailFault {
    /// Nothing.
    #[default]
    None,
    /// It is down: its port is closed and so are its connections, once each has answered the mail that it is taking.
    Down,
    /// Says this code instead of greeting, and closes.
    Greeting(u16),
    /// Greets only after that long.
    SlowGreeting(Duration),
    /// Says this code to `EHLO`.
    Hello(u16),
    /// Says this code to `MAIL`.
    Sender(u16),
    /// Says this code to `RCPT`, for that many of a hundred recipients: always the same ones.
    Recipient {
        /// The code.
        code: u16,
        /// How many of a hundred.
        percent: u8,
    },
    /// Says this code to `RCPT` for recipients of which the function says so.
    RecipientIf {
        /// The code.
        code: u16,
        /// Told the address.
        matches: fn(&str) -> bool,
    },
    /// Never answers `RCPT`.
    HangAtRecipient,
    /// Says this code to `DATA`.
    Data(u16),
    /// Closes the connection as soon as some of the message has come.
    DropMidData,
    /// Says this code to the final dot.
    EndOfData(u16),
    /// Answers the final dot only after that long.
    SlowEndOfData(Duration),
    /// Never answers the final dot, and has taken the mail.
    HangAfterFinalDot,
    /// Takes the mail, and closes the connection instead of saying so.
    DropStored,
    /// Closes the connection at the final dot, without having taken the mail.
    DropUnstored,
    /// Refuses further mails on a connection that has carried that many, with 452 4.5.3.
    SessionLimit(u32),
    /// Answers everything after the greeting with what is not SMTP.
    Garbage,
}

impl fmt::Debug for MailFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Down => f.write_str("down"),
            Self::Greeting(code) => write!(f, "{code} instead of a greeting"),
            Self::SlowGreeting(time) => write!(f, "greeting after {time:?}"),
            Self::Hello(code) => write!(f, "{code} to EHLO"),
            Self::Sender(code) => write!(f, "{code} to MAIL"),
            Self::Recipient { code, percent } => write!(f, "{code} to {percent} % of RCPT"),
            Self::RecipientIf { code, .. } => write!(f, "{code} to some RCPT"),
            Self::HangAtRecipient => f.write_str("no answer to RCPT"),
            Self::Data(code) => write!(f, "{code} to DATA"),
            Self::DropMidData => f.write_str("closes during DATA"),
            Self::EndOfData(code) => write!(f, "{code} to the final dot"),
            Self::SlowEndOfData(time) => write!(f, "answers the final dot after {time:?}"),
            Self::HangAfterFinalDot => f.write_str("no answer to the final dot"),
            Self::DropStored => f.write_str("closes after the final dot, mail taken"),
            Self::DropUnstored => f.write_str("closes after the final dot, mail not taken"),
            Self::SessionLimit(mails) => write!(f, "{mails} mails a connection"),
            Self::Garbage => f.write_str("garbage"),
        }
    }
}

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
    rejected: Mutex<BTreeMap<u16, u64>>,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    message_ids: HashMap<String, u32>,
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
        let listener = reserved(SocketAddr::from(([127, 0, 0, 1], options.port)))?.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            options,
            fault: watch::Sender::default(),
            connections: AtomicU64::default(),
            open: AtomicUsize::default(),
            most_open: AtomicUsize::default(),
            accepted: AtomicU64::default(),
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

    /// Has that fault from now on, instead of the one before. Returns when the port is closed, or open again.
    pub async fn set(&self, fault: MailFault) {
        let open = !matches!(fault, MailFault::Down);
        self.0.shared.fault.send_replace(fault);
        // An error says that the server has been stopped.
        let _ = self.0.is_open.clone().wait_for(|is_open| *is_open == open).await;
    }

    /// How many mails it has taken.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.0.shared.accepted.load(Ordering::SeqCst)
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

    fn count_rejection(&self, code: u16) {
        *lock(&self.rejected).entry(code).or_default() += 1;
    }
}

/// Opens and closes the port as the fault says.
struct Door {
    shared: Arc<Shared>,
    address: SocketAddr,
    opened: watch::Sender<bool>,
    end: CancellationToken,
    tasks: TaskTracker,
}

impl Door {
    async fn keep(self, mut listener: TcpListener) {
        let mut fault = self.shared.fault.subscribe();
        loop {
            // Ends the connections of this opening.
            let closing = self.end.child_token();
            tokio::select! {
                () = self.accept(&listener, &closing) => {}
                _ = fault.wait_for(|fault| matches!(fault, MailFault::Down)) => {}
                () = self.end.cancelled() => return,
            }
            closing.cancel();
            drop(listener);
            // Bound and not listening: connections are refused, and nobody else gets the port.
            let kept = self.bound().await;
            self.opened.send_replace(false);
            tokio::select! {
                _ = fault.wait_for(|fault| !matches!(fault, MailFault::Down)) => {}
                () = self.end.cancelled() => return,
            }
            listener = match kept.listen(BACKLOG) {
                Ok(listener) => listener,
                Err(_) => match self.bound().await.listen(BACKLOG) {
                    Ok(listener) => listener,
                    Err(_) => return,
                },
            };
            self.opened.send_replace(true);
        }
    }

    async fn accept(&self, listener: &TcpListener, closing: &CancellationToken) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (shared, closing) = (Arc::clone(&self.shared), closing.clone());
                    self.tasks.spawn(shared.serve(stream, closing));
                }
                // Too many open files, most likely: some will be closed.
                Err(_) => sleep(Duration::from_millis(10)).await,
            }
        }
    }

    /// The port was ours a moment ago, and will be again.
    async fn bound(&self) -> TcpSocket {
        loop {
            match reserved(self.address) {
                Ok(socket) => return socket,
                Err(_) => sleep(Duration::from_millis(5)).await,
            }
        }
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

fn reserved(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    // Connections of before may linger in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// What `Message-ID` says, without angle brackets.
fn message_id(message: &[u8]) -> Option<String> {
    const NAME: &[u8] = b"message-id:";
    let mut lines = message.split(|&byte| byte == b'\n').take_while(|line| !matches!(line, [] | [b'\r']));
    let line = lines.find(|line| line.len() > NAME.len() && line[..NAME.len()].eq_ignore_ascii_case(NAME))?;
    let value = String::from_utf8_lossy(&line[NAME.len()..]);
    Some(value.trim().trim_start_matches('<').trim_end_matches('>').to_owned())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
