//! Three ways to see what a policy does: a listener, a stream, and the last few events.
//!
//! ```text
//! cargo run --example events
//! ```
//!
//! Every handle has all three: `on_event`, `events` and `event_log`. Time is a manual clock's, so nothing waits.
#![allow(clippy::print_stdout)]

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use resile::{
    BoxError, CircuitBreaker, Clock, Retry,
    circuit_breaker::{self, State},
    event::EventKind,
    retry,
};

async fn fail() -> Result<(), io::Error> {
    Err(io::Error::other("connection reset"))
}

async fn succeed() -> Result<(), io::Error> {
    Ok(())
}

fn main() -> Result<(), BoxError> {
    let clock = Clock::manual();
    let config = circuit_breaker::Config::default()
        .sliding_window_size(4)
        .permitted_number_of_calls_in_half_open_state(1)
        .clock(&clock);
    let breaker = CircuitBreaker::new("orders", config)?;
    clock.block_on(listener(&breaker))?;
    breaker.reset();
    clock.block_on(stream(&breaker))?;
    breaker.reset();
    clock.block_on(last_few(&breaker, &clock))?;
    Ok(())
}

/// A listener is called at once, on the thread on which the event happens. This one counts.
async fn listener(breaker: &CircuitBreaker) -> Result<(), BoxError> {
    println!("A listener:");
    let counts = Arc::new(Mutex::new(BTreeMap::new()));
    let subscription = breaker.on_event({
        let counts = Arc::clone(&counts);
        move |event| {
            if let Ok(mut counts) = counts.lock() {
                *counts.entry(event.kind.as_str()).or_insert(0) += 1;
            }
        }
    });
    for _ in 0..6 {
        let _ = breaker.call(fail).await;
    }
    drop(subscription);
    // Nobody listens any more.
    let _ = breaker.call(fail).await;

    let counts = counts.lock().map_err(|_| "a listener panicked")?;
    for (kind, count) in counts.iter() {
        println!("  {count} {kind}");
    }
    assert_eq!(counts["ERROR"], 4);
    assert_eq!(counts["STATE_TRANSITION"], 1);
    assert_eq!(counts["NOT_PERMITTED"], 2);
    Ok(())
}

/// A stream is read when its reader has the time. What does not fit is missed, the oldest first, and counted.
async fn stream(breaker: &CircuitBreaker) -> Result<(), BoxError> {
    println!("A stream with room for five events:");
    let mut events = breaker.events(5);
    let reader = async {
        loop {
            let event = events.next().await;
            println!("  {event}");
            if let EventKind::StateTransition { to, .. } = event.kind {
                return to;
            }
        }
    };
    let caller = async {
        for _ in 0..4 {
            let _ = breaker.call(fail).await;
            // Lets the reader have its turn, as a real call does.
            tokio::task::yield_now().await;
        }
    };
    let (state, ()) = futures::join!(reader, caller);
    assert_eq!(state, State::Open);

    while events.try_next().is_some() {}
    for _ in 0..12 {
        let _ = breaker.call(succeed).await;
    }
    let missed = events.take_missed();
    let mut unread = 0;
    while events.try_next().is_some() {
        unread += 1;
    }
    println!("  … and of the 12 rejections that follow, {unread} wait to be read and {missed} were missed");
    assert_eq!((unread, missed), (5, 7));
    Ok(())
}

/// The last few events are kept to be looked at when wanted, such as on a page for operators.
async fn last_few(breaker: &CircuitBreaker, clock: &resile::ManualClock) -> Result<(), BoxError> {
    println!("The last three events of a breaker, and of a retry around it:");
    let retry = Retry::new("orders", retry::Config::default().max_attempts(10).clock(clock))?;
    let (of_breaker, of_retry) = (breaker.event_log(3), retry.event_log(3));
    let began = clock.now();
    // The circuit opens at the fourth attempt, and the retry does not repeat what was refused.
    let result = retry.call_flat(|| breaker.call(fail)).await;
    assert!(result.is_err());

    for event in of_breaker.events().into_iter().chain(of_retry.events()) {
        println!("  {:>6?}  {event}", event.at.saturating_duration_since(began));
    }
    let kinds: Vec<_> = of_breaker.events().iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["FAILURE_RATE_EXCEEDED", "STATE_TRANSITION", "NOT_PERMITTED"]);
    assert_eq!(of_breaker.forgotten(), 4);
    assert_eq!(clock.now().saturating_duration_since(began), Duration::from_secs(2), "four waits of 500 ms");
    Ok(())
}
