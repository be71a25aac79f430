use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use super::{CircuitBreaker, Classified, state::Ticket};
use crate::{
    error::Rejectable,
    outcome::{Outcome, Verdict},
    policy::{CallFuture, Cx},
};

/// A breaker, and what a result means to it.
pub trait Judge<T, E>: AsRef<CircuitBreaker> {
    /// What the result means.
    fn verdict(&self, result: &Result<T, E>) -> Verdict;
}

impl<T, E: Rejectable> Judge<T, E> for CircuitBreaker {
    #[inline]
    fn verdict(&self, result: &Result<T, E>) -> Verdict {
        Outcome::of(result).into()
    }
}

impl<T, E, F, V> Judge<T, E> for Classified<F>
where
    F: Fn(&Result<T, E>) -> V,
    V: Into<Verdict>,
{
    #[inline]
    fn verdict(&self, result: &Result<T, E>) -> Verdict {
        (self.judge)(result).into()
    }
}

impl<T, E, J: Judge<T, E>> Judge<T, E> for &J {
    #[inline]
    fn verdict(&self, result: &Result<T, E>) -> Verdict {
        (**self).verdict(result)
    }
}

pin_project! {
    /// A call through a breaker.
    ///
    /// # Cancel safety
    /// Dropping it drops the call and gives its place back; the call is not counted. Before the first poll it holds
    /// nothing.
    #[must_use = "futures do nothing unless polled"]
    pub struct Call<J: AsRef<CircuitBreaker>, Fut> {
        // Declared, and so dropped, before the place that it has. `None` once it is rejected.
        #[pin]
        inner: Option<Fut>,
        place: Place<J>,
    }
}

/// What a call holds in its breaker: a place, given back where the call is dropped, also where it panics as it goes.
struct Place<J: AsRef<CircuitBreaker>> {
    judge: J,
    ticket: Ticket,
    phase: Phase,
}

#[derive(PartialEq)]
enum Phase {
    Unstarted,
    Held,
    Done,
}

impl<J: AsRef<CircuitBreaker>> Drop for Place<J> {
    #[inline]
    fn drop(&mut self) {
        if self.phase == Phase::Held {
            cancel(self.judge.as_ref(), &self.ticket);
        }
    }
}

impl<J: AsRef<CircuitBreaker>, Fut> Call<J, Fut> {
    #[inline]
    pub(super) fn new(judge: J, inner: Fut) -> Self {
        Self { inner: Some(inner), place: Place { judge, ticket: Ticket::default(), phase: Phase::Unstarted } }
    }
}

/// Counts a failure if the code of the call or of the classifier unwinds.
struct OnUnwind<'a> {
    breaker: &'a CircuitBreaker,
    ticket: &'a Ticket,
    phase: &'a mut Phase,
}

impl Drop for OnUnwind<'_> {
    #[inline]
    fn drop(&mut self) {
        *self.phase = Phase::Done;
        unwind(self.breaker, self.ticket);
    }
}

// These two are out of line, so that there is little in the way of a call that ends well.

#[cold]
#[inline(never)]
fn unwind(breaker: &CircuitBreaker, ticket: &Ticket) {
    breaker.finish(ticket, Outcome::Failure.into());
}

#[cold]
#[inline(never)]
fn cancel(breaker: &CircuitBreaker, ticket: &Ticket) {
    breaker.cancel(ticket);
}

impl<J, Fut, T, E> CallFuture for Call<J, Fut>
where
    J: Judge<T, E>,
    Fut: CallFuture<Output = Result<T, E>>,
    E: Rejectable,
{
    #[inline]
    fn poll_with(self: Pin<&mut Self>, mut cx: Cx, task: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Place { judge, ticket, phase } = this.place;
        let breaker = judge.as_ref();
        match phase {
            Phase::Unstarted => {
                if let Err(refusal) = breaker.admit(&mut cx, ticket) {
                    *phase = Phase::Done;
                    this.inner.set(None);
                    return Poll::Ready(Err(breaker.rejected(refusal).into()));
                }
                *phase = Phase::Held;
            }
            Phase::Held => {}
            Phase::Done => panic!("polled after its end"),
        }
        let inner = this.inner.as_pin_mut().expect("a call that was not rejected");
        let on_unwind = OnUnwind { breaker, ticket, phase };
        let Poll::Ready(result) = inner.poll_with(cx, task) else {
            mem::forget(on_unwind);
            return Poll::Pending;
        };
        let verdict = judge.verdict(&result);
        mem::forget(on_unwind);
        *phase = Phase::Done;
        breaker.finish(ticket, verdict);
        Poll::Ready(result)
    }
}

impl<J, Fut, T, E> Future for Call<J, Fut>
where
    J: Judge<T, E>,
    Fut: CallFuture<Output = Result<T, E>>,
    E: Rejectable,
{
    type Output = Result<T, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_with(Cx::new(), task)
    }
}

impl<J: AsRef<CircuitBreaker>, Fut> fmt::Debug for Call<J, Fut> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").finish_non_exhaustive()
    }
}
