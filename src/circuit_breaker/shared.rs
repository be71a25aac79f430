//! What the threads share: the whole state behind a short lock, and a few words that answer most calls without it.
//!
//! A *lane* says the state, the generation, and how many plain successes (neither failed nor slow) may still be counted in
//! it without a look inside, because together they can decide nothing: they only lower the rates. The thread that owns the
//! lane counts with a plain store: nobody else writes its *run*. Other threads take a single compare-and-swap of the
//! lane's *word*, which fails if the generation has changed. Whoever needs more takes the lock, marks every lane as held,
//! at which the results of others wait a moment and then turn to the lock too, and first counts the successes so far.
//!
//! So every result is counted once, and all have one order. A run says its generation, so a late success is never counted
//! for a later one. What an owner is storing in the very moment of a look is counted by the next: it then comes after
//! that look in the order, and is looked at as any success is that might decide something.
//!
//! There is one lane until two threads meet in it, and from then on a few, each on a cache line of its own: most of many
//! breakers never need them.

use std::{hint, iter, ptr, sync::Arc, time::Duration};

use super::{
    config::Config,
    state::{Asked, Core, GENERATION_MASK, Rates, Refusal},
};
use crate::{
    clock::Instant,
    event::State,
    sync::{AtomicU64, Mutex, MutexGuard, OnceLock, Ordering},
    tally::{Line, Tally, lanes, thread_number},
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
    const UNPUBLISHED: u64 = 7 << Self::STATE_SHIFT | Self::HELD;

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

    fn left(self) -> u32 {
        self.0 as u32 & Self::MAX_LEFT
    }
}

/// What a lane's owner has counted: the generation (36 bits), and how many since the owner last looked inside (28).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Run(u64);

impl Run {
    const CALLS_BITS: u32 = 28;
    const MOST_CALLS: u32 = (1 << Self::CALLS_BITS) - 1;

    fn new(generation: u64, calls: u32) -> Self {
        Self((generation & GENERATION_MASK) << Self::CALLS_BITS | u64::from(calls))
    }

    #[inline]
    fn generation(self) -> u64 {
        self.0 >> Self::CALLS_BITS
    }

