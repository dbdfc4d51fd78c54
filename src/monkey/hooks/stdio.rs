//! Streams of C's that are read: `popen`'s, or standard input. libc reads them inside of itself, where
//! nothing here sees it. So a call is taken apart, such that each part takes what the stream's buffer
//! has, or fills the buffer once, after its descriptor was waited for:
//!
//! ```text
//!   fgets ──► the buffer is empty? ──► wait until there is something to read ──► libc's, of one byte
//!     ▲       it has n bytes?      ────────────────────────────────────────────► libc's, of up to n
//!     └────────────── not yet a line, not the end
//! ```
//!
//! Coroutines of one thread that read one stream take turns by whole calls, as threads do. The lock of
//! the stream is libc's and is held for each part only: another thread that reads the same stream may
//! come in between, and if it has locked the stream, the lock is tried again after pauses. Functions that
//! take no lock are read by those that do.

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

/// How a stream of glibc's begins: part of its ABI, since `getc` was a macro.
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
    /// While what was pushed back is read: what is left of the buffer.
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
    /// The streams that coroutines of this thread are reading from, by address. Without a destructor, as
    /// calls may be made until the thread is gone.
    static READ: ManuallyDrop<RefCell<Vec<usize>>> =
        const { ManuallyDrop::new(RefCell::new(Vec::new())) };
}

/// In a child: nobody else reads.
pub(in crate::monkey) fn begin_anew() {
    READ.with(|all| all.borrow_mut().clear());
}

/// As many bytes as there are: a file is never waited for here.
const ALL: usize = usize::MAX;

/// A stream that is read by one call, until this is dropped.
struct Turn {
    file: *mut FILE,
    row: &'static Row,
    /// Whether libc's lock is held, for a part.
    is_locked: Cell<bool>,
}

