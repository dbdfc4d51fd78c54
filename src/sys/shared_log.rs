//! Bytes that one process adds and another reads, without a system call, and also when the first has died.
//!
//! ```text
//!   │ published │ record │ record │ record │ ...     a file without a name, mapped by both
//!                                          ▲
//!                  add: the bytes first, then `published`. What is before it never changes until a reset.
//! ```

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// Bytes of the file. Pages that are never written to take no memory.
const SIZE: usize = 1 << 20;

/// Where the records begin.
const RECORDS: usize = 64;

/// The mapping, on either side.
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

    /// Up to where there are records.
    fn published(&self) -> &AtomicU32 {
        // SAFETY: the first bytes of a mapping of whole pages, of which any are a number.
        unsafe { self.0.cast().as_ref() }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, whole, and nothing is lent of it.
        unsafe { libc::munmap(self.0.as_ptr().cast(), SIZE) };
    }
}

/// The side that reads.
#[derive(Debug)]
pub(crate) struct Reader {
    mapped: Mapped,
    read: usize,
}

/// The side that adds. There is one.
#[derive(Debug)]
pub(crate) struct Writer {
    mapped: Mapped,
    written: usize,
}

impl Reader {
    /// A new log, and the file that the [`Writer`] is made of in another process.
    pub(crate) fn new() -> io::Result<(Self, OwnedFd)> {
        let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
        // SAFETY: a string that ends with a zero.
        let fd = unsafe { libc::memfd_create(c"switchgrass: a log".as_ptr(), flags) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor of ours.
        let file = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: no memory is involved.
        if unsafe { libc::ftruncate(fd, SIZE as libc::off_t) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // A page that the writer's process cuts off would end this one by SIGBUS, when it is read.
        let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
        // SAFETY: no memory is involved.
        if unsafe { libc::fcntl(fd, libc::F_ADD_SEALS, seals) } < 0 {
            return Err(io::Error::last_os_error());
        }
        let mapped = Mapped::new(std::os::fd::AsFd::as_fd(&file))?;
        Ok((Reader { mapped, read: 0 }, file))
    }

    /// The bytes that were added since the last call.
    pub(crate) fn read(&mut self) -> Vec<u8> {
        let published = (self.mapped.published().load(Acquire) as usize).min(SIZE - RECORDS);
        let mut bytes = vec![0; published.saturating_sub(self.read)];
        // SAFETY: within the mapping. These bytes were written before they were published, and the writer
        // writes there again only when it is told that this side has read them all.
        unsafe {
            let from = self.mapped.0.add(RECORDS + self.read).as_ptr();
            ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), bytes.len());
        }
        self.read += bytes.len();
        bytes
    }

    /// Empties it. All has been read, and the writer adds nothing before it is told of this, and has
    /// [begun anew](Writer::begin_anew): it may be dead, so that this side has to see to it.
    pub(crate) fn reset(&mut self) {
        self.read = 0;
        self.mapped.published().store(0, Relaxed);
    }
}

impl Writer {
    /// Of the file of a [`Reader`].
    pub(crate) fn new(file: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Writer { mapped: Mapped::new(file)?, written: 0 })
    }

    /// Adds bytes, if there is room for them.
    pub(crate) fn add(&mut self, bytes: &[u8]) -> bool {
        let end = self.written + bytes.len();
        if end > SIZE - RECORDS {
            return false;
        }
        // SAFETY: within the mapping, and not published: nobody reads there.
        unsafe {
            let to = self.mapped.0.add(RECORDS + self.written).as_ptr();
            ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        }
        self.written = end;
        self.mapped.published().store(end as u32, Release);
        true
    }

    /// Begins again at the start: the reader has said by a message that it has [emptied](Reader::reset) it.
    pub(crate) fn begin_anew(&mut self) {
        self.written = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn the_writer_cannot_cut_off_what_the_reader_reads() {
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
    fn what_is_added_is_read_once() {
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
