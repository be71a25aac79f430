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
    error::{Rejectable, Rejected},
    policy::{CallFuture, Cx},
};

pin_project! {
    /// A call under a rate limit.
    ///
    /// # Cancel safety
    /// Dropping it while it waits gives its permits back where no later reservation depends on them. Once the call has
    /// started its permits are spent.
    #[must_use = "futures do nothing unless polled"]
    pub struct Call<L, Fut> {
        limits: L,
        // `None` once it is refused.
        #[pin]
        inner: Option<Fut>,
        waiting: Option<Waiting>,
        phase: Phase,
    }
}

#[derive(PartialEq)]
enum Phase {
    Unstarted,
    Reserved,
    Done,
}

impl<L, Fut> Call<L, Fut> {
    #[inline]
    pub(super) fn new(limits: L, inner: Fut) -> Self {
        Self { limits, inner: Some(inner), waiting: None, phase: Phase::Unstarted }
    }
}

impl<L, Fut, T, E> CallFuture for Call<L, Fut>
where
    L: Limits<T, E>,
    Fut: CallFuture<Output = Result<T, E>>,
    E: Rejectable,
{
    #[inline]
    fn poll_with(self: Pin<&mut Self>, mut cx: Cx, task: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let limiter = this.limits.limiter();
        if *this.phase == Phase::Done {
            panic!("polled after its end");
        }
        if *this.phase == Phase::Unstarted {
            let (permits, now) = (this.limits.permits(), cx.read(limiter.clock()));
            match limiter.shared().reserve(now.as_nanos(), permits, limiter.shared().timeout()) {
                Ok(taken) if taken.due <= now.as_nanos() => {
                    *this.phase = Phase::Reserved;
                    limiter.admitted(|| now, permits);
                }
                Ok(taken) => {
                    *this.phase = Phase::Reserved;
                    *this.waiting = Some(Waiting::new(limiter, permits, taken, now));
                }
                Err(refusal) => {
                    *this.phase = Phase::Done;
                    this.inner.set(None);
                    return Poll::Ready(Err(limiter.refused(now, permits, refusal).into()));
                }
            }
        }
        if let Some(waiting) = this.waiting {
            ready!(waiting.poll(task));
            *this.waiting = None;
            cx = cx.after_a_wait();
        }
        let inner = this.inner.as_pin_mut().expect("a call that was not refused");
        let result = ready!(inner.poll_with(cx, task));
        *this.phase = Phase::Done;
        if this.limits.drains(&result) {
            limiter.drain();
        }
        Poll::Ready(result)
    }
}

impl<L, Fut, T, E> Future for Call<L, Fut>
where
    L: Limits<T, E>,
    Fut: CallFuture<Output = Result<T, E>>,
    E: Rejectable,
{
    type Output = Result<T, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_with(Cx::new(), task)
    }
}

impl<L, Fut> fmt::Debug for Call<L, Fut> {
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

    #[cold]
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
    #[cold]
    #[inline(never)]
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
