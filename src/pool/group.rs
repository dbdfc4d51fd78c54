#![forbid(unsafe_code)]
//! Coroutines that are waited for, or ended, together.

use super::each::{Imap, ImapUnordered, Spawner, map};
use crate::coroutine::{self, Coroutine, JoinError, JoinHandle};
use crate::sync::Event;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Coroutines that are waited for, or ended, together. One belongs to it until it has ended. A further handle
/// of the same group is a clone.
///
/// # Examples
///
/// ```
/// use switchgrass::pool::Group;
///
/// let group = Group::new();
/// for n in 0..3 {
///     group.spawn(move || println!("{n}"));
/// }
/// assert_eq!(group.len(), 3);
/// group.join();
/// assert!(group.is_empty());
/// ```
#[derive(Clone, Default)]
pub struct Group {
    members: Rc<Members>,
}

#[derive(Default)]
struct Members {
    alive: RefCell<BTreeMap<u64, Coroutine>>,
    /// Which of these were killed, not to be killed again.
    killed: RefCell<BTreeSet<u64>>,
    /// Set while there are none. Made by the first who waits.
    empty: Event,
    has_been_asked: Cell<bool>,
}

impl Members {
    fn remove(&self, id: u64) {
        let removed = self.alive.borrow_mut().remove(&id);
        self.killed.borrow_mut().remove(&id);
        drop(removed);
        if self.has_been_asked.get() && self.alive.borrow().is_empty() {
            self.empty.set();
        }
    }

    /// Kills those that were not killed before, in order, but for `spared`.
    fn kill(&self, spared: &Coroutine) {
        let mut from = 0;
        while self.killed.borrow().len() < self.alive.borrow().len() {
            let next = {
                let (alive, killed) = (self.alive.borrow(), self.killed.borrow());
                let mut rest = alive.range(from..).filter(|(id, _)| !killed.contains(id));
                rest.next().map(|(_, member)| member.clone())
            };
            let Some(next) = next else { return };
            from = next.id() + 1;
            if next != *spared {
                self.killed.borrow_mut().insert(next.id());
                next.kill();
            }
        }
    }
}

impl Group {
    /// A group without members.
    pub fn new() -> Self {
        Self::default()
    }

