//! Sends what the outbox holds to Kafka, through a circuit breaker.
//!
//! ```text
//! outbox ─ in order ─► CircuitBreaker kafka-publisher ─ TimeLimiter ─ idempotent producer ─► topics
//!    ▲                                                                      │
//!    └──────────────── rows of acknowledged records are deleted ────────────┘
//! ```
//!
//! While the breaker is open nothing is published, or even read: the rows stay where they are, and new ones can be
//! written behind them. When it half-opens, the oldest few are the trial calls; when it closes, all go out in order.
//!
//! One process at a time publishes: the one that holds the lease. It dies without giving the lease back, and another
//! goes on when the lease is over.
//!
//! # Order
//! Records are handed to the producer in the order of the outbox, and an idempotent producer keeps them so in each
//! partition. There is no retry of single records, which others could overtake: a record that has not been acknowledged
//! in time is taken back with all that came after it, and everything is published from there on again. Of those, Kafka
//! may have had some already; whoever consumes them claims a request before working on it.
//!
//! # What Kafka will never take
//! A record that is refused for what it is, such as its size, is refused once more alone, so that no other is to blame.
//! Then it becomes a dead letter without its payload, and its request is FAILED in the ledger. A topic that is missing,
//! or closed to us, is no fault of the record's: the breaker opens, and the outbox waits for somebody to set it right.

mod leadership;
mod outlet;
mod task;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use resile::{
    CircuitBreaker, Resilience, circuit_breaker,
    registry::{Existing, RegistryError},
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use self::{outlet::Outlet, task::Task};
use super::{KafkaFault, KafkaSettings};
use crate::store::{Lease, Ledger, Outbox};

/// How the outbox is published.
#[derive(Clone, Debug)]
pub struct PublisherSettings {
    /// How many records are under way at a time, at most 16 MiB of them. Default: 1,000.
    pub batch: u32,
    /// How often to look into an empty outbox without having been woken, for what other processes have put there.
    /// Default: 50 ms.
    pub poll_interval: Duration,
    /// How long another process waits before it publishes instead of one that has died. Default: 10 s.
    pub lease: Duration,
    /// How many results the breaker looks back on. Default: 100.
    pub window: u32,
    /// Opens the breaker at this share of failed records, in percent. Default: 50.
    pub failure_rate: f32,
    /// From which duration on a record counts as slow. Default: 2 s.
    pub slow: Duration,
    /// Opens the breaker at this share of slow records, in percent. Default: 80.
    pub slow_rate: f32,
    /// How long an open breaker waits before it tries Kafka again. Default: 10 s.
    pub open: Duration,
    /// With how many records it tries. Default: 5.
    pub trials: u32,
    /// Where the breaker is made, by the name `kafka-publisher`. What is declared there for it wins over what is above.
    /// Default: one of its own.
    pub resilience: Resilience,
}

impl Default for PublisherSettings {
    fn default() -> Self {
        Self {
            batch: 1_000,
            poll_interval: Duration::from_millis(50),
            lease: Duration::from_secs(10),
            window: 100,
            failure_rate: 50.0,
            slow: Duration::from_secs(2),
            slow_rate: 80.0,
            open: Duration::from_secs(10),
            trials: 5,
            resilience: Resilience::new(),
        }
    }
}

impl PublisherSettings {
    fn breaker(&self) -> Result<CircuitBreaker, RegistryError> {
        let config = circuit_breaker::Config::default()
            .sliding_window_size(self.window)
            .minimum_number_of_calls(self.window.min(10))
            .failure_rate_threshold(self.failure_rate)
            .slow_call_duration_threshold(self.slow)
            .slow_call_rate_threshold(self.slow_rate)
            .wait_duration_in_open_state(self.open)
            .permitted_number_of_calls_in_half_open_state(self.trials)
            // An outbox may hold fewer than that. One record that got through says enough.
            .minimum_number_of_calls_in_half_open_state(1);
        self.resilience.circuit_breakers().get_with("kafka-publisher", config, Existing::Keep)
    }
}

/// Publishes the outbox until it is [shut down](Self::shut_down). Dropping it instead stops it where it is and keeps
/// the lease, as when the process dies.
#[derive(Debug)]
pub struct Publisher {
    breaker: CircuitBreaker,
    bell: Waker,
    published: Arc<AtomicU64>,
    leads: watch::Receiver<bool>,
    lease: Lease,
    stop: CancellationToken,
    publishing: AbortOnDropHandle<()>,
    leading: AbortOnDropHandle<()>,
}

impl Publisher {
    /// Starts publishing what `outbox` holds while `lease` can be held. `ledger` is told of requests that Kafka will
    /// never take. Kafka and the database need not be there yet.
    ///
    /// # Errors
    /// [`KafkaFault::Failed`] for a setting that cannot be, of the breaker or of librdkafka.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn start(
        outbox: Outbox,
        ledger: Ledger,
        lease: Lease,
        kafka: &KafkaSettings,
        settings: &PublisherSettings,
    ) -> Result<Self, KafkaFault> {
        let breaker = settings.breaker().map_err(|error| KafkaFault::Failed(error.to_string()))?;
        let outlet = Outlet::new(kafka.clone(), &breaker, &settings.resilience)?;
        let (leader, leads) = watch::channel(false);
        let (bell, stop, published) = (Waker::default(), CancellationToken::new(), Arc::<AtomicU64>::default());
        let task = Task::new(outbox, ledger, outlet, settings, leads.clone(), bell.clone(), Arc::clone(&published))
            .map_err(|error| KafkaFault::Failed(error.to_string()))?;
        let publishing = AbortOnDropHandle::new(tokio::spawn(task.run(stop.clone())));
        let leading = AbortOnDropHandle::new(tokio::spawn(leadership::keep(lease.clone(), settings.lease, leader)));
        Ok(Self { breaker, bell, published, leads, lease, stop, publishing, leading })
    }

    /// The breaker around Kafka.
    #[must_use]
    pub fn breaker(&self) -> &CircuitBreaker {
        &self.breaker
    }

    /// To be told of new rows with.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.bell.clone()
    }

    /// How many records Kafka has acknowledged.
    #[must_use]
    pub fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    /// Whether it is this process that publishes.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        *self.leads.borrow()
    }

    /// Publishes no more, waits for the records that are under way, forgets those that were acknowledged, and lets
    /// another process publish. What is not done within the time limit is left in the outbox.
    pub async fn shut_down(self, time_limit: Duration) {
        let deadline = Instant::now() + time_limit;
        self.stop.cancel();
        if timeout_at(deadline, self.publishing).await.is_err() {
            tracing::warn!(?time_limit, "the last records were not acknowledged in time, and will be published again");
        }
        self.leading.abort();
        // Or it might ask for the lease once more after it has been given back.
        let _ = self.leading.await;
        match timeout_at(deadline, self.lease.release()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the right to publish is not given back"),
            Err(_) => tracing::warn!(?time_limit, "the right to publish is not given back in time"),
        }
    }
}

/// Tells a publisher of new rows in its outbox, so that they need not wait for it to look. A clone wakes the same one.
#[derive(Clone, Debug, Default)]
pub struct Waker(Arc<Notify>);

impl Waker {
    /// There are new rows.
    pub fn wake(&self) {
        self.0.notify_one();
    }

    /// Returns when there are, once for however often it was told before.
    pub async fn woken(&self) {
        self.0.notified().await;
    }
}
