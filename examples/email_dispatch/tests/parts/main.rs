//! Each part alone.
#![allow(clippy::unwrap_used)]

#[path = "../support/database.rs"]
mod database;
mod personal;
mod request;
mod route;
mod store;
mod template;
