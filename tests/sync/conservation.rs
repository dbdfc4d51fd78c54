//! Nothing is lost and nothing is doubled, whoever is killed or times out around a hand-over,
//! before it, in its turn, or after it: random sequences of steps, with an account of every item
//! and permit.

use crate::settle;
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;
use switchgrass::coroutine::Coroutine;
use switchgrass::sync::{Channel, GetError, Mutex, PutError, Queue, Semaphore, Sharing};
use switchgrass::{JoinHandle, spawn, timeout, yield_now};

/// What main does, one after the other.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Spawns one that takes: for as long as it takes, with a limit of its own, or within one from
    /// outside.
    Take(Limit),
    /// Spawns one that gives, in the same three ways.
    Give(Limit),
    /// Gives, without waiting.
    TryGive,
    /// Takes, without waiting.
    TryTake,
    /// Kills one of those that were spawned.
    Kill(prop::sample::Index),
    /// Lets everybody run once.
    Turn,
    /// Lets all limits pass, unseen by those that wait.
    Time,
}

#[derive(Clone, Copy, Debug)]
enum Limit {
    None,
    Own,
    Outer,
}

const LIMIT: Duration = Duration::from_micros(50);

fn limit(with_limits: bool) -> impl Strategy<Value = Limit> {
    let limits = if with_limits { 1 } else { 0 };
    prop_oneof![3 => Just(Limit::None), limits => Just(Limit::Own), limits => Just(Limit::Outer)]
}

fn steps(with_limits: bool) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => limit(with_limits).prop_map(Step::Take),
        3 => limit(with_limits).prop_map(Step::Give),
        3 => Just(Step::TryGive),
        1 => Just(Step::TryTake),
        3 => any::<prop::sample::Index>().prop_map(Step::Kill),
        3 => Just(Step::Turn),
        u32::from(with_limits) => Just(Step::Time),
    ];
    prop::collection::vec(step, 1..40)
}

/// Runs `f` in one of the three ways; `own` has a limit itself. `None` if the one from outside has
/// passed.
fn within<T>(limit: Limit, f: impl FnOnce() -> T, own: impl FnOnce() -> T) -> Option<T> {
    match limit {
        Limit::None => Some(f()),
        Limit::Own => Some(own()),
        Limit::Outer => timeout(LIMIT, f).ok(),
    }
}

/// What items are put into and got from.
trait Items: 'static {
    fn put(&self, item: u32, limit: Limit) -> bool;
    fn get(&self, limit: Limit) -> Option<u32>;
    fn try_put(&self, item: u32) -> bool;
    fn try_get(&self) -> Option<u32>;
}

macro_rules! items {
    ($($kind:ident)*) => {$(
        impl<S: Sharing> Items for $kind<u32, S> {
            fn put(&self, item: u32, limit: Limit) -> bool {
                let put = || self.put(item);
                match within(limit, put, || self.put_timeout(item, LIMIT)) {
                    Some(Ok(())) => true,
                    Some(Err(PutError::Full(back))) => {
                        assert_eq!(back, item);
                        false
                    }
                    Some(Err(PutError::ShutDown(_))) => unreachable!("nobody does that"),
                    None => false,
                }
            }

            fn get(&self, limit: Limit) -> Option<u32> {
                match within(limit, || self.get(), || self.get_timeout(LIMIT))? {
                    Ok(item) => Some(item),
                    Err(GetError::Empty) => None,
                    Err(GetError::ShutDown) => unreachable!("nobody does that"),
                }
            }

            fn try_put(&self, item: u32) -> bool {
                self.try_put(item).is_ok()
            }

            fn try_get(&self) -> Option<u32> {
                self.try_get().ok()
            }
        }
    )*};
}

items!(Queue Channel);

/// Those that were spawned, to be killed.
#[derive(Default)]
struct Crowd(Vec<JoinHandle<()>>);

impl Crowd {
    fn spawn(&mut self, body: impl FnOnce() + 'static) {
        self.0.push(spawn(body));
    }

    fn kill(&self, index: prop::sample::Index) {
        if !self.0.is_empty() {
            index.get(&self.0).kill();
        }
    }

    /// Kills all that are left.
    fn end(self) {
        let all: Vec<Coroutine> = self.0.iter().map(|handle| handle.coroutine()).collect();
        assert!(switchgrass::coroutine::kill_all(all, None));
    }
}

