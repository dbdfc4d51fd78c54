//! What the kernel says of arguments at once, and what a call leaves alone: the same on a plain thread and in
//! a coroutine, for each line of a table.

use super::patched;
use super::promises::{later, result};
use libc::{
    c_int, c_void, epoll_event, fd_set, iovec, mmsghdr, msghdr, pollfd, sembuf, siginfo_t,
    sigset_t, timespec, timeval,
};
use std::fs::File;
use std::io::{Read, Write};
use std::mem::zeroed;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::ptr::{null, null_mut, without_provenance_mut};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};
use switchgrass::{monkey, spawn};

type Answer = Result<i64, c_int>;
type Line = (&'static str, fn() -> Answer);

/// Each line gives the same on a plain thread as in a coroutine.
#[track_caller]
fn same_lines(lines: &'static [Line]) {
    patched(move || {
        let all = move || lines.iter().map(|(name, line)| (*name, line())).collect::<Vec<_>>();
        let on_a_thread = thread::spawn(all).join().unwrap();
        assert_eq!(spawn(all).join().unwrap(), on_a_thread);
    });
}

fn long(count: isize) -> Answer {
    result(count as i64)
}

/// An address of nothing.
fn bad<T>() -> *mut T {
    without_provenance_mut(16)
}

/// Zeros that cannot be written to.
fn constant<T>() -> *mut T {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping.
    unsafe { libc::mmap(null_mut(), 4096, libc::PROT_READ, flags, -1, 0).cast() }
}

fn millis(millis: i64) -> timespec {
    timespec { tv_sec: millis / 1000, tv_nsec: millis % 1000 * 1_000_000 }
}

fn pair() -> (UnixStream, UnixStream) {
    UnixStream::pair().unwrap()
}

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let here = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (here, listener.accept().unwrap().0)
}

fn pipe() -> (OwnedFd, OwnedFd) {
    let mut ends = [0; 2];
    // SAFETY: room for two numbers, which are new descriptors.
    unsafe {
        assert_eq!(libc::pipe(ends.as_mut_ptr()), 0);
        (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]))
    }
}

fn file() -> File {
    // SAFETY: a name, and a new descriptor.
    unsafe { File::from_raw_fd(libc::memfd_create(c"file".as_ptr(), 0)) }
}

extern "C" fn nothing(_: c_int) {}

fn handle(signal: c_int, handler: extern "C" fn(c_int), flags: c_int) {
    // SAFETY: an action that only runs a function.
    unsafe {
        let mut action: libc::sigaction = zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = flags;
        assert_eq!(libc::sigaction(signal, &action, null_mut()), 0);
    }
}

/// A signal comes to this thread while it waits.
fn signalled_later(flags: c_int) {
    handle(libc::SIGUSR1, nothing, flags);
    // SAFETY: no preconditions.
    let this = unsafe { libc::pthread_self() };
    later(move || {
        // SAFETY: the thread waits for longer than that.
        unsafe { libc::pthread_kill(this, libc::SIGUSR1) };
    });
}

/// A set of semaphores, or a queue of System V, for as long as `f` runs.
fn with_semaphore(f: impl FnOnce(c_int) -> c_int) -> Answer {
    // SAFETY: no memory is involved.
    unsafe {
        let set = libc::semget(libc::IPC_PRIVATE, 1, 0o600);
        let answer = result(f(set));
        libc::semctl(set, 0, libc::IPC_RMID);
        answer
    }
}

fn with_queue(f: impl FnOnce(c_int) -> isize) -> Answer {
    // SAFETY: no memory is involved.
    unsafe {
        let queue = libc::msgget(libc::IPC_PRIVATE, 0o600);
        let answer = long(f(queue));
        libc::msgctl(queue, libc::IPC_RMID, null_mut());
        answer
    }
}

unsafe extern "C" {
    fn semtimedop(set: c_int, all: *mut sembuf, count: usize, time: *const timespec) -> c_int;
}

