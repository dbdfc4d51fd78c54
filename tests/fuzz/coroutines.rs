//! Programs of coroutines: they spawn, join, kill, time out and hand things to each other at random, and
//! everything that can be counted is.
//!
//! Each object has a model beside it: what is acquired and released, put and delivered, locked and unlocked is
//! written down, and compared at the end. A program that has no timers is the same each time. One that has
//! depends on the clock, by as little as can be: the steps that are chosen do not.

use crate::list::List;
use crate::steps::{self, Action, actions, run, step};
use crate::values::{self, Body, Nasty, Value};
use crate::{finding, random};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{panic_any, resume_unwind};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};
use switchgrass::coroutine::{self, Coroutine, LinkId, iwait, join_all, kill_all, scope, wait_any};
use switchgrass::greenlet::{self, TraceHook};
use switchgrass::pool::{Group, Pool};
use switchgrass::sync::{
    AsyncResult, Barrier, Channel, Condvar, Event, LifoQueue, Mutex, PriorityQueue, Queue, RLock,
    RwLock, Semaphore, select_timeout,
};
use switchgrass::{
    AnyGreenlet, Generator, Greenlet, GreenletExit, JoinError, JoinHandle, Local, current, sleep,
    spawn, timeout, yield_now,
};

/// The objects of a program, and what is known of them.
struct World {
    /// Whether anything waits for time to pass.
    has_timers: bool,
    events: [Event; 2],
    semaphores: [Permits; 2],
    queues: [Line; 4],
    channel: Channel<Item>,
    channel_log: Log,
    mutex: Mutex<Value>,
    in_mutex: Cell<u32>,
    condvar: Condvar,
    rwlock: RwLock<Value>,
    readers: Cell<u32>,
    writers: Cell<u32>,
    rlock: RLock,
    rlock_owner: Cell<Option<u64>>,
    rlock_depth: Cell<usize>,
    barrier: Barrier,
    result: RefCell<Rc<AsyncResult<Value>>>,
    group: Group,
    pool: Pool,
    in_pool: Cell<usize>,
    next_item: Cell<u64>,
    next_tag: Cell<u64>,
}

struct Permits {
    semaphore: Semaphore,
    total: usize,
    held: Cell<usize>,
}

/// A queue of one of the kinds.
struct Line {
    queue: Kind,
    log: Log,
    is_dropped: Cell<bool>,
}

enum Kind {
    Fifo(Queue<Item>),
    Lifo(LifoQueue<Item>),
    Priority(PriorityQueue<Item>),
}

macro_rules! with_queue {
    ($line:expr, $queue:ident => $call:expr) => {
        match &$line.queue {
            Kind::Fifo($queue) => $call,
            Kind::Lifo($queue) => $call,
            Kind::Priority($queue) => $call,
        }
    };
}

/// What was put into a queue without an error, and what has come out.
#[derive(Default)]
struct Log {
    accepted: RefCell<BTreeSet<u64>>,
    delivered: RefCell<BTreeSet<u64>>,
}

impl Log {
    fn accept(&self, number: u64) {
        self.accepted.borrow_mut().insert(number);
    }

    fn deliver(&self, item: &Item) {
        item.value.check();
        if !self.delivered.borrow_mut().insert(item.number) {
            finding(&format!("item {} was delivered twice", item.number));
        }
    }
}

/// What goes through queues. The comparison is user code.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Item {
    value: Value,
    number: u64,
}

thread_local! {
    static WORLD: List<Rc<World>> = const { List::new() };
    static HANDLES: List<(JoinHandle<Value>, u64)> = const { List::new() };
    static COROUTINES: List<Coroutine> = const { List::new() };
    static GREENLETS: List<AnyGreenlet> = const { List::new() };
    static GENERATORS: List<Generator<Value>> = const { List::new() };
    static LINKS: List<(Coroutine, LinkId, Rc<Cell<u32>>)> = const { List::new() };
    static AT_THE_END: AtTheEnd = const { AtTheEnd };
}

static LOCAL: Local<Value> = Local::new(Value::new);

/// Steps after the thread's coroutines have ended, or before.
struct AtTheEnd;

impl Drop for AtTheEnd {
    fn drop(&mut self) {
        for _ in 0..3 {
            steps::swallow(step);
        }
    }
}

