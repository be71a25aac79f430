//! The policies around a mail server, and the second server behind the first.
//!
//! ```text
//! Fallback ─ Retry ─ CircuitBreaker (kind) ─ CircuitBreaker (server) ─ RateLimiter ─ TimeLimiter ─ Bulkhead ─ mail
//!    └────── the same around the second server
//! ```
//!
//! Each server has a breaker, which counts only what is the server's fault, and before it one for each kind of mail,
//! which open the sooner the less a mail matters. So a server that begins to suffer is first spared the marketing.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use resile::{
    Bulkhead, CircuitBreaker, Clock, Error, Fallback, IntervalFunction, Outcome, Pipeline, RateLimiter, Rejected,
    Resilience, TimeLimiter, Verdict, bulkhead,
    circuit_breaker::{self, Classified, State},
    rate_limiter,
    registry::{Existing, RegistryError},
    retry::{self, RetryIf},
    time_limiter,
};

use crate::{
    request::Kind,
    smtp::{Fault, Handover, Mail, SendError, Stage, Transport},
};

/// What came of an attempt at one server.
type Attempt = Result<Taken, Error<SendError>>;

/// The server has taken the mail.
#[derive(Clone, Copy, Debug)]
struct Taken {
    /// Much of the time went by until the database knew that the mail was handed over.
    waited_for_us: bool,
}

/// The policies around one server for one kind of mail, outermost first.
type Guard = Pipeline<(
    RetryIf<fn(&Attempt) -> bool>,
    Classified<fn(&Attempt) -> Verdict>,
    Classified<fn(&Attempt) -> Verdict>,
    Option<RateLimiter>,
    TimeLimiter,
    Bulkhead,
)>;

/// With how many mails a half-open breaker tries its server.
const TRIALS: u32 = 5;

/// How a server is protected, and we from it.
#[derive(Clone, Debug)]
pub struct Protection {
    /// How many conversations there may be at a time. Default: 64.
    pub connections: u32,
    /// How many mails a second it wants at most. `None`, the default, for as many as there are.
    pub mails_per_second: Option<u32>,
    /// How long a mail may wait for one of them. Whoever finds no room in that time is refused, which is nobody's
    /// failure; shorter than `slow`, since the wait counts as the server's time. Default: 2 s.
    pub queue: Duration,
    /// The longest time one mail may take, queueing for a conversation included. Longer than all of the conversation's
    /// own time-outs together, which say more about what happened: see
    /// [`longest_conversation`](crate::smtp::SmtpSettings::longest_conversation). Default: 75 s.
    pub time_limit: Duration,
    /// How long an open breaker waits before it tries the server again. Default: 10 s.
    pub open: Duration,
    /// From which duration on a mail counts as slow, and is not tried again at this server. Default: 5 s.
    pub slow: Duration,
    /// How many results the breakers look back on. Default: 50.
    pub window: u32,
    /// What all of this tells the time by. Default: the system's monotonic clock.
    pub clock: Clock,
    /// Where the policies are made, by the server's name. What is declared there for that name wins over what is above.
    /// Default: one of its own.
    pub resilience: Resilience,
}

impl Default for Protection {
    fn default() -> Self {
        Self {
            connections: 64,
            mails_per_second: None,
            queue: Duration::from_secs(2),
            time_limit: Duration::from_secs(75),
            open: Duration::from_secs(10),
            slow: Duration::from_secs(5),
            window: 50,
            clock: Clock::default(),
            resilience: Resilience::new(),
        }
    }
}

/// One mail server with all that is around it.
#[derive(Debug)]
pub struct Provider<T> {
    name: String,
    transport: T,
    clock: Clock,
    /// A database that takes longer than this makes a mail slow.
    patience: Duration,
    breaker: CircuitBreaker,
    marketing: (CircuitBreaker, Guard),
    notification: (CircuitBreaker, Guard),
    transactional: (CircuitBreaker, Guard),
}

