//! The program's descriptors, by number.
//!
//! ```text
//!   NUMBERS: a word per number, for all threads        KNOWN: a table per thread
//!
//!   fd 7 │ generation │ watched │ ── the same? ──► fd 7 │ generation, kind, limits, Source in the hub
//!              ▲
//!              └── counted up by a close of 7, which wakes all that wait for it
//! ```
//!
//! On a thread, a read that waits keeps the open file: what came before another thread closes the number is
//! still read. So a close keeps a copy of the file while calls wait, for one more attempt of each.
//!
//! A number is looked up when it is first used, and registered with the hub when it is first waited for. An
//! entry whose generation is not the number's is of a descriptor that was closed: it is not used any more,
//! and an event that comes late finds nobody.

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

/// The threads that know a number.
static WATCHERS: LazyLock<Lock<HashMap<RawFd, Vec<NounwindHub>>>> =
    LazyLock::new(|| Lock::new(HashMap::new()));

/// The process that knows all this. A child that has just been made, and has its parent's memory or a copy
/// of it, closes what is its own: what the parent knows stays.
static PROCESS: AtomicI32 = AtomicI32::new(0);

thread_local! {
    /// Without a destructor, so that it is there for as long as calls are made. Emptied when the hub ends.
    static KNOWN: ManuallyDrop<RefCell<Vec<Option<Rc<Known>>>>> =
        const { ManuallyDrop::new(RefCell::new(Vec::new())) };
}

fn watchers() -> Locked<'static, HashMap<RawFd, Vec<NounwindHub>>> {
    WATCHERS.lock()
}

/// What is known of a descriptor, looked up if need be. `None` if it is none, or the thread is ending.
#[inline]
pub(super) fn look_up(fd: RawFd) -> Option<Rc<Known>> {
    let generation = number(fd).map_or(0, Number::generation);
    // A signal handler may have come in the middle of something.
    let known = KNOWN.with(|known| known.try_borrow().ok()?.get(fd as usize).cloned().flatten());
    match known {
        Some(known) if known.generation() == generation => Some(known),
        other => learn(fd, other),
    }
}

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

/// Around a fork: nobody is in the middle of something. In the child there is this thread alone; what it
/// knows of its descriptors is true of the copies.
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

/// The thread ends.
fn forget_all() {
    drop(KNOWN.with(|known| known.take()));
}

fn process() -> libc::pid_t {
    // SAFETY: no preconditions.
    unsafe { libc::getpid() }
}

/// The number is about to be closed, or to become that of something else. All that wait for it fail, on
/// every thread, unless there is something that came before.
#[inline]
pub(super) fn forget(fd: RawFd) {
    if let Some(number) = noted(fd) {
        forget_known(fd, number, true);
    }
}

/// The number is that of a new file already, since something unseen has closed it before.
#[inline]
pub(super) fn forget_last(fd: RawFd) {
    if let Some(number) = noted(fd) {
        forget_known(fd, number, false);
    }
}

#[inline]
fn noted(fd: RawFd) -> Option<&'static Number> {
    number(fd).filter(|number| number.state.load(SeqCst) & (WATCHED | COPIED) != 0)
}

/// So are all numbers from `first` to `last`.
pub(super) fn forget_range(first: u32, last: u32) {
    let mut fd = first;
    while fd <= last && fd < numbers::END {
        match number(fd as RawFd) {
            Some(_) => {
                forget(fd as RawFd);
                fd += 1;
            }
            // None of its chunk was ever used.
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
        // The table may be locked by the code that was interrupted. Waiting calls are not woken, as in the
        // kernel, and the next look-up learns the number anew.
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
        // A copy that a hub keeps until it hears of this has the peer see the end late. So there is none for
        // a thread that has only used the number before.
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

/// The program has done something to a descriptor of which calls that wait for it get no event.
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

fn rouse_here(fd: RawFd, generation: u32) {
    let known = KNOWN.with(|known| known.try_borrow().ok()?.get(fd as usize).cloned().flatten());
    if let Some(known) = known.filter(|known| known.generation() == generation) {
        known.rouse();
    }
}

/// Another number for the open file, among those that programs do not count on getting.
fn copy(fd: RawFd) -> Option<Arc<OwnedFd>> {
    const FIRST: usize = 3;
    // SAFETY: no memory is involved.
    let copy = unsafe { fcntl::call(fd, libc::F_DUPFD_CLOEXEC, FIRST) };
    // SAFETY: a new descriptor, owned by nobody else.
    (copy >= 0).then(|| Arc::new(unsafe { OwnedFd::from_raw_fd(copy) }))
}

/// Whether a call of this thread's is under way: each keeps what it has looked up.
fn is_in_use(fd: RawFd, generation: u32) -> bool {
    KNOWN.with(|known| {
        let known = known.try_borrow().ok()?;
        let known = known.get(fd as usize)?.as_ref()?;
        Some(known.generation() == generation && Rc::strong_count(known) > 1)
    }) == Some(true)
}

fn forget_here(fd: RawFd, generation: u32, file: Option<Arc<OwnedFd>>) {
    let known = KNOWN.with(|known| {
        let mut known = known.try_borrow_mut().ok()?;
        known.get_mut(fd as usize)?.take_if(|known| known.generation() == generation)
    });
    if let Some(known) = known {
        known.forget(file);
    }
}
