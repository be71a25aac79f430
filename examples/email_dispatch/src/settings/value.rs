//! The kinds of values that settings have.

use std::{convert::Infallible, fmt, str::FromStr, time::Duration};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use reqwest::Url;

/// Reads `500ms`, `10s`, `2m` or `1h 30m`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<jiff::SignedDuration>()
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| "must be a time with its unit, such as 500ms, 10s or 2m".to_owned())
}

/// A time as [`duration`] reads it.
pub(super) fn shown(time: Duration) -> String {
    jiff::SignedDuration::try_from(time).map_or_else(|_| format!("{time:?}"), |time| format!("{time:#}"))
}

/// One of some words, each with what it stands for.
pub(crate) fn one_of<T: Copy + Send + Sync + 'static>(
    words: &'static [(&'static str, T)],
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(words.iter().map(|(word, _)| *word)).try_map(|chosen| {
        words.iter().find(|(word, _)| *word == chosen).map(|(_, value)| *value).ok_or("is none of the words")
    })
}

/// The address of a server, which may contain a password and is therefore printed without what is before and after
/// the host.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(String);

impl Address {
    /// The address itself, to be used and not printed.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The address in its parts, if it has a host and one of these schemes; or else the rule that is broken.
    pub(crate) fn with_scheme(&self, schemes: &[&str]) -> Result<Url, String> {
        let rule = || format!("must begin with {}, a host after it", schemes.join(":// or ") + "://");
        let url = self.url().ok_or_else(|| {
            format!("{}; in a user name or password write / as %2F, ? as %3F, # as %23 and @ as %40", rule())
        })?;
        if schemes.contains(&url.scheme()) { Ok(url) } else { Err(rule()) }
    }

    fn url(&self) -> Option<Url> {
        let url = Url::parse(&self.0).ok()?;
        // Part of a password would be taken for a path, and a user's name for the host.
        let is_torn = [Some(url.path()), url.query(), url.fragment()].iter().flatten().any(|part| part.contains('@'));
        (url.host_str().is_some_and(|host| !host.is_empty()) && !is_torn).then_some(url)
    }
}

impl FromStr for Address {
    type Err = Infallible;

    /// Takes anything: what is wrong with it is said without repeating it.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.starts_with("sqlite:") {
            return f.write_str(self.0.split('?').next().unwrap_or_default());
        }
        let Some(url) = self.url() else { return f.write_str("***") };
        write!(f, "{}://{}", url.scheme(), url.host_str().unwrap_or_default())?;
        url.port().map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The shares of the priorities while all have work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weights {
    /// Of HIGH.
    pub high: u32,
    /// Of NORMAL.
    pub normal: u32,
    /// Of LOW, and of marketing.
    pub low: u32,
}

impl FromStr for Weights {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        const RULE: &str = "must be three numbers with colons between, high:normal:low, such as 6:3:1";
        let shares: Vec<u32> = text.split(':').map(str::parse).collect::<Result<_, _>>().map_err(|_| RULE)?;
        let [high, normal, low] = shares[..] else { return Err(RULE) };
        Ok(Self { high, normal, low })
    }
}

impl fmt::Display for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.high, self.normal, self.low)
    }
}
