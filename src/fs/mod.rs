#![forbid(unsafe_code)]
//! Cooperative files and directories, with the names and signatures of std.
//!
//! The kernel has no readiness events for disks, so calls run on the threads of
//! [`ThreadPool::global`](crate::pool::ThreadPool::global), and other coroutines run meanwhile. Data in the
//! page cache is read directly, where the file system can report that it is cached (ext4, XFS and btrfs
//! can, tmpfs cannot).
//!
//! A cancelled call continues on its thread: each item documents what that means. The next operation of the
//! same [`File`] waits until it has ended, so no data is lost.
//!
//! The pool has at most ten threads. Opening a named pipe, or reading from one or from a terminal, may take
//! indefinitely, and occupies a thread that long: open it for reading and writing, and wrap it in an
//! [`io::Descriptor`](crate::io::Descriptor), which needs no thread.
//!
//! `file.rs` is [`File`], and `lane.rs` runs its operations one at a time; `lock.rs` has file locks,
//! `options.rs` the open options; `dir.rs` reads directories; `path.rs` has the functions that take paths.

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
