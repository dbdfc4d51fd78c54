//! The servers of the tutorial, which answer each line with the same in capitals: a process, a thread, a
//! coroutine a connection, and several processes with a coroutine a connection. All are asked the same.

use super::{LONG, Server, programs, read_all};
use std::collections::HashSet;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// The same tests for a server, with its arguments.
macro_rules! ask {
    ($server:ident, $arguments:expr) => {
        mod $server {
            ask!($server, $arguments,
                one_client one_after_the_other fifty_clients_at_once lines_without_waiting
                half_of_a_connection long_lines those_who_are_cut_off_harm_nobody
                ends_when_its_connections_have ends_those_that_do_not_end
                ends_in_order_when_all_are_told_to ends_in_order_when_nobody_reads_its_output
            );
        }
    };
    ($server:ident, $arguments:expr, $($test:ident)*) => {$(
        #[test]
        fn $test() {
            super::$test(stringify!($server), $arguments);
        }
    )*};
}

ask!(process_server, &[]);
ask!(thread_server, &[]);
ask!(coroutine_server, &[]);
ask!(prefork_server, &["2"]);

/// One who sends lines and reads what comes back.
struct Client(BufReader<TcpStream>);

impl Client {
    fn of(server: &Server) -> Self {
        Client(BufReader::new(server.connect()))
    }

    fn send(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
    }

    #[track_caller]
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line
    }

    /// Sends a word and gets it back.
    #[track_caller]
    fn check(&mut self, word: &str) {
        self.send(&format!("{word}\n"));
        assert_eq!(self.line(), format!("{}\n", word.to_uppercase()));
    }

    /// Says that this was all, and gets the end.
    #[track_caller]
    fn leave(self) {
        self.0.get_ref().shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_all(self.0.into_inner()), "");
    }

    /// Which worker of `prefork_server` it talks to.
    #[track_caller]
    fn worker(&mut self) -> u32 {
        self.send("pid\n");
        self.line().trim().parse().expect("the number of a process")
    }
}

impl Server {
    fn signal(&self, signal: i32) {
        send(self.child.id(), signal);
    }

    /// Reads what it prints until a line begins like this, and returns the rest of that.
    #[track_caller]
    fn printed(&mut self, begin: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "it has not printed {begin:?}");
            if let Some(rest) = line.strip_prefix(begin) {
                return rest.trim().to_owned();
            }
        }
    }

    /// From now on it cannot print any more.
    fn close_output(&self) {
        let nothing = fs::File::open("/dev/null").unwrap();
        // SAFETY: two open descriptors; that of the pipe is ours, and is another file from now on.
        unsafe { libc::dup2(nothing.as_raw_fd(), self.output.get_ref().as_raw_fd()) };
    }

    /// How many descriptors it has open.
    fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// Its children, with their states: Z is a zombie.
    fn children(&self) -> Vec<(u32, char)> {
        let processes = fs::read_dir("/proc").unwrap();
        let numbers =
            processes.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
        let child = |pid: u32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            // After the name, which may contain anything: the state, and the parent.
            let (_, rest) = stat.rsplit_once(") ")?;
            let mut words = rest.split(' ');
            let state = words.next()?.chars().next()?;
            (words.next()? == self.child.id().to_string()).then_some((pid, state))
        };
        numbers.filter_map(child).collect()
    }
}

fn send(pid: u32, signal: i32) {
    // SAFETY: no preconditions.
    assert_eq!(unsafe { libc::kill(pid as i32, signal) }, 0, "{}", io::Error::last_os_error());
}

/// Waits until something is so.
#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < LONG, "it does not come about that {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn one_client(example: &str, arguments: &[&str]) {
    let server = Server::start(example, arguments);
    let mut client = Client::of(&server);
    client.check("hello");
    client.check("");
    client.check("42, and more");
    client.leave();
    // What is no text comes back as it was.
    let mut stream = server.connect();
    stream.write_all(b"a\xffb\0\r\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"A\xffB\0\r\n");
}

fn one_after_the_other(example: &str, arguments: &[&str]) {
    let server = Server::start(example, arguments);
    for number in 0..50 {
        let mut client = Client::of(&server);
        client.check(&format!("number {number}"));
        client.leave();
    }
}

fn fifty_clients_at_once(example: &str, arguments: &[&str]) {
    const CLIENTS: usize = 50;
    let server = Server::start(example, arguments);
    let all_are_served = Barrier::new(CLIENTS);
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (server, all_are_served) = (&server, &all_are_served);
            scope.spawn(move || {
                let mut client = Client::of(server);
                client.check(&format!("client {number}"));
                all_are_served.wait();
                client.check(&format!("client {number} again"));
                client.leave();
            });
        }
    });
}

