//! `proxy`, between programs that know nothing of it.

use super::{Server, fed, output, read_all, tool};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

fn start(target: &str, more: &[&str]) -> Server {
    Server::start("proxy", &[&[target], more].concat())
}

/// A listener of this test, and a proxy to it. What is done with a connection is done on another thread.
fn behind<T: Send + 'static>(
    more: &[&str],
    talk: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (Server, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = start(&listener.local_addr().unwrap().to_string(), more);
    (server, thread::spawn(move || talk(listener.accept().unwrap().0)))
}

#[test]
fn curl_gets_a_page_through_it() {
    let Some(mut curl) = tool("curl") else { return };
    let target = Server::start("http_server", &[]);
    let server = start(&target.address.to_string(), &[]);
    let url = server.url("/slow?ms=20#[1-20]");
    assert_eq!(output(curl.args(["-s", "-Z", &url])), "after 20 ms\n".repeat(20));
    let body = "0123456789".repeat(10_000);
    let echo = output(tool("curl").unwrap().args(["-s", "--data", &body]).arg(server.url("/echo")));
    assert_eq!(echo, body);
}

/// `nc -N` says when its input ends; what it is told after that is still shown.
#[test]
fn an_end_in_one_direction_leaves_the_other_open() {
    let Some(mut nc) = tool("nc") else { return };
    let (server, target) = behind(&[], |mut stream| {
        let mut heard = String::new();
        stream.read_to_string(&mut heard).unwrap();
        stream.write_all(format!("heard {heard}").as_bytes()).unwrap();
        thread::sleep(Duration::from_millis(100));
        stream.write_all(b"and goodbye").unwrap();
    });
    let shown = fed(nc.args(["-N", "127.0.0.1", &server.port()]), "hello\n");
    assert_eq!(shown, "heard hello\nand goodbye");
    target.join().unwrap();
}

/// The same the other way round.
#[test]
fn a_server_that_has_said_all_still_listens() {
    let (server, target) = behind(&[], |mut stream| {
        stream.shutdown(Shutdown::Write).unwrap();
        let mut heard = String::new();
        stream.read_to_string(&mut heard).map(|_| heard).unwrap()
    });
    let mut client = server.connect();
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    client.write_all(b"still here").unwrap();
    drop(client);
    assert_eq!(target.join().unwrap(), "still here");
}

#[test]
fn much_goes_both_ways_at_once() {
    let bytes: Vec<u8> = (0..8_000_000_u32).map(|number| (number % 251) as u8).collect();
    let expected = bytes.clone();
    let both = move |mut stream: TcpStream| {
        let mut writer = stream.try_clone().unwrap();
        let writing = thread::spawn(move || {
            writer.write_all(&bytes).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
        writing.join().unwrap();
        got
    };
    let (server, target) = behind(&[], both.clone());
    assert!(both(server.connect()) == expected);
    assert!(target.join().unwrap() == expected);
}

#[test]
fn a_connection_on_which_nothing_moves_ends() {
    let (server, target) = behind(&["1"], read_all);
    let mut client = server.connect();
    client.write_all(b"hello").unwrap();
    assert_eq!(read_all(client), "");
    assert_eq!(target.join().unwrap(), "hello");
}

/// One direction is silent for longer than the limit, but the other is not.
#[test]
fn a_connection_on_which_something_moves_does_not_end() {
    let (server, target) = behind(&["4"], read_all);
    let mut client = server.connect();
    for _ in 0..50 {
        client.write_all(b".").unwrap();
        thread::sleep(Duration::from_millis(100));
    }
    drop(client);
    assert_eq!(target.join().unwrap(), ".".repeat(50));
}

#[test]
fn a_target_that_is_not_there_harms_nobody() {
    // Nobody listens at this port, and nobody is given it.
    let mut server = start("127.0.0.1:1", &[]);
    assert_eq!(read_all(server.connect()), "");
    assert_eq!(read_all(server.connect()), "");
    assert!(server.is_alive());
}
