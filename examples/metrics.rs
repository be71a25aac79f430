//! Serves `/metrics` for Prometheus, scrapes itself, and checks what it sees.
//!
//! ```text
//! cargo run --example metrics --features metrics
//! ```
#![allow(clippy::print_stdout)]

use std::{error::Error as StdError, io, time::Duration};

use axum::{Router, extract::State, routing::get};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use metrics_util::MetricKindMask;
use resile::{Resilience, circuit_breaker};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// The handler of the scrape: what has been counted goes to the recorder, then the recorder renders.
async fn scrape(State(prometheus): State<PrometheusHandle>) -> String {
    resile::metrics::refresh();
    prometheus.render()
}

async fn get_text(address: std::net::SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

async fn find(id: u64) -> io::Result<u64> {
    if id < 5 { Ok(id) } else { Err(io::Error::other("no such order")) }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn StdError>> {
    // The recorder comes first. What is gone for ten minutes is forgotten.
    let prometheus = PrometheusBuilder::new()
        .idle_timeout(MetricKindMask::ALL, Some(Duration::from_secs(600)))
        .install_recorder()?;

    let resilience = Resilience::new();
    resile::metrics::install(&resilience).forever();
    let config = circuit_breaker::Config::default().sliding_window_size(10);
    resilience.circuit_breakers().add_config("orders", config)?;
    resilience.circuit_breakers().set_tags("orders", [("team", "checkout")]);
    let breaker = resilience.circuit_breakers().get("orders");

    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let app = Router::new().route("/metrics", get(scrape)).with_state(prometheus);
    let server = tokio::spawn(async move { axum::serve(listener, app).await });

    // Five calls succeed and five fail; the circuit opens and rejects two.
    for id in 0..12 {
        let _ = breaker.call(|| find(id)).await;
    }

    let text = get_text(address, "/metrics").await?;
    let labels = r#"name="orders",team="checkout""#;
    let expected = [
        format!("resilience4j_circuitbreaker_state{{{labels},state=\"open\"}} 1"),
        format!("resilience4j_circuitbreaker_state{{{labels},state=\"closed\"}} 0"),
        format!("resilience4j_circuitbreaker_failure_rate{{{labels}}} 50"),
        format!("resilience4j_circuitbreaker_calls_seconds_count{{{labels},kind=\"successful\"}} 5"),
        format!("resilience4j_circuitbreaker_calls_seconds_bucket{{{labels},kind=\"failed\",le=\"+Inf\"}} 5"),
        format!("resilience4j_circuitbreaker_not_permitted_calls_total{{{labels},kind=\"not_permitted\"}} 2"),
        format!(
            "resilience4j_circuitbreaker_transitions_total{{{labels},from=\"closed\",to=\"open\",reason=\"failure_rate\"}} 1"
        ),
    ];
    for line in &expected {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }

    resilience.circuit_breakers().remove("orders");
    let text = get_text(address, "/metrics").await?;
    let gone = format!("resilience4j_circuitbreaker_state{{{labels},state=\"open\"}} 0");
    assert!(text.lines().any(|found| found == gone), "{gone} is not in\n{text}");

    println!("{}", expected.join("\n"));
    server.abort();
    Ok(())
}
