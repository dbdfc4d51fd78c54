//! What is left of several buffers when some of it was written.

use libc::{c_int, iovec};

pub(super) struct Parts {
    all: Vec<iovec>,
    /// The first that has something left.
    next: usize,
}

impl Parts {
    /// # Safety
    ///
    /// So many buffers, which are not looked into.
    pub(super) unsafe fn of(parts: *const iovec, count: usize) -> Self {
        let all = match count {
            0 => Vec::new(),
            // SAFETY: the caller's.
            _ => unsafe { std::slice::from_raw_parts(parts, count) }.to_vec(),
        };
        Parts { all, next: 0 }
    }

    /// So many bytes are done with.
    pub(super) fn advance(&mut self, mut count: usize) {
        while let Some(part) = self.all.get_mut(self.next) {
            if part.iov_len > count {
                part.iov_base = part.iov_base.wrapping_byte_add(count);
                part.iov_len -= count;
                return;
            }
            count -= part.iov_len;
            self.next += 1;
        }
    }

    /// What is left, if anything is.
    pub(super) fn rest(&self) -> Option<(*const iovec, c_int)> {
        let rest = &self.all[self.next.min(self.all.len())..];
        (!rest.is_empty()).then_some((rest.as_ptr(), rest.len() as c_int))
    }
}
