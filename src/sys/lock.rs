//! A lock that is held for a few instructions, and never across a switch.
//!
//! It waits by a system call of its own. `std`'s lock would call a libc function, which may be one of this
//! crate's hooks: a waiter would then switch in the middle of a change, and other greenlets would see it
//! half made.
//!
//! ```text
//!   FREE ──lock──► HELD ──another waits──► CONTENDED ──unlock: one waiter is woken──► FREE
//! ```

use std::cell::UnsafeCell;
use std::hint::spin_loop;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// No thread holds the lock.
const FREE: u32 = 0;
/// Held, and no waiter has announced itself since. Set by `lock` and `try_lock`.
const HELD: u32 = 1;
/// Held, and threads may wait. Set by each waiter before it sleeps, and by a woken waiter that takes the
/// lock, since it does not know of others. `unlock` clears it and wakes one waiter.
const CONTENDED: u32 = 2;

/// A mutual-exclusion lock. Public in a crate-private module, since a sealed trait names it.
#[derive(Debug)]
pub struct Lock<T> {
    state: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: one thread at a time accesses the value, which is sent from thread to thread.
unsafe impl<T: Send> Sync for Lock<T> {}

impl<T: Default> Default for Lock<T> {
    fn default() -> Self {
        Lock::new(T::default())
    }
}

/// Guard of a [`Lock`]. It stays on its thread, since the value may have to.
#[derive(Debug)]
pub(crate) struct Locked<'a, T>(&'a Lock<T>, PhantomData<*const T>);

impl<T> Lock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Lock { state: AtomicU32::new(FREE), value: UnsafeCell::new(value) }
    }

    #[inline]
    pub(crate) fn lock(&self) -> Locked<'_, T> {
        if self.state.compare_exchange(FREE, HELD, Acquire, Relaxed).is_err() {
            self.wait();
        }
        Locked(self, PhantomData)
    }

    /// Returns the guard, or `None` if another thread or this one holds the lock.
    #[inline]
    pub(crate) fn try_lock(&self) -> Option<Locked<'_, T>> {
        let free = self.state.compare_exchange(FREE, HELD, Acquire, Relaxed);
        free.is_ok().then(|| Locked(self, PhantomData))
    }

    #[cold]
    fn wait(&self) {
        const SPINS: u32 = 50;
        for _ in 0..SPINS {
            if self.state.load(Relaxed) == FREE
                && self.state.compare_exchange(FREE, HELD, Acquire, Relaxed).is_ok()
            {
                return;
            }
            spin_loop();
        }
        while self.state.swap(CONTENDED, Acquire) != FREE {
            futex(&self.state, libc::FUTEX_WAIT, CONTENDED);
        }
    }
}

impl<T> Deref for Locked<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this guard holds the lock.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> DerefMut for Locked<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard holds the lock, and is borrowed mutably.
        unsafe { &mut *self.0.value.get() }
    }
}

impl<T> Drop for Locked<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if self.0.state.swap(FREE, Release) == CONTENDED {
            futex(&self.0.state, libc::FUTEX_WAKE, 1);
        }
    }
}

/// Waits while `word` is `value`, or wakes `value` waiters. A wait may return early.
#[cold]
fn futex(word: &AtomicU32, operation: libc::c_int, value: u32) {
    let operation = operation | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: `word` is a live atomic, and neither operation writes to memory. `syscall` changes only
    // `rax`, `rcx` and `r11`.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") libc::SYS_futex => _,
            in("rdi") word.as_ptr(),
            in("rsi") operation,
            in("rdx") value,
            in("r10") 0,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    // SAFETY: `word` is a live atomic, and neither operation writes to memory. The kernel changes only `x0`.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") libc::SYS_futex,
            inlateout("x0") word.as_ptr() => _,
            in("x1") operation,
            in("x2") value,
            in("x3") 0,
            options(nostack),
        );
    }
    // SAFETY: `word` is a live atomic, and a null timeout means none.
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    unsafe {
        let never = std::ptr::null::<libc::timespec>();
        libc::syscall(libc::SYS_futex, word.as_ptr(), operation, value, never);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn one_at_a_time() {
        const ROUNDS: usize = 20_000;
        let count = Lock::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..ROUNDS {
                        let mut count = count.lock();
                        let seen = *count;
                        spin_loop();
                        *count = seen + 1;
                    }
                });
            }
        });
        assert_eq!(*count.lock(), 4 * ROUNDS);
    }
}
