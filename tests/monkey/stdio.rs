//! Streams of C's: what is read from them comes late, in parts, or not at all.

use crate::{BLOCK, patched, row};
use libc::{FILE, c_char, c_int};
use std::ffi::{CStr, CString};
use std::io::{Error, Write, pipe};
use std::os::fd::IntoRawFd;
use std::ptr::null_mut;
use std::thread;
use std::time::Duration;
use switchgrass::monkey::blocked_calls;
use switchgrass::watchdog::{Incident, Watchdog};
use switchgrass::{spawn, timeout, yield_now};

/// What the crate `libc` does not declare.
mod c {
    use libc::{FILE, c_char, c_int, c_void, size_t, ssize_t};

    unsafe extern "C" {
        pub(super) fn getc(file: *mut FILE) -> c_int;
        pub(super) fn getline(
            line: *mut *mut c_char,
            room: *mut size_t,
            file: *mut FILE,
        ) -> ssize_t;
        pub(super) fn getdelim(
            line: *mut *mut c_char,
            room: *mut size_t,
            end: c_int,
            file: *mut FILE,
        ) -> ssize_t;
        pub(super) fn __fgets_chk(
            place: *mut c_char,
            known: size_t,
            room: c_int,
            file: *mut FILE,
        ) -> *mut c_char;
        pub(super) fn fgetc_unlocked(file: *mut FILE) -> c_int;
        pub(super) fn getc_unlocked(file: *mut FILE) -> c_int;
        pub(super) fn getchar_unlocked() -> c_int;
        pub(super) fn __uflow(file: *mut FILE) -> c_int;
        pub(super) fn fgets_unlocked(
            place: *mut c_char,
            room: c_int,
            file: *mut FILE,
        ) -> *mut c_char;
        pub(super) fn __fgets_unlocked_chk(
            place: *mut c_char,
            known: size_t,
            room: c_int,
            file: *mut FILE,
        ) -> *mut c_char;
        pub(super) fn fread_unlocked(
            place: *mut c_void,
            size: size_t,
            count: size_t,
            file: *mut FILE,
        ) -> size_t;
        pub(super) fn __fread_unlocked_chk(
            place: *mut c_void,
            known: size_t,
            size: size_t,
            count: size_t,
            file: *mut FILE,
        ) -> size_t;
        pub(super) fn __fread_chk(
            place: *mut c_void,
            known: size_t,
            size: size_t,
            count: size_t,
            file: *mut FILE,
        ) -> size_t;
    }
}

/// A stream into which the parts come, one a while after the other.
fn stream(parts: &'static [&'static [u8]]) -> *mut FILE {
    let (reader, mut writer) = pipe().unwrap();
    thread::spawn(move || {
        for part in parts {
            thread::sleep(BLOCK + Duration::from_millis(2));
            writer.write_all(part).unwrap();
        }
    });
    // SAFETY: a descriptor that is the stream's from now on.
    unsafe { libc::fdopen(reader.into_raw_fd(), c"r".as_ptr()) }
}

const PARTS: &[&[u8]] = &[b"he", b"llo\nwor", b"ld\0!\nth", b"e end"];

/// All lines, by whatever reads one, and what is said at the end.
fn lines(read: impl Fn(*mut FILE) -> Option<Vec<u8>> + Copy + Send + 'static) {
    row(move || {
        let file = stream(PARTS);
        let all: Vec<_> = std::iter::from_fn(|| read(file)).map(|line| line.len()).collect();
        // SAFETY: an open stream.
        let end = unsafe { (libc::feof(file) != 0, libc::ferror(file), libc::fclose(file)) };
        assert_eq!(blocked_calls(), []);
        (all.first().copied(), all.iter().sum::<usize>(), all.len(), end)
    });
}

fn by_fgets(read: impl Fn(*mut c_char, c_int) -> *mut c_char) -> Option<Vec<u8>> {
    let mut line = [0 as c_char; 64];
    let got = read(line.as_mut_ptr(), 64);
    // SAFETY: a string was read to there.
    (!got.is_null()).then(|| unsafe { CStr::from_ptr(got) }.to_bytes().to_vec())
}

#[test]
fn fgets() {
    // SAFETY: an open stream, and so much room.
    lines(|file| by_fgets(|place, room| unsafe { libc::fgets(place, room, file) }));
}

#[test]
fn __fgets_chk() {
    // SAFETY: an open stream, and so much room.
    lines(|file| by_fgets(|place, room| unsafe { c::__fgets_chk(place, 64, room, file) }));
}

#[test]
fn fgets_unlocked() {
    // SAFETY: an open stream, and so much room.
    lines(|file| by_fgets(|place, room| unsafe { c::fgets_unlocked(place, room, file) }));
}

#[test]
fn __fgets_unlocked_chk() {
    // SAFETY: an open stream, and so much room.
    lines(|file| by_fgets(|place, room| unsafe { c::__fgets_unlocked_chk(place, 64, room, file) }));
}

