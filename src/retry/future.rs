use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::atomic::Ordering,
    task::{Context, Poll, ready},
    time::Duration,
};

use fastrand::Rng;
use pin_project_lite::pin_project;

use super::{
    Decides, Decision, Inner, count,
    settings::{Rules, Started},
};
use crate::{
    clock::{Instant, Sleep, nanos},
    error::{Rejected, RetriesExhausted},
    event::EventKind,
    policy::{CallFuture, Cx, Operation},
};

pin_project! {
    /// A call that is made again while it fails.
    ///
    /// # Cancel safety
    /// Dropping it drops the attempt under way, or the wait. Nothing more is attempted, counted or published.
    #[must_use = "futures do nothing unless polled"]
    pub struct Call<R, Op: Operation> {
        retry: R,
        #[pin]
        state: State<Op::Future>,
        next: Option<Op>,
        run: Run,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<Fut> {
        Running { #[pin] attempt: Fut },
        Waiting { sleep: Sleep },
        Done,
    }
}

impl<R, Op> Call<R, Op>
where
    R: Decides<Op::Ok, Op::Err>,
    Op: Operation + Clone,
{
    #[inline]
    pub(super) fn new(retry: R, op: Op) -> Self {
        let run = Run::new(&retry.retry().inner);
        // The original is started and the clone is kept: a tower service that has been found ready is not so in its
        // clones.
        let next = run.may_fail.then(|| op.clone());
        Self { retry, state: State::Running { attempt: op.start() }, next, run }
    }
}

impl<R, Op> CallFuture for Call<R, Op>
where
    R: Decides<Op::Ok, Op::Err>,
    Op: Operation + Clone,
{
    #[inline]
    fn poll_with(self: Pin<&mut Self>, mut cx: Cx, task: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let inner = &*this.retry.retry().inner;
        this.run.begin(inner, &mut cx);
        loop {
            match this.state.as_mut().project() {
                StateProjection::Running { attempt } => {
                    let result = ready!(attempt.poll_with(cx.for_attempt(this.run.failed + 1), task));
                    let asked = match this.retry.decide(&result) {
                        // The attempt has given back what it held as it ended.
                        Decision::Stop => {
                            inner.stopped(result.is_ok(), this.run.failed);
                            *this.next = None;
                            return Poll::Ready(result);
                        }
                        Decision::Retry => None,
                        Decision::RetryAfter(wait) => Some(wait),
                    };
                    this.state.set(State::Done);
                    let rules = inner.settings.of(this.run.settings);
                    let Some(wait) = this.run.wait_for_another(inner, &rules, asked) else {
                        let attempts = this.run.failed;
                        inner.exhausted(result.is_ok(), attempts);
                        *this.next = None;
                        return Poll::Ready(match result {
                            Ok(_) if rules.config.fail_after_max_attempts => {
                                let name = inner.source.name.clone();
                                Err(Rejected::from(RetriesExhausted::new(name, attempts)).into())
                            }
                            result => result,
                        });
                    };
                    // The attempt took its time, so what was read before it no longer holds, waiting or not.
                    cx = cx.after_a_wait();
                    if !wait.is_zero() {
                        this.state.set(State::Waiting { sleep: inner.clock.sleep(wait) });
                        continue;
                    }
                }
                StateProjection::Waiting { sleep } => {
                    ready!(Pin::new(sleep).poll(task));
                    cx = cx.after_a_wait();
                }
                StateProjection::Done => panic!("polled after its end"),
            }
            let op = this.next.take().expect("polled after a panic");
            *this.next = this.run.may_fail.then(|| op.clone());
            this.state.set(State::Running { attempt: op.start() });
        }
    }
}

impl<R, Op> Future for Call<R, Op>
where
    R: Decides<Op::Ok, Op::Err>,
    Op: Operation + Clone,
{
    type Output = Result<Op::Ok, Op::Err>;

    #[inline]
    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_with(Cx::new(), task)
    }
}

impl<R, Op: Operation> fmt::Debug for Call<R, Op> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("failed_attempts", &self.run.failed).finish_non_exhaustive()
    }
}

/// The attempts of one call so far. What is only needed after a failure is made then.
#[derive(Default)]
struct Run {
    failed: u32,
    /// Whether the attempt may be followed by another, for which the call is then kept.
    may_fail: bool,
    settings: Started,
    started: Option<Instant>,
    previous: Option<Duration>,
    rng: Option<Rng>,
}

impl Run {
    #[inline]
    fn new(inner: &Inner) -> Self {
        let settings = inner.settings.started();
        Self { may_fail: settings.is_repeated(), settings, ..Self::default() }
    }

    #[inline]
    fn begin(&mut self, inner: &Inner, cx: &mut Cx) {
        if self.settings.is_timed() && self.started.is_none() {
            self.started = Some(cx.read(&inner.clock));
        }
    }

    /// Counts a failed attempt. How long to wait before the next, or `None` if there is to be none.
    #[cold]
    fn wait_for_another(&mut self, inner: &Inner, rules: &Rules, asked: Option<Duration>) -> Option<Duration> {
        self.failed += 1;
        count(&inner.counters.other_attempts);
        if self.failed >= rules.config.max_attempts || !self.may_fail {
            return None;
        }
        self.may_fail = self.failed + 1 < rules.config.max_attempts;
        let wait = match asked {
            Some(wait) => wait.min(rules.config.max_retry_after),
            None => self.interval(inner, rules),
        };
        if let (Some(started), Some(longest)) = (self.started, rules.config.max_duration) {
            let spent = inner.clock.now().saturating_duration_since(started);
            if spent.saturating_add(wait) > longest {
                return None;
            }
        }
        if let Some(meter) = inner.meter.get() {
            meter.waits.record(nanos(wait));
        }
        inner.publish(|| EventKind::Retry { attempts: self.failed, wait });
        Some(wait)
    }

    fn interval(&mut self, inner: &Inner, rules: &Rules) -> Duration {
        let rng = self.rng.get_or_insert_with(|| rules.interval.rng_of_run(inner.runs.fetch_add(1, Ordering::Relaxed)));
        let wait = rules.interval.sample(self.failed, self.previous, rng);
        self.previous = Some(wait);
        wait
    }
}
