//! How often the state has changed, why, and how long each state lasted: for the metrics, and without them nothing.

use std::time::Duration;

use crate::event::State;

/// Why a breaker changed its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The configured initial state.
    Initial,
    /// Too large a share of the calls failed.
    FailureRate,
    /// Too large a share of the calls was slow.
    SlowCallRate,
    /// The trial calls went well.
    TrialCalls,
    /// The wait in the open state is over.
    WaitOver,
    /// The half-open state lasted too long.
    HalfOpenTooLong,
    /// A result asked for it.
    Result,
    /// An operator, or the service's own code.
    Manual,
    /// A reset by hand.
    Reset,
}

#[cfg(feature = "metrics")]
impl Reason {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Initial => "initial",
            Self::FailureRate => "failure_rate",
            Self::SlowCallRate => "slow_call_rate",
            Self::TrialCalls => "trial_calls",
            Self::WaitOver => "wait_over",
            Self::HalfOpenTooLong => "half_open_too_long",
            Self::Result => "result",
            Self::Manual => "manual",
            Self::Reset => "reset",
        }
    }
}

/// A kind of transition, and how often it was made.
#[cfg(feature = "metrics")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Transitions {
    pub(crate) from: State,
    pub(crate) to: State,
    pub(crate) reason: Reason,
    pub(crate) count: u64,
}

/// Nothing is kept for a breaker that stays as it was made: there may be a million of those.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    #[cfg(feature = "metrics")]
    past: Option<Box<Past>>,
}

#[cfg(feature = "metrics")]
#[derive(Debug, Clone, Default)]
struct Past {
    /// In the order of their first time.
    transitions: Vec<Transitions>,
    /// By state, in the order of the enum.
    time_in: [Duration; 6],
}

#[cfg(feature = "metrics")]
impl History {
    pub(super) fn count(&mut self, from: State, to: State, reason: Reason, times: u64) {
        if from == to || times == 0 {
            return;
        }
        let transitions = &mut self.past.get_or_insert_default().transitions;
        let same = |seen: &&mut Transitions| (seen.from, seen.to, seen.reason) == (from, to, reason);
        match transitions.iter_mut().find(same) {
            Some(seen) => seen.count += times,
            None => transitions.push(Transitions { from, to, reason, count: times }),
        }
    }

    pub(super) fn spend(&mut self, state: State, time: Duration) {
        let spent = &mut self.past.get_or_insert_default().time_in[state as usize];
        *spent = spent.saturating_add(time);
    }

    /// What kinds of transition were made, in the order of their first time.
    pub(crate) fn transitions(&self) -> &[Transitions] {
        self.past.as_ref().map_or(&[], |past| &past.transitions)
    }

    pub(crate) fn time_in(&self, state: State) -> Duration {
        self.past.as_ref().map_or(Duration::ZERO, |past| past.time_in[state as usize])
    }
}

#[cfg(not(feature = "metrics"))]
impl History {
    pub(super) fn count(&mut self, _: State, _: State, _: Reason, _: u64) {}

    pub(super) fn spend(&mut self, _: State, _: Duration) {}
}
