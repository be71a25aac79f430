//! Where a request goes when it could not be sent. Decided from what is known, without doing anything.
//!
//! What one person gets is in order on each topic, and not between topics: a mail that goes to a retry topic is overtaken
//! by those to the same person that come after it, which would otherwise wait for as long as it does.

use std::time::Duration;

use crate::{
    record::Topic,
    request::{EmailRequest, Priority},
    smtp::{Fault, SendError},
};

/// How often and how late to try again.
#[derive(Clone, Debug)]
pub struct RetryRules {
    /// How many attempts a request has in all. Default: 3.
    pub max_attempts: u32,
    /// How long a request of priority NORMAL waits before its second attempt, one of priority HIGH before its third, and
    /// twice as long before each further one, at most 16 times as long. Default: 30 s.
    pub delay: Duration,
    /// How long a mail waits, at least, that a server may have taken: long enough for its answer to have come. Default:
    /// 2 minutes.
    pub doubt: Duration,
}

/// After so many the delay grows no more: one topic has all delays, and the longest must not hold up the others.
const MOST_DOUBLINGS: u32 = 4;

impl Default for RetryRules {
    fn default() -> Self {
        Self { max_attempts: 3, delay: Duration::from_secs(30), doubt: Duration::from_secs(120) }
    }
}

/// Why a request could not be sent by mail.
#[derive(Clone, Debug)]
pub enum Trouble {
    /// A server said no, or said nothing.
    Mail(SendError),
    /// Every server was out of reach for longer than a mail is held for it.
    HeldTooLong(String),
    /// There is no such mail: its addresses cannot be read, or its template cannot be filled.
    Unsendable(String),
}

impl Trouble {
    /// What it is, in a word, for counters.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::HeldTooLong(_) => "held_too_long",
            Self::Unsendable(_) => "unsendable",
            Self::Mail(error) => match error.fault {
                Fault::Provider => "provider",
                Fault::Refused => "refused",
                Fault::Deferred | Fault::DeferredByServer => "deferred",
                Fault::SessionLimit => "session_limit",
                Fault::Recipient => "recipient",
                Fault::Message => "message",
                Fault::Unknown => "unknown",
                Fault::Fenced => "fenced",
                Fault::Store => "store",
            },
        }
    }

    /// What it is, in a sentence without anything personal.
    #[must_use]
    pub fn explanation(&self) -> String {
        match self {
            Self::Mail(error) => error.to_string(),
            Self::HeldTooLong(why) | Self::Unsendable(why) => why.clone(),
        }
    }

    /// Whether the mail may have been taken.
    fn is_doubtful(&self) -> bool {
        matches!(self, Self::Mail(error) if error.fault == Fault::Unknown)
    }

    /// Whether the server has said that it wants the mail later.
    fn is_deferred(&self) -> bool {
        matches!(self, Self::Mail(error) if matches!(error.fault, Fault::Deferred | Fault::DeferredByServer))
    }

    fn is_permanent(&self) -> bool {
        match self {
            Self::Unsendable(_) => true,
            Self::HeldTooLong(_) => false,
            Self::Mail(error) => matches!(error.fault, Fault::Recipient | Fault::Message),
        }
    }
}

/// Where a request goes that could not be sent by mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// To the retry topic of its priority, not before that long from now.
    Again {
        /// Which.
        topic: Topic,
        /// From now.
        after: Duration,
    },
    /// To the SMS gateway.
    Sms,
    /// To the dead letters.
    DeadLetter,
    /// Nowhere: it is logged, counted, and forgotten.
    GiveUp,
}

/// Decides where a request goes after an attempt failed. `attempts` counts the failed ones, this one included.
#[must_use]
pub fn after(trouble: &Trouble, request: &EmailRequest, attempts: u32, rules: &RetryRules) -> Route {
    let last_resort = if request.phone.is_some() { Route::Sms } else { Route::DeadLetter };
    if trouble.is_permanent() {
        return last_resort;
    }
    let doublings = attempts.saturating_sub(1).min(MOST_DOUBLINGS);
    let later =
        |delay: Duration| Route::Again { topic: Topic::DelayedRetry, after: delay.saturating_mul(1 << doublings) };
    let (is_doubtful, is_deferred) = (trouble.is_doubtful(), trouble.is_deferred());
    match request.priority {
        // It may have been sent, and is only here since it is to be sent rather twice than not at all.
        _ if is_doubtful && attempts < rules.max_attempts => later(rules.delay.max(rules.doubt)),
        Priority::Low => Route::GiveUp,
        _ if attempts >= rules.max_attempts => last_resort,
        // Tried again at once, it would use all its attempts up before anything can have changed.
        Priority::High if attempts == 1 && !is_deferred => {
            Route::Again { topic: Topic::ImmediateRetry, after: Duration::ZERO }
        }
        Priority::High | Priority::Normal => later(rules.delay),
    }
}
