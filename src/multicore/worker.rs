#![forbid(unsafe_code)]
//! What a hub of a crew does on its thread: begins bodies, and looks for them.
//!
//! Bodies are begun by a call in the hub (the *starter*), which takes its turn among the coroutines: it makes
//! coroutines of the oldest bodies, and if there are more, goes to the end of the queue again, behind those.
//! So a hub whose coroutines are always ready begins bodies all the same, and what has not begun can still be
//! taken by others. How many at a time depends on how quickly they are through: one that computes keeps few
//! waiting.

use super::body::{Body, Home};
use super::crew::{Crew, Member};
use super::roster::Roster;
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

/// Nanoseconds: for so long a hub sleeps that looks whether others need help.
const SHORT: u64 = 1_000_000;

/// So often it does that without finding any, before it sleeps until it is woken.
const PATIENCE: u32 = 8;

/// So many bodies are made coroutines of at a time, at most.
const MOST: usize = 64;

/// Nanoseconds: if those were through sooner, there may be more the next time; if later, fewer.
const QUICK: u64 = 20_000;
const SLOW: u64 = 200_000;

pub(super) struct Worker {
    crew: Arc<Crew>,
    member: Arc<Member>,
    /// The bodies that have coroutines.
    roster: RefCell<Roster>,
    /// The starter is in the queue of those that are ready.
    is_starting: Cell<bool>,
    /// How many it takes, and when it was last here with some left.
    batch: Cell<usize>,
    left_at: Cell<u64>,
    /// Empty, with room.
    taken: Cell<Vec<Arc<dyn Body>>>,
    /// This hub sleeps for a short while, to look then.
    is_watching: Cell<bool>,
    patience: Cell<u32>,
    /// Where it looks first.
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

/// The number of this thread's hub, if it belongs to `crew`.
pub(super) fn index_in(crew: &Arc<Crew>) -> Option<usize> {
    let index =
        |worker: &Rc<Worker>| Arc::ptr_eq(&worker.crew, crew).then_some(worker.member.index);
    HERE.try_with(|here| here.get().and_then(index)).ok().flatten()
}

/// The worker of `member`, if this is its thread.
fn worker_of(member: &Member) -> Option<Rc<Worker>> {
    here().filter(|worker| ptr::eq(&*worker.member, member))
}

impl Home for Member {
    fn is_here(&self) -> bool {
        worker_of(self).is_some()
    }

    fn coroutine(&self, slot: usize) -> Option<Coroutine> {
        worker_of(self)?.roster.borrow().coroutine(slot)
    }

    fn remote(&self) -> &RemoteHub {
        Member::remote(self)
    }
}

/// Has this thread's hub begin bodies when it comes to that.
pub(super) fn begin_soon() {
    let _ = HERE.try_with(|here| here.get().map(|worker| worker.begin_soon()));
}

/// Ends all bodies of this thread's hub: those that have coroutines are killed, the others dropped by theirs.
pub(super) fn kill_all() {
    let Some(worker) = here() else { return };
    let all = worker.roster.borrow().all();
    for coroutine in all {
        worker.crew.note_killed();
        // The destructor of an unstarted body may panic: the rest are killed all the same.
        run_reporting("the destructor of a body", || coroutine.kill());
    }
}

/// Makes this thread a worker, with all that its hub needs. From then on others may know of it.
///
/// # Errors
///
/// If there are no descriptors left for it.
pub(super) fn begin(crew: Arc<Crew>, index: usize) -> io::Result<Rc<Worker>> {
    hub::prepare_to_sleep()?;
    let member = Arc::clone(&crew.members[index]);
    let worker = Rc::new(Worker {
        crew,
        member,
        roster: RefCell::default(),
        is_starting: Cell::new(false),
        batch: Cell::new(1),
        left_at: Cell::new(0),
        taken: Cell::default(),
        is_watching: Cell::new(false),
        patience: Cell::new(PATIENCE),
        random: Cell::new(index as u64 + 1),
        over: Event::new(),
    });
    worker.member.introduce();
    HERE.with(|here| {
        let is_first = here.set(Rc::clone(&worker)).is_ok();
        assert!(is_first, "a thread has one worker");
    });
    hub::set_work_source(Rc::clone(&worker) as Rc<dyn WorkSource>);
    Ok(worker)
}

/// What main may have raised in it at each wait, such as an error of the kernel: it pauses, and does not
/// spin.
const PAUSE: Duration = Duration::from_millis(1);

impl Worker {
    /// What the thread does until the crew is over.
    ///
    /// Bodies catch what is raised in them. What a greenlet raises that has outlived its body comes to its
    /// parents, and in the end to main, which is here: it is reported, and ends no thread.
    pub(super) fn work(&self) {
        while let Err(payload) = catch_unwind(AssertUnwindSafe(|| self.over.wait())) {
            report(format_args!("something on hub {}", self.member.index), payload);
            thread::sleep(PAUSE);
        }
        // What bodies have spawned beside themselves ends here, while the hub still works.
        run_reporting("the end of a hub", greenlet::unwind_all);
    }

