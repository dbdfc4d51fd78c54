//! **The** table: a row a symbol of libc that is defined here.
//!
//! Each row becomes a module with the name of the symbol, which has the function that the program calls, what
//! there was before (`original`), and what is counted (`ROW`).
//!
//! ```text
//!   recv(fd, ..)           the program, std, a C library
//!     │
//!     ▼
//!   the row's function ──► patched, and called by a coroutine? ──no──► original: libc's
//!                                       │ yes
//!                                       ▼
//!                                    hooks::..
//! ```
//!
//! The functions never unwind: their callers are compiled for that. `original` is found by `dlsym`, the next
//! definition after this one, before `main` runs: a signal handler may call any of them.

use super::What;
use super::gate::{self, Row};
use super::hooks::{connecting, polling, sleeping, sockets, streams};
use libc::{
    c_int, c_uint, c_void, clockid_t, iovec, msghdr, nfds_t, pollfd, size_t, sockaddr, socklen_t,
    ssize_t, timespec,
};
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

/// Who has to see a call.
macro_rules! is_ours {
    (tasks) => {
        gate::is_cooperative(&ROW)
    };
    (threads) => {
        gate::is_patched(ROW.what)
    };
}

macro_rules! table {
    ($($what:ident $who:ident
       fn $symbol:ident($($argument:ident: $type:ty),* $(,)?) -> $result:ty => $hook:path;)*) => {
        $(
            pub(super) mod $symbol {
                use super::*;

                pub(in crate::monkey) static ROW: Row = Row::new(stringify!($symbol), What::$what);

                static ORIGINAL: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());

                /// What the symbol is without us.
                ///
                /// # Safety
                ///
                /// As libc's function of this name.
                #[inline]
                pub(in crate::monkey) unsafe fn original($($argument: $type),*) -> $result {
                    let mut address = ORIGINAL.load(Relaxed);
                    if address.is_null() {
                        address = resolve();
                    }
                    type Function = unsafe extern "C" fn($($type),*) -> $result;
                    // SAFETY: libc's function of this name has this type. Where it takes variable arguments,
                    // those are numbers and pointers, which are passed as others are on Linux.
                    let function: Function = unsafe { std::mem::transmute(address) };
                    // SAFETY: the caller's.
                    unsafe { function($($argument),*) }
                }

                /// As `original`, of a call that there is no way to make cooperative: it holds up the hub.
                ///
                /// # Safety
                ///
                /// As libc's function of this name.
                #[allow(dead_code, reason = "some calls never block")]
                #[cold]
                pub(in crate::monkey) unsafe fn blocking($($argument: $type),*) -> $result {
                    ROW.count_blocked();
                    // SAFETY: the caller's.
                    unsafe { original($($argument),*) }
                }

                #[cold]
                pub(super) fn resolve() -> *mut c_void {
                    let address = super::next_definition(concat!(stringify!($symbol), "\0"));
                    ORIGINAL.store(address, Relaxed);
                    address
                }

                /// # Safety
                ///
                /// As libc's function of this name, which it is for the whole program.
                #[unsafe(no_mangle)]
                unsafe extern "C" fn $symbol($($argument: $type),*) -> $result {
                    if is_ours!($who) {
                        // SAFETY: the caller's.
                        unsafe { $hook($($argument),*) }
                    } else {
                        // SAFETY: the caller's.
                        unsafe { original($($argument),*) }
                    }
                }

                /// Where the function is that the program is to call.
                pub(super) fn ours() -> *const c_void {
                    $symbol as unsafe extern "C" fn($($type),*) -> $result as *const c_void
                }
            }
        )*

        /// All rows, and where the function of each is.
        pub(super) fn rows() -> impl Iterator<Item = (&'static Row, *const c_void)> {
            let rows: [(&'static Row, fn() -> *const c_void); _] =
                [$((&$symbol::ROW, $symbol::ours)),*];
            rows.into_iter().map(|(row, ours)| (row, ours()))
        }

        extern "C" fn resolve_all() {
            $($symbol::resolve();)*
        }
    };
}

table! {
    // what    who      symbol and type                                                     by whom
    Sleep   tasks   fn sleep(seconds: c_uint) -> c_uint => sleeping::sleep;
    Sleep   tasks   fn usleep(micros: c_uint) -> c_int => sleeping::usleep;
    Sleep   tasks   fn nanosleep(time: *const timespec, left: *mut timespec) -> c_int => sleeping::nanosleep;
    Sleep   tasks   fn clock_nanosleep(clock: clockid_t, flags: c_int, time: *const timespec,
                        left: *mut timespec) -> c_int => sleeping::clock_nanosleep;
    Sleep   tasks   fn sched_yield() -> c_int => sleeping::sched_yield;

    Sockets tasks   fn recv(fd: c_int, buffer: *mut c_void, length: size_t, flags: c_int)
                        -> ssize_t => sockets::recv;
    Sockets tasks   fn recvfrom(fd: c_int, buffer: *mut c_void, length: size_t, flags: c_int,
                        address: *mut sockaddr, room: *mut socklen_t) -> ssize_t => sockets::recvfrom;
    Sockets tasks   fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t => sockets::recvmsg;
    Sockets tasks   fn send(fd: c_int, buffer: *const c_void, length: size_t, flags: c_int)
                        -> ssize_t => sockets::send;
    Sockets tasks   fn sendto(fd: c_int, buffer: *const c_void, length: size_t, flags: c_int,
                        address: *const sockaddr, room: socklen_t) -> ssize_t => sockets::sendto;
    Sockets tasks   fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int)
                        -> ssize_t => sockets::sendmsg;
    Sockets tasks   fn accept(fd: c_int, address: *mut sockaddr, room: *mut socklen_t)
                        -> c_int => connecting::accept;
    Sockets tasks   fn accept4(fd: c_int, address: *mut sockaddr, room: *mut socklen_t, flags: c_int)
                        -> c_int => connecting::accept4;
    Sockets tasks   fn connect(fd: c_int, address: *const sockaddr, length: socklen_t)
                        -> c_int => connecting::connect;

    Sockets tasks   fn read(fd: c_int, buffer: *mut c_void, length: size_t) -> ssize_t => streams::read;
    Sockets tasks   fn readv(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t => streams::readv;
    Sockets tasks   fn write(fd: c_int, buffer: *const c_void, length: size_t)
                        -> ssize_t => streams::write;
    Sockets tasks   fn writev(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t => streams::writev;

    Sockets threads fn close(fd: c_int) -> c_int => streams::close;
    Sockets threads fn dup(fd: c_int) -> c_int => streams::dup;
    Sockets threads fn dup2(from: c_int, to: c_int) -> c_int => streams::dup2;
    Sockets threads fn dup3(from: c_int, to: c_int, flags: c_int) -> c_int => streams::dup3;
    Sockets threads fn fcntl(fd: c_int, command: c_int, argument: usize) -> c_int => streams::fcntl;
    Sockets threads fn ioctl(fd: c_int, request: libc::c_ulong, argument: usize)
                        -> c_int => streams::ioctl;
    Sockets threads fn setsockopt(fd: c_int, level: c_int, name: c_int, value: *const c_void,
                        length: socklen_t) -> c_int => sockets::setsockopt;

    Poll    tasks   fn poll(all: *mut pollfd, count: nfds_t, millis: c_int) -> c_int => polling::poll;
}

#[used]
#[unsafe(link_section = ".init_array")]
static RESOLVE: extern "C" fn() = resolve_all;

/// The definition of a symbol that the program would have without us.
fn next_definition(symbol: &'static str) -> *mut c_void {
    // SAFETY: a string that ends with a zero.
    let address = unsafe { libc::dlsym(libc::RTLD_NEXT, symbol.as_ptr().cast()) };
    if address.is_null() {
        let name = symbol.trim_end_matches('\0');
        crate::sys::stderr::write(&[
            "switchgrass: the feature `monkey` needs a libc that is linked dynamically: there is no other `",
            name,
            "`\n",
        ]);
        std::process::abort();
    }
    address
}

/// Where a symbol leads whoever calls it: another library may have been there first.
pub(super) fn first_definition(symbol: &std::ffi::CStr) -> *const c_void {
    // SAFETY: a string that ends with a zero.
    unsafe { libc::dlsym(libc::RTLD_DEFAULT, symbol.as_ptr()) }
}
