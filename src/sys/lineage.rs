//! Which process this is: the one that has made what is in its memory, or a child with a copy of it.
//!
//! ```text
//!   wiped by the kernel in each child      copied by a fork         one per thread
//!   OWN: owner 1 │ generation 1            LAST 1 │ OWNED_IN 1      VFORKED_FROM 0
//!
//!   fork, clone ──► child:  owner 0 │ generation 0 ── asked for ──► generation LAST + 1
//!   vfork ────────► child:  the same memory: owner 3 = 1 + 2 (one under way), VFORKED_FROM is its parent
//! ```
//!
//! An *owner* has made the hubs that there are, and the tables that threads share: it alone may use them. A
//! child that this library has not made is none, until it begins anew (`fork.rs`). To ask is one load and one
//! comparison, since every hooked call and every wait does so, and it holds for children that no function of
//! libc has made as well. Where the kernel wipes nothing (before Linux 4.14, or in an emulator), a handler of
//! `pthread_atfork` does so, and a child that was made by a system call alone is not noticed.
//!
//! A child of `vfork` is told by its number, which costs a system call: it is asked for only on a thread that
//! has made one since it was last seen in the parent.

use std::sync::OnceLock;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicI32, AtomicU32};

/// Whole pages, which is what is wiped: no processor has larger ones.
#[cfg_attr(target_arch = "x86_64", repr(C, align(4096)))]
#[cfg_attr(not(target_arch = "x86_64"), repr(C, align(65536)))]
struct Wiped {
    /// [`OWNER`], and [`VFORK`] for each thread that may have a vfork under way.
    owner: AtomicU32,
    /// One more than this process's [`Generation`], once it was asked for.
    generation: AtomicU32,
    /// 1: the thread that was forked has let go of its hub.
    has_left: AtomicU32,
}

const OWNER: u32 = 1;
const VFORK: u32 = 2;

static OWN: Wiped =
    Wiped { owner: AtomicU32::new(0), generation: AtomicU32::new(0), has_left: AtomicU32::new(0) };

/// The last generation that was counted by this process or one that it descends from, and one more.
static LAST: AtomicU32 = AtomicU32::new(0);

/// The same of the last that was an owner.
static OWNED_IN: AtomicU32 = AtomicU32::new(0);

/// Has the thread that was forked let go of its hub, in the child.
static LEAVE: OnceLock<fn()> = OnceLock::new();

thread_local! {
    /// The process in which this thread has called `vfork`, until it is seen there again. Atomic, since
    /// signal handlers look at it.
    static VFORKED_FROM: AtomicI32 = const { AtomicI32::new(0) };
}

/// The process that something was made in, told apart from all that it descends from and all that descend
/// from it. Not by its number, which another has later, and which takes a system call to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Generation(u32);

impl Generation {
    /// This one.
    #[inline]
    pub(crate) fn current() -> Self {
        match OWN.generation.load(Relaxed) {
            0 => count(),
            known => Generation(known - 1),
        }
    }

    #[cfg(feature = "process")]
    pub(crate) fn bits(self) -> u32 {
        self.0
    }
}

/// Whether this process may be a child: `false` only of one that has made all that is in its memory. One
/// load, for what is done often.
#[inline]
pub(crate) fn is_child() -> bool {
    OWN.generation.load(Relaxed) != 1
}

/// Counts this process.
#[cold]
fn count() -> Generation {
    let last = LAST.load(Acquire);
    if last == 0 {
        watch_forks();
    }
    // Before the number is handed out: no child must take it for its own.
    LAST.fetch_max(last + 1, Release);
    let counted = OWN.generation.compare_exchange(0, last + 1, SeqCst, SeqCst);
    Generation(counted.map_or_else(|other| other, |_| last + 1) - 1)
}

