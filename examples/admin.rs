//! Health, Actuator's endpoints and the live page of a service.
//!
//! ```text
//! cargo run --example admin --features admin                # checks its own answers and ends
//! cargo run --example admin --features admin -- --serve     # stays up, for you to look at the page
//! ```
//!
//! A service with calls of its own: some dependencies are well, one fails, one is slow. Everything under `/actuator` is one
//! router; the token in the example is the operator's. With a number after `--serve` it has so many breakers more.
#![allow(clippy::print_stdout)]

use std::{future::ready, time::Duration};

use axum::Router;
use resile::{
    BoxError, CircuitBreaker, Resilience, admin, bulkhead, circuit_breaker, rate_limiter,
    registry::{Existing, Instance, Registry},
    retry,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::sleep,
};

const TOKEN: &str = "example-token-of-the-operator";

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let mut arguments = std::env::args().skip(1);
    let serve = arguments.next().is_some_and(|argument| argument == "--serve");
    let more = arguments.next().map_or(Ok(0), |number| number.parse())?;

    let resilience = Resilience::new();
    instances(&resilience)?;
    let config = admin::Config::default().operator("on-call", TOKEN);
    let app = Router::new().nest("/actuator", admin::router(&resilience, config)?);
    let listener = TcpListener::bind(if serve { "127.0.0.1:8080" } else { "127.0.0.1:0" }).await?;
    let address = listener.local_addr()?;
    let server = tokio::spawn(async move { axum::serve(listener, app).await });

    if serve {
        println!("http://{address}/actuator/resile, the operator's token is {TOKEN}");
        for number in 0..more {
            made(resilience.circuit_breakers(), &format!("tenant-{number:03}"), quick())?;
        }
        return calls(&resilience).await;
    }

    // A dependency goes down, and the health tells.
    let payments = resilience.circuit_breakers().get("payments");
    let health = ask(address, "GET /actuator/health", "", "").await?;
    assert!(health.starts_with("HTTP/1.1 200") && health.contains(r#""status":"UP""#), "{health}");
    for _ in 0..10 {
        let _ = payments.call(|| ready(Err::<(), _>(std::io::Error::other("connection reset")))).await;
    }
    let health = ask(address, "GET /actuator/health", "", "").await?;
    show(&health);
    assert!(health.contains("CIRCUIT_OPEN"), "{health}");

    let breaker = ask(address, "GET /actuator/circuitbreakers/payments", "", "").await?;
    show(&breaker);
    assert!(breaker.contains(r#""failureRate":"100.0%""#), "{breaker}");

    // Nobody but an operator closes it.
    let close = r#"{"updateState":"CLOSE"}"#;
    let refused = ask(address, "POST /actuator/circuitbreakers/payments", "a-guess-at-the-token", close).await?;
    assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");
    let closed = ask(address, "POST /actuator/circuitbreakers/payments", TOKEN, close).await?;
    show(&closed);
    assert!(closed.contains("payments state has been changed successfully"), "{closed}");
    assert!(payments.is_call_permitted());

    let events = ask(address, "GET /actuator/circuitbreakerevents/payments/STATE_TRANSITION", "", "").await?;
    show(&events);
    assert!(events.contains("CLOSED_TO_OPEN") && events.contains("OPEN_TO_CLOSED"), "{events}");

    let page = ask(address, "GET /actuator/resile", "", "").await?;
    assert!(page.contains("<!doctype html>"), "{page}");
    println!("the live page has {} bytes", page.len() - page.find("<!doctype").unwrap_or(0));
    server.abort();
    Ok(())
}

/// Prints what was answered, without the headers.
fn show(answer: &str) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    println!("{}\n{body}\n", head.lines().next().unwrap_or_default());
}

/// Opens after a few calls, and tries again soon, so that there is something to see.
fn quick() -> circuit_breaker::Config {
    circuit_breaker::Config::default()
        .sliding_window_size(20)
        .minimum_number_of_calls(10)
        .slow_call_duration_threshold(Duration::from_millis(200))
        .slow_call_rate_threshold(60.0)
        .wait_duration_in_open_state(Duration::from_secs(10))
        .permitted_number_of_calls_in_half_open_state(5)
}

fn made<P: Instance>(registry: &Registry<P>, name: &str, config: P::Config) -> Result<P, BoxError> {
    Ok(registry.get_with(name, config, Existing::Keep)?)
}

fn instances(resilience: &Resilience) -> Result<(), BoxError> {
    for name in ["payments", "orders", "email-smtp", "search", "recommendations", "stock"] {
        made(resilience.circuit_breakers(), name, quick())?;
    }
    made(resilience.retries(), "payments", retry::Config::default().wait_duration(Duration::from_millis(50)))?;
    made(resilience.bulkheads(), "search", bulkhead::Config::default().max_concurrent_calls(8))?;
    let limit = rate_limiter::Config::default().limit_for_period(20).limit_refresh_period(Duration::from_secs(1));
    made(resilience.rate_limiters(), "email-smtp", limit)?;
    resilience.time_limiters().get("orders");
    resilience.thread_pool_bulkheads().get("reports");
    Ok(())
}

/// Calls without end: payments goes down for a while every so often, search is slow at times.
async fn calls(resilience: &Resilience) -> Result<(), BoxError> {
    let bulkhead = resilience.bulkheads().get("search");
    let limiter = resilience.rate_limiters().get("email-smtp");
    let retry = resilience.retries().get("payments");
    for round in 0_u64.. {
        for (number, breaker) in resilience.circuit_breakers().all().into_iter().enumerate() {
            let (name, number) = (breaker.name().to_owned(), number as u64);
            let turn = round.wrapping_add(number * 7);
            let fails = match name.as_str() {
                "payments" => round % 300 > 180,
                "orders" => turn % 9 == 0,
                "recommendations" => turn % 3 == 0,
                _ => turn % 97 == 0,
            };
            let takes =
                Duration::from_millis(if name == "search" && round % 200 > 120 { 300 } else { 5 + number % 40 });
            if name == "search" {
                let guarded = bulkhead.clone();
                tokio::spawn(async move { guarded.call_flat(|| call(breaker, takes, fails)).await });
            } else if name == "payments" {
                let retry = retry.clone();
                tokio::spawn(async move { retry.call_flat(|| call(breaker.clone(), takes, fails)).await });
            } else {
                tokio::spawn(call(breaker, takes, fails));
            }
        }
        let _ = limiter.try_acquire(1 + u32::try_from(round % 3)?);
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

async fn call(breaker: CircuitBreaker, takes: Duration, fails: bool) -> Result<(), resile::Error<std::io::Error>> {
    let work = || async {
        sleep(takes).await;
        if fails { Err(std::io::Error::other("connection reset")) } else { Ok(()) }
    };
    breaker.call(work).await
}

/// One request over a connection of its own; the whole answer.
async fn ask(address: std::net::SocketAddr, request: &str, token: &str, body: &str) -> Result<String, BoxError> {
    let mut connection = TcpStream::connect(address).await?;
    let length = body.len();
    let head = format!(
        "{request} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{body}"
    );
    connection.write_all(head.as_bytes()).await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    Ok(answer)
}
