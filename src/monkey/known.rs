//! A thread's entry of one descriptor of the program: kind, settings, registration with the hub.

use super::closed;
use super::errno;
use super::numbers::{Waiting, number, settings_version};
use super::originals::fcntl;
use crate::hub::{
    Deadline, Direction, Ended, Interrupts, Source, Wake, mark_interrupts_reported, park_nounwind,
    prepare_to_sleep, yield_if_due_nounwind_with,
};
use crate::sys::descriptor::{Kind, has_failed, is_ready, is_shut_down, option};
use libc::c_int;
use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// Whether any descriptor has a low-water mark (`SO_RCVLOWAT`). They are looked up only from then on.
static HAS_LOW_WATER: AtomicBool = AtomicBool::new(false);

pub(super) struct Known {
    fd: RawFd,
    generation: u32,
    kind: Kind,
    /// Set by the first wait. `Some(None)`: the descriptor cannot be waited for.
    source: OnceCell<Option<Registered>>,
    /// Whether the last registration failed for lack of resources.
    is_refused: Cell<bool>,
    /// Whether the descriptor is always ready: the kernel has no events for it.
    is_always_ready: Cell<bool>,
    is_nonblocking: Setting<bool>,
    read_timeout: Setting<Option<Duration>>,
    write_timeout: Setting<Option<Duration>>,
    low_water: Setting<usize>,
    /// Whether the socket is known to listen. A listening socket remains one.
    is_listening: Cell<bool>,
    /// The nature of a character device or an anonymous file, looked up when needed.
    nature: OnceCell<Nature>,
    /// An error that occurred after a part of a call had succeeded, or 0. The next call reports it.
    deferred_error: Cell<c_int>,
    /// The open file of a number that was closed while calls waited for it.
    after_close: RefCell<Option<Arc<OwnedFd>>>,
}

struct Registered {
    source: Source,
    /// The registered descriptor, if the hub had the original registered already.
    _copy: Option<OwnedFd>,
}

/// Why a descriptor is not registered.
enum Unregistered {
    /// It cannot be registered: a call that waits has to block its thread.
    Blocks,
    /// The kernel lacks the resources at the moment.
    NotNow,
}

/// A setting of the program, with the version of the settings for which it was looked up.
struct Setting<T>(Cell<(Option<(u32, u32)>, T)>);

impl<T: Copy> Setting<T> {
    const fn new(unknown: T) -> Self {
        Setting(Cell::new((None, unknown)))
    }

    fn get(&self, fd: RawFd, look_up: impl FnOnce() -> T) -> T {
        let version = Some(settings_version(fd));
        let (known, value) = self.0.get();
        if known == version {
            return value;
        }
        let value = look_up();
        self.0.set((version, value));
        value
    }
}

/// The nature of a `Kind::Other`, as far as its calls differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nature {
    EventFd,
    /// Reads of fewer bytes than this fail at once.
    Records(usize),
    Terminal,
    Unknown,
}

/// The error of a call that is not retried. `None` if the descriptor cannot be waited for.
pub(super) type Refusal = Option<c_int>;

/// Records that the program has changed a low-water mark.
pub(super) fn low_water_changed() {
    HAS_LOW_WATER.store(true, Relaxed);
}

