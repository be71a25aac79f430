//! Events: the three ways to listen, and what the breaker tells.

use std::{
    future::{Future, ready},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::{Pin, pin},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread,
    time::Duration,
};

use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;
use resile::{
    CircuitBreaker, Clock, Event, ManualClock, Outcome, Subscription,
    circuit_breaker::{Config, State},
    event::{EventKind, EventStream, PolicyKind},
};

const SECOND: Duration = Duration::from_secs(1);

/// Two calls, both of which must be there; a second is slow; two trial calls of ten seconds at most.
fn breaker(clock: &ManualClock) -> CircuitBreaker {
    let config = Config::default()
        .clock(clock)
        .sliding_window_size(2)
        .slow_call_duration_threshold(SECOND)
        .permitted_number_of_calls_in_half_open_state(2)
        .max_trial_call_duration(10 * SECOND);
    CircuitBreaker::new("orders", config).expect("settings that can be")
}

fn record(breaker: &CircuitBreaker, outcome: Outcome) {
    breaker.try_acquire().expect("admitted").record(outcome);
}

/// A listener that counts.
fn counter(breaker: &CircuitBreaker) -> (Arc<AtomicU32>, Subscription) {
    let count = Arc::new(AtomicU32::new(0));
    let heard = Arc::clone(&count);
    let subscription = breaker.on_event(move |_| {
        heard.fetch_add(1, Ordering::Relaxed);
    });
    (count, subscription)
}

fn heard(count: &AtomicU32) -> u32 {
    count.load(Ordering::Relaxed)
}

fn names(events: &[Event]) -> Vec<&'static str> {
    events.iter().map(|event| event.kind.as_str()).collect()
}

fn waiting(stream: &mut EventStream) -> Vec<&'static str> {
    std::iter::from_fn(|| stream.try_next()).map(|event| event.kind.as_str()).collect()
}

#[derive(Default)]
struct Wakes(AtomicU32);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn poll<F: Future>(future: Pin<&mut F>, wakes: &Arc<Wakes>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(&Waker::from(Arc::clone(wakes))))
}

// Listeners

#[test]
fn a_listener_hears_every_event_until_its_subscription_is_dropped() {
    let breaker = breaker(&Clock::manual());
    let (count, subscription) = counter(&breaker);
    record(&breaker, Outcome::Success);
    record(&breaker, Outcome::Ignored);
    assert_eq!(heard(&count), 2);
    drop(subscription);
    record(&breaker, Outcome::Success);
    assert_eq!(heard(&count), 2);
}

#[test]
fn forever_lasts_as_long_as_the_breaker() {
    let breaker = breaker(&Clock::manual());
    let (count, subscription) = counter(&breaker);
    subscription.forever();
    record(&breaker, Outcome::Success);
    assert_eq!((heard(&count), Arc::strong_count(&count)), (1, 2));
    drop(breaker);
    assert_eq!(Arc::strong_count(&count), 1);
}

#[test]
fn a_subscription_may_outlive_the_breaker() {
    let breaker = breaker(&Clock::manual());
    let (_, subscription) = counter(&breaker);
    assert_eq!(format!("{subscription:?}"), "Subscription { active: true }");
    drop(breaker);
    assert_eq!(format!("{subscription:?}"), "Subscription { active: false }");
    drop(subscription);
}

#[test]
fn all_listeners_hear_an_event_in_the_order_they_subscribed() {
    let breaker = breaker(&Clock::manual());
    let order = Arc::new(Mutex::new(Vec::new()));
    let subscriptions: Vec<_> = (0..4)
        .map(|number| {
            let order = Arc::clone(&order);
            breaker.on_event(move |_| order.lock().push(number))
        })
        .collect();
    record(&breaker, Outcome::Success);
    assert_eq!(std::mem::take(&mut *order.lock()), [0, 1, 2, 3]);
    drop(subscriptions);
    record(&breaker, Outcome::Success);
    assert!(order.lock().is_empty());
}

