//! When there are no descriptors left.

use crate::own_process::{alone, descriptors};
use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use switchgrass::net::{Listen, StreamServer, TcpListener, TcpStream};
use switchgrass::{sleep, spawn, timeout};

/// A listener that counts how often it was asked.
struct Counting {
    listener: TcpListener,
    calls: Rc<Cell<u32>>,
}

impl Listen for Counting {
    type Stream = TcpStream;
    type Address = SocketAddr;

    fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.calls.set(self.calls.get() + 1);
        self.listener.accept()
    }

    fn close(&self) {
        self.listener.close();
    }
}

/// Takes all descriptors that there are.
fn take_all() -> Vec<File> {
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

/// The server tries again, later and later, and goes on when there are some.
#[test]
fn a_server_without_descriptors_recovers() {
    alone("few_descriptors::a_server_without_descriptors_recovers", || {
        let limit = libc::rlimit { rlim_cur: 64, rlim_max: 64 };
        // SAFETY: a valid limit.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
        let calls = Rc::new(Cell::new(0));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let counting = Counting { listener, calls: Rc::clone(&calls) };
        let server = StreamServer::new(counting, |mut stream: TcpStream, _| {
            stream.write_all(b"served").unwrap();
        });
        server.start();
        // Connects at once, and so has its descriptor before there are none.
        let client = std::net::TcpStream::connect(address).unwrap();
        let all = take_all();
        let serving = spawn({
            let server = server.clone();
            move || server.serve_forever().is_ok()
        });
        sleep(Duration::from_millis(200));
        // 10, 20, 40 and 80 ms after the last one; however slow this machine is, not more.
        let tries = calls.get();
        assert!((2..=6).contains(&tries), "it has tried {tries} times");
        assert!(server.is_accepting());
        let refused = TcpStream::connect(address).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EMFILE));

        drop(all);
        let mut client = TcpStream::from_std(client).unwrap();
        let mut text = String::new();
        let read = timeout(Duration::from_secs(10), || client.read_to_string(&mut text));
        read.expect("it has not recovered").unwrap();
        assert_eq!(text, "served");
        assert!(server.stop(None));
        assert!(serving.join().unwrap());
    });
}

/// Without a descriptor to close it by, a socket is closed with its handle.
#[test]
fn closing_needs_no_descriptor() {
    alone("few_descriptors::closing_needs_no_descriptor", || {
        let limit = libc::rlimit { rlim_cur: 64, rlim_max: 64 };
        // SAFETY: a valid limit.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
        // With what the hub has.
        drop(crate::tcp_pair());
        let before = descriptors();
        let (here, mut there) = crate::tcp_pair();
        let all = take_all();
        here.close();
        let error = (&here).read(&mut [0; 8]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
        drop(here);
        assert_eq!(there.read(&mut [0; 8]).unwrap(), 0);
        drop((there, all));
        assert_eq!(descriptors(), before);
    });
}
