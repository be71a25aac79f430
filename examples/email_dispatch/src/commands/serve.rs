//! `serve`: the service, until it is told to stop.

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    http::{self, App, Check, Health},
    service::Service,
    settings::Settings,
    stage::{Embedded, Failure, assemble},
};

/// Runs the service until SIGINT or SIGTERM, and then lets what is under way finish or hands it back.
///
/// # Errors
/// What kept it from starting.
pub async fn serve(settings: Settings) -> Result<(), Failure> {
    tracing::info!("{}", settings.describe());
    let (parts, embedded) = assemble(&settings).await?;
    let listener = listen(&settings).await?;
    let service = Service::start(parts)?;
    let stop = CancellationToken::new();
    let address = listener.local_addr()?;
    let server = tokio::spawn(http::serve(listener, app(&service, &settings, &stop), stop.clone()));
    tracing::info!("accepting requests at http://{address}/emails");
    signalled().await?;
    tracing::info!(limit = ?settings.shutdown.time_limit, "stopping: what is under way may finish");
    stop.cancel();
    server.await?;
    service.shut_down(settings.shutdown.time_limit).await;
    drop::<Embedded>(embedded);
    tracing::info!("stopped");
    Ok(())
}

/// Listens where the settings say.
pub(super) async fn listen(settings: &Settings) -> Result<TcpListener, Failure> {
    let address = settings.http.listen;
    Ok(TcpListener::bind(address).await.map_err(|error| format!("http-listen {address}: {error}"))?)
}

/// The service over HTTP.
pub(super) fn app(service: &Service, settings: &Settings, stop: &CancellationToken) -> App {
    App {
        door: service.door().clone(),
        ledger: service.ledger().clone(),
        breakers: service.breakers().to_vec(),
        health: Health::new(vec![Check::database(service.store().clone())], stop.clone()),
        settings: settings.http_settings(),
        // The operations routes are merged here.
        extra: axum::Router::new(),
    }
}

async fn signalled() -> Result<(), Failure> {
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
