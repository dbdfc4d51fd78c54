//! `std::sync`: between coroutines of one thread, and with other threads.

use crate::{BLOCK, patched, row};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{RecvTimeoutError, channel, sync_channel};
use std::sync::{Arc, Barrier, Condvar, LazyLock, Mutex, Once, OnceLock, RwLock};
use std::thread;
use std::time::{Duration, Instant};
use switchgrass::coroutine::join_all;
use switchgrass::{JoinError, spawn, timeout, yield_now};

const SHORT: Duration = Duration::from_millis(5);
/// Nothing takes so long that does not hang.
const LONG: Duration = Duration::from_secs(20);

/// Runs `body` in so many coroutines, and so many plain threads, at once.
fn all(tasks: usize, threads: usize, body: impl Fn(usize) + Clone + Send + 'static) {
    let others: Vec<_> = (0..threads)
        .map(|number| {
            let body = body.clone();
            thread::spawn(move || body(tasks + number))
        })
        .collect();
    let tasks = (0..tasks).map(|number| {
        let body = body.clone();
        spawn(move || body(number))
    });
    for task in join_all(tasks.collect::<Vec<_>>()) {
        task.unwrap();
    }
    for other in others {
        other.join().unwrap();
    }
}

#[test]
fn syscall() {
    row(|| {
        let mutex = Arc::new(Mutex::new(0));
        let (held, is_held) = channel();
        let holder = thread::spawn({
            let mutex = Arc::clone(&mutex);
            move || {
                let mut guard = mutex.lock().unwrap();
                held.send(()).unwrap();
                thread::sleep(BLOCK + Duration::from_millis(20));
                *guard = 1;
            }
        });
        is_held.recv().unwrap();
        let seen = *mutex.lock().unwrap();
        holder.join().unwrap();
        seen
    });
}

/// Held while its holder sleeps, by one after the other.
#[test]
fn a_mutex_that_is_held_across_switches() {
    patched(|| {
        let (mutex, inside) = (Rc::new(Mutex::new(Vec::new())), Rc::new(Cell::new(0)));
        let tasks = (0..20).map(|number| {
            let (mutex, inside) = (Rc::clone(&mutex), Rc::clone(&inside));
            spawn(move || {
                let mut order = mutex.lock().unwrap();
                inside.set(inside.get() + 1);
                thread::sleep(Duration::from_millis(1));
                order.push(number);
                assert_eq!(inside.replace(0), 1);
            })
        });
        join_all(tasks.collect::<Vec<_>>()).into_iter().for_each(|task| task.unwrap());
        assert_eq!(*mutex.lock().unwrap(), (0..20).collect::<Vec<_>>());
    });
}

#[test]
fn a_mutex_of_coroutines_and_threads() {
    patched(|| {
        for (tasks, threads) in [(8, 2), (50, 4)] {
            const ROUNDS: usize = 500;
            let count = Arc::new(Mutex::new(0_usize));
            let counted = Arc::clone(&count);
            all(tasks, threads, move |number| {
                for round in 0..ROUNDS {
                    let mut count = counted.lock().unwrap();
                    let seen = *count;
                    match (number + round) % 16 {
                        0 => thread::yield_now(),
                        1 if round % 50 == 0 => thread::sleep(Duration::from_micros(100)),
                        _ => {}
                    }
                    *count = seen + 1;
                }
            });
            assert_eq!(*count.lock().unwrap(), (tasks + threads) * ROUNDS);
        }
    });
}

/// Coroutines of several threads.
#[test]
fn a_mutex_of_several_hubs() {
    patched(|| {
        const ROUNDS: usize = 300;
        let count = Arc::new(Mutex::new(0_usize));
        let hubs: Vec<_> = (0..3)
            .map(|_| {
                let count = Arc::clone(&count);
                thread::spawn(move || {
                    all(10, 0, move |_| {
                        for _ in 0..ROUNDS {
                            let mut count = count.lock().unwrap();
                            let seen = *count;
                            thread::yield_now();
                            *count = seen + 1;
                        }
                    });
                })
            })
            .collect();
        hubs.into_iter().for_each(|hub| hub.join().unwrap());
        assert_eq!(*count.lock().unwrap(), 3 * 10 * ROUNDS);
    });
}

