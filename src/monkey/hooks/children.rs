//! Children. One that is named is waited for by a descriptor of its process; any of several by a thread,
//! which leaves it as it is: whoever comes first takes it, and the others wait again.

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
/// As libc's.
pub(in crate::monkey) unsafe fn wait(status: *mut c_int) -> pid_t {
    // SAFETY: the caller's.
    unsafe { wait4(-1, status, 0, ptr::null_mut()) }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn waitpid(pid: pid_t, status: *mut c_int, options: c_int) -> pid_t {
    // SAFETY: the caller's.
    unsafe { wait4(pid, status, options, ptr::null_mut()) }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn wait3(
    status: *mut c_int,
    options: c_int,
    usage: *mut rusage,
) -> pid_t {
    // SAFETY: the caller's.
    unsafe { wait4(-1, status, options, usage) }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn wait4(
    pid: pid_t,
    status: *mut c_int,
    options: c_int,
    usage: *mut rusage,
) -> pid_t {
    // SAFETY: the caller's.
    let ask = || unsafe { originals::wait4::call(pid, status, options | libc::WNOHANG, usage) };
    if options & libc::WNOHANG != 0 {
        return ask();
    }
    let (kind, id) = match pid {
        -1 => (libc::P_ALL, 0),
        0 => (libc::P_PGID, 0),
        1.. => (libc::P_PID, pid as id_t),
        _ => (libc::P_PGID, pid.unsigned_abs()),
    };
    // The bits are the same for both.
    wait_for(kind, id, options | libc::WEXITED, ask)
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn waitid(
    kind: idtype_t,
    id: id_t,
    about: *mut siginfo_t,
    options: c_int,
) -> c_int {
    // The kernel writes to the caller's place, also in a call that fails, and not to all of it.
    let mut own = MaybeUninit::<siginfo_t>::zeroed();
    let place = if about.is_null() { own.as_mut_ptr() } else { about };
    let ask = || {
        // SAFETY: the caller's, or room for the answer.
        match unsafe { originals::waitid::call(kind, id, place, options | libc::WNOHANG) } {
            // SAFETY: the kernel has written to it, and 0 if there is nobody.
            0 => unsafe { (*place).si_pid() },
            _ => -1,
        }
    };
    let result = match options & libc::WNOHANG {
        0 => wait_for(kind, id, options, ask),
        _ => ask(),
    };
    result.min(0)
}

/// Asks until the answer is something else than 0, and waits in between until one of those children that are
/// meant has ended, or whatever else is asked for by the options of `waitid`.
fn wait_for(kind: idtype_t, id: id_t, options: c_int, mut ask: impl FnMut() -> pid_t) -> pid_t {
    yield_if_due_nounwind();
    let now = ask();
    if now != 0 {
        return now;
    }
    let interrupts = Interrupts::Tell.since_call_began();
    // With any other option it may be told of more than an end.
    let of_ends = libc::WEXITED | libc::WNOWAIT | libc::__WNOTHREAD;
    if kind == libc::P_PID
        && options & !of_ends == 0
        && let Some(process) = Process::of(id)
    {
        return process.wait_until_ended(interrupts, ask);
    }
    if options & libc::__WNOTHREAD != 0 {
        return wait_by_pauses(interrupts, ask);
    }
    let options = (options & !libc::WNOHANG) | libc::WNOWAIT;
    loop {
        let wait = move || {
            let mut about = MaybeUninit::<siginfo_t>::uninit();
            // SAFETY: room for the answer.
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
        let answer = ask();
        if answer != 0 {
            return answer;
        }
        // It is not to be waited for, or not by another thread.
        if waited != 0 {
            return errno::fail(error);
        }
    }
}

/// Waits for the children of this thread alone, which no other thread can do.
fn wait_by_pauses(interrupts: Interrupts, mut ask: impl FnMut() -> pid_t) -> pid_t {
    const LONGEST: Duration = Duration::from_millis(50);
    let mut pause = Duration::from_millis(1);
    loop {
        if let Err(refusal) = wait_a_while(pause, "wait", None, interrupts) {
            return errno::fail(refusal.unwrap_or(libc::EINTR));
        }
        let answer = ask();
        if answer != 0 {
            return answer;
        }
        pause = (pause * 2).min(LONGEST);
    }
}

/// A descriptor of a process.
struct Process(c_int);

impl Process {
    /// `None` if there can be none, for want of such a process, of room, or of a kernel that knows these.
    fn of(pid: id_t) -> Option<Self> {
        // SAFETY: no memory is involved.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) } as c_int;
        forget_last(fd);
        (fd >= 0).then_some(Process(fd))
    }

    fn wait_until_ended(&self, interrupts: Interrupts, mut ask: impl FnMut() -> pid_t) -> pid_t {
        let Some(known) = look_up(self.0) else { return errno::fail(libc::EINTR) };
        loop {
            // First: it may have ended before there was a descriptor.
            let answer = ask();
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
        // SAFETY: nobody else knows of it.
        unsafe { originals::close::call(self.0) };
        errno::set(before);
    }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn pclose(file: *mut FILE) -> c_int {
    let is_ours = is_patched(What::Process) && is_cooperative(&originals::pclose::ROW);
    if is_ours {
        // SAFETY: the caller's, who closes it.
        unsafe { file_locks::give_up(file) };
    }
    // SAFETY: the caller's.
    unsafe { forget_file(file) };
    if !is_ours {
        // SAFETY: the caller's.
        return unsafe { originals::pclose::call(file) };
    }
    // SAFETY: the caller's, who is suspended until the call is over.
    let lent = unsafe { Lent::new(file) };
    // SAFETY: the caller's.
    let closed = aside("pclose", move || unsafe { originals::pclose::call(lent.get()) });
    // SAFETY: the caller's.
    closed.unwrap_or_else(|| unsafe { originals::pclose::call_blocking(file) })
}

/// By a thread that blocks the signals that the caller does, since its child blocks them as well.
///
/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn system(command: *const c_char) -> c_int {
    let mut mask = MaybeUninit::<sigset_t>::uninit();
    // SAFETY: room for the answer; nothing is changed.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), mask.as_mut_ptr()) };
    // SAFETY: the caller's, who is suspended until the call is over.
    let lent = unsafe { Lent::new(command) };
    let status = aside("system", move || {
        // SAFETY: it was answered.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask.as_ptr(), ptr::null_mut()) };
        // SAFETY: the caller's.
        unsafe { originals::system::call(lent.get()) }
    });
    // SAFETY: the caller's.
    status.unwrap_or_else(|| unsafe { originals::system::call_blocking(command) })
}
