//! What settings do to instances, on instances that only remember them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Barrier,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use parking_lot::Mutex;
use proptest::prelude::*;

use super::{
    instance::{Keeps, sealed},
    rules::Origin,
    table::{Seat, Table},
    *,
};
use crate::{clock::Clock, event::PolicyKind};

#[derive(Debug, Clone)]
struct Fake(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: Name,
    number: Mutex<u32>,
    changes: AtomicU32,
}

/// Odd numbers are no valid settings.
type Number = u32;

impl Fake {
    fn changes(&self) -> u32 {
        self.0.changes.load(Ordering::Relaxed)
    }
}

impl Instance for Fake {
    type Config = Number;

    const KIND: PolicyKind = PolicyKind::Retry;

    fn name(&self) -> &Name {
        &self.0.name
    }

    fn build(name: Name, number: Number) -> Result<Self, InvalidConfig> {
        Self::validate(&number)?;
        Ok(Self(Arc::new(Inner { name, number: Mutex::new(number), changes: AtomicU32::new(0) })))
    }

    fn validate(number: &Number) -> Result<(), InvalidConfig> {
        InvalidConfig::check(number % 2 == 0, "number", number, "must be even")
    }

    fn reconfigure(&self, number: Number) -> Result<(), InvalidConfig> {
        Self::validate(&number)?;
        *self.0.number.lock() = number;
        self.0.changes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn config(&self) -> Number {
        *self.0.number.lock()
    }

    fn on_clock(number: Number, _: &Clock) -> Number {
        number
    }
}

impl sealed::Held for Fake {
    fn holders(&self) -> usize {
        Arc::strong_count(&self.0)
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn keeps(&self) -> Keeps {
        Keeps::Nothing
    }
}

fn declared(configs: &[(&str, Number)], instances: &[(&str, Number)]) -> Declared<Number> {
    let named = |(name, config): &(&str, Number)| ((*name).to_owned(), *config);
    let one =
        |(name, config): &(&str, Number)| ((*name).to_owned(), DeclaredInstance { config: *config, tags: Tags::new() });
    Declared {
        configs: configs.iter().map(named).collect(),
        instances: instances.iter().map(one).collect(),
        tags: Tags::new(),
    }
}

fn valid<T, E: fmt::Debug>(result: Result<T, E>) -> T {
    result.expect("valid settings")
}

#[test]
fn a_changed_config_reaches_what_was_made_from_it_and_nothing_else() {
    let registry = Registry::<Fake>::new();
    valid(registry.add_config("slow", 2));
    valid(registry.add_config("own", 4));
    let [slow, own, other] = [valid(registry.get_named("a", "slow")), registry.get("own"), registry.get("other")];
    let by_hand = valid(registry.get_with("by hand", 6, Existing::Refuse));
    let numbers = || [slow.config(), own.config(), other.config(), by_hand.config()];
    assert_eq!(numbers(), [2, 4, 0, 6]);
    valid(registry.add_config("slow", 12));
    assert_eq!(numbers(), [12, 4, 0, 6]);
    valid(registry.add_config("own", 14));
    assert_eq!(numbers(), [12, 14, 0, 6]);
    valid(registry.set_default_config(10));
    assert_eq!(numbers(), [12, 14, 10, 6]);
    assert_eq!([&slow, &own, &other, &by_hand].map(Fake::changes), [1, 1, 1, 0]);
}

#[test]
fn a_config_added_later_under_an_instance_s_name_is_its_own_until_it_is_removed() {
    let registry = Registry::<Fake>::new();
    let orders = registry.get("orders");
    valid(registry.add_config("orders", 2));
    assert_eq!(orders.config(), 2);
    assert_eq!(registry.remove_config("orders"), Ok(2));
    assert_eq!(orders.config(), 0);
    let gone = registry.remove_config("orders");
    assert_eq!(gone, Err(RegistryError::UnknownConfig { config: "orders".to_owned() }));
}

#[test]
fn what_was_made_from_a_config_that_is_gone_keeps_its_settings() {
    let registry = Registry::<Fake>::new();
    valid(registry.add_config("slow", 2));
    let slow = valid(registry.get_named("a", "slow"));
    valid(registry.remove_config("slow"));
    valid(registry.set_default_config(4));
    assert_eq!(slow.config(), 2);
    valid(registry.add_config("slow", 6));
    assert_eq!(slow.config(), 6);
}

#[test]
fn what_is_declared_stands_before_code_and_code_s_is_back_when_it_no_longer_is() {
    let registry = Registry::<Fake>::new();
    valid(registry.add_config("slow", 2));
    let slow = valid(registry.get_named("a", "slow"));
    let by_hand = valid(registry.get_with("b", 4, Existing::Refuse));
    let other = registry.get("c");
    let numbers = || [slow.config(), by_hand.config(), other.config()];
    valid(registry.declare(declared(&[("slow", 12), ("default", 16)], &[("b", 14)])));
    assert_eq!(numbers(), [12, 14, 16]);
    assert_eq!((registry.default_config(), registry.config("slow")), (16, Some(12)));
    valid(registry.add_config("slow", 22));
    valid(registry.set_default_config(26));
    assert_eq!(numbers(), [12, 14, 16]);
    valid(registry.declare(declared(&[], &[])));
    assert_eq!(numbers(), [22, 4, 26]);
}

#[test]
fn a_declaration_with_one_bad_setting_changes_nothing_and_every_bad_one_is_told() {
    let registry = Registry::<Fake>::new();
    let orders = registry.get("orders");
    valid(registry.declare(declared(&[("default", 2)], &[("mail", 4)])));
    let refused = registry.declare(declared(&[("default", 6), ("slow", 7)], &[("orders", 8), ("mail", 9)]));
    let values: Vec<_> = refused.expect_err("odd").into_iter().map(|invalid| invalid.value).collect();
    assert_eq!(values, ["7", "9"]);
    assert_eq!((orders.config(), registry.get("mail").config()), (2, 4));
    assert_eq!((registry.config_names(), registry.declared()), (vec!["default".to_owned()], vec!["mail".to_owned()]));
    valid(registry.declare(declared(&[("default", 6)], &[])));
    assert_eq!(orders.config(), 6);
}

#[test]
fn a_declaration_that_says_the_same_again_touches_no_instance() {
    let registry = Registry::<Fake>::new();
    let [orders, mail] = [registry.get("orders"), registry.get("mail")];
    for _ in 0..3 {
        valid(registry.declare(declared(&[("default", 2)], &[("mail", 4)])));
    }
    valid(orders.reconfigure(8));
    valid(registry.declare(declared(&[("default", 2)], &[("mail", 6)])));
    assert_eq!([&orders, &mail].map(Fake::changes), [2, 2]);
    assert_eq!((orders.config(), mail.config()), (8, 6));
}

#[test]
fn a_config_that_cannot_be_is_refused_and_changes_nothing() {
    let registry = Registry::<Fake>::new();
    valid(registry.add_config("slow", 2));
    let slow = valid(registry.get_named("a", "slow"));
    assert!(matches!(registry.add_config("slow", 3), Err(RegistryError::Invalid(invalid)) if invalid.value == "3"));
    assert!(registry.set_default_config(5).is_err());
    assert!(matches!(registry.get_with("b", 7, Existing::Keep), Err(RegistryError::Invalid(_))));
    assert!(registry.find("b").is_none());
    assert_eq!((slow.config(), registry.default_config()), (2, 0));
}

#[test]
fn settings_by_hand_for_a_declared_name_are_refused_or_ignored() {
    let registry = Registry::<Fake>::new();
    valid(registry.declare(declared(&[], &[("orders", 4)])));
    let refused = registry.get_with("orders", 2, Existing::Refuse);
    assert_eq!(refused.expect_err("declared"), RegistryError::Exists { name: "orders".to_owned() });
    assert_eq!(valid(registry.get_with("orders", 2, Existing::Keep)).config(), 4);
}

#[test]
fn the_settings_of_a_family_reach_every_key_s_instance() {
    let registry = Registry::<Fake>::new();
    valid(registry.add_config("hosts", 2));
    let hosts: KeyedRegistry<u32, Fake> = valid(registry.keyed("hosts", Limits::default()));
    let instances: Vec<_> = (0..200).map(|host| hosts.get(&host)).collect();
    let numbers = || instances.iter().map(Instance::config).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(numbers(), [2].into());
    valid(registry.add_config("hosts", 4));
    assert_eq!(numbers(), [4].into());
    valid(registry.declare(declared(&[], &[("hosts", 6)])));
    assert_eq!((numbers(), hosts.get(&1000).config()), ([6].into(), 6));
    assert_eq!(registry.all().len(), 0);
    drop((registry, instances));
    assert_eq!(hosts.get(&7).config(), 6);
}

#[test]
fn a_listener_may_change_the_registry_that_calls_it() {
    let registry = Registry::<Fake>::new();
    let (orders, inside) = (registry.get("orders"), registry.clone());
    let _subscription = registry.on_event(move |event| match event {
        RegistryEvent::Reconfigured { instance } if instance.config() == 2 => {
            valid(inside.set_default_config(4));
            inside.get("made by the listener");
            inside.remove("orders");
        }
        _ => {}
    });
    valid(registry.set_default_config(2));
    assert!(registry.find("orders").is_none());
    assert_eq!((orders.config(), registry.get("made by the listener").config()), (2, 4));
}

#[test]
fn instances_made_while_settings_change_have_the_last_ones() {
    const INSTANCES: u32 = 200;
    let registry = Registry::<Fake>::new();
    let start = Arc::new(Barrier::new(3));
    let threads = [0, 1].map(|half| {
        let (registry, start) = (registry.clone(), Arc::clone(&start));
        thread::spawn(move || {
            start.wait();
            for number in 0..INSTANCES {
                registry.get(&format!("{}", number * 2 + half));
            }
        })
    });
    start.wait();
    for number in 0..50 {
        valid(registry.set_default_config(number * 2));
    }
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    let all = registry.all();
    assert_eq!(all.len(), 2 * INSTANCES as usize);
    assert!(all.iter().all(|instance| instance.config() == 98));
}

#[test]
fn changes_are_told_to_who_listens_and_a_panic_is_contained() {
    let resilience = Resilience::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    let panics = resilience.on_change(|_| panic!("a listener's"));
    let subscription = resilience.on_change(move |change| sink.lock().push(change.clone()));
    let changes = [
        Change::Reloaded,
        Change::Refused { errors: vec!["no".to_owned()] },
        Change::Operator {
            who: "ops".to_owned(),
            policy: PolicyKind::CircuitBreaker,
            instance: "orders".into(),
            action: "FORCE_OPEN".to_owned(),
        },
    ];
    changes.iter().for_each(|change| resilience.report(change.clone()));
    drop((subscription, panics));
    resilience.report(Change::Reloaded);
    assert_eq!(*seen.lock(), changes);
}

#[test]
fn the_names_of_keyed_instances_are_freed_with_them() {
    let registry = Registry::<Fake>::new();
    let hosts: KeyedRegistry<u32, Fake> = valid(registry.keyed("hosts", Limits::default()));
    let tenants = valid(registry.keyed_by("tenants", Limits::default(), |number: &u32| format!("tenant {number}")));
    for (keyed, name) in [(hosts.get(&7), "hosts:7"), (tenants.get(&7), "tenant 7")] {
        assert_eq!((keyed.name().as_str(), keyed.name().interned()), (name, None));
    }
    assert_eq!(registry.get("orders").name().interned(), Some("orders"));
}

#[test]
fn keys_of_the_same_hash_are_told_apart() {
    let table = Table::<u32, Fake>::new(None);
    let fake = |number| valid(Fake::build("fake".into(), number));
    for key in 0..5 {
        let seat = Seat::new(7, key, fake(key * 2), Origin::Name, Arc::new(key * 2), 0);
        assert!(table.insert(seat).is_ok());
        let again = Seat::new(7, key, fake(0), Origin::Name, Arc::new(0), 0);
        assert_eq!(table.insert(again).err().map(|(there, _)| there.config()), Some(key * 2));
    }
    for gone in [2, 4, 0, 3, 1] {
        assert_eq!(table.remove(7, &gone).map(|seat| seat.instance.config()), Some(gone * 2));
        assert!(table.find(7, &gone, None).is_none());
        let left: Vec<_> = (0..5).filter_map(|key| table.find(7, &key, None)).map(|left| left.config()).collect();
        assert_eq!(left.len(), table.len());
    }
    assert!(table.remove(7, &0).is_none());
}

#[test]
fn a_look_goes_on_where_the_last_one_ended_and_passes_every_instance() {
    let table = Table::<u32, Fake>::new(Some(1000));
    for key in 0..200 {
        let seat = Seat::new(
            table.hash(&key),
            key,
            valid(Fake::build("fake".into(), key * 2)),
            Origin::Name,
            Arc::default(),
            0,
        );
        assert!(table.insert(seat).is_ok());
    }
    let mut seen = std::collections::BTreeSet::new();
    for shard in 0..table.shards() {
        for _ in 0..table.looks(shard) {
            seen.extend(table.unused(shard, 0, 0).into_iter().map(|unused| unused.instance.config()));
        }
    }
    assert_eq!(seen.len(), 200);
}

/// One thing done to a registry.
#[derive(Debug, Clone)]
enum Step {
    Get(usize),
    GetNamed(usize, usize),
    GetWith(usize, Number),
    Remove(usize),
    AddConfig(usize, Number),
    RemoveConfig(usize),
    SetDefault(Number),
    Declare(Vec<(usize, Number)>, Vec<(usize, Number)>),
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const CONFIGS: [&str; 4] = ["a", "b", "slow", "default"];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let name = || 0..NAMES.len();
    let number = || 0_u32..1000;
    let some = || proptest::collection::vec((name(), number()), 0..3);
    let step = prop_oneof![
        name().prop_map(Step::Get),
        (name(), name()).prop_map(|(name, config)| Step::GetNamed(name, config)),
        (name(), number()).prop_map(|(name, config)| Step::GetWith(name, config)),
        name().prop_map(Step::Remove),
        (name(), number()).prop_map(|(config, number)| Step::AddConfig(config, number)),
        name().prop_map(Step::RemoveConfig),
        number().prop_map(Step::SetDefault),
        (some(), some()).prop_map(|(configs, instances)| Step::Declare(configs, instances)),
    ];
    proptest::collection::vec(step, 1..60)
}

/// What was last said by code and by declaration, and what each instance was made from.
#[derive(Default)]
struct Model {
    code: BTreeMap<&'static str, Number>,
    configs: BTreeMap<&'static str, Number>,
    instances: BTreeMap<&'static str, Number>,
    made: BTreeMap<&'static str, (From, Number)>,
}

#[derive(Clone, Copy)]
enum From {
    Name,
    Config(&'static str),
    Own(Number),
}

impl Model {
    fn config(&self, name: &str) -> Option<Number> {
        self.configs.get(name).or(self.code.get(name)).copied().or((name == "default").then_some(0))
    }

