//! One conversation with a mail server, over a connection that can carry several.
//!
//! Commands, replies and what a server can do are read and written by `lettre`; the connection itself is our own. So it
//! is known at which stage a mail was lost, each stage has its own time-out, nothing that came before TLS is believed
//! after it, and an idle connection takes a kilobyte.

use std::{fmt::Display, future::Future, io, time::Duration};

use futures::FutureExt;
use lettre::{
    address::Envelope,
    transport::smtp::{
        authentication::{Credentials, DEFAULT_MECHANISMS},
        commands::{Auth, Data, Ehlo, Mail, Rcpt, Starttls},
        extension::{ClientId, Extension, MailBodyParameter, MailParameter, ServerInfo},
        response::{Response, Severity},
    },
};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{Fault, SmtpSettings, Stage, Tls, reply::Failure};

/// The longest reply that is read, all its lines together, in bytes.
const LONGEST_REPLY: usize = 8_000;
/// How often a server may ask for more of a login.
const MOST_CHALLENGES: usize = 4;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What it takes to connect.
pub(super) struct Peer {
    pub(super) settings: SmtpSettings,
    pub(super) hello: ClientId,
    pub(super) name: ServerName<'static>,
    pub(super) tls: Option<TlsConnector>,
    pub(super) credentials: Option<Credentials>,
}

/// A connection that has been greeted, is encrypted and logged in as the settings say, and waits for `MAIL`.
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    /// Read, and not yet part of a reply.
    input: Vec<u8>,
    server: ServerInfo,
    takes_pipelining: bool,
}

impl Connection {
    pub(super) async fn open(peer: &Peer) -> Result<Self, Failure> {
        let SmtpSettings { connect_timeout, command_timeout, .. } = peer.settings;
        let stream = within(Stage::Connect, connect_timeout, connect(peer)).await?;
        let connection = Self { stream, input: Vec::new(), server: ServerInfo::default(), takes_pipelining: false };
        let mut connection = within(Stage::Greeting, command_timeout, connection.greet(peer)).await?;
        if let Some(credentials) = &peer.credentials {
            within(Stage::Auth, command_timeout, connection.log_in(credentials)).await?;
        }
        Ok(connection)
    }

    /// Whether the server has neither closed the connection nor said something out of turn, such as that it will.
    pub(super) fn is_quiet(&mut self) -> bool {
        self.input.is_empty() && self.stream.read(&mut [0]).now_or_never().is_none()
    }

