//! `SharedArray`: what processes see of each other, and what becomes of the lock when they end.

use crate::support::{Gate, exit_now, fork, wait_to_be_killed};
use std::cell::RefCell;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};
use switchgrass::coroutine::join_all;
use switchgrass::process::{SharedArray, SharedGuard};
use switchgrass::{JoinError, spawn, timeout, yield_now};

crate::tests! {
    values_are_seen_both_ways,
    structures_are_shared,
    every_size_of_elements,
    increments_of_four_processes_add_up,
    increments_of_coroutines_and_threads_and_processes_add_up,
    one_killed_with_the_lock_leaves_it_to_the_others_who_are_told,
    one_killed_with_the_lock_leaves_it_to_who_waits_already,
    one_that_exits_with_the_lock_leaves_it,
    one_that_is_stopped_keeps_it,
    one_that_executes_a_program_leaves_it,
    a_child_that_locks_and_forks_and_ends_leaves_it,
    one_killed_while_it_waits_leaves_nothing_behind,
    others_run_while_a_coroutine_waits,
    others_run_while_another_process_has_it,
    who_unlocks_wakes_who_waits,
    nobody_is_called_who_does_not_wait,
    one_who_locks_again_at_once_does_not_keep_others_out,
    a_kill_while_waiting_leaves_it_usable,
    a_timeout_while_waiting_leaves_it_usable,
    lock_timeout_is_not_early,
    try_lock_says_how_it_is,
    bounds_are_named,
    no_elements,
    too_many_elements,
    a_large_array,
    threads_exclude_each_other,
    a_guard_is_dropped_by_another_thread,
    a_copy_of_a_guard_is_worth_nothing,
    a_cell_that_was_lent_is_none_the_worse_in_a_child,
    a_lock_held_at_the_fork_is_not_the_childs,
    a_forgotten_guard_keeps_it_until_the_process_ends,
    panics_and_kills_poison,
    unwinding_of_others_does_not_poison,
    without_descriptors_it_is_waited_for_all_the_same,
    the_last_handle_gives_descriptors_and_memory_back,
}

/// Whether it is poisoned; the guard in any case.
fn entered<T: bytemuck::Pod>(array: &SharedArray<T>) -> (SharedGuard<T>, bool) {
    match array.lock() {
        Ok(guard) => (guard, false),
        Err(poisoned) => (poisoned.into_inner(), true),
    }
}

fn is_held<T: bytemuck::Pod>(array: &SharedArray<T>) -> bool {
    matches!(array.try_lock(), Err(TryLockError::WouldBlock))
}

fn message(result: thread::Result<()>) -> String {
    *result.expect_err("it panics").downcast::<String>().expect("a formatted message")
}

fn values_are_seen_both_ways() {
    let array = SharedArray::from_slice(&[1_u64, 2, 3]).unwrap();
    let (asked, answered) = (Gate::new(), Gate::new());
    let child = fork(|| {
        assert_eq!(array.lock().unwrap().to_vec(), [1, 2, 3]);
        array.set(1, 20);
        answered.open();
        asked.pass();
        assert_eq!(array.get(2), Some(30));
        array.lock().unwrap().iter().for_each(|element| element.update(|value| value + 1));
    });
    answered.pass();
    assert_eq!(array.lock().unwrap().to_vec(), [1, 20, 3]);
    array.set(2, 30);
    asked.open();
    child.succeeds();
    assert_eq!(array.lock().unwrap().to_vec(), [2, 21, 31]);
}

#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
struct Point {
    x: f64,
    y: f64,
    label: [u8; 8],
}

// SAFETY: three fields of plain types, which leave no room between them and are a value whatever they hold.
unsafe impl bytemuck::Zeroable for Point {}
// SAFETY: as above; `repr(C)`.
unsafe impl bytemuck::Pod for Point {}