const TAKE: sembuf = sembuf { sem_num: 0, sem_op: -1, sem_flg: 0 };
const SHORT: timeval = timeval { tv_sec: 0, tv_usec: 1000 };

/// An empty `msghdr` with these parts.
fn message(parts: *mut iovec, count: usize) -> msghdr {
    // SAFETY: all-zero is a message of nothing.
    let mut message: msghdr = unsafe { zeroed() };
    (message.msg_iov, message.msg_iovlen) = (parts, count as _);
    message
}

#[test]
fn bad_addresses_are_errors() {
    // SAFETY: of all lines: the kernel refuses what is wrong, and the rest is right.
    same_lines(&[
        ("nanosleep", || result(unsafe { libc::nanosleep(bad(), null_mut()) })),
        ("nanosleep, what is left", || {
            signalled_later(0);
            result(unsafe { libc::nanosleep(&millis(2000), bad()) })
        }),
        ("clock_nanosleep", || unsafe {
            Ok(libc::clock_nanosleep(libc::CLOCK_MONOTONIC, 0, bad(), null_mut()).into())
        }),
        ("select", || unsafe {
            result(libc::select(64, bad(), null_mut(), null_mut(), &mut SHORT.clone()))
        }),
        ("pselect, mask", || unsafe {
            let (none, time) = (null_mut::<fd_set>(), millis(1));
            result(libc::pselect(0, none, none, none, &time, bad()))
        }),
        ("ppoll, mask", || unsafe { result(libc::ppoll(null_mut(), 0, &millis(1), bad())) }),
        ("epoll_pwait, mask", || unsafe {
            let epoll = OwnedFd::from_raw_fd(libc::epoll_create1(0));
            let mut event: epoll_event = zeroed();
            result(libc::epoll_pwait(epoll.as_raw_fd(), &mut event, 1, 1, bad()))
        }),
        ("epoll_pwait2, time", || unsafe {
            let epoll = OwnedFd::from_raw_fd(libc::epoll_create1(0));
            let mut event: epoll_event = zeroed();
            result(libc::epoll_pwait2(epoll.as_raw_fd(), &mut event, 1, bad(), null()))
        }),
        ("sendmsg", || unsafe { long(libc::sendmsg(pair().0.as_raw_fd(), bad(), 0)) }),
        ("sendmsg of datagrams", || unsafe {
            let (here, _there) = UnixDatagram::pair().unwrap();
            long(libc::sendmsg(here.as_raw_fd(), bad(), 0))
        }),
        ("sendmsg, parts", || unsafe {
            long(libc::sendmsg(pair().0.as_raw_fd(), &message(bad(), 2), 0))
        }),
        ("sendmmsg", || unsafe { result(libc::sendmmsg(pair().0.as_raw_fd(), bad(), 1, 0)) }),
        ("recvmsg", || unsafe {
            long(libc::recvmsg(pair().0.as_raw_fd(), bad(), libc::MSG_WAITALL))
        }),
        ("recvmsg, parts", || unsafe {
            let mut message = message(bad(), 2);
            long(libc::recvmsg(pair().0.as_raw_fd(), &mut message, libc::MSG_WAITALL))
        }),
        ("recvmmsg", || unsafe {
            let flags = libc::MSG_WAITALL;
            result(libc::recvmmsg(pair().0.as_raw_fd(), bad(), 1, flags, null_mut()))
        }),
        ("recvmmsg, time", || receive_for(bad())),
        ("recvmmsg, time that is constant", || receive_for(constant())),
        ("recvfrom, room at the end", || unsafe {
            let (here, _there) = UnixDatagram::pair().unwrap();
            here.shutdown(std::net::Shutdown::Read).unwrap();
            let mut address: libc::sockaddr_storage = zeroed();
            let (mut byte, place) = (0_u8, (&raw mut address).cast());
            let buffer = (&raw mut byte).cast();
            long(libc::recvfrom(here.as_raw_fd(), buffer, 1, 0, place, null_mut()))
        }),
        ("readv", || unsafe { long(libc::readv(pair().0.as_raw_fd(), bad(), 2)) }),
        ("readv of a file", || unsafe { long(libc::readv(file().as_raw_fd(), bad(), 2)) }),
        ("preadv2 of a pipe", || unsafe {
            let (end, _other) = pipe();
            long(libc::preadv2(end.as_raw_fd(), bad(), 2, -1, 0))
        }),
        ("writev", || unsafe { long(libc::writev(pair().0.as_raw_fd(), bad(), 2)) }),
        ("writev to a pipe", || unsafe {
            let (_other, end) = pipe();
            long(libc::writev(end.as_raw_fd(), bad(), 2))
        }),
        ("pwritev", || unsafe { long(libc::pwritev(file().as_raw_fd(), bad(), 2, 0)) }),
        ("write to an eventfd", || unsafe {
            let event = OwnedFd::from_raw_fd(libc::eventfd(0, 0));
            long(libc::write(event.as_raw_fd(), bad(), 8))
        }),
        ("semop", || with_semaphore(|set| unsafe { libc::semop(set, bad(), 1) })),
        ("semtimedop, time", || {
            with_semaphore(|set| unsafe { semtimedop(set, &mut TAKE.clone(), 1, bad()) })
        }),
        ("sigsuspend", || unsafe { result(libc::sigsuspend(bad())) }),
        ("sigtimedwait, time", || unsafe {
            let mut set: sigset_t = zeroed();
            libc::sigaddset(&mut set, libc::SIGUSR2);
            result(libc::sigtimedwait(&set, null_mut(), bad()))
        }),
        ("waitid", || unsafe {
            let child = std::process::Command::new("true").spawn().unwrap();
            result(libc::waitid(libc::P_PID, child.id(), bad(), libc::WEXITED))
        }),
        ("sendfile, offset", || send_file(bad())),
        ("sendfile, offset that is constant", || send_file(constant())),
    ]);
}

