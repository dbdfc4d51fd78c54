//! Connecting: to nobody, to where nobody can be reached, to who does not answer, by name.

use crate::own_process::{alone, descriptors};
use crate::{kind, tcp_pair};
use std::cell::Cell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use switchgrass::coroutine::join_all;
use switchgrass::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use switchgrass::pool::ThreadPool;
use switchgrass::{sleep, spawn, timeout, yield_now};

/// A listener that takes no further connection, and those that keep it so.
fn full() -> (TcpListener, Vec<std::net::TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // SAFETY: no preconditions.
    assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
    let address = listener.local_addr().unwrap();
    let limit = Duration::from_millis(200);
    let fill = std::iter::from_fn(|| std::net::TcpStream::connect_timeout(&address, limit).ok());
    let all = fill.take(64).collect::<Vec<_>>();
    assert!(all.len() < 64, "it takes any number of connections");
    (listener, all)
}

/// {test_connect_timeout}: nobody answers. The limit is kept, from inside and from outside; then there is room.
#[test]
fn nobody_answers() {
    let (listener, mut all) = full();
    let address = listener.local_addr().unwrap();
    let limit = Duration::from_millis(20);
    let start = Instant::now();
    let error = TcpStream::connect_timeout(&address, limit).unwrap_err();
    assert!(start.elapsed() >= limit);
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(error.to_string(), "TcpStream::connect has timed out");
    timeout(limit, || TcpStream::connect(address)).unwrap_err();

    let connecting = spawn(move || TcpStream::connect(address).map(|_| ()));
    sleep(Duration::from_millis(1));
    assert_eq!(connecting.waits_for(), Some("TcpStream::connect"));
    for _ in 0..=all.len() {
        drop(listener.accept().unwrap());
        drop(all.pop());
    }
    connecting.join().unwrap().unwrap();
}

/// {test_refuses, test_connect_ex_*}: the kernel's own word.
#[test]
fn nobody_can_be_reached() {
    let reached = TcpStream::connect("127.255.255.255:9");
    assert_eq!(kind(reached), ErrorKind::NetworkUnreachable);
    let limit = Duration::from_secs(10);
    let broadcast: SocketAddr = "127.255.255.255:9".parse().unwrap();
    assert_eq!(kind(TcpStream::connect_timeout(&broadcast, limit)), ErrorKind::NetworkUnreachable);
}

/// {test_base_exception}: whatever ends the wait, the socket is closed.
#[test]
fn test_base_exception() {
    alone("connecting::test_base_exception", || {
        let (listener, _all) = full();
        let address = listener.local_addr().unwrap();
        let before = descriptors();
        for _ in 0..10 {
            let connecting = spawn(move || TcpStream::connect(address).map(|_| ()));
            sleep(Duration::from_millis(1));
            assert_eq!(descriptors(), before + 1);
            connecting.kill();
            assert!(connecting.join().is_err());
        }
        assert_eq!(descriptors(), before);
        let refused = {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap()
        };
        TcpStream::connect(refused).unwrap_err();
        assert_eq!(descriptors(), before);
    });
}

/// Twenty wait on one listener, connections come one by one: each takes one, and none is woken for nothing that
/// he would return with.
#[test]
fn twenty_accept_from_one_listener() {
    let listener = Rc::new(TcpListener::bind("127.0.0.1:0").unwrap());
    let address = listener.local_addr().unwrap();
    let done = Rc::new(Cell::new(0));
    let all: Vec<_> = (0..20)
        .map(|_| {
            let (listener, done) = (Rc::clone(&listener), Rc::clone(&done));
            spawn(move || {
                let (stream, peer) = listener.accept().unwrap();
                done.set(done.get() + 1);
                assert_eq!(stream.peer_addr().unwrap(), peer);
                peer
            })
        })
        .collect();
    yield_now();
    let mut clients = Vec::new();
    for number in 1..=20 {
        clients.push(TcpStream::connect(address).unwrap());
        while done.get() < number {
            sleep(Duration::from_micros(100));
        }
        assert_eq!(done.get(), number);
    }
    let mut peers: Vec<_> = join_all(all).into_iter().map(|peer| peer.unwrap()).collect();
    let mut expected: Vec<_> = clients.iter().map(|one| one.local_addr().unwrap()).collect();
    peers.sort();
    expected.sort();
    assert_eq!(peers, expected);
}

