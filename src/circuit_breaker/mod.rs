//! Stops calling a dependency that keeps failing, and tries it again later.
//!
//! A circuit is *closed* while calls succeed. When too large a share of the recent calls fails or is slow it *opens*, and
//! calls are rejected at once. After a while it *half-opens* and admits a few trial calls, whose results decide.
//!
//! ```
//! use resile::{CircuitBreaker, Error, Rejected, circuit_breaker};
//!
//! let breaker = CircuitBreaker::new("orders", circuit_breaker::Config::default().sliding_window_size(2))?;
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! for _ in 0..2 {
//!     let failed = breaker.call(|| async { Err::<(), _>("no route to host") }).await;
//!     assert_eq!(failed, Err(Error::Inner("no route to host")));
//! }
//! // Both calls of the window have failed: the third is not made.
//! match breaker.call(|| async { Ok::<_, &str>("an order") }).await {
//!     Err(Error::Rejected(Rejected::CircuitOpen(open))) => assert_eq!(open.failure_rate(), Some(100.0)),
//!     other => panic!("{other:?}"),
//! }
//! # });
//! # Ok::<(), resile::InvalidConfig>(())
//! ```
//!
//! # Rules
//!
//! They are Resilience4j's. After every finished call the failure rate and the slow-call rate are taken over the sliding
//! window, if it holds the minimum number of calls; at a threshold the circuit opens. An open circuit rejects until its
//! wait is over. The first call after that half-opens it and is the first of a limited number of trial calls. As soon as
//! enough of those have finished, the same thresholds decide between open and closed.
//!
//! What a result means is said by [`Outcome::of`](crate::Outcome::of), or by a classifier: see
//! [`classify`](CircuitBreaker::classify).
//!
//! Without futures, ask for a [`Permit`] and tell it how the call went:
//!
//! ```
//! use resile::CircuitBreaker;
//!
//! let breaker = CircuitBreaker::with_defaults("orders");
//! let permit = breaker.try_acquire()?;
//! match "42".parse::<u32>() {
//!     Ok(_) => permit.success(),
//!     Err(_) => permit.failure(),
//! }
//! assert_eq!(breaker.metrics().buffered_calls, 1);
//! # Ok::<(), resile::Rejected>(())
//! ```

mod config;
mod future;
mod history;
mod lane;
mod permit;
mod shared;
mod state;
mod window;

use std::{
    collections::VecDeque,
    error::Error as StdError,
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

#[cfg(feature = "metrics")]
use self::history::History;
pub use self::{
    config::{Config, SlidingWindowType},
    future::{Call, Judge},
    permit::{OwnedPermit, Permit, PermitOf},
};
use self::{
    history::Reason,
    shared::{Counted, Shared},
    state::{Core, Note, Refusal, Ticket},
};
pub use crate::event::State;
use crate::{
    clock::{Clock, Instant, nanos},
    error::{CircuitOpen, InvalidConfig, Rejected},
    event::{EventKind, Name, PolicyKind, Source},
    meter::{BreakerMeter, Slot, meter_methods},
    outcome::{Outcome, Verdict},
    policy::{Cx, Operation, Policy, event_methods, handle_methods},
    sync::contained,
};

/// Stops calling a dependency that keeps failing. Cheap to clone; a clone is the same breaker.
///
/// It is not generic: one breaker guards calls of many types.
#[derive(Debug, Clone)]
pub struct CircuitBreaker {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    source: Source,
    clock: Clock,
    reads: Reads,
    shared: Shared,
    meter: Slot<BreakerMeter>,
}

/// What calls read of the settings.
#[derive(Debug, Default)]
struct Reads {
    /// The slow-call threshold in nanoseconds; the end of time where no call is slow and no start is read.
    slow_above: AtomicU64,
    /// Whether the end of a call is read even where its start was not: where the window is one over time.
    every_end: AtomicBool,
    cancelled_slow_calls: AtomicBool,
}

impl Reads {
    fn set(&self, config: &Config) {
        let slow_above = config.slow_call_duration_threshold.map_or(u64::MAX, |slow| nanos(slow).min(u64::MAX - 1));
        let time_based = config.sliding_window_type == SlidingWindowType::TimeBased;
        self.slow_above.store(slow_above, Ordering::Relaxed);
        self.every_end.store(time_based, Ordering::Relaxed);
        self.cancelled_slow_calls.store(config.record_cancelled_slow_calls, Ordering::Relaxed);
    }

    #[inline(always)]
    fn slow_above(&self) -> u64 {
        self.slow_above.load(Ordering::Relaxed)
    }

    #[inline(always)]
    fn start(&self) -> bool {
        self.slow_above() != u64::MAX
    }
}

/// A snapshot of a breaker. Taking one changes nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Metrics {
    /// The state.
    pub state: State,
    /// How often the state has been entered anew, by whatever way, a window that starts afresh included.
    pub generation: u64,
    /// The share of failed calls in percent; `None` below the minimum number of calls.
    pub failure_rate: Option<f32>,
    /// The share of slow calls in percent; `None` below the minimum number of calls.
    pub slow_call_rate: Option<f32>,
    /// Finished calls in the window. An open circuit shows the window it opened with.
    pub buffered_calls: u32,
    /// Failed calls in the window.
    pub failed_calls: u32,
    /// Slow calls in the window, failed or not.
    pub slow_calls: u32,
    /// Calls in the window that were slow and failed.
    pub slow_failed_calls: u32,
    /// Calls rejected since the state was entered; an open circuit goes on from the state before it.
    pub not_permitted_calls: u64,
    /// Trial calls under way.
    pub outstanding_trial_calls: u32,
    /// Results, ever, of calls admitted in an earlier generation. They are counted nowhere else.
    pub late_results: u64,
    /// After how long an open circuit admits a call; `None` in other states, and where no moment can be named.
    pub retry_after: Option<Duration>,
}

impl Metrics {
    /// Calls in the window that did not fail.
    pub fn successful_calls(&self) -> u32 {
        self.buffered_calls - self.failed_calls
    }

    /// Calls in the window that were slow and did not fail.
    pub fn slow_successful_calls(&self) -> u32 {
        self.slow_calls - self.slow_failed_calls
    }
}

/// A transition that is not allowed: from closed or metrics-only to half-open, or from metrics-only to open.
#[doc(alias = "IllegalStateTransitionException")]
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct IllegalTransition {
    /// The breaker's name.
    pub name: Name,
    /// The state it is in, and stays in.
    pub from: State,
    /// The state asked for.
    pub to: State,
}

impl fmt::Display for IllegalTransition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, from, to } = self;
        write!(f, "circuit breaker '{name}' tried an illegal state transition from {from} to {to}")
    }
}

