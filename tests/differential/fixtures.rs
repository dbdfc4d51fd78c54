//! The kinds of descriptors that scripts are about, each made anew for a script.

use libc::c_int;
use std::ffi::CStr;
use std::ptr;

/// Bits: which calls suit a kind of descriptor.
pub(crate) type Family = u32;

/// Sockets that are connected, or need not be.
pub(crate) const SOCKET: Family = 1;
/// Sockets that listen, and sockets that connect to them.
pub(crate) const LISTENER: Family = 2;
pub(crate) const PIPE: Family = 4;
pub(crate) const FILE: Family = 8;
pub(crate) const TIMER: Family = 16;
pub(crate) const SIGNAL: Family = 32;
pub(crate) const INOTIFY: Family = 64;
pub(crate) const EPOLL: Family = 128;
/// Paths of FIFOs.
pub(crate) const PATH: Family = 256;
pub(crate) const CHILD: Family = 512;
/// What is not about descriptors.
pub(crate) const MEMORY: Family = 1024;
/// Terminals and events.
pub(crate) const OTHER: Family = 2048;
pub(crate) const QUEUE: Family = 4096;
/// What is read and written.
pub(crate) const BYTES: Family = SOCKET | PIPE | FILE | TIMER | SIGNAL | INOTIFY | OTHER;
pub(crate) const ANY: Family = BYTES | LISTENER | EPOLL;

pub(crate) struct Fixture {
    pub(crate) name: &'static str,
    pub(crate) family: Family,
    pub(crate) slots: usize,
    make: fn() -> Vec<c_int>,
}

impl Fixture {
    pub(crate) fn make(&self) -> Vec<c_int> {
        let made = (self.make)();
        assert_eq!(made.len(), self.slots);
        assert!(made.iter().all(|fd| *fd >= 0), "{} cannot be made: {made:?}", self.name);
        made
    }
}

pub(crate) fn find(name: &str) -> Option<&'static Fixture> {
    FIXTURES.iter().find(|fixture| fixture.name == name)
}

macro_rules! fixtures {
    ($($name:ident: $family:expr, $slots:literal;)*) => {
        &[$(Fixture {
            name: stringify!($name),
            family: $family,
            slots: $slots,
            make: $name,
        }),*]
    };
}

pub(crate) const FIXTURES: &[Fixture] = fixtures! {
    tcp: SOCKET, 2;
    tcp6: SOCKET, 2;
    tcp_listener: LISTENER, 3;
    udp: SOCKET, 2;
    udp_free: SOCKET, 2;
    unix_stream: SOCKET, 2;
    unix_datagram: SOCKET, 2;
    unix_seqpacket: SOCKET, 2;
    unix_listener: LISTENER, 3;
    seqpacket_listener: LISTENER, 3;
    pipe: PIPE, 2;
    packets: PIPE, 2;
    fifo: PIPE | PATH, 1;
    pty: OTHER, 2;
    events: OTHER, 2;
    timer: TIMER, 1;
    signals: SIGNAL, 1;
    inotify: INOTIFY, 1;
    epoll: EPOLL, 3;
    epoll_edge: EPOLL, 3;
    queue: QUEUE, 1;
    file: FILE, 2;
    odd_files: FILE, 3;
    children: CHILD, 0;
    memory: MEMORY, 0;
};

pub(crate) fn pair(make: impl FnOnce(*mut c_int) -> c_int) -> Vec<c_int> {
    let mut both = [-1; 2];
    make(both.as_mut_ptr());
    both.into()
}

fn socket(family: c_int, kind: c_int) -> c_int {
    // SAFETY: no memory is involved.
    let fd = unsafe { libc::socket(family, kind, 0) };
    // What is larger than a few kilobytes has to wait.
    if matches!(kind, libc::SOCK_STREAM) {
        set_int(fd, libc::SO_SNDBUF, 8192);
        set_int(fd, libc::SO_RCVBUF, 8192);
    }
    fd
}

pub(crate) fn set_int(fd: c_int, name: c_int, value: c_int) {
    let place = (&raw const value).cast();
    // SAFETY: a number of the length that is said.
    unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, name, place, size_of::<c_int>() as u32) };
}

/// An address, as long as it is.
#[derive(Clone, Copy)]
pub(crate) struct Address {
    pub(crate) bytes: libc::sockaddr_storage,
    pub(crate) length: libc::socklen_t,
}

impl Address {
    fn zeroed() -> Self {
        // SAFETY: all-zero is an address of no family.
        Address { bytes: unsafe { std::mem::zeroed() }, length: 0 }
    }

