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
    policy::{Cx, Operation},
};

/// A breaker, and what a result means to it.
pub trait Judge<T, E> {
    /// The breaker.
    fn breaker(&self) -> &CircuitBreaker;
    /// What the result means.
    fn verdict(&self, result: &Result<T, E>) -> Verdict;
}

impl<T, E: Rejectable> Judge<T, E> for CircuitBreaker {
    #[inline]
    fn breaker(&self) -> &CircuitBreaker {
        self
    }

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
    fn breaker(&self) -> &CircuitBreaker {
        &self.breaker
    }

    #[inline]
    fn verdict(&self, result: &Result<T, E>) -> Verdict {
        (self.judge)(result).into()
    }
}

impl<T, E, J: Judge<T, E>> Judge<T, E> for &J {
    #[inline]
    fn breaker(&self) -> &CircuitBreaker {
        (**self).breaker()
    }

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
    pub struct Call<J, Op>
    where
        Op: Operation,
        J: Judge<Op::Ok, Op::Err>,
    {
        judge: J,
        ticket: Ticket,
        held: bool,
        #[pin]
        state: State<Op>,
    }

    impl<J, Op> PinnedDrop for Call<J, Op>
    where
        Op: Operation,
        J: Judge<Op::Ok, Op::Err>,
    {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if *this.held {
                // The call ends first, then its place is given back, also where the call panics as it goes.
                let _given_back = OnDrop { breaker: this.judge.breaker(), ticket: this.ticket };
                this.state.set(State::Done);
            }
        }
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

impl<J, Op> Call<J, Op>
where
    Op: Operation,
    J: Judge<Op::Ok, Op::Err>,
{
    #[inline]
    pub(super) fn new(judge: J, op: Op, cx: Cx) -> Self {
        Self { judge, ticket: Ticket::default(), held: false, state: State::Unstarted { op: Some(op), cx } }
    }
}

/// Gives a place back.
struct OnDrop<'a> {
    breaker: &'a CircuitBreaker,
    ticket: &'a Ticket,
}

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.breaker.cancel(self.ticket);
    }
}

/// Counts a failure if the code of the call or of the classifier unwinds.
struct OnUnwind<'a> {
    breaker: &'a CircuitBreaker,
    ticket: &'a Ticket,
    held: &'a mut bool,
}

impl Drop for OnUnwind<'_> {
    #[cold]
    fn drop(&mut self) {
        *self.held = false;
        self.breaker.finish(self.ticket, Outcome::Failure.into());
    }
}

impl<J, Op> Future for Call<J, Op>
where
    Op: Operation,
    J: Judge<Op::Ok, Op::Err>,
{
    type Output = Result<Op::Ok, Op::Err>;

    #[inline]
    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let breaker = this.judge.breaker();
        loop {
            match this.state.as_mut().project() {
                StateProjection::Unstarted { op, cx } => {
                    let op = op.take().expect("polled after a panic");
                    if let Err(rejected) = breaker.admit(cx, this.ticket) {
                        this.state.set(State::Done);
                        return Poll::Ready(Err(rejected.into()));
                    }
                    *this.held = true;
                    let guard = OnUnwind { breaker, ticket: this.ticket, held: this.held };
                    let future = op.start(*cx);
                    mem::forget(guard);
                    this.state.set(State::Running { future });
                }
                StateProjection::Running { future } => {
                    let guard = OnUnwind { breaker, ticket: this.ticket, held: this.held };
                    let Poll::Ready(result) = future.poll(task) else {
                        mem::forget(guard);
                        return Poll::Pending;
                    };
                    let verdict = this.judge.verdict(&result);
                    mem::forget(guard);
                    *this.held = false;
                    breaker.finish(this.ticket, verdict);
                    this.state.set(State::Done);
                    return Poll::Ready(result);
                }
                StateProjection::Done => panic!("polled after its end"),
            }
        }
    }
}

impl<J, Op> fmt::Debug for Call<J, Op>
where
    Op: Operation,
    J: Judge<Op::Ok, Op::Err>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").finish_non_exhaustive()
    }
}
