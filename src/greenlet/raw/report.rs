//! What goes wrong where only the operator can be told, on standard error.

use super::block::Core;
use super::dropping::{Payload, describe, drop_payload};
use crate::greenlet::error::GreenletExit;
use crate::sys::stderr;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs user code where nothing may unwind. A panic is reported, and an exit is a normal end.
pub(super) fn report_panic(core: &Core, doing: &str, f: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(f)) {
        if !payload.is::<GreenletExit>() {
            report(core, &format!("is where {doing} it panicked"), &payload);
        }
        drop_payload(payload);
    }
}

/// Reports a panic that goes nowhere.
#[cold]
pub(super) fn report(core: &Core, what: &str, payload: &Payload) {
    let message = describe(payload);
    let title = core.title();
    stderr::write(&[&format!("switchgrass: greenlet {title} {what}: {message}\n")]);
}

/// Reports a greenlet that will never end.
#[cold]
pub(super) fn complain(core: &Core, why: &str) {
    if core.handles.get() > 1 {
        return;
    }
    let title = core.title();
    stderr::write(&[&format!("switchgrass: greenlet {title} was dropped but {why}: it leaks\n")]);
}
