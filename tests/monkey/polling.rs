//! Waiting for several descriptors.

use crate::{BLOCK, patched, row};
use libc::{POLLIN, POLLNVAL, POLLOUT, c_int, epoll_event, pollfd, timespec, timeval};
use std::cell::Cell;
use std::io::{Error, PipeReader, Read, Write, pipe};
use std::mem::zeroed;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::thread::JoinHandleExt;
use std::process::Command;
use std::ptr::{null, null_mut};
use std::rc::Rc;
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};
use switchgrass::{JoinError, spawn, timeout, yield_now};

/// A pipe that can be read after a while.
fn late_pipe() -> PipeReader {
    let (reader, mut writer) = pipe().unwrap();
    thread::spawn(move || {
        thread::sleep(BLOCK + Duration::from_millis(2));
        writer.write_all(b"x").unwrap();
        // Not before it was read: a hang-up is an event of its own.
        thread::sleep(Duration::from_secs(20));
    });
    reader
}

fn time(duration: Duration) -> timespec {
    timespec { tv_sec: duration.as_secs() as _, tv_nsec: duration.subsec_nanos().into() }
}

const LONG: Duration = Duration::from_secs(15);

/// A number that is of no descriptor, and not beyond those that the kernel looks at in `select`: how many that
/// is depends on how this process was started.
fn a_closed_number() -> RawFd {
    let (reader, _writer) = pipe().unwrap();
    reader.as_raw_fd()
}

fn question(fd: RawFd, events: i16) -> pollfd {
    pollfd { fd, events, revents: -1 }
}

/// One that never is ready, none, and one that is ready later.
fn polls(call: impl Fn(&mut [pollfd]) -> c_int + Copy + Send + 'static) {
    row(move || {
        let (silent, _writer) = pipe().unwrap();
        let late = late_pipe();
        let mut all = [
            question(silent.as_raw_fd(), POLLIN),
            question(-1, POLLIN),
            question(late.as_raw_fd(), POLLIN),
        ];
        (call(&mut all), all.map(|one| one.revents))
    });
}

/// What the crate `libc` does not declare.
mod c {
    use libc::{c_int, epoll_event, nfds_t, pollfd, sigset_t, timespec};

    unsafe extern "C" {
        pub(super) fn __poll_chk(
            all: *mut pollfd,
            count: nfds_t,
            millis: c_int,
            room: usize,
        ) -> c_int;
        pub(super) fn __ppoll_chk(
            all: *mut pollfd,
            count: nfds_t,
            time: *const timespec,
            mask: *const sigset_t,
            room: usize,
        ) -> c_int;
        pub(super) fn epoll_pwait2(
            fd: c_int,
            events: *mut epoll_event,
            room: c_int,
            time: *const timespec,
            mask: *const sigset_t,
        ) -> c_int;
    }
}

#[test]
fn poll() {
    // SAFETY: so many questions.
    polls(|all| unsafe { libc::poll(all.as_mut_ptr(), all.len() as _, -1) });
}

#[test]
fn __poll_chk() {
    // SAFETY: so many questions.
    polls(|all| unsafe {
        c::__poll_chk(all.as_mut_ptr(), all.len() as _, 15_000, size_of_val(all))
    });
}

#[test]
fn ppoll() {
    // SAFETY: so many questions.
    polls(|all| unsafe { libc::ppoll(all.as_mut_ptr(), all.len() as _, null(), null()) });
}

#[test]
fn __ppoll_chk() {
    // SAFETY: so many questions.
    polls(|all| unsafe {
        c::__ppoll_chk(all.as_mut_ptr(), all.len() as _, &time(LONG), null(), size_of_val(all))
    });
}

/// With all signals blocked for as long as it takes.
#[test]
fn ppoll_with_another_mask() {
    // SAFETY: so many questions, a set that is filled.
    polls(|all| unsafe {
        let mut mask = zeroed();
        libc::sigfillset(&mut mask);
        libc::ppoll(all.as_mut_ptr(), all.len() as _, &time(LONG), &mask)
    });
}

fn selects(call: impl Fn(c_int, *mut libc::fd_set, &Duration) -> c_int + Copy + Send + 'static) {
    row(move || {
        let (silent, _writer) = pipe().unwrap();
        let late = late_pipe();
        // SAFETY: a set that is emptied first, and descriptors below 1024.
        unsafe {
            let mut set = zeroed();
            libc::FD_ZERO(&mut set);
            libc::FD_SET(silent.as_raw_fd(), &mut set);
            libc::FD_SET(late.as_raw_fd(), &mut set);
            let count = silent.as_raw_fd().max(late.as_raw_fd()) + 1;
            let found = call(count, &mut set, &LONG);
            let has = |fd: RawFd| libc::FD_ISSET(fd, &set);
            (found, has(silent.as_raw_fd()), has(late.as_raw_fd()))
        }
    });
}

