//! Memory that processes share which are forked from the one that makes it, and its lock.
//!
//! ```text
//!   ┌────────┬────────────┬────────────────┬───────────────┬───────────────────────────────┐
//!   │ holder │ is_awaited │ is_poisoned    │ ...           │ the values                    │
//!   └────────┴────────────┴────────────────┴───────────────┴───────────────────────────────┘
//!
//!              try_lock: 0 → ticket                     the process dies
//!     FREE (0) ─────────────────────► HELD (its ticket) ────────────────► HELD by one that is dead
//!        ▲                               │       ▲                               │
//!        └───────────────────────────────┘       └───────────────────────────────┘
//!              drop: ticket → 0                    try_lock: old ticket → new one, poisoned
//! ```
//!
//! The lock is a *process's*: a process has a ticket, a number that no other process gets, and [`Living`]
//! knows whether its process lives. A robust mutex of C would be a thread's, and the kernel would hand it on
//! when that thread ends, while what the guard leads to may be in use on another thread of the same process.
//!
//! No memory safety rests on the lock. Safe code can have what a guard leads to in two processes: in a
//! greenlet, say, that is suspended while its thread forks, and goes on in both. So there are no references
//! to what is in there but to [`SharedCell`]s, which are read and written by atomic instructions, and of
//! types of which any bytes are a value. What the lock is for is that nobody sees what others are in the
//! middle of.
//!
//! **Whoever waits is woken.** It says that the lock is awaited, *then* looks whether it is free. Who unlocks
//! frees it, *then* looks whether it is awaited, and if so says that it is not any more, *then* raises a
//! signal, which all hear who wait. The first two on either side are sequentially consistent: so the one
//! finds it free, or the other finds it awaited. And who says that it is awaited just before that is taken
//! back hears the signal after it has looked. Only one that is killed with the lock, or between freeing it
//! and raising the signal, leaves nobody woken: so whoever waits looks again now and then. One that is killed
//! while it waits has said that the lock is awaited: that is one signal for nothing.

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

/// Where the values begin, which have the alignment of a cache line therefore.
pub(crate) const VALUES: usize = 64;

/// At the beginning of the mapping. All zeros is right, and whatever number another process writes is one.
#[repr(C, align(64))]
struct Header {
    /// The ticket of the process that has the lock, or [`FREE`].
    holder: AtomicU64,
    /// How many tickets were given out.
    tickets: AtomicU64,
    is_awaited: AtomicU32,
    notes: Notes,
}

const _: () = assert!(size_of::<Header>() <= VALUES);

/// What processes tell each other beside the values. The lock does not depend on it.
#[derive(Debug)]
pub(crate) struct Notes {
    /// Not zero if a process or a greenlet has ended in the middle of a change.
    pub(crate) is_poisoned: AtomicU32,
    /// Until when, by the monotonic clock, who comes anew keeps back.
    pub(crate) promised_until: AtomicU64,
}

/// Zero at first. It is given back when no process has it any more.
pub(crate) struct SharedMemory {
    start: NonNull<Header>,
    mapped: usize,
    /// Bytes for the values.
    len: usize,
    living: Living,
    /// Raised by who unlocks, never lowered: every write is an event for whoever has a copy.
    unlocked: EventFd,
    /// This process's ticket, and in the bits above [`NUMBER`] the generation that has taken it.
    ticket: AtomicU64,
}

/// The bits of a ticket's number. It counts processes that have shared one memory, and does not run out. The
/// others tell a generation from two million before it.
const NUMBER: u64 = (1 << 43) - 1;

// SAFETY: nothing in there belongs to a thread.
unsafe impl Send for SharedMemory {}

// SAFETY: the header consists of atomics, and the values are cells that any number of threads may use.
unsafe impl Sync for SharedMemory {}

