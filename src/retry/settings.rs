//! The settings in force, and those that calls under way started with.

use std::{collections::VecDeque, sync::Arc};

use super::Config;
use crate::{
    backoff::IntervalFunction,
    sync::{AtomicU64, Mutex, Ordering},
};

/// How many earlier settings are kept for calls under way.
const MOST_EARLIER: usize = 8;

#[derive(Debug)]
pub(super) struct Settings {
    /// What a call must know before it fails: see [`Started`].
    started: AtomicU64,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    now: Arc<Rules>,
    /// Those before, oldest first, up to the ones just before `now`.
    earlier: VecDeque<Arc<Rules>>,
}

#[derive(Debug)]
pub(super) struct Rules {
    pub(super) config: Config,
    pub(super) interval: IntervalFunction,
    started: Started,
}

/// The number of the settings a call started with, whether they time it, and whether they let it have a second attempt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Started(u64);

impl Started {
    const NEXT: u64 = 4;
    const TIMED: u64 = 2;
    const REPEATED: u64 = 1;

    fn new(number: u64, config: &Config) -> Self {
        let timed = if config.max_duration.is_some() { Self::TIMED } else { 0 };
        let repeated = if config.max_attempts > 1 { Self::REPEATED } else { 0 };
        Self((number * Self::NEXT) | timed | repeated)
    }

    #[inline]
    pub(super) fn is_timed(self) -> bool {
        self.0 & Self::TIMED != 0
    }

    #[inline]
    pub(super) fn is_repeated(self) -> bool {
        self.0 & Self::REPEATED != 0
    }

    fn number(self) -> u64 {
        self.0 / Self::NEXT
    }
}

impl Rules {
    fn new(number: u64, config: Config) -> Arc<Self> {
        Arc::new(Self { started: Started::new(number, &config), interval: config.interval(), config })
    }
}

impl Settings {
    pub(super) fn new(config: Config) -> Self {
        let now = Rules::new(0, config);
        let started = AtomicU64::new(now.started.0);
        Self { started, kept: Mutex::new(Kept { now, earlier: VecDeque::new() }) }
    }

    /// For a call that starts.
    #[inline]
    pub(super) fn started(&self) -> Started {
        Started(self.started.load(Ordering::Relaxed))
    }

    pub(super) fn now(&self) -> Arc<Rules> {
        Arc::clone(&self.kept.lock().now)
    }

    /// Those that a call started with, as long as they are kept.
    #[cold]
    pub(super) fn of(&self, call: Started) -> Arc<Rules> {
        let kept = self.kept.lock();
        let ago = kept.now.started.number() - call.number();
        let of = match usize::try_from(ago).unwrap_or(usize::MAX) {
            0 => &kept.now,
            ago => kept.earlier.get(kept.earlier.len().saturating_sub(ago)).unwrap_or(&kept.now),
        };
        Arc::clone(of)
    }

    pub(super) fn change(&self, config: Config) {
        let mut kept = self.kept.lock();
        let next = Rules::new(kept.now.started.number() + 1, config);
        self.started.store(next.started.0, Ordering::Relaxed);
        let before = std::mem::replace(&mut kept.now, next);
        kept.earlier.push_back(before);
        let gone = if kept.earlier.len() > MOST_EARLIER { kept.earlier.pop_front() } else { None };
        // A function of the user's in them is dropped outside the lock.
        drop(kept);
        drop(gone);
    }
}
