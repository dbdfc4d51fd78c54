//! `thread::park`, which all coroutines of a thread share, and the ends of threads.

use crate::{BLOCK, patched, row};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};
use switchgrass::coroutine::join_all;
use switchgrass::{JoinError, spawn, yield_now};

const SHORT: Duration = Duration::from_millis(5);

#[test]
fn pthread_join() {
    row(|| {
        thread::spawn(|| {
            thread::sleep(BLOCK + Duration::from_millis(2));
            7
        })
        .join()
        .unwrap()
    });
}

#[test]
fn threads_that_are_joined() {
    patched(|| {
        // Ended before, and panicked.
        let ended = thread::spawn(|| 1);
        let panicked = thread::spawn(|| panic!("on purpose"));
        while !(ended.is_finished() && panicked.is_finished()) {
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(spawn(|| ended.join().unwrap()).join().unwrap(), 1);
        assert!(spawn(|| panicked.join().is_err()).join().unwrap());
        // What a thread has returned to C.
        extern "C" fn body(argument: *mut libc::c_void) -> *mut libc::c_void {
            thread::sleep(SHORT);
            argument
        }
        let result = spawn(|| {
            let (mut thread, mut result) = (0, std::ptr::null_mut());
            // SAFETY: places for the answers, and a function that asks for nothing.
            unsafe {
                let wanted = std::ptr::without_provenance_mut(5);
                assert_eq!(libc::pthread_create(&mut thread, std::ptr::null(), body, wanted), 0);
                assert_eq!(libc::pthread_join(thread, &mut result), 0);
            }
            result.addr()
        });
        assert_eq!(result.join().unwrap(), 5);
        // Nobody is killed while a thread has what he has lent.
        let lent = AtomicUsize::new(0);
        let lender = spawn(move || {
            thread::scope(|scope| {
                scope.spawn(|| {
                    thread::sleep(4 * SHORT);
                    lent.fetch_add(1, SeqCst);
                });
            });
            assert_eq!(lent.load(SeqCst), 1);
            switchgrass::sleep(Duration::from_secs(20));
        });
        yield_now();
        lender.kill();
        assert!(matches!(lender.join(), Err(JoinError::Killed)));
    });
}

#[test]
fn scopes_of_many_coroutines() {
    patched(|| {
        let tasks = (0..8).map(|number| {
            spawn(move || {
                for _ in 0..30 {
                    let parts = [number, 1, 2];
                    let sum = AtomicUsize::new(0);
                    thread::scope(|scope| {
                        for part in &parts {
                            let sum = &sum;
                            scope.spawn(move || sum.fetch_add(*part, SeqCst));
                        }
                    });
                    assert_eq!(sum.into_inner(), number + 3);
                }
            })
        });
        join_all(tasks.collect::<Vec<_>>()).into_iter().for_each(|task| task.unwrap());
    });
}

/// Flags of parked coroutines, set in turn by somebody who unparks their thread each time.
fn storm(parked: usize, rounds: usize, give: impl FnOnce(Box<dyn FnOnce() + Send>)) {
    let flags: Arc<Vec<AtomicBool>> =
        Arc::new((0..parked).map(|_| AtomicBool::new(false)).collect());
    let done = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..parked)
        .map(|number| {
            let (flags, done) = (Arc::clone(&flags), Arc::clone(&done));
            spawn(move || {
                for round in 0..rounds {
                    while !flags[number].swap(false, SeqCst) {
                        if (number + round) % 5 == 0 {
                            thread::park_timeout(Duration::from_secs(30));
                        } else {
                            thread::park();
                        }
                    }
                    done.fetch_add(1, SeqCst);
                }
            })
        })
        .collect();
    let thread = thread::current();
    give(Box::new(move || {
        for round in 0..rounds {
            for flag in &*flags {
                flag.store(true, SeqCst);
                thread.unpark();
            }
            while done.load(SeqCst) < (round + 1) * parked {
                thread::yield_now();
            }
        }
    }));
    join_all(tasks).into_iter().for_each(|task| task.unwrap());
}

#[test]
fn two_and_twenty_are_parked_and_a_coroutine_unparks() {
    patched(|| {
        for (parked, rounds) in [(2, 2000), (20, 500)] {
            storm(parked, rounds, |give| spawn(give).join().unwrap());
        }
    });
}

#[test]
fn two_and_twenty_are_parked_and_a_thread_unparks() {
    patched(|| {
        for (parked, rounds) in [(1, 3000), (2, 3000), (20, 500)] {
            storm(parked, rounds, |give| _ = thread::spawn(give));
        }
    });
}

/// The thread sleeps whenever it is unparked.
#[test]
fn a_thread_that_sleeps_is_unparked() {
    patched(|| {
        let flags = Arc::new([const { AtomicBool::new(false) }; 3]);
        let thread = thread::current();
        let tasks = [0, 1, 2].map(|number| {
            let flags = Arc::clone(&flags);
            spawn(move || {
                while !flags[number].load(SeqCst) {
                    thread::park();
                }
            })
        });
        thread::spawn(move || {
            for flag in &*flags {
                thread::sleep(4 * SHORT);
                flag.store(true, SeqCst);
                thread.unpark();
            }
        });
        join_all(tasks).into_iter().for_each(|task| task.unwrap());
    });
}

/// Each unparks the other, on one thread: who parks next finds what was not meant for him.
#[test]
fn two_who_unpark_each_other() {
    patched(|| {
        const ROUNDS: usize = 60;
        let turn = Rc::new(AtomicUsize::new(0));
        let players = [0, 1].map(|player| {
            let turn = Rc::clone(&turn);
            spawn(move || {
                for _ in 0..ROUNDS {
                    while turn.load(SeqCst) % 2 != player {
                        thread::park();
                    }
                    turn.fetch_add(1, SeqCst);
                    thread::current().unpark();
                }
            })
        });
        join_all(players).into_iter().for_each(|player| player.unwrap());
        assert_eq!(turn.load(SeqCst), 2 * ROUNDS);
    });
}

#[test]
fn a_token_that_was_given_before() {
    patched(|| {
        let given = spawn(|| {
            thread::current().unpark();
            thread::park();
            1
        });
        assert_eq!(given.join().unwrap(), 1);
        // By another thread, while the coroutine is busy with something else.
        let flag = Arc::new(AtomicBool::new(false));
        let (thread, set) = (thread::current(), Arc::clone(&flag));
        let busy = spawn(move || {
            let parked = spawn(|| thread::park_timeout(4 * SHORT));
            let giver = thread::spawn(move || {
                set.store(true, SeqCst);
                thread.unpark();
            });
            giver.join().unwrap();
            thread::sleep(SHORT);
            while !flag.load(SeqCst) {
                thread::park();
            }
            parked.join().unwrap();
        });
        busy.join().unwrap();
    });
}

#[test]
fn parks_that_time_out() {
    patched(|| {
        let tasks = (1..=5).map(|number| {
            spawn(move || {
                let (limit, start) = (SHORT * number, Instant::now());
                while start.elapsed() < limit {
                    thread::park_timeout(limit - start.elapsed());
                }
            })
        });
        let tasks: Vec<_> = tasks.collect();
        let parked = spawn(|| {
            let start = Instant::now();
            thread::park_timeout(Duration::ZERO);
            start.elapsed()
        });
        assert!(parked.join().unwrap() < Duration::from_secs(10));
        join_all(tasks).into_iter().for_each(|task| task.unwrap());
    });
}
