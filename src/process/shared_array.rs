#![forbid(unsafe_code)]
//! Arrays of plain values in memory that processes share.

use super::shared_lock;
use crate::hub::Deadline;
use crate::sys::shared_memory::{Locked, SharedMemory, VALUES};
use bytemuck::Pod;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, LockResult, Mutex, PoisonError, TryLockError, TryLockResult};
use std::thread;
use std::time::Duration;

pub use crate::sys::shared_cell::SharedCell;

/// An array of plain values, with a lock, in memory shared with processes forked later.
///
/// Like `multiprocessing.Array` in CPython.
///
/// Make the array before the fork. Parent and child then share the elements, and each may have clones on
/// any thread. Waiting for the lock lets other coroutines run. The waiter that is served next may be any of
/// them, in no particular order, but one that has waited for some hundredths of a second goes before new
/// ones.
///
/// A process that is killed while it holds the lock does not block the others: the next to lock the array
/// receives an error, as from a [`std::sync::Mutex`]. The array is then poisoned, in all processes, until
/// [`clear_poison`](SharedArray::clear_poison) is called to state that the elements are consistent again.
/// The same happens when the process ends in another way, and when a coroutine panics or is killed while it
/// holds the lock. A guard that is [forgotten](std::mem::forget), however, keeps the lock until its process
/// ends or executes another program.
///
/// The elements are [`Pod`]: numbers, arrays of numbers, and structures of them (which can `derive` it).
/// They contain no pointers, which would be invalid in another process; they need not be dropped; and any
/// bytes that another process writes are a valid value. That includes half of one value and half of
/// another, which a process that is killed in the middle of a write leaves behind.
///
/// An array takes two descriptors and whole pages, which are freed when no process has it any more. Memory
/// is shared with children forked by libc's `fork`, as by this library, but not with executed programs. A
/// process that closes descriptors which it has not opened loses its lock.
///
/// # Examples
///
/// ```
/// use switchgrass::coroutine::join_all;
/// use switchgrass::process::SharedArray;
/// use switchgrass::{spawn, yield_now};
///
/// let histogram = SharedArray::<u64>::new(3)?;
/// let counters = (0..3).map(|index| {
///     let histogram = histogram.clone();
///     spawn(move || {
///         let elements = histogram.lock().unwrap();
///         let before = elements[index].get();
///         yield_now();
///         elements[index].set(before + 10);
///         elements[0].update(|element| element + 1);
///     })
/// });
/// join_all(counters.collect::<Vec<_>>());
/// assert_eq!(histogram.lock().unwrap().to_vec(), [13, 10, 10]);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// Element types without a size, or with an alignment above 64 bytes, do not compile:
///
/// ```compile_fail
/// let array = switchgrass::process::SharedArray::<()>::new(3)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct SharedArray<T> {
    memory: Arc<SharedMemory>,
    /// One thread at a time accesses the elements.
    elements: PhantomData<Mutex<T>>,
}

/// Access to the elements of a locked [`SharedArray`], as a slice of cells.
///
/// Unlocks the array when dropped.
///
/// It may be dropped on another thread. If the process is forked while a guard exists, the copy in the
/// child panics when it is used, and does nothing when it is dropped.
///
/// # Examples
///
/// ```
/// use switchgrass::process::SharedArray;
///
/// let array = SharedArray::from_slice(&[3.0, 1.0, 2.0])?;
/// let elements = array.lock().unwrap();
/// let mut sorted = elements.to_vec();
/// sorted.sort_by(f64::total_cmp);
/// elements.copy_from_slice(&sorted);
/// assert!(array.try_lock().is_err());
/// drop(elements);
/// assert_eq!(array.get(2), Some(3.0));
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use = "the array is unlocked when the guard is dropped"]
pub struct SharedGuard<T: Pod> {
    locked: Locked,
    was_panicking: bool,
    elements: PhantomData<SharedCell<T>>,
}

