//! The processes that run at the moment.

use email_dispatch::store::Guarantee;
use parking_lot::Mutex;

use crate::{process::Process, world::World};

pub(super) struct Fleet<'a> {
    world: &'a World,
    guarantee: &'static str,
    processes: Mutex<Vec<Process>>,
}

impl<'a> Fleet<'a> {
    /// Two processes to begin with.
    pub(super) async fn start(world: &'a World, guarantee: Guarantee) -> Self {
        let guarantee = match guarantee {
            Guarantee::AtMostOnce => "at_most_once",
            Guarantee::AtLeastOnce => "at_least_once",
        };
        let fleet = Self { world, guarantee, processes: Mutex::default() };
        fleet.add().await;
        fleet.add().await;
        fleet
    }

    pub(super) async fn add(&self) {
        let process = self.world.serve_with(&[("ledger-guarantee", self.guarantee)]).await;
        self.processes.lock().push(process);
    }

    pub(super) fn len(&self) -> usize {
        self.processes.lock().len()
    }

    /// Kills the one that has run for the longest time.
    pub(super) fn kill_one(&self) {
        let oldest = self.processes.lock().remove(0);
        oldest.kill();
    }

    /// Kills all of them at once, or nearly.
    pub(super) fn kill_all(&self) {
        let all = std::mem::take(&mut *self.processes.lock());
        all.into_iter().for_each(Process::kill);
    }

    /// Where one of them accepts requests, if there is one: mostly that which has just started.
    pub(super) fn url(&self) -> Option<String> {
        self.processes.lock().last().map(|process| process.url().to_owned())
    }

    /// What they have said last.
    pub(super) fn logs(&self) -> String {
        let last = |log: String| log.lines().rev().take(30).map(str::to_owned).collect::<Vec<_>>().join("\n");
        self.processes.lock().iter().map(|process| last(process.log()) + "\n\n").collect()
    }
}
