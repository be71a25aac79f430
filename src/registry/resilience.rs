use std::{fmt, sync::Arc};

use super::{Config, Instance, NamedPipeline, NoRetry, Registry};
use crate::{
    bulkhead::{Bulkhead, ThreadPoolBulkhead},
    circuit_breaker::CircuitBreaker,
    error::InvalidConfig,
    event::{Listeners, Name, PolicyKind, Subscription},
    rate_limiter::RateLimiter,
    retry::Retry,
    time_limiter::TimeLimiter,
};

/// All that a service has of this crate: a [`Registry`] for each kind of policy. A clone is the same.
#[derive(Clone)]
pub struct Resilience {
    inner: Arc<Inner>,
}

struct Inner {
    circuit_breakers: Registry<CircuitBreaker>,
    retries: Registry<Retry>,
    bulkheads: Registry<Bulkhead>,
    thread_pool_bulkheads: Registry<ThreadPoolBulkhead>,
    rate_limiters: Registry<RateLimiter>,
    time_limiters: Registry<TimeLimiter>,
    listeners: Listeners<Change>,
}

/// What was done to the settings or the instances from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// Other settings are in force.
    Reloaded,
    /// Other settings were refused, and those before are still in force.
    Refused {
        /// Why, one sentence each.
        errors: Vec<String>,
    },
    /// Somebody did something to an instance.
    Operator {
        /// Who.
        who: String,
        /// The kind of policy.
        policy: PolicyKind,
        /// The instance.
        instance: Name,
        /// What was done.
        action: String,
    },
}

impl Resilience {
    /// Empty registries with the default settings.
    pub fn new() -> Self {
        Self::build(Config::default())
    }

    /// Empty registries, each with these settings.
    ///
    /// # Errors
    /// [`InvalidConfig`] for limits of zero.
    pub fn with_config(config: Config) -> Result<Self, InvalidConfig> {
        config.validate()?;
        Ok(Self::build(config))
    }

    fn build(config: Config) -> Self {
        Self {
            inner: Arc::new(Inner {
                circuit_breakers: Registry::build(config.clone()),
                retries: Registry::build(config.clone()),
                bulkheads: Registry::build(config.clone()),
                thread_pool_bulkheads: Registry::build(config.clone()),
                rate_limiters: Registry::build(config.clone()),
                time_limiters: Registry::build(config),
                listeners: Listeners::new(),
            }),
        }
    }

    /// The circuit breakers.
    pub fn circuit_breakers(&self) -> &Registry<CircuitBreaker> {
        &self.inner.circuit_breakers
    }

    /// The retries.
    pub fn retries(&self) -> &Registry<Retry> {
        &self.inner.retries
    }

    /// The bulkheads of the semaphore kind.
    pub fn bulkheads(&self) -> &Registry<Bulkhead> {
        &self.inner.bulkheads
    }

    /// The bulkheads of the thread-pool kind.
    pub fn thread_pool_bulkheads(&self) -> &Registry<ThreadPoolBulkhead> {
        &self.inner.thread_pool_bulkheads
    }

    /// The rate limiters.
    pub fn rate_limiters(&self) -> &Registry<RateLimiter> {
        &self.inner.rate_limiters
    }

    /// The time limiters.
    pub fn time_limiters(&self) -> &Registry<TimeLimiter> {
        &self.inner.time_limiters
    }

    /// The policies configured under that name, those declared or made, in the order
    /// `Retry(CircuitBreaker(RateLimiter(TimeLimiter(Bulkhead(call)))))`. The order is this one always; another is a
    /// [`Pipeline`](crate::Pipeline) of the instances. The thread-pool kind of bulkhead takes other calls and is no part of it.
    ///
    /// Changed settings reach a pipeline that is held. A policy that is declared or made later is only in one that is asked
    /// for later; see [`NamedPipeline::is_empty`] for a name that nothing is configured under.
    ///
    /// ```
    /// use resile::Resilience;
    ///
    /// let resilience = Resilience::new();
    /// resilience.retries().get("orders");
    /// resilience.circuit_breakers().get("orders");
    /// let orders = resilience.pipeline("orders");
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let order = orders.call(|| async { Ok::<_, std::io::Error>(42) }).await?;
    /// # assert_eq!(order, 42);
    /// # Ok::<(), resile::Error<std::io::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn pipeline(&self, name: &str) -> NamedPipeline {
        self.named(configured(&self.inner.retries, name), name)
    }

    /// As [`pipeline`](Self::pipeline), without its retry, for calls that cannot be repeated: those that move what they need,
    /// and those that must not be made twice.
    pub fn pipeline_without_retry(&self, name: &str) -> NamedPipeline<NoRetry> {
        self.named(None, name)
    }

    fn named<R>(&self, retry: Option<R>, name: &str) -> NamedPipeline<R> {
        NamedPipeline::new((
            retry,
            configured(&self.inner.circuit_breakers, name),
            configured(&self.inner.rate_limiters, name),
            configured(&self.inner.time_limiters, name),
            configured(&self.inner.bulkheads, name),
        ))
    }

    /// Calls `listener` with every change from outside: settings reloaded or refused, and what an operator does. On the
    /// thread it happens on, outside every lock. A panic in it is contained. Dropping the subscription ends it.
    pub fn on_change(&self, listener: impl Fn(&Change) + Send + Sync + 'static) -> Subscription {
        self.inner.listeners.subscribe(listener)
    }

    /// Tells who listens to changes.
    #[allow(dead_code, reason = "only features change anything from outside")]
    #[allow(clippy::needless_pass_by_value)]
    pub(crate) fn report(&self, change: Change) {
        self.inner.listeners.publish(&change);
    }
}

fn configured<P: Instance>(registry: &Registry<P>, name: &str) -> Option<P> {
    registry.knows(name).then(|| registry.get(name))
}

impl Default for Resilience {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Resilience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resilience").finish_non_exhaustive()
    }
}
