//! Opening files.
//!
//! Opening one end of a FIFO waits for the other end: a dedicated thread makes that wait. Any other path is
//! opened at once.

use super::closing::{forget_file, forget_number};
use super::{file_locks, output};
use crate::hub::{Interrupts, yield_if_due_nounwind};
use crate::monkey::blocking_pool::Lent;
use crate::monkey::dedicated::aside_or_interrupted;
use crate::monkey::descriptors::forget_last;
use crate::monkey::gate::is_cooperative;
use crate::monkey::{errno, originals};
use libc::{FILE, c_char, c_int, mode_t};
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;

/// The symbols that open a path.
///
/// glibc's variants for large files are the same, and so are those that check at compile time that no mode
/// is needed.
macro_rules! opens {
    ($($name:ident($($folder:ident)?; $($mode:ident)?);)*) => {$(
        /// # Safety
        ///
        /// Contract of a hook (`hooks/mod.rs`).
        pub(in crate::monkey) unsafe fn $name(
            $($folder: c_int,)?
            path: *const c_char,
            flags: c_int,
            $($mode: mode_t,)?
        ) -> c_int {
            let (folder, mode) = (libc::AT_FDCWD, 0);
            $(let folder = { let _ = folder; $folder };)?
            $(let mode = { let _ : mode_t = mode; $mode };)?
            // SAFETY: contract of a hook: `by` has the same contract.
            unsafe {
                open_at(folder, path, flags, mode, || {
                    originals::$name::ROW.count_blocked();
                })
            }
        }
    )*};
}

opens! {
    open(; mode);
    open64(; mode);
    openat(folder; mode);
    openat64(folder; mode);
    __open_2(;);
    __open64_2(;);
    __openat_2(folder;);
    __openat64_2(folder;);
}

