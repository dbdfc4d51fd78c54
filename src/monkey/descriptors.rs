//! What is known of the program's descriptors.
//!
//! ```text
//!   GENERATIONS: a word a number, for all threads      KNOWN: a table a thread
//!
//!   fd 7 │ generation │ watched │ ── the same? ──► fd 7 │ generation, kind, limits, Source in the hub
//!              ▲
//!              └── counted up by whoever closes 7, which wakes all who wait for it
//! ```
//!
//! A number is looked up when it is first used, and registered with the hub when it is first waited for. An
//! entry whose generation is not the number's is of a descriptor that was closed: it is not used any more,
//! and an event that comes late finds nobody.

use super::errno;
use super::table::{fcntl, poll};
use crate::hub::{
    Deadline, Direction, Ended, Interrupts, QuietHub, Source, at_end, park_quietly, tell_interrupts,
};
use crate::sys::fork::{Fork, Side};
use crate::sys::lock::{Lock, Locked};
use libc::c_int;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::io;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::rc::Rc;
use std::sync::LazyLock;
use std::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32};
use std::time::Duration;

const CHUNK: usize = 4096;
const CHUNKS: usize = 1024;

type Chunk = [Number; CHUNK];

/// What all threads know of a number.
struct Number {
    /// [`WATCHED`] and [`COPIED`]; the other bits count how often it was closed since.
    state: AtomicU32,
    /// Counted up when the program changes a setting.
    settings: AtomicU32,
}

static GENERATIONS: [AtomicPtr<Chunk>; CHUNKS] =
    [const { AtomicPtr::new(ptr::null_mut()) }; CHUNKS];

/// A thread knows it.
const WATCHED: u32 = 0b01;
/// There is, or was, another number for what it is a descriptor of: a setting of one is one of the other.
const COPIED: u32 = 0b10;
const GENERATION: u32 = !(WATCHED | COPIED);

/// The threads that know a number.
static WATCHERS: LazyLock<Lock<HashMap<RawFd, Vec<QuietHub>>>> =
    LazyLock::new(|| Lock::new(HashMap::new()));

/// The process that knows all this. A child that has just been made, and has its parent's memory or a copy
/// of it, closes what is its own: what the parent knows stays.
static PROCESS: AtomicI32 = AtomicI32::new(0);

/// Counted up when a setting changes of a descriptor that has copies.
static SETTINGS: AtomicU32 = AtomicU32::new(0);

thread_local! {
    /// Without a destructor, so that it is there for as long as calls are made. Emptied when the hub ends.
    static KNOWN: ManuallyDrop<RefCell<Vec<Option<Rc<Known>>>>> =
        const { ManuallyDrop::new(RefCell::new(Vec::new())) };
}

/// What a descriptor is one of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A socket that is a stream of bytes, or listens for such.
    Stream,
    /// Any other socket.
    Datagram,
    Pipe,
    /// A regular file, a directory, a disk: never waited for.
    File,
    /// A terminal, a timer, an event, another epoll.
    Other,
}

/// A descriptor of the program's, on this thread.
pub(super) struct Known {
    fd: RawFd,
    generation: u32,
    kind: Kind,
    /// `None` inside: it cannot be waited for.
    source: OnceCell<Option<Registered>>,
    settings: Cell<Settings>,
}

struct Registered {
    source: Source,
    /// What is registered, if the hub has the descriptor itself already.
    _copy: Option<OwnedFd>,
}

/// What the program has set, and when that was looked up.
#[derive(Clone, Copy)]
struct Settings {
    epoch: Option<(u32, u32)>,
    is_nonblocking: bool,
    read_limit: Option<Duration>,
    write_limit: Option<Duration>,
}

/// Why a call is not made again: what it is to fail with. `None` if there is no waiting for this one.
pub(super) type Refusal = Option<c_int>;

impl Number {
    const fn new() -> Self {
        Number { state: AtomicU32::new(0), settings: AtomicU32::new(0) }
    }
}

fn number(fd: RawFd) -> Option<&'static Number> {
    let number = usize::try_from(fd).ok()?;
    let place = GENERATIONS.get(number / CHUNK)?;
    // SAFETY: made below, and never freed.
    let chunk = unsafe { place.load(Acquire).as_ref() };
    chunk.map(|chunk| &chunk[number % CHUNK])
}

fn number_made(fd: RawFd) -> Option<&'static Number> {
    let place = GENERATIONS.get(usize::try_from(fd).ok()? / CHUNK)?;
    if place.load(Acquire).is_null() {
        let made = Box::into_raw(Box::new([const { Number::new() }; CHUNK]));
        if place.compare_exchange(ptr::null_mut(), made, SeqCst, Acquire).is_err() {
            // SAFETY: made above, and nobody else has seen it.
            drop(unsafe { Box::from_raw(made) });
        }
    }
    number(fd)
}

