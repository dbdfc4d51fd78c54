//! Streams: bytes, both ways.

use crate::{kind, tcp_pair};
use std::cell::Cell;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::rc::Rc;
use std::time::{Duration, Instant};
use switchgrass::coroutine::join_all;
use switchgrass::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use switchgrass::{JoinError, sleep, spawn, timeout, yield_now};

/// Who reads waits, and the others run.
#[test]
fn a_read_waits_for_what_comes() {
    let (mut here, mut there) = tcp_pair();
    let ran = Rc::new(Cell::new(0));
    let count = Rc::clone(&ran);
    let ticker = spawn(move || {
        for _ in 0..10 {
            count.set(count.get() + 1);
            yield_now();
        }
        there.write_all(b"hello").unwrap();
    });
    let mut buffer = [0; 16];
    assert_eq!(here.read(&mut buffer).unwrap(), 5);
    assert_eq!((ran.get(), &buffer[..5]), (10, &b"hello"[..]));
    ticker.join().unwrap();
}

/// {test_fullduplex}: one reads and one writes at a time, far more than fits in between.
#[test]
fn test_fullduplex() {
    const SIZE: usize = 4 << 20;
    let ends = tcp_pair();
    let all = [ends.0, ends.1].map(|stream| {
        let stream = Rc::new(stream);
        let writer = Rc::clone(&stream);
        let write = spawn(move || (&*writer).write_all(&vec![7; SIZE]).unwrap());
        let read = spawn(move || {
            let mut got = vec![0; SIZE];
            (&*stream).read_exact(&mut got).unwrap();
            assert!(got.iter().all(|byte| *byte == 7));
        });
        [write, read]
    });
    join_all(all.into_iter().flatten()).into_iter().for_each(|ended| ended.unwrap());
}

/// Several wait to read from one socket: each byte comes to one of them, and all come to somebody.
#[test]
fn several_read_from_one_socket() {
    let (here, mut there) = tcp_pair();
    let here = Rc::new(here);
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let stream = Rc::clone(&here);
            spawn(move || {
                let (mut got, mut buffer) = (0, [0; 1]);
                while (&*stream).read(&mut buffer).unwrap() > 0 {
                    got += 1;
                }
                got
            })
        })
        .collect();
    yield_now();
    for _ in 0..30 {
        there.write_all(&[1]).unwrap();
        yield_now();
    }
    drop(there);
    let sum: i32 = join_all(readers).into_iter().map(|got| got.unwrap()).sum();
    assert_eq!(sum, 30);
}

/// Data and the end of the stream come at once: after a read that got less than it could, the end is seen.
#[test]
fn the_end_is_seen_after_a_short_read() {
    for _ in 0..100 {
        let (mut here, mut there) = tcp_pair();
        let mut buffer = [0; 64];
        there.write_all(b"first").unwrap();
        assert_eq!(here.read(&mut buffer).unwrap(), 5);
        there.write_all(b"last words").unwrap();
        drop(there);
        assert_eq!(here.read(&mut buffer).unwrap(), 10);
        assert_eq!(here.read(&mut buffer).unwrap(), 0);
    }
}

#[test]
fn half_of_it_is_closed() {
    let (mut here, mut there) = tcp_pair();
    here.write_all(b"question").unwrap();
    here.shutdown(Shutdown::Write).unwrap();
    let mut text = String::new();
    there.read_to_string(&mut text).unwrap();
    assert_eq!(text, "question");
    there.write_all(b"answer").unwrap();
    drop(there);
    text.clear();
    here.read_to_string(&mut text).unwrap();
    assert_eq!(text, "answer");
}

#[test]
fn the_halves_of_a_split_stream() {
    let (here, mut there) = tcp_pair();
    let (mut read, mut write) = here.into_split();
    let reader = spawn(move || {
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        text
    });
    write.write_all(b"to there").unwrap();
    drop(write);
    let mut text = String::new();
    there.read_to_string(&mut text).unwrap();
    assert_eq!(text, "to there");
    there.write_all(b"to here").unwrap();
    drop(there);
    assert_eq!(reader.join().unwrap(), "to here");
}

