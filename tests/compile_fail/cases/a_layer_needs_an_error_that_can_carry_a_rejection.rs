use resile::CircuitBreaker;
use tower::{Service, ServiceBuilder, service_fn};

fn client() -> impl Service<u32> {
    ServiceBuilder::new()
        .layer(CircuitBreaker::with_defaults("orders"))
        .service(service_fn(|order: u32| async move { Ok::<_, std::io::Error>(order) }))
}

fn main() {
    client();
}
