//! Measures resile beside its peers and writes `benches/RESULTS.md` and `benches/results.svg`.
//!
//! ```text
//! cargo run --release -p resile-peers                 # five rounds, then the report: some eight minutes
//! cargo run --release -p resile-peers -- --rounds 3   # fewer
//! cargo run --release -p resile-peers -- --report     # only the report, of the rounds measured last
//! ```
//!
//! A round is one run of the benchmark `peers`, in which the contenders of a row follow directly after one another. Ratios
//! are taken within a round, so that a machine that is slow for a while is so for both; the report gives their median over
//! the rounds, and their range. On a quiet machine, then, and with nothing else to do for it meanwhile.
//!
//! What was measured by other means goes into the report where it lies: benchmarks of this repository in the group
//! `scaling`, JMH's results in `target/jvm.json`, those of `go test -bench` in `target/go.txt`, and the counts of instructions
//! in `benches/instructions.txt`.
#![allow(clippy::print_stdout)]

mod report;

use std::{env, error::Error, fs, path::Path, process::ExitCode};

use report::{Report, allocations, chart, measured::Measured, outside::Outside, sitting::Sitting, sizes::Sizes};

const HELP: &str = "Usage: resile-peers [--rounds NUMBER | --report]";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let rounds = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Some(5),
        ["--report"] => None,
        ["--rounds", rounds] => Some(number_of_rounds(rounds)?),
        _ => return Err(HELP.into()),
    };
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let about = report::about::About::read(&workspace)?;
    let sitting = match rounds {
        Some(rounds) => Sitting::hold(&workspace, &about.target, rounds)?,
        None => Sitting::last(&about.target)?,
    };
    let report = Report {
        measured: Measured::read(&about.target.join("criterion"))?,
        allocations: allocations::count(),
        sizes: Sizes::measure(),
        outside: Outside::read(&workspace, &about.target)?,
        sitting,
        about,
    };
    let benches = workspace.join("benches");
    fs::write(benches.join("RESULTS.md"), report.markdown())?;
    chart::draw(&benches.join("results.svg"), &report.measured)?;
    println!("wrote benches/RESULTS.md and benches/results.svg");
    Ok(())
}

/// None at all would write a report of nothing over the last one.
fn number_of_rounds(text: &str) -> Result<u32, String> {
    let rounds = text.parse().ok().filter(|rounds| (1..=100).contains(rounds));
    rounds.ok_or_else(|| format!("--rounds {text}: must be a number from 1 to 100"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sitting_has_a_number_of_rounds_that_is_named_where_it_cannot_be() {
        assert_eq!(number_of_rounds("5"), Ok(5));
        for text in ["0", "-1", "101", "five", ""] {
            assert_eq!(number_of_rounds(text), Err(format!("--rounds {text}: must be a number from 1 to 100")));
        }
    }
}
