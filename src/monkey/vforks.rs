//! Children that share their parent's memory: `vfork`, and `clone` with `CLONE_VM`.
//!
//! These calls are not made cooperative. They only record that the thread may have such a child, which must
//! neither run the hub nor change the tables of descriptors (see `sys/lineage.rs`), and then jump to libc's
//! function. That returns twice to the caller's frame, so no frame may lie in between: each definition
//! consists of a few instructions that preserve the arguments, and a jump.
//!
//! Children made by a system call without libc, with this memory and this thread's thread-locals, are not
//! noticed.

use super::originals::next_definition;
use crate::sys::lineage;
use libc::{c_int, c_void};
use std::arch::naked_asm;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

/// Defines a libc function that calls `$note`, and then jumps to the address that it returns: libc's own.
macro_rules! passing {
    ($($symbol:ident noted by $note:ident;)*) => {$(
        /// libc's function of this name, for the whole program.
        ///
        /// # Safety
        ///
        /// Contract of libc's function of this name.
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        unsafe extern "C" fn $symbol() {
            #[cfg(target_arch = "x86_64")]
            naked_asm!(
                // Save the registers of the arguments. With them, the return address and the padding make
                // eight words: the stack is aligned to 16 bytes at the call.
                "push rdi",
                "push rsi",
                "push rdx",
                "push rcx",
                "push r8",
                "push r9",
                "sub rsp, 8",
                "call {note}",
                // Restore them.
                "add rsp, 8",
                "pop r9",
                "pop r8",
                "pop rcx",
                "pop rdx",
                "pop rsi",
                "pop rdi",
                // Continue in libc's function, which returns to the caller.
                "jmp rax",
                note = sym $note,
            );
            #[cfg(target_arch = "aarch64")]
            naked_asm!(
                // Save the frame pointer, the return address, and the registers of the arguments.
                "stp x29, x30, [sp, #-80]!",
                "stp x0, x1, [sp, #16]",
                "stp x2, x3, [sp, #32]",
                "stp x4, x5, [sp, #48]",
                "stp x6, x7, [sp, #64]",
                "bl {note}",
                // Keep libc's address in a scratch register, and restore them.
                "mov x16, x0",
                "ldp x0, x1, [sp, #16]",
                "ldp x2, x3, [sp, #32]",
                "ldp x4, x5, [sp, #48]",
                "ldp x6, x7, [sp, #64]",
                "ldp x29, x30, [sp], #80",
                // Continue in libc's function, which returns to the caller.
                "br x16",
                note = sym $note,
            );
        }
    )*};
}

passing! {
    vfork noted by note_vfork;
    clone noted by note_clone;
}

/// libc's functions, or null before they were looked up.
static VFORK: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
static CLONE: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// Records a `vfork`, and returns the address of libc's.
extern "C" fn note_vfork() -> *mut c_void {
    lineage::note_vfork();
    definition(&VFORK, "vfork\0")
}

/// Records a `clone` that shares the memory with a new process, and returns the address of libc's.
///
/// Takes the first arguments of `clone`.
extern "C" fn note_clone(_body: usize, _stack: usize, flags: c_int) -> *mut c_void {
    if flags & libc::CLONE_VM != 0 && flags & libc::CLONE_THREAD == 0 {
        lineage::note_vfork();
    }
    definition(&CLONE, "clone\0")
}

/// Returns libc's function, and stores its address in `known`.
fn definition(known: &AtomicPtr<c_void>, symbol: &'static str) -> *mut c_void {
    let mut address = known.load(Relaxed);
    if address.is_null() {
        address = next_definition(symbol).expect("libc has always had it");
        known.store(address, Relaxed);
    }
    address
}

extern "C" fn resolve() {
    definition(&VFORK, "vfork\0");
    definition(&CLONE, "clone\0");
}

// Runs before `main`: see `exports.rs`.
#[used]
#[unsafe(link_section = ".init_array")]
static RESOLVE: extern "C" fn() = resolve;
