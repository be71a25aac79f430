//! Keeps calls below a rate: so many permits a period.
//!
//! A call takes a permit, or several. Where there are none it reserves the next ones and waits for them in the order of
//! asking, if that takes no longer than the time-out; otherwise it is rejected at once with
//! [`Rejected::RateLimited`](crate::Rejected), which says exactly when the same call will pass.
//!
//! ```
//! use resile::{Clock, RateLimiter, rate_limiter::{Algorithm, Config}};
//! use std::time::Duration;
//!
//! let clock = Clock::manual();
//! let config = Config::default()
//!     .algorithm(Algorithm::Smooth)
//!     .limit_for_period(100)
//!     .limit_refresh_period(Duration::from_secs(1))
//!     .timeout_duration(Duration::from_millis(5))
//!     .burst(2)
//!     .clock(&clock);
//! let limiter = RateLimiter::new("mail", config)?;
//! limiter.try_acquire(2)?;
//!
//! let refused = clock.block_on(limiter.call(|| async { Ok::<_, std::io::Error>("sent") })).unwrap_err();
//! assert_eq!(refused.to_string(), "rate limiter 'mail' does not permit further calls; 100 a period; retry after 5ms");
//!
//! clock.advance(Duration::from_millis(5));
//! let sent = clock.block_on(limiter.call(|| async { Ok::<_, std::io::Error>("sent") }));
//! assert_eq!(sent.unwrap(), "sent");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The default settings, 50 permits in 500 ns, are Resilience4j's and limit next to nothing.

mod config;
mod future;
mod shared;
mod state;

use std::{fmt, future::Future, sync::Arc, time::Duration};

pub use self::{
    config::{Algorithm, Config},
    future::{Acquire, Call},
};
use self::{
    shared::Shared,
    state::{Refusal, Taken},
};
use crate::{
    blocking,
    clock::{Clock, Instant},
    error::{InvalidConfig, RateLimited, Rejected},
    event::{EventKind, Name, PolicyKind, Source},
    meter::{AdmissionMeter, Slot, meter_methods},
    policy::{Operation, Policy, event_methods, handle_methods},
};

/// Keeps calls below a rate. Cheap to clone; a clone is the same limiter.
///
/// A permit is spent when the call starts, whatever comes of the call. A call that is dropped while it waits gives its
/// permits back, unless permits were taken after it: what others were told to wait stays true.
///
/// [`Algorithm::FixedCycle`] serves a request beyond the limit by waiting for as many periods as it needs,
/// [`Algorithm::Smooth`] a request beyond the burst by waiting until the rest has come.
#[derive(Debug, Clone)]
pub struct RateLimiter {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Shared,
    clock: Clock,
    source: Source,
    meter: Slot<AdmissionMeter>,
}

impl RateLimiter {
    /// A limiter of that name, with all the permits of its first period.
    ///
    /// # Errors
    /// [`InvalidConfig`] for settings outside their limits.
    pub fn new(name: impl Into<Name>, config: Config) -> Result<Self, InvalidConfig> {
        config.validate()?;
        Ok(Self::from_valid(name, config))
    }

    /// A limiter with the default settings.
    pub fn with_defaults(name: impl Into<Name>) -> Self {
        Self::from_valid(name, Config::default())
    }

    fn from_valid(name: impl Into<Name>, config: Config) -> Self {
        let clock = config.clock.clone();
        let shared = Shared::new(config, clock.now().as_nanos());
        let source = Source::new(name, PolicyKind::RateLimiter);
        Self { inner: Arc::new(Inner { shared, clock, source, meter: Slot::new() }) }
    }

    /// The settings now in force.
    pub fn config(&self) -> Config {
        self.shared().config()
    }

