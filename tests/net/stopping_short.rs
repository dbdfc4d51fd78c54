//! Calls that do less than they could, though there is more: what is left must be seen.

use crate::tcp_pair;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::time::Duration;
use switchgrass::net::{UnixDatagram, UnixStream};
use switchgrass::{sleep, spawn, timeout, yield_now};

const SOON: Duration = Duration::from_secs(10);

/// A read stops before a byte out of band, and what comes after it has come already.
#[test]
fn what_follows_urgent_data_is_read() {
    let (mut here, mut there) = tcp_pair();
    // The hub has seen all events that there were before.
    there.write_all(b"first").unwrap();
    let mut buffer = [0; 64];
    assert_eq!(here.read(&mut buffer).unwrap(), 5);
    there.write_all(b"before").unwrap();
    // SAFETY: one byte of ours.
    let sent = unsafe { libc::send(there.as_raw_fd(), b"!".as_ptr().cast(), 1, libc::MSG_OOB) };
    assert_eq!(sent, 1);
    there.write_all(b"after").unwrap();
    sleep(Duration::from_millis(1));
    assert_eq!(here.read(&mut buffer).unwrap(), 6);
    let after = timeout(SOON, || here.read(&mut buffer)).expect("it has come already").unwrap();
    assert_eq!(&buffer[..after], b"after");
}

/// A read stops behind what a descriptor was sent along with.
#[test]
fn what_follows_a_descriptor_that_was_sent_along_is_read() {
    let (mut here, mut there) = UnixStream::pair().unwrap();
    there.write_all(b"first").unwrap();
    let mut buffer = [0; 64];
    assert_eq!(here.read(&mut buffer).unwrap(), 5);
    send_with_descriptor(there.as_raw_fd(), b"along");
    there.write_all(b"after").unwrap();
    sleep(Duration::from_millis(1));
    assert_eq!(here.read(&mut buffer).unwrap(), 5);
    let after = timeout(SOON, || here.read(&mut buffer)).expect("it has come already").unwrap();
    assert_eq!(&buffer[..after], b"after");
}

/// Sends `bytes`, and standard input with them.
fn send_with_descriptor(socket: i32, bytes: &[u8]) {
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut control = [0_u64; 8];
    // SAFETY: the message is all-zero or points to what lives until it is sent; there is room for one
    // descriptor in `control`, which is aligned for its head.
    let sent = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(4) as _;
        let head = libc::CMSG_FIRSTHDR(&raw const message);
        (*head).cmsg_level = libc::SOL_SOCKET;
        (*head).cmsg_type = libc::SCM_RIGHTS;
        (*head).cmsg_len = libc::CMSG_LEN(4) as _;
        libc::CMSG_DATA(head).cast::<i32>().write_unaligned(0);
        libc::sendmsg(socket, &raw const message, 0)
    };
    assert_eq!(sent, bytes.len() as isize);
}

/// Of a socket that it is not connected to, the kernel says at once that there is room, and there is not.
#[test]
fn one_who_sends_to_a_full_unix_socket_by_its_path_is_not_forgotten() {
    let path = std::env::temp_dir().join(format!("switchgrass-full-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let there = UnixDatagram::bind(&path).unwrap();
    let here = UnixDatagram::unbound().unwrap();
    const COUNT: u32 = 200;
    let sender = spawn({
        let path = path.clone();
        move || {
            for number in 0..COUNT {
                here.send_to(&number.to_le_bytes(), &path).unwrap();
            }
        }
    });
    yield_now();
    assert!(sender.waits_for().is_some(), "it is to be full");
    let mut buffer = [0; 4];
    for number in 0..COUNT {
        let count = timeout(SOON, || there.recv(&mut buffer)).expect("the sender was forgotten");
        assert_eq!((count.unwrap(), u32::from_le_bytes(buffer)), (4, number));
    }
    sender.join().unwrap();
    std::fs::remove_file(&path).unwrap();
}

/// ... and its time limit holds there too.
#[test]
fn a_full_unix_socket_times_out() {
    let path = std::env::temp_dir().join(format!("switchgrass-limit-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let there = UnixDatagram::bind(&path).unwrap();
    let here = UnixDatagram::unbound().unwrap();
    here.set_write_timeout(Some(Duration::from_millis(5))).unwrap();
    let error = (0..10_000).find_map(|_| here.send_to(b"x", &path).err()).expect("never full");
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    drop(there);
    std::fs::remove_file(&path).unwrap();
}
