//! Servers over several hubs.

use super::support::{LONG, ms, panic_message};
use super::{Held, hubs};
use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use switchgrass::multicore::{Hubs, StreamServers};
use switchgrass::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use switchgrass::{sleep, spawn, yield_now};

const HUBS: usize = 3;

/// A path for a socket, which is removed when this is dropped.
struct Path(PathBuf);

impl Path {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name =
            format!("switchgrass-multicore-{}-{}", std::process::id(), NEXT.fetch_add(1, SeqCst));
        Path(std::env::temp_dir().join(name))
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Sends back what comes, and notes on which hub.
fn echo<S: Read + Write>(hubs: &Hubs, seen: &Mutex<Vec<usize>>, mut stream: S) {
    seen.lock().unwrap().push(hubs.current().expect("a handler runs on a hub"));
    let mut buffer = [0; 64];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        stream.write_all(&buffer[..count]).unwrap();
    }
}

fn echo_server(hubs: &Hubs, address: &str) -> (StreamServers, Arc<Mutex<Vec<usize>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (also, note) = (hubs.clone(), Arc::clone(&seen));
    let servers = StreamServers::bind(hubs, address, move |stream, _| echo(&also, &note, stream));
    (servers.unwrap(), seen)
}

#[track_caller]
fn ask(mut stream: impl Read + Write, text: &str) {
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, text.as_bytes());
}

/// The kernel spreads them: with as many, each hub gets some.
#[test]
fn each_hub_listens_for_itself() {
    const CLIENTS: usize = 300;
    let hubs = hubs(HUBS);
    let (servers, seen) = echo_server(&hubs, "127.0.0.1:0");
    servers.start();
    let address = *servers.local_addr();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| spawn(move || ask(TcpStream::connect(address).unwrap(), &number.to_string())))
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    assert!(servers.stop(None));
    assert_eq!(servers.connections(), 0);
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), CLIENTS);
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), HUBS, "{seen:?}");
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
}

/// At the same port at once, with connections of before still being forgotten.
#[test]
fn again_at_the_same_port() {
    let hubs = hubs(2);
    let mut address = "127.0.0.1:0".to_owned();
    for round in 0..5 {
        let (servers, _) = echo_server(&hubs, &address);
        servers.start();
        address = servers.local_addr().to_string();
        let client = TcpStream::connect(*servers.local_addr()).unwrap();
        ask(&client, "hello");
        drop(client);
        if round % 2 == 0 {
            assert!(servers.stop(None));
        } else {
            // The connection is over by itself, and then the server.
            drop(servers);
        }
    }
    assert!(hubs.shutdown(None));
}

/// Those that there are end by themselves; no others come.
#[test]
fn stop_drains() {
    let hubs = hubs(HUBS);
    let (servers, _) = echo_server(&hubs, "127.0.0.1:0");
    servers.start();
    let address = *servers.local_addr();
    let clients: Vec<_> = (0..20).map(|_| TcpStream::connect(address).unwrap()).collect();
    clients.iter().for_each(|client| ask(client, "before"));
    assert_eq!(servers.connections(), 20);
    assert_eq!((0..HUBS).map(|hub| servers.connections_on(hub)).sum::<usize>(), 20);
    let servers = Arc::new(servers);
    let also = Arc::clone(&servers);
    let stopping = spawn(move || also.stop(None));
    while TcpStream::connect(address).is_ok() {
        yield_now();
    }
    clients.iter().for_each(|client| ask(client, "meanwhile"));
    assert!(!stopping.is_finished());
    drop(clients);
    assert!(stopping.join().unwrap());
    assert!(servers.stop(None), "again");
}

#[test]
fn stop_kills_what_is_left() {
    struct Counts(Arc<AtomicUsize>);

    impl Drop for Counts {
        fn drop(&mut self) {
            // A clean-up that waits.
            sleep(ms(1));
            self.0.fetch_add(1, SeqCst);
        }
    }

    let ended = Arc::new(AtomicUsize::new(0));
    let handle = |ended: &Arc<AtomicUsize>| {
        let ended = Arc::clone(ended);
        move |mut byte: [u8; 1], mut stream: Box<dyn Read>| {
            let _counts = Counts(Arc::clone(&ended));
            while stream.read_exact(&mut byte).is_ok() {}
        }
    };
    for by_each in [true, false] {
        let hubs = hubs(2);
        let handle = handle(&ended);
        let handler = move |stream: TcpStream, _| handle([0], Box::new(stream));
        let servers = if by_each {
            StreamServers::bind(&hubs, "127.0.0.1:0", handler)
        } else {
            StreamServers::hand_over(&hubs, TcpListener::bind("127.0.0.1:0").unwrap(), handler)
        };
        let servers = servers.unwrap();
        servers.start();
        let clients: Vec<_> =
            (0..10).map(|_| TcpStream::connect(*servers.local_addr()).unwrap()).collect();
        while servers.connections() < clients.len() {
            yield_now();
        }
        assert!(!servers.stop(Some(ms(5))));
        assert_eq!(ended.swap(0, SeqCst), clients.len());
        assert!(hubs.shutdown(None), "the hubs are as they were");
    }
}

