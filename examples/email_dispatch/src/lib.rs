//! Email dispatch over Kafka: requests come in over HTTP and from Kafka, go out over SMTP, fall back to SMS, and
//! nothing is lost or sent twice while the broker, the mail servers, the database or the process itself fail.
//!
//! Where to begin reading: [`delivery`] puts the policies of `resile` around a mail server, [`dispatch`] says what
//! happens to one request, and [`route`] where it goes when that fails. What they stand on:
//!
//! * [`request`] and [`personal`]: what is asked for, and what nobody may read of it.
//! * [`store`]: one row a request, which one worker at a time can claim, and the outbox.
//! * [`kafka`]: the publisher behind its breaker, and a consumer in order per key, parallel across keys.
//! * [`smtp`] and [`sms`]: the ways out.
//! * [`embedded`]: a broker, mail servers and an SMS gateway for a machine where nothing is installed.

pub mod alert;
pub mod backup;
pub mod cli;
pub mod delivery;
pub mod demo;
pub mod dispatch;
pub mod embedded;
pub mod http;
pub mod kafka;
pub mod message;
pub mod personal;
pub mod record;
pub mod request;
pub mod route;
pub mod service;
pub mod settings;
pub mod sms;
pub mod smtp;
pub mod store;
pub mod telemetry;
pub mod template;
pub mod wall_clock;
