#![forbid(unsafe_code)]
//! A bounded number of coroutines.

use super::each::{Imap, ImapUnordered, Spawner, map};
use super::group::Group;
use crate::coroutine::{self, Coroutine, JoinError, JoinHandle};
use crate::sync::Semaphore;
use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

/// A bounded group of coroutines: while it is full, spawning waits.
///
/// A clone is another handle to the same pool.
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

/// Waits for a place, each counted from its start until the waiter resumes.
#[derive(Default)]
struct Waits {
    all: Cell<usize>,
    /// Waits without a timeout by members of the pool.
    of_members: Cell<usize>,
}

/// A counted wait for a place; ends on drop.
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
    /// Makes a pool for at most `size` coroutines.
    ///
    /// # Panics
    ///
    /// If `size` is zero.
    #[track_caller]
    pub fn new(size: usize) -> Self {
        assert!(size > 0, "pool size must be at least 1, got 0");
        Pool {
            group: Group::new(),
            room: Rc::new(Semaphore::new(size)),
            waits: Rc::default(),
            size,
        }
    }

    /// Spawns a coroutine in the pool, after waiting for a place if it is full.
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    /// Also as [`spawn`](crate::spawn) does. If it is called in one of the pool's own coroutines while the
    /// pool is full and all its other coroutines wait in here as well: none of them would ever end.
    ///
    /// # Switching
    ///
    /// May switch: while the pool is full, other coroutines run.
    ///
    /// # Cancellation
    ///
    /// No coroutine is spawned.
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
        // Otherwise a waiter has been granted a place, and is about to resume.
        let all_wait = self.room.waiting() == self.waits.all.get();
        let _wait = Wait::new(&self.waits, is_member);
        assert!(
            !(is_member && all_wait && self.waits.of_members.get() >= self.size),
            "a coroutine that waits for a place in its own pool would wait for itself: all {} coroutines \
             of the pool wait like this; use `apply` or a larger pool",
            self.size,
        );
        self.room.acquire();
    }

    /// Spawns a coroutine in the pool if there is room.
    ///
    /// # Errors
    ///
    /// Returns `body` if the pool is full.
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

    /// Spawns a coroutine in the pool, after waiting for a place for at most `timeout`.
    ///
    /// # Errors
    ///
    /// Returns `body` if the pool is still full after `timeout`.
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    /// Also as [`spawn`](crate::spawn) does.
    ///
    /// # Switching
    ///
    /// May switch: while the pool is full, other coroutines run, even with a timeout of zero.
    ///
    /// # Cancellation
    ///
    /// No coroutine is spawned.
    #[track_caller]
    pub fn spawn_timeout<T: 'static, F: FnOnce() -> T + 'static>(
        &self,
        body: F,
        timeout: Duration,
    ) -> Result<JoinHandle<T>, F> {
        let wait = Wait::new(&self.waits, false);
        let has_room = self.room.acquire_timeout(timeout);
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

    /// Runs `body` in the pool, and waits for its result.
    ///
    /// In one of the pool's own coroutines, which has a place already, `body` is called directly.
    ///
    /// # Errors
    ///
    /// The cases of [`JoinError`].
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits. In
    /// one of the pool's own coroutines it propagates a panic of `body`.
    ///
    /// # Switching
    ///
    /// May switch: other coroutines run while this one waits. In one of the pool's own coroutines only
    /// `body` may switch.
    ///
    /// # Cancellation
    ///
    /// The coroutine continues; its result is lost.
    #[track_caller]
    pub fn apply<T: 'static>(&self, body: impl FnOnce() -> T + 'static) -> Result<T, JoinError> {
        if self.group.contains(&coroutine::current()) {
            Ok(body())
        } else {
            self.spawn(body).join()
        }
    }

    /// Runs `body` in the pool, and then `callback` with the result.
    ///
    /// The callback runs in a coroutine of its own, which takes no place in the pool.
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
    /// Those of [`Pool::spawn`].
    ///
    /// # Switching
    ///
    /// May switch: while the pool is full, other coroutines run.
    ///
    /// # Cancellation
    ///
    /// No coroutine is spawned.
    #[track_caller]
    pub fn apply_async<T: 'static>(
        &self,
        body: impl FnOnce() -> T + 'static,
        callback: impl FnOnce(Result<T, JoinError>) + 'static,
    ) -> JoinHandle<()> {
        let handle = self.spawn(body);
        coroutine::spawn(move || callback(handle.join()))
    }

    /// Calls `f` with every item, in the pool, and returns the results in item order.
    ///
    /// The next item is taken only after the previous one got its place. In one of the pool's own
    /// coroutines `f` is called directly. See [`Group::map`].
    ///
    /// # Errors
    ///
    /// The first failure in item order, after all coroutines have ended.
    ///
    /// # Panics
    ///
    /// Propagates a panic of `items`. Unwinds if a kill, a timeout or another panic is raised in the
    /// current coroutine while it waits. In one of the pool's own coroutines it also propagates a panic of
    /// `f`.
    ///
    /// # Switching
    ///
    /// May switch: unless there are no items, other coroutines run until all results are in.
    ///
    /// # Cancellation
    ///
    /// The coroutines continue; their results are lost.
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

    /// Like [`Group::imap`], with `ahead` equal to the size of the pool.
    pub fn imap<I: 'static, R: 'static, It: IntoIterator<Item = I>>(
        &self,
        items: It,
        f: impl Fn(I) -> R + 'static,
    ) -> Imap<It::IntoIter, I, R, Pool> {
        Imap::new(self.clone(), self.size, items.into_iter(), f)
    }

    /// Like [`Group::imap_unordered`], with `ahead` equal to the size of the pool.
    pub fn imap_unordered<I: 'static, R: 'static, It: IntoIterator<Item = I>>(
        &self,
        items: It,
        f: impl Fn(I) -> R + 'static,
    ) -> ImapUnordered<It::IntoIter, I, R, Pool> {
        ImapUnordered::new(self.clone(), self.size, items.into_iter(), f)
    }

    /// Returns the maximum number of coroutines.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Returns the number of free places.
    pub fn free(&self) -> usize {
        self.room.permits()
    }

    /// Returns the number of coroutines in the pool.
    pub fn len(&self) -> usize {
        self.group.len()
    }

    /// Returns whether the pool has no coroutines.
    pub fn is_empty(&self) -> bool {
        self.group.is_empty()
    }

    /// Returns whether the coroutine belongs to the pool.
    pub fn contains(&self, member: &Coroutine) -> bool {
        self.group.contains(member)
    }

    /// Waits until the pool is empty. See [`Group::join`].
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
    /// The coroutines continue.
    #[track_caller]
    pub fn join(&self) {
        self.group.join();
    }

    /// Waits until the pool is empty, for at most `timeout`, and returns whether it was.
    ///
    /// See [`Group::join_timeout`].
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
    /// The coroutines continue.
    #[track_caller]
    pub fn join_timeout(&self, timeout: Duration) -> bool {
        self.group.join_timeout(timeout)
    }

    /// Kills all coroutines of the pool, and waits for their ends. See [`Group::kill`].
    ///
    /// # Panics
    ///
    /// Those of [`Group::kill`].
    ///
    /// # Switching
    ///
    /// May switch: unless the pool is empty, other coroutines run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The kills still take effect.
    pub fn kill(&self, timeout: Option<Duration>) -> bool {
        self.group.kill(timeout)
    }
}

/// A place for one coroutine, released on drop.
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
