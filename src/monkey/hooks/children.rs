//! Waiting for child processes.
//!
//! A wait for one child by its process id waits for a process descriptor (pidfd). A wait for any of several
//! is made by a dedicated thread with `WNOWAIT`, which does not reap the child: the first coroutine to try
//! reaps it, and the others wait again.

use super::closing::forget_file;
use super::file_locks;
use crate::hub::{Direction, Interrupts, yield_if_due_nounwind};
use crate::monkey::blocking_pool::Lent;
use crate::monkey::dedicated::{aside, aside_or_interrupted};
use crate::monkey::descriptors::{forget, forget_last, look_up};
use crate::monkey::gate::{is_cooperative, is_patched};
use crate::monkey::kinds::What;
use crate::monkey::known::wait_a_while;
use crate::monkey::{errno, originals};
use libc::{FILE, c_char, c_int, id_t, idtype_t, pid_t, rusage, siginfo_t, sigset_t};
use std::mem::MaybeUninit;
use std::ptr;
use std::time::Duration;

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn wait(status: *mut c_int) -> pid_t {
    // SAFETY: contract of a hook: `wait4` has the same contract.
    unsafe { wait4(-1, status, 0, ptr::null_mut()) }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn waitpid(pid: pid_t, status: *mut c_int, options: c_int) -> pid_t {
    // SAFETY: contract of a hook: `wait4` has the same contract.
    unsafe { wait4(pid, status, options, ptr::null_mut()) }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn wait3(
    status: *mut c_int,
    options: c_int,
    usage: *mut rusage,
) -> pid_t {
    // SAFETY: contract of a hook: `wait4` has the same contract.
    unsafe { wait4(-1, status, options, usage) }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn wait4(
    pid: pid_t,
    status: *mut c_int,
    options: c_int,
    usage: *mut rusage,
) -> pid_t {
    // SAFETY: contract of a hook: libc's `wait4` gets the caller's pointers.
    let attempt = || unsafe { originals::wait4::call(pid, status, options | libc::WNOHANG, usage) };
    if options & libc::WNOHANG != 0 {
        return attempt();
    }
    let (kind, id) = match pid {
        -1 => (libc::P_ALL, 0),
        0 => (libc::P_PGID, 0),
        1.. => (libc::P_PID, pid as id_t),
        _ => (libc::P_PGID, pid.unsigned_abs()),
    };
    // `wait4` and `waitid` use the same option bits.
    wait_for(kind, id, options | libc::WEXITED, attempt)
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn waitid(
    kind: idtype_t,
    id: id_t,
    about: *mut siginfo_t,
    options: c_int,
) -> c_int {
    // The kernel writes to the result also in a call that fails, and does not write all of it.
    let mut own = MaybeUninit::<siginfo_t>::zeroed();
    let place = if about.is_null() { own.as_mut_ptr() } else { about };
    let attempt = || {
        // SAFETY: contract of a hook; if the caller's pointer is null, `own` is valid for a write.
        match unsafe { originals::waitid::call(kind, id, place, options | libc::WNOHANG) } {
            // SAFETY: the kernel has set the process id, to 0 if no child was found.
            0 => unsafe { (*place).si_pid() },
            _ => -1,
        }
    };
    let result = match options & libc::WNOHANG {
        0 => wait_for(kind, id, options, attempt),
        _ => attempt(),
    };
    result.min(0)
}

/// Repeats `attempt` until its result is not 0, and waits in between.
///
/// Waits until one of the selected children has ended, or has changed its state in another way that
/// `options`, which are those of `waitid`, select.
fn wait_for(kind: idtype_t, id: id_t, options: c_int, mut attempt: impl FnMut() -> pid_t) -> pid_t {
    yield_if_due_nounwind();
    let now = attempt();
    if now != 0 {
        return now;
    }
    let interrupts = Interrupts::Tell.since_call_began();
    // Other options select more than the end of a child.
    let of_ends = libc::WEXITED | libc::WNOWAIT | libc::__WNOTHREAD;
    if kind == libc::P_PID
        && options & !of_ends == 0
        && let Some(process) = Process::of(id)
    {
        return process.wait_until_ended(interrupts, attempt);
    }
    if options & libc::__WNOTHREAD != 0 {
        return wait_by_pauses(interrupts, attempt);
    }
    let options = (options & !libc::WNOHANG) | libc::WNOWAIT;
    loop {
        let wait = move || {
            let mut about = MaybeUninit::<siginfo_t>::uninit();
            // SAFETY: `about` is valid for a write.
            unsafe { originals::waitid::call(kind, id, about.as_mut_ptr(), options) }
        };
        let waited = aside_or_interrupted("wait", interrupts, wait).unwrap_or_else(|| {
            originals::waitid::ROW.count_blocked();
            wait()
        });
        let error = errno::get();
        if waited != 0 && matches!(error, libc::ECANCELED | libc::EINTR) {
            return -1;
        }
        let answer = attempt();
        if answer != 0 {
            return answer;
        }
        // The kernel refuses this wait, or refuses it on another thread.
        if waited != 0 {
            return errno::fail(error);
        }
    }
}

/// Waits by polling, for children of this thread only (`__WNOTHREAD`).
///
/// No other thread can wait for those.
fn wait_by_pauses(interrupts: Interrupts, mut attempt: impl FnMut() -> pid_t) -> pid_t {
    const LONGEST: Duration = Duration::from_millis(50);
    let mut pause = Duration::from_millis(1);
    loop {
        if let Err(refusal) = wait_a_while(pause, "wait", None, interrupts) {
            return errno::fail(refusal.unwrap_or(libc::EINTR));
        }
        let answer = attempt();
        if answer != 0 {
            return answer;
        }
        pause = (pause * 2).min(LONGEST);
    }
}

/// A process descriptor (pidfd).
struct Process(c_int);

impl Process {
    /// Opens a descriptor.
    ///
    /// `None` if there is no such process, no free descriptor, or no support in the kernel.
    fn of(pid: id_t) -> Option<Self> {
        // SAFETY: no pointer is passed.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) } as c_int;
        forget_last(fd);
        (fd >= 0).then_some(Process(fd))
    }

    /// Repeats `attempt` until its result is not 0, and waits in between for the end of the process.
    fn wait_until_ended(
        &self,
        interrupts: Interrupts,
        mut attempt: impl FnMut() -> pid_t,
    ) -> pid_t {
        let Some(known) = look_up(self.0) else { return errno::fail(libc::EINTR) };
        loop {
            // First, since the process may have ended before the descriptor was opened.
            let answer = attempt();
            if answer != 0 {
                return answer;
            }
            let waited = known
                .would_block(Direction::Read)
                .and_then(|()| known.wait(Direction::Read, "wait", None, interrupts));
            if let Err(refusal) = waited {
                return errno::fail(refusal.unwrap_or(libc::ECHILD));
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let before = errno::get();
        forget(self.0);
        // SAFETY: only `self` uses this descriptor.
        unsafe { originals::close::call(self.0) };
        errno::set(before);
    }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn pclose(file: *mut FILE) -> c_int {
    let is_ours = is_patched(What::Process) && is_cooperative(&originals::pclose::ROW);
    if is_ours {
        // SAFETY: contract of a hook: the file is open, and is not used after `pclose`.
        unsafe { file_locks::give_up(file) };
    }
    // SAFETY: contract of a hook: the file is open.
    unsafe { forget_file(file) };
    if !is_ours {
        // SAFETY: contract of a hook: libc's `pclose` gets the caller's pointers.
        return unsafe { originals::pclose::call(file) };
    }
    // SAFETY: contract of a hook: the pointers are valid on any thread until the suspended caller returns.
    let lent = unsafe { Lent::new(file) };
    // SAFETY: contract of a hook: the suspended caller lends the pointers to libc's `pclose`.
    let closed = aside("pclose", move || unsafe { originals::pclose::call(lent.get()) });
    // SAFETY: contract of a hook: libc's `pclose` gets the caller's pointers.
    closed.unwrap_or_else(|| unsafe { originals::pclose::call_blocking(file) })
}

/// Runs the command on a dedicated thread with the caller's signal mask, which the child inherits.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn system(command: *const c_char) -> c_int {
    let mut mask = MaybeUninit::<sigset_t>::uninit();
    // SAFETY: `mask` is valid for a write; nothing is changed.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), mask.as_mut_ptr()) };
    // SAFETY: contract of a hook: the pointers are valid on any thread until the suspended caller returns.
    let lent = unsafe { Lent::new(command) };
    let status = aside("system", move || {
        // SAFETY: `mask` was filled in above.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask.as_ptr(), ptr::null_mut()) };
        // SAFETY: contract of a hook: the suspended caller lends the pointers to libc's `system`.
        unsafe { originals::system::call(lent.get()) }
    });
    // SAFETY: contract of a hook: libc's `system` gets the caller's pointers.
    status.unwrap_or_else(|| unsafe { originals::system::call_blocking(command) })
}
