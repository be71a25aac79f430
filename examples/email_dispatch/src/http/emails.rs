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
    request::Fault,
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
    accepted.await.unwrap_or_else(|refusal| refusal)
}

impl Emails {
    async fn body(&self, request: Request) -> Result<Bytes, Response> {
        if let Some(other) = other_type(request.headers()) {
            let fault = fault("Content-Type", other, "must be application/json");
            return Err(closing(faulty(StatusCode::UNSUPPORTED_MEDIA_TYPE, vec![fault])));
        }
        match timeout(self.settings.read_time, Bytes::from_request(request, &())).await {
            Ok(Ok(body)) => Ok(body),
            Ok(Err(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => Err(closing(self.too_large())),
            Ok(Err(rejection)) => Err(closing(trouble(rejection.status(), "the body could not be read"))),
            Err(_) => Err(closing(trouble(StatusCode::REQUEST_TIMEOUT, "the body came too slowly"))),
        }
    }

    async fn accept(&self, body: &[u8]) -> Result<Response, Response> {
        let is_list = body.trim_ascii_start().starts_with(b"[");
        let requests = if is_list { self.read_list(body) } else { self.read_one(body) }?;
        let ids: Vec<_> = requests.iter().map(|request| request.id).collect();
        let accepted = self.door.accept(requests).await.map_err(|error| self.away(&error, &ids))?;
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

    fn read_one(&self, body: &[u8]) -> Result<Vec<Intake>, Response> {
        if body.len() > self.settings.limits.request {
            return Err(self.too_large());
        }
        match self.door.read(body) {
            Ok(request) => Ok(vec![request]),
            Err(faults) => {
                let found = faults.faults.into_iter().map(|fault| Found { index: None, fault });
                Err(faulty(StatusCode::BAD_REQUEST, found.collect()))
            }
        }
    }

    fn read_list(&self, body: &[u8]) -> Result<Vec<Intake>, Response> {
        let most = self.settings.list;
        let refuse = |value, rule| Err(faulty(StatusCode::BAD_REQUEST, vec![fault("request", value, rule)]));
        if body.len() > self.settings.list_bytes {
            return Err(self.too_large());
        }
        let list: Vec<&RawValue> = match serde_json::from_slice(body) {
            Ok(list) => list,
            Err(error) => return refuse(String::new(), &format!("must be JSON: {error}")),
        };
        if list.is_empty() || list.len() > most {
            return refuse(format!("{} requests", list.len()), &format!("must be 1 to {most} requests"));
        }
        let (mut passed, mut faults) = (Vec::with_capacity(list.len()), Vec::new());
        for (index, json) in list.into_iter().enumerate() {
            match self.door.read(json.get().as_bytes()) {
                Ok(request) => passed.push(request),
                Err(found) => {
                    faults.extend(found.faults.into_iter().map(|fault| Found { index: Some(index), fault }));
                }
            }
        }
        if faults.is_empty() { Ok(passed) } else { Err(faulty(StatusCode::BAD_REQUEST, faults)) }
    }

    fn too_large(&self) -> Response {
        let HttpSettings { limits, list_bytes, .. } = &*self.settings;
        let rule = format!("must be at most {} bytes, and a list at most {list_bytes}", limits.request);
        faulty(StatusCode::PAYLOAD_TOO_LARGE, vec![fault("request", String::new(), &rule)])
    }

    fn away(&self, error: &StoreError, ids: &[Uuid]) -> Response {
        let (status, log) = database_trouble(error);
        let answer = (status, Json(json!({ "error": log, "ids": ids }))).into_response();
        self.ask_again(answer)
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
        return faulty(StatusCode::BAD_REQUEST, vec![fault("id", String::new(), "must be a UUID")]);
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

fn fault(field: &str, value: String, rule: &str) -> Found {
    let fault = Fault { field: field.to_owned(), value, rule: rule.to_owned() };
    Found { index: None, fault }
}

fn faulty(status: StatusCode, faults: Vec<Found>) -> Response {
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
