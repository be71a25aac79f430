//! Two payment gateways, each behind a circuit breaker of its own: when the first fails the second takes over.
//!
//! ```text
//! cargo run --example failover
//! ```
//!
//! A payment that the bank declines is the customer's trouble and not the gateway's. A classifier says so, and the
//! breaker does not count it as a failure. Time is a manual clock's, so a minute's wait takes none.
#![allow(clippy::print_stdout)]

use std::{
    cell::{Cell, RefCell},
    error::Error as StdError,
    fmt,
    time::Duration,
};

use resile::{
    CircuitBreaker, Clock, Error, Fallback, Outcome,
    circuit_breaker::{self, State},
};

/// Takes payments, as long as it can be reached.
struct Gateway {
    name: &'static str,
    reachable: Cell<bool>,
    asked: Cell<u32>,
    breaker: CircuitBreaker,
}

#[derive(Debug)]
enum PaymentError {
    Declined,
    /// Nothing has been paid, so it is safe to pay elsewhere.
    Unreachable,
}

impl fmt::Display for PaymentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Declined => "the bank declines the payment",
            Self::Unreachable => "the gateway cannot be reached",
        })
    }
}

impl StdError for PaymentError {}

/// Which gateway took the payment, or why none did.
type Paid = Result<&'static str, Error<PaymentError>>;

/// What a result says about the gateway.
fn judge(result: &Paid) -> Outcome {
    match result {
        // It was there, and did its work.
        Err(Error::Inner(PaymentError::Declined)) => Outcome::Success,
        other => Outcome::of(other),
    }
}

impl Gateway {
    fn new(name: &'static str, config: circuit_breaker::Config) -> Result<Self, resile::InvalidConfig> {
        let breaker = CircuitBreaker::new(name, config)?;
        Ok(Self { name, reachable: Cell::new(true), asked: Cell::new(0), breaker })
    }

    /// Stands for a request over the network.
    async fn request(&self, cents: u32) -> Result<&'static str, PaymentError> {
        self.asked.set(self.asked.get() + 1);
        match cents {
            _ if !self.reachable.get() => Err(PaymentError::Unreachable),
            100_000.. => Err(PaymentError::Declined),
            _ => Ok(self.name),
        }
    }

    async fn pay(&self, cents: u32) -> Paid {
        self.breaker.classify(judge).call(|| self.request(cents)).await
    }
}

struct Checkout {
    primary: Gateway,
    secondary: Gateway,
    /// Why the secondary gateway was last asked.
    reason: RefCell<String>,
}

impl Checkout {
    async fn pay(&self, cents: u32) -> Paid {
        let take_over = Fallback::new(|error| async {
            if let Error::Inner(PaymentError::Declined) = error {
                return Err(error);
            }
            self.reason.replace(format!(", since {error}"));
            self.secondary.pay(cents).await
        });
        // `call_flat`, since the error of `pay` may already be a rejection.
        take_over.call_flat(|| self.primary.pay(cents)).await
    }

    async fn pay_and_tell(&self, cents: u32) -> Paid {
        let paid = self.pay(cents).await;
        let reason = self.reason.take();
        match &paid {
            Ok(gateway) => println!("  {cents} cents paid through {gateway}{reason}"),
            Err(error) => println!("  {cents} cents not paid: {error}"),
        }
        paid
    }
}

fn main() -> Result<(), Box<dyn StdError>> {
    let clock = Clock::manual();
    let config = circuit_breaker::Config::default()
        .sliding_window_size(4)
        .permitted_number_of_calls_in_half_open_state(2)
        .wait_duration_in_open_state(Duration::from_secs(60))
        .clock(&clock);
    let checkout = Checkout {
        primary: Gateway::new("primary", config.clone())?,
        secondary: Gateway::new("secondary", config)?,
        reason: RefCell::default(),
    };
    let Checkout { primary, secondary, .. } = &checkout;

    clock.block_on(async {
        println!("Both gateways work; dear things are declined.");
        for cents in [1_999, 250_000, 250_000, 250_000] {
            let paid = checkout.pay_and_tell(cents).await;
            assert_eq!(paid.is_ok(), cents == 1_999);
        }
        assert_eq!(primary.breaker.state(), State::Closed);
        assert_eq!(secondary.asked.get(), 0);

        println!("The primary gateway cannot be reached.");
        primary.reachable.set(false);
        for cents in [2_499, 999, 4_999, 1_499] {
            assert_eq!(checkout.pay_and_tell(cents).await?, "secondary");
        }
        assert_eq!(primary.breaker.state(), State::Open);
        assert_eq!(primary.asked.get(), 6, "an open circuit does not let anybody wait for a gateway that is away");

        println!("A minute later it is back, and two payments try it.");
        primary.reachable.set(true);
        clock.advance(Duration::from_secs(61));
        for cents in [3_499, 799] {
            assert_eq!(checkout.pay_and_tell(cents).await?, "primary");
        }
        assert_eq!(primary.breaker.state(), State::Closed);
        assert_eq!(secondary.breaker.state(), State::Closed);
        Ok(())
    })
}
