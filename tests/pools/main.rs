//! Groups, pools, thread pools, threads: a module each. Cases of gevent's suite carry its names.

mod bounded;
mod group;
mod support;
mod thread_pool;
mod threads;
