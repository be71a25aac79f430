use std::{
    fs,
    path::{Path, PathBuf},
    process,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
        mpsc::channel,
    },
    time::Duration,
};

use proptest::prelude::*;
use resile::{
    Resilience, bulkhead, circuit_breaker,
    circuit_breaker::State,
    registry::Change,
    retry,
    settings::{Format, Look, Settings, Sources, Watcher, watch, watch_every},
};

use super::assert_same;

/// So seldom that only the test itself looks.
const NEVER: Duration = Duration::from_secs(86_400);

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("resile-settings-{}-{number}", process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.file(name);
        fs::write(&path, text).expect("written");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn attempts(attempts: u32) -> String {
    format!("resilience4j.retry.instances.mail.max-attempts: {attempts}")
}

fn max_attempts(resilience: &Resilience) -> String {
    format!("{:?}", resilience.retries().get("mail").config())
}

fn config(attempts: u32) -> String {
    format!("{:?}", retry::Config::default().max_attempts(attempts))
}

/// Watches files that are looked at by the test alone.
fn watched(paths: &[&Path]) -> (Resilience, Watcher, Arc<Mutex<Vec<String>>>) {
    let resilience = Resilience::new();
    let sources = paths.iter().fold(Sources::new(), Sources::file);
    let watcher = watch_every(NEVER, sources, &resilience).expect("valid");
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let subscription = resilience.on_change(move |change| {
        tell.lock().expect("no panic").push(match change {
            Change::Reloaded => "reloaded".to_owned(),
            Change::Refused { errors } => errors.join("\n"),
            other => format!("{other:?}"),
        });
    });
    subscription.forever();
    (resilience, watcher, told)
}

#[test]
fn settings_reach_instances_that_exist_and_keep_their_state() {
    let resilience = Resilience::new();
    let breaker = resilience.circuit_breakers().get("orders");
    let bulkhead = resilience.bulkheads().get("orders");
    breaker.transition_to_open().expect("allowed");
    let text = "resilience4j:
      circuitbreaker: { configs.default.failureRateThreshold: 20, tags: { team: mail } }
      bulkhead.instances.orders: { maxConcurrentCalls: 3, tags: { tier: 1 } }";
    let settings = Settings::parse(text, Format::Yaml, "a").expect("valid");
    settings.apply(&resilience).expect("checked");

    assert_eq!(breaker.state(), State::Open);
    assert_same(&breaker.config(), &circuit_breaker::Config::default().failure_rate_threshold(20.0));
    assert_same(&bulkhead.config(), &bulkhead::Config::default().max_concurrent_calls(3));
    assert_eq!(resilience.circuit_breakers().tags("orders")["team"], "mail");
    assert_eq!(resilience.bulkheads().tags("orders")["tier"], "1");
    assert_same(&resilience.circuit_breakers().get("later").config(), &breaker.config());

    let nothing = Settings::parse("", Format::Yaml, "a").expect("valid");
    nothing.apply(&resilience).expect("checked");
    assert_same(&breaker.config(), &circuit_breaker::Config::default());
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn a_change_of_a_file_is_taken_and_told() {
    let folder = Folder::new();
    let path = folder.write("a.yml", &attempts(4));
    let (resilience, watcher, told) = watched(&[&path]);
    assert_eq!(max_attempts(&resilience), config(4));
    assert_eq!(watcher.check(), Look::Unchanged);

    folder.write("a.yml", &attempts(5));
    assert_eq!(watcher.check(), Look::Reloaded);
    assert_eq!(watcher.check(), Look::Unchanged);
    assert_eq!(max_attempts(&resilience), config(5));
    assert_same(&watcher.settings().retry("mail"), &retry::Config::default().max_attempts(5));
    assert_eq!(*told.lock().unwrap(), ["reloaded"]);
}

#[test]
fn an_invalid_change_is_refused_whole_and_the_next_valid_one_is_taken() {
    let folder = Folder::new();
    let path = folder.write("a.yml", &attempts(4));
    let (resilience, watcher, told) = watched(&[&path]);

    // One part of it would be valid.
    folder.write("a.yml", &format!("{}\nresilience4j.bulkhead.instances.mail.maxConcurrentCalls: 0", attempts(9)));
    let Look::Refused(errors) = watcher.check() else { panic!("refused") };
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].line, Some(2));
    assert_eq!(watcher.check(), Look::Unchanged, "told once");
    assert_eq!(max_attempts(&resilience), config(4));
    assert_same(&watcher.settings().retry("mail"), &retry::Config::default().max_attempts(4));
    assert_eq!(*told.lock().unwrap(), [errors.to_string()]);

    folder.write("a.yml", &attempts(6));
    assert_eq!(watcher.check(), Look::Reloaded);
    assert_eq!(max_attempts(&resilience), config(6));
    assert_eq!(told.lock().unwrap()[1..], ["reloaded"]);
}

