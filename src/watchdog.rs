#![forbid(unsafe_code)]
//! Who holds a thread for too long: a coroutine that computes, or makes a call that blocks, keeps all
//! others of its thread waiting. A watchdog tells of it, by name and place.
//!
//! ```text
//!   the hub's thread     looks for events .. a change .. a change ...... one coroutine ...........
//!                                │                              │                       │
//!   the watchdog's    did it look lately? ── no: what moment is it? ── the same still: tell of it
//! ```
//!
//! Watching costs the hub a store each time it looks for events. Only one that has not done so for half
//! the limit is sent a signal, in which it says which moment it is, and if it is the same moment a limit
//! later, who runs, and where. So nobody is blamed for what several have done together, nor a hub that
//! sleeps.

use crate::arch;
use crate::greenlet::dropping::run_reporting;
use crate::hub::{self, Moment, Progress, WatchedHub};
use crate::sys::fork::Companion;
use crate::sys::{library, stderr};
use std::fmt;
use std::io;
use std::panic::Location;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// A thread that does not answer by then has blocked the signal.
const PATIENCE: Duration = Duration::from_secs(1);

/// Watches the coroutines of the thread that has made it, until it is dropped.
///
/// Main is one of them: so make it where the thread begins to wait, not before it prepares things.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
/// use switchgrass::watchdog::Watchdog;
/// use switchgrass::{coroutine, sleep};
///
/// let (told, incidents) = std::sync::mpsc::channel();
/// let limit = Duration::from_millis(5);
/// let watchdog = Watchdog::with_report(limit, move |incident| {
///     let _ = told.send(incident.coroutine().to_owned());
/// })?;
/// let greedy = coroutine::Builder::new().name("greedy").spawn(move || {
///     let start = Instant::now();
///     loop {
///         // It never waits, and never yields.
///         if let Ok(name) = incidents.try_recv() {
///             break name;
///         }
///         assert!(start.elapsed() < Duration::from_secs(60));
///     }
/// })?;
/// assert_eq!(greedy.join().unwrap(), "coroutine 'greedy'");
/// drop(watchdog);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "dropped, it watches no more"]
pub struct Watchdog {
    is_over: Arc<AtomicBool>,
    thread: Thread,
}

impl Watchdog {
    /// One that prints to standard error whenever somebody has held this thread for longer than `limit`:
    /// once, however long that takes. Limits of less than 4 ms are of little use.
    ///
    /// It has a thread of its own, and handles `SIGURG` (what did so before is still called). A system
    /// call that the signal interrupts is made again, but for those that the kernel never makes again,
    /// such as `poll`.
    ///
    /// # Errors
    ///
    /// If there can be no thread.
    ///
    /// # Panics
    ///
    /// If `limit` is zero.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn new(limit: Duration) -> io::Result<Self> {
        Self::with_report(limit, |incident| stderr::write(&[&format!("switchgrass: {incident}\n")]))
    }

    /// As [`new`](Self::new), and calls `report` instead of printing, on the watchdog's thread. If it panics,
    /// that is reported on standard error, and the watchdog goes on.
    ///
    /// # Errors
    ///
    /// If there can be no thread.
    ///
    /// # Panics
    ///
    /// If `limit` is zero.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn with_report(
        limit: Duration,
        report: impl FnMut(&Incident) + Send + 'static,
    ) -> io::Result<Self> {
        assert!(!limit.is_zero(), "a limit of no time at all");
        let is_over = Arc::new(AtomicBool::new(false));
        let watch = Watch { hub: WatchedHub::here(), limit, is_over: Arc::clone(&is_over) };
        let thread = thread::Builder::new().name("switchgrass watchdog".into());
        let thread = thread.spawn(move || watch.run(report))?.thread().clone();
        Ok(Watchdog { is_over, thread })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.is_over.store(true, Relaxed);
        self.thread.unpark();
    }
}

impl fmt::Debug for Watchdog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watchdog").finish_non_exhaustive()
    }
}

/// Somebody has held a thread for longer than is allowed, and still does.
#[derive(Clone, Debug)]
pub struct Incident {
    coroutine: String,
    site: Option<&'static Location<'static>>,
    held: Duration,
    frames: Vec<usize>,
}

impl Incident {
    /// Who it is: `coroutine 'name'`, `coroutine #5`, `main`, `a callback in the hub`.
    ///
    /// If it was in the middle of a switch from one greenlet to another, it is either of the two.
    pub fn coroutine(&self) -> &str {
        &self.coroutine
    }

