//! The way out when no mail can be sent: a gateway that takes an SMS over HTTP.
//!
//! ```text
//! Retry ─ CircuitBreaker sms-gateway ─ TimeLimiter ─ Bulkhead ─ POST {"to", "text"}
//! ```
//!
//! Each message has an idempotency key, so that one sent again after a time-out is one SMS.

use std::time::Duration;

use resile::{
    Bulkhead, CircuitBreaker, Clock, Error, IntervalFunction, Outcome, Pipeline, Rejected, Resilience, TimeLimiter,
    Verdict, bulkhead,
    circuit_breaker::{self, Classified},
    registry::{Existing, RegistryError},
    retry::{self, Decision, RetryIf},
    time_limiter,
};
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use crate::{personal::Phone, web_client};

mod answer;
mod text;

use self::answer::{failure, silence};
pub use self::text::text_of;

/// What came of one attempt.
type Attempt = Result<(), Error<SmsError>>;

type Guard = Pipeline<(RetryIf<fn(&Attempt) -> Decision>, Classified<fn(&Attempt) -> Verdict>, TimeLimiter, Bulkhead)>;

/// A gateway's wait that is worth waiting for. For a longer one the breaker opens, and the caller is told.
const SHORT_WAIT: Duration = Duration::from_secs(2);
/// However long a gateway says it wants to be left alone.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// How the gateway is asked, and protected.
#[derive(Clone, Debug)]
pub struct SmsSettings {
    /// Where messages are posted to, `http` or `https`, without credentials.
    pub url: String,
    /// What is sent as `Authorization: Bearer`. Default: nothing.
    pub token: Option<SecretString>,
    /// How long an attempt may take, of which it may wait half for its turn. Default: 10 s.
    pub time_limit: Duration,
    /// How many messages may be under way at a time. Default: 16.
    pub concurrency: u32,
    /// How many attempts a message has. Default: 3.
    pub attempts: u32,
    /// How long to wait before the second attempt, give or take half, and twice as long before each further one. Default:
    /// 200 ms.
    pub pause: Duration,
    /// How long the open breaker waits before it tries the gateway again. Default: 10 s.
    pub open: Duration,
    /// From which duration on a message counts as slow. Default: 5 s.
    pub slow: Duration,
    /// How many results the breaker looks back on. Default: 20.
    pub window: u32,
    /// What the policies read the time from. Default: the machine's.
    pub clock: Clock,
    /// Where the policies are made, all by the name `sms-gateway`. What is declared there for it wins over what is above.
    /// Default: one of its own.
    pub resilience: Resilience,
}

impl SmsSettings {
    /// A gateway at this address, and otherwise the defaults.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            token: None,
            time_limit: Duration::from_secs(10),
            concurrency: 16,
            attempts: 3,
            pause: Duration::from_millis(200),
            open: Duration::from_secs(10),
            slow: Duration::from_secs(5),
            window: 20,
            clock: Clock::default(),
            resilience: Resilience::new(),
        }
    }
}

/// A setting that cannot be.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BadSms {
    /// The address.
    #[error("the SMS gateway's address must be like https://host/path, without credentials: {0}")]
    Url(&'static str),
    /// The token.
    #[error("the SMS gateway's token must be visible ASCII")]
    Token,
    /// No client can be made, such as for want of the system's certificates.
    #[error("no client for the SMS gateway: {0}")]
    Client(String),
    /// A policy's setting.
    #[error("the SMS gateway's policies: {0}")]
    Policy(#[from] RegistryError),
}

/// Why an SMS was not taken, without anything personal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SmsError {
    /// The gateway was not asked: its breaker is open, or there is no room. That is nobody's failure.
    #[error(transparent)]
    Refused(Rejected),
    /// It will never take this message.
    #[error("the SMS gateway refuses the message: {status} {text}")]
    Permanent {
        /// The answer's status.
        status: u16,
        /// What it says, masked.
        text: String,
    },
    /// It may take the message later, or may have taken it. Sent again under the same id it is one SMS.
    #[error("the SMS gateway: {}{text}", .status.map(|status| format!("{status} ")).unwrap_or_default())]
    Transient {
        /// The answer's status, if there was an answer.
        status: Option<u16>,
        /// What it says or what happened, masked.
        text: String,
        /// How long the gateway wants to be left alone.
        retry_after: Option<Duration>,
    },
}

impl SmsError {
    /// How long to wait before the message can be sent, if that is known.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(rejected) => rejected.retry_after(),
            Self::Transient { retry_after, .. } => *retry_after,
            Self::Permanent { .. } => None,
        }
    }
}

/// The SMS gateway with the policies around it. Share it in an `Arc`.
#[derive(Debug)]
pub struct SmsGateway {
    client: reqwest::Client,
    url: reqwest::Url,
    breaker: CircuitBreaker,
    guard: Guard,
}

