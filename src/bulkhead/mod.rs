//! Limits how many calls run at once, so that one slow dependency cannot take everything.
//!
//! A [`Bulkhead`] admits calls while there is room and rejects, or lets wait, those beyond. A [`ThreadPoolBulkhead`] runs
//! blocking closures on threads of its own.
//!
//! ```
//! use resile::{Bulkhead, Rejected, bulkhead};
//!
//! let bulkhead = Bulkhead::new("mail", bulkhead::Config::default().max_concurrent_calls(1))?;
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let sent = bulkhead.call(|| async { Ok::<_, std::io::Error>("sent") }).await;
//! assert_eq!(sent.unwrap(), "sent");
//!
//! let permit = bulkhead.try_acquire().unwrap();
//! assert!(matches!(bulkhead.try_acquire(), Err(Rejected::BulkheadFull(_))));
//! drop(permit);
//! assert!(bulkhead.try_acquire().is_ok());
//! # });
//! # Ok::<(), resile::InvalidConfig>(())
//! ```

mod config;
mod future;
mod shared;
pub mod thread_pool;

use std::{future::Future, sync::Arc, time::Duration};

use self::shared::Shared;
pub use self::{
    config::Config,
    future::{Acquire, AcquireOwned, Call},
    thread_pool::ThreadPoolBulkhead,
};
use crate::{
    blocking::block_on,
    clock::{Clock, Instant},
    error::{BulkheadFull, InvalidConfig, Rejected},
    event::{EventKind, Name, PolicyKind, Source},
    meter::{AdmissionMeter, Slot, meter_methods},
    policy::{Operation, Policy, event_methods, handle_methods},
};

/// Limits how many calls run at once. Cheap to clone; a clone is the same bulkhead.
///
/// A call that finds no room waits up to [`max_wait_duration`](Config::max_wait_duration), first come, first served, and
/// is then rejected with [`BulkheadFull`]. Its place is free again as soon as it ends, panics or is dropped.
///
/// A wait counts into the time of a time limiter around the bulkhead: keep it shorter than that limit.
#[doc(alias = "SemaphoreBulkhead")]
#[derive(Debug, Clone)]
pub struct Bulkhead {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    source: Source,
    shared: Shared,
    clock: Clock,
    meter: Slot<AdmissionMeter>,
}

impl Bulkhead {
    /// A bulkhead of that name.
    ///
    /// # Errors
    /// [`InvalidConfig`] for a setting outside its limits.
    pub fn new(name: impl Into<Name>, config: Config) -> Result<Self, InvalidConfig> {
        config.validate()?;
        Ok(Self::valid(name, config))
    }

    /// A bulkhead with the default settings: 25 calls at once, no waiting.
    pub fn with_defaults(name: impl Into<Name>) -> Self {
        Self::valid(name, Config::default())
    }

    fn valid(name: impl Into<Name>, config: Config) -> Self {
        let Config { max_concurrent_calls, max_wait_duration, max_waiting_calls, clock } = config;
        let shared = Shared::new(max_concurrent_calls, max_wait_duration, max_waiting_calls);
        let source = Source::new(name, PolicyKind::Bulkhead);
        Self { inner: Arc::new(Inner { source, shared, clock, meter: Slot::new() }) }
    }

    /// The settings now in force. A wait is at most 584 years.
    pub fn config(&self) -> Config {
        let (max_concurrent_calls, max_wait_duration, max_waiting_calls) = self.inner.shared.settings();
        Config { max_concurrent_calls, max_wait_duration, max_waiting_calls, clock: self.inner.clock.clone() }
    }

    /// Goes on with other settings; calls under way and calls that wait stay. Never blocks, as with
    /// [`change_max_concurrent_calls`](Self::change_max_concurrent_calls); calls that wait already keep the time they
    /// were given and their place, also where fewer may wait from now on. The clock stays the bulkhead's own.
    ///
    /// # Errors
    /// [`InvalidConfig`] for what [`new`](Self::new) would refuse; nothing is changed.
    #[expect(clippy::needless_pass_by_value, reason = "every policy's is called alike")]
    pub fn reconfigure(&self, config: Config) -> Result<(), InvalidConfig> {
        config.validate()?;
        self.inner.shared.change(config.max_concurrent_calls, config.max_wait_duration, config.max_waiting_calls);
        Ok(())
    }

