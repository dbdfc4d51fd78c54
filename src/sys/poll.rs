//! Waits until a descriptor is ready: epoll, and an eventfd to wake the waiting thread.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// An epoll instance.
#[derive(Debug)]
pub(crate) struct Epoll(OwnedFd);

/// The most events taken per call: enough to make the call cheap, and few enough for the data that they
/// touch to be still in the caches when the last event is handled.
const BATCH: usize = 64;

/// The events of a descriptor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Readiness {
    pub(crate) read: bool,
    pub(crate) write: bool,
    /// The other end has closed one or both directions, or an error or urgent data has come.
    pub(crate) exceptional: bool,
}

impl Readiness {
    fn of(events: u32) -> Self {
        let has = |bits: libc::c_int| events & bits as u32 != 0;
        let exceptional = has(libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR | libc::EPOLLPRI);
        Readiness {
            read: has(libc::EPOLLIN) || exceptional,
            write: has(libc::EPOLLOUT | libc::EPOLLHUP | libc::EPOLLERR),
            exceptional,
        }
    }
}

/// The events since the last wait.
pub(crate) struct Events {
    all: [MaybeUninit<libc::epoll_event>; BATCH],
    count: usize,
}

impl Events {
    #[inline]
    pub(crate) const fn new() -> Self {
        Events { all: [const { MaybeUninit::uninit() }; BATCH], count: 0 }
    }

    #[inline]
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Returns the token of a descriptor, and its events. `None` if there are fewer events.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<(u64, Readiness)> {
        let event = self.all[..self.count].get(index)?;
        // SAFETY: the kernel has written the first `count` events.
        let event = unsafe { event.assume_init() };
        Some((event.u64, Readiness::of(event.events)))
    }
}

impl Epoll {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: `epoll_create1` has no preconditions.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: `fd` is a new descriptor that nothing else owns.
        Ok(Epoll(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Creates, for a child, an instance that it does not share with its parent.
    ///
    /// Nothing is registered with it but the eventfd that `waker` renews, under `token`.
    pub(crate) fn renewal(&self, waker: &Renewal, token: u64) -> io::Result<Renewal> {
        let fresh = Epoll::new()?;
        if let Some((waker, _)) = &waker.0 {
            // It stays registered when `renew` duplicates it: the open file is never without a descriptor.
            fresh.add(waker.as_raw_fd(), token)?;
        }
        Ok(Renewal(Some((fresh.0, self.0.as_raw_fd()))))
    }

    /// Registers `fd` under `token`, edge-triggered, for both directions.
    pub(crate) fn add(&self, fd: RawFd, token: u64) -> io::Result<()> {
        let events =
            libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLPRI | libc::EPOLLET;
        let mut event = libc::epoll_event { events: events as u32, u64: token };
        // SAFETY: `event` is valid, and the kernel checks the descriptors.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event) })?;
        Ok(())
    }

    /// Deregisters `fd`. Harmless if it is closed already.
    pub(crate) fn remove(&self, fd: RawFd) {
        let nothing = ptr::null_mut();
        // SAFETY: the kernel checks the descriptors, and ignores the event for this operation.
        unsafe { libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_DEL, fd, nothing) };
    }

    /// Waits until there are events and stores them in `events`, or until `timeout` nanoseconds have passed.
    ///
    /// `None` waits indefinitely. A signal ends the wait early, with no events.
    pub(crate) fn wait(&self, timeout: Option<u64>, events: &mut Events) -> io::Result<()> {
        events.count = 0;
        events.count = match self.wait_precisely(&mut events.all, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            other => other?,
        };
        Ok(())
    }

    /// Waits by `epoll_pwait2` (Linux 5.11), to the nanosecond, or else by `epoll_pwait`.
    ///
    /// The latter counts milliseconds; the timeout is rounded up, so that it never returns too early.
    fn wait_precisely(
        &self,
        events: &mut [MaybeUninit<libc::epoll_event>; BATCH],
        timeout: Option<u64>,
    ) -> io::Result<usize> {
        static IS_MISSING: AtomicBool = AtomicBool::new(false);
        let fd = self.0.as_raw_fd();
        if timeout.is_some_and(|timeout| timeout > 0) && !IS_MISSING.load(Relaxed) {
            let timeout = timeout.unwrap_or(0);
            let time = libc::timespec {
                tv_sec: (timeout / 1_000_000_000) as _,
                tv_nsec: (timeout % 1_000_000_000) as _,
            };
            // SAFETY: `events` has room for `BATCH` events, `time` is valid, and there is no signal mask.
            let count = unsafe {
                libc::syscall(
                    libc::SYS_epoll_pwait2,
                    fd,
                    events.as_mut_ptr(),
                    BATCH as libc::c_int,
                    &raw const time,
                    ptr::null::<libc::sigset_t>(),
                    0_usize,
                )
            };
            match check(count as libc::c_int) {
                Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
                    IS_MISSING.store(true, Relaxed);
                }
                other => return other.map(|count| count as usize),
            }
        }
        let timeout = match timeout {
            None => -1,
            Some(timeout) => {
                libc::c_int::try_from(timeout.div_ceil(1_000_000)).unwrap_or(libc::c_int::MAX)
            }
        };
        // SAFETY: `events` has room for `BATCH` events, and there is no signal mask. By number:
        // `libc::epoll_wait` may be a hook.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait,
                fd,
                events.as_mut_ptr(),
                BATCH as libc::c_int,
                timeout,
                ptr::null::<libc::sigset_t>(),
                0_usize,
            )
        };
        check(count as libc::c_int).map(|count| count as usize)
    }
}