impl SmsGateway {
    /// Puts the policies around a gateway. Does not connect to it.
    ///
    /// # Errors
    /// A setting that cannot be.
    pub fn new(settings: &SmsSettings) -> Result<Self, BadSms> {
        const NAME: &str = "sms-gateway";
        let SmsSettings { time_limit, clock, resilience, .. } = settings;
        let url = checked(&settings.url)?;
        let client = client(&url, settings.token.as_ref())?;
        let pauses = IntervalFunction::exponential(settings.pause, 2.0).randomized(0.5);
        let retry = retry::Config::default()
            .max_attempts(settings.attempts)
            .interval_function(pauses)
            .max_retry_after(SHORT_WAIT)
            .clock(clock.clone());
        let breaker = circuit_breaker::Config::default()
            .slow_call_duration_threshold(settings.slow)
            .slow_call_rate_threshold(80.0)
            .sliding_window_size(settings.window)
            .minimum_number_of_calls(settings.window.min(5))
            .permitted_number_of_calls_in_half_open_state(3)
            .wait_duration_in_open_state(settings.open)
            .automatic_transition_from_open_to_half_open_enabled(true)
            .clock(clock.clone());
        let time_limiter = time_limiter::Config::default().timeout_duration(*time_limit).clock(clock.clone());
        // Less than the time limit: to wait for a place is not the gateway's failure.
        let bulkhead = bulkhead::Config::default()
            .max_concurrent_calls(settings.concurrency)
            .max_wait_duration(*time_limit / 2)
            .clock(clock.clone());
        let breaker = resilience.circuit_breakers().get_with(NAME, breaker, Existing::Keep)?;
        let guard = Pipeline::new((
            resilience.retries().get_with(NAME, retry, Existing::Keep)?.retry_if(decide as fn(&Attempt) -> Decision),
            breaker.classify(judge as fn(&Attempt) -> Verdict),
            resilience.time_limiters().get_with(NAME, time_limiter, Existing::Keep)?,
            resilience.bulkheads().get_with(NAME, bulkhead, Existing::Keep)?,
        ));
        Ok(Self { client, url, breaker, guard })
    }

    /// Sends a message. The gateway takes one message for each id, however often it is sent.
    ///
    /// # Errors
    /// Why it was not taken, or that nobody knows whether it was.
    ///
    /// # Cancel safety
    /// Dropping the future ends the conversation; whether the message was taken is then unknown. Sent again under the
    /// same id it is one SMS.
    pub async fn send(&self, id: Uuid, to: &Phone, text: &str) -> Result<(), SmsError> {
        match self.guard.call(|| self.attempt(id, to, text)).await {
            Ok(()) => Ok(()),
            Err(Error::Inner(error)) => Err(error),
            Err(Error::Rejected(Rejected::TimedOut(timed_out))) => {
                Err(SmsError::Transient { status: None, text: timed_out.to_string(), retry_after: None })
            }
            Err(Error::Rejected(refusal)) => Err(SmsError::Refused(refusal)),
        }
    }

    /// Its breaker, `sms-gateway`.
    #[must_use]
    pub fn breaker(&self) -> &CircuitBreaker {
        &self.breaker
    }

    async fn attempt(&self, id: Uuid, to: &Phone, text: &str) -> Result<(), SmsError> {
        let message = serde_json::json!({ "to": to.expose(), "text": text });
        let post = self.client.post(self.url.clone()).header("Idempotency-Key", id.to_string()).json(&message);
        match post.send().await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(failure(answer, to, text).await),
            Err(error) => Err(silence(error)),
        }
    }
}

/// Whether this can be a gateway's address.
pub(crate) fn check_address(url: &str) -> Result<(), BadSms> {
    checked(url).map(drop)
}

fn checked(url: &str) -> Result<reqwest::Url, BadSms> {
    let url = reqwest::Url::parse(url).map_err(|_| BadSms::Url("it is no address"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(BadSms::Url("it has another scheme"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(BadSms::Url("it has credentials, which belong into the token"));
    }
    Ok(url)
}

fn client(url: &reqwest::Url, token: Option<&SecretString>) -> Result<reqwest::Client, BadSms> {
    let mut headers = reqwest::header::HeaderMap::new();
    if let Some(token) = token {
        let bearer = format!("Bearer {}", token.expose_secret());
        let mut bearer = reqwest::header::HeaderValue::try_from(bearer).map_err(|_| BadSms::Token)?;
        bearer.set_sensitive(true);
        headers.insert(reqwest::header::AUTHORIZATION, bearer);
    }
    let client = web_client::for_url(url).default_headers(headers);
    client.build().map_err(|error| BadSms::Client(web_client::explain(error)))
}

/// What an attempt says about the gateway.
fn judge(attempt: &Attempt) -> Verdict {
    match attempt {
        // That a message is refused, or still under way from before, says nothing about the next.
        Err(Error::Inner(SmsError::Permanent { .. } | SmsError::Transient { status: Some(409), .. })) => {
            Outcome::Ignored.into()
        }
        // It will refuse every message until somebody has changed something.
        Err(Error::Inner(SmsError::Transient { status: Some(300..=399 | 401 | 403), .. })) => {
            Verdict::from(Outcome::Failure).open()
        }
        Err(Error::Inner(SmsError::Transient { retry_after: Some(wait), .. })) if *wait > SHORT_WAIT => {
            Verdict::from(Outcome::Failure).open_for((*wait).min(LONGEST_WAIT))
        }
        other => Outcome::of(other).into(),
    }
}

/// Whether to ask again at once.
fn decide(attempt: &Attempt) -> Decision {
    match attempt {
        Err(Error::Inner(SmsError::Permanent { .. })) => Decision::Stop,
        Err(Error::Inner(SmsError::Transient { status: Some(300..=399 | 401 | 403), .. })) => Decision::Stop,
        Err(Error::Inner(SmsError::Transient { retry_after: Some(wait), .. })) => {
            if *wait > SHORT_WAIT {
                Decision::Stop
            } else {
                Decision::RetryAfter(*wait)
            }
        }
        other => Decision::of(other),
    }
}
