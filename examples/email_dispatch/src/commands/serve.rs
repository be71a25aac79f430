//! `serve`: the service, until it is told to stop.

use std::sync::Arc;

use axum::{Router, routing::get};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use resile::{admin, circuit_breaker::State};
use secrecy::ExposeSecret;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    counters,
    http::{self, App, Check, Component, Condition, Health},
    service::{Lanes, Service},
    settings::Settings,
    stage::{Embedded, Failure, assemble},
};

/// Runs the service until SIGINT or SIGTERM, and then lets what is under way finish or hands it back. Meanwhile requests
/// are still accepted, for the settings' notice at least, and readiness says OUT_OF_SERVICE. Another signal ends it at
/// once.
///
/// # Errors
/// What kept it from starting.
pub async fn serve(settings: Settings) -> Result<(), Failure> {
    tracing::info!("{}", settings.describe());
    settings.warnings().into_iter().for_each(|warning| tracing::warn!("{warning}"));
    let metrics = PrometheusBuilder::new().install_recorder()?;
    counters::describe();
    let (parts, embedded) = assemble(&settings).await?;
    let listener = listen(&settings).await?;
    let service = Service::start(parts)?;
    let (leaving, stop) = (CancellationToken::new(), CancellationToken::new());
    let address = listener.local_addr()?;
    let operations = operations(&service, &settings, metrics)?;
    let app = App { extra: operations, ..app(&service, &settings, &leaving) };
    let server = tokio::spawn(http::serve(listener, app, stop.clone()));
    tracing::info!("accepting requests at http://{address}/emails");
    signalled().await?;
    let (notice, limit) = (settings.shutdown.notice, settings.shutdown.time_limit);
    tracing::info!(?notice, ?limit, "stopping: what is under way may finish; once more to stop at once");
    leaving.cancel();
    let stopping = async {
        tokio::join!(tokio::time::sleep(notice), service.drain(limit));
        stop.cancel();
        server.await?;
        service.shut_down(limit).await;
        Ok(())
    };
    let stopped = tokio::select! {
        stopped = stopping => stopped,
        again = signalled() => again.and(Err("stopped at once: what was under way is taken up by others later".into())),
    };
    drop::<Embedded>(embedded);
    if stopped.is_ok() {
        tracing::info!("stopped");
    }
    stopped
}

/// Listens where the settings say.
pub(super) async fn listen(settings: &Settings) -> Result<TcpListener, Failure> {
    let address = settings.http.listen;
    Ok(TcpListener::bind(address).await.map_err(|error| format!("http-listen {address}: {error}"))?)
}

/// The service over HTTP.
pub(super) fn app(service: &Service, settings: &Settings, leaving: &CancellationToken) -> App {
    let checks = vec![Check::database(service.store().clone()), kafka(service)];
    App {
        door: service.door().clone(),
        ledger: service.ledger().clone(),
        breakers: service.breakers().to_vec(),
        health: Health::new(checks, leaving.clone()),
        settings: settings.http_settings(),
        extra: Router::new(),
    }
}

/// `/metrics`, and under `/actuator` what `resile` has for operators.
fn operations(service: &Service, settings: &Settings, metrics: PrometheusHandle) -> Result<Router, Failure> {
    let resilience = service.resilience();
    let exported = Arc::new(resile::metrics::install(resilience));
    // The service's own health knows of the database and of Kafka too.
    let mut config = admin::Config::default().serve_health(false).keep_events_of_calls(false);
    if let Some(token) = &settings.operating.token {
        config = config.operator("operator", token.expose_secret());
    }
    let scrape = move || {
        let _for_as_long_as_it_is_served = &exported;
        resile::metrics::refresh();
        std::future::ready(metrics.render())
    };
    Ok(Router::new().route("/metrics", get(scrape)).nest("/actuator", admin::router(resilience, config)?))
}

/// `kafka`: whether topics are read and the outbox is published.
fn kafka(service: &Service) -> Check {
    let (lanes, publisher) = (service.lanes(), Arc::new(service.publisher_breaker().clone()));
    Check::new("kafka", move || {
        std::future::ready(condition(&lanes, matches!(publisher.state(), State::Open | State::ForcedOpen)))
    })
}

fn condition(lanes: &Lanes, publishing_fails: bool) -> Component {
    let progress = lanes.progress();
    if let Some(fault) = progress.iter().find_map(|lane| lane.fault.as_deref()) {
        return Component::down(fault);
    }
    if progress.is_empty() {
        return Component::down("no broker has answered yet: requests wait in the outbox");
    }
    if publishing_fails {
        return Component::down("the breaker kafka-publisher is open: requests wait in the outbox");
    }
    let sum = |of: fn(&crate::kafka::consumer::Progress) -> u64| progress.iter().map(of).sum::<u64>();
    Component::new(Condition::Up)
        .with("partitions", sum(|lane| lane.partitions as u64))
        .with("inHand", sum(|lane| lane.in_hand as u64))
        .with("uncommitted", sum(|lane| lane.uncommitted))
        .with("lost", sum(|lane| lane.lost))
}

/// Waits for SIGINT, which Ctrl-C sends, or SIGTERM.
pub(super) async fn signalled() -> Result<(), Failure> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            _ = terminate.recv() => {}
            interrupted = tokio::signal::ctrl_c() => interrupted?,
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await?;
    Ok(())
}