/// Keeps all ten threads busy that names are looked up on, until what it returns is dropped.
fn busy_lookups() -> Vec<mpsc::Sender<()>> {
    let pool = ThreadPool::global();
    let busy = (0..10)
        .map(|_| {
            let (end, ended) = mpsc::channel::<()>();
            // Dropped, the job runs all the same.
            drop(pool.spawn(move || ended.recv()));
            end
        })
        .collect();
    yield_now();
    busy
}

/// Names that nobody knows, and for a while nobody even looks for: whoever ticks goes on.
#[test]
fn slow_names_hold_nobody_up() {
    alone("connecting::slow_names_hold_nobody_up", || {
        let busy = busy_lookups();
        let lookups: Vec<_> = (0..10)
            .map(|number| {
                spawn(move || TcpStream::connect((format!("no-{number}.invalid"), 80)).is_err())
            })
            .collect();
        for _ in 0..10 {
            sleep(Duration::from_millis(10));
        }
        assert_eq!(ThreadPool::global().queued(), 10);
        drop(busy);
        assert!(join_all(lookups).into_iter().all(|failed| failed.unwrap()));
    });
}

/// {TestInterrupted_gethostbyname}: a limit, and a kill, reach who waits for a name.
#[test]
fn test_interrupted_gethostbyname() {
    alone("connecting::test_interrupted_gethostbyname", || {
        let busy = busy_lookups();
        let limit = Duration::from_millis(10);
        let start = Instant::now();
        timeout(limit, || "localhost:80".resolve()).unwrap_err();
        assert!(start.elapsed() >= limit);
        let killed = spawn(|| "localhost:80".resolve().is_ok());
        yield_now();
        killed.kill();
        assert!(killed.join().is_err());
        drop(busy);
        assert!("localhost:80".resolve().unwrap().iter().all(|address| address.port() == 80));
    });
}

/// {test_resolve_ipv6_scope_id}, and what needs no look-up: nobody else has run.
#[test]
fn test_resolve_ipv6_scope_id() {
    let other = spawn(|| ());
    let scoped = "[fe80::1%7]:80".resolve().unwrap();
    assert!(matches!(scoped[..], [SocketAddr::V6(address)] if address.scope_id() == 7));
    let plain = ("::1".to_owned(), 1).resolve().unwrap();
    assert_eq!(plain, ["[::1]:1".parse().unwrap()]);
    assert!(!other.is_finished());
    assert!("no port".resolve().is_err());
    other.join().unwrap();
}

/// {test_del_closes_socket, makefile_ref}: a socket is closed with its last handle, whichever that is.
#[test]
fn test_del_closes_socket() {
    let (here, mut there) = tcp_pair();
    let copies = [here.try_clone().unwrap(), here.try_clone().unwrap()];
    let waiting = spawn({
        let mut copy = here.try_clone().unwrap();
        move || copy.read(&mut [0; 8]).unwrap()
    });
    yield_now();
    // Closed and dropped: both leave the others.
    here.close();
    drop(here);
    let [first, mut second] = copies;
    drop(first);
    there.write_all(b"hello").unwrap();
    assert_eq!(waiting.join().unwrap(), 5);
    second.write_all(b"still here").unwrap();
    second.close();
    let mut text = String::new();
    there.read_to_string(&mut text).unwrap();
    assert_eq!(text, "still here");
}

/// {refcount}: a thousand rounds of server and client leave no descriptor.
#[test]
fn connections_leave_no_descriptor() {
    alone("connecting::connections_leave_no_descriptor", || {
        let round = || -> io::Result<()> {
            let (mut here, mut there) = tcp_pair();
            here.write_all(b"x")?;
            there.read_exact(&mut [0])?;
            let copy = there.try_clone()?;
            copy.close();
            UdpSocket::bind("127.0.0.1:0").map(drop)
        };
        round().unwrap();
        let before = descriptors();
        (0..1_000).for_each(|_| round().unwrap());
        assert_eq!(descriptors(), before);
    });
}

#[test]
fn a_limit_of_zero_is_refused_as_by_std() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let of_std = std::net::TcpStream::connect_timeout(&address, Duration::ZERO);
    let of_ours = TcpStream::connect_timeout(&address, Duration::ZERO);
    assert_eq!(kind(of_ours), std::io::ErrorKind::InvalidInput);
    assert_eq!(kind(of_std), std::io::ErrorKind::InvalidInput);
    let stream = TcpStream::connect_timeout(&address, Duration::MAX).unwrap();
    let zero = Some(Duration::ZERO);
    assert_eq!(kind(stream.set_read_timeout(zero)), std::io::ErrorKind::InvalidInput);
    assert_eq!(kind(stream.set_write_timeout(zero)), std::io::ErrorKind::InvalidInput);
}
