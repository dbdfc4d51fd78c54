//! Unmodified blocking code, made cooperative: `std::net`, `std::sync`, `thread::sleep`, children, clients
//! that know nothing of this library, libraries of C.
//!
//! With the feature `monkey` this crate defines the functions of libc by which code blocks, in every
//! program that is linked with it. They do what libc's do, at the cost of a few nanoseconds, until
//! [`patch_all`] is called; and after that as well, on threads without coroutines. In a coroutine, or in
//! main beside coroutines, they switch to others instead of blocking. There is no order in which things
//! have to be imported, and nothing to be linked or loaded in a special way.
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
//! # What a kill or a time limit does
//!
//! Functions of C do not unwind, so nothing is raised inside of them. A kill, or the end of a
//! [`timeout`](crate::timeout()), is raised by the next call of *this* library's own that waits. Before
//! that it is told to one call of libc's, once, as [`OnKill`] says:
//!
//! | in a coroutine that waits in | the call |
//! |---|---|
//! | reads, writes, `accept`, `connect`, opening a FIFO | fails with `ECANCELED` |
//! | `poll`, `select`, `epoll_wait`, `getaddrinfo`, children | the same |
//! | sleeps | returns early |
//! | locks and all else of `std::sync`, `park`, `join`; files; locks of files | goes on to its end |
//!
//! So code that passes errors on ends soon, and code that tries again waits again. `timeout` is over as
//! soon as what it has called returns, whatever that is. Descriptors stay as they are: nothing leaks. A
//! thread that ends does the same to its coroutines; who waits in such a call again after that is left
//! where it is.
//!
//! # What stays as it was
//!
//! - Descriptors keep their flags: none is ever set so that it does not block, but for the moment in which
//!   a `connect` begins. What the program sets itself is honoured, and so are `SO_RCVTIMEO` and
//!   `SO_SNDTIMEO`.
//! - Standard output and standard error block: `println!` holds a borrow while it writes.
//! - `accept` looks first: if several threads or processes take connections from one blocking socket, one
//!   that comes too late blocks until the next connection.
//!
//! # What cannot work
//!
//! - The coroutines of a thread share `thread::current()`, its `thread_local!`s and its name. A crate that
//!   keeps something in them for the length of a call is confused by two coroutines in that call: `tokio`
//!   says "Cannot start a runtime from within a runtime" to the second `block_on` (it works in
//!   [`unblock`](crate::pool::unblock)), `parking_lot` and `crossbeam` are named in [`What::Sync`].
//! - A `thread::spawn` is a thread. [`spawn`](crate::spawn()) makes coroutines.
//! - Calls that libc makes itself, system calls that are made without it (`rustix` by default, `io_uring`),
//!   and programs that are linked with a static libc are not seen.
//! - A file that is mapped into memory is read when it is touched, and blocks.
//!
//! It says itself where it does not reach: print [`report()`] to see what is patched, which symbols lead
//! elsewhere, and which calls have held up a thread with coroutines. A
//! [`Watchdog`](crate::watchdog::Watchdog) tells who holds a thread, and where.
//!
//! # Inside
//!
//! - `table.rs` is **the** table: a row a symbol of libc that is defined here;
//! - `hooks/` is what the symbols do in a coroutine, a file a kind;
//! - `gate.rs` decides whether a call is ours, `patch.rs` is how that is chosen, and `report.rs` what can
//!   be asked about it, `summary.rs` the same in words;
//! - `descriptors.rs` is what is known of the program's descriptors, `errno.rs` how calls of C fail;
//! - `addresses.rs` is who waits at an address, as by futex, and `parking.rs` who waits in `thread::park`;
//! - `elsewhere.rs` has a call that cannot but block made by another thread, and `aside.rs` one that may
//!   take for ever;
//! - `vforks.rs` notes who makes a child that has this process's memory.
//!
//! Nothing imports this module.

#[cfg(target_feature = "crt-static")]
compile_error!(
    "the feature `monkey` takes the place of functions of a shared libc, and cannot with a static one: \
     build without it, or with `-C target-feature=-crt-static`"
);

mod addresses;
mod aside;
mod attempts;
mod descriptors;
mod elsewhere;
mod errno;
mod gate;
mod handlers;
mod hooks;
mod initialisers;
mod known;
mod numbers;
mod owners;
mod parking;
mod patch;
mod report;
mod summary;
mod table;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod vforks;

pub use patch::{Patch, What, is_patched, patch_all};
pub use report::{OnKill, Symbol, self_check};
pub use summary::{Report, blocked_calls, report};