fn watchers() -> Locked<'static, HashMap<RawFd, Vec<QuietHub>>> {
    WATCHERS.lock()
}

/// What is known of a descriptor, looked up if need be. `None` if it is none, or the thread is ending.
#[inline]
pub(super) fn look_up(fd: RawFd) -> Option<Rc<Known>> {
    let generation = number(fd).map_or(0, |number| number.state.load(Relaxed) & GENERATION);
    // A signal handler may have come in the middle of something.
    let known = KNOWN.with(|known| known.try_borrow().ok()?.get(fd as usize).cloned().flatten());
    match known {
        Some(known) if known.generation == generation => Some(known),
        other => learn(fd, other),
    }
}

#[cold]
fn learn(fd: RawFd, old: Option<Rc<Known>>) -> Option<Rc<Known>> {
    if let Some(old) = old {
        old.forget();
    }
    let kind = kind(fd)?;
    let number = number_made(fd)?;
    PROCESS.store(process(), Relaxed);
    let generation = {
        let mut watchers = watchers();
        let all = watchers.entry(fd).or_default();
        let here = QuietHub::here();
        if !all.contains(&here) {
            all.push(here);
        }
        number.state.fetch_or(WATCHED, SeqCst) & GENERATION
    };
    let settings =
        Settings { epoch: None, is_nonblocking: false, read_limit: None, write_limit: None };
    let known = Rc::new(Known {
        fd,
        generation,
        kind,
        source: OnceCell::new(),
        settings: Cell::new(settings),
    });
    let before = KNOWN.with(|all| {
        let mut all = all.try_borrow_mut().ok()?;
        if all.is_empty() {
            at_end(forget_all);
        }
        let number = fd as usize;
        if all.len() <= number {
            all.resize(number + 1, None);
        }
        Some(all[number].replace(Rc::clone(&known)))
    })?;
    drop(before);
    Some(known)
}

/// Around a fork: nobody is in the middle of something. In the child there is this thread alone; what it
/// knows of its descriptors is true of the copies.
pub(super) fn around_fork(fork: Fork<'_>) -> io::Result<Side> {
    let mut watchers = watchers();
    let side = fork();
    if matches!(side, Ok(Side::Child)) {
        PROCESS.store(process(), Relaxed);
        watchers.values_mut().for_each(|hubs| hubs.retain(QuietHub::is_here));
    }
    side
}

/// The thread ends.
fn forget_all() {
    drop(KNOWN.with(|known| known.take()));
}

/// What a number is a descriptor of, by system calls alone.
pub(super) fn kind(fd: RawFd) -> Option<Kind> {
    let mut status = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: room for the answer.
    if unsafe { libc::fstat(fd, status.as_mut_ptr()) } != 0 {
        return None;
    }
    // SAFETY: it was answered.
    let mode = unsafe { status.assume_init() }.st_mode;
    Some(match mode & libc::S_IFMT {
        libc::S_IFSOCK if option(fd, libc::SO_TYPE) == Some(libc::SOCK_STREAM) => Kind::Stream,
        libc::S_IFSOCK => Kind::Datagram,
        libc::S_IFIFO => Kind::Pipe,
        libc::S_IFREG | libc::S_IFDIR | libc::S_IFBLK => Kind::File,
        _ => Kind::Other,
    })
}

fn process() -> libc::pid_t {
    // SAFETY: no preconditions.
    unsafe { libc::getpid() }
}

/// An option of a socket that is a number.
pub(super) fn option(fd: RawFd, name: c_int) -> Option<c_int> {
    let mut value: c_int = 0;
    let mut length = size_of::<c_int>() as libc::socklen_t;
    let place = (&raw mut value).cast();
    // SAFETY: room for the answer, of the size that is said.
    let result = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, name, place, &mut length) };
    (result == 0).then_some(value)
}

/// The number is about to be closed, or to become that of something else. Whoever waits for it fails, on
/// whichever thread.
#[inline]
pub(super) fn forget(fd: RawFd) {
    if let Some(number) = number(fd)
        && number.state.load(SeqCst) & (WATCHED | COPIED) != 0
    {
        forget_known(fd, number);
    }
}

/// So are all numbers from `first` to `last`.
pub(super) fn forget_range(first: u32, last: u32) {
    let end = (CHUNK * CHUNKS) as u32;
    let mut fd = first;
    while fd <= last && fd < end {
        match number(fd as RawFd) {
            Some(_) => {
                forget(fd as RawFd);
                fd += 1;
            }
            // None of its chunk was ever used.
            None => fd = (fd / CHUNK as u32 + 1) * CHUNK as u32,
        }
    }
}

