//! Follows the registries.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;

use super::{
    BOUND, Config, Entry, Metered,
    families::RELOADS,
    labels,
    published::{Labels, Names, Published},
    sealed::Sealed,
};
use crate::{
    event::Subscription,
    meter::Counter,
    registry::{Change, Instance, Registry, RegistryEvent, Resilience, Tags},
};

/// Exports every instance of the registries, those to come included. Dropping it ends their series.
#[must_use = "dropping it ends the series; `forever` keeps them"]
pub struct Metrics {
    installed: Option<Arc<Installed>>,
    subscriptions: Vec<Subscription>,
}

/// What has been installed, for the refresh to go through.
static INSTALLED: Mutex<Vec<Arc<Installed>>> = Mutex::new(Vec::new());

struct Installed {
    resilience: Resilience,
    config: Config,
    names: Arc<Names>,
    /// Of the series that belong to no instance.
    own: Arc<Published>,
    over: AtomicBool,
}

impl Metrics {
    pub(super) fn install(resilience: &Resilience, config: Config, names: Arc<Names>) -> Self {
        let reloads = Arc::new([Counter::default(), Counter::default()]);
        let counted = Arc::clone(&reloads);
        let mut subscriptions = vec![resilience.on_change(move |change| match change {
            Change::Reloaded => counted[0].add(),
            Change::Refused { .. } => counted[1].add(),
            Change::Operator { .. } => {}
        })];
        let own = Arc::new(Published::default());
        own.begin(Labels { tags: Tags::new(), by_hand: true, ..labels(Arc::clone(&names), None, config.tags()) });
        let refresh = move |own: &Published, now| {
            own.tell(now, |out| {
                out.count(&RELOADS, &[("result", "accepted")], reloads[0].total());
                out.count(&RELOADS, &[("result", "refused")], reloads[1].total());
            });
            true
        };
        BOUND.lock().push(Arc::new(Entry { published: Arc::clone(&own), refresh: Box::new(refresh) }));
        let installed =
            Arc::new(Installed { resilience: resilience.clone(), config, names, own, over: AtomicBool::new(false) });
        INSTALLED.lock().push(Arc::clone(&installed));
        subscriptions.extend([
            follow(resilience.circuit_breakers()),
            follow(resilience.retries()),
            follow(resilience.bulkheads()),
            follow(resilience.thread_pool_bulkheads()),
            follow(resilience.rate_limiters()),
            follow(resilience.time_limiters()),
        ]);
        Self { installed: Some(installed), subscriptions }
    }

    /// Goes on for as long as the process lives, and keeps the registries alive.
    pub fn forever(mut self) {
        self.installed = None;
        self.subscriptions.drain(..).for_each(Subscription::forever);
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        let Some(installed) = self.installed.take() else { return };
        self.subscriptions.clear();
        installed.over.store(true, Ordering::SeqCst);
        INSTALLED.lock().retain(|known| !Arc::ptr_eq(known, &installed));
        BOUND.lock().retain(|entry| !Arc::ptr_eq(&entry.published, &installed.own));
        installed.own.end();
        let resilience = &installed.resilience;
        end_all(resilience.circuit_breakers());
        end_all(resilience.retries());
        end_all(resilience.bulkheads());
        end_all(resilience.thread_pool_bulkheads());
        end_all(resilience.rate_limiters());
        end_all(resilience.time_limiters());
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// Instances count from when they are made; their labels are looked up at the next refresh, so that nothing here keeps the
/// registry alive.
fn follow<P: Instance + Metered>(registry: &Registry<P>) -> Subscription {
    let subscription = registry.on_event(|event| match event {
        RegistryEvent::Added { instance } => instance.count(),
        RegistryEvent::Removed { instance, .. } => end(instance),
        RegistryEvent::Replaced { old, new } => {
            end(old);
            new.count();
        }
        RegistryEvent::Reconfigured { .. } => {}
    });
    registry.all().iter().for_each(Sealed::count);
    subscription
}

fn end_all<P: Instance + Metered>(registry: &Registry<P>) {
    registry.all().iter().for_each(end);
}

/// What was bound by hand is ended by hand.
fn end<P: Sealed>(instance: &P) {
    if !instance.published().is_by_hand() {
        instance.end();
    }
}

/// Begins the series of what is new in the registries, and begins those anew whose tags have changed.
pub(super) fn look_through_registries() {
    let installed: Vec<_> = INSTALLED.lock().iter().map(Arc::clone).collect();
    for installed in installed {
        let resilience = &installed.resilience;
        installed.look_through(resilience.circuit_breakers());
        installed.look_through(resilience.retries());
        installed.look_through(resilience.bulkheads());
        installed.look_through(resilience.thread_pool_bulkheads());
        installed.look_through(resilience.rate_limiters());
        installed.look_through(resilience.time_limiters());
    }
}

impl Installed {
    fn look_through<P: Instance + Metered>(&self, registry: &Registry<P>) {
        for instance in registry.all() {
            let (name, published) = (Instance::name(&instance).as_str(), instance.published());
            let tags = registry.tags(name);
            match published.tags() {
                Some(shown) if published.is_by_hand() || shown == tags => continue,
                Some(_) => instance.end(),
                None => {}
            }
            let pairs = tags.iter().map(|(key, value)| (key.as_str(), value.as_str()));
            // Of two labels of one key the later would win in some recorders, and both would be shown by others.
            let common = self.config.tags().filter(|(key, _)| !tags.contains_key(*key));
            let labels = labels(Arc::clone(&self.names), Some(name), common.chain(pairs));
            instance.begin(Labels { tags: tags.clone(), by_hand: false, ..labels });
            // What has been removed meanwhile, or all of it, has ended before it began.
            let there = registry.find(name).is_some_and(|now| Arc::ptr_eq(now.published(), published));
            if !there || self.over.load(Ordering::SeqCst) {
                instance.end();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use metrics_exporter_prometheus::PrometheusBuilder;

    #[test]
    fn reloads_are_counted_accepted_or_refused() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let resilience = Resilience::new();
        let config = Config::default().prefix("reloads").tag("service", "shop");
        let installed = config.install(&resilience).unwrap();
        resilience.report(Change::Reloaded);
        resilience.report(Change::Refused { errors: Vec::new() });
        resilience.report(Change::Refused { errors: Vec::new() });
        metrics::with_local_recorder(&recorder, crate::metrics::refresh);
        let text = recorder.handle().render();
        assert!(text.contains("reloads_reloads_total{service=\"shop\",result=\"accepted\"} 1\n"), "{text}");
        assert!(text.contains("reloads_reloads_total{service=\"shop\",result=\"refused\"} 2\n"), "{text}");
        drop(installed);
    }
}
