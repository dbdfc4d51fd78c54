#![forbid(unsafe_code)]
//! Open files whose numbers were closed during calls, until the last of these calls is over.
//!
//! A close ends the number's generation for all threads at once; their hubs are notified later. A call that
//! continues in between finds its file here. Therefore the list is locked from before the generation ends
//! until the file is entered.

use crate::sys::lock::{Lock, Locked};
use std::os::fd::{OwnedFd, RawFd};
use std::sync::{Arc, Weak};

/// The files, with number and generation.
pub(super) type Files = Vec<(RawFd, u32, Weak<OwnedFd>)>;

static FILES: Lock<Files> = Lock::new(Vec::new());

/// Enters a file, without extending its life.
pub(super) fn note(files: &mut Files, fd: RawFd, generation: u32, file: &Arc<OwnedFd>) {
    files.retain(|(.., file)| file.strong_count() > 0);
    files.push((fd, generation, Arc::downgrade(file)));
}

/// Returns the file that a number stood for in a generation that has ended.
pub(super) fn find(fd: RawFd, generation: u32) -> Option<Arc<OwnedFd>> {
    let files = FILES.lock();
    let (.., file) = files.iter().find(|file| (file.0, file.1) == (fd, generation))?;
    file.upgrade()
}

/// Locks the list until the returned guard is dropped.
pub(super) fn hold() -> Locked<'static, Files> {
    FILES.lock()
}
