//! Servers of datagrams.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use switchgrass::net::{DatagramServer, Datagrams, UdpSocket, UnixDatagram};
use switchgrass::sync::Event;
use switchgrass::{sleep, spawn, timeout, yield_now};

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket
}

fn address(server: &DatagramServer) -> SocketAddr {
    server.socket().local_addr().unwrap()
}

fn upper(socket: &UdpSocket, text: &[u8], from: SocketAddr) {
    socket.send_to(&text.to_ascii_uppercase(), from).unwrap();
}

#[track_caller]
fn ask(client: &UdpSocket, server: SocketAddr, text: &str) -> String {
    client.send_to(text.as_bytes(), server).unwrap();
    let mut buffer = [0; 64];
    let count = client.recv(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..count]).into_owned()
}

/// {udp_server, udp_client}
#[test]
fn test_udp_server() {
    let server = DatagramServer::new(socket(), |socket: &UdpSocket, text: Vec<u8>, from| {
        upper(socket, &text, from);
    });
    server.start();
    server.start();
    let client = socket();
    for text in ["hello", "again"] {
        assert_eq!(ask(&client, address(&server), text), text.to_uppercase());
    }
    // An empty one is one as well.
    assert_eq!(ask(&client, address(&server), ""), "");
    assert!(server.stop(None));
    assert!(!server.is_accepting());
}

#[test]
fn a_handler_that_panics_harms_no_other() {
    let server = DatagramServer::new(socket(), |socket: &UdpSocket, text: Vec<u8>, from| {
        assert_eq!(text, b"right");
        upper(socket, &text, from);
    });
    server.start();
    let client = socket();
    client.send_to(b"wrong", address(&server)).unwrap();
    assert_eq!(ask(&client, address(&server), "right"), "RIGHT");
    assert_eq!(server.running(), 0);
    assert!(server.stop(None));
}

/// Each has a coroutine: who waits keeps nobody else waiting, but who is beyond the limit.
#[test]
fn a_limit_of_handlers() {
    let (most, now) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let gate = Rc::new(Event::new());
    let server = DatagramServer::with_limit(socket(), 2, {
        let (most, now, gate) = (Rc::clone(&most), Rc::clone(&now), Rc::clone(&gate));
        move |socket: &UdpSocket, text, from| {
            now.set(now.get() + 1);
            most.set(most.get().max(now.get()));
            gate.wait();
            now.set(now.get() - 1);
            upper(socket, &text, from);
        }
    });
    server.start();
    let client = socket();
    for _ in 0..5 {
        client.send_to(b"x", address(&server)).unwrap();
    }
    while server.running() < 2 {
        yield_now();
    }
    sleep(Duration::from_millis(5));
    assert_eq!((server.running(), most.get()), (2, 2));
    gate.set();
    for _ in 0..5 {
        assert_eq!(client.recv(&mut [0; 8]).unwrap(), 1);
    }
    assert_eq!(most.get(), 2);
    assert!(server.stop(None));
}

/// Who is at it when the server is stopped can answer still; who is not done in time is killed.
#[test]
fn handlers_answer_while_the_server_stops() {
    let begun = Rc::new(Cell::new(0));
    let count = Rc::clone(&begun);
    let server = DatagramServer::new(socket(), move |socket: &UdpSocket, text: Vec<u8>, from| {
        count.set(count.get() + 1);
        sleep(if text == b"long" { Duration::MAX } else { Duration::from_millis(5) });
        upper(socket, &text, from);
    });
    server.start();
    let (client, to) = (socket(), address(&server));
    client.send_to(b"short", to).unwrap();
    while begun.get() < 1 {
        yield_now();
    }
    assert!(server.stop(Some(Duration::from_secs(10))));
    assert_eq!(client.recv(&mut [0; 8]).unwrap(), 5);
    let closed = server.socket().send_to(b"x", to).unwrap_err();
    assert_eq!(closed.raw_os_error(), Some(libc::EBADF));

    let count = Rc::clone(&begun);
    let server = DatagramServer::new(socket(), move |_: &UdpSocket, _, _| {
        count.set(count.get() + 1);
        sleep(Duration::MAX);
    });
    server.start();
    client.send_to(b"long", address(&server)).unwrap();
    while begun.get() < 2 {
        yield_now();
    }
    assert!(!server.stop(Some(Duration::from_millis(5))));
    assert_eq!(server.running(), 0);
}

