#![forbid(unsafe_code)]
//! Functions that take a path.

use super::{Metadata, Permissions};
use crate::pool::try_unblock;
use std::fs;
use std::io;
use std::os::unix;
use std::path::{Path, PathBuf};

/// Functions of std that take paths, run on the pool.
macro_rules! unblocked {
    ($(
        $(#[doc = $doc:literal])+
        cancelled: $cancelled:literal;
        fn $name:ident($($path:ident),+) -> $output:ty = $std:path;
    )+) => {$(
        $(#[doc = $doc])+
        ///
        /// # Errors
        ///
        #[doc = concat!("Those of [`", stringify!($std), "`].")]
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
        #[doc = $cancelled]
        pub fn $name($($path: impl AsRef<Path>),+) -> io::Result<$output> {
            $(let $path = $path.as_ref().to_owned();)+
            try_unblock(move || $std($($path),+))?
        }
    )+};
}

unblocked! {
    /// Reads a whole file.
    ///
    /// # Examples
    ///
    /// ```
    /// let manifest = switchgrass::fs::read("Cargo.toml")?;
    /// assert!(manifest.starts_with(b"[package]"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    cancelled: "The data is lost; the file is unchanged.";
    fn read(path) -> Vec<u8> = fs::read;

    /// Reads a whole file as UTF-8.
    cancelled: "The data is lost; the file is unchanged.";
    fn read_to_string(path) -> String = fs::read_to_string;

    /// Copies the contents and permissions of a file, and returns the number of bytes copied.
    cancelled: "The copy continues to its end.";
    fn copy(from, to) -> u64 = fs::copy;

    /// Renames a file or directory, and replaces what already has the new name.
    cancelled: "The file is renamed, or will be.";
    fn rename(from, to) -> () = fs::rename;

    /// Removes a file.
    cancelled: "The file is removed, or will be.";
    fn remove_file(path) -> () = fs::remove_file;

    /// Creates a directory.
    cancelled: "The directory is created, or will be.";
    fn create_dir(path) -> () = fs::create_dir;

    /// Creates a directory, and its parents if they are missing.
    cancelled: "The directories are created, or will be.";
    fn create_dir_all(path) -> () = fs::create_dir_all;

    /// Removes an empty directory.
    cancelled: "The directory is removed, or will be.";
    fn remove_dir(path) -> () = fs::remove_dir;

    /// Removes a directory with all its contents. A symbolic link is removed, not followed.
    cancelled: "The removal continues to its end.";
    fn remove_dir_all(path) -> () = fs::remove_dir_all;

    /// Returns the metadata of a file or directory. Symbolic links are followed.
    cancelled: "The operation has no effect.";
    fn metadata(path) -> Metadata = fs::metadata;

    /// Returns the metadata of a path. Symbolic links are not followed.
    cancelled: "The operation has no effect.";
    fn symlink_metadata(path) -> Metadata = fs::symlink_metadata;

    /// Returns the absolute path, with symbolic links resolved.
    cancelled: "The operation has no effect.";
    fn canonicalize(path) -> PathBuf = fs::canonicalize;

    /// Creates a hard link to a file.
    cancelled: "The link is created, or will be.";
    fn hard_link(original, link) -> () = fs::hard_link;

    /// Returns the target of a symbolic link.
    cancelled: "The operation has no effect.";
    fn read_link(path) -> PathBuf = fs::read_link;

    /// Creates a symbolic link to `original`.
    cancelled: "The link is created, or will be.";
    fn symlink(original, link) -> () = unix::fs::symlink;

    /// Returns whether the path exists. Symbolic links are followed, so a broken one does not.
    cancelled: "The operation has no effect.";
    fn exists(path) -> bool = fs::exists;
}

/// Writes a whole file; creates it, or replaces its contents.
///
/// # Examples
///
/// ```
/// use switchgrass::fs;
///
/// let path = std::env::temp_dir().join(format!("switchgrass-write-{}", std::process::id()));
/// fs::write(&path, "hello")?;
/// assert_eq!(fs::read_to_string(&path)?, "hello");
/// fs::remove_file(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// Those of [`std::fs::write`].
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
/// The file is written regardless, or will be.
pub fn write(path: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> io::Result<()> {
    let (path, contents) = (path.as_ref().to_owned(), contents.as_ref().to_owned());
    try_unblock(move || fs::write(path, contents))?
}

/// Sets the permissions of a file or directory.
///
/// # Errors
///
/// Those of [`std::fs::set_permissions`].
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
/// The permissions are set, or will be.
pub fn set_permissions(path: impl AsRef<Path>, permissions: Permissions) -> io::Result<()> {
    let path = path.as_ref().to_owned();
    try_unblock(move || fs::set_permissions(path, permissions))?
}
