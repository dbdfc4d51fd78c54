#![forbid(unsafe_code)]
//! What is said of the end of a process that nothing else would be said of.

use super::task::Task;
use crate::greenlet::GreenletExit;
use crate::greenlet::scheduled::Payload;
use crate::sys::{process, stderr};

/// Says on standard error that main is killed, if it is main that this is raised in: an unwind by
/// [`GreenletExit`] is reported by nobody, and ends the process. Who would catch it cannot be known.
pub(crate) fn tell_of_kill(task: &Task, payload: &Payload) {
    if task.id == 0 && payload.is::<GreenletExit>() && process::is_main_thread() {
        stderr::write(&[
            "switchgrass: main was killed; unless it catches the GreenletExit, the process ends\n",
        ]);
    }
}
