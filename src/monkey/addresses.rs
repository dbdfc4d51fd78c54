#![forbid(unsafe_code)]
//! Coroutines that wait at an address, as threads do in `futex`.
//!
//! ```text
//!   waiter                                      waker
//!
//!   lock the bucket                             change the word
//!   WAITING += 1                                ── fence ──
//!   ── fence ──                                 WAITING = 0? ──yes──► no waiters
//!   is the word as expected? ──no──► leave         │ no
//!   enqueue                                     lock the bucket, remove, unlock
//!   unlock; park                                unpark
//! ```
//!
//! No wake-up is lost. The two fences are sequentially consistent, so one of them comes first. If the waker's
//! does, the waiter sees the changed word, and does not wait. If the waiter's does, the waker sees a non-zero
//! `WAITING`, and locks the bucket: after the waiter, whose entry it then finds, or before the waiter, whose
//! check then sees the changed word. So while no coroutine of the process waits, a wake-up costs a fence and
//! a load.
//!
//! A wait ends once: with the removal of its entry under the bucket's lock, by a waker or by its own
//! deadline. So a wake-up always goes to a waiter that takes it, and a wait that has timed out has taken
//! none.
//!
//! A bucket's lock is held for a few instructions, and a thread that waits for it calls no hook. The code
//! under the lock may allocate, and an allocator may then unlock its own mutex. That unlock wakes no waiters:
//! a waiter of such a mutex polls (see `hooks/acquire.rs`).

use crate::hub::{
    Deadline, Interrupts, NounwindHub, Registration, Unparker, Wake, at_end, park_nounwind,
};
use crate::sys::fork::{Fork, Side};
use crate::sys::lock::Lock;
use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::mem::{forget, take};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicUsize, fence};

const BUCKETS: usize = 256;

static TABLE: [Lock<VecDeque<Entry>>; BUCKETS] = [const { Lock::new(VecDeque::new()) }; BUCKETS];

/// Number of entries, including those that are about to be added.
static WAITING: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Whether [`leave_at_end`] has registered its callback.
    static ENDS: Cell<bool> = const { Cell::new(false) };
    /// Whether this thread holds a bucket's lock.
    static IS_INSIDE: Cell<bool> = const { Cell::new(false) };
}

struct Entry {
    address: usize,
    /// A wake-up applies if it has a bit in common with these.
    bits: u32,
    hub: NounwindHub,
    waiter: Waiter,
}

enum Waiter {
    Task(Arc<Ticket>),
    /// A function that is called in the hub at each wake-up. The entry stays.
    Bell(fn()),
}

struct Ticket {
    is_woken: AtomicBool,
    unparker: Unparker,
}

impl Ticket {
    fn is_in(self: &Arc<Self>, entry: &Entry) -> bool {
        match &entry.waiter {
            Waiter::Task(ticket) => Arc::ptr_eq(ticket, self),
            Waiter::Bell(_) => false,
        }
    }
}

/// The entry of the current coroutine, which is about to wait.
pub(super) struct Waiting {
    address: usize,
    ticket: Arc<Ticket>,
    _registration: Registration,
}

/// Calls a function in this thread's hub at each wake-up of an address, until dropped.
pub(super) struct Bell(usize);

/// Whether this thread holds a bucket's lock.
///
/// Waits then happen in the kernel: those of an allocator, and of callbacks around a fork.
pub(super) fn is_inside() -> bool {
    IS_INSIDE.get()
}

/// Calls `f` under a bucket's lock.
fn inside<R>(bucket: &Lock<VecDeque<Entry>>, f: impl FnOnce(&mut VecDeque<Entry>) -> R) -> R {
    IS_INSIDE.set(true);
    let result = f(&mut bucket.lock());
    IS_INSIDE.set(false);
    result
}

fn bucket(address: usize) -> &'static Lock<VecDeque<Entry>> {
    // Words are at least four bytes apart. The multiplier spreads neighbours over the upper bits.
    let hash = (address >> 2).wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as usize);
    &TABLE[hash >> (usize::BITS - BUCKETS.ilog2())]
}

/// Forks while no other thread holds a bucket's lock.
///
/// The waiters do not exist in the child, so their entries are removed: they must take no wake-up there.
pub(super) fn around_fork(fork: Fork<'_>) -> io::Result<Side> {
    IS_INSIDE.set(true);
    let mut buckets: Vec<_> = TABLE.iter().map(Lock::lock).collect();
    let side = fork();
    if matches!(side, Ok(Side::Child)) {
        let mut left = 0;
        for entries in &mut buckets {
            let all = take(&mut **entries).into_iter();
            let (bells, gone): (VecDeque<_>, VecDeque<_>) = all
                .partition(|entry| matches!(entry.waiter, Waiter::Bell(_)) && entry.hub.is_here());
            left += bells.len();
            **entries = bells;
            forget(gone);
        }
        WAITING.store(left, Relaxed);
    }
    drop(buckets);
    IS_INSIDE.set(false);
    side
}

