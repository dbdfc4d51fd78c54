//! `pthread_once`, and C11's `call_once`.
//!
//! These rows are separate from the table, since they are the only ones that may unwind: in C++ an exception
//! of an initialiser leaves through them, for example out of `std::call_once`. So they have another ABI.
//!
//! A coroutine that calls while a sibling runs the initialiser waits in `addresses` until the sibling is
//! done; in the kernel it would block the whole thread. `owners.rs` records which coroutine runs it.

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

                /// Calls libc's function.
                ///
                /// # Safety
                ///
                /// Contract of libc's function of this name.
                pub(super) unsafe fn call($argument: *mut c_int, init: Init) -> $result {
                    let mut address = ORIGINAL.load(Relaxed);
                    if address.is_null() {
                        address = resolve();
                    }
                    type Function = unsafe extern "C-unwind" fn(*mut c_int, Init) -> $result;
                    // SAFETY: libc's function of this name has this type, and so has `missing`.
                    let function: Function = unsafe { std::mem::transmute(address) };
                    // SAFETY: the contract of libc's function, which gets the caller's arguments.
                    unsafe { function($argument, init) }
                }

                /// Looks up libc's function.
                #[cold]
                pub(super) fn resolve() -> *mut c_void {
                    let address = next_definition(concat!(stringify!($symbol), "\0"))
                        .unwrap_or(missing as extern "C" fn(*mut c_int, Init) as *mut c_void);
                    ORIGINAL.store(address, Relaxed);
                    address
                }

                /// The substitute where libc is older than the function: no program calls it there.
                extern "C" fn missing(_: *mut c_int, _: Init) {}

                /// libc's function of this name, for the whole program.
                ///
                /// # Safety
                ///
                /// Contract of a hook (`hooks/mod.rs`).
                #[unsafe(no_mangle)]
                unsafe extern "C-unwind" fn $symbol($argument: *mut c_int, init: Init) -> $result {
                    let can_wait = ROW.is_patched() && place() == Place::Task;
                    // SAFETY: contract of a hook: `wait_for_turn` has the same contract.
                    let running = if can_wait { unsafe { wait_for_turn($argument, init) } } else { None };
                    // SAFETY: contract of a hook: libc's function gets the caller's arguments.
                    let result = unsafe { call($argument, init) };
                    drop(running);
                    result
                }

                /// Returns the address of this definition.
                pub(super) fn ours() -> *const c_void {
                    $symbol as unsafe extern "C-unwind" fn(*mut c_int, Init) -> $result as *const c_void
                }
            }
        )*

        /// Returns all rows, each with the address of this crate's definition.
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

/// Marks the current coroutine as the one that may run the initialiser, until dropped, also by unwinding.
struct Running(usize);

impl Drop for Running {
    fn drop(&mut self) {
        owners::forget(self.0);
        addresses::wake(self.0, ANY, usize::MAX);
    }
}

/// Waits until no sibling and no other thread runs the initialiser.
///
/// `None` if it has run already, or if the thread must wait in the kernel.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), for libc's `pthread_once`.
unsafe fn wait_for_turn(control: *mut c_int, init: Init) -> Option<Running> {
    let (address, done) = (control.addr(), done());
    let state = || {
        // SAFETY: contract of a hook: `control` is valid, and shared with other threads.
        unsafe { &*control.cast::<AtomicI32>() }.load(Acquire)
    };
    if state() == done || addresses::is_inside() {
        return None;
    }
    let (me, running) = (Owner::current(), running());
    let attempt = || match owners::owner_of(address) {
        _ if state() == done => Attempt::Over(0),
        // An initialiser that calls itself waits indefinitely, as on a thread.
        Some(_) => Attempt::Sibling,
        None if state() == 0 => Attempt::Over(0),
        // Another thread was running it when this process was forked: libc starts it again.
        None if cfg!(target_env = "gnu") && state() != running => Attempt::Over(0),
        None => Attempt::Foreign,
    };
    if !matches!(attempt(), Attempt::Over(_)) {
        // SAFETY: contract of a hook: `init` is a function.
        let _callable = unsafe { Callable::of(init) };
        let (purpose, limit) = ("pthread_once", Limit::Never);
        Wanted { address, bits: ANY, purpose, limit }.acquire(attempt);
    }
    owners::record(address, me);
    Some(Running(address))
}

/// The function that `std::call_once` of libstdc++ is about to call, restored on drop.
///
/// libstdc++ passes it in two thread-local variables. Siblings may change them while the caller waits, and
/// leave them null.
struct Callable([(*mut usize, usize); 2]);

impl Callable {
    /// Saves the variables. `None` if they do not exist.
    ///
    /// # Safety
    ///
    /// `init` must be a function of a loaded library.
    unsafe fn of(init: Init) -> Option<Callable> {
        const NAMES: [&CStr; 2] = [c"_ZSt15__once_callable", c"_ZSt11__once_call"];
        let mut found = MaybeUninit::<libc::Dl_info>::uninit();
        // SAFETY: `found` has room for the result, and is read after `dladdr` has succeeded; the name in it
        // is valid while the library is loaded. The reference that is closed was opened here; the library
        // stays loaded, since its function is about to be called.
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
        // SAFETY: the addresses are those of this thread's variables of these names, which are pointers.
        Some(Callable(places.map(|place| unsafe { (place.cast(), *place.cast()) })))
    }
}

impl Drop for Callable {
    fn drop(&mut self) {
        for (place, value) in self.0 {
            // SAFETY: the address is that of this thread's variable: a coroutine stays on its thread.
            unsafe { *place = value };
        }
    }
}

/// Returns the value of a control while its initialiser runs in this process. It changes with each fork.
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
        // SAFETY: the control is valid and initialised, and no other call uses it.
        unsafe { pthread_once::call(control.as_ptr(), look) };
    });
    SEEN.get()
}

/// Returns the value of a control whose initialiser has run.
fn done() -> c_int {
    unsafe extern "C-unwind" fn nothing() {}
    static DONE: OnceLock<c_int> = OnceLock::new();
    *DONE.get_or_init(|| {
        let mut control = 0;
        // SAFETY: the control is valid, initialised and unused.
        unsafe { pthread_once::call(&mut control, nothing) };
        control
    })
}
