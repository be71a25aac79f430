//! `cargo run --example email_dispatch -- --help`
fn main() {}