    /// Takes a place if one is free and nobody waits for it. Does not wait.
    ///
    /// # Errors
    /// [`BulkheadFull`]
    #[inline]
    pub fn try_acquire(&self) -> Result<Permit<'_>, Rejected> {
        self.try_enter().map(|()| Permit::new(self))
    }

    /// As [`try_acquire`](Self::try_acquire), for a permit that can move into a task, a closure or a response body.
    ///
    /// # Errors
    /// [`BulkheadFull`]
    pub fn try_acquire_owned(&self) -> Result<OwnedPermit, Rejected> {
        self.try_enter().map(|()| OwnedPermit::new(self.clone()))
    }

    /// Takes a place, and waits for one up to [`max_wait_duration`](Config::max_wait_duration), first come, first served.
    ///
    /// # Errors
    /// [`BulkheadFull`]
    ///
    /// # Cancel safety
    /// Dropping the future leaves the queue, and passes a place that it was given on to the next.
    pub fn acquire(&self) -> Acquire<'_> {
        Acquire::new(self)
    }

    /// As [`acquire`](Self::acquire), for a permit that can move into a task, a closure or a response body.
    ///
    /// ```
    /// # use resile::Bulkhead;
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let bulkhead = Bulkhead::with_defaults("images");
    /// let permit = bulkhead.acquire_owned().await?;
    /// let resized = tokio::task::spawn_blocking(move || {
    ///     // The place belongs to the work: it is kept even if nobody waits for the result any more.
    ///     let resized = 2 + 2;
    ///     permit.finish();
    ///     resized
    /// });
    /// assert_eq!(resized.await.unwrap(), 4);
    /// # Ok::<(), resile::Rejected>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`BulkheadFull`]
    ///
    /// # Cancel safety
    /// Dropping the future leaves the queue, and passes a place that it was given on to the next.
    pub fn acquire_owned(&self) -> AcquireOwned {
        AcquireOwned::new(self.clone())
    }

    /// As [`acquire`](Self::acquire), on a plain thread, which sleeps while it waits.
    ///
    /// # Errors
    /// [`BulkheadFull`]
    pub fn acquire_blocking(&self) -> Result<Permit<'_>, Rejected> {
        block_on(self.acquire())
    }

    /// Lets another number of calls run at once from now on. Never blocks: more places are there at once; with fewer,
    /// calls under way go on, and nobody is admitted until enough of them have ended.
    ///
    /// # Errors
    /// [`InvalidConfig`] for a number outside the limits of [`max_concurrent_calls`](Config::max_concurrent_calls).
    pub fn change_max_concurrent_calls(&self, calls: u32) -> Result<(), InvalidConfig> {
        Config::default().max_concurrent_calls(calls).validate()?;
        self.inner.shared.resize(calls);
        Ok(())
    }

    /// Lets calls that come from now on wait this long; those that wait already keep the time they were given.
    pub fn change_max_wait_duration(&self, duration: Duration) {
        self.inner.shared.set_max_wait(duration);
    }

    /// What the bulkhead holds just now.
    pub fn metrics(&self) -> Metrics {
        let counts = self.inner.shared.counts();
        Metrics {
            available_concurrent_calls: counts.limit.saturating_sub(counts.calls),
            max_allowed_concurrent_calls: counts.limit,
            concurrent_calls: counts.calls,
            waiting_calls: counts.waiting,
        }
    }

    #[inline]
    fn try_enter(&self) -> Result<(), Rejected> {
        if !self.inner.shared.try_enter() {
            return Err(self.reject(Duration::ZERO));
        }
        self.permitted();
        Ok(())
    }

    #[inline]
    fn permitted(&self) {
        if let Some(meter) = self.inner.meter.get() {
            meter.permitted.add();
        }
        self.publish(EventKind::CallPermitted);
    }

    /// Admitted after a wait.
    fn permitted_since(&self, since: Instant) {
        if let Some(meter) = self.inner.meter.get() {
            meter.waited(since, self.inner.clock.now());
        }
        self.permitted();
    }

    /// Inlined, as all that make a rejection are: it is written where it stays. Copying at once what was just written in
    /// smaller pieces would stall the processor for as long as the rest takes.
    #[inline(always)]
    fn reject(&self, waited: Duration) -> Rejected {
        let counts = self.inner.shared.counts();
        if let Some(meter) = self.inner.meter.get() {
            meter.reject(waited);
        }
        self.publish(EventKind::CallRejected);
        let name = self.source().name.clone();
        BulkheadFull::new(name, counts.limit).with_waiting(counts.waiting, waited).into()
    }

    #[inline]
    fn publish(&self, kind: EventKind) {
        if self.source().listening() {
            self.tell(kind);
        }
    }

    #[cold]
    #[inline(never)]
    fn tell(&self, kind: EventKind) {
        self.source().publish_at(self.inner.clock.now(), kind);
    }

    fn source(&self) -> &Source {
        &self.inner.source
    }
}

