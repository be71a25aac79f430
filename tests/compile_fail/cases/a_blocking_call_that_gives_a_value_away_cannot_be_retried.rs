use resile::Retry;

struct Order;

fn send(_: Order) -> Result<(), std::io::Error> {
    Ok(())
}

fn main() {
    let retry = Retry::with_defaults("orders");
    let order = Order;
    let _ = retry.call_blocking(move || send(order));
}
