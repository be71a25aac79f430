//! Health, Actuator's endpoints and a live page over HTTP: a router for axum, to nest where the service wants it.
//!
//! ```
//! use resile::{Resilience, admin};
//!
//! let resilience = Resilience::new();
//! let admin = admin::router(
//!     &resilience,
//!     admin::Config::default().operator("on-call", "a secret from the environment".replace(' ', "-")),
//! )?;
//! let app: axum::Router = axum::Router::new().nest("/actuator", admin);
//! # Ok::<(), resile::InvalidConfig>(())
//! ```
//!
//! | under the prefix | answers |
//! |---|---|
//! | `GET /health`, `/health/liveness`, `/health/readiness` | Actuator's health; 503 where it is DOWN |
//! | `GET /circuitbreakers`, `/circuitbreakers/{name}` | states, rates and counts |
//! | `POST /circuitbreakers/{name}` | changes the state: `{"updateState": "FORCE_OPEN"}`; for operators |
//! | `GET /retries`, `/bulkheads`, `/threadpoolbulkheads`, `/ratelimiters`, `/timelimiters` | the names, as Resilience4j |
//! | `GET /circuitbreakerevents`, `…/{name}`, `…/{name}/{type}` | the last events |
//! | `GET /streamcircuitbreakerevents`, `…/{name}`, `…/{name}/{type}` | events as they happen, server-sent |
//! | `GET /resile` | the live page |
//!
//! Reading changes no state and makes no instance: an unknown name is 404. Writing takes `CLOSE`, `FORCE_OPEN` and
//! `DISABLE`, which are Resilience4j's, and `OPEN`, `HALF_OPEN`, `METRICS_ONLY` and `RESET`; it needs the bearer token of
//! an [operator](Config::operator), is off where there is none, and is reported to
//! [`on_change`](Resilience::on_change) with who asked.
//!
//! Everything is of this process alone: behind a load balancer, ask each replica by its own address.
//!
//! Reading asks for no token. Whoever may reach the prefix sees names, counts and settings: put it on a port of its own,
//! or behind the service's authentication.
//!
//! # Health
//!
//! A closed circuit is `UP`, an open one `CIRCUIT_OPEN`, or `DOWN` where it is
//! [allowed to fail](Config::allow_health_indicator_to_fail), a half-open one `CIRCUIT_HALF_OPEN`, any other `UNKNOWN`. A
//! rate limiter without permits, for which calls wait longer than its time-out, is `RATE_LIMITED`, or `DOWN`. As Actuator
//! does, the whole is `DOWN` if any part is, else `UP`. The liveness group looks at no instance: a dependency that is down
//! is no reason to restart the service.
//!
//! # Cost
//!
//! The router listens to every instance, so each call publishes its events: 150 to 300 ns more for a call through a circuit
//! breaker, the lower figure without [`keep_events_of_calls`](Config::keep_events_of_calls). An open page asks for
//! 40 to 50 KB twice a second where there are 500 instances.

mod actuator;
mod config;
mod counts;
mod endpoints;
mod events;
mod guard;
mod health;
mod page;
mod settings;
mod snapshot;
mod stream;

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use axum::{Router, middleware, routing::get};
use parking_lot::Mutex;

pub use self::config::Config;
use self::{
    counts::{Counted, Counts},
    events::Events,
    guard::Limits,
};
use crate::{
    CircuitBreaker, InvalidConfig, Resilience, Subscription,
    event::{Name, PolicyKind},
    registry::{Change, Instance, Registry, RegistryEvent},
};

/// The endpoints for these instances, and for those still to come. Holds the registries, and listens to their
/// instances for as long as the router or a clone of it lives.
///
/// # Errors
/// [`InvalidConfig`] for a setting out of range.
pub fn router(resilience: &Resilience, config: Config) -> Result<Router, InvalidConfig> {
    use endpoints as to;

    config.validate()?;
    let admin = Admin::new(resilience, config)?;
    let health = Router::new()
        .route("/health", get(to::health))
        .route("/health/readiness", get(to::readiness))
        .layer(middleware::from_fn_with_state(Arc::clone(&admin), to::limit_health));
    let limited = Router::new()
        .route("/circuitbreakers", get(to::breakers))
        .route("/circuitbreakers/{name}", get(to::breaker).post(to::update))
        .route("/retries", get(to::retries))
        .route("/bulkheads", get(to::bulkheads))
        .route("/threadpoolbulkheads", get(to::pools))
        .route("/ratelimiters", get(to::rate_limiters))
        .route("/timelimiters", get(to::time_limiters))
        .route("/circuitbreakerevents", get(to::events))
        .route("/circuitbreakerevents/{name}", get(to::events))
        .route("/circuitbreakerevents/{name}/{type}", get(to::events))
        .route("/streamcircuitbreakerevents", get(to::stream))
        .route("/streamcircuitbreakerevents/{name}", get(to::stream))
        .route("/streamcircuitbreakerevents/{name}/{type}", get(to::stream))
        .route("/resile", get(page::answer))
        .route("/resile/snapshot", get(to::snapshot))
        .layer(middleware::from_fn_with_state(Arc::clone(&admin), to::limit_requests));
    let all = if admin.config.serve_health {
        Router::new().route("/health/liveness", get(to::liveness)).merge(health).merge(limited)
    } else {
        limited
    };
    Ok(all.layer(middleware::map_response(guard::secure)).with_state(admin))
}

/// What every handler shares.
#[derive(Debug)]
struct Admin {
    resilience: Resilience,
    config: Config,
    limits: Limits,
    /// Milliseconds since 1970.
    started: u64,
    events: Arc<Events>,
    counts: Counts,
    changed: Mutex<Changed>,
    subscriptions: Mutex<Vec<Subscription>>,
}

