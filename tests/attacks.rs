//! Programs in safe code that once read memory that was not theirs, ran a thread at 100 %, or hung it. Each runs
//! in a process of its own: the test starts this executable again with its own name as the filter.

use std::cell::{Cell, RefCell};
use std::env;
use std::hint::{black_box, spin_loop};
use std::io::Read;
use std::marker::PhantomData;
use std::mem;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};
use switchgrass::coroutine::{LinkId, scope};
use switchgrass::greenlet::TraceEvent;
use switchgrass::pool::Pool;
use switchgrass::sync::Event;
use switchgrass::{
    AnyWeakGreenlet, Builder, Generator, Greenlet, current, greenlet, sleep, spawn, timeout,
    yield_now,
};

/// Set in a process that a test has started.
const CHILD: &str = "SWITCHGRASS_ATTACKS_CHILD";

/// A process that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(20);

/// What became of a process.
#[derive(Debug)]
struct Ended {
    /// `None` if it did not end, and was killed.
    status: Option<ExitStatus>,
    /// Of all of its threads.
    cpu_time: Duration,
    /// The most memory that it has used, in bytes.
    memory: u64,
    stderr: String,
}

/// Runs `body` in a new process, and calls `check` with what became of that.
fn in_child(body: impl FnOnce(), check: impl FnOnce(&Ended)) {
    if env::var_os(CHILD).is_some() {
        return body();
    }
    let current = thread::current();
    let test = current.name().expect("the harness names threads after tests");
    let child = Command::new(env::current_exe().expect("this test runs"))
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, "")
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    check(&wait_for(child.expect("this test can run again")));
}

fn wait_for(mut child: Child) -> Ended {
    let mut errors = child.stderr.take().expect("a pipe");
    let errors = thread::spawn(move || {
        // No more than can be printed: a process that spins may write without end.
        let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
        while let Ok(count @ 1..) = errors.read(&mut buffer) {
            if all.len() < 64 << 10 {
                all.extend_from_slice(&buffer[..count]);
            }
        }
        String::from_utf8_lossy(&all).into_owned()
    });
    let start = Instant::now();
    let mut is_killed = false;
    let (status, usage) = loop {
        let mut status = 0;
        // SAFETY: a structure of numbers, and two places to write to; the process is a child of this one that
        // nobody else waits for.
        let (ended, usage) = unsafe {
            let mut usage: libc::rusage = mem::zeroed();
            let id = child.id().cast_signed();
            (libc::wait4(id, &mut status, libc::WNOHANG, &mut usage), usage)
        };
        if ended > 0 {
            break (ExitStatus::from_raw(status), usage);
        }
        if start.elapsed() > LIMIT && !is_killed {
            is_killed = true;
            child.kill().expect("it has not been waited for");
        }
        thread::sleep(Duration::from_millis(5));
    };
    let time = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
    };
    Ended {
        status: (!is_killed).then_some(status),
        cpu_time: time(usage.ru_utime) + time(usage.ru_stime),
        memory: usage.ru_maxrss as u64 * 1024,
        stderr: errors.join().expect("a reader"),
    }
}

impl Ended {
    /// It came to its end by itself, and what it asserted was so.
    #[track_caller]
    fn is_success(&self) {
        assert!(self.status.is_some_and(|status| status.success()), "{self:#?}");
    }

    #[track_caller]
    fn took_less_than(&self, limit: Duration) {
        assert!(self.cpu_time < limit, "{self:#?}");
    }
}

/// Switches to `target`, and awaits a `String` that nobody sends. What comes must not be one: it would be made of
/// memory that was never written. Whether it was.
fn is_sent_garbage(target: &AnyWeakGreenlet) -> bool {
    match catch_unwind(AssertUnwindSafe(|| target.try_switch_any::<(), String>(()))) {
        Ok(Ok(garbage)) => {
            // It points anywhere.
            mem::forget(garbage);
            true
        }
        _ => false,
    }
}

// ------------------------------------------------------------------------------------ memory

