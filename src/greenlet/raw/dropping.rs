#![forbid(unsafe_code)]
//! Runs user code where nothing may unwind: destructors of results and payloads, callbacks.
//!
//! A destructor may panic with a payload whose own destructor panics, and so on. Only [`drop_each`]
//! unwinds.

use crate::greenlet::error::GreenletExit;
use crate::sys::stderr;
use std::any::Any;
use std::fmt::Display;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// A thrown value: the payload of a panic, a kill or a timeout.
pub(crate) type Payload = Box<dyn Any + Send>;

/// Returns the message of a panic.
pub(crate) fn describe(payload: &Payload) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no message)")
}

/// Drops `value`. A panic of its destructor is reported in one line that names `what`, and not propagated.
pub(crate) fn drop_reporting<T>(what: impl Display, value: T) {
    run_reporting(what, || drop(value));
}

/// Drops values one by one, even if a destructor panics. (Dropped as a container, two panics would abort
/// the process.) The first panic is raised at the end; further ones are reported with the name `what`.
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

/// Calls `f`. A panic is reported in one line that names `what`, and not propagated.
#[inline]
pub(crate) fn run_reporting(what: impl Display, f: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(f)) {
        report(what, payload);
    }
}

/// Reports a panic that is not propagated, unless it is a kill, and drops its payload.
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
    const MAX_CHAIN: usize = 16;
    for _ in 0..MAX_CHAIN {
        match catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            Ok(()) => return,
            Err(next) => payload = next,
        }
    }
    mem::forget(payload);
}