fn receive_for(time: *mut timespec) -> Answer {
    let (here, there) = UnixDatagram::pair().unwrap();
    there.send(b"x").unwrap();
    let mut byte = 0_u8;
    let mut part = iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let mut message = mmsghdr { msg_hdr: message(&mut part, 1), msg_len: 0 };
    // SAFETY: one message; the kernel checks the time.
    result(unsafe { libc::recvmmsg(here.as_raw_fd(), &mut message, 1, 0, time) })
}

fn send_file(offset: *mut i64) -> Answer {
    let mut file = file();
    file.write_all(b"0123456789").unwrap();
    let (here, _there) = pair();
    // SAFETY: the kernel checks the offset.
    long(unsafe { libc::sendfile64(here.as_raw_fd(), file.as_raw_fd(), offset, 10) })
}

#[test]
fn lengths_that_are_none_are_errors() {
    // SAFETY: of all lines: the kernel refuses the length.
    same_lines(&[
        ("read", || by_length(|fd, place| unsafe { libc::read(fd, place, usize::MAX) })),
        ("write", || by_length(|fd, place| unsafe { libc::write(fd, place, usize::MAX) })),
        ("read of a pipe", || unsafe {
            let (end, _other) = pipe();
            long(libc::read(end.as_raw_fd(), [0_u8; 8].as_mut_ptr().cast(), usize::MAX))
        }),
        ("write to a pipe", || unsafe {
            let (_other, end) = pipe();
            long(libc::write(end.as_raw_fd(), [0_u8; 8].as_ptr().cast(), usize::MAX))
        }),
        ("of files", || unsafe {
            let (file, mut buffer) = (file(), [0_u8; 8]);
            let (fd, place) = (file.as_raw_fd(), buffer.as_mut_ptr().cast());
            let all = [
                long(libc::read(fd, place, usize::MAX)),
                long(libc::pread(fd, place, usize::MAX, 0)),
                long(libc::write(fd, place, usize::MAX)),
                long(libc::pwrite(fd, place, usize::MAX, 0)),
            ];
            assert_eq!(all, [Err(libc::EFAULT); 4]);
            all[0]
        }),
        ("of parts, where nothing is there", || unsafe {
            let (mut here, mut there) = tcp_pair();
            later(move || {
                there.write_all(b"x").unwrap();
                thread::sleep(Duration::from_secs(2));
            });
            assert_eq!(here.read(&mut [0; 8]).unwrap(), 1);
            let part = iovec { iov_base: [0_u8; 8].as_mut_ptr().cast(), iov_len: usize::MAX };
            let begin = Instant::now();
            let read = long(libc::readv(here.as_raw_fd(), &part, 1));
            assert!(begin.elapsed() < Duration::from_secs(1));
            read
        }),
    ]);
}

