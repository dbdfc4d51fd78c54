//! Children by fork, and ends of pipes by which they and their parent keep step.

use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use switchgrass::process::{Builder, Process};

/// A process that was forked from this one. It is killed when this one ends, so that no test leaves one behind.
pub(crate) struct Child(Process);

/// Runs `body` in a new process, which then ends with 0, or 1 if it has panicked.
pub(crate) fn fork(body: impl FnOnce()) -> Child {
    let child = Builder::new().daemon(true).spawn(|| {
        // SAFETY: no preconditions. A test that hangs is ended by SIGALRM.
        unsafe { libc::alarm(crate::LIMIT) };
        body();
    });
    Child(child.expect("a process without other threads can be forked"))
}

/// Ends the process without a word to anybody.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: no preconditions.
    unsafe { libc::_exit(code) }
}

/// Waits for a signal that ends the process.
pub(crate) fn wait_to_be_killed() -> ! {
    loop {
        // SAFETY: no preconditions.
        unsafe { libc::pause() };
    }
}

impl Child {
    /// How it has ended.
    pub(crate) fn wait(self) -> ExitStatus {
        self.0.join().expect("nobody else waits for it")
    }

    /// Waits for its end, which is a success.
    #[track_caller]
    pub(crate) fn succeeds(self) {
        let status = self.wait();
        assert!(status.success(), "{status}");
    }

    /// Kills it without asking.
    pub(crate) fn kill(&self) {
        self.0.kill().expect("it is ours");
    }

    /// Kills it, and waits until it is dead.
    #[track_caller]
    pub(crate) fn dies_when_killed(self) {
        self.kill();
        assert_eq!(self.wait().signal(), Some(libc::SIGKILL));
    }

    /// Has it go on after it was stopped.
    pub(crate) fn continues(&self) {
        self.0.send_signal(libc::SIGCONT).expect("it is ours");
    }

    /// Waits until the kernel has it sleep: so it waits for something.
    pub(crate) fn sleeps(&self) {
        let path = format!("/proc/{}/stat", self.0.id());
        loop {
            let stat = std::fs::read_to_string(&path).expect("it has not been waited for");
            let state = stat.rsplit_once(") ").expect("the name is in brackets").1;
            if state.starts_with('S') {
                return;
            }
            // SAFETY: no preconditions.
            unsafe { libc::sched_yield() };
        }
    }
}

/// One says "now", and another waits for that, in whichever process.
pub(crate) struct Gate {
    reader: PipeReader,
    writer: PipeWriter,
}

impl Gate {
    pub(crate) fn new() -> Self {
        let (reader, writer) = pipe().expect("there are descriptors");
        Gate { reader, writer }
    }

    /// Lets one through.
    pub(crate) fn open(&self) {
        (&self.writer).write_all(b"!").expect("the other end is there");
    }

    /// Waits until it is opened once more.
    pub(crate) fn pass(&self) {
        (&self.reader).read_exact(&mut [0]).expect("the other end is there");
    }
}
