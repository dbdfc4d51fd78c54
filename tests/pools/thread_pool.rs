//! Thread pools: how many threads there are, what becomes of jobs, what their callers do meanwhile.

use crate::support::{
    Gate, LONG, Log, brief, in_child, message, ms, panic_message, printed, until,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, Weak, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use switchgrass::pool::{ThreadPool, unblock};
use switchgrass::{JoinError, sleep, spawn, timeout, yield_now};

/// {TestPool, TestPool2, TestPool3, TestPool10}
const SIZES: [usize; 4] = [1, 2, 3, 10];

fn counts(pool: &ThreadPool) -> [usize; 3] {
    [pool.live(), pool.idle(), pool.queued()]
}

/// Ends a pool, and its threads.
#[track_caller]
fn finish(pool: &ThreadPool) {
    pool.close();
    pool.join().unwrap();
    assert_eq!(counts(pool), [0, 0, 0]);
}

// -------------------------------------------------------------------------------------- threads

#[test]
fn no_thread_before_the_first_job() {
    let pool = ThreadPool::new(4);
    assert_eq!(counts(&pool), [0, 0, 0]);
    assert_eq!(pool.apply(|| 1), Ok(1));
    assert_eq!(pool.live(), 1);
    finish(&pool);
    assert!(panic_message(|| ThreadPool::new(0)).contains("at least 1"));
    assert!(format!("{pool:?}").starts_with("ThreadPool { live: 0, idle: 0, queued: 0"));
}

/// One that is idle is used again.
#[test]
fn a_thread_is_made_only_if_none_is_idle() {
    let pool = ThreadPool::new(4);
    let ids: Vec<_> = (0..10)
        .map(|_| {
            until(|| pool.idle() == pool.live());
            let id = pool.apply(|| thread::current().id()).unwrap();
            assert_eq!(pool.live(), 1);
            id
        })
        .collect();
    assert!(ids.iter().all(|id| *id == ids[0] && *id != thread::current().id()));
    finish(&pool);
}

/// Two fast `run`s do not both take themselves to be the one for which there is still room.
#[test]
fn no_more_threads_than_allowed() {
    for size in SIZES {
        let (pool, gate) = (ThreadPool::new(size), Gate::new());
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        for number in 1..=size + 5 {
            let (gate, now, most) = (gate.clone(), Arc::clone(&now), Arc::clone(&most));
            let job = move || {
                most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
                gate.pass();
                now.fetch_sub(1, SeqCst);
            };
            pool.run(job, |_| ()).unwrap();
            // Known at once, whether or not the threads run yet.
            assert_eq!(pool.live(), number.min(size));
        }
        until(|| pool.queued() == 5);
        assert_eq!(counts(&pool), [size, 0, 5]);
        until(|| now.load(SeqCst) == size);
        gate.open();
        finish(&pool);
        assert_eq!(most.load(SeqCst), size);
    }
}

/// A thread is idle exactly while it waits for work.
#[test]
fn idle() {
    let (pool, gates) = (ThreadPool::new(2), [Gate::new(), Gate::new()]);
    for gate in &gates {
        let gate = gate.clone();
        pool.run(move || gate.pass(), |_| ()).unwrap();
    }
    until(|| counts(&pool) == [2, 0, 0]);
    gates[0].open();
    until(|| counts(&pool) == [2, 1, 0]);
    // The idle one takes it.
    assert_eq!(pool.apply(|| 5), Ok(5));
    assert_eq!(pool.live(), 2);
    gates[1].open();
    until(|| counts(&pool) == [2, 2, 0]);
    finish(&pool);
}

/// {TestMaxsize.test_inc}: those that wait for a thread get one.
#[test]
fn test_inc() {
    let (pool, gate) = (ThreadPool::new(1), Gate::new());
    let (sender, begun) = mpsc::channel();
    for number in 0..4 {
        let (gate, sender) = (gate.clone(), sender.clone());
        let job = move || {
            sender.send(number).unwrap();
            gate.pass();
        };
        pool.run(job, |_| ()).unwrap();
    }
    assert_eq!(begun.recv(), Ok(0));
    assert_eq!(counts(&pool), [1, 0, 3]);
    pool.set_max(3);
    assert_eq!(pool.live(), 3);
    let mut more = [begun.recv().unwrap(), begun.recv().unwrap()];
    more.sort();
    assert_eq!((more, counts(&pool)), ([1, 2], [3, 0, 1]));
    gate.open();
    finish(&pool);
}

/// {TestMaxsize.test_setzero}: here it is an error, and nothing changes.
#[test]
fn test_setzero() {
    let pool = ThreadPool::new(1);
    assert!(panic_message(|| pool.set_max(0)).contains("at least 1"));
    assert_eq!(pool.apply(|| 1), Ok(1));
    finish(&pool);
}

/// {TestSize}: threads that are too many end, the idle ones at once, the others after their jobs.
#[test]
fn test_size() {
    let (pool, gate) = (ThreadPool::new(4), Gate::new());
    let inside = gate.clone();
    pool.run(move || inside.pass(), |_| ()).unwrap();
    let more = Gate::new();
    for _ in 0..3 {
        let more = more.clone();
        pool.run(move || more.pass(), |_| ()).unwrap();
    }
    more.open();
    until(|| counts(&pool) == [4, 3, 0]);
    pool.set_max(2);
    until(|| counts(&pool) == [2, 1, 0]);
    pool.set_max(1);
    until(|| counts(&pool) == [1, 0, 0]);
    let job = pool.spawn(|| 7).unwrap();
    assert_eq!(counts(&pool), [1, 0, 1]);
    gate.open();
    assert_eq!(job.join().unwrap(), 7);
    pool.set_max(10);
    until(|| counts(&pool) == [1, 1, 0]);
    finish(&pool);
}

/// Too many that are all busy: the last one of them goes on with what is queued.
#[test]
fn fewer_threads_than_are_busy() {
    let (pool, gate) = (ThreadPool::new(3), Gate::new());
    for _ in 0..3 {
        let gate = gate.clone();
        pool.run(move || gate.pass(), |_| ()).unwrap();
    }
    until(|| counts(&pool) == [3, 0, 0]);
    pool.set_max(1);
    let jobs: Vec<_> = (0..3).map(|n| pool.spawn(move || n).unwrap()).collect();
    assert_eq!(pool.live(), 3);
    gate.open();
    let results: Vec<u32> = jobs.into_iter().map(|job| job.join().unwrap()).collect();
    assert_eq!(results, [0, 1, 2]);
    until(|| counts(&pool) == [1, 1, 0]);
    finish(&pool);
}

/// A job that an idle thread is about to take needs no other when there may be more.
#[test]
fn a_higher_limit_makes_no_thread_that_is_not_needed() {
    for _ in 0..50 {
        let pool = ThreadPool::new(1);
        pool.apply(|| ()).unwrap();
        until(|| pool.idle() == 1);
        pool.run(|| (), |_| ()).unwrap();
        pool.set_max(2);
        assert_eq!(pool.live(), 1);
        finish(&pool);
    }
}

// ----------------------------------------------------------------------------------------- jobs

/// {test_apply, test_apply_async}: the callback gets the result, on the thread of the job.
#[test]
fn the_callback_comes_after_the_job_on_its_thread() {
    let pool = ThreadPool::new(3);
    let (sender, results) = mpsc::channel();
    for n in 0..20_u32 {
        let sender = sender.clone();
        let job = move || (n * n, thread::current().id());
        let callback = move |result: Result<(u32, thread::ThreadId), _>| {
            let (square, id) = result.unwrap();
            assert_eq!(id, thread::current().id());
            sender.send(square).unwrap();
        };
        pool.run(job, callback).unwrap();
    }
    finish(&pool);
    let mut results: Vec<u32> = results.try_iter().collect();
    results.sort();
    assert_eq!(results, (0..20).map(|n| n * n).collect::<Vec<_>>());
}

/// On one thread, jobs run in order.
#[test]
fn jobs_run_in_order() {
    let (pool, order) = (ThreadPool::new(1), Arc::new(Mutex::new(Vec::new())));
    for n in 0..10 {
        let order = Arc::clone(&order);
        pool.run(move || order.lock().unwrap().push(n), |_| ()).unwrap();
    }
    finish(&pool);
    assert_eq!(*order.lock().unwrap(), (0..10).collect::<Vec<_>>());
}

/// A failing job, and a failing callback, are the end of neither thread nor pool.
#[test]
fn a_failing_job_harms_nobody() {
    let pool = ThreadPool::new(1);
    let (sender, said) = mpsc::channel();
    let id = pool.apply(|| thread::current().id()).unwrap();
    for _ in 0..3 {
        let sender = sender.clone();
        let callback = move |result: Result<(), _>| {
            sender.send(message(result.unwrap_err())).unwrap();
            panic!("the callback fails");
        };
        pool.run(|| panic!("the job fails"), callback).unwrap();
    }
    let failing = pool.spawn(|| -> u32 { panic!("failing") }).unwrap();
    assert_eq!(brief(failing.join()), "panicked: failing");
    assert_eq!(pool.apply(|| thread::current().id()), Ok(id));
    assert_eq!(said.try_iter().collect::<Vec<_>>(), ["the job fails"; 3]);
    finish(&pool);
}

/// Nor is a job, a result, or a payload whose destructor fails.
#[test]
fn a_failing_destructor_harms_nobody() {
    struct Loud;
    impl Drop for Loud {
        fn drop(&mut self) {
            panic!("loud");
        }
    }
    let pool = ThreadPool::new(1);
    let id = pool.apply(|| thread::current().id()).unwrap();
    let (captured, gate) = (Loud, Gate::new());
    let inside = gate.clone();
    pool.run(move || inside.pass(), |_| ()).unwrap();
    pool.run(move || drop(captured), |_| ()).unwrap();
    drop(pool.spawn(|| Loud).unwrap());
    gate.open();
    pool.run(|| std::panic::panic_any(Loud), |_| ()).unwrap();
    assert_eq!(pool.apply(|| thread::current().id()), Ok(id));
    finish(&pool);
}

/// `apply` raises in the caller what the job panics with.
#[test]
fn apply_raises_what_the_job_panics_with() {
    let pool = ThreadPool::new(1);
    let said = panic_message(|| pool.apply(|| -> u32 { panic!("failing") }));
    assert_eq!(said, "failing");
    assert_eq!(panic_message(|| unblock(|| panic!("blocking"))), "blocking");
    assert_eq!(unblock(|| 5), 5);
    finish(&pool);
}

#[test]
fn a_handle_can_be_asked() {
    let (pool, gate) = (ThreadPool::new(1), Gate::new());
    let inside = gate.clone();
    let mut job = pool.spawn(move || inside.pass()).unwrap();
    let start = Instant::now();
    assert!(job.join_timeout(ms(3)).is_none() && start.elapsed() >= ms(3));
    assert!(!job.is_finished());
    gate.open();
    assert!(matches!(job.join_timeout(LONG), Some(Ok(()))));
    assert!(job.is_finished());
    assert!(matches!(job.join_timeout(Duration::ZERO), Some(Err(JoinError::Taken))));
    assert!(matches!(job.join(), Err(JoinError::Taken)));
    finish(&pool);
}

/// {test_recursive_apply}: a job that has another one done by its own pool needs no further thread.
#[test]
fn test_recursive_apply() {
    for size in SIZES {
        let pool = Arc::new(ThreadPool::new(size));
        let (outer, inner) = (Arc::clone(&pool), Arc::clone(&pool));
        let job = pool.spawn(move || {
            let id = thread::current().id();
            outer.apply(move || inner.apply(move || (id, thread::current().id()))).unwrap().unwrap()
        });
        let mut job = job.unwrap();
        let (asked, ran) = job.join_timeout(LONG).expect("it needs no second thread").unwrap();
        assert_eq!(asked, ran);
        assert_eq!(pool.live(), 1);
        finish(&pool);
    }
}

/// There what it panics with goes through the caller as well, and a closed pool takes none.
#[test]
fn recursive_apply_that_fails() {
    let pool = Arc::new(ThreadPool::new(1));
    let inner = Arc::clone(&pool);
    let job = pool.spawn(move || {
        let said = panic_message(|| inner.apply(|| panic!("within")));
        inner.close();
        (said, inner.apply(|| 1).is_err())
    });
    assert_eq!(job.unwrap().join().unwrap(), ("within".into(), true));
    pool.join().unwrap();
}

/// A job may hand further ones to its own pool, which works them off.
#[test]
fn jobs_that_make_jobs() {
    let (pool, count) = (Arc::new(ThreadPool::new(2)), Arc::new(AtomicUsize::new(0)));
    fn split(pool: &Arc<ThreadPool>, depth: u32, count: &Arc<AtomicUsize>) {
        for _ in 0..2 {
            let (inner, count) = (Arc::clone(pool), Arc::clone(count));
            let job = move || {
                count.fetch_add(1, SeqCst);
                if depth > 0 {
                    split(&inner, depth - 1, &count);
                }
            };
            pool.run(job, |_| ()).unwrap();
        }
    }
    split(&pool, 4, &count);
    until(|| count.load(SeqCst) == 2 + 4 + 8 + 16 + 32);
    finish(&pool);
}

/// It can be used from any thread, and by coroutines of several.
#[test]
fn all_threads_may_use_it() {
    let pool = ThreadPool::new(3);
    thread::scope(|scope| {
        for thread in 0..4_u64 {
            let pool = &pool;
            scope.spawn(move || {
                let mine = switchgrass::coroutine::scope(|scope| {
                    let jobs: Vec<_> = (0..25)
                        .map(|n| scope.spawn(move || pool.apply(move || thread * 100 + n).unwrap()))
                        .collect();
                    jobs.into_iter().map(|job| job.join().unwrap()).sum::<u64>()
                });
                assert_eq!(mine, 2500 * thread + 300);
            });
        }
    });
    assert!(pool.live() <= 3);
    finish(&pool);
}

/// {TestRef, TestRefCount}: what a job captures goes with it, its result with whoever takes that.
#[test]
fn test_ref() {
    let pool = ThreadPool::new(1);
    let tracked = |kept: &mut Vec<Weak<u32>>| {
        let tracked = Arc::new(5);
        kept.push(Arc::downgrade(&tracked));
        tracked
    };
    let mut kept = Vec::new();
    let argument = tracked(&mut kept);
    assert_eq!(pool.apply(move || *argument), Ok(5));
    let result = tracked(&mut kept);
    drop(pool.apply(move || result).unwrap());
    let argument = tracked(&mut kept);
    let failing = pool.spawn(move || panic!("{argument}")).unwrap();
    assert_eq!(brief(failing.join().map(|()| 0)), "panicked: 5");
    // Nobody wants this one, nor its callback.
    let (result, argument) = (tracked(&mut kept), tracked(&mut kept));
    drop(pool.spawn(move || result).unwrap());
    pool.run(|| (), move |_| drop(argument)).unwrap();
    // The thread has done all of them: nothing is left over.
    until(|| counts(&pool) == [1, 1, 0]);
    assert!(kept.iter().all(|weak| weak.strong_count() == 0), "{kept:?}");
    assert_eq!(pool.live(), 1);
    finish(&pool);
}

// ------------------------------------------------------------------------------- close, terminate

#[test]
fn join_before_close_is_an_error() {
    let pool = ThreadPool::new(1);
    let error = pool.join().unwrap_err();
    assert!(error.to_string().contains("call close() or terminate()"), "{error}");
    pool.apply(|| ()).unwrap();
    assert!(pool.join().is_err());
    finish(&pool);
    pool.join().unwrap();

    let unused = ThreadPool::new(1);
    unused.close();
    unused.join().unwrap();
}

/// No new jobs; those that are queued are worked off.
#[test]
fn close_works_off_what_is_queued() {
    let (pool, gate) = (ThreadPool::new(1), Gate::new());
    let inside = gate.clone();
    let first = pool.spawn(move || inside.pass()).unwrap();
    let jobs: Vec<_> = (0..3).map(|n| pool.spawn(move || n).unwrap()).collect();
    pool.close();
    let error = pool.run(|| (), |_| ()).unwrap_err();
    assert!(error.to_string().contains("takes no more jobs"), "{error}");
    assert!(pool.spawn(|| ()).is_err() && pool.apply(|| ()).is_err());
    until(|| counts(&pool) == [1, 0, 3]);
    gate.open();
    pool.join().unwrap();
    assert_eq!(counts(&pool), [0, 0, 0]);
    first.join().unwrap();
    let results: Vec<u32> = jobs.into_iter().map(|job| job.join().unwrap()).collect();
    assert_eq!(results, [0, 1, 2]);
}

/// Running jobs finish; queued ones are dropped, and who waits for them is told.
#[test]
fn terminate_drops_what_is_queued() {
    let (pool, gate) = (ThreadPool::new(1), Gate::new());
    let (inside, (begin, begun)) = (gate.clone(), mpsc::channel());
    let first = pool.spawn(move || {
        begin.send(()).unwrap();
        inside.pass();
        1
    });
    let queued = pool.spawn(|| 2).unwrap();
    let (told, tells) = mpsc::channel::<()>();
    pool.run(|| (), move |_| told.send(()).unwrap()).unwrap();
    begun.recv().unwrap();
    pool.terminate();
    assert_eq!(counts(&pool), [1, 0, 0]);
    assert!(queued.is_finished());
    assert!(matches!(queued.join(), Err(JoinError::Killed)));
    assert_eq!(tells.try_recv(), Err(mpsc::TryRecvError::Disconnected));
    assert!(pool.spawn(|| ()).is_err());
    gate.open();
    pool.join().unwrap();
    assert_eq!(first.unwrap().join().unwrap(), 1);
    assert_eq!(counts(&pool), [0, 0, 0]);
}

/// One that waits in `apply` for a job that is dropped hears that the pool is closed.
#[test]
fn terminate_while_somebody_waits() {
    let (pool, gate) = (Arc::new(ThreadPool::new(1)), Gate::new());
    let inside = gate.clone();
    pool.run(move || inside.pass(), |_| ()).unwrap();
    let inner = Arc::clone(&pool);
    let waiter = spawn(move || inner.apply(|| ()).is_err());
    yield_now();
    pool.terminate();
    assert!(waiter.join().unwrap());
    gate.open();
    pool.join().unwrap();
}

/// Closed while its threads are idle, and closed again.
#[test]
fn idle_threads_end_when_it_is_closed() {
    let pool = ThreadPool::new(3);
    let gate = Gate::new();
    for _ in 0..3 {
        let gate = gate.clone();
        pool.run(move || gate.pass(), |_| ()).unwrap();
    }
    gate.open();
    until(|| counts(&pool) == [3, 3, 0]);
    finish(&pool);
    pool.close();
    pool.terminate();
    pool.join().unwrap();
}

/// Several wait for the end, coroutines and other threads.
#[test]
fn several_join() {
    let (pool, gate) = (Arc::new(ThreadPool::new(2)), Gate::new());
    for _ in 0..4 {
        let gate = gate.clone();
        pool.run(move || gate.pass(), |_| ()).unwrap();
    }
    pool.close();
    let inner = Arc::clone(&pool);
    let coroutine = spawn(move || inner.join().unwrap());
    let inner = Arc::clone(&pool);
    let thread = thread::spawn(move || inner.join().unwrap());
    yield_now();
    gate.open();
    pool.join().unwrap();
    coroutine.join().unwrap();
    thread.join().unwrap();
}

/// Dropped, it is closed.
#[test]
fn a_dropped_pool_works_off_its_jobs() {
    let (pool, gate) = (ThreadPool::new(1), Gate::new());
    let (sender, results) = mpsc::channel();
    for n in 0..3 {
        let (gate, sender) = (gate.clone(), sender.clone());
        let job = move || {
            gate.pass();
            n
        };
        pool.run(job, move |result| sender.send(result.unwrap()).unwrap()).unwrap();
    }
    let last = pool.spawn(|| "last").unwrap();
    drop((pool, sender));
    gate.open();
    assert_eq!(last.join().unwrap(), "last");
    assert_eq!(results.iter().collect::<Vec<u32>>(), [0, 1, 2]);
}

/// The last handle goes in a job.
#[test]
fn a_pool_that_is_dropped_by_its_job() {
    let (pool, gate) = (Arc::new(ThreadPool::new(1)), Gate::new());
    let (inner, inside) = (Arc::clone(&pool), gate.clone());
    let job = pool.spawn(move || {
        inside.pass();
        drop(inner);
        5
    });
    let after = pool.spawn(|| 6).unwrap();
    drop(pool);
    gate.open();
    assert_eq!(job.unwrap().join().unwrap(), 5);
    assert_eq!(after.join().unwrap(), 6);
}

// ------------------------------------------------------------------------------------ coroutines

/// While one waits for a job the others of its thread run.
#[test]
fn others_run_meanwhile() {
    let (pool, gate, log) = (ThreadPool::new(1), Gate::new(), Log::new());
    let (inside, opener) = (log.clone(), gate.clone());
    let other = spawn(move || {
        for turn in 0..3 {
            inside.add(format!("turn {turn}"));
            yield_now();
        }
        opener.open();
    });
    log.add("applies");
    pool.apply(move || gate.pass()).unwrap();
    log.add("goes on");
    other.join().unwrap();
    assert_eq!(log.take(), ["applies", "turn 0", "turn 1", "turn 2", "goes on"]);
    finish(&pool);
}

/// As many jobs at a time as there are coroutines that block, and threads.
#[test]
fn blocking_calls_overlap() {
    let pool = Arc::new(ThreadPool::new(5));
    let barrier = Arc::new(std::sync::Barrier::new(5));
    let callers: Vec<_> = (0..5)
        .map(|_| {
            let (pool, barrier) = (Arc::clone(&pool), Arc::clone(&barrier));
            spawn(move || pool.apply(move || barrier.wait().is_leader()).unwrap())
        })
        .collect();
    let leaders = callers.into_iter().map(|caller| caller.join().unwrap());
    assert_eq!(leaders.filter(|is_leader| *is_leader).count(), 1);
    finish(&pool);
}

/// Killed while it waits for a job: it ends at once, and the job goes on.
#[test]
fn one_that_is_killed_in_apply() {
    for global in [false, true] {
        let (pool, gate, log) = (Arc::new(ThreadPool::new(1)), Gate::new(), Log::new());
        let (inner, inside, guard) = (Arc::clone(&pool), gate.clone(), log.guard("unwound"));
        let (sender, ended) = mpsc::channel();
        let caller = spawn(move || {
            let _guard = guard;
            let job = move || {
                inside.pass();
                sender.send("ended").unwrap();
            };
            if global { unblock(job) } else { inner.apply(job).unwrap() }
        });
        yield_now();
        assert!(caller.kill_wait(Some(LONG)));
        assert_eq!(log.take(), ["unwound"]);
        assert!(matches!(caller.join(), Err(JoinError::Killed)));
        assert_eq!(ended.try_recv(), Err(mpsc::TryRecvError::Empty));
        gate.open();
        assert_eq!(ended.recv(), Ok("ended"));
        finish(&pool);
    }
}

/// A time limit around `apply` or `unblock`.
#[test]
fn a_limit_ends_apply() {
    let (pool, gate) = (ThreadPool::new(1), Gate::new());
    let inside = gate.clone();
    let start = Instant::now();
    assert!(timeout(ms(3), || pool.apply(move || inside.pass())).is_err());
    let inside = gate.clone();
    assert!(timeout(ms(3), || unblock(move || inside.pass())).is_err());
    assert!(start.elapsed() >= ms(6));
    until(|| counts(&pool) == [1, 0, 0]);
    gate.open();
    // Nothing is left over that would end a later wait.
    sleep(ms(2));
    assert_eq!(pool.apply(|| 1), Ok(1));
    finish(&pool);
}

/// The result of a job whose caller was killed is dropped when the job has ended.
#[test]
fn a_result_that_nobody_awaits_any_more_is_dropped() {
    let (pool, gate) = (Arc::new(ThreadPool::new(1)), Gate::new());
    let (inner, inside) = (Arc::clone(&pool), gate.clone());
    let result = Arc::new(());
    let weak = Arc::downgrade(&result);
    let caller = spawn(move || {
        inner.apply(move || {
            inside.pass();
            result
        })
    });
    yield_now();
    assert!(caller.kill_wait(None));
    assert_eq!(weak.strong_count(), 1);
    gate.open();
    until(|| pool.idle() == 1);
    assert_eq!(weak.strong_count(), 0);
    finish(&pool);
}

/// A job may use coroutines of its own: a thread of a pool has a hub like any other.
#[test]
fn coroutines_in_a_job() {
    let pool = ThreadPool::new(1);
    for _ in 0..2 {
        let sum = pool.apply(|| {
            let parts = [1, 2, 3].map(|n| {
                spawn(move || {
                    sleep(ms(1));
                    n
                })
            });
            parts.into_iter().map(|part| part.join().unwrap()).sum::<u32>()
        });
        assert_eq!(sum, Ok(6));
    }
    finish(&pool);
}

// ------------------------------------------------------------------------------- without threads

/// {TestBeforeRunTaskFailure}: when no thread can be made that is said, and its place is not lost.
#[test]
#[cfg_attr(feature = "sanitizer", ignore = "its runtime needs address space")]
fn when_no_thread_can_be_made() {
    let output = in_child(|| {
        let pool = ThreadPool::new(1);
        let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: a place for a limit, and a limit, of the kind that the calls want.
        unsafe {
            libc::getrlimit(libc::RLIMIT_AS, &mut before);
            libc::setrlimit(libc::RLIMIT_AS, &libc::rlimit { rlim_cur: 1, ..before });
        }
        let said = catch_unwind(AssertUnwindSafe(|| pool.run(|| (), |_| ())));
        let queued = catch_unwind(AssertUnwindSafe(|| pool.spawn(|| ())));
        // SAFETY: as before.
        unsafe { libc::setrlimit(libc::RLIMIT_AS, &before) };
        let said = message(said.expect_err("no room for a stack"));
        assert!(said.contains("no thread could be started for a job"), "{said}");
        assert!(queued.is_err());
        assert_eq!(counts(&pool), [0, 0, 0]);
        assert_eq!(pool.apply(|| 5), Ok(5));
        finish(&pool);
        println!("all well");
    });
    let Some(output) = output else { return };
    assert!(printed(&output, 0).contains("all well"), "{output:#?}");
}

/// Its thread is idle before it hears of the end of its job.
#[test]
fn one_caller_of_apply_uses_one_thread() {
    let pool = ThreadPool::new(16);
    for n in 0..3000 {
        assert_eq!(pool.apply(move || n + 1), Ok(n + 1));
        assert_eq!(pool.live(), 1, "after {n} jobs");
    }
    finish(&pool);
}

/// As do as many callers as threads.
#[test]
fn two_callers_of_apply_use_two_threads() {
    let pool = Arc::new(ThreadPool::new(16));
    let callers: Vec<_> = (0..2)
        .map(|_| {
            let pool = Arc::clone(&pool);
            spawn(move || (0..1000).for_each(|n| assert_eq!(pool.apply(move || n), Ok(n))))
        })
        .collect();
    callers.into_iter().for_each(|caller| caller.join().unwrap());
    assert!(pool.live() <= 2, "{pool:?}");
    finish(&pool);
}

/// Its destructor panics with another one like it, so many times.
struct PanicsWhenDropped(u32);

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        if self.0 > 0 {
            std::panic::panic_any(PanicsWhenDropped(self.0 - 1));
        }
    }
}

