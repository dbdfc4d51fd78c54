//! User code that an object calls: it panics, waits, uses the same object, is killed. Nobody else is harmed.

use crate::support::{Log, panic_message};
use crate::{LONG, SHORT, settle};
use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};
use switchgrass::coroutine::scope;
use switchgrass::sync::{
    AsyncResult, Mutex, PriorityQueue, PutError, Queue, RwLock, Semaphore, Shared, Sharing,
};
use switchgrass::{JoinError, sleep, spawn, yield_now};

// ---------------------------------------------------------------------------------------- Debug

/// For so long two threads do what is to be tried.
const WHILE: Duration = Duration::from_millis(100);

#[test]
fn debug_of_a_shared_mutex_disturbs_no_lock_on_another_thread() {
    let (mutex, is_over) = (Mutex::shared(0_u64), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(SeqCst) {
                let text = format!("{mutex:?}");
                assert!(text.starts_with("Mutex { data: ") && !text.contains("poisoned: true"));
            }
        });
        let start = Instant::now();
        let mut count = 0;
        while start.elapsed() < WHILE {
            let locked = catch_unwind(AssertUnwindSafe(|| *mutex.lock().unwrap() += 1));
            is_over.store(locked.is_err(), SeqCst);
            locked.unwrap();
            count += 1;
        }
        is_over.store(true, SeqCst);
        assert_eq!(*mutex.lock().unwrap(), count);
    });
}

#[test]
fn debug_of_a_shared_rwlock_disturbs_no_lock_on_another_thread() {
    let (lock, is_over) = (RwLock::shared(0_u64), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(SeqCst) {
                assert!(format!("{lock:?}").starts_with("RwLock { data: "));
            }
        });
        let start = Instant::now();
        while start.elapsed() < WHILE {
            let locked = catch_unwind(AssertUnwindSafe(|| {
                *lock.write().unwrap() += 1;
                *lock.read().unwrap()
            }));
            is_over.store(locked.is_err(), SeqCst);
            locked.unwrap();
        }
        is_over.store(true, SeqCst);
    });
}

/// Waits, or panics, when it is written.
struct Written(&'static str);

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            "waits" => sleep(SHORT),
            "panics" => panic!("written"),
            _ => {}
        }
        f.write_str(self.0)
    }
}

#[test]
fn a_debug_that_waits_keeps_others_waiting_and_no_more() {
    fn check<S: Sharing>(mutex: &Mutex<Written, S>, lock: &RwLock<Written, S>) {
        let log = Log::new();
        scope(|scope| {
            scope.spawn(|| log.add(format!("{mutex:?}")));
            scope.spawn(|| log.add(format!("{lock:?}")));
            yield_now();
            assert_eq!(format!("{mutex:?}"), "Mutex { data: <locked>, poisoned: false, .. }");
            assert_eq!(format!("{lock:?}"), "RwLock { data: waits, poisoned: false, .. }");
            drop((mutex.lock().unwrap(), lock.write().unwrap()));
        });
        let all = log.take();
        assert!(all.contains(&"Mutex { data: waits, poisoned: false, .. }".into()), "{all:?}");
        assert!(all.contains(&"RwLock { data: waits, poisoned: false, .. }".into()), "{all:?}");
    }
    check(&Mutex::new(Written("waits")), &RwLock::new(Written("waits")));
    check(&Mutex::shared(Written("waits")), &RwLock::shared(Written("waits")));
}

