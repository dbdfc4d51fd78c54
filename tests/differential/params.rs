//! What calls take: how an argument is chosen, written and read.

use crate::random::Random;
use libc::c_int;

/// The argument of a call.
pub(crate) enum Param {
    /// A descriptor.
    Fd,
    /// A descriptor that is closed or replaced: no call under way uses it.
    Victim,
    /// A number of bytes.
    Length,
    /// Any of these together.
    Flags(&'static [Value]),
    /// One of these.
    One(&'static [Value]),
}

pub(crate) type Value = (&'static str, i64);

/// Lists constants of libc whose names begin with a prefix, as values named without it.
macro_rules! values {
    ($($name:ident),* $(,)?) => {
        &[$((stringify!($name), libc::$name as i64)),*]
    };
}
pub(crate) use values;

const LENGTHS: &[i64] = &[0, 1, 1, 3, 3, 8, 8, 10, 10, 100, 100, 4096, 4097, 65536, 300_000];

/// Milliseconds after which a call gives up before the script goes on.
pub(crate) const SHORT: i64 = 20;
/// Milliseconds after which no script goes on.
const LONG: i64 = 60_000;

/// How long a call may wait, in milliseconds.
pub(crate) const LIMITS: Param =
    Param::One(&[("forever", -1), ("forever", -1), ("0ms", 0), ("short", SHORT), ("long", LONG)]);

/// As a time of C.
pub(crate) fn timespec(millis: i64) -> libc::timespec {
    libc::timespec { tv_sec: millis / 1000, tv_nsec: millis % 1000 * 1_000_000 }
}

pub(crate) fn timeval(millis: i64) -> libc::timeval {
    libc::timeval { tv_sec: millis / 1000, tv_usec: millis % 1000 * 1000 }
}

/// Bytes of control messages that there is room for.
pub(crate) const CONTROL: Param =
    Param::One(&[("room0", 0), ("room0", 0), ("room8", 8), ("room24", 24), ("room128", 128)]);

/// Bytes of an address that there is room for; no address is asked for if it is -1.
pub(crate) const ADDRESS: Param =
    Param::One(&[("noaddress", -1), ("address0", 0), ("address4", 4), ("address128", 128)]);

pub(crate) const SHAPE: Param = Param::One(&[("parts0", 0), ("parts1", 1), ("parts3", 3)]);

pub(crate) const RECEIVE: Param = Param::Flags(values![
    MSG_PEEK,
    MSG_WAITALL,
    MSG_TRUNC,
    MSG_OOB,
    MSG_DONTWAIT,
    MSG_ERRQUEUE,
    MSG_CMSG_CLOEXEC,
    MSG_NOSIGNAL,
    MSG_CTRUNC,
]);

pub(crate) const TRANSMIT: Param = Param::Flags(values![
    MSG_OOB,
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    MSG_MORE,
    MSG_EOR,
    MSG_CONFIRM,
    MSG_DONTROUTE,
    MSG_FASTOPEN,
]);

pub(crate) const READ_FLAGS: Param =
    Param::Flags(&[("RWF_HIPRI", 1), ("RWF_NOWAIT", 8), ("RWF_DONTCACHE", 0x80)]);
pub(crate) const WRITE_FLAGS: Param = Param::Flags(&[
    ("RWF_HIPRI", 1),
    ("RWF_DSYNC", 2),
    ("RWF_SYNC", 4),
    ("RWF_NOWAIT", 8),
    ("RWF_APPEND", 0x10),
    ("RWF_NOAPPEND", 0x20),
    ("RWF_ATOMIC", 0x40),
    ("RWF_DONTCACHE", 0x80),
]);

pub(crate) const SPLICE_FLAGS: Param =
    Param::Flags(values![SPLICE_F_MOVE, SPLICE_F_NONBLOCK, SPLICE_F_MORE, SPLICE_F_GIFT]);

/// Where a file is read or written.
pub(crate) const OFFSET: Param =
    Param::One(&[("at-1", -1), ("at0", 0), ("at5", 5), ("at990", 990)]);

/// As an argument of C.
pub(crate) fn int(value: i64) -> c_int {
    value as c_int
}

impl Param {
    /// Chooses a value. `slots` are the descriptors there are.
    pub(crate) fn choose(&self, random: &mut Random, slots: &[i64]) -> i64 {
        match self {
            Param::Fd | Param::Victim if slots.is_empty() || random.one_in(40) => -1,
            Param::Fd | Param::Victim => *random.pick(slots),
            Param::Length => *random.pick(LENGTHS),
            Param::Flags(flags) => {
                let count = *random.pick(&[0, 0, 0, 0, 1, 1, 1, 2, 2, 3]);
                (0..count).fold(0, |all, _| all | random.pick(flags).1)
            }
            Param::One(values) => random.pick(values).1,
        }
    }

    pub(crate) fn write(&self, value: i64) -> String {
        match self {
            Param::Fd | Param::Victim if value >= RESULTS => format!("r{}", value - RESULTS),
            Param::Fd | Param::Victim => format!("s{value}"),
            Param::Length => value.to_string(),
            Param::Flags(flags) => {
                let set = flags.iter().filter(|(_, flag)| value & flag != 0);
                let names: Vec<_> = set.map(|(name, _)| *name).collect();
                if names.is_empty() { "0".into() } else { names.join("|") }
            }
            Param::One(values) => {
                let named = values.iter().find(|(_, this)| *this == value);
                named.map_or("?", |(name, _)| name).into()
            }
        }
    }

    /// What [`Param::write`] has written.
    pub(crate) fn read(&self, text: &str) -> Option<i64> {
        let of = |values: &[Value], text| {
            values.iter().find(|(name, _)| *name == text).map(|(_, value)| *value)
        };
        match self {
            Param::Fd | Param::Victim => match text.strip_prefix('r') {
                Some(step) => step.parse::<i64>().ok().map(|step| RESULTS + step),
                None => text.strip_prefix('s')?.parse().ok(),
            },
            Param::Length => text.parse().ok(),
            Param::Flags(_) if text == "0" => Some(0),
            Param::Flags(flags) => {
                text.split('|').try_fold(0, |all, name| Some(all | of(flags, name)?))
            }
            Param::One(values) => of(values, text),
        }
    }
}

/// The slot of the descriptor that a step makes is this and the number of the step.
pub(crate) const RESULTS: i64 = 64;
