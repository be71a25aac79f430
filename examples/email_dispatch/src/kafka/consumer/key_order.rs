//! One at a time per key, first come first served.

use std::collections::{HashMap, VecDeque, hash_map::Entry};

/// What waits for the one before it of the same key.
///
/// A key is here while somebody works on it, and gone when nothing of it is left.
#[derive(Debug)]
pub(super) struct KeyOrder<T> {
    busy: HashMap<u64, VecDeque<T>>,
}

impl<T> KeyOrder<T> {
    pub(super) fn new() -> Self {
        Self { busy: HashMap::new() }
    }

    /// Gives the item back when nobody works on its key: the caller does, until [`next`](Self::next) says `None`.
    pub(super) fn enter(&mut self, key: u64, item: T) -> Option<T> {
        match self.busy.entry(key) {
            Entry::Occupied(mut waiting) => {
                waiting.get_mut().push_back(item);
                None
            }
            Entry::Vacant(free) => {
                free.insert(VecDeque::new());
                Some(item)
            }
        }
    }

    /// The next of a key, whose one before is over.
    pub(super) fn next(&mut self, key: u64) -> Option<T> {
        let next = self.busy.get_mut(&key)?.pop_front();
        if next.is_none() {
            self.busy.remove(&key);
        }
        next
    }

    /// Forgets what waits and is not to be kept, and says how many that were.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) -> usize {
        self.busy
            .values_mut()
            .map(|waiting| {
                let before = waiting.len();
                waiting.retain(&mut keep);
                before - waiting.len()
            })
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_a_key_goes_at_once() {
        assert_eq!(KeyOrder::new().enter(1, 'a'), Some('a'));
    }

    #[test]
    fn the_second_of_a_key_waits_for_the_first() {
        let mut order = KeyOrder::new();
        order.enter(1, 'a');
        assert_eq!(order.enter(1, 'b'), None);
        assert_eq!(order.next(1), Some('b'));
        assert_eq!(order.next(1), None);
    }

    #[test]
    fn they_go_in_the_order_they_came() {
        let mut order = KeyOrder::new();
        for item in ['a', 'b', 'c', 'd'] {
            order.enter(1, item);
        }
        assert_eq!(std::iter::from_fn(|| order.next(1)).collect::<String>(), "bcd");
    }

    #[test]
    fn another_key_does_not_wait() {
        let mut order = KeyOrder::new();
        order.enter(1, 'a');
        assert_eq!(order.enter(2, 'b'), Some('b'));
    }

    #[test]
    fn a_key_of_which_nothing_is_left_takes_no_room() {
        let mut order = KeyOrder::new();
        order.enter(1, 'a');
        assert_eq!(order.next(1), None);
        assert!(order.busy.is_empty());
        assert_eq!(order.enter(1, 'b'), Some('b'));
    }

    #[test]
    fn what_is_dropped_while_it_waits_is_counted_and_its_key_stays_busy() {
        let mut order = KeyOrder::new();
        for item in ['a', 'b', 'c'] {
            order.enter(1, item);
        }
        assert_eq!(order.retain(|item| *item != 'b'), 1);
        assert_eq!(order.enter(1, 'd'), None);
        assert_eq!(std::iter::from_fn(|| order.next(1)).collect::<String>(), "cd");
    }
}