fn by_length(call: fn(c_int, *mut c_void) -> isize) -> Answer {
    let (here, mut there) = pair();
    there.write_all(b"x").unwrap();
    long(call(here.as_raw_fd(), [0_u8; 8].as_mut_ptr().cast()))
}

#[test]
fn a_select_of_all_numbers_there_are_is_quick() {
    patched(|| {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, with a bit for each number.
        let selected = spawn(move || unsafe {
            let set = libc::mmap(null_mut(), 1 << 28, access, flags, -1, 0).cast::<fd_set>();
            let (here, _there) = pair();
            libc::FD_SET(here.as_raw_fd(), &mut *set);
            let begin = Instant::now();
            let (none, mut time) = (null_mut(), SHORT);
            let selected = libc::select(c_int::MAX, set, none, none, &mut time);
            (selected, begin.elapsed() < Duration::from_secs(1))
        });
        assert_eq!(selected.join().unwrap(), (0, true));
    });
}

/// What errno is after a call that has succeeded, if it was another number before.
fn errno_after(call: impl FnOnce() -> i64) -> Answer {
    const BEFORE: c_int = 77;
    // SAFETY: this thread's own number.
    unsafe { *libc::__errno_location() = BEFORE };
    let result = call();
    // SAFETY: as above.
    let errno = unsafe { *libc::__errno_location() };
    assert!(result >= 0);
    Ok(errno.into())
}

#[test]
fn calls_that_succeed_leave_errno_alone() {
    // SAFETY: of all lines: buffers of the length that is said.
    same_lines(&[
        ("recv", || {
            let (here, mut there) = tcp_pair();
            later(move || there.write_all(b"x").unwrap());
            errno_after(|| unsafe {
                libc::recv(here.as_raw_fd(), [0_u8; 8].as_mut_ptr().cast(), 8, 0) as i64
            })
        }),
        ("read of a pipe", || {
            let (end, other) = pipe();
            later(move || File::from(other).write_all(b"x").unwrap());
            errno_after(|| unsafe {
                libc::read(end.as_raw_fd(), [0_u8; 8].as_mut_ptr().cast(), 8) as i64
            })
        }),
        ("write", || {
            let (here, mut there) = pair();
            later(move || drop(there.read_exact(&mut vec![0; 1 << 20])));
            let bytes = vec![0_u8; 1 << 20];
            errno_after(|| unsafe {
                libc::write(here.as_raw_fd(), bytes.as_ptr().cast(), 1 << 20) as i64
            })
        }),
        ("accept", || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            later(move || drop(TcpStream::connect(address).unwrap()));
            errno_after(|| unsafe {
                libc::accept(listener.as_raw_fd(), null_mut(), null_mut()).into()
            })
        }),
        ("poll", || {
            let (here, mut there) = pair();
            later(move || there.write_all(b"x").unwrap());
            let mut asked = pollfd { fd: here.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            errno_after(|| unsafe { libc::poll(&mut asked, 1, -1).into() })
        }),
        ("waitpid", || {
            let child = std::process::Command::new("sleep").arg("0.1").spawn().unwrap();
            errno_after(|| unsafe { libc::waitpid(child.id() as _, null_mut(), 0).into() })
        }),
        ("wait", || {
            let _child = std::process::Command::new("sleep").arg("0.1").spawn().unwrap();
            errno_after(|| unsafe { libc::wait(null_mut()).into() })
        }),
        ("of a file", || {
            let (file, bytes) = (file(), vec![0_u8; 20000]);
            errno_after(|| unsafe {
                libc::write(file.as_raw_fd(), bytes.as_ptr().cast(), 20000);
                libc::fsync(file.as_raw_fd()).into()
            })
        }),
        ("msgrcv", || {
            with_queue(|queue| {
                later(move || unsafe {
                    libc::msgsnd(queue, [1_i64, 5].as_ptr().cast(), 8, 0);
                });
                let mut place = [0_i64; 2];
                errno_after(|| unsafe {
                    libc::msgrcv(queue, place.as_mut_ptr().cast(), 8, 0, 0) as i64
                })
                .unwrap() as isize
            })
        }),
        ("system", || errno_after(|| unsafe { libc::system(c"true".as_ptr()).into() })),
    ]);
}

