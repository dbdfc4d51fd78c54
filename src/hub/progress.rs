#![forbid(unsafe_code)]
//! What a watchdog observes of a hub.
//!
//! On its own thread, it reads whether the hub makes progress. In a signal handler on the hub's thread, it
//! reads what occupies the thread.

use super::here::{try_with, with};
use super::inbox::Inbox;
use super::task::Task;
use crate::greenlet::scheduled::marks::{HUB, ROOT};
use crate::greenlet::scheduled::{self, Snapshot};
use crate::sys::thread_probe::Thread;
use std::panic::Location;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};

/// A hub as seen by a watchdog, which does not keep it alive.
pub(crate) struct WatchedHub {
    pub(crate) thread: Thread,
    polled: Weak<AtomicU64>,
    inbox: Arc<Inbox>,
}

/// The state of a watched hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It is awake, and last polled for events at this time.
    Awake(u64),
    /// It sleeps until an event.
    Asleep,
    /// It has ended.
    Ended,
}

impl WatchedHub {
    /// Returns this thread's hub.
    pub(crate) fn here() -> Self {
        with(|hub| {
            let polled = hub.watched.get_or_init(|| Arc::new(AtomicU64::new(hub.polled.get())));
            let (polled, inbox) = (Arc::downgrade(polled), Arc::clone(&hub.inbox));
            WatchedHub { thread: Thread::current(), polled, inbox }
        })
    }

    /// Returns the state of the hub. May be called on any thread.
    pub(crate) fn progress(&self) -> Progress {
        match self.polled.upgrade() {
            None => Progress::Ended,
            Some(_) if self.inbox.is_asleep() => Progress::Asleep,
            Some(polled) => Progress::Awake(polled.load(Relaxed)),
        }
    }
}

/// A moment between two switches: equal values mean that no switch has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    clock_read: u64,
    ticks: u64,
}

/// Returns the current moment of this thread; `None` if it has no hub, or the hub sleeps.
///
/// May be called in a signal handler.
pub(crate) fn moment() -> Option<Moment> {
    let moment = try_with(|hub| {
        let moment = Moment { clock_read: hub.clock_read.get(), ticks: hub.ticks.get() };
        (!hub.inbox.is_asleep()).then_some(moment)
    });
    moment.flatten()
}

/// Maximum number of bytes recorded of a name.
const NAME: usize = 64;

/// What occupies a thread, recorded without allocating.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holder {
    kind: Kind,
    name: [u8; NAME],
    length: usize,
    pub(crate) site: Option<&'static Location<'static>>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Main,
    Hub,
    /// With its id, if known.
    Coroutine(Option<u64>),
    /// A greenlet that is no coroutine and runs for none.
    Greenlet,
}

impl Holder {
    fn new(kind: Kind, name: Option<&str>, site: Option<&'static Location<'static>>) -> Self {
        let name = name.unwrap_or("").as_bytes();
        let length = name.len().min(NAME);
        let mut noted = [0; NAME];
        noted[..length].copy_from_slice(&name[..length]);
        Holder { kind, name: noted, length, site }
    }

    /// Describes the greenlet if it has a task of its own or must not wait.
    fn of(seen: &Snapshot<'_>) -> Option<Self> {
        if seen.mark & HUB != 0 {
            return Some(Self::new(Kind::Hub, None, None));
        }
        if seen.mark & ROOT == 0 {
            return None;
        }
        if seen.id == 0 {
            return Some(Self::new(Kind::Main, None, None));
        }
        let task: Option<&Task> = seen.owner.and_then(|owner| owner.as_any().downcast_ref());
        Some(match task {
            Some(task) => Self::new(Kind::Coroutine(Some(task.id)), seen.name, task.site),
            // It is ending, or was interrupted while it read its own task.
            None => Self::new(Kind::Coroutine(None), seen.name, None),
        })
    }

    /// Returns the name used in messages.
    pub(crate) fn title(&self) -> String {
        let name = String::from_utf8_lossy(&self.name[..self.length]);
        match self.kind {
            Kind::Main => "main".into(),
            Kind::Hub => "a callback in the hub".into(),
            Kind::Coroutine(_) if !name.is_empty() => format!("coroutine '{name}'"),
            Kind::Coroutine(Some(id)) => format!("coroutine #{id}"),
            Kind::Coroutine(None) => "a coroutine".into(),
            Kind::Greenlet => "a greenlet".into(),
        }
    }
}

/// Returns what occupies this thread: the current greenlet's nearest ancestor that has a task.
///
/// May be called in a signal handler. In the middle of a switch, the result may be the greenlet that is
/// left or the one that is entered.
pub(crate) fn holder() -> Holder {
    let found = scheduled::peek(|seen| Holder::of(&seen));
    found.unwrap_or_else(|| Holder::new(Kind::Greenlet, None, None))
}
