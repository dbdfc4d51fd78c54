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

/// {test_subclass_just_create}: while it does not accept, nobody new is served; who is served is so further.
#[test]
fn test_stop_accepting() {
    let server = StreamServer::new(listener(), |stream: TcpStream, _| echo(stream));
    let address = server.listener().local_addr().unwrap();
    server.start_accepting();
    let serving = spawn({
        let server = server.clone();
        move || server.serve_forever().is_ok()
    });
    let mut before = TcpStream::connect(address).unwrap();
    before.write_all(b"x").unwrap();
    assert_eq!(before.read(&mut [0; 1]).unwrap(), 1);
    for _ in 0..3 {
        server.stop_accepting();
        server.stop_accepting();
        assert!(!server.is_accepting());
        let mut after = TcpStream::connect(address).unwrap();
        after.write_all(b"y").unwrap();
        after.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        assert!(after.read(&mut [0; 1]).is_err());
        before.write_all(b"x").unwrap();
        assert_eq!(before.read(&mut [0; 1]).unwrap(), 1);
        assert!(!serving.is_finished());
        server.start_accepting();
        assert!(server.is_accepting());
        after.set_read_timeout(None).unwrap();
        assert_eq!(after.read(&mut [0; 1]).unwrap(), 1);
    }
    drop(before);
    assert!(server.stop(Some(Duration::from_secs(10))));
    assert!(serving.join().unwrap());
}

/// Connections that come while it starts and stops to accept are served, each once.
#[test]
fn no_connection_is_lost_by_a_pause() {
    const COUNT: usize = 100;
    let served = Rc::new(Cell::new(0));
    let count = Rc::clone(&served);
    let server = StreamServer::new(listener(), move |stream: TcpStream, _| {
        count.set(count.get() + 1);
        echo(stream);
    });
    let address = server.listener().local_addr().unwrap();
    let clients: Vec<_> = (0..COUNT)
        .map(|_| {
            spawn(move || {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.write_all(b"hello").unwrap();
                stream.read_exact(&mut [0; 5]).unwrap();
            })
        })
        .collect();
    while !clients.iter().all(|client| client.is_finished()) {
        server.start_accepting();
        yield_now();
        server.stop_accepting();
        yield_now();
    }
    join_all(clients).into_iter().for_each(|ended| ended.unwrap());
    assert!(server.stop(None));
    assert_eq!(served.get(), COUNT);
}

/// {test_subclass_just_create}: after the stop, who connects is refused, though the server is there still; it does
/// not start again.
#[test]
fn test_refused_after_stop() {
    let server = StreamServer::new(listener(), |stream: TcpStream, _| echo(stream));
    let address = server.listener().local_addr().unwrap();
    server.start();
    assert_eq!(ask(&server, "hello"), "hello");
    assert!(server.stop(None));
    assert!(server.stop(None));
    let refused = TcpStream::connect(address).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    server.start();
    server.start_accepting();
    assert!(!server.is_accepting());
    server.serve_forever().unwrap();
    // One that shares the listener has it still.
    let kept = listener();
    let address = kept.local_addr().unwrap();
    let server = StreamServer::new(kept.try_clone().unwrap(), |_: TcpStream, _| ());
    server.start();
    assert!(server.stop(None));
    let accepting = spawn(move || kept.accept().unwrap().1);
    let client = TcpStream::connect(address).unwrap();
    assert_eq!(accepting.join().unwrap(), client.local_addr().unwrap());
}

/// {test_serve_forever_after_start}, and two who wait for it.
#[test]
fn test_serve_forever_after_start() {
    let server = StreamServer::new(listener(), |stream: TcpStream, _| echo(stream));
    server.start();
    let serving: Vec<_> = (0..2)
        .map(|_| {
            let server = server.clone();
            spawn(move || server.serve_forever().is_ok())
        })
        .collect();
    assert_eq!(ask(&server, "hello"), "hello");
    assert!(serving.iter().all(|serving| !serving.is_finished()));
    assert!(server.stop(None));
    assert!(join_all(serving).into_iter().all(|ended| ended.unwrap()));
}

/// {test_server_closes_client_sockets}: when the handler returns, and when it panics.
#[test]
fn test_server_closes_client_sockets() {
    let server = StreamServer::new(listener(), |stream: TcpStream, _| {
        let mut buffer = [0; 1];
        (&stream).read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"x");
    });
    let address = server.listener().local_addr().unwrap();
    server.start();
    for text in [b"x", b"y"] {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(text).unwrap();
        assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
    }
    assert!(server.stop(None));
}