fn lines_without_waiting(example: &str, arguments: &[&str]) {
    let server = Server::start(example, arguments);
    let lines: String = (0..20_000).map(|number| format!("line {number}\n")).collect();
    let mut client = Client::of(&server);
    let mut writer = client.0.get_ref().try_clone().unwrap();
    let text = thread::scope(|scope| {
        scope.spawn(|| {
            writer.write_all(lines.as_bytes()).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut text = String::new();
        client.0.read_to_string(&mut text).unwrap();
        text
    });
    assert!(text == lines.to_uppercase(), "{} bytes of {}", text.len(), lines.len());
}

fn half_of_a_connection(example: &str, arguments: &[&str]) {
    let server = Server::start(example, arguments);
    assert_eq!(server.tell(b"a\nb"), "A\nB");
    assert_eq!(server.tell(b""), "");
}

fn long_lines(example: &str, arguments: &[&str]) {
    let server = Server::start(example, arguments);
    let line = "x".repeat(1_000_000);
    let mut client = Client::of(&server);
    let mut writer = client.0.get_ref().try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| writeln!(writer, "{line}").unwrap());
        assert!(client.line() == format!("{}\n", line.to_uppercase()));
    });
    client.leave();
}

fn those_who_are_cut_off_harm_nobody(example: &str, arguments: &[&str]) {
    let mut server = Server::start(example, arguments);
    let mut other = Client::of(&server);
    other.check("before");
    for _ in 0..10 {
        let mut client = Client::of(&server);
        client.send("half a li");
        drop(client);
        // One who has not read what has come resets its connection.
        let mut client = Client::of(&server);
        client.send("a line\nhalf a li");
        client.0.get_ref().peek(&mut [0]).unwrap();
        drop(client);
    }
    other.check("after");
    Client::of(&server).check("new");
    other.leave();
    assert!(server.is_alive());
}

fn ends_when_its_connections_have(example: &str, arguments: &[&str]) {
    let mut server = Server::start(example, arguments);
    let mut client = Client::of(&server);
    client.check("before");
    server.signal(libc::SIGTERM);
    server.printed("SIGTERM: ");
    client.check("after");
    until("nobody can connect", || match TcpStream::connect(server.address) {
        Err(error) => error.kind() == io::ErrorKind::ConnectionRefused,
        Ok(_) => false,
    });
    client.check("still");
    client.leave();
    assert_eq!(server.printed("stopped, all ended by themselves: "), "true");
    assert!(server.child.wait().unwrap().success());
}

fn ends_in_order_when_nobody_reads_its_output(example: &str, arguments: &[&str]) {
    let mut server = Server::start(example, arguments);
    server.close_output();
    let mut client = Client::of(&server);
    client.check("before");
    server.signal(libc::SIGTERM);
    until("nobody can connect", || TcpStream::connect(server.address).is_err());
    client.check("still");
    client.leave();
    assert!(server.child.wait().unwrap().success());
}

fn ends_those_that_do_not_end(example: &str, arguments: &[&str]) {
    let mut server = Server::start(example, arguments);
    let mut client = Client::of(&server);
    client.check("before");
    let start = Instant::now();
    server.signal(libc::SIGTERM);
    server.printed("SIGTERM: ");
    client.check("after");
    assert_eq!(server.printed("stopped, all ended by themselves: "), "false");
    assert!(start.elapsed() >= Duration::from_secs(2));
    assert!(server.child.wait().unwrap().success());
    assert_eq!(read_all(client.0.into_inner()), "");
}

/// As by Ctrl-C at a terminal: the children are sent the signal, too.
fn ends_in_order_when_all_are_told_to(example: &str, arguments: &[&str]) {
    let mut command = programs::command(example);
    command.arg("127.0.0.1:0").args(arguments).process_group(0);
    let mut server = Server::run(example, &mut command);
    if example == "prefork_server" {
        // One that has only begun would be ended by the signal.
        (0..2).for_each(|_| drop(server.printed("worker ")));
    }
    let mut client = Client::of(&server);
    client.check("before");
    // SAFETY: no preconditions.
    assert_eq!(unsafe { libc::killpg(server.child.id() as i32, libc::SIGINT) }, 0);
    server.printed("SIGINT: ");
    client.check("after");
    client.leave();
    assert_eq!(server.printed("stopped, all ended by themselves: "), "true");
    assert!(server.child.wait().unwrap().success());
}

// ---- a process a connection

