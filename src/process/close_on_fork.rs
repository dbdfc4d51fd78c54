#![forbid(unsafe_code)]
//! Sockets that are not for the processes that this one makes: while one of these had a copy, whoever is at
//! the other end would not hear that this one has ended.

use crate::net::UnixStream;
use std::cell::RefCell;
use std::rc::{Rc, Weak};

thread_local! {
    static STREAMS: RefCell<Vec<Weak<UnixStream>>> = const { RefCell::new(Vec::new()) };
}

/// Has a socket closed in processes that are made from now on.
pub(super) fn close_on_fork(stream: &Rc<UnixStream>) {
    let mut streams = STREAMS.take();
    streams.retain(|known| known.strong_count() > 0);
    streams.push(Rc::downgrade(stream));
    STREAMS.set(streams);
}

/// In a child: closes them.
pub(super) fn close_registered() {
    for stream in STREAMS.take().iter().filter_map(Weak::upgrade) {
        stream.close();
    }
}
