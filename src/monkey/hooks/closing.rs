//! Calls after which a number is that of another descriptor, or of none, or has other settings.

use super::{files, lingering, locks, output};
use crate::monkey::descriptors::{forget, forget_range};
use crate::monkey::gate::is_cooperative;
use crate::monkey::numbers::{copied, settings_changed};
use crate::monkey::{errno, originals, owners};
use libc::{FILE, c_int, c_uint, c_ulong};

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn close(fd: c_int) -> c_int {
    let _held = lingering::hold(&originals::close::ROW, fd);
    forget(fd);
    // SAFETY: the caller's.
    let result = unsafe { originals::close::call(fd) };
    output::forget(fd);
    result
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int {
    if flags & libc::CLOSE_RANGE_CLOEXEC as c_int == 0 && first <= last {
        if lingering::may_linger() && is_cooperative(&originals::close_range::ROW) {
            originals::close_range::ROW.count_blocked();
        }
        forget_range(first, last);
    }
    // SAFETY: the caller's.
    let result = unsafe { originals::close_range::call(first, last, flags) };
    output::forget_from(first);
    result
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn closefrom(first: c_int) {
    if lingering::may_linger() && is_cooperative(&originals::closefrom::ROW) {
        originals::closefrom::ROW.count_blocked();
    }
    forget_range(first.max(0) as c_uint, c_uint::MAX);
    // SAFETY: the caller's.
    unsafe { originals::closefrom::call(first) };
    output::forget_from(first.max(0) as c_uint);
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn fclose(file: *mut FILE) -> c_int {
    let _held = lingering::may_linger().then(|| {
        // SAFETY: the caller's.
        lingering::hold(&originals::fclose::ROW, unsafe { libc::fileno(file) })
    });
    // SAFETY: the caller's.
    let fd = unsafe { forget_file(file) };
    // SAFETY: the caller's.
    let result = unsafe { originals::fclose::call(file) };
    output::forget(fd);
    result
}

/// The number of a file of C's is about to be closed. Returns it.
///
/// # Safety
///
/// An open file.
pub(super) unsafe fn forget_file(file: *mut FILE) -> c_int {
    owners::forget(file.addr());
    // SAFETY: the caller's.
    unsafe { forget_number(file) }
}

/// Like [`forget_file`], of a file that stays what it is: it keeps its lock.
///
/// # Safety
///
/// An open file.
pub(super) unsafe fn forget_number(file: *mut FILE) -> c_int {
    let before = errno::get();
    // SAFETY: the caller's.
    let fd = unsafe { libc::fileno(file) };
    forget(fd);
    errno::set(before);
    fd
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn dup(fd: c_int) -> c_int {
    // SAFETY: the caller's.
    let to = unsafe { originals::dup::call(fd) };
    if to >= 0 {
        copied(fd, to);
    }
    to
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn dup2(from: c_int, to: c_int) -> c_int {
    let _held = (from != to).then(|| lingering::hold(&originals::dup2::ROW, to));
    if from != to {
        forget(to);
    }
    // SAFETY: the caller's.
    let result = unsafe { originals::dup2::call(from, to) };
    output::forget(to);
    if result >= 0 && from != to {
        copied(from, to);
    }
    result
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn dup3(from: c_int, to: c_int, flags: c_int) -> c_int {
    let _held = (from != to).then(|| lingering::hold(&originals::dup3::ROW, to));
    if from != to {
        forget(to);
    }
    // SAFETY: the caller's.
    let result = unsafe { originals::dup3::call(from, to, flags) };
    output::forget(to);
    if result >= 0 {
        copied(from, to);
    }
    result
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn fcntl(fd: c_int, command: c_int, argument: usize) -> c_int {
    if let Some(trying) = locks::without_waiting(command)
        && files::are_patched()
        && is_cooperative(&originals::fcntl::ROW)
    {
        // SAFETY: the caller's.
        return unsafe { locks::lock(fd, command, trying, argument) };
    }
    // SAFETY: the caller's.
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
/// As libc's.
pub(in crate::monkey) unsafe fn ioctl(fd: c_int, request: c_ulong, argument: usize) -> c_int {
    // SAFETY: the caller's.
    let result = unsafe { originals::ioctl::call(fd, request, argument) };
    if request == libc::FIONBIO as c_ulong {
        settings_changed(fd);
    }
    result
}
