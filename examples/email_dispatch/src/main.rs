//! `cargo run --example email_dispatch`: the command line of the service.

use std::{process::ExitCode, time::Duration};

use email_dispatch::{
    cli::{Cli, Task},
    commands,
    limits::raise_open_files,
    logging,
    stage::Failure,
};

fn main() -> ExitCode {
    let cli = match Cli::read(std::env::args_os(), &|name| std::env::var_os(name)) {
        Ok(cli) => cli,
        Err(stop) => {
            stop.print();
            return ExitCode::from(stop.exit_code());
        }
    };
    if let Err(error) = prepare(&cli) {
        eprintln!("error: {error}");
        return ExitCode::from(2);
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let ended = runtime.block_on(run(cli));
    // What still blocks a thread then, such as a broker's silence, is nothing to wait for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    match ended {
        Ok(code) => code,
        Err(error) => failed(&*error),
    }
}

fn failed(error: &dyn std::error::Error) -> ExitCode {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Most say their cause themselves.
        let text = error.to_string();
        if !said.contains(&text) {
            said = format!("{said}: {text}");
        }
        cause = error.source();
    }
    eprintln!("error: {said}");
    ExitCode::FAILURE
}

/// What comes before anything starts.
fn prepare(cli: &Cli) -> Result<(), String> {
    let settings = &cli.settings;
    // The demonstration and the scenario break things on purpose, and show what comes of it themselves.
    let is_shown = matches!(cli.task, None | Some(Task::Scenario));
    let filter = settings.log.filter.as_deref().unwrap_or(if is_shown { "off" } else { logging::DEFAULT_FILTER });
    logging::init(settings.log.format, filter, std::io::stderr)?;
    raise_open_files(settings.open_files()).map_err(|error| error.to_string())?;
    Ok(())
}

async fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let settings = cli.settings;
    match cli.task {
        None => return commands::demonstrate(settings).await,
        Some(Task::Scenario) => return commands::scenario(settings).await,
        Some(Task::Serve) => commands::serve(settings).await?,
        Some(Task::Produce(task)) => commands::produce(&settings, task).await?,
        Some(Task::Dlt(task)) => commands::dlt(&settings, task).await?,
        Some(Task::Replay { from_files: _ }) => commands::replay_files(&settings).await?,
        Some(Task::Unknown(task)) => commands::unknown(&settings, task).await?,
        Some(Task::Status) => commands::status(&settings).await?,
    }
    Ok(ExitCode::SUCCESS)
}
