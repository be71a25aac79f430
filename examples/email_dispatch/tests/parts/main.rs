//! Each part alone.
#![allow(clippy::unwrap_used)]
#![allow(clippy::needless_pass_by_value)] // so that `json!` can be given as it is written

mod alert;
mod backup;
mod counters;
mod dispatch;
#[path = "../support/database.rs"]
mod database;
mod http;
mod consumer;
#[path = "../support/database.rs"]
#[path = "../support/kafka.rs"]
mod kafka;
mod personal;
mod record;
mod request;
mod route;
mod sms;
mod settings;
mod store;
mod template;
mod timeline;
mod view;
