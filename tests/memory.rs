//! {test_untracked_memory_doesnt_increase}: the process's memory and mappings stay flat. One test in a
//! binary of its own, since it looks at the whole process.

use std::cell::RefCell;
use std::fs;
use std::time::Duration;
use switchgrass::{Greenlet, coroutine, current, greenlet, sleep, spawn, yield_now};

/// Resident bytes, and the number of mappings.
fn footprint() -> (usize, usize) {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    (pages * 4096, fs::read_to_string("/proc/self/maps").unwrap().lines().count())
}

fn pause() {
    current().parent().unwrap().switch_any::<(), ()>(());
}

/// Runs `round` ten times. From the second time on, nothing may be added that stays.
fn stays_flat(what: &str, round: impl Fn()) {
    round();
    round();
    let (memory, mappings) = footprint();
    for _ in 0..8 {
        round();
        assert_eq!(greenlet::live_count(), 0);
        let (now, maps) = footprint();
        assert!(now < memory + (2 << 20), "{what}: {memory} became {now} bytes");
        assert!(maps <= mappings + 8, "{what}: {mappings} became {maps} mappings");
    }
}

#[test]
fn memory_and_mappings_stay_flat() {
    stays_flat("started and finished", || {
        for _ in 0..10_000 {
            Greenlet::new(|()| ()).switch(());
        }
    });
    stays_flat("all at once, started and finished", || {
        let all: Vec<_> = (0..10_000).map(|_| Greenlet::new(|()| pause())).collect();
        all.iter().for_each(|g| g.switch(()));
        all.iter().for_each(|g| g.switch(()));
        assert!(all.iter().all(|g| g.is_dead()));
    });
    stays_flat("started, suspended and dropped", || {
        let all: Vec<_> = (0..10_000).map(|_| Greenlet::new(|()| pause())).collect();
        all.iter().for_each(|g| g.switch(()));
    });
    stays_flat("failing", || {
        for _ in 0..1_000 {
            let g = Greenlet::new(|()| -> () { std::panic::resume_unwind(Box::new([0_u8; 100])) });
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| g.switch(())));
            assert!(caught.is_err());
        }
    });
    thread_local! {
        static KEPT: RefCell<Vec<Greenlet<()>>> = const { RefCell::new(Vec::new()) };
    }
    stays_flat("threads that end with a thousand suspended", || {
        std::thread::spawn(|| {
            let all = (0..1_000).map(|_| {
                let g = Greenlet::new(|()| pause());
                g.switch(());
                g
            });
            KEPT.set(all.collect());
        })
        .join()
        .unwrap();
    });
    stays_flat("coroutines, joined, killed and left to the end of their thread", || {
        std::thread::spawn(|| {
            for _ in 0..1_000 {
                spawn(|| ()).join().unwrap();
            }
            let all: Vec<_> = (0..1_000).map(|_| spawn(|| sleep(Duration::MAX))).collect();
            yield_now();
            assert!(coroutine::kill_all(all.iter().map(|handle| handle.coroutine()), None));
            for _ in 0..1_000 {
                spawn(|| sleep(Duration::MAX));
            }
            yield_now();
        })
        .join()
        .unwrap();
    });
}
