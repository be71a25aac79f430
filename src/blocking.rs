//! Waiting on a plain thread: the same futures, polled by the thread that asked.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
};

use crate::policy::{CallFuture, Cx};

/// Runs a call that blocks: see [`block_on`].
pub(crate) fn run<F: CallFuture>(call: F) -> F::Output {
    let mut call = pin!(call);
    block_on(poll_fn(|task| call.as_mut().poll_with(Cx::blocking(), task)))
}

/// Runs a future to its end on this thread, which sleeps while the future waits.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    // Most calls do not wait: they need no waker that could wake anybody.
    if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        return output;
    }
    let (waker, woken) = thread_waker();
    let mut cx = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
        woken.wait();
    }
}

/// Whether this thread has been woken since it last looked.
pub(crate) struct Woken(Arc<Parked>);

struct Parked {
    thread: Thread,
    woken: AtomicBool,
}

pub(crate) fn thread_waker() -> (Waker, Woken) {
    let parked = Arc::new(Parked { thread: thread::current(), woken: AtomicBool::new(false) });
    (Waker::from(Arc::clone(&parked)), Woken(parked))
}

impl Woken {
    pub(crate) fn take(&self) -> bool {
        self.0.woken.swap(false, Ordering::AcqRel)
    }

    pub(crate) fn wait(&self) {
        while !self.take() {
            thread::park();
        }
    }
}

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}
