use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;

use super::Handler;
use crate::policy::{CallFuture, Cx};

pin_project! {
    /// A call with a fallback.
    ///
    /// # Cancel safety
    /// Dropping it drops the call, or the fallback, that is under way.
    #[must_use = "futures do nothing unless polled"]
    // The fallback's future is a parameter because a type that names it through `H` is not `Send` to the compiler where
    // the error borrows, as `&'static str` does.
    pub struct Call<H, Fut, Instead> {
        handler: H,
        #[pin]
        state: State<Fut, Instead>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<Fut, Instead> {
        Running { #[pin] inner: Fut },
        FallingBack { #[pin] instead: Instead },
        Done,
    }
}

impl<H, Fut, Instead> Call<H, Fut, Instead> {
    #[inline]
    pub(super) fn new(handler: H, inner: Fut) -> Self {
        Self { handler, state: State::Running { inner } }
    }
}

impl<H, Fut, T, E> CallFuture for Call<H, Fut, H::Future>
where
    H: Handler<T, E>,
    Fut: CallFuture<Output = Result<T, E>>,
{
    #[inline]
    fn poll_with(self: Pin<&mut Self>, cx: Cx, task: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let StateProjection::Running { inner } = this.state.as_mut().project() {
            let result = ready!(inner.poll_with(cx, task));
            // What the failed call holds is given back before the fallback may need it.
            this.state.set(State::Done);
            match result {
                Ok(value) => return Poll::Ready(Ok(value)),
                Err(error) => {
                    let instead = this.handler.handle(error);
                    this.state.set(State::FallingBack { instead });
                }
            }
        }
        let StateProjection::FallingBack { instead } = this.state.as_mut().project() else {
            panic!("polled after its end");
        };
        let result = ready!(instead.poll(task));
        this.state.set(State::Done);
        Poll::Ready(result)
    }
}

impl<H, Fut, T, E> Future for Call<H, Fut, H::Future>
where
    H: Handler<T, E>,
    Fut: CallFuture<Output = Result<T, E>>,
{
    type Output = Result<T, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_with(Cx::new(), task)
    }
}

impl<H, Fut, Instead> fmt::Debug for Call<H, Fut, Instead> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").finish_non_exhaustive()
    }
}
