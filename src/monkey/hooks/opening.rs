//! Opening. One end of a FIFO is opened when there is the other one: a thread of its own waits for that.
//! Everything else that has a path is opened at once.

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

/// The symbols that open a path: those of glibc's that are for large files are the same, and so are
/// those that check at compile time that no mode is needed.
macro_rules! opens {
    ($($name:ident($($folder:ident)?; $($mode:ident)?);)*) => {$(
        /// # Safety
        ///
        /// As libc's.
        pub(in crate::monkey) unsafe fn $name(
            $($folder: c_int,)?
            path: *const c_char,
            flags: c_int,
            $($mode: mode_t,)?
        ) -> c_int {
            let (folder, mode) = (libc::AT_FDCWD, 0);
            $(let folder = { let _ = folder; $folder };)?
            $(let mode = { let _ : mode_t = mode; $mode };)?
            // SAFETY: the caller's.
            unsafe {
                by(folder, path, flags, mode, || {
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
/// As libc's.
pub(in crate::monkey) unsafe fn creat(path: *const c_char, mode: mode_t) -> c_int {
    let count = || originals::creat::ROW.count_blocked();
    // SAFETY: the caller's.
    unsafe { by(libc::AT_FDCWD, path, CREATES, mode, count) }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn creat64(path: *const c_char, mode: mode_t) -> c_int {
    let count = || originals::creat64::ROW.count_blocked();
    // SAFETY: the caller's.
    unsafe { by(libc::AT_FDCWD, path, CREATES, mode, count) }
}

/// As `openat`. `count_blocked` is called if the thread is going to be held up.
///
/// # Safety
///
/// As libc's `openat`.
unsafe fn by(
    folder: c_int,
    path: *const c_char,
    flags: c_int,
    mode: mode_t,
    count_blocked: impl FnOnce(),
) -> c_int {
    let waits = flags & (libc::O_NONBLOCK | libc::O_PATH) == 0
        && flags & libc::O_ACCMODE != libc::O_RDWR
        // SAFETY: the caller's.
        && unsafe { is_fifo(folder, path) };
    let opened = if waits {
        yield_if_due_nounwind();
        // SAFETY: the caller's; it is a path, since the kernel has looked at it.
        let path: CString = unsafe { CStr::from_ptr(path) }.into();
        let copy = path.clone();
        // SAFETY: a path that lives on.
        let open = move || unsafe { originals::openat64::call(folder, path.as_ptr(), flags, mode) };
        aside_or_interrupted("open", Interrupts::Tell, open).unwrap_or_else(|| {
            count_blocked();
            // SAFETY: a path that lives on.
            unsafe { originals::openat64::call(folder, copy.as_ptr(), flags, mode) }
        })
    } else {
        // SAFETY: the caller's.
        unsafe { originals::openat64::call(folder, path, flags, mode) }
    };
    forget_last(opened);
    opened
}

/// # Safety
///
/// A path, or null.
unsafe fn is_fifo(folder: c_int, path: *const c_char) -> bool {
    if path.is_null() {
        return false;
    }
    let before = errno::get();
    let mut status = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the caller's path, and room for the answer.
    let answer = unsafe { libc::fstatat(folder, path, status.as_mut_ptr(), 0) };
    errno::set(before);
    // SAFETY: it was answered.
    answer == 0 && unsafe { status.assume_init() }.st_mode & libc::S_IFMT == libc::S_IFIFO
}

/// Whether opening a stream of C's may wait: of a FIFO, in any mode but those that read and write.
///
/// # Safety
///
/// A path and a mode, or null.
unsafe fn stream_waits(path: *const c_char, mode: *const c_char) -> bool {
    // SAFETY: the caller's.
    !mode.is_null()
        && !unsafe { CStr::from_ptr(mode) }.to_bytes().contains(&b'+')
        // SAFETY: the caller's.
        && unsafe { is_fifo(libc::AT_FDCWD, path) }
}

/// Opens a stream of C's, which waits as the opening of its descriptor does.
macro_rules! streams {
    ($($name:ident($($file:ident)?);)*) => {$(
        /// # Safety
        ///
        /// As libc's.
        pub(in crate::monkey) unsafe fn $name(
            path: *const c_char,
            mode: *const c_char,
            $($file: *mut FILE,)?
        ) -> *mut FILE {
            let reopened: &[*mut FILE] = &[$($file)?];
            // SAFETY: the caller's.
            reopened.iter().for_each(|file| output::forget(unsafe { forget_number(*file) }));
            // SAFETY: the caller's.
            if !unsafe { stream_waits(path, mode) } || !is_cooperative(&originals::$name::ROW) {
                // SAFETY: the caller's.
                let opened = unsafe { originals::$name::call(path, mode, $($file)?) };
                match reopened {
                    _ if opened.is_null() => {}
                    // SAFETY: it was opened just now.
                    [] => output::forget(unsafe { forget_file(opened) }),
                    // SAFETY: as above.
                    _ => output::forget(unsafe { forget_number(opened) }),
                }
                return opened;
            }
            if reopened.iter().any(|file| file_locks::is_callers(*file)) {
                // Another thread would wait for the caller's lock.
                // SAFETY: the caller's.
                return unsafe { originals::$name::call_blocking(path, mode, $($file)?) };
            }
            yield_if_due_nounwind();
            // SAFETY: the caller's, who is suspended until the call is over.
            let lent = unsafe { Lent::new((path, mode, $($file)?)) };
            let opened = aside_or_interrupted(stringify!($name), Interrupts::Tell, move || {
                #[allow(unused_parens, reason = "of one that takes two arguments")]
                let (path, mode, $($file)?) = lent.get();
                // SAFETY: the caller's. A stream of C's is not bound to the thread that opens it.
                unsafe { Lent::new(originals::$name::call(path, mode, $($file)?)) }
            });
            let opened = match opened {
                Some(opened) => opened.get(),
                // SAFETY: the caller's.
                None => unsafe { originals::$name::call_blocking(path, mode, $($file)?) },
            };
            if !opened.is_null() {
                // SAFETY: it was opened just now.
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
