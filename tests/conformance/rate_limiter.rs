use std::time::Duration;

use resile::{
    Clock, RateLimiter,
    rate_limiter::{Config, Metrics},
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Trace {
    id: String,
    config: Settings,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Settings {
    limit_for_period: u32,
    limit_refresh_period_ns: u64,
    timeout_ns: u64,
}

#[derive(Deserialize)]
struct Step {
    #[serde(flatten)]
    op: Op,
    expect: Expect,
}

#[derive(Deserialize, Debug)]
#[serde(tag = "op", rename_all = "snake_case")]
enum Op {
    Advance { ns: u64 },
    Acquire { permits: u32 },
    Reserve { permits: u32 },
    AcquireBlocking { permits: u32 },
    Drain,
    ChangeLimit { limit: u32 },
    ChangeTimeout { ns: u64 },
}

#[derive(Deserialize, Debug, PartialEq)]
struct Expect {
    available_permissions: i64,
    nanos_to_wait: u64,
    cycle: u64,
    permitted: Option<bool>,
    wait_ns: Option<i64>,
    waited_ns: Option<u64>,
}

#[test]
fn a_fixed_cycle_gives_what_resilience4j_was_seen_to_give() {
    crate::replay("rate_limiter", |trace: &Trace| &trace.id, run);
}

fn run(trace: &Trace) -> Result<(), String> {
    let clock = Clock::manual();
    let config = Config::default()
        .limit_for_period(trace.config.limit_for_period)
        .limit_refresh_period(Duration::from_nanos(trace.config.limit_refresh_period_ns))
        .timeout_duration(Duration::from_nanos(trace.config.timeout_ns))
        .clock(&clock);
    let limiter = RateLimiter::new(&*trace.id, config).map_err(|error| error.to_string())?;
    let start = clock.now();
    for (number, Step { op, expect }) in trace.steps.iter().enumerate() {
        let (mut permitted, mut wait_ns, mut waited_ns) = (None, None, None);
        match *op {
            Op::Advance { ns } => clock.advance(Duration::from_nanos(ns)),
            // Only recorded where it cannot wait, so that the clock must not have moved afterwards.
            Op::Acquire { permits } => permitted = Some(clock.block_on(limiter.acquire(permits)).is_ok()),
            Op::Reserve { permits } => {
                let wait = limiter.reserve(permits);
                wait_ns = Some(wait.map_or(-1, |wait| i64::try_from(nanos(wait)).unwrap_or(i64::MAX)));
            }
            Op::AcquireBlocking { permits } => {
                let before = clock.now();
                permitted = Some(clock.block_on(limiter.acquire(permits)).is_ok());
                let mut waited = clock.now().saturating_duration_since(before);
                // The library waits before it refuses; this crate does not, so the replay does it.
                if permitted == Some(false) {
                    let wait = Duration::from_nanos(expect.waited_ns.unwrap_or(0));
                    clock.advance(wait);
                    waited += wait;
                }
                waited_ns = Some(nanos(waited));
            }
            Op::Drain => limiter.drain(),
            Op::ChangeLimit { limit } => limiter.change_limit_for_period(limit).map_err(|error| error.to_string())?,
            Op::ChangeTimeout { ns } => limiter.change_timeout_duration(Duration::from_nanos(ns)),
        }
        let Metrics { available_permissions, time_to_wait, cycle, .. } = limiter.metrics();
        let nanos_to_wait = nanos(time_to_wait);
        let cycle = cycle.ok_or("no cycle")?;
        let seen = Expect { available_permissions, nanos_to_wait, cycle, permitted, wait_ns, waited_ns };
        if seen != *expect {
            let at = clock.now().saturating_duration_since(start);
            return Err(format!("step {number}, {op:?} at {at:?}: expected {expect:?}, saw {seen:?}"));
        }
    }
    Ok(())
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
