//! Ends: of a handle that others wait on, of a descriptor whose number is used again.

use crate::tcp_pair;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::Duration;
use switchgrass::io::wait_readable;
use switchgrass::net::{TcpListener, TcpStream};
use switchgrass::{sleep, spawn, timeout, yield_now};

/// {test_recv_closed}: who waits gets an error, and so does who comes later.
#[test]
fn test_recv_closed() {
    let (here, _there) = tcp_pair();
    let here = Rc::new(here);
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let stream = Rc::clone(&here);
            spawn(move || (&*stream).read(&mut [0; 8]).map_err(|error| error.raw_os_error()))
        })
        .collect();
    yield_now();
    here.close();
    for reader in readers {
        assert_eq!(reader.join().unwrap(), Err(Some(libc::EBADF)));
    }
    assert_eq!((&*here).write(b"x").unwrap_err().raw_os_error(), Some(libc::EBADF));
}

#[test]
fn a_listener_that_is_closed_ends_its_accept() {
    let listener = Rc::new(TcpListener::bind("127.0.0.1:0").unwrap());
    let accepting = spawn({
        let listener = Rc::clone(&listener);
        move || listener.accept().map(|_| ()).map_err(|error| error.raw_os_error())
    });
    yield_now();
    listener.close();
    assert_eq!(accepting.join().unwrap(), Err(Some(libc::EBADF)));
}

/// An event of a socket that was closed does not reach the next one that has its number.
#[test]
fn the_next_one_with_the_number_gets_no_old_event() {
    for _ in 0..50 {
        let (here, mut there) = tcp_pair();
        let number = here.as_raw_fd();
        // An event is under way, and the hub has not seen it yet.
        there.write_all(b"for the old one").unwrap();
        drop(here);
        let (mut again, mut other) = tcp_pair();
        if again.as_raw_fd() != number {
            continue;
        }
        let nothing = timeout(Duration::from_millis(2), || again.read(&mut [0; 8]));
        assert!(nothing.is_err(), "{nothing:?}");
        other.write_all(b"for the new one").unwrap();
        assert_eq!(again.read(&mut [0; 32]).unwrap(), 15);
    }
}

/// A copy keeps the connection, and has events of its own.
#[test]
fn test_close_with_makefile() {
    let (here, mut there) = tcp_pair();
    let mut copy = here.try_clone().unwrap();
    drop(here);
    let reader = spawn(move || {
        let mut text = String::new();
        copy.read_to_string(&mut text).unwrap();
        text
    });
    yield_now();
    there.write_all(b"to the copy").unwrap();
    sleep(Duration::from_millis(1));
    drop(there);
    assert_eq!(reader.join().unwrap(), "to the copy");
}

/// While somebody waits for a socket, main may wait for something else for ever; a socket that nobody waits
/// for does not count.
#[test]
fn a_reader_keeps_main_from_being_told_that_nothing_can_come() {
    let (mut here, there) = tcp_pair();
    let reader = spawn(move || here.read(&mut [0; 8]).unwrap());
    let mut there = there.into_std().unwrap();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        there.write_all(b"late").unwrap();
        there
    });
    assert_eq!(reader.join().unwrap(), 4);
    let _there = TcpStream::from_std(thread.join().unwrap()).unwrap();
    let stuck = std::panic::catch_unwind(|| switchgrass::sync::Event::new().wait());
    assert!(stuck.is_err());
}

/// Waits are ended by a close a thousand times, and the number is in use again at once: who has it now gets what is
/// his, and nothing of the one before.
#[test]
fn closed_while_waited_for_and_used_again_a_thousand_times() {
    let mut reused = 0;
    for round in 0..1_000_u32 {
        let (here, mut there) = tcp_pair();
        let number = here.as_raw_fd();
        let here = Rc::new(here);
        let waiting = spawn({
            let here = Rc::clone(&here);
            move || (&*here).read(&mut [0; 8]).map_err(|error| error.raw_os_error())
        });
        yield_now();
        // An event is under way when it is closed, in every other round.
        if round % 2 == 0 {
            there.write_all(b"for the old one").unwrap();
        }
        here.close();
        let again = tcp_pair();
        assert_eq!(waiting.join().unwrap(), Err(Some(libc::EBADF)));
        drop((here, again));
        let (mut again, mut other) = tcp_pair();
        reused += u32::from(again.as_raw_fd() == number || other.as_raw_fd() == number);
        let reading = spawn(move || {
            let mut buffer = [0; 8];
            let count = again.read(&mut buffer).unwrap();
            u32::from_le_bytes(buffer[..count].try_into().unwrap())
        });
        yield_now();
        yield_now();
        assert!(!reading.is_finished());
        other.write_all(&round.to_le_bytes()).unwrap();
        assert_eq!(reading.join().unwrap(), round);
    }
    assert!(reused > 0, "no number was used again");
}

/// {TestPossibleCrashes}: the descriptor that was asked about is closed while it is waited for.
#[test]
fn what_is_waited_for_goes_away() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let waiting = spawn(move || wait_readable(reader, Some(Duration::from_secs(10))).unwrap());
    yield_now();
    writer.write_all(b"x").unwrap();
    assert!(waiting.join().unwrap());
    let (here, there) = tcp_pair();
    let here = Rc::new(here);
    let waiting = spawn({
        let here = Rc::clone(&here);
        move || wait_readable(&*here, Some(Duration::from_millis(5))).unwrap()
    });
    yield_now();
    // It waits by a copy, for which the connection goes on.
    here.close();
    drop(here);
    assert!(!waiting.join().unwrap());
    drop(there);
}

/// {test_select_timeout_zero}: a wait for no time, and one for what is ready, let the others run.
#[test]
fn who_looks_only_lets_the_others_run() {
    let (mut here, mut there) = tcp_pair();
    let other = spawn(|| ());
    assert!(!wait_readable(&here, Some(Duration::ZERO)).unwrap());
    assert!(other.is_finished());
    there.write_all(b"x").unwrap();
    while !wait_readable(&here, Some(Duration::ZERO)).unwrap() {}
    assert!(wait_readable(&here, Some(Duration::ZERO)).unwrap());
    assert_eq!(here.read(&mut [0; 8]).unwrap(), 1);
}
