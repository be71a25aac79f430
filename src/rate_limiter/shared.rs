use std::mem;

use super::{
    config::{Algorithm, Config},
    state::{Cycles, Pace, Refusal, Taken},
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
    changing_limit: Mutex<()>,
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
            changing_limit: Mutex::new(()),
        }
    }

    #[inline]
    pub(super) fn reserve(&self, now: u64, permits: u32, longest: u64) -> Result<Taken, Refusal> {
        if permits == 0 {
            return Err(Refusal::Never);
        }
        match &self.permits {
            Permits::FixedCycle(cycles) => Self::reserve_in(cycles, now, permits, longest),
            Permits::Smooth(account) => account.reserve(now, permits, longest),
        }
    }

    /// A call of its own, so that the shorter way is inlined where permits are taken.
    #[inline(never)]
    fn reserve_in(cycles: &Mutex<Cycles>, now: u64, permits: u32, longest: u64) -> Result<Taken, Refusal> {
        cycles.lock().reserve(now, permits, longest)
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
        let _one_at_a_time = self.changing_limit.lock();
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

/// The account of a [`Pace`] in one word, and the pace, which may change.
///
/// The version is odd while the pace is being changed, so that a pace is read whole or again.
#[derive(Debug)]
struct Account {
    spent: AtomicU64,
    version: AtomicU64,
    interval: AtomicU64,
    span: AtomicU64,
    changing: Mutex<Pace>,
}

impl Account {
    fn new(pace: Pace) -> Self {
        Self {
            spent: AtomicU64::new(0),
            version: AtomicU64::new(0),
            interval: AtomicU64::new(pace.interval),
            span: AtomicU64::new(pace.span),
            changing: Mutex::new(pace),
        }
    }

    #[inline]
    fn reserve(&self, now: u64, permits: u32, longest: u64) -> Result<Taken, Refusal> {
        loop {
            let (spent, pace) = self.read();
            let taken = pace.reserve(spent, now, permits, longest)?;
            if self.replace(spent, taken.after) {
                return Ok(taken);
            }
        }
    }

    fn give_back(&self, taken: Taken) {
        // Where it fails, permits were taken since, and their due moments were reckoned after these.
        let _ = self.spent.compare_exchange(taken.after, taken.before, Ordering::AcqRel, Ordering::Relaxed);
    }

    fn drain(&self, now: u64) -> u32 {
        loop {
            let (spent, pace) = self.read();
            if self.replace(spent, spent.max(Pace::drained(now))) {
                let (left, _) = pace.look(spent, now);
                return u32::try_from(left.max(0)).unwrap_or(u32::MAX);
            }
        }
    }

    fn change(&self, new: Pace, now: u64) {
        let mut pace = self.changing.lock();
        let old = mem::replace(&mut *pace, new);
        self.version.fetch_add(1, Ordering::AcqRel);
        self.interval.store(new.interval, Ordering::Release);
        self.span.store(new.span, Ordering::Release);
        loop {
            let spent = self.spent.load(Ordering::Acquire);
            if self.replace(spent, old.changed(new, spent, now)) {
                break;
            }
        }
        self.version.fetch_add(1, Ordering::Release);
    }

    fn look(&self, now: u64) -> (i64, u64) {
        let (spent, pace) = self.read();
        pace.look(spent, now)
    }

    /// All of one version: an acquiring load that sees a value of a later one makes the last load see its version.
    #[inline]
    fn read(&self) -> (u64, Pace) {
        loop {
            let version = self.version.load(Ordering::Acquire);
            let spent = self.spent.load(Ordering::Acquire);
            let (interval, span) = (self.interval.load(Ordering::Acquire), self.span.load(Ordering::Acquire));
            if version % 2 == 0 && self.version.load(Ordering::Relaxed) == version {
                return (spent, Pace { interval, span });
            }
            drop(self.changing.lock());
        }
    }

    #[inline]
    fn replace(&self, spent: u64, by: u64) -> bool {
        self.spent.compare_exchange_weak(spent, by, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

#[cfg(all(test, resile_loom))]
mod models {
    use loom::{sync::Arc, thread};

    use super::*;

    const PACE: Pace = Pace { interval: 10, span: 20 };
    const NOW: u64 = 1_000;

    fn account() -> Arc<Account> {
        Arc::new(Account::new(PACE))
    }

    #[test]
    fn threads_together_never_get_more_than_the_burst() {
        loom::model(|| {
            let account = account();
            let others: Vec<_> = (0..2)
                .map(|_| {
                    let account = Arc::clone(&account);
                    thread::spawn(move || account.reserve(NOW, 1, 0).is_ok())
                })
                .collect();
            let own = account.reserve(NOW, 1, 0).is_ok();
            let admitted = others.into_iter().map(|other| other.join().unwrap()).filter(|admitted| *admitted).count();
            assert_eq!(admitted + usize::from(own), 2);
        });
    }

    #[test]
    fn what_is_given_back_is_neither_lost_nor_doubled() {
        loom::model(|| {
            let account = account();
            account.reserve(NOW, 2, 0).unwrap();
            let waiter = Arc::clone(&account);
            let waiter = thread::spawn(move || {
                let taken = waiter.reserve(NOW, 1, 100).unwrap();
                waiter.give_back(taken);
            });
            let due = account.reserve(NOW, 1, 100).unwrap().due;
            waiter.join().unwrap();
            let (left, _) = account.look(NOW);
            // Given back: one permit is reserved. Not given back, since one was taken after it: two are.
            match due {
                due if due == NOW + 10 => assert_eq!(left, -1),
                due => assert_eq!((due, left), (NOW + 20, -2)),
            }
        });
    }

    #[test]
    fn a_drain_leaves_nothing_and_never_raises() {
        loom::model(|| {
            let account = account();
            let other = Arc::clone(&account);
            let other = thread::spawn(move || other.reserve(NOW, 1, 0).is_ok());
            let left = account.drain(NOW);
            let admitted = other.join().unwrap();
            assert_eq!(left + u32::from(admitted), 2);
            assert_eq!(account.look(NOW).0, 0);
        });
    }

    #[test]
    fn a_change_of_pace_is_seen_whole() {
        loom::model(|| {
            let account = account();
            account.reserve(NOW, 1, 0).unwrap();
            let changer = Arc::clone(&account);
            let changer = thread::spawn(move || changer.change(Pace { interval: 4, span: 50 }, NOW));
            // One permit is left, under either pace.
            let [old, new] = [10, 4].map(|wait| Refusal::Later { wait, retry_after: wait });
            let refusal = account.reserve(NOW, 2, 0).unwrap_err();
            assert!(refusal == old || refusal == new, "{refusal:?}");
            changer.join().unwrap();
        });
    }
}