fn let_limits_pass() {
    std::thread::sleep(2 * LIMIT);
}

/// What has become of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Its putter has not come back: it may be in or not.
    Open,
    /// It is in, or was.
    In,
    /// It never was.
    Refused,
}

/// Items: each that was put comes out once, and each that was refused never does; what is left at
/// the end comes out in the order in which it went in.
fn items_are_conserved(items: impl Items, steps: &[Step]) {
    let items = Rc::new(items);
    let fates: Rc<RefCell<Vec<Fate>>> = Rc::default();
    let got: Rc<RefCell<Vec<u32>>> = Rc::default();
    let mut crowd = Crowd::default();
    // Of the items that were put without waiting, which is in this order.
    let mut at_once = Vec::new();
    let new = |fate| {
        fates.borrow_mut().push(fate);
        u32::try_from(fates.borrow().len() - 1).unwrap()
    };
    for step in steps {
        match *step {
            Step::Take(limit) => {
                let (items, got) = (Rc::clone(&items), Rc::clone(&got));
                crowd.spawn(move || {
                    let item = items.get(limit);
                    got.borrow_mut().extend(item);
                });
            }
            Step::Give(limit) => {
                let (items, fates, item) = (Rc::clone(&items), Rc::clone(&fates), new(Fate::Open));
                crowd.spawn(move || {
                    let is_in = items.put(item, limit);
                    // One from outside may pass when it is in already.
                    if is_in || !matches!(limit, Limit::Outer) {
                        let fate = if is_in { Fate::In } else { Fate::Refused };
                        fates.borrow_mut()[item as usize] = fate;
                    }
                });
            }
            Step::TryGive => {
                let item = new(Fate::Open);
                let is_in = items.try_put(item);
                fates.borrow_mut()[item as usize] = if is_in { Fate::In } else { Fate::Refused };
                at_once.extend(is_in.then_some(item));
            }
            Step::TryTake => got.borrow_mut().extend(items.try_get()),
            Step::Kill(index) => crowd.kill(index),
            Step::Turn => yield_now(),
            Step::Time => let_limits_pass(),
        }
    }
    settle();
    // First those that wait: an item that comes back is then in.
    crowd.end();
    let left: Vec<u32> = std::iter::from_fn(|| items.try_get()).collect();
    let places = left.iter().filter_map(|item| at_once.iter().position(|other| other == item));
    assert!(places.is_sorted(), "left: {left:?}, put at once: {at_once:?}");
    let mut count = BTreeMap::new();
    for item in got.borrow().iter().chain(&left) {
        *count.entry(*item).or_insert(0) += 1;
    }
    for (item, fate) in fates.borrow().iter().enumerate() {
        let count = count.remove(&(item as u32)).unwrap_or(0);
        match fate {
            Fate::In => assert_eq!(count, 1, "item {item} was put once"),
            Fate::Refused => assert_eq!(count, 0, "item {item} was refused"),
            Fate::Open => assert!(count <= 1, "item {item} came {count} times"),
        }
    }
    assert!(count.is_empty(), "from nowhere: {count:?}");
}

/// Permits: as many are there in the end as were released and not acquired.
fn permits_are_conserved<S: Sharing>(semaphore: Semaphore<S>, steps: &[Step]) {
    let semaphore = Rc::new(semaphore);
    let balance = Rc::new(Cell::new(semaphore.permits()));
    let mut crowd = Crowd::default();
    for step in steps {
        match *step {
            Step::Take(limit) => {
                let (semaphore, balance) = (Rc::clone(&semaphore), Rc::clone(&balance));
                crowd.spawn(move || {
                    let acquire = || {
                        semaphore.acquire();
                        true
                    };
                    let has = within(limit, acquire, || semaphore.acquire_timeout(LIMIT));
                    balance.set(balance.get() - usize::from(has == Some(true)));
                });
            }
            Step::Give(_) | Step::TryGive => {
                semaphore.release();
                balance.set(balance.get() + 1);
            }
            Step::TryTake => balance.set(balance.get() - usize::from(semaphore.try_acquire())),
            Step::Kill(index) => crowd.kill(index),
            Step::Turn => yield_now(),
            Step::Time => let_limits_pass(),
        }
        let is_waited_for = semaphore.waiting() > 0;
        assert!(!is_waited_for || semaphore.permits() == 0, "a permit, and somebody who waits");
    }
    settle();
    crowd.end();
    assert_eq!((semaphore.permits(), semaphore.waiting()), (balance.get(), 0));
}

