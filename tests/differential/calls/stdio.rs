//! Streams of C's.

use super::Call;
use super::settings::made;
use super::threads::held;
use crate::fixtures::{FILE as REGULAR, OTHER, PATH, PIPE, SOCKET};
use crate::memory::Buffer;
use crate::params::Param::{Fd, Length, One};
use crate::params::int;
use crate::world::{fd, outcome};
use libc::{FILE, c_char, c_int, c_void};
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::Ordering::SeqCst;

unsafe extern "C" {
    fn getc(file: *mut FILE) -> c_int;
    fn __fgets_chk(buffer: *mut c_char, room: usize, length: c_int, file: *mut FILE)
    -> *mut c_char;
    fn __fread_chk(
        buffer: *mut c_void,
        room: usize,
        size: usize,
        count: usize,
        file: *mut FILE,
    ) -> usize;
    fn getdelim(line: *mut *mut c_char, room: *mut usize, end: c_int, file: *mut FILE) -> isize;
    fn getline(line: *mut *mut c_char, room: *mut usize, file: *mut FILE) -> isize;
    fn flockfile(file: *mut FILE);
    fn ftrylockfile(file: *mut FILE) -> c_int;
    fn funlockfile(file: *mut FILE);
}

const KINDS: u32 = SOCKET | PIPE | REGULAR | OTHER;

/// The streams by their slots. They are never closed.
static FILES: Mutex<BTreeMap<i64, usize>> = Mutex::new(BTreeMap::new());

/// The stream of a slot. `None` if it has no descriptor that is read.
fn file(slot: i64) -> Option<*mut FILE> {
    let mut files = FILES.lock().expect("no panics");
    if let Some(file) = files.get(&slot) {
        return Some(ptr::with_exposed_provenance_mut(*file));
    }
    // SAFETY: a string.
    let file = unsafe { libc::fdopen(fd(slot), c"r".as_ptr()) };
    if file.is_null() {
        return None;
    }
    files.insert(slot, file.expose_provenance());
    Some(file)
}

/// Makes a call, and says what the stream says of its end and of errors.
fn read(slot: i64, call: impl FnOnce(*mut FILE) -> String) -> String {
    let Some(file) = file(slot) else { return "no stream".into() };
    // A call that succeeds, or comes to an end, leaves it alone.
    // SAFETY: this thread's errno.
    unsafe { *libc::__errno_location() = 0 };
    let text = call(file);
    // SAFETY: streams are never closed.
    let (end, error) = unsafe { (libc::feof(file) != 0, libc::ferror(file) != 0) };
    format!("{text}{}{}", if end { " end" } else { "" }, if error { " error" } else { "" })
}

/// What is in the buffer after an error is nowhere said.
fn line_or_nothing(got: *mut c_char, buffer: &Buffer) -> String {
    if got.is_null() { "nothing".into() } else { buffer.describe() }
}

fn line_of(result: isize, line: *mut c_char) -> String {
    if result < 0 {
        return outcome(result as i64).text();
    }
    // SAFETY: a line that was read ends with a zero.
    format!("{result} {:?}", unsafe { CStr::from_ptr(line) })
}

/// Which lock of an actor's.
const LOCK: usize = 6;

fn path(which: i64) -> &'static CStr {
    [c"fifo", c"missing"][which as usize]
}

const PATHS: crate::params::Param = One(&[("fifo", 0), ("missing", 1)]);
const MODES: crate::params::Param = One(&[("r", 0), ("w", 1), ("r+", 2)]);

fn mode(which: i64) -> *const c_char {
    [c"r", c"w", c"r+"][which as usize].as_ptr()
}

/// The descriptor of a stream that was opened.
fn opened(step: usize, file: *mut FILE) -> String {
    match file.is_null() {
        true => outcome(-1).text(),
        // SAFETY: a stream, which is never closed.
        false => made(step, unsafe { libc::fileno(file) }),
    }
}

