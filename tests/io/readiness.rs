//! Waiting for descriptors that are not sockets of ours.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::{Duration, Instant};
use switchgrass::io::{Readiness, wait_readable, wait_writable};
use switchgrass::net::UnixStream;
use switchgrass::sync::{Event, Queue, Selectable, select, select_timeout};
use switchgrass::{spawn, timeout, yield_now};

fn filled() -> (PipeReader, PipeWriter) {
    let (reader, writer) = pipe().unwrap();
    // SAFETY: a descriptor of ours.
    unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
    while (&writer).write(&[0; 4096]).is_ok() {}
    (reader, writer)
}

/// A megabyte through a pipe that holds much less, by calls that block: each is made when it does not.
#[test]
fn a_producer_and_a_consumer_with_a_full_pipe() {
    const SIZE: usize = 1 << 20;
    let (mut reader, mut writer) = pipe().unwrap();
    let producer = spawn(move || {
        for _ in 0..SIZE / 4096 {
            assert!(wait_writable(&writer, None).unwrap());
            writer.write_all(&[7; 4096]).unwrap();
        }
    });
    let (mut got, mut buffer) = (0, [0; 4096]);
    loop {
        assert!(wait_readable(&reader, None).unwrap());
        match reader.read(&mut buffer).unwrap() {
            0 => break,
            count => got += count,
        }
    }
    assert_eq!(got, SIZE);
    producer.join().unwrap();
}

#[test]
fn a_wait_ends_by_its_limit_or_one_from_outside() {
    let (reader, _writer) = pipe().unwrap();
    let limit = Duration::from_millis(5);
    let start = Instant::now();
    assert!(!wait_readable(&reader, Some(limit)).unwrap());
    assert!(start.elapsed() >= limit);
    timeout(limit, || wait_readable(&reader, None)).unwrap_err();
    let (_reader, writer) = filled();
    assert!(!wait_writable(&writer, Some(Duration::ZERO)).unwrap());
}

/// The end counts as readable, and so does the loss of the other end.
#[test]
fn an_end_is_readable() {
    let (reader, writer) = pipe().unwrap();
    let waiting = spawn(move || wait_readable(&reader, None).unwrap());
    yield_now();
    drop(writer);
    assert!(waiting.join().unwrap());
    let (reader, writer) = filled();
    let waiting = spawn(move || wait_writable(&writer, None).unwrap());
    yield_now();
    drop(reader);
    assert!(waiting.join().unwrap());
}

#[test]
fn a_file_is_always_ready() {
    let file = File::open("Cargo.toml").unwrap();
    assert!(wait_readable(&file, None).unwrap());
}

/// A socket that the hub has anyway can be waited for as well, by several.
#[test]
fn a_socket_of_ours_is_waited_for_from_outside() {
    let (here, mut there) = UnixStream::pair().unwrap();
    let here = Rc::new(here);
    let all: Vec<_> = (0..3)
        .map(|_| {
            let here = Rc::clone(&here);
            spawn(move || wait_readable(&*here, None).unwrap())
        })
        .collect();
    yield_now();
    there.write_all(b"hello").unwrap();
    for waiting in all {
        assert!(waiting.join().unwrap());
    }
    assert_eq!((&*here).read(&mut [0; 8]).unwrap(), 5);
    assert!(wait_writable(&*here, None).unwrap());
}

/// A descriptor and a queue at once; what was not read stays ready.
#[test]
fn a_select_of_descriptors_and_others() {
    let (mut reader, mut writer) = pipe().unwrap();
    let (queue, done) = (Rc::new(Queue::new()), Rc::new(Event::new()));
    let giving = spawn({
        let (queue, done) = (Rc::clone(&queue), Rc::clone(&done));
        move || {
            writer.write_all(b"ab").unwrap();
            done.wait();
            done.clear();
            queue.put("hello").unwrap();
            done.wait();
        }
    });
    let readable = Readiness::readable(&reader).unwrap();
    let mut byte = [0; 1];
    for expected in *b"ab" {
        assert_eq!(select(&[&readable, &*queue]), 0);
        assert_eq!(reader.read(&mut byte).unwrap(), 1);
        assert_eq!(byte[0], expected);
    }
    assert_eq!(select_timeout(&[&readable, &*queue], Duration::from_millis(2)), None);
    done.set();
    assert_eq!(select(&[&readable, &*queue]), 1);
    assert_eq!(queue.try_get(), Ok("hello"));
    done.set();
    giving.join().unwrap();
    // The writer is gone: that can be read.
    assert_eq!(select(&[&readable, &*queue]), 0);
}

/// The first of many, and not the others.
#[test]
fn a_select_of_many_descriptors() {
    let pipes: Vec<_> = (0..100).map(|_| pipe().unwrap()).collect();
    let all: Vec<_> =
        pipes.iter().map(|(reader, _)| Readiness::readable(reader).unwrap()).collect();
    let objects: Vec<_> = all.iter().map(|one| one as &dyn Selectable).collect();
    for number in [17, 99, 0] {
        let mut writer = pipes[number].1.try_clone().unwrap();
        let writing = spawn(move || writer.write_all(b"x").unwrap());
        assert_eq!(select(&objects), number);
        assert_eq!((&pipes[number].0).read(&mut [0; 8]).unwrap(), 1);
        writing.join().unwrap();
    }
    let ready = all.iter().filter(|one| one.is_ready()).count();
    assert_eq!(ready, 0);
}

/// {TestPossibleCrashes}: a descriptor may be closed while it is waited for. The copy that is waited for
/// lives on, and so does the wait.
#[test]
fn a_descriptor_is_closed_while_it_is_waited_for() {
    let (reader, mut writer) = pipe().unwrap();
    let readable = Readiness::readable(&reader).unwrap();
    drop(reader);
    let waiting = spawn(move || readable.wait(None));
    yield_now();
    writer.write_all(b"x").unwrap();
    assert!(waiting.join().unwrap());
}