#[test]
fn a_debug_that_panics_or_is_killed_neither_locks_nor_poisons() {
    fn check<S: Sharing>(mutex: &Mutex<Written, S>, lock: &RwLock<Written, S>, killed: bool) {
        if killed {
            scope(|scope| {
                let writers = [
                    scope.spawn(|| drop(format!("{mutex:?}"))).coroutine(),
                    scope.spawn(|| drop(format!("{lock:?}"))).coroutine(),
                ];
                yield_now();
                assert!(switchgrass::coroutine::kill_all(writers, None));
            });
        } else {
            assert_eq!(panic_message(|| format!("{mutex:?}")), "written");
            assert_eq!(panic_message(|| format!("{lock:?}")), "written");
        }
        assert!(!mutex.is_poisoned() && !lock.is_poisoned());
        assert!(mutex.try_lock().is_ok() && lock.try_write().is_ok());
    }
    for (killed, what) in [(false, "panics"), (true, "waits")] {
        check(&Mutex::new(Written(what)), &RwLock::new(Written(what)), killed);
        check(&Mutex::shared(Written(what)), &RwLock::shared(Written(what)), killed);
    }
}

#[test]
fn debug_says_what_std_says() {
    let (mutex, lock) = (Mutex::new(5), RwLock::new(5));
    assert_eq!(format!("{mutex:?}"), format!("{:?}", std::sync::Mutex::new(5)));
    assert_eq!(format!("{lock:#?}"), format!("{:#?}", std::sync::RwLock::new(5)));
    let (locked, written) = (mutex.lock().unwrap(), lock.write().unwrap());
    assert_eq!(format!("{mutex:?}"), "Mutex { data: <locked>, poisoned: false, .. }");
    assert_eq!(format!("{lock:?}"), "RwLock { data: <locked>, poisoned: false, .. }");
    drop((locked, written));
    let poison = catch_unwind(AssertUnwindSafe(|| {
        let _guards = (mutex.lock().unwrap(), lock.write().unwrap());
        panic!("poison");
    }));
    assert!(poison.is_err());
    assert_eq!(format!("{mutex:?}"), "Mutex { data: 5, poisoned: true, .. }");
    assert_eq!(format!("{lock:?}"), "RwLock { data: 5, poisoned: true, .. }");
}

// ---------------------------------------------------------------------------------------- Clone

/// What is done when it is copied.
#[derive(Clone, Copy, PartialEq)]
enum Copying {
    Waits,
    Panics,
    UsesIt,
}

thread_local! {
    static RESULT: RefCell<Option<Rc<AsyncResult<Copied>>>> = const { RefCell::new(None) };
    static SHARED: RefCell<Option<Arc<AsyncResult<Copied, Shared>>>> = const { RefCell::new(None) };
}

struct Copied(Copying, u32);

impl Clone for Copied {
    fn clone(&self) -> Self {
        match self.0 {
            Copying::Waits => sleep(SHORT),
            Copying::Panics => panic!("copied"),
            Copying::UsesIt => {
                let local = RESULT.with_borrow(Clone::clone);
                let shared = SHARED.with_borrow(Clone::clone);
                local.iter().for_each(|result| {
                    assert!(result.is_set() && result.set(Copied(self.0, 0)).is_err())
                });
                shared
                    .iter()
                    .for_each(|result| assert!(result.is_set() && result.wait_timeout(LONG)));
            }
        }
        Copied(self.0, self.1)
    }
}

/// Neither is an innocent told that something is borrowed, nor does a thread hang.
#[test]
fn a_clone_of_a_result_that_waits_panics_or_uses_the_result_harms_nobody() {
    fn check<S: Sharing>(result: &AsyncResult<Copied, S>, copying: Copying) {
        scope(|scope| {
            let all: Vec<_> = (0..3)
                .map(|_| scope.spawn(|| result.get_timeout(LONG).map(|copied| copied.1)))
                .collect();
            settle();
            assert!(result.set(Copied(copying, 5)).is_ok());
            // While the first copies.
            yield_now();
            assert!(result.is_set() && result.wait_timeout(LONG));
            for one in all {
                match one.join() {
                    Ok(value) => assert!(copying != Copying::Panics && value == Some(5)),
                    Err(JoinError::Panicked(_)) => assert!(copying == Copying::Panics),
                    Err(error) => panic!("{error}"),
                }
            }
        });
        assert!(result.is_set());
    }
    for copying in [Copying::Waits, Copying::Panics, Copying::UsesIt] {
        let (local, shared) = (Rc::new(AsyncResult::new()), Arc::new(AsyncResult::shared()));
        RESULT.set(Some(Rc::clone(&local)));
        check(&local, copying);
        RESULT.set(None);
        SHARED.set(Some(Arc::clone(&shared)));
        check(&shared, copying);
        SHARED.set(None);
        let local = Rc::into_inner(local).expect("nobody has it").into_inner();
        assert_eq!(local.map(|copied| copied.1), Some(5));
    }
}

