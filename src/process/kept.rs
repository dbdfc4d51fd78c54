#![forbid(unsafe_code)]
//! Sockets that are not for the processes that this one makes: while one of these had a copy, whoever is at
//! the other end would not hear that this one has ended.

use crate::net::UnixStream;
use std::cell::RefCell;
use std::rc::{Rc, Weak};

thread_local! {
    static KEPT: RefCell<Vec<Weak<UnixStream>>> = const { RefCell::new(Vec::new()) };
}

/// Has a socket closed in processes that are made from now on.
pub(super) fn keep(stream: &Rc<UnixStream>) {
    let mut kept = KEPT.take();
    kept.retain(|known| known.strong_count() > 0);
    kept.push(Rc::downgrade(stream));
    KEPT.set(kept);
}

/// In a child: closes them.
pub(super) fn leave_behind() {
    for stream in KEPT.take().iter().filter_map(Weak::upgrade) {
        stream.close();
    }
}
