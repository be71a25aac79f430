use std::{collections::BTreeMap, time::Duration};

use resile::{
    IntervalFunction, bulkhead,
    bulkhead::thread_pool,
    circuit_breaker::{self, SlidingWindowType, State},
    event::PolicyKind,
    rate_limiter, retry,
    settings::{Format, Settings, Sources},
    time_limiter,
};

use super::{MS, SECOND, assert_same, warnings, yaml};

const ISSUE: &str = include_str!("resilience4j.yaml");

fn smtp() -> circuit_breaker::Config {
    circuit_breaker::Config::default()
        .sliding_window_size(100)
        .minimum_number_of_calls(10)
        .permitted_number_of_calls_in_half_open_state(5)
        .slow_call_duration_threshold(10 * SECOND)
        .slow_call_rate_threshold(50.0)
        .automatic_transition_from_open_to_half_open_enabled(true)
}

#[test]
fn a_file_of_resilience4j_loads_as_it_is() {
    let settings = yaml(ISSUE).expect("valid");
    let expected = smtp().failure_rate_threshold(60.0).wait_duration_in_open_state(30 * SECOND);
    assert_same(&settings.circuit_breaker("email-smtp"), &expected);
    let default = smtp().failure_rate_threshold(50.0).wait_duration_in_open_state(60 * SECOND);
    assert_same(&settings.circuit_breaker("another"), &default);

    let waits = IntervalFunction::exponential(SECOND, 2.0);
    let expected = retry::Config::default().max_attempts(5).interval_function(waits);
    assert_same(&settings.retry("email-smtp"), &expected);

    let expected =
        rate_limiter::Config::default().limit_for_period(10).limit_refresh_period(SECOND).timeout_duration(5 * SECOND);
    assert_same(&settings.rate_limiter("order-creation"), &expected);
    assert_same(&settings.rate_limiter("another"), &rate_limiter::Config::default());

    assert_eq!(settings.instances(PolicyKind::CircuitBreaker), ["email-smtp"]);
    assert_eq!(settings.instances(PolicyKind::Bulkhead), [""; 0]);
    assert_eq!(settings.warnings(), []);
}

#[test]
fn the_settings_of_the_example_service_load() {
    let settings = yaml(include_str!("../../ops/settings/resilience4j.yaml")).expect("valid");
    assert!(!settings.instances(PolicyKind::CircuitBreaker).is_empty());
    assert_eq!(settings.warnings(), []);
}

#[test]
fn the_environment_fills_in_placeholders() {
    let environment = |name: &str| match name {
        "CIRCUIT_BREAKER_SMTP_FAILURE_RATE" => Some("75".to_owned()),
        "RETRY_SMTP_MAX_ATTEMPTS" => Some("7".to_owned()),
        _ => None,
    };
    let settings = Sources::new().text(ISSUE, Format::Yaml, "a.yml").environment(environment).load().expect("valid");
    let expected = smtp().failure_rate_threshold(75.0).wait_duration_in_open_state(30 * SECOND);
    assert_same(&settings.circuit_breaker("email-smtp"), &expected);
    let waits = IntervalFunction::exponential(SECOND, 2.0);
    assert_same(&settings.retry("email-smtp"), &retry::Config::default().max_attempts(7).interval_function(waits));
}

