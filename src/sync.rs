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

#[cfg(not(resile_loom))]
pub(crate) use std::sync::OnceLock;

/// As the standard library's, in steps that the models can see.
#[cfg(resile_loom)]
#[derive(Debug)]
pub(crate) struct OnceLock<T> {
    is_set: AtomicU64,
    setting: loom::sync::Mutex<()>,
    value: std::sync::OnceLock<T>,
}

#[cfg(resile_loom)]
impl<T> OnceLock<T> {
    pub(crate) fn new() -> Self {
        Self { is_set: AtomicU64::new(0), setting: loom::sync::Mutex::new(()), value: std::sync::OnceLock::new() }
    }

    pub(crate) fn get(&self) -> Option<&T> {
        if self.is_set.load(Ordering::Acquire) == 0 { None } else { self.value.get() }
    }

    pub(crate) fn get_or_init(&self, init: impl FnOnce() -> T) -> &T {
        let setting = self.setting.lock();
        let value = self.value.get_or_init(init);
        self.is_set.store(1, Ordering::Release);
        drop(setting);
        value
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