impl StdError for IllegalTransition {}

impl CircuitBreaker {
    /// A breaker of that name.
    ///
    /// # Errors
    /// [`InvalidConfig`] for a setting out of range or at odds with another.
    pub fn new(name: impl Into<Name>, config: Config) -> Result<Self, InvalidConfig> {
        config.validate()?;
        Ok(Self::sharing(name.into(), config.into()))
    }

    /// A breaker with the default settings.
    pub fn with_defaults(name: impl Into<Name>) -> Self {
        Self::sharing(name.into(), Config::default().into())
    }

    /// A breaker with valid settings that others may have too.
    pub(crate) fn sharing(name: Name, config: Arc<Config>) -> Self {
        let source = Source::new(name, PolicyKind::CircuitBreaker);
        let (clock, reads) = (config.clock.clone(), Reads::default());
        reads.set(&config);
        let shared = Shared::new(Core::new(config, clock.now()));
        let breaker = Self { inner: Arc::new(Inner { source, clock, reads, shared, meter: Slot::new() }) };
        // An initial state of open may have a wait that only code of the user's can tell.
        breaker.look(breaker.now(), |_| ());
        breaker
    }

    /// The settings now in force.
    pub fn config(&self) -> Config {
        Config::clone(&self.inner.shared.config())
    }

