//! The call that is guarded, and the ways to make it many times.

use std::{
    error, fmt,
    future::{Future, poll_fn},
    hint::black_box,
    mem,
    pin::pin,
    sync::{Arc, Barrier, LazyLock},
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use resile::Clock;
use tokio::runtime::{Builder, Handle, Runtime};
use tower::Service;

use crate::{Contender, Row, Run};

/// Longer than a sitting.
pub(crate) const LONG: Duration = Duration::from_secs(24 * 3600);

const TASKS: u64 = 64;

/// Calls of a thread, or of all tasks, below which its start would be what is measured. Unoptimised, nothing is.
const WORTH_A_START: u64 = if cfg!(debug_assertions) { 100 } else { 20_000 };

/// The guarded call failed. It has the size of a small error: with one of no size at all the bare call alone takes longer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Down(&'static str);

pub(crate) const DOWN: Down = Down("down");

impl fmt::Display for Down {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl error::Error for Down {}

/// The call that is guarded: ready at its first poll.
pub(crate) async fn work(input: u64) -> Result<u64, Down> {
    black_box(Ok(input))
}

/// The same, pending at its first poll and ready at its second.
pub(crate) async fn work_later(input: u64) -> Result<u64, Down> {
    let mut polled = false;
    poll_fn(|_| if mem::replace(&mut polled, true) { Poll::Ready(()) } else { Poll::Pending }).await;
    black_box(Ok(input))
}

pub(crate) async fn fail(_: u64) -> Result<u64, Down> {
    black_box(Err(DOWN))
}

/// The call under resile's layers, which ask for an error that can carry a rejection.
pub(crate) async fn work_below_layers(input: u64) -> Result<u64, resile::Error<Down>> {
    work(input).await.map_err(resile::Error::Inner)
}

/// A request as tower wants it made.
pub(crate) async fn ask<S: Service<u64>>(service: &mut S, input: u64) -> Result<S::Response, S::Error> {
    poll_fn(|cx| service.poll_ready(cx)).await?;
    service.call(input).await
}

/// Polls until the future is ready.
#[inline]
pub(crate) fn drive<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
    }
}

/// A runtime for what cannot be made or polled without one. Nobody drives it.
pub(crate) fn idle_runtime() -> &'static Handle {
    static RUNTIME: LazyLock<Runtime> =
        LazyLock::new(|| Builder::new_current_thread().enable_time().build().expect("a runtime"));
    RUNTIME.handle()
}

/// The rows as they are put together.
#[derive(Default)]
pub(crate) struct Rows(Vec<Row>);

impl Rows {
    /// Adds a contender to a row, and the row where it is the first.
    pub(crate) fn add(&mut self, id: &'static str, name: &'static str, start: impl Fn() -> Run + 'static) {
        let start = Box::new(move || {
            let _entered = idle_runtime().enter();
            start()
        });
        let contender = Contender { name, start };
        match self.0.iter_mut().find(|row| row.id == id) {
            Some(row) => row.contenders.push(contender),
            None => self.0.push(Row { id, contenders: vec![contender] }),
        }
    }

    pub(crate) fn into_rows(self) -> Vec<Row> {
        self.0
    }
}

/// One call after the other.
pub(crate) fn timed<R>(mut call: impl FnMut() -> R + 'static) -> Run {
    let clock = Clock::default();
    Box::new(move |calls| {
        let _entered = idle_runtime().enter();
        let began = clock.now();
        for _ in 0..calls {
            black_box(call());
        }
        clock.now().saturating_duration_since(began)
    })
}

/// One call after the other inside a runtime that runs, for what waits for a timer on every call.
pub(crate) fn timed_in_runtime<F: Future>(mut call: impl FnMut() -> F + 'static) -> Run {
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    let clock = Clock::default();
    Box::new(move |calls| {
        runtime.block_on(async {
            let began = clock.now();
            for _ in 0..calls {
                black_box(call().await);
            }
            clock.now().saturating_duration_since(began)
        })
    })
}

