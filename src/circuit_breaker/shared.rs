//! What the threads share: the whole state behind a short lock, and a few words that answer most calls without it.
//!
//! Each word says the state, the generation, and how many plain successes (neither failed nor slow) may still be counted
//! in it without a look inside, because together they can change nothing but the number of calls. Counting one takes a
//! single compare-and-swap, which fails if the generation has changed, so a late result is never counted. Whoever needs
//! more takes the lock, marks every word as held, which turns the others to the lock too, and first counts the successes
//! so far. So all results have one order, and the rates are exact.
//!
//! There is one word until two threads meet in it, and from then on a few, each on a cache line of its own: most of many
//! breakers never need them.

#[cfg(not(resile_loom))]
use std::sync::atomic::AtomicUsize;
use std::{array, sync::Arc, time::Duration};

use super::{
    config::Config,
    state::{Asked, Core, GENERATION_MASK, Rates, Refusal},
};
use crate::{
    clock::Instant,
    event::State,
    sync::{AtomicU64, Mutex, MutexGuard, OnceLock, Ordering},
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

    fn new(state: State, generation: u64, left: u32) -> Self {
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

    /// Whether calls are admitted without a look inside.
    #[inline]
    pub(super) fn admits(self) -> bool {
        self.0 >> Self::STATE_SHIFT <= 2 && !self.is_held()
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

    fn left(self) -> u32 {
        self.0 as u32 & Self::MAX_LEFT
    }
}

/// What became of a plain success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    /// It is in the window.
    Yes,
    /// The breaker is disabled and counts nothing.
    Unwatched,
    /// Somebody must look inside.
    LookInside,
}

/// How many words there are where threads meet: a power of two.
const CELLS: usize = if cfg!(resile_loom) { 2 } else { 4 };

/// A word on a cache line of its own.
#[derive(Debug)]
#[repr(align(64))]
struct Cell(AtomicU64);

/// As many as there can be, held until a state is published in them.
fn held_cells() -> Box<[Cell; CELLS]> {
    Box::new(array::from_fn(|_| Cell(AtomicU64::new(Word::HELD))))
}

/// The word that this thread counts in. Threads take turns, so that few share one.
#[inline]
fn own_cell() -> usize {
    #[cfg(not(resile_loom))]
    {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static TURN: usize = THREADS.fetch_add(1, Ordering::Relaxed);
        }
        TURN.with(|turn| turn % CELLS)
    }
    #[cfg(resile_loom)]
    0
}

#[derive(Debug)]
pub(super) struct Shared {
    /// The only word, and held for ever once there are others.
    first: AtomicU64,
    cells: OnceLock<Box<[Cell; CELLS]>>,
    /// The last moment at which plain successes may be counted so.
    plain_until: AtomicU64,
    not_permitted: AtomicU64,
    /// In the open state, the last moment of a refusal.
    last_refused: AtomicU64,
    /// The two rates that the state was entered with, as bits of `f32`, NaN for none, and the calls they are of.
    rates: AtomicU64,
    calls: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    core: Core,
    /// How many plain successes each word was given.
    granted: [u32; CELLS],
}

impl Shared {
    pub(super) fn new(core: Core) -> Self {
        let shared = Self {
            first: AtomicU64::new(Word::HELD),
            cells: OnceLock::new(),
            plain_until: AtomicU64::new(0),
            not_permitted: AtomicU64::new(0),
            last_refused: AtomicU64::new(0),
            rates: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            inner: Mutex::new(Inner { core, granted: [0; CELLS] }),
        };
        drop(shared.hold());
        shared
    }

    #[inline]
    pub(super) fn word(&self) -> Word {
        self.word_in(own_cell)
    }

    #[inline]
    fn word_in(&self, cell: impl Fn() -> usize) -> Word {
        Word(self.cell(cell).load(Ordering::Acquire))
    }

    #[inline]
    fn cell(&self, cell: impl Fn() -> usize) -> &AtomicU64 {
        self.cells.get().map_or(&self.first, |cells| &cells[cell()].0)
    }

    /// How many words there are now. Changes only under the lock.
    fn words(&self) -> usize {
        self.cells.get().map_or(1, |cells| cells.len())
    }

    /// From now on threads count in words of their own.
    #[cold]
    fn spread(&self) {
        let held = self.hold();
        self.cells.get_or_init(held_cells);
        drop(held);
    }

    /// The settings in force.
    pub(super) fn config(&self) -> Arc<Config> {
        Arc::clone(self.inner.lock().core.rules())
    }

    /// Counts a plain success of a call admitted in `generation` that finished at `now`, if that needs no look inside.
    #[inline(always)]
    pub(super) fn count_plain(&self, generation: u64, now: Instant) -> Counted {
        self.count_plain_in(own_cell, generation, now)
    }

