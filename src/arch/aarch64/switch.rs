//! Context switch for AArch64 (AAPCS64).
//!
//! # A suspended stack
//!
//! ```text
//!   higher addresses
//!   ┌──────────────────────────┐
//!   │ frames of the body       │
//!   │ frame that called switch │   x20-x28, x30 and d8-d15 are declared clobbered, so the compiler
//!   ├──────────────────────────┤   has spilled into this frame whichever of them it still needs
//!   │ saved x29                │
//!   │ saved x19                │ ◄─ Context::sp
//!   └──────────────────────────┘    Context::pc = label 2 in `switch`
//! ```
//!
//! # A fresh stack
//!
//! ```text
//!   │ body closure, colour     │   (above the memory that this layer is given)
//!   ├──────────────────────────┤ ◄─ `top`, a multiple of 16
//!   │ (unused)                 │
//!   │ Entry                    │ ◄─ Context::sp      Context::pc = `trampoline`
//!   └──────────────────────────┘
//! ```
//!
//! # Registers in mid-switch
//!
//! Between the write of `sp` and label 2 (or `trampoline`), `x0` holds the word and `x1` the signal; all
//! other registers are dead.
//!
//! `x86_64/switch.rs` explains why the sequence is inlined and jumps, and what the unwind tables say. `x19`
//! and `x29` are saved by the sequence because the compiler reserves them and does not accept them as
//! clobbers. `x18` belongs to the platform and is not touched.

use crate::arch::{CACHE_LINE, Entry, STACK_ALIGNMENT, Word, prefetch};
use std::arch::{asm, naked_asm};
use std::cell::Cell;
use std::ptr;

/// Marks the caller as unknown in the unwind tables from here on. See "Unwinding" in `x86_64/switch.rs`.
#[cfg(not(switchgrass_no_unwind_tables))]
macro_rules! forget_caller {
    () => {
        concat!(
            ".cfi_remember_state\n",
            ".cfi_escape 0x0c, 31, 16\n", // DW_CFA_def_cfa: sp + 16, whatever the compiler's rule was
            ".cfi_undefined x19\n",
            ".cfi_undefined x20\n",
            ".cfi_undefined x21\n",
            ".cfi_undefined x22\n",
            ".cfi_undefined x23\n",
            ".cfi_undefined x24\n",
            ".cfi_undefined x25\n",
            ".cfi_undefined x26\n",
            ".cfi_undefined x27\n",
            ".cfi_undefined x28\n",
            ".cfi_undefined x29\n",
            ".cfi_undefined x30\n",
            ".cfi_undefined b8\n",
            ".cfi_undefined b9\n",
            ".cfi_undefined b10\n",
            ".cfi_undefined b11\n",
            ".cfi_undefined b12\n",
            ".cfi_undefined b13\n",
            ".cfi_undefined b14\n",
            ".cfi_undefined b15",
        )
    };
}

/// Restores the compiler's unwind tables from here on.
#[cfg(not(switchgrass_no_unwind_tables))]
macro_rules! recall_caller {
    () => {
        ".cfi_restore_state"
    };
}

#[cfg(switchgrass_no_unwind_tables)]
macro_rules! forget_caller {
    () => {
        ""
    };
}

#[cfg(switchgrass_no_unwind_tables)]
use forget_caller as recall_caller;

/// The place where a suspended computation resumes.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Context {
    sp: Cell<usize>,
    pc: Cell<usize>,
}

impl Context {
    /// Creates the context of a running computation. Its first switch away fills it in.
    pub(crate) const fn new() -> Self {
        Context { sp: Cell::new(0), pc: Cell::new(0) }
    }

    /// Makes this the context of a computation that will call `entry` on the stack below `top`.
    ///
    /// # Safety
    ///
    /// `bottom..top` is writable memory of at least 4 KiB that nothing else uses while this context lives,
    /// and `top` is a multiple of [`STACK_ALIGNMENT`].
    pub(crate) unsafe fn prepare(&self, top: *mut u8, _bottom: *mut u8, entry: Entry) {
        debug_assert_eq!(top.addr() % STACK_ALIGNMENT, 0);
        // SAFETY: this function's contract: the 16 bytes below `top` are writable, unused and aligned.
        unsafe {
            let slot = top.sub(16).cast::<Entry>();
            slot.write(entry);
            self.sp.set(slot.expose_provenance());
        }
        self.pc.set(trampoline as *const () as usize);
    }

