//! Calls that move bytes, take connections, or wait for children and locks: restarted after a handler with
//! `SA_RESTART`, unless the socket has a time limit.

use crate::Case;
use crate::support::interrupted;
use libc::{SA_RESTART, c_int, c_void};
use std::ffi::CString;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::Command;
use std::time::Duration;
use std::{env, fs, process, ptr};

macro_rules! both {
    ($($name:literal => $case:expr;)*) => {
        &[$(
            (concat!($name, " cut"), || $case(0)),
            (concat!($name, " restarted"), || $case(SA_RESTART)),
        )*]
    };
}

pub(crate) const CASES: &[Case] = both! {
    "read of a pipe" => |flags| with_pipe(flags, |fd, buffer| unsafe { libc::read(fd, buffer, 8) });
    "readv of a pipe" => |flags| with_pipe(flags, |fd, buffer| {
        let part = libc::iovec { iov_base: buffer, iov_len: 8 };
        unsafe { libc::readv(fd, &part, 1) }
    });
    "read of a socket" => |flags| with_stream(flags, 0, |fd, buffer| unsafe { libc::read(fd, buffer, 8) });
    "recv" => |flags| with_stream(flags, 0, |fd, buffer| unsafe { libc::recv(fd, buffer, 8, 0) });
    "recv with a limit" => |flags| with_stream(flags, libc::SO_RCVTIMEO, |fd, buffer| {
        unsafe { libc::recv(fd, buffer, 8, 0) }
    });
    "recv of all" => |flags| with_stream(flags, 0, |fd, buffer| unsafe {
        libc::recv(fd, buffer, 8, libc::MSG_WAITALL)
    });
    "recvfrom" => |flags| with_datagrams(flags, |fd, buffer| unsafe {
        libc::recvfrom(fd, buffer, 8, 0, ptr::null_mut(), ptr::null_mut())
    });
    "recvmsg" => |flags| with_datagrams(flags, |fd, buffer| {
        let mut part = libc::iovec { iov_base: buffer, iov_len: 8 };
        let mut message: libc::msghdr = unsafe { zeroed() };
        (message.msg_iov, message.msg_iovlen) = (&mut part, 1);
        unsafe { libc::recvmsg(fd, &mut message, 0) }
    });
    "accept" => |flags| with_listener(flags, 0, |fd| unsafe {
        libc::accept(fd, ptr::null_mut(), ptr::null_mut())
    });
    "accept4 with a limit" => |flags| with_listener(flags, libc::SO_RCVTIMEO, |fd| unsafe {
        libc::accept4(fd, ptr::null_mut(), ptr::null_mut(), 0)
    });
    "write to a full pipe" => write_to_full_pipe;
    "write to a pipe that takes some" => write_some;
    "send to a full socket" => |flags| send_to_full(flags, 0);
    "send to a full socket with a limit" => |flags| send_to_full(flags, libc::SO_SNDTIMEO);
    "connect to a full listener" => connect_to_full;
    "waitpid of a child" => |flags| with_child(flags, |pid| unsafe {
        libc::waitpid(pid, ptr::null_mut(), 0)
    });
    "waitpid of any child" => |flags| with_child(flags, |_| unsafe { libc::waitpid(-1, ptr::null_mut(), 0) });
    "waitid" => |flags| with_child(flags, |pid| unsafe {
        libc::waitid(libc::P_PID, pid as u32, &mut zeroed(), libc::WEXITED)
    });
    "open of a FIFO" => open_fifo;
    "flock" => |flags| with_lock(flags, |fd| unsafe { libc::flock(fd, libc::LOCK_EX) }, true);
    "fcntl" => |flags| with_lock(flags, |fd| {
        let mut lock: libc::flock = unsafe { zeroed() };
        lock.l_type = libc::F_WRLCK as _;
        unsafe { libc::fcntl(fd, libc::F_OFD_SETLKW, &lock) }
    }, false);
    "sem_wait" => sem_wait;
};

