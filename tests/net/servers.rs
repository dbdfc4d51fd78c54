//! Servers: who is served, when, and how they end.

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::rc::Rc;
use std::time::{Duration, Instant};
use switchgrass::coroutine::join_all;
use switchgrass::net::{StreamServer, TcpListener, TcpStream, UdpSocket, UnixListener, UnixStream};
use switchgrass::{sleep, spawn, yield_now};

/// Sends back all that comes, until the end.
fn echo(mut stream: impl Read + Write) {
    let mut buffer = [0; 64];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

fn ask(server: &StreamServer, text: &str) -> String {
    let mut stream = TcpStream::connect(server.listener().local_addr().unwrap()).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// {test_subclass_just_create}: nobody is served before the start; stopped before that, it never is.
#[test]
fn test_just_create() {
    let server = StreamServer::new(listener(), |stream: TcpStream, _| echo(stream));
    let asked = spawn({
        let server = server.clone();
        move || ask(&server, "hello")
    });
    sleep(Duration::from_millis(5));
    assert!(!asked.is_finished());
    server.start();
    server.start();
    assert_eq!(asked.join().unwrap(), "hello");
    assert!(server.stop(None));

    let never = StreamServer::new(listener(), |_: TcpStream, _| ());
    assert!(never.stop(None));
    never.start();
    never.serve_forever().unwrap();
}

/// {test_serve_forever}: it returns when the server is stopped; the port can be had again at once.
#[test]
fn test_serve_forever() {
    let server = StreamServer::new(listener(), |stream: TcpStream, _| echo(stream));
    let address = server.listener().local_addr().unwrap();
    let serving = spawn({
        let server = server.clone();
        move || server.serve_forever().map_err(|error| error.to_string())
    });
    assert_eq!(ask(&server, "hello"), "hello");
    assert!(server.stop(Some(Duration::from_secs(5))));
    assert_eq!(serving.join().unwrap(), Ok(()));
    drop(server);
    let again =
        StreamServer::new(TcpListener::bind(address).unwrap(), |mut stream: TcpStream, _| {
            stream.write_all(b"again").unwrap();
        });
    again.start();
    assert_eq!(ask(&again, ""), "again");
    assert!(again.stop(None));
}

/// {test_error_in_spawn}: a handler that panics closes its connection, and harms no other.
#[test]
fn test_error_in_handler() {
    let server = StreamServer::new(listener(), |mut stream: TcpStream, _| {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(text, "right");
        stream.write_all(b"served").unwrap();
    });
    server.start();
    assert_eq!(ask(&server, "wrong"), "");
    assert_eq!(ask(&server, "right"), "served");
    assert!(server.stop(None));
}

/// {test_pool_full}: while there are as many as it has room for, the next one connects and is not served.
#[test]
fn test_pool_full() {
    let server = StreamServer::with_limit(listener(), 2, |stream: TcpStream, _| echo(stream));
    let address = server.listener().local_addr().unwrap();
    server.start();
    let mut clients: Vec<_> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
    for client in &mut clients {
        client.write_all(b"x").unwrap();
        client.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    }
    let mut buffer = [0; 1];
    let served = clients.iter_mut().map(|client| client.read(&mut buffer).is_ok());
    assert_eq!(served.collect::<Vec<_>>(), [true, true, false]);
    assert_eq!(server.connections(), 2);
    drop(clients.remove(0));
    let last = clients.last_mut().unwrap();
    last.set_read_timeout(None).unwrap();
    assert_eq!(last.read(&mut buffer).unwrap(), 1);
    drop(clients);
    assert!(server.stop(None));
}

/// What does not end within the limit is killed, and cleans up.
#[test]
fn stop_kills_what_does_not_end() {
    struct Clean(Rc<Cell<u32>>);
    impl Drop for Clean {
        fn drop(&mut self) {
            yield_now();
            self.0.set(self.0.get() + 1);
        }
    }
    let cleaned = Rc::new(Cell::new(0));
    let count = Rc::clone(&cleaned);
    let server = StreamServer::new(listener(), move |mut stream: TcpStream, _| {
        let _clean = Clean(Rc::clone(&count));
        let _ = stream.read(&mut [0; 1]);
    });
    let address = server.listener().local_addr().unwrap();
    server.start();
    let clients: Vec<_> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
    while server.connections() < 3 {
        yield_now();
    }
    yield_now();
    let (limit, start) = (Duration::from_millis(10), Instant::now());
    assert!(!server.stop(Some(limit)));
    assert!(start.elapsed() >= limit);
    assert_eq!((cleaned.get(), server.connections()), (3, 0));
    drop(clients);
}

#[test]
fn unix_sockets_are_served() {
    let path = std::env::temp_dir().join(format!("switchgrass-server-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    let server = StreamServer::new(listener, |stream: UnixStream, _| echo(stream));
    server.start();
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(b"hello").unwrap();
    let mut buffer = [0; 5];
    stream.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"hello");
    drop(stream);
    assert!(server.stop(None));
    std::fs::remove_file(&path).unwrap();
}

/// Half of the clients go away in the middle of what they say: the others are served, and nothing is left.
#[test]
fn clients_that_go_away_harm_nobody() {
    let ended = Rc::new(RefCell::new(0));
    let count = Rc::clone(&ended);
    let server = StreamServer::new(listener(), move |stream: TcpStream, _| {
        echo(stream);
        *count.borrow_mut() += 1;
    });
    let address = server.listener().local_addr().unwrap();
    server.start();
    let clients = (0..200).map(|number| {
        spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"hello").unwrap();
            if number % 2 == 0 {
                return 0;
            }
            let mut buffer = [0; 5];
            stream.read_exact(&mut buffer).unwrap();
            1
        })
    });
    let answered: i32 =
        join_all(clients.collect::<Vec<_>>()).into_iter().map(|answered| answered.unwrap()).sum();
    assert_eq!(answered, 100);
    assert!(server.stop(Some(Duration::from_secs(20))));
    assert_eq!(*ended.borrow(), 200);
}

/// What never has to wait lets the others have their turn all the same.
#[test]
fn one_who_never_waits_does_not_starve_the_others() {
    let (here, there) = (UdpSocket::bind("127.0.0.1:0").unwrap(), listener());
    let target = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let stop = Rc::new(Cell::new(false));
    let sleeper = spawn({
        let stop = Rc::clone(&stop);
        move || {
            sleep(Duration::from_millis(5));
            stop.set(true);
        }
    });
    while !stop.get() {
        // Nobody listens there: it is sent, or refused, at once.
        let _ = here.send_to(b"x", target);
    }
    sleeper.join().unwrap();
    drop(there);
}
