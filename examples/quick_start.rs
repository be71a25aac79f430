//! A circuit breaker around a real HTTP call, while the server behind it fails, slows down and recovers.
//!
//! ```text
//! cargo run --example quick_start [timeline.svg]
//! ```
//!
//! Takes about five seconds, tells what the breaker does as it does it, and draws the time line as an SVG.
#![allow(clippy::print_stdout)]

#[path = "quick_start/chart.rs"]
mod chart;
#[path = "quick_start/server.rs"]
mod server;
#[path = "quick_start/story.rs"]
mod story;

use std::{path::PathBuf, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes, to_bytes},
    http::Uri,
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use resile::{
    BoxError, CircuitBreaker,
    circuit_breaker::{self, State},
};

use crate::{
    server::{Mood, Server},
    story::{CallKind, Story},
};

/// The call to protect.
async fn fetch_order(http: &Client<HttpConnector, Body>, url: &Uri) -> Result<Bytes, BoxError> {
    let response = http.get(url.clone()).await?;
    if !response.status().is_success() {
        return Err(format!("the server answered {}", response.status()).into());
    }
    Ok(to_bytes(Body::new(response.into_body()), 1024).await?)
}

/// A call that takes longer is slow.
const SLOW: Duration = Duration::from_millis(100);

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let server = Server::start().await?;
    let http = Client::builder(TokioExecutor::new()).build_http();

    let config = circuit_breaker::Config::default()
        .sliding_window_size(20)
        .minimum_number_of_calls(10)
        .failure_rate_threshold(50.0)
        .slow_call_rate_threshold(50.0)
        .slow_call_duration_threshold(SLOW)
        .wait_duration_in_open_state(Duration::from_millis(400))
        .permitted_number_of_calls_in_half_open_state(5);
    let breaker = CircuitBreaker::new("orders", config)?;

    let story = Arc::new(Story::begin());
    let subscription = breaker.on_event({
        let (story, breaker) = (Arc::clone(&story), breaker.clone());
        move |event| story.transition(event, &breaker.metrics())
    });

    // What the server does, for how long at least, and the state that this must lead to.
    let acts = [
        (Mood::Healthy, Duration::from_millis(700), State::Closed),
        (Mood::Failing, Duration::from_millis(1200), State::Open),
        (Mood::Healthy, Duration::from_millis(1000), State::Closed),
        (Mood::Slow, Duration::from_millis(1200), State::Open),
        (Mood::Healthy, Duration::from_millis(1000), State::Closed),
    ];
    let mut calls = tokio::task::JoinSet::new();
    let mut every_10_ms = tokio::time::interval(Duration::from_millis(10));
    for (mood, at_least, leads_to) in acts {
        server.turn(mood);
        story.server_turned(mood);
        let turned = story.now();
        while story.now() < turned + at_least.as_secs_f64() || breaker.state() != leads_to {
            every_10_ms.tick().await;
            story.sample(&breaker.metrics());
            if story.now() > turned + 10.0 {
                return Err(format!("a server that is {mood} did not lead to {leads_to}").into());
            }

            let (story, breaker, http, url) = (Arc::clone(&story), breaker.clone(), http.clone(), server.url());
            calls.spawn(async move {
                let called = story.now();
                // This is all that using the breaker takes.
                let result = breaker.call(|| fetch_order(&http, &url)).await;
                story.call_ended(called, &result);
            });
        }
    }
    while let Some(ended) = calls.join_next().await {
        ended?;
    }
    drop(subscription);

    let timeline = story.end();
    timeline.sum_up(server.served(), breaker.metrics().late_results);
    let path = match std::env::args_os().nth(1) {
        Some(path) => PathBuf::from(path),
        None => std::env::current_exe()?.with_extension("svg"),
    };
    let settings = "window: the last 20 calls; slow: over 100 ms; open for 400 ms, then five trial calls";
    chart::draw(&path, settings, &timeline)?;
    println!("The time line is drawn in {}", path.display());

    // What was told came true.
    assert!(timeline.states.iter().filter(|(_, state)| *state == State::Open).count() >= 2);
    for kind in [CallKind::Succeeded, CallKind::Failed, CallKind::Slow, CallKind::Rejected] {
        assert!(timeline.count(kind) > 0, "no call {kind:?}");
    }
    assert_eq!(breaker.state(), State::Closed);
    Ok(())
}