#[test]
fn a_payload_whose_destructor_panics_ends_no_thread() {
    let pool = ThreadPool::new(1);
    let id = pool.apply(|| thread::current().id()).unwrap();
    for depth in [1, 2, 5] {
        let payload = move || std::panic::panic_any(PanicsWhenDropped(depth));
        // So that the handles are dropped before their jobs begin.
        let gate = Gate::new();
        let inside = gate.clone();
        pool.run(move || inside.pass(), |_| ()).unwrap();
        pool.run(payload, |_| ()).unwrap();
        pool.run(|| (), move |_| std::panic::panic_any(PanicsWhenDropped(depth))).unwrap();
        drop(pool.spawn(payload).unwrap());
        drop(pool.spawn(move || PanicsWhenDropped(depth)).unwrap());
        gate.open();
        assert_eq!(pool.apply(|| thread::current().id()), Ok(id));
    }
    assert_eq!(pool.live(), 1);
    finish(&pool);
}

// ------------------------------------------------------------------------- waiting for oneself

/// The panic that a job has ended by, within a time that is ample.
#[track_caller]
fn refusal<T: Send + 'static>(job: switchgrass::pool::JobHandle<T>) -> String {
    let mut job = job;
    match job.join_timeout(Duration::from_secs(10)).expect("it hangs") {
        Err(JoinError::Panicked(payload)) => message(payload),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was not refused"),
    }
}

