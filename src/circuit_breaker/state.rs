//! What the breaker decides, in plain arithmetic: no lock, no clock, no code of the user's.
//!
//! Time is an argument. Transitions that are due at a moment (the automatic one to half-open, the end of a half-open state
//! that lasted too long, a trial call that hangs) are made by [`Core::settle`] when somebody next looks, as if made at
//! that moment, so there is no timer to leak or to fire late.

use std::{collections::VecDeque, mem, sync::Arc, time::Duration};

use super::{
    config::Config,
    history::{History, Reason},
    window::{CountWindow, TimeWindow, Totals, Window},
};
use crate::{
    circuit_breaker::SlidingWindowType,
    clock::{Instant, nanos},
    event::{EventKind, State},
    outcome::{Outcome, Verdict},
};

/// How many idle transitions are made one by one before the rest is worked out at once.
const STEPS_ONE_BY_ONE: u32 = 256;

/// How many events wait for the next call to publish them while the state is only looked at. The oldest make room.
const MOST_NOTES: usize = 1024;

/// The bits of a generation that a ticket is known by: as many as [`Word`](super::shared::Word) has room for.
pub(super) const GENERATION_MASK: u64 = (1 << 36) - 1;

/// A call that was admitted, and in which generation of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Ticket {
    pub(super) generation: u64,
    /// A trial call's number, from 1; 0 for any other call.
    pub(super) trial: u64,
    /// When it was admitted, or [`UNREAD`](Self::UNREAD).
    pub(super) started: Instant,
}

impl Ticket {
    /// In place of a start that nothing asked for. What is asked later cannot be answered for this call.
    pub(super) const UNREAD: Instant = Instant::NEVER;
}

/// The numbers of a refusal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Refusal {
    pub(super) state: State,
    pub(super) rates: Rates,
    /// In nanoseconds.
    pub(super) retry_after: Option<u64>,
}

/// The rates a state was entered with.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Rates {
    pub(super) failure: Option<f32>,
    pub(super) slow: Option<f32>,
    pub(super) calls: u32,
}

/// Only code of the user's can tell how long the circuit stays open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) generation: u64,
    pub(super) attempts: u32,
}

/// Something to publish, once the lock is released.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Note {
    pub(super) at: Instant,
    pub(super) kind: EventKind,
}

/// Which calls the metrics show. The open state shows what it was entered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    Window,
    Trials,
    Nothing,
}

/// What there is to see of a breaker.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct View {
    pub(super) state: State,
    pub(super) generation: u64,
    pub(super) totals: Totals,
    pub(super) rates: Rates,
    pub(super) outstanding_trials: u32,
    pub(super) late_results: u64,
    pub(super) not_permitted_before: u64,
    pub(super) retry_after: Option<Duration>,
}

/// The breaker's whole state but for the plain successes of the current run, which [`Shared`](super::shared::Shared)
/// counts without looking in here.
#[derive(Debug)]
pub(super) struct Core {
    rules: Arc<Config>,
    state: State,
    /// Counts transitions, so that a call admitted in one state cannot be counted in a later one.
    generation: u64,
    /// How often the circuit has opened since it was last closed.
    attempts: u32,
    latest: Instant,
    entered: Instant,
    /// In the open state, the last moment at which calls are refused; `None` until that is known.
    last_refused: Option<Instant>,
    /// The generation whose wait somebody is telling, so that nobody asks again meanwhile: least of all who tells it.
    asked_in: Option<u64>,
    /// Idle rounds made one by one since the last moment at which nothing was due.
    rounds: u32,
    previous_wait: Option<Duration>,
    window: Window,
    trials: CountWindow,
    shown: Shown,
    entered_with: Rates,
    /// Trial calls under way, by number and start, oldest first.
    outstanding: VecDeque<(u64, Instant)>,
    last_trial: u64,
    announced_failures: bool,
    announced_slow_calls: bool,
    late_results: u64,
    not_permitted_before: u64,
    forget_not_permitted: bool,
    rng: fastrand::Rng,
    listening: bool,
    notes: VecDeque<Note>,
    history: History,
}