event_methods!(Bulkhead);
meter_methods!(Bulkhead, AdmissionMeter, meter);
handle_methods!(Bulkhead);

impl<Op: Operation> Policy<Op> for Bulkhead {
    type Future = Call<Self, Op::Future>;

    #[inline]
    fn run(self, op: Op) -> Self::Future {
        Call::new(self, op.start())
    }
}

impl<Op: Operation> Policy<Op> for &Bulkhead {
    type Future = Call<Self, Op::Future>;

    #[inline]
    fn run(self, op: Op) -> Self::Future {
        Call::new(self, op.start())
    }
}

/// A place in a bulkhead. Dropping it gives the place back and says nothing, which is what a cancelled call does;
/// [`finish`](Self::finish) says too that a call has ended.
#[derive(Debug)]
#[must_use = "dropping the permit gives the place back"]
pub struct Permit<'a> {
    bulkhead: &'a Bulkhead,
}

impl<'a> Permit<'a> {
    /// For a place that has just been taken.
    #[inline]
    fn new(bulkhead: &'a Bulkhead) -> Self {
        Self { bulkhead }
    }

    /// Gives the place back and publishes [`CallFinished`](EventKind::CallFinished).
    #[doc(alias = "onComplete")]
    #[inline]
    pub fn finish(self) {
        let bulkhead = self.bulkhead;
        drop(self);
        bulkhead.publish(EventKind::CallFinished);
    }
}

impl Drop for Permit<'_> {
    #[inline]
    fn drop(&mut self) {
        self.bulkhead.inner.shared.leave();
    }
}

/// A [`Permit`] that owns its handle, so that it can move into a task, a closure or a response body.
#[derive(Debug)]
#[must_use = "dropping the permit gives the place back"]
pub struct OwnedPermit {
    bulkhead: Bulkhead,
}

impl OwnedPermit {
    /// For a place that has just been taken.
    fn new(bulkhead: Bulkhead) -> Self {
        Self { bulkhead }
    }

    /// Gives the place back and publishes [`CallFinished`](EventKind::CallFinished).
    #[doc(alias = "onComplete")]
    pub fn finish(self) {
        let bulkhead = self.bulkhead.clone();
        drop(self);
        bulkhead.publish(EventKind::CallFinished);
    }
}

impl Drop for OwnedPermit {
    fn drop(&mut self) {
        self.bulkhead.inner.shared.leave();
    }
}

/// What a [`Bulkhead`] holds at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// How many more calls could enter now; zero while more are in than allowed, as after shrinking.
    pub available_concurrent_calls: u32,
    /// How many calls may run at once.
    pub max_allowed_concurrent_calls: u32,
    /// How many calls are in.
    pub concurrent_calls: u32,
    /// How many calls wait for a place.
    pub waiting_calls: u32,
}
