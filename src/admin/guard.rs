//! What a request must pass before it is heard, and what every answer carries.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::config::Config;
use crate::{
    InvalidConfig, RateLimiter, Rejected, TimeLimiter,
    rate_limiter::{self, Algorithm},
    time_limiter,
};

/// The longest body that is read, in bytes.
const LONGEST_BODY: usize = 1024;
/// The longest name that is looked up, in bytes.
pub(super) const LONGEST_NAME: usize = 256;
/// For how long a body may come in.
const BODY_TIME: Duration = Duration::from_secs(5);

/// A request that is not done: the status and a sentence.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    message: String,
    retry_after: Option<Duration>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), retry_after: None }
    }
}

#[derive(Serialize)]
struct Message<'a> {
    status: u16,
    message: &'a str,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = json(self.status, &Message { status: self.status.as_u16(), message: &self.message });
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            response.headers_mut().insert(header::RETRY_AFTER, seconds.max(1).into());
        }
        response
    }
}

/// An answer in JSON.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let Ok(body) = serde_json::to_vec(body) else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    (status, [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}

/// Keeps answers out of caches, frames and guesses; the page allows itself more.
pub(super) async fn secure(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
    response
}

/// The limits on requests.
#[derive(Debug)]
pub(super) struct Limits {
    pub(super) requests: RateLimiter,
    pub(super) health: RateLimiter,
    writes: RateLimiter,
    body: TimeLimiter,
}

impl Limits {
    pub(super) fn new(config: &Config) -> Result<Self, InvalidConfig> {
        let limiter = |name: &str, a_second: u32| {
            let config = rate_limiter::Config::default()
                .algorithm(Algorithm::Smooth)
                .limit_for_period(a_second)
                .limit_refresh_period(Duration::from_secs(1))
                .timeout_duration(Duration::ZERO)
                .clock(&config.clock);
            RateLimiter::new(name, config)
        };
        let body = time_limiter::Config::default().timeout_duration(BODY_TIME).clock(&config.clock);
        Ok(Self {
            requests: limiter("admin-requests", config.max_requests_per_second)?,
            health: limiter("admin-health", config.max_requests_per_second)?,
            writes: limiter("admin-writes", config.max_writes_per_second)?,
            body: TimeLimiter::new("admin-body", body)?,
        })
    }

    /// Whose request to write this is.
    pub(super) fn operator<'a>(&self, config: &'a Config, headers: &HeaderMap) -> Result<&'a str, Refusal> {
        if config.operators.nobody() {
            let message = "writing is off: this service was given no operator's token";
            return Err(Refusal::new(StatusCode::FORBIDDEN, message));
        }
        within(&self.writes)?;
        let token = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes).and_then(bearer);
        let who = token.and_then(|token| config.operators.whose(token));
        who.ok_or_else(|| Refusal::new(StatusCode::UNAUTHORIZED, "the bearer token is missing or wrong"))
    }

    /// The body, if it is short and comes in time.
    pub(super) async fn body(&self, body: Body) -> Result<Vec<u8>, Refusal> {
        let read = self.body.call(|| axum::body::to_bytes(body, LONGEST_BODY));
        match read.await {
            Ok(bytes) => Ok(bytes.into()),
            Err(crate::Error::Rejected(_)) => {
                Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time"))
            }
            Err(crate::Error::Inner(_)) => {
                Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "the body must be at most 1024 bytes, and come whole"))
            }
        }
    }
}

/// Takes one permit.
pub(super) fn within(limiter: &RateLimiter) -> Result<(), Refusal> {
    limiter.try_acquire(1).map_err(|rejected: Rejected| Refusal {
        status: StatusCode::TOO_MANY_REQUESTS,
        message: "too many requests".into(),
        retry_after: rejected.retry_after(),
    })
}

fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = header.split_at_checked(b"Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
}
