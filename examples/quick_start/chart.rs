//! Draws the time line. Nothing in here is about resilience.

use std::path::Path;

use plotters::{
    coord::Shift,
    prelude::*,
    style::{
        Color, RGBColor,
        text_anchor::{HPos, Pos, VPos},
    },
};
use resile::{
    BoxError,
    circuit_breaker::{Metrics, State},
};

use crate::{
    server::Mood,
    story::{CallKind, Timeline},
};

type Rate = fn(&Metrics) -> Option<f32>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

// The palette of Okabe and Ito, which colour-blind people can tell apart.
const BLUE: RGBColor = RGBColor(0, 114, 178);
const ORANGE: RGBColor = RGBColor(230, 159, 0);
const VERMILLION: RGBColor = RGBColor(213, 94, 0);
const YELLOW: RGBColor = RGBColor(240, 228, 66);
const GREY: RGBColor = RGBColor(150, 150, 150);
const INK: RGBColor = RGBColor(40, 40, 40);

const WIDTH: u32 = 1200;
const LEFT: u32 = 90;
const RIGHT: u32 = 30;
const BUCKET: f64 = 0.1;

fn state_look(state: State) -> (&'static str, RGBColor) {
    match state {
        State::Open => ("open", RGBColor(176, 176, 176)),
        State::HalfOpen => ("half-open", YELLOW),
        _ => ("closed", RGBColor(204, 227, 240)),
    }
}

fn mood_look(mood: Mood) -> (&'static str, RGBColor) {
    match mood {
        Mood::Healthy => ("healthy", RGBColor(204, 227, 240)),
        Mood::Failing => ("failing", RGBColor(238, 190, 153)),
        Mood::Slow => ("slow", RGBColor(247, 222, 163)),
    }
}

fn kind_look(kind: CallKind) -> (&'static str, RGBColor) {
    match kind {
        CallKind::Succeeded => ("succeeded", BLUE),
        CallKind::Slow => ("succeeded slowly", ORANGE),
        CallKind::Failed => ("failed", VERMILLION),
        CallKind::Rejected => ("rejected", GREY),
    }
}

/// Draws `timeline` into an SVG file.
pub(crate) fn draw(path: &Path, settings: &str, timeline: &Timeline) -> Result<(), BoxError> {
    let root = SVGBackend::new(path, (WIDTH, 820)).into_drawing_area();
    root.fill(&WHITE)?;
    let title = text(26, INK).pos(Pos::new(HPos::Left, VPos::Top));
    root.draw(&Text::new("A circuit breaker around an HTTP call", (LEFT as i32, 14), title))?;
    let subtitle = text(15, INK).pos(Pos::new(HPos::Left, VPos::Top));
    root.draw(&Text::new(settings, (LEFT as i32, 48), subtitle))?;
    let (_, below) = root.split_vertically(72);
    let (bands, below) = below.split_vertically(104);
    let (rates, calls) = below.split_vertically(330);
    draw_bands(&bands, timeline)?;
    draw_rates(&rates, timeline)?;
    draw_calls(&calls, timeline)?;
    root.present()?;
    Ok(())
}

fn text(size: u32, color: RGBColor) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&color)
}

/// From each entry to the next, or to the end.
fn spans<T: Copy>(entries: &[(f64, T)], end: f64) -> impl Iterator<Item = (f64, f64, T)> + '_ {
    let ends = entries.iter().skip(1).map(|(at, _)| *at).chain([end]);
    entries.iter().zip(ends).map(|((from, value), to)| (*from, to, *value))
}

/// What the server does and what the breaker makes of it, in words.
fn draw_bands(area: &Area<'_>, timeline: &Timeline) -> Result<(), BoxError> {
    let mut chart = ChartBuilder::on(area)
        .set_label_area_size(LabelAreaPosition::Left, LEFT)
        .margin_right(RIGHT)
        .build_cartesian_2d(0.0..timeline.end, 0..104)?;
    let centre = Pos::new(HPos::Center, VPos::Center);
    let mut band = |from: f64, to: f64, rows: (i32, i32), name: &'static str, color: RGBColor| {
        chart.draw_series([
            Rectangle::new([(from, rows.0), (to, rows.1)], color.filled()),
            Rectangle::new([(from, rows.0), (to, rows.1)], WHITE.stroke_width(1)),
        ])?;
        let middle = f64::midpoint(from, to);
        let fits = to - from > timeline.end * 0.012 * name.len() as f64;
        let row = if fits { (rows.0 + rows.1) / 2 } else { rows.1 + 10 };
        chart.draw_series([Text::new(name, (middle, row), text(if fits { 16 } else { 12 }, INK).pos(centre))])?;
        Ok::<(), BoxError>(())
    };
    for (from, to, mood) in spans(&timeline.moods, timeline.end) {
        let (name, color) = mood_look(mood);
        band(from, to, (66, 96), name, color)?;
    }
    for (from, to, state) in spans(&timeline.states, timeline.end) {
        let (name, color) = state_look(state);
        band(from, to, (8, 42), name, color)?;
    }
    let right = text(16, INK).pos(Pos::new(HPos::Right, VPos::Center));
    area.draw(&Text::new("server", (LEFT as i32 - 10, 23), right.clone()))?;
    area.draw(&Text::new("circuit", (LEFT as i32 - 10, 79), right))?;
    Ok(())
}

