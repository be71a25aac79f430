//! A million circuit breakers by key: what they take of memory, and how long it takes to find one.
//!
//! `cargo bench --bench registry [-- NUMBER]`. The memory is what the operating system says this process has (Linux).
#![allow(clippy::print_stdout)]

use std::{env, fs, hint::black_box, time::Duration};

use resile::{
    CircuitBreaker, Clock, Registry,
    registry::{KeyedRegistry, Limits},
};

const BATCH: usize = 1_000_000;

fn main() {
    // Cargo passes `--bench`; a test run passes nothing and is short.
    let benched = env::args().any(|argument| argument == "--bench");
    let given = env::args().skip(1).find_map(|argument| argument.parse().ok());
    let breakers: usize = given.unwrap_or(if benched { 1_000_000 } else { 1_000 });
    let keys: Vec<String> = (0..breakers).map(|number| format!("host-{number}.example.org")).collect();

    let registry = Registry::<CircuitBreaker>::new();
    let limits = Limits::default().max_idle(Duration::from_secs(3600)).max_instances(2 * breakers);
    for (what, limits) in [("without limits", Limits::default()), ("with limits", limits)] {
        let hosts: KeyedRegistry<String, CircuitBreaker> = registry.keyed("hosts", limits).expect("valid limits");
        let before = resident();
        let made = nanos_each(breakers, |number| drop(hosts.get(keys[number].as_str())));
        println!("{what}: {breakers} breakers, {made:.0} ns to make one");
        // The second time there is memory left over from the first.
        if limits == Limits::default() {
            let bytes = resident().saturating_sub(before);
            let gibibytes = bytes as f64 / (1 << 30) as f64;
            println!("{what}: {} bytes each, {gibibytes:.3} GiB in all", bytes / breakers);
        }
        let one = nanos_each(BATCH, |_| drop(black_box(hosts.get(keys[0].as_str()))));
        println!("{what}: get of the same key {one:.1} ns");
        // A step that no power of two divides goes through all of them in no order of memory.
        let any = nanos_each(BATCH, |step| drop(black_box(hosts.get(keys[step * 7_919 % breakers].as_str()))));
        println!("{what}: get of any key {any:.1} ns");
        drop(hosts);
    }
}

fn nanos_each(times: usize, mut run: impl FnMut(usize)) -> f64 {
    let clock = Clock::default();
    let began = clock.now();
    (0..times).for_each(&mut run);
    clock.now().saturating_duration_since(began).as_nanos() as f64 / times as f64
}

/// The bytes of memory this process has; zero where that cannot be read.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<usize>().ok());
    kibibytes.unwrap_or(0) * 1024
}
