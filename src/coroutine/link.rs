#![forbid(unsafe_code)]
//! Links: callbacks that run when a coroutine ends.

use super::join::{Coroutine, LinkId};
use super::packet::{Callback, Head, Link};
use super::spawn::spawn_at;
use std::panic::Location;

impl Coroutine {
    /// Registers `callback`, to run in a new coroutine when this coroutine ends.
    ///
    /// If this coroutine has already ended, the callback is due at once; it still does not start before the
    /// caller gives up control. Callbacks are called, and callers of
    /// [`JoinHandle::join`](crate::JoinHandle::join) woken, in the order in which they were added.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::cell::Cell;
    /// use std::rc::Rc;
    /// use switchgrass::{spawn, yield_now};
    ///
    /// let told = Rc::new(Cell::new(false));
    /// let handle = spawn(|| ());
    /// let tell = Rc::clone(&told);
    /// handle.link(move || tell.set(true));
    /// handle.join().unwrap();
    /// yield_now();
    /// yield_now();
    /// assert!(told.get());
    /// ```
    ///
    /// # Switching
    ///
    /// Never switches. The callback may switch.
    #[track_caller]
    pub fn link(&self, callback: impl FnOnce() + 'static) -> LinkId {
        self.add(Link::Spawn(Box::new(callback), Location::caller(), spawn_callback))
    }

    /// Like [`Coroutine::link`], but the callback runs directly in the hub, and sooner.
    ///
    /// The callback must not wait. If it panics, the panic is reported on standard error.
    ///
    /// # Switching
    ///
    /// Never switches. A callback that waits panics with a message that names the wait.
    pub fn link_in_hub(&self, callback: impl FnOnce() + 'static) -> LinkId {
        self.add(Link::InHub(Box::new(callback)))
    }

    /// Removes a link, so that its callback never runs.
    ///
    /// Returns whether the link existed and its callback had not started. A callback may remove links that
    /// come after its own.
    pub fn unlink(&self, link: LinkId) -> bool {
        Head::of(&self.0).is_some_and(|head| head.unlink(link.id))
    }
}

fn spawn_callback(site: &'static Location<'static>, callback: Callback) {
    drop(spawn_at(site, callback));
}
