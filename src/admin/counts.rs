//! How many calls the policies saw that keep no count of their own, since they are listened to.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

use crate::{
    Bulkhead, Event, RateLimiter, Subscription, ThreadPoolBulkhead, TimeLimiter,
    event::{EventKind, Name, PolicyKind},
    registry::Instance,
};

/// Calls by how they went: well, refused or failed, timed out.
#[derive(Debug, Default)]
struct Count([AtomicU64; 3]);

impl Count {
    fn add(&self, kind: &EventKind) {
        let of = match kind {
            EventKind::CallPermitted | EventKind::SuccessfulAcquire { .. } | EventKind::Success { .. } => 0,
            EventKind::CallRejected | EventKind::FailedAcquire { .. } | EventKind::Error { .. } => 1,
            EventKind::Timeout => 2,
            _ => return,
        };
        self.0[of].fetch_add(1, Ordering::Relaxed);
    }
}

/// What is counted here.
pub(super) trait Counted: Instance {
    fn listen(&self, listener: impl Fn(&Event) + Send + Sync + 'static) -> Subscription;
}

macro_rules! counted {
    ($($policy:ident),*) => {$(
        impl Counted for $policy {
            fn listen(&self, listener: impl Fn(&Event) + Send + Sync + 'static) -> Subscription {
                self.on_event(listener)
            }
        }
    )*};
}

counted!(Bulkhead, ThreadPoolBulkhead, RateLimiter, TimeLimiter);

#[derive(Debug)]
struct Watched {
    count: Arc<Count>,
    _subscription: Subscription,
}

/// The counts of all instances.
#[derive(Debug, Default)]
pub(super) struct Counts {
    of: Mutex<HashMap<(PolicyKind, Name), Watched>>,
}

impl Counts {
    /// Counts for this instance, in place of an earlier one of its name. Holds nothing of it.
    pub(super) fn watch<P: Counted>(&self, instance: &P) {
        let count = Arc::new(Count::default());
        let counted = Arc::clone(&count);
        let subscription = instance.listen(move |event| counted.add(&event.kind));
        let before =
            self.of.lock().insert((P::KIND, instance.name().clone()), Watched { count, _subscription: subscription });
        drop(before);
    }

    pub(super) fn forget<P: Counted>(&self, instance: &P) {
        let before = self.of.lock().remove(&(P::KIND, instance.name().clone()));
        drop(before);
    }

    pub(super) fn is_watched<P: Counted>(&self, instance: &P) -> bool {
        self.of.lock().contains_key(&(P::KIND, instance.name().clone()))
    }

    pub(super) fn read<P: Counted>(&self, instance: &P) -> [u64; 3] {
        let of = self.of.lock();
        let count = of.get(&(P::KIND, instance.name().clone()));
        count.map_or([0; 3], |watched| [0, 1, 2].map(|of| watched.count.0[of].load(Ordering::Relaxed)))
    }
}
