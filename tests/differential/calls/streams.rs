//! What any descriptor can be asked for: reads and writes.

use super::Call;
use crate::fixtures::{BYTES, FILE, LISTENER};
use crate::memory::{Buffer, Vector};
use crate::params::Param::{Fd, Length};
use crate::params::{OFFSET, READ_FLAGS, SHAPE, WRITE_FLAGS, int};
use crate::world::{fd, outcome};
use libc::{c_int, c_void, iovec, off64_t, size_t, ssize_t};

unsafe extern "C" {
    fn __read_chk(fd: c_int, to: *mut c_void, len: size_t, room: size_t) -> ssize_t;
    fn __pread_chk(fd: c_int, to: *mut c_void, len: size_t, at: off64_t, room: size_t) -> ssize_t;
    fn __pread64_chk(fd: c_int, to: *mut c_void, len: size_t, at: off64_t, room: size_t)
    -> ssize_t;
    fn preadv64v2(fd: c_int, parts: *const iovec, n: c_int, at: off64_t, flags: c_int) -> ssize_t;
    fn pwritev64v2(fd: c_int, parts: *const iovec, n: c_int, at: off64_t, flags: c_int) -> ssize_t;
}

/// A call that reads into one buffer.
macro_rules! reads {
    (
        $weight:literal $name:literal $family:expr, [$($param:expr),*],
        |$fd:ident, $to:ident, $a:ident| $call:expr
    ) => {
        Call::new($name, $weight, $family, &[Fd, Length $(, $param)*], |_, $a| {
            let ($fd, $to) = (fd($a[0]), Buffer::empty($a[1]));
            // SAFETY: a buffer of this length.
            outcome(unsafe { $call }).with(&$to.describe())
        })
    };
}

/// A call that reads into several.
macro_rules! reads_parts {
    (
        $weight:literal $name:literal $family:expr, [$($param:expr),*],
        |$fd:ident, $parts:ident, $n:ident, $a:ident| $call:expr
    ) => {
        Call::new($name, $weight, $family, &[Fd, Length, SHAPE $(, $param)*], |_, $a| {
            let to = Vector::new($a[1], $a[2], |length, _| Buffer::empty(length));
            let ($fd, $parts, $n) = (fd($a[0]), to.parts.pointer(), to.buffers.len() as c_int);
            // SAFETY: buffers of these lengths.
            outcome(unsafe { $call }).with(&to.describe())
        })
    };
}

/// A call that writes one buffer.
macro_rules! writes {
    (
        $weight:literal $name:literal $family:expr, [$($param:expr),*],
        |$fd:ident, $from:ident, $a:ident| $call:expr
    ) => {
        Call::new($name, $weight, $family, &[Fd, Length $(, $param)*], |step, $a| {
            let ($fd, $from) = (fd($a[0]), Buffer::filled($a[1], step));
            // SAFETY: a buffer of this length.
            outcome(unsafe { $call }).text()
        })
    };
}

/// A call that writes several.
macro_rules! writes_parts {
    (
        $weight:literal $name:literal $family:expr, [$($param:expr),*],
        |$fd:ident, $parts:ident, $n:ident, $a:ident| $call:expr
    ) => {
        Call::new($name, $weight, $family, &[Fd, Length, SHAPE $(, $param)*], |step, $a| {
            let from = Vector::new($a[1], $a[2], |length, at| Buffer::filled(length, step + at));
            let ($fd, $parts, $n) = (fd($a[0]), from.parts.pointer(), from.buffers.len() as c_int);
            // SAFETY: buffers of these lengths.
            outcome(unsafe { $call }).text()
        })
    };
}

pub(super) const CALLS: &[Call] = &[
    reads!(10 "read" BYTES | LISTENER, [], |fd, to, a| libc::read(fd, to.pointer(), to.len())),
    reads!(3 "__read_chk" BYTES, [], |fd, to, a| __read_chk(fd, to.pointer(), to.len(), to.len())),
    reads_parts!(6 "readv" BYTES, [], |fd, parts, n, a| libc::readv(fd, parts, n)),
    reads!(3 "pread" FILE, [OFFSET], |fd, to, a| libc::pread(fd, to.pointer(), to.len(), a[2])),
    reads!(3 "pread64" FILE, [OFFSET], |fd, to, a| libc::pread64(fd, to.pointer(), to.len(), a[2])),
    reads!(2 "__pread_chk" FILE, [OFFSET], |fd, to, a| __pread_chk(
        fd,
        to.pointer(),
        to.len(),
        a[2],
        to.len()
    )),
    reads!(2 "__pread64_chk" FILE, [OFFSET], |fd, to, a| __pread64_chk(
        fd,
        to.pointer(),
        to.len(),
        a[2],
        to.len()
    )),
    reads_parts!(3 "preadv" FILE, [OFFSET], |fd, parts, n, a| libc::preadv(fd, parts, n, a[3])),
    reads_parts!(3 "preadv64" FILE, [OFFSET], |fd, parts, n, a| libc::preadv64(fd, parts, n, a[3])),
    reads_parts!(5 "preadv2" BYTES, [OFFSET, READ_FLAGS], |fd, parts, n, a| libc::preadv2(
        fd,
        parts,
        n,
        a[3],
        int(a[4])
    )),
    reads_parts!(3 "preadv64v2" BYTES, [OFFSET, READ_FLAGS], |fd, parts, n, a| preadv64v2(
        fd,
        parts,
        n,
        a[3],
        int(a[4])
    )),
    writes!(10 "write" BYTES | LISTENER, [], |fd, from, a| libc::write(
        fd,
        from.pointer(),
        from.len()
    )),
    writes_parts!(6 "writev" BYTES, [], |fd, parts, n, a| libc::writev(fd, parts, n)),
    writes!(3 "pwrite" FILE, [OFFSET], |fd, from, a| libc::pwrite(
        fd,
        from.pointer(),
        from.len(),
        a[2]
    )),
    writes!(3 "pwrite64" FILE, [OFFSET], |fd, from, a| libc::pwrite64(
        fd,
        from.pointer(),
        from.len(),
        a[2]
    )),
    writes_parts!(3 "pwritev" FILE, [OFFSET], |fd, parts, n, a| libc::pwritev(fd, parts, n, a[3])),
    writes_parts!(3 "pwritev64" FILE, [OFFSET], |fd, parts, n, a| libc::pwritev64(
        fd, parts, n, a[3]
    )),
    writes_parts!(5 "pwritev2" BYTES, [OFFSET, WRITE_FLAGS], |fd, parts, n, a| libc::pwritev2(
        fd,
        parts,
        n,
        a[3],
        int(a[4])
    )),
    writes_parts!(3 "pwritev64v2" BYTES, [OFFSET, WRITE_FLAGS], |fd, parts, n, a| pwritev64v2(
        fd,
        parts,
        n,
        a[3],
        int(a[4])
    )),
];