    /// Goes on with other settings in the same state. An open circuit stays open until the moment it was to be; later
    /// waits are the new ones. A window of another size or kind starts afresh, in a new generation where it is in use:
    /// results of calls admitted before are late ones then. A half-open circuit keeps its trial calls and is decided at
    /// once if enough of them have finished; a closed one by the next result. `initial_state` is for new breakers, and
    /// the clock stays the breaker's own.
    ///
    /// ```
    /// use resile::{CircuitBreaker, circuit_breaker::Config};
    ///
    /// let breaker = CircuitBreaker::with_defaults("orders");
    /// breaker.reconfigure(Config::default().failure_rate_threshold(20.0))?;
    /// assert_eq!(breaker.config().failure_rate_threshold, 20.0);
    /// # Ok::<(), resile::InvalidConfig>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidConfig`] for what [`new`](Self::new) would refuse; nothing is changed.
    pub fn reconfigure(&self, config: Config) -> Result<(), InvalidConfig> {
        config.validate()?;
        self.share(config.into());
        Ok(())
    }

    /// As `reconfigure`, to valid settings that others may have too.
    pub(crate) fn share(&self, mut config: Arc<Config>) {
        if config.clock != self.inner.clock {
            Arc::make_mut(&mut config).clock = self.inner.clock.clone();
        }
        // A function of the user's in the old settings is dropped outside the locks.
        let (_before, notes) = self.look(self.now(), |core| {
            self.inner.reads.set(&config);
            (core.reconfigure(config), core.take_notes())
        });
        self.publish(notes);
    }

    /// The state now. Asking changes nothing: without the automatic transition an open circuit stays open until a call
    /// comes, however long ago its wait ended.
    pub fn state(&self) -> State {
        let word = self.inner.shared.word();
        match word.state() {
            State::Open | State::HalfOpen => self.look(self.now(), |core| core.state()),
            _ if word.is_held() => self.look(self.now(), |core| core.state()),
            state => state,
        }
    }

    /// Rates and counts now.
    pub fn metrics(&self) -> Metrics {
        let view = self.look(self.now(), Core::view);
        Metrics {
            state: view.state,
            generation: view.generation,
            failure_rate: view.rates.failure,
            slow_call_rate: view.rates.slow,
            buffered_calls: view.totals.calls,
            failed_calls: view.totals.failed,
            slow_calls: view.totals.slow,
            slow_failed_calls: view.totals.slow_failed,
            not_permitted_calls: self.inner.shared.not_permitted().saturating_sub(view.not_permitted_before),
            outstanding_trial_calls: view.outstanding_trials,
            late_results: view.late_results,
            retry_after: view.retry_after,
        }
    }

    /// Whether the state is one that admits calls. Takes no permit, so the next call may still be rejected.
    pub fn is_call_permitted(&self) -> bool {
        !matches!(self.state(), State::Open | State::ForcedOpen)
    }

