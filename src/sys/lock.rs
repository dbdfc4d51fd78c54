//! A lock for what is held for some instructions and never while anybody switches.
//!
//! It waits by a system call of its own making. `std`'s lock would call a function of libc's, and that may
//! be one of this crate's: whoever waited in it would switch, in the middle of something that others then
//! find half done.
//!
//! ```text
//!   FREE ──lock──► HELD ──another waits──► WAITED_FOR ──unlock: one is woken──► FREE
//! ```

use std::cell::UnsafeCell;
use std::hint::spin_loop;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

const FREE: u32 = 0;
const HELD: u32 = 1;
const WAITED_FOR: u32 = 2;

/// Public in its crate-private module, since a sealed trait names it.
#[derive(Debug)]
pub struct Lock<T> {
    state: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: one at a time has the value, and it is handed from thread to thread.
unsafe impl<T: Send> Sync for Lock<T> {}

impl<T: Default> Default for Lock<T> {
    fn default() -> Self {
        Lock::new(T::default())
    }
}

/// It stays on its thread, as what it leads to may have to.
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

    /// `None` if it is held, by another thread or by this one.
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
        while self.state.swap(WAITED_FOR, Acquire) != FREE {
            futex(&self.state, libc::FUTEX_WAIT, WAITED_FOR);
        }
    }
}

impl<T> Deref for Locked<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: it is locked.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> DerefMut for Locked<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: it is locked.
        unsafe { &mut *self.0.value.get() }
    }
}

impl<T> Drop for Locked<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if self.0.state.swap(FREE, Release) == WAITED_FOR {
            futex(&self.0.state, libc::FUTEX_WAKE, 1);
        }
    }
}

/// Waits while `word` is `value`, or wakes so many. It may return early.
#[cold]
fn futex(word: &AtomicU32, operation: libc::c_int, value: u32) {
    let operation = operation | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: a word that is there. Neither operation does anything to memory, and the instruction changes
    // what is said here.
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
    // SAFETY: as above.
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
    // SAFETY: as above.
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
