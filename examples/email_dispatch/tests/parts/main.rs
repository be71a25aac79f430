//! Each part alone.
#![allow(clippy::unwrap_used)]
#![allow(clippy::needless_pass_by_value)] // so that `json!` can be given as it is written

mod alert;
mod backup;
mod consumer;
mod counters;
#[path = "../support/database.rs"]
mod database;
mod dead_letters;
mod delivery;
mod dispatch;
mod http;
#[path = "../support/kafka.rs"]
mod kafka;
#[path = "../support/log.rs"]
mod log;
mod personal;
mod policies;
mod publisher;
mod readme;
mod record;
mod request;
mod route;
mod settings;
mod sms;
mod smtp;
mod stage;
mod store;
mod template;
mod timeline;
mod view;
