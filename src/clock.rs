//! The one source of time: it tells the time and sleeps.
//!
//! Waits, windows, durations and time-outs of every policy read the [`Clock`] of its config. The default reads the CPU's
//! counter. A [`ManualClock`] stands still until a test advances it, and every wait of every policy follows.
//!
//! ```
//! use resile::{CircuitBreaker, Clock, circuit_breaker};
//! use std::time::Duration;
//!
//! let clock = Clock::manual();
//! let breaker = CircuitBreaker::new("orders", circuit_breaker::Config::default().clock(&clock))?;
//! breaker.transition_to_open()?;
//! assert!(breaker.try_acquire().is_err());
//! clock.advance(Duration::from_secs(61));
//! assert!(breaker.try_acquire().is_ok());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::{
    fmt,
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use parking_lot::Mutex;

use crate::timer::{self, Key, Timers};

/// A moment on a [`Clock`], in whole nanoseconds since that clock's zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    /// Later than any moment a clock reaches.
    pub(crate) const NEVER: Self = Self(u64::MAX);

    /// The moment that many nanoseconds after the clock's zero.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock's zero.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is not after.
    pub const fn saturating_duration_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// This moment and `duration` more, at most the end of time.
    pub fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }
}

/// Whole nanoseconds, at most `u64::MAX` (584 years).
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Tells the time and sleeps. A cheap value: a copy of it is the same clock.
///
/// The default reads the CPU's time-stamp counter where that is steady, and the operating system's monotonic clock
/// elsewhere. With the feature `test-util` the default follows tokio's clock instead, so that
/// `#[tokio::test(start_paused = true)]` drives every policy.
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    System,
    Manual(Arc<Manual>),
    #[cfg(feature = "test-util")]
    Tokio,
}

impl Clock {
    /// A clock that stands still until it is advanced by hand.
    pub fn manual() -> ManualClock {
        ManualClock::starting_at(Instant::default())
    }

    /// The time now. Never earlier than it was on the same thread before.
    #[inline]
    pub fn now(&self) -> Instant {
        match &self.0 {
            Source::System => SystemTime::now(),
            Source::Manual(manual) => manual.now(),
            #[cfg(feature = "test-util")]
            Source::Tokio => tokio_now(),
        }
    }

    /// Ends after `duration`, counted from now.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        self.sleep_until(self.now().saturating_add(duration))
    }

    /// Ends at `deadline`.
    ///
    /// # Panics
    /// The first sleep of the process on the default clock starts the thread that wakes sleepers, and panics when polled
    /// if the operating system refuses that thread.
    pub fn sleep_until(&self, deadline: Instant) -> Sleep {
        #[cfg(feature = "test-util")]
        if let Source::Tokio = self.0 {
            if tokio::runtime::Handle::try_current().is_ok() {
                return Sleep(Sleeping::Tokio { deadline, sleep: None });
            }
            // A plain thread has no runtime to sleep on: the same wait, on the machine's clock.
            let clock = Self(Source::System);
            let deadline = clock.now().saturating_add(deadline.saturating_duration_since(self.now()));
            return Sleep(Sleeping::Queued { clock, deadline, key: None });
        }
        Sleep(Sleeping::Queued { clock: self.clone(), deadline, key: None })
    }

    /// Tells clocks apart, so that a reading of one is not taken for another's. Never zero.
    #[inline]
    pub(crate) fn id(&self) -> u32 {
        match &self.0 {
            Source::System => 1,
            Source::Manual(manual) => manual.id,
            #[cfg(feature = "test-util")]
            Source::Tokio => 2,
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        #[cfg(feature = "test-util")]
        return Self(Source::Tokio);
        #[cfg(not(feature = "test-util"))]
        Self(Source::System)
    }
}

/// Two values are the same clock, not two that show the same time.
impl PartialEq for Clock {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Eq for Clock {}

impl From<&Clock> for Clock {
    fn from(clock: &Clock) -> Self {
        clock.clone()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Source::System => "Clock::System",
            Source::Manual(_) => "Clock::Manual",
            #[cfg(feature = "test-util")]
            Source::Tokio => "Clock::Tokio",
        })
    }
}

