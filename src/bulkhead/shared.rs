//! Who is in and who waits: one atomic word, and a queue behind a short lock.
//!
//! The word holds the number of calls in, the limit, and whether anybody waits. While nobody does, entering and leaving
//! are one read-modify-write each. While somebody does, only the holder of the lock admits, so nobody is overtaken, and
//! whoever leaves sees the mark and takes the lock to admit the next. Everything turns on the order of changes to that one
//! word, so nothing stronger than acquire and release is needed.

use std::{collections::VecDeque, task::Waker, time::Duration};

use crate::{
    clock::nanos,
    sync::{AtomicU64, Mutex, Ordering},
};

/// The limit has 31 bits of the word.
pub(super) const MOST_CALLS: u32 = u32::MAX >> 1;

const WAITING: u64 = 1 << 63;
const LIMIT: u64 = (MOST_CALLS as u64) << 32;

#[derive(Debug)]
pub(super) struct Shared {
    word: AtomicU64,
    /// In nanoseconds.
    max_wait: AtomicU64,
    queue: Mutex<Queue>,
}

/// Empty exactly while the word carries no mark, whenever the lock is free.
#[derive(Debug, Default)]
struct Queue {
    last_ticket: u64,
    /// How many may wait.
    most: Option<u32>,
    /// By ascending ticket.
    waiters: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    waker: Waker,
}

/// A place in the queue. Who is no longer in it has been admitted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticket(u64);

#[derive(Debug)]
pub(super) enum Entry {
    Admitted,
    Queued(Ticket),
    Refused,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    pub(super) calls: u32,
    pub(super) limit: u32,
    pub(super) waiting: u32,
}

impl Shared {
    pub(super) fn new(limit: u32, max_wait: Duration, most_waiting: Option<u32>) -> Self {
        Self {
            word: AtomicU64::new(u64::from(limit) << 32),
            max_wait: AtomicU64::new(nanos(max_wait)),
            queue: Mutex::new(Queue { most: most_waiting, ..Queue::default() }),
        }
    }

    pub(super) fn max_wait(&self) -> Duration {
        Duration::from_nanos(self.max_wait.load(Ordering::Relaxed))
    }

    pub(super) fn set_max_wait(&self, max_wait: Duration) {
        self.max_wait.store(nanos(max_wait), Ordering::Relaxed);
    }

