//! Email dispatch over Kafka: requests come in over HTTP and from Kafka, go out over SMTP, fall back to SMS, and
//! nothing is lost or sent twice while the broker, the mail servers, the database or the process itself fail.
//!
//! Where to begin reading: [`delivery`] puts the policies of `resile` around a mail server, and [`route`] says where a
//! request goes when it could not be sent. What they stand on:
//!
//! * [`request`] and [`personal`]: what is asked for, and what nobody may read of it.
//! * [`store`]: one row a request, which one worker at a time can claim, and the outbox.
//! * [`door`] and [`http`]: where requests are accepted, and what can be asked about them.
//! * [`smtp`]: what a mail server's answers mean. [`sms`]: the way out when no mail can be sent.

pub mod delivery;
pub mod door;
pub mod embedded;
pub mod http;
pub mod kafka;
pub mod personal;
pub mod record;
pub mod request;
pub mod route;
pub mod sms;
pub mod smtp;
pub mod store;
pub mod template;
pub mod wall_clock;
pub mod web_client;
