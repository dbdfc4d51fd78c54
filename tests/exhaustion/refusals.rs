//! The functions of libc that can be refused. The linker binds what this crate and std call to these. Not among them is
//! `mprotect`: std panics in threads that it starts if that fails, where nothing catches it.

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_long, c_void};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;

/// What is asked of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Epoll,
    Registration,
    Wait,
    Eventfd,
    Socket,
    Thread,
    Mapping,
    Guard,
    SignalStack,
}

/// Which calls are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Once,
    FromThenOn,
}

const NOTHING: u32 = u32::MAX;

/// What is refused now: a kind, the number of the first call, whether later ones are refused too.
static REFUSED: AtomicU32 = AtomicU32::new(NOTHING);
static FIRST: AtomicU32 = AtomicU32::new(0);
static LATER_TOO: AtomicU32 = AtomicU32::new(0);
static CALLS: AtomicU32 = AtomicU32::new(0);

pub(crate) fn begin(kind: Kind, number: u32, mode: Mode) {
    FIRST.store(number, SeqCst);
    LATER_TOO.store(u32::from(mode == Mode::FromThenOn), SeqCst);
    CALLS.store(0, SeqCst);
    REFUSED.store(kind as u32, SeqCst);
}

/// Refuses nothing any more. How many calls of the kind there were.
pub(crate) fn end() -> u32 {
    REFUSED.store(NOTHING, SeqCst);
    CALLS.load(SeqCst)
}

fn is_refused(kind: Kind) -> bool {
    thread_local!(static IS_INSIDE: Cell<bool> = const { Cell::new(false) });
    if REFUSED.load(SeqCst) != kind as u32 || IS_INSIDE.get() {
        return false;
    }
    let number = CALLS.fetch_add(1, SeqCst) + 1;
    let first = FIRST.load(SeqCst);
    number == first || (number > first && LATER_TOO.load(SeqCst) != 0)
}

fn set_errno(error: c_int) {
    // SAFETY: the calling thread's own.
    unsafe { *libc::__errno_location() = error };
}

/// A system call, without libc.
///
/// # Safety
///
/// That of the system call.
unsafe fn raw(number: c_long, arguments: [c_long; 6]) -> c_long {
    let result: c_long;
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: as the caller says.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            out("rcx") _, out("r11") _,
            options(nostack),
        );
    }
    if (-4095..0).contains(&result) {
        set_errno(-result as c_int);
        return -1;
    }
    result
}

macro_rules! refusable {
    ($($kind:ident $error:ident: fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty = $number:ident;)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($argument: $type),*) -> $result {
            if is_refused(Kind::$kind) {
                set_errno(libc::$error);
                return -1_isize as $result;
            }
            let mut arguments = [0; 6];
            let mut rest = arguments.iter_mut();
            $(*rest.next().expect("six at most") = $argument as c_long;)*
            // SAFETY: the call of that name, with the arguments that it was called with.
            unsafe { raw(libc::$number, arguments) as $result }
        }
    )*};
}

refusable! {
    Epoll EMFILE: fn epoll_create1(flags: c_int) -> c_int = SYS_epoll_create1;
    Registration ENOSPC: fn epoll_ctl(epoll: c_int, operation: c_int, fd: c_int, event: *mut c_void) -> c_int = SYS_epoll_ctl;
    Eventfd EMFILE: fn eventfd(initial: u32, flags: c_int) -> c_int = SYS_eventfd2;
    Socket EMFILE: fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int = SYS_socket;
    Socket EMFILE: fn accept4(fd: c_int, address: *mut c_void, length: *mut c_void, flags: c_int) -> c_int = SYS_accept4;
    Mapping ENOMEM: fn mmap(address: *mut c_void, length: usize, protection: c_int, flags: c_int, fd: c_int, offset: c_long) -> *mut c_void = SYS_mmap;
    Guard ENOMEM: fn madvise(address: *mut c_void, length: usize, advice: c_int) -> c_int = SYS_madvise;
    SignalStack ENOMEM: fn sigaltstack(new: *const c_void, old: *mut c_void) -> c_int = SYS_sigaltstack;
}

/// What this crate and std ask by number.
#[unsafe(no_mangle)]
unsafe extern "C" fn syscall(
    number: c_long,
    a: c_long,
    b: c_long,
    c: c_long,
    d: c_long,
    e: c_long,
    f: c_long,
) -> c_long {
    let is_wait = number == libc::SYS_epoll_pwait || number == libc::SYS_epoll_pwait2;
    if is_wait && is_refused(Kind::Wait) {
        set_errno(libc::ENOMEM);
        return -1;
    }
    // SAFETY: the system call that was asked for.
    unsafe { raw(number, [a, b, c, d, e, f]) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_create(
    thread: *mut c_void,
    attributes: *const c_void,
    start: *const c_void,
    argument: *mut c_void,
) -> c_int {
    type Create =
        unsafe extern "C" fn(*mut c_void, *const c_void, *const c_void, *mut c_void) -> c_int;
    if is_refused(Kind::Thread) {
        return libc::EAGAIN;
    }
    // SAFETY: libc's own function of that name and type, with the arguments that this one was called with.
    unsafe {
        let next = libc::dlsym(libc::RTLD_NEXT, c"pthread_create".as_ptr().cast::<c_char>());
        std::mem::transmute::<*mut c_void, Create>(next)(thread, attributes, start, argument)
    }
}
