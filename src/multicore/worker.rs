#![forbid(unsafe_code)]
//! The work of a hub's thread: it begins tasks, and searches other hubs for them.
//!
//! Tasks are begun by a callback in the hub (the *starter*), which takes its turn among the coroutines. It
//! creates coroutines for the oldest tasks, and if there are more, queues itself again, behind those
//! coroutines. So a hub whose coroutines are always ready still begins tasks, and other hubs can still take
//! those that have not begun. The size of a batch depends on how soon the starter gets its next turn: a hub
//! whose tasks compute keeps few of them waiting.

use super::shared_state::{RemoteWorker, SharedState};
use super::slab::TaskSlab;
use super::task::{Home, Task};
use crate::coroutine::{Builder, Coroutine, JoinError};
use crate::greenlet;
use crate::greenlet::dropping::{drop_reporting, report, run_reporting};
use crate::hub::{self, RemoteHub, WorkSource};
use crate::sync::Event;
use crate::sys::clock;
use std::cell::{Cell, OnceCell, RefCell};
use std::hint::spin_loop;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// How long the timed searcher sleeps, in nanoseconds.
const SHORT_SLEEP: u64 = 1_000_000;

/// How often it does so without finding tasks, before it sleeps until it is woken.
const MAX_SHORT_SLEEPS: u32 = 8;

/// The maximum number of tasks begun at a time.
const MAX_BATCH: usize = 64;

/// In nanoseconds: if a batch took less, the next is larger; if it took more, smaller.
const QUICK: u64 = 20_000;
const SLOW: u64 = 200_000;

pub(super) struct Worker {
    shared: Arc<SharedState>,
    remote: Arc<RemoteWorker>,
    /// The tasks that have coroutines.
    slab: RefCell<TaskSlab>,
    /// The starter is queued on the hub.
    is_starting: Cell<bool>,
    /// The number of tasks to begin next, and when the starter last left some over.
    batch: Cell<usize>,
    left_at: Cell<u64>,
    /// An empty buffer, kept for its capacity.
    taken: Cell<Vec<Arc<dyn Task>>>,
    /// This hub is the timed searcher.
    is_watching: Cell<bool>,
    short_sleeps_left: Cell<u32>,
    /// The state of the random numbers that choose the first hub to search.
    random: Cell<u64>,
    /// Set when the thread is to end.
    over: Event,
}

thread_local! {
    static HERE: OnceCell<Rc<Worker>> = const { OnceCell::new() };
}

fn here() -> Option<Rc<Worker>> {
    HERE.try_with(|here| here.get().cloned()).ok().flatten()
}

/// The index of this thread's hub, if it belongs to `shared`.
pub(super) fn index_in(shared: &Arc<SharedState>) -> Option<usize> {
    let index =
        |worker: &Rc<Worker>| Arc::ptr_eq(&worker.shared, shared).then_some(worker.remote.index);
    HERE.try_with(|here| here.get().and_then(index)).ok().flatten()
}

/// The worker of `remote`, if this is its thread.
fn worker_of(remote: &RemoteWorker) -> Option<Rc<Worker>> {
    here().filter(|worker| ptr::eq(&*worker.remote, remote))
}

impl Home for RemoteWorker {
    fn is_here(&self) -> bool {
        worker_of(self).is_some()
    }

    fn coroutine(&self, slot: usize) -> Option<Coroutine> {
        worker_of(self)?.slab.borrow().coroutine(slot)
    }

    fn hub(&self) -> &RemoteHub {
        RemoteWorker::hub(self)
    }
}

/// Queues the starter on this thread's hub.
pub(super) fn begin_soon() {
    let _ = HERE.try_with(|here| here.get().map(|worker| worker.begin_soon()));
}

/// Kills all tasks of this thread's hub that have coroutines.
///
/// A queued task is dropped by the coroutine that it gets later (`Slot::run`).
pub(super) fn kill_all() {
    let Some(worker) = here() else { return };
    let all = worker.slab.borrow().all();
    for coroutine in all {
        worker.shared.note_killed();
        // The destructor of an unstarted body may panic. The other tasks are killed all the same.
        run_reporting("the destructor of a body", || coroutine.kill());
    }
}