impl Admin {
    fn new(resilience: &Resilience, config: Config) -> Result<Arc<Self>, InvalidConfig> {
        let admin = Arc::new(Self {
            resilience: resilience.clone(),
            limits: Limits::new(&config)?,
            started: events::wall_now(),
            events: Events::new(&config),
            counts: Counts::default(),
            config,
            changed: Mutex::new(Changed { revision: 1, at: HashMap::new() }),
            subscriptions: Mutex::default(),
        });
        admin.listen_to(resilience.circuit_breakers(), Self::breakers_changed);
        admin.listen_to(resilience.retries(), |_, _| ());
        admin.count(resilience.bulkheads());
        admin.count(resilience.thread_pool_bulkheads());
        admin.count(resilience.rate_limiters());
        admin.count(resilience.time_limiters());
        let weak = Arc::downgrade(&admin);
        admin.subscriptions.lock().push(resilience.on_change(move |change| {
            if let Some(admin) = weak.upgrade() {
                admin.note(change);
            }
        }));
        for breaker in resilience.circuit_breakers().all() {
            // One that was added since the line above is watched already.
            if !admin.events.is_watched(breaker.name()) {
                admin.events.watch(&breaker);
            }
        }
        Ok(admin)
    }

    /// Listens for as long as the router lives, and does not keep it alive.
    fn listen_to<P: Instance>(self: &Arc<Self>, registry: &Registry<P>, then: fn(&Self, &RegistryEvent<P>)) {
        let weak = Arc::downgrade(self);
        let subscription = registry.on_event(move |event| {
            if let Some(admin) = Weak::upgrade(&weak) {
                then(&admin, event);
                admin.changed.lock().note(event);
            }
        });
        self.subscriptions.lock().push(subscription);
    }

    /// Listens to a registry, and counts the calls of its instances.
    fn count<P: Counted>(self: &Arc<Self>, registry: &Registry<P>) {
        self.listen_to(registry, |admin, event| match event {
            RegistryEvent::Added { instance } | RegistryEvent::Replaced { new: instance, .. } => {
                admin.counts.watch(instance);
            }
            RegistryEvent::Removed { instance, .. } => admin.counts.forget(instance),
            RegistryEvent::Reconfigured { .. } => {}
        });
        for instance in registry.all() {
            if !self.counts.is_watched(&instance) {
                self.counts.watch(&instance);
            }
        }
    }

    fn breakers_changed(&self, event: &RegistryEvent<CircuitBreaker>) {
        match event {
            RegistryEvent::Added { instance } | RegistryEvent::Replaced { new: instance, .. } => {
                self.events.watch(instance);
            }
            RegistryEvent::Removed { instance, .. } => self.events.forget(instance.name()),
            RegistryEvent::Reconfigured { .. } => {}
        }
    }

    fn note(&self, change: &Change) {
        match change {
            Change::Reloaded => self.events.note("RELOADED", "", "the settings were loaded anew".into()),
            Change::Refused { errors } => {
                let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
                self.events.note("REFUSED", "", format!("new settings were refused: {}", errors.join("; ")));
            }
            Change::Operator { who, instance, action, .. } => {
                self.events.note("OPERATOR", instance, format!("{action} by {who}"));
            }
        }
    }
}

/// Which instances came or got other settings since when.
#[derive(Debug)]
struct Changed {
    /// Counts the changes.
    revision: u64,
    /// The count at an instance's last change, where it had one since the router was made.
    at: HashMap<(PolicyKind, Name), u64>,
}

impl Changed {
    fn note<P: Instance>(&mut self, event: &RegistryEvent<P>) {
        self.revision += 1;
        match event {
            RegistryEvent::Removed { instance, .. } => {
                self.at.remove(&(P::KIND, instance.name().clone()));
            }
            RegistryEvent::Added { instance }
            | RegistryEvent::Replaced { new: instance, .. }
            | RegistryEvent::Reconfigured { instance } => {
                self.at.insert((P::KIND, instance.name().clone()), self.revision);
            }
        }
    }

    /// Whether somebody who knows the settings as of `revision` does not know this instance's.
    fn is_news(&self, kind: PolicyKind, name: &Name, revision: u64) -> bool {
        revision == 0 || self.at.get(&(kind, name.clone())).is_some_and(|at| *at > revision)
    }
}

#[cfg(test)]
mod tests {
    use super::{events::What, *};

    #[test]
    fn the_page_is_told_of_reloads_and_why_one_was_refused() {
        let resilience = Resilience::new();
        let admin = Admin::new(&resilience, Config::default()).expect("settings that can be");
        resilience.report(Change::Reloaded);
        resilience.report(Change::Refused { errors: vec!["one = 0: must be more".into(), "two: unknown".into()] });
        let told = admin.events.changes(0).into_iter().map(|entry| match entry.what {
            What::Note { kind, text, .. } => (kind, text),
            What::Event(event) => panic!("{event}"),
        });
        let refused = "new settings were refused: one = 0: must be more; two: unknown".to_owned();
        let expected = [("RELOADED", "the settings were loaded anew".to_owned()), ("REFUSED", refused)];
        assert_eq!(told.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_is_gone_leaves_nothing_behind() {
        let resilience = Resilience::new();
        let admin = Admin::new(&resilience, Config::default()).expect("settings that can be");
        resilience.circuit_breakers().get("orders");
        resilience.bulkheads().get("orders");
        resilience.circuit_breakers().remove("orders");
        resilience.bulkheads().remove("orders");
        assert!(!admin.events.is_watched("orders"));
        assert!(admin.changed.lock().at.is_empty());
        assert_eq!(admin.changed.lock().revision, 5);
    }
}
