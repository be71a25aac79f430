//! What the program does, a function for each command.

use std::{
    fmt::Display,
    io::{self, Write},
};

mod demonstrate;
mod look;
mod produce;
mod scenario;
mod serve;

pub use self::{
    demonstrate::demonstrate,
    look::{dlt, replay_files, status, unknown},
    produce::produce,
    scenario::scenario,
    serve::serve,
};

/// The exit code of what Ctrl-C or SIGTERM has ended before its end, as shells have it for the former.
const INTERRUPTED: u8 = 130;

/// Prints a line. That nobody reads it any more, as behind `| head`, is no trouble.
fn say(line: impl Display) {
    let _ = writeln!(io::stdout(), "{line}");
}
