//! Makes unmodified blocking code cooperative: `std::net`, `std::sync`, `thread::sleep`, child processes,
//! database clients, C libraries.
//!
//! With the feature `monkey`, every program that links this crate gets its definitions of the libc functions
//! that block. Until [`patch_all`] is called they only forward to libc, at the cost of a few nanoseconds; on
//! threads without coroutines they always do. In a coroutine, or in main beside coroutines, a patched call
//! does what the kernel's blocking call does, and other coroutines run while it waits. No import order
//! matters, and no special linking or preloading is needed.
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
//! C functions do not unwind, so nothing is raised inside a patched call. A kill, or the end of a
//! [`timeout`](crate::timeout()), is raised by the coroutine's next wait in *this* library. Before that it is
//! reported to one libc call, once, as [`OnKill`] describes:
//!
//! | a coroutine that waits in | the call |
//! |---|---|
//! | reads, writes, `accept`, `connect`, opening a FIFO, `splice`, message queues | fails with `ECANCELED` |
//! | `poll`, `select`, `epoll_wait`, `getaddrinfo`, waits for children or signals | fails with `ECANCELED` |
//! | sleeps | returns early |
//! | `std::sync`, `park`, joins, C locks; files and their locks; `close` | continues to its end |
//! | `system`, `pclose`, `getnameinfo`, `gethostbyname` and its variants | continues to its end |
//!
//! A call that has moved some bytes returns their count instead, and the next call that would wait fails.
//! So code that propagates errors ends soon. Code that retries, such as a loop with `thread::sleep`, waits
//! again: it ends only at a wait in this library. A coroutine that propagates the error ends normally: its
//! `join` returns the closure's value, not `JoinError::Killed`. If a call was cut short, `timeout` returns
//! `Err(Elapsed)` when its closure returns, and drops the closure's value. Descriptors stay open, and
//! nothing leaks. std panics where it considers an error impossible, as in `Command::output`: such a panic is
//! printed, and counts as the kill or the timeout.
//!
//! When main or another thread ends, each of its coroutines that waits in a libc call is notified in the same
//! way, once; a coroutine that waits again after that is abandoned, and its destructors do not run.
//!
//! # Signals
//!
//! A signal handler that runs on a thread with coroutines interrupts the patched calls that wait there,
//! according to signal(7): with `EINTR` if the handler was installed without `SA_RESTART`; after any
//! handler in sleeps, `poll`, `select`, `epoll_wait` and calls with `SO_RCVTIMEO` or `SO_SNDTIMEO`. `sleep`
//! returns the seconds that are left; a transfer that has moved some bytes returns their count. Waits for
//! locks and joins, and name look-ups, continue. In the kernel a handler interrupts one thread's call; here
//! it interrupts the calls of all coroutines of its thread. Calls made inside a handler go to libc.
//! Handlers beyond the 64th distinct one, and handlers installed by a system call made without libc, run
//! but interrupt nothing.
//!
//! # Child processes
//!
//! In a child process that was not made by [`Process::spawn`](crate::process::Process::spawn), for example
//! in `Command::pre_exec`, all calls go to libc, and the parent's coroutines do not run: see
//! [`process`](crate::process).
//!
//! # Differences from a thread
//!
//! Results, errors, order and bytes are otherwise the same; `tests/differential` runs random scripts of calls
//! on threads and in coroutines and compares them.
//!
//! | situation | on a thread | in a coroutine |
//! |---|---|---|
//! | the descriptor of a waiting call is closed | keeps waiting | returns earlier data, or `EBADF` ¹ |
//! | processes share one blocking listener | all wait | one that loses the race blocks its thread ² |
//! | `stdout().lock()` is held during a wait | excludes others | admits siblings |
//! | `thread::park_timeout` | rarely returns early | may return early many times |
//! | a thread's signal mask is changed | for that thread | for all coroutines of the thread |
//! | output to descriptors 1 and 2 | waits | blocks its thread ² ³ |
//! | reads of C streams (`FILE`) | wait | cooperative, except `scanf` and wide functions ⁷ |
//! | writes of C streams (`FILE`) | wait | block their thread ⁷ |
//! | main waits, and nothing can wake it | waits | prints the deadlock report once, and waits ⁸ |
//! | two descriptors of one open file | one queue | one queue per descriptor |
//! | `MSG_PEEK` leaves a datagram | wakes no other call | wakes the next call |
//! | over `PIPE_BUF` bytes to a pipe | split by the kernel | possibly split elsewhere |
//! | a terminal hangs up during a read | `EIO` | end of file, as for a later read |
//! | a zero-length read of a terminal in use | waits | returns 0 |
//! | a zero-length receive from a connection | ends at any wake-up | ends at an event |
//! | the peer of a Unix socket shuts down reading | ends a waiting send | no event: the send keeps waiting |
//! | two sends wait, and the peer resets | the first gets `ECONNRESET` | either gets it |
//! | a descriptor shared with threads | first come, first served | threads are often served first |
//! | `sendfile` from a message queue | `EINVAL` | reads it as a file |
//! | a C stream is locked while a read waits | yes | only while bytes are copied |
//! | a C stream waits behind urgent data | the data is skipped | the data stays pending |
//! | a call changes the signal mask (`ppoll`) | for its thread | for a dedicated thread |
//! | `SIGCHLD` of `popen` and `system` | interrupts one thread | interrupts the coroutines of a thread |
//! | `O_NONBLOCK` is set, and a handler restarts | `EAGAIN` | the call continues |
//! | a signal handler runs during a futex wait | `EINTR` | the wait continues |
//! | `poll` of an epoll instance with a hang-up | keeps waiting | is woken |
//! | a `poll` and a read wait for the same data | either is first | either is first, usually the read |
//! | two waits for one epoll instance | last come, first served | either is served first |
//! | a Unix `connect` waits for a listener that is shut down | keeps waiting | `ECONNREFUSED` |
//! | `close` with `SO_LINGER` | waits | a dedicated thread waits ⁴ |
//! | files on disk, FUSE, `/proc` | wait | at most 512 such calls at once, by pool threads |
//! | `O_NONBLOCK` or a timeout is set unseen ⁵ | applies | ignored once the descriptor was used |
//! | `SO_RCVTIMEO` or `SO_SNDTIMEO` is negative | no wait | no timeout |
//! | a wait for a traced child that stops | returns | returns with `WUNTRACED` or `__WALL` |
//! | a clock is set during an absolute sleep | applies | ignored |
//! | `_res`, the resolver settings of a thread | apply | ignored |
//! | a result buffer is read-only memory | `EFAULT` | `SIGSEGV` in `select`, `sendmmsg`, `recvmsg` ⁶ |
//! | a lock of C | | see [`What::Sync`] |
//!
//! ¹ `poll` fails with `EBADF` only if the number is in use again, and otherwise reports `POLLNVAL`. ² It is
//! counted, see [`report()`]. ³ `println!` holds a borrow of std meanwhile. ⁴ If the option was set before
//! `exec`, or by another process, `close` blocks its thread. ⁵ By another process, through a descriptor that
//! came in a message, or by a system call made without libc. ⁶ In `recvmsg` with `MSG_WAITALL`, or
//! `SO_RCVLOWAT`. ⁷ Those block their thread, and [`report()`] does not show them: a
//! [`Watchdog`](crate::watchdog::Watchdog) names the coroutine. ⁸ Not if a lock, a condition variable or
//! another thread could end the wait.
//!
//! # Descriptor flags
//!
//! Descriptors keep their flags: none is set to `O_NONBLOCK`, except for the moment in which a `connect`
//! starts. Flags that the program sets apply, as do `SO_RCVTIMEO` and `SO_SNDTIMEO`.
//!
//! # Limits
//!
//! - `std::sync::mpsc` between coroutines of one thread: a sender skips receivers of its own thread, which
//!   keep waiting. Use [`sync::Queue`](crate::sync::Queue). Between threads it is cooperative.
//! - The coroutines of a thread share `thread::current()`, its name and its `thread_local!`s. A crate that
//!   keeps state there during a blocking call breaks if two coroutines make such a call: a second `block_on`
//!   of `tokio` panics with "Cannot start a runtime from within a runtime" (use
//!   [`unblock`](crate::pool::unblock)). For `parking_lot` and `crossbeam` see [`What::Sync`].
//! - C++ keeps one list of caught exceptions per thread. Two coroutines of a thread that wait inside `catch`
//!   blocks destroy each other's exceptions.
//! - `thread::spawn` makes a thread. [`spawn`](crate::spawn()) makes a coroutine.
//! - Calls that libc makes internally, system calls made without libc (`rustix` by default, `io_uring`), and
//!   programs linked with a static libc are not intercepted.
//! - Access to a memory-mapped file blocks when a page is read from the disk.
//!
//! [`report()`] lists what is patched, which symbols lead to other libraries, and which calls have blocked
//! a thread with coroutines. A [`Watchdog`](crate::watchdog::Watchdog) names the coroutine that blocks a
//! thread, and where.
//!
//! # Inside
//!
//! From the bottom up:
//!
//! - `kinds.rs`, `gate.rs`: the kinds of calls; whether a call is made cooperative;
//! - `table.rs`: **the** table, one row per libc symbol; `originals.rs` expands it into libc's functions;
//! - `errno.rs`: how C calls fail;
//! - `numbers.rs`, `closed.rs`, `known.rs`, `descriptors.rs`: what is known about the program's descriptors;
//!   `attempts.rs`: the retry loop of all calls on them;
//! - `blocking_pool.rs`, `dedicated.rs`: threads for work that ends by itself, and for waits for a peer;
//! - `addresses.rs`, `parking.rs`, `owners.rs`: coroutines that wait at an address, as a futex does, or in
//!   `thread::park`; which coroutine holds a lock that libc attributes to the thread;
//! - `handlers.rs`, `vforks.rs`: the program's signal handlers; children that share the memory;
//! - `hooks/`: what each symbol does in a coroutine, one file per kind; `initialisers.rs`: the rows that may
//!   unwind;
//! - `exports.rs`: the symbols that the program calls;
//! - `patch.rs`, `report.rs`, `summary.rs`: the public API.
//!
//! No other module imports this one.

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