#[test]
fn vectored_and_peeked() {
    let (mut here, mut there) = tcp_pair();
    let words = [IoSlice::new(b"one"), IoSlice::new(b"two")];
    assert_eq!(there.write_vectored(&words).unwrap(), 6);
    let (mut first, mut second) = ([0; 3], [0; 8]);
    assert_eq!(here.peek(&mut first).unwrap(), 3);
    assert_eq!(here.peek(&mut first).unwrap(), 3);
    let mut buffers = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
    assert_eq!(here.read_vectored(&mut buffers).unwrap(), 6);
    assert_eq!((&first, &second[..3]), (b"one", &b"two"[..]));
}

/// {test_recv_timeout, test_sendall_timeout}: the error says what has timed out, and not before its time.
#[test]
fn test_recv_timeout() {
    let (mut here, there) = tcp_pair();
    let limit = Duration::from_millis(20);
    assert_eq!(kind(here.set_read_timeout(Some(Duration::ZERO))), io::ErrorKind::InvalidInput);
    here.set_read_timeout(Some(limit)).unwrap();
    here.set_write_timeout(Some(limit)).unwrap();
    assert_eq!(here.read_timeout().unwrap(), Some(limit));

    let start = Instant::now();
    let error = here.read(&mut [0; 8]).unwrap_err();
    assert!(start.elapsed() >= limit);
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert_eq!(error.to_string(), "TcpStream::read has timed out");

    let start = Instant::now();
    let error = here.write_all(&vec![0; 64 << 20]).unwrap_err();
    assert!(start.elapsed() >= limit);
    assert_eq!(error.to_string(), "TcpStream::write has timed out");
    drop(there);
}

/// A time limit from outside goes through a read, which leaves the stream as it was.
#[test]
fn a_read_that_is_given_up_takes_nothing() {
    let (mut here, mut there) = tcp_pair();
    let mut buffer = [0; 8];
    timeout(Duration::from_millis(5), || here.read(&mut buffer)).unwrap_err();
    there.write_all(b"hello").unwrap();
    assert_eq!(here.read(&mut buffer).unwrap(), 5);
}

/// A limit that passes while what comes can always be read at once: every byte is read by somebody, or is still
/// there.
#[test]
fn a_limit_between_two_reads_loses_nothing() {
    const SIZE: u64 = 64 << 10;
    let (mut here, mut there) = tcp_pair();
    let bytes: Vec<u8> = (0..SIZE).map(|n| n as u8).collect();
    there.write_all(&bytes).unwrap();
    there.shutdown(Shutdown::Write).unwrap();
    let (mut got, mut passed) = (Vec::new(), 0);
    let mut is_over = false;
    while !is_over {
        let limited = timeout(Duration::from_micros(50), || {
            let mut byte = [0];
            while here.read(&mut byte).unwrap() > 0 {
                got.push(byte[0]);
            }
        });
        is_over = limited.is_ok();
        passed += u32::from(!is_over);
    }
    assert!(passed > 0, "the limits are to pass in the midst of it");
    let lost = bytes.len() - got.len();
    assert!(got == bytes, "{lost} bytes were lost");
}

#[test]
fn a_killed_reader_leaves_the_stream_usable() {
    let (here, mut there) = tcp_pair();
    let here = Rc::new(here);
    let stream = Rc::clone(&here);
    let reader = spawn(move || (&*stream).read(&mut [0; 8]).unwrap());
    yield_now();
    assert_eq!(reader.waits_for(), Some("TcpStream::read"));
    reader.kill();
    assert!(matches!(reader.join(), Err(JoinError::Killed)));
    there.write_all(b"hello").unwrap();
    assert_eq!((&*here).read(&mut [0; 8]).unwrap(), 5);
}

/// {test_connection_refused}
#[test]
fn test_connection_refused() {
    let address = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    assert_eq!(kind(TcpStream::connect(address)), io::ErrorKind::ConnectionRefused);
    let limit = Duration::from_secs(5);
    let refused = TcpStream::connect_timeout(&address, limit);
    assert_eq!(kind(refused), io::ErrorKind::ConnectionRefused);
    // Of several addresses, the first that takes it.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let both = [address, listener.local_addr().unwrap()];
    assert_eq!(TcpStream::connect(&both[..]).unwrap().peer_addr().unwrap(), both[1]);
    assert_eq!(kind(TcpStream::connect(&[][..])), io::ErrorKind::InvalidInput);
}

