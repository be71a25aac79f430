//! Metrics as `metrics-exporter-prometheus` renders them. The instances of one process share one recorder, so every test
//! has names of its own.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    future::{pending, ready},
    pin::pin,
    sync::{Arc, OnceLock, RwLock},
    task::Poll,
    time::Duration,
};

use allocation_counter::measure;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use resile::{
    Bulkhead, CircuitBreaker, Clock, Error, ManualClock, Outcome, RateLimiter, Resilience, Retry, ThreadPoolBulkhead,
    TimeLimiter, bulkhead, circuit_breaker,
    circuit_breaker::State,
    metrics::{self, SeriesKind},
    rate_limiter, registry, retry, time_limiter,
};
use support::{SECOND, poll_once};

type Labels = BTreeMap<String, String>;

/// One scrape: every series with its value.
struct Scrape(Vec<(String, Labels, f64)>);

fn prometheus() -> &'static PrometheusHandle {
    static PROMETHEUS: OnceLock<PrometheusHandle> = OnceLock::new();
    PROMETHEUS.get_or_init(|| PrometheusBuilder::new().install_recorder().expect("the only recorder"))
}

/// Written to by who must have no other test look meanwhile.
static LOOKS: RwLock<()> = RwLock::new(());

fn refresh() {
    let _looks = LOOKS.read();
    metrics::refresh();
}

fn scrape() -> Scrape {
    let prometheus = prometheus();
    refresh();
    read(&prometheus.render())
}

fn read(text: &str) -> Scrape {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    Scrape(
        lines
            .map(|line| {
                let (series, value) = line.rsplit_once(' ').expect("a value");
                let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
                let labels = labels.trim_end_matches('}').split("\",").filter(|label| !label.is_empty());
                let labels = labels.map(|label| label.split_once('=').expect("a label"));
                let labels = labels.map(|(key, value)| (key.to_owned(), value.trim_matches('"').to_owned()));
                (name.to_owned(), labels.collect(), value.parse().expect("a number"))
            })
            .collect(),
    )
}

impl Scrape {
    /// The value of the series of exactly these labels; `None` if there is none.
    fn find(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let wanted: Labels = labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let mut found = self.0.iter().filter(|(found, labels, _)| found == name && *labels == wanted);
        let value = found.next().map(|(.., value)| *value);
        assert!(found.next().is_none(), "{name} {labels:?} is exported twice");
        value
    }

    #[track_caller]
    fn get(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.find(name, labels).unwrap_or_else(|| panic!("no {name} {labels:?}"))
    }
}

fn breaker(name: &str, clock: &ManualClock, config: circuit_breaker::Config) -> CircuitBreaker {
    let breaker = CircuitBreaker::new(name, config.clock(clock)).expect("settings that can be");
    metrics::bind(&breaker);
    breaker
}

const STATE: &str = "resilience4j_circuitbreaker_state";

/// The states whose gauge shows 1.
fn states(scrape: &Scrape, name: &str) -> Vec<&'static str> {
    let all = ["closed", "open", "half_open", "disabled", "forced_open", "metrics_only"];
    let value = |state: &&str| scrape.get(STATE, &[("name", name), ("state", state)]);
    let shown: Vec<_> = all.into_iter().filter(|state| value(state) == 1.0).collect();
    assert!(all.iter().all(|state| value(state) == 0.0 || shown.contains(state)));
    shown
}

#[test]
fn exactly_one_state_is_shown_at_each_scrape() {
    let clock = Clock::manual();
    let breaker = breaker("states", &clock, circuit_breaker::Config::default());
    assert_eq!(states(&scrape(), "states"), ["closed"]);
    breaker.transition_to_open().unwrap();
    assert_eq!(states(&scrape(), "states"), ["open"]);
    breaker.transition_to_half_open().unwrap();
    assert_eq!(states(&scrape(), "states"), ["half_open"]);
    breaker.transition_to_disabled().unwrap();
    assert_eq!(states(&scrape(), "states"), ["disabled"]);
    breaker.transition_to_forced_open().unwrap();
    assert_eq!(states(&scrape(), "states"), ["forced_open"]);
    breaker.transition_to_metrics_only().unwrap();
    assert_eq!(states(&scrape(), "states"), ["metrics_only"]);
}

