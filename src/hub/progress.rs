#![forbid(unsafe_code)]
//! What a watchdog can see of a hub: from its own thread whether the hub goes on, and from the hub's
//! thread, in a handler of a signal, who holds it.

use super::here::{try_with, with};
use super::inbox::Inbox;
use super::task::Task;
use crate::greenlet::scheduled::marks::{HUB, ROOT};
use crate::greenlet::scheduled::{self, Snapshot};
use crate::sys::thread_probe::Thread;
use std::panic::Location;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};

/// A hub, for who watches it. It does not keep it.
pub(crate) struct WatchedHub {
    pub(crate) thread: Thread,
    polled: Weak<AtomicU64>,
    inbox: Arc<Inbox>,
}

/// What a hub that is watched does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It is awake, and has last looked for events at this time.
    Awake(u64),
    /// It sleeps until something happens.
    Asleep,
    /// It has ended.
    Ended,
}

impl WatchedHub {
    /// This thread's.
    pub(crate) fn here() -> Self {
        with(|hub| {
            let polled = hub.watched.get_or_init(|| Arc::new(AtomicU64::new(hub.polled.get())));
            let (polled, inbox) = (Arc::downgrade(polled), Arc::clone(&hub.inbox));
            WatchedHub { thread: Thread::current(), polled, inbox }
        })
    }

    /// To be asked on any thread.
    pub(crate) fn progress(&self) -> Progress {
        match self.polled.upgrade() {
            None => Progress::Ended,
            Some(_) if self.inbox.is_asleep() => Progress::Asleep,
            Some(polled) => Progress::Awake(polled.load(Relaxed)),
        }
    }
}

/// A moment between two changes from one to another: the same for as long as nobody has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    looked: u64,
    ticks: u64,
}

/// The moment it is on this thread. May be called in a handler of a signal. `None` if there is no hub, or it
/// sleeps.
pub(crate) fn moment() -> Option<Moment> {
    let moment = try_with(|hub| {
        let moment = Moment { looked: hub.looked.get(), ticks: hub.ticks.get() };
        (!hub.inbox.is_asleep()).then_some(moment)
    });
    moment.flatten()
}

/// Bytes of a name that are noted.
const NAME: usize = 64;

/// Who holds a thread, noted without allocating.
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
    /// With its number, if that is known.
    Coroutine(Option<u64>),
    /// Neither is it a coroutine nor does it work for one.
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

    /// The one that a greenlet runs for, if it has a task of its own.
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
            // It is at its end, or was interrupted as it read its own task.
            None => Self::new(Kind::Coroutine(None), seen.name, None),
        })
    }

    /// What it is called in messages.
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

/// Who holds this thread: the current greenlet's nearest ancestor that has a task. May be called in a signal
/// handler. In the middle of a switch it may be the one that is left or the one that is entered.
pub(crate) fn holder() -> Holder {
    let found = scheduled::peek(|seen| Holder::of(&seen));
    found.unwrap_or_else(|| Holder::new(Kind::Greenlet, None, None))
}
