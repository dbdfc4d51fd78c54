#![forbid(unsafe_code)]
//! What is said of the end of a process that nothing else would be said of.

use super::interrupt::{Deadlock, TimeoutExit};
use super::task::Task;
use crate::greenlet::GreenletExit;
use crate::greenlet::scheduled::{Payload, describe};
use crate::sys::{process, stderr};

/// Says on standard error what is raised in main from outside: such an unwind has no panic hook that would
/// report it, and ends the process. Whether main catches it cannot be known.
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
            "switchgrass: what is raised in main from outside ends the process unless it is caught: ",
            message,
            "\n",
        ]);
    }
}
