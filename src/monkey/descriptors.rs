//! The program's descriptors, by number.
//!
//! ```text
//!   NUMBERS: one word per number, for all threads      KNOWN: one table per thread
//!
//!   fd 7 │ generation │ watched │ ── the same? ──► fd 7 │ generation, kind, settings, Source in the hub
//!              ▲
//!              └── incremented by a close of 7, which wakes all its waiters
//! ```
//!
//! On a thread, a waiting read keeps the file open: data that arrived before another thread closed the number
//! is still read. So a close keeps a copy of the descriptor while calls wait, for one more attempt of each.
//!
//! A number is looked up at its first use, and registered with the hub at its first wait. If the generation
//! of an entry differs from that of the number, the entry belongs to a closed descriptor: it is not used any
//! more, and a late event finds no waiter.

use super::closed;
use super::known::Known;
use super::numbers::{self, COPIED, Number, WATCHED, number, number_made};
use super::originals::fcntl;
use crate::hub::{NounwindHub, at_end};
use crate::sys::descriptor::Kind;
use crate::sys::fork::{Fork, Side};
use crate::sys::lock::{Lock, Locked};
use crate::sys::signal_counts;
use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::atomic::AtomicI32;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::{Arc, LazyLock};

/// The hubs whose threads have looked up a number.
static WATCHERS: LazyLock<Lock<HashMap<RawFd, Vec<NounwindHub>>>> =
    LazyLock::new(|| Lock::new(HashMap::new()));

/// The process that these tables describe.
///
/// A new child that shares its parent's memory, or has a copy of it, closes only its own descriptors: its
/// closes leave the tables unchanged.
static PROCESS: AtomicI32 = AtomicI32::new(0);

thread_local! {
    /// Has no destructor, so that it exists for as long as calls are made. Emptied when the hub ends.
    static KNOWN: ManuallyDrop<RefCell<Vec<Option<Rc<Known>>>>> =
        const { ManuallyDrop::new(RefCell::new(Vec::new())) };
}

fn watchers() -> Locked<'static, HashMap<RawFd, Vec<NounwindHub>>> {
    WATCHERS.lock()
}

/// Returns this thread's entry of a descriptor, which it makes if necessary.
///
/// `None` if the number is not open or out of range, or if the table is in use, as in a signal handler.
#[inline]
pub(super) fn look_up(fd: RawFd) -> Option<Rc<Known>> {
    let generation = number(fd).map_or(0, Number::generation);
    // A signal handler may have interrupted a use of the table.
    let known = KNOWN.with(|known| known.try_borrow().ok()?.get(fd as usize).cloned().flatten());
    match known {
        Some(known) if known.generation() == generation => Some(known),
        other => learn(fd, other),
    }
}

/// Makes the entry of a descriptor, and records this thread's hub as a watcher of the number.
#[cold]
fn learn(fd: RawFd, old: Option<Rc<Known>>) -> Option<Rc<Known>> {
    if let Some(old) = old {
        old.forget(None);
    }
    let kind = Kind::of(fd)?;
    let number = number_made(fd)?;
    PROCESS.store(process(), Relaxed);
    let generation = {
        let mut watchers = watchers();
        let all = watchers.entry(fd).or_default();
        let here = NounwindHub::here();
        if !all.contains(&here) {
            all.push(here);
        }
        number.watch()
    };
    let known = Rc::new(Known::new(fd, generation, kind));
    let before = KNOWN.with(|all| {
        let mut all = all.try_borrow_mut().ok()?;
        if all.is_empty() {
            at_end(forget_all);
        }
        let number = fd as usize;
        if all.len() <= number {
            all.resize(number + 1, None);
        }
        Some(all[number].replace(Rc::clone(&known)))
    })?;
    drop(before);
    Some(known)
}

/// Forks while no other thread holds the tables.
///
/// The child has only this thread. Its entries apply to its copies of the descriptors.
pub(super) fn around_fork(fork: Fork<'_>) -> io::Result<Side> {
    let mut watchers = watchers();
    let _closed = closed::hold();
    let side = fork();
    if matches!(side, Ok(Side::Child)) {
        PROCESS.store(process(), Relaxed);
        watchers.values_mut().for_each(|hubs| hubs.retain(NounwindHub::is_here));
    }
    side
}

/// Drops this thread's entries: its hub ends.
fn forget_all() {
    drop(KNOWN.with(|known| known.take()));
}

fn process() -> libc::pid_t {
    // SAFETY: `getpid` has no preconditions.
    unsafe { libc::getpid() }
}

