use resile::{CircuitBreaker, Pipeline, Retry};

#[derive(Clone)]
struct Order;

async fn send(_: Order) -> Result<(), std::io::Error> {
    Ok(())
}

fn main() {
    let guard = Pipeline::new((Retry::with_defaults("orders"), CircuitBreaker::with_defaults("orders")));
    let order = Order;
    let _ = guard.call(move || send(order));
}
