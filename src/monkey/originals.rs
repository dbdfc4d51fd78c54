//! What libc's functions are without this crate: the next definition of each symbol of the table.
//!
//! Each row becomes a module with the name of the symbol, which has libc's function (`call`) and what is
//! counted (`ROW`). The function is found by `dlsym` before `main` runs: a signal handler may call any of
//! them.

use super::errno;
use super::gate::Row;
use super::kinds::{OnKill, What};
use super::table::for_each_row;
use libc::{
    FILE, addrinfo, c_char, c_int, c_long, c_uint, c_ulong, c_void, clockid_t, epoll_event, fd_set,
    hostent, id_t, idtype_t, iovec, mmsghdr, mode_t, mqd_t, msghdr, nfds_t, off_t, off64_t, pid_t,
    pollfd, pthread_barrier_t, pthread_cond_t, pthread_mutex_t, pthread_rwlock_t,
    pthread_spinlock_t, pthread_t, rusage, sem_t, sembuf, sigaction as Action, sighandler_t,
    siginfo_t, sigset_t, size_t, sockaddr, socklen_t, ssize_t, termios, timespec, timeval,
};
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

macro_rules! originals {
    ($($($what:ident)|+ $who:ident $on_kill:ident
       fn $symbol:ident($($argument:ident: $type:ty),* $(,)?) -> $result:ty => $hook:path;)*) => {
        $(
            #[allow(clippy::too_many_arguments, reason = "libc's")]
            pub(super) mod $symbol {
                use super::*;

                pub(in crate::monkey) static ROW: Row =
                    Row::new(stringify!($symbol), &[$(What::$what),+], OnKill::$on_kill);

                static ORIGINAL: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());

                /// What the symbol is without us.
                ///
                /// # Safety
                ///
                /// As libc's function of this name.
                #[inline]
                pub(in crate::monkey) unsafe fn call($($argument: $type),*) -> $result {
                    let mut address = ORIGINAL.load(Relaxed);
                    if address.is_null() {
                        address = resolve();
                    }
                    type Function = unsafe extern "C" fn($($type),*) -> $result;
                    // SAFETY: libc's function of this name has this type. Where it takes variable arguments,
                    // those are numbers and pointers, which are passed as others are on Linux.
                    let function: Function = unsafe { std::mem::transmute(address) };
                    // SAFETY: the caller's.
                    unsafe { function($($argument),*) }
                }

                /// Like `call`, of a call that there is no way to make cooperative: it blocks the hub.
                ///
                /// # Safety
                ///
                /// As libc's function of this name.
                #[allow(dead_code, reason = "some calls never block")]
                #[cold]
                pub(in crate::monkey) unsafe fn call_blocking($($argument: $type),*) -> $result {
                    ROW.count_blocked();
                    // SAFETY: the caller's.
                    unsafe { call($($argument),*) }
                }

                #[cold]
                pub(super) fn resolve() -> *mut c_void {
                    let address = super::next_definition(concat!(stringify!($symbol), "\0"));
                    let address = address
                        .unwrap_or(missing as extern "C" fn($($type),*) -> $result as *mut c_void);
                    ORIGINAL.store(address, Relaxed);
                    address
                }

                /// There is none before us: libc is older than the function.
                extern "C" fn missing($(_: $type),*) -> $result {
                    errno::set(libc::ENOSYS);
                    Fails::FAILED
                }
            }
        )*

        const ROWS: &[&Row] = &[$(&$symbol::ROW),*];

        pub(super) fn resolve_all() {
            $($symbol::resolve();)*
        }
    };
}

for_each_row!(originals);

/// A call that is waited for under this name is made by the thread of a hub after all.
#[cold]
pub(super) fn count_blocked(symbol: &str) {
    let row = ROWS.iter().find(|row| row.symbol == symbol);
    row.into_iter().for_each(|row| row.count_blocked());
}

/// What libc has only had for some years, or not every libc has. The others are always there.
const YOUNG: &[&str] = &[
    "call_once\0",
    "__sigaction\0",
    "__sysv_signal\0",
    "__fgets_unlocked_chk\0",
    "__fread_unlocked_chk\0",
    "__uflow\0",
    "__xpg_sigpause\0",
    "bsd_signal\0",
    "close_range\0",
    "closefrom\0",
    "cnd_broadcast\0",
    "cnd_signal\0",
    "cnd_timedwait\0",
    "cnd_wait\0",
    "copy_file_range\0",
    "epoll_pwait2\0",
    "fcntl64\0",
    // In a library of its own until glibc 2.34.
    "mq_close\0",
    "mq_receive\0",
    "mq_send\0",
    "mq_timedreceive\0",
    "mq_timedsend\0",
    "mtx_destroy\0",
    "mtx_lock\0",
    "mtx_timedlock\0",
    "mtx_trylock\0",
    "mtx_unlock\0",
    "preadv2\0",
    "preadv64v2\0",
    "pthread_clockjoin_np\0",
    "pthread_cond_clockwait\0",
    "pthread_mutex_clocklock\0",
    "pthread_rwlock_clockrdlock\0",
    "pthread_rwlock_clockwrlock\0",
    "pthread_timedjoin_np\0",
    "pwritev2\0",
    "pwritev64v2\0",
    "sem_clockwait\0",
    "thrd_join\0",
    "thrd_sleep\0",
    "thrd_yield\0",
    "siginterrupt\0",
    "sigpause\0",
    "sigset\0",
    "ssignal\0",
    "sysv_signal\0",
];

/// What is returned by a call that fails.
pub(super) trait Fails {
    const FAILED: Self;

    /// Whether this is certainly no failure, so that errno says nothing about the call.
    fn has_succeeded(&self) -> bool;
}

macro_rules! fails {
    ($($type:ty => $value:expr, $has_succeeded:expr;)*) => {
        $(impl Fails for $type {
            const FAILED: Self = $value;

            #[inline]
            fn has_succeeded(&self) -> bool {
                let has_succeeded: fn(&Self) -> bool = $has_succeeded;
                has_succeeded(self)
            }
        })*
    };
}

fails! {
    () => (), |()| true;
    c_int => -1, |result| *result >= 0;
    // What is left of a sleep, which keeps errno itself.
    c_uint => c_uint::MAX, |_| false;
    ssize_t => -1, |result| *result >= 0;
    c_long => -1, |result| *result >= 0;
    // Also what `fread` counts, which is less than was asked for if it has failed.
    sighandler_t => libc::SIG_ERR, |_| false;
    *mut hostent => std::ptr::null_mut(), |result| !result.is_null();
    *mut FILE => std::ptr::null_mut(), |result| !result.is_null();
    *mut c_char => std::ptr::null_mut(), |result| !result.is_null();
}

/// The definition of a symbol that the program would have without us.
pub(super) fn next_definition(symbol: &'static str) -> Option<*mut c_void> {
    // SAFETY: a string that ends with a zero.
    let address = unsafe { libc::dlsym(libc::RTLD_NEXT, symbol.as_ptr().cast()) };
    if !address.is_null() {
        return Some(address);
    }
    if !YOUNG.contains(&symbol) {
        let name = symbol.trim_end_matches('\0');
        crate::sys::stderr::write(&[
            "switchgrass: the feature `monkey` needs a libc that is linked dynamically: there is no other `",
            name,
            "`\n",
        ]);
        std::process::abort();
    }
    None
}
