#![forbid(unsafe_code)]
//! Starts threads with a hub each.

use super::hubs::Hubs;
use super::shared_state::SharedState;
use super::worker::{self, Worker};
use crate::greenlet::dropping::drop_payload;
use crate::greenlet::scheduled::describe;
use crate::stack;
use crate::sync::{Queue, Shared};
use crate::sys::affinity;
use crate::thread;
use std::io;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Configures and starts threads with a hub each.
///
/// # Examples
///
/// ```
/// use switchgrass::multicore::Builder;
///
/// let hubs = Builder::new().threads(2).name("worker").start()?;
/// let name = hubs.spawn_on(1, || std::thread::current().name().map(str::to_owned));
/// assert_eq!(name.join().unwrap().as_deref(), Some("worker-1"));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Default)]
#[must_use = "a builder does nothing until it starts"]
pub struct Builder {
    threads: Option<NonZero<usize>>,
    pin: bool,
    name: Option<String>,
    stack_size: Option<usize>,
    spin: Duration,
}

impl Builder {
    /// Creates a builder that starts one thread per available processor.
    ///
    /// The number is that of [`available_parallelism`](std::thread::available_parallelism).
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the number of threads.
    ///
    /// # Panics
    ///
    /// If `threads` is zero.
    #[track_caller]
    pub fn threads(mut self, threads: usize) -> Self {
        let threads = NonZero::new(threads);
        assert!(threads.is_some(), "thread count must be at least 1, got 0");
        self.threads = threads;
        self
    }

    /// Whether each thread is pinned to one processor.
    ///
    /// By default, the threads may run on all processors that the calling thread may use.
    ///
    /// Pinned threads take these processors in order, starting again from the first if there are more
    /// threads.
    pub fn pin(mut self, pin: bool) -> Self {
        self.pin = pin;
        self
    }

    /// Sets the name of the threads, each followed by its number.
    ///
    /// The default is `switchgrass-hub`.
    ///
    /// # Panics
    ///
    /// In [`Builder::start`], if the name contains a zero byte.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the stack size of tasks in bytes.
    ///
    /// It must be from [`stack::MIN_SIZE`](crate::stack::MIN_SIZE) to
    /// [`stack::MAX_SIZE`](crate::stack::MAX_SIZE).
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }

    /// Sets how long an idle hub spins, looking for work from other hubs, before it sleeps.
    ///
    /// The default is not to spin.
    ///
    /// Waking a thread takes microseconds, or tens of microseconds if its processor sleeps, too; a spinning
    /// hub notices within one. That is worthwhile for hubs that constantly answer each other and have a
    /// processor each, since a spinning hub occupies its processor. Sockets and pipes are not polled while
    /// a hub spins: their events are delayed by up to that time.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use switchgrass::multicore::Builder;
    ///
    /// let hubs = Builder::new().threads(2).spin(Duration::from_micros(50)).start()?;
    /// assert_eq!(hubs.spawn_on(1, || 5).join().unwrap(), 5);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn spin(mut self, limit: Duration) -> Self {
        self.spin = limit;
        self
    }

    /// Starts the threads, and returns when all of them are ready.
    ///
    /// # Errors
    ///
    /// If the operating system creates no thread or refuses to pin one; if no descriptors (two per hub) or
    /// no memory are left for a hub; if the stack size is out of range; if the process is ending, by a
    /// return from `main` or by `exit`. Threads that were already started end.
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
    /// The threads end.
    pub fn start(self) -> io::Result<Hubs> {
        let threads = match self.threads {
            Some(threads) => threads,
            None => std::thread::available_parallelism()?,
        };
        let allowed = if self.pin { affinity::allowed()? } else { Vec::new() };
        if let Some(bytes) = self.stack_size
            && !(stack::MIN_SIZE..=stack::MAX_SIZE).contains(&bytes)
        {
            let message = format!(
                "stack size must be from {} to {} bytes, got {bytes}",
                stack::MIN_SIZE,
                stack::MAX_SIZE
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let spin = u64::try_from(self.spin.as_nanos()).unwrap_or(u64::MAX);
        let name = self.name.as_deref().unwrap_or("switchgrass-hub");
        let shared = Arc::new(SharedState::new(threads.get(), self.stack_size, spin));
        // If this is dropped on an error, the threads started so far end.
        let hubs = Hubs::with_shared(Arc::clone(&shared));
        let ready: Arc<Queue<io::Result<()>, Shared>> = Arc::new(Queue::shared());
        for index in 0..threads.get() {
            let cpu = (!allowed.is_empty()).then(|| allowed[index % allowed.len()]);
            let (shared, ready) = (Arc::clone(&shared), Arc::clone(&ready));
            let ended = Ended(Arc::clone(&shared));
            let thread = thread::Builder::new().name(format!("{name}-{index}")).spawn(move || {
                let _ended = ended;
                match begin(shared, index, cpu) {
                    Ok(worker) => {
                        // The queue is never shut down.
                        let _ = ready.put(Ok(()));
                        worker.work();
                    }
                    Err(error) => drop(ready.put(Err(error))),
                }
            });
            match thread {
                Ok(thread) => hubs.keep(thread),
                Err(error) => {
                    // The threads that no start was attempted for.
                    (index + 1..threads.get()).for_each(|_| hubs.shared().thread_ended());
                    return Err(error);
                }
            }
        }
        if !hubs.shared().close_at_exit() {
            return Err(io::Error::other(
                "cannot start hubs while the process is ending: start them before `main` returns",
            ));
        }
        for _ in 0..threads.get() {
            ready.get().expect("the queue is never shut down")?;
        }
        Ok(hubs)
    }
}

impl Hubs {
    /// Starts `threads` threads, which may run on all processors.
    ///
    /// See [`Builder`] for other settings.
    ///
    /// # Errors
    ///
    /// Those of [`Builder::start`].
    ///
    /// # Panics
    ///
    /// If `threads` is zero. Unwinds if a kill, a timeout or another panic is raised in the current
    /// coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: other coroutines run while this one waits.
    #[track_caller]
    pub fn new(threads: usize) -> io::Result<Self> {
        Builder::new().threads(threads).start()
    }
}

/// Records the end of a thread on drop, also if it could not be created.
struct Ended(Arc<SharedState>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.thread_ended();
    }
}

/// Sets up the hub of the current thread. A panic is returned as an error.
fn begin(shared: Arc<SharedState>, index: usize, cpu: Option<usize>) -> io::Result<Rc<Worker>> {
    let begun = catch_unwind(AssertUnwindSafe(|| {
        cpu.map_or(Ok(()), |cpu| pin(index, cpu))?;
        worker::begin(shared, index).map_err(|error| {
            io::Error::new(error.kind(), format!("hub {index} cannot be started: {error}"))
        })
    }));
    begun.unwrap_or_else(|payload| {
        let message = format!("hub {index} cannot be started: {}", describe(&payload));
        drop_payload(payload);
        Err(io::Error::other(message))
    })
}

fn pin(index: usize, cpu: usize) -> io::Result<()> {
    affinity::pin_to(cpu).map_err(|error| {
        let message =
            format!("the thread of hub {index} cannot be pinned to processor {cpu}: {error}");
        io::Error::new(error.kind(), message)
    })
}
