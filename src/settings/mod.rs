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
//! # In force
//!
//! [`Settings::apply`] puts them in force in the registries of a [`Resilience`], and [`watch`] does so again whenever a file
//! changes. Instances get their new settings and keep their state.
//!
//! ```
//! use resile::{Resilience, circuit_breaker::State, settings::{Format, Settings}};
//!
//! let resilience = Resilience::new();
//! let breaker = resilience.circuit_breakers().get("orders");
//! breaker.transition_to_open()?;
//!
//! let text = r#"{ "resilience4j": { "circuitbreaker": { "configs": { "default": { "slidingWindowSize": 20 } } } } }"#;
//! Settings::parse(text, Format::Json, "settings")?.apply(&resilience)?;
//! assert_eq!(breaker.config().sliding_window_size, 20);
//! assert_eq!(breaker.state(), State::Open);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
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
mod watch;

use std::{path::Path, sync::Arc};

use self::{
    error::{Place, Report},
    keys::KINDS,
    layout::{Layout, Section},
    resolve::{config_of, names, resolve, tags_of},
};
pub use self::{
    error::{SettingsError, SettingsErrors, Warning},
    sources::Sources,
    watch::{Look, Watcher, watch, watch_every},
};
use crate::{
    bulkhead::{self, thread_pool},
    circuit_breaker,
    error::InvalidConfig,
    event::PolicyKind,
    rate_limiter,
    registry::{Change, Declared, Instance, Registry, Resilience, Tags},
    retry, time_limiter,
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
    circuit_breakers: Declared<circuit_breaker::Config>,
    retries: Declared<retry::Config>,
    rate_limiters: Declared<rate_limiter::Config>,
    bulkheads: Declared<bulkhead::Config>,
    thread_pool_bulkheads: Declared<thread_pool::Config>,
    time_limiters: Declared<time_limiter::Config>,
    circuit_breakers_may_fail: Declared<bool>,
    rate_limiters_may_fail: Declared<bool>,
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
            circuit_breakers: resolve(section(layout, PolicyKind::CircuitBreaker), report),
            retries: resolve(section(layout, PolicyKind::Retry), report),
            rate_limiters: resolve(section(layout, PolicyKind::RateLimiter), report),
            bulkheads: resolve(section(layout, PolicyKind::Bulkhead), report),
            thread_pool_bulkheads: resolve(section(layout, PolicyKind::ThreadPoolBulkhead), report),
            time_limiters: resolve(section(layout, PolicyKind::TimeLimiter), report),
            circuit_breakers_may_fail: resolve(section(layout, PolicyKind::CircuitBreaker), report),
            rate_limiters_may_fail: resolve(section(layout, PolicyKind::RateLimiter), report),
            warnings: Arc::default(),
        };
        let warnings = std::mem::take(report).finish(files)?.into();
        Ok(Self { warnings, ..settings })
    }

    /// Puts these settings in force in the registries, in place of those of a file before. Instances that exist get theirs
    /// and keep their state; see [`Registry::declare`]. It is told as [`Change::Reloaded`].
    ///
    /// # Errors
    /// None for settings as they were read, since those have been checked. Nothing is changed.
    pub fn apply(&self, resilience: &Resilience) -> Result<(), SettingsErrors> {
        let mut report = Report::default();
        check(resilience.circuit_breakers(), &self.circuit_breakers, &mut report);
        check(resilience.retries(), &self.retries, &mut report);
        check(resilience.rate_limiters(), &self.rate_limiters, &mut report);
        check(resilience.bulkheads(), &self.bulkheads, &mut report);
        check(resilience.thread_pool_bulkheads(), &self.thread_pool_bulkheads, &mut report);
        check(resilience.time_limiters(), &self.time_limiters, &mut report);
        report.finish(&[])?;
        let mut report = Report::default();
        declare(resilience.circuit_breakers(), &self.circuit_breakers, &mut report);
        declare(resilience.retries(), &self.retries, &mut report);
        declare(resilience.rate_limiters(), &self.rate_limiters, &mut report);
        declare(resilience.bulkheads(), &self.bulkheads, &mut report);
        declare(resilience.thread_pool_bulkheads(), &self.thread_pool_bulkheads, &mut report);
        declare(resilience.time_limiters(), &self.time_limiters, &mut report);
        report.finish(&[])?;
        resilience.report(Change::Reloaded);
        Ok(())
    }

    /// What has no effect, or another than it says.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// The settings of the circuit breaker of this name: its own, else those of the config of that name, else those of
    /// `default`, else the crate's defaults.
    pub fn circuit_breaker(&self, name: &str) -> circuit_breaker::Config {
        config_of(&self.circuit_breakers, name)
    }

    /// The settings of the retry of this name, found as those of a [circuit breaker](Self::circuit_breaker).
    pub fn retry(&self, name: &str) -> retry::Config {
        config_of(&self.retries, name)
    }

    /// The settings of the rate limiter of this name, found as those of a [circuit breaker](Self::circuit_breaker).
    pub fn rate_limiter(&self, name: &str) -> rate_limiter::Config {
        config_of(&self.rate_limiters, name)
    }

    /// The settings of the bulkhead of this name, found as those of a [circuit breaker](Self::circuit_breaker).
    pub fn bulkhead(&self, name: &str) -> bulkhead::Config {
        config_of(&self.bulkheads, name)
    }

    /// The settings of the thread-pool bulkhead of this name, found as those of a
    /// [circuit breaker](Self::circuit_breaker).
    pub fn thread_pool_bulkhead(&self, name: &str) -> thread_pool::Config {
        config_of(&self.thread_pool_bulkheads, name)
    }

    /// The settings of the time limiter of this name, found as those of a [circuit breaker](Self::circuit_breaker).
    pub fn time_limiter(&self, name: &str) -> time_limiter::Config {
        config_of(&self.time_limiters, name)
    }

    /// What `allow-health-indicator-to-fail` says of a circuit breaker or rate limiter, found as its settings are: whether
    /// the service is down while it is open, or has no permits. Default: false.
    pub fn allows_health_indicator_to_fail(&self, kind: PolicyKind, name: &str) -> bool {
        match kind {
            PolicyKind::CircuitBreaker => config_of(&self.circuit_breakers_may_fail, name),
            PolicyKind::RateLimiter => config_of(&self.rate_limiters_may_fail, name),
            _ => false,
        }
    }

    /// The names of the instances of a kind that the files name.
    pub fn instances(&self, kind: PolicyKind) -> Vec<&str> {
        match kind {
            PolicyKind::CircuitBreaker => names(&self.circuit_breakers),
            PolicyKind::Retry => names(&self.retries),
            PolicyKind::RateLimiter => names(&self.rate_limiters),
            PolicyKind::Bulkhead => names(&self.bulkheads),
            PolicyKind::ThreadPoolBulkhead => names(&self.thread_pool_bulkheads),
            PolicyKind::TimeLimiter => names(&self.time_limiters),
        }
    }

    /// The tags of an instance: its own over those of its configs over those of its kind.
    pub fn tags(&self, kind: PolicyKind, name: &str) -> Tags {
        match kind {
            PolicyKind::CircuitBreaker => tags_of(&self.circuit_breakers, name),
            PolicyKind::Retry => tags_of(&self.retries, name),
            PolicyKind::RateLimiter => tags_of(&self.rate_limiters, name),
            PolicyKind::Bulkhead => tags_of(&self.bulkheads, name),
            PolicyKind::ThreadPoolBulkhead => tags_of(&self.thread_pool_bulkheads, name),
            PolicyKind::TimeLimiter => tags_of(&self.time_limiters, name),
        }
    }
}

fn section(layout: &Layout, policy: PolicyKind) -> &Section {
    let index = KINDS.iter().position(|kind| kind.policy == policy).unwrap_or_default();
    &layout.sections[index]
}

fn check<P: Instance>(registry: &Registry<P>, declared: &Declared<P::Config>, report: &mut Report) {
    refused::<P>(registry.check(declared), report);
}

fn declare<P: Instance>(registry: &Registry<P>, declared: &Declared<P::Config>, report: &mut Report) {
    refused::<P>(registry.declare(declared.clone()), report);
}

fn refused<P: Instance>(result: Result<(), Vec<InvalidConfig>>, report: &mut Report) {
    let section = KINDS.iter().find(|kind| kind.policy == P::KIND).map_or("", |kind| kind.section);
    for invalid in result.err().into_iter().flatten() {
        let place = Place::of_file(&"".into(), None).under(section, None).under(invalid.field, None);
        report.error(place.error(&invalid.value, invalid.rule));
    }
}
