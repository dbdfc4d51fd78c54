//! Messages on standard error about failures that no caller can receive.

use super::block::Core;
use super::dropping::{Payload, describe, drop_payload};
use crate::greenlet::error::GreenletExit;
use crate::sys::stderr;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs user code where nothing may unwind. A panic is reported; a `GreenletExit` counts as a normal end.
pub(super) fn report_panic(core: &Core, doing: &str, f: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(f)) {
        if !payload.is::<GreenletExit>() {
            report(core, &format!("panicked while {doing}"), &payload);
        }
        drop_payload(payload);
    }
}

/// Reports a panic that is not propagated.
#[cold]
pub(super) fn report(core: &Core, what: &str, payload: &Payload) {
    let message = describe(payload);
    let title = core.title();
    stderr::write(&[&format!("switchgrass: greenlet {title} {what}: {message}\n")]);
}

/// Reports that a greenlet cannot be unwound and leaks, unless it has several handles.
#[cold]
pub(super) fn report_leak(core: &Core, why: &str) {
    if core.handles.get() > 1 {
        return;
    }
    let title = core.title();
    stderr::write(&[&format!("switchgrass: greenlet {title} was dropped but {why}: it leaks\n")]);
}
