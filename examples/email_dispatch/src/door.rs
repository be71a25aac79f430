//! Accepts requests: what passes the door is written down, and will be published even if Kafka is away.
//!
//! The HTTP interface and the `produce` command stand on it.

use std::sync::Arc;

use crate::{
    counters::Counters,
    kafka::publisher::Waker,
    personal::Keys,
    record::{Headers, Record, Topic},
    request::{Fault, Faults, Intake, Origin},
    store::{Accepted, Facts, Intake as Passed, Outbox, StoreError},
    wall_clock::WallClock,
};

/// Reads requests and accepts them. Cheap to clone; a clone is the same door.
#[derive(Clone, Debug)]
pub struct Door {
    intake: Arc<Intake>,
    keys: Keys,
    outbox: Outbox,
    clock: WallClock,
    publisher: Waker,
    counters: Counters,
}

impl Door {
    /// A door to this outbox. `keys` are those of the intake; `publisher` is woken when there is something to publish.
    #[must_use]
    pub fn new(
        intake: Intake,
        keys: Keys,
        outbox: Outbox,
        clock: WallClock,
        publisher: Waker,
        counters: Counters,
    ) -> Self {
        Self { intake: Arc::new(intake), keys, outbox, clock, publisher, counters }
    }

    /// Reads one request from JSON, and makes of it what can be accepted: with an id, nothing personal readable, and the
    /// key that keeps what one person gets in order.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read(&self, json: &[u8]) -> Result<Passed, Faults> {
        let request = self.intake.parse(json, Origin::Http, self.clock.now_ms())?;
        let fault = |field: &str, rule: String| Faults {
            id: Some(request.id),
            faults: vec![Fault { field: field.to_owned(), value: String::new(), rule }],
        };
        let recipient = if request.to.is_some() { "to" } else { "phone" };
        let key = request.record_key(&self.keys).map_err(|error| fault(recipient, error.to_string()))?;
        let payload = serde_json::to_vec(&request).map_err(|_| fault("request", "must be JSON".to_owned()))?;
        let facts = Facts { kind: request.kind, priority: request.priority };
        let record = Record { topic: Topic::of(&request), key, payload, headers: Headers::default() };
        Ok(Passed { id: request.id, facts, record })
    }

    /// Writes requests down and wakes the publisher. Answers in the order given; one whose id was accepted before is
    /// known, whatever else it says now.
    ///
    /// # Errors
    /// The database's. None, some or all of the requests may then be accepted. Asked for again with the same ids they are
    /// accepted once.
    ///
    /// # Cancel safety
    /// As after an error, and the publisher is not woken: it has to look by itself from time to time.
    pub async fn accept(&self, requests: Vec<Passed>) -> Result<Vec<Accepted>, StoreError> {
        let accepted = self.outbox.accept(requests).await;
        if let Ok(accepted) = &accepted {
            self.counters.accepted(accepted.iter().filter(|accepted| **accepted == Accepted::New).count() as u64);
        }
        // After an error too: what was written down before it is to be published.
        if accepted.as_ref().map_or(true, |accepted| accepted.contains(&Accepted::New)) {
            self.publisher.wake();
        }
        accepted
    }
}