#[test]
fn ending_one_subscription_leaves_the_others() {
    let breaker = breaker(&Clock::manual());
    let (first, first_subscription) = counter(&breaker);
    let (second, _second_subscription) = counter(&breaker);
    drop(first_subscription);
    record(&breaker, Outcome::Success);
    assert_eq!((heard(&first), heard(&second)), (0, 1));
}

#[test]
fn a_listener_may_end_its_own_subscription() {
    let breaker = breaker(&Clock::manual());
    let own = Arc::new(Mutex::new(None::<Subscription>));
    let (kept, count) = (Arc::clone(&own), Arc::new(AtomicU32::new(0)));
    let calls = Arc::clone(&count);
    let subscription = breaker.on_event(move |_| {
        calls.fetch_add(1, Ordering::Relaxed);
        drop(kept.lock().take());
    });
    *own.lock() = Some(subscription);
    record(&breaker, Outcome::Success);
    record(&breaker, Outcome::Success);
    assert_eq!(heard(&count), 1);
    assert_eq!(Arc::strong_count(&count), 1, "the listener is gone");
}

#[test]
fn a_listener_may_subscribe_another_which_hears_the_next_event() {
    let breaker = breaker(&Clock::manual());
    let (handle, count) = (breaker.clone(), Arc::new(AtomicU32::new(0)));
    let late = Arc::clone(&count);
    let subscribed = OnceLock::new();
    let _subscription = breaker.on_event(move |_| {
        subscribed.get_or_init(|| {
            let late = Arc::clone(&late);
            handle.on_event(move |_| {
                late.fetch_add(1, Ordering::Relaxed);
            })
        });
    });
    record(&breaker, Outcome::Success);
    assert_eq!(heard(&count), 0);
    record(&breaker, Outcome::Success);
    assert_eq!(heard(&count), 1);
}

#[test]
fn a_panicking_listener_harms_neither_the_call_nor_the_other_listeners() {
    let breaker = breaker(&Clock::manual());
    let (before, _before) = counter(&breaker);
    breaker.on_event(|_| resume_unwind(Box::new("listener"))).forever();
    let (after, _after) = counter(&breaker);
    let called = breaker.call(|| ready(Ok::<_, ()>(1))).now_or_never();
    assert_eq!(called, Some(Ok(1)));
    assert_eq!((heard(&before), heard(&after), breaker.metrics().buffered_calls), (1, 1, 1));
    // Neither does it when the call itself is unwinding.
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let _permit = breaker.try_acquire();
        resume_unwind(Box::new("the call"));
    }));
    assert_eq!(unwound.unwrap_err().downcast_ref(), Some(&"the call"));
    assert_eq!((heard(&after), breaker.state()), (4, State::Open));
    breaker.reset();
    assert_eq!((heard(&after), breaker.state()), (6, State::Closed));
}

#[test]
fn a_listener_may_do_with_the_breaker_whatever_it_likes() {
    let clock = Clock::manual();
    let breaker = breaker(&clock);
    let handle = breaker.clone();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let saw = Arc::clone(&seen);
    let _subscription = breaker.on_event(move |event| {
        saw.lock().push((event.kind.as_str(), handle.state(), handle.metrics().buffered_calls));
        if let EventKind::StateTransition { to: State::Open, .. } = event.kind {
            assert!(!handle.is_call_permitted());
            handle.transition_to_closed().unwrap();
            drop(handle.try_acquire().unwrap());
            handle.try_acquire_owned().unwrap().success();
        }
    });
    record(&breaker, Outcome::Failure);
    record(&breaker, Outcome::Failure);
    assert_eq!((breaker.state(), breaker.metrics().successful_calls()), (State::Closed, 1));
    // Published once all is decided: the listener sees the state after, and its own doing is told in between.
    assert_eq!(
        *seen.lock(),
        [
            ("ERROR", State::Closed, 1),
            ("ERROR", State::Open, 2),
            ("FAILURE_RATE_EXCEEDED", State::Open, 2),
            ("STATE_TRANSITION", State::Open, 2),
            ("STATE_TRANSITION", State::Closed, 0),
            ("SUCCESS", State::Closed, 1),
        ]
    );
}

