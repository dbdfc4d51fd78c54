//! `std::net` and its like.

use crate::{BLOCK, patched, row};
use libc::c_int;
use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};
use switchgrass::coroutine::join_all;
use switchgrass::{JoinError, spawn, timeout, yield_now};

/// Does something a while later, on a thread of its own.
fn later(f: impl FnOnce() + Send + 'static) {
    thread::spawn(|| {
        thread::sleep(BLOCK + Duration::from_millis(2));
        f();
    });
}

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let here = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (here, listener.accept().unwrap().0)
}

#[test]
fn recv() {
    row(|| {
        let (mut here, mut there) = tcp_pair();
        later(move || there.write_all(b"hello").unwrap());
        let mut buffer = [0; 8];
        (here.read(&mut buffer).unwrap(), buffer)
    });
}

#[test]
fn recvfrom() {
    row(|| {
        let (here, there) =
            (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let address = here.local_addr().unwrap();
        later(move || _ = there.send_to(b"hello", address).unwrap());
        here.recv_from(&mut [0; 8]).unwrap().0
    });
}

#[test]
fn recvmsg() {
    row(|| {
        let (here, there) = UnixDatagram::pair().unwrap();
        later(move || _ = there.send(b"hello").unwrap());
        let mut buffer = [0; 8];
        let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        // SAFETY: all-zero is a message of nothing.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
        // SAFETY: a message with room.
        unsafe { libc::recvmsg(std::os::fd::AsRawFd::as_raw_fd(&here), &mut message, 0) }
    });
}

/// What C calls when it is told how much room there is.
mod c {
    use libc::{c_int, c_void, sockaddr, socklen_t, ssize_t};

    unsafe extern "C" {
        pub(super) fn __recv_chk(
            fd: c_int,
            buffer: *mut c_void,
            length: usize,
            room: usize,
            flags: c_int,
        ) -> ssize_t;
        pub(super) fn __recvfrom_chk(
            fd: c_int,
            buffer: *mut c_void,
            length: usize,
            room: usize,
            flags: c_int,
            address: *mut sockaddr,
            address_room: *mut socklen_t,
        ) -> ssize_t;
        pub(super) fn __read_chk(
            fd: c_int,
            buffer: *mut c_void,
            length: usize,
            room: usize,
        ) -> ssize_t;
    }
}

fn receives(call: impl Fn(c_int, &mut [u8; 8]) -> isize + Copy + Send + 'static) {
    row(move || {
        let (here, mut there) = tcp_pair();
        later(move || there.write_all(b"hello").unwrap());
        let mut buffer = [0; 8];
        (call(here.as_raw_fd(), &mut buffer), buffer)
    });
}

#[test]
fn __recv_chk() {
    // SAFETY: a buffer.
    receives(|fd, buffer| unsafe { c::__recv_chk(fd, buffer.as_mut_ptr().cast(), 8, 8, 0) });
}

#[test]
fn __recvfrom_chk() {
    // SAFETY: a buffer, and no place for the address.
    receives(|fd, buffer| unsafe {
        let buffer = buffer.as_mut_ptr().cast();
        c::__recvfrom_chk(fd, buffer, 8, 8, 0, std::ptr::null_mut(), std::ptr::null_mut())
    });
}

#[test]
fn __read_chk() {
    // SAFETY: a buffer.
    receives(|fd, buffer| unsafe { c::__read_chk(fd, buffer.as_mut_ptr().cast(), 8, 8) });
}

/// A message for each buffer.
fn messages<const N: usize>(parts: &mut [libc::iovec; N]) -> [libc::mmsghdr; N] {
    // SAFETY: all-zero is a message of nothing.
    let mut all: [libc::mmsghdr; N] = unsafe { std::mem::zeroed() };
    for (message, part) in all.iter_mut().zip(parts) {
        (message.msg_hdr.msg_iov, message.msg_hdr.msg_iovlen) = (part, 1);
    }
    all
}

/// It waits for all of them, unless it is told to do with one.
#[test]
fn recvmmsg() {
    row(|| {
        let (here, there) = UnixDatagram::pair().unwrap();
        there.send(b"first").unwrap();
        let other = there.try_clone().unwrap();
        later(move || _ = other.send(b"second!").unwrap());
        let mut buffers = [[0_u8; 8]; 2];
        let mut parts = buffers.each_mut().map(|buffer| libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        });
        let mut all = messages(&mut parts);
        let mut time = libc::timespec { tv_sec: 50, tv_nsec: 0 };
        let fd = here.as_raw_fd();
        // SAFETY: two messages with room, and a time.
        let got = unsafe { libc::recvmmsg(fd, all.as_mut_ptr(), 2, 0, &mut time) };
        let lengths = all.map(|message| message.msg_len);
        assert!(time.tv_sec < 50);
        there.send(b"x").unwrap();
        let flags = libc::MSG_WAITFORONE;
        // SAFETY: two messages with room.
        let one = unsafe { libc::recvmmsg(fd, all.as_mut_ptr(), 2, flags, std::ptr::null_mut()) };
        (got, lengths, one)
    });
}