    /// Goes on with other settings. What is reserved stays reserved, who waits already waits no longer and no shorter,
    /// and a change gives no permits: those left, or owed, stay the same number, or become fewer where fewer are kept. The
    /// clock stays the limiter's own.
    ///
    /// With [`Algorithm::FixedCycle`] the next period has the new number of permits, and begins when the current one has
    /// lasted as long as the new one: at once if it has already. Under the other algorithm than before a first period,
    /// or the pace, begins now, with what is left or owed.
    ///
    /// # Errors
    /// [`InvalidConfig`] for what [`new`](Self::new) would refuse; nothing is changed.
    pub fn reconfigure(&self, config: Config) -> Result<(), InvalidConfig> {
        config.validate()?;
        self.change(|current| Ok(config.clock(current.clock.clone())))
    }

    /// Takes permits if they are there. Never waits, whatever the time-out.
    ///
    /// # Errors
    /// [`Rejected::RateLimited`] if they are not, or for no permits at all.
    #[inline]
    pub fn try_acquire(&self, permits: u32) -> Result<(), Rejected> {
        let now = self.clock().now();
        self.take(now, permits, 0)?;
        self.admitted(|| now, permits);
        Ok(())
    }

    /// Takes permits, waiting for them if they come within the time-out.
    ///
    /// # Errors
    /// [`Rejected::RateLimited`] at once if they do not, or for no permits at all.
    ///
    /// # Cancel safety
    /// Dropping the future while it waits gives the permits back where no later reservation depends on them.
    #[doc(alias = "acquirePermission")]
    pub fn acquire(&self, permits: u32) -> Acquire<'_> {
        Acquire::new(self, permits)
    }

    /// As [`acquire`](Self::acquire), on a thread that sleeps while it waits.
    ///
    /// # Errors
    /// [`Rejected::RateLimited`] at once if they do not come within the time-out, or for no permits at all.
    pub fn acquire_blocking(&self, permits: u32) -> Result<(), Rejected> {
        blocking::block_on(self.acquire(permits))
    }

    /// Takes permits and tells how long to wait before using them, zero for at once. The caller waits, and the permits
    /// are spent whether it does or not.
    ///
    /// # Errors
    /// [`Rejected::RateLimited`] if that would be longer than the time-out, or for no permits at all.
    #[doc(alias = "reservePermission")]
    pub fn reserve(&self, permits: u32) -> Result<Duration, Rejected> {
        let now = self.clock().now();
        let taken = self.take(now, permits, self.shared().timeout())?;
        self.admitted(|| now, permits);
        let wait = Instant::from_nanos(taken.due).saturating_duration_since(now);
        if let Some(meter) = self.inner.meter.get().filter(|_| !wait.is_zero()) {
            meter.waited(now, Instant::from_nanos(taken.due));
        }
        Ok(wait)
    }

    /// Takes away the permits that are left now, as after an answer that says there were too many calls. What was
    /// reserved stays reserved.
    #[doc(alias = "drainPermissions")]
    pub fn drain(&self) {
        let now = self.clock().now();
        let permits = self.shared().drain(now.as_nanos());
        self.source().publish(|| now, || EventKind::Drained { permits });
    }

    /// Changes how many permits a period gives, at least 1.
    ///
    /// With [`Algorithm::FixedCycle`] the permits of the current period stay as they are and the next period has the new
    /// number. With [`Algorithm::Smooth`] the permits left stay, or become fewer, and come at the new rate from now on.
    /// Who waits already waits no longer and no shorter.
    ///
    /// # Errors
    /// [`InvalidConfig`] for what [`new`](Self::new) would refuse; nothing is changed.
    pub fn change_limit_for_period(&self, permits: u32) -> Result<(), InvalidConfig> {
        self.change(|current| {
            let config = current.clone().limit_for_period(permits);
            config.validate()?;
            Ok(config)
        })
    }

    /// Changes how long later calls may wait.
    pub fn change_timeout_duration(&self, duration: Duration) {
        let _ = self.change(|current| Ok(current.clone().timeout_duration(duration)));
    }

    /// What the limiter has to give now. Looking changes nothing.
    pub fn metrics(&self) -> Metrics {
        let shared = self.shared();
        let (available_permissions, wait, cycle) = shared.look(self.clock().now().as_nanos());
        let time_to_wait = Duration::from_nanos(wait);
        Metrics { available_permissions, waiting_calls: shared.waiting(), time_to_wait, cycle }
    }

    /// Whether it has all the permits it can have, as a new one would.
    pub(crate) fn is_full(&self) -> bool {
        let config = self.config();
        let full = match config.algorithm {
            Algorithm::FixedCycle => config.limit_for_period,
            Algorithm::Smooth => config.burst.unwrap_or(config.limit_for_period),
        };
        self.metrics().available_permissions >= i64::from(full)
    }

    /// The same limiter, each call taking this many permits, at least 1.
    ///
    /// ```
    /// # use resile::RateLimiter;
    /// let limiter = RateLimiter::with_defaults("mail");
    /// let sent = limiter.permits(3)?.call_blocking(|| Ok::<_, std::io::Error>("three letters"));
    /// # assert_eq!(sent.unwrap(), "three letters");
    /// # Ok::<(), resile::InvalidConfig>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidConfig`] for no permits.
    pub fn permits(&self, permits: u32) -> Result<Permits, InvalidConfig> {
        InvalidConfig::check(permits >= 1, "permits", permits, "must be at least 1")?;
        Ok(Permits { limiter: self.clone(), permits })
    }

    /// The same limiter, [drained](Self::drain) when a result says so.
    ///
    /// ```
    /// # use resile::{Error, RateLimiter};
    /// let limiter = RateLimiter::with_defaults("mail");
    /// let too_many = |result: &Result<u16, Error<std::io::Error>>| matches!(result, Ok(429));
    /// let status = limiter.drain_on_result(too_many).call_blocking(|| Ok(429));
    /// # assert_eq!(status.unwrap(), 429);
    /// ```
    #[doc(alias = "drainPermissionsOnResult")]
    pub fn drain_on_result<T, E, F>(&self, drains: F) -> DrainOnResult<F>
    where
        F: Fn(&Result<T, E>) -> bool,
    {
        DrainOnResult { permits: Permits { limiter: self.clone(), permits: 1 }, drains }
    }

    fn change(&self, to: impl FnOnce(&Config) -> Result<Config, InvalidConfig>) -> Result<(), InvalidConfig> {
        self.shared().change(self.clock().now().as_nanos(), to)
    }

    #[inline]
    fn take(&self, now: Instant, permits: u32, longest: u64) -> Result<Taken, Rejected> {
        self.shared().reserve(now.as_nanos(), permits, longest).map_err(|refusal| self.refused(now, permits, refusal))
    }

    /// Inlined, so that the rejection is written where it stays.
    #[inline(always)]
    fn refused(&self, now: Instant, permits: u32, refusal: Refusal) -> Rejected {
        if let Some(meter) = self.inner.meter.get() {
            meter.reject(Duration::ZERO);
        }
        self.source().publish(|| now, || EventKind::FailedAcquire { permits });
        let rejection = RateLimited::new(self.source().name.clone(), permits, self.shared().limit());
        match refusal {
            Refusal::Never => rejection,
            Refusal::Later { wait, retry_after } => rejection.with_wait(wait, retry_after),
        }
        .into()
    }

    #[inline]
    fn admitted(&self, at: impl FnOnce() -> Instant, permits: u32) {
        if let Some(meter) = self.inner.meter.get() {
            meter.permitted.add();
        }
        self.source().publish(at, || EventKind::SuccessfulAcquire { permits });
    }

    /// A wait has ended, whatever comes of it.
    fn waited_since(&self, since: Instant) {
        if let Some(meter) = self.inner.meter.get() {
            meter.waited(since, self.clock().now());
        }
    }

    #[inline]
    fn shared(&self) -> &Shared {
        &self.inner.shared
    }

    #[inline]
    fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    #[inline]
    fn source(&self) -> &Source {
        &self.inner.source
    }
}

