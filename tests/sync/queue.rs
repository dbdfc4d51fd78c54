//! Queues.

use crate::support::{Log, panic_message};
use crate::{LONG, SHORT, settle};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::{Duration, Instant};
use switchgrass::coroutine::scope;
use switchgrass::sync::{
    AsyncResult, GetError, LifoQueue, Order, PriorityQueue, PutError, Queue, Sharing,
};
use switchgrass::{JoinError, sleep, spawn, timeout};

/// Everything that is in.
fn drain<T, S: Sharing, O: Order<T>>(queue: &Queue<T, S, O>) -> Vec<T> {
    std::iter::from_fn(|| queue.try_get().ok()).collect()
}

/// {simple_queue_test}: of each order, filled to the brim and emptied.
#[test]
fn simple_queue_test() {
    fn check<S: Sharing, O: Order<u32>>(queue: &Queue<u32, S, O>, expected: [u32; 3]) {
        assert!(queue.is_empty() && !queue.is_full());
        queue.put(111).unwrap();
        queue.put(333).unwrap();
        assert!(!queue.is_empty() && !queue.is_full());
        queue.put(222).unwrap();
        assert!(queue.is_full());
        assert_eq!(queue.try_put(4), Err(PutError::Full(4)));
        let start = Instant::now();
        assert_eq!(queue.put_timeout(5, SHORT), Err(PutError::Full(5)));
        assert!(start.elapsed() >= SHORT);
        assert_eq!(queue.len(), 3);
        assert_eq!([(); 3].map(|()| queue.get().unwrap()), expected);
        assert_eq!(queue.try_get(), Err(GetError::Empty));
        let start = Instant::now();
        assert_eq!(queue.get_timeout(SHORT), Err(GetError::Empty));
        assert!(start.elapsed() >= SHORT);
        assert!(queue.is_empty());
    }
    check(&Queue::bounded(3), [111, 333, 222]);
    check(&Queue::shared_bounded(3), [111, 333, 222]);
    check(&LifoQueue::bounded_lifo(3), [222, 333, 111]);
    check(&LifoQueue::shared_bounded_lifo(3), [222, 333, 111]);
    check(&PriorityQueue::bounded_priority(3), [111, 222, 333]);
    check(&PriorityQueue::shared_bounded_priority(3), [111, 222, 333]);
}

#[test]
fn a_queue_for_nothing_is_refused() {
    let message = panic_message(|| Queue::<u32>::bounded(0));
    assert!(message.contains("use a `Channel`"), "{message}");
}

/// {test_send_first}
#[test]
fn test_send_first() {
    let queue = Queue::new();
    queue.put("hi").unwrap();
    assert_eq!(queue.get(), Ok("hi"));
}

/// {test_send_last}
#[test]
fn test_send_last() {
    let queue = Queue::new();
    scope(|scope| {
        let waiter = scope.spawn(|| timeout(LONG, || queue.get()));
        settle();
        queue.put("hi2").unwrap();
        assert_eq!(waiter.join().unwrap(), Ok(Ok("hi2")));
    });
}

/// {test_max_size}: who puts waits while it is full.
#[test]
fn test_max_size() {
    fn check<S: Sharing>(queue: &Queue<&str, S>) {
        let log = Log::new();
        scope(|scope| {
            let putter = scope.spawn(|| {
                for item in ["a", "b", "c"] {
                    queue.put(item).unwrap();
                    log.add(item);
                }
                "OK"
            });
            settle();
            assert_eq!(log.take(), ["a", "b"]);
            assert_eq!(queue.get(), Ok("a"));
            settle();
            assert_eq!(log.take(), ["c"]);
            assert_eq!((queue.get(), queue.get()), (Ok("b"), Ok("c")));
            assert_eq!(putter.join().unwrap(), "OK");
        });
    }
    check(&Queue::bounded(2));
    check(&Queue::shared_bounded(2));
}