/// {portforwarder}: both directions, each in a coroutine; the end of one is the end of that direction alone.
#[test]
fn test_portforwarder() {
    let target = StreamServer::new(listener(), |stream: TcpStream, _| echo(stream));
    target.start();
    let to = target.listener().local_addr().unwrap();
    let forwarder = StreamServer::new(listener(), move |stream: TcpStream, _| {
        let (mut read, mut write) = stream.into_split();
        let (mut back, mut forth) = TcpStream::connect(to).unwrap().into_split();
        let there = spawn(move || std::io::copy(&mut read, &mut forth).unwrap());
        std::io::copy(&mut back, &mut write).unwrap();
        there.join().unwrap();
    });
    forwarder.start();
    let clients = (0..10).map(|number: u32| {
        let forwarder = forwarder.clone();
        spawn(move || {
            let text = number.to_string().repeat(1_000);
            assert_eq!(ask(&forwarder, &text), text);
        })
    });
    join_all(clients.collect::<Vec<_>>()).into_iter().for_each(|ended| ended.unwrap());
    assert!(forwarder.stop(None));
    assert!(target.stop(None));
}

/// An error that does not pass ends the server, and the first who asks is told.
#[test]
fn a_listener_that_was_closed_ends_the_server() {
    let server = StreamServer::new(listener(), |_: TcpStream, _| ());
    let serving = spawn({
        let server = server.clone();
        move || server.serve_forever().map_err(|error| error.raw_os_error())
    });
    yield_now();
    yield_now();
    server.listener().close();
    assert_eq!(serving.join().unwrap(), Err(Some(libc::EBADF)));
    assert!(!server.is_accepting());
    assert!(server.stop(None));
}

/// The kernel has accepted them, so their clients may have sent their requests already.
#[test]
fn stop_serves_connections_that_wait_to_be_accepted() {
    let server = StreamServer::new(listener(), |stream: TcpStream, _| echo(stream));
    let address = server.listener().local_addr().unwrap();
    server.start();
    yield_now();
    let mut clients: Vec<_> = (0..50)
        .map(|_| {
            let mut client = std::net::TcpStream::connect(address).unwrap();
            client.write_all(b"hello").unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            client
        })
        .collect();
    // Nobody has run since they came.
    assert_eq!(server.connections(), 0);
    assert!(server.stop(None));
    for client in &mut clients {
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "hello");
    }
    let refused = std::net::TcpStream::connect(address).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

/// Also those that its limit has kept waiting, a few at a time, and those that came in a pause.
#[test]
fn stop_keeps_the_limit_of_connections() {
    let (now, most) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let (running, peak) = (Rc::clone(&now), Rc::clone(&most));
    let server = StreamServer::with_limit(listener(), 3, move |stream: TcpStream, _| {
        running.set(running.get() + 1);
        peak.set(peak.get().max(running.get()));
        sleep(Duration::from_millis(1));
        echo(stream);
        running.set(running.get() - 1);
    });
    let address = server.listener().local_addr().unwrap();
    server.start();
    server.stop_accepting();
    yield_now();
    let clients: Vec<_> = (0..20)
        .map(|_| {
            let mut client = std::net::TcpStream::connect(address).unwrap();
            client.write_all(b"hello").unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            client
        })
        .collect();
    assert!(server.stop(Some(Duration::from_secs(10))));
    for mut client in clients {
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "hello");
    }
    assert_eq!(most.get(), 3);
}

/// More than the 128 that std has room for connect at once, while nobody accepts.
#[test]
fn a_burst_of_connections_waits_to_be_accepted() {
    let somaxconn = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    let count = somaxconn.trim().parse::<usize>().unwrap().min(300);
    let path = std::env::temp_dir().join(format!("switchgrass-burst-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let unix = UnixListener::bind(&path).unwrap();
    let connect = || std::os::unix::net::UnixStream::connect(&path).unwrap();
    let waiting: Vec<_> = (0..count).map(|_| connect()).collect();
    assert_eq!(unix.incoming().take(count).filter(Result::is_ok).count(), waiting.len());
    std::fs::remove_file(&path).unwrap();

    for tcp in [listener(), TcpListener::bind_reuse_port("127.0.0.1:0").unwrap()] {
        let address = tcp.local_addr().unwrap();
        // One that finds no room is not refused: its packet is lost, and it tries again a second later.
        let limit = Duration::from_millis(900);
        let connect = || std::net::TcpStream::connect_timeout(&address, limit).unwrap();
        let waiting: Vec<_> = (0..count).map(|_| connect()).collect();
        assert_eq!(tcp.incoming().take(count).filter(Result::is_ok).count(), waiting.len());
    }
}
