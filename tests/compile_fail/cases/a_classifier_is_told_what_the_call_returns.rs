use resile::{CircuitBreaker, Error, Outcome};

fn main() {
    let breaker = CircuitBreaker::with_defaults("orders").classify(|result: &Result<u16, Error<String>>| Outcome::of(result));
    let _ = breaker.call(|| async { Ok::<&str, String>("sent") });
}
