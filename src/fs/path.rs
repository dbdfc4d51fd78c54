#![forbid(unsafe_code)]
//! Functions that take a path.

use super::{Metadata, Permissions};
use crate::pool::try_unblock;
use std::fs;
use std::io;
use std::os::unix;
use std::path::{Path, PathBuf};

/// A function of std's that takes paths, made on the pool.
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
        #[doc = concat!("As [`", stringify!($std), "`].")]
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
    cancelled: "What is read is lost; the file is as it was.";
    fn read(path) -> Vec<u8> = fs::read;

    /// Reads a whole file of UTF-8.
    cancelled: "What is read is lost; the file is as it was.";
    fn read_to_string(path) -> String = fs::read_to_string;

    /// Copies content and permissions of a file. How many bytes that were.
    cancelled: "The copy goes on by itself, and ends.";
    fn copy(from, to) -> u64 = fs::copy;

    /// Gives a file or folder another name, in place of what has that name.
    cancelled: "It is renamed, or will be.";
    fn rename(from, to) -> () = fs::rename;

    /// Removes a file.
    cancelled: "It is removed, or will be.";
    fn remove_file(path) -> () = fs::remove_file;

    /// Makes a folder.
    cancelled: "It is made, or will be.";
    fn create_dir(path) -> () = fs::create_dir;

    /// Makes a folder, and those above it that are missing.
    cancelled: "They are made, or will be.";
    fn create_dir_all(path) -> () = fs::create_dir_all;

    /// Removes an empty folder.
    cancelled: "It is removed, or will be.";
    fn remove_dir(path) -> () = fs::remove_dir;

    /// Removes a folder with all that is in it. A symbolic link is removed, and not followed.
    cancelled: "It goes on by itself until all is removed.";
    fn remove_dir_all(path) -> () = fs::remove_dir_all;

    /// What is known about a file or folder: that which a symbolic link leads to.
    cancelled: "Nothing has happened.";
    fn metadata(path) -> Metadata = fs::metadata;

    /// As [`metadata`], of a symbolic link itself.
    cancelled: "Nothing has happened.";
    fn symlink_metadata(path) -> Metadata = fs::symlink_metadata;

    /// The path from the root, without symbolic links.
    cancelled: "Nothing has happened.";
    fn canonicalize(path) -> PathBuf = fs::canonicalize;

    /// Gives a file a further name.
    cancelled: "It has it, or will have.";
    fn hard_link(original, link) -> () = fs::hard_link;

    /// Where a symbolic link leads to.
    cancelled: "Nothing has happened.";
    fn read_link(path) -> PathBuf = fs::read_link;

    /// Makes a symbolic link that leads to `original`.
    cancelled: "It is made, or will be.";
    fn symlink(original, link) -> () = unix::fs::symlink;

    /// Whether there is something of that name. A symbolic link that leads nowhere is nothing.
    cancelled: "Nothing has happened.";
    fn exists(path) -> bool = fs::exists;
}

/// Writes a whole file: made new, or in place of what it held.
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
/// As [`std::fs::write`].
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
/// It is written all the same, or will be.
pub fn write(path: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> io::Result<()> {
    let (path, contents) = (path.as_ref().to_owned(), contents.as_ref().to_owned());
    try_unblock(move || fs::write(path, contents))?
}

/// Sets the permissions of a file or folder.
///
/// # Errors
///
/// As [`std::fs::set_permissions`].
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
/// They are set, or will be.
pub fn set_permissions(path: impl AsRef<Path>, permissions: Permissions) -> io::Result<()> {
    let path = path.as_ref().to_owned();
    try_unblock(move || fs::set_permissions(path, permissions))?
}
