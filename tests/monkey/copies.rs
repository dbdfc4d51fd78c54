//! Copies from descriptor to descriptor: what they return is what a plain thread gets.

use crate::{BLOCK, patched, row};
use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io::{Error, PipeReader, PipeWriter, Read, Seek, SeekFrom, Write, pipe};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::Duration;
use switchgrass::monkey::blocked_calls;
use switchgrass::{spawn, timeout, yield_now};

struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn bytes(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at % 251) as u8).collect()
}

fn file_of(size: usize) -> (File, Temporary) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("copies-{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
    let path = Temporary(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name));
    fs::write(&path.0, bytes(size)).unwrap();
    (OpenOptions::new().read(true).write(true).open(&path.0).unwrap(), path)
}

fn tcp() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

fn number() -> Option<i32> {
    Error::last_os_error().raw_os_error()
}

/// With its number, if it has failed.
fn told(result: isize) -> (isize, Option<i32>) {
    (result, if result < 0 { number() } else { None })
}

fn splice(
    from: &impl AsRawFd,
    to: &impl AsRawFd,
    length: usize,
    flags: u32,
) -> (isize, Option<i32>) {
    // SAFETY: no offsets.
    told(unsafe {
        libc::splice(from.as_raw_fd(), null_mut(), to.as_raw_fd(), null_mut(), length, flags)
    })
}

fn set_nonblocking(of: &impl AsRawFd) {
    // SAFETY: no memory is involved.
    unsafe {
        let flags = libc::fcntl(of.as_raw_fd(), libc::F_GETFL);
        libc::fcntl(of.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK);
    }
}

fn fill(pipe: &mut PipeWriter) -> usize {
    // SAFETY: no memory is involved.
    let size = unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_GETPIPE_SZ) } as usize;
    pipe.write_all(&bytes(size)).unwrap();
    size
}

/// A plain thread and a coroutine get the same.
#[track_caller]
fn same<R: Debug + PartialEq + Send + 'static>(call: impl Fn() -> R + Copy + Send + 'static) {
    patched(move || {
        let on_a_thread = thread::spawn(call).join().unwrap();
        assert_eq!(spawn(call).join().unwrap(), on_a_thread);
        assert_eq!(blocked_calls(), []);
    });
}

#[test]
fn what_splice_says_at_once() {
    same(|| {
        let mut all = Vec::new();
        let (file, _path) = file_of(1000);
        let append = OpenOptions::new().append(true).open(&_path.0).unwrap();
        let (empty, writer) = pipe().unwrap();
        let (_reader, room) = pipe().unwrap();
        let (mut here, there) = UnixStream::pair().unwrap();
        for flags in [0, libc::SPLICE_F_NONBLOCK] {
            // Neither is a pipe, one is on both ends, or one is open in the other direction.
            all.push(splice(&file, &there, 10, flags));
            all.push(splice(&empty, &writer, 10, flags));
            all.push(splice(&writer, &room, 10, flags));
            all.push(splice(&writer, &file, 10, flags));
            all.push(splice(&empty, &empty, 10, flags));
            all.push(splice(&there, &empty, 10, flags));
            all.push(splice(&empty, &append, 10, flags));
            all.push(splice(&empty, &room, 0, flags));
            all.push(splice(&empty, &room, 10, flags | 1 << 20));
            let mut offset = 0;
            for to in [file.as_raw_fd(), room.as_raw_fd(), there.as_raw_fd()] {
                let from = empty.as_raw_fd();
                // SAFETY: an offset.
                let done = unsafe { libc::splice(from, &mut offset, to, null_mut(), 10, flags) };
                all.push(told(done));
            }
            let from = empty.as_raw_fd();
            for to in [room.as_raw_fd(), there.as_raw_fd()] {
                // SAFETY: an offset.
                let done = unsafe { libc::splice(from, null_mut(), to, &mut offset, 10, flags) };
                all.push(told(done));
            }
        }
        // Nothing there.
        for to in [file.as_raw_fd(), room.as_raw_fd(), there.as_raw_fd()] {
            all.push(splice(&empty, &to, 10, libc::SPLICE_F_NONBLOCK));
        }
        all.push(splice(&there, &room, 10, libc::SPLICE_F_NONBLOCK));
        let (still_empty, _writer) = pipe().unwrap();
        set_nonblocking(&still_empty);
        for to in [file.as_raw_fd(), room.as_raw_fd(), there.as_raw_fd()] {
            all.push(splice(&still_empty, &to, 10, 0));
        }
        set_nonblocking(&there);
        all.push(splice(&there, &room, 10, 0));
        // Something.
        here.write_all(b"hello").unwrap();
        all.push(splice(&there, &room, 100, 0));
        // No room.
        let (_full_reader, mut full) = pipe().unwrap();
        fill(&mut full);
        here.write_all(b"hello").unwrap();
        all.push(splice(&there, &full, 10, libc::SPLICE_F_NONBLOCK));
        all.push(splice(&file, &full, 10, libc::SPLICE_F_NONBLOCK));
        set_nonblocking(&full);
        all.push(splice(&there, &full, 10, 0));
        all.push(splice(&file, &full, 10, 0));
        // The end.
        drop(writer);
        for to in [file.as_raw_fd(), room.as_raw_fd(), there.as_raw_fd()] {
            all.push(splice(&empty, &to, 10, 0));
        }
        let (stream, other) = UnixStream::pair().unwrap();
        drop(other);
        all.push(splice(&stream, &room, 10, 0));
        // Nobody takes it.
        let (filled, mut writer) = pipe().unwrap();
        writer.write_all(b"hello").unwrap();
        let (reader, broken) = pipe().unwrap();
        drop(reader);
        all.push(splice(&filled, &broken, 10, 0));
        all.push(splice(&file, &broken, 10, 0));
        all.push(splice(&filled, &stream, 10, 0));
        all
    });
}

