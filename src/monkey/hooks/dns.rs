//! Names. A thread looks them up. What was asked is copied for it, so that whoever waits can be
//! interrupted: then the answer is dropped when it comes.
//!
//! The answer of `gethostbyname` and its like lies in a place that the next such call writes over. Here
//! that is one a thread, and it is written when the one who has asked goes on: nobody else's answer comes
//! between.

use crate::monkey::blocking_pool::{Lent, look_up_elsewhere, look_up_or_interrupted};
use crate::monkey::{errno, originals};
use libc::{addrinfo, c_char, c_int, c_void, hostent, size_t, sockaddr, socklen_t};
use std::cell::RefCell;
use std::ffi::{CStr, CString};
use std::mem::{ManuallyDrop, zeroed};
use std::ptr;

unsafe extern "C" {
    /// Where a thread's error of `gethostbyname` is.
    fn __h_errno_location() -> *mut c_int;
}

const TRY_AGAIN: c_int = 2;
const NETDB_INTERNAL: c_int = -1;

/// # Safety
///
/// A string of C's, or null.
unsafe fn owned(string: *const c_char) -> Option<CString> {
    // SAFETY: the caller's.
    (!string.is_null()).then(|| unsafe { CStr::from_ptr(string) }.into())
}

fn pointer(string: &Option<CString>) -> *const c_char {
    string.as_ref().map_or(ptr::null(), |string| string.as_ptr())
}

/// What was found. Freed if nobody takes it.
struct Found(*mut addrinfo);

// SAFETY: a list that nobody else has.
unsafe impl Send for Found {}

impl Drop for Found {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: a list of `getaddrinfo`'s.
            unsafe { libc::freeaddrinfo(self.0) };
        }
    }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn getaddrinfo(
    node: *const c_char,
    service: *const c_char,
    hints: *const addrinfo,
    result: *mut *mut addrinfo,
) -> c_int {
    // SAFETY: the caller's.
    let hints = unsafe { hints.as_ref() };
    if node.is_null() || hints.is_some_and(|hints| hints.ai_flags & libc::AI_NUMERICHOST != 0) {
        // SAFETY: the caller's.
        return unsafe { originals::getaddrinfo::call(node, service, to_pointer(hints), result) };
    }
    // SAFETY: the caller's.
    let (node, service) = unsafe { (owned(node), owned(service)) };
    // The others of the fields are to be zero.
    let hints =
        hints.map(|hints| (hints.ai_flags, hints.ai_family, hints.ai_socktype, hints.ai_protocol));
    let answer = look_up_or_interrupted("getaddrinfo", move || {
        let hints = hints.map(|(flags, family, kind, protocol)| {
            // SAFETY: all-zero is one that asks for nothing.
            let mut hints: addrinfo = unsafe { zeroed() };
            (hints.ai_flags, hints.ai_family) = (flags, family);
            (hints.ai_socktype, hints.ai_protocol) = (kind, protocol);
            hints
        });
        let mut found = Found(ptr::null_mut());
        // SAFETY: copies, and a place for the result.
        let error = unsafe {
            let hints = to_pointer(hints.as_ref());
            originals::getaddrinfo::call(pointer(&node), pointer(&service), hints, &mut found.0)
        };
        (error, found)
    });
    let Some((error, mut found)) = answer else {
        errno::set(libc::ECANCELED);
        return libc::EAI_SYSTEM;
    };
    if error == 0 {
        // SAFETY: the caller's.
        unsafe { result.write(std::mem::replace(&mut found.0, ptr::null_mut())) };
    }
    error
}

