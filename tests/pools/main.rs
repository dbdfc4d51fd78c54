//! Groups, pools, thread pools, threads: a module each. Cases of gevent's suite carry its names.

mod bounded;
#[expect(dead_code, reason = "what is there for greenlets is not needed here")]
#[path = "../it/support.rs"]
mod common;
mod group;
mod support;
mod thread_pool;
mod threads;
