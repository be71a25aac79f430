//! What is asked of the figures, and whether they are so.

use super::{Report, measured::Spread};

/// A row and a contender in it.
type Who = (&'static str, &'static str);

/// What is asked.
#[derive(Debug)]
enum Bar {
    /// Nanoseconds in all.
    Total(Who, f64),
    /// The time of one over that of another.
    Ratio(Who, Who, f64),
    /// The time of ours over that of a method on the JVM.
    Jvm(Who, &'static str, f64),
    /// Millions of calls a second.
    Throughput(Who, f64),
    /// How many times the calls a second of another.
    Times(Who, Who, f64),
    /// No allocation at all.
    NoAllocation(Who),
}

/// A bar, what was measured, and what comes of it.
#[derive(Debug, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) what: String,
    pub(crate) bar: String,
    pub(crate) measured: String,
    /// Nothing where it was not measured.
    pub(crate) met: Option<bool>,
}

const CLOSED: Who = ("breaker_closed", "resile");
const CLOSED_NO_SLOW_CALLS: Who = ("breaker_closed", "resile, no slow calls");
const FIRST: Who = ("retry_first", "resile");
const FIVE: Who = ("five_policies", "resile");
const LAYERS: Who = ("five_policies", "resile, five tower layers");
const SHARED: Who = ("breaker_two_threads", "resile");
const SHARED_TIME: Who = ("breaker_two_threads", "resile, time window");

#[rustfmt::skip]
const BARS: &[Bar] = &[
    Bar::Total(CLOSED, 24.0),
    Bar::Jvm(CLOSED, "breakerPermitted", 0.45),
    Bar::Ratio(CLOSED, ("breaker_closed", "recloser"), 0.85),
    Bar::Ratio(CLOSED, ("breaker_closed", "failsafe"), 0.7),
    Bar::Ratio(CLOSED, ("breaker_closed", "seatbelt"), 0.25),
    Bar::Ratio(CLOSED, ("breaker_closed", "tower-resilience"), 0.11),
    Bar::Total(CLOSED_NO_SLOW_CALLS, 12.0),
    Bar::Ratio(CLOSED_NO_SLOW_CALLS, ("breaker_closed", "recloser"), 0.45),
    Bar::Total(("breaker_open", "resile"), 16.0),
    Bar::Ratio(("breaker_open", "resile"), ("breaker_open", "circuitbreaker-rs"), 0.5),
    Bar::Total(FIRST, 13.0),
    Bar::Ratio(FIRST, ("retry_first", "backon"), 1.5),
    Bar::Ratio(FIRST, ("retry_first", "tower-resilience"), 0.22),
    Bar::Total(("limiter_check", "resile"), 9.5),
    Bar::Ratio(("limiter_check", "resile"), ("limiter_check", "governor"), 1.05),
    Bar::Total(("limiter_call", "resile"), 13.0),
    Bar::Ratio(("limiter_call", "resile"), ("limiter_call", "governor"), 1.05),
    Bar::Total(("bulkhead_admitted", "resile"), 17.0),
    Bar::Ratio(("bulkhead_admitted", "resile"), ("bulkhead_admitted", "tokio Semaphore"), 0.65),
    Bar::Total(("bulkhead_rejected", "resile"), 8.0),
    Bar::Total(("time_ready", "resile"), 9.0),
    Bar::Ratio(("time_ready", "resile"), ("time_ready", "tokio timeout"), 0.3),
    Bar::Ratio(("time_ready", "resile"), ("time_ready", "seatbelt"), 0.9),
    Bar::Total(("time_pending", "resile"), 90.0),
    Bar::Ratio(("time_pending", "resile"), ("time_pending", "tokio timeout"), 0.3),
    Bar::Ratio(("time_pending", "resile"), ("time_pending", "seatbelt"), 0.9),
    Bar::Total(FIVE, 45.0),
    Bar::NoAllocation(FIVE),
    Bar::Ratio(FIVE, ("five_policies", "by hand"), 0.5),
    Bar::Ratio(FIVE, ("five_policies", "tower-resilience"), 0.05),
    Bar::Jvm(("four_policies", "resile, fixed cycle"), "fourLayers", 0.2),
    Bar::Total(LAYERS, 250.0),
    Bar::NoAllocation(LAYERS),
    Bar::Ratio(LAYERS, ("five_policies", "tower-resilience"), 0.27),
    Bar::Throughput(SHARED_TIME, 100.0),
    Bar::Throughput(SHARED, 50.0),
    Bar::Times(SHARED, ("breaker_two_threads", "recloser"), 3.0),
    Bar::Times(SHARED, ("breaker_two_threads", "circuitbreaker-rs"), 3.0),
    Bar::Times(SHARED, ("breaker_two_threads", "tower-resilience"), 3.0),
    Bar::Times(SHARED_TIME, ("breaker_two_threads", "failsafe"), 3.0),
    Bar::Times(SHARED_TIME, ("breaker_two_threads", "seatbelt"), 3.0),
    // As long with 100,000 calls as with ten, but for the noise.
    Bar::Ratio(("window_100000", "resile"), ("window_10", "resile"), 1.15),
];

/// Every bar in its order.
pub(crate) fn verdicts(report: &Report) -> Vec<Verdict> {
    BARS.iter().map(|bar| verdict(report, bar)).collect()
}

