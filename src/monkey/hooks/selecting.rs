//! `select`. The sets are as long as the number of descriptors says, which may be more than an `fd_set` has
//! room for, or as the kernel has places for descriptors, if that is less.

use super::polling::{Limit, Watched, changes_signals, interruptible, is_bad_mask, wait_for_any};
use crate::hub::yield_if_due_nounwind;
use crate::monkey::blocking_pool::Lent;
use crate::monkey::dedicated::aside_or_ended;
use crate::monkey::numbers::END;
use crate::monkey::{errno, originals};
use crate::sys::{clock, user_memory};
use libc::{c_int, c_ulong, fd_set, iovec, sigset_t, timespec, timeval};
use std::ptr;
use std::time::Duration;

/// What is asked of the kernel, which writes its answer over the question.
struct Sets {
    /// To be read, written, and looked at for what is out of the ordinary.
    places: [*mut fd_set; 3],
    questions: [Vec<c_ulong>; 3],
    answers: [Vec<c_ulong>; 3],
    count: c_int,
}

const BITS: usize = c_ulong::BITS as usize;

impl Sets {
    /// `None` if one of them cannot be read.
    ///
    /// # Safety
    ///
    /// Each is null, or has as many bits as the kernel looks at: `count`, but no more than there can be
    /// descriptors now.
    unsafe fn new(count: c_int, places: [*mut fd_set; 3]) -> Option<Self> {
        // There never are more descriptors.
        let count = count.min(END as c_int);
        let words = (count.max(0) as usize).div_ceil(BITS);
        let mut questions = [const { Vec::new() }; 3];
        for (question, place) in questions.iter_mut().zip(places) {
            if !place.is_null() {
                // SAFETY: the caller's.
                *question = unsafe { copy_of(place.cast(), words) }?;
            }
        }
        Some(Sets { places, answers: questions.clone(), questions, count })
    }

    /// Asks. An answer that is not 0 is given to the caller.
    ///
    /// # Safety
    ///
    /// As for [`Sets::new`].
    unsafe fn ask(&mut self) -> c_int {
        for (answer, question) in self.answers.iter_mut().zip(&self.questions) {
            answer.copy_from_slice(question);
        }
        let mut now = timeval { tv_sec: 0, tv_usec: 0 };
        let mut at = 0;
        let [read, write, except] = self.places.map(|place| {
            let answer = self.answers[at].as_mut_ptr();
            at += 1;
            if place.is_null() { ptr::null_mut() } else { answer.cast() }
        });
        // SAFETY: sets that are long enough.
        let answer = unsafe { originals::select::call(self.count, read, write, except, &mut now) };
        if answer > 0 {
            // SAFETY: the caller's.
            unsafe { self.tell() };
        }
        answer
    }

    /// Writes the words that have changed: those that the kernel has not looked at stay as they are.
    ///
    /// # Safety
    ///
    /// As for [`Sets::new`].
    unsafe fn tell(&self) {
        for ((place, answers), questions) in
            self.places.into_iter().zip(&self.answers).zip(&self.questions)
        {
            let words = answers.iter().zip(questions);
            for (index, (answer, question)) in words.enumerate() {
                if answer != question {
                    // SAFETY: the caller's: the kernel has looked at this word.
                    unsafe { place.cast::<c_ulong>().add(index).write(*answer) };
                }
            }
        }
    }

    fn watched(&self) -> Watched {
        let mut watched = Watched::default();
        let bits_of = |word: usize| {
            let words = self.questions.iter().filter_map(move |set| set.get(word));
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
            if self.questions.iter().any(has) {
                // A number beyond all that the process has is not looked at by the kernel either.
                let _ = watched.add(fd, has(&self.questions[1]));
            }
        }
        watched
    }
}

/// As many of `words` words as there are: the kernel looks at no more than it has places for descriptors, so
/// that a set may be shorter than is said. What is read beyond what it looks at is not used. `None` if
/// nothing can be read.
///
/// # Safety
///
/// At least one word, and as many as the kernel looks at.
unsafe fn copy_of(place: *const c_ulong, words: usize) -> Option<Vec<c_ulong>> {
    const PAGE: usize = 4096;
    let mut copy = vec![0; words];
    let length = words * size_of::<c_ulong>();
    if place.addr() % PAGE + length <= PAGE {
        if !user_memory::is_readable(place, length) {
            return None;
        }
        // SAFETY: it can be read.
        unsafe { ptr::copy_nonoverlapping(place, copy.as_mut_ptr(), words) };
        return Some(copy);
    }
    let to = iovec { iov_base: copy.as_mut_ptr().cast(), iov_len: length };
    // Page by page, so that the kernel stops where nothing is mapped.
    let mut from = Vec::new();
    let (mut at, end) = (place.addr(), place.addr() + length);
    while at < end {
        let next = (at / PAGE + 1) * PAGE;
        let part = place.with_addr(at).cast_mut().cast();
        from.push(iovec { iov_base: part, iov_len: next.min(end) - at });
        at = next;
    }
    // SAFETY: no preconditions but room for the copy: the kernel checks what it reads.
    let read = unsafe {
        libc::process_vm_readv(libc::getpid(), &to, 1, from.as_ptr(), from.len() as c_ulong, 0)
    };
    if read < 0 && errno::get() == libc::EFAULT {
        return None;
    }
    if read < 0 {
        // It is forbidden here. A program's sets are as long as it says, but for what this is careful about.
        // SAFETY: the caller's.
        unsafe { ptr::copy_nonoverlapping(place, copy.as_mut_ptr(), words) };
    }
    Some(copy)
}