/// Calls on two threads at once; `worker` makes what one of them calls.
pub(crate) fn on_two_threads<R, W: FnMut() -> R + Send + 'static>(worker: impl Fn() -> W + 'static) -> Run {
    let clock = Clock::default();
    Box::new(move |calls| {
        let made = calls.max(WORTH_A_START);
        let start = Arc::new(Barrier::new(3));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (mut call, start) = (worker(), Arc::clone(&start));
                thread::spawn(move || {
                    let _entered = idle_runtime().enter();
                    start.wait();
                    for _ in 0..made {
                        black_box(call());
                    }
                })
            })
            .collect();
        start.wait();
        let began = clock.now();
        for thread in threads {
            thread.join().expect("a bench thread");
        }
        scaled(clock.now().saturating_duration_since(began) / 2, made, calls)
    })
}

/// Calls in 64 tasks on a runtime of two workers; `task` makes as many as it is told.
pub(crate) fn in_tasks<F>(task: impl Fn(u64) -> F + 'static) -> Run
where
    F: Future<Output = ()> + Send + 'static,
{
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("a runtime");
    let clock = Clock::default();
    Box::new(move |calls| {
        let each = calls.max(WORTH_A_START).div_ceil(TASKS);
        let began = clock.now();
        runtime.block_on(async {
            let tasks: Vec<_> = (0..TASKS).map(|_| tokio::spawn(task(each))).collect();
            for task in tasks {
                task.await.expect("a bench task");
            }
        });
        let took = clock.now().saturating_duration_since(began);
        scaled(took, each * TASKS, calls)
    })
}

/// A time that so many calls took, for another number of them.
fn scaled(took: Duration, made: u64, calls: u64) -> Duration {
    took.mul_f64(calls as f64 / made as f64)
}

/// Lets the other tasks run after every sixteenth call.
pub(crate) async fn breathe(call: u64) {
    if call % 16 == 15 {
        tokio::task::yield_now().await;
    }
}

/// Calls while the window already holds `held` of them: what is called is made and filled anew, outside the measured time,
/// before the calls that are measured add a tenth to it, or a hundred.
pub(crate) fn with_held<R, C: FnMut() -> R + 'static>(held: u64, make: impl Fn() -> C + 'static) -> Run {
    let clock = Clock::default();
    let mut filled: Option<(C, u64)> = None;
    Box::new(move |calls| {
        let _entered = idle_runtime().enter();
        let (mut took, mut left) = (Duration::ZERO, calls);
        while left > 0 {
            let (call, room) = filled.get_or_insert_with(|| {
                let mut call = make();
                for _ in 0..held {
                    black_box(call());
                }
                (call, (held / 10).max(100))
            });
            let now = left.min(*room);
            let began = clock.now();
            for _ in 0..now {
                black_box(call());
            }
            took += clock.now().saturating_duration_since(began);
            left -= now;
            *room -= now;
            if *room == 0 {
                filled = None;
            }
        }
        took
    })
}

/// The call without anything around it: the floor of every other row.
pub(crate) fn bare(rows: &mut Rows) {
    rows.add("bare", "async fn", || timed(|| drive(work(black_box(1)))));
    rows.add("bare_pending", "async fn", || timed(|| drive(work_later(black_box(1)))));
}

/// What a look at the clock takes, which most policies do and the machine decides.
pub(crate) fn clocks(rows: &mut Rows) {
    rows.add("clock", "resile", || {
        let clock = Clock::default();
        timed(move || clock.now())
    });
    // Tokio's is the standard library's.
    rows.add("clock", "std", || timed(tokio::time::Instant::now));
}

/// Whether a contender set up to reject does.
pub(crate) fn rejecting<T, E>(result: &Result<T, E>) {
    assert!(result.is_err(), "a contender of a row of rejections let a call through");
}

/// Whether a contender set up to permit does.
pub(crate) fn permitting<T, E>(result: &Result<T, E>) {
    assert!(result.is_ok(), "a contender of a row of permitted calls turned one away");
}
