#![forbid(unsafe_code)]
//! An open file.

use super::lane::{Does, Lane, MOST, Turn};
use super::lock::{self, TryLockError};
use super::{FileTimes, Metadata, OpenOptions, Permissions};
use crate::coroutine::sleep;
use crate::pool::try_unblock;
use crate::sys::file::{Lock, read_now, write_now};
use std::cell::Cell;
use std::fmt;
use std::fs;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// An open file, as [`std::fs::File`]: whoever waits for a disk lets the other coroutines run.
///
/// What is in the page cache is read at once, where the file system can say so; all else is done on the pool.
/// A call reads or writes 256 KiB at most. One on the pool takes a message to another thread and back: put a
/// [`BufReader`](std::io::BufReader) or [`BufWriter`](std::io::BufWriter) around it, as around std's. On most
/// file systems every write is one.
///
/// Several coroutines may use it by references. Operations that use its position come one after the other,
/// in the order in which they were begun; what has no position, as a pipe or a terminal, is read from and
/// written to at the same time. It stays on its thread: to move it to another, use [`File::into_std`].
///
/// # Cancellation
///
/// A call that is on the pool when its coroutine is killed goes on, and the next operation waits for it.
///
/// - What was read is not lost. The position is set back before the next operation; what has none, as a pipe,
///   has its bytes kept for the next read.
/// - A write may have been made, all or a part of it, or will be, and moves the position. If it fails, the
///   next `write`, `flush`, `set_len` or `sync` of the file, or of its clones, has the error.
///
/// Closing is done where it is dropped, as for std's.
///
/// # Examples
///
/// ```
/// use std::io::{Read, Seek, Write};
/// use switchgrass::fs::File;
///
/// let path = std::env::temp_dir().join(format!("switchgrass-file-{}", std::process::id()));
/// let mut file = File::options().read(true).write(true).create(true).open(&path)?;
/// file.write_all(b"hello")?;
/// file.rewind()?;
/// let mut text = String::new();
/// file.read_to_string(&mut text)?;
/// assert_eq!(text, "hello");
/// # switchgrass::fs::remove_file(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct File {
    file: Arc<fs::File>,
    /// Shared with clones, as the position is.
    state: Rc<State>,
}

struct State {
    has_position: bool,
    input: Lane,
    /// Of what has no position. All else is one lane.
    output: Lane,
    /// Whether the file system can say that a read, or a write, has to wait.
    reads_now: Cell<bool>,
    writes_now: Cell<bool>,
}