/// `None` if it has to block.
///
/// # Safety
///
/// As libc's `select`.
unsafe fn select_by(
    purpose: &'static str,
    count: c_int,
    places: [*mut fd_set; 3],
    limit: Limit,
) -> Option<c_int> {
    yield_if_due_nounwind();
    // SAFETY: the caller's.
    let Some(mut sets) = (unsafe { Sets::new(count, places) }) else {
        return Some(errno::fail(libc::EFAULT));
    };
    // SAFETY: the caller's.
    let mut answer = unsafe { sets.ask() };
    if answer == 0 && !limit.is_zero() {
        let watched = sets.watched();
        // SAFETY: the caller's.
        answer = wait_for_any(purpose, &watched, limit.deadline(), || unsafe { sets.ask() })?;
    }
    if answer == 0 {
        // SAFETY: the caller's. The sets are empty.
        unsafe { sets.tell() };
    }
    Some(answer)
}

/// # Safety
///
/// As libc's. The time that is left is written back, as Linux does.
pub(in crate::monkey) unsafe fn select(
    count: c_int,
    read: *mut fd_set,
    write: *mut fd_set,
    except: *mut fd_set,
    time: *mut timeval,
) -> c_int {
    // SAFETY: the caller's.
    let limit = match unsafe { time.as_ref() } {
        None => Some(Limit::Never),
        Some(time) => duration(time).map(Limit::After),
    };
    let begin = clock::now();
    // SAFETY: the caller's.
    let done =
        limit.and_then(|limit| unsafe { select_by("select", count, [read, write, except], limit) });
    let Some(answer) = done else {
        // SAFETY: the caller's.
        return unsafe { originals::select::call_blocking(count, read, write, except, time) };
    };
    if let Some(Limit::After(limit)) = limit {
        let left = limit.saturating_sub(Duration::from_nanos(clock::now() - begin));
        let left = timeval { tv_sec: left.as_secs() as _, tv_usec: left.subsec_micros() as _ };
        // SAFETY: the caller's; not null.
        unsafe { *time = left };
    }
    answer
}

/// `None` for what libc would not take.
fn duration(time: &timeval) -> Option<Duration> {
    let (seconds, micros) = (u64::try_from(time.tv_sec).ok()?, u64::try_from(time.tv_usec).ok()?);
    Duration::from_secs(seconds).checked_add(Duration::from_micros(micros))
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn pselect(
    count: c_int,
    read: *mut fd_set,
    write: *mut fd_set,
    except: *mut fd_set,
    time: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    if is_bad_mask(mask) {
        // SAFETY: the caller's. It fails at once.
        return unsafe { originals::pselect::call(count, read, write, except, time, mask) };
    }
    // SAFETY: the caller's.
    if unsafe { changes_signals(mask) } {
        yield_if_due_nounwind();
        // SAFETY: the caller's, who is suspended until the call is over.
        let lent = unsafe { Lent::new((read, write, except, time)) };
        // SAFETY: the caller's; it is a set.
        let mask = unsafe { interruptible(mask) };
        let done = aside_or_ended("pselect", move || {
            let (read, write, except, time) = lent.get();
            // SAFETY: the caller's.
            unsafe { originals::pselect::call(count, read, write, except, time, &mask) }
        });
        // SAFETY: the caller's.
        return done.unwrap_or_else(|| unsafe {
            originals::pselect::call_blocking(count, read, write, except, time, &mask)
        });
    }
    // SAFETY: the caller's.
    let done = unsafe { Limit::of_time(time) }
        // SAFETY: the caller's.
        .and_then(|limit| unsafe { select_by("pselect", count, [read, write, except], limit) });
    // SAFETY: the caller's.
    done.unwrap_or_else(|| unsafe {
        originals::pselect::call_blocking(count, read, write, except, time, mask)
    })
}
