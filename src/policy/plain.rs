//! What `call` and its like take: closures, made into futures when they are first polled.

use std::{
    fmt,
    future::{Future, Ready, ready},
    mem,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use super::{CallFuture, Cx, Operation};
use crate::error::{Error, Rejectable};

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

/// Makes the future of a call.
pub trait Make {
    /// The call under way.
    type Future: Future;

    /// Makes it.
    fn make(self, cx: Cx) -> Self::Future;
}

impl<F, Fut, T, E> Make for Plain<F>
where
    F: FnOnce() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    type Future = WithInner<Fut>;

    #[inline]
    fn make(self, _: Cx) -> WithInner<Fut> {
        WithInner { future: (self.0)() }
    }
}

impl<F, Fut, T, E> Make for PlainWith<F>
where
    F: FnOnce(Cx) -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    type Future = WithInner<Fut>;

    #[inline]
    fn make(self, cx: Cx) -> WithInner<Fut> {
        WithInner { future: (self.0)(cx) }
    }
}

impl<F, Fut, T, E> Make for Flat<F>
where
    F: FnOnce() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    type Future = Fut;

    #[inline]
    fn make(self, _: Cx) -> Fut {
        (self.0)()
    }
}

impl<F, T, E> Make for Blocking<F>
where
    F: FnOnce() -> Result<T, E>,
{
    type Future = Ready<Result<T, Error<E>>>;

    #[inline]
    fn make(self, _: Cx) -> Self::Future {
        ready((self.0)().map_err(Error::Inner))
    }
}

impl<F, Fut, T, E> Operation for Plain<F>
where
    F: FnOnce() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    type Ok = T;
    type Err = Error<E>;
    type Future = AtFirstPoll<Self, WithInner<Fut>>;

    #[inline]
    fn start(self) -> Self::Future {
        AtFirstPoll::new(self)
    }
}

impl<F, Fut, T, E> Operation for PlainWith<F>
where
    F: FnOnce(Cx) -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    type Ok = T;
    type Err = Error<E>;
    type Future = AtFirstPoll<Self, WithInner<Fut>>;

    #[inline]
    fn start(self) -> Self::Future {
        AtFirstPoll::new(self)
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
    type Future = AtFirstPoll<Self, Fut>;

    #[inline]
    fn start(self) -> Self::Future {
        AtFirstPoll::new(self)
    }
}

impl<F, T, E> Operation for Blocking<F>
where
    F: FnOnce() -> Result<T, E>,
{
    type Ok = T;
    type Err = Error<E>;
    type Future = AtFirstPoll<Self, Ready<Result<T, Error<E>>>>;

    #[inline]
    fn start(self) -> Self::Future {
        AtFirstPoll::new(self)
    }
}

pin_project! {
    /// A call that is made when it is first polled, and is gone when it ends.
    pub struct AtFirstPoll<M, Fut> {
        #[pin]
        state: State<M, Fut>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<M, Fut> {
        Unstarted { make: Option<M> },
        Running { #[pin] future: Fut },
        Done,
    }
}

impl<M, Fut> AtFirstPoll<M, Fut> {
    #[inline]
    fn new(make: M) -> Self {
        Self { state: State::Unstarted { make: Some(make) } }
    }
}

impl<M: Make> CallFuture for AtFirstPoll<M, M::Future> {
    #[inline]
    fn poll_with(self: Pin<&mut Self>, cx: Cx, task: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        if let StateProjection::Unstarted { make } = state.as_mut().project() {
            let future = make.take().expect("polled after a panic").make(cx);
            state.set(State::Running { future });
        }
        let mut on_unwind = OnUnwind { state };
        let StateProjection::Running { future } = on_unwind.state.as_mut().project() else {
            panic!("polled after its end");
        };
        let polled = future.poll(task);
        if polled.is_ready() {
            on_unwind.state.set(State::Done);
        }
        mem::forget(on_unwind);
        polled
    }
}

impl<M: Make> Future for AtFirstPoll<M, M::Future> {
    type Output = <M::Future as Future>::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_with(Cx::new(), task)
    }
}

/// Drops a call that unwinds, so that it is gone before the policies around it give back what they hold.
struct OnUnwind<'a, M, Fut> {
    state: Pin<&'a mut State<M, Fut>>,
}

impl<M, Fut> Drop for OnUnwind<'_, M, Fut> {
    #[cold]
    fn drop(&mut self) {
        self.state.set(State::Done);
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

macro_rules! opaque_debug {
    ($($type:ident<$($parameter:ident),+>),* $(,)?) => {$(
        impl<$($parameter),+> fmt::Debug for $type<$($parameter),+> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($type)).finish_non_exhaustive()
            }
        }
    )*};
}
opaque_debug!(Plain<F>, PlainWith<F>, Flat<F>, Blocking<F>, AtFirstPoll<M, Fut>, WithInner<Fut>);