    fn calls(self) -> u32 {
        self.0 as u32 & Self::MOST_CALLS
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

/// How long a success waits for somebody else's look.
const SPINS: u32 = if cfg!(resile_loom) { 0 } else { 100 };

/// Where plain successes are counted.
#[derive(Debug)]
struct Lane {
    word: AtomicU64,
    /// The thread that alone writes `run`, for good; 0 while there is none.
    owner: AtomicU64,
    run: AtomicU64,
    /// The run at which the owner must look inside; 0 where it always must.
    limit: AtomicU64,
}

impl Lane {
    /// Held until a state is published in it.
    fn held() -> Self {
        let word = AtomicU64::new(Word::UNPUBLISHED);
        Self { word, owner: AtomicU64::new(0), run: AtomicU64::new(0), limit: AtomicU64::new(0) }
    }

    fn belongs_to(&self, thread: u64) -> bool {
        self.owner.load(Ordering::Relaxed) == thread
    }

    /// The word, once nobody is looking inside, as far as that is worth waiting for: a look is a few instructions, and to
    /// join the queue for the lock would make another wait as long.
    fn word_in_rest(&self) -> Word {
        let mut word = Word(self.word.load(Ordering::Acquire));
        for _ in 0..SPINS {
            if !word.is_held() {
                break;
            }
            hint::spin_loop();
            word = Word(self.word.load(Ordering::Acquire));
        }
        word
    }

    fn run(&self) -> Run {
        Run(self.run.load(Ordering::Acquire))
    }
}

#[derive(Debug)]
pub(super) struct Shared {
    /// The only lane, and out of use once there are others.
    first: Lane,
    lanes: OnceLock<Box<[Line<Lane>]>>,
    /// The last moment at which plain successes may be counted so.
    plain_until: AtomicU64,
    not_permitted: Tally,
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
    /// What the lanes were given: the first's, and those of the others.
    first: Given,
    others: Box<[Given]>,
}

/// How many plain successes may be counted in a lane.
#[derive(Debug, Clone, Copy, Default)]
struct Given {
    by_owner: Share,
    by_word: Share,
    /// The owner's run as it was last seen.
    seen: Run,
}

/// A part of a run of plain successes.
#[derive(Debug, Clone, Copy, Default)]
struct Share {
    calls: u32,
    /// What had been counted of it at the last look.
    used: u32,
}

impl Share {
    /// As many as there are, where there is no end to them; a short run is divided between those who count, and the thread
    /// that is here already.
    fn give(&mut self, run: u32, parts: u32, here: bool) -> u32 {
        let part = run / parts;
        self.calls = match () {
            () if run == u32::MAX => Word::MAX_LEFT,
            () if here => run - part * (parts - 1),
            () if self.used > 0 => part,
            () => 0,
        };
        self.calls = self.calls.min(Word::MAX_LEFT);
        self.calls
    }
}

impl Shared {
    pub(super) fn new(core: Core) -> Self {
        let shared = Self {
            first: Lane::held(),
            lanes: OnceLock::new(),
            plain_until: AtomicU64::new(0),
            not_permitted: Tally::default(),
            last_refused: AtomicU64::new(0),
            rates: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            inner: Mutex::new(Inner { core, first: Given::default(), others: Box::default() }),
        };
        drop(shared.hold(thread_number()));
        shared
    }

    #[inline]
    pub(super) fn word(&self) -> Word {
        self.word_for(thread_number())
    }

    #[inline]
    fn word_for(&self, thread: u64) -> Word {
        Word(self.lane(thread).word.load(Ordering::Acquire))
    }

    #[inline]
    fn lane(&self, thread: u64) -> &Lane {
        match self.lanes.get() {
            None => &self.first,
            Some(lanes) => &lanes[thread as usize & (lanes.len() - 1)].0,
        }
    }

    /// From now on threads count in lanes of their own.
    #[cold]
    fn spread(&self, thread: u64) {
        if self.lanes.get().is_some() {
            return;
        }
        let mut held = self.hold(thread);
        let lanes = self.lanes.get_or_init(|| (0..lanes()).map(|_| Line(Lane::held())).collect());
        if held.inner.others.is_empty() {
            held.inner.others = vec![Given::default(); lanes.len()].into();
        }
    }

    /// Gives a lane that has no owner to the thread.
    #[cold]
    fn claim(&self, thread: u64) {
        let held = self.hold(thread);
        let lane = self.lane(thread);
        if lane.belongs_to(0) {
            lane.owner.store(thread, Ordering::Relaxed);
        }
        drop(held);
    }

    /// The settings in force.
    pub(super) fn config(&self) -> Arc<Config> {
        Arc::clone(self.inner.lock().core.rules())
    }

    /// Counts a plain success of a call admitted in `generation` that finished at `now`, if that needs no look inside.
    #[inline(always)]
    pub(super) fn count_plain(&self, generation: u64, now: Instant) -> Counted {
        self.count_plain_for(thread_number(), generation, now)
    }

    #[inline(always)]
    fn count_plain_for(&self, thread: u64, generation: u64, now: Instant) -> Counted {
        let lane = self.lane(thread);
        let run = Run(lane.run.load(Ordering::Relaxed));
        // The limit is of the run's generation, or none.
        if lane.belongs_to(thread)
            && run.generation() == generation & GENERATION_MASK
            && run.0 < lane.limit.load(Ordering::Acquire)
            && now.as_nanos() <= self.plain_until.load(Ordering::Relaxed)
        {
            lane.run.store(run.0 + 1, Ordering::Release);
            return Counted::Yes;
        }
        self.count_plain_by_word(thread, generation, now)
    }

    #[inline(never)]
    fn count_plain_by_word(&self, thread: u64, generation: u64, now: Instant) -> Counted {
        loop {
            let lane = self.lane(thread);
            let (word, run) = (lane.word_in_rest(), lane.run());
            if word.generation() != generation & GENERATION_MASK || word.is_held() {
                return Counted::LookInside;
            }
            if word.state() == State::Disabled {
                return Counted::Unwatched;
            }
            if lane.belongs_to(0) {
                self.claim(thread);
            }
            if lane.belongs_to(thread) || word.left() == 0 || now.as_nanos() > self.plain_until.load(Ordering::Relaxed)
            {
                return Counted::LookInside;
            }
            // Success publishes nothing but the count itself, and the count is read by whoever holds the word.
            match lane.word.compare_exchange_weak(word.0, word.0 - 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    if lane.run() != run {
                        self.spread(thread);
                    }
                    return Counted::Yes;
                }
                Err(changed) if changed != word.0 && !Word(changed).is_held() => self.spread(thread),
                Err(_) => {}
            }
        }
    }

    /// Refuses without a look inside, if the state is sure to.
    #[inline(always)]
    pub(super) fn refuse(&self, now: Instant) -> Option<Refusal> {
        self.refuse_for(thread_number(), now)
    }

    #[inline(always)]
    fn refuse_for(&self, thread: u64, now: Instant) -> Option<Refusal> {
        let word = self.word_for(thread);
        let state = word.state();
        let last_refused = self.last_refused.load(Ordering::Acquire);
        let refuses = match state {
            State::Open => now.as_nanos() <= last_refused,
            State::ForcedOpen => true,
            _ => false,
        };
        let (rates, calls) = (self.rates.load(Ordering::Acquire), self.calls.load(Ordering::Acquire));
        // The numbers are of one state only if the word has stood still meanwhile.
        if !refuses || word.is_held() || self.word_for(thread) != word {
            return None;
        }
        let rate = |bits: u32| Some(f32::from_bits(bits)).filter(|rate| !rate.is_nan());
        let rates = Rates { failure: rate((rates >> 32) as u32), slow: rate(rates as u32), calls: calls as u32 };
        let retry_after = (state == State::Open && last_refused < u64::MAX)
            .then(|| (last_refused - now.as_nanos()).saturating_add(1));
        self.count_not_permitted();
        Some(Refusal { state, rates, retry_after })
    }

    #[inline]
    pub(super) fn count_not_permitted(&self) {
        self.not_permitted.add();
    }

    /// All rejections ever.
    pub(super) fn not_permitted(&self) -> u64 {
        self.not_permitted.total()
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
        self.look_for(thread_number(), now, listening, ask, decide)
    }

    fn look_for<R>(
        &self,
        thread: u64,
        now: Instant,
        listening: bool,
        ask: impl Fn(u32) -> Duration,
        decide: impl FnOnce(&mut Core) -> R,
    ) -> R {
        let mut decide = Some(decide);
        let mut decided = None;
        let mut answer: Option<(Asked, Duration)> = None;
        loop {
            let mut held = self.hold(thread);
            let core = &mut held.inner.core;
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

    fn hold(&self, thread: u64) -> Held<'_> {
        let mut inner = self.inner.lock();
        let Inner { core, first, others } = &mut *inner;
        let generation = core.generation() & GENERATION_MASK;
        let mut beyond = 0;
        for (lane, given) in self.every_lane(first, others) {
            let word = Word(lane.word.fetch_or(Word::HELD, Ordering::AcqRel));
            lane.limit.store(0, Ordering::Release);
            let (run, seen) = (lane.run(), given.seen.calls());
            given.by_word = Share { calls: word.left(), used: given.by_word.calls - word.left() };
            given.by_owner.used = run.calls() - seen;
            given.seen = run;
            core.record_plain(given.by_word.used);
            if run.generation() == generation {
                let plain = given.by_owner.used.min(given.by_owner.calls);
                core.record_plain(plain);
                beyond += given.by_owner.used - plain;
            } else {
                core.count_late(given.by_owner.used);
            }
        }
        core.record_successes(beyond);
        Held { shared: self, inner, thread }
    }

    /// Every lane with what it was given.
    fn every_lane<'a>(
        &'a self,
        first: &'a mut Given,
        others: &'a mut [Given],
    ) -> impl Iterator<Item = (&'a Lane, &'a mut Given)> {
        let lanes = self.lanes.get().map_or(&[][..], |lanes| lanes);
        iter::once((&self.first, first)).chain(lanes.iter().map(|lane| &lane.0).zip(others))
    }
}

/// The lock, and every lane marked as held until this is dropped.
struct Held<'a> {
    shared: &'a Shared,
    inner: MutexGuard<'a, Inner>,
    thread: u64,
}

