//! The service as its users have it: its own processes, which are killed, and a broker, a database and mail servers that
//! outlive them and fail. In the end nothing may be lost, and nothing sent twice.
//!
//! Everything is embedded, but for the processes. With `EMAIL_DISPATCH_TEST_KAFKA_JARS` the same is done on a real Apache
//! Kafka too, and with `EMAIL_DISPATCH_TEST_DATABASE` that one is on PostgreSQL.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

#[macro_use]
mod world;

#[path = "../support/database.rs"]
mod database;
mod demonstration;
#[path = "../support/kafka.rs"]
mod kafka;
mod killed;
mod operators;
mod process;
mod scenario;
mod start;
mod steering;
mod together;
