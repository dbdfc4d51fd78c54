//! Threads that coroutines wait for, and that the process waits for at its end.

use crate::support::{Gate, LONG, Log, in_child, message, ms, printed};
use std::process::exit;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::sleep as block;
use std::time::{Duration, Instant};
use switchgrass::thread::{self, Builder};
use switchgrass::{JoinError, sleep, spawn, timeout, yield_now};

// ----------------------------------------------------------------------------------------- join

/// The other coroutines run meanwhile.
#[test]
fn join_lets_others_run() {
    let (gate, log) = (Gate::new(), Log::new());
    let inside = gate.clone();
    let handle = thread::spawn(move || {
        inside.pass();
        5
    });
    let other = log.clone();
    spawn(move || {
        other.add("other 1");
        yield_now();
        other.add("other 2");
        gate.open();
    });
    assert!(!handle.is_finished());
    log.add("joins");
    assert_eq!(handle.join().unwrap(), 5);
    log.add("joined");
    assert_eq!(log.take(), ["joins", "other 1", "other 2", "joined"]);
}

/// It would wait for itself.
#[test]
fn a_thread_that_joins_itself_is_refused() {
    let (give, given) = mpsc::channel::<thread::JoinHandle<()>>();
    let (tell, told) = mpsc::channel();
    let handle = thread::spawn(move || {
        let mut own = given.recv().unwrap();
        let refused = |join: &mut dyn FnMut()| {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(join));
            message(result.expect_err("it is refused"))
        };
        tell.send(refused(&mut || drop(own.join_timeout(LONG)))).unwrap();
        let mut own = Some(own);
        tell.send(refused(&mut || drop(own.take().unwrap().join()))).unwrap();
    });
    give.send(handle).unwrap();
    for _ in 0..2 {
        let said = told.recv_timeout(Duration::from_secs(10)).expect("it does not hang");
        assert!(said.starts_with("a thread that joins itself would wait for itself"), "{said}");
    }
}

#[test]
fn join_timeout_gives_up_and_can_be_repeated() {
    let gate = Gate::new();
    let inside = gate.clone();
    let mut handle = thread::spawn(move || inside.pass());
    let start = Instant::now();
    assert!(handle.join_timeout(ms(3)).is_none() && start.elapsed() >= ms(3));
    assert!(handle.join_timeout(Duration::ZERO).is_none());
    assert!(timeout(ms(3), || handle.join_timeout(LONG)).is_err());
    gate.open();
    handle.join_timeout(LONG).expect("it ends").unwrap();
    assert!(handle.is_finished());
}

/// A thread's panic is an error of its join, and nothing else.
#[test]
fn a_panic_is_the_result() {
    let mut handle = thread::spawn(|| -> u32 { panic!("failing") });
    let result = handle.join_timeout(LONG).expect("it ends");
    assert_eq!(message(result.unwrap_err()), "failing");
    let handle = thread::spawn(|| -> u32 { std::panic::panic_any(7_u8) });
    assert_eq!(handle.join().unwrap_err().downcast_ref(), Some(&7_u8));
}

/// One that is killed while it joins ends at once; the thread goes on.
#[test]
fn one_that_is_killed_in_join() {
    let (gate, log) = (Gate::new(), Log::new());
    let (inside, guard) = (gate.clone(), log.guard("unwound"));
    let (sender, ended) = mpsc::channel();
    let handle = thread::spawn(move || {
        inside.pass();
        sender.send("ended").unwrap();
    });
    let joiner = spawn(move || {
        let _guard = guard;
        handle.join().unwrap();
    });
    yield_now();
    assert!(joiner.kill_wait(None));
    assert_eq!(log.take(), ["unwound"]);
    assert!(matches!(joiner.join(), Err(JoinError::Killed)));
    gate.open();
    assert_eq!(ended.recv(), Ok("ended"));
}

#[test]
fn a_builder_says_how() {
    let builder = Builder::new().name("worker").stack_size(1 << 20).daemon(true);
    let handle = builder.spawn(|| std::thread::current().name().map(str::to_owned)).unwrap();
    assert_eq!(handle.thread().name(), Some("worker"));
    assert!(format!("{handle:?}").contains("worker"), "{handle:?}");
    assert_eq!(handle.join().unwrap().as_deref(), Some("worker"));
}