    /// Enters if there is room and nobody waits for it.
    #[inline]
    pub(super) fn try_enter(&self) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        while word & WAITING == 0 && has_room(word) {
            match self.word.compare_exchange_weak(word, word + 1, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    /// Enters, or joins the queue unless it is full.
    pub(super) fn enter(&self, waker: Waker) -> Entry {
        let mut queue = self.queue.lock();
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            let admit = word & WAITING == 0 && has_room(word);
            if !admit && queue.most.is_some_and(|most| queue.waiters.len() >= most as usize) {
                return Entry::Refused;
            }
            let next = if admit { word + 1 } else { word | WAITING };
            match self.word.compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) if admit => return Entry::Admitted,
                Ok(_) => break,
                Err(now) => word = now,
            }
        }
        queue.last_ticket += 1;
        let ticket = queue.last_ticket;
        queue.waiters.push_back(Waiter { ticket, waker });
        Entry::Queued(Ticket(ticket))
    }

    /// Whether a waiter has been admitted; until then this task is woken when it is.
    pub(super) fn is_admitted(&self, ticket: Ticket, waker: &Waker) -> bool {
        // Wakers are cloned and dropped outside the lock: they are the executor's code.
        let mut waker = waker.clone();
        let mut queue = self.queue.lock();
        let Some(place) = queue.place(ticket) else { return true };
        std::mem::swap(&mut queue.waiters[place].waker, &mut waker);
        drop(queue);
        false
    }

    /// Takes a waiter out of the queue; `false` if it has been admitted already.
    pub(super) fn leave_queue(&self, ticket: Ticket) -> bool {
        let mut queue = self.queue.lock();
        let Some(place) = queue.place(ticket) else { return false };
        let waiter = queue.waiters.remove(place);
        self.unmark_if_empty(&queue);
        drop(queue);
        drop(waiter);
        true
    }

    /// Gives a place back.
    #[inline]
    pub(super) fn leave(&self) {
        if self.word.fetch_sub(1, Ordering::Release) & WAITING != 0 {
            self.admit_waiters();
        }
    }

    pub(super) fn resize(&self, limit: u32) {
        let queue = self.queue.lock();
        self.set_limit(limit);
        drop(queue);
        self.admit_waiters();
    }

    /// Changes all settings together.
    pub(super) fn change(&self, limit: u32, max_wait: Duration, most_waiting: Option<u32>) {
        let mut queue = self.queue.lock();
        queue.most = most_waiting;
        self.set_max_wait(max_wait);
        self.set_limit(limit);
        drop(queue);
        self.admit_waiters();
    }

    /// The limit, the longest wait, and how many may wait.
    pub(super) fn settings(&self) -> (u32, Duration, Option<u32>) {
        let queue = self.queue.lock();
        (limit(self.word.load(Ordering::Relaxed)), self.max_wait(), queue.most)
    }

    /// For who holds the lock.
    fn set_limit(&self, limit: u32) {
        let limit = u64::from(limit) << 32;
        let resized = |word: u64| Some(word & !LIMIT | limit);
        let _ = self.word.fetch_update(Ordering::AcqRel, Ordering::Relaxed, resized);
    }

    pub(super) fn counts(&self) -> Counts {
        let word = self.word.load(Ordering::Relaxed);
        if word & WAITING == 0 {
            return Counts { calls: calls(word), limit: limit(word), waiting: 0 };
        }
        let queue = self.queue.lock();
        let word = self.word.load(Ordering::Relaxed);
        Counts { calls: calls(word), limit: limit(word), waiting: queue.waiters.len() as u32 }
    }

    #[cold]
    fn admit_waiters(&self) {
        while let Some(waiter) = self.admit_next() {
            waiter.waker.wake();
        }
    }

    fn admit_next(&self) -> Option<Waiter> {
        let mut queue = self.queue.lock();
        // While somebody waits only the lock's holder adds, so room that is seen stays.
        if !has_room(self.word.load(Ordering::Relaxed)) {
            return None;
        }
        let waiter = queue.waiters.pop_front()?;
        self.word.fetch_add(1, Ordering::AcqRel);
        self.unmark_if_empty(&queue);
        Some(waiter)
    }

    fn unmark_if_empty(&self, queue: &Queue) {
        if queue.waiters.is_empty() {
            self.word.fetch_and(!WAITING, Ordering::AcqRel);
        }
    }
}

impl Queue {
    fn place(&self, ticket: Ticket) -> Option<usize> {
        self.waiters.binary_search_by_key(&ticket.0, |waiter| waiter.ticket).ok()
    }
}

fn calls(word: u64) -> u32 {
    word as u32
}

fn limit(word: u64) -> u32 {
    (word >> 32) as u32 & MOST_CALLS
}

/// After shrinking more calls may be in than the limit says.
fn has_room(word: u64) -> bool {
    calls(word) < limit(word)
}

#[cfg(all(test, resile_loom))]
mod models {
    use std::{future::poll_fn, task::Poll};

    use loom::{
        future::block_on,
        sync::{Arc, atomic::AtomicU32},
        thread,
    };

    use super::*;

    /// Every order of steps with at most three preemptions: without a bound three threads take longer than a test may.
    fn explore(model: impl Fn() + Send + Sync + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(model);
    }

    /// Waits for a place; a wake-up that is lost ends the model as a deadlock.
    fn wait_and_enter(shared: &Shared) {
        let mut ticket = None;
        block_on(poll_fn(|task| match ticket {
            None => match shared.enter(task.waker().clone()) {
                Entry::Admitted => Poll::Ready(()),
                Entry::Queued(queued) => {
                    ticket = Some(queued);
                    Poll::Pending
                }
                Entry::Refused => unreachable!("any number may wait"),
            },
            Some(ticket) if shared.is_admitted(ticket, task.waker()) => Poll::Ready(()),
            Some(_) => Poll::Pending,
        }));
    }

