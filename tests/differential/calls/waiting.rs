//! Children, and names.

use super::Call;
use crate::fixtures::{CHILD, MEMORY};
use crate::memory::Buffer;
use crate::params::Param::{Flags, One};
use crate::params::{Param, int, values};
use crate::world::{Outcome, error_name, outcome};
use libc::{c_int, c_void, pid_t, rusage, siginfo_t};
use std::ffi::CStr;
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

static CHILDREN: Mutex<Vec<pid_t>> = Mutex::new(Vec::new());

const CHILD_OF: Param = One(&[("any", 0), ("first", 1), ("second", 2), ("group", 3), ("none", 4)]);
const OPTIONS: Param = Flags(values![WNOHANG, WUNTRACED, WCONTINUED]);
const STATES: Param = Flags(values![WEXITED, WSTOPPED, WCONTINUED, WNOWAIT, WNOHANG]);
const HOST: Param = One(&[("number", 0), ("localhost", 1)]);

unsafe extern "C" {
    fn wait3(status: *mut c_int, options: c_int, usage: *mut rusage) -> pid_t;
    fn wait4(pid: pid_t, status: *mut c_int, options: c_int, usage: *mut rusage) -> pid_t;
    fn popen(command: *const libc::c_char, kind: *const libc::c_char) -> *mut libc::FILE;
    fn pclose(file: *mut libc::FILE) -> c_int;
    fn gethostbyname(name: *const libc::c_char) -> *mut libc::hostent;
    fn gethostbyname2(name: *const libc::c_char, family: c_int) -> *mut libc::hostent;
    fn gethostbyaddr(address: *const c_void, length: u32, family: c_int) -> *mut libc::hostent;
    fn gethostbyname_r(
        name: *const libc::c_char,
        place: *mut libc::hostent,
        buffer: *mut libc::c_char,
        room: usize,
        result: *mut *mut libc::hostent,
        error: *mut c_int,
    ) -> c_int;
    fn gethostbyname2_r(
        name: *const libc::c_char,
        family: c_int,
        place: *mut libc::hostent,
        buffer: *mut libc::c_char,
        room: usize,
        result: *mut *mut libc::hostent,
        error: *mut c_int,
    ) -> c_int;
    fn gethostbyaddr_r(
        address: *const c_void,
        length: u32,
        family: c_int,
        place: *mut libc::hostent,
        buffer: *mut libc::c_char,
        room: usize,
        result: *mut *mut libc::hostent,
        error: *mut c_int,
    ) -> c_int;
}

