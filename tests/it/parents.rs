//! Parents, and that they form no cycle.

use crate::support::{Log, pause};
use switchgrass::{Builder, Greenlet, ParentError, current};

/// {test_parent_equals_None}
#[test]
fn the_parent_is_the_maker_by_default() {
    let g = Greenlet::new(|()| -> bool {
        let child = Greenlet::new(|()| ());
        child.parent() == Some(current())
    });
    assert_eq!(g.parent(), Some(current()));
    assert!(g.switch(()));
}

/// {test_trivial_cycle, test_trivial_cycle_main, test_deeper_cycle}
#[test]
fn test_deeper_cycle() {
    let (a, b, c) = (Greenlet::new(|()| ()), Greenlet::new(|()| ()), Greenlet::new(|()| ()));
    assert!(matches!(a.set_parent(&a), Err(ParentError::Cycle { .. })));
    assert!(matches!(current().set_parent(&current()), Err(ParentError::Main)));
    assert!(matches!(current().set_parent(&a), Err(ParentError::Main)));
    a.set_parent(&b).unwrap();
    b.set_parent(&c).unwrap();
    let error = c.set_parent(&a).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("greenlet #{} cannot be the parent of #{}: a cycle of parents", a.id(), c.id())
    );
    assert_eq!(c.parent(), Some(current()), "nothing was changed");
    c.set_parent(&current()).unwrap();
}

#[test]
fn a_started_greenlet_may_be_given_another_parent() {
    let log = Log::new();
    let inside = log.clone();
    let other = Greenlet::new(move |()| {
        inside.add("other begins");
        pause();
        inside.add("other goes on");
    });
    let child = Greenlet::new(|()| pause());
    other.switch(());
    child.switch(());
    child.set_parent(&other).unwrap();
    child.switch(());
    assert_eq!(log.take(), ["other begins", "other goes on"]);
    assert!(child.is_dead() && other.is_dead());
}

#[test]
fn a_parent_is_not_kept_alive_by_its_child() {
    let log = Log::new();
    let guard = log.guard("parent unwound");
    let parent = Greenlet::new(move |()| {
        let _guard = guard;
        pause();
    });
    parent.switch(());
    let child = Builder::new().parent(&parent).build(|()| 7).unwrap();
    drop(parent);
    assert_eq!(log.take(), ["parent unwound"]);
    assert!(child.parent().unwrap().is_dead());
    // So the result goes to the parent's parent.
    assert_eq!(child.switch(()), 7);
}

/// Freeing one dead greenlet frees the ancestors that it alone held: a loop, not a recursion.
#[test]
fn a_chain_of_a_hundred_thousand_parents() {
    let mut last = Greenlet::new(|()| ());
    for _ in 0..100_000 {
        let next = Builder::new().parent(&last).stack_size(16 * 1024).build(|()| ()).unwrap();
        last = next;
    }
    drop(last);
    assert_eq!(switchgrass::greenlet::live_count(), 0);
}