/// On another thread, too.
#[test]
fn a_clone_of_a_shared_result_that_waits_holds_up_no_thread() {
    let result = AsyncResult::shared();
    assert!(result.set(Copied(Copying::Waits, 5)).is_ok());
    thread::scope(|scope| {
        let others = [(); 3].map(|()| scope.spawn(|| result.get().1));
        let start = Instant::now();
        assert_eq!(result.get().1, 5);
        assert!(start.elapsed() >= SHORT);
        assert_eq!(others.map(|other| other.join().unwrap()), [5; 3]);
    });
}

// ------------------------------------------------------------------------------------------ Ord

thread_local! {
    /// What the next comparison of an item that is marked does.
    static COMPARES: Cell<Option<fn()>> = const { Cell::new(None) };
    static QUEUE: RefCell<Option<Rc<PriorityQueue<Item>>>> = const { RefCell::new(None) };
    static SHARED_QUEUE: RefCell<Option<Arc<PriorityQueue<Item, Shared>>>> = const { RefCell::new(None) };
}

/// The second is whether it is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Item(u32, bool);

impl Ord for Item {
    fn cmp(&self, other: &Self) -> Ordering {
        if self.1 || other.1 {
            COMPARES.get().into_iter().for_each(|act| act());
        }
        self.0.cmp(&other.0)
    }
}