    /// A permit for one call, or the rejection. Does not wait.
    ///
    /// # Errors
    /// [`Rejected::CircuitOpen`] with the rates that opened the circuit and when a call may be admitted.
    #[doc(alias = "tryAcquirePermission")]
    pub fn try_acquire(&self) -> Result<Permit<'_>, Rejected> {
        PermitOf::acquire(self)
    }

    /// As [`try_acquire`](Self::try_acquire), with a permit that can move into a task, a closure on another thread or a
    /// response body.
    ///
    /// # Errors
    /// [`Rejected::CircuitOpen`], as `try_acquire`.
    pub fn try_acquire_owned(&self) -> Result<OwnedPermit, Rejected> {
        PermitOf::acquire(self.clone())
    }

    /// The same breaker with results judged by `judge`, which returns an [`Outcome`] or a [`Verdict`]. A panic in it counts
    /// as a failure.
    ///
    /// ```
    /// use resile::{CircuitBreaker, Error, Outcome};
    ///
    /// let breaker = CircuitBreaker::with_defaults("orders").classify(|result: &Result<u16, Error<String>>| match result {
    ///     Ok(500..) => Outcome::Failure,
    ///     other => Outcome::of(other),
    /// });
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// breaker.call(|| async { Ok(503) }).await.unwrap();
    /// # });
    /// assert_eq!(breaker.breaker().metrics().failed_calls, 1);
    /// ```
    #[doc(alias("recordException", "ignoreException", "recordResult", "transitionOnResult", "ShouldHandle"))]
    pub fn classify<F>(&self, judge: F) -> Classified<F> {
        Classified { breaker: self.clone(), judge }
    }

    /// Closes the circuit by hand. Whatever was counted is forgotten.
    ///
    /// # Errors
    /// None today: every state may become closed.
    pub fn transition_to_closed(&self) -> Result<(), IllegalTransition> {
        self.transition_to(State::Closed)
    }

    /// Opens the circuit by hand, for the configured wait.
    ///
    /// # Errors
    /// [`IllegalTransition`] in the metrics-only state.
    pub fn transition_to_open(&self) -> Result<(), IllegalTransition> {
        self.transition_to(State::Open)
    }

    /// Opens the circuit by hand for `wait`.
    ///
    /// # Errors
    /// [`IllegalTransition`] in the metrics-only state.
    pub fn transition_to_open_for(&self, wait: Duration) -> Result<(), IllegalTransition> {
        self.steer(State::Open, |core| {
            let legal = core.state() != State::MetricsOnly;
            if legal {
                core.open_for(wait, Reason::Manual);
            }
            legal
        })
    }

    /// Opens the circuit by hand until `moment`, on the breaker's clock.
    ///
    /// # Errors
    /// [`IllegalTransition`] in the metrics-only state.
    pub fn transition_to_open_until(&self, moment: Instant) -> Result<(), IllegalTransition> {
        self.transition_to_open_for(moment.saturating_duration_since(self.now()))
    }

    /// Half-opens the circuit by hand.
    ///
    /// # Errors
    /// [`IllegalTransition`] in the closed and the metrics-only state.
    pub fn transition_to_half_open(&self) -> Result<(), IllegalTransition> {
        self.transition_to(State::HalfOpen)
    }

    /// Admits every call from now on, and counts nothing.
    ///
    /// # Errors
    /// None today: every state may become disabled.
    pub fn transition_to_disabled(&self) -> Result<(), IllegalTransition> {
        self.transition_to(State::Disabled)
    }

    /// Admits every call from now on, and counts.
    ///
    /// # Errors
    /// None today: every state may become metrics-only.
    pub fn transition_to_metrics_only(&self) -> Result<(), IllegalTransition> {
        self.transition_to(State::MetricsOnly)
    }

    /// Rejects every call from now on.
    ///
    /// # Errors
    /// None today: every state may become forced open.
    pub fn transition_to_forced_open(&self) -> Result<(), IllegalTransition> {
        self.transition_to(State::ForcedOpen)
    }

    /// Closes the circuit, whatever its state, and forgets whatever was counted.
    pub fn reset(&self) {
        let notes = self.look(self.now(), |core| {
            core.reset();
            core.take_notes()
        });
        self.publish(notes);
    }

    fn transition_to(&self, to: State) -> Result<(), IllegalTransition> {
        self.steer(to, |core| core.transition_to(to))
    }

    fn steer(&self, to: State, change: impl FnOnce(&mut Core) -> bool) -> Result<(), IllegalTransition> {
        let (from, legal, notes) = self.look(self.now(), |core| (core.state(), change(core), core.take_notes()));
        self.publish(notes);
        if legal { Ok(()) } else { Err(IllegalTransition { name: self.source().name.clone(), from, to }) }
    }

    fn source(&self) -> &Source {
        &self.inner.source
    }

    fn now(&self) -> Instant {
        self.inner.clock.now()
    }

    /// Whether the start of a call is read: where one can be slow, and where durations are metered.
    #[inline(always)]
    fn reads_start(&self) -> bool {
        self.inner.reads.start() || self.inner.meter.get().is_some()
    }

    fn look<R>(&self, now: Instant, decide: impl FnOnce(&mut Core) -> R) -> R {
        let ask = |attempts| {
            let waits = self.inner.shared.config().open_wait();
            let wait = || waits.sample(attempts, None, &mut waits.rng_of_run(attempts.into()));
            contained(wait).unwrap_or(Config::DEFAULT_WAIT)
        };
        self.inner.shared.look(now, self.source().listening(), ask, decide)
    }

    fn publish(&self, notes: VecDeque<Note>) {
        for note in notes {
            self.source().publish_at(note.at, note.kind);
        }
    }

    /// Admits a call: one load while the circuit is closed. The ticket is filled in where it stays.
    #[inline(always)]
    fn admit(&self, cx: &mut Cx, ticket: &mut Ticket) -> Result<(), Refusal> {
        let word = self.inner.shared.word();
        if word.admits() {
            ticket.generation = word.generation();
            ticket.trial = 0;
            ticket.started = if self.reads_start() { cx.read(&self.inner.clock) } else { Ticket::UNREAD };
            return Ok(());
        }
        let now = cx.read(&self.inner.clock);
        match self.inner.shared.refuse(now) {
            Some(refusal) => {
                if refusal.state == State::Open && self.source().listening() {
                    self.publish_refusal(now);
                }
                Err(refusal)
            }
            None => self.admit_by_looking(now, ticket),
        }
    }

    #[cold]
    fn publish_refusal(&self, now: Instant) {
        self.source().publish_at(now, EventKind::NotPermitted);
    }

    #[cold]
    fn admit_by_looking(&self, now: Instant, ticket: &mut Ticket) -> Result<(), Refusal> {
        let (admitted, notes) = self.look(now, |core| (core.acquire(self.reads_start()), core.take_notes()));
        if admitted.is_err() {
            self.inner.shared.count_not_permitted();
        }
        self.publish(notes);
        *ticket = admitted?;
        Ok(())
    }

    /// Inlined, so that the rejection is written where it stays.
    #[inline(always)]
    fn rejected(&self, refusal: Refusal) -> Rejected {
        let Refusal { state, rates, retry_after } = refusal;
        let open = CircuitOpen::new(self.source().name.clone(), state);
        open.with_numbers(state, [rates.failure, rates.slow], rates.calls, retry_after).into()
    }

    /// Counts a result: by one store for a success that is not slow, as long as it can decide nothing.
    #[inline(always)]
    fn finish(&self, ticket: &Ticket, verdict: Verdict) {
        let measured = ticket.started != Ticket::UNREAD;
        let reads_end = measured || self.inner.reads.every_end.load(Ordering::Relaxed);
        let now = if reads_end { self.now() } else { Instant::default() };
        let elapsed = now.as_nanos().saturating_sub(ticket.started.as_nanos());
        self.finish_after(ticket, verdict, if measured { elapsed } else { UNMEASURED }, now);
    }

    #[inline(always)]
    fn finish_after(&self, ticket: &Ticket, verdict: Verdict, elapsed: u64, now: Instant) {
        let slow = elapsed > self.inner.reads.slow_above() && elapsed != UNMEASURED;
        let plain = verdict.outcome == Outcome::Success && !slow && ticket.trial == 0 && !verdict.opens();
        if plain {
            let counted = self.inner.shared.count_plain(ticket.generation, now);
            if let (Counted::Yes, Some(meter)) = (counted, self.inner.meter.get()) {
                meter.record(Outcome::Success, elapsed);
            }
            match counted {
                Counted::Yes if self.source().listening() => return self.publish_success(elapsed),
                Counted::Yes | Counted::Unwatched => return,
                Counted::LookInside => {}
            }
        }
        self.finish_by_looking(ticket, verdict, slow, elapsed);
    }

    #[cold]
    fn publish_success(&self, elapsed: u64) {
        let kind = EventKind::Success { elapsed: measured(elapsed), attempts: 0 };
        self.source().publish_at(self.now(), kind);
    }

    #[cold]
    fn finish_by_looking(&self, ticket: &Ticket, verdict: Verdict, slow: bool, elapsed: u64) {
        let (counted, notes) = self.look(self.now(), |core| {
            let counted = core.finish(ticket, verdict, slow, measured(elapsed));
            (counted, core.take_notes())
        });
        if let Some(meter) = self.inner.meter.get().filter(|_| counted) {
            meter.record(verdict.outcome, elapsed);
        }
        self.publish(notes);
    }

    /// Gives back what a call held that ends without a result.
    fn cancel(&self, ticket: &Ticket) {
        if let Some(meter) = self.inner.meter.get() {
            meter.cancelled.add();
        }
        let reads = &self.inner.reads;
        if reads.cancelled_slow_calls.load(Ordering::Relaxed) && ticket.started != Ticket::UNREAD {
            let elapsed = self.now().as_nanos().saturating_sub(ticket.started.as_nanos());
            if elapsed > reads.slow_above() {
                return self.finish_by_looking(ticket, Outcome::Success.into(), true, elapsed);
            }
        }
        if ticket.trial != 0 {
            let notes = self.look(self.now(), |core| {
                core.cancel(ticket);
                core.take_notes()
            });
            self.publish(notes);
        }
    }
}

