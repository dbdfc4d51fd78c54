#![forbid(unsafe_code)]
//! Names of signals.

use crate::sys::signal::Installed;
use std::fmt;
use std::io;

/// A signal.
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
    /// From the terminal: Ctrl-C.
    pub const INT: Signal = Signal(libc::SIGINT);
    /// What asks a process to end.
    pub const TERM: Signal = Signal(libc::SIGTERM);
    /// The terminal is gone; by convention, read the configuration again.
    pub const HUP: Signal = Signal(libc::SIGHUP);
    /// From the terminal: Ctrl-\\.
    pub const QUIT: Signal = Signal(libc::SIGQUIT);
    /// For whatever a program likes.
    pub const USR1: Signal = Signal(libc::SIGUSR1);
    /// For whatever a program likes.
    pub const USR2: Signal = Signal(libc::SIGUSR2);
    /// A child has ended, was stopped or goes on. To wait for a child it is not needed: see
    /// [`process`](crate::process).
    pub const CHLD: Signal = Signal(libc::SIGCHLD);
    /// The size of the terminal has changed.
    pub const WINCH: Signal = Signal(libc::SIGWINCH);
    /// The timer of `alarm`.
    pub const ALRM: Signal = Signal(libc::SIGALRM);
    /// Something was written to a pipe that nobody reads. Rust's programs ignore it and see an error.
    pub const PIPE: Signal = Signal(libc::SIGPIPE);
    /// The process goes on after it was stopped.
    pub const CONT: Signal = Signal(libc::SIGCONT);

    /// The signal of a number.
    pub const fn from_raw(number: i32) -> Self {
        Signal(number)
    }

    /// Its number.
    pub const fn as_raw(self) -> i32 {
        self.0
    }

    /// Has it counted, if it can be waited for.
    pub(super) fn install(self) -> io::Result<Installed> {
        let reason = match self.0 {
            libc::SIGKILL | libc::SIGSTOP => "the kernel lets nobody handle it",
            libc::SIGSEGV | libc::SIGBUS | libc::SIGFPE | libc::SIGILL => {
                "the instruction that has raised it would run again before any coroutine does"
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
