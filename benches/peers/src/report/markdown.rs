//! The text of the report.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{
    Report, bars,
    measured::Spread,
    rows::{ROWS, RowText},
};

/// A call, its name elsewhere, and the row and the contender here that do the same.
type Same = (&'static str, &'static str, &'static str, &'static str);

#[rustfmt::skip]
const JVM: &[Same] = &[
    ("the bare call", "bare", "bare", "async fn"),
    ("circuit breaker, closed", "breakerPermitted", "breaker_closed", "resile"),
    ("the same, window of 60 s", "breakerPermittedTimeWindow", "breaker_closed", "resile, time window"),
    ("the same as the first, two threads", "breakerTwoThreads", "breaker_two_threads", "resile"),
    ("circuit breaker, open", "breakerRejected", "breaker_open", "resile"),
    ("the same without a stack trace", "breakerRejectedNoStackTrace", "breaker_open", "resile"),
    ("the same without an exception", "breakerRejectedNoException", "breaker_open", "resile, permit"),
    ("retry, the first attempt succeeds", "retryFirstAttempt", "retry_first", "resile"),
    ("rate limiter, fixed cycle", "limiterPermitted", "limiter_call", "resile, fixed cycle"),
    ("rate limiter, rejected", "limiterRejected", "limiter_call_rejected", "resile, fixed cycle"),
    ("the same without an exception", "limiterRejectedNoException", "limiter_check_rejected", "resile, fixed cycle"),
    ("bulkhead, admitted", "bulkheadPermitted", "bulkhead_admitted", "resile"),
    ("bulkhead, rejected", "bulkheadRejected", "bulkhead_rejected", "resile"),
    ("the same without an exception", "bulkheadRejectedNoException", "bulkhead_rejected", "resile"),
    ("four policies, limiter a fixed cycle", "fourLayers", "four_policies", "resile, fixed cycle"),
    ("the same, here with the `Smooth` limiter", "fourLayers", "four_policies", "resile"),
];

#[rustfmt::skip]
const GO: &[Same] = &[
    ("the bare call", "Bare", "bare", "async fn"),
    ("circuit breaker, closed, no slow calls", "BreakerPermitted", "breaker_closed", "resile, no slow calls"),
    ("the same, window of 60 s", "BreakerPermittedTimeWindow", "breaker_closed", "resile, time window, no slow calls"),
    ("the same as the first, two threads", "BreakerTwoThreads", "breaker_two_threads", "resile, no slow calls"),
    ("circuit breaker, open", "BreakerRejected", "breaker_open", "resile"),
    ("retry, the first attempt succeeds", "RetryFirstAttempt", "retry_first", "resile"),
    ("rate limiter, fixed cycle", "LimiterPermitted", "limiter_call", "resile, fixed cycle"),
    ("rate limiter, rejected", "LimiterRejected", "limiter_call_rejected", "resile, fixed cycle"),
    ("bulkhead, admitted", "BulkheadPermitted", "bulkhead_admitted", "resile"),
    ("bulkhead, rejected", "BulkheadRejected", "bulkhead_rejected", "resile"),
    ("four policies, limiter a fixed cycle", "FourLayers", "four_policies", "resile, fixed cycle"),
];

const NOT_RUN: &str = "Not run in this sitting.\n";

/// A row's name for people.
pub(super) fn title(row: &str) -> &str {
    ROWS.iter().find(|text| text.id == row).map_or(row, |text| text.title)
}

