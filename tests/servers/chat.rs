//! `chat`, with people who have nc.

use super::{Server, read_all, tool};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::FromRawFd;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

/// One who sits before nc.
struct Person {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Person {
    /// Comes in and takes a name.
    fn enter(server: &Server, nick: &str) -> Option<Self> {
        let mut nc = tool("nc")?;
        nc.args(["-N", "127.0.0.1", &server.port()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = nc.spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let mut person = Person { child, stdin, stdout };
        person.type_line(&format!("/nick {nick}"));
        person.see(&format!("* you are {nick}"));
        Some(person)
    }

    fn type_line(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("it has not hung up");
        stdin.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Reads until a line has come, and returns those before it.
    #[track_caller]
    fn see(&mut self, line: &str) -> Vec<String> {
        let mut before = Vec::new();
        loop {
            let mut next = String::new();
            assert!(
                self.stdout.read_line(&mut next).unwrap() > 0,
                "{line:?} has not come, but {before:#?}"
            );
            if next.trim_end() == line {
                return before;
            }
            before.push(next);
        }
    }

    /// Types that this is all, and waits until nc has ended.
    fn hang_up(&mut self) -> Vec<String> {
        drop(self.stdin.take());
        let rest = (&mut self.stdout).lines().map(Result::unwrap).collect();
        assert!(self.child.wait().unwrap().success());
        rest
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn all_in_a_room_see_what_one_says_and_nobody_else() {
    let server = Server::start("chat", &[]);
    let Some(mut ann) = Person::enter(&server, "ann") else { return };
    let [mut bob, mut eve] = ["bob", "eve"].map(|nick| Person::enter(&server, nick).unwrap());
    ann.type_line("hello all");
    bob.see("ann: hello all");
    eve.see("ann: hello all");

    ann.type_line("/join kitchen");
    ann.see("* you are in kitchen");
    bob.see("* ann leaves");
    bob.type_line("/join kitchen");
    bob.see("* you are in kitchen");
    ann.see("* bob joins");
    ann.type_line("a secret");
    assert!(bob.see("ann: a secret").is_empty());
    // In order: had she seen it, then before this.
    bob.type_line("/join hall");
    assert!(!eve.see("* bob joins").iter().any(|line| line.contains("secret")));
}

#[test]
fn a_name_belongs_to_one() {
    let server = Server::start("chat", &[]);
    let Some(mut ann) = Person::enter(&server, "ann") else { return };
    let mut bob = Person::enter(&server, "bob").unwrap();
    bob.type_line("/nick ann");
    bob.see("* somebody else is ann");
    assert!(ann.hang_up().iter().any(|line| line.ends_with(" is now bob")));
    bob.see("* ann leaves");
    bob.type_line("/nick ann");
    bob.see("* you are ann");
}

#[test]
fn commands_that_are_none_are_explained() {
    let server = Server::start("chat", &[]);
    let Some(mut ann) = Person::enter(&server, "ann") else { return };
    for line in ["/nick", "/nick two words", "/dance"] {
        ann.type_line(line);
        ann.see("* there are /nick NAME, /join ROOM and /quit");
    }
    ann.type_line("/quit");
    assert!(ann.hang_up().is_empty());
}

/// Nothing that one types does anything to the terminals of the others.
#[test]
fn what_is_no_text_is_made_text() {
    let server = Server::start("chat", &[]);
    let Some(mut ann) = Person::enter(&server, "ann") else { return };
    let mut stream = server.connect();
    stream.write_all(b"/nick bob\n\x1b[2J\x07red\xff\r\n").unwrap();
    ann.see("bob: [2Jred\u{fffd}");
    let long = "x".repeat(1500);
    stream.write_all(format!("{long}\n").as_bytes()).unwrap();
    ann.see(&format!("bob: {}", "x".repeat(1024)));
    ann.see(&format!("bob: {}", "x".repeat(1500 - 1024)));
}

/// A paste of more lines than may wait reaches those who read.
#[test]
fn many_lines_at_once_put_nobody_out_who_reads() {
    let server = Server::start("chat", &[]);
    let Some(mut ann) = Person::enter(&server, "ann") else { return };
    let mut bob = Person::enter(&server, "bob").unwrap();
    let lines: Vec<String> = (0..2000).map(|number| number.to_string()).collect();
    bob.type_line(&lines.join("\n"));
    let seen = ann.see("bob: 1999");
    let said = seen.iter().filter_map(|line| line.strip_prefix("bob: ")).map(str::trim);
    assert!(said.eq(lines[..1999].iter()));
}

#[test]
fn one_who_never_reads_is_put_out_and_holds_up_nobody() {
    let server = Server::start("chat", &[]);
    let Some(mut ann) = Person::enter(&server, "ann") else { return };
    let mut bob = Person::enter(&server, "bob").unwrap();
    let mut mute = server.connect();
    mute.write_all(b"/nick mute\n").unwrap();
    // What the kernel keeps for it is some megabytes. Never more at once than may wait.
    let word = "x".repeat(1000);
    for round in 0..1000 {
        bob.type_line(&[word.as_str(); 50].join("\n"));
        bob.type_line(&format!("round {round}"));
        let seen = ann.see(&format!("bob: round {round}"));
        assert!(seen.len() >= 50, "{seen:#?}");
        if seen.contains(&"* mute leaves\n".to_owned()) {
            read_all(mute);
            return;
        }
    }
    panic!("it is still there");
}

/// Connects from a port, which the last connection from there has been reset for.
fn connect_from(port: u16, server: &Server) -> TcpStream {
    let address = |port: u16| libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes([127, 0, 0, 1]) },
        sin_zero: [0; 8],
    };
    let (on, length) = (1_i32, size_of::<libc::sockaddr_in>() as u32);
    let (here, there) = (address(port), address(server.address.port()));
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: a new socket, options and addresses of the sizes that are said.
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
        let stream = TcpStream::from_raw_fd(fd);
        let level = libc::SOL_SOCKET;
        libc::setsockopt(fd, level, libc::SO_REUSEADDR, (&raw const on).cast(), 4);
        // It is closed by a reset, after which the port is free at once.
        libc::setsockopt(fd, level, libc::SO_LINGER, (&raw const linger).cast(), 8);
        assert_eq!(libc::bind(fd, (&raw const here).cast(), length), 0);
        assert_eq!(libc::connect(fd, (&raw const there).cast(), length), 0);
        stream
    }
}

/// The server may accept the next one from there before it has seen the end of the last.
#[test]
fn one_who_comes_again_from_the_same_port_is_a_new_member() {
    let mut server = Server::start("chat", &[]);
    let mut ann = BufReader::new(server.connect());
    ann.get_mut().write_all(b"/nick ann\n").unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    for _ in 0..100 {
        drop(connect_from(port, &server));
    }
    let mut bob = connect_from(port, &server);
    bob.write_all(b"/nick bob\nhello\n").unwrap();
    let lines = ann.lines().map(Result::unwrap).take_while(|line| line != "bob: hello");
    let (mut joined, mut left) = (0, 0);
    for line in lines {
        joined += usize::from(line.ends_with(" joins"));
        left += usize::from(line.ends_with(" leaves"));
    }
    assert_eq!((joined, left), (101, 100));
    assert!(server.is_alive());
}

#[test]
fn a_burst_of_joins_puts_nobody_out_who_reads() {
    let server = Server::start("chat", &[]);
    let mut all: Vec<_> = (0..300).map(|_| server.connect()).collect();
    let mut ann = server.connect();
    ann.write_all(b"/nick ann\nhello\n").unwrap();
    for stream in &mut all {
        let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
        assert!(lines.any(|line| line == "ann: hello"), "it was put out");
    }
}
