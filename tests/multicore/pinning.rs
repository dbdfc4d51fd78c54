//! Threads that stay on their processors.

use std::collections::BTreeSet;
use switchgrass::multicore::Builder;

/// Those that the calling thread may run on, as libc has it.
fn allowed() -> BTreeSet<usize> {
    // SAFETY: all-zero is a set without members.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: room for a set of the size that is said. 0 is the calling thread.
    assert_eq!(unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) }, 0);
    // SAFETY: numbers that a set has room for.
    (0..libc::CPU_SETSIZE as usize).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).collect()
}

/// In order, and from the first again if there are more threads.
#[test]
fn each_on_its_own() {
    let all = Vec::from_iter(allowed());
    let threads = 2 * all.len() + 1;
    let hubs = Builder::new().threads(threads).pin(true).start().unwrap();
    for hub in 0..threads {
        let there = hubs.spawn_on(hub, allowed).join().unwrap();
        assert_eq!(there, BTreeSet::from([all[hub % all.len()]]));
    }
    assert_eq!(Vec::from_iter(allowed()), all, "who has started them is where it was");
}

#[test]
fn by_default_everywhere() {
    let hubs = Builder::new().threads(2).start().unwrap();
    assert_eq!(hubs.spawn_on(1, allowed).join().unwrap(), allowed());
}

/// A crew that is started by a thread that may run on one processor has that alone.
#[test]
fn within_what_is_allowed() {
    let hubs = Builder::new().threads(1).pin(true).start().unwrap();
    let inner = hubs.spawn(|| {
        let inner = Builder::new().threads(2).pin(true).start().unwrap();
        (0..2).map(|hub| inner.spawn_on(hub, allowed).join().unwrap()).collect::<Vec<_>>()
    });
    let first = BTreeSet::from_iter(allowed().first().copied());
    assert_eq!(inner.join().unwrap(), [first.clone(), first]);
}
