//! Names.

use crate::{patched, together};
use libc::{AF_INET, AF_INET6, addrinfo, c_char, c_int, hostent, in_addr, sockaddr, sockaddr_in};
use std::cell::Cell;
use std::ffi::CStr;
use std::io::Error;
use std::mem::zeroed;
use std::net::{Ipv4Addr, ToSocketAddrs};
use std::ptr::{null, null_mut};
use std::rc::Rc;
use switchgrass::{JoinError, spawn, yield_now};

/// What the crate `libc` does not declare.
mod c {
    use libc::{c_char, c_int, c_void, hostent, socklen_t};

    unsafe extern "C" {
        pub(super) fn gethostbyname(name: *const c_char) -> *mut hostent;
        pub(super) fn gethostbyname2(name: *const c_char, family: c_int) -> *mut hostent;
        pub(super) fn gethostbyaddr(
            address: *const c_void,
            length: socklen_t,
            family: c_int,
        ) -> *mut hostent;
        pub(super) fn gethostbyname_r(
            name: *const c_char,
            place: *mut hostent,
            buffer: *mut c_char,
            room: usize,
            result: *mut *mut hostent,
            error: *mut c_int,
        ) -> c_int;
        pub(super) fn gethostbyname2_r(
            name: *const c_char,
            family: c_int,
            place: *mut hostent,
            buffer: *mut c_char,
            room: usize,
            result: *mut *mut hostent,
            error: *mut c_int,
        ) -> c_int;
        pub(super) fn gethostbyaddr_r(
            address: *const c_void,
            length: socklen_t,
            family: c_int,
            place: *mut hostent,
            buffer: *mut c_char,
            room: usize,
            result: *mut *mut hostent,
            error: *mut c_int,
        ) -> c_int;
        pub(super) fn __h_errno_location() -> *mut c_int;
    }
}

const LOCALHOST: &CStr = c"localhost";

#[test]
fn getaddrinfo() {
    together(
        || (),
        |()| {
            let found = ("localhost", 80).to_socket_addrs().unwrap();
            let mut found: Vec<_> = found.collect();
            found.sort();
            assert!(!found.is_empty());
            found
        },
    );
}

/// What is wrong is said as always, and there are look-ups that nobody has to wait for.
#[test]
fn getaddrinfo_says_what_is_wrong() {
    patched(|| {
        let other = Rc::new(Cell::new(false));
        let flag = Rc::clone(&other);
        let later = spawn(move || flag.set(true));
        let ask = |node: *const c_char, service: *const c_char, flags: c_int| {
            // SAFETY: strings, hints, and a place for the result, which is freed.
            unsafe {
                let mut hints: addrinfo = zeroed();
                hints.ai_flags = flags;
                let mut result = null_mut();
                let error = libc::getaddrinfo(node, service, &hints, &mut result);
                if error == 0 {
                    libc::freeaddrinfo(result);
                }
                error
            }
        };
        assert_eq!(ask(c"127.0.0.1".as_ptr(), null(), libc::AI_NUMERICHOST), 0);
        assert_eq!(ask(null(), c"80".as_ptr(), libc::AI_PASSIVE), 0);
        assert_eq!(ask(null(), null(), 0), libc::EAI_NONAME);
        assert!(!other.get());
        assert_eq!(ask(LOCALHOST.as_ptr(), c"no such service".as_ptr(), 0), libc::EAI_SERVICE);
        later.join().unwrap();
    });
}

/// Whoever waits is told, and the answer is dropped when it comes.
#[test]
fn look_ups_that_are_cut_short() {
    patched(|| {
        let mut told = 0;
        // The thread may be faster, once or twice.
        for _ in 0..1000 {
            let asking = spawn(|| {
                let mut result = null_mut();
                // SAFETY: a string, and a place for the result.
                let error =
                    unsafe { libc::getaddrinfo(LOCALHOST.as_ptr(), null(), null(), &mut result) };
                match error {
                    // SAFETY: what was found.
                    0 => unsafe { libc::freeaddrinfo(result) },
                    _ => {
                        let number = Error::last_os_error().raw_os_error();
                        assert_eq!((error, number), (libc::EAI_SYSTEM, Some(libc::ECANCELED)));
                    }
                }
                // It is raised here.
                if error != 0 {
                    yield_now();
                    unreachable!("it was killed");
                }
            });
            yield_now();
            asking.kill();
            told += u32::from(matches!(asking.join(), Err(JoinError::Killed)));
            if told == 10 {
                return;
            }
        }
        panic!("it was never told");
    });
}

fn local_address() -> sockaddr_in {
    // SAFETY: all-zero is a valid address.
    let mut address: sockaddr_in = unsafe { zeroed() };
    address.sin_family = AF_INET as _;
    address.sin_port = 80_u16.to_be();
    address.sin_addr = in_addr { s_addr: u32::from(Ipv4Addr::LOCALHOST).to_be() };
    address
}