/// That nobody is there for an answer is told to who receives next. The server does not even pause for it.
#[test]
fn an_answer_that_nobody_takes_ends_no_server() {
    let (socket, gone) = (socket(), socket());
    let client = gone.local_addr().unwrap();
    socket.connect(client).unwrap();
    let to = socket.local_addr().unwrap();
    let got = Rc::new(RefCell::new(Vec::new()));
    let server = DatagramServer::new(socket, {
        let got = Rc::clone(&got);
        move |_: &UdpSocket, text, _| got.borrow_mut().push(text)
    });
    server.start();
    let serving = spawn({
        let server = server.clone();
        move || server.serve_forever().map_err(|error| error.to_string())
    });
    drop(gone);
    for _ in 0..5 {
        // Refused, or the refusal of the last one.
        let _ = server.socket().send(b"is anybody there?");
        sleep(Duration::from_millis(1));
    }
    let back = UdpSocket::bind(client).unwrap();
    back.send_to(b"now", to).unwrap();
    while got.borrow().is_empty() {
        sleep(Duration::from_millis(1));
    }
    assert!(server.is_accepting());
    assert!(server.stop(None));
    assert_eq!(serving.join().unwrap(), Ok(()));
    assert_eq!(*got.borrow(), [b"now".to_vec()]);
}

/// What is not accepted for now waits, and none is lost or doubled by the change.
#[test]
fn nothing_is_lost_by_a_pause() {
    const COUNT: u32 = 200;
    let got = Rc::new(RefCell::new(Vec::new()));
    let server = DatagramServer::new(socket(), {
        let got = Rc::clone(&got);
        move |_: &UdpSocket, text: Vec<u8>, _| {
            got.borrow_mut().push(u32::from_le_bytes(text.try_into().unwrap()));
        }
    });
    server.start_accepting();
    let (client, to) = (socket(), address(&server));
    for number in 0..COUNT {
        client.send_to(&number.to_le_bytes(), to).unwrap();
        match number % 4 {
            0 => server.stop_accepting(),
            1 => yield_now(),
            2 => server.start_accepting(),
            _ => sleep(Duration::from_micros(50)),
        }
    }
    while got.borrow().len() < COUNT as usize {
        sleep(Duration::from_millis(1));
    }
    assert_eq!(*got.borrow(), (0..COUNT).collect::<Vec<_>>());
    server.stop_accepting();
    client.send_to(&7_u32.to_le_bytes(), to).unwrap();
    sleep(Duration::from_millis(2));
    assert_eq!(got.borrow().len(), COUNT as usize);
    assert!(server.stop(None));
}

