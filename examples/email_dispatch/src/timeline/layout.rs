//! Where everything goes. Plain arithmetic in pixels.

use std::time::Duration;

/// About how wide a text is, in pixels, rather too wide: there is no font to ask. `size` is that of `plotters`, which is
/// 1.24 times the font's.
pub(super) fn text_width(text: &str, size: u32) -> i32 {
    (text.chars().count() as f64 * f64::from(size) * 0.52).ceil() as i32
}

/// From a moment to its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    pub(super) left: i32,
    pub(super) right: i32,
    /// The moment at the right end, in seconds.
    pub(super) end: f64,
}

impl Scale {
    pub(super) fn x(&self, at: f64) -> i32 {
        self.left + (f64::from(self.right - self.left) * (at / self.end).clamp(0.0, 1.0)).round() as i32
    }
}

/// The distance of about `count` round numbers from zero to `most`: 1, 2 or 5 with noughts.
pub(super) fn step(most: f64, count: u32) -> f64 {
    let rough = (most / f64::from(count)).max(f64::MIN_POSITIVE);
    let power = 10_f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power).into_iter().find(|step| *step >= rough * 0.999).unwrap_or(rough)
}

/// A label beside its line.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Label {
    pub(super) x: i32,
    /// From the top.
    pub(super) row: usize,
    pub(super) text: String,
}

/// Puts labels to the right of their lines. A line that would cross labels begins below them, and so does its own
/// label; so no two labels overlap, and no line goes through one.
pub(super) fn labels(marks: &[(Duration, String)], scale: &Scale, size: u32) -> Vec<Label> {
    const GAP: i32 = 14;
    let mut marks: Vec<_> = marks.iter().collect();
    marks.sort_by_key(|(at, _)| *at);
    let mut labels = Vec::<Label>::new();
    for (at, text) in marks {
        let x = scale.x(at.as_secs_f64());
        let in_the_way = labels.iter().filter(|label| label.x + text_width(&label.text, size) + GAP > x);
        let row = in_the_way.map(|label| label.row + 1).max().unwrap_or(0);
        labels.push(Label { x, row, text: shortened(text, 40) });
    }
    labels
}

/// How far labels go beyond the right end.
pub(super) fn overhang(labels: &[Label], scale: &Scale, size: u32) -> i32 {
    labels.iter().map(|label| label.x + text_width(&label.text, size) - scale.right).max().unwrap_or(0).max(0)
}

pub(super) fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some(_) => text.chars().take(most - 1).chain(['…']).collect(),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCALE: Scale = Scale { left: 100, right: 1_100, end: 10.0 };

    fn mark(at: u64, text: &str) -> (Duration, String) {
        (Duration::from_millis(at), text.to_owned())
    }

    #[test]
    fn moments_are_placed_between_the_ends() {
        assert_eq!([-1.0, 0.0, 5.0, 10.0, 11.0].map(|at| SCALE.x(at)), [100, 100, 600, 1_100, 1_100]);
    }

    #[test]
    fn steps_are_round_numbers() {
        let steps = [(10.0, 5), (47.0, 10), (1_234.0, 5), (0.9, 5), (3.0, 3)].map(|(most, count)| step(most, count));
        for (step, expected) in steps.into_iter().zip([2.0, 5.0, 500.0, 0.2, 1.0]) {
            assert!((step - expected).abs() < 1e-9, "{step} is not {expected}");
        }
    }

    #[test]
    fn no_label_overlaps_another_and_no_line_crosses_one() {
        let marks: Vec<_> =
            (0..30).map(|n| mark((n * 7_919) % 10_000, &"x".repeat((n * 31 % 37) as usize + 1))).collect();
        let labels = labels(&marks, &SCALE, 14);
        assert_eq!(labels.len(), marks.len());
        for (index, label) in labels.iter().enumerate() {
            for later in &labels[index + 1..] {
                let reaches = label.x + text_width(&label.text, 14) > later.x;
                assert!(!reaches || later.row > label.row, "{label:?} {later:?}");
            }
        }
    }

    #[test]
    fn labels_far_apart_share_the_first_row() {
        let labels = labels(&[mark(8_000, "b"), mark(1_000, "a")], &SCALE, 14);
        assert_eq!(
            labels.iter().map(|label| (label.text.as_str(), label.row)).collect::<Vec<_>>(),
            [("a", 0), ("b", 0)]
        );
    }

    #[test]
    fn a_label_at_the_end_hangs_over() {
        assert_eq!(overhang(&labels(&[mark(10_000, "0123456789")], &SCALE, 10), &SCALE, 10), 52);
        assert_eq!(overhang(&labels(&[mark(1_000, "0123456789")], &SCALE, 10), &SCALE, 10), 0);
    }

    #[test]
    fn a_long_label_is_cut() {
        assert_eq!(shortened("äöü", 3), "äöü");
        assert_eq!(shortened("äöüß", 3), "äö…");
    }
}
