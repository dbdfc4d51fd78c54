//! Unmodified blocking clients against servers that were not written for this: nginx, Redis, openssl. Each test
//! is a program of its own in one thread, fifty clients at once. Without a server its test is skipped, and says
//! so, unless `SWITCHGRASS_NEED_TOOLS` is set: then it fails.

mod http;
mod redis_lists;
mod servers;
mod tls;