/// Arranges that this thread's entries are removed when its hub ends: they must take no wake-up then.
fn leave_at_end() {
    if !ENDS.replace(true) {
        at_end(|| {
            for bucket in &TABLE {
                remove(bucket, |entry| entry.hub.is_here());
            }
        });
    }
}

/// Removes the matching entries, and returns their number.
fn remove(bucket: &Lock<VecDeque<Entry>>, is_match: impl Fn(&Entry) -> bool) -> usize {
    inside(bucket, |entries| {
        let before = entries.len();
        entries.retain(|entry| !is_match(entry));
        let count = before - entries.len();
        WAITING.fetch_sub(count, Relaxed);
        count
    })
}

impl Waiting {
    /// Enqueues the current coroutine if `is_expected`, which reads the address, returns `true`.
    pub(super) fn enqueue(
        address: usize,
        bits: u32,
        is_expected: impl FnOnce() -> bool,
    ) -> Option<Waiting> {
        leave_at_end();
        let registration = Registration::new();
        let is_woken = AtomicBool::new(false);
        let ticket = Arc::new(Ticket { is_woken, unparker: registration.unparker() });
        let waiter = Waiter::Task(Arc::clone(&ticket));
        let entry = Entry { address, bits, hub: NounwindHub::here(), waiter };
        let is_enqueued = inside(bucket(address), |entries| {
            WAITING.fetch_add(1, Relaxed);
            fence(SeqCst);
            let is_expected = is_expected();
            if is_expected {
                entries.push_back(entry);
            } else {
                WAITING.fetch_sub(1, Relaxed);
            }
            is_expected
        });
        is_enqueued.then_some(Waiting { address, ticket, _registration: registration })
    }

    /// Removes the entry without waiting. A wake-up that it has taken goes to the next waiter.
    pub(super) fn leave(self) {
        let is_mine = |entry: &Entry| self.ticket.is_in(entry);
        if remove(bucket(self.address), is_mine) == 0 {
            wake(self.address, u32::MAX, 1);
        }
    }

    /// Waits. Returns `true` if woken, `false` if the deadline has passed.
    ///
    /// Interrupts are deferred: an unwind would leave std's locks in an invalid state.
    pub(super) fn wait(self, purpose: &'static str, deadline: Option<Deadline>) -> bool {
        loop {
            if self.ticket.is_woken.load(Acquire) {
                return true;
            }
            if park_nounwind(purpose, deadline, Interrupts::Defer) == Wake::TimedOut {
                let is_mine = |entry: &Entry| self.ticket.is_in(entry);
                return remove(bucket(self.address), is_mine) == 0;
            }
        }
    }
}

impl Bell {
    /// `f` runs in the hub, and must not wait.
    pub(super) fn new(address: usize, f: fn()) -> Bell {
        leave_at_end();
        let entry =
            Entry { address, bits: u32::MAX, hub: NounwindHub::here(), waiter: Waiter::Bell(f) };
        inside(bucket(address), |entries| {
            WAITING.fetch_add(1, SeqCst);
            entries.push_back(entry);
        });
        Bell(address)
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        let is_mine = |entry: &Entry| {
            entry.address == self.0
                && matches!(entry.waiter, Waiter::Bell(_))
                && entry.hub.is_here()
        };
        remove(bucket(self.0), is_mine);
    }
}

/// Wakes the first `most` waiters at the address whose bits match. Returns how many it has found.
#[inline]
pub(super) fn wake(address: usize, bits: u32, most: usize) -> usize {
    fence(SeqCst);
    if WAITING.load(Relaxed) == 0 || IS_INSIDE.get() {
        return 0;
    }
    wake_some(address, bits, most)
}

#[cold]
fn wake_some(address: usize, bits: u32, most: usize) -> usize {
    let mut found = Vec::new();
    let mut rung = Vec::new();
    inside(bucket(address), |entries| {
        let mut at = 0;
        while found.len() + rung.len() < most
            && let Some(entry) = entries.get(at)
        {
            if entry.address != address || entry.bits & bits == 0 {
                at += 1;
                continue;
            }
            if let Waiter::Bell(f) = entry.waiter {
                rung.push((entry.hub.clone(), f));
                at += 1;
            } else if let Some(Entry { waiter: Waiter::Task(ticket), .. }) = entries.remove(at) {
                ticket.is_woken.store(true, Release);
                found.push(ticket);
            }
        }
        WAITING.fetch_sub(found.len(), Relaxed);
    });
    for ticket in &found {
        ticket.unparker.unpark();
    }
    for (hub, f) in &rung {
        hub.call(*f);
    }
    found.len() + rung.len()
}
