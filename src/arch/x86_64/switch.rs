//! Context switch for x86-64 (System V ABI).
//!
//! # A suspended stack
//!
//! ```text
//!   higher addresses
//!   ┌──────────────────────────┐
//!   │ frames of the body       │
//!   │ frame that called switch │   every other register is declared clobbered, so the compiler
//!   ├──────────────────────────┤   has spilled into this frame whichever of them it still needs
//!   │ saved rbp                │
//!   │ saved rbx                │ ◄─ Context::sp
//!   └──────────────────────────┘    Context::ip = label 2 in `switch`
//! ```
//!
//! # A fresh stack
//!
//! ```text
//!   │ body closure, colour     │   (above the memory that this layer is given)
//!   ├──────────────────────────┤ ◄─ `top`, a multiple of 16
//!   │ (unused)                 │
//!   │ Entry                    │ ◄─ Context::sp      Context::ip = `trampoline`
//!   └──────────────────────────┘
//! ```
//!
//! # Registers in mid-switch
//!
//! Between the load of `rsp` and label 2 (or `trampoline`), `rdi` holds the word and `rsi` the signal; all
//! other registers are dead. So the switching side does not distinguish a first switch into a context from
//! a later one.
//!
//! # Why the sequence is inlined and jumps
//!
//! A `call` here would be paired with a `ret` on another stack, which the processor's return-address
//! predictor gets wrong, at some 30 cycles each. `rbx` and `rbp` are pushed by the sequence because the
//! compiler reserves them and does not accept them as clobbers.
//!
//! # Unwinding
//!
//! A signal handler may take a backtrace between any two instructions: the watchdog's handler does, and so
//! do profilers. Inside the switch, the compiler's unwind tables are wrong: they do not know of the two
//! pushes, and after the load of `rsp` they describe one function's frame while `rsp` points into another
//! stack, perhaps beyond its top. So for these instructions the tables are made to say that the caller and
//! its registers are unknown. A backtrace stops here and reads no memory. This adds no instruction.
//!
//! The directive is `.cfi_escape` and not `.cfi_def_cfa`, because the assembler would apply the latter to
//! the compiler's later directives, and would not see that the state has been restored. The CFA has to be
//! set at all because in some functions it is an expression that reads memory through `rbp`.
//!
//! A function without unwind tables cannot contain such directives. Such functions exist only under
//! `-C panic=abort -C force-unwind-tables=no`, which requires `--cfg switchgrass_no_unwind_tables`.

use crate::arch::{CACHE_LINE, Entry, STACK_ALIGNMENT, Word, prefetch};
use std::arch::{asm, naked_asm};
use std::cell::Cell;
use std::ptr;

/// Marks the caller as unknown in the unwind tables from here on. See "Unwinding".
#[cfg(not(switchgrass_no_unwind_tables))]
macro_rules! forget_caller {
    () => {
        concat!(
            ".cfi_remember_state\n",
            ".cfi_escape 0x0c, 7, 16\n", // DW_CFA_def_cfa: rsp + 16, whatever the compiler's rule was
            ".cfi_undefined rip\n",
            ".cfi_undefined rbx\n",
            ".cfi_undefined rbp\n",
            ".cfi_undefined r12\n",
            ".cfi_undefined r13\n",
            ".cfi_undefined r14\n",
            ".cfi_undefined r15",
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
    ip: Cell<usize>,
}

impl Context {
    /// Creates the context of a running computation. Its first switch away fills it in.
    pub(crate) const fn new() -> Self {
        Context { sp: Cell::new(0), ip: Cell::new(0) }
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
        self.ip.set(trampoline as *const () as usize);
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
    // SAFETY: `to` was filled in by this sequence or by `prepare`, so its stack pointer and instruction
    // pointer belong together: the code at `ip` finds on that stack what it pops. Every register is
    // declared clobbered or saved by the sequence, and so is memory; the ABI keeps the direction flag clear
    // on both sides. Floating-point control modes are left to the caller.
    unsafe {
        asm!(
            // A backtrace taken from here to the end of the sequence stops here.
            forget_caller!(),
            // Save the registers that cannot be declared clobbered.
            "push rbp",
            "push rbx",
            // from.ip = label 2; from.sp = rsp.
            "lea  rax, [rip + 2f]",
            "mov  [rdx], rsp",
            "mov  [rdx + 8], rax",
            // rsp = to.sp; jump to to.ip. rdi and rsi pass through unchanged.
            "mov  rsp, [rcx]",
            "jmp  [rcx + 8]",
            // The next switch to `from` arrives here, on the stack of `from`.
            ".p2align 4",
            "2:",
            "pop  rbx",
            "pop  rbp",
            recall_caller!(),
            inout("rdi") word => got_word,
            inout("rsi") signal => got_signal,
            inout("rdx") from => _,
            inout("rcx") to => _,
            out("r12") _, out("r13") _, out("r14") _, out("r15") _,
            clobber_abi("sysv64"),
        );
    }
    (got_word, got_signal)
}

/// The first code that runs on a fresh stack: jumps to the [`Entry`], with `rdi` and `rsi` unchanged.
///
/// It jumps, and pushes a return address manually, so that the processor's return-address predictor does
/// not record a call that never returns. A backtrace ends here: the return address of this frame is
/// declared undefined, and the chain of frame pointers ends in a null.
#[unsafe(naked)]
unsafe extern "C" fn trampoline() -> ! {
    naked_asm!(
        // For an unwinder, this frame is the outermost.
        ".cfi_startproc",
        ".cfi_undefined rip",
        // The chain of frame pointers ends here.
        "xor ebp, ebp",
        // Pop the Entry: rsp is now 8 below a multiple of 16. Realign it.
        "pop rax",
        ".cfi_def_cfa_offset 0",
        "sub rsp, 8",
        ".cfi_def_cfa_offset 8",
        // Push a return address in this function. No code returns to it.
        "lea rcx, [rip + 3f]",
        "push rcx",
        "jmp rax",
        "ud2", // an unwinder looks one byte before the return address, and must find this function
        "3:",
        "ud2",
        ".cfi_endproc",
    )
}