#[test]
fn a_scrape_sees_a_transition_that_is_due_without_a_call() {
    let clock = Clock::manual();
    let config = circuit_breaker::Config::default().automatic_transition_from_open_to_half_open_enabled(true);
    let breaker = breaker("due", &clock, config);
    breaker.transition_to_open().unwrap();
    clock.advance(60 * SECOND);
    assert_eq!(states(&scrape(), "due"), ["half_open"]);
}

#[test]
fn calls_are_timed_by_how_they_ended() {
    let clock = Clock::manual();
    let breaker = breaker("timed", &clock, circuit_breaker::Config::default());
    let calls = [(2, Outcome::Success), (30, Outcome::Success), (60_000, Outcome::Failure), (1, Outcome::Ignored)];
    for (millis, outcome) in calls {
        let permit = breaker.try_acquire().unwrap();
        clock.advance(Duration::from_millis(millis));
        permit.record(outcome);
    }
    let scrape = scrape();
    let value = |part: &str, kind: &str| {
        scrape.get(&format!("resilience4j_circuitbreaker_calls_seconds_{part}"), &[("name", "timed"), ("kind", kind)])
    };
    assert_eq!((value("count", "successful"), value("count", "failed"), value("count", "ignored")), (2.0, 1.0, 1.0));
    assert!((value("sum", "successful") - 0.032).abs() < 1e-9);
    assert!((value("sum", "failed") - 60.0).abs() < 1e-9);
    assert_eq!((value("max", "successful"), value("max", "failed")), (0.03, 60.0));
    let bucket = |kind: &str, le: &str| {
        let labels = [("name", "timed"), ("kind", kind), ("le", le)];
        scrape.get("resilience4j_circuitbreaker_calls_seconds_bucket", &labels)
    };
    let successful = ["0.001", "0.0025", "0.025", "0.05", "30.0", "+Inf"].map(|le| bucket("successful", le));
    assert_eq!(successful, [0.0, 1.0, 1.0, 2.0, 2.0, 2.0]);
    assert_eq!((bucket("failed", "30.0"), bucket("failed", "+Inf")), (0.0, 1.0));
}

#[test]
fn calls_are_timed_where_no_call_can_be_slow() {
    let clock = Clock::manual();
    clock.advance(SECOND);
    let config = circuit_breaker::Config::default().slow_call_duration_threshold(None);
    let breaker = breaker("no threshold", &clock, config);
    let permit = breaker.try_acquire().unwrap();
    clock.advance(SECOND);
    permit.success();
    let sum = scrape()
        .get("resilience4j_circuitbreaker_calls_seconds_sum", &[("name", "no threshold"), ("kind", "successful")]);
    assert_eq!(sum, 1.0);
}

#[test]
fn rates_and_counts_are_those_of_the_window() {
    let clock = Clock::manual();
    let config = circuit_breaker::Config::default().sliding_window_size(4).slow_call_duration_threshold(SECOND);
    let breaker = breaker("window", &clock, config.failure_rate_threshold(100.0));
    let name = [("name", "window")];
    let rates = |scrape: &Scrape| {
        ["failure_rate", "slow_call_rate"].map(|rate| scrape.get(&format!("resilience4j_circuitbreaker_{rate}"), &name))
    };
    breaker.try_acquire().unwrap().failure();
    assert_eq!(rates(&scrape()), [-1.0, -1.0]);
    for outcome in [Outcome::Failure, Outcome::Success, Outcome::Success] {
        breaker.try_acquire().unwrap().record_elapsed(2 * SECOND, outcome);
    }
    let scrape = scrape();
    assert_eq!(rates(&scrape), [50.0, 75.0]);
    let count = |series: &str, kind: &str| {
        scrape.get(&format!("resilience4j_circuitbreaker_{series}"), &[("name", "window"), ("kind", kind)])
    };
    assert_eq!([count("buffered_calls", "failed"), count("buffered_calls", "successful")], [2.0, 2.0]);
    assert_eq!([count("slow_calls", "failed"), count("slow_calls", "successful")], [1.0, 2.0]);
}

#[test]
fn rejections_of_a_forced_open_circuit_are_counted_and_survive_a_reset() {
    let clock = Clock::manual();
    let breaker = breaker("forced", &clock, circuit_breaker::Config::default());
    let labels = [("name", "forced"), ("kind", "not_permitted")];
    let rejected = |scrape: &Scrape| scrape.get("resilience4j_circuitbreaker_not_permitted_calls_total", &labels);
    breaker.transition_to_forced_open().unwrap();
    assert!(breaker.try_acquire().is_err() && breaker.try_acquire().is_err());
    assert_eq!(rejected(&scrape()), 2.0);
    breaker.reset();
    assert_eq!(rejected(&scrape()), 2.0);
}

