//! C streams that are read: `popen`'s, or standard input.
//!
//! libc reads them internally, where no hook sees it. So a call is split into parts. Each part takes what the
//! stream's buffer holds, or fills the buffer once, after waiting for the descriptor:
//!
//! ```text
//!   fgets ──► the buffer is empty? ──► wait until the descriptor is readable ──► libc's fgets, of one byte
//!     ▲       it holds n bytes?    ────────────────────────────────────────────► libc's fgets, of up to n
//!     └────────────── no end of line yet, no end of file
//! ```
//!
//! Coroutines of one thread that read one stream take turns by whole calls, as threads do. The lock of the
//! stream is internal to libc and held for one part at a time: another thread that reads the same stream
//! may come in between. While another thread holds the lock, it is tried again after pauses. The unlocked
//! variants are implemented by those that lock.

use super::reading::is_unreadable;
use crate::hub::{Deadline, Direction, Interrupts, park_nounwind, yield_if_due_nounwind};
use crate::monkey::descriptors::look_up;
use crate::monkey::gate::{Row, is_patched};
use crate::monkey::kinds::What;
use crate::monkey::known::Known;
use crate::monkey::{errno, originals};
use crate::sys::descriptor::{Kind, is_ready};
use libc::{FILE, c_char, c_int, c_void, size_t, ssize_t};
use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::ptr;
use std::time::Duration;

/// The beginning of glibc's `FILE`: part of its ABI, since `getc` was a macro.
#[repr(C)]
struct Stream {
    flags: c_int,
    read_next: *mut c_char,
    read_end: *mut c_char,
    _read_base: *mut c_char,
    write_base: *mut c_char,
    write_next: *mut c_char,
    _write_end: *mut c_char,
    buffer: *mut c_char,
    _buffer_end: *mut c_char,
    /// While pushed-back bytes are read: the rest of the buffer.
    saved_base: *mut c_char,
    _backup_base: *mut c_char,
    saved_end: *mut c_char,
}

const IS_UNBUFFERED: c_int = 0x2;
/// Opened for writing only.
const IS_NOT_READ: c_int = 0x4;
const HAS_ENDED: c_int = 0x10;
const HAS_FAILED: c_int = 0x20;
const IS_BY_LINES: c_int = 0x200;
const IS_PUSHED_BACK: c_int = 0x100;
const IS_WRITTEN: c_int = 0x800;

thread_local! {
    /// The streams that coroutines of this thread are reading, by address.
    ///
    /// Has no destructor, since calls may be made until the thread is gone.
    static BUSY: ManuallyDrop<RefCell<Vec<usize>>> =
        const { ManuallyDrop::new(RefCell::new(Vec::new())) };
}

/// Called in a child process: no other coroutine reads.
pub(in crate::monkey) fn begin_anew() {
    BUSY.with(|all| all.borrow_mut().clear());
}

/// The number of bytes of a stream that is not waited for, like a file.
const UNBOUNDED: usize = usize::MAX;

/// The turn of one call on a stream. Ends when dropped.
struct Turn {
    file: *mut FILE,
    row: &'static Row,
    /// Whether libc's lock is held, for a part.
    is_locked: Cell<bool>,
}

impl Turn {
    /// Waits until no other coroutine of this thread reads the stream.
    fn take(row: &'static Row, file: *mut FILE) -> Self {
        yield_if_due_nounwind();
        loop {
            let is_free = BUSY.with(|all| {
                let mut all = all.borrow_mut();
                let is_free = !all.contains(&file.addr());
                if is_free {
                    all.push(file.addr());
                }
                is_free
            });
            if is_free {
                return Turn { file, row, is_locked: Cell::new(false) };
            }
            park_nounwind(row.symbol, Deadline::after(Duration::from_millis(1)), Interrupts::Defer);
        }
    }

    /// Takes libc's lock, unless another thread has it.
    fn try_lock(&self) -> bool {
        // SAFETY: contract of a hook: the stream is open.
        let is_free = || unsafe { originals::ftrylockfile::call(self.file) } == 0;
        if !self.is_locked.get() {
            self.is_locked.set(is_free());
        }
        self.is_locked.get()
    }

    fn lock(&self) {
        while !self.try_lock() {
            let pause = Deadline::after(Duration::from_millis(1));
            park_nounwind(self.row.symbol, pause, Interrupts::Defer);
        }
    }

