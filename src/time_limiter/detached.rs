use std::{
    fmt,
    future::{Future, poll_fn},
    panic::resume_unwind,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::task::JoinHandle;

use super::TimeLimiter;
use crate::{
    clock::{Instant, Sleep},
    error::Rejected,
    event::EventKind,
    policy::{CallFuture, Cx, Operation, Policy},
};

/// A [`TimeLimiter`] that lets a call it gives up go on in a task of its own, and reports
/// [`DetachedFinished`](EventKind::DetachedFinished) when that ends.
///
/// Whatever the policies inside hold for the call, such as a bulkhead's place, is held until the work ends, not until the
/// caller stops waiting. The call must be `'static` and `Send`, so the policies inside must be owned: use it through
/// [`Pipeline`](crate::Pipeline) as a tower layer, or as the innermost policy.
///
/// # Panics
/// When first polled outside a tokio runtime.
#[derive(Debug, Clone)]
pub struct DetachedTimeLimiter {
    limiter: TimeLimiter,
}

impl DetachedTimeLimiter {
    pub(super) fn new(limiter: TimeLimiter) -> Self {
        Self { limiter }
    }

    /// The limiter this shares its settings and events with.
    pub fn limiter(&self) -> &TimeLimiter {
        &self.limiter
    }
}

crate::policy::handle_methods!(DetachedTimeLimiter);

impl<Op> Policy<Op> for DetachedTimeLimiter
where
    Op: Operation + Send + 'static,
    Op::Future: Send,
    Op::Ok: Send + 'static,
    Op::Err: Send + 'static,
{
    type Future = DetachedCall<Op>;

    fn run(self, op: Op) -> Self::Future {
        DetachedCall { limiter: self.limiter, op: Some(op), work: None }
    }
}

impl<Op> Policy<Op> for &DetachedTimeLimiter
where
    DetachedTimeLimiter: Policy<Op>,
    Op: Operation,
{
    type Future = <DetachedTimeLimiter as Policy<Op>>::Future;

    fn run(self, op: Op) -> Self::Future {
        self.clone().run(op)
    }
}

/// A call under a time limit that goes on when it is given up.
///
/// # Cancel safety
/// Dropping it before its first poll starts nothing; afterwards the call goes on.
#[must_use = "futures do nothing unless polled"]
pub struct DetachedCall<Op: Operation> {
    limiter: TimeLimiter,
    op: Option<Op>,
    work: Option<Work<Op::Ok, Op::Err>>,
}

struct Work<T, E> {
    /// `None` once the runtime, going down, has ended the task.
    task: Option<JoinHandle<Result<T, E>>>,
    timeout: Duration,
    over: Sleep,
    fate: Arc<Fate>,
}

/// What has become of the work and of whoever waited for it: the second to go reports the end.
struct Fate {
    limiter: TimeLimiter,
    started: Instant,
    one_is_gone: AtomicBool,
}

impl Fate {
    fn leave(&self) {
        if self.one_is_gone.swap(true, Ordering::AcqRel) {
            let now = self.limiter.inner.clock.now();
            let elapsed = now.saturating_duration_since(self.started);
            if let Some(meter) = self.limiter.inner.meter.get() {
                meter.detached.add();
            }
            self.limiter.source().publish(|| now, || EventKind::DetachedFinished { elapsed });
        }
    }
}

/// The work's end, also where it panics.
struct Ending(Arc<Fate>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl<Op: Operation> Unpin for DetachedCall<Op> {}

impl<Op> Future for DetachedCall<Op>
where
    Op: Operation + Send + 'static,
    Op::Future: Send,
    Op::Ok: Send + 'static,
    Op::Err: Send + 'static,
{
    type Output = Result<Op::Ok, Op::Err>;

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_with(Cx::new(), task)
    }
}

impl<Op> CallFuture for DetachedCall<Op>
where
    Op: Operation + Send + 'static,
    Op::Future: Send,
    Op::Ok: Send + 'static,
    Op::Err: Send + 'static,
{
    fn poll_with(mut self: Pin<&mut Self>, mut cx: Cx, task: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let clock = &this.limiter.inner.clock;
        if let Some(op) = this.op.take() {
            let (started, timeout) = (cx.read(clock), this.limiter.timeout_duration());
            let one_is_gone = AtomicBool::new(false);
            let fate = Arc::new(Fate { limiter: this.limiter.clone(), started, one_is_gone });
            let ending = Ending(Arc::clone(&fate));
            let work = async move {
                let _ending = ending;
                let mut call = pin!(op.start());
                poll_fn(|task| {
                    let told = cx;
                    cx = cx.after_a_wait();
                    call.as_mut().poll_with(told, task)
                })
                .await
            };
            let over = clock.sleep_until(started.saturating_add(timeout));
            this.work = Some(Work { task: Some(tokio::spawn(work)), timeout, over, fate });
        }
        let work = this.work.as_mut().expect("polled after its end");
        match work.task.as_mut().map(|work| Pin::new(work).poll(task)) {
            Some(Poll::Ready(Ok(result))) => {
                this.work = None;
                this.limiter.ended(None, result.is_ok());
                return Poll::Ready(result);
            }
            Some(Poll::Ready(Err(error))) if error.is_panic() => {
                this.work = None;
                resume_unwind(error.into_panic())
            }
            Some(Poll::Ready(Err(_))) => work.task = None,
            Some(Poll::Pending) | None => {}
        }
        if Pin::new(&mut work.over).poll(task).is_pending() {
            return Poll::Pending;
        }
        let timed_out = this.limiter.timed_out(work.timeout);
        work.fate.leave();
        this.work = None;
        Poll::Ready(Err(Rejected::from(timed_out).into()))
    }
}

impl<Op: Operation> Drop for DetachedCall<Op> {
    fn drop(&mut self) {
        if let Some(work) = &self.work {
            work.fate.leave();
        }
    }
}

impl<Op: Operation> fmt::Debug for DetachedCall<Op> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DetachedCall").finish_non_exhaustive()
    }
}
