//! Requests come in, and what became of them can be asked.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::{FromRequest, Path, Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{json, value::RawValue};
use tokio::time::timeout;
use uuid::Uuid;

use super::{HttpSettings, closing, trouble};
use crate::{
    door::Door,
    personal::mask_text,
    request::{Fault, Faults},
    store::{Accepted, Intake, Ledger, Row, StoreError},
};

#[derive(Clone)]
pub(super) struct Emails {
    pub(super) door: Door,
    pub(super) ledger: Ledger,
    pub(super) settings: Arc<HttpSettings>,
}

/// A fault, and of which request in a list.
#[derive(Serialize)]
struct Found {
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    #[serde(flatten)]
    fault: Fault,
}

/// What became of one request.
#[derive(Serialize)]
struct Answer {
    id: Uuid,
    status: &'static str,
}

/// Why nothing was accepted.
enum Refusal {
    Faulty(StatusCode, Vec<Found>),
    Unread(StatusCode, &'static str),
    /// Or something was; by these ids it can be asked for again.
    Database(StoreError, Vec<Uuid>),
}

/// Accepts one request or a list of them. Of a list either all are accepted or, if one is faulty, none.
///
/// * 202 when something is new, 200 when all was known: `{"id", "status"}`, for a list in its order. The status of what
///   is new is ACCEPTED.
/// * 400 with every fault: `{"faults": [{"index", "field", "value", "rule"}]}`, the index in a list only.
/// * 408, 413 and 415 for a body that comes too slowly, is too large, or is not said to be JSON.
/// * 503 when the database is away: `{"error", "ids"}`. Some may be accepted. Asking again with these ids does no harm.
pub(super) async fn post(State(emails): State<Emails>, request: Request) -> Response {
    let accepted = async {
        let body = emails.body(request).await?;
        emails.accept(&body).await
    };
    accepted.await.unwrap_or_else(|refusal| emails.answer(refusal))
}

impl Emails {
    async fn body(&self, request: Request) -> Result<Bytes, Refusal> {
        if let Some(other) = other_type(request.headers()) {
            let fault = fault("Content-Type", other, "must be application/json");
            return Err(Refusal::Faulty(StatusCode::UNSUPPORTED_MEDIA_TYPE, vec![fault]));
        }
        match timeout(self.settings.read_time, Bytes::from_request(request, &())).await {
            Ok(Ok(body)) => Ok(body),
            Ok(Err(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => Err(self.too_large()),
            Ok(Err(rejection)) => Err(Refusal::Unread(rejection.status(), "the body could not be read")),
            Err(_) => Err(Refusal::Unread(StatusCode::REQUEST_TIMEOUT, "the body came too slowly")),
        }
    }

    async fn accept(&self, body: &[u8]) -> Result<Response, Refusal> {
        let is_list = body.trim_ascii_start().starts_with(b"[");
        let requests = if is_list { self.read_list(body) } else { self.read_one(body) }?;
        let ids: Vec<_> = requests.iter().map(|request| request.id).collect();
        let accepted = match self.door.accept(requests).await {
            Ok(accepted) => accepted,
            Err(error) => return Err(Refusal::Database(error, ids)),
        };
        let status = if accepted.contains(&Accepted::New) { StatusCode::ACCEPTED } else { StatusCode::OK };
        let mut answers = ids.into_iter().zip(accepted).map(|(id, accepted)| Answer {
            id,
            status: match accepted {
                Accepted::New => "ACCEPTED",
                Accepted::Known(status) => status.name(),
            },
        });
        Ok(match is_list {
            true => (status, Json(answers.collect::<Vec<_>>())).into_response(),
            false => (status, Json(answers.next())).into_response(),
        })
    }

    fn read_one(&self, body: &[u8]) -> Result<Vec<Intake>, Refusal> {
        if body.len() > self.settings.limits.request {
            return Err(self.too_large());
        }
        let faulty = |faults: Faults| {
            let found = faults.faults.into_iter().map(|fault| Found { index: None, fault });
            Refusal::Faulty(StatusCode::BAD_REQUEST, found.collect())
        };
        self.door.read(body).map(|request| vec![request]).map_err(faulty)
    }

    fn read_list(&self, body: &[u8]) -> Result<Vec<Intake>, Refusal> {
        let most = self.settings.list;
        let refuse =
            |value, rule: String| Refusal::Faulty(StatusCode::BAD_REQUEST, vec![fault("request", value, rule)]);
        if body.len() > self.settings.list_bytes {
            return Err(self.too_large());
        }
        let list: Vec<&RawValue> =
            serde_json::from_slice(body).map_err(|error| refuse(String::new(), format!("must be JSON: {error}")))?;
        if list.is_empty() || list.len() > most {
            return Err(refuse(format!("{} requests", list.len()), format!("must be 1 to {most} requests")));
        }
        let (mut passed, mut found) = (Vec::with_capacity(list.len()), Vec::new());
        for (index, json) in list.into_iter().enumerate() {
            match self.door.read(json.get().as_bytes()) {
                Ok(request) => passed.push(request),
                Err(faults) => {
                    found.extend(faults.faults.into_iter().map(|fault| Found { index: Some(index), fault }));
                }
            }
        }
        if found.is_empty() { Ok(passed) } else { Err(Refusal::Faulty(StatusCode::BAD_REQUEST, found)) }
    }

    fn too_large(&self) -> Refusal {
        let HttpSettings { limits, list_bytes, .. } = &*self.settings;
        let rule = format!("must be at most {} bytes, and a list at most {list_bytes}", limits.request);
        Refusal::Faulty(StatusCode::PAYLOAD_TOO_LARGE, vec![fault("request", String::new(), rule)])
    }

    fn answer(&self, refusal: Refusal) -> Response {
        match refusal {
            Refusal::Faulty(StatusCode::BAD_REQUEST, faults) => faulty(StatusCode::BAD_REQUEST, &faults),
            Refusal::Faulty(status, faults) => closing(faulty(status, &faults)),
            Refusal::Unread(status, error) => closing(trouble(status, error)),
            Refusal::Database(error, ids) => {
                let (status, error) = database_trouble(&error);
                self.ask_again((status, Json(json!({ "error": error, "ids": ids }))).into_response())
            }
        }
    }

    /// Says after how long, if asking again is of use.
    fn ask_again(&self, mut answer: Response) -> Response {
        if answer.status() == StatusCode::SERVICE_UNAVAILABLE {
            let seconds = self.settings.retry_after.as_secs().max(1);
            answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        answer
    }
}

/// What became of a request: 200 with its row, 404 if nobody knows it.
pub(super) async fn status(State(emails): State<Emails>, Path(id): Path<String>) -> Response {
    let Ok(id) = Uuid::parse_str(&id) else {
        return faulty(StatusCode::BAD_REQUEST, &[fault("id", String::new(), "must be a UUID")]);
    };
    match emails.ledger.find(id).await {
        Ok(Some(row)) => Json(Shown::of(row)).into_response(),
        Ok(None) => trouble(StatusCode::NOT_FOUND, format!("there is no request {id}")),
        Err(error) => {
            let (status, text) = database_trouble(&error);
            emails.ask_again(trouble(status, text))
        }
    }
}

/// A row of the ledger as it is shown.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    id: Uuid,
    kind: String,
    priority: String,
    status: &'static str,
    /// Whether it is SENT only if the process that is sending it does not die.
    in_doubt: bool,
    attempts: u32,
    provider: Option<String>,
    reason: Option<String>,
    changed_at: Option<String>,
}

impl Shown {
    fn of(row: Row) -> Self {
        Self {
            id: row.id,
            kind: row.kind,
            priority: row.priority,
            status: row.status.name(),
            in_doubt: row.in_doubt,
            attempts: row.attempts,
            provider: row.provider,
            reason: row.reason.as_deref().map(mask_text),
            changed_at: Timestamp::from_millisecond(row.changed_at_ms).ok().map(|moment| moment.to_string()),
        }
    }
}

/// The media type, if it is said and is not JSON.
fn other_type(headers: &HeaderMap) -> Option<String> {
    let said = String::from_utf8_lossy(headers.get(header::CONTENT_TYPE)?.as_bytes()).into_owned();
    let essence = said.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_json = essence == "application/json" || essence.starts_with("application/") && essence.ends_with("+json");
    (!is_json).then(|| mask_text(&said.chars().take(100).collect::<String>()))
}

fn fault(field: &str, value: String, rule: impl Into<String>) -> Found {
    let fault = Fault { field: field.to_owned(), value, rule: rule.into() };
    Found { index: None, fault }
}

fn faulty(status: StatusCode, faults: &[Found]) -> Response {
    (status, Json(json!({ "faults": faults }))).into_response()
}

/// What a client is told of it, while the log is told more.
fn database_trouble(error: &StoreError) -> (StatusCode, &'static str) {
    if error.is_transient() {
        tracing::warn!(%error, "a client has to ask again");
        return (StatusCode::SERVICE_UNAVAILABLE, "the database is unavailable; ask again");
    }
    tracing::error!(%error, "a client could not be served");
    (StatusCode::INTERNAL_SERVER_ERROR, "the database refused")
}