#[test]
fn unix_datagrams_are_served() {
    let path = |name: &str| {
        let path = std::env::temp_dir().join(format!("switchgrass-{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        path
    };
    let (here, there) = (path("datagram-client"), path("datagram-server"));
    let socket = UnixDatagram::bind(&there).unwrap();
    let server = DatagramServer::new(socket, |socket: &UnixDatagram, text: Vec<u8>, from| {
        socket.send_to_addr(&text.to_ascii_uppercase(), &from).unwrap();
    });
    server.start();
    let client = UnixDatagram::bind(&here).unwrap();
    client.send_to(b"hello", &there).unwrap();
    let mut buffer = [0; 8];
    assert_eq!(client.recv(&mut buffer).unwrap(), 5);
    assert_eq!(&buffer[..5], b"HELLO");
    assert!(server.stop(None));
    std::fs::remove_file(&here).unwrap();
    std::fs::remove_file(&there).unwrap();
}

/// A socket that fails so often, and how often it was asked.
struct Failing {
    socket: UdpSocket,
    errors: RefCell<Vec<i32>>,
    calls: Rc<Cell<u32>>,
}

impl Datagrams for Failing {
    type Address = SocketAddr;

    fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.calls.set(self.calls.get() + 1);
        match self.errors.borrow_mut().pop() {
            Some(error) => Err(io::Error::from_raw_os_error(error)),
            None => self.socket.recv_from(buffer),
        }
    }

    fn close(&self) {
        self.socket.close();
    }
}

/// After an error that may pass it tries again, not at once; one that does not pass ends the server.
#[test]
fn errors_that_pass_and_one_that_does_not() {
    let calls = Rc::new(Cell::new(0));
    let errors = RefCell::new(vec![libc::EBADF, libc::ECONNREFUSED, libc::ENOMEM, libc::ENOBUFS]);
    let failing = Failing { socket: socket(), errors, calls: Rc::clone(&calls) };
    let server = DatagramServer::new(failing, |_: &Failing, _, _| ());
    let start = std::time::Instant::now();
    let ended = timeout(Duration::from_secs(10), || server.serve_forever()).unwrap();
    assert_eq!(ended.unwrap_err().raw_os_error(), Some(libc::EBADF));
    assert!(start.elapsed() >= Duration::from_millis(10 + 20));
    assert_eq!(calls.get(), 4);
    assert!(!server.is_accepting());
    server.start();
    assert!(!server.is_accepting());
    assert!(server.stop(None));
}

#[test]
#[should_panic(expected = "at least 1, got 0")]
fn a_server_for_none_at_a_time() {
    DatagramServer::with_limit(socket(), 0, |_: &UdpSocket, _, _| ());
}

#[test]
fn stop_answers_datagrams_that_have_come() {
    let server = DatagramServer::new(
        UdpSocket::bind("127.0.0.1:0").unwrap(),
        |socket: &UdpSocket, datagram: Vec<u8>, from| {
            socket.send_to(&datagram, from).unwrap();
        },
    );
    server.start();
    yield_now();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(server.socket().local_addr().unwrap()).unwrap();
    for number in 0..20 {
        client.send(&[number]).unwrap();
    }
    assert!(server.stop(None));
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut answers = [0; 20].map(|_: u8| {
        let mut buffer = [0; 8];
        client.recv(&mut buffer).unwrap();
        buffer[0]
    });
    // UDP keeps no order.
    answers.sort();
    assert!(
        answers.iter().enumerate().all(|(at, number)| at == usize::from(*number)),
        "{answers:?}"
    );
}

/// A socket of a user type in which nothing waits: it fails for one peer, or has something, each time.
#[test]
fn a_user_socket_that_never_waits_lets_others_run() {
    struct Endless {
        fails: bool,
        left: Cell<u32>,
    }
    impl Datagrams for Endless {
        type Address = ();
        fn recv_from(&self, _: &mut [u8]) -> io::Result<(usize, ())> {
            let Some(left) = self.left.get().checked_sub(1) else {
                return Err(io::Error::from_raw_os_error(libc::EINVAL));
            };
            self.left.set(left);
            std::thread::sleep(Duration::from_micros(100));
            match self.fails {
                true => Err(io::Error::from_raw_os_error(libc::ECONNRESET)),
                false => Ok((0, ())),
            }
        }
        fn close(&self) {}
    }
    for fails in [true, false] {
        // It ends by itself after seconds, so that a failure is no hang.
        let socket = Endless { fails, left: Cell::new(50_000) };
        let server = DatagramServer::new(socket, |_: &Endless, _, ()| ());
        server.start();
        sleep(Duration::from_millis(5));
        assert!(server.socket().left.get() > 0, "nobody else has run");
        server.stop(Some(Duration::ZERO));
    }
}
