//! Commands, their pipes and their results.

use crate::alone;
use std::cell::Cell;
use std::ffi::OsStr;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::rc::Rc;
use std::time::{Duration, Instant};
use switchgrass::process::{Command, Stdio};
use switchgrass::{sleep, spawn, timeout, yield_now};

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

/// {Popen test_exit}
#[test]
fn the_code_of_the_end_is_returned() {
    assert_eq!(shell("exit 10").status().unwrap().code(), Some(10));
    let mut child = shell("exit 10").spawn().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(10));
    // It is known, still.
    assert_eq!(child.wait().unwrap().code(), Some(10));
    assert_eq!(child.try_wait().unwrap().unwrap().code(), Some(10));
}

/// {Popen test_wait}
#[test]
fn others_run_while_one_waits_for_a_child() {
    let count = Rc::new(Cell::new(0));
    let counting = spawn({
        let count = Rc::clone(&count);
        move || {
            loop {
                sleep(Duration::from_millis(5));
                count.set(count.get() + 1);
            }
        }
    });
    assert!(shell("sleep 0.1").status().unwrap().success());
    assert!(count.get() > 2, "{}", count.get());
    counting.coroutine().kill();
}

/// {test_child_exception}
#[test]
fn a_program_that_is_not_there() {
    let error = Command::new("/there/is/no/such/program").spawn().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let error = Command::new("true").current_dir("/there/is/no/such/folder").status();
    assert_eq!(error.unwrap_err().kind(), ErrorKind::NotFound);
}

/// {test_check_output}: captures by default, and inherits by default, as std does.
#[test]
fn what_is_written_is_captured_by_output_only() {
    alone(|| {
        let mut command = shell("echo out; echo err >&2; cat");
        let output = command.output().unwrap();
        assert_eq!(output.stdout, b"out\n");
        assert_eq!(output.stderr, b"err\n");
        assert!(output.status.success());
        // The same command, begun otherwise, has pipes no more.
        let child = command.spawn().unwrap();
        assert!(child.stdin.is_none() && child.stdout.is_none() && child.stderr.is_none());
        assert!(child.wait_end().unwrap().success());
        // What was said stays said.
        command.stderr(Stdio::null());
        let output = command.output().unwrap();
        assert_eq!((&*output.stdout, &*output.stderr), (&b"out\n"[..], &b""[..]));
        assert_eq!(shell("exit 3").output().unwrap().status.code(), Some(3));
    });
}

#[test]
fn a_command_says_what_it_is() {
    let mut command = Command::new("sh");
    command.arg0("shell").args(["-c", "echo $0 $A $B $C; pwd"]).current_dir("/");
    command.env_clear().env("A", "1").envs([("B", "2"), ("C", "3")]).env_remove("C");
    assert_eq!(command.get_program(), "sh");
    assert!(command.get_args().eq(["-c", "echo $0 $A $B $C; pwd"]));
    let envs: Vec<_> = command.get_envs().collect();
    assert!(envs.contains(&(OsStr::new("A"), Some(OsStr::new("1")))), "{envs:?}");
    assert_eq!(command.get_current_dir(), Some("/".as_ref()));
    assert_eq!(command.as_std().get_program(), "sh");
    assert_eq!(command.output().unwrap().stdout, b"shell 1 2\n/\n");

    let mut std = std::process::Command::new("sh");
    std.arg("-c");
    let mut command = Command::from(std);
    command.as_std_mut().arg("echo hello");
    assert_eq!(command.output().unwrap().stdout, b"hello\n");
}

/// {test_communicate}: more than fits into any pipe, both ways at once, and an error output beside it.
#[test]
fn big_input_and_output_at_once() {
    let input: Vec<u8> = (0..4 << 20).map(|number| (number % 251) as u8).collect();
    let mut command = shell("head -c 1000000 /dev/zero >&2; cat");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let output = child.communicate(&input).unwrap();
    assert!(output.status.success());
    assert!(output.stdout == input);
    assert_eq!(output.stderr.len(), 1_000_000);
    assert!(child.stdin.is_none() && child.stdout.is_none() && child.stderr.is_none());

    let child = shell("head -c 1000000 /dev/zero >&2; head -c 2000000 /dev/zero")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.stdout.len(), output.stderr.len()), (2_000_000, 1_000_000));
}

/// {test_issue148}, {test_nonblock_removed}: a child that does not read is no error, and ends as it ends.
#[test]
fn input_that_is_not_read_is_no_error() {
    let mut child = shell("exec 0<&-; exit 4").stdin(Stdio::piped()).spawn().unwrap();
    let output = child.communicate(&vec![b'x'; 1 << 20]).unwrap();
    assert_eq!(output.status.code(), Some(4));
}

#[test]
#[should_panic(expected = "input was given, but stdin is not a pipe")]
fn input_without_a_pipe_is_a_mistake() {
    let mut child = Command::new("true").spawn().unwrap();
    let _ = child.communicate(b"x");
}

/// As std's: else it would wait for ever.
#[test]
fn to_wait_for_a_child_closes_what_it_reads() {
    let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    assert!(child.wait().unwrap().success());
    assert!(child.stdin.is_none());
    let child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    assert!(child.wait_with_output().unwrap().status.success());
    let mut cat = Command::new("cat");
    assert!(cat.stdin(Stdio::piped()).output().unwrap().status.success());
}

/// By a reference it stays open.
#[test]
fn several_wait_and_what_it_reads_stays_open() {
    let mut command = Command::new("cat");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let child = Rc::new(child);
    let all: Vec<_> = (0..5)
        .map(|_| {
            let child = Rc::clone(&child);
            spawn(move || child.wait_end().unwrap().code())
        })
        .collect();
    assert_eq!(child.wait_timeout(Duration::from_millis(10)).unwrap(), None);
    assert_eq!(all[0].coroutine().waits_for(), Some("Child::wait"));
    let mut stdin = stdin.unwrap();
    stdin.write_all(b"hello").unwrap();
    drop(stdin);
    let mut text = String::new();
    stdout.unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
    assert!(all.into_iter().all(|one| one.join().unwrap() == Some(0)));
}

