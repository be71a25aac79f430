//! Layers on both sides of an HTTP connection: a server that refuses what is too much, and a client that does as it is
//! told.
//!
//! ```text
//! cargo run --example tower_stack
//! ```
//!
//! The server (axum) answers rejections with 429 or 503 and a `Retry-After` header. The client (hyper) repeats a request
//! after the time that the header names, and has a circuit breaker for a server that is really broken. Takes two seconds.
#![allow(clippy::print_stdout)]

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use axum::{
    Router,
    error_handling::HandleErrorLayer,
    http::{Request, Response, StatusCode, header::RETRY_AFTER},
    response::{AppendHeaders, IntoResponse},
    routing::get,
};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{self, Client},
    rt::TokioExecutor,
};
use resile::{
    BoxError, Bulkhead, CircuitBreaker, Error, Outcome, RateLimiter, Rejectable, Rejected, Retry, bulkhead,
    circuit_breaker,
    event::EventKind,
    rate_limiter,
    retry::{self, Decision},
};
use tokio::net::TcpListener;
use tower::{ServiceBuilder, ServiceExt};

/// Orders are limited to five a second, reports to one at a time, and something is broken.
async fn start_server(orders: RateLimiter, reports: Bulkhead) -> Result<SocketAddr, std::io::Error> {
    let orders =
        ServiceBuilder::new().layer(HandleErrorLayer::new(refuse)).layer(orders).map_err(Error::<Infallible>::Inner);
    let reports =
        ServiceBuilder::new().layer(HandleErrorLayer::new(refuse)).layer(reports).map_err(Error::<Infallible>::Inner);
    let app = Router::new()
        .route("/order", get(|| async { "an order" }).layer(orders))
        .route("/report", get(|| async { "a report" }).layer(reports))
        .route("/broken", get(|| async { StatusCode::INTERNAL_SERVER_ERROR }));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(address)
}

/// What the server answers when a policy rejects a request.
async fn refuse(error: Error<Infallible>) -> impl IntoResponse {
    let Error::Rejected(rejected) = error;
    let status = StatusCode::from_u16(rejected.http_status()).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    // A bulkhead cannot know when there will be room: a second is a fair guess.
    let seconds = rejected.retry_after_secs().unwrap_or(1);
    println!("  server: {} since {rejected}", status.as_u16());
    (status, AppendHeaders([(RETRY_AFTER, seconds.to_string())]), rejected.to_string())
}

/// What the client gets.
type Answer = Result<Response<Incoming>, Error<legacy::Error>>;

/// How long the server asks to wait.
fn asked_to_wait(answer: &Answer) -> Option<Duration> {
    let seconds = answer.as_ref().ok()?.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn has_failed(answer: &Answer) -> bool {
    answer.as_ref().is_ok_and(|response| response.status().is_server_error())
}

/// Does as the server asks, and repeats what has failed.
fn whether_to_repeat(answer: &Answer) -> Decision {
    match asked_to_wait(answer) {
        Some(wait) => Decision::RetryAfter(wait),
        None if has_failed(answer) => Decision::Retry,
        None => Decision::of(answer),
    }
}

/// A server that says when to come back is alive.
fn judge(answer: &Answer) -> Outcome {
    match asked_to_wait(answer) {
        Some(_) => Outcome::Ignored,
        None if has_failed(answer) => Outcome::Failure,
        None => Outcome::of(answer),
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let five_a_second = rate_limiter::Config::default()
        .limit_for_period(5)
        .limit_refresh_period(Duration::from_secs(1))
        .timeout_duration(Duration::ZERO);
    let reports = Bulkhead::new("reports", bulkhead::Config::default().max_concurrent_calls(1))?;
    let address = start_server(RateLimiter::new("orders", five_a_second)?, reports.clone()).await?;

    let retry = Retry::new("shop", retry::Config::default().max_attempts(5).wait_duration(Duration::from_millis(20)))?;
    let breaker = CircuitBreaker::new("shop", circuit_breaker::Config::default().sliding_window_size(4))?;
    let client = ServiceBuilder::new()
        .layer(retry.retry_if(whether_to_repeat))
        .layer(breaker.classify(judge))
        .map_err(Error::<legacy::Error>::Inner)
        .service(Client::builder(TokioExecutor::new()).build_http());
    let get = async |path| {
        let request = Request::get(format!("http://{address}{path}")).body(String::new())?;
        Ok::<_, BoxError>(client.clone().oneshot(request).await?)
    };
    let _telling = retry.on_event(|event| println!("  client: {event}"));

    println!("Eight orders at once, and the rate limiter permits five a second:");
    for response in futures::future::join_all((0..8).map(|_| get("/order"))).await {
        assert_eq!(response?.status(), StatusCode::OK);
    }
    let metrics = retry.metrics();
    println!(
        "  {} orders went through at once, {} after a second",
        metrics.successful_calls_without_retry_attempt, metrics.successful_calls_with_retry_attempt
    );
    assert!(metrics.successful_calls_with_retry_attempt > 0);

    println!("A report, while somebody else's takes the only place in the bulkhead:");
    let place = reports.try_acquire_owned()?;
    let mut events = reports.events(10);
    let leave = async {
        while events.next().await.kind != EventKind::CallRejected {}
        drop(place);
    };
    let (response, ()) = futures::join!(get("/report"), leave);
    assert_eq!(response?.status(), StatusCode::OK);
    println!("  the report is there");

    println!("Something that is broken, until the client's circuit opens:");
    assert_eq!(breaker.metrics().failed_calls, 0, "refusals with a `Retry-After` are not failures");
    let error = get("/broken").await.expect_err("it is broken");
    println!("  {error}");
    let Some(Rejected::CircuitOpen(open)) = error.rejected() else { return Err(error) };
    assert_eq!(open.failure_rate(), Some(50.0));
    Ok(())
}
