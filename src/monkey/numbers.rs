//! The state of each descriptor number, shared by all threads.
//!
//! ```text
//!   state:     generation = number of closes (30 bits) │ COPIED │ WATCHED
//!   look-up:   lock WATCHERS, add the hub, set WATCHED, record the generation that was there
//!   close:     lock WATCHERS, remove the hubs, increment the generation and clear both bits; kernel's close
//!   dup(a)=b:  kernel's dup; set COPIED for a and b
//!   close in a signal handler:  without the lock; increment the generation and clear both bits
//! ```
//!
//! Each change is one atomic operation, so none is lost, including those made without the lock:
//!
//! 1. A close increments the generation before the kernel's close, and the kernel does not reuse the number
//!    before that. So a look-up of the next file finds the next generation, unless the program closes a
//!    number on two threads at once, which is an error of the program.
//! 2. `COPIED` may be set late, after the copy was closed and its number reused. The bit is then superfluous:
//!    a change of the new file's settings makes all threads look up their settings again.
//! 3. `COPIED` of `a` may be cleared by a simultaneous close of `a`. That ends `a`, and `b` keeps its bit.
//! 4. `WATCHED` may be cleared by a signal handler right after it was set. The entry then belongs to a
//!    generation that has ended. The hub stays in the list, and the next look-up sets the bit again.

use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use std::sync::atomic::{AtomicPtr, AtomicU32};

const CHUNK: usize = 4096;
const CHUNKS: usize = 1024;

/// One more than the largest number that has a state.
pub(super) const END: u32 = (CHUNK * CHUNKS) as u32;

type Chunk = [Number; CHUNK];

pub(super) struct Number {
    /// [`WATCHED`], [`COPIED`], and the generation in the other bits.
    pub(super) state: AtomicU32,
    /// Incremented when the program changes a setting of the descriptor.
    settings: AtomicU32,
    /// Number of calls in progress that may be suspended, on all threads and of all generations.
    waiting: AtomicU32,
}

/// Marks a call that may be suspended, until dropped.
pub(super) struct Waiting(&'static Number);

impl Waiting {
    /// `None` if the generation has ended. Otherwise the close that ends it sees this mark.
    ///
    /// Each side writes first and then reads the other's variable, all sequentially consistent: this
    /// increments `waiting` and reads `state`; a close changes `state` and reads `waiting`.
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

/// The states, in chunks that are allocated when needed and never freed.
static NUMBERS: [AtomicPtr<Chunk>; CHUNKS] = [const { AtomicPtr::new(ptr::null_mut()) }; CHUNKS];

/// A hub may have an entry of the number.
///
/// Set by a look-up; cleared with the end of the generation.
pub(super) const WATCHED: u32 = 0b01;
/// Another number stands, or stood, for the same open file, and shares its settings.
///
/// Set after a `dup`; cleared with the end of the generation.
pub(super) const COPIED: u32 = 0b10;
/// Counts how often the number was closed.
const GENERATION: u32 = !(WATCHED | COPIED);

/// Incremented when a setting of a descriptor with copies changes.
static SETTINGS: AtomicU32 = AtomicU32::new(0);

impl Number {
    const fn new() -> Self {
        Number { state: AtomicU32::new(0), settings: AtomicU32::new(0), waiting: AtomicU32::new(0) }
    }

    /// Returns the generation, in the upper bits of the state.
    pub(super) fn generation(&self) -> u32 {
        self.state.load(Relaxed) & GENERATION
    }

    /// Whether a call in progress may be suspended, on any thread.
    ///
    /// Called after the generation was ended: see [`Waiting::begin`].
    pub(super) fn is_waited_for(&self) -> bool {
        self.waiting.load(SeqCst) > 0
    }

    /// Marks the number as watched. Returns its generation.
    pub(super) fn watch(&self) -> u32 {
        self.state.fetch_or(WATCHED, SeqCst) & GENERATION
    }

    /// Ends the generation, and clears both bits. Returns the generation that has ended.
    pub(super) fn end_generation(&self) -> u32 {
        let next = |state: u32| (state & GENERATION).wrapping_add(!GENERATION + 1);
        let before = self.state.fetch_update(SeqCst, SeqCst, |state| Some(next(state)));
        before.unwrap_or_else(|before| before) & GENERATION
    }
}

/// Returns the state of a number. `None` if its chunk was never used.
pub(super) fn number(fd: RawFd) -> Option<&'static Number> {
    let number = usize::try_from(fd).ok()?;
    let place = NUMBERS.get(number / CHUNK)?;
    // SAFETY: the pointer is null or was made by `number_made`; a chunk is never freed.
    let chunk = unsafe { place.load(Acquire).as_ref() };
    chunk.map(|chunk| &chunk[number % CHUNK])
}

/// Returns the state of a number, and makes its chunk if necessary. `None` if `fd` is not below [`END`].
pub(super) fn number_made(fd: RawFd) -> Option<&'static Number> {
    let place = NUMBERS.get(usize::try_from(fd).ok()? / CHUNK)?;
    if place.load(Acquire).is_null() {
        let made = Box::into_raw(Box::new([const { Number::new() }; CHUNK]));
        if place.compare_exchange(ptr::null_mut(), made, SeqCst, Acquire).is_err() {
            // SAFETY: `made` is the box from above, which was not published.
            drop(unsafe { Box::from_raw(made) });
        }
    }
    number(fd)
}

/// Returns the first number of the chunk after that of `fd`.
pub(super) fn next_chunk(fd: u32) -> u32 {
    (fd / CHUNK as u32 + 1) * CHUNK as u32
}

/// Returns a version that changes whenever a setting of the descriptor may have changed.
#[inline]
pub(super) fn settings_version(fd: RawFd) -> (u32, u32) {
    let own = number(fd).map_or(0, |number| number.settings.load(Relaxed));
    (own, SETTINGS.load(Relaxed))
}

/// Records that the program has changed a setting of the descriptor.
pub(super) fn settings_changed(fd: RawFd) {
    if let Some(number) = number(fd) {
        number.settings.fetch_add(1, SeqCst);
        if number.state.load(SeqCst) & COPIED != 0 {
            SETTINGS.fetch_add(1, SeqCst);
        }
    }
}

/// Records that one number is now a copy of the other.
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
