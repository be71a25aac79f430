//! What a registry holds, makes, changes and forgets.

mod support;

use std::{
    future::ready,
    sync::{Arc, Barrier},
    thread,
    time::Duration,
};

use allocation_counter::measure;
use parking_lot::Mutex;
use proptest::prelude::*;
use resile::{
    Bulkhead, CircuitBreaker, Clock, Error, ManualClock, Outcome, RateLimiter, Registry, Rejected, Resilience, Retry,
    circuit_breaker::{self, State},
    rate_limiter,
    registry::{
        Config, Declared, DeclaredInstance, Existing, KeyedRegistry, Limits, NamedPipeline, RegistryError,
        RegistryEvent, Tags,
    },
    retry, time_limiter,
};
use support::SECOND;

const IDLE: Duration = Duration::from_secs(600);

fn breakers(limits: Limits) -> (ManualClock, Registry<CircuitBreaker>) {
    let clock = Clock::manual();
    let registry = Registry::with_config(Config::default().clock(&clock).limits(limits)).expect("valid limits");
    (clock, registry)
}

fn idle() -> Limits {
    Limits::default().max_idle(IDLE)
}

fn names(registry: &Registry<CircuitBreaker>) -> Vec<String> {
    registry.all().iter().map(|breaker| breaker.name().to_owned()).collect()
}

/// Every event as a word or two, from now on.
fn told(registry: &Registry<CircuitBreaker>) -> Arc<Mutex<Vec<String>>> {
    let told = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&told);
    let listener = move |event: &RegistryEvent<CircuitBreaker>| {
        let line = match event {
            RegistryEvent::Added { instance } => format!("added {}", instance.name()),
            RegistryEvent::Removed { instance, evicted: true } => format!("evicted {}", instance.name()),
            RegistryEvent::Removed { instance, .. } => format!("removed {}", instance.name()),
            RegistryEvent::Replaced { new, .. } => format!("replaced {}", new.name()),
            RegistryEvent::Reconfigured { instance } => format!("reconfigured {}", instance.name()),
            other => format!("{other:?}"),
        };
        sink.lock().push(line);
    };
    registry.on_event(listener).forever();
    told
}

fn taken(told: &Mutex<Vec<String>>) -> Vec<String> {
    std::mem::take(&mut told.lock())
}

/// Whether both are handles of the same breaker.
fn same(one: &CircuitBreaker, other: &CircuitBreaker) -> bool {
    let before = other.metrics().buffered_calls;
    one.try_acquire().expect("closed").success();
    other.metrics().buffered_calls == before + 1
}

#[test]
fn an_instance_is_made_once_and_found_from_then_on() {
    let (_, registry) = breakers(Limits::default());
    assert!(registry.find("orders").is_none());
    let orders = registry.get("orders");
    assert!(same(&orders, &registry.get("orders")));
    assert!(same(&orders, &registry.find("orders").unwrap()));
    let clone = registry.clone();
    assert!(same(&orders, &clone.get("orders")));
    assert!(!same(&orders, &registry.get("mail")));
    assert_eq!(names(&registry), ["mail", "orders"]);
}

