//! Where a thread sleeps until a descriptor is ready: epoll, and an eventfd to be woken by.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// An epoll instance.
#[derive(Debug)]
pub(crate) struct Epoll(OwnedFd);

/// So many events are taken at once: enough to make the call cheap, and few enough for what they touch to
/// be in the caches still when it is the last one's turn.
const BATCH: usize = 64;

/// What has happened to a descriptor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Readiness {
    pub(crate) read: bool,
    pub(crate) write: bool,
    /// The other end has closed, one direction or both, or there was an error, or urgent data has come.
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

/// What has happened since the last look.
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

    /// The token of a descriptor, and what has happened to it. `None` if there are fewer.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<(u64, Readiness)> {
        let event = self.all[..self.count].get(index)?;
        // SAFETY: the kernel has written so many.
        let event = unsafe { event.assume_init() };
        Some((event.u64, Readiness::of(event.events)))
    }
}

impl Epoll {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: no preconditions.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: a new descriptor of ours.
        Ok(Epoll(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// For a child: one that it does not share with its parent, and that nothing is registered with but what
    /// `alarm` renews, under `token`.
    pub(crate) fn renewal(&self, alarm: &Renewal, token: u64) -> io::Result<Renewal> {
        let fresh = Epoll::new()?;
        if let Some((alarm, _)) = &alarm.0 {
            // It stays so when it has got its number, since it is never without one.
            fresh.add(alarm.as_raw_fd(), token)?;
        }
        Ok(Renewal(Some((fresh.0, self.0.as_raw_fd()))))
    }

    /// Has every change of `fd` reported under `token`, in both directions.
    pub(crate) fn add(&self, fd: RawFd, token: u64) -> io::Result<()> {
        let events =
            libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLPRI | libc::EPOLLET;
        let mut event = libc::epoll_event { events: events as u32, u64: token };
        // SAFETY: a valid event; the descriptors are checked by the kernel.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event) })?;
        Ok(())
    }

    /// Has nothing reported of `fd` any more. That it is closed already is no harm.
    pub(crate) fn remove(&self, fd: RawFd) {
        let nothing = ptr::null_mut();
        // SAFETY: the descriptors are checked by the kernel, which does not look at the event.
        unsafe { libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_DEL, fd, nothing) };
    }

    /// Waits until something happens, at most `limit` nanoseconds (`None`: for ever), and puts it into
    /// `events`. A signal ends the wait early.
    pub(crate) fn wait(&self, limit: Option<u64>, events: &mut Events) -> io::Result<()> {
        events.count = 0;
        events.count = match self.wait_precisely(&mut events.all, limit) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            other => other?,
        };
        Ok(())
    }

    /// `epoll_pwait2` where the kernel has it (5.11), to the nanosecond; else `epoll_wait`, to the
    /// millisecond and never too early.
    fn wait_precisely(
        &self,
        events: &mut [MaybeUninit<libc::epoll_event>; BATCH],
        limit: Option<u64>,
    ) -> io::Result<usize> {
        static NOT_THERE: AtomicBool = AtomicBool::new(false);
        let fd = self.0.as_raw_fd();
        if limit.is_some_and(|limit| limit > 0) && !NOT_THERE.load(Relaxed) {
            let limit = limit.unwrap_or(0);
            let time = libc::timespec {
                tv_sec: (limit / 1_000_000_000) as _,
                tv_nsec: (limit % 1_000_000_000) as _,
            };
            // SAFETY: room for as many events as is said, a valid time, no signal mask.
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
                    NOT_THERE.store(true, Relaxed);
                }
                other => return other.map(|count| count as usize),
            }
        }
        let limit = match limit {
            None => -1,
            Some(limit) => {
                libc::c_int::try_from(limit.div_ceil(1_000_000)).unwrap_or(libc::c_int::MAX)
            }
        };
        // SAFETY: room for as many events as is said, no signal mask. By number: `libc::epoll_wait` may be
        // a hook.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait,
                fd,
                events.as_mut_ptr(),
                BATCH as libc::c_int,
                limit,
                ptr::null::<libc::sigset_t>(),
                0_usize,
            )
        };
        check(count as libc::c_int).map(|count| count as usize)
    }
}

/// A descriptor that becomes readable when it is raised, from whichever thread. Made when it is first asked
/// for.
#[derive(Debug)]
pub(crate) struct EventFd(OnceLock<OwnedFd>);

impl EventFd {
    pub(crate) const fn new() -> Self {
        EventFd(OnceLock::new())
    }

    /// The descriptor.
    pub(crate) fn fd(&self) -> io::Result<RawFd> {
        if let Some(fd) = self.0.get() {
            return Ok(fd.as_raw_fd());
        }
        let fd = new_event()?;
        Ok(self.0.get_or_init(|| fd).as_raw_fd())
    }

    /// For a child: one that it does not share with its parent.
    pub(crate) fn renewal(&self) -> io::Result<Renewal> {
        let place = self.0.get().map(AsRawFd::as_raw_fd);
        Ok(Renewal(place.map(|place| Ok::<_, io::Error>((new_event()?, place))).transpose()?))
    }

    /// Makes it readable. Nothing happens before it was asked for: then nobody waits for it.
    pub(crate) fn raise(&self) {
        let Some(fd) = self.0.get() else { return };
        let one = 1_u64;
        // SAFETY: eight bytes of ours. It fails only when it is readable already. By number, since
        // `libc::write` may one day be a hook.
        unsafe { libc::syscall(libc::SYS_write, fd.as_raw_fd(), &raw const one, 8_usize) };
    }

    /// Makes it unreadable.
    pub(crate) fn lower(&self) {
        let Some(fd) = self.0.get() else { return };
        let mut count = 0_u64;
        // SAFETY: room for eight bytes. It fails only when it is unreadable already.
        unsafe { libc::syscall(libc::SYS_read, fd.as_raw_fd(), &raw mut count, 8_usize) };
    }
}

fn new_event() -> io::Result<OwnedFd> {
    // SAFETY: no preconditions.
    let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
    // SAFETY: a new descriptor of ours.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A new descriptor that may take the place of another, with the same number: so that whoever keeps the
/// number has the new one. Made in time, since a child that could not have one could not say so.
#[derive(Debug)]
pub(crate) struct Renewal(Option<(OwnedFd, RawFd)>);

impl Renewal {
    pub(crate) fn renew(self) {
        let Some((fresh, place)) = self.0 else { return };
        // SAFETY: two open descriptors of ours. By number, since `libc::dup3` may be a hook.
        let done =
            unsafe { libc::syscall(libc::SYS_dup3, fresh.as_raw_fd(), place, libc::O_CLOEXEC) };
        debug_assert_eq!(done, libc::c_long::from(place), "nothing that can go wrong is left");
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