impl<T: Transport> Provider<T> {
    /// Puts the policies around a server. Its breakers are called `<name>`, `<name>-marketing`, `<name>-notification`
    /// and `<name>-transactional`.
    ///
    /// # Errors
    /// A protection that cannot be, such as no connections.
    pub fn new(name: &str, transport: T, protection: &Protection) -> Result<Self, RegistryError> {
        let resilience = &protection.resilience;
        let breaker_at = |name: String, failures: f32| {
            let config = circuit_breaker::Config::default()
                .failure_rate_threshold(failures)
                .slow_call_duration_threshold(protection.slow)
                .slow_call_rate_threshold(failures + 30.0)
                .sliding_window_size(protection.window)
                .minimum_number_of_calls(protection.window.min(10))
                .permitted_number_of_calls_in_half_open_state(TRIALS)
                .wait_duration_in_open_state(protection.open)
                .automatic_transition_from_open_to_half_open_enabled(true)
                .clock(protection.clock.clone());
            resilience.circuit_breakers().get_with(&name, config, Existing::Keep)
        };
        let limit = |mails_per_second| {
            rate_limiter::Config::default()
                .algorithm(rate_limiter::Algorithm::Smooth)
                .limit_for_period(mails_per_second)
                .limit_refresh_period(Duration::from_secs(1))
                .timeout_duration(protection.queue)
                .clock(protection.clock.clone())
        };
        let retry = retry::Config::default()
            .max_attempts(2)
            .interval_function(IntervalFunction::fixed(Duration::from_millis(50)).randomized(0.5))
            // Who has waited in vain for an answer does not wait for another one here, but goes to the other server.
            .max_duration(protection.slow)
            .clock(protection.clock.clone());
        let time_limit =
            time_limiter::Config::default().timeout_duration(protection.time_limit).clock(protection.clock.clone());
        let conversations = bulkhead::Config::default()
            .max_concurrent_calls(protection.connections)
            .max_wait_duration(protection.queue)
            .clock(protection.clock.clone());

        let breaker = breaker_at(name.to_owned(), 50.0)?;
        let retry = resilience.retries().get_with(name, retry, Existing::Keep)?;
        let limiters = resilience.rate_limiters();
        let limiter = match protection.mails_per_second {
            Some(rate) => Some(limiters.get_with(name, limit(rate), Existing::Keep)?),
            None => limiters.knows(name).then(|| limiters.get(name)),
        };
        let time_limiter = resilience.time_limiters().get_with(name, time_limit, Existing::Keep)?;
        let bulkhead = resilience.bulkheads().get_with(name, conversations, Existing::Keep)?;
        let guarded = |kind: &str, failures| {
            let of_kind = breaker_at(format!("{name}-{kind}"), failures)?;
            let guard = Pipeline::new((
                retry.retry_if(is_worth_another_attempt as fn(&Attempt) -> bool),
                of_kind.classify(judge as fn(&Attempt) -> Verdict),
                breaker.classify(judge as fn(&Attempt) -> Verdict),
                limiter.clone(),
                time_limiter.clone(),
                bulkhead.clone(),
            ));
            Ok::<_, RegistryError>((of_kind, guard))
        };
        let marketing = guarded("marketing", 25.0)?;
        let notification = guarded("notification", 40.0)?;
        let transactional = guarded("transactional", 60.0)?;
        let (name, clock, patience) = (name.to_owned(), protection.clock.clone(), protection.slow / 2);
        Ok(Self { name, transport, clock, patience, breaker, marketing, notification, transactional })
    }

    /// The server's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What mails are handed to.
    pub fn transport(&self) -> &T {
        &self.transport
    }

    /// Its breakers, its own first.
    pub fn breakers(&self) -> impl Iterator<Item = &CircuitBreaker> {
        [&self.breaker, &self.marketing.0, &self.notification.0, &self.transactional.0].into_iter()
    }

    fn of(&self, kind: Kind) -> &(CircuitBreaker, Guard) {
        match kind {
            Kind::Marketing => &self.marketing,
            Kind::Notification => &self.notification,
            Kind::Transactional => &self.transactional,
        }
    }

    fn may_be_asked(&self, kind: Kind) -> bool {
        let (of_kind, _) = self.of(kind);
        [of_kind, &self.breaker].into_iter().all(|breaker| match breaker.state() {
            State::Open | State::ForcedOpen => false,
            State::HalfOpen => {
                breaker.metrics().outstanding_trial_calls
                    < breaker.config().permitted_number_of_calls_in_half_open_state
            }
            State::Closed | State::Disabled | State::MetricsOnly => true,
        })
    }

    async fn send(&self, mail: &Mail, kind: Kind, handover: &impl Handover) -> Result<&str, Undelivered> {
        let (_, guard) = self.of(kind);
        let handover = &Noted {
            handover,
            clock: &self.clock,
            patience: self.patience,
            is_handed_over: AtomicBool::new(false),
            waited: AtomicBool::new(false),
        };
        match guard.call(|| self.attempt(mail, handover)).await {
            Ok(_) => Ok(&self.name),
            Err(Error::Inner(error)) => Err(Undelivered::Failed(error)),
            Err(Error::Rejected(Rejected::TimedOut(timed_out))) => {
                let (fault, stage) = match handover.is_handed_over.load(Ordering::Relaxed) {
                    true => (Fault::Unknown, Stage::FinalDot),
                    false => (Fault::Provider, Stage::Connect),
                };
                let (server, text) = (self.name.clone(), timed_out.to_string());
                Err(Undelivered::Failed(SendError { fault, stage, code: None, server, text }))
            }
            Err(Error::Rejected(refusal)) => Err(Undelivered::Refused(refusal)),
        }
    }

    async fn attempt(&self, mail: &Mail, handover: &Noted<'_, impl Handover>) -> Result<Taken, SendError> {
        let sent = self.transport.send(mail, handover).await;
        if let Err(error) = &sent
            && error.fault != Fault::Unknown
            && handover.is_handed_over.swap(false, Ordering::Relaxed)
        {
            handover.handover.take_back().await;
        }
        sent.map(|()| Taken { waited_for_us: handover.waited.load(Ordering::Relaxed) })
    }
}

