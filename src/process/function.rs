//! Functions in a form that another process of the same image can call.
//!
//! A process and its descendants by fork have the same program at the same addresses. So a function is
//! identified by its distance from another one. That holds only for functions of the program itself: a
//! library loaded after the fork exists in only one of the processes.
//!
//! # Safety
//!
//! This file turns numbers into functions. One contract, *same image*, covers its `unsafe` functions: a
//! [`Function`] was made by [`Function::new`] or [`Function::with_code`], in this process, in an ancestor
//! of it by fork, or in another descendant of such an ancestor. The private `call` functions are only used
//! through such a value.

use super::exit_code::IntoExitCode;
use crate::sys::library;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::any::type_name;
use std::fmt;

/// A function of one argument, and the code that calls it with an encoded argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Function {
    call: Distance,
    function: Distance,
}

/// The distance of an address from [`origin`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Distance(i64);

/// Calls the function at an address with an argument that it decodes, and encodes the result.
type Call = unsafe fn(*const (), &[u8]) -> Result<Vec<u8>, Undecodable>;

/// An argument or a result cannot be encoded or decoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Undecodable(pub(super) String);

/// A function is not part of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Foreign(());

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the function is in a library that was loaded at run time, which other processes may not have: \
             use a function of the program itself",
        )
    }
}

/// The function from which distances are counted.
///
/// Never inlined: there must be only one copy of it.
#[inline(never)]
fn origin() -> *const () {
    origin as *const ()
}

impl Distance {
    fn to(address: *const ()) -> Result<Self, Foreign> {
        match library::is_of_program(address) {
            true => Ok(Distance(address.addr().wrapping_sub(origin().addr()) as i64)),
            false => Err(Foreign(())),
        }
    }

    fn end(self) -> *const () {
        std::ptr::with_exposed_provenance(origin().addr().wrapping_add(self.0 as usize))
    }
}

impl Function {
    pub(super) fn new<A: DeserializeOwned, R: Serialize>(
        function: fn(A) -> R,
    ) -> Result<Self, Foreign> {
        Self::named(call::<A, R>, function as *const ())
    }

    /// A function whose result is converted into an exit status, an `i32`.
    pub(super) fn with_code<A: DeserializeOwned, T: IntoExitCode>(
        function: fn(A) -> T,
    ) -> Result<Self, Foreign> {
        Self::named(call_for_code::<A, T>, function as *const ())
    }

    /// Names `function`, of the type that `call` calls.
    fn named(call: Call, function: *const ()) -> Result<Self, Foreign> {
        Ok(Function { call: Distance::to(call as *const ())?, function: Distance::to(function)? })
    }

    /// Calls the function with an encoded argument, and returns the encoded result.
    ///
    /// # Panics
    ///
    /// If the function panics.
    ///
    /// # Safety
    ///
    /// *Same image*, as in the module head.
    pub(super) unsafe fn call(self, argument: &[u8]) -> Result<Vec<u8>, Undecodable> {
        let (call, function) = (self.call.end(), self.function.end());
        // SAFETY: `named` stored the first address from a function of this type, and the second from one
        // that it calls. By *same image*, the program has the same addresses here.
        unsafe { std::mem::transmute::<*const (), Call>(call)(function, argument) }
    }
}

/// Calls a `fn(A) -> R`.
///
/// # Safety
///
/// `function` is a `fn(A) -> R`.
unsafe fn call<A: DeserializeOwned, R: Serialize>(
    function: *const (),
    argument: &[u8],
) -> Result<Vec<u8>, Undecodable> {
    // SAFETY: `function` is a `fn(A) -> R`, by this function's contract.
    let function = unsafe { std::mem::transmute::<*const (), fn(A) -> R>(function) };
    encode(&function(decode(argument)?))
}

/// Calls a `fn(A) -> T`, and converts its result into an exit status.
///
/// # Safety
///
/// `function` is a `fn(A) -> T`.
unsafe fn call_for_code<A: DeserializeOwned, T: IntoExitCode>(
    function: *const (),
    argument: &[u8],
) -> Result<Vec<u8>, Undecodable> {
    // SAFETY: `function` is a `fn(A) -> T`, by this function's contract.
    let function = unsafe { std::mem::transmute::<*const (), fn(A) -> T>(function) };
    encode(&function(decode(argument)?).into_exit_code())
}

pub(super) fn decode<A: DeserializeOwned>(value: &[u8]) -> Result<A, Undecodable> {
    postcard::from_bytes(value)
        .map_err(|error| Undecodable(format!("{} cannot be decoded: {error}", type_name::<A>())))
}

pub(super) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, Undecodable> {
    postcard::to_stdvec(value)
        .map_err(|error| Undecodable(format!("{} cannot be encoded: {error}", type_name::<T>())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_called_by_its_offset() {
        let name = Function::new(|(a, b): (u8, String)| b.len() + usize::from(a)).unwrap();
        let sent: Function = postcard::from_bytes(&postcard::to_stdvec(&name).unwrap()).unwrap();
        let argument = postcard::to_stdvec(&(3_u8, "four")).unwrap();
        // SAFETY: `sent` was made in this process, a few lines above.
        let result = unsafe { sent.call(&argument) }.unwrap();
        assert_eq!(postcard::from_bytes::<usize>(&result).unwrap(), 7);
        // SAFETY: `sent` was made in this process, a few lines above.
        assert!(unsafe { sent.call(&[]) }.is_err());
    }

    // A statically linked program has no libraries.
    #[cfg(not(target_feature = "crt-static"))]
    #[test]
    fn a_function_of_a_library_is_refused() {
        assert!(Distance::to(libc::getpid as *const ()).is_err());
    }
}
