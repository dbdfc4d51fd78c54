//! Children by fork, and ends of pipes by which they and their parent keep step.

use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitStatus;

/// A process that was forked from this one. It is killed when this one ends, so that no test leaves one behind.
pub(crate) struct Child(libc::pid_t);

/// Runs `body` in a new process, which then ends with 0, or 101 if it has panicked.
///
/// The hub of this thread, if it has one, is the child's as well: `body` must not wait by it then. So it is not
/// to be called from a coroutine, nor after anything that waits in the parent, if the child does.
pub(crate) fn fork(body: impl FnOnce()) -> Child {
    // SAFETY: no preconditions.
    let parent = unsafe { libc::getpid() };
    // SAFETY: nothing is held that another thread could be in the middle of: tests fork before they make threads,
    // or have these wait in the kernel.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "{}", std::io::Error::last_os_error());
    if child > 0 {
        return Child(child);
    }
    // SAFETY: no preconditions. The parent may have ended before the first.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::alarm(crate::LIMIT);
        if libc::getppid() != parent {
            libc::_exit(1);
        }
    }
    let code = if catch_unwind(AssertUnwindSafe(body)).is_ok() { 0 } else { 101 };
    exit_now(code)
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
        let mut status = 0;
        // SAFETY: a place for the answer.
        let waited = unsafe { libc::waitpid(self.0, &mut status, 0) };
        assert_eq!(waited, self.0, "{}", std::io::Error::last_os_error());
        ExitStatus::from_raw(status)
    }

    /// Waits for its end, which is a success.
    #[track_caller]
    pub(crate) fn succeeds(self) {
        let status = self.wait();
        assert!(status.success(), "{status}");
    }

    /// Kills it without asking. It stays a zombie until this process ends.
    pub(crate) fn kill(&self) {
        // SAFETY: a child that nobody has waited for: the number is its own.
        assert_eq!(unsafe { libc::kill(self.0, libc::SIGKILL) }, 0);
    }

    /// Kills it, and waits until it is dead.
    #[track_caller]
    pub(crate) fn dies_when_killed(self) {
        self.kill();
        assert_eq!(self.wait().signal(), Some(libc::SIGKILL));
    }

    /// Has it go on after it was stopped.
    pub(crate) fn continues(&self) {
        // SAFETY: a child that nobody has waited for: the number is its own.
        assert_eq!(unsafe { libc::kill(self.0, libc::SIGCONT) }, 0);
    }

    /// Waits until the kernel has it sleep: so it waits for something.
    pub(crate) fn sleeps(&self) {
        let path = format!("/proc/{}/stat", self.0);
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
