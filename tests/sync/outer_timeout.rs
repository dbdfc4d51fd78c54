//! {test_outer_timeout_is_not_lost}, of each operation that has a limit of its own: a limit from
//! outside that passes first comes out as what it is; one that does not is as it was.

use crate::{LONG, SHORT};
use std::cell::{Cell, RefCell};
use std::panic::catch_unwind;
use std::rc::Rc;
use std::time::{Duration, Instant};
use switchgrass::sync::{
    AsyncResult, Barrier, BoundedSemaphore, Channel, Condvar, Event, GetError, Mutex, PutError,
    Queue, RLock, RwLock, Semaphore, Sharing, select_timeout,
};
use switchgrass::{coroutine, sleep, spawn, timeout};

/// `wait` waits for something that does not come, for at most so long, and says whether that was
/// it.
#[track_caller]
fn test_outer_timeout_is_not_lost(wait: impl Fn(Duration) -> bool) {
    // The outer one is first; and one that has begun at the same time, but before.
    for limit in [LONG, SHORT] {
        let start = Instant::now();
        let elapsed = timeout(SHORT, || wait(limit)).unwrap_err();
        assert!(start.elapsed() >= SHORT);
        assert_eq!(elapsed.limit(), SHORT);
    }
    // The middle one of three.
    let middle = timeout(LONG, || timeout(SHORT, || wait(LONG)).unwrap_err());
    assert_eq!(middle.unwrap().limit(), SHORT);
    // Its own is first, and the outer one passes later.
    let start = Instant::now();
    let outer = timeout(2 * SHORT, || {
        wait(SHORT);
        sleep(LONG);
    });
    assert!(outer.is_err() && start.elapsed() >= 2 * SHORT);
    // Its own is first, and the outer one never passes.
    assert_eq!(timeout(LONG, || wait(SHORT)), Ok(true));
    assert_eq!(timeout(LONG, || wait(Duration::ZERO)), Ok(true));
}

#[test]
fn of_join_timeout() {
    let endless = RefCell::new(spawn(|| sleep(LONG)));
    test_outer_timeout_is_not_lost(|limit| endless.borrow_mut().join_timeout(limit).is_none());
    let coroutine = endless.borrow().coroutine();
    test_outer_timeout_is_not_lost(|limit| !coroutine.wait_end(Some(limit)));
    test_outer_timeout_is_not_lost(|limit| {
        coroutine::iwait([coroutine.clone()]).limit(limit).next().is_none()
    });
}

/// The one that is killed does not end before it wants to.
#[test]
fn of_kill_wait() {
    let wants_to_end = Rc::new(Cell::new(false));
    let inside = Rc::clone(&wants_to_end);
    let stubborn = spawn(move || {
        while !inside.get() {
            let _ = catch_unwind(|| sleep(LONG));
        }
    });
    switchgrass::yield_now();
    test_outer_timeout_is_not_lost(|limit| !stubborn.kill_wait(Some(limit)));
    let coroutine = stubborn.coroutine();
    test_outer_timeout_is_not_lost(|limit| !coroutine::kill_all([coroutine.clone()], Some(limit)));
    wants_to_end.set(true);
    assert!(stubborn.kill_wait(None));
}

#[test]
fn of_event() {
    fn check<S: Sharing>(event: &Event<S>) {
        test_outer_timeout_is_not_lost(|limit| !event.wait_timeout(limit));
    }
    check(&Event::new());
    check(&Event::shared());
}

#[test]
fn of_async_result() {
    fn check<S: Sharing>(result: &AsyncResult<u32, S>) {
        test_outer_timeout_is_not_lost(|limit| result.get_timeout(limit).is_none());
        test_outer_timeout_is_not_lost(|limit| !result.wait_timeout(limit));
    }
    check(&AsyncResult::new());
    check(&AsyncResult::shared());
}

#[test]
fn of_queue_get() {
    fn check<S: Sharing>(queue: &Queue<u32, S>) {
        test_outer_timeout_is_not_lost(|limit| queue.get_timeout(limit) == Err(GetError::Empty));
    }
    check(&Queue::new());
    check(&Queue::shared());
}

#[test]
fn of_queue_put() {
    fn check<S: Sharing>(queue: &Queue<u32, S>) {
        queue.put(1).unwrap();
        test_outer_timeout_is_not_lost(|limit| {
            queue.put_timeout(2, limit) == Err(PutError::Full(2))
        });
        assert_eq!((queue.get(), queue.len()), (Ok(1), 0));
    }
    check(&Queue::bounded(1));
    check(&Queue::shared_bounded(1));
}

#[test]
fn of_queue_join() {
    fn check<S: Sharing>(queue: &Queue<u32, S>) {
        queue.put(1).unwrap();
        test_outer_timeout_is_not_lost(|limit| !queue.join_timeout(limit));
    }
    check(&Queue::new());
    check(&Queue::shared());
}

