//! The switch for x86-64 (System V ABI).
//!
//! # A suspended stack
//!
//! ```text
//!   higher addresses
//!   ┌──────────────────────────┐
//!   │ frames of the body       │
//!   │ frame that called switch │   every other register is declared clobbered, so that the
//!   ├──────────────────────────┤   compiler has spilled into this frame what it still needs
//!   │ saved rbp                │
//!   │ saved rbx                │ ◄─ Context::sp
//!   └──────────────────────────┘    Context::ip = label 2 in `switch`
//! ```
//!
//! # A fresh stack
//!
//! ```text
//!   │ body closure, colour     │   (above what this layer is given)
//!   ├──────────────────────────┤ ◄─ `top`, a multiple of 16
//!   │ (unused)                 │
//!   │ Entry                    │ ◄─ Context::sp      Context::ip = `trampoline`
//!   └──────────────────────────┘
//! ```
//!
//! # Registers while no stack is ours
//!
//! Between the load of `rsp` and label 2 (or `trampoline`): `rdi` the word, `rsi` the signal; all
//! others dead. So a first switch and a later one look alike to the one who switches.
//!
//! # Why it looks like this
//!
//! The sequence is inlined and jumps: a `call` here would be paired with a `ret` of another stack,
//! which the processor's return-address predictor gets wrong at some 30 cycles each. `rbx` and `rbp`
//! are pushed by hand because the compiler reserves them and does not take them as clobbered.
//!
//! # Unwinding
//!
//! A signal handler may take a backtrace between any two instructions: that of the watchdog does, and so do
//! profilers. In the switch, the compiler's unwind tables are wrong: they know nothing of the two pushes, and
//! after the load of `rsp` they describe one function's frame while `rsp` points into the stack of another,
//! perhaps beyond its top. Therefore the tables say for these instructions that the caller and its registers
//! are unknown. A backtrace ends here, and reads no memory. No instruction is added.
//!
//! `.cfi_escape` instead of `.cfi_def_cfa`, since the assembler would take the latter into account in what
//! the compiler says later, and not see that it has been restored. The CFA has to be said at all because in
//! some functions it is an expression that reads memory by way of `rbp`.
//!
//! A function without unwind tables cannot contain such directives. There are such functions only under
//! `-C panic=abort -C force-unwind-tables=no`, to which belongs `--cfg switchgrass_no_unwind_tables`.

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
            ".cfi_escape 0x0c, 7, 16\n", // DW_CFA_def_cfa: rsp + 16, whatever it was
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
    ip: Cell<usize>,
}

impl Context {
    /// The context of a computation that is running: filled in when it first switches away.
    pub(crate) const fn new() -> Self {
        Context { sp: Cell::new(0), ip: Cell::new(0) }
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
        self.ip.set(trampoline as *const () as usize);
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
    // declared clobbered or saved by hand, and memory as well; the direction flag is clear at both
    // ends by the ABI. The floating-point control modes are the caller's business.
    unsafe {
        asm!(
            forget_caller!(),
            "push rbp",
            "push rbx",
            "lea  rax, [rip + 2f]",
            "mov  [rdx], rsp",
            "mov  [rdx + 8], rax",
            "mov  rsp, [rcx]",
            "jmp  [rcx + 8]",
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

/// The first code on a fresh stack: goes to the [`Entry`] with `rdi` and `rsi` as they came.
///
/// It jumps, with a return address pushed by hand, so that the processor's return-address predictor
/// does not wait for a return that never comes. A backtrace ends here: the return address of this frame
/// is declared undefined, and the chain of frame pointers ends in a null.
#[unsafe(naked)]
unsafe extern "C" fn trampoline() -> ! {
    naked_asm!(
        ".cfi_startproc",
        ".cfi_undefined rip",
        "xor ebp, ebp",
        "pop rax", // the Entry; rsp is now 8 below a multiple of 16
        ".cfi_def_cfa_offset 0",
        "sub rsp, 8",
        ".cfi_def_cfa_offset 8",
        "lea rcx, [rip + 3f]",
        "push rcx",
        "jmp rax",
        "ud2", // an unwinder looks one byte before the return address, and must find this function
        "3:",
        "ud2",
        ".cfi_endproc",
    )
}