/// More than fits: all of it is written, as where it blocks.
fn sends(write: impl Fn(&mut TcpStream, &[u8]) -> usize + Copy + Send + 'static) {
    row(move || {
        const SIZE: usize = 8 << 20;
        let (mut here, mut there) = tcp_pair();
        let reading = thread::spawn(move || {
            thread::sleep(BLOCK + Duration::from_millis(2));
            let mut all = Vec::new();
            there.read_to_end(&mut all).unwrap();
            all.len()
        });
        let written = write(&mut here, &vec![1; SIZE]);
        assert_eq!(written, SIZE);
        here.shutdown(Shutdown::Write).unwrap();
        while !reading.is_finished() {
            thread::yield_now();
        }
        reading.join().unwrap()
    });
}

#[test]
fn send() {
    sends(|stream, bytes| stream.write(bytes).unwrap());
}

#[test]
fn sendto() {
    sends(|stream, bytes| {
        let fd = std::os::fd::AsRawFd::as_raw_fd(stream);
        // SAFETY: a buffer of that length, no address.
        let sent =
            unsafe { libc::sendto(fd, bytes.as_ptr().cast(), bytes.len(), 0, std::ptr::null(), 0) };
        sent as usize
    });
}

#[test]
fn sendmsg() {
    sends(|stream, bytes| {
        let fd = std::os::fd::AsRawFd::as_raw_fd(stream);
        let (first, second) = bytes.split_at(1000);
        let mut parts = [first, second].map(|part| libc::iovec {
            iov_base: part.as_ptr().cast_mut().cast(),
            iov_len: part.len(),
        });
        // SAFETY: all-zero is a message of nothing.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        (message.msg_iov, message.msg_iovlen) = (parts.as_mut_ptr(), parts.len() as _);
        // SAFETY: two buffers.
        unsafe { libc::sendmsg(fd, &message, 0) as usize }
    });
}

#[test]
fn sendmmsg() {
    sends(|stream, bytes| {
        let (first, second) = bytes.split_at(1000);
        let mut parts = [first, second].map(|part| libc::iovec {
            iov_base: part.as_ptr().cast_mut().cast(),
            iov_len: part.len(),
        });
        let mut all = messages(&mut parts);
        // SAFETY: two messages.
        let sent = unsafe { libc::sendmmsg(stream.as_raw_fd(), all.as_mut_ptr(), 2, 0) };
        assert_eq!(sent, 2);
        all.iter().map(|message| message.msg_len as usize).sum()
    });
}

fn accepts(accept: impl Fn(&TcpListener) -> bool + Copy + Send + 'static) {
    row(move || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        later(move || drop(TcpStream::connect(address)));
        accept(&listener)
    });
}

#[test]
fn accept() {
    accepts(|listener| {
        let fd = std::os::fd::AsRawFd::as_raw_fd(listener);
        // SAFETY: without a place for the address.
        let got = unsafe { libc::accept(fd, std::ptr::null_mut(), std::ptr::null_mut()) };
        // SAFETY: a new descriptor.
        unsafe { libc::close(got) == 0 }
    });
}

#[test]
fn accept4() {
    accepts(|listener| listener.accept().is_ok());
}

/// The queue of the listener is full, and gets room later.
#[test]
fn connect() {
    row(|| {
        let path = std::env::temp_dir().join(format!(
            "switchgrass-{}-{:?}-{:?}",
            std::process::id(),
            thread::current().id(),
            Instant::now()
        ));
        // SAFETY: no preconditions.
        let fd = unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0) };
        // SAFETY: a new descriptor.
        let listener: std::os::unix::net::UnixListener =
            unsafe { std::os::fd::FromRawFd::from_raw_fd(fd) };
        bind(fd, &path);
        // SAFETY: no memory is involved.
        assert_eq!(unsafe { libc::listen(fd, 0) }, 0);
        let _first = UnixStream::connect(&path).unwrap();
        later(move || {
            for _ in 0..2 {
                listener.accept().unwrap();
            }
        });
        let connected = UnixStream::connect(&path).is_ok();
        std::fs::remove_file(&path).unwrap();
        connected
    });
}

#[test]
fn setsockopt() {
    const LIMIT: Duration = BLOCK;
    row(|| {
        let (mut here, _there) = tcp_pair();
        here.set_read_timeout(Some(LIMIT)).unwrap();
        here.read(&mut [0; 1]).unwrap_err().kind()
    });
}