impl Turn {
    fn take(row: &'static Row, file: *mut FILE) -> Self {
        yield_if_due_nounwind();
        loop {
            let is_free = READ.with(|all| {
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
        // SAFETY: the caller's stream.
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
            // SAFETY: locked by this thread.
            unsafe { originals::funlockfile::call(self.file) };
        }
    }

    fn stream(&self) -> *mut Stream {
        self.file.cast()
    }

    fn flags(&self) -> c_int {
        // SAFETY: the caller's stream, which is one of glibc's.
        unsafe { (*self.stream()).flags }
    }

    /// How many bytes can be had without a call of the system's.
    fn available(&self) -> usize {
        // SAFETY: the caller's stream, which is one of glibc's.
        let Stream { flags, read_next, read_end, saved_base, saved_end, .. } =
            unsafe { &*self.stream() };
        let available = read_end.addr().saturating_sub(read_next.addr());
        match flags & IS_PUSHED_BACK {
            0 => available,
            _ => available + saved_end.addr().saturating_sub(saved_base.addr()),
        }
    }

    /// Writes what libc writes before it reads: what this stream was told to write, and what stands in a line
    /// of standard output, as a prompt does, before a stream by lines is read.
    fn flush(&self, fd: c_int) {
        // SAFETY: the caller's stream, and libc's own, which are glibc's.
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

    /// Makes a part of a call, of which the errors count alone that come in it. Whether one has.
    fn fails_in<R>(&self, part: impl FnOnce() -> R) -> (R, bool) {
        // SAFETY: the caller's stream, which is one of glibc's.
        let flags = || unsafe { &mut (*self.stream()).flags };
        let before = *flags() & HAS_FAILED;
        *flags() &= !HAS_FAILED;
        let result = part();
        let has_failed = *flags() & HAS_FAILED != 0;
        *flags() |= before;
        (result, has_failed)
    }

    /// Waits until a byte can be taken, or the end or an error be found, and takes the lock. How many bytes
    /// can be taken without waiting again: [`ALL`] of what is not waited for. `None`: the wait was cut short,
    /// and the stream has failed.
    fn wait(&self) -> Option<usize> {
        loop {
            // Other threads have it in between, as those of one call of libc's would not.
            self.unlock();
            self.lock();
            let available = self.available();
            if available > 0 || self.flags() & HAS_ENDED != 0 {
                return Some(available.max(1));
            }
            if self.flags() & IS_NOT_READ != 0 {
                return Some(ALL);
            }
            let before = errno::get();
            // SAFETY: the caller's stream.
            let fd = unsafe { libc::fileno(self.file) };
            let known = look_up(fd).filter(|known| known.kind() != Kind::File);
            let Some(known) = known.filter(|known| !known.is_nonblocking()) else {
                errno::set(before);
                return Some(ALL);
            };
            self.flush(fd);
            self.unlock();
            self.wait_for_bytes(&known)?;
            errno::set(before);
            // Another thread that has it by now may take what there was.
            if self.try_lock() {
                return Some(1);
            }
        }
    }

    /// `None`: the wait was cut short.
    fn wait_for_bytes(&self, known: &Known) -> Option<()> {
        let mut attempts = known.attempts(Direction::Read, self.row.symbol);
        let waited = attempts.make(|fd| match is_ready(fd, true) {
            true => 0,
            // A read of it fails at once.
            false if is_unreadable(known, fd) => 0,
            false => errno::fail_long(libc::EAGAIN),
        });
        match waited.or_zero() {
            Some(0) => {}
            None => self.row.count_blocked(),
            Some(_) => {
                // SAFETY: the caller's stream, which is one of glibc's.
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
        READ.with(|all| all.borrow_mut().retain(|file| *file != self.file.addr()));
    }
}

/// Whether a stream may be taken apart.
fn is_ours(file: *mut FILE) -> bool {
    cfg!(target_env = "gnu") && is_patched(What::Sockets) && !file.is_null()
}

/// The calls that read one byte.
macro_rules! bytes {
    ($($name:ident;)*) => {$(
        /// # Safety
        ///
        /// As libc's.
        pub(in crate::monkey) unsafe fn $name(file: *mut FILE) -> c_int {
            let turn = is_ours(file).then(|| Turn::take(&originals::$name::ROW, file));
            if turn.as_ref().is_some_and(|turn| turn.wait().is_none()) {
                return libc::EOF;
            }
            // SAFETY: the caller's.
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
/// As libc's.
pub(in crate::monkey) unsafe fn getchar() -> c_int {
    // SAFETY: libc's own stream.
    unsafe { getc(stdin) }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn fgets(
    place: *mut c_char,
    room: c_int,
    file: *mut FILE,
) -> *mut c_char {
    if !is_ours(file) || room <= 1 || place.is_null() {
        // SAFETY: the caller's.
        return unsafe { originals::fgets::call(place, room, file) };
    }
    let turn = Turn::take(&originals::fgets::ROW, file);
    let (mut done, most) = (0, room as usize - 1);
    while done < most {
        let Some(part) = turn.wait() else {
            // A stream that does not block is no error, behind a part.
            let is_part = done > 0 && errno::get() == libc::EAGAIN;
            return if is_part { place } else { ptr::null_mut() };
        };
        let is_last = part == ALL;
        let part = part.min(most - done) as c_int;
        // SAFETY: the caller's; so much is left of it.
        let rest = unsafe { place.add(done) };
        // SAFETY: as above, with a zero at the end.
        let read = || unsafe { originals::fgets::call(rest, part + 1, file) };
        let (got, has_failed) = turn.fails_in(read);
        if got.is_null() {
            // What was read before the end counts.
            let is_line = done > 0 && (!has_failed || errno::get() == libc::EAGAIN);
            return if is_line { place } else { ptr::null_mut() };
        }
        if is_last {
            break;
        }
        // SAFETY: a string was written there. A zero that was read ends the line for what follows, as it may
        // be none: it is taken as it stands.
        done += unsafe { length(rest, part as usize) };
        // SAFETY: something was read.
        if unsafe { *place.add(done - 1) } == b'\n' as c_char {
            break;
        }
    }
    place
}

/// How many bytes a part has brought: all that were asked for, unless a line has ended before.
///
/// # Safety
///
/// `fgets` has read a part of `most` bytes to there.
unsafe fn length(part: *const c_char, most: usize) -> usize {
    // SAFETY: the caller's; there is a zero at the end.
    let bytes = unsafe { std::slice::from_raw_parts(part.cast::<u8>(), most + 1) };
    let line = bytes[..most].iter().position(|byte| *byte == b'\n');
    line.map_or(most, |at| at + 1)
}

/// # Safety
///
/// As glibc's: the room is known to the compiler.
pub(in crate::monkey) unsafe fn __fgets_chk(
    place: *mut c_char,
    known: size_t,
    room: c_int,
    file: *mut FILE,
) -> *mut c_char {
    if usize::try_from(room).is_ok_and(|room| room > known) {
        // SAFETY: the caller's. It ends the process.
        return unsafe { originals::__fgets_chk::call(place, known, room, file) };
    }
    // SAFETY: the caller's.
    unsafe { fgets(place, room, file) }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn fread(
    place: *mut c_void,
    size: size_t,
    count: size_t,
    file: *mut FILE,
) -> size_t {
    let all = size.checked_mul(count).filter(|all| *all > 0 && is_ours(file));
    let Some(all) = all else {
        // SAFETY: the caller's.
        return unsafe { originals::fread::call(place, size, count, file) };
    };
    let turn = Turn::take(&originals::fread::ROW, file);
    let mut done = 0;
    while done < all {
        let Some(part) = turn.wait() else { break };
        // SAFETY: the caller's; so much is left of it.
        let got =
            unsafe { originals::fread::call(place.byte_add(done), 1, part.min(all - done), file) };
        done += got;
        if got == 0 || part == ALL {
            break;
        }
    }
    done / size
}

/// # Safety
///
/// As glibc's: the room is known to the compiler.
pub(in crate::monkey) unsafe fn __fread_chk(
    place: *mut c_void,
    known: size_t,
    size: size_t,
    count: size_t,
    file: *mut FILE,
) -> size_t {
    if size.checked_mul(count).is_none_or(|all| all > known) {
        // SAFETY: the caller's. It ends the process.
        return unsafe { originals::__fread_chk::call(place, known, size, count, file) };
    }
    // SAFETY: the caller's.
    unsafe { fread(place, size, count, file) }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn getline(
    line: *mut *mut c_char,
    room: *mut size_t,
    file: *mut FILE,
) -> ssize_t {
    // SAFETY: the caller's.
    unsafe { getdelim(line, room, b'\n'.into(), file) }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn getdelim(
    line: *mut *mut c_char,
    room: *mut size_t,
    end: c_int,
    file: *mut FILE,
) -> ssize_t {
    if !is_ours(file) || line.is_null() || room.is_null() {
        // SAFETY: the caller's.
        return unsafe { originals::getdelim::call(line, room, end, file) };
    }
    const LEAST: usize = 120;
    let turn = Turn::take(&originals::getdelim::ROW, file);
    if turn.flags() & HAS_FAILED != 0 {
        // SAFETY: the caller's. It refuses at once.
        return unsafe { originals::getdelim::call(line, room, end, file) };
    }
    let mut done = 0;
    loop {
        let byte = match turn.wait() {
            // SAFETY: the caller's.
            Some(ALL) if done == 0 => unsafe {
                return originals::getdelim::call(line, room, end, file);
            },
            // SAFETY: the caller's.
            Some(_) => unsafe { originals::fgetc::call(file) },
            // What was read before counts, whatever has failed.
            None if done > 0 => return done as ssize_t,
            None => return -1,
        };
        // SAFETY: the caller's: a place that `malloc` has made, and its size.
        let (place, size) = unsafe { (&mut *line, &mut *room) };
        if place.is_null() || *size < done + 2 {
            let more = if place.is_null() { LEAST } else { (*size * 2).max(LEAST) };
            let old = if place.is_null() { ptr::null_mut() } else { *place };
            // SAFETY: as above.
            let new = unsafe { libc::realloc(old.cast(), more) };
            if new.is_null() {
                return errno::fail_long(libc::ENOMEM);
            }
            (*place, *size) = (new.cast(), more);
        }
        if byte == libc::EOF {
            return if done > 0 { done as ssize_t } else { -1 };
        }
        // SAFETY: there is room for both.
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