impl File {
    /// Opens a file that is to be read from.
    ///
    /// # Errors
    ///
    /// As [`std::fs::File::open`].
    ///
    /// # Panics
    ///
    /// As [`OpenOptions::open`].
    ///
    /// # Switching
    ///
    /// As [`OpenOptions::open`].
    ///
    /// # Cancellation
    ///
    /// It is closed.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::options().read(true).open(path)
    }

    /// Opens a file that is to be written to: made new, or without what it held.
    ///
    /// # Errors
    ///
    /// As [`std::fs::File::create`].
    ///
    /// # Panics
    ///
    /// As [`OpenOptions::open`].
    ///
    /// # Switching
    ///
    /// As [`OpenOptions::open`].
    ///
    /// # Cancellation
    ///
    /// As [`OpenOptions::open`].
    pub fn create(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::options().write(true).create(true).truncate(true).open(path)
    }

    /// Makes a file that must not be there, to be read from and written to.
    ///
    /// # Errors
    ///
    /// As [`std::fs::File::create_new`].
    ///
    /// # Panics
    ///
    /// As [`OpenOptions::open`].
    ///
    /// # Switching
    ///
    /// As [`OpenOptions::open`].
    ///
    /// # Cancellation
    ///
    /// As [`OpenOptions::open`].
    pub fn create_new(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::options().read(true).write(true).create_new(true).open(path)
    }

    /// How else a file may be opened.
    pub fn options() -> OpenOptions {
        OpenOptions::new()
    }

    /// Takes over a file of std's.
    pub fn from_std(file: fs::File) -> Self {
        let state = State {
            has_position: has_position(&file),
            input: Lane::new(),
            output: Lane::new(),
            reads_now: Cell::new(true),
            writes_now: Cell::new(true),
        };
        File { file: Arc::new(file), state: Rc::new(state) }
    }

    /// The file as std has it, for whichever thread. What an operation that was cancelled has left behind is
    /// lost: bytes of a pipe, the error of a write.
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile.
    ///
    /// # Switching
    ///
    /// Switches if an operation that was cancelled has not ended. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The file is closed.
    pub fn into_std(self) -> fs::File {
        for lane in [&self.state.input, &self.state.output] {
            if lane.has_rest() {
                drop(lane.enter(&self.file, self.state.has_position));
            }
        }
        let mut file = self.file;
        loop {
            // What was cancelled and needs no turn may have it still.
            match Arc::try_unwrap(file) {
                Ok(file) => return file,
                Err(shared) => file = shared,
            }
            sleep(Duration::from_millis(1));
        }
    }

    /// A further handle of the same file, with the same position.
    ///
    /// # Errors
    ///
    /// As [`std::fs::File::try_clone`].
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(File { file: Arc::new(self.file.try_clone()?), state: Rc::clone(&self.state) })
    }

    /// Waits until all that was written is on the disk, and all that is known about the file.
    ///
    /// # Errors
    ///
    /// As [`std::fs::File::sync_all`], and that of a write that was cancelled.
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile.
    ///
    /// # Switching
    ///
    /// Switches. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// It goes on by itself. If it fails, the next one has the error.
    #[track_caller]
    pub fn sync_all(&self) -> io::Result<()> {
        self.change(fs::File::sync_all)
    }

    /// Waits until all that was written is on the disk.
    ///
    /// # Errors
    ///
    /// As [`std::fs::File::sync_data`], and that of a write that was cancelled.
    ///
    /// # Panics
    ///
    /// As [`File::sync_all`].
    ///
    /// # Switching
    ///
    /// As [`File::sync_all`].
    ///
    /// # Cancellation
    ///
    /// As [`File::sync_all`].
    #[track_caller]
    pub fn sync_data(&self) -> io::Result<()> {
        self.change(fs::File::sync_data)
    }

    /// Cuts it off at `size`, or fills it up with zeros until there.
    ///
    /// # Errors
    ///
    /// As [`std::fs::File::set_len`], and that of a write that was cancelled.
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile.
    ///
    /// # Switching
    ///
    /// Switches. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// It is done, or will be.
    #[track_caller]
    pub fn set_len(&self, size: u64) -> io::Result<()> {
        self.change(move |file| file.set_len(size))
    }

    /// What is known about it. Of a write that was cancelled it may or may not know.
    ///
    /// # Errors
    ///
    /// As [`std::fs::File::metadata`].
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile.
    ///
    /// # Switching
    ///
    /// Switches. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// Nothing has happened.
    #[track_caller]
    pub fn metadata(&self) -> io::Result<Metadata> {
        let file = Arc::clone(&self.file);
        try_unblock(move || file.metadata())?
    }

    /// Sets its permissions.
    ///
    /// # Errors
    ///
    /// As [`std::fs::File::set_permissions`], and that of a write that was cancelled.
    ///
    /// # Panics
    ///
    /// As [`File::set_len`].
    ///
    /// # Switching
    ///
    /// As [`File::set_len`].
    ///
    /// # Cancellation
    ///
    /// As [`File::set_len`].
    #[track_caller]
    pub fn set_permissions(&self, permissions: Permissions) -> io::Result<()> {
        self.change(move |file| file.set_permissions(permissions))
    }

    /// Sets when it was read from and written to last.
    ///
    /// # Errors
    ///
    /// As [`std::fs::File::set_times`], and that of a write that was cancelled.
    ///
    /// # Panics
    ///
    /// As [`File::set_len`].
    ///
    /// # Switching
    ///
    /// As [`File::set_len`].
    ///
    /// # Cancellation
    ///
    /// As [`File::set_len`].
    #[track_caller]
    pub fn set_times(&self, times: FileTimes) -> io::Result<()> {
        self.change(move |file| file.set_times(times))
    }

    /// Sets when it was written to last.
    ///
    /// # Errors
    ///
    /// As [`std::fs::File::set_modified`], and that of a write that was cancelled.
    ///
    /// # Panics
    ///
    /// As [`File::set_len`].
    ///
    /// # Switching
    ///
    /// As [`File::set_len`].
    ///
    /// # Cancellation
    ///
    /// As [`File::set_len`].
    #[track_caller]
    pub fn set_modified(&self, time: SystemTime) -> io::Result<()> {
        self.set_times(FileTimes::new().set_modified(time))
    }

    /// Waits until no other handle has it locked, and locks it, as std's of Rust 1.89. Clones have the lock
    /// in common, and the last that is closed unlocks it. It is tried up to every 50 ms, so that no order
    /// is kept.
    ///
    /// # Errors
    ///
    /// If the file cannot be locked.
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile.
    ///
    /// # Switching
    ///
    /// Switches if another has it. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// It is not locked.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchgrass::fs::{File, TryLockError};
    ///
    /// # let path = std::env::temp_dir().join(format!("switchgrass-lock-{}", std::process::id()));
    /// let first = File::create(&path)?;
    /// let second = File::create(&path)?;
    /// first.lock()?;
    /// assert!(matches!(second.try_lock(), Err(TryLockError::WouldBlock)));
    /// first.unlock()?;
    /// second.try_lock()?;
    /// # switchgrass::fs::remove_file(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn lock(&self) -> io::Result<()> {
        lock::lock(self.as_fd(), Lock::Exclusive)
    }

    /// As [`File::lock`], for several that have such a one at the same time.
    ///
    /// # Errors
    ///
    /// As [`File::lock`].
    ///
    /// # Panics
    ///
    /// As [`File::lock`].
    ///
    /// # Switching
    ///
    /// As [`File::lock`].
    ///
    /// # Cancellation
    ///
    /// As [`File::lock`].
    #[track_caller]
    pub fn lock_shared(&self) -> io::Result<()> {
        lock::lock(self.as_fd(), Lock::Shared)
    }

    /// As [`File::lock`], if that can be had at once.
    ///
    /// # Errors
    ///
    /// [`TryLockError::WouldBlock`] if it cannot.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn try_lock(&self) -> Result<(), TryLockError> {
        lock::try_lock(self.as_fd(), Lock::Exclusive)
    }

    /// As [`File::lock_shared`], if that can be had at once.
    ///
    /// # Errors
    ///
    /// [`TryLockError::WouldBlock`] if it cannot.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn try_lock_shared(&self) -> Result<(), TryLockError> {
        lock::try_lock(self.as_fd(), Lock::Shared)
    }

    /// Unlocks it.
    ///
    /// # Errors
    ///
    /// If the file cannot be unlocked.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn unlock(&self) -> io::Result<()> {
        lock::lock(self.as_fd(), Lock::None)
    }

    /// Reads at `offset`, whatever the position. How many bytes were read. As
    /// [`FileExt::read_at`](std::os::unix::fs::FileExt::read_at).
    ///
    /// Several may be under way at the same time.
    ///
    /// # Errors
    ///
    /// As std's.
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile.
    ///
    /// # Switching
    ///
    /// Switches if it is not known to be there without waiting. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// Nothing has happened.
    ///
    /// # Examples
    ///
    /// ```
    /// let file = switchgrass::fs::File::open("Cargo.toml")?;
    /// let mut buffer = [0; 4];
    /// file.read_exact_at(&mut buffer, 1)?;
    /// assert_eq!(&buffer, b"pack");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let count = buffer.len().min(MOST);
        let room = &mut buffer[..count];
        let now = |fd: BorrowedFd<'_>| read_now(fd, room, Some(offset));
        if let Some(got) = self.attempt(&self.state.reads_now, now) {
            return Ok(got);
        }
        let lane = &self.state.input;
        let (file, mut space) = (Arc::clone(&self.file), lane.take_buffer());
        let (space, result) = try_unblock(move || {
            let result = file.read_at(space.space(count), offset);
            drop(file);
            (space, result)
        })?;
        let mut space = space;
        if let Ok(got) = result {
            buffer[..got].copy_from_slice(&space.space(count)[..got]);
        }
        lane.keep(space);
        result
    }

    /// As [`File::read_at`], until `buffer` is full.
    ///
    /// # Errors
    ///
    /// As [`FileExt::read_exact_at`](std::os::unix::fs::FileExt::read_exact_at).
    ///
    /// # Panics
    ///
    /// As [`File::read_at`].
    ///
    /// # Switching
    ///
    /// As [`File::read_at`].
    ///
    /// # Cancellation
    ///
    /// Nothing has happened.
    #[track_caller]
    pub fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read_at(buffer, offset) {
                Ok(0) => {
                    let message = "failed to fill whole buffer";
                    return Err(io::Error::new(ErrorKind::UnexpectedEof, message));
                }
                Ok(got) => {
                    buffer = &mut buffer[got..];
                    offset += got as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes at `offset`, whatever the position. How many bytes were written. As
    /// [`FileExt::write_at`](std::os::unix::fs::FileExt::write_at).
    ///
    /// # Errors
    ///
    /// As std's, and that of a write that was cancelled.
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile.
    ///
    /// # Switching
    ///
    /// Switches, unless the file system can write without waiting. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// As of any write: see [`File`].
    #[track_caller]
    pub fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<usize> {
        self.write_to(buffer, Some(offset))
    }

    /// As [`File::write_at`], until all is written.
    ///
    /// # Errors
    ///
    /// As [`FileExt::write_all_at`](std::os::unix::fs::FileExt::write_all_at), and that of a write that was
    /// cancelled.
    ///
    /// # Panics
    ///
    /// As [`File::write_at`].
    ///
    /// # Switching
    ///
    /// As [`File::write_at`].
    ///
    /// # Cancellation
    ///
    /// A part may have been written.
    #[track_caller]
    pub fn write_all_at(&self, mut buffer: &[u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.write_at(buffer, offset) {
                Ok(0) => {
                    let message = "failed to write whole buffer";
                    return Err(io::Error::new(ErrorKind::WriteZero, message));
                }
                Ok(count) => {
                    buffer = &buffer[count..];
                    offset += count as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The turn of one that reads.
    #[inline]
    #[track_caller]
    fn input(&self) -> Turn<'_> {
        self.state.input.enter(&self.file, self.state.has_position)
    }

    /// The turn of one that writes.
    #[track_caller]
    fn output(&self) -> Turn<'_> {
        self.state.output_lane().enter(&self.file, self.state.has_position)
    }

    /// What can be done without waiting, or `None`: whoever then makes the call on the pool gets an error as
    /// std has it.
    #[inline]
    fn attempt(
        &self,
        can: &Cell<bool>,
        call: impl FnOnce(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> Option<usize> {
        if !can.get() {
            return None;
        }
        let error = match call(self.file.as_fd()) {
            Ok(count) => return Some(count),
            Err(error) => error.raw_os_error(),
        };
        if matches!(error, Some(libc::EOPNOTSUPP | libc::ENOSYS)) {
            can.set(false);
        }
        None
    }

    #[track_caller]
    fn change(
        &self,
        call: impl FnOnce(&fs::File) -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let turn = self.output();
        turn.check()?;
        // No bytes go along.
        let (_, result) =
            turn.run(Does::Change, Default::default(), |file, _| call(file).map(|()| 0));
        result.map(|_| ())
    }

    #[track_caller]
    fn write_to(&self, bytes: &[u8], offset: Option<u64>) -> io::Result<usize> {
        let bytes = &bytes[..bytes.len().min(MOST)];
        let turn = self.output();
        turn.check()?;
        let now = |fd: BorrowedFd<'_>| write_now(fd, bytes, offset);
        if let Some(count) = self.attempt(&self.state.writes_now, now) {
            return Ok(count);
        }
        let (lane, count) = (self.state.output_lane(), bytes.len());
        let mut buffer = lane.take_buffer();
        buffer.space(count).copy_from_slice(bytes);
        let (buffer, result) = turn.run(Does::Change, buffer, move |mut file, buffer| {
            let bytes = buffer.space(count);
            let written = match offset {
                Some(offset) => file.write_at(bytes, offset),
                None => file.write(bytes),
            };
            written.map(|written| written as u64)
        });
        lane.keep(buffer);
        result.map(|written| written as usize)
    }
}

impl State {
    fn output_lane(&self) -> &Lane {
        if self.has_position { &self.input } else { &self.output }
    }
}

/// Whether reads and writes have a place in the file, and move it: as in regular files, and not in pipes.
fn has_position(mut file: &fs::File) -> bool {
    let Ok(kind) = file.metadata().map(|metadata| metadata.file_type()) else { return false };
    let may = kind.is_file() || kind.is_dir() || kind.is_block_device() || kind.is_char_device();
    may && file.stream_position().is_ok()
}

/// Reads at once what is in the page cache, and does not switch then; or waits for it, and all others may
/// run. Killed in there, it has read nothing.
impl Read for &File {
    #[track_caller]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let turn = self.input();
        if let Some(got) = turn.unread(buffer) {
            return Ok(got);
        }
        let count = buffer.len().min(MOST);
        let room = &mut buffer[..count];
        let now = |fd: BorrowedFd<'_>| read_now(fd, room, None);
        if let Some(got) = self.attempt(&self.state.reads_now, now) {
            return Ok(got);
        }
        let lane = &self.state.input;
        let (mut space, result) =
            turn.run(Does::Read, lane.take_buffer(), move |mut file, space| {
                file.read(space.space(count)).map(|got| got as u64)
            });
        let result = result.map(|got| got as usize);
        if let Ok(got) = result {
            buffer[..got].copy_from_slice(&space.space(count)[..got]);
        }
        lane.keep(space);
        result
    }
}

impl Read for File {
    #[track_caller]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Read::read(&mut &*self, buffer)
    }
}

/// Waits until it is written, and all others may run. Killed in there, it may have been written or will be:
/// see [`File`].
impl Write for &File {
    #[track_caller]
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.write_to(buffer, None)
    }

    /// Nothing is held back: it switches only to have the error of a write that was cancelled.
    #[track_caller]
    fn flush(&mut self) -> io::Result<()> {
        if self.state.output_lane().has_rest() { self.output().check() } else { Ok(()) }
    }
}

impl Write for File {
    #[track_caller]
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        Write::write(&mut &*self, buffer)
    }

    #[track_caller]
    fn flush(&mut self) -> io::Result<()> {
        Write::flush(&mut &*self)
    }
}

/// Sets the position, at once; but the end of the file is asked for on the pool. Killed in there, it may have
/// been set or will be.
impl Seek for &File {
    #[track_caller]
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        if !self.state.has_position {
            return (&*self.file).seek(position);
        }
        let turn = self.input();
        match position {
            SeekFrom::End(_) => {
                let call = move |mut file: &fs::File, _: &mut _| file.seek(position);
                turn.run(Does::Look, Default::default(), call).1
            }
            _ => (&*self.file).seek(position),
        }
    }
}

impl Seek for File {
    #[track_caller]
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        Seek::seek(&mut &*self, position)
    }
}

impl From<fs::File> for File {
    fn from(file: fs::File) -> Self {
        Self::from_std(file)
    }
}

impl From<OwnedFd> for File {
    fn from(fd: OwnedFd) -> Self {
        Self::from_std(fd.into())
    }
}

/// Its position is also that of other descriptors of the same file: what is read or written by them is not
/// kept in order with the operations of this one.
impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl AsRawFd for File {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.file.fmt(f)
    }
}
