//! The call that the benchmarks guard, and what drives it.

use std::{
    future::{Future, poll_fn},
    hint::black_box,
    mem::replace,
    pin::pin,
    task::{Context, Poll, Waker},
};

/// Ready at its first poll.
pub(crate) async fn work(input: u64) -> Result<u64, &'static str> {
    black_box(Ok(input))
}

/// Pending at its first poll, ready at its second.
#[allow(dead_code, reason = "not every benchmark waits")]
pub(crate) async fn work_later(input: u64) -> Result<u64, &'static str> {
    let mut yielded = false;
    poll_fn(|_| if replace(&mut yielded, true) { Poll::Ready(()) } else { Poll::Pending }).await;
    black_box(Ok(input))
}

/// Polls until the future is ready: no executor is measured.
#[inline]
pub(crate) fn drive<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
    }
}