#[test]
fn late_results_and_cancelled_calls_are_counted() {
    let clock = Clock::manual();
    let breaker = breaker("late", &clock, circuit_breaker::Config::default());
    let (late, dropped) = (breaker.try_acquire().unwrap(), breaker.try_acquire().unwrap());
    drop(dropped);
    breaker.reset();
    late.success();
    let scrape = scrape();
    assert_eq!(scrape.get("resilience4j_circuitbreaker_late_results_total", &[("name", "late")]), 1.0);
    assert_eq!(scrape.get("resilience4j_circuitbreaker_cancelled_calls_total", &[("name", "late")]), 1.0);
    let timed = [("name", "late"), ("kind", "successful")];
    assert_eq!(scrape.get("resilience4j_circuitbreaker_calls_seconds_count", &timed), 0.0);
}

#[test]
fn transitions_are_counted_by_their_reason() {
    let clock = Clock::manual();
    let config = circuit_breaker::Config::default().sliding_window_size(1);
    let config = config.permitted_number_of_calls_in_half_open_state(1).max_wait_duration_in_half_open_state(SECOND);
    let breaker = breaker("reasons", &clock, config.slow_call_duration_threshold(SECOND));
    breaker.try_acquire().unwrap().failure();
    clock.advance(61 * SECOND);
    breaker.try_acquire().unwrap().success();
    breaker.try_acquire().unwrap().record_elapsed(2 * SECOND, Outcome::Success);
    breaker.transition_to_half_open().unwrap();
    clock.advance(2 * SECOND);
    assert_eq!(breaker.state(), State::Open);
    breaker.reset();
    breaker.try_acquire().unwrap().record(resile::Verdict::from(Outcome::Failure));
    let scrape = scrape();
    let made = |from: &str, to: &str, reason: &str| {
        let labels = [("name", "reasons"), ("from", from), ("to", to), ("reason", reason)];
        scrape.get("resilience4j_circuitbreaker_transitions_total", &labels)
    };
    assert_eq!(made("closed", "open", "failure_rate"), 2.0);
    assert_eq!(made("open", "half_open", "wait_over"), 1.0);
    assert_eq!(made("half_open", "closed", "trial_calls"), 1.0);
    assert_eq!(made("closed", "open", "slow_call_rate"), 1.0);
    assert_eq!(made("open", "half_open", "manual"), 1.0);
    assert_eq!(made("half_open", "open", "half_open_too_long"), 1.0);
    assert_eq!(made("open", "closed", "reset"), 1.0);
}

#[test]
fn the_time_in_each_state_adds_up_also_over_idle_rounds() {
    let clock = Clock::manual();
    let config = circuit_breaker::Config::default()
        .automatic_transition_from_open_to_half_open_enabled(true)
        .max_wait_duration_in_half_open_state(20 * SECOND);
    let breaker = breaker("durations", &clock, config);
    clock.advance(100 * SECOND);
    breaker.transition_to_open().unwrap();
    clock.advance(80_000 * SECOND);
    let scrape = scrape();
    let time = |state: &str| {
        let labels = [("name", "durations"), ("state", state)];
        scrape.get("resilience4j_circuitbreaker_time_in_state_seconds", &labels)
    };
    assert_eq!([time("closed"), time("open"), time("half_open"), time("disabled")], [100.0, 60_000.0, 20_000.0, 0.0]);
    let labels = [("name", "durations"), ("from", "half_open"), ("to", "open"), ("reason", "half_open_too_long")];
    assert_eq!(scrape.get("resilience4j_circuitbreaker_transitions_total", &labels), 1000.0);
}