    /// As [`spawn`](crate::spawn), in the group.
    ///
    /// # Panics
    ///
    /// As [`spawn`](crate::spawn).
    ///
    /// # Switching
    ///
    /// Never switches.
    #[track_caller]
    pub fn spawn<T: 'static>(&self, body: impl FnOnce() -> T + 'static) -> JoinHandle<T> {
        let handle = coroutine::spawn(body);
        self.add(&handle);
        handle
    }

    /// Takes one in that exists, unless it has ended.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn add(&self, member: &Coroutine) {
        if member.is_finished() || self.contains(member) {
            return;
        }
        self.members.alive.borrow_mut().insert(member.id(), member.clone());
        let (members, id) = (Rc::downgrade(&self.members), member.id());
        member.on_end(move || {
            if let Some(members) = members.upgrade() {
                members.remove(id);
            }
        });
    }

    /// Takes one out, which goes on.
    pub fn discard(&self, member: &Coroutine) {
        self.members.remove(member.id());
    }

    /// Whether it belongs to the group.
    pub fn contains(&self, member: &Coroutine) -> bool {
        self.members.alive.borrow().contains_key(&member.id())
    }

    /// How many belong to it.
    pub fn len(&self) -> usize {
        self.members.alive.borrow().len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until there is a moment without members. Those that are added before it are waited for as well,
    /// and those after it are not, though they may be there when this returns.
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile. In main, when nobody is left who could wake
    /// it. In a member, which would wait for itself.
    ///
    /// # Switching
    ///
    /// Switches, unless there are none. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The members go on.
    #[track_caller]
    pub fn join(&self) {
        self.refuse_to_wait_for_oneself();
        if !self.is_empty() {
            self.prepare().wait();
        }
    }

    /// As [`Group::join`], for at most `limit`. Whether the moment has come.
    ///
    /// # Panics
    ///
    /// As [`Group::join`].
    ///
    /// # Switching
    ///
    /// As [`Group::join`].
    ///
    /// # Cancellation
    ///
    /// The members go on.
    #[track_caller]
    pub fn join_timeout(&self, limit: Duration) -> bool {
        self.refuse_to_wait_for_oneself();
        self.is_empty() || self.prepare().wait_timeout(limit)
    }

    #[track_caller]
    fn refuse_to_wait_for_oneself(&self) {
        let is_member = self.contains(&coroutine::current());
        assert!(!is_member, "a member that waits for its group would wait for itself, for ever");
    }

    fn prepare(&self) -> &Event {
        self.members.has_been_asked.set(true);
        self.members.empty.clear();
        &self.members.empty
    }

    /// Kills the members, and waits until there are none, for at most `limit` (`None`: for ever). Those that
    /// are added meanwhile are killed as well. Each is killed once, also if this is called again while it has
    /// not ended. Whether there are no members.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchgrass::{pool::Group, sleep};
    ///
    /// let group = Group::new();
    /// group.spawn(|| sleep(std::time::Duration::MAX));
    /// assert!(group.kill(None));
    /// ```
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile. A member that calls this is killed like the
    /// others.
    ///
    /// # Switching
    ///
    /// Switches, unless there are none. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The kills are under way all the same.
    pub fn kill(&self, limit: Option<Duration>) -> bool {
        let start = Instant::now();
        let current = coroutine::current();
        loop {
            self.members.kill(&current);
            if self.contains(&current) {
                current.kill();
            }
            if self.is_empty() {
                return true;
            }
            // Somebody may be added at any time: look again at each end.
            let left = limit.map(|limit| limit.saturating_sub(start.elapsed()));
            let first = self.members.alive.borrow().values().next().cloned();
            let Some(first) = first else { continue };
            if first.is_finished() {
                // Its links are still to run, and ours is among them.
                self.discard(&first);
            } else if !first.wait_end(left) {
                return false;
            }
        }
    }

    /// Calls `f` with every item, each in a coroutine of the group, and returns the results in the order of
    /// the items.
    ///
    /// # Errors
    ///
    /// The first failure in the order of the items, when all have ended.
    ///
    /// # Panics
    ///
    /// With what `items` panics, and with what is raised in the current coroutine meanwhile.
    ///
    /// # Switching
    ///
    /// Switches, unless there are no items. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The coroutines go on; their results are lost.
    #[track_caller]
    pub fn map<I, R: 'static>(
        &self,
        items: impl IntoIterator<Item = I>,
        f: impl Fn(I) -> R + 'static,
    ) -> Result<Vec<R>, JoinError>
    where
        I: 'static,
    {
        map(self, items, f)
    }

    /// As [`Group::map`], as an iterator in the order of the items. So many are under way at most, and so
    /// many items taken ahead of what was asked for.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchgrass::pool::Group;
    ///
    /// let squares = Group::new().imap(2, 1.., |n: u64| n * n);
    /// let squares: Vec<u64> = squares.take(3).map(Result::unwrap).collect();
    /// assert_eq!(squares, [1, 4, 9]);
    /// ```
    ///
    /// # Panics
    ///
    /// If `ahead` is zero.
    pub fn imap<I: 'static, R: 'static, It: IntoIterator<Item = I>>(
        &self,
        ahead: usize,
        items: It,
        f: impl Fn(I) -> R + 'static,
    ) -> Imap<It::IntoIter, I, R, Group> {
        Imap::new(self.clone(), ahead, items.into_iter(), f)
    }

    /// As [`Group::imap`], in the order in which they end.
    ///
    /// # Panics
    ///
    /// If `ahead` is zero.
    pub fn imap_unordered<I: 'static, R: 'static, It: IntoIterator<Item = I>>(
        &self,
        ahead: usize,
        items: It,
        f: impl Fn(I) -> R + 'static,
    ) -> ImapUnordered<It::IntoIter, I, R, Group> {
        ImapUnordered::new(self.clone(), ahead, items.into_iter(), f)
    }
}

impl Spawner for Group {
    #[track_caller]
    fn run_in<T: 'static>(&self, body: impl FnOnce() -> T + 'static) -> JoinHandle<T> {
        self.spawn(body)
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("len", &self.len()).finish_non_exhaustive()
    }
}
