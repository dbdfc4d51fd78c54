//! Calls after which a descriptor number refers to another file, to no file, or to one with other settings.

use super::{files, lingering, locks, output};
use crate::monkey::descriptors::{forget, forget_range};
use crate::monkey::gate::is_cooperative;
use crate::monkey::numbers::{copied, settings_changed};
use crate::monkey::{errno, originals, owners};
use libc::{FILE, c_int, c_uint, c_ulong};

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn close(fd: c_int) -> c_int {
    let _held = lingering::hold(&originals::close::ROW, fd);
    forget(fd);
    // SAFETY: no pointer is passed.
    let result = unsafe { originals::close::call(fd) };
    output::forget(fd);
    result
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int {
    if flags & libc::CLOSE_RANGE_CLOEXEC as c_int == 0 && first <= last {
        if lingering::may_linger() && is_cooperative(&originals::close_range::ROW) {
            originals::close_range::ROW.count_blocked();
        }
        forget_range(first, last);
    }
    // SAFETY: no pointer is passed.
    let result = unsafe { originals::close_range::call(first, last, flags) };
    output::forget_from(first);
    result
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn closefrom(first: c_int) {
    if lingering::may_linger() && is_cooperative(&originals::closefrom::ROW) {
        originals::closefrom::ROW.count_blocked();
    }
    forget_range(first.max(0) as c_uint, c_uint::MAX);
    // SAFETY: no pointer is passed.
    unsafe { originals::closefrom::call(first) };
    output::forget_from(first.max(0) as c_uint);
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn fclose(file: *mut FILE) -> c_int {
    let _held = lingering::may_linger().then(|| {
        // SAFETY: contract of a hook: the file is open.
        lingering::hold(&originals::fclose::ROW, unsafe { libc::fileno(file) })
    });
    // SAFETY: contract of a hook: the file is open.
    let fd = unsafe { forget_file(file) };
    // SAFETY: contract of a hook: libc's `fclose` gets the caller's pointers.
    let result = unsafe { originals::fclose::call(file) };
    output::forget(fd);
    result
}

/// Forgets the descriptor of a C stream that is about to be closed. Returns the number.
///
/// # Safety
///
/// `file` is open.
pub(super) unsafe fn forget_file(file: *mut FILE) -> c_int {
    owners::forget(file.addr());
    // SAFETY: contract of a hook: the file is open.
    unsafe { forget_number(file) }
}

/// Like [`forget_file`], for a stream that stays in use: it keeps its lock.
///
/// # Safety
///
/// `file` is open.
pub(super) unsafe fn forget_number(file: *mut FILE) -> c_int {
    let before = errno::get();
    // SAFETY: contract of a hook: the file is open.
    let fd = unsafe { libc::fileno(file) };
    forget(fd);
    errno::set(before);
    fd
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn dup(fd: c_int) -> c_int {
    // SAFETY: no pointer is passed.
    let to = unsafe { originals::dup::call(fd) };
    if to >= 0 {
        copied(fd, to);
    }
    to
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn dup2(from: c_int, to: c_int) -> c_int {
    let _held = (from != to).then(|| lingering::hold(&originals::dup2::ROW, to));
    if from != to {
        forget(to);
    }
    // SAFETY: no pointer is passed.
    let result = unsafe { originals::dup2::call(from, to) };
    output::forget(to);
    if result >= 0 && from != to {
        copied(from, to);
    }
    result
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn dup3(from: c_int, to: c_int, flags: c_int) -> c_int {
    let _held = (from != to).then(|| lingering::hold(&originals::dup3::ROW, to));
    if from != to {
        forget(to);
    }
    // SAFETY: no pointer is passed.
    let result = unsafe { originals::dup3::call(from, to, flags) };
    output::forget(to);
    if result >= 0 {
        copied(from, to);
    }
    result
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn fcntl(fd: c_int, command: c_int, argument: usize) -> c_int {
    if let Some(trying) = locks::without_waiting(command)
        && files::are_patched()
        && is_cooperative(&originals::fcntl::ROW)
    {
        // SAFETY: contract of a hook: `lock` has the same contract.
        return unsafe { locks::lock(fd, command, trying, argument) };
    }
    // SAFETY: contract of a hook: libc's `fcntl` gets the caller's pointers.
    let result = unsafe { originals::fcntl::call(fd, command, argument) };
    match command {
        libc::F_SETFL => settings_changed(fd),
        libc::F_DUPFD | libc::F_DUPFD_CLOEXEC if result >= 0 => copied(fd, result),
        _ => {}
    }
    result
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn ioctl(fd: c_int, request: c_ulong, argument: usize) -> c_int {
    // SAFETY: contract of a hook: libc's `ioctl` gets the caller's pointers.
    let result = unsafe { originals::ioctl::call(fd, request, argument) };
    if request == libc::FIONBIO as c_ulong {
        settings_changed(fd);
    }
    result
}