/// Makes this thread a worker, with everything that its hub needs.
///
/// Publishes it to the other hubs.
///
/// # Errors
///
/// If no descriptors are left for the hub.
pub(super) fn begin(shared: Arc<SharedState>, index: usize) -> io::Result<Rc<Worker>> {
    hub::prepare_to_sleep()?;
    let remote = Arc::clone(&shared.remotes[index]);
    let worker = Rc::new(Worker {
        shared,
        remote,
        slab: RefCell::default(),
        is_starting: Cell::new(false),
        batch: Cell::new(1),
        left_at: Cell::new(0),
        taken: Cell::default(),
        is_watching: Cell::new(false),
        short_sleeps_left: Cell::new(MAX_SHORT_SLEEPS),
        random: Cell::new(index as u64 + 1),
        over: Event::new(),
    });
    worker.remote.introduce();
    HERE.with(|here| {
        let is_first = here.set(Rc::clone(&worker)).is_ok();
        assert!(is_first, "a thread has one worker");
    });
    hub::set_work_source(Rc::clone(&worker) as Rc<dyn WorkSource>);
    Ok(worker)
}

/// The pause after an error that is raised in main at every wait, such as one of the kernel, so that the
/// loop does not spin.
const PAUSE: Duration = Duration::from_millis(1);

impl Worker {
    /// The main function of the thread.
    ///
    /// Returns when the hubs are shut down and no tasks are left.
    ///
    /// Tasks catch their own panics. A panic of a greenlet that outlives its task propagates to its
    /// parents, and finally to main, which waits here: it is reported, and does not end the thread.
    pub(super) fn work(&self) {
        while let Err(payload) = catch_unwind(AssertUnwindSafe(|| self.over.wait())) {
            report(format_args!("a greenlet on hub {}", self.remote.index), payload);
            thread::sleep(PAUSE);
        }
        // Ends the coroutines that tasks have spawned, while the hub still works.
        run_reporting("the end of a hub", greenlet::unwind_all);
    }

    fn begin_soon(&self) {
        if !self.is_starting.replace(true) {
            // Needs no memory, since the closure has no captures.
            hub::call(|| {
                if let Some(worker) = here() {
                    worker.begin_some();
                }
            });
        }
    }

    fn begin_some(self: &Rc<Self>) {
        self.is_starting.set(false);
        self.short_sleeps_left.set(MAX_SHORT_SLEEPS);
        let mut tasks = self.taken.take();
        self.remote.queue.take(self.batch.get(), &mut tasks);
        tasks.drain(..).for_each(|task| self.begin(task));
        self.taken.set(tasks);
        if self.remote.queue.len() == 0 {
            self.batch.set(1);
            self.left_at.set(0);
            return;
        }
        self.adapt();
        self.begin_soon();
        self.shared.wake_searcher(self.remote.queue.movable());
    }

    /// Adapts the batch size to the time since the starter last left tasks over.
    fn adapt(&self) {
        let now = clock::now();
        let took = now - self.left_at.replace(now).min(now);
        let batch = self.batch.get();
        if took < QUICK {
            self.batch.set((2 * batch).min(MAX_BATCH));
        } else if took > SLOW {
            self.batch.set((batch / 4).max(1));
        }
    }

    /// Creates a coroutine for a task.
    fn begin(self: &Rc<Self>, task: Arc<dyn Task>) {
        let slot = Slot { worker: Rc::clone(self), index: self.slab.borrow_mut().reserve() };
        let index = slot.index;
        let mut builder = Builder::new();
        if let Some(bytes) = self.shared.stack_size {
            builder = builder.stack_size(bytes);
        }
        match builder.spawn_at(task.spawned_at(), move || slot.run()) {
            Ok(handle) => self.slab.borrow_mut().fill(index, task, handle.coroutine()),
            Err(error) => {
                let message = format!("no coroutine could be created for the task: {error}");
                run_reporting("the destructor of a body", || {
                    task.refuse(JoinError::Panicked(Box::new(message)));
                });
                drop_reporting("the destructor of a body", task);
            }
        }
    }

    /// Takes tasks from another hub, if any has some. Returns whether it did.
    fn take_from_others(&self) -> bool {
        let remotes = &self.shared.remotes;
        let start = self.random() as usize % remotes.len();
        let mut others = remotes[start..].iter().chain(&remotes[..start]);
        let mut taken = self.taken.take();
        let has_taken = others.any(|remote| {
            if remote.index != self.remote.index {
                remote.queue.take_half(&mut taken);
            }
            !taken.is_empty()
        });
        if has_taken {
            self.remote.queue.put(&mut taken);
            self.begin_soon();
        }
        self.taken.set(taken);
        has_taken
    }

    /// Spins for the configured time, but for at most `limit` nanoseconds.
    ///
    /// Returns whether another thread has sent work.
    fn spin(&self, limit: u64) -> bool {
        let spin = self.shared.spin.min(limit);
        if spin == 0 {
            return false;
        }
        let start = clock::now();
        loop {
            // The clock is read less often: that takes longer than the rest.
            for _ in 0..16 {
                if self.remote.hub().is_called() {
                    return true;
                }
                spin_loop();
            }
            if clock::now() - start > spin {
                return false;
            }
        }
    }

