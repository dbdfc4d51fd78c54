//! Channels: each waits for the other.

use crate::support::Log;
use crate::{LONG, SHORT, settle};
use std::time::{Duration, Instant};
use switchgrass::coroutine::scope;
use switchgrass::sync::{Channel, GetError, PutError, Sharing};
use switchgrass::{JoinError, sleep, timeout};

/// {TestChannel test_send}: who puts goes on when the item was taken, and not before.
#[test]
fn test_send() {
    fn check<S: Sharing>(channel: &Channel<&str, S>) {
        let log = Log::new();
        scope(|scope| {
            scope.spawn(|| {
                log.add(channel.get().unwrap());
                log.add(channel.get().unwrap());
            });
            log.add("sending");
            channel.put("hello").unwrap();
            log.add("sent hello");
            channel.put("world").unwrap();
            log.add("sent world");
        });
        assert_eq!(log.take(), ["sending", "hello", "sent hello", "world", "sent world"]);
    }
    check(&Channel::new());
    check(&Channel::shared());
}

/// {TestChannel test_wait}
#[test]
fn test_wait() {
    fn check<S: Sharing>(channel: &Channel<&str, S>) {
        let log = Log::new();
        scope(|scope| {
            scope.spawn(|| {
                log.add("sending hello");
                channel.put("hello").unwrap();
                log.add("sending world");
                channel.put("world").unwrap();
                log.add("sent world");
            });
            log.add("waiting");
            log.add(channel.get().unwrap());
            log.add(channel.get().unwrap());
            let expected = ["waiting", "sending hello", "hello", "sending world", "world"];
            assert_eq!(log.take(), expected);
        });
        assert_eq!(log.take(), ["sent world"]);
    }
    check(&Channel::new());
    check(&Channel::shared());
}

/// {TestChannel test_zero_max_size}
#[test]
fn test_zero_max_size() {
    let channel = Channel::new();
    let log = Log::new();
    scope(|scope| {
        scope.spawn(|| {
            channel.put("hi").unwrap();
            log.add("done");
        });
        settle();
        assert!(log.take().is_empty());
        assert_eq!((channel.putters(), channel.getters()), (1, 0));
        let receiver = scope.spawn(|| channel.get());
        assert_eq!(receiver.join().unwrap(), Ok("hi"));
    });
    assert_eq!(log.take(), ["done"]);
    assert_eq!((channel.putters(), channel.getters()), (0, 0));
}

/// What does not wait does only if the other one is there.
#[test]
fn try_operations() {
    fn check<S: Sharing>(channel: &Channel<u32, S>) {
        assert_eq!(channel.try_put(1), Err(PutError::Full(1)));
        assert_eq!(channel.try_get(), Err(GetError::Empty));
        scope(|scope| {
            let getter = scope.spawn(|| channel.get());
            settle();
            assert_eq!(channel.getters(), 1);
            channel.try_put(2).unwrap();
            assert_eq!(channel.try_put(3), Err(PutError::Full(3)));
            assert_eq!(getter.join().unwrap(), Ok(2));
            let putter = scope.spawn(|| channel.put(4));
            settle();
            assert_eq!(channel.try_get(), Ok(4));
            assert_eq!(channel.try_get(), Err(GetError::Empty));
            putter.join().unwrap().unwrap();
        });
    }
    check(&Channel::new());
    check(&Channel::shared());
}

/// {GetInterrupt, PutInterrupt}: limits of its own and from outside; what was not handed over comes
/// back.
#[test]
fn limits() {
    fn check<S: Sharing>(channel: &Channel<u32, S>) {
        let start = Instant::now();
        assert_eq!(channel.put_timeout(1, SHORT), Err(PutError::Full(1)));
        assert!(start.elapsed() >= SHORT);
        assert_eq!(channel.get_timeout(SHORT), Err(GetError::Empty));
        assert!(start.elapsed() >= 2 * SHORT);
        assert!(timeout(SHORT, || channel.put_timeout(2, LONG)).is_err());
        assert!(timeout(SHORT, || channel.get_timeout(LONG)).is_err());
        assert_eq!((channel.putters(), channel.getters()), (0, 0));
        assert_eq!(channel.get_timeout(Duration::ZERO), Err(GetError::Empty));
    }
    check(&Channel::new());
    check(&Channel::shared());
}

/// {8.4}: a getter that dies leaves the item to the next.
#[test]
fn two_waiters_one_dies() {
    fn check<S: Sharing>(channel: &Channel<&str, S>) {
        scope(|scope| {
            let [dying, waiting] = [(); 2].map(|()| scope.spawn(|| channel.get()));
            settle();
            dying.coroutine().kill();
            channel.put("hi").unwrap();
            assert!(matches!(dying.join(), Err(JoinError::Killed)));
            assert_eq!(waiting.join().unwrap(), Ok("hi"));
        });
        assert_eq!((channel.putters(), channel.getters()), (0, 0));
    }
    check(&Channel::new());
    check(&Channel::shared());
}

/// A putter that dies takes its item with it, and nobody else's.
#[test]
fn senders_that_die() {
    fn check<S: Sharing>(channel: &Channel<u32, S>) {
        scope(|scope| {
            let all = [1, 2, 3].map(|item| scope.spawn(move || channel.put(item)));
            settle();
            all[1].coroutine().kill_wait(None);
            assert_eq!((channel.get(), channel.get()), (Ok(1), Ok(3)));
            assert_eq!(channel.try_get(), Err(GetError::Empty));
        });
    }
    check(&Channel::new());
    check(&Channel::shared());
}

/// Items that were handed to getters that die are still got in the order in which they were put,
/// and before later ones.
#[test]
fn items_that_come_back_keep_their_places() {
    fn check<S: Sharing>(channel: &Channel<u32, S>) {
        scope(|scope| {
            let first = scope.spawn(|| channel.get());
            let kill = first.coroutine();
            scope.spawn(move || {
                sleep(SHORT);
                kill.kill();
                channel.try_put(1).unwrap();
                channel.try_put(2).unwrap();
                channel.put(3).unwrap();
            });
            let second = scope.spawn(|| timeout(2 * SHORT, || channel.get()));
            settle();
            // Both times have come when the hub looks for them: the second one is ready before the
            // first.
            std::thread::sleep(3 * SHORT);
            assert!(matches!(first.join(), Err(JoinError::Killed)));
            let second = second.join().unwrap();
            let left: Vec<_> = std::iter::from_fn(|| channel.get_timeout(SHORT).ok()).collect();
            match second {
                Err(_) => assert_eq!(left, [1, 2, 3]),
                // The machine was so slow that the hub has looked in between.
                Ok(item) => assert_eq!((item, left), (Ok(2), vec![1, 3])),
            }
        });
    }
    check(&Channel::new());
    check(&Channel::shared());
}

/// First come, first served, on both sides.
#[test]
fn both_sides_take_their_turns() {
    fn check<S: Sharing>(channel: &Channel<u32, S>) {
        scope(|scope| {
            let putters = [1, 2, 3].map(|item| scope.spawn(move || channel.put(item).unwrap()));
            settle();
            assert_eq!([(); 3].map(|()| channel.get().unwrap()), [1, 2, 3]);
            drop(putters);
            let getters = [(); 3].map(|()| scope.spawn(|| channel.get().unwrap()));
            settle();
            [4, 5, 6].into_iter().for_each(|item| channel.put(item).unwrap());
            assert_eq!(getters.map(|getter| getter.join().unwrap()), [4, 5, 6]);
        });
    }
    check(&Channel::new());
    check(&Channel::shared());
}
