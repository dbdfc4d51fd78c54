//! What the kernel's blocking calls promise beyond waiting: the same script on a plain thread and in a coroutine.

use super::{BLOCK, patched};
use std::fmt::Debug;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::ptr;
use std::thread;
use std::time::{Duration, Instant};
use switchgrass::spawn;

thread_local! {
    static IS_PLAIN: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Runs a script on a plain thread, and in a coroutine beside one that must be able to run meanwhile. Returns
/// the result of both.
#[track_caller]
pub(super) fn same<R: Debug + PartialEq + Send + 'static>(script: fn() -> R, expected: R) {
    patched(move || {
        let plain = move || {
            IS_PLAIN.set(true);
            script()
        };
        assert_eq!(thread::spawn(plain).join().unwrap(), expected, "on a thread");
        let sibling = spawn(|| {
            loop {
                thread::sleep(Duration::from_millis(1));
            }
        });
        assert_eq!(spawn(script).join().unwrap(), expected, "in a coroutine");
        sibling.kill();
    });
}

/// Does something on a thread of its own, once the caller blocks.
pub(super) fn later(f: impl FnOnce() + Send + 'static) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        thread::sleep(BLOCK);
        f();
    })
}

/// A result of C, with the error if it is one.
pub(super) fn result(count: impl Into<i64>) -> Result<i64, i32> {
    match count.into() {
        count @ 0.. => Ok(count),
        _ => Err(io::Error::last_os_error().raw_os_error().unwrap()),
    }
}

fn long(count: isize) -> Result<i64, i32> {
    result(count as i64)
}

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let here = TcpStream::connect(address).unwrap();
    (here, listener.accept().unwrap().0)
}

fn udp_pair() -> (UdpSocket, UdpSocket) {
    let [a, b] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    a.connect(b.local_addr().unwrap()).unwrap();
    b.connect(a.local_addr().unwrap()).unwrap();
    (a, b)
}

fn recv(fd: RawFd, room: usize, flags: i32) -> Result<Vec<u8>, i32> {
    let mut buffer = vec![0_u8; room];
    // SAFETY: room for as many bytes as is said.
    let count = unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), room, flags) };
    long(count).map(|count| {
        buffer.truncate((count as usize).min(room));
        buffer
    })
}

fn set_option(fd: RawFd, name: i32, value: i32) {
    // SAFETY: a number, of the size that is said.
    let result =
        unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, name, (&raw const value).cast(), 4) };
    assert_eq!(result, 0);
}

/// Memory with a page behind it that must not be touched.
struct Guarded(*mut u8, usize);

impl Guarded {
    fn new(length: usize) -> Self {
        const PAGE: usize = 4096;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: new mappings.
        unsafe {
            let all = libc::mmap(
                ptr::null_mut(),
                2 * PAGE,
                libc::PROT_READ | libc::PROT_WRITE,
                flags,
                -1,
                0,
            );
            assert_ne!(all, libc::MAP_FAILED);
            assert_eq!(libc::mprotect(all.byte_add(PAGE), PAGE, libc::PROT_NONE), 0);
            Guarded(all.cast::<u8>().add(PAGE - length), length)
        }
    }

    fn bytes(&self) -> Vec<u8> {
        // SAFETY: mapped above.
        unsafe { std::slice::from_raw_parts(self.0, self.1) }.to_vec()
    }
}

#[test]
fn waitall_and_trunc_of_a_long_datagram_stay_within_the_buffer() {
    same(
        || {
            let (here, there) = udp_pair();
            there.send(b"0123456789").unwrap();
            there.send(b"abcdefghij").unwrap();
            let buffer = Guarded::new(4);
            let flags = libc::MSG_WAITALL | libc::MSG_TRUNC;
            // SAFETY: four bytes.
            let got = unsafe { libc::recv(here.as_raw_fd(), buffer.0.cast(), 4, flags) };
            (got, buffer.bytes(), recv(here.as_raw_fd(), 16, 0))
        },
        (10, b"0123".to_vec(), Ok(b"abcdefghij".to_vec())),
    );
}

