//! What is logged while a test listens.
#![allow(clippy::unwrap_used)] // only tests use it

use std::{
    io,
    sync::{Arc, Mutex},
};

use email_dispatch::{logging, settings::LogFormat};
use tracing::subscriber::{self, DefaultGuard};
use tracing_subscriber::fmt::MakeWriter;

/// Keeps what is written.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Keeps what this thread logs until the guard is dropped.
    pub(crate) fn listen(&self, format: LogFormat, filter: &str) -> DefaultGuard {
        // What is first reached on a thread that nobody listens to would else be switched off on all of them.
        let _ = subscriber::set_global_default(tracing_subscriber::registry());
        subscriber::set_default(logging::subscriber(format, filter, self.clone()).unwrap())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
