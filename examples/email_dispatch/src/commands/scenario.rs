//! `scenario`: the nine steps of a broker's outage.

use std::{process::ExitCode, time::Duration};

use super::{INTERRUPTED, say, serve::signalled};
use crate::{
    demonstration,
    scenario::play,
    service::Service,
    settings::Settings,
    stage::{Failure, assemble},
};

/// How long a step may take.
const BOUND: Duration = Duration::from_secs(30);

/// Plays the scenario. The exit code is 0 if all went as it should, or 10 and the number of the step that did not. A
/// signal ends it at once.
///
/// # Errors
/// What kept it from starting.
pub async fn scenario(settings: Settings) -> Result<ExitCode, Failure> {
    let backups = tempfile::tempdir()?;
    let settings = demonstration::settings(settings, backups.path());
    let (parts, embedded) = assemble(&settings).await?;
    let Some(broker) = &embedded.broker else {
        return Err(
            "the scenario stops its broker, so it runs on the embedded one alone: do not set kafka-brokers".into()
        );
    };
    let service = Service::start(parts)?;
    let playing = play(&service, broker, BOUND, |step, seen| {
        say(format_args!("{}  {:<68}  {seen}", step as u8, step.title()));
    });
    let played = tokio::select! {
        played = playing => played,
        signal = signalled() => return signal.map(|()| ExitCode::from(INTERRUPTED)),
    };
    service.shut_down(settings.shutdown.time_limit).await;
    Ok(match played {
        Ok(()) => {
            say("all nine steps as they should be");
            ExitCode::SUCCESS
        }
        Err(deviation) => {
            eprintln!("{deviation}");
            ExitCode::from(10 + deviation.step as u8)
        }
    })
}