#[test]
fn select() {
    selects(|count, read, limit| {
        let mut left = timeval { tv_sec: limit.as_secs() as _, tv_usec: 0 };
        // SAFETY: a set, and a time.
        let found = unsafe { libc::select(count, read, null_mut(), null_mut(), &mut left) };
        // Linux says how much is left.
        let left = Duration::new(left.tv_sec as u64, left.tv_usec as u32 * 1000);
        assert!(left > Duration::ZERO && left <= *limit - BLOCK, "{left:?}");
        found
    });
}

#[test]
fn pselect() {
    // SAFETY: a set, and a time.
    selects(|count, read, limit| unsafe {
        libc::pselect(count, read, null_mut(), null_mut(), &time(*limit), null())
    });
}

/// Descriptors that an `fd_set` has no room for; sets that are no more than asked about.
#[test]
fn select_beyond_its_set() {
    patched(|| {
        let (reader, mut writer) = pipe().unwrap();
        const HIGH: RawFd = 2000;
        // SAFETY: a number that nobody has.
        let high = unsafe { libc::fcntl(reader.as_raw_fd(), libc::F_DUPFD_CLOEXEC, HIGH) };
        if high < 0 {
            eprintln!("skipped: no descriptor of that number");
            return;
        }
        // SAFETY: a new descriptor.
        let _high = unsafe { OwnedFd::from_raw_fd(high) };
        let selecting = spawn(move || {
            let (word, bit) = (high as usize / 64, high as usize % 64);
            let mut set = vec![0_u64; word + 1];
            set[word] |= 1 << bit;
            // SAFETY: a set with so many bits.
            let found = unsafe {
                libc::select(high + 1, set.as_mut_ptr().cast(), null_mut(), null_mut(), null_mut())
            };
            (found, set[word] == 1 << bit)
        });
        yield_now();
        assert!(!selecting.is_finished());
        writer.write_all(b"x").unwrap();
        assert_eq!(selecting.join().unwrap(), (1, true));
    });
}

/// As in some containers. A set may lie across two pages.
#[test]
fn select_where_memory_cannot_be_asked_for() {
    patched(|| {
        const PAGE: usize = 4096;
        let filter = |code, jf, k| libc::sock_filter { code, jt: 0, jf, k };
        const LOAD_NUMBER: u16 = 0x20;
        const IS_EQUAL: u16 = 0x15;
        const RETURN: u16 = 0x06;
        let number = libc::SYS_process_vm_readv as u32;
        let filters = [
            filter(LOAD_NUMBER, 0, 0),
            filter(IS_EQUAL, 1, number),
            filter(RETURN, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
            filter(RETURN, 0, libc::SECCOMP_RET_ALLOW),
        ];
        let program = libc::sock_fprog { len: 4, filter: filters.as_ptr().cast_mut() };
        // SAFETY: filters that live until the kernel has copied them.
        unsafe {
            assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
            let mode = libc::SECCOMP_MODE_FILTER;
            assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, mode, &program), 0);
        }
        let (reader, mut writer) = pipe().unwrap();
        writer.write_all(b"x").unwrap();
        let selecting = spawn(move || {
            let mut pages = vec![0_u64; 3 * PAGE / 8];
            let place = pages.as_mut_ptr();
            let set = place.with_addr(place.addr().next_multiple_of(PAGE) + PAGE - 64).cast();
            let mut limit = timeval { tv_sec: 2, tv_usec: 0 };
            // SAFETY: a set within the pages, all of it zero before.
            unsafe {
                libc::FD_SET(reader.as_raw_fd(), set);
                let count = libc::FD_SETSIZE as c_int;
                libc::select(count, set, null_mut(), null_mut(), &mut limit)
            }
        });
        assert_eq!(selecting.join().unwrap(), 1);
    });
}

#[test]
fn select_of_nothing_sleeps() {
    row(|| {
        let mut limit = timeval { tv_sec: 0, tv_usec: BLOCK.as_micros() as _ };
        // SAFETY: a time.
        let found = unsafe { libc::select(0, null_mut(), null_mut(), null_mut(), &mut limit) };
        (found, limit.tv_sec, limit.tv_usec)
    });
}

