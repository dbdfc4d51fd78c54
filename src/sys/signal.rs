//! Counts signals, in a handler that then wakes the hubs.
//!
//! ```text
//!   kernel ──► on_signal: DELIVERED[number] += 1, writes to NEWS ──► every hub that has a copy of NEWS
//! ```
//!
//! The process has one eventfd, `NEWS`, which is never read from and never closed: every write to it is an
//! event for each epoll instance that has it or a copy of it. So the handler needs no list of receivers,
//! which could change while it runs, and never writes to the number of a closed descriptor.
//!
//! `signalfd` is not used: it requires the signal to be blocked in every thread, and children inherit that.

use super::fork_hooks::{self, Fork, Side};
use super::lineage::{self, Generation};
use super::lock::Lock;
use super::poll;
use std::io;
use std::mem;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};

/// One more than the highest signal number.
const NUMBERS: usize = 65;

/// How many signals of each number have come, wrapping around.
static DELIVERED: [AtomicUsize; NUMBERS] = [const { AtomicUsize::new(0) }; NUMBERS];

/// The action that was in place before this module's handler. Never freed: a handler may be about to read
/// it.
static PREVIOUS: [AtomicPtr<libc::sigaction>; NUMBERS] =
    [const { AtomicPtr::new(ptr::null_mut()) }; NUMBERS];

/// The uses of this module's handler, by signal number.
static USES: Lock<[Use; NUMBERS]> = Lock::new([Use { users: 0, is_installed: false }; NUMBERS]);

/// The eventfd that is written to whenever a signal has come.
static NEWS: poll::EventFd = poll::EventFd::new();

/// The process in which signals are counted.
static COUNTED_IN: AtomicU32 = AtomicU32::new(0);

#[derive(Clone, Copy)]
struct Use {
    users: usize,
    /// The handler was installed and has not been removed. Another handler may have been installed over it
    /// since, and may call it.
    is_installed: bool,
}

/// Returns a copy of an eventfd that has an edge-triggered event whenever a signal has come.
pub(crate) fn news() -> io::Result<OwnedFd> {
    fork_hooks::around_fork(around_fork);
    // SAFETY: `NEWS` owns the descriptor, and never closes it.
    unsafe { BorrowedFd::borrow_raw(NEWS.fd()?) }.try_clone_to_owned()
}

/// Returns how many signals of a number have come while it was [`Installed`].
pub(crate) fn delivered(signal: libc::c_int) -> usize {
    DELIVERED[signal as usize].load(Ordering::Acquire)
}

/// Counts a signal while this lives. Dropping the last one restores the previous action.
#[derive(Debug)]
pub(crate) struct Installed(libc::c_int, Generation);

impl Installed {
    pub(crate) fn new(signal: libc::c_int) -> io::Result<Self> {
        let index = usize::try_from(signal).ok().filter(|index| (1..NUMBERS).contains(index));
        let Some(index) = index else { return Err(io::Error::from_raw_os_error(libc::EINVAL)) };
        fork_hooks::around_fork(around_fork);
        NEWS.fd()?;
        let mut uses = USES.lock();
        lineage::store_current(&COUNTED_IN);
        let current = exchange(signal, None)?;
        let may_pass_on = uses[index].is_installed && is_handler(&current);
        if !is_ours(&current) && !may_pass_on {
            remember(index, current);
            // SAFETY: an all-zero `sigaction` is valid.
            let mut action: libc::sigaction = unsafe { mem::zeroed() };
            action.sa_sigaction = on_signal as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
            // The mask that the previous handler expects, since this module's handler calls it.
            action.sa_mask = current.sa_mask;
            exchange(signal, Some(&action))?;
            uses[index].is_installed = true;
        }
        uses[index].users += 1;
        Ok(Installed(signal, Generation::current()))
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        let index = self.0 as usize;
        let mut uses = USES.lock();
        if self.1 != Generation::current() {
            return;
        }
        uses[index].users -= 1;
        if uses[index].users == 0 && uses[index].is_installed {
            uses[index].is_installed = !restore_previous(self.0);
        }
    }
}

/// Restores the previous action, unless another handler was installed since. Returns whether it did.
fn restore_previous(signal: libc::c_int) -> bool {
    if !exchange(signal, None).is_ok_and(|current| is_ours(&current)) {
        return false;
    }
    // SAFETY: set before this module's handler was installed, and never freed.
    let previous = unsafe { PREVIOUS[signal as usize].load(Ordering::Acquire).as_ref() };
    exchange(signal, previous).is_ok()
}

