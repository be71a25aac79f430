//! The atomics and the lock of the shared state, exchanged for loom's where the models run; and the wall around code of the
//! user's.

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
};

#[cfg(resile_loom)]
pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};
#[cfg(not(resile_loom))]
pub(crate) use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(resile_loom)]
pub(crate) use loom::sync::MutexGuard;
#[cfg(not(resile_loom))]
pub(crate) use parking_lot::MutexGuard;

/// Runs code of the user's that must not unwind into ours; `None` where it does. Its panic hook has spoken by then.
pub(crate) fn contained<R>(run: impl FnOnce() -> R) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => Some(result),
        Err(payload) => {
            // What was panicked with is the user's too, and may panic when it is dropped.
            if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
                mem::forget(another);
            }
            None
        }
    }
}

/// A lock held for a few instructions and never around code of the user, so it is never poisoned.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T> {
    #[cfg(resile_loom)]
    inner: loom::sync::Mutex<T>,
    #[cfg(not(resile_loom))]
    inner: parking_lot::Mutex<T>,
}

impl<T> Mutex<T> {
    #[cfg(resile_loom)]
    pub(crate) fn new(value: T) -> Self {
        Self { inner: loom::sync::Mutex::new(value) }
    }

    #[cfg(not(resile_loom))]
    pub(crate) const fn new(value: T) -> Self {
        Self { inner: parking_lot::Mutex::new(value) }
    }

    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        #[cfg(resile_loom)]
        return self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        #[cfg(not(resile_loom))]
        self.inner.lock()
    }
}