#[cold]
fn forget_known(fd: RawFd, number: &Number) {
    if PROCESS.load(Relaxed) != process() {
        return;
    }
    let (all, generation) = {
        let mut watchers = watchers();
        let generation = number.state.load(SeqCst) & GENERATION;
        number.state.store(generation.wrapping_add(!GENERATION + 1), SeqCst);
        (watchers.remove(&fd).unwrap_or_default(), generation)
    };
    for hub in all {
        if hub.is_here() {
            forget_here(fd, generation);
        } else {
            hub.call(move || forget_here(fd, generation));
        }
    }
}

fn forget_here(fd: RawFd, generation: u32) {
    let known = KNOWN.with(|known| {
        let mut known = known.try_borrow_mut().ok()?;
        known.get_mut(fd as usize)?.take_if(|known| known.generation == generation)
    });
    if let Some(known) = known {
        known.forget();
    }
}

/// The program has changed a setting.
pub(super) fn settings_changed(fd: RawFd) {
    if let Some(number) = number(fd) {
        number.settings.fetch_add(1, SeqCst);
        if number.state.load(SeqCst) & COPIED != 0 {
            SETTINGS.fetch_add(1, SeqCst);
        }
    }
}

/// One number is now a copy of the other.
pub(super) fn copied(from: RawFd, to: RawFd) {
    for fd in [from, to] {
        if let Some(number) = number_made(fd) {
            number.state.fetch_or(COPIED, SeqCst);
        }
    }
}

impl Known {
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether the number still means this.
    #[inline]
    pub(super) fn is_current(&self) -> bool {
        number(self.fd)
            .is_some_and(|number| number.state.load(Relaxed) & GENERATION == self.generation)
    }

    /// The number means something else from now on.
    fn forget(&self) {
        if let Some(Some(registered)) = self.source.get() {
            registered.source.close();
            registered.source.leave();
        }
    }

    /// Whether the program has set it not to block, so that "it would block" is what it wants to hear.
    pub(super) fn is_nonblocking(&self) -> bool {
        self.settings().is_nonblocking
    }

    fn settings(&self) -> Settings {
        let version = number(self.fd).map_or(0, |number| number.settings.load(Relaxed));
        let epoch = (version, SETTINGS.load(Relaxed));
        let mut settings = self.settings.get();
        if settings.epoch != Some(epoch) {
            // SAFETY: no memory is involved.
            let flags = unsafe { fcntl::original(self.fd, libc::F_GETFL, 0) };
            settings = Settings {
                epoch: Some(epoch),
                is_nonblocking: flags & libc::O_NONBLOCK != 0,
                read_limit: self.limit(libc::SO_RCVTIMEO),
                write_limit: self.limit(libc::SO_SNDTIMEO),
            };
            self.settings.set(settings);
        }
        settings
    }