/// {test_multiple_waiters}: each gets one, in the order of waiting.
#[test]
fn test_multiple_waiters() {
    fn check<S: Sharing>(queue: &Queue<u32, S>) {
        let results = [(); 4].map(|()| AsyncResult::new());
        scope(|scope| {
            for result in &results {
                scope.spawn(|| result.set(queue.get().unwrap()).unwrap());
            }
            settle();
            let got = || {
                settle();
                results.iter().filter_map(AsyncResult::try_get).collect::<Vec<_>>()
            };
            queue.put(1).unwrap();
            assert_eq!(got(), [1]);
            queue.put(2).unwrap();
            assert_eq!(got(), [1, 2]);
            queue.put(3).unwrap();
            queue.put(4).unwrap();
            assert_eq!(got(), [1, 2, 3, 4]);
        });
    }
    check(&Queue::new());
    check(&Queue::shared());
}

/// {test_waiters_that_cancel}
#[test]
fn test_waiters_that_cancel() {
    fn check<S: Sharing>(queue: &Queue<&str, S>) {
        scope(|scope| {
            let cancels = scope.spawn(|| timeout(Duration::ZERO, || queue.get()).is_err());
            assert!(cancels.join().unwrap());
            queue.put("hi").unwrap();
            assert_eq!(queue.get(), Ok("hi"));
        });
    }
    check(&Queue::new());
    check(&Queue::shared());
}

/// {test_senders_that_die}: what they have put stays.
#[test]
fn test_senders_that_die() {
    let queue = Rc::new(Queue::new());
    let inside = Rc::clone(&queue);
    spawn(move || inside.put("sent").unwrap());
    assert_eq!(queue.get(), Ok("sent"));
}

/// {test_two_waiters_one_dies}
#[test]
fn test_two_waiters_one_dies() {
    fn check<S: Sharing>(queue: &Queue<&str, S>) {
        scope(|scope| {
            let [dying, waiting] = [(); 2].map(|()| scope.spawn(|| queue.get()));
            settle();
            dying.coroutine().kill();
            queue.put("hi").unwrap();
            assert!(matches!(dying.join(), Err(JoinError::Killed)));
            assert_eq!(waiting.join().unwrap(), Ok("hi"));
        });
        assert!(queue.is_empty());
    }
    check(&Queue::new());
    check(&Queue::shared());
    check(&Queue::bounded(1));
}

/// {test_two_bogus_waiters}: both give up, and what comes then is still there.
#[test]
fn test_two_bogus_waiters() {
    fn check<S: Sharing>(queue: &Queue<&str, S>) {
        scope(|scope| {
            let bogus =
                [(); 2].map(|()| scope.spawn(|| timeout(Duration::ZERO, || queue.get()).is_err()));
            let bogus = bogus.map(|one| one.join().unwrap());
            assert_eq!(bogus, [true, true]);
            queue.put("sent").unwrap();
            assert_eq!(queue.get(), Ok("sent"));
        });
    }
    check(&Queue::new());
    check(&Queue::shared());
}

/// {FailingQueueTest}: a putter that is killed, or whose limit passes, puts nothing, and the queue
/// goes on as before.
#[test]
fn a_putter_that_fails() {
    fn check<S: Sharing>(queue: &Queue<u32, S>) {
        queue.put(1).unwrap();
        scope(|scope| {
            let killed = scope.spawn(|| queue.put(2));
            let late = scope.spawn(|| queue.put_timeout(3, SHORT));
            let patient = scope.spawn(|| queue.put(4));
            settle();
            killed.coroutine().kill_wait(None);
            assert_eq!(late.join().unwrap(), Err(PutError::Full(3)));
            assert_eq!(queue.get(), Ok(1));
            patient.join().unwrap().unwrap();
        });
        assert_eq!(drain(queue), [4]);
        assert_eq!(queue.unfinished(), 2);
    }
    check(&Queue::bounded(1));
    check(&Queue::shared_bounded(1));
}

/// The item of a killed putter is dropped, once; that of one that was let in stays.
#[test]
fn items_of_killed_putters() {
    let log = Log::new();
    let queue = Queue::bounded(1);
    queue.put(log.guard("first")).unwrap();
    scope(|scope| {
        let [early, let_in] = ["early", "let in"]
            .map(|name| (log.guard(name), &queue))
            .map(|(item, queue)| scope.spawn(move || queue.put(item).unwrap()));
        settle();
        early.coroutine().kill_wait(None);
        assert_eq!(log.take(), ["early"]);
        let_in.coroutine().kill();
        drop(queue.get());
        assert!(matches!(let_in.join(), Err(JoinError::Killed)));
        assert_eq!((log.take(), queue.len()), (vec!["first".to_string()], 1));
    });
    drop(queue);
    assert_eq!(log.take(), ["let in"]);
}