/// The machine's own monotonic clock, counted from its first use in the process.
struct SystemTime {
    clock: quanta::Clock,
    zero: u64,
}

impl SystemTime {
    #[inline]
    fn now() -> Instant {
        static SYSTEM: LazyLock<SystemTime> = LazyLock::new(|| {
            let clock = quanta::Clock::new();
            SystemTime { zero: clock.raw(), clock }
        });
        let system = &*SYSTEM;
        Instant(system.clock.delta_as_nanos(system.zero, system.clock.raw()))
    }
}

#[cfg(feature = "test-util")]
static TOKIO_ZERO: LazyLock<tokio::time::Instant> = LazyLock::new(tokio::time::Instant::now);

/// A second past the first reading: a paused runtime may start a little before another's clock.
#[cfg(feature = "test-util")]
fn tokio_now() -> Instant {
    let zero = *TOKIO_ZERO - Duration::from_secs(1);
    Instant(nanos(tokio::time::Instant::now().saturating_duration_since(zero)))
}

/// A clock for tests and replays: it stands still until it is advanced, and never goes back.
///
/// ```
/// use resile::Clock;
/// use std::time::Duration;
///
/// let clock = Clock::manual();
/// let before = clock.now();
/// clock.advance(Duration::from_secs(3600));
/// assert_eq!(clock.now().saturating_duration_since(before), Duration::from_secs(3600));
///
/// // Waiting takes no time: the clock jumps to whatever is waited for.
/// clock.block_on(clock.clock().sleep(Duration::from_secs(60)));
/// assert_eq!(clock.now().saturating_duration_since(before), Duration::from_secs(3660));
/// ```
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<Manual>);

#[derive(Debug)]
struct Manual {
    id: u32,
    now: AtomicU64,
    timers: Mutex<Timers>,
}

impl Manual {
    fn now(&self) -> Instant {
        Instant(self.now.load(Ordering::Acquire))
    }
}

impl ManualClock {
    /// A manual clock that shows `start`.
    pub fn starting_at(start: Instant) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let id = 3 + MADE.fetch_add(1, Ordering::Relaxed) % (u32::MAX - 3);
        Self(Arc::new(Manual { id, now: AtomicU64::new(start.0), timers: Mutex::default() }))
    }

    /// The clock to give to a config.
    pub fn clock(&self) -> Clock {
        Clock(Source::Manual(Arc::clone(&self.0)))
    }

    /// The time it shows.
    pub fn now(&self) -> Instant {
        self.0.now()
    }

    /// Moves the time on in one step and wakes whoever waited for a moment passed.
    pub fn advance(&self, duration: Duration) {
        self.advance_to(self.now().saturating_add(duration));
    }

    /// Moves the time on to `moment` in one step; does nothing if that is past.
    pub fn advance_to(&self, moment: Instant) {
        let now = self.0.now.fetch_max(moment.0, Ordering::AcqRel).max(moment.0);
        loop {
            let due = self.0.timers.lock().pop_due(now);
            match due {
                Some(waker) => waker.wake(),
                None => return,
            }
        }
    }

    /// How long until the next sleeper is due; `None` if nobody sleeps.
    pub fn next_wake(&self) -> Option<Duration> {
        let next = self.0.timers.lock().next_deadline()?;
        Some(Duration::from_nanos(next.saturating_sub(self.now().0)))
    }

    /// Runs a future to its end on this thread. When it waits for this clock, the time jumps to the next sleeper's
    /// moment; when it waits for something else, so does this thread.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        let (waker, woken) = crate::blocking::thread_waker();
        let mut cx = Context::from_waker(&waker);
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                return output;
            }
            if !woken.take() {
                let next = self.0.timers.lock().next_deadline();
                match next {
                    // To the moment, not by the time until it: another thread may have advanced meanwhile.
                    Some(deadline) => self.advance_to(Instant(deadline)),
                    None => woken.wait(),
                }
            }
        }
    }
}

impl From<&ManualClock> for Clock {
    fn from(manual: &ManualClock) -> Self {
        manual.clock()
    }
}

