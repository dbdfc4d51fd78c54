#![forbid(unsafe_code)]
//! Coroutines that call unmodified clients, and whether they do so at once.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;
use std::thread::{self, ThreadId};
use switchgrass::coroutine::join_all;
use switchgrass::monkey::blocked_calls;
use switchgrass::spawn;

/// So many coroutines of one thread are clients at once.
pub const CLIENTS: usize = 50;

/// Has fifty coroutines of this thread make a call each, with their numbers. What they return, in the order
/// of their numbers.
///
/// # Panics
///
/// If one of the calls is done before all have begun: then they were not made at once. If anything was called
/// that has held up the thread. And as the calls do.
pub fn at_once<R: 'static>(call: impl Fn(usize) -> R + 'static) -> Vec<R> {
    let call = Rc::new(call);
    let begun = Rc::new(Cell::new(0));
    let threads: Rc<RefCell<HashSet<ThreadId>>> = Rc::default();
    let clients = (0..CLIENTS).map(|number| {
        let (call, begun, threads) = (Rc::clone(&call), Rc::clone(&begun), Rc::clone(&threads));
        spawn(move || {
            begun.set(begun.get() + 1);
            threads.borrow_mut().insert(thread::current().id());
            let result = call(number);
            (begun.get(), result)
        })
    });
    let results = join_all(clients.collect::<Vec<_>>()).into_iter();
    let results = results.map(|result| {
        let (begun, result) = result.expect("a client does not panic");
        assert_eq!(begun, CLIENTS, "one was done before all had begun");
        result
    });
    let results = results.collect();
    assert_eq!(threads.borrow().len(), 1, "all on one thread");
    assert_eq!(blocked_calls(), [], "none of them has held up the others");
    results
}
