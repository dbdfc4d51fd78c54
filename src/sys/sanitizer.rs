//! Reports stack switches to AddressSanitizer's runtime, which would take them for overflows.
//!
//! To find uses of a frame after its return, the runtime puts frames not on the stack but into a *fake
//! stack* beside it. That is created with the first such frame and belongs to the running computation:
//!
//! ```text
//!   leave ─► takes away the fake stack ─ (switch) ─► arrive ─► puts the other one in place
//!   ended ─► remembers that it is left for good ─ (switch, value is read) ─► forget ─► frees it
//! ```
//!
//! The computation that ends cannot free it: its fake stack still holds frames that it is in, and perhaps
//! the value that it hands over.
//!
//! In a program without that runtime these functions do nothing: they call the weak definitions below,
//! which the runtime's strong definitions replace.

#![cfg_attr(feature = "portable", allow(dead_code, reason = "corosensei notifies the runtime"))]

use std::cell::Cell;
use std::ffi::c_void;
use std::ptr;

// Weak no-op definitions of the runtime's functions.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))]
std::arch::global_asm!(
    ".pushsection .text.switchgrass_no_sanitizer,\"ax\",@progbits",
    ".weak __sanitizer_start_switch_fiber",
    ".weak __sanitizer_finish_switch_fiber",
    ".weak __asan_unpoison_memory_region",
    ".type __sanitizer_start_switch_fiber,@function",
    ".type __sanitizer_finish_switch_fiber,@function",
    ".type __asan_unpoison_memory_region,@function",
    ".balign 4",
    "__sanitizer_start_switch_fiber:",
    "__sanitizer_finish_switch_fiber:",
    "__asan_unpoison_memory_region:",
    "ret",
    ".popsection",
);

unsafe extern "C" {
    fn __sanitizer_start_switch_fiber(save: *mut *mut c_void, bottom: *const c_void, size: usize);
    fn __sanitizer_finish_switch_fiber(
        save: *mut c_void,
        bottom_old: *mut *const c_void,
        size_old: *mut usize,
    );
    fn __asan_unpoison_memory_region(start: *const c_void, size: usize);
}

thread_local! {
    /// The bottom and the fake stack of the stack that was last left for good. Null once that is freed.
    static ENDED: Cell<(usize, *mut c_void)> = const { Cell::new((0, ptr::null_mut())) };
}

/// Notifies the runtime that the next instructions switch to the stack of `size` bytes from `bottom`.
///
/// Returns the fake stack of the stack that is left: for [`arrive`] when it is resumed, or for [`ended`].
pub(crate) fn leave(bottom: usize, size: usize) -> *mut c_void {
    let mut save = ptr::null_mut();
    // SAFETY: `save` is writable, and the runtime only records the bounds.
    unsafe { __sanitizer_start_switch_fiber(&raw mut save, ptr::without_provenance(bottom), size) };
    save
}

/// Notifies the runtime that this stack is in use. `save` is null if the stack is new.
pub(crate) fn arrive(save: *mut c_void) {
    // SAFETY: `save` is null or what `leave` returned for this stack; null pointers ask for no results.
    unsafe { __sanitizer_finish_switch_fiber(save, ptr::null_mut(), ptr::null_mut()) };
}

/// Records that the stack from `bottom`, whose [`leave`] returned `save`, is left for good.
///
/// [`forget`] has to be called before another stack is left for good.
pub(crate) fn ended(bottom: usize, save: *mut c_void) {
    ENDED.set((bottom, save));
}

/// Frees the fake stack of a computation that has ended or never begun, and unpoisons its stack.
pub(crate) fn forget(bottom: usize, size: usize) {
    let (ended, save) = ENDED.get();
    if ended == bottom && !save.is_null() {
        ENDED.set((0, ptr::null_mut()));
        // SAFETY: `save` comes from the `leave` of this stack, and was just taken out of `ENDED`.
        unsafe { free(bottom, size, save) };
    }
    // SAFETY: the call writes only to shadow memory.
    unsafe { __asan_unpoison_memory_region(ptr::without_provenance(bottom), size) };
}

/// Frees a fake stack.
///
/// The runtime frees only the fake stack in use, when it is left for good. So this pretends to switch there
/// and back.
///
/// # Safety
///
/// `save` is what [`leave`] returned for the stack of `size` bytes from `bottom`, and is not used again.
unsafe fn free(bottom: usize, size: usize, save: *mut c_void) {
    let (mut own_bottom, mut own_size, mut own_save) = (ptr::null(), 0, ptr::null_mut());
    // SAFETY: the runtime only keeps account of these calls. The variables lie in this computation's own
    // fake stack, which stays mapped, and no instrumented code runs before it is in place again.
    unsafe {
        __sanitizer_start_switch_fiber(&raw mut own_save, ptr::without_provenance(bottom), size);
        __sanitizer_finish_switch_fiber(save, &raw mut own_bottom, &raw mut own_size);
        __sanitizer_start_switch_fiber(ptr::null_mut(), own_bottom, own_size);
        __sanitizer_finish_switch_fiber(own_save, ptr::null_mut(), ptr::null_mut());
    }
}

/// Returns the bottom and size of the calling thread's first stack.
pub(crate) fn first_stack() -> (usize, usize) {
    let (mut bottom, mut size) = (ptr::null_mut(), 0);
    // SAFETY: the attributes are initialised by the first call, read by the second and freed by the third,
    // all for the calling thread.
    unsafe {
        let mut attributes = std::mem::zeroed();
        if libc::pthread_getattr_np(libc::pthread_self(), &mut attributes) == 0 {
            libc::pthread_attr_getstack(&attributes, &mut bottom, &mut size);
            libc::pthread_attr_destroy(&mut attributes);
        }
    }
    (bottom.addr(), size)
}
