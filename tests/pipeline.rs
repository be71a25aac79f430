//! Policies as one value: tuples, switches, nesting, order, and what they make of each other's refusals.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    cell::RefCell,
    future::{Future, pending, ready},
    io,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use resile::{
    Bulkhead, CallFuture, CircuitBreaker, Clock, Cx, Error, Fallback, ManualClock, Operation, Pipeline, Policy,
    RateLimiter, Rejected, Retry, TimeLimiter, bulkhead, circuit_breaker, event::State, fallback, rate_limiter, retry,
    time_limiter,
};
use support::{Counter, Five, LIMIT, MS, SECOND, Yield, drive, five, limits, taken};
use tower::{Layer, Service, service_fn};

/// Writes down that a call passed here.
#[derive(Clone)]
struct Mark(u32, Rc<RefCell<Vec<u32>>>);

impl<Op: Operation> Policy<Op> for Mark {
    type Future = Op::Future;

    fn run(self, op: Op) -> Op::Future {
        (&self).run(op)
    }
}

impl<Op: Operation> Policy<Op> for &Mark {
    type Future = Op::Future;

    fn run(self, op: Op) -> Op::Future {
        self.1.borrow_mut().push(self.0);
        op.start()
    }
}

fn breaker(clock: &ManualClock) -> CircuitBreaker {
    support::breaker(circuit_breaker::Config::default().clock(clock))
}

fn retry(clock: &ManualClock) -> Retry {
    support::retry(retry::Config::default().wait_duration(100 * MS).clock(clock))
}

fn time_limiter(clock: &ManualClock) -> TimeLimiter {
    support::time_limiter(time_limiter::Config::default().timeout_duration(SECOND).clock(clock))
}

fn bulkhead(clock: &ManualClock) -> Bulkhead {
    support::bulkhead(bulkhead::Config::default().max_concurrent_calls(1).clock(clock))
}

/// A limiter whose permits are gone, and that lets nobody wait.
fn empty_limiter(clock: &ManualClock) -> RateLimiter {
    let limiter = support::rate_limiter(limits().timeout_duration(std::time::Duration::ZERO).clock(clock));
    limiter.drain();
    limiter
}

/// A limiter of one permit every second, waited for.
fn limiter_with_a_wait(clock: &ManualClock) -> RateLimiter {
    let config = rate_limiter::Config::default().limit_for_period(1).limit_refresh_period(SECOND);
    support::rate_limiter(config.timeout_duration(SECOND).clock(clock))
}

fn counted(breaker: &CircuitBreaker) -> [u32; 2] {
    let metrics = breaker.metrics();
    [metrics.successful_calls(), metrics.failed_calls]
}

struct Shop {
    guard: Five,
}

