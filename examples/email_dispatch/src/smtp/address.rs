//! Where a mail server is, and how it is spoken to, in one line.

use std::{fmt, str::FromStr};

use lettre::transport::smtp::authentication::Credentials;
use percent_encoding::percent_decode_str;
use rustls::pki_types::ServerName;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

/// When a conversation is encrypted. Wherever it is, the server's certificate must be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Never: for a server on the same machine or network.
    Off,
    /// By `STARTTLS` where the server offers it. Who sits between the two can hide the offer.
    Opportunistic,
    /// By `STARTTLS`, and not a word without.
    Required,
    /// From the first byte.
    Implicit,
}

/// `smtp://[user:password@]host[:port][?tls=none|opportunistic|required]`, or `smtps://[user:password@]host[:port]`.
///
/// * `smtps` is encrypted from the first byte, at port 465 if no other is named.
/// * `smtp` begins in the clear, at port 587 if no other is named. With `tls=required` it goes on only after `STARTTLS`,
///   with `tls=opportunistic` it takes `STARTTLS` where it is offered, with `tls=none` it never does. Without the
///   parameter it is required where there is a password, which must not travel in the clear, and opportunistic where
///   there is none.
/// * What in user and password is not a letter or a digit is percent-encoded: `@` is `%40`, `/` is `%2F`.
///
/// Printed without user and password.
#[derive(Clone)]
pub struct SmtpAddress {
    host: String,
    port: u16,
    tls: Tls,
    login: Option<(String, SecretString)>,
}

impl SmtpAddress {
    /// The server's name or IP address.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// When the conversation is encrypted.
    #[must_use]
    pub fn tls(&self) -> Tls {
        self.tls
    }

    /// Whether there are a user and a password.
    #[must_use]
    pub fn has_login(&self) -> bool {
        self.login.is_some()
    }

    pub(super) fn credentials(&self) -> Option<Credentials> {
        let (user, password) = self.login.as_ref()?;
        Some(Credentials::new(user.clone(), password.expose_secret().to_owned()))
    }
}

impl FromStr for SmtpAddress {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let url = Url::parse(text.trim()).map_err(|error| match error {
            url::ParseError::RelativeUrlWithoutBase => SCHEME,
            url::ParseError::InvalidPort => {
                BadAddress("must have a port of 1 to 65535, and % for / ? # @ in a password")
            }
            _ => BadAddress("must be like smtp://host:port"),
        })?;
        let implicit = match url.scheme() {
            "smtp" => false,
            "smtps" => true,
            _ => return Err(SCHEME),
        };
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(BadAddress("must name a host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        if ServerName::try_from(host.as_str()).is_err() {
            return Err(BadAddress("must name a host or an IP address"));
        }
        if !matches!(url.path(), "" | "/") || url.fragment().is_some() {
            return Err(BadAddress(
                "must end after host and port; in a password / is %2F, ? is %3F, # is %23, @ is %40",
            ));
        }
        let port = match url.port() {
            Some(0) => return Err(BadAddress("must have a port of 1 to 65535")),
            Some(port) => port,
            None if implicit => 465,
            None => 587,
        };
        let decoded = |part: &str| match percent_decode_str(part).decode_utf8() {
            Ok(text) if !text.chars().any(char::is_control) => Ok(text.into_owned()),
            _ => Err(BadAddress("must have user and password in UTF-8, without control characters")),
        };
        let login = match (url.username(), url.password()) {
            ("", None) => None,
            ("", Some(_)) => return Err(BadAddress("must have a user beside the password")),
            (_, None) => return Err(BadAddress("must have a password beside the user")),
            (user, Some(password)) => Some((decoded(user)?, SecretString::from(decoded(password)?))),
        };
        let mut tls = match (implicit, &login) {
            (true, _) => Tls::Implicit,
            (false, Some(_)) => Tls::Required,
            (false, None) => Tls::Opportunistic,
        };
        for (name, value) in url.query_pairs() {
            tls = match (&*name, &*value) {
                ("tls", _) if implicit => return Err(BadAddress("must have no tls= with smtps://, which is TLS")),
                ("tls", "none") => Tls::Off,
                ("tls", "required") => Tls::Required,
                ("tls", "opportunistic") if login.is_some() => {
                    return Err(BadAddress("must have tls=required with a password, or tls=none"));
                }
                ("tls", "opportunistic") => Tls::Opportunistic,
                ("tls", _) => return Err(BadAddress("must have tls=none, tls=opportunistic or tls=required")),
                _ => return Err(BadAddress("must have no parameter but tls")),
            };
        }
        Ok(Self { host, port, tls, login })
    }
}

impl fmt::Display for SmtpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls == Tls::Implicit { "smtps" } else { "smtp" };
        let login = if self.has_login() { "***@" } else { "" };
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let tls = match self.tls {
            Tls::Off => "?tls=none",
            Tls::Opportunistic => "?tls=opportunistic",
            Tls::Required => "?tls=required",
            Tls::Implicit => "",
        };
        write!(f, "{scheme}://{login}{host}:{}{tls}", self.port)
    }
}

impl fmt::Debug for SmtpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is not the address of a mail server, in words that do not repeat it: there may be a password in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadAddress(&'static str);

const SCHEME: BadAddress = BadAddress("must begin with smtp:// or smtps://");