    fn unlock(&self) {
        if self.is_locked.replace(false) {
            // SAFETY: the stream is open, and this thread holds its lock.
            unsafe { originals::funlockfile::call(self.file) };
        }
    }

    fn stream(&self) -> *mut Stream {
        self.file.cast()
    }

    fn flags(&self) -> c_int {
        // SAFETY: contract of a hook: the stream is open, and it is glibc's (see `is_cooperative_stream`).
        unsafe { (*self.stream()).flags }
    }

    /// The number of bytes that can be read without a system call.
    fn available(&self) -> usize {
        // SAFETY: contract of a hook: the stream is open, and it is glibc's (see `is_cooperative_stream`).
        let Stream { flags, read_next, read_end, saved_base, saved_end, .. } =
            unsafe { &*self.stream() };
        let available = read_end.addr().saturating_sub(read_next.addr());
        match flags & IS_PUSHED_BACK {
            0 => available,
            _ => available + saved_end.addr().saturating_sub(saved_base.addr()),
        }
    }

    /// Writes what libc writes before it reads.
    ///
    /// That is the unwritten output of this stream and, before a line-buffered or unbuffered stream is
    /// read, a partial line on standard output, like a prompt.
    fn flush(&self, fd: c_int) {
        // SAFETY: contract of a hook: the stream is open. It and `stdout` are glibc's.
        unsafe {
            let Stream { flags, write_base, write_next, buffer, .. } = *self.stream();
            if flags & IS_WRITTEN != 0 && write_next != write_base {
                libc::fflush(self.file);
            }
            let is_by_lines = flags & (IS_BY_LINES | IS_UNBUFFERED) != 0
                || (buffer.is_null() && libc::isatty(fd) == 1);
            if is_by_lines && (*stdout.cast::<Stream>()).flags & IS_BY_LINES != 0 {
                libc::fflush(stdout);
            }
        }
    }

    /// Makes a part of a call. Returns whether an error has come in it, rather than before.
    fn fails_in<R>(&self, part: impl FnOnce() -> R) -> (R, bool) {
        // SAFETY: contract of a hook: the stream is open, and it is glibc's (see `is_cooperative_stream`).
        let flags = || unsafe { &mut (*self.stream()).flags };
        let before = *flags() & HAS_FAILED;
        *flags() &= !HAS_FAILED;
        let result = part();
        let has_failed = *flags() & HAS_FAILED != 0;
        *flags() |= before;
        (result, has_failed)
    }

    /// Waits until a byte can be read, or the end or an error be found, and takes the lock.
    ///
    /// Returns the number of bytes that can be read without waiting again: [`UNBOUNDED`] for a stream that
    /// is not waited for. `None`: the wait was cut short, and the stream is in the error state.
    fn wait(&self) -> Option<usize> {
        loop {
            // Lets other threads in between two parts.
            self.unlock();
            self.lock();
            let available = self.available();
            if available > 0 || self.flags() & HAS_ENDED != 0 {
                return Some(available.max(1));
            }
            if self.flags() & IS_NOT_READ != 0 {
                return Some(UNBOUNDED);
            }
            let before = errno::get();
            // SAFETY: contract of a hook: the stream is open.
            let fd = unsafe { libc::fileno(self.file) };
            let known = look_up(fd).filter(|known| known.kind() != Kind::File);
            let Some(known) = known.filter(|known| !known.is_nonblocking()) else {
                errno::set(before);
                return Some(UNBOUNDED);
            };
            self.flush(fd);
            self.unlock();
            self.wait_for_bytes(&known)?;
            errno::set(before);
            // A thread that holds the lock by now may read what there is.
            if self.try_lock() {
                return Some(1);
            }
        }
    }

    /// Waits until the descriptor is readable. `None`: the wait was cut short.
    fn wait_for_bytes(&self, known: &Known) -> Option<()> {
        let mut attempts = known.attempts(Direction::Read, self.row.symbol);
        let waited = attempts.make(|fd| match is_ready(fd, true) {
            true => 0,
            // A read fails at once.
            false if is_unreadable(known, fd) => 0,
            false => errno::fail_long(libc::EAGAIN),
        });
        match waited.or_zero() {
            Some(0) => {}
            None => self.row.count_blocked(),
            Some(_) => {
                // SAFETY: contract of a hook: the stream is open, and it is glibc's (see
                // `is_cooperative_stream`).
                unsafe { (*self.stream()).flags |= HAS_FAILED };
                return None;
            }
        }
        Some(())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.unlock();
        BUSY.with(|all| all.borrow_mut().retain(|file| *file != self.file.addr()));
    }
}

