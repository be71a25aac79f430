//! An error type of your own, through functions and through tower layers.
//!
//! ```text
//! cargo run --example own_error
//! ```
//!
//! `call` wraps errors in `resile::Error<E>`. An error type that can itself hold a rejection needs no wrapper: implement
//! `From<Rejected>` and `Rejectable` for it, and `call_flat` and every layer return it as it is.
#![allow(clippy::print_stdout)]

use std::time::Duration;

use resile::{
    CircuitBreaker, Clock, Pipeline, Rejectable, Rejected, Retry, TimeLimiter, circuit_breaker, retry, time_limiter,
};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

/// What can go wrong when looking for a user.
#[derive(Debug, thiserror::Error)]
enum UserError {
    #[error("there is no user {0}")]
    Unknown(u32),
    #[error("the database failed: {0}")]
    Database(&'static str),
    #[error("the database is not available: {0}")]
    Unavailable(#[from] Rejected),
}

impl Rejectable for UserError {
    fn rejected(&self) -> Option<&Rejected> {
        match self {
            Self::Unavailable(rejected) => Some(rejected),
            Self::Unknown(_) | Self::Database(_) => None,
        }
    }
}

/// Stands for a query. User 1 exists, user 2 does not, user 3's row is broken, user 4's is locked for ever.
async fn find_user(id: u32) -> Result<String, UserError> {
    match id {
        1 => Ok("Ada".to_owned()),
        2 => Err(UserError::Unknown(id)),
        3 => Err(UserError::Database("checksum does not match")),
        _ => std::future::pending().await,
    }
}

fn status(result: &Result<String, UserError>) -> u16 {
    match result {
        Ok(_) => 200,
        Err(UserError::Unknown(_)) => 404,
        Err(UserError::Database(_)) => 500,
        Err(UserError::Unavailable(rejected)) => rejected.http_status(),
    }
}

fn tell(id: u32, result: &Result<String, UserError>) {
    match result {
        Ok(name) => println!("  user {id}: {} {name}", status(result)),
        Err(error) => println!("  user {id}: {} {error}", status(result)),
    }
}

/// An unknown user is a good answer: neither retried nor a failure of the database.
fn worth_another_attempt(result: &Result<String, UserError>) -> retry::Decision {
    match result {
        Err(UserError::Unknown(_)) => retry::Decision::Stop,
        other => retry::Decision::of(other),
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let clock = Clock::manual();
    let retry = Retry::new("users", retry::Config::default().max_attempts(2).clock(&clock))?;
    let breaker =
        CircuitBreaker::new("users", circuit_breaker::Config::default().sliding_window_size(10).clock(&clock))?;
    let second = Duration::from_secs(1);
    let limiter = TimeLimiter::new("users", time_limiter::Config::default().timeout_duration(second).clock(&clock))?;

    println!("Functions:");
    let guard = Pipeline::new((retry.retry_if(worth_another_attempt), breaker.clone(), limiter.clone()));
    clock.block_on(async {
        for (id, expected) in [(1, 200), (2, 404), (3, 500), (4, 503)] {
            let found = guard.call_flat(|| find_user(id)).await;
            tell(id, &found);
            assert_eq!(status(&found), expected);
        }
    });

    println!("Layers, with the circuit opened by an operator:");
    let mut service = ServiceBuilder::new()
        .layer(retry.retry_if(worth_another_attempt))
        .layer(breaker.clone())
        .layer(limiter)
        .service(service_fn(find_user));
    clock.block_on(async {
        let found = service.ready().await?.call(1).await;
        tell(1, &found);
        assert_eq!(status(&found), 200);

        breaker.transition_to_open()?;
        let found = service.ready().await?.call(1).await;
        tell(1, &found);
        // However deep the layers, the rejection is one look away.
        let Err(UserError::Unavailable(Rejected::CircuitOpen(open))) = found else {
            return Err("an open circuit let a call through".into());
        };
        assert!(open.retry_after() > Some(Duration::from_secs(60)), "just after the minute that it is open");
        Ok(())
    })
}
