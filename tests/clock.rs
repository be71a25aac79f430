//! The manual clock, in no time at all, and the default clock, in a few milliseconds.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc, Barrier,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    task::{Context, Poll, Wake, Waker},
    thread,
    time::Duration,
};

use futures::{channel::oneshot, executor::block_on, future};
use parking_lot::Mutex;
use resile::{Clock, ManualClock, clock::Instant};

const NANO: Duration = Duration::from_nanos(1);
const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Notes its name when it is woken.
struct Woken {
    name: u32,
    order: Arc<Mutex<Vec<u32>>>,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.order.lock().push(self.name);
    }
}

fn waker(name: u32, order: &Arc<Mutex<Vec<u32>>>) -> Waker {
    Waker::from(Arc::new(Woken { name, order: Arc::clone(order) }))
}

fn poll<F: Future>(future: Pin<&mut F>, waker: &Waker) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(waker))
}

fn woken(order: &Arc<Mutex<Vec<u32>>>) -> Vec<u32> {
    std::mem::take(&mut *order.lock())
}

// Moments

#[test]
fn a_moment_is_nanoseconds_since_the_clock_s_zero_and_never_overflows() {
    let (early, late) = (Instant::from_nanos(5), Instant::from_nanos(u64::MAX - 5));
    assert_eq!(late.saturating_duration_since(early), Duration::from_nanos(u64::MAX - 10));
    assert_eq!(early.saturating_duration_since(late), Duration::ZERO);
    assert_eq!(late.saturating_add(SECOND).as_nanos(), u64::MAX);
    assert_eq!(early.saturating_add(Duration::MAX).as_nanos(), u64::MAX);
    assert_eq!(Instant::default().as_nanos(), 0);
}

// The manual clock

#[test]
fn a_manual_clock_stands_still_until_it_is_advanced() {
    let clock = ManualClock::starting_at(Instant::from_nanos(7));
    assert_eq!((clock.now().as_nanos(), clock.clock().now().as_nanos()), (7, 7));
    clock.advance(SECOND);
    clock.advance(Duration::ZERO);
    let clone = clock.clone();
    clock.advance(SECOND);
    assert_eq!(clone.now().as_nanos(), 2_000_000_007);
    assert_eq!(format!("{:?}", clock.clock()), "Clock::Manual");
}

#[test]
fn advancing_to_a_moment_past_does_nothing() {
    let clock = Clock::manual();
    clock.advance_to(Instant::from_nanos(100));
    clock.advance_to(Instant::from_nanos(99));
    clock.advance_to(Instant::default());
    assert_eq!(clock.now().as_nanos(), 100);
    clock.advance(Duration::MAX);
    assert_eq!(clock.now().as_nanos(), u64::MAX);
}

#[test]
fn a_sleeper_wakes_at_its_moment_and_not_before() {
    let clock = Clock::manual();
    let order = Arc::default();
    let mut sleep = pin!(clock.clock().sleep(SECOND));
    assert_eq!((sleep.deadline().as_nanos(), clock.next_wake()), (1_000_000_000, None));
    assert!(poll(sleep.as_mut(), &waker(1, &order)).is_pending());
    clock.advance(SECOND - NANO);
    assert_eq!((woken(&order), clock.next_wake()), (vec![], Some(NANO)));
    assert!(poll(sleep.as_mut(), &waker(1, &order)).is_pending());
    clock.advance(NANO);
    assert_eq!((woken(&order), clock.next_wake()), (vec![1], None));
    assert!(poll(sleep.as_mut(), &waker(1, &order)).is_ready());
    // Polling it once more does not hang.
    assert!(poll(sleep, &waker(1, &order)).is_ready());
}

#[test]
fn a_sleep_counts_from_where_it_was_made_and_not_from_its_first_poll() {
    let clock = Clock::manual();
    let mut sleep = pin!(clock.clock().sleep(SECOND));
    clock.advance(SECOND);
    assert!(poll(sleep.as_mut(), Waker::noop()).is_ready());
    assert_eq!(clock.next_wake(), None);
}

#[test]
fn sleeping_to_a_past_or_the_present_moment_ends_at_once() {
    let clock = Clock::manual();
    assert!(poll(pin!(clock.clock().sleep_until(Instant::default())), Waker::noop()).is_ready());
    clock.advance(SECOND);
    assert!(poll(pin!(clock.clock().sleep(Duration::ZERO)), Waker::noop()).is_ready());
    assert!(poll(pin!(clock.clock().sleep_until(clock.now())), Waker::noop()).is_ready());
    assert!(poll(pin!(clock.clock().sleep_until(Instant::from_nanos(3))), Waker::noop()).is_ready());
}

