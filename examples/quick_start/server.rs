//! A small HTTP server on a free port of this machine, whose mood can be changed.

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, Uri},
    routing::get,
};
use tokio::{net::TcpListener, sync::watch, time::sleep};

/// How the server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// In 10 to 30 ms.
    Healthy,
    /// As fast, but four times out of five with an error.
    Failing,
    /// Without errors, but in 150 ms.
    Slow,
}

impl fmt::Display for Mood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Healthy => "healthy",
            Self::Failing => "failing",
            Self::Slow => "slow",
        })
    }
}

pub(crate) struct Server {
    url: Uri,
    mood: watch::Sender<Mood>,
    served: Arc<AtomicU32>,
}

impl Server {
    pub(crate) async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/order", listener.local_addr()?);
        let (mood, seen) = watch::channel(Mood::Healthy);
        let served = Arc::new(AtomicU32::new(0));
        let app = Router::new().route("/order", get(order)).with_state((seen, Arc::clone(&served)));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(Self { url: url.parse().map_err(io::Error::other)?, mood, served })
    }

    pub(crate) fn url(&self) -> Uri {
        self.url.clone()
    }

    pub(crate) fn turn(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    /// How many requests have come.
    pub(crate) fn served(&self) -> u32 {
        self.served.load(Ordering::Relaxed)
    }
}

async fn order(State((mood, served)): State<(watch::Receiver<Mood>, Arc<AtomicU32>)>) -> (StatusCode, &'static str) {
    let number = served.fetch_add(1, Ordering::Relaxed);
    let mood = *mood.borrow();
    match mood {
        Mood::Slow => sleep(Duration::from_millis(150)).await,
        _ => sleep(Duration::from_millis(10 + u64::from(number * 7 % 20))).await,
    }
    match mood {
        Mood::Failing if number % 5 != 0 => (StatusCode::INTERNAL_SERVER_ERROR, "out of order"),
        _ => (StatusCode::OK, "an order"),
    }
}