event_methods!(RateLimiter);
meter_methods!(RateLimiter, AdmissionMeter, meter);
handle_methods!(RateLimiter);

/// What a limiter had to give at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Permits left. Negative where reservations have taken more than there were.
    pub available_permissions: i64,
    /// Calls waiting for their permits.
    #[doc(alias = "numberOfWaitingThreads")]
    pub waiting_calls: u64,
    /// How long a request for one permit would wait, however long the time-out.
    #[doc(alias = "nanosToWait")]
    pub time_to_wait: Duration,
    /// Periods since the limiter's construction, or since it began to have any; `None` for [`Algorithm::Smooth`], which has none.
    pub cycle: Option<u64>,
}

/// A [`RateLimiter`] with each call taking a number of permits.
#[derive(Debug, Clone)]
pub struct Permits {
    limiter: RateLimiter,
    permits: u32,
}

impl Permits {
    /// The same, with the limiter [drained](RateLimiter::drain) when a result says so.
    pub fn drain_on_result<T, E, F>(&self, drains: F) -> DrainOnResult<F>
    where
        F: Fn(&Result<T, E>) -> bool,
    {
        DrainOnResult { permits: self.clone(), drains }
    }
}

handle_methods!(Permits);

/// A [`RateLimiter`] that is drained when a result says so.
#[derive(Clone)]
pub struct DrainOnResult<F> {
    permits: Permits,
    drains: F,
}

