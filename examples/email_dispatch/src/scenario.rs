//! The outage of a broker in nine steps, each checked: what the breaker `kafka-publisher` does, and that requests are
//! accepted all the while and none is lost.

use std::{fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;
use resile::{
    CircuitBreaker,
    circuit_breaker::State,
    event::{EventKind, Subscription},
};
use uuid::Uuid;

use crate::{
    embedded::Broker,
    kafka::KafkaFault,
    sample::Samples,
    service::Service,
    store::{Accepted, Status},
};

/// A cluster that can be taken down and brought back.
pub trait Cluster: Sync {
    /// Takes it down.
    fn stop(&self) -> impl Future<Output = Result<(), String>> + Send;
    /// Brings it back with all it had.
    fn resume(&self) -> impl Future<Output = Result<(), String>> + Send;
}

impl Cluster for Broker {
    async fn stop(&self) -> Result<(), String> {
        Broker::stop(self).map_err(|fault: KafkaFault| fault.to_string())
    }

    async fn resume(&self) -> Result<(), String> {
        Broker::resume(self).map_err(|fault: KafkaFault| fault.to_string())
    }
}

/// The steps. Their numbers are those of the exit code, after 10.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The service starts, and reads its topics.
    Start = 1,
    /// The breaker is CLOSED.
    Closed,
    /// Requests are accepted, published and sent.
    NormalTraffic,
    /// The broker is stopped.
    BrokerStopped,
    /// Publishing is slow and fails.
    FailingPublishes,
    /// The breaker is OPEN, nothing is tried, and requests are still accepted into the outbox.
    Open,
    /// The broker is back.
    BrokerBack,
    /// The breaker is HALF_OPEN, and trial calls decide.
    HalfOpen,
    /// The breaker is CLOSED, the outbox is empty, and everything has been sent.
    Recovered,
}

impl Step {
    /// All of them, in order.
    pub const ALL: [Self; 9] = [
        Self::Start,
        Self::Closed,
        Self::NormalTraffic,
        Self::BrokerStopped,
        Self::FailingPublishes,
        Self::Open,
        Self::BrokerBack,
        Self::HalfOpen,
        Self::Recovered,
    ];

    /// What happens in it.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Closed => "the breaker is CLOSED",
            Self::NormalTraffic => "normal traffic",
            Self::BrokerStopped => "the broker is stopped",
            Self::FailingPublishes => "slow and failing publishes",
            Self::Open => "the breaker is OPEN, and requests are still accepted into the outbox",
            Self::BrokerBack => "the broker is back",
            Self::HalfOpen => "recovery calls, half-open",
            Self::Recovered => "the breaker is CLOSED, and the outbox is empty",
        }
    }
}

/// What was not as it should be, and at which step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("step {} ({}): expected {expected}, found {found}", *.step as u8, .step.title())]
pub struct Deviation {
    /// At which step.
    pub step: Step,
    /// What should have been.
    pub expected: String,
    /// What was.
    pub found: String,
}

/// Plays all steps, and tells `say` what was seen at each.
///
/// `bound` is how long to wait at most for what a step expects.
///
/// # Errors
/// The first deviation.
pub async fn play(
    service: &Service,
    cluster: &impl Cluster,
    bound: Duration,
    mut say: impl FnMut(Step, &str),
) -> Result<(), Deviation> {
    let breaker = service.breakers()[0].clone();
    let mut play = Play { service, seen: Seen::of(&breaker), breaker, bound, step: Step::Start, requests: Vec::new() };
    for step in Step::ALL {
        play.step = step;
        let seen = play.step(cluster).await?;
        say(step, &seen);
    }
    Ok(())
}

/// How many requests a step sends.
const REQUESTS: usize = 60;

struct Play<'a> {
    service: &'a Service,
    breaker: CircuitBreaker,
    seen: Seen,
    bound: Duration,
    step: Step,
    requests: Vec<Uuid>,
}