#[test]
fn a_file_that_vanishes_for_a_moment_leaves_the_settings_as_they_are() {
    let folder = Folder::new();
    let path = folder.write("a.yml", &attempts(4));
    let (resilience, watcher, told) = watched(&[&path]);

    fs::remove_file(&path).expect("removed");
    let Look::Refused(errors) = watcher.check() else { panic!("refused") };
    assert!(errors[0].rule.starts_with("cannot be read: "), "{errors}");
    assert_eq!(watcher.check(), Look::Unchanged);
    assert_eq!(max_attempts(&resilience), config(4));

    fs::create_dir(&path).expect("a folder in its place");
    assert!(matches!(watcher.check(), Look::Refused(errors) if errors[0].rule.contains("not a regular file")));
    fs::remove_dir(&path).expect("removed");
    folder.write("a.yml", &attempts(4));
    assert_eq!(watcher.check(), Look::Reloaded, "all is well again");
    assert_eq!(told.lock().unwrap().len(), 3);
}

#[cfg(unix)]
#[test]
fn a_mounted_config_map_is_followed_through_the_swap_of_its_link() {
    use std::os::unix::fs::symlink;

    let folder = Folder::new();
    for (version, text) in [("..1", attempts(4)), ("..2", attempts(5))] {
        fs::create_dir(folder.file(version)).expect("a folder");
        folder.write(&format!("{version}/a.yml"), &text);
    }
    symlink("..1", folder.file("..data")).expect("a link");
    symlink("..data/a.yml", folder.file("a.yml")).expect("a link");
    let path = folder.file("a.yml");
    let (resilience, watcher, _) = watched(&[&path]);
    assert_eq!(max_attempts(&resilience), config(4));

    symlink("..2", folder.file("..data_tmp")).expect("a link");
    fs::rename(folder.file("..data_tmp"), folder.file("..data")).expect("swapped");
    fs::remove_dir_all(folder.file("..1")).expect("removed");
    assert_eq!(watcher.check(), Look::Reloaded);
    assert_eq!(max_attempts(&resilience), config(5));
}

#[test]
fn every_file_is_watched_and_a_profile_stays_over_the_first() {
    let folder = Folder::new();
    let base = folder.write("a.yml", &format!("{}\nresilience4j.retry.instances.mail.wait-duration: 1s", attempts(4)));
    let profile = folder.write("live.toml", "");
    let (resilience, watcher, _) = watched(&[&base, &profile]);
    folder.write("live.toml", "resilience4j.retry.instances.mail = { max-attempts = 8 }");
    assert_eq!(watcher.check(), Look::Reloaded);
    folder.write("a.yml", &attempts(5));
    assert_eq!(watcher.check(), Look::Reloaded);
    assert_eq!(max_attempts(&resilience), config(8));
}

#[test]
fn settings_that_are_wrong_at_the_start_are_an_error() {
    let folder = Folder::new();
    let path = folder.write("a.yml", &attempts(0));
    let resilience = Resilience::new();
    let errors = watch(Sources::new().file(&path), &resilience).expect_err("wrong");
    assert_eq!(errors.len(), 1);
    assert!(watch(Sources::new().file(folder.file("none.yml")), &resilience).is_err());
    assert_eq!(resilience.retries().declared(), [""; 0]);
}

#[test]
fn settings_and_their_watcher_move_between_threads() {
    fn moves<T: Send + Sync + 'static>() {}
    moves::<Settings>();
    moves::<Sources>();
    moves::<Watcher>();
    moves::<Look>();
}

#[test]
fn a_file_that_grows_too_large_is_refused() {
    let folder = Folder::new();
    let path = folder.write("a.yml", &attempts(4));
    let (_, watcher, _) = watched(&[&path]);
    folder.write("a.yml", &"#".repeat((1 << 20) + 1));
    assert!(matches!(watcher.check(), Look::Refused(errors) if errors[0].rule.contains("larger than 1 MiB")));
}

