//! Children that have their parent's memory: `vfork`, and `clone` with `CLONE_VM`.
//!
//! Nothing is made cooperative here: it is noted that the thread may have such a child, which must neither
//! run the hub nor change what is known of descriptors (see `sys/lineage.rs`), and libc's function goes on in
//! place of this one. It returns twice to the caller's frame, so no frame may lie between: these are a
//! few instructions that keep all arguments, and a jump.
//!
//! Children that are made by a system call without libc, with this memory and this thread's variables, are
//! not noticed.

use super::originals::next_definition;
use crate::sys::lineage;
use libc::{c_int, c_void};
use std::arch::naked_asm;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

/// Defines a function of libc that notes what it is about to do and then becomes libc's own.
macro_rules! passing {
    ($($symbol:ident noted by $note:ident;)*) => {$(
        /// # Safety
        ///
        /// As libc's function of this name.
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        unsafe extern "C" fn $symbol() {
            #[cfg(target_arch = "x86_64")]
            naked_asm!(
                // The return address lies on the stack: with seven words more it is aligned.
                "push rdi",
                "push rsi",
                "push rdx",
                "push rcx",
                "push r8",
                "push r9",
                "sub rsp, 8",
                "call {note}",
                "add rsp, 8",
                "pop r9",
                "pop r8",
                "pop rcx",
                "pop rdx",
                "pop rsi",
                "pop rdi",
                "jmp rax",
                note = sym $note,
            );
            #[cfg(target_arch = "aarch64")]
            naked_asm!(
                "stp x29, x30, [sp, #-80]!",
                "stp x0, x1, [sp, #16]",
                "stp x2, x3, [sp, #32]",
                "stp x4, x5, [sp, #48]",
                "stp x6, x7, [sp, #64]",
                "bl {note}",
                "mov x16, x0",
                "ldp x0, x1, [sp, #16]",
                "ldp x2, x3, [sp, #32]",
                "ldp x4, x5, [sp, #48]",
                "ldp x6, x7, [sp, #64]",
                "ldp x29, x30, [sp], #80",
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

static VFORK: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
static CLONE: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// Called with the arguments of `vfork`, which are none. Returns where libc's is.
extern "C" fn note_vfork() -> *mut c_void {
    lineage::note_vfork();
    definition(&VFORK, "vfork\0")
}

/// Called with the arguments of `clone`.
extern "C" fn note_clone(_body: usize, _stack: usize, flags: c_int) -> *mut c_void {
    if flags & libc::CLONE_VM != 0 && flags & libc::CLONE_THREAD == 0 {
        lineage::note_vfork();
    }
    definition(&CLONE, "clone\0")
}

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

// Before `main`: see `exports.rs`.
#[used]
#[unsafe(link_section = ".init_array")]
static RESOLVE: extern "C" fn() = resolve;
