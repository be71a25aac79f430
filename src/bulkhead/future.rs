use std::{
    borrow::Borrow,
    fmt,
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;

use super::{
    Bulkhead, OwnedPermit, Permit,
    shared::{Entry, Ticket},
};
use crate::{
    clock::{Instant, Sleep},
    error::Rejected,
    policy::{Cx, Operation},
};

pin_project! {
    /// A call in a bulkhead.
    ///
    /// # Cancel safety
    /// Dropping it while it waits takes it out of the queue; dropping it later drops the call, then gives its place back.
    #[must_use = "futures do nothing unless polled"]
    pub struct Call<B: Borrow<Bulkhead>, Op: Operation> {
        bulkhead: B,
        #[pin]
        state: State<Op>,
    }

    impl<B: Borrow<Bulkhead>, Op: Operation> PinnedDrop for Call<B, Op> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let bulkhead = (*this.bulkhead).borrow();
            match this.state.as_mut().project() {
                StateProjection::Entering { admission, .. } => admission.cancel(bulkhead),
                StateProjection::Running { .. } => {
                    let _permit = Permit::new(bulkhead);
                    this.state.set(State::Done);
                }
                StateProjection::Done => {}
            }
        }
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<Op: Operation> {
        Entering { op: Option<Op>, cx: Cx, admission: Admission },
        Running { #[pin] future: Op::Future },
        Done,
    }
}

impl<B: Borrow<Bulkhead>, Op: Operation> Call<B, Op> {
    #[inline]
    pub(super) fn new(bulkhead: B, op: Op, cx: Cx) -> Self {
        let admission = Admission::default();
        Self { bulkhead, state: State::Entering { op: Some(op), cx, admission } }
    }
}

impl<B: Borrow<Bulkhead>, Op: Operation> Future for Call<B, Op> {
    type Output = Result<Op::Ok, Op::Err>;

    #[inline]
    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let bulkhead = (*this.bulkhead).borrow();
        if let StateProjection::Entering { op, cx, admission } = this.state.as_mut().project() {
            match admission.poll(bulkhead, cx, task) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(waited)) => {
                    this.state.set(State::Done);
                    return Poll::Ready(Err(bulkhead.reject(waited).into()));
                }
                Poll::Pending => return Poll::Pending,
            }
            let (op, cx) = (op.take().expect("polled after its end"), *cx);
            let ending = Ending { bulkhead, state: this.state.as_mut() };
            let future = op.start(cx);
            mem::forget(ending);
            this.state.set(State::Running { future });
        }
        let mut ending = Ending { bulkhead, state: this.state };
        let StateProjection::Running { future } = ending.state.as_mut().project() else {
            mem::forget(ending);
            panic!("polled after its end");
        };
        match future.poll(task) {
            Poll::Ready(result) => {
                drop(ending);
                Poll::Ready(result)
            }
            Poll::Pending => {
                mem::forget(ending);
                Poll::Pending
            }
        }
    }
}

/// Ends an admitted call, also where it unwinds: first its future goes, then its place is given back.
struct Ending<'a, 'b, Op: Operation> {
    bulkhead: &'a Bulkhead,
    state: Pin<&'b mut State<Op>>,
}

impl<Op: Operation> Drop for Ending<'_, '_, Op> {
    #[inline]
    fn drop(&mut self) {
        let permit = Permit::new(self.bulkhead);
        self.state.set(State::Done);
        permit.finish();
    }
}

impl<B: Borrow<Bulkhead>, Op: Operation> fmt::Debug for Call<B, Op> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").finish_non_exhaustive()
    }
}

/// A wait for a [`Permit`].
///
/// # Cancel safety
/// Nothing is held before its first poll. Dropping it takes it out of the queue, and passes a place that it was given on
/// to the next.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Acquire<'a> {
    bulkhead: &'a Bulkhead,
    admission: Admission,
}

impl<'a> Acquire<'a> {
    pub(super) fn new(bulkhead: &'a Bulkhead) -> Self {
        Self { bulkhead, admission: Admission::default() }
    }
}

