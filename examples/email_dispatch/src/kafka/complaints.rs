//! What librdkafka says by itself: its log, and trouble that it will get over.

use std::{collections::HashMap, fmt::Display, sync::Arc, time::Duration};

use parking_lot::Mutex;
use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    consumer::ConsumerContext,
    error::KafkaError,
    producer::{DeliveryResult, ProducerContext},
};
use tokio::time::Instant;

use super::fault::explain;

/// The most often that the same trouble is told.
const SAY_EVERY: Duration = Duration::from_secs(30);

/// Tells of trouble that will pass, but not each time: a broker that is away is missed several times a second. A clone
/// keeps count with it.
#[derive(Clone, Debug)]
pub(crate) struct Complaints {
    who: &'static str,
    said: Arc<Mutex<HashMap<&'static str, Instant>>>,
}

impl Complaints {
    /// Of the client that goes by this name in the log.
    pub(crate) fn of(who: &'static str) -> Self {
        Self { who, said: Arc::default() }
    }

    pub(crate) fn tell(&self, what: &'static str, reason: &dyn Display) {
        if self.is_news(what, Instant::now()) {
            tracing::warn!(client = self.who, %reason, "{what}");
        }
    }

    fn is_news(&self, what: &'static str, now: Instant) -> bool {
        let mut said = self.said.lock();
        let is_news = said.get(what).is_none_or(|said| now - *said >= SAY_EVERY);
        if is_news {
            said.insert(what, now);
        }
        is_news
    }
}

impl ClientContext for Complaints {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "librdkafka", client = self.who, ?level, facility, "{message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.tell("trouble with Kafka", &format_args!("{}: {reason}", explain(&error)));
    }
}

impl ConsumerContext for Complaints {}

impl ProducerContext for Complaints {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): Self::DeliveryOpaque) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_trouble_is_told_again_only_after_a_while_and_another_at_once() {
        let (complaints, start) = (Complaints::of("test"), Instant::now());
        let clone = complaints.clone();
        assert!(complaints.is_news("no broker", start));
        assert!(!clone.is_news("no broker", start + SAY_EVERY / 2), "a clone is the same");
        assert!(complaints.is_news("no group", start));
        assert!(complaints.is_news("no broker", start + SAY_EVERY));
    }
}