#[test]
fn any_handler_ends_what_is_never_restarted() {
    // SAFETY: of all lines: places as long as is said.
    same_lines(&[
        ("semop", || {
            signalled_later(libc::SA_RESTART);
            with_semaphore(|set| unsafe { semtimedop(set, &mut TAKE.clone(), 1, &millis(900)) })
        }),
        ("msgrcv", || {
            signalled_later(libc::SA_RESTART);
            with_queue(|queue| unsafe {
                let ended = thread::spawn(move || {
                    thread::sleep(Duration::from_millis(900));
                    libc::msgctl(queue, libc::IPC_RMID, null_mut());
                });
                let got = libc::msgrcv(queue, [0_i64; 2].as_mut_ptr().cast(), 8, 0, 0);
                drop(ended);
                got
            })
        }),
        ("ppoll", || unsafe {
            signalled_later(libc::SA_RESTART);
            result(libc::ppoll(null_mut(), 0, &millis(900), &other_mask()))
        }),
        ("pselect", || unsafe {
            signalled_later(libc::SA_RESTART);
            let none = null_mut::<fd_set>();
            result(libc::pselect(0, none, none, none, &millis(900), &other_mask()))
        }),
        ("epoll_pwait", || unsafe {
            signalled_later(libc::SA_RESTART);
            let epoll = OwnedFd::from_raw_fd(libc::epoll_create1(0));
            let mut event: epoll_event = zeroed();
            result(libc::epoll_pwait(epoll.as_raw_fd(), &mut event, 1, 900, &other_mask()))
        }),
    ]);
}

/// Differs from that of the thread.
fn other_mask() -> sigset_t {
    // SAFETY: a set that is empty before.
    unsafe {
        let mut mask: sigset_t = zeroed();
        libc::sigaddset(&mut mask, libc::SIGUSR2);
        mask
    }
}

static SIGNAL: AtomicI32 = AtomicI32::new(0);

extern "C" fn note(signal: c_int) {
    SIGNAL.store(signal, Relaxed);
}

/// The signal that a call brings about.
fn signal_of(signal: c_int, call: impl FnOnce() -> isize, error: c_int) -> Answer {
    handle(signal, note, 0);
    SIGNAL.store(0, Relaxed);
    assert_eq!(long(call()), Err(error));
    Ok(SIGNAL.load(Relaxed).into())
}

