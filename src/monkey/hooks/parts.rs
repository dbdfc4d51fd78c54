//! What is left of several buffers when some of it was moved.

use crate::sys::user_memory::is_readable;
use libc::{c_int, iovec};

#[derive(Clone)]
pub(super) struct Parts {
    all: Vec<iovec>,
    /// The first that has something left.
    next: usize,
    /// Some of it was moved.
    is_amid: bool,
}

/// Whether there are bytes in `count` parts, which the kernel takes. Otherwise a call with them returns or
/// fails before it reaches what the descriptor refers to.
///
/// # Safety
///
/// If there is memory, it holds as many parts.
pub(super) unsafe fn has_bytes(parts: *const iovec, count: c_int) -> bool {
    // SAFETY: the caller's.
    unsafe { length(parts, count) }.is_some_and(|length| length > 0)
}

/// All bytes of the parts. `None` if the kernel refuses them: for their count, for where they are said to
/// be, or for a length that is none.
///
/// # Safety
///
/// If there is memory, it holds `count` parts, which are not looked into.
pub(super) unsafe fn length(parts: *const iovec, count: c_int) -> Option<usize> {
    let count = usize::try_from(count).ok().filter(|count| (1..=MOST_PARTS).contains(count))?;
    if parts.is_null() || !is_readable(parts, count * size_of::<iovec>()) {
        return None;
    }
    // SAFETY: the caller's; it can be read.
    let parts = unsafe { std::slice::from_raw_parts(parts, count) };
    parts.iter().try_fold(0_usize, |sum, part| {
        is_length(part.iov_len).then(|| sum.saturating_add(part.iov_len))
    })
}

const MOST_PARTS: usize = libc::UIO_MAXIOV as usize;

/// Whether the kernel takes this for the length of a buffer. A call with another one fails at once.
pub(super) fn is_length(length: usize) -> bool {
    isize::try_from(length).is_ok()
}

/// Whether the kernel takes a message for one, so that a call with it may wait. Otherwise it fails at once.
///
/// # Safety
///
/// If there is memory, it holds a message.
pub(super) unsafe fn is_message(message: *const libc::msghdr) -> bool {
    // SAFETY: the caller's.
    unsafe { crate::sys::user_memory::read(message) }.is_some_and(|message| {
        let count = message.msg_iovlen;
        // SAFETY: the caller's.
        count == 0
            || count <= MOST_PARTS && unsafe { length(message.msg_iov, count as c_int) }.is_some()
    })
}

impl Parts {
    /// # Safety
    ///
    /// `count` buffers, which are not looked into.
    pub(super) unsafe fn of(parts: *const iovec, count: usize) -> Self {
        let all = match count {
            0 => Vec::new(),
            // SAFETY: the caller's.
            _ => unsafe { std::slice::from_raw_parts(parts, count) }.to_vec(),
        };
        Parts { all, next: 0, is_amid: false }
    }

    /// The bytes that are left.
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
                self.is_amid = count > 0;
                return;
            }
            count -= part.iov_len;
            self.next += 1;
            self.is_amid = false;
        }
    }

    /// Whether a part of a buffer was moved, and not all of it.
    pub(super) fn is_amid(&self) -> bool {
        self.is_amid
    }

    /// The buffers of the first `most` bytes that are left.
    pub(super) fn first(&self, mut most: usize) -> Vec<iovec> {
        let left = self.all.iter().skip(self.next);
        let cut = left.map_while(|part| {
            let iov_len = part.iov_len.min(most);
            most -= iov_len;
            (iov_len > 0 || part.iov_len == 0).then_some(iovec { iov_len, ..*part })
        });
        cut.collect()
    }

    /// The buffers that are left, if any are.
    pub(super) fn rest(&self) -> Option<(*const iovec, c_int)> {
        let rest = &self.all[self.next.min(self.all.len())..];
        (!rest.is_empty()).then_some((rest.as_ptr(), rest.len() as c_int))
    }
}
