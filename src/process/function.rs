//! Functions, named in a way that a process of the same image understands.
//!
//! A process and those that descend from it by fork have the same program at the same addresses. So a
//! function is named by its distance from another one. Only those of the program itself: a library that was
//! loaded after the fork is in one of the two processes.
//!
//! One of the few places of the module with `unsafe`: a number becomes a function.

use super::exit_code::IntoExitCode;
use crate::sys::library;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::any::type_name;
use std::fmt;

/// A function of one argument, and how to call it with one that was encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Function {
    call: Distance,
    function: Distance,
}

/// From [`origin`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Distance(i64);

/// Calls a function, whose address it is given, with an argument that it decodes, and encodes the result.
type Call = unsafe fn(*const (), &[u8]) -> Result<Vec<u8>, Undecodable>;

/// An argument or a result is not what it is to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Undecodable(pub(super) String);

/// A function is not part of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Foreign(());

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the function is in a library that was loaded at run time, which other processes may not have: \
             let it be one of the program itself",
        )
    }
}

/// From where distances are counted. There must be one of it: a function so small may otherwise be copied
/// into whatever mentions it.
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

    /// A function whose result is to be what a process ends with: an `i32`.
    pub(super) fn with_code<A: DeserializeOwned, T: IntoExitCode>(
        function: fn(A) -> T,
    ) -> Result<Self, Foreign> {
        Self::named(call_for_code::<A, T>, function as *const ())
    }

    /// `function` is one that `call` takes.
    fn named(call: Call, function: *const ()) -> Result<Self, Foreign> {
        Ok(Function { call: Distance::to(call as *const ())?, function: Distance::to(function)? })
    }

    /// Calls it with an argument that was encoded, and returns the result encoded.
    ///
    /// # Panics
    ///
    /// As the function.
    ///
    /// # Safety
    ///
    /// It was made, by [`Function::new`] or [`Function::with_code`], in this process, or in one that this one
    /// descends from by fork, or that descends from the same.
    pub(super) unsafe fn call(self, argument: &[u8]) -> Result<Vec<u8>, Undecodable> {
        let (call, function) = (self.call.end(), self.function.end());
        // SAFETY: `named` was given the first as a function of this type, and the second as one that it
        // takes. The program is at the same addresses here, as the caller says.
        unsafe { std::mem::transmute::<*const (), Call>(call)(function, argument) }
    }
}

/// # Safety
///
/// `function` is a `fn(A) -> R`.
unsafe fn call<A: DeserializeOwned, R: Serialize>(
    function: *const (),
    argument: &[u8],
) -> Result<Vec<u8>, Undecodable> {
    // SAFETY: as the caller says.
    let function = unsafe { std::mem::transmute::<*const (), fn(A) -> R>(function) };
    encode(&function(decode(argument)?))
}

/// # Safety
///
/// `function` is a `fn(A) -> T`.
unsafe fn call_for_code<A: DeserializeOwned, T: IntoExitCode>(
    function: *const (),
    argument: &[u8],
) -> Result<Vec<u8>, Undecodable> {
    // SAFETY: as the caller says.
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
    fn a_function_by_its_name() {
        let name = Function::new(|(a, b): (u8, String)| b.len() + usize::from(a)).unwrap();
        let sent: Function = postcard::from_bytes(&postcard::to_stdvec(&name).unwrap()).unwrap();
        let argument = postcard::to_stdvec(&(3_u8, "four")).unwrap();
        // SAFETY: made above.
        let result = unsafe { sent.call(&argument) }.unwrap();
        assert_eq!(postcard::from_bytes::<usize>(&result).unwrap(), 7);
        // SAFETY: made above.
        assert!(unsafe { sent.call(&[]) }.is_err());
    }

    // A program that is linked statically has no libraries.
    #[cfg(not(target_feature = "crt-static"))]
    #[test]
    fn one_of_a_library_is_refused() {
        assert!(Distance::to(libc::getpid as *const ()).is_err());
    }
}
