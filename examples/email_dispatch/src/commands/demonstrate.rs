//! Without a command: the service through a bad minute, to watch.

use std::{process::ExitCode, time::Duration};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{
    INTERRUPTED, say,
    serve::{app, signalled},
};
use crate::{
    demonstration::{self, play},
    http,
    service::Service,
    settings::Settings,
    stage::{Failure, assemble},
    timeline::Recorder,
    view::View,
};

/// Plays the demonstration, draws its time line and prints where every request went. The exit code is 0 only if the sums
/// are right. A signal ends it at once.
///
/// # Errors
/// What kept it from starting, or from its end.
pub async fn demonstrate(settings: Settings) -> Result<ExitCode, Failure> {
    let backups = tempfile::tempdir()?;
    let settings = demonstration::settings(settings, backups.path());
    let (parts, embedded) = assemble(&settings).await?;
    let (kafka, counters) = (parts.kafka.clone(), parts.counters.clone());
    let service = Service::start(parts)?;
    let (stop, breakers) = (CancellationToken::new(), service.breakers().to_vec());
    // Any free port: the demonstration is not to fail because something listens where a service would.
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server = tokio::spawn(http::serve(listener, app(&service, &settings, &stop), stop.clone()));

    let requests = settings.demonstration.requests as usize;
    let title = format!("{requests} mails through a bad minute");
    let recorder = Recorder::start(&title, counters.clone(), breakers.clone(), Duration::from_millis(200));
    let view = View::start(settings.demonstration.view, counters, breakers, Some(requests as u64));
    view.note(&format!("while it runs: http://{address}/circuit-breaker and http://{address}/actuator/health"));
    let playing = play(service, &embedded, &kafka, requests, |elapsed, act| {
        recorder.mark(act);
        view.note(&format!("{:5.1} s  {act}", elapsed.as_secs_f32()));
    });
    let played = tokio::select! {
        played = playing => Some(played),
        signal = signalled() => signal.map(|()| None)?,
    };
    view.finish().await;
    stop.cancel();
    server.await?;
    let Some(account) = played.transpose()? else { return Ok(ExitCode::from(INTERRUPTED)) };

    let file = &settings.demonstration.svg;
    let drawn = recorder.finish().await.svg()?;
    tokio::fs::write(file, drawn).await.map_err(|error| format!("demo-svg {}: {error}", file.display()))?;
    say(format_args!("\n{account}\ntime line: {}", file.display()));
    Ok(if account.is_right() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