#[test]
fn retries_count_calls_attempts_and_waits() {
    let clock = Clock::manual();
    let retry = Retry::new("retry", retry::Config::default().clock(&clock)).unwrap();
    metrics::bind(&retry);
    assert!(clock.block_on(retry.call(|| ready(Ok::<_, ()>(())))).is_ok());
    assert!(clock.block_on(retry.call(|| ready(Err::<(), _>(())))).is_err());
    let second = |cx: resile::Cx| ready(if cx.attempt() == 1 { Err(()) } else { Ok(()) });
    assert!(clock.block_on(retry.call_with(second)).is_ok());
    let unwanted = retry.retry_if(|result: &Result<u8, Error<()>>| matches!(result, Ok(0)));
    assert_eq!(clock.block_on(unwanted.call(|| ready(Ok(0)))), Ok(0));
    assert!(clock.block_on(unwanted.call(|| ready(Err(())))).is_err());
    let scrape = scrape();
    let calls = |kind: &str| scrape.get("resilience4j_retry_calls_total", &[("name", "retry"), ("kind", kind)]);
    assert_eq!([calls("successful_without_retry"), calls("successful_with_retry")], [1.0, 1.0]);
    assert_eq!([calls("failed_without_retry"), calls("failed_with_retry")], [1.0, 2.0]);
    let get = |series: &str| scrape.get(&format!("resilience4j_retry_{series}"), &[("name", "retry")]);
    assert_eq!(get("attempts_total"), 1.0 + 3.0 + 2.0 + 3.0 + 1.0);
    assert_eq!((get("wait_seconds_count"), get("wait_seconds_sum"), get("wait_seconds_max")), (5.0, 2.5, 0.5));
}

#[test]
fn a_bulkhead_counts_who_came_in_who_did_not_and_how_long_they_waited() {
    let clock = Clock::manual();
    let config = bulkhead::Config::default().max_concurrent_calls(1).max_wait_duration(SECOND).clock(&clock);
    let bulkhead = Bulkhead::new("bulkhead", config).unwrap();
    metrics::bind(&bulkhead);
    let inside = bulkhead.try_acquire().unwrap();
    assert!(bulkhead.try_acquire().is_err());
    let mut waiting = Box::pin(bulkhead.acquire());
    let mut dropped = Box::pin(bulkhead.acquire());
    assert!(poll_once(waiting.as_mut()).is_pending() && poll_once(dropped.as_mut()).is_pending());
    let get =
        |scrape: &Scrape, series: &str| scrape.get(&format!("resilience4j_bulkhead_{series}"), &[("name", "bulkhead")]);
    let before = scrape();
    assert_eq!([get(&before, "available_concurrent_calls"), get(&before, "waiting_calls")], [0.0, 2.0]);
    assert_eq!(get(&before, "max_allowed_concurrent_calls"), 1.0);
    clock.advance(SECOND / 2);
    drop(dropped);
    drop(inside);
    let Poll::Ready(Ok(permit)) = poll_once(waiting.as_mut()) else { panic!("a place is free") };
    assert!(clock.block_on(bulkhead.acquire()).is_err());
    drop(permit);
    let after = scrape();
    let calls = |kind: &str| after.get("resilience4j_bulkhead_calls_total", &[("name", "bulkhead"), ("kind", kind)]);
    assert_eq!([calls("permitted"), calls("rejected"), calls("cancelled")], [2.0, 2.0, 1.0]);
    assert_eq!([get(&after, "wait_seconds_count"), get(&after, "wait_seconds_sum")], [3.0, 2.0]);
    assert_eq!(get(&after, "available_concurrent_calls"), 1.0);
}

#[test]
fn a_rate_limiter_counts_who_came_in_who_did_not_and_how_long_they_waited() {
    let clock = Clock::manual();
    let config = rate_limiter::Config::default().limit_for_period(1).limit_refresh_period(SECOND);
    let limiter = RateLimiter::new("limiter", config.timeout_duration(2 * SECOND).clock(&clock)).unwrap();
    metrics::bind(&limiter);
    limiter.try_acquire(1).unwrap();
    assert!(limiter.try_acquire(1).is_err());
    let mut waiting = Box::pin(limiter.acquire(1));
    assert!(poll_once(waiting.as_mut()).is_pending());
    let mut dropped = Box::pin(limiter.call(|| ready(Ok::<_, ()>(()))));
    assert!(poll_once(dropped.as_mut()).is_pending());
    let get = |scrape: &Scrape, series: &str| {
        scrape.get(&format!("resilience4j_ratelimiter_{series}"), &[("name", "limiter")])
    };
    let before = scrape();
    assert_eq!([get(&before, "waiting_threads"), get(&before, "available_permissions")], [2.0, -2.0]);
    drop(dropped);
    clock.advance(SECOND);
    assert!(poll_once(waiting.as_mut()).is_ready());
    let after = scrape();
    let calls = |kind: &str| after.get("resilience4j_ratelimiter_calls_total", &[("name", "limiter"), ("kind", kind)]);
    assert_eq!([calls("permitted"), calls("rejected"), calls("cancelled")], [2.0, 1.0, 1.0]);
    assert_eq!([get(&after, "wait_seconds_count"), get(&after, "wait_seconds_sum")], [2.0, 1.0]);
    assert_eq!(get(&after, "waiting_threads"), 0.0);
}