/// What is raised meanwhile waits until the lock is had.
#[test]
fn a_kill_while_waiting_for_a_mutex() {
    patched(|| {
        let mutex = Rc::new(Mutex::new(0));
        let guard = mutex.lock().unwrap();
        let waiter = spawn({
            let mutex = Rc::clone(&mutex);
            move || {
                *mutex.lock().unwrap() += 1;
                switchgrass::sleep(LONG);
            }
        });
        yield_now();
        assert!(!waiter.kill_wait(Some(SHORT)), "it has the lock to wait for");
        drop(guard);
        assert!(matches!(waiter.join(), Err(JoinError::Killed)));
        assert!(!mutex.is_poisoned());
        assert_eq!(*mutex.lock().unwrap(), 1);
        // And so with a time limit.
        let guard = mutex.lock().unwrap();
        let limited = spawn({
            let mutex = Rc::clone(&mutex);
            move || {
                timeout(SHORT, || {
                    *mutex.lock().unwrap() += 1;
                    switchgrass::sleep(LONG);
                })
                .unwrap_err();
            }
        });
        thread::sleep(2 * SHORT);
        assert!(!limited.is_finished());
        drop(guard);
        limited.join().unwrap();
        assert_eq!(*mutex.lock().unwrap(), 2);
    });
}

/// Nobody's wake-up is lost to coroutines of a thread that has ended.
#[test]
fn a_thread_that_ends_while_its_coroutines_wait() {
    patched(|| {
        let mutex = Arc::new(Mutex::new(0));
        let guard = mutex.lock().unwrap();
        let waiters = Arc::clone(&mutex);
        thread::spawn(move || {
            for _ in 0..5 {
                let mutex = Arc::clone(&waiters);
                spawn(move || *mutex.lock().unwrap() += 100);
            }
            yield_now();
        })
        .join()
        .unwrap();
        let after = Arc::clone(&mutex);
        let other = spawn(move || *after.lock().unwrap() += 1);
        yield_now();
        drop(guard);
        other.join().unwrap();
        assert_eq!(*mutex.lock().unwrap(), 1);
    });
}

#[test]
fn a_panic_with_a_guard_poisons() {
    patched(|| {
        let mutex = Rc::new(Mutex::new(0));
        let holder = spawn({
            let mutex = Rc::clone(&mutex);
            move || {
                let _guard = mutex.lock().unwrap();
                thread::sleep(SHORT);
                panic!("on purpose");
            }
        });
        let waiter = spawn({
            let mutex = Rc::clone(&mutex);
            move || mutex.lock().is_err()
        });
        assert!(matches!(holder.join(), Err(JoinError::Panicked(_))));
        assert!(waiter.join().unwrap() && mutex.is_poisoned());
    });
}

#[test]
fn readers_and_writers() {
    patched(|| {
        const ROUNDS: usize = 200;
        let lock = Arc::new(RwLock::new((0_usize, 0_usize)));
        let shared = Arc::clone(&lock);
        all(30, 4, move |number| {
            for round in 0..ROUNDS {
                if (number + round) % 4 == 0 {
                    let mut both = shared.write().unwrap();
                    both.0 += 1;
                    if round % 8 == 0 {
                        thread::yield_now();
                    }
                    both.1 += 1;
                } else {
                    let both = shared.read().unwrap();
                    if round % 16 == 0 {
                        thread::yield_now();
                    }
                    assert_eq!(both.0, both.1);
                }
            }
        });
        let wanted = (0..34).flat_map(|number| (0..ROUNDS).map(move |round| number + round));
        assert_eq!(lock.read().unwrap().0, wanted.filter(|sum| sum % 4 == 0).count());
        // Readers are in it together.
        let lock = Rc::new(RwLock::new(()));
        let inside = Rc::new(Cell::new(0));
        let readers = (0..5).map(|_| {
            let (lock, inside) = (Rc::clone(&lock), Rc::clone(&inside));
            spawn(move || {
                let _guard = lock.read().unwrap();
                inside.set(inside.get() + 1);
                thread::sleep(SHORT);
                inside.get()
            })
        });
        for reader in join_all(readers.collect::<Vec<_>>()) {
            assert_eq!(reader.unwrap(), 5);
        }
    });
}

