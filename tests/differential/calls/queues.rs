//! Queues of messages, and terminals.

use super::Call;
use crate::fixtures::{OTHER, QUEUE};
use crate::memory::Buffer;
use crate::params::Param::{Fd, One};
use crate::params::{LIMITS, Param, int, values};
use crate::world::{fd, outcome};

/// A queue takes messages of 8 bytes.
const SIZE: Param = One(&[("bytes8", 8), ("bytes8", 8), ("bytes3", 3), ("bytes9", 9)]);

pub(super) const CALLS: &[Call] = &[
    Call::new("mq_send", 8, QUEUE, &[Fd, SIZE], |step, a| {
        let buffer = Buffer::filled(a[1], step);
        // SAFETY: as many bytes as is said.
        outcome(unsafe { libc::mq_send(fd(a[0]), buffer.pointer(), a[1] as usize, 1) }).text()
    }),
    Call::new("mq_timedsend", 6, QUEUE, &[Fd, SIZE, LIMITS], |step, a| {
        let (buffer, time) = (Buffer::filled(a[1], step), super::threads::until(0, a[2]));
        // SAFETY: as many bytes as is said, and a time.
        outcome(unsafe { libc::mq_timedsend(fd(a[0]), buffer.pointer(), a[1] as usize, 1, &time) })
            .text()
    }),
    Call::new("mq_receive", 8, QUEUE, &[Fd, SIZE], |_, a| {
        let (buffer, mut priority) = (Buffer::empty(a[1]), 77);
        // SAFETY: room for as many bytes as is said, and for a number.
        let got = outcome(unsafe {
            libc::mq_receive(fd(a[0]), buffer.pointer(), a[1] as usize, &mut priority)
        });
        got.with(&format!("{} {priority}", buffer.describe()))
    }),
    Call::new("mq_timedreceive", 6, QUEUE, &[Fd, SIZE, LIMITS], |_, a| {
        let (buffer, time) = (Buffer::empty(a[1]), super::threads::until(0, a[2]));
        // SAFETY: room for as many bytes as is said, and a time.
        let got = outcome(unsafe {
            let (place, length) = (buffer.pointer(), a[1] as usize);
            libc::mq_timedreceive(fd(a[0]), place, length, std::ptr::null_mut(), &time)
        });
        got.with(&buffer.describe())
    }),
    Call::new("mq_close", 1, QUEUE, &[Param::Victim], |_, a| {
        // SAFETY: nothing else uses it.
        outcome(unsafe { libc::mq_close(super::settings::gone(a[0])) }).text()
    }),
    Call::new("tcdrain", 2, OTHER, &[Fd], |_, a| {
        // SAFETY: no memory is involved.
        outcome(unsafe { libc::tcdrain(fd(a[0])) }).text()
    }),
    Call::new("tcsendbreak", 2, OTHER, &[Fd], |_, a| {
        // SAFETY: no memory is involved.
        outcome(unsafe { libc::tcsendbreak(fd(a[0]), 0) }).text()
    }),
    Call::new("tcsetattr", 2, OTHER, &[Fd, One(values![TCSANOW, TCSADRAIN, TCSAFLUSH])], |_, a| {
        // SAFETY: an answer of the kernel's, given back.
        outcome(unsafe {
            let mut settings: libc::termios = std::mem::zeroed();
            match libc::tcgetattr(fd(a[0]), &mut settings) {
                0 => libc::tcsetattr(fd(a[0]), int(a[1]), &settings),
                error => error,
            }
        })
        .text()
    }),
];