/// Has children start with an empty page.
fn watch_forks() {
    let page = (&raw const OWN).cast_mut().cast();
    // SAFETY: whole pages of our own, which are in use already and stay.
    unsafe { libc::madvise(page, size_of::<Wiped>(), libc::MADV_WIPEONFORK) };
    // Also where it is wiped: emulators say so and do not. Two threads may both register it, which does no
    // harm.
    // SAFETY: a function that is always there, and may be called in a child of a process with threads.
    unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
}

extern "C" fn in_child() {
    OWN.owner.store(0, Relaxed);
    OWN.generation.store(0, Relaxed);
    if let Some(leave) = LEAVE.get() {
        leave();
    }
    OWN.has_left.store(1, Relaxed);
}

/// Whether this process is an owner.
#[inline(always)]
pub(crate) fn owns() -> bool {
    OWN.owner.load(Relaxed) == OWNER || owns_beside_vforks()
}

#[cold]
#[inline(never)]
fn owns_beside_vforks() -> bool {
    if OWN.owner.load(Relaxed) & OWNER == 0 || is_vfork_child() {
        return false;
    }
    // Atomic: a signal handler may come in between.
    if VFORKED_FROM.with(|from| from.swap(0, Relaxed)) != 0 {
        OWN.owner.fetch_sub(VFORK, Relaxed);
    }
    true
}

/// Whether the process is a copy of an owner, and none itself. Not of a child of `vfork`.
pub(crate) fn is_copy() -> bool {
    OWN.owner.load(Relaxed) & OWNER == 0 && OWNED_IN.load(Relaxed) != 0
}

/// Whether this is a child of `vfork`, which has its parent's memory.
pub(crate) fn is_vfork_child() -> bool {
    let from = VFORKED_FROM.with(|from| from.load(Relaxed));
    // Not by `libc::syscall`, which may be a hook that asks for this.
    // SAFETY: no preconditions.
    from != 0 && unsafe { libc::getpid() } != from
}

/// The calling thread is about to call `vfork`, or something else that makes a child with this memory.
#[cfg(all(feature = "monkey", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) fn note_vfork() {
    if OWN.owner.load(Relaxed) & OWNER == 0 {
        return;
    }
    // SAFETY: no preconditions.
    let process = unsafe { libc::getpid() };
    // If it is set, this may be a child that makes another: what is said of the first parent stays.
    let noted = VFORKED_FROM.with(|from| from.compare_exchange(0, process, Relaxed, Relaxed));
    if noted.is_ok() {
        OWN.owner.fetch_add(VFORK, Relaxed);
    }
}

/// Whether the thread that was forked has let go of its hub, or has said that it has none.
pub(super) fn has_left() -> bool {
    OWN.has_left.load(Relaxed) != 0
}

/// Says that it has.
pub(crate) fn set_left() {
    OWN.has_left.store(1, Relaxed);
}

/// Has the thread that is forked call `leave` in the child.
pub(crate) fn at_copy(leave: fn()) {
    let _ = LEAVE.set(leave);
}

/// Makes this process an owner.
pub(super) fn set_owner() {
    let Generation(current) = Generation::current();
    VFORKED_FROM.with(|from| from.store(0, Relaxed));
    OWNED_IN.store(current + 1, Relaxed);
    OWN.owner.store(OWNER, SeqCst);
}

/// In a child that this library has made.
pub(super) fn begin() {
    OWN.generation.store(0, Relaxed);
    count();
    set_owner();
}

/// Says what the generation is that a signal handler may ask for: see [`is_now`].
pub(super) fn tell_now(place: &AtomicU32) {
    let Generation(current) = Generation::current();
    place.store(current + 1, Release);
}

/// Whether this process is the one of [`tell_now`]. May be called in a signal handler.
pub(super) fn is_now(place: &AtomicU32) -> bool {
    place.load(Acquire) == OWN.generation.load(Relaxed) && !is_vfork_child()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wiped_has_pages_of_its_own() {
        // SAFETY: no preconditions.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        assert!(size_of::<Wiped>().is_multiple_of(page));
        assert!((&raw const OWN).addr().is_multiple_of(page));
    }
}