#[test]
fn every_setting_of_a_circuit_breaker_can_be_given() {
    let settings = yaml(
        "resilience4j.circuitbreaker.instances.all:
            failure-rate-threshold: 12.5
            slow-call-rate-threshold: 25
            slow-call-duration-threshold: 2s
            permitted-number-of-calls-in-half-open-state: 7
            minimum-number-of-calls-in-half-open-state: 3
            max-wait-duration-in-half-open-state: 1m
            transition-to-state-after-wait-duration: CLOSED
            max-trial-call-duration: 0
            sliding-window-type: TIME_BASED
            sliding-window-size: 30
            minimum-number-of-calls: 200
            wait-duration-in-open-state: PT45S
            automatic-transition-from-open-to-half-open-enabled: true
            initial-state: METRICS_ONLY
            record-cancelled-slow-calls: true",
    )
    .expect("valid");
    let expected = circuit_breaker::Config::default()
        .failure_rate_threshold(12.5)
        .slow_call_rate_threshold(25.0)
        .slow_call_duration_threshold(2 * SECOND)
        .permitted_number_of_calls_in_half_open_state(7)
        .minimum_number_of_calls_in_half_open_state(3)
        .max_wait_duration_in_half_open_state(60 * SECOND)
        .transition_to_state_after_wait_duration(State::Closed)
        .max_trial_call_duration(Duration::ZERO)
        .sliding_window_type(SlidingWindowType::TimeBased)
        .sliding_window_size(30)
        .minimum_number_of_calls(200)
        .wait_duration_in_open_state(45 * SECOND)
        .automatic_transition_from_open_to_half_open_enabled(true)
        .initial_state(State::MetricsOnly)
        .record_cancelled_slow_calls(true);
    assert_same(&settings.circuit_breaker("all"), &expected);

    let settings = yaml(
        "resilience4j.circuitbreaker.instances:
            grows: { enableExponentialBackoff: true, exponentialMaxWaitDurationInOpenState: 10m }
            varies: { enableRandomizedWait: true, waitDurationInOpenState: 10s, randomizedWaitFactor: 0.1 }
            never-slow: { slowCallDurationThreshold: none }",
    )
    .expect("valid");
    let default = circuit_breaker::Config::default;
    let grows = IntervalFunction::exponential(60 * SECOND, 1.5).max(600 * SECOND);
    assert_same(&settings.circuit_breaker("grows"), &default().wait_interval_function_in_open_state(grows));
    let varies = IntervalFunction::fixed(10 * SECOND).randomized(0.1);
    assert_same(&settings.circuit_breaker("varies"), &default().wait_interval_function_in_open_state(varies));
    assert_same(&settings.circuit_breaker("never-slow"), &default().slow_call_duration_threshold(None));
}

#[test]
fn every_setting_of_a_retry_can_be_given() {
    let settings = yaml(
        "resilience4j.retry.instances:
            plain: { maxAttempts: 4, waitDuration: 0, failAfterMaxAttempts: true, maxDuration: 1m, maxRetryAfter: 2m }
            grows:
              wait-duration: 100ms
              enable-exponential-backoff: true
              exponential-backoff-multiplier: 3
              exponential-max-wait-duration: 10s
              enable-randomized-wait: true
              randomized-wait-factor: 0.25
            varies: { enable_randomized_wait: true, max_duration: none }",
    )
    .expect("valid");
    let plain = retry::Config::default()
        .max_attempts(4)
        .wait_duration(Duration::ZERO)
        .fail_after_max_attempts(true)
        .max_duration(60 * SECOND)
        .max_retry_after(120 * SECOND);
    assert_same(&settings.retry("plain"), &plain);
    let grows = IntervalFunction::exponential(100 * MS, 3.0).max(10 * SECOND).randomized(0.25);
    assert_same(&settings.retry("grows"), &retry::Config::default().interval_function(grows));
    let varies = IntervalFunction::fixed(500 * MS).randomized(0.5);
    assert_same(&settings.retry("varies"), &retry::Config::default().interval_function(varies));
}

#[test]
fn every_setting_of_the_other_kinds_can_be_given() {
    let settings = yaml(
        "resilience4j:
            ratelimiter.instances.all:
              { limit-for-period: 10, limit-refresh-period: 1s, timeout-duration: 0, algorithm: SMOOTH, burst: 3 }
            bulkhead.instances.all: { maxConcurrentCalls: 8, maxWaitDuration: 10ms, maxWaitingCalls: 0 }
            thread-pool-bulkhead.instances:
              all:
                max-thread-pool-size: 9
                core-thread-pool-size: 2
                queue-capacity: 0
                keep-alive-duration: 1s
                rejection-policy: CALLER_RUNS
              unset: { maxThreadPoolSize: 3, queueCapacity: -1 }
            timelimiter.instances.all: { timeoutDuration: 700us, cancelRunningFuture: true }",
    )
    .expect("valid");
    let limiter = rate_limiter::Config::default()
        .limit_for_period(10)
        .limit_refresh_period(SECOND)
        .timeout_duration(Duration::ZERO)
        .algorithm(rate_limiter::Algorithm::Smooth)
        .burst(3);
    assert_same(&settings.rate_limiter("all"), &limiter);
    let bulkhead = bulkhead::Config::default().max_concurrent_calls(8).max_wait_duration(10 * MS).max_waiting_calls(0);
    assert_same(&settings.bulkhead("all"), &bulkhead);
    let pool = thread_pool::Config::default()
        .max_thread_pool_size(9)
        .core_thread_pool_size(2)
        .queue_capacity(0)
        .keep_alive_duration(SECOND)
        .rejection_policy(thread_pool::RejectionPolicy::CallerRuns);
    assert_same(&settings.thread_pool_bulkhead("all"), &pool);
    assert_same(&settings.thread_pool_bulkhead("unset"), &thread_pool::Config::default().max_thread_pool_size(3));
    assert_same(&settings.time_limiter("all"), &time_limiter::Config::default().timeout_duration(700 * MS / 1000));
}