/// Publishes the state anew; also while unwinding, so that nobody turns to a lane that is held by none.
impl Drop for Held<'_> {
    fn drop(&mut self) {
        let (shared, thread) = (self.shared, self.thread);
        let Inner { core, first, others } = &mut *self.inner;
        core.count_not_permitted_from(shared.not_permitted());
        let (run, until) = core.plain_run();
        // What is still to be published goes first: the next call must look inside.
        let last_refused = if core.has_notes() { 0 } else { core.last_refused().as_nanos() };
        let rates = core.entered_with();
        let bits = |rate: Option<f32>| u64::from(rate.unwrap_or(f32::NAN).to_bits());
        shared.plain_until.store(until.as_nanos(), Ordering::Relaxed);
        shared.last_refused.store(last_refused, Ordering::Release);
        shared.rates.store(bits(rates.failure) << 32 | bits(rates.slow), Ordering::Release);
        shared.calls.store(rates.calls.into(), Ordering::Release);
        let (generation, here) = (core.generation(), shared.lane(thread));
        let others_at_work = shared.every_lane(first, others).map(|(lane, given)| {
            let by_owner = given.by_owner.used > 0 && !lane.belongs_to(thread);
            let by_word = given.by_word.used > 0 && (!ptr::eq(lane, here) || lane.belongs_to(thread));
            u32::from(by_owner) + u32::from(by_word)
        });
        let parts = 1 + others_at_work.sum::<u32>();
        let spread = shared.lanes.get().is_some();
        for (lane, given) in shared.every_lane(first, others) {
            if spread && ptr::eq(lane, &shared.first) {
                lane.word.store(Word::UNPUBLISHED, Ordering::Release);
                given.by_word.calls = 0;
                continue;
            }
            let (is_here, is_own) = (ptr::eq(lane, here), lane.belongs_to(thread));
            if is_own {
                given.seen = Run::new(generation, 0);
                lane.run.store(given.seen.0, Ordering::Relaxed);
            }
            // In another generation the owner looks inside first, and so begins a run of that.
            let begun = given.seen.generation() == generation & GENERATION_MASK && !lane.belongs_to(0);
            let by_owner = if begun { given.by_owner.give(run, parts, is_here && is_own) } else { 0 };
            let limit = given.seen.calls().saturating_add(by_owner).min(Run::MOST_CALLS);
            given.by_owner.calls = limit - given.seen.calls();
            let by_word = given.by_word.give(run, parts, is_here && !is_own);
            lane.limit.store(if by_owner > 0 { Run::new(generation, limit).0 } else { 0 }, Ordering::Release);
            lane.word.store(Word::new(core.state(), generation, by_word).0, Ordering::Release);
        }
    }
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
        shared.spread(1);
        shared
    }

    /// Still with one word.
    fn shared_by_one(config: Config) -> Arc<Shared> {
        let config = config.wait_duration_in_open_state(WAIT).slow_call_duration_threshold(None);
        Arc::new(Shared::new(Core::new(config.into(), Instant::default())))
    }

    fn look<R>(shared: &Shared, decide: impl FnOnce(&mut Core) -> R) -> R {
        look_for(shared, 3, decide)
    }

    fn look_for<R>(shared: &Shared, thread: u64, decide: impl FnOnce(&mut Core) -> R) -> R {
        shared.look_for(thread, NOW, false, |_| WAIT, decide)
    }

    fn acquire(shared: &Shared, thread: u64) -> Option<Ticket> {
        let word = shared.word_for(thread);
        if word.admits() {
            return Some(Ticket { generation: word.generation(), ..Ticket::default() });
        }
        match shared.refuse_for(thread, NOW) {
            Some(_) => None,
            None => look_for(shared, thread, |core| core.acquire(false)).ok(),
        }
    }

    fn finish(shared: &Shared, thread: u64, ticket: &Ticket, outcome: Outcome) {
        let plain = outcome == Outcome::Success && ticket.trial == 0;
        if !plain || shared.count_plain_for(thread, ticket.generation, NOW) == Counted::LookInside {
            look_for(shared, thread, |core| core.finish(ticket, Verdict::from(outcome), false, None));
        }
    }

    fn call(shared: &Shared, thread: u64, outcome: Outcome) -> bool {
        let ticket = acquire(shared, thread);
        if let Some(ticket) = &ticket {
            finish(shared, thread, ticket, outcome);
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

    /// With a lane that belongs to each of the threads 1 and 2, and a success counted in each.
    fn owned(config: Config) -> Arc<Shared> {
        let shared = shared(config);
        call(&shared, 1, Outcome::Success);
        call(&shared, 2, Outcome::Success);
        shared
    }

    #[test]
    fn every_result_is_counted_once() {
        explore(|| {
            let shared = owned(Config::default().sliding_window_size(8));
            let other = Arc::clone(&shared);
            let thread = thread::spawn(move || {
                call(&other, 2, Outcome::Success);
                call(&other, 2, Outcome::Success);
            });
            call(&shared, 1, Outcome::Failure);
            thread.join().unwrap();
            let totals = look(&shared, Core::view).totals;
            assert_eq!((totals.calls, totals.failed), (5, 1));
        });
    }

    #[test]
    fn every_result_is_counted_once_while_lanes_find_their_owners() {
        explore(|| {
            let shared = shared(Config::default().sliding_window_size(8));
            let other = Arc::clone(&shared);
            let thread = thread::spawn(move || call(&other, 2, Outcome::Success));
            call(&shared, 1, Outcome::Success);
            thread.join().unwrap();
            let totals = look(&shared, Core::view).totals;
            assert_eq!((totals.calls, totals.failed), (2, 0));
        });
    }

    #[test]
    fn a_success_that_meets_a_look_decides_at_the_next_at_the_latest() {
        explore(|| {
            let config = Config::default().sliding_window_size(8).minimum_number_of_calls(4);
            let shared = owned(config.failure_rate_threshold(25.0));
            let other = Arc::clone(&shared);
            let thread = thread::spawn(move || call(&other, 2, Outcome::Failure));
            call(&shared, 1, Outcome::Success);
            thread.join().unwrap();
            assert_eq!(look(&shared, Core::view).state, State::Open, "one of four calls has failed");
        });
    }

    #[test]
    fn every_result_is_counted_once_where_threads_meet_in_one_word() {
        explore(|| {
            let shared = shared_by_one(Config::default().sliding_window_size(8));
            let other = Arc::clone(&shared);
            let thread = thread::spawn(move || {
                call(&other, 2, Outcome::Success);
                call(&other, 2, Outcome::Success);
            });
            call(&shared, 1, Outcome::Success);
            thread.join().unwrap();
            let totals = look(&shared, Core::view).totals;
            assert_eq!((totals.calls, totals.failed), (3, 0));
        });
    }

    #[test]
    fn a_result_that_comes_while_words_are_made_is_counted_once_or_late() {
        for closed_anew in [false, true] {
            explore(move || {
                let shared = shared_by_one(Config::default().sliding_window_size(2));
                let ticket = acquire(&shared, 1).expect("a closed circuit admits");
                let other = Arc::clone(&shared);
                let thread = thread::spawn(move || {
                    other.spread(2);
                    if closed_anew {
                        look(&other, |core| core.transition_to(State::Closed));
                    }
                });
                finish(&shared, 1, &ticket, Outcome::Success);
                thread.join().unwrap();
                let view = look(&shared, Core::view);
                assert_eq!((view.generation, view.totals.calls), if closed_anew { (1, 0) } else { (0, 1) });
                assert!(acquire(&shared, 1).is_some());
            });
        }
    }

    #[test]
    fn the_call_that_completes_the_minimum_is_looked_at() {
        explore(|| {
            let config = Config::default().sliding_window_size(8).minimum_number_of_calls(3);
            let shared = shared(config);
            let other = Arc::clone(&shared);
            let thread = thread::spawn(move || call(&other, 2, Outcome::Failure));
            call(&shared, 1, Outcome::Success);
            thread.join().unwrap();
            call(&shared, 1, Outcome::Failure);
            assert_eq!(shared.word().state(), State::Open);
        });
    }

    #[test]
    fn a_late_result_changes_nothing() {
        for outcome in [Outcome::Success, Outcome::Failure, Outcome::Ignored] {
            for owned_lanes in [false, true] {
                explore(move || {
                    let config = Config::default().sliding_window_size(8);
                    let shared = if owned_lanes { owned(config) } else { shared(config) };
                    let ticket = acquire(&shared, 1).expect("a closed circuit admits");
                    let other = Arc::clone(&shared);
                    let thread = thread::spawn(move || {
                        look(&other, |core| core.transition_to(State::Open));
                        look(&other, |core| core.transition_to(State::Closed));
                    });
                    finish(&shared, 1, &ticket, outcome);
                    thread.join().unwrap();
                    let view = look(&shared, Core::view);
                    assert_eq!((view.state, view.totals.calls), (State::Closed, 0));
                    assert_eq!(acquire(&shared, 1).map(|ticket| ticket.generation), Some(2));
                });
            }
        }
    }

    #[test]
    fn a_half_open_circuit_admits_no_more_than_permitted() {
        explore(|| {
            let shared = waited(1);
            let other = Arc::clone(&shared);
            let thread = thread::spawn(move || acquire(&other, 2).is_some());
            let mine = acquire(&shared, 1).is_some();
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
                if let Some(ticket) = acquire(&other, 2) {
                    look(&other, |core| core.cancel(&ticket));
                }
            });
            let decided = call(&shared, 1, Outcome::Success);
            thread.join().unwrap();
            assert!(decided || call(&shared, 1, Outcome::Success), "the place that was given back is free");
            assert_eq!(shared.word().state(), State::Closed);
        });
    }

    #[test]
    fn two_failures_open_the_circuit_once() {
        explore(|| {
            let config = Config::default().sliding_window_size(2).minimum_number_of_calls(1);
            let shared = shared(config);
            let other = Arc::clone(&shared);
            let thread = thread::spawn(move || call(&other, 2, Outcome::Failure));
            call(&shared, 1, Outcome::Failure);
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
            call(&shared, 1, Outcome::Failure);
            let other = Arc::clone(&shared);
            let thread = thread::spawn(move || {
                look(&other, |core| core.transition_to(State::Closed));
                look(&other, |core| core.transition_to(State::ForcedOpen));
            });
            if let Some(refusal) = shared.refuse_for(2, NOW) {
                let opened = refusal.state == State::Open;
                assert_eq!(refusal.rates.failure, opened.then_some(100.0));
                assert_eq!(refusal.rates.calls, u32::from(opened));
                assert_eq!(refusal.retry_after.is_some(), opened);
            }
            thread.join().unwrap();
        });
    }
}
