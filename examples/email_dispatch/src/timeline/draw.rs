//! Draws a time line. Nothing in here is about mail.

use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};
use resile::circuit_breaker::State;

use super::{
    Timeline,
    layout::{Scale, labels, overhang, shortened, step, text_width},
};
use crate::counters::Counts;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Failure = Box<dyn std::error::Error + Send + Sync>;
type Drawn = Result<(), Failure>;
type Of = fn(&Counts) -> u64;

const INK: RGBColor = RGBColor(40, 40, 40);
const GREY: RGBColor = RGBColor(110, 110, 110);
const GRID: RGBColor = RGBColor(226, 226, 226);

/// Sizes of text.
const TITLE: u32 = 26;
const HEADING: u32 = 17;
const SMALL: u32 = 15;

/// The longest name of a breaker, in characters.
const NAME: usize = 34;

const WIDTH: i32 = 1_280;
const MARGIN: i32 = 28;
const ROW: i32 = 20;
const RATES: i32 = 280;
const WAITING: i32 = 100;
const STRIP: i32 = 20;
const STRIP_GAP: i32 = 6;

/// Routes from the bottom up, in colours that colour-blind people can tell apart.
const ROUTES: [(&str, RGBColor, Of); 5] = [
    ("primary", RGBColor(0, 114, 178), |counts| counts.sent_primary),
    ("secondary", RGBColor(86, 180, 233), |counts| counts.sent_secondary),
    ("SMS", RGBColor(204, 121, 167), |counts| counts.sms_sent),
    ("given up", RGBColor(150, 150, 150), |counts| counts.given_up),
    ("dead-lettered or unknown", RGBColor(60, 60, 60), |counts| {
        counts.dead_lettered + counts.unreadable + counts.unknown
    }),
];
const FAILED: (&str, RGBColor, Of) = ("attempts that failed", RGBColor(213, 94, 0), |counts| counts.failed);
const OUTBOX: (&str, RGBColor, Of) = ("in the outbox", RGBColor(148, 119, 196), |counts| counts.outbox_waiting);
const IN_FLIGHT: (&str, RGBColor, Of) = ("in flight", RGBColor(0, 90, 60), |counts| counts.in_flight);

const STATES: [State; 3] = [State::Closed, State::HalfOpen, State::Open];

fn state_look(state: State) -> (&'static str, RGBColor, RGBColor) {
    let (color, ink) = match state {
        State::Closed => (RGBColor(120, 198, 150), INK),
        State::HalfOpen => (RGBColor(247, 190, 40), INK),
        State::Open | State::ForcedOpen => (RGBColor(202, 45, 38), WHITE),
        State::Disabled | State::MetricsOnly => (RGBColor(190, 190, 190), INK),
    };
    (state.as_str(), color, ink)
}

/// Draws `timeline` as an SVG document.
pub(super) fn svg(timeline: &Timeline) -> Result<String, Failure> {
    let names = timeline.breakers.iter().map(|strip| text_width(&shortened(&strip.name, NAME), SMALL));
    let left = names.max().unwrap_or(0).max(60) + MARGIN + 10;
    let mut scale = Scale { left, right: WIDTH - MARGIN, end: timeline.end().as_secs_f64().max(0.001) };
    let mut marks = labels(&timeline.marks, &scale, SMALL);
    // Labels at the end need room to the right of it, and with less room stand elsewhere: twice is near enough.
    for _ in 0..2 {
        scale.right = (WIDTH - MARGIN - overhang(&marks, &scale, SMALL)).max(left + 100);
        marks = labels(&timeline.marks, &scale, SMALL);
    }
    let rows = marks.iter().map(|label| label.row + 1).max().unwrap_or(0) as i32;

    let mark_top = 96;
    let rates_top = mark_top + rows * ROW + 6;
    let waiting_top = rates_top + RATES + 48;
    let strips_top = waiting_top + WAITING + 48;
    let bottom = strips_top + timeline.breakers.len() as i32 * (STRIP + STRIP_GAP);
    let height = bottom + 62;

    let mut svg = String::new();
    let root = SVGBackend::with_string(&mut svg, (WIDTH as u32, height as u32)).into_drawing_area();
    root.fill(&WHITE)?;
    write(&root, &shortened(&timeline.title, 80), (left, 28), TITLE, INK, HPos::Left)?;
    // What is vertical leaves the headings between the panels free.
    let panels = [(rates_top, rates_top + RATES), (waiting_top, waiting_top + WAITING), (strips_top, bottom)];
    x_axis(&root, &scale, &panels)?;

    let routes = ROUTES.map(|(name, color, _)| (name, color)).into_iter().chain([(FAILED.0, FAILED.1)]);
    legend(&root, "Requests done a second:", left, 68, routes)?;
    rates(&root, timeline, &scale, rates_top)?;
    legend(&root, "Waiting:", left, waiting_top - 20, [(OUTBOX.0, OUTBOX.1), (IN_FLIGHT.0, IN_FLIGHT.1)])?;
    waiting(&root, timeline, &scale, waiting_top)?;
    let states = STATES.map(|state| (state_look(state).0, state_look(state).1));
    legend(&root, "Circuit breakers:", left, strips_top - 20, states)?;
    for label in &marks {
        let top = mark_top + label.row as i32 * ROW;
        for (top, bottom) in [(top, rates_top)].iter().chain(&panels) {
            root.draw(&PathElement::new([(label.x, *top), (label.x, *bottom)], INK.mix(0.65).stroke_width(1)))?;
        }
        write(&root, &label.text, (label.x + 5, top + ROW / 2), SMALL, INK, HPos::Left)?;
    }
    for (index, strip) in timeline.breakers.iter().enumerate() {
        let top = strips_top + index as i32 * (STRIP + STRIP_GAP);
        write(&root, &shortened(&strip.name, NAME), (left - 10, top + STRIP / 2), SMALL, INK, HPos::Right)?;
        strip_of(&root, &strip.changes, &scale, top)?;
    }
    root.present()?;
    drop(root);
    Ok(svg)
}

