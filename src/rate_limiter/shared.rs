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
///
/// One of the two accounts is in force; the other is closed, and sends whoever comes to it back to look again.
#[derive(Debug)]
pub(super) struct Shared {
    cycles: Mutex<Cycles>,
    account: Account,
    limit: AtomicU64,
    timeout: AtomicU64,
    waiting: AtomicU64,
    /// Held while they are changed.
    config: Mutex<Config>,
}

impl Shared {
    pub(super) fn new(config: Config, now: u64) -> Self {
        let limit = config.limit_for_period;
        let smooth = config.algorithm == Algorithm::Smooth;
        let mut cycles = Cycles::new(config.period(), limit, now);
        cycles.closed = smooth;
        Self {
            cycles: Mutex::new(cycles),
            account: Account::new(smooth.then(|| config.pace())),
            limit: AtomicU64::new(limit.into()),
            timeout: AtomicU64::new(nanos(config.timeout_duration)),
            waiting: AtomicU64::new(0),
            config: Mutex::new(config),
        }
    }

    #[inline]
    pub(super) fn reserve(&self, now: u64, permits: u32, longest: u64) -> Result<Taken, Refusal> {
        if permits == 0 {
            return Err(Refusal::Never);
        }
        loop {
            let reserved = match self.account.is_open() {
                true => self.account.reserve(now, permits, longest),
                false => self.reserve_in_cycles(now, permits, longest),
            };
            if let Some(reserved) = reserved {
                return reserved;
            }
            self.wait_for_a_change();
        }
    }

    /// Both accounts are closed for a moment when another algorithm comes: until the lock is free.
    #[cold]
    fn wait_for_a_change(&self) {
        drop(self.config.lock());
    }

    /// A call of its own, so that the shorter way is inlined where permits are taken.
    #[inline(never)]
    fn reserve_in_cycles(&self, now: u64, permits: u32, longest: u64) -> Option<Result<Taken, Refusal>> {
        let mut cycles = self.cycles.lock();
        (!cycles.closed).then(|| cycles.reserve(now, permits, longest))
    }

    /// What was taken from an account that is closed by now stays taken.
    pub(super) fn give_back(&self, taken: Taken, permits: u32) {
        let mut cycles = self.cycles.lock();
        if cycles.closed {
            drop(cycles);
            self.account.give_back(taken);
        } else {
            cycles.give_back(taken, permits);
        }
    }

    /// Returns how many permits were left.
    pub(super) fn drain(&self, now: u64) -> u32 {
        loop {
            if let Some(left) = self.account.drain(now) {
                return left;
            }
            let mut cycles = self.cycles.lock();
            if !cycles.closed {
                return cycles.drain(now);
            }
            drop(cycles);
            self.wait_for_a_change();
        }
    }

    pub(super) fn config(&self) -> Config {
        self.config.lock().clone()
    }

    /// Goes on by what `to` makes of the settings.
    pub(super) fn change<E>(&self, now: u64, to: impl FnOnce(&Config) -> Result<Config, E>) -> Result<(), E> {
        let mut config = self.config.lock();
        let new = to(&config)?;
        match (config.algorithm, new.algorithm) {
            (Algorithm::FixedCycle, Algorithm::FixedCycle) => {
                self.cycles.lock().change(new.period(), new.limit_for_period, now);
            }
            (Algorithm::Smooth, Algorithm::Smooth) if new.pace() == config.pace() => {}
            (Algorithm::Smooth, Algorithm::Smooth) => self.account.change(new.pace(), now),
            (Algorithm::FixedCycle, Algorithm::Smooth) => {
                let left = self.cycles.lock().close(now);
                self.account.open(new.pace(), left, now);
            }
            (Algorithm::Smooth, Algorithm::FixedCycle) => {
                let left = self.account.close(now);
                self.cycles.lock().open(new.period(), new.limit_for_period, left, now);
            }
        }
        self.limit.store(new.limit_for_period.into(), Ordering::Relaxed);
        self.timeout.store(nanos(new.timeout_duration), Ordering::Relaxed);
        *config = new;
        Ok(())
    }