#[test]
fn a_time_limiter_counts_how_calls_end() {
    let clock = Clock::manual();
    let limiter = TimeLimiter::new("time", time_limiter::Config::default().clock(&clock)).unwrap();
    metrics::bind(&limiter);
    assert!(clock.block_on(limiter.call(|| ready(Ok::<_, ()>(())))).is_ok());
    assert!(clock.block_on(limiter.call(|| ready(Err::<(), _>(())))).is_err());
    assert!(clock.block_on(limiter.call(pending::<Result<(), ()>>)).is_err());
    let scrape = scrape();
    let calls = |kind: &str| scrape.get("resilience4j_timelimiter_calls_total", &[("name", "time"), ("kind", kind)]);
    assert_eq!([calls("successful"), calls("failed"), calls("timeout")], [1.0, 1.0, 1.0]);
}

#[test]
fn a_thread_pool_shows_its_threads_and_its_queue() {
    let config = bulkhead::thread_pool::Config::default().max_thread_pool_size(1).queue_capacity(1);
    let pool = ThreadPoolBulkhead::new("pool", config).unwrap();
    metrics::bind(&pool);
    let (release, released) = std::sync::mpsc::channel::<()>();
    let mut running = Box::pin(pool.call(move || released.recv().map_err(drop)));
    let mut queued = Box::pin(pool.call(|| Ok::<_, ()>(())));
    assert!(poll_once(running.as_mut()).is_pending() && poll_once(queued.as_mut()).is_pending());
    assert!(matches!(poll_once(pin!(pool.call(|| Ok::<_, ()>(())))), Poll::Ready(Err(_))));
    let scrape_now = scrape();
    let get = |series: &str| scrape_now.get(&format!("resilience4j_bulkhead_{series}"), &[("name", "pool")]);
    assert_eq!([get("queue_depth"), get("queue_capacity"), get("thread_pool_size")], [1.0, 1.0, 1.0]);
    assert_eq!([get("max_thread_pool_size"), get("core_thread_pool_size")], [1.0, 1.0]);
    assert_eq!([get("active_thread_count"), get("available_thread_count")], [1.0, 0.0]);
    drop(queued);
    release.send(()).unwrap();
    assert!(Clock::manual().block_on(running).is_ok());
    let scrape = scrape();
    let labels = |kind| [("name", "pool"), ("kind", kind)];
    let calls = |kind| scrape.get("resilience4j_thread_pool_bulkhead_calls_total", &labels(kind));
    assert_eq!([calls("permitted"), calls("rejected"), calls("cancelled")], [1.0, 1.0, 1.0]);
    assert_eq!(scrape.get("resilience4j_thread_pool_bulkhead_wait_seconds_count", &[("name", "pool")]), 1.0);
}

#[test]
fn an_instance_that_is_gone_leaves_no_gauge_that_lies() {
    let clock = Clock::manual();
    let gone = breaker("gone", &clock, circuit_breaker::Config::default().sliding_window_size(1));
    let limits = Bulkhead::with_defaults("gone");
    metrics::bind(&limits);
    gone.try_acquire().unwrap().failure();
    assert_eq!(states(&scrape(), "gone"), ["open"]);
    assert!(gone.try_acquire().is_err());
    metrics::unbind(&gone);
    drop(limits);
    assert!(states(&scrape(), "gone").is_empty());
    let name = [("name", "gone")];
    // Another test's scrape may hold it just now.
    let available = "resilience4j_bulkhead_available_concurrent_calls";
    let scrape = (0..1000).map(|_| scrape()).find(|scrape| scrape.get(available, &name).is_nan());
    let scrape = scrape.expect("an end");
    assert_eq!(scrape.get("resilience4j_circuitbreaker_failure_rate", &name), -1.0);
    // The last counts have been told.
    let rejected = [("name", "gone"), ("kind", "not_permitted")];
    assert_eq!(scrape.get("resilience4j_circuitbreaker_not_permitted_calls_total", &rejected), 1.0);
}

