//! Serves connections, none of them for longer than it may take.

use std::{pin::pin, sync::Arc, time::Duration};

use axum::{body::Body, http::Request, response::Response};
use hyper::{body::Incoming, server::conn::http1, service::Service};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// What a connection may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// How many connections there may be. More wait until one ends.
    pub(crate) connections: usize,
    /// How long the head of a request may take, and with it how long a connection may be idle.
    pub(crate) head: Duration,
    /// How long requests under way may take once serving has stopped.
    pub(crate) drain: Duration,
}

/// Serves until `stop`, and then until all requests under way have been answered or their time is over.
pub(crate) async fn connections<S>(listener: TcpListener, service: S, patience: Patience, stop: CancellationToken)
where
    S: Service<Request<Incoming>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<axum::BoxError>,
{
    let places = Arc::new(Semaphore::new(patience.connections));
    let tasks = TaskTracker::new();
    let next = async || {
        let place = Arc::clone(&places).acquire_owned().await;
        (place, listener.accept().await)
    };
    while let Some((place, accepted)) = stop.run_until_cancelled(next()).await {
        match accepted {
            Ok((stream, _)) => {
                let (service, stop) = (service.clone(), stop.clone());
                tasks.spawn(async move {
                    connection(stream, service, patience, stop).await;
                    drop(place);
                });
            }
            // There are no file descriptors left, most likely.
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
}

async fn connection<S>(stream: TcpStream, service: S, patience: Patience, stop: CancellationToken)
where
    S: Service<Request<Incoming>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<axum::BoxError>,
{
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(patience.head);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    // How a connection ended is the client's affair.
    if stop.run_until_cancelled(connection.as_mut()).await.is_none() {
        connection.as_mut().graceful_shutdown();
        let _ = timeout(patience.drain, connection).await;
    }
}