#[test]
fn a_listener_that_looks_again_does_no_harm() {
    let folder = Folder::new();
    let path = folder.write("a.yml", &attempts(4));
    let (resilience, watcher, told) = watched(&[&path]);
    let watcher = Arc::new(watcher);
    let looked = Arc::new(Mutex::new(None));
    let subscription = resilience.on_change({
        let (watcher, looked) = (Arc::clone(&watcher), Arc::clone(&looked));
        move |_| *looked.lock().unwrap() = Some((watcher.check(), format!("{:?}", watcher.settings().retry("mail"))))
    });
    folder.write("a.yml", &attempts(5));
    assert_eq!(watcher.check(), Look::Reloaded);
    assert_eq!(*looked.lock().unwrap(), Some((Look::Unchanged, config(5))));
    assert_eq!(told.lock().unwrap().len(), 1);
    drop(subscription);
}

/// The thread's own looks are in real time, so this waits to be told of one.
#[test]
fn the_watcher_looks_by_itself_until_it_is_dropped() {
    let folder = Folder::new();
    let path = folder.write("a.yml", &attempts(4));
    let resilience = Resilience::new();
    let watcher = watch_every(Duration::ZERO, Sources::new().file(&path), &resilience).expect("valid");
    let (tell, told) = channel();
    let telling = resilience.on_change(move |change| {
        let _ = tell.send(change.clone());
    });
    folder.write("a.yml", &attempts(5));
    // A file that is written in place may be seen before it is whole.
    while told.recv_timeout(Duration::from_secs(30)).expect("a look within 30 s") != Change::Reloaded {}
    assert_eq!(max_attempts(&resilience), config(5));
    drop((watcher, telling));
    folder.write("a.yml", &attempts(6));
    assert_eq!(max_attempts(&resilience), config(5));
}

#[derive(Debug, Clone)]
enum Step {
    Write(usize),
    Remove,
    Ask,
    Open,
}

/// Valid and invalid contents.
const TEXTS: [&str; 6] = [
    "",
    "resilience4j.circuitbreaker.configs.default: { slidingWindowSize: 10, failureRateThreshold: 30 }",
    "resilience4j.circuitbreaker: { configs.orders: { slidingWindowSize: 5 }, instances.mail: { baseConfig: orders } }",
    "resilience4j.circuitbreaker.instances: { orders: { slidingWindowType: TIME_BASED }, mail: { initialState: OPEN } }",
    "resilience4j.circuitbreaker.instances: { orders: { slidingWindowSize: 7 }, mail: { slidingWindowSize: 0 } }",
    "resilience4j: [",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn after_any_reloads_it_is_as_if_the_last_valid_settings_had_always_been_there(
        steps in prop::collection::vec(
            prop_oneof![
                4 => (0..TEXTS.len()).prop_map(Step::Write),
                1 => Just(Step::Remove),
                2 => Just(Step::Ask),
                1 => Just(Step::Open),
            ],
            1..12,
        ),
    ) {
        let folder = Folder::new();
        let path = folder.write("a.yml", TEXTS[0]);
        let (resilience, watcher, _) = watched(&[&path]);
        let mut last_valid = TEXTS[0];
        let mut open = false;
        for step in steps {
            let breakers = resilience.circuit_breakers();
            match step {
                Step::Write(index) => {
                    folder.write("a.yml", TEXTS[index]);
                    if index < 4 {
                        last_valid = TEXTS[index];
                    }
                }
                Step::Remove => drop(fs::remove_file(&path)),
                Step::Ask => drop(breakers.get("mail")),
                Step::Open => {
                    breakers.get("orders").transition_to_forced_open().expect("allowed");
                    open = true;
                }
            }
            watcher.check();
        }
        let fresh = Resilience::new();
        Settings::parse(last_valid, Format::Yaml, "a").expect("valid").apply(&fresh).expect("checked");
        for name in ["orders", "mail", "another"] {
            let (found, expected) = (resilience.circuit_breakers(), fresh.circuit_breakers());
            assert_same(&found.get(name).config(), &expected.get(name).config());
        }
        if open {
            prop_assert_eq!(resilience.circuit_breakers().get("orders").state(), State::ForcedOpen);
        }
    }
}