fn structures_are_shared() {
    let array = SharedArray::<Point>::new(2).unwrap();
    let point = Point { x: 1.5, y: -0.5, label: *b"a corner" };
    fork(|| array.set(1, point)).succeeds();
    assert_eq!(array.get(0), Some(Point { x: 0.0, y: 0.0, label: [0; 8] }));
    assert_eq!(array.get(1), Some(point));
}

fn every_size_of_elements() {
    fn check<T: bytemuck::Pod + PartialEq + std::fmt::Debug>(values: [T; 3]) {
        let array = SharedArray::from_slice(&values).unwrap();
        fork(|| {
            let elements = array.lock().unwrap();
            assert_eq!(elements.to_vec(), values);
            let first = elements[0].replace(elements[2].get());
            elements[2].set(first);
        })
        .succeeds();
        assert_eq!(array.lock().unwrap().to_vec(), [values[2], values[1], values[0]]);
    }
    check([1_u8, 2, 255]);
    check([-1_i16, 2, 3]);
    check([1.5_f32, -2.5, 0.0]);
    check([u64::MAX, 1, 2]);
    check([u128::MAX, 1, 2]);
    check([[1_u8; 3], [2; 3], [3; 3]]);
    check([[1_u16; 5], [2; 5], [3; 5]]);
    check([[1_u32; 3], [2; 3], [3; 3]]);
    check([[1_i64; 7], [2; 7], [3; 7]]);
}

fn increments_of_four_processes_add_up() {
    const ROUNDS: u64 = 10_000;
    let array = SharedArray::<u64>::new(2).unwrap();
    let add = || {
        for _ in 0..ROUNDS {
            let elements = array.lock().unwrap();
            let before = elements[0].get();
            elements[1].update(|value| value + 1);
            elements[0].set(before + 1);
        }
    };
    let children: Vec<_> = (0..4).map(|_| fork(add)).collect();
    children.into_iter().for_each(|child| child.succeeds());
    assert_eq!(array.lock().unwrap().to_vec(), [4 * ROUNDS; 2]);
}

