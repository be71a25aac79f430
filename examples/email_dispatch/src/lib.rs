//! Email dispatch over Kafka: requests come in over HTTP and from Kafka, go out over SMTP, fall back to SMS, and
//! nothing is lost or sent twice while the broker, the mail servers, the database or the process itself fail.
//!
//! Where to begin reading: [`delivery`] puts the policies of `resile` around a mail server, [`dispatch`] is what is done
//! with each request, and [`route`] says where one goes when it could not be sent. What they stand on:
//!
//! * [`request`] and [`personal`]: what is asked for, and what nobody may read of it.
//! * [`door`] and [`http`]: where requests are accepted, and what can be asked about them.
//! * [`store`]: one row a request, which one worker at a time can claim, and the outbox.
//! * [`kafka`] and [`record`]: the publisher of the outbox, and the consumer that keeps order per person. [`slots`] are
//!   shared by priority.
//! * [`policies`]: those of `resile` by name, and the files that change them while the service runs.
//! * [`smtp`]: conversations with a mail server, and what its answers mean. [`sms`]: the way out when no mail can be sent.
//! * [`counters`], [`alert`] and [`backup`]: what is told of it, and what is kept aside; [`view`] and [`timeline`] show it.
//! * [`settings`], [`cli`], [`stage`] and [`service`]: what can be set, and how all is put together.
//! * [`embedded`], [`sample`], [`demonstration`], [`scenario`] and [`account`]: how it is tried, and how the sums are done.

pub mod account;
pub mod alert;
pub mod backup;
pub mod cli;
pub mod commands;
pub mod counters;
pub mod delivery;
pub mod demonstration;
pub mod dispatch;
pub mod door;
pub mod embedded;
pub mod http;
pub mod kafka;
pub mod limits;
pub mod logging;
pub mod personal;
pub mod policies;
pub mod record;
pub mod request;
pub mod route;
pub mod sample;
pub mod scenario;
pub mod service;
pub mod settings;
pub mod slots;
pub mod sms;
pub mod smtp;
pub mod stage;
pub mod store;
pub mod template;
pub mod timeline;
pub mod view;
pub mod wall_clock;
pub mod web_client;

/// Millions of small pieces that one thread takes and another gives back: the system's allocator takes a quarter longer
/// over a mail.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
