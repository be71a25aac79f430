use resile::settings::{Format, Settings, Sources};

use super::{errors, yaml};

#[test]
fn every_error_of_every_file_is_told_at_once_in_order() {
    let base = "resilience4j:
  circuitbreaker:
    instances:
      email-smtp:
        failure-rate-threshold: 0
        failure-rate-treshold: 50
        wait-duration-in-open-state: soon
  retyr: {}
  retry.instances.mail.max-attempts: ${ATTEMPTS}";
    let profile = "[resilience4j.bulkhead.instances.mail]\nmax_concurrent_calls = 0\n";
    let broken = "resilience4j: [";
    let errors = Sources::new()
        .text(base, Format::Yaml, "base.yml")
        .text(profile, Format::Toml, "live.toml")
        .text(broken, Format::Yaml, "broken.yml")
        .file("no/such/file.json")
        .file("no/such/file.ini")
        .environment(|name| (name == "ATTEMPTS").then(|| "many".to_owned()))
        .load()
        .expect_err("wrong");
    let told = errors.to_string();
    let lines: Vec<&str> = told.lines().collect();
    let smtp = "resilience4j.circuitbreaker.instances.email-smtp";
    let expected = [
        format!("base.yml:5: {smtp}.failure-rate-threshold = 0: must be more than 0 and at most 100 percent"),
        format!(
            "base.yml:6: {smtp}.failure-rate-treshold = 50: there is no such key; did you mean 'failure-rate-threshold'?"
        ),
        format!(
            "base.yml:7: {smtp}.wait-duration-in-open-state = soon: must be a duration such as 500ms, 60s, 5m, 2h, 1d or \
             PT1M, or a whole number of milliseconds"
        ),
        "base.yml:8: resilience4j.retyr: there is no such key; did you mean 'retry'?".into(),
        "base.yml:9: resilience4j.retry.instances.mail.max-attempts = many: must be a whole number from 1 to 4294967295"
            .into(),
        "live.toml:2: resilience4j.bulkhead.instances.mail.max_concurrent_calls = 0: must be a whole number from 1 to \
         2147483647"
            .into(),
    ];
    assert_eq!(lines[..6], expected);
    assert!(lines[6].starts_with("broken.yml:"), "{told}");
    assert!(lines[7].starts_with("no/such/file.json: cannot be read: "), "{told}");
    assert_eq!(lines[8], "no/such/file.ini: must be a .yaml, .yml, .toml or .json file");
    assert_eq!(lines.len(), 9);

    let first = &errors[0];
    assert_eq!((&*first.file, first.line), ("base.yml", Some(5)));
    assert_eq!(first.path, format!("{smtp}.failure-rate-threshold"));
    assert_eq!((first.value.as_str(), &*first.rule), ("0", "must be more than 0 and at most 100 percent"));
}

#[test]
fn what_needs_code_is_refused_with_what_to_do() {
    for (kind, key, value, told) in [
        ("circuitbreaker", "recordExceptions", "[java.io.IOException]", "breaker.classify("),
        ("circuitbreaker", "ignore-exceptions", "[java.io.IOException]", "breaker.classify("),
        ("circuitbreaker", "recordFailurePredicate", "com.example.P", "breaker.classify("),
        ("circuitbreaker", "record_result_predicate", "com.example.P", "breaker.classify("),
        ("circuitbreaker", "ignoreExceptionPredicate", "com.example.P", "breaker.classify("),
        ("retry", "retry-exceptions", "\n      - java.io.IOException", "retry.retry_if("),
        ("retry", "ignoreExceptions", "[a]", "retry.retry_if("),
        ("retry", "retryExceptionPredicate", "a", "retry.retry_if("),
        ("retry", "resultPredicate", "a", "retry.retry_if("),
        ("retry", "consumeResultBeforeRetryAttempt", "a", "retry.retry_if("),
        ("retry", "intervalBiFunction", "a", "Decision::RetryAfter(wait)"),
        ("timelimiter", "cancel-running-future", "false", "time_limiter.detached()"),
        ("timelimiter", "cancelRunningFuture", "${UNSET}", "no variable UNSET"),
    ] {
        let told_of = errors(&format!("resilience4j.{kind}.instances.a:\n    {key}: {value}"));
        assert!(matches!(&told_of[..], [error] if error.contains(told) && error.contains(key)), "{told_of:?}");
    }
}