impl Known {
    pub(super) fn new(fd: RawFd, generation: u32, kind: Kind) -> Self {
        Known {
            fd,
            generation,
            kind,
            source: OnceCell::new(),
            is_refused: Cell::new(false),
            is_always_ready: Cell::new(false),
            is_nonblocking: Setting::new(false),
            read_timeout: Setting::new(None),
            write_timeout: Setting::new(None),
            low_water: Setting::new(1),
            is_listening: Cell::new(false),
            nature: OnceCell::new(),
            deferred_error: Cell::new(0),
            after_close: RefCell::new(None),
        }
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn generation(&self) -> u32 {
        self.generation
    }

    /// Whether the number still stands for this descriptor.
    #[inline]
    pub(super) fn is_current(&self) -> bool {
        number(self.fd).is_some_and(|number| number.generation() == self.generation)
    }

    /// Whether the number stands for another open file by now.
    pub(super) fn is_replaced(&self) -> bool {
        // SAFETY: this `fcntl` command accesses no memory.
        !self.is_current() && unsafe { fcntl::call(self.fd, libc::F_GETFD, 0) } >= 0
    }

    /// Like [`yield_if_due_nounwind_with`], at the beginning of a call on this descriptor.
    ///
    /// During the yield, and until the returned guard is dropped, a close keeps the file, as for a call that
    /// waits.
    #[inline]
    pub(super) fn yield_if_due(&self) -> Option<Waiting> {
        yield_if_due_nounwind_with(|| self.begin_waiting()).flatten()
    }

    /// Marks a call as waiting. `None` if the number was closed just now.
    pub(super) fn begin_waiting(&self) -> Option<Waiting> {
        Waiting::begin(self.fd, self.generation)
    }

    /// Returns the number to make a call on: its own or, after a close, that of the copy.
    #[inline]
    pub(super) fn number(&self) -> Option<RawFd> {
        if self.is_current() { Some(self.fd) } else { self.number_after_close() }
    }

    /// Returns the number of the copy that a close has made for waiting calls, if any.
    #[cold]
    pub(super) fn number_after_close(&self) -> Option<RawFd> {
        let mut file = self.after_close.borrow_mut();
        if file.is_none() {
            *file = closed::find(self.fd, self.generation);
        }
        file.as_ref().map(|file| file.as_raw_fd())
    }

    /// Detaches the entry from its number, which was closed. Calls in progress continue on `file`.
    pub(super) fn forget(&self, file: Option<Arc<OwnedFd>>) {
        *self.after_close.borrow_mut() = file;
        if let Some(Some(registered)) = self.source.get() {
            registered.source.close();
            registered.source.leave();
        }
    }

    /// Whether the program has set `O_NONBLOCK`, so that it expects `EAGAIN`.
    pub(super) fn is_nonblocking(&self) -> bool {
        self.is_nonblocking.get(self.fd, || {
            // SAFETY: this `fcntl` command accesses no memory.
            let flags = unsafe { fcntl::call(self.fd, libc::F_GETFL, 0) };
            flags >= 0 && flags & libc::O_NONBLOCK != 0
        })
    }

    /// Returns the deadline, by `SO_RCVTIMEO` or `SO_SNDTIMEO`, of a call that begins to wait now.
    pub(super) fn deadline(&self, direction: Direction) -> Option<Deadline> {
        if !self.kind.is_socket() {
            return None;
        }
        let timeout = match direction {
            Direction::Read => {
                self.read_timeout.get(self.fd, || timeout(self.fd, libc::SO_RCVTIMEO))
            }
            Direction::Write => {
                self.write_timeout.get(self.fd, || timeout(self.fd, libc::SO_SNDTIMEO))
            }
        };
        timeout.and_then(Deadline::after)
    }

    /// Returns the number of bytes that a blocking receive waits for (`SO_RCVLOWAT`).
    #[inline]
    pub(super) fn low_water(&self) -> usize {
        if !HAS_LOW_WATER.load(Relaxed) {
            return 1;
        }
        self.low_water.get(self.fd, || {
            let bytes = option(self.fd, libc::SO_RCVLOWAT).unwrap_or(1);
            usize::try_from(bytes).map_or(1, |bytes| bytes.max(1))
        })
    }

    /// Whether this is a listening socket.
    pub(super) fn is_listening(&self) -> bool {
        if !self.is_listening.get() {
            self.is_listening.set(option(self.fd, libc::SO_ACCEPTCONN) == Some(1));
        }
        self.is_listening.get()
    }

    /// Whether this is known to be a listening socket, without a look-up.
    #[inline]
    pub(super) fn is_known_to_listen(&self) -> bool {
        self.is_listening.get()
    }

    /// Returns the nature of a `Kind::Other`, and looks it up at the first call.
    pub(super) fn nature(&self) -> Nature {
        *self.nature.get_or_init(|| Nature::of(self.fd))
    }

    /// Lets the next call report `error`, as the kernel would.
    pub(super) fn defer_error(&self, error: c_int) {
        // These did not consume the socket's pending error: the next call meets them again, or they concern
        // this call only.
        let is_not_from_socket = matches!(
            error,
            libc::EPIPE | libc::EAGAIN | libc::EINTR | libc::ECANCELED | libc::EBADF
        );
        if !is_not_from_socket && self.kind.is_socket() {
            self.deferred_error.set(error);
        }
    }

    /// Takes the error that an earlier call has deferred.
    #[inline]
    pub(super) fn take_deferred_error(&self) -> Option<c_int> {
        match self.deferred_error.get() {
            0 => None,
            error => {
                self.deferred_error.set(0);
                Some(error)
            }
        }
    }

    /// Returns the registration, and registers the descriptor at its first wait.
    ///
    /// After a failure for lack of resources, the next wait tries again.
    fn registered(&self) -> Result<&Source, Unregistered> {
        if let Some(registered) = self.source.get() {
            return registered.as_ref().map(|there| &there.source).ok_or(Unregistered::Blocks);
        }
        let registered = match self.register() {
            Err(error) if is_exhaustion(&error) => {
                // Without an epoll instance the hub cannot even sleep.
                let can_sleep = prepare_to_sleep().is_ok();
                self.is_refused.set(can_sleep);
                return Err(if can_sleep { Unregistered::NotNow } else { Unregistered::Blocks });
            }
            Err(error) => {
                self.is_always_ready.set(error.raw_os_error() == Some(libc::EPERM));
                None
            }
            Ok(registered) => Some(registered),
        };
        self.is_refused.set(false);
        let registered = self.source.get_or_init(|| registered);
        registered.as_ref().map(|there| &there.source).ok_or(Unregistered::Blocks)
    }

    fn register(&self) -> io::Result<Registered> {
        match Source::new(self.fd) {
            Ok(source) => return Ok(Registered { source, _copy: None }),
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
            Err(error) => return Err(error),
        }
        // The hub has registered the descriptor itself already. A copy can be registered beside it.
        const FIRST: usize = 3;
        // SAFETY: this `fcntl` command accesses no memory.
        let copy = unsafe { fcntl::call(self.fd, libc::F_DUPFD_CLOEXEC, FIRST) };
        if copy < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new, and has no other owner.
        let copy = unsafe { OwnedFd::from_raw_fd(copy) };
        Ok(Registered { source: Source::new(copy.as_raw_fd())?, _copy: Some(copy) })
    }

    /// Whether the last registration failed for lack of resources.
    ///
    /// No events arrive then, so a wait has to poll.
    pub(super) fn is_refused(&self) -> bool {
        self.is_refused.get()
    }

    /// Whether a new call has to wait: it is known to block, or there are waiters.
    #[inline]
    pub(super) fn must_wait(&self, direction: Direction) -> bool {
        let registered = self.source.get().and_then(Option::as_ref);
        registered.is_some_and(|registered| registered.source.must_wait(direction))
    }

    /// Marks the direction as blocked, after a call would have blocked: the next wait waits for an event.
    ///
    /// Refuses if the call must not wait, or if the descriptor cannot be waited for.
    pub(super) fn would_block(&self, direction: Direction) -> Result<(), Refusal> {
        if self.is_nonblocking() {
            return Err(Some(libc::EAGAIN));
        }
        self.expect_event(direction)
    }

    /// Like [`Known::would_block`], but does not check `O_NONBLOCK`.
    pub(super) fn expect_event(&self, direction: Direction) -> Result<(), Refusal> {
        match self.registered() {
            Ok(source) => source.expect_event(direction),
            Err(Unregistered::NotNow) => {}
            Err(Unregistered::Blocks) => return Err(None),
        }
        Ok(())
    }

    /// Notes that a read has emptied the queue: the descriptor is drained until the next event.
    #[inline]
    pub(super) fn mark_drained(&self) {
        if let Some(Some(registered)) = self.source.get() {
            registered.source.is_drained();
        }
    }

    /// Whether a hang-up, an error or urgent data was seen.
    pub(super) fn is_exceptional(&self) -> bool {
        matches!(self.source.get(), Some(Some(registered)) if registered.source.is_exceptional())
    }

    /// Whether the socket has failed since a part of a call succeeded.
    ///
    /// The part is then the result, and the next call reports the error.
    pub(super) fn has_failed(&self, fd: RawFd) -> bool {
        self.kind.is_socket() && self.is_exceptional() && has_failed(fd)
    }

    /// Whether it is at an end of file that a non-blocking call never reports.
    pub(super) fn is_at_hidden_end(&self, direction: Direction) -> bool {
        direction == Direction::Read
            && self.kind.hides_end()
            && self.is_exceptional()
            && self.number().is_some_and(is_shut_down)
    }

    /// Waits for an event, or for a pause if no events can arrive for lack of resources.
    ///
    /// `interrupts` is the same for all waits of a call.
    pub(super) fn wait(
        &self,
        direction: Direction,
        purpose: &'static str,
        deadline: Option<Deadline>,
        interrupts: Interrupts,
    ) -> Result<(), Refusal> {
        self.wait_for_turn(direction, false, purpose, deadline, interrupts)
    }

    /// Like [`Known::wait`], but queues behind the other waiters.
    ///
    /// `is_again`: the call has waited and was woken in vain, so it returns to the front of the queue.
    pub(super) fn wait_for_turn(
        &self,
        direction: Direction,
        is_again: bool,
        purpose: &'static str,
        deadline: Option<Deadline>,
        interrupts: Interrupts,
    ) -> Result<(), Refusal> {
        let source = match self.registered() {
            Ok(source) => source,
            Err(Unregistered::NotNow) => return wait_a_while(PAUSE, purpose, deadline, interrupts),
            Err(Unregistered::Blocks) => return Err(None),
        };
        let park = || park_nounwind(purpose, deadline, interrupts);
        match source.wait_by(direction, is_again, park) {
            Ended::Event => Ok(()),
            Ended::TimedOut => Err(Some(libc::EAGAIN)),
            Ended::Closed => Err(Some(libc::EBADF)),
            Ended::Signalled => Err(Some(libc::EINTR)),
            Ended::Interrupted => {
                mark_interrupts_reported();
                Err(Some(libc::ECANCELED))
            }
        }
    }

    /// Wakes the current greenlet at every event, until the returned guard is dropped.
    ///
    /// `None` if the descriptor cannot be waited for. See also [`park_among`].
    pub(super) fn watch(&self, direction: Direction) -> Option<impl Sized + '_> {
        match self.registered() {
            Ok(source) => Some(Some(source.watch(direction))),
            Err(Unregistered::NotNow) => Some(None),
            Err(Unregistered::Blocks) => None,
        }
    }

