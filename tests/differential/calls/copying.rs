//! Bytes that are moved from one descriptor to another.

use super::Call;
use crate::fixtures::{FILE, PIPE, SOCKET};
use crate::memory::{Buffer, Vector};
use crate::params::Param::{Fd, Length};
use crate::params::{OFFSET, Param, SHAPE, SPLICE_FLAGS};
use crate::world::{Outcome, fd, outcome};
use libc::c_uint;
use std::ptr;

const BOTH: &[Param] = &[Fd, OFFSET, Fd, OFFSET, Length, SPLICE_FLAGS];

pub(super) const CALLS: &[Call] = &[
    Call::new("sendfile", 5, SOCKET | PIPE | FILE, &[Fd, Fd, OFFSET, Length], |_, a| {
        from_offset(a[2], |at| {
            // SAFETY: an offset, or none.
            outcome(unsafe { libc::sendfile(fd(a[0]), fd(a[1]), at, a[3] as usize) })
        })
    }),
    Call::new("sendfile64", 3, SOCKET | PIPE | FILE, &[Fd, Fd, OFFSET, Length], |_, a| {
        from_offset(a[2], |at| {
            // SAFETY: an offset, or none.
            outcome(unsafe { libc::sendfile64(fd(a[0]), fd(a[1]), at, a[3] as usize) })
        })
    }),
    Call::new("splice", 6, PIPE | SOCKET, BOTH, |_, a| {
        both_offsets(a, |from, to| {
            // SAFETY: offsets, or none.
            outcome(unsafe {
                libc::splice(fd(a[0]), from, fd(a[2]), to, a[4] as usize, a[5] as c_uint)
            })
        })
    }),
    Call::new("tee", 4, PIPE, &[Fd, Fd, Length, SPLICE_FLAGS], |_, a| {
        // SAFETY: no memory is involved.
        outcome(unsafe { libc::tee(fd(a[0]), fd(a[1]), a[2] as usize, a[3] as c_uint) }).text()
    }),
    Call::new("vmsplice", 3, PIPE, &[Fd, Length, SHAPE, SPLICE_FLAGS], |step, a| {
        let from = Vector::new(a[1], a[2], |length, at| Buffer::filled(length, step + at));
        let (parts, count) = (from.parts.pointer(), from.buffers.len());
        // SAFETY: buffers of these lengths.
        let got = outcome(unsafe { libc::vmsplice(fd(a[0]), parts, count, a[3] as c_uint) });
        // The pipe refers to the pages: they stay.
        std::mem::forget(from);
        got.text()
    }),
    Call::new("copy_file_range", 4, FILE, BOTH, |_, a| {
        both_offsets(a, |from, to| {
            // SAFETY: offsets, or none.
            outcome(unsafe {
                libc::copy_file_range(fd(a[0]), from, fd(a[2]), to, a[4] as usize, 0)
            })
        })
    }),
];

fn pointer(at: &Buffer) -> *mut i64 {
    if at.get::<i64>() < 0 { ptr::null_mut() } else { at.pointer() }
}

fn from_offset(at: i64, call: impl FnOnce(*mut i64) -> Outcome) -> String {
    let at = Buffer::of(at);
    call(pointer(&at)).with(&format!("at {}", at.get::<i64>()))
}

fn both_offsets(a: &[i64], call: impl FnOnce(*mut i64, *mut i64) -> Outcome) -> String {
    let (from, to) = (Buffer::of(a[1]), Buffer::of(a[3]));
    let got = call(pointer(&from), pointer(&to));
    got.with(&format!("at {} {}", from.get::<i64>(), to.get::<i64>()))
}