#[test]
fn of_channel() {
    fn check<S: Sharing>(channel: &Channel<u32, S>) {
        test_outer_timeout_is_not_lost(|limit| channel.get_timeout(limit) == Err(GetError::Empty));
        test_outer_timeout_is_not_lost(|limit| {
            channel.put_timeout(1, limit) == Err(PutError::Full(1))
        });
    }
    check(&Channel::new());
    check(&Channel::shared());
}

#[test]
fn of_semaphore() {
    fn check<S: Sharing>(semaphore: &Semaphore<S>, bounded: &BoundedSemaphore<S>) {
        test_outer_timeout_is_not_lost(|limit| !semaphore.acquire_timeout(limit));
        test_outer_timeout_is_not_lost(|limit| !bounded.acquire_timeout(limit));
        assert_eq!((semaphore.waiting(), semaphore.permits()), (0, 0));
    }
    check(&Semaphore::new(0), &BoundedSemaphore::new(0));
    check(&Semaphore::shared(0), &BoundedSemaphore::shared(0));
}

/// A coroutine holds it.
#[test]
fn of_locks() {
    fn check<S: Sharing>(mutex: &Mutex<(), S>, lock: &RLock<S>, rwlock: &RwLock<(), S>) {
        coroutine::scope(|scope| {
            let holder = scope.spawn(|| {
                let _guards = (mutex.lock(), lock.lock(), rwlock.read());
                sleep(LONG);
            });
            switchgrass::yield_now();
            test_outer_timeout_is_not_lost(|limit| mutex.lock_timeout(limit).is_err());
            test_outer_timeout_is_not_lost(|limit| lock.lock_timeout(limit).is_none());
            test_outer_timeout_is_not_lost(|limit| rwlock.write_timeout(limit).is_err());
            holder.coroutine().kill_wait(None);
            let writer = scope.spawn(|| {
                let _guard = rwlock.write();
                sleep(LONG);
            });
            switchgrass::yield_now();
            test_outer_timeout_is_not_lost(|limit| rwlock.read_timeout(limit).is_err());
            writer.coroutine().kill_wait(None);
        });
        drop((lock.try_lock().unwrap(), mutex.try_lock().unwrap_err()));
    }
    check(&Mutex::new(()), &RLock::new(), &RwLock::new(()));
    check(&Mutex::shared(()), &RLock::shared(), &RwLock::shared(()));
}

#[test]
fn of_condvar() {
    fn check<S: Sharing>(mutex: &Mutex<(), S>, condvar: &Condvar<S>) {
        test_outer_timeout_is_not_lost(|limit| {
            condvar.wait_timeout(mutex.lock().unwrap(), limit).unwrap().1.timed_out()
        });
        drop(mutex.try_lock().unwrap());
    }
    check(&Mutex::new(()), &Condvar::new());
    check(&Mutex::shared(()), &Condvar::shared());
}

#[test]
fn of_barrier() {
    fn check<S: Sharing>(barrier: &Barrier<S>) {
        test_outer_timeout_is_not_lost(|limit| {
            barrier.reset();
            barrier.wait_timeout(limit).is_err()
        });
        assert!(barrier.is_broken());
    }
    check(&Barrier::new(2));
    check(&Barrier::shared(2));
}

#[test]
fn of_select() {
    let (event, queue) = (Event::new(), Queue::<u32, _>::shared());
    test_outer_timeout_is_not_lost(|limit| select_timeout(&[&event, &queue], limit).is_none());
    test_outer_timeout_is_not_lost(|limit| select_timeout(&[], limit).is_none());
}

/// Also of what has no limit of its own.
#[test]
fn of_what_has_none() {
    let (event, result, queue) = (Event::new(), AsyncResult::<u32>::new(), Queue::<u32>::new());
    let (semaphore, channel, barrier) = (Semaphore::new(0), Channel::new(), Barrier::new(2));
    let mutex = Mutex::new(());
    let condvar = Condvar::new();
    queue.put(1).unwrap();
    let waits: [&dyn Fn(); 8] = [
        &|| event.wait(),
        &|| assert_eq!(result.get(), 1),
        &|| queue.join(),
        &|| semaphore.acquire(),
        &|| channel.put(1).unwrap(),
        &|| {
            let _ = channel.get();
        },
        &|| {
            let _ = barrier.wait();
        },
        &|| drop(condvar.wait(mutex.lock().unwrap())),
    ];
    for wait in waits {
        let start = Instant::now();
        assert!(timeout(LONG, || timeout(SHORT, wait)).unwrap().is_err());
        assert!(start.elapsed() >= SHORT);
    }
}
