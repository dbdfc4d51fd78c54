#![forbid(unsafe_code)]
//! Detection of coroutines that hold their thread for too long.
//!
//! A coroutine that computes, or makes a blocking call, keeps all others of its thread waiting. A watchdog
//! reports it, by name and location.
//!
//! ```text
//!   hub thread     polls .. switch .. switch ................ one coroutine ...........................
//!                    │                       │                                    │
//!   watchdog       polled lately? ── no: which moment is it? ── still the same moment: report
//! ```
//!
//! Watching costs the hub one store per poll. If the hub has not polled for half the threshold, the
//! watchdog sends its thread a signal, whose handler reads the current moment: a stamp that changes with
//! every switch. If the moment is still the same one threshold later, a second signal collects the running
//! coroutine and its backtrace. So no coroutine is blamed for time that several have used together, and a
//! sleeping hub is never reported.

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

/// A thread that does not respond within this time has the signal blocked.
const PATIENCE: Duration = Duration::from_secs(1);

/// Watches the coroutines of the thread that creates it, until it is dropped.
///
/// Main counts as one of them, so create the watchdog after lengthy initialization, just before the thread
/// starts to wait.
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
#[must_use = "the watchdog stops when this is dropped"]
pub struct Watchdog {
    is_over: Arc<AtomicBool>,
    thread: Thread,
}

impl Watchdog {
    /// Makes a watchdog that prints to standard error.
    ///
    /// It prints a report whenever a coroutine has held this thread for longer than `threshold`: once,
    /// however long that takes. Thresholds below 4 ms are of little use.
    ///
    /// It starts a thread, and handles `SIGURG` (an existing handler is still called). A system call that
    /// the signal interrupts is restarted, except those that the kernel never restarts, such as `poll`.
    ///
    /// # Errors
    ///
    /// If the watchdog thread cannot be started.
    ///
    /// # Panics
    ///
    /// If `threshold` is zero.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn new(threshold: Duration) -> io::Result<Self> {
        Self::with_report(threshold, |incident| {
            stderr::write(&[&format!("switchgrass: {incident}\n")])
        })
    }

    /// Like [`new`](Self::new), but calls `report` instead of printing.
    ///
    /// The call is made on the watchdog's thread. If it panics, that is reported on standard error, and the
    /// watchdog continues.
    ///
    /// # Errors
    ///
    /// If the watchdog thread cannot be started.
    ///
    /// # Panics
    ///
    /// If `threshold` is zero.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn with_report(
        threshold: Duration,
        report: impl FnMut(&Incident) + Send + 'static,
    ) -> io::Result<Self> {
        assert!(!threshold.is_zero(), "threshold must not be zero");
        let is_over = Arc::new(AtomicBool::new(false));
        let watch = Watch { hub: WatchedHub::here(), threshold, is_over: Arc::clone(&is_over) };
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

/// A report of a coroutine that holds its thread for longer than the threshold.
#[derive(Clone, Debug)]
pub struct Incident {
    coroutine: String,
    site: Option<&'static Location<'static>>,
    held: Duration,
    frames: Vec<usize>,
}

impl Incident {
    /// Returns which coroutine it is: `coroutine 'name'`, `coroutine #5`, `main`, `a callback in the hub`.
    ///
    /// In the middle of a switch between two greenlets it is either of the two.
    pub fn coroutine(&self) -> &str {
        &self.coroutine
    }

    /// Returns where the coroutine was spawned. `None` for main and for callbacks.
    pub fn site(&self) -> Option<&'static Location<'static>> {
        self.site
    }

    /// Returns how long it has held the thread, at least.
    pub fn held(&self) -> Duration {
        self.held
    }

    /// Returns the backtrace as code addresses, the innermost first.
    ///
    /// To symbolize a frame, pass what [`Display`](fmt::Display) prints to `addr2line`: the object file,
    /// and the offset in it. Exported functions, such as a blocking one of libc, are printed by name.
    ///
    /// In the middle of a switch between two coroutines, only the innermost frame is known, or none. There
    /// are no frames where libc has no `backtrace`, or under `--cfg switchgrass_no_unwind_tables`.
    pub fn frames(&self) -> &[usize] {
        &self.frames
    }
}

impl fmt::Display for Incident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} has held its thread for {} ms", self.coroutine, self.held.as_millis())?;
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
                write!(f, "\n  (no frames: this build cannot collect them)")
            }
            0 => write!(f, "\n  (no frames: in the middle of a switch)"),
            1 => write!(
                f,
                "\n  (no callers: in the middle of a switch, or in code without unwind tables)"
            ),
            _ => Ok(()),
        }
    }
}

/// The state of the watchdog's thread.
struct Watch {
    hub: WatchedHub,
    threshold: Duration,
    is_over: Arc<AtomicBool>,
}

/// The progress of a suspicion.
enum Suspicion {
    /// Possibly no switch has happened since.
    Since(Instant),
    /// The moment that was read by the first probe, and when.
    Moment(Moment, Instant),
    /// The incident was reported.
    Reported,
}

impl Watch {
    fn run(self, mut report: impl FnMut(&Incident)) {
        let _companion = Companion::new();
        let pause = (self.threshold / 4).max(Duration::from_millis(1));
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
                Suspicion::Since(begin) if begin.elapsed() >= self.threshold / 2 => {
                    // The time is taken after the probe, so the moment has lasted at least since then.
                    match self.moment() {
                        Some(moment) => Suspicion::Moment(moment, Instant::now()),
                        None => Suspicion::Since(Instant::now()),
                    }
                }
                Suspicion::Moment(moment, begin) if begin.elapsed() >= self.threshold => {
                    match self.incident(moment, begin) {
                        Some(incident) => {
                            run_reporting("the report of a watchdog", || report(&incident));
                            Suspicion::Reported
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

    /// Returns the current holder of the thread, if the moment has not changed since `begin`.
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