    fn begin_soon(&self) {
        if !self.is_starting.replace(true) {
            // It needs no memory: the closure has no size.
            hub::call(|| {
                if let Some(worker) = here() {
                    worker.begin_some();
                }
            });
        }
    }

    fn begin_some(self: &Rc<Self>) {
        self.is_starting.set(false);
        self.patience.set(PATIENCE);
        let mut bodies = self.taken.take();
        self.member.queue.take(self.batch.get(), &mut bodies);
        bodies.drain(..).for_each(|body| self.begin(body));
        self.taken.set(bodies);
        if self.member.queue.len() == 0 {
            self.batch.set(1);
            self.left_at.set(0);
            return;
        }
        self.adapt();
        self.begin_soon();
        self.crew.call_for_help(self.member.queue.movable());
    }

    /// There are more: chooses how many to take next time by how long it took to come back here.
    fn adapt(&self) {
        let now = clock::now();
        let took = now - self.left_at.replace(now).min(now);
        let batch = self.batch.get();
        if took < QUICK {
            self.batch.set((2 * batch).min(MOST));
        } else if took > SLOW {
            self.batch.set((batch / 4).max(1));
        }
    }

    /// Makes a coroutine for a body.
    fn begin(self: &Rc<Self>, body: Arc<dyn Body>) {
        let place = Place { worker: Rc::clone(self), index: self.roster.borrow_mut().reserve() };
        let index = place.index;
        let mut builder = Builder::new();
        if let Some(bytes) = self.crew.stack_size {
            builder = builder.stack_size(bytes);
        }
        match builder.spawn_at(body.spawned_at(), move || place.run()) {
            Ok(handle) => self.roster.borrow_mut().fill(index, body, handle.coroutine()),
            Err(error) => {
                let message = format!("no coroutine was made for a body: {error}");
                run_reporting("the destructor of a body", || {
                    body.refuse(JoinError::Panicked(Box::new(message)));
                });
                drop_reporting("the destructor of a body", body);
            }
        }
    }

    /// Takes bodies from another hub, if there are any. Whether it has.
    fn take_from_others(&self) -> bool {
        let members = &self.crew.members;
        let start = self.random() as usize % members.len();
        let mut others = members[start..].iter().chain(&members[..start]);
        let mut taken = self.taken.take();
        let has_taken = others.any(|member| {
            if member.index != self.member.index {
                member.queue.take_half(&mut taken);
            }
            !taken.is_empty()
        });
        if has_taken {
            self.member.queue.put(&mut taken);
            self.begin_soon();
        }
        self.taken.set(taken);
        has_taken
    }