#[test]
fn two_hundred_connections_leave_no_zombie_and_no_descriptor() {
    let server = Server::start("process_server", &[]);
    // What the hub opens once is open after the first.
    let round = |clients: usize| {
        let mut all: Vec<_> = (0..clients).map(|_| Client::of(&server)).collect();
        all.iter_mut().for_each(|client| client.check("hello"));
        let children = server.children();
        assert!(children.len() >= clients, "a process a connection: {children:?}");
        all.into_iter().for_each(Client::leave);
    };
    round(1);
    until("the first child is gone", || server.children().is_empty());
    let before = server.descriptors();
    for clients in [1, 20] {
        (0..200 / clients).for_each(|_| round(clients));
        until("no child is left, and no zombie", || server.children().is_empty());
        until("no descriptor is left", || server.descriptors() == before);
    }
}

/// The end comes when the child of the connection ends, though there are others: none has a copy of it.
#[test]
fn the_end_of_a_connection_comes_at_once() {
    let server = Server::start("process_server", &[]);
    for _ in 0..5 {
        // All wait in the listener before the first is accepted.
        send(server.child.id(), libc::SIGSTOP);
        let mut clients: Vec<_> = (0..20).map(|_| Client::of(&server)).collect();
        send(server.child.id(), libc::SIGCONT);
        clients.iter_mut().for_each(|client| client.check("hello"));
        while !clients.is_empty() {
            clients.remove(clients.len() / 2).leave();
            clients.iter_mut().for_each(|client| client.check("still there"));
        }
    }
}

#[test]
fn a_child_that_is_killed_takes_its_connection_with_it_and_no_other() {
    let server = Server::start("process_server", &[]);
    let mut client = Client::of(&server);
    client.check("hello");
    let first = server.children();
    let mut others: Vec<_> = (0..5).map(|_| Client::of(&server)).collect();
    others.iter_mut().for_each(|client| client.check("hello"));
    let [(pid, _)] = first[..] else { panic!("one child: {first:?}") };
    send(pid, libc::SIGKILL);
    assert_eq!(read_all(client.0.into_inner()), "");
    others.iter_mut().for_each(|client| client.check("hello"));
    until("it is no zombie", || server.children().iter().all(|(child, _)| *child != pid));
}

/// A server that is gone takes its children along, however it went.
#[test]
fn children_end_with_their_server() {
    let mut server = Server::start("process_server", &[]);
    let mut client = Client::of(&server);
    client.check("hello");
    server.signal(libc::SIGKILL);
    server.child.wait().unwrap();
    assert_eq!(read_all(client.0.into_inner()), "");
}

// ---- several processes

/// Connects until every one of so many workers was met, and returns who they are.
#[track_caller]
fn meet(server: &Server, count: usize) -> HashSet<u32> {
    let mut met = HashSet::new();
    until("every worker gets connections", || {
        met.insert(Client::of(server).worker());
        met.len() == count
    });
    met
}