fn verdict(report: &Report, bar: &Bar) -> Verdict {
    let measured = &report.measured;
    let named = |(row, who): Who| format!("{}: {who}", super::markdown::title(row));
    let (what, asked, found) = match *bar {
        Bar::Total(who, most) => {
            let over = measured.difference(who, ("bare", "async fn"));
            // Asked for a permit there is no call in it.
            let over = over
                .filter(|_| who.0 != "limiter_check")
                .map(|over| format!(", {:.1} over the bare call", over.median));
            let total = measured.nanos(who.0, who.1).map(|total| total.median);
            let found = total.map(|total| (format!("{total:.1} ns{}", over.unwrap_or_default()), total <= most));
            (named(who), format!("≤ {most} ns"), found)
        }
        Bar::Ratio(who, other, most) => {
            let found = measured.ratio(who, other).map(|ratio| (times(ratio), ratio.median <= most));
            let other = if other.0 == who.0 { other.1.to_owned() } else { named(other) };
            (named(who), format!("≤ {most} × {other}"), found)
        }
        Bar::Jvm(who, method, most) => {
            let theirs = report.outside.jvm.get(method);
            let ratio = measured.nanos(who.0, who.1).zip(theirs).map(|(ours, theirs)| ours.median / theirs.nanos);
            (
                named(who),
                format!("≤ {most} × Resilience4j"),
                ratio.map(|ratio| (format!("{ratio:.2} ×"), ratio <= most)),
            )
        }
        Bar::Throughput(who, least) => {
            let found = measured.throughput(who.0, who.1);
            let found = found.map(|calls| (format!("{:.1} M calls/s", calls.median), calls.median >= least));
            (named(who), format!("≥ {least} M calls/s"), found)
        }
        Bar::Times(who, other, least) => {
            let found = measured.ratio(other, who).map(|ratio| (times(ratio), ratio.median >= least));
            (named(who), format!("≥ {least} × the calls of {}", other.1), found)
        }
        Bar::NoAllocation(who) => {
            let found = report.allocations.get(&(who.0.to_owned(), who.1.to_owned()));
            (named(who), "no allocation".into(), found.map(|(count, _)| (format!("{count:.0} a call"), *count == 0.0)))
        }
    };
    let (measured, met) = found.map_or(("not run in this sitting".into(), None), |(found, met)| (found, Some(met)));
    Verdict { what, bar: asked, measured, met }
}

/// A ratio with its range over the rounds, to two digits that say something.
pub(crate) fn times(ratio: Spread) -> String {
    let Spread { median, least, most } = ratio;
    let digits = (1..9).find(|digits| median >= 10_f64.powi(-digits)).map_or(2, |digits| digits as usize + 1);
    format!("{median:.digits$} × ({least:.digits$}–{most:.digits$})")
}

#[cfg(test)]
mod tests {
    use super::{Bar, CLOSED, CLOSED_NO_SLOW_CALLS, FIVE, SHARED, Verdict, times, verdict};
    use crate::report::{Report, measured::Spread, outside::Operation};

    fn report() -> Report {
        let mut report = Report::default();
        for (id, nanos) in [
            ("bare/async fn", 2.0),
            ("breaker_closed/resile", 18.0),
            ("breaker_closed/recloser", 20.0),
            ("breaker_two_threads/resile", 10.0),
            ("breaker_two_threads/recloser", 40.0),
        ] {
            report.measured.insert(id, 1, nanos);
            report.measured.insert(id, 2, nanos);
        }
        report
    }

    fn met(report: &Report, bar: &Bar) -> Option<bool> {
        verdict(report, bar).met
    }

    #[test]
    fn a_total_includes_the_bare_call() {
        assert_eq!(
            verdict(&report(), &Bar::Total(CLOSED, 18.0)),
            Verdict {
                what: "Circuit breaker, closed: resile".into(),
                bar: "≤ 18 ns".into(),
                measured: "18.0 ns, 16.0 over the bare call".into(),
                met: Some(true),
            }
        );
        assert_eq!(met(&report(), &Bar::Total(CLOSED, 17.5)), Some(false));
    }

    #[test]
    fn a_ratio_of_times_is_to_be_small_and_one_of_calls_large() {
        let report = report();
        let recloser = ("breaker_closed", "recloser");
        assert_eq!(met(&report, &Bar::Ratio(CLOSED, recloser, 0.9)), Some(true));
        assert_eq!(met(&report, &Bar::Ratio(CLOSED, recloser, 0.85)), Some(false));
        let shared = ("breaker_two_threads", "recloser");
        assert_eq!(met(&report, &Bar::Times(SHARED, shared, 3.0)), Some(true));
        assert_eq!(met(&report, &Bar::Times(SHARED, shared, 5.0)), Some(false));
        assert_eq!(met(&report, &Bar::Throughput(SHARED, 100.0)), Some(true));
    }

    #[test]
    fn a_ratio_has_two_digits_that_say_something() {
        let ratio = |median: f64| times(Spread { median, least: median / 2.0, most: median * 2.0 });
        assert_eq!(ratio(1.234), "1.23 × (0.62–2.47)");
        assert_eq!(ratio(0.052), "0.052 × (0.026–0.104)");
        assert_eq!(ratio(0.000_03), "0.000030 × (0.000015–0.000060)");
    }

    #[test]
    fn what_was_not_run_is_not_judged() {
        let mut report = report();
        assert_eq!(met(&report, &Bar::Total(CLOSED_NO_SLOW_CALLS, 12.0)), None);
        assert_eq!(met(&report, &Bar::Jvm(CLOSED, "breakerPermitted", 0.45)), None);
        assert_eq!(met(&report, &Bar::NoAllocation(FIVE)), None);
        report.outside.jvm.insert("breakerPermitted".into(), Operation { nanos: 90.0, bytes: None });
        assert_eq!(met(&report, &Bar::Jvm(CLOSED, "breakerPermitted", 0.45)), Some(true));
        report.allocations.insert((FIVE.0.into(), FIVE.1.into()), (1.0, 24.0));
        assert_eq!(met(&report, &Bar::NoAllocation(FIVE)), Some(false));
    }
}
