//! Descriptors: pipes, flags, copies, ends, numbers that are used again.

use crate::{BLOCK, patched, row};
use std::io::{Error, ErrorKind, IoSlice, IoSliceMut, Read, Write, pipe};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};
use switchgrass::monkey::blocked_calls;
use switchgrass::{spawn, timeout, yield_now};

#[test]
fn read() {
    row(|| {
        let (mut reader, mut writer) = pipe().unwrap();
        thread::spawn(move || {
            thread::sleep(BLOCK + Duration::from_millis(2));
            writer.write_all(b"hello").unwrap();
        });
        let mut buffer = [0; 8];
        (reader.read(&mut buffer).unwrap(), buffer)
    });
}

#[test]
fn readv() {
    row(|| {
        let (mut reader, mut writer) = UnixStream::pair().unwrap();
        thread::spawn(move || {
            thread::sleep(BLOCK + Duration::from_millis(2));
            writer.write_all(b"hello").unwrap();
        });
        let (mut first, mut second) = ([0; 2], [0; 8]);
        let mut parts = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
        let count = reader.read_vectored(&mut parts).unwrap();
        (count, first, second)
    });
}

/// A megabyte into a pipe that holds much less.
fn writes(write: impl Fn(&mut std::io::PipeWriter, &[u8]) -> usize + Copy + Send + 'static) {
    row(move || {
        const SIZE: usize = 1 << 20;
        let (mut reader, mut writer) = pipe().unwrap();
        let reading = thread::spawn(move || {
            thread::sleep(BLOCK + Duration::from_millis(2));
            let mut all = Vec::new();
            reader.read_to_end(&mut all).unwrap();
            (0..SIZE).all(|at| all[at] == at as u8)
        });
        let bytes: Vec<u8> = (0..SIZE).map(|number| number as u8).collect();
        assert_eq!(write(&mut writer, &bytes), SIZE);
        drop(writer);
        while !reading.is_finished() {
            thread::yield_now();
        }
        reading.join().unwrap()
    });
}

#[test]
fn write() {
    writes(|pipe, bytes| pipe.write(bytes).unwrap());
}

#[test]
fn writev() {
    writes(|pipe, bytes| {
        let (first, second) = bytes.split_at(5000);
        pipe.write_vectored(&[IoSlice::new(first), IoSlice::new(&[]), IoSlice::new(second)])
            .unwrap()
    });
}

/// Whoever waits learns of it at once, and nobody else does.
#[test]
fn close() {
    patched(|| {
        let (here, _there) = UnixStream::pair().unwrap();
        let copy = here.try_clone().unwrap();
        let fd = here.as_raw_fd();
        let reading = spawn(move || {
            // SAFETY: room for a byte.
            let got = unsafe { libc::recv(fd, [0_u8; 1].as_mut_ptr().cast(), 1, 0) };
            (got, std::io::Error::last_os_error().raw_os_error())
        });
        let other = spawn(move || (&copy).read(&mut [0; 1]).unwrap());
        yield_now();
        drop(here);
        assert_eq!(reading.join().unwrap(), (-1, Some(libc::EBADF)));
        yield_now();
        assert!(!other.is_finished());
        other.kill();
    });
}

/// A thousand times: a descriptor is closed while a coroutine waits for it, and its number is used again at
/// once. The old one gets what came before that, or an error; the new one is waited for, and gets what is its
/// own.
#[test]
fn a_number_that_is_used_again_at_once() {
    patched(|| {
        for round in 0..1000_u32 {
            let (here, there) = UnixStream::pair().unwrap();
            let fd = here.as_raw_fd();
            let old = spawn(move || {
                // SAFETY: room for a byte.
                unsafe { libc::recv(fd, [0_u8; 1].as_mut_ptr().cast(), 1, 0) }
            });
            yield_now();
            let comes_before = round % 2 == 0;
            if comes_before {
                (&there).write_all(b"x").unwrap();
            }
            drop(here);
            let (mut new, mut giver) = UnixStream::pair().unwrap();
            assert_eq!(new.as_raw_fd(), fd);
            let reading = spawn(move || {
                let mut buffer = [0; 4];
                new.read_exact(&mut buffer).unwrap();
                u32::from_ne_bytes(buffer)
            });
            assert_eq!(old.join().unwrap(), if comes_before { 1 } else { -1 }, "in round {round}");
            yield_now();
            assert!(!reading.is_finished());
            giver.write_all(&round.to_ne_bytes()).unwrap();
            assert_eq!(reading.join().unwrap(), round);
        }
    });
}

