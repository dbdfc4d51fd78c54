//! Threads: each has its own greenlets, and unwinds them when it ends.

use crate::support::{Log, pause};
use std::cell::RefCell;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{self, Arc, mpsc};
use std::thread;
use switchgrass::coroutine::run_until_idle;
use switchgrass::net::{TcpListener, TcpStream};
use switchgrass::sync::{Barrier, Event, PriorityQueue, RLock, Semaphore};
use switchgrass::{
    BuildError, Builder, Generator, Greenlet, Local, SwitchError, current, greenlet, spawn,
    yield_now,
};

/// {test_threads}: ten threads run the simple test.
#[test]
fn test_threads() {
    let threads: Vec<_> = (0..10)
        .map(|_| {
            thread::spawn(|| {
                let log = Log::new();
                let inside = log.clone();
                let g = Greenlet::new(move |()| {
                    inside.add(1);
                    pause();
                    inside.add(3);
                });
                log.add(0);
                g.switch(());
                log.add(2);
                g.switch(());
                log.add(4);
                log.take()
            })
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), ["0", "1", "2", "3", "4"]);
    }
}

/// {test_thread_bug}: greenlets are suspended on two threads at the same time.
#[test]
fn test_thread_bug() {
    let both_suspended = Arc::new(sync::Barrier::new(2));
    let threads = [1_u32, 2].map(|number| {
        let both_suspended = Arc::clone(&both_suspended);
        thread::spawn(move || {
            let g = Greenlet::new(move |first: u32| -> u32 {
                let second: u32 = current().parent().unwrap().switch_any(first + number);
                second * number
            });
            assert_eq!(g.switch(10), 10 + number);
            both_suspended.wait();
            let result = g.switch(100);
            both_suspended.wait();
            result
        })
    });
    assert_eq!(threads.map(|thread| thread.join().unwrap()), [100, 200]);
}

/// {test_switching_many_threads}: sixteen threads own suspended greenlets while sixteen others make,
/// switch and drop their own. A handle cannot be had on another thread (see the documentation tests of
/// `Greenlet`), so that all there is to show is that nobody disturbs anybody.
#[test]
fn test_switching_many_threads() {
    let barrier = Arc::new(sync::Barrier::new(32));
    let owners = (0..16_usize).map(|number| {
        let barrier = Arc::clone(&barrier);
        thread::spawn(move || {
            let all: Vec<Greenlet<usize, usize>> = (0..50)
                .map(|_| {
                    Greenlet::new(|mut value: usize| -> usize {
                        loop {
                            value = current().parent().unwrap().switch_any(value + 1);
                        }
                    })
                })
                .collect();
            all.iter().for_each(|g| assert_eq!(g.switch(number), number + 1));
            barrier.wait();
            for round in 0..200 {
                all.iter().for_each(|g| assert_eq!(g.switch(round), round + 1));
            }
            assert_eq!(greenlet::live_count(), 50);
            drop(all);
            greenlet::live_count()
        })
    });
    let disturbers = (0..16).map(|_| {
        let barrier = Arc::clone(&barrier);
        thread::spawn(move || {
            barrier.wait();
            for round in 0..2_000_u32 {
                let g = Greenlet::new(move |n: u32| n + round);
                assert_eq!(g.switch(1), round + 1);
                let suspended = Greenlet::new(|()| pause());
                suspended.switch(());
            }
            greenlet::live_count()
        })
    });
    let threads: Vec<_> = owners.chain(disturbers).collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), 0);
    }
}

