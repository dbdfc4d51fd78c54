//! Signals that end the calls of the kernel early.

use crate::tcp_pair;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use switchgrass::io::wait_readable;
use switchgrass::net::{TcpListener, TcpStream, UdpSocket};
use switchgrass::pool::unblock;
use switchgrass::{sleep, spawn, timeout};

static CAUGHT: AtomicU64 = AtomicU64::new(0);

extern "C" fn catch(_: libc::c_int) {
    CAUGHT.fetch_add(1, Relaxed);
}

/// Sends this thread one signal after the other while `body` runs, and returns how many it got.
fn under_signals(body: impl FnOnce()) -> u64 {
    // SAFETY: a handler that only counts, without SA_RESTART: calls that wait end with EINTR.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = catch as *const () as usize;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()), 0);
    }
    // SAFETY: no preconditions.
    let me = unsafe { libc::pthread_self() };
    let before = CAUGHT.load(Relaxed);
    let stop = Arc::new(AtomicBool::new(false));
    let sender = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            while !stop.load(Relaxed) {
                // SAFETY: the thread waits for this one before it ends.
                unsafe { libc::pthread_kill(me, libc::SIGUSR1) };
                std::thread::sleep(Duration::from_micros(100));
            }
        }
    });
    body();
    stop.store(true, Relaxed);
    sender.join().unwrap();
    CAUGHT.load(Relaxed) - before
}

/// No operation fails, is lost or comes too early because of a signal.
#[test]
fn signals_interrupt_nothing() {
    let caught = under_signals(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let echo = spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 4];
            for _ in 0..300 {
                stream.read_exact(&mut buffer).unwrap();
                sleep(Duration::from_micros(300));
                stream.write_all(&buffer).unwrap();
            }
        });
        let mut stream = TcpStream::connect(address).unwrap();
        for number in 0..300_u32 {
            stream.write_all(&number.to_le_bytes()).unwrap();
            let mut answer = [0; 4];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(u32::from_le_bytes(answer), number);
        }
        echo.join().unwrap();

        let (start, limit) = (Instant::now(), Duration::from_millis(20));
        sleep(limit);
        assert!(start.elapsed() >= limit);
        let start = Instant::now();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(!wait_readable(&socket, Some(limit)).unwrap());
        timeout(limit, || socket.recv(&mut [0; 8])).unwrap_err();
        assert!(start.elapsed() >= 2 * limit);
        unblock(|| std::thread::sleep(Duration::from_millis(20)));
    });
    assert!(caught > 100, "{caught} signals are too few to show anything");
}

/// Many bytes through small buffers, where every call waits.
#[test]
fn signals_lose_no_bytes() {
    const SIZE: usize = 4 << 20;
    let caught = under_signals(|| {
        let (mut here, mut there) = tcp_pair();
        let writer = spawn(move || {
            let bytes: Vec<u8> = (0..SIZE).map(|n| (n % 251) as u8).collect();
            there.write_all(&bytes).unwrap();
        });
        let mut got = Vec::new();
        let mut buffer = [0; 10_000];
        loop {
            match here.read(&mut buffer).unwrap() {
                0 => break,
                count => got.extend_from_slice(&buffer[..count]),
            }
            if got.len() % 7 == 0 {
                sleep(Duration::from_micros(200));
            }
        }
        assert!(got.iter().enumerate().all(|(at, byte)| *byte == (at % 251) as u8));
        assert_eq!(got.len(), SIZE);
        writer.join().unwrap();
    });
    assert!(caught > 0, "no signal has come");
}