    /// Stays awake for a while, though for no longer than `limit`. Whether something has come.
    fn spin(&self, limit: u64) -> bool {
        let spin = self.crew.spin.min(limit);
        if spin == 0 {
            return false;
        }
        let start = clock::now();
        loop {
            // The clock is looked at less often: it takes longer than the rest.
            for _ in 0..16 {
                if self.member.remote().is_called() {
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
        // Marsaglia's xorshift: the state is never zero.
        let mut state = self.random.get();
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.random.set(state);
        state
    }

    /// It has been idle, and is not any more. Others may rely on it to look: because it was to sleep for a
    /// short while only, or because they have woken it, be it that it has not slept at all.
    fn be_awake(&self) {
        let was_claimed = !self.crew.idle.leave(self.member.index);
        if was_claimed {
            self.patience.set(PATIENCE);
        }
        if self.is_watching.replace(false) || was_claimed {
            self.crew.idle.begin_to_look();
            self.take_from_others();
        }
    }

    /// Has the thread end, though its coroutines are busy, if no bodies are left and none can come.
    fn end_if_over(&self) {
        let is_over = self.crew.is_closed()
            && self.roster.borrow().is_empty()
            && self.member.queue.len() == 0
            && self.crew.is_empty();
        if is_over {
            self.over.set();
        }
    }
}

impl WorkSource for Worker {
    fn look(&self, is_busy: bool) {
        if self.member.queue.len() > 0 {
            self.begin_soon();
            // One that has nothing before it is begun at once.
            let movable = self.member.queue.movable();
            if is_busy || movable > 1 {
                self.crew.call_for_help(movable);
            }
        } else {
            self.end_if_over();
        }
    }

    fn before_sleep(&self, limit: u64) -> Option<u64> {
        if self.over.is_set() {
            // Main waits for something else: for destructors, at the thread's end.
            return Some(u64::MAX);
        }
        // Asked first: what is pushed before it is closed is seen below.
        let is_closed = self.crew.is_closed();
        let (idle, index) = (&self.crew.idle, self.member.index);
        idle.enter(index);
        if self.member.queue.len() > 0 || self.take_from_others() {
            self.begin_soon();
            self.be_awake();
            return None;
        }
        if is_closed && self.roster.borrow().is_empty() {
            // Others may have bodies still, but there was none to be taken: whoever has one gets to it, or
            // calls.
            self.be_awake();
            if self.member.queue.len() == 0 {
                self.over.set();
            }
            return None;
        }
        if self.spin(limit) {
            // The sleep will be none.
            return Some(0);
        }
        let patience = self.patience.get();
        if patience > 0 && self.crew.members.len() > 1 && idle.watch() {
            self.patience.set(patience - 1);
            self.is_watching.set(true);
            return Some(SHORT);
        }
        Some(u64::MAX)
    }

    fn after_sleep(&self) {
        if !self.over.is_set() {
            self.be_awake();
        }
    }
}

/// A place in the roster, left when this is dropped: when the body's coroutine ends, or never begins.
struct Place {
    worker: Rc<Worker>,
    index: usize,
}

impl Place {
    /// What the coroutine does.
    fn run(self) {
        let body = self.worker.roster.borrow_mut().take_body(self.index);
        let Some(body) = body else { return };
        if self.worker.crew.is_killing() {
            self.worker.crew.note_killed();
            refuse(body);
        } else {
            body.run(Arc::<Member>::clone(&self.worker.member), self.index);
            // Perhaps nobody wants the result: then it is dropped here.
            drop_reporting("the destructor of a body's result", body);
        }
    }
}

/// Ends a body that has not begun. Its destructor may panic.
fn refuse(body: Arc<dyn Body>) {
    run_reporting("the destructor of a body", move || {
        body.refuse(JoinError::Killed);
    });
}

impl Drop for Place {
    fn drop(&mut self) {
        // In the end, also if the body's destructor panics.
        let _leave = Leave(&self.worker, self.index);
        let body = self.worker.roster.borrow_mut().take_body(self.index);
        if let Some(body) = body {
            refuse(body);
        }
    }
}

struct Leave<'a>(&'a Worker, usize);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        let coroutine = self.0.roster.borrow_mut().leave(self.1);
        drop(coroutine);
    }
}