#[test]
fn an_empty_error_queue_is_not_waited_for() {
    same(
        || {
            let ((tcp, _a), (udp, _b)) = (tcp_pair(), udp_pair());
            let flags = libc::MSG_ERRQUEUE;
            (recv(tcp.as_raw_fd(), 4, flags), recv(udp.as_raw_fd(), 4, flags))
        },
        (Err(libc::EAGAIN), Err(libc::EAGAIN)),
    );
}

#[test]
fn urgent_data_is_not_waited_for() {
    same(
        || {
            let (mut here, mut there) = tcp_pair();
            there.write_all(b"ab").unwrap();
            let first = here.read(&mut [0; 16]).unwrap();
            (first, recv(here.as_raw_fd(), 1, libc::MSG_OOB))
        },
        (2, Err(libc::EINVAL)),
    );
}

#[test]
fn a_read_of_nothing_is_not_waited_for() {
    same(
        || {
            let ((tcp, _a), (unix, _b)) = (tcp_pair(), UnixStream::pair().unwrap());
            let (pipe, _writer) = io::pipe().unwrap();
            // SAFETY: no bytes.
            let read = |fd| unsafe { libc::read(fd, ptr::null_mut(), 0) };
            [read(tcp.as_raw_fd()), read(unix.as_raw_fd()), read(pipe.as_raw_fd())]
        },
        [0, 0, 0],
    );
}

#[test]
fn a_receive_of_nothing_waits_for_something() {
    same(
        || {
            let (here, mut there) = tcp_pair();
            let start = Instant::now();
            let later = later(move || there.write_all(b"x").unwrap());
            let got = recv(here.as_raw_fd(), 0, 0);
            later.join().unwrap();
            (got, start.elapsed() >= BLOCK, recv(here.as_raw_fd(), 1, 0))
        },
        (Ok(vec![]), true, Ok(b"x".to_vec())),
    );
}

#[test]
fn a_datagram_socket_that_is_shut_down_has_an_end() {
    same(
        || {
            let (unix, _other) = UnixDatagram::pair().unwrap();
            let (udp, _peer) = udp_pair();
            let fds = [unix.as_raw_fd(), udp.as_raw_fd()];
            let mut all = Vec::new();
            for fd in fds {
                let later = later(move || {
                    // SAFETY: no memory is involved.
                    assert_eq!(unsafe { libc::shutdown(fd, libc::SHUT_RD) }, 0);
                });
                all.push(recv(fd, 4, 0));
                later.join().unwrap();
                all.push(recv(fd, 4, 0));
            }
            all
        },
        vec![Ok(vec![]); 4],
    );
}

#[test]
fn there_is_no_sender_after_the_end() {
    same(
        || {
            let (unix, _other) = UnixDatagram::pair().unwrap();
            unix.shutdown(std::net::Shutdown::Read).unwrap();
            let mut address = [7_u8; 128];
            let mut room: libc::socklen_t = 128;
            let fd = unix.as_raw_fd();
            let place = address.as_mut_ptr().cast();
            // SAFETY: room for four bytes and an address.
            let got = unsafe {
                let mut buffer = [0_u8; 4];
                libc::recvfrom(fd, buffer.as_mut_ptr().cast(), 4, 0, place, &mut room)
            };
            (long(got), room, unix.recv_from(&mut [0; 4]).unwrap().1.is_unnamed())
        },
        (Ok(0), 0, true),
    );
}

/// An address of UDP at which nobody listens.
fn refused() -> UdpSocket {
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(nobody.local_addr().unwrap()).unwrap();
    drop(nobody);
    socket.send(b"x").unwrap();
    socket
}

#[test]
fn a_write_that_is_refused_fails_once() {
    same(
        || {
            let socket = refused();
            // SAFETY: five bytes.
            let write =
                || long(unsafe { libc::write(socket.as_raw_fd(), b"hello".as_ptr().cast(), 5) });
            (write(), write())
        },
        (Err(libc::ECONNREFUSED), Ok(5)),
    );
}