#[test]
fn an_instance_of_a_name_that_was_there_before_goes_on_with_its_series() {
    let clock = Clock::manual();
    let labels = [("name", "again"), ("kind", "successful")];
    let count = |scrape: &Scrape| scrape.get("resilience4j_circuitbreaker_calls_seconds_count", &labels);
    let first = breaker("again", &clock, circuit_breaker::Config::default());
    first.try_acquire().unwrap().success();
    first.try_acquire().unwrap().success();
    assert_eq!(count(&scrape()), 2.0);
    metrics::unbind(&first);
    let second = breaker("again", &clock, circuit_breaker::Config::default());
    second.try_acquire().unwrap().success();
    assert_eq!(count(&scrape()), 3.0);
    assert_eq!(states(&scrape(), "again"), ["closed"]);
    // And so does the very same instance, without telling twice what it has told.
    metrics::unbind(&second);
    metrics::bind(&first);
    first.try_acquire().unwrap().success();
    assert_eq!(count(&scrape()), 4.0);
}

#[test]
fn the_prefix_and_tags_can_be_changed() {
    let retry = Retry::with_defaults("tagged");
    let config = metrics::Config::default().prefix("shop").tag("region", "north").tag("kind", "gives way");
    config.bind(&retry).unwrap();
    let labels = [("name", "tagged"), ("region", "north"), ("kind", "failed_with_retry")];
    assert_eq!(scrape().find("shop_retry_calls_total", &labels), Some(0.0));
    for prefix in ["", "9lives", "a-b"] {
        let refused = metrics::Config::default().prefix(prefix).bind(&retry).unwrap_err();
        assert_eq!(refused.field, "prefix");
    }
}

#[test]
fn a_metered_call_allocates_nothing() {
    let clock = Clock::manual();
    let breaker = breaker("allocates", &clock, circuit_breaker::Config::default());
    let (bulkhead, limiter) = (Bulkhead::with_defaults("allocates"), TimeLimiter::with_defaults("allocates"));
    metrics::bind(&bulkhead);
    metrics::bind(&limiter);
    let call = || {
        let guarded = breaker.call_flat(|| limiter.call_flat(|| bulkhead.call(|| ready(Ok::<_, ()>(())))));
        assert!(poll_once(pin!(guarded)).is_ready());
    };
    call();
    assert_eq!(measure(call).count_total, 0);
}

#[test]
fn what_is_exported_is_what_is_listed() {
    let clock = Clock::manual();
    let breaker = breaker("listed", &clock, circuit_breaker::Config::default());
    breaker.transition_to_open().unwrap();
    let (retry, bulkhead) = (Retry::with_defaults("listed"), Bulkhead::with_defaults("listed"));
    let (pool, limiter) = (ThreadPoolBulkhead::with_defaults("listed"), RateLimiter::with_defaults("listed"));
    let time = TimeLimiter::with_defaults("listed");
    metrics::bind(&retry);
    metrics::bind(&bulkhead);
    metrics::bind(&pool);
    metrics::bind(&limiter);
    metrics::bind(&time);
    let keys = |labels: &Labels| labels.keys().cloned().collect::<Vec<_>>().join(",");
    let exported =
        scrape().0.into_iter().filter(|(_, labels, _)| labels.get("name").is_some_and(|name| name == "listed"));
    let exported: BTreeSet<_> = exported.map(|(name, labels, _)| format!("{name} {}", keys(&labels))).collect();
    let listed: BTreeSet<_> = metrics::series()
        .filter(|series| series.labels.contains(&"name"))
        .map(|series| {
            let labels: BTreeSet<_> = series.labels.iter().copied().collect();
            format!("{} {}", series.name, labels.into_iter().collect::<Vec<_>>().join(","))
        })
        .collect();
    assert_eq!(exported, listed);
}

