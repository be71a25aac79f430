//! Makes a call again that failed, after a wait.
//!
//! Errors and time-outs are retried. Refusals by a policy inside are not: a circuit that is open, a bulkhead that is full
//! or an empty rate limiter would only refuse again. [`Retry::retry_if`] decides otherwise, on results too.
//!
//! ```
//! use resile::{Clock, IntervalFunction, Retry, retry};
//! use std::{io, time::Duration};
//!
//! let clock = Clock::manual();
//! let config = retry::Config::default()
//!     .max_attempts(4)
//!     .interval_function(IntervalFunction::exponential(Duration::from_millis(100), 2.0))
//!     .clock(&clock);
//! let retry = Retry::new("orders", config)?;
//!
//! let order = clock.block_on(retry.call_with(|cx| async move {
//!     if cx.attempt() < 3 { Err(io::Error::other("reset")) } else { Ok(42) }
//! }));
//! assert_eq!(order.unwrap(), 42);
//! assert_eq!(clock.now().as_nanos(), 300_000_000);
//! # Ok::<(), resile::InvalidConfig>(())
//! ```
//!
//! Each attempt starts a clone of the call, so the closure must be `Fn + Clone`, and a tower request `Clone`.

mod config;
mod future;
mod settings;

use std::{
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use self::settings::Settings;
pub use self::{config::Config, future::Call};
use crate::{
    clock::Clock,
    error::{InvalidConfig, Rejectable, Rejected},
    event::{EventKind, Name, PolicyKind, Source},
    meter::{RetryMeter, Slot, meter_methods},
    policy::{Operation, Policy, event_methods, handle_methods},
    tally::Tally,
};

/// Makes a call again that failed, after a wait. Cheap to clone; a clone is the same retry.
///
/// An attempt is over, and everything it held given back, before the wait for the next begins. An attempt that panics is
/// not retried, and its call is not counted, as a call that is dropped is not.
///
/// Events: `RETRY` before each wait; at the end `SUCCESS` if there were retries, `ERROR` if the attempts or the time were
/// used up, `IGNORED_ERROR` for an error not worth another attempt. A call that succeeds at once publishes nothing.
#[derive(Debug, Clone)]
pub struct Retry {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    source: Source,
    clock: Clock,
    settings: Settings,
    runs: AtomicU64,
    counters: Counters,
    meter: Slot<RetryMeter>,
}

impl Retry {
    /// A retry of that name.
    ///
    /// # Errors
    /// [`InvalidConfig`] for no attempts at all, for `wait_duration` and `interval_function` set both, for an
    /// interval function that cannot be, and for limits of zero.
    pub fn new(name: impl Into<Name>, config: Config) -> Result<Self, InvalidConfig> {
        config.validate()?;
        Ok(Self::of(name, config))
    }

    /// A retry with the default settings: three attempts, 500 ms apart.
    pub fn with_defaults(name: impl Into<Name>) -> Self {
        Self::of(name, Config::default())
    }

    fn of(name: impl Into<Name>, config: Config) -> Self {
        let source = Source::new(name, PolicyKind::Retry);
        let (clock, settings) = (config.clock.clone(), Settings::new(config));
        let (runs, counters, meter) = (AtomicU64::new(0), Counters::default(), Slot::new());
        let inner = Inner { source, clock, settings, runs, counters, meter };
        Self { inner: Arc::new(inner) }
    }

    /// The settings now in force.
    pub fn config(&self) -> Config {
        self.inner.settings.now().config.clone()
    }

    /// Goes on with other settings for calls that are made from now on. Those made before keep the ones they had then, or
    /// the oldest of the last eight if there have been more changes since. The clock stays the retry's own, and counts
    /// stay.
    ///
    /// # Errors
    /// [`InvalidConfig`] for what [`new`](Self::new) would refuse; nothing is changed.
    pub fn reconfigure(&self, config: Config) -> Result<(), InvalidConfig> {
        config.validate()?;
        self.inner.settings.change(config.clock(self.inner.clock.clone()));
        Ok(())
    }

    /// How calls have ended so far.
    pub fn metrics(&self) -> Metrics {
        self.inner.counters.snapshot()
    }

    /// The same retry with `condition` deciding, on every result, whether there is to be another attempt. It returns a
    /// `bool` or a [`Decision`], which may name the wait; [`Decision::of`] is what holds where nothing else is said. Give
    /// the result's type in the closure, or a function's generic parameters: they are not inferred from the call.
    ///
    /// ```
    /// # use resile::{Clock, Error, Retry, retry::{self, Decision}};
    /// # use std::{io, time::Duration};
    /// struct Response { status: u16, retry_after: Duration }
    ///
    /// fn busy(result: &Result<Response, Error<io::Error>>) -> Decision {
    ///     match result {
    ///         Ok(response) if response.status == 429 => Decision::RetryAfter(response.retry_after),
    ///         Ok(response) if response.status >= 500 => Decision::Retry,
    ///         other => Decision::of(other),
    ///     }
    /// }
    /// # let clock = Clock::manual();
    /// # let retry = Retry::new("orders", retry::Config::default().clock(&clock))?;
    /// let response = clock.block_on(retry.retry_if(busy).call_with(|cx| async move {
    ///     let status = if cx.attempt() == 1 { 429 } else { 200 };
    ///     Ok(Response { status, retry_after: Duration::from_secs(20) })
    /// }));
    /// # assert_eq!(response.unwrap().status, 200);
    /// # assert_eq!(clock.now().as_nanos(), 20_000_000_000);
    /// # Ok::<(), resile::InvalidConfig>(())
    /// ```
    #[doc(alias = "retryOnResult")]
    #[doc(alias = "retryOnException")]
    #[doc(alias = "intervalBiFunction")]
    pub fn retry_if<F, T, E, D>(&self, condition: F) -> RetryIf<F>
    where
        F: Fn(&Result<T, E>) -> D,
        D: Into<Decision>,
    {
        RetryIf { retry: self.clone(), condition }
    }

    fn source(&self) -> &Source {
        &self.inner.source
    }
}

event_methods!(Retry);
meter_methods!(Retry, RetryMeter, meter);
handle_methods!(Retry);

/// A [`Retry`] with a condition of the user's: see [`Retry::retry_if`].
#[derive(Clone)]
pub struct RetryIf<F> {
    retry: Retry,
    condition: F,
}

impl<F> fmt::Debug for RetryIf<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryIf").field("retry", &self.retry).finish_non_exhaustive()
    }
}

