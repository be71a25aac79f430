//! Counts that many threads add to, and the numbers that threads know themselves by.
//!
//! A locked instruction costs as much as some twenty others, and where threads share its line of memory far more. So the
//! first thread that adds to a count owns it: it alone writes its part, with a plain load and a plain store, which lose
//! nothing as nobody else writes there. Every other thread adds to a part that is shared, and when two meet in it, the
//! count is spread over lines of memory, each with an owner of its own. A total read while threads add may miss what is
//! being added just then; at rest it is exact.

use std::thread;

use crate::sync::{AtomicU64, OnceLock, Ordering};

/// The number of this thread, from 1. No two threads ever have the same one.
#[cfg(not(resile_loom))]
#[inline]
pub(crate) fn thread_number() -> u64 {
    use std::cell::Cell;
    thread_local! {
        static NUMBER: Cell<u64> = const { Cell::new(0) };
    }
    #[cold]
    fn first(number: &Cell<u64>) -> u64 {
        static THREADS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        number.set(THREADS.fetch_add(1, Ordering::Relaxed) + 1);
        number.get()
    }
    NUMBER.with(|number| if number.get() == 0 { first(number) } else { number.get() })
}

/// The models say which thread they mean.
#[cfg(resile_loom)]
pub(crate) fn thread_number() -> u64 {
    1
}

/// How many lines what every call changes is spread over where threads meet: a power of two.
pub(crate) fn lanes() -> usize {
    if cfg!(resile_loom) {
        return 2;
    }
    thread::available_parallelism().map_or(4, usize::from).next_power_of_two().clamp(4, 16)
}

/// A line of memory of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Line<T>(pub(crate) T);

/// A count.
#[derive(Debug)]
pub(crate) struct Tally {
    first: Part,
    parts: OnceLock<Box<[Line<Part>]>>,
}

#[derive(Debug)]
struct Part {
    /// The thread that alone writes `own`; 0 while there is none.
    owner: AtomicU64,
    own: AtomicU64,
    shared: AtomicU64,
}

impl Default for Tally {
    fn default() -> Self {
        Self { first: Part::new(), parts: OnceLock::new() }
    }
}

impl Tally {
    #[inline]
    pub(crate) fn add(&self) {
        self.add_as(thread_number());
    }

    #[inline]
    fn add_as(&self, thread: u64) {
        let part = match self.parts.get() {
            None => &self.first,
            Some(parts) => &parts[thread as usize & (parts.len() - 1)].0,
        };
        if part.owner.load(Ordering::Relaxed) == thread {
            part.add_own();
        } else {
            self.add_to(part, thread);
        }
    }

    #[inline(never)]
    fn add_to(&self, part: &Part, thread: u64) {
        let nobody = part.owner.load(Ordering::Relaxed) == 0;
        if nobody && part.owner.compare_exchange(0, thread, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            return part.add_own();
        }
        let met = part.add_shared();
        if met && self.parts.get().is_none() {
            self.parts.get_or_init(|| (0..lanes()).map(|_| Line(Part::new())).collect());
        }
    }

    pub(crate) fn total(&self) -> u64 {
        let more = self.parts.get().into_iter().flatten().map(|part| part.0.total());
        self.first.total() + more.sum::<u64>()
    }
}

impl Part {
    fn new() -> Self {
        Self { owner: AtomicU64::new(0), own: AtomicU64::new(0), shared: AtomicU64::new(0) }
    }

    #[inline]
    fn add_own(&self) {
        self.own.store(self.own.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Whether another thread was adding at the same time.
    fn add_shared(&self) -> bool {
        let mut met = false;
        let mut count = self.shared.load(Ordering::Relaxed);
        while let Err(now) = self.shared.compare_exchange_weak(count, count + 1, Ordering::Relaxed, Ordering::Relaxed) {
            met |= now != count;
            count = now;
        }
        met
    }

    fn total(&self) -> u64 {
        self.own.load(Ordering::Relaxed) + self.shared.load(Ordering::Relaxed)
    }
}

#[cfg(all(test, not(resile_loom)))]
mod tests {
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
        let own = thread_number();
        let others: Vec<_> = (0..4).map(|_| thread::spawn(thread_number).join().expect("a number")).collect();
        assert_eq!(thread_number(), own);
        assert!(!others.contains(&own));
        assert!(others.windows(2).all(|pair| pair[0] != pair[1]));
    }
}

#[cfg(all(test, resile_loom))]
mod models {
    use loom::{sync::Arc, thread};

    use super::*;

    #[test]
    fn nothing_added_is_lost_or_doubled() {
        loom::model(|| {
            let tally = Arc::new(Tally::default());
            let others: Vec<_> = [2, 3]
                .map(|number| {
                    let tally = Arc::clone(&tally);
                    thread::spawn(move || tally.add_as(number))
                })
                .into();
            tally.add_as(1);
            others.into_iter().for_each(|other| other.join().unwrap());
            assert_eq!(tally.total(), 3);
        });
    }

    #[test]
    fn an_owner_goes_on_while_others_spread_the_count() {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(|| {
            let tally = Arc::new(Tally::default());
            tally.add_as(1);
            let others: Vec<_> = [2, 3]
                .map(|number| {
                    let tally = Arc::clone(&tally);
                    thread::spawn(move || {
                        tally.add_as(number);
                        tally.add_as(number);
                    })
                })
                .into();
            tally.add_as(1);
            others.into_iter().for_each(|other| other.join().unwrap());
            assert_eq!(tally.total(), 6);
        });
    }
}
