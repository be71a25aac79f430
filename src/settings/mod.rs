//! Settings out of files in Resilience4j's layout, also while the service runs.
//!
//! What stands under `resilience4j` in an `application.yml` of Spring Boot is read as it is; all else in the file is left
//! alone. YAML, TOML and JSON say the same things.
//!
//! ```
//! use resile::settings::{Format, Settings};
//! use std::time::Duration;
//!
//! let settings = Settings::parse(
//!     r#"
//! resilience4j:
//!   circuitbreaker:
//!     configs:
//!       default:
//!         failure-rate-threshold: 50
//!         wait-duration-in-open-state: 60s
//!     instances:
//!       orders:
//!         base-config: default
//!         wait-duration-in-open-state: ${ORDERS_WAIT:30s}
//!   timelimiter:
//!     instances:
//!       orders: { timeoutDuration: 2s }
//! "#,
//!     Format::Yaml,
//!     "application.yml",
//! )?;
//! let breaker = resile::CircuitBreaker::new("orders", settings.circuit_breaker("orders"))?;
//! let time_limiter = resile::TimeLimiter::new("orders", settings.time_limiter("orders"))?;
//! # let config = resile::circuit_breaker::Config::default().failure_rate_threshold(50.0);
//! # let config = config.wait_duration_in_open_state(Duration::from_secs(30));
//! # assert_eq!(format!("{:?}", settings.circuit_breaker("orders")), format!("{config:?}"));
//!
//! let errors = Settings::parse("resilience4j.retry.instances.mail.max-atempts: 3", Format::Yaml, "a.yml").unwrap_err();
//! assert_eq!(
//!     errors.to_string(),
//!     "a.yml:1: resilience4j.retry.instances.mail.max-atempts = 3: there is no such key; did you mean 'max-attempts'?",
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The layout
//!
//! ```yaml
//! resilience4j:
//!   circuitbreaker:        # retry, ratelimiter, bulkhead, thread-pool-bulkhead, timelimiter
//!     tags: { team: mail } # for every instance
//!     configs:
//!       default: {}        # for every instance that names no other
//!       strict: { base-config: default }
//!     instances:
//!       orders: { base-config: strict, tags: { tier: "1" } }
//! ```
//!
//! * **Keys** may be in kebab, camel or snake case, and dotted: `resilience4j.circuitbreaker:` is one. A name of an instance
//!   that holds dots may be written as it is, or as `"[orders.example.org]"`.
//! * **Properties** are those of the `Config` of each policy; the waits that grow or are spread are written as in
//!   Resilience4j: `enable-exponential-backoff`, `exponential-backoff-multiplier` (1.5), `exponential-max-wait-duration`
//!   (with `-in-open-state` for a circuit breaker), `enable-randomized-wait`, `randomized-wait-factor` (0.5). Where a
//!   setting may be `None`, `none` is how to write it.
//! * **Bases.** What an instance does not say is said by its `base-config` and by that one's bases in turn; without a
//!   `base-config` by the config of the instance's own name, or else by `default`; and at last by the defaults of the crate.
//! * **Durations** are `60s`, `500ms`, `1h30m`, `PT1M`, or a number of milliseconds.
//! * **Placeholders**: `${NAME}` is the environment's variable, `${NAME:default}` has a default, which may hold placeholders.
//! * **Profiles** are further files, laid over the first property by property: see [`Sources::file`].
//! * **A count window's size** bounds `minimum-number-of-calls`, as in Resilience4j: more is taken as the size, with a warning.
//!
//! # What is wrong, and what is without effect
//!
//! Nothing is taken from files with an error in them, and [`SettingsErrors`] tells all errors of all files at once. What
//! only Java can do has no effect and is a [`Warning`], such as `writable-stack-trace-enabled`. What needs code is an error
//! that says which: lists of exceptions, predicates, the order of aspects, and `cancel-running-future: false`.
//!
//! A file may have 1 MiB. Anchors, aliases and merge keys (`<<`) of YAML may be used, within limits on depth and size.

mod build;
mod error;
mod keys;
mod layout;
mod placeholder;
mod read;
mod resolve;
mod sources;
mod value;

use std::{collections::BTreeMap, path::Path, sync::Arc};

use self::{
    error::Report,
    keys::KINDS,
    layout::{Layout, Section},
    resolve::Resolved,
};
pub use self::{
    error::{SettingsError, SettingsErrors, Warning},
    sources::Sources,
};
use crate::{
    bulkhead::{self, thread_pool},
    circuit_breaker,
    event::PolicyKind,
    rate_limiter, retry, time_limiter,
};

/// The formats that settings are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// YAML 1.2, one document.
    Yaml,
    /// TOML 1.1.
    Toml,
    /// JSON.
    Json,
}

