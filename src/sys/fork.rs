//! Another process with a copy of this one's memory, in which only the calling thread goes on.
//!
//! What threads share is locked by `fork_hooks.rs` meanwhile. The C library does the same for its allocator
//! and its own state. Nothing is known of other threads: see [`other_threads`].

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

/// One at a time.
static OWNING: Lock<()> = Lock::new(());

/// Makes this process an owner (see `lineage.rs`), if it is not: it is about to have hubs.
///
/// A copy of an owner that was not made by [`fork`] begins anew, as a child of [`fork`] does: what its parent
/// has in pools, tables and lists is not there. `false` if that cannot be: the thread that was forked may
/// have its parent's hub still, and this is another.
///
/// # Errors
///
/// If there are no descriptors left.
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

/// As in a child of [`fork`], after the fact.
fn begin_anew() -> io::Result<()> {
    let mut pretend = || {
        forget_threads_and_children(&mut COMPANIONS.lock(), &mut process::waited_for());
        exit::hold().take_over();
        Ok(Side::Child)
    };
    fork_hooks::run(&mut pretend).map(drop)
}

/// They are the parent's.
fn forget_threads_and_children(companions: &mut Vec<Arc<Known>>, children: &mut Vec<u32>) {
    companions.clear();
    children.clear();
}

/// Makes the copy. What was written to stdout before is not in it: it is flushed first.
///
/// In the child signals have their default effects again, as far as it was this library that had changed
/// them; one that comes in between is delivered afterwards. `last` is a hook of the caller's.
///
/// # Errors
///
/// `ResourceBusy` if there are other threads, or a companion is busy: it was not when [`other_threads`] was
/// called, so that is to be called again. What the kernel says.
pub(crate) fn fork(last: &mut dyn FnMut(Fork<'_>) -> io::Result<Side>) -> io::Result<Side> {
    // Held by nobody else, so that the child can print. What may let others run comes first: nothing of ours
    // is held yet.
    let mut out = io::stdout().lock();
    out.flush()?;
    let _err = io::stderr().lock();
    let blocked = SignalsBlocked::new();
    let side = fork_hooks::run(&mut || last(&mut fork_now));
    drop(blocked);
    side
}

fn fork_now() -> io::Result<Side> {
    // Companions may be about to change these.
    let (mut companions, mut functions) = (COMPANIONS.lock(), exit::hold());
    let mut children = process::waited_for();
    // From here on none of them begins anything: it would need what is held by the hooks.
    if !others(&companions)?.is_empty() {
        return Err(io::ErrorKind::ResourceBusy.into());
    }
    // SAFETY: no preconditions. What holds in the child is said above.
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

/// All signals are blocked on this thread until it is dropped.
struct SignalsBlocked(libc::sigset_t);

impl SignalsBlocked {
    fn new() -> Self {
        let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: room for both sets, the first of which is filled before it is read.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
            SignalsBlocked(before.assume_init())
        }
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // SAFETY: a set that the kernel has filled in; the one before is not asked for.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, ptr::null_mut()) };
    }
}

/// The threads of this library that a child can do without, unless they are busy.
static COMPANIONS: Lock<Vec<Arc<Known>>> = Lock::new(Vec::new());

#[derive(Debug)]
struct Known {
    id: libc::pid_t,
    is_busy: AtomicBool,
}

/// This thread, which a child can do without: what it shares with others is seen to by a [`Hook`]. To be
/// kept for as long as it runs.
#[derive(Debug)]
pub(crate) struct Companion(Arc<Known>);

impl Companion {
    pub(crate) fn new() -> Self {
        // SAFETY: no preconditions.
        let id = unsafe { libc::syscall(libc::SYS_gettid) } as libc::pid_t;
        let known = Arc::new(Known { id, is_busy: AtomicBool::new(false) });
        COMPANIONS.lock().push(Arc::clone(&known));
        Companion(known)
    }

    /// Says whether it runs code that may hold whatever lock there is: a child cannot do without it
    /// meanwhile. To be said while something is held that a [`Hook`] holds around the fork.
    pub(crate) fn set_busy(&self, is_busy: bool) {
        self.0.is_busy.store(is_busy, Release);
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        COMPANIONS.lock().retain(|known| !Arc::ptr_eq(known, &self.0));
    }
}

/// The names of the threads that there are beside this one and its idle companions. They may be in the middle
/// of something, with a lock that would stay locked in a child. For some milliseconds it is waited for those
/// that begin or end, and for companions that are busy.
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
        // One may have ended since.
        let name = name_of(id)?;
        let is_companion = companions.iter().any(|known| known.id == id);
        Some(if is_companion { format!("{name}, busy with a job") } else { name })
    };
    Ok(others(&companions)?.into_iter().filter_map(name_of).collect())
}

/// The numbers of all threads but this one and those of its companions that are idle.
fn others(companions: &[Arc<Known>]) -> io::Result<Vec<libc::pid_t>> {
    // SAFETY: no preconditions.
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

/// What a thread of this process is called. By numbers of system calls, since libc's functions may be hooks,
/// which let others run.
fn name_of(thread: libc::pid_t) -> Option<String> {
    let path = CString::new(format!("/proc/self/task/{thread}/comm")).ok()?;
    let flags = libc::O_RDONLY | libc::O_CLOEXEC;
    // SAFETY: a path that ends with a zero.
    let fd = unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags) };
    if fd < 0 {
        return None;
    }
    // SAFETY: a new descriptor of ours.
    let file = unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) };
    let mut name = [0_u8; 64];
    // SAFETY: room for so many bytes.
    let length =
        unsafe { libc::syscall(libc::SYS_read, file.as_raw_fd(), name.as_mut_ptr(), name.len()) };
    let name = name.get(..usize::try_from(length).ok()?)?;
    Some(String::from_utf8_lossy(name).trim_end().to_owned())
}

/// By number, as above.
fn pause(time: Duration) {
    let time = libc::timespec { tv_sec: time.as_secs() as _, tv_nsec: time.subsec_nanos() as _ };
    let rest = ptr::null_mut::<libc::timespec>();
    // SAFETY: a valid time; what is left of it is not asked for.
    unsafe {
        libc::syscall(libc::SYS_clock_nanosleep, libc::CLOCK_MONOTONIC, 0, &raw const time, rest)
    };
}

/// Ends a child, when what is to be done at an end is done. Nothing that it has inherited is cleaned up: no
/// destructors run, and no functions that others have registered for the end of the parent.
pub(crate) fn exit_child(code: i32) -> ! {
    exit::run();
    let _ = io::stdout().flush();
    // SAFETY: no preconditions.
    unsafe { libc::_exit(code) }
}

/// Has the kernel end this process when the thread that has made it ends. `false` if `parent` has ended
/// already.
pub(crate) fn end_with_parent(parent: u32) -> bool {
    // SAFETY: no memory is involved in either.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::getppid() == parent as libc::pid_t
    }
}

/// What the process is called in lists of processes: the first fifteen bytes of `name`.
pub(crate) fn set_name(name: &str) {
    let mut bytes = [0_u8; 16];
    let length = name.len().min(bytes.len() - 1);
    bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
    // SAFETY: sixteen bytes with a zero at the end.
    unsafe { libc::prctl(libc::PR_SET_NAME, bytes.as_ptr()) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::thread;

    #[test]
    fn a_companion_is_counted_while_it_is_busy() {
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
