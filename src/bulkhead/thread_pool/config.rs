use std::{thread, time::Duration};

use crate::{clock::Clock, error::InvalidConfig};

/// What happens to a call when every thread is busy and the queue is full. Complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RejectionPolicy {
    /// The call is rejected.
    #[default]
    Abort,
    /// The closure runs on the thread that polls the call, which blocks meanwhile. It slows whoever sends too much, but
    /// blocks an executor's thread too.
    CallerRuns,
}

/// The settings of a [`ThreadPoolBulkhead`](super::ThreadPoolBulkhead). The setter of a field's name has its rules.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// Threads with the queue full.
    pub max_thread_pool_size: u32,
    /// Threads that are kept; `None` where it follows the maximum.
    pub core_thread_pool_size: Option<u32>,
    /// Closures that wait.
    pub queue_capacity: u32,
    /// How long a thread above the core size may be idle.
    pub keep_alive_duration: Duration,
    /// For calls beyond queue and threads.
    pub rejection_policy: RejectionPolicy,
    /// The clock of a new pool.
    pub clock: Clock,
}

impl Config {
    /// Runs this many closures at once when the queue is full, at least 1. Default: the machine's parallelism.
    #[must_use]
    pub fn max_thread_pool_size(mut self, threads: u32) -> Self {
        self.max_thread_pool_size = threads;
        self
    }

    /// Starts this many threads before anything is queued, and keeps them, `1 <= threads <= max_thread_pool_size`.
    /// Default: one less than the maximum, at least 1.
    #[must_use]
    pub fn core_thread_pool_size(mut self, threads: u32) -> Self {
        self.core_thread_pool_size = Some(threads);
        self
    }

    /// Lets this many closures wait for a thread; with 0 they are only handed to a thread that is idle. Default: 100.
    #[must_use]
    pub fn queue_capacity(mut self, closures: u32) -> Self {
        self.queue_capacity = closures;
        self
    }

    /// Ends a thread above the core size that has been idle this long. Default: 20 ms.
    #[must_use]
    pub fn keep_alive_duration(mut self, duration: Duration) -> Self {
        self.keep_alive_duration = duration;
        self
    }

    /// Decides what happens to a call beyond the queue and the threads. Default: [`RejectionPolicy::Abort`].
    #[doc(alias = "RejectedExecutionHandler")]
    #[must_use]
    pub fn rejection_policy(mut self, policy: RejectionPolicy) -> Self {
        self.rejection_policy = policy;
        self
    }

    /// Reads and sleeps on this clock. Default: [`Clock::default`].
    #[must_use]
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.clock = clock.into();
        self
    }

    /// Left alone, it follows the maximum, so that a smaller maximum is not refused on a machine with more cores.
    pub(super) fn core(&self) -> u32 {
        self.core_thread_pool_size.unwrap_or(self.max_thread_pool_size.saturating_sub(1).max(1))
    }

    /// Whether a pool can have these settings.
    ///
    /// # Errors
    /// [`InvalidConfig`] for a setting outside its limits.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        let (max, core) = (self.max_thread_pool_size, self.core());
        InvalidConfig::check(max >= 1, "max_thread_pool_size", max, "must be at least 1")?;
        let rule = "must be at least 1 and at most max_thread_pool_size";
        InvalidConfig::check((1..=max).contains(&core), "core_thread_pool_size", core, rule)
    }
}

impl Default for Config {
    fn default() -> Self {
        let parallelism = thread::available_parallelism().map_or(1, |threads| threads.get() as u32);
        Self {
            max_thread_pool_size: parallelism,
            core_thread_pool_size: None,
            queue_capacity: 100,
            keep_alive_duration: Duration::from_millis(20),
            rejection_policy: RejectionPolicy::Abort,
            clock: Clock::default(),
        }
    }
}
