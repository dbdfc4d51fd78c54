//! The symbols that this crate defines instead of libc, and that the program calls.
//!
//! ```text
//!   recv(fd, ..)           the program, std, a C library
//!     │
//!     ▼
//!   the row's function ──► patched, and called by a coroutine? ──no──► originals::recv::call: libc's
//!                                       │ yes
//!                                       ▼
//!                                    hooks::..
//! ```
//!
//! The functions never unwind, since their callers are compiled for that.

use super::gate::{self, Row};
use super::hooks::{
    actions, barriers, c11, checked, children, closing, conditions, connecting, copying, dns,
    epoll, file_locks, files, futexes, joining, locks, mutexes, opening, polling, positioned,
    queues, reading, receiving, rwlocks, selecting, semaphore_sets, semaphores, sending,
    sending_files, signals, sleeping, spinlocks, stdio, terminals, writing,
};
use super::originals::Fails;
use super::table::for_each_row;
use super::{errno, initialisers, originals};
use libc::{
    FILE, addrinfo, c_char, c_int, c_long, c_uint, c_ulong, c_void, clockid_t, epoll_event, fd_set,
    hostent, id_t, idtype_t, iovec, mmsghdr, mode_t, mqd_t, msghdr, nfds_t, off_t, off64_t, pid_t,
    pollfd, pthread_barrier_t, pthread_cond_t, pthread_mutex_t, pthread_rwlock_t,
    pthread_spinlock_t, pthread_t, rusage, sem_t, sembuf, sigaction as Action, sighandler_t,
    siginfo_t, sigset_t, size_t, sockaddr, socklen_t, ssize_t, termios, timespec, timeval,
};

/// Whether a call goes to the hook: see the columns of the table.
macro_rules! is_hooked {
    ($symbol:ident tasks) => {
        gate::is_cooperative(&originals::$symbol::ROW)
    };
    ($symbol:ident threads) => {
        gate::is_to_be_seen(&originals::$symbol::ROW)
    };
    ($symbol:ident always) => {
        true
    };
}

/// Restores errno after a call that succeeds, whatever failed attempts it has made.
///
/// Only hooks of `tasks` rows make more than one attempt. Calls that read a line restore errno
/// themselves: they may return a part of a line, and then report in errno why it is incomplete.
macro_rules! keeping_errno {
    (tasks, $symbol:ident, $call:expr) => {{
        let before = errno::get();
        let result = $call;
        let is_line =
            matches!(stringify!($symbol), "fgets" | "__fgets_chk" | "getline" | "getdelim");
        if !is_line && Fails::has_succeeded(&result) {
            errno::set(before);
        }
        result
    }};
    ($callers:ident, $symbol:ident, $call:expr) => {
        $call
    };
}

macro_rules! exports {
    ($($($what:ident)|+ $callers:ident $on_kill:ident
       fn $symbol:ident($($argument:ident: $type:ty),* $(,)?) -> $result:ty => $hook:path;)*) => {
        $(
            #[allow(clippy::too_many_arguments, reason = "libc's")]
            mod $symbol {
                use super::*;

                /// libc's function of this name, for the whole program.
                ///
                /// # Safety
                ///
                /// Contract of a hook (`hooks/mod.rs`).
                #[unsafe(no_mangle)]
                unsafe extern "C" fn $symbol($($argument: $type),*) -> $result {
                    if is_hooked!($symbol $callers) {
                        // SAFETY: contract of a hook: the row's hook gets the caller's arguments.
                        keeping_errno!($callers, $symbol, unsafe { $hook($($argument),*) })
                    } else {
                        // SAFETY: contract of a hook: libc's function gets the caller's arguments.
                        unsafe { originals::$symbol::call($($argument),*) }
                    }
                }

                /// Returns the address of this definition.
                pub(super) fn address() -> *const c_void {
                    $symbol as unsafe extern "C" fn($($type),*) -> $result as *const c_void
                }
            }
        )*

        /// Returns all rows, each with the address of this crate's definition.
        pub(super) fn rows() -> impl Iterator<Item = (&'static Row, *const c_void)> {
            type Address = fn() -> *const c_void;
            let rows = [$((&originals::$symbol::ROW, $symbol::address as Address)),*].into_iter();
            rows.map(|(row, address)| (row, address())).chain(initialisers::rows())
        }
    };
}

for_each_row!(exports);

/// Looks up libc's functions before `main`: a signal handler may call any of them.
extern "C" fn resolve_all() {
    originals::resolve_all();
    initialisers::resolve_all();
}

#[used]
#[unsafe(link_section = ".init_array")]
static RESOLVE: extern "C" fn() = resolve_all;

/// Returns the definition that callers of a symbol reach: another library's may come first.
pub(super) fn first_definition(symbol: &std::ffi::CStr) -> *const c_void {
    // SAFETY: `symbol` is a string that ends with a zero.
    unsafe { libc::dlsym(libc::RTLD_DEFAULT, symbol.as_ptr()) }
}
