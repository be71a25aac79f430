//! Each part alone.
#![allow(clippy::unwrap_used)]
#![allow(clippy::needless_pass_by_value)] // so that `json!` can be given as it is written

#[path = "../support/database.rs"]
mod database;
mod delivery;
mod personal;
mod request;
mod route;
mod smtp;
mod store;
mod template;