/// {8.6}: items of those that wait to put enter in the order of waiting, before those of later
/// ones.
#[test]
fn items_of_waiting_putters_enter_in_order() {
    fn check<S: Sharing>(queue: &Queue<u32, S>) {
        queue.put(0).unwrap();
        scope(|scope| {
            let all: Vec<_> =
                (1..6).map(|item| scope.spawn(move || queue.put(item).unwrap())).collect();
            settle();
            all[1].coroutine().kill();
            let mut got = vec![queue.get().unwrap()];
            // There is no room: it went to the first that waits, who has not even run.
            assert_eq!(queue.try_put(9), Err(PutError::Full(9)));
            settle();
            got.extend((0..4).map(|_| queue.get().unwrap()));
            assert_eq!(got, [0, 1, 3, 4, 5]);
        });
        assert!(queue.is_empty());
    }
    check(&Queue::bounded(1));
    check(&Queue::shared_bounded(1));
}

/// Of the other orders: they enter in the order of waiting, and come out as the order says.
#[test]
fn waiting_putters_of_other_orders() {
    fn put_and_get<O: Order<u32>>(queue: &Queue<u32, switchgrass::sync::Local, O>) -> Vec<u32> {
        scope(|scope| {
            for item in [5, 3, 4, 1, 2] {
                scope.spawn(move || queue.put(item).unwrap());
            }
            settle();
            (0..5).map(|_| queue.get().unwrap()).collect()
        })
    }
    assert_eq!(put_and_get(&LifoQueue::bounded_lifo(2)), [3, 4, 1, 2, 5]);
    assert_eq!(put_and_get(&PriorityQueue::bounded_priority(2)), [3, 4, 1, 2, 5]);
}

/// {8.6}: FIFO for those that wait to get, also when one of them gives up.
#[test]
fn getters_take_their_turns() {
    fn check<S: Sharing>(queue: &Queue<u32, S>) {
        scope(|scope| {
            let all: Vec<_> = (0..4).map(|_| scope.spawn(|| queue.get())).collect();
            settle();
            all[2].coroutine().kill();
            settle();
            (10..13).for_each(|item| queue.put(item).unwrap());
            let got: Vec<_> = all.into_iter().map(|one| one.join().ok()).collect();
            assert_eq!(got, [Some(Ok(10)), Some(Ok(11)), None, Some(Ok(12))]);
        });
    }
    check(&Queue::new());
    check(&Queue::shared());
}

/// A runnable consumer takes what is there, whoever was woken.
#[test]
fn what_is_there_is_taken_at_once() {
    let queue = Queue::new();
    scope(|scope| {
        let waiting = scope.spawn(|| queue.get());
        settle();
        queue.put(1).unwrap();
        queue.put(2).unwrap();
        assert_eq!(queue.get(), Ok(2), "the first one is on its way");
        assert_eq!(waiting.join().unwrap(), Ok(1));
    });
}

/// {8.4}: an item that was handed to one that is killed is the next to be got: it was put before
/// those that are in.
#[test]
fn an_item_that_comes_back_keeps_its_place() {
    fn check<S: Sharing>(queue: &Queue<u32, S>) {
        scope(|scope| {
            let dying = [(); 3].map(|()| scope.spawn(|| queue.get()));
            settle();
            dying.iter().rev().for_each(|one| one.coroutine().kill());
            (1..=5).for_each(|item| queue.put(item).unwrap());
            settle();
            assert_eq!(drain(queue), [1, 2, 3, 4, 5]);
        });
        assert_eq!(queue.unfinished(), 5);
    }
    check(&Queue::new());
    check(&Queue::shared());
}

