use resile::Retry;

fn main() {
    let retry = Retry::with_defaults("orders");
    let mut sent = 0;
    let _ = retry.call(move || {
        sent += 1;
        async move { Ok::<_, std::io::Error>(sent) }
    });
}
