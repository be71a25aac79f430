//! Events as they happen, to readers of any pace.
//!
//! A reader holds no events: it knows the number of the last one it was given, and asks for the next. Events that were
//! forgotten meanwhile are counted and told.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use axum::response::sse;
use futures_core::Stream;
use parking_lot::Mutex;

use super::events::{EventView, Events, Filter};
use crate::clock::{Clock, Sleep};

/// How often something is sent where nothing happens, so that a reader that has gone is noticed.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// A reader that takes nothing for so long gives its place up.
const STUCK: Duration = Duration::from_secs(60);

/// Who reads now.
#[derive(Debug)]
pub(super) struct Readers {
    most: usize,
    places: Mutex<Vec<Weak<Place>>>,
}

#[derive(Debug)]
struct Place {
    /// When it was last read, in nanoseconds of the router's clock; the end of time once it is given up.
    read: AtomicU64,
    waker: Mutex<Option<Waker>>,
}

const GIVEN_UP: u64 = u64::MAX;

impl Readers {
    pub(super) fn new(most: usize) -> Self {
        Self { most, places: Mutex::default() }
    }

    /// Tells every reader that there is something to read.
    pub(super) fn wake(&self) {
        let places = self.places.lock();
        if places.is_empty() {
            return;
        }
        let wakers: Vec<Waker> =
            places.iter().filter_map(Weak::upgrade).filter_map(|place| place.waker.lock().take()).collect();
        drop(places);
        for waker in wakers {
            waker.wake();
        }
    }

    /// A place, if one is free or can be taken from a reader that is stuck.
    fn enter(&self, now: u64) -> Option<Arc<Place>> {
        let mut places = self.places.lock();
        let stuck_since = now.saturating_sub(crate::clock::nanos(STUCK));
        places.retain(|place| {
            let Some(place) = place.upgrade() else { return false };
            let stays = place.read.load(Ordering::Relaxed) >= stuck_since;
            if !stays {
                place.read.store(GIVEN_UP, Ordering::Relaxed);
            }
            stays
        });
        if places.len() >= self.most {
            return None;
        }
        let place = Arc::new(Place { read: AtomicU64::new(now), waker: Mutex::default() });
        places.push(Arc::downgrade(&place));
        Some(place)
    }
}

/// The events from now on, or after the number that a reader has seen before.
pub(super) struct Reader {
    events: Arc<Events>,
    filter: Filter,
    place: Arc<Place>,
    clock: Clock,
    heartbeat: Pin<Box<Sleep>>,
    seen: u64,
    lost: u64,
}

impl Reader {
    /// `None` where too many read already.
    pub(super) fn new(events: &Arc<Events>, filter: Filter, clock: &Clock, seen: Option<u64>) -> Option<Self> {
        let place = events.readers.enter(clock.now().as_nanos())?;
        let last = events.last();
        Some(Self {
            events: Arc::clone(events),
            filter,
            place,
            clock: clock.clone(),
            heartbeat: Box::pin(clock.sleep(HEARTBEAT)),
            // A number from before a restart is greater than any there is.
            seen: seen.filter(|seen| *seen <= last).unwrap_or(last),
            lost: 0,
        })
    }

    /// What is to be sent next, if there is anything.
    fn take(&mut self) -> Option<sse::Event> {
        if let lost @ 1.. = std::mem::take(&mut self.lost) {
            return Some(sse::Event::default().event("LOST").data(format!("{{\"lost\":{lost}}}")));
        }
        while let Some(entry) = self.events.next(self.seen) {
            let lost = entry.number - self.seen - 1;
            if lost > 0 {
                self.seen = entry.number - 1;
                self.lost = lost;
                return self.take();
            }
            self.seen = entry.number;
            if let Some(event) = entry.wanted(&self.filter) {
                let data = serde_json::to_string(&EventView::of(event, entry.wall)).unwrap_or_default();
                let sent = sse::Event::default().event(event.kind.as_str()).id(entry.number.to_string());
                return Some(sent.data(data));
            }
        }
        None
    }
}

impl Stream for Reader {
    type Item = Result<sse::Event, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.place.read.load(Ordering::Relaxed) == GIVEN_UP {
            return Poll::Ready(None);
        }
        this.place.read.store(this.clock.now().as_nanos(), Ordering::Relaxed);
        // The waker is there before the events are looked at, so that none comes unseen in between.
        let before = this.place.waker.lock().replace(cx.waker().clone());
        drop(before);
        if let Some(event) = this.take() {
            return Poll::Ready(Some(Ok(event)));
        }
        if this.heartbeat.as_mut().poll(cx).is_ready() {
            this.heartbeat.set(this.clock.sleep(HEARTBEAT));
            return Poll::Ready(Some(Ok(sse::Event::default().comment("still here"))));
        }
        Poll::Pending
    }
}