    /// Any port of this machine.
    fn local(family: c_int) -> Self {
        let mut address = Self::zeroed();
        address.bytes.ss_family = family as u16;
        let place = &raw mut address.bytes;
        if family == libc::AF_INET6 {
            // SAFETY: room for any address.
            unsafe { (*place.cast::<libc::sockaddr_in6>()).sin6_addr.s6_addr[15] = 1 };
            address.length = size_of::<libc::sockaddr_in6>() as u32;
        } else {
            // SAFETY: room for any address.
            unsafe {
                (*place.cast::<libc::sockaddr_in>()).sin_addr.s_addr = 0x7F00_0001_u32.to_be();
            }
            address.length = size_of::<libc::sockaddr_in>() as u32;
        }
        address
    }

    fn path(name: &CStr) -> Self {
        let mut address = Self::zeroed();
        address.bytes.ss_family = libc::AF_UNIX as u16;
        let place = &raw mut address.bytes;
        // SAFETY: room for any address; a short name.
        unsafe {
            let path = &raw mut (*place.cast::<libc::sockaddr_un>()).sun_path;
            ptr::copy_nonoverlapping(name.as_ptr(), path.cast(), name.count_bytes() + 1);
        }
        address.length = size_of::<libc::sockaddr_un>() as u32;
        address
    }

    /// That of a socket.
    pub(crate) fn of(fd: c_int) -> Option<Self> {
        let mut address = Self::zeroed();
        address.length = size_of::<libc::sockaddr_storage>() as u32;
        let place = (&raw mut address.bytes).cast();
        // SAFETY: room for any address.
        let result = unsafe { libc::getsockname(fd, place, &mut address.length) };
        (result == 0).then_some(address)
    }

    pub(crate) fn pointer(&self) -> *const libc::sockaddr {
        (&raw const self.bytes).cast()
    }
}

fn bound(kind: c_int, address: Address) -> c_int {
    let fd = socket(address.bytes.ss_family.into(), kind);
    // SAFETY: an address.
    assert_eq!(unsafe { libc::bind(fd, address.pointer(), address.length) }, 0);
    fd
}

fn connect(fd: c_int, to: c_int) {
    let address = Address::of(to).expect("an address");
    // SAFETY: an address.
    assert_eq!(unsafe { libc::connect(fd, address.pointer(), address.length) }, 0);
}

fn listener(kind: c_int, address: Address) -> Vec<c_int> {
    let listener = bound(kind, address);
    let family = c_int::from(address.bytes.ss_family);
    // One connection more than that is queued. The next one waits, or is tried again a second later.
    let backlog = if family == libc::AF_UNIX { 0 } else { 1 };
    // SAFETY: no memory is involved.
    assert_eq!(unsafe { libc::listen(listener, backlog) }, 0);
    vec![listener, socket(family, kind), socket(family, kind)]
}

fn connection(family: c_int) -> Vec<c_int> {
    let all = listener(libc::SOCK_STREAM, Address::local(family));
    connect(all[1], all[0]);
    // SAFETY: no address is asked for.
    let accepted = unsafe { libc::accept(all[0], ptr::null_mut(), ptr::null_mut()) };
    // SAFETY: nothing else uses them.
    unsafe { (libc::close(all[0]), libc::close(all[2])) };
    vec![all[1], accepted]
}

fn tcp() -> Vec<c_int> {
    connection(libc::AF_INET)
}

fn tcp6() -> Vec<c_int> {
    connection(libc::AF_INET6)
}

fn tcp_listener() -> Vec<c_int> {
    listener(libc::SOCK_STREAM, Address::local(libc::AF_INET))
}

fn udp() -> Vec<c_int> {
    let both = [(); 2].map(|()| bound(libc::SOCK_DGRAM, Address::local(libc::AF_INET)));
    connect(both[0], both[1]);
    connect(both[1], both[0]);
    both.into()
}

fn udp_free() -> Vec<c_int> {
    [(); 2].map(|()| bound(libc::SOCK_DGRAM, Address::local(libc::AF_INET))).into()
}

fn socketpair(kind: c_int) -> Vec<c_int> {
    // SAFETY: room for two.
    let both = pair(|both| unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, both) });
    both.iter().for_each(|fd| set_int(*fd, libc::SO_SNDBUF, 8192));
    both
}

fn unix_stream() -> Vec<c_int> {
    socketpair(libc::SOCK_STREAM)
}

fn unix_datagram() -> Vec<c_int> {
    socketpair(libc::SOCK_DGRAM)
}

fn unix_seqpacket() -> Vec<c_int> {
    socketpair(libc::SOCK_SEQPACKET)
}

