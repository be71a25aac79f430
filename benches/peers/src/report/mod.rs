//! The report: what it is made of. Its text is in `markdown`, what is asked of the figures in `bars`.

pub(crate) mod about;
pub(crate) mod allocations;
pub(crate) mod bars;
pub(crate) mod chart;
mod markdown;
pub(crate) mod measured;
pub(crate) mod outside;
mod rows;
pub(crate) mod sitting;
pub(crate) mod sizes;

use about::About;
use allocations::Allocations;
use measured::Measured;
use outside::Outside;
use sitting::Sitting;
use sizes::Sizes;

/// Everything that is reported.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) about: About,
    pub(crate) sitting: Sitting,
    pub(crate) measured: Measured,
    pub(crate) allocations: Allocations,
    pub(crate) sizes: Sizes,
    pub(crate) outside: Outside,
}