    /// Prefetches the part of the stack that a switch to this context reads first.
    #[inline(always)]
    pub(crate) fn prefetch_stack(&self) {
        let sp = self.sp.get();
        prefetch(ptr::without_provenance(sp));
        prefetch(ptr::without_provenance(sp + CACHE_LINE));
    }

    /// Releases a computation that will never be resumed. A no-op in this backend.
    ///
    /// # Safety
    ///
    /// The computation has ended by a last [`switch`] away from it, or was never switched to.
    pub(crate) unsafe fn retire(&self) {}
}

/// Whether a signal handler on this thread may take a backtrace of the code it interrupted.
///
/// Always true in this backend: the unwind tables are correct inside the switch, too.
pub(crate) fn backtrace_is_safe() -> bool {
    true
}

/// Suspends the running computation in `from` and resumes `to`, passing `word` and `signal`.
///
/// Returns the word and signal passed by the next switch to `from`.
///
/// # Safety
///
/// `from` is the context of the running computation. `to` is suspended or fresh and belongs to this thread,
/// or is `from` itself: then this returns at once. Both outlive the switch.
#[inline(always)]
pub(crate) unsafe fn switch(
    from: &Context,
    to: &Context,
    word: Word,
    signal: usize,
) -> (Word, usize) {
    let (got_word, got_signal);
    // SAFETY: `to` was filled in by this sequence or by `prepare`, so its stack pointer and program counter
    // belong together: the code at `pc` finds on that stack what it pops. Every register is declared
    // clobbered (d8-d15 among them) or saved by the sequence, and so is memory. Floating-point control
    // modes are left to the caller.
    unsafe {
        asm!(
            // A backtrace taken from here to the end of the sequence stops here.
            forget_caller!(),
            // Save the registers that cannot be declared clobbered.
            "stp x19, x29, [sp, #-16]!",
            // from.sp = sp; from.pc = label 2.
            "adr x16, 2f",
            "mov x9, sp",
            "stp x9, x16, [x2]",
            // sp = to.sp; jump to to.pc. x0 and x1 pass through unchanged.
            "ldp x9, x16, [x3]",
            "mov sp, x9",
            "br  x16",
            // The next switch to `from` arrives here, on the stack of `from`.
            "2:",
            "hint #36", // bti j: a permitted target of an indirect jump
            "ldp x19, x29, [sp], #16",
            recall_caller!(),
            inout("x0") word => got_word,
            inout("x1") signal => got_signal,
            inout("x2") from => _,
            inout("x3") to => _,
            out("x20") _, out("x21") _, out("x22") _, out("x23") _, out("x24") _,
            out("x25") _, out("x26") _, out("x27") _, out("x28") _,
            out("v8") _, out("v9") _, out("v10") _, out("v11") _,
            out("v12") _, out("v13") _, out("v14") _, out("v15") _,
            clobber_abi("C"),
        );
    }
    (got_word, got_signal)
}

/// The first code that runs on a fresh stack: jumps to the [`Entry`], with `x0` and `x1` unchanged.
///
/// It jumps, and sets the return address manually, so that the processor's return-address predictor does
/// not record a call that never returns. A backtrace ends here: the return address of this frame is
/// declared undefined, and the chain of frame pointers ends in a null.
#[unsafe(naked)]
unsafe extern "C" fn trampoline() -> ! {
    naked_asm!(
        // For an unwinder, this frame is the outermost.
        ".cfi_startproc",
        ".cfi_undefined x30",
        "hint #36", // bti j: a permitted target of an indirect jump
        // The chain of frame pointers ends here.
        "mov x29, xzr",
        // Pop the Entry: sp is now `top`.
        "ldr x16, [sp], #16",
        // The return address is in this function. No code returns to it.
        "adr x30, 3f",
        "br  x16",
        "brk #1", // an unwinder looks one instruction before the return address
        "3:",
        "brk #1",
        ".cfi_endproc",
    )
}
