//! Making, finding, changing and forgetting instances: what a registry by name and one by key have in common.

use std::{
    borrow::Borrow,
    fmt,
    hash::Hash,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

use super::{
    Limits, RegistryEvent,
    instance::{Instance, Keeps},
    rules::{Origin, Rules},
    table::{Gone, LOOK, Seat, Table, Unused},
};
use crate::{
    clock::{Clock, nanos},
    event::{Listeners, Name},
    sync::contained,
};

/// The settings of one kind of policy, and the tables of instances made from them.
pub(super) struct Root<P: Instance> {
    pub(super) rules: Mutex<Rules<P::Config>>,
    /// The clock of every instance, where one was named.
    pub(super) clock: Option<Clock>,
    followers: Mutex<Vec<Weak<dyn Follow>>>,
    bringing: Mutex<Bringing>,
}

/// Whether a thread is bringing changed settings to the instances, and whether they were changed again meanwhile.
#[derive(Default)]
struct Bringing {
    busy: bool,
    again: bool,
}

/// A table of instances that settings are brought to.
pub(super) trait Follow: Send + Sync {
    fn follow(&self);
}

impl<P: Instance> Root<P> {
    pub(super) fn new(rules: Rules<P::Config>, clock: Option<Clock>) -> Self {
        Self { rules: Mutex::new(rules), clock, followers: Mutex::default(), bringing: Mutex::default() }
    }

    pub(super) fn on_clock(&self, config: P::Config) -> P::Config {
        match &self.clock {
            Some(clock) => P::on_clock(config, clock),
            None => config,
        }
    }

    pub(super) fn join(&self, follower: Weak<dyn Follow>) {
        let mut followers = self.followers.lock();
        followers.retain(|follower| follower.strong_count() > 0);
        followers.push(follower);
    }

    /// Brings the settings in force to every instance. A thread that finds another at it leaves it to that one: it may
    /// be in a listener of its own that the other one called.
    pub(super) fn bring(&self) {
        {
            let mut bringing = self.bringing.lock();
            if bringing.busy {
                bringing.again = true;
                return;
            }
            bringing.busy = true;
        }
        loop {
            let followers: Vec<_> = self.followers.lock().iter().filter_map(Weak::upgrade).collect();
            for follower in followers {
                contained(|| follower.follow());
            }
            let mut bringing = self.bringing.lock();
            bringing.busy = std::mem::take(&mut bringing.again);
            if !bringing.busy {
                return;
            }
        }
    }
}

pub(super) struct Shared<K, P: Instance> {
    pub(super) root: Arc<Root<P>>,
    pub(super) table: Table<K, P>,
    pub(super) listeners: Listeners<RegistryEvent<P>>,
    /// The name whose settings hold for every instance, in place of its own.
    pub(super) family: Option<Name>,
    clock: Clock,
    limits: Limits,
    /// When the next look for idle instances is due.
    next_look: AtomicU64,
}

impl<K, P> Shared<K, P>
where
    K: Hash + Eq + Send + Sync + 'static,
    P: Instance,
{
    pub(super) fn new(root: Arc<Root<P>>, family: Option<Name>, limits: Limits) -> Arc<Self> {
        let clock = root.clock.clone().unwrap_or_default();
        let first_look = limits.max_idle.map_or(u64::MAX, |idle| clock.now().saturating_add(idle).as_nanos());
        let shared = Arc::new(Self {
            table: Table::new(limits.max_instances),
            listeners: Listeners::new(),
            family,
            clock,
            limits,
            next_look: AtomicU64::new(first_look),
            root,
        });
        let follower: Weak<Self> = Arc::downgrade(&shared);
        shared.root.join(follower);
        shared
    }

    fn is_limited(&self) -> bool {
        self.limits.max_idle.is_some() || self.limits.max_instances.is_some()
    }

    fn now(&self) -> u64 {
        if self.is_limited() { self.clock.now().as_nanos() } else { 0 }
    }

    /// The name that an instance's settings are found by.
    fn settings_name<'a>(&'a self, name: &'a Name) -> &'a Name {
        self.family.as_ref().unwrap_or(name)
    }

    /// The instance of that key, used now.
    #[inline]
    pub(super) fn ask<Q>(&self, hash: u64, key: &Q) -> Option<P>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        if !self.is_limited() {
            return self.table.find(hash, key, None);
        }
        let now = self.now();
        let found = self.table.find(hash, key, Some(now));
        if found.is_some() && now >= self.next_look.load(Ordering::Relaxed) {
            self.evict_some(now);
        }
        found
    }

    /// Makes the instance of that key, or finds the one that another thread has just made: `false`.
    #[cold]
    pub(super) fn make(&self, hash: u64, key: K, name: Name, origin: &Origin<P::Config>) -> (P, bool) {
        let resolve = |name: &Name| {
            let rules = self.root.rules.lock();
            let found = rules.resolve(self.settings_name(name), origin);
            found.unwrap_or_else(|| Arc::clone(rules.default()))
        };
        let config = resolve(&name);
        let settings_name = name.clone();
        // Outside the lock: an initial state may ask code of the user's for its wait. Of two threads that make the same
        // instance at once, one finds the other's and drops its own, which nobody has seen.
        let instance = P::sharing(name, &config).expect("settings that were validated");
        let now = self.now();
        let seat = Seat::new(hash, key, instance.clone(), origin.clone(), Arc::clone(&config), now);
        if let Err((there, _unneeded)) = self.table.insert(seat) {
            return (there, false);
        }
        self.publish(|| RegistryEvent::Added { instance: instance.clone() });
        // Settings changed since they were read may have passed the new instance by.
        if !Arc::ptr_eq(&config, &resolve(&settings_name)) {
            self.root.bring();
        }
        if self.is_limited() {
            self.evict_some(now);
            self.keep_to_the_number(hash, now);
        }
        (instance, true)
    }

    pub(super) fn remove<Q>(&self, key: &Q) -> Option<P>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let seat = self.table.remove(self.table.hash(key), key)?;
        self.publish(|| RegistryEvent::Removed { instance: seat.instance.clone(), evicted: false });
        Some(seat.instance)
    }

    pub(super) fn replace<Q>(&self, key: &Q, new: P) -> Option<P>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let config = Arc::new(new.config());
        let Gone { instance: old, .. } = self.table.replace(self.table.hash(key), key, new.clone(), config)?;
        self.publish(|| RegistryEvent::Replaced { old: old.clone(), new });
        // There may be settings declared for its name.
        self.root.bring();
        Some(old)
    }

    pub(super) fn publish(&self, event: impl FnOnce() -> RegistryEvent<P>) {
        if self.listeners.any() {
            self.listeners.publish(&event());
        }
    }

    /// Forgets every instance that is idle now, and returns how many those were.
    pub(super) fn evict_idle(&self) -> usize {
        let now = self.now();
        let Some(latest) = self.latest_idle(now) else { return 0 };
        let evict = |shard| (0..self.table.looks(shard)).map(|_| self.evict_in(shard, latest, now)).sum::<usize>();
        (0..self.table.shards()).map(evict).sum()
    }

    /// One look for idle instances. As many are due in a time as it takes to look at each instance four times within the
    /// longest idle time.
    #[cold]
    fn evict_some(&self, now: u64) {
        let Some(max_idle) = self.limits.max_idle.map(nanos) else { return };
        let looks = (0..self.table.shards()).map(|shard| self.table.looks(shard)).sum::<usize>().max(1) as u64;
        self.next_look.store(now.saturating_add(max_idle / 4 / looks), Ordering::Relaxed);
        let Some(latest) = self.latest_idle(now) else { return };
        let mut looked = 0;
        for _ in 0..self.table.shards() {
            let shard = self.table.next_turn();
            looked += self.table.seats(shard).min(LOOK);
            self.evict_in(shard, latest, now);
            if looked >= LOOK {
                break;
            }
        }
    }

    /// Who was last used then, or earlier, is idle at `now`.
    fn latest_idle(&self, now: u64) -> Option<u64> {
        now.checked_sub(nanos(self.limits.max_idle?))
    }

    fn evict_in(&self, shard: usize, latest: u64, now: u64) -> usize {
        let unused = self.table.unused(shard, latest, now).into_iter();
        unused.filter(|unused| unused.instance.keeps() == Keeps::Nothing && self.evict(unused)).count()
    }

    /// Forgets the instance longest unused where there are more than may be, if there is one that nobody holds.
    fn keep_to_the_number(&self, hash: u64, now: u64) {
        let Some(max) = self.limits.max_instances else { return };
        let first = self.table.shard_of(hash);
        for shard in (0..self.table.shards()).map(|step| (first + step) % self.table.shards()) {
            if self.table.len() <= max {
                return;
            }
            let mut unused: Vec<_> =
                self.table.unused(shard, u64::MAX, now).into_iter().map(|one| (one.instance.keeps(), one)).collect();
            unused.sort_by_key(|(keeps, one)| (*keeps, one.used));
            for (_, one) in unused.iter().filter(|(keeps, _)| *keeps != Keeps::Order) {
                if self.table.len() > max {
                    self.evict(one);
                }
            }
        }
    }

    fn evict(&self, unused: &Unused<P>) -> bool {
        let Some(seat) = self.table.evict(unused) else { return false };
        self.publish(|| RegistryEvent::Removed { instance: seat.instance.clone(), evicted: true });
        true
    }
}

impl<K, P> Follow for Shared<K, P>
where
    K: Hash + Eq + Send + Sync + 'static,
    P: Instance,
{
    fn follow(&self) {
        let shards = (0..).map_while(|shard| self.table.followers(shard));
        for follower in shards.flatten() {
            let rules = self.root.rules.lock();
            let name = self.settings_name(follower.instance.name());
            // Where the config that it was made from is no more, it goes on with what it has.
            let Some(config) = rules.resolve(name, &follower.origin) else { continue };
            drop(rules);
            if Arc::ptr_eq(&config, &follower.made_from) {
                continue;
            }
            if config == follower.made_from {
                // Said again: what was changed by hand since then stays as it is.
                self.table.settle(follower.hash, &follower.instance, config);
                continue;
            }
            let reconfigured = contained(|| follower.instance.share(&config));
            if let Some(Ok(())) = reconfigured {
                if self.table.settle(follower.hash, &follower.instance, config).is_some() {
                    self.publish(|| RegistryEvent::Reconfigured { instance: follower.instance });
                }
            }
        }
    }
}

impl<K, P: Instance> fmt::Debug for Shared<K, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("kind", &P::KIND).field("family", &self.family).finish_non_exhaustive()
    }
}
