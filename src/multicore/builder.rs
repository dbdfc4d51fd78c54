#![forbid(unsafe_code)]
//! Starting threads with a hub each.

use super::crew::Crew;
use super::hubs::Hubs;
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

/// Starts threads that have a hub each.
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
    /// One that starts as many threads as can run at a time, as
    /// [`available_parallelism`](std::thread::available_parallelism) has it.
    pub fn new() -> Self {
        Self::default()
    }

    /// So many threads.
    ///
    /// # Panics
    ///
    /// If it is zero: nothing would ever run.
    #[track_caller]
    pub fn threads(mut self, threads: usize) -> Self {
        let threads = NonZero::new(threads);
        assert!(threads.is_some(), "no hubs would never run anything: let there be at least 1");
        self.threads = threads;
        self
    }

    /// Whether each thread stays on a processor of its own: of those that the calling thread may run on, in
    /// order, and from the first again if there are more threads. By default they may all run on all of
    /// these.
    pub fn pin(mut self, pin: bool) -> Self {
        self.pin = pin;
        self
    }

    /// What the threads are called, each with a number behind it. `switchgrass-hub` if nothing is said.
    ///
    /// # Panics
    ///
    /// In [`Builder::start`], if it contains a zero byte.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The size in bytes of the stacks that bodies run on, from [`stack::MIN_SIZE`](crate::stack::MIN_SIZE)
    /// to [`stack::MAX_SIZE`](crate::stack::MAX_SIZE).
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }

    /// For how long a hub that has nothing to do stays awake and looks for what others leave for it, before
    /// it sleeps. By default it sleeps at once.
    ///
    /// To wake a thread takes microseconds, and tens of these where its processor sleeps too; who looks is
    /// told in less than one. That is worth it for hubs that answer each other all the time, and have a
    /// processor each: a hub that looks takes its processor from whoever else could run there. What comes
    /// from elsewhere, by a socket or a pipe, is not looked for meanwhile, and comes so much later.
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

    /// Starts them, and returns when all are there.
    ///
    /// # Errors
    ///
    /// If the operating system makes no thread, or does not let one stay on its processor, which is said; if
    /// there are no descriptors (two for each hub) or no memory for a hub; if the size of stacks is out of
    /// range; if the process is ending, by a return from `main` or by `exit`. Those that were started end.
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile.
    ///
    /// # Switching
    ///
    /// Switches. All others of this thread may run meanwhile.
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
                "a stack of {bytes} bytes: let it be from {} to {}",
                stack::MIN_SIZE,
                stack::MAX_SIZE
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let spin = u64::try_from(self.spin.as_nanos()).unwrap_or(u64::MAX);
        let name = self.name.as_deref().unwrap_or("switchgrass-hub");
        let crew = Arc::new(Crew::new(threads.get(), self.stack_size, spin));
        // Dropped, it ends those that there are.
        let hubs = Hubs::new_of(Arc::clone(&crew));
        let ready: Arc<Queue<io::Result<()>, Shared>> = Arc::new(Queue::shared());
        for index in 0..threads.get() {
            let cpu = (!allowed.is_empty()).then(|| allowed[index % allowed.len()]);
            let (crew, ready) = (Arc::clone(&crew), Arc::clone(&ready));
            let ended = Ended(Arc::clone(&crew));
            let thread = thread::Builder::new().name(format!("{name}-{index}")).spawn(move || {
                let _ended = ended;
                match begin(crew, index, cpu) {
                    Ok(worker) => {
                        // Nobody shuts it down.
                        let _ = ready.put(Ok(()));
                        worker.work();
                    }
                    Err(error) => drop(ready.put(Err(error))),
                }
            });
            match thread {
                Ok(thread) => hubs.keep(thread),
                Err(error) => {
                    // Those that were not even tried.
                    (index + 1..threads.get()).for_each(|_| hubs.crew().thread_ended());
                    return Err(error);
                }
            }
        }
        if !hubs.crew().close_at_exit() {
            return Err(io::Error::other(
                "the process is ending and starts no more hubs: start them before `main` returns",
            ));
        }
        for _ in 0..threads.get() {
            ready.get().expect("nobody shuts it down")?;
        }
        Ok(hubs)
    }
}

impl Hubs {
    /// So many threads, which may run on all processors. See [`Builder`] for others.
    ///
    /// # Errors
    ///
    /// If the operating system makes no thread.
    ///
    /// # Panics
    ///
    /// If it is zero: nothing would ever run.
    ///
    /// # Switching
    ///
    /// As [`Builder::start`].
    #[track_caller]
    pub fn new(threads: usize) -> io::Result<Self> {
        Builder::new().threads(threads).start()
    }
}

/// Says that a thread has ended, also if it was never made.
struct Ended(Arc<Crew>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.thread_ended();
    }
}

/// Begins the work of a hub's thread. Whatever goes wrong is an error.
fn begin(crew: Arc<Crew>, index: usize, cpu: Option<usize>) -> io::Result<Rc<Worker>> {
    let begun = catch_unwind(AssertUnwindSafe(|| {
        cpu.map_or(Ok(()), |cpu| pin(index, cpu))?;
        worker::begin(crew, index).map_err(|error| {
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
