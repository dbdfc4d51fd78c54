#![forbid(unsafe_code)]
//! Plain values that processes share.

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

/// So many elements of a plain type, in memory that this process shares with those that are forked from it
/// later, with a lock. As CPython's `multiprocessing.Array`.
///
/// It is to be made before the fork; parent and child then have the same elements, and both may have
/// clones, on any thread. Who finds it locked lets the other coroutines run until it is unlocked, by
/// whichever process. When there are several, any of them may be the next, whatever the order in which they
/// came; but who has waited for some hundredths of a second goes before those who come anew.
///
/// A process that is killed with the lock does not block the others: the next one gets it, and is told so, as
/// by a [`std::sync::Mutex`]. The array is then poisoned, for all, until somebody says by
/// [`clear_poison`](SharedArray::clear_poison) that the elements are right again. It is the same when the
/// process ends in another way, and when a coroutine panics or is killed with the lock. A lock that is
/// [forgotten](std::mem::forget), on the other hand, is held until its process ends, or executes another
/// program.
///
/// The elements are [`Pod`]: numbers, arrays of them, structures of them (which can `derive` it). They have
/// no pointers, which would lead nowhere in another process, nothing to be dropped, and whatever bytes
/// another process writes are a value: also half of one value and half of another, which is what one that is
/// killed in the middle leaves behind.
///
/// It takes two descriptors and whole pages, which are given back when no process has it any more. Memory is
/// shared with children that are forked by libc's `fork`, as those of this library are; not with programs
/// that are executed. A process that closes descriptors it has not opened loses its lock.
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
/// Types that have no size, or are aligned to more than 64 bytes, do not compile:
///
/// ```compile_fail
/// let array = switchgrass::process::SharedArray::<()>::new(3)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct SharedArray<T> {
    memory: Arc<SharedMemory>,
    /// One at a time has the elements, on whichever thread.
    elements: PhantomData<Mutex<T>>,
}

/// The use of the elements of a [`SharedArray`]: a slice of cells. Dropped, it unlocks the array.
///
/// It may be dropped on another thread. In a child that is forked while there is one, its copy is worth
/// nothing: it panics when it is used, and does nothing when it is dropped.
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
#[must_use = "dropped, it unlocks at once"]
pub struct SharedGuard<T: Pod> {
    locked: Locked,
    was_panicking: bool,
    elements: PhantomData<SharedCell<T>>,
}

