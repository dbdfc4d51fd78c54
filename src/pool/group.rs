#![forbid(unsafe_code)]
//! Groups of coroutines that are joined or killed together.

use super::each::{Imap, ImapUnordered, Spawner, map};
use crate::coroutine::{self, Coroutine, JoinError, JoinHandle, LinkId, Raised};
use crate::sync::Event;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A group of coroutines that are joined or killed together.
///
/// A coroutine belongs to the group until it has ended. A clone is another handle to the same group.
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
    /// Links that notify the group when a member ends.
    links: RefCell<BTreeMap<u64, LinkId>>,
    /// Members that were killed already, and are not killed again.
    killed: RefCell<BTreeSet<u64>>,
    /// Set when the last member leaves; cleared by each join that waits.
    ///
    /// Not used before the first such join.
    empty: Event,
    has_been_joined: Cell<bool>,
    /// Set when a member is added or removed, to wake calls of `kill`.
    changed: Event,
    /// The number of calls of `kill` under way.
    killers: Cell<usize>,
}

impl Members {
    fn add(&self, member: &Coroutine) {
        self.alive.borrow_mut().insert(member.id(), member.clone());
        self.notify_killers();
    }

    /// Removes a member, and returns the link that would have notified the group of its end.
    fn remove(&self, id: u64) -> Option<LinkId> {
        let link = self.links.borrow_mut().remove(&id);
        let removed = self.alive.borrow_mut().remove(&id);
        self.killed.borrow_mut().remove(&id);
        if self.has_been_joined.get() && self.alive.borrow().is_empty() {
            self.empty.set();
        }
        self.notify_killers();
        drop(removed);
        link
    }

    /// Removes members that have ended, but whose links have not run yet.
    ///
    /// Returns whether the group is empty then.
    fn discard_finished(&self) -> bool {
        let finished: Vec<u64> = {
            let alive = self.alive.borrow();
            alive.values().filter(|member| member.is_finished()).map(Coroutine::id).collect()
        };
        finished.into_iter().for_each(|id| _ = self.remove(id));
        self.alive.borrow().is_empty()
    }

    fn notify_killers(&self) {
        if self.killers.get() > 0 {
            self.changed.set();
        }
    }

    /// Returns the first member with an id in `ids` that was not killed.
    fn next_to_kill(&self, ids: RangeInclusive<u64>, spared: &Coroutine) -> Option<Coroutine> {
        let (alive, killed) = (self.alive.borrow(), self.killed.borrow());
        if ids.is_empty() || killed.len() == alive.len() {
            return None;
        }
        let mut rest = alive.range(ids).map(|(_, member)| member);
        rest.find(|member| *member != spared && !killed.contains(&member.id())).cloned()
    }

    /// Kills the current members that were not killed before, in order, except `spared`.
    ///
    /// Returns whether no other such member is left: destructors may add members, which are not killed
    /// here, so that this terminates. If a destructor panics, the rest are killed first, and then the panic
    /// is raised.
    fn kill(&self, spared: &Coroutine) -> bool {
        let Some(last) = self.alive.borrow().keys().next_back().copied() else { return true };
        let (mut from, mut raised) = (0, Raised::default());
        while let Some(next) = self.next_to_kill(from..=last, spared) {
            from = next.id() + 1;
            self.killed.borrow_mut().insert(next.id());
            raised.note(|| next.kill());
        }
        raised.resume();
        self.next_to_kill(0..=u64::MAX, spared).is_none()
    }
}

/// Counts a call of `kill` until it is dropped.
struct Killer<'a>(&'a Members);

impl<'a> Killer<'a> {
    fn new(members: &'a Members) -> Self {
        members.killers.set(members.killers.get() + 1);
        Killer(members)
    }
}

impl Drop for Killer<'_> {
    fn drop(&mut self) {
        self.0.killers.set(self.0.killers.get() - 1);
    }
}

impl Group {
    /// Makes an empty group.
    pub fn new() -> Self {
        Self::default()
    }

    /// Spawns a coroutine in the group. See [`spawn`](crate::spawn).
    ///
    /// # Panics
    ///
    /// Those of [`spawn`](crate::spawn).
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