/// A lock: one at a time has it, and in the end nobody. Those that have it keep it over switches,
/// and are killed there, too.
fn a_lock_is_conserved<S: Sharing>(mutex: Mutex<(), S>, steps: &[Step]) {
    struct Inside<'a>(&'a Cell<u32>);
    impl Drop for Inside<'_> {
        fn drop(&mut self) {
            self.0.set(self.0.get() - 1);
        }
    }
    fn enter(inside: &Cell<u32>) -> Inside<'_> {
        assert_eq!(inside.replace(inside.get() + 1), 0, "one at a time");
        Inside(inside)
    }
    let mutex = Rc::new(mutex);
    let inside = Rc::new(Cell::new(0));
    let mut crowd = Crowd::default();
    for step in steps {
        match *step {
            Step::Take(limit) | Step::Give(limit) => {
                let (mutex, inside) = (Rc::clone(&mutex), Rc::clone(&inside));
                crowd.spawn(move || {
                    let hold = |_guard| {
                        let _inside = enter(&inside);
                        yield_now();
                    };
                    within(
                        limit,
                        || hold(Some(mutex.lock().unwrap_or_else(|poison| poison.into_inner()))),
                        || match mutex.lock_timeout(LIMIT) {
                            Ok(guard) => hold(Some(guard)),
                            Err(std::sync::TryLockError::Poisoned(poison)) => {
                                hold(Some(poison.into_inner()));
                            }
                            Err(std::sync::TryLockError::WouldBlock) => {}
                        },
                    );
                });
            }
            Step::TryGive | Step::TryTake => match mutex.try_lock() {
                Err(std::sync::TryLockError::WouldBlock) => {}
                _guard => drop(enter(&inside)),
            },
            Step::Kill(index) => crowd.kill(index),
            Step::Turn => yield_now(),
            Step::Time => let_limits_pass(),
        }
    }
    settle();
    crowd.end();
    let is_free = !matches!(mutex.try_lock(), Err(std::sync::TryLockError::WouldBlock));
    assert!(is_free, "nobody is left who could have it");
    assert_eq!(inside.get(), 0);
}

/// One that waits to get, in the model.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Getter {
    /// It has not run, or waits.
    Waiting,
    /// It was given an item, and has not run since.
    Has(u32),
    Got(u32),
    Dead,
}

/// Whose turn it is, in the model.
enum Turn {
    Run(usize),
    Kill(usize),
}

/// What an unbounded queue does exactly, when getters wait in line, items are put without waiting,
/// and getters are killed: who gets which item, and what is left in which order.
fn getters_are_served_in_order<S: Sharing>(queue: Queue<u32, S>, steps: &[Step]) {
    const GETTERS: usize = 5;
    let queue = Rc::new(queue);
    let got: Rc<RefCell<Vec<Option<u32>>>> = Rc::new(RefCell::new(vec![None; GETTERS]));
    let mut crowd = Crowd::default();
    for number in 0..GETTERS {
        let (queue, got) = (Rc::clone(&queue), Rc::clone(&got));
        crowd.spawn(move || {
            let item = queue.get().unwrap();
            got.borrow_mut()[number] = Some(item);
        });
    }
    yield_now();
    let mut getters = [Getter::Waiting; GETTERS];
    let mut line: VecDeque<usize> = (0..GETTERS).collect();
    let (mut turns, mut killed) = (VecDeque::new(), [false; GETTERS]);
    let (mut items, mut next) = (VecDeque::new(), 0);
    for step in steps {
        match *step {
            Step::TryGive | Step::Give(_) => {
                queue.put(next).unwrap();
                match line.pop_front() {
                    Some(first) => {
                        getters[first] = Getter::Has(next);
                        turns.push_back(Turn::Run(first));
                    }
                    None => items.push_back(next),
                }
                next += 1;
            }
            Step::TryTake => assert_eq!(queue.try_get().ok(), items.pop_front()),
            Step::Kill(index) => {
                let number = index.index(GETTERS);
                crowd.0[number].kill();
                turns.push_back(Turn::Kill(number));
            }
            Step::Turn => {
                yield_now();
                // All that were in the queue when main went there; those that these add come after
                // main.
                for _ in 0..turns.len() {
                    let turn = turns.pop_front().unwrap();
                    let (Turn::Run(number) | Turn::Kill(number)) = turn;
                    match (turn, getters[number]) {
                        (Turn::Kill(_), Getter::Waiting) => {
                            getters[number] = Getter::Dead;
                            line.retain(|other| *other != number);
                        }
                        (Turn::Kill(_), Getter::Has(_)) => killed[number] = true,
                        (Turn::Run(_), Getter::Has(item)) if killed[number] => {
                            getters[number] = Getter::Dead;
                            match line.pop_front() {
                                Some(first) => {
                                    getters[first] = Getter::Has(item);
                                    turns.push_back(Turn::Run(first));
                                }
                                None => {
                                    items.push_back(item);
                                    items.make_contiguous().sort_unstable();
                                }
                            }
                        }
                        (Turn::Run(_), Getter::Has(item)) => getters[number] = Getter::Got(item),
                        (_, Getter::Dead | Getter::Got(_)) => {}
                        (Turn::Run(_), Getter::Waiting) => unreachable!("it was given nothing"),
                    }
                }
                let expected = getters.map(|getter| match getter {
                    Getter::Got(item) => Some(item),
                    _ => None,
                });
                assert_eq!(*got.borrow(), expected);
                assert_eq!(queue.len(), items.len());
            }
            Step::Take(_) | Step::Time => {}
        }
    }
    crowd.end();
}

