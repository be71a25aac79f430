//! Settings out of a file in Resilience4j's layout, which is changed while the service runs.
//!
//! ```text
//! cargo run --example settings --features settings
//! ```
//!
//! The file is written to a folder of its own that goes at the end. A service leaves the looking to the watcher, which does
//! so every 2 s; here `check` looks at once, so nothing waits.
#![allow(clippy::print_stdout)]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use resile::{
    BoxError, Resilience,
    circuit_breaker::State,
    registry::Change,
    settings::{self, Look, Sources},
};

const AT_FIRST: &str = "
resilience4j:
  circuitbreaker:
    configs:
      default:
        sliding-window-size: 100
        failure-rate-threshold: 50
        writable-stack-trace-enabled: false  # for Java only
    instances:
      orders:
        base-config: default
        wait-duration-in-open-state: ${ORDERS_WAIT:30s}
  retry:
    instances:
      orders: { maxAttempts: 3, waitDuration: 100ms, enableExponentialBackoff: true }
";

fn main() -> Result<(), BoxError> {
    let folder = Folder::new()?;
    let file = folder.0.join("resilience.yml");
    fs::write(&file, AT_FIRST)?;
    let result = run(&file);
    drop(folder);
    result
}

fn run(file: &Path) -> Result<(), BoxError> {
    let resilience = Resilience::new();
    let changes = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&changes);
    let _subscription = resilience.on_change(move |change| {
        if let Ok(mut changes) = kept.lock() {
            changes.push(change.clone());
        }
    });

    println!("The file as it is at first:");
    let watcher = settings::watch(Sources::new().file(file).environment(|_| None), &resilience)?;
    for warning in watcher.settings().warnings() {
        println!("  warning: {warning}");
    }
    assert_eq!(watcher.settings().warnings().len(), 1);
    let breaker = resilience.circuit_breakers().get("orders");
    println!("  orders waits {:?} in the open state", breaker.config().wait_duration_in_open_state);
    assert_eq!(breaker.config().wait_duration_in_open_state, Some(Duration::from_secs(30)));

    println!("A change reaches the breaker that there is, and leaves it open:");
    breaker.transition_to_open()?;
    fs::write(file, AT_FIRST.replace("30s", "1m").replace("maxAttempts: 3", "maxAttempts: 5"))?;
    assert_eq!(watcher.check(), Look::Reloaded);
    println!("  orders waits {:?}, and is {}", breaker.config().wait_duration_in_open_state, breaker.state());
    assert_eq!(breaker.config().wait_duration_in_open_state, Some(Duration::from_secs(60)));
    assert_eq!(breaker.state(), State::Open);
    assert_eq!(resilience.retries().get("orders").config().max_attempts, 5);

    println!("A change with errors in it is refused as a whole:");
    fs::write(
        file,
        AT_FIRST.replace("failure-rate-threshold: 50", "failure-rate-treshold: 10").replace("100ms", "soon"),
    )?;
    let Look::Refused(errors) = watcher.check() else { return Err("it was to be refused".into()) };
    for error in &errors {
        println!("  line {}: {} = {}: {}", error.line.unwrap_or_default(), error.path, error.value, error.rule);
    }
    assert_eq!(errors.len(), 2);
    assert_eq!(breaker.config().wait_duration_in_open_state, Some(Duration::from_secs(60)), "as before");

    println!("The next valid one is taken:");
    fs::write(file, AT_FIRST.replace("30s", "5s"))?;
    assert_eq!(watcher.check(), Look::Reloaded);
    println!("  orders waits {:?}", breaker.config().wait_duration_in_open_state);
    assert_eq!(breaker.config().wait_duration_in_open_state, Some(Duration::from_secs(5)));

    let changes = changes.lock().map_err(|_| "a listener panicked")?;
    let refused = changes.iter().filter(|change| matches!(change, Change::Refused { .. })).count();
    println!("{} changes were told, {refused} of them refused", changes.len());
    assert_eq!((changes.len(), refused), (4, 1));
    Ok(())
}

/// A folder that goes at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("resile-example-settings-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
