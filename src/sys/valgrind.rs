//! Registers stacks with Valgrind.
//!
//! Otherwise it takes a switch from one stack to another for a huge frame, and the memory in between for
//! lost.
//!
//! A request is a sequence of instructions without effect, which Valgrind recognises. It takes a
//! nanosecond, and is made when a stack is created, which takes a system call anyway.

use std::num::NonZeroUsize;
use std::ptr::NonNull;

/// Registration of a range as a stack, until it is dropped. It exists only under Valgrind.
#[derive(Debug)]
pub(crate) struct KnownStack(NonZeroUsize);

const REGISTER: usize = 0x1501;
const DEREGISTER: usize = 0x1502;

impl KnownStack {
    /// Registers the `len` bytes from `bottom` as a stack. `None` outside of Valgrind.
    pub(crate) fn register(bottom: NonNull<u8>, len: usize) -> Option<Self> {
        let bottom = bottom.as_ptr().addr();
        NonZeroUsize::new(request([REGISTER, bottom, bottom + len - 1, 0, 0, 0])).map(KnownStack)
    }
}

impl Drop for KnownStack {
    fn drop(&mut self) {
        request([DEREGISTER, self.0.get(), 0, 0, 0, 0]);
    }
}

/// Makes a request, of which the first word is the number. Returns 0 outside of Valgrind.
#[cfg(target_arch = "x86_64")]
fn request(words: [usize; 6]) -> usize {
    let answer;
    // SAFETY: `rdi` is rotated by 128 bits in all and `rbx` exchanged with itself, so only the flags
    // change. Valgrind reads the words and sets `rdx`.
    unsafe {
        std::arch::asm!(
            // A preamble without effect marks a request: rotations by 3 + 13 + 61 + 51 = 128 bits.
            "rol rdi, 3",
            "rol rdi, 13",
            "rol rdi, 61",
            "rol rdi, 51",
            // The kind of request: rax points to the words, and the result comes in rdx.
            "xchg rbx, rbx",
            in("rax") words.as_ptr(),
            inout("rdx") 0_usize => answer,
            options(nostack),
        );
    }
    answer
}

#[cfg(not(target_arch = "x86_64"))]
fn request(_words: [usize; 6]) -> usize {
    0
}
