//! Runs blocking closures on threads of its own, so that they cannot use up anybody else's.
//!
//! A closure gets a new thread up to the core size, then a place in the queue, then a new thread up to the maximum; beyond
//! that it is rejected.
//!
//! ```
//! use resile::{ThreadPoolBulkhead, bulkhead::thread_pool};
//!
//! let pool = ThreadPoolBulkhead::new("images", thread_pool::Config::default().max_thread_pool_size(2))?;
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let size = pool.call(|| std::fs::metadata("Cargo.toml").map(|file| file.len())).await;
//! assert!(size.unwrap() > 0);
//! # });
//! # Ok::<(), resile::InvalidConfig>(())
//! ```

mod config;
mod future;
mod shared;

use std::{sync::Arc, time::Duration};

use self::shared::Shared;
pub use self::{
    config::{Config, RejectionPolicy},
    future::Call,
};
use crate::{
    blocking::block_on,
    error::{BulkheadFull, Error, InvalidConfig, Rejected},
    event::{EventKind, Name, PolicyKind, Source},
    meter::meter_methods,
    policy::event_methods,
};

/// Runs blocking closures on threads of its own. Cheap to clone; a clone is the same pool.
///
/// A place belongs to the work, not to whoever waits for it: a closure that has begun keeps its thread to its end. Its
/// panic goes on in the caller, and the thread lives.
///
/// When the last handle and the last call are gone, closures that still run are finished and the threads end.
///
/// Inside other policies use `call_flat`, which keeps the pool's error as it is:
///
/// ```
/// # use resile::{ThreadPoolBulkhead, TimeLimiter};
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let (limiter, pool) = (TimeLimiter::with_defaults("images"), ThreadPoolBulkhead::with_defaults("images"));
/// let resized = limiter.call_flat(|| pool.call(|| Ok::<_, std::io::Error>(2 + 2))).await;
/// assert_eq!(resized.unwrap(), 4);
/// # });
/// ```
#[derive(Debug, Clone)]
pub struct ThreadPoolBulkhead {
    inner: Arc<Open>,
}

/// Closes the pool when the last handle goes; the threads share only what is inside.
#[derive(Debug)]
struct Open {
    shared: Arc<Shared>,
}

impl ThreadPoolBulkhead {
    /// A pool of that name. No thread is started before the first call.
    ///
    /// # Errors
    /// [`InvalidConfig`] for a setting outside its limits.
    pub fn new(name: impl Into<Name>, config: Config) -> Result<Self, InvalidConfig> {
        config.validate()?;
        Ok(Self::valid(name, config))
    }

    /// A pool with the default settings: as many threads as the machine runs at once, and a queue of 100.
    pub fn with_defaults(name: impl Into<Name>) -> Self {
        Self::valid(name, Config::default())
    }

    fn valid(name: impl Into<Name>, config: Config) -> Self {
        let source = Source::new(name, PolicyKind::ThreadPoolBulkhead);
        Self { inner: Arc::new(Open { shared: Arc::new(Shared::new(source, config)) }) }
    }

    /// The settings now in force.
    pub fn config(&self) -> Config {
        self.inner.shared.config()
    }

    /// Goes on with other settings; what runs and what is queued stays. Never blocks.
    ///
    /// With more threads or a shorter queue, queued closures get the threads that they would have got under these
    /// settings. With fewer, threads end as their closures do, and those that are above the core size once they have
    /// been idle long enough. A shorter queue lets closures in again when fewer wait than it holds. The clock stays the
    /// pool's own.
    ///
    /// # Errors
    /// [`InvalidConfig`] for what [`new`](Self::new) would refuse; nothing is changed.
    pub fn reconfigure(&self, config: Config) -> Result<(), InvalidConfig> {
        config.validate()?;
        self.inner.shared.change(config);
        Ok(())
    }

    /// Runs `work` on a thread of the pool. Its error comes back as [`Error::Inner`].
    ///
    /// # Errors
    /// The closure's own error, or [`BulkheadFull`] where there is no room for it, or the operating system refuses a
    /// thread. The rejection counts threads as concurrent calls and the queue as waiting ones.
    ///
    /// # Panics
    /// Goes on with the closure's panic.
    pub fn call<F, T, E>(&self, work: F) -> Call<F, T, E>
    where
        F: FnOnce() -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        Call::new(self.clone(), work)
    }

    /// As [`call`](Self::call), on a plain thread, which sleeps meanwhile. Never from within the pool itself: once every
    /// thread waits for another nothing goes on.
    ///
    /// # Errors
    /// As those of [`call`](Self::call).
    ///
    /// # Panics
    /// Goes on with the closure's panic.
    pub fn call_blocking<F, T, E>(&self, work: F) -> Result<T, Error<E>>
    where
        F: FnOnce() -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        block_on(self.call(work))
    }

    /// What the pool does just now.
    pub fn metrics(&self) -> Metrics {
        self.inner.shared.metrics()
    }

    fn reject(&self) -> Rejected {
        let metrics = self.metrics();
        if let Some(meter) = self.inner.shared.meter.get() {
            meter.rejected.add();
        }
        self.inner.shared.publish(EventKind::CallRejected);
        let full = BulkheadFull::new(self.source().name.clone(), metrics.max_thread_pool_size);
        full.with_waiting(metrics.queue_depth, Duration::ZERO).into()
    }

    fn source(&self) -> &Source {
        &self.inner.shared.source
    }
}

event_methods!(ThreadPoolBulkhead);
meter_methods!(ThreadPoolBulkhead, crate::meter::AdmissionMeter, shared.meter);

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// What a [`ThreadPoolBulkhead`] does at one moment. A closure that an idle thread has been woken for counts as running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// How many threads are kept.
    pub core_thread_pool_size: u32,
    /// How many threads there may be.
    #[doc(alias = "maximumThreadPoolSize")]
    pub max_thread_pool_size: u32,
    /// How many threads there are.
    pub thread_pool_size: u32,
    /// How many threads run a closure.
    pub active_thread_count: u32,
    /// How many more closures could run at once.
    pub available_thread_count: u32,
    /// How many closures may wait for a thread.
    pub queue_capacity: u32,
    /// How many closures wait for a thread.
    pub queue_depth: u32,
    /// How many more closures may wait for a thread.
    pub remaining_queue_capacity: u32,
}