/// No row of the table: whoever waits has an event.
#[test]
fn shutdown_wakes_readers() {
    patched(|| {
        let (here, _there) = tcp_pair();
        let mut reader = here.try_clone().unwrap();
        let reading = spawn(move || reader.read(&mut [0; 1]).unwrap());
        yield_now();
        assert!(!reading.is_finished());
        here.shutdown(Shutdown::Read).unwrap();
        assert_eq!(reading.join().unwrap(), 0);
        let (here, _there) = UnixStream::pair().unwrap();
        let mut reader = here.try_clone().unwrap();
        let reading = spawn(move || reader.read(&mut [0; 1]).unwrap());
        yield_now();
        here.shutdown(Shutdown::Both).unwrap();
        assert_eq!(reading.join().unwrap(), 0);
    });
}

fn bind(fd: libc::c_int, path: &std::path::Path) {
    // SAFETY: all-zero is a valid address.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as _;
    for (place, byte) in address.sun_path.iter_mut().zip(path.to_str().unwrap().bytes()) {
        *place = byte as _;
    }
    let length = size_of::<libc::sockaddr_un>() as _;
    // SAFETY: an address of the length that is said.
    assert_eq!(unsafe { libc::bind(fd, (&raw const address).cast(), length) }, 0);
}

/// Refused, and cut short: as without us.
#[test]
fn connections_that_fail() {
    patched(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let refused = spawn(move || TcpStream::connect(address).unwrap_err().kind());
        assert_eq!(refused.join().unwrap(), ErrorKind::ConnectionRefused);
        let nowhere = "127.0.0.1:1".parse().unwrap();
        let limit = Duration::from_millis(5);
        TcpStream::connect_timeout(&nowhere, limit).unwrap_err();
    });
}

/// A server and its clients, without a word of this library's in them.
#[test]
fn a_server_of_std() {
    patched(|| {
        const CLIENTS: usize = 50;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = spawn(move || {
            for stream in listener.incoming().take(CLIENTS) {
                let mut stream = stream.unwrap();
                spawn(move || {
                    let mut buffer = [0; 64];
                    while let count @ 1.. = stream.read(&mut buffer).unwrap() {
                        thread::sleep(Duration::from_millis(1));
                        stream.write_all(&buffer[..count]).unwrap();
                    }
                });
            }
        });
        let clients = (0..CLIENTS).map(|number| {
            spawn(move || {
                let mut stream = TcpStream::connect(address).unwrap();
                let message = format!("hello {number}");
                for _ in 0..10 {
                    stream.write_all(message.as_bytes()).unwrap();
                    let mut answer = vec![0; message.len()];
                    stream.read_exact(&mut answer).unwrap();
                    assert_eq!(answer, message.as_bytes());
                }
            })
        });
        join_all(clients.collect::<Vec<_>>()).into_iter().for_each(|client| client.unwrap());
        server.join().unwrap();
    });
}

/// Of the socket, of the coroutine, and of somebody else.
#[test]
fn reads_that_are_cut_short() {
    patched(|| {
        let (mut here, mut there) = tcp_pair();
        let limit = Duration::from_millis(10);
        here.set_read_timeout(Some(limit)).unwrap();
        let start = Instant::now();
        assert_eq!(here.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert!(start.elapsed() >= limit);
        // Twice, and again without.
        here.set_read_timeout(Some(limit)).unwrap();
        assert_eq!(here.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock);
        here.set_read_timeout(None).unwrap();
        timeout(limit, || here.read(&mut [0; 1]).unwrap_err()).unwrap_err();
        let reader = spawn(move || {
            let error = here.read(&mut [0; 1]).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
            yield_now();
            drop(here);
        });
        yield_now();
        reader.kill();
        assert!(matches!(reader.join(), Err(JoinError::Killed)));
        assert_eq!(there.read(&mut [0; 1]).unwrap(), 0);
    });
}

#[test]
fn eight_acceptors_of_one_std_listener_take_turns() {
    patched(|| {
        let listener = Rc::new(TcpListener::bind("127.0.0.1:0").unwrap());
        let address = listener.local_addr().unwrap();
        let log = Rc::new(RefCell::new(Vec::new()));
        let all: Vec<_> = (0..8)
            .map(|number| {
                let (listener, log) = (Rc::clone(&listener), Rc::clone(&log));
                spawn(move || {
                    for _ in 0..10 {
                        drop(listener.accept().unwrap());
                        log.borrow_mut().push(number);
                    }
                })
            })
            .collect();
        yield_now();
        for count in 1..=80 {
            let _client = TcpStream::connect(address).unwrap();
            while log.borrow().len() < count {
                thread::sleep(Duration::from_micros(100));
            }
        }
        join_all(all);
        // A turn may shift by one, when an acceptor lets others run before it waits again.
        let log = log.borrow();
        for (at, number) in log.iter().enumerate() {
            let next = log.iter().skip(at + 1).position(|other| other == number);
            assert!(next.is_none_or(|others| others >= 6), "{number} comes too soon: {log:?}");
        }
    });
}
