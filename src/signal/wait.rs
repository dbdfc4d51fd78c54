#![forbid(unsafe_code)]
//! Waiting for signals.

use super::number::Signal;
use crate::hub::{Deadline, Direction, Source};
use crate::sync::{Selectable, sealed};
use crate::sys::signal::{Installed, delivered, news};
use std::cell::Cell;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

/// Waits until one of `signals` comes, and says which.
///
/// One that comes before this is called does what it does by default, which may be to end the process:
/// [`Signals`] are made beforehand.
///
/// # Examples
///
/// ```no_run
/// use switchgrass::signal::{self, Signal};
///
/// let signal = signal::wait(&[Signal::INT, Signal::TERM])?;
/// println!("{signal}: it is time to end");
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// As [`Signals::new`].
///
/// # Panics
///
/// With what is raised in the current coroutine meanwhile.
///
/// # Switching
///
/// Switches. All others may run meanwhile.
///
/// # Cancellation
///
/// Leaves nothing behind.
#[track_caller]
pub fn wait(signals: &[Signal]) -> io::Result<Signal> {
    Ok(Signals::new(signals)?.wait())
}

/// Keeps the signals that have come until they are asked for. It can be waited for, alone or by
/// [`select`](crate::sync::select()).
///
/// A signal that comes again before it was asked for counts once. What was asked for once is gone: if several
/// coroutines wait for the same `Signals`, one of them gets it. Other `Signals` have it, too.
///
/// # Examples
///
/// ```
/// use switchgrass::process::Command;
/// use switchgrass::signal::{Signal, Signals};
///
/// let signals = Signals::new(&[Signal::USR1, Signal::USR2])?;
/// // It comes before anybody waits.
/// Command::new("sh").args(["-c", "kill -USR2 $PPID"]).status()?;
/// assert_eq!(signals.wait(), Signal::USR2);
/// assert_eq!(signals.try_wait(), None);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// One after the other, for ever:
///
/// ```no_run
/// use switchgrass::signal::{Signal, Signals};
///
/// let signals = Signals::new(&[Signal::HUP, Signal::TERM])?;
/// for signal in &signals {
///     println!("{signal}");
///     if signal == Signal::TERM {
///         break;
///     }
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Signals {
    /// Each with how many of it had come when it was last asked for.
    all: Vec<(Signal, Cell<usize>, Installed)>,
    /// Declared first of the two: it leaves the hub before the descriptor is closed.
    source: Source,
    _news: OwnedFd,
}

impl Signals {
    /// Those of `signals` that come from now on, until it is dropped.
    ///
    /// # Errors
    ///
    /// As those of [`on`](super::on). If there are no `signals`.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn new(signals: &[Signal]) -> io::Result<Self> {
        if signals.is_empty() {
            let message = "no signals to wait for: this would wait for ever";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let one = |signal: &Signal| -> io::Result<_> {
            let installed = signal.install()?;
            Ok((*signal, Cell::new(delivered(signal.as_raw())), installed))
        };
        let all = signals.iter().map(one).collect::<io::Result<_>>()?;
        let news = news()?;
        Ok(Signals { all, source: Source::new(news.as_raw_fd())?, _news: news })
    }

    /// One that has come, if any has: the first in the order that was given.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn try_wait(&self) -> Option<Signal> {
        let one = self.all.iter().find(|(signal, seen, _)| {
            let now = delivered(signal.as_raw());
            seen.replace(now) != now
        });
        one.map(|(signal, ..)| *signal)
    }

    /// Waits until one has come.
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile.
    ///
    /// # Switching
    ///
    /// Switches unless one has come. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// Leaves nothing behind, and takes nothing.
    #[track_caller]
    pub fn wait(&self) -> Signal {
        self.wait_until(None).expect("without a limit it waits until one has come")
    }

    /// As [`Signals::wait`], for at most `limit`. `None` if none has come by then.
    ///
    /// # Panics
    ///
    /// As [`Signals::wait`].
    ///
    /// # Switching
    ///
    /// As [`Signals::wait`].
    ///
    /// # Cancellation
    ///
    /// Leaves nothing behind, and takes nothing.
    #[track_caller]
    pub fn wait_timeout(&self, limit: Duration) -> Option<Signal> {
        self.wait_until(Deadline::after(limit))
    }

    #[track_caller]
    fn wait_until(&self, deadline: Option<Deadline>) -> Option<Signal> {
        loop {
            if let Some(signal) = self.try_wait() {
                return Some(signal);
            }
            // What comes from here on is an event that the hub has not looked for yet.
            self.source.expect_event(Direction::Read);
            if self.source.wait(Direction::Read, "Signals::wait", deadline).is_err() {
                return self.try_wait();
            }
        }
    }
}

/// Waits for one after the other, without an end.
impl Iterator for &Signals {
    type Item = Signal;

    fn next(&mut self) -> Option<Signal> {
        Some(self.wait())
    }
}

impl Selectable for Signals {}

impl sealed::Selectable for Signals {
    fn is_ready(&self) -> bool {
        let is_ready =
            self.all.iter().any(|(signal, seen, _)| seen.get() != delivered(signal.as_raw()));
        if !is_ready {
            self.source.expect_event(Direction::Read);
        }
        is_ready
    }

    fn watch(&self) -> Box<dyn FnOnce() + '_> {
        let watch = self.source.watch(Direction::Read);
        Box::new(move || drop(watch))
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signals: Vec<_> = self.all.iter().map(|(signal, ..)| signal).collect();
        f.debug_struct("Signals").field("signals", &signals).finish_non_exhaustive()
    }
}