fn unix_listener() -> Vec<c_int> {
    listener(libc::SOCK_STREAM, Address::path(c"stream"))
}

fn seqpacket_listener() -> Vec<c_int> {
    listener(libc::SOCK_SEQPACKET, Address::path(c"packets"))
}

fn pipe() -> Vec<c_int> {
    // SAFETY: room for two.
    pair(|both| unsafe { libc::pipe(both) })
}

/// A pipe of packets.
fn packets() -> Vec<c_int> {
    // SAFETY: room for two.
    pair(|both| unsafe { libc::pipe2(both, libc::O_DIRECT) })
}

fn fifo() -> Vec<c_int> {
    // SAFETY: paths.
    unsafe {
        libc::mkfifo(c"fifo".as_ptr(), 0o600);
        libc::mkfifo(c"other".as_ptr(), 0o600);
        vec![libc::open(c"other".as_ptr(), libc::O_RDWR)]
    }
}

fn pty() -> Vec<c_int> {
    // SAFETY: the answers that are not wanted are null.
    let both = pair(|both| unsafe {
        libc::openpty(both, both.add(1), ptr::null_mut(), ptr::null_mut(), ptr::null_mut())
    });
    // SAFETY: an answer of the kernel's, changed and given back.
    unsafe {
        let mut settings: libc::termios = std::mem::zeroed();
        libc::tcgetattr(both[1], &mut settings);
        libc::cfmakeraw(&mut settings);
        libc::tcsetattr(both[1], libc::TCSANOW, &settings);
    }
    both
}

fn events() -> Vec<c_int> {
    // SAFETY: no memory is involved.
    unsafe { vec![libc::eventfd(0, 0), libc::eventfd(2, libc::EFD_SEMAPHORE)] }
}

/// A queue with room for two messages. No other process has it.
fn queue() -> Vec<c_int> {
    let name = format!("/switchgrass-differential-{}\0", std::process::id());
    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL;
    // SAFETY: all-zero are settings; a path that ends with a zero.
    unsafe {
        let mut settings: libc::mq_attr = std::mem::zeroed();
        (settings.mq_maxmsg, settings.mq_msgsize) = (2, 8);
        let queue = libc::mq_open(name.as_ptr().cast(), flags, 0o600, &settings);
        libc::mq_unlink(name.as_ptr().cast());
        vec![queue]
    }
}

fn timer() -> Vec<c_int> {
    // SAFETY: no memory is involved.
    unsafe { vec![libc::timerfd_create(libc::CLOCK_MONOTONIC, 0)] }
}

/// The signal that descriptors tell of. All threads have it blocked.
pub(crate) fn told_signal() -> libc::sigset_t {
    // SAFETY: a set that is made empty first.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGRTMIN());
        set
    }
}

fn signals() -> Vec<c_int> {
    // SAFETY: a set of signals.
    unsafe { vec![libc::signalfd(-1, &told_signal(), 0)] }
}

fn inotify() -> Vec<c_int> {
    // SAFETY: a path.
    unsafe {
        let fd = libc::inotify_init();
        libc::inotify_add_watch(fd, c".".as_ptr(), libc::IN_CREATE);
        vec![fd]
    }
}

fn epoll_of(flags: u32) -> Vec<c_int> {
    let both = pipe();
    // SAFETY: an event.
    unsafe {
        let epoll = libc::epoll_create1(0);
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32 | flags, u64: 1 };
        libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, both[0], &mut event);
        vec![epoll, both[0], both[1]]
    }
}

fn epoll() -> Vec<c_int> {
    epoll_of(0)
}

fn epoll_edge() -> Vec<c_int> {
    epoll_of(libc::EPOLLET as u32)
}

/// A file of a thousand bytes, and one that is appended to.
fn file() -> Vec<c_int> {
    std::fs::write("text", b"0123456789".repeat(100)).expect("a file");
    std::fs::write("log", b"begin").expect("a file");
    // SAFETY: paths.
    unsafe {
        vec![
            libc::open(c"text".as_ptr(), libc::O_RDWR),
            libc::open(c"log".as_ptr(), libc::O_RDWR | libc::O_APPEND),
        ]
    }
}

fn odd_files() -> Vec<c_int> {
    // SAFETY: paths.
    unsafe {
        vec![
            libc::open(c"/proc/version".as_ptr(), libc::O_RDONLY),
            libc::open(c".".as_ptr(), libc::O_RDONLY | libc::O_DIRECTORY),
            libc::open(c"/dev/zero".as_ptr(), libc::O_RDWR),
        ]
    }
}

fn children() -> Vec<c_int> {
    vec![]
}

fn memory() -> Vec<c_int> {
    vec![]
}