#[test]
fn every_worker_gets_connections() {
    let mut server = Server::start("prefork_server", &["4"]);
    let workers: HashSet<u32> = (0..4)
        .map(|_| server.printed("worker ")[..].split(' ').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(meet(&server, 4), workers);
    let children: HashSet<u32> = server.children().into_iter().map(|(pid, _)| pid).collect();
    assert_eq!(children, workers);
}

/// The new worker comes when the old one accepts no more, and not when it ends.
#[test]
fn a_worker_that_is_told_to_end_is_replaced_at_once() {
    let server = Server::start("prefork_server", &["1"]);
    let mut client = Client::of(&server);
    let worker = client.worker();
    send(worker, libc::SIGTERM);
    until("there is another", || Client::of(&server).worker() != worker);
    // It has what it had.
    assert_eq!(client.worker(), worker);
    client.leave();
    until("it is gone", || server.children().len() == 1);
}

#[test]
fn workers_are_replaced_when_nobody_reads_the_output() {
    let server = Server::start("prefork_server", &["1"]);
    server.close_output();
    for signal in [libc::SIGTERM, libc::SIGKILL] {
        let worker = Client::of(&server).worker();
        send(worker, signal);
        let mut other = worker;
        // One that is killed resets what it has, and what waits for it.
        until("there is another", || {
            let mut client = Client::of(&server);
            let _ = client.0.get_mut().write_all(b"pid\n");
            let mut line = String::new();
            let _ = client.0.read_line(&mut line);
            other = line.trim().parse().unwrap_or(other);
            other != worker
        });
    }
}

#[test]
fn a_worker_that_is_killed_is_replaced_and_the_others_go_on() {
    let server = Server::start("prefork_server", &["3"]);
    let before = meet(&server, 3);
    let mut clients: Vec<(u32, Client)> = Vec::new();
    until("there is a connection with each", || {
        let mut client = Client::of(&server);
        let worker = client.worker();
        if clients.iter().all(|(other, _)| *other != worker) {
            clients.push((worker, client));
        }
        clients.len() == 3
    });
    let (killed, client) = clients.pop().unwrap();
    send(killed, libc::SIGKILL);
    assert_eq!(read_all(client.0.into_inner()), "");
    // Whoever comes meanwhile is served, if later.
    for _ in 0..100 {
        assert_ne!(Client::of(&server).worker(), killed);
    }
    for (worker, client) in &mut clients {
        assert_eq!(client.worker(), *worker);
    }
    let after = meet(&server, 3);
    assert_eq!(after.intersection(&before).count(), 2);
    assert_eq!(server.children().len(), 3, "and no zombie");
}

/// Takes the reading end of what it prints away.
fn close_output(server: &mut Server) {
    let mut other = Command::new("true").stdout(Stdio::piped()).spawn().unwrap();
    server.output = BufReader::new(other.stdout.take().unwrap());
    other.wait().unwrap();
}

#[test]
fn a_closed_output_ends_no_server() {
    let all: [(&str, &[&str]); 4] = [
        ("coroutine_server", &[]),
        ("thread_server", &[]),
        ("process_server", &[]),
        ("prefork_server", &["2"]),
    ];
    for (example, more) in all {
        let mut server = Server::start(example, more);
        close_output(&mut server);
        for _ in 0..3 {
            let mut client = Client::of(&server);
            client.check("hello");
            if example == "prefork_server" {
                // It says so, and has another begin.
                let worker = client.worker();
                send(worker, libc::SIGKILL);
                until("it is replaced", || {
                    let children = server.children();
                    children.len() == 2 && children.iter().all(|(child, _)| *child != worker)
                });
            }
        }
        assert!(server.is_alive(), "{example}");
        server.signal(libc::SIGTERM);
        until("it ends", || !server.is_alive());
        assert_eq!(server.child.wait().unwrap().code(), Some(0), "{example}");
    }
}

/// Has others end, also if this one fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[test]
fn a_restart_under_load_loses_nothing() {
    const WORKERS: usize = 2;
    const RESTARTS: usize = 20;
    let mut server = Server::start("prefork_server", &[&WORKERS.to_string()]);
    let first = meet(&server, WORKERS);
    let address = server.address;
    let (is_over, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    // One that has a line under way all the time, and is not cut off before it ends.
    let mut lasting = Client::of(&server);
    let its_worker = lasting.worker();
    thread::scope(|scope| {
        let over = Over(&is_over);
        let ask = || {
            while !is_over.load(Relaxed) {
                // Neither refused nor reset, at any time.
                let mut stream = TcpStream::connect(address).expect("nobody is refused");
                stream.set_read_timeout(Some(LONG)).unwrap();
                stream.write_all(b"hello\n").expect("nobody is cut off");
                stream.shutdown(Shutdown::Write).expect("nobody is cut off");
                let mut text = String::new();
                stream.read_to_string(&mut text).expect("nobody is cut off");
                assert_eq!(text, "HELLO\n");
                served.fetch_add(1, Relaxed);
            }
        };
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        let is_well = || clients.iter().all(|client| !client.is_finished());
        for restart in 0..RESTARTS {
            let before = served.load(Relaxed);
            server.signal(libc::SIGHUP);
            server.printed("SIGHUP: ");
            lasting.check(&format!("restart {restart}"));
            until("all are served", || served.load(Relaxed) >= before + 200 || !is_well());
        }
        drop(over);
    });
    println!("{} connections in {RESTARTS} restarts", served.load(Relaxed));
    // The one that began with the first workers is still theirs.
    assert_eq!(lasting.worker(), its_worker);
    lasting.leave();
    let gone = |server: &Server| server.children().iter().all(|(pid, _)| !first.contains(pid));
    until("the first workers are gone", || gone(&server));
    until("as many are left as there were", || server.children().len() == WORKERS);
    let last = meet(&server, WORKERS);
    assert!(last.is_disjoint(&first));
}

#[test]
fn restarts_leave_no_descriptor() {
    let mut server = Server::start("prefork_server", &["2"]);
    let mut restart = || {
        server.signal(libc::SIGHUP);
        server.printed("SIGHUP: ");
        (0..2).for_each(|_| drop(server.printed("worker ")));
        until("two are left", || server.children().len() == 2);
        let [(one, _), (other, _)] = server.children()[..] else { panic!("two are left") };
        let open = |pid| fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        (server.descriptors(), open(one).max(open(other)))
    };
    restart();
    let before = restart();
    for _ in 0..5 {
        let after = restart();
        assert!(after.0 <= before.0 && after.1 <= before.1, "{after:?}, before {before:?}");
    }
}

#[test]
fn workers_end_with_their_server() {
    let mut server = Server::start("prefork_server", &["2"]);
    let mut client = Client::of(&server);
    client.check("hello");
    server.signal(libc::SIGKILL);
    server.child.wait().unwrap();
    assert_eq!(read_all(client.0.into_inner()), "");
}