impl<T: Pod> SharedArray<T> {
    /// Makes an array of `len` elements, all zero.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchgrass::process::SharedArray;
    ///
    /// let array = SharedArray::<[f32; 2]>::new(1000)?;
    /// assert_eq!(array.len(), 1000);
    /// assert_eq!(array.get(999), Some([0.0, 0.0]));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If not enough memory, or no descriptors, are left.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn new(len: usize) -> io::Result<Self> {
        const { assert!(size_of::<T>() > 0, "elements must have a size") };
        const {
            assert!(align_of::<T>() <= VALUES, "the alignment of elements must be at most 64 bytes")
        };
        let bytes = len.checked_mul(size_of::<T>()).ok_or(io::ErrorKind::OutOfMemory);
        let memory = bytes.map_err(io::Error::from).and_then(SharedMemory::new);
        let memory = memory.map_err(|error| {
            let size = size_of::<T>();
            let message = format!(
                "cannot allocate shared memory for {len} elements of {size} bytes: {error}"
            );
            io::Error::new(error.kind(), message)
        })?;
        Ok(SharedArray { memory, elements: PhantomData })
    }

    /// Makes an array of copies of `elements`.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchgrass::process::SharedArray;
    ///
    /// let array = SharedArray::from_slice(b"hello")?;
    /// assert_eq!(array.get(0), Some(b'h'));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`SharedArray::new`].
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn from_slice(elements: &[T]) -> io::Result<Self> {
        let array = Self::new(elements.len())?;
        let guard = array.try_lock().expect("a new array is not locked");
        guard.copy_from_slice(elements);
        drop(guard);
        Ok(array)
    }

    /// The number of elements. It never changes.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchgrass::process::SharedArray;
    ///
    /// assert_eq!(SharedArray::from_slice(&[1, 2, 3])?.len(), 3);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn len(&self) -> usize {
        self.memory.count::<T>()
    }

    /// Whether there are no elements.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchgrass::process::SharedArray;
    ///
    /// assert!(SharedArray::<u8>::new(0)?.is_empty());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Locks the array. Waits while any other process or coroutine has locked it.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchgrass::process::SharedArray;
    ///
    /// let account = SharedArray::from_slice(&[100, 0])?;
    /// let both = account.lock().unwrap_or_else(|poisoned| {
    /// // The holder was killed in the middle of a change. The two were 100 in total.
    ///     let both = poisoned.into_inner();
    ///     both[1].set(100 - both[0].get());
    ///     account.clear_poison();
    ///     both
    /// });
    /// both[0].update(|element| element - 30);
    /// both[1].update(|element| element + 30);
    /// # drop(both);
    /// # assert_eq!(account.lock().unwrap().to_vec(), [70, 30]);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the array is poisoned: a process ended, or a coroutine panicked or was killed, while it held the
    /// lock. The error contains the guard.
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits. If,
    /// on the first lock by this process, the kernel has no memory left to record the process as holder.
    ///
    /// # Switching
    ///
    /// May switch, if the array is locked: other coroutines run while this one waits. A coroutine that
    /// already holds the lock waits indefinitely; the deadlock detector treats this as a wait for another
    /// process.
    ///
    /// # Cancellation
    ///
    /// The array is not locked.
    #[track_caller]
    pub fn lock(&self) -> LockResult<SharedGuard<T>> {
        let locked = shared_lock::lock(&self.memory, "SharedArray::lock", None);
        SharedGuard::new(locked.expect("without a deadline, the wait does not time out"))
    }

    /// Locks the array if it is not locked.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::TryLockError;
    /// use switchgrass::process::SharedArray;
    ///
    /// let array = SharedArray::<u8>::new(1)?;
    /// let guard = array.try_lock().unwrap();
    /// assert!(matches!(array.try_lock(), Err(TryLockError::WouldBlock)));
    /// drop(guard);
    /// assert!(array.try_lock().is_ok());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `WouldBlock` if the array is locked. `Poisoned`, with the guard, if it is poisoned.
    ///
    /// # Panics
    ///
    /// If, on the first lock by this process, the kernel has no memory left to record the process as
    /// holder.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn try_lock(&self) -> TryLockResult<SharedGuard<T>> {
        match self.memory.try_lock() {
            Some(locked) => Ok(SharedGuard::new(locked)?),
            None => Err(TryLockError::WouldBlock),
        }
    }

    /// Like [`SharedArray::lock`], but waits for at most `limit`.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::TryLockError;
    /// use std::time::Duration;
    /// use switchgrass::process::SharedArray;
    ///
    /// let array = SharedArray::<u8>::new(1)?;
    /// let guard = array.lock().unwrap();
    /// let late = array.lock_timeout(Duration::from_millis(10));
    /// assert!(matches!(late, Err(TryLockError::WouldBlock)));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `WouldBlock` if the array is still locked after `limit`. `Poisoned`, with the guard, if it is
    /// poisoned.
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits. If,
    /// on the first lock by this process, the kernel has no memory left to record the process as holder.
    ///
    /// # Switching
    ///
    /// May switch, if the array is locked, even with a zero `limit`: other coroutines run while this one
    /// waits.
    ///
    /// # Cancellation
    ///
    /// The array is not locked.
    #[track_caller]
    pub fn lock_timeout(&self, limit: Duration) -> TryLockResult<SharedGuard<T>> {
        let deadline = Deadline::after(limit);
        match shared_lock::lock(&self.memory, "SharedArray::lock_timeout", deadline) {
            Some(locked) => Ok(SharedGuard::new(locked)?),
            None => Err(TryLockError::WouldBlock),
        }
    }

    /// Returns one element, read under the lock. `None` if `index` is out of bounds.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchgrass::process::SharedArray;
    ///
    /// let array = SharedArray::from_slice(&[1, 2, 3])?;
    /// assert_eq!(array.get(2), Some(3));
    /// assert_eq!(array.get(3), None);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If the array is poisoned. Unwinds if a kill, a timeout or another panic is raised in the current
    /// coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch, if the array is locked: other coroutines run while this one waits.
    ///
    /// # Cancellation
    ///
    /// Has no effect.
    #[track_caller]
    pub fn get(&self, index: usize) -> Option<T> {
        if index >= self.len() {
            return None;
        }
        Some(self.lock_sound("SharedArray::get")[index].get())
    }

    /// Sets one element, under the lock.
    ///
    /// For a value that depends on the previous one, use [`lock`](SharedArray::lock): another process may
    /// change the element between [`get`](SharedArray::get) and `set`.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchgrass::process::SharedArray;
    ///
    /// let array = SharedArray::<u32>::new(3)?;
    /// array.set(2, 7);
    /// assert_eq!(array.lock().unwrap().to_vec(), [0, 0, 7]);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If `index` is out of bounds. If the array is poisoned. Unwinds if a kill, a timeout or another panic
    /// is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch, if the array is locked: other coroutines run while this one waits.
    ///
    /// # Cancellation
    ///
    /// The element is unchanged.
    #[track_caller]
    pub fn set(&self, index: usize, value: T) {
        let len = self.len();
        assert!(
            index < len,
            "index out of bounds: the SharedArray has {len} elements but the index is {index}"
        );
        self.lock_sound("SharedArray::set")[index].set(value);
    }

    #[track_caller]
    fn lock_sound(&self, purpose: &'static str) -> SharedGuard<T> {
        let locked = shared_lock::lock(&self.memory, purpose, None)
            .expect("without a deadline, the wait does not time out");
        SharedGuard::new(locked).unwrap_or_else(|poisoned| {
            drop(poisoned);
            panic!(
                "{purpose}: the array is poisoned, since a process or a coroutine has ended in the middle of \
                 a change: access the elements by lock(), repair them, and call clear_poison()"
            )
        })
    }

    /// Whether the array is poisoned.
    ///
    /// It is if a process ended, or a coroutine panicked or was killed, while it held the lock.
    ///
    /// The end of a process is noticed when the array is next locked.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchgrass::process::SharedArray;
    /// use switchgrass::spawn;
    ///
    /// let array = SharedArray::<u8>::new(1)?;
    /// let clone = array.clone();
    /// let failing = spawn(move || {
    ///     let elements = clone.lock().unwrap();
    ///     elements[0].set(1);
    ///     panic!("in the middle");
    /// });
    /// assert!(failing.join().is_err());
    /// assert!(array.is_poisoned());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn is_poisoned(&self) -> bool {
        self.memory.notes().is_poisoned.load(Relaxed) != 0
    }

    /// Marks the elements as consistent again.
    ///
    /// Call it while the array is locked, so that no other process sees the array poisoned in between.
    ///
    /// # Examples
    ///
    /// See [`SharedArray::lock`].
    pub fn clear_poison(&self) {
        self.memory.notes().is_poisoned.store(0, Relaxed);
    }
}