/// Also if they come back in another order than they were handed over: the limit of the second one
/// passes before it is given its item, so that it is ready before the first.
#[test]
fn items_that_come_back_in_another_order_keep_theirs() {
    fn check<S: Sharing>(queue: &Queue<u32, S>) {
        scope(|scope| {
            let first = scope.spawn(|| queue.get());
            let kill = first.coroutine();
            scope.spawn(move || {
                sleep(SHORT);
                kill.kill();
                (1..=3).for_each(|item| queue.put(item).unwrap());
            });
            let second = scope.spawn(|| timeout(2 * SHORT, || queue.get()));
            settle();
            // Both times have come when the hub looks for them.
            std::thread::sleep(3 * SHORT);
            assert!(matches!(first.join(), Err(JoinError::Killed)));
            match second.join().unwrap() {
                Err(_) => assert_eq!(drain(queue), [1, 2, 3]),
                // The machine was so slow that the hub has looked in between.
                Ok(item) => assert_eq!((item, drain(queue)), (Ok(2), vec![1, 3])),
            }
        });
    }
    check(&Queue::new());
    check(&Queue::shared());
}

/// A bounded one to which an item came back may be too full for a while, but lets nobody in
/// meanwhile.
#[test]
fn one_that_is_too_full_lets_nobody_in() {
    fn check<S: Sharing>(queue: &Queue<u32, S>) {
        scope(|scope| {
            let dying = scope.spawn(|| queue.get());
            settle();
            dying.coroutine().kill();
            queue.put(1).unwrap();
            queue.put(2).unwrap();
            assert_eq!(queue.try_put(3), Err(PutError::Full(3)));
            scope.spawn(|| queue.put(4).unwrap());
            scope.spawn(|| queue.put(5).unwrap());
            settle();
            let mut lengths = vec![queue.len()];
            let mut got = Vec::new();
            while let Ok(item) = queue.try_get() {
                got.push(item);
                lengths.push(queue.len());
            }
            assert_eq!(got, [1, 2, 4, 5]);
            assert_eq!(lengths, [2, 1, 1, 1, 0]);
        });
    }
    check(&Queue::bounded(1));
    check(&Queue::shared_bounded(1));
}

/// {8.6}: what does not wait does not switch.
#[test]
fn what_need_not_wait_does_not_switch() {
    let queue = Queue::bounded(1);
    scope(|scope| {
        let other = scope.spawn(|| ());
        queue.put(1).unwrap();
        queue.try_put(2).unwrap_err();
        queue.get().unwrap();
        queue.try_get().unwrap_err();
        queue.put_timeout(3, LONG).unwrap();
        queue.get_timeout(LONG).unwrap();
        queue.task_done().unwrap();
        queue.task_done().unwrap();
        queue.join();
        assert!(!other.coroutine().is_finished());
    });
}

/// {test_put_nowait_unlock, test_get_nowait_unlock}: in the hub, where nothing may wait, the
/// operations that do not wait work, and let those go on that do.
#[test]
fn test_nowait_unlock() {
    let queue = Rc::new(Queue::bounded(1));
    type Callback = Box<dyn FnOnce(&Queue<u32>)>;
    let in_hub = |f: Callback| {
        let inside = Rc::clone(&queue);
        spawn(|| ()).link_in_hub(move || f(&inside));
    };
    in_hub(Box::new(|queue| {
        assert_eq!(queue.try_get(), Err(GetError::Empty));
        queue.try_put(5).unwrap();
    }));
    assert_eq!(queue.get(), Ok(5));
    queue.put(6).unwrap();
    in_hub(Box::new(|queue| assert_eq!(queue.try_get(), Ok(6))));
    queue.put(7).unwrap();
    assert_eq!(queue.get(), Ok(7));
}

/// {test_task_done}
#[test]
fn test_task_done() {
    fn check<S: Sharing>(queue: &Queue<u32, S>) {
        assert_eq!(queue.unfinished(), 0);
        let error = queue.task_done().unwrap_err();
        assert_eq!(error.to_string(), "task_done was called more often than items were put");
        queue.put(1).unwrap();
        assert_eq!(queue.unfinished(), 1);
        assert!(!queue.join_timeout(Duration::ZERO));
        queue.get().unwrap();
        assert_eq!(queue.unfinished(), 1);
        queue.task_done().unwrap();
        queue.join();
        assert!(queue.join_timeout(Duration::ZERO));
        queue.task_done().unwrap_err();
    }
    check(&Queue::new());
    check(&Queue::shared());
}

