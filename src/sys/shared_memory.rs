//! Memory shared by the process that creates it and its forked descendants, and its lock.
//!
//! ```text
//!   ┌────────┬────────────┬────────────────┬───────────────┬───────────────────────────────┐
//!   │ holder │ is_awaited │ is_poisoned    │ ...           │ the values                    │
//!   └────────┴────────────┴────────────────┴───────────────┴───────────────────────────────┘
//!
//!              try_lock: 0 → ticket                     the process dies
//!     FREE (0) ─────────────────────► HELD (its ticket) ────────────────► HELD by a dead process
//!        ▲                               │       ▲                               │
//!        └───────────────────────────────┘       └───────────────────────────────┘
//!              drop: ticket → 0                    try_lock: old ticket → new one, poisoned
//! ```
//!
//! The lock belongs to a *process*. Each process has a ticket, a number that no other process gets, and
//! [`Living`] tells whether the ticket's process is alive. A robust pthread mutex would belong to a thread,
//! and the kernel would release it when that thread ends, while another thread of the same process may
//! still use the guard.
//!
//! No memory safety depends on the lock. Safe code can hold the same guard in two processes: for instance
//! in a greenlet that is suspended while its thread forks, and is resumed in both. So the only references
//! into the memory are to [`SharedCell`]s, which are accessed by atomic instructions and whose types allow
//! any bytes. The lock only keeps processes from seeing a change half made.
//!
//! **No wake-up is lost.** A waiter stores `is_awaited`, *then* tries the lock. The holder frees the lock,
//! *then* loads `is_awaited`, and if it is set, clears it, *then* raises an eventfd that all waiters watch.
//! The store and the attempt on one side, and the freeing and the load on the other, are sequentially
//! consistent: so either the waiter finds the lock free, or the holder finds it awaited. A waiter whose
//! store is overwritten by the clearing sees the eventfd raised after its attempt. Only a process that is
//! killed while it holds the lock, or between freeing it and raising the eventfd, wakes no waiter: so
//! waiters also try again from time to time. A process that is killed while it waits leaves `is_awaited`
//! set, which costs one needless wake-up.

use super::lineage::Generation;
use super::liveness::Living;
use super::poll::EventFd;
use super::shared_cell::SharedCell;
use bytemuck::Pod;
use std::fmt;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
};

const FREE: u64 = 0;

/// The offset of the values, which are therefore aligned to a cache line.
pub(crate) const VALUES: usize = 64;

/// The header of the mapping. All-zero is its initial state, and any bytes are a valid header.
#[repr(C, align(64))]
struct Header {
    /// The ticket of the process that holds the lock, or [`FREE`].
    holder: AtomicU64,
    /// How many tickets were issued.
    tickets: AtomicU64,
    /// 1: a process may wait for the lock. Set by each waiter before each attempt; cleared by an unlock
    /// that sees it, before it raises the eventfd.
    is_awaited: AtomicU32,
    notes: Notes,
}

const _: () = assert!(size_of::<Header>() <= VALUES);

/// State that processes share beside the values. The lock does not depend on it.
#[derive(Debug)]
pub(crate) struct Notes {
    /// Not zero if a process or a greenlet has ended in the middle of a change. Set by
    /// [`SharedMemory::try_lock`], among others.
    pub(crate) is_poisoned: AtomicU32,
    /// Until this time of the monotonic clock, only preferred waiters try to take the lock.
    pub(crate) promised_until: AtomicU64,
}

/// The memory, zeroed at first. The kernel frees it when no process has it mapped any more.
pub(crate) struct SharedMemory {
    start: NonNull<Header>,
    mapped: usize,
    /// Bytes for the values.
    len: usize,
    living: Living,
    /// Raised by unlocks and never lowered: every write is an event for each epoll instance with a copy of
    /// it.
    unlocked: EventFd,
    /// This process's ticket, and in the bits above [`NUMBER`] the generation of the process that took it.
    ticket: AtomicU64,
}

/// The bits of a ticket's number. It counts the processes that have shared one memory, and does not run
/// out. The other bits distinguish a generation from the two million before it.
const NUMBER: u64 = (1 << 43) - 1;

// SAFETY: nothing in it depends on the thread.
unsafe impl Send for SharedMemory {}

// SAFETY: the header consists of atomics, and the values are cells that any number of threads may access.
unsafe impl Sync for SharedMemory {}