impl World {
    fn new() -> Self {
        let permits =
            |total| Permits { semaphore: Semaphore::new(total), total, held: Cell::new(0) };
        let line = |queue| Line { queue, log: Log::default(), is_dropped: Cell::new(false) };
        World {
            has_timers: random::one_in(2),
            events: [Event::new(), Event::new()],
            semaphores: [permits(1), permits(2)],
            queues: [
                line(Kind::Fifo(Queue::new())),
                line(Kind::Fifo(Queue::bounded(1))),
                line(Kind::Lifo(Queue::bounded_lifo(2))),
                line(Kind::Priority(Queue::bounded_priority(2))),
            ],
            channel: Channel::new(),
            channel_log: Log::default(),
            mutex: Mutex::new(Value::new()),
            in_mutex: Cell::new(0),
            condvar: Condvar::new(),
            rwlock: RwLock::new(Value::new()),
            readers: Cell::new(0),
            writers: Cell::new(0),
            rlock: RLock::new(),
            rlock_owner: Cell::new(None),
            rlock_depth: Cell::new(0),
            barrier: Barrier::new(2),
            result: RefCell::new(Rc::new(AsyncResult::new())),
            group: Group::new(),
            pool: Pool::new(2),
            in_pool: Cell::new(0),
            next_item: Cell::new(0),
            next_tag: Cell::new(1),
        }
    }

    fn item(&self) -> Item {
        let number = self.next_item.get();
        self.next_item.set(number + 1);
        Item { value: Value::tagged(random::below(4)), number }
    }

    /// A timeout; `None` to wait indefinitely.
    fn timeout(&self) -> Option<Duration> {
        (self.has_timers && !random::one_in(4)).then(random::moment)
    }

    fn semaphore(&self) -> &Permits {
        &self.semaphores[random::below(2) as usize]
    }

    fn line(&self) -> &Line {
        &self.queues[random::below(4) as usize]
    }

    fn event(&self) -> &Event {
        &self.events[random::below(2) as usize]
    }
}

/// Counts something up for as long as it is there.
struct Within<'a>(&'a Cell<u32>);

impl<'a> Within<'a> {
    fn new(count: &'a Cell<u32>) -> Self {
        count.set(count.get() + 1);
        Within(count)
    }
}

impl Drop for Within<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Runs the program of the seed that the random numbers were started with.
pub(crate) fn program() {
    steps::start(250, act);
    let late = random::one_in(2);
    if late {
        AT_THE_END.with(|_| ());
        COROUTINES.with(|_| ());
    }
    let world = Rc::new(World::new());
    WORLD.with(|worlds| worlds.push(Rc::clone(&world)));
    if random::one_in(8) && steps::is_allowed("trace") {
        set_trace();
    }
    if !late && random::one_in(2) {
        AT_THE_END.with(|_| ());
    }
    while steps::are_left() {
        steps::swallow(step);
        if coroutine::current().id() != 0 {
            finding("main is not the current coroutine of main");
        }
    }
    steps::swallow(|| drop(greenlet::set_trace(None)));
    if random::one_in(2) {
        steps::swallow(|| finish(&world));
    }
    // Otherwise the end of the thread ends them all.
}