    /// Whether the descriptor is always ready, and has no events. Known after [`Known::watch`].
    pub(super) fn is_always_ready(&self) -> bool {
        self.is_always_ready.get()
    }

    /// Wakes each waiting call for a retry, after a change that causes no event.
    pub(super) fn rouse(&self) {
        if let Some(Some(registered)) = self.source.get() {
            registered.source.rouse();
        }
    }

    /// Queries whether the kernel considers the descriptor ready now.
    pub(super) fn is_ready(&self, direction: Direction) -> bool {
        self.number().is_none_or(|fd| is_ready(fd, direction == Direction::Read))
    }
}

/// Time between two polls of a descriptor that could not be registered for lack of resources.
const PAUSE: Duration = Duration::from_millis(10);

/// Waits without an event for at most `pause`. Fails with the call's error if the call ends before.
pub(super) fn wait_a_while(
    pause: Duration,
    purpose: &'static str,
    deadline: Option<Deadline>,
    interrupts: Interrupts,
) -> Result<(), Refusal> {
    let end = Deadline::after(pause);
    let is_last = deadline.is_some() && deadline <= end;
    let until = if is_last { deadline } else { end };
    loop {
        match park_nounwind(purpose, until, interrupts) {
            Wake::Unparked => {}
            Wake::TimedOut if is_last => return Err(Some(libc::EAGAIN)),
            Wake::TimedOut => return Ok(()),
            Wake::Signalled => return Err(Some(libc::EINTR)),
            Wake::Interrupted => {
                mark_interrupts_reported();
                return Err(Some(libc::ECANCELED));
            }
        }
    }
}

