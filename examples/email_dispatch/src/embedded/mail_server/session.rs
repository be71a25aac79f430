//! The server's side of one connection.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use base64::Engine;
use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::sleep,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{
    MailFault, Shared, TakenMail,
    syntax::{decoded, path, plain, scattered, undoubled},
};
use crate::personal::BASE64;

/// The longest line that is read, in bytes: RFC 5321 asks for 512.
const LONGEST_LINE: usize = 4_096;
/// How far the end of a header is looked for, in bytes.
const LONGEST_HEADER: usize = 64 << 10;
/// The largest message that is taken, in bytes.
const LARGEST_MESSAGE: usize = 64 << 20;
/// How long a server that is being closed waits for the rest of a message.
const GRACE: Duration = Duration::from_secs(1);

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

pub(super) async fn converse(shared: &Arc<Shared>, stream: TcpStream, closing: &CancellationToken) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut session = Session {
        shared,
        closing,
        stream: Box::new(stream),
        input: Vec::new(),
        output: Vec::new(),
        is_encrypted: false,
        is_logged_in: false,
        mails: 0,
        from: None,
        to: Vec::new(),
    };
    let ended = session.run().await;
    if matches!(&ended, Err(error) if error.kind() == io::ErrorKind::Interrupted) {
        session.say(421, "4.3.2 shutting down");
        return session.flush().await;
    }
    ended
}

struct Session<'a> {
    shared: &'a Arc<Shared>,
    closing: &'a CancellationToken,
    stream: Box<dyn Stream>,
    input: Vec<u8>,
    /// Replies not yet sent: those to commands that came together go together.
    output: Vec<u8>,
    is_encrypted: bool,
    is_logged_in: bool,
    mails: u32,
    from: Option<String>,
    to: Vec<String>,
}

/// Whether the conversation goes on.
enum Next {
    Command,
    Close,
}