/// The parent of an ended greenlet has not begun, and cannot take the result: its body is dropped while the heir
/// is looked for. That switches away, and meanwhile the ended greenlet is dropped. Right: its end goes to the one
/// that drops it, or to `z` as an error. `z` awaits a `String`, and there is none.
#[test]
fn dropping_a_greenlet_whose_heir_is_being_chosen_sends_nobody_garbage() {
    struct SwitchesTo(AnyWeakGreenlet);
    impl Drop for SwitchesTo {
        fn drop(&mut self) {
            let _ = self.0.try_switch_any::<(), ()>(());
        }
    }
    let body = || {
        let main = current();
        let garbage = Rc::new(Cell::new(false));
        let z: Greenlet<String, ()> = Greenlet::new({
            let (main, garbage) = (main.clone(), Rc::clone(&garbage));
            move |_| garbage.set(is_sent_garbage(&main))
        });
        z.switch(String::from("a String"));
        let parent: Greenlet<u64, u64> = Greenlet::new({
            let captured = SwitchesTo(main);
            move |number: u64| {
                let _captured = &captured;
                number
            }
        });
        parent.set_parent(&z).unwrap();
        let child: Greenlet<(), ()> = Builder::new().parent(&parent).build(|()| ()).unwrap();
        child.switch(());
        let weak = child.downgrade();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(child)));
        assert!(weak.is_dead());
        assert!(!garbage.get(), "z was sent a String that nobody has made");
    };
    in_child(body, Ended::is_success);
}

/// Main drops a greenlet, and is brought back early by a value that it does not await, whose destructor resumes
/// that greenlet. It ends. Right: main was not waiting for the end any more, so that its switch fails.
#[test]
fn a_dropper_that_came_back_early_is_sent_no_garbage() {
    thread_local!(static GARBAGE: Cell<Option<bool>> = const { Cell::new(None) });
    struct Sent(AnyWeakGreenlet);
    impl Drop for Sent {
        fn drop(&mut self) {
            GARBAGE.set(Some(is_sent_garbage(&self.0)));
        }
    }
    let body = || {
        let main = current();
        let greenlet: Greenlet<(), u64> = Greenlet::new(move |()| {
            let _ = catch_unwind(AssertUnwindSafe(|| main.switch_any::<(), ()>(())));
            let me = current();
            let _ = catch_unwind(AssertUnwindSafe(|| main.switch_any::<Sent, ()>(Sent(me))));
            7
        });
        // Begins it, and drops it.
        greenlet.erase().switch_any::<(), ()>(());
        assert_eq!(GARBAGE.get(), Some(false), "main was sent a String that nobody has made");
    };
    in_child(body, Ended::is_success);
}

/// Main drops B, and X unwinds it as well; main's wait ends first. Right: B's end is nothing that main, or X,
/// still waits for, so that the switch of main, which awaits a `String`, fails.
#[test]
fn two_that_unwind_the_same_greenlet_are_sent_no_garbage() {
    let body = || {
        let main = current();
        let other: Rc<RefCell<Option<AnyWeakGreenlet>>> = Rc::default();
        let b: Greenlet<(), u64> = Greenlet::new({
            let (main, other) = (main.clone(), Rc::clone(&other));
            move |()| -> u64 {
                let wait = |to: &AnyWeakGreenlet| {
                    let _ = catch_unwind(AssertUnwindSafe(|| to.switch_any::<(), ()>(())));
                };
                wait(&main); // is dropped here
                let x = other.borrow().clone().unwrap();
                wait(&x); // has caught the exit, and is unwound once more
                wait(&main); // has caught that, too: main, which awaits anything, goes on
                7
            }
        });
        let weak = b.downgrade();
        let x: Greenlet<(), ()> = Greenlet::new({
            let weak = weak.clone();
            move |()| {
                greenlet::unwind_all();
                let _ = weak.try_switch_any::<(), ()>(());
            }
        });
        let erased = x.upgrade().unwrap().erase().downgrade();
        *other.borrow_mut() = Some(erased.clone());
        b.erase().switch_any::<(), ()>(());
        assert!(!is_sent_garbage(&erased), "main was sent a String that nobody has made");
    };
    in_child(body, Ended::is_success);
}

/// A coroutine catches the kill at its thread's end, and waits again: it is suspended in a frame of the hub's. Right:
/// the thread ends, and whether the coroutine is unwound or left as it is, no frame runs that belongs to a hub that
/// is gone. AddressSanitizer sees it if one does.
#[test]
fn a_coroutine_that_waits_at_the_end_of_its_thread_does_not_run_in_a_freed_hub() {
    let body = || {
        for _ in 0..3 {
            let thread = thread::spawn(|| {
                let main = current();
                spawn(move || {
                    let hour = Duration::from_secs(3600);
                    let _ = catch_unwind(AssertUnwindSafe(|| sleep(hour)));
                    // Gives the thread back to the one that ends it, when this one waits.
                    let main = main.clone();
                    spawn(move || main.switch_any::<(), ()>(()));
                    sleep(hour);
                });
                yield_now();
            });
            thread.join().unwrap();
        }
    };
    in_child(body, Ended::is_success);
}

// ------------------------------------------------------------------------------------ state of others

