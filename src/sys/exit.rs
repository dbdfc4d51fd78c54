//! Functions that run at the end of the process, and threads that its end has stopped.

use super::lineage::Generation;
use super::lock::{Lock, Locked};
use std::{fs, io, ptr};

static AT_EXIT: Lock<AtExit> = Lock::new(AtExit { functions: Vec::new(), is_ending: false });

pub(super) struct AtExit {
    /// The functions, each with the process that registered it. A child that was not forked by this library
    /// does not call what its parent has registered.
    functions: Vec<(fn(), Generation)>,
    /// Whether the first function has been called, or is about to be.
    is_ending: bool,
}

/// Registers `f` to be called when the process ends by a return from `main` or by `exit`.
///
/// Each function is called once, the last registered first. It must not unwind.
///
/// Returns `false` if the process is already ending and `f` is not still waiting to be called: it may be
/// called too late.
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
        // SAFETY: `call` is a function of the program, so it stays valid until the end of the process.
        unsafe { libc::atexit(call) };
    }
    at_exit.functions.push((f, here));
    !at_exit.is_ending
}

/// Returns the kernel's ID of the calling thread.
pub(crate) fn thread_id() -> u32 {
    // SAFETY: `gettid` has no preconditions.
    unsafe { libc::syscall(libc::SYS_gettid) as u32 }
}

/// Whether a thread of this process has ended, or is stopped for good by a concurrent `exit`.
///
/// std suspends every thread that calls `exit` after the first in `pause(2)`, until the process ends. Where
/// `/proc` cannot be read, the answer is `false`.
pub(crate) fn is_held_or_gone(thread: u32) -> bool {
    let read = |thread| fs::read_to_string(format!("/proc/self/task/{thread}/syscall"));
    match read(thread) {
        Ok(call) => is_pause(&call),
        Err(error) => error.kind() == io::ErrorKind::NotFound && read(thread_id()).is_ok(),
    }
}

/// Whether a line of `/proc/self/task/*/syscall`, the number and arguments of a call, is of `pause`.
fn is_pause(call: &str) -> bool {
    let mut words = call.split_ascii_whitespace();
    let number = words.next().and_then(|number| number.parse().ok());
    #[cfg(target_arch = "x86_64")]
    return number == Some(libc::SYS_pause);
    // Other architectures have `ppoll` without descriptors or a timeout instead.
    #[cfg(not(target_arch = "x86_64"))]
    return number == Some(libc::SYS_ppoll) && words.take(4).all(|word| word == "0x0");
}

/// Locks the registered functions: none is added until the result is dropped.
pub(super) fn hold() -> Locked<'static, AtExit> {
    AT_EXIT.lock()
}

impl AtExit {
    /// Makes a child that was forked by this library call the functions that its parent has registered.
    pub(super) fn take_over(&mut self) {
        let here = Generation::current();
        self.functions.iter_mut().for_each(|(_, made_in)| *made_in = here);
    }
}

/// Calls the registered functions.
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