impl Session<'_> {
    async fn run(&mut self) -> io::Result<()> {
        if self.shared.options.implicit_tls {
            self.encrypt().await?;
        }
        match self.fault() {
            MailFault::Greeting(code) => {
                self.say(code, "not now");
                return self.flush().await;
            }
            MailFault::SlowGreeting(time) => tokio::select! {
                () = sleep(time) => {}
                () = self.closing.cancelled() => return Err(io::ErrorKind::Interrupted.into()),
            },
            _ => {}
        }
        self.say(220, &format!("{} ESMTP", self.shared.name));
        loop {
            let line = self.line().await?;
            if matches!(self.fault(), MailFault::Garbage) {
                self.output.extend_from_slice(b"\x00\xffHTTP/1.1 200 OK\r\n");
                continue;
            }
            if let Next::Close = self.obey(&line).await? {
                return self.flush().await;
            }
        }
    }

    async fn obey(&mut self, line: &str) -> io::Result<Next> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word.to_ascii_uppercase().as_str() {
            "EHLO" => match self.fault() {
                MailFault::Hello(code) => return Ok(self.refuse(code, "not now")),
                _ => self.offer(),
            },
            "HELO" => self.say(250, &self.shared.name),
            "STARTTLS" if self.shared.options.tls.is_some() && !self.is_encrypted => {
                self.say(220, "go ahead");
                self.flush().await?;
                // Nothing that came in the clear counts.
                self.input.clear();
                self.encrypt().await?;
                self.forget();
            }
            "AUTH" if self.shared.options.login.is_some() => self.log_in(rest).await?,
            "MAIL" => return Ok(self.mail_from(rest)),
            "RCPT" => return self.rcpt_to(rest).await,
            "DATA" => return self.data().await,
            "RSET" => {
                self.forget();
                self.say(250, "2.0.0 forgotten");
            }
            "NOOP" => self.say(250, "2.0.0 still here"),
            "QUIT" => {
                self.say(221, "2.0.0 bye");
                return Ok(Next::Close);
            }
            _ => return Ok(self.refuse(502, "5.5.1 unknown command")),
        }
        Ok(Next::Command)
    }

    fn offer(&mut self) {
        let options = &self.shared.options;
        let mut lines = vec![self.shared.name.as_str(), "8BITMIME", "ENHANCEDSTATUSCODES"];
        if !options.without_pipelining {
            lines.push("PIPELINING");
        }
        if options.tls.is_some() && !self.is_encrypted {
            lines.push("STARTTLS");
        }
        if options.login.is_some() {
            lines.push("AUTH PLAIN LOGIN");
        }
        let last = lines.len() - 1;
        for (index, line) in lines.into_iter().enumerate() {
            let mark = if index == last { ' ' } else { '-' };
            self.output.extend_from_slice(format!("250{mark}{line}\r\n").as_bytes());
        }
        self.forget();
    }

    fn mail_from(&mut self, rest: &str) -> Next {
        let Some(from) = path(rest, "FROM:") else { return self.refuse(501, "5.5.4 MAIL FROM:<address>") };
        if self.shared.options.login.is_some() && !self.is_logged_in {
            return self.refuse(530, "5.7.0 authentication required");
        }
        match self.fault() {
            MailFault::Sender(code) => self.refuse(code, "not from you"),
            MailFault::SessionLimit(most) if self.mails >= most => {
                self.refuse(452, "4.5.3 too many messages on this connection")
            }
            _ => {
                self.to.clear();
                self.from = Some(from.to_owned());
                self.say(250, "2.1.0 ok");
                Next::Command
            }
        }
    }

    async fn rcpt_to(&mut self, rest: &str) -> io::Result<Next> {
        let Some(to) = path(rest, "TO:") else { return Ok(self.refuse(501, "5.5.4 RCPT TO:<address>")) };
        if self.from.is_none() {
            // What follows from another refusal is not counted.
            self.say(503, "5.5.1 MAIL first");
            return Ok(Next::Command);
        }
        let refused = match self.fault() {
            MailFault::HangAtRecipient => {
                self.flush().await?;
                return self.hang().await;
            }
            MailFault::Recipient { code, percent } if u64::from(percent) > scattered(to) % 100 => Some(code),
            MailFault::RecipientIf { code, matches } if matches(to) => Some(code),
            _ => None,
        };
        if let Some(code) = refused {
            return Ok(self.refuse(code, &format!("{} <{to}> not here", if code < 500 { "4.2.0" } else { "5.1.1" })));
        }
        self.to.push(to.to_owned());
        self.say(250, "2.1.5 ok");
        Ok(Next::Command)
    }

    async fn data(&mut self) -> io::Result<Next> {
        if self.to.is_empty() {
            return Ok(self.refuse(503, "5.5.1 RCPT first"));
        }
        if let MailFault::Data(code) = self.fault() {
            return Ok(self.refuse(code, "no data"));
        }
        self.say(354, "end with a dot");
        self.flush().await?;
        let message = match self.fault() {
            MailFault::DropMidData => {
                while !self.input.windows(4).any(|bytes| bytes == b"\r\n\r\n") && self.input.len() < LONGEST_HEADER {
                    self.read().await?;
                }
                self.shared.count_unanswered(&self.input);
                return Ok(Next::Close);
            }
            _ => self.message().await?,
        };
        self.shared.arrived.fetch_add(1, Ordering::SeqCst);
        let fault = self.fault();
        if matches!(fault, MailFault::DropUnstored | MailFault::DropStored | MailFault::HangAfterFinalDot) {
            self.shared.count_unanswered(&message);
        }
        match fault {
            MailFault::EndOfData(code) => return Ok(self.refuse(code, "not this message")),
            MailFault::DropUnstored => return Ok(Next::Close),
            MailFault::SlowEndOfData(time) => sleep(time).await,
            _ => {}
        }
        let (from, to) = (self.from.take().unwrap_or_default(), std::mem::take(&mut self.to));
        self.shared.store(TakenMail { from, to, message: Bytes::from(message) });
        self.mails += 1;
        match fault {
            MailFault::DropStored => return Ok(Next::Close),
            MailFault::HangAfterFinalDot => return self.hang().await,
            _ => self.say(250, "2.0.0 taken"),
        }
        Ok(Next::Command)
    }

    async fn log_in(&mut self, rest: &str) -> io::Result<()> {
        let given = match rest.split_once(' ') {
            Some((mechanism, answer)) if mechanism.eq_ignore_ascii_case("PLAIN") => plain(answer),
            None if rest.eq_ignore_ascii_case("LOGIN") => {
                let mut answers = Vec::new();
                for question in ["Username:", "Password:"] {
                    self.say(334, &BASE64.encode(question));
                    let line = self.line().await?;
                    answers.push(decoded(&line).unwrap_or_default());
                }
                answers.pop().zip(answers.pop()).map(|(password, user)| (user, password))
            }
            _ => {
                self.refuse(504, "5.5.4 PLAIN with its answer, or LOGIN");
                return Ok(());
            }
        };
        self.is_logged_in = given.is_some() && given == self.shared.options.login;
        if self.is_logged_in {
            self.say(235, "2.7.0 welcome");
        } else {
            self.refuse(535, "5.7.8 wrong user or password");
        }
        Ok(())
    }

    async fn encrypt(&mut self) -> io::Result<()> {
        let Some(config) = self.shared.options.tls.clone() else { return Ok(()) };
        let plain = std::mem::replace(&mut self.stream, Box::new(tokio::io::empty()));
        let closing = self.closing;
        let encrypted = tokio::select! {
            encrypted = TlsAcceptor::from(config).accept(plain) => encrypted?,
            () = closing.cancelled() => return Err(io::ErrorKind::Interrupted.into()),
        };
        self.stream = Box::new(encrypted);
        self.is_encrypted = true;
        Ok(())
    }

    fn fault(&self) -> MailFault {
        self.shared.fault.borrow().clone()
    }

    fn forget(&mut self) {
        self.from = None;
        self.to.clear();
    }

    fn say(&mut self, code: u16, text: &str) {
        self.output.extend_from_slice(format!("{code} {text}\r\n").as_bytes());
    }

    /// Says no, and closes if that is what the code says.
    fn refuse(&mut self, code: u16, text: &str) -> Next {
        self.shared.count_rejection(code);
        self.say(code, text);
        if code == 421 { Next::Close } else { Next::Command }
    }

    async fn flush(&mut self) -> io::Result<()> {
        if !self.output.is_empty() {
            self.stream.write_all(&self.output).await?;
            self.stream.flush().await?;
            self.output.clear();
        }
        Ok(())
    }

    async fn read(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.input).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// The next line, without its end. The server may be closed while it waits for one.
    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.input.iter().position(|&byte| byte == b'\n') {
                let line = String::from_utf8_lossy(&self.input[..end]).trim_end().to_owned();
                self.input.drain(..=end);
                return Ok(line);
            }
            if self.input.len() > LONGEST_LINE {
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.flush().await?;
            let closing = self.closing;
            tokio::select! {
                biased;
                read = self.read() => read?,
                () = closing.cancelled() => return Err(io::ErrorKind::Interrupted.into()),
            }
        }
    }

    /// The message up to its final dot, without the dots that were doubled.
    async fn message(&mut self) -> io::Result<Vec<u8>> {
        let mut searched = 0;
        let end = loop {
            if self.input.starts_with(b".\r\n") {
                break 0;
            }
            let from = searched.max(4) - 4;
            if let Some(found) = self.input[from..].windows(5).position(|bytes| bytes == b"\r\n.\r\n") {
                break from + found + 2;
            }
            searched = self.input.len();
            if searched > LARGEST_MESSAGE {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let closing = self.closing;
            let too_late = async {
                closing.cancelled().await;
                sleep(GRACE).await;
            };
            tokio::select! {
                biased;
                read = self.read() => read?,
                () = too_late => return Err(io::ErrorKind::Interrupted.into()),
            }
        };
        let rest = self.input.split_off(end + 3);
        let mut message = std::mem::replace(&mut self.input, rest);
        message.truncate(end);
        Ok(undoubled(message))
    }

    /// Says nothing more until the client or the server goes.
    async fn hang(&mut self) -> io::Result<Next> {
        let closing = self.closing;
        loop {
            tokio::select! {
                read = self.read() => read?,
                () = closing.cancelled() => return Ok(Next::Close),
            }
            self.input.clear();
        }
    }
}
