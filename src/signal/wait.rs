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

/// Waits until one of `signals` arrives, and returns it.
///
/// A signal that arrives before this call has its default action, which may end the process: create
/// [`Signals`] beforehand to avoid that.
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
/// Those of [`Signals::new`].
///
/// # Panics
///
/// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
///
/// # Switching
///
/// May switch: other coroutines run while this one waits.
///
/// # Cancellation
///
/// Has no effect.
#[track_caller]
pub fn wait(signals: &[Signal]) -> io::Result<Signal> {
    Ok(Signals::new(signals)?.wait())
}

/// A set of signals that collects arrivals until they are retrieved.
///
/// It can be waited for, by itself or with [`select`](crate::sync::select()).
///
/// A signal that arrives again before it was retrieved counts once. Each arrival is retrieved once: if
/// several coroutines wait for the same `Signals`, one of them gets it. Other `Signals` get it, too.
///
/// # Examples
///
/// ```
/// use switchgrass::process::Command;
/// use switchgrass::signal::{Signal, Signals};
///
/// let signals = Signals::new(&[Signal::USR1, Signal::USR2])?;
/// // It arrives before the wait.
/// Command::new("sh").args(["-c", "kill -USR2 $PPID"]).status()?;
/// assert_eq!(signals.wait(), Signal::USR2);
/// assert_eq!(signals.try_wait(), None);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// One signal after another, endlessly:
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
    /// Each signal, with its delivery count when it was last retrieved.
    all: Vec<(Signal, Cell<usize>, Installed)>,
    /// Declared before `_news`: the descriptor is deregistered before it is closed.
    source: Source,
    _news: OwnedFd,
}

impl Signals {
    /// Starts collecting the given signals, until this is dropped.
    ///
    /// # Errors
    ///
    /// Those of [`on`](super::on); if `signals` is empty.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn new(signals: &[Signal]) -> io::Result<Self> {
        if signals.is_empty() {
            let message = "signals must not be empty: this would wait indefinitely";
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

    /// Retrieves a signal that has arrived: the first one in the given order.
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

    /// Waits for a signal, and retrieves it.
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: unless a signal has arrived, other coroutines run meanwhile.
    ///
    /// # Cancellation
    ///
    /// Consumes no signal.
    #[track_caller]
    pub fn wait(&self) -> Signal {
        self.wait_until(None).expect("without a timeout it waits until a signal arrives")
    }

    /// Waits for a signal, for at most `timeout`. Returns `None` on timeout.
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: unless a signal has arrived, other coroutines run meanwhile.
    ///
    /// # Cancellation
    ///
    /// Consumes no signal.
    #[track_caller]
    pub fn wait_timeout(&self, timeout: Duration) -> Option<Signal> {
        self.wait_until(Deadline::after(timeout))
    }

    #[track_caller]
    fn wait_until(&self, deadline: Option<Deadline>) -> Option<Signal> {
        loop {
            if let Some(signal) = self.try_wait() {
                return Some(signal);
            }
            // A signal that arrives from here on makes an event that the hub has not polled yet.
            self.source.expect_event(Direction::Read);
            if self.source.wait(Direction::Read, "Signals::wait", deadline).is_err() {
                return self.try_wait();
            }
        }
    }
}

/// Waits for one signal after another, endlessly.
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