#[test]
fn a_job_that_joins_its_own_pool_is_refused() {
    for in_coroutine in [false, true] {
        let pool = Arc::new(ThreadPool::new(2));
        let inner = Arc::clone(&pool);
        let job = pool.spawn(move || {
            inner.close();
            if in_coroutine {
                let join = spawn(move || panic_message(|| inner.join()));
                panic!("{}", join.join().unwrap());
            }
            inner.join().map_err(drop)
        });
        assert!(refusal(job.unwrap()).contains("joins its own pool"));
        pool.join().unwrap();
    }
}

#[test]
fn a_job_that_joins_itself_is_refused() {
    let pool = ThreadPool::new(2);
    let (sender, receiver) = mpsc::channel::<switchgrass::pool::JobHandle<()>>();
    let (out, told) = mpsc::channel();
    let job = pool.spawn(move || {
        let mut own = receiver.recv().unwrap();
        let limited = panic_message(|| own.join_timeout(ms(1)));
        out.send((limited, panic_message(|| own.join()))).unwrap();
    });
    sender.send(job.unwrap()).unwrap();
    let (limited, unlimited) = told.recv_timeout(Duration::from_secs(10)).expect("it hangs");
    assert!(limited.contains("joins itself") && unlimited.contains("joins itself"), "{unlimited}");
    finish(&pool);
}