/// One accepts, and all get their share: in turn, where each has room.
#[test]
fn connections_are_handed_over() {
    const CLIENTS: usize = 30;
    let (hubs, path) = (hubs(HUBS), Path::new());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (also, note) = (hubs.clone(), Arc::clone(&seen));
    let listener = UnixListener::bind(&path.0).unwrap();
    let handler = move |stream: UnixStream, _| echo(&also, &note, stream);
    let servers = StreamServers::hand_over(&hubs, listener, handler).unwrap();
    assert_eq!(servers.local_addr().as_pathname(), Some(&*path.0));
    servers.start();
    for number in 0..CLIENTS {
        ask(UnixStream::connect(&path.0).unwrap(), &number.to_string());
    }
    assert!(servers.stop(None));
    let mut seen = seen.lock().unwrap().clone();
    seen.sort();
    let share = CLIENTS / HUBS;
    let expected: Vec<_> = (0..HUBS).flat_map(|hub| [hub].repeat(share)).collect();
    assert_eq!(seen, expected);
}

/// All that was accepted is served before the end, also what was on its way.
#[test]
fn handed_over_and_stopped_at_once() {
    for _ in 0..30 {
        let (hubs, path) = (hubs(2), Path::new());
        let served = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&served);
        let handler = move |mut stream: UnixStream, _| {
            yield_now();
            stream.write_all(b"x").unwrap();
            count.fetch_add(1, SeqCst);
        };
        let listener = UnixListener::bind(&path.0).unwrap();
        let servers = StreamServers::hand_over_with_limit(&hubs, listener, 2, handler).unwrap();
        let clients: Vec<_> = (0..40).map(|_| UnixStream::connect(&path.0).unwrap()).collect();
        servers.start();
        while served.load(SeqCst) < 5 {
            yield_now();
        }
        assert!(servers.stop(None));
        // A client was answered, or its connection was never taken: then it is reset.
        let answered = clients.into_iter().map(|mut client| client.read(&mut [0]));
        let answered = answered.filter(|answer| matches!(answer, Ok(1))).count();
        assert_eq!(answered, served.load(SeqCst));
    }
}

#[test]
fn a_handler_that_panics_harms_nobody() {
    let hubs = hubs(2);
    let servers = StreamServers::bind(&hubs, "127.0.0.1:0", |mut stream: TcpStream, _| {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        assert_ne!(byte[0], b'!', "a bad request");
        stream.write_all(&byte).unwrap();
    });
    let servers = servers.unwrap();
    servers.start();
    for number in 0..40 {
        let mut stream = TcpStream::connect(*servers.local_addr()).unwrap();
        stream.write_all(if number % 2 == 0 { b"!" } else { b"." }).unwrap();
        let mut answer = Vec::new();
        // Closed without an answer, or reset.
        let _ = stream.read_to_end(&mut answer);
        assert_eq!(answer, if number % 2 == 0 { b"".as_slice() } else { b"." });
    }
    assert!(servers.stop(None));
}

/// So many at a time on each hub.
#[test]
fn limits() {
    for by_each in [true, false] {
        let hubs = hubs(2);
        let most = Arc::new(Mutex::new([0; 2]));
        let inside = [0, 1].map(|_| AtomicUsize::new(0));
        let (also, note) = (hubs.clone(), Arc::clone(&most));
        let handler = move |mut stream: TcpStream, _: SocketAddr| {
            let hub = also.current().unwrap();
            let now = inside[hub].fetch_add(1, SeqCst) + 1;
            let mut most = note.lock().unwrap();
            most[hub] = most[hub].max(now);
            drop(most);
            let _ = stream.read(&mut [0]);
            inside[hub].fetch_sub(1, SeqCst);
            let _ = stream.write_all(b"x");
        };
        let servers = if by_each {
            StreamServers::bind_with_limit(&hubs, "127.0.0.1:0", 3, handler).unwrap()
        } else {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            StreamServers::hand_over_with_limit(&hubs, listener, 3, handler).unwrap()
        };
        servers.start();
        let address = *servers.local_addr();
        let client = move || -> io::Result<()> {
            let mut stream = TcpStream::connect(address)?;
            stream.write_all(b"x")?;
            stream.read_exact(&mut [0])
        };
        let clients: Vec<_> = (0..100).map(|_| spawn(client)).collect();
        clients.into_iter().for_each(|client| client.join().unwrap().unwrap());
        assert!(servers.stop(None));
        let most = most.lock().unwrap();
        assert!(most.iter().all(|most| (1..=3).contains(most)), "{most:?}");
    }
}

