//! Ten thousand connections at once, of which half are cut in the middle of what they say: the server goes on, and
//! is afterwards what it was before. One test in a binary of its own, since it looks at the whole process; the
//! clients are a second process, as both ends have as many descriptors.

use std::cell::Cell;
use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream as StdStream};
use std::os::fd::AsRawFd;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;
use switchgrass::io::wait_readable;
use switchgrass::net::{StreamServer, TcpListener, TcpStream};
use switchgrass::{sleep, timeout};

/// In the process of the clients: the port of the server.
const PORT: &str = "SWITCHGRASS_TEST_PORT";
const CONNECTIONS: usize = 10_000;
const WAVES: usize = 3;
/// Descriptors of a process beside its connections, generously.
const OTHERS: usize = 200;
const REQUEST: &[u8] = b"what is the time?\n";
/// Of which so many bytes are sent before half of the connections are cut.
const FIRST: usize = 7;

/// As many connections as the limit of descriptors allows, which it raises as far as it may.
fn connections() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a place for the limit, which is then set to what it may be.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
        limit.rlim_cur = limit.rlim_max;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
    }
    let most = usize::try_from(limit.rlim_max).unwrap_or(usize::MAX);
    // Two at least, of which one is cut.
    most.saturating_sub(OTHERS).clamp(2, CONNECTIONS) & !1
}

/// Open descriptors, and resident bytes.
fn footprint() -> (usize, usize) {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    (fs::read_dir("/proc/self/fd").unwrap().count() - 1, pages * 4096)
}

#[test]
fn half_of_many_connections_are_cut() {
    let count = connections();
    match env::var(PORT) {
        Ok(port) => clients(count, port.parse().unwrap()),
        Err(_) => server(count),
    }
}

fn server(count: usize) {
    if count < CONNECTIONS {
        eprintln!(
            "!!! SKIPPED {CONNECTIONS} connections: the limit of descriptors allows {count}, so it is these"
        );
    }
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    // SAFETY: no preconditions. As many as the kernel allows may wait to be accepted.
    unsafe { libc::listen(listener.as_raw_fd(), libc::c_int::MAX) };
    let port = listener.local_addr().unwrap().port();
    let answered = Rc::new(Cell::new(0));
    let cut = Rc::new(Cell::new(0));
    let server = StreamServer::new(listener, {
        let (answered, cut) = (Rc::clone(&answered), Rc::clone(&cut));
        move |mut stream: TcpStream, _| {
            let mut request = [0; REQUEST.len()];
            match stream.read_exact(&mut request) {
                Err(_) => cut.set(cut.get() + 1),
                Ok(()) => {
                    assert_eq!(&request, REQUEST);
                    stream.write_all(&request).unwrap();
                    answered.set(answered.get() + 1);
                }
            }
        }
    });
    server.start();

    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "half_of_many_connections_are_cut", "--nocapture"])
        .env(PORT, port.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut say = child.stdin.take().unwrap();
    let mut said = BufReader::with_capacity(1, child.stdout.take().unwrap());
    let mut after = Vec::new();
    for wave in 1..=WAVES {
        expect(&mut said, "all are connected");
        wait_for(|| server.connections() == count);
        go_on(&mut say);
        expect(&mut said, "all are gone");
        wait_for(|| server.connections() == 0);
        assert_eq!((answered.get(), cut.get()), (count / 2 * wave, count / 2 * wave));
        after.push(footprint());
        go_on(&mut say);
    }
    assert!(child.wait().unwrap().success());
    eprintln!("{count} connections; descriptors and bytes after each wave: {after:?}");

    let (descriptors, bytes) = after[0];
    for (again, more) in &after[1..] {
        assert_eq!(*again, descriptors, "descriptors stay");
        // What one connection takes, and not what ten thousand do.
        let more = more.saturating_sub(bytes);
        assert!(more < bytes / 20 + (4 << 20), "{more} bytes stay of {count} connections");
    }
    // Still at work.
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.write_all(REQUEST).unwrap();
    let mut answer = [0; REQUEST.len()];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, REQUEST);
    drop(stream);
    assert!(server.stop(None));
}

fn wait_for(mut is_so: impl FnMut() -> bool) {
    let waited = timeout(Duration::from_secs(120), || {
        while !is_so() {
            sleep(Duration::from_millis(1));
        }
    });
    waited.expect("it does not come to that");
}

/// Reads up to a line, while the server goes on.
fn expect(said: &mut BufReader<ChildStdout>, line: &str) {
    let mut got = String::new();
    while got.trim_end() != line {
        let limit = Some(Duration::from_secs(120));
        assert!(wait_readable(said.get_ref(), limit).unwrap(), "the clients hang");
        let mut byte = [0];
        assert_eq!(said.read(&mut byte).unwrap(), 1, "the clients have ended");
        match byte {
            // What is not for us comes first: the harness says what it runs.
            [b'\n'] if got != line => got.clear(),
            [byte] => got.push(char::from(byte)),
        }
    }
}

fn go_on(say: &mut ChildStdin) {
    say.write_all(b"go on\n").unwrap();
}

/// The other process: with std alone, one connection after the other.
fn clients(count: usize, port: u16) {
    let mut orders = std::io::stdin().lock().lines();
    let mut wait = || assert_eq!(orders.next().unwrap().unwrap(), "go on");
    for _ in 0..WAVES {
        let mut streams: Vec<_> = (0..count)
            .map(|number| {
                // Several addresses, or there would be too few ports.
                let host = Ipv4Addr::new(127, 0, 0, 1 + (number % 16) as u8);
                let mut stream = StdStream::connect(SocketAddr::from((host, port))).unwrap();
                stream.write_all(&REQUEST[..FIRST]).unwrap();
                stream
            })
            .collect();
        println!("\nall are connected");
        wait();
        for (number, stream) in streams.drain(..).enumerate() {
            if number % 2 == 0 { cut(stream) } else { ask(stream) }
        }
        println!("\nall are gone");
        wait();
    }
}

/// Without a farewell.
fn cut(stream: StdStream) {
    let now = libc::linger { l_onoff: 1, l_linger: 0 };
    let (value, length) = ((&raw const now).cast(), size_of::<libc::linger>() as libc::socklen_t);
    // SAFETY: a value of the length that is said.
    let set = unsafe {
        libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, value, length)
    };
    assert_eq!(set, 0);
}

fn ask(mut stream: StdStream) {
    stream.write_all(&REQUEST[FIRST..]).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, REQUEST);
}
