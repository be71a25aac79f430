//! The threads and the queue, behind one short lock.

use std::{
    collections::VecDeque,
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Poll, Waker},
    thread,
    time::Duration,
};

use parking_lot::Mutex;

use super::{Config, Metrics, RejectionPolicy};
use crate::{
    blocking::block_on,
    clock::{Clock, Instant},
    event::{EventKind, Source},
    meter::{AdmissionMeter, Slot},
    sync::contained,
};

/// A closure on its way to a thread.
pub(super) trait Job: Send + Sync {
    /// Runs the closure, calls `ended`, then hands the result over: whoever has it finds the thread free.
    fn run(&self, ended: &mut dyn FnMut());

    /// When it was asked for; the end of time where nothing meters the wait.
    fn sent(&self) -> Instant;
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) source: Source,
    pub(super) clock: Clock,
    pub(super) meter: Slot<AdmissionMeter>,
    state: Mutex<State>,
}

struct State {
    config: Config,
    last_id: u64,
    /// By ascending id. The first of them, as many as there are idle threads, are already those threads'.
    queue: VecDeque<(u64, Arc<dyn Job>)>,
    threads: u32,
    idle: Vec<Idle>,
    closing: bool,
}

/// A thread without work. One that is awake, and so has no waker here, looks at the queue before it sleeps.
struct Idle {
    worker: u64,
    waker: Option<Waker>,
}

enum Next {
    Run(Arc<dyn Job>),
    /// Until there is work, or for no longer than this where the thread may end.
    Wait {
        at_most: Option<Duration>,
    },
    End,
}

impl Shared {
    pub(super) fn new(source: Source, config: Config) -> Self {
        let clock = config.clock.clone();
        let (queue, idle) = (VecDeque::new(), Vec::new());
        let state = State { config, last_id: 0, queue, threads: 0, idle, closing: false };
        Self { source, clock, meter: Slot::new(), state: Mutex::new(state) }
    }

    pub(super) fn config(&self) -> Config {
        self.state.lock().config.clone()
    }

    pub(super) fn change(self: &Arc<Self>, config: Config) {
        let mut state = self.state.lock();
        state.config = config.clock(self.clock.clone());
        self.start_threads_that_are_due(&mut state);
        // Threads that are idle look again how long they may be so.
        let idle: Vec<_> = state.idle.iter_mut().filter_map(|idle| idle.waker.take()).collect();
        drop(state);
        idle.into_iter().for_each(Waker::wake);
    }

    /// For closures that wait below the core size, or beyond the queue.
    fn start_threads_that_are_due(self: &Arc<Self>, state: &mut State) {
        while state.waiting() > 0 {
            let beyond_queue = state.waiting() > state.config.queue_capacity as usize;
            let due = state.threads < state.config.core()
                || beyond_queue && state.threads < state.config.max_thread_pool_size;
            let next = if due { state.queue.pop_front() } else { None };
            let Some((id, job)) = next else { break };
            if !self.start_thread(state, id, &job) {
                state.queue.push_front((id, job));
                break;
            }
        }
    }

    /// Gives a job to a new thread below the core size, else to an idle thread or the queue, else to a new thread below
    /// the maximum. Returns what it can be taken back by, or what to do where there is no room.
    pub(super) fn submit(self: &Arc<Self>, job: &Arc<dyn Job>) -> Result<u64, RejectionPolicy> {
        let mut state = self.state.lock();
        state.last_id += 1;
        let id = state.last_id;
        if state.threads < state.config.core() && self.start_thread(&mut state, id, job) {
            return Ok(id);
        }
        let room = state.idle.len() + state.config.queue_capacity as usize;
        if state.threads > 0 && state.queue.len() < room {
            state.queue.push_back((id, Arc::clone(job)));
            let waker = state.idle.iter_mut().find_map(|idle| idle.waker.take());
            drop(state);
            if let Some(waker) = waker {
                waker.wake();
            }
            return Ok(id);
        }
        let started = state.threads < state.config.max_thread_pool_size && self.start_thread(&mut state, id, job);
        if started { Ok(id) } else { Err(state.config.rejection_policy) }
    }

    /// Within the lock, so that no job is ever queued behind a thread that the operating system then refuses.
    fn start_thread(self: &Arc<Self>, state: &mut State, worker: u64, job: &Arc<dyn Job>) -> bool {
        let name = format!("bulkhead-{}", self.source.name).replace('\0', " ");
        let (shared, job) = (Arc::clone(self), Arc::clone(job));
        let started = thread::Builder::new().name(name).spawn(move || shared.work(worker, job)).is_ok();
        state.threads += u32::from(started);
        started
    }

    /// Takes a job back that no thread has begun.
    pub(super) fn cancel(&self, id: u64) {
        let mut state = self.state.lock();
        let place = state.queue.binary_search_by_key(&id, |(id, _)| *id).ok();
        let job = place.and_then(|place| state.queue.remove(place));
        // The closure is the user's: it is dropped outside the lock.
        drop(state);
        if let (Some(_), Some(meter)) = (&job, self.meter.get()) {
            meter.cancelled.add();
        }
        drop(job);
    }

