//! The end of sockets that linger, and connections that have to wait.

use crate::{BLOCK, patched, row};
use std::io::{Error, Read, Write};
use std::mem::zeroed;
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::thread;
use std::time::{Duration, Instant};
use switchgrass::monkey::blocked_calls;
use switchgrass::{spawn, timeout, yield_now};

fn number() -> Option<i32> {
    Error::last_os_error().raw_os_error()
}

/// A socket that lingers for seconds, with more in it than its other end takes before it is read.
fn lingering(seconds: i32) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let server = listener.accept().unwrap().0;
    client.set_nonblocking(true).unwrap();
    while client.write(&[7; 1 << 16]).is_ok() {}
    client.set_nonblocking(false).unwrap();
    let linger = libc::linger { l_onoff: 1, l_linger: seconds };
    // SAFETY: an option of this type.
    let set = unsafe {
        let size = size_of::<libc::linger>() as libc::socklen_t;
        let value = (&raw const linger).cast();
        libc::setsockopt(client.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, value, size)
    };
    assert_eq!(set, 0);
    (client, server)
}

/// All that comes, a while later.
fn read_later(mut server: TcpStream) {
    thread::spawn(move || {
        thread::sleep(BLOCK + Duration::from_millis(5));
        let _ = server.read_to_end(&mut Vec::new());
    });
}

/// It waits until the other end has read, and others run meanwhile; the number is free at once.
fn ends(end: impl Fn(RawFd) -> i32 + Copy + Send + 'static) {
    row(move || {
        let (client, server) = lingering(30);
        read_later(server);
        let ended = end(client.into_raw_fd());
        assert_eq!(blocked_calls(), []);
        ended
    });
}

#[test]
fn close_of_a_socket_that_lingers() {
    // SAFETY: a descriptor that is nobody else's.
    ends(|fd| unsafe { libc::close(fd) });
}

#[test]
fn dup2_over_a_socket_that_lingers() {
    // SAFETY: descriptors; the other is closed.
    ends(|fd| unsafe { libc::close(libc::dup2(libc::STDERR_FILENO, fd)) });
}

#[test]
fn dup3_over_a_socket_that_lingers() {
    // SAFETY: descriptors; the other is closed.
    ends(|fd| unsafe { libc::close(libc::dup3(libc::STDERR_FILENO, fd, libc::O_CLOEXEC)) });
}

#[test]
fn fclose_of_a_socket_that_lingers() {
    // SAFETY: a descriptor that is nobody else's.
    ends(|fd| unsafe { libc::fclose(libc::fdopen(fd, c"r".as_ptr())) });
}

/// By whatever number of it is the last: a copy, and one that was accepted on a thread.
#[test]
fn drops_of_sockets_that_linger() {
    patched(|| {
        let (client, server) = lingering(30);
        let copy = client.try_clone().unwrap();
        let start = Instant::now();
        drop(client);
        read_later(server);
        let sibling = spawn(move || {
            thread::sleep(Duration::from_millis(5));
            start.elapsed()
        });
        let closing = spawn(move || {
            drop(copy);
            start.elapsed()
        });
        yield_now();
        assert!(!closing.is_finished());
        let (slept, closed) = (sibling.join().unwrap(), closing.join().unwrap());
        assert!(closed >= BLOCK && slept < closed, "{slept:?} {closed:?}");
        assert_eq!(blocked_calls(), []);
        // Ranges are closed by the thread itself, and that is counted.
        let (client, server) = lingering(30);
        read_later(server);
        let fd = client.into_raw_fd() as u32;
        // SAFETY: a descriptor that is nobody else's.
        assert_eq!(unsafe { libc::close_range(fd, fd, 0) }, 0);
        assert_eq!(blocked_calls(), [("close_range", 1)]);
    });
}

fn unix_address(name: &str) -> (libc::sockaddr_un, libc::socklen_t) {
    // SAFETY: all-zero is an address without a name.
    let mut address: libc::sockaddr_un = unsafe { zeroed() };
    address.sun_family = libc::AF_UNIX as _;
    for (place, byte) in address.sun_path[1..].iter_mut().zip(name.bytes()) {
        *place = byte as _;
    }
    (address, (size_of::<libc::sa_family_t>() + 1 + name.len()) as _)
}

