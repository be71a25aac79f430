use super::{
    config::{Algorithm, Config},
    state::{Cycles, NO_ACCOUNT, Pace, Refusal, Taken},
};
use crate::{
    clock::nanos,
    sync::{AtomicU64, Mutex, Ordering},
};

/// What the threads that use one limiter share.
#[derive(Debug)]
pub(super) struct Shared {
    permits: Permits,
    limit: AtomicU64,
    timeout: AtomicU64,
    waiting: AtomicU64,
}

#[derive(Debug)]
enum Permits {
    FixedCycle(Mutex<Cycles>),
    Smooth(Account),
}

impl Shared {
    pub(super) fn new(config: &Config, now: u64) -> Self {
        let limit = config.limit_for_period;
        let permits = match config.algorithm {
            Algorithm::FixedCycle => Permits::FixedCycle(Mutex::new(Cycles::new(config.period(), limit, now))),
            Algorithm::Smooth => Permits::Smooth(Account::new(config.pace())),
        };
        Self {
            permits,
            limit: AtomicU64::new(limit.into()),
            timeout: AtomicU64::new(nanos(config.timeout_duration)),
            waiting: AtomicU64::new(0),
        }
    }

    #[inline]
    pub(super) fn reserve(&self, now: u64, permits: u32, longest: u64) -> Result<Taken, Refusal> {
        if permits == 0 {
            return Err(Refusal::Never);
        }
        match &self.permits {
            Permits::FixedCycle(cycles) => cycles.lock().reserve(now, permits, longest),
            Permits::Smooth(account) => account.reserve(now, permits, longest),
        }
    }

    pub(super) fn give_back(&self, taken: Taken, permits: u32) {
        match &self.permits {
            Permits::FixedCycle(cycles) => cycles.lock().give_back(taken, permits),
            Permits::Smooth(account) => account.give_back(taken),
        }
    }

    /// Returns how many permits were left.
    pub(super) fn drain(&self, now: u64) -> u32 {
        match &self.permits {
            Permits::FixedCycle(cycles) => cycles.lock().drain(now),
            Permits::Smooth(account) => account.drain(now),
        }
    }

    /// Changes the limit to that of `config`, which differs in nothing else.
    pub(super) fn change_limit(&self, config: &Config, now: u64) {
        match &self.permits {
            Permits::FixedCycle(cycles) => cycles.lock().limit = config.limit_for_period,
            Permits::Smooth(account) => account.change(config.pace(), now),
        }
        self.limit.store(config.limit_for_period.into(), Ordering::Relaxed);
    }

    /// The permits left, the wait for one, and the cycle if there are cycles.
    pub(super) fn look(&self, now: u64) -> (i64, u64, Option<u64>) {
        match &self.permits {
            Permits::FixedCycle(cycles) => {
                let (left, wait, cycle) = cycles.lock().look(now);
                (left, wait, Some(cycle))
            }
            Permits::Smooth(account) => {
                let (left, wait) = account.look(now);
                (left, wait, None)
            }
        }
    }

    pub(super) fn limit(&self) -> u32 {
        u32::try_from(self.limit.load(Ordering::Relaxed)).unwrap_or(u32::MAX)
    }

    #[inline]
    pub(super) fn timeout(&self) -> u64 {
        self.timeout.load(Ordering::Relaxed)
    }

    pub(super) fn change_timeout(&self, timeout: u64) {
        self.timeout.store(timeout, Ordering::Relaxed);
    }

    pub(super) fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(super) fn wait_begins(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn wait_ends(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The account of a [`Pace`] in one word.
///
/// A change of pace puts `NO_ACCOUNT` there while it stores the new one, and another account afterwards. So a request
/// that has read parts of two paces finds the word changed, whether it was to be granted or refused, and begins again.
#[derive(Debug)]
struct Account {
    spent: AtomicU64,
    interval: AtomicU64,
    span: AtomicU64,
    changing: Mutex<()>,
}

impl Account {
    fn new(pace: Pace) -> Self {
        Self {
            spent: AtomicU64::new(0),
            interval: AtomicU64::new(pace.interval),
            span: AtomicU64::new(pace.span),
            changing: Mutex::new(()),
        }
    }

    #[inline]
    fn reserve(&self, now: u64, permits: u32, longest: u64) -> Result<Taken, Refusal> {
        let mut spent = self.spent();
        loop {
            match self.pace().reserve(spent, now, permits, longest) {
                Ok(taken) => {
                    let taking =
                        self.spent.compare_exchange_weak(spent, taken.after, Ordering::AcqRel, Ordering::Relaxed);
                    if taking.is_ok() {
                        return Ok(taken);
                    }
                }
                Err(refusal) if self.spent.load(Ordering::Relaxed) == spent => return Err(refusal),
                Err(_) => {}
            }
            spent = self.spent();
        }
    }

    fn give_back(&self, taken: Taken) {
        // Where it fails, permits were taken since, and their due moments were reckoned after these.
        let _ = self.spent.compare_exchange(taken.after, taken.before, Ordering::AcqRel, Ordering::Relaxed);
    }

    fn drain(&self, now: u64) -> u32 {
        loop {
            let (spent, pace) = (self.spent(), self.pace());
            let drained = spent.max(Pace::drained(now));
            if self.spent.compare_exchange_weak(spent, drained, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                let (left, _) = pace.look(spent, now);
                return u32::try_from(left.max(0)).unwrap_or(u32::MAX);
            }
        }
    }

    fn change(&self, new: Pace, now: u64) {
        let _one_at_a_time = self.changing.lock();
        let old = self.pace();
        if old == new {
            return;
        }
        let spent = self.spent.swap(NO_ACCOUNT, Ordering::AcqRel);
        self.interval.store(new.interval, Ordering::Release);
        self.span.store(new.span, Ordering::Release);
        let changed = old.changed(new, spent, now);
        let changed = if changed == spent { spent + 1 } else { changed };
        self.spent.store(changed.min(NO_ACCOUNT - 1), Ordering::Release);
    }

    fn look(&self, now: u64) -> (i64, u64) {
        let _no_change = self.changing.lock();
        self.pace().look(self.spent.load(Ordering::Relaxed), now)
    }

    #[inline]
    fn spent(&self) -> u64 {
        loop {
            let spent = self.spent.load(Ordering::Acquire);
            if spent != NO_ACCOUNT {
                return spent;
            }
            drop(self.changing.lock());
        }
    }

    /// Read after the account: a value of a change that is under way shows that the account is no longer the one read.
    #[inline]
    fn pace(&self) -> Pace {
        Pace { interval: self.interval.load(Ordering::Acquire), span: self.span.load(Ordering::Acquire) }
    }
}
