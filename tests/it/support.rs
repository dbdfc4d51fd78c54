//! What the tests share.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};
use switchgrass::{current, yield_now};

/// What happened, in order.
#[derive(Clone, Default)]
pub(crate) struct Log(Rc<RefCell<Vec<String>>>);

impl Log {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn add(&self, entry: impl ToString) {
        self.0.borrow_mut().push(entry.to_string());
    }

    pub(crate) fn take(&self) -> Vec<String> {
        self.0.take()
    }

    /// Adds `entry` when it is dropped.
    pub(crate) fn guard(&self, entry: impl ToString) -> Guard {
        Guard { log: self.clone(), entry: entry.to_string() }
    }
}

pub(crate) struct Guard {
    log: Log,
    entry: String,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.log.add(&self.entry);
    }
}

/// Suspends the current greenlet: sends its parent `()` and awaits one.
pub(crate) fn pause() {
    yield_to_parent::<(), ()>(());
}

/// Sends `value` to the current greenlet's parent and awaits an `R`.
pub(crate) fn yield_to_parent<T: 'static, R: 'static>(value: T) -> R {
    current().parent().expect("not in main").switch_any(value)
}

/// The message of the panic that `f` ends by.
pub(crate) fn panic_message<R>(f: impl FnOnce() -> R) -> String {
    let payload = match catch_unwind(AssertUnwindSafe(f)) {
        Ok(_) => panic!("no panic"),
        Err(payload) => payload,
    };
    match payload.downcast::<String>() {
        Ok(message) => *message,
        Err(payload) => payload.downcast_ref::<&str>().expect("a message").to_string(),
    }
}

/// So many milliseconds.
pub(crate) const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// So long that a test that waits for it has failed.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// Computes for `duration`: nobody else runs on this thread.
pub(crate) fn compute(duration: Duration) {
    let start = Instant::now();
    while start.elapsed() < duration {
        std::hint::spin_loop();
    }
}

/// Lets all others run until they wait for something.
pub(crate) fn settle() {
    for _ in 0..10 {
        yield_now();
    }
}

/// Calls `f` on a thread of its own, which then ends, and returns the result.
pub(crate) fn on_a_thread<R: Send + 'static>(f: impl FnOnce() -> R + Send + 'static) -> R {
    match std::thread::spawn(f).join() {
        Ok(result) => result,
        Err(payload) => resume_unwind(payload),
    }
}

/// The payload of what `f` ends by, instead of returning.
pub(crate) fn payload_of<R>(f: impl FnOnce() -> R) -> Box<dyn Any + Send> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(_) => panic!("it has returned"),
        Err(payload) => payload,
    }
}