handle_methods!(RetryIf<F>);

/// What follows from an attempt's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Decision {
    /// The result is returned.
    Stop,
    /// Another attempt, after the wait of the interval function.
    Retry,
    /// Another attempt, after the wait that the server asked for, at most `max_retry_after`.
    RetryAfter(Duration),
}

impl Decision {
    /// The decision that holds where nothing else is said: errors and time-outs are retried; successes, refusals before
    /// the call started, and the used-up retries of an inner [`Retry`] are not.
    #[inline]
    pub fn of<T, E: Rejectable>(result: &Result<T, E>) -> Self {
        match result {
            Ok(_) => Self::Stop,
            Err(error) => match error.rejected() {
                None | Some(Rejected::TimedOut(_)) => Self::Retry,
                Some(_) => Self::Stop,
            },
        }
    }
}

/// `true` is [`Decision::Retry`].
impl From<bool> for Decision {
    fn from(retry: bool) -> Self {
        if retry { Self::Retry } else { Self::Stop }
    }
}

/// A retry and what it decides on results.
pub trait Decides<T, E> {
    /// The retry.
    fn retry(&self) -> &Retry;
    /// What follows from a result.
    fn decide(&self, result: &Result<T, E>) -> Decision;
}

impl<T, E: Rejectable> Decides<T, E> for Retry {
    #[inline]
    fn retry(&self) -> &Retry {
        self
    }

    #[inline]
    fn decide(&self, result: &Result<T, E>) -> Decision {
        Decision::of(result)
    }
}

impl<T, E, F, D> Decides<T, E> for RetryIf<F>
where
    F: Fn(&Result<T, E>) -> D,
    D: Into<Decision>,
{
    #[inline]
    fn retry(&self) -> &Retry {
        &self.retry
    }

    #[inline]
    fn decide(&self, result: &Result<T, E>) -> Decision {
        (self.condition)(result).into()
    }
}

