#![forbid(unsafe_code)]
//! Signal handlers: one coroutine per signal.

use super::number::Signal;
use crate::coroutine::Builder;
use crate::hub::Source;
use crate::sys::signal::{Installed, delivered, news};
use crate::sys::stderr;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::panic::Location;
use std::rc::Rc;

/// Calls `handler` in a new coroutine of this thread whenever `signal` arrives.
///
/// The handler may wait, and is called again if the next signal arrives meanwhile. A panic ends only its
/// coroutine.
///
/// The registration lasts until the returned value is dropped. It does not count as a pending event: a main
/// that waits for what only the handler would do panics with a deadlock error. To wait for a signal, use
/// [`wait`](super::wait) or [`Signals`](super::Signals).
///
/// # Examples
///
/// ```
/// use switchgrass::signal::{self, Signal};
/// use switchgrass::sleep;
/// use std::time::Duration;
///
/// let handler = signal::on(Signal::HUP, || println!("the configuration is read again"))?;
/// // The work of the program.
/// sleep(Duration::from_millis(1));
/// handler.cancel();
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// If the signal cannot be handled: `SIGKILL`, `SIGSTOP`, and the faults `SIGSEGV`, `SIGBUS`, `SIGFPE`,
/// `SIGILL`. If the process is out of descriptors: this needs one.
///
/// # Switching
///
/// Never switches.
#[track_caller]
pub fn on(signal: Signal, handler: impl Fn() + 'static) -> io::Result<Handler> {
    let site = Location::caller();
    let installed = signal.install()?;
    let seen = Cell::new(delivered(signal.as_raw()));
    let handler: Rc<dyn Fn()> = Rc::new(handler);
    let news = news()?;
    let source = Source::calling(news.as_raw_fd(), move || {
        let now = delivered(signal.as_raw());
        if seen.replace(now) != now {
            let handler = Rc::clone(&handler);
            let coroutine = Builder::new().name(format!("handler of {signal}"));
            if let Err(error) = coroutine.spawn_at(site, move || handler()) {
                stderr::write(&[&format!("switchgrass: {signal} was not handled: {error}\n")]);
            }
        }
    })?;
    Ok(Handler { signal, _source: source, _news: news, _installed: installed })
}

/// The registration of a signal handler by [`on`], which ends when this is dropped.
#[must_use = "the handler is removed when this is dropped: keep it, or detach() it"]
pub struct Handler {
    signal: Signal,
    /// Declared before `_news`: the descriptor is deregistered before it is closed.
    _source: Source,
    _news: OwnedFd,
    _installed: Installed,
}

impl Handler {
    /// Returns the signal.
    pub fn signal(&self) -> Signal {
        self.signal
    }

    /// Ends the registration.
    ///
    /// Calls that are under way continue, and so does the call for a signal that was already noticed.
    ///
    /// # Switching
    ///
    /// Never switches, unless the destructor of a value that the handler captured does.
    pub fn cancel(self) {
        drop(self);
    }

    /// Keeps the registration for the lifetime of this thread.
    pub fn detach(self) {
        thread_local! {
            static DETACHED: RefCell<Vec<Handler>> = const { RefCell::new(Vec::new()) };
        }
        // If the thread is ending, the registration ends at once.
        let _ = DETACHED.try_with(|detached| detached.borrow_mut().push(self));
    }
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handler").field("signal", &self.signal).finish_non_exhaustive()
    }
}
