use std::{
    fmt,
    future::Future,
    mem,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    thread,
};

use parking_lot::Mutex;

use super::{RejectionPolicy, ThreadPoolBulkhead, shared::Job};
use crate::{clock::Instant, error::Error};

/// A closure that runs on a thread of a pool.
///
/// # Cancel safety
/// Nothing is queued before its first poll. Dropping it takes the closure out of the queue; one that has begun goes on,
/// and keeps its thread until it ends.
#[must_use = "futures do nothing unless polled"]
pub struct Call<F, T, E> {
    pool: ThreadPoolBulkhead,
    state: State<F, Result<T, E>>,
}

enum State<F, R> {
    Unsent(F),
    Sent { id: u64, task: Arc<Task<F, R>> },
    Done,
}

impl<F, T, E> Call<F, T, E> {
    pub(super) fn new(pool: ThreadPoolBulkhead, work: F) -> Self {
        Self { pool, state: State::Unsent(work) }
    }
}

impl<F, T, E> Unpin for Call<F, T, E> {}

impl<F, T, E> Future for Call<F, T, E>
where
    F: FnOnce() -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    type Output = Result<T, Error<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let shared = &this.pool.inner.shared;
        let (id, task) = match mem::replace(&mut this.state, State::Done) {
            State::Unsent(work) => {
                let sent = if shared.meter.get().is_some() { shared.clock.now() } else { Instant::NEVER };
                let task = Arc::new(Task::new(work, sent));
                let job: Arc<dyn Job> = task.clone();
                match shared.submit(&job) {
                    Ok(id) => (id, task),
                    Err(RejectionPolicy::Abort) => return Poll::Ready(Err(this.pool.reject().into())),
                    Err(RejectionPolicy::CallerRuns) => {
                        shared.run(&*task, &mut || {});
                        return task.poll(cx.waker()).map(hand_over);
                    }
                }
            }
            State::Sent { id, task } => (id, task),
            State::Done => panic!("polled after its end"),
        };
        let result = task.poll(cx.waker());
        if result.is_pending() {
            this.state = State::Sent { id, task };
        }
        result.map(hand_over)
    }
}

/// The closure's result, or its panic, which goes on in the caller.
fn hand_over<T, E>(result: thread::Result<Result<T, E>>) -> Result<T, Error<E>> {
    match result {
        Ok(result) => result.map_err(Error::Inner),
        Err(panic) => resume_unwind(panic),
    }
}

impl<F, T, E> Drop for Call<F, T, E> {
    fn drop(&mut self) {
        if let State::Sent { id, .. } = self.state {
            self.pool.inner.shared.cancel(id);
        }
    }
}

impl<F, T, E> fmt::Debug for Call<F, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").finish_non_exhaustive()
    }
}

/// What a call and the thread that runs its closure share.
struct Task<F, R> {
    sent: Instant,
    work: Mutex<Option<F>>,
    outcome: Mutex<Outcome<R>>,
}

enum Outcome<R> {
    Awaited(Option<Waker>),
    Known(thread::Result<R>),
}

impl<F, R> Task<F, R> {
    fn new(work: F, sent: Instant) -> Self {
        Self { sent, work: Mutex::new(Some(work)), outcome: Mutex::new(Outcome::Awaited(None)) }
    }

    fn poll(&self, waker: &Waker) -> Poll<thread::Result<R>> {
        // Wakers are cloned and dropped outside the lock: they are the executor's code.
        let waker = waker.clone();
        let mut outcome = self.outcome.lock();
        match mem::replace(&mut *outcome, Outcome::Awaited(None)) {
            Outcome::Known(result) => Poll::Ready(result),
            Outcome::Awaited(_before) => {
                *outcome = Outcome::Awaited(Some(waker));
                drop(outcome);
                Poll::Pending
            }
        }
    }
}

impl<F, R> Job for Task<F, R>
where
    F: FnOnce() -> R + Send,
    R: Send,
{
    fn sent(&self) -> Instant {
        self.sent
    }

    fn run(&self, ended: &mut dyn FnMut()) {
        let work = self.work.lock().take().expect("a job runs once");
        let result = catch_unwind(AssertUnwindSafe(work));
        ended();
        let before = mem::replace(&mut *self.outcome.lock(), Outcome::Known(result));
        if let Outcome::Awaited(Some(waker)) = before {
            waker.wake();
        }
    }
}