/// Says, when it is dropped, on which thread, and whether a greenlet runs there.
struct Witness(mpsc::Sender<(thread::ThreadId, &'static str)>, &'static str);

impl Drop for Witness {
    fn drop(&mut self) {
        self.0.send((thread::current().id(), self.1)).unwrap();
    }
}

thread_local! {
    static KEPT: RefCell<Vec<Greenlet<(), ()>>> = const { RefCell::new(Vec::new()) };
}

/// {test_finally_block_during_thread_exit, test_greenlet_cleanup_during_thread_exit}
#[test]
fn test_finally_block_during_thread_exit() {
    for keep_first in [true, false] {
        let (sender, receiver) = mpsc::channel();
        let thread = thread::spawn(move || {
            if keep_first {
                // The thread-local is made before the library is first used, so that it is dropped
                // on the other side of the library's own.
                KEPT.with_borrow_mut(Vec::clear);
            }
            let witness = Witness(sender.clone(), "suspended");
            let suspended = Greenlet::new(move |()| {
                let _witness = witness;
                pause();
            });
            suspended.switch(());
            let witness = Witness(sender.clone(), "unstarted");
            let unstarted = Greenlet::new(move |()| drop(witness));
            let witness = Witness(sender, "forgotten");
            let forgotten = Greenlet::new(move |()| {
                let _witness = witness;
                pause();
            });
            forgotten.switch(());
            std::mem::forget(forgotten);
            KEPT.with_borrow_mut(|kept| kept.extend([suspended, unstarted]));
        });
        let id = thread.thread().id();
        thread.join().unwrap();
        let mut seen: Vec<_> = receiver.try_iter().collect();
        seen.sort_by_key(|(_, what)| *what);
        assert_eq!(seen, [(id, "forgotten"), (id, "suspended"), (id, "unstarted")]);
    }
}

static AFTER_THE_END: AtomicUsize = AtomicUsize::new(0);

struct UsesTheLibrary(Option<Greenlet<(), ()>>);

impl Drop for UsesTheLibrary {
    fn drop(&mut self) {
        let kept = self.0.take().unwrap();
        let Err(BuildError::ThreadEnded) = Builder::new().build(|()| ()) else { return };
        assert!(kept.is_dead());
        assert!(matches!(kept.try_switch(()), Err(SwitchError::ThreadEnded { .. })));
        assert!(matches!(kept.throw("x"), Err(SwitchError::ThreadEnded { .. })));
        assert_eq!(greenlet::live_count(), 0);
        assert!(format!("{kept:?}").ends_with("dead)"));
        drop(kept);
        AFTER_THE_END.fetch_add(1, SeqCst);
    }
}

thread_local! {
    static USES: RefCell<Option<UsesTheLibrary>> = const { RefCell::new(None) };
}

/// Destructors of thread-local variables, before and after the library's own: the latter have handles of
/// greenlets whose thread has ended.
#[test]
fn test_throw_to_dead_thread_doesnt_crash() {
    for library_first in [true, false] {
        thread::spawn(move || {
            if !library_first {
                USES.with_borrow(|_| ());
            }
            let g = Greenlet::new(|()| pause());
            g.switch(());
            USES.set(Some(UsesTheLibrary(Some(g))));
        })
        .join()
        .unwrap();
    }
    assert_eq!(AFTER_THE_END.load(SeqCst), 1, "one of the orders is the one that is meant");
}

/// Destructors that run at the thread's end may make greenlets and switch to them.
#[test]
fn greenlets_are_made_at_a_threads_end() {
    struct MakesAnother(mpsc::Sender<u32>);
    impl Drop for MakesAnother {
        fn drop(&mut self) {
            let g = Greenlet::new(|n: u32| n + 1);
            g.set_parent(&current()).unwrap();
            self.0.send(g.switch(1)).unwrap();
        }
    }
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let maker = MakesAnother(sender);
        let g = Greenlet::new(move |()| {
            let _maker = maker;
            pause();
        });
        g.switch(());
        std::mem::forget(g);
    })
    .join()
    .unwrap();
    assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [2]);
}

/// The library is first used by a destructor while its thread unwinds.
#[test]
fn the_first_use_is_during_a_panic() {
    struct Uses(mpsc::Sender<bool>);
    impl Drop for Uses {
        fn drop(&mut self) {
            let inside = Greenlet::new(|()| thread::panicking()).switch(());
            self.0.send(inside).unwrap();
            self.0.send(thread::panicking()).unwrap();
        }
    }
    let (sender, receiver) = mpsc::channel();
    let result = thread::spawn(move || {
        let _uses = Uses(sender);
        std::panic::resume_unwind(Box::new(()));
    })
    .join();
    assert!(result.is_err());
    assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [false, true]);
}

/// Which of the two it finds depends on the order in which the thread-local variables were first used: on
/// Linux std drops the last first. Both are asserted, so that neither goes untested.
#[test]
fn what_a_destructor_finds_at_a_threads_end() {
    struct Finds(Greenlet<(), ()>, mpsc::Sender<&'static str>);
    impl Drop for Finds {
        fn drop(&mut self) {
            let found = match Builder::new().build(|n: u32| n + 1) {
                Ok(made) => {
                    assert_eq!(made.switch(1), 2);
                    assert!(self.0.is_active());
                    self.0.switch(());
                    "a library that works"
                }
                Err(BuildError::ThreadEnded) => {
                    let sent = self.0.try_switch(());
                    assert!(matches!(sent, Err(SwitchError::ThreadEnded { value: () })));
                    "a library that has ended"
                }
                Err(error) => panic!("{error}"),
            };
            assert!(self.0.is_dead());
            self.1.send(found).unwrap();
        }
    }
    thread_local! {
        static FINDS: RefCell<Option<Finds>> = const { RefCell::new(None) };
    }
    let found = [true, false].map(|library_first| {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            if !library_first {
                FINDS.with_borrow(|_| ());
            }
            let g = Greenlet::new(|()| pause());
            g.switch(());
            FINDS.set(Some(Finds(g, sender)));
        })
        .join()
        .unwrap();
        receiver.try_iter().collect::<Vec<_>>()
    });
    assert_eq!(found, [["a library that works"], ["a library that has ended"]]);
}

