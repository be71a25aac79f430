use std::{collections::BTreeMap, fmt, sync::Arc};

use subtle::ConstantTimeEq;

use crate::{clock::Clock, error::InvalidConfig, event::PolicyKind, sync::contained};

/// The settings of [`router`](super::router).
#[derive(Debug, Clone)]
pub struct Config {
    pub(super) operators: Operators,
    pub(super) event_buffer_size: usize,
    pub(super) keep_events_of_calls: bool,
    pub(super) max_event_streams: usize,
    pub(super) max_requests_per_second: u32,
    pub(super) max_writes_per_second: u32,
    pub(super) may_fail: MayFail,
    pub(super) serve_health: bool,
    pub(super) clock: Clock,
}

type Allows = dyn Fn(PolicyKind, &str) -> bool + Send + Sync;

/// Whose open circuit or empty limiter makes the health DOWN.
#[derive(Clone, Default)]
pub(super) struct MayFail {
    all: bool,
    by: Option<Arc<Allows>>,
    by_name: BTreeMap<String, bool>,
}

impl MayFail {
    pub(super) fn of(&self, kind: PolicyKind, name: &str) -> bool {
        let asked = || self.by.as_ref().map(|by| contained(|| by(kind, name)).unwrap_or_default());
        self.by_name.get(name).copied().or_else(asked).unwrap_or(self.all)
    }
}

impl fmt::Debug for MayFail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MayFail").field("all", &self.all).field("by_name", &self.by_name).finish_non_exhaustive()
    }
}

/// Who may write, and by which token.
#[derive(Clone, Default)]
pub(super) struct Operators(Vec<(String, String)>);

impl Operators {
    pub(super) fn nobody(&self) -> bool {
        self.0.is_empty()
    }

    /// Whose token it is. Every token is compared, each in the same time wherever it differs.
    pub(super) fn whose(&self, token: &[u8]) -> Option<&str> {
        let mut found = None;
        for (who, known) in &self.0 {
            if bool::from(known.as_bytes().ct_eq(token)) {
                found = Some(who.as_str());
            }
        }
        found
    }
}

/// Shows no token.
impl fmt::Debug for Operators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(who, _)| who)).finish()
    }
}

impl Config {
    const SHORTEST_TOKEN: usize = 16;

    /// Lets `who` change the state of circuit breakers with this bearer token, of at least 16 characters. Each operator
    /// may have one of their own: changes are reported with `who` made them. Default: nobody, and writing is off.
    #[must_use]
    pub fn operator(mut self, who: impl Into<String>, token: impl Into<String>) -> Self {
        self.operators.0.push((who.into(), token.into()));
        self
    }

    /// How many events of all circuit breakers together are kept: so many of calls, and so many of all other kinds, so
    /// that the calls of a busy breaker do not push out a transition. 1 to 100,000. Default: 100.
    #[doc(alias = "eventConsumerBufferSize")]
    #[must_use]
    pub fn event_buffer_size(mut self, events: usize) -> Self {
        self.event_buffer_size = events;
        self
    }

    /// Whether events of single calls are kept, listed and streamed: `SUCCESS`, `ERROR`, `IGNORED_ERROR`, `NOT_PERMITTED`,
    /// `LATE_RESULT`. Turn it off where circuit breakers see more than some 100,000 calls a second together: the threads
    /// that make them meet at one lock for it. The page needs none of them. Default: true.
    #[must_use]
    pub fn keep_events_of_calls(mut self, keep: bool) -> Self {
        self.keep_events_of_calls = keep;
        self
    }

    /// How many event streams may be read at once, 1 to 10,000. One that has not been read for a minute gives its place
    /// up. Default: 16.
    #[must_use]
    pub fn max_event_streams(mut self, streams: usize) -> Self {
        self.max_event_streams = streams;
        self
    }

    /// How many requests a second are answered, at least 1, and as many more at once; others get 429. The liveness group
    /// is always answered, and the rest of the health endpoints have as many again for themselves. An open page asks
    /// less than twice a second. Default: 100.
    #[must_use]
    pub fn max_requests_per_second(mut self, requests: u32) -> Self {
        self.max_requests_per_second = requests;
        self
    }

    /// How many attempts to write are heard a second, at least 1, with the right token or a wrong one; others get 429, so
    /// that nobody tries tokens one after the other. Default: 5.
    #[must_use]
    pub fn max_writes_per_second(mut self, writes: u32) -> Self {
        self.max_writes_per_second = writes;
        self
    }

    /// Whether an open circuit and an empty rate limiter make the health DOWN, and with it the readiness, rather than
    /// `CIRCUIT_OPEN` and `RATE_LIMITED`, which do not count. Traffic then goes to another replica, which helps only
    /// where that one can reach the dependency. Default: false.
    #[must_use]
    pub fn allow_health_indicator_to_fail(mut self, allow: bool) -> Self {
        self.may_fail.all = allow;
        self
    }

    /// Whether the health endpoints are there. A service that has a health of its own, which knows of its database too,
    /// leaves them out. Default: true.
    #[must_use]
    pub fn serve_health(mut self, serve: bool) -> Self {
        self.serve_health = serve;
        self
    }

    /// The same for the instances of one name, whatever is set for all.
    /// The same by a function of the kind, circuit breaker or rate limiter, and the name, in place of one answer for all.
    /// It is asked at each look at the health: with the feature `settings`, it can ask
    /// `Settings::allows_health_indicator_to_fail`. A panic in it is a no.
    #[must_use]
    pub fn allow_health_indicator_to_fail_by(
        mut self,
        allows: impl Fn(PolicyKind, &str) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.may_fail.by = Some(Arc::new(allows));
        self
    }

    /// The same for the instances of one name, whatever is said of others.
    #[must_use]
    pub fn allow_health_indicator_to_fail_for(mut self, name: impl Into<String>, allow: bool) -> Self {
        self.may_fail.by_name.insert(name.into(), allow);
        self
    }

    /// Reads this clock for rates and time-outs of requests. Default: [`Clock::default`].
    #[must_use]
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.clock = clock.into();
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// [`InvalidConfig`] for a setting out of range. It never shows a token.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        for (who, token) in &self.operators.0 {
            let holds =
                token.chars().count() >= Self::SHORTEST_TOKEN && token.bytes().all(|byte| byte.is_ascii_graphic());
            let rule = "the token must be at least 16 visible ASCII characters, without spaces";
            InvalidConfig::check(holds, "operator", who, rule)?;
            let holds = !who.trim().is_empty();
            InvalidConfig::check(holds, "operator", who, "must say who the token is for")?;
        }
        let holds = (1..=100_000).contains(&self.event_buffer_size);
        InvalidConfig::check(holds, "event_buffer_size", self.event_buffer_size, "must be 1 to 100000 events")?;
        let holds = (1..=10_000).contains(&self.max_event_streams);
        InvalidConfig::check(holds, "max_event_streams", self.max_event_streams, "must be 1 to 10000 streams")?;
        for (field, rate) in [
            ("max_requests_per_second", self.max_requests_per_second),
            ("max_writes_per_second", self.max_writes_per_second),
        ] {
            InvalidConfig::check((1..=1_000_000).contains(&rate), field, rate, "must be 1 to 1000000 a second")?;
        }
        Ok(())
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            operators: Operators::default(),
            event_buffer_size: 100,
            keep_events_of_calls: true,
            max_event_streams: 16,
            max_requests_per_second: 100,
            max_writes_per_second: 5,
            may_fail: MayFail::default(),
            serve_health: true,
            clock: Clock::default(),
        }
    }
}