/// Vertical lines and seconds.
fn x_axis(root: &Area<'_>, scale: &Scale, panels: &[(i32, i32)]) -> Drawn {
    let bottom = panels.iter().map(|(_, bottom)| *bottom).max().unwrap_or(0);
    let step = step(scale.end, 12);
    for index in 0..=(scale.end / step * 1.000_1) as u32 {
        let at = f64::from(index) * step;
        let x = scale.x(at);
        for (top, bottom) in panels {
            root.draw(&PathElement::new([(x, *top), (x, *bottom)], GRID.stroke_width(1)))?;
        }
        let decimals = usize::from(step < 1.0);
        write(root, &format!("{at:.decimals$}"), (x, bottom + 14), SMALL, INK, HPos::Center)?;
    }
    let middle = (scale.left + scale.right) / 2;
    write(root, "seconds since the start", (middle, bottom + 40), SMALL, INK, HPos::Center)
}

/// From a value to its height in a panel, with horizontal lines at round values.
fn y_axis(
    root: &Area<'_>,
    scale: &Scale,
    (top, height): (i32, i32),
    most: f64,
    count: u32,
) -> Result<impl Fn(f64) -> i32 + use<>, Failure> {
    let step = step(most.max(1.0), count).max(1.0);
    let most = (most.max(1.0) / step).ceil() * step;
    let y = move |value: f64| top + height - (f64::from(height) * (value / most).clamp(0.0, 1.0)).round() as i32;
    for index in 0..=(most / step).round() as u32 {
        let value = f64::from(index) * step;
        let line = if index == 0 { GREY } else { GRID };
        root.draw(&PathElement::new([(scale.left, y(value)), (scale.right, y(value))], line.stroke_width(1)))?;
        write(root, &format!("{value:.0}"), (scale.left - 10, y(value)), SMALL, INK, HPos::Right)?;
    }
    Ok(y)
}

/// The routes, one upon another, and the failed attempts as a line before them.
fn rates(root: &Area<'_>, timeline: &Timeline, scale: &Scale, top: i32) -> Drawn {
    let span = (scale.end / 80.0).max(0.5);
    let moments: Vec<_> = (0..=300).map(|index| scale.end * f64::from(index) / 300.0).collect();
    let mut stack = vec![vec![0.0; moments.len()]];
    for (_, _, of) in ROUTES {
        let below = &stack[stack.len() - 1];
        let above = moments.iter().zip(below).map(|(at, below)| below + timeline.rate(*at, span, of)).collect();
        stack.push(above);
    }
    let failed: Vec<_> = moments.iter().map(|at| timeline.rate(*at, span, FAILED.2)).collect();
    let most = stack[ROUTES.len()].iter().chain(&failed).copied().fold(0.0, f64::max);
    let y = y_axis(root, scale, (top, RATES), most, 6)?;
    let line =
        |values: &[f64]| moments.iter().zip(values).map(|(at, value)| (scale.x(*at), y(*value))).collect::<Vec<_>>();
    for ((_, color, _), pair) in ROUTES.iter().zip(stack.windows(2)) {
        if pair[0] == pair[1] {
            continue;
        }
        let outline: Vec<_> = line(&pair[1]).into_iter().chain(line(&pair[0]).into_iter().rev()).collect();
        root.draw(&Polygon::new(outline, color.mix(0.85).filled()))?;
    }
    let points: Vec<_> = line(&failed).into_iter().zip(failed).collect();
    for line in points.split(|(_, rate)| *rate == 0.0).filter(|line| !line.is_empty()) {
        let line: Vec<_> = line.iter().map(|(point, _)| *point).collect();
        root.draw(&PathElement::new(line, FAILED.1.stroke_width(2)))?;
    }
    Ok(())
}

