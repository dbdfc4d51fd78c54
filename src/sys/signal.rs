//! Signals that others send: a handler that counts them, and says that there is something new.
//!
//! ```text
//!   kernel ──► on_signal: DELIVERED[number] += 1, NEWS is written to ──► every hub that has a copy of NEWS
//! ```
//!
//! There is one eventfd for the process, never read from and never closed: every write to it is an event for
//! each epoll instance that has it or a copy of it. So the handler needs no list of who is interested, which
//! could change under it, and a number of a descriptor that was closed is never written to.
//!
//! Not `signalfd`: it wants the signal blocked, in every thread there is, and children inherit that.

use super::fork_hooks::{self, Fork, Side};
use super::lineage::{self, Generation};
use super::lock::Lock;
use super::poll;
use std::io;
use std::mem;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};

/// One more than the highest number of a signal.
const NUMBERS: usize = 65;

/// How many of each have come, modulo what there is room for.
static DELIVERED: [AtomicUsize; NUMBERS] = [const { AtomicUsize::new(0) }; NUMBERS];

/// What was there before our handler. Never freed: a handler may be about to read it.
static PREVIOUS: [AtomicPtr<libc::sigaction>; NUMBERS] =
    [const { AtomicPtr::new(ptr::null_mut()) }; NUMBERS];

/// For whom our handler is there.
static USES: Lock<[Use; NUMBERS]> = Lock::new([Use { users: 0, is_there: false }; NUMBERS]);

/// Written to whenever one has come.
static NEWS: poll::EventFd = poll::EventFd::new();

/// The process that they are counted in.
static COUNTED_IN: AtomicU32 = AtomicU32::new(0);

#[derive(Clone, Copy)]
struct Use {
    users: usize,
    /// It was put there, and not taken away. Another may have been put over it since, and pass on to it.
    is_there: bool,
}

/// A copy of what there is an event of, in the edge-triggered sense, whenever a signal has come.
pub(crate) fn news() -> io::Result<OwnedFd> {
    fork_hooks::around_fork(around_fork);
    // SAFETY: it is never closed.
    unsafe { BorrowedFd::borrow_raw(NEWS.fd()?) }.try_clone_to_owned()
}

/// How many of a signal have come while it was [`Installed`].
pub(crate) fn delivered(signal: libc::c_int) -> usize {
    DELIVERED[signal as usize].load(Ordering::Acquire)
}

/// Has a signal counted, for as long as this lives. The last that is dropped brings back what was there
/// before.
#[derive(Debug)]
pub(crate) struct Installed(libc::c_int, Generation);

impl Installed {
    pub(crate) fn new(signal: libc::c_int) -> io::Result<Self> {
        let index = usize::try_from(signal).ok().filter(|index| (1..NUMBERS).contains(index));
        let Some(index) = index else { return Err(io::Error::from_raw_os_error(libc::EINVAL)) };
        fork_hooks::around_fork(around_fork);
        NEWS.fd()?;
        let mut uses = USES.lock();
        lineage::tell_now(&COUNTED_IN);
        let current = exchange(signal, None)?;
        let may_pass_on = uses[index].is_there && is_handler(&current);
        if !is_ours(&current) && !may_pass_on {
            remember(index, current);
            // SAFETY: all-zero is a valid action.
            let mut action: libc::sigaction = unsafe { mem::zeroed() };
            action.sa_sigaction = on_signal as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
            // As that handler is used to, which may be called by ours.
            action.sa_mask = current.sa_mask;
            exchange(signal, Some(&action))?;
            uses[index].is_there = true;
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
        if uses[index].users == 0 && uses[index].is_there {
            uses[index].is_there = !bring_back(self.0);
        }
    }
}

/// Brings back what was there before our handler, unless another was put over it. Whether ours is gone.
fn bring_back(signal: libc::c_int) -> bool {
    if !exchange(signal, None).is_ok_and(|current| is_ours(&current)) {
        return false;
    }
    // SAFETY: set before ours was there, and never freed.
    let previous = unsafe { PREVIOUS[signal as usize].load(Ordering::Acquire).as_ref() };
    exchange(signal, previous).is_ok()
}

/// Around a fork: the child handles no signals, for whoever handled them is not there. What there was
/// before comes back.
fn around_fork(fork: Fork<'_>) -> io::Result<Side> {
    let mut uses = USES.lock();
    let news = NEWS.renewal()?;
    let side = fork();
    if matches!(side, Ok(Side::Child)) {
        news.renew();
        for (signal, used) in uses.iter_mut().enumerate().filter(|(_, used)| used.is_there) {
            *used = Use { users: 0, is_there: !bring_back(signal as libc::c_int) };
        }
    }
    side
}

/// What is done at a signal, and what is to be done from now on, if that is said.
fn exchange(signal: libc::c_int, action: Option<&libc::sigaction>) -> io::Result<libc::sigaction> {
    let action = action.map_or(ptr::null(), ptr::from_ref);
    // SAFETY: all-zero is a valid action.
    let mut current: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: pointers to live structures, or null. What becomes a handler is ours or was one before.
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

/// Keeps what was there before. As a rule that is the same each time.
fn remember(index: usize, action: libc::sigaction) {
    // SAFETY: never freed.
    let known = unsafe { PREVIOUS[index].load(Ordering::Acquire).as_ref() };
    let is_known = known.is_some_and(|known| {
        known.sa_sigaction == action.sa_sigaction && known.sa_flags == action.sa_flags
    });
    if !is_known {
        PREVIOUS[index].store(Box::into_raw(Box::new(action)), Ordering::Release);
    }
}

/// Runs between any two instructions: it neither allocates nor locks.
unsafe extern "C" fn on_signal(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: a thread-local variable that is always there.
    let errno = unsafe { *libc::__errno_location() };
    if let (Some(count), Some(previous)) =
        (DELIVERED.get(signal as usize), PREVIOUS.get(signal as usize))
    {
        let is_counted = lineage::is_now(&COUNTED_IN);
        if is_counted {
            count.fetch_add(1, Ordering::Release);
            NEWS.raise();
        }
        // SAFETY: never freed. The arguments are handed on as they came.
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
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// In a child that was forked with our handler, by something else than this library: nobody hears of the
/// signal here, so that it does what it did before, which is as a rule to end the process. It comes again
/// when the handler, in which it is blocked, has returned.
///
/// Not where another handler was put over ours and has passed it on: that one has seen to it.
fn send_again(signal: libc::c_int) {
    if bring_back(signal) {
        // SAFETY: no memory is involved. By number: libc may remember the numbers of the parent.
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
/// Called in a handler of `signal` with the arguments that the kernel gave; `action` names a handler that
/// was in place, neither `SIG_DFL` nor `SIG_IGN`.
pub(super) unsafe fn call_handler(
    action: &libc::sigaction,
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    if action.sa_flags & libc::SA_SIGINFO != 0 {
        type Handler = unsafe extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
        // SAFETY: registered as a handler of this type.
        unsafe { mem::transmute::<usize, Handler>(action.sa_sigaction)(signal, info, context) }
    } else {
        type Handler = unsafe extern "C" fn(libc::c_int);
        // SAFETY: registered as a handler of this type.
        unsafe { mem::transmute::<usize, Handler>(action.sa_sigaction)(signal) }
    }
}
