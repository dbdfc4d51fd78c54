//! What all threads know of a descriptor's number.
//!
//! ```text
//!   a state:  how often it was closed (30 bits) │ COPIED │ WATCHED
//!   learn:    locks WATCHERS, enters its hub, sets WATCHED, and keeps the generation that was there
//!   close:    locks WATCHERS, takes the hubs out, counts up and clears both bits; then the kernel's close
//!   dup(a)=b: the kernel's dup; then sets COPIED for a and b
//!   a handler that closes takes no lock: it counts up and clears both bits
//! ```
//!
//! Each change is one atomic step, so that none is lost, whoever makes it without the lock:
//!
//! 1. A close counts up before the kernel's close, and a number is not given again before that. So whoever
//!    learns the number of the next file finds the next generation, unless the program closes a number on
//!    two threads at once, which it cannot do rightly.
//! 2. `COPIED` may be set late, after a copy was closed and its number given to another file. Then it says
//!    too much: a change of that one's settings has all threads look up theirs again.
//! 3. It may be cleared for `a` by a close of `a` at the same time. That ends `a`; `b` keeps it.
//! 4. `WATCHED` may be cleared by a handler right after it was set. What was learned is of a generation that
//!    has ended then. The hub stays entered; whoever learns the number next sets the bit again.

use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use std::sync::atomic::{AtomicPtr, AtomicU32};

const CHUNK: usize = 4096;
const CHUNKS: usize = 1024;

/// Numbers from here on are never known.
pub(super) const END: u32 = (CHUNK * CHUNKS) as u32;

type Chunk = [Number; CHUNK];

pub(super) struct Number {
    /// [`WATCHED`] and [`COPIED`]; the other bits count how often it was closed since.
    pub(super) state: AtomicU32,
    /// Counted up when the program changes a setting.
    settings: AtomicU32,
    /// How many calls that are under way have been suspended, on all threads and of whatever generation.
    waiting: AtomicU32,
}

/// A call that is about to be suspended, until this is dropped.
pub(super) struct Waiting(&'static Number);

impl Waiting {
    /// `None` if the generation has ended. Otherwise its end finds this: each side first says what it does,
    /// and then looks at the other.
    pub(super) fn begin(fd: RawFd, generation: u32) -> Option<Self> {
        let number = number(fd)?;
        number.waiting.fetch_add(1, SeqCst);
        let waiting = Waiting(number);
        (number.state.load(SeqCst) & GENERATION == generation).then_some(waiting)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, SeqCst);
    }
}

static NUMBERS: [AtomicPtr<Chunk>; CHUNKS] = [const { AtomicPtr::new(ptr::null_mut()) }; CHUNKS];

/// A thread knows it.
pub(super) const WATCHED: u32 = 0b01;
/// There is, or was, another number for the same open file: they share their settings.
pub(super) const COPIED: u32 = 0b10;
const GENERATION: u32 = !(WATCHED | COPIED);

/// Counted up when a setting changes of a descriptor that has copies.
static SETTINGS: AtomicU32 = AtomicU32::new(0);

impl Number {
    const fn new() -> Self {
        Number { state: AtomicU32::new(0), settings: AtomicU32::new(0), waiting: AtomicU32::new(0) }
    }

    /// How often it was closed.
    pub(super) fn generation(&self) -> u32 {
        self.state.load(Relaxed) & GENERATION
    }

    /// Whether a call was suspended that is under way, on whatever thread. To be asked after the generation
    /// was ended.
    pub(super) fn is_waited_for(&self) -> bool {
        self.waiting.load(SeqCst) > 0
    }

    /// The number is watched from now on. Returns its generation.
    pub(super) fn watch(&self) -> u32 {
        self.state.fetch_or(WATCHED, SeqCst) & GENERATION
    }

    /// The number is closed. Returns the generation that ends.
    pub(super) fn end_generation(&self) -> u32 {
        let next = |state: u32| (state & GENERATION).wrapping_add(!GENERATION + 1);
        let before = self.state.fetch_update(SeqCst, SeqCst, |state| Some(next(state)));
        before.unwrap_or_else(|before| before) & GENERATION
    }
}

pub(super) fn number(fd: RawFd) -> Option<&'static Number> {
    let number = usize::try_from(fd).ok()?;
    let place = NUMBERS.get(number / CHUNK)?;
    // SAFETY: made below, and never freed.
    let chunk = unsafe { place.load(Acquire).as_ref() };
    chunk.map(|chunk| &chunk[number % CHUNK])
}

pub(super) fn number_made(fd: RawFd) -> Option<&'static Number> {
    let place = NUMBERS.get(usize::try_from(fd).ok()? / CHUNK)?;
    if place.load(Acquire).is_null() {
        let made = Box::into_raw(Box::new([const { Number::new() }; CHUNK]));
        if place.compare_exchange(ptr::null_mut(), made, SeqCst, Acquire).is_err() {
            // SAFETY: made above, and not shared with another thread.
            drop(unsafe { Box::from_raw(made) });
        }
    }
    number(fd)
}

/// The first number after `fd` that may be known, where none of `fd`'s chunk is.
pub(super) fn next_chunk(fd: u32) -> u32 {
    (fd / CHUNK as u32 + 1) * CHUNK as u32
}

/// Changes whenever a setting of the descriptor may have changed.
#[inline]
pub(super) fn settings_version(fd: RawFd) -> (u32, u32) {
    let own = number(fd).map_or(0, |number| number.settings.load(Relaxed));
    (own, SETTINGS.load(Relaxed))
}

/// The program has changed a setting.
pub(super) fn settings_changed(fd: RawFd) {
    if let Some(number) = number(fd) {
        number.settings.fetch_add(1, SeqCst);
        if number.state.load(SeqCst) & COPIED != 0 {
            SETTINGS.fetch_add(1, SeqCst);
        }
    }
}

/// One number is now a copy of the other.
pub(super) fn copied(from: RawFd, to: RawFd) {
    for fd in [from, to] {
        if let Some(number) = number_made(fd) {
            number.state.fetch_or(COPIED, SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn closes_on_several_threads_are_all_counted() {
        const TIMES: u32 = 200_000;
        const THREADS: u32 = 4;
        let number = Number::new();
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| (0..TIMES).for_each(|_| _ = number.end_generation()));
            }
        });
        let times = number.generation() / (!GENERATION + 1);
        assert_eq!(times, TIMES * THREADS);
    }
}
