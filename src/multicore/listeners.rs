#![forbid(unsafe_code)]
//! Where the hubs of a server take their connections from: of a listener of their own, or of an *inlet*,
//! which another hub fills.

use crate::net::{Listen, TcpListener, TcpStream, UnixListener, UnixStream};
use crate::sync::{Queue, Shared};
use std::io;
use std::net;
use std::os::unix;
use std::sync::Arc;
use std::time::Duration;

/// What can be listened with on one hub for all: listeners whose connections go from thread to thread, as std
/// has them.
///
/// There are [`TcpListener`] and [`UnixListener`], and there will be no others.
pub trait HandOver: Listen<Address: Send + Sync> + portable::Portable {}

impl HandOver for TcpListener {}
impl HandOver for UnixListener {}

pub(super) mod portable {
    use super::*;

    /// A listener and its connections, as they go from thread to thread.
    pub trait Portable: Listen + Sized {
        type Listener: Send + 'static;
        type Connection: Send + 'static;

        fn address(&self) -> io::Result<Self::Address>;
        fn pack(self) -> io::Result<Self::Listener>;
        fn unpack(listener: Self::Listener) -> io::Result<Self>;
        fn pack_connection(connection: Self::Stream) -> io::Result<Self::Connection>;
        fn unpack_connection(connection: Self::Connection) -> io::Result<Self::Stream>;
    }
}

macro_rules! portable {
    ($listener:ident, $std_listener:ty, $stream:ident, $std_stream:ty) => {
        impl portable::Portable for $listener {
            type Listener = $std_listener;
            type Connection = $std_stream;

            fn address(&self) -> io::Result<Self::Address> {
                self.local_addr()
            }

            fn pack(self) -> io::Result<$std_listener> {
                self.into_std()
            }

            fn unpack(listener: $std_listener) -> io::Result<Self> {
                $listener::from_std(listener)
            }

            fn pack_connection(connection: $stream) -> io::Result<$std_stream> {
                // Not by `into_std`, which has it block again.
                Ok(std::os::fd::OwnedFd::from(connection).into())
            }

            fn unpack_connection(connection: $std_stream) -> io::Result<$stream> {
                $stream::from_std(connection)
            }
        }
    };
}

portable!(TcpListener, net::TcpListener, TcpStream, net::TcpStream);
portable!(UnixListener, unix::net::UnixListener, UnixStream, unix::net::UnixStream);

type Handed<L> = (<L as portable::Portable>::Connection, <L as Listen>::Address);

/// Connections on their way to a hub.
pub(super) type Way<L> = Arc<Queue<Handed<L>, Shared>>;

/// So many are under way to a hub, at most. Beyond that they go to the next, or wait where the kernel keeps
/// them.
const UNDER_WAY: usize = 16;

/// After so long it is asked again who has room.
const PATIENCE: Duration = Duration::from_millis(10);

pub(super) fn way<L: HandOver>() -> Way<L> {
    Arc::new(Queue::shared_bounded(UNDER_WAY))
}

/// Sends a connection on one of several ways, the first of which is to be `next`, or else one that has room.
pub(super) fn hand_over<L: HandOver>(
    ways: &[Way<L>],
    next: usize,
    stream: L::Stream,
    address: L::Address,
) {
    // One that cannot be moved is closed.
    let Ok(connection) = L::pack_connection(stream) else { return };
    let mut item = (connection, address);
    loop {
        for way in ways[next..].iter().chain(&ways[..next]) {
            match way.try_put(item) {
                Ok(()) => return,
                Err(refused) => item = refused.into_inner(),
            }
        }
        if ways.iter().all(|way| way.is_shut_down()) {
            return;
        }
        // All are full. Perhaps another than the next has room first.
        match ways[next].put_timeout(item, PATIENCE) {
            Ok(()) => return,
            Err(refused) => item = refused.into_inner(),
        }
    }
}

/// What the hub at the end of a way listens with.
pub(super) struct Inlet<L: HandOver>(pub(super) Way<L>);

impl<L: HandOver> Listen for Inlet<L> {
    type Stream = L::Stream;
    type Address = L::Address;

    fn accept(&self) -> io::Result<(L::Stream, L::Address)> {
        let closed = |_| io::Error::from_raw_os_error(libc::EBADF);
        let (connection, address) = self.0.get().map_err(closed)?;
        let stream = L::unpack_connection(connection);
        let _ = self.0.task_done();
        Ok((stream?, address))
    }

    fn close(&self) {
        self.0.shut_down_now();
    }
}
