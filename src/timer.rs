//! Who sleeps until when: a heap of deadlines, and the one thread that wakes sleepers on the machine's clock.
//!
//! A heap of positions over a slab of entries, so that a sleeper that gives up leaves at once, and neither arming nor
//! leaving allocates once the heap has grown to the number of sleepers. Arming with a deadline later than the thread's
//! next look wakes nobody, which is the common case: a time-out is armed, and taken out again, long before it is due.

use std::{cmp::Ordering, mem, sync::LazyLock, task::Waker, thread, time::Duration};

use parking_lot::{Condvar, Mutex, Once};

use crate::{
    clock::{Clock, Instant},
    sync::contained,
};

/// A place in the queue. The turn tells a later sleeper in the same slot apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    slot: u32,
    turn: u64,
}

/// Sleepers by deadline; equal deadlines in the order they were registered.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    slots: Vec<Slot>,
    free: Vec<u32>,
    heap: Vec<u32>,
    turns: u64,
}

#[derive(Debug)]
struct Slot {
    deadline: u64,
    turn: u64,
    place: usize,
    waker: Option<Waker>,
}

impl Timers {
    pub(crate) fn insert(&mut self, deadline: u64, waker: Waker) -> Key {
        self.turns += 1;
        let entry = Slot { deadline, turn: self.turns, place: self.heap.len(), waker: Some(waker) };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = entry;
                slot
            }
            None => {
                self.slots.push(entry);
                (self.slots.len() - 1) as u32
            }
        };
        self.heap.push(slot);
        self.rise(self.heap.len() - 1);
        Key { slot, turn: self.turns }
    }

    /// Takes a sleeper out; `None` if it has been woken already.
    pub(crate) fn remove(&mut self, key: &Key) -> Option<Waker> {
        let place = self.waiting(key)?.place;
        self.remove_at(place)
    }

    /// Whether a sleeper would wake this task; `None` if it has been woken already.
    pub(crate) fn would_wake(&mut self, key: &Key, waker: &Waker) -> Option<bool> {
        self.waiting(key)?.waker.as_ref().map(|known| known.will_wake(waker))
    }

    /// Exchanges a sleeper's waker; `false` if it has been woken already. Wakers are cloned and dropped outside the lock:
    /// they are the executor's code.
    pub(crate) fn exchange(&mut self, key: &Key, waker: &mut Waker) -> bool {
        match self.waiting(key).and_then(|slot| slot.waker.as_mut()) {
            Some(known) => {
                mem::swap(known, waker);
                true
            }
            None => false,
        }
    }

    /// Takes out the first sleeper due by `now`.
    pub(crate) fn pop_due(&mut self, now: u64) -> Option<Waker> {
        if self.next_deadline()? > now {
            return None;
        }
        self.remove_at(0)
    }

    pub(crate) fn next_deadline(&self) -> Option<u64> {
        self.heap.first().map(|slot| self.slots[*slot as usize].deadline)
    }

    fn waiting(&mut self, key: &Key) -> Option<&mut Slot> {
        self.slots.get_mut(key.slot as usize).filter(|slot| slot.turn == key.turn && slot.waker.is_some())
    }

    fn remove_at(&mut self, place: usize) -> Option<Waker> {
        let slot = self.heap.swap_remove(place);
        self.free.push(slot);
        if let Some(&moved) = self.heap.get(place) {
            self.slots[moved as usize].place = place;
            self.sink(place);
            self.rise(place);
        }
        self.slots[slot as usize].waker.take()
    }

    fn earlier(&self, a: usize, b: usize) -> bool {
        let (a, b) = (&self.slots[self.heap[a] as usize], &self.slots[self.heap[b] as usize]);
        (a.deadline, a.turn).cmp(&(b.deadline, b.turn)) == Ordering::Less
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.slots[self.heap[a] as usize].place = a;
        self.slots[self.heap[b] as usize].place = b;
    }

    fn rise(&mut self, mut place: usize) {
        while place > 0 {
            let parent = (place - 1) / 2;
            if !self.earlier(place, parent) {
                break;
            }
            self.swap(place, parent);
            place = parent;
        }
    }

    fn sink(&mut self, mut place: usize) {
        loop {
            let mut first = place;
            for child in [2 * place + 1, 2 * place + 2] {
                if child < self.heap.len() && self.earlier(child, first) {
                    first = child;
                }
            }
            if first == place {
                return;
            }
            self.swap(place, first);
            place = first;
        }
    }
}

