#![forbid(unsafe_code)]
//! What a watchdog can see of a hub: from its own thread whether the hub goes on, and from the hub's
//! thread, in a handler of a signal, who holds it.

use super::here::{try_with, with};
use super::inbox::Inbox;
use super::task::Task;
use crate::greenlet::scheduled;
use crate::sys::question::Thread;
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

/// Who holds a thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holder {
    /// That of the hub itself is the largest there is.
    id: u64,
    name: [u8; NAME],
    length: usize,
    pub(crate) site: Option<&'static Location<'static>>,
}

impl Holder {
    fn of(task: &Task) -> Self {
        let name = task.name.as_deref().unwrap_or("").as_bytes();
        let length = name.len().min(NAME);
        let mut noted = [0; NAME];
        noted[..length].copy_from_slice(&name[..length]);
        Holder { id: task.id, name: noted, length, site: task.site }
    }

    /// What it is called in messages.
    pub(crate) fn title(&self) -> String {
        match (self.id, self.length) {
            (0, _) => "main".into(),
            (u64::MAX, _) => "a callback in the hub".into(),
            (id, 0) => format!("coroutine #{id}"),
            _ => format!("coroutine '{}'", String::from_utf8_lossy(&self.name[..self.length])),
        }
    }
}

/// Who holds this thread. May be called in a handler of a signal, if nobody has changed for a while: it takes
/// hold of what it reads, and lets go of it, and the one that is interrupted does not see that.
pub(crate) fn holder() -> Option<Holder> {
    let mut node = try_with(|_| (*scheduled::running()).clone())?;
    loop {
        if let Some(owner) = node.owner() {
            let task: Option<&Task> = owner.as_any().downcast_ref();
            return task.map(Holder::of);
        }
        node = node.parent()?;
    }
}
