//! The memory of a burst of coroutines, when it is over.

use crate::own_process::alone;
use std::fs;
use std::time::{Duration, Instant};
use switchgrass::coroutine::join_all;
use switchgrass::sync::Event;
use switchgrass::{sleep, spawn, yield_now};

const MIB: usize = 1 << 20;

fn resident() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// How often this process has slept.
fn sleeps() -> usize {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[inline(never)]
fn use_some_stack(event: &Event) {
    let pages = [1_u8; 10 << 10];
    event.wait();
    std::hint::black_box(&pages);
}

/// Coroutines on four thousand stacks of some pages each. What they have added.
fn burst() -> usize {
    let before = resident();
    let event = std::rc::Rc::new(Event::new());
    let all: Vec<_> = (0..4000)
        .map(|_| {
            let event = event.clone();
            spawn(move || use_some_stack(&event))
        })
        .collect();
    yield_now();
    event.set();
    join_all(all);
    resident() - before
}

#[test]
#[cfg_attr(feature = "sanitizer", ignore = "its runtime keeps memory")]
fn an_idle_thread_gives_the_memory_of_a_burst_back() {
    alone("idle_memory::an_idle_thread_gives_the_memory_of_a_burst_back", || {
        spawn(|| ()).join().unwrap();
        let before = resident();
        assert!(burst() > 40 * MIB);
        sleep(Duration::from_secs(4));
        let left = resident().saturating_sub(before);
        assert!(left < 8 * MIB, "{left} bytes are left");
    });
}

/// It is never idle for as long as two seconds, but what the burst has left is not used.
#[test]
#[cfg_attr(feature = "sanitizer", ignore = "its runtime keeps memory")]
fn a_thread_that_wakes_now_and_then_gives_the_memory_of_a_burst_back() {
    alone("idle_memory::a_thread_that_wakes_now_and_then_gives_the_memory_of_a_burst_back", || {
        spawn(|| ()).join().unwrap();
        let before = resident();
        assert!(burst() > 40 * MIB);
        let end = Instant::now() + Duration::from_secs(10);
        while resident().saturating_sub(before) > 8 * MIB {
            assert!(Instant::now() < end, "{} bytes are left", resident() - before);
            spawn(|| sleep(Duration::from_millis(100))).join().unwrap();
        }
    });
}

#[test]
fn an_idle_thread_is_not_woken_again_and_again() {
    alone("idle_memory::an_idle_thread_is_not_woken_again_and_again", || {
        burst();
        let before = sleeps();
        sleep(Duration::from_secs(9));
        let sleeps = sleeps() - before;
        assert!(sleeps <= 4, "it has slept {sleeps} times");
    });
}

/// To be woken for that is nothing that could wake main.
#[test]
fn a_deadlock_is_told_of_after_a_burst() {
    alone("idle_memory::a_deadlock_is_told_of_after_a_burst", || {
        burst();
        let event = Event::new();
        let wait = std::panic::AssertUnwindSafe(|| event.wait());
        let payload = std::panic::catch_unwind(wait).unwrap_err();
        let text = payload.downcast_ref::<String>().unwrap();
        assert!(text.contains("nobody is left who could wake it"), "{text}");
    });
}
