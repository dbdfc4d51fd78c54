#![forbid(unsafe_code)]
//! What is in a folder.

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

/// So many entries are gathered at a time.
const BATCH: usize = 256;

/// What is in a folder, in no order. Entries are gathered many at a time.
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
/// As [`std::fs::read_dir`].
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
/// Leaves nothing behind.
pub fn read_dir(path: impl AsRef<Path>) -> io::Result<ReadDir> {
    let path = path.as_ref().to_owned();
    let path_of_all = path.clone();
    let (source, batch) = try_unblock(move || fs::read_dir(path).map(gather))??;
    Ok(ReadDir { path: path_of_all, batch, source })
}

/// What [`read_dir`] returns.
///
/// # Panics
///
/// `next` does with what is raised in the current coroutine meanwhile.
///
/// # Switching
///
/// `next` switches once in a few hundred entries. All others may run meanwhile.
///
/// # Errors
///
/// If there is no thread to read on, that is the last item.
///
/// # Cancellation
///
/// Nothing is lost: the next `next` goes on.
#[must_use = "an iterator does nothing until it is asked"]
pub struct ReadDir {
    path: PathBuf,
    batch: Batch,
    source: Source,
}

type Batch = VecDeque<io::Result<DirEntry>>;

/// Where more entries come from.
enum Source {
    Here(fs::ReadDir),
    /// On the pool, to come back with a batch.
    Away(JobHandle<(Source, Batch)>),
    Ended,
}

/// The next entries, on the pool.
fn gather(mut entries: fs::ReadDir) -> (Source, Batch) {
    let batch: Batch = entries.by_ref().take(BATCH).map(|entry| entry.map(DirEntry::new)).collect();
    let source = if batch.len() < BATCH { Source::Ended } else { Source::Here(entries) };
    (source, batch)
}

impl Iterator for ReadDir {
    type Item = io::Result<DirEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.batch.is_empty() {
            match std::mem::replace(&mut self.source, Source::Ended) {
                Source::Here(entries) => match try_begin(move || gather(entries)) {
                    Ok(job) => self.source = Source::Away(job),
                    Err(error) => return Some(Err(error)),
                },
                Source::Ended => return None,
                Source::Away(job) => {
                    // Back in its place before there is a switch: if this ends there, it is found again.
                    self.source = Source::Away(job);
                    self.arrive();
                }
            }
        }
        self.batch.pop_front()
    }
}

impl ReadDir {
    /// Waits until the entries are back.
    fn arrive(&mut self) {
        let Source::Away(job) = &self.source else { return };
        job.wait();
        let Source::Away(job) = std::mem::replace(&mut self.source, Source::Ended) else { return };
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

/// A file or folder in a folder, as [`std::fs::DirEntry`].
pub struct DirEntry {
    inner: Arc<fs::DirEntry>,
    /// `None` if that could not be found out at once.
    file_type: Option<FileType>,
}

impl DirEntry {
    fn new(entry: fs::DirEntry) -> Self {
        DirEntry { file_type: entry.file_type().ok(), inner: Arc::new(entry) }
    }

    /// Its path: that of the folder, and its name.
    pub fn path(&self) -> PathBuf {
        self.inner.path()
    }

    /// Its name in the folder.
    pub fn file_name(&self) -> OsString {
        self.inner.file_name()
    }

    /// The number of its inode.
    pub fn ino(&self) -> u64 {
        self.inner.ino()
    }

    /// What it is. A symbolic link is not followed.
    ///
    /// # Errors
    ///
    /// As [`std::fs::DirEntry::file_type`].
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile.
    ///
    /// # Switching
    ///
    /// Switches if that could not be found out when it was read. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// Nothing has happened.
    pub fn file_type(&self) -> io::Result<FileType> {
        let ask = || {
            let inner = Arc::clone(&self.inner);
            try_unblock(move || inner.file_type())?
        };
        self.file_type.map_or_else(ask, Ok)
    }

    /// What is known about it. A symbolic link is not followed.
    ///
    /// # Errors
    ///
    /// As [`std::fs::DirEntry::metadata`].
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