/// Who waits for a number learns that it is closed, by whatever it is.
fn closes(high: bool, close: impl Fn(libc::c_int)) {
    patched(|| {
        let (here, _there) = UnixStream::pair().unwrap();
        // SAFETY: a number of its own.
        let fd = unsafe {
            let least = if high { 900 } else { 0 };
            libc::fcntl(here.as_raw_fd(), libc::F_DUPFD_CLOEXEC, least)
        };
        assert!(fd >= 0);
        let reading = spawn(move || {
            // SAFETY: room for a byte.
            let got = unsafe { libc::recv(fd, [0_u8; 1].as_mut_ptr().cast(), 1, 0) };
            (got, std::io::Error::last_os_error().raw_os_error())
        });
        yield_now();
        assert!(!reading.is_finished());
        close(fd);
        assert_eq!(reading.join().unwrap(), (-1, Some(libc::EBADF)));
        // SAFETY: no memory is involved.
        assert_eq!(unsafe { libc::fcntl(fd, libc::F_GETFD) }, -1);
    });
}

#[test]
fn fclose() {
    closes(false, |fd| {
        // SAFETY: a descriptor that is closed by it.
        let closed = unsafe { libc::fclose(libc::fdopen(fd, c"r".as_ptr())) };
        assert_eq!(closed, 0);
    });
}

#[test]
fn close_range() {
    closes(false, |fd| {
        let number = fd as libc::c_uint;
        // SAFETY: a descriptor that is nobody else's.
        assert_eq!(unsafe { libc::close_range(number, number, 0) }, 0);
    });
}

#[test]
fn closefrom() {
    unsafe extern "C" {
        fn closefrom(first: libc::c_int);
    }
    // SAFETY: nobody else has such a number.
    closes(true, |fd| unsafe { closefrom(fd) });
}

/// Between `vfork` and `exec` a child has its parent's memory, and descriptors of its own.
#[test]
fn a_child_that_closes_its_own() {
    extern "C" fn child(fd: *mut libc::c_void) -> libc::c_int {
        // SAFETY: a descriptor; nothing of the parent's is run.
        unsafe {
            let closed = libc::close(fd as usize as libc::c_int);
            libc::_exit(closed)
        }
    }

    patched(|| {
        let (mut here, mut there) = UnixStream::pair().unwrap();
        let fd = here.as_raw_fd();
        let reading = spawn(move || here.read(&mut [0; 8]).unwrap());
        yield_now();
        let mut stack = vec![0_u128; 1 << 13];
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        // SAFETY: a stack that is used until the child has ended, which is when this returns.
        let pid = unsafe {
            let top = stack.as_mut_ptr_range().end.cast();
            libc::clone(child, top, flags, fd as usize as *mut libc::c_void)
        };
        let mut status = -1;
        // SAFETY: a place for the status.
        assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
        assert_eq!(status, 0);
        yield_now();
        assert!(!reading.is_finished());
        there.write_all(b"hello").unwrap();
        assert_eq!(reading.join().unwrap(), 5);
    });
}

fn over(replace: impl Fn(libc::c_int, libc::c_int) -> libc::c_int) {
    let (here, _there) = UnixStream::pair().unwrap();
    let (mut other, mut giver) = UnixStream::pair().unwrap();
    other.write_all(b"not yet").unwrap();
    let fd = here.as_raw_fd();
    let old = spawn(move || {
        // SAFETY: room for a byte.
        unsafe { libc::recv(fd, [0_u8; 1].as_mut_ptr().cast(), 1, 0) }
    });
    yield_now();
    assert_eq!(replace(other.as_raw_fd(), fd), fd);
    assert_eq!(old.join().unwrap(), -1);
    giver.write_all(b"hello").unwrap();
    let mut buffer = [0; 8];
    assert_eq!((&here).read(&mut buffer).unwrap(), 5);
}

