//! What only sockets can be asked for.

use super::Call;
use crate::fixtures::{Address, LISTENER, SOCKET};
use crate::memory::{Buffer, Vector};
use crate::params::Param::{Fd, Flags, Length, One};
use crate::params::{ADDRESS, CONTROL, LIMITS, RECEIVE, SHAPE, TRANSMIT, int, timespec, values};
use crate::worker::result_slot;
use crate::world::{self, fd, name, outcome};
use libc::{c_int, c_void, mmsghdr, msghdr, size_t, sockaddr, socklen_t, ssize_t};
use std::ptr;

unsafe extern "C" {
    fn __recv_chk(fd: c_int, to: *mut c_void, len: size_t, room: size_t, flags: c_int) -> ssize_t;
    fn __recvfrom_chk(
        fd: c_int,
        to: *mut c_void,
        len: size_t,
        room: size_t,
        flags: c_int,
        address: *mut sockaddr,
        length: *mut socklen_t,
    ) -> ssize_t;
}

const ACCEPT_FLAGS: crate::params::Param = Flags(values![SOCK_NONBLOCK, SOCK_CLOEXEC]);
const COUNT: crate::params::Param = One(&[("count0", 0), ("count1", 1), ("count3", 3)]);

/// What is sent along: nothing, a descriptor, one that is none, or a message that is too short.
const RIGHTS: crate::params::Param =
    One(&[("bare", 0), ("bare", 0), ("rights", 1), ("badrights", 2), ("short", 3)]);

