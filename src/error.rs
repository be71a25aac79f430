//! One rejection and one error for the whole crate, however deep the stack of policies.
//!
//! A call through any number of policies returns either what the call itself returned or a [`Rejected`] that says which
//! policy refused it, why, and when to come back.
//!
//! ```
//! use resile::{Error, Rejected};
//!
//! fn answer(error: &Error<std::io::Error>) -> u16 {
//!     match error {
//!         Error::Inner(_) => 502,
//!         Error::Rejected(rejected) => rejected.http_status(),
//!     }
//! }
//! # let rejected = Rejected::RetriesExhausted(resile::RetriesExhausted::new("orders", 3));
//! # assert_eq!(answer(&rejected.into()), 503);
//! ```

mod rejected;

use std::{borrow::Cow, error::Error as StdError, fmt};

pub use self::rejected::{BulkheadFull, CircuitOpen, RateLimited, Rejected, RetriesExhausted, TimedOut};

/// A boxed error, as tower and many services use it.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// What a call through a policy fails with: its own error, or a rejection by a policy.
///
/// Nothing nests: five policies around a call that fails with `E` still give one `Error<E>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error<E> {
    /// The call ran and failed with this.
    Inner(E),
    /// A policy refused the call, or gave it up.
    Rejected(Rejected),
}

impl<E> Error<E> {
    /// The call's own error, if it is one.
    pub fn inner(&self) -> Option<&E> {
        match self {
            Self::Inner(error) => Some(error),
            Self::Rejected(_) => None,
        }
    }

    /// The call's own error by value, or the rejection.
    ///
    /// # Errors
    /// The rejection, where a policy refused the call.
    pub fn into_inner(self) -> Result<E, Rejected> {
        match self {
            Self::Inner(error) => Ok(error),
            Self::Rejected(rejected) => Err(rejected),
        }
    }

    /// The same error with the call's own error converted.
    pub fn map_inner<F>(self, convert: impl FnOnce(E) -> F) -> Error<F> {
        match self {
            Self::Inner(error) => Error::Inner(convert(error)),
            Self::Rejected(rejected) => Error::Rejected(rejected),
        }
    }
}

impl<E> From<Rejected> for Error<E> {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }
}

impl<E: fmt::Display> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inner(error) => error.fmt(f),
            Self::Rejected(rejected) => rejected.fmt(f),
        }
    }
}

/// The source is the call's own error or the rejection itself, so that a walk along the sources finds either by type.
impl<E: StdError + 'static> StdError for Error<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(match self {
            Self::Inner(error) => error,
            Self::Rejected(rejected) => rejected,
        })
    }
}

/// An error type that a rejection can become a value of, and be found in again.
///
/// [`Error<E>`] and [`BoxError`] are; implement it for an error of your own and the policies return that error
/// unchanged: as tower layers, or from functions through `call_flat`.
///
/// ```
/// use resile::{Rejectable, Rejected};
///
/// #[derive(Debug)]
/// enum PaymentError {
///     Declined,
///     Unavailable(Rejected),
/// }
///
/// impl From<Rejected> for PaymentError {
///     fn from(rejected: Rejected) -> Self {
///         Self::Unavailable(rejected)
///     }
/// }
///
/// impl Rejectable for PaymentError {
///     fn rejected(&self) -> Option<&Rejected> {
///         match self {
///             Self::Unavailable(rejected) => Some(rejected),
///             Self::Declined => None,
///         }
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot carry a rejection",
    label = "not `Rejectable`",
    note = "a policy needs an error type that a `resile::Rejected` can become a value of",
    note = "turn a foreign error into one at the bottom of the stack with `.map_err(resile::Error::Inner)`, or implement `From<Rejected>` and `Rejectable` for it"
)]
pub trait Rejectable: From<Rejected> {
    /// The rejection this error carries, or `None` for a failure of the call itself.
    fn rejected(&self) -> Option<&Rejected>;
}

impl<E> Rejectable for Error<E> {
    fn rejected(&self) -> Option<&Rejected> {
        match self {
            Self::Inner(_) => None,
            Self::Rejected(rejected) => Some(rejected),
        }
    }
}

/// Finds a rejection anywhere along the sources, so one survives a layer that wraps errors, such as tower's `Buffer`.
impl Rejectable for BoxError {
    fn rejected(&self) -> Option<&Rejected> {
        let mut error: &(dyn StdError + 'static) = self.as_ref();
        loop {
            if let Some(rejected) = error.downcast_ref() {
                return Some(rejected);
            }
            error = error.source()?;
        }
    }
}

/// A setting that cannot be: its name, the value given, and the rule it breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidConfig {
    /// The setting.
    pub field: &'static str,
    /// The value it was given.
    pub value: String,
    /// What the value must be.
    pub rule: Cow<'static, str>,
}

impl InvalidConfig {
    pub(crate) fn new(field: &'static str, value: impl fmt::Debug, rule: impl Into<Cow<'static, str>>) -> Self {
        Self { field, value: format!("{value:?}"), rule: rule.into() }
    }

    /// `Ok` where the rule holds.
    pub(crate) fn check(
        holds: bool,
        field: &'static str,
        value: impl fmt::Debug,
        rule: impl Into<Cow<'static, str>>,
    ) -> Result<(), Self> {
        if holds { Ok(()) } else { Err(Self::new(field, value, rule)) }
    }
}

impl fmt::Display for InvalidConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}: {}", self.field, self.value, self.rule)
    }
}

impl StdError for InvalidConfig {}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_rejection_survives_boxing_and_wrapping() {
        let rejected = Rejected::from(TimedOut::new("mail", Duration::from_secs(1)));
        let boxed: BoxError = rejected.clone().into();
        assert_eq!(boxed.rejected(), Some(&rejected));
        let wrapped: BoxError = Box::new(Error::<std::io::Error>::Rejected(rejected.clone()));
        assert_eq!(wrapped.rejected(), Some(&rejected));
        let own: BoxError = "down".into();
        assert_eq!(own.rejected(), None);
    }

    #[test]
    fn the_source_is_the_call_s_own_error() {
        let error = Error::Inner(std::io::Error::other("reset"));
        let source = error.source().expect("a source");
        assert!(source.downcast_ref::<std::io::Error>().is_some());
        assert_eq!(error.to_string(), "reset");
    }
}
