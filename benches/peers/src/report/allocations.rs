//! What each contender allocates for a call.

use std::collections::BTreeMap;

use allocation_counter::measure;
use resile_peers::{Contender, rows};

const CALLS: u64 = 1_000;

/// Allocations and bytes a call, by row and contender.
pub(crate) type Allocations = BTreeMap<(String, String), (f64, f64)>;

/// Counts them, on the one thread the counter sees.
pub(crate) fn count() -> Allocations {
    let mut allocations = Allocations::new();
    for row in rows() {
        // Other threads than this one, or a window that takes long to fill.
        if ["two_threads", "tasks", "window"].iter().any(|part| row.id.contains(part)) {
            continue;
        }
        for contender in &row.contenders {
            allocations.insert((row.id.to_owned(), contender.name.to_owned()), per_call(contender));
        }
    }
    allocations
}

fn per_call(contender: &Contender) -> (f64, f64) {
    let mut run = contender.start();
    // The first calls may make what stays.
    run(CALLS / 10);
    // One run more costs what a run costs beside its calls.
    let mut counted = |calls| {
        measure(|| {
            run(calls);
        })
    };
    let (fewer, more) = (counted(1), counted(CALLS + 1));
    let each = |more: u64, fewer: u64| more.saturating_sub(fewer) as f64 / CALLS as f64;
    (each(more.count_total, fewer.count_total), each(more.bytes_total, fewer.bytes_total))
}
