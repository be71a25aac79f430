//! All five policies and a fallback around one call, in the order that is right for most.
//!
//! ```text
//! cargo run --example pipeline
//! ```
//!
//! Each policy is shown at work once, and each rejection explains itself. Time is a manual clock's: a second's time-out
//! and a minute's wait take no time, and still happen exactly as they would.
#![allow(clippy::print_stdout)]

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io,
    time::Duration,
};

use resile::{
    Bulkhead, CircuitBreaker, Clock, Error, Fallback, IntervalFunction, Pipeline, RateLimiter, Rejected, Retry,
    TimeLimiter, bulkhead,
    circuit_breaker::{self, State},
    rate_limiter, retry, time_limiter,
};

/// How many pieces there are.
#[derive(Debug, PartialEq)]
enum Stock {
    Now(u32),
    /// The fallback's answer.
    Yesterday(u32),
}

/// How the warehouse, which stands for a service over the network, takes its next request.
#[derive(Clone, Copy)]
enum Mood {
    Well,
    Slow,
    Hanging,
    Down,
}

struct Warehouse {
    clock: Clock,
    next: RefCell<VecDeque<Mood>>,
    asked: Cell<u32>,
}

impl Warehouse {
    /// Takes the next requests like this, and all that follow well.
    fn will_be(&self, moods: &[Mood]) {
        self.next.replace(moods.iter().copied().collect());
        self.asked.set(0);
    }

    async fn stock(&self) -> Result<Stock, io::Error> {
        self.asked.set(self.asked.get() + 1);
        let mood = self.next.borrow_mut().pop_front().unwrap_or(Mood::Well);
        match mood {
            Mood::Well => {}
            Mood::Slow => self.clock.sleep(Duration::from_millis(400)).await,
            Mood::Hanging => std::future::pending().await,
            Mood::Down => return Err(io::Error::other("the warehouse cannot be reached")),
        }
        Ok(Stock::Now(17))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let clock = Clock::manual();
    let warehouse = Warehouse { clock: clock.clock(), next: RefCell::default(), asked: Cell::default() };

    let retry = Retry::new(
        "warehouse",
        retry::Config::default()
            .max_attempts(3)
            .interval_function(IntervalFunction::exponential(Duration::from_millis(100), 2.0))
            .clock(&clock),
    )?;
    let breaker = CircuitBreaker::new(
        "warehouse",
        circuit_breaker::Config::default()
            .sliding_window_size(8)
            .permitted_number_of_calls_in_half_open_state(1)
            .clock(&clock),
    )?;
    let rate_limiter = RateLimiter::new(
        "warehouse",
        rate_limiter::Config::default()
            .limit_for_period(10)
            .limit_refresh_period(Duration::from_secs(1))
            .timeout_duration(Duration::ZERO)
            .clock(&clock),
    )?;
    let time_limiter = TimeLimiter::new(
        "warehouse",
        time_limiter::Config::default().timeout_duration(Duration::from_secs(1)).clock(&clock),
    )?;
    let bulkhead = Bulkhead::new("warehouse", bulkhead::Config::default().max_concurrent_calls(1).clock(&clock))?;
    let last_rejection = RefCell::new(None);
    let fallback = Fallback::value(|error: Error<io::Error>| {
        println!("  the fallback answers, since {error}");
        last_rejection.replace(error.into_inner().err());
        Ok(Stock::Yesterday(20))
    });

    // Outermost first. The fallback sees what all the others have made of an error. The retry repeats what is inside it,
    // so each attempt asks the breaker, takes a permit of the rate limiter, and has a time of its own.
    let guard = Pipeline::new((fallback, retry, breaker.clone(), rate_limiter, time_limiter, bulkhead));
    let ask = async || {
        let began = clock.now();
        let stock = guard.call(|| warehouse.stock()).await?;
        println!("  {stock:?}, after {:?}", clock.now().saturating_duration_since(began));
        Ok::<_, Error<io::Error>>(stock)
    };

    clock.block_on(async {
        println!("All is well:");
        assert_eq!(ask().await?, Stock::Now(17));

        println!("One request fails, and the retry makes another:");
        warehouse.will_be(&[Mood::Down]);
        assert_eq!(ask().await?, Stock::Now(17));
        assert_eq!(warehouse.asked.get(), 2);

        println!("One request hangs, the time limiter gives it up, and the retry makes another:");
        warehouse.will_be(&[Mood::Hanging]);
        assert_eq!(ask().await?, Stock::Now(17));
        assert_eq!(warehouse.asked.get(), 2);

        println!("Two calls at once, and the bulkhead has room for one:");
        warehouse.will_be(&[Mood::Slow]);
        let (first, second) = futures::join!(ask(), ask());
        assert_eq!((first?, second?), (Stock::Now(17), Stock::Yesterday(20)));
        assert!(matches!(last_rejection.take(), Some(Rejected::BulkheadFull(_))));

        println!("More calls in a second than the rate limiter permits:");
        clock.advance(Duration::from_secs(1));
        for _ in 0..10 {
            assert_eq!(guard.call(|| warehouse.stock()).await?, Stock::Now(17));
        }
        assert_eq!(ask().await?, Stock::Yesterday(20));
        let Some(Rejected::RateLimited(limited)) = last_rejection.take() else { panic!("no rate limit") };

        println!("So much later, they pass again:");
        clock.advance(limited.retry_after().unwrap_or_default());
        assert_eq!(ask().await?, Stock::Now(17));

        println!("Every request hangs, and the retry gives up too:");
        clock.advance(Duration::from_secs(1));
        warehouse.will_be(&[Mood::Hanging; 4]);
        assert_eq!(ask().await?, Stock::Yesterday(20));
        assert!(matches!(last_rejection.take(), Some(Rejected::TimedOut(_))));

        println!("They still do, and after the next the breaker has seen enough:");
        assert_eq!(ask().await?, Stock::Yesterday(20));
        assert!(matches!(last_rejection.take(), Some(Rejected::CircuitOpen(_))));
        assert_eq!(warehouse.asked.get(), 4);

        println!("A minute later a trial call finds the warehouse well:");
        clock.advance(Duration::from_secs(61));
        assert_eq!(ask().await?, Stock::Now(17));
        println!("  the circuit is {}", breaker.state());
        assert_eq!(breaker.state(), State::Closed);
        Ok(())
    })
}