#[test]
fn dup2() {
    // SAFETY: two descriptors.
    patched(|| over(|from, to| unsafe { libc::dup2(from, to) }));
}

#[test]
fn dup3() {
    // SAFETY: two descriptors.
    patched(|| over(|from, to| unsafe { libc::dup3(from, to, libc::O_CLOEXEC) }));
}

/// A setting of a copy is one of the original's.
#[test]
fn dup() {
    patched(|| {
        let (here, _there) = UnixStream::pair().unwrap();
        let limit = Some(Duration::from_millis(5));
        here.set_read_timeout(limit).unwrap();
        assert_eq!((&here).read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock);
        // SAFETY: a descriptor, and a new one.
        let copy: UnixStream = unsafe { OwnedFd::from_raw_fd(libc::dup(here.as_raw_fd())).into() };
        copy.set_nonblocking(true).unwrap();
        here.set_read_timeout(None).unwrap();
        assert_eq!((&here).read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock);
    });
}

/// What the program sets is honoured, however it does so, and nothing else is set.
fn nonblocking(set: impl Fn(&TcpStream, bool)) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut here = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut there, _) = listener.accept().unwrap();
    // SAFETY: no memory is involved.
    let flags = |stream: &TcpStream| unsafe { libc::fcntl(stream.as_raw_fd(), libc::F_GETFL) };
    for stream in [&here, &there] {
        assert_eq!(flags(stream) & libc::O_NONBLOCK, 0);
    }
    there.write_all(b"x").unwrap();
    assert_eq!(here.read(&mut [0; 8]).unwrap(), 1);
    for _ in 0..3 {
        set(&here, true);
        assert_eq!(here.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(flags(&here) & libc::O_NONBLOCK, libc::O_NONBLOCK);
        set(&here, false);
        let mut reader = here.try_clone().unwrap();
        let reading = spawn(move || reader.read(&mut [0; 8]).unwrap());
        yield_now();
        there.write_all(b"hello").unwrap();
        assert_eq!(reading.join().unwrap(), 5);
    }
}

#[test]
fn ioctl() {
    patched(|| nonblocking(|stream, on| stream.set_nonblocking(on).unwrap()));
}

#[test]
fn fcntl() {
    patched(|| {
        nonblocking(|stream, on| {
            let flags = if on { libc::O_NONBLOCK } else { 0 };
            // SAFETY: no memory is involved.
            unsafe { libc::fcntl(stream.as_raw_fd(), libc::F_SETFL, flags) };
        });
    });
}

/// As for every pipe that is full: what is written is so as a whole, and in order.
#[test]
fn short_writes_to_a_pipe_that_is_read_slowly() {
    patched(|| {
        const LINE: &[u8; 64] = b"0123456789012345678901234567890123456789012345678901234567890123";
        let (mut reader, writer) = pipe().unwrap();
        let writers: Vec<_> = (0..20)
            .map(|_| {
                let mut writer = writer.try_clone().unwrap();
                spawn(move || (0..100).for_each(|_| assert_eq!(writer.write(LINE).unwrap(), 64)))
            })
            .collect();
        drop(writer);
        let (mut line, mut count) = ([0; 64], 0);
        while reader.read_exact(&mut line).is_ok() {
            assert_eq!(&line, LINE);
            count += 1;
            if count % 100 == 0 {
                thread::sleep(Duration::from_millis(1));
            }
        }
        assert_eq!(count, 2000);
        writers.into_iter().for_each(|writer| writer.join().unwrap());
    });
}

