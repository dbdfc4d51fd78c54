//! `pthread_once` and C11's `call_once`: what is to run once. These rows of the table stand here, since they
//! are the only ones through which may be unwound: C++ lets an exception of an initialiser out through them,
//! as `std::call_once` does. So they have another ABI than the rest.
//!
//! A coroutine that comes while a sibling is in the initialiser waits among `addresses` until that one is
//! done. The kernel would keep the whole thread. Which of them is in it is known by `owners.rs`.

use super::addresses;
use super::gate::Row;
use super::hooks::acquire::{ANY, Attempt, Limit, Wanted};
use super::kinds::{OnKill, What};
use super::originals::next_definition;
use super::owners::{self, Owner};
use crate::hub::{Place, place};
use libc::{c_int, c_void};
use std::cell::Cell;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::atomic::{AtomicI32, AtomicPtr};

/// An initialiser, which may unwind.
type Init = unsafe extern "C-unwind" fn();

macro_rules! rows {
    ($($symbol:ident($argument:ident) -> $result:ty;)*) => {
        $(
            mod $symbol {
                use super::*;

                pub(super) static ROW: Row =
                    Row::new(stringify!($symbol), &[What::Sync], OnKill::Deferred);

                static ORIGINAL: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());

                /// What the symbol is without us.
                ///
                /// # Safety
                ///
                /// As libc's function of this name.
                pub(super) unsafe fn call($argument: *mut c_int, init: Init) -> $result {
                    let mut address = ORIGINAL.load(Relaxed);
                    if address.is_null() {
                        address = resolve();
                    }
                    type Function = unsafe extern "C-unwind" fn(*mut c_int, Init) -> $result;
                    // SAFETY: libc's function of this name has this type.
                    let function: Function = unsafe { std::mem::transmute(address) };
                    // SAFETY: the caller's.
                    unsafe { function($argument, init) }
                }

                #[cold]
                pub(super) fn resolve() -> *mut c_void {
                    let address = next_definition(concat!(stringify!($symbol), "\0"))
                        .unwrap_or(missing as extern "C" fn(*mut c_int, Init) as *mut c_void);
                    ORIGINAL.store(address, Relaxed);
                    address
                }

                /// There is none before us: libc is older than the function, and so is who calls it.
                extern "C" fn missing(_: *mut c_int, _: Init) {}

                /// # Safety
                ///
                /// As libc's function of this name, which it is for the whole program.
                #[unsafe(no_mangle)]
                unsafe extern "C-unwind" fn $symbol($argument: *mut c_int, init: Init) -> $result {
                    let is_ours = ROW.is_patched() && place() == Place::Task;
                    // SAFETY: the caller's.
                    let running = if is_ours { unsafe { wait_for_turn($argument, init) } } else { None };
                    // SAFETY: the caller's.
                    let result = unsafe { call($argument, init) };
                    drop(running);
                    result
                }

                pub(super) fn ours() -> *const c_void {
                    $symbol as unsafe extern "C-unwind" fn(*mut c_int, Init) -> $result as *const c_void
                }
            }
        )*

        /// All rows, and where the function of each is.
        pub(super) fn rows() -> impl Iterator<Item = (&'static Row, *const c_void)> {
            [$((&$symbol::ROW, $symbol::ours())),*].into_iter()
        }

        pub(super) fn resolve_all() {
            $($symbol::resolve();)*
        }
    };
}

rows! {
    pthread_once(control) -> c_int;
    call_once(flag) -> ();
}

/// The current coroutine may be in an initialiser, until this is dropped: also by unwinding.
struct Running(usize);

impl Drop for Running {
    fn drop(&mut self) {
        owners::forget(self.0);
        addresses::wake(self.0, ANY, usize::MAX);
    }
}

