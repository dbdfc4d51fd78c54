#![forbid(unsafe_code)]
//! Reading directories.

use super::{FileType, Metadata};
use crate::pool::{JobHandle, try_begin, try_unblock};
use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::DirEntryExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Entries gathered per call on the pool.
const BATCH: usize = 256;

/// Returns an iterator over the entries of a directory, in no particular order.
///
/// Entries are gathered in batches.
///
/// # Examples
///
/// ```
/// let mut names = Vec::new();
/// for entry in switchgrass::fs::read_dir("src/fs")? {
///     names.push(entry?.file_name());
/// }
/// names.sort();
/// assert_eq!(names[0], "dir.rs");
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// Those of [`std::fs::read_dir`].
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
/// The call on the pool continues; its result is dropped.
pub fn read_dir(path: impl AsRef<Path>) -> io::Result<ReadDir> {
    let path = path.as_ref().to_owned();
    let path_of_all = path.clone();
    let (source, batch) = try_unblock(move || fs::read_dir(path).map(gather))??;
    Ok(ReadDir { path: path_of_all, batch, source })
}

/// An iterator over the entries of a directory, made by [`read_dir`].
///
/// # Panics
///
/// `next` unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
///
/// # Switching
///
/// `next` may switch, once in a few hundred entries: other coroutines run meanwhile.
///
/// # Errors
///
/// If no pool thread is available, that error is the last item.
///
/// # Cancellation
///
/// No entry is lost: the following call of `next` continues.
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct ReadDir {
    path: PathBuf,
    batch: Batch,
    source: Source,
}

type Batch = VecDeque<io::Result<DirEntry>>;

/// Where further entries come from.
enum Source {
    Open(fs::ReadDir),
    /// On the pool, which returns it with a batch.
    Gathering(JobHandle<(Source, Batch)>),
    Ended,
}

/// Gathers the next batch; runs on the pool.
fn gather(mut entries: fs::ReadDir) -> (Source, Batch) {
    let batch: Batch = entries.by_ref().take(BATCH).map(|entry| entry.map(DirEntry::new)).collect();
    let source = if batch.len() < BATCH { Source::Ended } else { Source::Open(entries) };
    (source, batch)
}

impl Iterator for ReadDir {
    type Item = io::Result<DirEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.batch.is_empty() {
            match std::mem::replace(&mut self.source, Source::Ended) {
                Source::Open(entries) => match try_begin(move || gather(entries)) {
                    Ok(job) => self.source = Source::Gathering(job),
                    Err(error) => return Some(Err(error)),
                },
                Source::Ended => return None,
                Source::Gathering(job) => {
                    // Stored before the switch: if this call unwinds there, the next one finds the job.
                    self.source = Source::Gathering(job);
                    self.arrive();
                }
            }
        }
        self.batch.pop_front()
    }
}

impl ReadDir {
    /// Waits for the batch on the pool.
    fn arrive(&mut self) {
        let Source::Gathering(job) = &self.source else { return };
        job.wait();
        let Source::Gathering(job) = std::mem::replace(&mut self.source, Source::Ended) else {
            return;
        };
        match job.try_finish() {
            Ok((source, batch)) => (self.source, self.batch) = (source, batch),
            Err(error) => self.batch.push_back(Err(error)),
        }
    }
}

impl fmt::Debug for ReadDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReadDir").field(&self.path).finish()
    }
}

/// An entry of a directory, like [`std::fs::DirEntry`].
pub struct DirEntry {
    inner: Arc<fs::DirEntry>,
    /// `None` if the type takes a further system call.
    file_type: Option<FileType>,
}

impl DirEntry {
    fn new(entry: fs::DirEntry) -> Self {
        DirEntry { file_type: entry.file_type().ok(), inner: Arc::new(entry) }
    }

    /// Returns the path: the directory's path joined with the name.
    pub fn path(&self) -> PathBuf {
        self.inner.path()
    }

    /// Returns the name within the directory.
    pub fn file_name(&self) -> OsString {
        self.inner.file_name()
    }

    /// Returns the inode number.
    pub fn ino(&self) -> u64 {
        self.inner.ino()
    }

    /// Returns the type of the entry. Symbolic links are not followed.
    ///
    /// # Errors
    ///
    /// Those of [`std::fs::DirEntry::file_type`].
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: if the type was not part of the directory entry, other coroutines run while a pool
    /// thread asks for it.
    ///
    /// # Cancellation
    ///
    /// The operation has no effect.
    pub fn file_type(&self) -> io::Result<FileType> {
        let ask = || {
            let inner = Arc::clone(&self.inner);
            try_unblock(move || inner.file_type())?
        };
        self.file_type.map_or_else(ask, Ok)
    }

    /// Returns the metadata of the entry. Symbolic links are not followed.
    ///
    /// # Errors
    ///
    /// Those of [`std::fs::DirEntry::metadata`].
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
    pub fn metadata(&self) -> io::Result<Metadata> {
        let inner = Arc::clone(&self.inner);
        try_unblock(move || inner.metadata())?
    }
}

impl fmt::Debug for DirEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DirEntry").field(&self.path()).finish()
    }
}
