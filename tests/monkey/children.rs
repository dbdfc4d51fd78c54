//! Children.

#![allow(clippy::zombie_processes, reason = "they are waited for by other means than std's")]

use crate::promises::same;
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

/// A child that tells nobody of its end, and ends a while later.
fn silent_child(code: c_int) -> pid_t {
    // SAFETY: the child is a copy that sleeps, and ends.
    unsafe {
        match libc::syscall(libc::SYS_clone, 0, 0, 0, 0, 0) {
            0 => {
                libc::usleep(BLOCK.as_micros() as u32);
                libc::_exit(code)
            }
            child => child as pid_t,
        }
    }
}

/// As `waitpid`, with what has become of the child or of the call.
fn waited(pid: pid_t, options: c_int) -> (pid_t, c_int) {
    let mut status = 0;
    // SAFETY: a place for the status.
    let got = unsafe { libc::waitpid(pid, &mut status, options) };
    let error = Error::last_os_error().raw_os_error().unwrap_or(0);
    (got, if got < 0 { error } else { libc::WEXITSTATUS(status) })
}

/// There is a child of another thread, which has ended.
#[test]
fn the_children_of_its_own_thread_are_waited_for_alone() {
    same(
        || {
            // A thread is there for as long as the child is its.
            let (end, ended) = std::sync::mpsc::channel::<()>();
            let (tell, told) = std::sync::mpsc::channel();
            let thread = std::thread::spawn(move || {
                let child = Command::new("true").spawn().unwrap().id() as pid_t;
                tell.send(child).unwrap();
                let _ = ended.recv();
                waited(child, 0).0 == child
            });
            let other = told.recv().unwrap();
            let own = late_child(7).id() as pid_t;
            let any = waited(-1, libc::__WNOTHREAD);
            let none = waited(-1, libc::__WNOTHREAD);
            let by_pid = waited(other, libc::__WNOTHREAD);
            let own_by_pid = late_child(8).id() as pid_t;
            let second = waited(own_by_pid, libc::__WNOTHREAD);
            drop(end);
            let is_left = thread.join().unwrap();
            ((any.0 == own, any.1), none, by_pid, (second.0 == own_by_pid, second.1), is_left)
        },
        ((true, 7), (-1, libc::ECHILD), (-1, libc::ECHILD), (true, 8), true),
    );
}

#[test]
fn children_that_send_no_signal_are_waited_for_by_who_asks_for_them() {
    same(
        || {
            let child = silent_child(3);
            let plain = waited(child, 0);
            let by_pid = waited(child, libc::__WCLONE);
            let child_2 = silent_child(4);
            let by_all = waited(child_2, libc::__WALL);
            let child_3 = silent_child(5);
            let any = waited(-1, libc::__WCLONE);
            let child_4 = silent_child(6);
            let any_at_all = waited(-1, libc::__WALL);
            let own = [by_pid, by_all, any, any_at_all];
            let is_own = own.map(|one| one.0) == [child, child_2, child_3, child_4];
            (plain, is_own, own.map(|one| one.1))
        },
        ((-1, libc::ECHILD), true, [3, 4, 5, 6]),
    );
}

/// A tracer waits for what is no end.
#[test]
fn a_child_that_stops_for_its_tracer_is_waited_for() {
    same(
        || {
            // SAFETY: the child stops when its parent waits for that, and ends after.
            let child = unsafe {
                match libc::fork() {
                    0 => {
                        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                        libc::usleep(BLOCK.as_micros() as u32);
                        libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0);
                        libc::raise(libc::SIGSTOP);
                        libc::_exit(3)
                    }
                    child => child,
                }
            };
            let mut status = 0;
            // SAFETY: a place for the status.
            let stopped = unsafe { libc::waitpid(child, &mut status, libc::__WALL) };
            let is_stopped = libc::WIFSTOPPED(status);
            // SAFETY: no memory is involved.
            unsafe { libc::ptrace(libc::PTRACE_CONT, child, 0, 0) };
            let ended = waited(child, libc::__WALL);
            (stopped == child, is_stopped, ended.0 == child, ended.1)
        },
        (true, true, true, 3),
    );
}