/// A coroutine that is killed before it begins is queued at that moment. Right: the greenlet that gets its block
/// is not, and is woken as any.
#[test]
fn a_generator_sleeps_and_is_woken_after_a_coroutine_was_killed_before_it_began() {
    let body = || {
        let numbers = || {
            let mut numbers = Generator::new(|y| {
                sleep(Duration::from_millis(1));
                y.yield_(1);
            });
            numbers.next()
        };
        let kill_before_the_start = || {
            let killed = spawn(|| unreachable!());
            killed.kill();
            drop(killed);
        };
        kill_before_the_start();
        yield_now();
        assert_eq!(numbers(), Some(1));
        // Keeps the hub from seeing a deadlock: main would wait indefinitely.
        let ticker = spawn(|| {
            loop {
                sleep(Duration::from_millis(100));
            }
        });
        kill_before_the_start();
        sleep(Duration::from_millis(1));
        assert_eq!(timeout(Duration::from_secs(10), numbers), Ok(Some(1)));
        ticker.kill_wait(None);
    };
    in_child(body, Ended::is_success);
}

/// Right: the id names a link of one coroutine of this thread, and no other, and cannot leave the thread.
#[test]
fn a_link_id_takes_off_no_link_of_another_coroutine() {
    struct Is<T>(PhantomData<T>);
    #[allow(dead_code, reason = "one of the two constants is used")]
    trait NotSend {
        const SEND: bool = false;
    }
    impl<T> NotSend for Is<T> {}
    #[allow(dead_code, reason = "one of the two constants is used")]
    impl<T: Send> Is<T> {
        const SEND: bool = true;
    }
    let may_leave_its_thread = black_box(Is::<LinkId>::SEND);
    assert!(!may_leave_its_thread, "one of another thread may have the number of a link here");
    let body = || {
        let other = spawn(|| ());
        let ids: Vec<_> = (0..200).map(|_| other.link_in_hub(|| ())).collect();
        // The library's own links: a place in a pool, a member of a scope.
        let pool = Pool::new(1);
        let member = pool.spawn(|| ());
        assert_eq!(ids.iter().filter(|id| member.unlink(**id)).count(), 0);
        member.join().unwrap();
        pool.spawn_timeout(|| (), Duration::from_secs(10)).map_err(drop).expect("there is room");
        scope(|scope| {
            let member = scope.spawn(yield_now).coroutine();
            assert_eq!(ids.iter().filter(|id| member.unlink(**id)).count(), 0);
        });
        assert_eq!(ids.iter().filter(|id| other.unlink(**id)).count(), 0, "they have run");
    };
    in_child(body, Ended::is_success);
}

// ------------------------------------------------------------------------------------ hangs

/// A greenlet drops the last handle of its parent, whose destructor waits. The dropper stands in for the parent:
/// on the way up from the one that waits, the links then form a cycle. Right: it waits, and main goes on.
#[test]
fn a_destructor_waits_in_a_greenlet_that_its_own_child_drops() {
    struct Waits(Rc<Cell<bool>>);
    impl Drop for Waits {
        fn drop(&mut self) {
            sleep(Duration::from_millis(1));
            self.0.set(true);
        }
    }
    let body = || {
        sleep(Duration::from_millis(1));
        let has_waited = Rc::new(Cell::new(false));
        let slot: Rc<RefCell<Option<Greenlet<(), ()>>>> = Rc::default();
        let parent: Greenlet<(), ()> = Greenlet::new({
            let (slot, waits) = (Rc::clone(&slot), Waits(Rc::clone(&has_waited)));
            move |()| {
                let _waits = waits;
                let me = slot.take().unwrap();
                let child: Greenlet<(), ()> = Greenlet::new(move |()| drop(me));
                child.switch(());
            }
        });
        let weak = parent.downgrade();
        slot.replace(Some(parent));
        let _ = weak.try_switch(());
        assert!(weak.is_dead());
        assert!(has_waited.get());
    };
    in_child(body, Ended::is_success);
}

/// A coroutine makes a greenlet and ends; the greenlet panics. Its parent is the hub by then. Right: main, which
/// has switched to it, gets the panic, or it is reported; the hub goes on, so that main can sleep.
#[test]
fn main_sleeps_after_a_greenlet_whose_maker_has_ended_panics() {
    let body = || {
        let slot: Rc<RefCell<Option<Greenlet<(), ()>>>> = Rc::default();
        let place = Rc::clone(&slot);
        let maker = spawn(move || {
            place.replace(Some(Greenlet::new(|()| panic!("on purpose"))));
        });
        maker.join().unwrap();
        let greenlet = slot.take().unwrap();
        let _ = catch_unwind(AssertUnwindSafe(|| greenlet.switch(())));
        assert!(greenlet.is_dead());
        let start = Instant::now();
        sleep(Duration::from_millis(10));
        assert!(start.elapsed() >= Duration::from_millis(10));
        assert_eq!(spawn(|| 5).join().unwrap(), 5);
    };
    in_child(body, |ended| {
        ended.is_success();
        ended.took_less_than(Duration::from_secs(2));
    });
}