#[test]
fn a_write_after_a_reset_fails_with_the_reset_and_no_signal() {
    same(
        || {
            // SAFETY: no handler is installed: the default ends the process.
            unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
            let (here, there) = tcp_pair();
            let linger = libc::linger { l_onoff: 1, l_linger: 0 };
            // SAFETY: a linger, of the size that is said.
            unsafe {
                let place = (&raw const linger).cast();
                let size = size_of_val(&linger) as u32;
                libc::setsockopt(there.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, place, size);
            }
            drop(there);
            thread::sleep(Duration::from_millis(20));
            // SAFETY: five bytes.
            long(unsafe { libc::write(here.as_raw_fd(), b"hello".as_ptr().cast(), 5) })
        },
        Err(libc::ECONNRESET),
    );
}

/// Sends a byte, with a descriptor along.
fn send_with_descriptor(to: &UnixStream, byte: u8, sent: RawFd) {
    let mut part = libc::iovec { iov_base: (&raw const byte as *mut u8).cast(), iov_len: 1 };
    let mut control = [0_u64; 4];
    // SAFETY: a message of one byte and one descriptor, with room for both.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(4) as usize;
        let header = libc::CMSG_FIRSTHDR(&message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(4) as usize;
        libc::CMSG_DATA(header).cast::<RawFd>().write_unaligned(sent);
        assert_eq!(libc::sendmsg(to.as_raw_fd(), &message, 0), 1);
    }
}

#[test]
fn bytes_behind_a_descriptor_that_was_sent_along_are_read() {
    same(
        || {
            let (mut here, mut there) = UnixStream::pair().unwrap();
            // It is registered from here on.
            let later = later({
                let mut there = there.try_clone().unwrap();
                move || there.write_all(b"0").unwrap()
            });
            let mut all = vec![here.read(&mut [0; 16]).unwrap()];
            later.join().unwrap();
            there.write_all(b"ab").unwrap();
            send_with_descriptor(&there, b'c', 0);
            there.write_all(b"de").unwrap();
            while all.iter().sum::<usize>() < 6 {
                all.push(here.read(&mut [0; 16]).unwrap());
            }
            all
        },
        vec![1, 3, 2],
    );
}

#[test]
fn waitall_waits_for_all_parts_also_to_look_at_them() {
    same(
        || {
            let (here, mut there) = tcp_pair();
            there.write_all(b"abc").unwrap();
            let later = later(move || {
                there.write_all(b"def").unwrap();
                thread::sleep(BLOCK);
                there.write_all(b"ghi").unwrap();
            });
            let fd = here.as_raw_fd();
            let peeked = recv(fd, 6, libc::MSG_WAITALL | libc::MSG_PEEK);
            let all = recv(fd, 9, libc::MSG_WAITALL);
            later.join().unwrap();
            (peeked, all, recv(fd, 9, libc::MSG_WAITALL))
        },
        (Ok(b"abcdef".to_vec()), Ok(b"abcdefghi".to_vec()), Ok(vec![])),
    );
}

#[test]
fn waitall_of_a_message_fills_all_its_parts() {
    same(
        || {
            let (here, mut there) = UnixStream::pair().unwrap();
            there.write_all(b"abc").unwrap();
            let later = later(move || there.write_all(b"defgh").unwrap());
            let mut buffers = [[0_u8; 4]; 2];
            let mut parts = buffers
                .each_mut()
                .map(|part| libc::iovec { iov_base: part.as_mut_ptr().cast(), iov_len: 4 });
            // SAFETY: a message of two parts.
            let got = unsafe {
                let mut message: libc::msghdr = std::mem::zeroed();
                message.msg_iov = parts.as_mut_ptr();
                message.msg_iovlen = 2;
                libc::recvmsg(here.as_raw_fd(), &mut message, libc::MSG_WAITALL)
            };
            later.join().unwrap();
            (long(got), buffers.concat())
        },
        (Ok(8), b"abcdefgh".to_vec()),
    );
}

#[test]
fn waitall_stops_at_a_descriptor_that_was_sent_along() {
    same(
        || {
            let (here, mut there) = UnixStream::pair().unwrap();
            send_with_descriptor(&there, b'a', 0);
            there.write_all(b"bcd").unwrap();
            let fd = here.as_raw_fd();
            (recv(fd, 2, libc::MSG_WAITALL), recv(fd, 3, libc::MSG_WAITALL))
        },
        (Ok(b"a".to_vec()), Ok(b"bcd".to_vec())),
    );
}

