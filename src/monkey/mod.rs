//! Unmodified blocking code, made cooperative: `std::net`, `std::sync`, `thread::sleep`, child processes,
//! clients that know nothing of this library, C libraries.
//!
//! With the feature `monkey` this crate defines the libc functions by which code blocks, in every program
//! that is linked with it. They do what libc's do, at the cost of a few nanoseconds, until [`patch_all`] is
//! called, and on threads without coroutines after that as well. In a coroutine, or in main beside
//! coroutines, a call does what the kernel's blocking call does, and other coroutines run while it waits.
//! Modules need not be imported in any order, and nothing is linked or loaded in a special way.
//!
//! ```
//! use std::io::{Read, Write};
//! use std::net::{TcpListener, TcpStream};
//! use switchgrass::{monkey, spawn};
//!
//! monkey::patch_all();
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let address = listener.local_addr()?;
//! spawn(move || {
//!     for mut stream in listener.incoming().map_while(Result::ok) {
//!         spawn(move || {
//!             let mut buffer = [0; 64];
//!             while let Ok(count @ 1..) = stream.read(&mut buffer) {
//!                 stream.write_all(&buffer[..count]).unwrap();
//!             }
//!         });
//!     }
//! });
//! // All of it on this thread.
//! let mut stream = TcpStream::connect(address)?;
//! stream.write_all(b"hello")?;
//! let mut answer = [0; 5];
//! stream.read_exact(&mut answer)?;
//! assert_eq!(&answer, b"hello");
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Kills and timeouts
//!
//! C functions do not unwind, so nothing is raised inside of them. A kill, or the end of a
//! [`timeout`](crate::timeout()), is raised by the next waiting call of *this* library. Before that it is
//! reported to one libc call, once, as [`OnKill`] says:
//!
//! | a coroutine that waits in | the call |
//! |---|---|
//! | reads, writes, `accept`, `connect`, opening a FIFO, `splice`, message queues | fails with `ECANCELED` |
//! | `poll`, `select`, `epoll_wait`, `getaddrinfo`, waits for children or signals | fails with `ECANCELED` |
//! | sleeps | returns early |
//! | `std::sync`, `park`, joins, C locks; files and their locks; `close` | goes on to its end |
//! | `system`, `pclose`, `getnameinfo`, `gethostbyname` and its variants | goes on to its end |
//!
//! A call that has moved some bytes returns their count instead, and the next call that would wait fails.
//! So code that passes errors on ends soon, and code that tries again, such as a loop with `thread::sleep`,
//! waits again: it ends only where it waits in this library. A coroutine that passes the error on ends
//! normally: its `join` returns what it has returned, not `JoinError::Killed`. If a call was cut short,
//! `timeout` returns `Err(Elapsed)` as soon as its closure returns, and drops what that has returned.
//! Descriptors stay as they are, and nothing leaks. std panics where it takes an error for impossible: in
//! `Child::wait_with_output` and in `Command::spawn` with `pre_exec`. (`Command::output` is not cut short.)
//!
//! When main or another thread ends, each coroutine that waits in a call of libc's is told so in the same
//! way, once; one that waits again after that is abandoned, and its destructors do not run.
//!
//! # Signals
//!
//! A signal handler that runs on a thread with coroutines interrupts the patched calls that wait there, as
//! signal(7) says call by call: `EINTR` where the handler was installed without `SA_RESTART`, and in sleeps,
//! `poll`, `select`, `epoll_wait` and calls with `SO_RCVTIMEO` or `SO_SNDTIMEO` after any handler. `sleep`
//! returns the seconds that are left, a transfer that has moved something returns its count. Waits for locks
//! and joins, and look-ups of names, go on. In the kernel a handler interrupts the call of one thread; here
//! it interrupts those of all coroutines of its thread. Inside a handler every call is libc's. More than 64
//! different handlers, and those that were installed by the system call itself, run but interrupt nothing.
//!
//! # Child processes
//!
//! In a child that was not made by [`Process::spawn`](crate::process::Process::spawn), as in
//! `Command::pre_exec`, each call is libc's, and the parent's coroutines do not run: see
//! [`process`](crate::process).
//!
//! # Differences from a thread
//!
//! Everything else is meant to be the same, results, errors, order and bytes: `tests/differential` compares
//! scripts of calls on threads and in coroutines.
//!
//! | situation | on a thread | in a coroutine |
//! |---|---|---|
//! | the descriptor of a waiting call is closed | waits on | what came before, or `EBADF` ¹ |
//! | processes share one blocking listener | all wait | one that comes too late blocks its thread ² |
//! | `stdout().lock()` is held over a wait | keeps others out | lets siblings in |
//! | `thread::park_timeout` | rarely returns early | may return early many times |
//! | a thread's signal mask is changed | for that thread | for all coroutines of the thread |
//! | output to descriptors 1 and 2 | waits | blocks its thread ² ³ |
//! | reads of C streams (`FILE`) | wait | cooperative, but not `scanf` and wide ones ⁷ |
//! | writes of C streams (`FILE`) | wait | block their thread ⁷ |
//! | main waits, and nothing can end that | waits | prints the deadlock report once, and waits ⁸ |
//! | two descriptors of one open file | one order | one order per descriptor |
//! | a datagram is left by `MSG_PEEK` | no other call is woken | the next call is woken |
//! | over `PIPE_BUF` bytes for a pipe | written in pieces | perhaps written in other pieces |
//! | a terminal hangs up during a read | `EIO` | end of file, as for a later read |
//! | a read of no bytes of a terminal in use | waits | returns 0 |
//! | a receive of no bytes of a connection | ends with any wake-up | ends with an event |
//! | a peer of a Unix stream stops reading | ends a waiting send | no event: the send waits for one |
//! | two sends wait, and the peer resets | one is told of the reset | one is told, perhaps the other one |
//! | a message queue, and threads beside | the first call is served | a thread is served before |
//! | `sendfile` from a message queue | `EINVAL` | reads it as a file |
//! | a C stream is locked while a read waits | yes | only while bytes are taken |
//! | a C stream waits behind urgent data | has passed over it | leaves it pending |
//! | a call changes the signal mask (`ppoll`) | for its thread | for a thread of its own |
//! | `SIGCHLD` of `popen` and `system` | interrupts one thread | interrupts the coroutines of a thread |
//! | `O_NONBLOCK` is set, and a handler restarts | `EAGAIN` | the call goes on |
//! | a futex wait, and a handler | `EINTR` | goes on |
//! | `poll` of an epoll instance, a hang-up in it | sleeps on | is woken |
//! | a `poll` and a read wait for the same data | either is first | either is first, as a rule the read |
//! | two waits for one epoll instance | the last one is served first | either is served first |
//! | a Unix `connect` waits, and the listener is shut down | waits on | `ECONNREFUSED` |
//! | `close` with `SO_LINGER` | waits | a thread of its own waits ⁴ |
//! | files on disk, FUSE, `/proc` | wait | at most 512 such calls at once, by threads |
//! | `O_NONBLOCK` or a time limit is set unseen ⁵ | counts | does not count once the number was used |
//! | `SO_RCVTIMEO` or `SO_SNDTIMEO` is negative | no wait | no limit |
//! | a traced child stops, and is waited for | is told | is told with `WUNTRACED` or `__WALL` |
//! | a clock is set during a sleep until a time | counts | does not count |
//! | `_res`, the thread's settings of look-ups | count | do not count |
//! | an answer's place is constant memory | `EFAULT` | a fault in `select`, `sendmmsg`, `recvmsg` ⁶ |
//! | a lock of C | | see [`What::Sync`] |
//!
//! ¹ `poll` fails with `EBADF` only if the number is in use again, and otherwise reports `POLLNVAL`. ² It is
//! counted, see [`report()`]. ³ `println!` holds a borrow of std's meanwhile. ⁴ If the option was set before
//! `exec`, or by another process, `close` blocks its thread. ⁵ By another process, through a number that came
//! in a message, or by a system call made without libc. ⁶ In `recvmsg` with `MSG_WAITALL`, or
//! `SO_RCVLOWAT`. ⁷ Those block their thread, and no call is counted: a
//! [`Watchdog`](crate::watchdog::Watchdog) names the coroutine. ⁸ Not where a lock, a condition variable or
//! another thread could end the wait: another thread may come for that.
//!
//! # What stays as it was
//!
//! Descriptors keep their flags: none is set to `O_NONBLOCK`, except for the moment in which a `connect`
//! begins. What the program sets itself counts, as do `SO_RCVTIMEO` and `SO_SNDTIMEO`.
//!
//! # What cannot work
//!
//! - `std::sync::mpsc` between coroutines of one thread: a sender passes over receivers of its own thread,
//!   which then wait on. Use [`sync::Queue`](crate::sync::Queue). Between threads it is cooperative.
//! - The coroutines of a thread share `thread::current()`, its `thread_local!`s and its name. A crate that
//!   keeps something in them for the length of a call is confused by two coroutines in that call: `tokio`
//!   says "Cannot start a runtime from within a runtime" to the second `block_on` (it works in
//!   [`unblock`](crate::pool::unblock)), `parking_lot` and `crossbeam` are named in [`What::Sync`].
//! - C++ keeps the exceptions that a thread has caught in one list per thread. Two coroutines of a thread
//!   that wait inside `catch` blocks end the life of each other's exceptions.
//! - A `thread::spawn` is a thread. [`spawn`](crate::spawn()) makes coroutines.
//! - Calls that libc makes internally, system calls made without it (`rustix` by default, `io_uring`), and
//!   programs that are linked with a static libc are not seen.
//! - A file that is mapped into memory is read when it is touched, and blocks.
//!
//! [`report()`] says what is patched, which symbols lead elsewhere, and which calls have held up a thread
//! with coroutines. A [`Watchdog`](crate::watchdog::Watchdog) names what holds a thread, and where.
//!
//! # Inside
//!
//! - `table.rs` is **the** table: one row per libc symbol that is defined here, of the kinds in `kinds.rs`;
//! - `originals.rs` expands it into libc's functions, `exports.rs` into the symbols that the program calls;
//! - `hooks/` is what the symbols do in a coroutine, one file per kind;
//! - `gate.rs` decides whether a call is made cooperative, `patch.rs` is how that is chosen, `report.rs` and
//!   `summary.rs` say what is known about it; `errno.rs` is how C calls fail;
//! - `numbers.rs`, `known.rs`, `closed.rs` and `descriptors.rs` are what is known of the program's
//!   descriptors, and `attempts.rs` is the loop of all calls on them;
//! - `blocking_pool.rs` runs work that ends by itself on a pool of threads, `dedicated.rs` gives a wait for a peer a
//!   thread of its own;
//! - `addresses.rs` holds the coroutines that wait at an address, as by futex, and `parking.rs` those in
//!   `thread::park`; `owners.rs` is which coroutine holds a lock that libc takes for the thread's;
//! - `handlers.rs` counts the program's signal handlers, `vforks.rs` notes children that share the memory,
//!   and `initialisers.rs` has the only rows that unwind.
//!
//! Nothing imports this module.

#[cfg(target_feature = "crt-static")]
compile_error!(
    "the feature `monkey` takes the place of functions of a shared libc, and cannot with a static one: \
     build without it, or with `-C target-feature=-crt-static`"
);

mod addresses;
mod attempts;
mod blocking_pool;
mod closed;
mod dedicated;
mod descriptors;
mod errno;
mod exports;
mod gate;
mod handlers;
mod hooks;
mod initialisers;
mod kinds;
mod known;
mod numbers;
mod originals;
mod owners;
mod parking;
mod patch;
mod report;
mod summary;
mod table;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod vforks;

pub use kinds::{OnKill, What};
pub use patch::{Patch, is_patched, patch_all};
pub use report::{Symbol, self_check};
pub use summary::{Report, blocked_calls, report};
