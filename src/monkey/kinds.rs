#![forbid(unsafe_code)]
//! The kinds of calls that can be patched, and what a kill does to a call.

/// A kind of calls that can be made cooperative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum What {
    /// Sockets and pipes: `std::net`, `std::os::unix::net`, `std::io::pipe`. (`TcpStream::connect_timeout`
    /// needs [`What::Poll`] as well.) Also of C: FIFOs, terminals,
    /// `sendfile` and `splice`, queues of messages, and reading streams such as `popen`'s. What is written by
    /// `fwrite` and its like, and what is read by `scanf`, holds up the thread where it waits: libc does that
    /// inside of itself.
    Sockets,
    /// `thread::sleep` and `thread::yield_now`.
    Sleep,
    /// What waits for other threads and coroutines: `std::sync`, `thread::park`, `JoinHandle::join`.
    ///
    /// A kill, or a limit, does not end such a wait: it is raised where the coroutine next waits in a call
    /// of this library. Also of C: mutexes of all kinds, condition variables, semaphores (those of System V
    /// fail instead), locks of readers and writers, spin locks, barriers, `pthread_once`, `pthread_join` and
    /// its kin, `flockfile`, and what C11 calls these. Where libc asks which thread is the owner, each
    /// coroutine is one: a recursive mutex keeps siblings out, and one that is robust, held by a coroutine
    /// that has ended, gives EOWNERDEAD to the next sibling that locks it.
    ///
    /// What differs from threads, and why:
    ///
    /// - A plain mutex or spin lock that another *thread* holds keeps the hub's thread for up to a tenth of a
    ///   second, before siblings run: an allocator may be what waits. If it takes more than a millisecond,
    ///   it is counted.
    /// - Whatever another *process* does about a lock in shared memory is noticed up to a tenth of a second
    ///   later. Semaphores, barriers and condition variables are exempt: a thread waits for them.
    /// - A mutex that inherits a priority hands it on to nobody while coroutines wait, and writers are not
    ///   preferred to readers on behalf of a coroutine that waits to write.
    /// - A robust mutex of a coroutine that has ended is given up to other threads when its thread ends.
    /// - `printf`, `fread` and others lock a file of C inside of libc, which takes all coroutines of a
    ///   thread for one: they are let into a file that a sibling has locked by `flockfile`.
    /// - Two threads whose coroutines join the other's thread wait indefinitely: libc says EDEADLK to
    ///   threads.
    /// - In a callback of the hub, which cannot wait, to lock what a coroutine holds fails with EDEADLK.
    ///
    /// What is left out, and why:
    ///
    /// - `std::sync::mpsc` between coroutines of *one* thread, and `crossbeam-channel` likewise: a sender
    ///   wakes receivers of other threads only, and passes over those of its own. Use [`sync`](crate::sync).
    ///   Between threads it is cooperative.
    /// - `parking_lot`: who waits is kept in a variable of the thread's, which is one for all its
    ///   coroutines. Its waits hold up the thread, and are counted.
    /// - Futexes that inherit a priority, or wait at several addresses, by `syscall`: the kernel alone knows
    ///   them. They are counted.
    /// - A global allocator that waits by `std::sync::Mutex`, or by a lock of C that has an owner or
    ///   readers: the hub allocates in the middle of things.
    Sync,
    /// Look-ups of names.
    Dns,
    /// Regular files: what has to be fetched from the disk is read by a thread. [`What::Sync`] is patched
    /// with it: std reads files while it holds locks of its own.
    Files,
    /// Children: `Child::wait`, `Command::output`, `system`, `pclose`. [`What::Sockets`] and [`What::Poll`]
    /// are patched with it: std reads what children write.
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
    pub(super) const fn bits(self) -> u32 {
        match self {
            What::Files => self.bit() | What::Sync.bit(),
            What::Process => self.bit() | What::Sockets.bit() | What::Poll.bit(),
            _ => self.bit(),
        }
    }
}

/// What becomes of a call of libc's when something is to be raised in the coroutine that waits in it: a
/// kill, or the end of a [`timeout`](crate::timeout()). A function of C cannot unwind, so nothing is raised
/// in there: it is raised by the next call of this library's own that waits, and told to one call of C
/// before that, once.
///
/// # Examples
///
/// ```
/// use switchgrass::monkey::{OnKill, self_check};
///
/// let of = |name| self_check().iter().find(|symbol| symbol.name == name).unwrap().on_kill;
/// assert_eq!(of("recv"), OnKill::Fails);
/// assert_eq!(of("nanosleep"), OnKill::ReturnsEarly);
/// assert_eq!(of("flock"), OnKill::Deferred);
/// assert_eq!(of("dup"), OnKill::NeverWaits);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnKill {
    /// It fails with `ECANCELED` (a look-up of a name with `EAI_SYSTEM` and that, or `TRY_AGAIN`). What was
    /// read or written by then counts: then it succeeds with less.
    Fails,
    /// It succeeds too early, as if its time were over: `std` panics if a sleep fails.
    ReturnsEarly,
    /// It goes on to its end.
    Deferred,
    /// It never waits.
    NeverWaits,
}
