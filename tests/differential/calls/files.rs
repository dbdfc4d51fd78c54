//! Files, and what has a path.

use super::Call;
use super::settings::made;
use crate::fixtures::{FILE, INOTIFY, OTHER, PATH, SIGNAL, TIMER};
use crate::params::Param::{Fd, Flags, One};
use crate::params::{Param, SHORT, int, values};
use crate::world::{fd, outcome};
use libc::c_int;
use std::ffi::CStr;
use std::ptr;

const PATHS: Param = One(&[("fifo", 0), ("fifo", 0), ("missing", 1), ("folder", 2)]);
const ACCESS: Param = One(values![O_RDONLY, O_WRONLY, O_RDWR]);
const OPEN: Param = Flags(values![O_NONBLOCK, O_CLOEXEC, O_PATH, O_DIRECTORY, O_NOFOLLOW]);
const LOCKF: Param = One(values![F_LOCK, F_TLOCK, F_TEST, F_ULOCK]);
const LOCK: Param = One(values![F_RDLCK, F_WRLCK, F_UNLCK]);

unsafe extern "C" {
    fn __open_2(path: *const libc::c_char, flags: c_int) -> c_int;
    fn __open64_2(path: *const libc::c_char, flags: c_int) -> c_int;
    fn __openat_2(folder: c_int, path: *const libc::c_char, flags: c_int) -> c_int;
    fn __openat64_2(folder: c_int, path: *const libc::c_char, flags: c_int) -> c_int;
    fn lockf64(fd: c_int, command: c_int, length: i64) -> c_int;
    fn openat64(folder: c_int, path: *const libc::c_char, flags: c_int, ...) -> c_int;
}

fn path(which: i64) -> &'static CStr {
    [c"fifo", c"missing", c"."][which as usize]
}

/// Whether a descriptor is of a file that no other script has: what others have may be locked by them.
fn is_own(fd: c_int) -> bool {
    let device = |call: &dyn Fn(*mut libc::stat) -> c_int| {
        let mut status = std::mem::MaybeUninit::zeroed();
        // SAFETY: all-zero is an answer, too.
        (call(status.as_mut_ptr()) == 0).then(|| unsafe { status.assume_init() }.st_dev)
    };
    // SAFETY: room for the answer.
    let this = device(&|place| unsafe { libc::fstat(fd, place) });
    // SAFETY: a path, and room for the answer.
    this.is_none() || this == device(&|place| unsafe { libc::stat(c".".as_ptr(), place) })
}