impl Shop {
    async fn order(&self, item: &str, in_stock: bool) -> Result<usize, Error<&'static str>> {
        self.guard
            .call(|| async move {
                tokio::task::yield_now().await;
                if in_stock { Ok(item.len()) } else { Err("out of stock") }
            })
            .await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipeline_borrowed_from_a_shared_struct_is_called_from_spawned_tasks() {
    let clock = Clock::manual();
    let shop = Arc::new(Shop { guard: five(&clock) });
    let orders: Vec<_> = (0..16)
        .map(|_| {
            let shop = Arc::clone(&shop);
            tokio::spawn(async move {
                let item = String::from("a book");
                shop.order(&item, true).await
            })
        })
        .collect();
    for order in orders {
        assert_eq!(order.await.unwrap(), Ok(6));
    }
    let (retry, breaker, limiter, _, bulkhead) = shop.guard.policies();
    assert_eq!(retry.metrics().successful_calls_without_retry_attempt, 16);
    assert_eq!(counted(breaker), [16, 0]);
    assert_eq!(taken(limiter), 16);
    assert_eq!(bulkhead.metrics().concurrent_calls, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_that_borrows_does_not_keep_a_call_from_being_spawned() {
    let clock = Clock::manual();
    let config = retry::Config::default().wait_duration(std::time::Duration::ZERO).clock(&clock);
    let five = five(&clock);
    let (_, breaker, limiter, time_limiter, bulkhead) = five.policies().clone();
    let guard = Pipeline::new((support::retry(config), breaker, limiter, time_limiter, bulkhead));
    let shop = Arc::new(Shop { guard });
    let spawned = Arc::clone(&shop);
    let order = tokio::spawn(async move { spawned.order("a book", false).await });
    assert_eq!(order.await.unwrap(), Err(Error::Inner("out of stock")));
    assert_eq!(counted(&shop.guard.policies().1), [0, 3]);
}

type Answer = fn(Error<&'static str>) -> Result<usize, Error<&'static str>>;

struct ShopWithFallback {
    guard: Pipeline<(Fallback<fallback::Value<Answer>>, Five)>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fallback_outermost_can_be_held_in_a_struct_and_spawned() {
    let clock = Clock::manual();
    let nobody: Answer = |error| match error {
        Error::Rejected(Rejected::CircuitOpen(_)) => Ok(0),
        other => Err(other),
    };
    let shop = Arc::new(ShopWithFallback { guard: Pipeline::new((Fallback::value(nobody), five(&clock))) });
    let (_, five) = shop.guard.policies();
    five.policies().1.transition_to_forced_open().unwrap();
    let spawned = Arc::clone(&shop);
    let order = tokio::spawn(async move {
        let item = String::from("a book");
        spawned.guard.call(|| async { Ok(item.len()) }).await
    });
    assert_eq!(order.await.unwrap(), Ok(0));
}

/// What can be given away once.
struct Order(u32);

async fn send(order: Order) -> Result<u32, io::Error> {
    Ok(order.0)
}

#[test]
fn a_value_that_is_not_clone_moves_through_breaker_and_time_limiter() {
    let clock = Clock::manual();
    let order = Order(42);
    let guard = Pipeline::new((breaker(&clock), time_limiter(&clock)));
    assert_eq!(drive(&clock, guard.call(move || send(order))).unwrap(), 42);

    let (_, breaker, limiter, time_limiter, bulkhead) = five(&clock).policies().clone();
    let without_retry = Pipeline::new((
        Fallback::value(|error: Error<io::Error>| Err::<u32, _>(error)),
        breaker,
        limiter,
        time_limiter,
        bulkhead,
    ));
    let order = Order(43);
    assert_eq!(drive(&clock, without_retry.call(move || send(order))).unwrap(), 43);
}

#[test]
fn a_tuple_of_one_to_eight_is_run_in_the_order_it_is_written_in() {
    macro_rules! in_order {
        ($($place:literal)+) => {
            let clock = Clock::manual();
            let passed = Rc::new(RefCell::new(Vec::new()));
            let guard = Pipeline::new(($(Mark($place, Rc::clone(&passed)),)+));
            drive(&clock, guard.call(|| ready(Ok::<_, io::Error>(())))).unwrap();
            assert_eq!(passed.take(), [$($place),+]);

            // By value, as a layer runs it.
            let mut service = guard.layer(service_fn(|()| ready(Ok::<_, Error<io::Error>>(()))));
            drive(&clock, service.call(())).unwrap();
            assert_eq!(passed.take(), [$($place),+]);
        };
    }
    in_order!(1);
    in_order!(1 2);
    in_order!(1 2 3);
    in_order!(1 2 3 4);
    in_order!(1 2 3 4 5);
    in_order!(1 2 3 4 5 6);
    in_order!(1 2 3 4 5 6 7);
    in_order!(1 2 3 4 5 6 7 8);
}

#[test]
fn nested_pipelines_are_run_where_they_stand() {
    let clock = Clock::manual();
    let passed = Rc::new(RefCell::new(Vec::new()));
    let mark = |place| Mark(place, Rc::clone(&passed));
    let inner = Pipeline::new((mark(2), Pipeline::new((mark(3), mark(4)))));
    let guard = Pipeline::new((mark(1), inner, (mark(5), mark(6)), mark(7)));
    drive(&clock, guard.call(|| ready(Ok::<_, io::Error>(())))).unwrap();
    assert_eq!(passed.take(), [1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn a_policy_that_is_switched_off_is_as_if_it_were_not_there() {
    let clock = Clock::manual();
    let shut = breaker(&clock);
    shut.transition_to_forced_open().unwrap();
    for (switch, permitted) in [(Some(shut.clone()), false), (None, true)] {
        let guard = Pipeline::new((retry(&clock), switch, time_limiter(&clock)));
        let result = drive(&clock, guard.call(|| ready(Ok::<_, io::Error>(()))));
        assert_eq!(result.is_ok(), permitted);

        let mut service = guard.layer(service_fn(|()| ready(Ok::<_, Error<io::Error>>(()))));
        assert_eq!(drive(&clock, service.call(())).is_ok(), permitted);
    }
    assert_eq!(shut.metrics().not_permitted_calls, 2);
}

#[test]
fn a_breaker_inside_a_retry_counts_every_attempt_and_one_outside_counts_calls() {
    let clock = Clock::manual();
    let (inside, outside) = (breaker(&clock), breaker(&clock));
    let guard = Pipeline::new((outside.clone(), retry(&clock), inside.clone()));
    let failed = drive(&clock, guard.call(|| ready(Err::<(), _>("down"))));
    assert_eq!(failed, Err(Error::Inner("down")));
    assert_eq!((counted(&inside), counted(&outside)), ([0, 3], [0, 1]));
}

#[test]
fn a_time_limit_inside_a_retry_is_for_each_attempt_and_one_outside_for_all() {
    let clock = Clock::manual();
    let attempts = Counter::default();
    let hangs = || {
        attempts.up();
        pending::<Result<(), io::Error>>()
    };
    let inside = Pipeline::new((retry(&clock), time_limiter(&clock)));
    assert!(matches!(drive(&clock, inside.call(hangs)), Err(Error::Rejected(Rejected::TimedOut(_)))));
    assert_eq!((attempts.get(), clock.now().as_nanos()), (3, 3_200_000_000));

    let clock = Clock::manual();
    let outside = Pipeline::new((time_limiter(&clock), retry(&clock)));
    assert!(matches!(drive(&clock, outside.call(hangs)), Err(Error::Rejected(Rejected::TimedOut(_)))));
    assert_eq!((attempts.get(), clock.now().as_nanos()), (4, 1_000_000_000));
}

#[test]
fn a_refusal_by_an_inner_policy_is_ignored_by_the_breaker_and_not_retried() {
    let clock = Clock::manual();
    let (open, full, empty) = (breaker(&clock), bulkhead(&clock), empty_limiter(&clock));
    open.transition_to_open().unwrap();
    let _place = full.try_acquire().unwrap();
    let call = || ready(Ok::<_, io::Error>(()));

    macro_rules! refused_by {
        ($policy:ident, $rejection:ident) => {
            let (retry, breaker) = (retry(&clock), breaker(&clock));
            let guard = Pipeline::new((retry.clone(), breaker.clone(), $policy.clone()));
            let refused = drive(&clock, guard.call(call)).unwrap_err();
            assert!(matches!(refused, Error::Rejected(Rejected::$rejection(_))), "{refused:?}");
            assert_eq!(breaker.metrics().buffered_calls, 0);
            assert_eq!(retry.metrics().failed_calls_without_retry_attempt, 1);
            assert_eq!(retry.metrics().total_calls, 1);
        };
    }
    refused_by!(open, CircuitOpen);
    refused_by!(full, BulkheadFull);
    refused_by!(empty, RateLimited);
    assert_eq!(clock.now().as_nanos(), 0);
}

#[test]
fn a_refused_trial_call_gives_its_place_back() {
    let clock = Clock::manual();
    let full = bulkhead(&clock);
    let place = full.try_acquire().unwrap();
    let config = circuit_breaker::Config::default().permitted_number_of_calls_in_half_open_state(1);
    let breaker = support::breaker(config.clock(&clock));
    breaker.transition_to_open().unwrap();
    breaker.transition_to_half_open().unwrap();
    let guard = Pipeline::new((breaker.clone(), full.clone()));
    for _ in 0..3 {
        let refused = drive(&clock, guard.call(|| ready(Ok::<_, io::Error>(())))).unwrap_err();
        assert!(matches!(refused, Error::Rejected(Rejected::BulkheadFull(_))), "{refused:?}");
    }
    assert_eq!((breaker.state(), breaker.metrics().outstanding_trial_calls), (State::HalfOpen, 0));
    drop(place);
    drive(&clock, guard.call(|| ready(Ok::<_, io::Error>(())))).unwrap();
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn a_time_out_inside_the_breaker_counts_as_a_failure() {
    let clock = Clock::manual();
    let guard = Pipeline::new((breaker(&clock), time_limiter(&clock)));
    let hung = drive(&clock, guard.call(pending::<Result<(), io::Error>>));
    assert!(matches!(hung, Err(Error::Rejected(Rejected::TimedOut(_)))));
    assert_eq!(counted(&guard.policies().0), [0, 1]);
}

#[test]
fn used_up_retries_inside_the_breaker_count_as_a_failure_and_are_not_retried_outside() {
    let clock = Clock::manual();
    let attempts = Counter::default();
    let config = retry::Config::default().fail_after_max_attempts(true).clock(&clock);
    let inner = support::retry(config).retry_if(|_: &Result<u32, Error<io::Error>>| true);
    let guard = Pipeline::new((retry(&clock), breaker(&clock), inner));
    let used_up = drive(&clock, guard.call(|| ready(Ok(attempts.up()))));
    assert!(matches!(used_up, Err(Error::Rejected(Rejected::RetriesExhausted(_)))), "{used_up:?}");
    assert_eq!((attempts.get(), counted(&guard.policies().1)), (3, [0, 1]));
}

#[test]
fn the_error_is_one_flat_error_however_deep_the_stack() {
    let clock = Clock::manual();
    let open = breaker(&clock);
    open.transition_to_open().unwrap();
    let (t, b) = (time_limiter(&clock), bulkhead(&clock));
    let deep =
        Pipeline::new((Some(b), (five(&clock), Pipeline::new((t.clone(), breaker(&clock), Some(t), open.clone())))));
    let refused: Error<io::Error> = drive(&clock, deep.call(|| ready(Ok(())))).unwrap_err();
    let Error::Rejected(Rejected::CircuitOpen(rejection)) = refused else { panic!("{refused:?}") };
    assert_eq!(rejection.state(), State::Open);

    open.transition_to_closed().unwrap();
    let failed: Error<io::Error> =
        drive(&clock, deep.call(|| ready(Err::<(), _>(io::Error::other("reset"))))).unwrap_err();
    assert_eq!(failed.into_inner().unwrap().to_string(), "reset");
}

#[test]
fn the_whole_stack_retries_until_the_call_succeeds() {
    let clock = Clock::manual();
    let guard = five(&clock);
    let answer = drive(
        &clock,
        guard.call_with(|cx| async move {
            Yield::default().await;
            if cx.attempt() < 3 { Err("reset") } else { Ok(cx.attempt()) }
        }),
    );
    assert_eq!(answer, Ok(3));
    let (retry, breaker, limiter, _, bulkhead) = guard.policies();
    assert_eq!(retry.metrics().successful_calls_with_retry_attempt, 1);
    assert_eq!(counted(breaker), [1, 2]);
    assert_eq!((taken(limiter), bulkhead.metrics().concurrent_calls), (3, 0));
    assert_eq!((clock.now().as_nanos(), clock.next_wake()), (200_000_000, None));
}

/// Takes a second before it starts the call.
struct Slow(ManualClock);

impl<Op: Operation> Policy<Op> for &Slow {
    type Future = SlowCall<Op::Future>;

    fn run(self, op: Op) -> Self::Future {
        SlowCall { clock: self.0.clone(), call: Box::pin(op.start()) }
    }
}

struct SlowCall<Fut> {
    clock: ManualClock,
    call: Pin<Box<Fut>>,
}

impl<Fut: CallFuture> CallFuture for SlowCall<Fut> {
    fn poll_with(mut self: Pin<&mut Self>, cx: Cx, task: &mut Context<'_>) -> Poll<Fut::Output> {
        self.clock.advance(SECOND);
        self.call.as_mut().poll_with(cx, task)
    }
}

impl<Fut: CallFuture> Future for SlowCall<Fut> {
    type Output = Fut::Output;

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Fut::Output> {
        self.poll_with(Cx::new(), task)
    }
}

#[test]
fn what_one_policy_read_from_the_clock_is_what_the_policies_inside_see() {
    let (clock, other) = (Clock::manual(), Clock::manual());
    let before = clock.now();
    let guard = Pipeline::new((breaker(&clock), Slow(clock.clone())));
    let call = |cx: Cx| ready(Ok::<_, io::Error>((cx.time_on(&clock.clock()), cx.time_on(&other.clock()))));
    // Time has passed since, so this is the breaker's reading and not a new one.
    assert_eq!(drive(&clock, guard.call_with(call)).unwrap(), (Some(before), None));

    // A limiter inside goes by that reading too: one more second and the next period's permit would be there.
    let config = rate_limiter::Config::default().limit_for_period(LIMIT).limit_refresh_period(SECOND);
    let limiter = support::rate_limiter(config.timeout_duration(std::time::Duration::ZERO).clock(&clock));
    limiter.drain();
    let guard = Pipeline::new((breaker(&clock), Slow(clock.clone()), limiter));
    let refused = drive(&clock, guard.call(|| ready(Ok::<_, io::Error>(())))).unwrap_err();
    assert!(matches!(refused, Error::Rejected(Rejected::RateLimited(_))), "{refused:?}");
}

#[test]
fn a_reading_is_not_used_any_more_after_an_attempt() {
    let clock = Clock::manual();
    let config = retry::Config::default().max_duration(3600 * SECOND).wait_duration(SECOND).clock(&clock);
    let guard = Pipeline::new((support::retry(config), breaker(&clock)));
    let readings = RefCell::new(Vec::new());
    let call = |cx: Cx| {
        readings.borrow_mut().push(cx.time_on(&clock.clock()).map(|at| at.as_nanos()));
        ready(Err::<(), _>("down"))
    };
    assert_eq!(drive(&clock, guard.call_with(call)), Err(Error::Inner("down")));
    assert_eq!(readings.take(), [Some(0), Some(1_000_000_000), Some(2_000_000_000)]);
}

#[test]
fn an_attempt_that_has_waited_for_its_place_is_told_which_it_is() {
    let clock = Clock::manual();
    let config = bulkhead::Config::default().max_concurrent_calls(1).max_wait_duration(SECOND).clock(&clock);
    let bulkhead = support::bulkhead(config);
    let guard = Pipeline::new((retry(&clock), limiter_with_a_wait(&clock), bulkhead.clone()));
    let told = RefCell::new(Vec::new());
    let call = |cx: Cx| {
        told.borrow_mut().push((cx.attempt(), cx.time_on(&clock.clock())));
        ready(Err::<(), _>("down"))
    };
    let place = bulkhead.try_acquire().unwrap();
    let mut call = std::pin::pin!(guard.call_with(call));
    assert!(support::poll_once(call.as_mut()).is_pending());
    clock.advance(SECOND / 2);
    drop(place);
    assert_eq!(drive(&clock, call), Err(Error::Inner("down")));
    assert_eq!(told.borrow()[0], (1, None), "it has waited for its place");
    assert_eq!(told.borrow()[1..], [(2, None), (3, None)], "they have waited for a permit");
}

#[test]
fn a_clone_of_a_pipeline_shares_its_policies_state() {
    let clock = Clock::manual();
    let guard = five(&clock);
    let clone = guard.clone();
    guard.policies().1.transition_to_forced_open().unwrap();
    assert!(drive(&clock, clone.call(|| ready(Ok::<_, io::Error>(())))).is_err());
    assert_eq!(guard.policies().1.metrics().not_permitted_calls, 1);
}

#[test]
fn a_call_whose_error_can_carry_a_rejection_keeps_its_type() {
    let clock = Clock::manual();
    let guard = five(&clock);
    let failed: Result<(), Error<&str>> = drive(&clock, guard.call_flat(|| ready(Err(Error::Inner("down")))));
    assert_eq!(failed, Err(Error::Inner("down")));
}