    fn queued(shared: &Shared) -> Ticket {
        match shared.enter(Waker::noop().clone()) {
            Entry::Queued(ticket) => ticket,
            other => panic!("not full: {other:?}"),
        }
    }

    fn nobody_is_left(shared: &Shared, limit: u32) {
        let counts = shared.counts();
        assert_eq!((counts.calls, counts.limit, counts.waiting), (0, limit, 0));
        assert!(shared.try_enter(), "the mark of a waiter has stayed");
    }

    #[test]
    fn the_limit_is_never_exceeded() {
        explore(|| {
            let shared = Arc::new((Shared::new(1, Duration::ZERO, None), AtomicU32::new(0)));
            let enter = |shared: &(Shared, AtomicU32), wait: bool| {
                if wait {
                    wait_and_enter(&shared.0);
                } else if !shared.0.try_enter() {
                    return;
                }
                assert_eq!(shared.1.fetch_add(1, Ordering::Relaxed), 0);
                shared.1.fetch_sub(1, Ordering::Relaxed);
                shared.0.leave();
            };
            let threads = [true, false].map(|wait| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || enter(&shared, wait))
            });
            enter(&shared, true);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            nobody_is_left(&shared.0, 1);
        });
    }

    #[test]
    fn a_place_given_back_reaches_the_waiter() {
        explore(|| {
            let shared = Arc::new(Shared::new(2, Duration::ZERO, None));
            assert!(shared.try_enter() && shared.try_enter());
            let threads = [(); 2].map(|()| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.leave())
            });
            wait_and_enter(&shared);
            wait_and_enter(&shared);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            shared.leave();
            shared.leave();
            nobody_is_left(&shared, 2);
        });
    }

    #[test]
    fn a_waiter_that_leaves_while_it_is_admitted_passes_the_place_on() {
        explore(|| {
            let shared = Arc::new(Shared::new(1, Duration::ZERO, None));
            assert!(shared.try_enter());
            let ticket = queued(&shared);
            let impatient = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    if !shared.leave_queue(ticket) {
                        shared.leave();
                    }
                })
            };
            let leaving = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.leave())
            };
            wait_and_enter(&shared);
            shared.leave();
            impatient.join().unwrap();
            leaving.join().unwrap();
            nobody_is_left(&shared, 1);
        });
    }

    #[test]
    fn resizing_while_a_place_is_given_back_loses_neither() {
        explore(|| {
            let shared = Arc::new(Shared::new(1, Duration::ZERO, None));
            assert!(shared.try_enter());
            let leaving = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.leave())
            };
            let growing = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.resize(2))
            };
            wait_and_enter(&shared);
            wait_and_enter(&shared);
            shared.leave();
            shared.leave();
            leaving.join().unwrap();
            growing.join().unwrap();
            nobody_is_left(&shared, 2);
        });
    }

    #[test]
    fn shrinking_while_places_are_given_back_and_taken_admits_no_more_than_the_new_limit() {
        explore(|| {
            let shared = Arc::new(Shared::new(2, Duration::ZERO, None));
            assert!(shared.try_enter() && shared.try_enter());
            let leaving = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.leave())
            };
            let shrinking = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.change(1, Duration::from_secs(1), Some(1)))
            };
            // In before the shrinking, where a place was given back in time, or not at all.
            let entered = shared.try_enter();
            leaving.join().unwrap();
            shrinking.join().unwrap();
            assert!(!shared.try_enter(), "one call or two are in, and one may be");
            shared.leave();
            if entered {
                assert!(!shared.try_enter());
                shared.leave();
            }
            nobody_is_left(&shared, 1);
            assert_eq!(shared.settings(), (1, Duration::from_secs(1), Some(1)));
        });
    }
}