/// Each holds it over a switch, so that there is always somebody who waits.
fn increments_of_coroutines_and_threads_and_processes_add_up() {
    const ROUNDS: u64 = 200;
    let array = SharedArray::<u64>::new(1).unwrap();
    let add = |array: SharedArray<u64>| {
        for _ in 0..ROUNDS {
            let elements = array.lock().unwrap();
            let before = elements[0].get();
            yield_now();
            elements[0].set(before + 1);
        }
    };
    let of_coroutines = move |array: SharedArray<u64>| {
        let all = (0..3).map(|_| {
            let array = array.clone();
            spawn(move || add(array))
        });
        join_all(all.collect::<Vec<_>>()).into_iter().for_each(|result| result.unwrap());
    };
    let of_threads = |array: &SharedArray<u64>| {
        let threads = [(); 2].map(|()| {
            let array = array.clone();
            thread::spawn(move || of_coroutines(array))
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    };
    let children = [(); 2].map(|()| fork(|| of_threads(&array)));
    of_threads(&array);
    children.into_iter().for_each(|child| child.succeeds());
    assert_eq!(array.get(0), Some(3 * 2 * 3 * ROUNDS));
}

fn one_killed_with_the_lock_leaves_it_to_the_others_who_are_told() {
    let array = SharedArray::from_slice(&[50, 50]).unwrap();
    let is_half_done = Gate::new();
    let child = fork(|| {
        let both = array.lock().unwrap();
        both[0].set(20);
        is_half_done.open();
        wait_to_be_killed();
    });
    is_half_done.pass();
    assert!(is_held(&array));
    assert!(!array.is_poisoned());
    child.dies_when_killed();
    // Another process is told, and does nothing about it.
    fork(|| {
        let (both, is_poisoned) = entered(&array);
        assert!(is_poisoned);
        assert_eq!(both.to_vec(), [20, 50]);
    })
    .succeeds();
    assert!(array.is_poisoned());
    // So is this one.
    assert!(matches!(array.try_lock(), Err(TryLockError::Poisoned(_))));
    let late = array.lock_timeout(Duration::from_secs(10));
    assert!(matches!(late, Err(TryLockError::Poisoned(_))));
    drop(late);
    let message = message(catch_unwind(AssertUnwindSafe(|| array.set(0, 1))));
    assert!(message.contains("clear_poison()"), "{message}");
    let (both, is_poisoned) = entered(&array);
    assert!(is_poisoned);
    both[1].set(80);
    array.clear_poison();
    drop(both);
    fork(|| assert_eq!(array.lock().unwrap().to_vec(), [20, 80])).succeeds();
}

/// A waiter in another process, one in this, and nobody who would wake them.
fn one_killed_with_the_lock_leaves_it_to_who_waits_already() {
    let array = SharedArray::<u32>::new(1).unwrap();
    let is_locked = Gate::new();
    let holder = fork(|| {
        let _elements = array.lock().unwrap();
        is_locked.open();
        wait_to_be_killed();
    });
    is_locked.pass();
    let waiter = fork(|| {
        let (elements, is_poisoned) = entered(&array);
        assert!(is_poisoned);
        elements[0].update(|value| value + 1);
    });
    waiter.sleeps();
    let own = array.clone();
    let own = spawn(move || {
        let (elements, is_poisoned) = entered(&own);
        elements[0].update(|value| value + 1);
        is_poisoned
    });
    spawn(move || holder.kill());
    assert!(own.join().unwrap());
    waiter.succeeds();
    assert_eq!(entered(&array).0[0].get(), 2);
}

fn one_that_exits_with_the_lock_leaves_it() {
    let array = SharedArray::<u32>::new(1).unwrap();
    let child = fork(|| {
        let _elements = array.lock().unwrap();
        exit_now(3);
    });
    assert_eq!(child.wait().code(), Some(3));
    assert!(entered(&array).1);
}

fn one_that_is_stopped_keeps_it() {
    let array = SharedArray::<u32>::new(1).unwrap();
    let is_locked = Gate::new();
    let child = fork(|| {
        let elements = array.lock().unwrap();
        is_locked.open();
        // SAFETY: no preconditions.
        unsafe { libc::raise(libc::SIGSTOP) };
        elements[0].set(1);
    });
    is_locked.pass();
    let limit = Duration::from_millis(200);
    assert!(matches!(array.lock_timeout(limit), Err(TryLockError::WouldBlock)));
    child.continues();
    assert_eq!(array.lock().unwrap()[0].get(), 1);
    child.succeeds();
}

/// The memory is gone there, and so is whoever could unlock it.
fn one_that_executes_a_program_leaves_it() {
    let array = SharedArray::<u32>::new(1).unwrap();
    let is_locked = Gate::new();
    let child = fork(|| {
        let _elements = array.lock().unwrap();
        is_locked.open();
        let name = c"sleep".as_ptr();
        // SAFETY: a list of strings that ends with null.
        unsafe { libc::execlp(name, name, c"100".as_ptr(), std::ptr::null::<libc::c_char>()) };
        exit_now(1);
    });
    is_locked.pass();
    assert!(entered(&array).1);
    child.dies_when_killed();
}

/// The grandchild has copies of everything, and lives on.
fn a_child_that_locks_and_forks_and_ends_leaves_it() {
    let array = SharedArray::<u32>::new(1).unwrap();
    let (is_forked, may_end) = (Gate::new(), Gate::new());
    let child = fork(|| {
        let _elements = array.lock().unwrap();
        // Not by `fork`: the grandchild is not to end with the child.
        // SAFETY: there is no other thread.
        if unsafe { libc::fork() } == 0 {
            // SAFETY: no preconditions.
            unsafe { libc::alarm(crate::LIMIT) };
            let is_refused = is_held(&array);
            is_forked.open();
            may_end.pass();
            let (elements, is_poisoned) = entered(&array);
            elements[0].set(if is_refused && is_poisoned { 1 } else { 2 });
            is_forked.open();
            exit_now(0);
        }
        is_forked.pass();
        exit_now(0);
    });
    child.succeeds();
    assert!(entered(&array).1);
    may_end.open();
    is_forked.pass();
    // The grandchild may not have unlocked it yet, or ended with it: it is poisoned anyway.
    assert_eq!(entered(&array).0[0].get(), 1);
}

fn one_killed_while_it_waits_leaves_nothing_behind() {
    let array = SharedArray::<u32>::new(1).unwrap();
    let (is_locked, may_unlock) = (Gate::new(), Gate::new());
    let holder = fork(|| {
        let elements = array.lock().unwrap();
        is_locked.open();
        may_unlock.pass();
        elements[0].set(1);
    });
    is_locked.pass();
    let waiters = [(); 3].map(|()| fork(|| drop(array.lock())));
    waiters.iter().for_each(|waiter| waiter.sleeps());
    waiters.into_iter().for_each(|waiter| waiter.dies_when_killed());
    may_unlock.open();
    assert_eq!(array.lock().unwrap()[0].get(), 1);
    holder.succeeds();
    let elements = array.try_lock().unwrap();
    elements[0].set(2);
}

fn others_run_while_a_coroutine_waits() {
    let array = SharedArray::<u32>::new(1).unwrap();
    let log = Rc::new(RefCell::new(Vec::new()));
    let say = |what| {
        let log = Rc::clone(&log);
        move || log.borrow_mut().push(what)
    };
    let (own, locks, unlocks) = (array.clone(), say("the first locks"), say("the first unlocks"));
    let first = spawn(move || {
        let elements = own.lock().unwrap();
        locks();
        yield_now();
        yield_now();
        elements[0].set(1);
        unlocks();
    });
    let (own, wants, has) = (array.clone(), say("the second wants it"), say("the second has it"));
    let second = spawn(move || {
        wants();
        assert_eq!(own.lock().unwrap()[0].get(), 1);
        has();
    });
    let runs = say("the third runs");
    let third = spawn(move || {
        runs();
        yield_now();
        runs();
    });
    for result in join_all([first, second, third]) {
        result.unwrap();
    }
    let expected = [
        "the first locks",
        "the second wants it",
        "the third runs",
        "the third runs",
        "the first unlocks",
        "the second has it",
    ];
    assert_eq!(*log.borrow(), expected);
}

fn others_run_while_another_process_has_it() {
    let array = SharedArray::<u32>::new(1).unwrap();
    let (is_locked, may_unlock) = (Gate::new(), Rc::new(Gate::new()));
    let holder = fork(|| {
        let elements = array.lock().unwrap();
        is_locked.open();
        may_unlock.pass();
        elements[0].set(7);
    });
    is_locked.pass();
    let log = Rc::new(RefCell::new(Vec::new()));
    let (own, said) = (array.clone(), Rc::clone(&log));
    let waiter = spawn(move || {
        said.borrow_mut().push("wants it");
        let elements = own.lock().unwrap();
        said.borrow_mut().push("has it");
        elements[0].get()
    });
    let said = Rc::clone(&log);
    let other = spawn(move || {
        for _ in 0..3 {
            said.borrow_mut().push("another runs");
            yield_now();
        }
        may_unlock.open();
    });
    assert_eq!(waiter.join().unwrap(), 7);
    other.join().unwrap();
    let expected = ["wants it", "another runs", "another runs", "another runs", "has it"];
    assert_eq!(*log.borrow(), expected);
    holder.succeeds();
}

/// Who waits looks again after 5 ms by itself. So if it has the lock before another has slept for 4 ms, it was
/// woken. This machine may be too slow for that, once or twice.
fn who_unlocks_wakes_who_waits() {
    let array = SharedArray::<u32>::new(1).unwrap();
    let (may_lock, is_locked, may_unlock) = (Gate::new(), Gate::new(), Rc::new(Gate::new()));
    let holder = fork(|| {
        loop {
            may_lock.pass();
            let _elements = array.lock().unwrap();
            is_locked.open();
            may_unlock.pass();
        }
    });
    let comes_first = |unlock: Box<dyn FnOnce()>| {
        let log = Rc::new(RefCell::new(Vec::new()));
        let (own, said) = (array.clone(), Rc::clone(&log));
        let waiter = spawn(move || {
            let _elements = own.lock().unwrap();
            said.borrow_mut().push("has it");
        });
        let said = Rc::clone(&log);
        let sleeper = spawn(move || {
            switchgrass::sleep(Duration::from_millis(4));
            said.borrow_mut().push("has slept");
        });
        for result in join_all([waiter, sleeper, spawn(unlock)]) {
            result.unwrap();
        }
        log.borrow()[0] == "has it"
    };
    assert!((0..200).any(|_| {
        may_lock.open();
        is_locked.pass();
        let may_unlock = Rc::clone(&may_unlock);
        comes_first(Box::new(move || may_unlock.open()))
    }));
    holder.dies_when_killed();
    assert!((0..200).any(|_| {
        let elements = array.lock().unwrap();
        comes_first(Box::new(move || drop(elements)))
    }));
}

/// How often the signal was raised, as the kernel says. The only other one is the hub's, which nobody raises.
fn nobody_is_called_who_does_not_wait() {
    let array = SharedArray::<u32>::new(1).unwrap();
    let calls = || {
        let all = std::fs::read_dir("/proc/self/fdinfo").unwrap();
        let all = all.filter_map(|entry| std::fs::read_to_string(entry.unwrap().path()).ok());
        let counts: Vec<u64> = all
            .filter_map(|info| {
                let count = info.lines().find_map(|line| line.strip_prefix("eventfd-count:"))?;
                Some(u64::from_str_radix(count.trim(), 16).expect("a hexadecimal number"))
            })
            .collect();
        assert!(counts.len() <= 2, "{counts:?}");
        counts.iter().sum::<u64>()
    };
    let unlock = || drop(array.try_lock().unwrap());
    unlock();
    unlock();
    assert_eq!(calls(), 0);
    let elements = array.try_lock().unwrap();
    let waiter = fork(|| array.set(0, 1));
    waiter.sleeps();
    drop(elements);
    waiter.succeeds();
    assert_eq!(calls(), 1);
    unlock();
    assert_eq!(calls(), 1);
    // For one that is dead: once.
    let elements = array.try_lock().unwrap();
    let waiter = fork(|| array.set(0, 2));
    waiter.sleeps();
    waiter.dies_when_killed();
    drop(elements);
    assert_eq!(calls(), 2);
    unlock();
    assert_eq!(calls(), 2);
    assert_eq!(array.try_lock().unwrap()[0].get(), 1);
}

/// A coroutine that has it whenever others look, and a process likewise: these would wait for ever.
fn one_who_locks_again_at_once_does_not_keep_others_out() {
    let array = SharedArray::<u32>::new(2).unwrap();
    let hold_on = |array: SharedArray<u32>| {
        loop {
            let elements = array.lock().unwrap();
            if elements[0].get() == 2 {
                break;
            }
            elements[1].update(|value| value + 1);
            switchgrass::sleep(Duration::from_millis(2));
        }
    };
    let child = fork(|| hold_on(array.clone()));
    let own = array.clone();
    let greedy = spawn(move || hold_on(own));
    let modest = [(); 2].map(|()| {
        let own = array.clone();
        spawn(move || own.lock().unwrap()[0].update(|value| value + 1))
    });
    for result in join_all(modest) {
        result.unwrap();
    }
    greedy.join().unwrap();
    child.succeeds();
}

fn a_kill_while_waiting_leaves_it_usable() {
    let array = SharedArray::<u32>::new(1).unwrap();
    let elements = array.lock().unwrap();
    let own = array.clone();
    let waiter = spawn(move || own.set(0, 1));
    yield_now();
    waiter.kill();
    assert!(matches!(waiter.join(), Err(JoinError::Killed)));
    drop(elements);
    assert!(!array.is_poisoned());
    assert_eq!(array.try_lock().unwrap()[0].get(), 0);
    let own = array.clone();
    spawn(move || own.set(0, 2)).join().unwrap();
    assert_eq!(array.get(0), Some(2));
}

fn a_timeout_while_waiting_leaves_it_usable() {
    let array = SharedArray::<u32>::new(1).unwrap();
    let is_locked = Gate::new();
    let holder = fork(|| {
        let _elements = array.lock().unwrap();
        is_locked.open();
        wait_to_be_killed();
    });
    is_locked.pass();
    let limit = Duration::from_millis(30);
    assert!(timeout(limit, || array.set(0, 1)).is_err());
    holder.dies_when_killed();
    let (elements, is_poisoned) = entered(&array);
    assert!(is_poisoned);
    assert_eq!(elements[0].get(), 0);
}

fn lock_timeout_is_not_early() {
    let array = SharedArray::<u32>::new(1).unwrap();
    let elements = array.lock().unwrap();
    for limit in [0, 3, 30, 130].map(Duration::from_millis) {
        let start = Instant::now();
        let result = array.lock_timeout(limit);
        assert!(matches!(result, Err(TryLockError::WouldBlock)));
        assert!(start.elapsed() >= limit, "{:?} of {limit:?}", start.elapsed());
    }
    // And in time.
    let own = array.clone();
    let waiter = spawn(move || own.lock_timeout(Duration::from_secs(50)).is_ok());
    yield_now();
    drop(elements);
    assert!(waiter.join().unwrap());
    assert!(array.lock_timeout(Duration::ZERO).is_ok());
    assert!(array.lock_timeout(Duration::MAX).is_ok());
}

fn try_lock_says_how_it_is() {
    let array = SharedArray::<u32>::new(1).unwrap();
    let elements = array.try_lock().unwrap();
    assert!(is_held(&array));
    assert!(thread::scope(|scope| scope.spawn(|| is_held(&array)).join().unwrap()));
    fork(|| assert!(is_held(&array))).succeeds();
    drop(elements);
    fork(|| assert!(!is_held(&array))).succeeds();
    assert!(!is_held(&array));
}

fn bounds_are_named() {
    let array = SharedArray::from_slice(&[1, 2, 3]).unwrap();
    assert_eq!(array.get(2), Some(3));
    assert_eq!([array.get(3), array.get(usize::MAX)], [None, None]);
    let says = |result, parts: [&str; 2]| {
        let message = message(result);
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    };
    says(catch_unwind(AssertUnwindSafe(|| array.set(3, 4))), ["3 elements", "index is 3"]);
    let elements = array.lock().unwrap();
    says(catch_unwind(AssertUnwindSafe(|| elements[5].set(4))), ["len is 3", "index is 5"]);
    says(
        catch_unwind(AssertUnwindSafe(|| elements.copy_from_slice(&[4]))),
        ["3 elements", "slice has 1"],
    );
    assert_eq!(elements.to_vec(), [1, 2, 3]);
    drop(elements);
    assert!(!array.is_poisoned());
}

fn no_elements() {
    let array = SharedArray::<u64>::new(0).unwrap();
    assert!(array.is_empty());
    assert_eq!((array.len(), array.get(0)), (0, None));
    let elements = array.lock().unwrap();
    assert!(elements.is_empty());
    elements.copy_from_slice(&[]);
    // It is a lock, for all that.
    fork(|| assert!(is_held(&array))).succeeds();
    assert!(message(catch_unwind(AssertUnwindSafe(|| array.set(0, 1)))).contains("0 elements"));
}

fn too_many_elements() {
    for len in [usize::MAX, usize::MAX / 8, usize::MAX / 16, 1 << 55] {
        let error = SharedArray::<u64>::new(len).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::OutOfMemory);
        assert!(error.to_string().contains(&format!("{len} elements of 8 bytes")), "{error}");
    }
}

fn a_large_array() {
    const LEN: usize = 4_000_000;
    let array = SharedArray::<u64>::new(LEN).unwrap();
    fork(|| {
        let elements = array.lock().unwrap();
        elements.iter().zip(0..).for_each(|(element, value)| element.set(value));
    })
    .succeeds();
    let all = array.lock().unwrap().to_vec();
    assert!(all.into_iter().eq(0..LEN as u64));
}

fn threads_exclude_each_other() {
    const ROUNDS: u64 = 5_000;
    let array = SharedArray::<u64>::new(1).unwrap();
    let threads = [(); 4].map(|()| {
        let array = array.clone();
        thread::spawn(move || {
            for _ in 0..ROUNDS {
                let elements = array.lock().unwrap();
                let before = elements[0].get();
                std::hint::spin_loop();
                elements[0].set(before + 1);
            }
        })
    });
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(array.get(0), Some(4 * ROUNDS));
}

fn a_guard_is_dropped_by_another_thread() {
    let array = SharedArray::<u64>::new(1).unwrap();
    let elements = array.lock().unwrap();
    thread::spawn(move || elements[0].set(1)).join().unwrap();
    assert_eq!(array.try_lock().unwrap()[0].get(), 1);
    // One that has ended with it has not unlocked it.
    let own = array.clone();
    thread::spawn(move || mem::forget(own.lock().unwrap())).join().unwrap();
    assert!(is_held(&array));
}

fn a_copy_of_a_guard_is_worth_nothing() {
    let array = SharedArray::from_slice(&[1_u64]).unwrap();
    let elements = array.lock().unwrap();
    let mut copy = Some(elements);
    fork(|| {
        let elements = copy.take().unwrap();
        // It is dropped by the panic of its use.
        let result = catch_unwind(AssertUnwindSafe(move || drop((elements[0].get(), elements))));
        let message = *result.unwrap_err().downcast::<&str>().expect("a message");
        assert!(message.contains("take it here"), "{message}");
        assert!(is_held(&array));
        assert!(!array.is_poisoned());
    })
    .succeeds();
    assert!(is_held(&array));
    let elements = copy.unwrap();
    elements[0].set(2);
    drop(elements);
    assert_eq!(array.lock().unwrap().to_vec(), [2]);
}

/// Somebody who goes around the guard sees and does what any process could: there is no value that is wrong.
fn a_cell_that_was_lent_is_none_the_worse_in_a_child() {
    let array = SharedArray::from_slice(&[1_u64]).unwrap();
    let elements = array.lock().unwrap();
    let element = &elements[0];
    fork(|| element.set(5)).succeeds();
    assert_eq!(element.get(), 5);
}

fn a_lock_held_at_the_fork_is_not_the_childs() {
    let array = SharedArray::<u64>::new(1).unwrap();
    let elements = array.lock().unwrap();
    let child = fork(|| {
        // It waits for its parent, and is not it.
        let elements = array.lock().unwrap();
        elements[0].update(|value| value + 1);
        assert_eq!(elements[0].get(), 2);
        mem::forget(elements);
    });
    child.sleeps();
    elements[0].set(1);
    drop(elements);
    child.succeeds();
    let (elements, is_poisoned) = entered(&array);
    assert!(is_poisoned);
    assert_eq!(elements[0].get(), 2);
}

fn a_forgotten_guard_keeps_it_until_the_process_ends() {
    let array = SharedArray::<u64>::new(1).unwrap();
    let (is_forgotten, may_end) = (Gate::new(), Gate::new());
    let child = fork(|| {
        let own = array.clone();
        let leaked: &'static SharedGuard<u64> =
            thread::spawn(move || &*Box::leak(Box::new(own.lock().unwrap()))).join().unwrap();
        is_forgotten.open();
        may_end.pass();
        // The thread is gone that has locked it.
        leaked[0].set(9);
    });
    is_forgotten.pass();
    assert!(is_held(&array));
    may_end.open();
    child.succeeds();
    let (elements, is_poisoned) = entered(&array);
    assert!(is_poisoned);
    assert_eq!(elements[0].get(), 9);
}

fn panics_and_kills_poison() {
    let array = SharedArray::<u64>::new(1).unwrap();
    let own = array.clone();
    let killed = spawn(move || {
        let _elements = own.lock().unwrap();
        switchgrass::sleep(Duration::from_secs(100));
    });
    yield_now();
    killed.kill();
    assert!(matches!(killed.join(), Err(JoinError::Killed)));
    assert!(entered(&array).1);
    array.clear_poison();
    assert!(!entered(&array).1);
    // In another process.
    let child = fork(|| {
        let _elements = array.try_lock().unwrap();
        panic!("on purpose");
    });
    assert_eq!(child.wait().code(), Some(1));
    assert!(array.is_poisoned());
    array.lock().unwrap_or_else(PoisonError::into_inner)[0].set(1);
    array.clear_poison();
    assert_eq!(array.get(0), Some(1));
}

/// A destructor that uses the array while something unwinds is not in the middle of anything.
fn unwinding_of_others_does_not_poison() {
    struct Counts(SharedArray<u64>);
    impl Drop for Counts {
        fn drop(&mut self) {
            self.0.lock().unwrap()[0].update(|value| value + 1);
        }
    }
    let array = SharedArray::<u64>::new(1).unwrap();
    let counts = Counts(array.clone());
    let result = catch_unwind(AssertUnwindSafe(move || {
        let _counts = counts;
        panic!("{}", "on purpose");
    }));
    assert_eq!(message(result), "on purpose");
    assert!(!array.is_poisoned());
    assert_eq!(array.get(0), Some(1));
}

fn without_descriptors_it_is_waited_for_all_the_same() {
    let array = SharedArray::<u64>::new(1).unwrap();
    let (is_locked, may_unlock) = (Gate::new(), Gate::new());
    let holder = fork(|| {
        let elements = array.lock().unwrap();
        is_locked.open();
        may_unlock.pass();
        elements[0].set(1);
    });
    is_locked.pass();
    // The hub has its own before there are none left.
    switchgrass::sleep(Duration::from_millis(1));
    let mut taken = Vec::new();
    let limit = libc::rlimit { rlim_cur: 64, rlim_max: 64 };
    // SAFETY: a limit that is there.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
    while let Ok(file) = std::fs::File::open("/dev/null") {
        taken.push(file);
    }
    assert!(SharedArray::<u64>::new(1).is_err());
    let own = array.clone();
    let waiter = spawn(move || own.get(0));
    yield_now();
    may_unlock.open();
    assert_eq!(waiter.join().unwrap(), Some(1));
    holder.succeeds();
}

fn the_last_handle_gives_descriptors_and_memory_back() {
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let mappings =
        || std::fs::read_to_string("/proc/self/maps").unwrap().matches("/dev/zero").count();
    let before = (descriptors(), mappings());
    let array = SharedArray::<u64>::new(100_000).unwrap();
    let clone = array.clone();
    assert_eq!((descriptors(), mappings()), (before.0 + 2, before.1 + 1));
    drop(array);
    clone.set(0, 1);
    let elements = clone.lock().unwrap();
    drop(clone);
    assert_eq!(elements[0].get(), 1);
    drop(elements);
    assert_eq!((descriptors(), mappings()), before);
}
