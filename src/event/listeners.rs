//! Who listens, and how.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use futures_core::Stream;
use parking_lot::Mutex;

use super::Event;
use crate::sync::contained;

type Listener<E> = Arc<dyn Fn(&E) + Send + Sync>;

/// The listeners of one instance, or of whatever else has something to tell.
pub(crate) struct Listeners<E = Event> {
    /// Empty until somebody subscribes.
    inner: OnceLock<Arc<Inner<E>>>,
}

struct Inner<E> {
    count: AtomicUsize,
    list: Mutex<Registered<E>>,
}

struct Registered<E> {
    last_id: u64,
    listeners: Vec<(u64, Listener<E>)>,
}

impl<E: 'static> Listeners<E> {
    pub(crate) fn new() -> Self {
        Self { inner: OnceLock::new() }
    }

    #[inline]
    fn count(&self) -> usize {
        self.inner.get().map_or(0, |inner| inner.count.load(Ordering::Relaxed))
    }

    /// Whether anybody listens.
    #[inline]
    pub(crate) fn any(&self) -> bool {
        self.count() > 0
    }

    /// Tells every listener, in the order of their subscription.
    #[cold]
    pub(crate) fn publish(&self, event: &E) {
        let Some(inner) = self.inner.get() else { return };
        let listeners: Vec<Listener<E>> =
            inner.list.lock().listeners.iter().map(|(_, listener)| Arc::clone(listener)).collect();
        for listener in listeners {
            // The call that is being observed goes on, also where a listener that has ended itself panics as it goes.
            contained(move || listener(event));
        }
    }

    pub(crate) fn subscribe(&self, listener: impl Fn(&E) + Send + Sync + 'static) -> Subscription {
        let inner = self.inner.get_or_init(|| {
            let list = Mutex::new(Registered { last_id: 0, listeners: Vec::new() });
            Arc::new(Inner { count: AtomicUsize::new(0), list })
        });
        let mut list = inner.list.lock();
        list.last_id += 1;
        let id = list.last_id;
        list.listeners.push((id, Arc::new(listener)));
        inner.count.store(list.listeners.len(), Ordering::Relaxed);
        let listeners: Weak<Inner<E>> = Arc::downgrade(inner);
        Subscription { listeners, id }
    }
}

impl Listeners {
    pub(crate) fn stream(&self, capacity: usize) -> EventStream {
        let shared = Arc::new(Mutex::new(Buffer { capacity: capacity.max(1), ..Buffer::default() }));
        let buffer = Arc::clone(&shared);
        let subscription = self.subscribe(move |event| {
            let waker = buffer.lock().push(event);
            if let Some(waker) = waker {
                waker.wake();
            }
        });
        EventStream { shared, subscription }
    }

    pub(crate) fn log(&self, capacity: usize) -> EventLog {
        let shared = Arc::new(Mutex::new(Buffer { capacity: capacity.max(1), ..Buffer::default() }));
        let buffer = Arc::clone(&shared);
        let subscription = self.subscribe(move |event| {
            buffer.lock().push(event);
        });
        EventLog { shared, _subscription: subscription }
    }
}

impl<E: 'static> fmt::Debug for Listeners<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listeners").field("count", &self.count()).finish()
    }
}

/// A subscription to events. Dropping it ends it.
#[must_use = "dropping the subscription ends it; `forever` keeps it"]
pub struct Subscription {
    listeners: Weak<dyn Unsubscribe>,
    id: u64,
}

/// Listeners to whatever kind of event.
trait Unsubscribe: Send + Sync {
    fn unsubscribe(&self, id: u64);
}

impl<E> Unsubscribe for Inner<E> {
    fn unsubscribe(&self, id: u64) {
        let mut list = self.list.lock();
        let place = list.listeners.iter().position(|(known, _)| *known == id);
        let removed = place.map(|place| list.listeners.remove(place));
        self.count.store(list.listeners.len(), Ordering::Relaxed);
        // What the listener owns is the user's: it is dropped outside the lock.
        drop(list);
        drop(removed);
    }
}

impl Subscription {
    /// Keeps the listener for as long as the instance lives.
    pub fn forever(mut self) {
        self.listeners = Weak::<Inner<Event>>::new();
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(listeners) = self.listeners.upgrade() {
            listeners.unsubscribe(self.id);
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("active", &(self.listeners.strong_count() > 0)).finish()
    }
}

#[derive(Default)]
struct Buffer {
    events: VecDeque<Event>,
    capacity: usize,
    missed: u64,
    waker: Option<Waker>,
}

impl Buffer {
    fn push(&mut self, event: &Event) -> Option<Waker> {
        if self.events.len() == self.capacity {
            self.events.pop_front();
            self.missed += 1;
        }
        self.events.push_back(event.clone());
        self.waker.take()
    }
}

/// Events as an asynchronous stream; it never ends. When it is full the oldest event makes room for the newest.
pub struct EventStream {
    shared: Arc<Mutex<Buffer>>,
    subscription: Subscription,
}

impl EventStream {
    /// The next event.
    ///
    /// # Cancel safety
    /// An event is taken only when it is returned.
    pub async fn next(&mut self) -> Event {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    /// The next event, if there is one now.
    pub fn try_next(&mut self) -> Option<Event> {
        self.shared.lock().events.pop_front()
    }

    /// How many events made room for later ones since this was last asked.
    pub fn take_missed(&mut self) -> u64 {
        std::mem::take(&mut self.shared.lock().missed)
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        // Wakers are cloned and dropped outside the lock: they are the executor's code.
        let waker = cx.waker().clone();
        let mut buffer = self.shared.lock();
        match buffer.events.pop_front() {
            Some(event) => Poll::Ready(event),
            None => {
                let before = buffer.waker.replace(waker);
                drop(buffer);
                drop(before);
                Poll::Pending
            }
        }
    }
}

impl Stream for EventStream {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.poll_event(cx).map(Some)
    }
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream").field("subscription", &self.subscription).finish_non_exhaustive()
    }
}

/// The last few events of an instance.
pub struct EventLog {
    shared: Arc<Mutex<Buffer>>,
    _subscription: Subscription,
}

impl EventLog {
    /// The events kept, oldest first.
    pub fn events(&self) -> Vec<Event> {
        self.shared.lock().events.iter().cloned().collect()
    }

    /// How many earlier events are no longer kept.
    pub fn forgotten(&self) -> u64 {
        self.shared.lock().missed
    }
}

impl fmt::Debug for EventLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventLog").field("events", &self.shared.lock().events.len()).finish_non_exhaustive()
    }
}