/// Each thread runs a job that waits for one that no thread is left for.
#[test]
fn jobs_that_join_jobs_with_all_threads_busy_are_refused() {
    for (size, in_coroutine) in [(1, false), (3, false), (1, true), (2, true)] {
        let pool = Arc::new(ThreadPool::new(size));
        let begun = Arc::new(std::sync::Barrier::new(size));
        let jobs: Vec<_> = (0..size)
            .map(|_| {
                let (own, begun) = (Arc::clone(&pool), Arc::clone(&begun));
                let inner = move || {
                    begun.wait();
                    let job = own.spawn(|| 5).unwrap();
                    catch_unwind(AssertUnwindSafe(|| job.join().unwrap())).map_err(message)
                };
                let job = move || if in_coroutine { spawn(inner).join().unwrap() } else { inner() };
                pool.spawn(job).unwrap()
            })
            .collect();
        let results: Vec<_> = jobs
            .into_iter()
            .map(|mut job| job.join_timeout(Duration::from_secs(10)).expect("it hangs").unwrap())
            .collect();
        // The last one that would wait is told; its thread then does what the others wait for.
        let refused: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
        assert_eq!(refused.len(), 1, "{results:?}");
        assert!(refused[0].contains("no thread is left to run it"), "{refused:?}");
        assert!(results.iter().flatten().all(|value| *value == 5));
        finish(&pool);
    }
}

