//! One descriptor of the program, as a thread knows it: its kind, its settings, its place in the hub.

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

/// Some descriptor has a low-water mark (`SO_RCVLOWAT`): they are looked up from then on.
static HAS_LOW_WATER: AtomicBool = AtomicBool::new(false);

pub(super) struct Known {
    fd: RawFd,
    generation: u32,
    kind: Kind,
    /// `None` inside: it cannot be waited for.
    source: OnceCell<Option<Registered>>,
    /// There were no resources for that when it was last tried.
    is_refused: Cell<bool>,
    /// The kernel has no events for it: it is always ready.
    is_always_ready: Cell<bool>,
    is_nonblocking: Setting<bool>,
    read_timeout: Setting<Option<Duration>>,
    write_timeout: Setting<Option<Duration>>,
    low_water: Setting<usize>,
    /// A listening socket stays one.
    is_listening: Cell<bool>,
    /// What a character device or an anonymous file is, once that was needed.
    nature: OnceCell<Nature>,
    /// An error that came after a part of a call had succeeded: the kernel reports it by the next call.
    deferred_error: Cell<c_int>,
    /// The open file, after the number was closed while coroutines waited for it.
    after_close: RefCell<Option<Arc<OwnedFd>>>,
}

struct Registered {
    source: Source,
    /// What is registered, if the hub has the descriptor itself already.
    _copy: Option<OwnedFd>,
}

/// Why there is no registration.
enum Unregistered {
    /// A call that waits has to block its thread.
    Blocks,
    /// The kernel has no resources for it at this moment.
    NotNow,
}

/// A setting of the program's, and the version of the settings for which it was looked up.
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

/// What `Kind::Other` is, as far as its calls differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nature {
    EventFd,
    /// Fails at once if there is less room than this.
    Records(usize),
    Terminal,
    Unknown,
}

/// Why a call is not made again: the error it fails with. `None` if this descriptor cannot be waited for.
pub(super) type Refusal = Option<c_int>;

