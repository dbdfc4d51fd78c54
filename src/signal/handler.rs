#![forbid(unsafe_code)]
//! A coroutine a signal.

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

/// Has `handler` called whenever `signal` comes: each time in a new coroutine of this thread. It may wait,
/// and is called again for the next signal meanwhile. If it panics, that is its coroutine's end, and no more.
///
/// It lasts as long as what is returned. It keeps nobody from ending: a main that waits for what only the
/// handler would do is told that it would wait for ever. To wait for a signal there are [`wait`](super::wait)
/// and [`Signals`](super::Signals).
///
/// # Examples
///
/// ```
/// use switchgrass::signal::{self, Signal};
/// use switchgrass::sleep;
/// use std::time::Duration;
///
/// let handler = signal::on(Signal::HUP, || println!("the configuration is read again"))?;
/// // What the program does.
/// sleep(Duration::from_millis(1));
/// handler.cancel();
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// If it is a signal that cannot be handled: `SIGKILL`, `SIGSTOP`, and the faults `SIGSEGV`, `SIGBUS`,
/// `SIGFPE`, `SIGILL`. If there are no descriptors left: it needs one.
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
            let coroutine = Builder::new().name(format!("the handler of {signal}"));
            if let Err(error) = coroutine.spawn_at(site, move || handler()) {
                stderr::write(&[&format!("switchgrass: {signal} was not handled: {error}\n")]);
            }
        }
    })?;
    Ok(Handler { signal, _source: source, _news: news, _installed: installed })
}

/// Has a handler called whenever a signal comes, as said by [`on`], until it is dropped.
#[must_use = "dropped, it handles nothing: keep it, or detach() it"]
pub struct Handler {
    signal: Signal,
    /// Declared first of the two: it leaves the hub before the descriptor is closed.
    _source: Source,
    _news: OwnedFd,
    _installed: Installed,
}

impl Handler {
    /// The signal.
    pub fn signal(&self) -> Signal {
        self.signal
    }

    /// Has the handler called no more. A call that is under way goes on. So does one of a signal that was
    /// heard of already.
    ///
    /// # Switching
    ///
    /// Never switches, but for the destructor of what the handler has captured.
    pub fn cancel(self) {
        drop(self);
    }

    /// Has the handler called for as long as this thread lives.
    pub fn detach(self) {
        thread_local! {
            static DETACHED: RefCell<Vec<Handler>> = const { RefCell::new(Vec::new()) };
        }
        // At a thread's end that is no time at all.
        let _ = DETACHED.try_with(|detached| detached.borrow_mut().push(self));
    }
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handler").field("signal", &self.signal).finish_non_exhaustive()
    }
}