impl<F> fmt::Debug for DrainOnResult<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DrainOnResult").field("permits", &self.permits).finish_non_exhaustive()
    }
}

handle_methods!(DrainOnResult<F>);

/// A limiter, how many permits a call takes, and which results drain it.
pub trait Limits<T, E> {
    /// The limiter.
    fn limiter(&self) -> &RateLimiter;

    /// How many permits the call takes.
    #[inline]
    fn permits(&self) -> u32 {
        1
    }

    /// Whether this result takes away the permits that are left.
    #[inline]
    fn drains(&self, _: &Result<T, E>) -> bool {
        false
    }
}

impl<T, E> Limits<T, E> for RateLimiter {
    #[inline]
    fn limiter(&self) -> &RateLimiter {
        self
    }
}

impl<T, E> Limits<T, E> for Permits {
    #[inline]
    fn limiter(&self) -> &RateLimiter {
        &self.limiter
    }

    #[inline]
    fn permits(&self) -> u32 {
        self.permits
    }
}

impl<T, E, F> Limits<T, E> for DrainOnResult<F>
where
    F: Fn(&Result<T, E>) -> bool,
{
    #[inline]
    fn limiter(&self) -> &RateLimiter {
        &self.permits.limiter
    }

    #[inline]
    fn permits(&self) -> u32 {
        self.permits.permits
    }

    #[inline]
    fn drains(&self, result: &Result<T, E>) -> bool {
        (self.drains)(result)
    }
}

impl<T, E, L: Limits<T, E>> Limits<T, E> for &L {
    #[inline]
    fn limiter(&self) -> &RateLimiter {
        (**self).limiter()
    }

    #[inline]
    fn permits(&self) -> u32 {
        (**self).permits()
    }

    #[inline]
    fn drains(&self, result: &Result<T, E>) -> bool {
        (**self).drains(result)
    }
}

macro_rules! policies {
    ($($policy:ty $(, $drains:ident)?;)+) => {$(
        impl<Op $(, $drains)?> Policy<Op> for $policy
        where
            Op: Operation,
            Self: Limits<Op::Ok, Op::Err>,
        {
            type Future = Call<Self, Op::Future>;

            #[inline]
            fn run(self, op: Op) -> Self::Future {
                Call::new(self, op.start())
            }
        }
    )+};
}
policies! {
    RateLimiter;
    &RateLimiter;
    Permits;
    &Permits;
    DrainOnResult<F>, F;
    &DrainOnResult<F>, F;
}