/// The program has changed a low-water mark.
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

    /// Whether the number still means this.
    #[inline]
    pub(super) fn is_current(&self) -> bool {
        number(self.fd).is_some_and(|number| number.generation() == self.generation)
    }

    /// Whether the number is that of another file by now.
    pub(super) fn is_replaced(&self) -> bool {
        // SAFETY: no memory is involved.
        !self.is_current() && unsafe { fcntl::call(self.fd, libc::F_GETFD, 0) } >= 0
    }

    /// As [`yield_if_due_nounwind_with`], at the beginning of a call: while others have their turn, and
    /// until what this returns is dropped, a close keeps the file, as for a call that waits.
    #[inline]
    pub(super) fn yield_if_due(&self) -> Option<Waiting> {
        yield_if_due_nounwind_with(|| self.begin_waiting()).flatten()
    }

    /// A call is about to wait. `None` if the number was closed just now.
    pub(super) fn begin_waiting(&self) -> Option<Waiting> {
        Waiting::begin(self.fd, self.generation)
    }

    /// The number by which to make a call: its own, or after a close that of the file that was kept.
    #[inline]
    pub(super) fn number(&self) -> Option<RawFd> {
        if self.is_current() { Some(self.fd) } else { self.number_after_close() }
    }

    #[cold]
    pub(super) fn number_after_close(&self) -> Option<RawFd> {
        let mut file = self.after_close.borrow_mut();
        if file.is_none() {
            *file = closed::find(self.fd, self.generation);
        }
        file.as_ref().map(|file| file.as_raw_fd())
    }

    /// The number means something else from now on. Calls that are under way get what came before from
    /// `file`.
    pub(super) fn forget(&self, file: Option<Arc<OwnedFd>>) {
        *self.after_close.borrow_mut() = file;
        if let Some(Some(registered)) = self.source.get() {
            registered.source.close();
            registered.source.leave();
        }
    }

    /// Whether the program has set `O_NONBLOCK`, so that `EAGAIN` is what it wants to see.
    pub(super) fn is_nonblocking(&self) -> bool {
        self.is_nonblocking.get(self.fd, || {
            // SAFETY: no memory is involved.
            let flags = unsafe { fcntl::call(self.fd, libc::F_GETFL, 0) };
            flags >= 0 && flags & libc::O_NONBLOCK != 0
        })
    }

    /// When a call that begins to wait now has waited long enough, by `SO_RCVTIMEO` or `SO_SNDTIMEO`.
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

    /// The fewest bytes with which a receive that blocks returns.
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

    /// Whether it is a socket that listens.
    pub(super) fn is_listening(&self) -> bool {
        if !self.is_listening.get() {
            self.is_listening.set(option(self.fd, libc::SO_ACCEPTCONN) == Some(1));
        }
        self.is_listening.get()
    }

    /// Whether that is known already.
    #[inline]
    pub(super) fn is_known_to_listen(&self) -> bool {
        self.is_listening.get()
    }

    pub(super) fn nature(&self) -> Nature {
        *self.nature.get_or_init(|| Nature::of(self.fd))
    }

    /// The next call reports `error`, as the kernel's next call would.
    pub(super) fn defer_error(&self, error: c_int) {
        // These were not taken from the socket: the next call finds them by itself, or they were this call's.
        let is_kept = matches!(
            error,
            libc::EPIPE | libc::EAGAIN | libc::EINTR | libc::ECANCELED | libc::EBADF
        );
        if !is_kept && self.kind.is_socket() {
            self.deferred_error.set(error);
        }
    }

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

    /// Registered when it is first waited for. What fails for want of resources is tried again by the next
    /// wait.
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
        // The hub has it already, as one of its own. A copy can be registered beside it.
        const FIRST: usize = 3;
        // SAFETY: no memory is involved.
        let copy = unsafe { fcntl::call(self.fd, libc::F_DUPFD_CLOEXEC, FIRST) };
        if copy < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor, owned by nobody else.
        let copy = unsafe { OwnedFd::from_raw_fd(copy) };
        Ok(Registered { source: Source::new(copy.as_raw_fd())?, _copy: Some(copy) })
    }

    /// Whether the kernel had no resources for the last registration: its events are not heard of, so a wait
    /// has to end now and then and look by itself.
    pub(super) fn is_refused(&self) -> bool {
        self.is_refused.get()
    }

    /// Whether a new call has to wait: it is known that it would block, or others wait.
    #[inline]
    pub(super) fn must_wait(&self, direction: Direction) -> bool {
        let registered = self.source.get().and_then(Option::as_ref);
        registered.is_some_and(|registered| registered.source.must_wait(direction))
    }

    /// A call would have blocked: from now on it is to be waited for. Else the error that the call fails
    /// with.
    pub(super) fn would_block(&self, direction: Direction) -> Result<(), Refusal> {
        if self.is_nonblocking() {
            return Err(Some(libc::EAGAIN));
        }
        self.expect_event(direction)
    }

    /// As [`Known::would_block`], in a call of which it is known that it waits.
    pub(super) fn expect_event(&self, direction: Direction) -> Result<(), Refusal> {
        match self.registered() {
            Ok(source) => source.expect_event(direction),
            Err(Unregistered::NotNow) => {}
            Err(Unregistered::Blocks) => return Err(None),
        }
        Ok(())
    }

    /// A read has emptied the queue: there is nothing more, until an event says so.
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

    /// Whether it has failed since a part of a call succeeded: then the part is the result, and the error the
    /// next call's.
    pub(super) fn has_failed(&self, fd: RawFd) -> bool {
        self.kind.is_socket() && self.is_exceptional() && has_failed(fd)
    }

    /// Whether it is at an end that a call which does not block never reports.
    pub(super) fn is_at_hidden_end(&self, direction: Direction) -> bool {
        direction == Direction::Read
            && self.kind.hides_end()
            && self.is_exceptional()
            && self.number().is_some_and(is_shut_down)
    }

    /// Waits for an event, or for a pause if there are none now. The interrupts are the same for all waits of
    /// a call.
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

    /// Has the current greenlet woken by every event, until what this returns is dropped. `None` if it cannot
    /// be waited for. See also [`park_among`].
    pub(super) fn watch(&self, direction: Direction) -> Option<impl Sized + '_> {
        match self.registered() {
            Ok(source) => Some(Some(source.watch(direction))),
            Err(Unregistered::NotNow) => Some(None),
            Err(Unregistered::Blocks) => None,
        }
    }

    /// Whether there never are events, since it is always ready. Known after [`Known::watch`].
    pub(super) fn is_always_ready(&self) -> bool {
        self.is_always_ready.get()
    }

    /// Something has happened of which there is no event: each waiting call is to try again.
    pub(super) fn rouse(&self) {
        if let Some(Some(registered)) = self.source.get() {
            registered.source.rouse();
        }
    }

    /// Whether it is ready at this moment, as the kernel says.
    pub(super) fn is_ready(&self, direction: Direction) -> bool {
        self.number().is_none_or(|fd| is_ready(fd, direction == Direction::Read))
    }
}

/// Between two looks at what the kernel has no resources to tell of.
const PAUSE: Duration = Duration::from_millis(10);

/// Waits without an event for at most `pause`. The error if the call ends before.
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

/// Parks the current greenlet, which watches `all`. If the kernel has no resources to tell of one of them, it
/// is woken after a pause.
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

/// Whether there were no resources for a registration: there may be some later.
fn is_exhaustion(error: &io::Error) -> bool {
    let exhausted = [libc::EMFILE, libc::ENFILE, libc::ENOSPC, libc::ENOMEM];
    error.raw_os_error().is_some_and(|error| exhausted.contains(&error))
}

fn timeout(fd: RawFd, name: c_int) -> Option<Duration> {
    let mut time = libc::timeval { tv_sec: 0, tv_usec: 0 };
    let mut length = size_of::<libc::timeval>() as libc::socklen_t;
    let place = (&raw mut time).cast();
    // SAFETY: room for the answer, of the size that is given.
    let result = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, name, place, &mut length) };
    let timeout = Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000);
    (result == 0 && !timeout.is_zero()).then_some(timeout)
}

impl Nature {
    /// By the name that `/proc` has for it.
    fn of(fd: RawFd) -> Self {
        let before = errno::get();
        // SAFETY: no memory is involved.
        let is_terminal = unsafe { libc::isatty(fd) } == 1;
        let mut name = [0_u8; 32];
        let path = format!("/proc/self/fd/{fd}\0");
        // SAFETY: a path that ends with a zero, and room for as many bytes as is said.
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
