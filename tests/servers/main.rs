//! Runs the examples that are servers, and has programs talk to them that were not written for that: curl, wrk,
//! nc, redis-cli, openssl. Without one of these its tests are skipped, and say so, unless
//! `SWITCHGRASS_NEED_TOOLS` is set: then they fail.
//!
//! `line_servers` asks four of them the same, and needs no programs.

mod chat;
mod http_server;
mod kv_server;
mod line_servers;
#[path = "../programs/mod.rs"]
mod programs;
mod proxy;
mod tls_server;

use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

/// No answer takes as long, on however busy a machine.
const LONG: Duration = Duration::from_secs(300);

/// An example that serves, until this is dropped.
struct Server {
    child: Child,
    address: SocketAddr,
    /// Kept open: what it prints need not be read, but can be written.
    output: BufReader<ChildStdout>,
}

impl Server {
    /// Starts it with an address and `more` as its arguments, and reads where it listens.
    #[track_caller]
    fn start(example: &str, more: &[&str]) -> Self {
        let mut command = programs::command(example);
        command.arg("127.0.0.1:0").args(more);
        Self::run(example, &mut command)
    }

    #[track_caller]
    fn run(example: &str, command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("an example can be run");
        let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut line = String::new();
        output.read_line(&mut line).expect("it prints text");
        let address = line.strip_prefix("listening at ").and_then(|rest| rest.trim().parse().ok());
        let address = address.unwrap_or_else(|| panic!("{example} began with {line:?}"));
        Server { child, address, output }
    }

    fn port(&self) -> String {
        self.address.port().to_string()
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(LONG)).expect("a limit");
        stream.set_write_timeout(Some(LONG)).expect("a limit");
        stream
    }

    /// Sends bytes, and nothing after them, and reads what comes until the end.
    fn tell(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        // It may have hung up in the middle of them.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        read_all(stream)
    }

    /// Whether it still runs.
    fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("it can be asked").is_none()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already, which is for the test to find out.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What comes until the end. That the connection was reset is an end as well.
fn read_all(mut stream: TcpStream) -> String {
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Err(error) if error.kind() != io::ErrorKind::ConnectionReset => panic!("{error}: {all:?}"),
        _ => String::from_utf8_lossy(&all).into_owned(),
    }
}

/// A program of the system, given five minutes.
fn tool(name: &str) -> Option<Command> {
    let path = env::var_os("PATH").unwrap_or_default();
    let known = env::split_paths(&path).any(|folder| folder.join(name).is_file());
    if !known {
        let needed = env::var_os("SWITCHGRASS_NEED_TOOLS").is_some();
        assert!(!needed, "there is no {name}: install it, or unset SWITCHGRASS_NEED_TOOLS");
        // Past what catches the output of tests that pass.
        let _ = writeln!(io::stderr(), "!!! SKIPPED: no {name}");
        return None;
    }
    let mut command = Command::new("timeout");
    command.args(["--kill-after=1", "300", name]);
    Some(command)
}

/// What a command prints. It has to end well.
#[track_caller]
fn output(command: &mut Command) -> String {
    let output = command.output().expect("it can be run");
    let [text, errors] =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success(), "{command:?}: {}\n{text}\n{errors}", output.status);
    text
}

/// Gives a command its input, and returns what it prints.
#[track_caller]
fn fed(command: &mut Command, input: &str) -> String {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("it can be run");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it can be waited for");
    assert!(output.status.success(), "{command:?}: {}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}
