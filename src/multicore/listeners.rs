#![forbid(unsafe_code)]
//! The sources of a server's connections on each hub.
//!
//! A hub either has a listener of its own, or an [`Inlet`] that another hub fills.

use crate::net::{Listen, TcpListener, TcpStream, UnixListener, UnixStream};
use crate::sync::{Queue, Shared};
use std::io;
use std::net;
use std::os::unix;
use std::sync::Arc;
use std::time::Duration;

/// A listener on one hub whose connections can be handed over to other hubs.
///
/// Sealed: [`TcpListener`] and [`UnixListener`] implement it.
pub trait HandOver: Listen<Address: Send + Sync> + portable::Portable {}

impl HandOver for TcpListener {}
impl HandOver for UnixListener {}

pub(super) mod portable {
    use super::*;

    /// Conversion of a listener and its connections into types that are `Send`.
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
                // `into_std` is not used: it would make the socket blocking again.
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

type Handoff<L> = (<L as portable::Portable>::Connection, <L as Listen>::Address);

/// The connections that were handed over to a hub and not yet taken.
pub(super) type ConnectionQueue<L> = Arc<Queue<Handoff<L>, Shared>>;

/// The capacity of a hub's queue. Beyond that, connections go to the next hub, or wait in the kernel's
/// backlog.
const QUEUE_CAPACITY: usize = 16;

/// How long to wait for room in one queue before all queues are tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(10);

pub(super) fn connection_queue<L: HandOver>() -> ConnectionQueue<L> {
    Arc::new(Queue::shared_bounded(QUEUE_CAPACITY))
}

/// Hands a connection over to the hub `next`, or to the first after it that has room.
pub(super) fn hand_over<L: HandOver>(
    queues: &[ConnectionQueue<L>],
    next: usize,
    stream: L::Stream,
    address: L::Address,
) {
    // A connection that cannot be moved is closed.
    let Ok(connection) = L::pack_connection(stream) else { return };
    let mut item = (connection, address);
    loop {
        for queue in queues[next..].iter().chain(&queues[..next]) {
            match queue.try_put(item) {
                Ok(()) => return,
                Err(refused) => item = refused.into_inner(),
            }
        }
        if queues.iter().all(|queue| queue.is_shut_down()) {
            return;
        }
        // All queues are full. Wait for room in the preferred one, but not for long: another may have
        // room sooner.
        match queues[next].put_timeout(item, RETRY_INTERVAL) {
            Ok(()) => return,
            Err(refused) => item = refused.into_inner(),
        }
    }
}

/// The listener of a hub that connections are handed over to.
pub(super) struct Inlet<L: HandOver>(pub(super) ConnectionQueue<L>);

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
