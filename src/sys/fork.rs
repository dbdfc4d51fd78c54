//! Forks this process: the child has a copy of its memory, and only the calling thread.
//!
//! State shared by threads is locked during the fork (`fork_hooks.rs`). The C library does the same for its
//! allocator and its own state. A fork is refused while there are threads that this library does not know:
//! see [`other_threads`].

pub(crate) use super::fork_hooks::{Fork, Side, around_fork};
use super::lineage;
pub(crate) use super::lineage::{Generation, is_child};
use super::lock::Lock;
use super::{exit, fork_hooks, process};
use std::ffi::CString;
use std::fs;
use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::Duration;

/// Serialises [`own`] and its like.
static OWNING: Lock<()> = Lock::new(());

/// Makes this process an owner (see `lineage.rs`). Called before it gets hubs.
///
/// A copy of an owner that was not made by [`fork`] begins anew, as a child of [`fork`] does: the content
/// of its parent's pools, tables and lists is gone. Returns `false` if that is impossible: the forked
/// thread may still have its parent's hub, and this is another thread.
///
/// # Errors
///
/// If no descriptors are left.
pub(crate) fn own() -> io::Result<bool> {
    let _one_at_a_time = OWNING.lock();
    if lineage::is_copy() {
        if !lineage::has_left() && !process::is_main_thread() {
            return Ok(false);
        }
        begin_anew()?;
    }
    lineage::set_owner();
    Ok(true)
}

/// Makes this process an owner, unless it is a copy of one.
#[cfg(feature = "monkey")]
pub(crate) fn own_unless_copied() {
    let _one_at_a_time = OWNING.lock();
    if !lineage::is_copy() {
        lineage::set_owner();
    }
}

/// Does what a child of [`fork`] does, in a process that was forked otherwise.
fn begin_anew() -> io::Result<()> {
    let mut pretend = || {
        forget_threads_and_children(&mut COMPANIONS.lock(), &mut process::waited_for());
        exit::hold().take_over();
        Ok(Side::Child)
    };
    fork_hooks::run(&mut pretend).map(drop)
}

/// Empties both lists in a child: the threads and children in them are its parent's.
fn forget_threads_and_children(companions: &mut Vec<Arc<CompanionState>>, children: &mut Vec<u32>) {
    companions.clear();
    children.clear();
}

/// Forks. Flushes standard output first, so that the child does not inherit unwritten text.
///
/// In the child, signals that this library has handled get their previous actions back. A signal that
/// arrives during the fork is delivered afterwards. `last` is a hook of the caller, inside all registered
/// hooks.
///
/// # Errors
///
/// `ResourceBusy` if there are other threads, or a companion is busy. It was not when [`other_threads`] was
/// called, so call that again. Otherwise the kernel's error.
pub(crate) fn fork(last: &mut dyn FnMut(Fork<'_>) -> io::Result<Side>) -> io::Result<Side> {
    // Locked across the fork, so that the child can print. The flush may switch, so it comes before
    // anything else is locked.
    let mut out = io::stdout().lock();
    out.flush()?;
    let _err = io::stderr().lock();
    let blocked = SignalsBlocked::new();
    let side = fork_hooks::run(&mut || last(&mut fork_now));
    drop(blocked);
    side
}

fn fork_now() -> io::Result<Side> {
    // Locked, since companions may be about to change these.
    let (mut companions, mut functions) = (COMPANIONS.lock(), exit::hold());
    let mut children = process::waited_for();
    // From here on no companion begins a job: it would need a lock that the hooks hold.
    if !others(&companions)?.is_empty() {
        return Err(io::ErrorKind::ResourceBusy.into());
    }
    // SAFETY: `fork` has no preconditions. The hooks and the checks above make the child consistent.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            forget_threads_and_children(&mut companions, &mut children);
            lineage::begin();
            functions.take_over();
            Ok(Side::Child)
        }
        pid => Ok(Side::Parent(pid as u32)),
    }
}

/// Blocks all signals on this thread until it is dropped.
struct SignalsBlocked(libc::sigset_t);

impl SignalsBlocked {
    fn new() -> Self {
        let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: both sets have room for the results, and `sigfillset` initialises the first before it is
        // read.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
            SignalsBlocked(before.assume_init())
        }
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // SAFETY: `self.0` was filled in by the kernel; a null pointer means that the old mask is not
        // requested.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, ptr::null_mut()) };
    }
}

/// This library's threads, which a child can do without unless they are busy.
static COMPANIONS: Lock<Vec<Arc<CompanionState>>> = Lock::new(Vec::new());

#[derive(Debug)]
struct CompanionState {
    id: libc::pid_t,
    is_busy: AtomicBool,
}

/// Declares the current thread as one that a child can do without, for as long as this lives.
///
/// A [`Hook`](super::fork_hooks::Hook) has to protect the state that the thread shares with others.
#[derive(Debug)]
pub(crate) struct Companion(Arc<CompanionState>);

impl Companion {
    pub(crate) fn new() -> Self {
        // SAFETY: `gettid` has no preconditions.
        let id = unsafe { libc::syscall(libc::SYS_gettid) } as libc::pid_t;
        let known = Arc::new(CompanionState { id, is_busy: AtomicBool::new(false) });
        COMPANIONS.lock().push(Arc::clone(&known));
        Companion(known)
    }

