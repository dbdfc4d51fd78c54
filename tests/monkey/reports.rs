//! What the library says about its patches.

use crate::{alone, patched};
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::Duration;
use switchgrass::monkey::{Patch, What, blocked_calls, report};
use switchgrass::spawn;

/// In a callback there is nobody to switch to.
#[test]
fn calls_that_hold_up_a_hub_are_counted_by_name() {
    patched(|| {
        spawn(|| thread::sleep(Duration::from_millis(1))).join().unwrap();
        assert_eq!(blocked_calls(), []);
        let ended = spawn(|| ());
        ended.link_in_hub(|| thread::sleep(Duration::from_millis(1)));
        ended.join().unwrap();
        switchgrass::yield_now();
        assert_eq!(blocked_calls(), [("clock_nanosleep", 1)]);
        let text = report().to_string();
        assert!(
            text.ends_with("calls that held up a hub's thread:\n  clock_nanosleep: 1"),
            "{text}"
        );
    });
}

/// It may have been called so because it must not wait.
#[test]
fn a_call_that_says_that_it_must_not_wait_is_not_counted_as_one_that_blocks() {
    patched(|| {
        spawn(|| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let (fd, flags, mut byte) = (socket.as_raw_fd(), libc::MSG_DONTWAIT, [0_u8]);
            // SAFETY: room for a byte.
            let got = unsafe { libc::recv(fd, byte.as_mut_ptr().cast(), 1, flags) };
            let error = std::io::Error::last_os_error();
            assert_eq!((got, error.kind()), (-1, ErrorKind::WouldBlock));
            let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
            // SAFETY: all-zero is a message of nothing.
            let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
            (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
            // SAFETY: a message with room for a byte.
            assert_eq!(unsafe { libc::recvmsg(fd, &mut message, flags) }, -1);
            socket.connect(socket.local_addr().unwrap()).unwrap();
            // SAFETY: a byte.
            assert_eq!(unsafe { libc::send(fd, byte.as_ptr().cast(), 1, flags) }, 1);
        })
        .join()
        .unwrap();
        assert_eq!(blocked_calls(), []);
    });
}

/// The call is made by its own thread, and that is all: there is no panic to be printed.
#[cfg_attr(feature = "sanitizer", ignore = "its runtime needs address space")]
#[test]
fn a_call_for_which_there_is_no_thread_is_counted_and_prints_no_panic() {
    patched(|| {
        static PANICS: AtomicU32 = AtomicU32::new(0);
        std::panic::set_hook(Box::new(|_| {
            PANICS.fetch_add(1, Relaxed);
        }));
        let file = std::fs::File::open(file!()).unwrap();
        let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        let synced = spawn(move || {
            // SAFETY: a place for a limit, and a limit, of the kind that the calls want. No stack can be mapped.
            unsafe {
                libc::getrlimit(libc::RLIMIT_AS, &mut before);
                libc::setrlimit(libc::RLIMIT_AS, &libc::rlimit { rlim_cur: 1, ..before });
            }
            // SAFETY: no memory is involved.
            let synced = unsafe { libc::fsync(file.as_raw_fd()) };
            // SAFETY: as before.
            unsafe { libc::setrlimit(libc::RLIMIT_AS, &before) };
            synced
        });
        assert_eq!(synced.join().unwrap(), 0);
        assert_eq!(blocked_calls(), [("fsync", 1)]);
        assert_eq!(PANICS.load(Relaxed), 0, "a panic was printed");
    });
}

/// Standard output was a terminal, and is a pipe that is full now, by whatever way it has become that: a write there
/// that holds up the thread is counted.
#[test]
fn output_that_was_a_terminal_is_counted_when_it_holds_up_its_thread_as_a_pipe() {
    type Become = fn(libc::c_int);
    let ways: [(&str, Become); 5] = [
        // SAFETY: no memory is involved.
        ("dup2", |to| assert_eq!(unsafe { libc::dup2(to, 1) }, 1)),
        // SAFETY: no memory is involved.
        ("dup3", |to| assert_eq!(unsafe { libc::dup3(to, 1, 0) }, 1)),
        // SAFETY: no memory is involved.
        ("close, dup", |to| assert_eq!(unsafe { (libc::close(1), libc::dup(to)) }, (0, 1))),
        ("close_range, dup", |to| {
            // SAFETY: no memory is involved.
            assert_eq!(unsafe { (libc::close_range(1, 1, 0), libc::dup(to)) }, (0, 1));
        }),
        ("freopen", |to| {
            let path = std::ffi::CString::new(format!("/proc/self/fd/{to}")).unwrap();
            unsafe extern "C" {
                static stdout: *mut libc::FILE;
            }
            // SAFETY: two strings, and a stream of C's.
            assert!(!unsafe { libc::freopen(path.as_ptr(), c"w".as_ptr(), stdout) }.is_null());
        }),
    ];
    patched(move || {
        // SAFETY: no memory is involved.
        let before = unsafe { libc::dup(1) };
        let (mut other, mut terminal, none) = (0, 0, std::ptr::null_mut());
        // SAFETY: two places.
        unsafe { libc::openpty(&mut other, &mut terminal, none, none.cast(), none.cast()) };
        for (number, (name, become_a_pipe)) in ways.into_iter().enumerate() {
            // SAFETY: no memory is involved.
            assert_eq!(unsafe { libc::dup2(terminal, 1) }, 1);
            // SAFETY: as many bytes as is said.
            let write = || unsafe { libc::write(1, [b' '; 4096].as_ptr().cast(), 4096) };
            // SAFETY: as above.
            spawn(|| assert_eq!(unsafe { libc::write(1, c" ".as_ptr().cast(), 1) }, 1))
                .join()
                .unwrap();
            let (mut reader, writer) = std::io::pipe().unwrap();
            // SAFETY: as many bytes as is said.
            while unsafe {
                let part =
                    libc::iovec { iov_base: [0_u8; 4096].as_mut_ptr().cast(), iov_len: 4096 };
                libc::pwritev2(writer.as_raw_fd(), &part, 1, -1, libc::RWF_NOWAIT)
            } > 0
            {}
            become_a_pipe(writer.as_raw_fd());
            let drain = thread::spawn(move || {
                thread::sleep(Duration::from_millis(20));
                std::io::Read::read(&mut reader, &mut [0; 1 << 16]).unwrap();
                reader
            });
            assert_eq!(spawn(write).join().unwrap(), 4096, "{name}");
            assert_eq!(blocked_calls(), [("write", number as u64 + 1)], "{name}");
            drop(drain.join().unwrap());
        }
        // SAFETY: no memory is involved.
        unsafe { libc::dup2(before, 1) };
    });
}

#[test]
fn a_report_says_what_is_patched_and_what_is_not() {
    alone(|| {
        let before = report();
        assert_eq!(before.kinds(), []);
        assert!(before.to_string().starts_with("patched: nothing\nnot patched: Sockets, Sleep, "));
        Patch::new().sleep().sockets().apply();
        let after = report();
        assert_eq!(after.kinds(), [What::Sockets, What::Sleep]);
        assert_eq!(after.foreign(), []);
        assert!(after.carries_panics());
        let text = after.to_string();
        assert!(text.starts_with("patched: Sockets, Sleep\nnot patched: Sync, "), "{text}");
        assert!(text.contains("count of panics: found"), "{text}");
        assert!(text.ends_with("calls that held up a hub's thread: none"), "{text}");
    });
}