/// An eventfd: a descriptor that any thread can make readable. Created at its first use.
#[derive(Debug)]
pub(crate) struct EventFd(OnceLock<OwnedFd>);

impl EventFd {
    pub(crate) const fn new() -> Self {
        EventFd(OnceLock::new())
    }

    /// Returns the descriptor, after creating it if necessary.
    pub(crate) fn fd(&self) -> io::Result<RawFd> {
        if let Some(fd) = self.0.get() {
            return Ok(fd.as_raw_fd());
        }
        let fd = new_event()?;
        Ok(self.0.get_or_init(|| fd).as_raw_fd())
    }

    /// Creates, for a child, an eventfd that it does not share with its parent.
    pub(crate) fn renewal(&self) -> io::Result<Renewal> {
        let place = self.0.get().map(AsRawFd::as_raw_fd);
        Ok(Renewal(place.map(|place| Ok::<_, io::Error>((new_event()?, place))).transpose()?))
    }

    /// Makes it readable. Does nothing if it was never created: then no thread waits for it.
    pub(crate) fn raise(&self) {
        let Some(fd) = self.0.get() else { return };
        let one = 1_u64;
        // SAFETY: eight readable bytes. The call fails only if the eventfd is readable already. By number:
        // `libc::write` may be a hook.
        unsafe { libc::syscall(libc::SYS_write, fd.as_raw_fd(), &raw const one, 8_usize) };
    }

    /// Makes it unreadable.
    pub(crate) fn lower(&self) {
        let Some(fd) = self.0.get() else { return };
        let mut count = 0_u64;
        // SAFETY: eight writable bytes. The call fails only if the eventfd is unreadable already.
        unsafe { libc::syscall(libc::SYS_read, fd.as_raw_fd(), &raw mut count, 8_usize) };
    }
}

fn new_event() -> io::Result<OwnedFd> {
    // SAFETY: `eventfd` has no preconditions.
    let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
    // SAFETY: `fd` is a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A new descriptor that can take over the number of an old one.
///
/// So code that holds the number gets the new file. It is created before the fork, since a child could not
/// report that it has no descriptor.
#[derive(Debug)]
pub(crate) struct Renewal(Option<(OwnedFd, RawFd)>);

impl Renewal {
    /// Closes the old descriptor and gives its number to the new one.
    pub(crate) fn renew(self) {
        let Some((fresh, place)) = self.0 else { return };
        // SAFETY: `dup3` accesses no memory; both descriptors are open and of this crate. By number:
        // `libc::dup3` may be a hook.
        let result =
            unsafe { libc::syscall(libc::SYS_dup3, fresh.as_raw_fd(), place, libc::O_CLOEXEC) };
        debug_assert_eq!(result, libc::c_long::from(place), "dup3 to an open descriptor failed");
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