#[test]
fn getnameinfo() {
    together(local_address, |address| {
        let (mut host, mut service) = ([0; 256], [0; 32]);
        // SAFETY: an address, and two buffers.
        let error = unsafe {
            libc::getnameinfo(
                (&raw const address).cast::<sockaddr>(),
                size_of::<sockaddr_in>() as _,
                host.as_mut_ptr(),
                host.len() as _,
                service.as_mut_ptr(),
                service.len() as _,
                0,
            )
        };
        assert_eq!(error, 0);
        // SAFETY: they end with zeros.
        unsafe { [host.as_ptr(), service.as_ptr()].map(|text| CStr::from_ptr(text).to_owned()) }
    });
}

/// The name and the first address.
///
/// # Safety
///
/// An answer.
unsafe fn first(host: *const hostent) -> (std::ffi::CString, Vec<u8>) {
    // SAFETY: the caller's.
    unsafe {
        let host = &*host;
        let address = std::slice::from_raw_parts((*host.h_addr_list).cast(), host.h_length as _);
        (CStr::from_ptr(host.h_name).to_owned(), address.to_vec())
    }
}

#[test]
fn gethostbyname() {
    // SAFETY: a name; an answer that is read at once.
    together(|| (), |()| unsafe { first(c::gethostbyname(LOCALHOST.as_ptr())) });
}

#[test]
fn gethostbyname2() {
    // SAFETY: a name; an answer that is read at once.
    together(|| (), |()| unsafe { first(c::gethostbyname2(LOCALHOST.as_ptr(), AF_INET)) });
}

#[test]
fn gethostbyaddr() {
    // SAFETY: an address; an answer that is read at once.
    together(local_address, |address| unsafe {
        first(c::gethostbyaddr((&raw const address.sin_addr).cast(), 4, AF_INET))
    });
}

/// Two who ask for different things at once get what each has asked for, and one who finds nothing is told so.
#[test]
fn answers_in_one_place() {
    patched(|| {
        let ask = |name: &'static CStr, expected: [u8; 4]| {
            spawn(move || {
                for _ in 0..50 {
                    // SAFETY: a name; an answer that is read at once.
                    let (_, address) = unsafe { first(c::gethostbyname(name.as_ptr())) };
                    assert_eq!(address, expected);
                }
            })
        };
        let all = [ask(c"127.0.0.1", [127, 0, 0, 1]), ask(c"10.1.2.3", [10, 1, 2, 3])];
        let nothing = spawn(|| {
            // SAFETY: an address of no such family; this thread's own error.
            unsafe {
                let found = c::gethostbyaddr([0_u8; 4].as_ptr().cast(), 3, AF_INET6);
                (found.is_null(), *c::__h_errno_location() != 0)
            }
        });
        assert_eq!(nothing.join().unwrap(), (true, true));
        for one in all {
            one.join().unwrap();
        }
    });
}

/// A place, the buffer, its room, the result, the error.
type Place = (*mut hostent, *mut c_char, usize, *mut *mut hostent, *mut c_int);

fn with_place(call: impl Fn(Place) -> c_int) -> (std::ffi::CString, Vec<u8>) {
    let mut buffer = [0; 4096];
    let (mut result, mut error) = (null_mut(), 0);
    // SAFETY: all-zero is one that says nothing.
    let mut place: hostent = unsafe { zeroed() };
    let given = call((&mut place, buffer.as_mut_ptr(), buffer.len(), &mut result, &mut error));
    assert_eq!((given, result.is_null()), (0, false));
    // SAFETY: an answer.
    unsafe { first(result) }
}

#[test]
fn gethostbyname_r() {
    together(
        || (),
        |()| {
            // SAFETY: a name, and places.
            with_place(|(place, buffer, room, result, error)| unsafe {
                c::gethostbyname_r(LOCALHOST.as_ptr(), place, buffer, room, result, error)
            })
        },
    );
}

#[test]
fn gethostbyname2_r() {
    together(
        || (),
        |()| {
            // SAFETY: a name, and places.
            with_place(|(place, buffer, room, result, error)| unsafe {
                let name = LOCALHOST.as_ptr();
                c::gethostbyname2_r(name, AF_INET, place, buffer, room, result, error)
            })
        },
    );
}

#[test]
fn gethostbyaddr_r() {
    together(local_address, |address| {
        // SAFETY: an address, and places.
        with_place(|(place, buffer, room, result, error)| unsafe {
            let address = (&raw const address.sin_addr).cast();
            c::gethostbyaddr_r(address, 4, AF_INET, place, buffer, room, result, error)
        })
    });
}
