//! Places for work that several lanes share by weight: high before normal before low, and nobody starves.
//!
//! While there are more places than work nobody waits. When there is more work than places, each place that becomes free
//! goes to a lane that waits, in proportion to the weights of those that do: with 6, 3 and 1, of ten places six, three
//! and one, evenly mixed. Within a lane it is first come, first served. The mixing is the smooth weighted round robin
//! that nginx made known.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Places shared by lanes. A clone shares the same places.
#[derive(Clone, Debug)]
pub struct Slots(Arc<Mutex<State>>);

/// One place, given back when dropped.
#[derive(Debug)]
#[must_use = "dropping the slot gives the place back"]
pub struct Slot(Option<Slots>);

#[derive(Debug)]
struct State {
    free: usize,
    lanes: Vec<Lane>,
}

#[derive(Debug)]
struct Lane {
    weight: u32,
    credit: i64,
    waiting: VecDeque<oneshot::Sender<Slot>>,
}

impl Slots {
    /// So many places for lanes of these weights. No place, or a weight of 0, counts as 1.
    #[must_use]
    pub fn new(places: usize, weights: &[u32]) -> Self {
        let lane = |weight: &u32| Lane { weight: (*weight).max(1), credit: 0, waiting: VecDeque::new() };
        Self(Arc::new(Mutex::new(State { free: places.max(1), lanes: weights.iter().map(lane).collect() })))
    }

    /// Waits for a place. A lane that does not exist shares the last one's turn.
    ///
    /// # Cancel safety
    /// A waiter that is dropped leaves the line; a place that was just given to it goes to the next.
    pub async fn take(&self, lane: usize) -> Slot {
        let turn = {
            let mut state = self.0.lock();
            // Places are only free while nobody waits.
            if state.free > 0 {
                state.free -= 1;
                return Slot(Some(self.clone()));
            }
            let last = state.lanes.len().saturating_sub(1);
            let Some(lane) = state.lanes.get_mut(lane.min(last)) else {
                return Slot(None);
            };
            let (give, turn) = oneshot::channel();
            lane.waiting.push_back(give);
            turn
        };
        turn.await.unwrap_or(Slot(None)) // whoever gives the place holds these slots alive, and never drops it ungiven
    }

    /// How many places are free.
    #[must_use]
    pub fn free(&self) -> usize {
        self.0.lock().free
    }

    /// Gives a place to whose turn it is.
    fn give(self) {
        loop {
            let waiter = {
                let mut state = self.0.lock();
                match state.next() {
                    Some(waiter) => waiter,
                    None => {
                        state.free += 1;
                        return;
                    }
                }
            };
            match waiter.send(Slot(Some(self.clone()))) {
                Ok(()) => return,
                // It has just stopped waiting. The place is still here, so this slot must not give it back as well.
                Err(mut slot) => drop(slot.0.take()),
            }
        }
    }
}