#[test]
fn a_condvar_of_coroutines_and_threads() {
    patched(|| {
        const EACH: usize = 100;
        const TASKS: usize = 20;
        const THREADS: usize = 3;
        let state = Arc::new((Mutex::new((0_usize, 0_usize)), Condvar::new()));
        let takers = Arc::clone(&state);
        let giver = thread::spawn(move || {
            let (mutex, condvar) = &*state;
            for round in 0..(TASKS + THREADS) * EACH {
                mutex.lock().unwrap().0 += 1;
                if round % 10 == 0 {
                    condvar.notify_all()
                } else {
                    condvar.notify_one()
                }
                if round % 100 == 0 {
                    thread::sleep(Duration::from_micros(200));
                }
            }
        });
        let after = Arc::clone(&takers);
        all(TASKS, THREADS, move |_| {
            let (mutex, condvar) = &*takers;
            for _ in 0..EACH {
                let guard = mutex.lock().unwrap();
                let mut guard = condvar.wait_while(guard, |(there, _)| *there == 0).unwrap();
                guard.0 -= 1;
                guard.1 += 1;
            }
        });
        giver.join().unwrap();
        assert_eq!(*after.0.lock().unwrap(), (0, (TASKS + THREADS) * EACH));
    });
}

#[test]
fn waits_that_time_out() {
    patched(|| {
        all(8, 2, |_| {
            let (mutex, condvar) = (Mutex::new(()), Condvar::new());
            let start = Instant::now();
            let (guard, result) =
                condvar.wait_timeout_while(mutex.lock().unwrap(), SHORT, |()| true).unwrap();
            assert!(result.timed_out() && start.elapsed() >= SHORT);
            drop(guard);
            let (sender, receiver) = channel::<()>();
            let start = Instant::now();
            assert_eq!(receiver.recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
            assert!(start.elapsed() >= SHORT);
            drop(sender);
            let start = Instant::now();
            while start.elapsed() < SHORT {
                thread::park_timeout(SHORT.saturating_sub(start.elapsed()));
            }
        });
        // At the same time, not one after the other: in order of their limits.
        let order = Rc::new(Mutex::new(Vec::new()));
        let tasks = [3, 1, 2].map(|number: u32| {
            let order = Rc::clone(&order);
            spawn(move || {
                let (_sender, receiver) = channel::<()>();
                receiver.recv_timeout(20 * number * Duration::from_millis(1)).unwrap_err();
                order.lock().unwrap().push(number);
            })
        });
        join_all(tasks).into_iter().for_each(|task| task.unwrap());
        assert_eq!(*order.lock().unwrap(), [1, 2, 3]);
    });
}

/// A wake-up that comes with the deadline is had by the one or by somebody else.
#[test]
fn wake_ups_and_deadlines_at_once() {
    patched(|| {
        const ROUNDS: usize = 2000;
        let state = Arc::new((Mutex::new(0_usize), Condvar::new()));
        let is_over = Arc::new(AtomicBool::new(false));
        let giver = thread::spawn({
            let (state, is_over) = (Arc::clone(&state), Arc::clone(&is_over));
            move || {
                for _ in 0..ROUNDS {
                    *state.0.lock().unwrap() += 1;
                    state.1.notify_one();
                    thread::sleep(Duration::from_micros(20));
                }
                is_over.store(true, SeqCst);
                state.1.notify_all();
            }
        });
        let got = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&got);
        all(10, 1, move |number| {
            let limit = Duration::from_micros(20 + 10 * number as u64);
            let mut there = state.0.lock().unwrap();
            while *there > 0 || !is_over.load(SeqCst) {
                if *there > 0 {
                    *there -= 1;
                    count.fetch_add(1, SeqCst);
                }
                there = state.1.wait_timeout(there, limit).unwrap().0;
            }
        });
        giver.join().unwrap();
        assert_eq!(got.load(SeqCst), ROUNDS);
    });
}

#[test]
fn a_barrier_of_coroutines_and_threads() {
    patched(|| {
        const ROUNDS: usize = 300;
        const TASKS: usize = 8;
        const THREADS: usize = 3;
        let barrier = Arc::new(Barrier::new(TASKS + THREADS));
        let (arrived, leaders) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let led = Arc::clone(&leaders);
        all(TASKS, THREADS, move |_| {
            for round in 1..=ROUNDS {
                arrived.fetch_add(1, SeqCst);
                let result = barrier.wait();
                assert!(arrived.load(SeqCst) >= round * (TASKS + THREADS));
                led.fetch_add(result.is_leader().into(), SeqCst);
            }
        });
        assert_eq!(leaders.load(SeqCst), ROUNDS);
    });
}

