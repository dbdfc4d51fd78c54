#![forbid(unsafe_code)]
//! A process that keeps what others share.

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

/// A process that keeps dictionaries, which any number of processes use at once. As `Manager` in Python's
/// `multiprocessing`.
///
/// It is best started early: it has copies of what this process has open at that moment. Ctrl-C does not end
/// it. Dropped, it is killed, and so it is when the thread ends that has started it. Then its dictionaries
/// are gone, and who uses one of them gets an error. A copy of the handle in a child ends nothing.
///
/// Only processes of the same user can talk to it, in the same network namespace, and only those that were
/// given a [`Dict`].
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
    /// Starts one.
    ///
    /// # Errors
    ///
    /// As [`Process::spawn`]: so before the first thread. Later, there is [`Manager::by_server`].
    ///
    /// # Panics
    ///
    /// As [`Process::spawn`].
    ///
    /// # Switching
    ///
    /// Never switches.
    #[track_caller]
    pub fn start() -> Result<Self, ForkError> {
        let address = Address::new().map_err(ForkError::Os)?;
        // Here, so that nobody comes too early.
        let listener = address.bind().map_err(ForkError::Os)?;
        let builder = Builder::new().name("manager").daemon(true);
        let process = builder.spawn(move || serve(listener, address.key()))?;
        Ok(Self::new(address, process))
    }

    /// Has `server` start one, also if there are threads already. It ends with the server at the latest,
    /// which lives until its last handle and its last process are gone.
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
    /// As [`ForkServer::spawn`].
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile.
    ///
    /// # Switching
    ///
    /// Switches until the process has been made. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The process may have been made, and lives as long as the server.
    pub fn by_server(server: &ForkServer) -> io::Result<Self> {
        let address = Address::new()?;
        let process = server.spawn_manager(address.bind()?, address.key())?;
        Ok(Self::new(address, process))
    }

    fn new(address: Address, process: Process) -> Self {
        Manager { address, process, made_in: Generation::current() }
    }

    /// Its process number.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// A new, empty dictionary. It is there as long as the manager is, whether there are handles or not.
    ///
    /// # Errors
    ///
    /// [`NotConnected`](io::ErrorKind::NotConnected) if the manager has ended.
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile.
    ///
    /// # Switching
    ///
    /// Switches. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// An empty dictionary may have been made, which nobody knows of.
    pub fn dict<K, V>(&self) -> io::Result<Dict<K, V>>
    where
        K: Serialize + DeserializeOwned,
        V: Serialize + DeserializeOwned,
    {
        let number = connection::request(&self.address, &Request::New)?;
        Ok(Dict::new(self.address, number))
    }

    /// Ends it, and waits until it has ended. Operations that are going on may fail as those that come later
    /// do. Ended already, it stays so.
    ///
    /// # Errors
    ///
    /// If this is a copy of the handle, in a child of the process that has started it. As [`Process::join`].
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile.
    ///
    /// # Switching
    ///
    /// Switches, unless it has ended. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// It ends, unless it was not told yet, and can be waited for again.
    pub fn shutdown(&self) -> io::Result<()> {
        if !self.is_here() {
            return Err(io::Error::other(
                "the manager is that of the process that has forked this one: let that one end it",
            ));
        }
        if self.process.is_alive()? && connection::request_end(&self.address).is_err() {
            // As for want of a descriptor.
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
            // If it has ended there is nothing to be done.
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