/// What comes of what goes into a pipe and on, by two splices, with all kinds of ends.
fn relay<A: Read + AsRawFd + Send + 'static, B: Write + AsRawFd + Send + 'static>(
    into: impl FnOnce() -> (B, A),
    out: impl FnOnce() -> (B, A),
) -> bool {
    const SIZE: usize = 3 << 20;
    let (mut giver, from) = into();
    let (to, mut taker) = out();
    let giving = thread::spawn(move || {
        for part in bytes(SIZE).chunks(100_000) {
            giver.write_all(part).unwrap();
            thread::sleep(Duration::from_millis(1));
        }
    });
    let taking = thread::spawn(move || {
        let mut all = Vec::<u8>::new();
        let mut part = vec![0; 70_000];
        loop {
            thread::sleep(Duration::from_millis(1));
            match taker.read(&mut part).unwrap() {
                0 => return all,
                count => all.extend(&part[..count]),
            }
        }
    });
    let (reader, writer) = pipe().unwrap();
    loop {
        let (got, error) = splice(&from, &writer, 1 << 20, libc::SPLICE_F_MORE);
        assert_eq!(error, None);
        if got == 0 {
            break;
        }
        let mut left = got as usize;
        while left > 0 {
            let (moved, error) = splice(&reader, &to, left, 0);
            assert_eq!(error, None);
            left -= moved as usize;
        }
    }
    drop(to);
    while !(giving.is_finished() && taking.is_finished()) {
        thread::sleep(Duration::from_millis(1));
    }
    giving.join().unwrap();
    taking.join().unwrap() == bytes(SIZE)
}

#[test]
fn a_relay_of_tcp_by_splice() {
    same(|| relay(tcp, tcp));
}

#[test]
fn a_relay_of_unix_sockets_by_splice() {
    same(|| relay(|| UnixStream::pair().unwrap(), || UnixStream::pair().unwrap()));
}

/// A socket that nobody reads from: what was moved counts, and then its time limit does.
#[test]
fn splice_to_a_socket_with_a_time_limit() {
    same(|| {
        let (here, _there) = tcp();
        here.set_write_timeout(Some(Duration::from_millis(20))).unwrap();
        let mut moved = 0;
        loop {
            let (reader, mut writer) = pipe().unwrap();
            let size = fill(&mut writer);
            match splice(&reader, &here, size, 0) {
                (part, None) => moved += part as usize,
                (_, error) => return (moved > 100_000, error),
            }
        }
    });
}

#[test]
fn vmsplice() {
    row(|| {
        let (mut reader, mut writer) = pipe().unwrap();
        let size = fill(&mut writer);
        let reading = thread::spawn(move || {
            thread::sleep(BLOCK + Duration::from_millis(2));
            let mut all = vec![0; size + 5];
            reader.read_exact(&mut all).unwrap();
            all[size..] == *b"hello"
        });
        let part = libc::iovec { iov_base: b"hello".as_ptr().cast_mut().cast(), iov_len: 5 };
        // SAFETY: a buffer that is not written to afterwards.
        let moved = unsafe { libc::vmsplice(writer.as_raw_fd(), &part, 1, 0) };
        while !reading.is_finished() {
            thread::sleep(Duration::from_millis(1));
        }
        (moved, reading.join().unwrap())
    });
}

