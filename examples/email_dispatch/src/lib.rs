//! Email dispatch over Kafka: requests come in over HTTP and from Kafka, go out over SMTP, fall back to SMS, and
//! nothing is lost or sent twice while the broker, the mail servers, the database or the process itself fail.
//!
//! Where to begin reading: [`delivery`] puts the policies of `resile` around a mail server, and [`route`] says where a
//! request goes when it could not be sent. What they stand on:
//!
//! * [`request`] and [`personal`]: what is asked for, and what nobody may read of it.
//! * [`store`]: one row a request, which one worker at a time can claim, and the outbox.
//! * [`smtp`]: conversations with mail servers, and what their answers mean.
//! * [`embedded`]: servers to try all of it on, which can be told to fail.

pub mod delivery;
pub mod embedded;
pub mod kafka;
pub mod personal;
pub mod record;
pub mod request;
pub mod route;
pub mod smtp;
pub mod store;
pub mod template;
pub mod wall_clock;
