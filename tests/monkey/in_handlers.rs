//! What signal handlers call. They come in the middle of anything, also of this library.

use crate::patched;
use libc::{O_NONBLOCK, SA_RESTART, SIGPROF, SIGUSR1, c_int};
use std::hint::spin_loop;
use std::io::{Read, Write};
use std::mem::{MaybeUninit, zeroed};
use std::os::unix::net::UnixStream;
use std::ptr::{null, null_mut};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize};
use std::thread;
use std::time::{Duration, Instant};
use switchgrass::{sleep, spawn};

static CALLS: AtomicUsize = AtomicUsize::new(0);

/// Both ends of a pipe that does not block.
static PIPE: [AtomicI32; 2] = [const { AtomicI32::new(-1) }; 2];

/// Has coroutines wait, talk and yield while a handler comes again and again.
fn storm(signal: c_int, handler: extern "C" fn(c_int)) {
    patched(|| {
        let mut ends = [0; 2];
        // SAFETY: room for two numbers; all-zero is an action, with an empty mask.
        unsafe {
            assert_eq!(libc::pipe2(ends.as_mut_ptr(), O_NONBLOCK), 0);
            let mut action: libc::sigaction = zeroed();
            action.sa_sigaction = handler as *const () as usize;
            action.sa_flags = SA_RESTART;
            assert_eq!(libc::sigaction(signal, &action, null_mut()), 0);
        }
        PIPE.iter().zip(ends).for_each(|(end, number)| end.store(number, SeqCst));
        // SAFETY: no preconditions.
        let me = unsafe { libc::pthread_self() };
        let is_over = Arc::new(AtomicBool::new(false));
        let sender = thread::spawn({
            let is_over = Arc::clone(&is_over);
            move || {
                while !is_over.load(SeqCst) {
                    // SAFETY: the thread lives until this one has ended.
                    unsafe { libc::pthread_kill(me, signal) };
                    let start = Instant::now();
                    while start.elapsed() < Duration::from_micros(30) {
                        spin_loop();
                    }
                }
            }
        });
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(2) || CALLS.load(SeqCst) < 100 {
            let pairs: Vec<_> = (0..8).map(|_| spawn(talk)).collect();
            pairs.into_iter().for_each(|pair| pair.join().unwrap());
        }
        is_over.store(true, SeqCst);
        sender.join().unwrap();
        // A handler that has switched would leave its signal blocked.
        let mut mask = MaybeUninit::uninit();
        // SAFETY: room for the answer, which is looked at when it was given.
        let is_blocked = unsafe {
            assert_eq!(libc::pthread_sigmask(libc::SIG_BLOCK, null(), mask.as_mut_ptr()), 0);
            libc::sigismember(mask.as_ptr(), signal)
        };
        assert_eq!(is_blocked, 0);
    });
}

fn talk() {
    const ROUNDS: usize = 20;
    let (mut here, mut there) = UnixStream::pair().unwrap();
    let writer = spawn(move || {
        for _ in 0..ROUNDS {
            here.write_all(b"hello").unwrap();
            sleep(Duration::from_micros(50));
        }
    });
    let mut got = [0; 5];
    for _ in 0..ROUNDS {
        there.read_exact(&mut got).unwrap();
        assert_eq!(got, *b"hello");
        thread::yield_now();
    }
    writer.join().unwrap();
}

/// Leaves errno as it is, as a handler has to.
fn handle(body: impl FnOnce()) {
    // SAFETY: the thread's own place.
    let errno = unsafe { &mut *libc::__errno_location() };
    let before = *errno;
    body();
    *errno = before;
    CALLS.fetch_add(1, Relaxed);
}

extern "C" fn reads_and_writes(_: c_int) {
    // SAFETY: bytes to be written, and room for as many as is said.
    handle(|| unsafe {
        let mut room = [0_u8; 16];
        libc::write(PIPE[1].load(Relaxed), b"x".as_ptr().cast(), 1);
        libc::read(PIPE[0].load(Relaxed), room.as_mut_ptr().cast(), room.len());
        libc::waitpid(-1, null_mut(), libc::WNOHANG);
    });
}

extern "C" fn sleeps(_: c_int) {
    // SAFETY: no preconditions.
    handle(|| unsafe {
        libc::usleep(20);
    });
}

extern "C" fn makes_and_closes(_: c_int) {
    // SAFETY: room for two numbers, which are the handler's own.
    handle(|| unsafe {
        let mut ends = [0; 2];
        assert_eq!(libc::pipe2(ends.as_mut_ptr(), O_NONBLOCK), 0);
        libc::shutdown(ends[0], libc::SHUT_RDWR);
        libc::close(ends[0]);
        let copy = libc::dup(ends[1]);
        libc::dup2(ends[1], copy);
        libc::close(copy);
        libc::close(ends[1]);
    });
}

#[test]
fn handlers_that_read_end_no_process() {
    storm(SIGUSR1, reads_and_writes);
}

/// As that of a profiler, which reads to see whether a place can be read.
#[test]
fn handlers_of_clocks_that_read_end_no_process() {
    storm(SIGPROF, reads_and_writes);
}

#[test]
fn handlers_that_sleep_end_no_process() {
    storm(SIGUSR1, sleeps);
}

#[test]
fn handlers_that_close_wait_for_no_lock_of_their_own_thread() {
    storm(SIGUSR1, makes_and_closes);
}
