use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;

use super::Handler;
use crate::policy::{Cx, Operation};

pin_project! {
    /// A call with a fallback.
    ///
    /// # Cancel safety
    /// Dropping it drops the call, or the fallback, that is under way.
    #[must_use = "futures do nothing unless polled"]
    // The fallback's future is a parameter because a type that names it through `H` is not `Send` to the compiler where
    // the error borrows, as `&'static str` does.
    pub struct Call<H, Op: Operation, Fut> {
        handler: H,
        #[pin]
        state: State<Op, Fut>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<Op: Operation, Fut> {
        Unstarted { op: Option<Op>, cx: Cx },
        Running { #[pin] future: Op::Future },
        FallingBack { #[pin] future: Fut },
        Done,
    }
}

impl<H, Op: Operation, Fut> Call<H, Op, Fut> {
    #[inline]
    pub(super) fn new(handler: H, op: Op, cx: Cx) -> Self {
        Self { handler, state: State::Unstarted { op: Some(op), cx } }
    }
}

impl<H, Op> Future for Call<H, Op, H::Future>
where
    H: Handler<Op::Ok, Op::Err>,
    Op: Operation,
{
    type Output = Result<Op::Ok, Op::Err>;

    #[inline]
    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateProjection::Unstarted { op, cx } => {
                    let op = op.take().expect("polled after a panic");
                    let future = op.start(*cx);
                    this.state.set(State::Running { future });
                }
                StateProjection::Running { future } => {
                    let result = ready!(future.poll(task));
                    // What the failed call holds is given back before the fallback may need it.
                    this.state.set(State::Done);
                    match result {
                        Ok(value) => return Poll::Ready(Ok(value)),
                        Err(error) => {
                            let future = this.handler.handle(error);
                            this.state.set(State::FallingBack { future });
                        }
                    }
                }
                StateProjection::FallingBack { future } => {
                    let result = ready!(future.poll(task));
                    this.state.set(State::Done);
                    return Poll::Ready(result);
                }
                StateProjection::Done => panic!("polled after its end"),
            }
        }
    }
}

impl<H, Op: Operation, Fut> fmt::Debug for Call<H, Op, Fut> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").finish_non_exhaustive()
    }
}
