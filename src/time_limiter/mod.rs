//! Gives a call up that takes too long.
//!
//! When the time is over the call's future is dropped and the caller gets [`Rejected::TimedOut`](crate::Rejected). No timer
//! exists until the call is first pending, so a call that is ready at once costs next to nothing.
//!
//! ```
//! use resile::{TimeLimiter, time_limiter};
//! use std::time::Duration;
//!
//! let limiter = TimeLimiter::new("mail", time_limiter::Config::default().timeout_duration(Duration::from_millis(5)))?;
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let never = limiter.call(|| std::future::pending::<Result<(), std::io::Error>>()).await;
//! assert!(never.unwrap_err().to_string().contains("gave the call up after 5ms"));
//! # });
//! # Ok::<(), resile::InvalidConfig>(())
//! ```

mod config;
mod detached;
mod future;

use std::{
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

pub use self::{
    config::Config,
    detached::{DetachedCall, DetachedTimeLimiter},
    future::Call,
};
use crate::{
    clock::{Clock, Instant, nanos},
    error::{InvalidConfig, TimedOut},
    event::{EventKind, Name, PolicyKind, Source},
    meter::{Slot, TimeMeter, meter_methods},
    policy::{Cx, Operation, Policy, event_methods, handle_methods},
};

/// Gives a call up that takes too long. Cheap to clone; a clone is the same limiter.
///
/// The time runs from when a policy outside it last read the clock, or else from when the call was first pending. A wait
/// inside the limiter, as in a bulkhead's queue, is part of the call's time: keep such waits shorter than the limit.
///
/// A closure under `call_blocking` cannot be interrupted. It runs to its end, and its result is replaced by the time-out
/// if it took longer.
#[derive(Debug, Clone)]
pub struct TimeLimiter {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    source: Source,
    clock: Clock,
    /// In nanoseconds.
    timeout: AtomicU64,
    meter: Slot<TimeMeter>,
}

impl TimeLimiter {
    /// A limiter of that name.
    ///
    /// # Errors
    /// [`InvalidConfig`] for a time-out of zero.
    pub fn new(name: impl Into<Name>, config: Config) -> Result<Self, InvalidConfig> {
        config.validate()?;
        Ok(Self::valid(name, config))
    }

    /// A limiter with the default settings: one second.
    pub fn with_defaults(name: impl Into<Name>) -> Self {
        Self::valid(name, Config::default())
    }

    fn valid(name: impl Into<Name>, config: Config) -> Self {
        let Config { timeout_duration, clock } = config;
        let source = Source::new(name, PolicyKind::TimeLimiter);
        Self { inner: Arc::new(Inner { source, clock, timeout: nanos(timeout_duration).into(), meter: Slot::new() }) }
    }

    /// The settings now in force. A time-out is at most 584 years.
    pub fn config(&self) -> Config {
        Config { timeout_duration: self.timeout_duration(), clock: self.inner.clock.clone() }
    }

    /// Gives calls that start from now on what `config` says; those under way keep the time they were given. The clock
    /// stays the limiter's own.
    ///
    /// # Errors
    /// [`InvalidConfig`] for what [`new`](Self::new) would refuse; nothing is changed.
    #[expect(clippy::needless_pass_by_value, reason = "every policy's is called alike")]
    pub fn reconfigure(&self, config: Config) -> Result<(), InvalidConfig> {
        config.validate()?;
        self.inner.timeout.store(nanos(config.timeout_duration), Ordering::Relaxed);
        Ok(())
    }

    fn timeout_duration(&self) -> Duration {
        Duration::from_nanos(self.timeout_nanos())
    }

    #[inline]
    fn timeout_nanos(&self) -> u64 {
        self.inner.timeout.load(Ordering::Relaxed)
    }

    /// The same limiter with the time of each call given by a function, which is told the attempt. A time of zero gives the
    /// call up as soon as it waits.
    ///
    /// ```
    /// # use resile::TimeLimiter;
    /// # use std::time::Duration;
    /// let patient = TimeLimiter::with_defaults("mail").timeout_with(|cx| Duration::from_secs(u64::from(cx.attempt())));
    /// ```
    pub fn timeout_with<F: Fn(Cx) -> Duration>(&self, timeout: F) -> TimeoutWith<F> {
        TimeoutWith { limiter: self.clone(), timeout }
    }

    /// The same limiter, letting a call that it gives up go on in a task of its own.
    #[doc(alias = "cancelRunningFuture")]
    pub fn detached(&self) -> DetachedTimeLimiter {
        DetachedTimeLimiter::new(self.clone())
    }

    fn source(&self) -> &Source {
        &self.inner.source
    }

    /// Tells how a call ended, with the time it took where its start is known.
    #[cold]
    fn publish_end(&self, started: Option<Instant>, succeeded: bool) {
        let now = self.inner.clock.now();
        let elapsed = started.map(|at| now.saturating_duration_since(at));
        let attempts = 0;
        let kind =
            if succeeded { EventKind::Success { elapsed, attempts } } else { EventKind::Error { elapsed, attempts } };
        self.source().publish_at(now, kind);
    }

    /// A call has ended in its time.
    #[inline]
    fn ended(&self, started: Option<Instant>, succeeded: bool) {
        if let Some(meter) = self.inner.meter.get() {
            if succeeded { meter.successful.add() } else { meter.failed.add() }
        }
        if self.source().listening() {
            self.publish_end(started, succeeded);
        }
    }

    /// The caller gets a time-out.
    #[cold]
    fn timed_out(&self, timeout_duration: Duration) -> TimedOut {
        if let Some(meter) = self.inner.meter.get() {
            meter.timed_out.add();
        }
        self.source().publish(|| self.inner.clock.now(), || EventKind::Timeout);
        TimedOut::new(self.source().name.clone(), timeout_duration)
    }
}

event_methods!(TimeLimiter);
meter_methods!(TimeLimiter, TimeMeter, meter);
handle_methods!(TimeLimiter);

/// A [`TimeLimiter`] with the time of each call given by a function.
#[derive(Clone)]
pub struct TimeoutWith<F> {
    limiter: TimeLimiter,
    timeout: F,
}

impl<F> fmt::Debug for TimeoutWith<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimeoutWith").field("limiter", &self.limiter).finish_non_exhaustive()
    }
}

