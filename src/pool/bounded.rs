#![forbid(unsafe_code)]
//! So many coroutines at a time.

use super::each::{Imap, ImapUnordered, Spawner, map};
use super::group::Group;
use crate::coroutine::{self, Coroutine, JoinError, JoinHandle};
use crate::sync::Semaphore;
use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

/// Coroutines of which so many exist at a time: who spawns one more waits until another has ended. A further
/// handle of the same pool is a clone.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use switchgrass::{pool::Pool, sleep};
///
/// let pool = Pool::new(2);
/// let squares = pool.map(1..=4, |n: u64| {
///     sleep(Duration::from_millis(n));
///     n * n
/// });
/// assert_eq!(squares.unwrap(), [1, 4, 9, 16]);
/// ```
#[derive(Clone)]
pub struct Pool {
    group: Group,
    room: Rc<Semaphore>,
    waits: Rc<Waits>,
    size: usize,
}

/// Waits for room, from when they begin until those that wait have gone on.
#[derive(Default)]
struct Waits {
    all: Cell<usize>,
    /// Of members, and without a limit.
    of_members: Cell<usize>,
}

/// A wait for room, until this is dropped.
struct Wait<'a> {
    waits: &'a Waits,
    of_member: bool,
}

impl<'a> Wait<'a> {
    fn new(waits: &'a Waits, of_member: bool) -> Self {
        waits.all.set(waits.all.get() + 1);
        waits.of_members.set(waits.of_members.get() + usize::from(of_member));
        Wait { waits, of_member }
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let Wait { waits, of_member } = self;
        waits.all.set(waits.all.get() - 1);
        waits.of_members.set(waits.of_members.get() - usize::from(*of_member));
    }
}

impl Pool {
    /// A pool for so many.
    ///
    /// # Panics
    ///
    /// If `size` is zero: nothing would ever run.
    #[track_caller]
    pub fn new(size: usize) -> Self {
        assert!(size > 0, "a pool of size 0 would never run anything: let it be at least 1");
        Pool {
            group: Group::new(),
            room: Rc::new(Semaphore::new(size)),
            waits: Rc::default(),
            size,
        }
    }

