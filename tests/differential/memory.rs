//! Buffers that show what was written into them, and fault on any access behind their end.

use std::ptr;

const PAGE: usize = 4096;

/// What a byte is that nothing was written to.
const UNTOUCHED: u8 = 0xEE;
/// What lies before a buffer, in its first page.
const CANARY: u8 = 0xA5;

/// Memory whose end is the end of a page. The next page cannot be accessed.
pub(crate) struct Buffer {
    base: *mut u8,
    pages: usize,
    length: usize,
}

impl Buffer {
    /// A buffer to be written to by a call.
    pub(crate) fn empty(length: i64) -> Self {
        let length = length as usize;
        // One page at least lies before the guard: for canaries.
        let pages = length / PAGE + 1;
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping; its last page is made inaccessible.
        let base = unsafe {
            let base = libc::mmap(ptr::null_mut(), (pages + 1) * PAGE, protection, flags, -1, 0);
            assert_ne!(base, libc::MAP_FAILED, "no memory");
            libc::mprotect(base.byte_add(pages * PAGE), PAGE, libc::PROT_NONE);
            base.cast::<u8>()
        };
        let before = pages * PAGE - length;
        // SAFETY: both parts of the mapping made above.
        unsafe {
            base.write_bytes(CANARY, before);
            base.add(before).write_bytes(UNTOUCHED, length);
        }
        Buffer { base, pages, length }
    }

    /// A buffer to be read by a call. What is in it depends on `seed`.
    pub(crate) fn filled(length: i64, seed: usize) -> Self {
        let buffer = Self::empty(length);
        for at in 0..buffer.length {
            let letter = b'a' + ((seed * 7 + at + at / 26) % 26) as u8;
            // SAFETY: within the buffer.
            unsafe { buffer.start().add(at).write(letter) };
        }
        buffer
    }

    /// A buffer with a value in it.
    pub(crate) fn of<T: Copy>(value: T) -> Self {
        let buffer = Self::empty(size_of::<T>() as i64);
        // SAFETY: room for it.
        unsafe { buffer.start().cast::<T>().write_unaligned(value) };
        buffer
    }

    pub(crate) fn get<T: Copy>(&self) -> T {
        assert!(size_of::<T>() <= self.length);
        // SAFETY: as long as that; only asked for types of C, of which any bytes are a value.
        unsafe { self.start().cast::<T>().read_unaligned() }
    }

    fn start(&self) -> *mut u8 {
        self.base.wrapping_add(self.pages * PAGE - self.length)
    }

    pub(crate) fn pointer<T>(&self) -> *mut T {
        self.start().cast()
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: it lives as long as the buffer, and no call is under way.
        unsafe { std::slice::from_raw_parts(self.start(), self.length) }
    }

    /// Whether nothing was written before its start.
    fn is_intact(&self) -> bool {
        // SAFETY: the first part of the mapping.
        let before =
            unsafe { std::slice::from_raw_parts(self.base, self.pages * PAGE - self.length) };
        before.iter().all(|byte| *byte == CANARY)
    }

    /// What was written into it.
    pub(crate) fn describe(&self) -> String {
        let bytes = without_process(self.bytes().to_vec());
        let end = bytes.iter().rposition(|byte| *byte != UNTOUCHED).map_or(0, |last| last + 1);
        let written = &bytes[..end];
        let text = match end {
            0..=16 => format!("\"{}\"", written.escape_ascii()),
            _ => format!("\"{}\"..{end} #{:08x}", written[..4].escape_ascii(), hash(written)),
        };
        if self.is_intact() { text } else { text + " WRITTEN BEFORE ITS START" }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: the mapping is this buffer's.
        unsafe { libc::munmap(self.base.cast(), (self.pages + 1) * PAGE) };
    }
}

/// What tells of a signal has the number of the process that sent it, which is another in each run.
fn without_process(mut bytes: Vec<u8>) -> Vec<u8> {
    let me = std::process::id().to_ne_bytes();
    for word in bytes.chunks_exact_mut(4).filter(|word| *word == me) {
        word.fill(0);
    }
    bytes
}

fn hash(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811C_9DC5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// Several buffers of a length in all, as a call takes them.
pub(crate) struct Vector {
    pub(crate) buffers: Vec<Buffer>,
    pub(crate) parts: Buffer,
}

impl Vector {
    /// As many as `count` says, of different lengths. The second one is empty.
    pub(crate) fn new(length: i64, count: i64, make: impl Fn(i64, usize) -> Buffer) -> Self {
        let lengths = match count {
            0 => vec![],
            1 => vec![length],
            _ => vec![length / 3, 0, length - length / 3],
        };
        let buffers: Vec<_> =
            lengths.iter().enumerate().map(|(at, length)| make(*length, at)).collect();
        let parts = Buffer::empty((buffers.len() * size_of::<libc::iovec>()) as i64);
        for (at, buffer) in buffers.iter().enumerate() {
            let part = libc::iovec { iov_base: buffer.pointer(), iov_len: buffer.len() };
            // SAFETY: room for all of them was made above.
            unsafe { parts.pointer::<libc::iovec>().add(at).write_unaligned(part) };
        }
        Vector { buffers, parts }
    }

    pub(crate) fn describe(&self) -> String {
        self.buffers.iter().map(Buffer::describe).collect::<Vec<_>>().join("+")
    }
}
