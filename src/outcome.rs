//! What a result means, decided once and read by every policy.
//!
//! ```
//! use resile::{Error, Outcome, Verdict};
//! use std::time::Duration;
//!
//! // Too many requests: not the call's failure, but the circuit opens for as long as the server asked for.
//! fn classify(result: &Result<u16, Error<std::io::Error>>) -> Verdict {
//!     match result {
//!         Ok(429) => Verdict::from(Outcome::Failure).open_for(Duration::from_secs(60)),
//!         Ok(404) => Outcome::Ignored.into(),
//!         other => Outcome::of(other).into(),
//!     }
//! }
//! # assert_eq!(classify(&Ok(429)).open_for, Some(Duration::from_secs(60)));
//! # assert_eq!(classify(&Ok(404)).outcome, Outcome::Ignored);
//! # assert_eq!(classify(&Ok(200)).outcome, Outcome::Success);
//! ```

use std::time::Duration;

use crate::error::Rejectable;

/// What a call's result means to the policies around it. Complete: there will be no fourth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The dependency did its work.
    Success,
    /// The dependency failed.
    Failure,
    /// Says nothing about the dependency, and is counted nowhere.
    Ignored,
}

impl Outcome {
    /// The verdict that holds where nothing else is said: `Ok` is a success; a call that was refused before it started
    /// is ignored, since a local refusal is not a failure of what is called; any other error, a time-out included, is a
    /// failure.
    #[inline]
    pub fn of<T, E: Rejectable>(result: &Result<T, E>) -> Self {
        match result {
            Ok(_) => Self::Success,
            Err(error) => match error.rejected() {
                Some(rejected) if rejected.is_refusal() => Self::Ignored,
                _ => Self::Failure,
            },
        }
    }
}

/// An [`Outcome`], and whether the circuit should open because of it.
#[doc(alias = "TransitionCheckResult")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verdict {
    /// How the result counts.
    pub outcome: Outcome,
    /// Opens a closed circuit for this long, whatever the rates say; where the rates open it because of this result, it
    /// is for this long too. `None`, the default, lets the settings decide.
    pub open_for: Option<Duration>,
    /// Opens a closed circuit for the wait configured for the open state.
    pub open: bool,
}

impl Verdict {
    /// Opens a closed circuit for the wait configured for the open state.
    #[must_use]
    pub fn open(mut self) -> Self {
        self.open = true;
        self
    }

    /// Opens a closed circuit for `wait`, such as a server's `Retry-After`.
    #[must_use]
    pub fn open_for(mut self, wait: Duration) -> Self {
        self.open_for = Some(wait);
        self
    }

    pub(crate) fn opens(&self) -> bool {
        self.open || self.open_for.is_some()
    }
}

impl From<Outcome> for Verdict {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, open_for: None, open: false }
    }
}
