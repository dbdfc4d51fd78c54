//! What the other end does: closes, resets, ends one direction, takes little at a time.

use crate::{kind, tcp_pair};
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::time::Duration;
use switchgrass::coroutine::join_all;
use switchgrass::net::{TcpStream, UnixStream};
use switchgrass::{sleep, spawn, yield_now};

fn set_option<T>(socket: RawFd, option: libc::c_int, value: &T) {
    let length = size_of::<T>() as libc::socklen_t;
    let place = (&raw const *value).cast();
    // SAFETY: a value of the length that is said.
    let set = unsafe { libc::setsockopt(socket, libc::SOL_SOCKET, option, place, length) };
    assert_eq!(set, 0);
}

/// Closes a stream so that the other end is told of it by a reset.
pub(crate) fn reset(stream: TcpStream) {
    let now = libc::linger { l_onoff: 1, l_linger: 0 };
    set_option(stream.as_raw_fd(), libc::SO_LINGER, &now);
}

/// Writes until it fails.
fn write_until_it_fails(mut stream: &TcpStream) -> ErrorKind {
    loop {
        if let Err(error) = stream.write(b"anybody?") {
            return error.kind();
        }
        yield_now();
    }
}

/// {test_close}: the end, for all who read, again and again; who writes is told a little later.
#[test]
fn the_other_end_closes() {
    let (here, there) = tcp_pair();
    let here = Rc::new(here);
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let here = Rc::clone(&here);
            spawn(move || (&*here).read(&mut [0; 8]).unwrap())
        })
        .collect();
    yield_now();
    drop(there);
    assert!(join_all(readers).into_iter().all(|count| count.unwrap() == 0));
    for _ in 0..3 {
        assert_eq!((&*here).read(&mut [0; 8]).unwrap(), 0);
    }
    // The first one is sent, and answered by a reset.
    let failed = write_until_it_fails(&here);
    assert!(matches!(failed, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{failed:?}");
    assert_eq!(write_until_it_fails(&here), ErrorKind::BrokenPipe);
}

/// The reset is told once, to one who reads or writes; then it is the end to one, a broken pipe to the other.
#[test]
fn the_other_end_resets() {
    let (here, there) = tcp_pair();
    let here = Rc::new(here);
    let reader = spawn({
        let here = Rc::clone(&here);
        move || (&*here).read(&mut [0; 8]).map_err(|error| error.kind())
    });
    yield_now();
    reset(there);
    assert_eq!(reader.join().unwrap(), Err(ErrorKind::ConnectionReset));
    assert_eq!(kind((&*here).write(b"x")), ErrorKind::BrokenPipe);
    assert_eq!((&*here).read(&mut [0; 8]).unwrap(), 0);
}

/// One who waits for room to write is told as well.
#[test]
fn a_reset_wakes_who_writes() {
    let (mut here, there) = tcp_pair();
    let writer = spawn(move || here.write_all(&vec![0; 64 << 20]).map_err(|error| error.kind()));
    while writer.waits_for() != Some("TcpStream::write") {
        yield_now();
    }
    reset(there);
    assert_eq!(writer.join().unwrap(), Err(ErrorKind::ConnectionReset));
}

/// {test_shutdown}: one direction after the other, from both ends; who waits is woken by his own end too.
#[test]
fn half_of_it_is_closed_from_both_ends() {
    let (here, there) = tcp_pair();
    let here = Rc::new(here);
    here.shutdown(Shutdown::Write).unwrap();
    assert_eq!(kind((&*here).write(b"x")), ErrorKind::BrokenPipe);
    let mut there = there;
    assert_eq!(there.read(&mut [0; 8]).unwrap(), 0);
    // The other direction is as it was.
    for _ in 0..3 {
        there.write_all(b"hello").unwrap();
        let mut buffer = [0; 5];
        (&*here).read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"hello");
    }
    let reader = spawn({
        let here = Rc::clone(&here);
        move || (&*here).read(&mut [0; 8]).unwrap()
    });
    yield_now();
    there.shutdown(Shutdown::Write).unwrap();
    assert_eq!(reader.join().unwrap(), 0);

    let (here, _there) = tcp_pair();
    let here = Rc::new(here);
    let reader = spawn({
        let here = Rc::clone(&here);
        move || (&*here).read(&mut [0; 8]).unwrap()
    });
    yield_now();
    here.shutdown(Shutdown::Read).unwrap();
    assert_eq!(reader.join().unwrap(), 0);
    (&*here).write_all(b"goes on").unwrap();
}

/// {test_shutdown_when_closed}: an error, and no crash.
#[test]
fn test_shutdown_when_closed() {
    let (here, mut there) = tcp_pair();
    here.close();
    assert_eq!(here.shutdown(Shutdown::Both).unwrap_err().raw_os_error(), Some(libc::EBADF));
    here.close();
    // The other end sees it, though the handle is there still.
    assert_eq!(there.read(&mut [0; 8]).unwrap(), 0);
    assert_eq!(here.try_clone().unwrap_err().raw_os_error(), Some(libc::EBADF));
    assert_eq!(here.into_std().unwrap_err().raw_os_error(), Some(libc::EBADF));
}