/// Tints the times in which the circuit is not closed.
fn shades(timeline: &Timeline, bottom: f64, top: f64) -> impl Iterator<Item = Rectangle<(f64, f64)>> + '_ {
    spans(&timeline.states, timeline.end).filter(|(.., state)| *state != State::Closed).map(move |(from, to, state)| {
        let (_, color) = state_look(state);
        Rectangle::new([(from, bottom), (to, top)], color.mix(0.3).filled())
    })
}

fn draw_rates(area: &Area<'_>, timeline: &Timeline) -> Result<(), BoxError> {
    legend(area, "Share of the calls in the window that", &[("failed", VERMILLION), ("were slow", ORANGE)])?;
    let mut chart = ChartBuilder::on(area)
        .margin_top(44)
        .margin_right(RIGHT)
        .set_label_area_size(LabelAreaPosition::Left, LEFT)
        .set_label_area_size(LabelAreaPosition::Bottom, 30)
        .build_cartesian_2d(0.0..timeline.end, -3.0..104.0)?;
    chart.draw_series(shades(timeline, -3.0, 104.0))?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .y_labels(5)
        .y_label_formatter(&|percent| format!("{percent:.0} %"))
        .x_label_formatter(&|second| format!("{second:.1} s"))
        .label_style(text(15, INK))
        .draw()?;
    chart.draw_series(DashedLineSeries::new([(0.0, 50.0), (timeline.end, 50.0)], 8, 6, GREY.stroke_width(2)))?;
    let above = text(14, INK).pos(Pos::new(HPos::Left, VPos::Bottom));
    chart.draw_series([Text::new("threshold", (timeline.end * 0.005, 51.0), above)])?;
    let rates: [(Rate, RGBColor); 2] =
        [(|metrics| metrics.slow_call_rate, ORANGE), (|metrics| metrics.failure_rate, VERMILLION)];
    for (rate, color) in rates {
        // Below the minimum number of calls there is no rate, and the line has a gap.
        let points: Vec<_> = timeline.rates.iter().map(|(at, metrics)| (*at, rate(metrics).map(f64::from))).collect();
        for line in points.split(|(_, rate)| rate.is_none()) {
            let line = line.iter().filter_map(|(at, rate)| Some((*at, (*rate)?)));
            chart.draw_series(LineSeries::new(line, color.stroke_width(3)))?;
        }
    }
    Ok(())
}

fn draw_calls(area: &Area<'_>, timeline: &Timeline) -> Result<(), BoxError> {
    let kinds = [CallKind::Succeeded, CallKind::Slow, CallKind::Failed, CallKind::Rejected];
    legend(area, "Calls that ended, per 100 ms:", &kinds.map(kind_look))?;
    let buckets = (timeline.end / BUCKET).ceil() as usize;
    let mut counts = vec![[0_u32; 4]; buckets];
    for (at, kind) in &timeline.calls {
        let bucket = ((at / BUCKET) as usize).min(buckets - 1);
        counts[bucket][*kind as usize] += 1;
    }
    let highest = counts.iter().map(|count| count.iter().sum::<u32>()).max().unwrap_or_default();
    let top = f64::from(highest) * 1.05;
    let mut chart = ChartBuilder::on(area)
        .margin_top(44)
        .margin_right(RIGHT)
        .margin_bottom(12)
        .set_label_area_size(LabelAreaPosition::Left, LEFT)
        .set_label_area_size(LabelAreaPosition::Bottom, 50)
        .build_cartesian_2d(0.0..timeline.end, 0.0..top)?;
    chart.draw_series(shades(timeline, 0.0, top))?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .y_labels(6)
        .y_label_formatter(&|calls| format!("{calls:.0}"))
        .x_label_formatter(&|second| format!("{second:.1} s"))
        .x_desc("seconds since the start")
        .axis_desc_style(text(15, INK))
        .label_style(text(15, INK))
        .draw()?;
    for (bucket, count) in counts.iter().enumerate() {
        let from = bucket as f64 * BUCKET;
        let mut below = 0;
        for kind in kinds {
            let above = below + count[kind as usize];
            let corners =
                [(from + 0.01, f64::from(below)), ((from + BUCKET - 0.01).min(timeline.end), f64::from(above))];
            chart.draw_series([Rectangle::new(corners, kind_look(kind).1.filled())])?;
            below = above;
        }
    }
    Ok(())
}

fn legend(area: &Area<'_>, title: &str, entries: &[(&str, RGBColor)]) -> Result<(), BoxError> {
    let mut x = LEFT as i32;
    let middle = 24;
    let left = Pos::new(HPos::Left, VPos::Center);
    let style = text(17, INK).pos(left);
    area.draw(&Text::new(title.to_owned(), (x, middle), style.clone()))?;
    x += area.estimate_text_size(title, &style)?.0 as i32 + 30;
    let style = text(15, INK).pos(left);
    for (name, color) in entries {
        area.draw(&Rectangle::new([(x, middle - 6), (x + 14, middle + 6)], color.filled()))?;
        x += 20;
        area.draw(&Text::new((*name).to_owned(), (x, middle), style.clone()))?;
        x += area.estimate_text_size(name, &style)?.0 as i32 + 24;
    }
    Ok(())
}
