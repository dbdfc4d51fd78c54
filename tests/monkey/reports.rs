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
