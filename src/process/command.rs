#![forbid(unsafe_code)]
//! What is to be run.

use super::child::Child;
use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{self, CommandArgs, CommandEnvs, ExitStatus, Output, Stdio};

/// A program to be run, with its arguments, its environment, and what it reads and writes. As
/// [`std::process::Command`].
///
/// # Examples
///
/// ```
/// use switchgrass::process::Command;
///
/// let output = Command::new("echo").arg("hello").output()?;
/// assert_eq!(output.stdout, b"hello\n");
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// A limit, after which it is killed:
///
/// ```
/// use std::time::Duration;
/// use switchgrass::process::Command;
/// use switchgrass::timeout;
///
/// let result = timeout(Duration::from_millis(10), || Command::new("sleep").arg("60").status());
/// assert!(result.is_err());
/// ```
#[derive(Debug)]
pub struct Command {
    std: process::Command,
    /// Which of stdin, stdout and stderr were said here.
    said: [bool; 3],
    kill_on_drop: bool,
}

impl Command {
    /// A command that runs `program`, which is searched for in `PATH`.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        process::Command::new(program).into()
    }

    /// Adds an argument.
    pub fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut Self {
        self.std.arg(arg);
        self
    }

    /// Adds arguments.
    pub fn args(&mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> &mut Self {
        self.std.args(args);
        self
    }

    /// Sets the name that the program finds as its own (its argument 0).
    pub fn arg0(&mut self, arg: impl AsRef<OsStr>) -> &mut Self {
        self.std.arg0(arg);
        self
    }

    /// Sets a variable of its environment.
    pub fn env(&mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        self.std.env(key, value);
        self
    }

    /// Sets variables of its environment.
    pub fn envs(
        &mut self,
        variables: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>,
    ) -> &mut Self {
        self.std.envs(variables);
        self
    }

    /// Takes a variable out of its environment.
    pub fn env_remove(&mut self, key: impl AsRef<OsStr>) -> &mut Self {
        self.std.env_remove(key);
        self
    }

    /// Takes all variables out of its environment.
    pub fn env_clear(&mut self) -> &mut Self {
        self.std.env_clear();
        self
    }

    /// Sets the folder that it begins in.
    pub fn current_dir(&mut self, folder: impl AsRef<Path>) -> &mut Self {
        self.std.current_dir(folder);
        self
    }

    /// Sets what it reads. By default what this process reads, and nothing for [`Command::output`].
    pub fn stdin(&mut self, stdin: impl Into<Stdio>) -> &mut Self {
        self.std.stdin(stdin);
        self.said[0] = true;
        self
    }

    /// Sets where it writes. By default where this process does, and a pipe for [`Command::output`].
    pub fn stdout(&mut self, stdout: impl Into<Stdio>) -> &mut Self {
        self.std.stdout(stdout);
        self.said[1] = true;
        self
    }

    /// Sets where it complains. By default where this process does, and a pipe for [`Command::output`].
    pub fn stderr(&mut self, stderr: impl Into<Stdio>) -> &mut Self {
        self.std.stderr(stderr);
        self.said[2] = true;
        self
    }

    /// Sets the user that it runs as.
    pub fn uid(&mut self, id: u32) -> &mut Self {
        self.std.uid(id);
        self
    }

    /// Sets the group that it runs as.
    pub fn gid(&mut self, id: u32) -> &mut Self {
        self.std.gid(id);
        self
    }

    /// Sets the process group that it runs in; 0 is one of its own, to which a terminal's Ctrl-C does not
    /// come.
    pub fn process_group(&mut self, id: i32) -> &mut Self {
        self.std.process_group(id);
        self
    }

    /// Sets whether a child is killed (`SIGKILL`) when its [`Child`] is dropped before it has ended. It is
    /// not, by default, as in std.
    pub fn kill_on_drop(&mut self, kill: bool) -> &mut Self {
        self.kill_on_drop = kill;
        self
    }

    /// The program.
    pub fn get_program(&self) -> &OsStr {
        self.std.get_program()
    }

    /// The arguments.
    pub fn get_args(&self) -> CommandArgs<'_> {
        self.std.get_args()
    }

    /// What is set in, and taken out of (`None`), its environment.
    pub fn get_envs(&self) -> CommandEnvs<'_> {
        self.std.get_envs()
    }

    /// The folder that it begins in, if that is not this process's.
    pub fn get_current_dir(&self) -> Option<&Path> {
        self.std.get_current_dir()
    }

    /// std's command, to be looked at.
    pub fn as_std(&self) -> &process::Command {
        &self.std
    }

    /// std's command, to be told what can only be told there. What it is to read and write is said here:
    /// [`Command::output`] takes no notice of what is said there.
    pub fn as_std_mut(&mut self) -> &mut process::Command {
        &mut self.std
    }

    /// Begins to run it.
    ///
    /// # Errors
    ///
    /// As [`std::process::Command::spawn`]: if there is no such program, no process can be made, or there are
    /// no descriptors left.
    ///
    /// # Switching
    ///
    /// Never switches: the thread waits until the program has begun, or cannot.
    pub fn spawn(&mut self) -> io::Result<Child> {
        Child::new(self.std.spawn()?, self.kill_on_drop)
    }

    /// Runs it, and waits until it has ended.
    ///
    /// # Errors
    ///
    /// As [`Command::spawn`].
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile.
    ///
    /// # Switching
    ///
    /// Switches. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The child is killed, since nobody has a handle of it. Children that it has made are not.
    #[track_caller]
    pub fn status(&mut self) -> io::Result<ExitStatus> {
        Child::new(self.std.spawn()?, true)?.wait()
    }

    /// Runs it, waits until it has ended, and returns what it has written.
    ///
    /// # Errors
    ///
    /// As [`Command::spawn`].
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile.
    ///
    /// # Switching
    ///
    /// Switches. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// What it has written is lost, and the child is killed, since nobody has a handle of it. Children that
    /// it has made are not.
    #[track_caller]
    pub fn output(&mut self) -> io::Result<Output> {
        self.set_unsaid([Stdio::null, Stdio::piped, Stdio::piped]);
        let child = self.std.spawn();
        self.set_unsaid([Stdio::inherit, Stdio::inherit, Stdio::inherit]);
        Child::new(child?, true)?.wait_with_output()
    }

    /// Sets those of stdin, stdout and stderr that were not said.
    fn set_unsaid(&mut self, [stdin, stdout, stderr]: [fn() -> Stdio; 3]) {
        if !self.said[0] {
            self.std.stdin(stdin());
        }
        if !self.said[1] {
            self.std.stdout(stdout());
        }
        if !self.said[2] {
            self.std.stderr(stderr());
        }
    }
}

/// What std's command is to read and write has to be said again: [`Command::output`] takes no notice of what
/// was said there.
impl From<process::Command> for Command {
    fn from(std: process::Command) -> Self {
        Command { std, said: [false; 3], kill_on_drop: false }
    }
}