/// In place of nanoseconds, where nothing was measured.
const UNMEASURED: u64 = u64::MAX;

fn measured(elapsed: u64) -> Option<Duration> {
    (elapsed != UNMEASURED).then_some(Duration::from_nanos(elapsed))
}

#[cfg(feature = "metrics")]
impl CircuitBreaker {
    /// All rejections ever, those of a forced-open circuit included, and what has become of the state.
    pub(crate) fn history(&self) -> (u64, History) {
        (self.inner.shared.not_permitted(), self.look(self.now(), |core| core.history()))
    }
}

event_methods!(CircuitBreaker);
meter_methods!(CircuitBreaker, BreakerMeter, meter);
handle_methods!(CircuitBreaker);

impl AsRef<Self> for CircuitBreaker {
    fn as_ref(&self) -> &Self {
        self
    }
}

/// A [`CircuitBreaker`] with results judged by a function. It shares the breaker's state.
#[derive(Clone)]
pub struct Classified<F> {
    breaker: CircuitBreaker,
    judge: F,
}

impl<F> Classified<F> {
    /// The breaker.
    pub fn breaker(&self) -> &CircuitBreaker {
        &self.breaker
    }
}

impl<F> fmt::Debug for Classified<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Classified").field("breaker", &self.breaker).finish_non_exhaustive()
    }
}

