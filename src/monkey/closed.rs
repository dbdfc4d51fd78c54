#![forbid(unsafe_code)]
//! Files whose numbers were closed while calls were under way, until the last of these is over.
//!
//! A close ends the number's generation for all threads at once, and the hubs hear of it later. A call that
//! goes on in between finds its file here: so the list is held from before the generation ends until the file
//! is noted.

use crate::sys::lock::{Lock, Locked};
use std::os::fd::{OwnedFd, RawFd};
use std::sync::{Arc, Weak};

/// By number and generation.
pub(super) type Files = Vec<(RawFd, u32, Weak<OwnedFd>)>;

static FILES: Lock<Files> = Lock::new(Vec::new());

/// Notes the file in the list that is held, until its last owner is dropped.
pub(super) fn note(files: &mut Files, fd: RawFd, generation: u32, file: &Arc<OwnedFd>) {
    files.retain(|(.., file)| file.strong_count() > 0);
    files.push((fd, generation, Arc::downgrade(file)));
}

/// What a number was in a generation that has ended.
pub(super) fn find(fd: RawFd, generation: u32) -> Option<Arc<OwnedFd>> {
    let files = FILES.lock();
    let (.., file) = files.iter().find(|file| (file.0, file.1) == (fd, generation))?;
    file.upgrade()
}

/// Nobody is in the middle of this, until what is returned is dropped.
pub(super) fn hold() -> Locked<'static, Files> {
    FILES.lock()
}
