use resile::CircuitBreaker;

fn main() {
    let breaker = CircuitBreaker::with_defaults("orders");
    let _ = breaker.call_flat(|| async { Ok::<_, std::io::Error>(42) });
}