pub(super) const CALLS: &[Call] = &[
    Call::new("recv", 10, SOCKET, &[Fd, Length, RECEIVE], |_, a| {
        let to = Buffer::empty(a[1]);
        // SAFETY: a buffer of this length.
        let got = outcome(unsafe { libc::recv(fd(a[0]), to.pointer(), to.len(), int(a[2])) });
        got.with(&to.describe())
    }),
    Call::new("__recv_chk", 2, SOCKET, &[Fd, Length, RECEIVE], |_, a| {
        let to = Buffer::empty(a[1]);
        // SAFETY: a buffer of this length.
        let got =
            outcome(unsafe { __recv_chk(fd(a[0]), to.pointer(), to.len(), to.len(), int(a[2])) });
        got.with(&to.describe())
    }),
    Call::new("recvfrom", 8, SOCKET, &[Fd, Length, RECEIVE, ADDRESS], |_, a| {
        receive_from(a, |to, address, length| {
            // SAFETY: buffers of these lengths.
            outcome(unsafe {
                libc::recvfrom(fd(a[0]), to.pointer(), to.len(), int(a[2]), address, length)
            })
        })
    }),
    Call::new("__recvfrom_chk", 2, SOCKET, &[Fd, Length, RECEIVE, ADDRESS], |_, a| {
        receive_from(a, |to, address, length| {
            let (pointer, room, flags) = (to.pointer(), to.len(), int(a[2]));
            // SAFETY: buffers of these lengths.
            outcome(unsafe {
                __recvfrom_chk(fd(a[0]), pointer, room, room, flags, address, length)
            })
        })
    }),
    Call::new("recvmsg", 8, SOCKET, &[Fd, Length, RECEIVE, SHAPE, ADDRESS, CONTROL], |_, a| {
        let message = Message::to_receive(a[1], a[3], a[4], a[5]);
        // SAFETY: a message of live buffers.
        let got = outcome(unsafe { libc::recvmsg(fd(a[0]), message.header.pointer(), int(a[2])) });
        got.with(&message.describe())
    }),
    Call::new(
        "recvmmsg",
        6,
        SOCKET,
        &[
            Fd,
            Length,
            RECEIVE,
            COUNT,
            LIMITS,
            One(&[("all", 0), ("one", libc::MSG_WAITFORONE as i64)]),
        ],
        |_, a| {
            let messages: Vec<_> =
                (0..a[3]).map(|_| Message::to_receive(a[1], 3, 128, 24)).collect();
            let all = Buffer::empty(a[3] * size_of::<mmsghdr>() as i64);
            let place = all.pointer::<mmsghdr>();
            for (at, message) in messages.iter().enumerate() {
                let message = mmsghdr { msg_hdr: message.header.get(), msg_len: 77 };
                // SAFETY: room for all of them was made above.
                unsafe { place.add(at).write_unaligned(message) };
            }
            let limit = Buffer::of(timespec(a[4]));
            let time = if a[4] < 0 { ptr::null_mut() } else { limit.pointer() };
            let flags = int(a[2] | a[5]);
            // SAFETY: messages of live buffers.
            let got = outcome(unsafe { libc::recvmmsg(fd(a[0]), place, a[3] as u32, flags, time) });
            let mut text = got.text();
            for (at, message) in messages.iter().enumerate() {
                // SAFETY: written above, and by the call.
                let after = unsafe { place.add(at).read_unaligned() };
                // SAFETY: where it was taken from.
                unsafe { message.header.pointer::<msghdr>().write_unaligned(after.msg_hdr) };
                text += &format!(" <{} {}>", after.msg_len, message.describe());
            }
            text
        },
    ),
    Call::new("send", 10, SOCKET, &[Fd, Length, TRANSMIT], |step, a| {
        let from = Buffer::filled(a[1], step);
        // SAFETY: a buffer of this length.
        outcome(unsafe { libc::send(fd(a[0]), from.pointer(), from.len(), int(a[2])) }).text()
    }),
    Call::new("sendto", 6, SOCKET | LISTENER, &[Fd, Length, TRANSMIT, Fd], |step, a| {
        let from = Buffer::filled(a[1], step);
        let (pointer, room) = (from.pointer(), from.len());
        let to = Address::of(fd(a[3])).filter(|_| a[3] != a[0]);
        let (address, length) =
            to.as_ref().map_or((ptr::null(), 0), |to| (to.pointer(), to.length));
        // SAFETY: a buffer of this length, and an address.
        outcome(unsafe { libc::sendto(fd(a[0]), pointer, room, int(a[2]), address, length) }).text()
    }),
    Call::new("sendmsg", 6, SOCKET, &[Fd, Length, TRANSMIT, SHAPE, RIGHTS, Fd], |step, a| {
        let message = Message::to_send(step, a[1], a[3], a[4], a[5]);
        // SAFETY: a message of live buffers.
        outcome(unsafe { libc::sendmsg(fd(a[0]), message.header.pointer(), int(a[2])) }).text()
    }),
    Call::new("sendmmsg", 5, SOCKET, &[Fd, Length, TRANSMIT, COUNT, RIGHTS, Fd], |step, a| {
        let messages: Vec<_> =
            (0..a[3]).map(|_| Message::to_send(step, a[1], 3, a[4], a[5])).collect();
        let all = Buffer::empty(a[3] * size_of::<mmsghdr>() as i64);
        let place = all.pointer::<mmsghdr>();
        for (at, message) in messages.iter().enumerate() {
            let message = mmsghdr { msg_hdr: message.header.get(), msg_len: 77 };
            // SAFETY: room for all of them was made above.
            unsafe { place.add(at).write_unaligned(message) };
        }
        // SAFETY: messages of live buffers.
        let sent = outcome(unsafe { libc::sendmmsg(fd(a[0]), place, a[3] as u32, int(a[2])) });
        // SAFETY: written above, and by the call.
        let lengths =
            (0..messages.len()).map(|at| unsafe { place.add(at).read_unaligned() }.msg_len);
        sent.with(&format!("{:?}", lengths.collect::<Vec<_>>()))
    }),
    Call::new("accept", 10, LISTENER, &[Fd, ADDRESS], |step, a| {
        accept(step, a, |address, length| {
            // SAFETY: a buffer of this length.
            unsafe { libc::accept(fd(a[0]), address, length) }
        })
    })
    .making_a_slot(),
    Call::new("accept4", 8, LISTENER, &[Fd, ADDRESS, ACCEPT_FLAGS], |step, a| {
        accept(step, a, |address, length| {
            // SAFETY: a buffer of this length.
            unsafe { libc::accept4(fd(a[0]), address, length, int(a[2])) }
        })
    })
    .making_a_slot(),
    Call::new("connect", 10, LISTENER, &[Fd, Fd], |_, a| connect(a)),
    Call::new("connect_again", 2, SOCKET, &[Fd, Fd], |_, a| connect(a)),
    Call::new(
        "shutdown",
        8,
        SOCKET | LISTENER,
        &[Fd, One(values![SHUT_RD, SHUT_WR, SHUT_RDWR])],
        |_, a| {
            // SAFETY: no memory is involved.
            outcome(unsafe { libc::shutdown(fd(a[0]), int(a[1])) }).text()
        },
    ),
];

fn connect(a: &[i64]) -> String {
    let Some(to) = Address::of(fd(a[1])) else { return "no address".into() };
    // SAFETY: an address.
    outcome(unsafe { libc::connect(fd(a[0]), to.pointer(), to.length) }).text()
}

/// Room for an address, of -1 none.
struct Place {
    bytes: Buffer,
    length: Buffer,
    is_wanted: bool,
}

impl Place {
    fn new(room: i64) -> Self {
        let (bytes, length) = (Buffer::empty(room.max(0)), Buffer::of(room.max(0) as socklen_t));
        Place { bytes, length, is_wanted: room >= 0 }
    }

    fn pointers(&self) -> (*mut sockaddr, *mut socklen_t) {
        match self.is_wanted {
            true => (self.bytes.pointer(), self.length.pointer()),
            false => (ptr::null_mut(), ptr::null_mut()),
        }
    }

