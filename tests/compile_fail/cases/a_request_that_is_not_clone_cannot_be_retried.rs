use resile::{BoxError, Retry};
use tower::{Service, ServiceBuilder, service_fn};

struct Order;

fn client() -> impl Service<Order> {
    ServiceBuilder::new()
        .layer(Retry::with_defaults("orders"))
        .service(service_fn(|_: Order| async { Ok::<_, BoxError>(()) }))
}

fn main() {
    client();
}
