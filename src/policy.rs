//! What ties policies to calls: an [`Operation`] is a call that can be started once, a [`Policy`] guards one.
//!
//! Every handle is a policy, and so is a reference to one. Tuples of policies are policies, outermost first, and an
//! `Option` of a policy is one that can be switched off. Futures are named, so nothing is boxed: they are `Send` when the
//! call is, and borrow the handle when called through a reference.
//!
//! A future holds the future inside it from the start, so that nothing moves when it is polled: all of them are made
//! together, when the call is, and begin, from the outermost inwards, at the first poll. What one tells those inside, a
//! [`Cx`], comes with the poll: they are [`CallFuture`]s.
//!
//! A policy of your own needs one method. What it does there is done when the call is made; to do something before, while
//! or after the call is under way it has a [`CallFuture`] of its own.
//!
//! ```
//! use resile::{Operation, Pipeline, Policy, TimeLimiter};
//!
//! /// Counts the calls that are made.
//! #[derive(Default)]
//! struct Counted(std::sync::atomic::AtomicU32);
//!
//! impl<Op: Operation> Policy<Op> for &Counted {
//!     type Future = Op::Future;
//!
//!     fn run(self, op: Op) -> Op::Future {
//!         self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
//!         op.start()
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let pipeline = Pipeline::new((TimeLimiter::with_defaults("mail"), Counted::default()));
//! let sent = pipeline.call(|| async { Ok::<_, std::io::Error>("sent") }).await;
//! assert_eq!(sent.unwrap(), "sent");
//! # });
//! ```

mod handle;
mod nested;
mod plain;

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

pub(crate) use self::handle::{event_methods, handle_methods};
pub use self::{
    nested::{Around, Switched},
    plain::{AtFirstPoll, Blocking, Flat, Make, Plain, PlainWith, WithInner},
};
use crate::{
    clock::{Clock, Instant},
    error::Rejectable,
};

/// What a policy tells the call inside it. Two words to copy; more may be told later.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Cx {
    /// The time last read, on the clock of that number, if any.
    at: Instant,
    clock: u32,
    /// With a mark for a call that blocks.
    attempt: u32,
}

impl Cx {
    const NO_CLOCK: u32 = 0;
    const BLOCKING: u32 = 1 << 31;

    /// What a call outside every policy is told.
    pub const fn new() -> Self {
        Self { at: Instant::from_nanos(0), clock: Self::NO_CLOCK, attempt: 1 }
    }

    /// Which attempt this is, from 1.
    pub const fn attempt(&self) -> u32 {
        self.attempt & !Self::BLOCKING
    }

    /// The time on `clock`, if a policy around this one has just read it.
    #[inline]
    pub fn time_on(&self, clock: &Clock) -> Option<Instant> {
        (self.clock == clock.id()).then_some(self.at)
    }

    /// The time on `clock`: what was just read, or what it shows, kept for the policies inside.
    #[inline]
    pub fn read(&mut self, clock: &Clock) -> Instant {
        if self.clock != clock.id() {
            self.at = clock.now();
            self.clock = clock.id();
        }
        self.at
    }

    /// Forgets the time that was read, as a policy must that has waited since.
    #[must_use]
    pub fn after_a_wait(mut self) -> Self {
        self.clock = Self::NO_CLOCK;
        self
    }

    /// The same for another attempt.
    #[must_use]
    pub(crate) fn for_attempt(mut self, attempt: u32) -> Self {
        self.attempt = self.attempt & Self::BLOCKING | attempt.min(!Self::BLOCKING);
        self
    }

    /// Whether the call runs to its end within one poll, on a thread of its own.
    pub(crate) fn is_blocking(&self) -> bool {
        self.attempt & Self::BLOCKING != 0
    }

    pub(crate) fn blocking() -> Self {
        let cx = Self::new();
        Self { attempt: cx.attempt | Self::BLOCKING, ..cx }
    }
}

impl Default for Cx {
    fn default() -> Self {
        Self::new()
    }
}

/// A call that can be started once. It is `Clone` only if it may be started more than once, as [`Retry`](crate::Retry)
/// does.
pub trait Operation {
    /// What the call returns.
    type Ok;
    /// What the call fails with, and a rejection becomes.
    type Err: Rejectable;
    /// The call under way.
    type Future: CallFuture<Output = Result<Self::Ok, Self::Err>>;

    /// Makes the call's future. Nothing else should happen before that is polled.
    fn start(self) -> Self::Future;
}

/// A call under way: a future that is told something with each poll.
///
/// One that ends has given back what it held, without being dropped, since the policies around it give back theirs then.
/// As a plain future it is a call outside every policy.
///
/// ```
/// use pin_project_lite::pin_project;
/// use resile::{CallFuture, Cx, Operation, Policy};
/// use std::{pin::Pin, sync::atomic::{AtomicU32, Ordering}, task::{Context, Poll, ready}};
///
/// /// Counts the calls that end.
/// #[derive(Default)]
/// struct Ended(AtomicU32);
///
/// impl<'a, Op: Operation> Policy<Op> for &'a Ended {
///     type Future = EndedCall<'a, Op::Future>;
///
///     fn run(self, op: Op) -> Self::Future {
///         EndedCall { ended: &self.0, call: op.start() }
///     }
/// }
///
/// pin_project! {
///     struct EndedCall<'a, Fut> {
///         ended: &'a AtomicU32,
///         #[pin]
///         call: Fut,
///     }
/// }
///
/// impl<Fut: CallFuture> CallFuture for EndedCall<'_, Fut> {
///     fn poll_with(self: Pin<&mut Self>, cx: Cx, task: &mut Context<'_>) -> Poll<Fut::Output> {
///         let this = self.project();
///         let result = ready!(this.call.poll_with(cx, task));
///         this.ended.fetch_add(1, Ordering::Relaxed);
///         Poll::Ready(result)
///     }
/// }
///
/// impl<Fut: CallFuture> Future for EndedCall<'_, Fut> {
///     type Output = Fut::Output;
///
///     fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Fut::Output> {
///         self.poll_with(Cx::new(), task)
///     }
/// }
/// # let pipeline = resile::Pipeline::new((Ended::default(), resile::TimeLimiter::with_defaults("mail")));
/// # let sent = pipeline.call_blocking(|| Ok::<_, std::io::Error>("sent"));
/// # assert_eq!((sent.unwrap(), pipeline.policies().0.0.load(Ordering::Relaxed)), ("sent", 1));
/// ```
pub trait CallFuture: Future {
    /// Polls the call and tells it which attempt it is, and the time if that was read within this poll.
    fn poll_with(self: Pin<&mut Self>, cx: Cx, task: &mut Context<'_>) -> Poll<Self::Output>;
}

/// Guards calls. Implemented for a handle and for a reference to it, as `IntoIterator` is.
///
/// Admission happens when the future is first polled; a future that is never polled holds nothing.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot guard this call",
    label = "no policy for it",
    note = "policies are the handles of `resile` and references to them, an `Option` of a policy, tuples of one to eight, and pipelines"
)]
pub trait Policy<Op: Operation> {
    /// The guarded call.
    type Future: CallFuture<Output = Result<Op::Ok, Op::Err>>;

    /// Guards a call: makes the future that does.
    fn run(self, op: Op) -> Self::Future;
}