    #[inline(always)]
    fn count_plain_in(&self, cell: impl Fn() -> usize, generation: u64, now: Instant) -> Counted {
        loop {
            let counts = self.cell(&cell);
            let word = Word(counts.load(Ordering::Acquire));
            if word.generation() != generation & GENERATION_MASK || word.is_held() {
                return Counted::LookInside;
            }
            if word.left() == 0 || now.as_nanos() > self.plain_until.load(Ordering::Relaxed) {
                let unwatched = word.state() == State::Disabled;
                return if unwatched { Counted::Unwatched } else { Counted::LookInside };
            }
            // Success publishes nothing but the count itself, and the count is read by whoever holds the word.
            match counts.compare_exchange_weak(word.0, word.0 - 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Counted::Yes,
                Err(changed) if changed != word.0 && !Word(changed).is_held() && self.words() == 1 => self.spread(),
                Err(_) => {}
            }
        }
    }

    /// Refuses without a look inside, if the state is sure to.
    pub(super) fn refuse(&self, now: Instant) -> Option<Refusal> {
        self.refuse_in(own_cell, now)
    }

    fn refuse_in(&self, cell: impl Fn() -> usize, now: Instant) -> Option<Refusal> {
        let word = self.word_in(&cell);
        let state = word.state();
        let last_refused = self.last_refused.load(Ordering::Acquire);
        let refuses = match state {
            State::Open => now.as_nanos() <= last_refused,
            State::ForcedOpen => true,
            _ => false,
        };
        let (rates, calls) = (self.rates.load(Ordering::Acquire), self.calls.load(Ordering::Acquire));
        // The numbers are of one state only if the word has stood still meanwhile.
        if !refuses || word.is_held() || self.word_in(&cell) != word {
            return None;
        }
        let rate = |bits: u32| Some(f32::from_bits(bits)).filter(|rate| !rate.is_nan());
        let rates = Rates { failure: rate((rates >> 32) as u32), slow: rate(rates as u32), calls: calls as u32 };
        let retry_after = (state == State::Open && last_refused < u64::MAX)
            .then(|| Duration::from_nanos((last_refused - now.as_nanos()).saturating_add(1)));
        self.count_not_permitted();
        Some(Refusal { state, rates, retry_after })
    }

    pub(super) fn count_not_permitted(&self) {
        self.not_permitted.fetch_add(1, Ordering::Relaxed);
    }

    /// All rejections ever.
    pub(super) fn not_permitted(&self) -> u64 {
        self.not_permitted.load(Ordering::Relaxed)
    }

    /// Looks inside at `now`, after all transitions that are due. `ask` tells the wait of the open state where only code
    /// of the user's can; it is called without the lock, and by one thread only.
    pub(super) fn look<R>(
        &self,
        now: Instant,
        listening: bool,
        ask: impl Fn(u32) -> Duration,
        decide: impl FnOnce(&mut Core) -> R,
    ) -> R {
        let mut decide = Some(decide);
        let mut decided = None;
        let mut answer: Option<(Asked, Duration)> = None;
        loop {
            let mut held = self.hold();
            let core = held.core();
            core.look(now, listening);
            if let Some((asked, wait)) = answer.take() {
                core.answer(asked, wait);
            }
            let mut asked = core.settle();
            core.count_not_permitted_from(self.not_permitted());
            if asked.is_none() {
                if let Some(decide) = decide.take() {
                    decided = Some(decide(core));
                    asked = core.ask();
                }
            }
            drop(held);
            match (asked, decided.take()) {
                (Some(asked), result) => {
                    decided = result;
                    answer = Some((asked, ask(asked.attempts)));
                }
                (None, Some(result)) => return result,
                (None, None) => unreachable!("a state that asks nothing has decided"),
            }
        }
    }

    fn hold(&self) -> Held<'_> {
        let mut inner = self.inner.lock();
        let Inner { core, granted } = &mut *inner;
        for (cell, granted) in granted.iter_mut().enumerate().take(self.words()) {
            let word = Word(self.cell(|| cell).fetch_or(Word::HELD, Ordering::AcqRel));
            core.record_plain(*granted - word.left());
            *granted = 0;
        }
        Held { shared: self, inner }
    }
}

/// The lock, and every word marked as held until this is dropped.
struct Held<'a> {
    shared: &'a Shared,
    inner: MutexGuard<'a, Inner>,
}

impl Held<'_> {
    fn core(&mut self) -> &mut Core {
        &mut self.inner.core
    }
}

