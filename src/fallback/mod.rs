//! Answers in place of a call that failed or was refused.
//!
//! ```
//! use resile::{Error, Fallback};
//! use std::io;
//!
//! let fallback = Fallback::value(|error: Error<io::Error>| match error {
//!     Error::Inner(error) if error.kind() == io::ErrorKind::NotFound => Ok("nobody"),
//!     other => Err(other),
//! });
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let name = fallback.call(|| async { Err(io::Error::from(io::ErrorKind::NotFound)) }).await;
//! assert_eq!(name.unwrap(), "nobody");
//! let name = fallback.call(|| async { Err(io::Error::from(io::ErrorKind::BrokenPipe)) }).await;
//! assert_eq!(name.unwrap_err().inner().unwrap().kind(), io::ErrorKind::BrokenPipe);
//! # });
//! ```
//!
//! Put it outermost in a [`Pipeline`](crate::Pipeline): then it sees what all other policies have made of the error.

mod future;

use std::{
    fmt,
    future::{Future, Ready, ready},
};

pub use self::future::Call;
use crate::{
    error::{Rejectable, Rejected},
    policy::{Operation, Policy, handle_methods},
};

/// Answers in place of a call that failed or was refused. It is told the whole error, and answers with a value or with
/// an error, the same or another.
#[derive(Clone)]
pub struct Fallback<H> {
    handler: H,
}

impl<F> Fallback<Async<F>> {
    /// Asks elsewhere: the future that `handler` makes of the error takes the call's place.
    ///
    /// ```
    /// # use resile::{Error, Fallback};
    /// # use std::io;
    /// # async fn from_cache() -> Option<u32> { Some(42) }
    /// let fallback = Fallback::new(|error: Error<io::Error>| async { from_cache().await.ok_or(error) });
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// assert_eq!(fallback.call(|| async { Err(io::Error::other("down")) }).await.unwrap(), 42);
    /// # });
    /// ```
    pub fn new<T, E, Fut>(handler: F) -> Self
    where
        F: Fn(E) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        Self { handler: Async(handler) }
    }
}

impl<F> Fallback<Value<F>> {
    /// Answers at once with what `handler` makes of the error.
    pub fn value<T, E>(handler: F) -> Self
    where
        F: Fn(E) -> Result<T, E>,
    {
        Self { handler: Value(handler) }
    }
}

impl<F> Fallback<OnRejected<F>> {
    /// Answers rejections with a value. The call's own errors are returned unchanged.
    ///
    /// ```
    /// # use resile::{Error, Fallback, Rejected};
    /// let fallback = Fallback::on_rejected(|rejected: &Rejected| format!("closed: {}", rejected.name()));
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// # let own: Result<String, Error<&str>> = fallback.call(|| async { Err("down") }).await;
    /// # assert_eq!(own, Err(Error::Inner("down")));
    /// # });
    /// ```
    pub fn on_rejected<T>(handler: F) -> Self
    where
        F: Fn(&Rejected) -> T,
    {
        Self { handler: OnRejected(handler) }
    }
}

impl<H> fmt::Debug for Fallback<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fallback").finish_non_exhaustive()
    }
}

handle_methods!(Fallback<H>);

/// Makes an answer of an error.
pub trait Handler<T, E> {
    /// The answer on its way.
    type Future: Future<Output = Result<T, E>>;

    /// Answers an error.
    fn handle(&self, error: E) -> Self::Future;
}

/// The handler of [`Fallback::new`].
#[derive(Clone, Copy)]
pub struct Async<F>(F);

/// The handler of [`Fallback::value`].
#[derive(Clone, Copy)]
pub struct Value<F>(F);

/// The handler of [`Fallback::on_rejected`].
#[derive(Clone, Copy)]
pub struct OnRejected<F>(F);

macro_rules! opaque_debug {
    ($($handler:ident),*) => {$(
        impl<F> fmt::Debug for $handler<F> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($handler)).finish_non_exhaustive()
            }
        }
    )*};
}
opaque_debug!(Async, Value, OnRejected);

impl<T, E, F, Fut> Handler<T, E> for Async<F>
where
    F: Fn(E) -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    type Future = Fut;

    fn handle(&self, error: E) -> Fut {
        (self.0)(error)
    }
}

impl<T, E, F> Handler<T, E> for Value<F>
where
    F: Fn(E) -> Result<T, E>,
{
    type Future = Ready<Result<T, E>>;

    fn handle(&self, error: E) -> Self::Future {
        ready((self.0)(error))
    }
}

impl<T, E, F> Handler<T, E> for OnRejected<F>
where
    E: Rejectable,
    F: Fn(&Rejected) -> T,
{
    type Future = Ready<Result<T, E>>;

    fn handle(&self, error: E) -> Self::Future {
        ready(match error.rejected() {
            Some(rejected) => Ok((self.0)(rejected)),
            None => Err(error),
        })
    }
}

impl<T, E, H: Handler<T, E>> Handler<T, E> for &Fallback<H> {
    type Future = H::Future;

    #[inline]
    fn handle(&self, error: E) -> H::Future {
        self.handler.handle(error)
    }
}

impl<Op, H> Policy<Op> for Fallback<H>
where
    Op: Operation,
    H: Handler<Op::Ok, Op::Err>,
{
    type Future = Call<H, Op::Future, H::Future>;

    #[inline]
    fn run(self, op: Op) -> Self::Future {
        Call::new(self.handler, op.start())
    }
}

impl<Op, H> Policy<Op> for &Fallback<H>
where
    Op: Operation,
    H: Handler<Op::Ok, Op::Err>,
{
    type Future = Call<Self, Op::Future, H::Future>;

    #[inline]
    fn run(self, op: Op) -> Self::Future {
        Call::new(self, op.start())
    }
}
