//! Tells people that something needs them: in the log, and at a webhook.
//!
//! The same alert is not repeated within its quiet time, or an outage would bury its own news: repeats are counted, and
//! told with the next one that goes out. A webhook that is slow or dead is waited for by nobody but a task of its own.

mod told;
mod webhook;

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use metrics::counter;
use reqwest::Url;
use resile::{
    CircuitBreaker,
    event::{EventKind, State, Subscription},
};
use serde::Serialize;

use self::{told::Told, webhook::Webhook};
use crate::{personal::mask_text, wall_clock::WallClock};

pub use self::webhook::BadWebhook;

/// How many alerts [`Alerts::recent`] tells of.
const MOST_RECENT: usize = 100;
/// The longest text, in characters.
const LONGEST: usize = 1_000;

/// Where alerts go, and how often.
#[derive(Clone)]
pub struct AlertSettings {
    /// Gets each alert as JSON, by POST: `http://` or `https://`. Default: none, and alerts are only logged.
    pub webhook: Option<Url>,
    /// For how long the same alert is not repeated. Default: 10 minutes.
    pub quiet: Duration,
}

impl Default for AlertSettings {
    fn default() -> Self {
        Self { webhook: None, quiet: Duration::from_secs(600) }
    }
}

impl fmt::Debug for AlertSettings {
    /// Without the webhook's path and credentials, which are often all that it asks for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.webhook.as_ref().map(|url| url.host_str().unwrap_or_default());
        f.debug_struct("AlertSettings").field("webhook", &host).field("quiet", &self.quiet).finish()
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Somebody should know.
    Warning,
    /// Somebody should come.
    Critical,
}

impl Severity {
    fn name(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// What has happened. Its texts are masked and shortened as they come in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Alert {
    key: String,
    severity: Severity,
    summary: String,
    details: BTreeMap<&'static str, String>,
}

impl Alert {
    /// An alert that is the same as all others of its `key`, however they say it.
    #[must_use]
    pub fn new(severity: Severity, key: &str, summary: &str) -> Self {
        Self { key: masked(key), severity, summary: masked(summary), details: BTreeMap::new() }
    }

    /// With one thing more to know.
    #[must_use]
    pub fn detail(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.details.insert(name, masked(&value.to_string()));
        self
    }

    /// What it is about.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// How bad it is.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// What has happened, in a sentence.
    #[must_use]
    pub fn summary(&self) -> &str {
        &self.summary
    }

    /// What else there is to know, by name.
    pub fn details(&self) -> impl Iterator<Item = (&str, &str)> {
        self.details.iter().map(|(name, value)| (*name, value.as_str()))
    }
}

/// An alert that went out. This is what a webhook gets:
/// `{"at": "…Z", "key": "…", "severity": "critical", "summary": "…", "details": {…}, "repeats": 0}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Raised {
    /// When, RFC 3339.
    pub at: String,
    /// What it said.
    #[serde(flatten)]
    pub alert: Alert,
    /// How often it was raised since it last went out, and suppressed.
    pub repeats: u64,
}

/// Where alerts are raised. A clone is the same.
#[derive(Clone, Debug)]
pub struct Alerts(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    quiet: Duration,
    clock: WallClock,
    webhook: Option<Webhook>,
    memory: Mutex<Memory>,
    raised: AtomicU64,
    suppressed: AtomicU64,
}

#[derive(Debug, Default)]
struct Memory {
    told: Told,
    recent: VecDeque<Raised>,
}

