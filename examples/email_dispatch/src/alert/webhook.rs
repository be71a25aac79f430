//! Posts alerts to a webhook, one after another, in a task of its own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use reqwest::{Client, Url};
use resile::{
    CircuitBreaker, Error, IntervalFunction, InvalidConfig, Pipeline, Retry, circuit_breaker,
    retry::{self, RetryIf},
};
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::Raised;
use crate::web_client;

const NAME: &str = "alert-webhook";
/// How many alerts may wait to be posted. Further ones are only logged.
const QUEUE: usize = 100;
/// How long one attempt may take.
const TIME_LIMIT: Duration = Duration::from_secs(5);

type Attempt = Result<(), Error<Unposted>>;
type Guard = Pipeline<(RetryIf<fn(&Attempt) -> bool>, CircuitBreaker)>;

/// Why alerts cannot be posted to a webhook at all. The address is not shown: its path is often a secret.
#[derive(Debug, thiserror::Error)]
pub enum BadWebhook {
    /// It is no address for that.
    #[error("the alert webhook begins with '{0}://', and must begin with 'http://' or 'https://'")]
    Scheme(String),
    /// There is no HTTP client, as when the system's certificates cannot be read.
    #[error("the alert webhook: no HTTP client can be made: {0}")]
    Client(String),
    /// Its policies cannot be made.
    #[error("the alert webhook: {0}")]
    Policy(#[from] InvalidConfig),
}

/// The way to the task that posts. The task ends when this is gone.
#[derive(Debug)]
pub(super) struct Webhook {
    queue: mpsc::Sender<Raised>,
    breaker: CircuitBreaker,
    undelivered: Arc<AtomicU64>,
    /// Nothing more is taken.
    stop: CancellationToken,
    /// Nothing more is posted.
    abort: CancellationToken,
    tasks: TaskTracker,
}

impl Webhook {
    pub(super) fn start(url: Url) -> Result<Self, BadWebhook> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(BadWebhook::Scheme(url.scheme().to_owned()));
        }
        let client = web_client::for_url(&url).timeout(TIME_LIMIT).build();
        let client = client.map_err(|error| BadWebhook::Client(web_client::explain(error)))?;
        let retry = retry::Config::default()
            .max_attempts(3)
            .interval_function(IntervalFunction::exponential(Duration::from_millis(200), 2.0).randomized(0.5));
        let breaker = circuit_breaker::Config::default()
            .sliding_window_size(10)
            .minimum_number_of_calls(5)
            .wait_duration_in_open_state(Duration::from_secs(30))
            .permitted_number_of_calls_in_half_open_state(1);
        let breaker = CircuitBreaker::new(NAME, breaker)?;
        let retry = Retry::new(NAME, retry)?.retry_if(is_worth_another_attempt as fn(&Attempt) -> bool);

        let (queue, alerts) = mpsc::channel(QUEUE);
        let (stop, abort) = (CancellationToken::new(), CancellationToken::new());
        let (tasks, undelivered) = (TaskTracker::new(), Arc::new(AtomicU64::new(0)));
        let guard = Pipeline::new((retry, breaker.clone()));
        let task = Task { client, url, guard, undelivered: Arc::clone(&undelivered) };
        tasks.spawn(task.run(alerts, stop.clone(), abort.clone()));
        tasks.close();
        Ok(Self { queue, breaker, undelivered, stop, abort, tasks })
    }

    pub(super) fn breaker(&self) -> &CircuitBreaker {
        &self.breaker
    }

    pub(super) fn undelivered(&self) -> u64 {
        self.undelivered.load(Relaxed)
    }

    /// Lets the task post it, or forgets it if too many wait.
    pub(super) fn post(&self, raised: Raised) {
        if self.queue.try_send(raised).is_err() {
            self.undelivered.fetch_add(1, Relaxed);
        }
    }

    pub(super) async fn close(&self, time_limit: Duration) -> bool {
        self.stop.cancel();
        let in_time = tokio::time::timeout(time_limit, self.tasks.wait()).await.is_ok();
        self.abort.cancel();
        self.tasks.wait().await;
        in_time
    }
}

struct Task {
    client: Client,
    url: Url,
    guard: Guard,
    undelivered: Arc<AtomicU64>,
}

impl Task {
    async fn run(self, mut alerts: mpsc::Receiver<Raised>, stop: CancellationToken, abort: CancellationToken) {
        loop {
            let raised = tokio::select! {
                biased;
                () = stop.cancelled(), if !alerts.is_closed() => {
                    alerts.close();
                    continue;
                }
                raised = alerts.recv() => raised,
            };
            let Some(raised) = raised else { return };
            let posted = abort.run_until_cancelled(self.guard.call(|| self.post(&raised))).await;
            let why = match posted {
                Some(Ok(())) => continue,
                Some(Err(error)) => error.to_string(),
                None => "there was no time left".to_owned(),
            };
            self.undelivered.fetch_add(1, Relaxed);
            tracing::warn!(alert = raised.alert.key(), "an alert did not reach the webhook: {why}");
        }
    }

    async fn post(&self, raised: &Raised) -> Result<(), Unposted> {
        let answer = self.client.post(self.url.clone()).json(raised).send().await;
        let status = answer.map_err(|error| Unposted::Unreachable(web_client::explain(error)))?.status();
        if status.is_success() { Ok(()) } else { Err(Unposted::Refused(status.as_u16())) }
    }
}

#[derive(Clone, Debug, thiserror::Error)]
enum Unposted {
    #[error("{0}")]
    Unreachable(String),
    #[error("it answered {0}")]
    Refused(u16),
}

fn is_worth_another_attempt(attempt: &Attempt) -> bool {
    match attempt {
        Err(Error::Inner(Unposted::Unreachable(_))) => true,
        Err(Error::Inner(Unposted::Refused(status))) => *status == 429 || *status >= 500,
        _ => false,
    }
}
