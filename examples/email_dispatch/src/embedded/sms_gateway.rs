//! An SMS gateway over HTTP that sends nothing, and whose moods can be changed.

use std::{
    collections::{HashSet, VecDeque},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, to_bytes},
    http::{
        HeaderValue, Method, Request, Response, StatusCode,
        header::{CONTENT_TYPE, RETRY_AFTER},
    },
};
use hyper::{body::Incoming, service::service_fn};
use serde::Deserialize;
use tokio::{net::TcpListener, time::sleep};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use crate::http::{Patience, connections};

/// How the gateway takes a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmsMood {
    /// It takes it, and says so.
    Healthy,
    /// It answers with this status, and does not take it.
    Failing(u16),
    /// It answers 429 with a `Retry-After` in whole seconds, and does not take it.
    Busy(Duration),
    /// It takes it, and says so after that long.
    Slow(Duration),
    /// It closes the connection, and has not taken it.
    Absent,
    /// It takes it, and closes the connection.
    Forgetful,
}

/// An embedded gateway, which ends when it is dropped. It takes one message for each idempotency key: one that is sent
/// again is answered with 200 and not sent twice.
#[derive(Debug)]
pub struct SmsGateway {
    url: String,
    state: Arc<Mutex<State>>,
    _stop: DropGuard,
}

#[derive(Debug)]
struct State {
    mood: SmsMood,
    script: VecDeque<SmsMood>,
    refused_ending: Option<String>,
    requests: u64,
    repeated: u64,
    taken: HashSet<Uuid>,
    sent: Vec<Uuid>,
}

impl SmsGateway {
    /// Starts a gateway on a free port of 127.0.0.1, in the tokio runtime of the caller.
    ///
    /// # Errors
    /// When there is no free port.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/messages", listener.local_addr()?);
        let state = Arc::new(Mutex::new(State {
            mood: SmsMood::Healthy,
            script: VecDeque::new(),
            refused_ending: None,
            requests: 0,
            repeated: 0,
            taken: HashSet::new(),
            sent: Vec::new(),
        }));
        let stop = CancellationToken::new();
        let shared = Arc::clone(&state);
        let service = service_fn(move |request| answer(Arc::clone(&shared), request));
        let patience = Patience { connections: 1_024, head: Duration::from_secs(60), drain: Duration::ZERO };
        tokio::spawn(connections(listener, service, patience, stop.clone()));
        Ok(Self { url, state, _stop: stop.drop_guard() })
    }

    /// Where messages are posted to.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Takes messages like this from now on.
    pub fn turn(&self, mood: SmsMood) {
        self.state().mood = mood;
    }

    /// Takes the next messages like this, one each, before it goes on as before.
    pub fn script(&self, moods: impl IntoIterator<Item = SmsMood>) {
        self.state().script.extend(moods);
    }

    /// Answers 400 from now on to numbers that end like this, in whatever mood; `None` takes all.
    pub fn refuse_ending(&self, digits: Option<&str>) {
        self.state().refused_ending = digits.map(str::to_owned);
    }

    /// How many messages were sent.
    #[must_use]
    pub fn sent(&self) -> usize {
        self.state().sent.len()
    }

    /// How many requests came for a message that had been taken before, and was not sent again.
    #[must_use]
    pub fn repeated(&self) -> u64 {
        self.state().repeated
    }

    /// How many requests came, answered or not.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.state().requests
    }

    /// The ids of the messages that were sent, in order.
    #[must_use]
    pub fn ids(&self) -> Vec<Uuid> {
        self.state().sent.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }
}

#[derive(Deserialize)]
struct Message {
    to: String,
    #[serde(rename = "text")]
    _text: String,
}

/// An error closes the connection without an answer.
async fn answer(state: Arc<Mutex<State>>, request: Request<Incoming>) -> io::Result<Response<Body>> {
    let (head, body) = request.into_parts();
    if head.method != Method::POST || head.uri.path() != "/messages" {
        return said(StatusCode::NOT_FOUND, "there is nothing here");
    }
    let key = head.headers.get("Idempotency-Key").and_then(|key| key.to_str().ok()?.parse::<Uuid>().ok());
    let body: Bytes = to_bytes(Body::new(body), 64 << 10).await.map_err(io::Error::other)?;
    let message = serde_json::from_slice::<Message>(&body);
    let (Some(key), Ok(message)) = (key, message) else {
        return said(StatusCode::BAD_REQUEST, "a message has an Idempotency-Key, a UUID, and to and text as JSON");
    };
    let mood = {
        let mut state = locked(&state);
        state.requests += 1;
        if state.refused_ending.as_ref().is_some_and(|ending| message.to.ends_with(ending)) {
            drop(state);
            return said(StatusCode::BAD_REQUEST, &format!("{} is no number we send to", message.to));
        }
        let mood = state.script.pop_front().unwrap_or(state.mood);
        if matches!(mood, SmsMood::Healthy | SmsMood::Slow(_) | SmsMood::Forgetful) {
            state.take(key);
        }
        mood
    };
    match mood {
        SmsMood::Healthy => said(StatusCode::OK, "taken"),
        SmsMood::Slow(wait) => {
            sleep(wait).await;
            said(StatusCode::OK, "taken")
        }
        SmsMood::Failing(status) => {
            said(StatusCode::from_u16(status).map_err(io::Error::other)?, &format!("not sent to {}", message.to))
        }
        SmsMood::Busy(wait) => {
            let mut busy = said(StatusCode::TOO_MANY_REQUESTS, "too many messages")?;
            busy.headers_mut().insert(RETRY_AFTER, wait.as_secs().into());
            Ok(busy)
        }
        SmsMood::Absent | SmsMood::Forgetful => Err(io::Error::other("the mood it is in")),
    }
}

impl State {
    fn take(&mut self, key: Uuid) {
        if self.taken.insert(key) {
            self.sent.push(key);
        } else {
            self.repeated += 1;
        }
    }
}

fn said(status: StatusCode, text: &str) -> io::Result<Response<Body>> {
    let mut response = Response::new(Body::from(serde_json::json!({ "message": text }).to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