handle_methods!(Classified<F>);

impl<F> AsRef<CircuitBreaker> for Classified<F> {
    fn as_ref(&self) -> &CircuitBreaker {
        &self.breaker
    }
}

impl<Op: Operation> Policy<Op> for CircuitBreaker {
    type Future = Call<Self, Op::Future>;

    #[inline]
    fn run(self, op: Op) -> Self::Future {
        Call::new(self, op.start())
    }
}

impl<Op: Operation> Policy<Op> for &CircuitBreaker {
    type Future = Call<Self, Op::Future>;

    #[inline]
    fn run(self, op: Op) -> Self::Future {
        Call::new(self, op.start())
    }
}

impl<Op, F, V> Policy<Op> for Classified<F>
where
    Op: Operation,
    F: Fn(&Result<Op::Ok, Op::Err>) -> V,
    V: Into<Verdict>,
{
    type Future = Call<Self, Op::Future>;

    #[inline]
    fn run(self, op: Op) -> Self::Future {
        Call::new(self, op.start())
    }
}

impl<Op, F, V> Policy<Op> for &Classified<F>
where
    Op: Operation,
    F: Fn(&Result<Op::Ok, Op::Err>) -> V,
    V: Into<Verdict>,
{
    type Future = Call<Self, Op::Future>;

    #[inline]
    fn run(self, op: Op) -> Self::Future {
        Call::new(self, op.start())
    }
}
