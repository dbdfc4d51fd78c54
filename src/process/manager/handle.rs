#![forbid(unsafe_code)]
//! The handle of a manager process.

use super::super::fork::{Builder, ForkError, Process};
use super::super::server::ForkServer;
use super::address::Address;
use super::connection;
use super::dict::Dict;
use super::protocol::Request;
use super::service::serve;
use crate::sys::fork::Generation;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::io;

/// A process that holds dictionaries, which any number of processes can use at once.
///
/// Like `Manager` in Python's `multiprocessing`.
///
/// Start it early, since it inherits copies of all descriptors that are open at that moment. Ctrl-C does
/// not end it. It is killed when the handle is dropped, and when the thread that started it ends. Its
/// dictionaries are then gone, and operations on them return an error. A copy of the handle in a forked
/// child ends nothing.
///
/// Only processes of the same user, in the same network namespace, can use it, and only with a [`Dict`].
///
/// # Examples
///
/// ```
/// use switchgrass::process::{Manager, Process};
///
/// let manager = Manager::start()?;
/// let ages = manager.dict::<String, u32>()?;
/// ages.insert("Ada", &36)?;
/// let child = Process::spawn(|| ages.insert("Alan", &41).map(|_| ()))?;
/// assert!(child.join()?.success());
/// assert_eq!(ages.items()?, [("Ada".to_owned(), 36), ("Alan".to_owned(), 41)]);
///
/// manager.shutdown()?;
/// assert_eq!(ages.len().unwrap_err().kind(), std::io::ErrorKind::NotConnected);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Manager {
    address: Address,
    process: Process,
    made_in: Generation,
}

impl Manager {
    /// Starts a manager.
    ///
    /// # Errors
    ///
    /// Those of [`Process::spawn`]. So start the manager before the first thread, or use
    /// [`Manager::by_server`].
    ///
    /// # Panics
    ///
    /// Those of [`Process::spawn`].
    ///
    /// # Switching
    ///
    /// Never switches.
    #[track_caller]
    pub fn start() -> Result<Self, ForkError> {
        let address = Address::new().map_err(ForkError::Os)?;
        // Bound here, so that no client connects too early.
        let listener = address.bind().map_err(ForkError::Os)?;
        let builder = Builder::new().name("manager").daemon(true);
        let process = builder.spawn(move || serve(listener, address.key()))?;
        Ok(Self::new(address, process))
    }

    /// Starts a manager in a process made by `server`.
    ///
    /// That is possible even when there are other threads.
    ///
    /// The manager ends at the latest with the server, which lives until its last handle is dropped and its
    /// last process has ended.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchgrass::process::{ForkServer, Manager};
    ///
    /// let server = ForkServer::start()?;
    /// let thread = std::thread::spawn(move || {
    ///     let manager = Manager::by_server(&server)?;
    ///     let squares = manager.dict()?;
    ///     squares.extend((1..4).map(|n| (n, n * n)))?;
    ///     squares.values()
    /// });
    /// assert_eq!(thread.join().unwrap()?, [1, 4, 9]);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`ForkServer::spawn`].
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: other coroutines run until the server has made the process.
    ///
    /// # Cancellation
    ///
    /// The process may have been made, and then lives as long as the server.
    pub fn by_server(server: &ForkServer) -> io::Result<Self> {
        let address = Address::new()?;
        let process = server.spawn_manager(address.bind()?, address.key())?;
        Ok(Self::new(address, process))
    }

    fn new(address: Address, process: Process) -> Self {
        Manager { address, process, made_in: Generation::current() }
    }

    /// The process id of the manager.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Creates an empty dictionary.
    ///
    /// It lives as long as the manager, even without handles.
    ///
    /// # Errors
    ///
    /// [`NotConnected`](io::ErrorKind::NotConnected) if the manager has ended. See also
    /// [`Dict`](Dict#errors).
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: other coroutines run while this one waits.
    ///
    /// # Cancellation
    ///
    /// An empty dictionary without handles may have been created.
    pub fn dict<K, V>(&self) -> io::Result<Dict<K, V>>
    where
        K: Serialize + DeserializeOwned,
        V: Serialize + DeserializeOwned,
    {
        let number = connection::request(&self.address, &Request::New)?;
        Ok(Dict::new(self.address, number))
    }

    /// Ends the manager, and waits until it has ended.
    ///
    /// Concurrent and later operations on its dictionaries fail. No effect if the manager has already
    /// ended.
    ///
    /// # Errors
    ///
    /// If this handle was inherited by a forked child. Those of [`Process::join`].
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch, unless the process has ended: other coroutines run while this one waits.
    ///
    /// # Cancellation
    ///
    /// The manager ends, if the request was already sent, and can be waited for again.
    pub fn shutdown(&self) -> io::Result<()> {
        if !self.is_here() {
            return Err(io::Error::other(
                "the manager belongs to the process that forked this one: shut it down there",
            ));
        }
        if self.process.is_alive()? && connection::request_end(&self.address).is_err() {
            // For example, no descriptors are left for a connection.
            self.process.terminate()?;
        }
        self.process.wait_end()?;
        connection::close_all(&self.address);
        Ok(())
    }

    fn is_here(&self) -> bool {
        self.made_in == Generation::current()
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        if self.is_here() {
            // The process may have ended already.
            let _ = self.process.kill();
            connection::close_all(&self.address);
        }
    }
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manager").field("id", &self.id()).finish_non_exhaustive()
    }
}