pub(super) const CALLS: &[Call] = &[
    Call::new("child", 8, CHILD, &[One(&[("ends", 0), ("waits", 1)])], |_, a| {
        let is_waiting = AtomicBool::new(a[0] == 1);
        // SIGCHLD comes to the thread that has made the child, if it can: no actor's, since several may share
        // one.
        let (sender, made) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            // SAFETY: the child calls nothing but what may be called there.
            let child = unsafe { libc::fork() };
            if child == 0 {
                // SAFETY: no preconditions.
                unsafe {
                    libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                    libc::alarm(60);
                    while is_waiting.load(SeqCst) {
                        libc::syscall(libc::SYS_pause);
                    }
                    libc::_exit(7);
                }
            }
            let _ = sender.send(child);
            loop {
                // SAFETY: no preconditions.
                unsafe { libc::syscall(libc::SYS_pause) };
            }
        });
        CHILDREN.lock().expect("no panics").push(made.recv().expect("it was sent"));
        // Ended, or about to wait.
        std::thread::sleep(std::time::Duration::from_millis(10));
        "made".into()
    }),
    Call::new(
        "kill",
        8,
        CHILD,
        &[CHILD_OF, One(values![SIGKILL, SIGTERM, SIGSTOP, SIGCONT])],
        |_, a| {
            let child = pid(a[0]);
            if child <= 0 || a[0] == 4 {
                return "nobody".into();
            }
            // SAFETY: a child of this process.
            outcome(unsafe { libc::kill(child, int(a[1])) }).text()
        },
    ),
    Call::new("wait", 5, CHILD, &[], |_, _| {
        // SAFETY: room for the answer.
        waited(|status| outcome(unsafe { libc::wait(status) }))
    }),
    Call::new("waitpid", 8, CHILD, &[CHILD_OF, OPTIONS], |_, a| {
        // SAFETY: room for the answer.
        waited(|status| outcome(unsafe { libc::waitpid(pid(a[0]), status, int(a[1])) }))
    }),
    Call::new("wait3", 4, CHILD, &[OPTIONS], |_, a| {
        // SAFETY: room for the answer.
        waited(|status| outcome(unsafe { wait3(status, int(a[0]), ptr::null_mut()) }))
    }),
    Call::new("wait4", 4, CHILD, &[CHILD_OF, OPTIONS], |_, a| {
        // SAFETY: room for the answer.
        waited(|status| outcome(unsafe { wait4(pid(a[0]), status, int(a[1]), ptr::null_mut()) }))
    }),
    Call::new("waitid", 8, CHILD, &[CHILD_OF, STATES], |_, a| {
        let (kind, id) = match a[0] {
            0 => (libc::P_ALL, 0),
            3 => (libc::P_PGID, 0),
            _ => (libc::P_PID, pid(a[0]) as u32),
        };
        // SAFETY: all-zero is an answer that says nothing.
        let mut about: siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: room for the answer.
        let got = outcome(unsafe { libc::waitid(kind, id, &mut about, int(a[1])) });
        // SAFETY: filled with numbers, or zero.
        let (child, status) = unsafe { (about.si_pid(), about.si_status()) };
        got.with(&format!("{} {status:#x} {}", child_name(child), about.si_code))
    }),
    Call::new("popen", 3, CHILD, &[], |_, _| {
        // SAFETY: strings.
        let file = unsafe { popen(c"exit 3".as_ptr(), c"r".as_ptr()) };
        if file.is_null() {
            return outcome(-1).text();
        }
        // SAFETY: made above.
        outcome(unsafe { pclose(file) }).text()
    }),
    Call::new("system", 2, CHILD, &[], |_, _| {
        // SAFETY: a string.
        outcome(unsafe { libc::system(c"exit 3".as_ptr()) }).text()
    })
    .timed(),
    Call::new("getaddrinfo", 2, MEMORY, &[HOST], |_, a| {
        let mut found = ptr::null_mut();
        // SAFETY: strings, and room for the answer.
        let error = unsafe {
            libc::getaddrinfo(host(a[0]).as_ptr(), c"80".as_ptr(), ptr::null(), &mut found)
        };
        if !found.is_null() {
            // SAFETY: was answered above.
            unsafe { libc::freeaddrinfo(found) };
        }
        error.to_string()
    }),
    Call::new("getnameinfo", 2, MEMORY, &[Flags(values![NI_NUMERICHOST, NI_NAMEREQD])], |_, a| {
        // SAFETY: all-zero is an address of no family.
        let mut address: libc::sockaddr_in = unsafe { std::mem::zeroed() };
        address.sin_family = libc::AF_INET as u16;
        address.sin_addr.s_addr = 0x7F00_0001_u32.to_be();
        let room = Buffer::empty(100);
        let length = size_of::<libc::sockaddr_in>() as u32;
        let place = (&raw const address).cast();
        // SAFETY: an address, and room for the name.
        let error = unsafe {
            libc::getnameinfo(place, length, room.pointer(), 100, ptr::null_mut(), 0, int(a[0]))
        };
        format!("{error} {}", room.describe())
    }),
    Call::new("gethostbyname", 2, MEMORY, &[HOST], |_, a| {
        // SAFETY: a string.
        unsafe { gethostbyname(host(a[0]).as_ptr()) }.is_null().to_string()
    }),
    Call::new("gethostbyname2", 2, MEMORY, &[HOST], |_, a| {
        // SAFETY: a string.
        unsafe { gethostbyname2(host(a[0]).as_ptr(), libc::AF_INET) }.is_null().to_string()
    }),
    Call::new("gethostbyaddr", 1, MEMORY, &[], |_, _| {
        // SAFETY: an address.
        unsafe { gethostbyaddr(LOCAL.as_ptr().cast(), 4, libc::AF_INET) }.is_null().to_string()
    }),
    Call::new("gethostbyname_r", 1, MEMORY, &[HOST, ROOM], |_, a| {
        // SAFETY: a string, and room for the answer.
        found(a[1], |place, buffer, room, result, error| unsafe {
            gethostbyname_r(host(a[0]).as_ptr(), place, buffer, room, result, error)
        })
    }),
    Call::new("gethostbyname2_r", 1, MEMORY, &[HOST, ROOM], |_, a| {
        let family = libc::AF_INET;
        // SAFETY: a string, and room for the answer.
        found(a[1], |place, buffer, room, result, error| unsafe {
            gethostbyname2_r(host(a[0]).as_ptr(), family, place, buffer, room, result, error)
        })
    }),
    Call::new("gethostbyaddr_r", 1, MEMORY, &[ROOM], |_, a| {
        let (address, family) = (LOCAL.as_ptr().cast(), libc::AF_INET);
        // SAFETY: an address, and room for the answer.
        found(a[0], |place, buffer, room, result, error| unsafe {
            gethostbyaddr_r(address, 4, family, place, buffer, room, result, error)
        })
    }),
];

const LOCAL: [u8; 4] = [127, 0, 0, 1];
const ROOM: Param = One(&[("room10", 10), ("room2000", 2000)]);

/// What a look-up says that writes its answer into a buffer.
fn found(
    room: i64,
    call: impl FnOnce(
        *mut libc::hostent,
        *mut libc::c_char,
        usize,
        *mut *mut libc::hostent,
        *mut c_int,
    ) -> c_int,
) -> String {
    let (place, buffer) = (Buffer::empty(size_of::<libc::hostent>() as i64), Buffer::empty(room));
    let (mut result, mut error) = (ptr::null_mut(), 77);
    let code = call(place.pointer(), buffer.pointer(), room as usize, &mut result, &mut error);
    format!("{} {} {error}", error_name(code), result.is_null())
}

fn host(which: i64) -> &'static CStr {
    [c"127.0.0.1", c"localhost"][which as usize]
}

/// What stands for a child, in calls that take a number.
fn pid(which: i64) -> pid_t {
    let children = CHILDREN.lock().expect("no panics");
    match which {
        0 => -1,
        3 => 0,
        4 => 4_000_000,
        which => children.get(which as usize - 1).copied().unwrap_or(4_000_000),
    }
}

fn child_name(child: pid_t) -> String {
    let children = CHILDREN.lock().expect("no panics");
    let at = children.iter().position(|this| *this == child);
    at.map_or(child.to_string(), |at| format!("child{at}"))
}

fn waited(call: impl FnOnce(*mut c_int) -> Outcome) -> String {
    let mut status = 0x5555;
    let got = call(&mut status);
    match got.result {
        child @ 1.. => format!("{} {status:#x}", child_name(child as pid_t)),
        _ => got.with(&format!("{status:#x}")),
    }
}