impl<T: Pod> SharedArray<T> {
    /// Makes an array of `len` elements, all of them zero.
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
    /// If there is not so much memory, or there are no descriptors left.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn new(len: usize) -> io::Result<Self> {
        const { assert!(size_of::<T>() > 0, "elements of no size need no memory to be shared") };
        const { assert!(align_of::<T>() <= VALUES, "elements are aligned to 64 bytes at most") };
        let bytes = len.checked_mul(size_of::<T>()).ok_or(io::ErrorKind::OutOfMemory);
        let memory = bytes.map_err(io::Error::from).and_then(SharedMemory::new);
        let memory = memory.map_err(|error| {
            let size = size_of::<T>();
            let message = format!("no shared memory for {len} elements of {size} bytes: {error}");
            io::Error::new(error.kind(), message)
        })?;
        Ok(SharedArray { memory, elements: PhantomData })
    }

    /// Makes an array of copies of these elements.
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
    /// As [`SharedArray::new`].
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn from_slice(elements: &[T]) -> io::Result<Self> {
        let array = Self::new(elements.len())?;
        let guard = array.try_lock().expect("nobody else has it");
        guard.copy_from_slice(elements);
        drop(guard);
        Ok(array)
    }

    /// How many elements there are. That never changes.
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

    /// Waits until nobody else uses the elements, in whichever process.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchgrass::process::SharedArray;
    ///
    /// let account = SharedArray::from_slice(&[100, 0])?;
    /// let both = account.lock().unwrap_or_else(|poisoned| {
    ///     // Somebody was killed in the middle. These were 100 together.
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
    /// If a process has ended with the lock, or a coroutine has panicked or was killed with it. The error has
    /// the guard.
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile. If the kernel has no memory to know that this
    /// process has the lock, when it first locks the array.
    ///
    /// # Switching
    ///
    /// Switches if somebody else uses the elements. All others may run meanwhile. A coroutine that has locked
    /// it already waits for itself, for ever: to the hub that is a wait for another process.
    ///
    /// # Cancellation
    ///
    /// It is not locked.
    #[track_caller]
    pub fn lock(&self) -> LockResult<SharedGuard<T>> {
        let locked = shared_lock::lock(&self.memory, "SharedArray::lock", None);
        SharedGuard::new(locked.expect("it waits for ever"))
    }

    /// As [`SharedArray::lock`], if nobody uses the elements.
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
    /// As [`std::sync::Mutex::try_lock`].
    ///
    /// # Panics
    ///
    /// If the kernel has no memory to know that this process has the lock, when it first locks the array.
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

    /// As [`SharedArray::lock`], for at most `limit`.
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
    /// As [`std::sync::Mutex::try_lock`]; `WouldBlock` says that the limit has passed.
    ///
    /// # Panics
    ///
    /// As [`SharedArray::lock`].
    ///
    /// # Switching
    ///
    /// Switches if somebody else uses the elements, also for a limit of zero. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// It is not locked.
    #[track_caller]
    pub fn lock_timeout(&self, limit: Duration) -> TryLockResult<SharedGuard<T>> {
        let deadline = Deadline::after(limit);
        match shared_lock::lock(&self.memory, "SharedArray::lock_timeout", deadline) {
            Some(locked) => Ok(SharedGuard::new(locked)?),
            None => Err(TryLockError::WouldBlock),
        }
    }

    /// One element, as of a moment when nobody is in the middle of a change. `None` if there are not so many,
    /// as of a slice.
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
    /// If the array is poisoned. As [`SharedArray::lock`].
    ///
    /// # Switching
    ///
    /// As [`SharedArray::lock`].
    ///
    /// # Cancellation
    ///
    /// Nothing has happened.
    #[track_caller]
    pub fn get(&self, index: usize) -> Option<T> {
        if index >= self.len() {
            return None;
        }
        Some(self.lock_sound("SharedArray::get")[index].get())
    }

    /// Changes one element.
    ///
    /// What it is to be must not depend on what it was: others may change it in between. That is for
    /// [`lock`](SharedArray::lock).
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
    /// If there are not so many elements, as `slice[index] = value` does. If the array is poisoned. As
    /// [`SharedArray::lock`].
    ///
    /// # Switching
    ///
    /// As [`SharedArray::lock`].
    ///
    /// # Cancellation
    ///
    /// Nothing has happened.
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
        let locked = shared_lock::lock(&self.memory, purpose, None).expect("it waits for ever");
        SharedGuard::new(locked).unwrap_or_else(|poisoned| {
            drop(poisoned);
            panic!(
                "{purpose}: the array is poisoned, since a process or a coroutine has ended in the middle of \
                 a change; lock() gives the elements all the same, clear_poison() says that they are right"
            )
        })
    }

    /// Whether a process has ended with the lock, or a coroutine has panicked or was killed with it. That a
    /// process has ended shows when the array is next locked.
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

    /// Says that the elements are as they should be again. As long as the array is locked by whoever says so,
    /// nobody has seen them otherwise.
    ///
    /// # Examples
    ///
    /// See [`SharedArray::lock`].
    pub fn clear_poison(&self) {
        self.memory.notes().is_poisoned.store(0, Relaxed);
    }
}

/// Another handle of the same elements.
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

    /// Copies of all elements.
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

    /// Changes all elements.
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
    /// If there are not as many as in the array, as [`slice::copy_from_slice`] does.
    #[track_caller]
    pub fn copy_from_slice(&self, elements: &[T]) {
        let (len, given) = (self.len(), elements.len());
        assert!(len == given, "the SharedArray has {len} elements, but these are {given}");
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