/// Ends everything, and compares what is left with what was written down.
fn finish(world: &World) {
    GENERATORS.with(List::clear);
    GREENLETS.with(List::clear);
    let mut all = Vec::new();
    for _ in 0..20 {
        all.extend(COROUTINES.with(List::take_all));
        steps::swallow(|| {
            kill_all(all.iter().cloned(), None);
        });
        steps::swallow(wait_until_idle);
        if all.iter().all(Coroutine::is_finished) {
            break;
        }
    }
    // A member of a scope in a generator may wait for that generator: they wait for each other.
    let waits_for_itself =
        |coroutine: &Coroutine| coroutine.waits_for() == Some("the end of a scope");
    if steps::is_tame() && !all.iter().all(|one| one.is_finished() || waits_for_itself(one)) {
        let left = all.iter().filter(|coroutine| !coroutine.is_finished());
        let left: Vec<_> = left.map(|coroutine| (coroutine, coroutine.waits_for())).collect();
        finding(&format!("killed coroutines have not ended: {left:?}"));
    }
    for (_, id, runs) in LINKS.with(List::take_all) {
        if runs.get() > 1 {
            finding(&format!("link {id:?} ran {} times", runs.get()));
        }
    }
    // A frame that refuses to end may have been given anything.
    let stuck = values::bodies() > 0;
    for permits in &world.semaphores {
        let (left, held) = (permits.semaphore.permits(), permits.held.get());
        if left + held != permits.total {
            finding(&format!("{left} permits are left and {held} held of {}", permits.total));
        }
    }
    for line in &world.queues {
        let mut is_empty = false;
        while !is_empty {
            // The comparison and the destructor of an item may panic.
            steps::swallow(|| match with_queue!(line, queue => queue.try_get()) {
                Ok(item) => line.log.deliver(&item),
                Err(_) => is_empty = true,
            });
        }
        let (accepted, delivered) = (line.log.accepted.borrow(), line.log.delivered.borrow());
        // What a stuck coroutine was handed is not written down yet.
        if !line.is_dropped.get() && !stuck {
            let lost: Vec<_> = accepted.difference(&delivered).collect();
            if !lost.is_empty() {
                finding(&format!("items that were put were never delivered: {lost:?}"));
            }
        }
    }
    let log = &world.channel_log;
    // Handed over to one that was killed before it had it: it is left for the next.
    while let Ok(item) = world.channel.try_get() {
        log.deliver(&item);
        steps::swallow(|| drop(item));
    }
    let lost = log.accepted.borrow().difference(&log.delivered.borrow()).count();
    if lost > 0 && !stuck {
        finding(&format!("{lost} items of a channel were never delivered"));
    }
    if !stuck {
        let is_free = !matches!(world.mutex.try_lock(), Err(std::sync::TryLockError::WouldBlock));
        let is_unread =
            !matches!(world.rwlock.try_write(), Err(std::sync::TryLockError::WouldBlock));
        let is_unlocked = world.rlock.try_lock().is_some();
        if !is_free || !is_unread || !is_unlocked {
            finding(&format!(
                "a lock is held by nobody: Mutex {is_free}, RwLock {is_unread}, RLock {is_unlocked}"
            ));
        }
        if world.pool.free() != world.pool.size() || world.in_pool.get() != 0 {
            finding(&format!("an empty pool has {} places free", world.pool.free()));
        }
        if !world.group.is_empty() {
            finding(&format!("{} ended members are left in a group", world.group.len()));
        }
    }
    // All of them have ended: nobody is left to take anything.
    let handles = HANDLES.with(List::take_all);
    for (handle, tag) in handles {
        steps::swallow(move || {
            if handle.is_finished() {
                check_joined(handle.join(), tag);
            }
        });
    }
}

/// Waits for what cannot come: main is told so when nobody else can go on.
fn wait_until_idle() {
    steps::swallow(|| Event::new().wait());
}

fn world() -> Option<Rc<World>> {
    WORLD.try_with(List::first).ok().flatten()
}

fn any_coroutine() -> Option<Coroutine> {
    COROUTINES.try_with(List::any).ok().flatten()
}

fn several() -> Vec<Coroutine> {
    (0..random::below(4)).filter_map(|_| any_coroutine()).collect()
}

fn keep(handle: JoinHandle<Value>, tag: u64) {
    let _ = COROUTINES.try_with(|all| all.push(handle.coroutine()));
    if !random::one_in(4) {
        keep_handle(handle, tag);
    }
}

fn keep_handle(handle: JoinHandle<Value>, tag: u64) {
    let _ = HANDLES.try_with(move |all| all.push((handle, tag)));
}

fn take_handle() -> Option<(JoinHandle<Value>, u64)> {
    HANDLES.try_with(List::take_any).ok().flatten()
}

fn check_joined(result: Result<Value, JoinError>, tag: u64) {
    match result {
        Ok(value) if value.check() != tag => {
            finding(&format!("a join of {tag} has returned {}", value.check()));
        }
        Err(JoinError::Taken) => finding(&format!("the result of {tag} was gone")),
        other => drop(other),
    }
}

fn act() {
    const ACTIONS: &[Action] = actions![
        8 make,
        1 make_later,
        5 take_turns,
        1 pause,
        4 join,
        1 wait_for_ends,
        2 kill,
        1 kill_and_wait,
        3 limit,
        2 enter_scope,
        1 link,
        1 unlink,
        1 use_local,
        1 keep_generator,
        1 use_generator,
        2 use_greenlet,
        1 touch_by_hand,
        2 use_event,
        3 acquire,
        3 put,
        3 get,
        1 shut_down,
        1 use_channel,
        2 lock,
        2 read_or_write,
        1 lock_again,
        1 wait_at_barrier,
        1 wait_for_several,
        2 use_result,
        1 use_group,
        2 use_pool,
        1 disturb,
        1 await_join,
        1 fail,
    ];
    steps::act(ACTIONS);
}

fn fail() {
    steps::fail();
}

fn take_turns() {
    yield_now();
}

fn use_local() {
    LOCAL.with(|value| {
        value.check();
        run(2);
        value.check();
    });
}

/// Lets others kill the coroutine that runs.
fn enter() {
    let current = coroutine::current();
    // Not main.
    if current.id() != 0 {
        let _ = COROUTINES.try_with(|all| all.push(current));
    }
}