#[test]
fn every_instance_of_the_registries_is_exported_with_its_tags() {
    let resilience = Resilience::new();
    let early = resilience.circuit_breakers().get("registry, early");
    // Another test's look would begin the series before there are tags.
    let first_look = LOOKS.write();
    let installed = metrics::Config::default().tag("service", "shop").install(&resilience).unwrap();
    resilience.retries().get("registry, late");
    resilience.circuit_breakers().set_tags("registry, early", [("region", "north")]);
    early.try_acquire().unwrap().success();
    drop(first_look);
    let calls = "resilience4j_circuitbreaker_calls_seconds_count";
    let labels =
        |region| [("name", "registry, early"), ("service", "shop"), ("region", region), ("kind", "successful")];
    let before = scrape();
    assert_eq!(before.get(calls, &labels("north")), 1.0);
    let late = [("name", "registry, late"), ("service", "shop"), ("kind", "failed_with_retry")];
    assert_eq!(before.get("resilience4j_retry_calls_total", &late), 0.0);
    assert_eq!(before.get("resilience4j_reloads_total", &[("service", "shop"), ("result", "refused")]), 0.0);

    resilience.circuit_breakers().set_tags("registry, early", [("region", "south")]);
    early.try_acquire().unwrap().success();
    let after = scrape();
    // Which of the two the second call went to depends on when another test looked.
    assert_eq!(after.get(calls, &labels("north")) + after.get(calls, &labels("south")), 2.0);
    let state = |scrape: &Scrape, region| {
        let labels = [("name", "registry, early"), ("service", "shop"), ("region", region), ("state", "closed")];
        scrape.get(STATE, &labels)
    };
    assert_eq!((state(&after, "north"), state(&after, "south")), (0.0, 1.0));
    drop(installed);
    assert_eq!(state(&scrape(), "south"), 0.0);
}

#[test]
fn a_removed_instance_leaves_no_state_and_one_of_its_name_goes_on() {
    let resilience = Resilience::new();
    let _installed = metrics::install(&resilience);
    let breakers = resilience.circuit_breakers();
    let held = breakers.get("removed");
    held.transition_to_open().unwrap();
    assert_eq!(states(&scrape(), "removed"), ["open"]);
    breakers.remove("removed");
    assert!(states(&scrape(), "removed").is_empty());
    held.transition_to_closed().unwrap();
    assert!(states(&scrape(), "removed").is_empty(), "whoever holds it tells of it no more");
    let again = breakers.get("removed");
    assert_eq!(states(&scrape(), "removed"), ["closed"]);
    again.transition_to_forced_open().unwrap();
    assert_eq!(states(&scrape(), "removed"), ["forced_open"]);
}

#[test]
fn an_evicted_instance_leaves_no_state() {
    let clock = Clock::manual();
    let limits = registry::Limits::default().max_idle(SECOND);
    let resilience = Resilience::with_config(registry::Config::default().clock(&clock).limits(limits)).unwrap();
    let _installed = metrics::install(&resilience);
    resilience.circuit_breakers().get("evicted");
    assert_eq!(states(&scrape(), "evicted"), ["closed"]);
    // Another test's scrape may hold it just now.
    let evicted = (0..100_000).any(|_| {
        clock.advance(2 * SECOND);
        std::thread::yield_now();
        resilience.circuit_breakers().evict_idle() == 1
    });
    assert!(evicted);
    assert!(states(&scrape(), "evicted").is_empty());
}

/// `RESILE_UPDATE=1` writes the file anew.
#[test]
fn the_list_of_names_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/metrics_names.txt");
    let kind = |kind| match kind {
        SeriesKind::Counter => "counter",
        SeriesKind::Gauge => "gauge",
        SeriesKind::Sum => "sum",
        other => panic!("{other:?}"),
    };
    let line = |series: metrics::Series| {
        format!("{} {} {} {}", series.name, kind(series.kind), series.labels.join(","), series.help)
    };
    let mut lines: Vec<_> = metrics::series().map(line).collect();
    lines.sort();
    let names = lines.join("\n") + "\n";
    if std::env::var_os("RESILE_UPDATE").is_some() {
        std::fs::write(path, &names).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), names);
}

#[test]
fn many_may_call_bind_and_scrape_at_once() {
    let clock = Clock::manual();
    let breaker = Arc::new(breaker("at once", &clock, circuit_breaker::Config::default()));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let breaker = &breaker;
            scope.spawn(move || {
                for _ in 0..100 {
                    breaker.try_acquire().unwrap().success();
                    if thread % 2 == 0 {
                        metrics::bind(&**breaker);
                        refresh();
                    }
                }
            });
        }
    });
    let labels = [("name", "at once"), ("kind", "successful")];
    assert_eq!(scrape().get("resilience4j_circuitbreaker_calls_seconds_count", &labels), 400.0);
}
