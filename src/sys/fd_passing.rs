//! Sends descriptors along with a byte over a Unix socket.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

/// The maximum number of descriptors per byte.
pub(crate) const MOST: usize = 4;

/// Room for a control header and [`MOST`] descriptors, aligned as a header.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Builds a message of one byte, since descriptors cannot be sent without data.
fn message(byte: &mut u8, control: &mut Control, length: usize) -> (libc::iovec, libc::msghdr) {
    let part = libc::iovec { iov_base: ptr::from_mut(byte).cast(), iov_len: 1 };
    // SAFETY: an all-zero `msghdr` is valid.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = length as _;
    (part, header)
}

/// Sends a byte, along with copies of descriptors. Does not wait.
///
/// # Panics
///
/// If there are more than [`MOST`] descriptors.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    mut byte: u8,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    assert!(descriptors.len() <= MOST, "at most {MOST} descriptors, got {}", descriptors.len());
    let size = (descriptors.len() * size_of::<RawFd>()) as u32;
    let mut control = Control([0; 64]);
    // SAFETY: both functions only compute.
    let (space, length) = unsafe { (libc::CMSG_SPACE(size), libc::CMSG_LEN(size)) };
    let used = if descriptors.is_empty() { 0 } else { space as usize };
    let (mut part, mut header) = message(&mut byte, &mut control, used);
    header.msg_iov = &mut part;
    if !descriptors.is_empty() {
        // SAFETY: `control` has room for a header and `MOST` descriptors, and the assertion has checked
        // their number.
        unsafe {
            let first = libc::CMSG_FIRSTHDR(&header);
            (*first).cmsg_level = libc::SOL_SOCKET;
            (*first).cmsg_type = libc::SCM_RIGHTS;
            (*first).cmsg_len = length as _;
            let place = libc::CMSG_DATA(first).cast::<RawFd>();
            for (index, descriptor) in descriptors.iter().enumerate() {
                place.add(index).write_unaligned(descriptor.as_raw_fd());
            }
        }
    }
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    // SAFETY: `header` leads to `part` and `control`, which outlive the call. By number: `libc::sendmsg`
    // may be a hook.
    let sent =
        unsafe { libc::syscall(libc::SYS_sendmsg, socket.as_raw_fd(), &raw const header, flags) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A byte, and the descriptors that were sent along with it.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) byte: u8,
    pub(crate) descriptors: Vec<OwnedFd>,
    /// Whether these are all that were sent. If this process reaches its limit of descriptors, the kernel
    /// drops the others and sets `MSG_CTRUNC`.
    pub(crate) is_whole: bool,
}

/// Receives a byte and the descriptors sent along with it. `None` at the end. Does not wait.
pub(crate) fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<Received>> {
    let (mut byte, mut control) = (0, Control([0; 64]));
    let room = control.0.len();
    let (mut part, mut header) = message(&mut byte, &mut control, room);
    header.msg_iov = &mut part;
    let flags = libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT;
    // SAFETY: `header` leads to `part` and `control`, of the sizes that it states, which outlive the call.
    // By number: `libc::recvmsg` may be a hook.
    let received =
        unsafe { libc::syscall(libc::SYS_recvmsg, socket.as_raw_fd(), &raw mut header, flags) };
    if received < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut descriptors = Vec::new();
    // SAFETY: the kernel has filled in `header` and `control`. The descriptors are new, and nothing else
    // owns them.
    unsafe {
        let mut next = libc::CMSG_FIRSTHDR(&header);
        while let Some(found) = next.as_ref() {
            if found.cmsg_level == libc::SOL_SOCKET && found.cmsg_type == libc::SCM_RIGHTS {
                let size = found.cmsg_len - libc::CMSG_LEN(0) as usize;
                let place = libc::CMSG_DATA(next).cast::<RawFd>();
                for index in 0..size / size_of::<RawFd>() {
                    descriptors.push(OwnedFd::from_raw_fd(place.add(index).read_unaligned()));
                }
            }
            next = libc::CMSG_NXTHDR(&header, next);
        }
    }
    let is_whole = header.msg_flags & libc::MSG_CTRUNC == 0;
    Ok((received > 0).then_some(Received { byte, descriptors, is_whole }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Write, pipe};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn descriptors_arrive_in_order() {
        let (here, there) = UnixStream::pair().unwrap();
        let (a, mut a_in) = pipe().unwrap();
        let (b, mut b_in) = pipe().unwrap();
        send(here.as_fd(), 7, &[b.as_fd(), a.as_fd()]).unwrap();
        send(here.as_fd(), 8, &[]).unwrap();
        drop((a, b, here));
        a_in.write_all(b"a").unwrap();
        b_in.write_all(b"b").unwrap();
        let received = receive(there.as_fd()).unwrap().unwrap();
        let (byte, all) = (received.byte, received.descriptors);
        assert!(received.is_whole);
        let read = |fd: OwnedFd| {
            let mut text = [0];
            File::from(fd).read_exact(&mut text).unwrap();
            text[0]
        };
        assert_eq!((byte, all.into_iter().map(read).collect::<Vec<_>>()), (7, vec![b'b', b'a']));
        let received = receive(there.as_fd()).unwrap().unwrap();
        assert_eq!((received.byte, received.descriptors.len()), (8, 0));
        assert!(received.is_whole);
        assert!(receive(there.as_fd()).unwrap().is_none());
    }
}
