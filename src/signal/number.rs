#![forbid(unsafe_code)]
//! Signal numbers and names.

use crate::sys::signal::Installed;
use std::fmt;
use std::io;

/// A signal number.
///
/// # Examples
///
/// ```
/// use switchgrass::signal::Signal;
///
/// assert_eq!(Signal::TERM.to_string(), "SIGTERM");
/// assert_eq!(Signal::from_raw(40).to_string(), "signal 40");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(i32);

impl Signal {
    /// Interrupt from the terminal: Ctrl-C.
    pub const INT: Signal = Signal(libc::SIGINT);
    /// Request to terminate.
    pub const TERM: Signal = Signal(libc::SIGTERM);
    /// The terminal is gone; by convention, a request to reload the configuration.
    pub const HUP: Signal = Signal(libc::SIGHUP);
    /// Quit from the terminal: Ctrl-\\.
    pub const QUIT: Signal = Signal(libc::SIGQUIT);
    /// For use by programs.
    pub const USR1: Signal = Signal(libc::SIGUSR1);
    /// For use by programs.
    pub const USR2: Signal = Signal(libc::SIGUSR2);
    /// A child has ended, stopped or continued.
    ///
    /// Not needed to wait for a child: see [`process`](crate::process).
    pub const CHLD: Signal = Signal(libc::SIGCHLD);
    /// The size of the terminal has changed.
    pub const WINCH: Signal = Signal(libc::SIGWINCH);
    /// The timer of `alarm(2)` has expired.
    pub const ALRM: Signal = Signal(libc::SIGALRM);
    /// A write to a pipe without readers. Rust programs ignore it and get an error.
    pub const PIPE: Signal = Signal(libc::SIGPIPE);
    /// The process continues after it was stopped.
    pub const CONT: Signal = Signal(libc::SIGCONT);

    /// Makes a signal from its number.
    pub const fn from_raw(number: i32) -> Self {
        Signal(number)
    }

    /// Returns the number.
    pub const fn as_raw(self) -> i32 {
        self.0
    }

    /// Starts counting deliveries of the signal, if it can be handled.
    pub(super) fn install(self) -> io::Result<Installed> {
        let reason = match self.0 {
            libc::SIGKILL | libc::SIGSTOP => "the kernel does not allow a handler",
            libc::SIGSEGV | libc::SIGBUS | libc::SIGFPE | libc::SIGILL => {
                "the faulting instruction would run again before any coroutine could"
            }
            number => {
                return Installed::new(number).map_err(|error| {
                    io::Error::new(error.kind(), format!("{self} cannot be handled: {error}"))
                });
            }
        };
        let message = format!("{self} cannot be handled: {reason}");
        Err(io::Error::new(io::ErrorKind::InvalidInput, message))
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            libc::SIGINT => "SIGINT",
            libc::SIGTERM => "SIGTERM",
            libc::SIGHUP => "SIGHUP",
            libc::SIGQUIT => "SIGQUIT",
            libc::SIGUSR1 => "SIGUSR1",
            libc::SIGUSR2 => "SIGUSR2",
            libc::SIGCHLD => "SIGCHLD",
            libc::SIGWINCH => "SIGWINCH",
            libc::SIGALRM => "SIGALRM",
            libc::SIGPIPE => "SIGPIPE",
            libc::SIGCONT => "SIGCONT",
            libc::SIGKILL => "SIGKILL",
            libc::SIGSTOP => "SIGSTOP",
            libc::SIGSEGV => "SIGSEGV",
            libc::SIGBUS => "SIGBUS",
            libc::SIGFPE => "SIGFPE",
            libc::SIGILL => "SIGILL",
            number => return write!(f, "signal {number}"),
        };
        f.write_str(name)
    }
}