/// {test_nonblock_removed}: the child's ends of its pipes block, as it expects; and so do those that are
/// handed on from one child to the next.
#[test]
fn no_child_sees_a_pipe_that_does_not_block() {
    // Octal 4000.
    let script = "cat /proc/self/fdinfo/0 /proc/self/fdinfo/1 /proc/self/fdinfo/2 | grep flags";
    let flags = |output: &[u8], count: usize| {
        let text = String::from_utf8_lossy(output);
        let flags: Vec<_> = text.lines().map(|line| line.trim_start_matches("flags:")).collect();
        assert_eq!(flags.len(), count, "{text}");
        let flags = flags.iter().map(|flags| i32::from_str_radix(flags.trim(), 8).unwrap());
        assert!(flags.into_iter().all(|flags| flags & libc::O_NONBLOCK == 0), "{text}");
    };
    // `cat` itself has the descriptors but for 1, which is a pipe of the shell's.
    let mut first = shell(script);
    first.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut first = first.spawn().unwrap();
    flags(&first.communicate(&[]).unwrap().stdout, 3);

    let mut first = Command::new("true").stdout(Stdio::piped()).spawn().unwrap();
    let mut second = shell(script);
    let output = second.stdin(first.stdout.take().unwrap()).output().unwrap();
    flags(&output.stdout, 3);
    first.wait().unwrap();
}

#[test]
fn the_output_of_one_child_is_the_input_of_the_next() {
    let mut first = shell("head -c 1000000 /dev/zero").stdout(Stdio::piped()).spawn().unwrap();
    let mut second = shell("wc -c");
    let output = second.stdin(first.stdout.take().unwrap()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "1000000");
    assert!(first.wait().unwrap().success());
}

/// {RunFunc test_timeout}: nobody else could end it.
#[test]
fn a_limit_on_status_or_output_ends_the_child() {
    alone(|| {
        let folder = tempfile("limit");
        for with_output in [false, true] {
            let mut command = shell("echo $$ >\"$PLACE\"; exec sleep 60");
            command.env("PLACE", &folder);
            let limit = Duration::from_millis(300);
            let result = timeout(limit, || {
                if with_output {
                    command.output().map(|output| output.status)
                } else {
                    command.status()
                }
            });
            assert!(result.is_err());
            let pid = fs::read_to_string(&folder).unwrap();
            let process = format!("/proc/{}", pid.trim());
            // Waited for, too.
            let start = Instant::now();
            while fs::exists(&process).unwrap() {
                assert!(start.elapsed() < Duration::from_secs(10), "{process} is there, still");
                sleep(Duration::from_millis(1));
            }
        }
        fs::remove_file(folder).unwrap();
    });
}

fn tempfile(name: &str) -> std::path::PathBuf {
    std::env::temp_dir().join(format!("switchgrass-{name}-{}", std::process::id()))
}

/// {test_exit_stops_communicating_greenlets_before_closing}: it can be closed, and nothing is left.
#[test]
fn one_who_is_killed_while_it_communicates_leaves_the_child_to_be_ended() {
    let mut command = Command::new("sleep");
    command.arg("60").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let input = vec![0; 1 << 20];
    let limit = Duration::from_millis(20);
    timeout(limit, || child.communicate(&input)).unwrap_err();
    assert!(child.stdin.is_none() && child.stdout.is_none() && child.stderr.is_none());
    assert_eq!(child.try_wait().unwrap(), None);
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));

    let child = command.spawn().unwrap();
    let id = child.id();
    let waiting = spawn(move || child.wait_with_output());
    yield_now();
    waiting.coroutine().kill();
    assert!(waiting.join().is_err());
    // It was let go of, as std does.
    assert!(fs::exists(format!("/proc/{id}")).unwrap());
    // SAFETY: a child of ours that was not waited for.
    unsafe { libc::kill(id as i32, libc::SIGKILL) };
}

/// {test_leak}
#[test]
fn no_descriptor_is_left_of_a_child() {
    alone(|| {
        let open = || fs::read_dir("/proc/self/fd").unwrap().count();
        let all = || {
            assert!(shell("echo x").output().unwrap().status.success());
            assert!(shell("exit 0").status().unwrap().success());
            let mut command = shell("exec sleep 60");
            command.kill_on_drop(true);
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let limit = Duration::from_millis(1);
            let mut child = command.spawn().unwrap();
            timeout(limit, || child.communicate(&[0; 1 << 17])).unwrap_err();
            let child = command.spawn().unwrap();
            timeout(limit, || child.wait_with_output()).unwrap_err();
            timeout(limit, || command.output()).unwrap_err();
            drop(command.spawn().unwrap());
            Command::new("/there/is/no/such/program").output().unwrap_err();
        };
        // Those that were killed are waited for, until there are no children left.
        let settle = || {
            let start = Instant::now();
            let one = || {
                let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
                // SAFETY: all-zero is a valid description of a child.
                let mut info = unsafe { std::mem::zeroed() };
                // SAFETY: room for such a description.
                unsafe { libc::waitid(libc::P_ALL, 0, &mut info, options) == 0 }
            };
            while one() {
                assert!(start.elapsed() < Duration::from_secs(10), "a child is left");
                sleep(Duration::from_millis(1));
            }
        };
        all();
        settle();
        let before = open();
        for _ in 0..5 {
            all();
        }
        settle();
        assert_eq!(open(), before);
    });
}
