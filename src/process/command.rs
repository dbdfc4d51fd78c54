#![forbid(unsafe_code)]
//! Configures and runs programs.

use super::child::Child;
use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{self, CommandArgs, CommandEnvs, ExitStatus, Output, Stdio};

/// A builder for child processes, like [`std::process::Command`].
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
/// A program with a timeout, after which it is killed:
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
    /// Whether stdin, stdout and stderr were set through this type.
    is_set: [bool; 3],
    kill_on_drop: bool,
}

impl Command {
    /// Creates a command that runs `program`, which is searched for in `PATH`.
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

    /// Sets argument 0, the name by which the program was called.
    pub fn arg0(&mut self, arg: impl AsRef<OsStr>) -> &mut Self {
        self.std.arg0(arg);
        self
    }

    /// Sets an environment variable.
    pub fn env(&mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        self.std.env(key, value);
        self
    }

    /// Sets environment variables.
    pub fn envs(
        &mut self,
        variables: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>,
    ) -> &mut Self {
        self.std.envs(variables);
        self
    }

    /// Removes an environment variable.
    pub fn env_remove(&mut self, key: impl AsRef<OsStr>) -> &mut Self {
        self.std.env_remove(key);
        self
    }

    /// Removes all environment variables.
    pub fn env_clear(&mut self) -> &mut Self {
        self.std.env_clear();
        self
    }

    /// Sets the working directory.
    pub fn current_dir(&mut self, folder: impl AsRef<Path>) -> &mut Self {
        self.std.current_dir(folder);
        self
    }

    /// Sets the standard input. Inherited by default; empty for [`Command::output`].
    pub fn stdin(&mut self, stdin: impl Into<Stdio>) -> &mut Self {
        self.std.stdin(stdin);
        self.is_set[0] = true;
        self
    }

    /// Sets the standard output. Inherited by default; a pipe for [`Command::output`].
    pub fn stdout(&mut self, stdout: impl Into<Stdio>) -> &mut Self {
        self.std.stdout(stdout);
        self.is_set[1] = true;
        self
    }

    /// Sets the standard error. Inherited by default; a pipe for [`Command::output`].
    pub fn stderr(&mut self, stderr: impl Into<Stdio>) -> &mut Self {
        self.std.stderr(stderr);
        self.is_set[2] = true;
        self
    }

    /// Sets the user id of the child.
    pub fn uid(&mut self, id: u32) -> &mut Self {
        self.std.uid(id);
        self
    }

    /// Sets the group id of the child.
    pub fn gid(&mut self, id: u32) -> &mut Self {
        self.std.gid(id);
        self
    }

    /// Sets the process group of the child.
    ///
    /// 0 makes a new group, which does not receive the terminal's Ctrl-C.
    pub fn process_group(&mut self, id: i32) -> &mut Self {
        self.std.process_group(id);
        self
    }

    /// Sets whether dropping a [`Child`] kills its process.
    ///
    /// The process is then killed by `SIGKILL`, unless it has ended.
    ///
    /// As in std, the default is `false`.
    pub fn kill_on_drop(&mut self, kill: bool) -> &mut Self {
        self.kill_on_drop = kill;
        self
    }

    /// Returns the program.
    pub fn get_program(&self) -> &OsStr {
        self.std.get_program()
    }

    /// Returns the arguments.
    pub fn get_args(&self) -> CommandArgs<'_> {
        self.std.get_args()
    }

    /// Returns the environment variables that were set, or removed (`None`).
    pub fn get_envs(&self) -> CommandEnvs<'_> {
        self.std.get_envs()
    }

    /// Returns the working directory, if one was set.
    pub fn get_current_dir(&self) -> Option<&Path> {
        self.std.get_current_dir()
    }

    /// Returns the underlying std command.
    pub fn as_std(&self) -> &process::Command {
        &self.std
    }

    /// Returns the underlying std command, to set what this type does not offer.
    ///
    /// Set stdin, stdout and stderr through this type instead: [`Command::output`] ignores what is set in
    /// the std command.
    pub fn as_std_mut(&mut self) -> &mut process::Command {
        &mut self.std
    }

    /// Starts the program.
    ///
    /// # Errors
    ///
    /// Those of [`std::process::Command::spawn`]: if there is no such program, no process can be created,
    /// or no descriptors are left.
    ///
    /// # Switching
    ///
    /// Never switches: the thread blocks until the program has started or failed to start.
    pub fn spawn(&mut self) -> io::Result<Child> {
        Child::new(self.std.spawn()?, self.kill_on_drop)
    }

    /// Runs the program, and waits until it has ended.
    ///
    /// # Errors
    ///
    /// Those of [`Command::spawn`].
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: other coroutines run while this one waits.
    ///
    /// # Cancellation
    ///
    /// The child is killed, since no handle of it is left. Its own children are not.
    #[track_caller]
    pub fn status(&mut self) -> io::Result<ExitStatus> {
        Child::new(self.std.spawn()?, true)?.wait()
    }

    /// Runs the program, waits until it has ended, and returns its output.
    ///
    /// # Errors
    ///
    /// Those of [`Command::spawn`].
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: other coroutines run while this one waits.
    ///
    /// # Cancellation
    ///
    /// The output is lost, and the child is killed, since no handle of it is left. Its own children are
    /// not.
    #[track_caller]
    pub fn output(&mut self) -> io::Result<Output> {
        self.set_defaults([Stdio::null, Stdio::piped, Stdio::piped]);
        let child = self.std.spawn();
        self.set_defaults([Stdio::inherit, Stdio::inherit, Stdio::inherit]);
        Child::new(child?, true)?.wait_with_output()
    }

    /// Sets those of stdin, stdout and stderr that the user has not set.
    fn set_defaults(&mut self, [stdin, stdout, stderr]: [fn() -> Stdio; 3]) {
        if !self.is_set[0] {
            self.std.stdin(stdin());
        }
        if !self.is_set[1] {
            self.std.stdout(stdout());
        }
        if !self.is_set[2] {
            self.std.stderr(stderr());
        }
    }
}

/// Converts a std command.
///
/// Set stdin, stdout and stderr again after the conversion: [`Command::output`] ignores what was set in
/// std's command.
impl From<process::Command> for Command {
    fn from(std: process::Command) -> Self {
        Command { std, is_set: [false; 3], kill_on_drop: false }
    }
}