impl SharedMemory {
    /// Maps memory with room for `len` bytes of values.
    pub(crate) fn new(len: usize) -> io::Result<Arc<Self>> {
        let mapped = VALUES.checked_add(len).filter(|all| isize::try_from(*all).is_ok());
        let mapped = mapped.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        let (living, unlocked) = (Living::new()?, EventFd::new());
        unlocked.fd()?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
        let start = unsafe { libc::mmap(ptr::null_mut(), mapped, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).expect("mmap does not return address zero");
        let ticket = AtomicU64::new(0);
        let memory = SharedMemory { start, mapped, len, living, unlocked, ticket };
        memory.take_ticket(0)?;
        Ok(Arc::new(memory))
    }

    fn header(&self) -> &Header {
        // SAFETY: a page-aligned mapping of at least the header's size, in which any bytes are a valid
        // header.
        unsafe { self.start.as_ref() }
    }

    pub(crate) fn notes(&self) -> &Notes {
        &self.header().notes
    }

    /// Returns how many values of a type fit.
    pub(crate) fn count<T: Pod>(&self) -> usize {
        self.len / size_of::<T>()
    }

    /// Returns this process's ticket, and takes one if it has none.
    ///
    /// # Panics
    ///
    /// If the kernel has no memory left for the record lock of a new ticket.
    fn ticket(&self) -> u64 {
        let known = self.ticket.load(Acquire);
        if known & !NUMBER == above_number(Generation::current()) && known & NUMBER != 0 {
            return known & NUMBER;
        }
        let taken = self.take_ticket(known);
        taken.unwrap_or_else(|error| panic!("cannot register this process for a lock: {error}"))
    }

    /// Takes a ticket. `known` is the inherited ticket of the process that this one was forked from, or 0.
    #[cold]
    fn take_ticket(&self, known: u64) -> io::Result<u64> {
        let number = self.header().tickets.fetch_add(1, Relaxed) + 1;
        self.living.enter(number)?;
        let mine = number | above_number(Generation::current());
        // One ticket per process: the kernel does not report a process's own record locks to it. If another
        // thread was faster, use its ticket.
        match self.ticket.compare_exchange(known, mine, Release, Acquire) {
            Ok(_) => Ok(number),
            Err(other) => Ok(other & NUMBER),
        }
    }

    /// Takes the lock if it is free, or if its holder is dead: then it marks the memory as poisoned.
    pub(crate) fn try_lock(self: &Arc<Self>) -> Option<Locked> {
        let (header, me) = (self.header(), self.ticket());
        if let Err(holder) = header.holder.compare_exchange(FREE, me, SeqCst, SeqCst) {
            if holder == me || self.living.other_lives(holder) {
                return None;
            }
            // No process gets a ticket twice. So if the holder is unchanged, it held the lock when it died.
            header.holder.compare_exchange(holder, me, SeqCst, SeqCst).ok()?;
            header.notes.is_poisoned.store(1, Relaxed);
        }
        Some(Locked { memory: Arc::clone(self), generation: Generation::current() })
    }

    fn unlock(&self) {
        let header = self.header();
        header.holder.store(FREE, SeqCst);
        if header.is_awaited.load(SeqCst) != 0 {
            header.is_awaited.store(0, SeqCst);
            self.unlocked.raise();
        }
    }

    /// Announces a waiter for the lock. To be called before each attempt to take it.
    pub(crate) fn await_lock(&self) {
        self.header().is_awaited.store(1, SeqCst);
    }

    /// Returns a copy of the eventfd, which has an edge-triggered event at each unlock that found a waiter.
    pub(crate) fn unlocked(&self) -> io::Result<OwnedFd> {
        // SAFETY: `unlocked` owns the descriptor, and lives as long as `self`.
        unsafe { BorrowedFd::borrow_raw(self.unlocked.fd()?) }.try_clone_to_owned()
    }
}

/// Returns a generation, shifted to the bits above [`NUMBER`].
fn above_number(generation: Generation) -> u64 {
    u64::from(generation.bits()).wrapping_mul(NUMBER + 1)
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        // SAFETY: the whole mapping that `new` has made. Each guard has an `Arc` of this: so there is no
        // guard left in this process, nor a reference to a cell. Other processes have mappings of their
        // own.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.mapped) };
    }
}

impl fmt::Debug for SharedMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedMemory").field("len", &self.len).finish_non_exhaustive()
    }
}

/// Guard of the lock, which gives access to the values.
///
/// If it is forgotten, the lock stays held and the memory mapped until the process ends.
#[derive(Debug)]
pub(crate) struct Locked {
    memory: Arc<SharedMemory>,
    /// The process that holds the lock. A child forked since then has a useless copy of the guard.
    generation: Generation,
}

impl Locked {
    /// Whether this process has taken the lock.
    #[inline]
    pub(crate) fn is_ours(&self) -> bool {
        self.generation == Generation::current()
    }

    pub(crate) fn notes(&self) -> &Notes {
        self.memory.notes()
    }

    /// Returns all values.
    ///
    /// # Panics
    ///
    /// In a process that has inherited the guard from its parent by a fork.
    #[inline]
    pub(crate) fn cells<T: Pod>(&self) -> &[SharedCell<T>] {
        const { assert!(align_of::<T>() <= VALUES, "shared values are aligned to 64 bytes at most") };
        assert!(
            self.is_ours(),
            "the lock was taken in the process that this one was forked from: take it here"
        );
        // SAFETY: the mapping has `len` bytes there, aligned to `VALUES`, and stays mapped while `memory`
        // lives. Any bytes are a valid `T`, and a `SharedCell` allows other processes to write to it at any
        // time.
        unsafe {
            let first = self.memory.start.cast::<u8>().add(VALUES).cast();
            slice::from_raw_parts(first.as_ptr(), self.memory.count::<T>())
        }
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        if self.is_ours() {
            self.memory.unlock();
        }
    }
}