pub(super) const CALLS: &[Call] = &[
    Call::new("open", 6, PATH, &[PATHS, ACCESS, OPEN], |step, a| {
        // SAFETY: a path.
        made(step, unsafe { libc::open(path(a[0]).as_ptr(), int(a[1] | a[2])) })
    })
    .making_a_slot(),
    Call::new("open64", 4, PATH, &[PATHS, ACCESS, OPEN], |step, a| {
        // SAFETY: a path.
        made(step, unsafe { libc::open64(path(a[0]).as_ptr(), int(a[1] | a[2])) })
    })
    .making_a_slot(),
    Call::new("openat", 4, PATH, &[PATHS, ACCESS, OPEN], |step, a| {
        let flags = int(a[1] | a[2]);
        // SAFETY: a path.
        made(step, unsafe { libc::openat(libc::AT_FDCWD, path(a[0]).as_ptr(), flags) })
    })
    .making_a_slot(),
    Call::new("openat64", 3, PATH, &[PATHS, ACCESS, OPEN], |step, a| {
        let flags = int(a[1] | a[2]);
        // SAFETY: a path.
        made(step, unsafe { openat64(libc::AT_FDCWD, path(a[0]).as_ptr(), flags) })
    })
    .making_a_slot(),
    Call::new("__open_2", 2, PATH, &[PATHS, ACCESS, OPEN], |step, a| {
        // SAFETY: a path.
        made(step, unsafe { __open_2(path(a[0]).as_ptr(), int(a[1] | a[2])) })
    })
    .making_a_slot(),
    Call::new("__open64_2", 1, PATH, &[PATHS, ACCESS, OPEN], |step, a| {
        // SAFETY: a path.
        made(step, unsafe { __open64_2(path(a[0]).as_ptr(), int(a[1] | a[2])) })
    })
    .making_a_slot(),
    Call::new("__openat_2", 1, PATH, &[PATHS, ACCESS, OPEN], |step, a| {
        let flags = int(a[1] | a[2]);
        // SAFETY: a path.
        made(step, unsafe { __openat_2(libc::AT_FDCWD, path(a[0]).as_ptr(), flags) })
    })
    .making_a_slot(),
    Call::new("__openat64_2", 1, PATH, &[PATHS, ACCESS, OPEN], |step, a| {
        let flags = int(a[1] | a[2]);
        // SAFETY: a path.
        made(step, unsafe { __openat64_2(libc::AT_FDCWD, path(a[0]).as_ptr(), flags) })
    })
    .making_a_slot(),
    Call::new("lockf", 3, FILE, &[Fd, LOCKF], |_, a| {
        if !is_own(fd(a[0])) {
            return "another's".into();
        }
        // SAFETY: no memory is involved.
        outcome(unsafe { libc::lockf(fd(a[0]), int(a[1]), 0) }).text()
    }),
    Call::new("lockf64", 2, FILE, &[Fd, LOCKF], |_, a| {
        if !is_own(fd(a[0])) {
            return "another's".into();
        }
        // SAFETY: no memory is involved.
        outcome(unsafe { lockf64(fd(a[0]), int(a[1]), 0) }).text()
    }),
    Call::new("creat", 3, PATH, &[PATHS], |step, a| {
        // SAFETY: a path.
        made(step, unsafe { libc::creat(path(a[0]).as_ptr(), 0o600) })
    })
    .making_a_slot(),
    Call::new("creat64", 2, PATH, &[PATHS], |step, a| {
        // SAFETY: a path.
        made(step, unsafe { libc::creat64(path(a[0]).as_ptr(), 0o600) })
    })
    .making_a_slot(),
    Call::new("fsync", 2, FILE, &[Fd], |_, a| {
        // SAFETY: no memory is involved.
        outcome(unsafe { libc::fsync(fd(a[0])) }).text()
    }),
    Call::new("syncfs", 1, FILE, &[Fd], |_, a| {
        // SAFETY: no memory is involved.
        outcome(unsafe { libc::syncfs(fd(a[0])) }).text()
    }),
    Call::new("sync_file_range", 1, FILE, &[Fd], |_, a| {
        // SAFETY: no memory is involved.
        outcome(unsafe { libc::sync_file_range(fd(a[0]), 0, 0, libc::SYNC_FILE_RANGE_WRITE) })
            .text()
    }),
    Call::new("msync", 1, FILE, &[], |_, _| {
        // SAFETY: nothing is mapped there.
        outcome(unsafe { libc::msync(std::ptr::null_mut(), 1, libc::MS_SYNC) }).text()
    }),
    Call::new("fdatasync", 2, FILE, &[Fd], |_, a| {
        // SAFETY: no memory is involved.
        outcome(unsafe { libc::fdatasync(fd(a[0])) }).text()
    }),
    Call::new(
        "flock",
        5,
        FILE,
        &[Fd, One(values![LOCK_SH, LOCK_EX, LOCK_UN]), Flags(values![LOCK_NB])],
        |_, a| {
            if !is_own(fd(a[0])) {
                return "another's".into();
            }
            // SAFETY: no memory is involved.
            outcome(unsafe { libc::flock(fd(a[0]), int(a[1] | a[2])) }).text()
        },
    ),
    Call::new("reopen", 3, FILE, &[], |step, _| {
        // SAFETY: a path.
        made(step, unsafe { libc::open(c"text".as_ptr(), libc::O_RDWR) })
    })
    .making_a_slot(),
    Call::new(
        "lock",
        5,
        FILE,
        &[Fd, One(values![F_OFD_SETLK, F_OFD_SETLKW, F_SETLK, F_SETLKW]), LOCK],
        |_, a| {
            if !is_own(fd(a[0])) {
                return "another's".into();
            }
            // SAFETY: all-zero is a lock of the whole file.
            let mut lock: libc::flock = unsafe { std::mem::zeroed() };
            lock.l_type = a[2] as i16;
            // SAFETY: a lock.
            outcome(unsafe { libc::fcntl(fd(a[0]), int(a[1]), &raw mut lock) }).text()
        },
    ),
    Call::new("seek", 3, FILE, &[Fd], |_, a| {
        // SAFETY: no memory is involved.
        outcome(unsafe { libc::lseek(fd(a[0]), 990, libc::SEEK_SET) }).text()
    }),
    Call::new(
        "set_timer",
        8,
        TIMER,
        &[Fd, One(&[("off", 0), ("short", SHORT), ("long", 60_000)])],
        |_, a| {
            let time = crate::params::timespec(a[1]);
            let none = crate::params::timespec(0);
            let setting = libc::itimerspec { it_interval: none, it_value: time };
            // SAFETY: a setting.
            outcome(unsafe { libc::timerfd_settime(fd(a[0]), 0, &setting, ptr::null_mut()) }).text()
        },
    )
    .timed(),
    Call::new(
        "add",
        6,
        OTHER,
        &[Fd, One(&[("one", 1), ("two", 2), ("most", -3), ("too_many", -1)])],
        |_, a| {
            // SAFETY: a number of eight bytes.
            outcome(unsafe { libc::write(fd(a[0]), (&raw const a[1]).cast(), 8) }).text()
        },
    ),
    Call::new("touch", 8, INOTIFY, &[], |_, _| {
        std::fs::write("touched", b"").map_or("failed".into(), |()| "ok".into())
    }),
    Call::new("raise", 8, SIGNAL, &[], |_, _| {
        // SAFETY: a signal that all threads have blocked.
        outcome(unsafe { libc::kill(libc::getpid(), libc::SIGRTMIN()) }).text()
    }),
];