/// What has no events is asked for what it can never be.
#[test]
fn polls_that_time_out() {
    row(|| {
        let file = std::fs::File::open("Cargo.toml").unwrap();
        let mut all = [question(file.as_raw_fd(), 0)];
        // SAFETY: one question.
        unsafe { libc::poll(all.as_mut_ptr(), 1, BLOCK.as_millis() as c_int) }
    });
}

struct Epoll(OwnedFd);

impl Epoll {
    fn new() -> Self {
        // SAFETY: a new descriptor.
        Epoll(unsafe { OwnedFd::from_raw_fd(libc::epoll_create1(0)) })
    }

    fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    fn add(&self, fd: RawFd, flags: c_int, token: u64) {
        let mut event = epoll_event { events: (libc::EPOLLIN | flags) as u32, u64: token };
        // SAFETY: an event.
        let result = unsafe { libc::epoll_ctl(self.fd(), libc::EPOLL_CTL_ADD, fd, &mut event) };
        assert_eq!(result, 0);
    }
}

fn epolls(call: impl Fn(RawFd, &mut [epoll_event]) -> c_int + Copy + Send + 'static) {
    row(move || {
        let epoll = Epoll::new();
        let (silent, _writer) = pipe().unwrap();
        let late = late_pipe();
        epoll.add(silent.as_raw_fd(), 0, 1);
        epoll.add(late.as_raw_fd(), libc::EPOLLET, 2);
        let mut events = [epoll_event { events: 0, u64: 0 }; 4];
        let count = call(epoll.fd(), &mut events);
        // It was edge-triggered: nothing is left.
        // SAFETY: room for an event.
        let again = unsafe { libc::epoll_wait(epoll.fd(), events[1..].as_mut_ptr(), 1, 0) };
        ({ events[0].u64 }, count, again)
    });
}

#[test]
fn epoll_wait() {
    // SAFETY: room for so many events.
    epolls(|fd, events| unsafe {
        libc::epoll_wait(fd, events.as_mut_ptr(), events.len() as c_int, -1)
    });
}

#[test]
fn epoll_pwait() {
    // SAFETY: room for so many events.
    epolls(|fd, events| unsafe {
        libc::epoll_pwait(fd, events.as_mut_ptr(), events.len() as c_int, 15_000, null())
    });
}

#[test]
fn epoll_pwait2() {
    // SAFETY: room for so many events.
    epolls(|fd, events| unsafe {
        c::epoll_pwait2(fd, events.as_mut_ptr(), events.len() as c_int, &time(LONG), null())
    });
}

/// Several coroutines wait by one epoll: each event is one's.
#[test]
fn an_epoll_of_several() {
    patched(|| {
        let epoll = Rc::new(Epoll::new());
        let mut pipes: Vec<_> = (0..3).map(|_| pipe().unwrap()).collect();
        for (token, (reader, _)) in pipes.iter().enumerate() {
            epoll.add(reader.as_raw_fd(), libc::EPOLLONESHOT, token as u64);
        }
        let waiting = (0..3).map(|_| {
            let epoll = Rc::clone(&epoll);
            spawn(move || {
                let mut event = epoll_event { events: 0, u64: 0 };
                // SAFETY: room for one.
                assert_eq!(unsafe { libc::epoll_wait(epoll.fd(), &mut event, 1, -1) }, 1);
                event.u64
            })
        });
        let waiting: Vec<_> = waiting.collect();
        yield_now();
        assert!(waiting.iter().all(|one| !one.is_finished()));
        for (_, writer) in &mut pipes {
            writer.write_all(b"x").unwrap();
        }
        let mut tokens: Vec<_> = waiting.into_iter().map(|one| one.join().unwrap()).collect();
        tokens.sort();
        assert_eq!(tokens, [0, 1, 2]);
    });
}

