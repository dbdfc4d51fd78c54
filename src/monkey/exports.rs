//! The symbols that the program calls, and that this crate defines instead of libc.
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
//! The functions never unwind: their callers are compiled for that.

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

/// Whether a call is for the hook: see the columns of the table.
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

/// A call that succeeds leaves errno as it was, however many attempts it has made: those of coroutines do so
/// here, and the others make one. Calls that return a line do so themselves: they may return a part of it,
/// and say in errno why it is not whole.
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
    ($who:ident, $symbol:ident, $call:expr) => {
        $call
    };
}

macro_rules! exports {
    ($($($what:ident)|+ $who:ident $on_kill:ident
       fn $symbol:ident($($argument:ident: $type:ty),* $(,)?) -> $result:ty => $hook:path;)*) => {
        $(
            #[allow(clippy::too_many_arguments, reason = "libc's")]
            mod $symbol {
                use super::*;

                /// # Safety
                ///
                /// As libc's function of this name, which it is for the whole program.
                #[unsafe(no_mangle)]
                unsafe extern "C" fn $symbol($($argument: $type),*) -> $result {
                    if is_hooked!($symbol $who) {
                        // SAFETY: the caller's.
                        keeping_errno!($who, $symbol, unsafe { $hook($($argument),*) })
                    } else {
                        // SAFETY: the caller's.
                        unsafe { originals::$symbol::call($($argument),*) }
                    }
                }

                /// The address of the function that the program is to call.
                pub(super) fn address() -> *const c_void {
                    $symbol as unsafe extern "C" fn($($type),*) -> $result as *const c_void
                }
            }
        )*

        /// All rows, and the address of the function of each.
        pub(super) fn rows() -> impl Iterator<Item = (&'static Row, *const c_void)> {
            type Address = fn() -> *const c_void;
            let rows = [$((&originals::$symbol::ROW, $symbol::address as Address)),*].into_iter();
            rows.map(|(row, address)| (row, address())).chain(initialisers::rows())
        }
    };
}

for_each_row!(exports);

extern "C" fn resolve_all() {
    originals::resolve_all();
    initialisers::resolve_all();
}

#[used]
#[unsafe(link_section = ".init_array")]
static RESOLVE: extern "C" fn() = resolve_all;

/// Where a symbol leads whoever calls it: another library may have been there first.
pub(super) fn first_definition(symbol: &std::ffi::CStr) -> *const c_void {
    // SAFETY: a string that ends with a zero.
    unsafe { libc::dlsym(libc::RTLD_DEFAULT, symbol.as_ptr()) }
}
