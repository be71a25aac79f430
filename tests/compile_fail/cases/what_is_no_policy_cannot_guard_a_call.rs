use resile::{CircuitBreaker, Pipeline};
use std::time::Duration;

fn main() {
    let guard = Pipeline::new((CircuitBreaker::with_defaults("orders"), Duration::from_secs(1)));
    let _ = guard.call(|| async { Ok::<_, std::io::Error>(()) });
}
