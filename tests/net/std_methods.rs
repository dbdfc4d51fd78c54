//! What std's sockets have, and so these.

use crate::{kind, tcp_pair};
use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr;
use switchgrass::net::{TcpListener, TcpStream, UdpSocket, UnixDatagram, UnixListener, UnixStream};
use switchgrass::spawn;

/// A name that is in no directory, and nobody else's.
fn name(what: &str) -> SocketAddr {
    let name = format!("switchgrass-{what}-{}", std::process::id());
    SocketAddr::from_abstract_name(name).unwrap()
}

#[test]
fn options_are_read_back() {
    let (stream, _there) = tcp_pair();
    stream.set_nodelay(true).unwrap();
    stream.set_ttl(42).unwrap();
    assert_eq!((stream.nodelay().unwrap(), stream.ttl().unwrap()), (true, 42));
    assert!(stream.take_error().unwrap().is_none());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_ttl(43).unwrap();
    assert_eq!(listener.ttl().unwrap(), 43);
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.set_ttl(44).unwrap();
    udp.set_broadcast(true).unwrap();
    udp.set_multicast_ttl_v4(45).unwrap();
    udp.set_multicast_loop_v4(false).unwrap();
    assert_eq!((udp.ttl().unwrap(), udp.broadcast().unwrap()), (44, true));
    assert_eq!((udp.multicast_ttl_v4().unwrap(), udp.multicast_loop_v4().unwrap()), (45, false));
}

/// Groups can be joined where there is a way to them. That one is left that was not joined is an error.
#[test]
fn groups_are_joined_and_left() {
    let udp = UdpSocket::bind("0.0.0.0:0").unwrap();
    let (group, interface) = (Ipv4Addr::new(224, 0, 0, 251), Ipv4Addr::LOCALHOST);
    assert_eq!(kind(udp.leave_multicast_v4(&group, &interface)), ErrorKind::AddrNotAvailable);
    udp.join_multicast_v4(&group, &interface).unwrap();
    assert_eq!(kind(udp.join_multicast_v4(&group, &interface)), ErrorKind::AddrInUse);
    udp.leave_multicast_v4(&group, &interface).unwrap();
    let Ok(udp) = UdpSocket::bind("[::1]:0") else {
        return eprintln!("!!! SKIPPED groups of IPv6: there is no IPv6 here");
    };
    udp.set_multicast_loop_v6(false).unwrap();
    assert!(!udp.multicast_loop_v6().unwrap());
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
    udp.join_multicast_v6(&group, 1).unwrap();
    udp.leave_multicast_v6(&group, 1).unwrap();
}

#[test]
fn peek_from_leaves_the_datagram() {
    let (here, there) =
        (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    here.send_to(b"hello", there.local_addr().unwrap()).unwrap();
    let mut buffer = [0; 8];
    for _ in 0..2 {
        assert_eq!(there.peek_from(&mut buffer).unwrap(), (5, here.local_addr().unwrap()));
    }
    assert_eq!(there.recv(&mut buffer).unwrap(), 5);
    there.set_nonblocking(true).unwrap();
    assert_eq!(kind(there.peek_from(&mut buffer)), ErrorKind::WouldBlock);
}

#[test]
fn unix_sockets_by_address() {
    let at = name("stream");
    let listener = UnixListener::bind_addr(&at).unwrap();
    let server = spawn(move || {
        let mut text = String::new();
        let mut stream = (&listener).into_iter().next().unwrap().unwrap();
        stream.read_to_string(&mut text).unwrap();
        text
    });
    let mut stream = UnixStream::connect_addr(&at).unwrap();
    assert_eq!(stream.peer_addr().unwrap().as_abstract_name(), at.as_abstract_name());
    stream.write_all(b"hello").unwrap();
    drop(stream);
    assert_eq!(server.join().unwrap(), "hello");
    assert_eq!(kind(UnixStream::connect_addr(&at)), ErrorKind::ConnectionRefused);
    let unnamed = UnixStream::pair().unwrap().0.local_addr().unwrap();
    assert_eq!(kind(UnixStream::connect_addr(&unnamed)), ErrorKind::InvalidInput);

    let at = name("datagram");
    let there = UnixDatagram::bind_addr(&at).unwrap();
    let here = UnixDatagram::unbound().unwrap();
    here.send_to_addr(b"one", &at).unwrap();
    here.connect_addr(&at).unwrap();
    here.send(b"three").unwrap();
    assert_eq!(here.peer_addr().unwrap().as_abstract_name(), at.as_abstract_name());
    let mut buffer = [0; 8];
    assert_eq!(there.recv(&mut buffer).unwrap(), 3);
    assert_eq!(there.recv(&mut buffer).unwrap(), 5);
}

#[test]
fn connections_come_in_a_loop() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let client = spawn(move || {
        (0..3)
            .map(|_| TcpStream::connect(address).unwrap().local_addr().unwrap())
            .collect::<Vec<_>>()
    });
    let mut peers = Vec::new();
    for stream in &listener {
        peers.push(stream.unwrap().peer_addr().unwrap());
        if peers.len() == 3 {
            break;
        }
    }
    assert_eq!(client.join().unwrap(), peers);
}

/// A socket goes to std, to a descriptor, and back.
#[test]
fn sockets_and_descriptors_are_turned_into_each_other() {
    let (here, mut there) = tcp_pair();
    let number = here.as_raw_fd();
    let descriptor = OwnedFd::from(here);
    assert_eq!(descriptor.as_raw_fd(), number);
    let here = TcpStream::try_from(descriptor).unwrap();
    let std_here = std::net::TcpStream::try_from(here).unwrap();
    let mut here = TcpStream::try_from(std_here).unwrap();
    there.write_all(b"hello").unwrap();
    let mut buffer = [0; 5];
    here.read_exact(&mut buffer).unwrap();
    assert_eq!(here.into_raw_fd(), number);
    // SAFETY: a descriptor of ours that nobody else closes.
    assert_eq!(unsafe { libc::close(number) }, 0);
    let file = std::fs::File::open("Cargo.toml").unwrap();
    assert!(UnixStream::try_from(OwnedFd::from(file)).is_err());
}

#[test]
fn halves_read_and_write_by_parts() {
    let (here, there) = UnixStream::pair().unwrap();
    let (mut read, _write) = here.into_split();
    let (_read, mut write) = there.into_split();
    let parts = [IoSlice::new(b"one"), IoSlice::new(b"two")];
    assert_eq!(write.write_vectored(&parts).unwrap(), 6);
    write.flush().unwrap();
    drop(write);
    let (mut first, mut second) = ([0; 4], [0; 4]);
    let mut parts = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
    assert_eq!(read.read_vectored(&mut parts).unwrap(), 6);
    assert_eq!((&first, &second[..2]), (b"onet", &b"wo"[..]));
    assert_eq!(read.read(&mut first).unwrap(), 0);
}