    /// `MAIL` and `RCPT`, together where the server takes them so.
    pub(super) async fn announce(
        &mut self,
        envelope: &Envelope,
        message: &[u8],
        limit: Duration,
    ) -> Result<(), Failure> {
        let mut parameters = Vec::new();
        if !message.is_ascii() {
            self.needs(Extension::EightBitMime)?;
            parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
        let addresses = envelope.from().into_iter().chain(envelope.to());
        if !addresses.map(AsRef::<str>::as_ref).all(str::is_ascii) {
            self.needs(Extension::SmtpUtfEight)?;
            parameters.push(MailParameter::SmtpUtfEight);
        }
        let mut commands = Mail::new(envelope.from().cloned(), parameters).to_string();
        let recipients = envelope.to().iter().map(|to| Rcpt::new(to.clone(), Vec::new()));
        if self.takes_pipelining {
            recipients.for_each(|recipient| commands.push_str(&recipient.to_string()));
            within(Stage::Mail, limit, self.ask(Stage::Mail, &commands)).await?;
            for _ in envelope.to() {
                let reply = self.expect(Stage::Recipient, Severity::PositiveCompletion);
                within(Stage::Recipient, limit, reply).await?;
            }
        } else {
            within(Stage::Mail, limit, self.ask(Stage::Mail, &commands)).await?;
            for recipient in recipients {
                within(Stage::Recipient, limit, self.ask(Stage::Recipient, &recipient)).await?;
            }
        }
        Ok(())
    }

    /// `DATA`, the message and its final dot.
    pub(super) async fn hand_over(&mut self, message: &[u8], settings: &SmtpSettings) -> Result<(), Failure> {
        let limit = settings.command_timeout;
        within(Stage::Data, limit, async {
            self.say(&Data).await.map_err(|error| Failure::broken(Stage::Data, &error))?;
            self.expect(Stage::Data, Severity::PositiveIntermediate).await
        })
        .await?;
        // As long as the dot has not left, the server cannot have taken the mail.
        let limit = settings.final_dot_timeout;
        within(Stage::Data, limit, async {
            let written = self.write(&on_the_wire(message)).await;
            written.map_err(|error| Failure::broken(Stage::Data, &error))
        })
        .await?;
        within(Stage::FinalDot, limit, self.expect(Stage::FinalDot, Severity::PositiveCompletion)).await?;
        Ok(())
    }

    /// Takes leave of a server that waits for a command, without waiting for it.
    pub(super) fn quit(mut self) {
        // Six bytes into an empty buffer; where there is no room for them, closing says the same.
        let _ = self.write(b"QUIT\r\n").now_or_never();
    }

    async fn greet(mut self, peer: &Peer) -> Result<Self, Failure> {
        self.expect(Stage::Greeting, Severity::PositiveCompletion).await?;
        self.hello(&peer.hello).await?;
        let offered = self.server.supports_feature(Extension::StartTls);
        let connector = match (peer.settings.address.tls(), &peer.tls) {
            (Tls::Required, Some(connector)) => connector,
            (Tls::Opportunistic, Some(connector)) if offered => connector,
            _ => return Ok(self),
        };
        if !offered {
            return Err(Failure::new(Fault::Refused, Stage::Greeting, "offers no STARTTLS, which is required"));
        }
        self.ask(Stage::Greeting, &Starttls).await?;
        if !self.input.is_empty() {
            // Whoever put it there wants it to be taken for the server's word under TLS.
            return Err(Failure::new(Fault::Refused, Stage::Greeting, "said something between STARTTLS and TLS"));
        }
        let encrypted = connector.connect(peer.name.clone(), self.stream).await;
        self.stream = Box::new(encrypted.map_err(|error| not_encrypted(Stage::Greeting, &error))?);
        self.hello(&peer.hello).await?;
        Ok(self)
    }

    async fn hello(&mut self, name: &ClientId) -> Result<(), Failure> {
        let reply = self.ask(Stage::Greeting, &Ehlo::new(name.clone())).await?;
        self.server = ServerInfo::from_response(&reply)
            .map_err(|error| Failure::new(Fault::Provider, Stage::Greeting, error.to_string()))?;
        self.takes_pipelining = reply.message().any(|line| line.eq_ignore_ascii_case("PIPELINING"));
        Ok(())
    }

    async fn log_in(&mut self, credentials: &Credentials) -> Result<(), Failure> {
        // What `lettre` says of a login it cannot make may repeat the server's challenge, and that is all.
        let impossible = |error: lettre::transport::smtp::Error| {
            Failure::new(Fault::Refused, Stage::Auth, super::reply::bounded(&error.to_string()))
        };
        let Some(mechanism) = self.server.get_auth_mechanism(DEFAULT_MECHANISMS) else {
            return Err(Failure::new(Fault::Refused, Stage::Auth, "offers neither AUTH PLAIN nor AUTH LOGIN"));
        };
        let mut answer = Auth::new(mechanism, credentials.clone(), None).map_err(impossible)?;
        for _ in 0..MOST_CHALLENGES {
            self.say(&answer).await.map_err(|error| Failure::broken(Stage::Auth, &error))?;
            let reply = self.reply().await.map_err(|error| Failure::broken(Stage::Auth, &error))?;
            match reply.code().severity {
                Severity::PositiveCompletion => return Ok(()),
                Severity::PositiveIntermediate => {
                    answer = Auth::new_from_response(mechanism, credentials.clone(), &reply).map_err(impossible)?;
                }
                _ => return Err(Failure::reply(Stage::Auth, &reply)),
            }
        }
        Err(Failure::new(Fault::Refused, Stage::Auth, "keeps asking for more of the login"))
    }

    fn needs(&self, extension: Extension) -> Result<(), Failure> {
        if self.server.supports_feature(extension) {
            return Ok(());
        }
        Err(Failure::new(Fault::Message, Stage::Mail, format!("the mail needs {extension}, which is not offered")))
    }

    /// A command, and its positive reply.
    async fn ask(&mut self, stage: Stage, command: &impl Display) -> Result<Response, Failure> {
        self.say(command).await.map_err(|error| Failure::broken(stage, &error))?;
        self.expect(stage, Severity::PositiveCompletion).await
    }

    async fn expect(&mut self, stage: Stage, hoped_for: Severity) -> Result<Response, Failure> {
        let reply = self.reply().await.map_err(|error| Failure::broken(stage, &error))?;
        if reply.code().severity == hoped_for { Ok(reply) } else { Err(Failure::reply(stage, &reply)) }
    }

    async fn say(&mut self, command: &impl Display) -> io::Result<()> {
        self.write(command.to_string().as_bytes()).await
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    async fn reply(&mut self) -> io::Result<Response> {
        loop {
            if let Some(end) = end_of_reply(&self.input) {
                let reply = parsed(&self.input[..end]);
                self.input.drain(..end);
                return reply;
            }
            if self.input.len() > LONGEST_REPLY {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a reply without end"));
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection"));
            }
        }
    }
}

async fn connect(peer: &Peer) -> Result<Box<dyn Stream>, Failure> {
    let address = &peer.settings.address;
    let broken = |error: io::Error| Failure::broken(Stage::Connect, &error);
    let stream = TcpStream::connect((address.host(), address.port())).await.map_err(broken)?;
    // Or else the second of two small writes waits 40 ms for the other side to acknowledge the first.
    stream.set_nodelay(true).map_err(broken)?;
    match &peer.tls {
        Some(connector) if address.tls() == Tls::Implicit => {
            let encrypted = connector.connect(peer.name.clone(), stream).await;
            Ok(Box::new(encrypted.map_err(|error| not_encrypted(Stage::Connect, &error))?))
        }
        _ => Ok(Box::new(stream)),
    }
}

/// A certificate that is not right will not be so the next time; a broken connection may.
fn not_encrypted(stage: Stage, error: &io::Error) -> Failure {
    let refused = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
    Failure { fault: if refused { Fault::Refused } else { Fault::Provider }, ..Failure::broken(stage, error) }
}

async fn within<T>(
    stage: Stage,
    limit: Duration,
    step: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    timeout(limit, step).await.unwrap_or_else(|_| Err(Failure::timed_out(stage, limit)))
}

/// Where the first whole reply ends: with the first line that has no hyphen after its code.
fn end_of_reply(input: &[u8]) -> Option<usize> {
    let mut end = 0;
    for line in input.split_inclusive(|&byte| byte == b'\n') {
        end += line.len();
        if line.ends_with(b"\n") && line.get(3) != Some(&b'-') {
            return Some(end);
        }
    }
    None
}

fn parsed(reply: &[u8]) -> io::Result<Response> {
    let mut text = String::from_utf8_lossy(reply).into_owned();
    // A code alone is a reply too, but not to `lettre`.
    if let Some(code) = text.strip_suffix("\r\n").filter(|line| line.len() == 3) {
        text = format!("{code} \r\n");
    }
    text.parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "what was answered is not SMTP"))
}

