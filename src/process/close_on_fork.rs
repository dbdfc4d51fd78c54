#![forbid(unsafe_code)]
//! Sockets that are closed in forked children.
//!
//! While a child has a copy of such a socket, the peer would not notice that this process has ended.

use crate::net::UnixStream;
use std::cell::RefCell;
use std::rc::{Rc, Weak};

thread_local! {
    static STREAMS: RefCell<Vec<Weak<UnixStream>>> = const { RefCell::new(Vec::new()) };
}

/// Registers a socket to be closed in children forked from now on.
pub(super) fn close_on_fork(stream: &Rc<UnixStream>) {
    let mut streams = STREAMS.take();
    streams.retain(|known| known.strong_count() > 0);
    streams.push(Rc::downgrade(stream));
    STREAMS.set(streams);
}

/// Closes the registered sockets. Called in the child.
pub(super) fn close_registered() {
    for stream in STREAMS.take().iter().filter_map(Weak::upgrade) {
        stream.close();
    }
}