/// The first mail server, and the second behind it.
#[derive(Debug)]
pub struct MailServers<T> {
    /// Asked first.
    pub primary: Provider<T>,
    /// Asked when the first cannot, and there is one.
    pub secondary: Option<Provider<T>>,
}

impl<T: Transport> MailServers<T> {
    /// Sends the mail through the first server, or else through the second, and says through which.
    ///
    /// # Errors
    /// Why neither took it.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection; whether the mail was taken is then unknown if `handover` had been
    /// asked.
    pub async fn send(&self, mail: &Mail, kind: Kind, handover: &impl Handover) -> Result<&str, Undelivered> {
        let Some(secondary) = &self.secondary else { return self.primary.send(mail, kind, handover).await };
        let failover = Fallback::new(|first: Undelivered| async move {
            if !first.lets_another_server_try() {
                return Err(first);
            }
            secondary.send(mail, kind, handover).await.map_err(|second| first.or(second))
        });
        failover.call_flat(|| self.primary.send(mail, kind, handover)).await
    }

    /// Whether a breaker would let a mail of that kind through to any server now. Asking changes nothing.
    pub fn may_be_asked(&self, kind: Kind) -> bool {
        self.primary.may_be_asked(kind) || self.secondary.as_ref().is_some_and(|second| second.may_be_asked(kind))
    }

    /// All breakers, the first server's first.
    pub fn breakers(&self) -> impl Iterator<Item = &CircuitBreaker> {
        self.primary.breakers().chain(self.secondary.iter().flat_map(Provider::breakers))
    }
}

/// Why a mail did not go out.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Undelivered {
    /// No server was asked: breakers are open, or there is no room. That is nobody's failure.
    #[error(transparent)]
    Refused(Rejected),
    /// A server was asked.
    #[error(transparent)]
    Failed(SendError),
}

impl Undelivered {
    /// Whether the mail was certainly not taken, for a reason that is this server's own.
    fn lets_another_server_try(&self) -> bool {
        match self {
            Self::Refused(_) => true,
            Self::Failed(error) => matches!(error.fault, Fault::Provider | Fault::Refused | Fault::SessionLimit),
        }
    }

    /// What to say when this was followed by another: whichever tells more of the mail, so an answer before a refusal
    /// to ask; of two refusals the one that ends first, which one that cannot say when may do at any moment.
    fn or(self, second: Self) -> Self {
        match (&self, &second) {
            (Self::Failed(_), Self::Refused(_)) => self,
            (Self::Refused(first), Self::Refused(other)) if wait(first) < wait(other) => self,
            _ => second,
        }
    }
}

impl From<Rejected> for Undelivered {
    fn from(rejected: Rejected) -> Self {
        Self::Refused(rejected)
    }
}

impl resile::Rejectable for Undelivered {
    fn rejected(&self) -> Option<&Rejected> {
        match self {
            Self::Refused(rejected) => Some(rejected),
            Self::Failed(_) => None,
        }
    }
}

fn wait(refusal: &Rejected) -> Duration {
    refusal.retry_after().unwrap_or(Duration::ZERO)
}

/// What an attempt says about the server.
fn judge(attempt: &Attempt) -> Verdict {
    let error = match attempt {
        // How long it took says nothing of the server.
        Ok(Taken { waited_for_us: true }) => return Outcome::Ignored.into(),
        Err(Error::Inner(error)) => error,
        _ => return Outcome::of(attempt).into(),
    };
    match error.fault {
        Fault::Provider | Fault::DeferredByServer | Fault::Unknown => Outcome::Failure.into(),
        // It will refuse every mail until somebody has changed something.
        Fault::Refused => Verdict::from(Outcome::Failure).open(),
        Fault::Deferred | Fault::SessionLimit | Fault::Recipient | Fault::Message | Fault::Fenced | Fault::Store => {
            Outcome::Ignored.into()
        }
    }
}

/// Only what a new connection may mend. Whatever else the server said it would say again so soon.
fn is_worth_another_attempt(attempt: &Attempt) -> bool {
    match attempt {
        Err(Error::Inner(error)) => {
            error.fault == Fault::SessionLimit || error.fault == Fault::Provider && error.code.is_none()
        }
        _ => false,
    }
}

/// Remembers whether the mail was handed over, for when a time-out takes the conversation away, and whether writing that
/// down took long.
struct Noted<'a, H> {
    handover: &'a H,
    clock: &'a Clock,
    patience: Duration,
    is_handed_over: AtomicBool,
    waited: AtomicBool,
}

impl<H: Handover> Handover for Noted<'_, H> {
    async fn hand_over(&self) -> Result<(), Fault> {
        let asked = self.clock.now();
        self.handover.hand_over().await?;
        let took = self.clock.now().saturating_duration_since(asked);
        self.waited.fetch_or(took > self.patience, Ordering::Relaxed);
        self.is_handed_over.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn take_back(&self) {
        self.handover.take_back().await;
    }
}
