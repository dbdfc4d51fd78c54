#![forbid(unsafe_code)]
//! The kinds of calls that can be patched, and what a kill does to each call.

/// A kind of call that can be made cooperative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum What {
    /// Sockets, pipes, and other descriptors that can be polled.
    ///
    /// `std::net`, `std::os::unix::net`, `std::io::pipe`; in C also FIFOs, terminals, `sendfile`, `splice`,
    /// message queues, and reads of streams such as `popen`'s. `TcpStream::connect_timeout` needs
    /// [`What::Poll`] as well. `fwrite` and related functions, and `scanf`, block the thread while they wait:
    /// libc makes those system calls internally.
    Sockets,
    /// `thread::sleep` and `thread::yield_now`.
    Sleep,
    /// Waits for other threads and coroutines: `std::sync`, `thread::park`, `JoinHandle::join`.
    ///
    /// In C also mutexes of all kinds, condition variables, semaphores, read-write locks, spin locks,
    /// barriers, `pthread_once`, `pthread_join` and its variants, `flockfile`, and the C11 equivalents.
    ///
    /// A kill or a timeout does not end such a wait (except on System V semaphores, where the call fails);
    /// it is raised by the coroutine's next wait in this library. Where libc records the owning thread of a
    /// lock, this library records the owning coroutine: a recursive mutex excludes sibling coroutines, and
    /// a robust mutex whose owner has ended returns `EOWNERDEAD` to the next sibling that locks it.
    ///
    /// Differences from threads:
    ///
    /// - If another *thread* holds a plain mutex or a spin lock, the hub's thread is blocked for up to 100 ms
    ///   at a time before sibling coroutines run, because an allocator may be the caller. Such a wait is
    ///   counted if it takes more than 1 ms.
    /// - An unlock by another *process*, of a lock in shared memory, is noticed up to 100 ms late.
    ///   Semaphores, barriers and condition variables are exempt: a dedicated thread waits for them.
    /// - A priority-inheriting mutex does not inherit from waiting coroutines, and a coroutine that waits to
    ///   write gets no preference over readers.
    /// - A robust mutex whose owning coroutine has ended is released to other threads when the coroutine's
    ///   thread ends.
    /// - `printf`, `fread` and similar functions lock their `FILE` inside libc, which sees one owner per
    ///   thread: they may enter a `FILE` that a sibling has locked by `flockfile`.
    /// - Two threads whose coroutines join each other's thread wait indefinitely; libc returns `EDEADLK` to
    ///   threads.
    /// - In a hub callback, which cannot wait, locking what a coroutine holds fails with `EDEADLK`.
    ///
    /// Not covered:
    ///
    /// - `std::sync::mpsc` and `crossbeam-channel` between coroutines of *one* thread: a sender skips
    ///   receivers of its own thread. Use [`sync`](crate::sync). Between threads they are cooperative.
    /// - `parking_lot` keeps its waiters in a thread-local variable, which all coroutines of a thread share.
    ///   Its waits block the thread and are counted.
    /// - Priority-inheriting futexes and waits for several futexes, made through `syscall`: only the kernel
    ///   knows their waiters. They are counted.
    /// - A global allocator that locks a `std::sync::Mutex`, or a C lock with an owner or with readers: the
    ///   hub allocates while its own state is in use.
    Sync,
    /// Host name look-ups: `ToSocketAddrs`, `getaddrinfo`, `gethostbyname`.
    Dns,
    /// Regular files: data that is not in the page cache is read by a thread of a pool.
    ///
    /// Includes [`What::Sync`], because std holds its own locks while it reads files.
    Files,
    /// Child processes: `Child::wait`, `Command::output`, `system`, `pclose`.
    ///
    /// Includes [`What::Sockets`] and [`What::Poll`], because std reads the output of children.
    Process,
    /// Waits for several descriptors: `poll`, `select`, `epoll_wait`.
    Poll,
    /// Waits for signals: `pause`, `sigsuspend`, `sigwait`, `sigwaitinfo`, `sigtimedwait`.
    ///
    /// Signal handlers interrupt patched calls whether or not this kind is patched: see
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

    /// Includes the bits of the kinds that it requires.
    pub(super) const fn bits(self) -> u32 {
        match self {
            What::Files => self.bit() | What::Sync.bit(),
            What::Process => self.bit() | What::Sockets.bit() | What::Poll.bit(),
            _ => self.bit(),
        }
    }
}

/// What a kill, or the end of a [`timeout`](crate::timeout()), does to a libc call that waits.
///
/// A C function cannot unwind. So the kill is reported to one libc call, once, as this type describes, and is
/// raised by the coroutine's next wait in this library.
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
    /// The call fails with `ECANCELED`, or succeeds with the bytes that it has moved so far. (A name look-up
    /// fails with `EAI_SYSTEM`, or with `TRY_AGAIN`.)
    Fails,
    /// The call returns success early, as if its time were over: `std` panics if a sleep fails.
    ReturnsEarly,
    /// The call continues to its end.
    Deferred,
    /// The call never waits.
    NeverWaits,
}
