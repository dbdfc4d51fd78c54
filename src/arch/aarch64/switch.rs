//! The switch for AArch64 (AAPCS64).
//!
//! # A suspended stack
//!
//! ```text
//!   higher addresses
//!   ┌──────────────────────────┐
//!   │ frames of the body       │
//!   │ frame that called switch │   x20-x28, x30 and d8-d15 are declared clobbered, so that the
//!   ├──────────────────────────┤   compiler has spilled into this frame what it still needs
//!   │ saved x29                │
//!   │ saved x19                │ ◄─ Context::sp
//!   └──────────────────────────┘    Context::pc = label 2 in `switch`
//! ```
//!
//! # A fresh stack
//!
//! ```text
//!   │ body closure, colour     │   (above what this layer is given)
//!   ├──────────────────────────┤ ◄─ `top`, a multiple of 16
//!   │ (unused)                 │
//!   │ Entry                    │ ◄─ Context::sp      Context::pc = `trampoline`
//!   └──────────────────────────┘
//! ```
//!
//! # Registers while no stack is ours
//!
//! Between the write of `sp` and label 2 (or `trampoline`): `x0` the word, `x1` the signal; all others
//! dead. Why it is inlined and jumps, and what the unwind tables say: see `x86_64/switch.rs`. `x19` and
//! `x29` are saved by hand because the compiler reserves them; `x18` is the platform's and not touched.

use crate::arch::{CACHE_LINE, Entry, STACK_ALIGNMENT, Word, prefetch};
use std::arch::{asm, naked_asm};
use std::cell::Cell;
use std::ptr;

/// From here on the unwind tables say that nothing is known of the caller: see "Unwinding".
#[cfg(not(switchgrass_no_unwind_tables))]
macro_rules! forget_caller {
    () => {
        concat!(
            ".cfi_remember_state\n",
            ".cfi_escape 0x0c, 31, 16\n", // DW_CFA_def_cfa: sp + 16, whatever it was
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

/// From here on what the compiler says in the unwind tables is true again.
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

/// Where a suspended computation goes on.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Context {
    sp: Cell<usize>,
    pc: Cell<usize>,
}

impl Context {
    /// The context of a computation that is running: filled in when it first switches away.
    pub(crate) const fn new() -> Self {
        Context { sp: Cell::new(0), pc: Cell::new(0) }
    }

    /// Makes this the context of a computation that will call `entry` on the stack below `top`.
    ///
    /// # Safety
    ///
    /// From `bottom` up to `top` there is writable memory, at least 4 KiB of it, that nobody else
    /// uses for as long as this context lives; `top` is a multiple of [`STACK_ALIGNMENT`].
    pub(crate) unsafe fn prepare(&self, top: *mut u8, _bottom: *mut u8, entry: Entry) {
        debug_assert_eq!(top.addr() % STACK_ALIGNMENT, 0);
        // SAFETY: the 16 bytes below `top` are ours to write, as the caller says.
        unsafe {
            let slot = top.sub(16).cast::<Entry>();
            slot.write(entry);
            self.sp.set(slot.expose_provenance());
        }
        self.pc.set(trampoline as *const () as usize);
    }

    /// Asks for what a switch to this context reads first from its stack.
    #[inline(always)]
    pub(crate) fn prefetch_stack(&self) {
        let sp = self.sp.get();
        prefetch(ptr::without_provenance(sp));
        prefetch(ptr::without_provenance(sp + CACHE_LINE));
    }

    /// Forgets a computation that will never be resumed. Here there is nothing to forget.
    ///
    /// # Safety
    ///
    /// It has ended by a last [`switch`] away, or was never switched to.
    pub(crate) unsafe fn retire(&self) {}
}

/// Whether a signal handler on this thread may take a backtrace of what it has interrupted. Always, since the
/// unwind tables are true in the switch as well.
pub(crate) fn backtrace_is_safe() -> bool {
    true
}

/// Suspends the running computation in `from` and goes on with `to`, handing over `word` and
/// `signal`. Returns what is handed over by whoever next switches to `from`.
///
/// # Safety
///
/// `from` is the context of the running computation, `to` of one that is suspended or fresh and
/// belongs to this thread (or is `from` itself: then this returns at once). Both outlive the switch.
#[inline(always)]
pub(crate) unsafe fn switch(
    from: &Context,
    to: &Context,
    word: Word,
    signal: usize,
) -> (Word, usize) {
    let (got_word, got_signal);
    // SAFETY: the stack pointer and address in `to` were stored by this same code or by `prepare`,
    // so they are a stack of ours and a label that finds on it what it expects. Every register is
    // declared clobbered or saved by hand, d8-d15 among them, and memory as well. The floating-point
    // control modes are the caller's business.
    unsafe {
        asm!(
            forget_caller!(),
            "stp x19, x29, [sp, #-16]!",
            "adr x16, 2f",
            "mov x9, sp",
            "stp x9, x16, [x2]",
            "ldp x9, x16, [x3]",
            "mov sp, x9",
            "br  x16",
            "2:",
            "hint #36", // bti j
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

/// The first code on a fresh stack: goes to the [`Entry`] with `x0` and `x1` as they came.
///
/// It jumps, with a return address made by hand, so that the processor's return-address predictor does
/// not wait for a return that never comes. A backtrace ends here: the return address of this frame is
/// declared undefined, and the chain of frame pointers ends in a null.
#[unsafe(naked)]
unsafe extern "C" fn trampoline() -> ! {
    naked_asm!(
        ".cfi_startproc",
        ".cfi_undefined x30",
        "hint #36", // bti j
        "mov x29, xzr",
        "ldr x16, [sp], #16",
        "adr x30, 3f",
        "br  x16",
        "brk #1", // an unwinder looks one instruction before the return address
        "3:",
        "brk #1",
        ".cfi_endproc",
    )
}