#[test]
fn threads_that_ask_at_once_get_the_same_instance_and_it_is_added_once() {
    const THREADS: u32 = 8;
    let (_, registry) = breakers(Limits::default());
    let told = told(&registry);
    let start = Arc::new(Barrier::new(THREADS as usize));
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let (registry, start) = (registry.clone(), Arc::clone(&start));
            thread::spawn(move || {
                start.wait();
                registry.get("orders").try_acquire().expect("closed").success();
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(registry.get("orders").metrics().buffered_calls, THREADS);
    assert_eq!(taken(&told), ["added orders"]);
}

#[test]
fn a_config_given_for_an_existing_name_is_refused_or_ignored_by_choice() {
    let (_, registry) = breakers(Limits::default());
    let config = |rate| circuit_breaker::Config::default().failure_rate_threshold(rate);
    let orders = registry.get_with("orders", config(10.0), Existing::Refuse).unwrap();
    let refused = registry.get_with("orders", config(20.0), Existing::Refuse).unwrap_err();
    assert_eq!(refused, RegistryError::Exists { name: "orders".into() });
    assert_eq!(refused.to_string(), "'orders' exists already, and with settings of its own");
    let kept = registry.get_with("orders", config(20.0), Existing::Keep).unwrap();
    assert!(same(&orders, &kept));
    let invalid = registry.get_with("orders", config(0.0), Existing::Keep).unwrap_err();
    assert!(matches!(invalid, RegistryError::Invalid(invalid) if invalid.field == "failure_rate_threshold"));
}

#[test]
fn an_instance_is_made_from_a_named_config() {
    let (_, registry) = breakers(Limits::default());
    let unknown = registry.get_named("orders", "strict").unwrap_err();
    assert_eq!(unknown, RegistryError::UnknownConfig { config: "strict".into() });
    assert_eq!(unknown.to_string(), "there is no config 'strict'");
    assert!(registry.find("orders").is_none());
    registry.add_config("strict", circuit_breaker::Config::default().sliding_window_size(2)).unwrap();
    let orders = registry.get_named("orders", "strict").unwrap();
    for _ in 0..2 {
        orders.try_acquire().unwrap().failure();
    }
    assert_eq!(orders.state(), State::Open);
    assert_eq!(registry.get_named("orders", "strict").unwrap().state(), State::Open);
    assert_eq!(registry.get_named("orders", "default").unwrap_err(), RegistryError::Exists { name: "orders".into() });
}

#[test]
fn the_name_default_is_reserved() {
    let (_, registry) = breakers(Limits::default());
    assert_eq!(registry.add_config("default", circuit_breaker::Config::default()), Err(RegistryError::Reserved));
    assert!(matches!(registry.remove_config("default"), Err(RegistryError::Reserved)));
    registry.set_default_config(circuit_breaker::Config::default().sliding_window_size(2)).unwrap();
    assert_eq!(registry.config_names(), ["default"]);
    assert!(registry.config("default").is_some());
    assert_eq!(
        RegistryError::Reserved.to_string(),
        "the config 'default' is always there: it can be set, not added or removed"
    );
}

#[test]
fn what_is_removed_is_made_anew_and_the_old_one_goes_on() {
    let (_, registry) = breakers(Limits::default());
    let old = registry.get("orders");
    assert!(same(&old, &registry.remove("orders").unwrap()));
    assert!(registry.remove("orders").is_none());
    assert!(!same(&old, &registry.get("orders")));
}

#[test]
fn a_replacement_takes_the_place_of_the_one_of_its_name_only() {
    let (_, registry) = breakers(Limits::default());
    let mine = CircuitBreaker::with_defaults("orders");
    assert!(registry.replace(mine.clone()).is_none());
    assert!(registry.find("orders").is_none());
    let old = registry.get("orders");
    assert!(same(&old, &registry.replace(mine.clone()).unwrap()));
    assert!(same(&mine, &registry.get("orders")));
}

#[test]
fn an_instance_s_tags_stand_over_the_registry_s() {
    let config = Config::default().tags([("region", "eu"), ("team", "core")]);
    let registry = Registry::<Retry>::with_config(config).unwrap();
    registry.set_tags("orders", [("team", "shop")]);
    let tags =
        |name: &str| registry.tags(name).into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>();
    assert_eq!(tags("orders"), ["region=eu", "team=shop"]);
    assert_eq!(tags("mail"), ["region=eu", "team=core"]);
    let mail = DeclaredInstance { tags: Tags::from([("team".into(), "mail".into())]), ..DeclaredInstance::default() };
    let declared = Declared {
        instances: [("mail".into(), mail)].into(),
        tags: Tags::from([("region".into(), "us".into())]),
        ..Declared::default()
    };
    registry.declare(declared).unwrap();
    assert_eq!(tags("orders"), ["region=us", "team=shop"]);
    assert_eq!(tags("mail"), ["region=us", "team=mail"]);
    registry.declare(Default::default()).unwrap();
    registry.set_tags("orders", Tags::new());
    assert_eq!(tags("orders"), ["region=eu", "team=core"]);
}

#[test]
fn every_event_is_told_until_the_subscription_is_dropped_and_a_panic_harms_nobody() {
    let (clock, registry) = breakers(idle());
    let panics = registry.on_event(|_| panic!("a listener's"));
    let told = told(&registry);
    registry.get("orders");
    registry.set_default_config(circuit_breaker::Config::default().sliding_window_size(2)).unwrap();
    registry.replace(CircuitBreaker::with_defaults("orders"));
    registry.remove("orders");
    registry.get("mail");
    clock.advance(IDLE);
    assert_eq!(registry.evict_idle(), 1);
    let expected =
        ["added orders", "reconfigured orders", "replaced orders", "removed orders", "added mail", "evicted mail"];
    assert_eq!(taken(&told), expected);
    drop(panics);
}

#[test]
fn a_listener_may_ask_the_registry_that_calls_it() {
    let (_, registry) = breakers(Limits::default());
    let inside = registry.clone();
    let _subscription = registry.on_event(move |event| {
        if let RegistryEvent::Added { instance } = event {
            assert!(inside.find(instance.name()).is_some());
            if instance.name() == "orders" {
                inside.get("mail");
                inside.remove("orders");
            }
        }
    });
    registry.get("orders");
    assert_eq!(names(&registry), ["mail"]);
}

#[test]
fn an_instance_unused_for_the_idle_time_is_forgotten_when_another_is_asked_for() {
    let (clock, registry) = breakers(idle());
    let told = told(&registry);
    registry.get("orders");
    clock.advance(IDLE / 2);
    registry.get("mail");
    clock.advance(IDLE / 2);
    registry.get("mail");
    assert_eq!(names(&registry), ["mail"]);
    assert_eq!(taken(&told), ["added orders", "added mail", "evicted orders"]);
    clock.advance(IDLE);
    registry.get("news");
    assert_eq!(names(&registry), ["news"]);
}

#[test]
fn asking_for_one_key_forgets_all_others_in_time_a_few_at_each_call() {
    let (clock, registry) = breakers(Limits::default());
    let hosts: KeyedRegistry<u32, CircuitBreaker> = registry.keyed("hosts", idle()).unwrap();
    for host in 0..2_000 {
        hosts.get(&host);
    }
    let mut fewest_left = hosts.len();
    for _ in 0..200 {
        clock.advance(IDLE / 100);
        hosts.get(&0);
        let gone = fewest_left - hosts.len();
        assert!(gone <= 128, "{gone} at one call");
        fewest_left = hosts.len();
    }
    assert_eq!(hosts.len(), 1);
}

#[test]
fn an_instance_that_is_held_is_in_use_and_idle_only_from_then_on() {
    let (clock, registry) = breakers(idle());
    let held = registry.get("orders");
    clock.advance(IDLE * 10);
    assert_eq!(registry.evict_idle(), 0);
    drop(held);
    clock.advance(IDLE - SECOND);
    assert_eq!(registry.evict_idle(), 0);
    clock.advance(SECOND);
    assert_eq!(registry.evict_idle(), 1);
}

#[test]
fn an_owned_permit_keeps_its_instance() {
    let clock = Clock::manual();
    let registry = Registry::<Bulkhead>::with_config(Config::default().clock(&clock).limits(idle())).unwrap();
    let permit = registry.get("orders").try_acquire_owned().unwrap();
    clock.advance(IDLE);
    assert_eq!(registry.evict_idle(), 0);
    permit.finish();
    clock.advance(IDLE);
    assert_eq!(registry.evict_idle(), 1);
}

#[test]
fn looking_is_no_use() {
    let (clock, registry) = breakers(idle());
    registry.get("orders");
    clock.advance(IDLE);
    assert!(registry.find("orders").is_some());
    assert_eq!(registry.all().len(), 1);
    assert_eq!(registry.evict_idle(), 1);
}

#[test]
fn what_an_operator_set_is_not_forgotten() {
    let (clock, registry) = breakers(idle().max_instances(1));
    registry.get("forced").transition_to_forced_open().unwrap();
    registry.get("disabled").transition_to_disabled().unwrap();
    registry.get("watched").transition_to_metrics_only().unwrap();
    clock.advance(IDLE * 2);
    assert_eq!(registry.evict_idle(), 0);
    assert_eq!(registry.get("forced").state(), State::ForcedOpen);
    assert_eq!(names(&registry), ["disabled", "forced", "watched"]);
    registry.get("forced").reset();
    clock.advance(IDLE);
    assert_eq!(registry.evict_idle(), 1);
}

#[test]
fn an_open_circuit_is_not_idle_before_its_wait_is_over() {
    let (clock, registry) = breakers(idle());
    registry.get("orders").transition_to_open_for(IDLE * 2).unwrap();
    clock.advance(IDLE * 2);
    assert_eq!(registry.evict_idle(), 0);
    clock.advance(SECOND);
    assert_eq!(registry.evict_idle(), 1);
}

#[test]
fn a_rate_limiter_is_not_idle_before_its_permits_are_back() {
    for algorithm in [rate_limiter::Algorithm::FixedCycle, rate_limiter::Algorithm::Smooth] {
        let clock = Clock::manual();
        let registry = Registry::<RateLimiter>::with_config(Config::default().clock(&clock).limits(idle())).unwrap();
        let config = rate_limiter::Config::default().algorithm(algorithm).limit_for_period(2);
        registry.set_default_config(config.limit_refresh_period(IDLE * 3)).unwrap();
        registry.get("tenant").try_acquire(2).unwrap();
        clock.advance(IDLE * 3 - SECOND);
        assert_eq!(registry.evict_idle(), 0, "{algorithm:?}");
        clock.advance(SECOND);
        assert_eq!(registry.evict_idle(), 1, "{algorithm:?}");
    }
}

#[test]
fn beyond_the_number_the_longest_unused_makes_room() {
    let (clock, registry) = breakers(Limits::default().max_instances(3));
    let told = told(&registry);
    for name in ["a", "b", "c", "a", "d", "e"] {
        registry.get(name);
        clock.advance(SECOND);
    }
    assert_eq!(names(&registry), ["a", "d", "e"]);
    assert_eq!(taken(&told)[3..], ["added d", "evicted b", "added e", "evicted c"]);
}

#[test]
fn beyond_the_number_what_is_held_stays_and_what_has_a_state_goes_last() {
    let (clock, registry) = breakers(Limits::default().max_instances(3));
    let held = registry.get("held");
    clock.advance(SECOND);
    registry.get("open").transition_to_open_for(IDLE).unwrap();
    clock.advance(SECOND);
    registry.get("closed");
    clock.advance(SECOND);
    registry.get("another");
    assert_eq!(names(&registry), ["another", "held", "open"]);
    let more: Vec<_> = ["x", "y", "z"].iter().map(|name| registry.get(name)).collect();
    assert_eq!(names(&registry), ["held", "x", "y", "z"], "whoever holds more than the number has more");
    drop((more, held));
    registry.get("last");
    assert_eq!(registry.all().len(), 3);
}

#[test]
fn a_flood_of_keys_stays_within_the_number_even_if_every_circuit_opens() {
    let (clock, registry) = breakers(Limits::default());
    let hosts: KeyedRegistry<u32, CircuitBreaker> =
        registry.keyed("hosts", Limits::default().max_instances(1_000)).unwrap();
    for host in 0..4_000 {
        hosts.get(&host).transition_to_open().unwrap();
        clock.advance(Duration::from_micros(1));
    }
    assert_eq!(hosts.len(), 1_000);
}

#[test]
fn limits_of_zero_are_refused() {
    let refused = |limits| Registry::<Retry>::with_config(Config::default().limits(limits)).unwrap_err().field;
    assert_eq!(refused(Limits::default().max_idle(Duration::ZERO)), "max_idle");
    assert_eq!(refused(Limits::default().max_instances(0)), "max_instances");
    assert!(Registry::<Retry>::new().keyed::<u32>("hosts", Limits::default().max_instances(0)).is_err());
    assert!(Resilience::with_config(Config::default().limits(Limits::default().max_instances(0))).is_err());
}

#[test]
fn a_key_of_any_kind_has_its_instance() {
    #[derive(Debug, Clone, PartialEq, Eq, Hash)]
    struct Tenant(u32, &'static str);
    let (_, registry) = breakers(Limits::default());
    let tenants = registry
        .keyed_by("tenants", Limits::default(), |Tenant(number, region)| format!("tenant {number} in {region}"))
        .unwrap();
    let one = tenants.get(&Tenant(1, "eu"));
    assert_eq!(one.name(), "tenant 1 in eu");
    assert!(same(&one, &tenants.get(&Tenant(1, "eu"))));
    assert!(!same(&one, &tenants.get(&Tenant(1, "us"))));
    assert!(same(&one, &tenants.find(&Tenant(1, "eu")).unwrap()));
    assert_eq!((tenants.len(), tenants.all().len(), tenants.is_empty()), (2, 2, false));
    assert!(same(&one, &tenants.remove(&Tenant(1, "eu")).unwrap()));
    assert!(tenants.find(&Tenant(1, "eu")).is_none());
}

#[test]
fn asking_for_an_instance_that_exists_allocates_nothing() {
    let (_, registry) = breakers(idle().max_instances(10));
    let hosts: KeyedRegistry<String, CircuitBreaker> = registry.keyed("hosts", idle()).unwrap();
    registry.get("orders");
    hosts.get("example.org");
    let counted = measure(|| {
        registry.get("orders");
        hosts.get("example.org");
        registry.find("orders");
    });
    assert_eq!(counted.count_total, 0);
}

#[test]
fn a_million_breakers_by_key_fit_in_a_gibibyte_also_after_a_change_of_their_settings() {
    const KEYS: u64 = 10_000;
    // Of the 1,073 that there are for each, the allocator takes about 100 for itself, and a longer key its part.
    const MOST: i64 = 800;
    let registry = Registry::<CircuitBreaker>::new();
    let hosts: KeyedRegistry<u64, CircuitBreaker> = registry.keyed("hosts", idle()).unwrap();
    let bytes = |run: &dyn Fn()| measure(run).bytes_current / i64::try_from(KEYS).unwrap();
    let made = bytes(&|| (0..KEYS).for_each(|key| drop(hosts.get(&key))));
    assert!(made <= MOST, "{made} bytes");
    let change = || registry.set_default_config(circuit_breaker::Config::default().failure_rate_threshold(20.0));
    let changed = bytes(&|| change().unwrap());
    assert_eq!(hosts.get(&7).config().failure_rate_threshold, 20.0);
    assert!(changed <= 1, "{changed} bytes more");
}

#[test]
fn a_registry_s_clock_is_that_of_its_instances() {
    let clock = Clock::manual();
    let resilience = Resilience::with_config(Config::default().clock(&clock)).unwrap();
    resilience.circuit_breakers().add_config("named", circuit_breaker::Config::default()).unwrap();
    let breakers = resilience.circuit_breakers();
    let by_hand = breakers.get_with("by hand", circuit_breaker::Config::default(), Existing::Refuse).unwrap();
    for breaker in [breakers.get("plain"), breakers.get_named("from a config", "named").unwrap(), by_hand] {
        breaker.transition_to_open().unwrap();
        assert!(breaker.try_acquire().is_err());
        clock.advance(SECOND * 61);
        assert!(breaker.try_acquire().is_ok(), "{}", breaker.name());
    }
}

#[test]
fn a_pipeline_has_the_policies_made_or_declared_under_its_name_in_the_documented_order() {
    let clock = Clock::manual();
    let resilience = Resilience::with_config(Config::default().clock(&clock)).unwrap();
    assert!(resilience.pipeline("orders").is_empty());
    assert!(resilience.circuit_breakers().all().is_empty());

    resilience.circuit_breakers().get("orders");
    let mut declared = Declared::<retry::Config>::default();
    declared.instances.insert("orders".into(), Default::default());
    resilience.retries().declare(declared).unwrap();
    let orders = resilience.pipeline("orders");
    assert!(orders.retry().is_some() && orders.circuit_breaker().is_some());
    assert!(orders.rate_limiter().is_none() && orders.time_limiter().is_none() && orders.bulkhead().is_none());

    // The breaker, inside the retry, counts every attempt; the time limiter, inside the breaker, makes failures.
    resilience.time_limiters().get_with("orders", time_limiter::Config::default(), Existing::Refuse).unwrap();
    let orders = resilience.pipeline("orders");
    let timed_out = clock.block_on(orders.call(std::future::pending::<Result<(), std::io::Error>>));
    assert!(matches!(timed_out, Err(Error::Rejected(Rejected::TimedOut(_)))));
    assert_eq!(orders.circuit_breaker().unwrap().metrics().failed_calls, 3);
    assert_eq!(orders.retry().unwrap().metrics().failed_calls_with_retry_attempt, 1);

    // A full bulkhead, inside the time limiter, and an empty rate limiter, inside the breaker, are no failures.
    let full = resilience.bulkheads().get("orders").try_acquire().map(drop);
    assert!(full.is_ok());
    resilience.rate_limiters().get("orders");
    let orders = resilience.pipeline("orders");
    assert!(orders.rate_limiter().is_some() && orders.time_limiter().is_some() && orders.bulkhead().is_some());
    clock.block_on(orders.call(|| ready(Ok::<_, std::io::Error>(())))).unwrap();
    assert_eq!(orders.circuit_breaker().unwrap().metrics().buffered_calls, 4);
}

#[tokio::test]
async fn a_pipeline_by_name_is_a_field_and_its_calls_can_be_spawned() {
    struct Orders {
        guard: NamedPipeline,
    }
    let resilience = Resilience::new();
    resilience.retries().get("orders");
    resilience.time_limiters().get("orders");
    let orders = Arc::new(Orders { guard: resilience.pipeline("orders") });
    let task = tokio::spawn(async move { orders.guard.call(|| async { Ok::<_, std::io::Error>(42) }).await });
    assert_eq!(task.await.unwrap().unwrap(), 42);
}

#[test]
fn changed_settings_reach_a_pipeline_that_is_held_and_its_breaker_stays_open() {
    let resilience = Resilience::new();
    resilience.circuit_breakers().get("orders").transition_to_forced_open().unwrap();
    let orders = resilience.pipeline("orders");
    let mut declared = Declared::<circuit_breaker::Config>::default();
    let config = circuit_breaker::Config::default().failure_rate_threshold(20.0);
    declared.instances.insert("orders".into(), DeclaredInstance { config, tags: Tags::new() });
    resilience.circuit_breakers().declare(declared).unwrap();
    let breaker = orders.circuit_breaker().unwrap();
    assert_eq!((breaker.config().failure_rate_threshold, breaker.state()), (20.0, State::ForcedOpen));
    assert!(orders.call_blocking(|| Ok::<_, std::io::Error>(())).is_err());
}

#[test]
fn settings_changed_reach_every_kind() {
    let resilience = Resilience::new();
    macro_rules! reaches {
        ($registry:ident, $policy:ident, $change:expr, $now:expr) => {
            let one: $policy = resilience.$registry().get("one");
            resilience.$registry().set_default_config($change(one.config())).unwrap();
            assert!($now(one.config()), stringify!($registry));
        };
    }
    use resile::{ThreadPoolBulkhead, TimeLimiter, bulkhead, bulkhead::thread_pool};
    reaches!(
        circuit_breakers,
        CircuitBreaker,
        |config: circuit_breaker::Config| config.sliding_window_size(7),
        |config: circuit_breaker::Config| config.sliding_window_size == 7
    );
    reaches!(retries, Retry, |config: retry::Config| config.max_attempts(7), |config: retry::Config| config
        .max_attempts
        == 7);
    reaches!(
        bulkheads,
        Bulkhead,
        |config: bulkhead::Config| config.max_concurrent_calls(7),
        |config: bulkhead::Config| config.max_concurrent_calls == 7
    );
    reaches!(
        thread_pool_bulkheads,
        ThreadPoolBulkhead,
        |config: thread_pool::Config| config.queue_capacity(7),
        |config: thread_pool::Config| config.queue_capacity == 7
    );
    reaches!(
        rate_limiters,
        RateLimiter,
        |config: rate_limiter::Config| config.limit_for_period(7),
        |config: rate_limiter::Config| config.limit_for_period == 7
    );
    reaches!(
        time_limiters,
        TimeLimiter,
        |config: time_limiter::Config| config.timeout_duration(SECOND * 7),
        |config: time_limiter::Config| config.timeout_duration == SECOND * 7
    );
}

#[test]
fn a_replacement_gets_the_settings_declared_for_its_name() {
    let registry = Registry::<Retry>::new();
    let mut declared = Declared::<retry::Config>::default();
    let config = retry::Config::default().max_attempts(7);
    declared.instances.insert("orders".into(), DeclaredInstance { config, tags: Tags::new() });
    registry.declare(declared).unwrap();
    registry.get("orders");
    let mine = Retry::with_defaults("orders");
    registry.replace(mine.clone());
    assert_eq!(mine.config().max_attempts, 7);
}

#[test]
fn a_pipeline_without_retry_takes_a_call_that_cannot_be_repeated() {
    let resilience = Resilience::new();
    resilience.retries().get("orders");
    resilience.circuit_breakers().get("orders");
    let orders = resilience.pipeline_without_retry("orders");
    assert!(orders.retry().is_none());
    let order = String::from("an order");
    let sent = orders.call_blocking(move || Err::<(), _>(order));
    assert_eq!(sent, Err(Error::Inner("an order".to_owned())));
    assert_eq!(orders.circuit_breaker().unwrap().metrics().failed_calls, 1);
}

#[test]
fn a_classifier_and_a_retry_condition_attach_to_a_pipeline_by_name() {
    let clock = Clock::manual();
    let resilience = Resilience::with_config(Config::default().clock(&clock)).unwrap();
    resilience.retries().get("orders");
    resilience.circuit_breakers().get("orders");
    let orders = resilience
        .pipeline("orders")
        .classify(|result: &Result<u16, Error<std::io::Error>>| match result {
            Ok(500..) => Outcome::Failure,
            other => Outcome::of(other),
        })
        .retry_if(|result: &Result<u16, Error<std::io::Error>>| match result {
            Ok(503) => retry::Decision::RetryAfter(SECOND * 20),
            other => retry::Decision::of(other),
        });
    let statuses = orders.call_with(|cx| ready(Ok(if cx.attempt() == 1 { 503 } else { 200 })));
    assert_eq!(clock.block_on(statuses).unwrap(), 200);
    assert_eq!(clock.now().as_nanos(), 20_000_000_000);
    let metrics = resilience.circuit_breakers().get("orders").metrics();
    assert_eq!((metrics.failed_calls, metrics.buffered_calls), (1, 2));
}

#[test]
fn a_pipeline_keeps_its_instances_from_being_forgotten() {
    let clock = Clock::manual();
    let resilience = Resilience::with_config(Config::default().clock(&clock).limits(idle())).unwrap();
    resilience.circuit_breakers().get("orders");
    let orders = resilience.pipeline("orders");
    clock.advance(IDLE * 2);
    assert_eq!(resilience.circuit_breakers().evict_idle(), 0);
    drop(orders);
    clock.advance(IDLE * 2);
    assert_eq!(resilience.circuit_breakers().evict_idle(), 1);
}

proptest! {
    #[test]
    fn whatever_was_declared_before_a_breaker_has_the_last_valid_settings_and_its_state(
        reloads in proptest::collection::vec((any::<bool>(), any::<bool>(), 0_u8..5, 0_u32..4), 1..12),
    ) {
        let ((_, reloaded), (_, fresh)) = (breakers(Limits::default()), breakers(Limits::default()));
        let orders = reloaded.get("orders");
        orders.transition_to_forced_open().unwrap();
        let mut last = Declared::default();
        for (default, own, rate, window) in reloads {
            // No rate and no window at all cannot be.
            let config = circuit_breaker::Config::default().failure_rate_threshold(f32::from(rate) * 10.0);
            let config = config.sliding_window_size(window * 10);
            let mut declared = Declared::<circuit_breaker::Config>::default();
            if default {
                declared.configs.insert("default".into(), config.clone());
            }
            if own {
                declared.instances.insert("orders".into(), DeclaredInstance { config, tags: Tags::new() });
            }
            let taken = reloaded.declare(declared.clone()).is_ok();
            prop_assert_eq!(taken, !(default || own) || rate > 0 && window > 0);
            if taken {
                last = declared;
            }
        }
        fresh.declare(last).unwrap();
        // Each registry has a clock of its own.
        let clock = Clock::default();
        prop_assert_eq!(orders.config().clock(&clock), fresh.get("orders").config().clock(&clock));
        prop_assert_eq!(orders.state(), State::ForcedOpen);
    }
}