    fn settle(&mut self) {
        let mut made = std::mem::take(&mut self.made);
        for (name, (from, number)) in &mut made {
            let by_code = match *from {
                From::Name => self.config(name).or(self.config("default")),
                From::Config(config) => self.config(config),
                From::Own(own) => Some(own),
            };
            *number = self.instances.get(name).copied().or(by_code).unwrap_or(*number);
        }
        self.made = made;
    }

    /// Does the same to both.
    fn step(&mut self, registry: &Registry<Fake>, step: &Step) {
        match step {
            Step::Get(name) => {
                registry.get(NAMES[*name]);
                self.made.entry(NAMES[*name]).or_insert((From::Name, 0));
            }
            Step::GetNamed(name, config) => {
                if registry.get_named(NAMES[*name], CONFIGS[*config]).is_ok() {
                    self.made.entry(NAMES[*name]).or_insert((From::Config(CONFIGS[*config]), 0));
                }
            }
            Step::GetWith(name, number) => {
                if registry.get_with(NAMES[*name], *number, Existing::Refuse).is_ok() {
                    self.made.insert(NAMES[*name], (From::Own(*number), *number));
                }
            }
            Step::Remove(name) => {
                let removed = registry.remove(NAMES[*name]).is_some();
                assert_eq!(self.made.remove(NAMES[*name]).is_some(), removed);
            }
            Step::AddConfig(config, number) => {
                if registry.add_config(CONFIGS[*config], *number).is_ok() {
                    self.code.insert(CONFIGS[*config], *number);
                }
            }
            Step::RemoveConfig(config) => {
                let name = CONFIGS[*config];
                let there = name != "default" && self.code.remove(name).is_some();
                assert_eq!(registry.remove_config(name).is_ok(), there);
            }
            Step::SetDefault(number) => {
                if registry.set_default_config(*number).is_ok() {
                    self.code.insert("default", *number);
                }
            }
            Step::Declare(configs, instances) => {
                let configs: BTreeMap<_, _> = configs.iter().map(|(name, number)| (CONFIGS[*name], *number)).collect();
                let instances: BTreeMap<_, _> =
                    instances.iter().map(|(name, number)| (NAMES[*name], *number)).collect();
                let list = |map: &BTreeMap<&'static str, Number>| map.iter().map(|(k, v)| (*k, *v)).collect::<Vec<_>>();
                let valid = configs.values().chain(instances.values()).all(|number| number % 2 == 0);
                assert_eq!(registry.declare(declared(&list(&configs), &list(&instances))).is_ok(), valid);
                if valid {
                    (self.configs, self.instances) = (configs, instances);
                }
            }
        }
        self.settle();
    }
}

proptest! {
    #[test]
    fn whatever_was_changed_before_each_instance_has_what_the_last_valid_settings_say(steps in steps()) {
        let registry = Registry::<Fake>::new();
        let mut model = Model::default();
        for step in &steps {
            model.step(&registry, step);
            let made: Vec<_> = registry.all().iter().map(|one| (one.name().to_string(), one.config())).collect();
            let expected: Vec<_> = model.made.iter().map(|(name, (_, number))| ((*name).to_owned(), *number)).collect();
            prop_assert_eq!(made, expected);
        }
    }

    #[test]
    fn a_registry_that_only_ever_had_the_last_settings_makes_the_same(
        before in proptest::collection::vec((proptest::collection::vec((0_usize..4, 0_u32..1000), 0..3), proptest::collection::vec((0_usize..4, 0_u32..1000), 0..3)), 1..10),
    ) {
        let (changed, fresh) = (Registry::<Fake>::new(), Registry::<Fake>::new());
        let names = NAMES.map(|name| (name, changed.get(name)));
        let mut last = declared(&[], &[]);
        for (configs, instances) in before {
            let configs: Vec<_> = configs.into_iter().map(|(name, number)| (CONFIGS[name], number)).collect();
            let instances: Vec<_> = instances.into_iter().map(|(name, number)| (NAMES[name], number)).collect();
            let next = declared(&configs, &instances);
            if changed.declare(next.clone()).is_ok() {
                last = next;
            }
        }
        valid(fresh.declare(last));
        for (name, instance) in names {
            prop_assert_eq!(instance.config(), fresh.get(name).config());
        }
    }
}