/// The sleepers on the machine's clock, and when the thread looks at them next.
struct System {
    queue: Mutex<Queue>,
    earlier: Condvar,
    started: Once,
}

#[derive(Default)]
struct Queue {
    timers: Timers,
    next_look: u64,
}

static SYSTEM: LazyLock<System> =
    LazyLock::new(|| System { queue: Mutex::default(), earlier: Condvar::new(), started: Once::new() });

pub(crate) fn with_system<R>(f: impl FnOnce(&mut Timers) -> R) -> R {
    f(&mut SYSTEM.queue.lock().timers)
}

pub(crate) fn register(clock: &Clock, deadline: Instant, waker: Waker) -> Key {
    let system = &*SYSTEM;
    system.started.call_once(|| {
        let clock = clock.clone();
        let thread = thread::Builder::new().name("resile-timer".into()).spawn(move || wake_sleepers(system, &clock));
        thread.expect("the operating system refused the timer thread");
    });
    let mut queue = system.queue.lock();
    let key = queue.timers.insert(deadline.as_nanos(), waker);
    if deadline.as_nanos() < queue.next_look {
        queue.next_look = deadline.as_nanos();
        drop(queue);
        system.earlier.notify_one();
    }
    key
}

fn wake_sleepers(system: &System, clock: &Clock) {
    let mut due = Vec::new();
    let mut queue = system.queue.lock();
    loop {
        let now = clock.now().as_nanos();
        while let Some(waker) = queue.timers.pop_due(now) {
            due.push(waker);
        }
        if !due.is_empty() {
            drop(queue);
            for waker in mem::take(&mut due) {
                // If a waker panics, the other sleepers still wake.
                contained(|| waker.wake());
            }
            queue = system.queue.lock();
            continue;
        }
        queue.next_look = queue.timers.next_deadline().unwrap_or(u64::MAX);
        if queue.next_look == u64::MAX {
            system.earlier.wait(&mut queue);
        } else {
            let wait = Duration::from_nanos(queue.next_look - now);
            system.earlier.wait_for(&mut queue, wait);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_queue_gives_sleepers_out_as_a_sorted_list_would(
            steps in proptest::collection::vec((0_u8..3, 0_u64..50), 1..200),
        ) {
            let mut timers = Timers::default();
            let mut model: Vec<(u64, u64)> = Vec::new();
            let mut keys = Vec::new();
            for (step, number) in steps {
                match step {
                    0 => {
                        let key = timers.insert(number, Waker::noop().clone());
                        model.push((number, key.turn));
                        keys.push(key);
                    }
                    1 if !keys.is_empty() => {
                        let key = keys.swap_remove(number as usize % keys.len());
                        let known = model.iter().position(|(_, turn)| *turn == key.turn);
                        prop_assert_eq!(timers.remove(&key).is_some(), known.is_some());
                        if let Some(known) = known {
                            model.remove(known);
                        }
                    }
                    _ => {
                        model.sort_unstable();
                        let due = model.first().is_some_and(|(deadline, _)| *deadline <= number);
                        prop_assert_eq!(timers.pop_due(number).is_some(), due);
                        if due {
                            let (_, turn) = model.remove(0);
                            let key = keys.iter().find(|key| key.turn == turn);
                            prop_assert!(key.is_none_or(|key| timers.remove(key).is_none()));
                        }
                    }
                }
                prop_assert_eq!(timers.next_deadline(), model.iter().map(|(deadline, _)| *deadline).min());
            }
        }
    }
}