    fn limit(&self, name: c_int) -> Option<Duration> {
        if !matches!(self.kind, Kind::Stream | Kind::Datagram) {
            return None;
        }
        let mut time = libc::timeval { tv_sec: 0, tv_usec: 0 };
        let mut length = size_of::<libc::timeval>() as libc::socklen_t;
        // SAFETY: room for the answer, of the size that is said.
        let result = unsafe {
            libc::getsockopt(self.fd, libc::SOL_SOCKET, name, (&raw mut time).cast(), &mut length)
        };
        let limit = Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000);
        (result == 0 && !limit.is_zero()).then_some(limit)
    }

    /// Registered when it is first waited for. `None` if it never is.
    fn registered(&self) -> Option<&Source> {
        let registered = self.source.get_or_init(|| {
            match Source::new(self.fd) {
                Ok(source) => return Some(Registered { source, _copy: None }),
                Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
                Err(_) => return None,
            }
            // The hub has it already, as one of its own. A copy can be registered beside it.
            // SAFETY: no memory is involved.
            let copy = unsafe { fcntl::original(self.fd, libc::F_DUPFD_CLOEXEC, 0) };
            if copy < 0 {
                return None;
            }
            let source = Source::new(copy).ok()?;
            // SAFETY: a new descriptor of ours.
            Some(Registered { source, _copy: Some(unsafe { OwnedFd::from_raw_fd(copy) }) })
        });
        registered.as_ref().map(|registered| &registered.source)
    }

    /// Whether a new call has to wait: it is known that it would block, or others wait.
    #[inline]
    pub(super) fn must_wait(&self, direction: Direction) -> bool {
        let registered = self.source.get().and_then(Option::as_ref);
        registered.is_some_and(|registered| registered.source.must_wait(direction))
    }

    /// A call would have blocked: from now on it is to be waited for. Else what the call is to fail with.
    pub(super) fn would_block(&self, direction: Direction) -> Result<(), Refusal> {
        if self.is_nonblocking() {
            return Err(Some(libc::EAGAIN));
        }
        self.registered().ok_or(None)?.expect_event(direction);
        Ok(())
    }

    /// A read has got less than it could: there is nothing more, until an event says so.
    #[inline]
    pub(super) fn is_drained(&self) {
        if let Some(Some(registered)) = self.source.get() {
            registered.source.is_drained();
        }
    }

    /// Waits for an event. For all waits of a call `interrupts` are the same ones (see [`interrupts`]).
    pub(super) fn wait(
        &self,
        direction: Direction,
        purpose: &'static str,
        deadline: Option<Deadline>,
        interrupts: Interrupts,
    ) -> Result<(), Refusal> {
        self.wait_for_turn(direction, false, purpose, deadline, interrupts)
    }

    /// Waits for an event, behind those that wait already, unless it does so again.
    fn wait_for_turn(
        &self,
        direction: Direction,
        is_again: bool,
        purpose: &'static str,
        deadline: Option<Deadline>,
        interrupts: Interrupts,
    ) -> Result<(), Refusal> {
        let source = self.registered().ok_or(None)?;
        let park = || park_quietly(purpose, deadline, interrupts);
        match source.wait_by(direction, is_again, park) {
            Ended::Event => Ok(()),
            Ended::TimedOut => Err(Some(libc::EAGAIN)),
            Ended::Closed => Err(Some(libc::EBADF)),
            Ended::Signalled => Err(Some(libc::EINTR)),
            Ended::Interrupted => {
                tell_interrupts();
                Err(Some(libc::ECANCELED))
            }
        }
    }

    /// Has the current greenlet woken by every event, until what this returns is dropped.
    pub(super) fn watch(&self, direction: Direction) -> Option<impl Sized + '_> {
        Some(self.registered()?.watch(direction))
    }

    /// When a call that begins now is to have waited long enough, by what the program has set.
    pub(super) fn deadline(&self, direction: Direction) -> Option<Deadline> {
        let settings = self.settings();
        let limit = match direction {
            Direction::Read => settings.read_limit,
            Direction::Write => settings.write_limit,
        };
        limit.and_then(Deadline::after)
    }

    /// Whether it is ready at this moment, as the kernel says.
    pub(super) fn is_ready(&self, direction: Direction) -> bool {
        let events = match direction {
            Direction::Read => libc::POLLIN,
            Direction::Write => libc::POLLOUT,
        };
        let mut question = libc::pollfd { fd: self.fd, events, revents: 0 };
        // SAFETY: one question, which lives on; it does not wait.
        unsafe { poll::original(&mut question, 1, 0) > 0 }
    }

    /// Makes `call` until it does not fail for having to wait, and waits in between. It fails as calls of C
    /// do. `None` if this descriptor cannot be waited for: then there is nothing but to let it block.
    #[inline]
    pub(super) fn attempt(
        &self,
        direction: Direction,
        purpose: &'static str,
        call: impl FnMut() -> isize,
    ) -> Option<isize> {
        self.attempt_part(direction, purpose, false, call)
    }

    /// As [`Known::attempt`]. `has_some`: of a call that has moved something already. It is never restarted
    /// after a signal, since it has something to return.
    #[inline]
    pub(super) fn attempt_part(
        &self,
        direction: Direction,
        purpose: &'static str,
        has_some: bool,
        mut call: impl FnMut() -> isize,
    ) -> Option<isize> {
        // Closed since it was looked up: the caller has let others run. The number may be another's now.
        if !self.is_current() {
            return Some(errno::fail_long(libc::EBADF));
        }
        let mut limits = None;
        let mut must_wait = self.must_wait(direction) && !self.is_nonblocking();
        let mut has_waited = false;
        loop {
            if must_wait {
                let (deadline, interrupts) = *limits.get_or_insert_with(|| {
                    let deadline = self.deadline(direction);
                    let interrupts = match has_some {
                        true => Interrupts::TellAnySignal,
                        false => interrupts(deadline),
                    };
                    (deadline, interrupts.begun_by_breathing())
                });
                let waited =
                    self.wait_for_turn(direction, has_waited, purpose, deadline, interrupts);
                if let Err(refusal) = waited {
                    return refusal.map(errno::fail_long);
                }
                has_waited = true;
            }
            let result = call();
            if result >= 0 || errno::get() != libc::EAGAIN {
                return Some(result);
            }
            if let Err(refusal) = self.would_block(direction) {
                return refusal.map(errno::fail_long);
            }
            must_wait = true;
        }
    }
}

/// What interrupts a call on a socket, also while it waits. With `SO_RCVTIMEO` or `SO_SNDTIMEO` the kernel
/// never restarts it after a signal.
pub(super) fn interrupts(deadline: Option<Deadline>) -> Interrupts {
    match deadline {
        None => Interrupts::Tell,
        Some(_) => Interrupts::TellAnySignal,
    }
}
