//! `select`.
//!
//! The sets are as long as the number of descriptors says. That may be longer than an `fd_set`. It is cut to
//! the size of the kernel's descriptor table if that is less.

use super::polling::{Timeout, Watched, changes_signals, interruptible, is_bad_mask, wait_for_any};
use crate::hub::yield_if_due_nounwind;
use crate::monkey::blocking_pool::Lent;
use crate::monkey::dedicated::aside_or_ended;
use crate::monkey::numbers::END;
use crate::monkey::{errno, originals};
use crate::sys::{clock, user_memory};
use libc::{c_int, c_ulong, fd_set, iovec, sigset_t, timespec, timeval};
use std::ptr;
use std::time::Duration;

/// The sets of a call. The kernel overwrites the requested bits with those that are ready.
struct Sets {
    /// The caller's sets: for reading, for writing, and for exceptional conditions.
    places: [*mut fd_set; 3],
    requested: [Vec<c_ulong>; 3],
    ready: [Vec<c_ulong>; 3],
    count: c_int,
}

const BITS: usize = c_ulong::BITS as usize;

impl Sets {
    /// Copies the caller's sets. `None` if one of them cannot be read.
    ///
    /// # Safety
    ///
    /// Each set is null or valid for as many bits as the kernel accesses: `count`, but no more than the
    /// size of the process's descriptor table. They stay valid as long as the result is used.
    unsafe fn new(count: c_int, places: [*mut fd_set; 3]) -> Option<Self> {
        // There are never more descriptors.
        let count = count.min(END as c_int);
        let words = (count.max(0) as usize).div_ceil(BITS);
        let mut requested = [const { Vec::new() }; 3];
        for (requested, place) in requested.iter_mut().zip(places) {
            if !place.is_null() {
                // SAFETY: the contract of this function: the words that the kernel accesses are valid.
                *requested = unsafe { copy_of(place.cast(), words) }?;
            }
        }
        Some(Sets { places, ready: requested.clone(), requested, count })
    }

    /// Queries the kernel. A result above 0 is written to the caller's sets.
    ///
    /// # Safety
    ///
    /// The contract of [`Sets::new`].
    unsafe fn query(&mut self) -> c_int {
        for (ready, requested) in self.ready.iter_mut().zip(&self.requested) {
            ready.copy_from_slice(requested);
        }
        let mut now = timeval { tv_sec: 0, tv_usec: 0 };
        let mut at = 0;
        let [read, write, except] = self.places.map(|place| {
            let ready = self.ready[at].as_mut_ptr();
            at += 1;
            if place.is_null() { ptr::null_mut() } else { ready.cast() }
        });
        // SAFETY: the sets are copies of `count` bits at least.
        let result = unsafe { originals::select::call(self.count, read, write, except, &mut now) };
        if result > 0 {
            // SAFETY: the sets meet the contract of [`Sets::new`].
            unsafe { self.write_back() };
        }
        result
    }

    /// Writes the changed words to the caller's sets.
    ///
    /// Words that the kernel has not accessed stay as they are.
    ///
    /// # Safety
    ///
    /// The contract of [`Sets::new`].
    unsafe fn write_back(&self) {
        for ((place, ready), requested) in
            self.places.into_iter().zip(&self.ready).zip(&self.requested)
        {
            let words = ready.iter().zip(requested);
            for (index, (ready, requested)) in words.enumerate() {
                if ready != requested {
                    // SAFETY: the contract of [`Sets::new`]: the kernel has accessed this word.
                    unsafe { place.cast::<c_ulong>().add(index).write(*ready) };
                }
            }
        }
    }

    /// The descriptors whose bits are set in any of the sets.
    fn watched(&self) -> Watched {
        let mut watched = Watched::default();
        let bits_of = |word: usize| {
            let words = self.requested.iter().filter_map(move |set| set.get(word));
            words.fold(0, |bits, word| bits | word)
        };
        let words = (self.count.max(0) as usize).div_ceil(BITS);
        for fd in (0..words).filter(|word| bits_of(*word) != 0).flat_map(|word| {
            let fds = word * BITS..(word + 1) * BITS;
            fds.filter(move |fd| *fd < self.count as usize)
        }) {
            let (word, bit) = (fd / BITS, fd % BITS);
            let fd = fd as c_int;
            let has = |set: &Vec<c_ulong>| set.get(word).is_some_and(|set| set >> bit & 1 == 1);
            if self.requested.iter().any(has) {
                // Numbers beyond the process's descriptor table are ignored, as by the kernel.
                let _ = watched.add(fd, has(&self.requested[1]));
            }
        }
        watched
    }
}