impl SharedMemory {
    /// Maps room for `len` bytes of values.
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
        // SAFETY: a page-aligned mapping of at least that size, in which any bytes are a header.
        unsafe { self.start.as_ref() }
    }

    pub(crate) fn notes(&self) -> &Notes {
        &self.header().notes
    }

    /// How many values of a type there is room for.
    pub(crate) fn count<T: Pod>(&self) -> usize {
        self.len / size_of::<T>()
    }

    /// This process's ticket.
    ///
    /// # Panics
    ///
    /// If the kernel has no memory left to know of it.
    fn ticket(&self) -> u64 {
        let known = self.ticket.load(Acquire);
        if known & !NUMBER == above_number(Generation::current()) && known & NUMBER != 0 {
            return known & NUMBER;
        }
        let taken = self.take_ticket(known);
        taken.unwrap_or_else(|error| panic!("no lock of this process's can be had: {error}"))
    }

    /// Takes one, in a process that has none: `known` is that of the one that it was forked from.
    #[cold]
    fn take_ticket(&self, known: u64) -> io::Result<u64> {
        let number = self.header().tickets.fetch_add(1, Relaxed) + 1;
        self.living.enter(number)?;
        let mine = number | above_number(Generation::current());
        // One a process: of its own locks the kernel says that there are none. So if another thread was
        // faster, it is that one's ticket.
        match self.ticket.compare_exchange(known, mine, Release, Acquire) {
            Ok(_) => Ok(number),
            Err(other) => Ok(other & NUMBER),
        }
    }

    /// Takes the lock if nobody has it, or if the process is dead that had it: then the memory is poisoned.
    pub(crate) fn try_lock(self: &Arc<Self>) -> Option<Locked> {
        let (header, me) = (self.header(), self.ticket());
        if let Err(holder) = header.holder.compare_exchange(FREE, me, SeqCst, SeqCst) {
            if holder == me || self.living.other_lives(holder) {
                return None;
            }
            // If it is still that one's, it was so when it died: nobody gets its ticket again.
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

    /// Says that somebody waits for the lock. To be said before each look whether it is free.
    pub(crate) fn await_lock(&self) {
        self.header().is_awaited.store(1, SeqCst);
    }

    /// A copy of what there is an event of, in the edge-triggered sense, whenever who had the lock has found
    /// it awaited.
    pub(crate) fn unlocked(&self) -> io::Result<OwnedFd> {
        // SAFETY: it is open for as long as this lives.
        unsafe { BorrowedFd::borrow_raw(self.unlocked.fd()?) }.try_clone_to_owned()
    }
}

fn above_number(generation: Generation) -> u64 {
    u64::from(generation.bits()).wrapping_mul(NUMBER + 1)
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, whole. Whoever has the lock has an `Arc` of this: so nobody has it in
        // this process, nor a reference to a cell. Other processes have mappings of their own.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.mapped) };
    }
}

impl fmt::Debug for SharedMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedMemory").field("len", &self.len).finish_non_exhaustive()
    }
}

/// The values, for whoever has the lock. Forgotten, it keeps the lock and the mapping until the process
/// ends.
#[derive(Debug)]
pub(crate) struct Locked {
    memory: Arc<SharedMemory>,
    /// That which has the lock. A child that was forked since then has a copy of this, of no worth.
    generation: Generation,
}

impl Locked {
    /// Whether it was locked in this process.
    #[inline]
    pub(crate) fn is_ours(&self) -> bool {
        self.generation == Generation::current()
    }

    pub(crate) fn notes(&self) -> &Notes {
        self.memory.notes()
    }

    /// All values.
    ///
    /// # Panics
    ///
    /// In a process that is a copy of the one that has the lock.
    #[inline]
    pub(crate) fn cells<T: Pod>(&self) -> &[SharedCell<T>] {
        const { assert!(align_of::<T>() <= VALUES, "a shared value is aligned to 64 bytes at most") };
        assert!(
            self.is_ours(),
            "it is locked in the process that this one is a copy of: lock it here"
        );
        // SAFETY: the mapping has `len` bytes there, aligned as far as a page is, for as long as `memory`
        // lives. Any bytes are a value, and a cell lets others write to it at any time.
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