    fn describe(&self) -> String {
        self.describe_as(self.length.get())
    }

    fn describe_as(&self, length: socklen_t) -> String {
        let is_touched = self.bytes.describe() != "\"\"";
        let bytes = if is_touched { self.bytes.bytes() } else { &[] };
        if self.is_wanted { world::address(bytes, length) } else { String::new() }
    }
}

fn receive_from(
    a: &[i64],
    call: impl FnOnce(&Buffer, *mut sockaddr, *mut socklen_t) -> world::Outcome,
) -> String {
    let (to, place) = (Buffer::empty(a[1]), Place::new(a[3]));
    let (address, length) = place.pointers();
    call(&to, address, length).with(&format!("{} {}", to.describe(), place.describe()))
}

fn accept(
    step: usize,
    a: &[i64],
    call: impl FnOnce(*mut sockaddr, *mut socklen_t) -> c_int,
) -> String {
    let place = Place::new(a[1]);
    let (address, length) = place.pointers();
    let got = outcome(call(address, length));
    if got.result < 0 {
        return got.with(&place.describe());
    }
    world::set_fd(result_slot(step), got.result as c_int);
    format!("{} {}", name(result_slot(step)), place.describe())
}

/// A message, and all that it points to.
struct Message {
    parts: Vector,
    place: Place,
    control: Buffer,
    header: Buffer,
}

impl Message {
    fn new(parts: Vector, place: Place, control: Buffer) -> Self {
        // SAFETY: all-zero is a message of nothing.
        let mut header: msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = parts.parts.pointer();
        header.msg_iovlen = parts.buffers.len();
        header.msg_control = control.pointer();
        header.msg_controllen = control.len();
        header.msg_flags = 0x5555;
        if place.is_wanted {
            (header.msg_name, header.msg_namelen) =
                (place.bytes.pointer(), place.bytes.len() as u32);
        }
        Message { parts, place, control, header: Buffer::of(header) }
    }

    fn to_receive(length: i64, shape: i64, address: i64, control: i64) -> Self {
        let parts = Vector::new(length, shape, |length, _| Buffer::empty(length));
        Self::new(parts, Place::new(address), Buffer::empty(control))
    }

    fn to_send(step: usize, length: i64, shape: i64, rights: i64, along: i64) -> Self {
        let parts = Vector::new(length, shape, |length, at| Buffer::filled(length, step + at));
        // SAFETY: arithmetic.
        let (space, length) = unsafe { (libc::CMSG_SPACE(4), libc::CMSG_LEN(4)) };
        let control = Buffer::empty(if rights == 0 { 0 } else { space.into() });
        if rights != 0 {
            let head = libc::cmsghdr {
                cmsg_len: if rights == 3 { 3 } else { length as usize },
                cmsg_level: libc::SOL_SOCKET,
                cmsg_type: libc::SCM_RIGHTS,
            };
            let along = if rights == 2 { -1 } else { fd(along) };
            // SAFETY: room for one message with a number.
            unsafe {
                control.pointer::<libc::cmsghdr>().write_unaligned(head);
                control.pointer::<libc::cmsghdr>().add(1).cast::<c_int>().write_unaligned(along);
            }
        }
        Self::new(parts, Place::new(-1), control)
    }

    /// What was written to it. Descriptors that came along are closed.
    fn describe(&self) -> String {
        let header: msghdr = self.header.get();
        let mut along = String::new();
        // SAFETY: a message as the kernel has left it.
        let mut next = unsafe { libc::CMSG_FIRSTHDR(&header) };
        while header.msg_flags != 0x5555 && !next.is_null() {
            // SAFETY: within the control buffer.
            let message = unsafe { next.read_unaligned() };
            let (level, kind, length) = (message.cmsg_level, message.cmsg_type, message.cmsg_len);
            along += &format!(" {level}:{kind}:{length}");
            if (level, kind) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
                // SAFETY: descriptors of nobody else; within the message.
                unsafe {
                    let data = libc::CMSG_DATA(next).cast::<c_int>();
                    for at in 0..(length - libc::CMSG_LEN(0) as usize) / 4 {
                        let along_fd = data.add(at).read_unaligned();
                        along += &format!("/{}", libc::fcntl(along_fd, libc::F_GETFD));
                        libc::close(along_fd);
                    }
                }
            }
            // SAFETY: as for the first.
            next = unsafe { libc::CMSG_NXTHDR(&header, next) };
        }
        let place = self.place.describe_as(header.msg_namelen);
        let (flags, control) = (header.msg_flags, header.msg_controllen);
        let is_intact = self.control.describe().contains("WRITTEN");
        let intact = if is_intact { " WRITTEN BEFORE ITS CONTROL" } else { "" };
        format!("{} {place} {flags:#x} {control}{along}{intact}", self.parts.describe())
    }
}