fn socket(kind: i32) -> OwnedFd {
    // SAFETY: a new descriptor.
    unsafe { OwnedFd::from_raw_fd(libc::socket(libc::AF_UNIX, kind, 0)) }
}

fn unix_connect(socket: &OwnedFd, name: &str) -> (i32, Option<i32>) {
    let (address, length) = unix_address(name);
    // SAFETY: an address.
    let result = unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), length) };
    (result, if result < 0 { number() } else { None })
}

fn name() -> String {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("lingering-{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed))
}

/// A listener whose queue is full.
fn full(kind: i32, name: &str) -> (OwnedFd, Vec<OwnedFd>) {
    let listener = socket(kind);
    let (address, length) = unix_address(name);
    // SAFETY: an address.
    unsafe {
        assert_eq!(libc::bind(listener.as_raw_fd(), (&raw const address).cast(), length), 0);
        assert_eq!(libc::listen(listener.as_raw_fd(), 0), 0);
    }
    let mut waiting = Vec::new();
    loop {
        let client = socket(kind | libc::SOCK_NONBLOCK);
        match unix_connect(&client, name) {
            (0, _) => waiting.push(client),
            (_, Some(libc::EAGAIN)) => return (listener, waiting),
            other => panic!("{other:?}"),
        }
    }
}

fn connects_when_there_is_room(kind: i32) {
    row(move || {
        let name = name();
        let (listener, _waiting) = full(kind, &name);
        let accepting = thread::spawn(move || {
            thread::sleep(BLOCK + Duration::from_millis(2));
            // SAFETY: no address is asked for; a new descriptor.
            let accepted = unsafe {
                libc::accept(listener.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut())
            };
            // SAFETY: as above.
            (listener, unsafe { OwnedFd::from_raw_fd(accepted) })
        });
        let client = socket(kind);
        let connected = unix_connect(&client, &name);
        while !accepting.is_finished() {
            thread::sleep(Duration::from_millis(1));
        }
        drop(accepting.join().unwrap());
        assert_eq!(blocked_calls(), []);
        connected
    });
}

#[test]
fn connect_of_a_seqpacket_socket_to_a_full_queue() {
    connects_when_there_is_room(libc::SOCK_SEQPACKET);
}

#[test]
fn connect_of_a_unix_stream_to_a_full_queue() {
    connects_when_there_is_room(libc::SOCK_STREAM);
}

/// The listener goes away while one waits, its time is over, or its number is closed.
#[test]
fn connects_that_fail_while_they_wait() {
    row(|| {
        let (first, second) = (name(), name());
        let (listener, _waiting) = full(libc::SOCK_SEQPACKET, &first);
        let (_other, _others) = full(libc::SOCK_STREAM, &second);
        let client = socket(libc::SOCK_STREAM);
        let limit = libc::timeval { tv_sec: 0, tv_usec: 20_000 };
        // SAFETY: an option of this type.
        unsafe {
            let size = size_of::<libc::timeval>() as libc::socklen_t;
            let value = (&raw const limit).cast();
            libc::setsockopt(client.as_raw_fd(), libc::SOL_SOCKET, libc::SO_SNDTIMEO, value, size);
        }
        let late = unix_connect(&client, &second);
        thread::spawn(move || {
            thread::sleep(BLOCK + Duration::from_millis(2));
            drop(listener);
        });
        (late, unix_connect(&socket(libc::SOCK_SEQPACKET), &first))
    });
}

#[test]
fn a_connect_whose_number_is_closed() {
    patched(|| {
        let name = name();
        let (_listener, _waiting) = full(libc::SOCK_STREAM, &name);
        let client = socket(libc::SOCK_STREAM);
        let fd = client.as_raw_fd();
        let waiting = spawn(move || {
            let (address, length) = unix_address(&name);
            // SAFETY: an address.
            (unsafe { libc::connect(fd, (&raw const address).cast(), length) }, number())
        });
        yield_now();
        drop(client);
        assert_eq!(waiting.join().unwrap(), (-1, Some(libc::EBADF)));
    });
}

fn tcp_connect(fd: RawFd, to: SocketAddrV4) -> (i32, Option<i32>) {
    // SAFETY: all-zero is an address.
    let mut address: libc::sockaddr_in = unsafe { zeroed() };
    address.sin_family = libc::AF_INET as _;
    address.sin_port = to.port().to_be();
    address.sin_addr.s_addr = u32::from(*to.ip()).to_be();
    let size = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    // SAFETY: an address.
    let result = unsafe { libc::connect(fd, (&raw const address).cast(), size) };
    (result, if result < 0 { number() } else { None })
}

fn tcp_socket() -> OwnedFd {
    // SAFETY: a new descriptor.
    unsafe { OwnedFd::from_raw_fd(libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0)) }
}