#[test]
fn sleepers_wake_in_the_order_of_their_moments_and_equal_ones_as_they_came() {
    let clock = Clock::manual();
    let order = Arc::default();
    let seconds = [5, 3, 9, 3, 1, 5, 3];
    let mut sleeps: Vec<_> = seconds.iter().map(|seconds| Box::pin(clock.clock().sleep(*seconds * SECOND))).collect();
    for (name, sleep) in (0..).zip(&mut sleeps) {
        assert!(poll(sleep.as_mut(), &waker(name, &order)).is_pending());
    }
    assert_eq!(clock.next_wake(), Some(SECOND));
    clock.advance(3 * SECOND);
    assert_eq!(woken(&order), [4, 1, 3, 6]);
    clock.advance(6 * SECOND);
    assert_eq!(woken(&order), [0, 5, 2]);
}

#[test]
fn a_dropped_sleep_leaves_the_queue() {
    let clock = Clock::manual();
    let order = Arc::default();
    let mut long = Box::pin(clock.clock().sleep(2 * SECOND));
    let mut short = Box::pin(clock.clock().sleep(SECOND));
    assert!(poll(long.as_mut(), &waker(1, &order)).is_pending());
    assert!(poll(short.as_mut(), &waker(2, &order)).is_pending());
    drop(short);
    assert_eq!(clock.next_wake(), Some(2 * SECOND));
    drop(long);
    assert_eq!((clock.next_wake(), Arc::strong_count(&order)), (None, 1));
    clock.advance(9 * SECOND);
    assert!(woken(&order).is_empty());
}

#[test]
fn a_sleep_polled_by_another_task_wakes_that_one() {
    let clock = Clock::manual();
    let order = Arc::default();
    let mut sleep = pin!(clock.clock().sleep(SECOND));
    for name in [1, 2, 1, 3] {
        assert!(poll(sleep.as_mut(), &waker(name, &order)).is_pending());
    }
    clock.advance(SECOND);
    assert_eq!(woken(&order), [3]);
}

#[test]
fn a_sleep_woken_once_takes_no_later_sleeper_s_place() {
    let clock = Clock::manual();
    let order = Arc::default();
    let mut first = Box::pin(clock.clock().sleep(SECOND));
    assert!(poll(first.as_mut(), &waker(1, &order)).is_pending());
    clock.advance(SECOND);
    // It has the same place in the queue as the first had.
    let mut second = Box::pin(clock.clock().sleep(SECOND));
    assert!(poll(second.as_mut(), &waker(2, &order)).is_pending());
    assert!(poll(first.as_mut(), &waker(9, &order)).is_ready());
    drop(first);
    assert_eq!(clock.next_wake(), Some(SECOND));
    clock.advance(SECOND);
    assert_eq!(woken(&order), [1, 2]);
}

#[test]
fn a_woken_sleeper_may_use_the_clock_from_its_waker() {
    struct Again(ManualClock);
    impl Wake for Again {
        fn wake(self: Arc<Self>) {
            assert_eq!(self.0.next_wake(), None);
            self.0.advance(SECOND);
        }
    }
    let clock = Clock::manual();
    let again = Waker::from(Arc::new(Again(clock.clone())));
    let mut sleep = pin!(clock.clock().sleep(SECOND));
    assert!(poll(sleep.as_mut(), &again).is_pending());
    clock.advance(SECOND);
    assert_eq!(clock.now().as_nanos(), 2_000_000_000);
}

#[test]
fn block_on_jumps_from_sleeper_to_sleeper() {
    let clock = Clock::manual();
    let (one, two) = (clock.clock(), clock.clock());
    let ends = clock.block_on(async move {
        let first = async {
            one.sleep(3 * SECOND).await;
            one.sleep(4 * SECOND).await;
            one.now().as_nanos()
        };
        let second = async {
            two.sleep(5 * SECOND).await;
            two.now().as_nanos()
        };
        future::join(first, second).await
    });
    assert_eq!(ends, (7_000_000_000, 5_000_000_000));
    assert_eq!(clock.block_on(async { 1 }), 1);
}

#[test]
fn block_on_waits_for_another_thread_and_no_time_passes() {
    let clock = Clock::manual();
    let (send, receive) = oneshot::channel();
    let (ask, asked) = mpsc::channel::<()>();
    let another = thread::spawn(move || {
        asked.recv().unwrap();
        send.send(42).unwrap();
    });
    let answer = clock.block_on(async move {
        ask.send(()).unwrap();
        receive.await
    });
    assert_eq!((answer, clock.now().as_nanos()), (Ok(42), 0));
    another.join().unwrap();
}