    /// The permits left, the wait for one, and the cycle if there are cycles.
    pub(super) fn look(&self, now: u64) -> (i64, u64, Option<u64>) {
        loop {
            if let Some((left, wait)) = self.account.look(now) {
                return (left, wait, None);
            }
            let cycles = self.cycles.lock();
            if !cycles.closed {
                let (left, wait, cycle) = cycles.look(now);
                return (left, wait, Some(cycle));
            }
            drop(cycles);
            self.wait_for_a_change();
        }
    }

    pub(super) fn limit(&self) -> u32 {
        u32::try_from(self.limit.load(Ordering::Relaxed)).unwrap_or(u32::MAX)
    }

    #[inline]
    pub(super) fn timeout(&self) -> u64 {
        self.timeout.load(Ordering::Relaxed)
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

/// The account of a [`Pace`] in one word, and the pace, which may change; no pace where the account is closed.
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

/// In place of a pace: no permit costs nothing.
const CLOSED: Pace = Pace { interval: 0, span: 0 };

/// What a closed account shows, so that nobody who read it while it was open can still take from it.
const NOTHING: u64 = u64::MAX;

impl Account {
    fn new(pace: Option<Pace>) -> Self {
        let spent = if pace.is_some() { 0 } else { NOTHING };
        let pace = pace.unwrap_or(CLOSED);
        Self {
            spent: AtomicU64::new(spent),
            version: AtomicU64::new(0),
            interval: AtomicU64::new(pace.interval),
            span: AtomicU64::new(pace.span),
            changing: Mutex::new(pace),
        }
    }

    /// Whether it was just now; `reserve` makes sure.
    #[inline]
    fn is_open(&self) -> bool {
        self.interval.load(Ordering::Relaxed) != CLOSED.interval
    }

    /// `None` where the account is closed.
    #[inline]
    fn reserve(&self, now: u64, permits: u32, longest: u64) -> Option<Result<Taken, Refusal>> {
        loop {
            let (spent, pace) = self.read();
            if pace == CLOSED {
                return None;
            }
            let taken = match pace.reserve(spent, now, permits, longest) {
                Ok(taken) => taken,
                Err(refusal) => return Some(Err(refusal)),
            };
            if self.replace(spent, taken.after) {
                return Some(Ok(taken));
            }
        }
    }

    fn give_back(&self, taken: Taken) {
        // Where it fails, permits were taken since, and their due moments were reckoned after these.
        let _ = self.spent.compare_exchange(taken.after, taken.before, Ordering::AcqRel, Ordering::Relaxed);
    }

    fn drain(&self, now: u64) -> Option<u32> {
        loop {
            let (spent, pace) = self.read();
            if pace == CLOSED {
                return None;
            }
            if self.replace(spent, spent.max(Pace::drained(now))) {
                let (left, _) = pace.look(spent, now);
                return Some(u32::try_from(left.max(0)).unwrap_or(u32::MAX));
            }
        }
    }

    fn change(&self, new: Pace, now: u64) {
        self.turn_to(new, |old, spent| old.changed(new, spent, now));
    }

    /// Goes on with what is left of a closed one's permits.
    fn open(&self, new: Pace, left: i128, now: u64) {
        self.turn_to(new, |_, _| new.opened(left, now));
    }

    /// Returns the permits left; negative where they are owed.
    fn close(&self, now: u64) -> i128 {
        let (old, spent) = self.turn_to(CLOSED, |_, _| NOTHING);
        old.left(spent, now)
    }

    /// Returns what was before.
    fn turn_to(&self, new: Pace, account: impl Fn(Pace, u64) -> u64) -> (Pace, u64) {
        let mut pace = self.changing.lock();
        let old = mem::replace(&mut *pace, new);
        self.version.fetch_add(1, Ordering::AcqRel);
        self.interval.store(new.interval, Ordering::Release);
        self.span.store(new.span, Ordering::Release);
        let before = loop {
            let spent = self.spent.load(Ordering::Acquire);
            if self.replace(spent, account(old, spent)) {
                break spent;
            }
        };
        self.version.fetch_add(1, Ordering::Release);
        (old, before)
    }

    fn look(&self, now: u64) -> Option<(i64, u64)> {
        let (spent, pace) = self.read();
        (pace != CLOSED).then(|| pace.look(spent, now))
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
    use std::time::Duration;

    use loom::{sync::Arc, thread};

    use super::*;

    const PACE: Pace = Pace { interval: 10, span: 20 };
    const NOW: u64 = 1_000;

    fn account() -> Arc<Account> {
        Arc::new(Account::new(Some(PACE)))
    }

    fn taken(account: &Account, permits: u32, longest: u64) -> Result<Taken, Refusal> {
        account.reserve(NOW, permits, longest).expect("it is open")
    }

    #[test]
    fn threads_together_never_get_more_than_the_burst() {
        loom::model(|| {
            let account = account();
            let others: Vec<_> = (0..2)
                .map(|_| {
                    let account = Arc::clone(&account);
                    thread::spawn(move || taken(&account, 1, 0).is_ok())
                })
                .collect();
            let own = taken(&account, 1, 0).is_ok();
            let admitted = others.into_iter().map(|other| other.join().unwrap()).filter(|admitted| *admitted).count();
            assert_eq!(admitted + usize::from(own), 2);
        });
    }

    #[test]
    fn what_is_given_back_is_neither_lost_nor_doubled() {
        loom::model(|| {
            let account = account();
            taken(&account, 2, 0).unwrap();
            let waiter = Arc::clone(&account);
            let waiter = thread::spawn(move || {
                let taken = taken(&waiter, 1, 100).unwrap();
                waiter.give_back(taken);
            });
            let due = taken(&account, 1, 100).unwrap().due;
            waiter.join().unwrap();
            let (left, _) = account.look(NOW).unwrap();
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
            let other = thread::spawn(move || taken(&other, 1, 0).is_ok());
            let left = account.drain(NOW).unwrap();
            let admitted = other.join().unwrap();
            assert_eq!(left + u32::from(admitted), 2);
            assert_eq!(account.look(NOW).unwrap().0, 0);
        });
    }

    #[test]
    fn a_change_of_pace_is_seen_whole() {
        loom::model(|| {
            let account = account();
            taken(&account, 1, 0).unwrap();
            let changer = Arc::clone(&account);
            let changer = thread::spawn(move || changer.change(Pace { interval: 4, span: 50 }, NOW));
            // One permit is left, under either pace.
            let [old, new] = [10, 4].map(|wait| Refusal::Later { wait, retry_after: wait });
            let refusal = taken(&account, 2, 0).unwrap_err();
            assert!(refusal == old || refusal == new, "{refusal:?}");
            changer.join().unwrap();
        });
    }

    #[test]
    fn a_permit_taken_while_the_algorithm_changes_is_taken_once() {
        let config = |algorithm| {
            let config = Config::default().algorithm(algorithm).timeout_duration(Duration::ZERO);
            config.limit_for_period(2).limit_refresh_period(Duration::from_nanos(20))
        };
        for [from, to] in [[Algorithm::Smooth, Algorithm::FixedCycle], [Algorithm::FixedCycle, Algorithm::Smooth]] {
            let mut builder = loom::model::Builder::new();
            builder.preemption_bound = Some(3);
            builder.check(move || {
                let shared = Arc::new(Shared::new(config(from), NOW));
                let others: Vec<_> = (0..2)
                    .map(|number| {
                        let shared = Arc::clone(&shared);
                        thread::spawn(move || match number {
                            0 => shared.reserve(NOW, 1, 0).is_ok(),
                            _ => shared.change(NOW, |_| Ok::<_, Refusal>(config(to))).is_err(),
                        })
                    })
                    .collect();
                let own = shared.reserve(NOW, 1, 0).is_ok();
                let admitted: Vec<_> = others.into_iter().map(|other| other.join().unwrap()).collect();
                assert_eq!((own, admitted), (true, vec![true, false]));
                assert_eq!(shared.look(NOW).0, 0);
            });
        }
    }
}