    /// Adds an existing coroutine, unless it has ended.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn add(&self, member: &Coroutine) {
        if member.is_finished() || self.contains(member) {
            return;
        }
        self.members.add(member);
        let (members, id) = (Rc::downgrade(&self.members), member.id());
        let link = member.link_end(move || {
            if let Some(members) = members.upgrade() {
                members.remove(id);
            }
        });
        self.members.links.borrow_mut().insert(id, link);
    }

    /// Removes a coroutine from the group; the coroutine continues.
    pub fn discard(&self, member: &Coroutine) {
        if let Some(link) = self.members.remove(member.id()) {
            member.unlink(link);
        }
    }

    /// Returns whether the coroutine belongs to the group.
    pub fn contains(&self, member: &Coroutine) -> bool {
        self.members.alive.borrow().contains_key(&member.id())
    }

    /// Returns the number of members.
    pub fn len(&self) -> usize {
        self.members.alive.borrow().len()
    }

    /// Returns whether the group has no members.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until the group is empty.
    ///
    /// It waits for members that are added before that moment, too. Later ones are not waited for, though
    /// they may exist when this returns.
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits. In
    /// main, if no other coroutine or event is left that could wake it (a deadlock). In a member, which
    /// would wait for itself. If main is a member, since it ends only with its thread.
    ///
    /// # Switching
    ///
    /// May switch: unless the group is empty, other coroutines run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The members continue.
    #[track_caller]
    pub fn join(&self) {
        self.refuse_to_wait_for_oneself();
        if !self.is_empty() {
            self.prepare().wait();
        }
    }

    /// Waits until the group is empty, for at most `timeout`, and returns whether it was.
    ///
    /// See [`Group::join`].
    ///
    /// # Panics
    ///
    /// Those of [`Group::join`].
    ///
    /// # Switching
    ///
    /// May switch: unless the group is empty, other coroutines run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The members continue.
    #[track_caller]
    pub fn join_timeout(&self, timeout: Duration) -> bool {
        self.refuse_to_wait_for_oneself();
        self.is_empty() || self.prepare().wait_timeout(timeout)
    }

    #[track_caller]
    fn refuse_to_wait_for_oneself(&self) {
        let is_member = self.contains(&coroutine::current());
        assert!(
            !is_member,
            "a member that waits for its group would wait for itself: wait outside of the group"
        );
        self.refuse_to_wait_for_main();
    }

    #[track_caller]
    fn refuse_to_wait_for_main(&self) {
        /// See [`Coroutine::id`].
        const MAIN: u64 = 0;
        let has_main = self.members.alive.borrow().contains_key(&MAIN);
        assert!(
            !has_main,
            "main ends with its thread: a group that contains it cannot be waited for"
        );
    }

    fn prepare(&self) -> &Event {
        self.members.has_been_joined.set(true);
        self.members.empty.clear();
        &self.members.empty
    }

    /// Kills the members, and waits until the group is empty.
    ///
    /// It waits for at most `timeout` (`None`: indefinitely). Members that are added before that are killed
    /// as well, in the order in which they came; while more keep coming, other coroutines run in between.
    /// Each member is killed once, even by repeated calls. Bodies that have not started are dropped here,
    /// however long that takes. Returns whether the group is empty.
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
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    /// Propagates a panic of the destructor of a body that has not started, after all current members were
    /// killed. A member that calls this is killed like the others. If main is a member, after all others
    /// were killed: it ends only with its thread.
    ///
    /// # Switching
    ///
    /// May switch: unless the group is empty, other coroutines run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The kills still take effect.
    pub fn kill(&self, timeout: Option<Duration>) -> bool {
        let (start, members) = (Instant::now(), &*self.members);
        let current = coroutine::current();
        let _killer = Killer::new(members);
        let (mut is_in_time, mut is_settled) = (true, self.is_empty());
        loop {
            let has_killed_all = members.kill(&current);
            if self.contains(&current) {
                current.kill();
            }
            if self.is_empty() {
                if is_settled || !is_in_time {
                    return true;
                }
                // A coroutine that waited for the last member to end, for example for its place, may add a
                // member now.
                is_settled = true;
                coroutine::yield_now();
                continue;
            }
            is_settled = false;
            self.refuse_to_wait_for_main();
            if !is_in_time {
                return members.discard_finished();
            }
            let left =
                timeout.map_or(Duration::MAX, |timeout| timeout.saturating_sub(start.elapsed()));
            members.changed.clear();
            if has_killed_all {
                is_in_time = members.changed.wait_timeout(left) && !left.is_zero();
            } else {
                // Members were added meanwhile, and more may follow endlessly.
                coroutine::yield_now();
                is_in_time = !left.is_zero();
            }
        }
    }

    /// Calls `f` with every item, each in a coroutine of the group.
    ///
    /// Returns the results in item order.
    ///
    /// # Errors
    ///
    /// The first failure in item order, after all coroutines have ended.
    ///
    /// # Panics
    ///
    /// Propagates a panic of `items`. Unwinds if a kill, a timeout or another panic is raised in the
    /// current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: unless there are no items, other coroutines run until all results are in.
    ///
    /// # Cancellation
    ///
    /// The coroutines continue; their results are lost.
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

    /// Like [`Group::map`], but returns an iterator, with at most `ahead` calls under way.
    ///
    /// Items are taken in the caller, when a result is requested. A result that is ready is returned before
    /// another item is taken, and each coroutine has its first turn before the next item is taken. So an
    /// item may depend on an earlier result, unless that takes longer than a turn; with `ahead` of 1 it
    /// always may.
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
    /// If `ahead` is zero. `next` propagates a panic of `items` after the results before it were returned.
    /// It unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// Never switches. `next` may switch: unless a result is ready, other coroutines run meanwhile.
    ///
    /// # Cancellation
    ///
    /// A `next` that is cancelled loses neither an item nor a result: the following call continues.
    pub fn imap<I: 'static, R: 'static, It: IntoIterator<Item = I>>(
        &self,
        ahead: usize,
        items: It,
        f: impl Fn(I) -> R + 'static,
    ) -> Imap<It::IntoIter, I, R, Group> {
        Imap::new(self.clone(), ahead, items.into_iter(), f)
    }

    /// Like [`Group::imap`], but returns results in order of completion.
    ///
    /// # Panics
    ///
    /// Those of [`Group::imap`].
    ///
    /// # Switching
    ///
    /// Never switches. `next` may switch: unless a result is ready, other coroutines run meanwhile.
    ///
    /// # Cancellation
    ///
    /// A `next` that is cancelled loses neither an item nor a result: the following call continues.
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
    fn has_room(&self) -> bool {
        true
    }

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