impl<'a> Future for Acquire<'a> {
    type Output = Result<Permit<'a>, Rejected>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let bulkhead = self.bulkhead;
        let admitted = self.admission.poll(bulkhead, &mut Cx::new(), task);
        admitted.map(|admitted| match admitted {
            Ok(()) => Ok(Permit::new(bulkhead)),
            Err(waited) => Err(bulkhead.reject(waited)),
        })
    }
}

impl Drop for Acquire<'_> {
    fn drop(&mut self) {
        self.admission.cancel(self.bulkhead);
    }
}

/// A wait for an [`OwnedPermit`].
///
/// # Cancel safety
/// As that of [`Acquire`].
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct AcquireOwned {
    bulkhead: Bulkhead,
    admission: Admission,
}

impl AcquireOwned {
    pub(super) fn new(bulkhead: Bulkhead) -> Self {
        Self { bulkhead, admission: Admission::default() }
    }
}

impl Future for AcquireOwned {
    type Output = Result<OwnedPermit, Rejected>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let admitted = this.admission.poll(&this.bulkhead, &mut Cx::new(), task);
        admitted.map(|admitted| match admitted {
            Ok(()) => Ok(OwnedPermit::new(this.bulkhead.clone())),
            Err(waited) => Err(this.bulkhead.reject(waited)),
        })
    }
}

impl Drop for AcquireOwned {
    fn drop(&mut self) {
        self.admission.cancel(&self.bulkhead);
    }
}

/// A call on its way in.
#[derive(Debug, Default)]
struct Admission {
    waiting: Option<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    since: Instant,
    over: Sleep,
}

impl Admission {
    /// Ready when the call is in, or is rejected after waiting that long.
    #[inline]
    fn poll(&mut self, bulkhead: &Bulkhead, cx: &mut Cx, task: &mut Context<'_>) -> Poll<Result<(), Duration>> {
        if self.waiting.is_none() && bulkhead.inner.shared.try_enter() {
            bulkhead.permitted();
            return Poll::Ready(Ok(()));
        }
        self.poll_wait(bulkhead, cx, task)
    }

    fn poll_wait(&mut self, bulkhead: &Bulkhead, cx: &mut Cx, task: &mut Context<'_>) -> Poll<Result<(), Duration>> {
        let (shared, clock) = (&bulkhead.inner.shared, &bulkhead.inner.clock);
        let waiting = match &mut self.waiting {
            None => {
                let max_wait = shared.max_wait();
                if max_wait.is_zero() {
                    return Poll::Ready(Err(Duration::ZERO));
                }
                let since = cx.read(clock);
                let over = clock.sleep_until(since.saturating_add(max_wait));
                match shared.enter(task.waker().clone()) {
                    Entry::Admitted => {
                        bulkhead.permitted();
                        return Poll::Ready(Ok(()));
                    }
                    Entry::Queued(ticket) => self.waiting.insert(Waiting { ticket, since, over }),
                    Entry::Refused => return Poll::Ready(Err(Duration::ZERO)),
                }
            }
            Some(waiting) if shared.is_admitted(waiting.ticket, task.waker()) => {
                bulkhead.permitted_since(waiting.since);
                self.waiting = None;
                *cx = cx.after_a_wait();
                return Poll::Ready(Ok(()));
            }
            Some(waiting) => waiting,
        };
        if waiting.over.poll_later(task).is_pending() {
            return Poll::Pending;
        }
        let (ticket, since) = (waiting.ticket, waiting.since);
        self.waiting = None;
        if shared.leave_queue(ticket) {
            let waited = clock.now().saturating_duration_since(since);
            return Poll::Ready(Err(waited));
        }
        *cx = cx.after_a_wait();
        bulkhead.permitted_since(since);
        Poll::Ready(Ok(()))
    }

    /// A waiter that has been admitted without knowing it passes the place on.
    fn cancel(&mut self, bulkhead: &Bulkhead) {
        let Some(waiting) = self.waiting.take() else { return };
        if let Some(meter) = bulkhead.inner.meter.get() {
            meter.cancelled.add();
            meter.waited(waiting.since, bulkhead.inner.clock.now());
        }
        if !bulkhead.inner.shared.leave_queue(waiting.ticket) {
            bulkhead.inner.shared.leave();
        }
    }
}