impl Report {
    /// `RESULTS.md`.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        self.head(&mut text);
        self.bars(&mut text);
        text += "\n## Row by row\n";
        for row in &ROWS {
            self.row(&mut text, row);
        }
        self.scaling(&mut text);
        self.elsewhere(&mut text);
        self.sizes(&mut text);
        self.instructions(&mut text);
        text += NOT_COMPARABLE;
        text
    }

    fn head(&self, text: &mut String) {
        let sitting = &self.sitting;
        let versions: Vec<_> = self.about.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        *text += &format!(
            "# Measured beside its peers\n\n\
             Written by `cargo run --release -p resile-peers`; not by hand.\n\n\
             | | |\n|---|---|\n\
             | date | {} |\n| processor | {}, {} cores |\n| system | {} |\n| compiler | {}, release, fat LTO |\n\
             | rounds | {} |\n| versions | {} |\n\n\
             Nanoseconds are medians over the rounds, one call after the other on one thread unless said otherwise. The contenders \
             of a row are measured directly after one another; a ratio is taken within a round, and given as the median over the \
             rounds with its range: below 1 × resile takes less time. Everything has its default settings, save what a row \
             is about. Futures are polled by hand, so that no executor is in the figures.\n",
            sitting.date,
            sitting.processor,
            sitting.cores,
            sitting.system,
            sitting.rustc,
            self.measured.rounds(),
            versions.join(", "),
        );
    }

    fn bars(&self, text: &mut String) {
        let verdicts = bars::verdicts(self);
        let count = |met| verdicts.iter().filter(|verdict| verdict.met == met).count();
        let here = |row, who| self.measured.nanos(row, who).map_or("–".into(), |nanos| number(nanos.median));
        *text += &format!(
            "\n## The bars\n\n{} met, {} not met, {} not run in this sitting. Bars in nanoseconds are totals, the bare call included; they were set on a \
             machine on which that takes 6.6 ns and a look at the clock 8.7 ns (here: {} and {}). Ratios hold on either.\n\n\
             | call | bar | measured | met |\n|---|---|---|---|\n",
            count(Some(true)),
            count(Some(false)),
            count(None),
            here("bare", "async fn"),
            here("clock", "resile"),
        );
        for verdict in verdicts {
            let met = match verdict.met {
                Some(true) => "yes",
                Some(false) => "**no**",
                None => "",
            };
            let _ = writeln!(text, "| {} | {} | {} | {met} |", verdict.what, verdict.bar, verdict.measured);
        }
    }

    fn row(&self, text: &mut String, row: &RowText) {
        let _ = write!(text, "\n### {}\n\n", row.title);
        if !row.note.is_empty() {
            let _ = write!(text, "{}\n\n", row.note);
        }
        let contenders = self.measured.contenders(row.id);
        if contenders.is_empty() {
            *text += NOT_RUN;
            return;
        }
        let counted =
            contenders.iter().any(|who| self.allocations.contains_key(&(row.id.to_owned(), (*who).to_owned())));
        *text += if row.throughput { "| | M calls/s | range |" } else { "| | ns | range |" };
        *text += if row.throughput { " resile's calls ÷ its |" } else { " resile's time ÷ its |" };
        *text += if counted { " allocations | bytes |\n|---|--:|--:|--:|--:|--:|\n" } else { "\n|---|--:|--:|--:|\n" };
        for who in &contenders {
            let _ = write!(text, "| {who} |");
            let value =
                if row.throughput { self.measured.throughput(row.id, who) } else { self.measured.nanos(row.id, who) };
            if let Some(Spread { median, least, most }) = value {
                let _ = write!(text, " {} | {}–{} |", number(median), number(least), number(most));
            }
            let (ours, theirs) = ((row.id, "resile"), (row.id, *who));
            let ratio =
                if row.throughput { self.measured.ratio(theirs, ours) } else { self.measured.ratio(ours, theirs) };
            // To itself there is none.
            match ratio.filter(|_| *who != "resile") {
                Some(ratio) => drop(write!(text, " {} |", bars::times(ratio))),
                None => *text += " |",
            }
            if let Some((count, bytes)) = self.allocations.get(&(row.id.to_owned(), (*who).to_owned())) {
                let _ = write!(text, " {} | {} |", count.round(), bytes.round());
            }
            text.push('\n');
        }
    }

    fn scaling(&self, text: &mut String) {
        *text += "\n## Scaling\n\n";
        let mut threads = Vec::new();
        let mut policies: BTreeMap<&str, BTreeMap<u32, f64>> = BTreeMap::new();
        for (id, nanos) in &self.measured.once {
            let Some((policy, number)) = id.strip_prefix("scaling/").and_then(|rest| rest.rsplit_once('/')) else {
                continue;
            };
            let Ok(number) = number.parse() else { continue };
            policies.entry(policy).or_default().insert(number, 1e3 / nanos);
            threads.push(number);
        }
        if policies.is_empty() {
            *text += NOT_RUN;
            return;
        }
        threads.sort_unstable();
        threads.dedup();
        let _ = write!(
            text,
            "One instance shared by a number of threads, in millions of calls a second over all of them. The machine has {} \
             cores; more threads than that take turns. What many cores would see is reckoned in \
             [SCALING.md](SCALING.md).\n\n| |",
            self.sitting.cores
        );
        for number in &threads {
            let _ = write!(text, " {number} thread{} |", if *number == 1 { "" } else { "s" });
        }
        let _ = writeln!(text, "\n|---|{}", "--:|".repeat(threads.len()));
        for (policy, values) in policies {
            let _ = write!(text, "| {} |", policy.replace('_', " "));
            for number in &threads {
                let value = values.get(number).map(|calls| format!("{calls:.1}")).unwrap_or_default();
                let _ = write!(text, " {value} |");
            }
            text.push('\n');
        }
    }

    fn elsewhere(&self, text: &mut String) {
        *text += "\n## Resilience4j on the JVM\n\n";
        if self.outside.jvm.is_empty() {
            *text += NOT_RUN;
        } else {
            *text += "JMH's average time in the same sitting, decorated suppliers; both sides count slow calls. What can be compared, \
                      and what cannot, is in [jvm/README.md](jvm/README.md). Two threads: elapsed time by all calls.\n\n\
                      | call | Resilience4j, bytes | ns | resile, ns | resile ÷ it |\n|---|--:|--:|--:|--:|\n";
            for &(what, method, row, who) in JVM {
                let theirs = self.outside.jvm.get(method);
                // JMH gives the time of one thread's call.
                let threads = if row.ends_with("two_threads") { 2.0 } else { 1.0 };
                let bytes =
                    theirs.and_then(|theirs| theirs.bytes).map(|bytes| format!("{bytes:.0}")).unwrap_or_default();
                let nanos = theirs.map(|theirs| theirs.nanos / threads);
                self.beside(text, &format!("{what} | {bytes}"), row, who, &[nanos]);
            }
        }
        *text += "\n## failsafe-go and gobreaker\n\n";
        if self.outside.go.is_empty() {
            *text += NOT_RUN;
        } else {
            *text += "`go test -bench` in the same sitting, the median of its runs. What can be compared, and what cannot, is in \
                      [go/README.md](go/README.md).\n\n\
                      | call | failsafe-go, ns | gobreaker, ns | resile, ns | resile ÷ failsafe-go | ÷ gobreaker |\n\
                      |---|--:|--:|--:|--:|--:|\n";
            for &(what, name, row, who) in GO {
                let of = |library: &str| self.outside.go.get(&format!("{library}{name}")).copied();
                let theirs = if name == "Bare" { [of(""), of("")] } else { [of("Failsafe"), of("Gobreaker")] };
                self.beside(text, what, row, who, &theirs);
            }
        }
    }

    /// A line of what others take, what resile takes, and the ratios.
    fn beside(&self, text: &mut String, what: &str, row: &str, who: &str, theirs: &[Option<f64>]) {
        let ours = self.measured.nanos(row, who).map(|ours| ours.median);
        let _ = write!(text, "| {what} |");
        for nanos in theirs.iter().copied().chain([ours]) {
            let _ = write!(text, " {} |", nanos.map(number).unwrap_or_default());
        }
        for nanos in theirs {
            let ratio = ours.zip(*nanos).map(|(ours, theirs)| format!("{:.2} ×", ours / theirs));
            let _ = write!(text, " {} |", ratio.unwrap_or_default());
        }
        text.push('\n');
    }

    fn sizes(&self, text: &mut String) {
        *text += "\n## Size\n\n| | |\n|---|--:|\n";
        for (what, bytes) in &self.sizes.instances {
            let _ = writeln!(text, "| one {what} | {bytes} bytes |");
        }
        let (bare, pipeline) = (self.sizes.bare_future, self.sizes.pipeline_future);
        let _ = writeln!(text, "| future of a bare call | {bare} bytes |");
        let _ = writeln!(text, "| future of the same call through a `Pipeline` of five | {pipeline} bytes |");
        let _ = writeln!(text, "| crates, without features, itself included | {} |", self.sitting.crates);
        if let Some((release, debug)) = self.sitting.builds {
            let _ = writeln!(text, "| clean build of the library with what it needs, release | {release:.1} s |");
            let _ = writeln!(text, "| the same, debug | {debug:.1} s |");
        }
    }

    fn instructions(&self, text: &mut String) {
        *text += "\n## Instructions a call\n\n";
        if self.outside.instructions.is_empty() {
            *text += NOT_RUN;
            return;
        }
        *text += "Counted by callgrind, and the same on a busy machine; policies are on a clock that stands still unless \
                  `default_clock` is named. Locked ones are what cores that share an instance wait for; [SCALING.md](SCALING.md) \
                  goes by them.\n\n| | instructions | locked |\n|---|--:|--:|\n";
        for (name, count, locked) in &self.outside.instructions {
            let _ = writeln!(text, "| {name} | {count} | {locked} |");
        }
    }
}

