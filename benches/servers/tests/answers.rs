#![forbid(unsafe_code)]
//! That every server answers rightly, and that the load generator sees it if one does not.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::thread;

const KINDS: &[&str] = &[
    "epoll",
    "switchgrass",
    #[cfg(feature = "patched")]
    "patched",
    "tokio1",
    "tokio2",
    "may",
    "may2",
    "switchgrass2",
    "threads",
];

fn program(kind: &str) -> &'static str {
    match kind {
        #[cfg(feature = "patched")]
        "patched" => env!("CARGO_BIN_EXE_serve_patched"),
        _ => env!("CARGO_BIN_EXE_serve"),
    }
}

struct Server(Child, SocketAddr);

impl Server {
    fn start(kind: &str, protocol: &str) -> Self {
        let mut command = Command::new(program(kind));
        command.args([kind, protocol, "127.0.0.1:0", "1024"]).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening ").unwrap().parse().unwrap();
        Server(child, address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn load(protocol: &str, address: SocketAddr, options: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_load"));
    command.args([protocol, &address.to_string()]).args(options).output().unwrap()
}

#[test]
fn every_server_answers_every_request() {
    for &kind in KINDS {
        for protocol in ["echo", "http"] {
            let server = Server::start(kind, protocol);
            let process = server.0.id().to_string();
            let options =
                ["--connections", "30", "--idle", "20", "--requests", "3000", "--server", &process];
            let output = load(protocol, server.1, &options);
            assert!(output.status.success(), "{kind}, {protocol}: {output:?}");
            let line = String::from_utf8(output.stdout).unwrap();
            assert!(line.starts_with("requests=3000 "), "{kind}, {protocol}: {line}");
        }
    }
}

/// Heads that come in pieces, several at once, and more than the buffer of 1,024 bytes holds; then an end.
#[test]
fn every_server_puts_requests_together_and_takes_them_apart() {
    let head = format!("GET / HTTP/1.1\r\nPadding: {}\r\n\r\n", "x".repeat(200));
    let count = 50;
    let text = head.repeat(count);
    for &kind in KINDS {
        let server = Server::start(kind, "http");
        let stream = TcpStream::connect(server.1).unwrap();
        let answers = thread::scope(|scope| {
            scope.spawn(|| {
                text.as_bytes().chunks(777).for_each(|part| (&stream).write_all(part).unwrap());
                stream.shutdown(std::net::Shutdown::Write).unwrap();
            });
            let mut answers = String::new();
            (&stream).read_to_string(&mut answers).unwrap();
            answers
        });
        assert_eq!(answers.matches("Hello, World!").count(), count, "{kind}");
    }
}

/// An echo server that sends what `answer` makes of a message in its turn, and closes if that is nothing.
fn wrong_server(answer: fn(usize, &mut Vec<u8>)) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut message = vec![0; 64];
                for turn in 0.. {
                    message.resize(64, 0);
                    if stream.read_exact(&mut message).is_err() {
                        return;
                    }
                    answer(turn, &mut message);
                    if message.is_empty() || stream.write_all(&message).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

#[track_caller]
fn assert_found(address: SocketAddr, message: &str) {
    let output = load("echo", address, &["--connections", "2", "--requests", "1000"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(message), "{text}");
}

#[test]
fn a_wrong_answer_ends_the_load_with_an_error() {
    let address = wrong_server(|turn, message| {
        if turn == 100 {
            message[63] ^= 1;
        }
    });
    assert_found(address, "a wrong answer");
}

#[test]
fn an_answer_to_an_earlier_request_is_wrong() {
    let address = wrong_server(|turn, message| {
        if turn == 100 {
            message[0] -= 1;
        }
    });
    assert_found(address, "a wrong answer");
}

#[test]
fn a_connection_that_the_server_closes_ends_the_load_with_an_error() {
    let address = wrong_server(|turn, message| {
        if turn == 100 {
            message.clear();
        }
    });
    assert_found(address, "the server has closed a connection");
}
