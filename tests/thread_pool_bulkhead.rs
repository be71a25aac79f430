//! The thread-pool bulkhead through its public interface. Threads wait for channels, never for time.
#![allow(clippy::unwrap_used)]

use std::{
    cell::RefCell,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    task::{Context, Poll, Waker},
    thread::{self, ThreadId},
    time::Duration,
};

use futures::executor::block_on;
use resile::{
    Clock, Error, InvalidConfig, ManualClock, Rejected, ThreadPoolBulkhead, TimeLimiter,
    bulkhead::thread_pool::{Config, RejectionPolicy},
    event::{EventKind, PolicyKind},
    time_limiter,
};

type Done = Result<u32, Error<&'static str>>;
type Call = Pin<Box<dyn Future<Output = Done>>>;

fn config(core: u32, max: u32, queue: u32) -> Config {
    Config::default().core_thread_pool_size(core).max_thread_pool_size(max).queue_capacity(queue)
}

fn pool(core: u32, max: u32, queue: u32) -> (ThreadPoolBulkhead, ManualClock) {
    let clock = Clock::manual();
    (ThreadPoolBulkhead::new("images", config(core, max, queue).clock(&clock)).unwrap(), clock)
}

fn poll<F: Future + ?Sized>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// A call that has been sent, and tells when it begins and runs until it is told to end.
struct Gated {
    call: Call,
    begun: Receiver<ThreadId>,
    end: Sender<()>,
}

impl Gated {
    fn send(pool: &ThreadPoolBulkhead) -> Self {
        let ((begin, begun), (end, ended)) = (channel(), channel());
        let mut call: Call = Box::pin(pool.call(move || {
            let _ = begin.send(thread::current().id());
            let _ = ended.recv();
            Ok(7)
        }));
        assert!(poll(&mut call).is_pending());
        Self { call, begun, end }
    }

    fn run(pool: &ThreadPoolBulkhead) -> Self {
        let gated = Self::send(pool);
        gated.begun.recv().unwrap();
        gated
    }

    fn finish(self) {
        self.end.send(()).unwrap();
        assert_eq!(block_on(self.call), Ok(7));
    }
}

fn rejected(result: Done) -> Rejected {
    result.unwrap_err().into_inner().unwrap_err()
}

/// Threads, active ones, queued closures.
fn load(pool: &ThreadPoolBulkhead) -> (u32, u32, u32) {
    let metrics = pool.metrics();
    (metrics.thread_pool_size, metrics.active_thread_count, metrics.queue_depth)
}