/// The other end is gone with data that nobody has read: that is an error here, not a hang.
#[test]
fn a_reset_is_an_error() {
    let (mut here, there) = tcp_pair();
    here.write_all(b"nobody reads this").unwrap();
    sleep(Duration::from_millis(1));
    drop(there);
    let mut buffer = [0; 8];
    let error = here.read(&mut buffer).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn several_accept_from_one_listener() {
    let listener = Rc::new(TcpListener::bind("127.0.0.1:0").unwrap());
    let address = listener.local_addr().unwrap();
    let all: Vec<_> = (0..4)
        .map(|_| {
            let listener = Rc::clone(&listener);
            spawn(move || listener.accept().unwrap().0)
        })
        .collect();
    yield_now();
    let clients: Vec<_> = (0..4).map(|_| TcpStream::connect(address).unwrap()).collect();
    let mut peers: Vec<_> =
        join_all(all).into_iter().map(|stream| stream.unwrap().peer_addr().unwrap()).collect();
    let mut expected: Vec<_> = clients.iter().map(|client| client.local_addr().unwrap()).collect();
    peers.sort();
    expected.sort();
    assert_eq!(peers, expected);
}

/// Between one who spins and one who reads, both get on.
#[test]
fn a_spinner_does_not_keep_a_reader_waiting() {
    let (mut here, mut there) = tcp_pair();
    let spinner = spawn(|| {
        loop {
            yield_now();
        }
    });
    let echo = spawn(move || {
        let mut buffer = [0; 8];
        for _ in 0..20 {
            let count = there.read(&mut buffer).unwrap();
            there.write_all(&buffer[..count]).unwrap();
        }
    });
    let mut buffer = [0; 8];
    for _ in 0..20 {
        here.write_all(b"ping").unwrap();
        assert_eq!(here.read(&mut buffer).unwrap(), 4);
    }
    echo.join().unwrap();
    spinner.kill();
    assert!(spinner.join().is_err());
}

/// A thousand at a time.
#[test]
fn many_connections() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            spawn(move || {
                let mut buffer = [0; 64];
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    stream.write_all(&buffer[..count]).unwrap();
                }
            });
        }
    });
    let clients = (0..300_u32).map(|number| {
        spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            for round in 0..10 {
                let message = [number.to_le_bytes(), u32::to_le_bytes(round)].concat();
                stream.write_all(&message).unwrap();
                let mut echo = vec![0; message.len()];
                stream.read_exact(&mut echo).unwrap();
                assert_eq!(echo, message);
            }
        })
    });
    join_all(clients.collect::<Vec<_>>()).into_iter().for_each(|ended| ended.unwrap());
    server.kill();
    assert!(server.join().is_err());
}

#[test]
fn from_std_and_into_std() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let listener = TcpListener::from_std(listener).unwrap();
    let thread = std::thread::spawn(move || {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.write_all(b"from a thread").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    });
    let (mut stream, _) = listener.accept().unwrap();
    let mut buffer = [0; 13];
    stream.read_exact(&mut buffer).unwrap();
    let mut stream = stream.into_std().unwrap();
    // It blocks again, on whichever thread.
    std::thread::spawn(move || stream.write_all(b"and back").unwrap()).join().unwrap();
    assert_eq!(thread.join().unwrap(), "and back");
}

#[test]
fn unix_streams_connect_by_path() {
    let path = std::env::temp_dir().join(format!("switchgrass-test-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    let server = spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    });
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(b"hello").unwrap();
    drop(stream);
    assert_eq!(server.join().unwrap(), "hello");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(kind(UnixStream::connect(&path)), io::ErrorKind::NotFound);
    let long = "x".repeat(200);
    assert_eq!(kind(UnixStream::connect(long)), io::ErrorKind::InvalidInput);
}

/// Names are looked up elsewhere: whoever ticks goes on.
#[test]
fn names_that_are_not_known_hold_nobody_up() {
    let lookups: Vec<_> = (0..10)
        .map(|number| {
            spawn(move || TcpStream::connect((format!("no-such-{number}.invalid"), 80)).is_err())
        })
        .collect();
    let ticks = spawn(|| (0..3).for_each(|_| sleep(Duration::from_millis(1))));
    ticks.join().unwrap();
    assert!(join_all(lookups).into_iter().all(|failed| failed.unwrap()));
}
