#![forbid(unsafe_code)]
//! Callbacks that run when a coroutine has ended.

use super::join::{Coroutine, LinkId};
use super::packet::{Callback, Head, Link};
use super::spawn::spawn_at;
use std::panic::Location;

impl Coroutine {
    /// Has `callback` run in a coroutine of its own when this one has ended: at once if it has already,
    /// but never before the caller gives up control. Callbacks, and those who wait in
    /// [`JoinHandle::join`](crate::JoinHandle::join), come in the order in which they were added.
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
    /// Never switches. The callback may.
    #[track_caller]
    pub fn link(&self, callback: impl FnOnce() + 'static) -> LinkId {
        self.add(Link::Spawn(Box::new(callback), Location::caller(), spawn_callback))
    }

    /// As [`Coroutine::link`], but the callback runs in the hub: sooner, and it must not wait. What it
    /// panics with is reported on standard error.
    ///
    /// # Switching
    ///
    /// Never switches, nor may the callback: waiting in it is a panic that says so.
    pub fn link_in_hub(&self, callback: impl FnOnce() + 'static) -> LinkId {
        self.add(Link::InHub(Box::new(callback)))
    }

    /// Takes a link off, so that its callback never runs. Returns whether it was there and its callback had
    /// not begun. A callback may take off the links that come after it.
    pub fn unlink(&self, link: LinkId) -> bool {
        Head::of(&self.0).is_some_and(|head| head.unlink(link.id))
    }
}

fn spawn_callback(site: &'static Location<'static>, callback: Callback) {
    drop(spawn_at(site, callback));
}
