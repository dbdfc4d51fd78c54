//! The rest of several buffers (`iovec`) after some of the bytes were moved.

use crate::sys::user_memory::is_readable;
use libc::{c_int, iovec};

/// Buffers, and how much of them was moved.
#[derive(Clone)]
pub(super) struct Parts {
    all: Vec<iovec>,
    /// The first buffer that has bytes left.
    next: usize,
    /// Whether a part of that buffer was moved.
    is_mid_buffer: bool,
}

/// Whether the parts are valid for the kernel and hold any bytes.
///
/// Otherwise a call with them returns or fails before it reaches the file of the descriptor.
///
/// # Safety
///
/// If the memory can be read, it holds `count` parts.
pub(super) unsafe fn has_bytes(parts: *const iovec, count: c_int) -> bool {
    // SAFETY: if the parts can be read, there are `count` of them: the contract of this function.
    unsafe { length(parts, count) }.is_some_and(|length| length > 0)
}

/// The number of bytes in the parts.
///
/// `None` if the kernel refuses the parts: for their count, their address, or an invalid length.
///
/// # Safety
///
/// If the memory can be read, it holds `count` parts. The buffers themselves are not accessed.
pub(super) unsafe fn length(parts: *const iovec, count: c_int) -> Option<usize> {
    let count = usize::try_from(count).ok().filter(|count| (1..=MAX_PARTS).contains(count))?;
    if parts.is_null() || !is_readable(parts, count * size_of::<iovec>()) {
        return None;
    }
    // SAFETY: the memory can be read, so it holds `count` parts: the contract of this function.
    let parts = unsafe { std::slice::from_raw_parts(parts, count) };
    parts.iter().try_fold(0_usize, |sum, part| {
        is_length(part.iov_len).then(|| sum.saturating_add(part.iov_len))
    })
}

const MAX_PARTS: usize = libc::UIO_MAXIOV as usize;

/// Whether the kernel accepts this length of a buffer. A call with any other length fails at once.
pub(super) fn is_length(length: usize) -> bool {
    isize::try_from(length).is_ok()
}

/// Whether the kernel accepts a message, so that a call with it may wait. Otherwise the call fails at once.
///
/// # Safety
///
/// If the memory can be read, it holds a message.
pub(super) unsafe fn is_message(message: *const libc::msghdr) -> bool {
    // SAFETY: valid if it can be read: the contract of this function.
    unsafe { crate::sys::user_memory::read(message) }.is_some_and(|message| {
        let count = message.msg_iovlen;
        // SAFETY: if the parts can be read, there are `count` of them: the contract of this function.
        count == 0
            || count <= MAX_PARTS && unsafe { length(message.msg_iov, count as c_int) }.is_some()
    })
}

impl Parts {
    /// A copy of the parts, none of whose bytes were moved.
    ///
    /// # Safety
    ///
    /// There are `count` parts. The buffers themselves are not accessed.
    pub(super) unsafe fn of(parts: *const iovec, count: usize) -> Self {
        let all = match count {
            0 => Vec::new(),
            // SAFETY: there are `count` parts: the contract of this function.
            _ => unsafe { std::slice::from_raw_parts(parts, count) }.to_vec(),
        };
        Parts { all, next: 0, is_mid_buffer: false }
    }

    /// The number of bytes left.
    pub(super) fn length(&self) -> usize {
        let left = self.all.iter().skip(self.next);
        left.fold(0, |sum, part| sum.saturating_add(part.iov_len))
    }

    /// Skips `count` bytes, which were moved.
    pub(super) fn advance(&mut self, mut count: usize) {
        while let Some(part) = self.all.get_mut(self.next) {
            if part.iov_len > count {
                part.iov_base = part.iov_base.wrapping_byte_add(count);
                part.iov_len -= count;
                self.is_mid_buffer = count > 0;
                return;
            }
            count -= part.iov_len;
            self.next += 1;
            self.is_mid_buffer = false;
        }
    }

    /// Whether a buffer was moved in part.
    pub(super) fn is_mid_buffer(&self) -> bool {
        self.is_mid_buffer
    }

    /// The buffers with the first `most` bytes that are left.
    pub(super) fn first(&self, mut most: usize) -> Vec<iovec> {
        let left = self.all.iter().skip(self.next);
        let cut = left.map_while(|part| {
            let iov_len = part.iov_len.min(most);
            most -= iov_len;
            (iov_len > 0 || part.iov_len == 0).then_some(iovec { iov_len, ..*part })
        });
        cut.collect()
    }

    /// The buffers that are left, if any.
    pub(super) fn rest(&self) -> Option<(*const iovec, c_int)> {
        let rest = &self.all[self.next.min(self.all.len())..];
        (!rest.is_empty()).then_some((rest.as_ptr(), rest.len() as c_int))
    }
}