#[test]
fn keys_are_the_same_in_every_case_and_dotted() {
    let forms = [
        "resilience4j:\n  circuitbreaker:\n    instances:\n      a:\n        sliding-window-size: 7",
        "resilience4j:\n  circuitBreaker:\n    instances:\n      a:\n        slidingWindowSize: 7",
        "resilience4j:\n  circuit_breaker:\n    backends:\n      a:\n        sliding_window_size: 7",
        "resilience4j:\n  circuit-breaker.instances:\n    a:\n      SLIDING_WINDOW_SIZE: 7",
        "resilience4j.circuitbreaker:\n  instances:\n    a:\n      slidingWindowSize: 7",
        "resilience4j.circuitbreaker.instances.a.sliding-window-size: 7",
        "resilience4j.circuitbreaker.instances: {a.sliding-window-size: 7}",
        "resilience4j.circuitbreaker: {instances.a: {sliding-window-size: 7}}",
        "resilience4j.circuitbreaker.instances: {'[a]': {sliding-window-size: 7}}",
    ];
    for form in forms {
        let settings = yaml(form).expect(form);
        assert_eq!(settings.instances(PolicyKind::CircuitBreaker), ["a"], "{form}");
        assert_same(&settings.circuit_breaker("a"), &circuit_breaker::Config::default().sliding_window_size(7));
    }
}

#[test]
fn names_of_instances_are_taken_as_they_are() {
    let settings = yaml(
        "resilience4j.bulkhead.instances:
            Mail_Out: { maxConcurrentCalls: 1 }
            mail-out: { maxConcurrentCalls: 2 }
            smtp.example.org: { maxConcurrentCalls: 3 }
            '[imap.example.org]': { maxConcurrentCalls: 4 }
            pop.example.org.max-concurrent-calls: 5
            idle:",
    )
    .expect("valid");
    for (name, calls) in
        [("Mail_Out", 1), ("mail-out", 2), ("smtp.example.org", 3), ("imap.example.org", 4), ("pop.example.org", 5)]
    {
        assert_same(&settings.bulkhead(name), &bulkhead::Config::default().max_concurrent_calls(calls));
    }
    assert_eq!(settings.instances(PolicyKind::Bulkhead).len(), 6);
}

#[test]
fn a_value_is_found_along_the_bases_property_by_property() {
    let settings = yaml(
        "resilience4j.retry:
            configs:
              default: { maxAttempts: 2, failAfterMaxAttempts: true }
              slow: { baseConfig: slower, waitDuration: 2s }
              slower: { waitDuration: 9s, maxRetryAfter: 3m }
              own: { maxAttempts: 6 }
            instances:
              own: { waitDuration: 1s }
              based: { baseConfig: slow, maxAttempts: 9 }
              plain: { waitDuration: 4s }
              slow: { baseConfig: slow }",
    )
    .expect("valid");
    let config = retry::Config::default;
    let cases = [
        ("own", config().max_attempts(6).wait_duration(SECOND)),
        ("based", config().max_attempts(9).wait_duration(2 * SECOND).max_retry_after(180 * SECOND)),
        ("plain", config().max_attempts(2).fail_after_max_attempts(true).wait_duration(4 * SECOND)),
        ("slow", config().wait_duration(2 * SECOND).max_retry_after(180 * SECOND)),
        ("slower", config().wait_duration(9 * SECOND).max_retry_after(180 * SECOND)),
        ("never named", config().max_attempts(2).fail_after_max_attempts(true)),
    ];
    for (name, expected) in cases {
        assert_same(&settings.retry(name), &expected);
    }
}

#[test]
fn an_instance_may_switch_off_what_its_base_switched_on() {
    let settings = yaml(
        "resilience4j.retry:
            configs.default: { waitDuration: 1s, enableExponentialBackoff: true, exponentialBackoffMultiplier: 3 }
            instances.even: { enableExponentialBackoff: false }
            instances.later: { waitDuration: 5s }",
    )
    .expect("valid");
    assert_same(&settings.retry("even"), &retry::Config::default().wait_duration(SECOND));
    let later = IntervalFunction::exponential(5 * SECOND, 3.0);
    assert_same(&settings.retry("later"), &retry::Config::default().interval_function(later));
}