impl Play<'_> {
    async fn step(&mut self, cluster: &impl Cluster) -> Result<String, Deviation> {
        match self.step {
            Step::Start => {
                let reading = || async {
                    let lanes = self.service.progress();
                    let read = lanes.iter().filter(|lane| lane.partitions > 0).count();
                    (self.service.is_reading(), format!("{read} lanes of topics are read"))
                };
                self.until("all lanes of topics to be read", reading).await
            }
            Step::Closed => {
                self.expect_state(State::Closed)?;
                Ok(self.numbers())
            }
            Step::NormalTraffic => {
                self.accept().await?;
                self.until_sent().await?;
                self.expect_state(State::Closed)?;
                Ok(format!("{} mails sent, {}", self.requests.len(), self.numbers()))
            }
            Step::BrokerStopped => {
                cluster.stop().await.map_err(|why| self.deviation("the broker to stop", why))?;
                Ok("nobody answers".to_owned())
            }
            Step::FailingPublishes => {
                self.accept().await?;
                let failing = || async {
                    let metrics = self.breaker.metrics();
                    (metrics.failed_calls > 0 && metrics.slow_calls > 0, self.numbers())
                };
                self.until("calls that failed and were slow", failing).await
            }
            Step::Open => {
                self.until("OPEN", || async { (self.breaker.state() == State::Open, self.numbers()) }).await?;
                let tried = self.breaker.metrics().buffered_calls;
                self.accept().await?;
                let waiting = self.waiting().await;
                if waiting < 2 * REQUESTS as u64 {
                    return Err(self.deviation("every request in the outbox", format!("{waiting} in the outbox")));
                }
                if self.breaker.state() == State::Open && self.breaker.metrics().buffered_calls != tried {
                    return Err(self.deviation("nothing to be tried while OPEN", self.numbers()));
                }
                Ok(format!("{waiting} requests wait in the outbox"))
            }
            Step::BrokerBack => {
                cluster.resume().await.map_err(|why| self.deviation("the broker to come back", why))?;
                Ok("it answers again".to_owned())
            }
            Step::HalfOpen => {
                self.until("HALF_OPEN, then CLOSED", || async {
                    (self.seen.contains(State::HalfOpen, State::Closed), self.seen.to_string())
                })
                .await
            }
            Step::Recovered => {
                self.until_sent().await?;
                self.until("an empty outbox", || async {
                    let waiting = self.waiting().await;
                    (waiting == 0, format!("{waiting} in the outbox"))
                })
                .await?;
                self.expect_state(State::Closed)?;
                if !self.seen.is_one_outage() {
                    let expected = "CLOSED to OPEN, trials, and CLOSED again";
                    return Err(self.deviation(expected, self.seen.to_string()));
                }
                Ok(format!("all {} requests sent: {}", self.requests.len(), self.seen))
            }
        }
    }

    fn deviation(&self, expected: &str, found: impl Into<String>) -> Deviation {
        Deviation { step: self.step, expected: expected.to_owned(), found: found.into() }
    }

    /// Waits for a condition, within the bound.
    async fn until<F: Future<Output = (bool, String)>>(
        &self,
        expected: &str,
        condition: impl Fn() -> F,
    ) -> Result<String, Deviation> {
        let deadline = tokio::time::Instant::now() + self.bound;
        loop {
            let (holds, found) = condition().await;
            if holds {
                return Ok(found);
            }
            if tokio::time::Instant::now() > deadline {
                return Err(self.deviation(&format!("{expected} within {:?}", self.bound), found));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn expect_state(&self, state: State) -> Result<(), Deviation> {
        let found = self.breaker.state();
        if found == state { Ok(()) } else { Err(self.deviation(state.as_str(), found.as_str())) }
    }

    /// Asks for some more requests, all of which must be accepted.
    async fn accept(&mut self) -> Result<(), Deviation> {
        let samples = Samples { seed: self.step as u64, nobodies: 0, ..Samples::default() };
        let door = self.service.door();
        let bodies = samples.requests().take(REQUESTS).map(|body| door.read(body.to_string().as_bytes()));
        let passed = bodies.collect::<Result<Vec<_>, _>>();
        let passed = passed.map_err(|faults| self.deviation("valid requests", faults.to_string()))?;
        let ids: Vec<_> = passed.iter().map(|request| request.id).collect();
        let answers = door.accept(passed).await;
        let answers = answers.map_err(|error| self.deviation("requests to be accepted", error.to_string()))?;
        if let Some(known) = answers.iter().find(|answer| **answer != Accepted::New) {
            return Err(self.deviation("new requests to be accepted", format!("{known:?}")));
        }
        self.requests.extend(ids);
        Ok(())
    }

    async fn until_sent(&self) -> Result<String, Deviation> {
        let wanted = self.requests.len() as u64;
        self.until("every request SENT", || async {
            match self.service.ledger().counts().await {
                Ok(counts) => (counts.sent >= wanted, format!("{} of {wanted} SENT", counts.sent)),
                Err(error) => (false, error.to_string()),
            }
        })
        .await?;
        for id in &self.requests {
            match self.service.ledger().find(*id).await {
                Ok(Some(row)) if row.status == Status::Sent => {}
                other => return Err(self.deviation("every request SENT", format!("{id}: {other:?}"))),
            }
        }
        Ok(format!("{wanted} SENT"))
    }

    async fn waiting(&self) -> u64 {
        self.service.outbox().len().await.unwrap_or_default()
    }

    fn numbers(&self) -> String {
        let metrics = self.breaker.metrics();
        let (state, calls) = (metrics.state, metrics.buffered_calls);
        format!("{state}, {} of the last {calls} calls failed, {} were slow", metrics.failed_calls, metrics.slow_calls)
    }
}

/// The transitions of a breaker, from now on.
struct Seen {
    transitions: Arc<Mutex<Vec<(State, State)>>>,
    _subscription: Subscription,
}

impl Seen {
    fn of(breaker: &CircuitBreaker) -> Self {
        let transitions = Arc::<Mutex<Vec<_>>>::default();
        let noted = Arc::clone(&transitions);
        let _subscription = breaker.on_event(move |event| {
            if let EventKind::StateTransition { from, to, .. } = event.kind {
                noted.lock().push((from, to));
            }
        });
        Self { transitions, _subscription }
    }

    fn contains(&self, from: State, to: State) -> bool {
        self.transitions.lock().contains(&(from, to))
    }

    /// It opened once, and half-opened until it could close.
    fn is_one_outage(&self) -> bool {
        use State::{Closed, HalfOpen, Open};
        let transitions = self.transitions.lock();
        let Some((first, rest)) = transitions.split_first() else { return false };
        let Some((last, trials)) = rest.split_last() else { return false };
        let trial = [(Open, HalfOpen), (HalfOpen, Open)];
        *first == (Closed, Open)
            && *last == (HalfOpen, Closed)
            && trials.len() % 2 == 1
            && trials.iter().zip(trial.iter().cycle()).all(|(seen, expected)| seen == expected)
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transitions = self.transitions.lock();
        let Some((first, _)) = transitions.first() else { return f.write_str("no transition") };
        write!(f, "{first}")?;
        transitions.iter().try_for_each(|(_, to)| write!(f, " → {to}"))
    }
}