impl Core {
    pub(super) fn new(rules: Arc<Config>, now: Instant) -> Self {
        let initial_state = rules.initial_state;
        let mut core = Self {
            rng: rules.open_wait().rng(),
            window: window(&rules, now),
            trials: CountWindow::new(rules.permitted_number_of_calls_in_half_open_state),
            rules,
            state: State::Closed,
            generation: 0,
            attempts: 0,
            latest: now,
            entered: now,
            last_refused: None,
            asked_in: None,
            rounds: 0,
            previous_wait: None,
            shown: Shown::Window,
            entered_with: Rates::default(),
            outstanding: VecDeque::new(),
            last_trial: 0,
            announced_failures: false,
            announced_slow_calls: false,
            late_results: 0,
            not_permitted_before: 0,
            forget_not_permitted: false,
            listening: false,
            notes: VecDeque::new(),
            history: History::default(),
        };
        if initial_state == State::HalfOpen {
            core.attempts = 1;
        }
        if initial_state != State::Closed {
            core.go_to(initial_state, now, Reason::Initial);
        }
        core
    }

    /// Goes on by other rules and returns those before. Moments that are settled stay, and what follows from here on
    /// follows the new ones.
    pub(super) fn reconfigure(&mut self, rules: Arc<Config>) -> Arc<Config> {
        let now = self.latest;
        let before = mem::replace(&mut self.rules, rules);
        let rules = &self.rules;
        let waits = rules.open_wait();
        if waits.seed_in_use() != before.open_wait().seed_in_use() {
            self.rng = waits.rng();
        }
        if rules.thresholds() != before.thresholds() {
            self.announced_failures = false;
            self.announced_slow_calls = false;
        }
        // The wait ends at the same moment, which the automatic transition no longer counts to it.
        if let Some(last) = self.last_refused.filter(|last| *last < Instant::NEVER) {
            let end = last.as_nanos() + u64::from(before.automatic_transition_from_open_to_half_open_enabled);
            let early = rules.automatic_transition_from_open_to_half_open_enabled.into();
            self.last_refused = Some(Instant::from_nanos(end.saturating_sub(early)));
        }
        self.trials.make_room(rules.permitted_number_of_calls_in_half_open_state);
        if rules.slides_over() != before.slides_over() {
            self.window = window(rules, now);
            self.announced_failures = false;
            self.announced_slow_calls = false;
            self.generation += u64::from(matches!(self.state, State::Closed | State::MetricsOnly));
        }
        if self.state == State::HalfOpen {
            self.decide_trials(now);
        }
        before
    }

