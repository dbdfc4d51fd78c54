#![forbid(unsafe_code)]
//! Reports of unwinds that may end the process without a message.

use super::interrupt::{Deadlock, TimeoutExit};
use super::task::Task;
use crate::greenlet::GreenletExit;
use crate::greenlet::scheduled::{Payload, describe};
use crate::sys::{process, stderr};

/// Prints what is thrown in main from outside.
///
/// No panic hook reports such an unwind, and it ends the process unless main catches it, which cannot be
/// known.
pub(crate) fn report_kill(task: &Task, payload: &Payload) {
    let is_reported = payload.is::<Deadlock>() || payload.is::<TimeoutExit>();
    if task.id != 0 || is_reported || !process::is_main_thread() {
        return;
    }
    if payload.is::<GreenletExit>() {
        stderr::write(&[
            "switchgrass: main was killed; unless it catches the GreenletExit, the process ends\n",
        ]);
    } else {
        let message = describe(payload);
        stderr::write(&[
            "switchgrass: a panic thrown into main from outside ends the process unless it is caught: ",
            message,
            "\n",
        ]);
    }
}