fn put(fd: c_int) {
    unsafe { libc::write(fd, c"1234567890".as_ptr().cast(), 8) };
}

fn with_pipe(flags: c_int, call: fn(c_int, *mut c_void) -> isize) -> String {
    let mut ends = [0; 2];
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
    let mut buffer = [0_u8; 8];
    let place = buffer.as_mut_ptr().cast();
    interrupted(flags, || call(ends[0], place) as i64, move || put(ends[1]))
}

fn limit(fd: c_int, option: c_int) {
    if option != 0 {
        let limit = libc::timeval { tv_sec: 30, tv_usec: 0 };
        let (place, length) = ((&raw const limit).cast(), size_of_val(&limit) as _);
        let done = unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, option, place, length) };
        assert_eq!(done, 0);
    }
}

fn with_stream(flags: c_int, option: c_int, call: fn(c_int, *mut c_void) -> isize) -> String {
    let (reader, writer) = UnixStream::pair().unwrap();
    limit(reader.as_raw_fd(), option);
    let mut buffer = [0_u8; 8];
    let place = buffer.as_mut_ptr().cast();
    let release = move || put(writer.into_raw_fd());
    interrupted(flags, || call(reader.as_raw_fd(), place) as i64, release)
}

fn with_datagrams(flags: c_int, call: fn(c_int, *mut c_void) -> isize) -> String {
    let (reader, writer) = UnixDatagram::pair().unwrap();
    let mut buffer = [0_u8; 8];
    let place = buffer.as_mut_ptr().cast();
    interrupted(
        flags,
        || call(reader.as_raw_fd(), place) as i64,
        move || {
            writer.send(b"12345678").unwrap();
        },
    )
}

fn path(what: &str) -> std::path::PathBuf {
    let path = env::temp_dir().join(format!("switchgrass-interrupted-{}-{what}", process::id()));
    let _ = fs::remove_file(&path);
    path
}

fn with_listener(flags: c_int, option: c_int, call: fn(c_int) -> c_int) -> String {
    let path = path("listener");
    let listener = UnixListener::bind(&path).unwrap();
    limit(listener.as_raw_fd(), option);
    let to = path.clone();
    let call = || i64::from(call(listener.as_raw_fd()).min(0));
    let said = interrupted(flags, call, move || drop(UnixStream::connect(to)));
    fs::remove_file(path).unwrap();
    said
}

fn write_to_full_pipe(flags: c_int) -> String {
    const MANY: usize = 1 << 16;
    let mut ends = [0; 2];
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
    let bytes = vec![0_u8; MANY];
    let full = unsafe { libc::write(ends[1], bytes.as_ptr().cast(), MANY) };
    assert_eq!(full, MANY as isize);
    let call = || unsafe { libc::write(ends[1], bytes.as_ptr().cast(), 8) as i64 };
    interrupted(flags, call, move || {
        let mut place = vec![0_u8; MANY];
        unsafe { libc::read(ends[0], place.as_mut_ptr().cast(), MANY) };
    })
}

/// What was written by then counts.
fn write_some(flags: c_int) -> String {
    const MANY: usize = 1 << 18;
    let mut ends = [0; 2];
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
    let bytes = vec![0_u8; MANY];
    let call = || unsafe { libc::write(ends[1], bytes.as_ptr().cast(), MANY) as i64 };
    interrupted(flags, call, move || {
        let mut place = vec![0_u8; MANY];
        while unsafe { libc::read(ends[0], place.as_mut_ptr().cast(), MANY) } > 0 {}
    })
}

