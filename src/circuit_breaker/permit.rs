use std::{borrow::Borrow, fmt, thread, time::Duration};

use super::{CircuitBreaker, UNMEASURED, state::Ticket};
use crate::{
    clock::nanos,
    error::Rejected,
    outcome::{Outcome, Verdict},
    policy::Cx,
};

/// A permit that borrows its breaker.
pub type Permit<'a> = PermitOf<&'a CircuitBreaker>;

/// A permit that can move anywhere.
pub type OwnedPermit = PermitOf<CircuitBreaker>;

/// The right to make one call. Report how the call went: dropping the permit instead gives the place back and counts
/// nothing, which is what a cancelled call does; dropping it because the thread unwinds counts as a failure.
#[must_use = "dropping the permit gives the call back"]
pub struct PermitOf<B: Borrow<CircuitBreaker>> {
    breaker: B,
    ticket: Option<Ticket>,
    /// A permit taken while the thread was unwinding already says nothing about the call when it is dropped.
    unwinding: bool,
}

impl<B: Borrow<CircuitBreaker>> PermitOf<B> {
    pub(super) fn acquire(breaker: B) -> Result<Self, Rejected> {
        let mut ticket = Ticket::default();
        let admitted = breaker.borrow().admit(&mut Cx::new(), &mut ticket);
        admitted.map_err(|refusal| breaker.borrow().rejected(refusal))?;
        Ok(Self { breaker, ticket: Some(ticket), unwinding: thread::panicking() })
    }

    /// The call succeeded.
    pub fn success(self) {
        self.record(Outcome::Success);
    }

    /// The call failed.
    pub fn failure(self) {
        self.record(Outcome::Failure);
    }

    /// The call ended like this, just now.
    pub fn record(mut self, verdict: impl Into<Verdict>) {
        if let Some(ticket) = self.ticket.take() {
            self.breaker.borrow().finish(&ticket, verdict.into());
        }
    }

    /// The call ended like this and took this long, as measured by the caller.
    pub fn record_elapsed(mut self, elapsed: Duration, verdict: impl Into<Verdict>) {
        if let Some(ticket) = self.ticket.take() {
            let breaker = self.breaker.borrow();
            let elapsed = nanos(elapsed).min(UNMEASURED - 1);
            breaker.finish_after(&ticket, verdict.into(), elapsed, breaker.now());
        }
    }

    /// Gives the place back and counts nothing, as dropping does.
    #[doc(alias = "releasePermission")]
    pub fn release(mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.breaker.borrow().cancel(&ticket);
        }
    }
}

impl<B: Borrow<CircuitBreaker>> Drop for PermitOf<B> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket.take() else { return };
        let breaker = self.breaker.borrow();
        if thread::panicking() && !self.unwinding {
            breaker.finish(&ticket, Outcome::Failure.into());
        } else {
            breaker.cancel(&ticket);
        }
    }
}

impl<B: Borrow<CircuitBreaker>> fmt::Debug for PermitOf<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ticket = self.ticket.map(|ticket| (ticket.generation, ticket.trial != 0));
        f.debug_struct("Permit")
            .field("breaker", &self.breaker.borrow().name())
            .field("generation", &ticket.map(|(generation, _)| generation))
            .field("trial", &ticket.map(|(_, trial)| trial))
            .finish()
    }
}