#[test]
fn waitall_stops_before_urgent_data() {
    same(
        || {
            let (here, mut there) = tcp_pair();
            there.write_all(b"abc").unwrap();
            // SAFETY: one byte.
            let sent =
                unsafe { libc::send(there.as_raw_fd(), b"!".as_ptr().cast(), 1, libc::MSG_OOB) };
            there.write_all(b"def").unwrap();
            thread::sleep(Duration::from_millis(20));
            let fd = here.as_raw_fd();
            (sent, recv(fd, 6, libc::MSG_WAITALL), recv(fd, 3, libc::MSG_WAITALL))
        },
        (1, Ok(b"abc".to_vec()), Ok(b"def".to_vec())),
    );
}

#[test]
fn a_low_water_mark_is_waited_for() {
    same(
        || {
            let (here, mut there) = tcp_pair();
            set_option(here.as_raw_fd(), libc::SO_RCVLOWAT, 6);
            there.write_all(b"abc").unwrap();
            let later = later(move || {
                there.write_all(b"def").unwrap();
                thread::sleep(BLOCK);
                there.write_all(b"ghi").unwrap();
            });
            let got = recv(here.as_raw_fd(), 64, 0);
            later.join().unwrap();
            got.map(|got| got.len() >= 6)
        },
        Ok(true),
    );
}

#[test]
fn a_timeout_is_one_of_the_whole_call() {
    same(
        || {
            let (here, mut there) = tcp_pair();
            here.set_read_timeout(Some(BLOCK * 2)).unwrap();
            let feeding = thread::spawn(move || {
                for _ in 0..8 {
                    thread::sleep(BLOCK / 2);
                    if there.write_all(b"x").is_err() {
                        return;
                    }
                }
            });
            let start = Instant::now();
            let got = recv(here.as_raw_fd(), 64, libc::MSG_WAITALL).unwrap().len();
            let took = start.elapsed();
            drop(here);
            feeding.join().unwrap();
            (got < 8, took >= BLOCK * 2)
        },
        (true, true),
    );
}

#[test]
fn an_error_behind_bytes_is_the_next_calls() {
    same(
        || {
            let (here, mut there) = tcp_pair();
            there.write_all(b"abc").unwrap();
            let later = later(move || {
                let linger = libc::linger { l_onoff: 1, l_linger: 0 };
                let size = size_of_val(&linger) as u32;
                let fd = there.as_raw_fd();
                // SAFETY: a linger, of the size that is said.
                unsafe {
                    let place = (&raw const linger).cast();
                    libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_LINGER, place, size);
                }
                drop(there);
            });
            let fd = here.as_raw_fd();
            let first = recv(fd, 8, libc::MSG_WAITALL);
            later.join().unwrap();
            (first, recv(fd, 8, 0), recv(fd, 8, 0))
        },
        (Ok(b"abc".to_vec()), Err(libc::ECONNRESET), Ok(vec![])),
    );
}

#[test]
fn what_does_not_listen_accepts_nothing() {
    same(
        || {
            let (tcp, _peer) = tcp_pair();
            let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
            // SAFETY: without an address.
            let accept = |fd| result(unsafe { libc::accept(fd, ptr::null_mut(), ptr::null_mut()) });
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            // SAFETY: without an address.
            let flags =
                unsafe { libc::accept4(listener.as_raw_fd(), ptr::null_mut(), ptr::null_mut(), 1) };
            (accept(tcp.as_raw_fd()), accept(udp.as_raw_fd()), result(flags).is_err())
        },
        (Err(libc::EINVAL), Err(libc::EOPNOTSUPP), true),
    );
}

#[test]
fn bad_counts_of_parts_fail_at_once() {
    same(
        || {
            let ((tcp, _a), (pipe, writer)) = (tcp_pair(), io::pipe().unwrap());
            let part = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
            let mut all = Vec::new();
            for count in [-1, libc::UIO_MAXIOV + 1] {
                for fd in [tcp.as_raw_fd(), pipe.as_raw_fd()] {
                    // SAFETY: refused before it is looked at.
                    all.push(long(unsafe { libc::readv(fd, &part, count) }));
                }
                for fd in [tcp.as_raw_fd(), writer.as_raw_fd()] {
                    // SAFETY: as above.
                    all.push(long(unsafe { libc::writev(fd, &part, count) }));
                }
            }
            all
        },
        vec![Err(libc::EINVAL); 8],
    );
}

