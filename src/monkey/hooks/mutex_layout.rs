//! What a mutex of glibc says about itself: its kind, and which thread holds it. Checked at run time, once,
//! against mutexes of each kind; with another libc nothing is known, and its calls are made as they are.

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
/// Of the word of a robust mutex, or one that inherits a priority: the holder's number.
const HOLDER: c_int = 0x3fff_ffff;
/// The owner of a mutex whose last one has died with it.
const INCONSISTENT: c_int = i32::MAX;

/// The beginning of a mutex, as programs are compiled with it.
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
    /// `None` if this is not the libc that is known here.
    ///
    /// # Safety
    ///
    /// An initialised mutex, which lives as long as what is returned is used.
    pub(super) unsafe fn of<'a>(mutex: *mut pthread_mutex_t) -> Option<&'a Layout> {
        static IS_KNOWN: OnceLock<bool> = OnceLock::new();
        let is_known = *IS_KNOWN.get_or_init(is_known);
        // SAFETY: the caller's. All parts are changed atomically, or read here as if they were.
        is_known.then(|| unsafe { read(mutex) })
    }

    /// Whether libc asks who the owner is: of those that are recursive, check for errors, are robust, or
    /// inherit a priority. What is left is a word that anyone may set and clear.
    pub(super) fn has_owner(&self) -> bool {
        let kind = self.kind.load(Relaxed);
        kind & (ROBUST | INHERIT) != 0 || matches!(kind & TYPE, RECURSIVE | ERRORCHECK)
    }

    /// Whether libc has an answer for an owner that locks it again. Otherwise the owner waits for itself.
    pub(super) fn answers_its_owner(&self) -> bool {
        matches!(self.kind.load(Relaxed) & TYPE, RECURSIVE | ERRORCHECK)
    }

    pub(super) fn is_robust(&self) -> bool {
        self.kind.load(Relaxed) & ROBUST != 0
    }

    /// Whether its owner is run for those that wait, by the kernel.
    pub(super) fn inherits(&self) -> bool {
        self.kind.load(Relaxed) & INHERIT != 0
    }

    /// Whether it is recursive, and locked more than once.
    pub(super) fn is_nested(&self) -> bool {
        self.kind.load(Relaxed) & TYPE == RECURSIVE && self.count.load(Relaxed) > 1
    }

    /// Whether the calling thread holds it.
    pub(super) fn is_held_here(&self) -> bool {
        // SAFETY: no preconditions.
        let me = unsafe { libc::gettid() };
        let lock = self.lock.load(Relaxed);
        match self.kind.load(Relaxed) & (ROBUST | INHERIT) {
            0 => lock != 0 && self.owner.load(Relaxed) == me,
            _ => lock & HOLDER == me,
        }
    }

    /// Hands a robust mutex of the calling thread over, as libc does when a thread has died with it: it is
    /// the thread's, locked once, and not consistent.
    pub(super) fn pass_on_inconsistent(&self) {
        self.count.store(1, Relaxed);
        self.owner.store(INCONSISTENT, Relaxed);
    }
}

/// # Safety
///
/// As [`Layout::of`].
unsafe fn read<'a>(mutex: *mut pthread_mutex_t) -> &'a Layout {
    // SAFETY: the caller's.
    unsafe { &*mutex.cast::<Layout>() }
}

fn is_known() -> bool {
    const PLAIN: c_int = libc::PTHREAD_MUTEX_NORMAL;
    [(PLAIN, false), (RECURSIVE, false), (ERRORCHECK, false), (PLAIN, true), (RECURSIVE, true)]
        .into_iter()
        .all(|(kind, is_robust)| is_as_known(kind, is_robust))
}

/// Makes a mutex, and compares what is read with what is known to be.
fn is_as_known(kind: c_int, is_robust: bool) -> bool {
    let mut attributes = MaybeUninit::<libc::pthread_mutexattr_t>::uninit();
    let mut mutex = MaybeUninit::<pthread_mutex_t>::zeroed();
    let (attributes, mutex) = (attributes.as_mut_ptr(), mutex.as_mut_ptr());
    let robust = if is_robust { libc::PTHREAD_MUTEX_ROBUST } else { libc::PTHREAD_MUTEX_STALLED };
    // SAFETY: room for both, which are initialised before they are used; the mutex stays where it is.
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
