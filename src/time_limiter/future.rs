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
    error::Rejected,
    policy::{Cx, Operation},
};

pin_project! {
    /// A call under a time limit.
    ///
    /// # Cancel safety
    /// Dropping it drops the call and the timer.
    #[must_use = "futures do nothing unless polled"]
    pub struct Call<L, Op: Operation> {
        limits: L,
        #[pin]
        state: State<Op>,
        timeout: Duration,
        started: Option<Instant>,
        blocking: bool,
        sleep: Option<Sleep>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<Op: Operation> {
        Unstarted { op: Option<Op>, cx: Cx },
        Running { #[pin] future: Op::Future },
        Done,
    }
}

impl<L: Limits, Op: Operation> Call<L, Op> {
    #[inline]
    pub(super) fn new(limits: L, op: Op, cx: Cx) -> Self {
        let state = State::Unstarted { op: Some(op), cx };
        Self { limits, state, timeout: Duration::ZERO, started: None, blocking: cx.is_blocking(), sleep: None }
    }
}

impl<L: Limits, Op: Operation> Future for Call<L, Op> {
    type Output = Result<Op::Ok, Op::Err>;

    #[inline]
    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let limiter = this.limits.limiter();
        let clock = &limiter.inner.clock;
        loop {
            match this.state.as_mut().project() {
                StateProjection::Unstarted { op, cx } => {
                    let op = op.take().expect("polled after a panic");
                    *this.timeout = this.limits.timeout(*cx);
                    *this.started = if *this.blocking { Some(cx.read(clock)) } else { cx.time_on(clock) };
                    let future = op.start(*cx);
                    this.state.set(State::Running { future });
                }
                StateProjection::Running { future } => {
                    if let Poll::Ready(result) = future.poll(task) {
                        this.state.set(State::Done);
                        *this.sleep = None;
                        // Within one poll nothing can interrupt a closure; afterwards its time can be told.
                        let spent = this.started.filter(|_| *this.blocking);
                        if spent.is_some_and(|at| clock.now() > at.saturating_add(*this.timeout)) {
                            break;
                        }
                        limiter.ended(*this.started, result.is_ok());
                        return Poll::Ready(result);
                    }
                    let over = match this.sleep {
                        Some(sleep) => Pin::new(sleep).poll(task),
                        None => {
                            let now = clock.now();
                            let deadline = this.started.get_or_insert(now).saturating_add(*this.timeout);
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
                    this.state.set(State::Done);
                    *this.sleep = None;
                    break;
                }
                StateProjection::Done => panic!("polled after its end"),
            }
        }
        Poll::Ready(Err(Rejected::from(limiter.timed_out(*this.timeout)).into()))
    }
}

impl<L, Op: Operation> fmt::Debug for Call<L, Op> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").finish_non_exhaustive()
    }
}
