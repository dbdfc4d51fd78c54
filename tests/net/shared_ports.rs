//! Listeners at one address.

use super::kind;
use std::cell::Cell;
use std::io::{self, Read, Write};
use std::net;
use std::rc::Rc;
use switchgrass::net::{StreamServer, TcpListener, TcpStream};

#[test]
fn each_gets_some_of_the_connections() {
    let first = TcpListener::bind_reuse_port("127.0.0.1:0").unwrap();
    let address = first.local_addr().unwrap();
    let listeners = [first, TcpListener::bind_reuse_port(address).unwrap()];
    let servers = listeners.map(|listener| {
        let count = Rc::new(Cell::new(0));
        let counter = Rc::clone(&count);
        let server = StreamServer::new(listener, move |mut stream: TcpStream, _| {
            counter.set(counter.get() + 1);
            stream.write_all(b"x").unwrap();
        });
        server.start();
        (server, count)
    });
    for _ in 0..200 {
        let mut text = String::new();
        TcpStream::connect(address).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "x");
    }
    let counts = servers.each_ref().map(|(_, count)| count.get());
    assert_eq!(counts[0] + counts[1], 200);
    // By a hash of both ends: none at all would be one chance in 2^200.
    assert!(counts[0] > 0 && counts[1] > 0, "{counts:?}");

    // One that is closed gets no more of them.
    let [(one, before), (another, _)] = servers;
    assert!(one.stop(None));
    let before = before.get();
    for _ in 0..20 {
        TcpStream::connect(address).unwrap().read_exact(&mut [0]).unwrap();
    }
    assert_eq!(before, counts[0]);
    assert!(another.stop(None));
    assert_eq!(kind(TcpStream::connect(address)), io::ErrorKind::ConnectionRefused);
}

#[test]
fn only_those_who_agree_share() {
    let alone = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = alone.local_addr().unwrap();
    assert_eq!(kind(TcpListener::bind_reuse_port(address)), io::ErrorKind::AddrInUse);

    let shared = TcpListener::bind_reuse_port("127.0.0.1:0").unwrap();
    let address = shared.local_addr().unwrap();
    assert_eq!(kind(TcpListener::bind(address)), io::ErrorKind::AddrInUse);
    assert_eq!(kind(net::TcpListener::bind(address).map(drop)), io::ErrorKind::AddrInUse);
}

#[test]
fn of_the_other_family_as_well() {
    let Ok(first) = TcpListener::bind_reuse_port("[::1]:0") else {
        // A machine without IPv6.
        assert!(net::TcpListener::bind("[::1]:0").is_err());
        return;
    };
    let address = first.local_addr().unwrap();
    TcpListener::bind_reuse_port(address).unwrap();
    assert!(address.is_ipv6());
}

/// A port is had again though connections were closed there a moment ago.
#[test]
fn a_port_is_had_again_at_once() {
    let listener = TcpListener::bind_reuse_port("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut client = TcpStream::connect(address).unwrap();
    // The end that closes first is the one that keeps the port.
    drop(listener.accept().unwrap());
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    drop(client);
    drop(listener);
    TcpListener::bind_reuse_port(address).unwrap();
}

#[test]
fn what_waits_at_one_that_is_closed_is_reset() {
    let listener = TcpListener::bind_reuse_port("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut client = TcpStream::connect(address).unwrap();
    let _other = TcpListener::bind_reuse_port(address).unwrap();
    let copy = listener.try_clone().unwrap();
    listener.close();
    // Another copy keeps what waits.
    assert_eq!(copy.accept().unwrap().1, client.local_addr().unwrap());
    let migrates = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_migrate_req");
    if migrates.is_ok_and(|setting| setting.trim() == "1") {
        return;
    }
    assert_eq!(client.read(&mut [0]).unwrap(), 0, "the one above has been dropped");
    let mut clients: Vec<_> = (0..50).map(|_| TcpStream::connect(address).unwrap()).collect();
    copy.close();
    let reset = |client: &mut TcpStream| {
        client.set_nonblocking(true).unwrap();
        client.read(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
    };
    let lost = clients.iter_mut().filter_map(|client| reset(client).then_some(())).count();
    assert!(lost > 0 && lost < 50, "{lost}");
}
