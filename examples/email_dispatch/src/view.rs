//! Shows in the terminal what is going on: how far it is, how fast, by which routes, and what each breaker does.
//!
//! Where there is no terminal, as in a pipe or a log file, it prints a plain line instead: every second while something
//! happens, and at once when a breaker changes its state. `NO_COLOR` is honoured.

mod panel;

use std::{
    collections::VecDeque,
    fmt,
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use console::Term;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use resile::{CircuitBreaker, circuit_breaker::State};
use tokio::time::{self, Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::panel::Moment;
use crate::{counters::Counters, settings::View as Drawn};

/// How often to look.
const TICK: Duration = Duration::from_millis(100);
/// How often to print a plain line.
const LINE: Duration = Duration::from_secs(1);
/// Over which time the rate is taken.
const RATE_SPAN: Duration = Duration::from_secs(2);

/// Shows it until it is [finished](Self::finish) or dropped.
#[derive(Debug)]
pub struct View {
    screen: Screen,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl View {
    /// Shows it on stderr, which leaves stdout to results. `total` is the number of requests that are to be done, if
    /// that is known. `drawn` says whether it is drawn where there is a terminal, always, or never. A breaker named like another with more behind it, as `primary-smtp-marketing`, is shown beside it.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn start(drawn: Drawn, counters: Counters, breakers: Vec<CircuitBreaker>, total: Option<u64>) -> Self {
        let terminal = Term::stderr();
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        if !is_drawn(drawn, terminal.is_term() && !is_dumb) {
            return Self::plain(counters, breakers, total, io::stderr());
        }
        // A target that is told to be a terminal draws even where there is none.
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(terminal), 10);
        let bar = ProgressBar::with_draw_target(total, target).with_style(style(total.is_some()));
        Self::on(Screen::Terminal(bar), counters, breakers, total)
    }

    /// Prints plain lines there, without control characters.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn plain(
        counters: Counters,
        breakers: Vec<CircuitBreaker>,
        total: Option<u64>,
        out: impl Write + Send + 'static,
    ) -> Self {
        Self::on(Screen::Plain(Arc::new(Mutex::new(out))), counters, breakers, total)
    }

    fn on(screen: Screen, counters: Counters, breakers: Vec<CircuitBreaker>, total: Option<u64>) -> Self {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let task = Task {
            screen: screen.clone(),
            counters,
            breakers,
            total,
            start: Instant::now(),
            rate: RateMeter::default(),
            printed: None,
        };
        tasks.spawn(task.run(stop.clone()));
        tasks.close();
        Self { screen, stop, tasks }
    }

    /// Prints a line, in a terminal above what is shown.
    pub fn note(&self, text: &str) {
        self.screen.note(text);
    }

    /// Where others can print lines without tearing what is shown, such as `tracing_subscriber`:
    /// `.with_writer(move || notes.clone())`.
    #[must_use]
    pub fn notes(&self) -> Notes {
        Notes(self.screen.clone())
    }

    /// Shows the last state, which remains, and ends.
    pub async fn finish(self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Prints each line written to it as a [note](View::note).
#[derive(Clone, Debug)]
pub struct Notes(Screen);

impl Write for Notes {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        for line in String::from_utf8_lossy(text).lines() {
            self.0.note(line);
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Clone)]
enum Screen {
    Terminal(ProgressBar),
    Plain(Arc<Mutex<dyn Write + Send>>),
}

impl Screen {
    /// That a line cannot be printed is nothing that work should end for.
    fn note(&self, text: &str) {
        match self {
            Self::Terminal(bar) if !bar.is_finished() => bar.println(text),
            Self::Terminal(_) => _ = Term::stderr().write_line(text),
            Self::Plain(out) => {
                let text: String = text.chars().filter(|c| !c.is_control()).collect();
                _ = writeln!(out.lock().unwrap_or_else(PoisonError::into_inner), "{text}");
            }
        }
    }
}

impl fmt::Debug for Screen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Terminal(_) => "Terminal",
            Self::Plain(_) => "Plain",
        })
    }
}

fn style(has_total: bool) -> ProgressStyle {
    let template =
        if has_total { " {wide_bar:.green/black.bright} {prefix}\n{msg}" } else { " {spinner:.green} {prefix}\n{msg}" };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("━━╌")
}

