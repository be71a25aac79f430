//! Each part alone.

#[path = "../support/database.rs"]
mod database;
mod personal;
mod request;
mod store;
mod template;