#[test]
fn calls_that_a_thread_makes_bring_about_their_signals() {
    // SAFETY: of all lines: buffers as long as is said, and new descriptors.
    same_lines(&[
        ("a file that gets too long", || unsafe {
            let (file, bytes) = (file(), vec![0_u8; 20000]);
            let most = libc::rlimit { rlim_cur: 1000, rlim_max: libc::RLIM_INFINITY };
            let mut before = most;
            libc::getrlimit(libc::RLIMIT_FSIZE, &mut before);
            libc::setrlimit(libc::RLIMIT_FSIZE, &libc::rlimit { rlim_cur: 1000, ..before });
            let write = || libc::write(file.as_raw_fd(), bytes.as_ptr().cast(), 20000);
            assert_eq!(write(), 1000);
            let signal = signal_of(libc::SIGXFSZ, write, libc::EFBIG);
            libc::setrlimit(libc::RLIMIT_FSIZE, &before);
            signal
        }),
        ("a pipe that nobody reads", || unsafe {
            let mut file = file();
            file.write_all(b"x").unwrap();
            let (_, end) = pipe();
            let mut offset = 0;
            let (to, from) = (end.as_raw_fd(), file.as_raw_fd());
            signal_of(libc::SIGPIPE, || libc::sendfile(to, from, &mut offset, 1), libc::EPIPE)
        }),
        ("but not a signal that is blocked", || unsafe {
            let mut set: sigset_t = zeroed();
            libc::sigaddset(&mut set, libc::SIGPIPE);
            libc::pthread_sigmask(libc::SIG_BLOCK, &set, null_mut());
            let mut file = file();
            file.write_all(b"x").unwrap();
            let (_, end) = pipe();
            let mut offset = 0;
            let (to, from) = (end.as_raw_fd(), file.as_raw_fd());
            let signal =
                signal_of(libc::SIGPIPE, || libc::sendfile(to, from, &mut offset, 1), libc::EPIPE);
            handle(libc::SIGPIPE, nothing, 0);
            libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, null_mut());
            signal
        }),
    ]);
}

#[test]
fn a_failed_waitid_says_so_in_its_place_too() {
    // SAFETY: a place for the answer.
    same_lines(&[("waitid", || unsafe {
        let mut about: siginfo_t = zeroed();
        (about.si_signo, about.si_code) = (7, 7);
        assert_eq!(libc::waitid(libc::P_ALL, 0, &mut about, libc::WEXITED), -1);
        Ok((about.si_signo + about.si_code).into())
    })]);
}

#[test]
fn sleeps_by_other_clocks_let_others_run() {
    patched(|| {
        let sleep = |clock| {
            // SAFETY: a valid time.
            let sleep = move || unsafe { libc::clock_nanosleep(clock, 0, &millis(50), null_mut()) };
            let begin = Instant::now();
            let all = [spawn(sleep), spawn(sleep), spawn(sleep), spawn(sleep)];
            let all = all.map(|one| one.join().unwrap());
            assert!(begin.elapsed() >= Duration::from_millis(50));
            all
        };
        assert_eq!(sleep(libc::CLOCK_TAI), [0; 4]);
        // The clock of the process moves for as long as this computes.
        static IS_OVER: AtomicBool = AtomicBool::new(false);
        let computes = thread::spawn(|| {
            while !IS_OVER.load(Relaxed) {
                std::hint::spin_loop();
            }
        });
        assert_eq!(sleep(libc::CLOCK_PROCESS_CPUTIME_ID), [0; 4]);
        IS_OVER.store(true, Relaxed);
        computes.join().unwrap();
        let blocked = monkey::blocked_calls();
        assert!(!format!("{blocked:?}").contains("clock_nanosleep"), "{blocked:?}");
    });
}

#[test]
fn options_of_waits_for_children_are_heard() {
    fn ended(options: c_int) -> Answer {
        let _child = std::process::Command::new("sleep").arg("0.1").spawn().unwrap();
        // SAFETY: no memory is involved.
        let child = unsafe { libc::waitpid(-1, null_mut(), options) };
        Ok((child > 0).into())
    }
    same_lines(&[
        ("of this thread", || ended(libc::__WNOTHREAD)),
        ("of all kinds", || ended(libc::__WALL)),
        // SAFETY: the child only makes system calls; the place is the answer's.
        ("of one that is traced", || unsafe {
            let child = libc::fork();
            if child == 0 {
                libc::usleep(50_000);
                libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0);
                libc::raise(libc::SIGSTOP);
                libc::_exit(0);
            }
            let mut status = 0;
            assert_eq!(libc::waitpid(child, &mut status, libc::__WALL), child);
            libc::kill(child, libc::SIGKILL);
            libc::waitpid(child, null_mut(), 0);
            Ok(status.into())
        }),
    ]);
}