fn owned(fd: RawFd) -> OwnedFd {
    assert!(fd >= 0, "{}", io::Error::last_os_error());
    // SAFETY: a new descriptor.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

#[test]
fn what_cannot_be_written_to_fails_at_once() {
    same(
        || {
            // SAFETY: no memory is involved.
            let (timer, epoll) =
                unsafe { (libc::timerfd_create(libc::CLOCK_MONOTONIC, 0), libc::epoll_create1(0)) };
            let (timer, epoll) = (owned(timer), owned(epoll));
            let bytes = [1_u8; 8];
            let write = |fd: &OwnedFd| {
                // SAFETY: eight bytes.
                long(unsafe { libc::write(fd.as_raw_fd(), bytes.as_ptr().cast(), 8) })
            };
            let mut small = [0_u8; 4];
            // SAFETY: four bytes.
            let read = long(unsafe {
                libc::read(timer.as_raw_fd(), small.as_mut_ptr().cast(), small.len())
            });
            (write(&timer), write(&epoll), read)
        },
        (Err(libc::EINVAL), Err(libc::EINVAL), Err(libc::EINVAL)),
    );
}

#[test]
fn a_full_eventfd_is_waited_for() {
    same(
        || {
            // SAFETY: no memory is involved.
            let event = owned(unsafe { libc::eventfd(0, 0) });
            let fd = event.as_raw_fd();
            // SAFETY: eight bytes.
            let add =
                move |value: u64| long(unsafe { libc::write(fd, (&raw const value).cast(), 8) });
            let start = Instant::now();
            let first = add(u64::MAX - 3);
            let later = later(move || {
                let mut value = 0_u64;
                // SAFETY: eight bytes.
                unsafe { libc::read(fd, (&raw mut value).cast(), 8) };
            });
            let second = add(10);
            let has_waited = start.elapsed() >= BLOCK;
            later.join().unwrap();
            (first, second, has_waited, add(u64::MAX))
        },
        (Ok(8), Ok(8), true, Err(libc::EINVAL)),
    );
}

/// Begins something beside the caller, as the caller is run, and lets it run for a while. Returns how to wait for
/// its result.
fn begin<R: Send + 'static>(f: impl FnOnce() -> R + Send + 'static) -> Box<dyn FnOnce() -> R> {
    let joining: Box<dyn FnOnce() -> R> = if IS_PLAIN.get() {
        let thread = thread::spawn(f);
        Box::new(move || thread.join().unwrap())
    } else {
        let coroutine = spawn(f);
        Box::new(move || coroutine.join().unwrap())
    };
    thread::sleep(Duration::from_millis(20));
    joining
}

/// One coroutine, or thread, reads, and another ends what it reads from.
fn closes_behind(end: fn(&mut TcpStream, TcpStream)) -> Result<Vec<u8>, i32> {
    let (here, mut there) = tcp_pair();
    let fd = here.as_raw_fd();
    let reading = begin(move || recv(fd, 16, 0));
    end(&mut there, here);
    reading()
}

#[test]
fn close_does_not_overtake_shutdown() {
    same(
        || {
            closes_behind(|_, here| {
                here.shutdown(std::net::Shutdown::Both).unwrap();
                drop(here);
            })
        },
        Ok(vec![]),
    );
}

#[test]
fn close_does_not_overtake_bytes() {
    same(
        || {
            closes_behind(|there, here| {
                there.write_all(b"last").unwrap();
                drop(here);
            })
        },
        Ok(b"last".to_vec()),
    );
}

#[test]
fn datagrams_for_a_full_unix_socket_wait_for_room() {
    same(
        || {
            let path = std::env::temp_dir().join(format!(
                "switchgrass-full-{}-{:?}",
                std::process::id(),
                thread::current().id()
            ));
            let _ = std::fs::remove_file(&path);
            let there = UnixDatagram::bind(&path).unwrap();
            let here = UnixDatagram::unbound().unwrap();
            here.set_nonblocking(true).unwrap();
            let mut sent = 0;
            while here.send_to(b"x", &path).is_ok() {
                sent += 1;
            }
            here.set_nonblocking(false).unwrap();
            let later = later(move || {
                for _ in 0..=sent {
                    there.recv(&mut [0; 4]).unwrap();
                }
            });
            let start = Instant::now();
            let last = here.send_to(b"y", &path).map_err(|error| error.raw_os_error());
            let has_waited = start.elapsed() >= BLOCK / 2;
            later.join().unwrap();
            std::fs::remove_file(&path).unwrap();
            (last, has_waited)
        },
        (Ok(1), true),
    );
}