    /// Where it was spawned. `None` for main, and for a callback.
    pub fn site(&self) -> Option<&'static Location<'static>> {
        self.site
    }

    /// So long at least it has held the thread.
    pub fn held(&self) -> Duration {
        self.held
    }

    /// Where it is: addresses of code, the innermost first. `addr2line` knows what they mean, if it is
    /// told what this prints: the file that the code is from, and where in it. Functions that are exported,
    /// such as the one of libc's that blocks, are printed by name.
    ///
    /// In the middle of a switch between two coroutines only the innermost is known, or none. There are none
    /// where libc has no `backtrace`, or under `--cfg switchgrass_no_unwind_tables`.
    pub fn frames(&self) -> &[usize] {
        &self.frames
    }
}

impl fmt::Display for Incident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} holds its thread for {} ms now", self.coroutine, self.held.as_millis())?;
        if let Some(site) = self.site {
            write!(f, " (spawned at {site})")?;
        }
        for frame in &self.frames {
            match library::of(ptr::without_provenance(*frame)) {
                Some(library) => {
                    write!(f, "\n  {}+{:#x}", library.path, frame - library.base)?;
                    if let Some(symbol) = library.symbol {
                        write!(f, " ({symbol})")?;
                    }
                }
                None => write!(f, "\n  {frame:#x}")?,
            }
        }
        match self.frames.len() {
            0 if cfg!(any(not(target_env = "gnu"), switchgrass_no_unwind_tables)) => {
                write!(f, "\n  (no frames: they cannot be had in this build)")
            }
            0 => write!(f, "\n  (no frames: it was between two coroutines)"),
            1 => write!(
                f,
                "\n  (no callers: it was between two coroutines, or in code without unwind tables)"
            ),
            _ => Ok(()),
        }
    }
}

/// What the watchdog's thread does.
struct Watch {
    hub: WatchedHub,
    limit: Duration,
    is_over: Arc<AtomicBool>,
}

/// How far a suspicion has got.
enum Suspicion {
    /// It may be that nobody has changed since.
    Since(Instant),
    /// It was this moment then.
    Moment(Moment, Instant),
    /// It was told of.
    Told,
}

impl Watch {
    fn run(self, mut report: impl FnMut(&Incident)) {
        let _companion = Companion::new();
        let pause = (self.limit / 4).max(Duration::from_millis(1));
        let mut last = (Progress::Asleep, Suspicion::Since(Instant::now()));
        loop {
            thread::park_timeout(pause);
            let progress = self.hub.progress();
            if self.is_over.load(Relaxed) || progress == Progress::Ended {
                return;
            }
            if progress != last.0 || progress == Progress::Asleep {
                last = (progress, Suspicion::Since(Instant::now()));
                continue;
            }
            last.1 = match last.1 {
                Suspicion::Since(begin) if begin.elapsed() >= self.limit / 2 => {
                    // Before it is asked: so long at least it is that moment.
                    match self.moment() {
                        Some(moment) => Suspicion::Moment(moment, Instant::now()),
                        None => Suspicion::Since(Instant::now()),
                    }
                }
                Suspicion::Moment(moment, begin) if begin.elapsed() >= self.limit => {
                    match self.incident(moment, begin) {
                        Some(incident) => {
                            run_reporting("the report of a watchdog", || report(&incident));
                            Suspicion::Told
                        }
                        None => Suspicion::Since(Instant::now()),
                    }
                }
                other => other,
            };
        }
    }

    fn moment(&self) -> Option<Moment> {
        let mut moment = None;
        let mut look = || {
            moment = hub::moment();
            false
        };
        self.hub.thread.ask(&mut look, PATIENCE).ok()??;
        moment
    }

    /// Who holds the thread, if it has been the same moment since `begin`.
    fn incident(&self, moment: Moment, begin: Instant) -> Option<Incident> {
        let mut holder = None;
        let mut look = || {
            if hub::moment() == Some(moment) {
                holder = Some(hub::holder());
            }
            holder.is_some() && arch::backtrace_is_safe()
        };
        let held = begin.elapsed();
        let frames = self.hub.thread.ask(&mut look, PATIENCE).ok()??;
        let holder = holder?;
        Some(Incident { coroutine: holder.title(), site: holder.site, held, frames })
    }
}
