//! A log that one process appends to and another reads, without system calls.
//!
//! It can also be read after the writer has died.
//!
//! ```text
//!   │ published │ record │ record │ record │ ...     an unnamed file, mapped by both
//!                                          ▲
//!                  add: writes the bytes, then `published`. Bytes before it do not change until a reset.
//! ```

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// The size of the file in bytes. Pages that are never written to take no memory.
const SIZE: usize = 1 << 20;

/// The offset of the first record.
const RECORDS: usize = 64;

/// The mapping, in either process.
#[derive(Debug)]
struct Mapped(NonNull<u8>);

impl Mapped {
    fn new(file: BorrowedFd<'_>) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let fd = file.as_raw_fd();
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
        let start =
            unsafe { libc::mmap(ptr::null_mut(), SIZE, protection, libc::MAP_SHARED, fd, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Mapped(NonNull::new(start.cast()).expect("mmap does not return address zero")))
    }

    /// Returns the offset of the end of the published records, counted from [`RECORDS`].
    fn published(&self) -> &AtomicU32 {
        // SAFETY: the first bytes of a page-aligned mapping, in which any bytes are a valid number.
        unsafe { self.0.cast().as_ref() }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the whole mapping that `new` has made; references to it do not outlive `self`.
        unsafe { libc::munmap(self.0.as_ptr().cast(), SIZE) };
    }
}

/// The reading side.
#[derive(Debug)]
pub(crate) struct Reader {
    mapped: Mapped,
    read: usize,
}

/// The appending side. There is one per log.
#[derive(Debug)]
pub(crate) struct Writer {
    mapped: Mapped,
    written: usize,
}

impl Reader {
    /// Creates a log, and the file from which another process creates the [`Writer`].
    pub(crate) fn new() -> io::Result<(Self, OwnedFd)> {
        let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
        // SAFETY: the name is a string that ends with a zero.
        let fd = unsafe { libc::memfd_create(c"switchgrass: a log".as_ptr(), flags) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` is a new descriptor that nothing else owns.
        let file = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: `ftruncate` accesses no memory of this process.
        if unsafe { libc::ftruncate(fd, SIZE as libc::off_t) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // If the writer's process could cut off a page, reading it would kill this process by SIGBUS.
        let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
        // SAFETY: `F_ADD_SEALS` accesses no memory of this process.
        if unsafe { libc::fcntl(fd, libc::F_ADD_SEALS, seals) } < 0 {
            return Err(io::Error::last_os_error());
        }
        let mapped = Mapped::new(std::os::fd::AsFd::as_fd(&file))?;
        Ok((Reader { mapped, read: 0 }, file))
    }

    /// Returns the bytes that were added since the last call.
    pub(crate) fn read(&mut self) -> Vec<u8> {
        let published = (self.mapped.published().load(Acquire) as usize).min(SIZE - RECORDS);
        let mut bytes = vec![0; published.saturating_sub(self.read)];
        // SAFETY: in bounds of the mapping. These bytes were written before they were published, and the
        // writer overwrites them only after it was told that this side has read them all.
        unsafe {
            let from = self.mapped.0.add(RECORDS + self.read).as_ptr();
            ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), bytes.len());
        }
        self.read += bytes.len();
        bytes
    }

    /// Empties the log, after all of it was read.
    ///
    /// The writer adds nothing until it is told of this and has [begun anew](Writer::begin_anew). The
    /// reader does this because the writer may be dead.
    pub(crate) fn reset(&mut self) {
        self.read = 0;
        self.mapped.published().store(0, Relaxed);
    }
}

impl Writer {
    /// Maps the file of a [`Reader`].
    pub(crate) fn new(file: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Writer { mapped: Mapped::new(file)?, written: 0 })
    }

    /// Appends bytes. `false` if there is no room for them.
    pub(crate) fn add(&mut self, bytes: &[u8]) -> bool {
        let end = self.written + bytes.len();
        if end > SIZE - RECORDS {
            return false;
        }
        // SAFETY: in bounds of the mapping, and beyond the published bytes, so the reader does not read
        // there.
        unsafe {
            let to = self.mapped.0.add(RECORDS + self.written).as_ptr();
            ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        }
        self.written = end;
        self.mapped.published().store(end as u32, Release);
        true
    }

    /// Starts over, after the reader has sent a message that it has [emptied](Reader::reset) the log.
    pub(crate) fn begin_anew(&mut self) {
        self.written = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn the_writer_cannot_truncate_the_file() {
        let (mut reader, file) = Reader::new().unwrap();
        let mut writer = Writer::new(file.as_fd()).unwrap();
        assert!(writer.add(b"one"));
        let file = std::fs::File::from(file);
        for size in [0, 2 * SIZE as u64] {
            assert_eq!(file.set_len(size).unwrap_err().raw_os_error(), Some(libc::EPERM));
        }
        assert_eq!(reader.read(), b"one");
    }

    #[test]
    fn added_bytes_are_read_once() {
        let (mut reader, file) = Reader::new().unwrap();
        let mut writer = Writer::new(file.as_fd()).unwrap();
        for round in 0..3 {
            assert!(reader.read().is_empty());
            assert!(writer.add(b"one") && writer.add(b"two"));
            assert_eq!(reader.read(), b"onetwo");
            assert!(writer.add(&[round]));
            drop(reader.read());
            assert!(writer.add(&vec![7; 1_000_000]));
            assert!(!writer.add(&vec![8; 100_000]), "there is no room");
            assert!(writer.add(b"three"));
            let bytes = reader.read();
            assert_eq!((bytes.len(), &bytes[1_000_000..]), (1_000_005, &b"three"[..]));
            reader.reset();
            writer.begin_anew();
        }
    }
}
