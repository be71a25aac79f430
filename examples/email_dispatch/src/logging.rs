//! The log: one line, or one JSON object, for each event.

use tracing::Subscriber;
use tracing_subscriber::{EnvFilter, fmt::MakeWriter, util::SubscriberInitExt};

use crate::settings::LogFormat;

/// What is logged unless something else is asked for: all but what Kafka's client says twice, each second of an outage.
pub const DEFAULT_FILTER: &str = "info,rdkafka::client=off";

/// Writes whatever is logged from now on.
///
/// # Errors
/// A filter that is not understood, or a log that was begun before.
pub fn init<W>(format: LogFormat, filter: &str, writer: W) -> Result<(), String>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    subscriber(format, filter, writer)?.try_init().map_err(|error| error.to_string())
}

/// What writes the log, for those who do not want it for the whole process.
///
/// # Errors
/// A filter that is not understood.
pub fn subscriber<W>(format: LogFormat, filter: &str, writer: W) -> Result<Box<dyn Subscriber + Send + Sync>, String>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(filter).map_err(|error| error.to_string())?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    Ok(match format {
        LogFormat::Text => Box::new(log.with_ansi(false).finish()),
        LogFormat::Json => Box::new(log.json().flatten_event(true).finish()),
    })
}