const NOT_COMPARABLE: &str = "
## What is not comparable

* No two crates mean the same by a circuit breaker, see the notes of its rows. Only resile, seatbelt and tower-resilience
  limit the calls that a half-open circuit admits.
* Tower-resilience's layers, seatbelt's under tower and tower's own erase or wrap the error; resile's keep one flat type.
* Tower-resilience's open breaker can lose a wake-up when two callers meet in it, and the caller hangs; polled by hand, as here,
  it is asked again at once. Its `reject_when_full` is measured as it is.
* Tokio's timers are armed here in a runtime that nobody drives. In one of several workers, arming one may have to wake a
  thread, and takes longer; resile's own timer thread is woken only by a deadline that is earlier than all others.
* Two threads on two cores are no account of many cores.
";

/// As many digits as say something.
fn number(value: f64) -> String {
    match value {
        value if value >= 1_000.0 => {
            let (thousands, rest) = ((value.round() as u64) / 1_000, (value.round() as u64) % 1_000);
            if thousands < 1_000 {
                format!("{thousands},{rest:03}")
            } else {
                format!("{},{:03},{rest:03}", thousands / 1_000, thousands % 1_000)
            }
        }
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 0.1 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::number;
    use crate::report::{Report, outside::Operation};

    /// The lines of a table under a heading.
    fn table<'a>(text: &'a str, heading: &str) -> Vec<&'a str> {
        let below = text.split_once(heading).unwrap().1;
        let below = below.split("\n#").next().unwrap();
        below.lines().filter(|line| line.starts_with('|')).collect()
    }

    fn measured(values: &[(&str, f64)]) -> Report {
        let mut report = Report::default();
        for (id, nanos) in values {
            report.measured.insert(id, 1, *nanos);
        }
        report
    }

    #[test]
    fn a_row_has_its_contenders_in_their_order_with_ratios_and_allocations() {
        let mut report = measured(&[
            ("retry_first/backon", 8.0),
            ("retry_first/resile", 10.0),
            ("retry_first/tower-resilience", 100.0),
        ]);
        report.allocations.insert(("retry_first".into(), "resile".into()), (0.0, 0.0));
        report.allocations.insert(("retry_first".into(), "backon".into()), (0.0, 0.0));
        report.allocations.insert(("retry_first".into(), "tower-resilience".into()), (2.0, 160.0));
        assert_eq!(
            table(&report.markdown(), "### Retry, the first attempt succeeds"),
            [
                "| | ns | range | resile's time ÷ its | allocations | bytes |",
                "|---|--:|--:|--:|--:|--:|",
                "| resile | 10.0 | 10.0–10.0 | | 0 | 0 |",
                "| backon | 8.0 | 8.0–8.0 | 1.25 × (1.25–1.25) | 0 | 0 |",
                "| tower-resilience | 100 | 100–100 | 0.10 × (0.10–0.10) | 2 | 160 |",
            ]
        );
    }

    #[test]
    fn a_row_of_threads_is_given_in_calls() {
        let report = measured(&[("breaker_two_threads/resile", 10.0), ("breaker_two_threads/recloser", 50.0)]);
        let text = report.markdown();
        let lines = table(&text, "### One circuit breaker, two threads");
        assert_eq!(lines[2], "| resile | 100 | 100–100 | |");
        assert_eq!(lines[3], "| recloser | 20.0 | 20.0–20.0 | 5.00 × (5.00–5.00) |");
    }

    #[test]
    fn scaling_is_a_table_of_policies_and_threads() {
        let mut report = Report::default();
        for (id, nanos) in
            [("scaling/breaker_count/1", 20.0), ("scaling/breaker_count/16", 40.0), ("scaling/bulkhead/1", 10.0)]
        {
            report.measured.once.insert(id.into(), nanos);
        }
        assert_eq!(
            table(&report.markdown(), "## Scaling"),
            [
                "| | 1 thread | 16 threads |",
                "|---|--:|--:|",
                "| breaker count | 50.0 | 25.0 |",
                "| bulkhead | 100.0 |  |",
            ]
        );
    }

    #[test]
    fn what_other_programs_measured_stands_beside_the_same_call_here() {
        let mut report = measured(&[
            ("breaker_open/resile", 10.0),
            ("breaker_two_threads/resile", 20.0),
            ("four_policies/resile, fixed cycle", 50.0),
        ]);
        report.outside.jvm.insert("breakerRejected".into(), Operation { nanos: 40.0, bytes: Some(96.0) });
        report.outside.jvm.insert("breakerTwoThreads".into(), Operation { nanos: 80.0, bytes: None });
        report.outside.go.insert("FailsafeFourLayers".into(), 500.0);
        let text = report.markdown();
        let jvm = table(&text, "## Resilience4j");
        assert!(jvm.contains(&"| circuit breaker, open | 96 | 40.0 | 10.0 | 0.25 × |"));
        assert!(jvm.contains(&"| the same as the first, two threads |  | 40.0 | 20.0 | 0.50 × |"));
        let go = table(&text, "## failsafe-go");
        assert!(go.contains(&"| four policies, limiter a fixed cycle | 500 |  | 50.0 | 0.10 × |  |"));
    }

    #[test]
    fn every_line_beside_others_is_of_a_contender() {
        let rows = resile_peers::rows();
        for (_, _, id, who) in super::JVM.iter().chain(super::GO) {
            let row = rows.iter().find(|row| row.id == *id).expect("a row");
            assert!(row.contenders.iter().any(|contender| contender.name == *who), "{id}: {who}");
        }
    }

    #[test]
    fn what_was_not_run_is_said_to_be() {
        let text = Report::default().markdown();
        for heading in
            ["## Scaling", "## Resilience4j on the JVM", "## failsafe-go and gobreaker", "## Instructions a call"]
        {
            assert!(text.contains(&format!("{heading}\n\nNot run in this sitting.\n")), "{heading}");
        }
    }

    #[test]
    fn a_large_number_has_its_thousands_apart() {
        let numbers = [0.034, 6.66, 123.4, 1_090.0, 67_651.2, 1_090_002.0].map(number);
        assert_eq!(numbers, ["0.03", "6.7", "123", "1,090", "67,651", "1,090,002"]);
    }
}
