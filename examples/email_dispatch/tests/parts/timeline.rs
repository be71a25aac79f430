//! The time line of a run.

use std::time::Duration;

use email_dispatch::{
    counters::{Counters, Counts},
    request::{Kind, Priority},
    timeline::{Recorder, Timeline},
};
use resile::{CircuitBreaker, circuit_breaker::State};
use tokio::time::sleep;

const GREEN: &str = "#78C696";
const AMBER: &str = "#F7BE28";
const RED: &str = "#CA2D26";

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// 30 s in which the first server fails for a while, and then the broker.
fn a_run() -> Timeline {
    let names = ["kafka-publisher", "primary-smtp", "primary-smtp-marketing", "secondary-smtp"];
    let mut timeline = Timeline::new("2,000 requests through failing servers", names);
    let mut counts = Counts::default();
    for tenth in 0..=300_u64 {
        let is_down = (60..140).contains(&tenth);
        let is_away = (180..230).contains(&tenth);
        match (is_down, is_away) {
            (true, _) => {
                counts.sent_secondary += 6;
                counts.failed += u64::from(tenth < 70) * 5;
                counts.given_up += u64::from(tenth < 70);
                counts.sms_sent += u64::from(tenth % 5 == 0);
            }
            (_, true) => counts.outbox_waiting += 9,
            _ => counts.sent_primary += 9,
        }
        if tenth >= 230 {
            counts.outbox_waiting = counts.outbox_waiting.saturating_sub(30);
        }
        counts.in_flight = 40 + tenth % 7;
        let open = if is_down { State::Open } else { State::Closed };
        let publisher = if is_away { State::Open } else { State::Closed };
        timeline.sample(at(tenth * 100), counts, &[publisher, open, open, State::Closed]);
    }
    timeline.transition(at(14_000), 1, State::HalfOpen);
    timeline.mark(at(6_000), "primary goes down");
    timeline.mark(at(14_000), "primary is back, slow");
    timeline.mark(at(18_000), "broker stops");
    timeline.mark(at(23_000), "broker is back");
    timeline
}

/// The texts of an SVG.
fn texts(svg: &str) -> Vec<String> {
    let texts = svg.split("<text").skip(1).filter_map(|text| text.split_once('>')?.1.split_once("</text>"));
    texts.map(|(text, _)| text.trim().to_owned()).collect()
}

fn rectangles(svg: &str, color: &str) -> usize {
    svg.lines().filter(|line| line.starts_with("<rect") && line.contains(color)).count()
}

/// To look at it: `EMAIL_DISPATCH_TEST_SVG=run.svg cargo test -p email-dispatch --test parts a_time_line_names`.
#[test]
fn a_time_line_names_its_breakers_routes_states_and_marks() {
    let svg = a_run().svg().unwrap();
    if let Some(path) = std::env::var_os("EMAIL_DISPATCH_TEST_SVG") {
        std::fs::write(path, &svg).unwrap();
    }
    let texts = texts(&svg);
    let expected = [
        "2,000 requests through failing servers",
        "kafka-publisher",
        "primary-smtp-marketing",
        "primary",
        "secondary",
        "SMS",
        "given up",
        "in the outbox",
        "CLOSED",
        "HALF_OPEN",
        "OPEN",
        "primary goes down",
        "broker is back",
        "seconds since the start",
    ];
    for expected in expected {
        assert!(texts.iter().any(|text| text == expected), "{expected} is not in {texts:?}");
    }
}

#[test]
fn each_state_of_a_breaker_has_its_colour() {
    let mut timeline = Timeline::new("", ["a"]);
    let states = [State::Closed, State::Open, State::HalfOpen, State::Open, State::HalfOpen, State::Closed];
    for (second, state) in states.into_iter().enumerate() {
        timeline.sample(at(second as u64 * 1_000), Counts::default(), &[state]);
    }
    let svg = timeline.svg().unwrap();
    // One of each in the legend.
    assert_eq!([GREEN, RED, AMBER].map(|color| rectangles(&svg, color)), [3, 3, 3]);
}

#[test]
fn the_same_is_drawn_from_the_same() {
    assert_eq!(a_run().svg().unwrap(), a_run().svg().unwrap());
}

#[test]
fn a_time_line_of_nothing_can_be_drawn() {
    for timeline in [Timeline::new("", [""; 0]), Timeline::new("nothing", ["a"])] {
        let svg = timeline.svg().unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }
}

#[test]
fn what_is_written_in_a_name_is_no_markup() {
    let mut timeline = Timeline::new("<script>", ["a & b"]);
    timeline.mark(at(1), "</svg>");
    let svg = timeline.svg().unwrap();
    assert!(!svg.contains("<script>") && svg.matches("</svg>").count() == 1, "{svg}");
}

#[test]
fn a_sample_from_before_an_earlier_one_is_ignored() {
    let mut timeline = Timeline::new("", ["a"]);
    timeline.sample(at(2_000), Counts::default(), &[State::Closed]);
    timeline.sample(at(1_000), Counts::default(), &[State::Open]);
    assert_eq!(timeline.end(), at(2_000));
    assert_eq!(rectangles(&timeline.svg().unwrap(), RED), 1, "only in the legend");
}

#[tokio::test(start_paused = true)]
async fn a_recorder_notes_even_what_lasts_for_a_moment() {
    let (counters, breaker) = (Counters::new("primary-smtp"), CircuitBreaker::with_defaults("primary-smtp"));
    let recorder = Recorder::start("a run", counters.clone(), vec![breaker.clone()], at(200));
    sleep(at(1_050)).await;
    breaker.transition_to_open().unwrap();
    breaker.transition_to_half_open().unwrap();
    breaker.transition_to_closed().unwrap();
    recorder.mark("it was tried");
    counters.sent(Kind::Notification, Priority::Normal, "primary-smtp");
    sleep(at(950)).await;
    let timeline = recorder.finish().await;
    assert_eq!(timeline.end(), at(2_000));
    let svg = timeline.svg().unwrap();
    assert_eq!([GREEN, RED, AMBER].map(|color| rectangles(&svg, color)), [3, 2, 2]);
    assert!(texts(&svg).contains(&"it was tried".to_owned()));
}