pub(super) const CALLS: &[Call] = &[
    Call::new("fgetc", 3, KINDS, &[Fd], |_, a| {
        // SAFETY: a stream.
        read(a[0], |file| outcome(unsafe { libc::fgetc(file) }).text())
    }),
    Call::new("getc", 2, KINDS, &[Fd], |_, a| {
        // SAFETY: a stream.
        read(a[0], |file| outcome(unsafe { getc(file) }).text())
    }),
    Call::new("fread", 3, KINDS, &[Fd, Length], |_, a| {
        let buffer = Buffer::empty(a[1]);
        read(a[0], |file| {
            // SAFETY: a stream, and room for as many bytes as is said.
            let got = unsafe { libc::fread(buffer.pointer(), 1, a[1] as usize, file) };
            format!("{got} {}", buffer.describe())
        })
    }),
    Call::new("__fread_chk", 1, KINDS, &[Fd, Length], |_, a| {
        let (buffer, length) = (Buffer::empty(a[1]), a[1] as usize);
        read(a[0], |file| {
            // SAFETY: a stream, and room for as many bytes as is said.
            let got = unsafe { __fread_chk(buffer.pointer(), length, 1, length, file) };
            format!("{got} {}", buffer.describe())
        })
    }),
    Call::new("fgets", 2, KINDS, &[Fd], |_, a| {
        let buffer = Buffer::empty(9);
        read(a[0], |file| {
            // SAFETY: a stream, and room for as many bytes as is said.
            let got = unsafe { libc::fgets(buffer.pointer(), 8, file) };
            line_or_nothing(got, &buffer)
        })
    }),
    Call::new("__fgets_chk", 1, KINDS, &[Fd], |_, a| {
        let buffer = Buffer::empty(9);
        read(a[0], |file| {
            // SAFETY: a stream, and room for as many bytes as is said.
            let got = unsafe { __fgets_chk(buffer.pointer(), 9, 8, file) };
            line_or_nothing(got, &buffer)
        })
    }),
    Call::new("getline", 2, KINDS, &[Fd], |_, a| {
        let (mut line, mut room) = (ptr::null_mut(), 0);
        // SAFETY: a stream; a place for a line.
        read(a[0], |file| line_of(unsafe { getline(&mut line, &mut room, file) }, line))
    }),
    Call::new("getdelim", 2, KINDS, &[Fd], |_, a| {
        let (mut line, mut room) = (ptr::null_mut(), 0);
        let end = int(i64::from(b'c'));
        // SAFETY: a stream; a place for a line.
        read(a[0], |file| line_of(unsafe { getdelim(&mut line, &mut room, end, file) }, line))
    }),
    Call::new("flockfile", 2, KINDS, &[Fd], |step, a| {
        let Some(file) = file(a[0]).filter(|_| a[0] == 0) else { return "no stream".into() };
        // SAFETY: a stream.
        unsafe { flockfile(file) };
        held(step, LOCK).fetch_add(1, SeqCst);
        "ok".into()
    }),
    Call::new("ftrylockfile", 2, KINDS, &[Fd], |step, a| {
        let Some(file) = file(a[0]).filter(|_| a[0] == 0) else { return "no stream".into() };
        // SAFETY: a stream.
        let result = unsafe { ftrylockfile(file) };
        held(step, LOCK).fetch_add(usize::from(result == 0), SeqCst);
        (result == 0).to_string()
    }),
    Call::new("funlockfile", 4, KINDS, &[Fd], |step, a| {
        let Some(file) = file(a[0]).filter(|_| a[0] == 0) else { return "no stream".into() };
        if held(step, LOCK).load(SeqCst) == 0 {
            return "not held".into();
        }
        held(step, LOCK).fetch_sub(1, SeqCst);
        // SAFETY: a stream that this actor has locked.
        unsafe { funlockfile(file) };
        "ok".into()
    }),
    Call::new("fopen", 3, PATH, &[PATHS, MODES], |step, a| {
        // SAFETY: strings.
        opened(step, unsafe { libc::fopen(path(a[0]).as_ptr(), mode(a[1])) })
    })
    .making_a_slot(),
    Call::new("fopen64", 2, PATH, &[PATHS, MODES], |step, a| {
        // SAFETY: strings.
        opened(step, unsafe { libc::fopen64(path(a[0]).as_ptr(), mode(a[1])) })
    })
    .making_a_slot(),
    Call::new("freopen", 2, PATH, &[PATHS, MODES], |step, a| {
        // SAFETY: strings; a stream that nothing else uses.
        opened(step, unsafe {
            let before = libc::fopen(c"/dev/null".as_ptr(), mode(0));
            libc::freopen(path(a[0]).as_ptr(), mode(a[1]), before)
        })
    })
    .making_a_slot(),
    Call::new("freopen64", 1, PATH, &[PATHS, MODES], |step, a| {
        // SAFETY: as above.
        opened(step, unsafe {
            let before = libc::fopen(c"/dev/null".as_ptr(), mode(0));
            libc::freopen64(path(a[0]).as_ptr(), mode(a[1]), before)
        })
    })
    .making_a_slot(),
];