/// Whether calls on a stream are split into parts.
fn is_cooperative_stream(file: *mut FILE) -> bool {
    cfg!(target_env = "gnu") && is_patched(What::Sockets) && !file.is_null()
}

/// Calls that read one byte.
macro_rules! bytes {
    ($($name:ident;)*) => {$(
        /// # Safety
        ///
        /// Contract of a hook (`hooks/mod.rs`).
        pub(in crate::monkey) unsafe fn $name(file: *mut FILE) -> c_int {
            let turn =
                is_cooperative_stream(file).then(|| Turn::take(&originals::$name::ROW, file));
            if turn.as_ref().is_some_and(|turn| turn.wait().is_none()) {
                return libc::EOF;
            }
            // SAFETY: contract of a hook: libc's function gets the caller's pointers.
            let byte = unsafe { originals::$name::call(file) };
            drop(turn);
            byte
        }
    )*};
}

bytes! {
    fgetc;
    getc;
    __uflow;
}

unsafe extern "C" {
    static stdin: *mut FILE;
    static stdout: *mut FILE;
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn getchar() -> c_int {
    // SAFETY: `stdin` is initialised by libc, and open unless the program has closed it.
    unsafe { getc(stdin) }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn fgets(
    place: *mut c_char,
    room: c_int,
    file: *mut FILE,
) -> *mut c_char {
    if !is_cooperative_stream(file) || room <= 1 || place.is_null() {
        // SAFETY: contract of a hook: libc's `fgets` gets the caller's pointers.
        return unsafe { originals::fgets::call(place, room, file) };
    }
    let turn = Turn::take(&originals::fgets::ROW, file);
    let (mut done, most) = (0, room as usize - 1);
    while done < most {
        let Some(part) = turn.wait() else {
            // `EAGAIN` on a non-blocking stream is no error after a part.
            let is_part = done > 0 && errno::get() == libc::EAGAIN;
            return if is_part { place } else { ptr::null_mut() };
        };
        let is_last = part == UNBOUNDED;
        let part = part.min(most - done) as c_int;
        // SAFETY: contract of a hook: the rest of the buffer, after `done` bytes.
        let rest = unsafe { place.add(done) };
        // SAFETY: contract of a hook: `part + 1` bytes are left, with the zero byte at the end.
        let read = || unsafe { originals::fgets::call(rest, part + 1, file) };
        let (got, has_failed) = turn.fails_in(read);
        if got.is_null() {
            // Bytes read before the end count.
            let is_line = done > 0 && (!has_failed || errno::get() == libc::EAGAIN);
            return if is_line { place } else { ptr::null_mut() };
        }
        if is_last {
            break;
        }
        // SAFETY: `fgets` has written a string there. It may contain zero bytes that were read, so the whole
        // part is searched for the end of the line.
        done += unsafe { length(rest, part as usize) };
        // SAFETY: `done` is at least 1 and within the buffer.
        if unsafe { *place.add(done - 1) } == b'\n' as c_char {
            break;
        }
    }
    place
}

/// The number of bytes in a part: `most`, unless a line has ended before.
///
/// # Safety
///
/// `fgets` has read a part of up to `most` bytes to `part`, with a zero byte at the end.
unsafe fn length(part: *const c_char, most: usize) -> usize {
    // SAFETY: the contract of this function: `most` bytes and a zero byte.
    let bytes = unsafe { std::slice::from_raw_parts(part.cast::<u8>(), most + 1) };
    let line = bytes[..most].iter().position(|byte| *byte == b'\n');
    line.map_or(most, |at| at + 1)
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`); `known` is the size of the buffer.
pub(in crate::monkey) unsafe fn __fgets_chk(
    place: *mut c_char,
    known: size_t,
    room: c_int,
    file: *mut FILE,
) -> *mut c_char {
    if usize::try_from(room).is_ok_and(|room| room > known) {
        // SAFETY: contract of a hook: libc's `__fgets_chk` gets the caller's pointers. It ends the process.
        return unsafe { originals::__fgets_chk::call(place, known, room, file) };
    }
    // SAFETY: contract of a hook: `fgets` has the same contract.
    unsafe { fgets(place, room, file) }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn fread(
    place: *mut c_void,
    size: size_t,
    count: size_t,
    file: *mut FILE,
) -> size_t {
    let all = size.checked_mul(count).filter(|all| *all > 0 && is_cooperative_stream(file));
    let Some(all) = all else {
        // SAFETY: contract of a hook: libc's `fread` gets the caller's pointers.
        return unsafe { originals::fread::call(place, size, count, file) };
    };
    let turn = Turn::take(&originals::fread::ROW, file);
    let mut done = 0;
    while done < all {
        let Some(part) = turn.wait() else { break };
        // SAFETY: contract of a hook: the rest of the buffer, after `done` bytes.
        let got =
            unsafe { originals::fread::call(place.byte_add(done), 1, part.min(all - done), file) };
        done += got;
        if got == 0 || part == UNBOUNDED {
            break;
        }
    }
    done / size
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`); `known` is the size of the buffer.
pub(in crate::monkey) unsafe fn __fread_chk(
    place: *mut c_void,
    known: size_t,
    size: size_t,
    count: size_t,
    file: *mut FILE,
) -> size_t {
    if size.checked_mul(count).is_none_or(|all| all > known) {
        // SAFETY: contract of a hook: libc's `__fread_chk` gets the caller's pointers. It ends the process.
        return unsafe { originals::__fread_chk::call(place, known, size, count, file) };
    }
    // SAFETY: contract of a hook: `fread` has the same contract.
    unsafe { fread(place, size, count, file) }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn getline(
    line: *mut *mut c_char,
    room: *mut size_t,
    file: *mut FILE,
) -> ssize_t {
    // SAFETY: contract of a hook: `getdelim` has the same contract.
    unsafe { getdelim(line, room, b'\n'.into(), file) }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn getdelim(
    line: *mut *mut c_char,
    room: *mut size_t,
    end: c_int,
    file: *mut FILE,
) -> ssize_t {
    if !is_cooperative_stream(file) || line.is_null() || room.is_null() {
        // SAFETY: contract of a hook: libc's `getdelim` gets the caller's pointers.
        return unsafe { originals::getdelim::call(line, room, end, file) };
    }
    const LEAST: usize = 120;
    let turn = Turn::take(&originals::getdelim::ROW, file);
    if turn.flags() & HAS_FAILED != 0 {
        // SAFETY: contract of a hook: libc's `getdelim` gets the caller's pointers. It fails at once.
        return unsafe { originals::getdelim::call(line, room, end, file) };
    }
    let mut done = 0;
    loop {
        let byte = match turn.wait() {
            // SAFETY: contract of a hook: libc's `getdelim` gets the caller's pointers.
            Some(UNBOUNDED) if done == 0 => unsafe {
                return originals::getdelim::call(line, room, end, file);
            },
            // SAFETY: contract of a hook: libc's `fgetc` gets the caller's pointers.
            Some(_) => unsafe { originals::fgetc::call(file) },
            // Bytes read before a failure count.
            None if done > 0 => return done as ssize_t,
            None => return -1,
        };
        // SAFETY: contract of a hook: neither is null, so they are a buffer that `malloc` has made, and its
        // size.
        let (place, size) = unsafe { (&mut *line, &mut *room) };
        if place.is_null() || *size < done + 2 {
            let more = if place.is_null() { LEAST } else { (*size * 2).max(LEAST) };
            let old = if place.is_null() { ptr::null_mut() } else { *place };
            // SAFETY: contract of a hook: the buffer is null or was made by `malloc`.
            let new = unsafe { libc::realloc(old.cast(), more) };
            if new.is_null() {
                return errno::fail_long(libc::ENOMEM);
            }
            (*place, *size) = (new.cast(), more);
        }
        if byte == libc::EOF {
            return if done > 0 { done as ssize_t } else { -1 };
        }
        // SAFETY: the buffer has at least `done + 2` bytes.
        unsafe {
            *place.add(done) = byte as c_char;
            *place.add(done + 1) = 0;
        }
        done += 1;
        if byte == end {
            return done as ssize_t;
        }
    }
}
