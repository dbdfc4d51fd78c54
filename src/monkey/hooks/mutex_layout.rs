//! The layout of glibc's mutexes: their kind, and which thread holds one.
//!
//! The layout is checked once, at run time, against mutexes of each kind. With another libc nothing is known,
//! and its functions are called as they are.

use crate::monkey::originals;
use libc::{c_int, pthread_mutex_t};
use std::mem::MaybeUninit;
use std::sync::OnceLock;
use std::sync::atomic::AtomicI32;
use std::sync::atomic::Ordering::Relaxed;

const RECURSIVE: c_int = libc::PTHREAD_MUTEX_RECURSIVE;
const ERRORCHECK: c_int = libc::PTHREAD_MUTEX_ERRORCHECK;
const TYPE: c_int = 3;
const ROBUST: c_int = 16;
const INHERIT: c_int = 32;
/// The bits of `lock` with the holder's thread id, in a mutex that is robust or inherits priority.
const HOLDER: c_int = 0x3fff_ffff;
/// The `owner` of a robust mutex whose previous owner has died.
const INCONSISTENT: c_int = i32::MAX;

/// The beginning of a mutex, as in the ABI for programs.
#[repr(C)]
pub(super) struct Layout {
    lock: AtomicI32,
    count: AtomicI32,
    owner: AtomicI32,
    _users: AtomicI32,
    kind: AtomicI32,
}

const _: () = assert!(size_of::<Layout>() <= size_of::<pthread_mutex_t>());

impl Layout {
    /// The state of a mutex. `None` if the layout is not the known one.
    ///
    /// # Safety
    ///
    /// `mutex` is initialised, and stays valid as long as the result is used.
    pub(super) unsafe fn of<'a>(mutex: *mut pthread_mutex_t) -> Option<&'a Layout> {
        static IS_KNOWN: OnceLock<bool> = OnceLock::new();
        let is_known = *IS_KNOWN.get_or_init(is_known);
        // SAFETY: the contract of this function. All fields are atomics here, as libc changes them
        // concurrently.
        is_known.then(|| unsafe { read(mutex) })
    }

    /// Whether libc checks the owner: the mutex is recursive, checks for errors, is robust, or inherits
    /// priority.
    ///
    /// Any other mutex is a word that any thread may set and clear.
    pub(super) fn has_owner(&self) -> bool {
        let kind = self.kind.load(Relaxed);
        kind & (ROBUST | INHERIT) != 0 || matches!(kind & TYPE, RECURSIVE | ERRORCHECK)
    }

    /// Whether libc returns at once when the owner locks it again. Otherwise the owner waits for itself.
    pub(super) fn answers_its_owner(&self) -> bool {
        matches!(self.kind.load(Relaxed) & TYPE, RECURSIVE | ERRORCHECK)
    }

    pub(super) fn is_robust(&self) -> bool {
        self.kind.load(Relaxed) & ROBUST != 0
    }

    /// Whether the mutex inherits priority: the kernel boosts the owner for the waiters.
    pub(super) fn inherits(&self) -> bool {
        self.kind.load(Relaxed) & INHERIT != 0
    }

    /// Whether the mutex is recursive and locked more than once.
    pub(super) fn is_nested(&self) -> bool {
        self.kind.load(Relaxed) & TYPE == RECURSIVE && self.count.load(Relaxed) > 1
    }

    /// Whether the calling thread holds the mutex.
    pub(super) fn is_held_here(&self) -> bool {
        // SAFETY: `gettid` has no preconditions.
        let me = unsafe { libc::gettid() };
        let lock = self.lock.load(Relaxed);
        match self.kind.load(Relaxed) & (ROBUST | INHERIT) {
            0 => lock != 0 && self.owner.load(Relaxed) == me,
            _ => lock & HOLDER == me,
        }
    }

    /// Passes on a robust mutex that the calling thread holds, as libc does when the owner has died.
    ///
    /// The mutex is then held by the thread, locked once, and inconsistent.
    pub(super) fn pass_on_inconsistent(&self) {
        self.count.store(1, Relaxed);
        self.owner.store(INCONSISTENT, Relaxed);
    }
}

/// The state of a mutex, without a check of the layout.
///
/// # Safety
///
/// The contract of [`Layout::of`].
unsafe fn read<'a>(mutex: *mut pthread_mutex_t) -> &'a Layout {
    // SAFETY: the mutex is initialised and outlives `'a`, and a `Layout` fits into it.
    unsafe { &*mutex.cast::<Layout>() }
}

fn is_known() -> bool {
    const PLAIN: c_int = libc::PTHREAD_MUTEX_NORMAL;
    [(PLAIN, false), (RECURSIVE, false), (ERRORCHECK, false), (PLAIN, true), (RECURSIVE, true)]
        .into_iter()
        .all(|(kind, is_robust)| is_as_known(kind, is_robust))
}

/// Creates a mutex, and compares its state with the expected one at each step.
fn is_as_known(kind: c_int, is_robust: bool) -> bool {
    let mut attributes = MaybeUninit::<libc::pthread_mutexattr_t>::uninit();
    let mut mutex = MaybeUninit::<pthread_mutex_t>::zeroed();
    let (attributes, mutex) = (attributes.as_mut_ptr(), mutex.as_mut_ptr());
    let robust = if is_robust { libc::PTHREAD_MUTEX_ROBUST } else { libc::PTHREAD_MUTEX_STALLED };
    // SAFETY: both are valid for writes and initialised before use, and the mutex is not moved.
    unsafe {
        libc::pthread_mutexattr_init(attributes);
        libc::pthread_mutexattr_settype(attributes, kind);
        libc::pthread_mutexattr_setrobust(attributes, robust);
        let is_made = libc::pthread_mutex_init(mutex, attributes) == 0;
        libc::pthread_mutexattr_destroy(attributes);
        if !is_made {
            return false;
        }
        let state = read(mutex);
        let is_free = || !state.is_held_here() && !state.is_nested();
        let mut is_known = is_free()
            && state.is_robust() == is_robust
            && state.kind.load(Relaxed) & TYPE == kind
            && originals::pthread_mutex_lock::call(mutex) == 0
            && state.is_held_here()
            && !state.is_nested();
        if is_known && kind == RECURSIVE {
            is_known = originals::pthread_mutex_lock::call(mutex) == 0
                && state.is_nested()
                && originals::pthread_mutex_unlock::call(mutex) == 0
                && state.is_held_here();
        }
        is_known = is_known && originals::pthread_mutex_unlock::call(mutex) == 0 && is_free();
        originals::pthread_mutex_destroy::call(mutex);
        is_known
    }
}
