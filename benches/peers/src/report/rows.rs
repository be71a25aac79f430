//! What the rows are called in the report, and what is to be said of them.

/// How a row is read.
#[derive(Debug)]
pub(crate) struct RowText {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    /// Two threads or more: calls a second say more than the time of one.
    pub(crate) throughput: bool,
    pub(crate) note: &'static str,
}

const fn row(id: &'static str, title: &'static str, note: &'static str) -> RowText {
    RowText { id, title, throughput: false, note }
}

const fn together(id: &'static str, title: &'static str, note: &'static str) -> RowText {
    RowText { id, title, throughput: true, note }
}

pub(crate) const ROWS: [RowText; 26] = [
    row(
        "bare",
        "The bare call",
        "An async fn that is ready at its first poll. It is in every figure below, unless said otherwise.",
    ),
    row(
        "bare_pending",
        "The bare call, pending once",
        "Pending at its first poll and ready at its second, which comes at once.",
    ),
    row(
        "clock",
        "A look at the clock",
        "No call. Resile's default clock and governor's are quanta's; the others read the standard library's.",
    ),
    row(
        "breaker_closed",
        "Circuit breaker, closed",
        "Who counts slow calls: resile by default, and `tower-resilience, slow calls`. Tower-resilience times each call even when it \
         counts none, circuitbreaker-rs times it for its metrics; recloser, failsafe and seatbelt do not time it, so that \
         they are to be read beside `resile, no slow calls`. Windows: the last 100 calls in resile, recloser and \
         tower-resilience, though the last one's only starts afresh when the state changes; 30 s in seatbelt and \
         failsafe, the latter as a moving average; everything since the start in circuitbreaker-rs.",
    ),
    row(
        "breaker_open",
        "Circuit breaker, open",
        "Resile says why with the numbers that decided it, and when to come back; recloser, failsafe, circuitbreaker-rs and \
         tower-resilience say that the circuit is open; seatbelt gives what its user's closure makes. Recloser and failsafe take a \
         future, which is made and dropped unpolled.",
    ),
    row(
        "retry_first",
        "Retry, the first attempt succeeds",
        "Resile counts the call. Backon, tokio-retry, tower and seatbelt count nothing, tower-resilience tells its listeners, of \
         which there are none.",
    ),
    row("retry_budget", "Retry with a budget", "Resile has no budget: its plain retry stands for comparison."),
    row(
        "limiter_check",
        "Rate limiter, asked for a permit",
        "A synchronous question, no call. `resile` is its `Smooth` algorithm, which is GCRA as governor's; ratelimit is a token bucket.",
    ),
    row(
        "limiter_call",
        "Rate limiter, around a call",
        "Governor and ratelimit by hand: a permit, then the call. Tower's cannot be shared between clones.",
    ),
    row(
        "limiter_check_rejected",
        "Rate limiter, refused a permit",
        "Resile's refusal carries its reason and when to come back.",
    ),
    row("limiter_call_rejected", "Rate limiter, a call rejected", "No waiting: a time-out of zero where there is one."),
    row(
        "bulkhead_admitted",
        "Bulkhead, admitted",
        "Tokio's semaphore by hand: `try_acquire`, then the call. Seatbelt has none.",
    ),
    row(
        "bulkhead_rejected",
        "Bulkhead, rejected",
        "The semaphore by hand says only that there is no permit. Tower-resilience's `reject_when_full` waits for a timer of no \
         duration, which is a millisecond of tokio's; it alone runs in a runtime that is driven.",
    ),
    row(
        "time_ready",
        "Time limiter, the call is ready at once",
        "Tokio's timer, and what stands on it, is polled in a runtime that nobody drives: the cheapest case for it, as \
         nobody has to be woken when a timer is armed.",
    ),
    row("time_pending", "Time limiter, the call is pending once", "As above: the timer is armed, and taken out again."),
    row(
        "five_policies",
        "Five policies",
        "Retry, circuit breaker, rate limiter, time limiter and bulkhead around one call. By hand: backon, recloser, governor, \
         tokio's `timeout` and `Semaphore`. Seatbelt has three of the five, tower four (no breaker).",
    ),
    row("five_policies_pending", "Five policies, the call is pending once", "The time limiter's timer is armed."),
    row(
        "four_policies",
        "Four policies",
        "Retry, circuit breaker, rate limiter and bulkhead: what is measured on the JVM and in Go, where the limiter is a fixed cycle.",
    ),
    together(
        "breaker_two_threads",
        "One circuit breaker, two threads",
        "Both threads call in a loop, as fast as they can. Who has to wait for a lock of tokio's is polled in a busy loop, \
         which is kinder to tower-resilience than a runtime, where the thread parks.",
    ),
    together("limiter_two_threads", "One rate limiter, two threads", "Each permit has a call."),
    together("bulkhead_two_threads", "One bulkhead, two threads", ""),
    together("five_policies_two_threads", "Five policies, two threads that share them", ""),
    together(
        "breaker_tasks",
        "One circuit breaker, 64 tasks on a runtime of two workers",
        "A task lets the others run after every sixteenth call, which is in the figures: see `no breaker`.",
    ),
    row(
        "window_10",
        "Circuit breaker, closed, 10 calls in a window of 60 s",
        "Resile's and seatbelt's windows are slices of time, failsafe's is a moving average, tower-resilience's keeps every call.",
    ),
    row("window_1000", "Circuit breaker, closed, 1,000 calls in a window of 60 s", ""),
    row("window_100000", "Circuit breaker, closed, 100,000 calls in a window of 60 s", ""),
];

#[cfg(test)]
mod tests {
    use super::ROWS;

    #[test]
    fn every_row_that_is_measured_is_reported() {
        let mut measured: Vec<_> = resile_peers::rows().iter().map(|row| row.id).collect();
        let mut reported: Vec<_> = ROWS.iter().map(|row| row.id).collect();
        measured.sort_unstable();
        reported.sort_unstable();
        assert_eq!(measured, reported);
    }
}
