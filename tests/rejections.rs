//! What a rejection tells a caller, whichever policy it is of.

use std::{future::ready, time::Duration};

use resile::{
    BulkheadFull, CircuitOpen, Clock, Error, RateLimited, RateLimiter, Rejected, RetriesExhausted, TimedOut,
    event::{PolicyKind, State},
    rate_limiter,
};

const SECOND: Duration = Duration::from_secs(1);
const NANO: Duration = Duration::from_nanos(1);

#[test]
fn every_rejection_tells_who_rejected_with_what_status_and_whether_the_call_was_started() {
    let cases: [(Rejected, PolicyKind, u16, bool); 5] = [
        (CircuitOpen::new("mail", State::Open).into(), PolicyKind::CircuitBreaker, 503, true),
        (BulkheadFull::new("mail", 25).into(), PolicyKind::Bulkhead, 503, true),
        (RateLimited::new("mail", 1, 50).into(), PolicyKind::RateLimiter, 429, true),
        (TimedOut::new("mail", SECOND).into(), PolicyKind::TimeLimiter, 503, false),
        (RetriesExhausted::new("mail", 3).into(), PolicyKind::Retry, 503, false),
    ];
    for (rejected, policy, status, refusal) in cases {
        assert_eq!((rejected.name(), rejected.policy()), ("mail", policy));
        assert_eq!((rejected.http_status(), rejected.is_refusal()), (status, refusal), "{policy:?}");
        assert_eq!((rejected.retry_after(), rejected.retry_after_secs()), (None, None), "{policy:?}");
    }
}

#[test]
fn the_seconds_until_a_retry_are_rounded_up() {
    let cases =
        [(Duration::ZERO, 0), (NANO, 1), (SECOND - NANO, 1), (SECOND, 1), (SECOND + NANO, 2), (60 * SECOND + NANO, 61)];
    for (wait, seconds) in cases {
        let rejected = Rejected::from(CircuitOpen::new("mail", State::Open).with_retry_after(wait));
        assert_eq!((rejected.retry_after(), rejected.retry_after_secs()), (Some(wait), Some(seconds)));
    }
}

#[test]
fn a_rate_limit_tells_when_to_come_back() {
    let clock = Clock::manual();
    let config = rate_limiter::Config::default()
        .limit_for_period(1)
        .limit_refresh_period(1500 * Duration::from_millis(1))
        .timeout_duration(Duration::ZERO)
        .clock(&clock);
    let limiter = RateLimiter::new("mail", config).expect("settings that can be");
    assert_eq!(clock.block_on(limiter.call(|| ready(Ok::<_, ()>(1)))), Ok(1));
    let Err(Error::Rejected(rejected)) = clock.block_on(limiter.call(|| ready(Ok::<_, ()>(2)))) else {
        panic!("not refused")
    };
    assert_eq!((rejected.http_status(), rejected.retry_after_secs()), (429, Some(2)));
}
