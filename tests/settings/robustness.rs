use proptest::prelude::*;
use resile::{
    event::PolicyKind,
    settings::{Format, Settings, Sources},
};

const FORMATS: [Format; 3] = [Format::Yaml, Format::Toml, Format::Json];
const YAML: &str = include_str!("resilience4j.yaml");
const TOML: &str = "
[resilience4j.circuitbreaker]
tags = { team = 'mail' }
configs.default = { sliding-window-size = 100, slow-call-duration-threshold = '10s' }
instances.orders = { base-config = 'default', failure-rate-threshold = 55.5 }
[resilience4j.thread-pool-bulkhead.instances]
'[a.b]' = { max-thread-pool-size = 4, queue-capacity = -1 }
";
const JSON: &str = r#"{ "resilience4j": {
  "retry": { "configs": { "default": { "max-attempts": 3, "enable-exponential-backoff": true } },
             "instances": { "mail": { "base-config": "default", "wait-duration": "${WAIT:1s}" } } },
  "timelimiter.instances.a.timeout-duration": "PT1.5S" } }"#;

/// Whatever it says, it is read or refused; and what is refused has something to show.
fn survives(text: &str) {
    for format in FORMATS {
        let read = Sources::new().text(text, format, "a").environment(|name| Some(name.repeat(2))).load();
        match read {
            Ok(settings) => {
                for name in settings.instances(PolicyKind::CircuitBreaker) {
                    assert!(resile::CircuitBreaker::new(name, settings.circuit_breaker(name)).is_ok());
                }
                for name in settings.instances(PolicyKind::Retry) {
                    assert!(resile::Retry::new(name, settings.retry(name)).is_ok());
                }
            }
            Err(errors) => assert!(!errors.is_empty() && !errors.to_string().is_empty()),
        }
    }
}

/// Texts out of what settings are made of, much of it at the wrong place.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "resilience4j",
        "circuitbreaker",
        "retry",
        "configs",
        "instances",
        "default",
        "a",
        "base-config",
        "tags",
        ".",
        ":",
        ": ",
        "\n",
        "\n  ",
        "\n    ",
        "{",
        "}",
        "[",
        "]",
        ",",
        "- ",
        "&a ",
        "*a",
        "<<",
        "!!str ",
        "|",
        ">",
        "'",
        "\"",
        "#",
        "---\n",
        "...\n",
        "?",
        "%",
        "${",
        "${A:",
        "60s",
        "-1",
        "1e9",
        "PT",
        "max-attempts",
        "wait-duration",
        "true",
        "null",
        "=",
        "\\u",
        "\u{feff}",
        "\t",
        "\r",
        "\0",
        "ÿ",
        "𝄞",
    ]);
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in any::<String>()) {
        survives(&text);
    }

    #[test]
    fn no_text_of_its_own_pieces_makes_it_panic(text in pieces()) {
        survives(&text);
    }

    #[test]
    fn no_change_to_a_valid_text_makes_it_panic(
        text in prop::sample::select(vec![YAML, TOML, JSON]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0..3u8, pieces()), 1..6),
    ) {
        let mut characters: Vec<char> = text.chars().collect();
        for (index, kind, piece) in changes {
            let at = index.index(characters.len() + 1);
            let end = (at + piece.chars().count()).min(characters.len());
            match kind {
                0 => drop(characters.splice(at..at, piece.chars())),
                1 => drop(characters.drain(at..end)),
                _ => drop(characters.splice(at..end, piece.chars())),
            }
        }
        survives(&characters.into_iter().collect::<String>());
    }
}

#[test]
fn the_valid_texts_are_valid() {
    for (text, format) in [(YAML, Format::Yaml), (TOML, Format::Toml), (JSON, Format::Json)] {
        Settings::parse(text, format, "a").expect("valid");
    }
}

#[test]
fn what_nests_without_end_is_refused() {
    for depth in [65, 100, 50_000] {
        let yaml = format!("a: {}{}", "[".repeat(depth), "]".repeat(depth));
        let maps = format!("a: {}", "{a: ".repeat(depth));
        let blocks: String = "- ".repeat(depth);
        let toml = format!("a = {}{}", "[".repeat(depth), "]".repeat(depth));
        let json = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        for (text, format) in [
            (&yaml, Format::Yaml),
            (&maps, Format::Yaml),
            (&blocks, Format::Yaml),
            (&toml, Format::Toml),
            (&json, Format::Json),
        ] {
            assert!(Settings::parse(text, format, "a").is_err(), "{format:?} {depth}");
        }
        let dotted = vec!["a"; depth].join(".");
        let _ = Settings::parse(&format!("{dotted} = 1\n[{dotted}]"), Format::Toml, "a");
    }
}

#[test]
fn aliases_that_stand_for_gigabytes_are_refused() {
    let mut laughs = String::from("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for level in 1..20 {
        let aliases = vec![format!("*a{}", level - 1); 9].join(", ");
        laughs += &format!("a{level}: &a{level} [{aliases}]\n");
    }
    let errors = Settings::parse(&laughs, Format::Yaml, "a").expect_err("too much");
    assert!(errors[0].rule.contains("stand for too much"), "{errors}");

    let long = format!("a: &a \"{}\"\nb: [{}]", "x".repeat(500_000), vec!["*a"; 1_000].join(", "));
    assert!(Settings::parse(&long, Format::Yaml, "a").is_err());
}

#[test]
fn a_text_that_is_too_large_is_refused() {
    let large = "#".repeat((1 << 20) + 1);
    for format in FORMATS {
        let errors = Settings::parse(&large, format, "a").expect_err("too large");
        assert_eq!(errors.to_string(), "a: must be at most 1 MiB");
    }
}
