//! Datagrams.

use crate::kind;
use std::io;
use std::time::Duration;
use switchgrass::net::{UdpSocket, UnixDatagram};
use switchgrass::{spawn, yield_now};

#[test]
fn a_datagram_comes_as_it_was_sent() {
    let (here, there) =
        (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind(("localhost", 0)).unwrap());
    let address = there.local_addr().unwrap();
    let receiver = spawn(move || {
        let mut buffer = [0; 16];
        (0..3).map(|_| there.recv_from(&mut buffer).unwrap().0).collect::<Vec<_>>()
    });
    yield_now();
    // To the family of the address that it has.
    let here = if address.is_ipv4() { here } else { UdpSocket::bind("[::1]:0").unwrap() };
    here.connect(address).unwrap();
    for size in [1, 0, 9] {
        assert_eq!(here.send(&vec![0; size]).unwrap(), size);
    }
    assert_eq!(receiver.join().unwrap(), [1, 0, 9]);
    assert_eq!(here.peer_addr().unwrap(), address);
}

#[test]
fn a_datagram_that_does_not_come_times_out() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
    assert_eq!(kind(socket.recv(&mut [0; 8])), io::ErrorKind::TimedOut);
}

/// Who sends more than fits waits until somebody has received.
#[test]
fn unix_datagrams_wait_for_room() {
    let (here, there) = UnixDatagram::pair().unwrap();
    let sender = spawn(move || {
        for number in 0..1_000_u32 {
            here.send(&number.to_le_bytes()).unwrap();
        }
    });
    let mut buffer = [0; 4];
    for number in 0..1_000_u32 {
        assert_eq!(there.recv(&mut buffer).unwrap(), 4);
        assert_eq!(u32::from_le_bytes(buffer), number);
    }
    sender.join().unwrap();
}
