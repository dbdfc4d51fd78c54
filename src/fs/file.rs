#![forbid(unsafe_code)]
//! Open files.

use super::lane::{Effect, Lane, MAX_CHUNK, Turn};
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

/// An open file, like [`std::fs::File`], but cooperative.
///
/// Waiting for a disk lets other coroutines run. Data in the page cache is read directly, where the file
/// system can report that it is cached; all other calls run on the thread pool. A call reads or writes at
/// most 256 KiB. A call on the pool costs a round trip to another thread, so use
/// [`BufReader`](std::io::BufReader) and [`BufWriter`](std::io::BufWriter), as with std. On most file
/// systems every write goes to the pool.
///
/// Several coroutines may use a file through references. Operations that use the position run one at a
/// time, in the order in which they started; a file without a position, such as a pipe or a terminal, can
/// be read and written at the same time. A `File` stays on its thread; [`File::into_std`] makes a file that
/// can move.
///
/// Dropping the last handle closes the file on the current thread, as with std.
///
/// # Cancellation
///
/// If a coroutine is killed while its call is on the pool, the call continues, and the next operation waits
/// for it.
///
/// - Data that was read is not lost. The position is restored before the next operation; if there is none,
///   as in a pipe, the bytes are kept for the next read.
/// - A write may be carried out, in whole or in part, then or later, and moves the position. If it fails,
///   the next `write`, `flush`, `set_len` or `sync` of the file, or of a clone, returns the error.
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
    /// For writes to a file without a position. All other operations use `input`.
    output: Lane,
    /// Whether the file system supports reads, or writes, that fail instead of waiting; cleared at the
    /// first refusal.
    reads_now: Cell<bool>,
    writes_now: Cell<bool>,
}