fn v4(listener: &TcpListener) -> SocketAddrV4 {
    match listener.local_addr().unwrap() {
        std::net::SocketAddr::V4(address) => address,
        other => panic!("{other}"),
    }
}

/// A listener of TCP that answers nobody, since its queue is full.
fn silent() -> (OwnedFd, SocketAddrV4, Vec<OwnedFd>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = v4(&listener);
    // SAFETY: no memory is involved.
    unsafe { libc::listen(listener.as_raw_fd(), 0) };
    let fill = (0..4).map(|_| {
        let client = tcp_socket();
        // SAFETY: no memory is involved.
        unsafe { libc::fcntl(client.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
        tcp_connect(client.as_raw_fd(), address);
        client
    });
    let clients = fill.collect();
    thread::sleep(Duration::from_millis(20));
    (listener.into(), address, clients)
}

/// What further connects say: after a success, after a failure, after a limit, and of datagrams.
#[test]
fn connects_again() {
    patched(|| {
        let call = || {
            let mut all = Vec::new();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = v4(&listener);
            let client = tcp_socket();
            all.push(tcp_connect(client.as_raw_fd(), address));
            all.push(tcp_connect(client.as_raw_fd(), address));
            drop(listener);
            // Refused, and then accepted.
            let client = tcp_socket();
            all.push(tcp_connect(client.as_raw_fd(), address));
            all.push(tcp_connect(client.as_raw_fd(), address));
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            all.push(tcp_connect(client.as_raw_fd(), v4(&listener)));
            all.push(tcp_connect(client.as_raw_fd(), v4(&listener)));
            let (_silent, address, _clients) = silent();
            let client = tcp_socket();
            let limit = libc::timeval { tv_sec: 0, tv_usec: 20_000 };
            // SAFETY: an option of this type.
            unsafe {
                let size = size_of::<libc::timeval>() as libc::socklen_t;
                let value = (&raw const limit).cast();
                let fd = client.as_raw_fd();
                libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_SNDTIMEO, value, size);
            }
            all.push(tcp_connect(client.as_raw_fd(), address));
            all.push(tcp_connect(client.as_raw_fd(), address));
            let datagram = socket(libc::SOCK_DGRAM);
            all.push(unix_connect(&datagram, "nobody is there"));
            all
        };
        assert_eq!(spawn(call).join().unwrap(), thread::spawn(call).join().unwrap());
        assert_eq!(blocked_calls(), []);
    });
}

/// Two coroutines connect one socket: both wait for the same connection.
#[test]
fn two_connect_one_socket() {
    patched(|| {
        let (silent, address, _clients) = silent();
        let client = tcp_socket();
        let fd = client.as_raw_fd();
        let both =
            [spawn(move || tcp_connect(fd, address)), spawn(move || tcp_connect(fd, address))];
        yield_now();
        assert!(both.iter().all(|one| !one.is_finished()));
        let accepting = thread::spawn(move || {
            // SAFETY: no addresses are asked for; new descriptors.
            let accept = || unsafe {
                let (address, room) = (std::ptr::null_mut(), std::ptr::null_mut());
                OwnedFd::from_raw_fd(libc::accept(silent.as_raw_fd(), address, room))
            };
            let taken: Vec<_> = (0..2).map(|_| accept()).collect();
            (silent, taken)
        });
        for one in both {
            assert_eq!(one.join().unwrap(), (0, None));
        }
        drop(accepting.join().unwrap());
        let mut told = None;
        let (_silent, address, _clients) = self::silent();
        let client = tcp_socket();
        timeout(Duration::from_millis(5), || {
            told = Some(tcp_connect(client.as_raw_fd(), address));
        })
        .unwrap_err();
        assert_eq!(told, Some((-1, Some(libc::ECANCELED))));
    });
}