#[test]
fn reads_end_without_bytes_as_they_are_set_to() {
    // SAFETY: of all lines: buffers as long as is said, and new descriptors.
    same_lines(&[
        ("a terminal, at once", || read_terminal(0, 0)),
        ("a terminal, by its clock", || read_terminal(0, 1)),
        ("a terminal, by its clock behind a byte", || read_terminal(5, 1)),
        ("a FIFO that nobody has opened to write", || unsafe {
            let path = std::env::temp_dir().join(format!("unwritten {}", std::process::id()));
            let path = std::ffi::CString::new(path.into_os_string().into_encoded_bytes()).unwrap();
            libc::unlink(path.as_ptr());
            assert_eq!(libc::mkfifo(path.as_ptr(), 0o600), 0);
            let end = libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_NONBLOCK);
            let end = OwnedFd::from_raw_fd(end);
            libc::unlink(path.as_ptr());
            libc::fcntl(end.as_raw_fd(), libc::F_SETFL, 0);
            long(libc::read(end.as_raw_fd(), [0_u8; 8].as_mut_ptr().cast(), 8))
        }),
        ("a stream of C that is written", || unsafe {
            let (_other, end) = pipe();
            let file = libc::fdopen(std::os::fd::IntoRawFd::into_raw_fd(end), c"w".as_ptr());
            let got = result(libc::fgetc(file));
            libc::fclose(file);
            got
        }),
    ]);
}

/// Reads a terminal with these settings, of which one byte can be read.
fn read_terminal(least: u8, tenths: u8) -> Answer {
    // SAFETY: places for the answers, and new descriptors.
    unsafe {
        let (mut here, mut there) = (0, 0);
        assert_eq!(libc::openpty(&mut here, &mut there, null_mut(), null(), null()), 0);
        let (here, there) = (File::from_raw_fd(here), OwnedFd::from_raw_fd(there));
        let mut settings: libc::termios = zeroed();
        libc::tcgetattr(there.as_raw_fd(), &mut settings);
        libc::cfmakeraw(&mut settings);
        (settings.c_cc[libc::VMIN], settings.c_cc[libc::VTIME]) = (least, tenths);
        libc::tcsetattr(there.as_raw_fd(), libc::TCSANOW, &settings);
        if least > 0 {
            (&here).write_all(b"x").unwrap();
        }
        long(libc::read(there.as_raw_fd(), [0_u8; 8].as_mut_ptr().cast(), 8))
    }
}

#[test]
fn what_is_said_of_a_socket_counts() {
    // SAFETY: of all lines: an option, a byte, and what is no address.
    same_lines(&[
        ("sendto, bad address", || unsafe {
            let (here, _there) = tcp_pair();
            long(libc::sendto(here.as_raw_fd(), c"x".as_ptr().cast(), 1, 0, bad(), 16))
        }),
        ("sendto, address of no length", || unsafe {
            let (here, _there) = tcp_pair();
            long(libc::sendto(here.as_raw_fd(), c"x".as_ptr().cast(), 1, 0, bad(), u32::MAX))
        }),
        ("a timeout by its new name", || unsafe {
            const SO_RCVTIMEO_NEW: c_int = 66;
            let (mut here, mut there) = pair();
            later(move || {
                there.write_all(b"x").unwrap();
                thread::sleep(Duration::from_millis(600));
                let _ = there.write_all(b"x");
            });
            assert_eq!(here.read(&mut [0]).unwrap(), 1);
            let (fd, time) = (here.as_raw_fd(), SHORT);
            let size = size_of::<timeval>() as u32;
            let place = (&raw const time).cast();
            libc::setsockopt(fd, libc::SOL_SOCKET, SO_RCVTIMEO_NEW, place, size);
            long(libc::recv(fd, [0_u8; 8].as_mut_ptr().cast(), 8, 0))
        }),
    ]);
}
