//! The threads and the queue, behind one short lock.

use std::{
    collections::VecDeque,
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Poll, Waker},
    thread,
};

use parking_lot::Mutex;

use super::{Config, Metrics};
use crate::{
    blocking::block_on,
    clock::Instant,
    event::{EventKind, Source},
    sync::contained,
};

/// A closure on its way to a thread.
pub(super) trait Job: Send + Sync {
    /// Runs the closure, calls `ended`, then hands the result over: whoever has it finds the thread free.
    fn run(&self, ended: &mut dyn FnMut());
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) source: Source,
    pub(super) config: Config,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
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
    Wait { may_end: bool },
    End,
}

impl Shared {
    pub(super) fn new(source: Source, config: Config) -> Self {
        Self { source, config, state: Mutex::default() }
    }

    /// Gives a job to a new thread below the core size, else to an idle thread or the queue, else to a new thread below
    /// the maximum. Returns what it can be taken back by, or `None` where there is no room.
    pub(super) fn submit(self: &Arc<Self>, job: &Arc<dyn Job>) -> Option<u64> {
        let mut state = self.state.lock();
        state.last_id += 1;
        let id = state.last_id;
        if state.threads < self.config.core() && self.start_thread(&mut state, id, job) {
            return Some(id);
        }
        let room = state.idle.len() + self.config.queue_capacity as usize;
        if state.threads > 0 && state.queue.len() < room {
            state.queue.push_back((id, Arc::clone(job)));
            let waker = state.idle.iter_mut().find_map(|idle| idle.waker.take());
            drop(state);
            if let Some(waker) = waker {
                waker.wake();
            }
            return Some(id);
        }
        let started = state.threads < self.config.max_thread_pool_size && self.start_thread(&mut state, id, job);
        started.then_some(id)
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
        let (core, max, capacity) = (self.config.core(), self.config.max_thread_pool_size, self.config.queue_capacity);
        let waiting = state.queue.len().saturating_sub(state.idle.len()) as u32;
        let idle = state.idle.len().saturating_sub(state.queue.len()) as u32;
        let active = state.threads - idle;
        Metrics {
            core_thread_pool_size: core,
            max_thread_pool_size: max,
            thread_pool_size: state.threads,
            active_thread_count: active,
            available_thread_count: max - active,
            queue_capacity: capacity,
            queue_depth: waiting,
            remaining_queue_capacity: capacity.saturating_sub(waiting),
        }
    }

    /// The life of a thread.
    fn work(&self, worker: u64, first: Arc<dyn Job>) {
        let mut next = Some(first);
        while let Some(job) = next {
            let mut after = (Next::Wait { may_end: false }, Instant::default());
            let mut ended = || after = (self.next(worker, None, false), self.config.clock.now());
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
        self.publish(EventKind::CallPermitted);
        job.run(&mut || {
            ended();
            self.publish(EventKind::CallFinished);
        });
    }

    /// Sleeps until there is work; `None` where the thread shall end.
    fn wait(&self, worker: u64, since: Instant) -> Option<Arc<dyn Job>> {
        let deadline = since.saturating_add(self.config.keep_alive_duration);
        let mut idle_too_long = self.config.clock.sleep_until(deadline);
        block_on(poll_fn(|task| {
            let mut next = self.next(worker, Some(task.waker()), false);
            if matches!(next, Next::Wait { may_end: true }) && Pin::new(&mut idle_too_long).poll(task).is_ready() {
                next = self.next(worker, Some(task.waker()), true);
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
        let above_core = state.threads > self.config.core();
        let next = match state.queue.pop_front() {
            Some((_, job)) => Next::Run(job),
            None if state.closing || idle_too_long && above_core => Next::End,
            None => {
                let waker = waker.cloned();
                match place {
                    Some(place) => state.idle[place].waker = waker,
                    None => state.idle.push(Idle { worker, waker }),
                }
                return Next::Wait { may_end: above_core };
            }
        };
        if let Some(place) = place {
            state.idle.swap_remove(place);
        }
        state.threads -= u32::from(matches!(next, Next::End));
        next
    }

    pub(super) fn publish(&self, kind: EventKind) {
        self.source.publish(|| self.config.clock.now(), || kind);
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (queued, idle) = (self.queue.len(), self.idle.len());
        f.debug_struct("State").field("threads", &self.threads).field("idle", &idle).field("queued", &queued).finish()
    }
}