/// A wait for a moment on a [`Clock`]. Nothing is registered until it is first polled.
///
/// # Cancel safety
/// Dropping it takes its place out of the queue at once.
#[must_use = "futures do nothing unless polled"]
pub struct Sleep(Sleeping);

enum Sleeping {
    Queued {
        clock: Clock,
        deadline: Instant,
        key: Option<Key>,
    },
    #[cfg(feature = "test-util")]
    Tokio {
        deadline: Instant,
        sleep: Option<Pin<Box<tokio::time::Sleep>>>,
    },
}

impl Sleep {
    /// The moment it ends.
    pub fn deadline(&self) -> Instant {
        match &self.0 {
            Sleeping::Queued { deadline, .. } => *deadline,
            #[cfg(feature = "test-util")]
            Sleeping::Tokio { deadline, .. } => *deadline,
        }
    }

    /// Registers without looking at the clock, for a caller that knows the moment is still to come.
    pub(crate) fn poll_later(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_wait(cx, false)
    }

    fn poll_wait(&mut self, cx: &mut Context<'_>, check: bool) -> Poll<()> {
        match &mut self.0 {
            Sleeping::Queued { clock, deadline, key } => {
                if let Some(waiting) = key {
                    let still = match clock.with_timers(|timers| timers.would_wake(waiting, cx.waker())) {
                        Some(false) => {
                            let mut waker = cx.waker().clone();
                            clock.with_timers(|timers| timers.exchange(waiting, &mut waker))
                        }
                        known => known.is_some(),
                    };
                    return if still {
                        Poll::Pending
                    } else {
                        *key = None;
                        *deadline = Instant::default();
                        Poll::Ready(())
                    };
                }
                if *deadline == Instant::default() || check && clock.now() >= *deadline {
                    return Poll::Ready(());
                }
                *key = Some(clock.register(*deadline, cx.waker()));
                // A manual clock may have been advanced between the look and the registration.
                if matches!(clock.0, Source::Manual(_)) && clock.now() >= *deadline {
                    clock.with_timers(|timers| key.take().map(|key| timers.remove(&key)));
                    return Poll::Ready(());
                }
                Poll::Pending
            }
            #[cfg(feature = "test-util")]
            Sleeping::Tokio { deadline, sleep } => {
                // tokio's own sleep rounds up to its next millisecond, also for a moment past.
                if check && tokio_now() >= *deadline {
                    return Poll::Ready(());
                }
                let zero = *TOKIO_ZERO - Duration::from_secs(1);
                let sleep = sleep.get_or_insert_with(|| {
                    let wait = Duration::from_nanos(deadline.0);
                    match zero.checked_add(wait) {
                        Some(moment) => Box::pin(tokio::time::sleep_until(moment)),
                        None => Box::pin(tokio::time::sleep(Duration::MAX)),
                    }
                });
                sleep.as_mut().poll(cx)
            }
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_wait(cx, true)
    }
}

impl Drop for Sleep {
    #[cold]
    #[inline(never)]
    fn drop(&mut self) {
        #[cfg_attr(not(feature = "test-util"), allow(irrefutable_let_patterns))]
        if let Sleeping::Queued { clock, key, .. } = &mut self.0 {
            if let Some(key) = key.take() {
                // The waker is dropped outside the lock: a task may end with it.
                drop(clock.with_timers(|timers| timers.remove(&key)));
            }
        }
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep").field("deadline", &self.deadline()).finish_non_exhaustive()
    }
}

impl Clock {
    fn with_timers<R>(&self, f: impl FnOnce(&mut Timers) -> R) -> R {
        match &self.0 {
            Source::Manual(manual) => f(&mut manual.timers.lock()),
            _ => timer::with_system(f),
        }
    }

    fn register(&self, deadline: Instant, waker: &Waker) -> Key {
        let waker = waker.clone();
        match &self.0 {
            Source::Manual(manual) => manual.timers.lock().insert(deadline.0, waker),
            _ => timer::register(self, deadline, waker),
        }
    }
}