impl Alerts {
    /// Starts the task that posts to the webhook, if one is named. It ends when the last clone is gone.
    ///
    /// # Errors
    /// [`BadWebhook`] for a webhook that cannot be posted to.
    ///
    /// # Panics
    /// With a webhook, outside a tokio runtime.
    pub fn new(settings: AlertSettings, clock: WallClock) -> Result<Self, BadWebhook> {
        let AlertSettings { webhook, quiet } = settings;
        let webhook = webhook.map(Webhook::start).transpose()?;
        let (raised, suppressed) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Self(Arc::new(Inner { quiet, clock, webhook, memory: Mutex::default(), raised, suppressed })))
    }

    /// Tells it, unless the same was told within the quiet time. Never waits.
    pub fn raise(&self, alert: Alert) {
        let inner = &*self.0;
        let now_ms = inner.clock.now_ms();
        let raised = {
            let mut memory = inner.memory.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(repeats) = memory.told.admit(&alert.key, now_ms, inner.quiet) else {
                inner.suppressed.fetch_add(1, Relaxed);
                return;
            };
            let raised = Raised { at: rfc3339(now_ms), alert, repeats };
            if memory.recent.len() == MOST_RECENT {
                memory.recent.pop_front();
            }
            memory.recent.push_back(raised.clone());
            raised
        };
        inner.raised.fetch_add(1, Relaxed);
        log(&raised);
        if let Some(webhook) = &inner.webhook {
            webhook.post(raised);
        }
    }

    /// Raises an alert whenever the breaker changes its state, until the subscription is dropped. The same change of
    /// the same breaker is the same alert.
    pub fn watch(&self, breaker: &CircuitBreaker) -> Subscription {
        let alerts = self.clone();
        breaker.on_event(move |event| {
            if let EventKind::StateTransition { from, to, .. } = event.kind {
                let severity = match to {
                    State::Open | State::ForcedOpen => Severity::Critical,
                    _ => Severity::Warning,
                };
                let summary = format!("circuit breaker '{}' went from {from} to {to}", event.name);
                let alert = Alert::new(severity, &format!("circuit-breaker:{}:{to}", event.name), &summary);
                alerts.raise(alert.detail("breaker", &event.name).detail("from", from).detail("to", to));
            }
        })
    }

    /// How many alerts went out.
    #[must_use]
    pub fn raised(&self) -> u64 {
        self.0.raised.load(Relaxed)
    }

    /// How many did not, since the same had gone out shortly before.
    #[must_use]
    pub fn suppressed(&self) -> u64 {
        self.0.suppressed.load(Relaxed)
    }

    /// How many went out but did not reach the webhook. They are in the log.
    #[must_use]
    pub fn undelivered(&self) -> u64 {
        self.0.webhook.as_ref().map_or(0, Webhook::undelivered)
    }

    /// The last hundred that went out, the oldest first.
    #[must_use]
    pub fn recent(&self) -> Vec<Raised> {
        self.0.memory.lock().unwrap_or_else(PoisonError::into_inner).recent.iter().cloned().collect()
    }

    /// The breaker around the webhook, `alert-webhook`, if there is one.
    #[must_use]
    pub fn breaker(&self) -> Option<&CircuitBreaker> {
        self.0.webhook.as_ref().map(Webhook::breaker)
    }

    /// Posts what is still waiting, for at most `time_limit`, then no more. `false` if that was not long enough. What
    /// is raised afterwards is only logged.
    pub async fn close(&self, time_limit: Duration) -> bool {
        match &self.0.webhook {
            Some(webhook) => webhook.close(time_limit).await,
            None => true,
        }
    }
}

fn log(raised: &Raised) {
    let Raised { alert: Alert { key, severity, summary, details }, repeats, .. } = raised;
    counter!("alerts_total", "severity" => severity.name()).increment(1);
    match severity {
        Severity::Critical => tracing::error!(alert = key, repeats, ?details, "{summary}"),
        Severity::Warning => tracing::warn!(alert = key, repeats, ?details, "{summary}"),
    }
}

fn masked(text: &str) -> String {
    let mut text = mask_text(text);
    if let Some((end, _)) = text.char_indices().nth(LONGEST) {
        text.truncate(end);
    }
    text
}

fn rfc3339(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).unwrap_or_default().to_string()
}
