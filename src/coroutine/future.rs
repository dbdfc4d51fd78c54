#![forbid(unsafe_code)]
//! The bridge to `async` code.

use crate::hub::{self, Registration, Unparker};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};

/// Runs a future to its end in the current coroutine, which waits whenever the future does. The future may
/// be woken from any thread.
///
/// It runs here whatever belongs to no runtime: channels, locks, streams, combinators. What needs the
/// reactor of one, as tokio's sockets and timers do, needs that runtime. A [`JoinHandle`](crate::JoinHandle)
/// is a future.
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
/// With what the future panics, and with what is raised in the current coroutine meanwhile.
///
/// # Switching
///
/// Switches whenever the future is pending. All others may run meanwhile.
///
/// # Cancellation
///
/// The future is dropped where it is.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let registration = Registration::new();
    let alarm =
        Arc::new(Alarm { woken: AtomicBool::new(false), unparker: registration.unparker() });
    let waker = Waker::from(Arc::clone(&alarm));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        if alarm.woken.swap(false, SeqCst) {
            // The future has woken itself: poll it again after the others have run.
            hub::yield_now();
            continue;
        }
        while !alarm.woken.swap(false, SeqCst) {
            hub::park("a future", None);
        }
    }
}

struct Alarm {
    woken: AtomicBool,
    unparker: Unparker,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, SeqCst) {
            self.unparker.unpark();
        }
    }
}