handle_methods!(TimeoutWith<F>);

/// A limiter and how long it gives a call.
pub trait Limits {
    /// The limiter.
    fn limiter(&self) -> &TimeLimiter;
    /// How long the call gets, in nanoseconds.
    fn timeout(&self, cx: Cx) -> u64;
}

impl Limits for TimeLimiter {
    #[inline]
    fn limiter(&self) -> &TimeLimiter {
        self
    }

    #[inline]
    fn timeout(&self, _: Cx) -> u64 {
        self.timeout_nanos()
    }
}

impl<F: Fn(Cx) -> Duration> Limits for TimeoutWith<F> {
    fn limiter(&self) -> &TimeLimiter {
        &self.limiter
    }

    fn timeout(&self, cx: Cx) -> u64 {
        nanos((self.timeout)(cx))
    }
}

impl<L: Limits> Limits for &L {
    #[inline]
    fn limiter(&self) -> &TimeLimiter {
        (**self).limiter()
    }

    #[inline]
    fn timeout(&self, cx: Cx) -> u64 {
        (**self).timeout(cx)
    }
}

impl<Op: Operation> Policy<Op> for TimeLimiter {
    type Future = Call<Self, Op::Future>;

    #[inline]
    fn run(self, op: Op) -> Self::Future {
        Call::new(self, op.start())
    }
}

impl<Op: Operation> Policy<Op> for &TimeLimiter {
    type Future = Call<Self, Op::Future>;

    #[inline]
    fn run(self, op: Op) -> Self::Future {
        Call::new(self, op.start())
    }
}

impl<Op: Operation, F: Fn(Cx) -> Duration> Policy<Op> for TimeoutWith<F> {
    type Future = Call<Self, Op::Future>;

    fn run(self, op: Op) -> Self::Future {
        Call::new(self, op.start())
    }
}

impl<Op: Operation, F: Fn(Cx) -> Duration> Policy<Op> for &TimeoutWith<F> {
    type Future = Call<Self, Op::Future>;

    fn run(self, op: Op) -> Self::Future {
        Call::new(self, op.start())
    }
}