fn to_pointer<T>(option: Option<&T>) -> *const T {
    option.map_or(ptr::null(), ptr::from_ref)
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn getnameinfo(
    address: *const sockaddr,
    length: socklen_t,
    host: *mut c_char,
    host_room: socklen_t,
    service: *mut c_char,
    service_room: socklen_t,
    flags: c_int,
) -> c_int {
    // SAFETY: the caller's, who is suspended until the call is over.
    let lent = unsafe { Lent::new((address, host, service)) };
    let call = move || {
        let (address, host, service) = lent.get();
        // SAFETY: the caller's.
        unsafe {
            originals::getnameinfo::call(
                address,
                length,
                host,
                host_room,
                service,
                service_room,
                flags,
            )
        }
    };
    let is_numeric = |room, flag| room == 0 || flags & flag != 0;
    if is_numeric(host_room, libc::NI_NUMERICHOST) && is_numeric(service_room, libc::NI_NUMERICSERV)
    {
        return call();
    }
    look_up_elsewhere("getnameinfo", call)
}

/// An answer, and what it points into.
struct Host {
    entry: hostent,
    buffer: Vec<c_char>,
}

// SAFETY: it points into its own buffer.
unsafe impl Send for Host {}

thread_local! {
    /// The last answer. Without a destructor, so that it is there for as long as calls are made.
    static LAST: ManuallyDrop<RefCell<Option<Box<Host>>>> =
        const { ManuallyDrop::new(RefCell::new(None)) };
}

/// The call with its last arguments: a place, its room, the result, the error.
type WithPlace<'a> =
    &'a dyn Fn(*mut hostent, *mut c_char, size_t, *mut *mut hostent, *mut c_int) -> c_int;

/// Makes a call again until the room is enough. What was found, if anything was, or the error of these calls.
fn with_room(call: WithPlace<'_>) -> Result<Box<Host>, c_int> {
    let mut room = 1024;
    loop {
        // SAFETY: all-zero is one that says nothing.
        let entry = unsafe { zeroed() };
        let mut host = Box::new(Host { entry, buffer: vec![0; room] });
        let (mut found, mut error) = (ptr::null_mut(), 0);
        let buffer = host.buffer.as_mut_ptr();
        match call(&mut host.entry, buffer, room, &mut found, &mut error) {
            libc::ERANGE => room *= 4,
            0 if !found.is_null() => return Ok(host),
            _ => return Err(error),
        }
    }
}

/// Has a look-up made by a thread, and keeps its answer.
fn look_up_host(
    purpose: &'static str,
    call: impl FnOnce() -> Result<Box<Host>, c_int> + Send + 'static,
) -> *mut hostent {
    let answer = look_up_or_interrupted(purpose, call);
    let mut number = errno::get();
    let (answer, error) = match answer {
        None => {
            number = libc::ECANCELED;
            (None, TRY_AGAIN)
        }
        Some(Err(error)) => (None, error),
        Some(Ok(host)) => (Some(host), 0),
    };
    // SAFETY: this thread's own place, which is always there.
    unsafe { *__h_errno_location() = error };
    let Some(mut host) = answer else {
        errno::set(number);
        return ptr::null_mut();
    };
    let place = &raw mut host.entry;
    let before = LAST.with(|last| last.try_borrow_mut().ok().map(|mut last| last.replace(host)));
    drop(before);
    errno::set(number);
    place
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn gethostbyname(name: *const c_char) -> *mut hostent {
    // SAFETY: the caller's.
    let Some(name) = (unsafe { owned(name) }) else { return no_question() };
    look_up_host("gethostbyname", move || {
        // SAFETY: a name that lives on, and places.
        with_room(&|place, buffer, room, found, error| unsafe {
            originals::gethostbyname_r::call(name.as_ptr(), place, buffer, room, found, error)
        })
    })
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn gethostbyname2(name: *const c_char, family: c_int) -> *mut hostent {
    // SAFETY: the caller's.
    let Some(name) = (unsafe { owned(name) }) else { return no_question() };
    look_up_host("gethostbyname2", move || {
        // SAFETY: a name that lives on, and places.
        with_room(&|place, buffer, room, found, error| unsafe {
            let name = name.as_ptr();
            originals::gethostbyname2_r::call(name, family, place, buffer, room, found, error)
        })
    })
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn gethostbyaddr(
    address: *const c_void,
    length: socklen_t,
    family: c_int,
) -> *mut hostent {
    if address.is_null() {
        return no_question();
    }
    // SAFETY: the caller's.
    let bytes = unsafe { std::slice::from_raw_parts(address.cast::<u8>(), length as usize) };
    let bytes = bytes.to_vec();
    look_up_host("gethostbyaddr", move || {
        // SAFETY: an address that lives on, and places.
        with_room(&|place, buffer, room, found, error| unsafe {
            let address = bytes.as_ptr().cast();
            originals::gethostbyaddr_r::call(
                address, length, family, place, buffer, room, found, error,
            )
        })
    })
}

#[cold]
fn no_question() -> *mut hostent {
    // SAFETY: this thread's own place, which is always there.
    unsafe { *__h_errno_location() = NETDB_INTERNAL };
    errno::set(libc::EINVAL);
    ptr::null_mut()
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn gethostbyname_r(
    name: *const c_char,
    place: *mut hostent,
    buffer: *mut c_char,
    room: size_t,
    result: *mut *mut hostent,
    error: *mut c_int,
) -> c_int {
    // SAFETY: the caller's, who is suspended until the call is over.
    let lent = unsafe { Lent::new((name, place, buffer, result, error)) };
    look_up_elsewhere("gethostbyname_r", move || {
        let (name, place, buffer, result, error) = lent.get();
        // SAFETY: the caller's.
        unsafe { originals::gethostbyname_r::call(name, place, buffer, room, result, error) }
    })
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn gethostbyname2_r(
    name: *const c_char,
    family: c_int,
    place: *mut hostent,
    buffer: *mut c_char,
    room: size_t,
    result: *mut *mut hostent,
    error: *mut c_int,
) -> c_int {
    // SAFETY: the caller's, who is suspended until the call is over.
    let lent = unsafe { Lent::new((name, place, buffer, result, error)) };
    look_up_elsewhere("gethostbyname2_r", move || {
        let (name, place, buffer, result, error) = lent.get();
        // SAFETY: the caller's.
        unsafe {
            originals::gethostbyname2_r::call(name, family, place, buffer, room, result, error)
        }
    })
}

/// # Safety
///
/// As libc's.
#[allow(clippy::too_many_arguments, reason = "libc's")]
pub(in crate::monkey) unsafe fn gethostbyaddr_r(
    address: *const c_void,
    length: socklen_t,
    family: c_int,
    place: *mut hostent,
    buffer: *mut c_char,
    room: size_t,
    result: *mut *mut hostent,
    error: *mut c_int,
) -> c_int {
    // SAFETY: the caller's, who is suspended until the call is over.
    let lent = unsafe { Lent::new((address, place, buffer, result, error)) };
    look_up_elsewhere("gethostbyaddr_r", move || {
        let (address, place, buffer, result, error) = lent.get();
        // SAFETY: the caller's.
        unsafe {
            originals::gethostbyaddr_r::call(
                address, length, family, place, buffer, room, result, error,
            )
        }
    })
}
