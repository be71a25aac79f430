//! Counts and gauges for Prometheus, by the names that Resilience4j's have there, so that its dashboards go on working.
//!
//! They go through the `metrics` facade to whatever recorder the service has installed, such as
//! `metrics-exporter-prometheus`. Gauges are fresh when [`refresh`] has just been called: call it in the handler of
//! the scrape, before the recorder renders.
//!
//! ```
//! use resile::CircuitBreaker;
//!
//! let breaker = CircuitBreaker::with_defaults("orders");
//! resile::metrics::bind(&breaker);
//! // In the handler of `/metrics`:
//! resile::metrics::refresh();
//! // let text = prometheus.render();
//! ```
//!
//! # Which
//!
//! [`series`] lists every name, its labels and its meaning. All carry `name`, and the tags of the instance as further
//! labels; a tag whose key is one of the labels here gives way. Names of instances are unique within a kind and a set of
//! tags, or their counts come together in one series.
//!
//! * Calls are counted in every state in which the breaker counts; rejections also in the forced-open one, of which no
//!   event tells.
//! * A timer is exported as `_count`, `_sum`, cumulative `_bucket`s with fixed bounds from 1 ms to 30 s, and `_max`, the
//!   longest of the last one to two minutes. They are counters and gauges, so a recorder's own buckets and quantiles do
//!   not touch them, and its naming of histograms does not either; but leave its `with_recommended_naming` off, which
//!   would end `_count` and `_bucket` in `_total`.
//! * With metrics on, a breaker reads the clock for each call, also where no call can be slow.
//!
//! # What it costs
//!
//! A call counts in the instance itself: nothing is looked up, allocated or locked, and no recorder is met. What has been
//! counted reaches the recorder in [`refresh`]. A histogram of `metrics-exporter-prometheus` would read a clock, take a
//! place in a growing list for each call, and keep it until the next scrape.
//!
//! Handles are registered once per instance, at its first refresh: install the recorder before that. Where nobody can call
//! [`refresh`] at a scrape, as with an exporter that listens by itself, a task may call it every few seconds.
//!
//! # When an instance goes
//!
//! The facade cannot take a series back. When an instance is unbound, removed or evicted from its registry, or dropped, its
//! gauges say so one last time: every state 0, rates -1, counts of what is under way 0, limits NaN. Its counters stand
//! still. All of it stays in the recorder's output until the recorder forgets it: with `metrics-exporter-prometheus` set
//! `idle_timeout` to some minutes, more than the time between two scrapes, and it is gone after that. An instance of the
//! same name goes on with the same series.

mod families;
mod install;
mod observe;
mod published;

use std::sync::Arc;

use metrics::{Label, SharedString};
use parking_lot::Mutex;

pub(crate) use self::published::Published;
pub use self::{
    families::{Series, SeriesKind, series},
    install::Metrics,
};
use self::{
    observe::Observe,
    published::{Labels, Names},
};
use crate::{
    Bulkhead, CircuitBreaker, RateLimiter, Retry, ThreadPoolBulkhead, TimeLimiter,
    clock::{Clock, Instant},
    error::InvalidConfig,
    registry::{Resilience, Tags},
};

const DEFAULT_PREFIX: &str = "resilience4j";

/// How metrics are named.
#[derive(Debug, Clone)]
pub struct Config {
    prefix: String,
    tags: Tags,
}

impl Config {
    /// Begins every name with this instead of `resilience4j`: letters, digits, `_` and `:`, not a digit first.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Gives every series this label.
    #[must_use]
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.insert(key.into(), value.into());
        self
    }

    /// Exports an instance under these names: see [`bind`].
    ///
    /// # Errors
    /// [`InvalidConfig`] for a prefix that is none.
    pub fn bind(&self, instance: &impl Metered) -> Result<(), InvalidConfig> {
        instance.begin(labels(self.names()?, Some(instance.instance_name()), self.tags()));
        Ok(())
    }

    /// Exports every instance of the registries under these names: see [`install`].
    ///
    /// # Errors
    /// [`InvalidConfig`] for a prefix that is none.
    pub fn install(&self, resilience: &Resilience) -> Result<Metrics, InvalidConfig> {
        Ok(Metrics::install(resilience, self.clone(), self.names()?))
    }

    fn tags(&self) -> impl Iterator<Item = (&str, &str)> {
        self.tags.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    fn names(&self) -> Result<Arc<Names>, InvalidConfig> {
        let letter = |at: usize, c: char| c.is_ascii_alphabetic() || "_:".contains(c) || at > 0 && c.is_ascii_digit();
        let valid = !self.prefix.is_empty() && self.prefix.char_indices().all(|(at, c)| letter(at, c));
        InvalidConfig::check(valid, "prefix", &self.prefix, "must be letters, digits, '_' and ':', not a digit first")?;
        Ok(names(&self.prefix))
    }
}

impl Default for Config {
    fn default() -> Self {
        Self { prefix: DEFAULT_PREFIX.to_owned(), tags: Tags::new() }
    }
}