#[test]
fn block_on_does_not_advance_while_the_future_wakes_itself() {
    let clock = Clock::manual();
    let mut sleep = Box::pin(clock.clock().sleep(SECOND));
    let mut left = 10;
    let future = future::poll_fn(|cx| {
        assert!(sleep.as_mut().poll(cx).is_pending());
        left -= 1;
        cx.waker().wake_by_ref();
        if left == 0 { Poll::Ready(()) } else { Poll::Pending }
    });
    clock.block_on(future);
    assert_eq!(clock.now().as_nanos(), 0);
}

#[test]
fn threads_that_block_on_one_clock_never_jump_past_a_sleeper() {
    for _ in 0..200 {
        let clock = Clock::manual();
        let start = Barrier::new(2);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    start.wait();
                    for second in 1..=20 {
                        clock.block_on(clock.clock().sleep_until(Instant::from_nanos(second * 1_000_000_000)));
                    }
                });
            }
        });
        assert_eq!(clock.now().as_nanos(), 20_000_000_000);
    }
}

#[test]
fn sleepers_of_many_threads_all_wake_when_another_advances() {
    let clock = Clock::manual();
    let ended = AtomicU32::new(0);
    thread::scope(|scope| {
        for number in 1..=4_u32 {
            let (clock, ended) = (&clock, &ended);
            scope.spawn(move || {
                for round in 1..=50 {
                    let moment = Instant::from_nanos(u64::from(number * round));
                    block_on(clock.clock().sleep_until(moment));
                    assert!(clock.now() >= moment);
                    ended.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        while clock.now().as_nanos() < 200 {
            clock.advance(NANO);
            thread::yield_now();
        }
    });
    assert_eq!((ended.load(Ordering::Relaxed), clock.next_wake()), (200, None));
}

// The default clock, which with the feature `test-util` is the machine's on a plain thread as well

#[test]
fn the_default_clock_never_goes_back() {
    let clock = Clock::default();
    let mut before = clock.now();
    for _ in 0..100_000 {
        let now = clock.now();
        assert!(now >= before);
        before = now;
    }
}

#[test]
fn every_default_clock_tells_the_same_time() {
    let first = Clock::default().now();
    let second = thread::spawn(|| Clock::default().now()).join().unwrap();
    assert!(second.saturating_add(SECOND) > first && first.saturating_add(10 * SECOND) > second);
}

#[test]
fn a_short_sleep_on_the_default_clock_ends_after_its_time() {
    let clock = Clock::default();
    for wait in [NANO, MS, 3 * MS] {
        let start = clock.now();
        block_on(clock.sleep(wait));
        assert!(clock.now().saturating_duration_since(start) >= wait);
    }
}

#[test]
fn many_sleepers_of_several_threads_all_end() {
    let clock = Clock::default();
    thread::scope(|scope| {
        for number in 0..4_u32 {
            let clock = &clock;
            scope.spawn(move || {
                let sleeps = (0..200).map(|each| clock.sleep((each * 7 + number) % 5 * MS));
                block_on(future::join_all(sleeps));
            });
        }
    });
}

#[test]
fn an_earlier_moment_registered_later_wakes_first() {
    let clock = Clock::default();
    let mut long = Box::pin(clock.sleep(3600 * SECOND));
    assert!(poll(long.as_mut(), Waker::noop()).is_pending());
    // The thread that wakes sleepers is by now asleep for an hour.
    block_on(clock.sleep(2 * MS));
    block_on(clock.sleep(MS));
    assert!(poll(long.as_mut(), Waker::noop()).is_pending());
}

#[test]
fn a_waker_that_panics_keeps_no_other_sleeper_asleep() {
    struct Broken;
    impl Wake for Broken {
        fn wake(self: Arc<Self>) {
            std::panic::resume_unwind(Box::new("waker"));
        }
    }
    let clock = Clock::default();
    // On a busy machine a short sleep may be over before it is first looked at.
    let begun = |_| {
        let mut sleep = Box::pin(clock.sleep(5 * MS));
        poll(sleep.as_mut(), &Waker::from(Arc::new(Broken))).is_pending().then_some(sleep)
    };
    let mut broken = (0..1_000).find_map(begun).unwrap();
    block_on(clock.sleep(10 * MS));
    assert!(poll(broken.as_mut(), Waker::noop()).is_ready());
}

#[test]
fn a_dropped_sleep_on_the_default_clock_lets_its_task_go() {
    let clock = Clock::default();
    let order = Arc::default();
    let mut sleep = Box::pin(clock.sleep(3600 * SECOND));
    assert!(poll(sleep.as_mut(), &waker(1, &order)).is_pending());
    assert_eq!(Arc::strong_count(&order), 2);
    drop(sleep);
    assert_eq!(Arc::strong_count(&order), 1);
}

#[test]
fn a_sleep_to_the_end_of_time_waits() {
    for clock in [Clock::default(), Clock::manual().clock()] {
        assert!(poll(pin!(clock.sleep(Duration::MAX)), Waker::noop()).is_pending());
    }
}
