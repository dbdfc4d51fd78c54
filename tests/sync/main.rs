//! What coroutines wait for each other with, a module a type. Cases of gevent's own suite, and of
//! the lock tests of CPython that it runs, carry their names.

mod async_result;
mod between_threads;
mod callbacks;
mod channel;
mod conservation;
mod event;
mod locks;
mod outer_timeout;
mod queue;
mod select;
mod semaphore;
#[expect(dead_code, reason = "what is there for greenlets is not needed here")]
#[path = "../it/support.rs"]
mod support;

use std::time::Duration;
use switchgrass::yield_now;

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(60);

/// Short enough to be waited for.
const SHORT: Duration = Duration::from_millis(5);

/// Lets the others run until they have nothing to do but wait.
fn settle() {
    for _ in 0..10 {
        yield_now();
    }
}