/// What waits in the outbox as an area, what is in flight as a line.
fn waiting(root: &Area<'_>, timeline: &Timeline, scale: &Scale, top: i32) -> Drawn {
    let most = timeline.samples.iter().map(|(_, counts)| (OUTBOX.2)(counts).max((IN_FLIGHT.2)(counts))).max();
    let y = y_axis(root, scale, (top, WAITING), most.unwrap_or(0) as f64, 3)?;
    let line = |of: Of| {
        let point = |(at, counts): &(std::time::Duration, Counts)| (scale.x(at.as_secs_f64()), y(of(counts) as f64));
        timeline.samples.iter().map(point).collect::<Vec<_>>()
    };
    let mut outline = line(OUTBOX.2);
    if let (Some(&(first, _)), Some(&(last, _))) = (outline.first(), outline.last()) {
        outline.extend([(last, y(0.0)), (first, y(0.0))]);
        root.draw(&Polygon::new(outline, OUTBOX.1.mix(0.7).filled()))?;
    }
    root.draw(&PathElement::new(line(IN_FLIGHT.2), IN_FLIGHT.1.stroke_width(2)))?;
    Ok(())
}

/// One breaker: a rectangle for each state, with its name where there is room. However short, it can be seen.
fn strip_of(root: &Area<'_>, changes: &[(std::time::Duration, State)], scale: &Scale, top: i32) -> Drawn {
    let mut changes: Vec<_> = changes.iter().map(|(at, state)| (at.as_secs_f64(), *state)).collect();
    // They come from several threads.
    changes.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    let ends = changes.iter().skip(1).map(|(at, _)| *at).chain([scale.end]);
    let mut spans: Vec<_> = changes.iter().zip(ends).map(|((from, state), to)| (*state, *from, to)).collect();
    // What is rare and short is drawn last, over what is not.
    spans.sort_by_key(|(state, ..)| match state {
        State::HalfOpen => 2,
        State::Open | State::ForcedOpen => 1,
        State::Closed | State::Disabled | State::MetricsOnly => 0,
    });
    for (state, from, to) in spans {
        let (name, color, ink) = state_look(state);
        let (from, to) = (scale.x(from), scale.x(to));
        root.draw(&Rectangle::new([(from, top), (to.max(from + 3), top + STRIP)], color.filled()))?;
        if state != State::Closed && to - from > text_width(name, SMALL - 2) + 6 {
            let middle = ((from + to) / 2, top + STRIP / 2);
            write(root, name, middle, SMALL - 2, ink, HPos::Center)?;
        }
    }
    Ok(())
}

fn legend<'a>(
    root: &Area<'_>,
    heading: &str,
    left: i32,
    middle: i32,
    entries: impl IntoIterator<Item = (&'a str, RGBColor)>,
) -> Drawn {
    write(root, heading, (left, middle), HEADING, INK, HPos::Left)?;
    let mut x = left + text_width(heading, HEADING);
    for (name, color) in entries {
        root.draw(&Rectangle::new([(x, middle - 6), (x + 14, middle + 7)], color.filled()))?;
        write(root, name, (x + 20, middle), SMALL, INK, HPos::Left)?;
        x += 20 + text_width(name, SMALL) + 16;
    }
    Ok(())
}

fn write(root: &Area<'_>, text: &str, at: (i32, i32), size: u32, color: RGBColor, side: HPos) -> Drawn {
    let style = ("sans-serif", size).into_font().color(&color).pos(Pos::new(side, VPos::Center));
    root.draw(&Text::new(text.to_owned(), at, style))?;
    Ok(())
}
