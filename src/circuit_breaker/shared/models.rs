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

/// Whether it was counted.
fn finish(shared: &Shared, thread: u64, ticket: &Ticket, outcome: Outcome) -> bool {
    let plain = outcome == Outcome::Success && ticket.trial == 0;
    if plain && shared.count_plain_for(thread, ticket.generation, NOW) == Counted::Yes {
        return true;
    }
    look_for(shared, thread, |core| core.finish(ticket, Verdict::from(outcome), false, None))
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
        call(&shared, 1, Outcome::Success);
        thread.join().unwrap();
        let totals = look(&shared, Core::view).totals;
        assert_eq!((totals.calls, totals.failed), (6, 1));
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
        call(&shared, 1, Outcome::Failure);
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
fn a_success_that_meets_a_transition_is_counted_or_late() {
    for owned_lanes in [false, true] {
        explore(move || {
            let config = Config::default().sliding_window_size(8);
            let shared = if owned_lanes { owned(config) } else { shared(config) };
            let tickets = [1, 2].map(|_| acquire(&shared, 1).expect("a closed circuit admits"));
            let other = Arc::clone(&shared);
            let thread = thread::spawn(move || {
                look_for(&other, 2, |core| core.transition_to(State::MetricsOnly));
                look_for(&other, 2, |core| core.transition_to(State::Closed));
            });
            let counted = tickets.iter().filter(|ticket| finish(&shared, 1, ticket, Outcome::Success)).count();
            thread.join().unwrap();
            // Once more, as what has been stored in the moment of a look is seen by the next.
            look(&shared, |_| ());
            assert_eq!(look(&shared, Core::view).late_results, 2 - counted as u64);
        });
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
fn every_rejection_is_counted_once() {
    for spread in [false, true] {
        explore(move || {
            let config = Config::default();
            let shared = if spread { shared(config) } else { shared_by_one(config) };
            look(&shared, |core| core.transition_to(State::ForcedOpen));
            let other = Arc::clone(&shared);
            let thread = thread::spawn(move || other.count_not_permitted_for(2));
            shared.count_not_permitted_for(1);
            shared.count_not_permitted_for(1);
            thread.join().unwrap();
            assert_eq!(shared.not_permitted(), 3);
        });
    }
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