/// Makes another handle of the same elements.
impl<T> Clone for SharedArray<T> {
    fn clone(&self) -> Self {
        SharedArray { memory: Arc::clone(&self.memory), elements: PhantomData }
    }
}

impl<T: Pod> fmt::Debug for SharedArray<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("SharedArray");
        debug.field("len", &self.len()).field("is_poisoned", &self.is_poisoned());
        debug.finish_non_exhaustive()
    }
}

impl<T: Pod> SharedGuard<T> {
    fn new(locked: Locked) -> LockResult<Self> {
        let is_poisoned = locked.notes().is_poisoned.load(Relaxed) != 0;
        let was_panicking = thread::panicking();
        let guard = SharedGuard { locked, was_panicking, elements: PhantomData };
        if is_poisoned { Err(PoisonError::new(guard)) } else { Ok(guard) }
    }

    /// Returns copies of all elements.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchgrass::process::SharedArray;
    ///
    /// let array = SharedArray::from_slice(&[1, 2, 3])?;
    /// assert_eq!(array.lock().unwrap().to_vec(), [1, 2, 3]);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn to_vec(&self) -> Vec<T> {
        self.iter().map(SharedCell::get).collect()
    }

    /// Sets all elements.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchgrass::process::SharedArray;
    ///
    /// let array = SharedArray::<u16>::new(3)?;
    /// array.lock().unwrap().copy_from_slice(&[1, 2, 3]);
    /// assert_eq!(array.get(1), Some(2));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If the lengths differ, as in [`slice::copy_from_slice`].
    #[track_caller]
    pub fn copy_from_slice(&self, elements: &[T]) {
        let (len, given) = (self.len(), elements.len());
        assert!(len == given, "the SharedArray has {len} elements but the slice has {given}");
        self.iter().zip(elements).for_each(|(cell, element)| cell.set(*element));
    }
}

impl<T: Pod> Deref for SharedGuard<T> {
    type Target = [SharedCell<T>];

    #[inline]
    fn deref(&self) -> &[SharedCell<T>] {
        self.locked.cells()
    }
}

impl<T: Pod> Drop for SharedGuard<T> {
    fn drop(&mut self) {
        if !self.was_panicking && self.locked.is_ours() && thread::panicking() {
            self.locked.notes().is_poisoned.store(1, Relaxed);
        }
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for SharedGuard<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().fmt(f)
    }
}
