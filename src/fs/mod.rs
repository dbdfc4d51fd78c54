#![forbid(unsafe_code)]
//! Files and folders, with std's names and signatures: whoever waits for one lets the other coroutines run.
//!
//! The kernel tells nobody when a disk has been read, so that calls are made on the threads of
//! [`ThreadPool::global`](crate::pool::ThreadPool::global). What is in the page cache is read at once, where
//! the file system can say that it is (ext4, XFS and btrfs can, tmpfs cannot).
//!
//! A call that is cancelled goes on on its thread: each item says what that means. The next operation of the
//! same [`File`] waits until it has ended, and finds nothing lost.
//!
//! There are ten of those threads for everything. To open a named pipe, or to read from one or from a
//! terminal, may last for ever, and takes one of them as long: open it for reading and writing and make an
//! [`io::Descriptor`](crate::io::Descriptor) of it, which takes none.
//!
//! `file.rs` is [`File`], and `lane.rs` how its operations come one after the other; `lock.rs` are locks of
//! files, `options.rs` how to open them; `dir.rs` reads folders; `path.rs` has the functions of paths.

mod dir;
mod file;
mod lane;
mod lock;
mod options;
mod path;

pub use dir::{DirEntry, ReadDir, read_dir};
pub use file::File;
pub use lock::TryLockError;
pub use options::OpenOptions;
pub use path::{
    canonicalize, copy, create_dir, create_dir_all, exists, hard_link, metadata, read, read_link,
    read_to_string, remove_dir, remove_dir_all, remove_file, rename, set_permissions, symlink,
    symlink_metadata, write,
};
pub use std::fs::{FileTimes, FileType, Metadata, Permissions};
