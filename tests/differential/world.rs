//! What the actors of a script have in common: its descriptors, and what can be seen of them from outside.

use crate::fixtures::Address;
use crate::params::RESULTS;
use libc::c_int;
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::io;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering::SeqCst};

const SLOTS: usize = 192;

static FDS: [AtomicI32; SLOTS] = [const { AtomicI32::new(-1) }; SLOTS];

/// Signals that were taken, each by its number.
static TAKEN: [AtomicU32; 65] = [const { AtomicU32::new(0) }; 65];

static ACTORS: [AtomicUsize; SLOTS] = [const { AtomicUsize::new(0) }; SLOTS];

/// Which actor takes a step.
pub(crate) fn actor(step: usize) -> usize {
    ACTORS[step].load(SeqCst)
}

pub(crate) fn set_actor(step: usize, actor: usize) {
    ACTORS[step].store(actor, SeqCst);
}

/// The thread of the only actor that is blocked, if it may be sent signals. 0: there is none.
pub(crate) static ALONE: AtomicI32 = AtomicI32::new(0);

pub(crate) fn fd(slot: i64) -> c_int {
    FDS.get(slot as usize).map_or(-1, |fd| fd.load(SeqCst))
}

pub(crate) fn set_fd(slot: i64, fd: c_int) {
    FDS[slot as usize].store(fd, SeqCst);
}

/// A slot is closed: from now on its number is one that nothing has.
pub(crate) fn set_closed(slot: i64) {
    if (0..SLOTS as i64).contains(&slot) {
        set_fd(slot, 700 + slot as c_int);
    }
}

/// The slots that have a descriptor.
fn slots() -> impl Iterator<Item = (i64, c_int)> {
    (0..SLOTS as i64).map(|slot| (slot, fd(slot))).filter(|(_, fd)| *fd >= 0)
}

pub(crate) fn name(slot: i64) -> String {
    if slot < RESULTS { format!("s{slot}") } else { format!("r{}", slot - RESULTS) }
}

/// What a call returned, and its errno.
#[derive(Clone, Copy)]
pub(crate) struct Outcome {
    pub(crate) result: i64,
    errno: c_int,
}

/// To be called with the call as its argument, so that nothing comes in between.
pub(crate) fn outcome(result: impl TryInto<i64>) -> Outcome {
    let errno = io::Error::last_os_error().raw_os_error().unwrap_or(0);
    Outcome { result: result.try_into().unwrap_or(i64::MIN), errno }
}

impl Outcome {
    pub(crate) fn text(self) -> String {
        match self.result {
            -1 => error_name(self.errno),
            result => result.to_string(),
        }
    }

    /// With what was written to memory.
    pub(crate) fn with(self, more: &str) -> String {
        format!("{} {more}", self.text()).trim_end().to_owned()
    }
}

/// As a call that returns its error.
pub(crate) fn error_name(errno: c_int) -> String {
    unsafe extern "C" {
        fn strerrorname_np(errno: c_int) -> *const libc::c_char;
    }
    // SAFETY: no preconditions; a literal is returned, or null.
    let name = unsafe { strerrorname_np(errno).as_ref() };
    // SAFETY: a string that ends with a zero.
    name.map_or(errno.to_string(), |name| unsafe { CStr::from_ptr(name) }.to_string_lossy().into())
}

/// An address that was written, of a length that was said. Ports differ from run to run: the slot is named.
pub(crate) fn address(bytes: &[u8], length: u32) -> String {
    let whole = &bytes[..bytes.len().min(length as usize)];
    let owner = slots().find(|(_, fd)| {
        Address::of(*fd).is_some_and(|address| {
            // SAFETY: as long as it says, within the storage.
            let known = unsafe {
                std::slice::from_raw_parts(address.pointer().cast::<u8>(), address.length as usize)
            };
            whole.len() > 2 && known == whole
        })
    });
    let text = match (owner, whole) {
        (Some((slot, _)), _) => name(slot),
        (None, [family, 0, ..]) => format!("family{family}"),
        (None, _) => String::new(),
    };
    format!("[{length} {text}]")
}

extern "C" fn take(signal: c_int) {
    TAKEN[signal as usize].fetch_add(1, SeqCst);
}

/// Has signals counted: one that begins calls anew, and one that does not.
pub(crate) fn take_signals() {
    let kinds = [
        (libc::SIGPIPE, libc::SA_RESTART),
        (libc::SIGUSR1, libc::SA_RESTART),
        (libc::SIGUSR2, 0),
        (libc::SIGCHLD, libc::SA_RESTART),
    ];
    for (signal, flags) in kinds {
        // SAFETY: all-zero is an action with an empty mask; the handler only counts.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = take as extern "C" fn(c_int) as usize;
            action.sa_flags = flags;
            libc::sigaction(signal, &action, std::ptr::null_mut());
        }
    }
    // SAFETY: a set of signals.
    unsafe {
        libc::pthread_sigmask(
            libc::SIG_BLOCK,
            &crate::fixtures::told_signal(),
            std::ptr::null_mut(),
        )
    };
}

/// The state of each slot, and of signals, as seen from outside. A waiting copy keeps its pipe locked, which
/// then cannot be asked for its number of bytes.
pub(crate) fn state(is_locked: bool) -> BTreeMap<String, String> {
    let of = |(slot, fd)| (name(slot), state_of(fd, is_locked));
    let mut all: BTreeMap<_, _> = slots().map(of).collect();
    for signal in [libc::SIGPIPE, libc::SIGUSR1, libc::SIGUSR2, libc::SIGCHLD] {
        let taken = TAKEN[signal as usize].load(SeqCst);
        if taken > 0 {
            all.insert(format!("signal{signal}"), taken.to_string());
        }
    }
    all
}

fn state_of(fd: c_int, is_locked: bool) -> String {
    // SAFETY: no memory is involved.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    if flags < 0 {
        return "closed".into();
    }
    // SAFETY: no memory is involved.
    let on_exec = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    let mut question = libc::pollfd { fd, events: !0, revents: 0 };
    // SAFETY: one question; it does not wait.
    unsafe { libc::poll(&mut question, 1, 0) };
    let mut available: c_int = -1;
    if !is_locked {
        // SAFETY: room for a number.
        unsafe { libc::ioctl(fd, libc::FIONREAD, &raw mut available) };
    }
    // SAFETY: no memory is involved.
    let at = unsafe { libc::lseek(fd, 0, libc::SEEK_CUR) };
    format!("{:#x}/{flags:o}/{on_exec} has {available} at {at}", question.revents)
}