    pub(super) fn rules(&self) -> &Arc<Config> {
        &self.rules
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// The last moment of a refusal in the open state; the end of time where no moment ends the state.
    pub(super) fn last_refused(&self) -> Instant {
        self.last_refused.unwrap_or(Instant::NEVER)
    }

    pub(super) fn entered_with(&self) -> Rates {
        self.entered_with
    }

    pub(super) fn has_notes(&self) -> bool {
        !self.notes.is_empty()
    }

    pub(super) fn take_notes(&mut self) -> VecDeque<Note> {
        mem::take(&mut self.notes)
    }

    /// Begins to look at the state at `now`, with or without anybody to publish to. A clock that steps back stands still.
    pub(super) fn look(&mut self, now: Instant, listening: bool) -> Instant {
        self.latest = self.latest.max(now);
        self.listening = listening;
        if !listening {
            self.notes.clear();
        }
        self.latest
    }

    /// Sets the number of rejections that a state other than open starts from, if such a state has been entered.
    pub(super) fn count_not_permitted_from(&mut self, total: u64) {
        if mem::take(&mut self.forget_not_permitted) {
            self.not_permitted_before = total;
        }
    }

    /// The wait that only code of the user's could tell, if it is still wanted.
    pub(super) fn answer(&mut self, asked: Asked, wait: Duration) {
        if self.unanswered() == Some(asked) {
            self.open_until(wait);
        }
    }

    /// What is to be asked, once. Until the answer comes calls are refused, and no moment is named.
    pub(super) fn ask(&mut self) -> Option<Asked> {
        let unanswered = self.unanswered().filter(|unanswered| self.asked_in != Some(unanswered.generation))?;
        self.asked_in = Some(unanswered.generation);
        Some(unanswered)
    }

    fn unanswered(&self) -> Option<Asked> {
        (self.state == State::Open && self.last_refused.is_none())
            .then_some(Asked { generation: self.generation, attempts: self.attempts })
    }

    /// Makes the transitions that are due by now, up to one whose moment must be asked for.
    pub(super) fn settle(&mut self) -> Option<Asked> {
        while let Some(due) = self.next_due().filter(|due| *due <= self.latest) {
            if self.state == State::Open {
                self.rounds += 1;
                if self.rounds > STEPS_ONE_BY_ONE {
                    self.skip_idle_rounds();
                    self.rounds = 0;
                    continue;
                }
            }
            self.make_due(due);
        }
        let asked = self.ask();
        if asked.is_none() {
            self.rounds = 0;
        }
        asked
    }

    fn next_due(&self) -> Option<Instant> {
        match self.state {
            State::Open => {
                let automatic = self.rules.automatic_transition_from_open_to_half_open_enabled;
                automatic.then(|| just_after(self.last_refused())).filter(|due| *due < Instant::NEVER)
            }
            State::HalfOpen => {
                let given_up = self.rules.max_half_open().map(|max| self.entered.saturating_add(max));
                [self.next_expiry(), given_up].into_iter().flatten().min()
            }
            _ => None,
        }
    }

    fn next_expiry(&self) -> Option<Instant> {
        let (_, started) = self.outstanding.front()?;
        Some(just_after(started.saturating_add(self.rules.max_trial()?)))
    }

    fn make_due(&mut self, due: Instant) {
        if self.state == State::Open {
            self.go_to(State::HalfOpen, due, Reason::WaitOver);
        } else if self.next_expiry() == Some(due) {
            self.outstanding.pop_front();
            self.note(due, EventKind::TrialCallExpired);
            self.record_trial(true, self.rules.expired_trial_is_slow(), due);
        } else {
            self.go_to(self.rules.transition_to_state_after_wait_duration, due, Reason::HalfOpenTooLong);
        }
    }

    /// A breaker that nobody calls goes from open to half-open and back for ever. All rounds that fit before now are made
    /// at once, each as long as the last; nobody has seen them, and they publish nothing.
    fn skip_idle_rounds(&mut self) {
        let open = just_after(self.last_refused()).as_nanos().saturating_sub(self.entered.as_nanos());
        let half_open = self.rules.max_half_open().map_or(0, nanos);
        let round = open.saturating_add(half_open).max(1);
        let rounds = (self.latest.as_nanos() - self.entered.as_nanos()) / round;
        if self.rules.transition_to_state_after_wait_duration != State::Open || rounds == 0 {
            let due = just_after(self.last_refused());
            return self.make_due(due);
        }
        let passed = Duration::from_nanos(rounds * round);
        self.history.spend(State::Open, Duration::from_nanos(rounds * (round - half_open)));
        self.history.spend(State::HalfOpen, Duration::from_nanos(rounds * half_open));
        self.history.count(State::Open, State::HalfOpen, Reason::WaitOver, rounds);
        self.history.count(State::HalfOpen, State::Open, Reason::HalfOpenTooLong, rounds);
        self.entered = self.entered.saturating_add(passed);
        self.last_refused = Some(self.last_refused().saturating_add(passed));
        self.attempts = self.attempts.saturating_add(u32::try_from(rounds).unwrap_or(u32::MAX));
        self.generation += 2 * rounds;
    }

    pub(super) fn acquire(&mut self, started: bool) -> Result<Ticket, Refusal> {
        let now = self.latest;
        match self.state {
            State::Closed | State::MetricsOnly | State::Disabled => {
                let started = if started { now } else { Ticket::UNREAD };
                Ok(Ticket { generation: self.generation, trial: 0, started })
            }
            State::Open if now > self.last_refused() => {
                self.go_to(State::HalfOpen, now, Reason::WaitOver);
                self.acquire_trial(started)
            }
            State::HalfOpen => self.acquire_trial(started),
            State::Open | State::ForcedOpen => Err(self.refuse()),
        }
    }

    fn acquire_trial(&mut self, started: bool) -> Result<Ticket, Refusal> {
        let taken = self.trials.totals().calls as usize + self.outstanding.len();
        if taken >= self.rules.permitted_number_of_calls_in_half_open_state as usize {
            return Err(self.refuse());
        }
        self.last_trial += 1;
        self.outstanding.push_back((self.last_trial, self.latest));
        let started = if started { self.latest } else { Ticket::UNREAD };
        Ok(Ticket { generation: self.generation, trial: self.last_trial, started })
    }

    fn refuse(&mut self) -> Refusal {
        if self.state != State::ForcedOpen {
            self.note(self.latest, EventKind::NotPermitted);
        }
        Refusal { state: self.state, rates: self.entered_with, retry_after: self.retry_after().map(nanos) }
    }

    fn retry_after(&self) -> Option<Duration> {
        (self.state == State::Open && self.last_refused() < Instant::NEVER)
            .then(|| just_after(self.last_refused()).saturating_duration_since(self.latest))
    }

    /// Counts a result, unless the call was admitted before the state last changed. Whether it was counted.
    pub(super) fn finish(&mut self, ticket: &Ticket, verdict: Verdict, slow: bool, elapsed: Option<Duration>) -> bool {
        let now = self.latest;
        let Some(outcome) = self.take_back(ticket).then_some(verdict.outcome) else {
            self.late_results += 1;
            self.note(now, EventKind::LateResult);
            return false;
        };
        let (watched, admitted_in) = (self.state != State::Disabled, self.generation);
        match outcome {
            _ if !watched => return false,
            Outcome::Success => self.note(now, EventKind::Success { elapsed, attempts: 0 }),
            Outcome::Failure => self.note(now, EventKind::Error { elapsed, attempts: 0 }),
            Outcome::Ignored => self.note(now, EventKind::IgnoredError { elapsed }),
        }
        match (self.state, outcome) {
            (State::Disabled | State::ForcedOpen | State::Open, _) | (State::HalfOpen, Outcome::Ignored) => {}
            (State::Closed | State::MetricsOnly, Outcome::Ignored) => self.open_by_result(verdict),
            (State::HalfOpen, _) => self.record_trial(outcome == Outcome::Failure, slow, now),
            (State::Closed | State::MetricsOnly, _) => {
                self.window.record(now, outcome == Outcome::Failure, slow);
                self.evaluate();
                self.open_by_result(verdict);
            }
        }
        // What the result says holds also where the rates have opened the circuit because of it.
        if let (Some(wait), State::Open) = (verdict.open_for, self.state) {
            if self.generation != admitted_in {
                self.open_until(wait);
            }
        }
        true
    }

    /// Gives a call's place back without a result.
    pub(super) fn cancel(&mut self, ticket: &Ticket) {
        self.take_back(ticket);
    }

    /// Whether the ticket is of the current state; a trial call's place is free afterwards.
    fn take_back(&mut self, ticket: &Ticket) -> bool {
        if (ticket.generation ^ self.generation) & GENERATION_MASK != 0 {
            return false;
        }
        if ticket.trial == 0 {
            return true;
        }
        let place = self.outstanding.binary_search_by_key(&ticket.trial, |(trial, _)| *trial);
        place.is_ok_and(|place| self.outstanding.remove(place).is_some())
    }

    fn evaluate(&mut self) {
        let rates = self.rates(self.latest);
        let failures = rates.failure.filter(|rate| *rate >= self.rules.failure_rate_threshold);
        let slow_calls = rates.slow.filter(|rate| *rate >= self.rules.slow_call_rate_threshold);
        let closed = self.state == State::Closed;
        if let Some(failure_rate) = failures.filter(|_| closed || !self.announced_failures) {
            self.announced_failures = true;
            self.note(self.latest, EventKind::FailureRateExceeded { failure_rate });
        }
        if let Some(slow_call_rate) = slow_calls.filter(|_| closed || !self.announced_slow_calls) {
            self.announced_slow_calls = true;
            self.note(self.latest, EventKind::SlowCallRateExceeded { slow_call_rate });
        }
        if closed && (failures.is_some() || slow_calls.is_some()) {
            let reason = if failures.is_some() { Reason::FailureRate } else { Reason::SlowCallRate };
            self.go_to(State::Open, self.latest, reason);
        }
    }

    /// A verdict may open a closed circuit, whatever the rates say.
    fn open_by_result(&mut self, verdict: Verdict) {
        match (self.state, verdict.open_for) {
            (State::Closed, Some(wait)) => self.open_for(wait, Reason::Result),
            (State::Closed, None) if verdict.open => self.go_to(State::Open, self.latest, Reason::Result),
            _ => {}
        }
    }

    fn record_trial(&mut self, failed: bool, slow: bool, at: Instant) {
        self.trials.record(failed, slow);
        self.decide_trials(at);
    }

    /// Leaves the half-open state if enough trial calls have finished.
    fn decide_trials(&mut self, at: Instant) {
        let rates = self.rates(at);
        let (Some(failure), Some(slow)) = (rates.failure, rates.slow) else { return };
        let (to, reason) = if failure >= self.rules.failure_rate_threshold {
            (State::Open, Reason::FailureRate)
        } else if slow >= self.rules.slow_call_rate_threshold {
            (State::Open, Reason::SlowCallRate)
        } else {
            (State::Closed, Reason::TrialCalls)
        };
        self.go_to(to, at, reason);
    }

    /// The rates of what is shown, and over how many calls; none below the minimum.
    fn rates(&mut self, now: Instant) -> Rates {
        let minimum = match self.shown {
            Shown::Trials => self.rules.effective_half_open_minimum(),
            Shown::Window | Shown::Nothing => self.rules.effective_minimum(),
        };
        let totals = self.totals(now);
        let rate = |count: u32| (totals.calls >= minimum).then(|| count as f32 * 100.0 / totals.calls as f32);
        Rates { failure: rate(totals.failed), slow: rate(totals.slow), calls: totals.calls }
    }

    fn totals(&mut self, now: Instant) -> Totals {
        match self.shown {
            Shown::Window => self.window.totals(now),
            Shown::Trials => self.trials.totals(),
            Shown::Nothing => Totals::default(),
        }
    }

    /// What has happened so far, the time in the present state included.
    #[cfg(feature = "metrics")]
    pub(super) fn history(&self) -> History {
        let mut history = self.history.clone();
        history.spend(self.state, self.latest.saturating_duration_since(self.entered));
        history
    }

    pub(super) fn view(&mut self) -> View {
        let now = self.latest;
        View {
            state: self.state,
            generation: self.generation,
            totals: self.totals(now),
            rates: self.rates(now),
            outstanding_trials: u32::try_from(self.outstanding.len()).unwrap_or(u32::MAX),
            late_results: self.late_results,
            not_permitted_before: self.not_permitted_before,
            retry_after: self.retry_after(),
        }
    }

    /// Moves to `to` by hand; `false`, and nothing changed, where that is no legal transition.
    pub(super) fn transition_to(&mut self, to: State) -> bool {
        let legal = !matches!(
            (self.state, to),
            (State::Closed, State::HalfOpen) | (State::MetricsOnly, State::Open | State::HalfOpen)
        );
        if legal {
            self.go_to(to, self.latest, Reason::Manual);
        }
        legal
    }

    /// Opens by hand, or by a result, for `wait`: the configured wait is not asked, and the attempt not counted.
    pub(super) fn open_for(&mut self, wait: Duration, reason: Reason) {
        self.enter(State::Open, self.latest, reason);
        self.open_until(wait);
    }

    pub(super) fn reset(&mut self) {
        self.go_to(State::Closed, self.latest, Reason::Reset);
        self.note(self.latest, EventKind::Reset);
    }

    fn go_to(&mut self, to: State, at: Instant, reason: Reason) {
        if matches!(to, State::Open | State::ForcedOpen) {
            self.attempts = self.attempts.saturating_add(1);
        }
        self.enter(to, at, reason);
        if to != State::Open {
            return;
        }
        let waits = self.rules.open_wait();
        if !waits.calls_user_code() {
            let wait = waits.sample(self.attempts, self.previous_wait, &mut self.rng);
            self.previous_wait = Some(wait);
            self.open_until(wait);
        }
    }

    /// A new generation of `to`, also where that is the state already.
    fn enter(&mut self, to: State, at: Instant, reason: Reason) {
        let from = self.state;
        self.history.spend(from, at.saturating_duration_since(self.entered));
        self.history.count(from, to, reason, 1);
        self.entered_with = self.rates(at);
        self.shown = match (from, to) {
            (State::Disabled | State::ForcedOpen, State::Open) => Shown::Nothing,
            (_, State::Open) => self.shown,
            (_, State::HalfOpen) => Shown::Trials,
            (_, State::Disabled | State::ForcedOpen) => Shown::Nothing,
            (_, State::Closed | State::MetricsOnly) => Shown::Window,
        };
        match to {
            State::Closed | State::MetricsOnly => {
                self.window.clear(at);
                self.announced_failures = false;
                self.announced_slow_calls = false;
            }
            State::HalfOpen => self.trials.clear(),
            State::Open | State::Disabled | State::ForcedOpen => {}
        }
        if matches!(to, State::Closed | State::Disabled | State::MetricsOnly) {
            self.attempts = 0;
            self.previous_wait = None;
        }
        self.forget_not_permitted |= to != State::Open;
        // The places of the trial calls are made before the first of them, and kept until the circuit closes.
        self.outstanding.clear();
        match to {
            State::Open | State::HalfOpen => {
                let permitted = self.rules.permitted_number_of_calls_in_half_open_state;
                self.outstanding.reserve(permitted.min(64) as usize);
            }
            _ => self.outstanding = VecDeque::new(),
        }
        self.last_refused = None;
        self.state = to;
        self.entered = at;
        self.generation += 1;
        if from != to {
            self.note(at, EventKind::StateTransition { from, to, generation: self.generation });
        }
    }

    /// Without the automatic transition the circuit is still open at the end of the wait, as Resilience4j has it; with it
    /// the circuit is half-open then.
    fn open_until(&mut self, wait: Duration) {
        let end = self.entered.saturating_add(wait).as_nanos();
        let early = u64::from(self.rules.automatic_transition_from_open_to_half_open_enabled && end < u64::MAX);
        self.last_refused = Some(Instant::from_nanos(end.saturating_sub(early)));
    }

    fn note(&mut self, at: Instant, kind: EventKind) {
        if self.listening {
            if self.notes.len() == MOST_NOTES {
                self.notes.pop_front();
            }
            self.notes.push_back(Note { at, kind });
        }
    }

    /// How many plain successes may be counted without looking in here, and until when: as many as can decide nothing,
    /// since they only lower the rates.
    pub(super) fn plain_run(&mut self) -> (u32, Instant) {
        let none = (0, Instant::default());
        if !matches!(self.state, State::Closed | State::MetricsOnly) || self.has_notes() {
            return none;
        }
        let now = self.latest;
        let totals = self.window.totals(now);
        let (run, until) = self.window.plain_run();
        let minimum = self.rules.effective_minimum();
        if totals.is_plain() {
            return (run, until);
        }
        if totals.calls < minimum {
            // The call that completes the minimum is looked at, success or not.
            return (run.min(minimum - totals.calls - 1), until);
        }
        // Time that has passed can have raised a rate since the last result.
        let rates = self.rates(now);
        let closed = self.state == State::Closed;
        let failures = rates.failure.is_some_and(|rate| rate >= self.rules.failure_rate_threshold);
        let slow_calls = rates.slow.is_some_and(|rate| rate >= self.rules.slow_call_rate_threshold);
        let tells =
            failures && (closed || !self.announced_failures) || slow_calls && (closed || !self.announced_slow_calls);
        if tells { none } else { (run, until) }
    }

    /// Records a part of such a run.
    pub(super) fn record_plain(&mut self, calls: u32) {
        self.window.record_plain(calls);
    }

    /// Records plain successes that came after such a run: each might decide something. Those that come after a
    /// decision went into a window that is gone.
    pub(super) fn record_successes(&mut self, mut calls: u32) {
        let generation = self.generation;
        while calls > 0 && self.generation == generation {
            let (run, until) = self.plain_run();
            if run > 0 && self.latest <= until {
                self.record_plain(run.min(calls));
                calls -= run.min(calls);
            } else {
                self.window.record(self.latest, false, false);
                self.evaluate();
                calls -= 1;
            }
        }
    }
}

fn window(rules: &Config, now: Instant) -> Window {
    match rules.slides_over() {
        (SlidingWindowType::CountBased, calls) => Window::Count(CountWindow::new(calls)),
        (SlidingWindowType::TimeBased, seconds) => Window::Time(TimeWindow::new(seconds, now)),
    }
}

fn just_after(moment: Instant) -> Instant {
    Instant::from_nanos(moment.as_nanos().saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(second: u64) -> Instant {
        Instant::from_nanos(second * 1_000_000_000)
    }

    /// Made at second 100: a window of 20 seconds and two calls, and one trial call.
    fn core(change: impl FnOnce(Config) -> Config) -> Core {
        let config = Config::default()
            .sliding_window_type(SlidingWindowType::TimeBased)
            .sliding_window_size(20)
            .minimum_number_of_calls(2)
            .permitted_number_of_calls_in_half_open_state(1);
        Core::new(change(config).into(), at(100))
    }

    fn look(core: &mut Core, now: Instant) -> Instant {
        let now = core.look(now, true);
        assert_eq!(core.settle(), None);
        now
    }

    fn record(core: &mut Core, outcome: Outcome) {
        let ticket = core.acquire(true).expect("admitted");
        core.finish(&ticket, outcome.into(), false, None);
    }

    #[test]
    fn a_clock_that_steps_back_stands_still_for_the_window_and_its_rates() {
        let mut core = core(|config| config.failure_rate_threshold(100.0));
        record(&mut core, Outcome::Failure);
        assert_eq!(look(&mut core, at(10)), at(100));
        record(&mut core, Outcome::Success);
        let view = core.view();
        assert_eq!((view.totals.calls, view.totals.failed, view.rates.failure), (2, 1, Some(50.0)));
        assert!(core.take_notes().iter().all(|note| note.at == at(100)));

        assert_eq!(look(&mut core, at(119)), at(119));
        assert_eq!(look(&mut core, at(0)), at(119));
        assert_eq!(core.view().totals, view.totals);
        look(&mut core, at(120));
        look(&mut core, at(100));
        assert_eq!((core.view().totals, core.view().rates.failure), (Totals::default(), None));
    }

    #[test]
    fn a_clock_that_steps_back_neither_shortens_nor_lengthens_the_open_wait() {
        let mut core = core(|config| config.wait_duration_in_open_state(60 * SECOND));
        look(&mut core, at(10));
        record(&mut core, Outcome::Failure);
        record(&mut core, Outcome::Failure);
        let wait = |core: &mut Core| core.acquire(true).expect_err("open").retry_after.map(Duration::from_nanos);
        assert_eq!(wait(&mut core), Some(60 * SECOND + Duration::from_nanos(1)));
        look(&mut core, at(130));
        look(&mut core, at(20));
        assert_eq!(wait(&mut core), Some(30 * SECOND + Duration::from_nanos(1)));
        look(&mut core, at(160));
        assert!(core.acquire(true).is_err());
        look(&mut core, at(161));
        look(&mut core, at(0));
        assert_eq!((core.acquire(true).map(|trial| trial.started), core.state()), (Ok(at(161)), State::HalfOpen));
    }

    #[test]
    fn a_clock_that_steps_back_neither_shortens_nor_lengthens_a_trial_call() {
        let mut core = core(|config| config.initial_state(State::HalfOpen).max_trial_call_duration(60 * SECOND));
        look(&mut core, at(10));
        assert_eq!(core.acquire(true).map(|trial| trial.started), Ok(at(100)));
        look(&mut core, at(160));
        look(&mut core, at(50));
        assert_eq!((core.state(), core.view().outstanding_trials), (State::HalfOpen, 1));
        look(&mut core, just_after(at(160)));
        assert_eq!(core.state(), State::Open);
    }

    #[test]
    fn a_clock_that_steps_back_neither_shortens_nor_lengthens_the_half_open_state() {
        let mut core =
            core(|config| config.initial_state(State::Open).max_wait_duration_in_half_open_state(30 * SECOND));
        look(&mut core, at(10));
        assert!(core.transition_to(State::HalfOpen));
        look(&mut core, at(129));
        look(&mut core, at(10));
        assert_eq!(core.state(), State::HalfOpen);
        look(&mut core, at(130));
        assert_eq!(core.state(), State::Open);
        assert_eq!(core.last_refused(), at(190));
    }
}