/// Publishes the state anew; also while unwinding, so that nobody turns to a word that is held by none.
impl Drop for Held<'_> {
    fn drop(&mut self) {
        let (shared, inner) = (self.shared, &mut *self.inner);
        let core = &mut inner.core;
        core.count_not_permitted_from(shared.not_permitted());
        let (run, until) = core.plain_run();
        let (cells, own) = (shared.words(), own_cell());
        let words = shares(run, cells, own).map(|share| Word::new(core.state(), core.generation(), share));
        inner.granted = words.map(Word::left);
        // What is still to be published goes first: the next call must look inside.
        let last_refused = if core.has_notes() { 0 } else { core.last_refused().as_nanos() };
        let rates = core.entered_with();
        let bits = |rate: Option<f32>| u64::from(rate.unwrap_or(f32::NAN).to_bits());
        shared.plain_until.store(until.as_nanos(), Ordering::Relaxed);
        shared.last_refused.store(last_refused, Ordering::Release);
        shared.rates.store(bits(rates.failure) << 32 | bits(rates.slow), Ordering::Release);
        shared.calls.store(rates.calls.into(), Ordering::Release);
        for (cell, word) in words.iter().enumerate().take(cells) {
            shared.cell(|| cell).store(word.0, Ordering::Release);
        }
    }
}

/// Divides a run between so many words. Of a short one most goes to the thread that is here already.
fn shares(run: u32, cells: usize, own: usize) -> [u32; CELLS] {
    let parts = cells as u32;
    let others = if run == u32::MAX { run / parts } else { run / (2 * parts) };
    let mut shares = [0; CELLS];
    shares[..cells].fill(others);
    shares[own % cells] = run - others * (parts - 1);
    shares
}

#[cfg(all(test, resile_loom))]
mod models {
    use loom::{sync::Arc, thread};

    use super::super::state::Ticket;
    use super::*;
    use crate::{
        circuit_breaker::Config,
        outcome::{Outcome, Verdict},
    };

    /// Every order of steps with at most three preemptions: without a bound some of these take minutes.
    fn explore(model: impl Fn() + Send + Sync + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(model);
    }

    const NOW: Instant = Instant::from_nanos(1_000);
    const WAIT: Duration = Duration::from_nanos(100);

    /// With a word for each thread.
    fn shared(config: Config) -> Arc<Shared> {
        let shared = shared_by_one(config);
        shared.spread();
        shared
    }

    /// Still with one word.
    fn shared_by_one(config: Config) -> Arc<Shared> {
        let config = config.wait_duration_in_open_state(WAIT).slow_call_duration_threshold(None);
        Arc::new(Shared::new(Core::new(config.into(), Instant::default())))
    }

    fn look<R>(shared: &Shared, decide: impl FnOnce(&mut Core) -> R) -> R {
        shared.look(NOW, false, |_| WAIT, decide)
    }

    fn acquire(shared: &Shared, cell: usize) -> Option<Ticket> {
        let word = shared.word_in(|| cell);
        if word.admits() {
            return Some(Ticket { generation: word.generation(), ..Ticket::default() });
        }
        match shared.refuse_in(|| cell, NOW) {
            Some(_) => None,
            None => look(shared, |core| core.acquire(false)).ok(),
        }
    }

    fn finish(shared: &Shared, cell: usize, ticket: &Ticket, outcome: Outcome) {
        let plain = outcome == Outcome::Success && ticket.trial == 0;
        if !plain || shared.count_plain_in(|| cell, ticket.generation, NOW) == Counted::LookInside {
            look(shared, |core| core.finish(ticket, Verdict::from(outcome), false, None));
        }
    }

    fn call(shared: &Shared, cell: usize, outcome: Outcome) -> bool {
        let ticket = acquire(shared, cell);
        if let Some(ticket) = &ticket {
            finish(shared, cell, ticket, outcome);
        }
        ticket.is_some()
    }

    /// Open since long ago: the next call half-opens it.
    fn waited(permitted: u32) -> Arc<Shared> {
        let config = Config::default().permitted_number_of_calls_in_half_open_state(permitted);
        let shared = shared(config);
        shared.look(Instant::default(), false, |_| WAIT, |core| core.transition_to(State::Open));
        shared
    }

    #[test]
    fn every_result_is_counted_once() {
        explore(|| {
            let shared = shared(Config::default().sliding_window_size(8));
            let other = Arc::clone(&shared);
            let thread = thread::spawn(move || {
                call(&other, 1, Outcome::Success);
                call(&other, 1, Outcome::Success);
            });
            call(&shared, 0, Outcome::Failure);
            call(&shared, 0, Outcome::Success);
            thread.join().unwrap();
            let totals = look(&shared, Core::view).totals;
            assert_eq!((totals.calls, totals.failed), (4, 1));
        });
    }

    #[test]
    fn every_result_is_counted_once_where_threads_meet_in_one_word() {
        explore(|| {
            let shared = shared_by_one(Config::default().sliding_window_size(8));
            let other = Arc::clone(&shared);
            let thread = thread::spawn(move || {
                call(&other, 1, Outcome::Success);
                call(&other, 1, Outcome::Success);
            });
            call(&shared, 0, Outcome::Success);
            call(&shared, 0, Outcome::Failure);
            thread.join().unwrap();
            let totals = look(&shared, Core::view).totals;
            assert_eq!((totals.calls, totals.failed), (4, 1));
        });
    }