/// With little room: a line comes in pieces.
#[test]
fn fgets_with_little_room() {
    // SAFETY: an open stream, and so much room.
    lines(|file| by_fgets(|place, _| unsafe { libc::fgets(place, 4, file) }));
}

fn by_getline(read: impl Fn(&mut *mut c_char, &mut usize) -> isize) -> Option<Vec<u8>> {
    let (mut line, mut room) = (null_mut(), 0);
    let got = read(&mut line, &mut room);
    let bytes = usize::try_from(got).ok().map(|length| {
        // SAFETY: so much was read.
        unsafe { std::slice::from_raw_parts(line.cast::<u8>(), length) }.to_vec()
    });
    // SAFETY: what was allocated.
    unsafe { libc::free(line.cast()) };
    bytes
}

#[test]
fn getline() {
    // SAFETY: an open stream, and places.
    lines(|file| by_getline(|line, room| unsafe { c::getline(line, room, file) }));
}

#[test]
fn getdelim() {
    let end = c_int::from(b'o');
    // SAFETY: an open stream, and places.
    lines(move |file| by_getline(|line, room| unsafe { c::getdelim(line, room, end, file) }));
}

fn by_byte(byte: c_int) -> Option<Vec<u8>> {
    u8::try_from(byte).ok().map(|byte| vec![byte])
}

#[test]
fn fgetc() {
    // SAFETY: an open stream.
    lines(|file| by_byte(unsafe { libc::fgetc(file) }));
}

#[test]
fn getc() {
    // SAFETY: an open stream.
    lines(|file| by_byte(unsafe { c::getc(file) }));
}

#[test]
fn fgetc_unlocked() {
    // SAFETY: an open stream.
    lines(|file| by_byte(unsafe { c::fgetc_unlocked(file) }));
}

#[test]
fn getc_unlocked() {
    // SAFETY: an open stream.
    lines(|file| by_byte(unsafe { c::getc_unlocked(file) }));
}

/// As the macro `getc_unlocked` does.
#[cfg(target_env = "gnu")]
#[test]
fn __uflow() {
    /// How a stream begins.
    #[repr(C)]
    struct Start {
        flags: c_int,
        next: *mut u8,
        end: *mut u8,
    }
    lines(|file| {
        // SAFETY: an open stream of glibc's.
        by_byte(unsafe {
            let start = file.cast::<Start>();
            if (*start).next < (*start).end {
                let byte = *(*start).next;
                (*start).next = (*start).next.add(1);
                byte.into()
            } else {
                c::__uflow(file)
            }
        })
    });
}

fn by_fread(read: impl Fn(*mut libc::c_void) -> usize) -> Option<Vec<u8>> {
    let mut all = [0_u8; 5];
    let got = read(all.as_mut_ptr().cast());
    (got > 0).then(|| vec![0; got])
}

#[test]
fn fread_unlocked() {
    // SAFETY: an open stream, and so much room.
    lines(|file| by_fread(|place| unsafe { c::fread_unlocked(place, 1, 5, file) }));
}

#[test]
fn __fread_unlocked_chk() {
    // SAFETY: an open stream, and so much room.
    lines(|file| by_fread(|place| unsafe { c::__fread_unlocked_chk(place, 5, 1, 5, file) }));
}

#[test]
fn fread() {
    lines(|file| {
        let mut all = [0_u16; 5];
        // SAFETY: an open stream, and so much room.
        let got = unsafe { libc::fread(all.as_mut_ptr().cast(), 2, 5, file) };
        (got > 0).then(|| vec![0; got])
    });
}

#[test]
fn __fread_chk() {
    lines(|file| {
        let mut all = [0_u8; 5];
        // SAFETY: an open stream, and so much room.
        let got = unsafe { c::__fread_chk(all.as_mut_ptr().cast(), 5, 1, 5, file) };
        (got > 0).then(|| vec![0; got])
    });
}

/// Standard input comes a byte after another, and a sibling runs meanwhile.
fn standard_input(next: fn() -> c_int) {
    patched(|| {
        let (reader, mut writer) = pipe().unwrap();
        // SAFETY: a descriptor that nobody needs any more.
        assert_eq!(unsafe { libc::dup2(reader.into_raw_fd(), 0) }, 0);
        let reading = spawn(move || [next(), next(), next()]);
        for byte in b"ok" {
            yield_now();
            assert!(!reading.is_finished());
            writer.write_all(&[*byte]).unwrap();
            thread::sleep(Duration::from_millis(2));
        }
        drop(writer);
        assert_eq!(reading.join().unwrap(), [b'o'.into(), b'k'.into(), libc::EOF]);
        assert_eq!(blocked_calls(), []);
    });
}

#[test]
fn getchar() {
    // SAFETY: no preconditions.
    standard_input(|| unsafe { libc::getchar() });
}

#[test]
fn getchar_unlocked() {
    // SAFETY: no preconditions.
    standard_input(|| unsafe { c::getchar_unlocked() });
}

