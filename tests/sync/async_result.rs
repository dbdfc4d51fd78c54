//! Values that come later.

use crate::support::Log;
use crate::{LONG, SHORT, settle};
use std::rc::Rc;
use std::time::{Duration, Instant};
use switchgrass::coroutine::scope;
use switchgrass::sync::{AsyncResult, Sharing};
use switchgrass::{JoinError, spawn};

/// {test_set, test_set_with_timeout}: everybody gets it, in the order of waiting, also later.
#[test]
fn test_set() {
    fn check<S: Sharing>(result: &AsyncResult<String, S>) {
        let log = Log::new();
        scope(|scope| {
            for number in 0..3 {
                let log = &log;
                scope.spawn(move || log.add(format!("{number} {}", result.get())));
            }
            scope.spawn(|| log.add(format!("3 {:?}", result.get_timeout(LONG))));
            settle();
            assert!(!result.is_set());
            result.set("value".into()).unwrap();
            assert!(result.is_set());
        });
        assert_eq!(log.take(), ["0 value", "1 value", "2 value", r#"3 Some("value")"#]);
        assert_eq!((result.get(), result.get()), ("value".into(), "value".into()));
        result.wait();
        assert!(result.wait_timeout(Duration::ZERO));
    }
    check(&AsyncResult::new());
    check(&AsyncResult::shared());
}

/// A second value comes back, and the first stays.
#[test]
fn a_second_value_is_refused() {
    let result = AsyncResult::new();
    assert_eq!((result.set(1), result.set(2), result.get()), (Ok(()), Err(2), 1));
    assert_eq!(result.into_inner(), Some(1));
}

/// {test_set_exc, test_get_repeated}: an outcome that is an error is one for everybody, every time.
#[test]
fn test_set_exc() {
    let result: AsyncResult<Result<u32, &str>> = AsyncResult::new();
    scope(|scope| {
        let getters = [(); 2].map(|()| scope.spawn(|| result.get()));
        settle();
        result.set(Err("failed")).unwrap();
        assert_eq!(getters.map(|getter| getter.join().unwrap()), [Err("failed"); 2]);
    });
    assert_eq!([result.get(), result.get()], [Err("failed"); 2]);
}

/// {test_nonblocking_get}
#[test]
fn test_nonblocking_get() {
    let result = AsyncResult::new();
    assert_eq!(result.try_get(), None);
    result.set(5).unwrap();
    assert_eq!(result.try_get(), Some(5));
}

/// {TestAsyncResultGet, TestAsyncResultWait}: not before its limit.
#[test]
fn test_get_timeout() {
    fn check<S: Sharing>(result: &AsyncResult<u32, S>) {
        let start = Instant::now();
        assert_eq!(result.get_timeout(SHORT), None);
        assert!(start.elapsed() >= SHORT);
        assert!(!result.wait_timeout(SHORT));
        assert!(start.elapsed() >= 2 * SHORT);
        assert_eq!(result.get_timeout(Duration::ZERO), None);
    }
    check(&AsyncResult::new());
    check(&AsyncResult::shared());
}

/// {AsLinkTarget, test_link_to_asyncresult}: a coroutine's end sets it, also if it has ended
/// before.
#[test]
fn test_link_to_asyncresult() {
    for ends_before in [false, true] {
        let result = Rc::new(AsyncResult::new());
        let ending = spawn(|| ());
        if ends_before {
            settle();
        }
        let own = Rc::clone(&result);
        ending.link_in_hub(move || own.set("ended").unwrap());
        assert!(!result.is_set());
        assert_eq!(result.get(), "ended");
    }
}

#[test]
fn one_that_is_killed_does_not_disturb_the_others() {
    fn check<S: Sharing>(result: &AsyncResult<u32, S>) {
        scope(|scope| {
            let [early, same_turn, patient] = [(); 3].map(|()| scope.spawn(|| result.get()));
            settle();
            early.coroutine().kill_wait(None);
            same_turn.coroutine().kill();
            result.set(7).unwrap();
            assert!(matches!(early.join(), Err(JoinError::Killed)));
            assert!(matches!(same_turn.join(), Err(JoinError::Killed)));
            assert_eq!(patient.join().unwrap(), 7);
        });
    }
    check(&AsyncResult::new());
    check(&AsyncResult::shared());
}

/// It needs no copies for one who waits and then takes it.
#[test]
fn a_value_that_cannot_be_cloned() {
    struct Unique(u32);
    let result = AsyncResult::new();
    scope(|scope| {
        scope.spawn(|| assert!(result.set(Unique(5)).is_ok()));
        result.wait();
    });
    assert_eq!(result.into_inner().map(|unique| unique.0), Some(5));
}