/// With a thread that is left, nobody is refused.
#[test]
fn a_job_may_join_a_job_that_a_thread_is_left_for() {
    let pool = Arc::new(ThreadPool::new(2));
    for _ in 0..200 {
        let inner = Arc::clone(&pool);
        let sum = pool.apply(move || {
            let parts: Vec<_> = (0..4_u32).map(|n| inner.spawn(move || n).unwrap()).collect();
            parts.into_iter().map(|part| part.join().unwrap()).sum::<u32>()
        });
        assert_eq!(sum, Ok(6));
    }
    finish(&pool);
}

/// The second would end the process, if the pool dropped them all together.
#[test]
fn jobs_whose_destructors_panic_are_all_dropped_when_a_pool_is_terminated() {
    struct Fails(std::sync::mpsc::Sender<()>);
    impl Drop for Fails {
        fn drop(&mut self) {
            self.0.send(()).unwrap();
            panic!("dropped");
        }
    }
    let pool = switchgrass::pool::ThreadPool::new(1);
    let gate = crate::support::Gate::new();
    let pass = gate.clone();
    let (sender, dropped) = std::sync::mpsc::channel();
    let begun = sender.clone();
    let first = pool.spawn(move || {
        begun.send(()).unwrap();
        pass.pass();
    });
    dropped.recv_timeout(std::time::Duration::from_secs(10)).unwrap();
    for _ in 0..3 {
        let fails = Fails(sender.clone());
        drop(pool.spawn(move || drop(fails)).unwrap());
    }
    assert_eq!(crate::support::panic_message(|| pool.terminate()), "dropped");
    assert_eq!(dropped.try_iter().count(), 3);
    gate.open();
    first.unwrap().join().unwrap();
    pool.join().unwrap();
}