/// Exports every instance of the registries, those to come included, with their tags as labels, and the reloads of the
/// settings.
///
/// One that is removed or evicted ends its series. The instances of a
/// [`KeyedRegistry`](crate::registry::KeyedRegistry) are in no list and are not exported: one series for each key would be
/// too many.
///
/// ```
/// use resile::Resilience;
///
/// let resilience = Resilience::new();
/// resile::metrics::install(&resilience).forever();
/// let orders = resilience.circuit_breakers().get("orders"); // exported
/// ```
pub fn install(resilience: &Resilience) -> Metrics {
    Metrics::install(resilience, Config::default(), names(DEFAULT_PREFIX))
}

/// Exports an instance that is in no registry, for as long as it lives or until it is [unbound](unbind). One that is
/// exported already stays as it is.
pub fn bind(instance: &impl Metered) {
    instance.begin(labels(names(DEFAULT_PREFIX), Some(instance.instance_name()), []));
}

/// Ends the series of an instance that was bound by hand: what it has counted is told once more, and its gauges say that
/// it is gone. One that is in a registry ends its series by being removed from it.
pub fn unbind(instance: &impl Metered) {
    instance.end();
}

/// Tells the recorder what has been counted since the last time, and what every gauge shows now.
///
/// Looking changes no state. It takes a few microseconds for each instance, and may be called from several threads.
pub fn refresh() {
    install::look_through_registries();
    let now = Clock::default().now();
    let bound: Vec<_> = BOUND.lock().iter().map(Arc::clone).collect();
    let gone: Vec<_> = bound.into_iter().filter(|bound| !(bound.refresh)(&bound.published, now)).collect();
    if !gone.is_empty() {
        // In this order: who no longer finds them finds them ended.
        gone.iter().for_each(|gone| gone.published.end());
        BOUND.lock().retain(|entry| !gone.iter().any(|gone| Arc::ptr_eq(entry, gone)));
    }
}

/// What is exported, in the order of binding.
static BOUND: Mutex<Vec<Arc<Entry>>> = Mutex::new(Vec::new());

struct Entry {
    published: Arc<Published>,
    refresh: Box<Refresh>,
}

/// Tells of the instance. Whether it is still there.
type Refresh = dyn Fn(&Published, Instant) -> bool + Send + Sync;

/// The names under a prefix, made once in the process.
fn names(prefix: &str) -> Arc<Names> {
    static NAMES: Mutex<Vec<Arc<Names>>> = Mutex::new(Vec::new());
    let mut made = NAMES.lock();
    if let Some(names) = made.iter().find(|names| names.prefix() == prefix) {
        return Arc::clone(names);
    }
    let names = Arc::new(Names::new(prefix));
    made.push(Arc::clone(&names));
    names
}

fn labels<'a>(names: Arc<Names>, name: Option<&str>, tags: impl IntoIterator<Item = (&'a str, &'a str)>) -> Labels {
    let shared = |text: &str| SharedString::from_shared(Arc::from(text));
    let tags = tags.into_iter().filter(|(key, _)| !families::is_reserved(key));
    let tags = tags.map(|(key, value)| Label::new(shared(key), shared(value)));
    let labels = name.map(|name| Label::new("name", shared(name))).into_iter().chain(tags).collect();
    Labels { names, labels, tags: Tags::new(), by_hand: true }
}

/// What can be bound: the policies but the fallback.
pub trait Metered: sealed::Sealed {}

mod sealed {
    use std::sync::Arc;

    use super::{Labels, Published};

    pub trait Sealed {
        fn instance_name(&self) -> &str;
        /// From here on the instance counts.
        fn count(&self);
        fn published(&self) -> &Arc<Published>;
        fn begin(&self, labels: Labels);
        fn end(&self);
    }
}

macro_rules! metered {
    ($($policy:ident),*) => {$(
        impl Metered for $policy {}

        impl sealed::Sealed for $policy {
            fn instance_name(&self) -> &str {
                self.name()
            }

            fn count(&self) {
                self.bound();
            }

            fn published(&self) -> &Arc<Published> {
                &self.bound().published
            }

            fn begin(&self, labels: Labels) {
                let published = self.published();
                let mut bound = BOUND.lock();
                if published.begin(labels) {
                    let instance = self.weak();
                    let refresh = move |published: &Published, now| {
                        let Some(instance) = instance() else { return false };
                        published.tell(now, |out| instance.observe(out));
                        true
                    };
                    bound.push(Arc::new(Entry { published: Arc::clone(published), refresh: Box::new(refresh) }));
                }
            }

            fn end(&self) {
                let published = self.published();
                BOUND.lock().retain(|entry| !Arc::ptr_eq(&entry.published, published));
                published.tell(Clock::default().now(), |out| self.observe(out));
                published.end();
            }
        }
    )*};
}
metered!(CircuitBreaker, Retry, Bulkhead, ThreadPoolBulkhead, RateLimiter, TimeLimiter);