const CREATES: c_int = libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC;

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn creat(path: *const c_char, mode: mode_t) -> c_int {
    let count = || originals::creat::ROW.count_blocked();
    // SAFETY: contract of a hook: `by` has the same contract.
    unsafe { open_at(libc::AT_FDCWD, path, CREATES, mode, count) }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn creat64(path: *const c_char, mode: mode_t) -> c_int {
    let count = || originals::creat64::ROW.count_blocked();
    // SAFETY: contract of a hook: `by` has the same contract.
    unsafe { open_at(libc::AT_FDCWD, path, CREATES, mode, count) }
}

/// Opens a path like `openat`.
///
/// `count_blocked` is called if the thread is going to be blocked.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `openat`.
unsafe fn open_at(
    folder: c_int,
    path: *const c_char,
    flags: c_int,
    mode: mode_t,
    count_blocked: impl FnOnce(),
) -> c_int {
    let waits = flags & (libc::O_NONBLOCK | libc::O_PATH) == 0
        && flags & libc::O_ACCMODE != libc::O_RDWR
        // SAFETY: contract of a hook: `is_fifo` has the same contract.
        && unsafe { is_fifo(folder, path) };
    let opened = if waits {
        yield_if_due_nounwind();
        // SAFETY: contract of a hook: `path` ends with a zero byte, since the kernel has just read it.
        let path: CString = unsafe { CStr::from_ptr(path) }.into();
        let copy = path.clone();
        // SAFETY: the path is a copy that outlives the call.
        let open = move || unsafe { originals::openat64::call(folder, path.as_ptr(), flags, mode) };
        aside_or_interrupted("open", Interrupts::Tell, open).unwrap_or_else(|| {
            count_blocked();
            // SAFETY: the path is a copy that outlives the call.
            unsafe { originals::openat64::call(folder, copy.as_ptr(), flags, mode) }
        })
    } else {
        // SAFETY: contract of a hook: libc's `openat64` gets the caller's pointers.
        unsafe { originals::openat64::call(folder, path, flags, mode) }
    };
    forget_last(opened);
    opened
}

/// Whether a path leads to a FIFO. Errno stays as it is.
///
/// # Safety
///
/// `path` is null or ends with a zero byte.
unsafe fn is_fifo(folder: c_int, path: *const c_char) -> bool {
    if path.is_null() {
        return false;
    }
    let before = errno::get();
    let mut status = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the path ends with a zero byte: the contract of this function; `status` is valid for a write.
    let answer = unsafe { libc::fstatat(folder, path, status.as_mut_ptr(), 0) };
    errno::set(before);
    // SAFETY: the call has succeeded, so it has filled in `status`.
    answer == 0 && unsafe { status.assume_init() }.st_mode & libc::S_IFMT == libc::S_IFIFO
}

/// Whether opening a C stream may wait: a FIFO, in a mode other than reading and writing.
///
/// # Safety
///
/// Each is null or ends with a zero byte.
unsafe fn stream_waits(path: *const c_char, mode: *const c_char) -> bool {
    // SAFETY: the mode is not null, so it ends with a zero byte.
    !mode.is_null()
        && !unsafe { CStr::from_ptr(mode) }.to_bytes().contains(&b'+')
        // SAFETY: contract of a hook: `is_fifo` has the same contract.
        && unsafe { is_fifo(libc::AT_FDCWD, path) }
}

/// Opens a C stream, which waits like the opening of its descriptor.
macro_rules! streams {
    ($($name:ident($($file:ident)?);)*) => {$(
        /// # Safety
        ///
        /// Contract of a hook (`hooks/mod.rs`).
        pub(in crate::monkey) unsafe fn $name(
            path: *const c_char,
            mode: *const c_char,
            $($file: *mut FILE,)?
        ) -> *mut FILE {
            let reopened: &[*mut FILE] = &[$($file)?];
            // SAFETY: contract of a hook: the file is open.
            reopened.iter().for_each(|file| output::forget(unsafe { forget_number(*file) }));
            // SAFETY: contract of a hook: `stream_waits` has the same contract.
            if !unsafe { stream_waits(path, mode) } || !is_cooperative(&originals::$name::ROW) {
                // SAFETY: contract of a hook: libc's function gets the caller's pointers.
                let opened = unsafe { originals::$name::call(path, mode, $($file)?) };
                match reopened {
                    _ if opened.is_null() => {}
                    // SAFETY: the stream was opened just now.
                    [] => output::forget(unsafe { forget_file(opened) }),
                    // SAFETY: the stream was opened just now.
                    _ => output::forget(unsafe { forget_number(opened) }),
                }
                return opened;
            }
            if reopened.iter().any(|file| file_locks::is_callers(*file)) {
                // The other thread would wait for the caller's lock.
                // SAFETY: contract of a hook: libc's function gets the caller's pointers.
                return unsafe { originals::$name::call_blocking(path, mode, $($file)?) };
            }
            yield_if_due_nounwind();
            // SAFETY: contract of a hook: the pointers are valid on any thread until the suspended caller
            // returns.
            let lent = unsafe { Lent::new((path, mode, $($file)?)) };
            let opened = aside_or_interrupted(stringify!($name), Interrupts::Tell, move || {
                #[allow(unused_parens, reason = "of one that takes two arguments")]
                let (path, mode, $($file)?) = lent.get();
                // SAFETY: contract of a hook: the suspended caller lends the pointers. A C stream is not
                // bound to the thread that opens it.
                unsafe { Lent::new(originals::$name::call(path, mode, $($file)?)) }
            });
            let opened = match opened {
                Some(opened) => opened.get(),
                // SAFETY: contract of a hook: libc's function gets the caller's pointers.
                None => unsafe { originals::$name::call_blocking(path, mode, $($file)?) },
            };
            if !opened.is_null() {
                // SAFETY: the stream was opened just now.
                output::forget(unsafe { forget_file(opened) });
            }
            opened
        }
    )*};
}

streams! {
    fopen();
    fopen64();
    freopen(file);
    freopen64(file);
}