    /// Waits until there is room, and spawns.
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile, and as [`spawn`](crate::spawn). In one of
    /// the pool's own coroutines, if the pool is full and all of its others wait in here as well: none of
    /// them would ever end.
    ///
    /// # Switching
    ///
    /// Switches if the pool is full. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// Nothing is spawned.
    #[track_caller]
    pub fn spawn<T: 'static>(&self, body: impl FnOnce() -> T + 'static) -> JoinHandle<T> {
        if !self.room.try_acquire() {
            self.wait_for_room();
        }
        self.spawn_in_room(body)
    }

    #[cold]
    #[track_caller]
    fn wait_for_room(&self) {
        let is_member = self.group.contains(&coroutine::current());
        // Otherwise one of those that wait has been given room, and goes on.
        let all_wait = self.room.waiting() == self.waits.all.get();
        let _wait = Wait::new(&self.waits, is_member);
        assert!(
            !(is_member && all_wait && self.waits.of_members.get() >= self.size),
            "a coroutine of a pool that waits for room in it would wait for itself, for ever: each of the {} \
             that there is room for waits in this way (use `apply`, or a larger pool)",
            self.size,
        );
        self.room.acquire();
    }

    /// As [`Pool::spawn`], if there is room.
    ///
    /// # Errors
    ///
    /// Returns the body if there is none.
    ///
    /// # Switching
    ///
    /// Never switches.
    #[track_caller]
    pub fn try_spawn<T: 'static, F: FnOnce() -> T + 'static>(
        &self,
        body: F,
    ) -> Result<JoinHandle<T>, F> {
        if self.room.try_acquire() { Ok(self.spawn_in_room(body)) } else { Err(body) }
    }

    /// As [`Pool::spawn`], if there is room within `limit`.
    ///
    /// # Errors
    ///
    /// Returns the body if there is none.
    ///
    /// # Panics
    ///
    /// As [`Pool::spawn`].
    ///
    /// # Switching
    ///
    /// Switches if the pool is full, also for a limit of zero.
    ///
    /// # Cancellation
    ///
    /// Nothing is spawned.
    #[track_caller]
    pub fn spawn_timeout<T: 'static, F: FnOnce() -> T + 'static>(
        &self,
        body: F,
        limit: Duration,
    ) -> Result<JoinHandle<T>, F> {
        let wait = Wait::new(&self.waits, false);
        let has_room = self.room.acquire_timeout(limit);
        drop(wait);
        if has_room { Ok(self.spawn_in_room(body)) } else { Err(body) }
    }

    #[track_caller]
    fn spawn_in_room<T: 'static>(&self, body: impl FnOnce() -> T + 'static) -> JoinHandle<T> {
        let place = Place(Rc::clone(&self.room));
        let handle = self.group.spawn(body);
        handle.on_end(move || drop(place));
        handle
    }

    /// Runs `body` in the pool, and waits for its result. In one of the pool's own coroutines it is run there
    /// and then: it has its place already.
    ///
    /// # Errors
    ///
    /// The cases of [`JoinError`].
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile; in one of the pool's own, with what `body`
    /// panics.
    ///
    /// # Switching
    ///
    /// Switches, unless in one of the pool's own. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The coroutine goes on; its result is lost.
    #[track_caller]
    pub fn apply<T: 'static>(&self, body: impl FnOnce() -> T + 'static) -> Result<T, JoinError> {
        if self.group.contains(&coroutine::current()) {
            Ok(body())
        } else {
            self.spawn(body).join()
        }
    }

    /// Runs `body` in the pool, and then `callback` with the result, in a coroutine of its own that takes no
    /// room.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::cell::Cell;
    /// use std::rc::Rc;
    /// use switchgrass::pool::Pool;
    ///
    /// let pool = Pool::new(1);
    /// let sum = Rc::new(Cell::new(0));
    /// let place = Rc::clone(&sum);
    /// let told = pool.apply_async(|| 1 + 2, move |result| place.set(result.unwrap()));
    /// told.join().unwrap();
    /// assert_eq!(sum.get(), 3);
    /// ```
    ///
    /// # Panics
    ///
    /// As [`Pool::spawn`].
    ///
    /// # Switching
    ///
    /// Switches if the pool is full. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// Nothing is spawned.
    #[track_caller]
    pub fn apply_async<T: 'static>(
        &self,
        body: impl FnOnce() -> T + 'static,
        callback: impl FnOnce(Result<T, JoinError>) + 'static,
    ) -> JoinHandle<()> {
        let handle = self.spawn(body);
        coroutine::spawn(move || callback(handle.join()))
    }

    /// As [`Group::map`]. No more items are taken than there is room for. In one of the pool's own coroutines
    /// the items are worked on there and then.
    ///
    /// # Errors
    ///
    /// The first failure in the order of the items, when all have ended.
    ///
    /// # Panics
    ///
    /// With what `items` panics, and with what is raised in the current coroutine meanwhile; in one of the
    /// pool's own, with what `f` panics.
    ///
    /// # Switching
    ///
    /// Switches, unless there are no items. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The coroutines go on; their results are lost.
    #[track_caller]
    pub fn map<I: 'static, R: 'static>(
        &self,
        items: impl IntoIterator<Item = I>,
        f: impl Fn(I) -> R + 'static,
    ) -> Result<Vec<R>, JoinError> {
        if self.group.contains(&coroutine::current()) {
            return Ok(items.into_iter().map(f).collect());
        }
        map(self, items, f)
    }

    /// As [`Group::imap`], with as many ahead as the pool has room for.
    pub fn imap<I: 'static, R: 'static, It: IntoIterator<Item = I>>(
        &self,
        items: It,
        f: impl Fn(I) -> R + 'static,
    ) -> Imap<It::IntoIter, I, R, Pool> {
        Imap::new(self.clone(), self.size, items.into_iter(), f)
    }

    /// As [`Group::imap_unordered`], with as many ahead as the pool has room for.
    pub fn imap_unordered<I: 'static, R: 'static, It: IntoIterator<Item = I>>(
        &self,
        items: It,
        f: impl Fn(I) -> R + 'static,
    ) -> ImapUnordered<It::IntoIter, I, R, Pool> {
        ImapUnordered::new(self.clone(), self.size, items.into_iter(), f)
    }

    /// How many it has room for.
    pub fn size(&self) -> usize {
        self.size
    }

    /// For how many more there is room now.
    pub fn free(&self) -> usize {
        self.room.permits()
    }

    /// How many exist.
    pub fn len(&self) -> usize {
        self.group.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.group.is_empty()
    }

    /// Whether it belongs to the pool.
    pub fn contains(&self, member: &Coroutine) -> bool {
        self.group.contains(member)
    }

    /// As [`Group::join`].
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
    /// The coroutines go on.
    #[track_caller]
    pub fn join(&self) {
        self.group.join();
    }

    /// As [`Group::join_timeout`].
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
    /// The coroutines go on.
    #[track_caller]
    pub fn join_timeout(&self, limit: Duration) -> bool {
        self.group.join_timeout(limit)
    }

    /// As [`Group::kill`].
    ///
    /// # Panics
    ///
    /// As [`Group::kill`].
    ///
    /// # Switching
    ///
    /// As [`Group::kill`].
    ///
    /// # Cancellation
    ///
    /// The kills are under way all the same.
    pub fn kill(&self, limit: Option<Duration>) -> bool {
        self.group.kill(limit)
    }
}

/// Room for one, which is given back when this is dropped.
struct Place(Rc<Semaphore>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl Spawner for Pool {
    fn has_room(&self) -> bool {
        self.free() > 0
    }

    #[track_caller]
    fn run_in<T: 'static>(&self, body: impl FnOnce() -> T + 'static) -> JoinHandle<T> {
        self.spawn(body)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("size", &self.size)
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