/// {test_queue_join}: workers get what is put; join waits until all is done with, twice.
#[test]
fn test_queue_join() {
    fn check<S: Sharing>(queue: &Queue<u32, S>) {
        let sum = Cell::new(0);
        scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for item in queue {
                        settle();
                        sum.set(sum.get() + item);
                        queue.task_done().unwrap();
                    }
                });
            }
            for round in 1..=2 {
                (0..100).for_each(|item| queue.put(item).unwrap());
                queue.join();
                assert_eq!(sum.get(), round * 4950);
            }
            queue.shut_down();
        });
    }
    check(&Queue::new());
    check(&Queue::shared());
    check(&Queue::bounded(3));
}

/// {test_issue_45}: several that join go on together, when the last item is done with, and not
/// before.
#[test]
fn several_that_join() {
    let queue = Queue::new();
    queue.put(1).unwrap();
    queue.put(2).unwrap();
    let log = Log::new();
    scope(|scope| {
        for name in ["a", "b"] {
            let (log, queue) = (&log, &queue);
            scope.spawn(move || {
                queue.join();
                log.add(name);
            });
        }
        let dying = scope.spawn(|| queue.join());
        settle();
        dying.coroutine().kill();
        let start = Instant::now();
        assert!(!queue.join_timeout(SHORT));
        assert!(start.elapsed() >= SHORT);
        queue.task_done().unwrap();
        settle();
        assert!(log.take().is_empty());
        queue.task_done().unwrap();
    });
    assert_eq!(log.take(), ["a", "b"]);
}

/// {test_shutdown}: what is in can be got; then there is nothing, for those that wait and those
/// that come.
#[test]
fn test_shutdown() {
    fn check<S: Sharing>(queue: &Queue<u32, S>) {
        queue.put(1).unwrap();
        queue.put(2).unwrap();
        scope(|scope| {
            let putters = [3, 4].map(|item| scope.spawn(move || queue.put(item)));
            settle();
            queue.shut_down();
            assert!(queue.is_shut_down());
            assert_eq!(queue.try_put(5), Err(PutError::ShutDown(5)));
            assert_eq!(queue.put(6), Err(PutError::ShutDown(6)));
            assert_eq!(queue.put_timeout(7, LONG), Err(PutError::ShutDown(7)));
            let refused = putters.map(|putter| putter.join().unwrap());
            assert_eq!(refused, [3, 4].map(|item| Err(PutError::ShutDown(item))));
            assert_eq!((queue.get(), queue.try_get()), (Ok(1), Ok(2)));
            assert_eq!((queue.get(), queue.try_get()), (Err(GetError::ShutDown), queue.get()));
            assert_eq!(queue.get_timeout(LONG), Err(GetError::ShutDown));
        });
        assert_eq!(queue.unfinished(), 2);
        queue.task_done().unwrap();
        queue.task_done().unwrap();
        queue.join();
        queue.shut_down();
    }
    check(&Queue::bounded(2));
    check(&Queue::shared_bounded(2));
}

/// Those that wait to get are told that there will be nothing.
#[test]
fn shutdown_wakes_getters() {
    fn check<S: Sharing>(queue: &Queue<u32, S>, now: bool) {
        scope(|scope| {
            let getters = [(); 3].map(|()| scope.spawn(|| queue.get()));
            settle();
            queue.put(1).unwrap();
            if now {
                queue.shut_down_now()
            } else {
                queue.shut_down()
            }
            let none = Err(GetError::ShutDown);
            // The first one's item was handed over before.
            assert_eq!(getters.map(|getter| getter.join().unwrap()), [Ok(1), none, none]);
        });
    }
    check(&Queue::new(), false);
    check(&Queue::new(), true);
    check(&Queue::shared(), false);
    check(&Queue::shared(), true);
}

/// {test_shutdown_immediate}: what is in is dropped, and done with.
#[test]
fn test_shutdown_immediate() {
    fn check<S: Sharing>(queue: &Queue<crate::support::Guard, S>, log: &Log) {
        for name in ["1", "2"] {
            queue.put(log.guard(name)).unwrap();
        }
        scope(|scope| {
            let joiner = scope.spawn(|| queue.join());
            let putter = scope.spawn(|| queue.put(log.guard("3")));
            settle();
            queue.shut_down_now();
            assert_eq!(log.take(), ["1", "2"]);
            joiner.join().unwrap();
            assert!(matches!(putter.join().unwrap(), Err(PutError::ShutDown(_))));
            assert!(matches!(queue.get(), Err(GetError::ShutDown)));
        });
        assert_eq!(log.take(), ["3"]);
        queue.task_done().unwrap_err();
    }
    let log = Log::new();
    check(&Queue::bounded(2), &log);
    check(&Queue::shared_bounded(2), &log);
}