/// A member of a scope refuses to end, and waits for what never comes. Right: nobody can go on, so the process ends
/// with a message, or it waits: but it does not run, and its memory does not grow.
#[test]
fn a_scope_that_cannot_end_takes_no_time_and_no_memory() {
    let body = || {
        std::panic::set_hook(Box::new(|_| ()));
        let never = Event::new();
        scope(|scope| {
            scope.spawn(|| {
                loop {
                    let _ = catch_unwind(AssertUnwindSafe(|| never.wait()));
                }
            });
        });
    };
    in_child(body, |ended| {
        ended.took_less_than(Duration::from_secs(1));
        assert!(ended.memory < 256 << 20, "{ended:#?}");
        if ended.status.is_some() {
            assert!(ended.stderr.contains("scope"), "{ended:#?}");
        }
    });
}

/// A trace hook panics when the hub's greenlet begins. Right: main gets the panic, or it is reported; the hub goes on.
#[test]
fn main_sleeps_after_a_trace_hook_has_panicked_where_the_hub_began() {
    let body = || {
        greenlet::set_trace(Some(Rc::new(|_| panic!("on purpose"))));
        let _ = catch_unwind(|| sleep(Duration::from_millis(1)));
        greenlet::set_trace(None);
        let start = Instant::now();
        sleep(Duration::from_millis(10));
        assert!(start.elapsed() >= Duration::from_millis(10));
        assert_eq!(spawn(|| 5).join().unwrap(), 5);
    };
    in_child(body, |ended| {
        ended.is_success();
        ended.took_less_than(Duration::from_secs(2));
    });
}

/// A trace hook waits where main arrives from a wait of its own. Right: the hook is woken, and then main is.
#[test]
fn a_trace_hook_that_waits_is_woken() {
    let body = || {
        let (main, has_waited) = (current(), Rc::new(Cell::new(None)));
        let tell = Rc::clone(&has_waited);
        let hook = move |event: &TraceEvent| {
            let TraceEvent::Switch { to, .. } = event else { return };
            if *to == main && tell.get().is_none() {
                tell.set(Some(false));
                sleep(Duration::from_millis(1));
                tell.set(Some(true));
            }
        };
        let other = spawn(|| ());
        greenlet::set_trace(Some(Rc::new(hook)));
        yield_now();
        greenlet::set_trace(None);
        assert_eq!(has_waited.get(), Some(true));
        other.join().unwrap();
    };
    in_child(body, |ended| {
        ended.is_success();
        ended.took_less_than(Duration::from_secs(2));
    });
}

/// A generator that waits is used in a callback that runs in the hub. Right: that is refused, and main goes on.
#[test]
fn main_sleeps_after_a_generator_has_waited_in_a_callback_in_the_hub() {
    let body = || {
        let coroutine = spawn(|| ());
        coroutine.link_in_hub(|| {
            let mut numbers = Generator::new(|y| {
                sleep(Duration::from_millis(1));
                y.yield_(1);
            });
            assert_ne!(numbers.next(), Some(1), "a callback in the hub has waited");
        });
        let start = Instant::now();
        sleep(Duration::from_millis(10));
        assert!(start.elapsed() >= Duration::from_millis(10));
    };
    in_child(body, |ended| {
        ended.is_success();
        ended.took_less_than(Duration::from_secs(2));
    });
}

// ------------------------------------------------------------------------------------ losses

/// A greenlet switches to itself with a value, and the trace hook panics. Right: the value is dropped.
#[test]
fn a_value_that_is_sent_to_oneself_is_dropped_when_a_trace_hook_panics() {
    struct Counts(Rc<Cell<u32>>);
    impl Drop for Counts {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    let body = || {
        let drops = Rc::new(Cell::new(0));
        let sent = Counts(Rc::clone(&drops));
        greenlet::set_trace(Some(Rc::new(|_| panic!("on purpose"))));
        let switched = catch_unwind(AssertUnwindSafe(|| {
            current().switch_any::<Counts, Counts>(sent);
        }));
        greenlet::set_trace(None);
        assert!(switched.is_err());
        assert_eq!(drops.get(), 1);
    };
    in_child(body, Ended::is_success);
}

/// So that the assertions about processor time mean something.
#[test]
fn a_process_that_computes_is_seen_to_compute() {
    let body = || {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(300) {
            spin_loop();
        }
    };
    in_child(body, |ended| {
        ended.is_success();
        assert!(ended.cpu_time > Duration::from_millis(20), "{ended:#?}");
    });
}
