//! Code of the user's in awkward places: wakers, listeners and drops that panic or call back.

use std::{
    future::{Future, pending, ready},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use resile::{Bulkhead, CircuitBreaker, Clock, ManualClock, Subscription, circuit_breaker, clock::Sleep};

const SECOND: Duration = Duration::from_secs(1);

/// A waker that ends a sleep on the same clock when it is dropped.
struct OwnsASleep {
    _sleep: Sleep,
}

impl Wake for OwnsASleep {
    fn wake(self: Arc<Self>) {}
}

fn sleeping(clock: &ManualClock) -> Sleep {
    let mut sleep = clock.clock().sleep(SECOND);
    let polled = std::pin::Pin::new(&mut sleep).poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_pending());
    sleep
}

#[test]
fn a_waker_that_is_replaced_may_use_the_clock_as_it_goes() {
    let clock = Clock::manual();
    let mut sleep = pin!(clock.clock().sleep(2 * SECOND));
    let waker = Waker::from(Arc::new(OwnsASleep { _sleep: sleeping(&clock) }));
    assert!(sleep.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    drop(waker);
    assert_eq!(clock.next_wake(), Some(SECOND));
    assert!(sleep.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    assert_eq!(clock.next_wake(), Some(2 * SECOND), "the waker, and the sleep with it, is gone");
}

/// Panics when it is dropped, unless the thread panics already.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("dropped");
        }
    }
}

#[test]
fn a_trial_call_that_panics_as_it_is_dropped_gives_its_place_back() {
    let clock = Clock::manual();
    let config = circuit_breaker::Config::default()
        .permitted_number_of_calls_in_half_open_state(1)
        .max_trial_call_duration(Duration::ZERO)
        .clock(&clock);
    let breaker = CircuitBreaker::new("orders", config).expect("a valid config");
    breaker.transition_to_open().expect("legal");
    breaker.transition_to_half_open().expect("legal");
    let mut call = Box::pin(breaker.call(|| async {
        let _bomb = Bomb;
        pending::<Result<(), &str>>().await
    }));
    assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    assert_eq!(breaker.metrics().outstanding_trial_calls, 1);
    assert!(catch_unwind(AssertUnwindSafe(|| drop(call))).is_err());
    assert_eq!(breaker.metrics().outstanding_trial_calls, 0);
}

#[test]
fn a_listener_that_ends_itself_and_panics_as_it_goes_harms_nobody() {
    let bulkhead = Bulkhead::with_defaults("mail");
    let own: Arc<Mutex<Option<Subscription>>> = Arc::default();
    let bomb = Bomb;
    let ended = Arc::clone(&own);
    let subscription = bulkhead.on_event(move |_| {
        let _bomb = &bomb;
        drop(ended.lock().map(|mut own| own.take()));
    });
    *own.lock().expect("nobody panicked") = Some(subscription);
    let mut call = pin!(bulkhead.call(|| ready(Ok::<_, &str>(1))));
    let polled = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert_eq!(polled, Poll::Ready(Ok(1)));
    assert_eq!(bulkhead.metrics().concurrent_calls, 0);
}

#[test]
fn a_listener_whose_panic_panics_when_it_is_dropped_harms_nobody() {
    let breaker = CircuitBreaker::with_defaults("orders");
    breaker.on_event(|_| std::panic::panic_any(Bomb)).forever();
    breaker.transition_to_open().expect("legal");
    assert_eq!(breaker.state(), circuit_breaker::State::Open);
}
