use std::{
    sync::Arc,
    thread::{self, JoinHandle, ThreadId},
    time::Duration,
};

use parking_lot::{Condvar, Mutex};

use super::{Settings, SettingsErrors, Sources, error::Place, sources::Contents};
use crate::{
    registry::{Change, Resilience},
    sync::contained,
};

const INTERVAL: Duration = Duration::from_secs(2);
const SHORTEST: Duration = Duration::from_millis(10);
/// How long a file must stay the same before what it says is taken: whoever writes one in place may be half through.
const SETTLE: Duration = Duration::from_millis(100);

/// Puts settings in force, and those that take their place while the service runs.
///
/// Every 2 s a thread of the watcher's own reads the sources and compares them with what it read before: that costs little
/// for files of some kilobytes, and sees every way in which a file can change. The file systems' own notices do not: they
/// differ from system to system, do not come over networks, and belong to a file or folder, whereas a mounted ConfigMap
/// changes by a symbolic link that is swapped.
///
/// * A change is taken once it has stayed the same for 100 ms, so that no file is read while it is half written.
/// * A change with an error in it is refused as a whole and told as [`Change::Refused`]; the settings before stay in force.
///   So it is when a file cannot be read, as when it vanishes for a moment. It is told once, not at every look.
/// * The next change that is valid is taken, and told as [`Change::Reloaded`].
///
/// ```no_run
/// use resile::{Resilience, settings::{self, Sources}};
///
/// let resilience = Resilience::new();
/// let watcher = settings::watch(Sources::new().file("resilience.yml"), &resilience)?;
/// for warning in watcher.settings().warnings() {
///     eprintln!("{warning}");
/// }
/// # Ok::<(), settings::SettingsErrors>(())
/// ```
///
/// # Errors
/// All that is wrong with the settings as they are now: there are none before that could stay in force. Or no thread can be
/// started.
pub fn watch(sources: Sources, resilience: &Resilience) -> Result<Watcher, SettingsErrors> {
    watch_every(INTERVAL, sources, resilience)
}

/// As [`watch`], with a look every `interval`, at least 10 ms.
///
/// # Errors
/// As [`watch`].
pub fn watch_every(interval: Duration, sources: Sources, resilience: &Resilience) -> Result<Watcher, SettingsErrors> {
    let seen = sources.contents();
    let settings = sources.settings(&seen)?;
    settings.apply(resilience)?;
    let shared = Arc::new(Shared {
        sources,
        resilience: resilience.clone(),
        interval: interval.max(SHORTEST),
        seen: Mutex::new(seen),
        looking: Mutex::new(None),
        settings: Mutex::new(Arc::new(settings)),
        stopped: Mutex::new(false),
        stop: Condvar::new(),
    });
    let watching = Arc::clone(&shared);
    let thread = thread::Builder::new().name("resile-settings".into()).spawn(move || watching.run());
    let thread = thread.map_err(|error| {
        let place = Place::of_file(&"".into(), None);
        SettingsErrors::new(vec![place.error("", format!("no thread can be started: {error}"))])
    })?;
    Ok(Watcher { shared, thread: Some(thread) })
}

/// Keeps the settings in force that its sources hold. Dropping it ends the watch and waits for the look under way; what is in
/// force stays so.
#[derive(Debug)]
#[must_use = "dropping the watcher ends the watch"]
pub struct Watcher {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What a look at the sources came to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Look {
    /// They hold what they held at the last look.
    Unchanged,
    /// What they hold is in force now.
    Reloaded,
    /// What they hold cannot be, and the settings before are still in force.
    Refused(SettingsErrors),
}

impl Watcher {
    /// Looks at the sources at once and takes what they hold as it is, without waiting for it to stay the same. It reads
    /// files, which blocks, and waits for a look that is under way. Called by a listener that a look is just telling of a
    /// change, it does nothing; no listener may wait for another thread that calls it.
    pub fn check(&self) -> Look {
        self.shared.look(None)
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.shared.settings.lock())
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        *self.shared.stopped.lock() = true;
        self.shared.stop.notify_all();
        if let Some(thread) = self.thread.take() {
            // A listener that drops the watcher runs on that very thread, which ends when the listener is done.
            if thread.thread().id() != thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

#[derive(Debug)]
struct Shared {
    sources: Sources,
    resilience: Resilience,
    interval: Duration,
    /// What the sources held at the last look, valid or not. Held during a look, so that looks follow one another.
    seen: Mutex<Vec<Contents>>,
    /// The thread of the look under way.
    looking: Mutex<Option<ThreadId>>,
    settings: Mutex<Arc<Settings>>,
    stopped: Mutex<bool>,
    stop: Condvar,
}

impl Shared {
    fn run(&self) {
        while !self.stopped_within(self.interval) {
            let contents = self.sources.contents();
            if contents == *self.seen.lock() {
                continue;
            }
            if self.stopped_within(SETTLE.min(self.interval)) {
                return;
            }
            contained(|| self.look(Some(&contents)));
        }
    }

    /// Waits, and says whether the watch has ended.
    fn stopped_within(&self, wait: Duration) -> bool {
        let mut stopped = self.stopped.lock();
        self.stop.wait_while_for(&mut stopped, |stopped| !*stopped, wait);
        *stopped
    }

    /// Takes what the sources hold; if `settled` is given, only if they hold that still.
    fn look(&self, settled: Option<&[Contents]>) -> Look {
        let me = thread::current().id();
        if *self.looking.lock() == Some(me) {
            return Look::Unchanged;
        }
        let mut seen = self.seen.lock();
        let _looking = Looking::begin(&self.looking, me);
        let contents = self.sources.contents();
        if contents == *seen || settled.is_some_and(|settled| *settled != *contents) {
            return Look::Unchanged;
        }
        let read = self.sources.settings(&contents);
        *seen = contents;
        match read.and_then(|settings| self.put_in_force(settings)) {
            Ok(()) => Look::Reloaded,
            Err(errors) => {
                self.resilience.report(Change::Refused { errors: errors.iter().map(ToString::to_string).collect() });
                Look::Refused(errors)
            }
        }
    }

    fn put_in_force(&self, settings: Settings) -> Result<(), SettingsErrors> {
        // Before it is told, so that whoever is told finds them.
        let settings = Arc::new(settings);
        let before = std::mem::replace(&mut *self.settings.lock(), Arc::clone(&settings));
        let applied = settings.apply(&self.resilience);
        if applied.is_err() {
            *self.settings.lock() = before;
        }
        applied
    }
}

/// Says which thread is looking, until it is dropped.
struct Looking<'a>(&'a Mutex<Option<ThreadId>>);

impl<'a> Looking<'a> {
    fn begin(looking: &'a Mutex<Option<ThreadId>>, thread: ThreadId) -> Self {
        *looking.lock() = Some(thread);
        Self(looking)
    }
}

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        *self.0.lock() = None;
    }
}