/// What settings files say, checked as a whole: every config in it can be.
#[derive(Debug, Clone)]
pub struct Settings {
    circuit_breakers: Resolved<circuit_breaker::Config>,
    retries: Resolved<retry::Config>,
    rate_limiters: Resolved<rate_limiter::Config>,
    bulkheads: Resolved<bulkhead::Config>,
    thread_pool_bulkheads: Resolved<thread_pool::Config>,
    time_limiters: Resolved<time_limiter::Config>,
    warnings: Arc<[Warning]>,
}

impl Settings {
    /// Reads one text. `name` stands for it in errors; placeholders are looked up in the environment of the process.
    ///
    /// # Errors
    /// All that is wrong in it.
    pub fn parse(text: &str, format: Format, name: &str) -> Result<Self, SettingsErrors> {
        Sources::new().text(text, format, name).load()
    }

    /// Reads these files, each laid over those before it. Their format is told by the ends of their names; placeholders are
    /// looked up in the environment of the process. [`Sources`] can do more.
    ///
    /// # Errors
    /// All that is wrong in all of them, and what cannot be read.
    pub fn load<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Result<Self, SettingsErrors> {
        paths.into_iter().fold(Sources::new(), Sources::file).load()
    }

    fn of(layout: &Layout, mut report: Report, files: &[Arc<str>]) -> Result<Self, SettingsErrors> {
        let report = &mut report;
        let settings = Self {
            circuit_breakers: Resolved::of(section(layout, PolicyKind::CircuitBreaker), report),
            retries: Resolved::of(section(layout, PolicyKind::Retry), report),
            rate_limiters: Resolved::of(section(layout, PolicyKind::RateLimiter), report),
            bulkheads: Resolved::of(section(layout, PolicyKind::Bulkhead), report),
            thread_pool_bulkheads: Resolved::of(section(layout, PolicyKind::ThreadPoolBulkhead), report),
            time_limiters: Resolved::of(section(layout, PolicyKind::TimeLimiter), report),
            warnings: Arc::default(),
        };
        let warnings = std::mem::take(report).finish(files)?.into();
        Ok(Self { warnings, ..settings })
    }

    /// What has no effect, or another than it says.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// The settings of the circuit breaker of this name: its own, else those of the config of that name, else those of
    /// `default`, else the crate's defaults.
    pub fn circuit_breaker(&self, name: &str) -> circuit_breaker::Config {
        self.circuit_breakers.config(name)
    }

    /// The settings of the retry of this name, found as those of a [circuit breaker](Self::circuit_breaker).
    pub fn retry(&self, name: &str) -> retry::Config {
        self.retries.config(name)
    }

    /// The settings of the rate limiter of this name, found as those of a [circuit breaker](Self::circuit_breaker).
    pub fn rate_limiter(&self, name: &str) -> rate_limiter::Config {
        self.rate_limiters.config(name)
    }

    /// The settings of the bulkhead of this name, found as those of a [circuit breaker](Self::circuit_breaker).
    pub fn bulkhead(&self, name: &str) -> bulkhead::Config {
        self.bulkheads.config(name)
    }

    /// The settings of the thread-pool bulkhead of this name, found as those of a
    /// [circuit breaker](Self::circuit_breaker).
    pub fn thread_pool_bulkhead(&self, name: &str) -> thread_pool::Config {
        self.thread_pool_bulkheads.config(name)
    }

    /// The settings of the time limiter of this name, found as those of a [circuit breaker](Self::circuit_breaker).
    pub fn time_limiter(&self, name: &str) -> time_limiter::Config {
        self.time_limiters.config(name)
    }

    /// The names of the instances of a kind that the files name.
    pub fn instances(&self, kind: PolicyKind) -> Vec<&str> {
        match kind {
            PolicyKind::CircuitBreaker => self.circuit_breakers.names(),
            PolicyKind::Retry => self.retries.names(),
            PolicyKind::RateLimiter => self.rate_limiters.names(),
            PolicyKind::Bulkhead => self.bulkheads.names(),
            PolicyKind::ThreadPoolBulkhead => self.thread_pool_bulkheads.names(),
            PolicyKind::TimeLimiter => self.time_limiters.names(),
        }
    }

    /// The tags of an instance: its own over those of its configs over those of its kind.
    pub fn tags(&self, kind: PolicyKind, name: &str) -> BTreeMap<String, String> {
        match kind {
            PolicyKind::CircuitBreaker => self.circuit_breakers.tags(name),
            PolicyKind::Retry => self.retries.tags(name),
            PolicyKind::RateLimiter => self.rate_limiters.tags(name),
            PolicyKind::Bulkhead => self.bulkheads.tags(name),
            PolicyKind::ThreadPoolBulkhead => self.thread_pool_bulkheads.tags(name),
            PolicyKind::TimeLimiter => self.time_limiters.tags(name),
        }
    }
}

fn section(layout: &Layout, policy: PolicyKind) -> &Section {
    let index = KINDS.iter().position(|kind| kind.policy == policy).unwrap_or_default();
    &layout.sections[index]
}