#[test]
fn polls_that_do_not_wait() {
    patched(|| {
        let (reader, writer) = pipe().unwrap();
        let others = Rc::new(Cell::new(0));
        let counter = Rc::clone(&others);
        let other = spawn(move || counter.set(1));
        let mut all = [question(reader.as_raw_fd(), POLLIN)];
        // SAFETY: one question.
        assert_eq!(unsafe { libc::poll(all.as_mut_ptr(), 1, 0) }, 0);
        assert_eq!(others.get(), 0, "nobody was waited for");
        let mut all =
            [question(reader.as_raw_fd(), POLLIN), question(writer.as_raw_fd(), POLLOUT | POLLIN)];
        // SAFETY: two questions.
        assert_eq!(unsafe { libc::poll(all.as_mut_ptr(), 2, -1) }, 1);
        assert_eq!(all.map(|one| one.revents), [0, POLLOUT]);
        // No descriptor.
        let mut all = [question(reader.as_raw_fd(), POLLIN), question(a_closed_number(), POLLIN)];
        // SAFETY: two questions.
        assert_eq!(unsafe { libc::poll(all.as_mut_ptr(), 2, -1) }, 1);
        assert_eq!(all.map(|one| one.revents), [0, POLLNVAL]);
        let closed = a_closed_number();
        // SAFETY: a set that is emptied first, with a number that there is room for.
        unsafe {
            let mut set = zeroed();
            libc::FD_ZERO(&mut set);
            libc::FD_SET(closed, &mut set);
            let found = libc::select(closed + 1, &mut set, null_mut(), null_mut(), null_mut());
            assert_eq!((found, Error::last_os_error().raw_os_error()), (-1, Some(libc::EBADF)));
            assert!(libc::FD_ISSET(closed, &set), "as it was");
        }
        other.join().unwrap();
    });
}

/// Nothing of this library can end main's call, which is said on standard error. A signal does, and nothing else
/// is left of it.
#[test]
fn a_thread_ends_after_a_call_that_seemed_to_have_no_end() {
    unsafe extern "C" fn nothing(_: libc::c_int) {}
    patched(|| {
        // SAFETY: all-zero is a valid action, but for the handler.
        unsafe {
            let mut action: libc::sigaction = zeroed();
            action.sa_sigaction = nothing as *const () as usize;
            assert_eq!(libc::sigaction(libc::SIGUSR1, &action, null_mut()), 0);
        }
        let waiting = thread::spawn(|| {
            spawn(|| ()).join().unwrap();
            // SAFETY: nothing is asked.
            let found = unsafe { libc::select(0, null_mut(), null_mut(), null_mut(), null_mut()) };
            (found, Error::last_os_error().raw_os_error())
        });
        while !waiting.is_finished() {
            thread::sleep(Duration::from_millis(20));
            // SAFETY: it was not joined.
            unsafe { libc::pthread_kill(waiting.as_pthread_t(), libc::SIGUSR1) };
        }
        assert_eq!(waiting.join().unwrap(), (-1, Some(libc::EINTR)));
    });
}

#[test]
fn polls_that_are_cut_short() {
    patched(|| {
        let (reader, _writer) = pipe().unwrap();
        let fd = reader.as_raw_fd();
        let poll_for_ever = move || {
            // SAFETY: one question.
            let found = unsafe { libc::poll([question(fd, POLLIN)].as_mut_ptr(), 1, -1) };
            (found, Error::last_os_error().raw_os_error())
        };
        let mut told = None;
        timeout(Duration::from_millis(5), || told = Some(poll_for_ever())).unwrap_err();
        assert_eq!(told, Some((-1, Some(libc::ECANCELED))));
        let polling = spawn(move || {
            assert_eq!(poll_for_ever(), (-1, Some(libc::ECANCELED)));
            yield_now();
        });
        yield_now();
        polling.kill();
        assert!(matches!(polling.join(), Err(JoinError::Killed)));
        // The number is closed while somebody asks about it.
        let polling = spawn(move || {
            let mut all = [question(fd, POLLIN)];
            // SAFETY: one question.
            (unsafe { libc::poll(all.as_mut_ptr(), 1, -1) }, all[0].revents)
        });
        yield_now();
        drop(reader);
        assert_eq!(polling.join().unwrap(), (1, POLLNVAL));
        // And is another's at once.
        let (reader, _writer) = pipe().unwrap();
        assert_eq!(reader.as_raw_fd(), fd);
        let polling = spawn(poll_for_ever);
        yield_now();
        drop(reader);
        let (reader, _other_writer) = pipe().unwrap();
        assert_eq!(reader.as_raw_fd(), fd);
        assert_eq!(polling.join().unwrap(), (-1, Some(libc::EBADF)));
    });
}