impl<T, E, R: Decides<T, E>> Decides<T, E> for &R {
    #[inline]
    fn retry(&self) -> &Retry {
        (**self).retry()
    }

    #[inline]
    fn decide(&self, result: &Result<T, E>) -> Decision {
        (**self).decide(result)
    }
}

impl<Op: Operation + Clone> Policy<Op> for Retry {
    type Future = Call<Self, Op>;

    #[inline]
    fn run(self, op: Op) -> Self::Future {
        Call::new(self, op)
    }
}

impl<Op: Operation + Clone> Policy<Op> for &Retry {
    type Future = Call<Self, Op>;

    #[inline]
    fn run(self, op: Op) -> Self::Future {
        Call::new(self, op)
    }
}

impl<Op: Operation + Clone, F> Policy<Op> for RetryIf<F>
where
    Self: Decides<Op::Ok, Op::Err>,
{
    type Future = Call<Self, Op>;

    #[inline]
    fn run(self, op: Op) -> Self::Future {
        Call::new(self, op)
    }
}

impl<Op: Operation + Clone, F> Policy<Op> for &RetryIf<F>
where
    RetryIf<F>: Decides<Op::Ok, Op::Err>,
{
    type Future = Call<Self, Op>;

    #[inline]
    fn run(self, op: Op) -> Self::Future {
        Call::new(self, op)
    }
}

/// How the calls through a [`Retry`] have ended so far. Calls under way, dropped or panicked are in none of the first
/// four.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Metrics {
    /// Calls whose first attempt was accepted.
    pub successful_calls_without_retry_attempt: u64,
    /// Calls accepted after at least one retry.
    pub successful_calls_with_retry_attempt: u64,
    /// Calls that ended with an error not worth another attempt, whether retried before or not.
    pub failed_calls_without_retry_attempt: u64,
    /// Calls that used up their attempts or their time, even if only one attempt was allowed.
    pub failed_calls_with_retry_attempt: u64,
    /// Attempts that have ended, and one more for each call that used up its attempts on results that are no errors, as
    /// Resilience4j counts them.
    pub total_calls: u64,
}

/// Each attempt but an accepted first one is counted in `other_attempts`, so that the commonest call counts once.
#[derive(Debug, Default)]
struct Counters {
    successful_without_retry: Tally,
    successful_with_retry: AtomicU64,
    failed_without_retry: AtomicU64,
    failed_with_retry: AtomicU64,
    other_attempts: AtomicU64,
}

impl Counters {
    fn snapshot(&self) -> Metrics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let successful_calls_without_retry_attempt = self.successful_without_retry.total();
        Metrics {
            successful_calls_without_retry_attempt,
            successful_calls_with_retry_attempt: read(&self.successful_with_retry),
            failed_calls_without_retry_attempt: read(&self.failed_without_retry),
            failed_calls_with_retry_attempt: read(&self.failed_with_retry),
            total_calls: successful_calls_without_retry_attempt + read(&self.other_attempts),
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Inner {
    /// Counts a call whose last result is to be returned, after so many failed attempts.
    #[inline]
    fn stopped(&self, ok: bool, failed: u32) {
        if ok && failed == 0 {
            self.counters.successful_without_retry.add();
        } else {
            self.stopped_later(ok, failed);
        }
    }

    #[cold]
    fn stopped_later(&self, ok: bool, failed: u32) {
        count(&self.counters.other_attempts);
        let (counter, event) = if ok {
            (&self.counters.successful_with_retry, EventKind::Success { elapsed: None, attempts: failed })
        } else {
            (&self.counters.failed_without_retry, EventKind::IgnoredError { elapsed: None })
        };
        count(counter);
        self.publish(|| event);
    }

    /// Counts a call that has used up its attempts or its time.
    #[cold]
    fn exhausted(&self, ok: bool, attempts: u32) {
        if ok {
            count(&self.counters.other_attempts);
            if let Some(meter) = self.meter.get() {
                meter.exhausted_results.add();
            }
        }
        count(&self.counters.failed_with_retry);
        self.publish(|| EventKind::Error { elapsed: None, attempts });
    }

    fn publish(&self, kind: impl FnOnce() -> EventKind) {
        self.source.publish(|| self.clock.now(), kind);
    }
}