impl State {
    /// The waiter whose turn it is.
    fn next(&mut self) -> Option<oneshot::Sender<Slot>> {
        let mut total = 0;
        for lane in &mut self.lanes {
            while lane.waiting.front().is_some_and(oneshot::Sender::is_closed) {
                lane.waiting.pop_front();
            }
            if lane.waiting.is_empty() {
                lane.credit = 0;
            } else {
                lane.credit += i64::from(lane.weight);
                total += i64::from(lane.weight);
            }
        }
        let waiting = self.lanes.iter_mut().filter(|lane| !lane.waiting.is_empty());
        // The first of equals.
        let lane = waiting.rev().max_by_key(|lane| lane.credit)?;
        lane.credit -= total;
        lane.waiting.pop_front()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(slots) = self.0.take() {
            slots.give();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::{FutureExt, future::join_all, poll};
    use proptest::prelude::*;

    use super::*;

    /// The order in which lanes get the one place, when each has so many waiters.
    async fn order(weights: &[u32], waiters: &[usize]) -> Vec<usize> {
        let slots = Slots::new(1, weights);
        let held = slots.take(0).await;
        let got = Mutex::new(Vec::new());
        let lanes = waiters.iter().enumerate().flat_map(|(lane, waiters)| std::iter::repeat_n(lane, *waiters));
        let work = join_all(lanes.map(|lane| {
            let (slots, got) = (&slots, &got);
            async move {
                let _slot = slots.take(lane).await;
                got.lock().push(lane);
            }
        }));
        let mut work = pin!(work);
        assert!(poll!(&mut work).is_pending());
        drop(held);
        work.await;
        std::mem::take(&mut *got.lock())
    }

    #[tokio::test]
    async fn while_all_have_work_places_are_given_in_proportion_to_the_weights() {
        let order = order(&[6, 3, 1], &[60, 30, 10]).await;
        for ten in order.chunks(10) {
            let of = |lane| ten.iter().filter(|given| **given == lane).count();
            assert_eq!((of(0), of(1), of(2)), (6, 3, 1), "{order:?}");
        }
    }

    #[tokio::test]
    async fn the_first_of_ten_goes_to_the_heaviest_and_no_lane_gets_all_its_turns_in_a_row() {
        let order = order(&[6, 3, 1], &[6, 3, 1]).await;
        assert_eq!(order[0], 0);
        assert!(order.windows(4).all(|window| window.iter().any(|lane| *lane != 0)), "{order:?}");
    }

    #[tokio::test]
    async fn the_lightest_lane_is_not_starved_and_the_heaviest_alone_gets_everything() {
        assert!(order(&[6, 3, 1], &[1_000, 0, 1]).await[..7].contains(&2));
        assert_eq!(order(&[6, 3, 1], &[20, 0, 0]).await, [0; 20]);
    }

    #[tokio::test]
    async fn a_lane_that_had_no_work_has_saved_nothing_up() {
        let slots = Slots::new(1, &[1, 1]);
        for _ in 0..50 {
            drop(slots.take(0).await);
        }
        let order = order(&[1, 1], &[10, 10]).await;
        assert!(order.windows(2).all(|pair| pair[0] != pair[1]), "{order:?}");
    }

    #[tokio::test]
    async fn a_waiter_that_gives_up_costs_nobody_a_place() {
        let slots = Slots::new(1, &[1]);
        let held = slots.take(0).await;
        let mut waits = Box::pin(slots.take(0));
        let mut gives_up = Box::pin(slots.take(0));
        assert!(poll!(&mut gives_up).is_pending() && poll!(&mut waits).is_pending());
        drop(gives_up);
        drop(held);
        let slot = waits.now_or_never().expect("the place is free");
        drop(slot);
        assert_eq!(slots.free(), 1);
    }

    #[tokio::test]
    async fn a_place_given_to_a_waiter_that_is_dropped_before_it_looks_goes_on() {
        let slots = Slots::new(1, &[1]);
        let held = slots.take(0).await;
        let mut dropped = Box::pin(slots.take(0));
        let mut waits = Box::pin(slots.take(0));
        assert!(poll!(&mut dropped).is_pending() && poll!(&mut waits).is_pending());
        drop(held);
        drop(dropped);
        assert!(waits.now_or_never().is_some());
    }

    proptest! {
        #[test]
        fn no_place_is_lost_or_made(places in 1..4_usize, steps in proptest::collection::vec((0..4_usize, 0..3_usize), 0..60)) {
            let slots = Slots::new(places, &[6, 3, 1]);
            let (mut held, mut waiting) = (Vec::new(), Vec::new());
            for (step, lane) in steps {
                match step {
                    0 | 1 => waiting.push(Box::pin({
                        let slots = slots.clone();
                        async move { slots.take(lane).await }
                    })),
                    2 if !held.is_empty() => drop(held.remove(lane % held.len())),
                    3 if !waiting.is_empty() => drop(waiting.remove(lane % waiting.len())),
                    _ => {}
                }
                waiting.retain_mut(|wait| match wait.as_mut().now_or_never() {
                    Some(slot) => { held.push(slot); false }
                    None => true,
                });
                prop_assert!(held.len() <= places);
                prop_assert_eq!(slots.free() + held.len(), places);
                prop_assert!(waiting.is_empty() || slots.free() == 0);
            }
            drop(waiting);
            drop(held);
            prop_assert_eq!(slots.free(), places);
        }
    }
}
