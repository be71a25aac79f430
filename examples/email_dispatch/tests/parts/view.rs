//! What is printed where there is no terminal.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use email_dispatch::{
    counters::Counters,
    request::{Kind, Priority},
    view::View,
};
use resile::CircuitBreaker;
use tokio::time::sleep;

/// Keeps what is written to it.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Page {
    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Watched {
    counters: Counters,
    breaker: CircuitBreaker,
    page: Page,
    view: View,
}

impl Watched {
    fn start(total: Option<u64>) -> Self {
        let (counters, page) = (Counters::new("primary-smtp"), Page::default());
        let breaker = CircuitBreaker::with_defaults("primary-smtp");
        let view = View::plain(counters.clone(), vec![breaker.clone()], total, page.clone());
        Self { counters, breaker, page, view }
    }

    fn send(&self, mails: u64) {
        for _ in 0..mails {
            self.counters.sent(Kind::Notification, Priority::Normal, "primary-smtp");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_line_is_printed_every_second_while_something_happens() {
    let watched = Watched::start(Some(100));
    for _ in 0..30 {
        watched.send(1);
        sleep(Duration::from_millis(100)).await;
    }
    sleep(Duration::from_millis(50)).await;
    let lines = watched.page.lines();
    assert_eq!(lines.len(), 4, "at 0, 1, 2 and 3 s: {lines:#?}");
    assert!(lines[3].starts_with("   3.0 s 30 of 100 done, 10/s; sent: primary 30"), "{lines:#?}");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_printed_while_nothing_happens() {
    let watched = Watched::start(None);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(watched.page.lines(), ["   0.0 s 0 done, 0/s"]);
}

#[tokio::test(start_paused = true)]
async fn a_breaker_that_changes_its_state_is_shown_at_once() {
    let watched = Watched::start(None);
    sleep(Duration::from_millis(250)).await;
    watched.breaker.transition_to_open().unwrap();
    sleep(Duration::from_millis(100)).await;
    let lines = watched.page.lines();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines[1].ends_with("breakers: primary-smtp OPEN"), "{lines:#?}");
}

#[tokio::test(start_paused = true)]
async fn the_last_line_has_the_last_numbers_and_the_average_rate() {
    let watched = Watched::start(Some(20));
    sleep(Duration::from_millis(3_990)).await;
    watched.send(20);
    sleep(Duration::from_millis(10)).await;
    let page = watched.page.clone();
    watched.view.finish().await;
    let last = page.lines().pop().unwrap();
    assert_eq!(last, "   4.0 s 20 of 20 done, 5/s on average; sent: primary 20");
}

#[tokio::test(start_paused = true)]
async fn notes_are_lines_without_control_characters() {
    let watched = Watched::start(None);
    watched.view.note("\x1b[31mthe primary server goes down\x1b[0m\r\x07");
    let mut notes = watched.view.notes();
    notes.write_all(b"WARN one\nWARN two\n").unwrap();
    let lines = watched.page.lines();
    assert_eq!(lines, ["[31mthe primary server goes down[0m", "WARN one", "WARN two"]);
}

#[tokio::test(start_paused = true)]
async fn a_view_that_is_dropped_prints_no_more() {
    let watched = Watched::start(None);
    sleep(Duration::from_millis(150)).await;
    let page = watched.page.clone();
    drop(watched.view);
    sleep(Duration::from_millis(150)).await;
    let lines = page.lines().len();
    watched.breaker.transition_to_open().unwrap();
    sleep(Duration::from_secs(5)).await;
    assert_eq!(page.lines().len(), lines);
}
