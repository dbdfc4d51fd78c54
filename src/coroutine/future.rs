#![forbid(unsafe_code)]
//! The bridge to `async` code.

use crate::hub::{self, Registration, Unparker};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};

/// Runs a future to completion in the current coroutine.
///
/// The coroutine waits while the future is pending. The future may be woken from any thread.
///
/// Suitable for futures that do not depend on a particular runtime: channels, locks, streams, combinators.
/// Futures that need a runtime's reactor, such as tokio's sockets and timers, need that runtime. A
/// [`JoinHandle`](crate::JoinHandle) is a future.
///
/// # Examples
///
/// ```
/// use switchgrass::{coroutine::block_on, spawn};
///
/// let a = spawn(|| 1);
/// let b = spawn(|| 2);
/// let sum = block_on(async { a.await.unwrap() + b.await.unwrap() });
/// assert_eq!(sum, 3);
/// ```
///
/// # Panics
///
/// Propagates panics of the future. Unwinds with any kill or timeout delivered to the current coroutine
/// meanwhile.
///
/// # Switching
///
/// May switch: while the future is pending. Any other coroutine may run meanwhile.
///
/// # Cancellation
///
/// The future is dropped in the state it is in.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let registration = Registration::new();
    let future_waker =
        Arc::new(FutureWaker { woken: AtomicBool::new(false), unparker: registration.unparker() });
    let waker = Waker::from(Arc::clone(&future_waker));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        if future_waker.woken.swap(false, SeqCst) {
            // The future woke itself while it was polled: let the other coroutines run before polling
            // again.
            hub::yield_now();
            continue;
        }
        while !future_waker.woken.swap(false, SeqCst) {
            hub::park("a future", None);
        }
    }
}

/// Wakes the coroutine that polls the future.
///
/// `woken` is cleared before each poll, so only the first wake-up of a round unparks.
struct FutureWaker {
    woken: AtomicBool,
    unparker: Unparker,
}

impl Wake for FutureWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, SeqCst) {
            self.unparker.unpark();
        }
    }
}