/// The fork hook: restores the previous actions in the child, which has no receivers of signals.
fn around_fork(fork: Fork<'_>) -> io::Result<Side> {
    let mut uses = USES.lock();
    let news = NEWS.renewal()?;
    let side = fork();
    if matches!(side, Ok(Side::Child)) {
        news.renew();
        for (signal, used) in uses.iter_mut().enumerate().filter(|(_, used)| used.is_installed) {
            *used = Use { users: 0, is_installed: !restore_previous(signal as libc::c_int) };
        }
    }
    side
}

/// Returns the action of a signal, and sets a new one if given.
fn exchange(signal: libc::c_int, action: Option<&libc::sigaction>) -> io::Result<libc::sigaction> {
    let action = action.map_or(ptr::null(), ptr::from_ref);
    // SAFETY: an all-zero `sigaction` is valid.
    let mut current: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: the pointers are null or to live structures. A new action is this module's, or was the
    // signal's before.
    match unsafe { libc::sigaction(signal, action, &mut current) } {
        0 => Ok(current),
        _ => Err(io::Error::last_os_error()),
    }
}

fn is_ours(action: &libc::sigaction) -> bool {
    is_own_handler(action.sa_sigaction)
}

/// Whether this is the address of this module's handler.
pub(crate) fn is_own_handler(address: usize) -> bool {
    address == on_signal as *const () as usize
}

fn is_handler(action: &libc::sigaction) -> bool {
    !matches!(action.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN)
}

/// Records the previous action, unless it is the one recorded before, as it usually is.
fn remember(index: usize, action: libc::sigaction) {
    // SAFETY: recorded actions are never freed.
    let known = unsafe { PREVIOUS[index].load(Ordering::Acquire).as_ref() };
    let is_known = known.is_some_and(|known| {
        known.sa_sigaction == action.sa_sigaction && known.sa_flags == action.sa_flags
    });
    if !is_known {
        PREVIOUS[index].store(Box::into_raw(Box::new(action)), Ordering::Release);
    }
}

/// The signal handler. It may run between any two instructions, so it neither allocates nor locks.
unsafe extern "C" fn on_signal(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: the location of the calling thread's errno, which is always valid.
    let errno = unsafe { *libc::__errno_location() };
    if let (Some(count), Some(previous)) =
        (DELIVERED.get(signal as usize), PREVIOUS.get(signal as usize))
    {
        let is_counted = lineage::is_current(&COUNTED_IN);
        if is_counted {
            count.fetch_add(1, Ordering::Release);
            NEWS.raise();
        }
        // SAFETY: recorded actions are never freed, and the previous handler gets the kernel's arguments
        // unchanged.
        unsafe {
            match previous.load(Ordering::Acquire).as_ref() {
                Some(previous) if is_handler(previous) => {
                    #[cfg(feature = "monkey")]
                    let outer = super::signal_counts::enter();
                    #[cfg(feature = "monkey")]
                    super::signal_counts::count(previous.sa_flags & libc::SA_RESTART != 0);
                    call_handler(previous, signal, info, context);
                    #[cfg(feature = "monkey")]
                    super::signal_counts::leave(outer);
                }
                _ if !is_counted => send_again(signal),
                _ => {}
            }
        }
    }
    // SAFETY: the location of the calling thread's errno, which is always valid.
    unsafe { *libc::__errno_location() = errno };
}

/// Restores the previous action and sends the signal to this thread again, in a copied process.
///
/// A child that was not forked by this library has the handler but no receiver of the signal. So the signal
/// gets its previous effect, which usually ends the process. It is delivered when the handler, in which it
/// is blocked, has returned.
///
/// Does nothing if another handler was installed over this module's and has called it: then that one has
/// handled the signal.
fn send_again(signal: libc::c_int) {
    if restore_previous(signal) {
        // SAFETY: `tgkill` accesses no memory of this process. By number: libc may have cached the IDs of
        // the parent.
        unsafe {
            let process = libc::syscall(libc::SYS_getpid);
            libc::syscall(libc::SYS_tgkill, process, libc::syscall(libc::SYS_gettid), signal);
        }
    }
}

/// Calls the handler that an action names.
///
/// # Safety
///
/// Called in a handler of `signal` with the arguments that the kernel passed; `action` was in place for
/// that signal, and is neither `SIG_DFL` nor `SIG_IGN`.
pub(super) unsafe fn call_handler(
    action: &libc::sigaction,
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    if action.sa_flags & libc::SA_SIGINFO != 0 {
        type Handler = unsafe extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
        // SAFETY: with `SA_SIGINFO`, the handler has this type. It gets the kernel's arguments.
        unsafe { mem::transmute::<usize, Handler>(action.sa_sigaction)(signal, info, context) }
    } else {
        type Handler = unsafe extern "C" fn(libc::c_int);
        // SAFETY: without `SA_SIGINFO`, the handler has this type.
        unsafe { mem::transmute::<usize, Handler>(action.sa_sigaction)(signal) }
    }
}
