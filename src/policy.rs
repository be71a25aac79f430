//! What ties policies to calls: an [`Operation`] is a call that can be started once, a [`Policy`] guards one.
//!
//! Every handle is a policy, and so is a reference to one. Tuples of policies are policies, outermost first, and an
//! `Option` of a policy is one that can be switched off. Futures are named, so nothing is boxed: they are `Send` when the
//! call is, and borrow the handle when called through a reference.
//!
//! A policy of your own needs one method and one future:
//!
//! ```
//! use resile::{Cx, Operation, Pipeline, Policy, TimeLimiter};
//!
//! /// Counts the calls that pass.
//! #[derive(Default)]
//! struct Counted(std::sync::atomic::AtomicU32);
//!
//! impl<Op: Operation> Policy<Op> for &Counted {
//!     type Future = Op::Future;
//!
//!     fn run(self, op: Op, cx: Cx) -> Op::Future {
//!         self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
//!         op.start(cx)
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

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

pub(crate) use self::handle::{event_methods, handle_methods};
pub use self::nested::{Around, Switched};
use crate::{
    clock::{Clock, Instant},
    error::{Error, Rejectable},
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
    type Future: Future<Output = Result<Self::Ok, Self::Err>>;

    /// Starts the call. Nothing happens before this, and a future that is never polled should do nothing either.
    fn start(self, cx: Cx) -> Self::Future;
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
    type Future: Future<Output = Result<Op::Ok, Op::Err>>;

    /// Guards a call.
    fn run(self, op: Op, cx: Cx) -> Self::Future;
}

/// A closure that returns a future, as `call` takes it. Its error becomes [`Error::Inner`].
///
/// It is `Clone`, and so can be retried, only where the closure is `Fn + Clone`. A `move` closure that changes what it
/// captured is `Clone` too, but would start every attempt from its first state, in silence; it is refused:
///
/// ```compile_fail
/// let retry = resile::Retry::with_defaults("orders");
/// let mut sent = 0;
/// let call = retry.call(move || {
///     sent += 1;
///     async move { Ok::<_, std::io::Error>(sent) }
/// });
/// ```
///
/// And so is a closure that gives away what it captured:
///
/// ```compile_fail
/// let retry = resile::Retry::with_defaults("orders");
/// let order = String::from("an order");
/// let call = retry.call(move || std::future::ready(Ok::<_, std::io::Error>(order)));
/// ```
///
/// Without a retry it may:
///
/// ```
/// let breaker = resile::CircuitBreaker::with_defaults("orders");
/// let order = String::from("an order");
/// let call = breaker.call(move || std::future::ready(Ok::<_, std::io::Error>(order)));
/// ```
pub struct Plain<F>(pub(crate) F);

/// A closure that takes the [`Cx`] and returns a future, as `call_with` takes it. Its error becomes [`Error::Inner`].
pub struct PlainWith<F>(pub(crate) F);

/// A closure whose future's error is itself [`Rejectable`], as `call_flat` takes it. The error is kept as it is.
pub struct Flat<F>(pub(crate) F);

/// A closure that blocks, as `call_blocking` takes it. Its error becomes [`Error::Inner`].
pub struct Blocking<F>(pub(crate) F);

impl<F, Fut> Clone for Plain<F>
where
    F: Fn() -> Fut + Clone,
{
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<F, Fut> Clone for PlainWith<F>
where
    F: Fn(Cx) -> Fut + Clone,
{
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<F, Fut> Clone for Flat<F>
where
    F: Fn() -> Fut + Clone,
{
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<F, R> Clone for Blocking<F>
where
    F: Fn() -> R + Clone,
{
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<F, Fut, T, E> Operation for Plain<F>
where
    F: FnOnce() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    type Ok = T;
    type Err = Error<E>;
    type Future = WithInner<Fut>;

    #[inline]
    fn start(self, _: Cx) -> WithInner<Fut> {
        WithInner { future: (self.0)() }
    }
}

impl<F, Fut, T, E> Operation for PlainWith<F>
where
    F: FnOnce(Cx) -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    type Ok = T;
    type Err = Error<E>;
    type Future = WithInner<Fut>;

    #[inline]
    fn start(self, cx: Cx) -> WithInner<Fut> {
        WithInner { future: (self.0)(cx) }
    }
}

impl<F, Fut, T, E> Operation for Flat<F>
where
    F: FnOnce() -> Fut,
    Fut: Future<Output = Result<T, E>>,
    E: Rejectable,
{
    type Ok = T;
    type Err = E;
    type Future = Fut;

    #[inline]
    fn start(self, _: Cx) -> Fut {
        (self.0)()
    }
}

impl<F, T, E> Operation for Blocking<F>
where
    F: FnOnce() -> Result<T, E>,
{
    type Ok = T;
    type Err = Error<E>;
    type Future = AtFirstPoll<F>;

    #[inline]
    fn start(self, _: Cx) -> AtFirstPoll<F> {
        AtFirstPoll(Some(self.0))
    }
}

pin_project! {
    /// A future whose error becomes [`Error::Inner`].
    pub struct WithInner<Fut> {
        #[pin]
        future: Fut,
    }
}

impl<Fut, T, E> Future for WithInner<Fut>
where
    Fut: Future<Output = Result<T, E>>,
{
    type Output = Result<T, Error<E>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().future.poll(cx).map_err(Error::Inner)
    }
}

/// Runs a blocking closure within its first poll.
pub struct AtFirstPoll<F>(Option<F>);

impl<F> Unpin for AtFirstPoll<F> {}

impl<F, T, E> Future for AtFirstPoll<F>
where
    F: FnOnce() -> Result<T, E>,
{
    type Output = Result<T, Error<E>>;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        let run = self.0.take().expect("polled after its end");
        Poll::Ready(run().map_err(Error::Inner))
    }
}

macro_rules! opaque_debug {
    ($($type:ident<$($parameter:ident),+>),* $(,)?) => {$(
        impl<$($parameter),+> fmt::Debug for $type<$($parameter),+> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($type)).finish_non_exhaustive()
            }
        }
    )*};
}
opaque_debug!(Plain<F>, PlainWith<F>, Flat<F>, Blocking<F>, WithInner<F>, AtFirstPoll<F>);
