//! Tells processes apart: the one that has made the state in its memory, and children with a copy of it.
//!
//! ```text
//!   wiped by the kernel in each child      copied by a fork         one per thread
//!   OWN: owner 1 │ generation 1            LAST 1 │ OWNED_IN 1      VFORKED_FROM 0
//!
//!   fork, clone ──► child:  owner 0 │ generation 0 ── first use ──► generation LAST + 1
//!   vfork ────────► child:  the same memory: owner 3 = 1 + 2 (one in progress), VFORKED_FROM is its parent
//! ```
//!
//! An *owner* has made the hubs and the tables that threads share in its memory; only the owner may use
//! them. A child that was not forked by this library is not an owner until it begins anew (`fork.rs`). The
//! check is one load and one comparison, since every hooked call and every wait makes it. It also works in
//! children that no libc function has made. Where the kernel does not wipe the page (before Linux 4.14, or
//! in an emulator), a `pthread_atfork` handler does, and a child made by a bare system call is not noticed.
//!
//! A child of `vfork` is recognised by its process ID, which takes a system call. That is made only on a
//! thread that has called `vfork` since it was last seen in the parent.

use std::sync::OnceLock;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicI32, AtomicU32};

/// Consists of whole pages, since the kernel wipes whole pages: no processor has larger ones.
#[cfg_attr(target_arch = "x86_64", repr(C, align(4096)))]
#[cfg_attr(not(target_arch = "x86_64"), repr(C, align(65536)))]
struct Wiped {
    /// [`OWNER`] if the process is an owner, plus [`VFORK`] for each thread that may have a `vfork` in
    /// progress. Set by [`set_owner`]; 0 in a new child.
    owner: AtomicU32,
    /// One more than this process's [`Generation`]; 0 before its first use.
    generation: AtomicU32,
    /// 1: the forked thread has let go of the hub that it had in the parent, or has none.
    has_left: AtomicU32,
}

const OWNER: u32 = 1;
const VFORK: u32 = 2;

static OWN: Wiped =
    Wiped { owner: AtomicU32::new(0), generation: AtomicU32::new(0), has_left: AtomicU32::new(0) };

/// One more than the last generation counted by this process or an ancestor of it.
static LAST: AtomicU32 = AtomicU32::new(0);

/// One more than the generation of the last owner among this process and its ancestors. 0: none.
static OWNED_IN: AtomicU32 = AtomicU32::new(0);

/// Called in a child on the forked thread, to let go of the hub that it had in the parent.
static LEAVE: OnceLock<fn()> = OnceLock::new();

thread_local! {
    /// The process in which this thread has called `vfork`, until the thread is seen there again; or 0.
    /// Atomic, since signal handlers read it.
    static VFORKED_FROM: AtomicI32 = const { AtomicI32::new(0) };
}

/// Identifies a process among its ancestors and descendants.
///
/// Unlike a process ID, it is not reused among them, and takes no system call to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Generation(u32);

impl Generation {
    /// Returns the generation of this process.
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

/// Whether this process may be a child. `false` only if it has made everything in its memory.
///
/// One load, for frequent use.
#[inline]
pub(crate) fn is_child() -> bool {
    OWN.generation.load(Relaxed) != 1
}

/// Gives this process its generation.
#[cold]
fn count() -> Generation {
    let last = LAST.load(Acquire);
    if last == 0 {
        watch_forks();
    }
    // Before the number is published: no child may take it for its own.
    LAST.fetch_max(last + 1, Release);
    let counted = OWN.generation.compare_exchange(0, last + 1, SeqCst, SeqCst);
    Generation(counted.map_or_else(|other| other, |_| last + 1) - 1)
}

/// Makes every child start with a wiped page.
fn watch_forks() {
    let page = (&raw const OWN).cast_mut().cast();
    // SAFETY: the range is the whole pages of `OWN`, a static. The advice does not change them in this
    // process.
    unsafe { libc::madvise(page, size_of::<Wiped>(), libc::MADV_WIPEONFORK) };
    // Registered even where the kernel accepts the advice, since emulators accept and ignore it. Two
    // threads may both register it, which is harmless.
    // SAFETY: `in_child` stays valid until the end of the process, and may run in a child of a process with
    // several threads.
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
    // One atomic swap: a signal handler may run in between.
    if VFORKED_FROM.with(|from| from.swap(0, Relaxed)) != 0 {
        OWN.owner.fetch_sub(VFORK, Relaxed);
    }
    true
}

/// Whether the process is a copy of an owner and not an owner itself. `false` in a child of `vfork`.
pub(crate) fn is_copy() -> bool {
    OWN.owner.load(Relaxed) & OWNER == 0 && OWNED_IN.load(Relaxed) != 0
}

/// Whether this is a child of `vfork`, which shares its parent's memory.
pub(crate) fn is_vfork_child() -> bool {
    let from = VFORKED_FROM.with(|from| from.load(Relaxed));
    // Not by `libc::syscall`, which may be a hook that calls this function.
    // SAFETY: `getpid` has no preconditions.
    from != 0 && unsafe { libc::getpid() } != from
}

/// Records that the calling thread is about to call `vfork`, or otherwise to make a child that shares this
/// memory.
#[cfg(all(feature = "monkey", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) fn note_vfork() {
    if OWN.owner.load(Relaxed) & OWNER == 0 {
        return;
    }
    // SAFETY: `getpid` has no preconditions.
    let process = unsafe { libc::getpid() };
    // If it is set already, this may be a child that makes another: keep the first parent.
    let noted = VFORKED_FROM.with(|from| from.compare_exchange(0, process, Relaxed, Relaxed));
    if noted.is_ok() {
        OWN.owner.fetch_add(VFORK, Relaxed);
    }
}

/// Whether the forked thread has let go of its parent's hub, or has never had one.
pub(super) fn has_left() -> bool {
    OWN.has_left.load(Relaxed) != 0
}

/// Records that this thread has let go of its parent's hub, or has none.
pub(crate) fn set_left() {
    OWN.has_left.store(1, Relaxed);
}

/// Sets the function that the forked thread calls in a child, to let go of its parent's hub.
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

/// Makes a child that this library has forked an owner, with a new generation.
pub(super) fn begin() {
    OWN.generation.store(0, Relaxed);
    count();
    set_owner();
}

/// Stores the current generation for [`is_current`], which signal handlers may call.
pub(super) fn store_current(place: &AtomicU32) {
    let Generation(current) = Generation::current();
    place.store(current + 1, Release);
}

/// Whether this is the process that called [`store_current`]. Async-signal-safe.
pub(super) fn is_current(place: &AtomicU32) -> bool {
    place.load(Acquire) == OWN.generation.load(Relaxed) && !is_vfork_child()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wiped_state_has_pages_of_its_own() {
        // SAFETY: `sysconf` has no preconditions.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        assert!(size_of::<Wiped>().is_multiple_of(page));
        assert!((&raw const OWN).addr().is_multiple_of(page));
    }
}