    /// Sets whether the thread runs code that may hold any lock, so that a fork is refused meanwhile.
    ///
    /// Call this while holding a lock that a [`Hook`](super::fork_hooks::Hook) holds during the fork.
    pub(crate) fn set_busy(&self, is_busy: bool) {
        self.0.is_busy.store(is_busy, Release);
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        COMPANIONS.lock().retain(|known| !Arc::ptr_eq(known, &self.0));
    }
}

/// Returns the names of the threads other than this one and its idle companions.
///
/// They may hold a lock, which would stay locked in a child. Waits some milliseconds for threads that begin
/// or end, and for busy companions.
pub(crate) fn other_threads() -> io::Result<Vec<String>> {
    const ATTEMPTS: u32 = 20;
    const PAUSE: Duration = Duration::from_millis(1);
    for _ in 1..ATTEMPTS {
        if others(&COMPANIONS.lock())?.is_empty() {
            return Ok(Vec::new());
        }
        pause(PAUSE);
    }
    let companions = COMPANIONS.lock();
    let name_of = |id| {
        // A thread may have ended since.
        let name = name_of(id)?;
        let is_companion = companions.iter().any(|known| known.id == id);
        Some(if is_companion { format!("{name}, busy with a job") } else { name })
    };
    Ok(others(&companions)?.into_iter().filter_map(name_of).collect())
}

/// Returns the IDs of all threads except this one and idle companions.
fn others(companions: &[Arc<CompanionState>]) -> io::Result<Vec<libc::pid_t>> {
    // SAFETY: `gettid` has no preconditions.
    let own = unsafe { libc::syscall(libc::SYS_gettid) } as libc::pid_t;
    let is_harmless =
        |id| companions.iter().any(|known| known.id == id && !known.is_busy.load(Acquire));
    let mut others = Vec::new();
    for entry in fs::read_dir("/proc/self/task")? {
        let id = entry?.file_name().to_string_lossy().parse().unwrap_or(0);
        if id != own && !is_harmless(id) {
            others.push(id);
        }
    }
    Ok(others)
}

/// Returns the name of a thread of this process.
///
/// The system calls are made by number: `libc::open` and `libc::read` may be hooks.
fn name_of(thread: libc::pid_t) -> Option<String> {
    let path = CString::new(format!("/proc/self/task/{thread}/comm")).ok()?;
    let flags = libc::O_RDONLY | libc::O_CLOEXEC;
    // SAFETY: `path` ends with a zero.
    let fd = unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags) };
    if fd < 0 {
        return None;
    }
    // SAFETY: `fd` is a new descriptor that nothing else owns.
    let file = unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) };
    let mut name = [0_u8; 64];
    // SAFETY: `name` has room for the length passed.
    let length =
        unsafe { libc::syscall(libc::SYS_read, file.as_raw_fd(), name.as_mut_ptr(), name.len()) };
    let name = name.get(..usize::try_from(length).ok()?)?;
    Some(String::from_utf8_lossy(name).trim_end().to_owned())
}

/// Sleeps. By number: `libc::nanosleep` may be a hook.
fn pause(time: Duration) {
    let time = libc::timespec { tv_sec: time.as_secs() as _, tv_nsec: time.subsec_nanos() as _ };
    let rest = ptr::null_mut::<libc::timespec>();
    // SAFETY: `time` is valid; a null pointer means that the remaining time is not requested.
    unsafe {
        libc::syscall(libc::SYS_clock_nanosleep, libc::CLOCK_MONOTONIC, 0, &raw const time, rest)
    };
}

/// Ends a child, after the exit functions of this library have run.
///
/// Nothing inherited is cleaned up: neither destructors nor exit functions of other code run.
pub(crate) fn exit_child(code: i32) -> ! {
    exit::run();
    let _ = io::stdout().flush();
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Makes the kernel kill this process when the thread that forked it ends.
///
/// Returns `false` if `parent` has ended already.
pub(crate) fn end_with_parent(parent: u32) -> bool {
    // SAFETY: neither call accesses memory of this process.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::getppid() == parent as libc::pid_t
    }
}

/// Sets the name of the process in process lists, to the first 15 bytes of `name`.
pub(crate) fn set_name(name: &str) {
    let mut bytes = [0_u8; 16];
    let length = name.len().min(bytes.len() - 1);
    bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
    // SAFETY: `bytes` is 16 bytes long and ends with a zero.
    unsafe { libc::prctl(libc::PR_SET_NAME, bytes.as_ptr()) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::thread;

    #[test]
    fn a_companion_is_counted_only_while_busy() {
        let (ready, is_ready) = mpsc::channel();
        let (change, is_to_change) = mpsc::channel();
        let thread = thread::Builder::new().name("companion".into()).spawn(move || {
            let companion = Companion::new();
            for is_busy in is_to_change {
                companion.set_busy(is_busy);
                ready.send(()).unwrap();
            }
        });
        for is_busy in [false, true, false] {
            change.send(is_busy).unwrap();
            is_ready.recv().unwrap();
            let others = others(&COMPANIONS.lock()).unwrap();
            let names: Vec<_> = others.into_iter().filter_map(name_of).collect();
            assert_eq!(names.contains(&"companion".to_owned()), is_busy, "{names:?}");
        }
        drop(change);
        thread.unwrap().join().unwrap();
    }
}
