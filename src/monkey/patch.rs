#![forbid(unsafe_code)]
//! What is to be patched.

use super::{addresses, descriptors, gate, parking};
use crate::sys::fork::{self, Fork, Side};
use std::io;

/// A kind of calls that can be made cooperative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum What {
    /// Sockets and pipes: `std::net`, `std::os::unix::net`, `std::io::pipe`.
    Sockets,
    /// `thread::sleep` and `thread::yield_now`.
    Sleep,
    /// What waits for other threads and coroutines: `std::sync`, `thread::park`, `JoinHandle::join`.
    ///
    /// A kill, or a limit, does not end such a wait: it is raised where the coroutine next waits in a call
    /// of this library. Also of C: mutexes, condition variables, semaphores, `pthread_join`. What is left
    /// out, and why:
    ///
    /// - `std::sync::mpsc` between coroutines of *one* thread, and `crossbeam-channel` likewise: a sender
    ///   wakes receivers of other threads only, and passes over those of its own. Use [`sync`](crate::sync).
    ///   Between threads it is cooperative.
    /// - `parking_lot`: who waits is kept in a variable of the thread's, which is one for all its
    ///   coroutines. Its waits hold up the thread.
    /// - Mutexes of C that are recursive, check for errors, inherit a priority, are robust, or are shared by
    ///   processes: they belong to a thread, or are known to the kernel alone. And condition variables that
    ///   are shared so.
    /// - `pthread_rwlock_*`: it does not know its readers, so that nobody can tell whether a sibling is one.
    /// - `pthread_barrier_wait`, `pthread_cond_clockwait`, `pthread_mutex_clocklock`, `sem_clockwait`: they
    ///   hold up the thread.
    /// - A global allocator that waits by `std::sync::Mutex`: the hub allocates in the middle of things.
    Sync,
    /// Look-ups of names.
    Dns,
    /// Regular files: what has to be fetched from the disk is read by a thread. [`What::Sync`] is patched
    /// with it: std reads files while it holds locks of its own.
    Files,
    /// Children: `Child::wait`, `Command::output`.
    Process,
    /// Waiting for several descriptors: `poll`, `select`, `epoll_wait`.
    Poll,
    /// Waiting for signals: `pause`, `sigsuspend`, `sigwait`, `sigwaitinfo`, `sigtimedwait`. That a handler
    /// which runs on the thread of coroutines interrupts their calls does not depend on it: see
    /// [the module](super#signals).
    Signals,
}

impl What {
    /// All kinds.
    pub const ALL: [What; 8] = [
        What::Sockets,
        What::Sleep,
        What::Sync,
        What::Dns,
        What::Files,
        What::Process,
        What::Poll,
        What::Signals,
    ];

    pub(super) const fn bit(self) -> u32 {
        1 << self as u32
    }

    /// With that of what it needs.
    const fn bits(self) -> u32 {
        match self {
            What::Files => self.bit() | What::Sync.bit(),
            _ => self.bit(),
        }
    }
}

/// Has all blocking calls of coroutines switch to others instead: see [`Patch`] to choose.
///
/// # Examples
///
/// ```
/// use std::thread;
/// use std::time::{Duration, Instant};
///
/// switchgrass::monkey::patch_all();
/// let start = Instant::now();
/// let sleepers = (0..100).map(|_| {
///     switchgrass::spawn(|| thread::sleep(Duration::from_millis(50)))
/// });
/// switchgrass::coroutine::join_all(sleepers.collect::<Vec<_>>());
/// assert!(start.elapsed() < Duration::from_secs(5), "all at once, on one thread");
/// ```
///
/// # Switching
///
/// Never switches.
pub fn patch_all() {
    Patch::new().all().apply();
}

/// Whether calls of that kind are made cooperative.
pub fn is_patched(what: What) -> bool {
    gate::is_patched(what)
}

/// Which calls are to be made cooperative. It holds for the whole process and for ever; a thread without
/// coroutines does not notice.
///
/// # Examples
///
/// ```
/// use switchgrass::monkey::{Patch, What, is_patched};
///
/// Patch::new().sockets().sleep().apply();
/// assert!(is_patched(What::Sockets) && !is_patched(What::Files));
/// // Once more, and more of it: what is patched stays so.
/// Patch::new().dns().apply();
/// assert!(is_patched(What::Sockets) && is_patched(What::Dns));
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use = "nothing is patched before it is applied"]
pub struct Patch(u32);

macro_rules! kinds {
    ($($name:ident $what:ident;)*) => {$(
        #[doc = concat!("Adds [`What::", stringify!($what), "`].")]
        pub const fn $name(self) -> Self {
            Patch(self.0 | What::$what.bits())
        }
    )*};
}

impl Patch {
    /// Nothing, to begin with.
    pub const fn new() -> Self {
        Patch(0)
    }

    kinds! {
        sockets Sockets;
        sleep Sleep;
        sync Sync;
        dns Dns;
        files Files;
        process Process;
        poll Poll;
        signals Signals;
    }

    /// Adds all.
    pub const fn all(self) -> Self {
        self.sockets().sleep().sync().dns().files().process().poll().signals()
    }

    /// Has it be so from now on.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn apply(self) {
        fork::around_fork(around_fork);
        gate::patch(self.0);
    }
}

/// What is known of descriptors and waits, around a fork.
fn around_fork(fork: Fork<'_>) -> io::Result<Side> {
    let side = descriptors::around_fork(&mut || addresses::around_fork(fork));
    if matches!(side, Ok(Side::Child)) {
        parking::begin_anew();
    }
    side
}