/// A thread that uses the library for the first time in a destructor of a thread-local variable: what it
/// leaves suspended is unwound all the same.
#[test]
fn the_first_use_is_at_a_threads_end() {
    struct Uses(mpsc::Sender<(thread::ThreadId, &'static str)>);
    impl Drop for Uses {
        fn drop(&mut self) {
            let witness = Witness(self.0.clone(), "unwound");
            let g = Greenlet::new(move |()| {
                let _witness = witness;
                pause();
            });
            g.switch(());
            self.0.send((thread::current().id(), "suspended")).unwrap();
            std::mem::forget(g);
        }
    }
    thread_local! {
        static FIRST: RefCell<Option<Uses>> = const { RefCell::new(None) };
    }
    let (sender, receiver) = mpsc::channel();
    let thread = thread::spawn(move || FIRST.set(Some(Uses(sender))));
    let id = thread.thread().id();
    thread.join().unwrap();
    assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [(id, "suspended"), (id, "unwound")]);
}

/// A thread's end unwinds as a drop does: inner guards first, generators as well, and then main's locals.
#[test]
fn everything_ends_with_its_thread() {
    static KEPT_BY_MAIN: Local<RefCell<Option<Witness>>> = Local::new(|| RefCell::new(None));
    let (sender, receiver) = mpsc::channel();
    let thread = thread::spawn(move || {
        let witness = |what| Witness(sender.clone(), what);
        KEPT_BY_MAIN.with(|kept| kept.replace(Some(witness("main's local"))));
        let (outer, inner) = (witness("outer guard"), witness("inner guard"));
        let mut numbers = Generator::new(move |y| {
            let _outer = outer;
            let _inner = inner;
            (0..99).for_each(|n: u32| y.yield_(n));
        });
        assert_eq!(numbers.next(), Some(0));
        std::mem::forget(numbers);
    });
    let id = thread.thread().id();
    thread.join().unwrap();
    let expected = ["inner guard", "outer guard", "main's local"].map(|what| (id, what));
    assert_eq!(receiver.try_iter().collect::<Vec<_>>(), expected);
}

/// Calls a function when it is dropped, and notes that it has returned.
struct AtEnd<F: FnOnce()>(Option<F>, Arc<AtomicUsize>);

impl<F: FnOnce()> Drop for AtEnd<F> {
    fn drop(&mut self) {
        self.0.take().unwrap()();
        self.1.fetch_add(1, SeqCst);
    }
}

/// Runs `body` on a thread, and what it returns in a destructor of a thread-local variable, after the library
/// has ended its part of the thread.
#[track_caller]
fn after_the_library(body: impl FnOnce() -> Box<dyn FnOnce()> + Send + 'static) {
    type Slot = RefCell<Option<AtEnd<Box<dyn FnOnce()>>>>;
    thread_local! {
        static SLOT: Slot = const { RefCell::new(None) };
    }
    let done = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&done);
    let thread = thread::spawn(move || {
        // Before the library is first used.
        SLOT.set(None);
        let f = body();
        SLOT.set(Some(AtEnd(Some(f), count)));
    });
    thread.join().unwrap();
    assert_eq!(done.load(SeqCst), 1);
}

/// They had caught what they were killed with, and are left where they wait.
#[test]
fn setting_an_event_after_the_end_of_the_thread_does_not_abort() {
    after_the_library(|| {
        let (event, semaphore) = (Rc::new(Event::new()), Rc::new(Semaphore::new(0)));
        let (waits, acquires) = (Rc::clone(&event), Rc::clone(&semaphore));
        drop(spawn(move || {
            loop {
                let _ = catch_unwind(AssertUnwindSafe(|| waits.wait()));
            }
        }));
        drop(spawn(move || {
            loop {
                let _ = catch_unwind(AssertUnwindSafe(|| acquires.acquire()));
            }
        }));
        yield_now();
        Box::new(move || {
            event.set();
            semaphore.release();
            assert!(event.is_set());
        })
    });
}

/// With greenlets, and no coroutines.
#[test]
fn a_priority_queue_after_the_end_of_the_thread_does_not_panic() {
    after_the_library(|| {
        Greenlet::<(), ()>::new(|()| ()).switch(());
        Box::new(|| {
            let queue = PriorityQueue::priority();
            queue.try_put(2).unwrap();
            queue.try_put(1).unwrap();
            assert_eq!(queue.try_get().unwrap(), 1);
        })
    });
}

#[test]
fn what_need_not_wait_after_the_end_of_the_thread_does_not_panic() {
    after_the_library(|| {
        yield_now();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut other, _) = listener.accept().unwrap();
        Box::new(move || {
            let lock = RLock::new();
            let (outer, inner) = (lock.lock(), lock.lock());
            assert_eq!(lock.depth(), 2);
            drop((outer, inner));
            assert!(lock.try_lock().is_some());
            assert!(Barrier::new(1).wait().unwrap().is_leader());
            assert!(Barrier::shared(1).wait().unwrap().is_leader());
            yield_now();
            run_until_idle();
            assert_eq!(other.write(b"x").unwrap(), 1);
            other.close();
            stream.close();
            listener.close();
        })
    });
}
