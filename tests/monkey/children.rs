//! Children.

#![allow(clippy::zombie_processes, reason = "they are waited for by other means than std's")]

use crate::{BLOCK, patched, row};
use libc::{c_int, pid_t, siginfo_t};
use std::cell::Cell;
use std::io::{Error, PipeWriter, Read, Write, pipe};
use std::mem::zeroed;
use std::process::{Child, Command, Stdio};
use std::ptr::null_mut;
use std::rc::Rc;
use std::time::Duration;
use switchgrass::coroutine::join_all;
use switchgrass::{JoinError, spawn, timeout, yield_now};

/// A child that ends a while later.
fn late_child(code: c_int) -> Child {
    let seconds = (BLOCK + Duration::from_millis(10)).as_secs_f32();
    Command::new("sh").args(["-c", &format!("sleep {seconds}; exit {code}")]).spawn().unwrap()
}

/// A child that ends when what is returned beside it is dropped.
fn held_child(code: c_int) -> (pid_t, PipeWriter) {
    let (reader, writer) = pipe().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", &format!("read line; exit {code}")]).stdin(reader);
    (command.spawn().unwrap().id() as pid_t, writer)
}

#[test]
fn waitpid() {
    row(|| {
        let child = late_child(7);
        let mut status = -1;
        // SAFETY: a place for the status.
        let pid = unsafe { libc::waitpid(child.id() as pid_t, &mut status, 0) };
        (pid == child.id() as pid_t, libc::WEXITSTATUS(status))
    });
}

#[test]
fn wait4() {
    row(|| {
        let child = late_child(7);
        let mut status = -1;
        // SAFETY: places for the answers.
        unsafe {
            let mut usage: libc::rusage = zeroed();
            let pid = libc::wait4(child.id() as pid_t, &mut status, 0, &mut usage);
            (pid == child.id() as pid_t, libc::WEXITSTATUS(status), usage.ru_maxrss > 0)
        }
    });
}

#[test]
fn waitid() {
    row(|| {
        let child = late_child(7);
        // SAFETY: a place for the answer.
        unsafe {
            let mut about: siginfo_t = zeroed();
            // It is left as it is, and taken.
            for options in [libc::WEXITED | libc::WNOWAIT, libc::WEXITED] {
                assert_eq!(libc::waitid(libc::P_PID, child.id(), &mut about, options), 0);
                assert_eq!(about.si_pid(), child.id() as pid_t);
            }
            let again = libc::waitid(libc::P_PID, child.id(), null_mut(), libc::WEXITED);
            (about.si_status(), again, Error::last_os_error().raw_os_error())
        }
    });
}

#[test]
fn child_wait() {
    row(|| late_child(7).wait().unwrap());
}

#[test]
fn command_output() {
    row(|| {
        let seconds = (BLOCK + Duration::from_millis(10)).as_secs_f32();
        let script = format!("echo first; sleep {seconds}; echo second >&2; exit 3");
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert_eq!((output.stdout, output.stderr), (b"first\n".to_vec(), b"second\n".to_vec()));
        output.status
    });
}

/// What the crate `libc` does not declare.
mod c {
    use libc::{c_int, pid_t, rusage};

    unsafe extern "C" {
        pub(super) fn wait3(status: *mut c_int, options: c_int, usage: *mut rusage) -> pid_t;
    }
}

/// Eight wait for any child, and each gets one. First a plain thread does so.
fn wait_for_any(call: impl Fn(&mut c_int) -> pid_t + Copy + Send + 'static) {
    patched(move || {
        let alone = late_child(7).id() as pid_t;
        let waited = std::thread::spawn(move || {
            let mut status = -1;
            (call(&mut status), libc::WEXITSTATUS(status))
        });
        assert_eq!(waited.join().unwrap(), (alone, 7));
        let begun = Rc::new(Cell::new(0));
        let waiting = (0..8).map(|_| {
            let begun = Rc::clone(&begun);
            spawn(move || {
                begun.set(begun.get() + 1);
                let mut status = -1;
                (call(&mut status), libc::WEXITSTATUS(status))
            })
        });
        let (mut children, holders): (Vec<_>, Vec<_>) = (0..8).map(held_child).unzip();
        let waiting: Vec<_> = waiting.collect();
        yield_now();
        assert_eq!(begun.get(), 8);
        assert!(waiting.iter().all(|one| !one.is_finished()));
        drop(holders);
        let mut taken: Vec<_> =
            join_all(waiting).into_iter().map(|waited| waited.unwrap()).collect();
        taken.sort_by_key(|(_, code)| *code);
        children.reverse();
        for (number, (pid, code)) in taken.into_iter().enumerate() {
            assert_eq!((Some(pid), code), (children.pop(), number as c_int));
        }
        // There are no more.
        assert_eq!(spawn(move || call(&mut 0)).join().unwrap(), -1);
        assert_eq!(Error::last_os_error().raw_os_error(), Some(libc::ECHILD));
    });
}