/// Ends the generation of a number that is about to be closed or replaced.
///
/// Its waiters on all threads make one more attempt, for data that arrived before, and otherwise fail.
#[inline]
pub(super) fn forget(fd: RawFd) {
    if let Some(number) = noted(fd) {
        forget_known(fd, number, true);
    }
}

/// Like [`forget`], for a number that is a new file's already, since its close was not seen.
#[inline]
pub(super) fn forget_last(fd: RawFd) {
    if let Some(number) = noted(fd) {
        forget_known(fd, number, false);
    }
}

/// Returns the number's state, if a thread has looked it up or it was copied.
#[inline]
fn noted(fd: RawFd) -> Option<&'static Number> {
    number(fd).filter(|number| number.state.load(SeqCst) & (WATCHED | COPIED) != 0)
}

/// Like [`forget`], for all numbers from `first` to `last`.
pub(super) fn forget_range(first: u32, last: u32) {
    let mut fd = first;
    while fd <= last && fd < numbers::END {
        match number(fd as RawFd) {
            Some(_) => {
                forget(fd as RawFd);
                fd += 1;
            }
            // No number of its chunk was ever used.
            None => fd = numbers::next_chunk(fd),
        }
    }
}

#[cold]
fn forget_known(fd: RawFd, number: &Number, is_open: bool) {
    if PROCESS.load(Relaxed) != process() {
        return;
    }
    if signal_counts::is_inside() {
        // The interrupted code may hold the lock. Waiting calls are not woken, as in the kernel; the next
        // look-up makes a new entry.
        number.end_generation();
        return;
    }
    let (all, generation, file) = {
        let mut watchers = watchers();
        let all = watchers.remove(&fd).unwrap_or_default();
        let is_known_here = all.iter().any(NounwindHub::is_here);
        let is_in_use_here = is_known_here && is_in_use(fd, number.generation());
        let mut files = closed::hold();
        let generation = number.end_generation();
        // While a hub keeps a copy, the peer does not see the close. So none is made for threads that have
        // used the number earlier but have no call on it now.
        let is_kept = is_open && (is_in_use_here || (!all.is_empty() && number.is_waited_for()));
        let file = is_kept.then(|| copy(fd)).flatten();
        if let Some(file) = &file {
            closed::note(&mut files, fd, generation, file);
        }
        (all, generation, file)
    };
    for hub in all {
        if hub.is_here() {
            forget_here(fd, generation, file.clone());
        } else {
            let file = file.clone();
            hub.call(move || forget_here(fd, generation, file));
        }
    }
}

/// Wakes the waiters of a descriptor after a change that causes no event.
pub(super) fn rouse(fd: RawFd) {
    let Some(number) = noted(fd).filter(|_| !signal_counts::is_inside()) else { return };
    let generation = number.generation();
    let all = watchers().get(&fd).cloned().unwrap_or_default();
    for hub in all {
        if hub.is_here() {
            rouse_here(fd, generation);
        } else {
            hub.call(move || rouse_here(fd, generation));
        }
    }
}

/// Wakes this thread's waiters of a number, if the generation is still its entry's.
fn rouse_here(fd: RawFd, generation: u32) {
    let known = KNOWN.with(|known| known.try_borrow().ok()?.get(fd as usize).cloned().flatten());
    if let Some(known) = known.filter(|known| known.generation() == generation) {
        known.rouse();
    }
}

/// Duplicates the descriptor, to a number above those of the standard streams.
fn copy(fd: RawFd) -> Option<Arc<OwnedFd>> {
    const FIRST: usize = 3;
    // SAFETY: this `fcntl` command accesses no memory.
    let copy = unsafe { fcntl::call(fd, libc::F_DUPFD_CLOEXEC, FIRST) };
    // SAFETY: the descriptor is new, and has no other owner.
    (copy >= 0).then(|| Arc::new(unsafe { OwnedFd::from_raw_fd(copy) }))
}

/// Whether this thread has a call in progress on the number: each holds a reference to the entry.
fn is_in_use(fd: RawFd, generation: u32) -> bool {
    KNOWN.with(|known| {
        let known = known.try_borrow().ok()?;
        let known = known.get(fd as usize)?.as_ref()?;
        Some(known.generation() == generation && Rc::strong_count(known) > 1)
    }) == Some(true)
}

/// Removes this thread's entry of a closed number, and hands `file` to the calls that use it.
fn forget_here(fd: RawFd, generation: u32, file: Option<Arc<OwnedFd>>) {
    let known = KNOWN.with(|known| {
        let mut known = known.try_borrow_mut().ok()?;
        known.get_mut(fd as usize)?.take_if(|known| known.generation() == generation)
    });
    if let Some(known) = known {
        known.forget(file);
    }
}