/// Signals that come at any moment, also in the middle of what the hub does, and a handler that writes.
#[test]
fn a_handler_that_writes_while_coroutines_take_turns() {
    static PIPE: std::sync::atomic::AtomicI32 = std::sync::atomic::AtomicI32::new(-1);
    extern "C" fn write_a_byte(_: libc::c_int) {
        let fd = PIPE.load(std::sync::atomic::Ordering::Relaxed);
        // SAFETY: a byte.
        unsafe { libc::write(fd, [1_u8].as_ptr().cast(), 1) };
    }
    patched(|| {
        let (mut reader, writer) = pipe().unwrap();
        PIPE.store(writer.as_raw_fd(), std::sync::atomic::Ordering::Relaxed);
        let tick = libc::timeval { tv_sec: 0, tv_usec: 100 };
        let every = libc::itimerval { it_interval: tick, it_value: tick };
        // SAFETY: a handler that makes one call, which a handler may make; a valid time.
        unsafe {
            libc::signal(libc::SIGALRM, write_a_byte as *const () as libc::sighandler_t);
            libc::setitimer(libc::ITIMER_REAL, &every, std::ptr::null_mut());
        }
        let got = std::rc::Rc::new(std::cell::Cell::new(0));
        let reading = spawn({
            let got = std::rc::Rc::clone(&got);
            move || {
                let mut buffer = [0; 256];
                while got.get() < 2000 {
                    got.set(got.get() + reader.read(&mut buffer).unwrap());
                }
            }
        });
        while got.get() < 2000 {
            let all: Vec<_> = (0..10).map(|_| spawn(yield_now)).collect();
            all.into_iter().for_each(|one| one.join().unwrap());
        }
        reading.join().unwrap();
        // SAFETY: no preconditions.
        unsafe { libc::signal(libc::SIGALRM, libc::SIG_IGN) };
    });
}

/// The hub may hear later of the close than of the event, and the close has ended all that the number was.
#[test]
fn what_came_before_another_thread_closes_is_read_whenever_the_hub_hears_of_it() {
    const TASKS: u8 = 16;
    const ROUNDS: usize = 200;
    let read_then_closed = |number: u8| {
        let (here, mut there) = UnixStream::pair().unwrap();
        let fd = here.as_raw_fd();
        let reader = spawn(move || {
            let mut bytes = [0_u8; 8];
            // SAFETY: room for as many bytes as is said.
            let got = unsafe { libc::read(fd, bytes.as_mut_ptr().cast(), bytes.len()) };
            (got, (got < 0).then(|| Error::last_os_error().raw_os_error()).flatten(), bytes)
        });
        yield_now();
        let has_data = number.is_multiple_of(2);
        if has_data {
            there.write_all(&[number; 8]).unwrap();
        }
        thread::spawn(move || drop(here)).join().unwrap();
        let expected = match has_data {
            true => (8, None, [number; 8]),
            false => (-1, Some(libc::EBADF), [0; 8]),
        };
        assert_eq!(reader.join().unwrap(), expected);
    };
    patched(|| {
        for _ in 0..ROUNDS {
            let all: Vec<_> =
                (0..TASKS).map(|number| spawn(move || read_then_closed(number))).collect();
            all.into_iter().for_each(|task| task.join().unwrap());
        }
    });
}

/// The number that a descriptor gets which is opened now. It shows how many there are.
fn next_number() -> libc::c_int {
    let (reader, _writer) = pipe().unwrap();
    reader.as_raw_fd()
}

/// Calls `body` with no room for any further descriptor: there are more than this limit already.
fn without_descriptors<R>(body: impl FnOnce() -> R) -> R {
    let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a place for a limit, and a limit, of the kind that the calls want.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut before);
        libc::setrlimit(libc::RLIMIT_NOFILE, &libc::rlimit { rlim_cur: 5, ..before });
    }
    let result = body();
    // SAFETY: as before.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &before) };
    result
}

/// The time of the processor that this thread has used.
fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a place for a time.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// A stream that the hub has registered for itself already, so that a call of C's needs a copy to wait.
fn registered() -> (switchgrass::net::UnixStream, switchgrass::net::UnixStream) {
    let (mut reader, mut writer) = switchgrass::net::UnixStream::pair().unwrap();
    let waiting = spawn(move || {
        reader.read_exact(&mut [0]).unwrap();
        reader
    });
    yield_now();
    writer.write_all(b"1").unwrap();
    (waiting.join().unwrap(), writer)
}