#[test]
fn a_listener_that_waits_for_another_thread_holds_up_nobody_else() {
    let clock = Clock::manual();
    let breaker = breaker(&clock);
    let handle = breaker.clone();
    let _subscription = breaker.on_event(move |event| {
        if event.kind == EventKind::Reset {
            let other = handle.clone();
            let another = thread::spawn(move || {
                other.transition_to_open().unwrap();
                assert!(other.try_acquire().is_err());
                other.metrics().not_permitted_calls
            });
            assert_eq!(another.join().unwrap(), 1);
        }
    });
    breaker.reset();
    assert_eq!((breaker.state(), breaker.metrics().not_permitted_calls), (State::Open, 1));
}

#[test]
fn what_happens_while_nobody_listens_is_never_published() {
    let clock = Clock::manual();
    let config = Config::default()
        .clock(&clock)
        .initial_state(State::Open)
        .automatic_transition_from_open_to_half_open_enabled(true);
    let breaker = CircuitBreaker::new("orders", config).unwrap();
    clock.advance(60 * SECOND);
    assert_eq!(breaker.state(), State::HalfOpen);
    let log = breaker.event_log(9);
    record(&breaker, Outcome::Ignored);
    assert_eq!(names(&log.events()), ["IGNORED_ERROR"]);
}

#[test]
fn threads_that_subscribe_publish_and_leave_do_not_disturb_each_other() {
    let breaker = breaker(&Clock::manual());
    breaker.transition_to_metrics_only().unwrap();
    let (count, _subscription) = counter(&breaker);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| (0..2000).for_each(|_| record(&breaker, Outcome::Success)));
            scope.spawn(|| (0..2000).for_each(|_| drop((counter(&breaker), breaker.events(1)))));
        }
    });
    assert_eq!(heard(&count), 4000);
}

// The stream

#[test]
fn a_stream_gives_the_events_in_their_order_and_ends_never() {
    let breaker = breaker(&Clock::manual());
    let mut events = breaker.events(8);
    record(&breaker, Outcome::Success);
    record(&breaker, Outcome::Ignored);
    breaker.reset();
    let kinds: Vec<_> = (0..3).map(|_| events.next().now_or_never().expect("an event").kind.as_str()).collect();
    assert_eq!(kinds, ["SUCCESS", "IGNORED_ERROR", "RESET"]);
    drop(breaker);
    assert_eq!((events.try_next(), events.next().now_or_never()), (None, None));
}

#[test]
fn a_stream_is_one_for_the_futures_crate_too() {
    let breaker = breaker(&Clock::manual());
    let events = breaker.events(8);
    record(&breaker, Outcome::Success);
    record(&breaker, Outcome::Failure);
    let kinds = StreamExt::map(events, |event| event.kind.as_str()).take(2).collect::<Vec<_>>();
    assert_eq!(kinds.now_or_never(), Some(vec!["SUCCESS", "ERROR"]));
}

#[test]
fn an_event_wakes_the_task_that_last_asked_and_once() {
    let breaker = breaker(&Clock::manual());
    let mut events = breaker.events(8);
    let (earlier, later) = (Arc::new(Wakes::default()), Arc::new(Wakes::default()));
    let mut next = pin!(events.next());
    assert!(poll(next.as_mut(), &earlier).is_pending());
    assert!(poll(next.as_mut(), &later).is_pending());
    record(&breaker, Outcome::Success);
    record(&breaker, Outcome::Success);
    assert_eq!((earlier.0.load(Ordering::Relaxed), later.0.load(Ordering::Relaxed)), (0, 1));
    assert!(poll(next, &later).is_ready());
}

#[test]
fn a_task_that_waits_for_an_event_is_woken_by_another_thread() {
    let clock = Clock::manual();
    let breaker = breaker(&clock);
    let mut events = breaker.events(8);
    let another = thread::spawn(move || record(&breaker, Outcome::Success));
    assert_eq!(clock.block_on(events.next()).kind.as_str(), "SUCCESS");
    another.join().unwrap();
}