fn send_to_full(flags: c_int, option: c_int) -> String {
    let (mut reader, writer) = UnixStream::pair().unwrap();
    let bytes = [0_u8; 1 << 16];
    let send = |flags| unsafe {
        libc::send(writer.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags)
    };
    while send(libc::MSG_DONTWAIT) > 0 {}
    limit(writer.as_raw_fd(), option);
    interrupted(
        flags,
        || send(0) as i64,
        move || {
            let mut place = vec![0_u8; 1 << 16];
            while std::io::Read::read(&mut reader, &mut place).is_ok_and(|count| count > 0) {}
        },
    )
}

fn connect_to_full(flags: c_int) -> String {
    let path = path("full");
    let listener = UnixListener::bind(&path).unwrap();
    assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
    let _first = UnixStream::connect(&path).unwrap();
    let to = path.clone();
    let said = interrupted(
        flags,
        || match UnixStreamRaw::connect(&to) {
            0 => 0,
            failed => failed.into(),
        },
        move || {
            let _ = listener.accept();
            std::thread::sleep(Duration::from_secs(5));
        },
    );
    fs::remove_file(path).unwrap();
    said
}

/// `connect` without `std`, which tries again.
struct UnixStreamRaw;

impl UnixStreamRaw {
    fn connect(path: &std::path::Path) -> c_int {
        let path = CString::new(path.to_str().unwrap()).unwrap();
        unsafe {
            let fd = libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0);
            let mut address: libc::sockaddr_un = zeroed();
            address.sun_family = libc::AF_UNIX as _;
            for (to, from) in address.sun_path.iter_mut().zip(path.as_bytes_with_nul()) {
                *to = *from as _;
            }
            libc::connect(fd, (&raw const address).cast(), size_of_val(&address) as _)
        }
    }
}

fn with_child(flags: c_int, call: fn(c_int) -> c_int) -> String {
    let mut child = Command::new("sleep").arg("30").spawn().unwrap();
    let pid = child.id() as c_int;
    let said = interrupted(
        flags,
        || i64::from(call(pid).min(0)),
        move || {
            unsafe { libc::kill(pid, libc::SIGKILL) };
        },
    );
    // Unless the call has done so.
    let _ = child.kill().and_then(|()| child.wait());
    said
}

fn open_fifo(flags: c_int) -> String {
    let path = path("fifo");
    let name = CString::new(path.to_str().unwrap()).unwrap();
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let other = name.clone();
    let call = || unsafe { libc::open(name.as_ptr(), libc::O_RDONLY).min(0).into() };
    let said = interrupted(flags, call, move || unsafe {
        libc::open(other.as_ptr(), libc::O_WRONLY | libc::O_NONBLOCK);
    });
    fs::remove_file(path).unwrap();
    said
}

/// A lock that another description has: of `flock`, or of `fcntl`. It is let go of when that one is closed.
fn with_lock(flags: c_int, call: fn(c_int) -> c_int, is_flock: bool) -> String {
    let path = path("lock");
    let first = fs::File::create(&path).unwrap();
    let second = fs::OpenOptions::new().write(true).open(&path).unwrap();
    if is_flock {
        assert_eq!(unsafe { libc::flock(first.as_raw_fd(), libc::LOCK_EX) }, 0);
    } else {
        let mut lock: libc::flock = unsafe { zeroed() };
        lock.l_type = libc::F_WRLCK as _;
        let done = unsafe { libc::fcntl(first.as_raw_fd(), libc::F_OFD_SETLKW, &lock) };
        assert_eq!(done, 0);
    }
    let said = interrupted(flags, || call(second.as_raw_fd()).into(), move || drop(first));
    fs::remove_file(path).unwrap();
    said
}

fn sem_wait(flags: c_int) -> String {
    let semaphore = Box::leak(Box::new(unsafe { zeroed::<libc::sem_t>() }));
    let address = &raw mut *semaphore as usize;
    assert_eq!(unsafe { libc::sem_init(semaphore, 0, 0) }, 0);
    let call = || unsafe { libc::sem_wait(address as *mut _).into() };
    interrupted(flags, call, move || unsafe {
        libc::sem_post(address as *mut _);
    })
}