/// What a body captures is dropped by the end; what it returns, by whoever takes it.
#[test]
fn nothing_is_kept() {
    let (argument, result) = (Arc::new(1), Arc::new(2));
    let weak = (Arc::downgrade(&argument), Arc::downgrade(&result));
    let handle = thread::spawn(move || {
        drop(argument);
        result
    });
    let taken = handle.join().unwrap();
    assert_eq!((weak.0.strong_count(), weak.1.strong_count()), (0, 1));
    drop(taken);
    assert_eq!(weak.1.strong_count(), 0);
}

/// A thread has coroutines of its own, which wait for threads in turn.
#[test]
fn threads_that_wait_for_threads() {
    let sum = thread::spawn(|| {
        let parts = [1, 2, 3].map(|n| {
            spawn(move || {
                let inner = thread::spawn(move || {
                    sleep(ms(1));
                    n
                });
                inner.join().unwrap()
            })
        });
        parts.into_iter().map(|part| part.join().unwrap()).sum::<u32>()
    });
    assert_eq!(sum.join().unwrap(), 6);
}

// ---------------------------------------------------------------------------- end of the process

/// Long enough that a process that does not wait has ended before.
const WHILE: Duration = Duration::from_millis(200);

fn say_after_a_while(text: &'static str) -> impl FnOnce() + Send + 'static {
    move || {
        block(WHILE);
        println!("{text}");
    }
}

#[track_caller]
fn assert_order(text: &str, parts: &[&str]) {
    let at = |part: &&str| text.find(part).unwrap_or_else(|| panic!("no {part:?} in {text:?}"));
    assert!(parts.iter().map(at).is_sorted(), "not in the order {parts:?}: {text:?}");
}

/// After a return from `main` the process waits for it.
#[test]
fn the_end_of_main_waits() {
    let output = in_child(|| drop(thread::spawn(say_after_a_while("thread ends"))));
    let Some(output) = output else { return };
    assert_order(&printed(&output, 0), &["thread ends"]);
}

/// Not for daemons.
#[test]
fn the_end_of_main_does_not_wait_for_daemons() {
    let output = in_child(|| {
        let endless = || block(LONG);
        drop(Builder::new().daemon(true).spawn(endless).unwrap());
    });
    let Some(output) = output else { return };
    printed(&output, 0);
}

/// Daemons run on while others are waited for.
#[test]
fn a_daemon_beside_one_that_is_waited_for() {
    let output = in_child(|| {
        let (sender, begun) = mpsc::channel();
        let endless = move || {
            println!("daemon begins");
            sender.send(()).unwrap();
            block(LONG);
        };
        drop(Builder::new().daemon(true).spawn(endless).unwrap());
        begun.recv().unwrap();
        drop(thread::spawn(say_after_a_while("thread ends")));
    });
    let Some(output) = output else { return };
    assert_order(&printed(&output, 0), &["daemon begins", "thread ends"]);
}

/// A thread that one makes that is waited for is waited for.
#[test]
fn threads_that_come_during_the_wait_are_waited_for() {
    let output = in_child(|| {
        thread::spawn(|| {
            block(WHILE);
            println!("first ends");
            thread::spawn(say_after_a_while("second ends"));
        });
    });
    let Some(output) = output else { return };
    assert_order(&printed(&output, 0), &["first ends", "second ends"]);
}

/// One that panics is not waited for any longer; the code is that of the process.
#[test]
fn one_that_panics_holds_nobody_up() {
    let output = in_child(|| {
        thread::spawn(|| {
            block(WHILE);
            panic!("failing");
        });
    });
    let Some(output) = output else { return };
    printed(&output, 0);
    assert!(String::from_utf8_lossy(&output.stderr).contains("failing"), "{output:#?}");
}

/// Nor is one that was not made.
#[test]
fn one_that_is_not_made_is_not_waited_for() {
    let output = in_child(|| {
        let too_large = Builder::new().stack_size(1 << 46).spawn(|| ());
        assert!(too_large.is_err());
    });
    let Some(output) = output else { return };
    printed(&output, 0);
}

/// `exit` waits as the end of main does, and keeps its code.
#[test]
fn exit_waits() {
    let output = in_child(|| {
        thread::spawn(say_after_a_while("thread ends"));
        exit(7);
    });
    let Some(output) = output else { return };
    assert_order(&printed(&output, 7), &["thread ends"]);
}

/// In a coroutine as well.
#[test]
fn exit_in_a_coroutine_waits() {
    let output = in_child(|| {
        thread::spawn(say_after_a_while("thread ends"));
        spawn(|| exit(8)).join().unwrap();
    });
    let Some(output) = output else { return };
    assert_order(&printed(&output, 8), &["thread ends"]);
}

/// A daemon that calls it waits for the others.
#[test]
fn exit_in_a_daemon_waits() {
    let output = in_child(|| {
        thread::spawn(say_after_a_while("thread ends"));
        let daemon = Builder::new().daemon(true).spawn(|| exit(9)).unwrap();
        daemon.join().unwrap();
    });
    let Some(output) = output else { return };
    assert_order(&printed(&output, 9), &["thread ends"]);
}

/// One that is waited for calls it: it does not wait for itself.
#[test]
fn exit_in_a_thread_that_is_waited_for() {
    let output = in_child(|| thread::spawn(|| exit(5)).join().unwrap());
    let Some(output) = output else { return };
    printed(&output, 5);
}

/// In a coroutine of its as well.
#[test]
fn exit_in_a_coroutine_of_a_thread_that_is_waited_for() {
    let output = in_child(|| {
        let handle = thread::spawn(|| spawn(|| exit(6)).join().unwrap());
        handle.join().unwrap();
    });
    let Some(output) = output else { return };
    printed(&output, 6);
}

/// But for the others.
#[test]
fn exit_in_one_of_several_threads_that_are_waited_for() {
    let output = in_child(|| {
        thread::spawn(say_after_a_while("the other ends"));
        thread::spawn(|| exit(4)).join().unwrap();
    });
    let Some(output) = output else { return };
    assert_order(&printed(&output, 4), &["the other ends"]);
}

/// The process waits until a result that nobody takes is dropped.
#[test]
fn a_result_that_nobody_takes_is_dropped_before_the_end() {
    struct Slow;
    impl Drop for Slow {
        fn drop(&mut self) {
            block(WHILE);
            println!("result dropped");
        }
    }
    let output = in_child(|| {
        let gate = Gate::new();
        let inside = gate.clone();
        drop(thread::spawn(move || {
            inside.pass();
            Slow
        }));
        gate.open();
    });
    let Some(output) = output else { return };
    assert_order(&printed(&output, 0), &["result dropped"]);
}

/// `main` has returned, and a thread that is waited for calls `exit`: that ends the process, not hangs it.
#[test]
fn exit_in_a_thread_after_main_has_returned_does_not_hang() {
    let output = in_child(|| {
        drop(thread::spawn(|| {
            block(WHILE);
            println!("calls exit");
            exit(3);
        }));
        drop(thread::spawn(|| {
            block(WHILE * 2);
            println!("the other ends");
        }));
    });
    let Some(output) = output else { return };
    assert_order(&printed(&output, 0), &["calls exit", "the other ends"]);
}

/// Two that call it at the same time: neither waits for the other.
#[test]
fn two_threads_that_call_exit_do_not_hang() {
    let output = in_child(|| {
        let barrier = Arc::new(std::sync::Barrier::new(2));
        let both = [0, 1].map(|_| {
            let barrier = Arc::clone(&barrier);
            thread::spawn(move || -> () {
                barrier.wait();
                exit(6)
            })
        });
        let _: [(); 2] = both.map(|handle| handle.join().unwrap());
    });
    let Some(output) = output else { return };
    printed(&output, 6);
}

/// What runs at the end of a thread is waited for as well: the destructors of its coroutines.
#[test]
fn the_end_of_main_waits_for_the_coroutines_of_a_thread_to_be_unwound() {
    struct Slow;
    impl Drop for Slow {
        fn drop(&mut self) {
            block(WHILE);
            println!("coroutine unwound");
        }
    }
    let output = in_child(|| {
        drop(thread::spawn(|| {
            drop(spawn(|| {
                let _slow = Slow;
                sleep(Duration::MAX);
            }));
            yield_now();
        }));
    });
    let Some(output) = output else { return };
    assert_order(&printed(&output, 0), &["coroutine unwound"]);
}

/// A destructor of a thread-local variable that calls `exit` waits for the other threads.
#[test]
fn exit_in_a_thread_local_destructor_waits() {
    struct Exits;
    impl Drop for Exits {
        fn drop(&mut self) {
            exit(2);
        }
    }
    thread_local! {
        static EXITS: Exits = const { Exits };
    }
    let output = in_child(|| {
        drop(thread::spawn(say_after_a_while("the other ends")));
        drop(thread::spawn(|| EXITS.with(|_| ())));
        block(LONG);
    });
    let Some(output) = output else { return };
    assert_order(&printed(&output, 2), &["the other ends"]);
}