#[test]
fn a_profile_is_laid_over_the_first_file_property_by_property() {
    let base = "resilience4j.circuitbreaker:
        tags: { team: mail, stage: test }
        configs.default: { slidingWindowSize: 50, failureRateThreshold: 40 }
        instances.orders: { waitDurationInOpenState: '${ORDERS_WAIT}', slowCallRateThreshold: 30 }";
    let profile = "[resilience4j.circuitbreaker]
        tags = { stage = 'live' }
        configs.default = { sliding_window_size = 10 }
        instances.orders = { wait_duration_in_open_state = '5s' }
        instances.mail = { failure_rate_threshold = 1 }";
    let settings = Sources::new()
        .text(base, Format::Yaml, "base.yml")
        .text(profile, Format::Toml, "live.toml")
        .environment(|_| None)
        .load()
        .expect("a variable is missing, but the profile gives another value");
    let config = circuit_breaker::Config::default().sliding_window_size(10);
    let orders = config.clone().failure_rate_threshold(40.0);
    let orders = orders.wait_duration_in_open_state(5 * SECOND).slow_call_rate_threshold(30.0);
    assert_same(&settings.circuit_breaker("orders"), &orders);
    assert_same(&settings.circuit_breaker("mail"), &config.failure_rate_threshold(1.0));
    let tags = settings.tags(PolicyKind::CircuitBreaker, "orders");
    assert_eq!(tags, BTreeMap::from([("team".into(), "mail".into()), ("stage".into(), "live".into())]));
}

#[test]
fn tags_of_an_instance_lie_over_those_of_its_configs_and_its_kind() {
    let settings = yaml(
        "resilience4j.bulkhead:
            tags: { team: a, tier: a, zone: a }
            configs.default.tags: { tier: b, zone: b }
            instances.orders.tags: { zone: c }
            instances.orders.tags.rate: 50",
    )
    .expect("valid");
    let tags = settings.tags(PolicyKind::Bulkhead, "orders");
    let expected = [("rate", "50"), ("team", "a"), ("tier", "b"), ("zone", "c")];
    assert_eq!(tags, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    assert_eq!(settings.tags(PolicyKind::Bulkhead, "another").len(), 3);
}

#[test]
fn yaml_toml_and_json_say_the_same() {
    let toml = "
        unrelated = { failure-rate = 1979-05-27 }
        [resilience4j.circuitbreaker.configs.default]
        sliding-window-size = 1_00
        slow-call-rate-threshold = 50.0
        automatic-transition-from-open-to-half-open-enabled = true
        [resilience4j.circuitbreaker.instances.email-smtp]
        base-config = 'default'
        wait-duration-in-open-state = 30000";
    let json = r#"{ "unrelated": [null, 1e400],
        "resilience4j": { "circuitbreaker": {
            "configs": { "default": {
                "sliding-window-size": 100, "slow-call-rate-threshold": 50.0,
                "automatic-transition-from-open-to-half-open-enabled": true } },
            "instances": { "email-smtp": { "base-config": "default", "wait-duration-in-open-state": "30\u0073" } } } } }"#;
    let expected = circuit_breaker::Config::default()
        .sliding_window_size(100)
        .slow_call_rate_threshold(50.0)
        .automatic_transition_from_open_to_half_open_enabled(true)
        .wait_duration_in_open_state(30 * SECOND);
    for (format, text) in [(Format::Toml, toml), (Format::Json, json)] {
        let settings = Settings::parse(text, format, "a").expect(text);
        assert_same(&settings.circuit_breaker("email-smtp"), &expected);
    }
    for empty in ["", "\n", "\u{feff}"] {
        for format in [Format::Yaml, Format::Toml, Format::Json] {
            let settings = Settings::parse(empty, format, "a").expect("nothing is valid");
            assert_same(&settings.retry("any"), &retry::Config::default());
        }
    }
}