/// Copies up to `words` words. `None` if nothing can be read.
///
/// The kernel accesses no more than the size of the descriptor table, so a set may be shorter than `count`
/// says. Words beyond that may be copied, but are not used.
///
/// # Safety
///
/// `place` is valid for as many words as the kernel accesses, at least one.
unsafe fn copy_of(place: *const c_ulong, words: usize) -> Option<Vec<c_ulong>> {
    const PAGE: usize = 4096;
    let mut copy = vec![0; words];
    let length = words * size_of::<c_ulong>();
    if place.addr() % PAGE + length <= PAGE {
        if !user_memory::is_readable(place, length) {
            return None;
        }
        // SAFETY: all of these bytes can be read, and `copy` has as many.
        unsafe { ptr::copy_nonoverlapping(place, copy.as_mut_ptr(), words) };
        return Some(copy);
    }
    let to = iovec { iov_base: copy.as_mut_ptr().cast(), iov_len: length };
    // Page by page, so that the kernel stops at the first page that is not mapped.
    let mut from = Vec::new();
    let (mut at, end) = (place.addr(), place.addr() + length);
    while at < end {
        let next = (at / PAGE + 1) * PAGE;
        let part = place.with_addr(at).cast_mut().cast();
        from.push(iovec { iov_base: part, iov_len: next.min(end) - at });
        at = next;
    }
    // SAFETY: `copy` is valid for the write, and the kernel checks what it reads.
    let read = unsafe {
        libc::process_vm_readv(libc::getpid(), &to, 1, from.as_ptr(), from.len() as c_ulong, 0)
    };
    if read < 0 && errno::get() == libc::EFAULT {
        return None;
    }
    if read < 0 {
        // The system call is forbidden here. The set is then assumed to be as long as `count` says.
        // SAFETY: the contract of this function; the set is assumed to have `words` words.
        unsafe { ptr::copy_nonoverlapping(place, copy.as_mut_ptr(), words) };
    }
    Some(copy)
}

/// Polls and waits. `None` if the call has to block.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `select`.
unsafe fn select_by(
    purpose: &'static str,
    count: c_int,
    places: [*mut fd_set; 3],
    timeout: Timeout,
) -> Option<c_int> {
    yield_if_due_nounwind();
    // SAFETY: contract of a hook: each set is null or valid for `count` bits.
    let Some(mut sets) = (unsafe { Sets::new(count, places) }) else {
        return Some(errno::fail(libc::EFAULT));
    };
    // SAFETY: contract of a hook: the sets meet the contract of [`Sets::new`].
    let mut result = unsafe { sets.query() };
    if result == 0 && !timeout.is_zero() {
        let watched = sets.watched();
        // SAFETY: contract of a hook: the sets meet the contract of [`Sets::new`].
        result = wait_for_any(purpose, &watched, timeout.deadline(), || unsafe { sets.query() })?;
    }
    if result == 0 {
        // SAFETY: contract of a hook: the caller's sets, which are cleared.
        unsafe { sets.write_back() };
    }
    Some(result)
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`). The time that is left is written back, as in Linux.
pub(in crate::monkey) unsafe fn select(
    count: c_int,
    read: *mut fd_set,
    write: *mut fd_set,
    except: *mut fd_set,
    time: *mut timeval,
) -> c_int {
    // SAFETY: contract of a hook: the pointer is null or valid.
    let timeout = match unsafe { time.as_ref() } {
        None => Some(Timeout::Never),
        Some(time) => duration(time).map(Timeout::After),
    };
    let begin = clock::now();
    // SAFETY: contract of a hook: `select_by` has the same contract.
    let done = timeout
        .and_then(|timeout| unsafe { select_by("select", count, [read, write, except], timeout) });
    let Some(result) = done else {
        // SAFETY: contract of a hook: libc's `select` gets the caller's pointers.
        return unsafe { originals::select::call_blocking(count, read, write, except, time) };
    };
    if let Some(Timeout::After(timeout)) = timeout {
        let left = timeout.saturating_sub(Duration::from_nanos(clock::now() - begin));
        let left = timeval { tv_sec: left.as_secs() as _, tv_usec: left.subsec_micros() as _ };
        // SAFETY: contract of a hook: not null, so it is valid for a write.
        unsafe { *time = left };
    }
    result
}

/// `None` for a time that libc refuses.
fn duration(time: &timeval) -> Option<Duration> {
    let (seconds, micros) = (u64::try_from(time.tv_sec).ok()?, u64::try_from(time.tv_usec).ok()?);
    Duration::from_secs(seconds).checked_add(Duration::from_micros(micros))
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn pselect(
    count: c_int,
    read: *mut fd_set,
    write: *mut fd_set,
    except: *mut fd_set,
    time: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    if is_bad_mask(mask) {
        // SAFETY: contract of a hook: libc's `pselect` gets the caller's pointers. It fails at once.
        return unsafe { originals::pselect::call(count, read, write, except, time, mask) };
    }
    // SAFETY: contract of a hook: the mask is null or a signal set.
    if unsafe { changes_signals(mask) } {
        yield_if_due_nounwind();
        // SAFETY: contract of a hook: the pointers are valid on any thread until the suspended caller
        // returns.
        let lent = unsafe { Lent::new((read, write, except, time)) };
        // SAFETY: contract of a hook: the mask is not null, so it is a signal set.
        let mask = unsafe { interruptible(mask) };
        let done = aside_or_ended("pselect", move || {
            let (read, write, except, time) = lent.get();
            // SAFETY: contract of a hook: the suspended caller lends the pointers to libc's `pselect`.
            unsafe { originals::pselect::call(count, read, write, except, time, &mask) }
        });
        // SAFETY: contract of a hook: libc's `pselect` gets the caller's pointers.
        return done.unwrap_or_else(|| unsafe {
            originals::pselect::call_blocking(count, read, write, except, time, &mask)
        });
    }
    // SAFETY: contract of a hook: the time is null or valid.
    let done = unsafe { Timeout::of_time(time) }
        // SAFETY: contract of a hook: `select_by` has the same contract.
        .and_then(|timeout| unsafe { select_by("pselect", count, [read, write, except], timeout) });
    // SAFETY: contract of a hook: libc's `pselect` gets the caller's pointers.
    done.unwrap_or_else(|| unsafe {
        originals::pselect::call_blocking(count, read, write, except, time, mask)
    })
}