/// And out of a pipe; the flag decides whether it waits, and not the descriptor's.
#[test]
fn vmsplice_out_of_a_pipe() {
    same(|| {
        let (reader, mut writer) = pipe().unwrap();
        set_nonblocking(&reader);
        let mut buffer = [0_u8; 8];
        let part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: 8 };
        let fd = reader.as_raw_fd();
        // SAFETY: a buffer.
        let now = told(unsafe { libc::vmsplice(fd, &part, 1, libc::SPLICE_F_NONBLOCK) });
        let writing = thread::spawn(move || {
            thread::sleep(Duration::from_millis(10));
            writer.write_all(b"hello").unwrap();
            writer
        });
        // SAFETY: a buffer.
        let later = told(unsafe { libc::vmsplice(fd, &part, 1, 0) });
        drop(writing.join().unwrap());
        // SAFETY: a buffer.
        let end = told(unsafe { libc::vmsplice(fd, &part, 1, 0) });
        (now, later, end, buffer)
    });
}

fn sendfile(
    to: &impl AsRawFd,
    from: &File,
    offset: Option<&mut i64>,
    count: usize,
) -> (isize, Option<i32>) {
    let offset = offset.map_or(null_mut(), std::ptr::from_mut);
    // SAFETY: an offset, or null.
    told(unsafe { libc::sendfile(to.as_raw_fd(), from.as_raw_fd(), offset, count) })
}

/// Each kind of target: what is returned, the offset, the position, and how much has arrived.
#[test]
fn what_sendfile_says() {
    same(|| {
        let mut all = Vec::new();
        for by_offset in [false, true] {
            let (mut file, _path) = file_of(300_000);
            file.seek(SeekFrom::Start(10)).unwrap();
            let mut offset = 20;
            let mut send = |to: RawFd, file: &mut File, count| {
                let place = by_offset.then_some(&mut offset);
                let sent = sendfile(&to, file, place, count);
                (sent, offset, file.stream_position().unwrap())
            };
            let (other, _other_path) = file_of(0);
            // A pipe takes what it has room for.
            let (mut reader, pipe) = pipe().unwrap();
            all.push(send(pipe.as_raw_fd(), &mut file, 1 << 20));
            reader.read_exact(&mut [0; 4096]).unwrap();
            all.push(send(other.as_raw_fd(), &mut file, 1000));
            let (mut there, here) = UnixStream::pair().unwrap();
            let reading = thread::spawn(move || {
                let mut all = Vec::new();
                there.read_to_end(&mut all).unwrap();
                (all.len(), all.iter().map(|byte| u64::from(*byte)).sum::<u64>())
            });
            all.push(send(here.as_raw_fd(), &mut file, 0));
            all.push(send(here.as_raw_fd(), &mut file, 1000));
            // To the end, and at the end.
            all.push(send(here.as_raw_fd(), &mut file, 1 << 20));
            all.push(send(here.as_raw_fd(), &mut file, 1 << 20));
            all.push(send(here.as_raw_fd(), &mut file, usize::MAX));
            drop(here);
            let (count, sum) = reading.join().unwrap();
            all.push(((count as isize, None), sum as i64, 0));
        }
        all
    });
}

#[test]
fn what_sendfile_refuses() {
    same(|| {
        let mut all = Vec::new();
        let (file, path) = file_of(300_000);
        let write_only = OpenOptions::new().write(true).open(&path.0).unwrap();
        let (here, there) = UnixStream::pair().unwrap();
        let folder = File::open(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let (reader, _writer) = pipe().unwrap();
        all.push(sendfile(&here, &write_only, None, 10));
        all.push(sendfile(&here, &folder, None, 10));
        all.push(sendfile(&here, &file, Some(&mut -1), 10));
        let mut last = i64::MAX;
        all.push(sendfile(&here, &file, Some(&mut last), 10));
        all.push(sendfile(&reader, &file, None, 10));
        all.push(sendfile(&12_345, &file, None, 10));
        // SAFETY: from where it stands.
        all.push(told(unsafe {
            libc::sendfile(here.as_raw_fd(), there.as_raw_fd(), null_mut(), 10)
        }));
        // One that does not block takes what there is room for.
        set_nonblocking(&here);
        let (sent, error) = sendfile(&here, &file, None, 300_000);
        all.push((isize::from(sent > 0 && sent < 300_000), error));
        while sendfile(&here, &file, Some(&mut 0), 300_000).0 > 0 {}
        all.push(sendfile(&here, &file, Some(&mut 0), 10));
        drop(there);
        all.push(sendfile(&here, &file, Some(&mut 0), 10));
        // SAFETY: no memory is involved.
        let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0) };
        all.push(sendfile(&socket, &file, Some(&mut 0), 10));
        all
    });
}

