use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;

use super::Limits;
use crate::{
    clock::{Instant, Sleep},
    error::{Rejectable, Rejected},
    policy::{CallFuture, Cx},
};

pin_project! {
    /// A call under a time limit.
    ///
    /// # Cancel safety
    /// Dropping it drops the call and the timer.
    #[must_use = "futures do nothing unless polled"]
    pub struct Call<L, Fut> {
        limits: L,
        // `None` once its time is over.
        #[pin]
        inner: Option<Fut>,
        // Its time and its start, once it has been pending.
        running: Option<(u64, Instant)>,
        sleep: Option<Sleep>,
    }
}

impl<L: Limits, Fut> Call<L, Fut> {
    #[inline]
    pub(super) fn new(limits: L, inner: Fut) -> Self {
        Self { limits, inner: Some(inner), running: None, sleep: None }
    }
}

impl<L, Fut, T, E> CallFuture for Call<L, Fut>
where
    L: Limits,
    Fut: CallFuture<Output = Result<T, E>>,
    E: Rejectable,
{
    #[inline]
    fn poll_with(self: Pin<&mut Self>, mut cx: Cx, task: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let limiter = this.limits.limiter();
        let clock = &limiter.inner.clock;
        let Some(inner) = this.inner.as_mut().as_pin_mut() else { panic!("polled after its end") };
        let (timeout, started) = match *this.running {
            Some((timeout, started)) => (timeout, Some(started)),
            None => (this.limits.timeout(cx), if cx.is_blocking() { Some(cx.read(clock)) } else { cx.time_on(clock) }),
        };
        if let Poll::Ready(result) = inner.poll_with(cx, task) {
            *this.sleep = None;
            // Within one poll nothing can interrupt a closure; afterwards its time can be told.
            let spent = started.filter(|_| cx.is_blocking());
            if spent.is_some_and(|at| clock.now() > after(at, timeout)) {
                return Poll::Ready(Err(Rejected::from(limiter.timed_out(Duration::from_nanos(timeout))).into()));
            }
            limiter.ended(started, result.is_ok());
            return Poll::Ready(result);
        }
        let over = match this.sleep {
            Some(sleep) => Pin::new(sleep).poll(task),
            None => {
                let now = clock.now();
                let started = started.unwrap_or(now);
                *this.running = Some((timeout, started));
                let deadline = after(started, timeout);
                if now >= deadline {
                    Poll::Ready(())
                } else {
                    this.sleep.insert(clock.sleep_until(deadline)).poll_later(task)
                }
            }
        };
        if over.is_pending() {
            return Poll::Pending;
        }
        this.inner.set(None);
        *this.sleep = None;
        Poll::Ready(Err(Rejected::from(limiter.timed_out(Duration::from_nanos(timeout))).into()))
    }
}

impl<L, Fut, T, E> Future for Call<L, Fut>
where
    L: Limits,
    Fut: CallFuture<Output = Result<T, E>>,
    E: Rejectable,
{
    type Output = Result<T, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_with(Cx::new(), task)
    }
}

fn after(start: Instant, nanos: u64) -> Instant {
    Instant::from_nanos(start.as_nanos().saturating_add(nanos))
}

impl<L, Fut> fmt::Debug for Call<L, Fut> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").finish_non_exhaustive()
    }
}