#[test]
fn the_order_of_aspects_is_refused_with_where_order_is_said() {
    for (kind, key) in [
        ("circuitbreaker", "circuit-breaker-aspect-order"),
        ("retry", "retryAspectOrder"),
        ("ratelimiter", "rateLimiterAspectOrder"),
        ("bulkhead", "bulkhead_aspect_order"),
        ("timelimiter", "time-limiter-aspect-order"),
    ] {
        assert_eq!(
            errors(&format!("resilience4j.{kind}.{key}: 1")),
            [format!(
                "a.yml:1: resilience4j.{kind}.{key} = 1: must be left out: the order of policies is the order in the type \
                 of the pipeline, outermost first"
            )]
        );
    }
}

#[test]
fn growing_and_spread_waits_together_are_refused_for_a_circuit_breaker_only() {
    let text = "resilience4j.circuitbreaker:
  configs.default: { enableExponentialBackoff: true }
  instances.a: { enableRandomizedWait: true }";
    let told = errors(text);
    let start = "a.yml:3: resilience4j.circuitbreaker.instances.a.enableRandomizedWait = true: must not be true where ";
    assert!(matches!(&told[..], [error] if error.starts_with(start)), "{told:?}");
    assert!(yaml(&text.replace("circuitbreaker", "retry")).is_ok());
}

#[test]
fn bases_that_go_round_are_refused_with_the_round() {
    let text = "resilience4j.retry:
  configs:
    a: { baseConfig: b }
    b: { baseConfig: c }
    c: { baseConfig: a }
    d: { baseConfig: a }
    e: { baseConfig: e }
  instances.mail: { baseConfig: d }";
    assert_eq!(
        errors(text),
        [
            "a.yml:3: resilience4j.retry.configs.a.baseConfig = b: bases must not go round: a -> b -> c -> a",
            "a.yml:7: resilience4j.retry.configs.e.baseConfig = e: bases must not go round: e -> e",
        ]
    );
}

#[test]
fn bases_upon_bases_without_end_are_refused() {
    let chain = |length: usize| {
        let configs: String = (1..length).map(|n| format!("c{n}: {{ baseConfig: c{} }}, ", n + 1)).collect();
        format!("resilience4j.retry.configs: {{ {configs} c{length}: {{}} }}")
    };
    assert!(yaml(&chain(32)).is_ok());
    assert_eq!(
        errors(&chain(33)),
        ["a.yml:1: resilience4j.retry.configs.c33: must not stand on more than 32 configs, one upon the other"]
    );
}

#[test]
fn an_unknown_base_is_refused_once() {
    let text = "resilience4j.retry:
  configs.default: { baseConfig: strikt }
  configs.strict: {}
  instances.mail: { baseConfig: default }
  instances.post: { baseConfig: another }";
    assert_eq!(
        errors(text),
        [
            "a.yml:2: resilience4j.retry.configs.default.baseConfig = strikt: must be the name of a config; did you mean \
             'strict'?",
            "a.yml:5: resilience4j.retry.instances.post.baseConfig = another: must be the name of a config",
        ]
    );
}

#[test]
fn settings_that_do_not_fit_together_are_refused_where_they_stand() {
    let text = "resilience4j:
  thread-pool-bulkhead.instances.a: { core-thread-pool-size: 5, max-thread-pool-size: 4 }
  ratelimiter.instances.a: { burst: 5 }
  circuitbreaker.instances.a:
    minimum-number-of-calls-in-half-open-state: 11
  circuitbreaker.instances.b: { sliding-window-type: TIME_BASED, sliding-window-size: 90000 }
  retry.instances.a: { enable-exponential-backoff: true, wait-duration: 0 }";
    assert_eq!(
        errors(text),
        [
            "a.yml:2: resilience4j.thread-pool-bulkhead.instances.a.core-thread-pool-size = 5: must be at least 1 and at \
             most max_thread_pool_size",
            "a.yml:3: resilience4j.ratelimiter.instances.a.burst = 5: must be left out unless the algorithm is Smooth",
            "a.yml:5: resilience4j.circuitbreaker.instances.a.minimum-number-of-calls-in-half-open-state = 11: must be 1 \
             to the permitted_number_of_calls_in_half_open_state of 10 calls",
            "a.yml:6: resilience4j.circuitbreaker.instances.b.sliding-window-size = 90000: must be 1 to 86400 seconds",
            "a.yml:7: resilience4j.retry.instances.a.wait-duration = 0: the initial interval must be more than zero",
        ]
    );
}