/// Makes the thread that runs this tell when it has ended.
fn tell_the_end(ended: Sender<()>) {
    struct AtTheEnd(Sender<()>);
    impl Drop for AtTheEnd {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    thread_local!(static END: RefCell<Option<AtTheEnd>> = const { RefCell::new(None) });
    END.set(Some(AtTheEnd(ended)));
}

#[test]
fn a_closure_s_result_comes_back_from_another_thread() {
    let (pool, _clock) = pool(1, 1, 0);
    let here = thread::current().id();
    let elsewhere = block_on(pool.call(move || Ok::<_, &str>(thread::current().id() != here)));
    assert_eq!(elsewhere, Ok(true));
    assert_eq!(block_on(pool.call(|| Err::<u32, _>("down"))), Err(Error::Inner("down")));
    assert_eq!(pool.call_blocking(|| Ok::<_, &str>(7)), Ok(7));
}

#[test]
fn threads_to_the_core_then_the_queue_then_threads_to_the_maximum_then_rejection() {
    let (pool, _clock) = pool(1, 2, 1);
    assert_eq!(load(&pool), (0, 0, 0));
    let first = Gated::run(&pool);
    assert_eq!(load(&pool), (1, 1, 0));
    let second = Gated::send(&pool);
    assert_eq!(load(&pool), (1, 1, 1));
    let third = Gated::run(&pool);
    assert_eq!(load(&pool), (2, 2, 1));
    let metrics = pool.metrics();
    assert_eq!((metrics.core_thread_pool_size, metrics.max_thread_pool_size), (1, 2));
    assert_eq!((metrics.queue_capacity, metrics.remaining_queue_capacity, metrics.available_thread_count), (1, 0, 0));

    let Rejected::BulkheadFull(full) = rejected(block_on(pool.call(|| unreachable!("there is no room")))) else {
        panic!("not full")
    };
    assert_eq!((full.name(), full.max_concurrent_calls(), full.waiting_calls()), ("images", 2, 1));
    assert_eq!(full.waited(), Duration::ZERO);

    // The queued closure runs on the first thread that is free.
    first.finish();
    second.begun.recv().unwrap();
    assert_eq!(load(&pool), (2, 2, 0));
    second.finish();
    third.finish();
    assert_eq!(load(&pool), (2, 0, 0));
    assert_eq!(pool.metrics().available_thread_count, 2);
}

#[test]
fn a_thread_below_the_core_is_started_though_another_is_idle() {
    let (pool, _clock) = pool(2, 2, 9);
    for threads in [1, 2, 2] {
        pool.call_blocking(|| Ok::<_, &str>(7)).unwrap();
        assert_eq!(load(&pool), (threads, 0, 0));
    }
}

#[test]
fn without_a_queue_a_closure_is_handed_to_an_idle_thread_only() {
    let (pool, _clock) = pool(1, 1, 0);
    for _ in 0..200 {
        // Whoever has a result finds the thread that made it free.
        assert_eq!(pool.call_blocking(|| Ok::<_, &str>(7)), Ok(7));
    }
    let running = Gated::run(&pool);
    assert!(pool.call_blocking(|| Ok::<_, &str>(7)).is_err());
    running.finish();
    assert_eq!(load(&pool), (1, 0, 0));
}

#[test]
fn the_queue_is_served_in_order() {
    let (pool, _clock) = pool(1, 1, 9);
    let running = Gated::run(&pool);
    let (tell, told) = channel();
    let mut calls: Vec<_> = (0..5)
        .map(|number| {
            let tell = tell.clone();
            Box::pin(pool.call(move || tell.send(number)))
        })
        .collect();
    for call in &mut calls {
        assert!(poll(call).is_pending());
    }
    running.finish();
    for call in calls {
        block_on(call).unwrap();
    }
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
}

#[test]
fn a_call_that_is_never_polled_is_never_sent() {
    let (pool, _clock) = pool(1, 1, 1);
    drop(pool.call(|| -> Result<u32, &str> { unreachable!("sent") }));
    assert_eq!(load(&pool), (0, 0, 0));
}

#[test]
fn a_dropped_call_that_has_not_begun_leaves_the_queue() {
    let (pool, _clock) = pool(1, 1, 1);
    let running = Gated::run(&pool);
    let captured = Arc::new(());
    let held = Arc::clone(&captured);
    let mut queued = Box::pin(pool.call(move || -> Result<Arc<()>, &str> { unreachable!("{held:?} was given up") }));
    assert!(poll(&mut queued).is_pending());
    assert_eq!(load(&pool), (1, 1, 1));
    drop(queued);
    assert_eq!(load(&pool), (1, 1, 0));
    assert_eq!(Arc::strong_count(&captured), 1, "the closure is dropped with the call");
    let next = Gated::send(&pool);
    running.finish();
    next.finish();
}

#[test]
fn a_call_that_has_begun_goes_on_and_keeps_its_thread_when_it_is_dropped() {
    let (pool, _clock) = pool(1, 1, 0);
    let Gated { call, end, begun } = Gated::send(&pool);
    begun.recv().unwrap();
    let (tell, finished) = channel();
    let _subscription = pool.on_event(move |event| tell.send(event.kind.clone()).unwrap());
    drop(call);
    assert_eq!(load(&pool), (1, 1, 0));
    assert!(pool.call_blocking(|| Ok::<_, &str>(7)).is_err());
    assert_eq!(finished.recv(), Ok(EventKind::CallRejected));
    end.send(()).unwrap();
    assert_eq!(finished.recv(), Ok(EventKind::CallFinished));
    assert_eq!(pool.call_blocking(|| Ok::<_, &str>(7)), Ok(7));
}

#[test]
fn a_call_that_has_ended_can_be_dropped_unread() {
    let (pool, _clock) = pool(1, 1, 0);
    let (tell, finished) = channel();
    let _subscription = pool.on_event(move |event| tell.send(event.kind.clone()).unwrap());
    let mut call = Box::pin(pool.call(|| Ok::<_, &str>(7)));
    // The closure may even have ended within the first poll.
    let _ = poll(&mut call);
    assert_eq!(finished.recv(), Ok(EventKind::CallPermitted));
    assert_eq!(finished.recv(), Ok(EventKind::CallFinished));
    drop(call);
    assert_eq!(load(&pool), (1, 0, 0));
}

#[test]
fn a_panic_in_the_pool_reaches_the_caller() {
    let (pool, _clock) = pool(1, 1, 0);
    let thread = pool.call_blocking(|| Ok::<_, &str>(thread::current().id()));
    let panic = catch_unwind(AssertUnwindSafe(|| {
        block_on(pool.call(|| -> Result<u32, &str> { panic!("broken image") })).ok();
    }));
    assert_eq!(panic.unwrap_err().downcast_ref(), Some(&"broken image"));
    // Nor does it cost the pool its thread.
    assert_eq!(load(&pool), (1, 0, 0));
    assert_eq!(pool.call_blocking(|| Ok::<_, &str>(thread::current().id())), thread);
}

#[test]
fn a_panic_is_not_taken_for_a_time_out() {
    let (pool, clock) = pool(1, 1, 0);
    let limiter = TimeLimiter::new("images", time_limiter::Config::default().clock(&clock)).unwrap();
    let panic = catch_unwind(AssertUnwindSafe(|| {
        let _ = block_on(limiter.call_flat(|| pool.call(|| -> Result<u32, &str> { panic!("broken image") })));
    }));
    assert_eq!(panic.unwrap_err().downcast_ref(), Some(&"broken image"));
}

#[test]
fn a_panic_that_nobody_waits_for_harms_nobody() {
    struct Explodes;
    impl Drop for Explodes {
        fn drop(&mut self) {
            panic!("in the drop of a result");
        }
    }
    let (pool, _clock) = pool(1, 1, 1);
    let ((begin, begun), (end, ended)) = (channel(), channel::<()>());
    let mut call = Box::pin(pool.call(move || {
        begin.send(thread::current().id()).unwrap();
        ended.recv().ok();
        Ok::<_, &str>(Explodes)
    }));
    assert!(poll(&mut call).is_pending());
    let thread = begun.recv().unwrap();
    drop(call);
    drop(end);
    assert_eq!(pool.call_blocking(|| Ok::<_, &str>(thread::current().id())), Ok(thread));
    assert_eq!(load(&pool), (1, 0, 0));
}

#[test]
fn a_time_limit_gives_a_queued_closure_up_for_good() {
    let (pool, clock) = pool(1, 1, 1);
    let limiter = TimeLimiter::new("images", time_limiter::Config::default().clock(&clock)).unwrap();
    let running = Gated::run(&pool);
    let late = limiter.call_flat(|| pool.call(|| -> Result<u32, &'static str> { unreachable!("given up") }));
    assert!(matches!(rejected(clock.block_on(late)), Rejected::TimedOut(_)));
    assert_eq!(load(&pool), (1, 1, 0));
    running.finish();
}

#[test]
fn a_caller_runs_what_the_pool_has_no_room_for() {
    let config = config(1, 1, 0).rejection_policy(RejectionPolicy::CallerRuns);
    let pool = ThreadPoolBulkhead::new("images", config).unwrap();
    let running = Gated::run(&pool);
    let log = pool.event_log(9);
    let here = block_on(pool.call(|| Ok::<_, &str>(thread::current().id())));
    assert_eq!(here, Ok(thread::current().id()));
    let panic = catch_unwind(AssertUnwindSafe(|| {
        block_on(pool.call(|| -> Result<u32, &str> { panic!("broken image") })).ok();
    }));
    assert_eq!(panic.unwrap_err().downcast_ref(), Some(&"broken image"));
    let kinds: Vec<_> = log.events().into_iter().map(|event| event.kind).collect();
    use EventKind::{CallFinished, CallPermitted};
    assert_eq!(kinds, [CallPermitted, CallFinished, CallPermitted, CallFinished]);
    running.finish();
}

#[test]
fn a_thread_above_the_core_ends_when_it_has_been_idle_long_enough() {
    let (pool, clock) = pool(1, 3, 0);
    let (tell, ended) = channel();
    let running: Vec<_> = (0..3)
        .map(|_| {
            let ((begin, begun), (end, may_end)) = (channel(), channel::<()>());
            let tell = tell.clone();
            let mut call = Box::pin(pool.call(move || {
                tell_the_end(tell);
                begin.send(()).unwrap();
                may_end.recv().ok();
                Ok::<_, &str>(7)
            }));
            assert!(poll(&mut call).is_pending());
            begun.recv().unwrap();
            (call, end)
        })
        .collect();
    for (call, end) in running {
        drop(end);
        block_on(call).unwrap();
    }
    assert_eq!(load(&pool), (3, 0, 0));
    clock.advance(Duration::from_millis(19));
    assert_eq!(load(&pool), (3, 0, 0));
    clock.advance(Duration::from_millis(1));
    ended.recv().unwrap();
    ended.recv().unwrap();
    // The last one is the core's, and stays however long it is idle.
    clock.advance(Duration::from_secs(60));
    assert_eq!(load(&pool), (1, 0, 0));
    assert_eq!(pool.call_blocking(|| Ok::<_, &str>(7)), Ok(7));
    assert_eq!(load(&pool), (1, 0, 0));
}

#[test]
fn the_threads_end_after_the_last_handle() {
    let (pool, _clock) = pool(2, 2, 0);
    let (tell, ended) = channel();
    for _ in 0..2 {
        let tell = tell.clone();
        let work = || {
            tell_the_end(tell);
            Ok::<_, &str>(7)
        };
        pool.call_blocking(work).unwrap();
    }
    let clone = pool.clone();
    drop(pool);
    assert_eq!(clone.call_blocking(|| Ok::<_, &str>(7)), Ok(7));
    drop(clone);
    ended.recv().unwrap();
    ended.recv().unwrap();
}

#[test]
fn what_runs_is_finished_after_the_last_handle() {
    let (pool, _clock) = pool(1, 1, 0);
    let ((begin, begun), (end, ended), (tell, told)) = (channel(), channel::<()>(), channel());
    let mut call = Box::pin(pool.call(move || {
        begin.send(()).unwrap();
        ended.recv().ok();
        tell.send("finished")
    }));
    assert!(poll(&mut call).is_pending());
    begun.recv().unwrap();
    drop((pool, call));
    drop(end);
    assert_eq!(told.recv(), Ok("finished"));
}

#[test]
fn a_call_keeps_the_pool_it_waits_for() {
    let (pool, _clock) = pool(1, 1, 1);
    let (first, second) = (Gated::run(&pool), Gated::send(&pool));
    drop(pool);
    first.finish();
    second.finish();
}

#[test]
fn each_event_is_published_where_it_happens() {
    use EventKind::{CallFinished, CallPermitted, CallRejected};
    let (pool, _clock) = pool(1, 1, 1);
    let log = pool.event_log(9);
    let first = Gated::run(&pool);
    let second = Gated::send(&pool);
    assert!(pool.call_blocking(|| Ok::<_, &str>(7)).is_err());
    // A queued closure is permitted when it begins.
    let kinds = || log.events().into_iter().map(|event| event.kind).collect::<Vec<_>>();
    assert_eq!(kinds(), [CallPermitted, CallRejected]);
    first.finish();
    second.finish();
    assert_eq!(kinds()[2..], [CallFinished, CallPermitted, CallFinished]);
    let ours = |event: &resile::Event| &*event.name == "images" && event.policy == PolicyKind::ThreadPoolBulkhead;
    assert!(log.events().iter().all(ours));
}

#[test]
fn one_slow_dependency_does_not_starve_another() {
    let ((slow, _), (quick, _)) = (pool(1, 1, 0), pool(1, 1, 0));
    let hanging = Gated::run(&slow);
    assert_eq!(quick.call_blocking(|| Ok::<_, &str>(7)), Ok(7));
    hanging.finish();
}

#[test]
fn every_closure_of_many_threads_runs_once() {
    let (pool, clock) = pool(1, 3, 1);
    let (tell, told) = channel();
    thread::scope(|scope| {
        for caller in 0..4 {
            let (tell, pool, clock) = (tell.clone(), &pool, &clock);
            scope.spawn(move || {
                for number in 0..200 {
                    let tell = tell.clone();
                    // Four callers at a time always find a thread or a place in the queue.
                    pool.call_blocking(move || tell.send(caller * 200 + number)).unwrap();
                    clock.advance(Duration::from_millis(10));
                }
            });
        }
    });
    let mut ran: Vec<_> = told.try_iter().collect();
    ran.sort_unstable();
    assert_eq!(ran, (0..800).collect::<Vec<_>>());
}

#[test]
fn a_name_with_a_zero_is_no_reason_to_panic() {
    let pool = ThreadPoolBulkhead::new("a\0b", config(1, 1, 0)).unwrap();
    let name = pool.call_blocking(|| Ok::<_, &str>(thread::current().name().map(String::from)));
    assert_eq!(name.unwrap().as_deref(), Some("bulkhead-a b"));
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    let refused = |config: Config| -> InvalidConfig { ThreadPoolBulkhead::new("images", config).unwrap_err() };
    let none = refused(config(1, 0, 0));
    assert_eq!((none.field, &*none.value, &*none.rule), ("max_thread_pool_size", "0", "must be at least 1"));
    for core in [0, 3] {
        let core = (refused(config(core, 2, 0)), core.to_string());
        assert_eq!((core.0.field, core.0.value), ("core_thread_pool_size", core.1));
        assert_eq!(core.0.rule, "must be at least 1 and at most max_thread_pool_size");
    }
}

#[test]
fn the_core_left_alone_follows_the_maximum() {
    for (max, core) in [(1, 1), (2, 1), (9, 8)] {
        let pool = ThreadPoolBulkhead::new("images", Config::default().max_thread_pool_size(max)).unwrap();
        assert_eq!(pool.metrics().core_thread_pool_size, core);
    }
}

#[test]
fn the_defaults_are_those_of_resilience4j() {
    let parallelism = thread::available_parallelism().unwrap().get() as u32;
    let pool = ThreadPoolBulkhead::with_defaults("images");
    let metrics = pool.metrics();
    assert_eq!(metrics.max_thread_pool_size, parallelism);
    assert_eq!(metrics.core_thread_pool_size, (parallelism - 1).max(1));
    assert_eq!((metrics.queue_capacity, metrics.remaining_queue_capacity), (100, 100));
    let config = format!("{:?}", pool.config());
    assert!(config.contains("keep_alive_duration: 20ms, rejection_policy: Abort"), "{config}");
}

mod with_other_settings {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn config(core: u32, max: u32, queue: u32) -> Config {
        let config = Config::default().core_thread_pool_size(core).max_thread_pool_size(max);
        config.queue_capacity(queue).keep_alive_duration(60 * SECOND)
    }

    fn pool(config: Config) -> (ThreadPoolBulkhead, ManualClock) {
        let clock = Clock::manual();
        (ThreadPoolBulkhead::new("images", config.clock(&clock)).unwrap(), clock)
    }

    /// Threads end by themselves, outside the clock.
    fn wait_for(pool: &ThreadPoolBulkhead, threads: u32) {
        while pool.metrics().thread_pool_size != threads {
            thread::yield_now();
        }
    }

    #[test]
    fn that_grows_gives_queued_closures_threads_below_the_core() {
        let (pool, _clock) = pool(config(1, 1, 9));
        let running = Gated::run(&pool);
        let queued: Vec<_> = (0..3).map(|_| Gated::send(&pool)).collect();
        pool.reconfigure(config(3, 3, 9)).unwrap();
        assert_eq!(load(&pool), (3, 3, 1));
        queued[0].begun.recv().unwrap();
        queued[1].begun.recv().unwrap();
        running.finish();
        queued.into_iter().for_each(Gated::finish);
        assert_eq!(load(&pool), (3, 0, 0));
    }

    #[test]
    fn gives_closures_beyond_a_shorter_queue_threads_up_to_the_maximum_and_lets_the_rest_wait() {
        let (pool, _clock) = pool(config(1, 1, 9));
        let running = Gated::run(&pool);
        let queued: Vec<_> = (0..5).map(|_| Gated::send(&pool)).collect();
        pool.reconfigure(config(1, 3, 1)).unwrap();
        assert_eq!(load(&pool), (3, 3, 3));
        assert_eq!(pool.metrics().remaining_queue_capacity, 0);
        assert!(pool.call_blocking(|| Ok::<u32, &str>(7)).is_err());
        running.finish();
        queued.into_iter().for_each(Gated::finish);
        assert_eq!(load(&pool), (3, 0, 0));
    }

    #[test]
    fn that_shrinks_lets_threads_end_as_their_closures_do() {
        let (pool, _clock) = pool(config(3, 3, 9));
        let mut running: Vec<_> = (0..3).map(|_| Gated::run(&pool)).collect();
        let queued = Gated::send(&pool);
        pool.reconfigure(config(1, 1, 9)).unwrap();
        assert_eq!(load(&pool), (3, 3, 1));
        assert_eq!(pool.metrics().available_thread_count, 0);
        for threads in [2, 1] {
            running.pop().unwrap().finish();
            assert_eq!(load(&pool), (threads, threads, 1));
        }
        running.pop().unwrap().finish();
        queued.finish();
        assert_eq!(load(&pool), (1, 0, 0));
    }

    #[test]
    fn that_shrinks_ends_idle_threads_above_the_maximum() {
        let (pool, _clock) = pool(config(4, 4, 9));
        let running: Vec<_> = (0..4).map(|_| Gated::run(&pool)).collect();
        running.into_iter().for_each(Gated::finish);
        assert_eq!(load(&pool), (4, 0, 0));
        pool.reconfigure(config(1, 1, 9)).unwrap();
        let calls: Vec<_> = (0..5).map(|_| Gated::send(&pool)).collect();
        calls.into_iter().for_each(Gated::finish);
        wait_for(&pool, 1);
    }

    #[test]
    fn ends_idle_threads_above_a_smaller_core_after_the_new_time() {
        let (pool, clock) = pool(config(2, 2, 9));
        let running: Vec<_> = (0..2).map(|_| Gated::run(&pool)).collect();
        running.into_iter().for_each(Gated::finish);
        clock.advance(100 * SECOND);
        assert_eq!(load(&pool), (2, 0, 0));
        pool.reconfigure(config(1, 2, 9).keep_alive_duration(200 * SECOND).clock(Clock::default())).unwrap();
        assert_eq!(load(&pool), (2, 0, 0));
        clock.advance(100 * SECOND);
        wait_for(&pool, 1);
    }

    #[test]
    fn rejects_in_the_new_way_and_changes_nothing_for_what_cannot_be() {
        let (pool, _clock) = pool(config(1, 1, 0));
        let running = Gated::run(&pool);
        let here = Arc::new(thread::current().id());
        let caller_runs = RejectionPolicy::CallerRuns;
        assert!(pool.reconfigure(config(2, 1, 0).rejection_policy(caller_runs)).is_err());
        assert!(pool.call_blocking(|| Ok::<_, &str>(7)).is_err());
        pool.reconfigure(config(1, 1, 0).rejection_policy(caller_runs)).unwrap();
        let ran_on = pool.call_blocking(|| Ok::<_, &str>(thread::current().id()));
        assert_eq!(ran_on, Ok(*here));
        assert_eq!(pool.config().rejection_policy, caller_runs);
        running.finish();
    }
}