/// Whether payloads may have destructors that panic.
fn is_nasty() -> bool {
    !steps::is_tame() && steps::is_allowed("nasty")
}

/// The body of a coroutine.
fn body(tag: u64) -> impl FnOnce() -> Value + 'static {
    let (body, captured, steps) = (Body::new(), Value::new(), random::below(8));
    move || {
        let _body = body;
        let captured = captured;
        enter();
        run(steps);
        captured.check();
        match random::below(16) {
            0 => steps::fail(),
            1 if is_nasty() => panic_any(Nasty(captured)),
            _ => {}
        }
        // Before there is a result: where a destructor panics, rustc leaks that (rust-lang/rust#47949).
        drop(captured);
        Value::tagged(tag)
    }
}

fn tag(world: &World) -> u64 {
    let tag = world.next_tag.get();
    world.next_tag.set(tag + 1);
    tag
}

fn make() {
    let Some(world) = &world() else { return };
    let tag = tag(world);
    keep(spawn(body(tag)), tag);
}

fn make_later() {
    let Some(world) = &world() else { return };
    let tag = tag(world);
    let delay = match world.has_timers {
        true => random::moment(),
        false => Duration::MAX,
    };
    let builder = coroutine::Builder::new().name("later").stack_size(512 << 10).start_after(delay);
    if let Ok(handle) = builder.spawn(body(tag)) {
        keep(handle, tag);
    }
}

/// Calls `f`, which must not return before `limit` has passed if `timed_out` says that it has.
fn check_time<T>(limit: Duration, timed_out: impl Fn(&T) -> bool, f: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = f();
    if timed_out(&result) && start.elapsed() < limit {
        finding(&format!("{limit:?} had passed after {:?}", start.elapsed()));
    }
    result
}

fn pause() {
    let Some(world) = &world() else { return };
    if world.has_timers {
        let duration = random::moment();
        check_time(duration, |()| true, || sleep(duration));
    } else {
        sleep(Duration::ZERO);
    }
}

fn join() {
    let Some(world) = &world() else { return };
    let Some((mut handle, tag)) = take_handle() else { return };
    let Some(limit) = world.timeout() else { return check_joined(handle.join(), tag) };
    match check_time(limit, Option::is_none, || handle.join_timeout(limit)) {
        Some(result) => check_joined(result, tag),
        None => keep_handle(handle, tag),
    }
}

fn wait_for_ends() {
    let Some(world) = &world() else { return };
    match random::below(4) {
        0 => {
            let all: Vec<_> = (0..random::below(3)).filter_map(|_| take_handle()).collect();
            let (handles, tags): (Vec<_>, Vec<_>) = all.into_iter().unzip();
            for (result, tag) in join_all(handles).into_iter().zip(tags) {
                check_joined(result, tag);
            }
        }
        1 => {
            let all = several();
            if let Some(first) = wait_any(all.iter().cloned()) {
                expect_finished(&all[first]);
            }
        }
        2 => {
            let all = several();
            let ends = iwait(all.iter().cloned());
            let ends = match world.timeout() {
                Some(limit) => ends.limit(limit),
                None => ends,
            };
            for end in ends {
                expect_finished(&all[end]);
                run(1);
            }
        }
        _ => {
            let Some(one) = any_coroutine() else { return };
            let limit = world.timeout();
            if one.wait_end(limit) {
                expect_finished(&one);
            }
        }
    }
}

fn expect_finished(coroutine: &Coroutine) {
    if !coroutine.is_finished() {
        finding("one whose end was waited for has not ended");
    }
}

fn kill() {
    let Some(one) = any_coroutine() else { return };
    match random::below(4) {
        0 => one.kill_with(Box::new("killed on purpose")),
        1 if is_nasty() => one.kill_with(Box::new(Nasty(Value::new()))),
        _ => one.kill(),
    }
}

fn kill_and_wait() {
    let Some(world) = &world() else { return };
    let limit = world.timeout();
    match random::below(2) {
        0 => {
            let all = several();
            if kill_all(all.iter().cloned(), limit) {
                all.iter().for_each(expect_finished);
            }
        }
        _ => {
            let Some(one) = any_coroutine() else { return };
            if one.kill_wait(limit) {
                expect_finished(&one);
            }
        }
    }
}

fn limit() {
    let Some(world) = &world() else { return };
    if world.has_timers {
        let limit = random::moment();
        let _ = check_time(limit, Result::is_err, || timeout(limit, || run(4)));
    } else if timeout(Duration::MAX, || run(4)).is_err() {
        finding("a limit that never passes has passed");
    }
}