#[test]
fn a_missing_variable_is_told_with_how_to_give_a_default() {
    let text = "resilience4j.retry.configs.default.max-attempts: ${ATTEMPTS}\nresilience4j.retry.instances.a: {}";
    assert_eq!(
        errors(text),
        ["a.yml:1: resilience4j.retry.configs.default.max-attempts = ${ATTEMPTS}: the environment has no variable \
          ATTEMPTS, and there is no default: ${ATTEMPTS:default}"]
    );
    assert_eq!(
        errors("resilience4j.retry.instances.a.max-attempts: ${ATTEMPTS:}"),
        ["a.yml:1: resilience4j.retry.instances.a.max-attempts: must have a value"]
    );
}

#[test]
fn what_stands_at_the_wrong_place_is_told_where_it_belongs() {
    assert_eq!(
        errors(
            "resilience4j.retry:
  max-attempts: 3
  instance: {}
  instances:
    a: 5
    b: { max-attempts: [3], wait-duration: }
    '': {}
  configs: text
  tags: { team: { name: x } }"
        ),
        [
            "a.yml:2: resilience4j.retry.max-attempts = 3: must stand in 'instances.<name>.max-attempts' or \
             'configs.<name>.max-attempts'",
            "a.yml:3: resilience4j.retry.instance: there is no such key; did you mean 'instances'?",
            "a.yml:5: resilience4j.retry.instances.a = 5: must be a map of keys and values",
            "a.yml:6: resilience4j.retry.instances.b.max-attempts: must be one value, not a list or map of them",
            "a.yml:6: resilience4j.retry.instances.b.wait-duration: must have a value",
            "a.yml:7: resilience4j.retry.instances.: must have a name",
            "a.yml:8: resilience4j.retry.configs = text: must be a map of keys and values",
            "a.yml:9: resilience4j.retry.tags.team: must be one value, not a list or map of them",
        ]
    );
    assert_eq!(errors("- a\n- b"), ["a.yml:1: must be a map of keys and values"]);
}

#[test]
fn a_key_given_twice_is_refused_also_in_another_case() {
    assert_eq!(
        errors("resilience4j.retry.instances.a:\n  max-attempts: 3\n  maxAttempts: 4"),
        ["a.yml:3: resilience4j.retry.instances.a.maxAttempts: is given twice: first as \
          'resilience4j.retry.instances.a.max-attempts' in line 2"]
    );
    assert_eq!(errors("a: 1\nb: 2\na: 3"), ["a.yml:3: the key 'a' is given twice"]);
    let json = "{\"a\": 1,\n \"b\": {\"c\": 1,\n \"c\": 2}}";
    let errors = Settings::parse(json, Format::Json, "a.json").expect_err("twice").to_string();
    assert_eq!(errors, "a.json:3: the key 'c' is given twice");
    let errors = Settings::parse("a = 1\n[b]\nc = 1\nc = 2", Format::Toml, "a.toml").expect_err("twice").to_string();
    assert_eq!(errors, "a.toml:4: duplicate key");
}

#[test]
fn broken_texts_are_told_with_their_line() {
    for (format, text, line) in [
        (Format::Yaml, "a: 1\nb: [1,\nc: }", 3),
        (Format::Yaml, "a: 1\nb: *unknown", 2),
        (Format::Yaml, "a: 1\n---\nb: 2", 2),
        (Format::Toml, "a = 1\nb = ", 2),
        (Format::Json, "{\"a\": 1,\n\"b\": }", 2),
        (Format::Json, "{\"a\": 1}\n{}", 2),
        (Format::Json, "{\"a\":\n\"\\ud800\"}", 2),
    ] {
        let errors = Settings::parse(text, format, "a").expect_err(text);
        assert_eq!(errors[0].line, Some(line), "{text}: {errors}");
        assert_eq!(errors[0].path, "");
    }
    let several = Settings::parse("a = \nb = 1\nc = ", Format::Toml, "a").expect_err("broken");
    assert_eq!(several.iter().map(|error| error.line).collect::<Vec<_>>(), [Some(1), Some(3)]);
}

#[test]
fn a_long_value_is_shortened_and_control_characters_are_escaped() {
    let text = format!("resilience4j.retry.instances.a.max-attempts: \"{}\\n\"", "9\\e".repeat(300));
    let told = errors(&text);
    assert!(told[0].contains("9\\u{1b}9\\u{1b}") && told[0].contains('…'), "{told:?}");
    assert!(told[0].len() < 1_500 && !told[0].contains('\x1b'));
}