/// The same for a bounded queue with putters in line, some of which are killed before their turn
/// comes: items of those that are left enter in their order.
fn putters_enter_in_order<S: Sharing>(queue: Queue<u32, S>, steps: &[Step]) {
    const PUTTERS: u32 = 6;
    queue.put(0).unwrap();
    let queue = Rc::new(queue);
    let mut crowd = Crowd::default();
    for item in 1..=PUTTERS {
        let queue = Rc::clone(&queue);
        crowd.spawn(move || queue.put(item).unwrap());
    }
    yield_now();
    let mut line: VecDeque<u32> = (1..=PUTTERS).collect();
    let (mut inside, mut kills) = (VecDeque::from([0]), Vec::new());
    for step in steps {
        match *step {
            Step::TryTake | Step::Take(_) => {
                assert_eq!(queue.try_get().ok(), inside.pop_front());
                inside.extend(if inside.is_empty() { line.pop_front() } else { None });
            }
            Step::Kill(index) => {
                let number = index.index(PUTTERS as usize);
                crowd.0[number].kill();
                kills.push(number as u32 + 1);
            }
            Step::Turn => {
                yield_now();
                line.retain(|item| !kills.contains(item));
                kills.clear();
            }
            Step::TryGive => assert_eq!(queue.try_put(100).is_err(), !inside.is_empty()),
            Step::Give(_) | Step::Time => {}
        }
        if queue.len() > inside.len() {
            // What the step above has put.
            inside.push_back(100);
        }
        assert_eq!(queue.len(), inside.len());
    }
    crowd.end();
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 150,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn of_an_unbounded_queue(steps in steps(true)) {
        items_are_conserved(Queue::new(), &steps);
        items_are_conserved(Queue::shared(), &steps);
    }

    #[test]
    fn of_a_bounded_queue(limit in 1_usize..4, steps in steps(true)) {
        items_are_conserved(Queue::bounded(limit), &steps);
        items_are_conserved(Queue::shared_bounded(limit), &steps);
    }

    #[test]
    fn of_a_channel(steps in steps(true)) {
        items_are_conserved(Channel::new(), &steps);
        items_are_conserved(Channel::shared(), &steps);
    }

    #[test]
    fn of_a_semaphore(permits in 0_usize..3, steps in steps(true)) {
        permits_are_conserved(Semaphore::new(permits), &steps);
        permits_are_conserved(Semaphore::shared(permits), &steps);
    }

    #[test]
    fn of_a_mutex(steps in steps(true)) {
        a_lock_is_conserved(Mutex::new(()), &steps);
        a_lock_is_conserved(Mutex::shared(()), &steps);
    }

    #[test]
    fn order_of_getters(steps in steps(false)) {
        getters_are_served_in_order(Queue::new(), &steps);
        getters_are_served_in_order(Queue::shared(), &steps);
    }

    #[test]
    fn order_of_putters(steps in steps(false)) {
        putters_enter_in_order(Queue::bounded(1), &steps);
        putters_enter_in_order(Queue::shared_bounded(1), &steps);
    }
}