fn enter_scope() {
    let inside = Cell::new(0);
    let borrowed = Value::new();
    let run_scope = || {
        scope(|scope| {
            let handles: Vec<_> = (0..random::below(4))
                .map(|tag| {
                    let (inside, borrowed, body) = (&inside, &borrowed, Body::new());
                    let within = Within::new(inside);
                    let handle = scope.spawn(move || {
                        let (_body, _within) = (body, within);
                        borrowed.check();
                        run(4);
                        borrowed.check();
                        Value::tagged(tag)
                    });
                    let _ = COROUTINES.try_with(|all| all.push(handle.coroutine()));
                    (handle, tag)
                })
                .collect();
            run(2);
            for (handle, tag) in handles {
                if random::one_in(2) {
                    check_joined(handle.join(), tag);
                }
            }
        });
    };
    struct Check<'a>(&'a Cell<u32>);
    impl Drop for Check<'_> {
        fn drop(&mut self) {
            if self.0.get() != 0 {
                finding("a scope was left with a member that has not ended");
            }
        }
    }
    let _check = Check(&inside);
    run_scope();
}

fn link() {
    let Some(one) = any_coroutine() else { return };
    let (captured, body, runs) = (Value::new(), Body::new(), Rc::new(Cell::new(0)));
    let (count, id) = (Rc::clone(&runs), one.id());
    let is_spawned = random::one_in(2) || !steps::is_allowed("in_hub");
    // A handle in the callback would keep a coroutine alive that keeps the callback.
    let is_finished = move || {
        let found = COROUTINES.try_with(|all| all.find(|one| one.id() == id)).ok().flatten();
        found.is_none_or(|one| one.is_finished())
    };
    let callback = move || {
        let _body = body;
        captured.check();
        if is_spawned {
            enter();
        }
        count.set(count.get() + 1);
        if !is_finished() {
            finding("a link runs before the end");
        }
        run(2);
    };
    let link = if is_spawned { one.link(callback) } else { one.link_in_hub(callback) };
    let _ = LINKS.try_with(move |all| all.push((one, link, runs)));
}

fn unlink() {
    let link = LINKS.try_with(List::any).ok().flatten();
    let Some((one, id, runs)) = link else { return };
    let before = runs.get();
    if one.unlink(id) && before > 0 {
        finding("a link that has run was taken off");
    }
}

fn keep_generator() {
    let body = Body::new();
    let generator = Generator::new(move |yielder| {
        let _body = body;
        let value = Value::new();
        for _ in 0..4 {
            run(2);
            yielder.yield_(Value::tagged(value.check()));
        }
    });
    let _ = GENERATORS.try_with(move |all| all.push(generator));
}

fn use_generator() {
    let taken = GENERATORS.try_with(List::take_any).ok().flatten();
    let Some(mut generator) = taken else { return };
    for _ in 0..random::below(4) {
        let Some(value) = generator.next() else { return };
        value.check();
        run(1);
    }
    if random::one_in(2) {
        let _ = GENERATORS.try_with(move |all| all.push(generator));
    }
}

/// Greenlets made by hand, by main or by coroutines that may have ended since.
fn use_greenlet() {
    match random::below(7) {
        0..=2 => {
            let (body, captured) = (Body::new(), Value::new());
            let greenlet = Greenlet::new(move |()| {
                let _body = body;
                let captured = captured;
                run(4);
                captured.check();
                if random::one_in(3) {
                    steps::fail();
                }
            });
            let _ = GREENLETS.try_with(move |all| all.push(greenlet.erase()));
        }
        3 | 4 => {
            let Some(greenlet) = any_greenlet() else { return };
            let me = current();
            let _ = greenlet.try_switch_any::<(), ()>(());
            if !me.is_current() {
                finding("a greenlet that runs is not the current one");
            }
        }
        5 => {
            let Some(greenlet) = take_greenlet() else { return };
            drop(greenlet);
        }
        _ => {
            let (Some(greenlet), Some(parent)) = (any_greenlet(), any_coroutine()) else { return };
            if let Some(parent) = parent.greenlet() {
                let _ = greenlet.set_parent(&parent);
            }
        }
    }
}

fn any_greenlet() -> Option<AnyGreenlet> {
    GREENLETS.try_with(List::any).ok().flatten()
}

fn take_greenlet() -> Option<AnyGreenlet> {
    GREENLETS.try_with(List::take_any).ok().flatten()
}