/// An item that has been got is still to be said to be done with, also after `shut_down_now`.
#[test]
fn shutdown_immediate_with_an_item_in_work() {
    let queue = Queue::new();
    queue.put(1).unwrap();
    queue.put(2).unwrap();
    queue.get().unwrap();
    queue.shut_down_now();
    assert!(!queue.join_timeout(SHORT));
    queue.task_done().unwrap();
    queue.join();
}

/// Handed over before `shut_down_now`, to one that is killed: nobody is to get it, or to wait for
/// it.
#[test]
fn an_item_that_comes_back_after_shutdown_immediate() {
    fn check<S: Sharing>(queue: &Queue<u32, S>) {
        scope(|scope| {
            let dying = scope.spawn(|| queue.get());
            settle();
            dying.coroutine().kill();
            queue.put(1).unwrap();
            queue.shut_down_now();
            assert!(matches!(dying.join(), Err(JoinError::Killed)));
        });
        assert_eq!(queue.get(), Err(GetError::ShutDown));
        assert!(queue.join_timeout(SHORT));
    }
    check(&Queue::new());
    check(&Queue::shared());
}

/// {test_iterable}: until it is shut down.
#[test]
fn test_iterable() {
    let queue = Queue::new();
    scope(|scope| {
        scope.spawn(|| {
            (0..3).for_each(|item| queue.put(item).unwrap());
            queue.shut_down();
        });
        assert_eq!(queue.collect::<Vec<_>>(), [0, 1, 2]);
    });
}

/// {TestGetInterrupt, TestPutInterrupt}: a limit from outside ends both, and nothing is lost.
#[test]
fn test_get_and_put_interrupt() {
    fn check<S: Sharing>(queue: &Queue<u32, S>) {
        assert!(timeout(SHORT, || queue.get()).is_err());
        assert!(timeout(SHORT, || queue.get_timeout(LONG)).is_err());
        queue.put(1).unwrap();
        assert!(timeout(SHORT, || queue.put(2)).is_err());
        assert!(timeout(SHORT, || queue.put_timeout(3, LONG)).is_err());
        assert_eq!(drain(queue), [1]);
    }
    check(&Queue::bounded(1));
    check(&Queue::shared_bounded(1));
}

/// Many producers and consumers, each item once.
#[test]
fn producers_and_consumers() {
    fn check<S: Sharing>(queue: &Queue<u32, S>) {
        let mut got = BTreeSet::new();
        scope(|scope| {
            let producers: Vec<_> = (0..10)
                .map(|number| {
                    scope.spawn(move || {
                        (0..100).for_each(|item| queue.put(number * 100 + item).unwrap());
                    })
                })
                .collect();
            let consumers: Vec<_> =
                (0..7).map(|_| scope.spawn(|| queue.collect::<Vec<_>>())).collect();
            producers.into_iter().for_each(|producer| producer.join().unwrap());
            queue.shut_down();
            for consumer in consumers {
                for item in consumer.join().unwrap() {
                    assert!(got.insert(item), "{item} came twice");
                }
            }
        });
        assert_eq!(got.len(), 1000);
    }
    check(&Queue::new());
    check(&Queue::bounded(3));
    check(&Queue::shared_bounded(1));
}

/// The second would end the process, if the queue dropped them all together.
#[test]
fn items_whose_destructors_panic_are_all_dropped_when_a_queue_is_shut_down() {
    struct Fails(std::rc::Rc<std::cell::Cell<u32>>);
    impl Drop for Fails {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
            panic!("dropped {}", self.0.get());
        }
    }
    let dropped = std::rc::Rc::default();
    let queue = switchgrass::sync::Queue::new();
    (0..3).for_each(|_| drop(queue.put(Fails(std::rc::Rc::clone(&dropped)))));
    let said = crate::support::panic_message(|| queue.shut_down_now());
    assert_eq!((said.as_str(), dropped.get(), queue.len()), ("dropped 1", 3, 0));
}