#[test]
fn anchors_aliases_and_merge_keys_are_followed() {
    let settings = yaml(
        "x-common: &common { maxAttempts: 7, waitDuration: 1s }
x-more: &more { waitDuration: 9s, maxRetryAfter: 5s }
resilience4j.retry.instances:
  mail: { <<: *common, waitDuration: 2s }
  both: { <<: [*common, *more] }
  same: *common",
    )
    .expect("valid");
    let config = retry::Config::default().max_attempts(7);
    assert_same(&settings.retry("mail"), &config.clone().wait_duration(2 * SECOND));
    assert_same(&settings.retry("both"), &config.clone().wait_duration(SECOND).max_retry_after(5 * SECOND));
    assert_same(&settings.retry("same"), &config.wait_duration(SECOND));
}

#[test]
fn what_is_not_under_resilience4j_is_left_alone() {
    let text = "spring: { application.name: mail }\nmanagement:\n  - 1\nfailure-rate-threshold: x";
    assert_eq!(warnings(text), ["a.yml: says nothing under 'resilience4j'"]);
    assert_eq!(
        warnings("resillience4j:\n  retry: {}"),
        ["a.yml:1: resillience4j: is left alone, as all but 'resilience4j' is; did you mean that?"]
    );
    assert_eq!(warnings("spring: x\nresilience4j:"), [""; 0]);
}

#[test]
fn what_only_java_can_do_is_a_warning() {
    let found = warnings(
        "resilience4j:
  circuitbreaker:
    metrics: { enabled: true }
    configs.default: { writable-stack-trace-enabled: false, eventConsumerBufferSize: 10 }
  thread-pool-bulkhead.instances.a: { contextPropagators: [com.example.Propagator] }
  micrometer.timer: { instances: {} }
  thread.type: virtual",
    );
    assert_eq!(
        found,
        [
            "a.yml:3: resilience4j.circuitbreaker.metrics: metrics are had by the feature `metrics` of the crate, not by a \
             file",
            "a.yml:4: resilience4j.circuitbreaker.configs.default.writable-stack-trace-enabled = false: a rejection \
             carries no stack trace",
            "a.yml:4: resilience4j.circuitbreaker.configs.default.eventConsumerBufferSize = 10: no event is kept unless it \
             is asked for: by `event_log(size)`, or by the admin router, which has one size for all",
            "a.yml:5: resilience4j.thread-pool-bulkhead.instances.a.contextPropagators: a closure takes along what it \
             captures",
            "a.yml:6: resilience4j.micrometer.timer: timers of Micrometer are not policies, and there are none here",
            "a.yml:7: resilience4j.thread.type = virtual: there are no virtual threads to choose",
        ]
    );
}

#[test]
fn an_instance_may_be_allowed_to_make_the_service_unhealthy() {
    let settings = yaml(
        "resilience4j:
            circuitbreaker.configs.default.allow-health-indicator-to-fail: true
            circuitbreaker.instances.mail.allowHealthIndicatorToFail: false
            ratelimiter.instances.mail.allow_health_indicator_to_fail: true",
    )
    .expect("valid");
    let allows = |kind, name| settings.allows_health_indicator_to_fail(kind, name);
    assert!(allows(PolicyKind::CircuitBreaker, "any"));
    assert!(!allows(PolicyKind::CircuitBreaker, "mail"));
    assert!(allows(PolicyKind::RateLimiter, "mail"));
    assert!(!allows(PolicyKind::RateLimiter, "any"));
}

#[test]
fn a_minimum_above_the_count_window_is_clamped_with_a_warning() {
    let text = "resilience4j.circuitbreaker:
  configs.default: { minimum-number-of-calls: 30 }
  instances:
    small: { sliding-window-size: 20, permitted-number-of-calls-in-half-open-state: 25 }
    timed: { sliding-window-size: 20, sliding-window-type: TIME_BASED }";
    let settings = yaml(text).expect("valid");
    let small = circuit_breaker::Config::default()
        .sliding_window_size(20)
        .minimum_number_of_calls(20)
        .permitted_number_of_calls_in_half_open_state(25)
        .minimum_number_of_calls_in_half_open_state(25);
    assert_same(&settings.circuit_breaker("small"), &small);
    let timed = circuit_breaker::Config::default().sliding_window_size(20).minimum_number_of_calls(30);
    let timed = timed.sliding_window_type(SlidingWindowType::TimeBased);
    assert_same(&settings.circuit_breaker("timed"), &timed);
    assert_eq!(
        warnings(text),
        [
            "a.yml:2: resilience4j.circuitbreaker.configs.default.minimum-number-of-calls = 30: is more than the count window \
          of 20 calls holds, and is taken as 20"
        ]
    );
}