#[test]
fn a_full_stream_loses_the_oldest_and_says_how_many() {
    let breaker = breaker(&Clock::manual());
    let mut events = breaker.events(2);
    record(&breaker, Outcome::Success);
    record(&breaker, Outcome::Ignored);
    assert_eq!(events.take_missed(), 0);
    breaker.reset();
    record(&breaker, Outcome::Failure);
    record(&breaker, Outcome::Ignored);
    assert_eq!(waiting(&mut events), ["ERROR", "IGNORED_ERROR"]);
    assert_eq!((events.take_missed(), events.take_missed()), (3, 0));
    breaker.reset();
    assert_eq!((waiting(&mut events).len(), events.take_missed()), (1, 0));
}

#[test]
fn a_stream_and_a_log_of_nothing_hold_one() {
    let breaker = breaker(&Clock::manual());
    let (mut events, log) = (breaker.events(0), breaker.event_log(0));
    record(&breaker, Outcome::Success);
    record(&breaker, Outcome::Ignored);
    assert_eq!((waiting(&mut events), names(&log.events())), (vec!["IGNORED_ERROR"], vec!["IGNORED_ERROR"]));
    assert_eq!((events.take_missed(), log.forgotten()), (1, 1));
}

#[test]
fn cancelling_next_loses_no_event() {
    let breaker = breaker(&Clock::manual());
    let mut events = breaker.events(8);
    let wakes = Arc::new(Wakes::default());
    assert!(poll(pin!(events.next()), &wakes).is_pending());
    record(&breaker, Outcome::Success);
    // Woken, and then dropped before it was polled again.
    assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
    drop(events.next());
    assert_eq!(waiting(&mut events), ["SUCCESS"]);
}

#[test]
fn a_dropped_stream_and_a_dropped_log_no_longer_listen() {
    let breaker = breaker(&Clock::manual());
    let wakes = Arc::new(Wakes::default());
    let mut events = breaker.events(8);
    assert!(poll(pin!(events.next()), &wakes).is_pending());
    drop((events, breaker.event_log(8)));
    record(&breaker, Outcome::Success);
    assert_eq!(wakes.0.load(Ordering::Relaxed), 0);
    assert_eq!(Arc::strong_count(&wakes), 1);
}

#[test]
fn streams_do_not_take_each_other_s_events() {
    let breaker = breaker(&Clock::manual());
    let (mut one, mut other) = (breaker.events(8), breaker.events(8));
    record(&breaker, Outcome::Success);
    assert_eq!((waiting(&mut one), waiting(&mut other)), (vec!["SUCCESS"], vec!["SUCCESS"]));
}

// The log

#[test]
fn a_log_keeps_the_last_events_and_counts_those_it_has_forgotten() {
    let breaker = breaker(&Clock::manual());
    let log = breaker.event_log(3);
    assert_eq!((log.events().len(), log.forgotten()), (0, 0));
    record(&breaker, Outcome::Success);
    record(&breaker, Outcome::Ignored);
    breaker.reset();
    assert_eq!((names(&log.events()), log.forgotten()), (vec!["SUCCESS", "IGNORED_ERROR", "RESET"], 0));
    record(&breaker, Outcome::Failure);
    assert_eq!((names(&log.events()), log.forgotten()), (vec!["IGNORED_ERROR", "RESET", "ERROR"], 1));
    // Looking takes nothing away.
    assert_eq!(log.events(), log.events());
    assert_eq!(format!("{log:?}"), "EventLog { events: 3, .. }");
}

// What the breaker tells

