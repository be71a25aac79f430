//! Each part alone.

#[path = "../support/database.rs"]
mod database;
mod store;
