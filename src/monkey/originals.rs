//! libc's own functions: the next definition of each symbol of the table.
//!
//! Each row becomes a module with the name of the symbol. It has libc's function (`call`) and the row's kinds
//! and counter (`ROW`). The functions are looked up by `dlsym` before `main` runs, since a signal handler may
//! call any of them.

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
    ($($($what:ident)|+ $callers:ident $on_kill:ident
       fn $symbol:ident($($argument:ident: $type:ty),* $(,)?) -> $result:ty => $hook:path;)*) => {
        $(
            #[allow(clippy::too_many_arguments, reason = "libc's")]
            pub(super) mod $symbol {
                use super::*;

                pub(in crate::monkey) static ROW: Row =
                    Row::new(stringify!($symbol), &[$(What::$what),+], OnKill::$on_kill);

                static ORIGINAL: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());

                /// Calls libc's function.
                ///
                /// # Safety
                ///
                /// Contract of libc's function of this name.
                #[inline]
                pub(in crate::monkey) unsafe fn call($($argument: $type),*) -> $result {
                    let mut address = ORIGINAL.load(Relaxed);
                    if address.is_null() {
                        address = resolve();
                    }
                    type Function = unsafe extern "C" fn($($type),*) -> $result;
                    // SAFETY: libc's function of this name has this type. If it is variadic, its arguments
                    // are numbers and pointers, which Linux ABIs pass like those of other functions.
                    let function: Function = unsafe { std::mem::transmute(address) };
                    // SAFETY: the contract of libc's function, which gets the caller's arguments.
                    unsafe { function($($argument),*) }
                }

                /// Like `call`, for a call that cannot be made cooperative: counts that it may block the hub.
                ///
                /// # Safety
                ///
                /// Contract of libc's function of this name.
                #[allow(dead_code, reason = "some calls never block")]
                #[cold]
                pub(in crate::monkey) unsafe fn call_blocking($($argument: $type),*) -> $result {
                    ROW.count_blocked();
                    // SAFETY: the same contract, with the caller's arguments.
                    unsafe { call($($argument),*) }
                }

                /// Looks up libc's function.
                #[cold]
                pub(super) fn resolve() -> *mut c_void {
                    let address = super::next_definition(concat!(stringify!($symbol), "\0"));
                    let address = address
                        .unwrap_or(missing as extern "C" fn($($type),*) -> $result as *mut c_void);
                    ORIGINAL.store(address, Relaxed);
                    address
                }

                /// The substitute where libc is older than the function.
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

/// Counts a call of `symbol` that a hub's thread makes after all.
#[cold]
pub(super) fn count_blocked(symbol: &str) {
    let row = ROWS.iter().find(|row| row.symbol == symbol);
    row.into_iter().for_each(|row| row.count_blocked());
}

/// Symbols that not every libc, or no older libc, defines. The others always exist.
const OPTIONAL: &[&str] = &[
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
    // In a separate library (librt) before glibc 2.34.
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

/// The result types of C functions, and how they report failure.
pub(super) trait Fails {
    /// The result of a call that fails.
    const FAILED: Self;

    /// Whether this is certainly no failure, so that errno has no meaning for the call.
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
    // The rest of a sleep, which restores errno itself.
    c_uint => c_uint::MAX, |_| false;
    ssize_t => -1, |result| *result >= 0;
    c_long => -1, |result| *result >= 0;
    // Also the result of `fread`, which is smaller than requested if it has failed.
    sighandler_t => libc::SIG_ERR, |_| false;
    *mut hostent => std::ptr::null_mut(), |result| !result.is_null();
    *mut FILE => std::ptr::null_mut(), |result| !result.is_null();
    *mut c_char => std::ptr::null_mut(), |result| !result.is_null();
}

/// Returns the definition of a symbol that the program would use without this crate.
///
/// `None` if it is an [`OPTIONAL`] one that libc does not have. Aborts if any other is missing.
pub(super) fn next_definition(symbol: &'static str) -> Option<*mut c_void> {
    // SAFETY: `symbol` ends with a zero.
    let address = unsafe { libc::dlsym(libc::RTLD_NEXT, symbol.as_ptr().cast()) };
    if !address.is_null() {
        return Some(address);
    }
    if !OPTIONAL.contains(&symbol) {
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
