//! Name resolution.
//!
//! A pool thread makes the query. The arguments are copied for it, so that the waiting coroutine can be
//! interrupted; a late answer is then dropped.
//!
//! `gethostbyname` and the like return a pointer to a buffer that the next such call overwrites. Here there
//! is one buffer per thread. It is written when the calling coroutine resumes, so no other coroutine's answer
//! comes in between.

use crate::monkey::blocking_pool::{Lent, look_up_elsewhere, look_up_or_interrupted};
use crate::monkey::{errno, originals};
use libc::{addrinfo, c_char, c_int, c_void, hostent, size_t, sockaddr, socklen_t};
use std::cell::RefCell;
use std::ffi::{CStr, CString};
use std::mem::{ManuallyDrop, zeroed};
use std::ptr;

unsafe extern "C" {
    /// The location of the calling thread's `h_errno`.
    fn __h_errno_location() -> *mut c_int;
}

const TRY_AGAIN: c_int = 2;
const NETDB_INTERNAL: c_int = -1;

/// A copy of a C string. `None` for null.
///
/// # Safety
///
/// `string` is null or ends with a zero byte.
unsafe fn owned(string: *const c_char) -> Option<CString> {
    // SAFETY: the string is not null, so it ends with a zero byte: the contract of this function.
    (!string.is_null()).then(|| unsafe { CStr::from_ptr(string) }.into())
}

fn pointer(string: &Option<CString>) -> *const c_char {
    string.as_ref().map_or(ptr::null(), |string| string.as_ptr())
}

/// The found addresses. Freed when dropped.
struct Found(*mut addrinfo);

// SAFETY: the list has no other owner, and may be freed on any thread.
unsafe impl Send for Found {}