impl PartialOrd for Item {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

fn fails() {
    panic!("compared");
}

fn drain<S: Sharing>(queue: &PriorityQueue<Item, S>) -> Vec<u32> {
    std::iter::from_fn(|| queue.try_get().ok()).map(|item| item.0).collect()
}

/// One that waits to put gets its item's panic, and those behind it go on.
#[test]
fn a_comparison_that_panics_strands_no_putter() {
    fn check<S: Sharing>(queue: &PriorityQueue<Item, S>) {
        queue.put(Item(1, false)).unwrap();
        queue.put(Item(2, false)).unwrap();
        scope(|scope| {
            let marked = scope.spawn(|| panic_message(|| queue.put(Item(3, true))));
            let behind = scope.spawn(|| queue.put_timeout(Item(4, false), LONG).is_ok());
            settle();
            COMPARES.set(Some(fails));
            assert_eq!(queue.get().unwrap().0, 1, "the getter is not to blame");
            COMPARES.set(None);
            assert_eq!(marked.join().unwrap(), "compared");
            assert!(behind.join().unwrap());
        });
        assert_eq!(drain(queue), [2, 4]);
        assert_eq!(queue.unfinished(), 3);
    }
    check(&PriorityQueue::bounded_priority(2));
    check(&PriorityQueue::shared_bounded_priority(2));
}

/// Which the heap of std does: it drops the item that it is about to give.
#[test]
fn a_comparison_that_panics_loses_no_item() {
    fn check<S: Sharing>(queue: &PriorityQueue<Item, S>) {
        (1..=8).for_each(|n| queue.put(Item(n, n > 2)).unwrap());
        for act in [fails as fn(), || sleep(SHORT), || yield_now()] {
            COMPARES.set(Some(act));
            assert!(catch_unwind(AssertUnwindSafe(|| queue.get())).is_err());
            assert!(catch_unwind(AssertUnwindSafe(|| queue.try_put(Item(0, true)))).is_err());
            COMPARES.set(None);
            assert_eq!((queue.len(), queue.unfinished()), (8, 8));
        }
        assert_eq!(drain(queue), (1..=8).collect::<Vec<_>>());
    }
    check(&PriorityQueue::priority());
    check(&PriorityQueue::shared_priority());
}

/// Two greenlets, each in a comparison that switches to main, whose comparisons would end in the order of their
/// beginnings: the queues would stay locked meanwhile, and the marks of the first be taken for the second's.
#[test]
fn a_comparison_that_switches_by_hand_is_refused_and_leaves_nothing_behind() {
    thread_local! {
        static MAIN: RefCell<Option<switchgrass::AnyWeakGreenlet>> = const { RefCell::new(None) };
        static REFUSED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    }
    fn leave() {
        let main = MAIN.with_borrow(|main| main.clone().unwrap());
        let switched = main.try_switch_any::<(), ()>(()).unwrap_err();
        let thrown = main.throw_any::<()>(Box::new("thrown")).unwrap_err();
        REFUSED.with_borrow_mut(|all| all.extend([switched.to_string(), thrown.to_string()]));
    }
    fn check<S: Sharing>(make: fn() -> PriorityQueue<Item, S>) {
        let putters = [2, 3].map(|n| {
            switchgrass::Greenlet::<(), ()>::new(move |()| {
                let queue = make();
                queue.put(Item(1, false)).unwrap();
                queue.put(Item(n, true)).unwrap();
                assert_eq!(drain(&queue), [1, n]);
            })
        });
        COMPARES.set(Some(leave));
        putters.iter().for_each(|putter| putter.switch(()));
        assert!(putters.iter().all(|putter| putter.is_dead()));
        COMPARES.set(None);
        let refused = REFUSED.take();
        assert!(refused.len() >= 4, "{refused:?}");
        for text in refused {
            assert!(text.contains("a comparison of a priority queue cannot switch to"), "{text}");
        }
        // In a comparison, those below it can be switched to.
        COMPARES.set(Some(|| assert!(switchgrass::Generator::new(|y| y.yield_(1)).eq([1]))));
        let queue = make();
        (1..=3).rev().for_each(|n| queue.put(Item(n, true)).unwrap());
        COMPARES.set(None);
        assert_eq!(drain(&queue), [1, 2, 3]);
        // Nothing is left of it: a generator may wait, and main may be switched to.
        let mut waits = switchgrass::Generator::new(|y| {
            sleep(SHORT);
            y.yield_(1);
        });
        assert_eq!(waits.next(), Some(1));
    }
    MAIN.set(Some(switchgrass::current()));
    check(PriorityQueue::priority);
    check(PriorityQueue::shared_priority);
}

/// It could neither be left nor wait: refused before its body runs.
#[test]
fn a_scope_in_a_comparison_is_refused_before_it_spawns() {
    let queue = PriorityQueue::priority();
    queue.put(Item(1, false)).unwrap();
    COMPARES.set(Some(|| scope(|_| panic!("its body was called"))));
    let said = panic_message(|| queue.put(Item(2, true)));
    COMPARES.set(None);
    assert!(said.starts_with("the end of a scope would wait in the `Ord` of an item"), "{said}");
    assert_eq!(drain(&queue), [1]);
}

/// It would suspend the thread's other coroutines from using the queue, or the other threads.
#[test]
fn a_comparison_that_waits_is_refused_by_name() {
    fn check<S: Sharing>(queue: &PriorityQueue<Item, S>) {
        queue.put(Item(5, false)).unwrap();
        let acts: [fn(); 4] = [
            || sleep(SHORT),
            || Semaphore::new(0).acquire(),
            || spawn(|| ()).join().unwrap(),
            // In another greenlet that runs for it.
            || {
                let mut body = switchgrass::Generator::new(|y| {
                    sleep(SHORT);
                    y.yield_(1);
                });
                assert_eq!(body.next(), Some(1));
            },
        ];
        let other = spawn(|| (0..50).for_each(|_| yield_now()));
        for act in acts {
            COMPARES.set(Some(act));
            let said = panic_message(|| queue.put(Item(1, true)));
            COMPARES.set(None);
            assert!(
                said.contains("the `Ord` of an item of a priority queue, which must not wait"),
                "{said}"
            );
            // And that is over with it.
            sleep(Duration::ZERO);
            assert_eq!(queue.len(), 1);
        }
        other.join().unwrap();
        assert_eq!(drain(queue), [5]);
    }
    check(&PriorityQueue::priority());
    check(&PriorityQueue::shared_priority());
}

#[test]
fn a_comparison_that_uses_its_queue_is_refused() {
    fn check<S: Sharing>(queue: &PriorityQueue<Item, S>) {
        queue.put(Item(5, false)).unwrap();
        COMPARES.set(Some(|| {
            QUEUE.with_borrow(|queue| queue.iter().for_each(|queue| assert!(!queue.is_empty())));
            SHARED_QUEUE
                .with_borrow(|queue| queue.iter().for_each(|queue| assert!(!queue.is_empty())));
        }));
        let said = panic_message(|| queue.put(Item(1, true)));
        COMPARES.set(None);
        assert!(said.contains("used by a callback"), "{said}");
        assert_eq!(drain(queue), [5]);
    }
    let (local, shared) =
        (Rc::new(PriorityQueue::priority()), Arc::new(PriorityQueue::shared_priority()));
    QUEUE.set(Some(Rc::clone(&local)));
    check(&local);
    QUEUE.set(None);
    SHARED_QUEUE.set(Some(Arc::clone(&shared)));
    check(&shared);
    SHARED_QUEUE.set(None);
}

/// Killed when it had been given an item: that goes back, although it cannot be compared.
#[test]
fn an_item_that_comes_back_and_cannot_be_compared_is_not_lost() {
    fn check<S: Sharing>(queue: &PriorityQueue<Item, S>) {
        scope(|scope| {
            let getter = scope.spawn(|| queue.get().map(|item| item.0));
            settle();
            getter.coroutine().kill();
            queue.put(Item(7, true)).unwrap();
            queue.put(Item(8, false)).unwrap();
            COMPARES.set(Some(fails));
            assert!(matches!(getter.join(), Err(JoinError::Killed)));
            COMPARES.set(None);
        });
        let mut all = drain(queue);
        all.sort();
        assert_eq!(all, [7, 8]);
    }
    check(&PriorityQueue::priority());
    check(&PriorityQueue::shared_priority());
}

#[test]
fn shutting_down_at_once_compares_nothing() {
    let queue = PriorityQueue::bounded_priority(8);
    (0..8).for_each(|n| queue.put(Item(n, true)).unwrap());
    scope(|scope| {
        let putter = scope.spawn(|| queue.put(Item(9, true)));
        settle();
        COMPARES.set(Some(fails));
        queue.shut_down_now();
        COMPARES.set(None);
        assert!(matches!(putter.join().unwrap(), Err(PutError::ShutDown(Item(9, true)))));
    });
    assert_eq!((queue.len(), queue.unfinished()), (0, 0));
}

// ----------------------------------------------------------------------------------------- Drop

/// Uses the queue that it was in, and waits.
struct Leaving(Rc<Queue<Leaving>>, Log);

impl Drop for Leaving {
    fn drop(&mut self) {
        yield_now();
        assert_eq!((self.0.len(), self.0.unfinished()), (0, 0));
        assert!(self.0.is_shut_down());
        self.1.add("dropped");
    }
}

#[test]
fn a_destructor_may_use_the_queue_that_drops_it() {
    let (queue, log) = (Rc::new(Queue::new()), Log::new());
    for _ in 0..3 {
        assert!(queue.put(Leaving(Rc::clone(&queue), log.clone())).is_ok());
    }
    queue.shut_down_now();
    assert_eq!(log.take(), ["dropped"; 3]);
    assert_eq!(Rc::strong_count(&queue), 1);
}
