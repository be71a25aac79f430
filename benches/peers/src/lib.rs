//! Calls through resile and through the crates that do the same, side by side: what there is to measure, and how.
//!
//! A [`Row`] is one kind of call, such as one through a closed circuit breaker, and its [`Contender`]s do it each with another
//! crate. The benchmark times them, and the report's binary counts their allocations; both take them from [`rows`].
//!
//! Every contender has the settings its crate has by default, save what the row is about: a limit that is never reached
//! or always, a circuit that stays open, a window of sixty seconds. Every call is driven by hand until it is ready, so
//! that no executor is measured; what needs tokio's timers is entered into a runtime that nobody drives, where arming a
//! timer is as cheap as tokio makes it.

mod breaker;
mod bulkhead;
mod harness;
mod limiter;
mod peer;
mod retry;
mod stack;
mod time_limiter;

use std::{fmt, time::Duration};

use harness::Rows;

/// Makes a number of calls and says how long they took; over more than one thread, the time divided by the threads.
pub type Run = Box<dyn FnMut(u64) -> Duration>;

/// One kind of call, made by each crate that can.
#[derive(Debug)]
pub struct Row {
    /// The name of the benchmark group.
    pub id: &'static str,
    /// In the order in which they are measured: resile first.
    pub contenders: Vec<Contender>,
}

/// One crate's way to make the call.
pub struct Contender {
    /// The crate, and the variant where there are several.
    pub name: &'static str,
    start: Box<dyn Fn() -> Run>,
}

impl Contender {
    /// Builds what is called.
    pub fn start(&self) -> Run {
        (self.start)()
    }
}

impl fmt::Debug for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contender").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Everything that is measured, in the order of the report.
pub fn rows() -> Vec<Row> {
    let mut rows = Rows::default();
    harness::bare(&mut rows);
    harness::clocks(&mut rows);
    breaker::rows(&mut rows);
    retry::rows(&mut rows);
    limiter::rows(&mut rows);
    bulkhead::rows(&mut rows);
    time_limiter::rows(&mut rows);
    stack::rows(&mut rows);
    rows.into_rows()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::rows;

    #[test]
    fn every_contender_can_make_its_calls() {
        // A window that holds many calls takes its time to fill.
        for row in rows().iter().filter(|row| row.id != "window_100000") {
            for contender in &row.contenders {
                contender.start()(3);
            }
        }
    }

    #[test]
    fn no_name_stands_for_two() {
        let rows = rows();
        let names = rows.iter().flat_map(|row| row.contenders.iter().map(|contender| (row.id, contender.name)));
        assert_eq!(names.clone().count(), names.collect::<BTreeSet<_>>().len());
    }
}
