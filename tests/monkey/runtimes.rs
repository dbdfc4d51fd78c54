//! Runtimes of async Rust, which keep what they do in variables of the thread.

use crate::patched;
use std::time::Duration;
use switchgrass::pool::unblock;
use switchgrass::{spawn, yield_now};

fn block_on(duration: Duration) -> u32 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        tokio::time::sleep(duration).await;
        7
    })
}

/// One coroutine may wait for a future, and the others run meanwhile. A second one is told by tokio that its
/// thread is in a runtime already, and harms nobody; on a thread of the pool it works.
#[test]
fn one_runtime_a_thread_at_a_time() {
    patched(|| {
        let long = Duration::from_millis(50);
        let first = spawn(move || block_on(long));
        yield_now();
        assert!(!first.is_finished());
        let second = spawn(move || block_on(long));
        let error = second.join().unwrap_err();
        let message = error.to_string();
        assert!(message.contains("Cannot start a runtime from within a runtime"), "{message}");
        assert!(!first.is_finished());
        let elsewhere: Vec<_> =
            (0..3).map(|_| spawn(move || unblock(move || block_on(long)))).collect();
        assert_eq!(first.join().unwrap(), 7);
        for one in elsewhere {
            assert_eq!(one.join().unwrap(), 7);
        }
        assert_eq!(block_on(Duration::from_millis(1)), 7);
    });
}