/// Waits until no sibling is in the initialiser, and no other thread. `None`: it has been run.
///
/// # Safety
///
/// As libc's `pthread_once`.
unsafe fn wait_for_turn(control: *mut c_int, init: Init) -> Option<Running> {
    let (address, done) = (control.addr(), done());
    let state = || {
        // SAFETY: the caller's: it is there.
        unsafe { &*control.cast::<AtomicI32>() }.load(Acquire)
    };
    if state() == done || addresses::is_inside() {
        return None;
    }
    let (me, running) = (Owner::current(), running());
    let attempt = || match owners::owner_of(address) {
        _ if state() == done => Attempt::Over(0),
        // One that calls itself waits for itself, as a thread does.
        Some(_) => Attempt::Sibling,
        None if state() == 0 => Attempt::Over(0),
        // What another thread was in the middle of when this process was forked: libc begins it anew.
        None if cfg!(target_env = "gnu") && state() != running => Attempt::Over(0),
        None => Attempt::Foreign,
    };
    if !matches!(attempt(), Attempt::Over(_)) {
        // SAFETY: an initialiser is a function.
        let _callable = unsafe { Callable::of(init) };
        let (purpose, limit) = ("pthread_once", Limit::Never);
        Wanted { address, bits: ANY, purpose, limit }.acquire(attempt);
    }
    owners::record(address, me);
    Some(Running(address))
}

/// What `std::call_once` of libstdc++ is about to call, until this is dropped. It hands that over in two
/// variables of the thread's, which siblings may use while the caller waits, and which are null when one has
/// returned.
struct Callable([(*mut usize, usize); 2]);

impl Callable {
    /// `None` if the initialiser knows no such variables.
    ///
    /// # Safety
    ///
    /// A function.
    unsafe fn of(init: Init) -> Option<Callable> {
        const NAMES: [&CStr; 2] = [c"_ZSt15__once_callable", c"_ZSt11__once_call"];
        let mut found = MaybeUninit::<libc::Dl_info>::uninit();
        // SAFETY: room for the answer; a name that the linker has given; what is closed was opened here, and
        // stays, since a function of it is about to be called.
        let places = unsafe {
            if libc::dladdr(init as *const c_void, found.as_mut_ptr()) == 0 {
                return None;
            }
            let flags = libc::RTLD_LAZY | libc::RTLD_NOLOAD;
            let library = libc::dlopen(found.assume_init().dli_fname, flags);
            let places = NAMES.map(|name| match library.is_null() {
                true => libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()),
                false => libc::dlsym(library, name.as_ptr()),
            });
            if !library.is_null() {
                libc::dlclose(library);
            }
            places
        };
        if places.iter().any(|place| place.is_null()) {
            return None;
        }
        // SAFETY: this thread's variables of these names, which are two pointers.
        Some(Callable(places.map(|place| unsafe { (place.cast(), *place.cast()) })))
    }
}

impl Drop for Callable {
    fn drop(&mut self) {
        for (place, value) in self.0 {
            // SAFETY: as above: the coroutine is on the same thread.
            unsafe { *place = value };
        }
    }
}

/// What a control holds while its initialiser is run in this process. After a fork it is something else.
fn running() -> c_int {
    thread_local! {
        static CONTROL: AtomicI32 = const { AtomicI32::new(0) };
        static SEEN: Cell<c_int> = const { Cell::new(0) };
    }
    unsafe extern "C-unwind" fn look() {
        SEEN.set(CONTROL.with(|control| control.load(Relaxed)));
    }
    CONTROL.with(|control| {
        control.store(0, Relaxed);
        // SAFETY: a control that no other call uses.
        unsafe { pthread_once::call(control.as_ptr(), look) };
    });
    SEEN.get()
}

/// What a control holds when its initialiser has been run.
fn done() -> c_int {
    unsafe extern "C-unwind" fn nothing() {}
    static DONE: OnceLock<c_int> = OnceLock::new();
    *DONE.get_or_init(|| {
        let mut control = 0;
        // SAFETY: a control that has not been used.
        unsafe { pthread_once::call(&mut control, nothing) };
        control
    })
}