struct Task {
    screen: Screen,
    counters: Counters,
    breakers: Vec<CircuitBreaker>,
    total: Option<u64>,
    start: Instant,
    rate: RateMeter,
    printed: Option<Printed>,
}

/// The last plain line.
struct Printed {
    at: Duration,
    states: Vec<State>,
    text: String,
}

impl Task {
    async fn run(mut self, stop: CancellationToken) {
        let mut ticks = time::interval(TICK);
        ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let moment = self.look();
            self.show(&moment);
        }
        let mut last = self.look();
        last.rate = last.counts.done() as f64 / last.elapsed.as_secs_f64().max(0.001);
        last.is_last = true;
        self.show_last(&last);
    }

    fn look(&mut self) -> Moment {
        let (counts, elapsed) = (self.counters.counts(), self.start.elapsed());
        let breakers = self.breakers.iter().map(|breaker| (breaker.name().to_owned(), breaker.state())).collect();
        let rate = self.rate.at(elapsed, counts.done());
        Moment { counts, breakers, rate, elapsed, total: self.total, is_last: false }
    }

    fn show(&mut self, moment: &Moment) {
        match &self.screen {
            Screen::Terminal(bar) => draw(bar, moment),
            Screen::Plain(_) => {
                let states: Vec<_> = moment.breakers.iter().map(|(_, state)| *state).collect();
                let text = moment.plain();
                let is_due = self.printed.as_ref().is_none_or(|printed| {
                    states != printed.states || text != printed.text && moment.elapsed >= printed.at + LINE
                });
                if is_due {
                    self.screen.note(&format!("{} {text}", moment.stamp()));
                    self.printed = Some(Printed { at: moment.elapsed, states, text });
                }
            }
        }
    }

    fn show_last(&self, moment: &Moment) {
        match &self.screen {
            Screen::Terminal(bar) => {
                draw(bar, moment);
                bar.abandon();
            }
            Screen::Plain(_) => self.screen.note(&format!("{} {}", moment.stamp(), moment.plain())),
        }
    }
}

fn draw(bar: &ProgressBar, moment: &Moment) {
    let (_, width) = Term::stderr().size();
    bar.set_position(moment.counts.done());
    bar.set_prefix(moment.head());
    bar.set_message(moment.panel(width.into(), console::colors_enabled_stderr()));
    bar.tick();
}

fn is_drawn(drawn: Drawn, is_terminal: bool) -> bool {
    match drawn {
        Drawn::Auto => is_terminal,
        Drawn::On => true,
        Drawn::Off => false,
    }
}

/// Takes the rate over the last while.
#[derive(Default)]
struct RateMeter(VecDeque<(Duration, u64)>);

impl RateMeter {
    /// Notes how many there are at a moment, and says how many a second there were of late.
    fn at(&mut self, now: Duration, done: u64) -> f64 {
        self.0.push_back((now, done));
        while self.0.len() > 2 && now.saturating_sub(self.0[1].0) >= RATE_SPAN {
            self.0.pop_front();
        }
        let (from, before) = self.0[0];
        let seconds = now.saturating_sub(from).as_secs_f64();
        if seconds > 0.0 { done.saturating_sub(before) as f64 / seconds } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_two_seconds() {
        let mut meter = RateMeter::default();
        let mut rate = 0.0;
        for tenth in 0..=100 {
            let done = if tenth <= 50 { 0 } else { (tenth - 50) * 10 };
            rate = meter.at(Duration::from_millis(tenth * 100), done);
        }
        assert!((rate - 100.0).abs() < 1e-6, "{rate}");
        assert!(meter.0.len() <= 22);
    }

    #[test]
    fn it_is_drawn_in_a_terminal_unless_the_setting_says_otherwise() {
        let drawn = [Drawn::Auto, Drawn::On, Drawn::Off].map(|drawn| [true, false].map(|is| is_drawn(drawn, is)));
        assert_eq!(drawn, [[true, false], [true, true], [false, false]]);
    }

    #[test]
    fn one_look_has_no_rate() {
        assert!(RateMeter::default().at(Duration::ZERO, 5).abs() < f64::EPSILON);
    }

    #[test]
    fn the_templates_are_valid() {
        for template in [" {wide_bar:.green/black.bright} {prefix}\n{msg}", " {spinner:.green} {prefix}\n{msg}"] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