impl Drop for Found {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: `getaddrinfo` has made the list, and this is its only owner.
            unsafe { libc::freeaddrinfo(self.0) };
        }
    }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn getaddrinfo(
    node: *const c_char,
    service: *const c_char,
    hints: *const addrinfo,
    result: *mut *mut addrinfo,
) -> c_int {
    // SAFETY: contract of a hook: the pointer is null or valid.
    let hints = unsafe { hints.as_ref() };
    if node.is_null() || hints.is_some_and(|hints| hints.ai_flags & libc::AI_NUMERICHOST != 0) {
        // SAFETY: contract of a hook: libc's `getaddrinfo` gets the caller's pointers.
        return unsafe { originals::getaddrinfo::call(node, service, to_pointer(hints), result) };
    }
    // SAFETY: contract of a hook: each string is null or ends with a zero byte.
    let (node, service) = unsafe { (owned(node), owned(service)) };
    // All other fields have to be zero.
    let hints =
        hints.map(|hints| (hints.ai_flags, hints.ai_family, hints.ai_socktype, hints.ai_protocol));
    let answer = look_up_or_interrupted("getaddrinfo", move || {
        let hints = hints.map(|(flags, family, kind, protocol)| {
            // SAFETY: all-zero bytes are valid hints without restrictions.
            let mut hints: addrinfo = unsafe { zeroed() };
            (hints.ai_flags, hints.ai_family) = (flags, family);
            (hints.ai_socktype, hints.ai_protocol) = (kind, protocol);
            hints
        });
        let mut found = Found(ptr::null_mut());
        // SAFETY: the arguments are copies that outlive the call, and the result is valid for a write.
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
        // SAFETY: contract of a hook: `result` is valid for a write.
        unsafe { result.write(std::mem::replace(&mut found.0, ptr::null_mut())) };
    }
    error
}

fn to_pointer<T>(option: Option<&T>) -> *const T {
    option.map_or(ptr::null(), ptr::from_ref)
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn getnameinfo(
    address: *const sockaddr,
    length: socklen_t,
    host: *mut c_char,
    host_room: socklen_t,
    service: *mut c_char,
    service_room: socklen_t,
    flags: c_int,
) -> c_int {
    // SAFETY: contract of a hook: the pointers are valid on any thread until the suspended caller returns.
    let lent = unsafe { Lent::new((address, host, service)) };
    let call = move || {
        let (address, host, service) = lent.get();
        // SAFETY: contract of a hook: the suspended caller lends the pointers to libc's `getnameinfo`.
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

/// An answer, and the buffer that it points into.
struct Host {
    entry: hostent,
    buffer: Vec<c_char>,
}

// SAFETY: the pointers in `entry` lead only into `buffer`, which moves along on the heap.
unsafe impl Send for Host {}

thread_local! {
    /// The last answer. Has no destructor, so that it stays valid as long as the thread makes calls.
    static LAST: ManuallyDrop<RefCell<Option<Box<Host>>>> =
        const { ManuallyDrop::new(RefCell::new(None)) };
}

/// A call with its last arguments: the entry, the buffer and its size, the result, the error.
type WithPlace<'a> =
    &'a dyn Fn(*mut hostent, *mut c_char, size_t, *mut *mut hostent, *mut c_int) -> c_int;

/// Repeats a call with a larger buffer until the answer fits.
///
/// Fails with the `h_errno` of the call.
fn with_room(call: WithPlace<'_>) -> Result<Box<Host>, c_int> {
    let mut room = 1024;
    loop {
        // SAFETY: all-zero bytes are a valid empty `hostent`.
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

/// Makes a query in the pool, and stores the answer for the caller.
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
    // SAFETY: the location of this thread's `h_errno` is always valid.
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
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn gethostbyname(name: *const c_char) -> *mut hostent {
    // SAFETY: contract of a hook: each string is null or ends with a zero byte.
    let Some(name) = (unsafe { owned(name) }) else { return invalid_query() };
    look_up_host("gethostbyname", move || {
        // SAFETY: the closure owns the name, and the places are valid for writes.
        with_room(&|place, buffer, room, found, error| unsafe {
            originals::gethostbyname_r::call(name.as_ptr(), place, buffer, room, found, error)
        })
    })
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn gethostbyname2(name: *const c_char, family: c_int) -> *mut hostent {
    // SAFETY: contract of a hook: each string is null or ends with a zero byte.
    let Some(name) = (unsafe { owned(name) }) else { return invalid_query() };
    look_up_host("gethostbyname2", move || {
        // SAFETY: the closure owns the name, and the places are valid for writes.
        with_room(&|place, buffer, room, found, error| unsafe {
            let name = name.as_ptr();
            originals::gethostbyname2_r::call(name, family, place, buffer, room, found, error)
        })
    })
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn gethostbyaddr(
    address: *const c_void,
    length: socklen_t,
    family: c_int,
) -> *mut hostent {
    if address.is_null() {
        return invalid_query();
    }
    // SAFETY: contract of a hook: the address has `length` readable bytes.
    let bytes = unsafe { std::slice::from_raw_parts(address.cast::<u8>(), length as usize) };
    let bytes = bytes.to_vec();
    look_up_host("gethostbyaddr", move || {
        // SAFETY: the closure owns the address, and the places are valid for writes.
        with_room(&|place, buffer, room, found, error| unsafe {
            let address = bytes.as_ptr().cast();
            originals::gethostbyaddr_r::call(
                address, length, family, place, buffer, room, found, error,
            )
        })
    })
}

/// Fails as for a query without a name or an address.
#[cold]
fn invalid_query() -> *mut hostent {
    // SAFETY: the location of this thread's `h_errno` is always valid.
    unsafe { *__h_errno_location() = NETDB_INTERNAL };
    errno::set(libc::EINVAL);
    ptr::null_mut()
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn gethostbyname_r(
    name: *const c_char,
    place: *mut hostent,
    buffer: *mut c_char,
    room: size_t,
    result: *mut *mut hostent,
    error: *mut c_int,
) -> c_int {
    // SAFETY: contract of a hook: the pointers are valid on any thread until the suspended caller returns.
    let lent = unsafe { Lent::new((name, place, buffer, result, error)) };
    look_up_elsewhere("gethostbyname_r", move || {
        let (name, place, buffer, result, error) = lent.get();
        // SAFETY: contract of a hook: the suspended caller lends the pointers to libc's `gethostbyname_r`.
        unsafe { originals::gethostbyname_r::call(name, place, buffer, room, result, error) }
    })
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn gethostbyname2_r(
    name: *const c_char,
    family: c_int,
    place: *mut hostent,
    buffer: *mut c_char,
    room: size_t,
    result: *mut *mut hostent,
    error: *mut c_int,
) -> c_int {
    // SAFETY: contract of a hook: the pointers are valid on any thread until the suspended caller returns.
    let lent = unsafe { Lent::new((name, place, buffer, result, error)) };
    look_up_elsewhere("gethostbyname2_r", move || {
        let (name, place, buffer, result, error) = lent.get();
        // SAFETY: contract of a hook: the suspended caller lends the pointers to libc's `gethostbyname2_r`.
        unsafe {
            originals::gethostbyname2_r::call(name, family, place, buffer, room, result, error)
        }
    })
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
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
    // SAFETY: contract of a hook: the pointers are valid on any thread until the suspended caller returns.
    let lent = unsafe { Lent::new((address, place, buffer, result, error)) };
    look_up_elsewhere("gethostbyaddr_r", move || {
        let (address, place, buffer, result, error) = lent.get();
        // SAFETY: contract of a hook: the suspended caller lends the pointers to libc's `gethostbyaddr_r`.
        unsafe {
            originals::gethostbyaddr_r::call(
                address, length, family, place, buffer, room, result, error,
            )
        }
    })
}