    /// Idle threads end, the others when they have nothing left to do.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closing = true;
        let idle: Vec<_> = state.idle.iter_mut().filter_map(|idle| idle.waker.take()).collect();
        drop(state);
        idle.into_iter().for_each(Waker::wake);
    }

    pub(super) fn metrics(&self) -> Metrics {
        let state = self.state.lock();
        let config = &state.config;
        let (core, max, capacity) = (config.core(), config.max_thread_pool_size, config.queue_capacity);
        let waiting = state.waiting() as u32;
        let idle = state.idle.len().saturating_sub(state.queue.len()) as u32;
        let active = state.threads - idle;
        Metrics {
            core_thread_pool_size: core,
            max_thread_pool_size: max,
            thread_pool_size: state.threads,
            active_thread_count: active,
            available_thread_count: max.saturating_sub(active),
            queue_capacity: capacity,
            queue_depth: waiting,
            remaining_queue_capacity: capacity.saturating_sub(waiting),
        }
    }

    /// The life of a thread.
    fn work(&self, worker: u64, first: Arc<dyn Job>) {
        let mut next = Some(first);
        while let Some(job) = next {
            let mut after = (Next::Wait { at_most: None }, Instant::default());
            let mut ended = || after = (self.next(worker, None, false), self.clock.now());
            // The closure's own panic is the caller's. Only a waker, or a result that nobody takes, can panic out here.
            contained(|| {
                self.run(&*job, &mut ended);
                drop(job);
            });
            next = match after {
                (Next::Run(job), _) => Some(job),
                (Next::Wait { .. }, since) => self.wait(worker, since),
                (Next::End, _) => None,
            };
        }
    }

    /// Runs a closure on this thread; `ended` is called before anybody can know its result.
    pub(super) fn run(&self, job: &dyn Job, ended: &mut dyn FnMut()) {
        if let Some(meter) = self.meter.get() {
            meter.permitted.add();
            if job.sent() != Instant::NEVER {
                meter.waited(job.sent(), self.clock.now());
            }
        }
        self.publish(EventKind::CallPermitted);
        job.run(&mut || {
            ended();
            self.publish(EventKind::CallFinished);
        });
    }

    /// Sleeps until there is work; `None` where the thread shall end.
    fn wait(&self, worker: u64, since: Instant) -> Option<Arc<dyn Job>> {
        let mut patience = None;
        block_on(poll_fn(|task| {
            let mut next = self.next(worker, Some(task.waker()), false);
            if let Next::Wait { at_most: Some(longest) } = next {
                let deadline = since.saturating_add(longest);
                let sleep = match patience.take() {
                    Some((until, sleep)) if until == deadline => sleep,
                    _ => self.clock.sleep_until(deadline),
                };
                let (_, sleep) = patience.insert((deadline, sleep));
                if Pin::new(sleep).poll(task).is_ready() {
                    next = self.next(worker, Some(task.waker()), true);
                }
            }
            match next {
                Next::Run(job) => Poll::Ready(Some(job)),
                Next::Wait { .. } => Poll::Pending,
                Next::End => Poll::Ready(None),
            }
        }))
    }

    /// What a thread without work does next. Once it waits it is idle, and woken through `waker`.
    fn next(&self, worker: u64, waker: Option<&Waker>, idle_too_long: bool) -> Next {
        let mut state = self.state.lock();
        let place = state.idle.iter().position(|idle| idle.worker == worker);
        let above_core = state.threads > state.config.core();
        let above_max = state.threads > state.config.max_thread_pool_size;
        let next = match state.queue.pop_front() {
            Some(queued) if above_max => {
                state.queue.push_front(queued);
                Next::End
            }
            Some((_, job)) => Next::Run(job),
            None if above_max || state.closing || idle_too_long && above_core => Next::End,
            None => {
                let waker = waker.cloned();
                match place {
                    Some(place) => state.idle[place].waker = waker,
                    None => state.idle.push(Idle { worker, waker }),
                }
                let at_most = above_core.then_some(state.config.keep_alive_duration);
                return Next::Wait { at_most };
            }
        };
        if let Some(place) = place {
            state.idle.swap_remove(place);
        }
        if !matches!(next, Next::End) {
            return next;
        }
        state.threads -= 1;
        // It may have been woken for a closure that is another's now.
        let heir = state.idle.iter_mut().filter(|_| above_max).find_map(|idle| idle.waker.take());
        drop(state);
        if let Some(waker) = heir {
            waker.wake();
        }
        next
    }

    pub(super) fn publish(&self, kind: EventKind) {
        self.source.publish(|| self.clock.now(), || kind);
    }
}

impl State {
    /// How many closures wait for a thread.
    fn waiting(&self) -> usize {
        self.queue.len().saturating_sub(self.idle.len())
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (queued, idle) = (self.queue.len(), self.idle.len());
        f.debug_struct("State").field("threads", &self.threads).field("idle", &idle).field("queued", &queued).finish()
    }
}