    #[test]
    fn a_result_that_comes_while_words_are_made_is_counted_once_or_late() {
        for closed_anew in [false, true] {
            explore(move || {
                let shared = shared_by_one(Config::default().sliding_window_size(2));
                let ticket = acquire(&shared, 0).expect("a closed circuit admits");
                let other = Arc::clone(&shared);
                let thread = thread::spawn(move || {
                    other.spread();
                    if closed_anew {
                        look(&other, |core| core.transition_to(State::Closed));
                    }
                });
                finish(&shared, 0, &ticket, Outcome::Success);
                thread.join().unwrap();
                let view = look(&shared, Core::view);
                assert_eq!((view.generation, view.totals.calls), if closed_anew { (1, 0) } else { (0, 1) });
                assert!(acquire(&shared, 0).is_some());
            });
        }
    }

    #[test]
    fn the_call_that_completes_the_minimum_is_looked_at() {
        explore(|| {
            let config = Config::default().sliding_window_size(8).minimum_number_of_calls(3);
            let shared = shared(config);
            let other = Arc::clone(&shared);
            let thread = thread::spawn(move || call(&other, 1, Outcome::Failure));
            call(&shared, 0, Outcome::Success);
            thread.join().unwrap();
            call(&shared, 0, Outcome::Failure);
            assert_eq!(shared.word().state(), State::Open);
        });
    }

    #[test]
    fn a_late_result_changes_nothing() {
        for outcome in [Outcome::Success, Outcome::Failure, Outcome::Ignored] {
            explore(move || {
                let shared = shared(Config::default().sliding_window_size(2));
                let ticket = acquire(&shared, 0).expect("a closed circuit admits");
                let other = Arc::clone(&shared);
                let thread = thread::spawn(move || {
                    look(&other, |core| core.transition_to(State::Open));
                    look(&other, |core| core.transition_to(State::Closed));
                });
                finish(&shared, 0, &ticket, outcome);
                thread.join().unwrap();
                let view = look(&shared, Core::view);
                assert_eq!((view.state, view.totals.calls), (State::Closed, 0));
                assert_eq!(acquire(&shared, 0).map(|ticket| ticket.generation), Some(2));
            });
        }
    }

    #[test]
    fn a_half_open_circuit_admits_no_more_than_permitted() {
        explore(|| {
            let shared = waited(1);
            let other = Arc::clone(&shared);
            let thread = thread::spawn(move || acquire(&other, 1).is_some());
            let mine = acquire(&shared, 0).is_some();
            let theirs = thread.join().unwrap();
            assert!(mine ^ theirs, "one trial call is admitted, neither none nor two");
        });
    }

    #[test]
    fn from_half_open_some_transition_always_becomes_possible() {
        explore(|| {
            let shared = waited(1);
            let other = Arc::clone(&shared);
            let thread = thread::spawn(move || {
                if let Some(ticket) = acquire(&other, 1) {
                    look(&other, |core| core.cancel(&ticket));
                }
            });
            let decided = call(&shared, 0, Outcome::Success);
            thread.join().unwrap();
            assert!(decided || call(&shared, 0, Outcome::Success), "the place that was given back is free");
            assert_eq!(shared.word().state(), State::Closed);
        });
    }

    #[test]
    fn two_failures_open_the_circuit_once() {
        explore(|| {
            let config = Config::default().sliding_window_size(2).minimum_number_of_calls(1);
            let shared = shared(config);
            let other = Arc::clone(&shared);
            let thread = thread::spawn(move || call(&other, 1, Outcome::Failure));
            call(&shared, 0, Outcome::Failure);
            thread.join().unwrap();
            let word = shared.word();
            assert!(matches!(word.state(), State::Open), "{word:?}");
            assert_eq!(word.generation(), 1);
        });
    }

    #[test]
    fn a_refusal_tells_the_numbers_of_one_state() {
        explore(|| {
            let config = Config::default().sliding_window_size(1);
            let shared = shared(config);
            call(&shared, 0, Outcome::Failure);
            let other = Arc::clone(&shared);
            let thread = thread::spawn(move || {
                look(&other, |core| core.transition_to(State::Closed));
                look(&other, |core| core.transition_to(State::ForcedOpen));
            });
            if let Some(refusal) = shared.refuse_in(|| 1, NOW) {
                let opened = refusal.state == State::Open;
                assert_eq!(refusal.rates.failure, opened.then_some(100.0));
                assert_eq!(refusal.rates.calls, u32::from(opened));
                assert_eq!(refusal.retry_after.is_some(), opened);
            }
            thread.join().unwrap();
        });
    }
}