/// {test_sendall_str, test_sendall_array}, with the smallest of buffers: two who write several megabytes each to
/// one stream, in pieces that the kernel cuts. Every byte of both arrives once, and those of one in order.
#[test]
fn test_sendall() {
    const SIZE: usize = 3 << 20;
    let (here, mut there) = UnixStream::pair().unwrap();
    set_option(here.as_raw_fd(), libc::SO_SNDBUF, &1_i32);
    let here = Rc::new(here);
    // Odd bytes are of one, even bytes of the other.
    let writers: Vec<_> = (0..2_usize)
        .map(|odd| {
            let here = Rc::clone(&here);
            spawn(move || {
                let bytes: Vec<u8> = (0..SIZE).map(|n| (n % 126 * 2 + odd) as u8).collect();
                (&*here).write_all(&bytes).unwrap();
            })
        })
        .collect();
    drop(here);
    let mut seen = [0_usize; 2];
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = there.read(&mut buffer).unwrap();
        if count == 0 {
            break;
        }
        for byte in &buffer[..count] {
            let of = usize::from(byte % 2);
            assert_eq!(usize::from(byte / 2), seen[of] % 126);
            seen[of] += 1;
        }
    }
    assert_eq!(seen, [SIZE; 2]);
    join_all(writers).into_iter().for_each(|ended| ended.unwrap());
}

/// {test_sendall_empty, test_sendall_empty_with_timeout, test_empty_send}
#[test]
fn test_empty_send() {
    let (mut here, mut there) = tcp_pair();
    here.set_write_timeout(Some(Duration::from_millis(1))).unwrap();
    here.write_all(b"").unwrap();
    assert_eq!(here.write(b"").unwrap(), 0);
    drop(here);
    assert_eq!(there.read(&mut [0; 8]).unwrap(), 0);
}

/// {test_sendall_nonblocking}: what would have to wait fails instead, and nobody else has run.
#[test]
fn test_sendall_nonblocking() {
    let (mut here, mut there) = tcp_pair();
    let other = spawn(|| ());
    here.set_nonblocking(true).unwrap();
    assert_eq!(kind(here.read(&mut [0; 8])), ErrorKind::WouldBlock);
    assert_eq!(kind(here.write_all(&vec![7; 64 << 20])), ErrorKind::WouldBlock);
    let mut copy = here.try_clone().unwrap();
    assert_eq!(kind(copy.read(&mut [0; 8])), ErrorKind::WouldBlock);
    assert!(!other.is_finished());
    there.write_all(b"hello").unwrap();
    there.shutdown(Shutdown::Write).unwrap();
    copy.set_nonblocking(false).unwrap();
    let mut text = String::new();
    copy.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
    // It blocks again, and the one who waits gets what has become possible.
    here.set_nonblocking(false).unwrap();
    let drained = spawn(move || std::io::copy(&mut there, &mut std::io::sink()).unwrap());
    here.write_all(b"last").unwrap();
    drop((here, copy));
    assert!(drained.join().unwrap() > 4);
    other.join().unwrap();
}

/// {test_socketpair}, and both halves of each end at work.
#[test]
fn test_socketpair() {
    let (here, there) = UnixStream::pair().unwrap();
    let (mut read_here, mut write_here) = here.into_split();
    let (mut read_there, mut write_there) = there.into_split();
    let echo = spawn(move || std::io::copy(&mut read_there, &mut write_there).unwrap());
    let writer = spawn(move || write_here.write_all(&vec![9; 1 << 20]).unwrap());
    let mut got = Vec::new();
    let reader = spawn(move || read_here.read_to_end(&mut got).map(|_| got).unwrap());
    assert_eq!(reader.join().unwrap(), vec![9; 1 << 20]);
    writer.join().unwrap();
    assert_eq!(echo.join().unwrap(), 1 << 20);
}

/// {test_recv_twice}, where this library deviates: each byte comes to exactly one of several who read, and to who
/// came first when all wait.
#[test]
fn test_recv_twice() {
    const COUNT: u8 = 250;
    let (here, mut there) = UnixStream::pair().unwrap();
    let here = Rc::new(here);
    let readers: Vec<_> = (0..5_usize)
        .map(|size| {
            let here = Rc::clone(&here);
            spawn(move || {
                let mut got = Vec::new();
                let mut buffer = vec![0; size + 1];
                loop {
                    match (&*here).read(&mut buffer).unwrap() {
                        0 => return got,
                        count => got.extend_from_slice(&buffer[..count]),
                    }
                }
            })
        })
        .collect();
    for byte in 0..COUNT {
        there.write_all(&[byte]).unwrap();
        if byte % 9 == 0 {
            sleep(Duration::from_micros(100));
        }
    }
    drop(there);
    let mut all: Vec<u8> = join_all(readers).into_iter().flat_map(|got| got.unwrap()).collect();
    all.sort_unstable();
    assert_eq!(all, (0..COUNT).collect::<Vec<_>>());
}