#[test]
fn select_looks_at_no_more_than_the_kernel_does() {
    same(
        || {
            let (reader, mut writer) = io::pipe().unwrap();
            let fd = reader.as_raw_fd() as usize;
            assert!(fd < 64);
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let size = status.lines().find_map(|line| line.strip_prefix("FDSize:")).unwrap();
            let set = Guarded::new(size.trim().parse::<usize>().unwrap() / 8);
            // SAFETY: the set has that word.
            unsafe { set.0.cast::<u64>().write(1 << fd) };
            let later = later(move || writer.write_all(b"x").unwrap());
            let none = ptr::null_mut();
            // SAFETY: the kernel looks at no more bits than there can be descriptors now.
            let count = unsafe { libc::select(4096, set.0.cast(), none, none, ptr::null_mut()) };
            later.join().unwrap();
            let bytes = set.bytes();
            (count, bytes[..8] == (1_u64 << fd).to_ne_bytes(), bytes[8..].iter().all(|b| *b == 0))
        },
        (1, true, true),
    );
}

#[test]
fn a_terminal_takes_more_than_its_room() {
    same(
        || {
            let (mut master, mut slave) = (0, 0);
            let (name, settings, size) = (ptr::null_mut(), ptr::null(), ptr::null());
            // SAFETY: room for two numbers, and nothing else.
            let made = unsafe { libc::openpty(&mut master, &mut slave, name, settings, size) };
            assert_eq!(made, 0);
            let (master, slave) = (owned(master), owned(slave));
            let later = later(move || {
                let mut got = 0;
                while got < 100_000 {
                    let mut buffer = [0_u8; 4096];
                    // SAFETY: room for as many bytes as is said.
                    let count = unsafe {
                        libc::read(master.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len())
                    };
                    got += usize::try_from(count).unwrap();
                }
            });
            let bytes = vec![b'x'; 100_000];
            // SAFETY: as many bytes as is said.
            let sent =
                unsafe { libc::write(slave.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
            later.join().unwrap();
            long(sent)
        },
        Ok(100_000),
    );
}

#[test]
fn datagrams_before_an_error_are_received_and_the_error_is_next() {
    same(
        || {
            let socket = refused();
            thread::sleep(Duration::from_millis(20));
            let mut bytes = [[0_u8; 4]; 2];
            let mut parts = bytes
                .each_mut()
                .map(|part| libc::iovec { iov_base: part.as_mut_ptr().cast(), iov_len: 4 });
            // SAFETY: two messages of a part each.
            let (first, second) = unsafe {
                let mut all: [libc::mmsghdr; 2] = std::mem::zeroed();
                for (message, part) in all.iter_mut().zip(&mut parts) {
                    message.msg_hdr.msg_iov = part;
                    message.msg_hdr.msg_iovlen = 1;
                }
                let fd = socket.as_raw_fd();
                let call = |all: &mut [libc::mmsghdr; 2], flags| {
                    result(libc::recvmmsg(fd, all.as_mut_ptr(), 2, flags, ptr::null_mut()))
                };
                (call(&mut all, 0), call(&mut all, libc::MSG_DONTWAIT))
            };
            (first, second)
        },
        (Err(libc::ECONNREFUSED), Err(libc::EAGAIN)),
    );
}

/// A writer that waits for room.
#[test]
fn shutdown() {
    same(
        || {
            let (here, _there) = UnixStream::pair().unwrap();
            let bytes = vec![0_u8; 1 << 20];
            let fd = here.as_raw_fd();
            let later = later(move || {
                // SAFETY: no memory is involved.
                assert_eq!(unsafe { libc::shutdown(fd, libc::SHUT_WR) }, 0);
            });
            // SAFETY: as many bytes as is said.
            let sent = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), 0) };
            later.join().unwrap();
            (1..1 << 20).contains(&sent)
        },
        true,
    );
}