/// The message as it is sent: every line ends with CRLF, a dot at its beginning is doubled, and a dot alone ends it all.
fn on_the_wire(message: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(message.len() + message.len() / 32 + 8);
    for line in message.split_inclusive(|&byte| byte == b'\n') {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.starts_with(b".") {
            wire.push(b'.');
        }
        wire.extend_from_slice(line);
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b".\r\n");
    wire
}

#[cfg(test)]
mod tests {
    use super::{end_of_reply, on_the_wire};

    #[test]
    fn a_dot_at_the_beginning_of_a_line_is_doubled_and_a_line_that_only_ends_in_lf_gets_its_cr() {
        assert_eq!(on_the_wire(b".a\r\nb.\n.\r\n..\r\nc"), b"..a\r\nb.\r\n..\r\n...\r\nc\r\n.\r\n");
        assert_eq!(on_the_wire(b""), b".\r\n");
    }

    #[test]
    fn a_reply_ends_with_its_last_line() {
        assert_eq!(end_of_reply(b"250-a\r\n250-b\r\n"), None);
        assert_eq!(end_of_reply(b"250-a\r\n250 b\r\n354 c\r\n"), Some(14));
        assert_eq!(end_of_reply(b"250\r\n"), Some(5));
        assert_eq!(end_of_reply(b"250 a"), None);
    }
}