/// Parks the current greenlet, which watches `all`.
///
/// If one of them is not registered for lack of resources, the greenlet is woken after a pause.
pub(super) fn park_among<'a>(
    mut all: impl Iterator<Item = &'a Known>,
    purpose: &'static str,
    deadline: Option<Deadline>,
    interrupts: Interrupts,
) -> Wake {
    let end = all.any(Known::is_refused).then(|| Deadline::after(PAUSE)).flatten();
    match (deadline, end) {
        (Some(deadline), Some(end)) if deadline <= end => {}
        (_, Some(_)) => {
            return match park_nounwind(purpose, end, interrupts) {
                Wake::TimedOut => Wake::Unparked,
                wake => wake,
            };
        }
        _ => {}
    }
    park_nounwind(purpose, deadline, interrupts)
}

/// Whether a registration failed for lack of resources, and may succeed later.
fn is_exhaustion(error: &io::Error) -> bool {
    let exhausted = [libc::EMFILE, libc::ENFILE, libc::ENOSPC, libc::ENOMEM];
    error.raw_os_error().is_some_and(|error| exhausted.contains(&error))
}

/// Returns a socket's timeout. `None` if it has none.
fn timeout(fd: RawFd, name: c_int) -> Option<Duration> {
    let mut time = libc::timeval { tv_sec: 0, tv_usec: 0 };
    let mut length = size_of::<libc::timeval>() as libc::socklen_t;
    let place = (&raw mut time).cast();
    // SAFETY: `place` has room for `length` bytes.
    let result = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, name, place, &mut length) };
    let timeout = Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000);
    (result == 0 && !timeout.is_zero()).then_some(timeout)
}

impl Nature {
    /// Determines the nature by the descriptor's name in `/proc`.
    fn of(fd: RawFd) -> Self {
        let before = errno::get();
        // SAFETY: `isatty` has no preconditions.
        let is_terminal = unsafe { libc::isatty(fd) } == 1;
        let mut name = [0_u8; 32];
        let path = format!("/proc/self/fd/{fd}\0");
        // SAFETY: `path` ends with a zero, and `name` has room for `name.len()` bytes.
        let length =
            unsafe { libc::readlink(path.as_ptr().cast(), name.as_mut_ptr().cast(), name.len()) };
        errno::set(before);
        let name = &name[..usize::try_from(length).unwrap_or(0)];
        match name {
            _ if is_terminal => Nature::Terminal,
            b"anon_inode:[eventfd]" => Nature::EventFd,
            b"anon_inode:[timerfd]" => Nature::Records(size_of::<u64>()),
            b"anon_inode:[signalfd]" => Nature::Records(size_of::<libc::signalfd_siginfo>()),
            _ => Nature::Unknown,
        }
    }
}