/// A pause: who connects waits where the kernel keeps them.
#[test]
fn paused() {
    let hubs = hubs(2);
    let (servers, seen) = echo_server(&hubs, "127.0.0.1:0");
    servers.start();
    let address = *servers.local_addr();
    let before = TcpStream::connect(address).unwrap();
    ask(&before, "before");
    servers.stop_accepting();
    // Each hub has done it when what was spawned after it has run.
    (0..2).for_each(|hub| hubs.spawn_on(hub, yield_now).join().unwrap());
    let meanwhile = TcpStream::connect(address).unwrap();
    meanwhile.set_read_timeout(Some(ms(10))).unwrap();
    (&meanwhile).write_all(b"meanwhile").unwrap();
    let error = (&meanwhile).read(&mut [0; 9]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    ask(&before, "still there");
    assert_eq!(seen.lock().unwrap().len(), 1);
    servers.start();
    let mut answer = [0; 9];
    meanwhile.set_read_timeout(None).unwrap();
    (&meanwhile).read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"meanwhile");
    drop((before, meanwhile));
    assert!(servers.stop(None));
}

/// It waits until somebody stops it; and hubs that are shut down stop it.
#[test]
fn serve_forever() {
    for by_hubs in [false, true] {
        let hubs = hubs(2);
        let (servers, _) = echo_server(&hubs, "127.0.0.1:0");
        let servers = Arc::new(servers);
        let also = Arc::clone(&servers);
        let serving = thread::spawn(move || also.serve_forever());
        let address = *servers.local_addr();
        let client = TcpStream::connect(address).unwrap();
        ask(&client, "hello");
        drop(client);
        if by_hubs {
            assert!(hubs.shutdown(Some(LONG)));
        }
        assert!(servers.stop(None));
        serving.join().unwrap().unwrap();
        assert!(TcpStream::connect(address).is_err());
        if by_hubs {
            let error = StreamServers::bind(&hubs, "127.0.0.1:0", |_, _| ()).unwrap_err();
            assert_eq!(error.to_string(), "the hubs were shut down and take no more tasks");
        }
    }
}

/// Hubs that are shut down with a limit kill connections that are left.
#[test]
fn shut_down_with_connections() {
    for by_each in [true, false] {
        let (hubs, path) = (hubs(2), Path::new());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (also, note) = (hubs.clone(), Arc::clone(&seen));
        if by_each {
            let (servers, _) = echo_server(&hubs, "127.0.0.1:0");
            servers.start();
            let client = TcpStream::connect(*servers.local_addr()).unwrap();
            ask(&client, "hello");
            assert!(!hubs.shutdown(Some(ms(5))));
            assert!(!matches!((&client).read(&mut [0]), Ok(1..)));
            assert!(!servers.stop(None));
        } else {
            let handler = move |stream: UnixStream, _| echo(&also, &note, stream);
            let listener = UnixListener::bind(&path.0).unwrap();
            let servers = StreamServers::hand_over(&hubs, listener, handler).unwrap();
            servers.start();
            let client = UnixStream::connect(&path.0).unwrap();
            ask(&client, "hello");
            assert!(!hubs.shutdown(Some(ms(5))));
            assert!(!matches!((&client).read(&mut [0]), Ok(1..)));
            assert!(!servers.stop(None));
        }
    }
}

/// Connections that are handed over go past a hub that has no room, as one has that is held up.
#[test]
fn past_a_hub_that_is_held_up() {
    let (hubs, path) = (hubs(2), Path::new());
    let listener = UnixListener::bind(&path.0).unwrap();
    let served = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&served);
    let handler = move |_: UnixStream, _| {
        count.fetch_add(1, SeqCst);
    };
    let servers = StreamServers::hand_over(&hubs, listener, handler).unwrap();
    servers.start();
    let held = Held::hold(&hubs, 1);
    let clients: Vec<_> = (0..100).map(|_| UnixStream::connect(&path.0).unwrap()).collect();
    // Sixteen are on their way to the other, and one is at its door: all the rest are served.
    while served.load(SeqCst) < 100 - 17 {
        yield_now();
    }
    held.let_go();
    assert!(servers.stop(None));
    assert_eq!(served.load(SeqCst), clients.len());
}

/// It would wait for itself. Nothing is stopped.
#[test]
fn a_handler_that_stops_its_own_server_is_refused() {
    let hubs = hubs(HUBS);
    let own: Arc<Mutex<Option<Arc<StreamServers>>>> = Arc::default();
    let also = Arc::clone(&own);
    let servers = StreamServers::bind(&hubs, "127.0.0.1:0", move |mut stream, _| {
        let servers = also.lock().unwrap().clone().unwrap();
        let messages = [None, Some(ms(1))].map(|limit| panic_message(|| servers.stop(limit)));
        assert_eq!(messages[0], messages[1]);
        stream.write_all(messages[0].as_bytes()).unwrap();
    });
    let servers = Arc::new(servers.unwrap());
    *own.lock().unwrap() = Some(Arc::clone(&servers));
    servers.start();
    for _ in 0..2 {
        let mut text = String::new();
        let mut client = TcpStream::connect(*servers.local_addr()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client.read_to_string(&mut text).expect("it does not wait for itself");
        assert!(text.starts_with("a handler cannot stop its own server"), "{text}");
    }
    assert!(servers.stop(None));
    own.lock().unwrap().take();
}
