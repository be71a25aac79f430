//! Each part alone.
#![allow(clippy::unwrap_used)]
#![allow(clippy::needless_pass_by_value)] // so that `json!` can be given as it is written

mod consumer;
#[path = "../support/database.rs"]
mod database;
#[path = "../support/kafka.rs"]
mod kafka;
mod personal;
mod request;
mod route;
mod store;
mod template;
