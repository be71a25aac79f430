//! Replays what the real Resilience4j v2.4.0 was seen to do.
//!
//! The recordings lie in `tests/conformance/`. With `RESILE_CONFORMANCE_DIR` set, every `circuit_breaker*.jsonl`,
//! `rate_limiter*.jsonl` and `retry_runs*.jsonl` of that folder is replayed instead. Each file prints
//! `N traces, M mismatches`; any mismatch fails, naming file, trace and step.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::{fs, path::PathBuf};

use serde::de::DeserializeOwned;

#[path = "conformance/rate_limiter.rs"]
mod rate_limiter;

/// Replays every recording whose name begins with `prefix` and fails if any trace differs.
fn replay<T: DeserializeOwned>(prefix: &str, id: impl Fn(&T) -> &str, run: impl Fn(&T) -> Result<(), String>) {
    let folder = std::env::var_os("RESILE_CONFORMANCE_DIR")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance")), PathBuf::from);
    let mut mismatches = Vec::new();
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            name.starts_with(prefix) && name.ends_with(".jsonl")
        })
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no {prefix}*.jsonl in {}", folder.display());
    for path in files {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (mut traces, before) = (0, mismatches.len());
        for line in fs::read_to_string(&path).unwrap().lines().filter(|line| !line.trim().is_empty()) {
            let trace: T = serde_json::from_str(line).unwrap_or_else(|error| panic!("{name}: {error}"));
            traces += 1;
            if let Err(difference) = run(&trace) {
                mismatches.push(format!("{name}, trace {}, {difference}", id(&trace)));
            }
        }
        println!("{name}: {traces} traces, {} mismatches", mismatches.len() - before);
        assert!(traces > 0, "{name} holds no trace");
    }
    assert!(mismatches.is_empty(), "{}", mismatches.join("\n"));
}

#[path = "conformance/circuit_breaker.rs"]
mod circuit_breaker;

#[path = "conformance/retry.rs"]
mod retry;