    fn random(&self) -> u64 {
        // Marsaglia's xorshift; the state is never zero.
        let mut state = self.random.get();
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.random.set(state);
        state
    }

    /// Marks the hub as awake, after `Idle::enter`.
    ///
    /// Searches if others rely on it: because this hub was the timed searcher, or because another thread
    /// has claimed it, even if it did not sleep.
    fn be_awake(&self) {
        let was_claimed = !self.shared.idle.leave(self.remote.index);
        if was_claimed {
            self.short_sleeps_left.set(MAX_SHORT_SLEEPS);
        }
        if self.is_watching.replace(false) || was_claimed {
            self.shared.idle.begin_search();
            self.take_from_others();
        }
    }

    /// Ends the thread when no tasks are left and none can be added.
    ///
    /// Coroutines that tasks have left do not keep it, even if they are ready.
    fn end_if_over(&self) {
        let is_over = self.shared.is_closed()
            && self.slab.borrow().is_empty()
            && self.remote.queue.len() == 0
            && self.shared.is_empty();
        if is_over {
            self.over.set();
        }
    }
}

impl WorkSource for Worker {
    fn look(&self, is_busy: bool) {
        if self.remote.queue.len() > 0 {
            self.begin_soon();
            // A single task on a hub that is not busy begins at once: no searcher is needed.
            let movable = self.remote.queue.movable();
            if is_busy || movable > 1 {
                self.shared.wake_searcher(movable);
            }
        } else {
            self.end_if_over();
        }
    }

    fn before_sleep(&self, limit: u64) -> Option<u64> {
        if self.over.is_set() {
            // Main waits for something other than `over`: for destructors, at the end of the thread.
            return Some(u64::MAX);
        }
        // Read before the queues: then every task pushed before the close is seen below.
        let is_closed = self.shared.is_closed();
        let (idle, index) = (&self.shared.idle, self.remote.index);
        idle.enter(index);
        if self.remote.queue.len() > 0 || self.take_from_others() {
            self.begin_soon();
            self.be_awake();
            return None;
        }
        if is_closed && self.slab.borrow().is_empty() {
            // Other hubs may still have tasks that could not be taken. Their owner begins them, or claims
            // a searcher; if that is this hub, `be_awake` takes some.
            self.be_awake();
            if self.remote.queue.len() == 0 {
                self.over.set();
            }
            return None;
        }
        if self.spin(limit) {
            // Poll without sleeping.
            return Some(0);
        }
        let short_sleeps_left = self.short_sleeps_left.get();
        if short_sleeps_left > 0 && self.shared.remotes.len() > 1 && idle.try_watch() {
            self.short_sleeps_left.set(short_sleeps_left - 1);
            self.is_watching.set(true);
            return Some(SHORT_SLEEP);
        }
        Some(u64::MAX)
    }

    fn after_sleep(&self) {
        if !self.over.is_set() {
            self.be_awake();
        }
    }
}

/// A reserved slot of the slab.
///
/// Released on drop: when the task's coroutine ends, or could not be created.
struct Slot {
    worker: Rc<Worker>,
    index: usize,
}

impl Slot {
    /// The body of the coroutine.
    fn run(self) {
        let task = self.worker.slab.borrow_mut().take_task(self.index);
        let Some(task) = task else { return };
        if self.worker.shared.is_killing() {
            self.worker.shared.note_killed();
            refuse(task);
        } else {
            task.run(Arc::<RemoteWorker>::clone(&self.worker.remote), self.index);
            // If the handle was dropped, this drops the result.
            drop_reporting("the destructor of a body's result", task);
        }
    }
}

/// Drops a task that has not begun. The destructor of its body may panic.
fn refuse(task: Arc<dyn Task>) {
    run_reporting("the destructor of a body", move || {
        task.refuse(JoinError::Killed);
    });
}

impl Drop for Slot {
    fn drop(&mut self) {
        // Releases the slot last, even if the destructor of the body panics.
        let _release = Release(&self.worker, self.index);
        let task = self.worker.slab.borrow_mut().take_task(self.index);
        if let Some(task) = task {
            refuse(task);
        }
    }
}

struct Release<'a>(&'a Worker, usize);

impl Drop for Release<'_> {
    fn drop(&mut self) {
        let coroutine = self.0.slab.borrow_mut().release(self.1);
        drop(coroutine);
    }
}
