//! A value in memory that other processes may write to.

use bytemuck::{Pod, cast_slice, cast_slice_mut};
use std::cell::UnsafeCell;
use std::fmt;
use std::slice;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};

/// An element of a [`SharedArray`](crate::process::SharedArray), read and written as a whole.
///
/// It is used like a [`Cell`](std::cell::Cell), and lends no reference to its value, because other
/// processes may write to that memory. The lock of the array keeps them from writing in the middle of a
/// change.
///
/// # Examples
///
/// ```
/// use switchgrass::process::SharedArray;
///
/// let array = SharedArray::from_slice(&[1, 2, 3])?;
/// let elements = array.lock().unwrap();
/// elements[0].set(10);
/// elements[1].update(|element| element * 10);
/// assert_eq!(elements[2].replace(30), 3);
/// assert_eq!(elements.iter().map(|element| element.get()).sum::<i32>(), 60);
/// # Ok::<(), std::io::Error>(())
/// ```
#[repr(transparent)]
pub struct SharedCell<T: Pod>(UnsafeCell<T>);

// SAFETY: all accesses to the value are atomic, on words of the same sizes and addresses. Values are sent
// from thread to thread, hence `Send`.
unsafe impl<T: Pod + Send> Sync for SharedCell<T> {}

/// Evaluates an expression with a cell's words, as atomics, and a value's words, as integers.
macro_rules! with_words {
    ($cell:ident, |$words:ident, $numbers:ident| $value:expr, $cast:ident, $f:expr) => {
        with_words!(@ $cell, $words, $numbers, $value, $cast, $f,
            1 => u8 AtomicU8, 2 => u16 AtomicU16, 4 => u32 AtomicU32, _ => u64 AtomicU64)
    };
    (@ $cell:ident, $words:ident, $numbers:ident, $value:expr, $cast:ident, $f:expr,
     $($align:pat => $number:ident $atomic:ident),*) => {
        match align_of::<T>() {
            $($align => {
                let count = size_of::<T>() / size_of::<$number>();
                // SAFETY: the cell is `size_of::<T>()` bytes, aligned for this atomic: `T`'s alignment is
                // at least that, and its size a multiple of it. All accesses to the cell go through these
                // atomics.
                let $words = unsafe { slice::from_raw_parts($cell.0.get().cast::<$atomic>(), count) };
                let $numbers = $cast::<T, $number>($value);
                $f
            })*
        }
    };
}

impl<T: Pod> SharedCell<T> {
    /// Returns a copy of the value.
    #[inline]
    pub fn get(&self) -> T {
        let mut value = T::zeroed();
        with_words!(self, |words, numbers| slice::from_mut(&mut value), cast_slice_mut, {
            numbers.iter_mut().zip(words).for_each(|(number, word)| *number = word.load(Relaxed));
        });
        value
    }

    /// Sets the value.
    #[inline]
    pub fn set(&self, value: T) {
        with_words!(self, |words, numbers| slice::from_ref(&value), cast_slice, {
            numbers.iter().zip(words).for_each(|(number, word)| word.store(*number, Relaxed));
        });
    }

    /// Sets the value and returns the previous one. Not atomic.
    #[inline]
    pub fn replace(&self, value: T) -> T {
        let before = self.get();
        self.set(value);
        before
    }

    /// Replaces the value by the result of `change`. Not atomic.
    #[inline]
    pub fn update(&self, change: impl FnOnce(T) -> T) {
        self.set(change(self.get()));
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for SharedCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}
