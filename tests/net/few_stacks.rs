//! When there is no stack for a further coroutine.

use crate::own_process::alone;
use std::io::{Read, Write};
use std::time::Duration;
use switchgrass::coroutine::{Builder, JoinHandle, join_all};
use switchgrass::net::{DatagramServer, StreamServer, TcpListener, TcpStream, UdpSocket};
use switchgrass::{sleep, spawn, timeout};

const SOON: Duration = Duration::from_secs(10);

/// Takes all stacks that there are.
fn take_all() -> Vec<JoinHandle<()>> {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = pages.split(' ').next().unwrap().parse().unwrap();
    let most = pages * 4096 + (64 << 20);
    let limit = libc::rlimit { rlim_cur: most, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: a valid limit.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) }, 0);
    let one = || Builder::new().spawn(|| sleep(Duration::MAX)).ok();
    let all: Vec<_> = std::iter::from_fn(one).collect();
    sleep(Duration::ZERO);
    all
}

fn give_back(all: Vec<JoinHandle<()>>) {
    all.iter().for_each(|one| one.kill());
    join_all(all);
}

#[test]
#[cfg_attr(feature = "sanitizer", ignore = "its runtime needs address space")]
fn a_server_goes_on_when_there_was_no_stack_for_a_connection() {
    alone("few_stacks::a_server_goes_on_when_there_was_no_stack_for_a_connection", || {
        let server = StreamServer::new(
            TcpListener::bind("127.0.0.1:0").unwrap(),
            |mut stream: TcpStream, _| stream.write_all(b"served").unwrap(),
        );
        let address = server.listener().local_addr().unwrap();
        let serving = spawn({
            let server = server.clone();
            move || server.serve_forever().map_err(|error| error.to_string())
        });
        let ask = || {
            let mut text = String::new();
            let mut stream = TcpStream::connect(address).unwrap();
            timeout(SOON, || stream.read_to_string(&mut text)).expect("no answer").unwrap();
            text
        };
        assert_eq!(ask(), "served");
        let all = take_all();
        for _ in 0..3 {
            assert_eq!(ask(), "", "there is no stack for it");
        }
        assert!(server.is_accepting() && !serving.is_finished());
        give_back(all);
        assert_eq!(ask(), "served");
        assert!(server.stop(None));
        assert_eq!(serving.join().unwrap(), Ok(()));
    });
}

#[test]
#[cfg_attr(feature = "sanitizer", ignore = "its runtime needs address space")]
fn a_datagram_server_goes_on_when_there_was_no_stack_for_a_datagram() {
    alone("few_stacks::a_datagram_server_goes_on_when_there_was_no_stack_for_a_datagram", || {
        let server =
            DatagramServer::new(UdpSocket::bind("127.0.0.1:0").unwrap(), |socket, text, from| {
                socket.send_to(&text, from).unwrap();
            });
        server.start();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(server.socket().local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let all = take_all();
        client.send(b"lost").unwrap();
        client.recv(&mut [0; 8]).unwrap_err();
        assert!(server.is_accepting());
        give_back(all);
        client.set_read_timeout(Some(SOON)).unwrap();
        client.send(b"kept").unwrap();
        let mut buffer = [0; 8];
        let count = client.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..count], b"kept");
        assert!(server.stop(None));
    });
}

#[test]
#[cfg_attr(feature = "sanitizer", ignore = "its runtime needs address space")]
fn a_server_that_has_no_stack_to_start_with_says_so() {
    alone("few_stacks::a_server_that_has_no_stack_to_start_with_says_so", || {
        let server =
            StreamServer::new(TcpListener::bind("127.0.0.1:0").unwrap(), |_: TcpStream, _| ());
        let all = take_all();
        let error = server.serve_forever().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::OutOfMemory);
        assert!(!server.is_accepting());
        give_back(all);
        server.start();
        assert!(server.is_accepting());
        assert!(server.stop(None));
    });
}
