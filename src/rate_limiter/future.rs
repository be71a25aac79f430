use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;

use super::{Limits, RateLimiter, state::Taken};
use crate::{
    clock::{Instant, Sleep},
    error::Rejected,
    policy::{Cx, Operation},
};

pin_project! {
    /// A call under a rate limit.
    ///
    /// # Cancel safety
    /// Dropping it while it waits gives its permits back where no later reservation depends on them. Once the call has
    /// started its permits are spent.
    #[must_use = "futures do nothing unless polled"]
    pub struct Call<L, Op: Operation> {
        limits: L,
        #[pin]
        state: State<Op>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<Op: Operation> {
        Unstarted { op: Option<Op>, cx: Cx },
        Waiting { op: Option<Op>, cx: Cx, waiting: Waiting },
        Running { #[pin] future: Op::Future },
        Done,
    }
}

impl<L: Limits<Op>, Op: Operation> Call<L, Op> {
    #[inline]
    pub(super) fn new(limits: L, op: Op, cx: Cx) -> Self {
        Self { limits, state: State::Unstarted { op: Some(op), cx } }
    }
}

impl<L: Limits<Op>, Op: Operation> Future for Call<L, Op> {
    type Output = Result<Op::Ok, Op::Err>;

    #[inline]
    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let limiter = this.limits.limiter();
        if let StateProjection::Unstarted { op, cx } = this.state.as_mut().project() {
            let op = op.take().expect("polled after a panic");
            let permits = this.limits.permits();
            let now = cx.read(limiter.clock());
            let cx = *cx;
            match limiter.shared().reserve(now.as_nanos(), permits, limiter.shared().timeout()) {
                Ok(taken) if taken.due <= now.as_nanos() => {
                    limiter.admitted(|| now, permits);
                    let future = op.start(cx);
                    this.state.set(State::Running { future });
                }
                Ok(taken) => {
                    let waiting = Waiting::new(limiter, permits, taken, now);
                    this.state.set(State::Waiting { op: Some(op), cx, waiting });
                }
                Err(refusal) => {
                    this.state.set(State::Done);
                    return Poll::Ready(Err(limiter.refused(now, permits, refusal).into()));
                }
            }
        }
        if let StateProjection::Waiting { op, cx, waiting } = this.state.as_mut().project() {
            ready!(waiting.poll(task));
            let future = op.take().expect("polled after a panic").start(cx.after_a_wait());
            this.state.set(State::Running { future });
        }
        let StateProjection::Running { future } = this.state.as_mut().project() else { panic!("polled after its end") };
        let result = ready!(future.poll(task));
        this.state.set(State::Done);
        if this.limits.drains(&result) {
            limiter.drain();
        }
        Poll::Ready(result)
    }
}

impl<L, Op: Operation> fmt::Debug for Call<L, Op> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").finish_non_exhaustive()
    }
}

/// Permits asked for: see [`RateLimiter::acquire`].
///
/// # Cancel safety
/// Dropping it while it waits gives its permits back where no later reservation depends on them. Before its first poll
/// nothing is held.
#[must_use = "futures do nothing unless polled"]
pub struct Acquire<'a> {
    limiter: &'a RateLimiter,
    state: AcquireState,
}

enum AcquireState {
    Unstarted { permits: u32 },
    Waiting(Waiting),
    Done,
}

impl<'a> Acquire<'a> {
    pub(super) fn new(limiter: &'a RateLimiter, permits: u32) -> Self {
        Self { limiter, state: AcquireState::Unstarted { permits } }
    }
}

impl Future for Acquire<'_> {
    type Output = Result<(), Rejected>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { limiter, state } = &mut *self;
        loop {
            match state {
                AcquireState::Unstarted { permits } => {
                    let (now, permits) = (limiter.clock().now(), *permits);
                    *state = AcquireState::Done;
                    let taken = limiter.take(now, permits, limiter.shared().timeout())?;
                    if taken.due <= now.as_nanos() {
                        limiter.admitted(|| now, permits);
                        return Poll::Ready(Ok(()));
                    }
                    *state = AcquireState::Waiting(Waiting::new(limiter, permits, taken, now));
                }
                AcquireState::Waiting(waiting) => {
                    ready!(waiting.poll(task));
                    *state = AcquireState::Done;
                    return Poll::Ready(Ok(()));
                }
                AcquireState::Done => panic!("polled after its end"),
            }
        }
    }
}

impl fmt::Debug for Acquire<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acquire").field("limiter", &self.limiter.name()).finish_non_exhaustive()
    }
}

/// A reservation that is waited for. Dropping it before its moment was seen gives the permits back.
struct Waiting {
    limiter: RateLimiter,
    permits: u32,
    taken: Option<Taken>,
    since: Instant,
    sleep: Sleep,
}

impl Waiting {
    #[cold]
    fn new(limiter: &RateLimiter, permits: u32, taken: Taken, since: Instant) -> Self {
        limiter.shared().wait_begins();
        let sleep = limiter.clock().sleep_until(Instant::from_nanos(taken.due));
        Self { limiter: limiter.clone(), permits, taken: Some(taken), since, sleep }
    }

    fn poll(&mut self, task: &mut Context<'_>) -> Poll<()> {
        ready!(Pin::new(&mut self.sleep).poll(task));
        self.taken = None;
        self.limiter.shared().wait_ends();
        self.limiter.waited_since(self.since);
        self.limiter.admitted(|| self.limiter.clock().now(), self.permits);
        Poll::Ready(())
    }
}

/// The permits of a call that never started.
impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(taken) = self.taken.take() {
            let shared = self.limiter.shared();
            shared.wait_ends();
            shared.give_back(taken, self.permits);
            self.limiter.waited_since(self.since);
            if let Some(meter) = self.limiter.inner.meter.get() {
                meter.cancelled.add();
            }
        }
    }
}