/// Switches to a coroutine, or throws into it, by its greenlet.
fn touch_by_hand() {
    let Some(greenlet) = any_coroutine().and_then(|one| one.greenlet()) else { return };
    match random::below(5) {
        0 => drop(greenlet.try_switch_any::<(), ()>(())),
        1 => drop(greenlet.try_switch_any::<Value, Value>(Value::new())),
        2 => drop(greenlet.throw_any::<()>(Box::new(GreenletExit))),
        3 => drop(greenlet.throw_any::<()>(Box::new("thrown on purpose"))),
        // The hub's own greenlet, or a child's maker.
        _ => {
            if let Some(parent) = greenlet.parent() {
                match random::below(3) {
                    0 => drop(parent.try_switch_any::<(), ()>(())),
                    1 => drop(parent.throw_any::<()>(Box::new(GreenletExit))),
                    _ => drop(greenlet.set_parent(&current())),
                }
            }
        }
    }
}

fn use_event() {
    let Some(world) = &world() else { return };
    let event = world.event();
    match random::below(4) {
        0 | 1 => event.set(),
        2 => event.clear(),
        _ => match world.timeout() {
            Some(limit) => drop(check_time(limit, |set| !set, || event.wait_timeout(limit))),
            None => event.wait(),
        },
    }
}

/// A permit, given back when this is dropped.
struct Held<'a>(&'a Permits);

impl<'a> Held<'a> {
    fn new(permits: &'a Permits) -> Self {
        permits.held.set(permits.held.get() + 1);
        if permits.held.get() > permits.total {
            finding(&format!("{} of {} permits are held", permits.held.get(), permits.total));
        }
        Held(permits)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.held.set(self.0.held.get() - 1);
        self.0.semaphore.release();
    }
}

fn acquire() {
    let Some(world) = &world() else { return };
    let permits = world.semaphore();
    let semaphore = &permits.semaphore;
    let acquired = match (random::below(3), world.timeout()) {
        (0, _) => semaphore.try_acquire(),
        (_, Some(limit)) => check_time(limit, |got| !got, || semaphore.acquire_timeout(limit)),
        (_, None) => {
            semaphore.acquire();
            true
        }
    };
    if acquired {
        let _held = Held::new(permits);
        run(3);
    }
}

fn put() {
    let Some(world) = &world() else { return };
    let (line, item) = (world.line(), world.item());
    let number = item.number;
    let put = match (random::below(3), world.timeout()) {
        (0, _) => with_queue!(line, queue => queue.try_put(item)),
        (_, Some(limit)) => with_queue!(line, queue => queue.put_timeout(item, limit)),
        (_, None) => with_queue!(line, queue => queue.put(item)),
    };
    match put {
        Ok(()) => line.log.accept(number),
        Err(error) => {
            let item = error.into_inner();
            if item.number != number {
                finding("a put that was refused has returned another item");
            }
            item.value.check();
        }
    }
}

fn get() {
    let Some(world) = &world() else { return };
    let line = world.line();
    let got = match (random::below(3), world.timeout()) {
        (0, _) => with_queue!(line, queue => queue.try_get()),
        (_, Some(limit)) => with_queue!(line, queue => queue.get_timeout(limit)),
        (_, None) => with_queue!(line, queue => queue.get()),
    };
    if let Ok(item) = got {
        line.log.deliver(&item);
    }
}

fn shut_down() {
    let Some(world) = &world() else { return };
    let line = world.line();
    if !random::one_in(8) {
        return;
    }
    if random::one_in(2) {
        with_queue!(line, queue => queue.shut_down());
    } else {
        line.is_dropped.set(true);
        with_queue!(line, queue => queue.shut_down_now());
    }
}

fn use_channel() {
    let Some(world) = &world() else { return };
    let (channel, log) = (&world.channel, &world.channel_log);
    if random::one_in(2) {
        let item = world.item();
        let number = item.number;
        let put = match (random::below(3), world.timeout()) {
            (0, _) => channel.try_put(item),
            (_, Some(limit)) => channel.put_timeout(item, limit),
            (_, None) => channel.put(item),
        };
        if put.is_ok() {
            log.accept(number);
        }
    } else {
        let got = match (random::below(3), world.timeout()) {
            (0, _) => channel.try_get(),
            (_, Some(limit)) => channel.get_timeout(limit),
            (_, None) => channel.get(),
        };
        if let Ok(item) = got {
            log.deliver(&item);
        }
    }
}

fn enter_mutex(world: &World) -> Within<'_> {
    let within = Within::new(&world.in_mutex);
    if world.in_mutex.get() != 1 {
        finding("two have locked a mutex");
    }
    within
}

