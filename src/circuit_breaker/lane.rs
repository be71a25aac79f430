//! The words in which threads count without the lock: what [`Shared`](super::shared::Shared) is made of.

use std::hint;

use super::state::GENERATION_MASK;
use crate::{
    event::State,
    sync::{AtomicU64, Ordering},
    tally::Part,
};

/// State (3 bits), generation (36), held (1), plain successes left (24), from the top.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word(u64);

impl Word {
    const LEFT_BITS: u32 = 24;
    const MAX_LEFT: u32 = (1 << Self::LEFT_BITS) - 1;
    const HELD: u64 = 1 << Self::LEFT_BITS;
    const GENERATION_SHIFT: u32 = Self::LEFT_BITS + 1;
    const STATE_SHIFT: u32 = 61;
    /// Of a lane that is not in use: held, in no state, so that whoever comes looks inside.
    pub(super) const UNPUBLISHED: Self = Self(7 << Self::STATE_SHIFT | Self::HELD);

    pub(super) fn new(state: State, generation: u64, left: u32) -> Self {
        let state = match state {
            State::Closed => 0,
            State::MetricsOnly => 1,
            State::Disabled => 2,
            State::Open => 3,
            State::ForcedOpen => 4,
            State::HalfOpen => 5,
        };
        let generation = (generation & GENERATION_MASK) << Self::GENERATION_SHIFT;
        Self(state << Self::STATE_SHIFT | generation | u64::from(left.min(Self::MAX_LEFT)))
    }

    pub(super) fn state(self) -> State {
        match self.0 >> Self::STATE_SHIFT {
            0 => State::Closed,
            1 => State::MetricsOnly,
            2 => State::Disabled,
            3 => State::Open,
            4 => State::ForcedOpen,
            _ => State::HalfOpen,
        }
    }

    /// Whether calls are admitted without a look inside. Somebody else's look holds nobody up: the state is what it was until
    /// that ends.
    #[inline]
    pub(super) fn admits(self) -> bool {
        self.0 >> Self::STATE_SHIFT <= 2
    }

    #[inline]
    pub(super) fn generation(self) -> u64 {
        self.0 >> Self::GENERATION_SHIFT & GENERATION_MASK
    }

    /// Whether somebody is changing the state just now.
    #[inline]
    pub(super) fn is_held(self) -> bool {
        self.0 & Self::HELD != 0
    }

    pub(super) fn left(self) -> u32 {
        self.0 as u32 & Self::MAX_LEFT
    }
}

/// What a lane's owner has counted: the generation (36 bits), and how many since the owner last looked inside (28).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Run(u64);

impl Run {
    const CALLS_BITS: u32 = 28;
    pub(super) const MOST_CALLS: u32 = (1 << Self::CALLS_BITS) - 1;

    pub(super) fn new(generation: u64, calls: u32) -> Self {
        Self((generation & GENERATION_MASK) << Self::CALLS_BITS | u64::from(calls))
    }

    #[inline]
    pub(super) fn generation(self) -> u64 {
        self.0 >> Self::CALLS_BITS
    }

    pub(super) fn calls(self) -> u32 {
        self.0 as u32 & Self::MOST_CALLS
    }
}

/// How long a success waits for somebody else's look.
const SPINS: u32 = if cfg!(resile_loom) { 0 } else { 100 };

/// Where plain successes are counted, and rejections.
#[derive(Debug)]
pub(super) struct Lane {
    word: AtomicU64,
    /// The thread that alone writes `run`, for good; 0 while there is none.
    owner: AtomicU64,
    run: AtomicU64,
    /// The run at which the owner must look inside; 0 where it always must.
    limit: AtomicU64,
    pub(super) rejections: Part,
}

impl Lane {
    /// Held until a state is published in it.
    pub(super) fn held() -> Self {
        let zero = || AtomicU64::new(0);
        let word = AtomicU64::new(Word::UNPUBLISHED.0);
        Self { word, owner: zero(), run: zero(), limit: zero(), rejections: Part::new() }
    }

    #[inline]
    pub(super) fn belongs_to(&self, thread: u64) -> bool {
        self.owner.load(Ordering::Relaxed) == thread
    }

    /// For who holds the lock, of a lane that belongs to nobody.
    pub(super) fn give_to(&self, thread: u64) {
        self.owner.store(thread, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn word(&self) -> Word {
        Word(self.word.load(Ordering::Acquire))
    }

    /// The word, once nobody is looking inside, as far as that is worth waiting for: a look is a few instructions, and to
    /// join the queue for the lock would make another wait as long.
    pub(super) fn word_in_rest(&self) -> Word {
        let mut word = self.word();
        for _ in 0..SPINS {
            if !word.is_held() {
                break;
            }
            hint::spin_loop();
            word = self.word();
        }
        word
    }

    pub(super) fn run(&self) -> Run {
        Run(self.run.load(Ordering::Acquire))
    }

    /// Counts a success that its owner has finished in time, if it may in a run of that generation.
    #[inline(always)]
    pub(super) fn count_own(&self, generation: u64, in_time: impl FnOnce() -> bool) -> bool {
        let run = self.run.load(Ordering::Relaxed);
        // The limit is of the run's generation, or none.
        let counts = Run(run).generation() == generation & GENERATION_MASK
            && run < self.limit.load(Ordering::Acquire)
            && in_time();
        if counts {
            self.run.store(run + 1, Ordering::Release);
        }
        counts
    }

    /// Counts a success in the word as it is: what the word has become where that fails.
    pub(super) fn count_in(&self, word: Word) -> Result<(), Word> {
        // Success publishes nothing but the count itself, and the count is read by whoever holds the word.
        let counted = self.word.compare_exchange_weak(word.0, word.0 - 1, Ordering::AcqRel, Ordering::Acquire);
        counted.map(drop).map_err(Word)
    }

    /// Turns everybody to the lock. What the word and the run have come to.
    pub(super) fn hold(&self) -> (Word, Run) {
        let word = Word(self.word.fetch_or(Word::HELD, Ordering::AcqRel));
        self.limit.store(0, Ordering::Release);
        (word, self.run())
    }

    /// For its owner, who holds the lock.
    pub(super) fn begin(&self, run: Run) {
        self.run.store(run.0, Ordering::Relaxed);
    }

    /// Opens the lane again, with a part of a run for its owner if it has one.
    pub(super) fn publish(&self, word: Word, limit: Option<Run>) {
        self.limit.store(limit.map_or(0, |limit| limit.0), Ordering::Release);
        self.word.store(word.0, Ordering::Release);
    }
}

/// How many plain successes may be counted in a lane; while the lock is held, how many of them have been.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Given {
    pub(super) by_owner: u32,
    pub(super) by_word: u32,
    /// The owner's run as it was last seen.
    pub(super) seen: Run,
}

/// A part of a run of plain successes: as many as there are, where there is no end to them. A short run is divided between
/// those who have counted since the last look, and who is here already.
pub(super) fn share(run: u32, parts: u32, used: u32, here: bool) -> u32 {
    let part = run / parts;
    let share = match () {
        () if run == u32::MAX => run,
        () if here => run - part * (parts - 1),
        () if used > 0 => part,
        () => 0,
    };
    share.min(Word::MAX_LEFT)
}
