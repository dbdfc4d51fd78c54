//! Streams of C's, where what libc does around a read matters. Each script is run by a plain thread, and then by
//! a coroutine.

use crate::patched;
use libc::{FILE, SIGUSR1, c_char, c_int};
use std::ffi::CStr;
use std::fmt::Debug;
use std::io::{Error, PipeWriter, Read, Write, pipe};
use std::mem::zeroed;
use std::os::fd::IntoRawFd;
use std::os::unix::net::UnixStream;
use std::ptr::{null, null_mut};
use std::thread;
use std::time::Duration;
use switchgrass::{spawn, timeout};

/// What the crate `libc` does not declare.
mod c {
    use libc::{FILE, c_char, size_t, ssize_t};

    unsafe extern "C" {
        pub(super) static stdin: *mut FILE;
        pub(super) static stdout: *mut FILE;
        pub(super) fn getline(
            line: *mut *mut c_char,
            room: *mut size_t,
            file: *mut FILE,
        ) -> ssize_t;
    }
}

fn as_on_a_thread<R>(script: impl Fn() -> R + Copy + Send + 'static)
where
    R: Debug + PartialEq + Send + 'static,
{
    patched(move || {
        let on_a_thread = thread::spawn(script).join().unwrap();
        let task = spawn(script);
        let result = timeout(Duration::from_secs(20), move || task.join().unwrap());
        assert_eq!(result.expect("it waits for nothing"), on_a_thread);
    });
}

/// A stream that reads from a pipe.
fn stream() -> (*mut FILE, PipeWriter) {
    let (reader, writer) = pipe().unwrap();
    // SAFETY: a descriptor that is the stream's from now on.
    (unsafe { libc::fdopen(reader.into_raw_fd(), c"r".as_ptr()) }, writer)
}

fn line_of(file: *mut FILE) -> Option<String> {
    let mut line = [0 as c_char; 64];
    // SAFETY: an open stream, and so much room.
    let got = unsafe { libc::fgets(line.as_mut_ptr(), 64, file) };
    // SAFETY: a string was read to there.
    (!got.is_null()).then(|| unsafe { CStr::from_ptr(got) }.to_str().unwrap().into())
}

fn getline(file: *mut FILE) -> isize {
    let (mut line, mut room) = (null_mut(), 0);
    // SAFETY: an open stream, and places; what was allocated is freed.
    unsafe {
        let got = c::getline(&mut line, &mut room, file);
        let error = *libc::__errno_location();
        libc::free(line.cast());
        *libc::__errno_location() = error;
        got
    }
}

/// Writes parts, one a while after the other.
fn slowly(mut writer: PipeWriter, parts: [&'static [u8]; 2]) {
    thread::spawn(move || {
        for part in parts {
            thread::sleep(Duration::from_millis(20));
            writer.write_all(part).unwrap();
        }
    });
}

/// It is put before what the buffer has left, which is there without an event.
#[test]
fn what_lies_behind_a_byte_that_was_pushed_back_is_not_waited_for() {
    as_on_a_thread(|| {
        let (file, mut writer) = stream();
        writer.write_all(b"xyz\nend").unwrap();
        // SAFETY: an open stream.
        let first = unsafe { (libc::fgetc(file), libc::ungetc(b'Q'.into(), file)) };
        // SAFETY: an open stream.
        let next = unsafe { [libc::fgetc(file), libc::fgetc(file)] };
        // SAFETY: an open stream.
        let again = unsafe { libc::ungetc(b'R'.into(), file) };
        let line = line_of(file);
        assert_eq!(line.as_deref(), Some("Rz\n"));
        (first, next, again, line)
    });
}

#[test]
fn a_question_is_sent_before_its_answer_is_waited_for() {
    as_on_a_thread(|| {
        let (here, mut there) = UnixStream::pair().unwrap();
        let peer = thread::spawn(move || {
            let mut question = [0; 4];
            there.read_exact(&mut question).unwrap();
            there.write_all(b"answer\n").unwrap();
            question
        });
        // SAFETY: a descriptor that is the stream's from now on, and a string.
        let file = unsafe {
            let file = libc::fdopen(here.into_raw_fd(), c"r+".as_ptr());
            assert!(libc::fputs(c"ask\n".as_ptr(), file) >= 0);
            file
        };
        let answer = line_of(file);
        assert_eq!(answer.as_deref(), Some("answer\n"));
        (answer, peer.join().unwrap())
    });
}

/// Standard input and standard output are a terminal's.
#[test]
fn a_prompt_is_seen_before_the_answer_is_waited_for() {
    as_on_a_thread(|| {
        let (mut user, mut terminal) = (0, 0);
        // SAFETY: places for the numbers, which are closed at the end; streams of libc's own.
        unsafe {
            assert_eq!(libc::openpty(&mut user, &mut terminal, null_mut(), null(), null()), 0);
            let before = [libc::dup(0), libc::dup(1)];
            assert_eq!((libc::dup2(terminal, 0), libc::dup2(terminal, 1)), (0, 1));
            libc::setvbuf(c::stdin, null_mut(), libc::_IOLBF, 1024);
            libc::setvbuf(c::stdout, null_mut(), libc::_IOLBF, 1024);
            libc::fputs(c"name? ".as_ptr(), c::stdout);
            let types = thread::spawn(move || {
                let mut prompt = libc::pollfd { fd: user, events: libc::POLLIN, revents: 0 };
                let is_seen = libc::poll(&mut prompt, 1, 2000);
                libc::write(user, c"bob\n".as_ptr().cast(), 4);
                is_seen
            });
            let line = line_of(c::stdin);
            let is_seen = types.join().unwrap();
            assert_eq!((libc::dup2(before[0], 0), libc::dup2(before[1], 1)), (0, 1));
            assert_eq!((line.as_deref(), is_seen), (Some("bob\n"), 1));
            (line, is_seen)
        }
    });
}

/// It is of a call before, and this one reads all.
#[test]
fn an_old_error_of_a_stream_loses_no_last_line() {
    as_on_a_thread(|| {
        let (file, writer) = stream();
        // SAFETY: an open stream, which is not for writing, and a string.
        let failed = unsafe {
            libc::fputs(c"x".as_ptr(), file);
            libc::ferror(file) != 0
        };
        slowly(writer, [b"la", b"st"]);
        let line = line_of(file);
        assert_eq!((failed, line.as_deref()), (true, Some("last")));
        (failed, line)
    });
}

extern "C" fn nothing(_: c_int) {}

/// Has a handler without `SA_RESTART` run on this thread in a while.
fn interrupt_soon() -> thread::JoinHandle<()> {
    // SAFETY: all-zero is an action, without flags.
    let me = unsafe {
        let mut action: libc::sigaction = zeroed();
        action.sa_sigaction = nothing as *const () as usize;
        assert_eq!(libc::sigaction(SIGUSR1, &action, null_mut()), 0);
        libc::pthread_self()
    };
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        // SAFETY: the thread lives until this one has ended.
        unsafe { libc::pthread_kill(me, SIGUSR1) };
    })
}

#[test]
fn what_getline_has_read_before_a_signal_is_not_lost() {
    as_on_a_thread(|| {
        let (file, mut writer) = stream();
        writer.write_all(b"part").unwrap();
        let signal = interrupt_soon();
        let first = (getline(file), Error::last_os_error().raw_os_error());
        signal.join().unwrap();
        writer.write_all(b"more\n").unwrap();
        // It refuses to go on after an error.
        let second = getline(file);
        assert_eq!((first, second), ((4, Some(libc::EINTR)), -1));
        (first, second)
    });
}
