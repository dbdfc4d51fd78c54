#![forbid(unsafe_code)]
//! User code that runs where nothing may unwind: destructors of results and payloads, callbacks.
//!
//! A destructor may panic, with a payload whose own destructor panics, and so on. None of the functions here
//! unwinds, but for [`drop_each`].

use crate::greenlet::error::GreenletExit;
use crate::sys::stderr;
use std::any::Any;
use std::fmt::Display;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// What is thrown: the payload of a panic, a kill, a time limit.
pub(crate) type Payload = Box<dyn Any + Send>;

/// The message of a panic.
pub(crate) fn describe(payload: &Payload) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no message)")
}

/// Drops `value`. A panic of its destructor is reported in one line, as one of `what`, and goes no further.
pub(crate) fn drop_reporting<T>(what: impl Display, value: T) {
    run_reporting(what, || drop(value));
}

/// Drops values one by one, each also if an earlier one panics: a container whose items panic twice ends the
/// process. The first panic is raised when all are gone; further ones are reported, as ones of `what`.
pub(crate) fn drop_each<T>(what: &str, values: impl IntoIterator<Item = T>) {
    let mut first = None;
    for value in values {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
            match first {
                None => first = Some(payload),
                Some(_) => report(what, payload),
            }
        }
    }
    if let Some(payload) = first {
        resume_unwind(payload);
    }
}

/// Calls `f`. Its panic is reported in one line, as one of `what`, and goes no further.
#[inline]
pub(crate) fn run_reporting(what: impl Display, f: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(f)) {
        report(what, payload);
    }
}

/// Reports a panic that ends here, unless it is a kill, and drops its payload.
#[cold]
pub(crate) fn report(what: impl Display, payload: Payload) {
    if !payload.is::<GreenletExit>() {
        let message = describe(&payload).lines().next().unwrap_or_default();
        stderr::write(&[&format!("switchgrass: {what} panicked: {message}\n")]);
    }
    drop_payload(payload);
}

/// Drops the payload of a panic, then the payload of its destructor's panic, and so on. The end of a long
/// chain is leaked.
pub(crate) fn drop_payload(mut payload: Payload) {
    const LONGEST_CHAIN: usize = 16;
    for _ in 0..LONGEST_CHAIN {
        match catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            Ok(()) => return,
            Err(next) => payload = next,
        }
    }
    mem::forget(payload);
}