fn lock() {
    let Some(world) = &world() else { return };
    let mutex = &world.mutex;
    mutex.clear_poison();
    let guard = match (random::below(4), world.timeout()) {
        (0, _) => mutex.try_lock(),
        (1, _) => {
            let _ = format!("{mutex:?}");
            return;
        }
        (_, Some(limit)) => mutex.lock_timeout(limit),
        (_, None) => mutex.lock().map_err(std::sync::TryLockError::Poisoned),
    };
    let Ok(guard) = guard else { return };
    let within = enter_mutex(world);
    guard.check();
    match (random::below(4), world.timeout()) {
        (0, Some(limit)) => {
            drop(within);
            if let Ok((guard, _)) = world.condvar.wait_timeout(guard, limit) {
                let _within = enter_mutex(world);
                guard.check();
                run(1);
            }
        }
        (0, None) => {
            drop(within);
            if let Ok(guard) = world.condvar.wait(guard) {
                let _within = enter_mutex(world);
                guard.check();
            }
        }
        (1, _) => world.condvar.notify_one(),
        (2, _) => world.condvar.notify_all(),
        _ => run(3),
    }
}

fn read_or_write() {
    let Some(world) = &world() else { return };
    let lock = &world.rwlock;
    lock.clear_poison();
    if random::one_in(2) {
        let guard = match (random::below(4), world.timeout()) {
            (0, _) => lock.try_read(),
            (_, Some(limit)) => lock.read_timeout(limit),
            (_, None) => lock.read().map_err(std::sync::TryLockError::Poisoned),
        };
        let Ok(guard) = guard else { return };
        let _within = Within::new(&world.readers);
        if world.writers.get() != 0 {
            finding("a reader is in beside a writer");
        }
        guard.check();
        run(2);
        guard.check();
    } else {
        let guard = match (random::below(4), world.timeout()) {
            (0, _) => lock.try_write(),
            (1, _) => {
                let _ = format!("{lock:?}");
                return;
            }
            (_, Some(limit)) => lock.write_timeout(limit),
            (_, None) => lock.write().map_err(std::sync::TryLockError::Poisoned),
        };
        let Ok(guard) = guard else { return };
        let _within = Within::new(&world.writers);
        if (world.writers.get(), world.readers.get()) != (1, 0) {
            finding("a writer is not alone");
        }
        guard.check();
        run(2);
    }
}

/// A lock that its owner may take again.
fn lock_again() {
    let Some(world) = &world() else { return };
    struct Owned<'a>(&'a World);
    impl Drop for Owned<'_> {
        fn drop(&mut self) {
            self.0.rlock_depth.set(self.0.rlock_depth.get() - 1);
            if self.0.rlock_depth.get() == 0 {
                self.0.rlock_owner.set(None);
            }
        }
    }
    let guard = match (random::below(3), world.timeout()) {
        (0, _) => world.rlock.try_lock(),
        (_, Some(limit)) => world.rlock.lock_timeout(limit),
        (_, None) => Some(world.rlock.lock()),
    };
    let Some(_guard) = guard else { return };
    let me = coroutine::current().id();
    if world.rlock_owner.replace(Some(me)).is_some_and(|owner| owner != me) {
        finding("two own a lock");
    }
    world.rlock_depth.set(world.rlock_depth.get() + 1);
    let _owned = Owned(world);
    run(2);
}

fn wait_at_barrier() {
    let Some(world) = &world() else { return };
    match (random::below(4), world.timeout()) {
        (0, _) => world.barrier.reset(),
        (_, Some(limit)) => drop(world.barrier.wait_timeout(limit)),
        (_, None) => drop(world.barrier.wait()),
    }
}

fn wait_for_several() {
    let Some(world) = &world() else { return };
    let (event, permits) = (world.event(), world.semaphore());
    let Kind::Fifo(queue) = &world.queues[random::below(2) as usize].queue else { return };
    let limit = world.timeout().unwrap_or(Duration::MAX);
    let ready = select_timeout(&[event, &permits.semaphore, queue], limit);
    if ready == Some(1) && permits.semaphore.try_acquire() {
        let _held = Held::new(permits);
        run(1);
    }
}

fn use_result() {
    let Some(world) = &world() else { return };
    let result = Rc::clone(&world.result.borrow());
    match (random::below(6), world.timeout()) {
        (0 | 1, _) => drop(result.set(Value::tagged(5))),
        (2, _) => {
            let fresh = Rc::new(AsyncResult::new());
            let old = world.result.replace(fresh);
            drop(old);
        }
        (3, Some(limit)) => drop(result.wait_timeout(limit)),
        (3, None) => result.wait(),
        (4, _) => drop(result.try_get()),
        (_, Some(limit)) => drop(result.get_timeout(limit)),
        (_, None) => {
            if result.get().check() != 5 {
                finding("a result is not the one that was set");
            }
        }
    }
}