/// Every event of the breaker, once, with all it says.
#[test]
fn the_breaker_tells_every_event_it_has_with_its_fields_and_in_resilience4j_s_order() {
    let clock = Clock::manual();
    let breaker = breaker(&clock);
    let log = breaker.event_log(99);
    let late = breaker.try_acquire().unwrap();
    let call = breaker.try_acquire().unwrap();
    clock.advance(SECOND / 2);
    call.success();
    record(&breaker, Outcome::Ignored);
    let call = breaker.try_acquire().unwrap();
    clock.advance(2 * SECOND);
    call.failure();
    breaker.reset();
    breaker.try_acquire().unwrap().record_elapsed(3 * SECOND, Outcome::Success);
    breaker.try_acquire().unwrap().record_elapsed(3 * SECOND, Outcome::Failure);
    assert!(breaker.try_acquire().is_err());
    late.success();
    clock.advance(61 * SECOND);
    let _hung = breaker.try_acquire().unwrap();
    clock.advance(20 * SECOND);
    record(&breaker, Outcome::Success);

    let transition = |from, to, generation| EventKind::StateTransition { from, to, generation };
    let millis = Duration::from_millis;
    let expected = [
        (500, EventKind::Success { elapsed: Some(millis(500)), attempts: 0 }),
        (500, EventKind::IgnoredError { elapsed: Some(Duration::ZERO) }),
        (2500, EventKind::Error { elapsed: Some(millis(2000)), attempts: 0 }),
        (2500, EventKind::FailureRateExceeded { failure_rate: 50.0 }),
        (2500, transition(State::Closed, State::Open, 1)),
        (2500, transition(State::Open, State::Closed, 2)),
        (2500, EventKind::Reset),
        (2500, EventKind::Success { elapsed: Some(millis(3000)), attempts: 0 }),
        (2500, EventKind::Error { elapsed: Some(millis(3000)), attempts: 0 }),
        (2500, EventKind::FailureRateExceeded { failure_rate: 50.0 }),
        (2500, EventKind::SlowCallRateExceeded { slow_call_rate: 100.0 }),
        (2500, transition(State::Closed, State::Open, 3)),
        (2500, EventKind::NotPermitted),
        (2500, EventKind::LateResult),
        (63_500, transition(State::Open, State::HalfOpen, 4)),
        (73_500, EventKind::TrialCallExpired),
        (83_500, EventKind::Success { elapsed: Some(Duration::ZERO), attempts: 0 }),
        (83_500, transition(State::HalfOpen, State::Open, 5)),
    ];
    let seen: Vec<_> = log.events().into_iter().map(|event| (event.at.as_nanos() / 1_000_000, event.kind)).collect();
    assert_eq!(seen, expected);
    for event in log.events() {
        assert_eq!((event.name.as_str(), event.policy), ("orders", PolicyKind::CircuitBreaker));
    }
    // The lease ends a nanosecond after its time, since a call that takes just as long is still in it.
    assert_eq!(log.events()[15].at.as_nanos(), 73_500_000_001);
}

#[test]
fn an_event_says_what_happened_in_a_line() {
    let clock = Clock::manual();
    let breaker = breaker(&clock);
    let log = breaker.event_log(9);
    record(&breaker, Outcome::Success);
    record(&breaker, Outcome::Failure);
    let said: Vec<_> = log.events().iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "CircuitBreaker 'orders' SUCCESS",
            "CircuitBreaker 'orders' ERROR",
            "CircuitBreaker 'orders' FAILURE_RATE_EXCEEDED at 50 %",
            "CircuitBreaker 'orders' STATE_TRANSITION from CLOSED to OPEN",
        ]
    );
}

#[test]
fn disabled_and_forced_open_publish_transitions_and_resets_only() {
    let clock = Clock::manual();
    let breaker = breaker(&clock);
    let log = breaker.event_log(99);
    breaker.transition_to_disabled().unwrap();
    for outcome in [Outcome::Success, Outcome::Failure, Outcome::Ignored] {
        record(&breaker, outcome);
    }
    breaker.transition_to_forced_open().unwrap();
    assert!(breaker.try_acquire().is_err());
    breaker.reset();
    assert_eq!(names(&log.events()), ["STATE_TRANSITION", "STATE_TRANSITION", "STATE_TRANSITION", "RESET"]);
}

#[test]
fn of_two_transitions_the_later_has_the_greater_number() {
    let clock = Clock::manual();
    let breaker = breaker(&clock);
    let log = breaker.event_log(99);
    breaker.transition_to_open().unwrap();
    // To the same state: a new generation that nobody is told of.
    breaker.transition_to_open().unwrap();
    breaker.transition_to_closed().unwrap();
    let generations: Vec<_> = log
        .events()
        .into_iter()
        .filter_map(|event| match event.kind {
            EventKind::StateTransition { generation, .. } => Some(generation),
            _ => None,
        })
        .collect();
    assert_eq!((generations, breaker.metrics().generation), (vec![1, 3], 3));
}
