//! AddressSanitizer's runtime: told of every change of stacks, or it takes one for an overflow.
//!
//! To find uses of a frame that has returned, it puts frames not on the stack but in a *fake stack*
//! beside it, which is made with the first such frame and belongs to whoever runs:
//!
//! ```text
//!   leave ─► takes the fake stack away ─ (switch) ─► arrive ─► puts the other one in place
//!   ended ─► remembers that nobody comes back for it ─ (switch, value is read) ─► forget ─► frees it
//! ```
//!
//! It cannot be freed by the computation that ends: functions that it is in, and perhaps the value
//! that it hands over, are there.

//!
//! In a program without that runtime the functions below do nothing: its definitions are strong, and take the
//! place of these.

#![cfg_attr(feature = "portable", allow(dead_code, reason = "there corosensei tells the runtime"))]

use std::cell::Cell;
use std::ffi::c_void;
use std::ptr;

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
    /// The bottom of the stack that was left for good last, and its fake stack. Null if it is freed.
    static ENDED: Cell<(usize, *mut c_void)> = const { Cell::new((0, ptr::null_mut())) };
}

/// Says that the next instructions go to the stack of `size` bytes from `bottom`. Returns what
/// [`arrive`] wants when this stack is gone on with, or [`ended`] when it never is.
pub(crate) fn leave(bottom: usize, size: usize) -> *mut c_void {
    let mut save = ptr::null_mut();
    // SAFETY: `save` is writable; the bounds are only remembered.
    unsafe { __sanitizer_start_switch_fiber(&raw mut save, ptr::without_provenance(bottom), size) };
    save
}

/// Says that this stack is in use (again). `save` is null for one that is new.
pub(crate) fn arrive(save: *mut c_void) {
    // SAFETY: `save` is null or what `leave` returned for this stack; nothing else is asked for.
    unsafe { __sanitizer_finish_switch_fiber(save, ptr::null_mut(), ptr::null_mut()) };
}

/// Says that the stack from `bottom`, whose [`leave`] returned `save`, is left for good. To be
/// followed by [`forget`] before another one is.
pub(crate) fn ended(bottom: usize, save: *mut c_void) {
    ENDED.set((bottom, save));
}

/// Forgets what the frames of a computation have poisoned that has ended or never begun.
pub(crate) fn forget(bottom: usize, size: usize) {
    let (ended, save) = ENDED.get();
    if ended == bottom && !save.is_null() {
        ENDED.set((0, ptr::null_mut()));
        // SAFETY: `save` is from `leave`, and nobody else has it.
        unsafe { free(bottom, size, save) };
    }
    // SAFETY: only shadow memory is written.
    unsafe { __asan_unpoison_memory_region(ptr::without_provenance(bottom), size) };
}

/// Frees a fake stack. The runtime does that only for the one in use, when it is left for good: so it
/// is told that we go there, and at once that we come back.
///
/// # Safety
///
/// `save` is what [`leave`] returned for the stack of `size` bytes from `bottom`, and is not used again.
unsafe fn free(bottom: usize, size: usize, save: *mut c_void) {
    let (mut own_bottom, mut own_size, mut own_save) = (ptr::null(), 0, ptr::null_mut());
    // SAFETY: the runtime only keeps account of all this. The variables are in our own fake stack, which
    // is memory all the time, and no instrumented code runs before it is in place again.
    unsafe {
        __sanitizer_start_switch_fiber(&raw mut own_save, ptr::without_provenance(bottom), size);
        __sanitizer_finish_switch_fiber(save, &raw mut own_bottom, &raw mut own_size);
        __sanitizer_start_switch_fiber(ptr::null_mut(), own_bottom, own_size);
        __sanitizer_finish_switch_fiber(own_save, ptr::null_mut(), ptr::null_mut());
    }
}

/// Bottom and size of the stack that the calling thread began on.
pub(crate) fn first_stack() -> (usize, usize) {
    let (mut bottom, mut size) = (ptr::null_mut(), 0);
    // SAFETY: the attributes are initialised by the first call, read by the second and freed by the
    // third, all for the calling thread.
    unsafe {
        let mut attributes = std::mem::zeroed();
        if libc::pthread_getattr_np(libc::pthread_self(), &mut attributes) == 0 {
            libc::pthread_attr_getstack(&attributes, &mut bottom, &mut size);
            libc::pthread_attr_destroy(&mut attributes);
        }
    }
    (bottom.addr(), size)
}