fn use_group() {
    let Some(world) = &world() else { return };
    let group = &world.group;
    match random::below(8) {
        0..=2 => {
            let tag = tag(world);
            keep(group.spawn(body(tag)), tag);
        }
        3 => {
            if let Some(one) = any_coroutine() {
                group.add(&one);
            }
        }
        4 => {
            if let Some(one) = any_coroutine() {
                group.discard(&one);
            }
        }
        5 => {
            let squares = group.map(0..random::below(4), |number| {
                let _body = Body::new();
                enter();
                run(1);
                number * number
            });
            if squares.is_ok_and(|all| all.iter().zip(0..).any(|(square, n)| *square != n * n)) {
                finding("a map has mixed up its results");
            }
        }
        6 => match world.timeout() {
            Some(limit) => drop(group.join_timeout(limit)),
            None => group.join(),
        },
        _ => drop(group.kill(world.timeout())),
    }
}

/// What runs in the pool counts how many do.
fn in_pool(world: &World) -> impl FnOnce() -> Value + 'static {
    struct Inside;
    impl Drop for Inside {
        fn drop(&mut self) {
            if let Some(world) = self::world() {
                world.in_pool.set(world.in_pool.get() - 1);
            }
        }
    }
    let tag = tag(world);
    let body = body(tag);
    move || {
        if let Some(world) = self::world() {
            world.in_pool.set(world.in_pool.get() + 1);
            if world.in_pool.get() > world.pool.size() {
                finding("more run in a pool than fit");
            }
        }
        let _inside = Inside;
        body()
    }
}

fn use_pool() {
    let Some(world) = &world() else { return };
    let pool = &world.pool;
    match (random::below(7), world.timeout()) {
        (0, _) => drop(pool.spawn(in_pool(world))),
        (1, _) => drop(pool.try_spawn(in_pool(world)).ok()),
        (2, Some(limit)) => drop(pool.spawn_timeout(in_pool(world), limit).ok()),
        (3, _) => {
            let results = pool.imap(0..random::below(4), |number| {
                let _body = Body::new();
                enter();
                run(1);
                number
            });
            for (result, number) in results.zip(0..) {
                if result.is_ok_and(|result| result != number) {
                    finding("an imap has mixed up its results");
                }
            }
        }
        (4, _) => {
            let results = pool.imap_unordered(0..random::below(4), |number| {
                let _body = Body::new();
                enter();
                run(1);
                number
            });
            let mut seen = BTreeMap::new();
            for result in results.filter_map(Result::ok) {
                *seen.entry(result).or_insert(0) += 1;
            }
            if seen.values().any(|count| *count != 1) {
                finding("an imap_unordered has given a result twice");
            }
        }
        (5, Some(limit)) => drop(pool.join_timeout(limit)),
        (6, limit) if random::one_in(3) => drop(pool.kill(limit)),
        _ => {
            if let Ok(value) = pool.apply(body(9)) {
                value.check();
            }
        }
    }
}

/// Not without a limit, nor where the frame might stay: a future could be woken by other threads, so that the hub
/// would wait for these.
fn await_join() {
    let Some(world) = &world() else { return };
    if !world.has_timers || !steps::is_tame() {
        return;
    }
    let Some((handle, tag)) = take_handle() else { return };
    if let Ok(result) = timeout(random::moment(), || coroutine::block_on(handle)) {
        check_joined(result, tag);
    }
}

/// A payload that only this program knows passes through, or a destructor waits.
fn disturb() {
    struct Waits(Value);
    impl Drop for Waits {
        fn drop(&mut self) {
            self.0.check();
            if !steps::is_tame() {
                let me = current();
                steps::guarded(yield_now);
                if !me.is_current() {
                    finding("a greenlet that runs is not the current one");
                }
            }
            self.0.check();
        }
    }
    let _waits = Waits(Value::new());
    run(2);
    if !thread::panicking() && !steps::is_tame() {
        resume_unwind(Box::new(Value::new()));
    }
}

/// A hook that takes steps, and may panic: wherever a switch arrives, in the hub as well.
fn set_trace() {
    let (captured, calls) = (Value::new(), Cell::new(random::below(40)));
    let hook: TraceHook = Rc::new(move |_| {
        captured.check();
        let Some(left) = calls.get().checked_sub(1) else { return };
        calls.set(left);
        match random::below(24) {
            0 | 1 => steps::step_in_callback("in_trace"),
            2 if !thread::panicking() && !steps::is_tame() => steps::fail(),
            _ => {}
        }
        captured.check();
    });
    drop(greenlet::set_trace(Some(hook)));
}
