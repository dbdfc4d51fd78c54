//! Kills and time limits, and code that goes on after what they cut short.

use super::{alone, patched};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;
use switchgrass::monkey::{Patch, What, report};
use switchgrass::{JoinError, spawn, timeout};

fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let there = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener.accept().unwrap().0, there)
}

/// The first write returns what it has moved by then; the next one fails.
#[test]
fn a_limit_ends_a_write_of_all_that_nobody_reads() {
    patched(|| {
        let (mut here, _there) = connection();
        let mut result = None;
        let all = vec![0; 64 << 20];
        let limited = timeout(Duration::from_millis(20), || result = Some(here.write_all(&all)));
        assert!(limited.is_err());
        assert_eq!(result.unwrap().unwrap_err().raw_os_error(), Some(libc::ECANCELED));
    });
}

/// The same of a receive that returns a part.
#[test]
fn a_kill_ends_a_read_to_the_end() {
    patched(|| {
        let (mut here, mut there) = connection();
        let reader = spawn(move || here.read_to_end(&mut Vec::new()));
        there.write_all(b"a part").unwrap();
        thread::sleep(Duration::from_millis(5));
        reader.kill();
        let error = reader.join().unwrap().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
        assert_ne!(error.kind(), ErrorKind::UnexpectedEof);
    });
}

/// std panics, since it takes an error of its poll for impossible.
#[test]
fn a_kill_and_a_limit_end_the_output_of_a_command() {
    patched(|| {
        let run = || Command::new("sleep").arg("1").output();
        assert!(timeout(Duration::from_millis(10), run).is_err());
        let killed = spawn(run);
        thread::sleep(Duration::from_millis(10));
        killed.kill();
        assert!(matches!(killed.join(), Err(JoinError::Killed)));
    });
}

/// Other panics are what they are.
#[test]
fn a_panic_beside_a_kill_that_no_call_has_reported() {
    patched(|| {
        let panicking = spawn(|| -> () { panic!("as expected") });
        assert!(matches!(panicking.join(), Err(JoinError::Panicked(_))));
    });
}

#[test]
fn children_are_patched_with_what_reads_their_output() {
    alone(|| {
        Patch::new().process().apply();
        assert_eq!(report().kinds(), [What::Sockets, What::Process, What::Poll]);
        let command = spawn(|| Command::new("sleep").arg("0.1").output().unwrap().status.success());
        let sibling = spawn(|| switchgrass::sleep(Duration::from_millis(1)));
        sibling.join().unwrap();
        assert!(!command.is_finished(), "it runs beside its siblings");
        assert!(command.join().unwrap());
    });
}