#[test]
fn empty_datagrams_are_written() {
    same(
        || {
            let (here, there) = udp_pair();
            // SAFETY: no bytes.
            let sent = long(unsafe { libc::write(here.as_raw_fd(), ptr::null(), 0) });
            (sent, there.recv(&mut [0; 4]).unwrap())
        },
        (Ok(0), 0),
    );
}

#[test]
fn a_call_that_fails_at_once_does_not_wait_behind_others() {
    same(
        || {
            let (here, there) = UnixDatagram::pair().unwrap();
            let fd = here.as_raw_fd();
            let reading = begin(move || recv(fd, 4, 0));
            let urgent = recv(fd, 4, libc::MSG_OOB);
            let nothing = {
                // SAFETY: no bytes.
                let read = unsafe { libc::read(fd, ptr::null_mut(), 0) };
                long(read)
            };
            there.send(b"x").unwrap();
            (urgent, nothing, reading())
        },
        (Err(libc::EOPNOTSUPP), Ok(0), Ok(b"x".to_vec())),
    );
}

/// Sends nothing in each way, while another fills the stream. Whether each was done before that one.
fn nothing_beside_a_writer<S: io::Read + Send + 'static>(
    here: &(impl AsRawFd + ?Sized),
    mut there: S,
) -> Vec<(Result<i64, i32>, bool)> {
    const SIZE: usize = 16 << 20;
    let fd = here.as_raw_fd();
    let writing = begin(move || {
        let bytes = vec![0_u8; SIZE];
        // SAFETY: as many bytes as is said.
        long(unsafe { libc::send(fd, bytes.as_ptr().cast(), SIZE, 0) })
    });
    let reader = thread::spawn(move || {
        thread::sleep(5 * BLOCK);
        let mut all = vec![0; SIZE];
        there.read_exact(&mut all).unwrap();
    });
    let mut byte = 0_u8;
    let nothing = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 0 };
    let mut parts = [nothing, nothing];
    // SAFETY: all-zero is a message of nothing.
    let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
    let mut results = Vec::new();
    let mut timed = |call: &mut dyn FnMut() -> isize| {
        let start = Instant::now();
        results.push((long(call()), start.elapsed() < 2 * BLOCK));
    };
    // SAFETY: no bytes, and messages of none.
    unsafe {
        timed(&mut || libc::send(fd, (&raw const byte).cast(), 0, 0));
        timed(&mut || libc::write(fd, (&raw const byte).cast(), 0));
        timed(&mut || libc::writev(fd, parts.as_ptr(), 2));
        timed(&mut || libc::sendmsg(fd, &message.msg_hdr, 0));
        (message.msg_hdr.msg_iov, message.msg_hdr.msg_iovlen) = (parts.as_mut_ptr(), 2);
        timed(&mut || libc::sendmsg(fd, &message.msg_hdr, 0));
        timed(&mut || libc::sendmmsg(fd, &mut message, 1, 0) as isize);
    }
    reader.join().unwrap();
    assert_eq!(writing(), Ok(SIZE as i64));
    results
}

#[test]
fn nothing_is_sent_to_a_stream_without_waiting_behind_a_writer() {
    same(
        || {
            let (here, there) = UnixStream::pair().unwrap();
            let unix = nothing_beside_a_writer(&here, there);
            let (here, there) = tcp_pair();
            [unix, nothing_beside_a_writer(&here, there)]
        },
        [(); 2].map(|()| [0, 0, 0, 0, 0, 1].map(|result| (Ok(result), true)).to_vec()),
    );
}

#[test]
fn a_poll_that_asks_for_nothing_holds_nobody_up() {
    same(
        || {
            let zero = std::fs::File::open("/dev/zero").unwrap();
            let mut question = libc::pollfd { fd: zero.as_raw_fd(), events: 0, revents: 0 };
            let beside = begin(|| thread::sleep(Duration::from_millis(1)));
            let start = Instant::now();
            // SAFETY: one question.
            let answer = unsafe { libc::poll(&mut question, 1, 50) };
            beside();
            (answer, start.elapsed() >= Duration::from_millis(50))
        },
        (0, true),
    );
}
