//! What the program does, a function for each command.

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
