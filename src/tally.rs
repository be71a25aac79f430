//! Counts that many threads add to, and the numbers that threads know themselves by.
//!
//! A locked instruction costs as much as some twenty others, and where threads share its line of memory far more. So the
//! first thread that adds to a count owns it: it alone writes its part, with a plain load and a plain store, which lose
//! nothing as nobody else writes there. Every other thread adds to a part that is shared, and when two meet in it, the
//! count is spread over lines of memory, each with an owner of its own. A total read while threads add may miss what is
//! being added just then; at rest it is exact.

#[cfg(not(resile_loom))]
use std::{sync::LazyLock, thread};

use crate::sync::{AtomicU64, OnceLock, Ordering};

/// The number of this thread, from 1. No two threads that live at the same time have the same one; a thread that ends leaves
/// its number, and with it whatever it owns, to one that starts later.
#[cfg(not(resile_loom))]
#[inline]
pub(crate) fn thread_number() -> u64 {
    numbers::OWN.with(|own| if own.get() == 0 { numbers::take(own) } else { own.get() })
}

#[cfg(not(resile_loom))]
mod numbers {
    use std::{cell::Cell, collections::BTreeSet};

    use parking_lot::Mutex;

    struct Numbers {
        taken: u64,
        left: BTreeSet<u64>,
    }

    /// Its lock also makes what the earlier thread wrote known to the later one.
    static NUMBERS: Mutex<Numbers> = Mutex::new(Numbers { taken: 0, left: BTreeSet::new() });

    thread_local! {
        pub(super) static OWN: Cell<u64> = const { Cell::new(0) };
        static LEAVES: Leaves = const { Leaves };
    }

    /// Leaves the number when the thread ends.
    struct Leaves;

    impl Drop for Leaves {
        fn drop(&mut self) {
            // What the thread's other values count as they go, they count by another number.
            NUMBERS.lock().left.insert(OWN.replace(0));
        }
    }

    #[cold]
    pub(super) fn take(own: &Cell<u64>) -> u64 {
        // A thread that has left its number already takes one that was nobody's, and keeps it.
        let starting = LEAVES.try_with(|_| ()).is_ok();
        let mut numbers = NUMBERS.lock();
        let left = if starting { numbers.left.pop_first() } else { None };
        own.set(left.unwrap_or_else(|| {
            numbers.taken += 1;
            numbers.taken
        }));
        own.get()
    }
}

/// The models say which thread they mean.
#[cfg(resile_loom)]
pub(crate) fn thread_number() -> u64 {
    1
}

/// How many lines what every call changes is spread over where threads meet: a power of two.
#[cfg(not(resile_loom))]
pub(crate) fn lanes() -> usize {
    static LANES: LazyLock<usize> =
        LazyLock::new(|| thread::available_parallelism().map_or(4, usize::from).next_power_of_two().clamp(4, 16));
    *LANES
}

#[cfg(resile_loom)]
pub(crate) fn lanes() -> usize {
    2
}

/// A line of memory of its own.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Line<T>(pub(crate) T);

/// A count.
#[derive(Debug)]
pub(crate) struct Tally {
    first: Owned,
    others: OnceLock<Box<[Line<Owned>]>>,
}

impl Default for Tally {
    fn default() -> Self {
        Self { first: Owned::new(), others: OnceLock::new() }
    }
}

impl Tally {
    #[inline]
    pub(crate) fn add(&self) {
        self.add_as(thread_number());
    }

    #[inline]
    fn add_as(&self, thread: u64) {
        let owned = match self.others.get() {
            None => &self.first,
            Some(others) => &others[thread as usize & (others.len() - 1)].0,
        };
        if owned.owner.load(Ordering::Relaxed) == thread {
            owned.part.add_own();
        } else {
            self.add_to(owned, thread);
        }
    }

    #[inline(never)]
    fn add_to(&self, owned: &Owned, thread: u64) {
        let nobody = owned.owner.load(Ordering::Relaxed) == 0;
        if nobody && owned.owner.compare_exchange(0, thread, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            owned.part.add_own();
        } else if owned.part.add_shared() {
            self.others.get_or_init(|| (0..lanes()).map(|_| Line(Owned::new())).collect());
        }
    }

    pub(crate) fn total(&self) -> u64 {
        let others = self.others.get().into_iter().flatten().map(|owned| owned.0.part.total());
        self.first.part.total() + others.sum::<u64>()
    }
}

/// A part of a count, and the thread that owns it; 0 while there is none.
#[derive(Debug)]
struct Owned {
    owner: AtomicU64,
    part: Part,
}

