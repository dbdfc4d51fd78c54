#![forbid(unsafe_code)]
//! Coroutines that are waited for, or ended, together.

use super::each::{Imap, ImapUnordered, Spawner, map};
use crate::coroutine::{self, Coroutine, JoinError, JoinHandle, LinkId, Raised};
use crate::sync::Event;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;
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
    /// By which the group is told of their ends.
    links: RefCell<BTreeMap<u64, LinkId>>,
    /// Which of these were killed, not to be killed again.
    killed: RefCell<BTreeSet<u64>>,
    /// Set while there are none. Made by the first who waits.
    empty: Event,
    has_been_asked: Cell<bool>,
    /// Set when one has come or gone, for those that kill.
    changed: Event,
    /// How many kill.
    killers: Cell<usize>,
}

impl Members {
    fn add(&self, member: &Coroutine) {
        self.alive.borrow_mut().insert(member.id(), member.clone());
        self.tell_killers();
    }

    /// Returns the link by which the group is told of the end of the one that is taken out.
    fn remove(&self, id: u64) -> Option<LinkId> {
        let link = self.links.borrow_mut().remove(&id);
        let removed = self.alive.borrow_mut().remove(&id);
        self.killed.borrow_mut().remove(&id);
        if self.has_been_asked.get() && self.alive.borrow().is_empty() {
            self.empty.set();
        }
        self.tell_killers();
        drop(removed);
        link
    }

    /// Takes those out that have ended, and whose links are still to run. Whether there are no others.
    fn discard_finished(&self) -> bool {
        let finished: Vec<u64> = {
            let alive = self.alive.borrow();
            alive.values().filter(|member| member.is_finished()).map(Coroutine::id).collect()
        };
        finished.into_iter().for_each(|id| _ = self.remove(id));
        self.alive.borrow().is_empty()
    }

    fn tell_killers(&self) {
        if self.killers.get() > 0 {
            self.changed.set();
        }
    }

    /// The first that was not killed, of those in a range of numbers.
    fn next_to_kill(&self, ids: RangeInclusive<u64>, spared: &Coroutine) -> Option<Coroutine> {
        let (alive, killed) = (self.alive.borrow(), self.killed.borrow());
        if ids.is_empty() || killed.len() == alive.len() {
            return None;
        }
        let mut rest = alive.range(ids).map(|(_, member)| member);
        rest.find(|member| *member != spared && !killed.contains(&member.id())).cloned()
    }

    /// Kills those that there are now and that were not killed before, in order, but for `spared`. A
    /// destructor may add others, which are not killed here: so this ends. Whether there are none of these.
    /// A destructor that panics spares nobody: what it panics with is raised when all were killed.
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

/// One that kills, until this is dropped.
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
        self.members.add(member);
        let (members, id) = (Rc::downgrade(&self.members), member.id());
        let link = member.link_end(move || {
            if let Some(members) = members.upgrade() {
                members.remove(id);
            }
        });
        self.members.links.borrow_mut().insert(id, link);
    }

    /// Takes one out, which goes on.
    pub fn discard(&self, member: &Coroutine) {
        if let Some(link) = self.members.remove(member.id()) {
            member.unlink(link);
        }
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
    /// it. In a member, which would wait for itself. If main is a member, which ends with its thread.
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
        self.refuse_to_wait_for_main();
    }

    #[track_caller]
    fn refuse_to_wait_for_main(&self) {
        /// See [`Coroutine::id`].
        const MAIN: u64 = 0;
        let has_main = self.members.alive.borrow().contains_key(&MAIN);
        assert!(!has_main, "main ends with its thread: nobody can wait for a group that it is in");
    }

    fn prepare(&self) -> &Event {
        self.members.has_been_asked.set(true);
        self.members.empty.clear();
        &self.members.empty
    }

    /// Kills the members, and waits until there are none, for at most `limit` (`None`: for ever). Those
    /// that are added before the limit has passed are killed as well, in the order in which they came: as
    /// long as there are such, the others have their turns in between. Each is killed once, also if this is
    /// called again while it has not ended. Bodies that have not begun are dropped here, however long that
    /// takes. Whether there are no members.
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
    /// With what is raised in the current coroutine meanwhile, and with what the destructor of a body panics
    /// that has not begun, when all that are members then were killed. A member that calls this is killed
    /// like the others. If main is a member, when all were killed: it ends with its thread.
    ///
    /// # Switching
    ///
    /// Switches, unless there are none. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The kills are under way all the same.
    pub fn kill(&self, limit: Option<Duration>) -> bool {
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
                // Whoever has waited for the last one to end, for its room for example, may add one now.
                is_settled = true;
                coroutine::yield_now();
                continue;
            }
            is_settled = false;
            self.refuse_to_wait_for_main();
            if !is_in_time {
                return members.discard_finished();
            }
            let left = limit.map_or(Duration::MAX, |limit| limit.saturating_sub(start.elapsed()));
            members.changed.clear();
            if has_killed_all {
                is_in_time = members.changed.wait_timeout(left) && !left.is_zero();
            } else {
                // Those that have come meanwhile may be followed by others, endlessly.
                coroutine::yield_now();
                is_in_time = !left.is_zero();
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

    /// As [`Group::map`], as an iterator in the order of the items. At most `ahead` are under way at a time.
    ///
    /// Items are taken when a result is asked for, in the caller. A result that is there is given before a
    /// further item is taken, and each coroutine has its first turn before the next item is taken: an item
    /// may depend on an earlier result, unless that takes longer than a turn. With `ahead` of 1 it always
    /// may.
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
    /// If `ahead` is zero. `next` panics with what `items` panics, when the results before it were given, and
    /// with what is raised in the current coroutine meanwhile.
    ///
    /// # Switching
    ///
    /// Never switches. `next` does, unless a result is there: in it all others may run.
    ///
    /// # Cancellation
    ///
    /// A `next` that is cut short loses neither an item nor a result: the next call goes on where it was.
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
    /// As [`Group::imap`].
    ///
    /// # Switching
    ///
    /// As [`Group::imap`].
    ///
    /// # Cancellation
    ///
    /// As [`Group::imap`].
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
