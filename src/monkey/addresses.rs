#![forbid(unsafe_code)]
//! The coroutines that wait at an address, as threads do in the kernel by `futex`.
//!
//! ```text
//!   who waits                                   who wakes
//!
//!   lock the bucket                             change the word
//!   WAITING += 1                                ── fence ──
//!   ── fence ──                                 WAITING = 0? ──yes──► nobody is here
//!   is the word as expected? ──no──► leave         │ no
//!   enqueue                                     lock the bucket, take out, unlock
//!   unlock; park                                unpark
//! ```
//!
//! No wake-up is lost. Of the two fences one is the first, in the order that all threads agree upon. If it
//! is that of the one who wakes, the one who waits sees the word as it was changed, and does not wait. If it
//! is the other, the one who wakes sees that somebody waits, and locks the bucket: he gets it when the other
//! one has enqueued, and finds him; or before that, and then he has let go of it before the other has looked
//! at the word, who sees what was changed. So a wake-up costs a fence and a load while no coroutine waits,
//! in the whole process.
//!
//! A wait ends once, by whoever takes the entry out under the bucket's lock: the one who wakes, or its own
//! deadline. So a wake-up is given to one who takes it, and a wait that has timed out has taken none.
//!
//! The buckets' locks are held for some instructions, and never wait by a call that is ours. An allocator
//! may let go of a mutex of its own meanwhile: nobody waits for that one here, and it is not looked for.

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

/// So many entries there are, or are about to be.
static WAITING: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static ENDS: Cell<bool> = const { Cell::new(false) };
    /// This thread has the lock of a bucket.
    static IS_INSIDE: Cell<bool> = const { Cell::new(false) };
}

struct Entry {
    address: usize,
    /// Of those that a wake-up names, it is for one that has some of the same.
    bits: u32,
    hub: NounwindHub,
    who: Who,
}

enum Who {
    Task(Arc<Ticket>),
    /// What to call in the hub. The entry stays.
    Bell(fn()),
}

struct Ticket {
    is_woken: AtomicBool,
    unparker: Unparker,
}

impl Ticket {
    fn is_in(self: &Arc<Self>, entry: &Entry) -> bool {
        match &entry.who {
            Who::Task(ticket) => Arc::ptr_eq(ticket, self),
            Who::Bell(_) => false,
        }
    }
}

/// The current coroutine, which is about to wait.
pub(super) struct Waiting {
    address: usize,
    ticket: Arc<Ticket>,
    _registration: Registration,
}

/// Has this thread's hub called when somebody wakes those at an address, for as long as it lives.
pub(super) struct Bell(usize);

/// Whether this thread has the lock of a bucket: whoever waits now, as an allocator may, or what others have
/// called around a fork, waits in the kernel.
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
    // Words lie four bytes apart at least. The multiplier spreads neighbours over all of the upper bits.
    let hash = (address >> 2).wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as usize);
    &TABLE[hash >> (usize::BITS - BUCKETS.ilog2())]
}

/// Around a fork: nobody is in the middle of something. Who waits is not there in the child, and gets no
/// wake-up of anybody's.
pub(super) fn around_fork(fork: Fork<'_>) -> io::Result<Side> {
    IS_INSIDE.set(true);
    let mut buckets: Vec<_> = TABLE.iter().map(Lock::lock).collect();
    let side = fork();
    if matches!(side, Ok(Side::Child)) {
        let mut left = 0;
        for entries in &mut buckets {
            let all = take(&mut **entries).into_iter();
            let (bells, gone): (VecDeque<_>, VecDeque<_>) =
                all.partition(|entry| matches!(entry.who, Who::Bell(_)) && entry.hub.is_here());
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

/// The entries of this thread are taken out when its hub ends: nobody wakes them any more, and nobody's
/// wake-up is to be lost to them.
fn leave_in_time() {
    if !ENDS.replace(true) {
        at_end(|| {
            for bucket in &TABLE {
                remove(bucket, |entry| entry.hub.is_here());
            }
        });
    }
}

fn remove(bucket: &Lock<VecDeque<Entry>>, is_one: impl Fn(&Entry) -> bool) -> usize {
    inside(bucket, |entries| {
        let before = entries.len();
        entries.retain(|entry| !is_one(entry));
        let count = before - entries.len();
        WAITING.fetch_sub(count, Relaxed);
        count
    })
}

impl Waiting {
    /// Enqueues the current coroutine, if it is as expected at the address.
    pub(super) fn enqueue(
        address: usize,
        bits: u32,
        is_expected: impl FnOnce() -> bool,
    ) -> Option<Waiting> {
        leave_in_time();
        let registration = Registration::new();
        let is_woken = AtomicBool::new(false);
        let ticket = Arc::new(Ticket { is_woken, unparker: registration.unparker() });
        let who = Who::Task(Arc::clone(&ticket));
        let entry = Entry { address, bits, hub: NounwindHub::here(), who };
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

    /// Takes it out again, without a wait. A wake-up that it has got by then goes to the next.
    pub(super) fn leave(self) {
        let is_mine = |entry: &Entry| self.ticket.is_in(entry);
        if remove(bucket(self.address), is_mine) == 0 {
            wake(self.address, u32::MAX, 1);
        }
    }

    /// Waits. Whether it was woken; otherwise the deadline has passed. What is to be raised is deferred:
    /// std's locks would be left as they are not to be.
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
    /// `f` is called in the hub, and must not wait.
    pub(super) fn new(address: usize, f: fn()) -> Bell {
        leave_in_time();
        let entry = Entry { address, bits: u32::MAX, hub: NounwindHub::here(), who: Who::Bell(f) };
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
            entry.address == self.0 && matches!(entry.who, Who::Bell(_)) && entry.hub.is_here()
        };
        remove(bucket(self.0), is_mine);
    }
}

/// Wakes `most` of those who wait at the address, the first ones. So many it has found.
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
            if let Who::Bell(f) = entry.who {
                rung.push((entry.hub.clone(), f));
                at += 1;
            } else if let Some(Entry { who: Who::Task(ticket), .. }) = entries.remove(at) {
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