/// One that a coroutine waits for by this library, and another by C.
#[test]
fn a_wait_by_this_library_goes_on_when_c_waits_for_the_same_descriptor() {
    patched(|| {
        let (mut reader, mut writer) = registered();
        let fd = reader.as_raw_fd();
        let waiting = spawn(move || {
            let mut byte = [0];
            reader.read_exact(&mut byte).unwrap();
            byte
        });
        yield_now();
        let mut question = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        // SAFETY: one question.
        assert_eq!(unsafe { libc::poll(&mut question, 1, 5) }, 0);
        writer.write_all(b"2").unwrap();
        let byte = timeout(Duration::from_secs(10), move || waiting.join().unwrap());
        assert_eq!(byte, Ok(*b"2"), "it has lost its events");
    });
}

/// There is no descriptor left for the registration: a wait looks by itself now and then, and the next one that
/// comes when there are some is registered.
#[test]
fn waits_without_resources_for_a_registration_neither_hold_up_nor_spin_nor_stay_so() {
    patched(|| {
        let waits: [fn(libc::c_int) -> isize; 2] = [
            // SAFETY: room for a byte.
            |fd| unsafe { libc::recv(fd, [0_u8].as_mut_ptr().cast(), 1, 0) },
            |fd| {
                let mut question = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
                // SAFETY: one question.
                unsafe { libc::poll(&mut question, 1, -1) as isize }
            },
        ];
        for wait in waits {
            let (reader, mut writer) = registered();
            let fd = reader.as_raw_fd();
            // SAFETY: no memory is involved.
            assert_eq!(unsafe { libc::fcntl(fd, libc::F_SETFL, libc::O_RDWR) }, 0);
            let begun = next_number();
            let spent = without_descriptors(|| {
                let waiting = spawn(move || wait(fd));
                let before = processor_time();
                switchgrass::sleep(BLOCK);
                let spent = processor_time() - before;
                assert!(!waiting.is_finished());
                writer.write_all(b"3").unwrap();
                assert_eq!(waiting.join().unwrap(), 1);
                spent
            });
            assert!(spent < BLOCK / 2, "it spins: {spent:?}");
            assert_eq!(next_number(), begun, "there is a registration");
            // SAFETY: room for what is left, if anything is.
            unsafe { libc::recv(fd, [0_u8].as_mut_ptr().cast(), 1, libc::MSG_DONTWAIT) };
            let waiting = spawn(move || wait(fd));
            yield_now();
            assert!(next_number() > begun, "there is none, though it could be had");
            writer.write_all(b"4").unwrap();
            assert_eq!(waiting.join().unwrap(), 1);
        }
        assert_eq!(blocked_calls(), []);
    });
}

/// Another thread has used the connection, and computes.
#[test]
fn a_peer_sees_the_end_at_once_though_a_busy_thread_knows_the_number() {
    patched(|| {
        let (here, mut there) = UnixStream::pair().unwrap();
        there.write_all(b"x").unwrap();
        let (is_read, read) = std::sync::mpsc::channel();
        static IS_SEEN: AtomicBool = AtomicBool::new(false);
        // SAFETY: it is forgotten below, and closed by its owner.
        let mut own = unsafe { std::fs::File::from_raw_fd(here.as_raw_fd()) };
        let busy = thread::spawn(move || {
            let used = spawn(move || {
                own.read_exact(&mut [0]).unwrap();
                std::mem::forget(own);
            });
            used.join().unwrap();
            is_read.send(()).unwrap();
            // Its hub has no turn until then.
            let start = Instant::now();
            while !IS_SEEN.load(Relaxed) && start.elapsed() < Duration::from_secs(10) {
                std::hint::spin_loop();
            }
        });
        read.recv().unwrap();
        drop(here);
        there.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let end = there.read(&mut [0]).map_err(|error| error.kind());
        IS_SEEN.store(true, Relaxed);
        assert_eq!(end, Ok(0));
        busy.join().unwrap();
    });
}