impl File {
    /// Opens a file for reading.
    ///
    /// # Errors
    ///
    /// Those of [`std::fs::File::open`].
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: other coroutines run while a pool thread opens the file.
    ///
    /// # Cancellation
    ///
    /// The file is closed.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::options().read(true).open(path)
    }

    /// Opens a file for writing; creates it, or truncates it if it exists.
    ///
    /// # Errors
    ///
    /// Those of [`std::fs::File::create`].
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: other coroutines run while a pool thread opens the file.
    ///
    /// # Cancellation
    ///
    /// The file is opened regardless, so it may be created or truncated; then it is closed.
    pub fn create(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::options().write(true).create(true).truncate(true).open(path)
    }

    /// Creates a file for reading and writing; fails if it exists.
    ///
    /// # Errors
    ///
    /// Those of [`std::fs::File::create_new`].
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: other coroutines run while a pool thread opens the file.
    ///
    /// # Cancellation
    ///
    /// The file is opened regardless, so it may be created or truncated; then it is closed.
    pub fn create_new(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::options().read(true).write(true).create_new(true).open(path)
    }

    /// Returns options for opening a file in other ways.
    pub fn options() -> OpenOptions {
        OpenOptions::new()
    }

    /// Wraps a std file.
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

    /// Converts to the std file, which may move to any thread.
    ///
    /// What a cancelled operation has left behind is lost: bytes of a pipe, the error of a write.
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: while a cancelled operation is still running, other coroutines run.
    ///
    /// # Cancellation
    ///
    /// The file is closed.
    pub fn into_std(self) -> fs::File {
        for lane in [&self.state.input, &self.state.output] {
            if lane.has_leftover() {
                drop(lane.enter(&self.file, self.state.has_position));
            }
        }
        let mut file = self.file;
        loop {
            // A cancelled operation that takes no turn may still hold a reference.
            match Arc::try_unwrap(file) {
                Ok(file) => return file,
                Err(shared) => file = shared,
            }
            sleep(Duration::from_millis(1));
        }
    }

    /// Makes another handle to the same file, with the same position.
    ///
    /// # Errors
    ///
    /// Those of [`std::fs::File::try_clone`].
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(File { file: Arc::new(self.file.try_clone()?), state: Rc::clone(&self.state) })
    }

    /// Waits until all written data and metadata are on the disk.
    ///
    /// # Errors
    ///
    /// Those of [`std::fs::File::sync_all`], and the error of a cancelled write.
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: other coroutines run while this one waits.
    ///
    /// # Cancellation
    ///
    /// The call continues. If it fails, the next change or sync returns the error.
    #[track_caller]
    pub fn sync_all(&self) -> io::Result<()> {
        self.change(fs::File::sync_all)
    }

    /// Waits until all written data is on the disk; metadata may not be.
    ///
    /// # Errors
    ///
    /// Those of [`std::fs::File::sync_data`], and the error of a cancelled write.
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: other coroutines run while this one waits.
    ///
    /// # Cancellation
    ///
    /// The call continues. If it fails, the next change or sync returns the error.
    #[track_caller]
    pub fn sync_data(&self) -> io::Result<()> {
        self.change(fs::File::sync_data)
    }

    /// Truncates the file to `size` bytes, or extends it with zeros.
    ///
    /// # Errors
    ///
    /// Those of [`std::fs::File::set_len`], and the error of a cancelled write.
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: other coroutines run while this one waits.
    ///
    /// # Cancellation
    ///
    /// The change is made, or will be.
    #[track_caller]
    pub fn set_len(&self, size: u64) -> io::Result<()> {
        self.change(move |file| file.set_len(size))
    }

    /// Returns the metadata of the file. A cancelled write may not be included.
    ///
    /// # Errors
    ///
    /// Those of [`std::fs::File::metadata`].
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: other coroutines run while this one waits.
    ///
    /// # Cancellation
    ///
    /// The operation has no effect.
    #[track_caller]
    pub fn metadata(&self) -> io::Result<Metadata> {
        let file = Arc::clone(&self.file);
        try_unblock(move || file.metadata())?
    }

    /// Sets the permissions of the file.
    ///
    /// # Errors
    ///
    /// Those of [`std::fs::File::set_permissions`], and the error of a cancelled write.
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: other coroutines run while a pool thread makes the call.
    ///
    /// # Cancellation
    ///
    /// The change is made, or will be.
    #[track_caller]
    pub fn set_permissions(&self, permissions: Permissions) -> io::Result<()> {
        self.change(move |file| file.set_permissions(permissions))
    }

    /// Sets the access and modification times of the file.
    ///
    /// # Errors
    ///
    /// Those of [`std::fs::File::set_times`], and the error of a cancelled write.
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: other coroutines run while a pool thread makes the call.
    ///
    /// # Cancellation
    ///
    /// The change is made, or will be.
    #[track_caller]
    pub fn set_times(&self, times: FileTimes) -> io::Result<()> {
        self.change(move |file| file.set_times(times))
    }

    /// Sets the modification time of the file.
    ///
    /// # Errors
    ///
    /// Those of [`std::fs::File::set_modified`], and the error of a cancelled write.
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: other coroutines run while a pool thread makes the call.
    ///
    /// # Cancellation
    ///
    /// The change is made, or will be.
    #[track_caller]
    pub fn set_modified(&self, time: SystemTime) -> io::Result<()> {
        self.set_times(FileTimes::new().set_modified(time))
    }

    /// Waits for an exclusive advisory lock on the file, like std's method of Rust 1.89.
    ///
    /// Clones share the lock, and closing the last of them releases it. A lock that is taken is retried at
    /// growing intervals of up to 50 ms, so waiters are served in no particular order.
    ///
    /// # Errors
    ///
    /// If the file cannot be locked.
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: while another handle holds a lock, other coroutines run.
    ///
    /// # Cancellation
    ///
    /// The file is not locked.
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

    /// Waits for a shared lock, which several handles can hold at a time. See [`File::lock`].
    ///
    /// # Errors
    ///
    /// If the file cannot be locked.
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: while another handle holds an exclusive lock, other coroutines run.
    ///
    /// # Cancellation
    ///
    /// The file is not locked.
    #[track_caller]
    pub fn lock_shared(&self) -> io::Result<()> {
        lock::lock(self.as_fd(), Lock::Shared)
    }

    /// Takes the exclusive lock of [`File::lock`] if it is free.
    ///
    /// # Errors
    ///
    /// [`TryLockError::WouldBlock`] if another handle holds a conflicting lock.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn try_lock(&self) -> Result<(), TryLockError> {
        lock::try_lock(self.as_fd(), Lock::Exclusive)
    }

    /// Takes the shared lock of [`File::lock_shared`] if it is free.
    ///
    /// # Errors
    ///
    /// [`TryLockError::WouldBlock`] if another handle holds a conflicting lock.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn try_lock_shared(&self) -> Result<(), TryLockError> {
        lock::try_lock(self.as_fd(), Lock::Shared)
    }

    /// Releases the lock.
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

    /// Reads at `offset`, without using the position, and returns the number of bytes read.
    ///
    /// Like [`FileExt::read_at`](std::os::unix::fs::FileExt::read_at). Several such reads can be under way
    /// at the same time.
    ///
    /// # Errors
    ///
    /// Those of the std method of the same name.
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: unless the data is known to be cached, other coroutines run while a pool thread reads.
    ///
    /// # Cancellation
    ///
    /// The operation has no effect.
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
        let count = buffer.len().min(MAX_CHUNK);
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

    /// Reads at `offset` until `buffer` is full. See [`File::read_at`].
    ///
    /// # Errors
    ///
    /// Those of [`FileExt::read_exact_at`](std::os::unix::fs::FileExt::read_exact_at).
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: unless the data is known to be cached, other coroutines run while a pool thread reads.
    ///
    /// # Cancellation
    ///
    /// The operation has no effect.
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

    /// Writes at `offset`, without using the position, and returns the number of bytes written.
    ///
    /// Like [`FileExt::write_at`](std::os::unix::fs::FileExt::write_at).
    ///
    /// # Errors
    ///
    /// Those of the std method of the same name, and the error of a cancelled write.
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: unless the file system can write without waiting, other coroutines run while a pool
    /// thread writes.
    ///
    /// # Cancellation
    ///
    /// The bytes may be written, in whole or in part, then or later: see [`File`].
    #[track_caller]
    pub fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<usize> {
        self.write_to(buffer, Some(offset))
    }

    /// Writes all of `buffer` at `offset`. See [`File::write_at`].
    ///
    /// # Errors
    ///
    /// Those of [`FileExt::write_all_at`](std::os::unix::fs::FileExt::write_all_at), and the error of a
    /// cancelled write.
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: unless the file system can write without waiting, other coroutines run while a pool
    /// thread writes.
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

    /// Waits for the turn of a read.
    #[inline]
    #[track_caller]
    fn input(&self) -> Turn<'_> {
        self.state.input.enter(&self.file, self.state.has_position)
    }

    /// Waits for the turn of a write.
    #[track_caller]
    fn output(&self) -> Turn<'_> {
        self.state.output_lane().enter(&self.file, self.state.has_position)
    }

    /// Makes a call that does not wait, or returns `None`.
    ///
    /// The caller then repeats it on the pool, which also yields the error as std reports it.
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
        // No data goes to the pool.
        let (_, result) =
            turn.run(Effect::Change, Default::default(), |file, _| call(file).map(|()| 0));
        result.map(|_| ())
    }

    #[track_caller]
    fn write_to(&self, bytes: &[u8], offset: Option<u64>) -> io::Result<usize> {
        let bytes = &bytes[..bytes.len().min(MAX_CHUNK)];
        let turn = self.output();
        turn.check()?;
        let now = |fd: BorrowedFd<'_>| write_now(fd, bytes, offset);
        if let Some(count) = self.attempt(&self.state.writes_now, now) {
            return Ok(count);
        }
        let (lane, count) = (self.state.output_lane(), bytes.len());
        let mut buffer = lane.take_buffer();
        buffer.space(count).copy_from_slice(bytes);
        let (buffer, result) = turn.run(Effect::Change, buffer, move |mut file, buffer| {
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

/// Whether reads and writes use and move a position, as in regular files but not in pipes.
fn has_position(mut file: &fs::File) -> bool {
    let Ok(kind) = file.metadata().map(|metadata| metadata.file_type()) else { return false };
    let may = kind.is_file() || kind.is_dir() || kind.is_block_device() || kind.is_char_device();
    may && file.stream_position().is_ok()
}

/// Reads cached data directly and without a switch; otherwise waits, and other coroutines run.
///
/// If it is killed while it waits, it has read nothing.
impl Read for &File {
    #[track_caller]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let turn = self.input();
        if let Some(got) = turn.unread(buffer) {
            return Ok(got);
        }
        let count = buffer.len().min(MAX_CHUNK);
        let room = &mut buffer[..count];
        let now = |fd: BorrowedFd<'_>| read_now(fd, room, None);
        if let Some(got) = self.attempt(&self.state.reads_now, now) {
            return Ok(got);
        }
        let lane = &self.state.input;
        let (mut space, result) =
            turn.run(Effect::Read, lane.take_buffer(), move |mut file, space| {
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

/// Waits until the data is written, and other coroutines run meanwhile.
///
/// If it is killed while it waits, the data may be written regardless: see [`File`].
impl Write for &File {
    #[track_caller]
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.write_to(buffer, None)
    }

    /// There is no buffer: it switches only to collect the error of a cancelled write.
    #[track_caller]
    fn flush(&mut self) -> io::Result<()> {
        if self.state.output_lane().has_leftover() { self.output().check() } else { Ok(()) }
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

/// Sets the position without a switch, except relative to the end of the file, which is looked up on the
/// pool.
///
/// If it is killed there, the position may be set regardless.
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
                turn.run(Effect::Query, Default::default(), call).1
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

/// The descriptor shares its position with this file: reads and writes through it are not ordered with the
/// operations of this type.
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
