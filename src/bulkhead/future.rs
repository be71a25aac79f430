use std::{
    borrow::Borrow,
    fmt,
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;

use super::{
    Bulkhead, OwnedPermit, Permit,
    shared::{Entry, Ticket},
};
use crate::{
    clock::{Instant, Sleep},
    error::{Rejectable, Rejected},
    policy::{CallFuture, Cx},
};

pin_project! {
    /// A call in a bulkhead.
    ///
    /// # Cancel safety
    /// Dropping it while it waits takes it out of the queue; dropping it later drops the call, then gives its place back.
    #[must_use = "futures do nothing unless polled"]
    pub struct Call<B: Borrow<Bulkhead>, Fut> {
        // Declared, and so dropped, before the place that it is in. `None` once it is rejected.
        #[pin]
        inner: Option<Fut>,
        place: Place<B>,
    }
}

impl<B: Borrow<Bulkhead>, Fut> Call<B, Fut> {
    #[inline]
    pub(super) fn new(bulkhead: B, inner: Fut) -> Self {
        Self { inner: Some(inner), place: Place { bulkhead, phase: Phase::Entering, admission: Admission::default() } }
    }
}

impl<B, Fut, T, E> CallFuture for Call<B, Fut>
where
    B: Borrow<Bulkhead>,
    Fut: CallFuture<Output = Result<T, E>>,
    E: Rejectable,
{
    #[inline]
    fn poll_with(self: Pin<&mut Self>, mut cx: Cx, task: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Place { bulkhead, phase, admission } = this.place;
        let bulkhead = (*bulkhead).borrow();
        match phase {
            Phase::Entering => {
                if !admission.enters_at_once(bulkhead) {
                    if let Err(waited) = ready!(admission.poll_wait(bulkhead, cx, task)) {
                        *phase = Phase::Done;
                        this.inner.set(None);
                        return Poll::Ready(Err(bulkhead.reject(waited).into()));
                    }
                    cx = cx.after_a_wait();
                }
                *phase = Phase::Inside;
            }
            Phase::Inside => {}
            Phase::Done => panic!("polled after its end"),
        }
        let inner = this.inner.as_pin_mut().expect("a call that was not rejected");
        let on_unwind = OnUnwind { bulkhead, phase };
        let polled = inner.poll_with(cx, task);
        mem::forget(on_unwind);
        if polled.is_ready() {
            *phase = Phase::Done;
            Permit::new(bulkhead).finish();
        }
        polled
    }
}

impl<B, Fut, T, E> Future for Call<B, Fut>
where
    B: Borrow<Bulkhead>,
    Fut: CallFuture<Output = Result<T, E>>,
    E: Rejectable,
{
    type Output = Result<T, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_with(Cx::new(), task)
    }
}

/// What a call holds in its bulkhead. A call that ends, ends it; what is dropped before was cancelled.
struct Place<B: Borrow<Bulkhead>> {
    bulkhead: B,
    phase: Phase,
    admission: Admission,
}

enum Phase {
    Entering,
    Inside,
    Done,
}

impl<B: Borrow<Bulkhead>> Drop for Place<B> {
    #[inline]
    fn drop(&mut self) {
        match self.phase {
            Phase::Entering => self.admission.cancel(self.bulkhead.borrow()),
            Phase::Inside => cancel(self.bulkhead.borrow()),
            Phase::Done => {}
        }
    }
}

/// Ends an admitted call that unwinds.
struct OnUnwind<'a> {
    bulkhead: &'a Bulkhead,
    phase: &'a mut Phase,
}

impl Drop for OnUnwind<'_> {
    #[inline]
    fn drop(&mut self) {
        *self.phase = Phase::Done;
        unwind(self.bulkhead);
    }
}

// These two are out of line, so that there is little in the way of a call that ends well.

#[cold]
#[inline(never)]
fn unwind(bulkhead: &Bulkhead) {
    Permit::new(bulkhead).finish();
}

#[cold]
#[inline(never)]
fn cancel(bulkhead: &Bulkhead) {
    bulkhead.inner.shared.leave();
}

impl<B: Borrow<Bulkhead>, Fut> fmt::Debug for Call<B, Fut> {
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
        let admitted = self.admission.poll(bulkhead, task);
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
        let admitted = this.admission.poll(&this.bulkhead, task);
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
    /// Whether the call is in without waiting.
    #[inline]
    fn enters_at_once(&self, bulkhead: &Bulkhead) -> bool {
        let entered = self.waiting.is_none() && bulkhead.inner.shared.try_enter();
        if entered {
            bulkhead.permitted();
        }
        entered
    }

    fn poll(&mut self, bulkhead: &Bulkhead, task: &mut Context<'_>) -> Poll<Result<(), Duration>> {
        if self.enters_at_once(bulkhead) {
            return Poll::Ready(Ok(()));
        }
        self.poll_wait(bulkhead, Cx::new(), task)
    }

    /// Ready when the call is in, or is rejected after waiting that long.
    #[cold]
    #[inline(never)]
    fn poll_wait(&mut self, bulkhead: &Bulkhead, mut cx: Cx, task: &mut Context<'_>) -> Poll<Result<(), Duration>> {
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
        bulkhead.permitted_since(since);
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn cancel(&mut self, bulkhead: &Bulkhead) {
        if self.waiting.is_some() {
            self.cancel_wait(bulkhead);
        }
    }

    /// A waiter that has been admitted without knowing it passes the place on.
    #[cold]
    fn cancel_wait(&mut self, bulkhead: &Bulkhead) {
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
