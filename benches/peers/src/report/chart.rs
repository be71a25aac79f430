//! The chart for the README: a panel for each of the main calls, and in it a bar for each crate.

use std::{error::Error, path::Path};

use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::measured::Measured;

/// What is shown of a row: a contender and what it is called here.
type Panel = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

const PANELS: [Panel; 6] = [
    (
        "Circuit breaker, closed",
        "breaker_closed",
        &[
            ("resile", "resile"),
            ("resile, no slow calls", "resile, no slow calls"),
            ("recloser", "recloser"),
            ("failsafe", "failsafe"),
            ("circuitbreaker-rs", "circuitbreaker-rs"),
            ("seatbelt", "seatbelt"),
            ("tower-resilience", "tower-resilience"),
        ],
    ),
    (
        "Circuit breaker, open",
        "breaker_open",
        &[
            ("resile", "resile"),
            ("recloser", "recloser"),
            ("failsafe", "failsafe"),
            ("circuitbreaker-rs", "circuitbreaker-rs"),
            ("seatbelt", "seatbelt"),
            ("tower-resilience", "tower-resilience"),
        ],
    ),
    (
        "Rate limiter around a call",
        "limiter_call",
        &[
            ("resile", "resile"),
            ("governor", "governor"),
            ("ratelimit", "ratelimit"),
            ("tower", "tower"),
            ("tower-resilience", "tower-resilience"),
        ],
    ),
    (
        "Bulkhead, admitted",
        "bulkhead_admitted",
        &[
            ("resile", "resile"),
            ("tokio Semaphore", "tokio Semaphore"),
            ("tower", "tower"),
            ("tower-resilience", "tower-resilience"),
        ],
    ),
    (
        "Time limiter, call pending once",
        "time_pending",
        &[
            ("resile", "resile"),
            ("seatbelt", "seatbelt"),
            ("tokio timeout", "tokio timeout"),
            ("tower", "tower"),
            ("tower-resilience", "tower-resilience"),
        ],
    ),
    (
        "Five policies around a call",
        "five_policies",
        &[
            ("resile", "resile"),
            ("resile, five tower layers", "resile, tower layers"),
            ("by hand", "best crates by hand"),
            ("tower-resilience", "tower-resilience"),
        ],
    ),
];

const COLUMNS: usize = 2;
const WIDTH: i32 = 470;
const MARGIN: i32 = 20;
const HEAD: i32 = 50;
const LINE: i32 = 24;
/// What a panel takes beside its bars.
const FRAME: i32 = 56;
const LABELS: i32 = 150;
const VALUES: i32 = 60;

/// A card of its own colour, so that it reads on a light and on a dark page.
const CARD: RGBColor = RGBColor(0xfb, 0xfb, 0xfd);
const INK: RGBColor = RGBColor(0x1f, 0x23, 0x28);
const FAINT: RGBColor = RGBColor(0x59, 0x63, 0x6e);
const OURS: RGBColor = RGBColor(0xd9, 0x48, 0x0f);
const THEIRS: RGBColor = RGBColor(0xa3, 0xb1, 0xc2);

/// Draws what was measured of it.
pub(crate) fn draw(path: &Path, measured: &Measured) -> Result<(), Box<dyn Error>> {
    let panels: Vec<_> = PANELS.iter().map(|(title, row, shown)| (title, bars(measured, row, shown))).collect();
    let lines: Vec<_> = panels.chunks(COLUMNS).collect();
    let height = |line: &[(_, Vec<_>)]| {
        let most = line.iter().map(|(_, bars)| bars.len()).max().unwrap_or(0);
        FRAME + most as i32 * LINE
    };
    let size = (MARGIN * 2 + WIDTH * COLUMNS as i32, HEAD + lines.iter().map(|line| height(line)).sum::<i32>());
    let canvas = SVGBackend::new(path, (size.0 as u32, size.1 as u32)).into_drawing_area();
    canvas.fill(&CARD)?;
    let head = "Nanoseconds for a call, the bare call included: shorter is better";
    canvas.draw_text(head, &text(16, &FAINT), (MARGIN, MARGIN - 4))?;
    let mut top = HEAD;
    for line in lines {
        for (column, (title, bars)) in line.iter().enumerate() {
            panel(&canvas, (MARGIN + column as i32 * WIDTH, top), title, bars)?;
        }
        top += height(line);
    }
    canvas.present()?;
    Ok(())
}

fn text(size: i32, color: &RGBColor) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(color)
}

/// One call: a bar for each crate.
fn panel<B: DrawingBackend>(
    canvas: &DrawingArea<B, Shift>,
    (left, top): (i32, i32),
    title: &str,
    bars: &[(&str, f64)],
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    canvas.draw_text(title, &text(17, &INK), (left, top))?;
    let longest = bars.iter().map(|(_, nanos)| *nanos).fold(f64::MIN_POSITIVE, f64::max);
    let room = f64::from(WIDTH - LABELS - VALUES - MARGIN);
    for (place, (name, nanos)) in bars.iter().enumerate() {
        let top = top + 30 + place as i32 * LINE;
        let (start, middle) = (left + LABELS, top + LINE / 2);
        let end = start + ((nanos / longest * room).round() as i32).max(2);
        let (fill, ink) = if name.starts_with("resile") { (OURS, OURS) } else { (THEIRS, INK) };
        let label = text(14, &ink).pos(Pos::new(HPos::Right, VPos::Center));
        canvas.draw_text(name, &label, (start - 8, middle))?;
        canvas.draw(&Rectangle::new([(start, top + 4), (end, top + LINE - 4)], fill.filled()))?;
        let value = text(14, &INK).pos(Pos::new(HPos::Left, VPos::Center));
        canvas.draw_text(&rounded(*nanos), &value, (end + 6, middle))?;
    }
    Ok(())
}

/// What there is of a panel, the fastest first.
fn bars<'a>(measured: &Measured, row: &str, shown: &[(&str, &'a str)]) -> Vec<(&'a str, f64)> {
    let value = |(who, name): &(&str, &'a str)| Some((*name, measured.nanos(row, who)?.median));
    let mut bars: Vec<_> = shown.iter().filter_map(value).collect();
    bars.sort_by(|one, other| one.1.total_cmp(&other.1));
    bars
}

fn rounded(nanos: f64) -> String {
    if nanos < 9.95 { format!("{nanos:.1}") } else { format!("{nanos:.0}") }
}

#[cfg(test)]
mod tests {
    use super::{PANELS, bars, rounded};
    use crate::report::measured::Measured;

    #[test]
    fn the_fastest_comes_first_and_what_was_not_measured_not_at_all() {
        let mut measured = Measured::default();
        measured.insert("row/slow", 1, 30.0);
        measured.insert("row/fast", 1, 3.0);
        let shown = [("slow", "Slow"), ("absent", "Absent"), ("fast", "Fast")];
        assert_eq!(bars(&measured, "row", &shown), [("Fast", 3.0), ("Slow", 30.0)]);
    }

    #[test]
    fn every_bar_shows_a_contender() {
        let rows = resile_peers::rows();
        for (_, id, shown) in PANELS {
            let row = rows.iter().find(|row| row.id == id).expect("a row");
            for (who, _) in shown {
                assert!(row.contenders.iter().any(|contender| contender.name == *who), "{id}: {who}");
            }
        }
    }

    #[test]
    fn a_value_has_two_digits_or_more() {
        assert_eq!([rounded(6.04), rounded(9.96), rounded(921.4)], ["6.0", "10", "921"]);
    }
}
