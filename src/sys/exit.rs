//! The end of the process.

use super::lineage::Generation;
use super::lock::{Lock, Locked};
use std::{fs, io, ptr};

static AT_EXIT: Lock<AtExit> = Lock::new(AtExit { functions: Vec::new(), is_ending: false });

pub(super) struct AtExit {
    /// Each with the process that has said so: a child that was made by another fork than this library's
    /// does nothing of it.
    functions: Vec<(fn(), Generation)>,
    /// The first of them has been called, or is about to be.
    is_ending: bool,
}

/// Has `f` called, once, when the process ends by a return from `main` or by `exit`: what was said last comes
/// first. `f` must not unwind.
///
/// `false` if the process is ending, and `f` is not still to be called: it may be called too late.
pub(crate) fn at_exit(f: fn()) -> bool {
    extern "C" fn call() {
        run();
    }
    let (mut at_exit, here) = (AT_EXIT.lock(), Generation::current());
    let is_this =
        |(known, made_in): &(fn(), Generation)| *made_in == here && ptr::fn_addr_eq(*known, f);
    if at_exit.functions.iter().any(is_this) {
        return true;
    }
    if at_exit.functions.is_empty() {
        // SAFETY: a function that lives as long as the process.
        unsafe { libc::atexit(call) };
    }
    at_exit.functions.push((f, here));
    !at_exit.is_ending
}

/// The number of the calling thread.
pub(crate) fn thread_id() -> u32 {
    // SAFETY: no preconditions.
    unsafe { libc::syscall(libc::SYS_gettid) as u32 }
}

/// Whether a thread of this process goes on no more: it has ended, or is suspended in `pause(2)`, where std
/// keeps all threads that call `exit` after the first for as long as the process lasts. Where `/proc` does
/// not say, it goes on.
pub(crate) fn is_held_or_gone(thread: u32) -> bool {
    let read = |thread| fs::read_to_string(format!("/proc/self/task/{thread}/syscall"));
    match read(thread) {
        Ok(call) => is_pause(&call),
        Err(error) => error.kind() == io::ErrorKind::NotFound && read(thread_id()).is_ok(),
    }
}

/// Of what `/proc` says of a system call: its number and arguments.
fn is_pause(call: &str) -> bool {
    let mut words = call.split_ascii_whitespace();
    let number = words.next().and_then(|number| number.parse().ok());
    #[cfg(target_arch = "x86_64")]
    return number == Some(libc::SYS_pause);
    // There it is a `ppoll` of nothing, without a limit.
    #[cfg(not(target_arch = "x86_64"))]
    return number == Some(libc::SYS_ppoll) && words.take(4).all(|word| word == "0x0");
}

/// What is to be called. Nobody adds anything meanwhile.
pub(super) fn hold() -> Locked<'static, AtExit> {
    AT_EXIT.lock()
}

impl AtExit {
    /// In a child of this library's: what its parent was to do, it does as well.
    pub(super) fn take_over(&mut self) {
        let here = Generation::current();
        self.functions.iter_mut().for_each(|(_, made_in)| *made_in = here);
    }
}

/// Calls what is to be called at the end.
pub(super) fn run() {
    loop {
        let mut at_exit = AT_EXIT.lock();
        at_exit.is_ending = true;
        let Some((f, made_in)) = at_exit.functions.pop() else { return };
        drop(at_exit);
        if made_in == Generation::current() {
            f();
        }
    }
}
