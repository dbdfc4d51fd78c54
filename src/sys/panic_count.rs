//! Finds the thread-local word in which std counts the panics in progress.
//!
//! Every `MutexGuard` calls `std::thread::panicking()`. If a computation switches away while it unwinds,
//! the next one on the thread gets `true`, too, unless the count is saved and restored with the
//! computation. std has no API for that, so this module searches for the word, once per thread:
//!
//! ```text
//!   dl_iterate_phdr ─► the thread-local block of each loaded module, as words
//!                      read before a panic            n
//!                      inside a panic                 n + 1
//!                      inside a panic inside a panic  n + 2
//!                      afterwards                     n        ◄─ exactly one word does this
//! ```
//!
//! The candidate is then confirmed: while it is set to 0 inside a panic, `panicking()` must return `false`;
//! once restored, `true`. If no word or several words qualify, the result is `None`, and the caller has to
//! do without.
//!
//! A thread that is already panicking, and may be in its panic hook, must not panic again just to search.
//! Another thread searches instead: the word is at the same place in the same module's block.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::NonNull;
use std::{slice, thread};

/// Returns the calling thread's count of panics in progress, if it can be found. Takes some microseconds.
pub(crate) fn find() -> Option<NonNull<Cell<usize>>> {
    if cfg!(panic = "abort") {
        return None;
    }
    if thread::panicking() {
        let place = thread::Builder::new().spawn(search).ok()?.join().ok()??;
        let word = thread_local_words().into_iter().find(|word| word.place == place)?.address;
        controls_panicking(word).then_some(word)
    } else {
        let place = search()?;
        Some(thread_local_words().into_iter().find(|word| word.place == place)?.address)
    }
}

/// Finds the place of the count. Called on a thread that is not panicking.
fn search() -> Option<Place> {
    let words = thread_local_words();
    let before: Vec<usize> = words.iter().map(Word::read).collect();
    let mut candidates: Vec<usize> = (0..words.len()).collect();
    let mut keep =
        |step: usize| candidates.retain(|i| words[*i].read() == before[*i].wrapping_add(step));
    inside_a_panic(|| {
        keep(1);
        inside_a_panic(|| keep(2));
        keep(1);
    });
    keep(0);
    let [only] = candidates[..] else { return None };
    let only = &words[only];
    inside_a_panic(|| controls_panicking(only.address)).then_some(only.place)
}

/// A word of a thread's thread-local storage.
struct Word {
    address: NonNull<Cell<usize>>,
    place: Place,
}

/// The place of a word, the same on every thread.
#[derive(Clone, Copy, PartialEq)]
struct Place {
    /// The load address of the module that the word belongs to.
    module: usize,
    /// The word's index in that module's block.
    index: usize,
}

/// Calls `look` in a destructor that runs while the thread unwinds.
fn inside_a_panic<R>(look: impl FnOnce() -> R) -> R {
    struct OnUnwind<F: FnOnce() -> R, R>(Option<F>, NonNull<Option<R>>);
    impl<F: FnOnce() -> R, R> Drop for OnUnwind<F, R> {
        fn drop(&mut self) {
            if let Some(look) = self.0.take() {
                let seen = look();
                // SAFETY: points to a local of `inside_a_panic`, which is still in `catch_unwind`.
                unsafe { self.1.write(Some(seen)) };
            }
        }
    }
    let mut result = None;
    let slot = NonNull::from(&mut result);
    let _ = catch_unwind(AssertUnwindSafe(|| {
        let _on_unwind = OnUnwind(Some(look), slot);
        resume_unwind(Box::new(()));
    }));
    result.expect("the destructor has run")
}

/// Whether `panicking()` depends on this word. Called inside a panic.
fn controls_panicking(word: NonNull<Cell<usize>>) -> bool {
    // SAFETY: a word of this thread's thread-local storage, which lives as long as the thread.
    let count = unsafe { word.as_ref() };
    let outer = count.replace(0);
    let cleared = !thread::panicking();
    count.set(outer);
    cleared && thread::panicking()
}

impl Word {
    fn read(&self) -> usize {
        // SAFETY: comes from `thread_local_words`: aligned, readable, and of this thread. Volatile, since
        // other code writes to it unseen by the compiler.
        unsafe { self.address.cast::<usize>().read_volatile() }
    }
}

/// Returns every aligned word of the calling thread's thread-local blocks that exist.
fn thread_local_words() -> Vec<Word> {
    unsafe extern "C" fn visit(
        info: *mut libc::dl_phdr_info,
        _size: usize,
        words: *mut libc::c_void,
    ) -> libc::c_int {
        // SAFETY: the loader passes a valid `info` with `dlpi_phnum` headers, and the pointer that was
        // given to `dl_iterate_phdr` below.
        unsafe {
            let words = &mut *words.cast::<Vec<Word>>();
            let headers = slice::from_raw_parts((*info).dlpi_phdr, (*info).dlpi_phnum.into());
            let block = (*info).dlpi_tls_data;
            let header = headers.iter().find(|header| header.p_type == libc::PT_TLS);
            if let (Some(header), false) = (header, block.is_null()) {
                let skip = block.align_offset(align_of::<usize>());
                let count = (header.p_memsz as usize).saturating_sub(skip) / size_of::<usize>();
                let first = block.byte_add(skip).cast::<Cell<usize>>();
                let module = (*info).dlpi_addr as usize;
                words.extend((0..count).filter_map(|index| {
                    let address = NonNull::new(first.add(index))?;
                    Some(Word { address, place: Place { module, index } })
                }));
            }
        }
        0
    }
    let mut words: Vec<Word> = Vec::new();
    // SAFETY: `visit` has the required type, and expects the vector that it is given.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut words).cast()) };
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_found_on_every_thread_and_carries() {
        let look = || {
            let count = find().expect("this std has one count");
            // SAFETY: a word of this thread's thread-local storage, which lives as long as the thread.
            let count = unsafe { count.as_ref() };
            assert_eq!(count.get(), 0);
            inside_a_panic(|| {
                assert_eq!(count.get(), 1);
                let carried = count.replace(0);
                assert!(!std::thread::panicking());
                count.set(carried);
            });
            assert_eq!(count.get(), 0);
        };
        look();
        std::thread::spawn(look).join().unwrap();
    }

    #[test]
    fn is_found_in_the_middle_of_a_panic() {
        inside_a_panic(|| {
            let count = find().expect("this std has one count");
            // SAFETY: a word of this thread's thread-local storage, which lives as long as the thread.
            assert_eq!(unsafe { count.as_ref() }.get(), 1);
        });
    }
}