/// A library of C that knows nothing of all this.
#[test]
fn a_library_that_polls() {
    const SOURCE: &str = r#"
        #include <poll.h>
        #include <unistd.h>
        int first_byte(int fd) {
            struct pollfd one = { fd, POLLIN, 0 };
            unsigned char byte;
            if (poll(&one, 1, -1) != 1 || read(fd, &byte, 1) != 1)
                return -1;
            return byte;
        }
    "#;
    patched(|| {
        let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
        let source = folder.join(format!("polls-{}.c", std::process::id()));
        let library = source.with_extension("so");
        std::fs::write(&source, SOURCE).unwrap();
        let mut compiler = Command::new("gcc");
        compiler.args(["-O2", "-D_FORTIFY_SOURCE=2", "-shared", "-fPIC", "-o"]);
        match compiler.arg(&library).arg(&source).status() {
            Err(error) => return eprintln!("SKIPPED: there is no gcc: {error}"),
            Ok(status) => assert!(status.success()),
        }
        let path = std::ffi::CString::new(library.to_str().unwrap()).unwrap();
        // SAFETY: the library was built by this test, and its function has that type.
        let first_byte: extern "C" fn(c_int) -> c_int = unsafe {
            let library = libc::dlopen(path.as_ptr(), libc::RTLD_NOW);
            std::mem::transmute(libc::dlsym(library, c"first_byte".as_ptr()))
        };
        let (readers, writers): (Vec<_>, Vec<_>) = (0..4).map(|_| pipe().unwrap()).unzip();
        let calls = readers.iter().map(|reader| {
            let fd = reader.as_raw_fd();
            spawn(move || first_byte(fd))
        });
        let calls: Vec<_> = calls.collect();
        yield_now();
        assert!(calls.iter().all(|call| !call.is_finished()));
        for (number, mut writer) in writers.into_iter().enumerate().rev() {
            writer.write_all(&[number as u8]).unwrap();
        }
        for (number, call) in calls.into_iter().enumerate() {
            assert_eq!(call.join().unwrap(), number as c_int);
        }
        std::fs::remove_file(source).unwrap();
        std::fs::remove_file(library).unwrap();
    });
}

/// A handler writes to a pipe that a coroutine reads, whether its signal comes while all wait, or in one of them.
#[test]
fn a_signal_handler_that_writes() {
    static PIPE: AtomicI32 = AtomicI32::new(-1);
    static CHANGED: AtomicI32 = AtomicI32::new(0);
    const SIGNALS: usize = 100;

    extern "C" fn handler(_: c_int) {
        const OWN: c_int = 77;
        // SAFETY: this thread's errno, which is given back; a byte.
        unsafe {
            let before = *libc::__errno_location();
            *libc::__errno_location() = OWN;
            let written = libc::write(PIPE.load(SeqCst), b"x".as_ptr().cast(), 1);
            if written != 1 || *libc::__errno_location() != OWN {
                CHANGED.fetch_add(1, SeqCst);
            }
            *libc::__errno_location() = before;
        }
    }

    patched(|| {
        let (mut reader, writer) = pipe().unwrap();
        PIPE.store(writer.as_raw_fd(), SeqCst);
        // SAFETY: a handler that is allowed to be one.
        unsafe { libc::signal(libc::SIGUSR1, handler as *const () as libc::sighandler_t) };
        let reading = spawn(move || {
            let mut bytes = [0; 2 * SIGNALS];
            reader.read_exact(&mut bytes).unwrap();
            bytes.iter().all(|byte| *byte == b'x')
        });
        let raising = spawn(|| {
            for _ in 0..SIGNALS {
                // SAFETY: there is a handler.
                assert_eq!(unsafe { libc::raise(libc::SIGUSR1) }, 0);
                yield_now();
            }
        });
        raising.join().unwrap();
        // SAFETY: this thread, which lives until the other has ended.
        let here = unsafe { libc::pthread_self() } as usize;
        let sending = thread::spawn(move || {
            for _ in 0..SIGNALS {
                // SAFETY: as above.
                unsafe { libc::pthread_kill(here as libc::pthread_t, libc::SIGUSR1) };
                thread::sleep(Duration::from_millis(2));
            }
        });
        let start = Instant::now();
        let sleeping = spawn(|| thread::sleep(Duration::from_millis(50)));
        while !sending.is_finished() {
            thread::sleep(Duration::from_millis(5));
        }
        sending.join().unwrap();
        sleeping.join().unwrap();
        assert!(start.elapsed() >= Duration::from_millis(50));
        // One that came while another was pending is none of its own.
        while !reading.is_finished() {
            // SAFETY: there is a handler.
            unsafe { libc::raise(libc::SIGUSR1) };
            yield_now();
        }
        assert!(reading.join().unwrap());
        assert_eq!(CHANGED.load(SeqCst), 0);
        drop(writer);
    });
}