/// A slow reader gets all of it; one that takes nothing has a time limit pass.
#[test]
fn sendfile_to_a_slow_client() {
    same(|| {
        const SIZE: usize = 8 << 20;
        let (mut file, _path) = file_of(SIZE);
        let (here, mut there) = tcp();
        let reading = thread::spawn(move || {
            let (mut all, mut part) = (Vec::<u8>::new(), vec![0; 200_000]);
            while all.len() < SIZE {
                thread::sleep(Duration::from_millis(1));
                let count = there.read(&mut part).unwrap();
                all.extend(&part[..count]);
            }
            (all == bytes(SIZE), there)
        });
        let sent = sendfile(&here, &file, None, 1 << 30);
        let (is_right, there) = reading.join().unwrap();
        here.set_write_timeout(Some(Duration::from_millis(20))).unwrap();
        file.rewind().unwrap();
        let (part, error) = sendfile(&here, &file, None, SIZE);
        let stands_there = file.stream_position().unwrap() as isize == part;
        let is_full = loop {
            let (part, error) = sendfile(&here, &file, Some(&mut 0), SIZE);
            if part < 0 {
                break error;
            }
        };
        drop(there);
        (sent, is_right, part > 0 && part < SIZE as isize, error, stands_there, is_full)
    });
}

/// It is told once, and what was moved by then counts.
#[test]
fn copies_that_are_cut_short() {
    patched(|| {
        let (reader, writer) = pipe().unwrap();
        let (_other, room) = pipe().unwrap();
        let calls: [&dyn Fn() -> (isize, Option<i32>); 3] = [
            &|| splice(&reader, &room, 10, 0),
            // SAFETY: no memory is involved.
            &|| told(unsafe { libc::tee(reader.as_raw_fd(), room.as_raw_fd(), 10, 0) }),
            &|| {
                let mut byte = 0_u8;
                let part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
                // SAFETY: room for a byte.
                told(unsafe { libc::vmsplice(reader.as_raw_fd(), &part, 1, 0) })
            },
        ];
        for call in calls {
            let mut got = None;
            timeout(Duration::from_millis(5), || got = Some(call())).unwrap_err();
            assert_eq!(got, Some((-1, Some(libc::ECANCELED))));
        }
        // A number that is closed meanwhile.
        let fd = reader.as_raw_fd();
        let waiting = spawn(move || splice(&fd, &room, 10, 0));
        yield_now();
        drop(reader);
        assert_eq!(waiting.join().unwrap(), (-1, Some(libc::EBADF)));
        drop(writer);
    });
}

/// Several from one pipe: nothing is lost, and nothing comes twice.
#[test]
fn several_splice_from_one_pipe() {
    patched(|| {
        let (reader, mut writer): (PipeReader, PipeWriter) = pipe().unwrap();
        let fd = reader.as_raw_fd();
        let movers: Vec<_> = (0..20)
            .map(|_| {
                spawn(move || {
                    let (mut taker, room) = pipe().unwrap();
                    let mut sum = 0;
                    loop {
                        let (count @ 1.., _) = splice(&fd, &room, 7, 0) else { return sum };
                        let mut part = vec![0; count as usize];
                        taker.read_exact(&mut part).unwrap();
                        sum += part.iter().map(|byte| u64::from(*byte)).sum::<u64>();
                    }
                })
            })
            .collect();
        let all = bytes(20_000);
        for part in all.chunks(50) {
            writer.write_all(part).unwrap();
            yield_now();
        }
        drop(writer);
        let sum: u64 = movers.into_iter().map(|mover| mover.join().unwrap()).sum();
        assert_eq!(sum, all.iter().map(|byte| u64::from(*byte)).sum::<u64>());
    });
}