impl Owned {
    fn new() -> Self {
        Self { owner: AtomicU64::new(0), part: Part::new() }
    }
}

/// What the owner has added, which it alone writes, and what the others have.
#[derive(Debug)]
pub(crate) struct Part {
    own: AtomicU64,
    shared: AtomicU64,
}

impl Part {
    pub(crate) fn new() -> Self {
        Self { own: AtomicU64::new(0), shared: AtomicU64::new(0) }
    }

    /// For the owner.
    #[inline]
    pub(crate) fn add_own(&self) {
        self.own.store(self.own.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// For any other thread. Whether another was adding at the same time, the owner included.
    pub(crate) fn add_shared(&self) -> bool {
        let (own, mut met) = (self.own.load(Ordering::Relaxed), false);
        let mut count = self.shared.load(Ordering::Relaxed);
        while let Err(now) = self.shared.compare_exchange_weak(count, count + 1, Ordering::Relaxed, Ordering::Relaxed) {
            met |= now != count;
            count = now;
        }
        met || self.own.load(Ordering::Relaxed) != own
    }

    pub(crate) fn total(&self) -> u64 {
        self.own.load(Ordering::Relaxed) + self.shared.load(Ordering::Relaxed)
    }
}

#[cfg(all(test, not(resile_loom)))]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn what_many_threads_add_is_counted_once_each() {
        let tally = Tally::default();
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..10_000).for_each(|_| tally.add()));
            }
        });
        assert_eq!(tally.total(), 80_000);
    }

    #[test]
    fn a_thread_keeps_its_number_and_shares_it_with_none() {
        let (own, all_live) = (thread_number(), std::sync::Barrier::new(4));
        let others: Vec<_> = thread::scope(|scope| {
            let number = || {
                let number = thread_number();
                all_live.wait();
                assert_eq!(thread_number(), number);
                number
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(number)).collect();
            threads.into_iter().map(|thread| thread.join().expect("a number")).collect()
        });
        assert_eq!(thread_number(), own);
        let numbers: HashSet<_> = others.into_iter().chain([own]).collect();
        assert_eq!(numbers.len(), 5);
    }

    #[test]
    fn a_thread_that_counts_as_it_ends_has_a_number_of_its_own() {
        struct Counts(std::sync::mpsc::Sender<(u64, u64)>, u64);
        impl Drop for Counts {
            fn drop(&mut self) {
                let _ = self.0.send((self.1, thread_number()));
            }
        }
        thread_local! {
            static COUNTS: std::cell::RefCell<Option<Counts>> = const { std::cell::RefCell::new(None) };
        }
        let (sender, numbers) = std::sync::mpsc::channel();
        let counts = move || {
            // Made before the number, and so dropped after it is left.
            COUNTS.with(|counts| *counts.borrow_mut() = Some(Counts(sender, 0)));
            let number = thread_number();
            COUNTS.with(|counts| counts.borrow_mut().as_mut().expect("just made").1 = number);
        };
        thread::spawn(counts).join().expect("a thread that ends");
        let (before, after) = numbers.recv().expect("both numbers");
        assert!(before != 0 && after != 0 && after != thread_number());
    }
}

#[cfg(all(test, resile_loom))]
mod models {
    use loom::{sync::Arc, thread};

    use super::*;

    /// Adds as each of the threads at once, so many times each.
    fn add_as(tally: &Arc<Tally>, threads: &'static [u64], times: u64) {
        let others: Vec<_> = threads[1..]
            .iter()
            .map(|number| {
                let tally = Arc::clone(tally);
                thread::spawn(move || (0..times).for_each(|_| tally.add_as(*number)))
            })
            .collect();
        (0..times).for_each(|_| tally.add_as(threads[0]));
        others.into_iter().for_each(|other| other.join().unwrap());
    }

    #[test]
    fn nothing_added_is_lost_or_doubled() {
        loom::model(|| {
            let tally = Arc::new(Tally::default());
            add_as(&tally, &[1, 2], 1);
            assert_eq!(tally.total(), 2);
        });
    }

    #[test]
    fn an_owner_goes_on_while_others_spread_the_count() {
        for (threads, times) in [(&[1, 2][..], 2), (&[1, 2, 3], 1)] {
            let mut builder = loom::model::Builder::new();
            builder.preemption_bound = Some(2);
            builder.check(move || {
                let tally = Arc::new(Tally::default());
                tally.add_as(1);
                add_as(&tally, threads, times);
                assert_eq!(tally.total(), 1 + threads.len() as u64 * times);
            });
        }
    }
}