/// The initialiser sleeps, and runs once.
#[test]
fn what_is_made_once() {
    patched(|| {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        static LAZY: LazyLock<usize> = LazyLock::new(|| make(0));
        static ONCE: Once = Once::new();
        static CELL: OnceLock<usize> = OnceLock::new();
        fn make(number: usize) -> usize {
            thread::sleep(SHORT);
            MADE.fetch_add(1, SeqCst);
            number
        }
        all(20, 3, |_| {
            assert_eq!(*LAZY, 0);
            ONCE.call_once(|| _ = make(1));
            assert!(ONCE.is_completed());
            assert_eq!(*CELL.get_or_init(|| make(2)), 2);
        });
        assert_eq!(MADE.load(SeqCst), 3);
        // And fails, as without us.
        static BAD: Once = Once::new();
        let bad = spawn(|| {
            BAD.call_once(|| {
                thread::sleep(SHORT);
                panic!("on purpose");
            });
        });
        yield_now();
        let other = spawn(|| catch_unwind(AssertUnwindSafe(|| BAD.call_once(|| ()))).is_err());
        assert!(bad.join().is_err() && other.join().unwrap());
    });
}

/// Fifty who receive on one thread, each from its own channel, what another thread sends.
#[test]
fn fifty_receivers_on_one_thread() {
    patched(|| {
        const RECEIVERS: usize = 50;
        const EACH: usize = 40;
        let got = Arc::new(AtomicUsize::new(0));
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..RECEIVERS).map(|_| channel::<usize>()).unzip();
        let tasks = receivers.into_iter().map(|receiver| {
            let got = Arc::clone(&got);
            spawn(move || {
                receiver.iter().inspect(|_| _ = got.fetch_add(1, SeqCst)).collect::<Vec<_>>()
            })
        });
        let tasks: Vec<_> = tasks.collect();
        let sending = thread::spawn(move || {
            for round in 0..EACH {
                for sender in &senders {
                    sender.send(round).unwrap();
                }
                // Each message is had while the channels are open.
                while got.load(SeqCst) < (round + 1) * RECEIVERS {
                    thread::sleep(Duration::from_micros(100));
                }
            }
        });
        for task in join_all(tasks) {
            assert_eq!(task.unwrap(), (0..EACH).collect::<Vec<_>>());
        }
        sending.join().unwrap();
    });
}

/// What a coroutine of the same thread sends wakes nobody: `std` looks for a receiver of another thread. It is
/// had by one who looks: with a time limit, or when the channel is closed.
#[test]
fn a_channel_between_coroutines_of_one_thread() {
    patched(|| {
        let (sender, receiver) = channel();
        let receiving = spawn(move || {
            let first = receiver.recv_timeout(SHORT).unwrap();
            (first, receiver.iter().collect::<Vec<_>>())
        });
        yield_now();
        (0..5).for_each(|number| sender.send(number).unwrap());
        thread::sleep(2 * SHORT);
        (5..9).for_each(|number| sender.send(number).unwrap());
        drop(sender);
        assert_eq!(receiving.join().unwrap(), (0, (1..9).collect()));
    });
}

/// Who sends has to wait as well.
#[test]
fn channels_with_bounds() {
    patched(|| {
        const COUNT: usize = 300;
        for bound in [0, 1, 5] {
            // There, and back.
            let (sender, receiver) = sync_channel(bound);
            let (answer, answers) = sync_channel(bound);
            let other = thread::spawn(move || {
                receiver.iter().for_each(|number: usize| answer.send(number + 1).unwrap());
            });
            let sending = spawn(move || (0..COUNT).for_each(|number| sender.send(number).unwrap()));
            let receiving = spawn(move || answers.iter().collect::<Vec<_>>());
            assert_eq!(receiving.join().unwrap(), (1..=COUNT).collect::<Vec<_>>());
            sending.join().unwrap();
            other.join().unwrap();
        }
    });
}
