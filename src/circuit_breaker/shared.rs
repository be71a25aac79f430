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
//! that look in the order, and is looked at as any success is that might decide something. Where that look has ended the
//! generation, it was the last of it: it has been told as counted, so it is not late as well.
//!
//! There is one lane until two threads meet in it, and from then on a few, each on a cache line of its own: most of many
//! breakers never need them.

use std::{iter, ptr, sync::Arc, time::Duration};

use super::{
    config::Config,
    lane::{Given, Lane, Run, Word, share},
    state::{Asked, Core, GENERATION_MASK, Rates, Refusal},
};
use crate::{
    clock::Instant,
    event::State,
    sync::{AtomicU64, Mutex, MutexGuard, OnceLock, Ordering},
    tally::{Line, lanes, thread_number},
};

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

#[derive(Debug)]
pub(super) struct Shared {
    /// The only lane, and out of use once there are others.
    first: Lane,
    lanes: OnceLock<Box<[Line<Lane>]>>,
    /// The last moment at which plain successes may be counted so.
    plain_until: AtomicU64,
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

impl Shared {
    pub(super) fn new(core: Core) -> Self {
        let shared = Self {
            first: Lane::held(),
            lanes: OnceLock::new(),
            plain_until: AtomicU64::new(0),
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
        self.lane(thread).word()
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
            lane.give_to(thread);
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
        if lane.belongs_to(thread) && lane.count_own(generation, || self.is_plain_until(now)) {
            return Counted::Yes;
        }
        self.count_plain_elsewhere(thread, generation, now)
    }

    #[inline(always)]
    fn is_plain_until(&self, now: Instant) -> bool {
        now.as_nanos() <= self.plain_until.load(Ordering::Relaxed)
    }

    /// Counts by the word of a lane that is another's, and as the owner once nobody is looking inside any more.
    #[inline(never)]
    fn count_plain_elsewhere(&self, thread: u64, generation: u64, now: Instant) -> Counted {
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
            if lane.belongs_to(thread) {
                let counted = lane.count_own(generation, || self.is_plain_until(now));
                return if counted { Counted::Yes } else { Counted::LookInside };
            }
            if word.left() == 0 || !self.is_plain_until(now) {
                return Counted::LookInside;
            }
            match lane.count_in(word) {
                Ok(()) => {
                    if lane.run() != run {
                        self.spread(thread);
                    }
                    return Counted::Yes;
                }
                Err(changed) if changed != word && !changed.is_held() => self.spread(thread),
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
        self.count_not_permitted_for(thread);
        Some(Refusal { state, rates, retry_after })
    }

    #[inline]
    pub(super) fn count_not_permitted(&self) {
        self.count_not_permitted_for(thread_number());
    }

    #[inline(always)]
    fn count_not_permitted_for(&self, thread: u64) {
        let lane = self.lane(thread);
        if lane.belongs_to(thread) { lane.rejections.add_own() } else { self.count_not_permitted_elsewhere(thread) }
    }

    #[inline(never)]
    fn count_not_permitted_elsewhere(&self, thread: u64) {
        if self.lane(thread).belongs_to(0) {
            self.claim(thread);
        }
        let lane = self.lane(thread);
        if lane.belongs_to(thread) {
            lane.rejections.add_own();
        } else if lane.rejections.add_shared() {
            self.spread(thread);
        }
    }

    /// All rejections ever.
    pub(super) fn not_permitted(&self) -> u64 {
        let others = self.lanes.get().into_iter().flatten().map(|lane| lane.0.rejections.total());
        self.first.rejections.total() + others.sum::<u64>()
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
            let (word, run) = lane.hold();
            let (by_word, by_owner) = (given.by_word - word.left(), run.calls() - given.seen.calls());
            core.record_plain(by_word);
            // A success of an earlier generation was counted there, with the last, and went as that window went.
            if run.generation() == generation {
                let plain = by_owner.min(given.by_owner);
                core.record_plain(plain);
                beyond += by_owner - plain;
            }
            *given = Given { by_owner, by_word, seen: run };
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
            let (is_here, is_own) = (ptr::eq(lane, here), lane.belongs_to(thread));
            u32::from(given.by_owner > 0 && !is_own) + u32::from(given.by_word > 0 && (!is_here || is_own))
        });
        let parts = 1 + others_at_work.sum::<u32>();
        let spread = shared.lanes.get().is_some();
        for (lane, given) in shared.every_lane(first, others) {
            if spread && ptr::eq(lane, &shared.first) {
                *given = Given { seen: given.seen, ..Given::default() };
                lane.publish(Word::UNPUBLISHED, None);
                continue;
            }
            let (is_here, is_own) = (ptr::eq(lane, here), lane.belongs_to(thread));
            if is_own {
                given.seen = Run::new(generation, 0);
                lane.begin(given.seen);
            }
            // In another generation the owner looks inside first, and so begins a run of that.
            let begun = given.seen.generation() == generation & GENERATION_MASK && !lane.belongs_to(0);
            let by_owner = if begun { share(run, parts, given.by_owner, is_here && is_own) } else { 0 };
            let limit = given.seen.calls().saturating_add(by_owner).min(Run::MOST_CALLS);
            given.by_owner = limit - given.seen.calls();
            given.by_word = share(run, parts, given.by_word, is_here && !is_own);
            let word = Word::new(core.state(), generation, given.by_word);
            lane.publish(word, begun.then(|| Run::new(generation, limit)));
        }
    }
}

#[cfg(all(test, resile_loom))]
mod models;