#[test]
fn wait() {
    // SAFETY: a place for the status.
    wait_for_any(|status| unsafe { libc::wait(status) });
}

#[test]
fn wait3() {
    // SAFETY: a place for the status.
    wait_for_any(|status| unsafe { c::wait3(status, 0, null_mut()) });
}

#[test]
fn waitpid_of_a_group() {
    // SAFETY: a place for the status.
    wait_for_any(|status| unsafe { libc::waitpid(0, status, 0) });
}

#[test]
fn pclose() {
    row(|| {
        let seconds = (BLOCK + Duration::from_millis(10)).as_secs_f32();
        let script = std::ffi::CString::new(format!("sleep {seconds}; exit 3")).unwrap();
        // SAFETY: two strings, and what was opened.
        unsafe { libc::WEXITSTATUS(libc::pclose(libc::popen(script.as_ptr(), c"r".as_ptr()))) }
    });
}

#[test]
fn fifty_children_that_end_at_once() {
    patched(|| {
        let (reader, holder) = pipe().unwrap();
        let waiting = (0..50).map(|number| {
            let mut command = Command::new("sh");
            command.args(["-c", &format!("read line; exit {number}")]);
            let mut child = command.stdin(reader.try_clone().unwrap()).spawn().unwrap();
            spawn(move || child.wait().unwrap().code())
        });
        let waiting: Vec<_> = waiting.collect();
        yield_now();
        assert!(waiting.iter().all(|one| !one.is_finished()));
        drop((reader, holder));
        for (number, waited) in join_all(waiting).into_iter().enumerate() {
            assert_eq!(waited.unwrap(), Some(number as c_int));
        }
    });
}

/// What a child says comes in parts, and it is told something.
#[test]
fn a_child_that_is_talked_to() {
    patched(|| {
        let talking = (0..8).map(|number| {
            spawn(move || {
                let mut cat = Command::new("cat")
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped())
                    .spawn()
                    .unwrap();
                let text = vec![b'0' + number; 300_000];
                let mut stdin = cat.stdin.take().unwrap();
                let bytes = text.clone();
                let writing = spawn(move || stdin.write_all(&bytes).unwrap());
                let output = cat.wait_with_output().unwrap();
                writing.join().unwrap();
                assert!(output.status.success() && output.stdout == text);
            })
        });
        for result in join_all(talking.collect::<Vec<_>>()) {
            result.unwrap();
        }
    });
}

#[test]
fn waits_that_are_cut_short() {
    patched(|| {
        let (pid, holder) = held_child(3);
        let wait = move |pid: pid_t| {
            // SAFETY: without a place for the status.
            let result = unsafe { libc::waitpid(pid, null_mut(), 0) };
            (result, Error::last_os_error().raw_os_error())
        };
        for who in [pid, -1] {
            let mut told = None;
            timeout(Duration::from_millis(5), || told = Some(wait(who))).unwrap_err();
            assert_eq!(told, Some((-1, Some(libc::ECANCELED))));
            let waiting = spawn(move || {
                assert_eq!(wait(who), (-1, Some(libc::ECANCELED)));
                yield_now();
            });
            yield_now();
            waiting.kill();
            assert!(matches!(waiting.join(), Err(JoinError::Killed)));
        }
        // It is still there to be waited for, and by nobody else.
        drop(holder);
        assert_eq!(spawn(move || wait(pid).0).join().unwrap(), pid);
        assert_eq!(spawn(move || wait(pid)).join().unwrap(), (-1, Some(libc::ECHILD)));
    });
}

/// One that has ended already, one that there is not, and a look.
#[test]
fn waits_that_do_not_wait() {
    patched(|| {
        let (pid, holder) = held_child(3);
        let mut status = 0;
        // SAFETY: a place for the status.
        assert_eq!(unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) }, 0);
        drop(holder);
        let mut line = String::new();
        let mut other = Command::new("echo").arg("x").stdout(Stdio::piped()).spawn().unwrap();
        other.stdout.take().unwrap().read_to_string(&mut line).unwrap();
        assert_eq!(other.wait().unwrap().code(), Some(0));
        // SAFETY: a place for the status.
        assert_eq!(unsafe { libc::waitpid(1, &mut status, 0) }, -1);
        assert_eq!(Error::last_os_error().raw_os_error(), Some(libc::ECHILD));
        // SAFETY: a place for the status.
        assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
        assert_eq!(libc::WEXITSTATUS(status), 3);
    });
}