/// What is read by variable arguments cannot be taken apart, and holds up its thread. That is told of.
#[test]
fn a_coroutine_that_waits_in_scanf_is_named_by_a_watchdog() {
    patched(|| {
        let (sender, told) = std::sync::mpsc::channel();
        let report = move |incident: &Incident| drop(sender.send(incident.coroutine().to_owned()));
        let watchdog = Watchdog::with_report(Duration::from_millis(20), report).unwrap();
        let (reader, mut writer) = pipe().unwrap();
        // SAFETY: a descriptor that is the stream's from now on.
        let file = unsafe { libc::fdopen(reader.into_raw_fd(), c"r".as_ptr()) };
        let answer = thread::spawn(move || {
            let named = told.recv_timeout(Duration::from_secs(20));
            writer.write_all(b"17\n").unwrap();
            named
        });
        let scanning = switchgrass::coroutine::Builder::new().name("scanner").spawn(move || {
            let mut number: c_int = 0;
            // SAFETY: an open stream, a format, and a place for a number.
            let got = unsafe { libc::fscanf(file, c"%d".as_ptr(), &raw mut number) };
            (got, number)
        });
        assert_eq!(scanning.unwrap().join().unwrap(), (1, 17));
        assert_eq!(answer.join().unwrap().as_deref(), Ok("coroutine 'scanner'"));
        drop(watchdog);
    });
}

/// Of a file, and to its end.
#[test]
fn streams_of_files() {
    patched(|| {
        let call = || {
            let path = CString::new(file!()).unwrap();
            // SAFETY: a path and a mode.
            let open = || unsafe { libc::fopen(path.as_ptr(), c"r".as_ptr()) };
            let (first, second, third) = (open(), open(), open());
            // SAFETY: an open stream, and so much room.
            let line = || by_fgets(|place, room| unsafe { libc::fgets(place, room, first) });
            let by_line: Vec<u8> = std::iter::from_fn(line).flatten().collect();
            // SAFETY: an open stream, and places.
            let line = || by_getline(|line, room| unsafe { c::getline(line, room, second) });
            let by_getline: Vec<u8> = std::iter::from_fn(line).flatten().collect();
            let mut all = vec![0_u8; 1 << 20];
            // SAFETY: an open stream, and so much room.
            let count = unsafe {
                libc::fgetc(third);
                libc::fread(all.as_mut_ptr().cast(), 1, all.len(), third)
            };
            for file in [first, second, third] {
                // SAFETY: an open stream.
                assert_eq!(unsafe { libc::fclose(file) }, 0);
            }
            all.truncate(count);
            (by_line == by_getline && by_line[1..] == all, count)
        };
        let (is_right, count) = thread::spawn(call).join().unwrap();
        assert!(is_right && count > 1000);
        assert_eq!(spawn(call).join().unwrap(), (true, count));
    });
}

/// What a shell says comes line by line, and in halves.
#[test]
fn popen() {
    row(|| {
        let script = "printf 'first\\nsec'; sleep 0.12; echo ond; exit 3";
        let script = CString::new(script).unwrap();
        // SAFETY: two strings.
        let file = unsafe { libc::popen(script.as_ptr(), c"r".as_ptr()) };
        let mut all = Vec::new();
        // SAFETY: an open stream, and so much room.
        while let Some(line) = by_fgets(|place, room| unsafe { libc::fgets(place, room, file) }) {
            all.push(String::from_utf8(line).unwrap());
        }
        // SAFETY: what was opened.
        let status = unsafe { libc::pclose(file) };
        assert_eq!(blocked_calls(), []);
        assert_eq!(all, ["first\n", "second\n"]);
        libc::WEXITSTATUS(status)
    });
}

/// A stream that waits is told of a kill, and then has failed; two that read it take whole lines.
#[test]
fn readers_that_take_turns_and_are_killed() {
    patched(|| {
        let (reader, mut writer) = pipe().unwrap();
        // SAFETY: a descriptor that is the stream's from now on.
        let file = unsafe { libc::fdopen(reader.into_raw_fd(), c"r".as_ptr()) };
        // SAFETY: an open stream, and so much room.
        let line = move || by_fgets(|place, room| unsafe { libc::fgets(place, room, file) });
        let readers = [spawn(line), spawn(line)];
        for part in [b"on", b"e\n", b"tw", b"o\n"] {
            thread::sleep(Duration::from_millis(3));
            writer.write_all(part).unwrap();
        }
        let mut all: Vec<_> =
            readers.into_iter().map(|reader| reader.join().unwrap().unwrap()).collect();
        all.sort();
        assert_eq!(all, [b"one\n".to_vec(), b"two\n".to_vec()]);
        let mut told = None;
        timeout(Duration::from_millis(5), || {
            told = Some((line(), Error::last_os_error().raw_os_error()));
        })
        .unwrap_err();
        assert_eq!(told, Some((None, Some(libc::ECANCELED))));
        // SAFETY: an open stream.
        assert!(unsafe { libc::ferror(file) } != 0);
        // SAFETY: as above.
        unsafe { libc::fclose(file) };
    });
}
