//! `cargo run --example email_dispatch`: the command line of the service.

use std::process::ExitCode;

use email_dispatch::{
    cli::{Cli, Task},
    limits::raise_open_files,
    logging,
    settings::Settings,
};

fn main() -> ExitCode {
    let cli = match Cli::read(std::env::args_os(), &|name| std::env::var_os(name)) {
        Ok(cli) => cli,
        Err(stop) => {
            stop.print();
            return ExitCode::from(stop.exit_code());
        }
    };
    if let Err(error) = prepare(&cli.settings) {
        eprintln!("error: {error}");
        return ExitCode::from(2);
    }
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What comes before anything starts.
fn prepare(settings: &Settings) -> Result<(), String> {
    logging::init(settings.log.format, &settings.log.filter, std::io::stderr)?;
    raise_open_files(settings.open_files()).map_err(|error| error.to_string())?;
    Ok(())
}

fn run(cli: &Cli) -> Result<(), String> {
    tracing::info!("{}", cli.settings.describe());
    let not_yet = |what: &str| Err(format!("{what}: not yet"));
    match &cli.task {
        None => not_yet("the demonstration"),
        Some(Task::Serve) => not_yet("serve"),
        Some(Task::Produce(_)) => not_yet("produce"),
        Some(Task::Scenario) => not_yet("scenario"),
        Some(Task::Dlt(_)) => not_yet("dlt"),
        Some(Task::Replay { .. }) => not_yet("replay"),
        Some(Task::Unknown(_)) => not_yet("unknown"),
        Some(Task::Status) => not_yet("status"),
    }
}
