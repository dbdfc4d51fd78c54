//! Runs the examples of the feature `monkey` and looks at what they print. A tool that one of them needs and that
//! is not there has its test skipped, which is said, unless `SWITCHGRASS_NEED_TOOLS` is set: then it fails.

#[path = "programs/mod.rs"]
mod programs;

use std::env;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Output, Stdio};

/// An example, given two minutes.
fn command(name: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=1", "120"]).arg(programs::command(name).get_program());
    command
}

/// Runs an example that ends well, and returns the lines that it prints.
#[track_caller]
fn lines(name: &str, arguments: &[&str]) -> Vec<String> {
    let output = command(name).args(arguments).output().expect("an example can be run");
    let Output { status, stdout, stderr } = output;
    assert!(status.success(), "{name}: {status}\n{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).expect("UTF-8").lines().map(str::to_owned).collect()
}

/// A time in milliseconds at the end of a line.
#[track_caller]
fn millis(line: &str, begin: &str) -> u64 {
    let rest = line.strip_prefix(begin).and_then(|rest| rest.strip_suffix(" ms"));
    rest.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{line:?}"))
}

/// All pages come, and some of them while others do: together they take less than the sum.
#[test]
fn fetch_gets_all_pages_at_once() {
    let lines = lines("fetch", &[]);
    let (times, pages) =
        lines.split_last_chunk::<2>().map(|(pages, times)| (times, pages)).unwrap();
    let mut sizes: Vec<u64> = pages
        .iter()
        .map(|line| {
            let (size, url) = line.split_once(" bytes from http://127.0.0.1:").expect("a page");
            let number: u64 = url.rsplit('/').next().unwrap().parse().unwrap();
            assert_eq!(size.parse(), Ok(number * 1000));
            number
        })
        .collect();
    sizes.sort_unstable();
    assert_eq!(sizes, (1..=20).collect::<Vec<_>>());
    let together = millis(&times[0], "20 pages in ");
    let one_by_one = millis(&times[1], "one after the other: ");
    assert!(together >= 200 && one_by_one >= 20 * 200, "{times:?}");
    // Each takes as long as all at most, which is so if one waits for the other, too.
    assert!(together * 2 < one_by_one, "{times:?}");
}

#[test]
fn fetch_says_what_it_does_not_get() {
    // Nobody listens at port 1.
    let lines = lines("fetch", &["http://127.0.0.1:1/"]);
    assert!(lines[0].starts_with("nothing from http://127.0.0.1:1/: "), "{lines:?}");
}

#[test]
fn std_echo_server_serves_thousands_on_one_thread() {
    let lines = lines("std_echo_server", &[]);
    let count: usize = lines[0].split(' ').next().unwrap().parse().unwrap();
    assert!(count > 100, "{lines:?}");
    assert_eq!(lines[0], format!("{count} connections at once, on one thread"));
    assert_eq!(lines[1], format!("{count} of {count} clients got back what they sent"));
}

#[test]
fn std_echo_server_serves_others() {
    let mut command = programs::command("std_echo_server");
    let mut server = command.arg("127.0.0.1:0").stdout(Stdio::piped()).spawn().expect("it runs");
    let mut line = String::new();
    let mut output = io::BufReader::new(server.stdout.take().expect("a pipe"));
    io::BufRead::read_line(&mut output, &mut line).expect("UTF-8");
    let address = line.trim().strip_prefix("listening at ").expect("its address");
    let [mut first, mut second] = [(); 2].map(|()| TcpStream::connect(address).unwrap());
    for (stream, text) in [(&mut second, "second"), (&mut first, "first")] {
        stream.write_all(text.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, text);
    }
    server.kill().unwrap();
    server.wait().unwrap();
}

#[test]
fn redis_fanout_has_fifty_clients_blocked_at_once() {
    let path = env::var_os("PATH").unwrap_or_default();
    if !env::split_paths(&path).any(|folder| folder.join("redis-server").is_file()) {
        let needed = env::var_os("SWITCHGRASS_NEED_TOOLS").is_some();
        assert!(!needed, "there is no redis-server: install it, or unset SWITCHGRASS_NEED_TOOLS");
        // Past what catches the output of tests that pass.
        let _ = writeln!(io::stderr(), "!!! SKIPPED: no redis-server");
        return;
    }
    let expected = [
        "50 clients are blocked at once, says the server",
        "the sum of what they got: 40425",
        "they counted from 1 to 50",
        "all of them read 50: true",
    ];
    assert_eq!(lines("redis_fanout", &[]), expected);
}

#[test]
fn redis_fanout_says_what_is_missing() {
    let output =
        programs::command("redis_fanout").env("PATH", "/nowhere").output().expect("it runs");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("redis-server cannot be run"), "{said}");
}

#[test]
fn patched_tour() {
    let expected = [
        "-- a hundred sleep at once",
        "100 have slept",
        "-- a mutex that is held across a sleep",
        "[1, 2, 3]",
        "-- a condition variable",
        "the gate is shut",
        "somebody opens it",
        "the gate is open",
        "-- a channel of std's, from another thread",
        "[1, 2, 3, 4, 5]",
        "-- a barrier: nobody passes before the last has come",
        "1 leader of 3",
        "-- five children that sleep 0.2 s each",
        "child 0",
        "child 1",
        "child 2",
        "child 3",
        "child 4",
        "-- park, and another thread that unparks",
        "another runs meanwhile",
        "unparked",
        "-- done",
    ];
    assert_eq!(lines("patched_tour", &[]), expected);
}
